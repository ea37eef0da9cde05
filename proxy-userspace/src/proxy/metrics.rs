//! The data plane's metrics, rendered from counters that their owners keep.

mod http2;
mod http2_endpoints;
mod memory;
mod wire;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::domain::health::breaker::State;
use crate::domain::outcome::Outcome;
use crate::domain::ssrf::Refusal;
use crate::proxy::fault::Kind;
use crate::proxy::listener::{CloseReason, Listener};
use crate::proxy::routing::cache::RouteCacheStats;
use crate::proxy::routing::external::{Busy, Counted};
use crate::proxy::routing::resolve::Holds;
use crate::proxy::tcp;
use crate::proxy::upstream::Pool;
use crate::proxy::upstream::cluster::{Backend, BackendStats, Cluster, Stats};
use crate::proxy::worker::Shared;
use crate::telemetry::{Counter, Page, Scrape};

/// Everything the data plane counts.
pub struct Metrics {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// The listeners.
    pub listeners: Vec<Arc<Listener>>,
}

impl Scrape for Metrics {
    fn scrape(&self, page: &mut Page<'_>) -> fmt::Result {
        let (sums, clusters) = self.clusters();
        // So may a router have the label of one that is gone and still has connections; the one that is there comes first.
        let mut seen = HashSet::new();
        let there: Vec<_> = self.listeners.iter().filter(|it| seen.insert(it.labels())).cloned().collect();
        listeners(page, &there)?;
        http2::clients(page, &there)?;
        requests(page, &sums)?;
        endpoints(page, &clusters)?;
        self.faults(page)?;
        self.holds(page)?;
        self.bindings(page)?;
        self.tunnels(page)?;
        memory::memory(page, &self.shared.memory, &self.shared.connecting)?;
        wire::wire(page, &self.shared.connecting)?;
        http2_endpoints::endpoints(page, &self.shared.connecting)
    }
}

fn listeners(page: &mut Page<'_>, listeners: &[Arc<Listener>]) -> fmt::Result {
    let rows = |count: fn(&Listener) -> u64| listeners.iter().map(move |it| (it.labels(), count(it)));
    page.counters("weir_listener_connections", "Connections accepted", rows(|it| it.connections.value()))?;
    page.counters(
        "weir_listener_requests",
        "Requests, or opaque connections",
        rows(|it| it.requests.value()),
    )?;
    page.counters(
        "weir_listener_unparsed_heads",
        "First heads that weir's parser cannot hold, and that were carried as bytes",
        rows(|it| it.unparsed_heads.value()),
    )?;
    page.counters(
        "weir_listener_contexts_ignored",
        "Requests whose l5d-ctx-dtab was removed",
        rows(|it| it.contexts_ignored.value()),
    )?;
    let open = listeners.iter().map(|it| (it.labels(), it.open.value() as f64));
    page.gauges("weir_listener_open_connections", "Connections open now", open)?;
    let waiting = listeners.iter().map(|it| (it.labels(), it.waiting() as f64));
    page.gauges("weir_listener_waiting_connections", "Connections that wait for room", waiting)?;
    let addresses = listeners.iter().flat_map(|it| {
        let of = |at: &SocketAddr| {
            let [kind, router] = it.labels();
            ([kind, router, ("address", Arc::from(at.to_string()))], 1.0)
        };
        it.addresses().iter().map(of).collect::<Vec<_>>()
    });
    page.gauges("weir_listener_address", "1 for each address that a router listens at", addresses)?;
    let turned = listeners.iter().flat_map(|it| {
        let reasons = CloseReason::LABELS.iter().zip(&it.closed);
        reasons.map(|(reason, count)| {
            let [kind, router] = it.labels();
            ([kind, router, ("reason", Arc::from(*reason))], count.value())
        })
    });
    page.counters("weir_listener_closed", "Connections closed without being served", turned)
}

/// What the clusters of one name have counted.
struct Sum {
    first: Arc<Cluster>,
    /// Of several, and of those that are gone.
    sum: Option<Box<Stats>>,
}

impl Sum {
    fn stats(&self) -> &Stats {
        self.sum.as_deref().unwrap_or(&self.first.stats)
    }
}

