//! The presigned URL inside a token: grammar only.
//!
//! A [`PresignedUrl`] is known to be a GetCallerIdentity request to a host of ours, signed for that host's region, with a scope that fits
//! its date. Whether it is still fresh is for [`StsRequest`](crate::StsRequest), whether it is authentic for a prover.
//!
//! The grammar is so strict that no two URL parsers can differ on what passes: the very bytes that were checked are sent.

use core::{fmt, str};

use crate::Error;
use crate::endpoint::{StsHost, StsHosts};
use crate::limits::{ACCESS_KEY_ID_MAX_BYTES, ACCESS_KEY_ID_MIN_BYTES, EXPIRES_MAX_SECS, REGION_MAX_BYTES};
use crate::param::{Param, Params, SignedQuery};
use crate::percent::{Encoded, Stops, is_url_byte};
use crate::sigv4::{Algorithm, Signature};
use crate::time::AmzDate;
use crate::token::Token;

/// The header that binds a token to a cluster.
///
/// upstream: `clusterIDHeader` in pkg/token/token.go.
pub const CLUSTER_ID_HEADER: &str = "x-k8s-aws-id";

pub(crate) const ACTION: &str = "GetCallerIdentity";
pub(crate) const VERSION: &str = "2011-06-15";

/// An access key id: 16 to 128 of `[A-Za-z0-9_]`.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct AccessKeyId {
    bytes: [u8; ACCESS_KEY_ID_MAX_BYTES],
    length: u8,
}

impl AccessKeyId {
    /// Reads an access key id.
    ///
    /// # Errors
    ///
    /// [`Error::AccessKey`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        check_access_key_id(text.as_bytes())?;
        Ok(Self::new(text.as_bytes()))
    }

    /// The id that is `text`, which was checked.
    fn new(text: &[u8]) -> Self {
        let mut bytes = [0; ACCESS_KEY_ID_MAX_BYTES];
        if let Some(place) = bytes.get_mut(..text.len()) {
            place.copy_from_slice(text);
        }
        Self { bytes, length: u8::try_from(text.len()).unwrap_or_default() }
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.length)).and_then(|id| str::from_utf8(id).ok()).unwrap_or_default()
    }

    /// Whether it is one of STS' temporary ids (`ASIA…`), which go with a session token.
    ///
    /// AWS: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids>.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.as_str().starts_with("ASIA")
    }
}

impl fmt::Debug for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AccessKeyId").field(&self.as_str()).finish()
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A presigned GetCallerIdentity URL.
#[derive(Clone, Copy)]
pub struct PresignedUrl<'a> {
    host: StsHost<'a>,
    query: SignedQuery<'a>,
    has_session_token: bool,
    algorithm: Algorithm,
    access_key_id: AccessKeyId,
    signed_at: AmzDate,
    expires_secs: u16,
    signature: Signature,
}

impl<'a> PresignedUrl<'a> {
    /// Reads a decoded token.
    ///
    /// # Syntax
    ///
    /// ```text
    /// url = "https://" host "/?" query     ; printable ASCII without DQUOTE, "<" and ">", which RFC 3986 has in no URI
    /// ```
    ///
    /// The scheme is compared without case (RFC 3986 section 3.1, and so does the reference); it is never sent. The host is compared as
    /// bytes, and the query is as [`param`](crate) has it.
    ///
    /// # Errors
    ///
    /// All from [`Error::UrlBytes`] to [`Error::Expires`], in the order in which [`Error`] lists them.
    pub fn parse(token: Token<'a>, hosts: &StsHosts<'_>) -> Result<Self, Error> {
        Self::read(token.url_bytes(), hosts).map_err(|error| first_error(token.url_bytes(), error))
    }

