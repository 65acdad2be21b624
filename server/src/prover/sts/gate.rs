//! [`Lanes`] with tasks that wait in them.
//!
//! A [`Place`] is given back when it is dropped: at the end, when its caller is cancelled at whatever await, and by a panic. Whoever waits and is cancelled leaves
//! the queue; if he was given a place in that very moment, it is dropped with the channel in which it lies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::lane::{Bounds, KeyHash, Lane, Lanes, Queued, Ticket};
use crate::rate::{Bucket, Rate};

/// Lets so many through at a time.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lanes: Lanes<oneshot::Sender<Place>>,
    /// Whether a task lets those in whom time alone gives a place.
    is_timed: bool,
}

/// The right to be inside; given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    gate: Gate,
    lane: Lane,
    key: KeyHash,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.lanes.release(self.lane, self.key);
        drop(self.gate.let_in(state));
    }
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Closed {
    /// Too many wait already.
    Queue,
    /// No place became free in time.
    Late,
}

/// Somebody in the queue.
struct Waiting<'g> {
    gate: &'g Gate,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.lock().lanes.leave(self.ticket);
    }
}

impl Gate {
    /// A gate whose time begins at `start`.
    pub(super) fn new(start: Instant, bounds: Bounds, rate: Option<Rate>) -> Self {
        let state = State { lanes: Lanes::new(bounds, rate.map(Bucket::new)), is_timed: false };
        Self(Arc::new(Inner { start, state: Mutex::new(state) }))
    }

    /// A place, now or until `until`.
    pub(super) async fn enter(&self, lane: Lane, key: KeyHash, until: Instant) -> Result<Place, Closed> {
        let mut displaced = None;
        let (ticket, receiver) = {
            let now = self.now();
            let mut state = self.let_in(self.lock());
            if state.lanes.enter(lane, key, now) {
                return Ok(self.place(lane, key));
            }
            let (sender, receiver) = oneshot::channel();
            let ticket = match state.lanes.wait(lane, key, sender) {
                Queued::Waits(ticket) => ticket,
                Queued::Displaces(ticket, loser) => {
                    displaced = Some(loser);
                    ticket
                }
                Queued::Full => return Err(Closed::Queue),
            };
            self.see_to_time(&mut state, now);
            (ticket, receiver)
        };
        // Tells him, for whom his channel ends without a place.
        drop(displaced);
        let _waiting = Waiting { gate: self, ticket };
        match timeout_at(until, receiver).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(Closed::Queue),
            Err(_) => Err(Closed::Late),
        }
    }

    /// A token of the rate for one who is inside, if that overtakes nobody.
    pub(super) fn take_token(&self) -> bool {
        self.lock().lanes.take_token_if_idle(self.now())
    }

    /// A call that began at `began` was throttled.
    pub(super) fn throttled(&self, began: Instant) {
        self.lock().lanes.throttled(began - self.0.start, self.now());
    }

    /// What an operator is shown: places, and for each lane of [`Lane::ALL`] who is inside and who waits.
    pub(super) fn census(&self) -> Census {
        let state = self.lock();
        Census {
            places: state.lanes.places(self.now()),
            inside: Lane::ALL.map(|lane| state.lanes.held(lane)),
            waiting: Lane::ALL.map(|lane| state.lanes.waiting(lane)),
        }
    }

    fn now(&self) -> Duration {
        self.0.start.elapsed()
    }

    fn place(&self, lane: Lane, key: KeyHash) -> Place {
        Place { gate: self.clone(), lane, key }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in there panics half-way.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what is free to those who wait. The lock is free while they are told: where one has gone, his place comes back at once, through here.
    fn let_in<'g>(&'g self, mut state: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        // As a rule; it needs no clock.
        if !state.lanes.is_waited_for() {
            return state;
        }
        let now = self.now();
        while let Some(grant) = state.lanes.grant(now) {
            drop(state);
            // Where he has gone, the place comes back and is dropped here.
            drop(grant.waiter.send(self.place(grant.lane, grant.key)));
            state = self.lock();
        }
        self.see_to_time(&mut state, now);
        state
    }

    /// Has a task let in those whom time alone gives a place, if there are such.
    fn see_to_time(&self, state: &mut State, now: Duration) {
        // Where a place is dropped after its runtime, nobody waits any more.
        if !state.is_timed
            && state.lanes.next_event(now).is_some()
            && let Ok(runtime) = Handle::try_current()
        {
            state.is_timed = true;
            runtime.spawn(self.clone().keep_time());
        }
    }

    async fn keep_time(self) {
        while let Some(at) = self.next_event() {
            tokio::time::sleep_until(self.0.start + at).await;
            drop(self.let_in(self.lock()));
        }
    }

    fn next_event(&self) -> Option<Duration> {
        let mut state = self.lock();
        let next = state.lanes.next_event(self.now());
        state.is_timed = next.is_some();
        next
    }
}

