//! What a mistake is called, and where it is said to be.

use super::*;

#[test]
fn a_file_of_another_format_is_called_by_its_name() {
    assert_problems(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: weir }\n",
        &["weir.yaml:1:1: a Kubernetes object, not weir's configuration"],
    );
    assert_problems(
        "admin: { port: 9990 }\nrouters: [{ protocol: http }]\n",
        &["weir.yaml:1:1: linkerd's configuration, not weir's (`weir import FILE` makes weir's of it)"],
    );
    let problems =
        parse("weir.yaml", "zzzzzzzz: 1\n", Path::new("")).expect_err("an unknown key").to_string();
    assert!(problems.contains("known here: outgoing, transparent, identity, admin,"), "{problems}");
}

#[test]
fn all_mistakes_come_at_once_and_in_order() {
    assert_problems(
        "outgoing:\n  lisen: \"[::]:4140\"\n  allow: [10.0.0.0/8, ten, 10.0.0.7/8]\nworkers: 65\ndrain: { grace: 10 }\n\
         incoming: { listen: \"[::]:4141\" }\ndtab: |\n  /svc = /x ;\ndiscovery:\n  kubernetes: { node: \"a b\" }\n",
        &[
            "weir.yaml:2:3: outgoing: unknown key `lisen` (did you mean `listen`?)",
            "weir.yaml:3:23: outgoing.allow[1]: `ten` is not a range of addresses",
            "weir.yaml:3:28: outgoing.allow[2]: `10.0.0.7/8` has bits beyond its prefix (the range is 10.0.0.0/8; the \
             one address 10.0.0.7)",
            "weir.yaml:4:10: workers: 65 is not from 1 to 64",
            "weir.yaml:5:17: drain.grace: `10` is not a duration (a whole number with its unit: 250ms, 10s, 5m or 1h)",
            "weir.yaml:6:1: incoming: not in this version yet",
            "weir.yaml:8:8: dtab: expected `=>`, found `=`",
            "weir.yaml:10:23: discovery.kubernetes.node: no name of a node (letters, digits, `-` and `.`; see `kubectl get nodes`)",
        ],
    );
}

#[test]
fn mistakes_about_direct_connections_and_sources_are_reported() {
    for (text, expected) in [
        (
            "transparent: { adopt: all }",
            "weir.yaml:1:23: transparent.adopt: `all` is not a choice (one of count, close-idle, off",
        ),
        ("transparent: { adoptIdle: 10 }", "weir.yaml:1:27: transparent.adoptIdle: `10` is not a duration"),
        (
            "transparent: { adoptEvery: 10ms }",
            "weir.yaml:1:28: transparent.adoptEvery: `10ms` is not from 1s to 1h",
        ),
        (
            "transparent: { sourceAddresses: [all] }",
            "weir.yaml:1:34: transparent.sourceAddresses[0]: `all` is not an IP address",
        ),
        (
            "transparent: { sockets: pod, sourceAddresses: [10.0.0.1] }",
            "weir.yaml:1:47: transparent.sourceAddresses: with `sockets: pod` connections to endpoints come from",
        ),
    ] {
        let found = problems(text);
        assert!(found[0].starts_with(expected), "{text}\nfound    {}\nexpected {expected}", found[0]);
    }
}

#[test]
fn a_mistake_about_the_next_weir_is_reported_where_it_stands() {
    for (text, expected) in [
        ("drain: { handover: }", "weir.yaml:1:10: drain.handover: this section is empty"),
        ("drain: { handover: { socket: \"\" } }", "weir.yaml:1:30: drain.handover.socket: no path"),
        ("drain: { handover: { ready: 0s } }", "weir.yaml:1:29: drain.handover.ready: "),
        ("drain: { handover: { name: weir } }", "weir.yaml:1:22: drain.handover: unknown key `name`"),
        ("probes: { socket: [] }", "weir.yaml:1:19: probes.socket: expected a text"),
        ("drain: { handover: { grace: 25h } }", "weir.yaml:1:29: drain.handover.grace: "),
        (
            "transparent: { ports: 1 }\ndrain: { handover: {} }",
            "weir.yaml:2:20: drain.handover: each of two weirs needs a port",
        ),
    ] {
        let found = problems(text);
        assert!(found[0].starts_with(expected), "{text}\nfound    {}\nexpected {expected}", found[0]);
    }
}

