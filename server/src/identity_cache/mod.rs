//! Where proved identities live, and for how long.
//!
//! What is kept is who signed, never what he may do: mappings are asked on every hit, so a change of them acts on the next request. An entry is found by
//! a [`Digest`] of cluster, policy generation and token, and is judged on every hit by our own clocks:
//!
//! ```text
//! proved_at ───────── fresh_until ───────────────── dead_at
//!     served               asked for again; served          not served
//!                          if nobody can be asked
//! ```
//!
//! `fresh_until` is `ttl` after the proof by the monotonic clock; `dead_at` is the token's own end, by both clocks, the stricter one. The storage
//! (quick_cache) knows nothing of time: it is bounded by bytes, and what is dead makes room as what is unused does.
//!
//! Refusals are remembered apart, in `refusals`.
//!
//! Room for what comes: identities shared by replicas are one more place to ask inside a flight, before the provers. Nothing here would change.

mod digest;
mod refusals;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, Options, OptionsBuilder, Weighter};

use self::refusals::Refusals;
use crate::clock::Now;
use crate::own_hash::BuildOwnHash;
use crate::prover::{ProveError, VerifiedIdentity};

pub use self::digest::{Digest, Digester, NoRandom};
pub use self::refusals::HOLD_BACK;

/// How identities are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// How long one is believed; zero: not at all.
    pub ttl: Duration,
    /// Memory for them, in bytes.
    pub max_bytes: usize,
    /// How long a refusal is remembered; zero: not at all.
    pub negative_ttl: Duration,
    /// Whether one that should be asked for again is believed while nobody can be asked.
    pub stale_if_down: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(300), max_bytes: 64 << 20, negative_ttl: Duration::from_secs(30), stale_if_down: true }
    }
}

/// Memory of one entry beside the identity's own, in bytes: key and place in the slab (64), index (12), the slack of both as they grow (40), and what the
/// allocator takes for two allocations (32).
///
/// Measured: `cargo bench -p arngate-benches --bench memory` fills a cache and compares what it says with what the process has grown by.
const ENTRY_BYTES: u64 = 148;

/// An identity of usual size, in bytes: an assumed role with a session name.
const USUAL_IDENTITY_BYTES: u64 = 240;

/// Shards, each with a lock of its own: as many as there are ever cores that matter, and few enough for each to hold a share of 2 MiB.
const SHARDS: usize = 16;

/// The part of the memory that refusals get.
const REFUSALS_SHARE: u64 = 8;

#[derive(Clone, Debug)]
struct Weigher;

impl Weighter<Digest, Arc<VerifiedIdentity>> for Weigher {
    fn weight(&self, _: &Digest, identity: &Arc<VerifiedIdentity>) -> u64 {
        ENTRY_BYTES + u64::try_from(identity.memory_bytes()).unwrap_or(u64::MAX / 2)
    }
}

/// Counts what had to make room.
#[derive(Clone, Debug)]
struct Evictions(Counter);

impl Lifecycle<Digest, Arc<VerifiedIdentity>> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Digest, _: Arc<VerifiedIdentity>) {
        self.0.inc();
    }
}

/// The identities that were proved lately, and the tokens that were refused lately.
#[derive(Debug)]
pub struct IdentityCache {
    /// None: every token is proved anew.
    entries: Option<Cache<Digest, Arc<VerifiedIdentity>, Weigher, BuildOwnHash, Evictions>>,
    refusals: Refusals,
    ttl: Duration,
    stale_if_down: bool,
}

/// What is kept of a token.
#[derive(Clone, Debug)]
pub enum Found {
    /// Who signed.
    Fresh(Arc<VerifiedIdentity>),
    /// Who signed, to be asked for again, and to be believed only if nobody can be asked.
    Stale(Arc<VerifiedIdentity>),
    /// Nothing.
    Missing,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// Identities.
    pub entries: usize,
    /// Memory that they take, in bytes.
    pub bytes: u64,
    /// Memory that they may take, in bytes.
    pub max_bytes: u64,
    /// Refusals.
    pub refusals: usize,
}

impl IdentityCache {
    /// An empty cache that counts in `evictions` what has to make room.
    #[must_use]
    pub fn new(settings: Settings, evictions: Counter) -> Self {
        let Settings { ttl, max_bytes, negative_ttl, stale_if_down } = settings;
        let max_bytes = u64::try_from(max_bytes).unwrap_or(u64::MAX);
        let for_refusals = max_bytes / REFUSALS_SHARE;
        let entries = (!ttl.is_zero()).then(|| {
            let options = options(max_bytes - for_refusals, ENTRY_BYTES + USUAL_IDENTITY_BYTES, SHARDS);
            Cache::with_options(options, Weigher, BuildOwnHash::default(), Evictions(evictions))
        });
        Self { entries, refusals: Refusals::new(for_refusals, negative_ttl), ttl, stale_if_down }
    }

