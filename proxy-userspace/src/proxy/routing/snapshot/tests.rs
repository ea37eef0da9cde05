mod policies;

use std::time::Instant;

use super::*;
use crate::config::{Allow, Contexts, Settings};
use crate::domain::catalog::{At, Awaited, Endpoint, Namer, NodePort, Service, ServicePort};
use crate::domain::identify::Identifier;
use crate::domain::name::Rules;
use crate::domain::route::Names;
use crate::proxy::fault;
use crate::proxy::listener::ListenerId;

pub(in crate::proxy::routing) fn config() -> RoutingConfig {
    let settings = Settings::default();
    RoutingConfig {
        rules: Rules {
            namespace: "default".into(),
            port: "http".into(),
            cluster_domain: "cluster.local".into(),
        },
        dns: true,
        client_namespace: false,
        cluster_ranges: Allow::default(),
        dtab: settings.dtab,
        overrides: settings.outgoing.overrides,
        contexts: Contexts::everyone(),
        clients: settings.outgoing.clients,
        destinations: settings.outgoing.destinations,
        diagnostics: settings.outgoing.diagnostics,
        identifiers: settings.outgoing.identifiers,
        prefix: settings.outgoing.prefix.clone(),
        requests: settings.policies.clone(),
        tunnels: settings.outgoing.tunnels,
        listener: ListenerId::default(),
        router: None,
        others: Arc::default(),
        namers: settings.namers,
        policies: PolicySource {
            some: settings.policies,
            prefix: settings.outgoing.prefix,
            ..PolicySource::default()
        },
        limits: settings.limits,
        workers: 2,
        refused: Arc::default(),
        node: Node::default(),
    }
}

fn key(name: &str) -> ServiceKey {
    ServiceKey { namer: Namer::K8s, namespace: "default".into(), name: name.into() }
}

fn service(name: &str, address: &str, endpoints: &[SocketAddr]) -> Service {
    let port = ServicePort {
        name: Some("http".into()),
        number: 80,
        protocol: AppProtocol::Sniff,
        endpoints: endpoints.iter().map(|&address| Endpoint::at(address)).collect(),
        node_port: None,
    };
    Service {
        key: key(name),
        addresses: vec![address.parse().unwrap()],
        ports: vec![port],
        written: false,
        external_name: None,
        affinity: None,
    }
}

fn catalog(services: &[Service]) -> Arc<Catalog> {
    let services = services.iter().map(|it| (it.key.clone(), Arc::new(it.clone())));
    Arc::new(Catalog { services: services.collect(), ..Catalog::default() })
}

/// The catalog with one service replaced.
fn with(catalog: &Catalog, service: Service) -> Arc<Catalog> {
    let mut catalog = catalog.clone();
    catalog.services.insert(service.key.clone(), Arc::new(service));
    Arc::new(catalog)
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, last], 8080))
}

fn name(name: &str) -> Path {
    name.parse().unwrap()
}

/// The name of the cluster that a dialled address leads to.
fn owner(snapshot: &Snapshot, dialled: &str) -> Option<String> {
    snapshot.owner(dialled.parse().unwrap()).map(|owner| owner.cluster.name.to_string())
}

#[test]
fn a_route_holds_until_a_service_it_asked_for_comes_or_goes() {
    let first = catalog(&[service("hello", "10.96.0.1", &[at(1)])]);
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    let hello = snapshot.bind(&name("/svc/hello"), None);
    let absent = snapshot.bind(&name("/svc/world"), None);
    let fallback = Dtab::parse(
        "/svc/either => /svc/world | /svc/hello",
        crate::domain::dtab::Origin::Request,
        &crate::domain::dtab::Bounds::REQUEST,
    )
    .unwrap();
    let either = snapshot.bind(&name("/svc/either"), Some(&fallback));

    let other = with(&first, service("other", "10.96.0.3", &[]));
    let after = snapshot.with(other.clone(), &Changes::between(&first, &other));
    assert!(hello.holds(&after, snapshot.generation()) && either.holds(&after, snapshot.generation()));
    assert!(!absent.holds(&after, snapshot.generation()), "it says what there is, so it is found out anew");

    let second = with(&other, service("world", "10.96.0.2", &[]));
    let last = after.with(second.clone(), &Changes::between(&other, &second));
    assert!(hello.holds(&last, snapshot.generation()));
    assert!(!either.holds(&last, snapshot.generation()), "its first alternative is there now");
    assert!(either.holds(&snapshot, snapshot.generation()));
}

