//! A random history of a cluster: objects that come, change and go, and an API server that fails in every way.

use std::net::IpAddr;
use std::time::Duration;

use e2e::Weir;
use e2e::kube::{Act, ApiServer, Endpoint, Refusal, service, slice};
use serde_json::{Value, json};

/// Services there may be, `s0`, `s1`, …; slices that each may have; addresses of each one's endpoints.
const SERVICES: u8 = 6;
const SLICES: u8 = 3;
const ADDRESSES: u8 = 8;
/// Steps of a round.
const STEPS: usize = 90;
/// Faults of a round after which only a list helps. Lists that come too often are put off, each longer than the last.
const LISTS: usize = 2;

/// What happened, and what happens next.
pub(super) struct History<'a> {
    pub(super) server: &'a ApiServer,
    pub(super) weir: &'a Weir,
    pub(super) rng: fastrand::Rng,
    /// What happened so far, a line each.
    pub(super) lines: Vec<String>,
    lists: usize,
}

impl<'a> History<'a> {
    pub(super) fn new(server: &'a ApiServer, weir: &'a Weir, seed: u64) -> Self {
        Self { server, weir, rng: fastrand::Rng::with_seed(seed), lines: Vec::new(), lists: 0 }
    }

    /// Some random steps, at whose end everything is well.
    pub(super) fn round(&mut self) {
        self.lists = LISTS;
        for _ in 0..STEPS {
            match self.rng.u8(..20) {
                0..=11 => self.change(),
                12 => self.ask(),
                13..=17 => self.trouble(),
                _ => self.heal(),
            }
            let longest = if self.rng.u8(..12) == 0 { 500 } else { 25 };
            std::thread::sleep(Duration::from_millis(self.rng.u64(..longest)));
        }
        self.heal();
    }

    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn heal(&mut self) {
        self.say("heal");
        self.server.heal();
        self.server.up();
    }

    /// A request, so that the service has a cluster that its changes have to reach.
    fn ask(&mut self) {
        let of = self.rng.u8(..SERVICES);
        let status = self.weir.get(&format!("http://s{of}/")).status;
        self.say(format!("ask s{of}: {status}"));
    }

    fn change(&mut self) {
        let of = self.rng.u8(..SERVICES);
        let name = format!("s{of}-{}", self.rng.u8(..SLICES));
        match self.rng.u8(..12) {
            0 | 1 => self.put_service(of),
            2 => {
                self.say(format!("delete s{of}"));
                self.server.delete("services", "default", &format!("s{of}"));
            }
            3..=6 => self.put_slice(of, &name),
            7 => {
                self.say(format!("delete {name}"));
                self.server.delete("endpointslices", "default", &name);
            }
            8 => self.give_away(&name),
            9 => self.move_endpoint(of),
            _ => self.touch(&name),
        }
    }

    fn put_service(&mut self, of: u8) {
        let ip = format!("10.96.1.{of}");
        let mut object = match self.rng.u8(..6) {
            0 => service(&format!("s{of}"), "None", &[("http", 80)]),
            1 => service(&format!("s{of}"), &ip, &[("grpc", 9000)]),
            2 => service(&format!("s{of}"), &ip, &[("http", 80), ("grpc", 9000)]),
            _ => service(&format!("s{of}"), &ip, &[("http", 80)]),
        };
        if self.rng.u8(..8) == 0 {
            object["spec"] = json!({ "type": "ExternalName", "externalName": "elsewhere.example" });
        }
        self.say(format!("put {}", object["spec"]));
        self.server.put(object);
    }

    fn put_slice(&mut self, of: u8, name: &str) {
        let count = self.rng.u8(..6);
        let mut endpoints = Vec::new();
        for _ in 0..count {
            let address = IpAddr::from([10, 200, of, self.rng.u8(1..=ADDRESSES)]);
            let is = [Endpoint::ready, Endpoint::ready, Endpoint::terminating, Endpoint::unready];
            endpoints.push(is[self.rng.usize(..is.len())](address));
        }
        endpoints.sort_by_key(|it| it.address);
        endpoints.dedup_by_key(|it| it.address);
        let port =
            if self.rng.u8(..4) == 0 { ("grpc", 9001) } else { ("http", 8080 + u16::from(self.rng.bool())) };
        let mut object = slice(name, &format!("s{of}"), port, &endpoints);
        if self.rng.u8(..4) == 0 {
            object["ports"] = json!([{ "name": "http", "port": 8080 }, { "name": "grpc", "port": 9001 }]);
        }
        self.put("put", object);
    }

