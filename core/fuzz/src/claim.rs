//! A second reading of a presigned URL, rule by rule as the contract words them, over `form_urlencoded` instead of our own parser.

use std::collections::BTreeMap;

use arngate_core::endpoint::Fips;
use arngate_core::{Partition, StsHost};

use crate::slow;

/// What an acceptable URL says.
#[derive(Debug)]
pub struct Claim {
    pub host: String,
    pub region: String,
    pub access_key_id: String,
    pub date: String,
    pub signed_at: i64,
    pub expires_secs: u16,
    pub has_session_token: bool,
    pub signature: String,
}

const REQUIRED: [&str; 8] =
    ["action", "version", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signature", "x-amz-signedheaders"];
const OPTIONAL: &str = "x-amz-security-token";

impl Claim {
    /// Reads a URL; the error is the rule that it breaks.
    pub fn of(url: &[u8], partition: Partition, own_region: Option<&str>) -> Result<Self, &'static str> {
        let rule = |holds: bool, broken: &'static str| if holds { Ok(()) } else { Err(broken) };
        rule(url.iter().all(|byte| byte.is_ascii_graphic() && !b"\"<>#".contains(byte)), "a byte is bad")?;
        let url = std::str::from_utf8(url).unwrap();
        rule(url.len() >= 8 && url[..8].eq_ignore_ascii_case("https://"), "the scheme is another")?;
        let (host, query) = url[8..].split_once("/?").ok_or("there is no query")?;
        let region = region_of(host, partition, own_region).ok_or("the host is not ours")?;

        rule(!query.contains(';'), "there is a semicolon")?;
        let hex = |text: &str, at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
        rule(query.match_indices('%').all(|(at, _)| hex(query, at + 1) && hex(query, at + 2)), "an escape is malformed")?;
        let mut values = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let name = name.to_ascii_lowercase();
            rule(name == OPTIONAL || REQUIRED.contains(&name.as_str()), "a key is unknown")?;
            rule(values.insert(name, value.into_owned()).is_none(), "a key is repeated")?;
        }
        let value = |name: &str| values.get(name).map(String::as_str).ok_or("a key is missing");
        let signed_headers = value("x-amz-signedheaders")?.to_ascii_lowercase();
        rule(value("action")? == "GetCallerIdentity", "the action is another")?;
        rule(value("version")? == "2011-06-15", "the version is another")?;
        rule(value("x-amz-algorithm")? == "AWS4-HMAC-SHA256", "the algorithm is another")?;
        rule(["host;x-k8s-aws-id", "x-k8s-aws-id;host"].contains(&signed_headers.as_str()), "other headers are signed")?;
        let date = value("x-amz-date")?;
        let signed_at = slow::unix_seconds(date).ok_or("the date is none")?;
        let (access_key_id, scope) = value("x-amz-credential")?.split_once('/').ok_or("there is no scope")?;
        rule((16..=128).contains(&access_key_id.len()), "the access key id is too short or too long")?;
        rule(access_key_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "the access key id has odd bytes")?;
        rule(scope == format!("{}/{region}/sts/aws4_request", &date[..8]), "the scope is another")?;
        let signature = value("x-amz-signature")?;
        rule(signature.len() == 64 && signature.bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "the signature is none")?;
        let expires = value("x-amz-expires")?;
        rule(!expires.is_empty() && expires.bytes().all(|byte| byte.is_ascii_digit()), "the lifetime is no number")?;
        let digits = expires.trim_start_matches('0');
        rule(digits.len() <= 3, "the lifetime is too long")?;
        let expires_secs = if digits.is_empty() { 0 } else { digits.parse().unwrap() };
        rule(expires_secs <= 900, "the lifetime is too long")?;
        Ok(Self {
            host: host.to_owned(),
            region,
            access_key_id: access_key_id.to_owned(),
            date: date.to_owned(),
            signed_at,
            expires_secs,
            has_session_token: values.contains_key(OPTIONAL),
            signature: signature.to_owned(),
        })
    }
}

/// The region of a host of the partition: each of its labels is tried as the region, and the host that we would write is compared.
fn region_of(host: &str, partition: Partition, own_region: Option<&str>) -> Option<String> {
    if host == "sts.amazonaws.com" {
        return (partition == Partition::Aws).then(|| "us-east-1".to_owned());
    }
    host.split('.').find_map(|region| {
        let is_own = own_region == Some(region);
        let fits = partition.known_regions().contains(&region) || partition.has_shape_of(region);
        let forms = [
            (StsHost::regional(partition, region, Fips::No), is_own || fits),
            (StsHost::dual_stack(partition, region, Fips::No), is_own || fits),
            (StsHost::regional(partition, region, Fips::Yes), fits),
            (StsHost::dual_stack(partition, region, Fips::Yes), fits),
        ];
        forms.into_iter().any(|(form, ours)| ours && form.is_ok_and(|form| form.to_string() == host)).then(|| region.to_owned())
    })
}
