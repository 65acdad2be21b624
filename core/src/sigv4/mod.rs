//! Signature Version 4 for one request: a presigned GetCallerIdentity.
//!
//! One writer makes the canonical request, for the hasher as for a reader; signing and verifying both use it.
//!
//! AWS: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

mod canonical;
mod feed;
mod key;
mod presign;

use core::fmt;

use subtle::ConstantTimeEq as _;

use crate::percent::Encoded;
use crate::{Error, StsRequest};

pub use self::canonical::{CanonicalRequest, StringToSign};
pub use self::key::SigningKey;
pub use self::presign::Presign;

/// How a request is signed. AWS also defines an asymmetric form, `AWS4-ECDSA-P256-SHA256`, with other parameters and no region in its scope;
/// it will be a variant here, and what depends on the algorithm is matched on it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// `AWS4-HMAC-SHA256`, with a key derived for a day, a region and a service.
    HmacSha256,
}

impl Algorithm {
    /// The value of X-Amz-Algorithm.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha256 => "AWS4-HMAC-SHA256",
        }
    }

    pub(crate) fn from_encoded(value: Encoded<'_>) -> Result<Self, Error> {
        if value.is(Self::HmacSha256.name()) { Ok(Self::HmacSha256) } else { Err(Error::Algorithm) }
    }
}

/// An HMAC-SHA-256 signature.
#[derive(Clone, Copy)]
pub(crate) struct Signature([u8; 32]);

impl Signature {
    pub(crate) const DIGITS: usize = 64;

    /// Whether these are lower-case hex digits.
    pub(crate) fn are_digits(digits: &[u8; Self::DIGITS]) -> bool {
        // Does not stop early, so that the compiler does many bytes at a time.
        digits.iter().fold(true, |good, digit| good & (digit.is_ascii_digit() | (b'a'..=b'f').contains(digit)))
    }

    /// The signature that these digits write, which were checked.
    pub(crate) fn from_digits(digits: &[u8; Self::DIGITS]) -> Self {
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            // Of each digit the low four bits, and nine more for a letter (0x61 and up).
            let pair = u16::from_be_bytes(*pair);
            let values = (pair & 0x0F0F).wrapping_add((pair >> 6 & 0x0101).wrapping_mul(9));
            let [_, value] = (values >> 4 | values).to_be_bytes();
            *byte = value;
        }
        Self(bytes)
    }

    /// Compares in the same time wherever the two differ.
    fn is(&self, expected: &[u8; 32]) -> bool {
        let words = |bytes: &[u8; 32]| -> [u64; 4] {
            let mut words = [0; 4];
            words.iter_mut().zip(bytes.as_chunks::<8>().0).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
            words
        };
        words(&self.0).ct_eq(&words(expected)).into()
    }
}

/// Bytes in lower-case hex, which is ASCII.
fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    let mut text = [0; 64];
    for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = [hex_digit(byte >> 4), hex_digit(byte & 15)];
    }
    text
}

const fn hex_digit(value: u8) -> u8 {
    if value < 10 { value.wrapping_add(b'0') } else { value.wrapping_sub(10).wrapping_add(b'a') }
}

/// The signature does not fit the request and the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadSignature;

impl BadSignature {
    /// The stable label for metrics, logs and programs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        "bad-signature"
    }
}

impl fmt::Display for BadSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the signature does not fit the token and its access key")
    }
}

impl core::error::Error for BadSignature {}

/// Checks the signature of a request. The key must be that of the request's access key id, day and region; the caller picks it.
///
/// The comparison takes the same time wherever the signatures differ.
///
/// # Errors
///
/// [`BadSignature`].
pub fn verify(request: &StsRequest<'_>, key: &SigningKey) -> Result<(), BadSignature> {
    match request.url().algorithm() {
        Algorithm::HmacSha256 => {
            let canonical = CanonicalRequest::of(request);
            let url = request.url();
            let text = StringToSign::new(url.signed_at(), url.host().region(), &canonical);
            let expected = text.sign(key);
            if url.signature().is(&expected) { Ok(()) } else { Err(BadSignature) }
        }
    }
}
