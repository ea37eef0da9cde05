//! Protocol detection from the first bytes of a connection.
//!
//! A diverted application did not declare its protocol, and it may be any. To mistake another protocol for HTTP would
//! break the application, while to mistake HTTP for opaque only costs it routing per request. So HTTP/1 is reported
//! only after the version in the request line and the end of the line, and not after a known method alone: memcached
//! has `get`, NATS `CONNECT`, and Redis, SIP and RTSP have lines of three words.
//!
//! **The result never changes with more bytes.** Once a prefix is decided, every continuation of it has the same
//! result; so bytes may arrive in pieces of any size, and the caller calls again with all bytes so far.
//!
//! Not here: time, and protocols in which the server speaks first. The caller handles silence; it decides nothing here.

#[cfg(test)]
mod tests;

/// The most bytes examined: a prefix that is still undecided at this length is opaque.
///
/// RFC 9112 §3 asks recipients to support request lines of at least 8,000 octets.
pub const SNIFF_MAX: usize = 8192;

/// The longest accepted method; the longest registered one is `UPDATEREDIRECTREF` with 17 letters.
const METHOD_MAX: usize = 32;

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 9112 §2.3, up to the minor version.
const VERSION: &[u8] = b"HTTP/1.";

/// The protocol of a connection's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// A TLS record that begins a ClientHello (RFC 8446 §5.1, RFC 5246 §6.2.1).
    Tls,
    /// The request line of HTTP/1 (RFC 9112 §3), whatever the method.
    Http1,
    /// The connection preface of HTTP/2 (RFC 9113 §3.4).
    Http2,
    /// None of these.
    Opaque,
    /// Too few bytes to tell.
    Undecided,
}

/// Detects the protocol from `bytes`, the first of a connection.
pub fn sniff(bytes: &[u8]) -> Sniffed {
    let seen = &bytes[..bytes.len().min(SNIFF_MAX)];
    let verdict = match seen {
        [] => Sniffed::Undecided,
        [0x16, ..] => client_hello(seen),
        _ => http(seen),
    };
    match verdict {
        Sniffed::Undecided if seen.len() == SNIFF_MAX => Sniffed::Opaque,
        verdict => verdict,
    }
}

/// A handshake record of SSL 3.0 to TLS 1.3, of 1 to 2¹⁴ bytes, whose first byte is the type of a ClientHello.
fn client_hello(bytes: &[u8]) -> Sniffed {
    let fits = |position: usize, byte: u8| match position {
        0 => byte == 0x16,
        1 => byte == 0x03,
        2 => byte <= 0x04,
        3 => byte <= 0x40,
        4 => (1..=0x4000).contains(&u16::from_be_bytes([bytes[3], byte])),
        _ => byte == 0x01,
    };
    let mut header = bytes.iter().take(6).enumerate();
    match header.all(|(position, &byte)| fits(position, byte)) {
        false => Sniffed::Opaque,
        true if bytes.len() < 6 => Sniffed::Undecided,
        true => Sniffed::Tls,
    }
}

fn http(bytes: &[u8]) -> Sniffed {
    if bytes.starts_with(PREFACE) {
        return Sniffed::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return Sniffed::Undecided;
    }
    // RFC 9112 §2.2: a server should ignore an empty line before the request line.
    match bytes {
        [b'\r'] => Sniffed::Undecided,
        [b'\r', b'\n', line @ ..] => request_line(line),
        line => request_line(line),
    }
}

/// `method SP request-target SP HTTP/1.DIGIT`, and the first byte of the line's end.
fn request_line(line: &[u8]) -> Sniffed {
    let after_method = match word(line, is_token) {
        Word::Whole { len: 1..=METHOD_MAX, rest } => rest,
        Word::Open { len: 0..=METHOD_MAX } => return Sniffed::Undecided,
        Word::Whole { .. } | Word::Open { .. } | Word::Broken => return Sniffed::Opaque,
    };
    match word(after_method, is_target) {
        Word::Whole { len: 1.., rest } => version(rest),
        Word::Open { .. } => Sniffed::Undecided,
        Word::Whole { .. } | Word::Broken => Sniffed::Opaque,
    }
}

fn version(bytes: &[u8]) -> Sniffed {
    match bytes.strip_prefix(VERSION) {
        None if VERSION.starts_with(bytes) => Sniffed::Undecided,
        Some([]) => Sniffed::Undecided,
        Some([b'0'..=b'9']) => Sniffed::Undecided,
        // The HTTP parser rejects a bare CR or LF: this is HTTP, but invalid.
        Some([b'0'..=b'9', b'\r' | b'\n', ..]) => Sniffed::Http1,
        None | Some(_) => Sniffed::Opaque,
    }
}

/// The bytes up to the first space.
enum Word<'a> {
    /// A space follows after `len` bytes, and `rest` after the space.
    Whole { len: usize, rest: &'a [u8] },
    /// The bytes end before a space.
    Open { len: usize },
    /// An invalid byte comes before a space.
    Broken,
}

fn word(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> Word<'_> {
    match bytes.iter().position(|&byte| !belongs(byte)) {
        None => Word::Open { len: bytes.len() },
        Some(len) if bytes[len] == b' ' => Word::Whole { len, rest: &bytes[len + 1..] },
        Some(_) => Word::Broken,
    }
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What parsers accept in a request target: more than RFC 9112 §3.2 allows, since browsers send more.
fn is_target(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0x80..)
}
