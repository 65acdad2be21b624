//! STS as a prover: the token's own request is sent, and STS says who signed it.
//!
//! Promises: what was not checked cannot be sent ([`Client::caller_identity`] takes an [`StsRequest`](arngate_core::StsRequest)), the query
//! goes out byte for byte as it was checked, to a host of the core's own table, and every call ends within a deadline.
//!
//! STS is protected from us, and those who are known here from those who are not:
//!
//! ```text
//! region      may be asked at all?                       server.sts.regions
//! host        32 of them, 4 new unknown ones a minute    host
//! breaker     5 failures in a row: a pause               breaker
//! overall     known and others apart, rate               gate, lane, rate
//! place       lanes that lend, shares of keys            gate, lane; halved by a throttle: limit
//! attempts    at most two, within the retry budget       retry
//! ```
//!
//! Each of these is a state machine that is given the time and does no I/O; [`Client`] has the tasks, the timers and the sockets. None of it runs for a token that is
//! in the cache. Left out: that a digest is held back after a throttle, which is the cache's.

mod breaker;
mod client;
mod document;
mod gate;
mod host;
mod imds;
mod known;
mod lane;
mod limit;
mod own_region;
mod response;
mod retry;
mod skew;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use arngate_core::identity::IdentityError;

use crate::metrics::{Metrics, StsRegion};

pub use self::client::{Client, Config};
pub use self::imds::Imds;
pub use self::known::{Claimant, KnownKeys};
pub use self::lane::Lane;
pub use self::own_region::OwnRegion;
pub use self::response::CallerIdentity;
pub use crate::outbound::{ConfigError, EndpointError, Endpoints, ProxySettings, Roots};
pub use crate::rate::Rate;

/// Told of what happens on the way to STS, as it happens.
pub trait Observer: fmt::Debug + Send + Sync {
    /// STS answered with this HTTP status.
    fn response(&self, _status: u16, _region: StsRegion) {}

    /// A request got no answer.
    fn connection_failure(&self, _region: StsRegion) {}

    /// STS throttles.
    fn throttled(&self, _region: StsRegion) {}

    /// A question found no place in its lane.
    fn lane_refused(&self, _lane: Lane) {}

    /// A host was not asked, for too many that nobody knows came lately.
    fn new_host_refused(&self) {}

    /// A question is asked for the second time.
    fn retried(&self) {}

    /// A question would have been asked for the second time.
    fn retry_budget_exhausted(&self) {}

    /// Our clock is so many seconds ahead of that of STS; negative: behind.
    fn clock_skew(&self, _ahead_secs: i64) {}
}

/// Counts nothing.
impl Observer for () {}

impl Observer for Metrics {
    fn response(&self, status: u16, region: StsRegion) {
        self.sts_response(status, region);
    }

    fn connection_failure(&self, region: StsRegion) {
        self.sts_connection_failure(region);
    }

    fn throttled(&self, region: StsRegion) {
        self.sts_throttled(region);
    }

    fn lane_refused(&self, lane: Lane) {
        self.sts_lane_refused(lane.label());
    }

    fn new_host_refused(&self) {
        self.sts_new_host_refused();
    }

    fn retried(&self) {
        self.sts_retried();
    }

    fn retry_budget_exhausted(&self) {
        self.sts_retry_budget_exhausted();
    }

    fn clock_skew(&self, ahead_secs: i64) {
        self.sts_clock_skew(ahead_secs);
    }
}

/// Why STS did not say who it was.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("STS at {host}: {failure}")]
pub struct StsError {
    /// Host of the token.
    pub host: Box<str>,
    /// What went wrong.
    pub failure: Failure,
}

/// What went wrong with STS.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// It says that all is well, and tells no identity that could be.
    #[error("its answer tells no identity: {0}")]
    Answer(AnswerError),
    /// DNS does not know the host.
    #[error("there is no such host in DNS")]
    NoSuchHost,
    /// Our own limits.
    #[error(transparent)]
    Overloaded(Overload),
    /// STS refuses.
    #[error("refused with {code} (status {status})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// AWS' own.
        code: ErrorCode,
    },
    /// The settings keep it from being asked there.
    #[error("its region is not among server.sts.regions")]
    Region,
    /// STS throttles.
    #[error("throttled{} (status {status})", Code(code.as_ref()))]
    Throttled {
        /// HTTP status.
        status: u16,
        /// AWS' own, where one was told.
        code: Option<ErrorCode>,
    },
    /// Nobody could say.
    #[error(transparent)]
    Unavailable(Cause),
}