/// Why requests for `name` get no target in `snapshot`; an error if they do get one.
#[test]
fn a_name_that_is_a_nodes_address_holds_until_its_node_port_or_the_nodes_change() {
    let at_port = |name: &str, address: &str, number: u16| {
        let mut service = service(name, address, &[at(1)]);
        service.ports[0].node_port = Some(NodePort { number, at: At::Every });
        service
    };
    let nodes = |catalog: &Catalog, addresses: &[&str]| {
        let nodes = addresses.iter().map(|it| it.parse().unwrap()).collect();
        Arc::new(Catalog { nodes: Arc::new(nodes), ..catalog.clone() })
    };
    let base = nodes(&catalog(&[at_port("hello", "10.96.0.10", 30080)]), &["10.0.0.9"]);
    let snapshot = Snapshot::build(&config(), base.clone(), None);
    let route = snapshot.bind(&name("/svc/10.0.0.9:30080"), None);
    assert_eq!(owner(&snapshot, "10.0.0.9:30080").as_deref(), Some("/svc/hello"));
    assert_eq!(owner(&snapshot, "[::ffff:10.0.0.9]:30080").as_deref(), Some("/svc/hello"));
    assert_eq!(owner(&snapshot, "10.0.0.8:30080"), None);
    let after = |catalog: &Arc<Catalog>| {
        let changes = Changes::between(&base, catalog);
        let next = snapshot.with(catalog.clone(), &changes);
        (route.holds(&next, snapshot.generation()), owner(&next, "10.0.0.9:30080"))
    };
    let hello = Some("/svc/hello".to_owned());
    assert_eq!(after(&with(&base, service("other", "10.96.0.11", &[at(2)]))), (true, hello.clone()));
    assert_eq!(after(&with(&base, at_port("other", "10.96.0.11", 30081))), (true, hello.clone()));
    assert_eq!(after(&with(&base, at_port("hello", "10.96.0.10", 30090))), (false, None));
    assert_eq!(after(&with(&base, service("hello", "10.96.0.10", &[at(1)]))), (false, None));
    assert_eq!(after(&nodes(&base, &["10.0.0.8"])), (false, None));
    assert_eq!(after(&nodes(&base, &["10.0.0.8", "10.0.0.9"])), (false, hello));
    let changes = Changes::between(&base, &nodes(&base, &["10.0.0.8"]));
    assert!(changes.nodes && !changes.is_empty() && !snapshot.absorb(&base, &changes));
    assert!(!Changes::between(&base, &nodes(&base, &["10.0.0.9"])).nodes, "the same in another place");
}

fn fault(snapshot: &Snapshot, asked: &str, own: &str) -> Result<(fault::Kind, String), String> {
    let own = Dtab::parse(own, crate::domain::dtab::Origin::Request, &crate::domain::dtab::Bounds::REQUEST);
    let route = snapshot.bind(&name(asked), Some(&own.unwrap()));
    match route.choose(&mut fastrand::Rng::with_seed(1), &|_| false) {
        Ok(bound) => Err(bound.id.to_string()),
        Err(fault) => Ok((fault.kind, fault.detail.into_owned())),
    }
}

