//! Who gets the next place: two lanes that lend to each other, and within a lane a share for each access key.
//!
//! ```text
//! both lanes wait ─► the one that has less than half of the places; if both have, they take turns
//! one lane waits  ─► that one: what the other does not want is lent
//! in the lane     ─► the access key that has the fewest places; among equals the one that has waited the longest
//! ```
//!
//! A place that was lent comes back when its call ends; nothing is interrupted. The queue is bounded for each lane; when it is full, whoever has the
//! most in it loses his last one to somebody who has less, so that no key can keep the others out of the queue either.
//!
//! Pure: the time is given, and `W` is whatever waits. [`Gate`](super::gate::Gate) has the tasks that do.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::limit::Limit;
use crate::own_hash::BuildOwnHash;
use crate::rate::Bucket;

/// In which lane a call is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Lane {
    /// The last proof of the access key was also mapped.
    Known,
    /// All others: whoever has a key of any AWS account, and whoever has made one up.
    Other,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Known, Self::Other];

    /// The stable label for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Other => "other",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Known => 0,
            Self::Other => 1,
        }
    }

    const fn opposite(self) -> Self {
        match self {
            Self::Known => Self::Other,
            Self::Other => Self::Known,
        }
    }
}

/// An access key, hashed under a key of this process: 8 bytes, however long and strange it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct KeyHash(pub(super) u64);

/// Which of those who wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ticket {
    pub(super) lane: Lane,
    pub(super) key: KeyHash,
    number: u64,
}

/// How many places there are, and for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Places, for both lanes together.
    pub(super) places: usize,
    /// Places that one lane may have, lent ones included.
    pub(super) places_of_lane: usize,
    /// How many of a lane may wait.
    pub(super) queue_of_lane: usize,
}

/// The places and those who wait for them.
#[derive(Debug)]
pub(super) struct Lanes<W> {
    limit: Limit,
    bounds: Bounds,
    bucket: Option<Bucket>,
    queues: [Queue<W>; 2],
    /// Whose turn it is where both lanes could have the place.
    turn: Lane,
    number: u64,
}

#[derive(Debug)]
struct Queue<W> {
    held: usize,
    waiting: usize,
    /// The keys that hold or wait; no others.
    keys: HashMap<KeyHash, Share<W>, BuildOwnHash>,
}

#[derive(Debug)]
struct Share<W> {
    held: usize,
    /// Number of its last grant.
    served: u64,
    /// By number, the oldest in front.
    waiting: VecDeque<(u64, W)>,
}

impl<W> Default for Share<W> {
    fn default() -> Self {
        Self { held: 0, served: 0, waiting: VecDeque::new() }
    }
}

/// A place for somebody who waited.
#[derive(Debug)]
pub(super) struct Grant<W> {
    pub(super) lane: Lane,
    pub(super) key: KeyHash,
    pub(super) waiter: W,
}

/// What became of somebody who wants to wait.
#[derive(Debug)]
pub(super) enum Queued<W> {
    /// He waits.
    Waits(Ticket),
    /// He waits, in the place of another who has more than he.
    Displaces(Ticket, W),
    /// The queue is full, and nobody in it has more than he.
    Full,
}

impl<W> Lanes<W> {
    pub(super) fn new(bounds: Bounds, bucket: Option<Bucket>) -> Self {
        let queue = || Queue { held: 0, waiting: 0, keys: HashMap::default() };
        Self { limit: Limit::new(bounds.places), bounds, bucket, queues: [queue(), queue()], turn: Lane::Known, number: 0 }
    }

    /// The places that there are at `now`.
    pub(super) fn places(&self, now: Duration) -> usize {
        self.limit.at(now)
    }

    /// How many of a lane have a place.
    pub(super) fn held(&self, lane: Lane) -> usize {
        self.queues[lane.index()].held
    }

    /// How many of a lane wait.
    pub(super) fn waiting(&self, lane: Lane) -> usize {
        self.queues[lane.index()].waiting
    }

    /// Whether anybody waits.
    pub(super) fn is_waited_for(&self) -> bool {
        Lane::ALL.into_iter().any(|lane| self.waiting(lane) > 0)
    }

