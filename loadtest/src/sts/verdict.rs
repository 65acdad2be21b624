//! Judges a call as STS would: who signed it, or which error.
//!
//! The grammar and the signature are the core's. What the core refuses before anybody is asked is told in AWS' words where these are known.
//! Stricter than AWS in three points, for the core has no wider grammar: the signed headers must be exactly `host` and `x-k8s-aws-id`, the
//! query must have no other keys, and the URL must fit into a token.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use arngate_core::presigned::AccessKeyId;
use arngate_core::sigv4;
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Error, Partition, Policy, PresignedUrl, StsHosts, StsRequest, Token, TokenBuffer, UnixSeconds};
use memchr::memchr2;

use super::count::{Counters, Outcome};
use super::document::{Document, Format, ServiceError};
use crate::credential::Credential;
use crate::token::{self, ScopedKey};

/// How far X-Amz-Date may lie from the clock of STS, in seconds, either way.
///
/// AWS: "Signature expired: … (… - 15 min.)" as at <https://github.com/aws/aws-cli/issues/6676>, and "Signature not yet current: … (… + 15
/// min.)" as at <https://github.com/QT-DevOps/DevOpsIssues/issues/989>, both `SignatureDoesNotMatch` with status 403.
const SKEW_SECS: u32 = 900;

/// What matters of a call.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// As received; the fake's own port is already gone.
    pub(super) host: &'a str,
    pub(super) query: &'a str,
    /// The value of `x-k8s-aws-id`, if it is there once.
    pub(super) cluster_id: Option<&'a str>,
}

/// What STS says to a call.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Who claims to have signed it, where that can be told.
    pub(super) access_key_id: Option<AccessKeyId>,
    /// Whose key signed it.
    pub(super) result: Result<Arc<Known>, Refusal>,
}

impl Verdict {
    /// Counts the call of who claims to have signed it.
    pub(super) fn count(&self, counters: &Counters) {
        match (&self.result, &self.access_key_id) {
            (Ok(known), _) => {
                let calls = known.calls.get_or_init(|| counters.of_key(known.credential.access_key_id()));
                calls.fetch_add(1, Ordering::Relaxed);
            }
            (Err(_), Some(id)) => {
                counters.of_key(id.as_str()).fetch_add(1, Ordering::Relaxed);
            }
            (Err(_), None) => {}
        }
    }
}

/// An error and what it counts as.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) outcome: Outcome,
    pub(super) error: ServiceError,
}

impl Refusal {
    fn malformed(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { outcome: Outcome::Malformed, error: ServiceError::new(status, code, message) }
    }

