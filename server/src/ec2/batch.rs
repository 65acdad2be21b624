//! Which instances are asked for next, and which go together.
//!
//! An id is asked for once at a time, however many wait for it. A call begins as soon as there is a place and a token of the rate for it, and takes along all that has
//! come meanwhile: in quiet times nobody waits for company, and when half a cluster is launched at once a hundred go together.
//!
//! Pure: the time is given, and `W` is whatever waits for an id.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::Failure;
use super::request::InstanceId;
use crate::rate::{Bucket, Rate};

/// Calls at a time. upstream: `maxAllowedInflightRequest` in pkg/ec2provider.
pub(super) const CALLS: usize = 5;

/// Ids that wait or are asked for: as many as a cluster may have nodes.
pub(super) const PENDING: usize = 8192;

/// How long an instance without a name is left alone; each further time is twice as long, up to the second of these.
pub(super) const NO_NAME_PAUSE: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(2)];

/// How long EC2 is left alone when it throttles; each further time is twice as long, up to the second of these.
pub(super) const THROTTLE_PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(8)];

/// What is to be done.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Step<W> {
    /// To ask for these, and tell [`Batches::ended`] when that is over.
    Call(Vec<InstanceId>),
    /// To tell that there is no more time for an id, and why it has no name.
    GiveUp(W, Failure),
    /// To ask again at that instant what is to be done.
    Wait(Duration),
    /// Nothing, until something happens.
    Idle,
}

/// There are too many ids.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Full;

#[derive(Debug)]
pub(super) struct Batches<W> {
    pending: HashMap<InstanceId, Pending<W>>,
    /// In the order in which they are asked for. Some of them may not be [`Stage::Ready`] any more.
    ready: VecDeque<InstanceId>,
    /// To be asked for again, and when. Some of them may not be [`Stage::Later`] any more.
    later: BTreeSet<(Duration, InstanceId)>,
    /// When there is no more time for those that are not under way.
    ends: BTreeSet<(Duration, InstanceId)>,
    calls: usize,
    most_at_once: usize,
    bucket: Bucket,
    resting: Resting,
    /// How long an id may take.
    patience: Duration,
}

#[derive(Debug)]
struct Pending<W> {
    waiter: W,
    until: Duration,
    stage: Stage,
    /// How often EC2 has answered that it has no name yet.
    nameless: u32,
    /// Whether it was asked for anew after a failure.
    is_retried: bool,
    last: Option<Failure>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// In a call.
    Asked,
    /// To be asked for again.
    Later,
    /// To be asked for.
    Ready,
}

#[derive(Clone, Copy, Debug, Default)]
struct Resting {
    until: Duration,
    times: u32,
}

/// `first`, doubled so many times, up to `most`.
fn doubled([first, most]: [Duration; 2], times: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(most)
}

impl<W> Batches<W> {
    pub(super) fn new(rate: Rate, most_at_once: usize, patience: Duration) -> Self {
        Self {
            pending: HashMap::new(),
            ready: VecDeque::new(),
            later: BTreeSet::new(),
            ends: BTreeSet::new(),
            calls: 0,
            most_at_once,
            bucket: Bucket::new(rate),
            resting: Resting::default(),
            patience,
        }
    }

    /// Asks for an id, or joins those that wait for it already.
    pub(super) fn ask(&mut self, id: InstanceId, now: Duration, waiter: impl FnOnce() -> W) -> Result<&W, Full> {
        let until = now.saturating_add(self.patience);
        if !self.pending.contains_key(&id) {
            if self.pending.len() == PENDING {
                return Err(Full);
            }
            self.ready.push_back(id);
            self.ends.insert((until, id));
        }
        let make = || Pending { waiter: waiter(), until, stage: Stage::Ready, nameless: 0, is_retried: false, last: None };
        Ok(&self.pending.entry(id).or_insert_with(make).waiter)
    }