impl Metrics {
    /// What is shown by name, and the clusters whose endpoints are shown.
    ///
    /// Two namers may have the same name (a file and a Service): a metrics page must not have two rows with the same labels, so
    /// only the first, to which the name binds, is shown. The admin's state has both. Of a name outside, each pod that has
    /// asked for it has a cluster of its own; these are added up, and their endpoints are not shown.
    fn clusters(&self) -> (Vec<Sum>, Vec<Arc<Cluster>>) {
        let mut seen = HashSet::new();
        let mut shown = self.shared.routing.known_clusters();
        shown.retain(|cluster| seen.insert(cluster.name.clone()));
        let mut sums: Vec<_> = shown.iter().map(|it| Sum { first: it.clone(), sum: None }).collect();
        let (mut outside, mut of_node) = (HashMap::<Box<str>, Sum>::new(), HashSet::new());
        for Counted { cluster, is_pods, gone } in self.shared.routing.external.counted() {
            if seen.contains(&cluster.name) {
                continue;
            }
            if !is_pods && of_node.insert(cluster.name.clone()) {
                shown.push(cluster.clone());
            }
            let begun = || {
                let sum = Box::<Stats>::default();
                sum.absorb(&gone);
                Sum { first: cluster.clone(), sum: Some(sum) }
            };
            let sum = outside.entry(cluster.name.clone()).or_insert_with(begun);
            if let Some(sum) = &sum.sum {
                sum.absorb(&cluster.stats);
            }
        }
        sums.extend(outside.into_values());
        (sums, shown)
    }
}

fn requests(page: &mut Page<'_>, sums: &[Sum]) -> fmt::Result {
    let outcomes = sums.iter().flat_map(|it| {
        let counts = Outcome::LABELS.iter().zip(&it.stats().outcomes).filter(|(_, count)| count.value() > 0);
        counts.map(|(outcome, count)| ([("service", &*it.first.name), ("outcome", *outcome)], count.value()))
    });
    page.counters("weir_attempts", "Attempts at an endpoint, by how they ended", outcomes)?;
    let calls = sums.iter().flat_map(|it| {
        it.stats()
            .grpc
            .counted()
            .map(|(status, count)| ([("service", &*it.first.name), ("status", status)], count))
    });
    page.counters("weir_grpc_answers", "Answers to gRPC calls, by status", calls)?;
    let rows = |count: fn(&Stats) -> u64| {
        sums.iter().map(move |it| ([("service", &*it.first.name)], count(it.stats())))
    };
    page.counters("weir_retries", "Attempts beyond a request's first", rows(|it| it.retries.value()))?;
    page.counters(
        "weir_breakers_ignored",
        "Picks with no endpoint to rely on",
        rows(|it| it.forced.value()),
    )?;
    let used = sums.iter().filter(|it| it.stats().duration.count() > 0);
    let durations = used.map(|it| ([("service", &*it.first.name)], &it.stats().duration));
    page.histograms("weir_attempt_duration_seconds", "From an attempt's start to its end", durations)
}

