//! Instants as AWS writes them. There is no "now" here: time is an argument everywhere in the core.

use core::{fmt, str};

use crate::Error;

/// Whole seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnixSeconds(i64);

impl UnixSeconds {
    /// The instant that many seconds after the epoch, or before it where negative.
    #[must_use]
    pub const fn new(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// This instant moved by `seconds`; stays at the ends of `i64` instead of wrapping.
    #[must_use]
    pub const fn saturating_add(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// The value of X-Amz-Date: text and instant, known to agree.
///
/// # Syntax
///
/// ```text
/// amz-date = 4DIGIT 2DIGIT 2DIGIT "T" 2DIGIT 2DIGIT 2DIGIT "Z"   ; a real date of the Gregorian calendar, seconds 00-59
/// ```
///
/// AWS: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-signing-elements.html> (ISO 8601 basic format).
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct AmzDate {
    text: [u8; Self::BYTES],
    unix: UnixSeconds,
}

impl AmzDate {
    /// Length of the text, in bytes.
    pub const BYTES: usize = 16;

    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// [`Error::DateForm`] where the form differs by one byte, or the date does not exist.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let text: [u8; Self::BYTES] = text.try_into().map_err(|_| Error::DateForm)?;
        let [y1, y2, y3, y4, mo1, mo2, d1, d2, b'T', h1, h2, mi1, mi2, s1, s2, b'Z'] = text else {
            return Err(Error::DateForm);
        };
        let digits = [y1, y2, y3, y4, mo1, mo2, d1, d2, h1, h2, mi1, mi2, s1, s2].map(|digit| digit.wrapping_sub(b'0'));
        if digits.iter().fold(false, |is_bad, digit| is_bad | (*digit > 9)) {
            return Err(Error::DateForm);
        }
        let [century, year, month, day, hour, minute, second] = pairs_of(digits).map(u32::from);
        let year = century.saturating_mul(100).saturating_add(year);
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 || second > 59 {
            return Err(Error::DateForm);
        }
        let unix = seconds_of(year, month, day, hour, minute, second);
        Ok(Self { text, unix: UnixSeconds::new(unix) })
    }

    /// Writes an instant; `None` outside the years 0 to 9999, which the form cannot tell.
    #[must_use]
    #[expect(clippy::arithmetic_side_effects, reason = "bounded by the range check on the first line")]
    pub fn from_unix(unix: UnixSeconds) -> Option<Self> {
        let seconds = unix.as_i64();
        if !(-62_167_219_200..=253_402_300_799).contains(&seconds) {
            return None;
        }
        let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        let mut text = *b"00000000T000000Z";
        let fields = [
            (0, 4, year),
            (4, 2, month),
            (6, 2, day),
            (9, 2, second_of_day / 3600),
            (11, 2, second_of_day / 60 % 60),
            (13, 2, second_of_day % 60),
        ];
        for (start, width, mut value) in fields {
            for digit in text.get_mut(start..start + width)?.iter_mut().rev() {
                *digit = b'0' + u8::try_from(value % 10).ok()?;
                value /= 10;
            }
        }
        Some(Self { text, unix })
    }

    /// The instant.
    #[must_use]
    pub const fn unix(&self) -> UnixSeconds {
        self.unix
    }

    /// The whole text, `20261124T120000Z`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.text).unwrap_or_default()
    }

    /// The day in a credential scope, `20261124`.
    #[must_use]
    pub fn day(&self) -> &str {
        self.as_str().get(..8).unwrap_or_default()
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.text
    }

    pub(crate) fn day_bytes(&self) -> &[u8] {
        self.text.split_at(8).0
    }
}

impl fmt::Debug for AmzDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AmzDate").field(&self.as_str()).finish()
    }
}

/// The decimal numbers that two digits each write.
#[expect(clippy::arithmetic_side_effects, reason = "every digit is at most nine")]
const fn pairs_of(digits: [u8; 14]) -> [u8; 7] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = digits;
    [a * 10 + b, c * 10 + d, e * 10 + f, g * 10 + h, i * 10 + j, k * 10 + l, m * 10 + n]
}

const fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[expect(clippy::arithmetic_side_effects, reason = "every field has at most four digits")]
fn seconds_of(year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> i64 {
    // Days from civil, Howard Hinnant, https://howardhinnant.github.io/date_algorithms.html#days_from_civil, one era later, so that nothing is
    // negative.
    let year = if month <= 2 { year + 399 } else { year + 400 };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = i64::from(era * 146_097 + day_of_era) - 719_468 - 146_097;
    days * 86_400 + i64::from(hour * 3600 + minute * 60 + second)
}

#[expect(clippy::arithmetic_side_effects, reason = "called for years 0 to 9999 only")]
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // Civil from days, same source.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_instant_of_the_reference() {
        let date = AmzDate::parse(b"20230428T000000Z").unwrap();
        assert_eq!(date.unix(), UnixSeconds::new(1_682_640_000));
        assert_eq!(date.day(), "20230428");
    }

    #[test]
    fn refuses_what_is_not_a_real_date() {
        for bad in [
            "",
            "20230428",
            "20230428T000000",
            "20230428t000000Z",
            "20230428T000000z",
            "20230229T000000Z",
            "20231301T000000Z",
            "20230001T000000Z",
            "20230100T000000Z",
            "20230432T000000Z",
            "20230428T240000Z",
            "20230428T006000Z",
            "20230428T000060Z",
            "2023042 T000000Z",
            "+0230428T000000Z",
            "19000229T000000Z",
        ] {
            assert_eq!(AmzDate::parse(bad.as_bytes()), Err(Error::DateForm), "{bad}");
        }
    }

    #[test]
    fn knows_leap_years() {
        assert!(AmzDate::parse(b"20000229T000000Z").is_ok());
        assert!(AmzDate::parse(b"20240229T235959Z").is_ok());
    }

    #[test]
    fn has_no_text_for_the_year_10000() {
        assert_eq!(AmzDate::from_unix(UnixSeconds::new(253_402_300_800)), None);
        let last = AmzDate::from_unix(UnixSeconds::new(253_402_300_799)).unwrap();
        assert_eq!(last.as_str(), "99991231T235959Z");
    }

    proptest::proptest! {
        #[test]
        fn writes_what_it_reads(seconds in -62_167_219_200_i64..=253_402_300_799) {
            let date = AmzDate::from_unix(UnixSeconds::new(seconds)).unwrap();
            proptest::prop_assert_eq!(AmzDate::parse(date.as_str().as_bytes()), Ok(date));
        }
    }
}
