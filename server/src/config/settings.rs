//! The settings of `server` and `init`, as values that were checked.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arngate_core::Partition;

use super::feature_gate::FeatureGates;
use super::network::AdminAddress;
use super::origin::Origin;
use crate::http::respond::DenyStatus;
use crate::http::webhook::AccessLog;
use crate::mapping::{Backend, BackendMode, Options, Policy, dynamic_file};
use crate::prover::sts::{Endpoints, Imds, Rate};

/// The settings of `server` and `init`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that they come from, if any of them does.
    pub origin: Option<Origin>,
    /// `clusterID`: one that core takes.
    pub cluster_id: String,
    /// `server.partition`
    pub partition: Partition,
    /// Our own region, if anybody has told it.
    pub region: Option<String>,
    /// Whom to ask for it, if nobody has.
    pub region_source: Option<Imds>,
    /// `server.clockSkew`: how far ahead of our clock X-Amz-Date may lie.
    pub clock_skew: Duration,
    /// `server.provers`, in order; at least one.
    pub provers: Vec<ProverKind>,
    /// `server.offline`: there if the offline prover is.
    pub offline: Option<OfflineSettings>,
    /// `server.sts`
    pub sts: StsSettings,
    /// `server.cache`
    pub cache: CacheSettings,
    /// What is held at once, where that was set.
    pub bounds: BoundSettings,
    /// Where the webhook listens.
    pub listen: ListenSettings,
    /// Whose questions are answered; none: everybody's.
    pub clients: Option<ClientSettings>,
    /// Certificates and the webhook's kubeconfig.
    pub bootstrap: BootstrapSettings,
    /// `server.admin`
    pub admin: AdminSettings,
    /// How decisions are answered and logged.
    pub answer: AnswerSettings,
    /// `server.backendMode` and all that belongs to mappings.
    pub mappings: MappingSettings,
    /// How to ask EC2.
    pub ec2: Ec2Settings,
    /// How to reach the API server.
    pub kubernetes: KubernetesSettings,
    /// `--feature-gates`
    pub feature_gates: FeatureGates,
}

impl Config {
    /// The settings that other settings have otherwise, by name; but for mappings, which are read again.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let (a, b) = (self, other);
        let differs = [
            ("clusterID", a.cluster_id != b.cluster_id),
            ("the region", a.region != b.region || a.region_source != b.region_source),
            ("server.clockSkew", a.clock_skew != b.clock_skew),
            ("server.provers", a.provers != b.provers),
            ("server.offline", a.offline != b.offline),
            ("server.sts", a.sts != b.sts),
            ("server.cache", a.cache != b.cache),
            ("a bound", a.bounds != b.bounds),
            ("server.address, server.port or server.reusePort", a.listen != b.listen),
            ("server.clientCAFile or server.clientNames", a.clients != b.clients),
            ("server.hostname, server.stateDir or what belongs to the webhook kubeconfig", a.bootstrap != b.bootstrap),
            ("server.admin", a.admin != b.admin),
            ("server.denyStatus or server.accessLog", a.answer != b.answer),
            ("server.backendMode", a.mappings.policy.modes != b.mappings.policy.modes),
            ("server.dynamicBackendModePath", a.mappings.modes_path != b.mappings.modes_path),
            ("server.dynamicfilepath or server.dynamicfileUserIDStrict", a.mappings.dynamic_file != b.mappings.dynamic_file),
            ("a setting of EC2", a.ec2 != b.ec2),
            ("server.kubeconfig or server.master", a.kubernetes != b.kubernetes),
        ];
        differs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}

/// Who may prove a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProverKind {
    /// We, with a key of the bundle.
    Offline,
    /// STS.
    Sts,
}

/// The offline prover.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OfflineSettings {
    /// A file of keys, or a folder of such files.
    pub bundle: PathBuf,
}

/// The STS prover.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StsSettings {
    /// Where to connect for a host of STS, where that is not the host itself.
    pub endpoints: Endpoints,
    /// Files with roots beside the platform's: `AWS_CA_BUNDLE` and `server.sts.caFile`.
    pub ca_files: Vec<PathBuf>,
    /// The only regions that may be asked; none: those that we know, our own, and those that fit by shape.
    pub regions: Option<Vec<String>>,
    /// For all attempts together.
    pub deadline: Duration,
    /// For each attempt; no longer than the deadline.
    pub attempt_timeout: Duration,
    /// For DNS and TCP; no longer than an attempt.
    pub connect_timeout: Duration,
    /// Calls at one time to one host; none: as many as the memory limit suggests.
    pub max_in_flight: Option<usize>,
    /// How long a call waits for a place.
    pub max_wait: Duration,
    /// How many wait in each of the two lanes.
    pub max_queued: usize,
    /// How many access keys are remembered as known.
    pub max_known_keys: usize,
    /// Calls that are made a second time, in percent.
    pub retry_percent: u32,
    /// Calls a second, over all hosts; none: as many as there are.
    pub rate: Option<Rate>,
}

