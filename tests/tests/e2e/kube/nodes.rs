//! The addresses of the cluster's nodes, as an API server tells them.

use e2e::kube::{ApiServer, service};
use e2e::{Backend, Weir, eventually};
use serde_json::{Value, json};

use super::stage::following;

/// A Node with this address, and with much that nobody needs, as real ones have.
fn node(name: &str, address: &str) -> Value {
    let image =
        |it: usize| json!({ "names": [format!("registry.example/image-{it}")], "sizeBytes": 1 << 20 });
    json!({
        "kind": "Node",
        "metadata": { "name": name },
        "status": {
            "addresses": [
                { "type": "InternalIP", "address": address },
                { "type": "ExternalIP", "address": "203.0.113.7" },
                { "type": "Hostname", "address": name },
            ],
            "images": (0..50).map(image).collect::<Vec<_>>(),
        },
    })
}

/// The address of the node of this number. Nobody is there: who answers is the Service.
fn address(number: usize) -> String {
    format!("10.9.{}.{}", number / 200, number % 200 + 1)
}

/// A server with so many nodes and Service `web` at their port 30080, and a weir that follows it, up to `most` nodes.
fn stage(nodes: usize, most: usize) -> (Weir, ApiServer, Backend) {
    let backend = Backend::http().answers("web").start();
    let server = ApiServer::start();
    for number in 0..nodes {
        server.put(node(&format!("n{number}"), &address(number)));
    }
    let mut web = service("web", "10.96.0.10", &[("http", 80)]);
    web["spec"]["ports"][0]["nodePort"] = json!(30080);
    server.put(web);
    let written = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: here }}\nspec: {{ ports: [{{ port: 80, nodePort: 30090 }}] }}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{ name: here-1, labels: \
         {{ kubernetes.io/service-name: here }} }}\naddressType: IPv4\nports: [{{ port: {} }}]\n\
         endpoints: [{{ addresses: [127.0.0.1] }}]\n",
        backend.addr().port()
    );
    let kubernetes = format!(
        "{{ kubeconfig: ./kubeconfig, node: node-1, jitter: 0s, readTimeout: 1s, silence: 2500ms, nodes: {most} }}"
    );
    let discovery = format!("{{ kubernetes: {kubernetes}, files: {{ path: ./services }} }}");
    let weir = following(&server).set("discovery", &discovery).file("here.yaml", &written).start();
    eventually("the services", || weir.metric("weir_catalog_services", &[]) == 2.0);
    (weir, server, backend)
}

fn known(weir: &Weir) -> f64 {
    weir.metric("weir_catalog_node_addresses", &[])
}

#[test]
fn nodes_of_the_cluster_come_and_go() {
    let (weir, server, _backend) = stage(3, 200);
    eventually("three nodes", || known(&weir) == 3.0);
    let get = |number| weir.get(&format!("http://{}:30090/", address(number)));
    for number in 0..3 {
        get(number).expect_body("web");
    }
    let explained =
        weir.admin_get(&format!("/api/explain?name=http://{}:30080/&format=text", address(1))).text();
    assert!(explained.contains("/svc/web"), "{explained}");

    server.put(node("n3", &address(3)));
    eventually("a fourth", || known(&weir) == 4.0);
    get(3).expect_body("web");

    server.delete("nodes", "", "n0");
    eventually("three again", || known(&weir) == 3.0);
    assert_ne!(get(0).status, 200);

    server.put(node("n1", &address(7)));
    eventually("another address", || get(7).status == 200);
    assert_ne!(get(1).status, 200);
}

#[test]
fn more_nodes_than_the_settings_let_it_follow_are_none() {
    let (weir, server, _backend) = stage(130, 100);
    let too_many = [("resource", "all-nodes"), ("kind", "too_many")];
    eventually("a count of them", || weir.metric("weir_kubernetes_failures_total", &too_many) == 1.0);
    assert_eq!((known(&weir), weir.admin_get("/ready").status), (0.0, 200));
    assert!(weir.log().contains("more than 100 (discovery.kubernetes.nodes)"), "{}", weir.log());
    // The first page, of one, says how many there are.
    let whole =
        server.seen().into_iter().filter(|it| it.plural == "nodes" && !it.target.contains("fieldSelector"));
    assert_eq!(whole.map(|it| it.verb).collect::<Vec<_>>(), ["list"]);
}

#[test]
fn nodes_beyond_the_bound_that_come_later_are_left_out() {
    let (weir, server, _backend) = stage(3, 4);
    eventually("three nodes", || known(&weir) == 3.0);
    for number in 3..6 {
        server.put(node(&format!("n{number}"), &address(number)));
    }
    eventually("a fourth", || known(&weir) == 4.0);
    let problems = || weir.metric("weir_kubernetes_problems", &[]);
    eventually("a word on the others", || problems() == 2.0);
    server.delete("nodes", "", "n0");
    server.put(node("n5", &address(5)));
    eventually("room for one of them", || known(&weir) == 4.0 && problems() == 1.0);
}

#[test]
fn many_nodes_are_read_in_pages_and_none_at_all_where_that_is_off() {
    let (weir, server, _backend) = stage(130, 200);
    eventually("all nodes", || known(&weir) == 130.0);
    let pages: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|it| it.plural == "nodes" && it.verb == "list" && !it.target.contains("fieldSelector"))
        .map(|it| it.target)
        .collect();
    assert!(pages[0].contains("limit=1") && pages.len() == 4, "{pages:?}");
    assert!(pages[1..].iter().all(|it| it.contains("limit=50")), "{pages:?}");

    let (weir, server, _backend) = stage(3, 0);
    let asked =
        server.seen().into_iter().filter(|it| it.plural == "nodes" && !it.target.contains("fieldSelector"));
    assert_eq!((asked.count(), known(&weir)), (0, 0.0));
}
