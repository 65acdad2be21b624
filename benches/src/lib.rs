//! What is measured, as plain functions: both runners (`time` by criterion, `instructions` by callgrind) call these.
//!
//! Names are `module/operation/case`. Each function's answer is asserted once, by the tests below.

use std::fmt::Write as _;

use arngate_core::endpoint::Fips;
use arngate_core::sigv4::{BadSignature, Presign, SigningKey, verify};
use arngate_core::time::AmzDate;
use arngate_core::{
    ClusterId, Error, Partition, Policy, PresignedUrl, StsHost, StsHosts, StsRequest, Token, TokenBuffer, UnixSeconds, token,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// 2026-11-24T12:00:00Z, when all tokens here are signed and checked.
pub const NOW: UnixSeconds = UnixSeconds::new(1_795_521_600);
const CLUSTER: &str = "bench.example.com";
const REGION: &str = "eu-west-1";
const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// A token, the key that signed it, and the policy that takes it.
#[derive(Debug)]
pub struct Case {
    /// The bearer token.
    pub token: String,
    /// The key that its signature fits.
    pub key: SigningKey,
    canonical_bytes: usize,
}

/// What a token needs to be judged.
fn policy() -> Policy<'static> {
    // The id is a constant that is one.
    ClusterId::parse(CLUSTER).map(Policy::new).unwrap_or_else(|error| unreachable!("{error}"))
}

impl Case {
    /// A token of long-lived keys, about 500 bytes: what kubectl sends for an IAM user.
    #[must_use]
    pub fn key_500() -> Self {
        Self::new(None)
    }

    /// A token with a session token, about 1.8 kB: what kubectl sends for a role.
    #[must_use]
    pub fn session_1k8() -> Self {
        // As AWS makes them: base64, so with characters that the query escapes.
        let session_token: String = (0..896_u32)
            .map(|i| char::from(b"IQoJb3JpZ2luX2Vj/+ABCDEFGHIJKLMNOPabcdefghijklmnopqrstuvw0123456789"[(i * 31 % 67) as usize]))
            .collect();
        Self::new(Some(&session_token))
    }

    fn new(session_token: Option<&str>) -> Self {
        let build = || -> Option<Self> {
            let date = AmzDate::from_unix(NOW)?;
            let key = SigningKey::derive(SECRET, date.day(), REGION);
            let presign = Presign {
                host: StsHost::regional(Partition::Aws, REGION, Fips::No).ok()?,
                access_key_id: if session_token.is_some() { "ASIAIOSFODNN7EXAMPLE" } else { "AKIAIOSFODNN7EXAMPLE" },
                session_token,
                cluster_id: policy().cluster_id,
                date,
                expires_secs: 60,
            };
            let (mut url, mut text) = (String::new(), String::new());
            presign.write_url(&key, &mut url).ok()?;
            token::encode(&url, &mut text).ok()?;
            let mut case = Self { token: text, key, canonical_bytes: 0 };
            let mut buffer = TokenBuffer::new();
            let mut canonical = String::new();
            write!(canonical, "{}", arngate_core::sigv4::CanonicalRequest::of(&case.check(&mut buffer).ok()?)).ok()?;
            case.canonical_bytes = canonical.len();
            Some(case)
        };
        build().unwrap_or_else(|| unreachable!("made of constants"))
    }

    /// `token/decode`: strict base64url.
    ///
    /// # Errors
    ///
    /// The core's.
    pub fn decode<'a>(&self, buffer: &'a mut TokenBuffer) -> Result<Token<'a>, Error> {
        Token::decode(self.token.as_bytes(), buffer)
    }

    /// `request/check`: decode, grammar, freshness.
    ///
    /// # Errors
    ///
    /// The core's.
    pub fn check<'a>(&self, buffer: &'a mut TokenBuffer) -> Result<StsRequest<'a>, Error> {
        let url = PresignedUrl::parse(self.decode(buffer)?, &StsHosts::new(Partition::Aws))?;
        StsRequest::check(url, &policy(), NOW)
    }

    /// `sigv4/verify`: all of it, from the text of the token to the verdict on its signature.
    ///
    /// # Errors
    ///
    /// The core's refusal, or that the signature does not fit.
    pub fn verify(&self, buffer: &mut TokenBuffer) -> Result<Result<(), BadSignature>, Error> {
        self.check(buffer).map(|request| verify(&request, &self.key))
    }

    /// `floor/verify`: the same bytes decoded and hashed, and the MAC with the key at hand; nothing looked at.
    #[must_use]
    pub fn floor(&self, buffer: &mut [u8; 4096]) -> [u8; 32] {
        let encoded = self.token.as_bytes().get(token::PREFIX.len()..).unwrap_or_default();
        let decoded = URL_SAFE_NO_PAD.decode_slice(encoded, buffer.as_mut_slice());
        assert!(decoded.is_ok(), "a token is base64url");
        let bytes = buffer.get(..self.canonical_bytes).unwrap_or_default();
        let hash = Sha256::digest(bytes);
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&*self.key.to_bytes()) else { return [0; 32] };
        // A string to sign has 119 bytes for this region; the hash's hex is 64 of them.
        mac.chain_update([b'x'; 55]).chain_update(hash).chain_update(hash).finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_have_the_size_that_their_names_say_and_verify() {
        for (case, least, most) in [(Case::key_500(), 450, 650), (Case::session_1k8(), 1700, 1900)] {
            assert!((least..=most).contains(&case.token.len()), "{}", case.token.len());
            assert_eq!(case.verify(&mut TokenBuffer::new()), Ok(Ok(())));
            assert_ne!(case.floor(&mut [0; 4096]), [0; 32]);
        }
    }
}