/// A catalog with the file service `hello`, in which the cluster's own services are not known yet.
fn awaiting(why: &str) -> Arc<Catalog> {
    let mut catalog = Catalog::clone(&catalog(&[service("hello", "10.96.0.1", &[at(1)])]));
    catalog.awaited = Some(Awaited {
        why: format!("{why} (403: of weir:weir)").into(),
        brief: why.into(),
        is_failing: true,
    });
    Arc::new(catalog)
}

#[test]
fn while_the_clusters_services_are_not_known_no_name_is_denied_that_may_be_one() {
    let config = RoutingConfig { dns: false, ..config() };
    let snapshot = Snapshot::build(&config, awaiting("waiting for services: why"), None);
    let unknown = |asked: &str| {
        let why = "is not bound yet: the cluster's services are not known yet: waiting for services: why";
        Ok((fault::Kind::ServicesUnknown, format!("{asked} {why}")))
    };
    for asked in ["/svc/world", "/svc/world:81", "/#/io.l5d.k8s/shop/http/hello", "/$/weir.host/10.96.0.9"] {
        assert_eq!(fault(&snapshot, asked, ""), unknown(asked), "{asked}");
    }
    assert_eq!(fault(&snapshot, "/svc/x", "/svc/x => /svc/world | !"), unknown("/svc/x"));
    for (asked, own, bound) in [
        ("/svc/hello", "", "/$/weir.host/hello"),
        ("/svc/10.0.0.1", "", "/$/weir.dns/10.0.0.1"),
        ("/svc/x", "/svc/x => /svc/world | /svc/hello", "/$/weir.host/hello"),
    ] {
        assert_eq!(fault(&snapshot, asked, own), Err(bound.to_owned()), "{asked}");
    }
    for asked in ["/svc/hello:81", "/#/io.l5d.fs/world", "/else"] {
        let (kind, why) = fault(&snapshot, asked, "").unwrap();
        assert!(kind == fault::Kind::Unbound && !why.contains("not known"), "{asked}: {why}");
    }
}

#[test]
fn while_the_clusters_services_are_not_known_the_clusters_dns_is_asked_for_what_may_be_one() {
    let snapshot = Snapshot::build(&config(), awaiting("why"), None);
    let asked = |asked: &str| {
        let route = snapshot.bind(&name(asked), None);
        assert!(route.is_awaited(), "{asked}");
        match route.choose(&mut fastrand::Rng::with_seed(1), &|_| false).map(|bound| bound.target.clone()) {
            Ok(route::Target::Outside(outside)) => {
                let questions = route.lookup(&outside).unwrap().questions.clone();
                assert_eq!(questions.outside, None, "{asked}");
                (questions.inside.join(" "), outside.port)
            }
            other => panic!("{asked}: {other:?}"),
        }
    };
    let below = ".svc.cluster.local";
    for (name, inside, port) in [
        ("/svc/world", "world.default", 80),
        ("/svc/world:8080", "world.default", 8080),
        ("/svc/world.shop.svc.cluster.local", "world.shop", 80),
        ("/svc/db-0.db.shop", "db-0.db.shop", 80),
        ("/#/io.l5d.k8s/shop/http/World", "world.shop", 80),
        ("/#/io.l5d.k8s/shop/8080/world", "world.shop", 8080),
    ] {
        assert_eq!(asked(name), (format!("{inside}{below}"), port), "{name}");
    }
    let both = format!("world.shop{below} world.shop.default{below}");
    assert_eq!(asked("/svc/world.shop"), (both, 80), "a Service, or a pod of one");
    // Names that need no Services do not wait for them.
    for name in ["/svc/hello", "/#/io.l5d.fs/x", "/svc/a.b.c.example.com", "/$/inet/10.0.0.1/80"] {
        assert!(!snapshot.bind(&self::name(name), None).is_awaited(), "{name}");
    }
    let (kind, _) = fault(&snapshot, "/#/io.l5d.k8s/shop/admin/world", "").unwrap();
    assert_eq!(kind, fault::Kind::ServicesUnknown, "DNS does not know the port");
}

