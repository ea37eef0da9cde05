//! The routers of explicit requests.

use serde::{Deserialize, Serialize};

use crate::proxy::routing::snapshot::RoutingConfig;

/// One router.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouterReport {
    /// Its label.
    pub label: String,
    /// The prefix of its requests' names.
    pub dst_prefix: String,
    /// How many entries its dtab has.
    pub dentries: usize,
}

impl RouterReport {
    /// The router with this configuration.
    pub fn read(config: &RoutingConfig) -> Self {
        Self {
            label: config.router.as_deref().unwrap_or("outgoing").to_owned(),
            dst_prefix: config.prefix().to_string(),
            dentries: config.dtab.entries.len(),
        }
    }
}
