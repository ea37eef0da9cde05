//! Before the first lists: what can be served is, and what may be a Service is not denied but said to be unknown yet.

use std::time::Duration;

use super::stage::following;
use e2e::kube::{ApiServer, Endpoint, Refusal, service, slice};
use e2e::net::is_root;
use e2e::time::within;
use e2e::weir::builder::Builder;
use e2e::{Backend, Dns, Net, Place, Pod, Said, Weir, eventually};

/// What a request is told while nobody is there who knows the services.
const UNKNOWN: &str =
    "the cluster's services are not known yet: waiting for services: the API server cannot be reached";

/// Waits until weir says why it does not know `name`.
fn says(weir: &Weir, name: &str, why: &str) {
    let said = || weir.get(&format!("http://{name}/")).text().contains(why);
    eventually("the reason", said);
}

/// Each way to ask `weir` where `name` goes.
fn explanations(weir: &Weir, name: &str) -> [String; 3] {
    let admin = weir.admin().to_string();
    let printed = Weir::new().run(&["explain", name, "--admin", &admin]);
    let api = |format: &str| weir.admin_get(&format!("/api/explain?name={name}{format}")).text();
    [printed.stdout, api("&format=text"), api("")]
}

#[test]
fn a_name_that_may_be_a_service_is_503_until_services_are_known_and_why_is_said() {
    let server = ApiServer::start();
    server.put(service("empty", "10.96.0.10", &[("http", 80)]));
    server.down();
    let weir = following(&server).set("names", "{ dns: false }").start();
    says(&weir, "hello", UNKNOWN);
    says(&weir, "hello", "; waiting for endpointslices: the same");
    for name in ["hello", "hello:8080", "empty", "hello.shop", "10.96.0.10"] {
        for part in explanations(&weir, name) {
            assert!(part.contains(UNKNOWN), "{name}: {part}");
        }
    }
    let [printed, _, json] = explanations(&weir, "hello");
    assert!(printed.contains("nothing yet: whether there is such a name is not known"), "{printed}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["step"]["verdict"].get("unknown").is_some(), "{json}");
    for name in ["hello", "empty", "hello:8080", "hello.shop.svc.cluster.local"] {
        let answer = weir.get(&format!("http://{name}/"));
        answer.expect_status(503);
        assert!(
            answer.text().contains("is not bound yet: ") && answer.text().contains(UNKNOWN),
            "{answer:?}"
        );
        assert!(answer.l5d_err().contains("services%20are%20not%20known%20yet"), "{answer:?}");
        assert!(answer.get("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()), "{answer:?}");
    }
    // That can be no Service, whatever the cluster has.
    weir.get("http://a.b.c.invalid/").expect_status(502);
    assert!(weir.faults("services_unknown") >= 4.0 && weir.faults("unbound") == 1.0);
    server.up();
    let why = "no service hello in namespace default";
    within(Duration::from_secs(4), "certainty", || weir.get("http://hello/").text().contains(why));
    weir.get("http://hello/").expect_status(502);
    let empty = weir.get("http://empty/");
    assert!(empty.expect_status(503).text().contains("no endpoint"), "{empty:?}");
    for part in explanations(&weir, "hello") {
        assert!(part.contains(why) && !part.contains("not known"), "{part}");
    }
}

#[test]
fn what_is_known_once_stays_known_when_the_server_goes() {
    let server = ApiServer::start();
    let weir = following(&server).start();
    says(&weir, "hello", "no service hello in namespace default");
    server.down();
    let failed = || weir.metric("weir_kubernetes_failures_total", &[("kind", "unreachable")]) >= 5.0;
    eventually("that it is gone", failed);
    weir.get("http://hello/").expect_status(502);
}

#[test]
fn the_reason_follows_what_the_server_does() {
    let server = ApiServer::start();
    server.refuse("endpointslices", Refusal::Forbidden);
    let weir = following(&server).set("names", "{ dns: false }").start();
    says(&weir, "hello", "waiting for endpointslices: not permitted (403");
    weir.get("http://hello/").expect_status(503);
    server.heal();
    within(Duration::from_secs(10), "certainty", || weir.get("http://hello/").status == 502);
}

#[test]
fn an_explanation_by_a_configuration_says_that_no_server_was_asked() {
    let configured = Weir::new().set("discovery", "{ kubernetes: {} }");
    let explained = configured.run(&["explain", "http://hello/", "--config", "CONFIG"]);
    assert!(
        explained.stdout.contains("not known yet: the API server was not asked"),
        "{}{}",
        explained.stdout,
        explained.stderr
    );
}

/// A node on which nobody knows the services yet, DNS does know names, and pods serve.
struct Scene {
    weir: Weir,
    server: ApiServer,
    _backends: [Backend; 3],
    _dns: Dns,
    _net: Net,
}

/// A backend at port 80 of `pod` that answers with the pod's name.
fn backend(pod: &Pod) -> Backend {
    Backend::http().answers(pod.name()).inside(pod).on(pod.at(80)).start()
}

/// By DNS `example.test` and `hello.shop` are at the pod `outside`; `settings` may use the file `written`; in the cluster
/// there is `hello.shop`, and nobody to tell of it.
fn scene(settings: impl FnOnce(Builder) -> Builder) -> Option<Scene> {
    is_root().then(|| {
        let mut net = Net::new();
        let [outside, written, cluster] = ["outside", "written", "cluster"].map(|name| net.pod(name));
        let dns = Dns::start(&net.weir_place(), [127, 0, 0, 1].into());
        for name in ["example.test", "www.example.test", "hello.shop"] {
            dns.says(name, Said::Addresses(vec![outside.v4()], 60));
        }
        let server = ApiServer::start_in(Place::from(&net.node()));
        for mut object in [
            service("hello", "10.96.0.10", &[("http", 80)]),
            slice("hello-1", "hello", ("http", 80), &[Endpoint::ready(cluster.v4())]),
        ] {
            object["metadata"]["namespace"] = "shop".into();
            server.put(object);
        }
        server.down();
        let both = "{ files: { path: ./services }, kubernetes: { kubeconfig: ./kubeconfig, jitter: 0s } }";
        let builder = following(&server).beside(&net).set("discovery", both).set("names", &dns.setting());
        let weir = settings(builder.service("written", &[written.at(80)])).start();
        let backends = [&outside, &written, &cluster].map(backend);
        Scene { weir, server, _backends: backends, _dns: dns, _net: net }
    })
}

#[test]
fn without_an_api_server_names_outside_are_found_by_dns() {
    let Some(scene) = scene(|builder| builder) else { return };
    says(&scene.weir, "hello", UNKNOWN);
    for name in ["example.test", "www.example.test"] {
        scene.weir.get(&format!("http://{name}/")).expect_body("outside");
    }
    let answer = scene.weir.get("http://unheard.test/");
    answer.expect_status(503);
    assert!(answer.text().contains(UNKNOWN), "{answer:?}");
    assert!(answer.text().contains("as for unheard.test: DNS knows no such name"), "{answer:?}");
    let answer = scene.weir.get("http://a.www.unheard.test/");
    assert!(
        answer.expect_status(502).text().contains("as for a.www.unheard.test: DNS knows no such name"),
        "{answer:?}"
    );
    scene.server.up();
    let known = || scene.weir.get("http://unheard.test/").status == 502;
    within(Duration::from_secs(4), "certainty", known);
    scene.weir.get("http://example.test/").expect_body("outside");
}

#[test]
fn what_another_alternative_serves_meanwhile_is_the_services_once_it_is_known() {
    let dtab = "/svc/either => /#/io.l5d.k8s/shop/http/hello | /#/io.l5d.fs/written ;";
    let Some(scene) = scene(|builder| builder.set("dtab", &format!("{dtab:?}"))) else { return };
    scene.weir.get("http://written/").expect_body("written");
    scene.weir.get("http://either/").expect_body("written");
    scene.weir.get("http://hello.shop/").expect_body("outside");
    scene.server.up();
    for name in ["either", "hello.shop"] {
        let is_the_service = || scene.weir.get(&format!("http://{name}/")).text() == "cluster";
        within(Duration::from_secs(4), name, is_the_service);
    }
    scene.weir.get("http://written/").expect_body("written");
}
