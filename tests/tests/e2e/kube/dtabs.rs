//! Dtabs that are kept in the cluster, as Dtab objects and in ConfigMaps.

use std::time::Duration;

use e2e::kube::{ApiServer, Refusal};
use e2e::time::holds_for;
use e2e::weir::builder::Builder;
use e2e::{Backend, Load, Weir, eventually};
use serde_json::{Value, json};

use super::edits::is_soon_in_force;
use super::kubectl::Kubectl;
use super::stage::following;
use crate::control::apply::change;

/// A Dtab of `l5d` with these entries.
fn dtab(name: &str, entries: &[(&str, &str)]) -> Value {
    let entries: Vec<_> =
        entries.iter().map(|(prefix, dst)| json!({ "prefix": prefix, "dst": dst })).collect();
    json!({ "kind": "Dtab", "metadata": { "name": name, "namespace": "l5d" }, "dentries": entries })
}

fn config_map(text: &str) -> Value {
    let metadata = json!({ "name": "dtabs", "namespace": "l5d" });
    json!({ "kind": "ConfigMap", "metadata": metadata, "data": { "web.dtab": text } })
}

fn to(backend: &Backend) -> String {
    format!("/$/inet/127.1/{}", backend.addr().port())
}

struct Stage {
    server: ApiServer,
    one: Backend,
    two: Backend,
}

impl Stage {
    fn new() -> Self {
        let server = ApiServer::start();
        server.define_custom();
        let [one, two] = ["one", "two"].map(|name| Backend::http().answers(name).start());
        Self { server, one, two }
    }

    fn weir(&self, interpreter: &str) -> Builder {
        let outgoing = format!("{{ listen: 127.0.0.1:0, interpreter: {interpreter} }}");
        following(&self.server).set("outgoing", &outgoing)
    }
}

const WEB: &str = "{ kind: io.l5d.k8s.dtabs, namespace: l5d, name: web }";
const MAP: &str = "{ kind: io.l5d.k8s.configMap, namespace: l5d, name: dtabs, filename: web.dtab }";

fn ready(weir: &Weir) -> String {
    weir.admin_get("/ready").text()
}

#[test]
fn an_edit_of_a_dtab_object_is_in_force_on_every_weir_within_a_second() {
    let stage = Stage::new();
    stage.server.put(dtab("web", &[("/svc/web", &to(&stage.one))]));
    let weirs = [stage.weir(WEB).start(), stage.weir(WEB).start()];
    for weir in &weirs {
        eventually("the first dtab", || weir.get("http://web/").text() == "one");
        eventually("readiness", || weir.admin_get("/ready").status == 200);
    }
    let loads = weirs.each_ref().map(|weir| Load::get(weir.outgoing(), "http://web/"));
    for (target, name) in [(&stage.two, "two"), (&stage.one, "one"), (&stage.two, "two")] {
        let edit = || stage.server.put(dtab("web", &[("/svc/web", &to(target))]));
        is_soon_in_force(&weirs, edit, |weir| weir.get("http://web/").text() == name);
    }
    loads.into_iter().for_each(|load| load.stop().expect_no_failure());
    let explained = weirs[0].admin_get("/api/explain?name=/svc/web&format=text").text();
    assert!(explained.contains("dtab of the cluster"), "{explained}");
    eventually("the status", || {
        let object = stage.server.object("dtabs", "l5d", "web").unwrap();
        object["status"]["state"] == "InForce"
    });
}

