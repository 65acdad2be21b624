//! Whether a host is asked at all.
//!
//! The rule: five attempts in a row that found nobody (no connection, a reset, a time-out, a 5xx), and the host is not asked for a second. Then one
//! attempt is let through: if somebody answers, all is as before; if not, the pause doubles, to four seconds at most. Any answer of STS, a refusal and a throttle
//! too, ends a row. What somebody else says on the way (a proxy's page, a redirect) neither counts nor ends it: it comes at once and keeps nobody
//! waiting, and it must not be for the sender of a strange token to shut the host for all.
//!
//! Five in a row is also Envoy's default (`consecutive_5xx` of its outlier detection); a share of the calls would need a window and a least number of
//! calls beside, and nobody could tell from a log why it opened.
//!
//! Pure: the time is given.

use std::time::Duration;

/// Attempts in a row after which a host is not asked.
pub(super) const FAILURES: u32 = 5;

/// The first pause.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
pub(super) const PAUSE_MOST: Duration = Duration::from_secs(4);

/// What an attempt told of the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// STS answered.
    Alive,
    /// Nobody did.
    Away,
    /// Neither can be said: somebody else answered, or nobody waited for the answer.
    Unknown,
}

/// What an operator is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BreakerState {
    Closed,
    HalfOpen,
    Open,
}

/// The breaker of one host.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// Rises with each change of state: what began before it says nothing about the time after it.
    epoch: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Duration, pause: Duration },
    HalfOpen { pause: Duration, probing: bool },
}

/// The right to one attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Admission {
    epoch: u64,
    /// Whether it is the one attempt that is let through; it is not to be tried again.
    pub(super) is_probe: bool,
}

