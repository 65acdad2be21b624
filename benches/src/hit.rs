//! A webhook whose callers are all known, in memory: what a hit costs from the body of a request to its answer, without a socket.
//!
//! 1 024 sessions of roles, four tokens each, proved once through the fake STS; 1 000 mappings; bodies of 1.6 kB.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

use arngate_core::endpoint::Fips;
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Partition, StsHost, StsHosts, UnixSeconds};
use arngate_loadtest::clock::Clock as LoadtestClock;
use arngate_loadtest::credential::{CallerIdentity, Credential, EXAMPLE_SECRET};
use arngate_loadtest::sts::{Config as StsConfig, FakeSts};
use arngate_loadtest::token::sign_token;
use arngate_server::bench::Bodies;
use arngate_server::bench::Standing;
use arngate_server::clock::{Clock, ManualClock, SystemClock};
use arngate_server::cluster::{Cluster, Parts as ClusterParts};
use arngate_server::ec2;
use arngate_server::flight;
use arngate_server::http::respond::{DenyStatus, Reply};
use arngate_server::http::serve::Peer;
use arngate_server::http::webhook::{AccessLog, Parts, Webhook};
use arngate_server::identity_cache::Settings;
use arngate_server::mapping::{Backend, BackendMode, Mapping, Names, Policy, Store};
use arngate_server::metrics::{Levels, Metrics};
use arngate_server::prover::sts::{Client, Config, Endpoints, Observer, Roots};
use arngate_server::prover::{Chain, Prover, Realm};
use arngate_server::telemetry::{Captured, Format, Level, Log};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response};
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::Runtime;

use crate::NOW;

/// Identities that are known.
pub const IDENTITIES: u32 = 1024;
/// Tokens of each.
pub const TOKENS_OF_EACH: u32 = 4;
const MAPPINGS: u32 = 1000;
const CLUSTER: &str = "bench.example.com";
const REGION: &str = "us-east-1";
/// Makes a body of 1.6 kB.
const SESSION_TOKEN_BYTES: usize = 620;

/// A request's body, and what is in its answer and in no other's.
#[derive(Debug)]
pub struct Known {
    /// The TokenReview.
    pub body: Bytes,
    /// The signer's ARN.
    pub arn: String,
}

/// The webhook and all who are known to it.
#[derive(Debug)]
pub struct Hall {
    runtime: Runtime,
    webhook: Webhook,
    /// The cluster behind it.
    pub cluster: Arc<Cluster>,
    /// Everybody, in random order.
    pub known: Vec<Known>,
}

fn session(identity: u32) -> String {
    format!("arn:aws:sts::123456789012:assumed-role/Team-{:04}/worker-{identity:04}@example.com", identity % MAPPINGS)
}

fn credential(identity: u32) -> Result<Credential, Box<dyn Error>> {
    let told = CallerIdentity::of_arn(session(identity), format!("AROAIOSFODNN7{identity:08}:worker-{identity:04}@example.com"))?;
    let session_token: String =
        (0..SESSION_TOKEN_BYTES).map(|i| char::from(b"IQoJb3JpZ2luX2Vj0123456789abcdefg"[(i * 7 + identity as usize) % 33])).collect();
    Ok(Credential::new(format!("ASIAIOSFODNN{identity:08}"), EXAMPLE_SECRET, told)?.with_session_token(session_token))
}

fn store() -> Result<Store, Box<dyn Error>> {
    let mut mappings = Vec::new();
    for team in 0..MAPPINGS {
        let names =
            Names { username: format!("team-{team:04}"), groups: vec![format!("team-{team:04}"), "developers".into()], ..Names::default() };
        mappings.push(Mapping::for_arn(format!("arn:aws:iam::123456789012:role/Team-{team:04}"), false, names)?);
    }
    let mode = BackendMode::MountedFile;
    let store = Store::new(Policy { reserved_prefixes: [(mode, vec!["system:".into()])].into(), ..Policy::of([mode]) });
    store.publish(mode, Backend::new(mappings, [].into()));
    Ok(store)
}

fn body(token: &str) -> Bytes {
    // As kube-apiserver writes it.
    format!(
        r#"{{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1beta1","metadata":{{"creationTimestamp":null}},"spec":{{"token":"{token}","audiences":["https://kubernetes.default.svc.cluster.local"]}},"status":{{"user":{{}}}}}}"#
    )
    .into()
}

