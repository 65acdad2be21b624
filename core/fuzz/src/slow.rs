//! Slow and plain ways to work out what the core works out in clever ones.

use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use sha2::{Digest as _, Sha256};

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The canonical request of a presigned GetCallerIdentity.
pub fn canonical_request(host: &str, query: &str, cluster_id: &str) -> String {
    let decode = |text: &str| percent_decode(text.replace('+', " ").as_bytes()).collect::<Vec<u8>>();
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name), decode(value));
        if !name.eq_ignore_ascii_case(b"X-Amz-Signature") {
            pairs.push((percent_encode(&name, RESERVED).to_string(), percent_encode(&value, RESERVED).to_string()));
        }
    }
    pairs.sort();
    let query = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let cluster_id = cluster_id.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    format!("GET\n/\n{query}\nhost:{host}\nx-k8s-aws-id:{cluster_id}\n\nhost;x-k8s-aws-id\n{}", hex(&Sha256::digest(b"")))
}

/// The signature of a canonical request for STS.
pub fn signature(secret: &[u8], date: &str, region: &str, canonical_request: &str) -> String {
    let day = &date[..8];
    let request = hex(&Sha256::digest(canonical_request.as_bytes()));
    let string_to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{day}/{region}/sts/aws4_request\n{request}");
    let mut key = [b"AWS4", secret].concat();
    for part in [day, region, "sts", "aws4_request", &string_to_sign] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(part.as_bytes());
        key = mac.finalize().into_bytes().to_vec();
    }
    hex(&key)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds since the epoch of `YYYYMMDDTHHMMSSZ`.
pub fn unix_seconds(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let field = |start: usize, length: usize| {
        let digits = &text.get(start..start + length)?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse::<i64>().ok() } else { None }
    };
    let (year, month, day) = (field(0, 4)?, field(4, 2)?, field(6, 2)?);
    let (hour, minute, second) = (field(9, 2)?, field(11, 2)?, field(13, 2)?);
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let months = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month).ok().filter(|month| (1..=12).contains(month))?;
    if !(1..=months[month - 1]).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Leap years from the year 0 on, which is one, up to the year before.
    let leap_years = |before: i64| if before == 0 { 0 } else { (before - 1) / 4 - (before - 1) / 100 + (before - 1) / 400 + 1 };
    let days_before = |year: i64| 365 * year + leap_years(year);
    let days = days_before(year) - days_before(1970) + months[..month - 1].iter().sum::<i64>() + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Whether `text` is what `pattern` describes: every split of the text is tried, each answer kept. ASCII case does not count.
pub fn wildcard_matches(pattern: &[u8], text: &[u8]) -> bool {
    // Whether the pattern up to here describes the first so many bytes of the text.
    let mut fits = vec![false; text.len() + 1];
    fits[0] = true;
    for wanted in pattern {
        let mut next = vec![false; text.len() + 1];
        for length in 0..=text.len() {
            next[length] = match wanted {
                b'*' => fits[length] || length > 0 && next[length - 1],
                b'?' => length > 0 && fits[length - 1],
                _ => length > 0 && fits[length - 1] && wanted.eq_ignore_ascii_case(&text[length - 1]),
            };
        }
        fits = next;
    }
    fits[text.len()]
}

/// A template's text with each placeholder replaced, from left to right; `None` where it wants what there is not.
pub fn render(template: &str, values: &[(&str, Option<&str>)]) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(first) = rest.chars().next() {
        if let Some((placeholder, value)) = values.iter().find(|(placeholder, _)| rest.starts_with(placeholder)) {
            out.push_str((*value)?);
            rest = &rest[placeholder.len()..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    Some(out)
}
