//! weir, an API server's double, and pods with as many addresses as a test wants.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use e2e::backend::Received;
use e2e::kube::ApiServer;
use e2e::weir::builder::Builder;
use e2e::{Answer, Backend, Net, Place, Pod, Weir};

/// The port that every endpoint listens on.
const PORT: u16 = 8080;

/// A weir that discovers by `server` and gives up on a silent one soon.
pub(super) fn following(server: &ApiServer) -> Builder {
    let builder = Weir::new();
    server.kubeconfig(builder.folder().path());
    builder.set(
        "discovery",
        "{ kubernetes: { kubeconfig: ./kubeconfig, node: node-1, jitter: 0s, readTimeout: 1s, silence: 2500ms } }",
    )
}

/// A node, where weir and the API server's double run, and one pod, which stands for all the others.
pub(super) struct Stage {
    // Dropped in this order: who connects first, the network last.
    pub(super) weir: Weir,
    pub(super) server: ApiServer,
    pub(super) pod: Pod,
    net: Net,
}

impl Stage {
    /// With so many addresses for endpoints; `None`, and a word why, without root.
    #[track_caller]
    pub(super) fn with(addresses: u8) -> Option<Self> {
        Self::prepared(addresses, |_| {}, |builder| builder)
    }

    /// The same with a server that is `prepared` before weir starts, and other settings.
    #[track_caller]
    pub(super) fn prepared(
        addresses: u8,
        prepare: impl FnOnce(&ApiServer),
        settings: impl FnOnce(Builder) -> Builder,
    ) -> Option<Self> {
        if !e2e::net::is_root() {
            return None;
        }
        let mut net = Net::new();
        let pod = net.pod("pods");
        let add = |number| format!("addr add {}/24 dev eth0\n", address(number).ip());
        pod.ip(&(0..addresses).map(add).collect::<String>());
        let server = ApiServer::start_in(Place::from(&net.node()));
        prepare(&server);
        let weir = settings(following(&server)).beside(&net).start();
        Some(Self { weir, server, pod, net })
    }

    /// Connects to weir from the node.
    pub(super) fn dialler(&self) -> impl Fn() -> io::Result<TcpStream> + Send + Sync + use<> + 'static {
        let (node, port) = (self.net.node(), self.weir.outgoing().port());
        move || node.connect(([127, 0, 0, 1], port).into())
    }

    /// A backend at the endpoint of this number that answers with it, and notes when it was asked.
    #[track_caller]
    pub(super) fn backend(&self, number: u8) -> (Backend, Times) {
        let (times, answer) = (Times::default(), Answer::ok(number.to_string()));
        let note = times.clone();
        let script = move |_: &Received| {
            note.lock().unwrap().push(Instant::now());
            answer.clone()
        };
        (Backend::http().script(script).inside(&self.pod).on(address(number)).start(), times)
    }
}

/// The endpoint of this number.
pub(super) fn address(number: u8) -> SocketAddr {
    ([10, 1, 0, 100 + number], PORT).into()
}

/// When a backend got each of its requests.
pub(super) type Times = Arc<Mutex<Vec<Instant>>>;

/// The endpoints of these numbers.
pub(super) fn addresses(numbers: &[u8]) -> Vec<SocketAddr> {
    numbers.iter().map(|it| address(*it)).collect()
}
