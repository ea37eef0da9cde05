//! From whole files to settings or positions of mistakes.

mod bounds;
mod examples;
mod identifiers;
mod identity;
mod mistakes;
mod policies;
mod routers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

fn parsed(text: &str) -> Settings {
    parse("weir.yaml", text, Path::new("/etc/weir")).unwrap_or_else(|error| panic!("{error}"))
}

fn problems(text: &str) -> Vec<String> {
    match parse("weir.yaml", text, Path::new("/etc/weir")) {
        Ok(settings) => panic!("accepted: {settings:?}"),
        Err(error) => error.problems.iter().map(ToString::to_string).collect(),
    }
}

/// Asserts that the problems of `text` start with `expected`, in that order, and that there are no others.
fn assert_problems(text: &str, expected: &[&str]) {
    let found = problems(text);
    assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{text}\nfound    {found}\nexpected {expected}");
    }
}

#[test]
fn no_file_and_an_empty_file_are_the_defaults() {
    assert_eq!(load(None), Ok(Settings::default()));
    for text in ["", "\n\n", "# only a comment\n", "---\n", "~", "{}", "outgoing:\nlimits:\n", "drain: {}"] {
        assert_eq!(parsed(text), Settings::default(), "{text:?}");
    }
}

#[test]
fn the_example_of_the_interface_says_what_it_says() {
    let settings = parsed(
        r#"
outgoing:    { listen: "[::]:4140", allow: [10.0.0.0/8] }
transparent:                      # absent = off
  listen: "[::]:4142"             # first of `ports` consecutive ports
  ports: 8
  addresses: [10.0.0.7, fd00::7]
  cgroup: /sys/fs/cgroup/kubepods.slice
  divert: [10.96.0.0/12]
  host: false
  required: true
admin:       { listen: 127.0.0.1:9990 }
probes:      { listen: "[::]:9991" }
workers: 2
names:       { namespace: default, port: http, clusterDomain: cluster.local, dns: true }
drain:       { grace: 10s }
discovery:
  files: { path: ./services }
"#,
    );
    let net = |text: &str| text.parse().expect("a range");
    assert_eq!(settings.outgoing.allow, Allow::new(vec![net("10.0.0.0/8")]));
    let transparent = settings.transparent.expect("transparent is on");
    assert_eq!(transparent.addresses.len(), 2);
    assert_eq!(transparent.divert, Some(vec![net("10.96.0.0/12")]));
    assert_eq!(transparent.cgroup.as_deref(), Some(Path::new("/sys/fs/cgroup/kubepods.slice")));
    assert_eq!(settings.probes, Some(Probes::default()));
    assert_eq!(settings.workers, 2);
    assert_eq!(settings.names, Names::default());
    let files = settings.discovery.files.expect("files are on");
    assert_eq!(files, Files::at(PathBuf::from("/etc/weir/./services")));
    let files = parsed("discovery: { files: { path: /s, fileCount: 5, fileBytes: 1MiB } }\n").discovery.files;
    assert_eq!(files, Some(Files { file_count: 5, file_bytes: 1 << 20, ..Files::at("/s".into()) }));
}

