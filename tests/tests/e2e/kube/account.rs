//! The way to the API server that a pod has: its service account, by TLS.

use std::path::Path;
use std::time::Duration;

use e2e::kube::{Act, ApiServer, Authority, service};
use e2e::time::within;
use e2e::weir::builder::Builder;
use e2e::{Weir, eventually};

/// A server that takes only this token, and its service `hello`.
fn server(authority: &Authority, token: &str) -> ApiServer {
    stocked(ApiServer::start_secured(authority), token)
}

fn stocked(server: ApiServer, token: &str) -> ApiServer {
    server.faults(|faults| faults.token = Some(token.to_owned()));
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    server.serve("hello", &["10.1.0.1:8080".parse().unwrap()]);
    server
}

/// A pod's weir: its configuration says nothing of where the server is.
fn in_a_pod(server: &ApiServer, account: &Path) -> Builder {
    Weir::new()
        .set("discovery", "{ kubernetes: { node: node-1, jitter: 0s, readTimeout: 1s, silence: 2500ms } }")
        .with_account(account)
        .env("KUBERNETES_SERVICE_HOST", &server.address().ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", &server.address().port().to_string())
}

/// A service account's folder.
pub(super) fn account(authority: &Authority, token: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("ca.crt", &authority.pem());
    write("token", token);
    write("namespace", "weir");
    folder
}

#[test]
fn a_pods_weir_asks_as_its_service_account_and_takes_up_a_new_token() {
    if !e2e::net::is_root() {
        return;
    }
    let authority = Authority::new();
    let (server, account) = (server(&authority, "first"), account(&authority, "first"));
    let weir = in_a_pod(&server, account.path()).start();
    eventually("readiness", || weir.admin_get("/ready").status == 200);
    assert!(weir.knows("10.1.0.1:8080".parse().unwrap()));
    server.faults(|faults| faults.token = Some("second".to_owned()));
    server.act(Act::End);
    let refused = [("resource", "services"), ("kind", "unauthorized")];
    eventually("the refusal", || weir.metric("weir_kubernetes_failures_total", &refused) > 0.0);
    std::fs::write(account.path().join("token"), "second").unwrap();
    server.put(service("world", "10.96.0.11", &[("http", 80)]));
    within(Duration::from_secs(10), "the change", || weir.metric("weir_catalog_services", &[]) == 2.0);
}

#[test]
fn a_server_of_an_ipv6_cluster_is_reached_and_believed() {
    if !e2e::net::is_root() {
        return;
    }
    let authority = Authority::new();
    let at = (std::net::Ipv6Addr::LOCALHOST, 0).into();
    let server = stocked(ApiServer::start_secured_at(&authority, at), "token");
    let account = account(&authority, "token");
    let weir = in_a_pod(&server, account.path()).start();
    eventually("readiness", || weir.admin_get("/ready").status == 200);
    assert!(weir.knows("10.1.0.1:8080".parse().unwrap()));
}

#[test]
fn a_server_of_another_authority_is_not_believed_and_weir_says_so() {
    if !e2e::net::is_root() {
        return;
    }
    let (server, account) = (server(&Authority::new(), "token"), account(&Authority::new(), "token"));
    let weir = in_a_pod(&server, account.path()).start();
    eventually("the reason", || {
        let ready = weir.admin_get("/ready");
        ready.status == 503 && ready.text().contains("certificate")
    });
    assert!(server.seen().is_empty(), "{} requests were sent", server.seen().len());
}
