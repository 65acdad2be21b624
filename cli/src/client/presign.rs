//! From credentials to a token, signed by the core and read back by it before anybody sees it: what we print, we accept.

use std::fmt;

use arngate_core::endpoint::{Fips, Partition, StsHost, StsHosts};
use arngate_core::request::{ClusterId, ClusterIdError, Policy};
use arngate_core::sigv4::{Presign, SigningKey};
use arngate_core::time::AmzDate;
use arngate_core::{PresignedUrl, StsRequest, Token, TokenBuffer, UnixSeconds, token};
use aws_credential_types::Credentials;
use zeroize::Zeroizing;

/// X-Amz-Expires, in seconds. Nobody heeds it; servers before 0.3.0 want at most 60.
///
/// upstream: `requestPresignParam` in pkg/token/token.go.
const EXPIRES_SECS: u16 = 60;

/// Which of a region's STS endpoints: the SDK's `use_fips_endpoint` and `use_dualstack_endpoint`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) fips: bool,
    pub(crate) dual_stack: bool,
}

/// The region names that the SDKs take for the global endpoint, and for FIPS endpoints from before there was a setting.
struct Alias<'a> {
    region: &'a str,
    is_global: bool,
    is_fips: bool,
}

fn resolve_alias(region: &str) -> Alias<'_> {
    let fips = region.strip_prefix("fips-").or_else(|| region.strip_suffix("-fips"));
    Alias { region: fips.unwrap_or(region), is_global: region == "aws-global", is_fips: fips.is_some() }
}

/// The partition that a region belongs to; `aws` where its name fits none, as in the SDKs.
fn partition_of(region: &str) -> Partition {
    let known = Partition::ALL.into_iter().find(|partition| partition.known_regions().contains(&region));
    let by_shape = || Partition::ALL.into_iter().find(|partition| partition.has_shape_of(region));
    known.or_else(by_shape).unwrap_or(Partition::Aws)
}

/// The host that a token for a region is signed for.
pub(crate) fn host(region: &str, endpoint: Endpoint) -> Result<StsHost<'_>, PresignError> {
    let alias = resolve_alias(region);
    if alias.is_global && endpoint == Endpoint::default() {
        return Ok(StsHost::global());
    }
    let partition = partition_of(alias.region);
    if endpoint.dual_stack && partition.dual_stack_domain().is_none() {
        return Err(PresignError::NoDualStack(partition));
    }
    let fips = if endpoint.fips || alias.is_fips { Fips::Yes } else { Fips::No };
    let host = if endpoint.dual_stack { StsHost::dual_stack } else { StsHost::regional };
    host(partition, alias.region, fips).map_err(|_| PresignError::Region)
}

/// Signs a token for `cluster_id` at `now`.
pub(crate) fn sign(
    host: StsHost<'_>,
    credentials: &Credentials,
    cluster_id: &str,
    now: UnixSeconds,
) -> Result<Zeroizing<String>, PresignError> {
    let cluster_id = ClusterId::parse(cluster_id).map_err(PresignError::ClusterId)?;
    let date = AmzDate::from_unix(now).ok_or(PresignError::Clock)?;
    let key = SigningKey::derive(credentials.secret_access_key().as_bytes(), date.day(), host.region());
    let access_key_id = credentials.access_key_id();
    let session_token = credentials.session_token();
    let presign = Presign { host, access_key_id, session_token, cluster_id, date, expires_secs: EXPIRES_SECS };

    let room = 512 + 3 * session_token.map_or(0, str::len);
    let mut url = Zeroizing::new(String::with_capacity(room));
    let written = presign.write_url(&key, &mut *url);
    let mut text = Zeroizing::new(String::with_capacity(room * 4 / 3 + 16));
    written.and_then(|()| token::encode(&url, &mut *text)).map_err(|_| PresignError::Refused(arngate_core::Error::AccessKey))?;

    let mut buffer = TokenBuffer::new();
    let hosts = StsHosts::new(host.partition()).with_own_region(Some(host.region()));
    Token::decode(text.as_bytes(), &mut buffer)
        .and_then(|token| PresignedUrl::parse(token, &hosts))
        .and_then(|url| StsRequest::check(url, &Policy::new(cluster_id), now).map(|_| ()))
        .map_err(PresignError::Refused)?;
    Ok(text)
}

/// Why no token can be made of what is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PresignError {
    /// The clock is beyond the year 9999 or before the year 0.
    Clock,
    ClusterId(ClusterIdError),
    /// `use_dualstack_endpoint` in a partition that has none.
    NoDualStack(Partition),
    /// The core would refuse the token.
    Refused(arngate_core::Error),
    /// Not a region's name.
    Region,
}

impl fmt::Display for PresignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock => f.write_str("this machine's clock shows a year that no signature can carry"),
            Self::ClusterId(error) => error.fmt(f),
            Self::NoDualStack(partition) => {
                write!(f, "dual-stack endpoints are asked for (use_dualstack_endpoint), but partition {partition} has none for STS")
            }
            Self::Refused(error) => write!(f, "no server would accept the token made of these credentials: {error}"),
            Self::Region => f.write_str("the AWS region is not one: expected lower-case letters, digits and hyphens, as in eu-west-1"),
        }
    }
}

