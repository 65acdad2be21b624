//! One proof at a time for each token, however many wait for it.
//!
//! Whoever begins a flight flies it: most are wanted by nobody else, and need neither a task nor anybody to be told. Nobody can end it, though: if its pilot hangs up, it
//! goes on in a task of its own. Who joins it keeps the digest's receiver and nothing else. Flights and waiters are bounded; who finds no place is told so at once.
//!
//! # Why no token is ever proved twice at a time, and no answer is lost
//!
//! All below happens under one lock, the map's, for each of the two ends of a flight:
//!
//! - *Boarding* looks into the map, and, finding no flight, once more at what is known already, before it puts a flight into the map. A flight makes its
//!   result known *before* it leaves the map. So whoever finds no flight in the map after one has left finds the result, if it was one to keep.
//! - *Leaving* takes the flight out of the map, with the sender that the first who joined has put there. It is done by the flight when it has its result, which those who
//!   have joined are then sent, or by a guard inside of it when it ends otherwise (panic, runtime shut down), and the sender is dropped: so whoever has boarded gets the
//!   result, or learns that there is none; and whoever comes after finds no flight and begins another.
//!
//! A flight comes to one of these ends, since it is polled until then: by its pilot, or, once that is dropped, by a task. Nothing is awaited under the lock, and nothing
//! under it can panic but the allocation of a place in the map.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::identity_cache::Digest;
use crate::own_hash::BuildOwnHash;

/// How many at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Flights, each of which holds a token. Strangers have half of them at most, so that they cannot keep out those who are known.
    pub flights: usize,
    /// Requests that wait for one.
    pub waiters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { flights: 8192, waiters: 65_536 }
    }
}

/// Who wants to board.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Passenger {
    /// The access key's last proof was mapped.
    Known,
    /// All others.
    Stranger,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Full {
    /// Too many tokens are being proved.
    #[error("{limit} tokens are being proved already")]
    Flights {
        /// The limit.
        limit: usize,
    },
    /// Too many requests wait.
    #[error("{limit} requests wait for a proof already")]
    Waiters {
        /// The limit.
        limit: usize,
    },
}

/// Tells those who have joined a flight what it has come to; none where nobody has.
type Joined<T> = Option<watch::Sender<Option<T>>>;

/// The flights under way. Each comes to a `T`.
#[derive(Debug)]
pub struct Flights<T> {
    under_way: Mutex<HashMap<Digest, Joined<T>, BuildOwnHash>>,
    waiters: Arc<AtomicUsize>,
    limits: Limits,
}

/// What boarding came to.
#[derive(Debug)]
pub enum Boarded<T: Send + 'static> {
    /// A flight has ended just before.
    Landed(T),
    /// One is under way, begun by this caller or by another.
    Waiting(Waiter<T>),
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// None under way.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { under_way: Mutex::default(), waiters: Arc::default(), limits }
    }

    /// Boards the flight of a digest, or begins one.
    ///
    /// `known` looks once more for a result that is there already; `prove` makes the flight, a future that makes its result known, to `known` as well, before it
    /// ends. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn board<F>(
        self: &Arc<Self>,
        digest: Digest,
        passenger: Passenger,
        known: impl FnOnce() -> Option<T>,
        prove: impl FnOnce() -> F,
    ) -> Result<Boarded<T>, Full>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let place = Place::take(&self.waiters, self.limits.waiters)?;
        let mut under_way = self.lock();
        let flights = under_way.len();
        match under_way.entry(digest) {
            Entry::Occupied(mut flight) => {
                let landing = flight.get_mut().get_or_insert_with(|| watch::channel(None).0).subscribe();
                Ok(Boarded::Waiting(Waiter { seat: Seat::Joined(landing), _place: place }))
            }
            Entry::Vacant(free) => {
                if let Some(result) = known() {
                    return Ok(Boarded::Landed(result));
                }
                let limit = match passenger {
                    Passenger::Known => self.limits.flights,
                    Passenger::Stranger => self.limits.flights / 2,
                };
                if flights >= limit.max(1) {
                    return Err(Full::Flights { limit });
                }
                free.insert(None);
                drop(under_way);
                let leave = Leave { digest, flights: Some(Arc::clone(self)) };
                // Not an async block: that would have room for the proof twice, where it is kept and where it is awaited.
                let flight = prove().map(|result| {
                    leave.land(&result);
                    result
                });
                let flight = Box::pin(flight);
                Ok(Boarded::Waiting(Waiter { seat: Seat::Pilot(Pilot(Some(flight))), _place: place }))
            }
        }
    }

    /// Flights and waiters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { flights: self.lock().len(), waiters: self.waiters.load(Ordering::Relaxed) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Joined<T>, BuildOwnHash>> {
        // The map is whole at every instant that somebody could panic at.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Flights under way.
    pub flights: usize,
    /// Requests that wait for them.
    pub waiters: usize,
}