    /// Changes what is known of one endpoint.
    fn touch(&mut self, name: &str) {
        let Some(mut object) = self.slice(name) else { return };
        let Some(endpoints) = object["endpoints"].as_array_mut().filter(|it| !it.is_empty()) else { return };
        let at = self.rng.usize(..endpoints.len());
        let conditions = [
            json!({}),
            json!(null),
            json!({ "ready": true }),
            json!({ "ready": false }),
            json!({ "ready": false, "terminating": true }),
            json!({ "ready": false, "serving": true, "terminating": true }),
            json!({ "ready": null, "serving": null, "terminating": null }),
        ];
        match self.rng.usize(..conditions.len() + 3) {
            it if it < conditions.len() => endpoints[at]["conditions"] = conditions[it].clone(),
            _ => drop(endpoints.remove(at)),
        }
        self.put("touch", object);
    }

    /// Gives a slice to another service.
    fn give_away(&mut self, name: &str) {
        let Some(mut object) = self.slice(name) else { return };
        let to = self.rng.u8(..SERVICES);
        object["metadata"]["labels"]["kubernetes.io/service-name"] = json!(format!("s{to}"));
        self.put("give away", object);
    }

    /// Moves an endpoint from a slice to another, as the endpoint slice controller does when it fills them up again.
    fn move_endpoint(&mut self, of: u8) {
        let (Some(mut from), Some(mut to)) =
            (self.slice(&format!("s{of}-0")), self.slice(&format!("s{of}-1")))
        else {
            return;
        };
        let Some(moved) = from["endpoints"].as_array_mut().and_then(Vec::pop) else { return };
        let Some(endpoints) = to["endpoints"].as_array_mut() else { return };
        endpoints.retain(|it| it["addresses"] != moved["addresses"]);
        endpoints.push(moved);
        let mut both = [from, to];
        if self.rng.bool() {
            both.reverse();
        }
        for object in both {
            self.put("move", object);
        }
    }

    fn slice(&self, name: &str) -> Option<Value> {
        let mut object = self.server.object("endpointslices", "default", name)?;
        object["kind"] = json!("EndpointSlice");
        Some(object)
    }

    fn put(&mut self, why: &str, object: Value) {
        let (metadata, endpoints) = (&object["metadata"], &object["endpoints"]);
        let owner = &metadata["labels"]["kubernetes.io/service-name"];
        self.say(format!("{why} {} of {owner}, ports {}: {endpoints}", metadata["name"], object["ports"]));
        self.server.put(object);
    }

    fn trouble(&mut self) {
        match self.rng.u8(..10) {
            0 => self.act(Act::End),
            1 => self.act(Act::Cut),
            2 | 3 if self.lists > 0 => {
                self.lists -= 1;
                match self.rng.u8(..6) {
                    0 => self.act(Act::Gone),
                    1 => self.act(Act::Garbage),
                    2 => self.act(Act::Nonsense),
                    _ => self.lose(),
                }
            }
            4 => {
                self.say("down");
                self.server.down();
            }
            5 => self.fault("hangs", |faults| faults.hangs = true),
            6 => self.fault("silent watches", |faults| faults.silent_watches = true),
            7 => self.fault("duplicates", |faults| faults.duplicates = true),
            8 => {
                let delay = Duration::from_millis(self.rng.u64(..20));
                self.fault(&format!("delay {delay:?}"), |faults| faults.delay = delay);
            }
            _ => self.refuse(),
        }
    }

    /// Changes of which no watch will ever tell.
    fn lose(&mut self) {
        self.say("down, and history is forgotten");
        self.server.down();
        for _ in 0..self.rng.u8(2..8) {
            self.change();
        }
        self.server.compact();
        self.say("up");
        self.server.up();
    }

    /// Refuses something, and makes weir ask for it.
    fn refuse(&mut self) {
        let of = ["services", "endpointslices", "*"][self.rng.usize(..3)];
        let refusals = [
            Refusal::Unauthorized,
            Refusal::Forbidden,
            Refusal::TooMany(1),
            Refusal::Broken(500),
            Refusal::Broken(503),
        ];
        let refusal = refusals[self.rng.usize(..refusals.len())];
        self.say(format!("refuse {of}: {refusal:?}"));
        self.server.refuse(of, refusal);
        self.act(Act::End);
    }

    fn act(&mut self, act: Act) {
        self.say(format!("{act:?}"));
        self.server.act(act);
    }

    fn fault(&mut self, name: &str, change: impl FnOnce(&mut e2e::kube::Faults)) {
        self.say(name);
        self.server.faults(change);
    }
}
