//! Settings of what is asked of AWS: STS and EC2.

use std::time::Duration;

use arngate_core::arn::{Arn, Principal};
use arngate_core::{Error as CoreError, Partition, StsHosts};

use super::{Reader, path};
use crate::config::layer::{list, some, variable};
use crate::config::settings::{Ec2Settings, StsSettings};
use crate::document::reader::{Span, duration, integer};
use crate::document::{Field, Place, Section, Shown, Text};
use crate::ec2;
use crate::prover::sts::{self, EndpointError, Endpoints, Rate};

/// As long as the API server waits for a webhook; a later answer helps nobody.
/// Kubernetes: `timeout` of `WebhookTokenAuthenticator`, 30 s by default.
const DEADLINE_MOST: Duration = Duration::from_secs(30);

/// Calls a second beyond which a limit is none: more than any AWS API answers.
const RATE_MOST: u32 = 100_000;

/// Calls at one time: as many as there can be file descriptors by default, with room for clients.
const IN_FLIGHT_MOST: u16 = 4096;

/// Calls that wait: each holds some kilobytes.
const QUEUED_MOST: u16 = 16_384;

/// Access keys that are known: some 70 MB of them.
const KNOWN_KEYS_MOST: u32 = 1_000_000;

impl<'a> Reader<'a> {
    pub(super) fn sts(&self, mut section: Section<'a>, partition: Partition, region: Option<&str>) -> StsSettings {
        let o = self.overrides;
        let hosts = StsHosts::new(partition).with_own_region(region);
        let given = ("--sts-endpoints", o.sts_endpoints.as_slice());
        let endpoints = self.endpoints(&mut section, given, "STS", |endpoints, host, url| endpoints.insert(host, url, &hosts));
        let ca_file = Self::text("--sts-ca-file", o.sts_ca_file.as_ref(), &mut section, "caFile");
        let bundle = variable("AWS_CA_BUNDLE", self.environment.aws_ca_bundle.as_ref());
        let field = section.take("regions");
        let regions = self.sts_regions(field.as_ref(), partition, region);

        let spans = |most| duration(Duration::from_millis(1)..=most);
        let deadline = self.read("--sts-deadline", o.sts_deadline.as_ref(), &mut section, "deadline", spans(DEADLINE_MOST));
        let deadline = deadline.unwrap_or(Duration::from_secs(5));
        let within = |name, given, section: &mut Section<'a>, key, least, most: Duration, whole| {
            let text = Self::text(name, given, section, key)?;
            let value = text.read(self.findings, duration(least..=DEADLINE_MOST))?;
            if value > most {
                self.findings.error(text.place, format!("expected no more than {whole}, which is {}, found {}", Span(most), text.text));
            }
            Some(value)
        };
        let (some_time, the_deadline) = (Duration::from_millis(1), "the deadline");
        let attempt_timeout = within(
            "--sts-attempt-timeout",
            o.sts_attempt_timeout.as_ref(),
            &mut section,
            "attemptTimeout",
            some_time,
            deadline,
            the_deadline,
        );
        let attempt_timeout = attempt_timeout.unwrap_or_else(|| Duration::from_secs(2).min(deadline));
        let connect_timeout = within(
            "--sts-connect-timeout",
            o.sts_connect_timeout.as_ref(),
            &mut section,
            "connectTimeout",
            some_time,
            attempt_timeout,
            "the time of an attempt",
        );
        let max_wait = within("--sts-max-wait", o.sts_max_wait.as_ref(), &mut section, "maxWait", Duration::ZERO, deadline, the_deadline);
        let max_in_flight =
            self.read("--sts-max-in-flight", o.sts_max_in_flight.as_ref(), &mut section, "maxInFlight", integer(1..=IN_FLIGHT_MOST));
        let max_queued = self.read("--sts-max-queued", o.sts_max_queued.as_ref(), &mut section, "maxQueued", integer(0..=QUEUED_MOST));
        let max_known_keys =
            self.read("--sts-max-known-keys", o.sts_max_known_keys.as_ref(), &mut section, "maxKnownKeys", integer(0..=KNOWN_KEYS_MOST));
        let retry_percent = self.read("--sts-retry-budget", o.sts_retry_budget.as_ref(), &mut section, "retryBudget", percent);
        let rate = self.rate(&mut section);
        section.finish();
        let usual = sts::Config::default();
        StsSettings {
            endpoints,
            ca_files: bundle.iter().chain(&ca_file).filter_map(|text| self.existing(text)).collect(),
            regions,
            deadline,
            attempt_timeout,
            connect_timeout: connect_timeout.unwrap_or_else(|| usual.connect_timeout.min(attempt_timeout)),
            max_in_flight: max_in_flight.map(usize::from),
            max_wait: max_wait.unwrap_or_else(|| usual.max_wait.min(deadline)),
            max_queued: max_queued.map_or(usual.max_queued, usize::from),
            max_known_keys: max_known_keys.map_or(usual.max_known_keys, |most: u32| usize::try_from(most).unwrap_or(usize::MAX)),
            retry_percent: retry_percent.unwrap_or(usual.retry_percent),
            rate,
        }
    }

    /// The regions that may be asked. An empty flag takes the file's away; an empty list in the file would leave none.
    fn sts_regions(&self, field: Option<&Field<'a>>, partition: Partition, own: Option<&str>) -> Option<Vec<String>> {
        let regions = list("--sts-regions", &self.overrides.sts_regions, field)?;
        if regions.is_empty() {
            if let Some(field) = field.filter(|_| self.overrides.sts_regions.is_empty()) {
                field.error("expected at least one region");
            }
            return None;
        }
        Some(regions.iter().filter_map(|name| self.sts_region(name, partition, own)).collect())
    }

    /// Where to connect for hosts of `service`, which `insert` judges.
    fn endpoints(
        &self,
        section: &mut Section<'a>,
        (flag, pairs): (&'static str, &[String]),
        service: &str,
        insert: impl Fn(&mut Endpoints, &str, &str) -> Result<(), EndpointError>,
    ) -> Endpoints {
        let add = |endpoints: &mut Endpoints, host: &str, place: &Place, url: &str| {
            let message = match insert(endpoints, host, url) {
                Ok(()) => return,
                Err(EndpointError::Host(CoreError::Partition)) => format!("{} is a host of {service} in another partition", Shown(host)),
                Err(EndpointError::Host(_)) => format!("expected a host of {service}, found {}", Shown(host)),
                Err(error @ EndpointError::Repeated) => format!("{error}: {}", Shown(host)),
                Err(error @ EndpointError::Url) => format!("{error}, found {}", Shown(url)),
            };
            self.findings.error(place.clone(), message);
        };
        let (mut endpoints, mut given) = (Endpoints::default(), Endpoints::default());
        for (host, field) in section.section("endpoints").into_fields() {
            if let Some(url) = field.text() {
                add(&mut endpoints, host, &url.place, &url.text);
            }
        }
        let place = Place::Flag(flag);
        for pair in pairs.iter().flat_map(|pairs| pairs.split(',')) {
            match pair.split_once('=') {
                Some((host, url)) => add(&mut given, host, &place, url),
                None => self.findings.error(place.clone(), format!("expected host=https://host:port, found {}", Shown(pair))),
            }
        }
        endpoints.override_with(given);
        endpoints
    }

    fn sts_region(&self, name: &Text, partition: Partition, own: Option<&str>) -> Option<String> {
        name.read(self.findings, |name| {
            let fits = partition.known_regions().contains(&name) || partition.has_shape_of(name) || own == Some(name);
            if fits { Ok(name.to_owned()) } else { Err(format!("expected a region of the partition {partition}, found {}", Shown(name))) }
        })
    }

    fn rate(&self, section: &mut Section<'a>) -> Option<Rate> {
        let rate = Self::text("--sts-rate", self.overrides.sts_rate.as_ref(), section, "rate").filter(|text| text.text != "none");
        let burst = Self::text("--sts-burst", self.overrides.sts_burst.as_ref(), section, "burst");
        let per_second = rate.and_then(|text| {
            text.read(self.findings, |text| {
                integer(1..=RATE_MOST)(text).map_err(|_| format!("expected none or a number from 1 to {RATE_MOST}, found {}", Shown(text)))
            })
        });
        if let (None, Some(burst)) = (per_second, &burst) {
            self.findings.warn(burst.place.clone(), "has no effect without a rate");
        }
        let burst = burst.and_then(|text| text.read(self.findings, integer(1..=RATE_MOST)));
        per_second.map(|per_second| Rate { per_second, burst: burst.unwrap_or(per_second) })
    }

    pub(super) fn ec2(&self, server: &mut Section<'a>, partition: Partition) -> Ec2Settings {
        let o = self.overrides;
        let mut section = server.section("ec2");
        let given = ("--ec2-endpoints", o.ec2_endpoints.as_slice());
        let insert = |endpoints: &mut Endpoints, host: &str, url: &str| ec2::insert_endpoint(endpoints, partition, host, url);
        let endpoints = self.endpoints(&mut section, given, "EC2", insert);
        let ca_file = Self::text("--ec2-ca-file", o.ec2_ca_file.as_ref(), &mut section, "caFile");
        section.finish();
        let bundle = variable("AWS_CA_BUNDLE", self.environment.aws_ca_bundle.as_ref());
        let whole = || integer(1..=RATE_MOST);
        let qps =
            self.read("--ec2-describeInstances-qps", o.ec2_describe_instances_qps.as_ref(), server, "ec2DescribeInstancesQps", whole());
        let burst = self.read(
            "--ec2-describeInstances-burst",
            o.ec2_describe_instances_burst.as_ref(),
            server,
            "ec2DescribeInstancesBurst",
            whole(),
        );
        // upstream: an ARN that is none ends the reference in a panic.
        let role_arn = some(server.text("ec2DescribeInstancesRoleARN")).and_then(|text| {
            text.read(self.findings, |text| match Arn::parse(text).map(|arn| arn.principal()) {
                Ok(Principal::Role { .. }) => Ok(text.to_owned()),
                _ => Err(format!("expected the ARN of a role, found {}", Shown(text))),
            })
        });
        let source_arn = some(server.text("sourceARN"));
        if let (None, Some(source)) = (&role_arn, &source_arn) {
            self.findings.warn(source.place.clone(), "has no effect without server.ec2DescribeInstancesRoleARN");
        }
        let source_arn = source_arn.and_then(|text| {
            text.read(self.findings, |text| match ec2::account_of(text) {
                Some(_) => Ok(text.to_owned()),
                None => Err(format!("expected an ARN with an account, found {}", Shown(text))),
            })
        });
        Ec2Settings {
            role_arn,
            source_arn,
            qps: qps.unwrap_or(15),
            burst: burst.unwrap_or(5),
            endpoints,
            // Whether the bundle is there was told with STS.
            ca_files: bundle.map(path).into_iter().chain(ca_file.and_then(|text| self.existing(&text))).collect(),
        }
    }
}

/// A share, such as `10%`.
fn percent(text: &str) -> Result<u32, String> {
    let share = text.strip_suffix('%').and_then(|number| integer(0..=100)(number).ok());
    share.ok_or_else(|| format!("expected a percentage from 0% to 100%, found {}", Shown(text)))
}
