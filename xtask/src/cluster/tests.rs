//! The suite on a cluster that a script pretends to be: in what order it acts, and what it does when a step fails.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::kubectl::Kubectl;
use super::suite;
use crate::steps::Steps;

/// Lies in the tree, since a program that a test has just written may still be open for writing in another's child.
const KUBECTL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cluster/pretend.sh");

struct Cluster(PathBuf);

impl Cluster {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("weir-xtask-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let cluster = Self(folder);
        std::os::unix::fs::symlink(KUBECTL, cluster.0.join("kubectl")).expect("a link to the script");
        cluster.write("fails", "no such call");
        cluster.write("via", "Via: 1.1 weir");
        cluster.load("diverted", "weir=500 direct=0 refused=0 failed=0 gap=0");
        cluster.load("explicit", "weir=500 direct=0 refused=0 failed=0 gap=0");
        cluster
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("a file of the cluster");
    }

    /// What the load of this client says of itself.
    fn load(&self, client: &str, said: &str) {
        self.write(&format!("load-{client}"), said);
    }

    fn run(&self) -> Result<()> {
        let kubectl = Kubectl::new(self.0.join("kubectl"), PathBuf::from("config"));
        suite::run(&mut Steps::default(), &kubectl, Path::new("/overlay"))
    }

    fn calls(&self) -> String {
        std::fs::read_to_string(self.0.join("calls")).expect("calls were noted")
    }

    fn is_empty(&self) -> bool {
        !self.0.join("weir").exists() && !self.0.join("hello").exists()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn where_all_is_well_it_installs_tests_and_takes_everything_away() {
    let cluster = Cluster::new("well");
    cluster.run().expect("all is well");
    let calls = cluster.calls();
    let at = |call: &str| calls.find(call).unwrap_or_else(|| panic!("no `{call}` in\n{calls}"));
    let order = [
        "apply --kustomize /overlay",
        "rollout status daemonset/weir",
        "exec daemonset/weir -- /usr/bin/weir status",
        "hello-world",
        "deployment/diverted -- sh -c curl",
        "deployment/explicit -- sh -c curl",
        "rollout restart deployment/world",
        "delete pod/world-1 --grace-period=0",
        "rollout restart daemonset/weir",
        "delete --kustomize /overlay",
    ]
    .map(at);
    assert!(order.is_sorted(), "{calls}");
    let of = |calls_of: &dyn Fn(&&str) -> bool| calls.lines().filter(calls_of).count();
    for client in ["diverted", "explicit"] {
        let pod = format!("exec deployment/{client} ");
        let begun = of(&|line| line.contains(&pod) && line.contains("while"));
        let ended = of(&|line| line.contains(&pod) && line.contains("touch /tmp/stop"));
        assert_eq!((begun, ended), (3, 3), "{client}: {calls}");
    }
    assert_eq!(of(&|line| line.contains("get events")), 0, "nothing failed: {calls}");
    assert!(cluster.is_empty());
}

#[test]
fn a_step_that_fails_is_the_error_and_everything_is_taken_away_all_the_same() {
    for fails in ["rollout status daemonset/weir", "apply --kustomize /overlay", "rollout restart daemonset"]
    {
        let cluster = Cluster::new(&fails.replace([' ', '/'], "-"));
        cluster.write("fails", fails);
        let error = cluster.run().expect_err("a step fails");
        assert!(format!("{error:#}").contains(fails.split(' ').next().expect("a word")), "{error:#}");
        assert!(cluster.is_empty(), "{fails}");
    }
}

#[test]
fn what_a_load_says_decides() {
    for (client, said, error) in [
        ("diverted", "weir=499 direct=0 refused=0 failed=1 gap=0", "diverted: 1 requests failed"),
        ("explicit", "weir=499 direct=0 refused=0 failed=1 gap=0", "explicit: 1 requests failed"),
        (
            "diverted",
            "weir=499 direct=1 refused=0 failed=0 gap=0",
            "diverted: 1 answers came, but not through weir",
        ),
        ("explicit", "weir=499 direct=0 refused=1 failed=0 gap=0", "explicit: 1 connects were refused"),
        ("diverted", "weir=0 direct=0 refused=0 failed=0 gap=0", "diverted: no request went through weir"),
        ("explicit", "error: unable to upgrade connection", "the load of explicit ended with"),
    ] {
        let cluster = Cluster::new("load");
        cluster.load(client, said);
        let complaint = format!("{:#}", cluster.run().expect_err(said));
        assert!(complaint.contains("replace and kill pods under load"), "{complaint}");
        assert!(complaint.contains(error), "{complaint}");
        assert!(cluster.is_empty());
    }
}

#[test]
fn an_answer_that_came_directly_is_no_success() {
    let cluster = Cluster::new("direct");
    cluster.write("via", "Server: agnhost");
    let error = format!("{:#}", cluster.run().expect_err("it did not go through weir"));
    assert!(error.contains("diverted: the answer came, but not through weir"), "{error}");
    assert!(cluster.is_empty());
}

/// Before anything is taken away, for afterwards there is nothing to see.
#[test]
fn where_a_step_fails_the_pods_and_what_happened_to_them_are_shown() {
    for fails in ["rollout status deployment/world", "rollout restart daemonset", "exec daemonset/weir"] {
        let cluster = Cluster::new(&format!("shown-{}", fails.replace([' ', '/'], "-")));
        cluster.write("fails", fails);
        cluster.run().expect_err("a step fails");
        let calls = cluster.calls();
        let shown = [
            "--namespace=weir --request-timeout=20s get daemonsets,deployments,pods",
            "--namespace=weir --request-timeout=20s get events",
            "--namespace=hello --request-timeout=20s get daemonsets,deployments,pods",
            "--namespace=hello --request-timeout=20s get events",
            "logs --selector=app.kubernetes.io/name=weir",
        ]
        .map(|call| calls.find(call).unwrap_or_else(|| panic!("no `{call}` in\n{calls}")));
        let (failed, removed) = (calls.find(fails), calls.find("delete --kustomize"));
        assert!(shown.iter().all(|at| failed < Some(*at) && Some(*at) < removed), "{calls}");
    }
}

/// Nor does it fail for another reason then.
#[test]
fn a_cluster_that_cannot_be_looked_at_is_taken_care_of_all_the_same() {
    let cluster = Cluster::new("blind");
    cluster.load("diverted", "weir=0 direct=0 refused=0 failed=7 gap=0");
    cluster.write("fails", "request-timeout");
    let error = format!("{:#}", cluster.run().expect_err("requests failed"));
    assert!(error.contains("diverted: 7 requests failed"), "{error}");
    assert!(cluster.is_empty());
}

#[test]
fn somebodys_weir_is_not_touched() {
    let cluster = Cluster::new("theirs");
    cluster.write("weir", "");
    let error = format!("{:#}", cluster.run().expect_err("a weir is there"));
    assert!(error.contains("namespace/weir is there already"), "{error}");
    assert!(!cluster.calls().contains("delete") && !cluster.calls().contains("apply"), "{}", cluster.calls());
}

#[test]
fn a_cluster_that_does_not_answer_is_not_taken_for_an_empty_one() {
    let cluster = Cluster::new("silent");
    cluster.write("fails", "get namespace");
    assert!(cluster.run().is_err());
    assert!(!cluster.calls().contains("apply"), "{}", cluster.calls());
}