/// As an operator does it; `kubectl` knows nothing of weir.
#[test]
fn what_kubectl_applies_is_in_force_on_two_weirs_within_a_second_and_a_wrong_one_changes_nothing() {
    let stage = Stage::new();
    let kubectl = Kubectl::of(&stage.server);
    let apply = |dst: &str| {
        let mut object = dtab("web", &[("/svc/web", dst)]);
        object["apiVersion"] = json!("l5d.io/v1alpha1");
        let manifest = kubectl.home.path().join("web.json");
        std::fs::write(&manifest, object.to_string()).unwrap();
        kubectl.run(&["apply", "--validate=false", "-f", manifest.to_str().unwrap()]);
    };
    apply(&to(&stage.one));
    let weirs = [stage.weir(WEB).start(), stage.weir(WEB).start()];
    for weir in &weirs {
        eventually("the first dtab", || weir.get("http://web/").text() == "one");
    }
    let loads = weirs.each_ref().map(|weir| Load::get(weir.outgoing(), "http://web/"));
    for (target, name) in [(&stage.two, "two"), (&stage.one, "one"), (&stage.two, "two")] {
        is_soon_in_force(&weirs, || apply(&to(target)), |weir| weir.get("http://web/").text() == name);
    }
    apply("no path");
    for weir in &weirs {
        eventually("word of it", || ready(weir).contains("Dtab l5d/web: dentries[0]: "));
        weir.get("http://web/").expect_body("two");
    }
    loads.into_iter().for_each(|load| load.stop().expect_no_failure());
}

/// `weir import` says how to follow the object itself, in comments.
#[test]
fn an_imported_object_is_followed_where_its_comments_are_taken() {
    let stage = Stage::new();
    let example = include_str!("../../../../deploy/examples/import/dtab-object.yaml");
    let list: Value = serde_saphyr::from_str(example).unwrap();
    let mut object = list["items"][0].clone();
    object["dentries"].as_array_mut().unwrap().push(json!({ "prefix": "/svc/web", "dst": to(&stage.one) }));
    stage.server.put(object);
    let weir = Weir::new();
    let file = weir.folder().path().join("dtab.yaml");
    std::fs::write(&file, example).unwrap();
    let imported = weir.run(&["import", file.to_str().unwrap()]);
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    let comment = |key: &str| {
        let line = imported.stdout.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(key));
        line.unwrap_or_else(|| panic!("{key} in {}", imported.stdout)).to_owned()
    };
    assert_eq!(comment("discovery:"), " { kubernetes: {} }");
    let interpreter = comment("outgoing: { interpreter: ");
    let weir = stage.weir(interpreter.strip_suffix(" }").unwrap()).start();
    eventually("the dtab", || weir.get("http://web/").text() == "one");
}

#[test]
fn a_wrong_edit_keeps_the_last_good_dtab_and_is_said_everywhere() {
    let stage = Stage::new();
    stage.server.put(dtab("web", &[("/svc/web", &to(&stage.one))]));
    let weir = stage.weir(WEB).start();
    eventually("the dtab", || weir.get("http://web/").text() == "one");
    eventually("readiness", || weir.admin_get("/ready").status == 200);
    let wrong = dtab("web", &[("/svc/web", &to(&stage.two)), ("/svc/other", "no path")]);
    stage.server.put(wrong);
    eventually("word of it", || ready(&weir).contains("Dtab l5d/web: dentries[1]: "));
    weir.get("http://web/").expect_body("one");
    weir.admin_get("/ready").expect_status(200);
    let labels = [("dtab", "Dtab l5d/web")];
    assert_eq!(weir.metric("weir_dtab_in_force", &labels), 0.0);
    assert_eq!(weir.metric("weir_dtab_edits_total", &[("result", "rejected")]), 1.0);
    weir.expect_log("the last good one stays");
    eventually("an Event", || {
        let events = stage.server.objects("events");
        events.iter().any(|event| {
            event["involvedObject"]["name"] == "web"
                && event["message"].as_str().is_some_and(|it| it.starts_with("dentries[1]: "))
        })
    });
    eventually("the status", || {
        let object = stage.server.object("dtabs", "l5d", "web").unwrap();
        object["status"]["state"] == "NotInForce"
    });
    // Another edit that is wrong in the same way is one more; what is written about one is none.
    let rejected = || weir.metric("weir_dtab_edits_total", &[("result", "rejected")]);
    eventually("the status to be told", || stage.server.has_told(&["dtabs"]));
    assert_eq!(rejected(), 1.0);
    stage.server.put(dtab("web", &[("/svc/web", &to(&stage.two)), ("/svc/another", "no path")]));
    eventually("the other edit", || rejected() == 2.0);
    weir.get("http://web/").expect_body("one");
    // Right again.
    stage.server.put(dtab("web", &[("/svc/web", &to(&stage.two))]));
    eventually("the edit", || weir.get("http://web/").text() == "two");
    assert!(!ready(&weir).contains("dentries"), "{}", ready(&weir));
    assert_eq!(weir.metric("weir_dtab_in_force", &labels), 1.0);
}

