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
        cluster.write("load", "ok=500 bad=0");
        cluster
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("a file of the cluster");
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
        "hello-world",
        "get --raw /api/v1/namespaces/weir/pods/weir-b:9991/proxy/metrics",
        "rollout restart deployment/world",
        "delete pod/world-1 --grace-period=0",
        "rollout restart daemonset/weir",
        "delete --kustomize /overlay",
    ]
    .map(at);
    assert!(order.is_sorted(), "{calls}");
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
fn a_request_that_fails_under_load_fails_the_suite() {
    let cluster = Cluster::new("load");
    cluster.write("load", "ok=499 bad=1");
    let error = format!("{:#}", cluster.run().expect_err("a request failed"));
    assert!(error.contains("1 requests failed"), "{error}");
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

#[test]
fn diversions_are_counted_by_their_label() {
    let metrics = "# TYPE weir_interception_decisions counter\n\
        weir_interception_decisions_total{decision=\"diverted\"} 7\n\
        weir_interception_decisions_total{decision=\"marked\"} 9\n# EOF\n";
    assert!((suite::diversions_of(metrics) - 7.0).abs() < f64::EPSILON);
}
