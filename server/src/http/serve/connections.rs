//! The book of connections: who is connected, and who goes when there is no place left.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Who is connected, so that the one that is idle longest can be found.
#[derive(Debug, Default)]
pub(super) struct Connections {
    activities: Mutex<Vec<Arc<Activity>>>,
    /// Goes up by one with everything that happens: who was last active at the smallest turn is idle longest. The order is all that matters, and no clock
    /// is read for each request.
    turn: AtomicU64,
}

/// What one connection does, as others see it.
#[derive(Debug)]
pub(super) struct Activity {
    /// Requests without an answer so far.
    pub(super) in_flight: AtomicU32,
    /// The turn of the last request's end, or else of the connection's begin.
    pub(super) last_turn: AtomicU64,
    /// A request has come.
    pub(super) asked: AtomicBool,
    pub(super) first_request: Notify,
    /// Set when it must make room.
    pub(super) evicted: AtomicBool,
    pub(super) evict: Notify,
}

/// A connection's entry; gone with the connection.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    pub(super) activity: Arc<Activity>,
    /// How many of those who have asked something may stay connected while they are idle.
    max_asked: usize,
}

impl Connections {
    /// `None`: full, and nobody is idle.
    pub(super) fn take_place(self: &Arc<Self>, max: usize) -> Option<Place> {
        let mut activities = self.activities.lock().unwrap_or_else(PoisonError::into_inner);
        if activities.len() >= max {
            // Those who were told to go have until the end of their last answer, but while they stay no more than as many again may come in.
            if activities.len() >= max.saturating_mul(2) {
                return None;
            }
            let leaving = activities.iter().filter(|activity| activity.evicted.load(Ordering::Relaxed)).count();
            if activities.len() - leaving >= max {
                let idle = activities.iter().filter(|activity| activity.is_idle());
                // Whoever never asked anything goes before whoever did: a crowd of silent connections must not push the API server's out.
                let longest =
                    idle.min_by_key(|activity| (activity.asked.load(Ordering::Relaxed), activity.last_turn.load(Ordering::Relaxed)))?;
                longest.evict();
            }
        }
        let activity = Arc::new(Activity {
            in_flight: AtomicU32::new(0),
            last_turn: AtomicU64::new(self.next_turn()),
            asked: AtomicBool::new(false),
            first_request: Notify::new(),
            evicted: AtomicBool::new(false),
            evict: Notify::new(),
        });
        activities.push(Arc::clone(&activity));
        Some(Place { connections: Arc::clone(self), activity, max_asked: max.div_ceil(2) })
    }

    /// Whoever has asked something holds buffers (measured: 22 kB with HTTP/1.1 and 32 with HTTP/2, against 9 of those who have made TLS and asked nothing), so there is room
    /// for half as many of them. The longest idle one goes; where all are busy, none.
    fn make_room_among_asked(&self, max: usize) {
        let activities = self.activities.lock().unwrap_or_else(PoisonError::into_inner);
        let asked =
            || activities.iter().filter(|activity| activity.asked.load(Ordering::Relaxed) && !activity.evicted.load(Ordering::Relaxed));
        if asked().count() > max {
            let idle = asked().filter(|activity| activity.is_idle());
            if let Some(longest) = idle.min_by_key(|activity| activity.last_turn.load(Ordering::Relaxed)) {
                longest.evict();
            }
        }
    }

    fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

impl Activity {
    fn evict(&self) {
        self.evicted.store(true, Ordering::Relaxed);
        self.evict.notify_one();
    }

    fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && !self.evicted.load(Ordering::Relaxed)
    }
}

