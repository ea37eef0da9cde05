//! The way to the API server: where it is and who weir is.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::Mutex;

use super::failure::{Failure, chain};
use crate::config::Kubernetes;

/// Failures to reach the server in a row after which the way is looked up anew.
const UNREACHED: u32 = 10;

/// A client, made when it is first needed and again when it is not good any more.
pub(super) struct Access {
    settings: Kubernetes,
    /// Held while a client is made: all followers need one at the same moment, and one is enough.
    client: Mutex<Option<Client>>,
    /// Failures to reach the server since it last was reached, of all followers.
    unreached: AtomicU32,
    /// Whether it was said that `context` means nothing here.
    warned: AtomicBool,
}

impl Access {
    pub(super) fn new(settings: Kubernetes) -> Self {
        Self {
            settings,
            client: Mutex::default(),
            unreached: AtomicU32::new(0),
            warned: AtomicBool::new(false),
        }
    }

    /// The client. kube reads a service account's token anew each minute.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let mut made = self.client.lock().await;
        if let Some(client) = &*made {
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
        *made = Some(client.clone());
        Ok(client)
    }

    /// The server was reached.
    pub(super) fn reached(&self) {
        self.unreached.store(0, Ordering::Relaxed);
    }

    /// After a failure that another way to the server may help against, makes the next client anew: the kubeconfig may have
    /// another address by now, and other credentials.
    pub(super) async fn failed(&self, failure: &Failure) {
        let anew = match failure {
            Failure::Unauthorized(_) | Failure::Misconfigured(_) => true,
            Failure::Absent(_) | Failure::Unreachable(_) | Failure::Silent(_) => {
                (self.unreached.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(UNREACHED)
            }
            Failure::Gone
            | Failure::Forbidden(_)
            | Failure::Throttled(_)
            | Failure::Refused(_)
            | Failure::Garbage(_) => false,
        };
        if anew {
            *self.client.lock().await = None;
        }
    }

    fn warn_of_context(&self) {
        if let Some(context) = &self.settings.context
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                context,
                "the context means nothing to a service account, which leads to its own cluster"
            );
        }
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
            Ok(config) => {
                self.warn_of_context();
                Ok(config)
            }
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
        "{wrong}, so no pod is enrolled and the zone is unknown: set discovery.kubernetes.node or NODE_NAME"
    )
}