    /// Reads a URL, and takes none with a byte that a URL cannot have or a fragment: a host of ours has neither, and each byte of the query is
    /// looked at. But which refusal comes first, if there are several, is for [`first_error`] to say.
    fn read(url: &'a [u8], hosts: &StsHosts<'_>) -> Result<Self, Error> {
        let rest = check_scheme(url)?;
        // User information and ports have their own delimiters, which come before the end of the authority.
        let ends_host = |at: &usize| matches!(rest.get(*at), Some(b'/' | b'?' | b'#' | b'@' | b':'));
        let host_end = Stops::of(rest, 0).find(ends_host).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(host_end).ok_or(Error::Authority)?;
        if matches!(rest, [b'@' | b':', ..]) {
            return Err(Error::Authority);
        }
        let query = match rest {
            [b'/'] => &[],
            [b'/', b'?', query @ ..] => query,
            _ => return Err(Error::Path),
        };
        let host = hosts.judge_bytes(authority)?;

        let params = Params::parse(query)?;
        let action = params.require(Param::Action)?;
        let version = params.require(Param::Version)?;
        let algorithm = params.require(Param::Algorithm)?;
        let credential = params.require(Param::Credential)?;
        let date = params.require(Param::Date)?;
        let expires = params.require(Param::Expires)?;
        let signed_headers = params.require(Param::SignedHeaders)?;
        let signature = params.require(Param::Signature)?;

        if !action.is(ACTION) {
            return Err(Error::Action);
        }
        check_signed_headers(signed_headers)?;
        if !version.is(VERSION) {
            return Err(Error::Version);
        }
        let algorithm = Algorithm::from_encoded(algorithm)?;
        let mut room = [0; CREDENTIAL_ROOM_BYTES];
        let usual = usual_credential(credential, host.region());
        let mut segments = if usual.is_none() { credential.decode(&mut room) } else { b"" }.split(|byte| *byte == b'/');
        let id = usual.map_or_else(|| segments.next().unwrap_or_default(), |(id, _)| id);
        check_access_key_id(id)?;
        let access_key_id = AccessKeyId::new(id);
        let signed_at = AmzDate::parse(date.decode(&mut [0; AmzDate::BYTES + 1]))?;
        match usual {
            Some((_, day)) if day == signed_at.day_bytes() => {}
            Some(_) => return Err(Error::ScopeDate),
            None => check_scope(segments, signed_at.day(), host.region())?,
        }
        let mut room = [0; Signature::DIGITS + 1];
        let digits = signature.decode(&mut room).try_into().map_err(|_| Error::SignatureForm)?;
        if !Signature::are_digits(digits) {
            return Err(Error::SignatureForm);
        }
        let signature = Signature::from_digits(digits);
        let expires_secs = parse_expires(expires)?;
        let has_session_token = params.find(Param::SecurityToken).is_some();
        let query = SignedQuery::new(query, &params);
        Ok(Self { host, query, has_session_token, algorithm, access_key_id, signed_at, expires_secs, signature })
    }

    /// The host that it is for.
    #[must_use]
    pub const fn host(&self) -> StsHost<'a> {
        self.host
    }

    pub(crate) const fn host_ref(&self) -> &StsHost<'a> {
        &self.host
    }

    /// The query as received: what is sent to STS, byte for byte.
    #[must_use]
    pub const fn query(&self) -> &'a str {
        self.query.as_received()
    }

    /// Who claims to have signed it.
    #[must_use]
    pub const fn access_key_id(&self) -> &AccessKeyId {
        &self.access_key_id
    }

    /// How it is signed.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// When it claims to have been signed: X-Amz-Date.
    #[must_use]
    pub const fn signed_at(&self) -> AmzDate {
        self.signed_at
    }

    /// X-Amz-Expires, in seconds. Not the token's lifetime: see [`StsRequest::ends_at`](crate::StsRequest::ends_at).
    #[must_use]
    pub const fn expires_secs(&self) -> u16 {
        self.expires_secs
    }

    /// Whether it has X-Amz-Security-Token, be it empty: only STS can prove such a request.
    #[must_use]
    pub const fn has_session_token(&self) -> bool {
        self.has_session_token
    }

    pub(crate) const fn signed_query(&self) -> SignedQuery<'a> {
        self.query
    }

    pub(crate) const fn signature(&self) -> &Signature {
        &self.signature
    }
}