    /// What all that is wrong with scope, date and signature is called.
    fn signature(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::SignatureDoesNotMatch, error: ServiceError::new(403, "SignatureDoesNotMatch", message) }
    }

    /// AWS: <https://github.com/aws-azure-login/aws-azure-login/issues/251>.
    fn unknown_key() -> Self {
        let message = "The security token included in the request is invalid";
        Self { outcome: Outcome::InvalidClientTokenId, error: ServiceError::new(403, "InvalidClientTokenId", message) }
    }

    /// AWS: `ExpiredToken` and 403, not `ExpiredTokenException` and 400, which is for web identities:
    /// <https://github.com/aws/aws-sdk-java-v2/issues/1649>.
    fn expired_token() -> Self {
        let message = "The security token included in the request is expired";
        Self { outcome: Outcome::ExpiredToken, error: ServiceError::new(403, "ExpiredToken", message) }
    }

    /// The core's refusal in AWS' words.
    fn of(error: Error, query: &str) -> Self {
        match error {
            Error::Length => Self::malformed(413, "RequestEntityTooLarge", "The URL is longer than any that a token can hold"),
            Error::Prefix | Error::Base64 | Error::UrlBytes | Error::Scheme | Error::Authority | Error::Path | Error::Escape => {
                Self::malformed(404, "MalformedQueryString", "The query string contains a syntax error.")
            }
            // AWS answers whatever host led to it, but signs for its own name.
            Error::Host | Error::Partition => Self::signature(WRONG_SIGNATURE),
            Error::ParameterUnknown | Error::ParameterRepeated => {
                Self::malformed(400, "InvalidQueryParameter", "The AWS query string is malformed or does not adhere to AWS standards.")
            }
            Error::ParameterMissing => Self::missing(query),
            Error::Action | Error::Version => {
                let (action, version) = (Query(query).value("Action"), Query(query).value("Version"));
                let message =
                    format!("Could not find operation {} for version {}", action.unwrap_or_default(), version.unwrap_or_default());
                Self::malformed(400, "InvalidAction", message)
            }
            Error::Algorithm => {
                let message = format!("Unsupported AWS 'algorithm': '{}'.", Query(query).value("X-Amz-Algorithm").unwrap_or_default());
                Self::malformed(400, "IncompleteSignature", message)
            }
            Error::AccessKey => Self::unknown_key(),
            Error::DateForm => Self::malformed(
                400,
                "IncompleteSignature",
                format!(
                    "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
                    Query(query).value("X-Amz-Date").unwrap_or_default()
                ),
            ),
            Error::ScopeDate => Self::signature("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP"),
            Error::ScopeRegion => Self::signature("Credential should be scoped to a valid region. "),
            Error::ScopeService => Self::signature("Credential should be scoped to correct service: 'sts'. "),
            Error::Expires => Self::malformed(400, "IncompleteSignature", "X-Amz-Expires must be a number of at most 900 seconds"),
            _ => Self::signature(WRONG_SIGNATURE),
        }
    }

    fn missing(query: &str) -> Self {
        let query = Query(query);
        if let Some(name) = ["Action", "Version"].into_iter().find(|name| query.value(name).is_none()) {
            let message = format!("A required parameter for the specified action is not supplied: {name}");
            return Self::malformed(400, "MissingParameter", message);
        }
        let names = ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date", "X-Amz-Expires"];
        if names[..3].iter().all(|name| query.value(name).is_none()) {
            return Self::malformed(403, "MissingAuthenticationToken", "Request is missing Authentication Token");
        }
        let name = names.into_iter().find(|name| query.value(name).is_none()).unwrap_or_default();
        let message = format!("AWS query-string parameters must include '{name}'. Re-examine the query-string parameters.");
        Self::malformed(400, "IncompleteSignature", message)
    }
}

/// AWS: <https://github.com/boto/boto3/issues/756>, without the canonical request that it told then.
const WRONG_SIGNATURE: &str = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
                               Key and signing method. Consult the service documentation for details.";

/// A credential that STS knows, and what does not change from call to call.
#[derive(Debug)]
pub(super) struct Known {
    credential: Credential,
    /// The signing key of the day and the region that were asked for last.
    key: RwLock<Option<ScopedKey>>,
    json: OnceLock<Document>,
    xml: OnceLock<Document>,
    /// The count of its access key, once there is one.
    calls: OnceLock<Arc<AtomicU64>>,
}

impl Known {
    const fn new(credential: Credential) -> Self {
        Self { credential, key: RwLock::new(None), json: OnceLock::new(), xml: OnceLock::new(), calls: OnceLock::new() }
    }

    pub(super) const fn credential(&self) -> &Credential {
        &self.credential
    }

    /// What its owner is told.
    pub(super) fn document(&self, format: Format) -> &Document {
        let place = match format {
            Format::Json => &self.json,
            Format::Xml => &self.xml,
        };
        place.get_or_init(|| format.identity(self.credential.identity()))
    }

    fn has_signed(&self, request: &StsRequest<'_>) -> bool {
        let (date, host) = (request.url().signed_at(), request.url().host());
        if let Some(key) = self.key.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|key| key.of(date, host.region())) {
            return sigv4::verify(request, key).is_ok();
        }
        let scoped = ScopedKey::derive(self.credential.secret(), date, host.region());
        let has_signed = scoped.of(date, host.region()).is_some_and(|key| sigv4::verify(request, key).is_ok());
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(scoped);
        has_signed
    }
}

