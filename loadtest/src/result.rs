//! What a run has come to, as a value that is written as JSON, printed as a table, and that reports are made from.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::run::{Finished, Second as TakenSecond};
use crate::tally::{Latencies, Tally};

/// What the JSON is; another form gets another name.
pub const SCHEMA: &str = "arngate-loadtest/v1alpha1";

/// How late questions of an open loop may be asked, 99 of 100 of them: else the run is void.
pub const LATENESS_MOST: Duration = Duration::from_millis(1);

/// Share of its processors from which on a generator may have been what held up the run.
const BUSY_SHARE: f64 = 0.95;

/// Reasons of one outcome that a table shows; all are in the JSON.
const REASONS_SHOWN: usize = 10;

/// A run: everything needed to do it again, and what came of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// [`SCHEMA`].
    pub schema: String,
    /// What was run, where and when.
    pub origin: Origin,
    /// The settings, defaults included, by flag.
    pub settings: BTreeMap<String, String>,
    /// What came of it.
    pub summary: Summary,
    /// Second by second.
    pub seconds: Vec<Second>,
}

/// What was run, where and when.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The command line.
    pub command: Vec<String>,
    /// The commit of the working directory, with `-dirty` where files were changed; none outside of git.
    pub commit: Option<String>,
    /// When it began, in seconds since 1970.
    pub at_unix_secs: i64,
    /// Model of the processor.
    pub processor: String,
    /// How many processors may be used.
    pub processors: usize,
    /// Operating system, its version and architecture.
    pub system: String,
    /// Version of this tool.
    pub version: String,
    /// Whether this tool was built with optimisation; figures of a debug build are none.
    pub optimised: bool,
}

impl Origin {
    /// Of this process, begun at `at_unix_secs`.
    #[must_use]
    pub fn here(at_unix_secs: i64) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo");
        let processor =
            processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name.to_owned());
        let release = read("/proc/sys/kernel/osrelease");
        Self {
            command: std::env::args().collect(),
            commit: commit(),
            at_unix_secs,
            processor: processor.unwrap_or_else(|| "unknown".into()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {} {}", std::env::consts::OS, release.trim(), std::env::consts::ARCH),
            version: env!("CARGO_PKG_VERSION").into(),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// The commit of the working directory, as git tells it.
fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|commit| !commit.is_empty())
}

/// What came of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// From the end of the warm-up to the last answer.
    pub elapsed_secs: f64,
    /// Questions that ended, however.
    pub completed: u64,
    /// These in a second.
    pub rate_per_sec: f64,
    /// How many ended so; all outcomes are there.
    pub outcomes: BTreeMap<String, u64>,
    /// Why.
    pub reasons: Vec<Reason>,
    /// Latencies of all.
    pub latency: Latency,
    /// Latencies by outcome, of those that there were.
    pub latency_by_outcome: BTreeMap<String, Latency>,
    /// How much later than due questions were asked; only of an open loop.
    pub lateness: Option<Latency>,
    /// Due, and never asked.
    pub unsent: u64,
    /// Asked, and not waited for, for the run was stopped.
    pub unanswered: u64,
    /// What the generator itself has cost.
    pub generator: Generator,
    /// Calls that the fake STS has counted after the warm-up.
    pub sts_calls: Option<u64>,
    /// The target as its process was seen.
    pub process: Option<Process>,
    /// Whether somebody stopped it before its end.
    pub stopped: bool,
    /// Why these figures are none; empty if they are some.
    pub void: Vec<String>,
    /// What to keep in mind.
    pub notes: Vec<String>,
    /// Thresholds that were crossed.
    pub crossed: Vec<String>,
}

/// A reason and how often it was told.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// [`Outcome::label`].
    pub outcome: String,
    /// In the target's words, shortened.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// What the generator has cost.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Generator {
    /// Share of the time in which its threads ran, from 0 to 1.
    pub busy_share: f64,
    /// Processor time for each question, in microseconds, signing included.
    pub cpu_us_per_question: f64,
    /// Tokens that were signed or made up during the run or ahead of it, repeated ones not counted.
    pub tokens_made: u64,
    /// What each of them has cost, in microseconds.
    pub us_per_token: f64,
}

/// A process as /proc tells it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// The most resident memory of its life, in bytes (VmHWM).
    pub peak_rss_bytes: u64,
    /// Processor time in the counted part of the run, in seconds.
    pub cpu_secs: f64,
}

/// A latency histogram in figures, all in microseconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "they say what they are")]
pub struct Latency {
    pub count: u64,
    pub min_us: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p95_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    /// Points of latency by percentile: percent, microseconds.
    pub curve: Vec<(f64, f64)>,
}

impl Latency {
    /// The figures of a histogram.
    #[must_use]
    pub fn of(latencies: &Latencies) -> Self {
        let at = |percent| micros(latencies.percentile(percent));
        Self {
            count: latencies.count(),
            min_us: micros(latencies.min()),
            mean_us: micros(latencies.mean()),
            p50_us: at(50.0),
            p90_us: at(90.0),
            p95_us: at(95.0),
            p99_us: at(99.0),
            p999_us: at(99.9),
            max_us: micros(latencies.max()),
            curve: latencies.curve().into_iter().map(|(percent, latency)| (percent, micros(latency))).collect(),
        }
    }
}

