//! What is counted, under the names that the reference's dashboards use.
//!
//! One [`Metrics`] is made by whoever makes the server and handed out behind an `Arc`; there is no global. Labels come from enums and from
//! text that is fixed at compile time, so no caller and no answer can make a series of its own: at most
//! [`StsRegion`]'s known regions and two more, times the statuses that HTTP can have.
//!
//! The exposition is Prometheus' text format 0.0.4, whatever `Accept` says, as the reference's: OpenMetrics writes `le="1.0"` where dashboards
//! expect `le="1"`.
//!
//! upstream: pkg/metrics/metrics.go.

mod cache;
mod mapping;
mod serving;
mod sts;

use std::fmt;
use std::sync::Weak;

use arngate_core::{StsHost, UnixSeconds};
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use self::cache::CacheMetrics;
use self::mapping::{DynamicMetrics, MappingMetrics};
use self::serving::ServingMetrics;
use self::sts::StsMetrics;

pub use self::cache::{Level, Levels, Way};
pub use self::mapping::DynamicKind;
pub use self::sts::{StsGauges, StsState};

/// The `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Bounds of the latency buckets, in seconds: client_golang's `DefBuckets`.
const LATENCY_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How a request for authentication ended, as the reference sorts it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum AuthResult {
    /// The token was refused.
    InvalidToken,
    /// Not a TokenReview.
    MalformedRequest,
    /// STS could not be asked, or its answer is of no use.
    StsError,
    /// STS had too many questions.
    StsThrottling,
    /// A user.
    Success,
    /// Somebody, but nobody whom we know.
    UnknownUser,
}

impl AuthResult {
    const ALL: [Self; 6] =
        [Self::InvalidToken, Self::MalformedRequest, Self::StsError, Self::StsThrottling, Self::Success, Self::UnknownUser];

    /// The label. `uknown_user` is the reference's spelling, which dashboards use.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::InvalidToken => "invalid_token",
            Self::MalformedRequest => "malformed_request",
            Self::StsError => "sts_error",
            Self::StsThrottling => "sts_throttling",
            Self::Success => "success",
            Self::UnknownUser => "uknown_user",
        }
    }
}

/// The `StsRegion` label: a region that we know, `global`, or `other`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct StsRegion(&'static str);

impl StsRegion {
    /// The label for a host. A region that only fits by shape is `other`: whoever makes up region names makes no series.
    #[must_use]
    pub fn of(host: &StsHost<'_>) -> Self {
        Self(if host.is_global() { "global" } else { host.known_region().unwrap_or("other") })
    }

    /// The label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.0
    }

    const fn as_labels(self) -> Label {
        [("StsRegion", self.0)]
    }

    /// The same, of EC2.
    const fn as_ec2_labels(self) -> Label {
        [("Region", self.0)]
    }
}

/// The `ResponseCode` label: a status of HTTP, or `other` for what is none (RFC 9110, section 15: 100 to 599).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct StatusLabel(Option<u16>);

impl StatusLabel {
    fn of(status: u16) -> Self {
        Self((100..=599).contains(&status).then_some(status))
    }
}

impl EncodeLabelValue for StatusLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => EncodeLabelValue::encode(&status, encoder),
            None => EncodeLabelValue::encode(&"other", encoder),
        }
    }
}

/// One label: name and value.
type Label = [(&'static str, &'static str); 1];

