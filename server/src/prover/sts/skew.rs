//! How far our clock and that of STS are apart: from the `Date` of its answers.
//!
//! A token is judged by our clock before STS judges it by its own. Where the two are minutes apart, good tokens are refused as expired or as not yet
//! signed, and nothing else tells why.

use std::time::{Duration, SystemTime};

use arngate_core::UnixSeconds;

/// Seconds apart that are worth a warning. `Date` has whole seconds, and the answer takes one or two to come.
const WARN_SECS: u64 = 60;

/// How often it is said again while it lasts.
const AGAIN: Duration = Duration::from_secs(60 * 60);

/// By how many seconds our clock is ahead of `date`, the header of an answer that came at `now`; negative: behind. Nothing where it is no date.
///
/// RFC 9110, section 5.6.7: `httpdate` reads its three forms.
pub(super) fn ahead_secs(date: &str, now: UnixSeconds) -> Option<i64> {
    let theirs = httpdate::parse_http_date(date).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    now.as_i64().checked_sub(i64::try_from(theirs.as_secs()).ok()?)
}

/// What there is to say about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Notice {
    /// They are far apart.
    Apart,
    /// They no longer are.
    Together,
}

/// Says it once, and again from time to time.
#[derive(Debug, Default)]
pub(super) struct Skew {
    warned: Option<Duration>,
}

impl Skew {
    /// The clocks are so far apart at `now` (monotonic).
    pub(super) fn measured(&mut self, ahead_secs: i64, now: Duration) -> Option<Notice> {
        match (ahead_secs.unsigned_abs() > WARN_SECS, self.warned) {
            (true, Some(warned)) if now.saturating_sub(warned) < AGAIN => None,
            (true, _) => {
                self.warned = Some(now);
                Some(Notice::Apart)
            }
            (false, Some(_)) => {
                self.warned = None;
                Some(Notice::Together)
            }
            (false, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_date_of_an_answer() {
        let now = UnixSeconds::new(1_795_521_600);
        for (date, ahead) in [
            ("Tue, 24 Nov 2026 12:00:00 GMT", Some(0)),
            ("Tue, 24 Nov 2026 11:58:00 GMT", Some(120)),
            ("Tue, 24 Nov 2026 12:00:07 GMT", Some(-7)),
            ("Tuesday, 24-Nov-26 12:00:01 GMT", Some(-1)),
            ("Tue Nov 24 12:00:01 2026", Some(-1)),
            ("", None),
            ("now", None),
            ("Tue, 24 Nov 2026 12:00:00", None),
        ] {
            assert_eq!(ahead_secs(date, now), ahead, "{date}");
        }
    }

    #[test]
    fn warns_once_and_not_for_each_answer() {
        let mut skew = Skew::default();
        let secs = Duration::from_secs;
        assert_eq!(skew.measured(60, secs(0)), None);
        assert_eq!(skew.measured(61, secs(1)), Some(Notice::Apart));
        for at in 2..3601 {
            assert_eq!(skew.measured(-300, secs(at)), None);
        }
        assert_eq!(skew.measured(61, secs(3601)), Some(Notice::Apart), "and again after an hour");
        assert_eq!(skew.measured(0, secs(3602)), Some(Notice::Together));
        assert_eq!(skew.measured(0, secs(3603)), None);
        assert_eq!(skew.measured(-61, secs(3604)), Some(Notice::Apart));
    }
}
