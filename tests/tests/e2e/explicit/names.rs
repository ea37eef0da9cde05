//! Which spelling of a name reaches which service, and which port of it.

use e2e::{Backend, Request, Weir, folder};

#[test]
fn every_spelling_of_a_service_reaches_it() {
    let backend = Backend::http().answers("hello").start();
    let weir = Weir::serving("hello", &[backend.addr()]);
    let spellings = [
        "hello",
        "hello:80",
        "hello:",
        "HELLO",
        "HELLO.",
        "hello.default",
        "Hello.Default.svc",
        "hello.default.svc.cluster.local",
        "hello.default.svc.cluster.local.:80",
    ];
    for spelling in spellings {
        weir.get(&format!("http://{spelling}/")).expect_body("hello");
        weir.ask(&Request::get("/").with("Host", spelling)).expect_body("hello");
    }
    assert_eq!(backend.count(), 2 * spellings.len());
}

#[test]
fn another_namespace_is_another_service() {
    let (here, there) = (Backend::http().answers("default").start(), Backend::http().answers("shop").start());
    let kubernetes = |namespace: &str, backend: &Backend| {
        let endpoint = backend.addr();
        let service = folder::service("hello", &[]).namespace(namespace);
        service.port("http", 80, endpoint.port()).endpoints(&[endpoint.ip()])
    };
    let weir =
        Weir::new().kubernetes(&kubernetes("default", &here)).kubernetes(&kubernetes("shop", &there)).start();
    weir.get("http://hello/").expect_body("default");
    for spelling in ["hello.shop", "hello.shop.svc", "HELLO.shop.svc.cluster.local:80"] {
        weir.get(&format!("http://{spelling}/")).expect_body("shop");
    }
    weir.get("http://hello.nowhere/").expect_status(502);
}

#[test]
fn a_port_of_a_service_is_found_by_number_and_http_by_its_name() {
    let (web, admin) = (Backend::http().answers("web").start(), Backend::http().answers("admin").start());
    let service = folder::service("hello", &[])
        .port("admin", 9000, admin.addr().port())
        .port("http", 8080, web.addr().port())
        .endpoints(&[web.addr().ip()]);
    let weir = Weir::new().kubernetes(&service).start();
    weir.get("http://hello/").expect_body("web");
    weir.get("http://hello:8080/").expect_body("web");
    weir.get("http://hello:9000/").expect_body("admin");
    let unknown = weir.get("http://hello:81/");
    unknown.expect_status(502);
    assert!(unknown.l5d_err().contains("8080"), "it says which ports there are: {:?}", unknown.l5d_err());
}

#[test]
fn without_a_port_named_http_number_80_counts_and_else_the_only_one() {
    let (a, b) = (Backend::http().answers("a").start(), Backend::http().answers("b").start());
    let eighty = folder::service("eighty", &[])
        .port("one", 8080, b.addr().port())
        .port("two", 80, a.addr().port())
        .endpoints(&[a.addr().ip()]);
    let only = folder::service("only", &[]).port("odd", 7777, b.addr().port()).endpoints(&[b.addr().ip()]);
    let neither = folder::service("neither", &[])
        .port("one", 8080, a.addr().port())
        .port("two", 8081, b.addr().port())
        .endpoints(&[a.addr().ip()]);
    let weir = Weir::new().kubernetes(&eighty).kubernetes(&only).kubernetes(&neither).start();
    weir.get("http://eighty/").expect_body("a");
    weir.get("http://only/").expect_body("b");
    weir.get("http://neither/").expect_status(502);
    weir.get("http://neither:8081/").expect_body("b");
}

#[test]
fn a_file_in_linkerds_format_wins_over_a_kubernetes_service() {
    // The base dtab lists the weakest entry first; `/#/io.l5d.fs` is last.
    let (file, cluster) = (Backend::http().answers("file").start(), Backend::http().answers("k8s").start());
    let service = folder::service("hello", &[]);
    let service = service.port("http", 80, cluster.addr().port()).endpoints(&[cluster.addr().ip()]);
    let weir = Weir::new().kubernetes(&service).service("hello", &[file.addr()]).start();
    weir.get("http://hello/").expect_body("file");
    weir.folder().remove("hello");
    e2e::eventually("the Kubernetes service behind it", || weir.get("http://hello/").text() == "k8s");
}

#[test]
fn the_default_namespace_and_the_cluster_domain_are_settings() {
    let backend = Backend::http().answers("hello").start();
    let names = "{ namespace: shop, clusterDomain: kismatic.local }";
    let weir = Weir::new().set("names", names).service("hello", &[backend.addr()]).start();
    for spelling in ["hello", "hello.shop", "hello.shop.svc.kismatic.local"] {
        weir.get(&format!("http://{spelling}/")).expect_body("hello");
    }
    weir.get("http://hello.default/").expect_status(502);
}
