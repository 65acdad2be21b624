//! A server with a fake STS behind it, and a client in front, all on loopback.

#![allow(dead_code, unreachable_pub, reason = "each test target uses its part")]

mod ec2_names;
mod people;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arngate_core::endpoint::Fips;
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Partition, StsHost, StsHosts, UnixSeconds};
use arngate_loadtest::clock::Clock as LoadtestClock;
use arngate_loadtest::credential::{CallerIdentity, Credential, EXAMPLE_SECRET};
use arngate_loadtest::ec2::{self as fake_ec2, FakeEc2};
use arngate_loadtest::sts::{self, FakeSts};
use arngate_loadtest::token;
use arngate_server::app::Service;
use arngate_server::bootstrap::certs;
use arngate_server::clock::{Clock, ManualClock, Now};
use arngate_server::cluster::Cluster;
use arngate_server::ec2::{self, SignError, Signature, Signer, Signing, Unsigned};
use arngate_server::http::respond::DenyStatus;
use arngate_server::http::serve::{Limits, Sharing};
use arngate_server::http::tls::Clients;
use arngate_server::http::webhook::AccessLog;
use arngate_server::identity_cache;
use arngate_server::mapping::{Backend, BackendMode, Followers, Mapping, Names, Policy, Store};
use arngate_server::memory::{Bounds, MemoryLimit};
use arngate_server::metrics::{Metrics, StsRegion};
use arngate_server::prover::offline::{Bundle, Day, Derivation, Keyring};
use arngate_server::prover::sts::{Client, Config, Endpoints, Observer, OwnRegion, Roots};
use arngate_server::prover::{Chain, Prover, Realm};
use arngate_server::telemetry::{Captured, Format, Level, Log};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;

pub use self::ec2_names::*;
pub use self::people::*;

/// 2026-11-24T12:00:00Z: when everything here happens, until a test moves the clock.
pub const NOON: UnixSeconds = UnixSeconds::new(1_795_521_600);
pub const CLUSTER: &str = "prod.example.com";
/// Longest wait for something that must come: a bound, not a measure.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long STS and EC2 may take where a test is not about that: no test waits for it, and none is to fail by it on a machine that has other things to do.
const NO_HURRY: Duration = Duration::from_secs(600);
/// How long STS may take where a test waits until it is given up.
const GIVE_UP: Duration = Duration::from_millis(200);
/// Whose credentials the examples are.
pub const ACCOUNT: &str = "123456789012";
const REGION: &str = "us-east-1";

/// What a server is like.
pub struct Setup {
    pub bundle: bool,
    /// STS is asked first, and the bundle where that cannot say.
    pub bundle_behind_sts: bool,
    pub sts: bool,
    pub sts_unreachable: bool,
    /// Whoever proves a token by STS panics once it has answered.
    pub panics: bool,
    /// STS is given up soon, for those who mean to see that. All others are given all the time in the world, for a busy machine may take any.
    pub quick_time_outs: bool,
    /// So many calls of STS at a time.
    pub places: Option<usize>,
    pub scrubbed: bool,
    /// EC2 can be asked for the names of instances.
    pub ec2: bool,
    /// Everybody of the examples' account is mapped, to his ARN.
    pub whole_account: bool,
    pub cache: identity_cache::Settings,
    pub deny_status: DenyStatus,
    pub access_log: AccessLog,
    /// Who may ask; none: everybody.
    pub clients: Option<Clients>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            bundle: false,
            bundle_behind_sts: false,
            sts: true,
            sts_unreachable: false,
            panics: false,
            quick_time_outs: false,
            places: None,
            scrubbed: false,
            ec2: false,
            whole_account: false,
            cache: identity_cache::Settings::default(),
            deny_status: DenyStatus::Ok,
            access_log: AccessLog::Denied,
            clients: None,
        }
    }
}

/// A connection of HTTP/2. Ends when it is dropped.
pub struct Session {
    sender: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    connection: JoinHandle<Result<(), hyper::Error>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    /// Asks whose token it is. The question is on its way at once; whoever drops the answer hangs up.
    pub fn review(&self, token: &str) -> impl Future<Output = Reply> + use<> {
        let body = Full::new(Bytes::from(review("v1", token)));
        let request = Request::post("https://localhost/authenticate?timeout=30s").header("content-type", "application/json");
        let response = self.sender.clone().send_request(request.body(body).unwrap());
        async move { Reply::read(response.await.unwrap()).await }
    }
}

