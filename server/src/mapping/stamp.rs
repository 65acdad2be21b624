//! When a file that another program writes was written, by its own account.

use arngate_core::UnixSeconds;

use crate::document::Section;
use crate::metrics::{DynamicKind, Metrics};
use crate::telemetry::escape::Escaped;

/// `LastUpdatedDateTime` and `Version`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stamp {
    updated: Option<UnixSeconds>,
    version: String,
}

impl Stamp {
    /// Takes both from a document. Neither has to be there, or to make sense.
    pub(crate) fn take(section: &mut Section<'_>) -> Self {
        let mut text = |key| section.take(key).filter(|field| field.is_text()).and_then(|field| field.text()).map(|text| text.text);
        let updated = text("LastUpdatedDateTime").and_then(|text| text.parse().ok()).map(UnixSeconds::new);
        Self { updated, version: text("Version").unwrap_or_default() }
    }

    /// Counts and logs how long it took from there to here.
    ///
    /// upstream: `CalculateTimeDeltaFromUnixInSeconds` in pkg/fileutil/util.go.
    pub(crate) fn tell(&self, kind: DynamicKind, now: UnixSeconds, metrics: &Metrics) {
        let age = self.updated.map(|updated| now.as_i64().saturating_sub(updated.as_i64())).filter(|age| *age >= 0);
        let Some(age) = age else { return };
        metrics.dynamic_latency(kind, age);
        tracing::info!(Version = %Escaped(&self.version), Type = kind.label(), Latency = age, "logging latency metric");
    }
}
