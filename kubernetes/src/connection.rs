//! How the API server is reached: as whom, and over what.
//!
//! A connection is made when it is first used, and made anew, credentials read again, after it failed: a kubeconfig may be written after we have started,
//! and certificates are renewed in place. Nothing here blocks whoever starts a server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioExecutor;
use kube::client::{AuthError, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::sync::Mutex;
use tower::ServiceBuilder;

use crate::trouble::Trouble;

/// Longest time for TCP.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How often TCP asks whether the peer is there: a watch is silent for minutes, and would not notice otherwise.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Which cluster, and as whom.
///
/// upstream: `BuildConfigFromFlags` of client-go: without either, what a pod is given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Access {
    /// The kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; none: its current one.
    pub context: Option<String>,
    /// The URL of the API server, before the kubeconfig's.
    pub master: Option<String>,
}

/// The way to an API server.
pub struct Connection {
    to: To,
    state: Mutex<State>,
}

enum To {
    Access(Access),
    #[cfg(test)]
    Client(Client),
}

#[derive(Default)]
struct State {
    client: Option<Client>,
    /// Goes up with each client, so that only who used the last one can put it away.
    generation: u64,
}

/// A client, and which one it is.
pub(crate) struct Held {
    pub(crate) client: Client,
    generation: u64,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// A way that nobody has gone yet.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self { to: To::Access(access), state: Mutex::default() }
    }

    #[cfg(test)]
    pub(crate) fn through(client: Client) -> Self {
        Self { to: To::Client(client), state: Mutex::default() }
    }

    pub(crate) async fn client(&self) -> Result<Held, Trouble> {
        let mut state = self.state.lock().await;
        let client = match &state.client {
            Some(client) => client.clone(),
            None => {
                let client = self.to.connect().await?;
                state.generation = state.generation.wrapping_add(1);
                state.client.insert(client).clone()
            }
        };
        Ok(Held { client, generation: state.generation })
    }

    /// Puts a client away that came to this, if another one might do better.
    pub(crate) async fn came_to(&self, held: &Held, trouble: &Trouble) {
        if trouble.is_of_the_connection() {
            let mut state = self.state.lock().await;
            if state.generation == held.generation {
                state.client = None;
            }
        }
    }
}

impl To {
    async fn connect(&self) -> Result<Client, Trouble> {
        let access = match self {
            Self::Access(access) => access.clone(),
            #[cfg(test)]
            Self::Client(client) => return Ok(client.clone()),
        };
        // Reads files, and may run a program and wait for it.
        let made = tokio::task::spawn_blocking(move || {
            let config = access.config()?;
            client(&config)
        });
        made.await.unwrap_or_else(|_| Err(Trouble::credentials("reading the credentials panicked")))
    }
}

impl Access {
    /// To be called where blocking is allowed.
    fn config(&self) -> Result<Config, Trouble> {
        let Some(path) = &self.kubeconfig else {
            return match &self.master {
                Some(master) => Ok(Config::new(url(master)?)),
                None => Config::incluster().map_err(|error| {
                    Trouble::credentials(format_args!(
                        "there is neither a kubeconfig nor what a pod is given to reach its API server: {error}"
                    ))
                }),
            };
        };
        let told =
            |error: &KubeconfigError| Trouble::Credentials(format!("{}: {}", Trouble::words(&path.display().to_string()), told(error)));
        let mut kubeconfig = Kubeconfig::read_from(path).map_err(|error| told(&error))?;
        if let Some(master) = &self.master {
            let url = url(master)?.to_string();
            for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
                cluster.server = Some(url.clone());
            }
        }
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        // It awaits nothing.
        let runtime = tokio::runtime::Handle::current();
        runtime.block_on(Config::from_custom_kubeconfig(kubeconfig, &options)).map_err(|error| told(&error))
    }

    /// The kubeconfig that kubectl would read: the one that is named, else the first that there is of those in `variable` (`KUBECONFIG`), else that of `home`.
    #[must_use]
    pub fn usual_kubeconfig(variable: Option<&str>, home: Option<&Path>) -> Option<PathBuf> {
        let named = variable.into_iter().flat_map(std::env::split_paths).filter(|path| !path.as_os_str().is_empty());
        named.chain(home.map(|home| home.join(".kube").join("config"))).find(|path| path.exists())
    }
}

