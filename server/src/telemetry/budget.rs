//! A bound on how many lines a flood may write.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// So many lines a second, then a count of those that were left out.
///
/// The seconds are those of the monotonic clock that is passed in; a second is a window with a fixed start, so twice the budget can fall into a
/// second that lies across two, which no disk minds.
#[derive(Debug)]
pub struct LineBudget {
    lines_per_second: u32,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    second: u64,
    written: u32,
    left_out: u64,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// Leave it out; it is counted.
    LeaveOut,
    /// Write it; so many were left out since the last line that was written.
    Write {
        /// Lines left out before this one; say so where it is not zero.
        left_out: u64,
    },
}

impl LineBudget {
    /// Lines a second for denied requests: a person can still follow that many, and at 500 bytes a line it is 2 GB a day at the very worst.
    pub const DENIED_LINES_PER_SECOND: u32 = 50;

    /// A budget of so many lines a second.
    #[must_use]
    pub const fn new(lines_per_second: u32) -> Self {
        Self { lines_per_second, window: Mutex::new(Window { second: 0, written: 0, left_out: 0 }) }
    }

    /// Asks for one line at `monotonic` ([`Now::monotonic`](crate::clock::Now)).
    pub fn admit(&self, monotonic: Duration) -> Admission {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        // Readings of one clock can arrive out of order from two threads; an older one belongs to the window that is open.
        if monotonic.as_secs() > window.second {
            window.second = monotonic.as_secs();
            window.written = 0;
        }
        if window.written >= self.lines_per_second {
            window.left_out = window.left_out.saturating_add(1);
            return Admission::LeaveOut;
        }
        window.written += 1;
        Admission::Write { left_out: std::mem::take(&mut window.left_out) }
    }

    /// Takes the count of lines left out that no later line has told yet: for a look now and then, and for the end.
    pub fn take_left_out(&self) -> u64 {
        std::mem::take(&mut self.window.lock().unwrap_or_else(PoisonError::into_inner).left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_first_lines_of_each_second_and_tells_what_was_left_out() {
        let budget = LineBudget::new(2);
        let at = Duration::from_millis;
        assert_eq!(budget.admit(at(0)), Admission::Write { left_out: 0 });
        assert_eq!(budget.admit(at(10)), Admission::Write { left_out: 0 });
        for _ in 0..1000 {
            assert_eq!(budget.admit(at(999)), Admission::LeaveOut);
        }
        assert_eq!(budget.admit(at(1_000)), Admission::Write { left_out: 1000 });
        assert_eq!(budget.admit(at(1_001)), Admission::Write { left_out: 0 });
        assert_eq!(budget.admit(at(1_002)), Admission::LeaveOut);
        assert_eq!(budget.take_left_out(), 1);
        assert_eq!(budget.take_left_out(), 0);
    }

    #[test]
    fn a_reading_that_comes_late_opens_no_new_window() {
        let budget = LineBudget::new(1);
        assert_eq!(budget.admit(Duration::from_secs(5)), Admission::Write { left_out: 0 });
        assert_eq!(budget.admit(Duration::from_secs(4)), Admission::LeaveOut);
        assert_eq!(budget.admit(Duration::from_secs(5)), Admission::LeaveOut);
    }
}
