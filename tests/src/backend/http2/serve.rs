//! The server on the h2 crate.

use std::future::poll_fn;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use hyper::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_local};

use super::{Arrived, Reply, Shared, Stop, Then};
use crate::message::Fields;

/// Serves until it is told to stop.
pub(super) fn run(shared: Arc<Shared>, listener: &TcpListener, stopped: watch::Receiver<Stop>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = listener.try_clone().unwrap();
    listener.set_nonblocking(true).unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, accept(shared, listener, stopped));
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, stopped: watch::Receiver<Stop>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { break };
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn_local(connection(shared.clone(), number, stream, stopped.clone()));
            }
            _ = stop.changed() => break,
        }
    }
    drop(listener);
    if *stop.borrow() == Stop::Gracefully {
        while connections.join_next().await.is_some() {}
    }
}

async fn connection(
    shared: Arc<Shared>,
    number: usize,
    stream: TcpStream,
    mut stopped: watch::Receiver<Stop>,
) {
    let _ = stream.set_nodelay(true);
    let mut builder = server::Builder::new();
    if let Some(most) = shared.max_streams {
        builder.max_concurrent_streams(most);
    }
    if let Some(window) = shared.window {
        builder.initial_window_size(window);
    }
    builder.max_send_buffer_size(1 << 20);
    if shared.takes_tunnels {
        builder.enable_connect_protocol();
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let running = Rc::new(AtomicUsize::new(0));
    let mut stops = false;
    loop {
        tokio::select! {
            next = connection.accept() => match next {
                Some(Ok((request, respond))) => {
                    shared.begun.fetch_add(1, Ordering::SeqCst);
                    let (shared, running) = (shared.clone(), running.clone());
                    spawn_local(async move {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        shared.most.fetch_max(now, Ordering::SeqCst);
                        let _ = exchange(&shared, number, request, respond).await;
                        running.fetch_sub(1, Ordering::SeqCst);
                    });
                }
                Some(Err(_)) | None => return,
            },
            _ = stopped.changed(), if !stops => match *stopped.borrow() {
                Stop::Gracefully => {
                    stops = true;
                    connection.graceful_shutdown();
                }
                Stop::No | Stop::Now => return,
            },
        }
    }
}

async fn exchange(
    shared: &Shared,
    connection: usize,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (parts, mut body) = request.into_parts();
    let protocol = parts.extensions.get::<h2::ext::Protocol>().map(|it| it.as_str().to_owned());
    let mut arrived = Arrived {
        connection,
        method: parts.method.to_string(),
        protocol,
        target: parts.uri.to_string(),
        fields: fields(&parts.headers),
        body: Vec::new(),
        trailers: Vec::new(),
    };
    if arrived.protocol.is_some() {
        return tunnel(shared, arrived, body, respond).await;
    }
    while let Some(data) = body.data().await {
        let data = noted(shared, data)?;
        body.flow_control().release_capacity(data.len())?;
        arrived.body.extend(data);
    }
    arrived.trailers = body.trailers().await?.as_ref().map(fields).unwrap_or_default();
    let reply = (shared.script)(&arrived);
    shared.requests.lock().unwrap().push(arrived);
    tokio::select! {
        () = tokio::time::sleep(reply.after) => {}
        reset = poll_fn(|cx| respond.poll_reset(cx)) => return note(shared, reset?),
    }
    answer(shared, reply, respond).await
}

async fn answer(shared: &Shared, reply: Reply, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    for (status, more) in &reply.interim {
        respond.send_informational(head(*status, more))?;
    }
    if reply.status == 0 {
        return match reply.then {
            Then::Reset(code) => {
                respond.send_reset(Reason::from(code));
                Ok(())
            }
            Then::End | Then::EndLater(_) | Then::Nothing => {
                note(shared, poll_fn(|cx| respond.poll_reset(cx)).await?)
            }
        };
    }
    let is_whole = reply.body.is_empty() && reply.trailers.is_empty() && reply.then == Then::End;
    let mut stream = respond.send_response(head(reply.status, &reply.fields), is_whole)?;
    if is_whole {
        return Ok(());
    }
    let mut rest = Bytes::from(reply.body);
    let ends = reply.then == Then::End && reply.trailers.is_empty();
    while !rest.is_empty() {
        let room = room(&mut stream, rest.len()).await;
        let room = noted(shared, room)?;
        let piece = rest.split_to(room.min(rest.len()));
        stream.send_data(piece, ends && rest.is_empty())?;
    }
    match reply.then {
        Then::Reset(code) => {
            // A reset takes back what was not written yet.
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.send_reset(Reason::from(code));
        }
        Then::Nothing => note(shared, poll_fn(|cx| stream.poll_reset(cx)).await?)?,
        Then::EndLater(after) => {
            tokio::select! {
                () = tokio::time::sleep(after) => {}
                reset = poll_fn(|cx| stream.poll_reset(cx)) => return note(shared, reset?),
            }
            stream.send_data(Bytes::new(), true)?;
        }
        Then::End if !ends => stream.send_trailers(map(&reply.trailers))?,
        Then::End => {}
    }
    Ok(())
}

/// Answers an extended CONNECT: any 2xx is a tunnel that echoes until its client ends it, or with [`Then::Nothing`] reads nothing.
async fn tunnel(
    shared: &Shared,
    arrived: Arrived,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let reply = (shared.script)(&arrived);
    shared.requests.lock().unwrap().push(arrived);
    if !(200..300).contains(&reply.status) {
        return answer(shared, reply, respond).await;
    }
    let mut stream = respond.send_response(head(reply.status, &reply.fields), false)?;
    match reply.then {
        Then::End | Then::EndLater(_) => {}
        Then::Nothing => return note(shared, poll_fn(|cx| stream.poll_reset(cx)).await?),
        Then::Reset(code) => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.send_reset(Reason::from(code));
            return Ok(());
        }
    }
    while let Some(data) = body.data().await {
        let mut data = noted(shared, data)?;
        body.flow_control().release_capacity(data.len())?;
        while !data.is_empty() {
            let room = room(&mut stream, data.len()).await;
            let room = noted(shared, room)?;
            let piece = data.split_to(room.min(data.len()));
            stream.send_data(piece, false)?;
        }
    }
    stream.send_data(Bytes::new(), true)
}

/// How many bytes the client takes now.
async fn room(stream: &mut SendStream<Bytes>, wanted: usize) -> Result<usize, h2::Error> {
    stream.reserve_capacity(wanted.min(1 << 16));
    while stream.capacity() == 0 {
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(room) => drop(room?),
            None => return Err(poll_fn(|cx| stream.poll_reset(cx)).await?.into()),
        }
    }
    Ok(stream.capacity())
}

/// Notes a reset by the client.
fn note(shared: &Shared, reason: Reason) -> Result<(), h2::Error> {
    shared.resets.lock().unwrap().push((reason.into(), Instant::now()));
    Err(reason.into())
}

/// Notes a reset by the client, if that is the error.
fn noted<T>(shared: &Shared, result: Result<T, h2::Error>) -> Result<T, h2::Error> {
    if let Err(error) = &result
        && let Some(reason) = error.reason()
    {
        let _ = note(shared, reason);
    }
    result
}

fn head(status: u16, fields: &Fields) -> Response<()> {
    let mut head = Response::builder().status(status).body(()).unwrap();
    *head.headers_mut() = map(fields);
    head
}

fn map(fields: &Fields) -> HeaderMap {
    let field = |(name, value): &(String, String)| {
        (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap())
    };
    fields.iter().map(field).collect()
}

fn fields(map: &HeaderMap) -> Fields {
    map.iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect()
}