#[test]
fn every_other_key_is_read() {
    let settings = parsed(
        "transparent: { fail: closed, via: true, host: true, required: false, ports: 1 }\n\
         outgoing: { via: false, connectPorts: \"443,8000-9000\", tls: sni }\n\
         names: { namespace: shop, port: web, clusterDomain: K8s.Example., clusterRanges: [20.0.0.0/8], dns: false }\n\
         refuse: [10.200.0.0/16, \"fd77::1\"]\n\
         breaker: { failures: 3, backoff: { min: 1s, max: 2m } }\n\
         log: { format: json, level: debug, queue: 12 }\n\
         admin: { hosts: [Weir.Example.com.], tokenFile: ./token }\n\
         limits:\n  memory: 100MiB\n  clusters: 13\n  clusterIdle: 20s\n  idleConnections: 14\n  receiveBuffer: 64KiB\n  notSent: 0\n  connections: 7\n  waitForRoom: 4s\n  headerBytes: 16KiB\n  headerCount: 50\n  targetBytes: 4096\n  headerRead: 5s\n  body: 6s\n  response: 7s\n  halfClosed: 8s\n  expectContinue: 0s\n  interimAnswers: 3\n  interimBytes: 2KiB\n  silence: 2s\n  unacknowledged: 8s\n  keepAlive: 9s\n  \
         idle: 1m\n  connect: 250ms\n  connectTotal: 900ms\n  headStart: 80ms\n  tunnelIdle: 2h\n  poolIdle: 30s\n  poolPurgeDelay: 9s\n  poolConnections: 8\n  attempts: 2\n  \
         retryAfter: 0s\n  copyBuffer: 8KiB\n  pipes: 0\n  sniff: 0s\n  firstList: 3s\n  outside: 10\n  dnsLookups: 12\n  addresses: 6\n  dnsQuestions: 4\n  bindings: 11\n  bindingIdle: 90s\n  tuples: 512\n  destinations: 20\n  \
         http2: { maxConcurrentStreams: 9, streamWindow: 32KiB, connectionWindow: 64KiB, windowWait: 4s, ping: 0s, pingTimeout: 3s, idleFrames: 11, resets: 12, streamErrors: 13 }\n  \
         http2Endpoints: { streams: 5, connections: 3, window: 32KiB, ping: 0s, pingTimeout: 2s, replayBytes: 0, replayTotal: 1KiB }\n",
    );
    let transparent = settings.transparent.expect("transparent is on");
    assert_eq!(transparent.fail, Fail::Closed);
    assert!(transparent.via && transparent.host && !transparent.required && !settings.outgoing.via);
    assert_eq!(settings.outgoing.tunnels.ports.ranges(), [(443, 443), (8000, 9000)]);
    assert_eq!(settings.outgoing.tunnels.tls, TlsClients::Sni);
    assert_eq!(settings.names.cluster_domain, "k8s.example");
    assert_eq!((settings.names.namespace.as_str(), settings.names.port.as_str()), ("shop", "web"));
    assert_eq!(settings.names.cluster_ranges, Allow::new(vec!["20.0.0.0/8".parse().expect("a range")]));
    assert_eq!(settings.names.dns, None);
    assert_eq!(settings.refuse, ["10.200.0.0/16", "fd77::1/128"].map(|it| it.parse().unwrap()));
    assert_eq!(settings.breaker.failures, 3);
    assert_eq!(settings.breaker.backoff.max, Duration::from_secs(120));
    assert_eq!(settings.admin.hosts, ["weir.example.com"]);
    assert_eq!(settings.admin.token_file.as_deref(), Some(Path::new("/etc/weir/./token")));
    assert_eq!(settings.log, Log { format: LogFormat::Json, level: Level::Debug, queue: 12 });
    let limits = Limits {
        memory: Some(100 << 20),
        clusters: 13,
        cluster_idle: Duration::from_secs(20),
        idle_connections: 14,
        receive_buffer: Some(65_536),
        not_sent: 0,
        connections: 7,
        wait_for_room: Duration::from_secs(4),
        header_bytes: 16_384,
        header_count: 50,
        target_bytes: 4096,
        header_read: Duration::from_secs(5),
        body: Duration::from_secs(6),
        response: Duration::from_secs(7),
        silence: Duration::from_secs(2),
        unacknowledged: Duration::from_secs(8),
        keep_alive: Duration::from_secs(9),
        half_closed: Duration::from_secs(8),
        expect_continue: Duration::ZERO,
        interim_answers: 3,
        interim_bytes: 2048,
        idle: Duration::from_secs(60),
        connect: Duration::from_millis(250),
        connect_total: Duration::from_millis(900),
        head_start: Duration::from_millis(80),
        tunnel_idle: Duration::from_secs(7200),
        pool_idle: Duration::from_secs(30),
        pool_purge_delay: Duration::from_secs(9),
        pool_connections: 8,
        attempts: 2,
        retry_after: Duration::ZERO,
        copy_buffer: 8192,
        pipes: 0,
        sniff: Duration::ZERO,
        first_list: Duration::from_secs(3),
        outside: 10,
        dns_lookups: 12,
        addresses: 6,
        dns_questions: 4,
        bindings: 11,
        binding_idle: Duration::from_secs(90),
        tuples: 512,
        destinations: 20,
        http2: Http2Clients {
            streams: 9,
            stream_window: 32_768,
            connection_window: 65_536,
            window_wait: Duration::from_secs(4),
            ping: Duration::ZERO,
            ping_timeout: Duration::from_secs(3),
            idle_frames: 11,
            resets: 12,
            stream_errors: 13,
        },
        http2_endpoints: Http2Endpoints {
            streams: 5,
            connections: 3,
            window: 32_768,
            ping: Duration::ZERO,
            ping_timeout: Duration::from_secs(2),
            replay_bytes: 0,
            replay_total: 1024,
        },
    };
    assert_eq!(settings.limits, limits);
}

