//! What happened: by outcome, by access key and by token.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arngate_core::{Token, TokenBuffer};
use serde::Serialize;
use tokio::sync::Notify;

/// Tokens that are counted apart: 16 bytes each.
const TOKENS_MAX: usize = 1_000_000;

/// Calls whose tokens are counted at once: some microseconds.
const RECENT_MAX: usize = 256;

/// Tables of tokens. One alone would take 20 ms to move to twice its room, for which all who call would wait.
const TABLES: usize = 256;

/// How a call ended.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// The identity was told, also where late, cut off or another's.
    Answered,
    /// The connection was closed without an answer.
    Closed,
    /// A behaviour's error document or bytes were sent.
    Error,
    /// `ExpiredToken`: the credential's session has ended.
    ExpiredToken,
    /// `InvalidClientTokenId`: unknown access key, or a session token that is not its own.
    InvalidClientTokenId,
    /// Not a call that STS could judge: another method or path, parameters missing or malformed.
    Malformed,
    /// No answer was given while the client waited.
    Hung,
    /// The connection was reset.
    Reset,
    /// `SignatureDoesNotMatch`: wrong signature, cluster id, scope or date.
    SignatureDoesNotMatch,
    /// `Throttling`.
    Throttled,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 10] = [
        Self::Answered,
        Self::Closed,
        Self::Error,
        Self::ExpiredToken,
        Self::InvalidClientTokenId,
        Self::Malformed,
        Self::Hung,
        Self::Reset,
        Self::SignatureDoesNotMatch,
        Self::Throttled,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Closed => "closed",
            Self::Error => "error",
            Self::ExpiredToken => "expired-token",
            Self::InvalidClientTokenId => "invalid-client-token-id",
            Self::Malformed => "malformed",
            Self::Hung => "hung",
            Self::Reset => "reset",
            Self::SignatureDoesNotMatch => "signature-does-not-match",
            Self::Throttled => "throttled",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Answered => 0,
            Self::Closed => 1,
            Self::Error => 2,
            Self::ExpiredToken => 3,
            Self::InvalidClientTokenId => 4,
            Self::Malformed => 5,
            Self::Hung => 6,
            Self::Reset => 7,
            Self::SignatureDoesNotMatch => 8,
            Self::Throttled => 9,
        }
    }
}

/// The counts at one instant.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Calls whose head has arrived.
    pub calls: u64,
    /// Connections whose TLS handshake is done.
    pub connections: u64,
    /// The most calls that were under way at once.
    pub peak_in_flight: u64,
    /// Calls by [`Outcome::label`]; those still under way are in none.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Calls by access key id, known or not; those that name none are in none.
    pub access_keys: BTreeMap<String, u64>,
    /// Different queries, which is to say different tokens; beyond a million no new one is counted.
    pub tokens: u64,
    /// Calls of the token that was asked about most.
    pub peak_calls_of_a_token: u64,
}

/// Counters that all connections share.
#[derive(Debug)]
pub(super) struct Counters {
    calls: AtomicU64,
    /// Tells those who wait for a number of calls.
    called: Notify,
    connections: AtomicU64,
    in_flight: AtomicU64,
    peak_in_flight: AtomicU64,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    access_keys: Mutex<HashMap<String, Arc<AtomicU64>>>,
    tokens: Mutex<Tokens>,
    /// Secret, and another one for each fake.
    seed: u64,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            calls: AtomicU64::new(0),
            called: Notify::new(),
            connections: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            peak_in_flight: AtomicU64::new(0),
            outcomes: [const { AtomicU64::new(0) }; Outcome::ALL.len()],
            access_keys: Mutex::new(HashMap::new()),
            tokens: Mutex::default(),
            seed: RandomState::new().hash_one(0_u64),
        }
    }

    pub(super) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// The count of an access key: to be counted before the call [begins](Self::begin).
    pub(super) fn of_key(&self, access_key_id: &str) -> Arc<AtomicU64> {
        let mut keys = self.access_keys.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.get(access_key_id) {
            Some(calls) => Arc::clone(calls),
            None => Arc::clone(keys.entry(access_key_id.to_owned()).or_default()),
        }
    }

    /// A call has arrived, which is over with [`leave`](Self::leave). Gives its number, from one.
    pub(super) fn begin(&self, query: &str) -> u64 {
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        let token = hash(self.seed, query.as_bytes());
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).count(token);
        // Last, so that who waits for a number of calls finds them counted everywhere.
        let number = self.calls.fetch_add(1, Ordering::AcqRel) + 1;
        self.called.notify_waiters();
        number
    }

    /// A call is over.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self, outcome: Outcome) {
        self.outcomes[outcome.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Acquire)
    }

    pub(super) async fn wait_for_calls(&self, calls: u64) {
        loop {
            // Told of every call from here on, so that none is missed between the look and the wait.
            let called = self.called.notified();
            if self.calls() >= calls {
                return;
            }
            called.await;
        }
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome.index()].load(Ordering::Relaxed)
    }

    pub(super) fn of_access_key(&self, id: &str) -> u64 {
        let keys = self.access_keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(id).map_or(0, |calls| calls.load(Ordering::Relaxed))
    }

    pub(super) fn of_token(&self, token: &str) -> u64 {
        let mut buffer = TokenBuffer::new();
        let Ok(token) = Token::decode(token.as_bytes(), &mut buffer) else { return 0 };
        let url = String::from_utf8_lossy(token.url_bytes());
        let Some((_, query)) = url.split_once('?') else { return 0 };
        let hash = hash(self.seed, query.as_bytes());
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).of(hash)
    }

    pub(super) fn snapshot(&self) -> Counts {
        let access_keys = self.access_keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, peak_calls_of_a_token) = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).sum_up();
        Counts {
            tokens,
            peak_calls_of_a_token,
            calls: self.calls(),
            connections: self.connections.load(Ordering::Relaxed),
            peak_in_flight: self.peak_in_flight.load(Ordering::Relaxed),
            outcomes: Outcome::ALL.into_iter().map(|outcome| (outcome.label(), self.of(outcome))).collect(),
            access_keys: access_keys.iter().map(|(id, calls)| (id.clone(), calls.load(Ordering::Relaxed))).collect(),
        }
    }
}

