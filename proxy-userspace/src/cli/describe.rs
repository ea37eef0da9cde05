//! A running weir's state as text.

use std::fmt::{Result, Write as _};

use crate::config::Adopt;
use crate::control::NetnsState;
use crate::control::report::{
    AboveReport, ClusterReport, DirectPod, DirectReport, DrainingReport, EnrolmentReport, HandoverReport,
    IdentityReport, InterceptionReport, MemoryReport, NetnsReport, PodReport, ShareReport, StateReport,
    WithoutReport,
};

/// `state` as text; if it is `filtered`, only the selected parts.
pub(super) fn describe(state: &StateReport, filtered: bool) -> std::result::Result<String, std::fmt::Error> {
    let mut text = String::new();
    let ready = if state.ready { "ready" } else { "NOT READY" };
    let node = if state.node.is_empty() { "without a name" } else { &state.node };
    writeln!(text, "node {node}: weir {}, up {:.0} s, {ready}", state.version, state.uptime_seconds)?;
    if filtered {
        pods(&mut text, &state.enrolment)?;
        clusters(&mut text, state)?;
        return Ok(text);
    }
    for line in &state.readiness {
        writeln!(text, "  {line}")?;
    }
    handover(&mut text, &state.handover)?;
    for it in &state.listeners {
        let (name, open) = (&it.listener, it.open);
        let router = it.router.as_ref().map(|router| format!(" {router}")).unwrap_or_default();
        let at =
            if it.addresses.is_empty() { String::new() } else { format!(" at {}", it.addresses.join(", ")) };
        writeln!(
            text,
            "{name}{router}{at}: {open} open, {} connections, {} requests",
            it.connections, it.requests
        )?;
        shares(&mut text, &it.shares)?;
    }
    if let Some(it) = &state.memory {
        memory(&mut text, it)?;
    }
    interception(&mut text, &state.interception)?;
    enrolment(&mut text, &state.enrolment)?;
    if let Some(it) = &state.identity {
        identity(&mut text, it)?;
    }
    clusters(&mut text, state)?;
    for problem in &state.file_problems {
        writeln!(text, "problem: {problem}")?;
    }
    if let Some(mistakes) = &state.reload.mistakes {
        writeln!(text, "the configuration file has mistakes; an older one is in force:\n{mistakes}")?;
    }
    Ok(text)
}

/// One line for each client that has the most of a listener's connections.
fn shares(text: &mut String, shares: &[ShareReport]) -> Result {
    for ShareReport { client, open, waiting, share } in shares {
        let waiting = if *waiting > 0 { format!(", {waiting} waiting") } else { String::new() };
        writeln!(text, "  {client}: {open} of {share}{waiting}")?;
    }
    Ok(())
}

/// One line for each weir beside this one.
fn handover(text: &mut String, handover: &HandoverReport) -> Result {
    if let Some(seconds) = handover.handed_over_seconds {
        writeln!(text, "handed over to the next weir {seconds:.0} s ago, and draining since")?;
    }
    let Some(DrainingReport { seconds, open, weirs }) = handover.draining else { return Ok(()) };
    match weirs {
        0 | 1 => write!(text, "an earlier weir of this node has been draining for {seconds:.0} s")?,
        more => write!(text, "{more} earlier weirs of this node drain, the first for {seconds:.0} s")?,
    }
    writeln!(text, ": {open} connections open")
}

fn clusters(text: &mut String, state: &StateReport) -> Result {
    let of_services = state.services.iter().flat_map(|it| &it.clusters);
    of_services.chain(&state.outside).try_for_each(|it| cluster(text, it))
}

/// One line: how much memory is in use, and what that has cost so far.
fn memory(text: &mut String, memory: &MemoryReport) -> Result {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let MemoryReport { level, used_bytes, budget_bytes, source, above, shed, refused } = memory;
    write!(text, "memory: {:.0} of {:.0} MiB in use ({level})", mib(*used_bytes), mib(*budget_bytes))?;
    if !source.is_empty() {
        write!(text, ", by {source}")?;
    }
    for (what, counts) in [("closed", shed), ("refused", refused)] {
        let counts: Vec<_> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if !counts.is_empty() {
            write!(text, "; {what} so far: {}", counts.join(", "))?;
        }
    }
    writeln!(text)?;
    for AboveReport { client, bytes, share } in above {
        writeln!(text, "  {client} holds {:.1} MiB, its share is {:.1}", mib(*bytes), mib(*share))?;
    }
    Ok(())
}

