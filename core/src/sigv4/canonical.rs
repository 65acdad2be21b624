//! The canonical request and the string to sign.

use core::fmt;

use sha2::{Digest as _, Sha256};

use super::{Algorithm, SigningKey, write_hex};
use crate::endpoint::StsHost;
use crate::param::{Param, Params, write_query};
use crate::presigned::{CLUSTER_ID_HEADER, SCOPE_END};
use crate::request::{ClusterId, StsRequest};
use crate::time::AmzDate;

/// SHA-256 of nothing: the payload of a GET. Not `UNSIGNED-PAYLOAD`, which is for S3.
const EMPTY_PAYLOAD_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A canonical request. Its `Display` is the text that AWS documents; the hash is made of the same writes.
///
/// Headers are sorted and lower-case, whatever the spelling in X-Amz-SignedHeaders: that is what AWS defines, and what it computes from
/// the headers that it receives. The query keeps the received spelling of names, and each value is decoded and encoded anew.
#[derive(Clone, Copy)]
pub struct CanonicalRequest<'a> {
    host: StsHost<'a>,
    cluster_id: ClusterId<'a>,
    query: Query<'a>,
}

#[derive(Clone, Copy)]
enum Query<'a> {
    Received(&'a Params<'a>),
    /// Values by key, in the keys' order.
    Ours(&'a [(Param, &'a str)]),
}

impl Query<'_> {
    fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::Received(params) => params.write_canonical(out),
            Self::Ours(pairs) => write_query(pairs.iter().copied(), out),
        }
    }
}

impl<'a> CanonicalRequest<'a> {
    /// The canonical form of a received request.
    #[must_use]
    pub const fn of(request: &'a StsRequest<'_>) -> Self {
        let url = request.url();
        Self { host: url.host(), cluster_id: request.cluster_id(), query: Query::Received(url.params()) }
    }

    /// The canonical form of a request of ours; `pairs` stand in the order of their keys.
    pub(super) const fn ours(host: StsHost<'a>, cluster_id: ClusterId<'a>, pairs: &'a [(Param, &'a str)]) -> Self {
        Self { host, cluster_id, query: Query::Ours(pairs) }
    }

    pub(super) fn write_query(&self, out: &mut impl fmt::Write) -> fmt::Result {
        self.query.write_to(out)
    }

    fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        out.write_str("GET\n/\n")?;
        self.query.write_to(out)?;
        write!(out, "\nhost:{}\n", self.host)?;
        out.write_str(CLUSTER_ID_HEADER)?;
        out.write_str(":")?;
        self.cluster_id.write_canonical(out)?;
        out.write_str("\n\nhost;")?;
        out.write_str(CLUSTER_ID_HEADER)?;
        out.write_str("\n")?;
        out.write_str(EMPTY_PAYLOAD_SHA256)
    }

    fn sha256(&self) -> [u8; 32] {
        let mut hasher = Hasher(Sha256::new());
        // A hasher takes whatever is written.
        let _ = self.write_to(&mut hasher);
        hasher.0.finalize().into()
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

struct Hasher(Sha256);

impl fmt::Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
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
        key.mac(|mac| {
            // A MAC takes whatever is written.
            let _ = self.write_to(&mut MacWriter(mac));
        })
    }

    fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        out.write_str(Algorithm::HmacSha256.name())?;
        for piece in ["\n", self.date.as_str(), "\n", self.date.day(), "/", self.region, "/", SCOPE_END, "\n"] {
            out.write_str(piece)?;
        }
        write_hex(&self.request_sha256, out)
    }
}

impl fmt::Display for StringToSign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

struct MacWriter<'m, M>(&'m mut M);

impl<M: hmac::Mac> fmt::Write for MacWriter<'_, M> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
