//! Client and service policy: breaker, timeouts, retries.

use super::carried::{Behaviour, Router};
use super::notes::Notes;
use super::part::{Field, Part};
use super::{Options, reasons, tls};
use crate::config::quoted;
use crate::config::tree::Value;
use crate::domain::route::Pattern;

const HOUR: i128 = 3_600_000;
const DAY: i128 = 24 * HOUR;
/// The breaker's largest count, which in practice disables it.
const NEVER: i128 = 1_000_000;

/// A router's settings for endpoints and services, including the router's own keys used before 1.0.
pub(super) fn read(router: &mut Part<'_>, options: Options<'_>, carried: &mut Router, notes: &mut Notes<'_>) {
    if let Some(client) = router.take("client") {
        match for_whom(&client, notes) {
            Some(Whom::All(mut client)) => {
                tls::read_client(&mut client, "/", options, carried, notes);
                read_client(client, &mut carried.global, notes);
            }
            Some(Whom::Some(rules)) => {
                rules.iter().for_each(|rule| read_rule_tls(rule, options, carried, notes));
                carried.clients =
                    rules.iter().filter_map(|rule| read_rule(rule, read_client, notes)).collect();
            }
            // linkerd's own kinds are the two above; for another kind, weir cannot tell which names it encrypted.
            None if client.node.get("tls").is_some() || client.node.get("configs").is_some() => {
                tls::refuse(&client, "/", options, carried, notes);
            }
            None => {}
        }
    }
    if let Some(tls) = router.take("tls") {
        tls::refuse(&tls, "/", options, carried, notes);
    }
    if let Some(service) = router.take("service") {
        match for_whom(&service, notes) {
            Some(Whom::All(service)) => read_service(service, &mut carried.global, notes),
            Some(Whom::Some(rules)) => {
                carried.services =
                    rules.iter().filter_map(|rule| read_rule(rule, read_service, notes)).collect();
            }
            None => {}
        }
    }
    if let Some(timeout) = router.take("timeoutMs") {
        read_total(&timeout, &mut carried.global, notes);
    }
    if let Some(mut cache) = router.take("bindingCache").and_then(|field| Part::open(&field, notes)) {
        if let Some(idle) = cache.take("idleTtlSecs") {
            carried.binding_idle = idle.whole().filter(|seconds| (1..=DAY / 1000).contains(seconds));
            if carried.binding_idle.is_none() {
                notes.left(&idle, "not a number of seconds from 1 to 86400; weir's default is 600");
            }
        }
        cache.finish(reasons::BINDING_CACHE, notes);
    }
}

/// The names that a section applies to.
enum Whom<'a> {
    All(Part<'a>),
    /// Those named by the rules.
    Some(Vec<Field<'a>>),
}

fn for_whom<'a>(field: &Field<'a>, notes: &mut Notes<'_>) -> Option<Whom<'a>> {
    let mut part = Part::open(field, notes)?;
    part.take("kind");
    match field.kind() {
        "" | "io.l5d.global" => Some(Whom::All(part)),
        "io.l5d.static" => {
            let rules = part.take("configs").iter().flat_map(Field::items).collect();
            part.finish(&[], notes);
            Some(Whom::Some(rules))
        }
        other => {
            notes.left(field, format!("kind {} is none of linkerd's own", quoted(other)));
            None
        }
    }
}

/// The TLS settings of an io.l5d.static rule. If weir cannot read its prefix, it may have applied to any name.
fn read_rule_tls(field: &Field<'_>, options: Options<'_>, carried: &mut Router, notes: &mut Notes<'_>) {
    // A rule that is not a section is noted where the rules are read.
    if !matches!(field.node.value, Value::Map(_)) {
        return;
    }
    let Some(mut part) = Part::open(field, notes) else { return };
    let Some(prefix) = part.take("prefix") else { return };
    let text = rule_prefix(prefix.text().unwrap_or_default());
    let prefix = if Pattern::read(&text).is_ok() { &text } else { "/" };
    tls::read_client(&mut part, prefix, options, carried, notes);
}

/// linkerd treated `svc/`, `/svc/` and `/svc` alike.
fn rule_prefix(written: &str) -> String {
    format!("/{}", written.trim_matches('/'))
}

/// A rule of io.l5d.static: its settings for its prefix. If nothing is carried over, it only leaves notes.
fn read_rule<'a>(
    field: &Field<'a>,
    read: impl Fn(Part<'a>, &mut Behaviour, &mut Notes<'_>),
    notes: &mut Notes<'_>,
) -> Option<(String, Behaviour)> {
    let mut part = Part::open(field, notes)?;
    let prefix = part.take("prefix");
    let written = prefix.as_ref().and_then(Field::text).unwrap_or_default();
    let text = rule_prefix(written);
    if prefix.is_none() {
        notes.left(field, "it says no prefix, so it is for nobody; `/` is everybody's");
        return None;
    }
    if let Err(error) = Pattern::read(&text) {
        notes.left(
            field,
            format!(
                "the prefix {} is none that weir reads: {}",
                quoted(written),
                error.to_string().escape_debug()
            ),
        );
        return None;
    }
    let mut behaviour = Behaviour::default();
    read(part, &mut behaviour, notes);
    // In linkerd a breaker is one setting: its absent keys have their defaults.
    if behaviour.backoff.is_some() && behaviour.failures.is_none() {
        behaviour.failures = Some(5);
    }
    if behaviour.failures.is_some_and(|failures| failures < NEVER) && behaviour.backoff.is_none() {
        behaviour.backoff = Some((5_000, 300_000));
    }
    (behaviour != Behaviour::default()).then_some((text, behaviour))
}

