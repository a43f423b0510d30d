//! Metrics whose values are read when Prometheus scrapes them, in a `prometheus-client` registry.
//!
//! Label values are escaped here and nowhere else.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabel, EncodeLabelSet,
    EncodeMetric, LabelSetEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::text::visible;

/// Registers `write`, which is called at each scrape.
pub fn register(
    registry: &mut Registry,
    write: impl Fn(&mut Families<'_>) -> fmt::Result + Send + Sync + 'static,
) {
    registry.register_collector(Box::new(MetricSource(write)));
}

struct MetricSource<F>(F);

impl<F: Fn(&mut Families<'_>) -> fmt::Result + Send + Sync + 'static> Collector
    for MetricSource<F>
{
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.0)(&mut Families(encoder))
    }
}

impl<F> fmt::Debug for MetricSource<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").finish_non_exhaustive()
    }
}

/// Writes the metric families of one scrape, each once.
#[derive(Debug)]
pub struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    /// A counter family, with the labels of each value. The format adds `_total` to the name.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn counter<const N: usize, T: AsRef<str>, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([(&'static str, T); N], V)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            family
                .encode_family(&LabelPairs(labels))?
                .encode_counter::<NoLabelSet, V, f64>(&value, None)?;
        }
        Ok(())
    }

    /// A gauge family, with the labels of each value.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn gauge<const N: usize, T: AsRef<str>, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([(&'static str, T); N], V)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            family
                .encode_family(&LabelPairs(labels))?
                .encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A metric of `prometheus-client`, which is written even while it is empty.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        let kind = metric.metric_type();
        metric.encode(self.0.encode_descriptor(name, help, None, kind)?)
    }
}

/// No labels.
pub const NONE: [(&str, &str); 0] = [];

/// A time for Prometheus: seconds since 1970.
pub fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

struct LabelPairs<const N: usize, T>([(&'static str, T); N]);

impl<const N: usize, T: AsRef<str>> EncodeLabelSet for LabelPairs<N, T> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            (*name, visible(value.as_ref())).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// Counts events by reason. Reasons are constants of the program, so a peer cannot add a series.
#[derive(Debug, Default)]
pub struct CountBy(Mutex<BTreeMap<&'static str, u64>>);

impl CountBy {
    /// Counts one more event with this reason.
    pub fn add(&self, reason: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(reason).or_default() += 1;
    }

    /// The count of each reason so far, under the label `name`.
    pub fn samples(
        &self,
        name: &'static str,
    ) -> impl Iterator<Item = ([(&'static str, &'static str); 1], u64)> + use<> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = counts.clone().into_iter();
        counts.map(move |(reason, count)| ([(name, reason)], count))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::encoding::prometheus_text::encode;

    use super::*;

    fn page(write: impl Fn(&mut Families<'_>) -> fmt::Result + Send + Sync + 'static) -> String {
        let mut registry = Registry::default();
        register(&mut registry, write);
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        page
    }

    #[test]
    fn families_are_in_the_text_format_also_while_they_are_empty() {
        let text = page(|families| {
            families.counter("a", "What a is.", [([("b", "c"), ("d", "e")], 4_u64)])?;
            families.counter("n", "None.", CountBy::default().samples("reason"))?;
            let at = UNIX_EPOCH + Duration::from_millis(1500);
            families.gauge("t_seconds", "When.", [(NONE, seconds(at))])
        });
        assert_eq!(
            text,
            "# HELP a_total What a is.\n# TYPE a_total counter\na_total{b=\"c\",d=\"e\"} 4\n\
             # HELP n_total None.\n# TYPE n_total counter\n\
             # HELP t_seconds When.\n# TYPE t_seconds gauge\nt_seconds 1.5\n"
        );
    }

    #[test]
    fn a_registry_with_a_prefix_gives_it_to_the_families() {
        let mut registry = Registry::default();
        let below = registry.sub_registry_with_prefix("billing");
        register(below, |families| {
            families.counter("a", "A.", [(NONE, 1_u64)])
        });
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        assert!(page.contains("\nbilling_a_total 1\n"), "{page}");
    }

    #[test]
    fn no_label_breaks_out_of_its_quotes_or_its_line() {
        let text = page(|families| {
            let raw = "a\"} 1\nb\\\r\u{1b}[0m\u{202e}";
            families.gauge("g", "G.", [([("l", raw)], 1_u64)])
        });
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            "g{l=\"a\\\"} 1\\\\nb\\\\\\\\r\\\\u{1b}[0m\\\\u{202e}\"} 1"
        );
    }
}
