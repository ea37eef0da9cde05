//! Dtabs of the cluster that can be read, and of which something can never be bound: in force, and said.

use std::time::{Duration, Instant};

use e2e::kube::ApiServer;
use e2e::time::holds_for;
use e2e::{Backend, Client, Load, Weir, eventually};
use serde_json::{Value, json};

use super::stage::following;

fn dtab(name: &str, entries: &[(String, String)]) -> Value {
    let entries: Vec<_> =
        entries.iter().map(|(prefix, dst)| json!({ "prefix": prefix, "dst": dst })).collect();
    json!({ "kind": "Dtab", "metadata": { "name": name, "namespace": "l5d" }, "dentries": entries })
}

fn config_map(name: &str, entries: &[(String, String)]) -> Value {
    let text: String = entries.iter().map(|(prefix, dst)| format!("{prefix} => {dst} ;\n")).collect();
    json!({ "kind": "ConfigMap", "metadata": { "name": name, "namespace": "l5d" }, "data": { "web.dtab": text } })
}

fn server() -> ApiServer {
    let server = ApiServer::start();
    server.define_custom();
    server
}

/// `/svc/web`, which the backend answers, and then these.
fn with(backend: &Backend, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let web = ("/svc/web".to_owned(), format!("/$/inet/127.1/{}", backend.addr().port()));
    let more = more.iter().map(|(prefix, dst)| ((*prefix).to_owned(), (*dst).to_owned()));
    [web].into_iter().chain(more).collect()
}

/// A weir with a router `rN` for each object `rN`: a ConfigMap or a Dtab.
fn weir(server: &ApiServer, objects: &[bool]) -> Weir {
    let router = |(at, is_map): (usize, &bool)| {
        let interpreter = match is_map {
            true => {
                format!("{{ kind: io.l5d.k8s.configMap, namespace: l5d, name: r{at}, filename: web.dtab }}")
            }
            false => format!("{{ kind: io.l5d.k8s.dtabs, namespace: l5d, name: r{at} }}"),
        };
        format!("{{ label: r{at}, listen: 127.0.0.1:0, interpreter: {interpreter} }}")
    };
    let routers: Vec<_> = objects.iter().enumerate().map(router).collect();
    following(server).set("outgoing", &format!("[{}]", routers.join(", "))).start()
}

fn ready(weir: &Weir) -> String {
    weir.admin_get("/ready").text()
}

