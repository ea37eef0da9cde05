//! `names.clientNamespace`: a short name of a pod's request means the pod's own namespace.

use e2e::client::Client;
use e2e::kube::{self, ApiServer, Endpoint, Refusal, service, slice};
use e2e::net::is_root;
use e2e::weir::builder::Builder;
use e2e::{Backend, Dns, Net, Place, Pod, Request, Response, Said, Weir, eventually};
use serde_json::json;

/// A node with a pod in `shop`, one in `dev`, one that nobody told of, and a Service `hello` in each namespace.
struct Scene {
    weir: Weir,
    server: ApiServer,
    dns: Dns,
    shop: Pod,
    dev: Pod,
    stranger: Pod,
    _backends: Vec<Backend>,
    net: Net,
}

fn scene(settings: impl FnOnce(Builder) -> Builder) -> Option<Scene> {
    scene_with(|_| {}, settings)
}

/// The same, with an API server that was `prepared` before weir asks it.
fn scene_with(prepare: impl FnOnce(&ApiServer), settings: impl FnOnce(Builder) -> Builder) -> Option<Scene> {
    is_root().then(|| {
        let mut net = Net::new();
        let [shop, dev, stranger, foreign] = ["shop", "dev", "stranger", "foreign"].map(|name| net.pod(name));
        let server = ApiServer::start_in(Place::from(&net.node()));
        let mut backends =
            vec![Backend::http().answers("foreign").inside(&foreign).on(foreign.at(80)).start()];
        for (number, namespace) in ["default", "shop", "dev"].iter().enumerate() {
            let pod = net.pod(&format!("hello-{namespace}"));
            backends.push(Backend::http().answers(namespace).inside(&pod).on(pod.at(8080)).start());
            for mut object in [
                service("hello", &format!("10.96.0.{}", 10 + number), &[("http", 80)]),
                slice("hello-1", "hello", ("http", 8080), &[Endpoint::ready(pod.v4())]),
            ] {
                object["metadata"]["namespace"] = json!(namespace);
                server.put(object);
            }
        }
        for pod in [&shop, &dev] {
            server.put(kube::pod(pod.name(), "caller", "node-1", pod.v4()));
        }
        let mut host = kube::pod("kube-system", "agent", "node-1", net.node().v4());
        host["spec"]["hostNetwork"] = json!(true);
        server.put(host);
        prepare(&server);
        let dns = Dns::start(&net.weir_place(), [127, 0, 0, 1].into());
        dns.says_of_others(Said::Addresses(vec![foreign.v4()], 60));
        let builder = Weir::new().beside(&net).set("names", &dns.setting());
        server.kubeconfig(builder.folder().path());
        let builder = builder
            .set("outgoing", "{ listen: \"[::]:0\", diagnostics: [10.0.0.0/8], destinations: { to: any } }")
            .set_in("names", "clientNamespace", "true")
            .set("discovery", "{ kubernetes: { kubeconfig: ./kubeconfig, node: node-1 } }");
        let weir = settings(builder).start();
        Scene { weir, server, dns, shop, dev, stranger, _backends: backends, net }
    })
}

impl Scene {
    /// A connection to weir from a pod.
    fn client(&self, from: &Pod) -> Client {
        let address = (self.net.node().v4(), self.weir.outgoing().port()).into();
        Client::over(from.connect(address).unwrap())
    }

    fn ask(&self, from: &Pod, request: &Request) -> Response {
        self.client(from).ask(request)
    }

    fn get(&self, from: &Pod, host: &str) -> Response {
        self.ask(from, &Request::get(&format!("http://{host}/")))
    }
}

