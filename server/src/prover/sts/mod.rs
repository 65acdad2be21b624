//! STS as a prover: the token's own request is sent, and STS says who signed it.
//!
//! Promises: what was not checked cannot be sent ([`Client::caller_identity`] takes an [`StsRequest`](arngate_core::StsRequest)), the query
//! goes out byte for byte as it was checked, to a host of the core's own table, and every call ends within a deadline.
//!
//! Left out, and to come around [`Client`]: lanes, rate, breaker, retry budget and hold-back.

mod client;
mod connector;
mod document;
mod response;
mod roots;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use arngate_core::identity::IdentityError;

use crate::metrics::{Metrics, StsRegion};

pub use self::client::{Client, Config, ConfigError};
pub use self::connector::{EndpointError, Endpoints, ProxySettings};
pub use self::response::CallerIdentity;

/// Told of what happens on the way to STS, as it happens.
pub trait Observer: fmt::Debug + Send + Sync {
    /// STS answered with this HTTP status.
    fn response(&self, _status: u16, _region: StsRegion) {}

    /// A request got no answer.
    fn connection_failure(&self, _region: StsRegion) {}

    /// STS throttles.
    fn throttled(&self, _region: StsRegion) {}
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
    /// Our own limit of calls at a time.
    #[error("{limit} calls are under way and none of them ended within {} ms", waited.as_millis())]
    Overloaded {
        /// The limit.
        limit: usize,
        /// How long this call waited.
        waited: Duration,
    },
    /// STS refuses.
    #[error("refused with {code} (status {status})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// AWS' own.
        code: ErrorCode,
    },
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
            Self::Overloaded { .. } => "overloaded",
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
                Cause::TooLarge { .. } => false,
            },
            Self::Answer(_) | Self::NoSuchHost | Self::Overloaded { .. } | Self::Refused { .. } | Self::Throttled { .. } => false,
        }
    }
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
