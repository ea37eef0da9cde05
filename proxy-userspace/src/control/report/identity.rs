//! Who this node's pods are to other weirs.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::config::WireMode;
use crate::identity::{Failure, InForce};
use crate::proxy::upstream::{Connecting, Names, Plain};
use crate::telemetry::Counter;

/// The identities in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IdentityReport {
    /// The trust domain.
    pub trust_domain: String,
    /// How many certificates are configured.
    pub configured: usize,
    /// How many root certificates are believed.
    pub roots: usize,
    /// Seconds until the last root certificate expires; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roots_expire_in_seconds: Option<f64>,
    /// Whether a root certificate was made by `weir certs`.
    pub development: bool,
    /// The certificates in force.
    pub certificates: Vec<CertificateReport>,
    /// Connections between pods, by whether they are encrypted; absent if none are to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<WireReport>,
    /// What is wrong with files, and what is in force instead.
    pub problems: Vec<String>,
}

/// Connections between pods since weir has started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WireReport {
    /// What becomes of connections that cannot be encrypted: `permissive` or `strict`.
    pub mode: String,
    /// Addresses of pods that take TLS.
    pub peers: usize,
    /// To other pods.
    pub outgoing: WireCounts,
    /// From ports of other weirs.
    pub incoming: WireCounts,
}

/// Connections of one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WireCounts {
    /// Encrypted ones.
    pub encrypted: u64,
    /// Those that are not, by why.
    pub plain: BTreeMap<String, u64>,
    /// Failed handshakes, by why.
    pub failed: BTreeMap<String, u64>,
    /// Those that were not made, since they would not have been encrypted, by why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
    /// The encrypted ones, by service account: as whom and with whom, or whose pod has connected.
    pub by: BTreeMap<String, u64>,
}

impl WireReport {
    fn read(connecting: &Connecting) -> Option<Self> {
        let (links, wire) = (connecting.identities.links()?, &connecting.wire);
        let mut outgoing =
            WireCounts::of(&wire.outgoing, &wire.endpoints, &wire.outgoing_plain, &wire.outgoing_failed);
        outgoing.refused = counts(&Plain::LABELS, &wire.outgoing_refused);
        let incoming =
            WireCounts::of(&wire.incoming, &wire.callers, &wire.incoming_plain, &wire.incoming_failed);
        let mode = match links.mode() {
            WireMode::Permissive => "permissive",
            WireMode::Strict => "strict",
        };
        Some(Self { mode: mode.to_owned(), peers: links.peers(), outgoing, incoming })
    }
}

impl WireCounts {
    fn of(encrypted: &Counter, by: &Names, plain: &[Counter], failed: &[Counter]) -> Self {
        Self {
            encrypted: encrypted.value(),
            plain: counts(&Plain::LABELS, plain),
            failed: counts(&Failure::LABELS, failed),
            by: by.all(),
            refused: BTreeMap::new(),
        }
    }
}

/// Those that are not zero.
fn counts(labels: &[&str], counts: &[Counter]) -> BTreeMap<String, u64> {
    let counts = labels.iter().zip(counts).filter(|(_, count)| count.value() > 0);
    counts.map(|(label, count)| ((*label).to_owned(), count.value())).collect()
}

/// The certificate of a service account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateReport {
    /// The SPIFFE ID.
    pub id: String,
    /// Seconds until it expires; negative afterwards.
    pub expires_in_seconds: f64,
}

impl IdentityReport {
    /// As it is at `now`.
    pub(super) fn read(in_force: &InForce, connecting: &Connecting, now: SystemTime) -> Self {
        let bundle = in_force.bundle.as_deref();
        let certificates = in_force.certificates.values().map(|own| CertificateReport {
            id: own.id.to_string(),
            expires_in_seconds: until(own.until, now),
        });
        let problems = in_force.problems.iter();
        Self {
            trust_domain: in_force.trust_domain.to_string(),
            configured: in_force.configured,
            roots: bundle.map_or(0, |it| it.count),
            roots_expire_in_seconds: bundle.map(|it| until(it.until, now)),
            development: bundle.is_some_and(|it| it.is_development),
            certificates: certificates.collect(),
            wire: WireReport::read(connecting),
            problems: problems
                .map(|(whose, problem)| {
                    let whose = whose.as_ref();
                    let name = whose.map_or_else(|| "bundle".to_owned(), ToString::to_string);
                    format!("{name}: {problem}; {}", in_force.instead(whose))
                })
                .collect(),
        }
    }
}

/// Seconds from `now` until `at`, which is in seconds since 1970; negative afterwards.
pub(in crate::control) fn until(at: u64, now: SystemTime) -> f64 {
    let now = now.duration_since(UNIX_EPOCH).map_or(0.0, |it| it.as_secs_f64());
    at as f64 - now
}
