//! Pods of a StatefulSet by their stable names: `pod.service.namespace`, by the `hostname` in their slice.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::backends;
use e2e::net::is_root;
use e2e::{Backend, Dns, Net, Request, Said, Weir, eventually};

/// A headless Service of a namespace, and a slice of these pods, all of which listen at one port.
fn set(namespace: &str, name: &str, ports: &str, pods: &[(&str, SocketAddr)]) -> String {
    let mut yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: {namespace} }}\n\
         spec: {{ clusterIP: None, ports: [{ports}] }}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-1\n  namespace: {namespace}\n  \
         labels: {{ kubernetes.io/service-name: {name} }}\naddressType: IPv4\n\
         ports: [{{ name: http, port: {} }}]\nendpoints:\n",
        pods.first().map_or(1, |(_, address)| address.port())
    );
    for (hostname, address) in pods {
        let _ = writeln!(yaml, "- {{ addresses: [{}], hostname: {hostname} }}", address.ip());
    }
    yaml
}

const HTTP: &str = "{ name: http, port: 80 }";

#[test]
fn a_pod_is_reached_by_every_spelling_of_its_name_and_no_other_is() {
    let [zero, one, near] = backends(["db-0", "db-1", "near"]);
    let pods = [("db-0", zero.addr()), ("db-1", one.addr())];
    let alias = |name: &str, of: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\nspec: {{ type: ExternalName, externalName: {of} }}\n"
        )
    };
    let weir = Weir::new()
        .file("shop.yaml", &set("shop", "db", HTTP, &pods))
        .file("default.yaml", &set("default", "near", HTTP, &[("near-0", near.addr())]))
        .file("alias.yaml", &alias("alias", "db-1.db.shop.svc.cluster.local"))
        .file("short.yaml", &alias("short", "DB-1.db.shop.svc."))
        .start();
    for (pod, spellings) in [
        (
            &zero,
            &[
                "db-0.db.shop",
                "db-0.db.shop:80",
                "db-0.db.shop.",
                "DB-0.Db.Shop",
                "db-0.db.shop.svc",
                "db-0.db.shop.svc.cluster.local",
                "db-0.db.shop.svc.cluster.local.:80",
                "DB-0.db.shop.SVC.cluster.local",
            ][..],
        ),
        (&one, &["db-1.db.shop", "db-1.db.shop.svc.cluster.local", "alias", "alias.default", "short"]),
        (
            &near,
            &[
                "near-0.near",
                "near-0.near.default",
                "near-0.near.default.svc",
                "near-0.near.default.svc.cluster.local",
            ],
        ),
    ] {
        let before = pod.count();
        for spelling in spellings {
            for _ in 0..3 {
                weir.get(&format!("http://{spelling}/")).expect_status(200);
            }
            weir.ask(&Request::get("/").with("Host", spelling)).expect_status(200);
        }
        assert_eq!(pod.count() - before, 4 * spellings.len(), "each of them at {}", pod.addr());
    }
    // As one destination, whatever it was called.
    let labels = [("service", "/svc/db-0.db.shop"), ("outcome", "2xx")];
    assert_eq!(weir.metric("weir_attempts_total", &labels), 32.0);
    // Written with `.svc`, two labels are a Service and its namespace.
    let answer = weir.get("http://near-0.near.svc/");
    assert!(answer.expect_status(502).text().contains("no service near-0 in namespace near"), "{answer:?}");
    let both = weir.get("http://db.shop/").text();
    assert!(both == "db-0" || both == "db-1", "{both}");
}

#[test]
fn a_pod_is_reached_at_the_services_port_or_at_one_of_its_own() {
    let [zero] = backends(["db-0"]);
    let other = Backend::http().answers("metrics").on((zero.addr().ip(), 0).into()).start();
    let pods = [("db-0", zero.addr())];
    let weir = Weir::new()
        .file("db.yaml", &set("shop", "db", "{ name: http, port: 8080 }, { name: pg, port: 5432 }", &pods))
        .start();
    weir.get("http://db-0.db.shop/").expect_body("db-0");
    weir.get("http://db-0.db.shop:8080/").expect_body("db-0");
    weir.get(&format!("http://db-0.db.shop:{}/", zero.addr().port())).expect_body("db-0");
    weir.get(&format!("http://db-0.db.shop.svc:{}/", other.addr().port())).expect_body("metrics");
    let target = format!("db-0.db.shop.svc.cluster.local:{}", zero.addr().port());
    let mut tunnel = weir.client();
    tunnel.ask(&Request::new("CONNECT", &target).with("Host", &target)).expect_status(200);
    tunnel.get("/").expect_body("db-0");
}