fn read_client(mut client: Part<'_>, to: &mut Behaviour, notes: &mut Notes<'_>) {
    // Handled before, for the names they apply to.
    for done in ["tls", "forwardClientCert"] {
        client.take(done);
    }
    if let Some(accrual) = client.take("failureAccrual") {
        read_accrual(&accrual, to, notes);
    }
    if let Some(field) = client.take("requestAttemptTimeoutMs")
        && let Some(timeout) = milliseconds(&field, DAY, notes)
    {
        to.response = Some(timeout);
        notes.changed(
            &field,
            "it is `response` now (of `limits` or `policies`): up to an answer's head, and longer is 504",
        );
    }
    if let Some(field) = client.take("requeueBudget") {
        let is_zero = |key| {
            field.node.get(key).is_some_and(|node| {
                let field = Field { node, ..field.clone() };
                field.whole() == Some(0) || matches!(node.value, Value::Float(0.0))
            })
        };
        if is_zero("minRetriesPerSec") && is_zero("percentCanRetry") {
            to.attempts = Some(1);
        } else {
            notes.left(&field, "weir bounds attempts for each request (`limits.attempts`), not by a budget");
        }
    }
    if let Some(balancer) = client.take("loadBalancer") {
        let why = "weir has one balancer: two endpoints at random, and the one that should answer sooner (p2c over ewma)";
        notes.left(&balancer, why);
    }
    client.finish(reasons::CLIENT, notes);
}

fn read_service(mut service: Part<'_>, to: &mut Behaviour, notes: &mut Notes<'_>) {
    if let Some(field) = service.take("totalTimeoutMs") {
        read_total(&field, to, notes);
    }
    service.finish(reasons::SERVICE, notes);
}

/// A timeout over all attempts; weir has one per attempt.
fn read_total(field: &Field<'_>, to: &mut Behaviour, notes: &mut Notes<'_>) {
    if to.response.is_some() {
        return notes.left(field, "weir has one timeout, `limits.response`, for each attempt");
    }
    if let Some(timeout) = milliseconds(field, DAY, notes) {
        to.response = Some(timeout);
        let why = "it is `response` now (of `limits` or `policies`), which each attempt has anew, up to an answer's head; longer is 504";
        notes.changed(field, why);
    }
}

fn read_accrual(field: &Field<'_>, to: &mut Behaviour, notes: &mut Notes<'_>) {
    let Some(mut accrual) = Part::open(field, notes) else { return };
    accrual.take("kind");
    match field.kind() {
        "io.l5d.consecutiveFailures" => {}
        "none" => {
            to.failures = Some(NEVER);
            notes.changed(
                field,
                format!("weir's breaker is always there; {NEVER} failures in a row never come"),
            );
            return;
        }
        other => {
            let why =
                format!("{}: weir's breaker counts failures in a row (`breaker.failures`)", quoted(other));
            return notes.left(field, why);
        }
    }
    if let Some(failures) = accrual.take("failures") {
        match failures.whole().filter(|count| (1..=NEVER).contains(count)) {
            Some(count) => to.failures = Some(count),
            None => notes.left(&failures, format!("not a number from 1 to {NEVER}; weir's default is 5")),
        }
    }
    if let Some(backoff) = accrual.take("backoff") {
        read_backoff(&backoff, to, notes);
    }
    accrual.finish(&[], notes);
}

fn read_backoff(field: &Field<'_>, to: &mut Behaviour, notes: &mut Notes<'_>) {
    let Some(mut backoff) = Part::open(field, notes) else { return };
    backoff.take("kind");
    let (min, max) = match field.kind() {
        "constant" => (backoff.take("ms"), None),
        "jittered" => (backoff.take("minMs"), backoff.take("maxMs")),
        other => return notes.left(field, format!("backoff {} is none of linkerd's own", quoted(other))),
    };
    let first = min.as_ref().and_then(|min| milliseconds(min, HOUR, notes));
    let longest = match &max {
        Some(max) => milliseconds(max, DAY, notes),
        None if field.kind() == "constant" => first,
        None => None,
    };
    match first.zip(longest).filter(|(first, longest)| first <= longest) {
        Some(both) => {
            to.backoff = Some(both);
            if field.kind() == "constant" {
                notes.changed(field, "each wait of weir's is jittered between half and all of it");
            }
        }
        None => notes.left(field, "no first and longest wait in order; weir's are 5s and 5m"),
    }
    backoff.finish(&[], notes);
}

/// A number of milliseconds from 1 to `most`; other values are noted.
fn milliseconds(field: &Field<'_>, most: i128, notes: &mut Notes<'_>) -> Option<i128> {
    let number = field.whole().filter(|number| (1..=most).contains(number));
    if number.is_none() {
        notes.left(
            field,
            format!("not a number of milliseconds from 1 to {most}; weir's default is in its place"),
        );
    }
    number
}
