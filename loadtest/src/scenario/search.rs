//! The highest rate that a target keeps up with: found by halving, with an open loop for each try.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Amount, Phase, Scenario, Stage, StageError};
use crate::arrivals::Arrivals;
use crate::generator::StartError;
use crate::outcome::Outcome;
use crate::result::Run;
use crate::subject::Subject;

/// How often a try that is void is made again.
const VOID_RETRIES: u32 = 2;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The longest p99 that is good.
    pub p99_most: Duration,
    /// Rates between which it lies.
    pub rates: (f64, f64),
    /// How close the answer has to be: 0.05 for a twentieth.
    pub precision: f64,
}

/// One try.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Try {
    /// Questions a second.
    pub rate_per_sec: f64,
    /// What has come of it, in microseconds.
    pub p99_us: f64,
    /// Why it was not good; none: it was.
    pub failed: Option<String>,
}

impl Search {
    /// Tries rates with `phase` of `scenario` until the answer is close enough or `stop`; the tries in order, the answer is the highest good one.
    ///
    /// # Errors
    ///
    /// [`StageError`].
    pub async fn run(
        &self,
        scenario: &Scenario,
        phase: &Phase,
        subject: &Subject,
        seed: u64,
        stop: impl Future<Output = ()>,
        mut told: impl FnMut(&Try),
    ) -> Result<Vec<Try>, StageError> {
        let mut stop = std::pin::pin!(stop);
        let mut stage = Stage::set_unless(scenario, subject, seed, stop.as_mut()).await?;
        let mut bounds = Bounds { low: self.rates.0, high: self.rates.1, precision: self.precision };
        let mut tries = Vec::new();
        while let Some(rate) = bounds.next() {
            let phase =
                Phase { amount: Amount::Open(Arrivals::Constant { rate }), prime: phase.prime && tries.is_empty(), ..phase.clone() };
            let mut measured = stage.measure(&phase, stop.as_mut()).await;
            // It was the generator that was late, which says nothing of the target: once more, it may have been chance.
            for _ in 0..VOID_RETRIES {
                if measured.as_ref().is_ok_and(|run| !run.summary.void.is_empty()) {
                    measured = stage.measure(&phase, stop.as_mut()).await;
                }
            }
            let run = match measured {
                Err(StageError::Load(StartError::Stopped)) => break,
                measured => measured?,
            };
            if run.summary.stopped {
                break;
            }
            let failed = self.judge(&run);
            let one = Try { rate_per_sec: rate, p99_us: run.summary.latency.p99_us, failed };
            told(&one);
            bounds.tried(rate, one.failed.is_none());
            tries.push(one);
        }
        stage.strike().await;
        Ok(tries)
    }

    /// Why a run is not good.
    fn judge(&self, run: &Run) -> Option<String> {
        let summary = &run.summary;
        if let Some(void) = summary.void.first() {
            return Some(format!("void: {void}"));
        }
        let failed = summary.completed - summary.count(Outcome::Allowed);
        if failed > 0 {
            return Some(format!("{failed} of {} were not let in", summary.completed));
        }
        let most = crate::result::micros(self.p99_most);
        (summary.latency.p99_us > most).then(|| "its p99 is too long".into())
    }
}

/// Where the answer lies.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    low: f64,
    high: f64,
    precision: f64,
}

impl Bounds {
    /// The next rate to try: the geometric middle, for a rate ten times too low is as wrong as one ten times too high.
    fn next(&self) -> Option<f64> {
        (self.high > self.low * (1.0 + self.precision)).then(|| (self.low * self.high).sqrt())
    }

    const fn tried(&mut self, rate: f64, good: bool) {
        if good { self.low = rate } else { self.high = rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_comes_as_close_as_it_must() {
        let mut bounds = Bounds { low: 100.0, high: 100_000.0, precision: 0.02 };
        let mut tries = 0;
        while let Some(rate) = bounds.next() {
            bounds.tried(rate, rate <= 12_345.0);
            tries += 1;
        }
        assert!(bounds.low <= 12_345.0 && bounds.low * 1.02 >= 12_345.0 && tries < 12, "{bounds:?} after {tries}");
    }
}
