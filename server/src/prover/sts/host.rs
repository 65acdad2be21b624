//! What we keep of each host of STS: its places, its breaker, its retry budget and its connections.
//!
//! Bounded: 32 hosts, and of hosts that nobody knows, but whose names could be those of new regions, four new ones a minute.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arngate_core::presigned::CLUSTER_ID_HEADER;
use hyper::header::{ACCEPT, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use tokio::time::Instant;

use super::breaker::{Admission, Breaker, BreakerState, Refusal, Verdict};
use super::gate::Gate;
use super::retry::RetryBudget;
use crate::outbound::Pool;

/// Hosts of which something is kept. DESIGN: "state for at most 32 hosts, the least recently used goes". A partition has some 35 regions of which a cluster's
/// users have two or three.
pub(super) const HOSTS: usize = 32;

/// New hosts that only fit by shape, within [`NEWCOMER_SPAN`]. AWS opens some regions a *year*.
pub(super) const NEWCOMERS: usize = 4;

/// DESIGN: "at most 4 new hosts a minute that only fit by shape".
pub(super) const NEWCOMER_SPAN: Duration = Duration::from_secs(60);

/// A host of STS.
pub(super) struct Host {
    start: Instant,
    /// What all calls have in their head, and a place for the cluster id.
    pub(super) head: HeaderMap,
    /// Places for calls to this host.
    pub(super) gate: Gate,
    pub(super) pool: Arc<Pool>,
    breaker: Mutex<Breaker>,
    budget: Mutex<RetryBudget>,
}

impl Host {
    pub(super) fn new(start: Instant, gate: Gate, pool: Pool, retry_percent: u32) -> Self {
        let name = HeaderValue::from_str(pool.host()).expect("the name of a host is letters, digits, dots and dashes");
        let head = HeaderMap::from_iter([
            (HOST, name),
            (HeaderName::from_static(CLUSTER_ID_HEADER), HeaderValue::from_static("")),
            (ACCEPT, HeaderValue::from_static("application/json")),
            (USER_AGENT, HeaderValue::from_static(concat!("arngate/", env!("CARGO_PKG_VERSION")))),
        ]);
        let (breaker, budget) = (Mutex::new(Breaker::new()), Mutex::new(RetryBudget::new(retry_percent)));
        Self { start, head, gate, pool: Arc::new(pool), breaker, budget }
    }

    /// Whether it would be asked at `now`.
    pub(super) fn check(&self, now: Instant) -> Result<(), Refusal> {
        lock(&self.breaker).check(now - self.start)
    }

    /// Lets an attempt through, which begins now.
    pub(super) fn admit(&self) -> Result<Admitted<'_>, Refusal> {
        let began = Instant::now();
        let admission = lock(&self.breaker).admit(began - self.start)?;
        Ok(Admitted { host: self, admission, began, is_told: false })
    }

    pub(super) fn breaker_state(&self) -> BreakerState {
        lock(&self.breaker).state(self.start.elapsed())
    }

    pub(super) fn budget(&self) -> MutexGuard<'_, RetryBudget> {
        lock(&self.budget)
    }

    /// Whether nobody has a place there or waits for one.
    pub(super) fn is_idle(&self) -> bool {
        let census = self.gate.census();
        census.inside == [0, 0] && census.waiting == [0, 0]
    }
}

/// The right to one attempt at a host. Where it is dropped without a word of what came of it, nobody was there to see it.
pub(super) struct Admitted<'h> {
    host: &'h Host,
    admission: Admission,
    began: Instant,
    is_told: bool,
}

impl Admitted<'_> {
    pub(super) const fn is_probe(&self) -> bool {
        self.admission.is_probe
    }

    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// What had come of it at `now`. Whether the host is shut by that.
    pub(super) fn report(mut self, verdict: Verdict, now: Instant) -> bool {
        self.is_told = true;
        lock(&self.host.breaker).report(self.admission, verdict, now - self.host.start)
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            lock(&self.host.breaker).report(self.admission, Verdict::Unknown, self.host.start.elapsed());
        }
    }
}

/// A host that only fits by shape, and there were too many of them lately.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooManyNewcomers;

/// Who asks for a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Visit<'a> {
    pub(super) name: &'a str,
    /// Whether nobody knows the host.
    pub(super) only_by_shape: bool,
    /// Whether he who asks is known.
    pub(super) is_known: bool,
}

/// Something for each of the hosts that were used last. Those that somebody known has asked for stay before all others: whoever makes up tokens for many hosts takes
/// from nobody known the connections that he uses.
#[derive(Debug)]
pub(super) struct HostTable<T> {
    entries: Vec<Entry<T>>,
    uses: u64,
    /// When the last ones came that only fit by shape; the oldest is overwritten.
    newcomers: [Option<Duration>; NEWCOMERS],
    next_newcomer: usize,
}

#[derive(Debug)]
struct Entry<T> {
    name: Box<str>,
    used: u64,
    /// Whether somebody known has ever asked for it.
    is_of_known: bool,
    value: T,
}

