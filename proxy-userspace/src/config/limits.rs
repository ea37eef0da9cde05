//! `limits`: every bound on a buffer, a table or a wait.

use std::time::Duration;

use super::fields::Section;
use super::http2_clients::{self, Http2Clients};
use super::http2_endpoints::{self, Http2Endpoints};
use super::problem::Mistake;
use super::values::{count, duration, size, size_or_auto};

/// The most of `waitForRoom`: less than what a diverted connection had dialled is kept for (`intercept::TOO_OLD`).
const WAIT_FOR_ROOM: Duration = Duration::from_mins(2);

/// The most that weir holds, and the longest that it waits.
///
/// Counts are plain numbers; sizes are written `64KiB`, durations `250ms`, `10s`, `5m` or `1h`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `memory`: how much memory weir may use. `auto`, the default, is the limit of its cgroup; without one, a quarter of the
    /// machine's memory. Never more than the cgroup's limit. 16 MiB to 1 TiB.
    pub memory: Option<usize>,
    /// `connections`: open client connections per listener, tunnels included, of which each pod has its share; a quarter
    /// as many may wait. Default 10,000, or fewer if there are not enough file descriptors.
    pub connections: usize,
    /// `waitForRoom`: how long a connection waits when its listener is full and its pod has its share; then it is reset.
    /// 10 ms to 2 min, default 30 s.
    pub wait_for_room: Duration,
    /// `headerBytes`: bytes of a message's head, including its start line. 8 KiB to 1 MiB, default 64 KiB.
    pub header_bytes: usize,
    /// `headerCount`: fields of a message's head. 1 to 10,000, default 100.
    pub header_count: usize,
    /// `targetBytes`: bytes of a request target; longer is 414. 256 B to 64 KiB − 2, default 8 KiB
    /// (RFC 9112 §3 asks for at least 8,000).
    pub target_bytes: usize,
    /// `headerRead`: the time limit for reading a request's head. Default 10 s.
    pub header_read: Duration,
    /// `body`: how long a client may be silent within a request's body, while no answer has begun or after it is
    /// complete. Default 60 s.
    pub body: Duration,
    /// `response`: the time limit for an endpoint's response head, counted from the last byte of the request; then 504.
    /// Default 5 m.
    pub response: Duration,
    /// `halfClosed`: how long an exchange may be silent whose client has closed its sending side (FIN). 10 ms to 24 h,
    /// default 5 s.
    pub half_closed: Duration,
    /// `expectContinue`: how long to wait for an endpoint's answer to `Expect: 100-continue` before the body is sent
    /// anyway. 0 to 5 m, default 1 s.
    pub expect_continue: Duration,
    /// `interimAnswers`: the most interim answers (1xx) before the answer to one request; with more, the request is a
    /// 502, and the connection is closed. 1 to 10,000, default 100.
    pub interim_answers: usize,
    /// `interimBytes`: the total bytes of these. 1 KiB to 1 MiB, default 64 KiB.
    pub interim_bytes: usize,
    /// `idle`: how long a client's connection is kept between requests. Default 5 m.
    pub idle: Duration,
    /// `connect`: the time limit for a connect to an endpoint. Default 1 s (finagle's).
    pub connect: Duration,
    /// `headStart`: how long to wait for a connect to one address of a name outside the cluster before another address
    /// is tried in parallel (RFC 8305 §5, "Connection Attempt Delay"). 10 ms to 10 s, default 250 ms.
    pub head_start: Duration,
    /// `silence`: how long the node of an endpoint that owes an answer may acknowledge nothing, neither data nor the
    /// probe that TCP sends each second, before the connection is closed. A slow application, or one that does not
    /// read, is not affected: its node still acknowledges. 1 s to 2 m, default 3 s.
    pub silence: Duration,
    /// `unacknowledged`: how long the peer of an unused upstream connection, or a client, may leave probes unanswered
    /// before the connection is closed. Default 10 s.
    pub unacknowledged: Duration,
    /// `keepAlive`: how long such a connection may be silent before TCP sends keep-alive probes. Default 30 s.
    pub keep_alive: Duration,
    /// `connectTotal`: the total time of a request's failed connects, one endpoint after the other. Such attempts do
    /// not count as `attempts`. At least `connect`; default 3 s, or `connect` if that is more.
    pub connect_total: Duration,
    /// `tunnelIdle`: how long a byte tunnel, or an exchange whose answer has begun, may be silent in both directions. Default 1 h.
    pub tunnel_idle: Duration,
    /// `poolIdle`: how long an unused connection to an endpoint is kept. Default 60 s.
    pub pool_idle: Duration,
    /// `poolPurgeDelay`: how often half of the connections are closed that no request has needed since the last time.
    /// Default 5 s, as HAProxy's `pool-purge-delay`.
    pub pool_purge_delay: Duration,
    /// `poolConnections`: unused connections kept per endpoint and worker. Default 256.
    pub pool_connections: usize,
    /// `attempts`: endpoints that one request may reach, the first included. 1 to 10, default 3.
    pub attempts: usize,
    /// `retryAfter`: the longest time that an endpoint is left alone after a `Retry-After` with 429 or 503 (RFC 9110
    /// §10.2.3). 0 (not at all) to 1 h, default 1 m.
    pub retry_after: Duration,
    /// `copyBuffer`: bytes buffered per direction of a byte tunnel. 1 KiB to 1 MiB, default 16 KiB.
    pub copy_buffer: usize,
    /// `pipes`: the most pipes through which the kernel moves the bytes of tunnels that stream, one for each direction; two
    /// descriptors each, and at most one of 32 descriptors is one of theirs. 0 (none: all is copied) to 65,536, default 256.
    pub pipes: usize,
    /// `sniff`: how long a diverted connection may stay silent before weir connects upstream, since the server may
    /// speak first. Default 200 ms.
    pub sniff: Duration,
    /// `firstList`: how long a request that depends on the cluster's services may wait for their first list. Its answer
    /// still may not take longer than `response`. 0 (not at all) to 30 s, default 2 s.
    pub first_list: Duration,
    /// `outside`: the most names outside the catalog that are cached with their endpoints; the least recently used one
    /// is evicted. Default 1,000.
    pub outside: usize,
    /// `dnsLookups`: concurrent look-ups of names outside the cluster, of which each pod has its share. 2 to 10,000, default 256.
    pub dns_lookups: usize,
    /// `addresses`: the most addresses used of one name outside the cluster, at least half of them for each family if
    /// it has them. 2 to 4,096, default 64.
    pub addresses: usize,
    /// `dnsQuestions`: the most DNS queries for one request, whose name may have many alternatives. Each name takes
    /// two, for its IPv4 and its IPv6 addresses. 2 to 1,000, default 8.
    pub dns_questions: usize,
    /// `bindings`: the most bound names in the cache of each worker; those not used recently are evicted. 1 to
    /// 1,000,000, default 20,000.
    pub bindings: usize,
    /// `bindingIdle`: how long an unused name stays in that cache. 1 s to 24 h, default 10 m (linkerd's).
    pub binding_idle: Duration,
    /// `receiveBuffer`: the most bytes that the kernel buffers of what one client or endpoint has sent and weir has not read
    /// (SO_RCVBUF). `auto`, the default, is a 1,024th of the memory budget, 64 KiB to 1 MiB. 0 leaves it to the kernel on the
    /// node (tcp_rmem), which finds out what each path needs, and is `auto` in pods. Up to 64 MiB.
    pub receive_buffer: Option<usize>,
    /// `notSent`: more is written to a connection only while the kernel has fewer bytes of it than this to send
    /// (TCP_NOTSENT_LOWAT). 0 (as many as its send buffer holds) to 64 MiB, default 128 KiB.
    pub not_sent: usize,
    /// `clusters`: the most service ports whose state is kept although nobody uses them: with more, those are forgotten that
    /// were unused for 10 s, with counters and estimates. 1 to 1,000,000, default 1,000.
    pub clusters: usize,
    /// `clusterIdle`: how long an unused one is kept otherwise. 10 s to 7 d, default 1 h.
    pub cluster_idle: Duration,
    /// `idleConnections`: the most unused connections to endpoints, of all workers together; with more, the least recently
    /// used ones are closed, and with more than an eighth of these, those that were unused for 20 s. 1 to 1,000,000,
    /// default 4096.
    pub idle_connections: usize,
    /// `tuples`: the most diverted connections waiting to be accepted; beyond that, the oldest ones lose their original
    /// destination and are closed. 136 bytes of kernel memory each. 256 to 4,194,304, default 65,536.
    pub tuples: u32,
    /// `destinations`: entries in the table of diverted destinations, one per address of a service; further ones go
    /// direct. 96 bytes of kernel memory per used entry. 1 to 1,000,000, default 65,536.
    pub destinations: u32,
    /// `http2`: the bounds of clients' HTTP/2 connections.
    pub http2: Http2Clients,
    /// `http2Endpoints`: the bounds of HTTP/2 connections to endpoints.
    pub http2_endpoints: Http2Endpoints,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: None,
            connections: 10_000,
            wait_for_room: Duration::from_secs(30),
            header_bytes: 64 * 1024,
            header_count: 100,
            target_bytes: 8 * 1024,
            header_read: Duration::from_secs(10),
            body: Duration::from_secs(60),
            response: Duration::from_secs(300),
            half_closed: Duration::from_secs(5),
            expect_continue: Duration::from_secs(1),
            interim_answers: 100,
            interim_bytes: 64 * 1024,
            idle: Duration::from_secs(300),
            connect: Duration::from_secs(1),
            connect_total: Duration::from_secs(3),
            head_start: Duration::from_millis(250),
            silence: Duration::from_secs(3),
            unacknowledged: Duration::from_secs(10),
            keep_alive: Duration::from_secs(30),
            tunnel_idle: Duration::from_secs(3600),
            pool_idle: Duration::from_secs(60),
            pool_purge_delay: Duration::from_secs(5),
            pool_connections: 256,
            attempts: 3,
            retry_after: Duration::from_secs(60),
            copy_buffer: 16 * 1024,
            pipes: 256,
            sniff: Duration::from_millis(200),
            first_list: Duration::from_secs(2),
            outside: 1000,
            dns_lookups: 256,
            addresses: 64,
            dns_questions: 8,
            bindings: 20_000,
            binding_idle: Duration::from_secs(600),
            receive_buffer: None,
            not_sent: 128 * 1024,
            clusters: 1_000,
            cluster_idle: Duration::from_secs(3600),
            idle_connections: 4096,
            tuples: 65_536,
            destinations: 65_536,
            http2: Http2Clients::default(),
            http2_endpoints: Http2Endpoints::default(),
        }
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const DAY: Duration = Duration::from_hours(24);
const MS: Duration = Duration::from_millis(1);

