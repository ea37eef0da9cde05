//! The answer to a head that hyper cannot parse. There is no request and no exchange then: only the connection is
//! known, and the status that hyper chose.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode, Version};

use super::record::Record;
use super::session::{Origin, Session};
use super::{answer, headers, overrides};
use crate::config::Limits;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::listener::Listener;
use crate::proxy::worker::{Shared, Worker};
use crate::transport::MakeAnswer;

/// The longest target that hyper accepts, in bytes.
const HYPERS_TARGET: u32 = 65_534;

/// Builds the function that makes such answers on the connection of `session`, whose heads are subject to these
/// `limits`.
pub fn answers(worker: &Worker, session: &Session, limits: &Limits) -> MakeAnswer {
    let (shared, listener) = (worker.shared.clone(), session.listener.clone());
    let whose = (session.client, session.permitted_as, session.origin == Origin::Explicit);
    let (bytes, count) = (limits.header_bytes, limits.header_count);
    Box::new(move |status| refusal(&shared, &listener, whose, &fault(status, bytes, count)))
}

/// The answer to a client whose connection is not served at all because of `fault`; counted, and logged.
pub fn refusal(
    shared: &Shared,
    listener: &Arc<Listener>,
    (client, permitted_as, is_explicit): (SocketAddr, IpAddr, bool),
    fault: &Fault,
) -> Bytes {
    // What a diverted one had dialled does not matter.
    let origin = if is_explicit { Origin::Explicit } else { Origin::Diverted(client) };
    shared.count(fault);
    Record::begin(client, listener, Instant::now()).fault(fault);
    let snapshot = shared.routing.snapshot.load();
    let own = snapshot.at(listener);
    let is_stranger = own.is_none_or(|it| overrides::is_stranger(permitted_as, origin, &it.config));
    let mut response = answer::plain(fault, is_stranger);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    if listener.via() {
        headers::append_via(Version::HTTP_11, response.headers_mut());
    }
    written(&response)
}

/// The fault that hyper's status stands for, as precisely as the status tells.
fn fault(status: StatusCode, bytes: usize, count: usize) -> Fault {
    match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            let why = format!(
                "the request's head is over {bytes} bytes (limits.headerBytes) or {count} fields (limits.headerCount)"
            );
            Fault::new(Kind::HeadTooLarge, why)
        }
        StatusCode::URI_TOO_LONG => {
            Fault::new(Kind::TargetTooLong, format!("the request target is over {HYPERS_TARGET} bytes"))
        }
        _ => Fault::new(
            Kind::BadHead,
            "the request's head is not HTTP/1 (RFC 9112): its request line, a field or its body's length is malformed",
        ),
    }
}

/// `response` serialized.
fn written(response: &Response<Bytes>) -> Bytes {
    let status = response.status();
    let mut bytes = BytesMut::with_capacity(1024);
    bytes.put_slice(b"HTTP/1.1 ");
    bytes.put_slice(status.as_str().as_bytes());
    bytes.put_u8(b' ');
    bytes.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    for (name, value) in response.headers() {
        bytes.put_slice(b"\r\n");
        bytes.put_slice(name.as_str().as_bytes());
        bytes.put_slice(b": ");
        bytes.put_slice(value.as_bytes());
    }
    bytes.put_slice(format!("\r\ncontent-length: {}\r\n\r\n", response.body().len()).as_bytes());
    bytes.put_slice(response.body());
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_of_hypers_has_its_kind_and_keeps_its_status() {
        for (status, kind, says) in [
            (400, Kind::BadHead, "RFC 9112"),
            (414, Kind::TargetTooLong, "65534 bytes"),
            (
                431,
                Kind::HeadTooLarge,
                "over 8192 bytes (limits.headerBytes) or 50 fields (limits.headerCount)",
            ),
        ] {
            let fault = fault(StatusCode::from_u16(status).unwrap(), 8192, 50);
            assert_eq!((fault.kind, fault.kind.status().as_u16()), (kind, status));
            assert!(fault.detail.contains(says), "{fault}");
        }
    }

    #[test]
    fn an_answer_is_written_as_http() {
        let mut response = Response::new(Bytes::from_static(b"no\n"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let whole = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 3\r\n\r\nno\n";
        assert_eq!(written(&response), whole.as_slice());
    }
}
