//! Reading `/metrics`.

use test_support::metrics::sum;
pub use test_support::metrics::{Sample, parse};

use super::Weir;

impl Weir {
    /// Every sample of `/metrics`.
    #[track_caller]
    pub fn metrics(&self) -> Vec<Sample> {
        let answer = self.admin_get("/metrics");
        answer.expect_status(200);
        parse(&answer.text())
    }

    /// The sum of all samples of this name that carry these labels; 0 when there are none.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        sum(&self.metrics(), name, labels)
    }

    /// How many requests weir has answered itself for this reason.
    #[track_caller]
    pub fn faults(&self, kind: &str) -> f64 {
        self.metric("weir_faults_total", &[("kind", kind)])
    }

    /// How many connects the BPF programs have decided so.
    #[track_caller]
    pub fn decisions(&self, decision: &str) -> f64 {
        self.metric("weir_interception_decisions_total", &[("decision", decision)])
    }

    /// How many connections a listener has accepted.
    #[track_caller]
    pub fn accepted(&self, listener: &str) -> f64 {
        self.metric("weir_listener_connections_total", &[("listener", listener)])
    }

    /// How many connections a listener has closed for this reason without serving them.
    #[track_caller]
    pub fn turned_away(&self, listener: &str, reason: &str) -> f64 {
        self.metric("weir_listener_closed_total", &[("listener", listener), ("reason", reason)])
    }
}
