//! What an answer of STS means: a pure function of its status and its body. The content type counts for nothing, since proxies change it.

use super::document::{self, Node, Object};
use super::{AnswerError, Cause, ErrorCode, Failure};
use crate::outbound::is_throttle;

/// Longest answer that tells an identity, in bytes: an ARN has 2048 at most, and what is around it is short.
pub(super) const IDENTITY_MAX_BYTES: usize = 16 * 1024;

/// What GetCallerIdentity told. Not judged: that is [`Identity`](arngate_core::Identity)'s.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CallerIdentity {
    /// Account, ARN and user id, one behind the other.
    text: Box<str>,
    account_end: usize,
    arn_end: usize,
}

impl CallerIdentity {
    fn new(account: &str, arn: &str, user_id: &str) -> Self {
        let account_end = account.len();
        Self { text: [account, arn, user_id].concat().into(), account_end, arn_end: account_end + arn.len() }
    }

    /// `Account`.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.text[..self.account_end]
    }

    /// `Arn`.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.text[self.account_end..self.arn_end]
    }

    /// `UserId`: for a role, with the session behind a colon.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.text[self.arn_end..]
    }
}

/// Reads an answer.
///
/// # Syntax
///
/// ```text
/// {"GetCallerIdentityResponse": {"GetCallerIdentityResult": {"Account": text, "Arn": text, "UserId": text}, ...}}
/// ```
///
/// Exact names, each once; others are stepped over. AWS: <https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html>.
///
/// # Errors
///
/// - [`Failure::Answer`]: a 200 that calls itself an answer of GetCallerIdentity and tells no identity;
/// - [`Failure::Throttled`]: any other status with the error code of a throttle, and a 429 with whatever body;
/// - [`Failure::Refused`]: 4xx with an error document of AWS, but for 407 and 408, which proxies send;
/// - [`Failure::Unavailable`]: all else. Only AWS itself may lock somebody out.
pub(super) fn read(status: u16, body: &[u8]) -> Result<CallerIdentity, Failure> {
    if status == 200 {
        return read_identity(body);
    }
    let code = document::error_code(body);
    if status == 429 || code.as_deref().is_some_and(is_throttle) {
        return Err(Failure::Throttled { status, code: code.as_deref().and_then(ErrorCode::parse) });
    }
    match code.as_deref().and_then(ErrorCode::parse) {
        Some(code) if matches!(status, 400..=406 | 409..=499) => Err(Failure::Refused { status, code }),
        _ => Err(Failure::Unavailable(Cause::NotAnswered { status })),
    }
}

fn read_identity(body: &[u8]) -> Result<CallerIdentity, Failure> {
    let json = Node::from_json(body);
    // What does not even call itself an answer comes from somebody on the way: a login page, a gateway that is out of order.
    let Some((outer, response)) = json.as_ref().and_then(Node::as_object).and_then(|outer| Some((outer, outer.find(RESPONSE)?))) else {
        return Err(Failure::Unavailable(Cause::NotAnswered { status: 200 }));
    };
    caller_identity(outer, response, body.len()).map_err(Failure::Answer)
}

const RESPONSE: &str = "GetCallerIdentityResponse";
const RESULT: &str = "GetCallerIdentityResult";

fn caller_identity(outer: &Object<'_>, response: &Node<'_>, length_bytes: usize) -> Result<CallerIdentity, AnswerError> {
    if length_bytes > IDENTITY_MAX_BYTES {
        return Err(AnswerError::TooLarge);
    }
    check_once(outer)?;
    let response = response.as_object().ok_or(AnswerError::Missing(RESULT))?;
    check_once(response)?;
    let result = response.find(RESULT).and_then(Node::as_object).ok_or(AnswerError::Missing(RESULT))?;
    check_once(result)?;
    let text = |name| result.find(name).and_then(Node::as_text).ok_or(AnswerError::Missing(name));
    Ok(CallerIdentity::new(text("Account")?, text("Arn")?, text("UserId")?))
}

