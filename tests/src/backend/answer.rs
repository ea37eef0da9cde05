//! What a backend does with a request: a value that a test composes.

use std::time::Duration;

use crate::message::{Fields, chunked};

/// One answer, from the wait before its first byte to what becomes of the connection.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) version: &'static str,
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) body: Body,
    pub(super) delay: Duration,
    pub(super) reads: Reads,
    pub(super) then: Then,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    /// No body and no framing field.
    Empty,
    /// With Content-Length.
    Length(Vec<u8>),
    /// Chunks, a pause between them, and trailers.
    Chunks(Vec<Vec<u8>>, Duration, Fields),
    /// Ends with the connection.
    UntilClose(Vec<u8>),
    /// This many bytes in pieces of 64 KiB, with Content-Length.
    Stream(u64),
    /// These bytes instead of a whole answer, head included.
    Raw(Vec<u8>),
}

/// Whether the request's body is read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    First,
    /// Without a 100 to a client that waits for one.
    Unasked,
    After,
    Never,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It waits for the next request.
    Keep,
    /// It is closed in order.
    Close,
    /// It is reset.
    Reset,
    /// It stays open and silent until the peer closes it.
    Hang,
    /// Every further byte is sent back.
    Echo,
}

impl Answer {
    /// A 200 with this body and its Content-Length.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            version: "HTTP/1.1",
            status: 200,
            fields: Vec::new(),
            body: Body::Length(body.into()),
            delay: Duration::ZERO,
            reads: Reads::First,
            then: Then::Keep,
        }
    }

    /// This status with its number as body, or without one where the status forbids it.
    pub fn status(status: u16) -> Self {
        let body = match status {
            101..=199 | 204 | 304 => Body::Empty,
            _ => Body::Length(status.to_string().into_bytes()),
        };
        Self { status, body, ..Self::ok("") }
    }

    /// A 200 in these chunks.
    pub fn chunks(chunks: &[&str]) -> Self {
        let chunks = chunks.iter().map(|c| c.as_bytes().to_vec()).collect();
        Self { body: Body::Chunks(chunks, Duration::ZERO, Vec::new()), ..Self::ok("") }
    }

    /// A 200 of this many bytes with Content-Length.
    pub fn stream(length: u64) -> Self {
        Self { body: Body::Stream(length), ..Self::ok("") }
    }

    /// A 200 whose body ends with the connection.
    pub fn until_close(body: &str) -> Self {
        Self { body: Body::UntilClose(body.into()), then: Then::Close, ..Self::ok("") }
    }

    /// These bytes and nothing else.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { body: Body::Raw(bytes.into()), ..Self::ok("") }
    }

    /// A 101 to `protocol`, after which everything is echoed.
    pub fn upgrade(protocol: &str) -> Self {
        Self { then: Then::Echo, ..Self::status(101).with("Connection", "Upgrade").with("Upgrade", protocol) }
    }

    /// Adds a field.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Waits this long before the first byte.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Waits this long between chunks.
    pub fn pausing(mut self, pause: Duration) -> Self {
        if let Body::Chunks(_, between, _) = &mut self.body {
            *between = pause;
        }
        self
    }

    /// Ends the chunks with this trailer.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        if let Body::Chunks(_, _, trailers) = &mut self.body {
            trailers.push((name.into(), value.into()));
        }
        self
    }

    /// Answers before it reads the request's body.
    pub fn early(mut self) -> Self {
        self.reads = Reads::After;
        self
    }

    /// Reads the request's body first, but never asks for it, as servers do that know nothing of `Expect`.
    pub fn unasked(mut self) -> Self {
        self.reads = Reads::Unasked;
        self
    }

    /// Answers and never reads the request's body.
    pub fn unread(mut self) -> Self {
        self.reads = Reads::Never;
        self
    }

    /// Decides what becomes of the connection.
    pub fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }

    /// Announces `Connection: close` and closes.
    pub fn closing(self) -> Self {
        self.with("Connection", "close").then(Then::Close)
    }

    /// Speaks HTTP/1.0.
    pub fn http10(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// The head, and the bytes that go out together with it.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} Fake\r\n", self.version, self.status);
        match &self.body {
            Body::Raw(bytes) => return bytes.clone(),
            Body::Length(body) => head += &format!("Content-Length: {}\r\n", body.len()),
            Body::Stream(length) => head += &format!("Content-Length: {length}\r\n"),
            Body::Chunks(..) => head += "Transfer-Encoding: chunked\r\n",
            Body::Empty | Body::UntilClose(_) => {}
        }
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        (head + "\r\n").into_bytes()
    }

    /// The body in the pieces in which it is written, except for [`Body::Stream`].
    pub(super) fn pieces(&self) -> Vec<Vec<u8>> {
        match &self.body {
            Body::Length(body) | Body::UntilClose(body) => vec![body.clone()],
            Body::Chunks(chunks, _, trailers) => {
                let whole = |c: &Vec<u8>| [format!("{:x}\r\n", c.len()).as_bytes(), c, b"\r\n"].concat();
                chunks.iter().map(whole).chain([chunked(&[], trailers)]).collect()
            }
            Body::Empty | Body::Stream(_) | Body::Raw(_) => Vec::new(),
        }
    }
}
