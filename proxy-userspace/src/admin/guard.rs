//! Which requests the admin accepts.
//!
//! The admin shows everything weir knows and can stop it. It usually listens on loopback, so every web page in a
//! browser on the same machine can send requests to it. Such requests are recognized by headers that a page cannot set:
//! Host (after DNS rebinding, it is the page's own name), Origin and Sec-Fetch-Site. And a page of another origin can
//! add a header such as X-Requested-By only after a preflight, which weir does not grant.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method, Request};

use super::refusal::Refusal;
use crate::config::{Admin, open_regular};

/// A request that changes something must have this header, with any value.
const REQUESTED_BY: HeaderName = HeaderName::from_static("x-requested-by");

/// The header by which a browser states the origin of a request (Fetch Metadata Request Headers, W3C).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The longest token.
const TOKEN: u64 = 4096;

/// Checks whether the admin accepts this request at all.
pub(super) fn check<B>(request: &Request<B>, admin: &Admin) -> Result<(), Refusal> {
    let headers = request.headers();
    let host = one(headers, &HOST)?;
    let written = request.uri().authority().map(Authority::as_str);
    if host.into_iter().chain(written).any(|host| !is_ours(host, &admin.hosts)) {
        return Err(Refusal::Host);
    }
    if let Some(origin) = one(headers, &ORIGIN)? {
        let of = ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
        let own = of.zip(host).is_some_and(|(of, host)| of.eq_ignore_ascii_case(host));
        own.then_some(()).ok_or(Refusal::Origin)?;
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let is = |name, value: &str| headers.get(name).is_some_and(|it: &HeaderValue| it == value);
    let own = !headers.contains_key(FETCH_SITE) || is(FETCH_SITE, "same-origin") || is(FETCH_SITE, "none");
    // A link that a user follows is harmless: no page can read the answer.
    if !(own || is_read && is(FETCH_MODE, "navigate")) {
        return Err(Refusal::Origin);
    }
    Ok(())
}

/// Checks whether an accepted request with these headers may change something: with the token; or from loopback, with a
/// header that no page can send.
pub(super) fn may_change(headers: &HeaderMap, client: IpAddr, admin: &Admin) -> Result<(), Refusal> {
    if let Some(authorization) = one(headers, &AUTHORIZATION)? {
        let right = admin.token_file.as_deref().and_then(token);
        let given = bearer(authorization);
        let same = right.zip(given).is_some_and(|(right, given)| same(right.as_bytes(), given.as_bytes()));
        return same.then_some(()).ok_or(Refusal::Token);
    }
    if !client.to_canonical().is_loopback() {
        return Err(Refusal::Remote);
    }
    match headers.get(REQUESTED_BY) {
        Some(value) if !value.is_empty() => Ok(()),
        Some(_) | None => Err(Refusal::Unasked),
    }
}

/// The only value of a header, as text.
pub(super) fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Refusal::Malformed),
        (Some(_), Some(_)) => Err(Refusal::Malformed),
    }
}

