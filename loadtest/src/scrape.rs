//! What a target says of itself: the counters of STS calls that aws-iam-authenticator has, and whoever takes its place.

use std::time::Duration;

use bytes::Bytes;

use crate::target::Target;
use crate::transport::{Ask as _, Caller, Failure, Link};

/// How long the answer may take: a run waits for it once a second.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The path under which metrics are told.
const PATH: &str = "/metrics";

/// What counts calls of STS, answered or not.
const STS_CALLS: [&str; 2] = ["aws_iam_authenticator_sts_responses_total", "aws_iam_authenticator_sts_connection_failures_total"];

/// Reads the metrics of a target, over a connection of its own.
#[derive(Debug)]
pub struct Scrape {
    uri: String,
    caller: Caller,
}

impl Scrape {
    /// Of that target, made for HTTP/1.1, which tells them beside the path that questions go to.
    #[must_use]
    pub fn new(mut target: Target) -> Self {
        let authority = target.uri.authority().map_or_else(|| target.address.to_string(), ToString::to_string);
        let uri = format!("https://{authority}{PATH}");
        target.uri = uri.parse().unwrap_or_default();
        Self { uri, caller: Link::new(target).getter() }
    }

    /// All of them.
    ///
    /// # Errors
    ///
    /// [`ScrapeError`]; after [`ScrapeError::Late`] the connection is made anew.
    pub async fn text(&mut self) -> Result<String, ScrapeError> {
        let uri = || self.uri.clone();
        let answered = tokio::time::timeout(TIMEOUT, self.caller.ask(Bytes::new())).await;
        match answered.map_err(|_| ScrapeError::Late { uri: uri() })? {
            Ok(answer) if answer.status == 200 => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
            Ok(answer) => Err(ScrapeError::Status { uri: uri(), status: answer.status }),
            Err(Failure::CutOff(reason)) => Err(ScrapeError::CutOff { uri: uri(), reason }),
            Err(Failure::TooLarge) => Err(ScrapeError::CutOff { uri: uri(), reason: "the answer is larger than 1 MiB".into() }),
        }
    }

    /// How often it has called STS since its start.
    ///
    /// # Errors
    ///
    /// [`ScrapeError`].
    pub async fn sts_calls(&mut self) -> Result<u64, ScrapeError> {
        Ok(sts_calls(&self.text().await?))
    }
}

/// The sum of its counters; one that has not counted yet may not be there.
fn sts_calls(text: &str) -> u64 {
    let counted = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let name = series.split_once('{').map_or(series, |(name, _)| name);
        STS_CALLS.contains(&name).then(|| value.parse::<f64>().ok())?
    };
    text.lines().filter_map(counted).filter(|value| value.is_finite() && *value >= 0.0).sum::<f64>() as u64
}

/// Why there are no metrics.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ScrapeError {
    /// The connection could not be made, or ended too early.
    #[error("cannot read {uri}: {reason}")]
    CutOff {
        /// Whose.
        uri: String,
        /// What went wrong.
        reason: String,
    },
    /// It takes too long.
    #[error("cannot read {uri}: no answer within 500 ms")]
    Late {
        /// Whose.
        uri: String,
    },
    /// It tells none there.
    #[error("cannot read {uri}: status {status}")]
    Status {
        /// Whose.
        uri: String,
        /// What it said.
        status: u16,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_calls_that_were_answered_and_calls_that_were_not() {
        let text = "# TYPE aws_iam_authenticator_sts_responses_total counter\n\
                    aws_iam_authenticator_sts_responses_total{ResponseCode=\"200\",StsRegion=\"us-east-1\"} 1.2e+06\n\
                    aws_iam_authenticator_sts_responses_total{ResponseCode=\"403\",StsRegion=\"a } b\"} 7\n\
                    aws_iam_authenticator_sts_connection_failures_total{StsRegion=\"us-east-1\"} 2\n\
                    aws_iam_authenticator_sts_throttling_total{StsRegion=\"us-east-1\"} 5\n\
                    aws_iam_authenticator_sts_responses_total_created 1795521600\n\
                    aws_iam_authenticator_sts_responses_total NaN\n";
        assert_eq!(sts_calls(text), 1_200_009);
        assert_eq!(sts_calls(""), 0);
    }
}
