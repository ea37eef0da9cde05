//! A weir's folder: its configuration, and services in both formats.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// A temporary folder, removed when dropped.
pub struct Folder(tempfile::TempDir);

/// A Kubernetes Service with its EndpointSlices, as a cluster would serve them.
#[derive(Clone)]
pub struct Service {
    name: String,
    namespace: String,
    addresses: Vec<String>,
    ports: Vec<Port>,
    endpoints: Vec<IpAddr>,
    annotations: Vec<(String, String)>,
}

/// A Kubernetes Pod of this node.
#[derive(Clone)]
pub struct Pod {
    name: String,
    namespace: String,
    uid: String,
    spec: String,
    annotations: Vec<(String, String)>,
    addresses: Vec<IpAddr>,
}

#[derive(Clone)]
struct Port {
    name: String,
    number: u16,
    target: u16,
    protocol: Option<String>,
}

impl Folder {
    #[expect(clippy::new_without_default, reason = "making a folder is no default value")]
    /// Makes it, with an empty folder of services.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("weir-e2e-").tempdir().unwrap();
        fs::create_dir(folder.path().join("services")).unwrap();
        Self(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes the configuration.
    pub fn config(&self, text: &str) -> PathBuf {
        let path = self.path().join("weir.yaml");
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a file of the services folder in place, as an editor or `echo >>` does.
    pub fn file(&self, name: &str, text: &str) {
        fs::write(self.path().join("services").join(name), text).unwrap();
    }

    /// Writes a file beside it and moves it over, as careful programs do.
    pub fn replace(&self, name: &str, text: &str) {
        let path = self.path().join(format!(".{name}.new"));
        fs::write(&path, text).unwrap();
        fs::rename(path, self.path().join("services").join(name)).unwrap();
    }

    /// Appends to a file of the services folder.
    pub fn append(&self, name: &str, text: &str) {
        use std::io::Write as _;
        let path = self.path().join("services").join(name);
        fs::File::options().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Removes a file of the services folder.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path().join("services").join(name)).unwrap();
    }

    /// Writes a service in linkerd's file format.
    pub fn service(&self, name: &str, endpoints: &[SocketAddr]) {
        let lines = endpoints.iter().fold(String::new(), |text, e| text + &line(*e));
        self.file(name, &lines);
    }

    /// Writes a pod.
    pub fn pod(&self, pod: &Pod) {
        self.replace(&format!("{}.{}.pod.yaml", pod.name, pod.namespace), &pod.yaml());
    }

    /// Writes a service as Kubernetes objects.
    pub fn kubernetes(&self, service: &Service) {
        self.replace(&format!("{}.{}.yaml", service.name, service.namespace), &service.yaml());
    }
}

/// One line of linkerd's file format.
pub fn line(endpoint: SocketAddr) -> String {
    format!("{} {}\n", endpoint.ip(), endpoint.port())
}

/// A Kubernetes Service in the default namespace without ports or endpoints.
pub fn service(name: &str, addresses: &[&str]) -> Service {
    Service {
        name: name.into(),
        namespace: "default".into(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ports: Vec::new(),
        endpoints: Vec::new(),
        annotations: Vec::new(),
    }
}

/// A Kubernetes Pod in the default namespace.
pub fn pod(name: &str, uid: &str) -> Pod {
    Pod {
        name: name.into(),
        namespace: "default".into(),
        uid: uid.into(),
        spec: String::new(),
        annotations: Vec::new(),
        addresses: Vec::new(),
    }
}

/// A Kubernetes Namespace with an annotation.
pub fn namespace(name: &str, key: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  annotations: {{ {key}: \"{value}\" }}\n"
    )
}

impl Pod {
    /// Puts it into this namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Adds an annotation.
    pub fn annotate(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.into(), value.into()));
        self
    }

    /// Gives it an address.
    pub fn at(mut self, address: IpAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// Adds to its specification: `hostNetwork: true`.
    pub fn spec(mut self, yaml: &str) -> Self {
        self.spec = yaml.into();
        self
    }

    /// The object, as YAML.
    pub fn yaml(&self) -> String {
        let Self { name, namespace, uid, spec, annotations, addresses } = self;
        let addresses: Vec<String> = addresses.iter().map(|ip| format!("{{ ip: \"{ip}\" }}")).collect();
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  uid: {uid}\n  \
             annotations: {{{}}}\nspec: {{ {spec} }}\nstatus: {{ phase: Running, podIPs: [{}] }}\n",
            flow(annotations),
            addresses.join(", ")
        )
    }
}

/// Pairs as they stand between the braces of a YAML mapping.
fn flow(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!(" {key}: \"{value}\" ")).collect();
    pairs.join(",")
}

impl Service {
    /// Puts it into this namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Adds a port: what applications dial, and what endpoints listen on.
    pub fn port(mut self, name: &str, number: u16, target: u16) -> Self {
        self.ports.push(Port { name: name.into(), number, target, protocol: None });
        self
    }

    /// Sets the appProtocol of the port added last.
    pub fn app_protocol(mut self, protocol: &str) -> Self {
        self.ports.last_mut().expect("a port").protocol = Some(protocol.into());
        self
    }

    /// Adds an annotation.
    pub fn annotate(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.into(), value.into()));
        self
    }

    /// Adds endpoints.
    pub fn endpoints(mut self, endpoints: &[IpAddr]) -> Self {
        self.endpoints.extend(endpoints);
        self
    }

    /// The objects, one YAML document each: the Service and a slice per address family.
    pub fn yaml(&self) -> String {
        let Self { name, namespace, .. } = self;
        let meta = format!("  name: {name}\n  namespace: {namespace}\n");
        let first = self.addresses.first().map_or("None", String::as_str);
        let mut yaml = format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n{meta}  annotations: {{{}}}\nspec:\n  clusterIP: \"{first}\"\n",
            flow(&self.annotations)
        );
        if !self.addresses.is_empty() {
            let _ = writeln!(yaml, "  clusterIPs: {:?}", self.addresses);
        }
        yaml += "  ports:\n";
        for port in &self.ports {
            let Port { name, number, target, .. } = port;
            let _ = writeln!(
                yaml,
                "  - {{ name: {name}, port: {number}, targetPort: {target}, protocol: TCP{} }}",
                port.app()
            );
        }
        for (family, v6) in [("IPv4", false), ("IPv6", true)] {
            let endpoints: Vec<_> = self.endpoints.iter().filter(|e| e.is_ipv6() == v6).collect();
            if !endpoints.is_empty() {
                yaml += &self.slice(family, &endpoints);
            }
        }
        yaml
    }

    fn slice(&self, family: &str, endpoints: &[&IpAddr]) -> String {
        let Self { name, namespace, .. } = self;
        let mut yaml = format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-{}\n  \
             namespace: {namespace}\n  labels: {{ kubernetes.io/service-name: {name} }}\naddressType: {family}\nports:\n",
            family.to_lowercase()
        );
        for port in &self.ports {
            let _ = writeln!(
                yaml,
                "- {{ name: {}, port: {}, protocol: TCP{} }}",
                port.name,
                port.target,
                port.app()
            );
        }
        yaml += "endpoints:\n";
        for endpoint in endpoints {
            let _ = writeln!(yaml, "- {{ addresses: [\"{endpoint}\"], conditions: {{ ready: true }} }}");
        }
        yaml
    }
}

impl Port {
    fn app(&self) -> String {
        self.protocol.as_ref().map_or_else(String::new, |p| format!(", appProtocol: \"{p}\""))
    }
}
