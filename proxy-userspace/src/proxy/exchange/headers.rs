//! Which fields of a head are forwarded and which are removed.

use http::Version;
use http::header::{
    CONNECTION, CONTENT_LENGTH, Entry, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::Uri;

use super::scan::{HeaderScan, KEEP_ALIVE, Length, PROXY_CONNECTION};
use crate::proxy::exchange::session::Origin;
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::routing::route::{Route, RouteTarget};

/// How many weirs a request may pass; more is treated as a loop.
const MAX_HOPS: usize = 20;

/// Fields that are normally added to a request, at most: Via and three that name its destination.
pub(super) const ADDED: usize = 4;

/// Whether a message asks to turn the connection into a byte tunnel, and keeps its fields for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// Yes; `Upgrade` and `Connection: upgrade` are forwarded.
    Wanted,
    /// No.
    None,
}

/// Ignores an upgrade requested by HTTP/1.0, as servers must (RFC 9110 §7.8): the client could not use it.
pub(super) fn check_upgrade(scan: HeaderScan, spoken: Version, headers: &mut HeaderMap) {
    if scan.upgrade && spoken == Version::HTTP_10 {
        headers.remove(UPGRADE);
    }
}

/// Removes hop-by-hop fields (RFC 9110 §7.6.1), including those that `Connection` names, and returns whether an upgrade
/// is requested. `TE: trailers` is forwarded, since weir forwards trailers. An upgrade to h2c is not forwarded: weir's
/// connections to endpoints keep their protocol.
pub(super) fn strip_hop_by_hop(scan: HeaderScan, origin: Origin, headers: &mut HeaderMap) -> Upgrade {
    let mut upgrade = Upgrade::None;
    if scan.connection {
        upgrade = strip_connection(headers);
    }
    let trailers = scan.te && takes_trailers(headers);
    if scan.coding {
        // hyper has decoded the coding; a length beside it was invalid (RFC 9112 §6.3).
        headers.remove(TRANSFER_ENCODING);
        headers.remove(CONTENT_LENGTH);
    }
    if scan.hop {
        headers.remove(&KEEP_ALIVE);
        headers.remove(&PROXY_CONNECTION);
        // Proxy fields of a diverted client are meant for the proxy it dialled.
        if origin == Origin::Explicit {
            headers.remove(PROXY_AUTHENTICATE);
            headers.remove(PROXY_AUTHORIZATION);
        }
    }
    if scan.te {
        headers.remove(TE);
    }
    match upgrade {
        Upgrade::Wanted => {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        Upgrade::None if scan.upgrade => {
            headers.remove(UPGRADE);
        }
        Upgrade::None => {}
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    upgrade
}

/// Whether the sender of a message of version `spoken` closes its connection after it (RFC 9112 §9.3).
pub(super) fn closes(scan: HeaderScan, spoken: Version, headers: &HeaderMap) -> bool {
    let says = |option: &str| {
        let mut options = headers.get_all(CONNECTION).iter().flat_map(tokens);
        options.any(|it| it.eq_ignore_ascii_case(option))
    };
    match spoken {
        Version::HTTP_10 => !scan.connection || says("close") || !says("keep-alive"),
        _ => scan.connection && says("close"),
    }
}

/// Removes `Connection` and every field it names.
fn strip_connection(headers: &mut HeaderMap) -> Upgrade {
    let Entry::Occupied(connection) = headers.entry(CONNECTION) else { return Upgrade::None };
    let values: smallvec::SmallVec<[HeaderValue; 2]> = connection.remove_entry_mult().1.collect();
    let mut upgrade = Upgrade::None;
    for option in values.iter().flat_map(tokens) {
        if option.eq_ignore_ascii_case("upgrade") {
            let h2c =
                headers.get_all(UPGRADE).iter().flat_map(tokens).any(|it| it.eq_ignore_ascii_case("h2c"));
            let wanted = headers.contains_key(UPGRADE) && !h2c;
            upgrade = if wanted { Upgrade::Wanted } else { Upgrade::None };
        } else if !is_end_to_end(option) {
            headers.remove(option);
        }
    }
    // HTTP2-Settings belongs to h2c (RFC 7540 §3.2.1) and is named by Connection, so it is removed already.
    upgrade
}

/// Fields that a client may not remove by naming them in Connection: that would change the message's meaning.
fn is_end_to_end(option: &str) -> bool {
    [
        HOST.as_str(),
        CONTENT_LENGTH.as_str(),
        TRANSFER_ENCODING.as_str(),
        TE.as_str(),
        VIA.as_str(),
        "close",
        "keep-alive",
    ]
    .iter()
    .any(|name| option.eq_ignore_ascii_case(name))
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().flat_map(tokens).any(|it| it.eq_ignore_ascii_case("trailers"))
}

/// The elements of a comma-separated list; none for a value that is not ASCII.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|token| !token.is_empty())
}

/// Refuses transfer codings that weir would have to decode (RFC 9112 §6.1): hyper accepts any list that ends in
/// `chunked`, decodes that one, and the others would be lost with the field.
///
/// # Errors
///
/// [`Kind::TransferCoding`]
pub(super) fn check_codings(scan: HeaderScan, headers: &HeaderMap) -> Result<(), Fault> {
    if !scan.coding {
        return Ok(());
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Fault::new(Kind::TransferCoding, "the only transfer coding weir takes is one chunked")),
    }
}

