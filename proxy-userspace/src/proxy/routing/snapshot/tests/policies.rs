//! Settings change, and clusters stay.

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use super::*;
use crate::domain::balance::Balancer;
use crate::domain::health::Caller;
use crate::domain::outcome::Outcome;
use crate::domain::policy::{Client, Policies, RequestPolicy, Rule};
use crate::domain::retry::Backoff;
use crate::domain::route::{Configured, Kind, Pattern, Resolver, Target, Transform, Transformer};
use crate::proxy::holders::Holder;
use crate::proxy::routing::external::ExternalClusters;
use crate::proxy::upstream::cluster::ClusterPolicy;

/// A configuration in which Services' endpoints are also found at another port, by the namer `/moved`.
fn moving() -> RoutingConfig {
    let mut config = config();
    let mut transform = Transform::default();
    transform.then(Transformer::Port(99), &name("/io.l5d.port/99"));
    let (prefix, resolver) = (name("/moved"), Resolver::Find(Kind::K8s));
    config.namers.push(Configured { prefix, resolver, transform });
    config
}

fn client(prefix: &str, settings: Client) -> Arc<Policies> {
    let rule = Rule { prefix: Pattern::read(prefix).unwrap(), settings };
    Arc::new(Policies { services: Vec::new(), clients: vec![rule] })
}

fn service_rule(prefix: &str, settings: RequestPolicy) -> Arc<Policies> {
    let rule = Rule { prefix: Pattern::read(prefix).unwrap(), settings };
    Arc::new(Policies { services: vec![rule], clients: Vec::new() })
}

fn attempts(most: u8) -> RequestPolicy {
    RequestPolicy { attempts: NonZeroU8::new(most), ..RequestPolicy::default() }
}

/// The cluster that `asked` is bound to, and its request policy.
fn bound(snapshot: &Snapshot, asked: &str) -> (Arc<Cluster>, RequestPolicy) {
    let route = snapshot.bind(&name(asked), None);
    let place = route.choose(&mut fastrand::Rng::with_seed(1), &|_| false).map(|it| it.target.clone());
    match place.unwrap() {
        Target::Port(place) => (place.cluster, place.requests),
        Target::Outside(outside) => panic!("{outside} is outside"),
    }
}

/// One request fails at the only endpoint.
fn fail(cluster: &Arc<Cluster>) {
    let (now, client) = (Instant::now(), at(9));
    let lease =
        cluster.lease(now, &mut fastrand::Rng::with_seed(1), (&client, Caller::default()), &[]).unwrap();
    lease.finish(now, Outcome::ConnectFailed);
}

/// Changes of settings, and the resulting policies of `hello` and its views.
/// As the only router has it: one rule for requests and for what is dialled.
fn ask_eight_times(config: &mut RoutingConfig) {
    config.requests = service_rule("/svc/hello", attempts(8));
    config.policies.some = config.requests.clone();
}

