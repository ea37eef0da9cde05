//! `/api/state.json`: all that weir knows, at one moment.

use std::sync::Arc;
use std::time::Instant;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::{enrolment, kubernetes};
use crate::control::{self, Reading};
use crate::discovery::kubernetes::node_name;
use crate::domain::catalog::{Catalog, Condition, Endpoint, Service};
use crate::domain::health::breaker::{Policy, State};
use crate::domain::outcome::Outcome;
use crate::proxy::fault::Kind;
use crate::proxy::listener::{Door, Turned};
use crate::proxy::routing::snapshot::World;
use crate::proxy::upstream::cluster::{Cluster, ClusterPolicy, Member, Seat};

/// The whole state. A large cluster's takes a while and some room: each service is written before the next is looked at.
pub(super) fn json(control: &control::State) -> Vec<u8> {
    let whole = Whole {
        control,
        world: control.shared.routing.world.load_full(),
        catalog: control.catalogs.in_force(),
    };
    let mut text = serde_json::to_vec_pretty(&whole).unwrap_or_default();
    text.push(b'\n');
    text
}

struct Whole<'a> {
    control: &'a control::State,
    world: Arc<World>,
    catalog: Arc<Catalog>,
}

struct Services<'a>(&'a Whole<'a>);

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.rest().as_object().into_iter().flatten() {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry("services", &Services(self))?;
        map.end()
    }
}

impl Serialize for Services<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (Whole { world, catalog, .. }, now) = (self.0, Instant::now());
        let of = |it: &Service| service(it, world.seats_of(&it.key).map(|it| seat(it, now)).collect());
        serializer.collect_seq(catalog.services.values().map(|it| of(it)))
    }
}

impl Whole<'_> {
    /// Everything but the services of the catalog.
    fn rest(&self) -> Value {
        let (control, now) = (self.control, Instant::now());
        let reload = control.configuration.last_reload();
        let (ready, readiness) = control.ready.report();
        let outside: Vec<Value> =
            control.shared.routing.outside.clusters().iter().map(|it| cluster(it, now)).collect();
        let problems: Vec<String> = control.files.problems.borrow().iter().map(ToString::to_string).collect();
        let faults = Kind::LABELS.iter().zip(&control.shared.faults).filter(|(_, count)| count.value() > 0);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "node": node_name(&control.settings().discovery.kubernetes.clone().unwrap_or_default()),
            "uptimeSeconds": control.shared.routing.epoch.elapsed().as_secs_f64(),
            "ready": ready,
            "readiness": readiness.lines().collect::<Vec<_>>(),
            "draining": control.shared.drain.is_closing(),
            "listening": self.world.terms.node.listeners.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "listeners": control.listeners().map(door).collect::<Vec<_>>(),
            "transformed": self.world.views().iter().map(|it| cluster(it, now)).collect::<Vec<_>>(),
            "outside": outside,
            "interception": interception(control),
            "enrolment": enrolment::json(control),
            "faults": faults.map(|(kind, count)| (kind.to_string(), json!(count.value()))).collect::<serde_json::Map<_, _>>(),
            "tunnels": { "open": control.shared.tunnels.open.value() },
            "fileProblems": problems,
            "kubernetes": kubernetes::json(control.kubernetes.as_deref()),
            "reload": { "mistakes": reload.mistakes, "waitForRestart": reload.waiting },
        })
    }
}

fn door(door: &Arc<Door>) -> Value {
    let turned = Turned::LABELS.iter().zip(&door.turned_away);
    json!({
        "listener": door.way.label(),
        "open": door.open.value(),
        "connections": door.connections.value(),
        "requests": door.requests.value(),
        "closed": turned.map(|(why, count)| (why.to_string(), json!(count.value()))).collect::<serde_json::Map<_, _>>(),
    })
}

