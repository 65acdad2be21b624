//! How long to wait before the API server is asked again.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);

/// The longest wait. Who adds a role that was missing, or installs the custom resource, waits no longer than this for it to act.
const LONGEST: Duration = Duration::from_secs(10);

/// A watch that lived so long was a good one: what ended it is no reason to hold back.
pub(crate) const GOOD_LIFE: Duration = Duration::from_secs(10);

/// Waits that double, with jitter. No end of a watch, however friendly, begins the next one at once unless it has lived for [`GOOD_LIFE`]: whatever the API
/// server does, it is asked at most twice a second at first and once in 5 s in the long run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    next: Duration,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// How long to wait after a round that was well until it ended, or was not.
    pub(crate) fn after(&mut self, well: bool, lived: Duration) -> Duration {
        if lived >= GOOD_LIFE {
            self.next = FIRST;
            if well {
                return Duration::ZERO;
            }
        }
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(LONGEST);
        // Between half of it and all: servers that lost their API server together must not come back together.
        wait.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_longest_whatever_ends_the_rounds() {
        for well in [true, false] {
            let mut pace = Pace::new();
            for longest in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
                let wait = pace.after(well, SHORT);
                let longest = Duration::from_millis(longest);
                assert!((longest / 2..=longest).contains(&wait), "{wait:?} {longest:?}");
            }
        }
    }

    #[test]
    fn a_good_life_ends_the_waiting() {
        let mut pace = Pace::new();
        for _ in 0..5 {
            pace.after(false, SHORT);
        }
        assert_eq!(pace.after(true, GOOD_LIFE), Duration::ZERO);
        assert!(pace.after(false, GOOD_LIFE) <= FIRST);
        assert!(pace.after(true, SHORT) > FIRST / 2, "the one before was bad");
    }
}