/// The credentials that STS knows, by access key id.
#[derive(Debug, Default)]
pub(super) struct Credentials(RwLock<HashMap<String, Arc<Known>>>);

impl Credentials {
    pub(super) fn new(credentials: impl IntoIterator<Item = Credential>) -> Self {
        let by_id = credentials.into_iter().map(|credential| (credential.access_key_id().to_owned(), Arc::new(Known::new(credential))));
        Self(RwLock::new(by_id.collect()))
    }

    pub(super) fn put(&self, credential: Credential) {
        let id = credential.access_key_id().to_owned();
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(Known::new(credential)));
    }

    pub(super) fn remove(&self, access_key_id: &str) -> bool {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(access_key_id).is_some()
    }

    fn find(&self, access_key_id: &str) -> Option<Arc<Known>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(access_key_id).cloned()
    }
}

/// Room in which calls are judged, one after the other.
struct Room {
    url: String,
    token: Vec<u8>,
    decoded: TokenBuffer,
}

thread_local! {
    static ROOM: RefCell<Room> = const { RefCell::new(Room { url: String::new(), token: Vec::new(), decoded: TokenBuffer::new() }) };
}

/// Judges a call at `now`.
pub(super) fn judge(call: &Call<'_>, credentials: &Credentials, extra_hosts: &[String], now: UnixSeconds) -> Verdict {
    let refused = |refusal| Verdict { access_key_id: None, result: Err(refusal) };
    if call.path != "/" {
        return refused(Refusal::malformed(404, "UnknownOperationException", "STS has no other path than /"));
    }
    if call.method != "GET" {
        return refused(Refusal::malformed(405, "UnsupportedOperation", "This fake of STS answers presigned GET requests only"));
    }
    ROOM.with_borrow_mut(|Room { url, token, decoded }| {
        url.clear();
        ["https://", call.host, "/?", call.query].into_iter().for_each(|part| url.push_str(part));
        token.clear();
        token::encode(url, token);
        match Token::decode(token, decoded).and_then(|token| PresignedUrl::parse(token, &hosts_of(call.host, extra_hosts))) {
            Ok(url) => Verdict { access_key_id: Some(*url.access_key_id()), result: judge_url(url, call, credentials, now) },
            Err(error) => refused(Refusal::of(error, call.query)),
        }
    })
}

/// Judges a well-formed call: whose key, session token, date, signature, in this order.
fn judge_url(url: PresignedUrl<'_>, call: &Call<'_>, credentials: &Credentials, now: UnixSeconds) -> Result<Arc<Known>, Refusal> {
    let known = credentials.find(url.access_key_id().as_str()).ok_or_else(Refusal::unknown_key)?;
    let has_its_session_token = match known.credential.session_token() {
        Some(session_token) => Query(call.query).has("X-Amz-Security-Token", session_token),
        None => !url.has_session_token(),
    };
    if !has_its_session_token {
        return Err(Refusal::unknown_key());
    }
    if known.credential.session_ends_at().is_some_and(|end| now > end) {
        return Err(Refusal::expired_token());
    }
    // A header that is absent or could not be signed is one that was not signed.
    let cluster_id = call.cluster_id.and_then(|id| ClusterId::parse(id).ok()).ok_or_else(|| Refusal::signature(WRONG_SIGNATURE))?;
    let policy = Policy { max_ahead_secs: SKEW_SECS, ..Policy::new(cluster_id) };
    let request = StsRequest::check(url, &policy, now).map_err(|error| Refusal::signature(skew_message(error, url.signed_at(), now)))?;
    if known.has_signed(&request) { Ok(known) } else { Err(Refusal::signature(WRONG_SIGNATURE)) }
}

