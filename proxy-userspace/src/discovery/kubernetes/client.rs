//! The API server's client: kube-rs's parts (TLS, credentials) on a connection that detects a dead peer.
//!
//! A watch only receives, so nothing it sends reveals that the server is gone after a power loss, or that a load
//! balancer dropped the connection. TCP keep-alive does, long before `silence` would. kube-rs's own client has none,
//! uses a proxy from the environment (which may be weir itself), and logs each failure as an error.
//!
//! HTTP/1.1, so one connection per watch: kube-rs does not offer HTTP/2 by ALPN.

use std::sync::Arc;
use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::BoxError;
use tower::util::MapErr;

use super::detour::{Detour, Reach};
use crate::config::Kubernetes;

/// Unanswered keep-alive probes after which a connection is closed.
const UNANSWERED: u32 = 3;

/// Creates a client of the server in `config`. It may run a credential plugin, which may block for any time: do not
/// call it on a thread with other work.
///
/// # Errors
///
/// A certificate is invalid, or the plugin fails.
pub(super) fn client(config: &Config, settings: &Kubernetes, detour: Arc<Detour>) -> kube::Result<Client> {
    let reach = Reach::new(tcp(settings.read_timeout), detour, settings.connect_timeout);
    let connector = config.rustls_https_connector_with_connector(reach)?;
    let mut connector = TimeoutConnector::new(connector);
    connector.set_connect_timeout(Some(settings.connect_timeout));
    connector.set_write_timeout(Some(settings.read_timeout));
    let http = HttpClient::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
    let http = MapErr::new(http, BoxError::from);
    let builder =
        ClientBuilder::new(http, &*config.default_namespace).with_layer(&config.extra_headers_layer()?);
    let to_server = config.base_uri_layer();
    Ok(match config.auth_layer()? {
        Some(credentials) => builder.with_layer(&credentials).with_layer(&to_server).build(),
        None => builder.with_layer(&to_server).build(),
    })
}

/// Connections are closed twice `read_timeout` after the last received packet, in whole seconds: the first keep-alive
/// probe is sent after one `read_timeout`, the others within the second.
fn tcp(read_timeout: Duration) -> HttpConnector {
    let second = Duration::from_secs(1);
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(read_timeout.max(second)));
    tcp.set_keepalive_interval(Some((read_timeout / UNANSWERED).max(second)));
    tcp.set_keepalive_retries(Some(UNANSWERED));
    tcp
}