/// The messages of the Events about the object.
fn events(server: &ApiServer, name: &str) -> Vec<String> {
    let all = server.objects("events").into_iter();
    let of =
        all.filter(|event| event["involvedObject"]["name"] == name && event["reason"] == "CannotBeBound");
    of.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

fn of(at: usize, is_map: bool) -> String {
    match is_map {
        true => format!("ConfigMap l5d/r{at} (web.dtab)"),
        false => format!("Dtab l5d/r{at}"),
    }
}

/// The entries after the first; whether in a ConfigMap; how many warnings; the first, whose place is `{1}`.
type Row = (&'static [(&'static str, &'static str)], bool, usize, &'static str);

const ROWS: [Row; 10] = [
    (
        &[("/svc/a", "/#/nosuch/a")],
        false,
        1,
        "{1}: no namer has the prefix of /#/nosuch/a (there is /#/io.l5d.fs, /#/io.l5d.k8s)",
    ),
    (
        &[("/svc/a", "/io.l5d.fs/a")],
        false,
        1,
        "{1}: no entry is for /io.l5d.fs/a, and no namer (did you mean /#/io.l5d.fs/a?)",
    ),
    (
        &[("/svc/a", "/io.l5d.fs/a"), ("/svc/b", "/host/b")],
        true,
        2,
        "{1}: no entry is for /io.l5d.fs/a, and no namer (did you mean /#/io.l5d.fs/a?)",
    ),
    (
        &[("/svc/a", "/host/a")],
        true,
        1,
        "{1}: no entry is for /host/a, and no namer (write an entry for it, or",
    ),
    (
        &[("/svc/a", "/$/nosuch/a")],
        false,
        1,
        "{1}: there is no built-in namer `nosuch` (docs/configuration.md",
    ),
    (&[("/svc/a", "/%/x/a")], false, 1, "{1}: nothing is looked up below /%: /%/x/a (write the name behind"),
    (
        &[("/svc/a", "/b"), ("/b", "/svc/a")],
        false,
        1,
        "{1}: the dtab goes in a circle: /svc/a -> /b -> /svc/a (given up after",
    ),
    (&[("/svc/a", "/svc/a/a")], true, 1, "{1}: the dtab leads to ever new names: /svc/a -> /svc/a/a -> "),
    (&[("/svc/a", "/#/nosuch/a | /svc/web")], false, 1, "{1}: no namer has the prefix of /#/nosuch/a"),
    // It is about the router: none of its requests can be bound.
    (
        &[],
        false,
        1,
        "r9.dstPrefix: requests' names begin with /svc, and no entry of the dtab does (/http): none can",
    ),
];

#[test]
fn what_a_dtab_of_the_cluster_can_never_bind_is_in_force_and_said_everywhere_until_it_is_right() {
    let (server, backend) = (server(), Backend::http().answers("web").start());
    let entries = |at: usize, more: &[(&str, &str)]| match at {
        9 => vec![("/http".to_owned(), "/#/io.l5d.k8s".to_owned())],
        _ => with(&backend, more),
    };
    let put = |at: usize, is_map: bool, entries: &[(String, String)]| {
        let object = if is_map { config_map } else { dtab };
        server.put(object(&format!("r{at}"), entries));
    };
    for (at, (more, is_map, ..)) in ROWS.iter().enumerate() {
        put(at, *is_map, &entries(at, more));
    }
    let weir = weir(&server, &ROWS.map(|row| row.1));
    for (at, (_, is_map, count, first)) in ROWS.iter().enumerate() {
        let place = if *is_map { "data.web.dtab, line 2" } else { "dentries[1]" };
        let (of, first) = (of(at, *is_map), first.replace("{1}", place));
        let noted = match count {
            1 => format!("{of}: a warning: {first}"),
            count => format!("{of}: {count} warnings, the first: {first}"),
        };
        eventually(&noted, || ready(&weir).contains(&noted));
        eventually("an Event", || events(&server, &format!("r{at}")).iter().any(|it| it.starts_with(&first)));
        assert_eq!(weir.metric("weir_dtab_warnings", &[("dtab", &of)]), *count as f64, "{of}");
        assert_eq!(weir.metric("weir_dtab_in_force", &[("dtab", &of)]), 1.0, "{of}");
        let start = &first[..first.find('`').unwrap_or(first.len())];
        let is_said = |line: &str| line.contains("not all of it can be bound") && line.contains(start);
        eventually("a line of the log", || weir.log().lines().any(is_said));
        if !is_map {
            eventually("the status", || {
                let status = server.object("dtabs", "l5d", &format!("r{at}")).unwrap()["status"].clone();
                status["state"] == "InForce"
                    && status["warnings"] == *count
                    && status["message"].as_str().is_some_and(|it| it.starts_with(&first))
            });
        }
    }
    weir.admin_get("/ready").expect_status(200);
    weir.get("http://web/").expect_body("web");
    for at in 1..9 {
        Client::to(weir.router(&format!("r{at}"))).get("http://web/").expect_body("web");
    }
    // Right again.
    for (at, (_, is_map, ..)) in ROWS.iter().enumerate() {
        put(at, *is_map, &with(&backend, &[]));
    }
    eventually("no more word of it", || !ready(&weir).contains("warning"));
    for (at, (_, is_map, ..)) in ROWS.iter().enumerate() {
        assert_eq!(weir.metric("weir_dtab_warnings", &[("dtab", &of(at, *is_map))]), 0.0);
        eventually("the status", || {
            *is_map || {
                let status = server.object("dtabs", "l5d", &format!("r{at}")).unwrap()["status"].clone();
                status["state"] == "InForce" && status["warnings"] == 0 && status["message"] == Value::Null
            }
        });
    }
}

#[test]
fn a_warning_is_one_event_however_often_the_object_is_edited_and_whoever_sees_it() {
    let (server, backend) = (server(), Backend::http().answers("web").start());
    let put = |more: &[(&str, &str)]| server.put(dtab("r0", &with(&backend, more)));
    put(&[("/svc/a", "/nosuch")]);
    let one = weir(&server, &[false]);
    eventually("an Event", || events(&server, "r0").len() == 1);
    let is_said = || server.object("dtabs", "l5d", "r0").unwrap()["status"]["warnings"] == 1;
    eventually("the status", is_said);
    // A second one, as after a rollout, says the same: neither an Event nor a status is written again.
    let patches = server.count("patch", "dtabs");
    let other = weir(&server, &[false]);
    eventually("its warning", || ready(&other).contains("dentries[1]"));
    assert!(holds_for(Duration::from_secs(2), || {
        events(&server, "r0").len() == 1 && server.count("patch", "dtabs") == patches
    }));
    drop(other);
    // Other text of the object, and the same warning.
    put(&[("/svc/a", "/nosuch"), ("/svc/b", "/svc/web")]);
    eventually("the edit", || one.get("http://b/").text() == "web");
    // Then many warnings in a short time.
    let begun = Instant::now();
    for number in 0..40 {
        put(&[("/svc/a", &format!("/nosuch{number}"))]);
        std::thread::sleep(Duration::from_millis(10));
    }
    put(&[("/svc/a", "/last")]);
    eventually("the last word", || events(&server, "r0").iter().any(|it| it.contains("/last")));
    let (events, seconds) = (events(&server, "r0"), begun.elapsed().as_secs() as usize);
    assert_eq!(events.iter().filter(|it| it.contains("for /nosuch, ")).count(), 1, "{events:?}");
    assert!(events.len() <= 3 + seconds / 5, "{} Events in {seconds} s", events.len());
}

/// Of the largest dtabs those that are the most work to judge.
#[test]
fn ten_thousand_entries_are_in_force_and_judged_while_requests_and_the_admin_go_on() {
    let (server, backend) = (server(), Backend::http().answers("web").start());
    server.put(dtab("r0", &with(&backend, &[])));
    let weir = weir(&server, &[false]);
    eventually("the dtab", || weir.get("http://web/").text() == "web");
    let load = Load::get(weir.outgoing(), "http://web/");
    for (kind, first) in
        [("ring", "the dtab leads to ever new names"), ("dead ends", "no entry is for /none/")]
    {
        let mut entries = with(&backend, &[]);
        entries.extend((0..9_998).map(|number| match kind {
            "ring" => (format!("/svc/{number}"), format!("/svc/{}", (number + 1) % 9_998)),
            _ => (format!("/svc/{number}"), format!("/none/{number}")),
        }));
        entries.push((format!("/svc/{}", kind.replace(' ', "-")), entries[0].1.clone()));
        server.put(dtab("r0", &entries));
        let last = format!("http://{}/", kind.replace(' ', "-"));
        eventually("the edit", || weir.get(&last).text() == "web");
        eventually("the warnings", || ready(&weir).contains(first));
        load.answered(5);
    }
    load.stop().expect_no_failure();
}
