//! What the fuzz targets share: the promises that are held against every input, and slow, independent implementations to compare with.
//!
//! Nothing here is quick or free of allocation, and nothing calls the code that it judges for its own answer, but for two tables: which
//! regions a partition has, and how an STS host is written.

pub mod claim;
pub mod seed;
pub mod slow;

use arngate_core::sigv4::{CanonicalRequest, SigningKey, verify};
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Error, Partition, Policy, PresignedUrl, StsHosts, StsRequest, Token, TokenBuffer, token};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::claim::Claim;

/// Holds every promise about a token's text. `cluster_id` and `secret` are those of the verifier.
pub fn check_token(text: &[u8], own_region: Option<&str>, cluster_id: ClusterId<'_>, secret: &[u8]) {
    let mut buffer = TokenBuffer::new();
    let decoded = text.strip_prefix(token::PREFIX.as_bytes()).and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok());
    match Token::decode(text, &mut buffer) {
        Err(Error::Length) => assert!(text.len() > 4096),
        Err(error) => assert!(matches!(error, Error::Prefix | Error::Base64) && decoded.is_none(), "{error}"),
        Ok(token) => {
            assert!(text.len() <= 4096);
            assert_eq!(Some(token.url_bytes()), decoded.as_deref());
            if let Ok(url) = std::str::from_utf8(token.url_bytes()) {
                let mut again = String::new();
                token::encode(url, &mut again).unwrap();
                assert_eq!(again.as_bytes(), text, "one spelling for each URL");
            }
            check_url(token, own_region, cluster_id, secret);
        }
    }
}

/// Holds every promise about a decoded token, in each partition.
fn check_url(token: Token<'_>, own_region: Option<&str>, cluster_id: ClusterId<'_>, secret: &[u8]) {
    let mut owners = Vec::new();
    let mut refusals = Vec::new();
    for partition in Partition::ALL {
        let hosts = StsHosts::new(partition).with_own_region(own_region);
        let claim = Claim::of(token.url_bytes(), partition, own_region);
        match PresignedUrl::parse(token, &hosts) {
            Ok(url) => {
                let claim = claim.unwrap_or_else(|reason| panic!("accepted, but {reason}"));
                check_accepted(token.url_bytes(), &url, &claim, cluster_id, secret);
                owners.push(partition);
            }
            Err(error) => {
                assert!(claim.is_err(), "refused: {error}");
                refusals.push(error);
            }
        }
    }
    if own_region.is_none() {
        assert!(owners.len() <= 1, "a host is of one partition: {owners:?}");
    }
    if refusals.contains(&Error::Partition) {
        assert!(refusals.iter().any(|error| *error != Error::Partition) || !owners.is_empty(), "of another partition, but of which?");
    }
}

fn check_accepted(bytes: &[u8], parsed: &PresignedUrl<'_>, claim: &Claim, cluster_id: ClusterId<'_>, secret: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    let host = parsed.host().to_string();
    let query = parsed.query();
    assert!(text.ends_with(&format!("//{host}/?{query}")), "what is sent is what was read");

    assert_eq!(parsed.access_key_id().as_str(), claim.access_key_id);
    assert_eq!(parsed.signed_at().as_str(), claim.date);
    assert_eq!(parsed.signed_at().day(), &claim.date[..8]);
    assert_eq!(parsed.signed_at().unix().as_i64(), claim.signed_at);
    assert_eq!(parsed.expires_secs(), claim.expires_secs);
    assert_eq!(parsed.has_session_token(), claim.has_session_token);
    assert_eq!((host.as_str(), parsed.host().region()), (claim.host.as_str(), claim.region.as_str()));

    // What sends it, and what a proxy on the way may use, read the same.
    let uri: http::Uri = text.parse().unwrap();
    assert_eq!((uri.scheme_str(), uri.port().is_none()), (Some("https"), true));
    assert_eq!(uri.authority().unwrap().as_str(), host);
    assert_eq!(uri.path_and_query().unwrap().as_str(), format!("/?{query}"));
    let url = url::Url::parse(text).unwrap();
    assert_eq!((url.scheme(), url.host_str(), url.path()), ("https", Some(host.as_str()), "/"));
    assert_eq!((url.username(), url.password(), url.port(), url.fragment()), ("", None, None, None));
    // WHATWG's special-query set has the apostrophe, the only byte of it that we take.
    assert_eq!(url.query().unwrap(), query.replace('\'', "%27"));

    check_freshness(parsed, cluster_id);

    let policy = Policy::new(cluster_id);
    let request = StsRequest::check(*parsed, &policy, parsed.signed_at().unix()).unwrap();
    let canonical = CanonicalRequest::of(&request).to_string();
    assert_eq!(canonical, slow::canonical_request(&host, query, cluster_id.as_str()));
    let key = SigningKey::derive(secret, parsed.signed_at().day(), parsed.host().region());
    let expected = slow::signature(secret, &claim.date, &claim.region, &canonical);
    assert_eq!(verify(&request, &key).is_ok(), expected == claim.signature);
}

/// Holds what a date promises: it is read where it exists, means that instant, and is written as it was read.
pub fn check_date(text: &str) {
    let date = AmzDate::parse(text.as_bytes()).ok();
    assert_eq!(date.map(|date| date.unix().as_i64()), slow::unix_seconds(text), "{text}");
    if let Some(date) = date {
        assert_eq!(AmzDate::from_unix(date.unix()), Some(date));
    }
}

/// 15 minutes from the date on, 5 before it.
fn check_freshness(url: &PresignedUrl<'_>, cluster_id: ClusterId<'_>) {
    let policy = Policy::new(cluster_id);
    for (offset, expected) in [(-301, Some(Error::Future)), (-300, None), (0, None), (900, None), (901, Some(Error::Expired))] {
        let now = url.signed_at().unix().saturating_add(offset);
        assert_eq!(StsRequest::check(*url, &policy, now).err(), expected, "{offset}");
    }
}
