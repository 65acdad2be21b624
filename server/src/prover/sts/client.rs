//! The HTTP client: one question, asked within a deadline.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arngate_core::presigned::CLUSTER_ID_HEADER;
use arngate_core::{StsHost, StsRequest};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{DATE, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::breaker::{BreakerState, Refusal, Verdict};
use super::gate::{Closed, Gate, Place};
use super::host::{Admitted, Host, HostTable, TooManyNewcomers, Visit};
use super::known::{Claimant, KnownKeys};
use super::lane::Bounds;
use super::own_region::OwnRegion;
use super::response::{self, CallerIdentity};
use super::retry::SPREAD;
use super::skew::{self, Notice, Skew};
use super::{Cause, Failure, Observer, Overload};
use crate::clock::Now;
use crate::metrics::{StsGauges, StsRegion, StsState};
use crate::outbound::{self, Broken, ConfigError, ConnectError, Connector, Endpoints, NoAnswer, Pool, ProxySettings, Roots, chain};
use crate::rate::Rate;

/// Longest answer that is read, in bytes. DESIGN: "answers are bounded to 64 KiB".
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// How to ask STS.
#[derive(Clone, Debug)]
pub struct Config {
    /// For the whole of a question: waiting for a place, connecting, both attempts. 5 s.
    pub deadline: Duration,
    /// For one attempt. 2 s.
    pub attempt_timeout: Duration,
    /// For DNS and TCP. 1 s.
    pub connect_timeout: Duration,
    /// Questions at a time to one host; over all hosts, as many of known access keys and as many of all others. 64.
    pub max_in_flight: usize,
    /// How long a question waits for a place among them. 500 ms.
    pub max_wait: Duration,
    /// Questions of each lane that wait at a time. 1 024.
    pub max_queued: usize,
    /// Questions a second over all hosts. None.
    pub rate: Option<Rate>,
    /// Retries, in percent of the questions. 10.
    pub retry_percent: u32,
    /// Access keys that are remembered as known. 8 192.
    pub max_known_keys: usize,
    /// The only regions whose hosts are asked; none: all that a token may be for. None.
    pub regions: Option<Vec<String>>,
    /// Where we run ourselves.
    pub own_region: OwnRegion,
    /// Where to connect for some hosts.
    pub endpoints: Endpoints,
    /// Whose certificates are believed. The platform's roots.
    pub roots: Roots,
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
            max_queued: 1024,
            rate: None,
            retry_percent: 10,
            max_known_keys: 8192,
            regions: None,
            own_region: OwnRegion::default(),
            endpoints: Endpoints::default(),
            roots: Roots::default(),
            proxy: ProxySettings::default(),
        }
    }
}

impl Config {
    /// How to connect.
    pub(super) fn outbound(&self) -> outbound::Settings {
        outbound::Settings {
            endpoints: self.endpoints.clone(),
            proxy: self.proxy.clone(),
            connect_timeout: self.connect_timeout,
            attempt_timeout: self.attempt_timeout,
        }
    }
}