/// One second of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Second {
    /// When it ended, from the end of the warm-up.
    pub at_secs: f64,
    /// How long it was: a second, but for the last one.
    pub lasted_secs: f64,
    /// Questions that ended in it, in a second.
    pub rate_per_sec: f64,
    /// Latency, in microseconds.
    pub p50_us: f64,
    /// The same.
    pub p99_us: f64,
    /// How many ended so, of those that there were.
    pub outcomes: BTreeMap<String, u64>,
    /// Calls of the fake STS in it.
    pub sts_calls: Option<u64>,
    /// Resident memory of the target at its end, in bytes.
    pub rss_bytes: Option<u64>,
    /// Processors that the target has kept busy in it.
    pub cpus: Option<f64>,
}

fn seconds(finished: &Finished) -> Vec<Second> {
    let mut before = finished.seen_first;
    let second = |taken: &TakenSecond| {
        let seen = std::mem::replace(&mut before, taken.seen);
        let lasted = taken.lasted.as_secs_f64().max(1e-9);
        let counts = || Outcome::ALL.into_iter().zip(taken.outcomes).filter(|(_, count)| *count > 0);
        Second {
            at_secs: taken.at.as_secs_f64(),
            lasted_secs: lasted,
            rate_per_sec: counts().map(|(_, count)| count).sum::<u64>() as f64 / lasted,
            p50_us: micros(taken.p50),
            p99_us: micros(taken.p99),
            outcomes: counts().map(|(outcome, count)| (outcome.label().to_owned(), count)).collect(),
            sts_calls: taken.seen.sts_calls.zip(seen.sts_calls).map(|(now, before)| now.saturating_sub(before)),
            rss_bytes: taken.seen.rss_bytes,
            cpus: taken.seen.cpu.zip(seen.cpu).map(|(now, before)| now.saturating_sub(before).as_secs_f64() / lasted),
        }
    };
    finished.seconds.iter().map(second).collect()
}

impl Run {
    /// Puts together what a run has come to; `peak_rss_bytes` is the target's, where it is a process of ours.
    #[must_use]
    pub fn new(
        origin: Origin,
        settings: BTreeMap<String, String>,
        finished: &Finished,
        lateness_most: Duration,
        peak_rss_bytes: Option<u64>,
    ) -> Self {
        let tally = &finished.tally;
        let completed = tally.total();
        let elapsed = finished.elapsed.as_secs_f64();
        let busy_share = finished.generator_cpu.as_secs_f64() / finished.generator_elapsed.as_secs_f64().max(1e-9);
        // The last that was told: a target may have ended, or been too busy to tell.
        let cpu = finished.seen_last(|seen| seen.cpu).zip(finished.seen_first.cpu);
        let cpu = cpu.map(|(last, first)| last.saturating_sub(first).as_secs_f64());
        let mut summary = Summary {
            elapsed_secs: elapsed,
            completed,
            rate_per_sec: completed as f64 / elapsed.max(1e-9),
            outcomes: Outcome::ALL.into_iter().map(|outcome| (outcome.label().to_owned(), tally.count(outcome))).collect(),
            reasons: reasons(tally),
            latency: Latency::of(&tally.latencies()),
            latency_by_outcome: Outcome::ALL
                .into_iter()
                .filter_map(|outcome| Some((outcome.label().to_owned(), Latency::of(tally.latencies_of(outcome)?))))
                .collect(),
            lateness: tally.lateness().map(Latency::of),
            unsent: tally.unsent,
            unanswered: finished.unanswered,
            generator: Generator {
                busy_share,
                cpu_us_per_question: micros(finished.generator_cpu) / (completed.max(1) as f64),
                tokens_made: tally.making.questions,
                us_per_token: micros(tally.making.time) / (tally.making.questions.max(1) as f64),
            },
            sts_calls: finished
                .seen_last(|seen| seen.sts_calls)
                .zip(finished.seen_first.sts_calls)
                .map(|(last, first)| last.saturating_sub(first)),
            process: peak_rss_bytes.zip(cpu).map(|(peak_rss_bytes, cpu_secs)| Process { peak_rss_bytes, cpu_secs }),
            stopped: finished.stopped,
            void: Vec::new(),
            notes: Vec::new(),
            crossed: Vec::new(),
        };
        summary.judge(lateness_most, origin.optimised);
        Self { schema: SCHEMA.into(), origin, settings, summary, seconds: seconds(finished) }
    }
}

/// Why, by outcome, the most frequent first.
fn reasons(tally: &Tally) -> Vec<Reason> {
    let told = |(outcome, reason, count): (Outcome, &str, u64)| Reason { outcome: outcome.label().into(), reason: reason.into(), count };
    let mut reasons: Vec<_> = tally.reasons().map(told).collect();
    reasons.sort_by(|one, other| one.outcome.cmp(&other.outcome).then(other.count.cmp(&one.count)));
    reasons
}