/// The families of endpoints. Each row is read when it is written: one service may have very many endpoints.
fn endpoints(page: &mut Page<'_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    type Count = fn(&BackendStats) -> &Counter;
    let counts: [(&str, &str, Count); 6] = [
        ("weir_endpoint_requests", "Attempts begun", |it| &it.requests),
        ("weir_endpoint_failures", "Attempts that were the endpoint's own failure", |it| &it.failures),
        ("weir_endpoint_refusals", "Requests that it turned away", |it| &it.refusals),
        ("weir_endpoint_trials", "Attempts although another endpoint was better", |it| &it.trials),
        ("weir_endpoint_connects", "Connections opened", |it| &it.connects),
        ("weir_endpoint_ejections", "Times the breaker ejected it", |it| &it.ejections),
    ];
    for (name, help, count) in counts {
        page.counters(name, help, rows(clusters, |_, it| it.counted().map_or(0, |it| count(it).value())))?;
    }
    let now = Instant::now();
    let is = |condition: bool| f64::from(u8::from(condition));
    page.gauges(
        "weir_endpoint_in_flight",
        "Attempts running now",
        rows(clusters, |_, it| it.in_flight() as f64),
    )?;
    page.gauges(
        "weir_endpoint_ejected",
        "1 while its breaker is not closed for some client",
        rows(clusters, |cluster, it| {
            is(!matches!(it.breaker(now, &cluster.policy().breaker), State::Closed))
        }),
    )?;
    page.gauges(
        "weir_endpoint_latency_seconds",
        "Moving mean of latency, 0 before the first answer",
        rows(clusters, |_, it| it.latency().unwrap_or_default() / 1e9),
    )?;
    page.gauges(
        "weir_endpoint_idle_connections",
        "Unused connections kept",
        rows(clusters, |_, it| it.pools().iter().map(Pool::len).sum::<usize>() as f64),
    )?;
    page.gauges(
        "weir_endpoint_in_doubt",
        "1 while its node leaves a connection unacknowledged",
        rows(clusters, |_, it| is(it.is_in_doubt())),
    )?;
    page.gauges(
        "weir_endpoint_left_alone",
        "1 while it is left alone, as it has asked (Retry-After)",
        rows(clusters, |_, it| is(it.left_alone(now).is_some())),
    )?;
    page.gauges(
        "weir_endpoint_ejected_clients",
        "Clients for which its breaker is not closed",
        rows(clusters, |_, it| it.ejected_for() as f64),
    )
}

/// A row for each endpoint that was used, with its labels.
fn rows<'c, V>(
    clusters: &'c [Arc<Cluster>],
    value: impl Fn(&Cluster, &Backend) -> V + Copy + 'c,
) -> impl Iterator<Item = ([(&'static str, Cow<'c, str>); 2], V)> + 'c {
    clusters.iter().flat_map(move |cluster| {
        let members = Arc::clone(&cluster.members());
        (0..members.all.len()).filter_map(move |at| {
            let backend = &members.all[at].backend;
            backend.counted()?;
            let labels = [
                ("service", Cow::Borrowed(&*cluster.name)),
                ("endpoint", Cow::Owned(backend.address.to_string())),
            ];
            Some((labels, value(cluster, backend)))
        })
    })
}

impl Metrics {
    fn faults(&self, page: &mut Page<'_>) -> fmt::Result {
        let faults = Kind::LABELS.iter().zip(&self.shared.faults);
        let rows = faults.map(|(kind, count)| ([("kind", *kind)], count.value()));
        page.counters("weir_faults", "Answers weir made itself, and connections it could not carry", rows)?;
        let refusals = Refusal::LABELS.iter().zip(&self.shared.connecting.refusals);
        let rows = refusals.map(|(reason, count)| ([("reason", *reason)], count.value()));
        page.counters("weir_refused", "Destinations that weir did not connect to", rows)?;
        let outside = &self.shared.routing.external;
        let diagnoses = self.shared.diagnoses.value();
        let none: [(&str, &str); 0] = [];
        page.counters("weir_diagnoses", "Requests answered with a diagnosis", [(none, diagnoses)])?;
        page.counters(
            "weir_expect_timeouts",
            "Bodies sent although the endpoint had not asked for them in time",
            [(none, self.shared.connecting.unasked.value())],
        )?;
        page.counters(
            "weir_outside_evicted",
            "Names outside dropped for lack of room",
            [(none, outside.evicted.value())],
        )?;
        page.counters("weir_dns_failures", "Look-ups without an answer", [(none, outside.failed.value())])?;
        page.counters(
            "weir_dns_refused_addresses",
            "Addresses that DNS gave and weir does not connect to",
            [(none, outside.refused.value())],
        )?;
        page.counters(
            "weir_dns_unbalanced_requests",
            "Requests to an address that the cluster's DNS has for one of its names",
            [(none, outside.unbalanced.value())],
        )?;
        page.counters(
            "weir_dns_foreign_addresses",
            "Addresses that DNS gave for the cluster's own names and that cannot be its own",
            [(none, outside.foreign.value())],
        )?;
        page.counters(
            "weir_dns_unreachable_addresses",
            "Addresses that DNS gave and this node has no route to",
            [(none, outside.unreachable.value())],
        )?;
        page.counters(
            "weir_dns_surplus_addresses",
            "Addresses that DNS gave beyond as many as are used",
            [(none, outside.surplus.value())],
        )?;
        self.connects(page)?;
        self.look_ups(page)?;
        page.gauges(
            "weir_workers_oldest_beat_seconds",
            "Since the quietest worker's last sign of life",
            [(none, self.shared.oldest_beat().as_secs_f64())],
        )
    }