/// Asks STS. Cloning shares connections and limits.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    start: Instant,
    connector: Connector,
    hosts: Mutex<HostTable<Arc<Host>>>,
    /// Over all hosts: the memory that questions take, and their rate. No lane lends here, so that hosts that are slow, and whoever asks for them,
    /// leave to the known what is theirs.
    overall: Gate,
    known: KnownKeys,
    skew: Mutex<Skew>,
    regions: Option<Vec<String>>,
    own_region: OwnRegion,
    endpoints: Endpoints,
    deadline: Duration,
    attempt_timeout: Duration,
    max_in_flight: usize,
    max_wait: Duration,
    max_queued: usize,
    retry_percent: u32,
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
        let connector = Connector::new(&config.outbound(), config.roots.clone())?;
        Ok(Self::with_connector(&config, connector, observer))
    }

    pub(super) fn with_connector(config: &Config, connector: Connector, observer: Arc<dyn Observer>) -> Self {
        let start = Instant::now();
        let most = config.max_in_flight.max(1);
        let bounds = Bounds { places: 2 * most, places_of_lane: most, queue_of_lane: config.max_queued };
        Self(Arc::new(Shared {
            start,
            connector,
            hosts: Mutex::new(HostTable::new()),
            overall: Gate::new(start, bounds, config.rate),
            known: KnownKeys::new(config.max_known_keys),
            skew: Mutex::default(),
            regions: config.regions.clone(),
            own_region: config.own_region.clone(),
            endpoints: config.endpoints.clone(),
            deadline: config.deadline,
            attempt_timeout: config.attempt_timeout,
            max_in_flight: most,
            max_wait: config.max_wait,
            max_queued: config.max_queued,
            retry_percent: config.retry_percent,
            observer,
        }))
    }

    /// The access keys that have the lane of the known. To be told of each proof of this client, and whether it was mapped.
    #[must_use]
    pub fn known_keys(&self) -> &KnownKeys {
        &self.0.known
    }

    /// Whoever a request says has signed it.
    #[must_use]
    pub fn claimant(&self, request: &StsRequest<'_>, now: Now) -> Claimant {
        self.0.known.claimant(request.url().access_key_id().as_str(), now.monotonic)
    }

    /// What metrics show of it. It does not keep the client.
    #[must_use]
    pub fn gauges(&self) -> Box<dyn StsGauges> {
        Box::new(Gauges(Arc::downgrade(&self.0)))
    }

    /// Sends the request, and reads who signed it.
    ///
    /// The future owns what it needs; `request` can go at once. It lies in a box, which is not copied on its way into a flight. `host` is the one that the
    /// request is for, as text; `claimant` is whoever it says has signed it, of [`Self::claimant`]; `now` is when the proof began.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn caller_identity(
        &self,
        request: &StsRequest<'_>,
        host: &str,
        claimant: Claimant,
        now: Now,
    ) -> Pin<Box<impl Future<Output = Result<CallerIdentity, Failure>> + Send + use<>>> {
        let shared = Arc::clone(&self.0);
        let call = shared.call(request, host, claimant, now);
        Box::pin(async move {
            match &call {
                Ok(call) => shared.ask(call).await,
                Err(failure) => Err(failure.clone()),
            }
        })
    }
}

/// A question, ready to be sent as often as it takes.
struct Call {
    host: Arc<Host>,
    target: Uri,
    cluster_id: HeaderValue,
    region: StsRegion,
    only_by_shape: bool,
    claimant: Claimant,
    now: Now,
    began: Instant,
}

impl Call {
    /// hyper adds nothing.
    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = self.target.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.host.head);
        headers.insert(HeaderName::from_static(CLUSTER_ID_HEADER), self.cluster_id.clone());
        request
    }
}

impl Shared {
    /// The host comes out of the core's own table, and the query is the very bytes that were checked: nothing is parsed, decoded or written
    /// anew.
    fn call(&self, request: &StsRequest<'_>, name: &str, claimant: Claimant, now: Now) -> Result<Call, Failure> {
        let url = request.url();
        let region = url.host();
        if self.regions.as_ref().is_some_and(|regions| !regions.iter().any(|allowed| allowed == region.region())) {
            return Err(Failure::Region);
        }
        let began = Instant::now();
        let only_by_shape = !self.knows(name, &region);
        Ok(Call {
            target: Uri::from_maybe_shared(["/?", url.query()].concat()).map_err(|_| unfit("token's URL"))?,
            cluster_id: HeaderValue::from_str(request.cluster_id().as_str()).map_err(|_| unfit("cluster id"))?,
            host: self.host(Visit { name, only_by_shape, is_known: claimant.is_known() }, began)?,
            region: StsRegion::of(&region),
            only_by_shape,
            claimant,
            now,
            began,
        })
    }

    /// Whether somebody has told that the host is there: AWS, a setting or the machine.
    fn knows(&self, host: &str, region: &StsHost<'_>) -> bool {
        region.is_global()
            || region.known_region().is_some()
            || self.own_region.get() == Some(region.region())
            || self.regions.is_some()
            || self.endpoints.of(host).is_some()
    }

    async fn ask(&self, call: &Call) -> Result<CallerIdentity, Failure> {
        let deadline = call.began + self.deadline;
        let host = &call.host;
        // Before it takes a place from somebody who can be helped.
        host.check(call.began).map_err(shut)?;
        let _places = self.places(call).await.inspect_err(|_| self.observer.lane_refused(call.claimant.lane))?;
        host.budget().deposit();
        let admitted = host.admit().map_err(shut)?;
        // A probe is one attempt: it is there to find out, not to have its way.
        let may_be_tried_again = !admitted.is_probe();
        let first = self.attempt(admitted, call, deadline).await;
        if first.as_ref().err().is_some_and(Failure::is_worth_a_retry)
            && may_be_tried_again
            && let Some(admitted) = self.retry(host, deadline).await
        {
            return self.attempt(admitted, call, deadline).await;
        }
        first
    }

