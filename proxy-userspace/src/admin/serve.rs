//! The admin's and the probes' listeners.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::{Desk, routes};
use crate::config::Allow;

/// Connections at most; more wait.
const CONNECTIONS: usize = 64;

/// How long a client may take over its request's head, and be idle.
const HEADER_READ: Duration = Duration::from_secs(10);

/// What a listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All there is.
    Everything,
    /// `/live`, `/ready` and `/metrics` only.
    Probes,
}

/// Serves `listener` for as long as the runtime runs.
///
/// # Errors
///
/// When the socket cannot be used.
pub fn listen(
    desk: &Arc<Desk>,
    listener: std::net::TcpListener,
    allow: &Allow,
    scope: Scope,
) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let (desk, allow) = (desk.clone(), allow.clone());
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let Ok((stream, client)) = listener.accept().await else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            if !allow.permits(client.ip()) {
                continue;
            }
            let desk = desk.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = routes::answer(&desk, scope, client, &request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ);
                // A client that leaves early is no concern of ours.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                drop(slot);
            });
        }
    });
    Ok(())
}