/// Replaces a repeated Content-Length of an answer by one number, or refuses it (RFC 9110 §8.6). hyper does so for its
/// own framing where a body follows, but leaves the field as received. In requests it accepts only a single number.
///
/// # Errors
///
/// [`Kind::BadBody`]
pub(super) fn settle_length(scan: HeaderScan, headers: &mut HeaderMap) -> Result<(), Fault> {
    // With a transfer coding the length does not count.
    if scan.length != Length::Other || scan.coding {
        return Ok(());
    }
    let fields = headers.get_all(CONTENT_LENGTH).iter();
    let mut lengths = fields.flat_map(|it| it.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    let first = lengths.next().unwrap_or_default();
    let is_number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
    let one = HeaderValue::from_bytes(first).ok().filter(|_| is_number && lengths.all(|it| it == first));
    let none = || Fault::new(Kind::BadBody, "Content-Length is not one number");
    headers.insert(CONTENT_LENGTH, one.ok_or_else(none)?);
    Ok(())
}

/// Refuses a request with a Content-Length and no body: sent on, its endpoint would take what follows on the connection,
/// another request, for its body.
///
/// # Errors
///
/// [`Kind::BadBody`]
pub(super) fn check_length(scan: HeaderScan, has_body: bool, headers: &HeaderMap) -> Result<(), Fault> {
    if scan.length == Length::None || has_body {
        return Ok(());
    }
    let is_zero = |length: &HeaderValue| length.as_bytes().iter().all(|digit| *digit == b'0');
    match headers.get_all(CONTENT_LENGTH).iter().all(is_zero) {
        true => Ok(()),
        false => Err(Fault::new(Kind::BadBody, "the request has a Content-Length, and no body")),
    }
}

static SERVICE: HeaderName = HeaderName::from_static("l5d-dst-service");
static CLIENT: HeaderName = HeaderName::from_static("l5d-dst-client");
static RESIDUAL: HeaderName = HeaderName::from_static("l5d-dst-residual");

/// Tells the endpoint by which name it was reached, in linkerd's headers. Values from the client are replaced or
/// removed: they cannot be trusted.
pub(super) fn say_destination(scan: HeaderScan, headers: &mut HeaderMap, route: &Route, place: RouteTarget) {
    if scan.destination {
        for name in [&SERVICE, &CLIENT, &RESIDUAL] {
            headers.remove(name);
        }
    }
    let values = [(&SERVICE, route.service.clone()), (&CLIENT, place.client), (&RESIDUAL, place.residual)];
    for (name, value) in values {
        if let Some(value) = value {
            headers.append(name, value);
        }
    }
}

/// Gives an HTTP/1.0 request without host the canonical host of its `cluster`: sent as HTTP/1.1 it needs one (RFC 9112
/// §3.2). It is empty where the cluster's name is not made from a host.
pub(super) fn say_host(headers: &mut HeaderMap, cluster: &str) {
    let host = cluster.strip_prefix("/svc/").filter(|host| !host.contains('/'));
    let host = host.and_then(|host| HeaderValue::from_str(host).ok());
    headers.insert(HOST, host.unwrap_or_else(|| HeaderValue::from_static("")));
}

/// Appends weir to Via, with the version received: `2 weir`, `1.1 weir` or `1.0 weir` (RFC 9110 §7.6.3).
pub(super) fn append_via(received: Version, headers: &mut HeaderMap) {
    // Made once: each call of `from_static` looks at every byte.
    static WEIR_10: HeaderValue = HeaderValue::from_static("1.0 weir");
    static WEIR_11: HeaderValue = HeaderValue::from_static("1.1 weir");
    static WEIR_2: HeaderValue = HeaderValue::from_static("2 weir");
    let weir = match received {
        Version::HTTP_10 => &WEIR_10,
        Version::HTTP_2 => &WEIR_2,
        _ => &WEIR_11,
    };
    headers.append(VIA, weir.clone());
}

/// Refuses a request that has passed too many weirs. Counted from Via, so transparent hops, which add no Via, do not
/// count: the eBPF program prevents loops there.
///
/// # Errors
///
/// [`Kind::Loop`]
pub(super) fn check_hops(scan: HeaderScan, headers: &HeaderMap) -> Result<(), Fault> {
    if !scan.via {
        return Ok(());
    }
    let hops = headers.get_all(VIA).iter().flat_map(tokens).filter(|hop| is_weir(hop)).count();
    if hops > MAX_HOPS {
        return Err(Fault::new(
            Kind::Loop,
            format!("the request has passed {hops} weirs: it runs in a circle"),
        ));
    }
    Ok(())
}

/// Whether a Via element (`1.1 weir (comment)`) was added by a weir.
fn is_weir(hop: &str) -> bool {
    hop.split_ascii_whitespace().nth(1).is_some_and(|by| by.eq_ignore_ascii_case("weir"))
}

/// Bounds the request target, whatever its form. Returns its length in bytes, without a scheme.
///
/// # Errors
///
/// [`Kind::TargetTooLong`]
pub(super) fn check_target(uri: &Uri, most: usize) -> Result<usize, Fault> {
    let authority = uri.authority().map_or(0, |it| it.as_str().len());
    let path = uri.path_and_query().map_or(0, |it| it.as_str().len());
    if authority + path > most {
        return Err(Fault::new(Kind::TargetTooLong, format!("the request target is over {most} bytes")));
    }
    Ok(authority + path)
}
