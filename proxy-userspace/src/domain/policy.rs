//! Settings per name: linkerd's `io.l5d.static`.
//!
//! A rule has a [`Pattern`] and settings. All rules that match a name apply, in order: a later one overrides what it
//! sets, and leaves the rest. There are two lists, as in linkerd: rules for services match the requested name
//! (`/svc/hello`); rules for clients match the bound name (`/#/io.l5d.fs/hello`). If both limit the same thing, the
//! smaller limit applies.
//!
//! Names are matched when they are bound and when clusters are made, never per request. Not here: settings without
//! effect. A key is added when it takes effect.

use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use super::name::{Labels, Path};
use super::retry::Backoff;
use super::route::Pattern;

/// All rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// By the requested name.
    pub services: Vec<Rule<RequestPolicy>>,
    /// By the bound name.
    pub clients: Vec<Rule<Client>>,
}

/// The settings for names that match a pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule<S> {
    /// The pattern.
    pub prefix: Pattern,
    /// The settings. Absent ones stay as earlier rules set them.
    pub settings: S,
}

/// How requests are attempted. Small, since it is copied for every request; absent settings are those of `limits`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestPolicy {
    /// The time limit for an endpoint's response head, in milliseconds.
    pub response: Option<NonZeroU32>,
    /// Endpoints tried for one request, the first included.
    pub attempts: Option<NonZeroU8>,
    /// The version of HTTP in which endpoints are asked; the client's if absent.
    pub protocol: Option<Protocol>,
}

/// The version of HTTP in which endpoints are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The client's, whatever the endpoints' service declares.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

impl Protocol {
    /// Every value with its name in the configuration.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("http1", Self::Http1), ("http2", Self::Http2)];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }
}

/// The settings for endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// How requests to them are attempted.
    pub requests: RequestPolicy,
    /// Consecutive failures after which one is ejected.
    pub failures: Option<u32>,
    /// How long it stays ejected.
    pub backoff: Option<Backoff>,
}

impl Policies {
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.clients.is_empty()
    }

    /// The rules for requests that ask for `name`, the one of highest precedence last.
    pub fn for_service(&self, name: Labels<'_>) -> impl Iterator<Item = &Rule<RequestPolicy>> {
        self.services.iter().filter(move |rule| rule.prefix.matches(name))
    }

    /// The settings for requests that ask for `name`.
    pub fn service(&self, name: &Path) -> RequestPolicy {
        self.for_service(name.labels())
            .fold(RequestPolicy::default(), |requests, rule| rule.settings.or(requests))
    }

    /// The settings for endpoints with any of these `names`.
    pub fn client(&self, names: &[Path]) -> Client {
        let rules =
            self.clients.iter().filter(|rule| names.iter().any(|name| rule.prefix.matches(name.labels())));
        rules.fold(Client::default(), |client, rule| rule.settings.or(client))
    }
}

impl RequestPolicy {
    /// These settings; unset ones are taken from `earlier`.
    pub fn or(self, earlier: Self) -> Self {
        Self {
            response: self.response.or(earlier.response),
            attempts: self.attempts.or(earlier.attempts),
            protocol: self.protocol.or(earlier.protocol),
        }
    }

    /// The smaller value of each limit. A protocol is a property of endpoints, so at most one of the two has it.
    pub fn and(self, other: Self) -> Self {
        Self {
            response: smaller(self.response, other.response),
            attempts: smaller(self.attempts, other.attempts),
            protocol: self.protocol.or(other.protocol),
        }
    }

    /// The time limit for an endpoint's response head, if set.
    pub fn response(self) -> Option<Duration> {
        self.response.map(|millis| Duration::from_millis(millis.get().into()))
    }
}

impl Client {
    /// These settings; unset ones are taken from `earlier`.
    pub fn or(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.or(earlier.requests),
            failures: self.failures.or(earlier.failures),
            backoff: self.backoff.or(earlier.backoff),
        }
    }
}