/// Who is where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Census {
    pub(super) places: usize,
    pub(super) inside: [usize; 2],
    pub(super) waiting: [usize; 2],
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use tokio::task::yield_now;

    use super::*;

    const BOUNDS: Bounds = Bounds { places: 2, places_of_lane: 2, queue_of_lane: 3 };

    fn gate(rate: Option<Rate>) -> Gate {
        Gate::new(Instant::now(), BOUNDS, rate)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(500)
    }

    const fn key(number: u64) -> KeyHash {
        KeyHash(number)
    }

    fn waiting(gate: &Gate) -> usize {
        gate.census().waiting.iter().sum()
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_and_is_let_in_or_not() {
        let gate = gate(None);
        let first = gate.enter(Lane::Known, key(1), soon()).await.unwrap();
        let _second = gate.enter(Lane::Other, key(2), soon()).await.unwrap();
        let start = Instant::now();
        assert_eq!(gate.enter(Lane::Known, key(3), soon()).await.unwrap_err(), Closed::Late);
        assert_eq!((start.elapsed(), waiting(&gate)), (Duration::from_millis(500), 0));
        let waits = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(Lane::Known, key(3), soon()).await }
        });
        while waiting(&gate) == 0 {
            yield_now().await;
        }
        drop(first);
        assert!(waits.await.unwrap().is_ok());
        assert_eq!(gate.census(), Census { places: 2, inside: [0, 1], waiting: [0, 0] });
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_displaced_is_told_at_once() {
        let gate = gate(None);
        let _inside = (gate.enter(Lane::Other, key(1), soon()).await.unwrap(), gate.enter(Lane::Other, key(1), soon()).await.unwrap());
        let hog = async || tokio::join!(gate.enter(Lane::Other, key(1), soon()), gate.enter(Lane::Other, key(1), soon()));
        let (start, mut last) = (Instant::now(), pin!(gate.enter(Lane::Other, key(1), soon())));
        let mut two = pin!(hog());
        assert!(two.as_mut().now_or_never().is_none() && last.as_mut().now_or_never().is_none());
        assert_eq!(gate.enter(Lane::Other, key(1), soon()).await.unwrap_err(), Closed::Queue);
        let mut modest = pin!(gate.enter(Lane::Other, key(2), soon()));
        assert!(modest.as_mut().now_or_never().is_none());
        assert_eq!((last.await.unwrap_err(), start.elapsed()), (Closed::Queue, Duration::ZERO));
        assert_eq!(waiting(&gate), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_comes_back_however_its_holder_ends() {
        let gate = gate(None);
        let panics = tokio::spawn({
            let gate = gate.clone();
            async move {
                let _place = gate.enter(Lane::Known, key(1), soon()).await.unwrap();
                panic!("as one does");
            }
        });
        assert!(panics.await.unwrap_err().is_panic());
        assert_eq!(gate.census().inside, [0, 0]);

        let _first = gate.enter(Lane::Known, key(1), soon()).await.unwrap();
        let second = gate.enter(Lane::Known, key(1), soon()).await.unwrap();
        // Gone while it waits.
        {
            let mut waits = pin!(gate.enter(Lane::Known, key(2), soon()));
            assert!(waits.as_mut().now_or_never().is_none());
            assert_eq!(waiting(&gate), 1);
        }
        assert_eq!(waiting(&gate), 0);
        // Gone between being let in and hearing of it.
        {
            let mut waits = pin!(gate.enter(Lane::Known, key(2), soon()));
            assert!(waits.as_mut().now_or_never().is_none());
            drop(second);
            assert_eq!(gate.census().inside, [2, 0]);
        }
        assert_eq!(gate.census(), Census { places: 2, inside: [1, 0], waiting: [0, 0] });
    }

    #[tokio::test(start_paused = true)]
    async fn time_alone_lets_in_who_waits_for_the_rate() {
        let gate = gate(Some(Rate { per_second: 10, burst: 1 }));
        let start = Instant::now();
        let (mut at, mut inside) = (Vec::new(), Vec::new());
        for number in 0..2 {
            inside.push(gate.enter(Lane::Other, key(number), soon()).await.unwrap());
            at.push(start.elapsed().as_millis());
        }
        drop(inside);
        let more = futures_util::future::join_all((0..3).map(|number| gate.enter(Lane::Other, key(number), soon()))).await;
        at.push(start.elapsed().as_millis());
        // Two have the places, the third waits for one of them in vain.
        assert_eq!((at, more.iter().filter(|entered| entered.is_ok()).count()), (vec![0, 100, 600], 2));
        assert!(gate.take_token());
        assert!(!gate.take_token());
    }

    #[tokio::test(start_paused = true)]
    async fn time_alone_lets_in_who_waits_after_a_throttle() {
        let gate = gate(None);
        gate.throttled(Instant::now());
        let _first = gate.enter(Lane::Known, key(1), soon()).await.unwrap();
        let start = Instant::now();
        let late = Instant::now() + Duration::from_secs(60);
        assert!(gate.enter(Lane::Known, key(2), late).await.is_ok());
        // tokio's timer has milliseconds.
        assert_eq!(start.elapsed().as_secs(), 30);
    }

    #[test]
    fn a_place_may_outlive_its_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let gate = gate(Some(Rate { per_second: 1, burst: 1 }));
        let place = runtime.block_on(gate.enter(Lane::Known, key(1), soon())).unwrap();
        let mut waits = Box::pin(gate.enter(Lane::Known, key(2), soon()));
        runtime.block_on(async { assert!(waits.as_mut().now_or_never().is_none()) });
        drop(runtime);
        drop(place);
    }
}