#[test]
fn what_was_bound_while_services_were_unknown_is_bound_anew_once_they_are_known() {
    let first = awaiting("one");
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    let outside = snapshot.bind(&name("/svc/example.com"), None);
    let (hello, absent) =
        (snapshot.bind(&name("/svc/hello"), None), snapshot.bind(&name("/svc/world"), None));
    let mut known = Catalog::clone(&first);
    known.awaited = None;
    for next in [awaiting("another"), Arc::new(known)] {
        let changes = Changes::between(&first, &next);
        assert!(!snapshot.absorb(&next, &changes));
        let after = snapshot.with(next, &changes);
        assert!(hello.holds(&after, snapshot.generation()), "it was found whatever else there is");
        assert!(
            !outside.holds(&after, snapshot.generation()) && !absent.holds(&after, snapshot.generation())
        );
        let again = after.bind(&name("/svc/example.com"), None);
        let last = after.with(after.catalog.clone(), &Changes::default());
        assert!(again.holds(&last, after.generation()));
    }
    let known = Snapshot::build(&config(), catalog(&[]), Some(&snapshot));
    let (kind, why) = fault(&known, "/svc/world", "").unwrap();
    assert!(kind == fault::Kind::Unbound && why.contains("no service world in namespace default"), "{why}");
}

#[test]
fn kubernetes_names_are_the_same_in_any_case() {
    let first = catalog(&[service("hello", "10.96.0.1", &[at(1)])]);
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    let place = |snapshot: &Snapshot, text: &str| {
        let explanation = snapshot.explain(&name(text), None);
        explanation.to_string().lines().last().unwrap_or_default().to_owned()
    };
    for text in ["/#/io.l5d.k8s/default/http/Hello", "/#/io.l5d.k8s/Default/HTTP/hello"] {
        assert_eq!(place(&snapshot, text), format!("=> {text}"));
    }
    assert!(place(&snapshot, "/#/io.l5d.fs/Hello").contains("nothing"), "files are not");
    let either = Dtab::parse(
        "/a => /#/io.l5d.k8s/default/http/World | /#/io.l5d.k8s/default/http/HELLO",
        crate::domain::dtab::Origin::Request,
        &crate::domain::dtab::Bounds::REQUEST,
    );
    let route = snapshot.bind(&name("/a"), Some(&either.unwrap()));
    let second = with(&first, service("world", "10.96.0.2", &[]));
    let after = snapshot.with(second.clone(), &Changes::between(&first, &second));
    assert!(!route.holds(&after, snapshot.generation()), "World is there now");
}

#[test]
fn a_service_of_another_namespace_is_named_where_there_is_one() {
    let elsewhere = |namespace: &str, name: &str| {
        let mut service = service(name, "10.96.0.1", &[]);
        service.key.namespace = namespace.into();
        service
    };
    let of = |(namespace, name): (&str, &str)| elsewhere(namespace, name);
    let services = [("a", "shop"), ("a-b", "other"), ("b", "shop"), ("default", "x"), ("z", "shop")].map(of);
    let snapshot = Snapshot::build(&config(), catalog(&services), None);
    let why = |text: &str| snapshot.explain(&name(text), None).reasons().join("; ");
    assert_eq!(
        why("/$/weir.host/shop"),
        "no service shop in namespace default; \
         there is /#/io.l5d.k8s/a/shop, /#/io.l5d.k8s/b/shop, /#/io.l5d.k8s/z/shop"
    );
    assert_eq!(why("/$/weir.host/none"), "no service none in namespace default");
    // Clients may be in any namespace.
    for (asked, own) in [("/svc/shop", ""), ("/svc/x", "/svc/x => /$/weir.host/shop.b-c | !")] {
        let (_, told) = fault(&snapshot, asked, own).unwrap();
        assert!(!told.contains("io.l5d.k8s"), "{told}");
    }
}

