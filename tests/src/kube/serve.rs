//! The thread that serves: requests in, faults applied, and the right part asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::faults::{Act, Faults, Refusal};
use super::query::{Query, Seen, Target};
use super::reviews::{self, Tokens};
use super::status::{self, Body};
use super::store::Store;
use super::{discovery, list, watch};

/// What a server reads of one request: kube-apiserver's limit is 3 MiB. Lower, since no test needs to send that much.
const REQUEST_BYTES: usize = 1_500_000;

/// What the serving thread is told to do.
pub(super) enum Command {
    /// Drop every connection and the listener.
    Down(std::sync::mpsc::Sender<()>),
    /// Listen again.
    Up(std::sync::mpsc::Sender<()>),
    /// End.
    Stop,
}

/// What requests, watches and the test share.
pub(super) struct Shared {
    pub(super) store: Mutex<Store>,
    pub(super) faults: Mutex<Faults>,
    pub(super) seen: Mutex<Vec<Seen>>,
    pub(super) tokens: Mutex<Tokens>,
    /// Whether custom resources are defined.
    pub(super) custom: AtomicBool,
    /// The watches that are open, by a number each.
    pub(super) watches: Mutex<BTreeMap<u64, Watched>>,
    /// Moves whenever the store or the faults do.
    moved: tokio::sync::watch::Sender<u64>,
    acts: broadcast::Sender<Act>,
}

/// How a watch is doing.
pub(super) struct Watched {
    pub(super) plural: &'static str,
    /// The version up to which everything was written; none once something was written that a client has to mind.
    pub(super) told: Option<u64>,
    /// The version of its last bookmark.
    pub(super) bookmarked: Option<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            store: Mutex::default(),
            faults: Mutex::default(),
            seen: Mutex::default(),
            tokens: Mutex::default(),
            custom: AtomicBool::new(false),
            watches: Mutex::default(),
            moved: tokio::sync::watch::Sender::new(0),
            acts: broadcast::Sender::new(64),
        }
    }
}

impl Shared {
    pub(super) fn changed(&self) {
        self.moved.send_modify(|count| *count += 1);
    }

    pub(super) fn moves(&self) -> tokio::sync::watch::Receiver<u64> {
        self.moved.subscribe()
    }

    pub(super) fn act(&self, act: Act) {
        // Under the lock, so that a watch is noted as disturbed if and only if it hears of it.
        let mut watches = self.watches.lock().unwrap();
        watches.values_mut().for_each(|it| it.told = None);
        let _ = self.acts.send(act); // There may be no watch.
    }

    /// Notes that a watch begins: its number, and what will be done to it. It has been told of nothing yet.
    pub(super) fn open_watch(&self, plural: &'static str) -> (u64, broadcast::Receiver<Act>) {
        let mut watches = self.watches.lock().unwrap();
        let number = watches.last_key_value().map_or(0, |(last, _)| last + 1);
        watches.insert(number, Watched { plural, told: Some(0), bookmarked: None });
        (number, self.acts.subscribe())
    }

    pub(super) fn fault(&self) -> Faults {
        self.faults.lock().unwrap().clone()
    }
}

/// Serves until told to stop.
pub(super) fn run(
    listener: std::net::TcpListener,
    secured: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mut orders: mpsc::UnboundedReceiver<Command>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut listener = Some(taken(listener));
        let mut reserved = None;
        let mut connections = JoinSet::new();
        loop {
            let accepted = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok((stream, _)) = accepted => {
                    connections.spawn(accept(stream, secured.clone(), shared.clone()));
                }
                Some(_) = connections.join_next() => {}
                order = orders.recv() => match order {
                    Some(Command::Down(done)) => {
                        if let Some(listener) = listener.take() {
                            reserved = Some(reserved_by(listener));
                        }
                        connections.shutdown().await;
                        let _ = done.send(());
                    }
                    Some(Command::Up(done)) => {
                        if let Some(socket) = reserved.take() {
                            SockRef::from(&socket).listen(64).unwrap();
                            listener = Some(taken(socket));
                        }
                        let _ = done.send(());
                    }
                    Some(Command::Stop) | None => return connections.shutdown().await,
                },
            }
        }
    });
}