/// A URL of an API server; without a scheme it is plain HTTP, as client-go has it.
fn url(master: &str) -> Result<Uri, Trouble> {
    let text = if master.contains("://") { master.to_owned() } else { format!("http://{master}") };
    let uri = text.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    uri.ok_or_else(|| Trouble::credentials("the API server's address is no URL with http or https"))
}

/// What is wrong with a kubeconfig. kube's own words may show lines of it, and those may be tokens and keys.
fn told(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::CurrentContextNotSet => "it names no current context".to_owned(),
        KubeconfigError::LoadContext(name) => format!("it has no context {}", Trouble::words(name)),
        KubeconfigError::LoadClusterOfContext(name) => format!("it has no cluster {}", Trouble::words(name)),
        KubeconfigError::ReadConfig(error, _) => error.to_string(),
        KubeconfigError::Parse(_) => "it is not a kubeconfig".to_owned(),
        KubeconfigError::MissingClusterUrl => "its cluster has no server".to_owned(),
        KubeconfigError::ParseClusterUrl(_) => "its cluster's server is no URL".to_owned(),
        KubeconfigError::ParseProxyUrl(_) => "the proxy is no URL".to_owned(),
        KubeconfigError::LoadCertificateAuthority(_) | KubeconfigError::ParseCertificates(_) => {
            "its certificate authority cannot be read".to_owned()
        }
        KubeconfigError::LoadClientCertificate(_) => "its client certificate cannot be read".to_owned(),
        KubeconfigError::LoadClientKey(_) => "its client key cannot be read".to_owned(),
        _ => "it cannot be used".to_owned(),
    }
}

/// What is wrong with credentials. The output of a plug-in holds a token.
fn auth_trouble(error: &AuthError) -> Trouble {
    match error {
        AuthError::ReadTokenFile(error, path) => Trouble::credentials(format_args!("{}: {error}", path.display())),
        AuthError::AuthExecStart(error) => Trouble::credentials(format_args!("the kubeconfig's credential program cannot be run: {error}")),
        AuthError::AuthExecRun { out, .. } => {
            Trouble::credentials(format_args!("the kubeconfig's credential program failed ({})", out.status))
        }
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => {
            Trouble::credentials("the kubeconfig's credential program printed no ExecCredential")
        }
        _ => Trouble::credentials("the kubeconfig's credentials cannot be used"),
    }
}

/// kube's stack without its retries, its spans and its log lines: retries are ours to pace, and what failed is told once, by whom it concerns.
fn client(config: &Config) -> Result<Client, Trouble> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_PATIENCE));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_nodelay(true);
    match &config.proxy_url {
        None => over(config, tcp),
        Some(proxy) if proxy.scheme_str() == Some("http") => over(config, Tunnel::new(proxy.clone(), tcp)),
        Some(_) => Err(Trouble::credentials("the proxy to the API server is not of http://")),
    }
}

fn over<C>(config: &Config, connector: C) -> Result<Client, Trouble>
where
    C: tower::Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: hyper_util::client::legacy::connect::Connection + hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tls = config.rustls_https_connector_with_connector(connector).map_err(|error| kube_trouble(&error))?;
    let http = HttpClient::builder(TokioExecutor::new()).build(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(|error| kube_trouble(&error))?)
        .layer(config.extra_headers_layer().map_err(|error| kube_trouble(&error))?)
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// An error of kube's, in words that hold no secret.
pub(crate) fn kube_trouble(error: &kube::Error) -> Trouble {
    match error {
        kube::Error::Auth(error) => auth_trouble(error),
        kube::Error::RustlsTls(error) => Trouble::credentials(format_args!("TLS to the API server cannot be set up: {error}")),
        kube::Error::Service(error) => match error.downcast_ref::<AuthError>() {
            Some(error) => auth_trouble(error),
            None => Trouble::unreachable(&**error),
        },
        kube::Error::HyperError(error) => Trouble::unreachable(error),
        _ => Trouble::credentials("the credentials cannot be used"),
    }
}
