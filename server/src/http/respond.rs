//! From how it ended to what is sent: status, body, metric label. The only such table.
//!
//! | ending | status | body | `result` of the latency |
//! | --- | --- | --- | --- |
//! | let in | 200 | TokenReview with the user | `success` |
//! | token refused | 200, or 403 if so configured | TokenReview with the reason | `invalid_token`; `sts_error` where STS refused |
//! | identity not mapped | the same | the same | `uknown_user` (sic) |
//! | STS throttles | 429, never with Retry-After, which multiplies retries | the same | `sts_throttling` |
//! | STS cannot say | 504 | the same | `sts_error` |
//! | EC2 has no such instance | as not mapped | the same | `uknown_user` |
//! | EC2 cannot say, or has no name yet | 504 | the same | `uknown_user` |
//! | EC2 throttles or refuses us | 503 | the same | `uknown_user` |
//! | our own limits | 503 | the same | `sts_error` |
//! | not mapped, while a source of mappings is not loaded | 503 | the same | `uknown_user` (sic) |
//! | no room for the body | 503 | text | `malformed_request` |
//! | we are broken | 500 | text | – (`arngate_panics_total`) |
//! | no accepted client certificate, where one is asked for | 401 | text | `malformed_request` |
//! | not a POST, not a TokenReview, too slow, too large | 405, 400, 408, 413 | text | `malformed_request` |
//!
//! Why these statuses: kube-apiserver tries a 429, 500, 502 or 504 five times, a 503 not again; a 403 it logs as a failure of the webhook. What it does with
//! each was measured; `docs/operations.md` has the table.

use std::fmt;
use std::io::Cursor;

use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};

use crate::authenticate::{AuthError, Ending, User, Verdict};
use crate::metrics::AuthResult;
use crate::prover::ProveError;
use crate::review::{self, ApiVersion, Extra};

/// What a denial is sent as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DenyStatus {
    /// 403, as the reference does; the API server logs it as a failure of the webhook.
    Forbidden,
    /// 200, with the reason in `status.error`.
    Ok,
}

/// The body of an answer: the buffer into which it was written. (`Bytes` would make a handle for it, one more allocation.)
pub type Reply = Full<Cursor<Vec<u8>>>;

/// An answer, and how it counts.
#[derive(Debug)]
pub struct Answer {
    /// What is sent.
    pub response: Response<Reply>,
    /// What the latency is counted under.
    pub result: Option<AuthResult>,
}

/// Why a request did not come as far as its token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// The body broke off.
    #[error("the request body ended early")]
    Broken,
    /// Whoever asks has no certificate that is accepted.
    #[error("no client certificate that is accepted")]
    Client,
    /// Not a POST.
    #[error("expected POST")]
    Method,
    /// Too many are being read.
    #[error("too many request bodies are being read")]
    NoRoom,
    /// Not a TokenReview.
    #[error(transparent)]
    Review(#[from] review::MalformedReview),
    /// The body took too long.
    #[error("the request body did not come within 10 s")]
    Slow,
    /// Larger than any TokenReview of ours.
    #[error("the request body is larger than 64 KiB")]
    TooLarge,
}

impl Malformed {
    /// The answer.
    #[must_use]
    pub fn answer(self) -> Answer {
        let status = match self {
            Self::Broken | Self::Review(_) => StatusCode::BAD_REQUEST,
            Self::Client => StatusCode::UNAUTHORIZED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        };
        let mut response = text(status, format!("{self}\n"));
        if self == Self::Method {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        }
        Answer { response, result: Some(AuthResult::MalformedRequest) }
    }
}

/// Names of a user, rendered once for the answer and for the log.
#[derive(Debug)]
pub struct Names<'a> {
    verdict: &'a Verdict<'a>,
    user: &'a User<'a>,
}

impl<'a> Names<'a> {
    /// The names of whoever is let in.
    #[must_use]
    pub fn of(verdict: &'a Verdict<'a>) -> Option<Self> {
        verdict.user.as_ref().ok().map(|user| Self { verdict, user })
    }