fn taken(listener: std::net::TcpListener) -> TcpListener {
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

/// Refuses connections and keeps the port: a listening socket that is shut down for reading listens no more, and stays bound
/// as [`raw::listen`](crate::raw::listen) bound it. Closing it and binding another would not do: a process
/// that a test forks meanwhile holds a copy until it execs, and somebody else may get the port.
fn reserved_by(listener: TcpListener) -> std::net::TcpListener {
    let socket = listener.into_std().unwrap();
    SockRef::from(&socket).shutdown(Shutdown::Read).unwrap();
    socket
}

async fn accept(stream: TcpStream, secured: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    match secured {
        None => serve(stream, shared).await,
        Some(tls) => {
            // Who does not trust the certificate leaves.
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, shared).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(shared, request).await) }
    });
    // A client that leaves in the middle of a watch is no event.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let custom = shared.custom.load(Ordering::SeqCst);
    let target = Target::of(parts.uri.path()).filter(|it| custom || !it.resource.custom);
    let query = Query::of(&parts.uri);
    if let Some(target) = &target {
        let seen = Seen {
            verb: verb(&parts.method, target, &query),
            plural: target.resource.plural,
            target: parts.uri.to_string(),
        };
        shared.seen.lock().unwrap().push(seen);
    }
    let faults = shared.fault();
    let plural = target.as_ref().map(|it| it.resource.plural);
    if faults.hangs_for(plural) {
        until_it_goes_on(&shared, plural).await;
    }
    if let Some(token) = &faults.token {
        let sent = parts.headers.get("authorization").and_then(|it| it.to_str().ok()).unwrap_or_default();
        if sent.strip_prefix("Bearer ") != Some(token.as_str()) {
            return status::unauthorized();
        }
    }
    let accept = parts.headers.get("accept").and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
    let Some(target) = target else {
        return discovery::answer(parts.uri.path(), &accept, custom).unwrap_or_else(status::no_page);
    };
    if let Some(refused) = refuse(&faults, &parts.method, &parts.uri, &target, &query) {
        return refused;
    }
    let sent = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    if sent.len() > REQUEST_BYTES {
        return status::too_large(REQUEST_BYTES);
    }
    match parts.method {
        Method::GET if query.is("watch") => watch::begin(&shared, target, query, &accept),
        Method::GET => list::read(&shared, &target, &query, &accept),
        Method::DELETE => list::delete(&shared, &target),
        Method::POST | Method::PUT | Method::PATCH => match serde_json::from_slice::<Value>(&sent) {
            Ok(object) => reviews::answer(&shared, target.resource, &object)
                .unwrap_or_else(|| list::write(&shared, &target, &query, &parts.method, object)),
            Err(error) => status::failure(400, "BadRequest", &error.to_string(), None),
        },
        _ => status::failure(405, "MethodNotAllowed", "no such verb", None),
    }
}

fn verb(method: &Method, target: &Target, query: &Query) -> &'static str {
    match *method {
        Method::GET if query.is("watch") => "watch",
        Method::GET if target.name.is_some() => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

fn refuse(
    faults: &Faults,
    method: &Method,
    uri: &Uri,
    target: &Target,
    query: &Query,
) -> Option<Response<Body>> {
    let resource = target.resource;
    Some(match faults.refusal(verb(method, target, query), resource.plural)? {
        Refusal::Unauthorized => status::unauthorized(),
        Refusal::Forbidden => status::forbidden(resource, verb(method, target, query)),
        Refusal::TooMany(after) => status::too_many(after),
        Refusal::Broken(code) => {
            status::failure(code, "InternalError", &format!("{uri}: the server is broken"), None)
        }
        Refusal::Gone => {
            query.get("resourceVersion").filter(|version| *version != "0")?;
            let message = "The resourceVersion for the provided list is too old.";
            status::failure(410, "Expired", message, None)
        }
    })
}

/// A hung server answers when it is well again, or never.
async fn until_it_goes_on(shared: &Shared, plural: Option<&str>) {
    let mut moves = shared.moves();
    while shared.fault().hangs_for(plural) {
        if moves.changed().await.is_err() {
            return;
        }
    }
}
