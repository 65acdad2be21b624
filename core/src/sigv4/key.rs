//! Keys, and the HMAC that derives and uses them.

use core::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of a block of SHA-256, to which HMAC pads its key (RFC 2104 section 2).
const BLOCK_BYTES: usize = 64;

/// A signing key, derived for one UTC day, one region and the service `sts`. Overwritten when dropped.
///
/// AWS: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html#derive-signing-key>.
///
/// Kept as HMAC takes it, padded to a block, so that no use of it leaves or has to clear a copy.
#[derive(Clone, Eq, PartialEq)]
pub struct SigningKey([u8; BLOCK_BYTES]);

impl SigningKey {
    /// Derives a key from a secret access key.
    ///
    /// `day` is `YYYYMMDD`, as [`AmzDate::day`](crate::time::AmzDate::day) gives it.
    #[must_use]
    pub fn derive(secret: &[u8], day: &str, region: &str) -> Self {
        let mut root = Self([0; BLOCK_BYTES]);
        let (prefix, rest) = root.0.split_at_mut(4);
        prefix.copy_from_slice(b"AWS4");
        if let Some(place) = rest.get_mut(..secret.len()) {
            place.copy_from_slice(secret);
        } else {
            // Longer than a block: HMAC takes the hash of the key instead (RFC 2104). Secrets of AWS have 40 characters.
            let hash = Sha256::new().chain_update(b"AWS4").chain_update(secret).finalize();
            root = Self::from_bytes(hash.into());
        }
        [day, region, "sts", "aws4_request"].into_iter().fold(root, |key, part| key.child(part.as_bytes()))
    }

    /// A key that was derived elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(padded(bytes))
    }

    /// The bytes, to be written where keys are kept.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(self.0.split_at(32).0);
        bytes
    }

    /// An HMAC-SHA-256 under this key.
    pub(super) fn mac(&self) -> Hmac<Sha256> {
        // A key of a block's length is taken as it is, so there is no length to be wrong.
        Hmac::new((&self.0).into())
    }

    /// The key that is the MAC of `part` under this one.
    fn child(&self, part: &[u8]) -> Self {
        Self::from_bytes(self.mac().chain_update(part).finalize().into_bytes().into())
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

const fn padded(key: [u8; 32]) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    block.split_at_mut(32).0.copy_from_slice(&key);
    block
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;

    use super::*;

    #[test]
    fn derives_what_aws_documents() {
        // https://docs.aws.amazon.com/general/latest/gr/signature-v4-examples.html, with the service of the example exchanged for sts
        // by an independent implementation (Python hmac): four chained HMACs.
        let key = SigningKey::derive(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1");
        let hex = key.to_bytes().iter().fold(std::string::String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(hex, "a9d028e9e96178f3ed6acfa66eff308447119de7ba1dd1dc7b666bbcb5686dfd");
    }

    #[test]
    fn takes_a_secret_that_is_longer_than_a_block() {
        let key = SigningKey::derive(&[b'x'; 200], "20150830", "us-east-1");
        let hex = key.to_bytes().iter().fold(std::string::String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(hex, "3b47929723884f8dc1fd8770b0eae4bd47d50df30ef68c7e59e2fdf3040108d4");
    }

    #[test]
    fn debug_hides_the_key() {
        assert_eq!(format!("{:?}", SigningKey::from_bytes([7; 32])), "SigningKey(..)");
    }
}