fn skew_message(error: Error, signed_at: AmzDate, now: UnixSeconds) -> String {
    let text = |instant| AmzDate::from_unix(instant).map_or_else(String::new, |date| date.as_str().to_owned());
    let (signed_at, skew) = (signed_at.as_str(), i64::from(SKEW_SECS));
    match error {
        Error::Future => {
            let limit = text(now.saturating_add(skew));
            format!("Signature not yet current: {signed_at} is still later than {limit} ({} + 15 min.)", text(now))
        }
        _ => {
            let limit = text(now.saturating_add(-skew));
            format!("Signature expired: {signed_at} is now earlier than {limit} ({} - 15 min.)", text(now))
        }
    }
}

/// The hosts among which `host` is judged: STS has them all, in every partition; and in an extra one the region has any name.
fn hosts_of<'a>(host: &'a str, extra_hosts: &[String]) -> StsHosts<'a> {
    let own_region = extra_hosts.iter().any(|extra| extra == host).then(|| host.split('.').nth(1)).flatten();
    let hosts = |partition| StsHosts::new(partition).with_own_region(own_region);
    Partition::ALL.into_iter().map(hosts).find(|hosts| hosts.judge(host).is_ok()).unwrap_or_else(|| hosts(Partition::Aws))
}

/// Whether STS is there under that name.
pub(super) fn is_ours(host: &str, extra_hosts: &[String]) -> bool {
    extra_hosts.iter().any(|extra| extra == host) || hosts_of(host, extra_hosts).judge(host).is_ok()
}

/// A query, read leniently: the core has judged it already, or has refused it and the rest is for a message.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The decoded value of the first key of that name, compared without ASCII case.
    fn value(&self, name: &str) -> Option<String> {
        self.encoded(name).map(|value| String::from_utf8_lossy(&decoded(value)).into_owned())
    }

    /// Whether that is `value`.
    fn has(&self, name: &str, value: &str) -> bool {
        self.encoded(name).is_some_and(|encoded| decodes_to(encoded, value))
    }

    fn encoded(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        // A key is hardly ever escaped.
        let is_escaped = |key: &str| memchr2(b'%', b'+', key.as_bytes()).is_some();
        let is_it = |key: &str| key.eq_ignore_ascii_case(name) || is_escaped(key) && decoded(key).eq_ignore_ascii_case(name.as_bytes());
        pairs.find(|(key, _)| is_it(key)).map(|(_, value)| value)
    }
}

fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = split_decoded(rest) {
        out.push(byte);
        rest = tail;
    }
    out
}

/// Whether `text` decodes to `expected`: what is not escaped is compared as it is.
fn decodes_to(text: &str, expected: &str) -> bool {
    let (mut rest, mut expected) = (text.as_bytes(), expected.as_bytes());
    loop {
        let (plain, escaped) = rest.split_at(memchr2(b'%', b'+', rest).unwrap_or(rest.len()));
        let Some(left) = expected.strip_prefix(plain) else { return false };
        match (split_decoded(escaped), left) {
            (Some((byte, tail)), [first, left @ ..]) if *first == byte => (rest, expected) = (tail, left),
            (None, []) => return true,
            _ => return false,
        }
    }
}

/// The first byte that `text` stands for, and what is left of it.
fn split_decoded(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, tail) = text.split_first()?;
    let escape = tail.get(..2).filter(|_| first == b'%').and_then(|hex| str::from_utf8(hex).ok());
    match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => Some((byte, &tail[2..])),
        None => Some((if first == b'+' { b' ' } else { first }, tail)),
    }
}

#[cfg(test)]
mod tests {
    use arngate_core::StsHost;
    use arngate_core::endpoint::Fips;

    use super::*;
    use crate::credential::{CallerIdentity, EXAMPLE_SECRET};

    const NOW: &str = "20261124T120000Z";

    fn date(text: &str) -> AmzDate {
        AmzDate::parse(text.as_bytes()).unwrap()
    }

    fn credentials() -> Credentials {
        Credentials::new([Credential::example_user(), Credential::example_role()])
    }

