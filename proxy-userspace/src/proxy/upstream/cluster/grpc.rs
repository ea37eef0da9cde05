//! Counts of gRPC's status codes.

use std::sync::OnceLock;

use crate::telemetry::Counter;

/// How many calls ended with each status. Nothing is allocated before the first: few clusters have calls.
#[derive(Debug, Default)]
pub struct GrpcStatuses(OnceLock<Box<[Counter; Self::LABELS.len()]>>);

impl GrpcStatuses {
    /// The name of each code (gRPC's `code.proto`), and of all codes that it has not.
    pub const LABELS: [&'static str; 18] = [
        "ok",
        "cancelled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "already_exists",
        "permission_denied",
        "resource_exhausted",
        "failed_precondition",
        "aborted",
        "out_of_range",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
        "unauthenticated",
        "other",
    ];

    /// A call has ended with this code.
    pub fn count(&self, code: u8) {
        let counts = self.0.get_or_init(Box::default);
        counts[usize::from(code).min(Self::LABELS.len() - 1)].inc();
    }

    /// Counts also what `other` has counted.
    pub fn absorb(&self, other: &Self) {
        let Some(other) = other.0.get() else { return };
        for (own, other) in self.0.get_or_init(Box::default).iter().zip(other.iter()) {
            own.add(other.value());
        }
    }

    /// Each code that was counted, and how often.
    pub fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.get().into_iter().flat_map(|counts| counts.iter());
        let counted = Self::LABELS.into_iter().zip(counts).map(|(label, count)| (label, count.value()));
        counted.filter(|(_, count)| *count > 0)
    }
}
