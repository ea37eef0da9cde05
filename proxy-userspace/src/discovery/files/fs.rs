//! linkerd's `io.l5d.fs` format: one endpoint per line, `host port [* weight]`, `#` for comments.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::tree::Position;
use crate::config::{Mistake, quoted};
use crate::domain::name::legacy_ipv4;

/// One line of a file: an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
    /// The weight, positive and finite; 1.0 by default.
    pub weight: f64,
    /// The position of the host.
    pub at: Position,
}

/// A host, by address or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name for the system's resolver; every address of it is an endpoint. Lower case; a trailing dot, which disables
    /// the resolver's search list, is kept.
    Name(Arc<str>),
}

/// A mistake and its position.
pub type LineMistake = (Position, Mistake);

/// Maximum number of mistakes reported per file: one with more is no list of endpoints, and may be large.
const MISTAKES: usize = 20;

/// Weights above this, or below its inverse, are taken for mistakes: no balancer can honour them.
const HEAVIEST: f64 = 1_000_000.0;

/// Parses the endpoints in `text`.
///
/// # Errors
/// The invalid lines with their positions, at most twenty. A file with one invalid line is invalid: to continue without
/// that endpoint would be guessing.
pub fn parse_fs(text: &str) -> Result<Vec<Line>, Vec<LineMistake>> {
    let mut lines = Vec::new();
    let mut mistakes = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let content = line.split('#').next().unwrap_or_default();
        if content.trim().is_empty() {
            continue;
        }
        match parse_line(content, number) {
            Ok(line) => lines.push(line),
            Err(mistake) => mistakes.push(mistake),
        }
        if mistakes.len() == MISTAKES {
            break;
        }
    }
    if mistakes.is_empty() { Ok(lines) } else { Err(mistakes) }
}

fn parse_line(content: &str, line: u32) -> Result<Line, LineMistake> {
    let at = |word: &str| Position { line, column: column(content, word) };
    let (endpoint, weight) = match content.split_once('*') {
        Some((endpoint, weight)) => (endpoint, Some(weight)),
        None => (content, None),
    };
    let words: Vec<&str> = endpoint.split_whitespace().collect();
    let &[host, port] = words.as_slice() else {
        let mistake = Mistake::new(format!("expected `host port`, not {}", quoted(content.trim())));
        return Err((
            at(content.trim_start()),
            mistake.hint("as in `10.0.0.7 8080` or `10.0.0.7 8080 * 2.0`"),
        ));
    };
    let parsed = parse_host(host).map_err(|mistake| (at(host), mistake))?;
    let port_number = port.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
        (at(port), Mistake::new(format!("{} is not a port", quoted(port))).hint("a number from 1 to 65535"))
    })?;
    let weight = match weight {
        None => 1.0,
        Some(text) => parse_weight(text.trim()).map_err(|mistake| (at(text.trim_start()), mistake))?,
    };
    Ok(Line { host: parsed, port: port_number, weight, at: at(host) })
}

/// The column of `word`, which is a slice of `line`.
fn column(line: &str, word: &str) -> u32 {
    let offset = word.as_ptr().addr().saturating_sub(line.as_ptr().addr());
    let characters = line.get(..offset).map_or(0, |before| before.chars().count());
    u32::try_from(characters + 1).unwrap_or(u32::MAX)
}

fn parse_host(text: &str) -> Result<Host, Mistake> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    // linkerd's resolver also accepted the old spellings of an address: `127.1`.
    let address = bare.parse::<IpAddr>().ok().or_else(|| legacy_ipv4(text).map(IpAddr::V4));
    if let Some(address) = address {
        let address = address.to_canonical();
        if address.is_unspecified() || address.is_multicast() {
            return Err(Mistake::new(format!("{address} is not the address of a machine")));
        }
        return Ok(Host::Ip(address));
    }
    let written = text.to_ascii_lowercase();
    let name = written.strip_suffix('.').unwrap_or(&written);
    let inside = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(inside);
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|c| c.is_ascii_digit()));
    if name.len() <= 253 && name.split('.').all(is_label) && !numeric {
        return Ok(Host::Name(written.into()));
    }
    Err(Mistake::new(format!("{} is neither an address nor a host name", quoted(text))))
}

