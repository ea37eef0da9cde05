//! Which proxy-related fields a head has. Nearly every head has none of them, and then one pass over its names is the
//! whole cost: there is no look-up for each.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};

pub(super) static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
pub(super) static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The common prefix of linkerd's fields.
pub(super) const L5D: &str = "l5d-";

/// The fields that are present.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeaderScan {
    /// `Connection`.
    pub(super) connection: bool,
    /// `TE`.
    pub(super) te: bool,
    /// `Upgrade`.
    pub(super) upgrade: bool,
    /// `Transfer-Encoding`.
    pub(super) coding: bool,
    /// The number of `Host` fields: 0, 1, or 2 for two and more.
    pub(super) hosts: u8,
    /// The kind of `Content-Length`.
    pub(super) length: Length,
    /// `Via`.
    pub(super) via: bool,
    /// `Expect`.
    pub(super) expect: bool,
    /// `Max-Forwards`.
    pub(super) max_forwards: bool,
    /// Any field of linkerd's, `l5d-…`.
    pub(super) l5d: bool,
    /// `l5d-dtab` or `l5d-ctx-dtab`.
    pub(super) dtab: bool,
    /// Any of `l5d-dst-service`, `l5d-dst-client`, `l5d-dst-residual`.
    pub(super) destination: bool,
    /// Any of the hop-by-hop fields `Keep-Alive`, `Proxy-Connection`, `Proxy-Authenticate`, `Proxy-Authorization`.
    pub(super) hop: bool,
    /// The bytes of the fields in their usual spelling: with one space after each colon, and CRLF.
    pub(super) bytes: usize,
}

/// The kind of Content-Length in a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Length {
    /// No field.
    #[default]
    None,
    /// One number.
    Number,
    /// Anything else: several fields, a list, or not a number.
    Other,
}

impl HeaderScan {
    /// Scans `headers`.
    pub(super) fn new(headers: &HeaderMap) -> Self {
        Self::with_host(headers).0
    }

    /// Scans `headers`, and returns the first `Host` field with what was found.
    pub(super) fn with_host(headers: &HeaderMap) -> (Self, Option<&HeaderValue>) {
        let (mut scan, mut host) = (Self::default(), None);
        for (name, value) in headers {
            scan.bytes += name.as_str().len() + ": ".len() + value.len() + "\r\n".len();
            scan.note(name, value);
            if scan.hosts == 1 && host.is_none() {
                host = Some(value);
            }
        }
        (scan, host)
    }

    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        match *name {
            CONNECTION => self.connection = true,
            TE => self.te = true,
            UPGRADE => self.upgrade = true,
            TRANSFER_ENCODING => self.coding = true,
            HOST => self.hosts = (self.hosts + 1).min(2),
            CONTENT_LENGTH => self.length = self.length.and(value),
            VIA => self.via = true,
            EXPECT => self.expect = true,
            MAX_FORWARDS => self.max_forwards = true,
            PROXY_AUTHENTICATE | PROXY_AUTHORIZATION => self.hop = true,
            _ => self.note_other(name.as_str()),
        }
    }

    fn note_other(&mut self, name: &str) {
        if name.starts_with(L5D) {
            self.l5d = true;
        }
        match name {
            "keep-alive" | "proxy-connection" => self.hop = true,
            "l5d-dtab" | "l5d-ctx-dtab" => self.dtab = true,
            "l5d-dst-service" | "l5d-dst-client" | "l5d-dst-residual" => self.destination = true,
            _ => {}
        }
    }
}

impl Length {
    /// The kind after one more field.
    fn and(self, value: &HeaderValue) -> Self {
        let is_number = !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
        if self == Self::None && is_number { Self::Number } else { Self::Other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields = &'static [(&'static str, &'static str)];

    #[test]
    fn any_field_of_linkerds_is_found() {
        for (name, scan) in [("l5d-sample", true), ("l5d-ctx-dtab", true), ("x-l5d-a", false), ("l5d", false)]
        {
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("1"))]);
            assert_eq!(HeaderScan::new(&headers).l5d, scan, "{name}");
        }
    }

    #[test]
    fn hosts_and_lengths_are_counted_whatever_else_is_repeated() {
        let cases: [(Fields, u8, Length); 9] = [
            (&[], 0, Length::None),
            (&[("a", "1"), ("host", "h"), ("content-length", "2")], 1, Length::Number),
            (&[("a", "1"), ("a", "1"), ("host", "h"), ("content-length", "2")], 1, Length::Number),
            (&[("host", "h"), ("a", "1"), ("host", "i")], 2, Length::None),
            (&[("host", "h"), ("host", "h"), ("host", "h")], 2, Length::None),
            (&[("content-length", "2"), ("host", "h"), ("content-length", "2")], 1, Length::Other),
            (&[("content-length", "2, 2")], 0, Length::Other),
            (&[("content-length", "+2")], 0, Length::Other),
            (&[("content-length", "")], 0, Length::Other),
        ];
        for (fields, hosts, length) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let (scan, host) = HeaderScan::with_host(&headers);
            assert_eq!((scan.hosts, scan.length), (hosts, length), "{fields:?}");
            assert_eq!(host, headers.get(HOST), "{fields:?}");
        }
    }
}
