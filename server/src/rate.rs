//! Calls a second, with a burst: a token bucket, kept as the instant at which it will be full. Pure: the time is given.

use std::time::Duration;

/// How many calls a second there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Calls a second; at least 1.
    pub per_second: u32,
    /// Calls at once after a pause; at least 1.
    pub burst: u32,
}

/// The tokens that a [`Rate`] gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Between two tokens.
    interval: Duration,
    /// How far ahead of now `full_at` may be for one token to be left.
    slack: Duration,
    full_at: Duration,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(rate: Rate) -> Self {
        let interval = Duration::from_secs(1) / rate.per_second.max(1);
        Self { interval, slack: interval * rate.burst.saturating_sub(1), full_at: Duration::ZERO }
    }

    /// When there is a token: `now`, or later.
    pub(crate) fn ready_at(&self, now: Duration) -> Duration {
        self.full_at.saturating_sub(self.slack).max(now)
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let ready = self.ready_at(now) <= now;
        if ready {
            self.full_at = self.full_at.max(now) + self.interval;
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_burst_at_once_and_then_the_rate() {
        let mut bucket = Bucket::new(Rate { per_second: 10, burst: 3 });
        let millis = Duration::from_millis;
        let taken: Vec<bool> = [0, 0, 0, 0, 99, 100, 100, 250, 299, 300].map(|at| bucket.take(millis(at))).into();
        assert_eq!(taken, [true, true, true, false, false, true, false, true, false, true]);
        assert_eq!(bucket.ready_at(millis(300)), millis(400));
        // A pause fills it, and not beyond the burst.
        let taken: Vec<bool> = [9_000; 4].map(|at| bucket.take(millis(at))).into();
        assert_eq!(taken, [true, true, true, false]);
    }

    proptest::proptest! {
        #[test]
        fn never_gives_more_than_burst_and_rate(per_second in 1_u32..1000, burst in 1_u32..50, pauses in proptest::collection::vec(0_u64..300, 1..200)) {
            let mut bucket = Bucket::new(Rate { per_second, burst });
            let (mut now, mut given) = (Duration::ZERO, 0_u128);
            for pause in pauses {
                now += Duration::from_millis(pause);
                given += u128::from(bucket.take(now));
                proptest::prop_assert!(bucket.ready_at(now) >= now);
                // An interval is cut to whole nanoseconds, hence the one more.
                proptest::prop_assert!(given <= u128::from(burst) + now.as_millis() * u128::from(per_second) / 1000 + 1);
            }
        }
    }
}
