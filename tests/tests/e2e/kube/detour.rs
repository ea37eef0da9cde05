//! The API server's Service leads nowhere, as after an outage until kube-proxy has caught up, and its endpoint is well.

use std::net::SocketAddr;
use std::path::Path;

use e2e::kube::{ApiServer, Authority, Endpoint, service, slice};
use e2e::raw::TcpServer;
use e2e::{Net, Pod, Weir, eventually};

use super::account::account;

/// The Service's address.
const SERVICE: &str = "10.96.0.1";

/// A node, the API server on a machine of its own, and what stands for kube-proxy: it serves the Service's address.
struct Stage {
    // Dropped in this order: who connects first, the network last.
    weir: Weir,
    kube_proxy: Option<TcpServer>,
    server: ApiServer,
    beyond: Pod,
    _account: tempfile::TempDir,
    net: Net,
}

impl Stage {
    /// weir has listed everything by the Service's address. The server tells of the endpoint that `endpoint` makes of it.
    fn set(endpoint: impl FnOnce(&mut Net, &Authority, &ApiServer) -> SocketAddr) -> Option<Self> {
        if !e2e::net::is_root() {
            return None;
        }
        let mut net = Net::new();
        let (machine, beyond) = (net.pod("server"), net.beyond(&[SERVICE]));
        let authority = Authority::new();
        let server = ApiServer::start_behind(&authority, &machine, SERVICE.parse().unwrap());
        server.faults(|faults| faults.token = Some("token".to_owned()));
        let endpoint = endpoint(&mut net, &authority, &server);
        server.put(service("kubernetes", SERVICE, &[("https", 443)]));
        server.put(slice(
            "kubernetes",
            "kubernetes",
            ("https", endpoint.port()),
            &[Endpoint::ready(endpoint.ip())],
        ));
        let kube_proxy = Some(serve(&beyond, server.address()));
        let account = account(&authority, "token");
        let weir = in_a_pod(&net, account.path());
        eventually("readiness", || weir.admin_get("/ready").status == 200);
        assert_eq!(weir.metric("weir_kubernetes_endpoint_connects_total", &[]), 0.0, "the Service is there");
        Some(Self { weir, kube_proxy, server, beyond, _account: account, net })
    }

    /// The server restarts, and nothing serves its Service when it is back.
    fn lose_the_service(&mut self, how: How) {
        self.server.down();
        match how {
            How::Refuses => drop(self.kube_proxy.take()),
            How::HasNoRoute => self.route("unreachable 10.96.0.1/32"),
            // Nobody has that address, so nobody answers.
            How::IsSilent => self.route("10.96.0.1/32 via 10.1.0.250"),
        }
        self.server.up();
    }

    fn route(&self, route: &str) {
        self.net.node().ip(&format!("route replace {route}\n"));
    }

    fn by_endpoint(&self) -> f64 {
        self.weir.metric("weir_kubernetes_endpoint_connects_total", &[])
    }
}

/// How a Service's address leads nowhere.
#[derive(Clone, Copy, Debug)]
enum How {
    Refuses,
    HasNoRoute,
    IsSilent,
}

fn serve(beyond: &Pod, server: SocketAddr) -> TcpServer {
    let (at, from) = (SocketAddr::new(SERVICE.parse().unwrap(), 443), beyond.clone());
    TcpServer::forwards(beyond.listen(at).unwrap(), move || from.connect(server))
}

fn in_a_pod(net: &Net, account: &Path) -> Weir {
    let discovery = "{ kubernetes: { node: node-1, jitter: 0s, readTimeout: 1s, silence: 2500ms } }";
    let builder = Weir::new().set("discovery", discovery).with_account(account).beside(net);
    builder.env("KUBERNETES_SERVICE_HOST", SERVICE).env("KUBERNETES_SERVICE_PORT", "443").start()
}

#[test]
fn a_server_whose_service_leads_nowhere_is_followed_by_its_endpoint() {
    for how in [How::Refuses, How::HasNoRoute, How::IsSilent] {
        let Some(mut stage) = Stage::set(|_, _, server| server.address()) else { return };
        stage.lose_the_service(how);
        stage.server.put(service("hello", "10.96.0.10", &[("http", 80)]));
        let services = || stage.weir.metric("weir_catalog_services", &[]);
        eventually(&format!("the change, where the Service {how:?}"), || services() == 2.0);
        assert!(stage.by_endpoint() > 0.0);
        stage.weir.expect_log("the API server's Service does not answer");
    }
}

#[test]
fn a_service_that_is_back_is_asked_again() {
    let Some(mut stage) = Stage::set(|_, _, server| server.address()) else { return };
    stage.lose_the_service(How::Refuses);
    eventually("a connection to the endpoint", || stage.by_endpoint() > 0.0);
    // It may be asked again in the very moment that it is back.
    let before = stage.weir.log().len();
    stage.kube_proxy = Some(serve(&stage.beyond, stage.server.address()));
    eventually("the Service's", || {
        stage.server.down();
        stage.server.up();
        e2e::time::holds_within(std::time::Duration::from_secs(3), || {
            stage.weir.log()[before..].contains("the API server's Service answers again")
        })
    });
}

/// Whoever is told of as the endpoint has to show the certificate of the Service, or is told nothing: no token, no request.
#[test]
fn an_endpoint_that_is_not_the_server_is_told_nothing() {
    for of_the_cluster in [false, true] {
        let mut stranger = None;
        let stage = Stage::set(|net, authority, _| {
            let pod = net.pod("stranger");
            // Of the right authority and for its own address, as any server of the cluster may have; or of another.
            let (authority, name) = match of_the_cluster {
                true => (authority, pod.v4()),
                false => (&Authority::new(), SERVICE.parse().unwrap()),
            };
            stranger.insert(ApiServer::start_behind(authority, &pod, name)).address()
        });
        let (Some(mut stage), Some(stranger)) = (stage, stranger) else { return };
        stage.lose_the_service(How::Refuses);
        eventually("the reason", || {
            let failure = &stage.weir.state()["kubernetes"]["resources"]["services"]["failure"];
            failure.as_str().is_some_and(|why| why.contains("certificate"))
        });
        assert!(stage.by_endpoint() > 0.0);
        assert!(stranger.seen().is_empty(), "{} requests were sent", stranger.seen().len());
    }
}