#[test]
fn a_change_of_endpoints_alone_makes_no_new_world_and_reaches_the_cluster() {
    let first = catalog(&[service("hello", "10.96.0.1", &[at(1)])]);
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    let cluster = snapshot.owner("10.96.0.1:80".parse().unwrap()).unwrap().cluster;
    let second = with(&first, service("hello", "10.96.0.1", &[at(2)]));
    assert!(snapshot.absorb(&second, &Changes::between(&first, &second)));
    assert_eq!(cluster.members().all[0].backend.address, at(2));
}

#[test]
fn services_that_stay_keep_their_clusters_when_others_come_and_go() {
    let hello = service("hello", "10.96.0.1", &[at(1)]);
    let first = catalog(&[hello.clone(), service("old", "10.96.0.2", &[at(2)])]);
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    let kept = snapshot.owner("10.96.0.1:80".parse().unwrap()).unwrap().cluster;
    assert_eq!(owner(&snapshot, "10.96.0.2:80").as_deref(), Some("/svc/old"));
    let second = catalog(&[hello, service("new", "10.96.0.3", &[at(3)])]);
    let after = snapshot.with(second.clone(), &Changes::between(&first, &second));
    assert!(Arc::ptr_eq(&kept, &after.owner("10.96.0.1:80".parse().unwrap()).unwrap().cluster));
    assert_eq!(owner(&after, "10.96.0.2:80"), None);
    assert_eq!(owner(&after, "10.96.0.3:80").as_deref(), Some("/svc/new"));
    let names: Vec<_> = after.clusters().iter().map(|it| it.name.to_string()).collect();
    assert_eq!(names, ["/svc/hello", "/svc/new"], "what went is not counted any more");
}

#[test]
fn of_two_services_with_one_address_the_other_has_it_when_the_first_goes() {
    let (a, b) = (service("a", "10.96.0.1", &[]), service("b", "10.96.0.1", &[]));
    let first = catalog(std::slice::from_ref(&b));
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    assert_eq!(owner(&snapshot, "10.96.0.1:80").as_deref(), Some("/svc/b"));
    let both = with(&first, a);
    let snapshot = snapshot.with(both.clone(), &Changes::between(&first, &both));
    assert_eq!(owner(&snapshot, "10.96.0.1:80").as_deref(), Some("/svc/a"));
    let snapshot = snapshot.with(first.clone(), &Changes::between(&both, &first));
    assert_eq!(owner(&snapshot, "10.96.0.1:80").as_deref(), Some("/svc/b"));
    assert_eq!(snapshot.claimants("10.96.0.1".parse().unwrap(), 80).count(), 1);
}

/// A cluster of 10,000 services with 5 endpoints each; one in fifty is in use.
fn large() -> (Arc<Catalog>, Snapshot) {
    let service = |n: u16| {
        let [high, low] = n.to_be_bytes();
        let endpoints: Vec<_> = (1..=5).map(|it| SocketAddr::from(([10, high, low, it], 8080))).collect();
        service(&format!("service-{n}"), &format!("10.96.{high}.{low}"), &endpoints)
    };
    let catalog = catalog(&(0..10_000).map(service).collect::<Vec<_>>());
    let snapshot = Snapshot::build(&config(), catalog.clone(), None);
    for n in (0..10_000).step_by(50) {
        snapshot.bind(&name(&format!("/svc/service-{n}")), None);
    }
    (catalog, snapshot)
}

/// The shortest of ten runs: other processes run on this machine.
fn shortest<T>(mut it: impl FnMut(u8) -> T) -> std::time::Duration {
    let tries = (0..10).map(|at| {
        let begun = Instant::now();
        std::hint::black_box(it(at));
        begun.elapsed()
    });
    tries.min().unwrap()
}

