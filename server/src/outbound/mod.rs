//! How connections to AWS are made, whichever service is asked: where to, through which proxy, and with whose certificate.
//!
//! What is asked, how often and with how much patience is decided by whoever asks: [`prover::sts`](crate::prover::sts), [`ec2`](crate::ec2).

mod connector;
mod pool;
mod roots;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::connector::{ConnectError, Connector, chain};
pub use self::connector::{EndpointError, Endpoints, ProxySettings};
#[cfg(test)]
pub(crate) use self::connector::{Resolve, Script};
#[cfg(test)]
pub(crate) use self::pool::IDLE;
pub(crate) use self::pool::{Broken, NoAnswer, Pool};
pub use self::roots::Roots;

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where to connect for some hosts.
    pub(crate) endpoints: Endpoints,
    /// The proxies of the environment.
    pub(crate) proxy: ProxySettings,
    /// For DNS and TCP.
    pub(crate) connect_timeout: Duration,
    /// For all of a connection, TLS included.
    pub(crate) attempt_timeout: Duration,
}

/// Why nobody can be connected to with these settings.
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

/// Whether the error code is one by which AWS says that there are too many questions.
///
/// upstream: `strings.Contains(responseStr, "Throttling")` in pkg/token/token.go, where the word counts wherever it is. The three others
/// are in the list of throttling errors of AWS' own SDKs.
pub(crate) fn is_throttle(code: &str) -> bool {
    code.contains("Throttling") || matches!(code, "RequestLimitExceeded" | "SlowDown" | "TooManyRequestsException")
}