/// Whether `host`, with or without a port, is an address, `localhost`, or one of `names`.
fn is_ours(host: &str, names: &[String]) -> bool {
    let Some(authority) = host.parse::<Authority>().ok().filter(|_| !host.contains('@')) else {
        return false;
    };
    let name = authority.host();
    let v6 = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    if name.parse::<Ipv4Addr>().is_ok() || v6.is_some_and(|it| it.parse::<Ipv6Addr>().is_ok()) {
        return true;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || names.iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 §2.1; the scheme in any case, RFC 9110 §11.1).
pub(super) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The token in a file; `None`, with a line in the log, if it cannot be read.
fn token(path: &Path) -> Option<String> {
    let mut text = String::new();
    let read = open_regular(path).and_then(|file| file.take(TOKEN + 1).read_to_string(&mut text));
    let why = match read {
        Ok(length) if length as u64 > TOKEN => format!("longer than {TOKEN} bytes"),
        Ok(_) if text.trim().is_empty() => "empty".to_owned(),
        Ok(_) => return Some(text.trim().to_owned()),
        Err(cause) => cause.to_string(),
    };
    tracing::warn!(file = %path.display(), "admin.tokenFile: {why}; nobody is let in by a token");
    None
}

/// Compares in constant time.
fn same(right: &[u8], given: &[u8]) -> bool {
    let differs = right.iter().zip(given).fold(0, |differs, (a, b)| differs | (a ^ b));
    right.len() == given.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: &str = "127.0.0.1";

    fn asked(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
        let start = Request::builder().method(method).uri(target);
        headers.iter().fold(start, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
    }

    fn got(headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let admin = Admin { hosts: vec!["weir.example.com".to_owned()], ..Admin::default() };
        check(&asked("GET", "/api/state.json", headers), &admin)
    }

    fn posted(from: &str, admin: &Admin, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let request = asked("POST", "/admin/shutdown", headers);
        check(&request, admin)?;
        may_change(request.headers(), from.parse().unwrap(), admin)
    }

    #[test]
    fn a_host_is_an_address_localhost_or_a_name_that_is_configured() {
        for host in [
            "127.0.0.1:9990",
            "127.0.0.1",
            "[::1]:9990",
            "[::1]",
            "10.0.0.7:9990",
            "[fd00::7]:80",
            "localhost:9990",
            "LocalHost",
            "localhost.:9990",
            "weir.example.com",
            "WEIR.example.com.:443",
        ] {
            assert_eq!(got(&[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(got(&[]), Ok(()), "HTTP/1.0 says none, and no browser speaks it");
        for host in [
            "evil.example",
            "evil.example:9990",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "a.weir.example.com",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "2130706433",
            "0x7f.1",
            "127.1",
            "::1",
            "[::1",
            "",
            "local host",
        ] {
            assert_eq!(got(&[("host", host)]), Err(Refusal::Host), "{host:?}");
        }
        assert_eq!(got(&[("host", NEAR), ("host", NEAR)]), Err(Refusal::Malformed));
        let absolute = asked("GET", "http://evil.example/metrics", &[("host", NEAR)]);
        assert_eq!(check(&absolute, &Admin::default()), Err(Refusal::Host));
    }

    #[test]
    fn a_page_of_another_origin_is_refused_whatever_it_asks() {
        let host = ("host", "127.0.0.1:9990");
        assert_eq!(got(&[host, ("origin", "http://127.0.0.1:9990")]), Ok(()));
        assert_eq!(got(&[host, ("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(got(&[host, ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")]), Ok(()));
        let link = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(got(&link), Ok(()), "a link that a person followed");
        for foreign in [
            ("origin", "http://evil.example"),
            ("origin", "http://127.0.0.1:8080"),
            ("origin", "http://localhost:9990"),
            ("origin", "null"),
            ("origin", ""),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(got(&[host, foreign]), Err(Refusal::Origin), "{foreign:?}");
        }
        let form = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(posted(NEAR, &Admin::default(), &form), Err(Refusal::Origin), "a form's POST");
    }

    #[test]
    fn what_changes_something_needs_loopback_and_a_header_or_the_token() {
        let asks = ("x-requested-by", "curl");
        let admin = Admin::default();
        for from in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(posted(from, &admin, &[asks]), Ok(()), "{from}");
            assert_eq!(posted(from, &admin, &[]), Err(Refusal::Unasked), "{from}");
            assert_eq!(posted(from, &admin, &[("x-requested-by", "")]), Err(Refusal::Unasked), "{from}");
        }
        for from in ["10.1.0.9", "fd00::9", "::ffff:10.1.0.9"] {
            assert_eq!(posted(from, &admin, &[asks]), Err(Refusal::Remote), "{from}");
        }
        let simple = [("content-type", "text/plain"), ("host", "127.0.0.1:9990")];
        assert_eq!(posted(NEAR, &admin, &simple), Err(Refusal::Unasked), "what a page can send unasked");
    }

    #[test]
    fn the_token_of_the_file_is_right_and_no_other_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let admin = Admin { token_file: Some(file.clone()), ..Admin::default() };
        let with = |value: &str| posted("10.1.0.9", &admin, &[("authorization", value)]);
        assert_eq!(with("Bearer s3cret"), Err(Refusal::Token), "there is no file");
        std::fs::write(&file, "s3cret\n").unwrap();
        assert_eq!(with("Bearer s3cret"), Ok(()));
        assert_eq!(with("bearer  s3cret"), Ok(()));
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer", "Bearer ", "Basic s3cret", "s3cret", ""] {
            assert_eq!(with(wrong), Err(Refusal::Token), "{wrong:?}");
        }
        let near = [("authorization", "Bearer no"), ("x-requested-by", "me")];
        assert_eq!(
            posted(NEAR, &admin, &near),
            Err(Refusal::Token),
            "a wrong token is no better for loopback"
        );
        for (text, what) in [("", "empty"), (" \n", "blank"), (&*"x".repeat(5000), "too long")] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(with(&format!("Bearer {}", text.trim())), Err(Refusal::Token), "{what}");
        }
        assert_eq!(
            posted("10.1.0.9", &Admin::default(), &near),
            Err(Refusal::Token),
            "no token is configured"
        );
    }
}