impl<T> HostTable<T> {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), uses: 0, newcomers: [None; NEWCOMERS], next_newcomer: 0 }
    }

    /// What is there for the host, or what `make` makes for it. Where there are too many, one goes: one that nobody known has asked for before any other, then one that
    /// is idle, then the one that was not used for the longest time.
    pub(super) fn get_or_insert(
        &mut self,
        visit: Visit<'_>,
        now: Duration,
        is_idle: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Result<&T, TooManyNewcomers> {
        self.uses += 1;
        let used = self.uses;
        // 32 short names: comparing them all is no slower than a map, beside a call over the network.
        let at = match self.entries.iter().position(|entry| *entry.name == *visit.name) {
            Some(at) => at,
            None => {
                if visit.only_by_shape {
                    self.admit_newcomer(now)?;
                }
                if self.entries.len() >= HOSTS {
                    let order = |entry: &Entry<T>| (entry.is_of_known, !is_idle(&entry.value), entry.used);
                    if let Some((goes, _)) = self.entries.iter().enumerate().min_by_key(|(_, entry)| order(entry)) {
                        self.entries.swap_remove(goes);
                    }
                }
                self.entries.push(Entry { name: visit.name.into(), used, is_of_known: false, value: make() });
                self.entries.len() - 1
            }
        };
        let entry = &mut self.entries[at];
        entry.used = used;
        entry.is_of_known |= visit.is_known;
        Ok(&entry.value)
    }

    /// The one that would go first, of those that are `fit`.
    pub(super) fn first_to_go(&self, fit: impl Fn(&T) -> bool) -> Option<&T> {
        let entries = self.entries.iter().filter(|entry| fit(&entry.value));
        entries.min_by_key(|entry| (entry.is_of_known, entry.used)).map(|entry| &entry.value)
    }

    /// All of them.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|entry| &entry.value)
    }

    fn admit_newcomer(&mut self, now: Duration) -> Result<(), TooManyNewcomers> {
        let oldest = &mut self.newcomers[self.next_newcomer];
        if oldest.is_some_and(|at| now.saturating_sub(at) < NEWCOMER_SPAN) {
            return Err(TooManyNewcomers);
        }
        *oldest = Some(now);
        self.next_newcomer = (self.next_newcomer + 1) % NEWCOMERS;
        Ok(())
    }
}

impl HostTable<Arc<Host>> {
    /// [`Self::get_or_insert`], with what is idle told by the host.
    pub(super) fn host(
        &mut self,
        visit: Visit<'_>,
        now: Duration,
        make: impl FnOnce() -> Arc<Host>,
    ) -> Result<Arc<Host>, TooManyNewcomers> {
        self.get_or_insert(visit, now, |host| host.is_idle(), make).cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks panics half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(table: &mut HostTable<(String, bool)>, name: &str, is_busy: bool) {
        visit_as(table, Visit { name, only_by_shape: false, is_known: false }, is_busy);
    }

    fn visit_as(table: &mut HostTable<(String, bool)>, visit: Visit<'_>, is_busy: bool) {
        let made = || (visit.name.to_owned(), is_busy);
        let (name, _) = table.get_or_insert(visit, Duration::ZERO, |(_, is_busy)| !is_busy, made).unwrap();
        assert_eq!(name, visit.name);
    }

    fn names(table: &HostTable<(String, bool)>) -> Vec<String> {
        let mut names: Vec<String> = table.values().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn keeps_the_hosts_that_were_used_last() {
        let mut table = HostTable::new();
        for number in 0..HOSTS {
            visit(&mut table, &format!("host{number:02}"), false);
        }
        visit(&mut table, "host00", false);
        visit(&mut table, "new1", false);
        let kept = names(&table);
        assert_eq!(kept.len(), HOSTS);
        assert!(kept.contains(&"host00".into()) && !kept.contains(&"host01".into()) && kept.contains(&"new1".into()));
        for number in 0..1000 {
            visit(&mut table, &format!("flood{number}"), false);
            visit(&mut table, "host00", false);
            assert!(table.entries.len() == HOSTS && names(&table).contains(&"host00".into()));
        }
    }

    #[test]
    fn a_host_that_is_being_asked_stays_if_another_can_go() {
        let mut table = HostTable::new();
        visit(&mut table, "busy", true);
        for number in 0..100 {
            visit(&mut table, &format!("idle{number}"), false);
        }
        assert!(names(&table).contains(&"busy".into()));
        for number in 0..HOSTS {
            visit(&mut table, &format!("busy{number}"), true);
        }
        assert!(!names(&table).contains(&"busy".into()), "but the bound holds");
        assert_eq!(table.entries.len(), HOSTS);
    }

    #[test]
    fn a_host_that_somebody_known_has_asked_for_stays_before_all_others() {
        let mut table = HostTable::new();
        visit_as(&mut table, Visit { name: "ours", only_by_shape: false, is_known: true }, false);
        for number in 0..1000 {
            visit(&mut table, &format!("busy{number}"), true);
        }
        assert!(names(&table).contains(&"ours".into()));
        assert_eq!(table.first_to_go(|_| true).unwrap().0, "busy969");
        for number in 0..HOSTS {
            visit_as(&mut table, Visit { name: &format!("theirs{number}"), only_by_shape: false, is_known: true }, false);
        }
        assert!(!names(&table).contains(&"ours".into()) && table.entries.len() == HOSTS);
    }

    #[test]
    fn four_new_hosts_a_minute_that_nobody_knows() {
        let mut table = HostTable::new();
        let mut visit = |name: &str, by_shape: bool, secs: u64| {
            let visit = Visit { name, only_by_shape: by_shape, is_known: false };
            table.get_or_insert(visit, Duration::from_secs(secs), |()| true, || ()).copied()
        };
        for (name, secs) in [("a", 0), ("b", 10), ("c", 20), ("d", 30)] {
            assert_eq!(visit(name, true, secs), Ok(()));
        }
        assert_eq!(visit("e", true, 59), Err(TooManyNewcomers));
        assert_eq!(visit("a", true, 59), Ok(()), "which is not new");
        assert_eq!(visit("known", false, 59), Ok(()));
        assert_eq!(visit("e", true, 60), Ok(()));
        assert_eq!(visit("f", true, 69), Err(TooManyNewcomers), "in any minute, wherever it begins");
        assert_eq!(visit("f", true, 70), Ok(()));
    }
}