/// Takes a flight out of the map, when it ends or before it has begun.
struct Leave<T: Clone + Send + Sync + 'static> {
    digest: Digest,
    /// None once that is done: there may be another flight of that digest by then.
    flights: Option<Arc<Flights<T>>>,
}

impl<T: Clone + Send + Sync + 'static> Leave<T> {
    /// With the flight's result.
    fn land(mut self, result: &T) {
        if let Some(joined) = self.leave() {
            joined.send_replace(Some(result.clone()));
        }
    }

    /// Gives those who wait for the result, if there is somebody who has joined.
    fn leave(&mut self) -> Joined<T> {
        let flights = self.flights.take()?;
        let mut under_way = flights.lock();
        let joined = under_way.remove(&self.digest);
        // After a storm the map would keep the room that it took.
        if under_way.is_empty() && under_way.capacity() > 1024 {
            under_way.shrink_to_fit();
        }
        joined.flatten()
    }
}

impl<T: Clone + Send + Sync + 'static> Drop for Leave<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A place among those who wait.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(waiters: &Arc<AtomicUsize>, limit: usize) -> Result<Self, Full> {
        let more = |waiting: usize| (waiting < limit).then_some(waiting + 1);
        waiters.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| Full::Waiters { limit })?;
        Ok(Self(Arc::clone(waiters)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits for a flight to end. To be awaited or dropped, at any time: without its pilot the flight goes on.
#[derive(Debug)]
pub struct Waiter<T: Send + 'static> {
    seat: Seat<T>,
    _place: Place,
}

#[derive(Debug)]
enum Seat<T: Send + 'static> {
    /// Of whoever has begun the flight.
    Pilot(Pilot<T>),
    /// Of all others.
    Joined(watch::Receiver<Option<T>>),
}

impl<T: Clone + Send + 'static> Waiter<T> {
    /// Whether another had begun the flight.
    pub const fn has_joined(&self) -> bool {
        matches!(self.seat, Seat::Joined(_))
    }

    /// The flight's result; none where it panicked.
    pub async fn landed(mut self) -> Option<T> {
        match &mut self.seat {
            Seat::Pilot(pilot) => pilot.fly().await,
            Seat::Joined(landing) => landing.wait_for(Option::is_some).await.ok().and_then(|result| result.clone()),
        }
    }
}

/// Has a flight in hand; none once it has ended.
struct Pilot<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Pilot<T> {
    async fn fly(&mut self) -> Option<T> {
        let flight = self.0.as_mut()?;
        let result = AssertUnwindSafe(flight).catch_unwind().await;
        // A panic has left it as it was; with this it leaves the map.
        self.0 = None;
        result.ok()
    }
}

