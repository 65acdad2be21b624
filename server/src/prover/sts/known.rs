//! Whose access key is known: his last proof by STS was also mapped.
//!
//! Somebody with a valid key of any AWS account is not known: only who is let in here is. He stays known for a day, as long as he is among those that were proved
//! last; a proof that is not mapped makes him unknown at once. That somebody *claims* a key changes nothing: a token is easily made up.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::lane::{KeyHash, Lane};
use crate::own_hash::BuildOwnHash;

/// How long a key is known after its last proof. DESIGN: "bounded LRU, 24 h".
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// How old a proof is that another one need not replace: who comes back within that time is in nobody's way for it.
const AS_GOOD_AS_NEW: Duration = Duration::from_secs(60);

/// The access keys whose last proof was mapped, bounded; the one that was proved the longest ago goes first. All of that is to the minute.
///
/// Keys are kept as hashes under a key of this process: some 70 bytes for each, and no list of a cluster's access keys in a memory dump.
#[derive(Debug)]
pub struct KnownKeys {
    hasher: RandomState,
    most: usize,
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    /// When its last proof was, and the number of that.
    proofs: HashMap<KeyHash, (Duration, u64), BuildOwnHash>,
    /// By number: the oldest proof in front.
    order: BTreeMap<u64, KeyHash>,
    number: u64,
}

/// Whoever a token says has signed it, as he is when it comes: that decides all of the way to STS what he is given.
#[derive(Clone, Copy, Debug)]
pub struct Claimant {
    pub(super) key: KeyHash,
    pub(super) lane: Lane,
}

impl Claimant {
    /// Whether the key that he claims is known.
    #[must_use]
    pub const fn is_known(self) -> bool {
        matches!(self.lane, Lane::Known)
    }
}

impl KnownKeys {
    /// Room for `most` keys.
    pub(super) fn new(most: usize) -> Self {
        Self { hasher: RandomState::new(), most, keys: Mutex::default() }
    }

    /// Whoever claims an access key; it is known if its last proof was mapped, within a day before `now` (monotonic).
    pub(super) fn claimant(&self, access_key_id: &str, now: Duration) -> Claimant {
        let key = self.hash(access_key_id);
        let is_known = self.lock().proofs.get(&key).is_some_and(|(at, _)| is_alive(*at, now));
        Claimant { key, lane: if is_known { Lane::Known } else { Lane::Other } }
    }

    /// The access key was proved at `now` (monotonic), and its identity was mapped or not.
    pub fn proved(&self, access_key_id: &str, mapped: bool, now: Duration) {
        let key = self.hash(access_key_id);
        let mut keys = self.lock();
        if mapped && keys.proofs.get(&key).is_some_and(|(at, _)| now.saturating_sub(*at) < AS_GOOD_AS_NEW) {
            return;
        }
        keys.remove(key);
        if mapped && self.most > 0 {
            while keys.proofs.len() >= self.most || keys.oldest().is_some_and(|(_, at)| !is_alive(at, now)) {
                let Some((oldest, _)) = keys.oldest() else { break };
                keys.remove(oldest);
            }
            keys.insert(key, now);
        }
    }

    /// How many are known, or were until a day ago.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().proofs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hash(&self, access_key_id: &str) -> KeyHash {
        KeyHash(self.hasher.hash_one(access_key_id))
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        // Nothing in here panics half-way.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    fn insert(&mut self, key: KeyHash, now: Duration) {
        self.number += 1;
        self.proofs.insert(key, (now, self.number));
        self.order.insert(self.number, key);
    }

    fn remove(&mut self, key: KeyHash) {
        if let Some((_, number)) = self.proofs.remove(&key) {
            self.order.remove(&number);
        }
    }

    fn oldest(&self) -> Option<(KeyHash, Duration)> {
        let (_, key) = self.order.first_key_value()?;
        self.proofs.get(key).map(|(at, _)| (*key, *at))
    }
}

fn is_alive(at: Duration, now: Duration) -> bool {
    now.saturating_sub(at) < LIFE
}

#[cfg(test)]
mod tests {
    use super::*;

    impl KnownKeys {
        fn is_known(&self, access_key_id: &str, now: Duration) -> bool {
            self.claimant(access_key_id, now).is_known()
        }
    }

    const fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 60 * 60)
    }

    #[test]
    fn only_a_proof_that_was_mapped_makes_a_key_known() {
        let known = KnownKeys::new(10);
        assert!(!known.is_known("AKIA1", hours(0)));
        known.proved("AKIA1", false, hours(0));
        assert!(!known.is_known("AKIA1", hours(0)));
        known.proved("AKIA1", true, hours(0));
        assert!(known.is_known("AKIA1", hours(0)) && !known.is_known("AKIA2", hours(0)));
        known.proved("AKIA1", false, hours(1));
        assert!(!known.is_known("AKIA1", hours(1)), "the last proof counts");
        assert!(known.is_empty());
    }

    #[test]
    fn a_key_is_known_for_a_day_after_its_last_proof() {
        let known = KnownKeys::new(10);
        known.proved("AKIA1", true, hours(1));
        assert!(known.is_known("AKIA1", hours(25) - Duration::from_nanos(1)));
        assert!(!known.is_known("AKIA1", hours(25)), "that somebody claimed it has not made it younger");
        known.proved("AKIA1", true, hours(30));
        known.proved("AKIA2", true, hours(40));
        assert!(known.is_known("AKIA1", hours(53)) && known.is_known("AKIA2", hours(63)));
        known.proved("AKIA3", true, hours(54));
        assert_eq!(known.len(), 2, "what is too old goes with the next proof");
    }

    #[test]
    fn the_key_that_was_proved_the_longest_ago_goes() {
        let known = KnownKeys::new(3);
        for (key, hour) in [("AKIA1", 0), ("AKIA2", 0), ("AKIA3", 0), ("AKIA1", 1)] {
            known.proved(key, true, hours(hour));
        }
        // Who claims the oldest one does not keep it.
        assert!(known.is_known("AKIA2", hours(1)));
        known.proved("AKIA4", true, hours(1));
        assert_eq!(["AKIA1", "AKIA2", "AKIA3", "AKIA4"].map(|key| known.is_known(key, hours(1))), [true, false, true, true]);
        for number in 0..100 {
            known.proved(&format!("ASIA{number}"), true, hours(0));
            assert_eq!((known.len(), known.lock().order.len()), (3, 3));
        }
    }

    #[test]
    fn a_proof_soon_after_another_changes_nothing_unless_it_is_not_mapped() {
        let known = KnownKeys::new(2);
        let secs = Duration::from_secs;
        known.proved("AKIA1", true, secs(0));
        known.proved("AKIA2", true, secs(30));
        known.proved("AKIA1", true, secs(59));
        known.proved("AKIA3", true, secs(59));
        assert_eq!(["AKIA1", "AKIA2", "AKIA3"].map(|key| known.is_known(key, secs(59))), [false, true, true], "AKIA1 was as good as new");
        known.proved("AKIA2", true, secs(90));
        known.proved("AKIA4", true, secs(90));
        assert_eq!(["AKIA2", "AKIA3", "AKIA4"].map(|key| known.is_known(key, secs(90))), [true, false, true], "a minute later it is not");
        known.proved("AKIA4", false, secs(91));
        assert!(!known.is_known("AKIA4", secs(91)), "who is no longer mapped is unknown at once");
    }

    #[test]
    fn there_may_be_room_for_nobody() {
        let none = KnownKeys::new(0);
        none.proved("AKIA1", true, hours(0));
        assert!(none.is_empty());
    }
}
