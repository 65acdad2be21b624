//! Each clause of what a token must be, one table for each.
//!
//! A good token is changed in one point; the refusal must be the one that the clause names. What is refused for a reason of spelling is
//! shown beside the spelling that is accepted.

use arngate_core::endpoint::Fips;
use arngate_core::sigv4::{Presign, SigningKey, verify};
use arngate_core::time::AmzDate;
use arngate_core::{
    ClusterId, Error, Partition, Policy, PresignedUrl, StsHost, StsHosts, StsRequest, Token, TokenBuffer, UnixSeconds, token,
};

/// 2026-11-24T12:00:00Z
const NOON: i64 = 1_795_521_600;
const GOOD: &str = "https://sts.eu-west-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256\
    &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261124%2Feu-west-1%2Fsts%2Faws4_request&X-Amz-Date=20261124T120000Z&X-Amz-Expires=60\
    &X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&X-Amz-Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn encode(url: &str) -> String {
    let mut text = String::new();
    token::encode(url, &mut text).unwrap();
    text
}

fn judge_at(url: &str, partition: Partition, now: i64) -> Result<(), Error> {
    let text = encode(url);
    let mut buffer = TokenBuffer::new();
    let url = PresignedUrl::parse(Token::decode(text.as_bytes(), &mut buffer)?, &StsHosts::new(partition))?;
    let policy = Policy::new(ClusterId::parse("prod").unwrap());
    StsRequest::check(url, &policy, UnixSeconds::new(now)).map(|_| ())
}

fn judge(url: &str) -> Result<(), Error> {
    judge_at(url, Partition::Aws, NOON)
}

/// The good URL with `old` replaced once by `new`.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    GOOD.replacen(old, new, 1)
}

fn all_are(expected: Result<(), Error>, changes: &[(&str, &str)]) {
    for (old, new) in changes {
        assert_eq!(judge(&with(old, new)), expected, "{old} → {new}");
    }
}

#[test]
fn the_good_token_is_good() {
    assert_eq!(judge(GOOD), Ok(()));
}

#[test]
fn clause_1_length_prefix_and_strict_base64() {
    let decode = |text: &[u8]| Token::decode(text, &mut TokenBuffer::new()).map(|_| ());
    let good = encode(GOOD);
    assert_eq!(decode(good.as_bytes()), Ok(()));
    assert_eq!(decode(&[b'A'; 4097]), Err(Error::Length));
    assert_eq!(decode(&good.as_bytes()[1..]), Err(Error::Prefix));
    assert_eq!(decode(good.to_ascii_uppercase().as_bytes()), Err(Error::Prefix));
    for tail in ["=", "\n", "\r\n", " ", "+", "/", ".", "\u{0}", "\u{e9}"] {
        assert_eq!(decode(format!("{good}{tail}").as_bytes()), Err(Error::Base64), "{tail:?}");
    }
    let (head, middle) = good.split_at(good.len() / 2);
    assert_eq!(decode(format!("{head}\n{middle}").as_bytes()), Err(Error::Base64), "Go's decoder skips line ends");
}

#[test]
fn clause_1_no_two_texts_decode_to_one_url() {
    // The last character of 3n+1 and 3n+2 bytes has bits to spare; only zeros are accepted there.
    for url in ["a", "ab", "abc"] {
        let good = encode(url);
        let (head, last) = good.split_at(good.len() - 1);
        let spellings = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            .iter()
            .map(|c| format!("{head}{}", char::from(*c)))
            .filter(|text| Token::decode(text.as_bytes(), &mut TokenBuffer::new()).is_ok_and(|t| t.url_bytes() == url.as_bytes()));
        assert_eq!(spellings.collect::<Vec<_>>(), [format!("{head}{last}")]);
    }
}

#[test]
fn clause_2_bytes() {
    for byte in 0..=u8::MAX {
        let mut url = GOOD.as_bytes().to_vec();
        url.push(byte);
        let text = format!("k8s-aws-v1.{}", base64_url(&url));
        let mut buffer = TokenBuffer::new();
        let token = Token::decode(text.as_bytes(), &mut buffer).unwrap();
        let refused = PresignedUrl::parse(token, &StsHosts::new(Partition::Aws)).err();
        let legal = (0x21..=0x7e).contains(&byte) && !b"\"<>".contains(&byte);
        assert_eq!(refused == Some(Error::UrlBytes), !legal, "{byte:#x}");
    }
}

fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * index) & 63) as usize]));
        }
    }
    text
}

