//! `limits`: every bound on a buffer, a table or a wait.

use std::time::Duration;

use super::fields::Section;
use super::problem::Mistake;
use super::values::{count, duration, size};

/// What weir holds at most, and how long it waits at most.
///
/// Counts are plain numbers; sizes are written `64KiB`, durations `250ms`, `10s`, `5m` or `1h`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `connections`: open client connections per listener, tunnels included; more are left in the accept queue. Default 10,000,
    /// or as many as descriptors leave room for.
    pub connections: usize,
    /// `headerBytes`: bytes of one message's head, its start line included. 8 KiB to 1 MiB, default 64 KiB.
    pub header_bytes: usize,
    /// `headerCount`: fields of one message's head. 1 to 10,000, default 100.
    pub header_count: usize,
    /// `targetBytes`: bytes of a request target; longer is 414. 256 B to 64 KiB − 2, default 8 KiB
    /// (RFC 9112 §3 asks for at least 8,000).
    pub target_bytes: usize,
    /// `headerRead`: how long a client may take over a request head. Default 10 s.
    pub header_read: Duration,
    /// `body`: how long a client may be silent in the middle of a request's body. Default 60 s.
    pub body: Duration,
    /// `response`: how long an endpoint may take over an answer's head, counted from the last byte of the request;
    /// longer is 504. Default 5 m.
    pub response: Duration,
    /// `expectContinue`: how long an endpoint may keep silent that was asked whether it wants a body (`Expect:
    /// 100-continue`), before the body is sent all the same. 0 to 5 m, default 1 s.
    pub expect_continue: Duration,
    /// `interimAnswers`: interim answers (1xx) that an endpoint may send before its answer to one request; with more, the
    /// request is a 502, and the connection is closed. 1 to 10,000, default 100.
    pub interim_answers: usize,
    /// `interimBytes`: bytes of all of them together. 1 KiB to 1 MiB, default 64 KiB.
    pub interim_bytes: usize,
    /// `idle`: how long a client's connection is kept between requests. Default 5 m.
    pub idle: Duration,
    /// `connect`: how long a connect to an endpoint may take. Default 1 s (finagle's).
    pub connect: Duration,
    /// `headStart`: how long a connect to one address of a name outside may take before another address of it is tried
    /// beside it (RFC 8305 §5, "Connection Attempt Delay"). 10 ms to 10 s, default 250 ms.
    pub head_start: Duration,
    /// `silence`: how long the node of an endpoint that owes an answer may acknowledge nothing, neither data nor a probe that
    /// TCP sends each second, before the connection is given up. An application may take longer, and leave unread what it
    /// is sent: its node acknowledges that all the same. 1 s to 2 m, default 3 s.
    pub silence: Duration,
    /// `unacknowledged`: how long the far side of a connection that is not in use, or that of a client, may leave probes
    /// unanswered before the connection is given up. Default 10 s.
    pub unacknowledged: Duration,
    /// `keepAlive`: how long such a connection may be silent before TCP asks whether the far side is there. Default 30 s.
    pub keep_alive: Duration,
    /// `connectTotal`: how long a request may go from one endpoint that does not take its connection to the next. Such
    /// attempts do not count as `attempts`. At least `connect`; default 3 s, or `connect` where that is more.
    pub connect_total: Duration,
    /// `tunnelIdle`: how long a byte tunnel may be silent in both directions. Default 1 h.
    pub tunnel_idle: Duration,
    /// `poolIdle`: how long an unused connection to an endpoint is kept. Default 60 s.
    pub pool_idle: Duration,
    /// `poolConnections`: unused connections kept per endpoint and worker. Default 256.
    pub pool_connections: usize,
    /// `attempts`: endpoints that one request may reach, the first included. 1 to 10, default 3.
    pub attempts: usize,
    /// `retryAfter`: how long an endpoint is left alone at most that asks for it by `Retry-After` beside 429 or 503 (RFC 9110
    /// §10.2.3). 0 (not at all) to 1 h, default 1 m.
    pub retry_after: Duration,
    /// `copyBuffer`: bytes buffered per direction of a byte tunnel. 1 KiB to 1 MiB, default 16 KiB.
    pub copy_buffer: usize,
    /// `sniff`: how long a diverted connection may stay silent before weir connects upstream, because perhaps
    /// the server speaks first. Default 200 ms.
    pub sniff: Duration,
    /// `firstList`: how long a request may wait for the first list of the cluster's services, if it depends on them. Its answer
    /// may not take longer than `response` all the same. 0 (not at all) to 30 s, default 2 s.
    pub first_list: Duration,
    /// `outside`: names outside the catalog that are remembered with their endpoints; the least recently used
    /// goes. Default 1,000.
    pub outside: usize,
    /// `dnsLookups`: names outside that are looked up at the same time; one client has at most a quarter as many as are
    /// free then. 2 to 10,000, default 256.
    pub dns_lookups: usize,
    /// `addresses`: addresses of one name outside that are used, of each family at least half as many where it has them.
    /// 2 to 4,096, default 64.
    pub addresses: usize,
    /// `dnsQuestions`: questions that DNS may be asked for one request, whose name may have many alternatives. Each name
    /// takes two, for its IPv4 and its IPv6 addresses. 2 to 1,000, default 8.
    pub dns_questions: usize,
    /// `bindings`: names that each worker remembers with where they lead; with more, those make room that were not used
    /// lately. 1 to 1,000,000, default 20,000.
    pub bindings: usize,
    /// `bindingIdle`: how long a name is remembered that nobody asks for. 1 s to 24 h, default 10 m (linkerd's).
    pub binding_idle: Duration,
    /// `tuples`: diverted connections that may wait for weir to accept them; beyond, the oldest lose their dialled address
    /// and are closed. 136 bytes of kernel memory each. 256 to 4,194,304, default 65,536.
    pub tuples: u32,
    /// `destinations`: entries of the table of diverted destinations, one for each address of a service; those beyond it
    /// go direct. 96 bytes of kernel memory for each one in use. 1 to 1,000,000, default 65,536.
    pub destinations: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_bytes: 64 * 1024,
            header_count: 100,
            target_bytes: 8 * 1024,
            header_read: Duration::from_secs(10),
            body: Duration::from_secs(60),
            response: Duration::from_secs(300),
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
            pool_connections: 256,
            attempts: 3,
            retry_after: Duration::from_secs(60),
            copy_buffer: 16 * 1024,
            sniff: Duration::from_millis(200),
            first_list: Duration::from_secs(2),
            outside: 1000,
            dns_lookups: 256,
            addresses: 64,
            dns_questions: 8,
            bindings: 20_000,
            binding_idle: Duration::from_secs(600),
            tuples: 65_536,
            destinations: 65_536,
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>) -> Limits {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    const DAY: Duration = Duration::from_hours(24);
    const MS: Duration = Duration::from_millis(1);
    let mut limits = Limits::default();
    section.set("connections", &mut limits.connections, count(1..=1_000_000));
    section.set("headerBytes", &mut limits.header_bytes, size(8 * KIB..=MIB));
    section.set("headerCount", &mut limits.header_count, count(1..=10_000));
    section.set("targetBytes", &mut limits.target_bytes, size(256..=64 * KIB - 2));
    section.set("headerRead", &mut limits.header_read, duration(MS..=Duration::from_hours(1)));
    section.set("body", &mut limits.body, duration(MS..=DAY));
    section.set("response", &mut limits.response, duration(MS..=DAY));
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
    section.set("poolConnections", &mut limits.pool_connections, count(0..=100_000));
    section.set("attempts", &mut limits.attempts, count(1..=10));
    section.set("retryAfter", &mut limits.retry_after, duration(Duration::ZERO..=Duration::from_hours(1)));
    section.set("copyBuffer", &mut limits.copy_buffer, size(KIB..=MIB));
    section.set("sniff", &mut limits.sniff, duration(Duration::ZERO..=Duration::from_secs(10)));
    section.set("firstList", &mut limits.first_list, duration(Duration::ZERO..=Duration::from_secs(30)));
    section.set("outside", &mut limits.outside, count(1..=1_000_000));
    section.set("dnsLookups", &mut limits.dns_lookups, count(2..=10_000));
    section.set("addresses", &mut limits.addresses, count(2..=4096));
    section.set("dnsQuestions", &mut limits.dns_questions, count(2..=1000));
    section.set("bindings", &mut limits.bindings, count(1..=1_000_000));
    section.set("bindingIdle", &mut limits.binding_idle, duration(1000 * MS..=DAY));
    section.set("tuples", &mut limits.tuples, count(256..=4_194_304));
    section.set("destinations", &mut limits.destinations, count(1..=1_000_000));
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
    section.finish();
    limits
}
