//! An endpoint's answer, prepared for the client.

use std::time::Instant;

use http::header::{CONNECTION, HeaderMap, SEC_WEBSOCKET_ACCEPT};
use http::{HeaderValue, Response, StatusCode, Version};

use super::grpc::{self, Call};
use super::headers::{self, Upgrade};
use super::response_body::{ResponseBody, ResponseGuard};
use super::scan::{HeaderScan, Length};
use super::stream::ClientSide;
use super::{Asked, Exchange, overrides, retry_after, translate, tunnel};
use crate::domain::outcome::Outcome;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::worker::Worker;
use crate::transport::MessageBody;

/// The answer for a client that `asked` this, with a body that reports its end.
///
/// # Errors
///
/// [`Kind::Framing`] where it is not valid HTTP.
pub(super) fn reply(
    worker: &Worker,
    exchange: &Exchange,
    asked: Asked,
    mut response: Response<MessageBody>,
    mut guard: ResponseGuard,
) -> Result<Response<ResponseBody>, Fault> {
    let (now, status) = (Instant::now(), response.status());
    let scan = HeaderScan::new(response.headers());
    if let Err(why) = check_framing(scan, response.headers_mut()) {
        return Err(misframed(guard, now, why));
    }
    if is_last(scan, &asked, status) {
        guard.keep = 0;
    }
    let closes = headers::closes(scan, response.version(), response.headers());
    let keeps_upgrade = headers::strip_hop_by_hop(scan, exchange.session.origin, response.headers_mut());
    let emptied = scan.l5d && exchange.is_stranger() && overrides::clear_answer(response.headers_mut());
    let is_extended = matches!(asked, Asked::Upgrade(..)) && exchange.head.spoken == Version::HTTP_2;
    let client = match tunnel_of(asked, keeps_upgrade, closes, &mut response) {
        Ok(client) => client,
        Err(why) => return Err(misframed(guard, now, why)),
    };
    let call = if response.version() == Version::HTTP_2 { grpc::of(&response) } else { Call::None };
    if exchange.head.spoken != Version::HTTP_2 && call != Call::None {
        translate::call_to_http1(response.headers_mut());
    }
    guard.lease.answered(now, call.outcome(status));
    if let Some(wait) = retry_after::of(status, response.headers()) {
        guard.lease.leave_alone(now, wait, exchange.snapshot.config.limits.retry_after);
    }
    if is_extended && client.is_none() && status.is_success() {
        return Err(not_switched(guard, now, status));
    }
    if let Some(client) = client {
        return Ok(tunnel::switched(worker, exchange, client, response, guard));
    }
    let (parts, incoming) = response.into_parts();
    if emptied {
        guard.discard();
        return Ok(Response::from_parts(parts, ResponseBody::Empty));
    }
    Ok(Response::from_parts(
        parts,
        ResponseBody::endpoint(incoming, guard, exchange.head.spoken, call == Call::Answering),
    ))
}

/// The client's side of the tunnel that this answer begins, to a client that `asked` this.
///
/// # Errors
///
/// What the endpoint answered instead.
fn tunnel_of(
    asked: Asked,
    keeps_upgrade: Upgrade,
    closes: bool,
    response: &mut Response<MessageBody>,
) -> Result<Option<ClientSide>, &'static str> {
    match (asked, keeps_upgrade, response.status()) {
        (Asked::Upgrade(client, proof), Upgrade::Wanted, StatusCode::SWITCHING_PROTOCOLS) => {
            let shown = response.headers().get(SEC_WEBSOCKET_ACCEPT);
            if proof.is_some_and(|proof| shown != Some(&*proof)) {
                // RFC 6455 §4.1: the answer to another handshake is no WebSocket.
                return Err("the endpoint's Sec-WebSocket-Accept does not fit the key");
            }
            Ok(Some(client))
        }
        (.., StatusCode::SWITCHING_PROTOCOLS) => Err("the endpoint switched protocols without being asked"),
        (Asked::Connect(client), _, status) if status.is_success() => Ok(Some(client)),
        (Asked::Connect(_), ..) if closes => {
            // As in `exchange::handle`: nothing more may be sent to the endpoint either, which closes its connection.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Whether what follows on the endpoint's connection may be no answer to the next request.
fn is_last(scan: HeaderScan, asked: &Asked, status: StatusCode) -> bool {
    // RFC 9112 §6.3: the coding counts. But a sender of both may mean the length.
    let is_ambiguous = scan.coding && scan.length != Length::None;
    // An endpoint may see the end of such a request elsewhere, or still switch.
    is_ambiguous || (matches!(asked, Asked::Upgrade(..)) && status != StatusCode::SWITCHING_PROTOCOLS)
}

/// Checks what frames an answer.
fn check_framing(scan: HeaderScan, headers: &mut HeaderMap) -> Result<(), &'static str> {
    if headers::check_codings(scan, headers).is_err() {
        // Removing the field without decoding would change the content.
        return Err("the endpoint used a transfer coding other than chunked");
    }
    headers::settle_length(scan, headers).map_err(|_| "the endpoint's Content-Length is not one number")
}

/// The endpoint has answered an extended CONNECT as any request: RFC 8441 §5 makes a tunnel of each 2xx.
fn not_switched(guard: ResponseGuard, now: Instant, status: StatusCode) -> Fault {
    guard.lease.complete(now);
    let why =
        format!("the endpoint answered {status} and did not switch protocols, as extended CONNECT asks");
    Fault::new(Kind::Framing, why)
}

/// The endpoint's answer is not valid HTTP.
fn misframed(guard: ResponseGuard, now: Instant, why: &'static str) -> Fault {
    guard.lease.finish(now, Outcome::BadFraming);
    Fault::new(Kind::Framing, why)
}
