//! Signing: the client's half.

use core::{fmt, str};

use super::{Algorithm, CanonicalRequest, SigningKey, StringToSign, hex};
use crate::endpoint::StsHost;
use crate::limits::ACCESS_KEY_ID_MAX_BYTES;
use crate::param::{Param, write_query};
use crate::presigned::{ACTION, SCOPE_END, VERSION};
use crate::request::ClusterId;
use crate::time::AmzDate;

const SIGNED_HEADERS: &str = "host;x-k8s-aws-id";

/// A request to be presigned.
///
/// With the same inputs it gives the reference's bytes: signing is deterministic, and the order of the query is the sorted one, the signature last.
#[derive(Clone, Copy)]
pub struct Presign<'a> {
    /// Where it is for; its region is the scope's.
    pub host: StsHost<'a>,
    /// Whose key signs.
    pub access_key_id: &'a str,
    /// What goes with temporary credentials.
    pub session_token: Option<&'a str>,
    /// The cluster, signed as a header.
    pub cluster_id: ClusterId<'a>,
    /// When it is signed.
    pub date: AmzDate,
    /// X-Amz-Expires, in seconds. STS ignores it; the reference sends 60.
    pub expires_secs: u16,
}

impl Presign<'_> {
    /// Writes the presigned URL. The key must be the one derived for the date's day and the host's region.
    ///
    /// # Errors
    ///
    /// Those of `out`, and [`fmt::Error`] where the access key id is longer than any that a verifier takes.
    pub fn write_url(&self, key: &SigningKey, out: &mut impl fmt::Write) -> fmt::Result {
        let mut credential = Text::<{ ACCESS_KEY_ID_MAX_BYTES + 64 }>::new();
        for piece in [self.access_key_id, "/", self.date.day(), "/", self.host.region(), "/", SCOPE_END] {
            fmt::Write::write_str(&mut credential, piece)?;
        }
        let mut expires = Text::<5>::new();
        fmt::Write::write_fmt(&mut expires, format_args!("{}", self.expires_secs))?;

        let mut pairs = [
            (Param::Action, ACTION),
            (Param::Version, VERSION),
            (Param::Algorithm, Algorithm::HmacSha256.name()),
            (Param::Credential, credential.as_str()),
            (Param::Date, self.date.as_str()),
            (Param::Expires, expires.as_str()),
            (Param::SignedHeaders, SIGNED_HEADERS),
            (Param::SignedHeaders, SIGNED_HEADERS),
        ];
        let pairs = match self.session_token {
            Some(token) => {
                let [.., slot, _] = &mut pairs;
                *slot = (Param::SecurityToken, token);
                pairs.as_slice()
            }
            None => pairs.split_last().map_or(&[][..], |(_, pairs)| pairs),
        };
        let canonical = CanonicalRequest::ours(&self.host, self.cluster_id, pairs);
        let signature = StringToSign::new(self.date, self.host.region(), &canonical).sign(key);

        write!(out, "https://{}/?", self.host)?;
        write_query(pairs.iter().copied(), out)?;
        out.write_str("&")?;
        out.write_str(Param::Signature.name())?;
        out.write_str("=")?;
        out.write_str(str::from_utf8(&hex(&signature)).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Presign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presign")
            .field("host", &format_args!("{}", self.host))
            .field("access_key_id", &self.access_key_id)
            .field("cluster_id", &self.cluster_id)
            .field("date", &self.date)
            .finish_non_exhaustive()
    }
}

/// A short text on the stack.
struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length.saturating_add(text.len());
        let place = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
