//! What the admin's and the probes' listeners have besides the state that they show.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::pages::Pages;
use super::readers::Readers;
use super::refusal::Refusal;
use super::tls::Tls;
use crate::control::State;
use crate::discovery::kubernetes::Reviews;
use crate::proxy::metrics::Metrics;
use crate::telemetry::{Counter, render};

/// What answers people and machines that ask a running weir.
pub struct Server {
    /// What they ask about.
    pub(super) control: Arc<State>,
    /// TLS at the probes' listener, where it is spoken.
    pub(super) tls: ArcSwapOption<Tls>,
    /// Who may read the metrics at the probes' listener.
    pub(super) readers: Readers,
    /// Requests that were refused, by reason.
    pub(super) refused: [Counter; Refusal::LABELS.len()],
    /// The metrics page and the state, written by one thread at a time.
    pub(super) pages: Pages,
}

impl Server {
    /// What answers with the state in `control`, and has tokens checked by `reviews`.
    pub fn new(control: Arc<State>, reviews: Option<Reviews>) -> Arc<Self> {
        Arc::new(Self {
            control,
            tls: ArcSwapOption::empty(),
            readers: Readers::new(reviews),
            refused: Default::default(),
            pages: Pages::default(),
        })
    }

    /// Every metric, as OpenMetrics text. Takes a while in a large cluster: see [`Pages`].
    pub(super) fn write_metrics(self: &Arc<Self>) -> String {
        let control = &self.control;
        let data =
            Metrics { shared: control.shared.clone(), listeners: control.listeners().cloned().collect() };
        render(&[Arc::new(data), control.clone(), self.clone()])
    }
}
