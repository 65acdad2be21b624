//! The sources of mappings that are in force, and files that other programs write.

use arngate_core::UnixSeconds;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
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

/// A file that another program writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DynamicKind {
    /// Which modes are in force.
    BackendMode,
    /// Mappings.
    File,
}

impl DynamicKind {
    /// The label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::BackendMode => "dynamic_backend_mode",
            Self::File => "dynamic_file",
        }
    }
}

/// Bounds of the buckets of `dynamic_e2e_latency_seconds`, in seconds; upstream: pkg/metrics/metrics.go.
const DYNAMIC_LATENCY_BUCKETS: [f64; 8] = [1.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0];

/// What the reference counts of such files.
#[derive(Debug)]
pub(super) struct DynamicMetrics {
    pub(super) failures: Counter,
    latency: Family<Label, Histogram, fn() -> Histogram>,
    enabled: Gauge,
    only: Gauge,
}

impl DynamicMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let latency = Family::<Label, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(DYNAMIC_LATENCY_BUCKETS));
        let all = Self { failures: Counter::default(), latency, enabled: Gauge::default(), only: Gauge::default() };
        registry.register("dynamicfile_failures", "Dynamic file failures", all.failures.clone());
        registry.register("dynamic_e2e_latency_seconds", "End to end latency in seconds partitioned by type", all.latency.clone());
        registry.register("dynamic_file_enabled", "Dynamic file in backend mode is enabled", all.enabled.clone());
        registry.register("dynamic_file_only", "Only dynamic file in backend mode is enabled", all.only.clone());
        all
    }

    pub(super) fn latency(&self, kind: DynamicKind, seconds: i64) {
        // Whole seconds up to 2^31 are exact; beyond, there is one bucket left.
        let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
        self.latency.get_or_create(&[("type", kind.label())]).observe(seconds.into());
    }

    /// As the reference has it, where it is alone it is not counted as enabled too.
    pub(super) fn in_force(&self, dynamic_file: bool, others: bool) {
        self.enabled.set((dynamic_file && others).into());
        self.only.set((dynamic_file && !others).into());
    }
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
