//! A token made with the AWS SDK for Rust's signer, the crate aws-sigv4, as users of kube do it.

use std::{env, error::Error, fs, time::{Duration, SystemTime}};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{sign, SignableBody, SignableRequest, SignatureLocation, SigningSettings},
    sign::v4::SigningParams,
};
use base64::{prelude::BASE64_URL_SAFE_NO_PAD, Engine};

fn main() -> Result<(), Box<dyn Error>> {
    // The crate takes a SystemTime; run.py fixes what SystemTime::now says.
    let credentials = Credentials::new(
        env::var("AWS_ACCESS_KEY_ID")?,
        env::var("AWS_SECRET_ACCESS_KEY")?,
        env::var("AWS_SESSION_TOKEN").ok(),
        None,
        "vectors",
    );
    let identity = credentials.into();
    let (region, cluster) = (env::var("AWS_REGION")?, env::var("CLUSTER_ID")?);
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(60));
    let params = SigningParams::builder()
        .identity(&identity)
        .region(&region)
        .name("sts")
        .time(SystemTime::now())
        .settings(settings)
        .build()?
        .into();
    let mut url = format!(
        "https://{}/?Action=GetCallerIdentity&Version=2011-06-15",
        env::var("STS_HOST")?
    );
    let headers = [("x-k8s-aws-id", cluster.as_str())];
    let request = SignableRequest::new("GET", &url, headers.into_iter(), SignableBody::Bytes(&[]))?;
    let (signed, _) = sign(request, &params)?.into_parts();
    // What apply_to_request does to the URL: the new parameters go to its end.
    let mut request = http::Request::get(&url).body(())?;
    signed.apply_to_request_http1x(&mut request);
    url = request.uri().to_string();
    fs::write(env::var("VERSION_OUT")?, "aws-sigv4 1.6.4")?;
    println!("k8s-aws-v1.{}", BASE64_URL_SAFE_NO_PAD.encode(url));
    Ok(())
}
