//! The client against a server on loopback that says what it is told to. (What STS itself says is for the fake STS of `loadtest`.)

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arngate_core::{Partition, StsHosts, Token, TokenBuffer};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::outbound::{Connector, Resolve, Roots};
use crate::prover::tests::{SIGNER, Signer, USER, keyring, now, realm, reason};
use crate::prover::{Chain, Fault, Outcome, Prover, Realm, Source, prove};

mod in_memory;
mod protection;
mod way;

const HOST: &str = "sts.us-east-1.amazonaws.com";
const UNKNOWN: Signer = Signer { access_key_id: "AKIAIOSFODNN7UNKNOWN", ..SIGNER };
const UNAVAILABLE: (&str, Outcome, Fault) = ("sts-unavailable", Outcome::Unavailable, Fault::Sts);
const REFUSAL: &str = r#"{"Error":{"Code":"SignatureDoesNotMatch","Message":"secret text","Type":"Sender"},"RequestId":"x"}"#;

/// What the server does with a request.
#[derive(Clone)]
enum Answer {
    Bytes(Vec<u8>),
    /// And no other on this connection, which it does not say.
    Last(Vec<u8>),
    Close,
    Hang,
    /// A body without an end.
    Endless,
}

fn http(status: u16, body: &str) -> Answer {
    Answer::Bytes(format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into())
}

