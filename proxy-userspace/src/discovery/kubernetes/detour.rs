//! A fallback to the API server while its Service's address does not work: the last known endpoints of that Service.
//!
//! In a cluster the server is reached at the address of the Service `default/kubernetes`, which kube-proxy or a
//! replacement must implement. After an outage that can take most of a minute longer than the server itself. Its
//! endpoints are in the catalog, so they are tried one after another once the Service's address has refused, or has not
//! answered for a while; the first connection wins. TLS does not change: the certificate must match the configured
//! address.
//!
//! Deliberately absent: plain-text servers (a new owner of the address would get the token), servers that are not that
//! Service, and any state kept over a restart.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower::{BoxError, Service};

use super::health::Health;
use crate::domain::catalog::{Catalog, Condition, Namer, ServiceKey};

/// Maximum endpoints tried per connection; a cluster has three or five of them.
const MOST: usize = 8;

/// The fraction of the connect timeout after which the next address is tried in parallel.
const HEAD_START: u32 = 6;

/// The names of the Service, without the cluster domain.
const NAMES: [&str; 3] = ["kubernetes.default.svc", "kubernetes.default", "kubernetes"];

/// What is known of the API server's Service.
#[derive(Debug, Default)]
pub(super) struct Detour {
    known: Mutex<Known>,
    /// Whether the last connection was made to an endpoint.
    taken: AtomicBool,
    health: Arc<Health>,
}

/// The Service, as last reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    addresses: Vec<IpAddr>,
    /// Its ports, each with its last endpoints.
    ports: Vec<(u16, Vec<SocketAddr>)>,
}

impl Detour {
    pub(super) fn new(health: Arc<Health>) -> Self {
        Self { health, ..Self::default() }
    }

    /// Takes the Service from the catalog. A port without endpoints keeps its previous ones: the server that reports
    /// none may be the last of them.
    pub(super) fn follow(&self, catalog: &Catalog) {
        let key = ServiceKey { namer: Namer::K8s, namespace: "default".into(), name: "kubernetes".into() };
        let Some(service) = catalog.services.get(&key) else { return };
        let mut known = self.known.lock();
        let before = std::mem::take(&mut known.ports);
        known.addresses = service.addresses.iter().map(IpAddr::to_canonical).collect();
        known.ports = service
            .ports
            .iter()
            .map(|port| {
                let mut endpoints: Vec<(Condition, SocketAddr)> =
                    port.endpoints.iter().map(|it| (it.condition, it.address)).collect();
                // Ready endpoints first.
                endpoints.sort_unstable();
                let endpoints: Vec<_> = endpoints.into_iter().map(|(_, address)| address).collect();
                let kept =
                    || before.iter().find(|(number, _)| *number == port.number).map(|(_, it)| it.clone());
                let endpoints = if endpoints.is_empty() { kept().unwrap_or_default() } else { endpoints };
                (port.number, endpoints)
            })
            .collect();
    }

    /// The endpoints of the server at `server`; none unless it is the Service, with TLS.
    pub(super) fn endpoints(&self, server: &Uri) -> Vec<SocketAddr> {
        let host = server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let known = self.known.lock();
        let is_service = match host.parse::<IpAddr>() {
            Ok(address) => known.addresses.contains(&address.to_canonical()),
            Err(_) => is_its_name(host),
        };
        if server.scheme_str() != Some("https") || !is_service {
            return Vec::new();
        }
        let number = server.port_u16().unwrap_or(443);
        let port = known.ports.iter().find(|(it, _)| *it == number);
        port.map_or_else(Vec::new, |(_, endpoints)| endpoints.iter().copied().take(MOST).collect())
    }

    /// Records a connection: to this endpoint, or to the configured address. Logs each change once.
    fn connected(&self, endpoint: Option<SocketAddr>) {
        let before = self.taken.swap(endpoint.is_some(), Ordering::Relaxed);
        match endpoint {
            Some(endpoint) => {
                self.health.by_endpoint.inc();
                if !before {
                    tracing::warn!(%endpoint, "the API server's Service does not answer: it is asked by an endpoint of it");
                }
            }
            None if before => tracing::info!("the API server's Service answers again"),
            None => {}
        }
    }
}

/// Whether this is `kubernetes.default.svc`, with or without a cluster domain.
fn is_its_name(host: &str) -> bool {
    let below = |name: &str| {
        host.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            && (host.len() == name.len() || name == NAMES[0] && host.as_bytes()[name.len()] == b'.')
    };
    NAMES.into_iter().any(below)
}

/// Connects by TCP: to the requested address, and to the Service's endpoints if that fails.
#[derive(Clone)]
pub(super) struct Reach {
    tcp: HttpConnector,
    detour: Arc<Detour>,
    /// How long to wait for an address before the next is tried.
    head_start: Duration,
}

impl Reach {
    /// For connections with this `connect_timeout`, which the caller enforces.
    pub(super) fn new(tcp: HttpConnector, detour: Arc<Detour>, connect_timeout: Duration) -> Self {
        Self { tcp, detour, head_start: connect_timeout / HEAD_START }
    }
}

/// An established connection, or the error.
type Connected = Result<TokioIo<TcpStream>, BoxError>;

impl Service<Uri> for Reach {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Connected> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let endpoints = self.detour.endpoints(&server);
        Box::pin(connect(self.tcp.clone(), server, endpoints, self.head_start, self.detour.clone()))
    }
}

/// The first connection that succeeds. If none does, returns the error of the requested address.
async fn connect(
    tcp: HttpConnector,
    server: Uri,
    endpoints: Vec<SocketAddr>,
    head_start: Duration,
    detour: Arc<Detour>,
) -> Connected {
    let attempt = |to: Uri, endpoint: Option<SocketAddr>| {
        let mut tcp = tcp.clone();
        async move { (tcp.call(to).await, endpoint) }
    };
    let mut attempts = JoinSet::new();
    attempts.spawn(attempt(server, None));
    let mut endpoints = endpoints.into_iter();
    let mut error: Option<BoxError> = None;
    loop {
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok((Ok(stream), endpoint))) => {
                    detour.connected(endpoint);
                    return Ok(stream);
                }
                Some(Ok((Err(why), endpoint))) => {
                    if endpoint.is_none() || error.is_none() {
                        error = Some(why.into());
                    }
                }
                Some(Err(panicked)) => error = error.or_else(|| Some(panicked.into())),
                // Every attempt has failed, and no endpoint is left.
                None => return Err(error.unwrap_or_else(|| "no address to connect to".into())),
            },
            () = sleep(head_start), if endpoints.len() > 0 => {}
        }
        // After a failure, or its head start, try the next one.
        if let Some(endpoint) = endpoints.next() {
            // `http`, because only TCP is needed.
            let to = Uri::try_from(format!("http://{endpoint}/"));
            attempts.spawn(attempt(to?, Some(endpoint)));
        }
    }
}

#[cfg(test)]
#[path = "tests/detours.rs"]
mod tests;