    /// Who signed, as far as it is known.
    #[must_use]
    pub fn get(&self, digest: &Digest, now: Now) -> Found {
        let Some(identity) = self.entries.as_ref().and_then(|entries| entries.get(digest)) else { return Found::Missing };
        match Age::of(&identity, self.ttl, now) {
            Age::Fresh => Found::Fresh(identity),
            Age::Stale if self.stale_if_down => Found::Stale(identity),
            Age::Stale | Age::Dead => Found::Missing,
        }
    }

    /// Keeps who signed, in the place of what was known before.
    pub fn insert(&self, digest: Digest, identity: Arc<VerifiedIdentity>) {
        if let Some(entries) = &self.entries {
            entries.insert(digest, identity);
        }
    }

    /// Why the token is not asked for again now, if it is not.
    #[must_use]
    pub fn refusal(&self, digest: &Digest, now: Now) -> Option<ProveError> {
        self.refusals.get(digest, now)
    }

    /// Keeps what came of a proof that failed: a refusal takes the identity away and is remembered; a throttle holds the token back for [`HOLD_BACK`]; what
    /// says nothing about the token changes nothing.
    pub fn failed(&self, digest: Digest, error: &ProveError, now: Now) {
        if error.outcome() == crate::prover::Outcome::Refused
            && let Some(entries) = &self.entries
        {
            entries.remove(&digest);
        }
        self.refusals.insert(digest, error, now);
    }

    /// How much is kept.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let refusals = self.refusals.len();
        self.entries.as_ref().map_or_else(
            || Sizes { refusals, ..Sizes::default() },
            |entries| Sizes { entries: entries.len(), bytes: entries.weight(), max_bytes: entries.capacity(), refusals },
        )
    }
}

/// Options of a storage for so much weight, of entries that weigh so much as a rule.
fn options(max_weight: u64, usual_weight: u64, shards: usize) -> Options {
    OptionsBuilder::new()
        .weight_capacity(max_weight)
        .estimated_items_capacity(usize::try_from(max_weight / usual_weight).unwrap_or(usize::MAX))
        .shards(shards)
        // A ghost is a whole place in the slab: few of them will do.
        .ghost_allocation(0.1)
        .build()
        .expect("capacity and estimate are set, which is all that can be missing")
}

/// Where in its life an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Age {
    Fresh,
    Stale,
    Dead,
}