/// Two labels, `ResponseCode` before `StsRegion` or `Region`.
type ResponseLabels = ([(&'static str, StatusLabel); 1], Label);

/// All counters and histograms of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    latency: [Histogram; AuthResult::ALL.len()],
    sts_responses: Family<ResponseLabels, Counter>,
    sts_connection_failures: Family<Label, Counter>,
    sts_throttling: Family<Label, Counter>,
    configmap_watch_failures: Counter,
    ec2_calls: Counter,
    ec2_responses: Family<ResponseLabels, Counter>,
    ec2_connection_failures: Family<Label, Counter>,
    refusals: Family<Label, Counter>,
    offline_proofs: Counter,
    panics: Counter,
    connections_refused: Counter,
    serving: ServingMetrics,
    log_lines_left_out: Counter,
    cache: CacheMetrics,
    mapping: MappingMetrics,
    dynamic: DynamicMetrics,
    sts: StsMetrics,
}

impl Metrics {
    /// Registers everything, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();

        let reference = registry.sub_registry_with_prefix("aws_iam_authenticator");
        let latency = Family::<Label, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS));
        reference.register("authenticate_latency_seconds", "Authenticate call latency", latency.clone());
        let sts_responses = Family::default();
        reference.register("sts_responses", "Sts responses with error code label", sts_responses.clone());
        let sts_connection_failures = Family::default();
        reference.register("sts_connection_failures", "Sts call could not succeed or timedout", sts_connection_failures.clone());
        let sts_throttling = Family::default();
        reference.register("sts_throttling", "Sts call got throttled", sts_throttling.clone());
        let configmap_watch_failures = Counter::default();
        reference.register("configmap_watch_failures", "EKS Configmap watch failures", configmap_watch_failures.clone());

        let ec2_calls = Counter::default();
        reference.register("ec2_describe_instances_calls", "Number of EC2 describe instances calls", ec2_calls.clone());
        let ec2_responses = Family::default();
        reference.register("ec2_responses", "EC2 responses with error code label", ec2_responses.clone());
        let ec2_connection_failures = Family::default();
        reference.register("ec2_connection_failures", "EC2 call could not succeed or timedout", ec2_connection_failures.clone());
        let dynamic = DynamicMetrics::register(reference);

        let ours = registry.sub_registry_with_prefix("arngate");
        ours.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let refusals = Family::default();
        ours.register("refusals", "Tokens refused, by reason", refusals.clone());
        let offline_proofs = Counter::default();
        ours.register("offline_proofs", "Tokens proved with a key of the bundle", offline_proofs.clone());
        let panics = Counter::default();
        ours.register("panics", "Requests that ended in a panic", panics.clone());
        let connections_refused = Counter::default();
        ours.register("connections_refused", "Connections closed at once because there were too many", connections_refused.clone());
        let serving = ServingMetrics::register(ours);
        let log_lines_left_out = Counter::default();
        ours.register("log_lines_left_out", "Log lines about denied requests that were not written", log_lines_left_out.clone());
        let cache = CacheMetrics::register(ours);
        let mapping = MappingMetrics::register(ours);
        let sts = StsMetrics::register(ours);

        // Made once: a request then takes no look-up in the family.
        let latency = AuthResult::ALL.map(|result| latency.get_or_create_owned(&[("result", result.label())]));
        Self {
            registry,
            latency,
            sts_responses,
            sts_connection_failures,
            sts_throttling,
            configmap_watch_failures,
            ec2_calls,
            ec2_responses,
            ec2_connection_failures,
            refusals,
            offline_proofs,
            panics,
            connections_refused,
            serving,
            log_lines_left_out,
            cache,
            mapping,
            dynamic,
            sts,
        }
    }

    /// A request for authentication ended so, so many seconds after all of it was there.
    pub fn authenticate_latency(&self, result: AuthResult, seconds: f64) {
        if let Some(histogram) = self.latency.get(result as usize) {
            histogram.observe(seconds);
        }
    }

    /// STS answered with a status.
    pub fn sts_response(&self, status: u16, region: StsRegion) {
        self.sts_responses.get_or_create(&([("ResponseCode", StatusLabel::of(status))], region.as_labels())).inc();
    }

    /// EC2 is asked for the names of instances.
    pub fn ec2_called(&self) {
        self.ec2_calls.inc();
    }

    /// EC2 answered with a status.
    pub fn ec2_response(&self, status: u16, region: StsRegion) {
        self.ec2_responses.get_or_create(&([("ResponseCode", StatusLabel::of(status))], region.as_ec2_labels())).inc();
    }

    /// EC2 did not answer.
    pub fn ec2_connection_failure(&self, region: StsRegion) {
        self.ec2_connection_failures.get_or_create(&region.as_ec2_labels()).inc();
    }

    /// STS did not answer.
    pub fn sts_connection_failure(&self, region: StsRegion) {
        self.sts_connection_failures.get_or_create(&region.as_labels()).inc();
    }

    /// STS answered that there are too many questions.
    pub fn sts_throttled(&self, region: StsRegion) {
        self.sts_throttling.get_or_create(&region.as_labels()).inc();
    }

    /// aws-auth could not be listed or watched.
    pub fn configmap_watch_failed(&self) {
        self.configmap_watch_failures.inc();
    }

    /// A token was refused, for one of the reasons that are fixed in the code ([`arngate_core::Error::reason`] and the provers').
    pub fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&[("reason", reason)]).inc();
    }

    /// A token was proved without STS.
    pub fn proved_offline(&self) {
        self.offline_proofs.inc();
    }

    /// A request ended in a panic.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// A connection found no place.
    pub fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// The question who signed a token was answered so.
    pub fn answered(&self, way: Way) {
        self.cache.answered(way);
    }

    /// Where identities that make room are counted.
    #[must_use]
    pub fn evictions(&self) -> Counter {
        self.cache.evictions.clone()
    }

    /// Who tells how much is cached and under way; the first counts.
    pub fn watch(&self, levels: Weak<dyn Levels>) {
        // There is one server to a `Metrics`.
        let _ = self.cache.levels.set(levels);
    }

    /// Counts requests for whose bodies there was no room.
    #[must_use]
    pub fn bodies_refused(&self) -> Counter {
        self.serving.bodies_refused.clone()
    }

    /// Files were read again.
    pub fn reloaded(&self, what: &'static str, now: UnixSeconds) {
        self.serving.reloaded(what, now);
    }

    /// Files have changed and cannot be used.
    pub fn reload_failed(&self, what: &'static str) {
        self.serving.reload_failed(what);
    }

    /// A source of mappings is in force.
    pub fn mapping_source(&self, source: &'static str) {
        self.mapping.there(source);
    }

    /// A source of mappings is no longer in force.
    pub fn mapping_source_left(&self, source: &'static str) {
        self.mapping.left(source);
    }

    /// A source of mappings was read, and has so many that are in force and so many that were left out; `ok` says whether all of it could be read.
    pub fn mapping_read(&self, source: &'static str, ok: bool, now: UnixSeconds, entries: usize, rejected: usize) {
        self.mapping.read(source, ok, now, entries, rejected);
    }

    /// A source of mappings could not be read.
    pub fn mapping_failed(&self, source: &'static str) {
        self.mapping.failed(source);
    }

    /// The dynamic file, or the one that says which modes are in force, could not be read.
    pub fn dynamic_file_failed(&self) {
        self.dynamic.failures.inc();
    }

    /// It took so many seconds from when a file was written, by its own account, until it was read.
    pub fn dynamic_latency(&self, kind: DynamicKind, seconds: i64) {
        self.dynamic.latency(kind, seconds);
    }

    /// Whether the dynamic file is in force, and whether others are.
    pub fn dynamic_file_in_force(&self, dynamic_file: bool, others: bool) {
        self.dynamic.in_force(dynamic_file, others);
    }

    /// The serving certificate is good until then.
    pub fn certificate_expires(&self, at: UnixSeconds) {
        self.serving.certificate_expiry.set(at.as_i64());
    }

    /// So many lines about denied requests were not written.
    pub fn log_lines_left_out(&self, lines: u64) {
        self.log_lines_left_out.inc_by(lines);
    }

    /// A call to STS found no place in its lane, `known` or `other`.
    pub fn sts_lane_refused(&self, lane: &'static str) {
        self.sts.lane_refusals.get_or_create(&[("lane", lane)]).inc();
    }

    /// A host was not asked, for too many that nobody knows came lately.
    pub fn sts_new_host_refused(&self) {
        self.sts.new_hosts_refused.inc();
    }

    /// A call to STS is made a second time.
    pub fn sts_retried(&self) {
        self.sts.retries.inc();
    }

    /// A call to STS would have been made a second time.
    pub fn sts_retry_budget_exhausted(&self) {
        self.sts.retry_budget_exhausted.inc();
    }

    /// Our clock is so many seconds ahead of that of STS; negative: behind.
    pub fn sts_clock_skew(&self, ahead_secs: i64) {
        self.sts.clock_skew.set(ahead_secs);
    }

    /// How things are on the way to STS; none where it is not asked.
    #[must_use]
    pub fn sts_state(&self) -> Option<StsState> {
        self.sts.gauges.get()?.state()
    }

    /// Shows from now on what `gauges` says; the first one counts.
    pub fn show_sts(&self, gauges: Box<dyn StsGauges>) {
        // A second client of STS in one server is nobody's plan; its calls are counted like the first one's.
        let _ = self.sts.gauges.set(gauges);
    }

    /// Everything in Prometheus' text format, of type [`CONTENT_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        self.cache.refresh();
        self.sts.refresh();
        let mut text = String::new();
        match prometheus_text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            // A `String` takes whatever is written; should the encoder ever fail itself, an empty page is not mistaken for zeros.
            Err(fmt::Error) => String::new(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use arngate_core::Partition;
    use arngate_core::endpoint::Fips;

    use super::*;

    fn region(name: &str) -> StsRegion {
        StsRegion::of(&StsHost::regional(Partition::Aws, name, Fips::No).unwrap())
    }

    #[derive(Debug)]
    struct Fixed;

    impl StsGauges for Fixed {
        fn state(&self) -> Option<StsState> {
            Some(StsState {
                in_flight: [3, 61],
                waiting: [0, 17],
                hosts_closed: 2,
                hosts_half_open: 0,
                hosts_open: 1,
                least_places: 32,
                connections: 65,
                known_keys: 400,
            })
        }
    }

    #[test]
    fn every_result_has_its_own_histogram() {
        let metrics = Metrics::new();
        for (index, result) in AuthResult::ALL.into_iter().enumerate() {
            for _ in 0..=index {
                metrics.authenticate_latency(result, 0.004);
            }
        }
        let text = metrics.encode();
        for (index, result) in AuthResult::ALL.into_iter().enumerate() {
            let expected =
                format!("aws_iam_authenticator_authenticate_latency_seconds_count{{result=\"{}\"}} {}\n", result.label(), index + 1);
            assert!(text.contains(&expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn a_region_that_nobody_knows_makes_no_series() {
        let metrics = Metrics::new();
        for name in ["eu-west-1", "us-nowhere-1", "us-nowhere-2", "eu-madeup-7"] {
            metrics.sts_throttled(region(name));
        }
        metrics.sts_throttled(StsRegion::of(&StsHost::global()));
        for status in [200, 0, 42, 999, u16::MAX] {
            metrics.sts_response(status, region("eu-west-1"));
        }
        let text = metrics.encode();
        for line in [
            "aws_iam_authenticator_sts_throttling_total{StsRegion=\"eu-west-1\"} 1\n",
            "aws_iam_authenticator_sts_throttling_total{StsRegion=\"other\"} 3\n",
            "aws_iam_authenticator_sts_throttling_total{StsRegion=\"global\"} 1\n",
            "aws_iam_authenticator_sts_responses_total{ResponseCode=\"200\",StsRegion=\"eu-west-1\"} 1\n",
            "aws_iam_authenticator_sts_responses_total{ResponseCode=\"other\",StsRegion=\"eu-west-1\"} 4\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_exposition_reads_as_the_references() {
        let metrics = Metrics::new();
        metrics.authenticate_latency(AuthResult::Success, 0.02);
        metrics.authenticate_latency(AuthResult::Success, 20.0);
        metrics.sts_response(200, region("us-west-2"));
        metrics.sts_connection_failure(region("us-west-2"));
        metrics.sts_throttled(region("us-west-2"));
        metrics.ec2_called();
        metrics.ec2_response(200, region("us-west-2"));
        metrics.ec2_connection_failure(region("us-west-2"));
        metrics.refused("expired");
        metrics.proved_offline();
        metrics.panicked();
        metrics.connection_refused();
        metrics.log_lines_left_out(7);
        metrics.mapping_read("MountedFile", true, UnixSeconds::new(1_795_521_600), 12, 1);
        metrics.mapping_source("CRD");
        metrics.dynamic_file_failed();
        metrics.dynamic_latency(DynamicKind::File, 4);
        metrics.dynamic_file_in_force(true, true);
        metrics.sts_lane_refused("other");
        metrics.sts_new_host_refused();
        metrics.sts_retried();
        metrics.sts_retry_budget_exhausted();
        metrics.sts_clock_skew(-3);
        metrics.show_sts(Box::new(Fixed));
        let text = metrics.encode();
        // Five of the six histograms are all zero.
        let mut seen: Vec<_> = text.lines().filter(|line| !line.contains("result=") || line.contains("success")).collect();
        // Series of one name come in any order.
        let name = |line: &str| line.split('{').next().map(str::to_owned);
        seen.chunk_by_mut(|one, next| name(one) == name(next)).for_each(<[&str]>::sort_unstable);
        insta::assert_snapshot!(seen.join("\n").replace(env!("CARGO_PKG_VERSION"), "<version>"));
    }
}
