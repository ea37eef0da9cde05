//! Which destinations are diverted: those that are configured, otherwise those in the catalog.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::domain::catalog::{AppProtocol, Catalog, Changes, Condition, Namer, Service, ServiceKey};
use crate::intercept::Destination;
use crate::proxy::routing::snapshot::Snapshot;

/// The namespace of the cluster's own components (DNS, proxies): not diverted unless configured.
const SYSTEM: &str = "kube-system";

/// The environment variable that kubelet sets in every container: the address of the API server's Service.
const API_SERVER: &str = "KUBERNETES_SERVICE_HOST";

/// The networks in `divert`, or else every address of every known service with exactly the ports it owns.
pub(super) fn wanted(divert: Option<&[IpNet]>, catalog: &Catalog) -> BTreeSet<Destination> {
    match divert {
        Some(networks) => networks.iter().map(|&net| Destination { net, ports: 1..=u16::MAX }).collect(),
        None => {
            let services = catalog.services.values();
            services.filter(|it| &*it.key.namespace != SYSTEM).flat_map(|it| of_service(it)).collect()
        }
    }
}

/// Whether [`wanted`] has this address and port, with the catalog of `snapshot`.
pub(super) fn is_wanted(divert: Option<&[IpNet]>, snapshot: &Snapshot, at: SocketAddr) -> bool {
    match divert {
        Some(networks) => networks.iter().any(|net| net.contains(&at.ip())),
        None => snapshot.claimants(at.ip(), at.port()).any(|key| &*key.namespace != SYSTEM),
    }
}

/// Never diverted, whatever `divert` says: the `kubernetes` Service in `default`, known or not. Access to the cluster's
/// API server must not depend on weir.
pub(super) fn exceptions(catalog: &Catalog, told: Option<IpAddr>) -> BTreeSet<IpNet> {
    let key = ServiceKey { namer: Namer::K8s, namespace: "default".into(), name: "kubernetes".into() };
    let known = catalog.services.get(&key).into_iter().flat_map(|it| it.addresses.iter().copied());
    known.chain(told).map(IpNet::from).collect()
}

/// Whether the exceptions depend on this service.
pub(super) fn is_exception(key: &ServiceKey) -> bool {
    (&*key.namespace, &*key.name) == ("default", "kubernetes")
}

/// Which destinations `changes` (from `before` to `after` with its `snapshot`) remove and add when no destinations are
/// configured.
pub(super) fn difference(
    before: &Catalog,
    after: &Catalog,
    changes: &Changes,
    snapshot: &Snapshot,
) -> (Vec<Destination>, Vec<Destination>) {
    let keys = changes.added.iter().chain(&changes.removed).chain(&changes.changed);
    let versions = keys.flat_map(|key| [before, after].map(|catalog| catalog.services.get(key)));
    let touched: BTreeSet<Destination> = versions.flatten().flat_map(|it| of_service(it)).collect();
    touched.into_iter().partition(|it| {
        let mut claimants = snapshot.claimants(it.net.addr(), *it.ports.start());
        !claimants.any(|key| &*key.namespace != SYSTEM)
    })
}

/// The addresses and ports in `catalog` that are diverted and have no endpoint: connections to them are refused.
///
/// Not those that speak HTTP, whose clients get an answer that says why; none while the services, or their endpoints, are
/// not known yet; and none where destinations are configured, which include more than the services.
pub(super) fn refused(divert: Option<&[IpNet]>, catalog: &Catalog) -> BTreeSet<SocketAddr> {
    if divert.is_some() || catalog.awaited.is_some() {
        return BTreeSet::new();
    }
    let (mut without, mut with) = (BTreeSet::new(), BTreeSet::new());
    for service in catalog.services.values().filter(|it| &*it.key.namespace != SYSTEM) {
        for (address, is_refused) in ends(service) {
            if is_refused {
                without.insert(address)
            } else {
                with.insert(address)
            };
        }
    }
    without.retain(|it| !with.contains(it));
    without
}

