//! Self-contained runs: fake STS, certificates, mappings and target are started, load is put on in phases, and all of it is ended again.
//!
//! A [`Scenario`] is a value: a stage, phases of load with events in them, and rules by which they are judged. What each does is written in
//! [`catalogue`] and nowhere else.

pub mod catalogue;
pub mod compare;
mod rule;
pub mod search;
mod stage;

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::rule::{Check, Rule};
pub use self::stage::{Stage, StageError};
use crate::arrivals::Arrivals;
use crate::generator::Limit;
use crate::mix::Mix;
use crate::population::Shape;
use crate::result::{Micros, Origin, Run};
use crate::sts::Behaviour;
use crate::target::Http;

/// What happens, to whom, and what must come of it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub about: &'static str,
    /// What is there before it begins.
    pub scenery: Scenery,
    /// What load is put on, one after the other.
    pub phases: Vec<Phase>,
    /// What must hold at the end.
    pub rules: Vec<Rule>,
}

/// What is there before a scenario begins.
#[derive(Clone, Debug)]
pub struct Scenery {
    /// Kind of identities.
    pub shape: Shape,
    /// How many.
    pub identities: u32,
    /// How many mappings.
    pub mappings: u32,
    /// Whether tokens are proved by a bundle, without STS.
    pub offline: bool,
    /// How long STS takes for each call.
    pub sts_delay: Duration,
    /// Memory that the target may use, in bytes, without swap; none: as much as there is.
    pub memory_limit: Option<u64>,
    /// Worker threads of the target.
    pub threads: u32,
    /// Further lines of the target's configuration under `server:`.
    pub settings: String,
}

/// Load for a while.
#[derive(Clone, Debug)]
pub struct Phase {
    /// What it is called in the table.
    pub name: &'static str,
    /// How much.
    pub amount: Amount,
    /// Over which HTTP.
    pub http: Http,
    /// Over how many connections.
    pub connections: u32,
    /// Whether it is an error if one of these cannot be made at the begin.
    pub must_connect: bool,
    /// What kinds of tokens.
    pub mix: Mix,
    /// How many repeated tokens there are.
    pub tokens: usize,
    /// Whether each of these is asked about once before.
    pub prime: bool,
    /// How long load is put on before it counts.
    pub warm_up: Duration,
    /// When it ends.
    pub limit: Limit,
    /// What happens meanwhile, and when, from the begin of the warm-up.
    pub events: Vec<(Duration, Event)>,
}

/// How much load.
#[derive(Clone, Debug, PartialEq)]
pub enum Amount {
    /// So many questions in flight.
    InFlight(u32),
    /// Questions when they are due.
    Open(Arrivals),
    /// Evenly, at such a share of the rate that the phase before has come to.
    ShareOfBefore(f64),
}

/// What happens while load is put on.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Certificate and key are written anew: it has acted when a new connection is given the new one.
    RenewCertificate,
    /// The configuration is written anew, with one mapping more: it has acted when whom that is about is let in.
    RewriteConfig,
    /// STS does so with every so-manieth call from now on.
    Sts(Behaviour, NonZeroU64),
    /// STS takes so long for each call from now on.
    StsDelay(Duration),
    /// The target is told to end (SIGTERM).
    Terminate,
}

/// What a scenario has come to with one subject.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Played {
    /// [`SCHEMA`](crate::result::SCHEMA).
    pub schema: String,
    /// Which scenario.
    pub scenario: String,
    /// With whom, as on the command line.
    pub subject: String,
    /// What was run, where and when.
    pub origin: Origin,
    /// From the start of its process until it spoke TLS, in milliseconds.
    pub started_in_ms: f64,
    /// Its phases.
    pub phases: Vec<PlayedPhase>,
    /// What its control group says; none where there was none.
    pub memory: Option<PlayedMemory>,
    /// Where it was told to end: the exit code with which it has.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// What was written anew, and when that acted.
    #[serde(default)]
    pub reloads: Vec<PlayedReload>,
    /// Whether the rules held.
    pub checks: Vec<Check>,
    /// Its own metrics at the end, of those that are its own (`arngate_`).
    pub metrics: Vec<String>,
    /// What to keep in mind.
    pub notes: Vec<String>,
}