    /// What is to be done at `now`. To be asked until there is nothing but to wait.
    pub(super) fn step(&mut self, now: Duration) -> Step<W> {
        while let Some(&(at, id)) = self.later.first()
            && at <= now
        {
            self.later.pop_first();
            if let Some(pending) = self.pending.get_mut(&id).filter(|pending| pending.stage == Stage::Later) {
                pending.stage = Stage::Ready;
                self.ready.push_back(id);
            }
        }
        if let Some(&(until, id)) = self.ends.first()
            && until <= now
        {
            self.ends.pop_first();
            if let Some(pending) = self.pending.remove(&id) {
                return Step::GiveUp(pending.waiter, pending.last.unwrap_or(Failure::Late { after: self.patience }));
            }
        }
        let is_ready = |id: &InstanceId| self.pending.get(id).is_some_and(|pending| pending.stage == Stage::Ready);
        while self.ready.front().is_some_and(|id| !is_ready(id)) {
            self.ready.pop_front();
        }
        // An id is asked for again before its end, or at it.
        let first_of = |set: &BTreeSet<(Duration, InstanceId)>| set.first().map(|(at, _)| *at);
        let next = [first_of(&self.later), first_of(&self.ends)].into_iter().flatten().min();
        let at_the_latest = |at: Duration| Step::Wait(next.map_or(at, |next| next.min(at)));
        if self.ready.is_empty() || self.calls == CALLS {
            return next.map_or(Step::Idle, Step::Wait);
        }
        if now < self.resting.until {
            return at_the_latest(self.resting.until);
        }
        if !self.bucket.take(now) {
            return at_the_latest(self.bucket.ready_at(now));
        }
        self.calls += 1;
        let mut ids = Vec::new();
        while ids.len() < self.most_at_once
            && let Some(id) = self.ready.pop_front()
        {
            if let Some(pending) = self.pending.get_mut(&id).filter(|pending| pending.stage == Stage::Ready) {
                pending.stage = Stage::Asked;
                self.ends.remove(&(pending.until, id));
                ids.push(id);
            }
        }
        Step::Call(ids)
    }

    /// A call is over. Each of its ids has been told of, or is told of next.
    pub(super) fn ended(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    /// EC2 has answered, whatever it was.
    pub(super) fn answered(&mut self) {
        self.resting.times = 0;
    }

    /// EC2 throttles: nobody is asked for in a while.
    pub(super) fn throttled(&mut self, now: Duration) {
        // Calls that were under way together say nothing new.
        if now >= self.resting.until {
            self.resting.until = now.saturating_add(doubled(THROTTLE_PAUSE, self.resting.times));
            self.resting.times = self.resting.times.saturating_add(1);
        }
    }

    /// What is known of an id: who waits for that.
    pub(super) fn settle(&mut self, id: &InstanceId) -> Option<W> {
        let pending = self.pending.remove(id)?;
        self.ends.remove(&(pending.until, *id));
        Some(pending.waiter)
    }

    /// An id has no name yet: it is asked for again, as long as its time lasts.
    pub(super) fn nameless(&mut self, id: InstanceId, now: Duration) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        let after = doubled(NO_NAME_PAUSE, pending.nameless);
        pending.nameless = pending.nameless.saturating_add(1);
        self.again(id, Failure::NoNameYet, now.saturating_add(after));
    }