/// Calls by a hash of the query, for a token has some thousand bytes.
#[derive(Debug)]
struct Tokens {
    /// Hashes of calls that are not in a table: its place is hardly ever in a cache of the processor, and many are fetched in less time than one by one.
    recent: Vec<u64>,
    tables: Box<[Table]>,
    /// How many tokens are in the tables.
    known: usize,
}

type Table = HashMap<u64, u64, BuildHasherDefault<AsItIs>>;

impl Default for Tokens {
    fn default() -> Self {
        Self { recent: Vec::new(), tables: (0..TABLES).map(|_| Table::default()).collect(), known: 0 }
    }
}

impl Tokens {
    fn count(&mut self, token: u64) {
        self.recent.push(token);
        if self.recent.len() >= RECENT_MAX {
            self.count_recent();
        }
    }

    /// Of tokens beyond [`TOKENS_MAX`] nothing is counted.
    fn count_recent(&mut self) {
        for token in self.recent.drain(..) {
            match self.tables[Self::table_of(token)].entry(token) {
                Entry::Occupied(mut calls) => *calls.get_mut() += 1,
                Entry::Vacant(place) if self.known < TOKENS_MAX => {
                    place.insert(1);
                    self.known += 1;
                }
                Entry::Vacant(_) => {}
            }
        }
    }

    /// Calls of a token.
    fn of(&mut self, token: u64) -> u64 {
        self.count_recent();
        self.tables[Self::table_of(token)].get(&token).copied().unwrap_or(0)
    }

    /// How many there are, and the most calls of one of them.
    fn sum_up(&mut self) -> (u64, u64) {
        self.count_recent();
        let most = self.tables.iter().flat_map(HashMap::values).max();
        (u64::try_from(self.known).unwrap_or(u64::MAX), most.copied().unwrap_or(0))
    }

    /// Of the bits in the middle: the tables themselves go by those at both ends.
    const fn table_of(token: u64) -> usize {
        (token >> 32) as usize % TABLES
    }
}

/// A hash of 64 bits: words are mixed by a product of twice their length, as wyhash does it, in four lanes, for a product takes its time. Nobody here tries to
/// make two tokens collide.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(ODD);
        (product >> 64) as u64 ^ product as u64
    };
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut lanes = [1, 2, 3, 4].map(|lane| mix(seed, lane));
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane = mix(*lane, u64::from_le_bytes(*word));
        }
    }
    let (words, rest) = rest.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let last = rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    lanes.into_iter().chain(words).chain([last, ODD]).fold(bytes.len() as u64, mix)
}

/// The hasher of what is a hash already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(self.0, bytes);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_place() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), index, "{}", outcome.label());
        }
    }

    #[test]
    fn remembers_the_most_calls_at_once() {
        let counters = Counters::new();
        assert_eq!((counters.begin("a"), counters.begin("b"), counters.in_flight()), (1, 2, 2));
        counters.leave();
        counters.leave();
        counters.begin("a");
        counters.leave();
        let counts = counters.snapshot();
        assert_eq!((counts.calls, counts.peak_in_flight, counters.in_flight()), (3, 2, 0));
        assert_eq!((counts.tokens, counts.peak_calls_of_a_token), (2, 2));
    }

    #[test]
    fn counts_each_access_key_and_each_token() {
        let counters = Counters::new();
        for number in 0..3 * RECENT_MAX {
            counters.of_key(["AKIA", "ASIA"][number % 2]).fetch_add(1, Ordering::Relaxed);
            counters.begin(&format!("token {}", number % (RECENT_MAX + 1)));
        }
        let counts = counters.snapshot();
        let each = 3 * RECENT_MAX as u64 / 2;
        assert_eq!(counts.access_keys, BTreeMap::from([("AKIA".to_owned(), each), ("ASIA".to_owned(), each)]));
        assert_eq!((counts.tokens, counts.peak_calls_of_a_token), (RECENT_MAX as u64 + 1, 3));
        counters.begin("token 0");
        assert_eq!(counters.snapshot().peak_calls_of_a_token, 4);
    }

    #[test]
    fn queries_that_differ_in_a_bit_are_different_tokens() {
        let query: Vec<u8> = (0..97).collect();
        let mut seen = std::collections::HashSet::from([hash(7, &query)]);
        for length in 0..query.len() {
            assert!(seen.insert(hash(7, &query[..length])), "{length}");
            for bit in 0..8 {
                let mut other = query.clone();
                other[length] ^= 1 << bit;
                assert!(seen.insert(hash(7, &other)), "{length} {bit}");
            }
        }
    }

    #[tokio::test]
    async fn who_waits_for_calls_is_told_by_the_last_of_them() {
        let counters = Counters::new();
        let mut waiting = std::pin::pin!(counters.wait_for_calls(2));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for _ in 0..2 {
            assert!(waiting.as_mut().poll(&mut context).is_pending());
            counters.begin("a");
        }
        assert!(waiting.as_mut().poll(&mut context).is_ready());
        counters.wait_for_calls(1).await;
    }
}
