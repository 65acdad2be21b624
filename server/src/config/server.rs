//! The layers to [`Config`].
//!
//! A value that is wrong is noted and its default stands in, so that the rest is checked too; what comes of it is thrown away.

mod aws;
mod listen;
mod mappings;

use std::path::PathBuf;
use std::time::Duration;

use arngate_core::endpoint::Fips;
use arngate_core::limits::DEFAULT_MAX_AHEAD_SECS;
use arngate_core::{Partition, StsHost};

use super::client::{checked_cluster_id, cluster_id, role};
use super::feature_gate::FeatureGates;
use super::layer::{Environment, Overrides, flag, list, some, variable};
use super::settings::{AnswerSettings, BoundSettings, CacheSettings, Config, KubernetesSettings, OfflineSettings, ProverKind};
use crate::document::reader::{boolean, duration, integer, size_bytes};
use crate::document::{Findings, Place, Section, Shown, Text};
use crate::http::body::BODY_MAX_BYTES;
use crate::http::respond::DenyStatus;
use crate::http::webhook::AccessLog;
use crate::mapping::{Options, partition_named};
use crate::prover::sts::Imds;

/// The most that STS allows, either way: what lies further ahead it refuses itself.
const CLOCK_SKEW_MOST: Duration = Duration::from_secs(15 * 60);

/// A token's life, beyond which nothing is believed anyway.
const TTL_MOST: Duration = Duration::from_secs(15 * 60);

/// Of whatever is counted in memory: more than that is no bound.
const COUNT_MOST: u32 = 1 << 20;

/// More threads than any machine has processors.
const WORKER_THREADS_MOST: u16 = 1024;

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

    /// Variables of the environment that are the client's.
    fn what_the_server_ignores(&self) {
        let ignored =
            [("AWS_ENDPOINT_URL", &self.environment.aws_endpoint_url), ("AWS_ENDPOINT_URL_STS", &self.environment.aws_endpoint_url_sts)];
        for text in ignored.into_iter().filter_map(|(name, value)| variable(name, value.as_ref())) {
            self.findings.warn(text.place, "is for clients, and tokens are not proved there: use server.sts.endpoints");
        }
    }
}

fn path(text: Text) -> PathBuf {
    text.text.into()
}
