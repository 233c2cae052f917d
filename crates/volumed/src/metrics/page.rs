//! The samples of one scrape, and the collector that hands them to the registry.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::families::{FAMILIES, Id, Kind};

/// The samples of one scrape: made anew each time, so that what is gone leaves none behind, and two scrapes at once do not meet.
#[derive(Debug)]
pub struct Page {
    samples: Vec<Vec<Metric>>,
}

impl Default for Page {
    fn default() -> Self {
        Self { samples: FAMILIES.iter().map(|_| Vec::new()).collect() }
    }
}

impl Page {
    /// One sample. `labels` in the order of the family; a sample with too few or too many is left out.
    pub fn put(&mut self, id: Id, labels: &[&str], value: f64) {
        let at = id as usize;
        let (Some(family), Some(samples)) = (FAMILIES.get(at), self.samples.get_mut(at)) else { return };
        debug_assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
        if labels.len() != family.labels.len() || !value.is_finite() {
            return;
        }
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut pairs: Vec<_> = family.labels.iter().zip(labels).map(pair).collect();
        // The text format wants none, the registry sorts families by name: so do we with labels.
        pairs.sort_by(|a, b| a.name().cmp(b.name()));
        let mut metric = Metric::default();
        metric.set_label(pairs);
        match family.kind {
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            // Observed where things happen, not collected.
            Kind::Histogram => return,
        }
        samples.push(metric);
    }

    /// A number of bytes or things: exact up to 2^53.
    pub fn count(&mut self, id: Id, labels: &[&str], value: u64) {
        self.put(id, labels, value as f64);
    }

    /// 1 or 0.
    pub fn flag(&mut self, id: Id, labels: &[&str], value: bool) {
        self.put(id, labels, f64::from(u8::from(value)));
    }

    /// Families without a sample are left out.
    fn into_families(self) -> Vec<MetricFamily> {
        let family = |(family, samples): (&super::families::Family, Vec<Metric>)| {
            let mut out = MetricFamily::default();
            out.set_name(family.name.to_owned());
            out.set_help(family.help.to_owned());
            out.set_field_type(if family.kind == Kind::Counter { MetricType::COUNTER } else { MetricType::GAUGE });
            out.set_metric(samples);
            out
        };
        let filled = FAMILIES.iter().zip(self.samples).filter(|(_, samples)| !samples.is_empty());
        filled.map(family).collect()
    }
}

/// Writes the samples of a moment.
pub trait Source: Send + Sync {
    fn write(&self, page: &mut Page);
}

/// Hands what a [`Source`] knows to a registry, at each scrape.
pub struct Collected {
    source: Arc<dyn Source>,
    descriptions: Vec<Desc>,
}

impl Collected {
    /// # Errors
    /// A family with a name or label that Prometheus does not take.
    pub fn new(source: Arc<dyn Source>) -> prometheus::Result<Self> {
        let description = |family: &super::families::Family| {
            let labels = family.labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(family.name.to_owned(), family.help.to_owned(), labels, HashMap::new())
        };
        let collected =
            FAMILIES.iter().filter(|family| family.kind != Kind::Histogram && !is_counted_elsewhere(family));
        Ok(Self { source, descriptions: collected.map(description).collect::<prometheus::Result<_>>()? })
    }
}

/// Families that [`super::Requests`] counts.
fn is_counted_elsewhere(family: &super::families::Family) -> bool {
    FAMILIES.get(Id::OperationErrors as usize).is_some_and(|errors| errors.name == family.name)
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut page = Page::default();
        self.source.write(&mut page);
        page.into_families()
    }
}
