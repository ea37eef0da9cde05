//! A bare hyper proxy: what `cargo xtask bench` measures beside weir, and no part of the product.
//!
//! hyper's server, hyper's client, pooled connections and round robin over the endpoints, on one thread and with weir's
//! own dependencies, so that both have the same hyper, runtime and allocator. It keeps hyper's defaults, changes no
//! header, and has no limits, timeouts or metrics: the least that a proxy made of hyper can cost.
//!
//! `bare_hyper LISTEN=ENDPOINT,ENDPOINT… [LISTEN=…]`

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self as client, SendRequest};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use weir::allocator::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> Result<()> {
    weir::allocator::use_small_pages();
    let routes = std::env::args().skip(1).map(|argument| route(&argument)).collect::<Result<Vec<_>>>()?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build_local(Default::default())?.block_on(async {
        for (listen, endpoints) in routes {
            let listener =
                TcpListener::bind(listen).await.with_context(|| format!("cannot bind {listen}"))?;
            tokio::task::spawn_local(accept(listener, Rc::new(Upstream::new(endpoints))));
        }
        std::future::pending().await
    })
}

fn route(argument: &str) -> Result<(SocketAddr, Vec<SocketAddr>)> {
    let (listen, endpoints) = argument.split_once('=').context("expected LISTEN=ENDPOINT,ENDPOINT…")?;
    let endpoints = endpoints.split(',').map(str::parse).collect::<Result<_, _>>()?;
    Ok((listen.parse()?, endpoints))
}

/// The endpoints, and the connections to them that are not in use.
struct Upstream {
    endpoints: Vec<Endpoint>,
    next: Cell<usize>,
}

struct Endpoint {
    address: SocketAddr,
    idle: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Upstream {
    fn new(addresses: Vec<SocketAddr>) -> Self {
        let endpoint = |address| Endpoint { address, idle: RefCell::default() };
        Self { endpoints: addresses.into_iter().map(endpoint).collect(), next: Cell::new(0) }
    }

    /// The next endpoint, and a connection to it.
    async fn checkout(&self) -> Result<(usize, SendRequest<Incoming>)> {
        let index = self.next.get();
        self.next.set((index + 1) % self.endpoints.len());
        let endpoint = &self.endpoints[index];
        loop {
            let Some(mut sender) = endpoint.idle.borrow_mut().pop() else { break };
            if sender.is_ready() || sender.ready().await.is_ok() {
                return Ok((index, sender));
            }
        }
        let stream = TcpStream::connect(endpoint.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok((index, sender))
    }
}

async fn accept(listener: TcpListener, upstream: Rc<Upstream>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let upstream = upstream.clone();
        let service = service_fn(move |request| forward(upstream.clone(), request));
        let mut builder = server::Builder::new();
        builder.auto_date_header(false);
        tokio::task::spawn_local(builder.serve_connection(TokioIo::new(stream), service));
    }
}

async fn forward(upstream: Rc<Upstream>, request: Request<Incoming>) -> Result<Response<Pooled>> {
    let (index, mut sender) = upstream.checkout().await?;
    let answer = sender.send_request(request).await?;
    Ok(answer.map(|incoming| {
        let mut body = Pooled { incoming, connection: Some((upstream, index, sender)) };
        body.put_back_at_end();
        body
    }))
}

/// An answer's body, which puts its connection back into the pool at its end.
struct Pooled {
    incoming: Incoming,
    connection: Option<(Rc<Upstream>, usize, SendRequest<Incoming>)>,
}

impl Pooled {
    fn put_back_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some((upstream, index, sender)) = self.connection.take()
        {
            upstream.endpoints[index].idle.borrow_mut().push(sender);
        }
    }
}

impl Body for Pooled {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        this.put_back_at_end();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