impl Summary {
    /// How many ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome.label()).copied().unwrap_or(0)
    }

    fn judge(&mut self, lateness_most: Duration, optimised: bool) {
        if let Some(lateness) = self.lateness.as_ref().filter(|lateness| lateness.p99_us > micros(lateness_most)) {
            self.void.push(format!(
                "the generator was late: one question in a hundred was asked {} or more after it was due, where {} is the most; \
                 give it more threads or processors, or ask for less",
                Micros(lateness.p99_us),
                Micros(micros(lateness_most)),
            ));
        }
        if self.unsent > 0 {
            self.void
                .push(format!("{} questions were due and not asked, for too many were without an answer (--max-in-flight)", self.unsent));
        }
        if self.completed == 0 && !self.stopped {
            self.void.push("nothing was answered".into());
        }
        if self.lateness.is_none() && self.generator.busy_share > BUSY_SHARE {
            self.notes.push(format!(
                "the generator was busy for {:.0} % of the time: the target may be able to do more",
                self.generator.busy_share * 100.0
            ));
        }
        if !optimised {
            self.notes.push("this is a debug build: its figures say nothing".into());
        }
        if self.stopped {
            self.notes.push("stopped before its end".into());
        }
    }
}

/// The table of a run.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = &self.summary;
        for reason in &summary.void {
            writeln!(f, "VOID: {reason}")?;
        }
        let row = |f: &mut fmt::Formatter<'_>, name: &str, value: fmt::Arguments<'_>| writeln!(f, "{name:<15}  {value}");
        row(f, "answered", format_args!("{} in {:.2} s, {:.0}/s", summary.completed, summary.elapsed_secs, summary.rate_per_sec))?;
        for outcome in Outcome::ALL {
            let count = summary.count(outcome);
            if count > 0 {
                let share = count as f64 * 100.0 / summary.completed as f64;
                row(f, outcome.label(), format_args!("{count} ({share:.2} %)"))?;
            }
            let mut reasons = summary.reasons.iter().filter(|reason| reason.outcome == outcome.label());
            for Reason { reason, count, .. } in reasons.by_ref().take(REASONS_SHOWN) {
                row(f, "", format_args!("  {count} × {reason}"))?;
            }
            let (others, count) = reasons.fold((0, 0), |(others, count), reason| (others + 1, count + reason.count));
            if others > 0 {
                row(f, "", format_args!("  {count} × {others} other reasons"))?;
            }
        }
        row(f, "latency", format_args!("{}", Figures(&summary.latency)))?;
        if summary.latency_by_outcome.len() > 1 {
            for (outcome, latency) in &summary.latency_by_outcome {
                row(f, &format!("  {outcome}"), format_args!("{}", Figures(latency)))?;
            }
        }
        if let Some(lateness) = &summary.lateness {
            row(f, "asked late by", format_args!("{}", Figures(lateness)))?;
        }
        if summary.unsent > 0 {
            row(f, "unsent", format_args!("{}", summary.unsent))?;
        }
        if summary.unanswered > 0 {
            row(f, "unanswered", format_args!("{} at the stop", summary.unanswered))?;
        }
        let Generator { busy_share, cpu_us_per_question, tokens_made, us_per_token } = summary.generator;
        row(f, "generator", format_args!("busy {:.0} %, {cpu_us_per_question:.1} µs a question", busy_share * 100.0))?;
        if tokens_made > 0 {
            row(f, "tokens made", format_args!("{tokens_made}, {us_per_token:.1} µs each"))?;
        }
        if let Some(calls) = summary.sts_calls {
            row(f, "STS calls", format_args!("{calls}"))?;
        }
        if let Some(Process { peak_rss_bytes, cpu_secs }) = summary.process {
            let mib = peak_rss_bytes as f64 / f64::from(1 << 20);
            row(f, "target", format_args!("{mib:.1} MiB at most, {cpu_secs:.2} s of processor time"))?;
        }
        for note in &summary.notes {
            row(f, "note", format_args!("{note}"))?;
        }
        for crossed in &summary.crossed {
            row(f, "FAILED", format_args!("{crossed}"))?;
        }
        Ok(())
    }
}

struct Figures<'a>(&'a Latency);

impl fmt::Display for Figures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { p50_us, p90_us, p99_us, p999_us, max_us, .. } = self.0;
        let [p50, p90, p99, p999, max] = [p50_us, p90_us, p99_us, p999_us, max_us].map(|micros| Micros(*micros));
        write!(f, "p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, most {max}")
    }
}

/// Microseconds, shown in the unit that fits.
#[derive(Clone, Copy, Debug)]
pub struct Micros(pub f64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            micros if micros < 1e3 => write!(f, "{micros:.0} µs"),
            micros if micros < 1e6 => write!(f, "{:.2} ms", micros / 1e3),
            micros => write!(f, "{:.2} s", micros / 1e6),
        }
    }
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
