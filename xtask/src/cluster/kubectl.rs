//! kubectl, run with the cluster's configuration.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{output, run};

/// Whether an object is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    There,
    Gone,
}

/// A kubectl that talks to one cluster.
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { program, kubeconfig }
    }

    /// The command, for what the others do not do.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs it with our terminal.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<()> {
        run(&mut self.command(arguments))
    }

    /// What it prints.
    pub(crate) fn output(&self, arguments: &[&str]) -> Result<String> {
        output(&mut self.command(arguments))
    }

    /// Whether the object is there: `KIND/NAME`. An API server that cannot be asked is an error, not an absence.
    pub(crate) fn presence(&self, object: &str) -> Result<Presence> {
        let said = self.output(&["get", object, "--ignore-not-found", "--output=name"])?;
        Ok(if said.trim().is_empty() { Presence::Gone } else { Presence::There })
    }

    /// Waits until a workload's pods are all new and ready.
    pub(crate) fn rolled_out(&self, namespace: &str, workload: &str) -> Result<()> {
        self.run(&["--namespace", namespace, "rollout", "status", workload, "--timeout=180s"])
    }

    /// Runs a script in a pod of this deployment of the example; what it prints.
    pub(crate) fn inside(&self, deployment: &str, script: &str) -> Result<String> {
        let pod = format!("deployment/{deployment}");
        self.output(&["--namespace", "hello", "exec", &pod, "--", "sh", "-c", script])
    }

    /// The metrics of every weir, by way of the API server.
    pub(crate) fn metrics(&self) -> Result<Vec<String>> {
        let names = self.output(&[
            "--namespace=weir",
            "get",
            "pods",
            "--selector=app.kubernetes.io/name=weir",
            "--output=jsonpath={.items[*].metadata.name}",
        ])?;
        let path = |name: &str| format!("/api/v1/namespaces/weir/pods/{name}:9991/proxy/metrics");
        let pods: Vec<_> = names.split_whitespace().collect();
        if pods.is_empty() {
            bail!("no weir runs");
        }
        pods.iter()
            .map(|name| {
                self.output(&["get", "--raw", &path(name)]).with_context(|| format!("the metrics of {name}"))
            })
            .collect()
    }
}
