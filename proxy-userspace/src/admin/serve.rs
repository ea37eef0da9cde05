//! The admin's and the probes' listeners.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle, yield_now};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::refusal::Refusal;
use super::tls::Greeting;
use super::{Server, routes};
use crate::proxy::holders::Holder;
use crate::proxy::listener::{CloseReason, Listener, ListenerKind};

/// Maximum time for a client to send a request head, and to be idle.
const HEADER_READ: Duration = Duration::from_secs(10);

/// Maximum size of a request head: enough for a token of 16 KiB or a dtab to explain.
const HEAD: usize = 128 << 10;

/// Maximum lifetime of a connection.
const LIFE: Duration = Duration::from_secs(60);

/// How long the accept queue of a retired listener must be empty before it closes, and how long to wait for that.
const QUIET: Duration = Duration::from_millis(100);
const QUIET_WITHIN: Duration = Duration::from_millis(500);

/// Says that a listener is retired.
#[derive(Clone, Debug, Default)]
pub struct Retired {
    /// Cancelled then.
    pub token: CancellationToken,
    /// Set before that if another process accepts from the same queue, which is left to it.
    pub handed_over: Arc<AtomicBool>,
}

/// The client of a request, and its connection.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) kind: ListenerKind,
    pub(super) client: SocketAddr,
    /// Whether the connection is encrypted.
    pub(super) secured: bool,
    /// Cancelled to end the connection: a page is read too slowly while others wait.
    pub(super) cut: CancellationToken,
}

/// Serves `socket` until it is `retired`, or for as long as the runtime runs: the admin's listener serves everything,
/// the probes' only `/live`, `/ready` and `/metrics`, there also over TLS. Open connections stay.
///
/// # Errors
///
/// The socket cannot be used.
pub fn listen(
    server: &Arc<Server>,
    listener: &Arc<Listener>,
    socket: std::net::TcpListener,
    retired: Retired,
) -> anyhow::Result<()> {
    let socket = TcpListener::from_std(socket)?;
    let (server, listener, everybody) = (server.clone(), listener.clone(), Holder::everybody());
    tokio::spawn(async move {
        let (mut served, mut latest) = (Served::default(), None);
        loop {
            let Some(accepted) = next(&socket, &retired, &mut latest).await else { return };
            let Ok((stream, client)) = accepted else {
                listener.count_closed(CloseReason::AcceptFailed);
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            if !listener.permits(client.ip()) {
                listener.count_closed(CloseReason::NotAllowed);
                continue;
            }
            if listener.is_full() {
                served.end_oldest();
                // Let accepted clients be answered before the next accept.
                yield_now().await;
            }
            let permit = listener.acquire(&everybody, None).await.used();
            let asker = Asker { kind: listener.kind, client, secured: false, cut: CancellationToken::new() };
            let server = server.clone();
            served.add(tokio::spawn(async move {
                // A client that disconnects early or does not read is no error for weir: the next probes need its slot.
                let _ = timeout(LIFE, receive(server, asker, stream)).await;
                drop(permit);
            }));
        }
    });
    Ok(())
}

/// The next accepted connection. `None` once the listener is retired and all connections established until then were
/// accepted, or at `latest`, which is set then; at once if the listener is handed over.
async fn next(
    socket: &TcpListener,
    retired: &Retired,
    latest: &mut Option<Instant>,
) -> Option<std::io::Result<(TcpStream, SocketAddr)>> {
    if latest.is_none() {
        tokio::select! {
            biased;
            () = retired.token.cancelled() => {}
            accepted = socket.accept() => return Some(accepted),
        }
    }
    if retired.handed_over.load(Ordering::SeqCst) {
        return None;
    }
    let latest = *latest.get_or_insert_with(|| Instant::now() + QUIET_WITHIN);
    timeout_at(latest.min(Instant::now() + QUIET), socket.accept()).await.ok()
}

/// Serves one connection to its end.
async fn receive(server: Arc<Server>, asker: Asker, stream: TcpStream) {
    let tls = server.tls.load_full().filter(|_| asker.kind == ListenerKind::Probes);
    let Some(tls) = tls else { return converse(server, asker, stream).await };
    match timeout(HEADER_READ, tls.greet(stream, asker.client)).await {
        Ok(Ok(Greeting::Plain(stream))) => converse(server, asker, stream).await,
        Ok(Ok(Greeting::Secured(stream))) => {
            converse(server, Asker { secured: true, ..asker }, stream).await;
        }
        Ok(Ok(Greeting::Often)) => server.refused[Refusal::Often as usize].inc(),
        Ok(Err(_)) | Err(_) => {}
    }
}

async fn converse(server: Arc<Server>, asker: Asker, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request| {
        let answer = routes::answer(server.clone(), asker.clone(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ)
        .keep_alive(asker.kind == ListenerKind::Admin)
        .max_buf_size(HEAD);
    tokio::select! {
        biased;
        () = asker.cut.cancelled() => {}
        _ = builder.serve_connection(TokioIo::new(stream), service) => {}
    }
}

/// The connections that are being served, the oldest first.
///
/// When the listener is full, a new one replaces the oldest: kubelet's next probe must not wait for idle connections to
/// time out, or kubelet would restart weir.
#[derive(Default)]
struct Served(VecDeque<AbortHandle>);

impl Served {
    fn add(&mut self, connection: JoinHandle<()>) {
        self.0.retain(|it| !it.is_finished());
        self.0.push_back(connection.abort_handle());
    }

    fn end_oldest(&mut self) {
        self.0.retain(|it| !it.is_finished());
        if let Some(oldest) = self.0.pop_front() {
            oldest.abort();
        }
    }
}