    /// A call that began at `began` was throttled.
    pub(super) fn throttled(&mut self, began: Duration, now: Duration) {
        self.limit.throttled(began, now);
    }

    /// A place without waiting. Only once [`Self::grant`] has nobody left, for else somebody would be overtaken.
    pub(super) fn enter(&mut self, lane: Lane, key: KeyHash, now: Duration) -> bool {
        let free = self.waiting(lane) == 0 && self.has_room_for(lane) && self.has_place(now) && self.take_token(now);
        if free {
            self.hold(lane, key);
        }
        free
    }

    /// A token of the rate without a place, for who has one. Nobody who waits is overtaken.
    pub(super) fn take_token_if_idle(&mut self, now: Duration) -> bool {
        self.bucket.is_none() || !self.is_waited_for() && self.take_token(now)
    }

    /// Waits for a place.
    pub(super) fn wait(&mut self, lane: Lane, key: KeyHash, waiter: W) -> Queued<W> {
        let mut displaced = None;
        if self.waiting(lane) >= self.bounds.queue_of_lane {
            match self.queues[lane.index()].displace_for(key) {
                Some(loser) => displaced = Some(loser),
                None => return Queued::Full,
            }
        }
        self.number += 1;
        let (number, queue) = (self.number, &mut self.queues[lane.index()]);
        queue.waiting += 1;
        queue.keys.entry(key).or_default().waiting.push_back((number, waiter));
        let ticket = Ticket { lane, key, number };
        match displaced {
            Some(loser) => Queued::Displaces(ticket, loser),
            None => Queued::Waits(ticket),
        }
    }

    /// Waits no longer. Nothing happens where he has his place already, or was displaced.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        let queue = &mut self.queues[ticket.lane.index()];
        if let Some(share) = queue.keys.get_mut(&ticket.key)
            && let Ok(at) = share.waiting.binary_search_by_key(&ticket.number, |(number, _)| *number)
        {
            share.waiting.remove(at);
            queue.waiting -= 1;
            queue.forget_if_gone(ticket.key);
        }
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, lane: Lane, key: KeyHash) {
        let queue = &mut self.queues[lane.index()];
        if let Some(share) = queue.keys.get_mut(&key)
            && share.held > 0
        {
            share.held -= 1;
            queue.held -= 1;
            queue.forget_if_gone(key);
        }
    }

    /// Gives a place that is free to one who waits; to be asked until there is none.
    pub(super) fn grant(&mut self, now: Duration) -> Option<Grant<W>> {
        if !self.has_place(now) {
            return None;
        }
        let lane = self.next_lane(now)?;
        if !self.take_token(now) {
            return None;
        }
        let (key, waiter) = self.queues[lane.index()].take_next()?;
        self.hold(lane, key);
        Some(Grant { lane, key, waiter })
    }

    /// When [`Self::grant`] may have somebody without anything being given back before: time alone brings a token or a place.
    pub(super) fn next_event(&self, now: Duration) -> Option<Duration> {
        self.next_lane(now)?;
        if self.has_place(now) { self.bucket.map(|bucket| bucket.ready_at(now)) } else { self.limit.grows_at(now) }
    }

    fn has_place(&self, now: Duration) -> bool {
        self.held(Lane::Known) + self.held(Lane::Other) < self.limit.at(now)
    }

    fn has_room_for(&self, lane: Lane) -> bool {
        self.held(lane) < self.bounds.places_of_lane
    }

    fn take_token(&mut self, now: Duration) -> bool {
        self.bucket.as_mut().is_none_or(|bucket| bucket.take(now))
    }

    /// The lane whose waiter gets the next place.
    fn next_lane(&self, now: Duration) -> Option<Lane> {
        let waits = |lane: Lane| self.waiting(lane) > 0 && self.has_room_for(lane);
        match Lane::ALL.map(waits) {
            [false, false] => None,
            [true, false] => Some(Lane::Known),
            [false, true] => Some(Lane::Other),
            [true, true] => {
                let half = self.limit.at(now).div_ceil(2);
                Some(match Lane::ALL.map(|lane| self.held(lane) < half) {
                    [true, false] => Lane::Known,
                    [false, true] => Lane::Other,
                    // Both is when few places are taken; neither cannot be while one is free.
                    [true, true] | [false, false] => self.turn,
                })
            }
        }
    }

    fn hold(&mut self, lane: Lane, key: KeyHash) {
        self.number += 1;
        self.turn = lane.opposite();
        let queue = &mut self.queues[lane.index()];
        queue.held += 1;
        let share = queue.keys.entry(key).or_default();
        share.held += 1;
        share.served = self.number;
    }
}