    /// What we keep of the host.
    fn host(&self, visit: Visit<'_>, now: Instant) -> Result<Arc<Host>, Failure> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let most = self.max_in_flight;
            // As many as there can be: who comes here has passed the gate over all hosts.
            let bounds = Bounds { places: most, places_of_lane: most, queue_of_lane: most };
            let gate = Gate::new(self.start, bounds, None);
            let pool = Pool::new(visit.name, self.connector.for_host(visit.only_by_shape), most);
            Arc::new(Host::new(self.start, gate, pool, self.retry_percent))
        };
        let host = hosts.host(visit, now - self.start, make).map_err(|TooManyNewcomers| {
            self.observer.new_host_refused();
            Failure::Overloaded(Overload::NewHosts)
        })?;
        // Each host keeps its connections for a while, and there are many hosts.
        if self.connector.open_to_all() >= 2 * self.max_in_flight
            && let Some(idle) = hosts.first_to_go(|idle| !Arc::ptr_eq(idle, &host) && idle.is_idle() && idle.pool.open() > 0)
        {
            idle.pool.hang_up();
        }
        Ok(host)
    }

    /// A place over all hosts, and then one at the host: who waits at a slow host is in the way of nobody who does not ask for it.
    async fn places(&self, call: &Call) -> Result<(Place, Place), Failure> {
        let waited = self.max_wait.min(self.deadline);
        let until = call.began + waited;
        let closed = |closed| {
            Failure::Overloaded(match closed {
                Closed::Late => Overload::Places { places: self.max_in_flight, waited },
                Closed::Queue => Overload::Queue { most: self.max_queued },
            })
        };
        let Claimant { lane, key } = call.claimant;
        let overall = self.overall.enter(lane, key, until).await.map_err(closed)?;
        let at_host = call.host.gate.enter(lane, key, until).await.map_err(closed)?;
        Ok((overall, at_host))
    }

    /// The right to one more attempt, after a while.
    async fn retry<'h>(&self, host: &'h Host, deadline: Instant) -> Option<Admitted<'h>> {
        let now = Instant::now();
        let at = now + SPREAD.mul_f64(fastrand::f64());
        if at >= deadline || host.check(now).is_err() {
            return None;
        }
        if !host.budget().withdraw() {
            self.observer.retry_budget_exhausted();
            return None;
        }
        if !self.overall.take_token() {
            return None;
        }
        sleep_until(at).await;
        let admitted = host.admit().ok()?;
        self.observer.retried();
        Some(admitted)
    }

    /// One attempt, and what it tells of the host.
    async fn attempt(&self, admitted: Admitted<'_>, call: &Call, deadline: Instant) -> Result<CallerIdentity, Failure> {
        let began = admitted.began();
        let (answer, date) = self.exchange(call, began, deadline).await;
        let ended = Instant::now();
        if let Err(Failure::Throttled { .. }) = &answer {
            self.observer.throttled(call.region);
            call.host.gate.throttled(began);
        }
        if let Some(date) = date.filter(|_| is_from_sts(&answer)) {
            self.compare_clocks(&date, call, ended);
        }
        if admitted.report(verdict(&answer, call), ended) {
            tracing::warn!(host = call.host.pool.host(), "STS does not answer there; it is not asked for some seconds");
        }
        answer
    }

    /// One request and its answer, with the `Date` of that.
    async fn exchange(&self, call: &Call, began: Instant, deadline: Instant) -> (Result<CallerIdentity, Failure>, Option<HeaderValue>) {
        let end = deadline.min(began + self.attempt_timeout);
        let late = |_| Failure::Unavailable(Cause::TimedOut { after: end - began });
        let sent = timeout_at(end, call.host.pool.ask(|| call.request())).await.map_err(late);
        let mut answer = match sent.and_then(|sent| sent.map_err(no_answer)) {
            Ok(answer) => answer,
            Err(failure) => {
                self.observer.connection_failure(call.region);
                return (Err(failure), None);
            }
        };
        let head = answer.head();
        let (status, date) = (head.status().as_u16(), head.headers_mut().remove(DATE));
        self.observer.response(status, call.region);
        let answer = match timeout_at(end, answer.read(ANSWER_MAX_BYTES)).await.map_err(late) {
            Ok(Ok(body)) => response::read(status, &body),
            // A 429 is a throttle whatever it says, and whether or not it comes to its end.
            Ok(Err(_)) | Err(_) if status == 429 => response::read(status, &[]),
            Ok(Err(Broken::Http(error))) => Err(Failure::Unavailable(Cause::Lost(chain(&error).into()))),
            Ok(Err(Broken::TooLarge)) => Err(Failure::Unavailable(Cause::TooLarge { limit_bytes: ANSWER_MAX_BYTES })),
            Err(failure) => Err(failure),
        };
        (answer, date)
    }

    /// `date` came at `now`.
    fn compare_clocks(&self, date: &HeaderValue, call: &Call, now: Instant) {
        // The clock was read when the proof began; since then tokio's has gone on.
        let passed = i64::try_from((now - call.began).as_secs()).unwrap_or(i64::MAX);
        let ahead = date.to_str().ok().and_then(|date| skew::ahead_secs(date, call.now.unix.saturating_add(passed)));
        let Some(ahead_secs) = ahead else { return };
        self.observer.clock_skew(ahead_secs);
        let mut skew = self.skew.lock().unwrap_or_else(PoisonError::into_inner);
        match skew.measured(ahead_secs, now - self.start) {
            Some(Notice::Apart) => {
                tracing::warn!(ahead_secs, "our clock is not that of STS: good tokens are refused once they are too far apart; see to NTP");
            }
            Some(Notice::Together) => tracing::info!(ahead_secs, "our clock and that of STS agree again"),
            None => {}
        }
    }
}