#[test]
fn a_short_name_means_the_namespace_of_the_pod_that_says_it() {
    let Some(scene) = scene(|builder| builder) else { return };
    for (pod, own) in [(&scene.shop, "shop"), (&scene.dev, "dev"), (&scene.net.node(), "default")] {
        for host in ["hello", "HELLO.", "hello:80", "hello.svc"] {
            scene.get(pod, host).expect_body(own);
            scene.ask(pod, &Request::get("/").with("Host", host)).expect_body(own);
        }
        let mut tunnel = scene.client(pod);
        tunnel.ask(&Request::new("CONNECT", "hello:80").with("Host", "hello:80")).expect_status(200);
        tunnel.get("/").expect_body(own);
        // Who says a namespace means it.
        for (host, namespace) in [
            ("hello.default", "default"),
            ("hello.default.svc.cluster.local", "default"),
            ("hello.shop", "shop"),
            ("hello.dev.svc", "dev"),
        ] {
            scene.get(pod, host).expect_body(namespace);
        }
        // One connection, one pod.
        let mut client = scene.client(pod);
        client.get("http://hello/").expect_body(own);
        client.get("http://hello.default/").expect_body("default");
        client.get("http://hello/").expect_body(own);
    }
    assert_eq!(scene.dns.asked(), []);
    // The name is the Service's, as everybody knows it.
    let attempts = |service| scene.weir.metric("weir_attempts_total", &[("service", service)]);
    assert!(
        attempts("/svc/hello.shop") > 0.0 && attempts("/svc/hello.dev") > 0.0 && attempts("/svc/hello") > 0.0
    );
}

#[test]
fn a_short_name_that_is_nothing_in_its_namespace_is_never_asked_of_dns_outside() {
    let Some(scene) = scene(|builder| builder) else { return };
    for (pod, why) in [
        (&scene.shop, "no service nobody in namespace shop"),
        (&scene.dev, "no service nobody in namespace dev"),
        (&scene.net.node(), "no service nobody in namespace default"),
    ] {
        let answer = scene.get(pod, "nobody");
        assert!(answer.expect_status(502).text().contains(why), "{}", answer.text());
    }
    assert_eq!(scene.dns.asked(), [], "nobody.dev is somebody's on the internet");
    scene.get(&scene.dev, "nobody.dev").expect_body("foreign");
}

#[test]
fn a_pod_that_is_not_known_yet_waits_until_it_is_and_is_never_taken_for_another() {
    let Some(scene) = scene(|builder| builder.set("limits", "{ firstList: 20s }")) else { return };
    let stranger = &scene.stranger;
    let mut client = scene.client(stranger);
    client.start(&Request::get("http://hello/"));
    eventually("it to wait", || scene.weir.metric("weir_held_requests", &[]) == 1.0);
    // Whoever says a namespace needs nobody to know it.
    scene.get(stranger, "hello.shop").expect_body("shop");
    scene.server.put(kube::pod("dev", "late", "node-1", stranger.v4()));
    client.response().expect_body("dev");
    // The pod goes, and another gets its address.
    scene.server.delete("pods", "dev", "late");
    let mut client = scene.client(stranger);
    eventually("its end", || {
        client = scene.client(stranger);
        client.start(&Request::get("http://hello/"));
        e2e::time::holds_within(std::time::Duration::from_millis(300), || {
            scene.weir.metric("weir_held_requests", &[]) == 1.0
        })
    });
    scene.server.put(kube::pod("shop", "next", "node-1", stranger.v4()));
    client.response().expect_body("shop");
}

#[test]
fn a_client_that_is_no_pod_of_this_node_means_the_default_namespace_and_is_waited_for_once() {
    let Some(scene) = scene(|builder| builder.set("limits", "{ firstList: 100ms }")) else { return };
    eventually("the pods", || scene.get(&scene.shop, "hello").text() == "shop");
    let late = || scene.weir.metric("weir_holds_total", &[("end", "late")]);
    let (before, unknown) = (late(), scene.weir.faults("client_unknown"));
    for _ in 0..5 {
        scene.get(&scene.stranger, "hello").expect_body("default");
    }
    assert_eq!((late() - before, scene.weir.faults("client_unknown") - unknown), (1.0, 0.0));
    assert_eq!(scene.weir.metric("weir_client_namespace_unknown_total", &[]), 5.0);
    scene.get(&scene.stranger, "hello.dev").expect_body("dev");
    // Once it is known, it is what it is, though it was a stranger a moment ago.
    let mut client = scene.client(&scene.stranger);
    client.get("http://hello/").expect_body("default");
    scene.server.put(kube::pod("dev", "late", "node-1", scene.stranger.v4()));
    eventually("the new pod", || client.get("http://hello/").text() == "dev");
}