    fn connects(&self, page: &mut Page<'_>) -> fmt::Result {
        let none: [(&str, &str); 0] = [];
        page.counters(
            "weir_connects_raced",
            "Addresses tried because another one of the same name took long",
            [(none, self.shared.connecting.raced.value())],
        )?;
        page.counters(
            "weir_no_source_port",
            "Connections to endpoints that failed because no source port was left",
            [(none, self.shared.connecting.no_port.value())],
        )
    }

    fn look_ups(&self, page: &mut Page<'_>) -> fmt::Result {
        let look_ups = &self.shared.routing.external.look_ups;
        let none: [(&str, &str); 0] = [];
        page.gauges("weir_dns_lookups", "Look-ups under way", [(none, look_ups.under_way() as f64)])?;
        let refused = Busy::LABELS.iter().zip(&look_ups.refused);
        let refused = refused.map(|(reason, count)| ([("reason", *reason)], count.value()));
        page.counters("weir_dns_lookups_refused", "Look-ups that were not begun", refused)
    }

    fn holds(&self, page: &mut Page<'_>) -> fmt::Result {
        let holds = &self.shared.routing.holds;
        let none: [(&str, &str); 0] = [];
        let open = holds.open.value() as f64;
        page.gauges(
            "weir_held_requests",
            "Requests that wait for the first list of services or for their client to be known",
            [(none, open)],
        )?;
        let ended = Holds::ENDS.iter().zip(&holds.ended);
        let ended = ended.map(|(end, count)| ([("end", *end)], count.value()));
        page.counters("weir_holds", "Requests that have waited so", ended)?;
        page.counters(
            "weir_client_namespace_unknown",
            "Short names whose client is no pod of this node",
            [(none, self.shared.routing.clients.strangers.value())],
        )
    }

    fn bindings(&self, page: &mut Page<'_>) -> fmt::Result {
        let bindings = &self.shared.routing.bindings;
        let none: [(&str, &str); 0] = [];
        page.gauges("weir_bindings", "Names that are bound now", [(none, bindings.bound.value() as f64)])?;
        page.counters(
            "weir_binding_misses",
            "Names that had to be bound",
            [(none, bindings.misses.value())],
        )?;
        let evicted = RouteCacheStats::REASONS.iter().zip(&bindings.evicted);
        let evicted = evicted.map(|(reason, count)| ([("reason", *reason)], count.value()));
        page.counters("weir_binding_evictions", "Bound names that were forgotten", evicted)
    }

    fn tunnels(&self, page: &mut Page<'_>) -> fmt::Result {
        let tunnels = &self.shared.tunnels;
        let none: [(&str, &str); 0] = [];
        page.gauges("weir_tunnels_open", "Byte tunnels open now", [(none, tunnels.open.value() as f64)])?;
        let ended = tcp::Stats::ENDS.iter().zip(&tunnels.ended);
        let ended = ended.map(|(end, count)| ([("end", *end)], count.value()));
        page.counters("weir_tunnels_ended", "Byte tunnels, by how they ended", ended)?;
        let bytes =
            [([("direction", "up")], tunnels.up.value()), ([("direction", "down")], tunnels.down.value())];
        page.counters("weir_tunnel_bytes", "Bytes carried in tunnels", bytes)?;
        let pipes = &tunnels.pipes;
        page.gauges("weir_tunnel_pipes", "Pipes that tunnels have now", [(none, pipes.open.value() as f64)])?;
        page.counters(
            "weir_tunnel_pipes_refused",
            "Tunnels that streamed and got no pipe",
            [(none, pipes.refused.value())],
        )?;
        page.counters("weir_tunnel_piped_bytes", "Bytes carried through pipes", [(none, pipes.bytes.value())])
    }
}