/// A phase and what has come of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlayedPhase {
    /// Its name.
    pub name: String,
    /// What has come of it.
    pub run: Run,
}

/// A file that was written anew while load was put on.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlayedReload {
    /// Which.
    pub what: String,
    /// How long after that it acted, in milliseconds; none: not within three seconds, nor before the end.
    pub acted_after_ms: Option<f64>,
}

/// What a control group says of memory.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlayedMemory {
    /// The limit, in bytes.
    pub limit_bytes: u64,
    /// The most that was in use, in bytes: of the process and of the kernel for it, caches of files included.
    pub peak_bytes: Option<u64>,
    /// Processes that were killed for want of memory.
    pub oom_kills: Option<u64>,
}

impl Played {
    /// Whether a rule was broken, or a phase is void.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.checks.iter().any(|check| !check.holds) || self.phases.iter().any(|phase| !phase.run.summary.void.is_empty())
    }
}

/// The table of a scenario.
impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} of {}, which spoke TLS after {:.0} ms", self.scenario, self.subject, self.started_in_ms)?;
        writeln!(
            f,
            "{:<16} {:>9} {:>9} {:>9} {:>9} {:>10} {:>9}  outcomes",
            "phase", "answers/s", "p50", "p99", "most", "STS calls", "peak MiB"
        )?;
        for PlayedPhase { name, run } in &self.phases {
            let summary = &run.summary;
            let shown = |micros: f64| Micros(micros).to_string();
            let calls = summary.sts_calls.map_or_else(|| "-".into(), |calls| calls.to_string());
            let peak =
                summary.process.map_or_else(|| "-".into(), |process| format!("{:.1}", process.peak_rss_bytes as f64 / f64::from(1 << 20)));
            write!(
                f,
                "{name:<16} {:>9.0} {:>9} {:>9} {:>9} {calls:>10} {peak:>9} ",
                summary.rate_per_sec,
                shown(summary.latency.p50_us),
                shown(summary.latency.p99_us),
                shown(summary.latency.max_us),
            )?;
            for (outcome, count) in summary.outcomes.iter().filter(|(_, count)| **count > 0) {
                write!(f, " {outcome} {count}")?;
            }
            writeln!(f)?;
            for void in &summary.void {
                writeln!(f, "{:<16} VOID: {void}", "")?;
            }
            for note in &summary.notes {
                writeln!(f, "{:<16} note: {note}", "")?;
            }
            let mut reasons = summary.reasons.iter();
            for reason in reasons.by_ref().take(4) {
                writeln!(f, "{:<16} {} × {}: {}", "", reason.count, reason.outcome, reason.reason)?;
            }
            if reasons.len() > 0 {
                writeln!(f, "{:<16} {} × {} other reasons", "", reasons.clone().map(|reason| reason.count).sum::<u64>(), reasons.len())?;
            }
        }
        if let Some(memory) = self.memory {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            write!(f, "control group of {:.0} MiB: ", mib(memory.limit_bytes))?;
            match (memory.peak_bytes, memory.oom_kills) {
                (peak, Some(kills)) => {
                    writeln!(f, "{:.1} MiB at most (with the kernel's and files'), {kills} killed", mib(peak.unwrap_or_default()))?;
                }
                (peak, None) => writeln!(f, "{:.1} MiB at most; how many were killed is not told here", mib(peak.unwrap_or_default()))?,
            }
        }
        for line in self.metrics.iter().filter(|line| line.contains("cache") || line.contains("flights") || line.contains("waiters")) {
            writeln!(f, "  {line}")?;
        }
        for check in &self.checks {
            writeln!(f, "{} {}: {}", if check.holds { "ok    " } else { "FAILED" }, check.rule, check.found)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
