//! Who this node's pods are to other weirs.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::identity::InForce;

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
    /// What is wrong with files, and what is in force instead.
    pub problems: Vec<String>,
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
    pub(super) fn read(in_force: &InForce, now: SystemTime) -> Self {
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