fn identity(arn: &str) -> Answer {
    let result = format!(r#"{{"Account":"123456789012","Arn":"{arn}","UserId":"AIDATOLD"}}"#);
    http(200, &format!(r#"{{"GetCallerIdentityResponse":{{"GetCallerIdentityResult":{result}}}}}"#))
}

fn good() -> Answer {
    identity("arn:aws:iam::123456789012:user/told")
}

/// Counts as a metric would.
#[derive(Debug, Default)]
struct Counts(Mutex<Vec<String>>);

impl Observer for Counts {
    fn response(&self, status: u16, region: StsRegion) {
        self.0.lock().unwrap().push(format!("{status} {}", region.label()));
    }

    fn connection_failure(&self, region: StsRegion) {
        self.0.lock().unwrap().push(format!("failure {}", region.label()));
    }

    fn throttled(&self, region: StsRegion) {
        self.0.lock().unwrap().push(format!("throttled {}", region.label()));
    }

    fn lane_refused(&self, lane: Lane) {
        self.0.lock().unwrap().push(format!("refused {}", lane.label()));
    }

    fn new_host_refused(&self) {
        self.0.lock().unwrap().push("new host".into());
    }

    fn retried(&self) {
        self.0.lock().unwrap().push("retried".into());
    }

    fn retry_budget_exhausted(&self) {
        self.0.lock().unwrap().push("exhausted".into());
    }

    fn clock_skew(&self, ahead_secs: i64) {
        self.0.lock().unwrap().push(format!("skew {ahead_secs}"));
    }
}

struct Server {
    port: u16,
    folder: TempDir,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    counts: Arc<Counts>,
}

impl Server {
    async fn start(answers: impl Into<Vec<Answer>>) -> Self {
        Self::start_as(&[HOST, "sts.eu-west-1.amazonaws.com", "localhost"], answers).await
    }

    /// Gives the answers one by one, the last of them for ever.
    async fn start_as(names: &[&str], answers: impl Into<Vec<Answer>>) -> Self {
        let folder = TempDir::new().unwrap();
        let acceptor = acceptor(names, &folder.path().join("ca.pem"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (heads, connections) = (Arc::default(), Arc::default());
        let server = Self { port, folder, heads: Arc::clone(&heads), connections: Arc::clone(&connections), counts: Arc::default() };
        let answers: Arc<Mutex<Vec<Answer>>> = Arc::new(Mutex::new(answers.into().into_iter().rev().collect()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, heads, answers) = (acceptor.clone(), Arc::clone(&heads), Arc::clone(&answers));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = serve(stream, &heads, &answers).await;
                    }
                });
            }
        });
        server
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A client that connects here for the hosts of the tests.
    fn config(&self) -> Config {
        let mut endpoints = Endpoints::default();
        for host in [HOST, "sts.eu-west-1.amazonaws.com"] {
            endpoints.insert(host, &format!("https://localhost:{}", self.port), &StsHosts::new(Partition::Aws)).unwrap();
        }
        Config { endpoints, roots: Roots::load(&[self.ca_file()]).unwrap(), ..Config::default() }
    }

    fn client(&self) -> Client {
        self.client_with(self.config())
    }

    fn client_with(&self, config: Config) -> Client {
        let counts: Arc<Counts> = Arc::clone(&self.counts);
        Client::new(config, counts).unwrap()
    }

    fn realm(&self) -> Arc<Realm> {
        realm(vec![Prover::Sts(self.client())])
    }

    fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    fn counted(&self) -> Vec<String> {
        self.counts.0.lock().unwrap().clone()
    }
}

/// TLS for those names, under an authority of its own whose certificate goes to `ca_file`.
fn acceptor(names: &[&str], ca_file: &Path) -> TlsAcceptor {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    std::fs::write(ca_file, ca_certificate.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &Issuer::new(ca, &ca_key)).unwrap();
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(tls))
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    heads: &Mutex<Vec<String>>,
    answers: &Mutex<Vec<Answer>>,
) -> io::Result<()> {
    loop {
        let head = read_head(&mut stream).await?;
        heads.lock().unwrap().push(head);
        let answer = {
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 { answers.pop() } else { answers.last().cloned() }.unwrap()
        };
        match answer {
            Answer::Last(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.flush().await;
            }
            Answer::Bytes(bytes) => stream.write_all(&bytes).await?,
            Answer::Close => return Ok(()),
            Answer::Hang => std::future::pending().await,
            Answer::Endless => {
                stream.write_all(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
                loop {
                    stream.write_all(chunk.as_bytes()).await?;
                }
            }
        }
        stream.flush().await?;
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

async fn told(realm: Arc<Realm>) -> String {
    prove(realm, UNKNOWN.token(), now()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn sends_the_very_query_that_was_checked_and_nothing_more() {
    let server = Server::start([good()]).await;
    let token = Signer { session_token: Some("Fwo/+=&é"), ..SIGNER }.token();
    let proved = prove(server.realm(), token.clone(), now()).await.unwrap();
    assert_eq!((proved.identity().arn(), proved.source()), ("arn:aws:iam::123456789012:user/told", Source::Sts));
    assert_eq!((proved.sts_host(), proved.access_key_id()), (HOST, SIGNER.access_key_id));

    let mut buffer = TokenBuffer::new();
    let url = Token::decode(token.as_bytes(), &mut buffer).unwrap().url_bytes();
    let target = std::str::from_utf8(url).unwrap().strip_prefix("https://sts.us-east-1.amazonaws.com").unwrap();
    let heads = server.heads.lock().unwrap();
    let mut lines: Vec<&str> = heads[0].trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), format!("GET {target} HTTP/1.1"));
    lines.sort_unstable();
    let user_agent = concat!("user-agent: arngate/", env!("CARGO_PKG_VERSION"));
    assert_eq!(lines, ["accept: application/json", "host: sts.us-east-1.amazonaws.com", user_agent, "x-k8s-aws-id: edge-1"]);
}

#[test]
fn every_byte_that_may_stand_in_a_query_can_be_sent() {
    let query: String = (0x21..=0x7E_u8).filter(|byte| !matches!(byte, b'"' | b'<' | b'>' | b'#')).map(char::from).collect();
    let uri = hyper::Uri::builder().scheme("https").authority(HOST).path_and_query(format!("/?{query}")).build().unwrap();
    assert_eq!(uri.query(), Some(query.as_str()));
}

#[tokio::test]
async fn keeps_its_connection() {
    let server = Server::start([http(400, REFUSAL), good()]).await;
    let realm = server.realm();
    assert_eq!(reason(Arc::clone(&realm), UNKNOWN.token()).await.0, "sts-refused");
    for _ in 0..3 {
        assert!(prove(Arc::clone(&realm), UNKNOWN.token(), now()).await.is_ok());
    }
    assert_eq!((server.connections.load(Ordering::SeqCst), server.requests()), (1, 4));
    assert_eq!(server.counted(), ["400 us-east-1", "200 us-east-1", "200 us-east-1", "200 us-east-1"]);
}

#[tokio::test]
async fn a_refusal_of_aws_is_the_callers_fault_and_shows_the_code_only() {
    let server = Server::start([http(403, REFUSAL)]).await;
    assert_eq!(reason(server.realm(), UNKNOWN.token()).await, ("sts-refused", Outcome::Refused, Fault::Caller));
    assert_eq!(told(server.realm()).await, format!("STS at {HOST}: refused with SignatureDoesNotMatch (status 403)"));
}

#[tokio::test]
async fn an_identity_that_breaks_the_rules_is_refused() {
    for (arn, why) in [
        ("arn:aws-cn:iam::123456789012:user/x", "the ARN is of another partition than the configured one"),
        ("arn:aws:iam::123456789013:user/x", "the account is not that of the ARN"),
        ("arn:aws:sts::123456789012:assumed-role/x/y", "the session in the user id is not that of the ARN"),
        ("x", "not an ARN: expected arn:partition:service::account:resource"),
    ] {
        let server = Server::start([identity(arn)]).await;
        assert_eq!(reason(server.realm(), UNKNOWN.token()).await, ("sts-identity", Outcome::Refused, Fault::Sts));
        assert_eq!(told(server.realm()).await, format!("STS at {HOST}: its answer tells no identity: {why}"));
    }
}

#[tokio::test]
async fn a_throttle_is_told_counted_and_not_tried_again() {
    for status in [400, 503] {
        let server = Server::start([http(status, r#"{"Error":{"Code":"Throttling"}}"#)]).await;
        assert_eq!(reason(server.realm(), UNKNOWN.token()).await, ("sts-throttled", Outcome::Throttled, Fault::Sts));
        assert_eq!(server.counted(), [format!("{status} us-east-1"), "throttled us-east-1".into()]);
    }
    let server = Server::start([http(429, &"x".repeat(100_000))]).await;
    assert_eq!(told(server.realm()).await, format!("STS at {HOST}: throttled (status 429)"));
}

#[tokio::test]
async fn tries_once_more_after_a_reset_a_5xx_and_a_time_out() {
    let quick = |server: &Server| {
        let config = Config { attempt_timeout: Duration::from_secs(1), ..server.config() };
        realm(vec![Prover::Sts(server.client_with(config))])
    };
    let cut = Answer::Bytes(b"HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n{".to_vec());
    for (first, counted) in [
        (Answer::Close, "failure us-east-1"),
        (http(500, "oops"), "500 us-east-1"),
        (http(503, REFUSAL), "503 us-east-1"),
        (Answer::Hang, "failure us-east-1"),
        (cut, "200 us-east-1"),
    ] {
        let server = Server::start([first, good()]).await;
        assert!(prove(quick(&server), UNKNOWN.token(), now()).await.is_ok(), "{counted}");
        assert_eq!(server.counted(), [counted, "retried", "200 us-east-1"]);
    }
    let server = Server::start([http(502, "oops")]).await;
    assert_eq!(reason(quick(&server), UNKNOWN.token()).await, UNAVAILABLE);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn does_not_try_again_what_would_be_the_same() {
    let redirect = Answer::Bytes(format!("HTTP/1.1 302 X\r\nlocation: https://{HOST}/\r\ncontent-length: 0\r\n\r\n").into());
    for (answer, why) in [
        (redirect, "not an answer of STS (status 302)"),
        (http(403, "<html>blocked</html>"), "not an answer of STS (status 403)"),
        (http(407, REFUSAL), "not an answer of STS (status 407)"),
        (http(408, REFUSAL), "not an answer of STS (status 408)"),
        (http(200, "<html>Log in</html>"), "not an answer of STS (status 200)"),
        (http(200, &" ".repeat(65_537)), "the answer is longer than 64 KiB"),
        (http(200, &" ".repeat(5 << 20)), "the answer is longer than 64 KiB"),
        (Answer::Endless, "the answer is longer than 64 KiB"),
    ] {
        let server = Server::start([answer]).await;
        assert_eq!(told(server.realm()).await, format!("STS at {HOST}: {why}"));
        assert_eq!(server.requests(), 1);
        assert_eq!(reason(server.realm(), UNKNOWN.token()).await, UNAVAILABLE);
    }
    let server = Server::start([Answer::Bytes(b"220 smtp ready\r\n\r\n".to_vec())]).await;
    assert!(told(server.realm()).await.starts_with(&format!("STS at {HOST}: no connection: ")));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn ends_within_the_deadline() {
    let server = Server::start([Answer::Hang]).await;
    // An attempt may take longer than all of them together; then there is one.
    let config = Config { deadline: Duration::from_millis(200), ..server.config() };
    let error = told(realm(vec![Prover::Sts(server.client_with(config))])).await;
    assert!(error.starts_with(&format!("STS at {HOST}: no answer within ")), "{error}");
    assert_eq!(server.counted(), ["failure us-east-1"]);
}

#[tokio::test]
async fn waits_a_while_for_a_place_and_then_gives_up() {
    let server = Server::start([Answer::Hang]).await;
    let config = Config { max_in_flight: 1, max_wait: Duration::from_millis(10), ..server.config() };
    let realm = realm(vec![Prover::Sts(server.client_with(config))]);
    let first = tokio::spawn(prove(Arc::clone(&realm), UNKNOWN.token(), now()));
    // The first has its place once the server has been asked.
    while server.requests() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(reason(Arc::clone(&realm), UNKNOWN.token()).await, ("overloaded", Outcome::Overloaded, Fault::Us));
    assert_eq!(told(Arc::clone(&realm)).await, format!("STS at {HOST}: 1 calls are under way and none of them ended within 10 ms"));
    // Whoever hangs up gives its place back at once.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let server = Server::start([good()]).await;
    let config = Config { max_in_flight: 1, ..server.config() };
    let realm = crate::prover::tests::realm(vec![Prover::Sts(server.client_with(config))]);
    for _ in 0..3 {
        assert!(prove(Arc::clone(&realm), UNKNOWN.token(), now()).await.is_ok());
    }
}

#[tokio::test]
async fn believes_the_named_roots_and_the_tokens_host_only() {
    let server = Server::start([good()]).await;
    let config = Config { roots: Roots::default(), ..server.config() };
    let error = told(realm(vec![Prover::Sts(server.client_with(config))])).await;
    assert_eq!(error, format!("STS at {HOST}: no connection: TLS with {HOST}: invalid peer certificate: UnknownIssuer"));

    // What is connected to is localhost, and its certificate is good for that; but the token is not for localhost.
    let server = Server::start_as(&["localhost"], [good()]).await;
    let error = told(server.realm()).await;
    assert!(error.starts_with(&format!("STS at {HOST}: no connection: TLS with {HOST}: invalid peer certificate: ")), "{error}");
    assert_eq!((server.requests(), server.counted()), (0, vec!["failure us-east-1".into()]));
    assert_eq!(reason(server.realm(), UNKNOWN.token()).await, UNAVAILABLE);
}

#[tokio::test]
async fn names_whom_it_could_not_connect_to() {
    let server = Server::start([good()]).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut endpoints = Endpoints::default();
    endpoints.insert(HOST, &format!("https://{free}"), &StsHosts::new(Partition::Aws)).unwrap();
    let config = Config { endpoints, ..server.config() };
    let error = told(realm(vec![Prover::Sts(server.client_with(config))])).await;
    assert!(error.starts_with(&format!("STS at {HOST}: no connection: {free}: ")) && error.contains("refused"), "{error}");
}

#[test]
fn a_ca_file_that_cannot_be_read_is_an_error_at_once() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ca.pem");
    for (text, why) in
        [(None, ""), (Some(""), "no certificate in it"), (Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "")]
    {
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let error = Roots::load(std::slice::from_ref(&path)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", path.display())) && error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn offline_then_sts_asks_for_what_it_cannot_know() {
    let server = Server::start([good()]).await;
    let realm = realm(vec![Prover::Offline(keyring()), Prover::Sts(server.client())]);
    for (signer, source, requests) in [
        (SIGNER, Source::Offline, 0),
        (UNKNOWN, Source::Sts, 1),
        (Signer { region: "eu-west-1", ..SIGNER }, Source::Sts, 2),
        (Signer { session_token: Some("FwoG"), ..SIGNER }, Source::Sts, 3),
    ] {
        let proved = prove(Arc::clone(&realm), signer.token(), now()).await.unwrap();
        assert_eq!((proved.source(), server.requests()), (source, requests));
    }
    // A wrong signature under a key that we hold is never forwarded.
    assert_eq!(reason(realm, Signer { secret: b"wrong", ..SIGNER }.token()).await.0, "bad-signature");
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn what_sts_says_counts_more_than_a_gap_in_the_bundle() {
    let server = Server::start([http(500, "")]).await;
    let offline_first = realm(vec![Prover::Offline(keyring()), Prover::Sts(server.client())]);
    assert_eq!(reason(offline_first, UNKNOWN.token()).await, UNAVAILABLE);
    let sts_first = realm(vec![Prover::Sts(server.client()), Prover::Offline(keyring())]);
    assert_eq!(reason(Arc::clone(&sts_first), UNKNOWN.token()).await, UNAVAILABLE);
    assert_eq!(prove(sts_first, SIGNER.token(), now()).await.unwrap().identity().arn(), USER);
    // But its refusal is one.
    let server = Server::start([http(403, REFUSAL)]).await;
    let sts_first = realm(vec![Prover::Sts(server.client()), Prover::Offline(keyring())]);
    assert_eq!(reason(sts_first, SIGNER.token()).await.0, "sts-refused");
}

#[test]
fn regions_are_labels_only_if_we_know_them() {
    let label = |signer: Signer| {
        let token = signer.token();
        let mut buffer = TokenBuffer::new();
        let realm = realm(vec![Prover::Offline(keyring())]);
        let request = realm.check(token.as_bytes(), &mut buffer, now().unix).unwrap();
        StsRegion::of(&request.url().host()).label()
    };
    assert_eq!(label(SIGNER), "us-east-1");
    assert_eq!(label(Signer { region: "xx-north-7", ..SIGNER }), "other");
}
