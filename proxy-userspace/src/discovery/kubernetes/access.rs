//! The way to the API server: where it is and who weir is.

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;

use super::failure::{Failure, chain};
use super::resource::Resource;
use crate::config::Kubernetes;

/// A client, made when it is first needed and again when it is not good any more.
pub(super) struct Access {
    settings: Kubernetes,
    client: Mutex<Option<Client>>,
}

impl Access {
    pub(super) fn new(settings: Kubernetes) -> Self {
        Self { settings, client: Mutex::new(None) }
    }

    /// The client. kube reads a service account's token anew each minute.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        if let Some(client) = &*self.client.lock() {
            return Ok(client.clone());
        }
        let mut config = self.config().await?;
        config.connect_timeout = Some(self.settings.connect_timeout);
        config.write_timeout = Some(self.settings.read_timeout);
        // Reading is timed by the callers, who know a list from a watch; and they decide about trying again.
        config.read_timeout = None;
        config.default_retry = false;
        let builder =
            ClientBuilder::try_from(config).map_err(|error| Failure::Misconfigured(chain(&error)))?;
        let client = builder.build();
        *self.client.lock() = Some(client.clone());
        Ok(client)
    }

    /// Makes the next client anew: its kubeconfig or its token may be another by now.
    pub(super) fn forget(&self) {
        *self.client.lock() = None;
    }

    async fn config(&self) -> Result<Config, Failure> {
        let wrong = |error: &dyn std::error::Error| Failure::Misconfigured(chain(error));
        let context = self.settings.context.clone();
        let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        if let Some(path) = &self.settings.kubeconfig {
            let file = Kubeconfig::read_from(path).map_err(|error| wrong(&error))?;
            return Config::from_custom_kubeconfig(file, &options).await.map_err(|error| wrong(&error));
        }
        match Config::incluster() {
            Ok(config) => Ok(config),
            Err(outside) => Config::from_kubeconfig(&options).await.map_err(|error| {
                Failure::Misconfigured(format!("{}; and {}", chain(&error), chain(&outside)))
            }),
        }
    }
}

/// This node's name: configured, told by the downward API, or the host's.
pub(super) fn node_name(settings: &Kubernetes) -> String {
    let configured = settings.node.clone();
    let told = || std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_lowercase());
    configured.or_else(told).or_else(|| host().ok()).unwrap_or_default()
}

/// What to say of a node name that leads to no node.
pub(super) fn misnamed(node: &str) -> String {
    let wrong = match node {
        "" => "this node's name is not known".to_owned(),
        node => format!("no node is called {node:?}"),
    };
    format!(
        "{wrong}: {} and {} are off; give its name by discovery.kubernetes.node or NODE_NAME",
        Resource::Pods.feature(),
        Resource::Node.feature()
    )
}
