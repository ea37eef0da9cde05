//! Client and service policy: breaker, timeouts, retries.

use super::carried::Carried;
use super::notes::Notes;
use super::part::{Field, Part};
use super::reasons;
use crate::config::quoted;
use crate::config::tree::Node;

const HOUR: i128 = 3_600_000;
const DAY: i128 = 24 * HOUR;
/// The breaker's largest count: in practice, no breaker.
const NEVER: i128 = 1_000_000;

/// What a router says about endpoints and services, and, before 1.0, at its own top.
pub(super) fn read(router: &mut Part<'_>, carried: &mut Carried, notes: &mut Notes<'_>) {
    if let Some(client) = router.take("client").and_then(|field| global(&field, notes)) {
        read_client(client, carried, notes);
    }
    if let Some(service) = router.take("service").and_then(|field| global(&field, notes)) {
        read_service(service, carried, notes);
    }
    if let Some(timeout) = router.take("timeoutMs") {
        read_total(&timeout, carried, notes);
    }
}

/// The section, if it holds for every destination; settings for single prefixes are noted one by one.
fn global<'a>(field: &Field<'a>, notes: &mut Notes<'_>) -> Option<Part<'a>> {
    let mut part = Part::open(field, notes)?;
    part.take("kind");
    match field.kind() {
        "" | "io.l5d.global" => Some(part),
        "io.l5d.static" => {
            for config in part.take("configs").iter().flat_map(Field::items) {
                let prefix = config.node.get("prefix").and_then(Node::text).unwrap_or_default();
                let why = format!(
                    "settings for {} alone; weir's (`breaker`, `limits`) hold for every destination",
                    quoted(prefix)
                );
                notes.left(&config, why);
            }
            part.finish(&[], notes);
            None
        }
        other => {
            notes.left(field, format!("kind {} is none of linkerd's own", quoted(other)));
            None
        }
    }
}

fn read_client(mut client: Part<'_>, carried: &mut Carried, notes: &mut Notes<'_>) {
    if let Some(accrual) = client.take("failureAccrual") {
        read_accrual(&accrual, carried, notes);
    }
    if let Some(field) = client.take("requestAttemptTimeoutMs")
        && let Some(timeout) = milliseconds(&field, DAY, notes)
    {
        carried.response = Some(timeout);
        notes.changed(&field, "it is `limits.response` now: up to an answer's head, and longer is 504");
    }
    if let Some(field) = client.take("requeueBudget") {
        let is_zero = |key| {
            field.node.get(key).is_some_and(|node| {
                let field = Field { node, ..field.clone() };
                field.whole() == Some(0) || matches!(node.value, crate::config::tree::Value::Float(0.0))
            })
        };
        if is_zero("minRetriesPerSec") && is_zero("percentCanRetry") {
            carried.attempts = Some(1);
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

fn read_service(mut service: Part<'_>, carried: &mut Carried, notes: &mut Notes<'_>) {
    if let Some(field) = service.take("totalTimeoutMs") {
        read_total(&field, carried, notes);
    }
    service.finish(reasons::SERVICE, notes);
}

/// A timeout over all attempts; weir has one for each.
fn read_total(field: &Field<'_>, carried: &mut Carried, notes: &mut Notes<'_>) {
    if carried.response.is_some() {
        return notes.left(field, "weir has one timeout, `limits.response`, for each attempt");
    }
    if let Some(timeout) = milliseconds(field, DAY, notes) {
        carried.response = Some(timeout);
        let why =
            "it is `limits.response` now, which each attempt has anew, up to an answer's head; longer is 504";
        notes.changed(field, why);
    }
}

fn read_accrual(field: &Field<'_>, carried: &mut Carried, notes: &mut Notes<'_>) {
    let Some(mut accrual) = Part::open(field, notes) else { return };
    accrual.take("kind");
    match field.kind() {
        "io.l5d.consecutiveFailures" => {}
        "none" => {
            carried.failures = Some(NEVER);
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
            Some(count) => carried.failures = Some(count),
            None => notes.left(&failures, format!("not a number from 1 to {NEVER}; weir's default is 5")),
        }
    }
    if let Some(backoff) = accrual.take("backoff") {
        read_backoff(&backoff, carried, notes);
    }
    accrual.finish(&[], notes);
}

fn read_backoff(field: &Field<'_>, carried: &mut Carried, notes: &mut Notes<'_>) {
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
            carried.backoff = Some(both);
            if field.kind() == "constant" {
                notes.changed(field, "each wait of weir's is jittered between half and all of it");
            }
        }
        None => notes.left(field, "no first and longest wait in order; weir's are 5s and 5m"),
    }
    backoff.finish(&[], notes);
}

/// A number of milliseconds from 1 to `most`; anything else is noted.
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
