//! New connections of clients that get nothing new, since memory is short and they hold more than their share of it.
//!
//! A client that speaks HTTP/1 is told so with a 503; any other one is reset. No buffer is allocated for either.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::domain::sniff::{Sniffed, sniff};
use crate::proxy::exchange::bad_head;
use crate::proxy::listener::{CloseReason, Listener, ListenerKind};
use crate::proxy::memory::Refused;
use crate::proxy::worker::Worker;

/// How many clients a worker answers so at the same time; further ones are reset at once.
const MOST: usize = 64;

/// How long such a client may take to send the start of its request, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Refuses a new connection.
pub(super) fn refuse(worker: &Rc<Worker>, listener: &Arc<Listener>, stream: TcpStream, client: SocketAddr) {
    worker.shared.memory.refused[Refused::Connection as usize].inc();
    listener.count_closed(CloseReason::Memory);
    if worker.refusing.get() >= MOST {
        return reset(&stream);
    }
    worker.refusing.set(worker.refusing.get() + 1);
    let (refusing, listener) = (worker.clone(), listener.clone());
    worker.spawn(async move {
        let told = timeout(PATIENCE, tell(&refusing, &listener, stream, client));
        let _ = told.await;
        refusing.refusing.set(refusing.refusing.get() - 1);
    });
}

/// Answers a request of HTTP/1, and closes in order; resets otherwise.
async fn tell(worker: &Worker, listener: &Arc<Listener>, mut stream: TcpStream, client: SocketAddr) {
    // However this ends, unless it is answered.
    reset(&stream);
    let mut first = [0; 64];
    let seen = stream.peek(&mut first).await.unwrap_or_default();
    if sniff(&first[..seen]) != Sniffed::Http1 || SockRef::from(&stream).set_linger(None).is_err() {
        return;
    }
    let fault = worker.shared.memory.fault();
    let is_explicit = listener.kind == ListenerKind::Outgoing;
    let answer = bad_head::refusal(&worker.shared, listener, (client, client.ip(), is_explicit), &fault);
    if stream.write_all(&answer).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    // Closing with unread bytes would reset the connection, and the client might not get the answer.
    let mut rest = [0; 512];
    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
}

/// Makes closing reset the connection.
fn reset(stream: &TcpStream) {
    // A socket that is already closed needs no reset.
    let _ = stream.set_zero_linger();
}
