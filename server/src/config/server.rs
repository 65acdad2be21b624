//! The layers to [`Config`].
//!
//! A value that is wrong is noted and its default stands in, so that the rest is checked too; what comes of it is thrown away.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arngate_core::arn::{Arn, Principal};
use arngate_core::endpoint::Fips;
use arngate_core::limits::DEFAULT_MAX_AHEAD_SECS;
use arngate_core::{Error as CoreError, Partition, StsHost, StsHosts};

use super::client::{checked_cluster_id, cluster_id, role};
use super::feature_gate::FeatureGates;
use super::layer::{Environment, Overrides, flag, list, some, variable};
use super::network::{AdminAddress, address, admin_address, hostname};
use super::settings::{
    AdminSettings, AnswerSettings, BootstrapSettings, BoundSettings, CacheSettings, ClientSettings, Config, Ec2Settings,
    KubernetesSettings, ListenSettings, MappingSettings, OfflineSettings, ProverKind, StsSettings, WebhookClientSettings,
};
use crate::document::reader::{Span, boolean, duration, integer, size_bytes};
use crate::document::{Field, Findings, Place, Section, Shown, Text};
use crate::ec2;
use crate::http::body::BODY_MAX_BYTES;
use crate::http::respond::DenyStatus;
use crate::http::webhook::AccessLog;
use crate::mapping::{BackendMode, Options, Policy, account_ids, backend_mode_named, dynamic_file, file, partition_named};
use crate::prover::sts::{self, EndpointError, Endpoints, Imds, Rate};

/// upstream: `DefaultPort` in cmd/aws-iam-authenticator/server.go.
const DEFAULT_PORT: u16 = 21362;

/// upstream: the health listener in pkg/server/server.go.
const DEFAULT_ADMIN_PORT: u16 = 21363;

/// The most that STS allows, either way: what lies further ahead it refuses itself.
const CLOCK_SKEW_MOST: Duration = Duration::from_secs(15 * 60);

/// As long as the API server waits for a webhook; a later answer helps nobody.
/// Kubernetes: `timeout` of `WebhookTokenAuthenticator`, 30 s by default.
const DEADLINE_MOST: Duration = Duration::from_secs(30);

/// A token's life, beyond which nothing is believed anyway.
const TTL_MOST: Duration = Duration::from_secs(15 * 60);

/// Calls a second beyond which a limit is none: more than any AWS API answers.
const RATE_MOST: u32 = 100_000;

/// Calls at one time: as many as there can be file descriptors by default, with room for clients.
const IN_FLIGHT_MOST: u16 = 4096;

/// Of whatever is counted in memory: more than that is no bound.
const COUNT_MOST: u32 = 1 << 20;

/// More threads than any machine has processors.
const WORKER_THREADS_MOST: u16 = 1024;

/// Calls that wait: each holds some kilobytes.
const QUEUED_MOST: u16 = 16_384;

/// Access keys that are known: some 70 MB of them.
const KNOWN_KEYS_MOST: u32 = 1_000_000;

/// The reader of the server's settings, with what all parts of it need.
struct Reader<'a> {
    overrides: &'a Overrides,
    environment: &'a Environment,
    findings: &'a Findings,
}

pub(super) fn read(root: Section<'_>, overrides: &Overrides, environment: &Environment) -> Config {
    Reader { overrides, environment, findings: root.findings() }.config(root)
}

