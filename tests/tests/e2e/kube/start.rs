//! The first moments of a weir: requests that come before the first list of services wait for it, and while nobody has it
//! the cluster's DNS says where a Service is.

use std::net::IpAddr;
use std::time::Duration;

use super::stage::following;
use e2e::kube::{ApiServer, Endpoint, service, slice};
use e2e::net::is_root;
use e2e::time::within;
use e2e::weir::builder::Builder;
use e2e::{Backend, Dns, Net, Place, Pod, Request, Said, Weir, eventually};

/// A server with the Service `hello` at one endpoint.
fn server_of(backend: &Backend) -> ApiServer {
    let server = ApiServer::start();
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    server.serve("hello", &[backend.addr()]);
    server
}

/// Lists of services are asked for and not answered.
fn hang(server: &ApiServer) {
    server.faults(|faults| {
        faults.hung.insert("services".to_owned());
    });
}

/// A weir whose server is silent for longer than any test takes, and which knows no DNS.
fn patient(server: &ApiServer) -> Builder {
    let builder = following(server).set("names", "{ dns: false }");
    builder.set(
        "discovery",
        "{ files: { path: ./services }, kubernetes: { kubeconfig: ./kubeconfig, readTimeout: 2m } }",
    )
}

/// Requests that wait now.
fn waiting(weir: &Weir) -> f64 {
    weir.metric("weir_held_requests", &[])
}

/// Requests whose waiting ended so.
fn ended(weir: &Weir, end: &str) -> f64 {
    weir.metric("weir_holds_total", &[("end", end)])
}

#[test]
fn the_first_list_waits_for_no_jitter() {
    let server = server_of(&Backend::http().start());
    let builder = following(&server);
    let weir = builder.set("discovery", "{ kubernetes: { kubeconfig: ./kubeconfig, jitter: 10m } }").start();
    eventually("the services", || weir.metric("weir_catalog_services", &[]) == 1.0);
}

#[test]
fn no_request_waits_longer_than_it_may() {
    let server = server_of(&Backend::http().start());
    hang(&server);
    let policies = "{ services: [{ prefix: /svc/brief, response: 50ms }] }";
    let weir = patient(&server).set("limits", "{ firstList: 200ms }").set("policies", policies).start();
    let why = "the cluster's services are not known yet: waiting for services";
    // Whenever it comes: each has its own time.
    for (number, name) in ["hello", "hello", "brief", "hello.shop", "hello"].iter().enumerate() {
        let answer = weir.get(&format!("http://{name}/"));
        assert!(answer.expect_status(503).text().contains(why), "{}", answer.text());
        assert!(ended(&weir, "late") >= (number + 1) as f64);
    }
    let weir = patient(&server).set("limits", "{ firstList: 0s }").start();
    weir.get("http://hello/").expect_status(503);
    let brief = patient(&server).set("limits", "{ firstList: 30s, response: 50ms }").start();
    brief.get("http://hello/").expect_status(503);
    assert_eq!(["late", "known", "failing", "left"].map(|end| ended(&weir, end)), [0.0; 4]);
    // And none at all once the list is known to fail.
    let failing = patient(&server).set("limits", "{ firstList: 30s }").start();
    let mut client = failing.client();
    client.start(&Request::get("http://hello/"));
    eventually("it to wait", || waiting(&failing) == 1.0);
    server.down();
    client.response().expect_status(503);
    assert_eq!(ended(&failing, "failing"), 1.0);
}

#[test]
fn a_client_that_leaves_waits_no_longer() {
    let server = server_of(&Backend::http().start());
    hang(&server);
    let weir = patient(&server).set("limits", "{ firstList: 30s }").start();
    let mut client = weir.client();
    client.start(&Request::get("http://hello/"));
    eventually("it to wait", || waiting(&weir) == 1.0);
    client.vanish();
    eventually("its end", || waiting(&weir) == 0.0);
    assert_eq!(ended(&weir, "left"), 1.0);
}

/// A node with an API server, the cluster's DNS, and a Service `hello` in `default` and in `shop`, whose address kube-proxy would
/// take and whose endpoint is a pod.
struct Scene {
    net: Net,
    server: ApiServer,
    dns: Dns,
    backends: [Backend; 3],
}