fn check_once(object: &Object<'_>) -> Result<(), AnswerError> {
    object.repeated().map_or(Ok(()), |name| Err(AnswerError::Repeated(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"123456789012",
        "Arn":"arn:aws:iam::123456789012:user/Alice","UserId":"AIDAEXAMPLE"},"ResponseMetadata":{"RequestId":"x"}}}"#;
    const REFUSAL: &str = r#"{"Error":{"Code":"InvalidClientTokenId","Message":"Throttling","Type":"Sender"},"RequestId":"x"}"#;
    const THROTTLE: &str = r#"{"Error":{"Code":"Throttling","Message":"Rate exceeded","Type":"Sender"},"RequestId":"x"}"#;

    fn failure(status: u16, body: &str) -> Failure {
        read(status, body.as_bytes()).unwrap_err()
    }

    fn not_answered(status: u16) -> Failure {
        Failure::Unavailable(Cause::NotAnswered { status })
    }

    #[test]
    fn reads_an_identity() {
        let told = read(200, GOOD.as_bytes()).unwrap();
        assert_eq!((told.account(), told.arn(), told.user_id()), ("123456789012", "arn:aws:iam::123456789012:user/Alice", "AIDAEXAMPLE"));
    }

    #[test]
    fn a_200_that_calls_itself_an_answer_and_breaks_the_rules_is_a_refusal() {
        let result = |fields: &str| format!(r#"{{"GetCallerIdentityResponse":{{"GetCallerIdentityResult":{fields}}}}}"#);
        for (body, error) in [
            (result(r#"{"Account":"1","Arn":"a"}"#), AnswerError::Missing("UserId")),
            (result(r#"{"Account":"1","UserId":"u"}"#), AnswerError::Missing("Arn")),
            (result(r#"{"Arn":"a","UserId":"u"}"#), AnswerError::Missing("Account")),
            (result(r#"{"Account":"1","arn":"a","UserId":"u"}"#), AnswerError::Missing("Arn")),
            (result(r#"{"Account":1,"Arn":"a","UserId":"u"}"#), AnswerError::Missing("Account")),
            (result(r#"{"Account":"1","Arn":"a","Arn":"a","UserId":"u"}"#), AnswerError::Repeated("Arn")),
            (result(r#"{"Account":"1","Arn":"a","\u0041rn":"b","UserId":"u"}"#), AnswerError::Repeated("Arn")),
            (result(r#"["1","a","u"]"#), AnswerError::Missing(RESULT)),
            (result("null"), AnswerError::Missing(RESULT)),
            (r#"{"GetCallerIdentityResponse":[]}"#.into(), AnswerError::Missing(RESULT)),
            (r#"{"GetCallerIdentityResponse":{}}"#.into(), AnswerError::Missing(RESULT)),
            (format!(r#"{{"GetCallerIdentityResponse":{{}},{}"#, &GOOD[1..]), AnswerError::Repeated(RESPONSE)),
            (format!("{}{}", " ".repeat(IDENTITY_MAX_BYTES), GOOD), AnswerError::TooLarge),
        ] {
            assert_eq!(failure(200, &body), Failure::Answer(error), "{body}");
        }
        let spaces = " ".repeat(IDENTITY_MAX_BYTES - GOOD.len());
        assert!(read(200, format!("{spaces}{GOOD}").as_bytes()).is_ok(), "16 KiB are not too many");
    }

    #[test]
    fn a_200_that_is_something_else_says_nothing() {
        let xml = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>a</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>";
        for body in ["", "<html>Log in</html>", "{}", "[]", "null", &GOOD[1..], &GOOD[..GOOD.len() - 1], REFUSAL, THROTTLE, xml] {
            assert_eq!(failure(200, body), not_answered(200), "{body}");
        }
    }

    #[test]
    fn a_throttle_is_told_by_its_code_whatever_the_status() {
        for code in
            ["Throttling", "ThrottlingException", "RequestThrottling", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown"]
        {
            for body in [
                format!(r#"{{"Error":{{"Code":"{code}"}}}}"#),
                format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>"),
            ] {
                for status in [302, 400, 403, 407, 429, 500, 503] {
                    assert_eq!(failure(status, &body), Failure::Throttled { status, code: ErrorCode::parse(code) }, "{body}");
                }
            }
        }
        assert_eq!(failure(429, "whatever"), Failure::Throttled { status: 429, code: None });
        let shown = ErrorCode::parse("InvalidClientTokenId");
        assert_eq!(failure(429, REFUSAL), Failure::Throttled { status: 429, code: shown });
        assert_eq!(failure(400, r#"{"Error":{"Code":"Throttling.User"}}"#), Failure::Throttled { status: 400, code: None });
    }

    #[test]
    fn the_word_throttling_counts_nowhere_else() {
        // upstream: a role that is named Throttling turns its 403 into a 429 there.
        let body =
            r#"{"Error":{"Code":"AccessDenied","Message":"arn:aws:iam::123456789012:role/Throttling","Type":"Throttling"},"Throttling":1}"#;
        assert_eq!(failure(403, body), Failure::Refused { status: 403, code: ErrorCode::parse("AccessDenied").unwrap() });
        assert_eq!(failure(403, "Throttling"), not_answered(403));
        assert_eq!(failure(400, r#"{"Error":{"Code":"throttling"}}"#).reason(), "sts-refused");
        assert_eq!(failure(400, r#"{"Error":{"Code":"NotSlowDown"}}"#).reason(), "sts-refused");
    }

    #[test]
    fn a_4xx_refuses_only_with_a_document_of_aws() {
        for status in [400, 401, 403, 404, 406, 409, 499] {
            let code = ErrorCode::parse("InvalidClientTokenId").unwrap();
            assert_eq!(failure(status, REFUSAL), Failure::Refused { status, code });
            assert_eq!(failure(status, "<html>Access to this site is blocked</html>"), not_answered(status));
            assert_eq!(failure(status, ""), not_answered(status));
        }
    }

    #[test]
    fn other_statuses_say_nothing_even_with_a_document_of_aws() {
        for status in [100, 201, 204, 301, 302, 307, 407, 408, 500, 502, 503, 504, 599] {
            assert_eq!(failure(status, REFUSAL), not_answered(status));
            assert_eq!(failure(status, GOOD), not_answered(status));
        }
    }

    #[test]
    fn a_code_that_cannot_be_shown_is_not_one_of_aws() {
        for code in ["", "a b", "a-b", "a\\u001b[2J", "é", &"a".repeat(65)] {
            assert_eq!(failure(400, &format!(r#"{{"Error":{{"Code":"{code}"}}}}"#)), not_answered(400), "{code:?}");
        }
        assert_eq!(failure(400, &format!(r#"{{"Error":{{"Code":"{}"}}}}"#, "a".repeat(64))).reason(), "sts-refused");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(status: u16, body: Vec<u8>) {
            let _ = read(status, &body);
        }

        #[test]
        fn no_json_makes_it_panic(text in r#"([{}\[\],:]|"GetCallerIdentityResponse"|"GetCallerIdentityResult"|"Account"|"Arn"|"UserId"|1|null){0,30}"#) {
            let _ = read(200, text.as_bytes());
        }
    }
}