    fn signed(credential: &Credential, host: StsHost<'_>, at: &str) -> (String, String) {
        let url = token::sign_url(credential, host, ClusterId::parse("prod").unwrap(), date(at), 60);
        let (host, query) = url.strip_prefix("https://").unwrap().split_once("/?").unwrap();
        (host.to_owned(), query.to_owned())
    }

    fn judge_query(query: &str) -> Verdict {
        judge_sent("sts.amazonaws.com", query, Some("prod"))
    }

    fn judge_sent(host: &str, query: &str, cluster_id: Option<&str>) -> Verdict {
        let call = Call { method: "GET", path: "/", host, query, cluster_id };
        judge(&call, &credentials(), &[], date(NOW).unix())
    }

    /// Status, code and message.
    fn said(verdict: Verdict) -> String {
        match verdict.result {
            Ok(known) => format!("200 {}", known.credential().identity().arn),
            Err(Refusal { error, .. }) => format!("{} {}: {}", error.status, error.code, error.message),
        }
    }

    #[test]
    fn tells_users_and_roles_in_every_partition() {
        for partition in Partition::ALL {
            for region in partition.known_regions() {
                let host = StsHost::regional(partition, region, Fips::No).unwrap();
                let (host, query) = signed(&Credential::example_role(), host, NOW);
                assert!(judge_sent(&host, &query, Some("prod")).result.is_ok(), "{host}");
                assert!(is_ours(&host, &[]));
            }
        }
        let (_, query) = signed(&Credential::example_user(), StsHost::global(), NOW);
        let verdict = judge_query(&query);
        assert_eq!(verdict.access_key_id.unwrap().as_str(), "AKIAIOSFODNN7EXAMPLE");
        assert_eq!(said(verdict), "200 arn:aws:iam::123456789012:user/Alice");
    }

    #[test]
    fn refuses_what_was_not_signed_so() {
        let (_, query) = signed(&Credential::example_user(), StsHost::global(), NOW);
        let wrong = "403 SignatureDoesNotMatch: The request signature we calculated does not match the signature you provided. Check your \
                     AWS Secret Access Key and signing method. Consult the service documentation for details.";
        let last = if query.ends_with('0') { "1" } else { "0" };
        let spoilt = format!("{}{last}", &query[..query.len() - 1]);
        assert_eq!(said(judge_query(&spoilt)), wrong);
        assert_eq!(said(judge_query(&query.replace("Expires=60", "Expires=61"))), wrong);
        for cluster_id in [Some("prod2"), Some("Prod"), Some(""), None] {
            assert_eq!(said(judge_sent("sts.amazonaws.com", &query, cluster_id)), wrong, "{cluster_id:?}");
        }
        assert_eq!(said(judge_sent("sts.us-east-1.amazonaws.com", &query, Some("prod"))), wrong, "another host of the same region");
        assert_eq!(said(judge_sent("localhost", &query, Some("prod"))), wrong);
        let identity = Credential::example_user().identity().clone();
        let other = Credential::new("AKIAIOSFODNN7EXAMPLE", format!("{EXAMPLE_SECRET}x"), identity).unwrap();
        let (_, query) = signed(&other, StsHost::global(), NOW);
        assert_eq!(said(judge_query(&query)), wrong);
    }

    #[test]
    fn refuses_unknown_keys_and_session_tokens_of_others() {
        let unknown = "403 InvalidClientTokenId: The security token included in the request is invalid";
        let role = Credential::example_role();
        let identity = role.identity().clone();
        let secret = EXAMPLE_SECRET;
        let stranger = Credential::new("AKIAI44QH8DHBEXAMPLE", secret, identity.clone()).unwrap();
        let without = Credential::new(role.access_key_id(), secret, identity).unwrap();
        let wrong = without.clone().with_session_token(format!("{}x", role.session_token().unwrap()));
        let empty = without.clone().with_session_token("");
        let too_much = Credential::example_user().with_session_token("");
        for credential in [stranger, without, wrong, empty, too_much] {
            let (_, query) = signed(&credential, StsHost::global(), NOW);
            assert_eq!(said(judge_query(&query)), unknown, "{credential:?}");
        }
    }

