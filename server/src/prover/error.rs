//! Why no identity came out of a proof, and what that means for the one who asked.

use arngate_core::Error;
use arngate_core::identity::IdentityError;
use arngate_core::sigv4::BadSignature;

use super::sts::{Failure, StsError};

/// Why a token was not proved.
///
/// `Display` is for operators. It names hosts and causes; never the token, a key, the signature or what STS wrote, but for its error code.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProveError {
    /// A known key, and a signature that is not its own. Never forwarded to STS.
    #[error("{}", BadSignature)]
    BadSignature,
    /// The bundle tells an identity that does not count here.
    #[error("the principal in the key bundle does not count here: {0}")]
    Bundle(IdentityError),
    /// The bundle knows the access key, but has no signing key for that day and region.
    #[error("the key bundle has no signing key for the day and region of the token")]
    NoKeyForScope,
    /// The token names a region that does not exist.
    #[error("there is no host {host} in DNS")]
    NoSuchHost {
        /// Host of the token.
        host: Box<str>,
    },
    /// Temporary credentials, which only STS can open, and STS is not asked.
    #[error("the token has a session token, which only STS can prove")]
    SessionTokenOffline,
    /// STS refused, is out of reach, or answered what it must not.
    #[error(transparent)]
    Sts(StsError),
    /// Refused before anybody was asked.
    #[error(transparent)]
    Token(#[from] Error),
    /// The bundle does not know the access key.
    #[error("the access key is not in the key bundle")]
    UnknownKey,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Who sent the token.
    Caller,
    /// STS, or the way to it.
    Sts,
    /// Our own limits or settings.
    Us,
}

/// What the caller is told, and what may be done with what is cached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Our own limits: 503.
    Overloaded,
    /// Denied. What was cached for this token goes.
    Refused,
    /// STS throttles: 429.
    Throttled,
    /// Nobody could say: 504, or the identity that is still cached.
    Unavailable,
}

impl ProveError {
    /// What the caller is told.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::BadSignature
            | Self::Bundle(_)
            | Self::NoKeyForScope
            | Self::NoSuchHost { .. }
            | Self::SessionTokenOffline
            | Self::Token(_)
            | Self::UnknownKey => Outcome::Refused,
            Self::Sts(error) => match error.failure {
                Failure::Answer(_) | Failure::Refused { .. } | Failure::Region => Outcome::Refused,
                Failure::NoSuchHost | Failure::Unavailable(_) => Outcome::Unavailable,
                Failure::Overloaded(_) => Outcome::Overloaded,
                Failure::Throttled { .. } => Outcome::Throttled,
            },
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::BadSignature
            | Self::NoKeyForScope
            | Self::NoSuchHost { .. }
            | Self::SessionTokenOffline
            | Self::Token(_)
            | Self::UnknownKey => Fault::Caller,
            Self::Bundle(_) => Fault::Us,
            Self::Sts(error) => match error.failure {
                Failure::Refused { .. } | Failure::Region => Fault::Caller,
                Failure::Answer(_) | Failure::NoSuchHost | Failure::Throttled { .. } | Failure::Unavailable(_) => Fault::Sts,
                Failure::Overloaded(_) => Fault::Us,
            },
        }
    }

    /// The stable label for metrics, logs and programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::BadSignature => BadSignature.reason(),
            Self::Bundle(_) => "bundle-identity",
            Self::NoKeyForScope => "no-key-for-scope",
            Self::NoSuchHost { .. } => "no-such-host",
            Self::SessionTokenOffline => "session-token-offline",
            Self::Sts(error) => error.failure.reason(),
            Self::Token(error) => error.reason(),
            Self::UnknownKey => "unknown-key",
        }
    }

    /// Whether another prover may still say who it was.
    pub(super) const fn is_undecided(&self) -> bool {
        match self {
            Self::NoKeyForScope | Self::SessionTokenOffline | Self::UnknownKey => true,
            Self::BadSignature | Self::Bundle(_) | Self::NoSuchHost { .. } | Self::Token(_) => false,
            // Where STS may not be asked, keys that are at hand still may.
            Self::Sts(error) => matches!(error.failure, Failure::Region) || !matches!(self.outcome(), Outcome::Refused),
        }
    }
}
