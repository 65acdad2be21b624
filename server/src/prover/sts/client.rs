//! The HTTP client: one question, asked within a deadline.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arngate_core::StsRequest;
use arngate_core::presigned::CLUSTER_ID_HEADER;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use super::connector::{ConnectError, Connector, Endpoints, ProxySettings, chain, find};
use super::response::{self, CallerIdentity};
use super::roots::Roots;
use super::{Cause, Failure, Observer, StsError};
use crate::metrics::StsRegion;

/// Longest answer that is read, in bytes. DESIGN: "answers are bounded to 64 KiB".
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Longest head of an answer, in bytes; STS sends some 300.
const HEAD_MAX_BYTES: usize = 16 * 1024;

/// How long a connection is kept without a request. A proof has to be asked for again within minutes where clients come at all, and
/// gateways on the way (NAT, load balancers) forget what is silent for longer.
const IDLE: Duration = Duration::from_secs(50);

/// Connections that are kept to one host; each costs some 40 kB.
const IDLE_PER_HOST: usize = 16;

/// How to ask STS.
#[derive(Clone, Debug)]
pub struct Config {
    /// For the whole of a question: waiting for a place, connecting, both attempts. 5 s.
    pub deadline: Duration,
    /// For one attempt. 2 s.
    pub attempt_timeout: Duration,
    /// For DNS and TCP. 1 s.
    pub connect_timeout: Duration,
    /// Questions at a time. 64.
    pub max_in_flight: usize,
    /// How long a question waits for a place among them. 500 ms.
    pub max_wait: Duration,
    /// Where to connect for some hosts.
    pub endpoints: Endpoints,
    /// PEM files whose certificates are believed beside the platform's.
    pub ca_files: Vec<PathBuf>,
    /// The proxies of the environment.
    pub proxy: ProxySettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            max_in_flight: 64,
            max_wait: Duration::from_millis(500),
            endpoints: Endpoints::default(),
            ca_files: Vec::new(),
            proxy: ProxySettings::default(),
        }
    }
}

/// Why a [`Config`] makes no client.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file of certificates cannot be read.
    #[error("{}: {cause}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// `HTTPS_PROXY` is no URL of a proxy. It is not shown, for it may hold a password.
    #[error("HTTPS_PROXY is not a URL of an http or https proxy")]
    Proxy,
}

/// Asks STS. Cloning shares connections and limits.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    http: legacy::Client<Connector, Empty<Bytes>>,
    places: Semaphore,
    deadline: Duration,
    attempt_timeout: Duration,
    max_in_flight: usize,
    max_wait: Duration,
    observer: Arc<dyn Observer>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("deadline", &self.0.deadline).finish_non_exhaustive()
    }
}

impl Client {
    /// A client. Opens no connection, and reads only the files that are named.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn new(config: Config, observer: Arc<dyn Observer>) -> Result<Self, ConfigError> {
        let roots = Roots::load(&config.ca_files)?;
        let connector = Connector::new(&config, roots)?;
        Ok(Self::with_connector(&config, connector, observer))
    }

    pub(super) fn with_connector(config: &Config, connector: Connector, observer: Arc<dyn Observer>) -> Self {
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http1_max_buf_size(HEAD_MAX_BYTES)
            .build(connector);
        Self(Arc::new(Shared {
            http,
            places: Semaphore::new(config.max_in_flight.min(Semaphore::MAX_PERMITS)),
            deadline: config.deadline,
            attempt_timeout: config.attempt_timeout,
            max_in_flight: config.max_in_flight,
            max_wait: config.max_wait,
            observer,
        }))
    }

    /// Sends the request, and reads who signed it.
    ///
    /// The future owns what it needs; `request` can go at once.
    ///
    /// # Errors
    ///
    /// [`StsError`].
    pub fn caller_identity(&self, request: &StsRequest<'_>) -> impl Future<Output = Result<CallerIdentity, StsError>> + Send + use<> {
        let shared = Arc::clone(&self.0);
        let host: Box<str> = request.url().host().to_string().into();
        let call = Call::new(&host, request);
        async move {
            let answer = match call {
                Ok(call) => shared.ask(&call).await,
                Err(failure) => Err(failure),
            };
            answer.map_err(|failure| StsError { host, failure })
        }
    }
}