impl Place {
    pub(super) fn begin_request(self: &Arc<Self>) -> InFlight {
        let activity = &self.activity;
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        if !activity.asked.swap(true, Ordering::Relaxed) {
            activity.first_request.notify_one();
            self.connections.make_room_among_asked(self.max_asked);
        }
        InFlight(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut activities = self.connections.activities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = activities.iter().position(|activity| Arc::ptr_eq(activity, &self.activity)) {
            activities.swap_remove(index);
        }
    }
}

/// A request on its way; ends also when its caller hangs up.
pub(super) struct InFlight(Arc<Place>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let Place { connections, activity, .. } = &*self.0;
        activity.last_turn.store(connections.next_turn(), Ordering::Relaxed);
        activity.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_room_is_for_those_who_have_asked() {
        let connections = Arc::new(Connections::default());
        let places: Vec<_> = (0..4).map(|_| Arc::new(connections.take_place(4).unwrap())).collect();
        let evicted = || places.iter().map(|place| place.activity.evicted.load(Ordering::Relaxed)).collect::<Vec<_>>();
        drop(places[1].begin_request());
        let busy = places[0].begin_request();
        drop(places[1].begin_request());
        assert_eq!(evicted(), [false; 4]);
        drop(places[2].begin_request());
        assert_eq!(evicted(), [false, true, false, false], "the busy stay, the silent have room of their own");
        drop(places[2].begin_request());
        drop(busy);
        let _third = places[3].begin_request();
        assert_eq!(evicted(), [false, true, true, false], "the longest idle");
    }

    #[test]
    fn who_was_told_to_go_takes_no_room_of_those_who_have_asked() {
        let connections = Arc::new(Connections::default());
        let connect = || Arc::new(connections.take_place(4).unwrap());
        let [first, second, third, fourth] = [(); 4].map(|()| connect());
        for one in [&first, &second, &third] {
            drop(one.begin_request());
        }
        let evicted = |place: &Place| place.activity.evicted.load(Ordering::Relaxed);
        assert_eq!([&first, &second, &third].map(|place| evicted(place)), [true, false, false]);
        drop(second);
        // With him there are two again.
        drop(fourth.begin_request());
        assert_eq!([&first, &third, &fourth].map(|place| evicted(place)), [true, false, false]);
    }

    #[test]
    fn room_is_made_by_who_never_asked_before_who_is_idle_longest() {
        let connections = Arc::new(Connections::default());
        let connect = || connections.take_place(3).map(Arc::new);
        let places: Vec<_> = (0..3).map(|_| connect().unwrap()).collect();
        drop(places[0].begin_request());
        let busy = places[2].begin_request();
        let evicted = |index: usize| places[index].activity.evicted.load(Ordering::Relaxed);

        let fourth = connect().unwrap();
        assert_eq!([evicted(0), evicted(1), evicted(2)], [false, true, false]);
        let asked = fourth.begin_request();
        let _fifth = connect().unwrap();
        assert_eq!([evicted(0), evicted(1), evicted(2)], [true, true, false]);
        drop((busy, asked));
        let _sixth = connect().unwrap();
        assert!(connect().is_none(), "no more than twice as many, whatever they were told");
    }

    #[test]
    fn of_those_who_never_asked_the_first_goes_and_nobody_twice() {
        let connections = Arc::new(Connections::default());
        let connect = || Arc::new(connections.take_place(3).unwrap());
        let asked = connect();
        drop(asked.begin_request());
        // They came later than he was last heard of, and go first all the same.
        let silent = [connect(), connect()];
        let evicted = || [&asked, &silent[0], &silent[1]].map(|place| place.activity.evicted.load(Ordering::Relaxed));
        let fourth = connect();
        assert_eq!(evicted(), [false, true, false]);
        // Whoever was told to go has not gone yet.
        let busy = fourth.begin_request();
        let fifth = connect();
        assert_eq!(evicted(), [false, true, true]);
        let busy_too = fifth.begin_request();
        let _sixth = connect();
        assert_eq!(evicted(), [true; 3]);
        drop((busy, busy_too));
    }

    #[test]
    fn a_place_is_free_again_once_its_connection_has_gone() {
        let connections = Arc::new(Connections::default());
        for _ in 0..3 {
            let places: Vec<_> = (0..2).map(|_| Arc::new(connections.take_place(2).unwrap())).collect();
            let busy: Vec<_> = places.iter().map(Place::begin_request).collect();
            assert!(connections.take_place(2).is_none(), "all are busy");
            drop(places);
            assert!(connections.take_place(2).is_none(), "a request keeps the place of its connection");
            drop(busy);
            assert!(connections.activities.lock().unwrap().is_empty());
        }
    }
}
