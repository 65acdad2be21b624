//! The look-up: what is known already, else a question to EC2 that others may share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arngate_core::endpoint::Fips;
use arngate_core::{Partition, StsHost};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::batch::{Batches, CALLS, Step};
use super::names::{self, Known};
use super::request::{self, BATCH, InstanceId, Unsigned};
use super::response::{Answer, Described, Told};
use super::signer::Signer;
use super::{Failure, Observer};
use crate::clock::Clock;
use crate::metrics::StsRegion;
use crate::outbound::{self, ConfigError, ConnectError, Connector, Endpoints, NoAnswer, Pool, ProxySettings, Roots, chain};
use crate::prover::sts::OwnRegion;
use crate::rate::Rate;

/// A failed call is made again up to so much later: full jitter.
const SPREAD: Duration = Duration::from_millis(100);

/// How to ask EC2.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose EC2.
    pub partition: Partition,
    /// Which region's.
    pub own_region: OwnRegion,
    /// Calls a second, and at once after a pause. upstream: 15 and 5.
    pub rate: Rate,
    /// For all of a look-up. 5 s, as long as the reference waits for a call of another's.
    pub deadline: Duration,
    /// For one call, without its signature. 2 s.
    pub attempt_timeout: Duration,
    /// For DNS and TCP. 1 s.
    pub connect_timeout: Duration,
    /// Requests that wait for a name at a time.
    pub max_waiters: usize,
    /// Where to connect for some hosts.
    pub endpoints: Endpoints,
    /// Whose certificates are believed.
    pub roots: Roots,
    /// The proxies of the environment.
    pub proxy: ProxySettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            partition: Partition::Aws,
            own_region: OwnRegion::default(),
            rate: Rate { per_second: 15, burst: 5 },
            deadline: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            max_waiters: 8192,
            endpoints: Endpoints::default(),
            roots: Roots::default(),
            proxy: ProxySettings::default(),
        }
    }
}

/// What a look-up comes to.
type Found = Result<Arc<str>, Failure>;

/// Private DNS names of instances. Cloning shares what is known, and the limits.
#[derive(Clone)]
pub struct Names(Arc<Shared>);

struct Shared {
    partition: Partition,
    own_region: OwnRegion,
    deadline: Duration,
    attempt_timeout: Duration,
    connector: Connector,
    /// Connections to our own region's EC2, once it is known which that is.
    pool: OnceLock<Arc<Pool>>,
    signer: Arc<dyn Signer>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    known: names::Names,
    /// Where the time of `batches` begins.
    start: Instant,
    batches: Mutex<Batches<watch::Sender<Option<Found>>>>,
    /// When a timer will look after `batches`, in their time.
    timer: Mutex<Option<Duration>>,
    waiters: AtomicUsize,
    max_waiters: usize,
    is_failing: AtomicBool,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("known", &self.0.known.len()).finish_non_exhaustive()
    }
}

/// A request that waits; counted until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiters: &'a AtomicUsize, most: usize) -> Option<Self> {
        let waiting = Self(waiters);
        // Dropped at once where there are too many.
        (waiters.fetch_add(1, Ordering::Relaxed) < most).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Names {
    /// Nobody is asked yet, and no credentials are looked for.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn new(config: Config, signer: Arc<dyn Signer>, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Result<Self, ConfigError> {
        let settings = outbound::Settings {
            endpoints: config.endpoints,
            proxy: config.proxy,
            connect_timeout: config.connect_timeout,
            attempt_timeout: config.attempt_timeout,
        };
        let connector = Connector::new(&settings, config.roots)?;
        Ok(Self(Arc::new(Shared {
            partition: config.partition,
            own_region: config.own_region,
            deadline: config.deadline,
            attempt_timeout: config.attempt_timeout,
            connector,
            pool: OnceLock::new(),
            signer,
            clock,
            observer,
            known: names::Names::new(),
            start: Instant::now(),
            batches: Mutex::new(Batches::new(config.rate, BATCH, config.deadline)),
            timer: Mutex::new(None),
            waiters: AtomicUsize::new(0),
            max_waiters: config.max_waiters,
            is_failing: AtomicBool::new(false),
        })))
    }

    /// Asks nobody, and finds no name: for servers whose mappings want none.
    #[must_use]
    pub fn nobodys(clock: Arc<dyn Clock>) -> Self {
        Self::new(Config::default(), Arc::new(()), clock, Arc::new(())).expect("there is no file to read, and no proxy")
    }

    /// The private DNS name of the instance after which a session is named. Ends within the deadline.
    ///
    /// Whoever is no longer interested drops the future: the question goes on for the others.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn of(&self, session_name: &str) -> Result<Arc<str>, Failure> {
        let shared = &self.0;
        let id = InstanceId::parse(session_name).ok_or(Failure::NoSuchInstance)?;
        let old = match shared.known.get(&id, shared.clock.monotonic()) {
            Known::Name(name) => return Ok(name),
            Known::Unknown => return Err(Failure::NoSuchInstance),
            Known::Old(name) => Some(name),
            Known::Nothing => None,
        };
        match (shared.ask(id).await, old) {
            // What it was called it is called, as long as it is there at all; and nobody says that it is not.
            (Err(failure), Some(old)) if failure != Failure::NoSuchInstance => Ok(old),
            (found, _) => found,
        }
    }
}