impl Age {
    fn of(identity: &VerifiedIdentity, ttl: Duration, now: Now) -> Self {
        if !identity.is_alive(now) {
            Self::Dead
        } else if identity.age(now) < ttl {
            Self::Fresh
        } else {
            Self::Stale
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prover::testing::{now as proved_at, verified};

    fn cache(settings: Settings) -> (IdentityCache, Digester) {
        (IdentityCache::new(settings, Counter::default()), Digester::new("edge-1").unwrap())
    }

    fn later(seconds: u64) -> Now {
        let now = proved_at();
        Now { unix: now.unix.saturating_add(i64::try_from(seconds).unwrap()), monotonic: now.monotonic + Duration::from_secs(seconds) }
    }

    /// The token was signed ten seconds before it was proved, so it has this long to live.
    const LEFT_SECS: u64 = 890;

    fn found(cache: &IdentityCache, digest: &Digest, now: Now) -> &'static str {
        match cache.get(digest, now) {
            Found::Fresh(_) => "fresh",
            Found::Stale(_) => "stale",
            Found::Missing => "missing",
        }
    }

    #[test]
    fn an_identity_is_fresh_then_stale_then_dead() {
        let (cache, digester) = cache(Settings::default());
        let digest = digester.digest(0, b"token");
        assert_eq!(found(&cache, &digest, later(0)), "missing");
        cache.insert(digest, verified());
        for (seconds, expected) in [(0, "fresh"), (299, "fresh"), (300, "stale"), (LEFT_SECS, "stale"), (LEFT_SECS + 1, "missing")] {
            assert_eq!(found(&cache, &digest, later(seconds)), expected, "{seconds} s");
        }
        assert_eq!(found(&cache, &digester.digest(1, b"token"), later(0)), "missing", "another generation");
    }

    #[test]
    fn the_stricter_clock_counts_for_the_end() {
        let (cache, digester) = cache(Settings::default());
        let digest = digester.digest(0, b"token");
        cache.insert(digest, verified());
        let jumped = |unix: i64, monotonic: u64| {
            let now = proved_at();
            Now { unix: now.unix.saturating_add(unix), monotonic: now.monotonic + Duration::from_secs(monotonic) }
        };
        for (now, expected, why) in [
            (jumped(3600, 1), "missing", "the wall clock says that the token is over"),
            (jumped(-3600, 1), "fresh", "the wall clock went back"),
            (jumped(-3600, 300), "stale", "the wall clock went back, and freshness goes by the other one"),
            (jumped(-3600, LEFT_SECS + 1), "missing", "the wall clock went back, and the token has lived its time"),
            (jumped(0, LEFT_SECS + 1), "missing", "the wall clock stands still"),
            (jumped(LEFT_SECS as i64, 0), "fresh", "the last second"),
        ] {
            assert_eq!(found(&cache, &digest, now), expected, "{why}");
        }
    }

    #[test]
    fn a_ttl_longer_than_the_token_ends_with_the_token() {
        let (cache, digester) = cache(Settings { ttl: Duration::from_secs(3600), ..Settings::default() });
        let digest = digester.digest(0, b"token");
        cache.insert(digest, verified());
        assert_eq!(found(&cache, &digest, later(LEFT_SECS)), "fresh");
        assert_eq!(found(&cache, &digest, later(LEFT_SECS + 1)), "missing");
    }

    #[test]
    fn nothing_is_believed_beyond_its_time_unless_so_set() {
        let (cache, digester) = cache(Settings { stale_if_down: false, ..Settings::default() });
        let digest = digester.digest(0, b"token");
        cache.insert(digest, verified());
        assert_eq!((found(&cache, &digest, later(299)), found(&cache, &digest, later(300))), ("fresh", "missing"));
    }

    #[test]
    fn a_ttl_of_zero_keeps_no_identity_and_still_remembers_refusals() {
        let (cache, digester) = cache(Settings { ttl: Duration::ZERO, ..Settings::default() });
        let digest = digester.digest(0, b"token");
        cache.insert(digest, verified());
        assert_eq!(found(&cache, &digest, later(0)), "missing");
        cache.failed(digest, &ProveError::UnknownKey, later(0));
        assert_eq!(cache.refusal(&digest, later(29)), Some(ProveError::UnknownKey));
    }

    #[test]
    fn a_refusal_takes_the_identity_away_and_nothing_else_does() {
        use crate::prover::sts::{Failure, StsError};
        let (cache, digester) = cache(Settings::default());
        let digest = digester.digest(0, b"token");
        cache.insert(digest, verified());
        let unavailable = ProveError::Sts(StsError { host: "sts.amazonaws.com".into(), failure: Failure::NoSuchHost });
        cache.failed(digest, &unavailable, later(0));
        assert_eq!((found(&cache, &digest, later(0)), cache.refusal(&digest, later(0))), ("fresh", None));
        cache.failed(digest, &ProveError::UnknownKey, later(0));
        assert_eq!((found(&cache, &digest, later(0)), cache.refusal(&digest, later(0))), ("missing", Some(ProveError::UnknownKey)));
    }

    #[test]
    fn bytes_are_bounded_and_what_was_used_stays() {
        let evictions = Counter::default();
        let cache = IdentityCache::new(Settings { max_bytes: 2 << 20, ..Settings::default() }, evictions.clone());
        let digester = Digester::new("edge-1").unwrap();
        let of = |number: u32| digester.digest(0, &number.to_be_bytes());
        let identity = verified();
        for number in 0..50_000 {
            cache.insert(of(number), Arc::clone(&identity));
            // Somebody who logs in all the time.
            assert!(matches!(cache.get(&of(0), later(0)), Found::Fresh(_)), "pushed out by {number}");
        }
        let sizes = cache.sizes();
        assert!(sizes.bytes <= sizes.max_bytes && sizes.bytes > sizes.max_bytes * 9 / 10, "{sizes:?}");
        assert!(sizes.max_bytes < 2 << 20, "refusals have their part");
        assert_eq!(evictions.get() as usize + sizes.entries, 50_000);
    }

    #[test]
    fn a_flood_of_refusals_pushes_no_identity_out() {
        let (cache, digester) = cache(Settings { max_bytes: 2 << 20, ..Settings::default() });
        let digest = digester.digest(0, b"token");
        cache.insert(digest, verified());
        for number in 0..50_000_u32 {
            cache.failed(digester.digest(0, &number.to_be_bytes()), &ProveError::UnknownKey, later(0));
        }
        assert_eq!(found(&cache, &digest, later(0)), "fresh");
    }
}
