//! How identities came to be known, and how many are.

use std::fmt;
use std::sync::{OnceLock, Weak};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How the question who signed a token was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// By a key at hand, before anything else was looked at.
    AtHand,
    /// It was known.
    Hit,
    /// It had to be proved, which took asking STS.
    Miss,
    /// It was being proved for another.
    Coalesced,
    /// It was known to be refused, or to be held back.
    NegativeHit,
    /// It had to be proved, nobody could, and it was known from before.
    Stale,
    /// It was not asked: the token itself is no good, or we had no place for it.
    Nowhere,
}

/// How much there is, when somebody asks.
pub trait Levels: fmt::Debug + Send + Sync {
    /// What is true now.
    fn levels(&self) -> Level;
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Level {
    /// Identities in the cache.
    pub entries: usize,
    /// Memory that they take, in bytes.
    pub bytes: u64,
    /// Memory that they may take, in bytes.
    pub max_bytes: u64,
    /// Refusals that are remembered.
    pub refusals: usize,
    /// Proofs under way.
    pub flights: usize,
    /// Requests that wait for them.
    pub waiters: usize,
}

/// Counters and gauges of the cache and the flights.
#[derive(Debug, Default)]
pub(super) struct CacheMetrics {
    hits: Counter,
    misses: Counter,
    coalesced: Counter,
    negative_hits: Counter,
    stale_served: Counter,
    pub(super) evictions: Counter,
    entries: Gauge,
    bytes: Gauge,
    max_bytes: Gauge,
    refusals: Gauge,
    flights: Gauge,
    waiters: Gauge,
    /// Does not keep it: the way to STS, behind it, counts here.
    pub(super) levels: OnceLock<Weak<dyn Levels>>,
}

impl CacheMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register("cache_hits", "Requests whose token was known", all.hits.clone());
        registry.register("cache_misses", "Requests whose token had to be proved by STS", all.misses.clone());
        registry.register("cache_negative_hits", "Requests whose token was known to be refused or held back", all.negative_hits.clone());
        registry.register(
            "cache_stale_served",
            "Requests answered from an identity past its time because nobody could be asked",
            all.stale_served.clone(),
        );
        registry.register("cache_evictions", "Identities that had to make room", all.evictions.clone());
        registry.register("cache_entries", "Identities in the cache", all.entries.clone());
        registry.register("cache_bytes", "Memory of the identities in the cache", all.bytes.clone());
        registry.register("cache_max_bytes", "Memory that identities in the cache may take", all.max_bytes.clone());
        registry.register("cache_refusals", "Refusals that are remembered", all.refusals.clone());
        registry.register("coalesced", "Requests that waited for a proof that another had asked for", all.coalesced.clone());
        registry.register("flights", "Tokens being proved by STS", all.flights.clone());
        registry.register("flight_waiters", "Requests that wait for a proof", all.waiters.clone());
        all
    }

    pub(super) fn answered(&self, way: Way) {
        match way {
            Way::Hit => &self.hits,
            Way::Miss => &self.misses,
            Way::Coalesced => &self.coalesced,
            Way::NegativeHit => &self.negative_hits,
            Way::Stale => &self.stale_served,
            Way::AtHand | Way::Nowhere => return,
        }
        .inc();
    }

    /// Looks at the levels, for somebody is about to read them.
    pub(super) fn refresh(&self) {
        let Some(levels) = self.levels.get().and_then(Weak::upgrade) else { return };
        let Level { entries, bytes, max_bytes, refusals, flights, waiters } = levels.levels();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.entries.set(number(entries));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.max_bytes.set(i64::try_from(max_bytes).unwrap_or(i64::MAX));
        self.refusals.set(number(refusals));
        self.flights.set(number(flights));
        self.waiters.set(number(waiters));
    }
}
