//! From settings to a running server: the only module that knows all others.
//!
//! ```text
//! Config ─► Service (cluster, certificate, webhook)  ─► Running (bound)  ─► run until told to stop ─► drained
//! ```

mod reload;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arngate_core::request::ClusterIdError;
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::bootstrap::kubeconfig::{self, ClientFiles, KubeconfigError};
use crate::bootstrap::x509::Summary;
use crate::bootstrap::{self, certs};
use crate::clock::{Clock, SystemClock};
use crate::cluster::{self, Cluster};
use crate::config::{CacheSettings, ClientSettings, Config, ProverKind, WebhookClientSettings};
use crate::document::Errors;
use crate::ec2;
use crate::flight;
use crate::http::admin::{self, Admin, Audience, Check, Readiness};
use crate::http::body::Bodies;
use crate::http::respond::DenyStatus;
use crate::http::serve::{self, BindError, Drained, Limits, Sharing};
use crate::http::tls::{AuthoritiesError, Clients, CurrentCert, Tls, TlsError};
use crate::http::webhook::{self, AccessLog, Parts, Webhook};
use crate::identity_cache::{self, NoRandom};
use crate::mapping::{BackendMode, Followers, Following, Store, dynamic_file};
use crate::memory::{Bounds, MemoryLimit, flights_for};
use crate::metrics::{Levels, Metrics};
use crate::prover::offline::{Bundle, Keyring};
use crate::prover::sts::{self, Client, OwnRegion, ProxySettings, Rate, Roots};
use crate::prover::{Chain, ChainError, Prover, Realm};
use crate::telemetry::Log;
use crate::watch::{Looks, Source, Watch};
use reload::{ModeFile, SettingsFile, modes_in_force};

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Who signs the clients' certificates.
    #[error("server.clientCAFile: {0}")]
    Authorities(#[from] AuthoritiesError),
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The key bundle.
    #[error("{0}")]
    Bundle(Errors),
    /// Certificate and key.
    #[error(transparent)]
    Certificate(#[from] certs::CertError),
    /// The provers.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The cluster id.
    #[error(transparent)]
    ClusterId(#[from] ClusterIdError),
    /// The webhook kubeconfig.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// A backend mode of which nobody reads the source.
    #[error("server.backendMode: there is nobody here who reads {0}")]
    NoFollower(BackendMode),
    /// The offline prover has no bundle.
    #[error("server.provers has offline, and there is no server.offline.bundle")]
    NoBundle,
    /// The STS client, or that of EC2.
    #[error(transparent)]
    Sts(#[from] sts::ConfigError),
    /// The cache has no key.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What a server is put together from, whoever made it.
#[derive(Debug)]
pub struct Service {
    /// Who proves.
    pub realm: Realm,
    /// How identities are mapped.
    pub mappings: Arc<Store>,
    /// Who keeps these up to date.
    pub followers: Followers,
    /// The file that says which backend modes are in force, if one does.
    pub modes_path: Option<PathBuf>,
    /// What TLS shows.
    pub certificate: certs::ServingCert,
    /// Where certificate and key lie, and how they looked before they were read; none: nowhere.
    pub certificate_files: Option<(PathBuf, Looks)>,
    /// Whose questions are answered; none: everybody's.
    pub clients: Option<Arc<Clients>>,
    /// What is read again when it changes, beside the certificate.
    pub sources: Vec<Source>,
    /// Where it listens.
    pub address: IpAddr,
    /// The port; zero for any that is free.
    pub port: u16,
    /// Whether others may listen there too.
    pub sharing: Sharing,
    /// The webhook kubeconfig to write, if one is to be written.
    pub kubeconfig: Option<WebhookKubeconfig>,
    /// The listener for probes, if there is to be one.
    pub admin: Option<AdminListener>,
    /// Bounds on what a peer can make us hold or wait for.
    pub limits: Limits,
    /// Bounds on what all of them together can make us hold.
    pub bounds: Bounds,
    /// What a denial is sent as.
    pub deny_status: DenyStatus,
    /// Which requests leave a line.
    pub access_log: AccessLog,
    /// Where the lines go.
    pub log: Log,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// How identities are kept.
    pub cache: identity_cache::Settings,
    /// Looks up names of EC2 instances.
    pub ec2: ec2::Names,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// What to say of a certificate that was found and is made out to others than the kubeconfig names.
pub const NOT_FOR_HOSTNAME: &str = "the certificate that is there is not for this host name, which the webhook kubeconfig uses: \
    API servers will not connect; set server.hostname, or delete cert.pem and key.pem, so that new ones are made";

/// The file by which the API server finds us. It is written once the port is known, and not at all where we cannot listen: a second server that
/// was started by mistake leaves the first one's alone.
#[derive(Clone, Debug)]
pub struct WebhookKubeconfig {
    /// Where it goes.
    pub path: PathBuf,
    /// The host that it names.
    pub hostname: String,
    /// What it names for the API server to show.
    pub client: Option<WebhookClientSettings>,
}

impl WebhookKubeconfig {
    fn write(&self, certificate: &certs::ServingCert, port: u16) -> Result<(), KubeconfigError> {
        if !certificate.is_for(&self.hostname) {
            tracing::warn!(hostname = self.hostname, "{NOT_FOR_HOSTNAME}");
        }
        let url = kubeconfig::server_url(&self.hostname, port);
        kubeconfig::write(&self.path, &kubeconfig::render(certificate.leaf_der(), &url, self.client.as_ref().map(client_files)))?;
        let path = self.path.display();
        tracing::info!(
            "reconfigure your apiserver with `--authentication-token-webhook-config-file={path}` to enable (assuming default hostPath mounts)"
        );
        Ok(())
    }
}

/// Where the listener for probes is.
#[derive(Clone, Debug)]
pub struct AdminListener {
    /// The address; empty for all interfaces.
    pub address: String,
    /// The port.
    pub port: u16,
    /// Who may see more than `ok`.
    pub audience: Audience,
}

impl Service {
    /// Puts a server together from its settings: reads the bundle, loads or makes the certificate. Asks nobody anything.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn from_config(config: Config, proxy: ProxySettings, signer: Arc<dyn ec2::Signer>, log: Log) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let metrics = Arc::new(Metrics::new());
        let own_region = match &config.region_source {
            Some(source) => OwnRegion::from_imds(source.clone()),
            None => OwnRegion::told(config.region.as_deref()),
        };
        let bounds = bounds(&config);
        // Read once where both are told the same: AWS_CA_BUNDLE of a proxy that opens TLS has all of the platform's roots as a rule.
        let roots = Roots::load(&config.sts.ca_files)?;
        let ec2_roots = if config.ec2.ca_files == config.sts.ca_files { roots.clone() } else { Roots::load(&config.ec2.ca_files)? };
        let sts = Aws { own_region: own_region.clone(), roots, proxy: proxy.clone() };
        let names = ec2_names(&config, &bounds, Aws { own_region: own_region.clone(), roots: ec2_roots, proxy });
        let ec2 = ec2::Names::new(names, signer, Arc::clone(&clock), Arc::clone(&metrics) as Arc<dyn ec2::Observer>)?;
        let mut sources = Vec::new();
        let (chain, limits) = (chain(&config, &sts, &metrics, &mut sources)?, limits(&config, &bounds));
        let clients = config.clients.as_ref().map(|settings| clients(settings, &mut sources)).transpose()?;
        let max_ahead_secs = u32::try_from(config.clock_skew.as_secs()).unwrap_or(u32::MAX);
        let realm = Realm::new(&config.cluster_id, config.partition, None, max_ahead_secs, chain)?.with_own_region(own_region);

        let mut config = config;
        let mappings = Arc::new(Store::new(config.mappings.policy.clone()));
        // What it holds is replaced with the file, and should go then.
        mappings.publish(BackendMode::MountedFile, std::mem::take(&mut config.mappings.mounted));
        let config = Arc::new(config);
        let mut followers = Followers::default();
        if let Some(settings) = config.mappings.dynamic_file.clone() {
            followers.insert(BackendMode::DynamicFile, dynamic_file::follower(settings, config.mappings.options));
        }
        if let Some(origin) = config.origin.clone() {
            let (in_force, store, metrics, clock) = (Arc::clone(&config), Arc::clone(&mappings), Arc::clone(&metrics), Arc::clone(&clock));
            sources.push(SettingsFile { origin, in_force, store, metrics, clock }.source());
        }

        let (listen, bootstrap) = (config.listen, &config.bootstrap);
        let names = certs::Names { address: &listen.address.to_string(), hostname: &bootstrap.hostname };
        let mut looks = Looks::of(&certificate_paths(&bootstrap.state_dir));
        let certificate = certs::load_or_generate(&bootstrap.state_dir, names, clock.now().unix)?;
        if certificate.origin() == certs::Origin::Generated {
            looks = Looks::of(&certificate_paths(&bootstrap.state_dir));
        }
        let kubeconfig = (!bootstrap.kubeconfig_pregenerated).then(|| WebhookKubeconfig {
            path: bootstrap.generate_kubeconfig.clone(),
            hostname: bootstrap.hostname.clone(),
            client: bootstrap.webhook_client.clone(),
        });
        let audience = if config.admin.is_set { Audience::Everybody } else { Audience::Loopback };
        let address = config.admin.address;
        Ok(Self {
            realm,
            mappings,
            followers,
            modes_path: config.mappings.modes_path.clone(),
            certificate,
            certificate_files: Some((bootstrap.state_dir.clone(), looks)),
            clients,
            sources,
            address: listen.address,
            port: listen.port,
            sharing: if listen.reuse_port { Sharing::WithOthers } else { Sharing::Alone },
            kubeconfig,
            admin: Some(AdminListener { address: address.ip.map_or_else(String::new, |ip| ip.to_string()), port: address.port, audience }),
            limits,
            bounds,
            deny_status: config.answer.deny_status,
            access_log: config.answer.access_log,
            log,
            metrics,
            cache: cache(&config.cache, &bounds),
            ec2,
            clock,
        })
    }

    /// Listens, and writes the webhook kubeconfig.
    ///
    /// # Errors
    ///
    /// [`BindError`] where the webhook cannot, [`KubeconfigError`]. A listener for probes that cannot is only warned about.
    pub async fn bind(self) -> Result<Running, StartError> {
        if let Some(mode) = modes_in_force(&self.mappings).into_iter().find(|mode| !self.followers.knows(*mode)) {
            return Err(StartError::NoFollower(mode));
        }
        let listener = serve::bind_for(&self.address.to_string(), self.port, self.sharing).await?;
        let port = listener.local_addr().map_or(self.port, |address| address.port());
        if let Some(kubeconfig) = &self.kubeconfig {
            kubeconfig.write(&self.certificate, port)?;
        }
        let metrics = self.metrics;
        let ready = Arc::new(Ready::new(Arc::clone(&self.mappings), Arc::clone(&self.clock), Arc::clone(&metrics)));
        ready.serves(&self.certificate);
        let current = Arc::new(CurrentCert::new(self.certificate.certified_key()));
        let tls = Tls::new(Arc::clone(&current), self.clients, Arc::clone(&self.clock))?;
        let mut sources = self.sources;
        if let Some((state_dir, looks)) = self.certificate_files {
            let certificate = CertificateFiles { state_dir, current, ready: Arc::clone(&ready), kubeconfig: self.kubeconfig, port };
            sources.push(certificate.source(looks));
        }
        let following = Following::new(self.followers, Arc::clone(&self.mappings), Arc::clone(&metrics), Arc::clone(&self.clock));
        let following = Arc::new(Mutex::new(following));
        if let Some(path) = self.modes_path {
            let (store, following, clock) = (Arc::clone(&self.mappings), Arc::clone(&following), Arc::clone(&self.clock));
            sources.push(ModeFile::new(path, store, following, Arc::clone(&metrics), clock).source());
        }
        let watch = Watch::new(sources, Arc::clone(&metrics), Arc::clone(&self.clock));
        let admin = match &self.admin {
            Some(place) => admin::listen(&place.address, place.port, self.sharing).await.map(|listener| (listener, place.audience)),
            None => None,
        };
        // Nobody waits for it: tokens for regions that we know are good meanwhile.
        tokio::spawn(self.realm.own_region().clone().look_up(self.realm.partition()));
        let cluster = Arc::new(Cluster::new(cluster::Parts {
            realm: self.realm,
            mappings: self.mappings,
            cache: self.cache,
            flights: flight::Limits { flights: self.bounds.flights, waiters: self.bounds.waiters },
            evictions: metrics.evictions(),
            ec2: self.ec2,
            clock: Arc::clone(&self.clock),
        })?);
        metrics.watch(Arc::downgrade(&cluster) as Weak<dyn Levels>);
        let webhook = Webhook::new(Parts {
            cluster: Arc::clone(&cluster),
            clock: self.clock,
            metrics: Arc::clone(&metrics),
            log: self.log,
            access_log: self.access_log,
            deny_status: self.deny_status,
            bodies: Bodies::new(self.bounds.body_bytes, metrics.bodies_refused()),
        });
        Ok(Running { cluster, listener, tls, admin, webhook: Arc::new(webhook), metrics, ready, limits: self.limits, watch, following })
    }
}

const fn cache(settings: &CacheSettings, bounds: &Bounds) -> identity_cache::Settings {
    identity_cache::Settings {
        ttl: settings.ttl,
        max_bytes: bounds.cache_bytes,
        negative_ttl: settings.negative_ttl,
        stale_if_down: settings.stale_if_down,
    }
}

/// What the memory limit suggests, where nothing was set.
fn bounds(config: &Config) -> Bounds {
    let limit = MemoryLimit::of_this_process();
    let mut bounds = Bounds::under(limit);
    let set = &config.bounds;
    let put = |bound: &mut usize, set: Option<usize>| *bound = set.unwrap_or(*bound);
    put(&mut bounds.cache_bytes, config.cache.max_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)));
    put(&mut bounds.connections, set.max_connections);
    put(&mut bounds.waiters, set.max_waiters);
    put(&mut bounds.flights, set.max_flights.or_else(|| set.max_waiters.map(flights_for)));
    put(&mut bounds.body_bytes, set.max_body_bytes);
    bounds.streams = set.max_streams.unwrap_or(bounds.streams);
    let limit = limit.bytes().map_or_else(|| "none".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    tracing::info!(
        cacheBytes = bounds.cache_bytes,
        connections = bounds.connections,
        waiters = bounds.waiters,
        flights = bounds.flights,
        bodyBytes = bounds.body_bytes,
        "bounds under a memory limit of {limit}"
    );
    bounds
}

/// How many threads are to serve: as many as were set, else as many processors as we may use at once, as far as the memory limit allows.
#[must_use]
pub fn worker_threads(config: &Config) -> usize {
    // The standard library knows of quotas (cgroup v1 and v2) and of affinity.
    let processors = || std::thread::available_parallelism().map_or(1, NonZero::get);
    config.bounds.worker_threads.unwrap_or_else(|| processors().min(Bounds::under(MemoryLimit::of_this_process()).worker_threads))
}

/// The usual bounds, and time enough at the end for a question to STS, and then EC2, that has just begun.
fn limits(config: &Config, bounds: &Bounds) -> Limits {
    let usual = Limits::default();
    Limits {
        drain: usual.drain.max(config.sts.deadline + ec2::Config::default().deadline + Duration::from_secs(1)),
        max_connections: bounds.connections,
        max_streams: bounds.streams,
        connection_window: bounds.connection_window,
        ..usual
    }
}

/// Who may ask, by the settings.
fn clients(settings: &ClientSettings, sources: &mut Vec<Source>) -> Result<Arc<Clients>, AuthoritiesError> {
    let path = settings.ca_file.clone();
    let looks = Looks::of(std::slice::from_ref(&path));
    let clients = Arc::new(Clients::load(&path, settings.names.clone())?);
    let reloaded = Arc::clone(&clients);
    sources.push(Source::new("client-ca", vec![path.clone()], looks, move || {
        reloaded.reload(&path).map_err(|error| error.to_string())?;
        Ok(path.display().to_string())
    }));
    Ok(clients)
}

fn client_files(client: &WebhookClientSettings) -> ClientFiles<'_> {
    ClientFiles { certificate: &client.certificate, key: &client.key }
}

fn certificate_paths(state_dir: &Path) -> [PathBuf; 2] {
    [certs::certificate_path(state_dir), certs::key_path(state_dir)]
}

/// Certificate and key on the disk, and all that follows when they change.
struct CertificateFiles {
    state_dir: PathBuf,
    current: Arc<CurrentCert>,
    ready: Arc<Ready>,
    kubeconfig: Option<WebhookKubeconfig>,
    port: u16,
}

impl CertificateFiles {
    fn source(self, looks: Looks) -> Source {
        let paths = certificate_paths(&self.state_dir).into();
        Source::new("certificate", paths, looks, move || self.reload())
    }

    fn reload(&self) -> Result<String, String> {
        let certificate = certs::load(&self.state_dir).map_err(|error| error.to_string())?;
        let [path, key] = certificate_paths(&self.state_dir);
        let certificate = certificate.ok_or_else(|| format!("{} or {} is missing", path.display(), key.display()))?;
        let is_another = self.current.current().cert != certificate.certified_key().cert;
        self.current.replace(certificate.certified_key());
        self.ready.serves(&certificate);
        if let (Some(kubeconfig), true) = (&self.kubeconfig, is_another) {
            match kubeconfig.write(&certificate, self.port) {
                Ok(()) => tracing::warn!("the webhook kubeconfig trusts the new certificate: API servers read it when they start"),
                Err(error) => tracing::error!(%error, "the webhook kubeconfig still trusts the certificate before this one"),
            }
        }
        Ok(path.display().to_string())
    }
}

/// The provers of the settings, in their order.
/// How AWS is reached.
#[derive(Clone)]
struct Aws {
    own_region: OwnRegion,
    roots: Roots,
    proxy: ProxySettings,
}

fn chain(config: &Config, aws: &Aws, metrics: &Arc<Metrics>, sources: &mut Vec<Source>) -> Result<Chain, StartError> {
    let mut provers = Vec::new();
    for kind in &config.provers {
        provers.push(match kind {
            ProverKind::Offline => {
                let offline = config.offline.as_ref().ok_or(StartError::NoBundle)?;
                let (path, partition) = (offline.bundle.clone(), config.partition);
                let looks = Looks::of(std::slice::from_ref(&path));
                let bundle = Bundle::load(&path, partition).map_err(StartError::Bundle)?;
                tracing::info!(principals = bundle.principals().len(), bundle = %path.display(), "loaded the key bundle");
                let keyring = Arc::new(Keyring::new(bundle));
                let reloaded = Arc::clone(&keyring);
                sources.push(Source::new("bundle", vec![path.clone()], looks, move || {
                    let bundle = Bundle::load(&path, partition).map_err(|errors| errors.to_string())?;
                    let loaded = format!("{} principals of {}", bundle.principals().len(), path.display());
                    reloaded.replace(bundle);
                    Ok(loaded)
                }));
                Prover::Offline(keyring)
            }
            ProverKind::Sts => {
                let client = Client::new(sts_client(config, aws.clone()), Arc::clone(metrics) as Arc<dyn sts::Observer>)?;
                metrics.show_sts(client.gauges());
                Prover::Sts(client)
            }
        });
    }
    Ok(Chain::new(provers)?)
}

fn ec2_names(config: &Config, bounds: &Bounds, aws: Aws) -> ec2::Config {
    let (Aws { own_region, roots, proxy }, settings) = (aws, &config.ec2);
    ec2::Config {
        partition: config.partition,
        own_region,
        rate: Rate { per_second: settings.qps, burst: settings.burst },
        max_waiters: bounds.waiters,
        endpoints: settings.endpoints.clone(),
        roots,
        proxy,
        ..ec2::Config::default()
    }
}

fn sts_client(config: &Config, aws: Aws) -> sts::Config {
    let (Aws { own_region, roots, proxy }, settings) = (aws, &config.sts);
    sts::Config {
        deadline: settings.deadline,
        attempt_timeout: settings.attempt_timeout,
        connect_timeout: settings.connect_timeout,
        max_in_flight: settings.max_in_flight,
        max_wait: settings.max_wait,
        max_queued: settings.max_queued,
        max_known_keys: settings.max_known_keys,
        retry_percent: settings.retry_percent,
        rate: settings.rate,
        regions: settings.regions.clone(),
        own_region,
        endpoints: settings.endpoints.clone(),
        roots,
        proxy,
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Running {
    cluster: Arc<Cluster>,
    listener: TcpListener,
    tls: Tls,
    admin: Option<(TcpListener, Audience)>,
    webhook: Arc<Webhook>,
    metrics: Arc<Metrics>,
    ready: Arc<Ready>,
    limits: Limits,
    watch: Watch,
    following: Arc<Mutex<Following>>,
}

impl Running {
    /// Where the webhook listens.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where the listener for probes is, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// The cluster that it answers for: whoever holds it can put other mappings in force.
    #[must_use]
    pub fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.cluster)
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Serves until `shutdown`, then answers what has come in and ends.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Drained {
        let refusals: Arc<dyn serve::Refusals> = Arc::clone(&self.metrics) as _;
        let (stop_admin, admin_stopped) = tokio::sync::oneshot::channel::<()>();
        let probes = self.admin.map(|(listener, audience)| {
            let admin = Admin::new(audience, Arc::clone(&self.metrics), Arc::clone(&self.ready) as Arc<dyn Readiness>);
            let stopped = async move {
                // Either way there is nothing left to probe.
                let _ = admin_stopped.await;
            };
            tokio::spawn(admin::serve(listener, admin, Arc::clone(&refusals), stopped))
        });
        let modes = modes_in_force(&self.cluster.mappings);
        // Before the file that may change them is looked at again.
        self.following.lock().unwrap_or_else(PoisonError::into_inner).follow(&modes);
        let watching = tokio::spawn(self.watch.run());
        let ready = Arc::clone(&self.ready);
        let draining = async move {
            shutdown.await;
            ready.draining.store(true, Ordering::Relaxed);
        };
        let handler = webhook::Served(Arc::clone(&self.webhook));
        let drained = serve::serve(self.listener, Some(self.tls), handler, self.limits, refusals, draining).await;
        watching.abort();
        self.webhook.tell_left_out();
        drop(stop_admin);
        if let Some(probes) = probes {
            // Its own bounds end it; what it has left out is no request of anybody's.
            let _ = probes.await;
        }
        drained
    }
}

/// Whether we can do our work. Provers are there before anything listens; what is left is whether all mappings in force have been loaded, whether the
/// certificate is good now, and whether we are on our way out.
#[derive(Debug)]
struct Ready {
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
    fn new(mappings: Arc<Store>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let (not_before, not_after) = (AtomicI64::new(i64::MIN), AtomicI64::new(i64::MAX));
        Self { draining: AtomicBool::new(false), not_before, not_after, mappings, clock, metrics }
    }

    /// This certificate is shown from now on.
    fn serves(&self, certificate: &certs::ServingCert) {
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

/// What `init` writes, and where it says that it goes.
#[derive(Debug)]
pub struct Initialized {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The webhook kubeconfig.
    pub kubeconfig: PathBuf,
    /// Whether certificate and key were made, or were there.
    pub origin: certs::Origin,
    /// Whether the certificate is for the host that the kubeconfig names.
    pub is_for_hostname: bool,
}

/// Makes, or finds, certificate and key in `state_dir`, and writes the webhook kubeconfig.
///
/// # Errors
///
/// The first step that fails.
pub fn init(config: &Config, state_dir: PathBuf, kubeconfig: PathBuf) -> Result<Initialized, bootstrap::InitError> {
    let address = config.listen.address.to_string();
    let what = bootstrap::Init {
        state_dir: &state_dir,
        kubeconfig: &kubeconfig,
        hostname: &config.bootstrap.hostname,
        address: &address,
        port: config.listen.port,
        client: config.bootstrap.webhook_client.as_ref().map(client_files),
    };
    let certificate = bootstrap::init(&what, SystemClock::new().now().unix)?;
    Ok(Initialized {
        certificate: certs::certificate_path(&state_dir),
        key: certs::key_path(&state_dir),
        kubeconfig,
        origin: certificate.origin(),
        is_for_hostname: certificate.is_for(&config.bootstrap.hostname),
    })
}

/// Tells of a panic where it happened, and not what it said: that may quote a request.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!(%place, "panic");
    }));
}

/// Ready when the process is told to end: SIGTERM, or an interrupt at the terminal. A second one ends it at once.
///
/// Both count from this call on, not from when they are first waited for. To be called within a runtime.
pub fn told_to_stop() -> impl Future<Output = ()> + Send {
    let mut signals = Signals::listen();
    async move {
        let signal = signals.next().await;
        tracing::info!(signal, "draining; a second signal ends at once");
        tokio::spawn(async move {
            signals.next().await;
            std::process::exit(1);
        });
    }
}

/// The signals that end a process; none where the system gives no handlers, and then they end it as they always do.
#[cfg(unix)]
struct Signals(Option<(Signal, Signal)>);

#[cfg(unix)]
impl Signals {
    fn listen() -> Self {
        Self(signal(SignalKind::terminate()).and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?))).ok())
    }

    async fn next(&mut self) -> &'static str {
        let Some((terminate, interrupt)) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    const fn listen() -> Self {
        Self
    }

    async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use arngate_core::{Identity, Partition};

    use super::*;
    use crate::config::{self, Environment, Overrides};
    use crate::dev::Dev;
    use crate::mapping::Outcome as LookUp;
    use crate::telemetry::{Format, Level};

    /// A key and a certificate for `localhost`, as PEM.
    fn certificate() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn bundle(key: u8) -> String {
        use base64::Engine as _;
        let key = base64::engine::general_purpose::STANDARD.encode([key; 32]);
        format!(
            "apiVersion: arngate/v1alpha1\nkind: SigningKeyBundle\nprincipals:\n- accessKeyID: AKIAIOSFODNN7EXAMPLE\n  arn: arn:aws:iam::123456789012:user/edge\n  \
             userID: AIDAEXAMPLE\n  signingKeys:\n  - {{date: \"20261124\", region: us-east-1, key: \"{key}\"}}\n"
        )
    }

    #[tokio::test]
    async fn every_file_is_read_again_when_it_has_changed_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| {
            std::fs::write(at(name), text).unwrap();
            #[cfg(unix)]
            std::fs::set_permissions(at(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        };
        let config = |username: &str| {
            let path = folder.path().display();
            format!(
                "clusterID: prod\nserver:\n  port: 0\n  stateDir: {path}\n  kubeconfigPregenerated: true\n  admin: {{address: '127.0.0.1:0'}}\n  provers: [offline]\n  \
                 offline: {{bundle: {path}/keys.yaml}}\n  clientCAFile: {path}/ca.pem\n  clientNames: [kube-apiserver]\n  mapUsers:\n  - \
                 {{userarn: 'arn:aws:iam::123456789012:user/edge', username: '{username}'}}\n"
            )
        };
        let write_certificate = |certificate: &str, key: &str| {
            let (pem, secret) = self::certificate();
            write(certificate, &pem);
            write(key, &secret);
        };
        write("config.yaml", &config("before"));
        write("keys.yaml", &bundle(1));
        write_certificate("ca.pem", "ca-key.pem");
        write_certificate("cert.pem", "key.pem");
        let overrides = Overrides { config: Some(at("config.yaml")), region: Some("us-east-1".to_owned()), ..Overrides::default() };
        let loaded = config::load(&overrides, &Environment::default()).unwrap();
        let log = Log::stderr(Format::Text, Level::Panic);
        let service = Service::from_config(loaded.value, ProxySettings::default(), Arc::new(()), log).unwrap();
        let mut running = service.bind().await.unwrap();
        let (cluster, metrics) = (running.cluster(), running.metrics());
        let username = || {
            let snapshot = cluster.mappings.current();
            let identity = Identity::check(Partition::Aws, "123456789012", "arn:aws:iam::123456789012:user/edge", "AIDAEXAMPLE").unwrap();
            match snapshot.look_up(&identity, "AKIAIOSFODNN7EXAMPLE") {
                LookUp::Mapped(mapped) => mapped.username().to_owned(),
                other => format!("{other:?}"),
            }
        };
        let value = |metric: &str, what: &str| {
            let (text, name) = (metrics.encode(), format!("{metric}{{what=\"{what}\"}} "));
            text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse::<u64>().unwrap()
        };
        let (failures, last_success) = ("arngate_reload_failures_total", "arngate_reload_last_success_timestamp_seconds");
        let generation = cluster.realm.generation();
        assert!(!running.watch.look(true), "nothing has changed");

        let files = [("config", "config.yaml"), ("bundle", "keys.yaml"), ("client-ca", "ca.pem"), ("certificate", "cert.pem")];
        for (what, file) in files {
            write(file, "\tbroken: [");
            running.watch.look(true);
            assert_eq!((value(failures, what), value(last_success, what)), (1, 0), "{what}");
        }
        assert_eq!((username(), cluster.realm.generation()), ("before".to_owned(), generation));

        write("config.yaml", &config("after"));
        write("keys.yaml", &bundle(2));
        write_certificate("ca.pem", "ca-key.pem");
        write_certificate("cert.pem", "key.pem");
        running.watch.look(true);
        for (what, _) in files {
            assert_eq!(value(failures, what), 1, "{what}");
            assert!(value(last_success, what) > 0, "{what}");
        }
        assert_eq!(username(), "after");
        assert_ne!(cluster.realm.generation(), generation);
    }

    #[tokio::test]
    async fn the_kubeconfig_names_the_port_that_was_taken_and_is_left_alone_where_none_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig.yaml");
        let service = |port, hostname: &str| {
            let (mut service, _) = Dev::new("prod", port, Log::stderr(Format::Text, Level::Panic)).unwrap().split();
            service.kubeconfig = Some(WebhookKubeconfig { path: path.clone(), hostname: hostname.to_owned(), client: None });
            service
        };
        let running = service(0, "localhost").bind().await.unwrap();
        let port = running.address().unwrap().port();
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written.contains(&format!("server: https://localhost:{port}/authenticate\n")), "{written}");

        let refused = service(port, "other").bind().await;
        assert!(matches!(refused, Err(StartError::Bind(_))), "{refused:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    }
}