#[test]
fn whatever_setting_changes_a_cluster_stays_and_takes_it_over() {
    const HELLO: &str = "/#/io.l5d.k8s/default/http/hello";
    const MOVED: &str = "/#/moved/default/http/hello";
    let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(2) };
    let failures = |failures| Client { failures: Some(failures), ..Client::default() };
    let requests = |requests| Client { requests, ..Client::default() };
    type Change = Box<dyn Fn(&mut RoutingConfig)>;
    type Check = fn(&ClusterPolicy, &ClusterPolicy) -> bool;
    let changes: Vec<(Change, Check)> = vec![
        (Box::new(|it| it.policies.all.breaker.failures = 2), |port, view| {
            port.breaker.failures == 2 && view.breaker.failures == 2
        }),
        (Box::new(move |it| it.policies.all.breaker.backoff = backoff), |port, view| {
            port.breaker.backoff.max == Duration::from_secs(2) && view.breaker.backoff == port.breaker.backoff
        }),
        (Box::new(move |it| it.policies.some = client(HELLO, failures(1))), |port, view| {
            port.breaker.failures == 1 && view.breaker.failures == 5
        }),
        (Box::new(move |it| it.policies.some = client("/%", failures(1))), |port, view| {
            port.breaker.failures == 5 && view.breaker.failures == 1
        }),
        (Box::new(move |it| it.policies.some = client("/", requests(attempts(7)))), |port, view| {
            [port.requests, port.dialled, view.requests, view.dialled].iter().all(|it| *it == attempts(7))
        }),
        (Box::new(ask_eight_times), |port, view| {
            port.dialled == attempts(8)
                && port.requests == RequestPolicy::default()
                && view.requests == port.requests
        }),
        (Box::new(|it| it.limits.attempts = 1), |port, view| *port == *view),
    ];
    for (at_change, (change, check)) in changes.iter().enumerate() {
        let (before, catalog) = (moving(), catalog(&[service("hello", "10.96.0.1", &[at(1)])]));
        let snapshot = Snapshot::build(&before, catalog.clone(), None);
        let (hello, _) = bound(&snapshot, "/svc/hello");
        let (view, _) = bound(&snapshot, MOVED);
        for cluster in [&hello, &view] {
            fail(cluster);
        }
        let backends = |snapshot: &Snapshot| -> Vec<_> {
            let clusters = snapshot.clusters().into_iter().chain(snapshot.views());
            clusters.map(|it| (it.clone(), it.members().all[0].backend.clone())).collect()
        };
        let kept = backends(&snapshot);
        let mut after = before.clone();
        change(&mut after);
        let next = Snapshot::build(&after, catalog, Some(&snapshot));
        let now = backends(&next);
        assert_eq!((kept.len(), now.len()), (2, 2), "change {at_change}");
        for ((cluster, backend), (kept, kept_backend)) in now.iter().zip(&kept) {
            assert!(Arc::ptr_eq(cluster, kept) && Arc::ptr_eq(backend, kept_backend), "change {at_change}");
            assert_eq!((cluster.is_retired(), backend.stats().failures.value()), (false, 1));
        }
        let (policy, of_view) = (**hello.policy(), **view.policy());
        assert!(check(&policy, &of_view), "change {at_change}: {policy:?} {of_view:?}");
        // A bound name is rebound with them.
        assert!(!snapshot.bind(&name("/svc/hello"), None).holds(&next, snapshot.generation()));
        let asked = after.requests.service(&name("/svc/hello"));
        assert_eq!(bound(&next, "/svc/hello").1, asked.and(policy.requests), "change {at_change}");
    }
}

#[test]
fn a_request_that_is_bound_in_an_older_world_brings_no_old_settings_back() {
    let catalog = catalog(&[service("hello", "10.96.0.1", &[at(1)])]);
    let snapshot = Snapshot::build(&moving(), catalog.clone(), None);
    let asked = "/#/moved/default/http/hello";
    let (view, _) = bound(&snapshot, asked);
    let mut config = moving();
    config.policies.all.breaker.failures = 2;
    let next = Snapshot::build(&config, catalog, Some(&snapshot));
    let failures = || view.policy().breaker.failures;
    assert_eq!(failures(), 2);
    assert!(Arc::ptr_eq(&bound(&snapshot, asked).0, &view) && failures() == 2);
    assert!(Arc::ptr_eq(&bound(&next, asked).0, &view) && failures() == 2);
}

#[test]
fn a_service_that_gets_or_loses_session_affinity_keeps_its_endpoints_state() {
    let mut hello = service("hello", "10.96.0.1", &[at(1), at(2)]);
    let first = catalog(&[hello.clone()]);
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    let (cluster, _) = bound(&snapshot, "/svc/hello");
    let before: Vec<_> = cluster.members().all.iter().map(|it| it.backend.clone()).collect();
    hello.affinity = Some(Duration::from_secs(1));
    let second = with(&first, hello);
    let next = snapshot.with(second.clone(), &Changes::between(&first, &second));
    assert!(Arc::ptr_eq(&bound(&next, "/svc/hello").0, &cluster));
    assert_eq!(cluster.policy().balancer, Balancer::ClientIp);
    let members = cluster.members();
    assert!(members.all.iter().zip(&before).all(|(now, before)| Arc::ptr_eq(&now.backend, before)));
    // From now on each client is mapped to one endpoint.
    let chosen = |_| {
        let lease = cluster
            .lease(Instant::now(), &mut fastrand::Rng::new(), (&at(9), Caller::default()), &[])
            .unwrap();
        lease.backend().address
    };
    let chosen: std::collections::BTreeSet<_> = (0..20).map(chosen).collect();
    assert_eq!(chosen.len(), 1, "{chosen:?}");
}

