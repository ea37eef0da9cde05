//! What a backend is to answer.

use std::time::Duration;

use crate::message::Fields;

/// An answer of a backend.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Fields,
    pub(super) interim: Vec<(u16, Fields)>,
    pub(super) after: Duration,
    pub(super) then: Then,
}

/// What ends an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The end of the stream.
    End,
    /// The end of the stream in an empty frame, so long after everything else.
    EndLater(Duration),
    /// RST_STREAM with this code; without a head where the status is 0.
    Reset(u32),
    /// Nothing: the stream stays open.
    Nothing,
}

impl Reply {
    /// 200 with this body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        let (fields, trailers, interim) = Default::default();
        let (after, then) = (Duration::ZERO, Then::End);
        Self { status: 200, fields, body: body.into(), trailers, interim, after, then }
    }

    /// RST_STREAM with this code, and nothing before.
    pub fn reset(code: u32) -> Self {
        Self { status: 0, then: Then::Reset(code), ..Self::ok("") }
    }

    /// Nothing at all.
    pub fn nothing() -> Self {
        Self { status: 0, then: Then::Nothing, ..Self::ok("") }
    }

    /// The answer to a gRPC call with one empty message, and this status in the trailers.
    pub fn grpc(status: u8) -> Self {
        let answer = Self::ok([0; 5]).with("content-type", "application/grpc");
        answer.trailer("grpc-status", &status.to_string())
    }

    /// The answer to a gRPC call that is its head alone.
    pub fn trailers_only(status: u8) -> Self {
        Self::ok("").with("content-type", "application/grpc").with("grpc-status", &status.to_string())
    }

    /// With this status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With this field.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// With this trailer.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.into(), value.into()));
        self
    }

    /// After an interim answer with this field.
    pub fn interim(mut self, status: u16, name: &str, value: &str) -> Self {
        self.interim.push((status, vec![(name.into(), value.into())]));
        self
    }

    /// So long after the request came.
    pub fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }

    /// Ends like this.
    pub fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }
}