    /// The user's name.
    #[must_use]
    pub const fn username(&self) -> Username<'a> {
        Username(self.user)
    }

    /// The user's uid: account and unique id, or nothing of AWS for a scrubbed account.
    #[must_use]
    pub fn uid(&self) -> Uid<'a> {
        match self.verdict.shown_signer() {
            Some(signer) => Uid::Aws { account_id: signer.identity.account_id(), user_id: signer.identity.user_id() },
            None => Uid::Administrative(self.username()),
        }
    }
}

/// A user's name; its `Display` is it.
#[derive(Clone, Copy, Debug)]
pub struct Username<'a>(&'a User<'a>);

impl fmt::Display for Username<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            User::Account(arn) => arn.fmt(f),
            User::Mapped(mapped) => f.write_str(mapped.username()),
        }
    }
}

/// A user's uid; its `Display` is it.
#[derive(Clone, Copy, Debug)]
pub enum Uid<'a> {
    /// Of an account that is kept out of sight.
    Administrative(Username<'a>),
    /// Of all others.
    Aws {
        /// Twelve digits.
        account_id: &'a str,
        /// The unique id, without a session.
        user_id: &'a str,
    },
}

impl fmt::Display for Uid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Administrative(username) => write!(f, "aws-iam-authenticator:administrative:{username}"),
            Self::Aws { account_id, user_id } => {
                ["aws-iam-authenticator:", account_id, ":", user_id].into_iter().try_for_each(|part| f.write_str(part))
            }
        }
    }
}

