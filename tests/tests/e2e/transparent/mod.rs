//! Diverted connections: a node with pods, the BPF programs loaded. With root a test that cannot run here fails;
//! without root the whole module says that it is left out.

mod buffers; // What the kernel buffers in pods.
mod bulk; // Very much on one connection.
mod capabilities; // What a DaemonSet has to give it.
mod changes; // The node, and what is diverted, change while weir runs.
mod deadman; // weir killed, stopped, or missing: connections go direct.
mod defaults; // Where weir's sockets are if nothing is written.
mod direct; // Connections that were opened while nothing diverted them.
mod divert; // What is diverted, what is not, and what the application can tell.
mod dns_in_pods; // Names outside that pods ask for.
mod empty; // Services without an endpoint.
mod ends_in_pods; // With its sockets in the pods, a weir ends, or a pod does.
mod explicit_in_pods; // Clients of :4140 with weir's sockets in the pods.
mod firewall; // Rules of the network, as a CNI enforces NetworkPolicies.
mod heart; // The control plane is busy, or stands still: the heart goes on.
mod http; // HTTP of diverted connections.
mod in_pods; // weir's sockets in the pods' network namespaces.
mod loopback_in_pods; // The explicit proxy at pods' loopback addresses.
mod many_pods; // As many pods as a node has, and more than weir has descriptors for.
mod namespaces; // The folder of the pods' network namespaces.
mod opaque; // Everything that is not HTTP.
mod owners; // Whose address a connection comes from.
mod pods; // Whose connections are diverted, pod by pod.
mod programs; // Databases and mail, unmodified.
mod reuse; // A client's port, used again.
mod services; // What is diverted follows Services.
mod spoilt_pods; // Pods in which weir cannot listen, or is not to.
mod stop; // SIGTERM under load.
mod strangers; // Who must not get in at a pod, and whom a pod must not speak to.
mod takeover; // Another weir takes over under load.
mod volume; // Many connections, random addresses.
mod wire; // Two nodes, and what passes between them.
mod without; // No capability, no cgroup.
mod without_ipv6; // A pod that has IPv4 alone.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use e2e::raw::TcpServer;
use e2e::weir::builder::Builder;
use e2e::{Backend, Client, Net, Pod, Weir, eventually, folder};

/// The service's addresses, IPv4, IPv6 and IPv4 as an IPv6 socket dials it.
pub(crate) const V4: &str = "10.96.0.10:80";
pub(crate) const V6: &str = "[fd00:96::10]:80";
pub(crate) const MAPPED: &str = "[::ffff:10.96.0.10]:80";
/// Where the endpoints listen.
pub(crate) const TARGET: u16 = 8080;

/// A node: a client pod, pods `a` and `b`, whatever lies beyond the node, and weir.
pub(crate) struct Stage {
    // Dropped in this order: who connects first, the network last.
    weir: Option<Weir>,
    pub(crate) client: Pod,
    pub(crate) a: Pod,
    pub(crate) b: Pod,
    pub(crate) beyond: Pod,
    pub(crate) net: Net,
}

impl Stage {
    /// The node before weir starts; `None`, and a word why, without root.
    pub(crate) fn set() -> Option<Self> {
        if !e2e::net::is_root() {
            return None;
        }
        let mut net = Net::new();
        let (client, a, b) = (net.pod("client"), net.pod("a"), net.pod("b"));
        let beyond = net.beyond(&["10.96.0.10", "fd00:96::10"]);
        Some(Self { weir: None, client, a, b, beyond, net })
    }

    /// The node with weir running on it: service `hello` at [`V4`] and [`V6`], its endpoints in pods `a` and `b`.
    pub(crate) fn running() -> Option<Self> {
        Self::running_with(|builder| builder)
    }

    /// The same with one endpoint only, in pod `a`.
    #[track_caller]
    pub(crate) fn with_one_endpoint() -> Option<Self> {
        let mut stage = Self::set()?;
        let addresses = ["10.96.0.10", "fd00:96::10"];
        let hello = folder::service("hello", &addresses).port("http", 80, TARGET).endpoints(&[stage.a.v4()]);
        let builder = Weir::new().on_node(&stage.net).kubernetes(&hello);
        stage.start(builder);
        Some(stage)
    }

    /// The same with other settings.
    #[track_caller]
    pub(crate) fn running_with(settings: impl FnOnce(Builder) -> Builder) -> Option<Self> {
        let mut stage = Self::set()?;
        let builder = settings(Weir::new().on_node(&stage.net).kubernetes(&stage.hello()));
        stage.start(builder);
        Some(stage)
    }

