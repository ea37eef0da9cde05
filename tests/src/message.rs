//! HTTP/1 messages as a test writes and reads them: nothing is normalised, nothing is hidden.

use std::fmt::Write as _;

/// Header or trailer fields in the order and case of the wire.
pub type Fields = Vec<(String, String)>;

/// The head of a request or a response.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The request line or status line.
    pub start: String,
    /// The fields.
    pub fields: Fields,
    /// Every byte of the head, the empty line included.
    pub raw: Vec<u8>,
}

impl Head {
    /// Splits the bytes of one head.
    pub fn parse(raw: Vec<u8>) -> Self {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        Self { start, fields: lines.filter_map(field).collect(), raw }
    }

    /// The value of the first field of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        find(&self.fields, name)
    }

    /// The values of every field of this name, in any case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// Whether the comma-separated field `name` lists `token`.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name).iter().flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
    }

    /// The method of a request line.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The target of a request line.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of a status line.
    pub fn status(&self) -> Option<u16> {
        self.start.split(' ').nth(1)?.parse().ok()
    }
}

/// How the length of a message's body is known (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// Until the connection is closed.
    UntilClose,
}

impl Framing {
    /// The framing of a request.
    pub fn of_request(head: &Head) -> Self {
        if head.lists("transfer-encoding", "chunked") {
            return Self::Chunked;
        }
        match head.get("content-length").and_then(|v| v.parse().ok()) {
            None | Some(0) => Self::None,
            Some(length) => Self::Length(length),
        }
    }

    /// The framing of the answer to a request with this method.
    pub fn of_response(head: &Head, method: &str) -> Self {
        let status = head.status().unwrap_or(0);
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Self::None;
        }
        if method == "CONNECT" && (200..300).contains(&status) {
            return Self::None;
        }
        if head.lists("transfer-encoding", "chunked") {
            return Self::Chunked;
        }
        head.get("content-length").and_then(|v| v.parse().ok()).map_or(Self::UntilClose, Self::Length)
    }
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where its framing said.
    Complete,
    /// By a close or reset before that: the client can tell that bytes are missing.
    Truncated,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Response {
    /// The final status.
    pub status: u16,
    /// The final head.
    pub head: Head,
    /// Statuses of interim answers before it (100, 103).
    pub interim: Vec<u16>,
    /// The first MiB of the body, decoded.
    pub body: Vec<u8>,
    /// The decoded length of the whole body in bytes.
    pub length: u64,
    /// Trailer fields.
    pub trailers: Fields,
    /// How it ended.
    pub end: End,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of the first header field of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    /// The `l5d-err` field of an answer that weir made itself; empty when there is none.
    pub fn l5d_err(&self) -> &str {
        self.get("l5d-err").unwrap_or_default()
    }

    /// Fails the test unless the status is `status`, saying what came instead.
    #[track_caller]
    pub fn expect_status(&self, status: u16) -> &Self {
        assert_eq!(
            self.status,
            status,
            "answer was {:?} {:?}, body {:?}",
            self.head.start,
            self.head.fields,
            self.text()
        );
        self
    }

    /// Fails the test unless this is a complete 200 with this body.
    #[track_caller]
    pub fn expect_body(&self, body: &str) -> &Self {
        self.expect_status(200);
        assert_eq!((self.text().as_str(), self.end), (body, End::Complete));
        self
    }
}

/// A request to be written.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    fields: Fields,
    body: Content,
}

#[derive(Clone, Debug)]
enum Content {
    None,
    Length(Vec<u8>),
    Chunks(Vec<Vec<u8>>, Fields),
}

impl Request {
    /// A request with the given method and target. `Host` follows from an absolute target unless set.
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), fields: Vec::new(), body: Content::None }
    }

    /// A GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST with this body and its Content-Length.
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: Content::Length(body.into()), ..Self::new("POST", target) }
    }

    /// Adds a field.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Sends the body in these chunks.
    pub fn chunks(mut self, chunks: &[&str]) -> Self {
        self.body = Content::Chunks(chunks.iter().map(|c| c.as_bytes().to_vec()).collect(), Vec::new());
        self
    }

    /// Ends a chunked body with this trailer field.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        if let Content::Chunks(_, trailers) = &mut self.body {
            trailers.push((name.into(), value.into()));
        }
        self
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The request as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if find(&self.fields, "host").is_none() {
            let host = self.target.strip_prefix("http://").unwrap_or(&self.target);
            let _ = write!(head, "Host: {}\r\n", host.split('/').next().unwrap_or_default());
        }
        for (name, value) in &self.fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let mut bytes = head.into_bytes();
        match &self.body {
            Content::None => bytes.extend(b"\r\n"),
            Content::Length(body) => {
                bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
                bytes.extend(body);
            }
            Content::Chunks(chunks, trailers) => {
                bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                bytes.extend(chunked(chunks, trailers));
            }
        }
        bytes
    }
}

/// A chunked body.
pub fn chunked(chunks: &[Vec<u8>], trailers: &Fields) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in chunks {
        bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n");
    for (name, value) in trailers {
        bytes.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    bytes.extend(b"\r\n");
    bytes
}

/// One field line.
pub fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_owned(), value.trim().to_owned()))
}

/// The first field of this name, in any case.
pub fn find<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}
