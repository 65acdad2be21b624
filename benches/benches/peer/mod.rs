//! The same work by others: `scratchstack-aws-signature` verifies a token whose key is at hand, `aws-sigv4` (of the AWS SDK) signs a URL from a secret.

use std::str::FromStr as _;
use std::time::{Duration, SystemTime};

use arngate_benches::{Case, NOW};
use arngate_core::token::PREFIX;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningInstructions, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, NaiveDate, Utc};
use futures_util::FutureExt as _;
use hyper::Request;
use scratchstack_aws_principal::User;
use scratchstack_aws_signature::{
    GetSigningKeyRequest, GetSigningKeyResponse, KSecretKey, KSigningKey, NO_ADDITIONAL_SIGNED_HEADERS, SignatureOptions,
    service_for_signing_key_fn, sigv4_validate_request,
};

const URL: &str = "https://sts.eu-west-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15";

/// Signs as `settings` say, for the same instant, region and service as [`Case`].
fn sign_with(credentials: &Credentials, settings: SigningSettings) -> SigningInstructions {
    let identity = credentials.clone().into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(Case::REGION)
        .name("sts")
        .time(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.as_i64().unsigned_abs()))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let headers = [("x-k8s-aws-id", Case::CLUSTER)];
    let request = SignableRequest::new("GET", URL, headers.into_iter(), SignableBody::Bytes(&[])).unwrap();
    sign(request, &params).unwrap().into_parts().0
}

fn credentials(case: &Case) -> Credentials {
    Credentials::new(case.access_key_id(), Case::SECRET, case.session_token().map(String::from), None, "bench")
}

/// Verifies with the key at hand. It cannot read a presigned URL as clients write it (it takes `%2F` in the credential for what it says, 0.11.4), so the
/// same request is signed in its headers; the token is decoded all the same.
pub(crate) struct Verifier {
    token: String,
    /// Whom it names, the instant, the session token, and the signature.
    headers: Vec<(String, String)>,
    key: KSigningKey,
    now: DateTime<Utc>,
}

impl Verifier {
    pub(crate) fn new(case: &Case) -> Self {
        let secret: KSecretKey = KSecretKey::from_str(Case::SECRET).unwrap();
        let day = NaiveDate::parse_from_str(Case::DAY, "%Y%m%d").unwrap();
        let instructions = sign_with(&credentials(case), SigningSettings::default());
        Self {
            token: case.token.clone(),
            headers: instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            key: secret.to_ksigning(day, Case::REGION, "sts"),
            now: DateTime::from_timestamp(NOW.as_i64(), 0).unwrap(),
        }
    }

    /// Who signed, where it was for `cluster_id`.
    pub(crate) fn verify(&self, cluster_id: &str) -> Result<String, String> {
        let decoded = URL_SAFE_NO_PAD.decode(&self.token[PREFIX.len()..]).map_err(|error| error.to_string())?;
        if !decoded.starts_with(b"https://") {
            return Err("no URL".into());
        }
        let request = Request::get(URL).header("host", "sts.eu-west-1.amazonaws.com").header("x-k8s-aws-id", cluster_id);
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let request = request.body(()).map_err(|error| error.to_string())?;
        let key = self.key;
        let at_hand = move |_: GetSigningKeyRequest| async move {
            let user = User::new("aws", "123456789012", "/", "bench")?;
            Ok(GetSigningKeyResponse::builder().principal(user).signing_key(key).build()?)
        };
        let mut keys = service_for_signing_key_fn(at_hand);
        let (signed, options) = (NO_ADDITIONAL_SIGNED_HEADERS, SignatureOptions::default());
        let verified = sigv4_validate_request(request, Case::REGION, "sts", &mut keys, self.now, &signed, options);
        let verified = verified.now_or_never().ok_or("a key at hand is waited for")?;
        let (_, _, response) = verified.map_err(|error| error.to_string())?;
        match response.principal().as_slice() {
            [one] => Ok(one.to_string()),
            _ => Err("nobody, or several".into()),
        }
    }
}

/// Signs from a secret, as `arngate token` does.
pub(crate) struct Signer(Credentials);

impl Signer {
    pub(crate) fn new(case: &Case) -> Self {
        Self(credentials(case))
    }

    /// The signed URL.
    pub(crate) fn sign(&self) -> String {
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(60));
        let mut url = String::from(URL);
        for (name, value) in sign_with(&self.0, settings).params() {
            url.push('&');
            url.push_str(name);
            url.push('=');
            for byte in value.bytes() {
                match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => url.push(char::from(byte)),
                    _ => url.push_str(&format!("%{byte:02X}")),
                }
            }
        }
        url
    }
}
