//! `weir dtab get|set|diff|check`, against an API server's double.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::kube::{ApiServer, Authority};
use e2e::weir::builder::{Builder, Exit};
use e2e::{Backend, Weir, eventually};
use serde_json::{Value, json};

use super::account::account;
use super::stage::following;

/// An operator with a kubeconfig, and nobody's home.
pub(super) struct Operator {
    pub(super) server: ApiServer,
    pub(super) weir: Builder,
}

impl Operator {
    /// Of a cluster that has the type Dtab.
    pub(super) fn new() -> Self {
        let server = ApiServer::start();
        server.define_custom();
        Self::of(server)
    }

    pub(super) fn of(server: ApiServer) -> Self {
        let weir = Weir::new();
        let kubeconfig = server.kubeconfig(weir.folder().path());
        let home = weir.folder().path().to_str().unwrap().to_owned();
        let weir = weir.env("KUBECONFIG", kubeconfig.to_str().unwrap()).env("HOME", &home);
        Self { server, weir }
    }

    pub(super) fn dtab(&self, arguments: &[&str]) -> Exit {
        self.weir.run(&[&["dtab"], arguments].concat())
    }

    /// Writes a file, and its path.
    pub(super) fn file(&self, name: &str, text: &str) -> String {
        let path = self.weir.folder().path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// What it prints, where it succeeds.
    #[track_caller]
    pub(super) fn says(&self, arguments: &[&str]) -> String {
        let exit = self.dtab(arguments);
        assert_eq!(exit.code, Some(0), "{arguments:?}: {}{}", exit.stdout, exit.stderr);
        exit.stdout
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.dtab(&[arguments, &["-o", "json"]].concat()).stdout).unwrap()
    }

    fn entries(&self, name: &str) -> Value {
        self.server.object("dtabs", "l5d", name).unwrap()["dentries"].clone()
    }
}

/// A Dtab of `l5d` with these entries.
fn dtab(name: &str, entries: &[(&str, &str)]) -> Value {
    let entries: Vec<_> =
        entries.iter().map(|(prefix, dst)| json!({ "prefix": prefix, "dst": dst })).collect();
    json!({ "kind": "Dtab", "metadata": { "name": name, "namespace": "l5d" }, "dentries": entries })
}

const TWO: [(&str, &str); 2] = [("/svc", "/#/io.l5d.fs"), ("/svc/web", "0.1 * /svc/v2 & 0.9 * /svc/v1")];
const TWO_LINES: &str = "/svc => /#/io.l5d.fs ;\n/svc/web => 0.1 * /svc/v2 & 0.9 * /svc/v1 ;\n";

#[test]
fn what_get_prints_is_what_set_takes_in_each_form() {
    let operator = Operator::new();
    let version = operator.server.put(dtab("web", &TWO));
    let printed = operator.says(&["get", "l5d/web"]);
    assert_eq!(printed, format!("# Dtab l5d/web, version {version}\n{TWO_LINES}"));
    let object = format!(
        "apiVersion: l5d.io/v1alpha1\nkind: Dtab\nmetadata: {{ name: web, namespace: l5d }}\ndentries: {}\n",
        json!([{ "prefix": TWO[0].0, "dst": TWO[0].1 }, { "prefix": TWO[1].0, "dst": TWO[1].1 }])
    );
    let list = operator.json(&["get", "l5d/web"])["entries"].to_string();
    for (name, text) in [("a.dtab", &printed), ("b.yaml", &object), ("c.json", &list)] {
        let file = operator.file(name, text);
        let said = operator.says(&["set", "l5d/web", "-f", &file]);
        assert_eq!(said, format!("Dtab l5d/web unchanged, 2 entries, version {version}\n"), "{name}");
        assert!(
            operator
                .says(&["set", "l5d/new", "--dry-run", "-f", &operator.file("d", TWO_LINES)])
                .contains("created")
        );
    }
    assert_eq!(operator.server.count("update", "dtabs"), 0);
    let piped = operator.weir.run_with(&["dtab", "set", "l5d/other", "--file", "-"], &printed);
    assert_eq!(piped.code, Some(0), "{}", piped.stderr);
    assert_eq!(operator.entries("other"), operator.entries("web"));
    // A comment in an entry ends with it.
    let version =
        operator.server.put(dtab("web", &[("/svc/a", "/#/io.l5d.fs/a # old"), ("/svc/b", "/svc/a")]));
    let printed = operator.says(&["get", "l5d/web"]);
    let said = operator.says(&["set", "l5d/web", "-f", &operator.file("e", &printed)]);
    assert_eq!(said, format!("Dtab l5d/web unchanged, 2 entries, version {version}\n"), "{printed}");
}

