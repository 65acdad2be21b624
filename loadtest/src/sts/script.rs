//! Which call gets which behaviour.
//!
//! The axes are values: what is done, to which calls, from when on, how much later, and behind which gate.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::behaviour::Behaviour;
use super::delay::Delay;
use super::gate;
use super::schedule::Change;

/// What is done with one call.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) behaviour: Behaviour,
    pub(super) delay: Duration,
    pub(super) gate: Option<Arc<gate::State>>,
}

impl Step {
    /// How much later it is done.
    pub(super) const fn whole_delay(&self) -> Duration {
        match self.behaviour {
            Behaviour::Delay(delay) => self.delay.saturating_add(delay),
            _ => self.delay,
        }
    }

    /// Whether there is an answer, and nothing to wait for before it.
    pub(super) fn is_now(&self) -> bool {
        self.gate.is_none()
            && self.whole_delay().is_zero()
            && !matches!(self.behaviour, Behaviour::CloseWithoutAnswer | Behaviour::Hang | Behaviour::Reset)
    }
}

/// What is done with the calls to come.
#[derive(Debug)]
pub(super) struct Script {
    standing: Behaviour,
    every: NonZeroU64,
    /// Calls since the standing behaviour was set, without queued ones.
    since: u64,
    queued: VecDeque<(u64, Behaviour)>,
    delay: Delay,
    /// For delays by chance; the same at each start.
    random: fastrand::Rng,
    gate: Option<Arc<gate::State>>,
    begin: Instant,
    /// In the order of their instants.
    changes: VecDeque<Change>,
}

impl Script {
    pub(super) fn new(standing: Behaviour, every: NonZeroU64, delay: Delay, mut changes: Vec<Change>) -> Self {
        changes.sort_by_key(|change| change.at);
        let (random, begin) = (fastrand::Rng::with_seed(0), Instant::now());
        Self { standing, every, since: 0, queued: VecDeque::new(), delay, random, gate: None, begin, changes: changes.into() }
    }

    /// From now on every `every`th call gets `behaviour`, the others are answered. What was queued stays in front.
    pub(super) fn set_standing(&mut self, behaviour: Behaviour, every: NonZeroU64) {
        (self.standing, self.every, self.since) = (behaviour, every, 0);
    }

    pub(super) fn set_delay(&mut self, delay: Delay) {
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
        while let Some(change) = self.changes.pop_front_if(|change| self.begin + change.at <= Instant::now()) {
            self.set_standing(change.behaviour, change.every);
        }
        Step { behaviour: self.next_behaviour(), delay: self.delay.draw(&mut self.random), gate: self.gate.clone() }
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
        Script::new(Behaviour::Answer, NonZeroU64::MIN, Delay::NONE, Vec::new())
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

    #[tokio::test(start_paused = true)]
    async fn changes_begin_at_their_instants() {
        use Behaviour::{Answer, Hang, Throttle};
        let change = |secs, behaviour| Change { at: Duration::from_secs(secs), behaviour, every: NonZeroU64::MIN };
        let changes = vec![change(15, Answer), change(5, Hang), change(6, Throttle)];
        let mut script = Script::new(Answer, NonZeroU64::MIN, Delay::NONE, changes);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.extend(take(&mut script, 1));
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        assert_eq!(seen, [Answer, Hang, Throttle, Answer]);
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