impl<W> Queue<W> {
    /// Takes out who is next. The queue is bounded, and what comes of this is a call over the network: looking at each key costs nothing beside it.
    fn take_next(&mut self) -> Option<(KeyHash, W)> {
        let waits = self.keys.iter().filter_map(|(key, share)| share.waiting.front().map(|(number, _)| (key, share, *number)));
        let (key, ..) = waits.min_by_key(|(_, share, number)| (share.held, share.served.max(*number)))?;
        let key = *key;
        let (_, waiter) = self.keys.get_mut(&key)?.waiting.pop_front()?;
        self.waiting -= 1;
        Some((key, waiter))
    }

    /// Takes out the last one of whoever has the most waiting, if that is more than `key` would have with one more.
    fn displace_for(&mut self, key: KeyHash) -> Option<W> {
        let own = self.keys.get(&key).map_or(0, |share| share.waiting.len());
        let (longest, share) = self.keys.iter_mut().max_by_key(|(_, share)| share.waiting.len())?;
        if share.waiting.len() <= own + 1 {
            return None;
        }
        let longest = *longest;
        let (_, loser) = share.waiting.pop_back()?;
        self.waiting -= 1;
        self.forget_if_gone(longest);
        Some(loser)
    }

    fn forget_if_gone(&mut self, key: KeyHash) {
        if self.keys.get(&key).is_some_and(|share| share.held == 0 && share.waiting.is_empty()) {
            self.keys.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rate::Rate;

    const T0: Duration = Duration::ZERO;

    fn lanes(places: usize) -> Lanes<u32> {
        Lanes::new(Bounds { places, places_of_lane: places, queue_of_lane: 100 }, None)
    }

    fn key(number: u64) -> KeyHash {
        KeyHash(number)
    }

    /// All that can be had at `now`.
    fn grants<W>(lanes: &mut Lanes<W>, now: Duration) -> Vec<(Lane, KeyHash)> {
        std::iter::from_fn(|| lanes.grant(now).map(|grant| (grant.lane, grant.key))).collect()
    }

    fn waits(lanes: &mut Lanes<u32>, lane: Lane, number: u64) -> Ticket {
        match lanes.wait(lane, key(number), 0) {
            Queued::Waits(ticket) => ticket,
            queued => panic!("{queued:?}"),
        }
    }

    #[test]
    fn an_idle_lane_lends_all_that_it_has() {
        for lane in Lane::ALL {
            let mut lanes = lanes(8);
            assert_eq!((0..10).filter(|number| lanes.enter(lane, key(*number), T0)).count(), 8);
        }
    }

    #[test]
    fn what_was_lent_comes_back_place_by_place() {
        let mut lanes = lanes(8);
        for number in 0..8 {
            assert!(lanes.enter(Lane::Other, key(number), T0));
        }
        for number in 0..20 {
            waits(&mut lanes, Lane::Other, 100 + number);
            waits(&mut lanes, Lane::Known, 200 + number);
        }
        let mut got = Vec::new();
        for number in 0..8 {
            lanes.release(Lane::Other, key(number));
            got.extend(grants(&mut lanes, T0).into_iter().map(|(lane, _)| lane));
        }
        // The known have nothing, so they get each place until they have half of them; then each lane gets its own back.
        let (known, other) = (Lane::Known, Lane::Other);
        assert_eq!(got, [known, known, known, known, other, other, other, other]);
    }

    #[test]
    fn a_lane_that_may_not_have_all_leaves_the_rest_alone() {
        let mut lanes = Lanes::<u32>::new(Bounds { places: 8, places_of_lane: 4, queue_of_lane: 100 }, None);
        assert_eq!((0..8).filter(|number| lanes.enter(Lane::Other, key(*number), T0)).count(), 4);
        waits(&mut lanes, Lane::Other, 9);
        assert_eq!(grants(&mut lanes, T0), []);
        assert_eq!(lanes.next_event(T0), None);
        // Those who wait there are in nobody's way here.
        assert_eq!((0..8).filter(|number| lanes.enter(Lane::Known, key(*number), T0)).count(), 4);
    }

    #[test]
    fn no_key_takes_more_than_its_share_of_a_lane() {
        let mut lanes = lanes(6);
        for _ in 0..6 {
            assert!(lanes.enter(Lane::Other, key(1), T0));
        }
        for _ in 0..20 {
            waits(&mut lanes, Lane::Other, 1);
        }
        for _ in 0..2 {
            waits(&mut lanes, Lane::Other, 2);
            waits(&mut lanes, Lane::Other, 3);
        }
        let mut got = Vec::new();
        for _ in 0..4 {
            lanes.release(Lane::Other, key(1));
            got.extend(grants(&mut lanes, T0).into_iter().map(|(_, KeyHash(number))| number));
        }
        assert_eq!(got, [2, 3, 2, 3], "the twenty that came before them do not count");
        lanes.release(Lane::Other, key(2));
        assert_eq!(grants(&mut lanes, T0), [(Lane::Other, key(1))]);
    }

    #[test]
    fn among_equals_the_one_that_has_waited_the_longest_is_next() {
        let mut lanes = lanes(1);
        assert!(lanes.enter(Lane::Other, key(9), T0));
        waits(&mut lanes, Lane::Other, 1);
        waits(&mut lanes, Lane::Other, 1);
        // However many keys somebody makes up afterwards.
        for number in 100..110 {
            waits(&mut lanes, Lane::Other, number);
        }
        let mut got = Vec::new();
        let mut holder = key(9);
        for _ in 0..12 {
            lanes.release(Lane::Other, holder);
            let (_, next) = grants(&mut lanes, T0)[0];
            got.push(next.0);
            holder = next;
        }
        assert_eq!(got, [1, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 1]);
    }

    #[test]
    fn a_full_queue_takes_one_from_whoever_has_the_most() {
        let mut lanes = Lanes::new(Bounds { places: 1, places_of_lane: 1, queue_of_lane: 4 }, None);
        assert!(lanes.enter(Lane::Other, key(9), T0));
        for waiter in 0..4 {
            assert!(matches!(lanes.wait(Lane::Other, key(1), waiter), Queued::Waits(_)));
        }
        assert!(matches!(lanes.wait(Lane::Other, key(1), 4), Queued::Full));
        assert!(matches!(lanes.wait(Lane::Other, key(2), 5), Queued::Displaces(_, 3)), "his last one");
        assert!(matches!(lanes.wait(Lane::Other, key(2), 6), Queued::Displaces(_, 2)));
        assert!(matches!(lanes.wait(Lane::Other, key(2), 7), Queued::Full), "two and two is fair");
        assert_eq!(lanes.waiting(Lane::Other), 4);
        assert!(matches!(lanes.wait(Lane::Known, key(3), 8), Queued::Waits(_)), "the other lane has its own");
    }

    #[test]
    fn a_rate_is_shared_by_turns() {
        let bounds = Bounds { places: 100, places_of_lane: 50, queue_of_lane: 100 };
        let mut lanes = Lanes::<u32>::new(bounds, Some(Bucket::new(Rate { per_second: 10, burst: 1 })));
        assert!(lanes.enter(Lane::Other, key(1), T0));
        assert!(!lanes.enter(Lane::Known, key(1), T0));
        for number in 0..20 {
            waits(&mut lanes, Lane::Other, 100 + number);
        }
        let at = |tick: u64| Duration::from_millis(100 * tick);
        assert_eq!((grants(&mut lanes, T0), lanes.next_event(T0)), (vec![], Some(at(1))));
        // Alone it has all of it; then each lane has each second one, though nobody gives a place back.
        let mut got = Vec::new();
        for tick in 1..=8 {
            if tick == 3 {
                for number in 0..20 {
                    waits(&mut lanes, Lane::Known, number);
                }
            }
            got.extend(grants(&mut lanes, at(tick)).into_iter().map(|(lane, _)| lane));
            assert_eq!(lanes.next_event(at(tick)), Some(at(tick + 1)));
        }
        let (known, other) = (Lane::Known, Lane::Other);
        assert_eq!(got, [other, other, known, other, known, other, known, other]);
        assert!(!lanes.take_token_if_idle(at(100)), "a retry overtakes nobody");
    }

    #[test]
    fn a_cut_takes_places_that_come_free_and_time_brings_them_back() {
        let mut lanes = lanes(8);
        for number in 0..8 {
            assert!(lanes.enter(Lane::Other, key(number), T0));
        }
        lanes.throttled(T0, T0);
        waits(&mut lanes, Lane::Known, 1);
        for number in 0..4 {
            lanes.release(Lane::Other, key(number));
            assert_eq!(grants(&mut lanes, T0), []);
        }
        let grows = lanes.next_event(T0).unwrap();
        assert_eq!(grows, Duration::from_millis(7_500));
        assert_eq!(grants(&mut lanes, grows), [(Lane::Known, key(1))]);
        assert_eq!(lanes.next_event(grows), None, "nobody waits");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Come(Lane, u64),
        GoFromQueue(usize),
        GiveBack(usize),
        Throttle,
        Tick(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let lane = prop_oneof![Just(Lane::Known), Just(Lane::Other)];
        let step = prop_oneof![
            4 => (lane, 0_u64..5).prop_map(|(lane, key)| Step::Come(lane, key)),
            1 => any::<usize>().prop_map(Step::GoFromQueue),
            3 => any::<usize>().prop_map(Step::GiveBack),
            1 => Just(Step::Throttle),
            1 => (0_u64..5_000).prop_map(Step::Tick),
        ];
        proptest::collection::vec(step, 0..200)
    }

    /// What must be at every instant, from the outside: who holds and who waits is counted here.
    struct Model {
        lanes: Lanes<u32>,
        bounds: Bounds,
        holders: Vec<(Lane, KeyHash)>,
        waiters: Vec<(Ticket, u32)>,
        now: Duration,
        came: u32,
    }

    impl Model {
        fn settle(&mut self) {
            while let Some(grant) = self.lanes.grant(self.now) {
                let at = self.waiters.iter().position(|(_, waiter)| *waiter == grant.waiter).expect("only who waits gets a place");
                let (ticket, _) = self.waiters.remove(at);
                assert_eq!((ticket.lane, ticket.key), (grant.lane, grant.key));
                self.hold(grant.lane, grant.key);
            }
        }

        fn hold(&mut self, lane: Lane, key: KeyHash) {
            self.holders.push((lane, key));
            assert!(self.holders.len() <= self.lanes.places(self.now), "over the limit");
            assert!(self.held(lane) <= self.bounds.places_of_lane, "over the lane's limit");
        }

        fn held(&self, lane: Lane) -> usize {
            self.holders.iter().filter(|(of, _)| *of == lane).count()
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Come(lane, number) => {
                    self.came += 1;
                    let (key, waiter) = (key(number), self.came);
                    if self.lanes.enter(lane, key, self.now) {
                        assert!(self.waiters.iter().all(|(ticket, _)| ticket.lane != lane), "overtakes");
                        self.hold(lane, key);
                    } else {
                        match self.lanes.wait(lane, key, waiter) {
                            Queued::Waits(ticket) => self.waiters.push((ticket, waiter)),
                            Queued::Displaces(ticket, loser) => {
                                self.waiters.retain(|(_, waiter)| *waiter != loser);
                                self.waiters.push((ticket, waiter));
                            }
                            Queued::Full => assert_eq!(self.lanes.waiting(lane), self.bounds.queue_of_lane),
                        }
                    }
                }
                Step::GoFromQueue(which) if !self.waiters.is_empty() => {
                    let (ticket, _) = self.waiters.remove(which % self.waiters.len());
                    self.lanes.leave(ticket);
                    self.lanes.leave(ticket);
                }
                Step::GiveBack(which) if !self.holders.is_empty() => {
                    let (lane, key) = self.holders.remove(which % self.holders.len());
                    self.lanes.release(lane, key);
                }
                Step::GoFromQueue(_) | Step::GiveBack(_) => {}
                Step::Throttle => self.lanes.throttled(self.now, self.now),
                Step::Tick(millis) => self.now += Duration::from_millis(millis),
            }
        }

        fn check(&self) {
            for lane in Lane::ALL {
                assert_eq!(self.lanes.held(lane), self.held(lane));
                let waiting = self.waiters.iter().filter(|(ticket, _)| ticket.lane == lane).count();
                assert_eq!(self.lanes.waiting(lane), waiting);
                assert!(waiting <= self.bounds.queue_of_lane);
                // Nobody waits for what is free: what the other lane does not want is lent.
                let could = self.holders.len() < self.lanes.places(self.now) && self.held(lane) < self.bounds.places_of_lane;
                assert!(waiting == 0 || !could, "{lane:?} waits beside a free place");
            }
        }
    }

    proptest! {
        #[test]
        fn never_over_the_limit_and_no_place_is_lost(places in 1_usize..10, lends: bool, queue_of_lane in 0_usize..8, steps in steps()) {
            let bounds = Bounds { places, places_of_lane: if lends { places } else { places.div_ceil(2) }, queue_of_lane };
            let mut model =
                Model { lanes: Lanes::new(bounds, None), bounds, holders: vec![], waiters: vec![], now: T0, came: 0 };
            for step in steps {
                model.step(step);
                model.settle();
                model.check();
            }
            // All go: then all is as at the beginning.
            while let Some((ticket, _)) = model.waiters.pop() {
                model.lanes.leave(ticket);
            }
            while let Some((lane, key)) = model.holders.pop() {
                model.lanes.release(lane, key);
            }
            model.now += super::super::limit::RECOVERY;
            prop_assert!(model.lanes.queues.iter().all(|queue| queue.keys.is_empty()));
            prop_assert_eq!((0..20).filter(|number| model.lanes.enter(Lane::Known, key(*number), model.now)).count(), bounds.places_of_lane);
        }

        #[test]
        fn half_and_half_when_both_lanes_want_more(places in 1_usize..40, lent in 0_usize..40, order in proptest::collection::vec(any::<usize>(), 200)) {
            let mut lanes = lanes(places);
            let mut holders: Vec<(Lane, KeyHash)> = Vec::new();
            for number in 0..places {
                let lane = if number < lent { Lane::Known } else { Lane::Other };
                prop_assert!(lanes.enter(lane, key(1), T0));
                holders.push((lane, key(1)));
            }
            let mut give_back = |which: usize, holders: &mut Vec<(Lane, KeyHash)>| {
                for lane in Lane::ALL {
                    while lanes.waiting(lane) < 2 {
                        waits(&mut lanes, lane, 2);
                    }
                }
                let (lane, key) = holders.remove(which % holders.len());
                lanes.release(lane, key);
                holders.extend(grants(&mut lanes, T0));
                (holders.len(), lanes.held(Lane::Known).abs_diff(lanes.held(Lane::Other)))
            };
            // Once what was lent has come back it is half and half, and stays so whoever gives back.
            for _ in 0..places {
                prop_assert_eq!(give_back(0, &mut holders).0, places);
            }
            for which in order {
                let (held, apart) = give_back(which, &mut holders);
                prop_assert_eq!(held, places);
                prop_assert!(apart <= 1, "{} apart", apart);
            }
        }

        #[test]
        fn keys_of_a_lane_have_equal_shares_however_many_each_sends(places in 1_usize..30, keys in 1_u64..6, hog in 0_u64..6) {
            let mut lanes = Lanes::new(Bounds { places, places_of_lane: places, queue_of_lane: 1000 }, None);
            let mut holders = Vec::new();
            for _ in 0..places {
                prop_assert!(lanes.enter(Lane::Other, key(hog), T0));
                holders.push(key(hog));
            }
            for _ in 0..places * 2 {
                for number in 0..keys {
                    for _ in 0..if number == hog { 5 } else { 1 } {
                        waits(&mut lanes, Lane::Other, number);
                    }
                }
                lanes.release(Lane::Other, holders.remove(0));
                holders.extend(grants(&mut lanes, T0).into_iter().map(|(_, key)| key));
            }
            let held: Vec<usize> = (0..keys).map(|number| holders.iter().filter(|holder| **holder == key(number)).count()).collect();
            let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{held:?}");
        }
    }
}