#[test]
fn a_pods_name_follows_it_and_a_pod_that_is_not_there_is_503_and_named_with_those_that_are() {
    let [zero, one, moved] = backends(["db-0", "db-1", "moved"]);
    let weir = Weir::new().file("db.yaml", &set("shop", "db", HTTP, &[("db-0", zero.addr())])).start();
    weir.get("http://db-0.db.shop/").expect_body("db-0");
    let absent = weir.get("http://db-1.db.shop.svc.cluster.local/");
    let why = "Service db has no pod db-1 now; there are db-0";
    assert!(absent.expect_status(503).text().contains(why), "{}", absent.text());
    assert!(absent.get("retry-after").is_some());
    let said = weir.admin_get("/api/explain?name=db-1.db.shop&format=text").text();
    assert!(said.contains(why) && said.contains("=> nothing: the name exists, but is empty"), "{said}");
    // The set grows.
    let pods = [("db-0", zero.addr()), ("db-1", one.addr())];
    weir.folder().replace("db.yaml", &set("shop", "db", HTTP, &pods));
    eventually("the new pod", || weir.get("http://db-1.db.shop/").status == 200);
    weir.get("http://db-0.db.shop/").expect_body("db-0");
    // A pod is made anew elsewhere: first it is gone.
    weir.folder().replace("db.yaml", &set("shop", "db", HTTP, &pods[1..]));
    eventually("its absence", || weir.get("http://db-0.db.shop/").status == 503);
    weir.folder().replace("db.yaml", &set("shop", "db", HTTP, &[("db-0", moved.addr()), pods[1]]));
    eventually("its return", || weir.get("http://db-0.db.shop/").text() == "moved");
    weir.get("http://db-1.db.shop/").expect_body("db-1");
    // Or at once.
    weir.folder().replace("db.yaml", &set("shop", "db", HTTP, &pods));
    eventually("its move", || weir.get("http://db-0.db.shop/").text() == "db-0");
}

#[test]
fn the_name_of_a_pod_that_is_not_there_is_never_asked_of_dns_outside() {
    if !is_root() {
        return;
    }
    let mut net = Net::new();
    let [foreign, pod] = ["foreign", "pod"].map(|name| net.pod(name));
    let _backends =
        [&foreign, &pod].map(|it| Backend::http().answers(it.name()).inside(it).on(it.at(80)).start());
    let dns = Dns::start(&net.weir_place(), [127, 0, 0, 1].into());
    dns.says_of_others(Said::Addresses(vec![foreign.v4()], 60));
    let plain = "apiVersion: v1\nkind: Service\nmetadata: { name: api, namespace: dev }\nspec: { clusterIP: 10.96.0.1, ports: [{ name: http, port: 80 }] }\n";
    let weir = Weir::new()
        .beside(&net)
        .set("names", &dns.setting())
        .file("db.yaml", &set("shop", "db", HTTP, &[("db-0", pod.at(80))]))
        .file("app.yaml", &set("default", "app", HTTP, &[]))
        .file("plain.yaml", plain)
        .start();
    weir.get("http://db-0.db.shop/").expect_body("pod");
    for (name, status) in [
        ("db-1.db.shop", 503),
        ("db-1.db.shop.svc.cluster.local", 503),
        ("web-0.app", 503),
        ("web-0.app.default", 503),
        ("api.dev:9999", 502),
        ("db.shop:9999", 502),
    ] {
        let answer = weir.get(&format!("http://{name}/"));
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
    assert_eq!(dns.asked(), [], "all of these are the cluster's own");
    // A Service that gives its endpoints no names leaves those below its own to DNS.
    weir.get("http://www.api.dev/").expect_body("foreign");
    weir.get("http://x.web-0.app/").expect_body("foreign");
}
