//! Tokens that a prover has refused, for half a minute; and those that STS was too busy for, for three seconds.
//!
//! Bounded apart from the identities, so that a flood of bad tokens cannot push good ones out.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::digest::Digest;
use crate::clock::Now;
use crate::own_hash::BuildOwnHash;
use crate::prover::{Outcome, ProveError};

/// How long a token that STS was too busy for is held back. An API server tries a 429 five times, at 0, 0.55, 1.4, 2.6 and 4.5 s: two of these reach STS.
pub const HOLD_BACK: Duration = Duration::from_secs(3);

/// Memory of one entry, in bytes: key, place in the slab and index, two allocations, and an error that names a host. All count alike, since what an error can hold is
/// bounded.
const ENTRY_BYTES: u64 = 320;

/// Shards, each with a lock of its own.
const SHARDS: usize = 4;

#[derive(Debug)]
struct Remembered {
    error: ProveError,
    /// Monotonic.
    until: Duration,
}

/// What was refused lately.
#[derive(Debug)]
pub(super) struct Refusals {
    entries: Cache<Digest, Arc<Remembered>, UnitWeighter, BuildOwnHash>,
    ttl: Duration,
}

impl Refusals {
    /// Remembers refusals for `ttl`, in about `max_bytes`.
    pub(super) fn new(max_bytes: u64, ttl: Duration) -> Self {
        let options = super::options(max_bytes / ENTRY_BYTES, 1, SHARDS);
        Self { entries: Cache::with_options(options, UnitWeighter, BuildOwnHash::default(), DefaultLifecycle::default()), ttl }
    }

    /// Why the token is not asked for again now, if it is not.
    pub(super) fn get(&self, digest: &Digest, now: Now) -> Option<ProveError> {
        self.entries.get(digest).filter(|remembered| now.monotonic < remembered.until).map(|remembered| remembered.error.clone())
    }

    /// Remembers a refusal or a throttle; what says nothing about the token is not remembered.
    pub(super) fn insert(&self, digest: Digest, error: &ProveError, now: Now) {
        let ttl = match error.outcome() {
            Outcome::Refused => self.ttl,
            Outcome::Throttled => HOLD_BACK,
            Outcome::Overloaded | Outcome::Unavailable => return,
        };
        if !ttl.is_zero() {
            self.entries.insert(digest, Arc::new(Remembered { error: error.clone(), until: now.monotonic.saturating_add(ttl) }));
        }
    }

    /// How many there are, those that are over included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use arngate_core::UnixSeconds;

    use super::super::digest::Digester;
    use super::*;
    use crate::prover::sts::{Failure, Overload, StsError};

    fn now(milliseconds: u64) -> Now {
        Now { unix: UnixSeconds::new(0), monotonic: Duration::from_millis(milliseconds) }
    }

    fn throttled() -> ProveError {
        ProveError::Sts(StsError { host: "sts.amazonaws.com".into(), failure: Failure::Throttled { status: 400, code: None } })
    }

    #[test]
    fn remembers_each_for_its_time() {
        let refusals = Refusals::new(1 << 20, Duration::from_secs(30));
        let digester = Digester::new("prod").unwrap();
        let (bad, busy) = (digester.digest(0, b"bad"), digester.digest(0, b"busy"));
        refusals.insert(bad, &ProveError::UnknownKey, now(1_000));
        refusals.insert(busy, &throttled(), now(1_000));
        assert_eq!(refusals.get(&bad, now(30_999)), Some(ProveError::UnknownKey));
        assert_eq!(refusals.get(&bad, now(31_000)), None);
        assert_eq!(refusals.get(&busy, now(3_999)), Some(throttled()));
        assert_eq!(refusals.get(&busy, now(4_000)), None);
    }

    #[test]
    fn what_says_nothing_of_the_token_is_not_remembered() {
        let refusals = Refusals::new(1 << 20, Duration::from_secs(30));
        let digest = Digester::new("prod").unwrap().digest(0, b"token");
        let failure = Failure::Overloaded(Overload::Queue { most: 1 });
        refusals.insert(digest, &ProveError::Sts(StsError { host: "sts.amazonaws.com".into(), failure }), now(0));
        refusals.insert(digest, &ProveError::Sts(StsError { host: "sts.amazonaws.com".into(), failure: Failure::NoSuchHost }), now(0));
        assert_eq!((refusals.get(&digest, now(0)), refusals.len()), (None, 0));
    }

    #[test]
    fn without_a_time_only_throttles_are_remembered() {
        let refusals = Refusals::new(1 << 20, Duration::ZERO);
        let digest = Digester::new("prod").unwrap().digest(0, b"token");
        refusals.insert(digest, &ProveError::UnknownKey, now(0));
        assert_eq!(refusals.get(&digest, now(0)), None);
        refusals.insert(digest, &throttled(), now(0));
        assert_eq!(refusals.get(&digest, now(0)), Some(throttled()));
    }

    #[test]
    fn a_flood_is_bounded() {
        let refusals = Refusals::new(64 << 10, Duration::from_secs(30));
        let digester = Digester::new("prod").unwrap();
        for token in 0..20_000_u32 {
            refusals.insert(digester.digest(0, &token.to_be_bytes()), &ProveError::UnknownKey, now(0));
        }
        assert!((100..=300).contains(&refusals.len()), "{}", refusals.len());
    }
}
