//! One scenario with several subjects, in short rounds that take turns: what disturbs the machine disturbs all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Played, Scenario, Stage, StageError};
use crate::generator::StartError;
use crate::subject::Subject;

/// What a comparison has come to.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Which scenario.
    pub scenario: String,
    /// With whom, in the order of the command line.
    pub subjects: Vec<String>,
    /// Phase by phase.
    pub phases: Vec<ComparedPhase>,
    /// All rounds of each subject, as one scenario with as many phases.
    pub played: Vec<Played>,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

/// One phase, of all subjects.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComparedPhase {
    /// Its name.
    pub name: String,
    /// Subject by subject.
    pub rows: Vec<Row>,
}

/// What a subject has done in a phase, over all rounds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Which subject.
    pub subject: String,
    /// Answers a second.
    pub rate_per_sec: Spread,
    /// How long it took in all, in milliseconds: what counts where a phase has a number of questions.
    pub elapsed_ms: Spread,
    /// Latency, in microseconds.
    pub p50_us: Spread,
    /// The same.
    pub p99_us: Spread,
    /// Rate over the first subject's of the same round.
    pub of_first: Spread,
    /// Rate over the ceiling's of the same round, where there is one.
    pub of_ceiling: Option<Spread>,
    /// Calls of STS in all rounds.
    pub sts_calls: Option<u64>,
    /// The most resident memory, in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// What was not let in, by outcome.
    pub not_allowed: BTreeMap<String, u64>,
}

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "they say what they are")]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// Of these; zeros where there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (values.first(), values.last()) else { return Self::default() };
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Self { median, least: *least, most: *most }
    }
}

/// Plays `scenario` with all `subjects` in turns, so many rounds, until `stop`. `told` is given each line of progress.
///
/// # Errors
///
/// [`StageError`]; nothing is left running.
pub async fn compare(
    scenario: &Scenario,
    subjects: &[Subject],
    rounds: u32,
    seed: u64,
    stop: impl Future<Output = ()>,
    mut told: impl FnMut(String),
) -> Result<Comparison, StageError> {
    let mut stop = std::pin::pin!(stop);
    let mut all: Vec<Vec<Played>> = subjects.iter().map(|_| Vec::new()).collect();
    let mut stopped = false;
    'rounds: for round in 0..rounds {
        for (subject, all) in subjects.iter().zip(&mut all) {
            told(format!("round {} of {rounds}: {}", round + 1, subject.name()));
            // Started anew each time: caches are cold, a herd finds its token unknown, and one fake STS at a time has the reference's port.
            let seed = seed.wrapping_add(u64::from(round));
            let mut stage = match Stage::set_unless(scenario, subject, seed, stop.as_mut()).await {
                Err(StageError::Load(StartError::Stopped)) => {
                    stopped = true;
                    break 'rounds;
                }
                set => set?,
            };
            for phase in &scenario.phases {
                stopped = stage.play(phase, stop.as_mut()).await?;
                if stopped {
                    break;
                }
            }
            all.push(stage.strike().await);
            if stopped {
                break 'rounds;
            }
        }
    }
    let phases = scenario.phases.iter().enumerate().map(|(index, phase)| compared(phase.name, index, subjects, &all)).collect();
    Ok(Comparison {
        scenario: scenario.name.into(),
        subjects: subjects.iter().map(Subject::to_string).collect(),
        phases,
        played: all.into_iter().flatten().collect(),
        stopped,
    })
}

fn compared(name: &str, index: usize, subjects: &[Subject], all: &[Vec<Played>]) -> ComparedPhase {
    // Rounds in which all have come through this phase.
    let run = |subject: usize, round: usize| {
        let run = &all.get(subject)?.get(round)?.phases.get(index)?.run;
        (!run.summary.stopped).then_some(run)
    };
    let most = all.iter().map(Vec::len).max().unwrap_or(0);
    let rounds: Vec<_> = (0..most).filter(|round| (0..all.len()).all(|subject| run(subject, *round).is_some())).collect();
    let runs = |subject: usize| rounds.iter().filter_map(move |round| run(subject, *round));
    let rates = |subject: usize| runs(subject).map(|run| run.summary.rate_per_sec).collect::<Vec<_>>();
    let ratio = |subject: usize, other: usize| Spread::of(rates(subject).iter().zip(rates(other)).map(|(mine, theirs)| mine / theirs));
    let ceiling = subjects.iter().position(|subject| *subject == Subject::Ceiling);
    let row = |(subject, which): (usize, &Subject)| {
        let mut not_allowed = BTreeMap::new();
        for (outcome, count) in runs(subject).flat_map(|run| &run.summary.outcomes) {
            if outcome != "allowed" && *count > 0 {
                *not_allowed.entry(outcome.clone()).or_default() += count;
            }
        }
        Row {
            subject: which.name().into(),
            rate_per_sec: Spread::of(rates(subject)),
            elapsed_ms: Spread::of(runs(subject).map(|run| run.summary.elapsed_secs * 1e3)),
            p50_us: Spread::of(runs(subject).map(|run| run.summary.latency.p50_us)),
            p99_us: Spread::of(runs(subject).map(|run| run.summary.latency.p99_us)),
            of_first: ratio(subject, 0),
            of_ceiling: ceiling.map(|ceiling| ratio(subject, ceiling)),
            sts_calls: runs(subject).map(|run| run.summary.sts_calls).sum(),
            peak_rss_bytes: runs(subject).filter_map(|run| run.summary.process).map(|process| process.peak_rss_bytes).max(),
            not_allowed,
        }
    };
    ComparedPhase { name: name.into(), rows: subjects.iter().enumerate().map(row).collect() }
}