/// A question, ready to be sent as often as it takes.
struct Call {
    uri: Uri,
    cluster_id: HeaderValue,
    region: StsRegion,
}

impl Call {
    /// The host comes out of the core's own table, and the query is the very bytes that were checked: nothing is parsed, decoded or written
    /// anew.
    fn new(host: &str, request: &StsRequest<'_>) -> Result<Self, Failure> {
        let unfit =
            |what| Failure::Unavailable(Cause::Connection { told: format!("the {what} makes no HTTP request").into(), passing: false });
        let url = request.url();
        let uri = Uri::builder().scheme("https").authority(host).path_and_query(format!("/?{}", url.query())).build();
        let cluster_id = HeaderValue::from_str(request.cluster_id().as_str()).map_err(|_| unfit("cluster id"))?;
        Ok(Self { uri: uri.map_err(|_| unfit("token's URL"))?, cluster_id, region: StsRegion::of(&request.url().host()) })
    }

    /// hyper adds Host, which is the URI's, and nothing else.
    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(HeaderName::from_static(CLUSTER_ID_HEADER), self.cluster_id.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("arngate/", env!("CARGO_PKG_VERSION"))));
        request
    }
}

impl Shared {
    async fn ask(&self, call: &Call) -> Result<CallerIdentity, Failure> {
        let deadline = Instant::now() + self.deadline;
        let _place = self.place().await?;
        let answer = match self.attempt(call, deadline).await {
            Err(failure) if failure.is_worth_a_retry() && Instant::now() < deadline => self.attempt(call, deadline).await,
            decided => decided,
        };
        if matches!(answer, Err(Failure::Throttled { .. })) {
            self.observer.throttled(call.region);
        }
        answer
    }

    /// One of the places in flight.
    async fn place(&self) -> Result<SemaphorePermit<'_>, Failure> {
        let waited = self.max_wait.min(self.deadline);
        match timeout(waited, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Failure::Overloaded { limit: self.max_in_flight, waited }),
        }
    }

    async fn attempt(&self, call: &Call, deadline: Instant) -> Result<CallerIdentity, Failure> {
        let start = Instant::now();
        let end = deadline.min(start + self.attempt_timeout);
        let late = |_| Failure::Unavailable(Cause::TimedOut { after: end - start });
        let sent = timeout_at(end, self.http.request(call.request())).await.map_err(late);
        let response = match sent.and_then(|sent| sent.map_err(|error| no_answer(&error))) {
            Ok(response) => response,
            Err(failure) => {
                self.observer.connection_failure(call.region);
                return Err(failure);
            }
        };
        let status = response.status().as_u16();
        self.observer.response(status, call.region);
        match timeout_at(end, read_body(response)).await.map_err(late) {
            Ok(Ok(body)) => response::read(status, &body),
            // A 429 is a throttle whatever it says, and whether or not it comes to its end.
            Ok(Err(_)) | Err(_) if status == 429 => response::read(status, &[]),
            Ok(Err(cause)) => Err(Failure::Unavailable(cause)),
            Err(failure) => Err(failure),
        }
    }
}

fn no_answer(error: &legacy::Error) -> Failure {
    match find::<ConnectError>(error) {
        Some(ConnectError::NoSuchHost) => Failure::NoSuchHost,
        Some(ConnectError::Other { told, passing }) => {
            Failure::Unavailable(Cause::Connection { told: told.as_str().into(), passing: *passing })
        }
        None => Failure::Unavailable(match find::<hyper::Error>(error) {
            // Somebody answered, but not in HTTP.
            Some(error) if error.is_parse() => Cause::Connection { told: chain(error).into(), passing: false },
            _ => Cause::Lost(chain(error).into()),
        }),
    }
}

async fn read_body(response: Response<Incoming>) -> Result<Bytes, Cause> {
    let mut body = response.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Cause::Lost(chain(&error).into()))?;
        if let Some(data) = frame.data_ref() {
            if read.len() + data.len() > ANSWER_MAX_BYTES {
                return Err(Cause::TooLarge { limit_bytes: ANSWER_MAX_BYTES });
            }
            read.extend_from_slice(data);
        }
    }
    Ok(read.into())
}
