//! Which fields a head has that concern a proxy. Nearly every head has none of them, and then one pass over its names
//! is all they cost: no look-up for each.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};

pub(super) static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
pub(super) static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What is there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Survey {
    /// `Connection`.
    pub(super) connection: bool,
    /// `TE`.
    pub(super) te: bool,
    /// `Upgrade`.
    pub(super) upgrade: bool,
    /// `Transfer-Encoding`.
    pub(super) coding: bool,
    /// `Host`, and its place among the names.
    host: Option<u16>,
    /// `Content-Length`, and its place among the names.
    length: Option<u16>,
    /// Whether places among the names may be none among the values: a field is repeated, or is one that weir may remove.
    moves: bool,
    /// `Via`.
    pub(super) via: bool,
    /// `Expect`.
    pub(super) expect: bool,
    /// `Max-Forwards`.
    pub(super) max_forwards: bool,
    /// `l5d-dtab` or `l5d-ctx-dtab`.
    pub(super) dtab: bool,
    /// Any of `l5d-dst-service`, `l5d-dst-client`, `l5d-dst-residual`.
    pub(super) destination: bool,
    /// Any of `Keep-Alive`, `Proxy-Connection`, `Proxy-Authenticate`, `Proxy-Authorization`.
    pub(super) hop: bool,
}

impl Survey {
    /// Looks through `headers`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut survey = Self::default();
        for (at, name) in (0..).zip(headers.keys()) {
            survey.note(at, name);
        }
        let Self { connection, te, upgrade, coding, expect, max_forwards, dtab, destination, hop, .. } =
            survey;
        let removable = connection | te | upgrade | coding | expect | max_forwards | dtab | destination | hop;
        survey.moves = removable || headers.len() != headers.keys_len();
        survey
    }

    /// How often `Host` is there: never, once, or more.
    pub(super) fn hosts(self, headers: &HeaderMap) -> usize {
        let once = usize::from(self.host.is_some());
        if self.moves { headers.get_all(HOST).iter().count() } else { once }
    }

    /// The first `Host`, also after what concerns weir alone was removed, and after one was added.
    pub(super) fn host(self, headers: &HeaderMap) -> Option<&HeaderValue> {
        match self.host {
            Some(at) if !self.moves => headers.values().nth(at.into()),
            _ => headers.get(HOST),
        }
    }

    /// Whether it is plain without a look-up that there is no `Content-Length`, or one that is one number.
    pub(super) fn has_a_plain_length(self, headers: &HeaderMap) -> bool {
        let Some(at) = self.length else { return true };
        let is_plain = |it: &HeaderValue| !it.is_empty() && it.as_bytes().iter().all(u8::is_ascii_digit);
        !self.moves && headers.values().nth(at.into()).is_some_and(is_plain)
    }

    fn note(&mut self, at: u16, name: &HeaderName) {
        match *name {
            CONNECTION => self.connection = true,
            TE => self.te = true,
            UPGRADE => self.upgrade = true,
            TRANSFER_ENCODING => self.coding = true,
            HOST => self.host = Some(at),
            CONTENT_LENGTH => self.length = Some(at),
            VIA => self.via = true,
            EXPECT => self.expect = true,
            MAX_FORWARDS => self.max_forwards = true,
            PROXY_AUTHENTICATE | PROXY_AUTHORIZATION => self.hop = true,
            _ => self.note_other(name.as_str()),
        }
    }

    fn note_other(&mut self, name: &str) {
        match name {
            "keep-alive" | "proxy-connection" => self.hop = true,
            "l5d-dtab" | "l5d-ctx-dtab" => self.dtab = true,
            "l5d-dst-service" | "l5d-dst-client" | "l5d-dst-residual" => self.destination = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn host_and_length_are_found_whatever_else_is_repeated() {
        let cases: [(&[_], usize, Option<&str>, bool); 7] = [
            (&[], 0, None, true),
            (&[("a", "1"), ("host", "h"), ("content-length", "2")], 1, Some("h"), true),
            (&[("a", "1"), ("a", "1"), ("host", "h"), ("content-length", "2")], 1, Some("h"), false),
            (&[("host", "h"), ("a", "1"), ("host", "i")], 2, Some("h"), true),
            (&[("content-length", "2"), ("host", "h"), ("content-length", "2")], 1, Some("h"), false),
            (&[("content-length", "2, 2")], 0, None, false),
            (&[("te", "trailers"), ("host", "h"), ("content-length", "2")], 1, Some("h"), false),
        ];
        for (fields, hosts, host, plain) in cases {
            let mut headers = map(fields);
            let found = Survey::of(&headers);
            let first = found.host(&headers).map(|it| it.to_str().unwrap());
            assert_eq!((found.hosts(&headers), first), (hosts, host), "{fields:?}");
            assert_eq!(found.has_a_plain_length(&headers), plain, "{fields:?}");
            headers.remove("te");
            assert_eq!(found.host(&headers).map(|it| it.to_str().unwrap()), host, "{fields:?}, less one");
            headers.insert(HOST, HeaderValue::from_static("new"));
            assert_eq!(
                found.host(&headers).map(|it| it.to_str().unwrap()),
                Some("new"),
                "{fields:?}, and one"
            );
        }
    }
}
