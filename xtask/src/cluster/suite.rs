//! The suite's steps, in the order of a platform engineer's first day with weir.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::kubectl::{Kubectl, Presence};
use super::load::Load;
use crate::process::root;
use crate::steps::Steps;

/// All that weir and the example put into a cluster: what is in a namespace goes and stays with it.
const TRACES: [&str; 4] =
    ["namespace/hello", "namespace/weir", "clusterrole/weir", "clusterrolebinding/weir"];
const WORKLOADS: [&str; 5] = ["hello", "world", "diverted", "explicit", "kismatic"];
const EXAMPLE: &str = "deploy/kubernetes/examples/hello-world";

/// Runs it; what `overlay` installs is weir.
pub(crate) fn run(steps: &mut Steps, kubectl: &Kubectl, overlay: &Path) -> Result<()> {
    steps.step("a cluster without weir", || untouched(kubectl))?;
    let weir = overlay.to_str().context("the overlay's path is not UTF-8")?;
    let example = root().join(EXAMPLE);
    let example = example.to_str().context("the project's path is not UTF-8")?;
    let tested = tested(steps, kubectl, weir, example);
    let removed = steps.step("take away what is left", || removed(kubectl, &[example, weir]));
    tested.and(removed)
}

fn tested(steps: &mut Steps, kubectl: &Kubectl, weir: &str, example: &str) -> Result<()> {
    steps.step("install", || {
        kubectl.run(&["apply", "--kustomize", weir])?;
        kubectl.rolled_out("weir", "daemonset/weir")
    })?;
    steps.step("deploy hello and world", || {
        kubectl.run(&["apply", "--kustomize", example])?;
        WORKLOADS.iter().try_for_each(|name| kubectl.rolled_out("hello", &format!("deployment/{name}")))
    })?;
    steps.step("nothing at all: a connection is diverted", || diverted(kubectl))?;
    steps.step("the explicit way: by the node's address", || explicit(kubectl))?;
    steps.step("replace and kill pods under load", || {
        let load = Load::start(kubectl)?;
        kubectl.run(&["--namespace=hello", "rollout", "restart", "deployment/world"])?;
        kubectl.rolled_out("hello", "deployment/world")?;
        let pod =
            kubectl.output(&["--namespace=hello", "get", "pods", "--selector=app=world", "--output=name"])?;
        let pod = pod.lines().next().context("no pod of world")?;
        kubectl.run(&["--namespace=hello", "delete", pod, "--grace-period=0", "--force"])?;
        kubectl.rolled_out("hello", "deployment/world")?;
        load.stop().map(drop)
    })?;
    steps.step("roll the DaemonSet under load", || {
        let load = Load::start(kubectl)?;
        kubectl.run(&["--namespace=weir", "rollout", "restart", "daemonset/weir"])?;
        kubectl.rolled_out("weir", "daemonset/weir")?;
        load.stop()?;
        diverted(kubectl)
    })?;
    steps.step("uninstall under load", || {
        let load = Load::start(kubectl)?;
        kubectl.run(&["delete", "--kustomize", weir, "--wait"])?;
        load.stop().map(drop)
    })
}

/// Where there is a weir already, it is somebody's.
fn untouched(kubectl: &Kubectl) -> Result<()> {
    kubectl.run(&["version"])?;
    for object in TRACES {
        if kubectl.presence(object)? == Presence::There {
            bail!("{object} is there already: the suite runs only where it can neither harm nor be misled");
        }
    }
    Ok(())
}

fn diverted(kubectl: &Kubectl) -> Result<()> {
    let before = diversions(kubectl)?;
    let answer = kubectl.inside("diverted", "curl -sS -m 10 http://world/hostname")?;
    if !answer.starts_with("world-") {
        bail!("world answered {answer:?}");
    }
    let after = diversions(kubectl)?;
    if after <= before {
        bail!(
            "the answer came, but not through weir: {before} connections were diverted before and {after} after"
        );
    }
    Ok(())
}

fn explicit(kubectl: &Kubectl) -> Result<()> {
    let answer = kubectl.inside("explicit", "curl -sS -m 10 -D- http://world.hello/hostname")?;
    match answer.lines().any(|line| line.to_ascii_lowercase().starts_with("via: 1.1 weir")) {
        true => Ok(()),
        false => bail!("the answer did not come through weir:\n{answer}"),
    }
}

/// How many connections all weirs have diverted.
fn diversions(kubectl: &Kubectl) -> Result<f64> {
    Ok(kubectl.metrics()?.iter().map(|metrics| diversions_of(metrics)).sum())
}

/// The same in one weir's metrics.
pub(super) fn diversions_of(metrics: &str) -> f64 {
    let counts = metrics.lines().filter_map(|line| {
        line.strip_prefix("weir_interception_decisions_total{decision=\"diverted\"} ")?
            .trim()
            .parse::<f64>()
            .ok()
    });
    counts.sum()
}

/// Deletes what may be left and looks whether anything is.
fn removed(kubectl: &Kubectl, kustomizations: &[&str]) -> Result<()> {
    for folder in kustomizations {
        kubectl.run(&["delete", "--kustomize", folder, "--ignore-not-found", "--wait"])?;
    }
    for object in TRACES {
        if kubectl.presence(object)? == Presence::There {
            bail!("{object} is left behind");
        }
    }
    Ok(())
}
