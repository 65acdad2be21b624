//! The way to STS: what was counted there, and how things are.

use std::fmt;
use std::sync::OnceLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Label;

/// How things are on the way to STS, at the moment when somebody looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StsState {
    /// Calls under way: of known access keys, and of others.
    pub in_flight: [usize; 2],
    /// Calls that wait for a place: of known access keys, and of others.
    pub waiting: [usize; 2],
    /// Hosts that are asked.
    pub hosts_closed: usize,
    /// Hosts of which one call finds out whether they answer again.
    pub hosts_half_open: usize,
    /// Hosts that are left alone.
    pub hosts_open: usize,
    /// Calls at a time to the host that was throttled most.
    pub least_places: usize,
    /// Connections to all hosts.
    pub connections: usize,
    /// Access keys that are known.
    pub known_keys: usize,
}

/// Who knows the [`StsState`]. It is asked when metrics are, so that nothing is counted where calls are made.
pub trait StsGauges: fmt::Debug + Send + Sync {
    /// The state; none once there is nobody who asks STS.
    fn state(&self) -> Option<StsState>;
}

/// Counters and gauges of the way to STS.
#[derive(Debug, Default)]
pub(super) struct StsMetrics {
    pub(super) lane_refusals: Family<Label, Counter>,
    pub(super) new_hosts_refused: Counter,
    pub(super) retries: Counter,
    pub(super) retry_budget_exhausted: Counter,
    pub(super) clock_skew: Gauge,
    in_flight: Family<Label, Gauge>,
    waiting: Family<Label, Gauge>,
    hosts: Family<Label, Gauge>,
    least_places: Gauge,
    connections: Gauge,
    known_keys: Gauge,
    pub(super) gauges: OnceLock<Box<dyn StsGauges>>,
}

impl StsMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register("sts_lane_refusals", "Calls to STS that found no place, by lane", all.lane_refusals.clone());
        registry.register("sts_new_hosts_refused", "Hosts that were not asked, for nobody knows them", all.new_hosts_refused.clone());
        registry.register("sts_retries", "Calls to STS that were made a second time", all.retries.clone());
        registry.register(
            "sts_retry_budget_exhausted",
            "Calls to STS that were not made a second time, for there were too many of these",
            all.retry_budget_exhausted.clone(),
        );
        registry.register("sts_clock_skew_seconds", "How far our clock is ahead of that of STS", all.clock_skew.clone());
        registry.register("sts_in_flight", "Calls to STS under way, by lane", all.in_flight.clone());
        registry.register("sts_waiting", "Calls that wait for a place, by lane", all.waiting.clone());
        registry.register("sts_hosts", "Hosts of STS, by the state of their breaker", all.hosts.clone());
        registry.register("sts_least_places", "Calls at a time to the host that was throttled most", all.least_places.clone());
        registry.register("sts_connections", "Connections to STS", all.connections.clone());
        registry.register("sts_known_keys", "Access keys whose last proof was mapped", all.known_keys.clone());
        all
    }

    /// Looks how things are, for somebody is about to read it.
    pub(super) fn refresh(&self) {
        let Some(state) = self.gauges.get().and_then(|gauges| gauges.state()) else { return };
        let set = |gauge: &Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        for (index, lane) in ["known", "other"].into_iter().enumerate() {
            set(&self.in_flight.get_or_create(&[("lane", lane)]), state.in_flight[index]);
            set(&self.waiting.get_or_create(&[("lane", lane)]), state.waiting[index]);
        }
        for (breaker, hosts) in [("closed", state.hosts_closed), ("half_open", state.hosts_half_open), ("open", state.hosts_open)] {
            set(&self.hosts.get_or_create(&[("breaker", breaker)]), hosts);
        }
        set(&self.least_places, state.least_places);
        set(&self.connections, state.connections);
        set(&self.known_keys, state.known_keys);
    }
}