/// One line per pod: whether its connections are diverted, and why.
fn pods(text: &mut String, enrolment: &EnrolmentReport) -> Result {
    for pod in enrolment.pods.iter().flatten() {
        let addresses = pod.addresses.join(", ");
        writeln!(text, "pod {} ({addresses}): {}, {}", pod.pod, pod.state, pod.why)?;
        if let Some(WithoutReport { reason, why, seconds }) = &pod.without_listener {
            writeln!(text, "  without weir's listener for {seconds} s, so not diverted: {reason} ({why})")?;
        }
        for mistake in &pod.mistakes {
            writeln!(text, "  ignored: {mistake}")?;
        }
    }
    Ok(())
}

fn interception(text: &mut String, interception: &InterceptionReport) -> Result {
    if let Some(why) = &interception.sockets_why {
        writeln!(text, "sockets: on the node, and not in the pods ({why})")?;
    }
    let Some(programs) = &interception.programs else {
        return writeln!(text, "interception: off ({})", interception.why.as_deref().unwrap_or("?"));
    };
    let armed = if programs.armed { "on" } else { "on, but DISARMED: connections go direct" };
    writeln!(text, "interception: {armed}, {} destinations", programs.destinations)?;
    if let Some(it) = &programs.direct {
        direct(text, it)?;
    }
    if programs.netns.is_empty() {
        return Ok(());
    }
    let (listening, others): (Vec<_>, Vec<_>) =
        programs.netns.iter().partition(|it| &*it.state == NetnsState::Listening.name());
    writeln!(text, "sockets in pods: {} network namespaces, {} without", listening.len(), others.len())?;
    for NetnsReport { name, state, why, .. } in others {
        writeln!(
            text,
            "  {name}: {state}{}",
            why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
        )?;
    }
    for NetnsReport { name, loopback, .. } in listening {
        for it in loopback {
            if let Some(why) = &it.why {
                writeln!(text, "  {name}: no explicit proxy at 127.0.0.1:{} ({why})", it.port)?;
            }
        }
    }
    Ok(())
}

/// Connections that were opened while nothing diverted them: of which pods, and what could not be seen.
fn direct(text: &mut String, it: &DirectReport) -> Result {
    if &*it.adopt == Adopt::Off.name() {
        return Ok(());
    }
    if it.looked > 0 {
        let pods = it.pods.len();
        write!(
            text,
            "direct connections, opened while nothing diverted them: {} of {pods} pods",
            it.connections
        )?;
        writeln!(text, "{}", if it.closed > 0 { format!(", {} closed", it.closed) } else { String::new() })?;
        for DirectPod { pod, connections } in &it.pods {
            writeln!(text, "  {pod}: {connections}")?;
        }
    }
    match &it.why {
        Some(why) if it.looked > 0 => writeln!(text, "  not all counted: {why}"),
        Some(why) => writeln!(text, "direct connections are not counted: {why}"),
        None => Ok(()),
    }
}

/// One line, and one for each problem.
fn identity(text: &mut String, it: &IdentityReport) -> Result {
    let domain = &it.trust_domain;
    write!(text, "identity: {} of {} certificates of {domain}", it.certificates.len(), it.configured)?;
    let hours = |seconds: f64| format!("{:.1} h", seconds / 3600.0);
    let first = it.certificates.iter().map(|it| it.expires_in_seconds).reduce(f64::min);
    match first {
        Some(first) if first < 0.0 => write!(text, ", the first EXPIRED {} ago", hours(-first))?,
        Some(first) => write!(text, ", the first expires in {}", hours(first))?,
        None => {}
    }
    match it.roots_expire_in_seconds {
        Some(last) if last < 0.0 => write!(text, "; the roots EXPIRED {} ago", hours(-last))?,
        Some(last) => write!(text, "; roots: {}, the last expires in {}", it.roots, hours(last))?,
        None => write!(text, "; NO ROOTS")?,
    }
    writeln!(text, "{}", if it.development { "; DEVELOPMENT certificates" } else { "" })?;
    if let Some(wire) = &it.wire {
        let mode = if wire.mode == "strict" {
            "; STRICT: services' endpoints are not reached otherwise"
        } else {
            ""
        };
        writeln!(text, "  pods that take TLS: {}{mode}", wire.peers)?;
        for (direction, counts) in [("to", &wire.outgoing), ("from", &wire.incoming)] {
            write!(text, "  connections {direction} other pods: {} encrypted", counts.encrypted)?;
            for (what, counts) in
                [("plain", &counts.plain), ("refused", &counts.refused), ("handshake failed", &counts.failed)]
            {
                for (why, count) in counts {
                    write!(text, ", {count} {what} ({why})")?;
                }
            }
            writeln!(text)?;
            for (who, count) in &counts.by {
                writeln!(text, "    {who}: {count}")?;
            }
        }
    }
    it.problems.iter().try_for_each(|problem| writeln!(text, "  {problem}"))
}