/// The cache of identities.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CacheSettings {
    /// How long an identity is believed; zero: not at all.
    pub ttl: Duration,
    /// How large the cache may be; none: what the memory limit suggests.
    pub max_bytes: Option<u64>,
    /// How long a refusal is remembered.
    pub negative_ttl: Duration,
    /// Whether an identity that should be asked for again is believed while nobody can be asked.
    pub stale_if_down: bool,
}

/// Bounds that were set; what is none follows the memory limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BoundSettings {
    /// `server.maxConnections`
    pub max_connections: Option<usize>,
    /// `server.maxStreams`: requests at once on one HTTP/2 connection.
    pub max_streams: Option<u32>,
    /// `server.maxWaiters`: requests that wait for a proof.
    pub max_waiters: Option<usize>,
    /// `server.maxFlights`: proofs under way.
    pub max_flights: Option<usize>,
    /// `server.maxBodyBytes`: all request bodies that are held at once.
    pub max_body_bytes: Option<usize>,
    /// `server.workerThreads`
    pub worker_threads: Option<usize>,
}

/// Whose questions are answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientSettings {
    /// `server.clientCAFile`: who signs the clients' certificates.
    pub ca_file: PathBuf,
    /// `server.clientNames`: whom they are made out to; at least one.
    pub names: Vec<String>,
}

/// `server.webhookClient`: what the API server shows us, by paths as it sees them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebhookClientSettings {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// Where the webhook listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListenSettings {
    /// The address.
    pub address: IpAddr,
    /// The port; zero: any that is free.
    pub port: u16,
    /// `server.reusePort`: whether another process may listen there too.
    pub reuse_port: bool,
}

/// Certificates and the webhook's kubeconfig.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BootstrapSettings {
    /// The host in the certificate and in the kubeconfig's URL.
    pub hostname: String,
    /// Where certificate and key lie.
    pub state_dir: PathBuf,
    /// Where the kubeconfig goes.
    pub generate_kubeconfig: PathBuf,
    /// Whether it is already there.
    pub kubeconfig_pregenerated: bool,
    /// What it names for the API server to show.
    pub webhook_client: Option<WebhookClientSettings>,
}

/// The admin listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AdminSettings {
    /// Where it listens.
    pub address: AdminAddress,
    /// Whether that was set: only then does it say more than the reference's to everybody.
    pub is_set: bool,
}

/// How decisions are answered and logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AnswerSettings {
    /// The status of a refusal.
    pub deny_status: DenyStatus,
    /// Which decisions are logged.
    pub access_log: AccessLog,
}

/// Who is mapped to what, and where more is read about it.
#[derive(Clone, Debug)]
pub struct MappingSettings {
    /// `server.backendMode`, `server.reservedPrefixConfig` and `server.scrubbedAccounts`.
    pub policy: Policy,
    /// `server.dynamicBackendModePath`: a file that says which modes are in force instead of these.
    pub modes_path: Option<PathBuf>,
    /// The mappings of the file itself, which count if MountedFile is among the modes.
    pub mounted: Arc<Backend>,
    /// How mappings are read, wherever they are.
    pub options: Options,
    /// `server.dynamicfilepath` and `server.dynamicfileUserIDStrict`: there if DynamicFile is among the modes, or may come to be.
    pub dynamic_file: Option<dynamic_file::Settings>,
}

impl MappingSettings {
    /// Whether the source of a mode may have to be read, now or later.
    #[must_use]
    pub fn may_use(&self, mode: BackendMode) -> bool {
        self.modes_path.is_some() || self.policy.modes.contains(&mode)
    }
}

/// How to ask EC2.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ec2Settings {
    /// `server.ec2DescribeInstancesRoleARN`: the role to assume for it.
    pub role_arn: Option<String>,
    /// `server.sourceARN`: what that role's trust policy may ask for.
    pub source_arn: Option<String>,
    /// Calls a second.
    pub qps: u32,
    /// Calls at once after a pause.
    pub burst: u32,
    /// `server.ec2.endpoints`: where to connect for a host of EC2, where that is not the host itself.
    pub endpoints: Endpoints,
    /// Files with roots beside the platform's: `AWS_CA_BUNDLE` and `server.ec2.caFile`.
    pub ca_files: Vec<PathBuf>,
}

/// How to reach the API server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KubernetesSettings {
    /// `server.kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `server.master`
    pub master: Option<String>,
}