impl<'a> Reader<'a> {
    fn config(&self, mut root: Section<'a>) -> Config {
        let o = self.overrides;
        let feature_gates = FeatureGates::read(o, self.findings);
        let cluster_id = self.cluster_id(&mut root);
        let mut server = root.section("server");
        let partition = self.read("--partition", o.partition.as_ref(), &mut server, "partition", partition_named).unwrap_or(Partition::Aws);
        let region = self.region(&mut root, &mut server, partition);
        // The client's part of the same file.
        role(&mut root);
        for key in ["externalID", "sessionName", "tokenOnly", "forwardSessionName", "cache"] {
            root.take(key);
        }
        root.finish();

        let skew = duration(Duration::ZERO..=CLOCK_SKEW_MOST);
        let clock_skew = self.read("--clock-skew", o.clock_skew.as_ref(), &mut server, "clockSkew", skew);
        let (provers, offline) = self.provers(&mut server);
        let arn_patterns = self.switch(o.arn_patterns, &mut server, "arnPatterns", false);
        let region_source = self.region_source(region.as_ref(), &provers);
        let options = Options { partition, arn_patterns, sso: feature_gates.sso_entries() };
        let (clients, bootstrap) = self.clients_and_bootstrap(&mut server);
        let config = Config {
            origin: None,
            cluster_id,
            partition,
            clock_skew: clock_skew.unwrap_or_else(|| Duration::from_secs(DEFAULT_MAX_AHEAD_SECS.into())),
            provers,
            offline,
            sts: self.sts(server.section("sts"), partition, region.as_deref()),
            region,
            region_source,
            cache: self.cache(server.section("cache")),
            bounds: self.bounds(&mut server),
            listen: self.listen(&mut server),
            clients,
            bootstrap,
            admin: self.admin(server.section("admin")),
            answer: self.answer(&mut server),
            mappings: self.mappings(&mut server, options),
            ec2: self.ec2(&mut server, partition),
            kubernetes: KubernetesSettings {
                kubeconfig: Self::text("--kubeconfig", o.kubeconfig.as_ref(), &mut server, "kubeconfig").map(path),
                master: Self::text("--master", o.master.as_ref(), &mut server, "master").map(|text| text.text),
            },
            feature_gates,
        };
        self.what_the_server_ignores();
        server.finish();
        config
    }

    /// The text of a setting: the flag's, else the file's. An empty one is none.
    fn text(name: &'static str, given: Option<&String>, section: &mut Section<'a>, key: &'static str) -> Option<Text> {
        Self::or(flag(name, given), section, key)
    }

    /// A flag's text, else the file's. The key is taken in any case: beside a flag it is not unknown.
    fn or(given: Option<Text>, section: &mut Section<'a>, key: &'static str) -> Option<Text> {
        let file = section.text(key);
        some(given.or(file))
    }

    /// What `parse` makes of the text of a setting.
    fn read<T>(
        &self,
        name: &'static str,
        given: Option<&String>,
        section: &mut Section<'a>,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        Self::text(name, given, section, key)?.read(self.findings, parse)
    }

    fn switch(&self, given: Option<bool>, section: &mut Section<'a>, key: &'static str, default: bool) -> bool {
        let file = some(section.text(key)).and_then(|text| text.read(self.findings, boolean));
        given.or(file).unwrap_or(default)
    }

    fn cluster_id(&self, root: &mut Section<'a>) -> String {
        let Some(text) = cluster_id(root, self.overrides, self.environment) else {
            let message =
                "no cluster ID: expected --cluster-id, KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID or clusterID in the configuration file";
            self.findings.error(Place::Nowhere, message);
            return String::new();
        };
        text.read(self.findings, checked_cluster_id).unwrap_or_default()
    }

    /// Our own region. It is no secret and no guess: the environment comes last, for it is often that of somebody else.
    fn region(&self, root: &mut Section<'a>, server: &mut Section<'a>, partition: Partition) -> Option<String> {
        let (own, top) = (some(server.text("region")), some(root.text("region")));
        let region = some(flag("--region", self.overrides.region.as_ref()))
            .or(own)
            .or(top)
            .or_else(|| variable("AWS_REGION", self.environment.aws_region.as_ref()))
            .or_else(|| variable("AWS_DEFAULT_REGION", self.environment.aws_default_region.as_ref()))?;
        let name = region.read(self.findings, |name| {
            StsHost::regional(partition, name, Fips::No)
                .map(|_| name.to_owned())
                .map_err(|_| format!("expected a region such as eu-west-1, found {}", Shown(name)))
        })?;
        let elsewhere = Partition::ALL.into_iter().find(|other| *other != partition && other.known_regions().contains(&name.as_str()));
        if let Some(other) = elsewhere {
            self.findings.warn(region.place, format!("{name} is a region of the partition {other}, not of {partition}"));
        }
        Some(name)
    }