    fn again(&mut self, id: InstanceId, why: Failure, at: Duration) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        pending.last = Some(why);
        pending.stage = Stage::Later;
        self.ends.insert((pending.until, id));
        self.later.insert((at.min(pending.until), id));
    }

    /// A call for an id failed: it is asked for again `after` a while if that may help. Who waits, if it is not.
    pub(super) fn failed(&mut self, id: InstanceId, failure: &Failure, after: Duration, now: Duration) -> Option<W> {
        let pending = self.pending.get_mut(&id)?;
        let once_more = match failure {
            // The rest comes first, and there may be time enough after it.
            Failure::Throttled => true,
            Failure::Unavailable { is_passing, .. } => *is_passing && !std::mem::replace(&mut pending.is_retried, true),
            _ => false,
        };
        if !once_more {
            return self.settle(&id);
        }
        self.again(id, failure.clone(), now.saturating_add(after));
        None
    }

    /// How many ids wait or are asked for.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> InstanceId {
        InstanceId::parse(&format!("i-{number:08x}")).unwrap()
    }

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const PLENTY: Rate = Rate { per_second: 1000, burst: 1000 };
    const PATIENCE: Duration = millis(5000);

    fn batches(rate: Rate) -> Batches<u32> {
        Batches::new(rate, 100, PATIENCE)
    }

    fn ask(batches: &mut Batches<u32>, numbers: impl IntoIterator<Item = u32>, now: Duration) {
        for number in numbers {
            batches.ask(id(number), now, || number).unwrap();
        }
    }

    fn gone() -> Failure {
        Failure::Unavailable { told: "gone".into(), is_passing: true }
    }

    #[test]
    fn the_first_goes_alone_and_those_who_come_while_all_places_are_taken_go_together() {
        let mut batches = batches(PLENTY);
        let now = millis(10);
        for number in 0..5 {
            ask(&mut batches, [number], now);
            assert_eq!(batches.step(now), Step::Call(vec![id(number)]));
        }
        ask(&mut batches, 5..255, now);
        assert_eq!(batches.step(now), Step::Wait(now + PATIENCE));
        batches.ended();
        assert_eq!(batches.step(now), Step::Call((5..105).map(id).collect()));
        assert_eq!(batches.step(now), Step::Wait(now + PATIENCE));
        batches.ended();
        assert_eq!(batches.step(now), Step::Call((105..205).map(id).collect()));
        batches.ended();
        assert_eq!(batches.step(now), Step::Call((205..255).map(id).collect()));
        assert_eq!(batches.step(now), Step::Idle);
    }

    #[test]
    fn an_id_is_asked_for_once_however_many_wait() {
        let mut batches = batches(PLENTY);
        ask(&mut batches, [1, 1, 1], millis(0));
        assert_eq!(batches.step(millis(0)), Step::Call(vec![id(1)]));
        // Also while the call is under way, and while it waits to be asked for again.
        ask(&mut batches, [1], millis(1));
        assert_eq!(batches.step(millis(1)), Step::Idle);
        batches.ended();
        batches.nameless(id(1), millis(1));
        ask(&mut batches, [1], millis(2));
        assert_eq!(batches.step(millis(2)), Step::Wait(millis(251)));
        assert_eq!((batches.settle(&id(1)), batches.settle(&id(1)), batches.len()), (Some(1), None, 0));
        // What is left of it in the queue asks for nobody.
        assert_eq!(batches.step(millis(251)), Step::Idle);
    }

    #[test]
    fn no_more_calls_are_made_than_the_rate_allows() {
        let mut batches = batches(Rate { per_second: 10, burst: 2 });
        let mut calls = Vec::new();
        for at in 0..1000 {
            let now = millis(at);
            ask(&mut batches, [u32::try_from(at).unwrap()], now);
            while let Step::Call(ids) = batches.step(now) {
                calls.push((at, ids.len()));
                for id in ids {
                    batches.settle(&id);
                }
                batches.ended();
            }
        }
        let at: Vec<_> = calls.iter().map(|(at, _)| *at).collect();
        assert_eq!(at, [0, 1, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
        // Those who waited for the token go together.
        assert_eq!(calls[2..].iter().map(|(_, ids)| *ids).collect::<Vec<_>>(), [99, 100, 100, 100, 100, 100, 100, 100, 100]);
    }

    #[test]
    fn says_when_the_rate_has_a_token() {
        let mut batches = batches(Rate { per_second: 10, burst: 1 });
        ask(&mut batches, [1], millis(0));
        assert!(matches!(batches.step(millis(0)), Step::Call(_)));
        ask(&mut batches, [2], millis(30));
        assert_eq!(batches.step(millis(30)), Step::Wait(millis(100)));
        assert_eq!(batches.step(millis(100)), Step::Call(vec![id(2)]));
    }

    #[test]
    fn an_instance_without_a_name_is_asked_for_again_until_its_time_is_over() {
        let mut batches = batches(PLENTY);
        ask(&mut batches, [1], millis(0));
        let (mut now, mut asked) = (millis(0), Vec::new());
        let end = loop {
            match batches.step(now) {
                Step::Call(_) => {
                    asked.push(now.as_millis());
                    batches.ended();
                    batches.nameless(id(1), now);
                }
                Step::Wait(at) => now = at,
                other => break other,
            }
        };
        assert_eq!(asked, [0, 250, 750, 1750, 3750]);
        assert_eq!((end, now, batches.len()), (Step::GiveUp(1, Failure::NoNameYet), PATIENCE, 0));
    }

    #[test]
    fn a_failure_that_may_pass_is_tried_once_more() {
        let mut batches = batches(PLENTY);
        ask(&mut batches, [1, 2], millis(0));
        assert_eq!(batches.step(millis(0)), Step::Call(vec![id(1), id(2)]));
        batches.ended();
        assert_eq!(batches.failed(id(1), &gone(), millis(70), millis(5)), None);
        let refused = Failure::Refused { status: 403, code: "UnauthorizedOperation".into() };
        assert_eq!(batches.failed(id(2), &refused, millis(70), millis(5)), Some(2));
        assert_eq!(batches.step(millis(5)), Step::Wait(millis(75)));
        assert_eq!(batches.step(millis(75)), Step::Call(vec![id(1)]));
        assert_eq!(batches.failed(id(1), &gone(), millis(70), millis(80)), Some(1));
        assert_eq!(batches.len(), 0);
    }

    #[test]
    fn a_throttle_gives_a_rest_that_grows_and_heals() {
        let mut batches = batches(PLENTY);
        let mut now = millis(0);
        let mut rests = Vec::new();
        for number in 0..6 {
            ask(&mut batches, [number], now);
            assert_eq!(batches.step(now), Step::Call(vec![id(number)]));
            batches.settle(&id(number));
            batches.ended();
            batches.throttled(now);
            // Another one that was under way.
            batches.throttled(now + millis(1));
            rests.push(batches.resting.until.checked_sub(now).unwrap().as_secs());
            now = batches.resting.until;
        }
        assert_eq!(rests, [1, 2, 4, 8, 8, 8]);
        batches.answered();
        batches.throttled(now);
        assert_eq!(batches.resting.until, now + millis(1000));
        // Meanwhile nobody is asked for, and whoever has no time left is told why.
        ask(&mut batches, [9], now);
        assert_eq!(batches.step(now), Step::Wait(now + millis(1000)));
        assert_eq!(batches.step(now + millis(1000)), Step::Call(vec![id(9)]));
        batches.ended();
        assert_eq!(batches.failed(id(9), &Failure::Throttled, millis(0), now + PATIENCE), None);
        assert_eq!(batches.step(now + PATIENCE), Step::GiveUp(9, Failure::Throttled));
    }

    #[test]
    fn who_finds_no_place_in_time_is_told_so() {
        let mut batches = batches(PLENTY);
        for number in 0..5 {
            ask(&mut batches, [number], millis(0));
            assert!(matches!(batches.step(millis(0)), Step::Call(_)));
        }
        ask(&mut batches, [8], millis(100));
        ask(&mut batches, [9], millis(200));
        assert_eq!(batches.step(millis(300)), Step::Wait(millis(5100)));
        assert_eq!(batches.step(millis(5100)), Step::GiveUp(8, Failure::Late { after: PATIENCE }));
        assert_eq!(batches.step(millis(5100)), Step::Wait(millis(5200)));
        assert_eq!(batches.step(millis(5200)), Step::GiveUp(9, Failure::Late { after: PATIENCE }));
        assert_eq!(batches.step(millis(5200)), Step::Idle);
    }

    #[test]
    fn the_ids_are_bounded() {
        let mut batches = batches(PLENTY);
        ask(&mut batches, 0..u32::try_from(PENDING).unwrap(), millis(0));
        assert_eq!(batches.ask(id(u32::MAX), millis(0), || 0), Err(Full));
        assert!(batches.ask(id(7), millis(0), || 0).is_ok(), "who joins takes no place");
        batches.settle(&id(0));
        assert!(batches.ask(id(u32::MAX), millis(0), || 0).is_ok());
    }

    proptest::proptest! {
        /// Whatever happens, every id that was asked for is settled or given up in its time, and no more is under way than may be.
        #[test]
        fn nobody_is_forgotten(events in proptest::collection::vec((0_u32..40, 0_u8..6, 0_u64..400), 1..200), per_second in 1_u32..50) {
            let mut batches: Batches<u32> = Batches::new(Rate { per_second, burst: 2 }, 10, PATIENCE);
            let mut calls: Vec<Vec<InstanceId>> = Vec::new();
            let mut now = millis(0);
            let mut since: HashMap<u32, Duration> = HashMap::new();
            for (number, event, pause) in events {
                now += millis(pause);
                if event < 3 {
                    batches.ask(id(number), now, || number).unwrap();
                    since.entry(number).or_insert(now);
                } else if !calls.is_empty() {
                    batches.ended();
                    for (index, id) in calls.remove(0).into_iter().enumerate() {
                        let settled = match (event, index % 3) {
                            (3, _) => batches.settle(&id),
                            (4, 0) => { batches.nameless(id, now); None }
                            (4, _) => batches.settle(&id),
                            (_, 1) => { batches.throttled(now); batches.failed(id, &Failure::Throttled, millis(10), now) }
                            _ => batches.failed(id, &gone(), millis(10), now),
                        };
                        settled.map(|number| since.remove(&number));
                    }
                }
                loop {
                    match batches.step(now) {
                        Step::Call(ids) => {
                            proptest::prop_assert!(!ids.is_empty() && ids.len() <= 10);
                            calls.push(ids);
                        }
                        Step::GiveUp(number, _) => drop(since.remove(&number)),
                        Step::Wait(at) => {
                            proptest::prop_assert!(at > now);
                            break;
                        }
                        Step::Idle => break,
                    }
                }
                proptest::prop_assert!(calls.len() <= CALLS);
                let mut under_way: Vec<_> = calls.concat();
                under_way.sort();
                under_way.dedup();
                proptest::prop_assert_eq!(under_way.len(), calls.concat().len(), "an id is in one call at a time");
                proptest::prop_assert_eq!(batches.len(), since.len());
                for (number, since) in &since {
                    proptest::prop_assert!(now < *since + PATIENCE || under_way.contains(&id(*number)));
                }
            }
        }
    }
}
