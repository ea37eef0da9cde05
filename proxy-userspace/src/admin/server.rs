//! The admin's own state, besides the control plane state that it shows.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::chunks::Chunks;
use super::pages::Pages;
use super::readers::Readers;
use super::refusal::Refusal;
use super::tls::Tls;
use crate::control::State;
use crate::discovery::kubernetes::Reviews;
use crate::proxy::metrics::Metrics;
use crate::telemetry::{self, Counter};

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
    /// The metrics page and the state.
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

    /// Writes all metrics, as OpenMetrics text. Slow in a large cluster, and waits for its reader: see [`Pages`].
    pub(super) fn write_metrics(self: &Arc<Self>, page: &mut Chunks) -> fmt::Result {
        let control = &self.control;
        // These may hold locks while they write, which must not wait for a reader. They do not grow with the cluster.
        let mut own = String::new();
        telemetry::write(&mut own, &[control.clone(), self.clone()])?;
        page.write_str(&own)?;
        drop(own);
        let data = Metrics { shared: control.shared.clone(), listeners: control.listeners() };
        telemetry::write(page, &[Arc::new(data)])?;
        telemetry::end(page)
    }
}