    #[test]
    fn a_session_that_has_ended_is_an_expired_token() {
        let role = Credential::example_role().ending_at(date("20261124T115959Z").unix());
        let (host, query) = signed(&role, StsHost::global(), NOW);
        let call = Call { method: "GET", path: "/", host: &host, query: &query, cluster_id: Some("prod") };
        let credentials = Credentials::new([role]);
        let verdict = judge(&call, &credentials, &[], date(NOW).unix());
        assert_eq!(said(verdict), "403 ExpiredToken: The security token included in the request is expired");
        assert!(judge(&call, &credentials, &[], date("20261124T115959Z").unix()).result.is_ok());
        assert!(credentials.remove(Credential::example_role().access_key_id()));
        assert!(judge(&call, &credentials, &[], date(NOW).unix()).result.unwrap_err().error.code == "InvalidClientTokenId");
    }

    #[test]
    fn dates_count_for_15_minutes_either_way() {
        for (signed_at, expected) in [
            ("20261124T114500Z", "200 arn:aws:iam::123456789012:user/Alice"),
            ("20261124T121500Z", "200 arn:aws:iam::123456789012:user/Alice"),
            (
                "20261124T114459Z",
                "403 SignatureDoesNotMatch: Signature expired: 20261124T114459Z is now earlier than 20261124T114500Z (20261124T120000Z - 15 min.)",
            ),
            (
                "20261124T121501Z",
                "403 SignatureDoesNotMatch: Signature not yet current: 20261124T121501Z is still later than 20261124T121500Z (20261124T120000Z + 15 min.)",
            ),
        ] {
            let (_, query) = signed(&Credential::example_user(), StsHost::global(), signed_at);
            assert_eq!(said(judge_query(&query)), expected);
        }
    }