fn unfit(what: &str) -> Failure {
    Failure::Unavailable(Cause::Connection { told: format!("the {what} makes no HTTP request").into(), passing: false })
}

fn shut(refusal: Refusal) -> Failure {
    Failure::Unavailable(Cause::Shut { pause: refusal.pause })
}

/// Whether the answer is one that AWS' own STS has written, and its `Date` therefore AWS' time.
const fn is_from_sts(answer: &Result<CallerIdentity, Failure>) -> bool {
    match answer {
        Ok(_) | Err(Failure::Answer(_) | Failure::Refused { .. }) => true,
        Err(Failure::Throttled { code, .. }) => code.is_some(),
        Err(Failure::NoSuchHost | Failure::Overloaded(_) | Failure::Region | Failure::Unavailable(_)) => false,
    }
}

/// What an attempt tells of the host.
const fn verdict(answer: &Result<CallerIdentity, Failure>, call: &Call) -> Verdict {
    match answer {
        Ok(_) | Err(Failure::Answer(_) | Failure::Refused { .. } | Failure::Throttled { .. }) => Verdict::Alive,
        // A made-up name is no host that could be away.
        Err(Failure::NoSuchHost) if call.only_by_shape => Verdict::Unknown,
        Err(Failure::NoSuchHost) => Verdict::Away,
        Err(Failure::Unavailable(cause)) => match cause {
            Cause::Connection { .. } | Cause::Lost(_) | Cause::TimedOut { .. } => Verdict::Away,
            Cause::NotAnswered { status } if *status >= 500 => Verdict::Away,
            Cause::NotAnswered { .. } | Cause::Shut { .. } | Cause::TooLarge { .. } => Verdict::Unknown,
        },
        Err(Failure::Overloaded(_) | Failure::Region) => Verdict::Unknown,
    }
}

/// The client, as metrics see it.
struct Gauges(Weak<Shared>);

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

impl StsGauges for Gauges {
    fn state(&self) -> Option<StsState> {
        let shared = self.0.upgrade()?;
        let hosts = shared.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let overall = shared.overall.census();
        let mut state = StsState {
            // Who is inside here has a place at a host, or waits for one.
            in_flight: overall.inside,
            waiting: overall.waiting,
            least_places: shared.max_in_flight,
            connections: shared.connector.open_to_all(),
            known_keys: shared.known.len(),
            ..StsState::default()
        };
        for host in hosts.values() {
            let census = host.gate.census();
            for lane in 0..2 {
                state.in_flight[lane] = state.in_flight[lane].saturating_sub(census.waiting[lane]);
                state.waiting[lane] += census.waiting[lane];
            }
            state.least_places = state.least_places.min(census.places);
            match host.breaker_state() {
                BreakerState::Closed => state.hosts_closed += 1,
                BreakerState::HalfOpen => state.hosts_half_open += 1,
                BreakerState::Open => state.hosts_open += 1,
            }
        }
        Some(state)
    }
}

fn no_answer(error: NoAnswer) -> Failure {
    let error = match error {
        NoAnswer::Connect(ConnectError::NoSuchHost) => return Failure::NoSuchHost,
        NoAnswer::Connect(ConnectError::Other { told, passing }) => {
            return Failure::Unavailable(Cause::Connection { told: told.into(), passing });
        }
        NoAnswer::Http(error) => error,
    };
    Failure::Unavailable(if error.is_parse() {
        // Somebody answered, but not in HTTP.
        Cause::Connection { told: chain(&error).into(), passing: false }
    } else {
        Cause::Lost(chain(&error).into())
    })
}