    /// The same with weir's sockets in the pods.
    pub(crate) fn in_pods() -> Option<Self> {
        let mut stage = Self::set()?;
        let builder = Weir::new().in_pods(&stage.net).kubernetes(&stage.hello());
        stage.start(builder);
        // The client, two endpoints, and what is beyond.
        stage.until_listening(4);
        Some(stage)
    }

    /// Waits until weir listens in so many pods.
    #[track_caller]
    pub(crate) fn until_listening(&mut self, pods: usize) {
        let weir = self.weir();
        eventually("weir in every pod", || {
            weir.metric("weir_interception_netns", &[("state", "listening")]) == pods as f64
        });
    }

    /// Starts weir and waits until it diverts.
    #[track_caller]
    pub(crate) fn start(&mut self, builder: Builder) {
        let weir = self.weir.insert(builder.start());
        // An API server takes a moment to tell of its services, and a busy machine may leave weir's threads without a turn;
        // everything else is there at the start.
        let comes = ["kubernetes: waiting for", "weir's heart does not beat", "a worker has not moved"];
        let mut ready = weir.admin_get("/ready");
        eventually("the API server's services", || {
            ready = weir.admin_get("/ready");
            ready.status == 200 || !comes.iter().any(|it| ready.text().contains(it))
        });
        assert_eq!(ready.status, 200, "interception does not work: {}\n{}", ready.text(), weir.log());
    }

    /// Service `hello`.
    pub(crate) fn hello(&self) -> folder::Service {
        let endpoints = [self.a.v4(), self.b.v4(), self.a.v6(), self.b.v6()];
        folder::service("hello", &["10.96.0.10", "fd00:96::10"])
            .port("http", 80, TARGET)
            .endpoints(&endpoints)
    }

    /// HTTP backends at each endpoint of `hello`, answering the pod's name.
    pub(crate) fn backends(&self) -> [Backend; 4] {
        let at = |pod: &Pod, address: SocketAddr| {
            Backend::http().answers(pod.name()).inside(pod).on(address).start()
        };
        let [a6, b6] = [&self.a, &self.b].map(|pod| SocketAddr::new(pod.v6(), TARGET));
        [at(&self.a, self.a.at(TARGET)), at(&self.b, self.b.at(TARGET)), at(&self.a, a6), at(&self.b, b6)]
    }

    /// HTTP backends beyond the node, at the service's own addresses, answering `direct`.
    pub(crate) fn direct(&self) -> [Backend; 2] {
        [V4, V6].map(|to| Backend::http().answers("direct").inside(&self.beyond).on(address(to)).start())
    }

    /// A server of something else at this address beyond the node.
    pub(crate) fn greets_beyond(&self, at: &str, greeting: &'static str) -> TcpServer {
        TcpServer::greets(self.beyond.listen(address(at)).unwrap(), greeting)
    }

    /// The running weir.
    pub(crate) fn weir(&mut self) -> &mut Weir {
        self.weir.as_mut().expect("weir was started")
    }

    /// Takes the running weir, to end it.
    pub(crate) fn take_weir(&mut self) -> Weir {
        self.weir.take().expect("weir was started")
    }

    /// A connection from the client pod.
    #[track_caller]
    pub(crate) fn dial(&self, to: &str) -> Client {
        Client::over(
            self.client.connect(address(to)).unwrap_or_else(|e| panic!("no connection to {to}: {e}")),
        )
    }

    /// The body of the answer to a GET from the client pod.
    #[track_caller]
    pub(crate) fn get(&self, to: &str) -> String {
        let answer = self.dial(to).get("/");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text()
    }

    /// How many connections were diverted.
    #[track_caller]
    pub(crate) fn diverted(&mut self) -> f64 {
        self.weir().decisions("diverted")
    }
}

/// Connects from `pod`, for load.
pub(crate) fn dialler(pod: &Pod, to: &str) -> impl Fn() -> io::Result<TcpStream> + Send + Sync + 'static {
    let (pod, to) = (pod.clone(), address(to));
    move || pod.connect(to)
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The body of the answer to a GET from `pod` to [`V4`]; empty when the connection is closed without one.
pub(crate) fn answered(pod: &Pod) -> String {
    let mut client = pod.connect(address(V4)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: hello\r\n\r\n");
    loop {
        match client.read(&mut piece) {
            Ok(0) => return String::new(),
            Ok(length) => answer.extend(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return String::new(),
            Err(error) => panic!("neither an answer nor an end: {error}"),
        }
        // The backends' bodies come with their heads.
        match String::from_utf8_lossy(&answer).split_once("\r\n\r\n") {
            Some((_, body)) if !body.is_empty() => return body.to_owned(),
            _ => {}
        }
    }
}

/// Waits until connections to [`V4`] are answered by an endpoint, not directly.
pub(crate) fn until_diverted(stage: &Stage) {
    eventually("a diverted answer", || stage.get(V4) != "direct");
}