struct Code<'a>(Option<&'a ErrorCode>);

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |code| write!(f, " with {code}"))
    }
}

impl Failure {
    /// The stable label for metrics, logs and programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Answer(_) => "sts-identity",
            Self::NoSuchHost | Self::Unavailable(_) => "sts-unavailable",
            Self::Overloaded(_) => "overloaded",
            Self::Region => "sts-region",
            Self::Refused { .. } => "sts-refused",
            Self::Throttled { .. } => "sts-throttled",
        }
    }

    /// Reset, 5xx and time-out, after which the same question may have an answer (GetCallerIdentity is idempotent).
    const fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::Unavailable(cause) => match cause {
                Cause::Lost(_) | Cause::TimedOut { .. } => true,
                Cause::NotAnswered { status } => *status >= 500,
                Cause::Connection { passing, .. } => *passing,
                Cause::Shut { .. } | Cause::TooLarge { .. } => false,
            },
            Self::Answer(_) | Self::NoSuchHost | Self::Overloaded(_) | Self::Refused { .. } | Self::Region | Self::Throttled { .. } => {
                false
            }
        }
    }
}

/// Which of our own limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Overload {
    /// Hosts that nobody knows.
    #[error("more than {} new hosts within {} s that only look like those of STS", host::NEWCOMERS, host::NEWCOMER_SPAN.as_secs())]
    NewHosts,
    /// Calls at a time, or a second.
    #[error("{places} calls are under way and none of them ended within {} ms", waited.as_millis())]
    Places {
        /// How many there may be.
        places: usize,
        /// How long this call waited.
        waited: Duration,
    },
    /// Calls that wait.
    #[error("{most} calls are waiting already")]
    Queue {
        /// How many there may be.
        most: usize,
    },
}

/// Why nobody could say.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Cause {
    /// No connection: DNS, TCP, the proxy or TLS.
    #[error("no connection: {told}")]
    Connection {
        /// With whom, and why.
        told: Box<str>,
        /// Whether it was a time-out or a reset, and not what will be the same in a moment.
        passing: bool,
    },
    /// The connection ended before the answer did.
    #[error("the connection was lost: {0}")]
    Lost(Box<str>),
    /// Something else than STS answered, or STS something else than an identity or its own error: 5xx, a redirect, the page of a proxy,
    /// garbage.
    #[error("not an answer of STS (status {status})")]
    NotAnswered {
        /// HTTP status.
        status: u16,
    },
    /// The host did not answer lately, and is left alone for a while.
    #[error("it did not answer {} times in a row and is not asked {}", breaker::FAILURES, Until(*pause))]
    Shut {
        /// How long still; zero while one call finds out.
        pause: Duration,
    },
    /// No answer, or not all of it, in time.
    #[error("no answer within {} ms", after.as_millis())]
    TimedOut {
        /// How long it was waited for.
        after: Duration,
    },
    /// An answer that is longer than we read.
    #[error("the answer is longer than {} KiB", limit_bytes / 1024)]
    TooLarge {
        /// What is read at most, in bytes.
        limit_bytes: usize,
    },
}

/// For how long, or until when.
struct Until(Duration);

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            f.write_str("until one call has found out whether it does again")
        } else {
            write!(f, "for {} ms", self.0.as_millis())
        }
    }
}

/// Why an answer of status 200 tells no identity. The names are those of [`GetCallerIdentity`'s result][result].
///
/// [result]: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AnswerError {
    /// What is told cannot be, or is not of our partition.
    #[error(transparent)]
    Identity(IdentityError),
    /// A field is missing, or no text.
    #[error("{0} is missing or of another type")]
    Missing(&'static str),
    /// A field is there twice.
    #[error("{0} is there twice")]
    Repeated(&'static str),
    /// Longer than any identity.
    #[error("longer than {} KiB", response::IDENTITY_MAX_BYTES / 1024)]
    TooLarge,
}

/// An error code of AWS, fit to be shown: 1 to 64 letters, such as `SignatureDoesNotMatch`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ErrorCode(Box<str>);

impl ErrorCode {
    /// Longest code, in bytes; the longest of STS has 40.
    const MAX_BYTES: usize = 64;

    fn parse(text: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        fits.then(|| Self(text.into()))
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