fn parse_weight(text: &str) -> Result<f64, Mistake> {
    let weight = text.parse().ok().filter(|weight| (1.0 / HEAVIEST..=HEAVIEST).contains(weight));
    weight.ok_or_else(|| {
        Mistake::new(format!("{} is not a weight", quoted(text))).hint("a positive number, as in `* 0.5`")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> Host {
        Host::Ip(text.parse().unwrap())
    }

    #[test]
    fn a_line_is_a_host_a_port_and_perhaps_a_weight() {
        for (text, host, port, weight) in [
            ("127.0.0.1 8081", ip("127.0.0.1"), 8081, 1.0),
            ("  10.0.0.7\t65535   # the last\r", ip("10.0.0.7"), 65_535, 1.0),
            ("10.0.0.7 80 * 2", ip("10.0.0.7"), 80, 2.0),
            ("10.0.0.7 80*0.5", ip("10.0.0.7"), 80, 0.5),
            ("fd00::7 80", ip("fd00::7"), 80, 1.0),
            ("[fd00::7] 80", ip("fd00::7"), 80, 1.0),
            ("127.1 8888", ip("127.0.0.1"), 8888, 1.0),
            ("0x0a000007 80", ip("10.0.0.7"), 80, 1.0),
            ("::ffff:10.0.0.7 80", ip("10.0.0.7"), 80, 1.0),
            ("Db-1.Example.COM. 5432", Host::Name("db-1.example.com.".into()), 5432, 1.0),
            ("localhost 1", Host::Name("localhost".into()), 1, 1.0),
        ] {
            let lines = parse_fs(text).unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"));
            let [line] = lines.as_slice() else { panic!("{text}: {lines:?}") };
            assert_eq!((&line.host, line.port, line.weight), (&host, port, weight), "{text}");
        }
    }

    #[test]
    fn comments_and_blank_lines_are_no_endpoints() {
        assert_eq!(parse_fs(""), Ok(Vec::new()));
        assert_eq!(parse_fs("# nothing\n\n   \n\t# here\n"), Ok(Vec::new()));
    }

    #[test]
    fn every_bad_line_is_reported_where_it_is_bad() {
        let text = "10.0.0.7 80\n10.0.0.7\n  10.0.0.7 0\n10.0.0.7 80 * 0\n10.0.0.7 80 extra\n0.0.0.0 80\n300.1.2.3 80\n\
                    ä 80\n10.0.0.7 65536\n10.0.0.7 80 * inf\n10.0.0.7 80 *\n10.0.0.7 80 * NaN\n10.0.0.7:80\n";
        let mistakes = parse_fs(text).unwrap_err();
        let places: Vec<_> = mistakes.iter().map(|(at, _)| (at.line, at.column)).collect();
        let expected = [
            (2, 1),
            (3, 12),
            (4, 15),
            (5, 1),
            (6, 1),
            (7, 1),
            (8, 1),
            (9, 10),
            (10, 15),
            (11, 14),
            (12, 15),
            (13, 1),
        ];
        assert_eq!(places, expected, "{mistakes:#?}");
    }

    #[test]
    fn a_file_of_something_else_has_a_bounded_number_of_mistakes() {
        let mistakes = parse_fs(&"MIIDdTCCAl2gAwIBAgIL\n".repeat(10_000)).unwrap_err();
        assert_eq!(mistakes.len(), MISTAKES);
    }

    proptest! {
        #[test]
        fn random_text_never_panics_and_never_makes_a_bad_endpoint(text in "[ -~\n\t*#é]{0,80}") {
            for line in parse_fs(&text).unwrap_or_default() {
                prop_assert!(line.port > 0 && line.weight.is_finite() && line.weight > 0.0);
            }
        }
    }
}
