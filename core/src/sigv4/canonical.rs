//! The canonical request and the string to sign.

use core::fmt;

use hmac::Mac as _;
use sha2::{Digest as _, Sha256};

use super::feed::feed;
use super::{Algorithm, SigningKey, hex};
use crate::endpoint::StsHost;
use crate::param::{Param, SignedQuery, write_query};
use crate::percent::WriteAscii;
use crate::request::{ClusterId, StsRequest};
use crate::time::AmzDate;

/// A canonical request. Its `Display` is the text that AWS documents; the hash is made of the same writes.
///
/// Headers are sorted and lower-case, whatever the spelling in X-Amz-SignedHeaders: that is what AWS defines, and what it computes from
/// the headers that it receives. The query keeps the received spelling of names, and each value is decoded and encoded anew.
#[derive(Clone, Copy)]
pub struct CanonicalRequest<'a> {
    host: &'a StsHost<'a>,
    cluster_id: ClusterId<'a>,
    query: Query<'a>,
}

#[derive(Clone, Copy)]
enum Query<'a> {
    Received(SignedQuery<'a>),
    /// Values by key, in the keys' order.
    Ours(&'a [(Param, &'a str)]),
}

impl Query<'_> {
    fn write_to(&self, out: &mut impl WriteAscii) -> fmt::Result {
        match self {
            Self::Received(query) => query.write_canonical(out),
            Self::Ours(pairs) => write_query(pairs.iter().copied(), out),
        }
    }
}

impl<'a> CanonicalRequest<'a> {
    /// The canonical form of a received request.
    #[must_use]
    pub const fn of(request: &'a StsRequest<'_>) -> Self {
        let url = request.url();
        Self { host: url.host_ref(), cluster_id: request.cluster_id(), query: Query::Received(url.signed_query()) }
    }

    /// The canonical form of a request of ours; `pairs` stand in the order of their keys.
    pub(super) const fn ours(host: &'a StsHost<'a>, cluster_id: ClusterId<'a>, pairs: &'a [(Param, &'a str)]) -> Self {
        Self { host, cluster_id, query: Query::Ours(pairs) }
    }

    fn write_to(&self, out: &mut impl WriteAscii) -> fmt::Result {
        out.write_str("GET\n/\n")?;
        self.query.write_to(out)?;
        out.write_str("\nhost:")?;
        self.host.write_to(out)?;
        out.write_str("\nx-k8s-aws-id:")?;
        self.cluster_id.write_canonical(out)?;
        // SHA-256 of nothing ends it: the payload of a GET. Not `UNSIGNED-PAYLOAD`, which is for S3.
        out.write_str("\n\nhost;x-k8s-aws-id\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    }

    fn sha256(&self) -> [u8; 32] {
        feed(Sha256::new, |out| self.write_to(out)).finalize().into()
    }
}

impl fmt::Display for CanonicalRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

impl fmt::Debug for CanonicalRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query may hold a session token.
        f.write_str("CanonicalRequest(..)")
    }
}

/// The string that is signed. Its `Display` is the text that AWS documents.
#[derive(Clone, Copy, Debug)]
pub struct StringToSign<'a> {
    date: AmzDate,
    region: &'a str,
    request_sha256: [u8; 32],
}

impl<'a> StringToSign<'a> {
    /// The string for a request signed at `date` for `region`.
    #[must_use]
    pub fn new(date: AmzDate, region: &'a str, request: &CanonicalRequest<'_>) -> Self {
        Self { date, region, request_sha256: request.sha256() }
    }

    pub(super) fn sign(&self, key: &SigningKey) -> [u8; 32] {
        feed(|| key.mac(), |out| self.write_to(out)).finalize().into_bytes().into()
    }

    fn write_to(&self, out: &mut impl WriteAscii) -> fmt::Result {
        out.write_str(Algorithm::HmacSha256.name())?;
        out.write_str("\n")?;
        out.write_ascii(self.date.as_bytes())?;
        out.write_str("\n")?;
        out.write_ascii(self.date.day_bytes())?;
        out.write_str("/")?;
        out.write_str(self.region)?;
        out.write_str("/sts/aws4_request\n")?;
        out.write_ascii(&hex(&self.request_sha256))
    }
}

impl fmt::Display for StringToSign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}
