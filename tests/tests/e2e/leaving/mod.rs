//! Clients that leave before they were answered, clients that close their sending side, and listeners that are full.

mod clients; // What programs that give up do to their sockets, done by hand.
mod half_closed; // A FIN behind a complete request.
mod programs; // Ten unmodified programs that give up.
mod resets; // A reset cancels at once, also where nothing is read.
mod room; // Who makes room when a listener is full.

use std::cell::Cell;
use std::net::{TcpListener, TcpStream};

use e2e::raw::{listen, loopback};
use e2e::weir::builder::Builder;
use e2e::witness::{Manner, Witness};
use e2e::{Client, Weir};

use crate::transparent::{Stage, TARGET, V4, address};

/// A weir between clients and one endpoint: the explicit proxy on loopback, or interception on a node.
enum Between {
    /// `:4140`, and the endpoint's port on loopback, with the first listener there.
    Explicit(Box<Weir>, TcpListener, Cell<bool>),
    /// Diverted connections from the pod `client` to the pod `a`.
    Diverted(Box<Stage>),
}

impl Between {
    /// Runs `test` for both; for the second with root only.
    fn both(settings: &str, mut test: impl FnMut(&mut Self)) {
        let endpoint = listen(loopback()).unwrap();
        let with = |builder: Builder| builder.set("limits", settings);
        let weir = with(Weir::new()).service("hello", &[endpoint.local_addr().unwrap()]).start();
        test(&mut Self::Explicit(Box::new(weir), endpoint, Cell::new(false)));
        let Some(mut stage) = Stage::set() else { return };
        let a = stage.a.v4();
        let hello = e2e::folder::service("hello", &["10.96.0.10"]).port("http", 80, TARGET).endpoints(&[a]);
        stage.start(with(Weir::new().on_node(&stage.net).kubernetes(&hello)));
        test(&mut Self::Diverted(Box::new(stage)));
    }

    /// A listener for the endpoint; an earlier one was stopped.
    fn listen(&self) -> TcpListener {
        match self {
            Self::Explicit(_, first, used) if !used.replace(true) => first.try_clone().unwrap(),
            Self::Explicit(_, first, _) => listen(first.local_addr().unwrap()).unwrap(),
            Self::Diverted(stage) => stage.a.listen(stage.a.at(TARGET)).unwrap(),
        }
    }

    /// The endpoint, in this manner.
    fn witness(&self, manner: Manner) -> Witness {
        Witness::on(self.listen(), manner)
    }

    /// A connection through weir.
    fn connect(&self) -> TcpStream {
        match self {
            Self::Explicit(weir, ..) => TcpStream::connect(weir.outgoing()).unwrap(),
            Self::Diverted(stage) => stage.client.connect(address(V4)).unwrap(),
        }
    }

    fn client(&self) -> Client {
        Client::over(self.connect())
    }

    fn weir(&mut self) -> &mut Weir {
        match self {
            Self::Explicit(weir, ..) => weir,
            Self::Diverted(stage) => stage.weir(),
        }
    }

    fn is_explicit(&self) -> bool {
        matches!(self, Self::Explicit(..))
    }

    /// The metrics' name of the listener.
    fn listener(&self) -> &'static str {
        if self.is_explicit() { "outgoing" } else { "transparent" }
    }

    /// Waits until no attempt counts as in flight: the balancer knows that the client is gone.
    #[track_caller]
    fn expect_nothing_in_flight(&mut self) {
        let weir = self.weir();
        e2e::eventually("nothing in flight", || weir.in_flight() == 0);
    }
}