#[test]
fn set_changes_the_dtab_and_nothing_else_of_the_object() {
    let operator = Operator::new();
    let mut object = dtab("web", &TWO);
    object["metadata"]["labels"] = json!({ "team": "mesh" });
    object["metadata"]["annotations"] = json!({ "note": "mine" });
    operator.server.put(object);
    operator.server.put(json!({
        "kind": "ConfigMap", "metadata": { "name": "dtabs", "namespace": "l5d", "labels": { "team": "mesh" } },
        "data": { "web.dtab": "/a => /b", "other": "kept" },
    }));
    let file = operator.file("web.dtab", "# by hand\n/svc => /#/io.l5d.fs ;\n");
    let said = operator.says(&["set", "l5d/web", "-f", &file]);
    assert!(said.starts_with("Dtab l5d/web replaced, 1 entries, version "), "{said}");
    let now = operator.server.object("dtabs", "l5d", "web").unwrap();
    assert_eq!(now["dentries"], json!([{ "prefix": "/svc", "dst": "/#/io.l5d.fs" }]));
    assert_eq!(
        (&now["metadata"]["labels"]["team"], &now["metadata"]["annotations"]["note"]),
        (&json!("mesh"), &json!("mine"))
    );
    operator.says(&["set", "l5d/dtabs", "--key", "web.dtab", "-f", &file]);
    let now = operator.server.object("configmaps", "l5d", "dtabs").unwrap();
    assert_eq!(now["data"], json!({ "web.dtab": "# by hand\n/svc => /#/io.l5d.fs ;\n", "other": "kept" }));
    assert_eq!(now["metadata"]["labels"]["team"], "mesh");
    // What is not there yet is created, also a ConfigMap.
    operator.says(&["set", "l5d/new", "--key", "x", "-f", &file]);
    assert!(operator.server.object("configmaps", "l5d", "new").unwrap()["data"]["x"].is_string());
    let got = operator.says(&["get", "l5d/dtabs", "--key", "web.dtab"]);
    assert!(
        got.starts_with("# ConfigMap l5d/dtabs (web.dtab), version ") && got.ends_with("/#/io.l5d.fs ;\n"),
        "{got}"
    );
}

#[test]
fn the_list_has_every_dtab_with_what_weir_said_of_it() {
    let operator = Operator::new();
    assert_eq!(operator.says(&["get"]), "there is no Dtab\n");
    operator.server.put(dtab("web", &TWO));
    let mut wrong = dtab("wrong", &[("/svc", "no path")]);
    wrong["status"] = json!({ "state": "NotInForce", "problem": "dentries[0]: expected a path" });
    operator.server.put(wrong);
    let mut other = dtab("web", &TWO[..1]);
    (other["metadata"]["namespace"], other["status"]) = (json!("shop"), json!({ "state": "InForce" }));
    operator.server.put(other);
    let listed = operator.says(&["get"]);
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["l5d/web", "2", "entries", "not", "read", "by", "a", "weir"]);
    assert!(listed.contains("NotInForce: dentries[0]: expected a path"), "{listed}");
    assert_eq!(lines[2], ["shop/web", "1", "entries", "InForce"]);
    assert_eq!(operator.says(&["get", "shop/"]).lines().count(), 1);
    assert_eq!(operator.says(&["get", "none/"]), "there is no Dtab in the namespace none\n");
    let listed = operator.json(&["get"]);
    assert_eq!((listed.as_array().unwrap().len(), &listed[1]["state"]), (3, &json!("NotInForce")));
    assert!(listed[1]["mistakes"][0].as_str().unwrap().starts_with("dentries[0]: "), "{listed}");
    // What is wrong is printed as it is, to be corrected.
    let printed = operator.says(&["get", "l5d/wrong"]);
    assert!(printed.ends_with("NotInForce: dentries[0]: expected a path\n/svc => no path ;\n"), "{printed}");
}

