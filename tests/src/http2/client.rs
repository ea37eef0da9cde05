//! A client that behaves, on the `h2` crate: it opens windows, and reads what comes.

use std::future::poll_fn;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::task::Poll;
use std::thread;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::time::PATIENCE;

/// One connection. Its frames are read and written by a thread of its own.
pub struct Http2 {
    handle: Handle,
    sender: SendRequest<Bytes>,
    _stop: oneshot::Sender<()>,
}

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub fields: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: HeaderMap,
    /// The statuses of the interim answers before it.
    pub interim: Vec<u16>,
    /// Their fields.
    pub interim_fields: Vec<HeaderMap>,
    /// With which code it was reset before its end.
    pub reset: Option<Reason>,
}

/// A stream whose request is under way.
pub struct Stream {
    handle: Handle,
    /// What the client still sends.
    pub send: SendStream<Bytes>,
    answer: Option<ResponseFuture>,
    body: Option<RecvStream>,
}

impl Http2 {
    /// Connects from the test's own namespace.
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE).expect("a connection"))
    }

    /// Speaks over a connection that is there already.
    #[track_caller]
    pub fn over(stream: TcpStream) -> Self {
        Self::with(stream, &mut Builder::new())
    }

    /// Speaks over a connection with settings of its own.
    #[track_caller]
    pub fn with(stream: TcpStream, settings: &mut Builder) -> Self {
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        let (settings, (tell, told), (stop, stopped)) =
            (settings.clone(), mpsc::channel(), oneshot::channel::<()>());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let stream = tokio::net::TcpStream::from_std(stream).unwrap();
                let (sender, connection) = settings.handshake(stream).await.expect("a handshake");
                tokio::spawn(connection);
                let _ = tell.send((Handle::current(), sender));
                let _ = stopped.await;
            });
        });
        let (handle, sender) = told.recv_timeout(PATIENCE).expect("a client");
        Self { handle, sender, _stop: stop }
    }

    /// The answer to a GET.
    #[track_caller]
    pub fn get(&self, url: &str) -> Answered {
        self.ask(Request::get(url).body(()).unwrap(), None)
    }

    /// The answer to a request, and to its whole body where it has one.
    #[track_caller]
    pub fn ask(&self, request: Request<()>, body: Option<&[u8]>) -> Answered {
        let body = body.map(Bytes::copy_from_slice);
        let sender = self.sender.clone();
        wait(&self.handle, async move { whole(sender, request, body).await })
    }

    /// As many answers to this request as that, `together` at a time; their bodies.
    #[track_caller]
    pub fn many(&self, url: &str, n: usize, together: usize) -> Vec<String> {
        let (sender, url) = (self.sender.clone(), url.to_owned());
        wait(&self.handle, async move {
            let mut bodies = Vec::with_capacity(n);
            while bodies.len() < n {
                let count = together.min(n - bodies.len());
                let ask = || {
                    let request = Request::get(&url).body(()).unwrap();
                    tokio::spawn(whole(sender.clone(), request, None))
                };
                let asked: Vec<_> = (0..count).map(|_| ask()).collect();
                for answer in asked {
                    let answer = answer.await.unwrap();
                    assert_eq!(answer.status, 200, "{answer:?}");
                    bodies.push(String::from_utf8_lossy(&answer.body).into_owned());
                }
            }
            bodies
        })
    }

    /// Sends the head of a request, and its end where it `ends`.
    #[track_caller]
    pub fn start(&self, request: Request<()>, ends: bool) -> Stream {
        let sender = self.sender.clone();
        let (answer, send) = wait(&self.handle, async move {
            sender.ready().await.expect("room for a stream").send_request(request, ends).expect("a stream")
        });
        Stream { handle: self.handle.clone(), send, answer: Some(answer), body: None }
    }
}

impl Stream {
    /// The head of the answer, or the code of a reset.
    #[track_caller]
    pub fn head(&mut self) -> Result<Response<()>, Option<Reason>> {
        let answer = self.answer.take().expect("an answer that was not read");
        let (head, body) = wait(&self.handle, answer).map_err(|error| error.reason())?.into_parts();
        self.body = Some(body);
        Ok(Response::from_parts(head, ()))
    }

    /// The next piece of the answer's body; empty at its end.
    #[track_caller]
    pub fn data(&mut self) -> Result<Bytes, Option<Reason>> {
        let mut body = self.body.take().expect("the head to be read");
        let (body, data) = wait(&self.handle, async move {
            let data = body.data().await.transpose();
            if let Ok(Some(data)) = &data {
                let _ = body.flow_control().release_capacity(data.len());
            }
            (body, data)
        });
        self.body = Some(body);
        data.map(Option::unwrap_or_default).map_err(|error| error.reason())
    }

    /// The next piece of the answer's body, whose window is not opened again.
    #[track_caller]
    pub fn data_kept(&mut self) -> Result<Bytes, Option<Reason>> {
        let mut body = self.body.take().expect("the head to be read");
        let (body, data) = wait(&self.handle, async move {
            let data = body.data().await.transpose();
            (body, data)
        });
        self.body = Some(body);
        data.map(Option::unwrap_or_default).map_err(|error| error.reason())
    }

    /// Sends `data`, whatever the window, and the request's end where it `ends`.
    pub fn send(&mut self, data: impl Into<Bytes>, ends: bool) {
        let _ = self.send.send_data(data.into(), ends);
    }

    /// With which code the stream is reset.
    #[track_caller]
    pub fn reset(mut self) -> Reason {
        let reset = async move { poll_fn(|cx| self.send.poll_reset(cx)).await };
        wait(&self.handle, reset).expect("a reset")
    }
}

/// Waits for `future`, which runs beside the connection.
#[track_caller]
fn wait<T: Send + 'static>(handle: &Handle, future: impl Future<Output = T> + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    handle.spawn(async move {
        let _ = tell.send(future.await);
    });
    told.recv_timeout(PATIENCE).expect("an answer in time")
}

async fn whole(sender: SendRequest<Bytes>, request: Request<()>, body: Option<Bytes>) -> Answered {
    let mut answered = Answered::default();
    if let Err(error) = read(sender, request, body, &mut answered).await {
        answered.reset = Some(error.reason().unwrap_or(Reason::INTERNAL_ERROR));
    }
    answered
}

async fn read(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    body: Option<Bytes>,
    answered: &mut Answered,
) -> Result<(), h2::Error> {
    let (mut answer, mut send) = sender.ready().await?.send_request(request, body.is_none())?;
    if let Some(body) = body {
        // An answer may come before the body was taken.
        let _ = send.send_data(body, true);
    }
    let head = poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
            answered.interim.push(interim.status().as_u16());
            answered.interim_fields.push(interim.headers().clone());
        }
        std::pin::Pin::new(&mut answer).poll(cx)
    });
    let (head, mut body) = head.await?.into_parts();
    (answered.status, answered.fields) = (head.status.as_u16(), head.headers);
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        answered.body.extend_from_slice(&data);
    }
    answered.trailers = body.trailers().await?.unwrap_or_default();
    Ok(())
}

impl Answered {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of the first field of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|value| value.to_str().ok())
    }
}
