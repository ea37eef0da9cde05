//! kubectl, which knows nothing of weir, gets along with the API server's double.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use e2e::eventually;
use e2e::kube::{ApiServer, service};
use e2e::python;
use test_support::process::Running;

pub(super) struct Kubectl<'a> {
    server: &'a ApiServer,
    pub(super) home: tempfile::TempDir,
}

impl<'a> Kubectl<'a> {
    pub(super) fn of(server: &'a ApiServer) -> Self {
        Self { server, home: tempfile::tempdir().unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(python::kubectl());
        command.env("HOME", self.home.path()).env("KUBECONFIG", self.server.kubeconfig(self.home.path()));
        command.args(arguments);
        command
    }

    #[track_caller]
    pub(super) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kubectl {arguments:?}: {out}{err}");
        out.into_owned()
    }
}

#[test]
fn kubectl_gets_applies_patches_and_deletes() {
    let server = ApiServer::start();
    let kubectl = Kubectl::of(&server);
    assert!(kubectl.run(&["version"]).contains("v1.36.2"));
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    let listed = kubectl.run(&["get", "services", "--all-namespaces", "-o", "name"]);
    assert_eq!(listed, "service/hello\n");
    let manifest = kubectl.home.path().join("world.json");
    let mut world = service("world", "10.96.0.11", &[("http", 80)]);
    world["apiVersion"] = "v1".into();
    std::fs::write(&manifest, world.to_string()).unwrap();
    let manifest = manifest.to_str().unwrap().to_owned();
    kubectl.run(&["apply", "--validate=false", "-f", &manifest]);
    assert_eq!(server.object("services", "default", "world").unwrap()["spec"]["clusterIP"], "10.96.0.11");
    kubectl.run(&["patch", "service", "world", "--type=merge", "-p", r#"{"metadata":{"labels":{"a":"b"}}}"#]);
    let labelled = kubectl.run(&["get", "services", "-l", "a=b", "-o", "jsonpath={.items[*].metadata.name}"]);
    assert_eq!(labelled, "world");
    world["spec"]["ports"][0]["targetPort"] = 8080.into();
    std::fs::write(&manifest, world.to_string()).unwrap();
    kubectl.run(&["apply", "--validate=false", "-f", &manifest]);
    let stored = server.object("services", "default", "world").unwrap();
    assert_eq!(stored["spec"]["ports"][0]["targetPort"], 8080);
    assert_eq!(stored["metadata"]["labels"]["a"], "b", "what another wrote stays");
    kubectl.run(&["delete", "service", "world"]);
    assert!(server.object("services", "default", "world").is_none());
    assert!(!kubectl.command(&["get", "service", "world"]).output().unwrap().status.success());
}

#[test]
fn kubectl_reads_pages() {
    let server = ApiServer::start();
    server.fill(25, 1);
    let kubectl = Kubectl::of(&server);
    let listed = kubectl.run(&["get", "endpointslices", "--chunk-size=10", "-o", "name"]);
    assert_eq!(listed.lines().count(), 25);
    assert_eq!(server.count("list", "endpointslices"), 3);
}

#[test]
fn kubectl_watches() {
    let server = ApiServer::start();
    let kubectl = Kubectl::of(&server);
    let mut watching =
        kubectl.command(&["get", "services", "--watch", "--output-watch-events", "-o", "json"]);
    let mut watching = Running::spawn("kubectl", watching.stdout(Stdio::piped())).unwrap();
    let lines = BufReader::new(watching.child().stdout.take().unwrap());
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || lines.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
    eventually("the watch", || server.count("watch", "services") > 0);
    server.put(service("hello", "10.96.0.10", &[("http", 80)]));
    server.delete("services", "default", "hello");
    let mut text = String::new();
    while !text.contains("\"DELETED\"") {
        text += &heard.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|e| panic!("{e}: {text}"));
    }
    assert!(text.contains("\"ADDED\"") && text.contains("\"hello\""), "{text}");
}
