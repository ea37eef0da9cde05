//! What is spoken on a connection, told from its first bytes.
//!
//! An application that was diverted said nothing of its protocol, and it may be any. Calling HTTP something
//! that is not would break that application, while calling opaque something that is HTTP only costs it
//! routing by request. So HTTP/1 is named when the request line's version has been seen and its line
//! ends, and not on a familiar method alone: memcached has `get`, NATS `CONNECT`, Redis, SIP and RTSP lines of
//! three words.
//!
//! **The answer never changes with more bytes.** Once a prefix is decided, every continuation of it is decided
//! the same way; so bytes may arrive in any pieces, and the caller asks again with all it has.
//!
//! Deliberately absent: time, and protocols in which the server speaks first. Silence is the caller's to
//! notice, and decides nothing here.

#[cfg(test)]
mod tests;

/// The most bytes looked at: a beginning that leaves it open for so long is opaque.
///
/// RFC 9112 §3 asks recipients to support request lines of at least 8,000 octets.
pub const SNIFF_MAX: usize = 8192;

/// The longest method taken for one; the longest registered is `UPDATEREDIRECTREF` with 17 letters.
const METHOD_MAX: usize = 32;

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 9112 §2.3, up to the minor version.
const VERSION: &[u8] = b"HTTP/1.";

/// What the first bytes of a connection are.
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

/// Tells what `bytes`, the first of a connection, begin.
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

/// A handshake record of SSL 3.0 to TLS 1.3, not empty and of at most 2¹⁴ bytes, of which the first is
/// the type of a ClientHello.
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

/// `method SP request-target SP HTTP/1.DIGIT`, and the first byte of the end of the line.
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
        // A bare CR or LF is for the HTTP parser to refuse: this still is HTTP, if bad HTTP.
        Some([b'0'..=b'9', b'\r' | b'\n', ..]) => Sniffed::Http1,
        None | Some(_) => Sniffed::Opaque,
    }
}

/// The beginning of some bytes, up to a space.
enum Word<'a> {
    /// A space follows after `len` bytes, and `rest` after the space.
    Whole { len: usize, rest: &'a [u8] },
    /// The bytes end first.
    Open { len: usize },
    /// Another byte that does not belong comes first.
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

/// What parsers accept in a request target: more than RFC 9112 §3.2 does, since browsers send more.
fn is_target(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0x80..)
}
