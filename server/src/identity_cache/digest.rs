//! The name under which an identity is kept: a keyed digest of what was proved, never the token itself.
//!
//! ```text
//! HMAC-SHA-256(random key of this process, length(cluster id) ‖ cluster id ‖ policy generation ‖ token)
//! ```
//!
//! A memory dump then holds no bearer token, and nobody outside can choose tokens that collide or crowd one shard. Two tokens with one digest would be
//! one identity, so the hash is a cryptographic one: finding two such tokens without the key means breaking HMAC (RFC 2104).

use std::fmt;
use std::hash::{Hash, Hasher};

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::crypto::ring;
use sha2::Sha256;
use zeroize::Zeroizing;

/// A digest of cluster, policy generation and token.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Digest([u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (first, _) = self.0.split_first_chunk().expect("32 bytes have a first 8");
        state.write_u64(u64::from_ne_bytes(*first));
    }
}

/// The system gives no random numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the system has no random numbers")]
pub struct NoRandom;

/// Makes the digests of one cluster.
#[derive(Clone)]
pub struct Digester(Hmac<Sha256>);

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester(..)")
    }
}

impl Digester {
    /// Under a random key that nobody else ever sees.
    ///
    /// # Errors
    ///
    /// [`NoRandom`].
    pub fn new(cluster_id: &str) -> Result<Self, NoRandom> {
        let mut key = Zeroizing::new([0_u8; 32]);
        ring::default_provider().secure_random.fill(&mut *key).map_err(|_| NoRandom)?;
        Ok(Self::with_key(&key, cluster_id))
    }

    fn with_key(key: &[u8; 32], cluster_id: &str) -> Self {
        let mut keyed = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        keyed.update(&u64::try_from(cluster_id.len()).unwrap_or(u64::MAX).to_be_bytes());
        keyed.update(cluster_id.as_bytes());
        Self(keyed)
    }

    /// The digest of a token, as it came, under a policy generation.
    #[must_use]
    pub fn digest(&self, generation: u64, token: &[u8]) -> Digest {
        let mut keyed = self.0.clone();
        keyed.update(&generation.to_be_bytes());
        keyed.update(token);
        Digest(keyed.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_on_key_cluster_generation_and_token() {
        let of = |key: u8, cluster, generation, token: &[u8]| Digester::with_key(&[key; 32], cluster).digest(generation, token);
        let digest = of(1, "prod", 0, b"token");
        assert_eq!(digest, of(1, "prod", 0, b"token"));
        for (other, what) in [
            (of(2, "prod", 0, b"token"), "key"),
            (of(1, "prod2", 0, b"token"), "cluster"),
            (of(1, "prod", 1, b"token"), "generation"),
            (of(1, "prod", 0, b"tokem"), "token"),
            (of(1, "prod", 0, b""), "empty token"),
        ] {
            assert_ne!(digest, other, "{what}");
        }
        let zeros = [0_u8; 8];
        assert_ne!(of(1, "a", 0, b"b"), of(1, "a\0\0\0\0\0\0\0\0b", 0, b""), "the cluster's length counts");
        assert_ne!(of(1, "a", 0, &zeros), of(1, "a", 0, b""));
    }

    #[test]
    fn is_hmac_sha_256_of_its_parts() {
        use hmac::Mac as _;
        let mut expected = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
        expected.update(b"\0\0\0\0\0\0\0\x04prod\0\0\0\0\0\0\0\x05k8s-aws-v1.x");
        let digest = Digester::with_key(&[7; 32], "prod").digest(5, b"k8s-aws-v1.x");
        assert_eq!(digest.0, <[u8; 32]>::from(expected.finalize().into_bytes()));
    }

    #[test]
    fn two_processes_share_no_digest() {
        let (one, other) = (Digester::new("prod").unwrap(), Digester::new("prod").unwrap());
        assert_ne!(one.digest(0, b"token"), other.digest(0, b"token"));
    }
}
