//! Why the API server could not be asked, or would not answer.

use std::time::Duration;

use arngate_server::telemetry::escape::Escaped;
use http::StatusCode;

/// Bytes of another's words that a message repeats.
const WORDS_MAX_BYTES: usize = 512;

/// What keeps us from what the API server knows. The texts are escaped, and hold no credentials.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// There is nothing to ask with: no kubeconfig, no service account, a credential plug-in that fails.
    #[error("{0}")]
    Credentials(String),
    /// The resource version that we know is too old.
    #[error("the API server no longer has the resource version that was asked for")]
    Gone,
    /// The answer is none of Kubernetes'.
    #[error("the API server's answer is not understood")]
    Malformed,
    /// It answered, and said no.
    #[error("the API server answered {code}: {message}")]
    Refused {
        /// The status.
        code: u16,
        /// Its reason.
        message: String,
    },
    /// Nothing came in time.
    #[error("the API server did not answer within {} s", .0.as_secs())]
    Slow(Duration),
    /// The answer is larger than is read.
    #[error("the API server's answer has more than {0} bytes, which are the most that is read")]
    TooLarge(usize),
    /// It cannot be reached, or the connection broke.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
}

impl Trouble {
    /// Another's words, made harmless.
    pub(crate) fn words(text: &str) -> String {
        Escaped(text).up_to(WORDS_MAX_BYTES).to_string()
    }

    pub(crate) fn credentials(text: impl std::fmt::Display) -> Self {
        Self::Credentials(Self::words(&text.to_string()))
    }

    /// An error of the transport with its causes.
    pub(crate) fn unreachable(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let words = error.to_string();
            // Some repeat what their cause says.
            if !text.ends_with(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            cause = error.source();
        }
        Self::Unreachable(Self::words(&text))
    }

    /// A status that is no success, and the body that came with it.
    pub(crate) fn refused(status: StatusCode, body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Status {
            message: Option<String>,
        }
        if status == StatusCode::GONE {
            return Self::Gone;
        }
        let said = serde_json::from_slice::<Status>(body).ok().and_then(|status| status.message);
        let message = said.map_or_else(|| status.canonical_reason().unwrap_or_default().to_owned(), |said| Self::words(&said));
        Self::Refused { code: status.as_u16(), message }
    }

    /// Whether it answered with this status.
    #[must_use]
    pub fn is_status(&self, status: u16) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == status)
    }

    /// Whether another connection, or another reading of the credentials, might do better.
    pub(crate) const fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Malformed | Self::Slow(_) | Self::Unreachable(_) => true,
            Self::Refused { code, .. } => *code == 401,
            Self::Credentials(_) | Self::Gone | Self::TooLarge(_) => false,
        }
    }
}