/// How `changes` (from `before` to `after` with its `snapshot`) change [`refused`]: which go, and which come.
pub(super) fn refused_difference(
    before: &Catalog,
    after: &Catalog,
    changes: &Changes,
    snapshot: &Snapshot,
) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let keys = changes.added.iter().chain(&changes.removed).chain(&changes.changed);
    let versions = keys.flat_map(|key| [before, after].map(|catalog| catalog.services.get(key)));
    let touched: BTreeSet<SocketAddr> =
        versions.flatten().flat_map(|it| ends(it)).map(|(it, _)| it).collect();
    touched.into_iter().partition(|&it| {
        let claimants = snapshot.claimants(it.ip(), it.port()).filter_map(|key| after.services.get(key));
        let mut ends = claimants
            .filter(|service| &*service.key.namespace != SYSTEM)
            .flat_map(|service| ends(service))
            .filter(|(at, _)| *at == it)
            .peekable();
        ends.peek().is_none() || ends.any(|(_, is_refused)| !is_refused)
    })
}

/// The addresses and ports of a service, and whether connections to them are refused.
fn ends(service: &Service) -> impl Iterator<Item = (SocketAddr, bool)> {
    let diverted =
        service.ports.iter().filter(|port| port.number != 0 && port.protocol != AppProtocol::Direct);
    diverted.flat_map(|port| {
        let is_http = matches!(port.protocol, AppProtocol::Http1 | AppProtocol::Http2);
        let is_served = port.endpoints.iter().any(|it| it.condition != Condition::NotReady);
        let at = service.addresses.iter().map(|ip| SocketAddr::new(ip.to_canonical(), port.number));
        at.map(move |at| (at, !is_http && !is_served))
    })
}

