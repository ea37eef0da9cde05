//! kubectl installs weir and takes it away again, on an API server's double; and weir asks such a server for nothing that its
//! ClusterRole does not permit.

use std::collections::BTreeSet;
use std::process::Command;

use e2e::https::Https;
use e2e::kube::{ApiServer, service};
use e2e::{Request, Weir, eventually, python};
use serde_json::Value;

use crate::objects::{deploy, find, kustomizations, kustomize, list, name};

/// What the manifests are made of, by their plural names.
const RESOURCES: [&str; 16] = [
    "customresourcedefinitions",
    "namespaces",
    "serviceaccounts",
    "secrets",
    "clusterroles",
    "clusterrolebindings",
    "roles",
    "rolebindings",
    "configmaps",
    "services",
    "daemonsets",
    "deployments",
    "resourcequotas",
    "networkpolicies",
    "podmonitors",
    "servicemonitors",
];

/// What kubectl prints; an error is what it says when it fails.
fn try_kubectl(server: &ApiServer, arguments: &[&str]) -> Result<String, String> {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(python::kubectl());
    command.env("HOME", home.path()).env("KUBECONFIG", server.kubeconfig(home.path())).args(arguments);
    let output = command.output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn kubectl(server: &ApiServer, arguments: &[&str]) -> String {
    try_kubectl(server, arguments).unwrap_or_else(|said| panic!("{arguments:?}: {said}"))
}

fn names(server: &ApiServer) -> BTreeSet<String> {
    let of =
        |plural: &str| server.objects(plural).into_iter().map(|object| object["metadata"]["name"].clone());
    RESOURCES
        .iter()
        .flat_map(|plural| of(plural).map(move |name| format!("{plural}/{}", name.as_str().unwrap())))
        .collect()
}

#[test]
fn one_command_installs_and_one_takes_it_away_without_a_trace() {
    let server = ApiServer::start();
    let before = names(&server);
    let weir = deploy("kubernetes");
    let weir = weir.to_str().unwrap();
    kubectl(&server, &["apply", "--validate=false", "-k", weir]);
    // The double keeps objects by their resource: `daemonsets/weir`.
    let resource = |object| name(object).to_lowercase().replace('/', "s/");
    let expected: BTreeSet<_> = kustomize(".").iter().map(resource).chain(before.clone()).collect();
    assert_eq!(names(&server), expected);
    let again = kubectl(&server, &["apply", "--validate=false", "-k", weir]);
    assert!(
        again.lines().all(|line| line.ends_with("unchanged")),
        "not the same when applied again:\n{again}"
    );
    kubectl(&server, &["delete", "-k", weir, "--wait=false"]);
    assert_eq!(names(&server), before);
}

/// The operator's kustomization says by its name what it needs; every other is for every cluster.
#[test]
fn every_kustomization_installs_on_a_cluster_without_custom_resources_except_the_operators() {
    for folder in kustomizations() {
        let server = ApiServer::start();
        let before = names(&server);
        let path = deploy("kubernetes").join(&folder);
        let apply = ["apply", "--validate=false", "-k", path.to_str().unwrap()];
        if folder.contains("prometheus-operator") {
            let said = try_kubectl(&server, &apply).unwrap_err();
            assert!(said.contains("ensure CRDs are installed first"), "{said}");
            let added = names(&server).difference(&before).count();
            assert_eq!(added, kustomize(&folder).len() - 2, "everything but the monitors is installed");
            server.define_monitors();
        }
        kubectl(&server, &apply);
        let added = names(&server).difference(&before).count();
        assert_eq!(added, kustomize(&folder).len(), "{folder}");
        kubectl(&server, &["delete", "-k", path.to_str().unwrap(), "--wait=false"]);
        assert_eq!(names(&server), before, "{folder}");
    }
}

#[test]
fn weir_asks_the_api_server_for_what_its_role_permits_and_for_all_of_it() {
    let server = ApiServer::start();
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    let home = tempfile::tempdir().unwrap();
    let kubeconfig = server.kubeconfig(home.path());
    let discovery =
        format!("{{ kubernetes: {{ kubeconfig: {}, node: node-1, jitter: 0s }} }}", kubeconfig.display());
    let weir = Weir::new().set("discovery", &discovery).start();
    eventually("weir to be ready", || weir.admin_get("/ready").status == 200);
    server.knows_token("token", "somebody");
    let scrape = Request::get("/metrics").with("Authorization", "Bearer token").with("Connection", "close");
    let stream = std::net::TcpStream::connect(weir.probes()).unwrap();
    Https::trusting_anybody().ask(stream, "localhost", &scrape).unwrap().expect_status(403);
    let asked = || -> BTreeSet<(String, String)> {
        server.seen().iter().map(|seen| (seen.verb.to_owned(), seen.plural.to_owned())).collect()
    };
    let permitted = permitted();
    eventually("everything to be watched", || permitted.is_subset(&asked()));
    assert_eq!(asked(), permitted);
}

/// What the ClusterRole permits: verbs and resources.
fn permitted() -> BTreeSet<(String, String)> {
    let objects = kustomize(".");
    let words = |rule: &Value, key: &str| -> Vec<String> {
        list(rule, key).iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut permitted = BTreeSet::new();
    for rule in list(find(&objects, "ClusterRole", "weir"), "/rules") {
        for resource in words(rule, "/resources") {
            permitted.extend(words(rule, "/verbs").into_iter().map(|verb| (verb, resource.clone())));
        }
    }
    permitted
}
