//! A fake STS: one call of AWS, GetCallerIdentity by presigned URL, on loopback, with real TLS and real signatures.
//!
//! It checks what it receives as STS would, with `arngate-core` and the secrets that it was given, and answers what STS answers, in JSON or
//! XML. On demand it misbehaves ([`Behaviour`]), for some calls or all of them, and holds answers until told ([`Gate`]). It counts calls.
//!
//! A client reaches it by connecting to [`FakeSts::addr`] instead of the address of an STS host, with that host as server name and in Host,
//! and by trusting [`FakeSts::ca_pem`]. Tests of servers and clients use it, and the command `arngate-loadtest sts`.
//!
//! Left out: POST and signatures in headers, for no token has them, and all other calls of STS.

mod answer;
mod behaviour;
mod certificate;
mod connection;
mod count;
mod delay;
mod document;
mod express;
mod gate;
mod payload;
mod schedule;
mod script;
mod socket;
mod verdict;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::behaviour::{Behaviour, BehaviourError, parse_duration};
pub use self::certificate::CertificateError;
pub(crate) use self::connection::acceptor;
pub use self::count::{Counts, Outcome};
pub use self::delay::Delay;
pub use self::gate::Gate;
pub use self::schedule::{Change, ChangeError};
use self::script::Script;
use self::verdict::Credentials;
use crate::clock::Clock;
use crate::credential::Credential;

/// What a fake STS is started with. More fields may come: `Config { port: 8443, ..Config::new(clock) }` stays valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose signatures it can check.
    pub credentials: Vec<Credential>,
    /// Its clock: of dates in signatures, ends of sessions, and the header Date.
    pub clock: Clock,
    /// The port on 127.0.0.1; 0 for a free one.
    pub port: u16,
    /// Hosts that it is besides those of STS: custom ones, and those of regions of unknown shape (`sts.REGION.amazonaws.com`).
    pub extra_hosts: Vec<String>,
    /// What it does with calls.
    pub behaviour: Behaviour,
    /// That it does so with every so-manieth call only, and answers the others.
    pub every: NonZeroU64,
    /// How much later it does all that.
    pub delay: Delay,
    /// What it does from later instants on.
    pub schedule: Vec<Change>,
}

impl Config {
    /// Knows nobody, answers all at once, on a free port.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            credentials: Vec::new(),
            clock,
            port: 0,
            extra_hosts: Vec::new(),
            behaviour: Behaviour::Answer,
            every: NonZeroU64::MIN,
            delay: Delay::NONE,
            schedule: Vec::new(),
        }
    }

    /// The same with these credentials.
    #[must_use]
    pub fn with_credentials(self, credentials: impl IntoIterator<Item = Credential>) -> Self {
        Self { credentials: credentials.into_iter().collect(), ..self }
    }
}

/// A request as it arrived. Debug hides the query, in which a signature and perhaps a session token stand.
#[derive(Clone)]
pub struct Received {
    /// `GET`, hopefully.
    pub method: String,
    /// Host or `:authority`, as sent.
    pub host: String,
    /// The path.
    pub path: String,
    /// The query, byte for byte.
    pub query: String,
    /// Names in lower case and values, in the order of arrival (of one name together); pseudo-headers are not among them.
    pub headers: Vec<(String, String)>,
    /// Whether it came by HTTP/2.
    pub is_http2: bool,
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("method", &self.method)
            .field("host", &self.host)
            .field("path", &self.path)
            .field("headers", &self.headers)
            .field("is_http2", &self.is_http2)
            .finish_non_exhaustive()
    }
}

/// The request that arrived last: its texts are made when somebody asks for them.
#[derive(Default)]
enum Last {
    #[default]
    None,
    /// As its bytes.
    Head(Vec<u8>),
    /// As hyper has read it.
    Parts(Arc<hyper::http::request::Parts>),
}

impl Last {
    /// Keeps a head, in the room of the one before.
    fn set_head(&mut self, bytes: &[u8]) {
        if let Self::Head(last) = self {
            last.clear();
            last.extend_from_slice(bytes);
        } else {
            *self = Self::Head(bytes.to_owned());
        }
    }

    fn texts(&self) -> Option<Received> {
        match self {
            Self::None => None,
            Self::Head(bytes) => Received::of_head(bytes),
            Self::Parts(parts) => Some(Received::of(parts)),
        }
    }
}