#[test]
fn a_change_of_one_endpoint_or_one_service_among_ten_thousand_takes_no_time() {
    let (before, snapshot) = large();
    let endpoint = shortest(|at| {
        let old = &before.services[&key("service-5000")];
        let mut new = Service::clone(old);
        new.ports[0].endpoints = old.ports[0].endpoints.iter().skip(usize::from(at % 2)).cloned().collect();
        let after = with(&before, new);
        assert!(snapshot.absorb(&after, &Changes::between(&before, &after)));
    });
    let added = shortest(|at| {
        let after = with(&before, service(&format!("new-{at}"), "10.97.0.1", &[self::at(1)]));
        snapshot.with(after.clone(), &Changes::between(&before, &after))
    });
    let unknown = shortest(|at| snapshot.bind(&name(&format!("/svc/unknown-{at}")), None));
    eprintln!("one endpoint: {endpoint:?}, one more service: {added:?}, one unknown name: {unknown:?}");
    // Some 20, 50 and 60 µs in a debug build; a scan of all services takes 3 ms and more.
    let bound = std::time::Duration::from_millis(2);
    assert!(endpoint < bound && added < bound, "one endpoint: {endpoint:?}, one more service: {added:?}");
    assert!(unknown < bound, "one unknown name: {unknown:?}");
}

/// `service`, headless, with these pods in `namespace`.
fn set(namespace: &str, name: &str, pods: &[(&str, SocketAddr)]) -> Service {
    let endpoint = |&(hostname, address): &(&str, SocketAddr)| Endpoint {
        hostname: Some(hostname.into()),
        ..Endpoint::at(address)
    };
    let mut service = service(name, "10.96.0.9", &[]);
    service.key = ServiceKey { namespace: namespace.into(), ..service.key };
    service.addresses.clear();
    service.ports[0].endpoints = pods.iter().map(endpoint).collect();
    service
}

#[test]
fn a_pods_cluster_stays_as_long_as_the_pod_whatever_becomes_of_others() {
    let pods = [("db-0", at(1)), ("db-1", at(2)), ("db-2", at(3))];
    let first = catalog(&[set("shop", "db", &pods[..2])]);
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    let place = |snapshot: &Snapshot, asked: &str| {
        let route = snapshot.bind(&name(asked), None);
        match route.choose(&mut fastrand::Rng::with_seed(1), &|_| false).map(|bound| bound.target.clone()) {
            Ok(route::Target::Port(place)) => Ok(place.cluster),
            Ok(other) => panic!("{asked}: {other:?}"),
            Err(fault) => Err(fault.kind),
        }
    };
    let zero = place(&snapshot, "/svc/db-0.db.shop").unwrap();
    assert_eq!(&*zero.name, "/svc/db-0.db.shop");
    for same in ["/svc/DB-0.db.shop.svc.cluster.local", "/$/weir.host/db-0.db.shop"] {
        assert!(Arc::ptr_eq(&zero, &place(&snapshot, same).unwrap()), "{same}");
    }
    assert_eq!(place(&snapshot, "/svc/db-2.db.shop").unwrap_err(), fault::Kind::NoEndpoint);
    let absent = snapshot.bind(&name("/svc/db-2.db.shop"), None);
    let known = snapshot.bind(&name("/svc/db-0.db.shop"), None);

    // Another pod is added: names are rebound, and a pod's state stays.
    let second = with(&first, set("shop", "db", &pods));
    assert!(!snapshot.absorb(&second, &Changes::between(&first, &second)));
    let world_2 = snapshot.with(second.clone(), &Changes::between(&first, &second));
    assert!(!absent.holds(&world_2, snapshot.generation()) && !known.holds(&world_2, snapshot.generation()));
    assert!(Arc::ptr_eq(&zero, &place(&world_2, "/svc/db-0.db.shop").unwrap()));
    assert!(place(&world_2, "/svc/db-2.db.shop").is_ok());

    // It is recreated at another address: nothing is rebound.
    let third = with(&second, set("shop", "db", &[("db-0", at(9)), pods[1], pods[2]]));
    assert!(world_2.absorb(&third, &Changes::between(&second, &third)));
    assert_eq!(zero.members().all[0].backend.address, at(9));

    // It is gone.
    let fourth = with(&third, set("shop", "db", &pods[1..]));
    let world_4 = world_2.with(fourth.clone(), &Changes::between(&third, &fourth));
    assert!(zero.is_retired());
    assert_eq!(place(&world_4, "/svc/db-0.db.shop").unwrap_err(), fault::Kind::NoEndpoint);
}