#[test]
fn a_longer_connect_has_time_where_nothing_is_said_of_all_together() {
    assert_eq!(parsed("limits: { connect: 30s }\n").limits.connect_total, Duration::from_secs(30));
    assert_eq!(parsed("limits: { connect: 2s }\n").limits.connect_total, Duration::from_secs(3));
}

#[test]
fn ports_of_tunnels_are_a_number_a_list_or_none() {
    let ranges = |text: &str| parsed(text).outgoing.tunnels.ports.ranges().to_vec();
    assert_eq!(ranges(""), [(443, 443)]);
    assert_eq!(ranges("outgoing: { connectPorts: 8443 }\n"), [(8443, 8443)]);
    assert_eq!(ranges("outgoing: { connectPorts: 1-65535 }\n"), [(1, 65_535)]);
    assert_eq!(ranges("outgoing: { connectPorts: none }\n"), []);
    for (wrong, mistake) in [
        ("0", "`0` is neither a port (1 to 65535) nor a range as in 9000-9010: ignored"),
        ("https", "`https` is neither a port (1 to 65535) nor a range as in 9000-9010: ignored"),
        ("\"\"", "no port"),
    ] {
        assert_problems(
            &format!("outgoing: {{ connectPorts: {wrong} }}\n"),
            &[&format!(
                "weir.yaml:1:27: outgoing.connectPorts: {mistake} (write it as 443, \"443,8443,9000-9010\", 1-65535 or none)"
            )],
        );
    }
}

#[test]
fn dns_is_a_word_or_a_section() {
    assert_eq!(parsed("names: { dns: true }\n").names.dns, Some(Dns::default()));
    let dns = parsed("names: { dns: { servers: [10.0.0.2, \"[fd00::2]:5353\"], timeout: 3s } }\n").names.dns;
    let servers = ["10.0.0.2:53", "[fd00::2]:5353"].map(|it| it.parse().expect("an address")).to_vec();
    assert_eq!(dns, Some(Dns { servers, timeout: Duration::from_secs(3) }));
    assert_problems(
        "names: { dns: { servers: [dns.example], timeout: 0s } }\n",
        &[
            "weir.yaml:1:27: names.dns.servers[0]: `dns.example` is not the address of a server (write it as \
             10.96.0.10, \"10.96.0.10:5353\" or \"[fd00::10]:53\")",
            "weir.yaml:1:50: names.dns.timeout: `0s` is not from 100ms to 1m",
        ],
    );
}