#[test]
fn clause_2_scheme_authority_path_and_host() {
    all_are(Ok(()), &[("https", "HTTPS"), ("https", "hTTps")]);
    all_are(
        Err(Error::Scheme),
        &[("https://", "http://"), ("https://", "//"), ("https://", ""), ("https://", "https:/"), ("https", "xhttps")],
    );
    all_are(
        Err(Error::Authority),
        &[
            ("//sts", "//user@sts"),
            ("//sts", "//user:password@sts"),
            ("//sts", "//evil.com:443@sts"),
            (".com/", ".com:443/"),
            (".com/", ".com:/"),
            ("sts.eu-west-1.amazonaws.com", "[::1]"),
        ],
    );
    assert_eq!(judge(&format!("{GOOD}#fragment")), Err(Error::Authority));
    assert_eq!(judge(&with(".com/?", ".com/#?")), Err(Error::Authority));
    all_are(
        Err(Error::Path),
        &[(".com/?", ".com?"), (".com/?", ".com//?"), (".com/?", ".com/x?"), (".com/?", ".com/%2F?"), (".com/?", ".com/.?")],
    );
    all_are(
        Err(Error::Host),
        &[
            ("sts.eu-west-1.amazonaws.com", "STS.eu-west-1.amazonaws.com"),
            ("sts.eu-west-1.amazonaws.com", "sts.EU-WEST-1.amazonaws.com"),
            ("sts.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com.evil.example"),
            ("sts.eu-west-1.amazonaws.com", "evil.example"),
            ("sts.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com\\evil.example"),
            ("sts.eu-west-1.amazonaws.com", "sts%2Eeu-west-1.amazonaws.com"),
            ("sts.eu-west-1.amazonaws.com", ""),
        ],
    );
    all_are(
        Err(Error::Partition),
        &[
            ("sts.eu-west-1.amazonaws.com", "sts.us-gov-west-1.amazonaws.com"),
            ("sts.eu-west-1.amazonaws.com", "sts.cn-north-1.amazonaws.com.cn"),
        ],
    );
    assert_eq!(judge_at(GOOD, Partition::AwsUsGov, NOON), Err(Error::Partition));
}

#[test]
fn clause_3_query() {
    all_are(Ok(()), &[("?Action", "?&Action"), ("&Version", "&&&Version"), ("Action=", "%41ction="), ("Action=", "action=")]);
    assert_eq!(judge(&format!("{GOOD}&")), Ok(()));
    all_are(
        Err(Error::Escape),
        &[
            ("&Version", ";Version"),
            ("%2Feu", "%2"),
            ("%2Feu", "%"),
            ("%2Feu", "%zzeu"),
            ("%2Feu", "%2%46eu"),
            ("Action=", "Act%ion="),
            ("host%3Bx", "host;x"),
        ],
    );
    assert_eq!(judge(&format!("{GOOD}%")), Err(Error::Escape));
    assert_eq!(judge(&format!("{GOOD}%4")), Err(Error::Escape));
    let more = |pair: &str| judge(&format!("{GOOD}&{pair}"));
    for pair in ["foo=bar", "x-id=GetCallerIdentity", "=x", "=", "foo", "Action%00=x", "X-Amz-Exp%69res2=1", "X_Amz_Date=x"] {
        assert_eq!(more(pair), Err(Error::ParameterUnknown), "{pair}");
    }
    for pair in ["Action=GetCallerIdentity", "action", "ACTION=x", "x-amz-credential=eve", "X-Amz-Sign%61ture=x", "%76ersion=2011-06-15"] {
        assert_eq!(more(pair), Err(Error::ParameterRepeated), "{pair}");
    }
    // Only ASCII folds: U+212A is a Kelvin sign, which Go lower-cases to k, and U+017F a long s.
    assert_eq!(more("x-amz-%C5%BFignature=x"), Err(Error::ParameterUnknown));
    assert_eq!(more("X-Amz-Security-To%E2%84%AAen=x"), Err(Error::ParameterUnknown));
    assert_eq!(more("X-Amz-Security-Token=IQoJ"), Ok(()));
    for key in [
        "Action",
        "Version",
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
    ] {
        let query = GOOD.split_once('?').unwrap().1;
        let kept: Vec<_> = query.split('&').filter(|pair| !pair.starts_with(&format!("{key}="))).collect();
        let url = format!("https://sts.eu-west-1.amazonaws.com/?{}", kept.join("&"));
        assert_eq!(judge(&url), Err(Error::ParameterMissing), "{key}");
    }
    assert_eq!(judge("https://sts.eu-west-1.amazonaws.com/"), Err(Error::ParameterMissing));
    assert_eq!(judge("https://sts.eu-west-1.amazonaws.com/?"), Err(Error::ParameterMissing));
}

