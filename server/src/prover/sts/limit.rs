//! How many calls may be under way, and what a throttle does to that.
//!
//! A throttle halves the number, and it grows back evenly over [`RECOVERY`]. Pure: the time is given.

use std::time::Duration;

/// How long it takes until all places are there again. DESIGN: "to grow back over 30 s".
pub(super) const RECOVERY: Duration = Duration::from_secs(30);

/// A number of places that may be cut for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    most: usize,
    cut: Option<Cut>,
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    to: usize,
    at: Duration,
}

impl Limit {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, cut: None }
    }

    /// The places that there are at `now`.
    pub(super) fn at(&self, now: Duration) -> usize {
        match self.cut {
            Some(Cut { to, at }) => {
                let elapsed = now.saturating_sub(at).min(RECOVERY);
                // At most 4096 places and 3 × 10¹⁰ ns.
                let grown = (self.most - to) as u128 * elapsed.as_nanos() / RECOVERY.as_nanos();
                to + usize::try_from(grown).unwrap_or(self.most - to)
            }
            None => self.most,
        }
    }

    /// A call that began at `began` was throttled at `now`: half of the places go, never the last one.
    ///
    /// All that were under way when the first one was throttled will be, too; they say nothing new, and cut nothing more.
    pub(super) fn throttled(&mut self, began: Duration, now: Duration) {
        if self.cut.is_none_or(|cut| began >= cut.at) {
            self.cut = Some(Cut { to: (self.at(now) / 2).max(1), at: now });
        }
    }

    /// When there will be one place more than at `now`, if there will.
    pub(super) fn grows_at(&self, now: Duration) -> Option<Duration> {
        let Cut { to, at } = self.cut?;
        let next = self.at(now) + 1;
        if next > self.most {
            return None;
        }
        let nanos = ((next - to) as u128 * RECOVERY.as_nanos()).div_ceil((self.most - to) as u128);
        Some(at + Duration::from_nanos(u64::try_from(nanos).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_throttle_halves_it_and_half_a_minute_heals_it() {
        let mut limit = Limit::new(64);
        assert_eq!(limit.at(secs(7)), 64);
        limit.throttled(secs(9), secs(10));
        assert_eq!([10, 25, 39, 40, 1000].map(|at| limit.at(secs(at))), [32, 48, 62, 64, 64]);
        // From where it is by then.
        limit.throttled(secs(25), secs(25));
        assert_eq!([25, 40, 55].map(|at| limit.at(secs(at))), [24, 44, 64]);
    }

    #[test]
    fn calls_of_one_herd_cut_it_once() {
        let mut limit = Limit::new(64);
        for late in 10..20 {
            limit.throttled(secs(9), secs(late));
        }
        assert_eq!(limit.at(secs(10)), 32);
    }

    #[test]
    fn one_place_stays_whatever_happens() {
        for most in [1, 2, 3, 64] {
            let mut limit = Limit::new(most);
            for _ in 0..20 {
                limit.throttled(secs(1), secs(1));
            }
            assert_eq!((limit.at(secs(1)), limit.at(secs(31))), (1, most));
        }
    }

    proptest::proptest! {
        #[test]
        fn tells_exactly_when_it_grows(most in 1_usize..200, cuts in 1_usize..8, after in 0_u64..40_000) {
            let mut limit = Limit::new(most);
            for _ in 0..cuts {
                limit.throttled(secs(5), secs(5));
            }
            let now = secs(5) + Duration::from_millis(after);
            match limit.grows_at(now) {
                Some(at) => {
                    proptest::prop_assert!(at > now);
                    proptest::prop_assert_eq!(limit.at(at), limit.at(now) + 1);
                    proptest::prop_assert_eq!(limit.at(at - Duration::from_nanos(1)), limit.at(now));
                }
                None => proptest::prop_assert_eq!(limit.at(now), most),
            }
        }
    }
}
