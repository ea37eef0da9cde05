//! The admin's own state, besides the control plane state that it shows.

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

/// The server of the admin's and the probes' listeners.
pub struct Server {
    /// The control plane's state.
    pub(super) control: Arc<State>,
    /// TLS at the probes' listener, if enabled.
    pub(super) tls: ArcSwapOption<Tls>,
    /// Who may read the metrics at the probes' listener.
    pub(super) readers: Readers,
    /// Refused requests, by reason.
    pub(super) refused: [Counter; Refusal::LABELS.len()],
    /// The metrics page and the state, written by one thread at a time.
    pub(super) pages: Pages,
}

impl Server {
    /// Creates the server that shows `control` and has tokens checked by `reviews`.
    pub fn new(control: Arc<State>, reviews: Option<Reviews>) -> Arc<Self> {
        Arc::new(Self {
            control,
            tls: ArcSwapOption::empty(),
            readers: Readers::new(reviews),
            refused: Default::default(),
            pages: Pages::default(),
        })
    }

    /// All metrics, as OpenMetrics text. Slow in a large cluster: see [`Pages`].
    pub(super) fn write_metrics(self: &Arc<Self>) -> String {
        let control = &self.control;
        let data = Metrics { shared: control.shared.clone(), listeners: control.listeners() };
        render(&[Arc::new(data), control.clone(), self.clone()])
    }
}
