//! Access to the API server: its address and weir's credentials.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::sync::Mutex;

use super::client;
use super::detour::Detour;
use super::failure::{Failure, chain};
use crate::config::Kubernetes;

/// Consecutive failures to reach the server after which the client is created again.
const UNREACHED: u32 = 10;

/// A client, created when first needed and again when it no longer works.
pub(super) struct Access {
    settings: Kubernetes,
    detour: Arc<Detour>,
    /// Locked while a client is created: all followers need one at the same moment, and one is enough.
    client: Mutex<Option<Client>>,
    /// Failures of all followers to reach the server since it was last reached.
    unreached: AtomicU32,
    /// Whether the warning that `context` has no effect here was logged.
    warned: AtomicBool,
    /// Whether a kubeconfig is preferred to the pod's service account, as `kubectl` does.
    file_first: bool,
}

impl Access {
    pub(super) fn new(settings: Kubernetes, detour: Arc<Detour>) -> Self {
        Self {
            settings,
            detour,
            client: Mutex::default(),
            unreached: AtomicU32::new(0),
            warned: AtomicBool::new(false),
            file_first: false,
        }
    }

    /// The same for an operator's command: by a kubeconfig wherever there is one, as `kubectl` does.
    pub(super) fn of_operator(settings: Kubernetes) -> Self {
        Self { file_first: true, ..Self::new(settings, Arc::default()) }
    }

    /// The client. kube reads a service account's token anew each minute.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let mut made = self.client.lock().await;
        if let Some(client) = &*made {
            return Ok(client.clone());
        }
        let (config, settings) = (self.config().await?, self.settings.clone());
        let detour = self.detour.clone();
        let making = tokio::task::spawn_blocking(move || client::client(&config, &settings, detour));
        let client = match making.await {
            Ok(client) => client.map_err(|error| Failure::Misconfigured(chain(&error)))?,
            Err(panicked) => return Err(Failure::Misconfigured(chain(&panicked))),
        };
        *made = Some(client.clone());
        Ok(client)
    }

    /// Records that the server was reached.
    pub(super) fn reached(&self) {
        self.unreached.store(0, Ordering::Relaxed);
    }

    /// After a failure that new settings may cure, the next client is created again: the kubeconfig may have another
    /// address by now, and other credentials.
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
            | Failure::Garbage(_)
            | Failure::TooMany(_) => false,
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
        if let Some(path) = &self.settings.kubeconfig {
            return self.of_file(Kubeconfig::read_from(path)).await.map_err(Failure::Misconfigured);
        }
        if self.file_first {
            match Kubeconfig::read() {
                // There is none, or nobody's home to look in. One that `KUBECONFIG` names has to be there.
                Err(KubeconfigError::FindPath) => {}
                Err(KubeconfigError::ReadConfig(error, _))
                    if error.kind() == ErrorKind::NotFound
                        && std::env::var_os("KUBECONFIG").is_none_or(|paths| paths.is_empty()) => {}
                file => return self.of_file(file).await.map_err(Failure::Misconfigured),
            }
        }
        match Config::incluster() {
            Ok(_) if self.file_first && self.settings.context.is_some() => Err(Failure::Misconfigured(
                "there is no kubeconfig for the context, only the pod's service account".to_owned(),
            )),
            Ok(config) => {
                self.warn_of_context();
                Ok(config)
            }
            Err(outside) => {
                let outside = |why| Failure::Misconfigured(format!("{why}; and {}", chain(&outside)));
                self.of_file(Kubeconfig::read()).await.map_err(outside)
            }
        }
    }

    /// The configuration from a kubeconfig, or what is wrong with it.
    async fn of_file(&self, file: Result<Kubeconfig, KubeconfigError>) -> Result<Config, String> {
        let file = file.map_err(|error| chain(&error))?;
        let context = self.settings.context.clone();
        if let Some(proxy) = proxy(&file, context.as_deref()) {
            return Err(format!("the kubeconfig has the proxy-url {proxy}, and weir asks without a proxy"));
        }
        let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        Config::from_custom_kubeconfig(file, &options).await.map_err(|error| chain(&error))
    }
}

/// The proxy that the kubeconfig sets for the cluster. Proxy variables of the environment are ignored.
fn proxy<'f>(file: &'f Kubeconfig, context: Option<&str>) -> Option<&'f str> {
    let context = context.or(file.current_context.as_deref())?;
    let context = file.contexts.iter().find(|it| it.name == context)?.context.as_ref()?;
    let cluster = file.clusters.iter().find(|it| it.name == context.cluster)?.cluster.as_ref()?;
    cluster.proxy_url.as_deref().filter(|url| !url.is_empty())
}

/// This node's name: configured, from the downward API, or the host name.
pub fn node_name(settings: &Kubernetes) -> String {
    let configured = settings.node.clone();
    let told = || std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_lowercase());
    configured.or_else(told).or_else(|| host().ok()).unwrap_or_default()
}

/// The message about a node name that matches no node.
pub(super) fn misnamed(node: &str) -> String {
    let wrong = match node {
        "" => "this node's name is not known".to_owned(),
        node => format!("no node is called {node:?}"),
    };
    format!(
        "{wrong}, so no pod is enrolled and the zone is unknown: set discovery.kubernetes.node or NODE_NAME"
    )
}