#[test]
fn what_the_server_does_not_take_about_a_dtab_is_said_again_until_it_does() {
    let stage = Stage::new();
    stage.server.put(dtab("web", &[("/svc/web", &to(&stage.one))]));
    let refuse = |refusal: Refusal| {
        stage.server.faults(|faults| {
            faults.refused = ["patch dtabs", "create events"].map(|what| (what.to_owned(), refusal)).into();
        });
    };
    refuse(Refusal::Broken(500));
    let weir = stage.weir(WEB).start();
    eventually("the dtab", || weir.get("http://web/").text() == "one");
    let tried = || stage.server.count("patch", "dtabs");
    eventually("a first try", || tried() > 0);
    assert!(stage.server.object("dtabs", "l5d", "web").unwrap()["status"].is_null());
    stage.server.faults(|faults| faults.refused.clear());
    let state = || stage.server.object("dtabs", "l5d", "web").unwrap()["status"]["state"].clone();
    eventually("the status", || state() == "InForce");
    // Somebody else says otherwise: weirs do not answer one another.
    let said = tried();
    let mut object = stage.server.object("dtabs", "l5d", "web").unwrap();
    object["status"]["state"] = json!("NotInForce");
    object["kind"] = json!("Dtab");
    stage.server.put(object);
    assert!(holds_for(Duration::from_secs(6), || tried() == said));
    assert_eq!(state(), "NotInForce");
}

/// A webhook that is down, for example, refuses each of them.
#[test]
fn events_that_the_server_does_not_take_keep_no_status_from_being_written_and_are_sent_later() {
    let stage = Stage::new();
    stage.server.put(dtab("web", &[("/svc/web", "no path")]));
    stage.server.refuse("create events", Refusal::Broken(500));
    let weir = stage.weir(WEB).start();
    let status = |key: &str| stage.server.object("dtabs", "l5d", "web").unwrap()["status"][key].clone();
    eventually("the status", || status("state") == "NotInForce");
    assert!(stage.server.objects("events").is_empty());
    stage.server.heal();
    eventually("the Event", || stage.server.objects("events").len() == 1);
    drop(weir);
}

/// The settings that a reload puts into force have the newest dtab, although they were made of an older one.
#[test]
fn an_edit_while_a_reload_waits_for_something_else_is_not_lost() {
    let stage = Stage::new();
    stage.server.put(dtab("web", &[("/svc/web", &to(&stage.one))]));
    let mesh = format!("{{ label: mesh, listen: 127.0.0.1:0, interpreter: {WEB} }}");
    let edge = "{ label: edge, listen: 127.0.0.1:0, identifier: { kind: io.l5d.ingress } }";
    let weir = following(&stage.server).set("outgoing", &format!("[{mesh}]"));
    let kubernetes = "kubeconfig: ./kubeconfig, node: node-1, jitter: 0s, readTimeout: 30s";
    let weir = weir.set("discovery", &format!("{{ kubernetes: {{ {kubernetes} }} }}"));
    let weir = weir.set("limits", "{ firstList: 8s }").start();
    eventually("the dtab", || weir.get("http://web/").text() == "one");
    // The list that the new router needs does not come, so the reload waits for as long as it may.
    stage.server.faults(|faults| faults.hung = ["ingresses".to_owned()].into());
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| change(&weir, "outgoing", Some(&format!("[{mesh}, {edge}]"))));
        eventually("the reload to begin", || stage.server.count("list", "ingresses") > 0);
        stage.server.put(dtab("web", &[("/svc/web", &to(&stage.two))]));
        eventually("the edit", || weir.get("http://web/").text() == "two");
        reload.join().expect("a reload");
    });
    assert!(holds_for(Duration::from_millis(300), || weir.get("http://web/").text() == "two"));
}

