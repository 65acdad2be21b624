//! What must hold at the end of a scenario.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Played;
use crate::outcome::Outcome;
use crate::result::{Micros, Run, Second};

/// What must hold at the end of a scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Of this outcome there are at least so many in that phase.
    AtLeast(&'static str, Outcome, u64),
    /// Of this outcome there are at most so many in that phase.
    AtMost(&'static str, Outcome, u64),
    /// No answer of any phase tells a wrong identity.
    NoWrongIdentity,
    /// Nobody was killed for want of memory.
    NoOomKill,
    /// The p99 of those who are let in is in the second phase at most so many times that of the first.
    P99Within(&'static str, &'static str, f64),
    /// The process never had more resident memory than so many bytes.
    PeakAtMost(u64),
    /// The first phase has at least such a share of the rate of the second.
    RateShare(&'static str, &'static str, f64),
    /// The last so many seconds of that phase have at least such a share of the rate of its first.
    Steady(&'static str, Duration, f64),
    /// STS was asked exactly so often in that phase.
    StsCalls(&'static str, u64),
}

/// A rule, and whether it held.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was to hold.
    pub rule: String,
    /// What was found.
    pub found: String,
    /// Whether it holds.
    pub holds: bool,
}

impl Rule {
    /// Whether it held; none where it says nothing, for what it is about was not there.
    #[must_use]
    pub fn check(&self, played: &Played) -> Option<Check> {
        let phase = |name: &str| played.phases.iter().find(|phase| phase.name == name).map(|phase| &phase.run);
        let check = |rule: String, found: String, holds| Some(Check { rule, found, holds });
        match *self {
            Self::AtLeast(name, outcome, least) => {
                let count = phase(name)?.summary.count(outcome);
                check(format!("{} in {name} ≥ {least}", outcome.label()), count.to_string(), count >= least)
            }
            Self::AtMost(name, outcome, most) => {
                let count = phase(name)?.summary.count(outcome);
                check(format!("{} in {name} ≤ {most}", outcome.label()), count.to_string(), count <= most)
            }
            Self::NoWrongIdentity => {
                let count: u64 = played.phases.iter().map(|phase| phase.run.summary.count(Outcome::WrongIdentity)).sum();
                check("no wrong identity".into(), count.to_string(), count == 0)
            }
            Self::NoOomKill => {
                let kills = played.memory?.oom_kills?;
                check("nobody killed for want of memory".into(), kills.to_string(), kills == 0)
            }
            Self::P99Within(first, second, factor) => {
                let p99 = |run: &Run| Some(run.summary.latency_by_outcome.get(Outcome::Allowed.label())?.p99_us);
                let (before, after) = (p99(phase(first)?)?, p99(phase(second)?)?);
                let found = format!("{} after {}", Micros(after), Micros(before));
                check(format!("p99 of those let in during {second} ≤ {factor} × that during {first}"), found, after <= before * factor)
            }
            Self::PeakAtMost(bytes) => {
                let peak =
                    played.phases.iter().filter_map(|phase| phase.run.summary.process).map(|process| process.peak_rss_bytes).max()?;
                let mib = |bytes: u64| format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20));
                check(format!("VmHWM ≤ {}", mib(bytes)), mib(peak), peak <= bytes)
            }
            Self::RateShare(first, second, share) => {
                let rate = |name| Some(phase(name)?.summary.rate_per_sec);
                let (mine, whole) = (rate(first)?, rate(second)?);
                let found = format!("{mine:.0}/s of {whole:.0}/s, {:.2}", mine / whole);
                check(format!("rate of {first} ≥ {share} × that of {second}"), found, mine >= whole * share)
            }
            Self::Steady(name, span, share) => {
                let (first, last) = ends(&phase(name)?.seconds, span)?;
                let rule = format!("rate of the last {} s of {name} ≥ {share} × that of its first", span.as_secs());
                check(rule, format!("{last:.0}/s after {first:.0}/s, {:.2}", last / first), last >= first * share)
            }
            Self::StsCalls(name, calls) => {
                let found = phase(name)?.summary.sts_calls?;
                check(format!("STS calls in {name} = {calls}"), found.to_string(), found == calls)
            }
        }
    }
}

/// Mean rates of the first and of the last `span`.
fn ends(seconds: &[Second], span: Duration) -> Option<(f64, f64)> {
    let end = seconds.last()?.at_secs;
    let mean = |within: &dyn Fn(f64) -> bool| {
        let (answers, lasted) = seconds.iter().filter(|second| within(second.at_secs)).fold((0.0, 0.0), |(answers, lasted), second| {
            (answers + second.rate_per_sec * second.lasted_secs, lasted + second.lasted_secs)
        });
        (lasted > 0.0).then(|| answers / lasted)
    };
    // A tick may come some milliseconds late.
    let first = mean(&|at| at <= span.as_secs_f64() + 0.5)?;
    Some((first, mean(&|at| at > end - span.as_secs_f64() + 0.5)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at_secs: f64, rate_per_sec: f64) -> Second {
        Second {
            at_secs,
            lasted_secs: 1.0,
            rate_per_sec,
            p50_us: 0.0,
            p99_us: 0.0,
            outcomes: Default::default(),
            sts_calls: None,
            rss_bytes: None,
            cpus: None,
        }
    }

    #[test]
    fn the_ends_of_a_run_are_compared_and_not_its_middle() {
        let seconds: Vec<_> = (1..=30)
            .map(|at| {
                second(
                    f64::from(at) + 0.01,
                    if at <= 10 {
                        100.0
                    } else if at <= 20 {
                        1.0
                    } else {
                        90.0
                    },
                )
            })
            .collect();
        assert_eq!(ends(&seconds, Duration::from_secs(10)), Some((100.0, 90.0)));
        assert_eq!(ends(&[], Duration::from_secs(10)), None);
        let half = Second { lasted_secs: 0.5, ..second(3.0, 50.0) };
        let (_, last) = ends(&[second(1.0, 9.0), second(2.0, 80.0), half], Duration::from_secs(2)).unwrap();
        assert!((last - 70.0).abs() < 1e-9, "half a second counts half: {last}");
    }
}
