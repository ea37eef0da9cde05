//! Names that were written as the cluster's are never asked of DNS outside it, whoever asks and however they are spelled.
//!
//! DNS here knows every name there is, at the address of a foreign server.

use e2e::kube::ApiServer;
use e2e::net::is_root;
use e2e::weir::Builder;
use e2e::{Backend, Dns, Net, Place, Request, Said, Weir};

/// The foreign server's address, which is no private one (RFC 5737).
const FOREIGN: &str = "203.0.113.7";

/// A node whose DNS says that every name is at the foreign server.
struct Scene {
    weir: Weir,
    dns: Dns,
    foreign: [Backend; 2],
    net: Net,
}

/// With a weir of these settings.
fn scene(settings: impl FnOnce(Builder, &Net, &Dns) -> Builder) -> Option<Scene> {
    is_root().then(|| {
        let mut net = Net::new();
        let pod = net.pod("foreign");
        pod.ip(&format!("addr add {FOREIGN}/32 dev lo\n"));
        net.node().ip(&format!("route add {FOREIGN} via {}\n", pod.v4()));
        let foreign = [80, 8080].map(|port| {
            let address = format!("{FOREIGN}:{port}").parse().unwrap();
            Backend::http().answers("foreign").inside(&pod).on(address).start()
        });
        let dns = Dns::start(&net.weir_place(), [127, 0, 0, 1].into());
        dns.says_of_others(Said::addresses(&[FOREIGN], 60));
        let weir = Weir::new().beside(&net).set("names", &dns.setting()).set_in(
            "outgoing",
            "connectPorts",
            "1-65535",
        );
        let weir = settings(weir, &net, &dns).start();
        Scene { weir, dns, foreign, net }
    })
}

impl Scene {
    /// Connections that the foreign server has got.
    fn seen(&self) -> usize {
        self.foreign.iter().map(Backend::connections).sum()
    }

    /// What of these requests got to the foreign server, and which names outside the cluster DNS was asked for.
    fn leaks(&self, requests: &[(String, Request)]) -> Vec<String> {
        let mut leaks = Vec::new();
        for (what, request) in requests {
            let (before, asked) = (self.seen(), self.dns.asked().len());
            let answer = self.weir.ask(request);
            if answer.status < 500 || self.seen() > before {
                leaks.push(format!("{what}: {:?} {}", answer.head.start, answer.text()));
            }
            let own = |name: &str| name == "cluster.local" || name.ends_with(".cluster.local");
            let names = self.dns.asked().split_off(asked);
            leaks.extend(names.iter().filter(|it| !own(&it.name)).map(|it| format!("{what}: {it:?}")));
        }
        leaks
    }

    /// All of these requests get to the foreign server.
    fn reached(&self, requests: &[(String, Request)]) {
        for (what, request) in requests {
            let answer = self.weir.ask(request);
            let is_foreign = request.method() == "CONNECT" || answer.text() == "foreign";
            assert!(answer.status == 200 && is_foreign, "{what}: {:?} {}", answer.head.start, answer.text());
        }
    }
}

/// Each way to ask for `host`.
fn each_way(host: &str) -> Vec<(String, Request)> {
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    [
        Request::get(&format!("http://{host}/")),
        Request::get("/").with("Host", host),
        Request::new("CONNECT", &with_port).with("Host", &with_port),
    ]
    .map(|request| (format!("{} {host}", request.method()), request))
    .into()
}

/// A request for `host` that brings these entries.
fn with_dtab(host: &str, dtab: &str) -> (String, Request) {
    let request = Request::get(&format!("http://{host}/")).with("l5d-dtab", dtab);
    (format!("{host} by {dtab}"), request)
}

/// Hosts that were written as the cluster's. `dev`, `app`, `shop` and `zip` are top-level domains.
const HOSTS: [&str; 23] = [
    "api.dev.svc.cluster.local",
    "api.dev.svc.cluster.local.",
    "api.dev.svc.cluster.local:80",
    "api.dev.svc.cluster.local:8080",
    "API.Dev.SVC.Cluster.Local",
    "rude.shop.svc.cluster.local.:8080",
    "api.dev.svc",
    "api.dev.svc.",
    "API.DEV.SVC",
    "api.dev.svc:8080",
    "api.default.svc.cluster.local",
    "api.default.svc",
    "dev.svc.cluster.local",
    "dev.svc",
    "set-0.set.zip.svc.cluster.local",
    "set-0.set.app.svc:8080",
    "web-0.app.default.svc.cluster.local",
    "web-0.app.default.svc",
    "api.dev.svc.svc.cluster.local",
    "_http._tcp.api.dev.svc.cluster.local",
    "svc.cluster.local",
    "api.dev.cluster.local",
    "10-0-0-1.dev.pod.cluster.local",
];

