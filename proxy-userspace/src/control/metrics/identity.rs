//! Metrics of identities.

use std::fmt;
use std::time::SystemTime;

use super::NONE;
use crate::control::report::until;
use crate::identity::{Identities, Reason};
use crate::telemetry::Page;

pub(super) fn write(page: &mut Page<'_>, identities: &Identities) -> fmt::Result {
    let Some(in_force) = identities.in_force() else { return Ok(()) };
    let now = SystemTime::now();
    let rows = in_force.certificates.iter();
    page.gauges(
        "weir_identity_expiry_seconds",
        "Until a service account's certificate expires; negative afterwards",
        rows.map(|(account, own)| ([("identity", account.to_string())], until(own.until, now))),
    )?;
    let bundle = in_force.bundle.iter();
    page.gauges(
        "weir_identity_bundle_expiry_seconds",
        "Until the last of the root certificates expires; negative afterwards",
        bundle.map(|bundle| (NONE, until(bundle.until, now))),
    )?;
    page.gauges(
        "weir_identity_problems",
        "Identities, and the bundle, whose files cannot be used now",
        [(NONE, in_force.problems.len() as f64)],
    )?;
    let reloads = identities.reloads.value();
    page.counters(
        "weir_identity_reloads",
        "Certificates and bundles taken over from files",
        [(NONE, reloads)],
    )?;
    let failures = Reason::LABELS.iter().zip(&identities.failures);
    page.counters(
        "weir_identity_reload_failures",
        "Files of identities that could not be used, by what was wrong; the last good ones stay",
        failures.map(|(reason, count)| ([("reason", *reason)], count.value())),
    )
}