fn smaller<N: Ord>(one: Option<N>, other: Option<N>) -> Option<N> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(number: u32) -> Option<NonZeroU32> {
        NonZeroU32::new(number)
    }

    fn services(rules: &[(&str, u32, u8)]) -> Policies {
        let rule = |(prefix, response, attempts): &(&str, u32, u8)| Rule {
            prefix: Pattern::read(prefix).unwrap(),
            settings: RequestPolicy {
                response: millis(*response),
                attempts: NonZeroU8::new(*attempts),
                ..RequestPolicy::default()
            },
        };
        Policies { services: rules.iter().map(rule).collect(), clients: Vec::new() }
    }

    fn of(rules: &[(&str, u32, u8)], name: &str) -> (u32, u8) {
        let requests = services(rules).service(&name.parse().unwrap());
        (requests.response.map_or(0, NonZeroU32::get), requests.attempts.map_or(0, NonZeroU8::get))
    }

    #[test]
    fn a_prefix_is_for_every_name_that_begins_with_it() {
        for (prefix, name, matches) in [
            ("/", "/svc/hello", true),
            ("/svc", "/svc/hello", true),
            ("/svc/hello", "/svc/hello", true),
            ("/svc/hello", "/svc/hello/more", true),
            ("/svc/hello", "/svc/hell", false),
            ("/svc/hell", "/svc/hello", false),
            ("/svc/hello/more", "/svc/hello", false),
            ("/svc/Hello", "/svc/hello", false),
            ("/svc/*", "/svc/hello", true),
            ("/svc/*", "/svc", false),
            ("/*/hello", "/svc/hello", true),
            ("/#/io.l5d.k8s/{ns}/http/{svc}", "/#/io.l5d.k8s/shop/http/web", true),
            ("/#/io.l5d.k8s/{ns}/http/{svc}", "/#/io.l5d.k8s/shop/admin/web", false),
            ("/svc/{name}.shop", "/svc/web.shop", true),
            ("/svc/{name}.shop", "/svc/web.default", false),
        ] {
            assert_eq!(of(&[(prefix, 7, 0)], name).0 == 7, matches, "{prefix} {name}");
        }
    }

    #[test]
    fn all_that_match_apply_and_the_later_wins_for_each_key() {
        let rules = [("/", 100, 5), ("/svc/hello", 200, 0), ("/svc/*", 0, 2), ("/other", 900, 9)];
        assert_eq!(of(&rules, "/svc/hello"), (200, 2));
        assert_eq!(of(&rules, "/svc/world"), (100, 2));
        assert_eq!(of(&rules, "/host/x"), (100, 5));
        let turned: Vec<_> = rules.iter().rev().copied().collect();
        assert_eq!(
            of(&turned, "/svc/hello"),
            (100, 5),
            "order decides, not how much of the name a prefix has"
        );
    }

    #[test]
    fn of_a_services_and_a_clients_bound_the_smaller_holds() {
        let requests = |response, attempts| RequestPolicy {
            response: millis(response),
            attempts: NonZeroU8::new(attempts),
            ..RequestPolicy::default()
        };
        assert_eq!(requests(100, 0).and(requests(200, 3)), requests(100, 3));
        assert_eq!(requests(300, 2).and(requests(200, 3)), requests(200, 2));
        assert_eq!(RequestPolicy::default().and(RequestPolicy::default()), RequestPolicy::default());
    }

    #[test]
    fn a_client_is_matched_by_any_of_its_names_and_keeps_what_a_later_rule_leaves_out() {
        let rule = |prefix: &str, settings| Rule { prefix: Pattern::read(prefix).unwrap(), settings };
        let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(2) };
        let policies = Policies {
            services: Vec::new(),
            clients: vec![
                rule(
                    "/#/io.l5d.k8s",
                    Client { failures: Some(3), backoff: Some(backoff), ..Client::default() },
                ),
                rule("/$/weir.host/web", Client { failures: Some(1), ..Client::default() }),
            ],
        };
        let names = ["/#/io.l5d.k8s/shop/http/web", "/$/weir.host/web"].map(|name| name.parse().unwrap());
        let both = policies.client(&names);
        assert_eq!((both.failures, both.backoff), (Some(1), Some(backoff)));
        assert_eq!(policies.client(&names[..1]).failures, Some(3));
        assert_eq!(policies.client(&[]), Client::default());
    }
}
