//! The only place that reads the clock.
//!
//! Whoever judges time is given a [`Now`], or a [`Clock`] to make one: once a request, at its start. So a test moves time instead of waiting
//! for it, and the wall clock and the monotonic one can be moved apart, as they are by a suspend or a jump of NTP. Timers (how long to wait for a
//! peer) are tokio's and do not pass here: they decide no question of validity.

use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arngate_core::UnixSeconds;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Now {
    /// Wall-clock time: what X-Amz-Date and certificates are compared with. Can jump, either way.
    pub unix: UnixSeconds,
    /// Time since the clock was made: never goes back. For ages and budgets.
    pub monotonic: Duration,
}

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Reads both clocks.
    fn now(&self) -> Now;

    /// Reads the monotonic one alone, which is half of the work.
    fn monotonic(&self) -> Duration {
        self.now().monotonic
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins here.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all others must use")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all others must use")]
    fn now(&self) -> Now {
        Now { unix: unix_seconds(SystemTime::now()), monotonic: self.monotonic() }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that all others must use")]
    fn monotonic(&self) -> Duration {
        Instant::now().saturating_duration_since(self.start)
    }
}

/// Whole seconds, rounded down also before 1970 (a board without a battery starts there).
fn unix_seconds(time: SystemTime) -> UnixSeconds {
    let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    UnixSeconds::new(match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => whole(after),
        Err(before) => -whole(before.duration()) - i64::from(before.duration().subsec_nanos() > 0),
    })
}

/// A clock that stands still until a test moves it.
///
/// ```
/// use std::time::Duration;
/// use arngate_core::UnixSeconds;
/// use arngate_server::clock::{Clock, ManualClock};
///
/// let clock = ManualClock::at(UnixSeconds::new(1_795_521_600));
/// clock.advance_secs(60);
/// assert_eq!(clock.now().unix, UnixSeconds::new(1_795_521_660));
/// assert_eq!(clock.now().monotonic, Duration::from_secs(60));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Now>,
}

impl ManualClock {
    /// A clock that shows `unix`, its monotonic time zero.
    #[must_use]
    pub const fn at(unix: UnixSeconds) -> Self {
        Self { now: Mutex::new(Now { unix, monotonic: Duration::ZERO }) }
    }

    /// Moves both clocks, as time does.
    pub fn advance_secs(&self, seconds: u32) {
        let mut now = self.lock();
        now.unix = now.unix.saturating_add(i64::from(seconds));
        now.monotonic = now.monotonic.saturating_add(Duration::from_secs(u64::from(seconds)));
    }

    /// Moves the monotonic clock alone.
    pub fn advance_monotonic(&self, by: Duration) {
        let mut now = self.lock();
        now.monotonic = now.monotonic.saturating_add(by);
    }

    /// Sets the wall clock alone, forward or back, as NTP does.
    pub fn set_unix(&self, unix: UnixSeconds) {
        self.lock().unix = unix;
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        // A `Now` is whole at every instant, so a panic elsewhere cannot have left half of one.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_down_on_both_sides_of_the_epoch() {
        let epoch = SystemTime::UNIX_EPOCH;
        for (time, seconds) in [
            (epoch, 0),
            (epoch + Duration::from_millis(1_999), 1),
            (epoch - Duration::from_millis(1), -1),
            (epoch - Duration::from_secs(1), -1),
            (epoch - Duration::from_millis(1_001), -2),
        ] {
            assert_eq!(unix_seconds(time), UnixSeconds::new(seconds));
        }
    }

    #[test]
    fn the_system_clock_never_goes_back() {
        let clock = SystemClock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(first.monotonic <= second.monotonic);
        assert!(first.unix > UnixSeconds::new(1_700_000_000), "the machine's clock is set");
    }

    #[test]
    fn both_clocks_move_apart_when_told_to() {
        let clock = ManualClock::at(UnixSeconds::new(100));
        clock.advance_monotonic(Duration::from_millis(5));
        clock.set_unix(UnixSeconds::new(40));
        assert_eq!(clock.now(), Now { unix: UnixSeconds::new(40), monotonic: Duration::from_millis(5) });
        clock.advance_secs(2);
        assert_eq!(clock.now(), Now { unix: UnixSeconds::new(42), monotonic: Duration::from_millis(2_005) });
    }
}
