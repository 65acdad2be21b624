//! From settings to a running server: the only module that knows all others.
//!
//! ```text
//! Config ─► Service (cluster, certificate, webhook)  ─► Running (bound)  ─► run until told to stop ─► drained
//! ```

mod assemble;
mod certificate;
mod ready;
mod reload;
mod running;
mod signals;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use arngate_core::request::ClusterIdError;

use crate::bootstrap::kubeconfig::KubeconfigError;
use crate::bootstrap::{self, certs};
use crate::clock::{Clock, SystemClock};
use crate::cluster::{self, Cluster};
use crate::config::Config;
use crate::document::Errors;
use crate::ec2;
use crate::flight;
use crate::http::admin::{self, Audience};
use crate::http::body::Bodies;
use crate::http::respond::DenyStatus;
use crate::http::serve::{self, BindError, Limits, Sharing};
use crate::http::tls::{AuthoritiesError, Clients, CurrentCert, Tls, TlsError};
use crate::http::webhook::{AccessLog, Parts, Webhook};
use crate::identity_cache::{self, NoRandom};
use crate::mapping::{Followers, Following, NotFollowed, Store};
use crate::memory::Bounds;
use crate::metrics::{Levels, Metrics};
use crate::prover::sts;
use crate::prover::{ChainError, Realm};
use crate::telemetry::Log;
use crate::watch::{Looks, Source, Watch};
use certificate::{CertificateFiles, client_files};
use ready::Ready;
use reload::{ModeFile, modes_in_force};

pub use assemble::worker_threads;
pub use certificate::{NOT_FOR_HOSTNAME, WebhookKubeconfig};
pub use running::Running;
pub use signals::{install_panic_hook, told_to_stop};

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
    #[error("server.backendMode: {0}")]
    NotFollowed(#[from] NotFollowed),
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
    /// Listens, and writes the webhook kubeconfig.
    ///
    /// # Errors
    ///
    /// [`BindError`] where the webhook cannot, [`KubeconfigError`]. A listener for probes that cannot is only warned about.
    pub async fn bind(self) -> Result<Running, StartError> {
        self.followers.check(modes_in_force(&self.mappings))?;
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

#[cfg(test)]
mod tests {
    use arngate_core::{Identity, Partition};

    use super::*;
    use crate::config::{self, Environment, Overrides};
    use crate::dev::Dev;
    use crate::mapping::Outcome as LookUp;
    use crate::prover::sts::ProxySettings;
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
