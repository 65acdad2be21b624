//! From settings to a [`Service`]: what is set, what the memory limit suggests, and what is usual.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use super::certificate::{WebhookKubeconfig, certificate_paths};
use super::reload::SettingsFile;
use super::{AdminListener, Service, StartError};
use crate::bootstrap::certs;
use crate::clock::{Clock, SystemClock};
use crate::config::{CacheSettings, ClientSettings, Config, ProverKind};
use crate::ec2;
use crate::http::admin::Audience;
use crate::http::serve::{Limits, Sharing};
use crate::http::tls::{AuthoritiesError, Clients};
use crate::identity_cache;
use crate::mapping::{BackendMode, Followers, Store, dynamic_file};
use crate::memory::{Bounds, MemoryLimit, flights_for};
use crate::metrics::Metrics;
use crate::prover::offline::{Bundle, Keyring};
use crate::prover::sts::{self, Client, OwnRegion, ProxySettings, Rate, Roots};
use crate::prover::{Chain, Prover, Realm};
use crate::telemetry::Log;
use crate::watch::{Looks, Source};

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
        let (chain, limits) = (chain(&config, &bounds, &sts, &metrics, &mut sources)?, limits(&config, &bounds));
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
    put(&mut bounds.sts_calls, config.sts.max_in_flight);
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

/// How AWS is reached.
#[derive(Clone)]
struct Aws {
    own_region: OwnRegion,
    roots: Roots,
    proxy: ProxySettings,
}

/// The provers of the settings, in their order.
fn chain(config: &Config, bounds: &Bounds, aws: &Aws, metrics: &Arc<Metrics>, sources: &mut Vec<Source>) -> Result<Chain, StartError> {
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
                let client = Client::new(sts_client(config, bounds, aws.clone()), Arc::clone(metrics) as Arc<dyn sts::Observer>)?;
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

fn sts_client(config: &Config, bounds: &Bounds, aws: Aws) -> sts::Config {
    let (Aws { own_region, roots, proxy }, settings) = (aws, &config.sts);
    sts::Config {
        deadline: settings.deadline,
        attempt_timeout: settings.attempt_timeout,
        connect_timeout: settings.connect_timeout,
        max_in_flight: bounds.sts_calls,
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
