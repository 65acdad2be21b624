//! Instants as people and Kubernetes write them (RFC 3339), beside the core's `AmzDate`.

use arngate_core::UnixSeconds;
use arngate_core::time::AmzDate;
use arngate_server::clock::{Clock as _, SystemClock};

/// The time now, in whole seconds. Each command reads it once.
pub(crate) fn now() -> UnixSeconds {
    SystemClock::new().now().unix
}

/// Reads `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)`. The fraction is cut off.
///
/// # Syntax
///
/// `date-time` of RFC 3339 section 5.6, in either case, without leap seconds.
pub(crate) fn parse(text: &str) -> Option<UnixSeconds> {
    let text = text.to_ascii_uppercase();
    let (date_time, rest) = text.split_at_checked(19)?;
    let bytes = date_time.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(place, separator)| bytes.get(*place) != Some(separator)) {
        return None;
    }
    // The core reads the basic form: the same digits without hyphens and colons.
    let basic: Vec<u8> = bytes.iter().copied().filter(|byte| !matches!(byte, b'-' | b':')).chain([b'Z']).collect();
    let local = AmzDate::parse(&basic).ok()?.unix();
    let zone = match rest.strip_prefix('.') {
        Some(rest) => {
            let zone = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == rest.len() {
                return None;
            }
            zone
        }
        None => rest,
    };
    Some(local.saturating_add(-offset_secs(zone)?))
}

/// Seconds that a zone is ahead of UTC.
fn offset_secs(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':')?;
    let two_digits = |text: &str, limit: i64| -> Option<i64> {
        let is_form = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| is_form && *number < limit)
    };
    Some(sign * (two_digits(hours, 24)? * 3600 + two_digits(minutes, 60)? * 60))
}

/// Writes an instant as `YYYY-MM-DDTHH:MM:SSZ`; nothing outside the years 0 to 9999.
pub(crate) fn format(instant: UnixSeconds) -> String {
    let Some(date) = AmzDate::from_unix(instant) else { return String::new() };
    let part = |range| date.as_str().get(range).unwrap_or_default();
    format!("{}-{}-{}T{}:{}:{}Z", part(0..4), part(4..6), part(6..8), part(9..11), part(11..13), part(13..15))
}

/// Reads a day, `YYYY-MM-DD`: its first second in UTC.
#[cfg(any(feature = "aws-sdk", test))]
pub(crate) fn parse_day(text: &str) -> Option<UnixSeconds> {
    parse(&format!("{text}T00:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_zones_and_cuts_fractions() {
        for text in [
            "2026-11-24T12:00:00Z",
            "2026-11-24T13:30:00+01:30",
            "2026-11-24T04:00:00-08:00",
            "2026-11-24T12:00:00.999Z",
            "2026-11-24T12:00:00.5+00:00",
            "2026-11-24t12:00:00z",
        ] {
            let instant = parse(text).unwrap();
            assert_eq!(format(instant), "2026-11-24T12:00:00Z", "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_instant() {
        for text in [
            "",
            "2026-11-24",
            "2026-11-24T12:00:00",
            "2026-11-24 12:00:00Z",
            "2026-11-31T12:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T12:00:60Z",
            "2026-11-24T12:00:00.Z",
            "2026-11-24T12:00:00+1:00",
            "2026-11-24T12:00:00+24:00",
            "2026-11-24T12:00:00+01:60",
            "2026-11-24T12:00:00++1:00",
            "20261124T120000Z",
            "2026-11-24T12:00:00ZZ",
            "2026-11-24T12:00:0\u{e4}Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn reads_a_day() {
        assert_eq!(parse_day("2026-11-24").map(format).as_deref(), Some("2026-11-24T00:00:00Z"));
        assert_eq!(parse_day("2026-11-24T"), None);
    }
}
