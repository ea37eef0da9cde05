//! The admin's and the probes' listeners.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use super::{Desk, routes};
use crate::proxy::session::{Door, Turned, Way};

/// How long a client may take over its request's head, and be idle.
const HEADER_READ: Duration = Duration::from_secs(10);

/// How long a connection lasts at most.
const LIFE: Duration = Duration::from_secs(60);

/// Serves `listener` for as long as the runtime runs: everything there is, or by the probes' door only `/live`,
/// `/ready` and `/metrics`.
///
/// # Errors
///
/// When the socket cannot be used.
pub fn listen(desk: &Arc<Desk>, door: &Arc<Door>, listener: std::net::TcpListener) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let (desk, door) = (desk.clone(), door.clone());
    tokio::spawn(async move {
        loop {
            let entry = door.enter().await;
            let Ok((stream, client)) = listener.accept().await else {
                door.turn_away(Turned::AcceptFailed);
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            if !door.allow.permits(client.ip()) {
                door.turn_away(Turned::NotAllowed);
                continue;
            }
            let entry = entry.used();
            let (desk, way) = (desk.clone(), door.way);
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = routes::answer(desk.clone(), way, client, request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let mut builder = http1::Builder::new();
                builder
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_READ)
                    .keep_alive(way == Way::Admin);
                let served = builder.serve_connection(TokioIo::new(stream), service);
                // A client that leaves early is no concern of ours, nor one that does not read: the probes of the next
                // need its place.
                let _ = timeout(LIFE, served).await;
                drop(entry);
            });
        }
    });
    Ok(())
}