#[test]
fn a_mistake_is_reported_where_it_stands() {
    for (text, expected) in [
        ("- a\n", "weir.yaml:1:1: expected keys with values, not a list"),
        ("just text", "weir.yaml:1:1: expected keys with values, not a text"),
        ("outgoing: 4140", "weir.yaml:1:11: outgoing: expected keys with values, not a number"),
        ("outgoing: { listen: 4140 }", "weir.yaml:1:21: outgoing.listen: expected a text, not a number"),
        (
            "outgoing: { listen: ':4140' }",
            "weir.yaml:1:21: outgoing.listen: `:4140` is not an address with a port",
        ),
        ("outgoing:\n  listen:\n", "weir.yaml:2:3: outgoing.listen: no value"),
        ("outgoing: { allow: 10.0.0.0/8 }", "weir.yaml:1:20: outgoing.allow: expected a list, not a text"),
        ("outgoing: { via: yes }", "weir.yaml:1:18: outgoing.via: expected true or false, not `yes`"),
        ("transparent:\n", "weir.yaml:1:1: transparent: this section is empty"),
        ("probes: ~", "weir.yaml:1:1: probes: this section is empty"),
        ("transparent: { ports: 0 }", "weir.yaml:1:23: transparent.ports: 0 is not from 1 to 64"),
        ("transparent: { ports: -1 }", "weir.yaml:1:23: transparent.ports: -1 is not from 1 to 64"),
        (
            "transparent: { listen: '[::]:65530' }",
            "weir.yaml:1:24: transparent.listen: 8 ports from 65530 on go beyond",
        ),
        (
            "transparent: { listen: '[::]:0' }",
            "weir.yaml:1:24: transparent.listen: port 0 cannot be the first of 8",
        ),
        (
            "transparent: { addresses: [::1] }",
            "weir.yaml:1:28: transparent.addresses[0]: ::1 cannot be reached",
        ),
        (
            "transparent: { cgroup: kubepods }",
            "weir.yaml:1:24: transparent.cgroup: `kubepods` is not an absolute",
        ),
        (
            "transparent: { fail: maybe }",
            "weir.yaml:1:22: transparent.fail: `maybe` is not a choice (one of open, ",
        ),
        (
            "transparent: { enrol: pods }",
            "weir.yaml:1:23: transparent.enrol: nothing tells of pods, so none would be diverted (set `discovery`",
        ),
        (
            "transparent: { enrol: none }",
            "weir.yaml:1:23: transparent.enrol: `none` is not a choice (one of all, pods",
        ),
        (
            "transparent: { excludeNamespaces: [a, B] }",
            "weir.yaml:1:39: transparent.excludeNamespaces[1]: `B` is not a DNS label",
        ),
        ("workers: two", "weir.yaml:1:10: workers: expected a whole number, not `two`"),
        ("workers: 2.5", "weir.yaml:1:10: workers: expected a whole number, not `2.5`"),
        ("names: { namespace: My_Shop }", "weir.yaml:1:21: names.namespace: `My_Shop` is not a DNS label"),
        ("names: { clusterDomain: a..b }", "weir.yaml:1:25: names.clusterDomain: `a..b` is not a domain"),
        (
            "names: { clientNamespace: true }",
            "weir.yaml:1:27: names.clientNamespace: nothing tells of pods, so no client's namespace would be known (set",
        ),
        ("names: { clusterRanges: [10.0.0.0/99] }", "weir.yaml:1:26: names.clusterRanges"),
        ("drain: { grace: 2h }", "weir.yaml:1:17: drain.grace: `2h` is not from 0s to 1h"),
        (
            "limits: { headerBytes: 1KiB }",
            "weir.yaml:1:24: limits.headerBytes: `1KiB` is not from 8KiB to 1MiB",
        ),
        (
            "limits: { header_bytes: 9KiB }",
            "weir.yaml:1:11: limits: unknown key `header_bytes` (did you mean `headerB",
        ),
        (
            "limits: { headerBytes: 8KiB, targetBytes: 9KiB }",
            "weir.yaml:1:43: limits.targetBytes: a request target",
        ),
        (
            "limits: { connect: 2s, connectTotal: 1s }",
            "weir.yaml:1:38: limits.connectTotal: one connect cannot take longer than all together",
        ),
        (
            "breaker: { backoff: { min: 10m } }",
            "weir.yaml:1:28: breaker.backoff.min: the longest wait, 300s, is sho",
        ),
        ("discovery: { files: {} }", "weir.yaml:1:21: discovery.files.path: missing"),
        ("discovery: { files: { path: '' } }", "weir.yaml:1:29: discovery.files.path: no path"),
        ("log: { level: loud }", "weir.yaml:1:15: log.level: `loud` is not a choice"),
        ("a: 1\n---\n", "weir.yaml:1:1: unknown key `a`"),
        ("{}\n---\nb: 1\n", "weir.yaml:3:1: a second document"),
        ("drain: {}\ndrain: {}\n", "weir.yaml:2:1: drain: this key is here twice (the first is at line 1;"),
        ("\"\\e[31m\": 1", "weir.yaml:1:1: unknown key `\\u{1b}[31m`"),
        ("ärger: 1", "weir.yaml:1:1: unknown key `ärger`"),
        ("names: { port: 'ä', dns: 1 }", "weir.yaml:1:16: names.port"),
    ] {
        let found = problems(text);
        assert!(found[0].starts_with(expected), "{text}\nfound    {}\nexpected {expected}", found[0]);
    }
    assert!(
        problems("names: { port: 'ä', dns: 1 }")[1].starts_with("weir.yaml:1:26: "),
        "columns are characters"
    );
}

