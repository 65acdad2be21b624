//! Questions when they are due, whatever has become of those before.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::pacer::Pacer;
use super::{Course, Desk, lock};
use crate::arrivals::Schedule;
use crate::transport::{Ask, Link};

/// Where whoever asks a question that is due comes from.
pub(super) trait Askers: Send + Sync + 'static {
    /// Who asks one question.
    type Asker: Ask;

    /// Somebody who is free; the time of waiting for one counts.
    fn take(&self) -> impl Future<Output = Option<Self::Asker>> + Send;

    /// It is free again.
    fn put_back(&self, asker: Self::Asker);
}

/// Each asks one question at a time, as over HTTP/1.1.
#[derive(Debug)]
pub(super) struct Exclusive<A> {
    free: Mutex<Vec<A>>,
    places: Semaphore,
}

impl<A> Exclusive<A> {
    pub(super) fn new(askers: Vec<A>) -> Self {
        let places = Semaphore::new(askers.len());
        Self { free: Mutex::new(askers), places }
    }
}

impl<A: Ask> Askers for Exclusive<A> {
    type Asker = A;

    async fn take(&self) -> Option<A> {
        self.places.acquire().await.ok()?.forget();
        lock(&self.free).pop()
    }

    fn put_back(&self, asker: A) {
        lock(&self.free).push(asker);
        self.places.add_permits(1);
    }
}

/// Any number share each connection, as over HTTP/2; the connections take turns.
#[derive(Debug)]
pub(super) struct Shared {
    links: Vec<Link>,
    turn: AtomicUsize,
}

impl Shared {
    pub(super) const fn new(links: Vec<Link>) -> Self {
        Self { links, turn: AtomicUsize::new(0) }
    }
}

impl Askers for Shared {
    type Asker = crate::transport::Caller;

    async fn take(&self) -> Option<Self::Asker> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Some(self.links[turn % self.links.len()].caller())
    }

    fn put_back(&self, _: Self::Asker) {}
}

/// Asks what is due until the course is over, then waits for the answers.
pub(super) async fn run<S: Askers>(
    askers: S,
    schedule: Schedule,
    in_flight_most: u32,
    course: &Arc<Course>,
    desk: &Arc<Desk>,
    mut pacer: Pacer,
) {
    let askers = Arc::new(askers);
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for after in schedule {
        let due = begin + after;
        tokio::select! {
            biased;
            () = course.ended() => break,
            () = pacer.wait_until(due) => {}
        }
        while tasks.try_join_next().is_some() {}
        if !course.take() {
            break;
        }
        if tasks.len() >= in_flight_most as usize {
            lock(&desk.tally).unsent += 1;
            continue;
        }
        let question = desk.next();
        let (askers, desk) = (Arc::clone(&askers), Arc::clone(desk));
        tasks.spawn(async move {
            // Not before we run ourselves: what comes between is our fault as well.
            let lateness = Instant::now().saturating_duration_since(due);
            lock(&desk.tally).record_lateness(lateness);
            if let Some(mut asker) = askers.take().await {
                desk.ask(&mut asker, question, due).await;
                askers.put_back(asker);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}