/// Entries by which a request leads such a host elsewhere, or names one.
fn by_entries() -> Vec<(String, Request)> {
    let api = "api.dev.svc.cluster.local";
    [
        (api, "/svc => /$/weir.dns"),
        (api, "/svc => /$/io.buoyant.rinet/80"),
        (api, "/svc => /ph/80 ; /svc => /$/io.buoyant.porthostPfx/ph ; /ph => /$/io.buoyant.rinet"),
        ("api.dev.svc:8080", "/svc => /$/io.buoyant.hostportPfx/ip ; /ip => /$/inet"),
        ("api.dev.svc:8080", "/svc => /$/io.buoyant.porthostPfx/ph ; /ph => /$/io.buoyant.rinet"),
        ("x", "/svc/x => /svc/api.dev.svc.cluster.local"),
        ("x", "/svc/x => /svc/API.Dev.svc."),
        ("x", "/svc/x => /$/weir.dns/api.dev.svc.cluster.local:8080"),
        ("x", "/svc/x => /$/weir.dns/api.dev.svc"),
        ("x", "/svc/x => /$/inet/api.dev.svc.cluster.local/80"),
        ("x", "/svc/x => /$/inet/API.dev.svc./8080"),
        ("x", "/svc/x => /$/inet/dev.svc/80 | /$/inet/api.default.svc/80"),
        ("x", "/svc/x => /$/io.buoyant.rinet/80/api.dev.svc"),
        ("x", "/svc/x => /$/io.buoyant.http.subdomainOfPfx/svc.cluster.local/a/api.dev.svc.cluster.local ; /a => /$/io.buoyant.rinet/80"),
        ("x", "/svc/x => /#/cut/api.dev.svc.cluster.local"),
        ("alias", ""),
        ("short-alias", ""),
        ("loud-alias", ""),
    ]
    .map(|(host, dtab)| with_dtab(host, dtab))
    .into()
}

/// Requests for hosts outside, each of which DNS is asked for.
fn outside() -> Vec<(String, Request)> {
    let mut requests: Vec<_> = ["www.example.com", "a.b.example.com:8080", "www.svc.example.com"]
        .iter()
        .flat_map(|host| each_way(host))
        .collect();
    requests.push(with_dtab("x", "/svc/x => /$/inet/www.example.org/80"));
    requests.push(with_dtab("api.dev.svc.cluster.local", "/svc/api.dev => /$/inet/www.example.net/8080"));
    requests.push(with_dtab("away", ""));
    requests
}

/// Services that are only other names, and a namer that cuts the cluster's suffix by itself.
fn services(builder: Builder) -> Builder {
    let external = |name: &str, of: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\nspec: {{ type: ExternalName, externalName: {of} }}\n"
        )
    };
    builder
        .file("alias.yaml", &external("alias", "api.dev.svc.cluster.local"))
        .file("short.yaml", &external("short-alias", "api.dev.svc"))
        .file("loud.yaml", &external("loud-alias", "API.Dev.Svc.Cluster.Local."))
        .file("away.yaml", &external("away", "www.example.edu"))
        .set("namers", "[{ kind: io.l5d.rewrite, prefix: /cut, pattern: \"/{name}.{ns}.svc.cluster.local\", name: \"/$/inet/{name}.{ns}/80\" }]")
}

#[test]
fn a_name_that_was_written_as_the_clusters_is_never_asked_of_dns_outside() {
    let Some(scene) = scene(|builder, _, _| services(builder)) else { return };
    let mut requests: Vec<_> = HOSTS.iter().flat_map(|host| each_way(host)).collect();
    requests.extend(by_entries());
    let leaks = scene.leaks(&requests);
    assert!(leaks.is_empty(), "{} of {}:\n{}", leaks.len(), requests.len(), leaks.join("\n"));
    assert_eq!(scene.seen(), 0);
    let mut requests = outside();
    requests.extend(["example.com", "api.dev", "rude.shop:8080"].iter().flat_map(|host| each_way(host)));
    scene.reached(&requests);
}

/// Of an API server that is away, so that nobody knows the Services.
fn away(builder: Builder, net: &Net, _: &Dns) -> Builder {
    let server = ApiServer::start_in(Place::from(&net.node()));
    server.kubeconfig(builder.folder().path());
    let both = "{ files: { path: ./services }, kubernetes: { kubeconfig: ./kubeconfig, jitter: 0s } }";
    services(builder).set("discovery", both)
}

#[test]
fn while_services_are_not_known_a_name_that_may_be_a_service_is_asked_for_below_the_clusters_domain() {
    let Some(scene) = scene(away) else { return };
    let mut requests: Vec<_> = HOSTS.iter().flat_map(|host| each_way(host)).collect();
    requests.extend(by_entries());
    let short = ["rude.shop", "api.dev:8080", "API.Dev.", "web-0.app", "example.com", "hello", "api.default"];
    requests.extend(short.iter().flat_map(|host| each_way(host)));
    let imported = "/svc => /ph/80 ; /svc => /$/io.buoyant.porthostPfx/ph ; /ph => /$/io.buoyant.rinet";
    requests.extend(["rude.shop", "api.dev:8080"].map(|host| with_dtab(host, imported)));
    requests.push(with_dtab("x", "/svc/x => /$/inet/rude.shop/80"));
    let leaks = scene.leaks(&requests);
    assert!(leaks.is_empty(), "{} of {}:\n{}", leaks.len(), requests.len(), leaks.join("\n"));
    assert_eq!(scene.seen(), 0);
    assert!(scene.weir.metric("weir_dns_foreign_addresses_total", &[]) > 0.0);
    scene.reached(&outside());
}