#[test]
fn a_mistake_about_sockets_in_pods_is_reported_where_it_stands() {
    for (text, expected) in [
        (
            "transparent: { sockets: pods }",
            "weir.yaml:1:25: transparent.sockets: `pods` is not a choice (one of auto, node, pod",
        ),
        (
            "transparent: { sockets: pod, host: true }",
            "weir.yaml:1:36: transparent.host: clients in the node's own network namespace are not diverted with",
        ),
        (
            "transparent: { sockets: pod, divert: [10.0.0.0/8] }",
            "weir.yaml:1:38: transparent.divert: only the addresses of known services are diverted with",
        ),
        (
            "transparent: { netns: run/netns }",
            "weir.yaml:1:23: transparent.netns: `run/netns` is not an absolute",
        ),
        (
            "transparent: { podPrefix6: '2001:db8::/64' }",
            "weir.yaml:1:28: transparent.podPrefix6: 2001:db8::/64 is no /64 of unique local",
        ),
        (
            "transparent: { podPrefix6: 'fd00:1::/48' }",
            "weir.yaml:1:28: transparent.podPrefix6: fd00:1::/48 is no /64 of unique local",
        ),
    ] {
        let found = problems(text);
        assert!(found[0].starts_with(expected), "{text}\nfound    {}\nexpected {expected}", found[0]);
    }
}

#[test]
fn a_mistake_of_the_admin_or_the_probes_is_reported_where_it_stands() {
    for (text, expected) in [
        (
            "probes: { metrics: { tokens: true } }",
            "weir.yaml:1:30: probes.metrics.tokens: there is no API server to ask about tokens",
        ),
        (
            "probes: { metrics: { allow: [10.0.0.1/8] } }",
            "weir.yaml:1:30: probes.metrics.allow[0]: `10.0.0.1/8` has bits beyond its prefix",
        ),
        (
            "probes: { tls: { key: k } }",
            "weir.yaml:1:16: probes.tls.certificate: a certificate is of no use without",
        ),
        (
            "admin: { hosts: ['http://weir'] }",
            "weir.yaml:1:18: admin.hosts[0]: `http://weir` is not a domain",
        ),
        ("admin: { tokenFile: '' }", "weir.yaml:1:21: admin.tokenFile: no path (name a file with a token)"),
    ] {
        let found = problems(text);
        assert!(found[0].starts_with(expected), "{text}\nfound    {}\nexpected {expected}", found[0]);
    }
}

#[test]
fn bad_syntax_is_one_problem_with_its_place() {
    for (text, at) in [
        ("outgoing: { listen: ", "weir.yaml:1:"),
        ("outgoing:\n\tlisten: x", "weir.yaml:2:"),
        ("a: b: c", "weir.yaml:1:"),
        ("a: *nowhere", "weir.yaml:1:4: "),
        ("? [a, b]\n: c", "weir.yaml:1:"),
    ] {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(at), "{text:?}: {}", found[0]);
    }
}

#[test]
fn two_listeners_on_one_port_are_told_apart_by_address_only() {
    for (text, expected) in [
        (
            "admin: { listen: '127.0.0.1:4140' }",
            "weir.yaml:1:18: admin.listen: port 4140 is also taken by outgoing",
        ),
        (
            "outgoing: { listen: '[::]:9990' }",
            "weir.yaml:1:21: outgoing.listen: port 9990 is also taken by admin",
        ),
        (
            "transparent: { listen: '[::]:4140' }",
            "weir.yaml:1:24: transparent.listen: port 4140 is also taken by outg",
        ),
        (
            "transparent: { listen: '[::]:4135' }",
            "weir.yaml:1:24: transparent.listen: port 4140 is also taken by",
        ),
        (
            "transparent: {}\nprobes: { listen: '[::]:4149' }",
            "weir.yaml:2:19: probes.listen: port 4149 is also taken",
        ),
        (
            "transparent: {}\noutgoing: { listen: '[::]:4145' }",
            "weir.yaml:1:14: transparent.listen: port 4145",
        ),
    ] {
        let found = problems(text);
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "{text}\nfound {found:?}\nexpected {expected}"
        );
    }
    parsed("outgoing: { listen: '127.0.0.1:8000' }\nadmin: { listen: '127.0.0.2:8000' }");
    parsed(
        "outgoing: { listen: '127.0.0.1:0' }\nadmin: { listen: '127.0.0.1:0' }\nprobes: { listen: '[::]:0' }",
    );
    parsed("transparent: { listen: '[::]:0', ports: 1 }");
    parsed("transparent: { listen: '[::]:65535', ports: 1 }");
}
