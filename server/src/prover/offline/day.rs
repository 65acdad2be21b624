//! The day of a signing key.

use std::fmt;

use arngate_core::UnixSeconds;
use arngate_core::time::AmzDate;

/// Seconds of a UTC day; UNIX time has no leap seconds.
const DAY_SECS: i64 = 86_400;

/// A UTC day, as a credential scope names it: `20261124`.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Day(AmzDate);

impl Day {
    /// Reads `YYYYMMDD`, a day of the Gregorian calendar.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        AmzDate::parse(format!("{text}T000000Z").as_bytes()).ok().map(Self)
    }

    /// The day of an instant; `None` outside the years 0 to 9999.
    #[must_use]
    pub fn of(instant: UnixSeconds) -> Option<Self> {
        let midnight = instant.as_i64().div_euclid(DAY_SECS).checked_mul(DAY_SECS)?;
        AmzDate::from_unix(UnixSeconds::new(midnight)).map(Self)
    }

    /// That many days later.
    #[must_use]
    pub fn later(self, days: u8) -> Option<Self> {
        AmzDate::from_unix(self.starts_at().saturating_add(i64::from(days) * DAY_SECS)).map(Self)
    }

    /// `YYYYMMDD`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.day()
    }

    /// Its first second.
    #[must_use]
    pub const fn starts_at(&self) -> UnixSeconds {
        self.0.unix()
    }

    /// The first second of the next day, when its keys sign no more.
    #[must_use]
    pub const fn ends_at(&self) -> UnixSeconds {
        self.starts_at().saturating_add(DAY_SECS)
    }
}

impl Ord for Day {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.starts_at().cmp(&other.starts_at())
    }
}

impl PartialOrd for Day {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Day").field(&self.as_str()).finish()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_real_days_only() {
        for bad in ["", "2026112", "20261131", "2026-11-24", "20261124T", "202611240", " 20261124"] {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
        let day = Day::parse("20261231").unwrap();
        assert_eq!(day.later(1).unwrap().as_str(), "20270101");
        assert_eq!(day.ends_at(), day.later(1).unwrap().starts_at());
        assert_eq!(Day::of(UnixSeconds::new(day.ends_at().as_i64() - 1)), Some(day));
        assert_eq!(Day::parse("99991231").unwrap().later(1), None);
    }
}