fn service(service: &Service, clusters: Vec<Value>) -> Value {
    json!({
        "service": service.key.to_string(),
        "addresses": service.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "externalName": service.external_name.as_deref(),
        "affinitySeconds": service.affinity.map(|it| it.as_secs()),
        "nodePorts": service.ports.iter().filter_map(|it| it.node_port).map(|it| it.number).collect::<Vec<_>>(),
        "clusters": clusters,
    })
}

/// A service port's cluster; of one that nobody asked for yet, only what the catalog says.
fn seat(seat: &Seat, now: Instant) -> Value {
    match seat.made() {
        Some(made) => cluster(made, now),
        None => json!({
            "name": seat.name,
            "policy": policy(&seat.policy()),
            "endpoints": seat.endpoints().iter().map(unused).collect::<Vec<_>>(),
        }),
    }
}

fn unused(endpoint: &Endpoint) -> Value {
    json!({ "address": endpoint.address.to_string(), "condition": condition(endpoint.condition) })
}

fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Ready => "ready",
        Condition::Terminating => "terminating",
        Condition::NotReady => "notReady",
    }
}

pub(super) fn cluster(cluster: &Arc<Cluster>, now: Instant) -> Value {
    let outcomes = Outcome::LABELS.iter().zip(&cluster.stats.outcomes).filter(|(_, count)| count.value() > 0);
    let of_cluster = cluster.policy();
    json!({
        "name": cluster.name,
        "attempts": outcomes.map(|(it, count)| (it.to_string(), json!(count.value()))).collect::<serde_json::Map<_, _>>(),
        "retries": cluster.stats.retries.value(),
        "policy": policy(&of_cluster),
        "endpoints": cluster.members().all.iter().map(|it| endpoint(it, &of_cluster.breaker, now)).collect::<Vec<_>>(),
    })
}

/// What holds for its endpoints; null is as `limits` have it.
fn policy(policy: &ClusterPolicy) -> Value {
    let backoff = policy.breaker.backoff;
    json!({
        "responseSeconds": policy.calls.response().map(|it| it.as_secs_f64()),
        "attempts": policy.calls.attempts,
        "breaker": {
            "failures": policy.breaker.failures,
            "backoffSeconds": { "min": backoff.min.as_secs_f64(), "max": backoff.max.as_secs_f64() },
        },
    })
}

fn endpoint(member: &Member, policy: &Policy, now: Instant) -> Value {
    let backend = &member.backend;
    let (breaker, retry_in) = match backend.breaker(now, policy) {
        State::Closed => ("closed", None),
        State::Open { until } => ("open", Some(until.saturating_duration_since(now).as_secs_f64())),
        State::Due => ("due", None),
        State::Probing => ("probing", None),
    };
    json!({
        "address": backend.address.to_string(),
        "condition": condition(member.condition),
        "weight": member.weight,
        "breaker": breaker,
        "retryInSeconds": retry_in,
        "leftAloneSeconds": backend.left_alone(now).map(|left| left.as_secs_f64()),
        "inFlight": backend.in_flight(),
        "latencySeconds": backend.latency().map(|ns| ns / 1e9),
        "requests": backend.stats.requests.value(),
        "failures": backend.stats.failures.value(),
        "refusals": backend.stats.refusals.value(),
        "trials": backend.stats.trials.value(),
        "connects": backend.stats.connects.value(),
        "ejections": backend.stats.ejections.value(),
        "idleConnections": backend.pools().iter().map(|pool| pool.len()).sum::<usize>(),
    })
}

fn interception(control: &control::State) -> Value {
    let Reading { status, counters } = match control.programs.read() {
        Ok(programs) => programs,
        Err(why) => return json!({ "on": false, "why": why }),
    };
    json!({
        "on": true,
        "attached": status.attached,
        "armed": status.is_armed(),
        "heartAgeSeconds": status.heart_age.map(|age| age.as_secs_f64()),
        "destinations": status.destinations,
        "waiting": status.waiting,
        "decisions": counters.iter().map(|(it, count)| (it.to_owned(), json!(count))).collect::<serde_json::Map<_, _>>(),
    })
}