impl std::error::Error for PresignError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// upstream: the hosts that the reference signs for, tried with each combination of region and AWS_USE_*_ENDPOINT.
    #[test]
    fn signs_for_the_hosts_of_the_reference() {
        let (fips, dual_stack) = (Endpoint { fips: true, dual_stack: false }, Endpoint { fips: false, dual_stack: true });
        let both = Endpoint { fips: true, dual_stack: true };
        for (region, endpoint, expected) in [
            ("eu-west-1", Endpoint::default(), "sts.eu-west-1.amazonaws.com"),
            ("us-east-1", Endpoint::default(), "sts.us-east-1.amazonaws.com"),
            ("aws-global", Endpoint::default(), "sts.amazonaws.com"),
            ("eu-west-1", fips, "sts-fips.eu-west-1.amazonaws.com"),
            ("fips-us-east-1", Endpoint::default(), "sts-fips.us-east-1.amazonaws.com"),
            ("us-east-1-fips", Endpoint::default(), "sts-fips.us-east-1.amazonaws.com"),
            ("eu-west-1", dual_stack, "sts.eu-west-1.api.aws"),
            ("eu-west-1", both, "sts-fips.eu-west-1.api.aws"),
            ("cn-north-1", Endpoint::default(), "sts.cn-north-1.amazonaws.com.cn"),
            ("cn-north-1", both, "sts-fips.cn-north-1.api.amazonwebservices.com.cn"),
            ("us-gov-west-1", Endpoint::default(), "sts.us-gov-west-1.amazonaws.com"),
            ("us-gov-west-1", fips, "sts.us-gov-west-1.amazonaws.com"),
            ("us-gov-west-1", both, "sts-fips.us-gov-west-1.api.aws"),
            ("us-iso-east-1", Endpoint::default(), "sts.us-iso-east-1.c2s.ic.gov"),
            ("us-isof-south-1", Endpoint::default(), "sts.us-isof-south-1.csp.hci.ic.gov"),
            ("eu-isoe-west-1", Endpoint::default(), "sts.eu-isoe-west-1.cloud.adc-e.uk"),
            ("eusc-de-east-1", Endpoint::default(), "sts.eusc-de-east-1.amazonaws.eu"),
            ("eusc-de-east-1", dual_stack, "sts.eusc-de-east-1.api.amazonwebservices.eu"),
            ("xx-foo-9", Endpoint::default(), "sts.xx-foo-9.amazonaws.com"),
            ("moonbase", Endpoint::default(), "sts.moonbase.amazonaws.com"),
        ] {
            assert_eq!(host(region, endpoint).unwrap().to_string(), expected, "{region} {endpoint:?}");
        }
    }

    #[test]
    fn refuses_regions_and_endpoints_that_do_not_exist() {
        for region in ["", "EU-WEST-1", "a.b", "x/y", "-a", "a\n"] {
            assert_eq!(host(region, Endpoint::default()), Err(PresignError::Region), "{region:?}");
        }
        let dual_stack = Endpoint { fips: false, dual_stack: true };
        assert_eq!(host("us-iso-east-1", dual_stack), Err(PresignError::NoDualStack(Partition::AwsIso)));
    }

    /// The known answer, from the reference's own test; see the encoded credentials there.
    #[test]
    fn gives_the_references_known_answer() {
        use base64::Engine as _;
        let decode = |text: &str| String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap();
        let access_key_id = decode("QVNJQVIyVEc0NFY2QVMzWlpFN0M=");
        let secret = decode("NEtENWNudEdjVm1MV1JkRjV3dk5SdXpOTDVReG1wNk9LVlk2RnovUQ==");
        let credentials = Credentials::builder().access_key_id(access_key_id).secret_access_key(secret).provider_name("test").build();
        let host = host("us-west-2", Endpoint::default()).unwrap();
        let token = sign(host, &credentials, "test-cluster", UnixSeconds::new(1_682_640_000)).unwrap();
        let mut buffer = TokenBuffer::new();
        let url = Token::decode(token.as_bytes(), &mut buffer).unwrap();
        assert!(url.url_bytes().ends_with(b"e211dba77aba9dc44b0b6be38b8eaad092599c5157f6314444c5b9d85747f5ce"));
    }

    #[test]
    fn prints_no_token_that_the_core_would_refuse() {
        let host = host("eu-west-1", Endpoint::default()).unwrap();
        let sign_with = |id: &str, session_token: Option<&str>, cluster_id: &str| {
            let mut credentials = Credentials::builder().access_key_id(id).secret_access_key("made-up").provider_name("test");
            credentials.set_session_token(session_token.map(str::to_owned));
            sign(host, &credentials.build(), cluster_id, UnixSeconds::new(1_795_521_600)).map(|_| ())
        };
        assert_eq!(sign_with("AKIAIOSFODNN7EXAMPLE", None, "prod"), Ok(()));
        assert_eq!(sign_with("AKIA", None, "prod"), Err(PresignError::Refused(arngate_core::Error::AccessKey)));
        assert_eq!(sign_with(&"A".repeat(500), None, "prod"), Err(PresignError::Refused(arngate_core::Error::AccessKey)));
        let long = "x".repeat(4000);
        assert_eq!(sign_with("ASIAIOSFODNN7EXAMPLE", Some(&long), "prod"), Err(PresignError::Refused(arngate_core::Error::Length)));
        assert_eq!(sign_with("AKIAIOSFODNN7EXAMPLE", None, "pr\nod"), Err(PresignError::ClusterId(ClusterIdError::Bytes)));
    }
}