    #[test]
    fn says_what_is_malformed() {
        let (_, query) = signed(&Credential::example_user(), StsHost::global(), NOW);
        let without = |name: &str| query.split('&').filter(|pair| !pair.starts_with(name)).collect::<Vec<_>>().join("&");
        let long = format!("{query}{}", "x".repeat(4000));
        let said_to: Vec<String> = [
            String::new(),
            "Action=GetCallerIdentity&Version=2011-06-15".into(),
            without("Version="),
            without("X-Amz-Signature="),
            without("X-Amz-Date="),
            query.replace("Action=GetCallerIdentity", "Action=GetSessionToken"),
            query.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
            query.replace(NOW, "2026-11-24T12:00:00Z"),
            query.replace("%2Fus-east-1%2F", "%2Fus-west-2%2F"),
            query.replace("%2Fsts%2F", "%2Fs3%2F"),
            query.replace("20261124%2F", "20261125%2F"),
            query.replace("Expires=60", "Expires=901"),
            query.replace("host%3Bx-k8s-aws-id", "host"),
            query.replace("AKIAIOSFODNN7EXAMPLE", "AKIA"),
            format!("{query}&action=GetCallerIdentity"),
            format!("{query}&Foo=bar"),
            format!("{query}&%"),
            long,
        ]
        .iter()
        .map(|query| said(judge_query(query)))
        .collect();
        insta::assert_snapshot!(said_to.join("\n"), @"
        400 MissingParameter: A required parameter for the specified action is not supplied: Action
        403 MissingAuthenticationToken: Request is missing Authentication Token
        400 MissingParameter: A required parameter for the specified action is not supplied: Version
        400 IncompleteSignature: AWS query-string parameters must include 'X-Amz-Signature'. Re-examine the query-string parameters.
        400 IncompleteSignature: AWS query-string parameters must include 'X-Amz-Date'. Re-examine the query-string parameters.
        400 InvalidAction: Could not find operation GetSessionToken for version 2011-06-15
        400 IncompleteSignature: Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA1'.
        400 IncompleteSignature: Date must be in ISO-8601 'basic format'. Got '2026-11-24T12:00:00Z'. See http://en.wikipedia.org/wiki/ISO_8601
        403 SignatureDoesNotMatch: Credential should be scoped to a valid region. 
        403 SignatureDoesNotMatch: Credential should be scoped to correct service: 'sts'. 
        403 SignatureDoesNotMatch: Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP
        400 IncompleteSignature: X-Amz-Expires must be a number of at most 900 seconds
        403 SignatureDoesNotMatch: The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.
        403 InvalidClientTokenId: The security token included in the request is invalid
        400 InvalidQueryParameter: The AWS query string is malformed or does not adhere to AWS standards.
        400 InvalidQueryParameter: The AWS query string is malformed or does not adhere to AWS standards.
        404 MalformedQueryString: The query string contains a syntax error.
        413 RequestEntityTooLarge: The URL is longer than any that a token can hold
        ");
    }

    #[test]
    fn compares_values_as_decoded() {
        let query = Query("a=%2Bx%2fy+z%&B=2&b=3&%63=%&d");
        for (name, value) in [("A", "+x/y z%"), ("b", "2"), ("c", "%"), ("d", "")] {
            assert!(query.has(name, value) && query.value(name).as_deref() == Some(value), "{name}");
            for other in [
                format!("{value}x"),
                format!("x{value}"),
                value.to_uppercase().replace('Y', "/"),
                value[..value.len().saturating_sub(1)].into(),
            ] {
                assert!(other == value || !query.has(name, &other), "{name} {other}");
            }
        }
        assert!(!query.has("e", "") && query.value("e").is_none());
    }

    #[test]
    fn knows_the_keys_of_other_days_and_regions() {
        let credentials = credentials();
        let regional = StsHost::regional(Partition::Aws, "eu-west-1", Fips::No).unwrap();
        for (host, at) in [
            (StsHost::global(), "20261124T000010Z"),
            (StsHost::global(), "20261123T235950Z"),
            (regional, "20261123T235950Z"),
            (StsHost::global(), "20261124T000010Z"),
        ] {
            let (host, query) = signed(&Credential::example_role(), host, at);
            let spoilt = query.replace("Expires=60", "Expires=61");
            for (query, is_good) in [(&query, true), (&spoilt, false), (&query, true)] {
                let call = Call { method: "GET", path: "/", host: &host, query, cluster_id: Some("prod") };
                assert_eq!(judge(&call, &credentials, &[], date("20261124T000000Z").unix()).result.is_ok(), is_good, "{host} {at}");
            }
        }
    }

    #[test]
    fn answers_get_on_the_root_only() {
        let (host, query) = signed(&Credential::example_user(), StsHost::global(), NOW);
        let call = Call { method: "GET", path: "/", host: &host, query: &query, cluster_id: Some("prod") };
        let judge = |call| said(judge(&call, &credentials(), &[], date(NOW).unix()));
        assert!(judge(Call { method: "POST", ..call }).starts_with("405 UnsupportedOperation"));
        assert!(judge(Call { path: "/redirected", ..call }).starts_with("404 UnknownOperationException"));
    }

    #[test]
    fn an_extra_host_may_have_a_region_of_any_name() {
        let extra = ["sts.test-region-alpha.amazonaws.com".to_owned(), "vpce-0123.sts.example".to_owned()];
        let identity = CallerIdentity::of_arn("arn:aws:iam::123456789012:user/Bob", "AIDA").unwrap();
        let credential = Credential::new("AKIAIOSFODNN7EXAMPLE", EXAMPLE_SECRET, identity).unwrap();
        let host = StsHost::regional(Partition::Aws, "test-region-alpha", Fips::No).unwrap();
        let (host, query) = signed(&credential, host, NOW);
        let call = Call { method: "GET", path: "/", host: &host, query: &query, cluster_id: Some("prod") };
        assert!(judge(&call, &credentials(), &extra, date(NOW).unix()).result.is_ok());
        assert!(judge(&call, &credentials(), &[], date(NOW).unix()).result.is_err());
        assert!(is_ours(&extra[1], &extra) && !is_ours(&extra[1], &[]));
    }
}