/// The API server's address from the environment; `None` outside a cluster.
pub(super) fn told_api_server() -> Option<IpAddr> {
    let address: IpAddr = std::env::var(API_SERVER).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

fn of_service(service: &Service) -> impl Iterator<Item = Destination> {
    let diverted =
        service.ports.iter().filter(|port| port.number != 0 && port.protocol != AppProtocol::Direct);
    diverted.map(|port| port.number).flat_map(|port| {
        service.addresses.iter().map(move |&address| Destination { net: address.into(), ports: port..=port })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::catalog::{Awaited, Endpoint, ServicePort};

    fn catalog(services: &[(&str, &str, &str, &[u16])]) -> Catalog {
        let mut catalog = Catalog::default();
        for (namespace, name, address, ports) in services {
            let key = ServiceKey { namer: Namer::K8s, namespace: (*namespace).into(), name: (*name).into() };
            let port = |&number: &u16| ServicePort {
                name: None,
                number,
                protocol: AppProtocol::Sniff,
                endpoints: Arc::new([]),
                node_port: None,
            };
            let service = Service {
                key: key.clone(),
                addresses: vec![address.parse().unwrap()],
                ports: ports.iter().map(port).collect(),
                written: true,
                external_name: None,
                affinity: None,
            };
            catalog.services.insert(key, Arc::new(service));
        }
        catalog
    }

    /// Gives the first port of the only service these endpoints.
    fn with_endpoints(catalog: &Catalog, protocol: AppProtocol, conditions: &[Condition]) -> Catalog {
        let mut service = Service::clone(catalog.services.values().next().unwrap());
        let endpoint = |condition: &Condition| Endpoint {
            condition: *condition,
            ..Endpoint::at("10.1.0.1:80".parse().unwrap())
        };
        service.ports[0].protocol = protocol;
        service.ports[0].endpoints = conditions.iter().map(endpoint).collect();
        let mut after = catalog.clone();
        after.services.insert(service.key.clone(), Arc::new(service));
        after
    }

    #[test]
    fn connections_to_a_port_without_an_endpoint_are_refused_where_no_answer_could_say_why() {
        use Condition::{NotReady, Ready, Terminating};
        let empty = catalog(&[("shop", "web", "10.96.0.1", &[80])]);
        let at: BTreeSet<SocketAddr> = ["10.96.0.1:80".parse().unwrap()].into();
        let cases: [(AppProtocol, &[Condition], bool); 8] = [
            (AppProtocol::Sniff, &[], true),
            (AppProtocol::Opaque, &[], true),
            (AppProtocol::Sniff, &[NotReady, NotReady], true),
            (AppProtocol::Sniff, &[NotReady, Ready], false),
            (AppProtocol::Sniff, &[Terminating], false),
            (AppProtocol::Http1, &[], false),
            (AppProtocol::Http2, &[], false),
            (AppProtocol::Direct, &[], false),
        ];
        for (protocol, conditions, is_refused) in cases {
            let catalog = with_endpoints(&empty, protocol, conditions);
            let expected = if is_refused { at.clone() } else { BTreeSet::new() };
            assert_eq!(refused(None, &catalog), expected, "{protocol:?} {conditions:?}");
            assert!(refused(Some(&[net("10.96.0.0/16")]), &catalog).is_empty());
        }
        let why = Awaited { why: "x".into(), brief: "x".into(), is_failing: false };
        assert!(
            refused(None, &Catalog { awaited: Some(why), ..empty.clone() }).is_empty(),
            "nothing is known yet"
        );
        let system = catalog(&[("kube-system", "kube-dns", "10.96.0.10", &[53])]);
        assert!(refused(None, &system).is_empty());
    }

    #[test]
    fn an_address_with_an_endpoint_of_any_service_is_not_refused() {
        let mut both = catalog(&[("shop", "a", "10.96.0.1", &[80]), ("shop", "b", "10.96.0.1", &[80])]);
        assert_eq!(refused(None, &both).len(), 1);
        both = with_endpoints(&both, AppProtocol::Sniff, &[Condition::Ready]);
        assert!(refused(None, &both).is_empty());
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn only_ports_that_a_service_owns_are_diverted_and_none_between() {
        let catalog = catalog(&[("shop", "web", "10.96.0.1", &[80, 443])]);
        let wanted: Vec<_> = wanted(None, &catalog).into_iter().map(|it| it.ports).collect();
        assert_eq!(wanted, [80..=80, 443..=443]);
    }

    #[test]
    fn a_port_that_its_service_skips_is_not_diverted() {
        let mut catalog = catalog(&[("shop", "web", "10.96.0.1", &[80, 443])]);
        let mut service = Service::clone(catalog.services.values().next().unwrap());
        service.ports[0].protocol = AppProtocol::Direct;
        catalog.services.insert(service.key.clone(), Arc::new(service));
        let wanted: Vec<_> = wanted(None, &catalog).into_iter().map(|it| it.ports).collect();
        assert_eq!(wanted, [443..=443]);
    }

    #[test]
    fn kube_system_is_diverted_only_when_the_configuration_names_it() {
        let catalog = catalog(&[("kube-system", "kube-dns", "10.96.0.10", &[53])]);
        assert!(wanted(None, &catalog).is_empty());
        let named = wanted(Some(&[net("10.96.0.0/16")]), &catalog);
        assert_eq!(named.into_iter().map(|it| it.net).collect::<Vec<_>>(), [net("10.96.0.0/16")]);
    }

    #[test]
    fn the_api_server_is_an_exception_whether_the_catalog_or_the_environment_knows_it() {
        let catalog = catalog(&[
            ("default", "kubernetes", "10.96.0.1", &[443]),
            ("shop", "kubernetes", "10.96.0.2", &[443]),
        ]);
        assert_eq!(exceptions(&catalog, None), [net("10.96.0.1/32")].into());
        let told = Some("10.100.0.1".parse().unwrap());
        assert_eq!(exceptions(&Catalog::default(), told), [net("10.100.0.1/32")].into());
    }
}
