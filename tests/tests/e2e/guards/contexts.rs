//! `l5d-ctx-dtab` is what an application got from its caller: only from those that are named does it count.

use std::net::{IpAddr, Ipv4Addr};

use e2e::kube::ApiServer;
use e2e::raw::connect_as;
use e2e::{Backend, Client, Request, Response, Weir, eventually, folder};

/// Two services, and a weir that is asked for the first one with entries that lead to the second.
struct Two {
    weir: Weir,
    _backends: [Backend; 2],
    _server: Option<ApiServer>,
}

fn pod(namespace: &str) -> IpAddr {
    Ipv4Addr::new(127, 0, 8, if namespace == "shop" { 1 } else { 2 }).into()
}

impl Two {
    fn with(contexts: Option<&str>, on_kubernetes: bool) -> Self {
        let backends = ["own", "other"].map(|name| Backend::http().answers(name).start());
        let contexts = contexts.map(|it| format!(", contexts: {it}")).unwrap_or_default();
        let mut builder = Weir::new()
            .set("outgoing", &format!("{{ listen: 127.0.0.1:0{contexts} }}"))
            .service("hello", &[backends[0].addr()])
            .service("other", &[backends[1].addr()]);
        for namespace in ["shop", "dev"] {
            let object = folder::pod("app", namespace).namespace(namespace).at(pod(namespace));
            builder = builder.pod(&object);
        }
        let server = on_kubernetes.then(ApiServer::start);
        if let Some(server) = &server {
            server.kubeconfig(builder.folder().path());
            let discovery = "{ files: { path: ./services }, kubernetes: { kubeconfig: ./kubeconfig, node: node-1, jitter: 0s } }";
            builder = builder.set("discovery", discovery);
        }
        Self { weir: builder.start(), _backends: backends, _server: server }
    }

    fn ask(&self, namespace: &str, header: &str) -> Response {
        let stream = connect_as(pod(namespace), self.weir.outgoing()).unwrap();
        let request = Request::get("http://hello/").with(header, "/svc/hello => /svc/other");
        Client::over(stream).ask(&request)
    }

    fn ignored(&self) -> f64 {
        self.weir.metric("weir_listener_contexts_ignored_total", &[("listener", "outgoing")])
    }
}

#[test]
fn on_kubernetes_what_an_application_passes_on_redirects_none_of_its_calls() {
    let two = Two::with(None, true);
    for _ in 0..3 {
        two.ask("shop", "l5d-ctx-dtab").expect_body("own");
    }
    assert_eq!(two.ignored(), 3.0);
    // It goes no further, and entries of the request's own count.
    assert!(two._backends[0].requests().iter().all(|it| it.head.get("l5d-ctx-dtab").is_none()));
    two.ask("shop", "l5d-dtab").expect_body("other");
    assert_eq!(two.ignored(), 3.0);
}

#[test]
fn contexts_count_from_the_namespaces_and_addresses_that_are_named() {
    for (contexts, shop, dev) in [
        (None, "other", "other"),
        (Some("[]"), "own", "own"),
        (Some("[shop]"), "other", "own"),
        (Some("[127.0.8.2]"), "own", "other"),
        (Some("[dev, 127.0.8.0/31]"), "other", "other"),
    ] {
        let two = Two::with(contexts, false);
        // Which pods there are is told a moment after the start.
        eventually("what the pods of the two namespaces get", || {
            let got = ["shop", "dev"].map(|namespace| two.ask(namespace, "l5d-ctx-dtab").text());
            got == [shop, dev]
        });
    }
}
