//! kubectl, run with the cluster's configuration.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;

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

    /// Prints what there is to see of a cluster where something went wrong: the pods, what happened to them, and what
    /// every weir said. What cannot be had is left out; nothing of it is an error.
    pub(crate) fn explain(&self) {
        const PATIENCE: &str = "--request-timeout=20s";
        for namespace in ["weir", "hello"] {
            let namespace = format!("--namespace={namespace}");
            for arguments in [
                [
                    "get",
                    "daemonsets,deployments,pods,services,endpointslices",
                    "--output=wide",
                    "--ignore-not-found",
                ],
                ["get", "events", "--sort-by=.lastTimestamp", "--ignore-not-found"],
            ] {
                let _ = self.run(&[&[&*namespace, PATIENCE][..], &arguments].concat());
            }
        }
        let selector = "--selector=app.kubernetes.io/name=weir";
        let of_weir = ["--namespace=weir", PATIENCE, "logs", selector, "--prefix", "--tail=50"];
        let _ = self.run(&of_weir);
    }
}
