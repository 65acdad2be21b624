//! How the API server is reached: as whom, and over what.
//!
//! A connection is made when it is first used, and made anew, credentials read again, after it failed: a kubeconfig may be written after we have started,
//! and certificates are renewed in place. Nothing here blocks whoever starts a server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arngate_server::prover::sts::ProxySettings;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
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
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; none: its current one.
    pub context: Option<String>,
    /// The URL of the API server, before the kubeconfig's.
    pub master: Option<String>,
    /// The proxies of the environment, where the kubeconfig names none.
    pub proxy: ProxySettings,
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
            client(&config, &access.proxy)
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
        for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
            if cluster.proxy_url.as_ref().is_none_or(String::is_empty) {
                cluster.proxy_url = Some(NOT_NAMED.to_owned());
            }
        }
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

/// Stands for the proxy that a kubeconfig does not name: kube would take that of the environment, and look in NO_PROXY for the proxy's own name and not for the
/// API server's (`ConfigLoader::proxy_url` in 5.0.0).
const NOT_NAMED: &str = "http://not-named.invalid";

/// The proxy on the way to an API server, and what it wants to hear.
fn proxy(config: &Config, environment: &ProxySettings) -> Option<(Uri, Option<HeaderValue>)> {
    if let Some(named) = config.proxy_url.as_ref().filter(|named| named.host() != NOT_NAMED.strip_prefix("http://")) {
        return Some((named.clone(), None));
    }
    let matcher = Matcher::builder().https(environment.https.as_str()).no(environment.no.as_str()).build();
    matcher.intercept(&config.cluster_url).map(|proxy| (proxy.uri().clone(), proxy.basic_auth().cloned()))
}