impl Hall {
    /// Everybody is proved once, on loopback.
    ///
    /// # Errors
    ///
    /// Where the system gives no sockets, files or random numbers.
    pub fn open() -> Result<Self, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let credentials = (0..IDENTITIES).map(credential).collect::<Result<Vec<_>, _>>()?;
        let sts =
            runtime.block_on(FakeSts::start(StsConfig::new(LoadtestClock::fixed(NOW)).with_credentials(credentials.iter().cloned())))?;
        let folder = tempfile::tempdir()?;
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, sts.ca_pem())?;
        let mut endpoints = Endpoints::default();
        endpoints.insert("sts.us-east-1.amazonaws.com", &format!("https://{}", sts.addr()), &StsHosts::new(Partition::Aws))?;
        let config = Config { endpoints, roots: Roots::load(&[ca_file])?, ..Config::default() };
        let metrics = Arc::new(Metrics::new());
        let client = Client::new(config, Arc::clone(&metrics) as Arc<dyn Observer>)?;
        // Requests are timed by the machine's clock, as a server does; the tokens are of another day, so the cluster's stands still.
        let clock: Arc<dyn Clock> = Arc::new(Both { wall: ManualClock::at(NOW), monotonic: SystemClock::new() });
        let cluster = Arc::new(Cluster::new(ClusterParts {
            realm: Realm::new(CLUSTER, Partition::Aws, Some(REGION), 300, Chain::new(vec![Prover::Sts(client)])?)
                .map_err(|error| error.to_string())?,
            mappings: Arc::new(store()?),
            cache: Settings::default(),
            flights: flight::Limits::default(),
            evictions: metrics.evictions(),
            ec2: ec2::Names::nobodys(Arc::clone(&clock)),
            clock: Arc::clone(&clock),
        })?);
        metrics.watch(Arc::downgrade(&cluster) as Weak<dyn Levels>);
        let log = Log::new(Format::Text, Level::Info, Arc::clone(&clock), Captured::default());
        let webhook = Webhook::new(Parts {
            cluster: Arc::clone(&cluster),
            clock,
            metrics,
            log,
            access_log: AccessLog::Denied,
            deny_status: DenyStatus::Ok,
            bodies: Bodies::new(1 << 20, Counter::default()),
        });
        let mut hall = Self { runtime, webhook, cluster, known: Vec::new() };
        hall.known = hall.meet(&credentials)?;
        Ok(hall)
    }

    /// Signs all tokens, has each proved, and puts them into an order that looks random and is the same each time.
    fn meet(&self, credentials: &[Credential]) -> Result<Vec<Known>, Box<dyn Error>> {
        let mut known = Vec::new();
        let cluster_id = ClusterId::parse(CLUSTER).map_err(|error| error.to_string())?;
        for credential in credentials {
            for token in 0..TOKENS_OF_EACH {
                let host = StsHost::regional(Partition::Aws, REGION, Fips::No).map_err(|_| "no such region")?;
                let date = AmzDate::from_unix(NOW.saturating_add(i64::from(token))).ok_or("no such date")?;
                known.push(Known { body: body(&sign_token(credential, host, cluster_id, date)), arn: credential.identity().arn.clone() });
            }
        }
        for (one, other) in (1..known.len()).rev().zip(random()) {
            known.swap(one, other as usize % (one + 1));
        }
        for known in &known {
            let answer = self.runtime.block_on(self.webhook.handle(peer(), request(known.body.clone())));
            let text = self.runtime.block_on(answer.into_body().collect())?.to_bytes();
            if !contains(&text, &known.arn) {
                return Err(String::from_utf8_lossy(&text).into_owned().into());
            }
        }
        Ok(known)
    }

    /// `webhook/hit`: the answer to somebody who is known.
    ///
    /// # Panics
    ///
    /// Where it is not known at once.
    #[must_use]
    pub fn answer(&self, known: &Known) -> Response<Reply> {
        let _context = self.runtime.enter();
        self.webhook.handle(peer(), request(known.body.clone())).now_or_never().expect("a hit waits for nothing")
    }
}

/// A long sequence without a pattern: xorshift64.
fn random() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0x9E37_79B9_7F4A_7C15_u64), |last| {
        let mut next = *last;
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        Some(next)
    })
}

fn peer() -> Peer {
    Peer { address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000), standing: Standing::Unasked }
}

/// A question as an API server sends it.
#[must_use]
pub fn request(body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = hyper::Method::POST;
    *request.uri_mut() = hyper::Uri::from_static("/authenticate?timeout=30s");
    request
}

/// Whether an answer is about that ARN.
#[must_use]
pub fn contains(answer: &[u8], arn: &str) -> bool {
    answer.windows(arn.len()).any(|window| window == arn.as_bytes())
}

/// The wall clock stands still, the other one does not.
#[derive(Debug)]
struct Both {
    wall: ManualClock,
    monotonic: SystemClock,
}

impl Clock for Both {
    fn now(&self) -> arngate_server::clock::Now {
        let unix: UnixSeconds = self.wall.now().unix;
        arngate_server::clock::Now { unix, monotonic: self.monotonic.now().monotonic }
    }
}
