//! What is listened with and read again: certificates, bundles, and connections.

use arngate_core::UnixSeconds;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Label;

/// All that is ever read again, so that each is there from the start: an alarm on what is not there never rings.
const SOURCES: [&str; 6] = ["backend-mode", "bundle", "certificate", "client-ca", "config", "dynamic-file"];

/// Counters and gauges of what is read again.
#[derive(Debug)]
pub(super) struct ServingMetrics {
    pub(super) bodies_refused: Counter,
    pub(super) certificate_expiry: Gauge,
    reload_failures: Family<Label, Counter>,
    reload_last_success: Family<Label, Gauge>,
}

impl ServingMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self {
            bodies_refused: Counter::default(),
            certificate_expiry: Gauge::default(),
            reload_failures: Family::default(),
            reload_last_success: Family::default(),
        };
        registry.register("bodies_refused", "Requests for whose bodies there was no room", all.bodies_refused.clone());
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the serving certificate runs out; 0 where it cannot be read",
            all.certificate_expiry.clone(),
        );
        registry.register("reload_failures", "Changed files that could not be used", all.reload_failures.clone());
        registry.register(
            "reload_last_success_timestamp_seconds",
            "When files were last read again; 0 if never since the start",
            all.reload_last_success.clone(),
        );
        for what in SOURCES {
            drop(all.reload_failures.get_or_create(&[("what", what)]));
            drop(all.reload_last_success.get_or_create(&[("what", what)]));
        }
        all
    }

    pub(super) fn reloaded(&self, what: &'static str, now: UnixSeconds) {
        self.reload_last_success.get_or_create(&[("what", what)]).set(now.as_i64());
    }

    pub(super) fn reload_failed(&self, what: &'static str) {
        self.reload_failures.get_or_create(&[("what", what)]).inc();
    }
}
