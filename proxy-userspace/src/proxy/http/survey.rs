//! Which fields a head has that concern a proxy. Nearly every head has none of them, and then one pass over its names
//! is all they cost: no look-up for each.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
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
    /// `Content-Length`.
    pub(super) length: bool,
    /// The same, more than once or as anything but one number.
    pub(super) odd_length: bool,
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
        for (name, value) in headers {
            survey.note(name, value);
        }
        survey
    }

    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        match *name {
            CONNECTION => self.connection = true,
            TE => self.te = true,
            UPGRADE => self.upgrade = true,
            TRANSFER_ENCODING => self.coding = true,
            CONTENT_LENGTH => {
                self.odd_length |= self.length || !value.as_bytes().iter().all(u8::is_ascii_digit);
                self.length = true;
            }
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
