//! What `weir dtab` says when it cannot do what it was asked for: one sentence, with what to do, and an exit code.

use e2e::Weir;
use e2e::kube::{ApiServer, Refusal};
use serde_json::json;

use super::dtab_command::Operator;

const LINES: &str = "/svc => /#/io.l5d.fs ;\n";

fn stocked() -> Operator {
    let operator = Operator::new();
    operator.server.put(json!({
        "kind": "Dtab", "metadata": { "name": "web", "namespace": "l5d" },
        "dentries": [{ "prefix": "/svc", "dst": "/#/io.l5d.k8s/default/http" }],
    }));
    operator
}

/// Fails with one line on standard error that has `said` in it, and nothing on standard output.
#[track_caller]
fn fails(operator: &Operator, arguments: &[&str], code: i32, said: &str) {
    let exit = operator.dtab(arguments);
    assert_eq!(exit.code, Some(code), "{arguments:?}: {}{}", exit.stdout, exit.stderr);
    let is_one_line = exit.stderr.trim_end().lines().count() == 1 && exit.stdout.is_empty();
    assert!(
        is_one_line && exit.stderr.contains(said),
        "{arguments:?}: {said}\n{}{}",
        exit.stdout,
        exit.stderr
    );
}

/// Each command with the least it needs.
fn commands(file: &str) -> [(&'static str, Vec<&str>, i32); 4] {
    [
        ("get", vec!["get", "l5d/web"], 1),
        ("get", vec!["set", "l5d/web", "-f", file], 1),
        // 1 would mean that there are differences.
        ("get", vec!["diff", "l5d/web", "-f", file], 2),
        ("get", vec!["check", "l5d/web"], 1),
    ]
}

#[test]
fn a_cluster_without_the_type_says_where_it_is() {
    let operator = Operator::of(ApiServer::start());
    let file = operator.file("web.dtab", LINES);
    for (_, arguments, code) in commands(&file) {
        fails(
            &operator,
            &arguments,
            code,
            "does not know the type Dtab (l5d.io/v1alpha1): apply deploy/kubernetes",
        );
    }
    fails(&operator, &["get"], 1, "does not know the type Dtab");
}

#[test]
fn a_missing_right_says_which_rule_it_needs() {
    let operator = stocked();
    let file = operator.file("web.dtab", LINES);
    let rule = |verb: &str, scope: &str| {
        format!("a role has to allow `{verb}` of `dtabs` in the API group l5d.io, {scope}")
    };
    operator.server.refuse("dtabs", Refusal::Forbidden);
    for (verb, arguments, code) in commands(&file) {
        fails(
            &operator,
            &arguments,
            code,
            &rule(verb, "in the namespace l5d; the ClusterRoles weir-dtab-viewer and"),
        );
    }
    fails(&operator, &["get"], 1, &rule("list", "in every namespace, by a ClusterRoleBinding"));
    fails(&operator, &["get", "l5d/"], 1, &rule("list", "in the namespace l5d"));
    operator.server.heal();
    for (verb, name) in [("update", "l5d/web"), ("create", "l5d/new")] {
        operator.server.refuse(&format!("{verb} dtabs"), Refusal::Forbidden);
        for more in [&[][..], &["--dry-run"]] {
            fails(
                &operator,
                &[&["set", name, "-f", &file], more].concat(),
                1,
                &rule(verb, "in the namespace l5d"),
            );
        }
    }
    operator.server.refuse("configmaps", Refusal::Forbidden);
    let rule = "allow `get` of `configmaps` in the API group \"\", in the namespace l5d";
    fails(&operator, &["get", "l5d/dtabs", "--key", "x"], 1, rule);
}

#[test]
fn what_is_not_there_is_said() {
    let operator = stocked();
    fails(&operator, &["get", "l5d/none"], 1, "weir: there is no Dtab l5d/none");
    fails(&operator, &["check", "l5d/none"], 1, "weir: there is no Dtab l5d/none");
    fails(&operator, &["get", "web"], 1, "weir: there is no Dtab default/web");
    fails(&operator, &["get", "l5d/none", "--key", "x"], 1, "there is no ConfigMap l5d/none (x)");
    operator.server.put(json!({ "kind": "ConfigMap", "metadata": { "name": "dtabs", "namespace": "l5d" } }));
    fails(&operator, &["get", "l5d/dtabs", "--key", "x"], 1, "there is no text under data.x");
    fails(&operator, &["check", "l5d/dtabs", "--key", "x"], 78, "there is no text under data.x");
}

#[test]
fn what_is_too_large_is_said_before_it_is_sent_or_by_the_server() {
    let operator = stocked();
    let many = |count: usize| "/svc/x => /#/io.l5d.fs/y ;\n".repeat(count);
    let entries = operator.dtab(&["set", "l5d/web", "-f", &operator.file("many", &many(10_001))]);
    assert!(entries.code == Some(78) && entries.stderr.contains("10000"), "{}", entries.stderr);
    let long = format!("/svc => /{}", "x".repeat(1 << 20));
    let bytes = operator.dtab(&["set", "l5d/web", "-f", &operator.file("long", &long)]);
    assert!(bytes.code == Some(78) && bytes.stderr.contains("bytes"), "{}", bytes.stderr);
    let larger = operator.dtab(&["check", "-f", &operator.file("larger", &"/".repeat((3 << 20) + 1))]);
    assert!(larger.code == Some(78) && larger.stderr.contains("larger than 3 MiB"), "{}", larger.stderr);
    assert_eq!(operator.server.seen().len(), 0, "nothing was sent");
    // As many entries as a dtab may have are taken, and so are those that the server thinks too large refused.
    let most = operator.file("most", &many(10_000));
    assert!(operator.says(&["set", "l5d/most", "-f", &most]).contains("10000 entries"));
    let mut object = operator.server.object("dtabs", "l5d", "most").unwrap();
    object["kind"] = json!("Dtab");
    let listed = operator.file("most.json", &object.to_string());
    assert!(operator.says(&["check", "-f", &listed, "l5d/most"]).contains("10000 entries"));
    let notes = json!({ "x": "y".repeat(1_200_000) });
    object["metadata"] = json!({ "name": "fat", "namespace": "l5d", "annotations": notes });
    operator.server.put(object);
    let said = "Dtab l5d/fat would be too large for the API server (Request entity too large";
    let other = operator.file("other", &many(9_999));
    let exit = operator.dtab(&["set", "l5d/fat", "-f", &other]);
    assert!(exit.code == Some(1) && exit.stderr.contains(said), "{}", exit.stderr);
}

#[test]
fn wrong_names_files_and_usage_are_told_apart_by_the_exit_code() {
    let operator = stocked();
    let file = operator.file("web.dtab", LINES);
    for name in ["L5d/web", "l5d/web/x", "l5d/we b", "../web", "l5d/", ""] {
        fails(&operator, &["set", name, "-f", &file], 64, "is no name of an object");
    }
    fails(&operator, &["get", "l5d/dtabs", "--key", "a/b"], 64, "is no key of a ConfigMap");
    fails(&operator, &["get", "--key", "a"], 64, "--key goes with the name of a ConfigMap");
    fails(&operator, &["set", "l5d/web", "-f", "missing"], 78, "missing: cannot be read: No such file");
    let other =
        operator.file("other.yaml", "kind: Dtab\nmetadata: { name: web, namespace: shop }\ndentries: []\n");
    fails(&operator, &["set", "l5d/web", "-f", &other], 78, "is in the namespace shop");
    fails(&operator, &["set", "shop/new", "-f", &other], 78, "no Dtab is called `new` here");
    for arguments in
        [&["dtab"][..], &["dtab", "set", "l5d/web"], &["dtab", "check"], &["dtab", "delete", "l5d/web"]]
    {
        assert_eq!(operator.weir.run(arguments).code, Some(64), "{arguments:?}");
    }
}

#[test]
fn a_server_that_is_not_there_or_does_not_know_us_is_one_sentence() {
    let operator = stocked();
    operator.server.faults(|faults| faults.token = Some("other".to_owned()));
    fails(&operator, &["get", "l5d/web"], 1, "does not take these credentials (401");
    operator.server.heal();
    operator.server.refuse("dtabs", Refusal::TooMany(3));
    fails(&operator, &["get", "l5d/web"], 1, "asks for patience");
    operator.server.refuse("dtabs", Refusal::Broken(500));
    fails(&operator, &["get", "l5d/web"], 1, "the API server refused (500");
    operator.server.down();
    fails(&operator, &["get", "l5d/web"], 1, "the API server cannot be reached");
    let file = operator.file("web.dtab", LINES);
    fails(&operator, &["diff", "l5d/web", "-f", &file], 2, "the API server cannot be reached");
}

#[test]
fn the_cluster_is_the_flags_or_the_environments_or_the_homes() {
    let [one, two] = [stocked(), stocked()];
    let (folder, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let other = two.server.kubeconfig(folder.path());
    one.says(&["get", "l5d/web", "--kubeconfig", other.to_str().unwrap()]);
    assert_eq!((one.server.seen().len(), two.server.seen().len()), (0, 1));
    one.says(&["get", "l5d/web"]);
    assert_eq!(one.server.seen().len(), 1);
    fails(&one, &["get", "l5d/web", "--context", "none"], 1, "no way to the API server is configured: ");
    fails(&one, &["get", "l5d/web", "--kubeconfig", "none"], 1, "no way to the API server is configured: ");
    std::fs::create_dir(home.path().join(".kube")).unwrap();
    std::fs::rename(&other, home.path().join(".kube/config")).unwrap();
    let weir = Weir::new().env("KUBECONFIG", "").env("HOME", home.path().to_str().unwrap());
    assert_eq!(weir.run(&["dtab", "get", "l5d/web"]).code, Some(0));
    assert_eq!(two.server.seen().len(), 2);
    // A kubeconfig that is named has to be there, whatever else is.
    let weir = weir.env("KUBECONFIG", "/nowhere/config");
    let exit = weir.run(&["dtab", "get", "l5d/web"]);
    assert!(exit.code == Some(1) && exit.stderr.contains("/nowhere/config"), "{}", exit.stderr);
}
