//! The README's example on a pretend node: its containers run with the very arguments of the manifests, become ready by
//! their own probes, and the README's commands are typed as they are written.

use e2e::kube::ApiServer;
use e2e::net::NODE_V4;
use e2e::{Net, Place, Weir, eventually};
use serde_json::json;

use crate::kubelet::{self, Container, NODE};
use crate::objects::{deploy, find, kustomize};

const EXAMPLE: &str = "examples/hello-world";
const WORLD: &str = "10.96.0.11";

/// The commands `kubectl -n hello exec deploy/NAME -- COMMAND` in a text: the Deployment, and the words.
fn commands(text: &str) -> Vec<(String, Vec<String>)> {
    let after =
        |line: &str| line.split_once("kubectl -n hello exec deploy/").map(|(_, rest)| rest.to_owned());
    let split = |line: String| {
        let (deployment, command) =
            line.split('#').next()?.split_once(" -- ").map(|(a, b)| (a.to_owned(), b.to_owned()))?;
        Some((deployment, command.split_whitespace().map(str::to_owned).collect()))
    };
    text.lines().filter_map(after).filter_map(split).collect()
}

#[test]
fn the_example_becomes_ready_and_answers_every_command_that_is_written_of_it() {
    if !e2e::net::is_root() {
        return;
    }
    let objects = kustomize(EXAMPLE);
    let mut net = Net::new();
    let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let mut containers: Vec<_> =
        of_kind("Deployment").flat_map(|deployment| Container::start_all(&mut net, deployment)).collect();
    kubelet::all_ready(&mut containers);

    let server = ApiServer::start_in(Place::from(&net.node()));
    server.put(find(&objects, "Namespace", "hello").clone());
    for container in &containers {
        server.put(container.manifest("hello"));
    }
    for (service, address) in [("hello", "10.96.0.10"), ("world", WORLD)] {
        let service = find(&objects, "Service", service);
        kubelet::serve(&server, service, address.parse().unwrap(), &containers);
    }
    let builder = Weir::new().on_node(&net).env("POD_NAMESPACE", "weir");
    server.kubeconfig(builder.folder().path());
    let discovery = format!("{{ kubernetes: {{ kubeconfig: ./kubeconfig, node: {NODE}, jitter: 0s }} }}");
    let weir = builder.set("discovery", &discovery).start();
    eventually("a weir that is ready", || weir.admin_get("/ready").status == 200);
    let enrolled = || weir.metric("weir_enrolment_pods", &[("state", "enrolled")]);
    eventually("every pod to be diverted", || enrolled() == containers.len() as f64);

    let readme = std::fs::read_to_string(deploy("..").join("README.md")).unwrap();
    let comment = deploy("kubernetes").join(EXAMPLE).join("kustomization.yaml");
    let mut written = commands(&readme);
    assert_eq!(written.len(), 2, "the README's commands: {written:?}");
    written.extend(commands(&std::fs::read_to_string(comment).unwrap()));
    for (deployment, words) in &written {
        let client = containers.iter().find(|it| it.deployment == *deployment).expect("a Deployment");
        // What the cluster's DNS says; the pretend node has none.
        let (world, node) = (format!("world:80:{WORLD}"), format!("{NODE}:4140:{NODE_V4}"));
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.extend(["--resolve", &world, "--resolve", &node]);
        let before = weir.decisions("diverted");
        let said = client.exec(&words);
        assert!(said.lines().last().is_some_and(|line| line.starts_with("world-")), "{words:?}: {said}");
        if deployment == "diverted" {
            assert!(weir.decisions("diverted") > before, "it did not go through weir: {said}");
        } else {
            assert!(
                said.to_ascii_lowercase().contains("via: 1.1 weir"),
                "it did not go through weir: {said}"
            );
        }
    }
}

#[test]
fn a_container_that_is_never_ready_is_told_from_one_that_is() {
    if !e2e::net::is_root() {
        return;
    }
    let objects = kustomize(EXAMPLE);
    let mut deployment = find(&objects, "Deployment", "world").clone();
    deployment["spec"]["replicas"] = json!(1);
    let arguments = "/spec/template/spec/containers/0/args";
    let written = deployment.pointer(arguments).unwrap().as_array().unwrap().clone();
    for (extra, said) in [("--udp-port=-1", "/healthz says 412"), ("--no-such=1", "the container ended")] {
        let mut arguments_now = written.clone();
        arguments_now.push(json!(extra));
        *deployment.pointer_mut(arguments).unwrap() = json!(arguments_now);
        let mut net = Net::new();
        let mut container = Container::start_all(&mut net, &deployment).remove(0);
        eventually(said, || container.probe().is_err_and(|why| why.contains(said)));
    }
}
