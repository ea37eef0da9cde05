//! The admin's own metrics: refused requests and token reviews.

use std::fmt;

use super::Server;
use super::readers::Readers;
use super::refusal::Refusal;
use crate::telemetry::{Page, Scrape};

impl Scrape for Server {
    fn scrape(&self, page: &mut Page<'_>) -> fmt::Result {
        let refused = Refusal::LABELS.iter().zip(&self.refused);
        page.counters(
            "weir_admin_refused",
            "Requests to the admin's and the probes' listeners that were refused",
            refused.map(|(reason, count)| ([("reason", *reason)], count.value())),
        )?;
        let reviewed = Readers::RESULTS.iter().zip(&self.readers.reviewed);
        page.counters(
            "weir_token_reviews",
            "Questions to the API server about who reads the metrics",
            reviewed.map(|(result, count)| ([("result", *result)], count.value())),
        )
    }
}