impl Shared {
    async fn ask(self: &Arc<Self>, id: InstanceId) -> Found {
        let Some(_waiting) = Waiting::begin(&self.waiters, self.max_waiters) else { return Err(Failure::Overloaded) };
        let until = Instant::now() + self.deadline;
        let mut receiver = {
            let mut batches = self.lock();
            let sender = batches.ask(id, self.start.elapsed(), || watch::channel(None).0);
            sender.map_err(|_| Failure::Overloaded)?.subscribe()
        };
        self.go_on();
        match timeout_at(until, receiver.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => found.clone().unwrap_or(Err(Failure::Overloaded)),
            // Nobody drops a sender before it has told; a panic would.
            Ok(Err(_)) => Err(Failure::Unavailable { told: "internal error".into(), is_passing: false }),
            Err(_) => Err(Failure::Late { after: self.deadline }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Batches<watch::Sender<Option<Found>>>> {
        // A panic under the lock is a bug in a state machine; the others must not wait for ever on its account.
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does all that is to be done now, and sees that somebody looks again when time alone changes that.
    fn go_on(self: &Arc<Self>) {
        // A call that is dropped because the runtime ends comes here too.
        let Ok(runtime) = Handle::try_current() else { return };
        loop {
            let step = self.lock().step(self.start.elapsed());
            match step {
                Step::Call(ids) => drop(runtime.spawn(Arc::clone(self).call(ids))),
                Step::GiveUp(waiter, failure) => drop(waiter.send_replace(Some(Err(failure)))),
                Step::Wait(at) => return self.look_again(&runtime, at),
                Step::Idle => return,
            }
        }
    }

    /// One timer at a time, and another one only if it is to be earlier.
    fn look_again(self: &Arc<Self>, runtime: &Handle, at: Duration) {
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        if timer.is_some_and(|earlier| earlier <= at) {
            return;
        }
        *timer = Some(at);
        let shared = Arc::clone(self);
        runtime.spawn(async move {
            sleep_until(shared.start + at).await;
            {
                let mut timer = shared.timer.lock().unwrap_or_else(PoisonError::into_inner);
                if *timer == Some(at) {
                    *timer = None;
                }
            }
            shared.go_on();
        });
    }

    /// A call, from its signature to what follows from its answer.
    async fn call(self: Arc<Self>, ids: Vec<InstanceId>) {
        // Whatever happens, a panic included, all that wait are told something.
        let call = UnderWay { shared: &self, ids: &ids };
        let told = self.describe(&ids).await;
        self.tell_operator(&told);
        self.land(&ids, told);
        drop(call);
    }

    fn land(&self, ids: &[InstanceId], told: Result<Told, Failure>) {
        let (monotonic, now) = (self.clock.monotonic(), self.start.elapsed());
        let mut batches = self.lock();
        let told = match told {
            Ok(told) => told,
            Err(failure) => {
                if failure == Failure::Throttled {
                    batches.throttled(now);
                }
                for id in ids {
                    if let Some(waiter) = batches.failed(*id, &failure, SPREAD.mul_f64(fastrand::f64()), now) {
                        waiter.send_replace(Some(Err(failure.clone())));
                    }
                }
                return;
            }
        };
        batches.answered();
        for id in ids {
            let described = told.instances.iter().find(|(found, _)| found == id).map(|(_, described)| described);
            let found = match described {
                Some(Described::Named(name)) => {
                    self.known.named(*id, Arc::clone(name), monotonic);
                    Ok(Arc::clone(name))
                }
                Some(Described::NotYet) => {
                    batches.nameless(*id, now);
                    continue;
                }
                // It may be on another page, which is not asked for: EC2 makes none of so few.
                None if !told.is_whole => {
                    batches.nameless(*id, now);
                    continue;
                }
                Some(Described::Ended) | None => {
                    self.known.unknown(*id, monotonic);
                    Err(Failure::NoSuchInstance)
                }
            };
            // Known before it is told: whoever asks from now on finds it, and no question.
            if let Some(waiter) = batches.settle(id) {
                waiter.send_replace(Some(found));
            }
        }
    }

    /// One line when it begins to fail, and one when that is over.
    fn tell_operator(&self, told: &Result<Told, Failure>) {
        match told {
            Ok(_) if self.is_failing.swap(false, Ordering::Relaxed) => tracing::info!("EC2 tells private DNS names again"),
            Err(error) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "no private DNS names from EC2: nodes whose mapping has {{{{EC2PrivateDNSName}}}} are not let in");
            }
            _ => {}
        }
    }

    async fn describe(&self, ids: &[InstanceId]) -> Result<Told, Failure> {
        let name = self.own_region.get().ok_or(Failure::NoRegion)?;
        let host = request::host(self.partition, name).ok_or(Failure::NoRegion)?;
        let region = StsHost::regional(self.partition, name, Fips::No).map_err(|_| Failure::NoRegion)?;
        let region = StsRegion::of(&region);
        let pool = self.pool.get_or_init(|| Arc::new(Pool::new(&host, self.connector.for_host(false), CALLS)));
        let request = self.signed(Unsigned::describe(name, host, ids)).await?;
        self.observer.called();
        self.exchange(pool, request, ids, region).await
    }

    /// The request with its signature. Credentials may take their time at first, but not more than a look-up may.
    async fn signed(&self, unsigned: Unsigned) -> Result<Request<Full<Bytes>>, Failure> {
        let host = HeaderValue::from_str(&unsigned.host).map_err(|_| Failure::NoRegion)?;
        // To `/`, as is every request that names no other target.
        let mut request = Request::new(Full::new(unsigned.body.clone()));
        *request.method_mut() = Method::POST;
        let signing = self.signer.sign(unsigned, self.clock.now().unix);
        let signature = match timeout_at(Instant::now() + self.deadline, signing).await {
            Ok(Ok(signature)) => signature,
            Ok(Err(error)) => {
                if !self.is_failing.load(Ordering::Relaxed) {
                    tracing::warn!(%error, "no AWS credentials to ask EC2 with");
                }
                return Err(Failure::Unsigned);
            }
            Err(_) => return Err(Failure::Unsigned),
        };
        let headers = request.headers_mut();
        headers.insert(HOST, host);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(request::CONTENT_TYPE));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("arngate/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in &signature.0 {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Failure::Unsigned)?;
            let mut value = HeaderValue::from_str(value).map_err(|_| Failure::Unsigned)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(request)
    }

    async fn exchange(
        &self,
        pool: &Arc<Pool>,
        request: Request<Full<Bytes>>,
        ids: &[InstanceId],
        region: StsRegion,
    ) -> Result<Told, Failure> {
        let end = Instant::now() + self.attempt_timeout;
        let late =
            || Failure::Unavailable { told: format!("no answer within {} ms", self.attempt_timeout.as_millis()).into(), is_passing: true };
        let sent = timeout_at(end, pool.ask(|| request.clone())).await;
        let mut response = match sent.map_err(|_| late()).and_then(|sent| sent.map_err(no_answer)) {
            Ok(response) => response,
            Err(failure) => {
                self.observer.connection_failure(region);
                return Err(failure);
            }
        };
        let status = response.head().status().as_u16();
        self.observer.response(status, region);
        let mut answer = Answer::new(ids);
        let reading = async {
            while let Some(data) = response.next().await {
                let data = data.map_err(|error| Failure::Unavailable { told: chain(&error).into(), is_passing: true })?;
                if !answer.push(&data) {
                    break;
                }
            }
            Ok(())
        };
        match timeout_at(end, reading).await {
            Ok(Ok(())) => answer.finish(status),
            _ if status == 429 => Err(Failure::Throttled),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(late()),
        }
    }
}

/// A call that has not landed. When it goes, by whatever end, its place is free, and whoever still waits for it is told.
struct UnderWay<'a> {
    shared: &'a Arc<Shared>,
    ids: &'a [InstanceId],
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut batches = self.shared.lock();
        batches.ended();
        if std::thread::panicking() {
            let failure = Failure::Unavailable { told: "internal error".into(), is_passing: false };
            for id in self.ids {
                if let Some(waiter) = batches.settle(id) {
                    waiter.send_replace(Some(Err(failure.clone())));
                }
            }
        }
        drop(batches);
        self.shared.go_on();
    }
}

fn no_answer(error: NoAnswer) -> Failure {
    match error {
        NoAnswer::Connect(error) => {
            Failure::Unavailable { told: error.to_string().into(), is_passing: matches!(error, ConnectError::Other { passing: true, .. }) }
        }
        NoAnswer::Http(error) => Failure::Unavailable { told: chain(&error).into(), is_passing: true },
    }
}
