//! What is spoken on a connection, from its first bytes.

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// A TLS ClientHello.
    Tls,
    /// An HTTP/1 request.
    Http1,
    /// The HTTP/2 connection preface.
    Http2,
    /// Anything else.
    Opaque,
    /// Not enough bytes to tell.
    Undecided,
}

/// The most bytes looked at: what is undecided by then is opaque.
pub const SNIFF_MAX: usize = 8192;

/// Tells what `bytes`, the first of a connection, are the beginning of.
pub fn sniff(bytes: &[u8]) -> Sniffed {
    if bytes.is_empty() { Sniffed::Undecided } else { Sniffed::Opaque }
}
