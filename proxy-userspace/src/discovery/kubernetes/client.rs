//! The client that calls the API server: kube-rs's parts (TLS, credentials) on a connection that notices its own end.
//!
//! A watch only listens, so nothing that it sends tells it that its server is gone when a machine loses power or a load
//! balancer forgets the connection. Keep-alives of TCP do, long before `silence` would. kube-rs's own client has none, takes
//! a proxy from the environment (weir may well be that proxy), and logs each failure as an error.
//!
//! HTTP/1.1, so a connection for each watch: kube-rs offers no HTTP/2 by ALPN.

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

/// Unanswered keep-alives after which a connection is given up.
const UNANSWERED: u32 = 3;

/// A client of the server that `config` leads to. It may run a credential plugin, which takes what time it likes: not for a
/// thread that has other things to do.
///
/// # Errors
///
/// A certificate makes no sense, or the plugin fails.
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

/// Connections that are given up twice `read_timeout` after the last sign of life, in whole seconds: a first keep-alive
/// after one, the others within the second.
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
