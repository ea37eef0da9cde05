//! What kubelet and the controllers make of Deployments and Services, on a pretend node: processes with the containers' very
//! arguments and environment, probes as they are written, and EndpointSlices of the pods that are ready.

use std::net::IpAddr;
use std::process::{Child, Stdio};

use e2e::kube::{ApiServer, Endpoint, slice};
use e2e::net::NODE_V4;
use e2e::weir::binary;
use e2e::{Client, Net, Pod};
use serde_json::{Value, json};

use crate::manifests::{matches, port_of};
use crate::objects::list;

/// The name of the node.
pub(crate) const NODE: &str = "node-1";

/// A pod with one container, which runs agnhost's double.
pub(crate) struct Container {
    /// The Deployment it is of.
    pub(crate) deployment: String,
    name: String,
    uid: String,
    pod: Pod,
    template: Value,
    process: Child,
}

impl Container {
    /// Starts every replica of this Deployment.
    pub(crate) fn start_all(net: &mut Net, deployment: &Value) -> Vec<Self> {
        let replicas = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
        (0..replicas).map(|number| Self::start(net, deployment, number)).collect()
    }

    fn start(net: &mut Net, deployment: &Value, number: u64) -> Self {
        let template = deployment["spec"]["template"].clone();
        let of = deployment["metadata"]["name"].as_str().unwrap().to_owned();
        let (name, uid) = (format!("{of}-{number}"), uid(&format!("{of}-{number}")));
        let pod = net.pod(&format!("burstable/pod{uid}"));
        let container = &template["spec"]["containers"][0];
        let image = container["image"].as_str().unwrap();
        assert!(
            image.contains("/agnhost:") && container["command"].is_null(),
            "{name}: {image} has no double"
        );
        let mut process = pod.command(binary::helper());
        process.arg("agnhost").args(list(container, "/args").iter().map(|it| it.as_str().unwrap()));
        process.env_clear().envs(environment(container)).env("HOSTNAME", &name);
        let process = process.stdin(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        Self { deployment: of, name, uid, pod, template, process }
    }

    fn container(&self) -> &Value {
        &self.template["spec"]["containers"][0]
    }

    /// What the readiness probe says now; a container without one is ready while it runs.
    pub(crate) fn probe(&mut self) -> Result<(), String> {
        if let Some(status) = self.process.try_wait().unwrap() {
            return Err(format!("{}: the container ended: {status}", self.name));
        }
        let probe = &self.container()["readinessProbe"]["httpGet"];
        let Some(path) = probe["path"].as_str() else { return Ok(()) };
        let port = port_of(self.container(), &probe["port"]).expect("the probe's port");
        let at = self.pod.at(u16::try_from(port).unwrap());
        let stream = self.pod.connect(at).map_err(|error| format!("{}: {at}: {error}", self.name))?;
        match Client::over(stream).get(path).status {
            200..=399 => Ok(()), // kubelet's own bounds.
            status => Err(format!("{}: {path} says {status}", self.name)),
        }
    }

    /// Waits until it is ready, for as long as anything may take.
    #[track_caller]
    pub(crate) fn ready(&mut self) {
        let mut said = Ok(());
        let ready = e2e::time::holds_within(e2e::time::PATIENCE, || {
            said = self.probe();
            said.is_ok()
        });
        assert!(ready, "never ready: {said:?}");
    }

    /// What `kubectl exec` prints of this program and its arguments.
    #[track_caller]
    pub(crate) fn exec(&self, words: &[&str]) -> String {
        let mut command = self.pod.command(words[0]);
        command.args(&words[1..]).env_clear().envs(environment(self.container()));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let output = command.output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{words:?}: {}{}", output.status, said(&output.stderr));
        said(&output.stdout)
    }

    /// The pod as the API server has it.
    pub(crate) fn manifest(&self, namespace: &str) -> Value {
        let ip = self.pod.v4().to_string();
        let mut pod = self.template.clone();
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(self.name);
        pod["metadata"]["namespace"] = json!(namespace);
        pod["metadata"]["uid"] = json!(self.uid);
        pod["spec"]["nodeName"] = json!(NODE);
        pod["status"] = json!({ "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] });
        pod
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A container's environment, references and the downward API filled in.
fn environment(container: &Value) -> Vec<(String, String)> {
    let mut made: Vec<(String, String)> = Vec::new();
    for variable in list(container, "/env") {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("status.hostIP") => NODE_V4.to_owned(),
            Some("spec.nodeName") => NODE.to_owned(),
            Some(other) => panic!("no value for {other}"),
            None => {
                let expand = |text: String, (name, value): &(String, String)| {
                    text.replace(&format!("$({name})"), value)
                };
                made.iter().fold(variable["value"].as_str().unwrap().to_owned(), expand)
            }
        };
        made.push((variable["name"].as_str().unwrap().to_owned(), value));
    }
    made
}

/// Tells the server of a Service with this ClusterIP and of its endpoints, the pods among `containers` that it selects.
#[track_caller]
pub(crate) fn serve(server: &ApiServer, service: &Value, cluster_ip: IpAddr, containers: &[Container]) {
    let mut service = service.clone();
    service["spec"]["clusterIP"] = json!(cluster_ip);
    service["spec"]["clusterIPs"] = json!([cluster_ip]);
    let (name, namespace) = (&service["metadata"]["name"], service["metadata"]["namespace"].clone());
    let name = name.as_str().unwrap().to_owned();
    let selected: Vec<_> =
        containers.iter().filter(|it| matches(&service["spec"]["selector"], &it.template)).collect();
    for port in list(&service, "/spec/ports") {
        let number = port_of(selected[0].container(), &port["targetPort"]).unwrap();
        let endpoints: Vec<_> = selected.iter().map(|it| Endpoint::ready(it.pod.v4())).collect();
        let port = (port["name"].as_str().unwrap(), u16::try_from(number).unwrap());
        let mut slice = slice(&format!("{name}-{}", port.0), &name, port, &endpoints);
        slice["metadata"]["namespace"] = namespace.clone();
        server.put(slice);
    }
    server.put(service);
}

/// Waits until every container is ready by its own probe.
#[track_caller]
pub(crate) fn all_ready(containers: &mut [Container]) {
    for container in containers {
        container.ready();
    }
}

/// A uid made of a name.
fn uid(name: &str) -> String {
    let number = name.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("00000000-0000-4000-8000-{:012x}", number % (1 << 48))
}
