//! The sources of mappings that are in force.

use arngate_core::UnixSeconds;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Label;

/// Gauges of the sources in force; those that are not have no series.
#[derive(Debug, Default)]
pub(super) struct MappingMetrics {
    ok: Family<Label, Gauge>,
    last_success: Family<Label, Gauge>,
    entries: Family<Label, Gauge>,
    rejected: Family<Label, Gauge>,
}

impl MappingMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register("mapping_source_ok", "Whether a source of mappings could be read the last time", all.ok.clone());
        registry.register(
            "mapping_source_last_success_timestamp_seconds",
            "When a source of mappings was last read; 0 if never since the start",
            all.last_success.clone(),
        );
        registry.register("mapping_source_entries", "Mappings and accounts of a source that are in force", all.entries.clone());
        registry.register("mapping_source_rejected_entries", "Entries of a source that were left out", all.rejected.clone());
        all
    }

    const fn families(&self) -> [&Family<Label, Gauge>; 4] {
        [&self.ok, &self.last_success, &self.entries, &self.rejected]
    }

    pub(super) fn there(&self, source: &'static str) {
        for family in self.families() {
            drop(family.get_or_create(&[("source", source)]));
        }
    }

    pub(super) fn left(&self, source: &'static str) {
        for family in self.families() {
            family.remove(&[("source", source)]);
        }
    }

    pub(super) fn read(&self, source: &'static str, ok: bool, now: UnixSeconds, entries: usize, rejected: usize) {
        let set = |family: &Family<Label, Gauge>, value: i64| {
            family.get_or_create(&[("source", source)]).set(value);
        };
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        set(&self.ok, ok.into());
        set(&self.last_success, now.as_i64());
        set(&self.entries, number(entries));
        set(&self.rejected, number(rejected));
    }

    pub(super) fn failed(&self, source: &'static str) {
        self.ok.get_or_create(&[("source", source)]).set(0);
    }
}