impl fmt::Debug for PresignedUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresignedUrl")
            .field("host", &format_args!("{}", self.host))
            .field("access_key_id", &self.access_key_id)
            .field("signed_at", &self.signed_at)
            .finish_non_exhaustive()
    }
}

/// The refusal of a URL in which `error` was found: what is wrong with it as a whole comes before what is wrong with a part. Looked for only
/// where something is wrong, since it is one more way through all of the URL.
#[cold]
fn first_error(url: &[u8], error: Error) -> Error {
    if !url.iter().copied().all(is_url_byte) {
        Error::UrlBytes
    } else if error != Error::Scheme && url.contains(&b'#') {
        Error::Authority
    } else {
        error
    }
}

fn check_access_key_id(text: &[u8]) -> Result<(), Error> {
    let is_word = text.iter().fold(true, |is_word, byte| is_word & (byte.is_ascii_alphanumeric() | (*byte == b'_')));
    let fits = (ACCESS_KEY_ID_MIN_BYTES..=ACCESS_KEY_ID_MAX_BYTES).contains(&text.len());
    if is_word && fits { Ok(()) } else { Err(Error::AccessKey) }
}

fn check_scheme(url: &[u8]) -> Result<&[u8], Error> {
    let (scheme, rest) = url.split_at_checked(8).ok_or(Error::Scheme)?;
    if scheme.eq_ignore_ascii_case(b"https://") { Ok(rest) } else { Err(Error::Scheme) }
}

/// Exactly `host` and `x-k8s-aws-id`, in any order and case: we send no other header, so STS would refuse a request that signed more.
fn check_signed_headers(value: Encoded<'_>) -> Result<(), Error> {
    if value.canonical_text() == Some(b"host%3Bx-k8s-aws-id") {
        return Ok(());
    }
    const EITHER_ORDER: [&str; 2] = ["host;x-k8s-aws-id", "x-k8s-aws-id;host"];
    let matches = |text: &&str| {
        let mut expected = text.bytes();
        value.decoded().all(|byte| expected.next().is_some_and(|e| e == byte.to_ascii_lowercase())) && expected.next().is_none()
    };
    if EITHER_ORDER.iter().any(matches) { Ok(()) } else { Err(Error::SignedHeaders) }
}

/// Takes a credential apart that is spelled as AWS does and whose scope is right but perhaps for its day: the id and the day. It only saves
/// time: what it does not take is judged by [`check_scope`].
fn usual_credential<'a>(credential: Encoded<'a>, region: &str) -> Option<(&'a [u8], &'a [u8])> {
    const SLASH: &[u8] = b"%2F";
    let text = credential.canonical_text()?;
    let text = text.strip_suffix(b"%2Fsts%2Faws4_request")?.strip_suffix(region.as_bytes())?.strip_suffix(SLASH)?;
    let (text, day) = text.split_at_checked(text.len().checked_sub("YYYYMMDD".len())?)?;
    Some((text.strip_suffix(SLASH)?, day))
}

/// Room for the decoded X-Amz-Credential: more than the longest that can be right. One that does not fit goes on past the place where
/// every right one has ended, so it is refused for the segment that it is cut in.
const CREDENTIAL_ROOM_BYTES: usize = ACCESS_KEY_ID_MAX_BYTES + "/YYYYMMDD/".len() + REGION_MAX_BYTES + "/sts/aws4_request".len() + 1;

