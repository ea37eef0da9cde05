//! The scene: backends, weir before them, clients, on a pretend node or, without the rights for that, on loopback.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::admin::{Counters, Relay};
use super::services;
use crate::launch;
use crate::node::{self, Node, Pod};
use crate::os::interrupt;
use crate::process::{self, Running};

/// The service addresses; only diversion makes them answer.
pub(crate) const HELLO: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
pub(crate) const ECHO: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 11)), 7000);

const BACKENDS: [&str; 3] = ["a", "b", "c"];
const HTTP_PORT: u16 = 8080;
const ECHO_PORT: u16 = 7000;

/// How a client reaches weir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// It dials the service, and the eBPF program diverts it.
    Transparent,
    /// It asks the proxy.
    Outgoing,
}

impl Door {
    /// The name of the listener in weir's metrics.
    pub(crate) fn listener(self) -> &'static str {
        match self {
            Self::Transparent => "transparent",
            Self::Outgoing => "outgoing",
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Transparent => Self::Outgoing,
            Self::Outgoing => Self::Transparent,
        }
    }
}

/// Which client: each is a pod of its own on a pretend node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    /// The one that all load comes from.
    Usual,
    /// One that does not get what a rule gives to that one.
    Other,
}

/// One backend, running or not.
pub(crate) struct Member {
    pub(crate) name: &'static str,
    http: SocketAddr,
    process: Option<Running>,
}

/// All of it. Fields are dropped in this order: processes before the places they run in.
pub(crate) struct Scene {
    relay: Option<Relay>,
    weir: Option<Running>,
    pub(crate) members: Vec<Member>,
    node: Option<Node>,
    folder: Folder,
    proxy: SocketAddr,
    admin: SocketAddr,
}

