//! The suite's steps, in the order of a platform engineer's first day with weir.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::kubectl::{Kubectl, Presence};
use super::load::{Besides, Client, Loads, URL};
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

/// A step; where it fails, what there is to see of the cluster is shown before anything is taken away.
fn step(steps: &mut Steps, kubectl: &Kubectl, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    steps.step(name, || work().inspect_err(|_| kubectl.explain()))
}

fn tested(steps: &mut Steps, kubectl: &Kubectl, weir: &str, example: &str) -> Result<()> {
    step(steps, kubectl, "install", || {
        kubectl.run(&["apply", "--kustomize", weir])?;
        kubectl.rolled_out("weir", "daemonset/weir")?;
        kubectl.run(&["--namespace=weir", "exec", "daemonset/weir", "--", "/usr/bin/weir", "status"])
    })?;
    step(steps, kubectl, "deploy hello and world", || {
        kubectl.run(&["apply", "--kustomize", example])?;
        WORKLOADS.iter().try_for_each(|name| kubectl.rolled_out("hello", &format!("deployment/{name}")))
    })?;
    step(steps, kubectl, "nothing at all: a connection is diverted", || {
        through_weir(kubectl, Client::Diverted)
    })?;
    step(steps, kubectl, "the explicit way: by the node's address", || {
        through_weir(kubectl, Client::Explicit)
    })?;
    step(steps, kubectl, "replace and kill pods under load", || {
        let loads = Loads::start(kubectl)?;
        kubectl.run(&["--namespace=hello", "rollout", "restart", "deployment/world"])?;
        kubectl.rolled_out("hello", "deployment/world")?;
        let pod =
            kubectl.output(&["--namespace=hello", "get", "pods", "--selector=app=world", "--output=name"])?;
        let pod = pod.lines().next().context("no pod of world")?;
        kubectl.run(&["--namespace=hello", "delete", pod, "--grace-period=0", "--force"])?;
        kubectl.rolled_out("hello", "deployment/world")?;
        loads.stop(Besides::Nothing)
    })?;
    step(steps, kubectl, "roll the DaemonSet under load", || {
        let loads = Loads::start(kubectl)?;
        kubectl.run(&["--namespace=weir", "rollout", "restart", "daemonset/weir"])?;
        kubectl.rolled_out("weir", "daemonset/weir")?;
        loads.stop(Besides::WeirIsAway)?;
        through_weir(kubectl, Client::Diverted)?;
        through_weir(kubectl, Client::Explicit)
    })?;
    step(steps, kubectl, "uninstall under load", || {
        let loads = Loads::start(kubectl)?;
        kubectl.run(&["delete", "--kustomize", weir, "--ignore-not-found", "--wait"])?;
        loads.stop(Besides::WeirIsAway)
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

/// Whether one request is answered by world, and through weir: an answer that came directly has no Via of weir's.
fn through_weir(kubectl: &Kubectl, client: Client) -> Result<()> {
    let answer = kubectl.inside(client.deployment(), &format!("curl -sS -m 10 -D- {URL}"))?;
    if !answer.lines().last().is_some_and(|line| line.starts_with("world-")) {
        bail!("{}: world answered {answer:?}", client.deployment());
    }
    if !answer.lines().any(|line| line.to_ascii_lowercase().starts_with("via: 1.1 weir")) {
        bail!("{}: the answer came, but not through weir:\n{answer}", client.deployment());
    }
    Ok(())
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
