//! Which call gets which behaviour.
//!
//! The axes are values: what is done, to which calls, how much later, and behind which gate. Distributions of delays and faults by schedule
//! are further variants here, not further functions elsewhere.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::behaviour::Behaviour;
use super::gate;

/// What is done with one call.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) behaviour: Behaviour,
    pub(super) delay: Duration,
    pub(super) gate: Option<Arc<gate::State>>,
}

/// What is done with the calls to come.
#[derive(Debug)]
pub(super) struct Script {
    standing: Behaviour,
    every: NonZeroU64,
    /// Calls since the standing behaviour was set, without queued ones.
    since: u64,
    queued: VecDeque<(u64, Behaviour)>,
    delay: Duration,
    gate: Option<Arc<gate::State>>,
}

impl Script {
    pub(super) fn new(standing: Behaviour, every: NonZeroU64, delay: Duration) -> Self {
        Self { standing, every, since: 0, queued: VecDeque::new(), delay, gate: None }
    }

    /// From now on every `every`th call gets `behaviour`, the others are answered. What was queued stays in front.
    pub(super) fn set_standing(&mut self, behaviour: Behaviour, every: NonZeroU64) {
        (self.standing, self.every, self.since) = (behaviour, every, 0);
    }

    pub(super) fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
    }

    pub(super) fn set_gate(&mut self, gate: Arc<gate::State>) {
        self.gate = Some(gate);
    }

    /// Behind what is queued already, the next `calls` calls get `behaviour`.
    pub(super) fn queue(&mut self, calls: u64, behaviour: Behaviour) {
        self.queued.push_back((calls, behaviour));
    }

    /// What is done with the call that has just arrived.
    pub(super) fn next(&mut self) -> Step {
        Step { behaviour: self.next_behaviour(), delay: self.delay, gate: self.gate.clone() }
    }

    fn next_behaviour(&mut self) -> Behaviour {
        while let Some((left, behaviour)) = self.queued.front_mut() {
            if *left > 0 {
                *left -= 1;
                return behaviour.clone();
            }
            self.queued.pop_front();
        }
        self.since += 1;
        if self.since.is_multiple_of(self.every.get()) { self.standing.clone() } else { Behaviour::Answer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script() -> Script {
        Script::new(Behaviour::Answer, NonZeroU64::MIN, Duration::ZERO)
    }

    fn take(script: &mut Script, calls: usize) -> Vec<Behaviour> {
        (0..calls).map(|_| script.next().behaviour).collect()
    }

    #[test]
    fn queued_behaviours_come_first_and_in_order() {
        use Behaviour::{Answer, Garbage, Throttle};
        let mut script = script();
        script.queue(2, Throttle);
        script.queue(0, Behaviour::Reset);
        script.queue(1, Garbage);
        assert_eq!(take(&mut script, 5), [Throttle, Throttle, Garbage, Answer, Answer]);
    }

    #[test]
    fn every_third_counts_from_when_it_was_set() {
        use Behaviour::{Answer, Throttle};
        let mut script = script();
        take(&mut script, 2);
        script.set_standing(Throttle, NonZeroU64::new(3).unwrap());
        assert_eq!(take(&mut script, 6), [Answer, Answer, Throttle, Answer, Answer, Throttle]);
    }
}