/// Checks `<day>/<region>/sts/aws4_request`. A segment that is missing or too many counts against the place where it is.
fn check_scope<'a>(mut segments: impl Iterator<Item = &'a [u8]>, day: &str, region: &str) -> Result<(), Error> {
    if segments.next() != Some(day.as_bytes()) {
        return Err(Error::ScopeDate);
    }
    if segments.next() != Some(region.as_bytes()) {
        return Err(Error::ScopeRegion);
    }
    if segments.eq(SCOPE_END.split('/').map(str::as_bytes)) { Ok(()) } else { Err(Error::ScopeService) }
}

/// How the scope of a request to STS ends.
pub(crate) const SCOPE_END: &str = "sts/aws4_request";

/// ASCII digits only (Go's `strconv.Atoi`, which the reference uses, also takes a sign); leading zeros as in Go.
fn parse_expires(value: Encoded<'_>) -> Result<u16, Error> {
    let mut seconds = None;
    for byte in value.decoded() {
        if !byte.is_ascii_digit() {
            return Err(Error::Expires);
        }
        let digit = u16::from(byte.saturating_sub(b'0'));
        seconds = Some(seconds.unwrap_or(0_u16).saturating_mul(10).saturating_add(digit));
    }
    seconds.filter(|seconds| *seconds <= EXPIRES_MAX_SECS).ok_or(Error::Expires)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;
    use std::vec::Vec;

    use super::*;
    use crate::{Partition, TokenBuffer, token};

    const GOOD: &str = "https://sts.eu-west-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261124%2Feu-west-1%2Fsts%2Faws4_request&X-Amz-Date=20261124T120000Z&X-Amz-Expires=60\
        &X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&X-Amz-Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn read(url: &[u8]) -> Result<PresignedUrl<'_>, Error> {
        PresignedUrl::read(url, &StsHosts::new(Partition::Aws))
    }

    #[test]
    fn no_byte_of_a_url_goes_unseen() {
        assert!(read(GOOD.as_bytes()).is_ok());
        for at in 0..=GOOD.len() {
            for byte in (0..=u8::MAX).filter(|byte| !is_url_byte(*byte) || *byte == b'#') {
                let mut url = GOOD.as_bytes().to_vec();
                url.insert(at, byte);
                let error = read(&url).map(|_| ()).unwrap_err();
                let expected = match byte {
                    b'#' if at < "https://".len() => Error::Scheme,
                    b'#' => Error::Authority,
                    _ => Error::UrlBytes,
                };
                assert_eq!(first_error(&url, error), expected, "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn the_query_is_what_was_received() {
        let mut text = String::new();
        token::encode(GOOD, &mut text).unwrap();
        let mut buffer = TokenBuffer::new();
        let url = PresignedUrl::parse(Token::decode(text.as_bytes(), &mut buffer).unwrap(), &StsHosts::new(Partition::Aws)).unwrap();
        assert_eq!(Some(url.query()), GOOD.split_once('?').map(|(_, query)| query));
    }

    proptest::proptest! {
        #[test]
        fn a_whole_url_is_judged_before_its_parts(at in 0_usize..GOOD.len(), byte in 0_u8..=255, other in 0_usize..GOOD.len(), another in 0_u8..=255) {
            let mut url: Vec<u8> = GOOD.as_bytes().to_vec();
            url[at] = byte;
            url[other] = another;
            let is_bad = |byte: &u8| !(0x21..=0x7E).contains(byte) || b"\"<>".contains(byte);
            let refused = read(&url).map(|_| ()).map_err(|error| first_error(&url, error));
            if url.iter().any(is_bad) {
                proptest::prop_assert_eq!(refused, Err(Error::UrlBytes));
            } else if !url[..8].eq_ignore_ascii_case(b"https://") {
                proptest::prop_assert_eq!(refused, Err(Error::Scheme));
            } else if url.contains(&b'#') {
                proptest::prop_assert_eq!(refused, Err(Error::Authority));
            } else {
                proptest::prop_assert_ne!(refused, Err(Error::UrlBytes));
            }
        }
    }
}
