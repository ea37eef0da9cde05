//! `cargo xtask test --kubeconfig FILE`: the second suite, on a real cluster.
//!
//! It does by kubectl what a platform engineer would: installs weir and the example, looks whether connections are
//! diverted, kills pods and rolls the DaemonSet while diverted and explicit requests run, uninstalls, and looks whether
//! anything is left. An answer is a success only if it went through weir; where a step fails, the pods, their events and
//! weir's logs are shown.
//! It touches a cluster only where there is no weir and no example yet, and takes away what it has put there, also
//! when a step fails.
//!
//! What it needs: a user who may create ClusterRoles and privileged namespaces, nodes that can pull the example's image
//! (registry.k8s.io/e2e-test-images/agnhost), and weir's image either in a registry (`--image`) or loaded on every node
//! beforehand (`cargo xtask image`, then `kind load image-archive` or `ctr -n k8s.io images import`).

mod kubectl;
mod load;
mod overlay;
mod suite;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Result;

use crate::steps::Steps;
use kubectl::Kubectl;

#[derive(clap::Args, Default)]
#[group(id = "cluster")]
pub(crate) struct Options {
    /// Test on the cluster of this kubeconfig, instead of this machine's tests
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// weir's image, for the cluster's nodes to pull or to have already
    #[arg(long, value_name = "NAME:TAG", default_value = concat!("weir:", env!("CARGO_PKG_VERSION")), requires = "kubeconfig")]
    pub(crate) image: String,
    /// The kubectl to use
    #[arg(long, value_name = "PATH", default_value = "kubectl", requires = "kubeconfig")]
    pub(crate) kubectl: PathBuf,
}

/// Runs the suite on the cluster of this kubeconfig.
pub(crate) fn run(steps: &mut Steps, options: &Options, kubeconfig: PathBuf) -> Result<()> {
    let overlay = overlay::Overlay::write(&options.image)?;
    let kubectl = Kubectl::new(options.kubectl.clone(), kubeconfig);
    suite::run(steps, &kubectl, overlay.path())
}