/// A TokenReview.
pub fn review(version: &str, token: &str) -> String {
    format!(r#"{{"apiVersion":"authentication.k8s.io/{version}","kind":"TokenReview","spec":{{"token":"{token}"}}}}"#)
}

/// A running server.
pub struct Fixture {
    address: SocketAddr,
    client: Arc<ClientConfig>,
    sts: FakeSts,
    ec2: FakeEc2,
    clock: Arc<ManualClock>,
    sts_clock: Arc<ManualClock>,
    service_clock: Arc<ServiceClock>,
    captured: Captured,
    cluster: Arc<Cluster>,
    keyring: Arc<Keyring>,
    panics: Arc<Panics>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.running.abort();
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    Http1,
    Http2,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    async fn read(response: Response<Incoming>) -> Self {
        let status = response.status().as_u16();
        let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Self { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// The ARN of the one who was let in; none: he was not.
    pub fn arn(&self) -> Option<String> {
        let review: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        let status = &review["status"];
        (status["authenticated"] == true).then(|| status["user"]["extra"]["arn"][0].as_str().unwrap().to_owned())
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
    }

    /// `status.error` of a TokenReview.
    pub fn error(&self) -> String {
        let review: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body));
        review["status"]["error"].as_str().unwrap_or_default().to_owned()
    }

    pub fn shown(&self) -> String {
        format!("{}\ncontent-type: {}\n\n{}\n", self.status, self.header("content-type").unwrap_or_default(), self.body)
    }
}

impl Fixture {
    pub async fn start(setup: Setup) -> Self {
        let clock = Arc::new(ManualClock::at(NOON));
        let credentials = [Credential::example_user(), Credential::example_role()];
        let sts_clock = Arc::new(ManualClock::at(NOON));
        let sts = FakeSts::start(sts::Config::new(told_by(&sts_clock)).with_credentials(credentials)).await.unwrap();
        let metrics = Arc::new(Metrics::new());
        let keyring = Arc::new(Keyring::new(bundle_of(&Credential::example_user())));
        let panics = Arc::new(Panics(AtomicBool::new(setup.panics)));
        let captured = Captured::default();
        let log = Log::new(Format::Text, Level::Info, Arc::clone(&clock) as Arc<dyn Clock>, captured.clone());
        let ec2 = fake_ec2(&clock).await;
        let names =
            if setup.ec2 { names(ec2_config(&ec2), &clock, &metrics) } else { ec2::Names::nobodys(Arc::clone(&clock) as Arc<dyn Clock>) };
        let certificate = certs::generate(certs::Names { address: "127.0.0.1", hostname: "localhost" }, NOON).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.leaf_der().clone()).unwrap();
        let service_clock = Arc::new(ServiceClock { clock: Arc::clone(&clock), panics: AtomicBool::new(false) });

        let service = Service {
            realm: Realm::new(CLUSTER, Partition::Aws, Some(REGION), 300, chain(&setup, &sts, &metrics, &keyring, &panics)).unwrap(),
            mappings: Arc::new(mappings(setup.scrubbed, setup.whole_account)),
            followers: Followers::default(),
            modes_path: None,
            certificate,
            certificate_files: None,
            clients: setup.clients.map(Arc::new),
            sources: Vec::new(),
            address: IpAddr::from(Ipv4Addr::LOCALHOST),
            port: 0,
            sharing: Sharing::Alone,
            kubeconfig: None,
            admin: None,
            limits: Limits::default(),
            bounds: Bounds::under(MemoryLimit::NONE),
            deny_status: setup.deny_status,
            access_log: setup.access_log,
            log,
            metrics,
            cache: setup.cache,
            ec2: names,
            clock: Arc::clone(&service_clock) as Arc<dyn Clock>,
        };
        let running = service.bind().await.unwrap();
        let address = running.address().unwrap();
        let cluster = running.cluster();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            running
                .run(async move {
                    let _ = stopped.await;
                })
                .await;
        });
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            address,
            client: Arc::new(client),
            sts,
            ec2,
            clock,
            sts_clock,
            service_clock,
            captured,
            cluster,
            keyring,
            panics,
            stop: Some(stop),
            running,
        }
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The keys that prove offline.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// From now on whoever looks at the clock panics, or no longer.
    pub fn break_clock(&self, is_broken: bool) {
        self.service_clock.panics.store(is_broken, Ordering::Relaxed);
    }

    /// From now on we have a certificate to show.
    pub fn show(&mut self, certificate: CertifiedKey) {
        Arc::make_mut(&mut self.client).client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certificate));
    }

    /// No proof panics from now on.
    pub fn stop_panicking(&self) {
        self.panics.0.store(false, Ordering::Relaxed);
    }

    /// A connection of HTTP/2 that stays.
    pub async fn connect(&self) -> Session {
        let mut config = ClientConfig::clone(&self.client);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        Session { sender, connection: tokio::spawn(connection) }
    }

    /// The value of a counter or gauge, by its name and labels as `/metrics` shows them.
    pub async fn metric(&self, name: &str) -> i64 {
        let text = self.request(Protocol::Http1, "GET", "/metrics", "").await.body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Waits until so many requests wait for proofs.
    pub async fn wait_for_waiters(&self, waiters: usize) {
        let there = async {
            while self.cluster.flights.counts().waiters != waiters {
                // Lets the runtime see to the connections.
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, there).await;
        assert!(found.is_ok(), "{waiters} should wait, and {:?}", self.cluster.flights.counts());
    }

    pub fn sts(&self) -> &FakeSts {
        &self.sts
    }

    pub fn ec2(&self) -> &FakeEc2 {
        &self.ec2
    }

    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The clock of STS, which stands still as well.
    pub fn sts_clock(&self) -> &ManualClock {
        &self.sts_clock
    }

    pub fn log(&self) -> String {
        // The client's port is another one each time.
        let mut text = String::new();
        for line in self.captured.text().lines() {
            let (head, tail) = line.split_once("client=\"127.0.0.1:").unwrap_or((line, ""));
            let tail = tail.split_once('"').map_or("", |(_, tail)| tail);
            text += &if tail.is_empty() { line.to_owned() } else { format!("{head}client=\"127.0.0.1:PORT\"{tail}") };
            text += "\n";
        }
        text
    }

    pub fn token(&self, credential: &Credential) -> String {
        self.token_for(credential, CLUSTER)
    }

    pub fn token_for(&self, credential: &Credential, cluster_id: &str) -> String {
        token_signed(credential, cluster_id, NOON)
    }

    /// Another token of the same credential: signed some seconds after noon.
    pub fn later_token(&self, credential: &Credential, seconds: i64) -> String {
        token_signed(credential, CLUSTER, NOON.saturating_add(seconds))
    }

    pub async fn review(&self, protocol: Protocol, body: &str) -> Reply {
        self.request(protocol, "POST", "/authenticate?timeout=30s", body).await
    }

    /// Sends a TokenReview over HTTP/1.1, and its body only after `meanwhile`, when the server waits for it; what was answered.
    pub async fn review_late(&self, body: &str, meanwhile: impl FnOnce()) -> String {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.client));
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let length = body.len();
        let head = format!(
            "POST /authenticate HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        meanwhile();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Stops the server, and waits until it has ended.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        (&mut self.running).await.unwrap();
    }

    pub async fn request(&self, protocol: Protocol, method: &str, path: &str, body: &str) -> Reply {
        let mut config = ClientConfig::clone(&self.client);
        config.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let stream = TokioIo::new(stream);
        let request = Request::builder().method(method).header("content-type", "application/json");
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let response = match protocol {
            Protocol::Http1 => {
                let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request.uri(path).header("host", "localhost").body(body).unwrap()).await.unwrap()
            }
            Protocol::Http2 => {
                let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request.uri(format!("https://localhost{path}")).body(body).unwrap()).await.unwrap()
            }
        };
        Reply::read(response).await
    }
}

