//! What was counted: outcomes, their reasons, and latencies as HDR histograms, one for each outcome.
//!
//! A generator thread counts into a [`Tally`] of its own; tallies are merged afterwards, which loses nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::outcome::{Judgement, Outcome};

/// Reasons that are told apart; a target may have a new one for each answer.
const REASONS_MAX: usize = 64;

/// What reasons beyond [`REASONS_MAX`] are counted as.
const OTHER_REASON: &str = "(other reasons)";

/// Longest latency that is told apart, in nanoseconds: ten minutes. Longer ones count as this.
const LATENCY_MOST_NS: u64 = 600_000_000_000;

/// A histogram of latencies in nanoseconds: three digits, from 1 ns to ten minutes, 250 kB however many are recorded.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// Nothing recorded.
    #[must_use]
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LATENCY_MOST_NS, 3).expect("the bounds are in order and three digits are few"))
    }

    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).clamp(1, LATENCY_MOST_NS));
    }

    /// Counts all of another.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all of ours have the same bounds");
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// What so much of a hundred stays below; zero where nothing was counted.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_percentile(percent))
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// The shortest; zero where nothing was counted.
    #[must_use]
    pub fn min(&self) -> Duration {
        Duration::from_nanos(if self.0.is_empty() { 0 } else { self.0.min() })
    }

    /// The arithmetic mean.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean() / 1e9)
    }

    /// Points of the curve of latency by percentile: percent, and what so much of a hundred stays below; the closer to 100 the denser.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, Duration)> {
        // Ten points until the rest is halved.
        let mut points: Vec<_> = self
            .0
            .iter_quantiles(10)
            .map(|step| (step.quantile_iterated_to() * 100.0, Duration::from_nanos(step.value_iterated_to())))
            .collect();
        points.dedup_by_key(|point| point.1);
        points
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts of one thread, or of all.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    latencies: [Option<Box<Latencies>>; Outcome::ALL.len()],
    reasons: BTreeMap<(Outcome, String), u64>,
    lateness: Option<Box<Latencies>>,
    /// Questions that were due and never asked, because too many others were without an answer, or because the run ended.
    pub unsent: u64,
    /// What making questions has cost, where they are made on the fly.
    pub making: Making,
}

/// What making questions has cost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Making {
    /// How many were made.
    pub questions: u64,
    /// How long that took in all.
    pub time: Duration,
}

impl Tally {
    /// Counts an answer, or what came instead of it.
    pub fn record(&mut self, judgement: Judgement, latency: Duration) {
        self.latencies[judgement.outcome.index()].get_or_insert_default().record(latency);
        if let Some(reason) = judgement.reason {
            self.count_reason(judgement.outcome, reason, 1);
        }
    }

    /// Counts how much later than due a question was asked.
    pub fn record_lateness(&mut self, lateness: Duration) {
        self.lateness.get_or_insert_default().record(lateness);
    }

    /// Adds all of another.
    pub fn add(&mut self, other: Self) {
        for (mine, theirs) in self.latencies.iter_mut().zip(other.latencies) {
            merge(mine, theirs);
        }
        merge(&mut self.lateness, other.lateness);
        for ((outcome, reason), count) in other.reasons {
            self.count_reason(outcome, reason, count);
        }
        self.unsent += other.unsent;
        self.making.questions += other.making.questions;
        self.making.time += other.making.time;
    }

    /// How many ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.latencies_of(outcome).map_or(0, Latencies::count)
    }

    /// How many ended at all.
    #[must_use]
    pub fn total(&self) -> u64 {
        Outcome::ALL.into_iter().map(|outcome| self.count(outcome)).sum()
    }

    /// The latencies of what ended so.
    #[must_use]
    pub fn latencies_of(&self, outcome: Outcome) -> Option<&Latencies> {
        self.latencies[outcome.index()].as_deref()
    }

    /// The latencies of all.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        let mut all = Latencies::new();
        self.latencies.iter().flatten().for_each(|latencies| all.add(latencies));
        all
    }

    /// How much later than due questions were asked; nothing in a closed loop, where none is due.
    #[must_use]
    pub fn lateness(&self) -> Option<&Latencies> {
        self.lateness.as_deref()
    }

    /// Reasons with their counts, by outcome.
    pub fn reasons(&self) -> impl Iterator<Item = (Outcome, &str, u64)> {
        self.reasons.iter().map(|((outcome, reason), count)| (*outcome, reason.as_str(), *count))
    }

    fn count_reason(&mut self, outcome: Outcome, reason: String, count: u64) {
        let is_new = !self.reasons.contains_key(&(outcome, reason.clone()));
        let reason = if is_new && self.reasons.len() >= REASONS_MAX { OTHER_REASON.into() } else { reason };
        *self.reasons.entry((outcome, reason)).or_default() += count;
    }
}

fn merge(mine: &mut Option<Box<Latencies>>, theirs: Option<Box<Latencies>>) {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => mine.add(&theirs),
        (mine @ None, theirs) => *mine = theirs,
        (Some(_), None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(reason: &str) -> Judgement {
        Judgement::because(Outcome::Denied, reason)
    }

    #[test]
    fn merged_tallies_are_as_one_that_counted_all() {
        let (mut one, mut two, mut whole) = (Tally::default(), Tally::default(), Tally::default());
        for millis in 1..=1000 {
            let part = if millis % 3 == 0 { &mut one } else { &mut two };
            for tally in [part, &mut whole] {
                tally.record(denied("no"), Duration::from_millis(millis));
            }
        }
        one.add(two);
        assert_eq!((one.total(), one.count(Outcome::Denied), one.count(Outcome::Allowed)), (1000, 1000, 0));
        for percent in [1.0, 50.0, 99.0, 100.0] {
            assert_eq!(one.latencies().percentile(percent), whole.latencies().percentile(percent));
        }
        assert_eq!(one.reasons().collect::<Vec<_>>(), [(Outcome::Denied, "no", 1000)]);
    }

    #[test]
    fn keeps_three_digits() {
        let mut latencies = Latencies::new();
        for nanos in [1, 999, 123_456, 12_345_678, 599_000_000_000] {
            latencies.record(Duration::from_nanos(nanos));
            let told = latencies.max().as_secs_f64() * 1e9;
            assert!((told / nanos as f64 - 1.0).abs() < 0.001, "{nanos}: {told}");
        }
        latencies.record(Duration::MAX);
        assert_eq!(latencies.count(), 6);
    }

    #[test]
    fn keeps_a_bounded_number_of_reasons() {
        let mut tally = Tally::default();
        for number in 0..1000 {
            tally.record(denied(&number.to_string()), Duration::ZERO);
        }
        assert!(tally.reasons().count() <= REASONS_MAX + 1);
        assert_eq!(tally.reasons().map(|(.., count)| count).sum::<u64>(), 1000);
    }
}
