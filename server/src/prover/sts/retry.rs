//! How much is tried again, and when.
//!
//! The budget: each question pays a tenth of a retry in, each retry takes a whole one out. It starts full, with [`MOST`] retries, and holds no more: after a start or
//! a quiet hour ten resets in a row are forgiven, and from then on at most one question in ten is asked twice. When STS is down, retries then add a tenth to the
//! load that it does not bear, instead of doubling it.

use std::time::Duration;

/// Retries that are saved up at most.
pub(super) const MOST: u32 = 10;

/// A retry comes up to so much later: full jitter, so that a herd that was cut off together does not come back together.
/// AWS: <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
pub(super) const SPREAD: Duration = Duration::from_millis(100);

/// What a retry costs, in hundredths.
const COST: u32 = 100;

/// The retry budget of one host.
#[derive(Debug)]
pub(super) struct RetryBudget {
    percent: u32,
    hundredths: u32,
}

impl RetryBudget {
    /// A full one, for `percent` of all questions. Of nothing it has nothing.
    pub(super) const fn new(percent: u32) -> Self {
        Self { percent, hundredths: if percent == 0 { 0 } else { MOST * COST } }
    }

    /// A question is asked for the first time.
    pub(super) fn deposit(&mut self) {
        self.hundredths = self.hundredths.saturating_add(self.percent).min(MOST * COST);
    }

    /// Takes a retry out, if there is one.
    pub(super) const fn withdraw(&mut self) -> bool {
        match self.hundredths.checked_sub(COST) {
            Some(rest) => {
                self.hundredths = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(budget: &mut RetryBudget, questions: usize) -> usize {
        (0..questions)
            .filter(|_| {
                budget.deposit();
                budget.withdraw()
            })
            .count()
    }

    #[test]
    fn starts_with_ten_and_then_has_a_tenth() {
        let mut budget = RetryBudget::new(10);
        // Ten at once, and what comes in meanwhile.
        assert_eq!(retries(&mut budget, 11), 11);
        assert_eq!(retries(&mut budget, 1000), 100);
    }

    #[test]
    fn saves_up_ten_at_most() {
        let mut budget = RetryBudget::new(10);
        for _ in 0..100_000 {
            budget.deposit();
        }
        assert_eq!((0..100).filter(|_| budget.withdraw()).count(), 10);
    }

    #[test]
    fn may_be_all_or_nothing() {
        assert_eq!(retries(&mut RetryBudget::new(0), 1000), 0);
        assert_eq!(retries(&mut RetryBudget::new(100), 1000), 1000);
    }
}
