//! linkerd's telemeters.

use super::notes::Notes;
use super::part::Field;
use crate::config::quoted;

/// Notes the replacement of each telemeter, or that there is none.
pub(super) fn read(field: &Field<'_>, notes: &mut Notes<'_>) {
    for telemeter in field.items() {
        notes.left(&telemeter, why(telemeter.kind()));
    }
}

fn why(kind: &str) -> String {
    let why = match kind {
        "io.l5d.prometheus" => {
            "weir's metrics are always there, at /metrics of `admin` and `probes`; their names are others (docs/metrics.md)"
        }
        "io.l5d.statsd" | "io.l5d.influxdb" | "io.l5d.commonMetrics" => {
            "weir has Prometheus metrics alone, at /metrics of `admin` and `probes`"
        }
        "io.l5d.zipkin" | "io.l5d.tracelog" => {
            "weir writes no traces yet; trace headers pass on as they come, so a trace goes on behind it"
        }
        "io.l5d.recentRequests" => "weir keeps no recent requests; `weir explain` tells where one would go",
        "" => return "a telemeter without a kind".to_owned(),
        other => return format!("telemeter {} is none of linkerd's own", quoted(other)),
    };
    format!("{kind}: {why}")
}