#[test]
fn nothing_in_an_object_reaches_the_terminal_as_a_command_to_it() {
    let operator = Operator::new();
    let mut object = dtab("web", &[("/svc\u{1b}[31m", "no\u{7} path"), TWO[0]]);
    object["status"] = json!({ "state": "NotInForce", "problem": "\u{1b}]0;x\u{7}" });
    operator.server.put(object);
    let file = operator.file("web.dtab", TWO_LINES);
    for arguments in
        [&["get"][..], &["get", "l5d/web"], &["check", "l5d/web"], &["diff", "l5d/web", "-f", &file]]
    {
        let exit = operator.dtab(arguments);
        let is_shown = |it: char| it.is_control() && it != '\n';
        assert!(
            !exit.stdout.contains(is_shown) && !exit.stderr.contains(is_shown),
            "{arguments:?}: {exit:?}"
        );
        assert!(!(exit.stdout + &exit.stderr).is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_list_of_any_length_is_read_in_pages() {
    let operator = Operator::new();
    for number in 0..1_100 {
        operator.server.put(dtab(&format!("web-{number}"), &TWO[..1]));
    }
    assert_eq!(operator.says(&["get"]).lines().count(), 1_100);
    assert_eq!(operator.server.count("list", "dtabs"), 3);
}

#[test]
fn of_edits_that_are_based_on_one_version_one_wins_and_the_others_are_told() {
    let operator = Operator::new();
    let version = operator.server.put(dtab("web", &TWO)).to_string();
    for n in 0..4 {
        operator.file(&format!("{n}.dtab"), &format!("/svc => /#/io.l5d.fs/{n}"));
    }
    let exits: Vec<Exit> = std::thread::scope(|scope| {
        let set = |file: &'static str| {
            let (operator, version) = (&operator, &*version);
            scope.spawn(move || operator.dtab(&["set", "l5d/web", "-f", file, "--version", version]))
        };
        let all: Vec<_> = ["0.dtab", "1.dtab", "2.dtab", "3.dtab"].map(set).into_iter().collect();
        all.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let won: Vec<_> = (0..4).filter(|n| exits[*n].code == Some(0)).collect();
    assert_eq!(won.len(), 1, "{:?}", exits.iter().map(|it| &it.stderr).collect::<Vec<_>>());
    assert_eq!(operator.entries("web")[0]["dst"], format!("/#/io.l5d.fs/{}", won[0]));
    for (n, exit) in exits.iter().enumerate().filter(|(n, _)| *n != won[0]) {
        assert_eq!(exit.code, Some(1), "{n}");
        let said = "weir: Dtab l5d/web was changed meanwhile by somebody else (";
        assert!(exit.stderr.starts_with(said) && exit.stderr.contains("get it again"), "{}", exit.stderr);
    }
    // So does the version in an object's file, and one of an object that is gone.
    let mut old = dtab("web", &TWO);
    old["metadata"]["resourceVersion"] = json!(version);
    let file = operator.file("old.json", &old.to_string());
    assert!(operator.dtab(&["set", "l5d/web", "-f", &file]).stderr.contains("was changed meanwhile"));
    operator.server.delete("dtabs", "l5d", "web");
    let exit = operator.dtab(&["set", "l5d/web", "-f", &file]);
    assert!(exit.code == Some(1) && exit.stderr.contains("(it was deleted)"), "{}", exit.stderr);
    assert_eq!(operator.server.object("dtabs", "l5d", "web"), None);
}

#[test]
fn a_dry_run_stores_nothing() {
    let operator = Operator::new();
    let version = operator.server.put(dtab("web", &TWO));
    let file = operator.file("web.dtab", "/svc => /#/io.l5d.fs/v1");
    for (name, result) in [("l5d/web", "replaced"), ("l5d/new", "created")] {
        let said = operator.says(&["set", name, "-f", &file, "--dry-run"]);
        assert!(said.contains(result) && said.contains("nothing is stored"), "{said}");
    }
    assert_eq!(operator.server.version(), version);
    assert_eq!((operator.server.count("update", "dtabs"), operator.server.count("create", "dtabs")), (1, 1));
}

#[test]
fn diff_names_the_entries_and_says_by_its_exit_code_whether_there_are_any() {
    let operator = Operator::new();
    operator.server.put(dtab("web", &[TWO[0], ("/svc/a", "/svc/b"), TWO[1]]));
    let same = operator.file("same", "/svc=>/#/io.l5d.fs;/svc/a=>/svc/b\n;/svc/web=>0.1*/svc/v2&0.9*/svc/v1");
    let exit = operator.dtab(&["diff", "l5d/web", "-f", &same]);
    assert_eq!((exit.code, &*exit.stdout, &*exit.stderr), (Some(0), "", ""));
    let file = operator.file("web.dtab", &format!("{TWO_LINES}/svc/c => /svc/d ;\n"));
    let exit = operator.dtab(&["diff", "l5d/web", "-f", &file]);
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let (head, changes) = exit.stdout.split_once(&format!("+++ {file}\n")).unwrap();
    assert!(head.starts_with("--- Dtab l5d/web, version "), "{head}");
    assert_eq!(changes, "- [1] /svc/a => /svc/b ;\n+ [2] /svc/c => /svc/d ;\n");
    let found = operator.json(&["diff", "l5d/web", "-f", &file]);
    assert_eq!(found["changes"][0], json!({ "change": "removed", "number": 1, "entry": "/svc/a => /svc/b" }));
    assert_eq!(
        operator.dtab(&["diff", "l5d/new", "-f", &file]).code,
        Some(1),
        "what is not there is added whole"
    );
    let exit = operator.dtab(&["diff", "l5d/web", "-f", &operator.file("bad", "/svc => no path")]);
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    // An object that has mistakes is compared as it is.
    operator.server.put(dtab("wrong", &[TWO[0], ("/svc/a", "no path")]));
    let exit = operator.dtab(&["diff", "l5d/wrong", "-f", &operator.file("x", "/svc => /#/io.l5d.fs")]);
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.starts_with("Dtab l5d/wrong: dentries[1]: "), "{}", exit.stderr);
    assert!(exit.stdout.contains("[1] /svc/a => no path ;\n"), "{}", exit.stdout);
}

#[test]
fn check_finds_every_mistake_and_every_dead_end_wherever_the_dtab_is() {
    let operator = Operator::new();
    operator.server.put(dtab("web", &TWO));
    operator.server.put(dtab("wrong", &[("/svc", "no path"), TWO[0], ("svc", "/a")]));
    operator.server.put(dtab("dead", &[("/svc", "/io.l5d.fs")]));
    assert_eq!(operator.says(&["check", "l5d/web"]), "Dtab l5d/web: right; 2 entries\n");
    let exit = operator.dtab(&["check", "l5d/wrong"]);
    assert_eq!(exit.code, Some(78));
    let lines: Vec<_> = exit.stderr.lines().collect();
    let is_of = |line: &str, entry: &str| line.starts_with(&format!("Dtab l5d/wrong: {entry}: "));
    assert!(
        lines.len() == 2 && is_of(lines[0], "dentries[0]") && is_of(lines[1], "dentries[2]"),
        "{lines:?}"
    );
    let exit = operator.dtab(&["check", "l5d/dead"]);
    assert_eq!(exit.code, Some(0), "a dead end is a warning, as for `weir check`");
    assert!(
        exit.stderr
            .contains("dentries[0]: no entry is for /io.l5d.fs, and no namer (did you mean /#/io.l5d.fs?)")
    );
    let asked = operator.server.seen().len();
    for (name, text, code, said) in [
        ("good", TWO_LINES, 0, ""),
        ("wrong", "/svc => /a ;\n/b = /c\n", 78, "wrong:2:4: expected"),
        ("dead", "# x\n/svc => /$/io.buoyant.nothing/x", 0, "dead: line 2: there is no built-in namer"),
        ("empty", "", 78, "no dtab here (lines `prefix => dst ;`, a Dtab object"),
        ("yaml", "kind: Dtab\ndentries:\n- { prefix: /a }\n", 78, "yaml:3:3: dentries[0]: an entry without"),
        ("none", "kind: [", 78, "none:1:"),
    ] {
        let exit = operator.dtab(&["check", "--file", &operator.file(name, text)]);
        assert_eq!(exit.code, Some(code), "{name}: {}", exit.stderr);
        assert!(
            exit.stderr.contains(said) && (said.is_empty() == exit.stderr.is_empty()),
            "{name}: {}",
            exit.stderr
        );
    }
    assert_eq!(operator.server.seen().len(), asked, "a file is checked without a cluster");
}

#[test]
fn check_with_a_configuration_judges_by_the_routers_that_read_the_dtab() {
    let operator = Operator::new();
    operator.server.put(dtab("web", &[("/http", "/host")]));
    let config = |own: &str| {
        format!(
            "discovery: {{ kubernetes: {{}} }}\nnamers: [{{ kind: io.l5d.fs, prefix: /files }}]\n\
             outgoing: {{ dstPrefix: /http, dtab: '{own}', interpreter: {{ kind: io.l5d.k8s.dtabs, namespace: l5d, name: web }} }}\n"
        )
    };
    let right = operator.file("right.yaml", &config("/host => /#/files"));
    let exit = operator.dtab(&["check", "l5d/web", "--config", &right]);
    assert_eq!((exit.code, &*exit.stderr), (Some(0), ""));
    let wrong = operator.file("wrong.yaml", &config("/other => /#/files"));
    assert!(
        operator.dtab(&["check", "l5d/web", "--config", &wrong]).stderr.contains("no entry is for /host")
    );
    let file = operator.file("web.dtab", "/svc => /#/files");
    let exit = operator.dtab(&["check", "l5d/web", "--file", &file, "--config", &right]);
    assert!(exit.stderr.contains("outgoing.dstPrefix: requests' names begin with /http"), "{}", exit.stderr);
    operator.server.put(dtab("other", &TWO));
    let exit = operator.dtab(&["check", "l5d/other", "--config", &right]);
    assert_eq!(exit.code, Some(64));
    assert!(exit.stderr.contains("no router of") && exit.stderr.contains("Dtab l5d/web"), "{}", exit.stderr);
}

#[test]
fn an_edit_by_set_is_in_force_within_a_second() {
    let operator = Operator::new();
    let [one, two] = ["one", "two"].map(|name| Backend::http().answers(name).start());
    let to = |it: &Backend| format!("/svc/web => /$/inet/127.1/{} ;\n", it.addr().port());
    let files = [operator.file("one", &to(&one)), operator.file("two", &to(&two))];
    operator.says(&["set", "l5d/web", "-f", &files[0]]);
    let interpreter = "{ kind: io.l5d.k8s.dtabs, namespace: l5d, name: web }";
    let weir = following(&operator.server);
    let weir =
        weir.set("outgoing", &format!("{{ listen: 127.0.0.1:0, interpreter: {interpreter} }}")).start();
    eventually("the dtab", || weir.get("http://web/").text() == "one");
    let mut took = Vec::new();
    for (file, name) in [(1, "two"), (0, "one"), (1, "two")] {
        operator.says(&["set", "l5d/web", "-f", &files[file]]);
        let edited = Instant::now();
        eventually("the edit", || weir.get("http://web/").text() == name);
        took.push(edited.elapsed());
    }
    // A busy machine may keep one of them waiting, and not all.
    assert!(took.iter().min() < Some(&Duration::from_secs(1)), "{took:?}");
}

#[test]
fn the_roles_for_operators_allow_what_is_asked_and_name_the_group() {
    let operator = Operator::new();
    let file = operator.file("web.dtab", TWO_LINES);
    for arguments in [
        &["get"][..],
        &["set", "l5d/web", "-f", &file],
        &["get", "l5d/web"],
        &["set", "l5d/web", "-f", &operator.file("other", "/a => /b")],
        &["check", "l5d/web"],
        &["diff", "l5d/web", "-f", &file],
    ] {
        operator.dtab(arguments);
    }
    let asked: BTreeSet<_> =
        operator.server.seen().iter().filter(|it| it.plural == "dtabs").map(|it| it.verb).collect();
    assert_eq!(asked, BTreeSet::from(["create", "get", "list", "update"]));
    let roles = include_str!("../../../../deploy/kubernetes/components/dtabs/operators.yaml");
    let rules: Vec<_> = roles.lines().filter_map(|line| line.trim().strip_prefix("verbs: ")).collect();
    assert_eq!(rules, ["[get, list, watch]", "[get, list, watch, create, update, patch, delete]"]);
    for label in ["aggregate-to-view", "aggregate-to-edit", "aggregate-to-admin"] {
        assert!(roles.contains(&format!("rbac.authorization.k8s.io/{label}: \"true\"")), "{label}");
    }
}

#[test]
fn a_pods_service_account_is_taken_where_there_is_no_kubeconfig() {
    if !e2e::net::is_root() {
        return;
    }
    let authority = Authority::new();
    let server = ApiServer::start_secured(&authority);
    server.define_custom();
    server.faults(|faults| faults.token = Some("pods".to_owned()));
    let mut own = dtab("web", &TWO);
    own["metadata"]["namespace"] = json!("weir");
    server.put(own);
    let account = account(&authority, "pods");
    let weir = Weir::new().with_account(account.path()).env("KUBECONFIG", "");
    let home = weir.folder().path().to_str().unwrap().to_owned();
    let weir = weir
        .env("HOME", &home)
        .env("KUBERNETES_SERVICE_HOST", &server.address().ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", &server.address().port().to_string());
    // Without a namespace, the account's.
    let exit = weir.run(&["dtab", "get", "web"]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stdout.starts_with("# Dtab weir/web, version "), "{}", exit.stdout);
    let exit = weir.run(&["dtab", "get", "web", "--context", "other"]);
    assert!(exit.code == Some(1) && exit.stderr.contains("no kubeconfig for the context"), "{}", exit.stderr);
}