/// The answer to a TokenReview.
#[must_use]
pub fn answer(verdict: &Verdict<'_>, api_version: ApiVersion, deny_status: DenyStatus) -> Answer {
    // Most have some 700 bytes; from 1 024 on glibc's allocator tidies up first.
    let mut body = Vec::with_capacity(896);
    let (status, result) = match &verdict.user {
        Ok(user) => {
            write_user(verdict, user, api_version, &mut body);
            (StatusCode::OK, Some(AuthResult::Success))
        }
        Err(error) => {
            let status = match error.ending() {
                Ending::Broken => {
                    return Answer { response: text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")), result: None };
                }
                Ending::Denied if deny_status == DenyStatus::Forbidden => StatusCode::FORBIDDEN,
                Ending::Denied => StatusCode::OK,
                Ending::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
                Ending::Throttled => StatusCode::TOO_MANY_REQUESTS,
                Ending::Unavailable => StatusCode::GATEWAY_TIMEOUT,
            };
            review::write_denied(api_version, error, &mut body);
            (status, Some(result_of(error)))
        }
    };
    let mut response = Response::new(Full::new(Cursor::new(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    Answer { response, result }
}

fn write_user(verdict: &Verdict<'_>, user: &User<'_>, api_version: ApiVersion, body: &mut Vec<u8>) {
    let names = Names { verdict, user };
    let signer = verdict.shown_signer();
    let extra = || signer.map(|signer| Extra { identity: signer.identity, access_key_id: signer.proof.access_key_id() });
    let (username, uid) = (&names.username(), &names.uid());
    match user {
        User::Account(_) => {
            review::write_allowed(api_version, &review::User { username, uid, groups: [""; 0].iter(), extra: extra() }, body);
        }
        User::Mapped(mapped) => {
            review::write_allowed(api_version, &review::User { username, uid, groups: mapped.groups(), extra: extra() }, body);
        }
    }
}

/// What a failure counts as in the reference's latency histogram.
fn result_of(error: &AuthError) -> AuthResult {
    match (error, error.ending()) {
        (_, Ending::Throttled) => AuthResult::StsThrottling,
        (AuthError::Full(_) | AuthError::Proof(ProveError::Sts(_)), _) => AuthResult::StsError,
        (AuthError::Proof(_), _) => AuthResult::InvalidToken,
        (
            AuthError::Ec2(_)
            | AuthError::NotAnInstance
            | AuthError::NotLoaded { .. }
            | AuthError::NotMapped
            | AuthError::Panicked
            | AuthError::Reserved { .. },
            _,
        ) => AuthResult::UnknownUser,
    }
}

/// A page of text.
#[must_use]
pub fn text(status: StatusCode, body: impl Into<Vec<u8>>) -> Response<Reply> {
    page(status, "text/plain; charset=utf-8", body)
}

/// A page.
#[must_use]
pub fn page(status: StatusCode, content_type: &'static str, body: impl Into<Vec<u8>>) -> Response<Reply> {
    let mut response = Response::new(Full::new(Cursor::new(body.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use arngate_core::Error;

    use super::*;
    use crate::ec2;
    use crate::flight::Full;
    use crate::mapping::BackendMode;
    use crate::metrics::Way;
    use crate::prover::sts::{Cause, Failure, Overload, StsError};

    #[test]
    fn each_ending_has_its_status_and_its_label() {
        use AuthResult::{InvalidToken, StsError as AtSts, StsThrottling, UnknownUser};
        let sts = |failure| AuthError::Proof(ProveError::Sts(StsError { host: "sts.amazonaws.com".into(), failure }));
        let mode = BackendMode::MountedFile;
        for (error, status, result) in [
            (AuthError::NotMapped, 200, Some(UnknownUser)),
            (AuthError::Reserved { mode }, 200, Some(UnknownUser)),
            (AuthError::NotAnInstance, 200, Some(UnknownUser)),
            (AuthError::NotLoaded { mode }, 503, Some(UnknownUser)),
            (AuthError::Full(Full::Flights { limit: 1 }), 503, Some(AtSts)),
            (AuthError::Full(Full::Waiters { limit: 1 }), 503, Some(AtSts)),
            (AuthError::Ec2(ec2::Failure::NoSuchInstance), 200, Some(UnknownUser)),
            (AuthError::Ec2(ec2::Failure::NoNameYet), 504, Some(UnknownUser)),
            (AuthError::Ec2(ec2::Failure::Throttled), 503, Some(UnknownUser)),
            (AuthError::Proof(ProveError::Token(Error::Length)), 200, Some(InvalidToken)),
            (AuthError::Proof(ProveError::BadSignature), 200, Some(InvalidToken)),
            (AuthError::Proof(ProveError::UnknownKey), 200, Some(InvalidToken)),
            (sts(Failure::Throttled { status: 429, code: None }), 429, Some(StsThrottling)),
            (sts(Failure::Overloaded(Overload::Queue { most: 1 })), 503, Some(AtSts)),
            (sts(Failure::Unavailable(Cause::TooLarge { limit_bytes: 1 })), 504, Some(AtSts)),
            (AuthError::Panicked, 500, None),
        ] {
            let told = error.to_string();
            let verdict = Verdict { way: Way::Nowhere, signer: None, scrubbed: false, user: Err(error) };
            for (deny_status, status) in [(DenyStatus::Ok, status), (DenyStatus::Forbidden, if status == 200 { 403 } else { status })] {
                let Answer { response, result: found } = answer(&verdict, ApiVersion::V1, deny_status);
                assert_eq!((response.status().as_u16(), found), (status, result), "{told}");
                // It multiplies the API server's retries.
                assert!(!response.headers().contains_key("retry-after"), "{told}");
            }
        }
    }

    #[test]
    fn what_never_came_as_far_as_its_token_has_its_status() {
        for (malformed, status) in [
            (Malformed::Broken, 400),
            (Malformed::Client, 401),
            (Malformed::Method, 405),
            (Malformed::NoRoom, 503),
            (Malformed::Slow, 408),
            (Malformed::TooLarge, 413),
        ] {
            let Answer { response, result } = malformed.answer();
            assert_eq!((response.status().as_u16(), result), (status, Some(AuthResult::MalformedRequest)), "{malformed}");
            assert_eq!(response.headers().contains_key(ALLOW), malformed == Malformed::Method, "{malformed}");
        }
    }

    #[test]
    fn a_page_is_what_it_says_and_is_kept_by_nobody() {
        let page = text(StatusCode::OK, "ok");
        let headers: Vec<_> = page.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(
            headers,
            [("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store"), ("x-content-type-options", "nosniff")]
        );
    }
}
