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
use crate::param::{Encoded, Param, Params};
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
        Self::from_bytes(text.as_bytes())
    }

    fn from_bytes(text: &[u8]) -> Result<Self, Error> {
        let mut bytes = [0; ACCESS_KEY_ID_MAX_BYTES];
        if text.len() < ACCESS_KEY_ID_MIN_BYTES || !text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return Err(Error::AccessKey);
        }
        bytes.get_mut(..text.len()).ok_or(Error::AccessKey)?.copy_from_slice(text);
        Ok(Self { bytes, length: u8::try_from(text.len()).map_err(|_| Error::AccessKey)? })
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
    query: &'a str,
    params: Params<'a>,
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
        let url = check_bytes(token.url_bytes())?;
        let rest = check_scheme(url)?;
        let authority_end = rest.bytes().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(authority_end).ok_or(Error::Authority)?;
        if authority.bytes().any(|byte| matches!(byte, b'@' | b':')) || rest.contains('#') {
            return Err(Error::Authority);
        }
        let query = match rest.strip_prefix('/') {
            Some("") => "",
            Some(rest) => rest.strip_prefix('?').ok_or(Error::Path)?,
            None => return Err(Error::Path),
        };
        let host = hosts.judge(authority)?;

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
        let signed_at = || date.to_array().ok_or(Error::DateForm).and_then(|date: [u8; AmzDate::BYTES]| AmzDate::parse(&date));
        let (access_key_id, signed_at) = match usual_credential(credential, host.region()) {
            Some((id, day)) => {
                let (id, date) = (AccessKeyId::parse(id)?, signed_at()?);
                if day == date.day() { (id, date) } else { return Err(Error::ScopeDate) }
            }
            None => {
                let mut room = [0; CREDENTIAL_ROOM_BYTES];
                let mut segments = credential.decode_into(&mut room).split(|byte| *byte == b'/');
                let id = AccessKeyId::from_bytes(segments.next().unwrap_or_default())?;
                let date = signed_at()?;
                check_scope(segments, date.day(), host.region())?;
                (id, date)
            }
        };
        let signature = signature.to_array().ok_or(Error::SignatureForm).and_then(|digits| Signature::from_hex(&digits))?;
        let expires_secs = parse_expires(expires)?;
        Ok(Self { host, query, params, algorithm, access_key_id, signed_at, expires_secs, signature })
    }

    /// The host that it is for.
    #[must_use]
    pub const fn host(&self) -> StsHost<'a> {
        self.host
    }

    /// The query as received: what is sent to STS, byte for byte.
    #[must_use]
    pub const fn query(&self) -> &'a str {
        self.query
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
    pub fn has_session_token(&self) -> bool {
        self.params.find(Param::SecurityToken).is_some()
    }

    pub(crate) const fn params(&self) -> &Params<'a> {
        &self.params
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

fn check_bytes(url: &[u8]) -> Result<&str, Error> {
    // Without an early exit the compiler does 16 bytes at a time.
    let bad = url.iter().fold(0_u8, |bad, byte| {
        bad | u8::from(byte.wrapping_sub(0x21) > 0x7E - 0x21) | u8::from(*byte == b'"') | u8::from(*byte | 2 == b'>')
    });
    if bad != 0 { Err(Error::UrlBytes) } else { str::from_utf8(url).map_err(|_| Error::UrlBytes) }
}

fn check_scheme(url: &str) -> Result<&str, Error> {
    let (scheme, rest) = url.split_at_checked(8).ok_or(Error::Scheme)?;
    if scheme.eq_ignore_ascii_case("https://") { Ok(rest) } else { Err(Error::Scheme) }
}

/// Exactly `host` and `x-k8s-aws-id`, in any order and case: we send no other header, so STS would refuse a request that signed more.
fn check_signed_headers(value: Encoded<'_>) -> Result<(), Error> {
    if value.canonical_text() == Some("host%3Bx-k8s-aws-id") {
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
fn usual_credential<'a>(credential: Encoded<'a>, region: &str) -> Option<(&'a str, &'a str)> {
    const SLASH: &str = "%2F";
    let text = credential.canonical_text()?;
    let text = text.strip_suffix("%2Fsts%2Faws4_request")?.strip_suffix(region)?.strip_suffix(SLASH)?;
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
