//! The head of a request, read once as received: what later steps need is a value here, and none of them reads it from
//! the header map again. No value is a *position* in the map, since weir adds and removes fields later.

use std::net::SocketAddr;

use http::header::{HOST, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};

use super::expect::Expectation;
use super::headers;
use super::scan::HeaderScan;
use super::session::Origin;
use crate::domain::name::{self, BadHost};
use crate::proxy::fault::{Fault, Kind};

/// The values read from a request's head.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Which proxy-related fields it has.
    pub(super) scan: HeaderScan,
    /// The client's HTTP version.
    pub(super) spoken: Version,
    /// The host and port that an explicit request names (RFC 9110 §7.1), as written. `None` for diverted requests,
    /// which go where they dialled. HTTP/1.0 may have none; then the name has to be made from something else.
    host: Option<HeaderValue>,
    /// What it expects before its body is sent.
    pub(super) expectation: Expectation,
    /// Its length in its usual spelling, in bytes.
    pub(super) length: usize,
}

impl Head {
    /// Reads and checks the head of `request`, whose target may have at most `most` bytes. Afterwards the target of an
    /// explicit request is in origin-form, and its Host field equals [`Head::host`].
    ///
    /// # Errors
    ///
    /// [`Kind::TargetTooLong`], [`Kind::TransferCoding`], [`Kind::Loop`], [`Kind::NoHost`], [`Kind::BadTarget`]; of a
    /// diverted request [`Kind::BadHost`]. The host of an explicit request is checked when a name is made from it.
    pub(super) fn read<B>(request: &mut Request<B>, origin: Origin, most: usize) -> Result<Self, Fault> {
        let target = headers::check_target(request.uri(), most)?;
        let (scan, field) = HeaderScan::with_host(request.headers());
        let field = field.cloned();
        let scheme = request.uri().scheme().map_or(0, |scheme| scheme.as_str().len() + "://".len());
        let line = request.method().as_str().len() + scheme + target + "  HTTP/1.1\r\n".len();
        let length = line + scan.bytes + "\r\n".len();
        headers::check_codings(scan, request.headers())?;
        headers::check_hops(scan, request.headers())?;
        let expectation = if scan.expect { Expectation::read(request) } else { Expectation::None };
        let host = match (scan.hosts, origin) {
            (2.., _) => return Err(Fault::new(Kind::NoHost, "the request has more than one Host")),
            (_, Origin::Explicit) => host(request, field)?,
            (_, Origin::Diverted(address)) => {
                check_host(request, field.as_ref())?;
                if scan.hosts == 0 {
                    require_host(request, address)?;
                }
                None
            }
        };
        Ok(Self { scan, spoken: request.version(), host, expectation, length })
    }

    /// Whether the request names a host.
    pub(super) fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// The host and port that the request names; empty where it has none, or where it is not ASCII.
    pub(super) fn host(&self) -> &str {
        self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default()
    }
}

/// The host of an explicit request: that of its target, or else of its only Host `field` (RFC 9112 §§3.2.2, 3.3).
/// Afterwards both are equal. Only HTTP/1.0 may have none.
fn host<B>(request: &mut Request<B>, field: Option<HeaderValue>) -> Result<Option<HeaderValue>, Fault> {
    let Some(host) = to_origin_form(request, field.as_ref())? else {
        return match request.version() {
            Version::HTTP_10 => Ok(field),
            _ => field.ok_or_else(no_host).map(Some),
        };
    };
    if field.as_ref() != Some(&host) {
        request.headers_mut().insert(HOST, host.clone());
    }
    Ok(Some(host))
}

/// Checks that the host of a diverted request is valid, whatever was dialled (RFC 9112 §3.2): in its target, and in its
/// Host `field`, which may also be empty (RFC 9110 §7.2).
///
/// # Errors
///
/// [`Kind::BadHost`], as for explicit requests.
fn check_host<B>(request: &Request<B>, field: Option<&HeaderValue>) -> Result<(), Fault> {
    // An authority without a scheme is the target of CONNECT: the proxy that was dialled checks it.
    if let (Some(_), Some(authority)) = (request.uri().scheme(), request.uri().authority()) {
        name::check_host(without_user(authority.as_str()))?;
    }
    if let Some(host) = field.filter(|host| !host.is_empty()) {
        name::check_host(host.to_str().map_err(|_| BadHost::Character)?)?;
    }
    Ok(())
}

/// `authority` without user information.
fn without_user(authority: &str) -> &str {
    let user = authority.as_bytes().iter().rposition(|byte| *byte == b'@');
    user.map_or(authority, |at| &authority[at + 1..])
}