#[test]
fn clause_3_order_does_not_matter() {
    let (head, query) = GOOD.split_once('?').unwrap();
    let mut pairs: Vec<_> = query.split('&').collect();
    for _ in 0..pairs.len() {
        pairs.rotate_left(1);
        assert_eq!(judge(&format!("{head}?{}", pairs.join("&"))), Ok(()));
    }
    pairs.reverse();
    assert_eq!(judge(&format!("{head}?{}", pairs.join("&"))), Ok(()));
}

#[test]
fn clause_4_action_and_signed_headers() {
    all_are(
        Err(Error::Action),
        &[
            ("GetCallerIdentity", "AssumeRole"),
            ("GetCallerIdentity", "getcalleridentity"),
            ("=GetCallerIdentity", ""),
            ("Identity", "Identity="),
        ],
    );
    all_are(Ok(()), &[("GetCallerIdentity", "Get%43allerIdentity")]);
    all_are(
        Ok(()),
        &[("host%3Bx-k8s-aws-id", "x-k8s-aws-id%3Bhost"), ("host%3Bx-k8s-aws-id", "HOST%3bX-K8S-AWS-ID"), ("host%3B", "hos%74%3B")],
    );
    all_are(
        Err(Error::SignedHeaders),
        &[
            ("host%3Bx-k8s-aws-id", "host"),
            ("host%3Bx-k8s-aws-id", "x-k8s-aws-id"),
            ("host%3Bx-k8s-aws-id", ""),
            ("host%3Bx-k8s-aws-id", "host%3Bx-k8s-aws-id%3Bx-amz-date"),
            ("host%3Bx-k8s-aws-id", "host%3Bx-k8s-aws-id%3B"),
            ("host%3Bx-k8s-aws-id", "host%3Bhost"),
            ("host%3Bx-k8s-aws-id", "host%3Bx-k8s-aws-idx"),
            ("host%3Bx-k8s-aws-id", "host,x-k8s-aws-id"),
            ("host%3Bx-k8s-aws-id", "host%3Bx-%E2%84%AA8s-aws-id"),
        ],
    );
}