#[test]
fn only_a_denial_lets_a_name_that_may_be_a_service_go_outside() {
    let Some(mut scene) = scene(away) else { return };
    let inside = scene.net.pod("inside");
    let _own = Backend::http().answers("inside").inside(&inside).on(inside.at(80)).start();
    for (name, said, status) in [
        ("denied.shop", Said::NoSuchName(60), 200),
        ("failing.shop", Said::Failure, 503),
        ("silent.shop", Said::Silence, 503),
        ("foreign.shop", Said::addresses(&[FOREIGN], 60), 503),
        ("empty.shop", Said::Addresses(Vec::new(), 60), 503),
        ("own.shop", Said::Addresses(vec![inside.v4()], 60), 200),
        ("mixed.shop", Said::addresses(&[FOREIGN, &inside.v4().to_string()], 60), 200),
    ] {
        scene.dns.says(&format!("{name}.svc.cluster.local"), said);
        scene.dns.says(&format!("{name}.default.svc.cluster.local"), Said::NoSuchName(60));
        let answer = scene.weir.get(&format!("http://{name}/"));
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        let outside = name == "denied.shop";
        assert_eq!(scene.dns.questions(name) > 0, outside, "{name} is asked for outside");
        if status == 200 {
            assert_eq!(answer.text(), if outside { "foreign" } else { "inside" }, "{name}");
        }
    }
}

#[test]
fn an_imported_configuration_asks_below_the_clusters_domain_too() {
    let linkerd = "\
namers: []
routers:
- protocol: http
  servers: [{ port: 4140, ip: 127.0.0.1 }]
  dtab: |
    /ph  => /$/io.buoyant.rinet ;
    /svc => /ph/80 ;
    /svc => /$/io.buoyant.porthostPfx/ph ;
    /svc => /$/weir.dns ;
";
    let Some(scene) = scene(|builder, _, dns| {
        builder.folder().replace("linkerd", linkerd);
        let path = builder.folder().path().join("services/linkerd");
        let imported = builder.run(&["import", path.to_str().unwrap()]);
        assert_eq!(imported.code, Some(0), "{}", imported.stderr);
        let text = imported.stdout.replace("127.0.0.1:4140", "127.0.0.1:0");
        let text = text.replace("127.0.0.1:9990", "127.0.0.1:0");
        // linkerd has no CONNECT; here it is one of the ways to ask.
        let text = text.replacen("outgoing:\n", "outgoing:\n  connectPorts: 1-65535\n", 1);
        assert!(text.contains("connectPorts"), "{text}");
        builder.config(&format!("{text}\nnames: {}\n", dns.setting()))
    }) else {
        return;
    };
    let requests: Vec<_> = HOSTS.iter().flat_map(|host| each_way(host)).collect();
    let leaks = scene.leaks(&requests);
    assert!(leaks.is_empty(), "{} of {}:\n{}", leaks.len(), requests.len(), leaks.join("\n"));
    scene.reached(&each_way("www.example.com"));
}

#[test]
fn another_clusters_domain_and_another_namespace_are_kept_as_well() {
    let Some(scene) = scene(|builder, _, _| {
        builder.set_in("names", "namespace", "shop").set_in("names", "clusterDomain", "k8s.example.com")
    }) else {
        return;
    };
    for host in [
        "api.dev.svc.k8s.example.com",
        "rude.shop.svc.k8s.example.com",
        "web-0.app.shop.svc",
        "rude.shop.svc",
        "api.dev.svc.",
    ] {
        let (asked, seen) = (scene.dns.asked().len(), scene.seen());
        let answer = scene.weir.get(&format!("http://{host}/"));
        assert_eq!((answer.status, scene.seen()), (502, seen), "{host}: {}", answer.text());
        assert_eq!(scene.dns.asked().len(), asked, "{host}");
    }
    scene.reached(&each_way("www.example.com"));
}

#[test]
fn an_explanation_says_what_dns_is_asked_and_what_it_is_not() {
    let weir = Weir::new().start();
    let explained = |name: &str| {
        let answer = weir.admin_get(&format!("/api/explain?name={name}&format=text"));
        answer.expect_status(200);
        answer.text()
    };
    for name in [
        "http://api.dev.svc.cluster.local/",
        "api.dev.svc",
        "/svc/api.dev.svc",
        "/svc/API.dev.svc.cluster.local.",
    ] {
        let said = explained(name);
        assert!(said.contains("with .svc, so DNS outside it is not asked"), "{name}: {said}");
        assert!(said.contains("=> nothing: no such name (neg)"), "{name}: {said}");
    }
    assert!(explained("api.dev").contains("=> /$/weir.dns/api.dev"));
    let said = explained("/$/inet/api.dev.svc/80");
    assert!(said.contains("DNS is asked for api.dev.svc.cluster.local\n"), "{said}");
}
