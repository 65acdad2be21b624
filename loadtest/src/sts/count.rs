//! What happened: by outcome, by access key and by token.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use arngate_core::{Token, TokenBuffer};
use serde::Serialize;
use tokio::sync::watch;

/// Tokens that are counted apart: 16 bytes each.
const TOKENS_MAX: usize = 1_000_000;

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
    calls: watch::Sender<u64>,
    connections: AtomicU64,
    in_flight: AtomicU64,
    peak_in_flight: AtomicU64,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    access_keys: Mutex<HashMap<String, u64>>,
    /// By a hash of the query, for a token has some thousand bytes.
    tokens: Mutex<HashMap<u64, u64>>,
    hasher: RandomState,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            calls: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            peak_in_flight: AtomicU64::new(0),
            outcomes: [const { AtomicU64::new(0) }; Outcome::ALL.len()],
            access_keys: Mutex::new(HashMap::new()),
            tokens: Mutex::new(HashMap::new()),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has arrived. It ends when the returned value is dropped. Gives the call's number, from one.
    pub(super) fn begin(&self, access_key_id: Option<&str>, query: &str) -> (u64, InFlight<'_>) {
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        if let Some(id) = access_key_id {
            let mut keys = self.access_keys.lock().unwrap_or_else(PoisonError::into_inner);
            match keys.get_mut(id) {
                Some(calls) => *calls += 1,
                None => drop(keys.insert(id.to_owned(), 1)),
            }
        }
        let token = self.hasher.hash_one(query);
        {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            let has_room = tokens.len() < TOKENS_MAX;
            match tokens.entry(token) {
                Entry::Occupied(mut calls) => *calls.get_mut() += 1,
                Entry::Vacant(place) if has_room => drop(place.insert(1)),
                Entry::Vacant(_) => {}
            }
        }
        let mut number = 0;
        // Last, so that who waits for a number of calls finds them counted everywhere.
        self.calls.send_modify(|calls| {
            *calls += 1;
            number = *calls;
        });
        (number, InFlight(self))
    }

    pub(super) fn end(&self, outcome: Outcome) {
        self.outcomes[outcome.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn calls(&self) -> u64 {
        *self.calls.borrow()
    }

    pub(super) async fn wait_for_calls(&self, calls: u64) {
        // The sender lives as long as we do, so that waiting cannot fail.
        let _ = self.calls.subscribe().wait_for(|counted| *counted >= calls).await;
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome.index()].load(Ordering::Relaxed)
    }

    pub(super) fn of_access_key(&self, id: &str) -> u64 {
        self.access_keys.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied().unwrap_or(0)
    }

    pub(super) fn of_token(&self, token: &str) -> u64 {
        let mut buffer = TokenBuffer::new();
        let Ok(token) = Token::decode(token.as_bytes(), &mut buffer) else { return 0 };
        let url = String::from_utf8_lossy(token.url_bytes());
        let Some((_, query)) = url.split_once('?') else { return 0 };
        let hash = self.hasher.hash_one(query);
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).copied().unwrap_or(0)
    }

    pub(super) fn snapshot(&self) -> Counts {
        let access_keys = self.access_keys.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        Counts {
            tokens: u64::try_from(tokens.len()).unwrap_or(u64::MAX),
            peak_calls_of_a_token: tokens.values().copied().max().unwrap_or(0),
            calls: self.calls(),
            connections: self.connections.load(Ordering::Relaxed),
            peak_in_flight: self.peak_in_flight.load(Ordering::Relaxed),
            outcomes: Outcome::ALL.into_iter().map(|outcome| (outcome.label(), self.of(outcome))).collect(),
            access_keys: access_keys.iter().map(|(id, calls)| (id.clone(), *calls)).collect(),
        }
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct InFlight<'a>(&'a Counters);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
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
        let first = counters.begin(Some("AKIA"), "a");
        let second = counters.begin(None, "b");
        assert_eq!((first.0, second.0, counters.in_flight()), (1, 2, 2));
        drop(first);
        drop(second);
        drop(counters.begin(Some("AKIA"), "a"));
        let counts = counters.snapshot();
        assert_eq!((counts.calls, counts.peak_in_flight, counters.in_flight()), (3, 2, 0));
        assert_eq!((counts.tokens, counts.peak_calls_of_a_token), (2, 2));
        assert_eq!(counts.access_keys, BTreeMap::from([("AKIA".to_owned(), 2)]));
    }
}