#[test]
fn clause_4_version_and_algorithm() {
    all_are(Err(Error::Version), &[("2011-06-15", "2011-06-14"), ("2011-06-15", "")]);
    all_are(Ok(()), &[("2011-06-15", "2011%2D06-15")]);
    all_are(
        Err(Error::Algorithm),
        &[("AWS4-HMAC-SHA256", "aws4-hmac-sha256"), ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1")],
    );
}

#[test]
fn clause_4_access_key() {
    let with_id = |id: &str| judge(&with("AKIAIOSFODNN7EXAMPLE", id));
    assert_eq!(with_id(&"A".repeat(16)), Ok(()));
    assert_eq!(with_id(&"a_9Z".repeat(32)), Ok(()));
    assert_eq!(with_id("%41KIAIOSFODNN7EXAMPLE"), Ok(()));
    for id in [
        "",
        "AKIAIOSFODNN7EX",
        &"A".repeat(129),
        &"A".repeat(1000),
        "AKIAIOSFODNN7EXAMPL-",
        "AKIAIOSFODNN7EXAM LE",
        "AKIAIOSFODNN7EXAMP%C3%89",
    ] {
        let id = id.replace(' ', "+");
        assert_eq!(with_id(&id), Err(Error::AccessKey), "{id}");
    }
    assert_eq!(judge(&with("AKIAIOSFODNN7EXAMPLE%2F20261124%2Feu-west-1%2Fsts%2Faws4_request", "")), Err(Error::AccessKey));
}

#[test]
fn clause_4_scope() {
    all_are(Ok(()), &[("%2F20261124%2F", "/20261124/"), ("%2F20261124%2F", "%2f2026112%34%2f")]);
    all_are(
        Err(Error::ScopeDate),
        &[
            ("%2F20261124", "%2F20261125"),
            ("%2F20261124", "%2F2026112"),
            ("%2F20261124", "%2F202611240"),
            ("%2F20261124%2Feu-west-1%2Fsts%2Faws4_request", ""),
        ],
    );
    all_are(
        Err(Error::ScopeRegion),
        &[
            ("%2Feu-west-1", "%2Fus-east-1"),
            ("%2Feu-west-1", "%2Feu-west-"),
            ("%2Feu-west-1", "%2FEU-WEST-1"),
            ("%2Feu-west-1%2Fsts%2Faws4_request", ""),
            ("%2Feu-west-1", "%2F"),
        ],
    );
    all_are(
        Err(Error::ScopeService),
        &[
            ("%2Fsts%2F", "%2Fs3%2F"),
            ("%2Faws4_request", ""),
            ("%2Faws4_request", "%2F"),
            ("%2Faws4_request", "%2Faws4_requests"),
            ("%2Faws4_request", "%2Faws4_request%2F"),
            ("%2Fsts%2Faws4_request", ""),
        ],
    );
    // The global endpoint signs for us-east-1.
    let global = with("sts.eu-west-1.amazonaws.com", "sts.amazonaws.com");
    assert_eq!(judge(&global), Err(Error::ScopeRegion));
    assert_eq!(judge(&global.replacen("%2Feu-west-1", "%2Fus-east-1", 1)), Ok(()));
}

#[test]
fn clause_4_date_and_signature() {
    all_are(
        Err(Error::DateForm),
        &[
            ("20261124T120000Z", "2026-11-24T12:00:00Z"),
            ("20261124T120000Z", "20261124T120000"),
            ("20261124T120000Z", "20261124T120000z"),
            ("20261124T120000Z", "20261124T120000ZZ"),
            ("20261124T120000Z", "20261124T120060Z"),
            ("20261124T120000Z", "20261324T120000Z"),
            ("20261124T120000Z", "20261131T120000Z"),
            ("20261124T120000Z", ""),
        ],
    );
    all_are(
        Err(Error::SignatureForm),
        &[
            ("Signature=0", "Signature="),
            ("Signature=0", "Signature=00"),
            ("Signature=0", "Signature=g"),
            ("abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"),
            ("Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "Signature="),
        ],
    );
    all_are(Ok(()), &[("Signature=0", "Signature=%30")]);
}

#[test]
fn clause_5_expires_and_lifetime() {
    all_are(Ok(()), &[("Expires=60", "Expires=0"), ("Expires=60", "Expires=900"), ("Expires=60", "Expires=0000900")]);
    for bad in ["901", "-1", "+60", "%2B60", "", "6O", "60s", "1e2", "99999999999999999999", "%D9%A1"] {
        assert_eq!(judge(&with("Expires=60", &format!("Expires={bad}"))), Err(Error::Expires), "{bad}");
    }
    let at = |now| judge_at(GOOD, Partition::Aws, now);
    assert_eq!(at(NOON + 900), Ok(()), "the 900th second is included");
    assert_eq!(at(NOON + 901), Err(Error::Expired));
    assert_eq!(at(NOON - 300), Ok(()));
    assert_eq!(at(NOON - 301), Err(Error::Future));
    assert_eq!(at(i64::MAX), Err(Error::Expired));
    assert_eq!(at(i64::MIN), Err(Error::Future));
    // X-Amz-Expires does not shorten a token's life.
    assert_eq!(judge_at(&with("Expires=60", "Expires=0"), Partition::Aws, NOON + 900), Ok(()));
}

#[test]
fn clause_6_the_known_answer_of_the_reference() {
    let access_key_id = "QVNJQVIyVEc0NFY2QVMzWlpFN0M=";
    let secret = "NEtENWNudEdjVm1MV1JkRjV3dk5SdXpOTDVReG1wNk9LVlk2RnovUQ==";
    let (access_key_id, secret) = (from_base64(access_key_id), from_base64(secret));
    let date = AmzDate::from_unix(UnixSeconds::new(1_682_640_000)).unwrap();
    let presign = Presign {
        host: StsHost::regional(Partition::Aws, "us-west-2", Fips::No).unwrap(),
        access_key_id: std::str::from_utf8(&access_key_id).unwrap(),
        session_token: None,
        cluster_id: ClusterId::parse("test-cluster").unwrap(),
        date,
        expires_secs: 60,
    };
    let mut url = String::new();
    presign.write_url(&SigningKey::derive(&secret, date.day(), "us-west-2"), &mut url).unwrap();
    let signature = url.rsplit_once("&X-Amz-Signature=").unwrap().1;
    assert_eq!(signature, "e211dba77aba9dc44b0b6be38b8eaad092599c5157f6314444c5b9d85747f5ce");
}

fn from_base64(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|c| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let digits: Vec<_> = digits.collect();
    digits
        .chunks(4)
        .flat_map(|chunk| {
            let word = chunk.iter().fold(0_u32, |word, digit| word << 6 | u32::from(*digit)) << (6 * (4 - chunk.len()));
            word.to_be_bytes()[1..chunk.len()].to_vec()
        })
        .collect()
}

#[test]
fn the_first_clause_that_is_broken_gives_the_reason() {
    // All wrong from the host on: each repair uncovers the next.
    let mut url = GOOD
        .replacen("sts.eu-west-1.amazonaws.com", "sts.cn-north-1.amazonaws.com.cn", 1)
        .replacen("Action=GetCallerIdentity", "Action=X&foo=1", 1)
        .replacen("Expires=60", "Expires=x", 1);
    for (error, old, new) in [
        (Error::Partition, "sts.cn-north-1.amazonaws.com.cn", "sts.eu-west-1.amazonaws.com"),
        (Error::ParameterUnknown, "&foo=1", ""),
        (Error::Action, "Action=X", "Action=GetCallerIdentity"),
        (Error::Expires, "Expires=x", "Expires=1"),
    ] {
        assert_eq!(judge_at(&url, Partition::Aws, NOON + 10_000), Err(error));
        url = url.replacen(old, new, 1);
    }
    assert_eq!(judge_at(&url, Partition::Aws, NOON + 10_000), Err(Error::Expired));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// Percent-encodes some of the characters of a query's keys and values, changes the case of hex, and shuffles the pairs.
    fn respell(url: &str, over_encode: &[bool], lower_hex: &[bool], order: &[usize]) -> String {
        let (head, query) = url.split_once('?').unwrap();
        let mut pairs: Vec<String> = query.split('&').map(String::from).collect();
        for (at, other) in order.iter().enumerate() {
            let last = pairs.len() - 1;
            pairs.swap(at.min(last), other % (last + 1));
        }
        let mut out = format!("{head}?");
        let mut escapes = over_encode.iter().cycle();
        let mut cases = lower_hex.iter().cycle();
        let text = pairs.join("&");
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            if character == '%' {
                let hex: String = characters.by_ref().take(2).collect();
                out += "%";
                out += &if *cases.next().unwrap() { hex.to_ascii_lowercase() } else { hex };
            } else if !"&=".contains(character) && *escapes.next().unwrap() {
                out += &format!("%{:02X}", u32::from(character));
            } else {
                out.push(character);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn what_is_signed_parses_and_verifies_however_it_is_spelled(
            secret in "[!-~]{1,100}",
            id in "[A-Z0-9_]{16,128}",
            session_token in proptest::option::of("[ -~\u{e9}]{0,400}"),
            cluster in "[!-~]( ?[!-~]){0,60}",
            seconds in 0_i64..=253_402_300_799,
            region in proptest::sample::select(Partition::Aws.known_regions()),
            expires_secs in 0_u16..=900,
            over_encode in proptest::collection::vec(proptest::bool::weighted(0.2), 40..60),
            lower_hex in proptest::collection::vec(any::<bool>(), 10..20),
            order in proptest::collection::vec(0_usize..9, 9),
        ) {
            let date = AmzDate::from_unix(UnixSeconds::new(seconds)).unwrap();
            let host = StsHost::regional(Partition::Aws, region, Fips::No).unwrap();
            let key = SigningKey::derive(secret.as_bytes(), date.day(), region);
            let cluster_id = ClusterId::parse(&cluster).unwrap();
            let presign = Presign { host, access_key_id: &id, session_token: session_token.as_deref(), cluster_id, date, expires_secs };
            let mut url = String::new();
            presign.write_url(&key, &mut url).unwrap();
            for url in [url.clone(), respell(&url, &over_encode, &lower_hex, &order)] {
                let text = encode(&url);
                if text.len() > 4096 {
                    continue;
                }
                let mut buffer = TokenBuffer::new();
                let parsed = PresignedUrl::parse(Token::decode(text.as_bytes(), &mut buffer).unwrap(), &StsHosts::new(Partition::Aws));
                let parsed = parsed.map_err(|e| TestCaseError::fail(format!("{e}: {url}")))?;
                prop_assert_eq!(parsed.access_key_id().as_str(), id.as_str());
                prop_assert_eq!(parsed.has_session_token(), session_token.is_some());
                let policy = Policy::new(cluster_id);
                let request = StsRequest::check(parsed, &policy, UnixSeconds::new(seconds)).unwrap();
                prop_assert_eq!(verify(&request, &key), Ok(()));
                prop_assert!(verify(&request, &SigningKey::from_bytes([0; 32])).is_err());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), tail in "[!-~]{0,300}") {
            let _ = Token::decode(&bytes, &mut TokenBuffer::new());
            let _ = judge(&tail);
            let _ = judge(&format!("https://sts.eu-west-1.amazonaws.com/?{tail}"));
            let _ = judge(&format!("{GOOD}{tail}"));
        }
    }
}