/// The address of the Services.
const ADDRESS: &str = "10.96.0.10";

fn scene() -> Option<Scene> {
    is_root().then(|| {
        let mut net = Net::new();
        let (behind, pod) = (net.beyond(&[ADDRESS]), net.pod("endpoint"));
        let at = |pod: &Pod, ip: IpAddr, port: u16, body: &str| {
            Backend::http().answers(body).inside(pod).on((ip, port).into()).start()
        };
        let address: IpAddr = ADDRESS.parse().unwrap();
        let backends = [
            at(&behind, address, 80, "address"),
            at(&behind, address, 8080, "address"),
            at(&pod, pod.v4(), 80, "endpoint"),
        ];
        let server = ApiServer::start_in(Place::from(&net.node()));
        let dns = Dns::start(&net.weir_place(), [127, 0, 0, 1].into());
        for namespace in ["default", "shop"] {
            for mut object in [
                service("hello", ADDRESS, &[("http", 80), ("alt", 8080)]),
                slice("hello-1", "hello", ("http", 80), &[Endpoint::ready(pod.v4())]),
            ] {
                object["metadata"]["namespace"] = namespace.into();
                server.put(object);
            }
            let name = format!("hello.{namespace}.svc.cluster.local");
            dns.says(&name, Said::addresses(&[ADDRESS], 5));
        }
        dns.says("db-0.db.shop.svc.cluster.local", Said::Addresses(vec![pod.v4()], 5));
        Scene { net, server, dns, backends }
    })
}

impl Scene {
    fn weir(&self) -> Weir {
        following(&self.server).beside(&self.net).set("names", &self.dns.setting()).start()
    }
}

/// Every request that has to be answered while the API server is away.
fn requests() -> Vec<Request> {
    let hosts = [
        "hello",
        "HELLO.",
        "hello:8080",
        "hello.default",
        "hello.shop",
        "hello.shop:8080",
        "hello.shop.svc",
        "hello.shop.svc.cluster.local",
        "hello.default.svc.cluster.local.:8080",
    ];
    let by_host = hosts.iter().map(|host| Request::get(&format!("http://{host}/")));
    let by_dtab = [
        "/svc/x => /svc/hello",
        "/svc/x => /#/io.l5d.k8s/shop/http/hello",
        "/svc/x => /#/io.l5d.k8s/default/8080/hello",
        "/svc/x => /$/weir.host/hello.shop | /#/io.l5d.fs/none",
    ];
    let by_dtab = by_dtab.iter().map(|dtab| Request::get("http://x/").with("l5d-dtab", dtab));
    by_host.chain(by_dtab).collect()
}

#[test]
fn requests_that_come_before_the_first_list_wait_for_it() {
    let Some(scene) = scene() else { return };
    hang(&scene.server);
    let weir = patient(&scene.server)
        .beside(&scene.net)
        .set("limits", "{ firstList: 30s }")
        .service("written", &[scene.backends[0].addr()])
        .start();
    let target = "hello.default.svc.cluster.local:80";
    let requests = [
        Request::get("http://hello/"),
        Request::get("/").with("Host", "HELLO.shop.svc"),
        Request::get("http://x/").with("l5d-dtab", "/svc/x => /svc/hello"),
        Request::get("http://x/").with("l5d-dtab", "/svc/x => /#/io.l5d.k8s/default/http/hello"),
    ];
    let clients = requests.map(|request| {
        let mut client = weir.client();
        client.start(&request);
        client
    });
    let mut tunnel = weir.client();
    tunnel.start(&Request::new("CONNECT", target).with("Host", target));
    eventually("all of them to wait", || waiting(&weir) == 5.0);
    // Who needs nobody that is waited for does not wait.
    weir.get("http://written/").expect_body("address");
    scene.server.heal();
    clients.into_iter().for_each(|mut client| {
        client.response().expect_body("endpoint");
    });
    tunnel.response().expect_status(200);
    tunnel.get("/").expect_body("endpoint");
    assert_eq!((waiting(&weir), ended(&weir, "known")), (0.0, 5.0));
}