/// Every diverted request that is forwarded has a Host (RFC 9112 §3.2), unless its target is in absolute-form. One of
/// HTTP/1.0 without Host gets the address it dialled.
fn require_host<B>(request: &mut Request<B>, dialled: SocketAddr) -> Result<(), Fault> {
    if request.uri().authority().is_some() {
        return Ok(());
    }
    if request.version() != Version::HTTP_10 {
        return Err(no_host());
    }
    let host = HeaderValue::try_from(dialled.to_string()).map_err(|_| no_host())?;
    request.headers_mut().insert(HOST, host);
    Ok(())
}

pub(super) fn no_host() -> Fault {
    Fault::new(Kind::NoHost, "the request says no host: send a Host header or an absolute URL")
}

/// Turns an absolute-form target into origin-form, and returns the host that was removed: the Host `field` where that is
/// the same. `None` for a target that was in origin-form or `*`.
///
/// # Errors
///
/// [`Kind::BadTarget`] for any scheme but `http`, and for an authority where a path is needed.
fn to_origin_form<B>(
    request: &mut Request<B>,
    field: Option<&HeaderValue>,
) -> Result<Option<HeaderValue>, Fault> {
    let Some(scheme) = request.uri().scheme() else {
        return match request.uri().authority() {
            None => Ok(None),
            Some(_) => {
                Err(Fault::new(Kind::BadTarget, "the request target is neither a path nor an absolute URL"))
            }
        };
    };
    if *scheme != Scheme::HTTP {
        let advice = "use CONNECT for anything but http";
        let why = format!("weir does not speak {scheme} for a client; {advice}");
        return Err(Fault::new(Kind::BadTarget, why));
    }
    // RFC 9112 §3.2.4: OPTIONS of a URL without a path asks about the server as a whole.
    let whole_server = *request.method() == Method::OPTIONS && is_without_path(request.uri());
    let parts = std::mem::take(request.uri_mut()).into_parts();
    let written = without_user(parts.authority.as_ref().map_or("", |it| it.as_str()));
    let host = match field.filter(|field| field.as_bytes() == written.as_bytes()) {
        Some(same) => same.clone(),
        None => {
            HeaderValue::from_str(written).map_err(|_| Fault::new(Kind::NoHost, "the host is not ASCII"))?
        }
    };
    let path = match parts.path_and_query {
        _ if whole_server => PathAndQuery::from_static("*"),
        Some(path) => path,
        None => PathAndQuery::from_static("/"),
    };
    *request.uri_mut() = path.into();
    Ok(Some(host))
}

