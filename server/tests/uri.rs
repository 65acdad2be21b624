//! Whatever query the core accepts, the HTTP client takes and sends byte for byte: there is one parser that counts.

use arngate_core::endpoint::Fips;
use arngate_core::sigv4::{Presign, SigningKey};
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Partition, PresignedUrl, StsHost, StsHosts, Token, TokenBuffer, token};
use hyper::http::Uri;
use hyper::http::uri::PathAndQuery;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const HOST: &str = "sts.eu-west-1.amazonaws.com";

/// The pairs of a good query with this session token, which may hold any byte.
fn pairs(session_token: &[u8]) -> Vec<String> {
    let presign = Presign {
        host: StsHost::regional(Partition::Aws, "eu-west-1", Fips::No).unwrap(),
        access_key_id: "AKIAIOSFODNN7EXAMPLE",
        session_token: None,
        cluster_id: ClusterId::parse("prod").unwrap(),
        date: AmzDate::parse(b"20261124T120000Z").unwrap(),
        expires_secs: 60,
    };
    let mut url = String::new();
    presign.write_url(&SigningKey::from_bytes([7; 32]), &mut url).unwrap();
    let (_, query) = url.split_once("/?").unwrap();
    let session_token: String = session_token.iter().map(|byte| format!("%{byte:02x}")).collect();
    query.split('&').map(str::to_owned).chain([format!("X-Amz-Security-Token={session_token}")]).collect()
}

/// Writes some bytes of names and values as escapes, with digits of either case.
fn respell(pair: &str, choices: &[u8]) -> String {
    let mut choices = choices.iter().cycle();
    let mut skip = 0_u8;
    let mut out = String::new();
    for (at, byte) in pair.bytes().enumerate() {
        let is_separator = pair.find('=') == Some(at);
        if byte == b'%' {
            skip = 3;
        }
        match choices.next() {
            Some(0) if skip == 0 && !is_separator => out.push_str(&format!("%{byte:02x}")),
            Some(1) if skip == 0 && !is_separator => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
        skip = skip.saturating_sub(1);
    }
    out
}

/// The query that the core accepts in this URL, if it does.
fn accepted(query: &str) -> Option<String> {
    let mut text = String::new();
    token::encode(&format!("https://{HOST}/?{query}"), &mut text).unwrap();
    let mut buffer = TokenBuffer::new();
    let token = Token::decode(text.as_bytes(), &mut buffer).ok()?;
    PresignedUrl::parse(token, &StsHosts::new(Partition::Aws)).ok().map(|url| url.query().to_owned())
}

fn check_sent_as_it_is(query: &str) -> Result<(), TestCaseError> {
    let target = format!("/?{query}");
    let parsed: PathAndQuery = target.parse().map_err(|error| TestCaseError::fail(format!("{target}: {error}")))?;
    prop_assert_eq!((parsed.as_str(), parsed.path(), parsed.query()), (target.as_str(), "/", Some(query)));
    let uri = Uri::builder().scheme("https").authority(HOST).path_and_query(target.as_str()).build().unwrap();
    prop_assert_eq!(uri.to_string(), format!("https://{HOST}{target}"));
    Ok(())
}

proptest! {
    /// Order, over-encoding, the case of digits, empty pairs, any session token: always accepted, so that the property is never empty.
    #[test]
    fn any_spelling_of_a_good_query_is_sent_as_it_is(
        session_token in vec(any::<u8>(), 0..40),
        order in Just(Vec::from_iter(0..10_usize)).prop_shuffle(),
        choices in vec(0..6_u8, 1..40),
        empty in any::<Index>(),
    ) {
        let pairs = pairs(&session_token);
        let mut spelled: Vec<_> = order.iter().filter_map(|at| pairs.get(*at)).map(|pair| respell(pair, &choices)).collect();
        spelled.insert(empty.index(spelled.len() + 1), String::new());
        let query = spelled.join("&");
        prop_assert_eq!(accepted(&query), Some(query.clone()));
        check_sent_as_it_is(&query)?;
    }

    /// Any byte as it is in the one value that has no grammar, and anywhere else in place of what was there: if it is accepted, it is sent.
    #[test]
    fn a_byte_that_passes_is_sent_as_it_is(
        raw in vec(select((0x20..=0x7F_u8).map(char::from).collect::<Vec<_>>()), 0..20).prop_map(String::from_iter),
        at in any::<Index>(),
        byte in (0x20..=0x7F_u8).prop_map(char::from),
    ) {
        let mut query = pairs(b"").join("&") + &raw;
        for change in [false, true] {
            if change {
                let at = at.index(query.len());
                query.replace_range(at..=at, byte.encode_utf8(&mut [0; 4]));
            }
            if let Some(query) = accepted(&query) {
                check_sent_as_it_is(&query)?;
            }
        }
    }
}