impl<T: Send + 'static> Drop for Pilot<T> {
    /// Without a runtime there is nobody to fly it, and it ends.
    fn drop(&mut self) {
        if let (Some(flight), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(flight);
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Pilot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pilot").field("has_landed", &self.0.is_none()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use tokio::sync::oneshot;

    use super::*;
    use crate::identity_cache::Digester;

    struct Trial {
        flights: Arc<Flights<u32>>,
        digester: Digester,
        begun: Arc<AtomicUsize>,
    }

    impl Trial {
        fn new(flights: usize, waiters: usize) -> Self {
            Self {
                flights: Arc::new(Flights::new(Limits { flights, waiters })),
                digester: Digester::new("prod").unwrap(),
                begun: Arc::default(),
            }
        }

        fn board(&self, token: &str, passenger: Passenger, gate: impl Future<Output = u32> + Send + 'static) -> Result<Boarded<u32>, Full> {
            let begun = Arc::clone(&self.begun);
            let prove = || async move {
                begun.fetch_add(1, Ordering::Relaxed);
                gate.await
            };
            self.flights.board(self.digester.digest(0, token.as_bytes()), passenger, || None, prove)
        }

        fn wait(&self, token: &str, gate: impl Future<Output = u32> + Send + 'static) -> Waiter<u32> {
            match self.board(token, Passenger::Known, gate).unwrap() {
                Boarded::Waiting(waiter) => waiter,
                Boarded::Landed(_) => panic!("nothing is known"),
            }
        }
    }

    async fn opened(gate: oneshot::Receiver<u32>) -> u32 {
        gate.await.unwrap()
    }

    #[tokio::test]
    async fn all_who_wait_share_one_flight() {
        let trial = Trial::new(8, 1000);
        let (open, gate) = oneshot::channel();
        let first = trial.wait("t", opened(gate));
        let others: Vec<_> = (0..499).map(|_| trial.wait("t", async { panic!("a second flight") })).collect();
        assert_eq!(trial.flights.counts(), Counts { flights: 1, waiters: 500 });
        open.send(7).unwrap();
        assert_eq!(first.landed().await, Some(7));
        for other in others {
            assert_eq!(other.landed().await, Some(7));
        }
        assert_eq!((trial.begun.load(Ordering::Relaxed), trial.flights.counts()), (1, Counts::default()));
    }

    #[tokio::test]
    async fn those_who_hang_up_change_nothing() {
        for all in [false, true] {
            let trial = Trial::new(8, 1000);
            let (open, gate) = oneshot::channel();
            let landed = Arc::new(AtomicBool::new(false));
            let (tell, told) = oneshot::channel();
            let note = Arc::clone(&landed);
            let leader = trial.wait("t", async move {
                let number = opened(gate).await;
                note.store(true, Ordering::Relaxed);
                tell.send(()).unwrap();
                number
            });
            let last = trial.wait("t", async { panic!("a second flight") });
            drop(leader);
            let last = (!all).then_some(last);
            open.send(7).unwrap();
            told.await.unwrap();
            if let Some(last) = last {
                assert_eq!(last.landed().await, Some(7));
            }
            assert!(landed.load(Ordering::Relaxed));
            assert_eq!(trial.begun.load(Ordering::Relaxed), 1);
        }
    }

    #[tokio::test]
    async fn a_panic_reaches_all_who_wait_and_the_next_begins_anew() {
        let trial = Trial::new(8, 1000);
        let (open, gate) = oneshot::channel::<u32>();
        let first = trial.wait("t", async move {
            let _ = gate.await;
            panic!("on purpose")
        });
        let second = trial.wait("t", async { unreachable!() });
        open.send(0).unwrap();
        assert_eq!((first.landed().await, second.landed().await), (None, None));
        assert_eq!(trial.flights.counts(), Counts::default());
        assert_eq!(trial.wait("t", async { 8 }).landed().await, Some(8));
    }

    #[test]
    fn a_flight_without_a_runtime_ends_with_its_pilot() {
        let trial = Trial::new(8, 1000);
        let (pilot, joined) = (trial.wait("t", std::future::pending()), trial.wait("t", async { unreachable!() }));
        assert!(!pilot.has_joined() && joined.has_joined());
        drop(pilot);
        assert_eq!(joined.landed().now_or_never(), Some(None));
        assert_eq!(trial.flights.counts(), Counts::default());
        assert_eq!(trial.wait("t", async { 8 }).landed().now_or_never(), Some(Some(8)));
    }

    #[tokio::test]
    async fn what_became_known_meanwhile_begins_no_flight() {
        let trial = Trial::new(8, 1000);
        let digest = trial.digester.digest(0, b"t");
        let boarded = trial.flights.board(digest, Passenger::Known, || Some(9), || async { panic!("a flight") }).unwrap();
        assert!(matches!(boarded, Boarded::Landed(9)));
        assert_eq!(trial.flights.counts(), Counts::default());
    }

    #[tokio::test]
    async fn strangers_have_half_of_the_flights_and_all_have_the_same_waits() {
        let trial = Trial::new(4, 6);
        let forever = || std::future::pending::<u32>();
        let mut aboard = Vec::new();
        for token in ["a", "b"] {
            aboard.push(trial.board(token, Passenger::Stranger, forever()).unwrap());
        }
        assert_eq!(trial.board("c", Passenger::Stranger, forever()).unwrap_err(), Full::Flights { limit: 2 });
        aboard.push(trial.board("a", Passenger::Stranger, forever()).unwrap());
        for token in ["c", "d"] {
            aboard.push(trial.board(token, Passenger::Known, forever()).unwrap());
        }
        assert_eq!(trial.board("e", Passenger::Known, forever()).unwrap_err(), Full::Flights { limit: 4 });
        aboard.push(trial.board("d", Passenger::Known, forever()).unwrap());
        assert_eq!(trial.board("a", Passenger::Known, forever()).unwrap_err(), Full::Waiters { limit: 6 });
        drop(aboard.pop());
        assert!(trial.board("a", Passenger::Known, forever()).is_ok());
    }

    /// Many threads, few tokens, and a result that is kept: no token is ever proved twice.
    #[test]
    fn no_token_is_proved_twice_whoever_comes_when() {
        const TOKENS: usize = 64;
        const THREADS: usize = 4;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).build().unwrap();
        let flights = Arc::new(Flights::<usize>::new(Limits::default()));
        let digester = Digester::new("prod").unwrap();
        let known: Arc<Mutex<HashMap<usize, usize>>> = Arc::default();
        let proofs: Arc<Vec<AtomicUsize>> = Arc::new((0..TOKENS).map(|_| AtomicUsize::new(0)).collect());
        let ask = |token: usize| {
            let (flights, known, proofs) = (Arc::clone(&flights), Arc::clone(&known), Arc::clone(&proofs));
            let digest = digester.digest(0, &token.to_be_bytes());
            async move {
                let look = || known.lock().unwrap().get(&token).copied();
                if let Some(found) = look() {
                    return found;
                }
                let keep = Arc::clone(&known);
                let prove = || async move {
                    proofs[token].fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    keep.lock().unwrap().insert(token, token);
                    token
                };
                match flights.board(digest, Passenger::Known, look, prove).unwrap() {
                    Boarded::Landed(found) => found,
                    Boarded::Waiting(waiter) => waiter.landed().await.unwrap(),
                }
            }
        };
        runtime.block_on(async {
            let mut asked = Vec::new();
            for round in 0..200 {
                for token in 0..TOKENS {
                    let token = (token * 31 + round) % TOKENS;
                    asked.push((token, tokio::spawn(ask(token))));
                }
            }
            for (token, answer) in asked {
                assert_eq!(answer.await.unwrap(), token);
            }
        });
        assert!(proofs.iter().all(|proofs| proofs.load(Ordering::Relaxed) == 1));
    }
}