    /// The machine, where nobody has told the region, and nobody has forbidden to ask. A server that asks nobody else asks no machine either.
    fn region_source(&self, region: Option<&String>, provers: &[ProverKind]) -> Option<Imds> {
        let disabled = self.environment.aws_ec2_metadata_disabled.as_ref().is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if region.is_some() || disabled || !provers.contains(&ProverKind::Sts) {
            return None;
        }
        match variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.environment.aws_ec2_metadata_service_endpoint.as_ref()) {
            Some(url) => {
                url.read(self.findings, |url| Imds::parse(url).ok_or_else(|| format!("expected http://host:port, found {}", Shown(url))))
            }
            None => Some(Imds::link_local()),
        }
    }

    fn provers(&self, server: &mut Section<'a>) -> (Vec<ProverKind>, Option<OfflineSettings>) {
        let mut section = server.section("offline");
        let bundle = Self::text("--offline-bundle", self.overrides.offline_bundle.as_ref(), &mut section, "bundle");
        section.finish();
        let field = server.take("provers");
        let Some(names) = list("--provers", &self.overrides.provers, field.as_ref()) else {
            let with_bundle = vec![ProverKind::Offline, ProverKind::Sts];
            let provers = if bundle.is_some() { with_bundle } else { vec![ProverKind::Sts] };
            return (provers, bundle.and_then(|bundle| self.existing(&bundle)).map(|bundle| OfflineSettings { bundle }));
        };
        if names.is_empty() {
            let place = field.map_or(Place::Flag("--provers"), |field| field.place());
            self.findings.error(place, "expected at least one of offline and sts");
        }
        let mut provers = Vec::new();
        for name in &names {
            let prover = name.read(self.findings, |text| match text {
                "offline" => Ok(ProverKind::Offline),
                "sts" => Ok(ProverKind::Sts),
                _ => Err(format!("expected offline or sts, found {}", Shown(text))),
            });
            match prover {
                Some(prover) if provers.contains(&prover) => {
                    self.findings.error(name.place.clone(), format!("{} is there twice", name.text));
                }
                Some(ProverKind::Offline) if bundle.is_none() => {
                    self.findings.error(name.place.clone(), "offline needs server.offline.bundle (--offline-bundle)");
                }
                Some(prover) => provers.push(prover),
                None => {}
            }
        }
        let offline = bundle.and_then(|bundle| {
            if !provers.contains(&ProverKind::Offline) {
                self.findings.warn(bundle.place, "has no effect, for offline is not among server.provers");
                return None;
            }
            self.existing(&bundle).map(|bundle| OfflineSettings { bundle })
        });
        (provers, offline)
    }

    /// A path that has to be there. Whether it can be used is seen by who uses it.
    fn existing(&self, text: &Text) -> Option<PathBuf> {
        text.read(self.findings, |name| match std::fs::metadata(name) {
            Ok(_) => Ok(PathBuf::from(name)),
            Err(error) => Err(format!("cannot read {}: {error}", Shown(name))),
        })
    }

    fn sts(&self, mut section: Section<'a>, partition: Partition, region: Option<&str>) -> StsSettings {
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
            max_in_flight: max_in_flight.map_or(usual.max_in_flight, usize::from),
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

    fn cache(&self, mut section: Section<'a>) -> CacheSettings {
        let o = self.overrides;
        let lives = duration(Duration::ZERO..=TTL_MOST);
        let ttl = Self::text("--cache-ttl", o.cache_ttl.as_ref(), &mut section, "ttl");
        let max_bytes = Self::text("--cache-max-bytes", o.cache_max_bytes.as_ref(), &mut section, "maxBytes");
        let negative_ttl = Self::text("--cache-negative-ttl", o.cache_negative_ttl.as_ref(), &mut section, "negativeTtl");
        let stale = flag("--cache-stale-if-down", o.cache_stale_if_down.map(|stale| stale.to_string()).as_ref());
        let stale = Self::or(stale, &mut section, "staleIfDown");
        section.finish();
        CacheSettings {
            ttl: ttl.and_then(|text| text.read(self.findings, &lives)).unwrap_or(Duration::from_secs(5 * 60)),
            max_bytes: max_bytes.and_then(|text| text.read(self.findings, size_bytes(64 << 10..=64 << 30))),
            negative_ttl: negative_ttl.and_then(|text| text.read(self.findings, &lives)).unwrap_or(Duration::from_secs(30)),
            stale_if_down: stale.and_then(|text| text.read(self.findings, boolean)).unwrap_or(true),
        }
    }

    fn bounds(&self, server: &mut Section<'a>) -> BoundSettings {
        let o = self.overrides;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let count = |text: &str| integer(1..=COUNT_MOST)(text);
        let connections = self.read("--max-connections", o.max_connections.as_ref(), server, "maxConnections", count);
        let streams = self.read("--max-streams", o.max_streams.as_ref(), server, "maxStreams", count);
        let waiters = self.read("--max-waiters", o.max_waiters.as_ref(), server, "maxWaiters", count);
        let flights = self.read("--max-flights", o.max_flights.as_ref(), server, "maxFlights", count);
        let one_body = u64::try_from(BODY_MAX_BYTES).unwrap_or(u64::MAX);
        let body_bytes = self.read("--max-body-bytes", o.max_body_bytes.as_ref(), server, "maxBodyBytes", size_bytes(one_body..=64 << 30));
        let threads = self.read("--worker-threads", o.worker_threads.as_ref(), server, "workerThreads", integer(1..=WORKER_THREADS_MOST));
        let number = |count: Option<u32>| count.and_then(|count| usize::try_from(count).ok());
        BoundSettings {
            max_connections: number(connections),
            max_streams: streams,
            max_waiters: number(waiters),
            max_flights: number(flights),
            max_body_bytes: body_bytes.map(size),
            worker_threads: threads.map(usize::from),
        }
    }

    fn listen(&self, server: &mut Section<'a>) -> ListenSettings {
        let o = self.overrides;
        let ip = self.read("--address", o.address.as_ref(), server, "address", address);
        let port = self.read("--port", o.port.as_ref(), server, "port", integer(0..=u16::MAX));
        ListenSettings {
            address: ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: port.unwrap_or(DEFAULT_PORT),
            reuse_port: self.switch(o.reuse_port, server, "reusePort", false),
        }
    }

    /// Who may ask, and where the API server learns what to show for it.
    fn clients_and_bootstrap(&self, server: &mut Section<'a>) -> (Option<ClientSettings>, BootstrapSettings) {
        let o = self.overrides;
        let ca_file = Self::text("--client-ca-file", o.client_ca_file.as_ref(), server, "clientCAFile");
        let field = server.take("clientNames");
        let names = list("--client-names", &o.client_names, field.as_ref()).unwrap_or_default();
        let mut section = server.section("webhookClient");
        let certificate = Self::text("--webhook-client-certificate", o.webhook_client_certificate.as_ref(), &mut section, "certificate");
        let key = Self::text("--webhook-client-key", o.webhook_client_key.as_ref(), &mut section, "key");
        section.finish();

        let webhook_client = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Some((certificate.place, WebhookClientSettings { certificate: certificate.text, key: key.text }))
            }
            (None, None) => None,
            (Some(alone), None) => {
                self.findings.error(alone.place, "needs its key beside it: server.webhookClient.key");
                None
            }
            (None, Some(alone)) => {
                self.findings.error(alone.place, "needs its certificate beside it: server.webhookClient.certificate");
                None
            }
        };
        let mut bootstrap = self.bootstrap(server);
        match (&ca_file, names.first()) {
            (Some(ca_file), None) => {
                self.findings
                    .error(ca_file.place.clone(), "needs server.clientNames: without, whoever has a certificate of that authority may ask");
            }
            (None, Some(name)) => self.findings.error(name.place.clone(), "needs server.clientCAFile"),
            _ => {}
        }
        match (&ca_file, &webhook_client) {
            (Some(ca_file), None) if !bootstrap.kubeconfig_pregenerated => self.findings.error(
                ca_file.place.clone(),
                "needs server.webhookClient with certificate and key: the webhook kubeconfig must name what the API server is to show",
            ),
            (None, Some((place, _))) => self.findings.warn(place.clone(), "nobody is asked for a certificate without server.clientCAFile"),
            (_, Some((place, _))) if bootstrap.kubeconfig_pregenerated => {
                self.findings.warn(place.clone(), "has no effect, for the webhook kubeconfig is made by `init`");
            }
            _ => {}
        }
        bootstrap.webhook_client = webhook_client.map(|(_, client)| client);
        let names = names.into_iter().map(|name| name.text).collect();
        (ca_file.map(|ca_file| ClientSettings { ca_file: path(ca_file), names }), bootstrap)
    }

    fn bootstrap(&self, server: &mut Section<'a>) -> BootstrapSettings {
        let o = self.overrides;
        let host = self.read("--hostname", o.hostname.as_ref(), server, "hostname", hostname);
        let state_dir = Self::text("--state-dir", o.state_dir.as_ref(), server, "stateDir");
        let kubeconfig = Self::text("--generate-kubeconfig", o.generate_kubeconfig.as_ref(), server, "generateKubeconfig");
        BootstrapSettings {
            hostname: host.unwrap_or_else(|| "localhost".into()),
            state_dir: state_dir.map_or_else(|| "/var/aws-iam-authenticator".into(), path),
            generate_kubeconfig: kubeconfig.map_or_else(|| "/etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml".into(), path),
            kubeconfig_pregenerated: self.switch(o.kubeconfig_pregenerated, server, "kubeconfigPregenerated", false),
            webhook_client: None,
        }
    }

    fn admin(&self, mut section: Section<'a>) -> AdminSettings {
        let address = self.read("--admin-address", self.overrides.admin_address.as_ref(), &mut section, "address", admin_address);
        section.finish();
        AdminSettings { address: address.unwrap_or(AdminAddress { ip: None, port: DEFAULT_ADMIN_PORT }), is_set: address.is_some() }
    }

    fn answer(&self, server: &mut Section<'a>) -> AnswerSettings {
        let o = self.overrides;
        let deny_status = self.read("--deny-status", o.deny_status.as_ref(), server, "denyStatus", |text| match text {
            "200" => Ok(DenyStatus::Ok),
            "403" => Ok(DenyStatus::Forbidden),
            _ => Err(format!("expected 200 or 403, found {}", Shown(text))),
        });
        let access_log = self.read("--access-log", o.access_log.as_ref(), server, "accessLog", |text| match text {
            "all" => Ok(AccessLog::All),
            "denied" => Ok(AccessLog::Denied),
            "none" => Ok(AccessLog::None),
            _ => Err(format!("expected all, denied or none, found {}", Shown(text))),
        });
        let default_log = if o.called_as_reference { AccessLog::All } else { AccessLog::Denied };
        AnswerSettings { deny_status: deny_status.unwrap_or(DenyStatus::Ok), access_log: access_log.unwrap_or(default_log) }
    }

    fn ec2(&self, server: &mut Section<'a>, partition: Partition) -> Ec2Settings {
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

    fn mappings(&self, server: &mut Section<'a>, options: Options) -> MappingSettings {
        let modes_path = some(server.text("dynamicBackendModePath")).map(path);
        let (modes, dynamic_file) = self.backend_modes(server, modes_path.is_some());
        let reserved_prefixes = self.reserved_prefixes(server, &modes, modes_path.is_some());
        let scrubbed = server.take("scrubbedAccounts").map(|field| account_ids(&field)).unwrap_or_default();
        let mounted = Arc::new(file::read(server, &options));
        let policy = Policy { modes, reserved_prefixes, scrubbed_accounts: scrubbed.into_iter().collect() };
        MappingSettings { policy, modes_path, mounted, options, dynamic_file }
    }

    /// The modes, and the paths that belong to them. Where the modes can change, there may be a path for one that is to come.
    ///
    /// upstream: `ValidateBackendMode` in pkg/mapper/mapper.go, and `getConfig` in cmd/aws-iam-authenticator/root.go.
    fn backend_modes(&self, server: &mut Section<'a>, can_change: bool) -> (Vec<BackendMode>, Option<dynamic_file::Settings>) {
        let field = server.take("backendMode");
        let dynamic_path = some(server.text("dynamicfilepath"));
        let user_id_strict = some(server.text("dynamicfileUserIDStrict")).and_then(|text| text.read(self.findings, boolean));
        let modes = match list("--backend-mode", &self.overrides.backend_mode, field.as_ref()) {
            None => vec![BackendMode::MountedFile],
            Some(names) => {
                if names.is_empty() {
                    let place = field.map_or(Place::Flag("--backend-mode"), |field| field.place());
                    self.findings.error(place, "expected at least one backend mode");
                }
                self.modes_named(&names, dynamic_path.is_some())
            }
        };
        let dynamic_path = dynamic_path.filter(|path| {
            let is_of_use = can_change || modes.contains(&BackendMode::DynamicFile);
            if !is_of_use {
                self.findings.error(path.place.clone(), "needs the backend mode DynamicFile");
            }
            is_of_use
        });
        let user_id_strict = user_id_strict.unwrap_or(false);
        (modes, dynamic_path.map(|text| dynamic_file::Settings { path: path(text), user_id_strict }))
    }

    fn modes_named(&self, names: &[Text], has_dynamic_path: bool) -> Vec<BackendMode> {
        let mut modes = Vec::new();
        for name in names {
            let Some(mode) = name.read(self.findings, backend_mode_named) else { continue };
            self.warn_of_alias(name, mode);
            if modes.contains(&mode) {
                self.findings.error(name.place.clone(), format!("the backend mode {mode} is there twice"));
                continue;
            }
            if mode == BackendMode::DynamicFile && !has_dynamic_path {
                self.findings.error(name.place.clone(), "the backend mode DynamicFile needs server.dynamicfilepath");
            }
            modes.push(mode);
        }
        modes
    }

    fn warn_of_alias(&self, name: &Text, mode: BackendMode) {
        if name.text != mode.name() {
            self.findings.warn(name.place.clone(), format!("the backend mode {} is deprecated: use {mode}", name.text));
        }
    }

    fn reserved_prefixes(&self, server: &mut Section<'a>, modes: &[BackendMode], can_change: bool) -> HashMap<BackendMode, Vec<String>> {
        let mut reserved = HashMap::new();
        for field in server.take("reservedPrefixConfig").map(|field| field.list()).unwrap_or_default() {
            let Some(mut section) = field.map() else { continue };
            let name = some(section.text("backendmode"));
            let prefixes = section.take("usernamePrefixReserveList").map(|list| self.prefixes(&list)).unwrap_or_default();
            section.finish();
            let Some(name) = name else {
                field.error("expected backendmode");
                continue;
            };
            // In the reference a mode that there is not reserves nothing, in silence.
            let Some(mode) = name.read(self.findings, backend_mode_named) else { continue };
            self.warn_of_alias(&name, mode);
            if !can_change && !modes.contains(&mode) {
                field.warn(format!("has no effect, for {mode} is not among the backend modes"));
            }
            if reserved.insert(mode, prefixes).is_some() {
                field.warn(format!("replaces an entry before it for {mode}"));
            }
        }
        reserved
    }

    fn prefixes(&self, field: &Field<'_>) -> Vec<String> {
        let mut prefixes = Vec::new();
        for text in field.texts(crate::document::Split::Commas) {
            if text.text.is_empty() {
                self.findings.warn(text.place, "an empty prefix reserves nothing");
            } else {
                prefixes.push(text.text);
            }
        }
        prefixes
    }

    /// Variables of the environment that are the client's.
    fn what_the_server_ignores(&self) {
        let ignored =
            [("AWS_ENDPOINT_URL", &self.environment.aws_endpoint_url), ("AWS_ENDPOINT_URL_STS", &self.environment.aws_endpoint_url_sts)];
        for text in ignored.into_iter().filter_map(|(name, value)| variable(name, value.as_ref())) {
            self.findings.warn(text.place, "is for clients, and tokens are not proved there: use server.sts.endpoints");
        }
    }
}

/// A share, such as `10%`.
fn percent(text: &str) -> Result<u32, String> {
    let share = text.strip_suffix('%').and_then(|number| integer(0..=100)(number).ok());
    share.ok_or_else(|| format!("expected a percentage from 0% to 100%, found {}", Shown(text)))
}

fn path(text: Text) -> PathBuf {
    text.text.into()
}