/// One line: the pods themselves are in the JSON, and in the text if selected.
fn enrolment(text: &mut String, enrolment: &EnrolmentReport) -> Result {
    let EnrolmentReport { counts: Some(counts), pods, .. } = enrolment else { return Ok(()) };
    let count = |state: &str| counts.get(state).copied().unwrap_or_default();
    let mistaken = pods.iter().flatten().filter(|pod| !pod.mistakes.is_empty()).count();
    write!(text, "pods: {} diverted, {} direct", count("enrolled"), count("direct"))?;
    for (name, how) in [("not_found", "without a cgroup"), ("no_room", "without room in the table")] {
        if count(name) > 0 {
            write!(text, ", {} {how}", count(name))?;
        }
    }
    if mistaken > 0 {
        write!(text, ", {mistaken} with annotations that were ignored")?;
    }
    writeln!(text)?;
    let without = pods.iter().flatten().filter_map(|pod| Some((pod, pod.without_listener.as_ref()?)));
    for (PodReport { pod, .. }, WithoutReport { reason, why, seconds }) in without {
        writeln!(
            text,
            "  {pod}: without weir's listener for {seconds} s, so not diverted: {reason} ({why})"
        )?;
    }
    Ok(())
}

fn cluster(text: &mut String, cluster: &ClusterReport) -> Result {
    writeln!(text, "\n{}", cluster.name)?;
    if cluster.endpoints.is_empty() {
        writeln!(text, "  no endpoints")?;
    }
    for it in &cluster.endpoints {
        let (address, condition) = (&it.address, &it.condition);
        let Some(usage) = &it.usage else {
            writeln!(text, "  {address:<24} {condition:<12} not used yet")?;
            continue;
        };
        let latency = usage.latency_seconds.map_or("-".to_owned(), |s| format!("{:.1} ms", s * 1e3));
        writeln!(
            text,
            "  {address:<24} {condition:<12} breaker {:<8} {:>8} requests {:>6} failures {:>4} in flight {latency:>10}",
            usage.breaker, usage.requests, usage.failures, usage.in_flight,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The text for a state with `fields`, without its first line.
    fn described(fields: serde_json::Value, filtered: bool) -> String {
        let mut state = json!({ "version": "1", "ready": true });
        state.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let text = describe(&serde_json::from_value(state).unwrap(), filtered).unwrap();
        text.split_once('\n').unwrap().1.to_owned()
    }

    #[test]
    fn each_part_of_the_state_has_its_line() {
        let pods = json!({ "enrolment": { "by": "pods", "counts": { "enrolled": 2, "direct": 1, "no_room": 3 }, "pods": [
            { "pod": "a/b", "addresses": ["10.0.0.1", "fd00::1"], "state": "direct", "why": "because", "mistakes": ["this"] },
        ] } });
        let cluster = json!([{ "name": "c", "endpoints": [
            { "address": "10.0.0.1:80", "condition": "ready" },
            { "address": "10.0.0.2:80", "condition": "ready", "breaker": "open", "latencySeconds": 0.0015, "requests": 7 },
        ] }, { "name": "d" }]);
        let off = "interception: off (?)\n";
        for (fields, filtered, expected) in [
            (json!({}), false, off.to_owned()),
            (json!({ "readiness": ["world: ok"] }), false, format!("  world: ok\n{off}")),
            (
                json!({ "listeners": [{ "listener": "outgoing", "open": 1, "connections": 2, "requests": 3 }] }),
                false,
                format!("outgoing: 1 open, 2 connections, 3 requests\n{off}"),
            ),
            (
                json!({ "listeners": [{ "listener": "transparent", "open": 3, "shares": [
                    { "client": "shop/a", "open": 2, "share": 9 },
                    { "client": "10.1.0.9", "open": 1, "waiting": 4, "share": 1 },
                ] }] }),
                false,
                format!(
                    "transparent: 3 open, 0 connections, 0 requests\n  shop/a: 2 of 9\n  10.1.0.9: 1 of 1, 4 waiting\n{off}"
                ),
            ),
            (
                json!({ "listeners": [{ "listener": "outgoing", "router": "a", "addresses": ["10.0.0.1:1", "[::1]:2"] }] }),
                false,
                format!("outgoing a at 10.0.0.1:1, [::1]:2: 0 open, 0 connections, 0 requests\n{off}"),
            ),
            (
                json!({ "handover": { "handedOverSeconds": 4.4, "draining": { "seconds": 61.0, "open": 3 } } }),
                false,
                format!(
                    "handed over to the next weir 4 s ago, and draining since\nan earlier weir of this node has been \
                     draining for 61 s: 3 connections open\n{off}"
                ),
            ),
            (
                json!({ "handover": { "draining": { "seconds": 61.0, "open": 3, "weirs": 2 } } }),
                false,
                format!("2 earlier weirs of this node drain, the first for 61 s: 3 connections open\n{off}"),
            ),
            (
                json!({ "memory": { "level": "shed", "usedBytes": 220_200_960, "budgetBytes": 268_435_456,
                    "shed": { "idle": 3, "pool": 4 }, "refused": { "request": 1 } } }),
                false,
                format!("memory: 210 of 256 MiB in use (shed); closed so far: 3 idle, 4 pool; refused so far: 1 request\n{off}"),
            ),
            (
                json!({ "memory": { "level": "refuse", "usedBytes": 241_591_910, "budgetBytes": 268_435_456,
                    "source": "limits.memory",
                    "above": [{ "client": "shop/cart-0", "bytes": 99_614_720, "share": 1_048_576 }] } }),
                false,
                format!(
                    "memory: 230 of 256 MiB in use (refuse), by limits.memory\n  shop/cart-0 holds 95.0 MiB, its \
                     share is 1.0\n{off}"
                ),
            ),
            (json!({ "interception": { "on": false, "why": "no" } }), false, "interception: off (no)\n".to_owned()),
            (
                json!({ "interception": { "on": true, "armed": true, "destinations": 4 } }),
                false,
                "interception: on, 4 destinations\n".to_owned(),
            ),
            (
                json!({ "interception": { "on": true } }),
                false,
                "interception: on, but DISARMED: connections go direct, 0 destinations\n".to_owned(),
            ),
            (
                pods.clone(),
                false,
                format!(
                    "{off}pods: 2 diverted, 1 direct, 3 without room in the table, 1 with annotations that were ignored\n"
                ),
            ),
            (pods, true, "pod a/b (10.0.0.1, fd00::1): direct, because\n  ignored: this\n".to_owned()),
            (
                json!({ "outside": cluster }),
                true,
                "\nc\n  10.0.0.1:80              ready        not used yet\n  10.0.0.2:80              ready        \
                 breaker open            7 requests      0 failures    0 in flight     1.5 ms\n\nd\n  no endpoints\n"
                    .to_owned(),
            ),
            (json!({ "fileProblems": ["p"] }), false, format!("{off}problem: p\n")),
            (
                json!({ "reload": { "mistakes": "line 1" } }),
                false,
                format!("{off}the configuration file has mistakes; an older one is in force:\nline 1\n"),
            ),
        ] {
            assert_eq!(described(fields.clone(), filtered), expected, "{fields:#}");
        }
    }

    #[test]
    fn identities_are_a_line_and_what_is_wrong_with_them_one_each() {
        let off = "interception: off (?)\n";
        for (fields, expected) in [
            (
                json!({ "trustDomain": "a.b", "configured": 2, "roots": 1, "rootsExpireInSeconds": 7200.0,
                    "development": true, "certificates": [{ "id": "x", "expiresInSeconds": 3600.0 }], "problems": ["p"] }),
                "1 of 2 certificates of a.b, the first expires in 1.0 h; roots: 1, the last expires in 2.0 h; \
                 DEVELOPMENT certificates\n  p\n",
            ),
            (
                json!({ "trustDomain": "a.b", "configured": 1, "rootsExpireInSeconds": -1.0,
                    "certificates": [{ "expiresInSeconds": 7200.0 }, { "expiresInSeconds": -3600.0 }] }),
                "2 of 1 certificates of a.b, the first EXPIRED 1.0 h ago; the roots EXPIRED 0.0 h ago\n",
            ),
            (json!({ "trustDomain": "a.b" }), "0 of 0 certificates of a.b; NO ROOTS\n"),
            (
                json!({ "trustDomain": "a.b", "wire": { "peers": 2,
                    "outgoing": { "encrypted": 3, "plain": { "unknown_peer": 1 }, "by": { "shop/web to shop/db": 3 } },
                    "incoming": { "failed": { "expired": 1, "wrong_name": 4 } } } }),
                "0 of 0 certificates of a.b; NO ROOTS\n  pods that take TLS: 2\n  \
                 connections to other pods: 3 encrypted, 1 plain (unknown_peer)\n    shop/web to shop/db: 3\n  \
                 connections from other pods: 0 encrypted, 1 handshake failed (expired), 4 handshake failed (wrong_name)\n",
            ),
        ] {
            let described = described(json!({ "identity": fields }), false);
            assert_eq!(described, format!("{off}identity: {expected}"));
        }
    }
}