fn token_signed(credential: &Credential, cluster_id: &str, date: UnixSeconds) -> String {
    let host = StsHost::regional(Partition::Aws, REGION, Fips::No).unwrap();
    token::sign_token(credential, host, ClusterId::parse(cluster_id).unwrap(), AmzDate::from_unix(date).unwrap())
}

/// A bundle of one user's keys.
pub fn bundle_of(user: &Credential) -> Bundle {
    let derivation = Derivation {
        access_key_id: user.access_key_id(),
        secret: user.secret().as_bytes(),
        arn: &user.identity().arn,
        user_id: &user.identity().user_id,
        regions: &[REGION],
        first_day: Day::parse("20261124").unwrap(),
        days: 1,
    };
    Bundle::derive(Partition::Aws, &derivation).unwrap()
}

fn chain(setup: &Setup, fake: &FakeSts, metrics: &Arc<Metrics>, keyring: &Arc<Keyring>, panics: &Arc<Panics>) -> Chain {
    let mut provers = Vec::new();
    if setup.bundle {
        provers.push(Prover::Offline(Arc::clone(keyring)));
    }
    if setup.sts {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, fake.ca_pem()).unwrap();
        let address = if setup.sts_unreachable { closed_port() } else { fake.addr() };
        let mut endpoints = Endpoints::default();
        endpoints.insert("sts.us-east-1.amazonaws.com", &format!("https://{address}"), &StsHosts::new(Partition::Aws)).unwrap();
        let (attempt_timeout, deadline) = if setup.quick_time_outs { (GIVE_UP, 2 * GIVE_UP) } else { (NO_HURRY, NO_HURRY) };
        let usual = Config::default();
        let config = Config {
            endpoints,
            roots: Roots::load(&[ca_file]).unwrap(),
            attempt_timeout,
            deadline,
            connect_timeout: NO_HURRY,
            max_wait: NO_HURRY,
            max_in_flight: setup.places.unwrap_or(usual.max_in_flight),
            ..usual
        };
        let observer: Arc<dyn Observer> = if setup.panics { Arc::clone(panics) as _ } else { Arc::clone(metrics) as _ };
        provers.push(Prover::Sts(Client::new(config, observer).unwrap()));
    }
    if setup.bundle_behind_sts {
        provers.push(Prover::Offline(Arc::clone(keyring)));
    }
    Chain::new(provers).unwrap()
}

