//! One call of an API server: a page of a list, or the lines of a watch.

use std::io::{self, ErrorKind};
use std::time::Duration;

use bytes::BytesMut;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::failure::{Failure, chain, text};
use super::shallow;

/// Maximum page size: 500 objects of 256 KiB would fit, which no cluster has.
const PAGE_BYTES: usize = 128 << 20;
/// Maximum size of a watch line, which is one event: an object is at most 1.5 MiB in etcd.
const LINE_BYTES: usize = 8 << 20;
/// Maximum size read of an error response.
const REFUSAL_BYTES: usize = 64 << 10;

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'a> {
    pub(super) metadata: ListMetadata,
    /// Each item separately, so that an invalid one does not affect the others. They stay text: as parsed values they
    /// all together would take ten times the memory.
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMetadata {
    pub(super) resource_version: String,
    #[serde(default, rename = "continue")]
    pub(super) next: Option<String>,
    /// How many objects the next pages have, if the server reports it.
    #[serde(default)]
    pub(super) remaining_item_count: Option<usize>,
}

/// An event of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "shallow::read")]
    pub(super) object: Value,
}

/// Sends a request and receives the response head; a status other than success is an error.
pub(super) async fn send(
    client: &Client,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<Body>, Failure> {
    let answer = answer(client, request, patience).await?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let (head, body) = answer.into_parts();
    // The reason is optional: without it the status must be enough.
    let body = read(body, REFUSAL_BYTES, patience).await.unwrap_or_default();
    Err(Failure::of_answer(head.status, &head.headers, &body))
}

/// Sends a request and receives the response head, whatever its status.
async fn answer(
    client: &Client,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<Body>, Failure> {
    let answer = timeout(patience, client.send(request)).await.map_err(|_| Failure::Silent(patience))?;
    answer.map_err(no_answer)
}

/// Sends a request and reads the whole response, whatever its status.
pub(super) async fn whole(
    client: &Client,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<BytesMut>, Failure> {
    let (head, body) = answer(client, request, patience).await?.into_parts();
    Ok(Response::from_parts(head, read(body, PAGE_BYTES, patience).await?))
}

/// Reads the whole text of a page.
pub(super) async fn page(
    client: &Client,
    request: Request<Body>,
    patience: Duration,
) -> Result<BytesMut, Failure> {
    let answer = send(client, request, patience).await?;
    read(answer.into_body(), PAGE_BYTES, patience).await
}

impl<'a> Page<'a> {
    /// Parses the page in `body`.
    pub(super) fn from_body(body: &'a [u8]) -> Result<Self, Failure> {
        serde_json::from_slice(body).map_err(|error| Failure::Garbage(format!("no list: {error}")))
    }
}

async fn read(mut body: Body, most: usize, patience: Duration) -> Result<BytesMut, Failure> {
    let mut read = BytesMut::new();
    loop {
        let frame = timeout(patience, body.frame()).await.map_err(|_| Failure::Silent(patience))?;
        let Some(frame) = frame else { return Ok(read) };
        if let Ok(data) = frame.map_err(unreachable)?.into_data() {
            if read.len() + data.len() > most {
                return Err(Failure::Garbage(format!("an answer of more than {most} bytes")));
            }
            read.extend_from_slice(&data);
        }
    }
}

/// The lines of a watch.
pub(super) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// Bytes already searched for the end of a line.
    searched: usize,
}

impl Lines {
    pub(super) fn from_response(answer: Response<Body>) -> Self {
        Self { body: answer.into_body(), buffer: BytesMut::new(), searched: 0 }
    }

    /// The next event; `None` when the server has ended the watch. An incomplete last line is ignored.
    pub(super) async fn next(&mut self, patience: Duration) -> Result<Option<Event>, Failure> {
        loop {
            while let Some(line) = self.line() {
                if !line.trim_ascii().is_empty() {
                    return event(&line).map(Some);
                }
            }
            if self.buffer.len() > LINE_BYTES {
                return Err(Failure::Garbage(format!("a line of more than {LINE_BYTES} bytes")));
            }
            let frame = timeout(patience, self.body.frame()).await.map_err(|_| Failure::Silent(patience))?;
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(data) = frame.map_err(unreachable)?.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    fn line(&mut self) -> Option<BytesMut> {
        match self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let line = self.buffer.split_to(self.searched + end + 1);
                self.searched = 0;
                Some(line)
            }
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }
}

fn event(line: &[u8]) -> Result<Event, Failure> {
    serde_json::from_slice(line).map_err(|error| {
        // A server, or a proxy in front of it, may end a watch with a bare Status.
        match serde_json::from_slice::<Value>(line) {
            Ok(object) if object.get("kind").and_then(Value::as_str) == Some("Status") => {
                Failure::of_event(object)
            }
            Ok(_) | Err(_) => Failure::Garbage(format!("no event: {error}: {}", text(&lossy(line)))),
        }
    })
}

fn lossy(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned()
}

/// Why there is no response.
fn no_answer(error: kube::Error) -> Failure {
    match error {
        kube::Error::Auth(error) => Failure::Misconfigured(chain(&error)),
        error if is_absence(&error) => Failure::Absent(chain(&error)),
        error => unreachable(error),
    }
}

/// Why a response is incomplete.
fn unreachable(error: kube::Error) -> Failure {
    Failure::Unreachable(chain(&error))
}

/// Whether nothing listens there, by the network's error or because connecting timed out. A failed TLS handshake or a
/// connection that is closed after accept is more than that.
fn is_absence(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::TimedOut
            );
        }
        next = error.source();
    }
    false
}

/// An object's identity, read from arbitrary JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its name, or empty.
    pub(super) name: String,
    /// Its namespace, if it is in one.
    pub(super) namespace: Option<String>,
    /// Its version, as a number if it is one.
    pub(super) version: Option<String>,
}

impl Head {
    pub(super) fn from_object(object: &Value) -> Self {
        let metadata = object.get("metadata");
        let word = |key: &str| metadata?.get(key)?.as_str().filter(|it| !it.is_empty()).map(str::to_owned);
        Self {
            name: word("name").unwrap_or_default(),
            namespace: word("namespace"),
            version: word("resourceVersion"),
        }
    }
}