#[test]
fn the_metrics_are_read_by_token_on_kubernetes_and_else_by_whoever_may_connect() {
    let (nobody, net) = (Allow::new(Vec::new()), |text: &str| Allow::new(vec![text.parse().unwrap()]));
    let kubernetes = "discovery: { kubernetes: {} }";
    for (text, allow, tokens) in [
        ("", nobody.clone(), false),
        ("probes: {}", Allow::default(), false),
        ("probes: { allow: [10.0.0.0/8] }", net("10.0.0.0/8"), false),
        ("probes: { metrics: { allow: [10.1.0.0/16] } }", net("10.1.0.0/16"), false),
        (&format!("probes: {{}}\n{kubernetes}"), nobody.clone(), true),
        (&format!("probes: {{ allow: [10.0.0.0/8] }}\n{kubernetes}"), nobody.clone(), true),
        (
            &format!("probes: {{ metrics: {{ allow: [10.1.0.0/16] }} }}\n{kubernetes}"),
            net("10.1.0.0/16"),
            true,
        ),
        (&format!("probes: {{ metrics: {{ tokens: false }} }}\n{kubernetes}"), nobody, false),
    ] {
        assert_eq!(parsed(text).readers(), Readers { allow, tokens }, "{text}");
    }
    let tls = parsed("probes: { tls: { certificate: tls.crt, key: /k } }").probes.unwrap().tls.unwrap();
    assert_eq!(tls.certificate, Path::new("/etc/weir/tls.crt"));
    assert_eq!(tls.key, Path::new("/k"));
}

#[test]
fn an_alias_stands_for_its_anchor_and_errors_point_at_the_alias() {
    let settings = parsed("outgoing: { allow: &in [10.0.0.0/8] }\nadmin: { allow: *in }");
    assert_eq!(settings.outgoing.allow, settings.admin.allow);
    assert_problems(
        "outgoing: { allow: &in [127.0.0.1] }\nadmin: { listen: *in }",
        &["weir.yaml:2:18: admin.listen: expected a text, not a list"],
    );
}

#[test]
fn a_relative_folder_is_relative_to_the_configuration_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, "discovery: { files: { path: services } }").unwrap();
    let files = load(Some(&file)).unwrap().discovery.files.unwrap();
    assert_eq!(files.path, folder.path().join("services"));
}

#[test]
fn at_the_transparent_door_the_diversion_is_the_permission_unless_the_file_says_otherwise() {
    let public = "203.0.113.5".parse().expect("an address");
    let allows = |text: &str| parsed(text).transparent.expect("it is on").allow.permits(public);
    assert!(allows("transparent: {}\n"));
    assert!(!allows("transparent: { allow: [10.0.0.0/8] }\n"));
    assert!(!parsed("").outgoing.allow.permits(public));
}

#[test]
fn in_a_cluster_pods_are_enrolled_one_by_one_unless_the_file_says_otherwise() {
    assert_eq!(parsed("transparent: {}").enrol(), Enrol::All);
    assert_eq!(parsed("transparent: {}\ndiscovery: { kubernetes: {} }").enrol(), Enrol::Pods);
    assert_eq!(parsed("transparent: { enrol: all }\ndiscovery: { kubernetes: {} }").enrol(), Enrol::All);
}

#[test]
fn who_relies_on_fail_closed_needs_interception_whatever_required_says() {
    let due = |text: &str| parsed(text).transparent.expect("it is on").is_due();
    assert!(due("transparent: {}\n"));
    assert!(!due("transparent: { required: false }\n"));
    assert!(due("transparent: { required: false, fail: closed }\n"));
}

#[test]
fn an_empty_file_is_every_default_at_start_and_a_mistake_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.yaml");
    for empty in ["", " \n\n", "# workers: 1\n  # and so on"] {
        std::fs::write(&path, empty).unwrap();
        assert_eq!(load(Some(&path)).unwrap(), Settings::default());
        let why = load_again(&path).unwrap_err().to_string();
        assert!(why.contains("empty"), "{why}");
    }
    std::fs::write(&path, "{}").unwrap();
    assert_eq!(load_again(&path).unwrap(), Settings::default());
}