fn told_by(clock: &Arc<ManualClock>) -> LoadtestClock {
    let clock = Arc::clone(clock);
    LoadtestClock::new(move || clock.now().unix)
}

/// What is told on this thread, which is that of a whole test with server and all, to the operator: the lines beside those of the access log.
pub fn listen() -> (Captured, DefaultGuard) {
    let told = Captured::default();
    let log = Log::new(Format::Text, Level::Info, Arc::new(ManualClock::at(NOON)), told.clone());
    (told, tracing::subscriber::set_default(tracing_subscriber::registry().with(log.layer())))
}

/// A fault of ours in the middle of a proof, as long as it is there.
#[derive(Debug)]
struct Panics(AtomicBool);

impl Observer for Panics {
    fn response(&self, _: u16, _: StsRegion) {
        assert!(!self.0.load(Ordering::Relaxed), "on purpose");
    }
}

/// The clock of the server, which can be a fault of ours in the middle of a request.
#[derive(Debug)]
struct ServiceClock {
    clock: Arc<ManualClock>,
    panics: AtomicBool,
}

impl Clock for ServiceClock {
    fn now(&self) -> Now {
        assert!(!self.panics.load(Ordering::Relaxed), "on purpose");
        self.clock.now()
    }
}

/// Whoever signs the certificates of API servers.
pub struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap())
    }

    /// Whoever has a certificate of it that is made out to `name`.
    pub fn clients(&self, name: &str) -> Clients {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, self.0.pem()).unwrap();
        Clients::load(file.path(), vec![name.to_owned()]).unwrap()
    }

    pub fn issue(&self, name: &str) -> CertifiedKey {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = rcgen::KeyPair::generate().unwrap();
        let chain = vec![params.signed_by(&key, &self.0).unwrap().der().clone()];
        CertifiedKey::new(chain, ring::sign::any_supported_type(&PrivateKeyDer::Pkcs8(key.serialize_der().into())).unwrap())
    }
}

/// An address where nobody listens.
pub fn closed_port() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

/// The URL inside a token.
pub fn url_of(token: &str) -> String {
    let mut buffer = arngate_core::TokenBuffer::new();
    let token = arngate_core::Token::decode(token.as_bytes(), &mut buffer).unwrap();
    String::from_utf8(token.url_bytes().to_vec()).unwrap()
}

/// The token with the last digit of its signature changed.
pub fn with_another_signature(token: &str) -> String {
    let mut url = url_of(token);
    let last = url.pop().unwrap();
    url.push(if last == '0' { '1' } else { '0' });
    token::token_of(&url)
}