pub(super) fn read(mut section: Section<'_, '_>) -> Limits {
    let mut limits = Limits::default();
    section.set("memory", &mut limits.memory, size_or_auto(16 * MIB..=MIB * MIB));
    section.set("connections", &mut limits.connections, count(1..=1_000_000));
    section.set("waitForRoom", &mut limits.wait_for_room, duration(10 * MS..=WAIT_FOR_ROOM));
    section.set("headerBytes", &mut limits.header_bytes, size(8 * KIB..=MIB));
    section.set("headerCount", &mut limits.header_count, count(1..=10_000));
    section.set("targetBytes", &mut limits.target_bytes, size(256..=64 * KIB - 2));
    section.set("headerRead", &mut limits.header_read, duration(MS..=Duration::from_hours(1)));
    section.set("body", &mut limits.body, duration(MS..=DAY));
    section.set("response", &mut limits.response, duration(MS..=DAY));
    section.set("halfClosed", &mut limits.half_closed, duration(10 * MS..=DAY));
    let expect_continue = duration(Duration::ZERO..=Duration::from_mins(5));
    section.set("expectContinue", &mut limits.expect_continue, expect_continue);
    section.set("interimAnswers", &mut limits.interim_answers, count(1..=10_000));
    section.set("interimBytes", &mut limits.interim_bytes, size(KIB..=MIB));
    section.set("idle", &mut limits.idle, duration(MS..=DAY));
    section.set("connect", &mut limits.connect, duration(MS..=Duration::from_mins(5)));
    section.set("headStart", &mut limits.head_start, duration(10 * MS..=Duration::from_secs(10)));
    section.set("silence", &mut limits.silence, duration(1000 * MS..=Duration::from_mins(2)));
    section.set("unacknowledged", &mut limits.unacknowledged, duration(1000 * MS..=Duration::from_hours(1)));
    section.set("keepAlive", &mut limits.keep_alive, duration(1000 * MS..=Duration::from_hours(1)));
    limits.connect_total = limits.connect_total.max(limits.connect);
    section.set("connectTotal", &mut limits.connect_total, duration(MS..=Duration::from_mins(10)));
    section.set("tunnelIdle", &mut limits.tunnel_idle, duration(MS..=7 * DAY));
    section.set("poolIdle", &mut limits.pool_idle, duration(MS..=DAY));
    section.set("poolPurgeDelay", &mut limits.pool_purge_delay, duration(500 * MS..=DAY));
    section.set("poolConnections", &mut limits.pool_connections, count(0..=100_000));
    section.set("attempts", &mut limits.attempts, count(1..=10));
    section.set("retryAfter", &mut limits.retry_after, duration(Duration::ZERO..=Duration::from_hours(1)));
    section.set("copyBuffer", &mut limits.copy_buffer, size(KIB..=MIB));
    section.set("pipes", &mut limits.pipes, count(0..=65_536));
    section.set("sniff", &mut limits.sniff, duration(Duration::ZERO..=Duration::from_secs(10)));
    section.set("firstList", &mut limits.first_list, duration(Duration::ZERO..=Duration::from_secs(30)));
    section.set("outside", &mut limits.outside, count(1..=1_000_000));
    section.set("dnsLookups", &mut limits.dns_lookups, count(2..=10_000));
    section.set("addresses", &mut limits.addresses, count(2..=4096));
    section.set("dnsQuestions", &mut limits.dns_questions, count(2..=1000));
    section.set("bindings", &mut limits.bindings, count(1..=1_000_000));
    section.set("bindingIdle", &mut limits.binding_idle, duration(1000 * MS..=DAY));
    kept(&mut section, &mut limits);
    section.set("tuples", &mut limits.tuples, count(256..=4_194_304));
    section.set("destinations", &mut limits.destinations, count(1..=1_000_000));
    if let Some(http2) = section.section("http2") {
        limits.http2 = http2_clients::read(http2);
    }
    if let Some(section) = section.section("http2Endpoints") {
        limits.http2_endpoints = http2_endpoints::read(section);
    }
    check(&limits, &mut section);
    section.finish();
    limits
}

/// What the kernel holds of connections, and what is kept although nobody uses it.
fn kept(section: &mut Section<'_, '_>, limits: &mut Limits) {
    section.set("receiveBuffer", &mut limits.receive_buffer, size_or_auto(0..=64 * MIB));
    section.set("notSent", &mut limits.not_sent, size(0..=64 * MIB));
    section.set("clusters", &mut limits.clusters, count(1..=1_000_000));
    section.set("clusterIdle", &mut limits.cluster_idle, duration(10_000 * MS..=7 * DAY));
    section.set("idleConnections", &mut limits.idle_connections, count(1..=1_000_000));
}

/// Bounds that contradict each other.
fn check(limits: &Limits, section: &mut Section<'_, '_>) {
    if limits.target_bytes > limits.header_bytes {
        let mistake = Mistake::new("a request target cannot be longer than the head it is part of")
            .hint(format!("`headerBytes` is {}", limits.header_bytes));
        section.mistake("targetBytes", mistake);
    }
    if limits.connect_total < limits.connect {
        let mistake = Mistake::new("one connect cannot take longer than all together")
            .hint(format!("`connect` is {:?}", limits.connect));
        section.mistake("connectTotal", mistake);
    }
}
