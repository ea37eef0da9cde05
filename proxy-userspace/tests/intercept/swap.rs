//! One weir's programs take the place of another's while connections are made all the time.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use proxy_ebpf::Count;
use weir::intercept::InterceptOptions;

use crate::weir::{Answering, Beating, FIRST, dial, intercept_to, listeners_from, options, service, waiting};
use crate::world::{STEP, World, on_a_node};

/// How often one weir follows another.
const SWAPS: u16 = 10;

/// A weir with its own ports and programs.
struct Generation {
    // Dropped in this order, as weir does.
    interception: Beating,
    _answering: Answering,
    _listeners: Vec<TcpListener>,
}

impl Generation {
    /// Every second one has the same ports.
    fn start(world: &World, number: u16) -> Self {
        let first_port = FIRST + 10 * (number % 2);
        let listeners = listeners_from(first_port);
        let interception = intercept_to(&InterceptOptions { first_port, ..options(world) }, &listeners);
        let answering = Answering::start(&listeners, &interception.original_dsts());
        Self { interception, _answering: answering, _listeners: listeners }
    }

    /// Waits until so many connections have come to it.
    fn takes(&self, connections: u64) {
        self.wait(|| self.interception.counters().get(Count::Diverted) >= connections);
    }

    /// Ends it as planned: it takes no more, whoever is on the way arrives and has asked whom it is connected to, which only
    /// these programs know, and they go.
    fn retire(mut self) {
        self.interception.disarm();
        self.wait(|| {
            let counters = self.interception.counters();
            let [diverted, filed, asked] =
                [Count::Diverted, Count::Filed, Count::PeerNamed].map(|what| counters.get(what));
            diverted == filed && diverted == asked && waiting(&self.interception) == 0
        });
    }

    fn wait(&self, what: impl Fn() -> bool) {
        let end = Instant::now() + STEP;
        while !what() {
            let counters: Vec<_> = self.interception.counters().iter().collect();
            assert!(Instant::now() < end, "{:?}, {counters:?}", self.interception.status());
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// Dials a service of each family in turn until there is a file `stop`; says what was not answered by a weir that knew it.
fn dial_until(stop: &Path) -> String {
    let mut wrong = Vec::new();
    while !stop.exists() {
        for family in [0, 1] {
            let to = service(family, 80);
            let said = dial(to);
            if said != format!("weir {to}, peer {to}") {
                wrong.push(said);
            }
        }
    }
    wrong.join("; ")
}

#[test]
fn while_one_weir_follows_another_no_connection_fails_goes_past_them_or_goes_astray() {
    on_a_node(|world| {
        let folder = tempfile::tempdir().unwrap();
        let stop = folder.path().join("stop");
        let mut current = Generation::start(world, 0);
        let applications = [(), ()].map(|()| world.start(|| dial_until(&stop)));
        // Also when a swap fails, or the applications would never end.
        let swaps = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            current.takes(20);
            for number in 1..=SWAPS {
                let next = Generation::start(world, number);
                std::mem::replace(&mut current, next).retire();
                current.takes(20);
            }
        }));
        std::fs::write(&stop, "").unwrap();
        // Only from now on are they to end soon: on an emulated machine the swaps alone take a minute.
        for application in applications {
            assert_eq!(application.result(), "");
        }
        if let Err(panic) = swaps {
            std::panic::resume_unwind(panic);
        }
        crate::bpf::expect_attached(&world.pods, 5);
    });
}
