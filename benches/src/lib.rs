//! What is measured, as plain functions, which all runners call: `time` (criterion), `ratio`, and the program `instructions`
//! (callgrind). README.md tells what each is for.
//!
//! Names are `module/operation/case`. Each function's answer is asserted once, by the tests below.

#[cfg(feature = "server")]
pub mod hit;
#[cfg(feature = "server")]
pub mod identity;

use std::fmt;

use arngate_core::endpoint::Fips;
use arngate_core::sigv4::{BadSignature, CanonicalRequest, Presign, SigningKey, StringToSign, verify};
use arngate_core::time::AmzDate;
use arngate_core::{
    ClusterId, Error, Partition, Policy, PresignedUrl, StsHost, StsHosts, StsRequest, Token, TokenBuffer, UnixSeconds, base64url, token,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// 2026-11-24T12:00:00Z, when all tokens here are signed and checked.
pub const NOW: UnixSeconds = UnixSeconds::new(1_795_521_600);

/// A token, the key that signed it, and the policy that takes it.
#[derive(Debug)]
pub struct Case {
    /// The bearer token.
    pub token: String,
    /// The key that its signature fits.
    pub key: SigningKey,
    session_token: Option<String>,
    /// What takes it: made once for a cluster, so its making is no part of a verification.
    policy: Policy<'static>,
    /// What a verification hashes, in bytes: the canonical request.
    canonical_bytes: usize,
    /// And what it puts into the MAC: the string to sign.
    to_sign_bytes: usize,
}

/// `sigv4/derive`: the four MACs from a secret to the key of a day and a region.
#[must_use]
pub fn derive() -> SigningKey {
    SigningKey::derive(Case::SECRET.as_bytes(), Case::DAY, Case::REGION)
}

fn policy() -> Policy<'static> {
    // The id is a constant that is one.
    ClusterId::parse(Case::CLUSTER).map(Policy::new).unwrap_or_else(|error| unreachable!("{error}"))
}

impl Case {
    /// The cluster that tokens are for.
    pub const CLUSTER: &str = "bench.example.com";
    /// The day on which they are signed.
    pub const DAY: &str = "20261124";
    /// The region that they are signed for.
    pub const REGION: &str = "eu-west-1";
    /// The secret that they are signed with: that of AWS' documentation.
    pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

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
            let (key, session_token) = (derive(), session_token.map(String::from));
            let mut case = Self { token: String::new(), key, session_token, policy: policy(), canonical_bytes: 0, to_sign_bytes: 0 };
            let mut url = String::new();
            case.presign(&mut url).ok()?;
            token::encode(&url, &mut case.token).ok()?;
            let mut buffer = TokenBuffer::new();
            let request = case.check(&mut buffer).ok()?;
            let canonical = CanonicalRequest::of(&request);
            let to_sign = StringToSign::new(request.url().signed_at(), Self::REGION, &canonical);
            (case.canonical_bytes, case.to_sign_bytes) = (canonical.to_string().len(), to_sign.to_string().len());
            Some(case)
        };
        build().unwrap_or_else(|| unreachable!("made of constants"))
    }

    /// `sigv4/presign`: a client's half, with the key at hand.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn presign(&self, out: &mut impl fmt::Write) -> fmt::Result {
        self.presign_with(&self.key, out)
    }

    fn presign_with(&self, key: &SigningKey, out: &mut impl fmt::Write) -> fmt::Result {
        let presign = Presign {
            host: StsHost::regional(Partition::Aws, Self::REGION, Fips::No).map_err(|_| fmt::Error)?,
            access_key_id: self.access_key_id(),
            session_token: self.session_token.as_deref(),
            cluster_id: self.policy.cluster_id,
            date: AmzDate::from_unix(NOW).ok_or(fmt::Error)?,
            expires_secs: 60,
        };
        presign.write_url(key, out)
    }

    /// `sigv4/sign`: the same from the secret, as a client does that signs once.
    ///
    /// # Errors
    ///
    /// None where `url` is long enough.
    pub fn sign(&self, url: &mut String) -> fmt::Result {
        url.clear();
        self.presign_with(&derive(), url)
    }

    /// Who signs.
    #[must_use]
    pub const fn access_key_id(&self) -> &'static str {
        if self.session_token.is_some() { "ASIAIOSFODNN7EXAMPLE" } else { "AKIAIOSFODNN7EXAMPLE" }
    }

    /// The session token, where there is one.
    #[must_use]
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// Whether the signature of a URL that somebody else has signed for this case fits.
    ///
    /// # Errors
    ///
    /// The core's refusal, or that the signature does not fit.
    pub fn verifies(&self, url: &str) -> Result<Result<(), BadSignature>, Error> {
        let mut token = String::new();
        token::encode(url, &mut token).map_err(|_| Error::Length)?;
        let mut buffer = TokenBuffer::new();
        let url = PresignedUrl::parse(Token::decode(token.as_bytes(), &mut buffer)?, &StsHosts::new(Partition::Aws))?;
        StsRequest::check(url, &self.policy, NOW).map(|request| verify(&request, &self.key))
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
        StsRequest::check(url, &self.policy, NOW)
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
        let decoded = base64url::decode(encoded, buffer.as_mut_slice());
        assert!(decoded.is_ok(), "a token is base64url");
        // Whatever lies in the buffer: a hash takes as long for any bytes.
        let (canonical, _) = buffer.split_at(self.canonical_bytes);
        let hash = Sha256::digest(canonical);
        let (to_sign, _) = buffer.split_at_mut(self.to_sign_bytes);
        if let Some(place) = to_sign.first_chunk_mut() {
            *place = hash.into(); // the MAC waits for the hash, as it does in a verification
        }
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&*self.key.to_bytes()) else { return [0; 32] };
        mac.chain_update(to_sign).finalize().into_bytes().into()
    }
}

/// proc_pid_status(5): VmRSS of this process, in bytes; zero where the system does not tell.
#[must_use]
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() << 10
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
            let mut url = String::new();
            case.presign(&mut url).unwrap();
            assert_eq!(case.decode(&mut TokenBuffer::new()).unwrap().url_bytes(), url.as_bytes());
            let mut signed = String::from("another");
            case.sign(&mut signed).unwrap();
            assert_eq!((&signed, case.verifies(&signed)), (&url, Ok(Ok(()))));
        }
    }
}
