//! What must hold at the end of a scenario.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Played, PlayedReload};
use crate::outcome::Outcome;
use crate::result::{Micros, Run, Second};

/// What must hold at the end of a scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// In that phase everybody is let in.
    AllAllowed(&'static str),
    /// Of this outcome there are at least so many in that phase.
    AtLeast(&'static str, Outcome, u64),
    /// Of this outcome there are at most so many in that phase.
    AtMost(&'static str, Outcome, u64),
    /// Told to end, the target has ended by itself, and well (exit code 0).
    EndedWell,
    /// No answer of any phase tells a wrong identity.
    NoWrongIdentity,
    /// Nobody was killed for want of memory.
    NoOomKill,
    /// From so long after its begin everybody is let in during that phase.
    OnlyAllowedFrom(&'static str, Duration),
    /// All of this outcome in that phase have this one reason.
    OnlyBecause(&'static str, Outcome, &'static str),
    /// Nine of ten who are let in during that phase have their answer within so long.
    P90AtMost(&'static str, Duration),
    /// The p99 of those who are let in is in the second phase at most so many times that of the first.
    P99Within(&'static str, &'static str, f64),
    /// The process never had more resident memory than so many bytes.
    PeakAtMost(u64),
    /// The first phase has at least such a share of the rate of the second.
    RateShare(&'static str, &'static str, f64),
    /// So many reloads there were, and each acted within so long.
    ReloadsWithin(usize, Duration),
    /// The last so many seconds of that phase have at least such a share of the rate of its first.
    Steady(&'static str, Duration, f64),
    /// STS was asked exactly so often in that phase.
    StsCalls(&'static str, u64),
    /// In that phase STS was asked for at most such a share of the answers.
    StsShare(&'static str, f64),
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
            Self::AllAllowed(name) => {
                let summary = &phase(name)?.summary;
                let others = summary.completed.saturating_sub(summary.count(Outcome::Allowed));
                let holds = others == 0 && summary.completed > 0;
                check(format!("everybody is let in during {name}"), format!("{others} of {} were not", summary.completed), holds)
            }
            Self::AtLeast(name, outcome, least) => {
                let count = phase(name)?.summary.count(outcome);
                check(format!("{} in {name} ≥ {least}", outcome.label()), count.to_string(), count >= least)
            }
            Self::AtMost(name, outcome, most) => {
                let count = phase(name)?.summary.count(outcome);
                check(format!("{} in {name} ≤ {most}", outcome.label()), count.to_string(), count <= most)
            }
            Self::EndedWell => {
                let found = match played.exit_code {
                    Some(code) => format!("exit code {code}"),
                    None => "it was killed, or had to be".into(),
                };
                check("the target has ended by itself, and well".into(), found, played.exit_code == Some(0))
            }
            Self::NoWrongIdentity => {
                let count: u64 = played.phases.iter().map(|phase| phase.run.summary.count(Outcome::WrongIdentity)).sum();
                check("no wrong identity".into(), count.to_string(), count == 0)
            }
            Self::NoOomKill => {
                let kills = played.memory?.oom_kills?;
                check("nobody killed for want of memory".into(), kills.to_string(), kills == 0)
            }
            Self::OnlyAllowedFrom(name, from) => {
                let seconds = &phase(name)?.seconds;
                let late = seconds.iter().filter(|second| second.at_secs - second.lasted_secs >= from.as_secs_f64() - 0.01);
                let allowed = |second: &Second| second.outcomes.get(Outcome::Allowed.label()).copied().unwrap_or(0);
                let (all, others) = late.fold((0, 0), |(all, others), second| {
                    let count: u64 = second.outcomes.values().sum();
                    (all + count, others + count - allowed(second))
                });
                let rule = format!("from {} s on everybody is let in during {name}", from.as_secs());
                check(rule, format!("{others} of {all} were not"), others == 0 && all > 0)
            }
            Self::OnlyBecause(name, outcome, reason) => {
                let summary = &phase(name)?.summary;
                let known = summary.reasons.iter().filter(|told| told.outcome == outcome.label() && told.reason == reason);
                let others = summary.count(outcome) - known.map(|told| told.count).sum::<u64>();
                check(format!("{} in {name} only for: {reason}", outcome.label()), format!("{others} for others"), others == 0)
            }
            Self::P90AtMost(name, most) => {
                let p90 = phase(name)?.summary.latency_by_outcome.get(Outcome::Allowed.label())?.p90_us;
                let rule = format!("p90 of those let in during {name} \u{2264} {most:?}");
                check(rule, Micros(p90).to_string(), p90 <= crate::result::micros(most))
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
            Self::ReloadsWithin(count, most) => {
                let in_time = |reload: &&PlayedReload| reload.acted_after_ms.is_some_and(|took| took <= most.as_secs_f64() * 1e3);
                let holds = played.reloads.len() == count && played.reloads.iter().filter(in_time).count() == count;
                let told = |reload: &PlayedReload| match reload.acted_after_ms {
                    Some(took) => format!("{} after {took:.0} ms", reload.what),
                    None => format!("{} never", reload.what),
                };
                let found = played.reloads.iter().map(told).collect::<Vec<_>>().join(", ");
                check(format!("{count} reloads, each acts within {most:?}"), found, holds)
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
            Self::StsShare(name, share) => {
                let summary = &phase(name)?.summary;
                let (calls, answers) = (summary.sts_calls?, summary.completed);
                let holds = calls as f64 <= share * answers as f64;
                check(
                    format!("STS calls in {name} \u{2264} {:.0} % of the answers", share * 100.0),
                    format!("{calls} for {answers}"),
                    holds,
                )
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
    use crate::result::Reason;
    use crate::scenario::{PlayedMemory, PlayedPhase};

    /// A run that was recorded, with other counts.
    fn phase(name: &str, change: impl FnOnce(&mut Run)) -> PlayedPhase {
        let mut run: Run = serde_json::from_str(include_str!("../../tests/report/run.json")).unwrap();
        run.summary.outcomes = Outcome::ALL.into_iter().map(|outcome| (outcome.label().to_owned(), 0)).collect();
        run.summary.outcomes.insert("allowed".into(), 100);
        run.summary.completed = 100;
        run.summary.reasons.clear();
        (run.summary.sts_calls, run.summary.rate_per_sec) = (Some(1), 100.0);
        let latency = run.summary.latency.clone();
        run.summary.latency_by_outcome =
            [("allowed".to_owned(), crate::result::Latency { p90_us: 500.0, p99_us: 1000.0, ..latency })].into();
        run.summary.process = Some(crate::result::Process { peak_rss_bytes: 1000, cpu_secs: 1.0 });
        run.seconds = (1..=4).map(|at| second(f64::from(at), 25.0)).collect();
        change(&mut run);
        PlayedPhase { name: name.into(), run }
    }

    fn played(change: impl FnOnce(&mut Run)) -> Played {
        let first = phase("a", |_| {});
        Played {
            schema: first.run.schema.clone(),
            scenario: "test".into(),
            subject: "ceiling".into(),
            origin: first.run.origin.clone(),
            started_in_ms: 1.0,
            phases: vec![first, phase("b", change)],
            memory: Some(PlayedMemory { limit_bytes: 1, peak_bytes: None, oom_kills: Some(0) }),
            exit_code: Some(0),
            reloads: vec![PlayedReload { what: "mappings".into(), acted_after_ms: Some(20.0) }],
            checks: Vec::new(),
            metrics: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn with(outcome: &'static str, count: u64, reason: &'static str) -> impl FnOnce(&mut Run) {
        move |run| {
            run.summary.outcomes.insert(outcome.into(), count);
            run.summary.completed += count;
            run.summary.reasons.push(Reason { outcome: outcome.into(), reason: reason.into(), count });
            run.seconds[3].outcomes.insert(outcome.into(), count);
        }
    }

    #[test]
    fn each_rule_holds_where_it_should_and_fails_where_it_should_not() {
        let within = Duration::from_secs;
        let good = [
            Rule::AllAllowed("b"),
            Rule::AtLeast("b", Outcome::Allowed, 100),
            Rule::AtMost("b", Outcome::Denied, 0),
            Rule::EndedWell,
            Rule::NoOomKill,
            Rule::NoWrongIdentity,
            Rule::OnlyAllowedFrom("b", within(3)),
            Rule::OnlyBecause("b", Outcome::CutOff, "refused"),
            Rule::P90AtMost("b", Duration::from_micros(500)),
            Rule::P99Within("a", "b", 2.0),
            Rule::PeakAtMost(1000),
            Rule::RateShare("a", "b", 0.9),
            Rule::ReloadsWithin(1, within(1)),
            Rule::Steady("b", within(2), 0.9),
            Rule::StsCalls("b", 1),
            Rule::StsShare("b", 0.01),
        ];
        for rule in good {
            let check = rule.check(&played(|_| {})).unwrap();
            assert!(check.holds, "{check:?}");
        }
        let bad: [(Rule, Played); 19] = [
            (Rule::AllAllowed("b"), played(with("denied", 1, "no"))),
            (Rule::AllAllowed("b"), played(|run| run.summary.completed = 0)),
            (Rule::AtLeast("b", Outcome::Allowed, 101), played(|_| {})),
            (Rule::AtMost("b", Outcome::Denied, 0), played(with("denied", 1, "no"))),
            (Rule::EndedWell, Played { exit_code: None, ..played(|_| {}) }),
            (Rule::EndedWell, Played { exit_code: Some(1), ..played(|_| {}) }),
            (
                Rule::NoOomKill,
                Played { memory: Some(PlayedMemory { limit_bytes: 1, peak_bytes: None, oom_kills: Some(1) }), ..played(|_| {}) },
            ),
            (Rule::NoWrongIdentity, played(with("wrong-identity", 1, "expected a"))),
            (Rule::OnlyAllowedFrom("b", within(3)), played(with("throttled", 1, "no"))),
            (Rule::OnlyAllowedFrom("b", within(4)), played(|_| {})),
            (Rule::OnlyBecause("b", Outcome::CutOff, "refused"), played(with("cut-off", 1, "connection reset"))),
            (Rule::P90AtMost("b", Duration::from_micros(499)), played(|_| {})),
            (Rule::P99Within("a", "b", 2.0), played(|run| run.summary.latency_by_outcome.get_mut("allowed").unwrap().p99_us = 2001.0)),
            (Rule::PeakAtMost(999), played(|_| {})),
            (Rule::RateShare("a", "b", 0.9), played(|run| run.summary.rate_per_sec = 120.0)),
            (Rule::ReloadsWithin(2, within(1)), played(|_| {})),
            (
                Rule::ReloadsWithin(1, within(1)),
                Played { reloads: vec![PlayedReload { what: "mappings".into(), acted_after_ms: None }], ..played(|_| {}) },
            ),
            (Rule::Steady("b", within(2), 0.9), played(|run| run.seconds[3].rate_per_sec = 10.0)),
            (Rule::StsCalls("b", 2), played(|_| {})),
        ];
        for (rule, played) in bad {
            let check = rule.check(&played).unwrap();
            assert!(!check.holds, "{check:?}");
        }
        assert!(!Rule::StsShare("b", 0.01).check(&played(|run| run.summary.sts_calls = Some(2))).unwrap().holds);
        assert!(Rule::OnlyBecause("b", Outcome::CutOff, "refused").check(&played(with("cut-off", 9, "refused"))).unwrap().holds);
        assert_eq!(Rule::AllAllowed("c").check(&played(|_| {})), None, "of what was not there it says nothing");
    }

    fn second(at_secs: f64, rate_per_sec: f64) -> Second {
        Second {
            at_secs,
            lasted_secs: 1.0,
            rate_per_sec,
            p50_us: 0.0,
            p99_us: 0.0,
            outcomes: [("allowed".to_owned(), 25)].into(),
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