/// kube's stack without its retries, its spans and its log lines: retries are ours to pace, and what failed is told once, by whom it concerns.
fn client(config: &Config, environment: &ProxySettings) -> Result<Client, Trouble> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_PATIENCE));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_nodelay(true);
    match proxy(config, environment) {
        None => over(config, tcp),
        Some((uri, auth)) if uri.scheme_str() == Some("http") => {
            let tunnel = Tunnel::new(uri, tcp);
            over(config, if let Some(auth) = auth { tunnel.with_auth(auth) } else { tunnel })
        }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use http::Method;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn access(kubeconfig: &Path) -> Access {
        Access { kubeconfig: Some(kubeconfig.to_owned()), ..Access::default() }
    }

    fn kubeconfig(server: &str, user: &str) -> String {
        format!(
            "{{clusters: [{{name: a, cluster: {{server: '{server}'}}}}], users: [{{name: a, user: {user}}}], \
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}], current-context: a}}"
        )
    }

    async fn ask(connection: &Connection) -> Result<(), Trouble> {
        connection.ask(Method::GET, "/version", None).await.map(drop)
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_kubeconfig_is_told_and_nothing_of_it_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        let exec = |script: &str| {
            let user = format!(
                "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, '{script}'], interactiveMode: Never}}}}"
            );
            kubeconfig("https://127.0.0.1:1", &user)
        };
        let mut told = String::new();
        for (what, text) in [
            ("missing", None),
            ("empty", Some(String::new())),
            ("no YAML", Some("token: [secret".to_owned())),
            ("not this form", Some("users: secret".to_owned())),
            ("a user of no form", Some(kubeconfig("https://127.0.0.1:1", "{token: {a: secret}}"))),
            ("no URL", Some(kubeconfig("secret secret", "{}"))),
            ("no certificates", Some(kubeconfig("https://127.0.0.1:1', certificate-authority-data: 'secret*", "{}"))),
            ("no such authority", Some(kubeconfig("https://127.0.0.1:1', certificate-authority: '/nonexistent", "{}"))),
            ("no such token", Some(kubeconfig("https://127.0.0.1:1", "{tokenFile: /nonexistent}"))),
            ("a proxy of another kind", Some(kubeconfig("https://127.0.0.1:1', proxy-url: 'socks5://127.0.0.1:1", "{}"))),
            ("a program that fails", Some(exec("echo secret; echo secret >&2; exit 3"))),
            ("a program that says something else", Some(exec("echo secret"))),
        ] {
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            let trouble = ask(&Connection::new(access(&path))).await.expect_err(what);
            assert!(matches!(trouble, Trouble::Credentials(_)), "{what}: {trouble:?}");
            let text = trouble.to_string().replace(&folder.path().display().to_string(), "FOLDER");
            assert!(!text.contains("secret"), "{what}: {text}");
            told += &format!("{what}: {text}\n");
        }
        insta::assert_snapshot!(told);
    }

    /// An API server of sorts: it takes the requests with one bearer token, and refuses the others.
    async fn api_server_for(token: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while let Ok(1..) = stream.read_buf(&mut head).await {
                        if !head.ends_with(b"\r\n\r\n") {
                            continue;
                        }
                        let is_good = String::from_utf8_lossy(&head).contains(&format!("authorization: Bearer {token}\r\n"));
                        let status = if is_good { "200 OK" } else { "401 Unauthorized" };
                        head.clear();
                        let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes()).await;
                    }
                });
            }
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn a_kubeconfig_is_read_again_after_it_was_not_good_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        let connection = Connection::new(access(&path));
        assert!(matches!(ask(&connection).await, Err(Trouble::Credentials(_))), "not there yet");
        let url = api_server_for("new").await;
        fs::write(&path, kubeconfig(&url, "{token: old}")).unwrap();
        assert!(ask(&connection).await.is_err_and(|trouble| trouble.is_status(401)));
        fs::write(&path, kubeconfig(&url, "{token: new}")).unwrap();
        ask(&connection).await.unwrap();
        // And not again while all is well.
        fs::write(&path, kubeconfig(&url, "{token: old}")).unwrap();
        ask(&connection).await.unwrap();
    }

    #[tokio::test]
    async fn the_master_s_url_goes_before_the_kubeconfig_s_and_needs_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        fs::write(&path, kubeconfig("https://127.0.0.1:1", "{token: good}")).unwrap();
        let url = api_server_for("good").await;
        let of = |kubeconfig: Option<&PathBuf>, master: &str| {
            Connection::new(Access { kubeconfig: kubeconfig.cloned(), master: Some(master.to_owned()), ..Access::default() })
        };
        ask(&of(Some(&path), &url)).await.unwrap();
        // Without a kubeconfig nobody says who asks; without a scheme it is plain.
        let plain = url.strip_prefix("http://").unwrap();
        assert!(ask(&of(None, plain)).await.is_err_and(|trouble| trouble.is_status(401)));
        assert!(matches!(ask(&of(None, "ftp://localhost")).await, Err(Trouble::Credentials(_))));
    }

    #[test]
    fn the_environment_s_proxy_is_for_those_whom_no_proxy_does_not_name() {
        let of = |server: &str, named: Option<&str>, https: &str, no: &str| {
            let mut config = Config::new(server.parse().unwrap());
            config.proxy_url = Some(named.unwrap_or(NOT_NAMED).parse().unwrap());
            let environment = ProxySettings { https: https.to_owned(), no: no.to_owned() };
            proxy(&config, &environment).map(|(uri, auth)| format!("{uri} {auth:?}"))
        };
        let api = "https://api.example.com:6443";
        assert_eq!(of(api, None, "", ""), None);
        assert_eq!(of(api, None, "http://proxy:3128", "127.0.0.1").as_deref(), Some("http://proxy:3128/ None"));
        assert_eq!(of("https://127.0.0.1:6443", None, "http://proxy:3128", "127.0.0.1,169.254.169.254"), None);
        assert_eq!(of(api, None, "http://proxy:3128", ".example.com"), None);
        assert_eq!(
            of(api, None, "http://proxy:3128", "proxy").as_deref(),
            Some("http://proxy:3128/ None"),
            "it is the API server that counts"
        );
        let with_password = of(api, None, "http://me:secret@proxy:3128", "").unwrap();
        assert_eq!(with_password, "http://proxy:3128/ Some(Sensitive)");
        // What the kubeconfig says is for this cluster alone, and goes before.
        assert_eq!(of(api, Some("http://own:1"), "http://proxy:3128", ".example.com").as_deref(), Some("http://own:1/ None"));
        // What is plain has no such proxy.
        assert_eq!(of("http://api.example.com:8080", None, "http://proxy:3128", ""), None);
    }

    #[test]
    fn the_usual_kubeconfig_is_kubectl_s() {
        let home = tempfile::tempdir().unwrap();
        let usual = |variable: Option<&str>| Access::usual_kubeconfig(variable, Some(home.path()));
        assert_eq!(usual(None), None);
        let config = home.path().join(".kube").join("config");
        fs::create_dir(home.path().join(".kube")).unwrap();
        fs::write(&config, "").unwrap();
        assert_eq!(usual(None), Some(config.clone()));
        let other = home.path().join("other");
        fs::write(&other, "").unwrap();
        assert_eq!(usual(Some(&format!("/nonexistent:{}", other.display()))), Some(other));
        assert_eq!(usual(Some("")), Some(config));
    }
}
