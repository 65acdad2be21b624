//! Whether we can do our work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::bootstrap::certs;
use crate::bootstrap::x509::Summary;
use crate::clock::Clock;
use crate::http::admin::{Check, Readiness};
use crate::mapping::Store;
use crate::metrics::Metrics;

/// Whether we can do our work. Provers are there before anything listens; what is left is whether all mappings in force have been loaded, whether the
/// certificate is good now, and whether we are on our way out.
#[derive(Debug)]
pub(super) struct Ready {
    draining: AtomicBool,
    /// First and last second of the certificate, where they can be read.
    not_before: AtomicI64,
    not_after: AtomicI64,
    mappings: Arc<Store>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// How long before its end a certificate is worth a warning, in seconds: a fortnight.
const EXPIRES_SOON_SECS: i64 = 14 * 86_400;

impl Ready {
    pub(super) fn new(mappings: Arc<Store>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let (not_before, not_after) = (AtomicI64::new(i64::MIN), AtomicI64::new(i64::MAX));
        Self { draining: AtomicBool::new(false), not_before, not_after, mappings, clock, metrics }
    }

    /// This certificate is shown from now on.
    pub(super) fn serves(&self, certificate: &certs::ServingCert) {
        let Some(summary) = Summary::parse(certificate.leaf_der()) else { return };
        self.not_before.store(summary.not_before.as_i64(), Ordering::Relaxed);
        self.not_after.store(summary.not_after.as_i64(), Ordering::Relaxed);
        self.metrics.certificate_expires(summary.not_after);
        let left_secs = summary.not_after.as_i64().saturating_sub(self.clock.now().unix.as_i64());
        if !self.certificate_is_good() {
            tracing::error!("the serving certificate is not good now (it has run out, or has not begun): API servers will not connect");
        } else if left_secs < EXPIRES_SOON_SECS {
            tracing::warn!(days = left_secs / 86_400, "the serving certificate runs out soon");
        }
    }

    /// We are on our way out.
    pub(super) fn drains(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn certificate_is_good(&self) -> bool {
        let now = self.clock.now().unix.as_i64();
        (self.not_before.load(Ordering::Relaxed)..=self.not_after.load(Ordering::Relaxed)).contains(&now)
    }
}

impl Readiness for Ready {
    fn checks(&self) -> Vec<Check> {
        let mappings = Check { name: "mappings", ok: self.mappings.current().missing().next().is_none(), required: true };
        let provers = Check { name: "provers", ok: true, required: true };
        let serving = Check { name: "serving", ok: !self.draining.load(Ordering::Relaxed), required: true };
        let certificate = Check { name: "certificate", ok: self.certificate_is_good(), required: true };
        let mut checks = vec![mappings, certificate, provers, serving];
        // Left out where STS is not asked at all.
        let away = self.metrics.sts_state().map(|state| state.hosts_open + state.hosts_half_open);
        checks.extend(away.map(|away| Check { name: "sts", ok: away == 0, required: false }));
        checks
    }
}
