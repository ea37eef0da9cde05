//! What the fuzz target `detection` checks of the first bytes of a connection (`tests/fuzz`). Its kept inputs are run by
//! `cargo test`, too.

use super::client_hello::{ClientHello, Reader};
use super::first_head::FirstHead;
use super::preface;
use crate::config::Limits;
use crate::domain::sniff::{SNIFF_MAX, Sniffed, sniff};

/// Checks that no result depends on how `bytes` are cut into segments: nothing that an attacker sends in pieces is taken
/// for another thing than what it is as a whole.
///
/// # Panics
///
/// When one does.
pub fn detection(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(2 * SNIFF_MAX)];
    protocol_is_one(bytes);
    head_is_one(bytes);
    hello_is_one(bytes);
}

/// Lengths at which `bytes` are cut: all near the beginning, and fewer from there on.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let all = bytes.len();
    (1..all.min(256)).chain((256..all).step_by(97)).chain([all]).filter(move |&cut| cut <= all)
}

fn protocol_is_one(bytes: &[u8]) {
    let whole = sniff(bytes);
    let first = cuts(bytes).map(|cut| sniff(&bytes[..cut])).find(|&it| it != Sniffed::Undecided);
    assert_eq!(first.unwrap_or(Sniffed::Undecided), whole);
    let begun = preface::is_surely_http2(bytes);
    assert!(!begun || matches!(whole, Sniffed::Undecided | Sniffed::Http2));
}

fn head_is_one(bytes: &[u8]) {
    if sniff(bytes) != Sniffed::Http1 {
        return;
    }
    let limits = Limits { header_bytes: SNIFF_MAX, ..Limits::default() };
    let parse = |cut: usize| FirstHead::parse(&bytes[..cut], &limits);
    let first = cuts(bytes).map(parse).find(|&it| it != FirstHead::Partial);
    let whole = parse(bytes.len());
    // A head that is too long is hyper's to refuse, whatever would have followed.
    if bytes.len() <= limits.header_bytes {
        assert_eq!(first.unwrap_or(FirstHead::Partial), whole);
    }
}

fn hello_is_one(bytes: &[u8]) {
    if sniff(bytes) != Sniffed::Tls {
        return;
    }
    let read = |size: usize| {
        let mut reader = Reader::default();
        let said = bytes.chunks(size).map(|piece| reader.read(piece)).find(|it| *it != ClientHello::Partial);
        match said.unwrap_or(ClientHello::Partial) {
            // In which words depends on how much of it was seen.
            ClientHello::Invalid(_) => ClientHello::Invalid(String::new()),
            said => said,
        }
    };
    let whole = read(bytes.len().max(1));
    for size in [1, 7, 1460] {
        assert_eq!(read(size), whole, "in pieces of {size}");
    }
    if let ClientHello::Named(name) = whole {
        assert!(name.is_ascii() && !name.ends_with('.') && name == name.to_ascii_lowercase(), "{name:?}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_detection_was_fuzzed_with_holds() {
        assert!(crate::proxy::kept_inputs("detection", super::detection) >= 10);
    }
}