#[test]
fn a_config_map_is_followed_and_one_that_vanishes_keeps_its_last_dtab() {
    let stage = Stage::new();
    stage.server.put(config_map(&format!("/svc/web => {} ;\n", to(&stage.one))));
    let weir = stage.weir(MAP).start();
    eventually("the dtab", || weir.get("http://web/").text() == "one");
    stage.server.put(config_map(&format!("/svc/web => {} ;\n", to(&stage.two))));
    eventually("the edit", || weir.get("http://web/").text() == "two");
    stage.server.delete("configmaps", "l5d", "dtabs");
    eventually("word of it", || {
        ready(&weir).contains("ConfigMap l5d/dtabs (web.dtab): there is no such object")
    });
    assert!(holds_for(Duration::from_millis(300), || weir.get("http://web/").text() == "two"));
    stage.server.put(json!({ "kind": "ConfigMap", "metadata": { "name": "dtabs", "namespace": "l5d" } }));
    eventually("word of it", || ready(&weir).contains("there is no text under data.web.dtab"));
    stage.server.put(config_map(&format!("/svc/web => {}", to(&stage.one))));
    eventually("the edit", || weir.get("http://web/").text() == "one");
}

#[test]
fn without_its_dtab_weir_binds_nothing_by_its_own_and_is_not_ready() {
    let stage = Stage::new();
    let weir = stage.weir(WEB).start();
    eventually("the answer that there is none", || {
        ready(&weir).contains("Dtab l5d/web: there is no such object")
    });
    weir.admin_get("/ready").expect_status(503);
    weir.get(&format!("http://{}/", stage.one.addr())).expect_status(502);
    // A wrong one is none either, and nobody is told that an earlier one stays.
    stage.server.put(dtab("web", &[("/svc/web", "no path")]));
    let status = |key: &str| stage.server.object("dtabs", "l5d", "web").unwrap()["status"][key].clone();
    eventually("the status", || status("state") == "NotInForce");
    let message = status("message").to_string();
    assert!(message.contains("not ready if it has none") && !message.contains("stays in force"), "{message}");
    weir.expect_log("there was no good one before");
    weir.admin_get("/ready").expect_status(503);
    stage.server.put(dtab("web", &[("/svc/web", &to(&stage.one))]));
    eventually("the dtab", || weir.get("http://web/").text() == "one");
    eventually("readiness", || weir.admin_get("/ready").status == 200);
}

#[test]
fn a_dtab_object_is_bounded_and_a_circle_in_one_answers_502() {
    let stage = Stage::new();
    let mut entries = vec![("/svc/web", to(&stage.one))];
    stage.server.put(dtab("web", &[("/svc/web", &entries[0].1)]));
    let weir = stage.weir(WEB).start();
    eventually("the dtab", || weir.get("http://web/").text() == "one");
    entries.resize(10_001, ("/svc/x", "/svc/y".to_owned()));
    let many: Vec<_> = entries.iter().map(|(prefix, dst)| (*prefix, dst.as_str())).collect();
    stage.server.put(dtab("web", &many));
    eventually("word of it", || ready(&weir).contains("10001 entries, 10000 are the most"));
    stage.server.put(dtab("web", &[("/svc/web", &format!("/{}", "x".repeat(1 << 20)))]));
    eventually("word of it", || ready(&weir).contains("bytes"));
    weir.get("http://web/").expect_body("one");
    stage
        .server
        .put(dtab("web", &[("/svc/web", "/a"), ("/a", "/b"), ("/b", "/a"), ("/svc/two", &to(&stage.two))]));
    eventually("the circle", || weir.get("http://two/").text() == "two");
    let answer = weir.get("http://web/");
    answer.expect_status(502);
    assert!(answer.l5d_err().contains("circle"), "{}", answer.l5d_err());
}

