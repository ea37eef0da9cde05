//! The other parties of `cargo xtask bench --http2`, and no part of the product: endpoints, a bare proxy on the h2 crate, and a
//! load. Each is one thread with weir's own dependencies and allocator.
//!
//! - `http2_bench serve ADDRESS…`: each stream is answered with 200 and 13 bytes.
//! - `http2_bench proxy LISTEN ENDPOINT…`: each stream goes to the next endpoint, on one connection to each: no header is
//!   changed, and there are no limits, timeouts or metrics. The least that a proxy made of h2 can cost.
//! - `http2_bench load ADDRESS AUTHORITY CONNECTIONS STREAMS WARM_UP WINDOW [RATE]`: so many connections with so many streams
//!   each, one request after the other, or with RATE so many a second in all; times in milliseconds. Prints a line when the
//!   window begins, and one with the figures when it ends.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};
use weir::allocator::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Windows that no answer here fills.
const WINDOW: u32 = 1 << 20;

fn main() -> Result<()> {
    weir::allocator::use_small_pages();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build_local(Default::default())?.block_on(async {
        match arguments.split_first().map(|(role, rest)| (role.as_str(), rest)) {
            Some(("serve", addresses)) => serve(addresses).await,
            Some(("proxy", [listen, endpoints @ ..])) => proxy(listen, endpoints).await,
            Some(("load", plan)) => Load::read(plan)?.run().await,
            _ => bail!("expected serve, proxy or load"),
        }
    })
}

async fn serve(addresses: &[String]) -> Result<()> {
    for address in addresses {
        let listener = TcpListener::bind(address.as_str()).await?;
        spawn_local(accept(listener, |_, mut respond: SendResponse<Bytes>| async move {
            let answer =
                Response::builder().header("content-type", "text/plain").header("content-length", 13);
            let mut stream = respond.send_response(answer.body(())?, false)?;
            stream.send_data(Bytes::from_static(b"Hello, World!"), true)?;
            Ok(())
        }));
    }
    std::future::pending().await
}

/// Accepts connections, and handles each stream of theirs in a task of its own.
async fn accept<F>(
    listener: TcpListener,
    handle: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + 'static,
) -> Result<()>
where
    F: Future<Output = Result<()>> + 'static,
{
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let handle = handle.clone();
        spawn_local(async move {
            let mut builder = h2::server::Builder::new();
            builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
            let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                spawn_local(handle(request, respond));
            }
        });
    }
}

/// A connection to `address`.
async fn connect(address: SocketAddr) -> Result<SendRequest<Bytes>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
    let (send, connection) = builder.handshake::<_, Bytes>(socket).await?;
    spawn_local(connection);
    Ok(send)
}

/// The connections to the endpoints, and whose turn it is.
struct Upstream {
    endpoints: Vec<(SocketAddr, RefCell<Option<SendRequest<Bytes>>>)>,
    next: Cell<usize>,
}

impl Upstream {
    async fn next(&self) -> Result<SendRequest<Bytes>> {
        let index = self.next.replace((self.next.get() + 1) % self.endpoints.len());
        let (address, open) = &self.endpoints[index];
        let connected = open.borrow().clone();
        if let Some(send) = connected {
            return Ok(send.ready().await?);
        }
        let send = connect(*address).await?;
        *open.borrow_mut() = Some(send.clone());
        Ok(send.ready().await?)
    }
}

async fn proxy(listen: &str, endpoints: &[String]) -> Result<()> {
    let endpoint = |text: &String| Ok((text.parse()?, RefCell::new(None)));
    let endpoints = endpoints.iter().map(endpoint).collect::<Result<Vec<_>>>()?;
    let upstream = Rc::new(Upstream { endpoints, next: Cell::new(0) });
    let handle = move |request, respond| forward(upstream.clone(), request, respond);
    accept(TcpListener::bind(listen).await?, handle).await
}