#[test]
fn a_host_outside_is_bound_anew_when_a_service_of_its_name_comes() {
    let first = catalog(&[]);
    let snapshot = Snapshot::build(&config(), first.clone(), None);
    let outside = |snapshot: &Snapshot, asked: &str| {
        let route = snapshot.bind(&name(asked), None);
        match route.choose(&mut fastrand::Rng::with_seed(1), &|_| false).map(|bound| bound.target.clone()) {
            Ok(route::Target::Outside(outside)) => {
                let questions = &route.lookup(&outside).unwrap().questions;
                (questions.inside.len(), questions.outside.is_some())
            }
            other => panic!("{asked}: {other:?}"),
        }
    };
    for asked in ["/svc/rude.shop", "/$/inet/rude.shop/80", "/$/io.buoyant.rinet/80/db-0.db.shop"] {
        assert_eq!(outside(&snapshot, asked), (0, true), "{asked}");
    }
    let by_address = snapshot.bind(&name("/$/inet/rude.shop/80"), None);
    let mut rude = service("rude", "10.96.0.1", &[]);
    rude.key = ServiceKey { namespace: "shop".into(), ..rude.key };
    let second = with(&with(&first, rude), set("shop", "db", &[]));
    let after = snapshot.with(second.clone(), &Changes::between(&first, &second));
    assert!(!by_address.holds(&after, snapshot.generation()));
    for asked in ["/$/inet/rude.shop/80", "/$/io.buoyant.rinet/80/db-0.db.shop"] {
        assert_eq!(outside(&after, asked), (1, false), "{asked}");
    }
    assert_eq!(outside(&after, "/$/inet/www.example.com/80"), (0, true));
}

#[test]
fn only_what_a_host_alone_can_ask_for_is_left_to_a_requests_entries() {
    let askable = |identifiers: Vec<Identifier>, prefix: &str, asked: &str| {
        let mut config = RoutingConfig { identifiers, ..config() };
        config.prefix = name(prefix);
        let snapshot = Snapshot::build(&config, catalog(&[]), None);
        Names::is_askable(&snapshot, name(asked).labels())
    };
    let (host, token) = (Identifier::Host, |header: &str| Identifier::Token(header.into()));
    for (identifier, asked, expected) in [
        (host.clone(), "/svc/app", true),
        (host.clone(), "/svc/app.shop:8080", true),
        // Not as a Host is made canonical.
        (host.clone(), "/svc/app:80", false),
        (host.clone(), "/svc/APP", false),
        (host.clone(), "/svc/app.default", false),
        (host.clone(), "/svc", false),
        (host.clone(), "/svc/app/more", false),
        (host.clone(), "/int/app", false),
        (token("Host"), "/svc/app:80", true),
        (token("X-Service"), "/svc/app", false),
        (Identifier::Header("l5d-name".into()), "/svc/app", false),
        (Identifier::Static(name("/app")), "/svc/app", false),
    ] {
        assert_eq!(askable(vec![identifier.clone()], "/svc", asked), expected, "{asked} {identifier:?}");
    }
    assert!(askable(vec![host.clone()], "/", "/app") && !askable(vec![host.clone()], "/", "/svc/app"));
    assert!(!askable(vec![Identifier::Static(name("/app")), host], "/svc", "/svc/app"));
}