#[test]
fn an_unreachable_server_leaves_the_dtab_in_force() {
    let stage = Stage::new();
    stage.server.put(dtab("web", &[("/svc/web", &to(&stage.one))]));
    let weir = stage.weir(WEB).start();
    eventually("the dtab", || weir.get("http://web/").text() == "one");
    stage.server.down();
    eventually("word of it", || ready(&weir).contains("Dtab l5d/web: "));
    weir.get("http://web/").expect_body("one");
    stage.server.put(dtab("web", &[("/svc/web", &to(&stage.two))]));
    stage.server.up();
    eventually("the edit meanwhile", || weir.get("http://web/").text() == "two");
    eventually("no more word of it", || !ready(&weir).contains("Dtab l5d/web: "));
}

/// Its versions begin anew, and a watch of a version that it does not have any more says nothing.
#[test]
fn a_server_that_was_restored_from_a_backup_is_believed_about_dtabs() {
    for interpreter in [WEB, MAP] {
        let stage = Stage::new();
        let put = |backend: &Backend| {
            let entry = [("/svc/web", &*to(backend))];
            stage.server.put(match interpreter {
                WEB => dtab("web", &entry),
                _ => config_map(&format!("{} => {}", entry[0].0, entry[0].1)),
            });
        };
        put(&stage.one);
        stage.server.compact();
        let weir = stage.weir(interpreter).start();
        eventually("the dtab", || weir.get("http://web/").text() == "one");
        // Far ahead of whatever is written after the backup.
        (0..50).for_each(|_| put(&stage.two));
        eventually("the edit", || weir.get("http://web/").text() == "two");
        stage.server.restore();
        eventually("what the backup has", || weir.get("http://web/").text() == "one");
        put(&stage.two);
        eventually("an edit after it", || weir.get("http://web/").text() == "two");
    }
}

#[test]
fn the_role_permits_what_is_asked_for_dtabs_and_no_more() {
    let stage = Stage::new();
    stage.server.put(dtab("web", &[("/svc", "no path")]));
    let weir = stage.weir(WEB).start();
    eventually("an Event", || !stage.server.objects("events").is_empty());
    eventually("the status", || stage.server.count("patch", "dtabs") > 0);
    drop(weir);
    let asked = |plural: &str| {
        let mut verbs: Vec<_> =
            stage.server.seen().iter().filter(|it| it.plural == plural).map(|it| it.verb).collect();
        verbs.sort_unstable();
        verbs.dedup();
        verbs
    };
    assert_eq!(asked("dtabs"), ["list", "patch", "watch"]);
    assert_eq!(asked("events"), ["create"]);
    // A right to one object permits lists and watches that ask for it by its name.
    let seen = stage.server.seen();
    let of = seen.iter().filter(|it| it.plural == "dtabs" && it.verb != "patch");
    assert!(
        of.clone().all(|it| it.target.contains("/namespaces/l5d/dtabs?fieldSelector=metadata.name%3Dweb"))
    );
    let role = include_str!("../../../../deploy/kubernetes/overlays/routers/role.yaml");
    for rule in [
        "    resources: [dtabs]\n    resourceNames: [web]\n    verbs: [list, watch]\n",
        "    resources: [dtabs/status]\n    resourceNames: [web]\n    verbs: [patch]\n",
        "    resources: [events]\n    verbs: [create]\n",
    ] {
        assert!(role.contains(rule), "{rule}");
    }
}

#[test]
fn log_lines_about_a_dtab_name_the_routers_that_read_it() {
    let stage = Stage::new();
    stage.server.put(dtab("web", &[("/svc/web", &to(&stage.one))]));
    let router = |label: &str, more: &str| {
        format!("{{ label: {label}, listen: 127.0.0.1:0, interpreter: {WEB}, {more} }}")
    };
    let outgoing = format!("[{}, {}]", router("mesh", ""), router("edge", "overrides: []"));
    let weir = following(&stage.server).set("outgoing", &outgoing).start();
    eventually("the dtab", || weir.get("http://web/").text() == "one");
    stage.server.put(dtab("web", &[("/svc/web", "no path")]));
    let line = |what: &str| {
        let is_it = |line: &str| line.contains(what) && line.contains("router=\"mesh, edge\"");
        eventually(what, || weir.log().lines().any(is_it));
    };
    line("the dtab of the cluster is in force");
    line("the last good one stays");
}