impl ComparedPhase {
    /// Whether there was a round in which all came through it.
    fn has_rounds(&self) -> bool {
        self.rows.iter().any(|row| row.rate_per_sec != Spread::default())
    }
}

impl Comparison {
    /// Whether the first subject has broken a rule of the scenario in any round; of the others it is said, and no more.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let first = |played: &&Played| self.subjects.first() == Some(&played.subject);
        self.played.iter().filter(first).flat_map(|played| &played.checks).any(|check| !check.holds)
    }

    /// Whether a phase of any round is void.
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.played.iter().flat_map(|played| &played.phases).any(|phase| !phase.run.summary.void.is_empty())
    }
}

/// The table of a comparison.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (compared, others): (Vec<_>, Vec<_>) = self.phases.iter().partition(|phase| phase.has_rounds());
        if compared.is_empty() {
            self.played.iter().try_for_each(|played| played.fmt(f))?;
        }
        for phase in others {
            writeln!(f, "{}, {}: there was no round that all came through", self.scenario, phase.name)?;
        }
        for phase in compared {
            writeln!(f, "{}, {}", self.scenario, phase.name)?;
            writeln!(
                f,
                "  {:<10} {:>24} {:>20} {:>20} {:>10} {:>10} {:>9} {:>10} {:>9}",
                "", "answers/s (least–most)", "× the first", "× the ceiling", "p50 ms", "p99 ms", "in ms", "STS calls", "peak MiB"
            )?;
            for row in &phase.rows {
                let spread = |spread: &Spread| format!("{:.3} ({:.2}–{:.2})", spread.median, spread.least, spread.most);
                let rate = row.rate_per_sec;
                write!(
                    f,
                    "  {:<10} {:>24} {:>20} {:>20} {:>10.2} {:>10.2} {:>9.0} {:>10} {:>9}",
                    row.subject,
                    format!("{:.0} ({:.0}–{:.0})", rate.median, rate.least, rate.most),
                    spread(&row.of_first),
                    row.of_ceiling.as_ref().map_or_else(|| "-".into(), spread),
                    row.p50_us.median / 1e3,
                    row.p99_us.median / 1e3,
                    row.elapsed_ms.median,
                    row.sts_calls.map_or_else(|| "-".into(), |calls| calls.to_string()),
                    row.peak_rss_bytes.map_or_else(|| "-".into(), |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20))),
                )?;
                for (outcome, count) in &row.not_allowed {
                    write!(f, "  {outcome} {count}")?;
                }
                writeln!(f)?;
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for played in &self.played {
            for check in played.checks.iter().filter(|check| !check.holds && seen.insert((&played.subject, &check.rule))) {
                writeln!(f, "FAILED by {}: {}: {}", played.subject, check.rule, check.found)?;
            }
        }
        let notes = self.played.iter().flat_map(|played| {
            let own = played.notes.iter().map(move |note| (&played.subject, note));
            let phases = played.phases.iter().flat_map(move |phase| phase.run.summary.void.iter().map(move |void| (&played.subject, void)));
            own.chain(phases)
        });
        let mut seen = std::collections::BTreeSet::new();
        for (subject, note) in notes {
            if seen.insert(note) {
                writeln!(f, "note ({subject}): {note}")?;
            }
        }
        Ok(())
    }
}

/// How long a timed phase is in each round, where nobody says.
pub const ROUND: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_its_median_in_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0]), Spread { median: 2.5, least: 1.0, most: 4.0 });
        assert_eq!(Spread::of([f64::NAN]), Spread::default());
    }
}
