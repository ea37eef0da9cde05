mod clusters;
mod policies;
mod unknown;

use super::*;
use crate::config::{Allow, Contexts, Served, Settings};
use crate::domain::catalog::{At, Endpoint, Namer, NodePort, Service, ServicePort};
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
        clients: Served::Node,
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

/// Why requests for `asked` get no target in `snapshot`, by entries of their own; an error if they do get one.
fn fault(snapshot: &Snapshot, asked: &str, own: &str) -> Result<(fault::Kind, String), String> {
    let own = Dtab::parse(own, crate::domain::dtab::Origin::Request, &crate::domain::dtab::Bounds::REQUEST);
    let route = snapshot.bind(&name(asked), Some(&own.unwrap()));
    match route.choose(&mut fastrand::Rng::with_seed(1), &|_| false) {
        Ok(bound) => Err(bound.id.to_string()),
        Err(fault) => Ok((fault.kind, fault.detail.into_owned())),
    }
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
