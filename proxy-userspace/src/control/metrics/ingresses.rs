//! Metrics: the rules of the cluster's Ingresses.

use std::fmt;

use crate::discovery::kubernetes::IngressKeeper;
use crate::telemetry::Page;

pub(super) fn write(page: &mut Page<'_>, keeper: &IngressKeeper) -> fmt::Result {
    let known = keeper.known().borrow().clone();
    let labels = |source: &crate::domain::identify::ingress::IngressSource| {
        let namespace = source.namespace.as_deref().unwrap_or_default().to_owned();
        [("class", source.class.to_string()), ("namespace", namespace)]
    };
    let rules = known
        .iter()
        .map(|(source, table)| (labels(source), table.rules().map_or(f64::NAN, |rules| rules.len() as f64)));
    page.gauges("weir_ingress_rules", "Rules of Ingresses in force", rules)?;
    let left_out = known.iter().flat_map(|(source, table)| {
        let left_out = table.rules().map(|rules| rules.left_out().clone()).unwrap_or_default();
        let [class, namespace] = labels(source);
        let counts = [("taken", left_out.taken), ("too_many", left_out.too_many), ("share", left_out.share)];
        counts.map(|(reason, count)| {
            ([class.clone(), namespace.clone(), ("reason", reason.to_owned())], count as f64)
        })
    });
    page.gauges("weir_ingress_rules_left_out", "Rules of Ingresses that are not in force", left_out)
}
