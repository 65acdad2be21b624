//! The proof that a URL may be sent to STS: fresh, and bound to our cluster.

use core::fmt;

use crate::Error;
use crate::limits::{CLUSTER_ID_MAX_BYTES, DEFAULT_MAX_AHEAD_SECS, TOKEN_LIFETIME_SECS};
use crate::presigned::PresignedUrl;
use crate::time::UnixSeconds;

/// The id of a cluster, fit to be the value of the header [`x-k8s-aws-id`](crate::presigned::CLUSTER_ID_HEADER).
///
/// # Syntax
///
/// ```text
/// cluster-id = 1*256( %x20-7E )      ; not blanks alone
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClusterId<'a> {
    text: &'a str,
    /// Whether it is signed as it is.
    is_canonical: bool,
}

impl<'a> ClusterId<'a> {
    /// Reads a cluster id.
    ///
    /// # Errors
    ///
    /// [`ClusterIdError`] says which rule it breaks.
    pub fn parse(id: &'a str) -> Result<Self, ClusterIdError> {
        if id.bytes().all(|byte| byte == b' ') {
            Err(ClusterIdError::Empty)
        } else if id.len() > CLUSTER_ID_MAX_BYTES {
            Err(ClusterIdError::TooLong)
        } else if !id.bytes().all(|byte| (0x20..=0x7E).contains(&byte)) {
            Err(ClusterIdError::Bytes)
        } else {
            let is_canonical = !id.starts_with(' ') && !id.ends_with(' ') && !id.contains("  ");
            Ok(Self { text: id, is_canonical })
        }
    }

    /// The id.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// Writes it as it is signed: without blanks at its ends, and one where there are several in a row.
    ///
    /// AWS: `Trim` in <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html#create-canonical-request>;
    /// all signers in the vectors do the same.
    pub(crate) fn write_canonical(&self, out: &mut impl fmt::Write) -> fmt::Result {
        if self.is_canonical {
            return out.write_str(self.text);
        }
        let mut separator = "";
        for word in self.text.split(' ').filter(|word| !word.is_empty()) {
            out.write_str(separator)?;
            out.write_str(word)?;
            separator = " ";
        }
        Ok(())
    }
}

/// Why a text is no cluster id.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClusterIdError {
    /// A control character or a byte outside ASCII.
    Bytes,
    /// Nothing, or blanks alone.
    Empty,
    /// Longer than [`CLUSTER_ID_MAX_BYTES`].
    TooLong,
}

impl fmt::Display for ClusterIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "the cluster ID has a control character or one outside ASCII, which no HTTP header can carry",
            Self::Empty => "the cluster ID is empty",
            Self::TooLong => "the cluster ID is longer than 256 bytes",
        })
    }
}

impl core::error::Error for ClusterIdError {}

/// What a verifier asks of a token beyond its grammar.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The cluster that the token must be for.
    pub cluster_id: ClusterId<'a>,
    /// How far ahead of our clock X-Amz-Date may lie, in seconds.
    pub max_ahead_secs: u32,
}

impl<'a> Policy<'a> {
    /// The policy of a cluster with the usual tolerance, [`DEFAULT_MAX_AHEAD_SECS`].
    #[must_use]
    pub const fn new(cluster_id: ClusterId<'a>) -> Self {
        Self { cluster_id, max_ahead_secs: DEFAULT_MAX_AHEAD_SECS }
    }
}

/// A request that may be sent to STS, or checked with a signing key. There is no other way to get one than [`check`](Self::check).
#[derive(Clone, Copy, Debug)]
pub struct StsRequest<'a> {
    url: PresignedUrl<'a>,
    cluster_id: ClusterId<'a>,
}

impl<'a> StsRequest<'a> {
    /// Checks that `url` is fresh at `now`, and binds it to the policy's cluster.
    ///
    /// A token lives for 15 minutes from X-Amz-Date, the 900th second included, whatever X-Amz-Expires says: clients send 60, Terraform
    /// sends 0, and STS ignores it.
    ///
    /// # Errors
    ///
    /// [`Error::Expired`] and [`Error::Future`].
    pub fn check(url: PresignedUrl<'a>, policy: &Policy<'a>, now: UnixSeconds) -> Result<Self, Error> {
        let request = Self { url, cluster_id: policy.cluster_id };
        if now > request.ends_at() {
            return Err(Error::Expired);
        }
        if url.signed_at().unix() > now.saturating_add(i64::from(policy.max_ahead_secs)) {
            return Err(Error::Future);
        }
        Ok(request)
    }

    /// The URL.
    #[must_use]
    pub const fn url(&self) -> &PresignedUrl<'a> {
        &self.url
    }

    /// The cluster.
    #[must_use]
    pub const fn cluster_id(&self) -> ClusterId<'a> {
        self.cluster_id
    }

    /// The last second of the token's life: X-Amz-Date and 15 minutes.
    #[must_use]
    pub fn ends_at(&self) -> UnixSeconds {
        self.url.signed_at().unix().saturating_add(i64::from(TOKEN_LIFETIME_SECS))
    }
}