/// A folder below the system's temporary one, removed when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Scene {
    /// A pretend node with a pod for each backend, in their order, one for another client, and one for the client.
    ///
    /// # Errors
    ///
    /// The machine does not let us make namespaces or cgroups, as in many containers. Nothing is left of it.
    pub(crate) fn pretend_node() -> Result<Node> {
        let mut node = Node::create("weir-demo")?;
        for name in BACKENDS.into_iter().chain(["other", "client"]) {
            node.add_pod(name)?;
        }
        Ok(node)
    }

    /// Network namespaces as pods on a pretend node; weir diverts what they dial.
    pub(crate) fn on_a_node(weir: &Path, node: Node) -> Result<Self> {
        let members = BACKENDS.into_iter().zip(&node.pods).map(|(name, pod)| {
            let http = SocketAddr::new(pod.address, HTTP_PORT);
            Member { name, http, process: None }
        });
        let members = members.collect();
        let proxy = SocketAddr::from((node::ADDRESS, 4140));
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 9990));
        let mut scene =
            Self { relay: None, weir: None, members, node: Some(node), folder: folder()?, proxy, admin };
        scene.start_backends()?;
        let endpoints: Vec<IpAddr> = scene.addresses().iter().map(SocketAddr::ip).collect();
        let services = [("demo.yaml", services::kubernetes(&endpoints, HTTP_PORT, ECHO_PORT))];
        let pods = scene.node()?.pods_cgroup().display();
        let transparent = format!(
            "transparent:\n  sockets: pod\n  netns: {}\n  cgroup: {pods}\n  required: true\n",
            scene.namespaces()?.display()
        );
        scene.start_weir(weir, transparent, &services)?;
        let entrance = scene.node()?.netns.entrance();
        scene.relay = Some(Relay::start(admin, entrance)?);
        Ok(scene)
    }

    /// Everything on loopback; only the explicit door.
    pub(crate) fn on_loopback(weir: &Path) -> Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let members = BACKENDS.map(|name| Member { name, http: any, process: None }).into();
        let free = || -> Result<SocketAddr> { Ok(std::net::TcpListener::bind(any)?.local_addr()?) };
        let (proxy, admin) = (free()?, free()?);
        let mut scene =
            Self { relay: None, weir: None, members, node: None, folder: folder()?, proxy, admin };
        scene.start_backends()?;
        scene.start_weir(weir, String::new(), &[])?;
        Ok(scene)
    }

    /// A folder with the namespaces of these pods alone, as a container runtime has one.
    fn namespaces(&self) -> Result<PathBuf> {
        let folder = self.folder.0.join("netns");
        fs::create_dir(&folder)?;
        for (number, pod) in self.node()?.pods.iter().enumerate() {
            std::os::unix::fs::symlink(pod.netns.path(), folder.join(format!("pod{number}")))?;
        }
        Ok(folder)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.http).collect()
    }

    fn node(&self) -> Result<&Node> {
        self.node.as_ref().context("there is no pretend node")
    }

    fn start_backends(&mut self) -> Result<()> {
        (0..self.members.len()).try_for_each(|index| self.revive(index))
    }

    /// Starts a backend at the address it has, or at a free one the first time.
    pub(crate) fn revive(&mut self, index: usize) -> Result<()> {
        let member = &self.members[index];
        let mut command = Command::new("/proc/self/exe");
        command.args(["backend", "--name", member.name, "--http", &member.http.to_string()]);
        if let Some(node) = &self.node {
            command.args(["--echo", &SocketAddr::new(member.http.ip(), ECHO_PORT).to_string()]);
            node.pods[index].hold(&mut command)?;
        }
        let mut process = Running::start(member.name, command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let line = process.first_line().context("a backend did not start")?;
        let member = &mut self.members[index];
        member.http = line.parse().with_context(|| format!("backend {} said {line}", member.name))?;
        member.process = Some(process);
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            process.kill();
        }
    }

    fn start_weir(&mut self, binary: &Path, sections: String, services: &[(&str, String)]) -> Result<()> {
        let (folder, backends) = (&self.folder.0, self.addresses());
        let setting = launch::Weir {
            listen: self.proxy,
            admin: self.admin,
            workers: None,
            // On a node the services are objects of Kubernetes.
            backends: if self.node.is_some() { &[] } else { &backends },
            sections,
            services,
        };
        let mut command = launch::command(binary, &setting.write(folder)?, folder)?;
        if let Some(node) = &self.node {
            node.netns.hold(&mut command);
        }
        let mut weir = Running::start("weir", &mut command)?;
        let pause = || interrupt::sleep(Duration::from_millis(20));
        weir.wait_until(Duration::from_secs(20), || self.page("/ready"), pause)
            .with_context(|| self.log())?;
        self.weir = Some(weir);
        Ok(())
    }

    /// The end of weir's log, for when something went wrong.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.0.join("weir.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("the end of weir's log:\n  {}", lines[lines.len().saturating_sub(15)..].join("\n  "))
    }

    /// A page of weir's admin port.
    pub(crate) fn page(&self, path: &str) -> Result<String> {
        match &self.node {
            Some(node) => node.netns.inside(|| launch::page(self.admin, path))?,
            None => launch::page(self.admin, path),
        }
    }

    pub(crate) fn counters(&self) -> Result<Counters> {
        Ok(Counters::parse(&self.page("/metrics")?))
    }

    /// Where the admin port can be reached from here, while the demo runs.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.relay.as_ref().map_or(self.admin, |relay| relay.address)
    }

    /// An unmodified client: curl, told of a proxy by the environment or not at all. Returns how it was called, and what
    /// it printed.
    pub(crate) fn curl(&self, door: Door) -> Result<(String, String)> {
        self.curl_as(Client::Usual, door)
    }

    /// As [`Self::curl`], in this client's pod.
    pub(crate) fn curl_as(&self, client: Client, door: Door) -> Result<(String, String)> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "3"]).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let shown = match door {
            Door::Transparent => {
                let url = format!("http://{}/", HELLO.ip());
                command.arg(&url);
                format!("curl {url}")
            }
            Door::Outgoing => {
                let proxy = format!("http://{}", self.proxy);
                command.env("http_proxy", &proxy).arg("http://hello/");
                format!("http_proxy={proxy} curl http://hello/")
            }
        };
        self.hold_client(client, &mut command)?;
        let printed = process::output(&mut command)?;
        Ok((shown, printed.trim().to_owned()))
    }

    /// The continuous load through a door.
    pub(crate) fn load_command(&self, door: Door) -> Result<Command> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["client", "--target", &HELLO.to_string()]);
        match door {
            Door::Transparent => command.args(["--echo", &ECHO.to_string()]),
            Door::Outgoing => command.args(["--proxy", &self.proxy.to_string()]),
        };
        self.hold_client(Client::Usual, &mut command)?;
        Ok(command)
    }

    fn hold_client(&self, client: Client, command: &mut Command) -> Result<()> {
        match self.pod_of(client) {
            Some(pod) => pod.hold(command),
            None => Ok(()),
        }
    }

    fn pod_of(&self, client: Client) -> Option<&Pod> {
        let place = match client {
            Client::Usual => 0,
            Client::Other => 1,
        };
        self.node.as_ref()?.pods.iter().rev().nth(place)
    }

    /// Adds a rule to the pod of every backend, as a network plug-in does for a NetworkPolicy: of all pods only this client
    /// may reach it.
    pub(crate) fn permit_only(&self, client: Client) -> Result<String> {
        let address = self.pod_of(client).context("there is no pod of a client")?.address;
        let file = self.folder.0.join("rules.nft");
        let rule = format!("ip saddr {address} tcp dport {HTTP_PORT} accept");
        // Refused, and not dropped, so that nobody has to wait.
        let refused = format!("tcp dport {HTTP_PORT} reject with tcp reset");
        let chain = format!("type filter hook input priority 0; {rule}; {refused};");
        fs::write(&file, format!("table inet plugin {{ chain input {{ {chain} }}; }}\n"))?;
        for pod in &self.node()?.pods[..self.members.len()] {
            let mut nft = Command::new("nft");
            pod.netns.hold(nft.arg("-f").arg(&file));
            process::output(&mut nft)?;
        }
        Ok(rule)
    }

    /// Stops weir as a service manager would; whether it ended by itself, and well.
    pub(crate) fn stop_weir(&mut self) -> Result<bool> {
        let Some(mut weir) = self.weir.take() else { return Ok(false) };
        Ok(weir.stop(Duration::from_secs(15))?.is_some_and(|status| status.success()))
    }
}

fn folder() -> Result<Folder> {
    let path = std::env::temp_dir().join(format!("weir-demo-{}", std::process::id()));
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(Folder(path))
}
