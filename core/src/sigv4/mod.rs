//! Signature Version 4 for one request: a presigned GetCallerIdentity.
//!
//! One writer makes the canonical request, for the hasher as for a reader; signing and verifying both use it.
//!
//! AWS: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

mod canonical;
mod key;
mod presign;

use core::{fmt, str};

use subtle::ConstantTimeEq as _;

use crate::param::Encoded;
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
    /// Reads 64 lower-case hex digits.
    pub(crate) fn from_hex(digits: &[u8; 64]) -> Result<Self, Error> {
        // Neither loop stops early, so that the compiler does many bytes at a time.
        let good = digits.iter().fold(true, |good, digit| good & (digit.is_ascii_digit() | (b'a'..=b'f').contains(digit)));
        if !good {
            return Err(Error::SignatureForm);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            if let [high, low] = pair {
                *byte = hex_value(*high).wrapping_shl(4) | hex_value(*low);
            }
        }
        Ok(Self(bytes))
    }
}

/// The value of a digit known to be one: the low four bits, and nine more for a letter (0x61 and up).
const fn hex_value(digit: u8) -> u8 {
    (digit & 15).wrapping_add((digit >> 6).wrapping_mul(9))
}

/// Writes bytes as lower-case hex.
fn write_hex(bytes: &[u8; 32], out: &mut impl fmt::Write) -> fmt::Result {
    let mut text = [0_u8; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            *high = hex_digit(byte >> 4);
            *low = hex_digit(byte & 15);
        }
    }
    out.write_str(str::from_utf8(&text).unwrap_or_default())
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
            if bool::from(expected.ct_eq(&url.signature().0)) { Ok(()) } else { Err(BadSignature) }
        }
    }
}
