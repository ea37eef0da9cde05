//! Writes metrics as OpenMetrics text.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Histogram;

/// An owner of metrics that can write them.
pub trait Scrape: Send + Sync + 'static {
    /// Writes every metric; called once per scrape.
    ///
    /// # Errors
    ///
    /// Only those that the page's own methods return.
    fn scrape(&self, page: &mut Page<'_>) -> fmt::Result;
}

/// The page being written.
pub struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// A counter family: one row per set of labels. The encoder appends `_total` to the name.
    ///
    /// # Errors
    ///
    /// When the page cannot be written to.
    pub fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'static str, impl AsRef<str>); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            family.encode_family(&Labels(labels))?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A gauge family: one row per set of labels.
    ///
    /// # Errors
    ///
    /// When the page cannot be written to.
    pub fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'static str, impl AsRef<str>); N], f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            family.encode_family(&Labels(labels))?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A histogram family, in seconds.
    ///
    /// # Errors
    ///
    /// When the page cannot be written to.
    pub fn histograms<'h, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'static str, impl AsRef<str>); N], &'h Histogram)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in rows {
            let buckets = histogram.buckets();
            let count = buckets.iter().map(|(_, count)| count).sum();
            family.encode_family(&Labels(labels))?.encode_histogram::<NoLabelSet>(
                histogram.sum(),
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// Writes the metrics of `sources` to `out`, as OpenMetrics text (`application/openmetrics-text; version=1.0.0`). After the
/// last ones, [`end`] is to follow.
///
/// # Errors
///
/// Those of `out`.
pub fn write(out: &mut impl fmt::Write, sources: &[Arc<dyn Scrape>]) -> fmt::Result {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Sources(sources.to_vec())));
    encode_registry(out, &registry)
}

/// Writes the end of a page.
///
/// # Errors
///
/// Those of `out`.
pub fn end(out: &mut impl fmt::Write) -> fmt::Result {
    encode_eof(out)
}

struct Sources(Vec<Arc<dyn Scrape>>);

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sources", self.0.len())
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.0.iter().try_for_each(|source| source.scrape(&mut page))
    }
}

struct Labels<V, const N: usize>([(&'static str, V); N]);

impl<V: AsRef<str>, const N: usize> EncodeLabelSet for Labels<V, N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::EncodeLabel;
        // An empty label is the same as none (OpenMetrics 1.0, "Label").
        for (key, value) in self.0.iter().filter(|(_, value)| !value.as_ref().is_empty()) {
            (*key, value.as_ref()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample;

    impl Scrape for Sample {
        fn scrape(&self, page: &mut Page<'_>) -> fmt::Result {
            page.counters(
                "weir_sample",
                "Samples",
                [([("kind", "a\"b"), ("more", "")], 2), ([("kind", "c"), ("more", "m")], 3)],
            )?;
            page.gauges("weir_level", "Level", [([("kind", "x"); 1], 1.5)])
        }
    }

    #[test]
    fn the_page_is_openmetrics_text() {
        let mut text = String::new();
        write(&mut text, &[Arc::new(Sample)]).and_then(|()| end(&mut text)).unwrap();
        assert!(text.contains("# TYPE weir_sample counter\n"), "{text}");
        assert!(text.contains("weir_sample_total{kind=\"a\\\"b\"} 2\n"), "{text}");
        assert!(text.contains("weir_sample_total{kind=\"c\",more=\"m\"} 3\n"), "{text}");
        assert!(text.contains("weir_level{kind=\"x\"} 1.5\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
