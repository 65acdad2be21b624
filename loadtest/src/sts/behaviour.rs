//! What the fake STS does with a call: as values, so that a command line, a test and a schedule name them alike.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use crate::credential::CallerIdentity;

/// What is done with a call.
///
/// Every call is counted when its head has arrived, whatever is done with it then.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Behaviour {
    /// As STS does: the signature is checked, and the identity or the error told.
    #[default]
    Answer,
    /// As [`Answer`](Self::Answer), but with an identity that is not the signer's.
    AnswerAs(CallerIdentity),
    /// Closes the connection (TCP FIN) without an answer, and with it all that is under way on it.
    CloseWithoutAnswer,
    /// As [`Answer`](Self::Answer), that much later.
    Delay(Duration),
    /// An error document of AWS in the asked format, with that status and code. Statuses from 500 on have the type `Receiver`.
    Error {
        /// The HTTP status, 200 to 599.
        status: u16,
        /// `Error.Code`.
        code: String,
        /// `Error.Message`.
        message: String,
    },
    /// Status 200 and bytes that are neither JSON nor XML nor UTF-8.
    Garbage,
    /// Nothing, until the client gives up or the fake is stopped.
    Hang,
    /// As [`Answer`](Self::Answer), and then blanks, which JSON and XML allow, up to that many bytes in all; the length is not announced, so
    /// that a client has to count.
    Oversize(u64),
    /// As [`Answer`](Self::Answer), but with the ARN in another partition: `aws-cn`, or `aws` for those of `aws-cn`.
    OtherPartition,
    /// The page of a web proxy that refuses: status 403, HTML.
    ProxyPage,
    /// These very bytes.
    Raw {
        /// The HTTP status, 200 to 599.
        status: u16,
        /// The value of Content-Type.
        content_type: String,
        /// The body.
        body: Bytes,
    },
    /// Status 302, to another path of the same host; who follows makes one call more.
    Redirect,
    /// Resets the connection in mid-request (TCP RST), and with it all that is under way on it.
    Reset,
    /// The error document that goes with a status: 500 `InternalFailure`, 503 `ServiceUnavailable` and so on.
    Status(u16),
    /// Status 400, `Throttling`, as STS does it.
    ///
    /// Seen at <https://github.com/aws/aws-sdk-go-v2/issues/2481>; upstream: the comment in `Verify` of pkg/token/token.go.
    Throttle,
    /// As [`Answer`](Self::Answer), with the whole length announced and half of the body sent, then the connection closed.
    Truncated,
}

impl Behaviour {
    /// The answer of a service that limits in other words than STS does: `RequestLimitExceeded`, `TooManyRequestsException`, `SlowDown`.
    #[must_use]
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::Error { status, code: code.into(), message: message.into() }
    }
}

impl FromStr for Behaviour {
    type Err = BehaviourError;

    /// Reads a behaviour from a command line.
    ///
    /// # Syntax
    ///
    /// ```text
    /// behaviour = "answer" / "close" / "delay=" duration / "error=" status ":" code / "garbage" / "hang" / "other-partition"
    ///           / "oversize=" bytes / "proxy-page" / "redirect" / "reset" / "status=" status / "throttle" / "truncated"
    /// duration  = 1*DIGIT ( "us" / "ms" / "s" )
    /// ```
    fn from_str(text: &str) -> Result<Self, BehaviourError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        Ok(match (name, value) {
            ("answer", None) => Self::Answer,
            ("close", None) => Self::CloseWithoutAnswer,
            ("delay", Some(value)) => Self::Delay(parse_duration(value).ok_or(BehaviourError::Duration)?),
            ("error", Some(value)) => {
                let (status, code) = value.split_once(':').ok_or(BehaviourError::Status)?;
                Self::error(parse_status(status)?, code, code)
            }
            ("garbage", None) => Self::Garbage,
            ("hang", None) => Self::Hang,
            ("other-partition", None) => Self::OtherPartition,
            ("oversize", Some(value)) => Self::Oversize(value.parse().map_err(|_| BehaviourError::Bytes)?),
            ("proxy-page", None) => Self::ProxyPage,
            ("redirect", None) => Self::Redirect,
            ("reset", None) => Self::Reset,
            ("status", Some(value)) => Self::Status(parse_status(value)?),
            ("throttle", None) => Self::Throttle,
            ("truncated", None) => Self::Truncated,
            _ => return Err(BehaviourError::Name),
        })
    }
}

/// Why a text names no behaviour.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BehaviourError {
    /// Not a number of bytes.
    #[error("expected a number of bytes, as in oversize=1048576")]
    Bytes,
    /// Not a duration.
    #[error("expected a duration in us, ms or s, as in delay=10ms")]
    Duration,
    /// No behaviour of that name, or one that wants a value and has none, or the reverse.
    #[error(
        "expected one of answer, close, delay=DURATION, error=STATUS:CODE, garbage, hang, other-partition, oversize=BYTES, proxy-page, \
         redirect, reset, status=STATUS, throttle, truncated"
    )]
    Name,
    /// Not a status that can end a request.
    #[error("expected an HTTP status from 200 to 599, as in status=503 or error=503:SlowDown")]
    Status,
}

fn parse_status(text: &str) -> Result<u16, BehaviourError> {
    text.parse().ok().filter(|status| (200..=599).contains(status)).ok_or(BehaviourError::Status)
}

/// Reads a duration: digits and one of `us`, `ms`, `s`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number = number.parse().ok()?;
    match unit {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_behaviour_of_the_command_line() {
        for (text, expected) in [
            ("answer", Behaviour::Answer),
            ("close", Behaviour::CloseWithoutAnswer),
            ("delay=10ms", Behaviour::Delay(Duration::from_millis(10))),
            ("error=503:SlowDown", Behaviour::error(503, "SlowDown", "SlowDown")),
            ("garbage", Behaviour::Garbage),
            ("hang", Behaviour::Hang),
            ("other-partition", Behaviour::OtherPartition),
            ("oversize=70000", Behaviour::Oversize(70_000)),
            ("proxy-page", Behaviour::ProxyPage),
            ("redirect", Behaviour::Redirect),
            ("reset", Behaviour::Reset),
            ("status=503", Behaviour::Status(503)),
            ("throttle", Behaviour::Throttle),
            ("truncated", Behaviour::Truncated),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_others_and_says_what_it_expects() {
        for (text, error) in [
            ("", BehaviourError::Name),
            ("Throttle", BehaviourError::Name),
            ("throttle=1", BehaviourError::Name),
            ("status", BehaviourError::Name),
            ("status=", BehaviourError::Status),
            ("status=100", BehaviourError::Status),
            ("status=600", BehaviourError::Status),
            ("error=503", BehaviourError::Status),
            ("delay=10", BehaviourError::Duration),
            ("delay=-1ms", BehaviourError::Duration),
            ("oversize=1MB", BehaviourError::Bytes),
        ] {
            assert_eq!(text.parse::<Behaviour>(), Err(error), "{text}");
        }
    }

    #[test]
    fn reads_durations_with_their_unit_only() {
        assert_eq!(parse_duration("250us"), Some(Duration::from_micros(250)));
        assert_eq!(parse_duration("2s"), Some(Duration::from_secs(2)));
        for bad in ["", "s", "2", "2m", "2 s", "1.5s", "99999999999999999999s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
