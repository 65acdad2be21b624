//! Our signer and verifier against the AWS SDK's: the crate aws-sigv4 signs the same request, and the two must agree on every byte of the
//! signature, and so on the canonical request under it.

use std::time::{Duration, SystemTime};

use arngate_core::endpoint::Fips;
use arngate_core::sigv4::{Presign, SigningKey, verify};
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Partition, Policy, PresignedUrl, StsHost, StsHosts, StsRequest, Token, TokenBuffer, UnixSeconds, token};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use proptest::prelude::*;

/// What a request is made of.
#[derive(Debug)]
struct Inputs {
    access_key_id: String,
    secret: String,
    session_token: Option<String>,
    cluster_id: String,
    region: &'static str,
    seconds: u32,
    expires_secs: u16,
}

/// The parameters that the SDK puts behind the query, as it spells and orders them, and so the whole URL.
fn signed_by_the_sdk(inputs: &Inputs) -> String {
    let credentials = Credentials::new(&inputs.access_key_id, &inputs.secret, inputs.session_token.clone(), None, "test");
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(inputs.expires_secs.into()));
    let params = SigningParams::builder()
        .identity(&identity)
        .region(inputs.region)
        .name("sts")
        .time(SystemTime::UNIX_EPOCH + Duration::from_secs(inputs.seconds.into()))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let url = format!("https://sts.{}.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15", inputs.region);
    let headers = [("x-k8s-aws-id", inputs.cluster_id.as_str())];
    let request = SignableRequest::new("GET", &url, headers.into_iter(), SignableBody::Bytes(&[])).unwrap();
    let (instructions, _) = sign(request, &params).unwrap().into_parts();
    let encode = |text: &str| {
        text.bytes().fold(String::new(), |out, byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out + &char::from(byte).to_string(),
            _ => out + &format!("%{byte:02X}"),
        })
    };
    instructions.params().iter().fold(url, |url, (name, value)| format!("{url}&{name}={}", encode(value)))
}

fn inputs() -> impl Strategy<Value = Inputs> {
    (
        "[A-Z0-9]{16,40}",
        "[!-~]{1,90}",
        proptest::option::of("[ -~]{1,400}"),
        "[!-~]{1,20}( {1,3}[!-~]{1,20}){0,3}",
        proptest::sample::select(Partition::Aws.known_regions()),
        any::<u32>(),
        1_u16..=900,
    )
        .prop_map(|(access_key_id, secret, session_token, cluster_id, region, seconds, expires_secs)| Inputs {
            access_key_id,
            secret,
            session_token,
            cluster_id,
            region,
            seconds,
            expires_secs,
        })
}

fn signature(url: &str) -> &str {
    let (_, rest) = url.split_once("X-Amz-Signature=").unwrap();
    &rest[..64]
}

proptest! {
    #[test]
    fn agrees_with_the_sdk_on_every_signature(inputs in inputs()) {
        let now = UnixSeconds::new(inputs.seconds.into());
        let date = AmzDate::from_unix(now).unwrap();
        let key = SigningKey::derive(inputs.secret.as_bytes(), date.day(), inputs.region);
        let cluster_id = ClusterId::parse(&inputs.cluster_id).unwrap();
        let presign = Presign {
            host: StsHost::regional(Partition::Aws, inputs.region, Fips::No).unwrap(),
            access_key_id: &inputs.access_key_id,
            session_token: inputs.session_token.as_deref(),
            cluster_id,
            date,
            expires_secs: inputs.expires_secs,
        };
        let mut ours = String::new();
        presign.write_url(&key, &mut ours).unwrap();
        let theirs = signed_by_the_sdk(&inputs);
        prop_assert_eq!(signature(&ours), signature(&theirs));

        let mut text = String::new();
        token::encode(&theirs, &mut text).unwrap();
        let mut buffer = TokenBuffer::new();
        let url = PresignedUrl::parse(Token::decode(text.as_bytes(), &mut buffer).unwrap(), &StsHosts::new(Partition::Aws)).unwrap();
        let request = StsRequest::check(url, &Policy::new(cluster_id), now).unwrap();
        prop_assert_eq!(verify(&request, &key), Ok(()));
    }
}