/// Whether an absolute URL was written without path and query. [`Uri`] returns `/` for both `http://hello` and
/// `http://hello/`, and nothing in its interface tells them apart; but a `/` that was written is in the same bytes as
/// the authority, directly after it. Should `http` ever store it elsewhere, `http://hello/` would count as without a
/// path (and the test below fail); a longer path never does.
fn is_without_path(uri: &Uri) -> bool {
    let (Some(authority), Some(path)) = (uri.authority(), uri.path_and_query()) else { return false };
    path.as_str() == "/" && authority.as_str().as_bytes().as_ptr_range().end != path.as_str().as_ptr()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    type Fields = &'static [(&'static str, &'static str)];
    type Hosts = Result<&'static [&'static str], Kind>;

    /// A request as hyper builds it, whose target shares memory with other values.
    fn request(method: &Method, target: &str, fields: &[(&str, &str)]) -> Request<()> {
        let uri = Uri::from_maybe_shared(Bytes::copy_from_slice(target.as_bytes())).unwrap();
        let mut request = Request::builder().method(method).uri(uri).body(()).unwrap();
        for (name, value) in fields {
            let name = HeaderName::try_from(*name).unwrap();
            request.headers_mut().append(name, HeaderValue::try_from(*value).unwrap());
        }
        request
    }

    fn read(request: &mut Request<()>) -> Result<Head, Kind> {
        Head::read(request, Origin::Explicit, 8192).map_err(|fault| fault.kind)
    }

    #[test]
    fn options_of_a_url_without_a_path_asks_about_the_whole_server() {
        for (target, whole) in [
            ("http://hello", true),
            ("http://hello:8080", true),
            ("http://me@hello", true),
            ("http://hello/", false),
            ("http://hello?", false),
            ("http://hello?x", false),
            ("http://hello/?x", false),
            ("http://hello:8080/x", false),
            ("/", false),
        ] {
            for method in [Method::OPTIONS, Method::GET] {
                let mut request = request(&method, target, &[("host", "hello")]);
                read(&mut request).unwrap();
                let is_whole = request.uri().path() == "*";
                assert_eq!(is_whole, whole && method == Method::OPTIONS, "{method} {target}");
            }
        }
        let mut asterisk = request(&Method::OPTIONS, "*", &[("host", "hello")]);
        read(&mut asterisk).unwrap();
        assert_eq!(asterisk.uri().path(), "*");
    }

    #[test]
    fn the_target_says_the_host_and_else_the_only_host_field() {
        let cases: [(&str, Fields, Result<&str, Kind>); 10] = [
            ("/", &[("host", "Hello:80")], Ok("Hello:80")),
            ("/", &[], Err(Kind::NoHost)),
            ("/", &[("host", "")], Ok("")),
            ("/", &[("host", "a"), ("host", "a")], Err(Kind::NoHost)),
            ("http://b/", &[], Ok("b")),
            ("http://b:81", &[("host", "a")], Ok("b:81")),
            ("http://me:secret@b/x", &[("host", "b")], Ok("b")),
            ("http://b/", &[("host", "b"), ("x", "y"), ("host", "a")], Err(Kind::NoHost)),
            ("https://b/", &[("host", "b")], Err(Kind::BadTarget)),
            ("b:80", &[("host", "b")], Err(Kind::BadTarget)),
        ];
        for (target, fields, expected) in cases {
            let mut request = request(&Method::GET, target, fields);
            let head = read(&mut request);
            assert_eq!(head.as_ref().map(Head::host).map_err(|&it| it), expected, "{target} {fields:?}");
            if let Ok(head) = head {
                assert_eq!(hosts(&request), [head.host()], "{target} {fields:?}");
            }
        }
    }

    #[test]
    fn an_explicit_request_of_http10_may_say_no_host_and_no_two_either() {
        let cases: [(&str, Fields, Result<bool, Kind>); 5] = [
            ("/", &[], Ok(false)),
            ("/", &[("host", "hello")], Ok(true)),
            ("/", &[("host", "")], Ok(true)),
            ("http://hello/", &[], Ok(true)),
            ("/", &[("host", "a"), ("host", "a")], Err(Kind::NoHost)),
        ];
        for (target, fields, expected) in cases {
            let mut request = request(&Method::GET, target, fields);
            *request.version_mut() = Version::HTTP_10;
            assert_eq!(read(&mut request).map(|head| head.has_host()), expected, "{target} {fields:?}");
        }
    }

    fn hosts(request: &Request<()>) -> Vec<&str> {
        request.headers().get_all(HOST).iter().map(|it| it.to_str().unwrap()).collect()
    }

    #[test]
    fn a_diverted_request_has_a_host_or_an_absolute_target_and_http10_gets_one() {
        let dialled = Origin::Diverted("10.96.0.10:80".parse().unwrap());
        let cases: [(Version, &str, Fields, Hosts); 7] = [
            (Version::HTTP_11, "/", &[("host", "a")], Ok(&["a"])),
            (Version::HTTP_10, "/", &[("host", "a")], Ok(&["a"])),
            (Version::HTTP_11, "/", &[], Err(Kind::NoHost)),
            (Version::HTTP_10, "/", &[], Ok(&["10.96.0.10:80"])),
            (Version::HTTP_11, "http://b/", &[], Ok(&[])),
            (Version::HTTP_11, "http://b/", &[("host", "a")], Ok(&["a"])),
            (Version::HTTP_11, "/", &[("host", "a"), ("host", "a")], Err(Kind::NoHost)),
        ];
        for (version, target, fields, expected) in cases {
            let mut request = request(&Method::GET, target, fields);
            *request.version_mut() = version;
            let head = Head::read(&mut request, dialled, 8192).map_err(|fault| fault.kind);
            assert_eq!(
                head.as_ref().map(Head::host).map_err(|&it| it),
                expected.as_ref().map(|_| "").map_err(|&it| it)
            );
            if let Ok(expected) = expected {
                assert_eq!(
                    (hosts(&request).as_slice(), request.uri().to_string().as_str()),
                    (expected, target)
                );
            }
        }
    }

    #[test]
    fn a_diverted_request_says_a_host_or_an_empty_one_whatever_it_dialled() {
        let long = format!("{}.example", "a".repeat(64));
        let cases: [(&str, Option<BadHost>); 29] = [
            ("hello", None),
            ("", None),
            ("Hello.Shop.SVC.cluster.local", None),
            ("hello.", None),
            ("hello.:80", None),
            ("hello:", None),
            ("hello:65535", None),
            ("a_b", None),
            ("xn--bcher-kva.example", None),
            ("10.96.0.10:8080", None),
            ("[fd00::1]", None),
            ("[FD00::1]:80", None),
            ("[::ffff:10.96.0.10]:80", None),
            ("a b", Some(BadHost::Character)),
            ("u@h", Some(BadHost::Character)),
            ("h/../x", Some(BadHost::Character)),
            ("h, e", Some(BadHost::Character)),
            ("h,e", Some(BadHost::Character)),
            ("h\tx", Some(BadHost::Character)),
            ("h#x", Some(BadHost::Character)),
            ("h%00", Some(BadHost::Character)),
            ("b\u{fc}cher.example", Some(BadHost::Character)),
            ("[::1", Some(BadHost::Literal)),
            ("[::1]x", Some(BadHost::Literal)),
            ("fd00::1", Some(BadHost::Port)),
            ("h:99999", Some(BadHost::Port)),
            ("h:80x", Some(BadHost::Port)),
            (":80", Some(BadHost::Empty)),
            (&long, Some(BadHost::Length)),
        ];
        for dialled in ["10.96.0.10:80", "[fd00:96::10]:80", "203.0.113.9:8080"] {
            let dialled = Origin::Diverted(dialled.parse().unwrap());
            for (host, bad) in cases {
                let mut request = request(&Method::GET, "/", &[("host", host)]);
                let head = Head::read(&mut request, dialled, 8192).map_err(|fault| fault.kind);
                assert_eq!(head.err(), bad.map(Kind::BadHost), "{host}");
            }
        }
    }

    #[test]
    fn the_target_of_a_diverted_request_says_a_host_too() {
        let dialled = Origin::Diverted("10.96.0.10:80".parse().unwrap());
        for (target, host, bad) in [
            ("http://b:81/x", "", None),
            ("http://[fd00::1]:81/x", "b", None),
            ("http://me@b/x", "b", None),
            ("http://b:99999/x", "b", Some(BadHost::Port)),
            ("http://b~/x", "b", Some(BadHost::Character)),
            ("http://b/x", "a b", Some(BadHost::Character)),
            ("b:99999", "b", None),
        ] {
            let mut request = request(&Method::GET, target, &[("host", host)]);
            let head = Head::read(&mut request, dialled, 8192).map_err(|fault| fault.kind);
            assert_eq!(head.err(), bad.map(Kind::BadHost), "{target} {host}");
        }
    }

    /// Fields beside Host: ones that weir removes, changes or appends to, and others.
    fn field() -> impl Strategy<Value = (&'static str, &'static str)> {
        prop::sample::select(vec![
            ("via", "1.0 other"),
            ("x-a", "decoy"),
            ("x-b", "decoy"),
            ("x-forwarded-host", "decoy"),
            ("connection", "x-b, host"),
            ("connection", "close"),
            ("te", "trailers"),
            ("keep-alive", "decoy"),
            ("upgrade", "decoy"),
            ("content-length", "0"),
            ("max-forwards", "3"),
            ("l5d-dtab", "decoy"),
            ("l5d-ctx-dtab", "decoy"),
            ("l5d-dst-service", "decoy"),
            ("proxy-authorization", "decoy"),
        ])
    }

    proptest! {
        /// Whatever fields precede, follow or repeat Host, in any order, and whatever weir adds and removes: the host
        /// is the one that was written.
        #[test]
        fn no_other_field_is_ever_the_host(
            before in prop::collection::vec(field(), 0..12),
            behind in prop::collection::vec(field(), 0..12),
            absolute in any::<bool>(),
        ) {
            let target = if absolute { "http://right:81/x" } else { "/x" };
            let host = if absolute { "decoy" } else { "right:81" };
            let mut fields = before;
            fields.push(("host", host));
            fields.extend(behind);
            let mut request = request(&Method::GET, target, &fields);
            let head = read(&mut request).unwrap();
            prop_assert_eq!((head.host(), hosts(&request)), ("right:81", vec!["right:81"]));
            headers::append_via(Version::HTTP_11, request.headers_mut());
            headers::strip_hop_by_hop(head.scan, Origin::Explicit, request.headers_mut());
            request.headers_mut().remove("l5d-dtab");
            request.headers_mut().append("l5d-dst-service", HeaderValue::from_static("decoy"));
            prop_assert_eq!((head.host(), hosts(&request)), ("right:81", vec!["right:81"]));
        }

        /// A second Host is found at any position.
        #[test]
        fn a_second_host_is_refused_wherever_it_stands(
            fields in prop::collection::vec(field(), 0..12),
            places in (0_usize..13, 0_usize..13),
        ) {
            let mut fields = fields;
            for place in [places.0, places.1] {
                fields.insert(place.min(fields.len()), ("host", "right"));
            }
            prop_assert_eq!(read(&mut request(&Method::GET, "/", &fields)).unwrap_err(), Kind::NoHost);
        }
    }
}