#[test]
fn a_weir_that_starts_while_the_api_server_is_away_finds_services_by_the_clusters_dns() {
    let Some(scene) = scene() else { return };
    let before = scene.weir();
    within(Duration::from_secs(10), "its endpoint", || before.get("http://hello/").text() == "endpoint");
    scene.server.down();
    drop(before);
    let weir = scene.weir();
    let requests = requests();
    for request in &requests {
        weir.ask(request).expect_body("address");
    }
    weir.get("http://db-0.db.shop/").expect_body("endpoint");
    weir.get("http://db-0.db.shop.svc.cluster.local/").expect_body("endpoint");
    let unbalanced = weir.metric("weir_dns_unbalanced_requests_total", &[]);
    assert_eq!(unbalanced, (requests.len() + 2) as f64);
    let said = weir.admin_get("/api/explain?name=hello&format=text").text();
    for part in [
        "hello:80: DNS is asked for hello.default.svc.cluster.local\n",
        "used as it is, and not balanced",
        "the cluster's services are not known yet: waiting for services: the API server cannot be reached",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let outside: Vec<_> =
        scene.dns.asked().into_iter().filter(|it| !it.name.ends_with(".cluster.local")).collect();
    assert!(outside.is_empty(), "{outside:?}");
    // What DNS denies, and what it does not answer.
    scene.dns.says("broken.default.svc.cluster.local", Said::Failure);
    for (name, why) in [("nobody", "DNS knows no such name"), ("broken", "DNS did not answer")] {
        let answer = weir.get(&format!("http://{name}/"));
        let text = answer.expect_status(503).text();
        assert!(text.contains(why) && text.contains("services are not known yet"), "{text}");
        assert!(answer.get("retry-after").is_some(), "{answer:?}");
    }
    // It comes back: the endpoints are chosen from again.
    scene.server.up();
    within(Duration::from_secs(10), "the endpoint", || weir.get("http://hello/").text() == "endpoint");
    let unbalanced = weir.metric("weir_dns_unbalanced_requests_total", &[]);
    for name in ["hello", "hello.shop", "hello.default.svc.cluster.local"] {
        weir.get(&format!("http://{name}/")).expect_body("endpoint");
    }
    assert_eq!(weir.metric("weir_dns_unbalanced_requests_total", &[]), unbalanced);
}

#[test]
fn a_server_that_does_not_answer_keeps_no_request_from_the_clusters_dns_for_long() {
    let Some(scene) = scene() else { return };
    scene.server.faults(|faults| faults.hangs = true);
    let weir = following(&scene.server)
        .beside(&scene.net)
        .set("names", &scene.dns.setting())
        .set("discovery", "{ kubernetes: { kubeconfig: ./kubeconfig, readTimeout: 2m } }")
        .set("limits", "{ firstList: 300ms }")
        .start();
    for _ in 0..3 {
        weir.get("http://hello/").expect_body("address");
    }
    assert!(ended(&weir, "late") <= 1.0, "only in the first moments");
    scene.server.heal();
    within(Duration::from_secs(10), "the endpoint", || weir.get("http://hello/").text() == "endpoint");
}

#[test]
fn a_request_that_dns_does_not_help_waits_for_a_list_that_is_late() {
    let Some(scene) = scene() else { return };
    scene.server.faults(|faults| faults.hangs = true);
    scene.dns.says("hello.default.svc.cluster.local", Said::Failure);
    let weir = following(&scene.server)
        .beside(&scene.net)
        .set("names", &scene.dns.setting())
        .set("discovery", "{ kubernetes: { kubeconfig: ./kubeconfig, readTimeout: 2m } }")
        .set("limits", "{ firstList: 3s }")
        .start();
    // The first moments pass.
    weir.get("http://hello/").expect_status(503);
    let mut client = weir.client();
    client.start(&Request::get("http://hello/"));
    eventually("it to wait", || waiting(&weir) == 1.0);
    scene.server.heal();
    client.response().expect_body("endpoint");
}