async fn forward(
    upstream: Rc<Upstream>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<()> {
    let mut send = upstream.next().await?;
    let (head, body) = request.into_parts();
    let ends = body.is_end_stream();
    let (answer, stream) = send.send_request(Request::from_parts(head, ()), ends)?;
    if !ends {
        spawn_local(pass(body, stream));
    }
    let (head, body) = answer.await?.into_parts();
    let ends = body.is_end_stream();
    let stream = respond.send_response(Response::from_parts(head, ()), ends)?;
    if ends { Ok(()) } else { pass(body, stream).await }
}

async fn pass(mut from: RecvStream, mut to: SendStream<Bytes>) -> Result<()> {
    while let Some(bytes) = from.data().await {
        let bytes = bytes?;
        from.flow_control().release_capacity(bytes.len())?;
        let ends = from.is_end_stream();
        to.send_data(bytes, ends)?;
        if ends {
            return Ok(());
        }
    }
    to.send_trailers(from.trailers().await?.unwrap_or_else(HeaderMap::new))?;
    Ok(())
}

struct Load {
    address: SocketAddr,
    authority: String,
    connections: usize,
    streams: usize,
    warm_up: Duration,
    window: Duration,
    /// Requests a second in all; without it, each stream asks again when it was answered.
    rate: Option<f64>,
}

/// What was seen, of all streams together.
#[derive(Default)]
struct Seen {
    counts: Cell<bool>,
    stops: Cell<bool>,
    failed: RefCell<Option<String>>,
    micros: RefCell<Vec<u32>>,
}

impl Load {
    fn read(plan: &[String]) -> Result<Self> {
        let [address, authority, connections, streams, warm_up, window, rate @ ..] = plan else {
            bail!("expected ADDRESS AUTHORITY CONNECTIONS STREAMS WARM_UP WINDOW [RATE]");
        };
        let millis = |text: &str| Ok::<_, anyhow::Error>(Duration::from_millis(text.parse()?));
        Ok(Self {
            address: address.parse()?,
            authority: authority.clone(),
            connections: connections.parse()?,
            streams: streams.parse()?,
            warm_up: millis(warm_up)?,
            window: millis(window)?,
            rate: rate.first().map(|rate| rate.parse()).transpose()?,
        })
    }

    async fn run(&self) -> Result<()> {
        let seen = Rc::new(Seen::default());
        let uri = format!("http://{}/", self.authority);
        let all = self.connections * self.streams;
        let begun = Instant::now();
        let mut tasks = Vec::with_capacity(all);
        for index in 0..all {
            if index % self.streams == 0 {
                tasks.push((connect(self.address).await?, Vec::new()));
            }
            let (connection, own) = tasks.last_mut().context("there is a connection")?;
            // Each stream of a fixed rate has its own moments, one after the other's.
            let pace = self.rate.map(|rate| {
                let step = Duration::from_secs_f64(all as f64 / rate);
                (begun + step.mul_f64(index as f64 / all as f64), step)
            });
            own.push(spawn_local(ask(connection.clone(), uri.clone(), seen.clone(), pace)));
        }
        sleep(self.warm_up).await;
        println!("begin");
        seen.counts.set(true);
        let begun = Instant::now();
        sleep(self.window).await;
        seen.counts.set(false);
        let seconds = begun.elapsed().as_secs_f64();
        seen.stops.set(true);
        if let Some(why) = seen.failed.take() {
            bail!("{why}");
        }
        let mut micros = seen.micros.take();
        micros.sort_unstable();
        let quantile = |part: f64| micros.get((micros.len() as f64 * part) as usize).copied().unwrap_or(0);
        println!("end {} {seconds} {} {}", micros.len(), quantile(0.5), quantile(0.99));
        Ok(())
    }
}

/// Asks until it is told to stop, or fails. With a pace, from a moment on and then at each step; what is late counts from when
/// it was due.
async fn ask(connection: SendRequest<Bytes>, uri: String, seen: Rc<Seen>, pace: Option<(Instant, Duration)>) {
    let mut due = pace.map(|(first, _)| first);
    while !seen.stops.get() {
        if let Some(due) = due {
            sleep_until(due).await;
        }
        let begun = due.unwrap_or_else(Instant::now);
        if let Err(error) = one(&connection, &uri).await {
            *seen.failed.borrow_mut() = Some(error.to_string());
            return;
        }
        if seen.counts.get() {
            seen.micros.borrow_mut().push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
        if let (Some(due), Some((_, step))) = (&mut due, pace) {
            *due += step;
        }
    }
}

async fn one(connection: &SendRequest<Bytes>, uri: &str) -> Result<()> {
    let mut connection = connection.clone().ready().await?;
    let request = Request::get(uri).header("user-agent", "bench").header("accept", "*/*").body(())?;
    let (answer, _) = connection.send_request(request, true)?;
    let answer = answer.await?;
    if answer.status() != 200 {
        bail!("answered {}", answer.status());
    }
    let (mut body, mut length) = (answer.into_body(), 0);
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        length += bytes.len();
        body.flow_control().release_capacity(bytes.len())?;
    }
    if length != 13 {
        bail!("the answer has {length} bytes");
    }
    Ok(())
}