/// Not now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    /// How long until somebody may try; zero while somebody does.
    pub(super) pause: Duration,
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self { state: State::Closed { failures: 0 }, epoch: 0 }
    }

    /// Whether an attempt would be let through: to be asked before waiting for a place.
    pub(super) fn check(&self, now: Duration) -> Result<(), Refusal> {
        match self.state {
            State::Open { until, .. } if now < until => Err(Refusal { pause: until - now }),
            State::HalfOpen { probing: true, .. } => Err(Refusal { pause: Duration::ZERO }),
            State::Closed { .. } | State::HalfOpen { .. } | State::Open { .. } => Ok(()),
        }
    }

    /// Lets an attempt through. What comes of it is to be told in any case.
    pub(super) fn admit(&mut self, now: Duration) -> Result<Admission, Refusal> {
        self.check(now)?;
        let is_probe = match self.state {
            State::Closed { .. } => false,
            State::Open { pause, .. } => {
                self.become_state(State::HalfOpen { pause, probing: true });
                true
            }
            State::HalfOpen { pause, .. } => {
                self.state = State::HalfOpen { pause, probing: true };
                true
            }
        };
        Ok(Admission { epoch: self.epoch, is_probe })
    }

    /// What came of an attempt. Whether the host was shut by that.
    pub(super) fn report(&mut self, admission: Admission, verdict: Verdict, now: Duration) -> bool {
        if admission.epoch != self.epoch {
            return false;
        }
        match (self.state, verdict) {
            (State::Closed { failures }, Verdict::Away) if failures + 1 >= FAILURES => {
                self.become_state(State::Open { until: now + PAUSE, pause: PAUSE });
                return true;
            }
            (State::Closed { failures }, Verdict::Away) => self.state = State::Closed { failures: failures + 1 },
            (State::Closed { .. }, Verdict::Alive) => self.state = State::Closed { failures: 0 },
            (State::HalfOpen { .. }, Verdict::Alive) => self.become_state(State::Closed { failures: 0 }),
            (State::HalfOpen { pause, .. }, Verdict::Away) => {
                let pause = (pause * 2).min(PAUSE_MOST);
                self.become_state(State::Open { until: now + pause, pause });
                return true;
            }
            (State::HalfOpen { pause, .. }, Verdict::Unknown) => self.state = State::HalfOpen { pause, probing: false },
            (State::Closed { .. }, Verdict::Unknown) | (State::Open { .. }, _) => {}
        }
        false
    }

    pub(super) fn state(&self, now: Duration) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { until, .. } if now < until => BreakerState::Open,
            State::HalfOpen { .. } | State::Open { .. } => BreakerState::HalfOpen,
        }
    }

    const fn become_state(&mut self, state: State) {
        self.epoch += 1;
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn tell(breaker: &mut Breaker, verdict: Verdict, at: u64) -> bool {
        let admission = breaker.admit(millis(at)).unwrap();
        breaker.report(admission, verdict, millis(at))
    }

    fn open() -> Breaker {
        let mut breaker = Breaker::new();
        let opened: Vec<bool> = (0..FAILURES).map(|_| tell(&mut breaker, Verdict::Away, 0)).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_for_a_second() {
        let breaker = open();
        assert_eq!(breaker.check(millis(1)), Err(Refusal { pause: millis(999) }));
        assert_eq!(breaker.check(millis(999)), Err(Refusal { pause: millis(1) }));
        assert_eq!(breaker.check(millis(1000)), Ok(()));
    }

    #[test]
    fn an_answer_ends_a_row_and_somebody_elses_does_not() {
        let mut breaker = Breaker::new();
        for _ in 0..50 {
            for verdict in [Verdict::Away, Verdict::Unknown, Verdict::Away, Verdict::Away, Verdict::Unknown, Verdict::Away, Verdict::Alive]
            {
                assert!(!tell(&mut breaker, verdict, 0));
            }
        }
        for verdict in [Verdict::Away, Verdict::Unknown, Verdict::Away, Verdict::Away, Verdict::Unknown, Verdict::Away] {
            assert!(!tell(&mut breaker, verdict, 0));
        }
        assert!(tell(&mut breaker, Verdict::Away, 0));
        let mut breaker = Breaker::new();
        assert!(!(0..100).any(|_| tell(&mut breaker, Verdict::Unknown, 0)), "pages of a proxy open nothing");
    }

    #[test]
    fn one_probe_at_a_time_and_its_answer_decides() {
        let mut breaker = open();
        let probe = breaker.admit(millis(1000)).unwrap();
        assert!(probe.is_probe);
        assert_eq!(breaker.state(millis(1000)), BreakerState::HalfOpen);
        assert_eq!(breaker.admit(millis(1000)), Err(Refusal { pause: Duration::ZERO }));
        assert_eq!(breaker.admit(millis(9000)), Err(Refusal { pause: Duration::ZERO }));
        assert!(!breaker.report(probe, Verdict::Alive, millis(9000)));
        assert_eq!(breaker.state(millis(9000)), BreakerState::Closed);
        assert!(!breaker.admit(millis(9000)).unwrap().is_probe);
        assert!(!tell(&mut breaker, Verdict::Away, 9000), "and counts from nothing again");
    }

    #[test]
    fn the_pause_doubles_to_four_seconds_and_begins_anew_after_an_answer() {
        let mut breaker = open();
        let mut now = 1000;
        for pause in [2000, 4000, 4000, 4000] {
            assert!(tell(&mut breaker, Verdict::Away, now));
            assert_eq!(breaker.check(millis(now)), Err(Refusal { pause: millis(pause) }));
            assert_eq!(breaker.state(millis(now)), BreakerState::Open);
            now += pause;
        }
        assert!(!tell(&mut breaker, Verdict::Alive, now));
        for _ in 0..FAILURES {
            tell(&mut breaker, Verdict::Away, now);
        }
        assert_eq!(breaker.check(millis(now)), Err(Refusal { pause: PAUSE }));
    }

    #[test]
    fn a_probe_that_nobody_waits_for_leaves_its_place_to_the_next() {
        let mut breaker = open();
        for _ in 0..3 {
            let probe = breaker.admit(millis(1000)).unwrap();
            breaker.report(probe, Verdict::Unknown, millis(1000));
        }
        assert!(!tell(&mut breaker, Verdict::Alive, 1000));
        assert_eq!(breaker.state(millis(1000)), BreakerState::Closed);
    }

    #[test]
    fn what_began_before_it_opened_says_nothing_afterwards() {
        let mut breaker = Breaker::new();
        let old: Vec<Admission> = (0..20).map(|_| breaker.admit(millis(0)).unwrap()).collect();
        let opened = old.iter().filter(|admission| breaker.report(**admission, Verdict::Away, millis(10))).count();
        assert_eq!((opened, breaker.check(millis(10))), (1, Err(Refusal { pause: PAUSE })));
        let probe = breaker.admit(millis(1010)).unwrap();
        assert!(!breaker.report(old[0], Verdict::Away, millis(1020)));
        assert!(!breaker.report(old[1], Verdict::Alive, millis(1020)));
        assert_eq!(breaker.admit(millis(1020)), Err(Refusal { pause: Duration::ZERO }), "the probe is still out");
        breaker.report(probe, Verdict::Alive, millis(1030));
        assert!(!(0..FAILURES).any(|_| breaker.report(old[2], Verdict::Away, millis(1040))));
        assert_eq!(breaker.state(millis(1040)), BreakerState::Closed);
    }
}