#[tokio::test]
async fn destinations_outside_stay_and_take_over_what_is_set_and_so_do_those_to_come() {
    let mut config = config();
    let outside = ExternalClusters::new(&config, None, tokio::runtime::Handle::current());
    let cluster = outside.fixed(at(1), Instant::now(), &Holder::everybody());
    fail(&cluster);
    config.policies.all.breaker.failures = 2;
    config.policies.some = client("/$/inet/10.1.0.2", Client { requests: attempts(7), ..Client::default() });
    outside.adopt(&config.policies);
    assert!(Arc::ptr_eq(&outside.fixed(at(1), Instant::now(), &Holder::everybody()), &cluster));
    assert_eq!(cluster.members().all[0].backend.stats().failures.value(), 1);
    assert_eq!((cluster.policy().breaker.failures, cluster.policy().dialled), (2, RequestPolicy::default()));
    let later = outside.fixed(at(2), Instant::now(), &Holder::everybody());
    assert_eq!((later.policy().breaker.failures, later.policy().dialled), (2, attempts(7)));
}

#[tokio::test]
async fn only_what_is_refused_now_or_was_until_now_is_forgotten() {
    let config = config();
    let outside = ExternalClusters::new(&config, None, tokio::runtime::Handle::current());
    let [one, other] = [1, 2].map(|last| outside.fixed(at(last), Instant::now(), &Holder::everybody()));
    outside.forget(&["10.1.0.2/32".parse().unwrap()], Instant::now());
    assert_eq!((one.is_retired(), other.is_retired()), (false, true));
    assert!(Arc::ptr_eq(&outside.fixed(at(1), Instant::now(), &Holder::everybody()), &one));
    assert!(!Arc::ptr_eq(&outside.fixed(at(2), Instant::now(), &Holder::everybody()), &other));
}

/// What the port declares, what a policy says of it, and the protocol of requests for it and for its view.
#[test]
fn a_port_is_asked_in_the_protocol_that_it_declares_unless_a_policy_says_otherwise() {
    use crate::domain::policy::Protocol::{self, Auto, Http1, Http2};
    let cases: [(AppProtocol, Option<Protocol>, Option<Protocol>); 8] = [
        (AppProtocol::Sniff, None, None),
        (AppProtocol::Http1, None, Some(Http1)),
        (AppProtocol::Http2, None, Some(Http2)),
        (AppProtocol::Opaque, None, None),
        (AppProtocol::Sniff, Some(Http2), Some(Http2)),
        (AppProtocol::Http1, Some(Http2), Some(Http2)),
        (AppProtocol::Http2, Some(Http1), Some(Http1)),
        (AppProtocol::Http2, Some(Auto), Some(Auto)),
    ];
    for (declared, policy, expected) in cases {
        let mut config = moving();
        if policy.is_some() {
            let requests = RequestPolicy { protocol: policy, ..RequestPolicy::default() };
            config.policies.some = client("/", Client { requests, ..Client::default() });
        }
        let mut hello = service("hello", "10.96.0.1", &[at(1)]);
        hello.ports[0].protocol = declared;
        let snapshot = Snapshot::build(&config, catalog(&[hello]), None);
        for asked in ["/svc/hello", "/#/moved/default/http/hello"] {
            let (cluster, requests) = bound(&snapshot, asked);
            assert_eq!(requests.protocol, expected, "{asked}: {declared:?} {policy:?}");
            assert_eq!(cluster.policy().dialled.protocol, expected, "{asked}: {declared:?} {policy:?}");
        }
    }
}
