//! The presigned URL inside a token: grammar only.
//!
//! A [`PresignedUrl`] is known to be a GetCallerIdentity request to a host of ours, signed for that host's region, with a scope that fits
//! its date. Whether it is still fresh is for [`StsRequest`](crate::StsRequest), whether it is authentic for a prover.
//!
//! The grammar is so strict that no two URL parsers can differ on what passes: the very bytes that were checked are sent.

use core::{fmt, str};

use crate::Error;
use crate::endpoint::{StsHost, StsHosts};
use crate::limits::{ACCESS_KEY_ID_MAX_BYTES, ACCESS_KEY_ID_MIN_BYTES, EXPIRES_MAX_SECS};
use crate::param::{Decoded, Encoded, Param, Params};
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
    length: usize,
}

impl AccessKeyId {
    /// Reads an access key id.
    ///
    /// # Errors
    ///
    /// [`Error::AccessKey`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::collect(text.bytes())
    }

    fn collect(source: impl Iterator<Item = u8>) -> Result<Self, Error> {
        let mut id = Self { bytes: [0; ACCESS_KEY_ID_MAX_BYTES], length: 0 };
        for byte in source {
            if !byte.is_ascii_alphanumeric() && byte != b'_' {
                return Err(Error::AccessKey);
            }
            *id.bytes.get_mut(id.length).ok_or(Error::AccessKey)? = byte;
            id.length = id.length.saturating_add(1);
        }
        if id.length < ACCESS_KEY_ID_MIN_BYTES { Err(Error::AccessKey) } else { Ok(id) }
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|id| str::from_utf8(id).ok()).unwrap_or_default()
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
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(authority_end).ok_or(Error::Authority)?;
        if authority.contains(['@', ':']) || rest.contains('#') {
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
        let (access_key_id, scope) = split_credential(credential)?;
        let signed_at = parse_date(date)?;
        check_scope(scope, signed_at.day(), host.region())?;
        let signature = Signature::from_hex(signature.decoded())?;
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
    let bad = url.iter().fold(false, |bad, byte| bad | !(0x21..=0x7E).contains(byte) | matches!(byte, b'"' | b'<' | b'>'));
    if bad { Err(Error::UrlBytes) } else { str::from_utf8(url).map_err(|_| Error::UrlBytes) }
}

fn check_scheme(url: &str) -> Result<&str, Error> {
    let (scheme, rest) = url.split_at_checked(8).ok_or(Error::Scheme)?;
    if scheme.eq_ignore_ascii_case("https://") { Ok(rest) } else { Err(Error::Scheme) }
}

/// Exactly `host` and `x-k8s-aws-id`, in any order and case: we send no other header, so STS would refuse a request that signed more.
fn check_signed_headers(value: Encoded<'_>) -> Result<(), Error> {
    const EITHER_ORDER: [&str; 2] = ["host;x-k8s-aws-id", "x-k8s-aws-id;host"];
    let matches = |text: &&str| {
        let mut expected = text.bytes();
        value.decoded().all(|byte| expected.next().is_some_and(|e| e == byte.to_ascii_lowercase())) && expected.next().is_none()
    };
    if EITHER_ORDER.iter().any(matches) { Ok(()) } else { Err(Error::SignedHeaders) }
}

/// Splits `<access key id>/<scope>`.
fn split_credential(value: Encoded<'_>) -> Result<(AccessKeyId, Decoded<'_>), Error> {
    let mut rest = value.decoded();
    let id = AccessKeyId::collect(rest.by_ref().take_while(|byte| *byte != b'/'))?;
    Ok((id, rest))
}

/// Checks `<day>/<region>/sts/aws4_request`. A segment that is missing or too many counts against the place where it is.
fn check_scope(mut scope: Decoded<'_>, day: &str, region: &str) -> Result<(), Error> {
    let mut next_is = |expected: &str| {
        let mut expected = expected.bytes();
        // The segment is read to its end even where it differs, so that the next one starts at its slash.
        let same = scope.by_ref().take_while(|byte| *byte != b'/').fold(true, |same, byte| same & (expected.next() == Some(byte)));
        same && expected.next().is_none()
    };
    if !next_is(day) {
        return Err(Error::ScopeDate);
    }
    if !next_is(region) {
        return Err(Error::ScopeRegion);
    }
    if scope.eq(SCOPE_END.bytes()) { Ok(()) } else { Err(Error::ScopeService) }
}

/// How the scope of a request to STS ends.
pub(crate) const SCOPE_END: &str = "sts/aws4_request";

fn parse_date(value: Encoded<'_>) -> Result<AmzDate, Error> {
    let mut text = [0_u8; AmzDate::BYTES];
    let mut bytes = value.decoded();
    for slot in &mut text {
        *slot = bytes.next().ok_or(Error::DateForm)?;
    }
    if bytes.next().is_some() { Err(Error::DateForm) } else { AmzDate::parse(&text) }
}

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