impl fmt::Debug for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.texts().fmt(f)
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    credentials: Credentials,
    clock: Clock,
    extra_hosts: Vec<String>,
    port: u16,
    script: Mutex<Script>,
    counters: count::Counters,
    dates: answer::Dates,
    last: Mutex<Last>,
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells when it is time to stop.
#[derive(Clone, Debug)]
struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Waits until then; the owner may also be gone, which is an end as well.
    async fn called(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// A running fake STS. Dropped, it ends at once; see [`stop`](Self::stop).
#[derive(Debug)]
pub struct FakeSts {
    shared: Arc<Shared>,
    addr: SocketAddr,
    ca_pem: String,
    stopping: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl FakeSts {
    /// Starts it in the present tokio runtime; when this returns it takes connections.
    ///
    /// # Errors
    ///
    /// [`StartError`], for a port in use and for extra hosts that are no DNS names.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let Config { credentials, clock, port, extra_hosts, behaviour, every, delay, schedule } = config;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|source| StartError::Bind { port, source })?;
        let addr = listener.local_addr().map_err(|source| StartError::Bind { port, source })?;
        let (acceptor, ca_pem) = acceptor(extra_hosts.clone())?;
        let shared = Arc::new(Shared {
            credentials: Credentials::new(credentials),
            clock,
            extra_hosts,
            port: addr.port(),
            script: Mutex::new(Script::new(behaviour, every, delay, schedule)),
            counters: count::Counters::new(),
            dates: answer::Dates::default(),
            last: Mutex::default(),
        });
        let (stopping, stop) = watch::channel(false);
        let accepting = tokio::spawn(connection::accept(listener, acceptor, Arc::clone(&shared), Stop(stop)));
        Ok(Self { shared, addr, ca_pem, stopping, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The certificate of its authority, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// From now on, this is done with all calls but those that [`queue`](Self::queue) has taken.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.set_behaviour_every(NonZeroU64::MIN, behaviour);
    }

    /// From now on, this is done with every `every`th call, and the others are answered.
    pub fn set_behaviour_every(&self, every: NonZeroU64, behaviour: Behaviour) {
        self.shared.script().set_standing(behaviour, every);
    }

    /// From now on, everything is done that much later.
    pub fn set_delay(&self, delay: impl Into<Delay>) {
        self.shared.script().set_delay(delay.into());
    }

    /// This is done with the next `calls` calls, after what is queued already; then it is as before.
    pub fn queue(&self, calls: u64, behaviour: Behaviour) {
        self.shared.script().queue(calls, behaviour);
    }

    /// From now on, calls wait at a gate. Those at an earlier gate wait there.
    #[must_use = "the gate opens when it is dropped"]
    pub fn hold(&self) -> Gate {
        let gate = Gate::new();
        self.shared.script().set_gate(gate.state());
        gate
    }

    /// Learns a credential, or its new secret.
    pub fn put_credential(&self, credential: Credential) {
        self.shared.credentials.put(credential);
    }

    /// Forgets a credential, as when its owner deletes it. Says whether it was known.
    pub fn remove_credential(&self, access_key_id: &str) -> bool {
        self.shared.credentials.remove(access_key_id)
    }

    /// Calls whose head has arrived, whatever became of them.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.shared.counters.calls()
    }

    /// Waits until there are at least so many [`calls`](Self::calls).
    pub async fn wait_for_calls(&self, calls: u64) {
        self.shared.counters.wait_for_calls(calls).await;
    }

    /// Calls that ended so.
    #[must_use]
    pub fn calls_ended(&self, outcome: Outcome) -> u64 {
        self.shared.counters.of(outcome)
    }

    /// Calls that name this access key, known or not.
    #[must_use]
    pub fn calls_of(&self, access_key_id: &str) -> u64 {
        self.shared.counters.of_access_key(access_key_id)
    }

    /// Calls with the very query of `token`, whatever became of them.
    #[must_use]
    pub fn calls_of_token(&self, token: &str) -> u64 {
        self.shared.counters.of_token(token)
    }

    /// Calls that are under way.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.shared.counters.in_flight()
    }

    /// All counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counters.snapshot()
    }

    /// The request that arrived last.
    #[must_use]
    pub fn last_request(&self) -> Option<Arc<Received>> {
        self.shared.last.lock().unwrap_or_else(PoisonError::into_inner).texts().map(Arc::new)
    }

    /// Ends in good order: takes no more connections, ends the calls that wait (for a delay, at a gate, or for ever), and gives answers that
    /// are under way a second to arrive. Returns the counts, in which all calls now have their outcome.
    pub async fn stop(mut self) -> Counts {
        self.stopping.send_replace(true);
        // Only a panic could be told, and that has been printed.
        let _ = (&mut self.accepting).await;
        self.counts()
    }
}

impl Drop for FakeSts {
    fn drop(&mut self) {
        // The task owns those of all connections, and they end with it.
        self.accepting.abort();
    }
}

/// Why a fake STS did not start.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be had.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Bind {
        /// The port that was asked for.
        port: u16,
        /// Why not.
        source: std::io::Error,
    },
    /// No certificates.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS cannot be set up.
    #[error("cannot set up TLS for the fake STS")]
    Tls(#[source] TlsError),
}

/// What the TLS library says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);
