//! The private DNS names of EC2 instances, for mappings with `{{EC2PrivateDNSName}}`.
//!
//! [`Names::of`] is asked by whoever has an identity whose mapping wants one, and waits no longer than a deadline.
//!
//! ```text
//! id        could AWS have given it out?          request
//! known     8192 names, an hour each              names
//! batch     one question for each id, 100 in a call, 5 calls at a time     batch
//! rate      server.ec2DescribeInstancesQps        rate (crate)
//! sign      by whoever holds credentials          signer
//! answer    read as it comes, not held            response, xml (crate)
//! ```
//!
//! EC2 is protected from us by the rate, which counts calls to EC2 itself (the reference's limits those to STS that come before), and by a rest after each throttle.
//! `batch` and `names` are state machines that are given the time; [`Names`] has the tasks, the timers and the sockets.
//!
//! upstream: pkg/ec2provider.

mod batch;
mod client;
mod names;
mod request;
mod response;
mod signer;

use std::fmt;
use std::time::Duration;

use crate::metrics::{Metrics, StsRegion};

pub use self::client::{Config, Names};
pub use self::request::{CONTENT_TYPE, Unsigned, account_of, insert_endpoint};
pub use self::signer::{SignError, Signature, Signer, Signing};

/// Told of what happens on the way to EC2, as it happens.
pub trait Observer: fmt::Debug + Send + Sync {
    /// EC2 is asked.
    fn called(&self) {}

    /// EC2 answered with this HTTP status.
    fn response(&self, _status: u16, _region: StsRegion) {}

    /// A request got no answer.
    fn connection_failure(&self, _region: StsRegion) {}
}

/// Counts nothing.
impl Observer for () {}

impl Observer for Metrics {
    fn called(&self) {
        self.ec2_called();
    }

    fn response(&self, status: u16, region: StsRegion) {
        self.ec2_response(status, region);
    }

    fn connection_failure(&self, region: StsRegion) {
        self.ec2_connection_failure(region);
    }
}

/// Why there is no name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// No answer in time.
    #[error("no answer of EC2 within {} ms", after.as_millis())]
    Late {
        /// How long it was waited for.
        after: Duration,
    },
    /// The instance is being launched.
    #[error("EC2 has no private DNS name for the instance yet")]
    NoNameYet,
    /// Nobody has told the region.
    #[error("EC2 cannot be asked, for our region is not known: server.region tells it")]
    NoRegion,
    /// There is no such instance, or it has ended.
    #[error("EC2 has no such instance")]
    NoSuchInstance,
    /// Our own limits.
    #[error("too many instances are being looked up")]
    Overloaded,
    /// EC2 refuses to tell.
    #[error("EC2 refused with {code} (status {status})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// AWS' own.
        code: Box<str>,
    },
    /// EC2 throttles.
    #[error("EC2 throttles")]
    Throttled,
    /// Nobody could say.
    #[error("EC2 cannot be asked: {told}")]
    Unavailable {
        /// Why.
        told: Box<str>,
        /// Whether the same question may have an answer in a moment.
        is_passing: bool,
    },
    /// There are no credentials. Why not is in our log alone, for it may name files and roles.
    #[error("EC2 cannot be asked, for there are no AWS credentials")]
    Unsigned,
}

impl Failure {
    /// The stable label for metrics, logs and programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Late { .. } | Self::Unavailable { .. } => "ec2-unavailable",
            Self::NoNameYet => "ec2-no-name-yet",
            Self::NoRegion => "ec2-no-region",
            Self::NoSuchInstance => "ec2-no-such-instance",
            Self::Overloaded => "overloaded",
            Self::Refused { .. } => "ec2-refused",
            Self::Throttled => "ec2-throttled",
            Self::Unsigned => "ec2-no-credentials",
        }
    }
}