#[test]
fn while_this_nodes_pods_are_not_known_a_short_name_is_503_with_the_reason() {
    let Some(scene) = scene_with(
        |server| server.refuse("pods", Refusal::Broken(500)),
        |builder| builder.set("limits", "{ firstList: 100ms }"),
    ) else {
        return;
    };
    eventually("the services", || scene.get(&scene.shop, "hello.dev").text() == "dev");
    for pod in [&scene.shop, &scene.stranger] {
        let answer = scene.get(pod, "hello");
        assert!(
            answer.expect_status(503).text().contains("which weir does not know yet"),
            "{}",
            answer.text()
        );
        assert!(answer.get("retry-after").is_some());
    }
    assert_eq!(scene.weir.faults("client_unknown"), 2.0);
    scene.get(&scene.net.node(), "hello").expect_body("default");
    scene.server.heal();
    eventually("the pods", || scene.get(&scene.shop, "hello").status == 200);
    scene.get(&scene.shop, "hello").expect_body("shop");
}

#[test]
fn an_explanation_and_a_diagnosis_are_for_the_clients_namespace() {
    let Some(scene) = scene(|builder| builder) else { return };
    let explained = |query: &str| {
        let answer = scene.weir.admin_get(&format!("/api/explain?format=text&{query}"));
        answer.expect_status(200).text()
    };
    eventually("the services", || explained("name=hello").contains("=> /$/weir.host/hello\n"));
    assert!(
        explained("name=hello")
            .contains("(names.clientNamespace): here default, as of a client that is no pod")
    );
    let of_shop = explained("name=hello&namespace=shop");
    assert!(of_shop.contains("=> /$/weir.host/hello.shop\n") && of_shop.contains("here shop"), "{of_shop}");
    assert!(explained("name=hello.default&namespace=shop").contains("=> /$/weir.host/hello\n"));
    // A diagnosis waits for nothing.
    eventually("the pods", || scene.get(&scene.shop, "hello").text() == "shop");
    let asked = Request::get("http://hello/").with("Max-Forwards", "0").with("l5d-add-context", "true");
    let told = scene.ask(&scene.shop, &asked);
    assert!(told.expect_status(200).text().contains("=> /$/weir.host/hello.shop\n"), "{}", told.text());
    assert!(told.text().contains("(names.clientNamespace): here shop\n"), "{}", told.text());
    let told = scene.ask(&scene.stranger, &asked);
    let whose = format!("here default: no pod of this node has the address {}", scene.stranger.v4());
    assert!(told.expect_status(200).text().contains(&whose), "{}", told.text());
    assert!(told.text().contains("=> /$/weir.host/hello\n"), "{}", told.text());
    let bad = scene.weir.admin_get("/api/explain?format=text&name=hello&namespace=a.b");
    assert!(bad.expect_status(400).text().contains("is no namespace"), "{}", bad.text());
}

#[test]
fn on_kubernetes_a_pod_that_would_be_lent_the_nodes_address_is_led_to_the_catalog_alone() {
    for (destinations, of_pod) in [
        ("", 403),
        (", destinations: { also: [nobody.dev] }", 200),
        (", destinations: { to: auto, also: [example.com] }", 403),
        (", destinations: { to: any }", 200),
    ] {
        let outgoing = format!("{{ listen: \"[::]:0\"{destinations} }}");
        let Some(scene) = scene(|builder| builder.set("outgoing", &outgoing)) else { return };
        eventually("the services", || scene.get(&scene.shop, "hello.dev").text() == "dev");
        let asked = scene.dns.asked().len();
        for pod in [&scene.dev, &scene.stranger] {
            let answer = scene.get(pod, "nobody.dev");
            assert_eq!(answer.status, of_pod, "{destinations}: {}", answer.text());
            if of_pod == 403 {
                assert!(answer.text().contains("outgoing.destinations"), "{}", answer.text());
                assert_eq!(scene.dns.asked().len(), asked, "DNS was asked");
            }
        }
        // A process of the node has the node's address anyway.
        scene.get(&scene.net.node(), "nobody.dev").expect_body("foreign");
        scene.get(&scene.dev, "hello.shop").expect_body("shop");
        let explained = scene.weir.admin_get("/api/explain?format=text&name=nobody.dev").text();
        let is_told = explained.contains("pods that would be lent this node's address");
        assert_eq!(is_told, of_pod == 403, "{destinations}: {explained}");
    }
}
