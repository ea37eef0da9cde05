//! Which destinations are diverted: those that are configured, otherwise those in the catalog.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::domain::catalog::{AppProtocol, Catalog, Changes, Namer, Service, ServiceKey};
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
    use crate::domain::catalog::ServicePort;

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
