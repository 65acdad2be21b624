//! What belongs together on a page: runs that are compared with each other, and the plots of them.

use super::axis::Axis;
use super::document::Document;
use super::plot::{Line, Plot};
use super::svg::Ink;
use crate::outcome::Outcome;
use crate::result::{Latency, Run, Second};
use crate::scenario::compare::{ComparedPhase, Comparison, Row};
use crate::scenario::{Check, Played, PlayedMemory};

/// How many hues the style sheet has.
const HUES: usize = 8;

const MIB: f64 = (1 << 20) as f64;

/// Runs that are compared with each other.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) heading: String,
    pub(super) members: Vec<Member<'a>>,
    pub(super) checks: &'a [Check],
    pub(super) notes: Vec<String>,
    /// What is neither good nor bad.
    pub(super) facts: Vec<String>,
    pub(super) compared: Option<&'a ComparedPhase>,
}

/// A run of a section.
#[derive(Clone, Debug)]
pub(super) struct Member<'a> {
    /// What no other one is called.
    pub(super) name: String,
    /// What its lines are called: those of all rounds of one subject the same.
    series: String,
    hue: usize,
    pub(super) run: &'a Run,
}

/// The sections of these results: one of all runs, one of each scenario, and one of each phase of a comparison.
pub(super) fn all(documents: &[(String, Document)]) -> Vec<Section<'_>> {
    let mut sections = Vec::new();
    let runs = documents.iter().filter_map(|(name, document)| if let Document::Run(run) = document { Some((name, run)) } else { None });
    let members: Vec<_> = runs.enumerate().map(|(hue, (name, run))| Member::new(name.clone(), name.clone(), hue, run)).collect();
    if !members.is_empty() {
        let heading = if members.len() == 1 { members[0].name.clone() } else { format!("{} runs", members.len()) };
        sections.push(Section { heading, members, checks: &[], notes: Vec::new(), facts: Vec::new(), compared: None });
    }
    for (_, document) in documents {
        match document {
            Document::Run(_) => {}
            Document::Played(played) => {
                let phases = played.phases.iter().enumerate();
                let members = phases.map(|(hue, phase)| Member::new(phase.name.clone(), phase.name.clone(), hue, &phase.run));
                let mut facts = vec![format!("The target spoke TLS {:.0} ms after its start.", played.started_in_ms)];
                facts.extend(played.memory.map(|PlayedMemory { limit_bytes, peak_bytes, oom_kills }| {
                    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB);
                    format!(
                        "Its control group allowed {}; the most in use was {}, killed for want of memory {}.",
                        mib(limit_bytes),
                        peak_bytes.map_or_else(|| "not told".into(), mib),
                        oom_kills.map_or_else(|| "not told".into(), |kills| kills.to_string()),
                    )
                }));
                sections.push(Section {
                    heading: format!("{} of {}", played.scenario, played.subject),
                    members: members.collect(),
                    checks: &played.checks,
                    notes: played.notes.clone(),
                    facts,
                    compared: None,
                });
            }
            Document::Comparison(comparison) => {
                for (index, phase) in comparison.phases.iter().enumerate() {
                    let members = subjects_of(comparison).filter_map(|(subject, round, played)| {
                        let series = names(phase).get(subject)?.clone();
                        let run = &played.phases.get(index)?.run;
                        Some(Member::new(format!("{series}, round {round}"), series, subject, run))
                    });
                    let mut notes: Vec<String> = Vec::new();
                    let told = |played: &Played| {
                        let broken = played.checks.iter().filter(|check| !check.holds);
                        let broken =
                            broken.map(|check| format!("{} has broken a rule: {} (found: {})", played.subject, check.rule, check.found));
                        broken.chain(played.notes.iter().map(|note| format!("{}: {note}", played.subject))).collect::<Vec<_>>()
                    };
                    for note in comparison.played.iter().flat_map(told) {
                        if !notes.contains(&note) {
                            notes.push(note);
                        }
                    }
                    if comparison.stopped {
                        notes.push("stopped before its end".into());
                    }
                    let heading = format!("{}, {}", comparison.scenario, phase.name);
                    let members = members.collect();
                    sections.push(Section { heading, members, checks: &[], notes, facts: Vec::new(), compared: Some(phase) });
                }
            }
        }
    }
    sections
}

/// What has been played, each with the place of its subject and its round, from 1.
///
/// Subjects took turns, and all rounds of one come before those of the next: where it was stopped, the first ones have a round more.
fn subjects_of(comparison: &Comparison) -> impl Iterator<Item = (usize, usize, &Played)> {
    let subjects = comparison.subjects.len().max(1);
    let (rounds, rest) = (comparison.played.len() / subjects, comparison.played.len() % subjects);
    let turns = (0..subjects).flat_map(move |subject| (1..=rounds + usize::from(subject < rest)).map(move |round| (subject, round)));
    turns.zip(&comparison.played).map(|((subject, round), played)| (subject, round, played))
}

/// What subjects are called: one that is there twice, to see how much chance there is, has a number.
pub(super) fn names(phase: &ComparedPhase) -> Vec<String> {
    let rows = &phase.rows;
    let name = |(index, row): (usize, &Row)| match rows.iter().take(index).filter(|before| before.subject == row.subject).count() {
        0 => row.subject.clone(),
        before => format!("{} ({})", row.subject, before + 1),
    };
    rows.iter().enumerate().map(name).collect()
}

impl<'a> Member<'a> {
    const fn new(name: String, series: String, hue: usize, run: &'a Run) -> Self {
        Self { name, series, hue, run }
    }
}

impl Section<'_> {
    /// Its plots, those without figures included.
    pub(super) fn plots(&self) -> Vec<Plot> {
        let mut plots = vec![self.latency_by_percentile(), self.latency_over_time()];
        plots.push(self.over_time("Answers over time", Axis::Rate, |second| Some(second.rate_per_sec)));
        plots.extend(self.outcomes());
        plots.extend(self.latency_by_outcome());
        plots.push(self.over_time("Calls of STS over time", Axis::Rate, |second| Some(a_second(second, second.sts_calls?))));
        plots.push(self.over_time("Memory of the target over time", Axis::Mebibytes, |second| Some(second.rss_bytes? as f64 / MIB)));
        plots.push(self.over_time("CPU of the target over time", Axis::Processors, |second| second.cpus));
        plots.push(self.lateness());
        plots
    }

    fn latency_by_percentile(&self) -> Plot {
        let line =
            |member: &Member<'_>| Line { name: member.series.clone(), ink: hue(member.hue), points: curve(&member.run.summary.latency) };
        let lines = self.members.iter().map(line).collect();
        Plot { title: "Latency by percentile".into(), x: Axis::Percentile, y: Axis::Latency, lines, is_plain: self.is_single() }
    }

    fn latency_over_time(&self) -> Plot {
        let lines = self.members.iter().flat_map(|member| {
            // Where there is one run, hues tell the percentiles apart; where there are more, these have the hues.
            let inks = if self.is_single() { [hue(0), hue(1)] } else { [dashed(member.hue), hue(member.hue)] };
            let name = |percentile: &str| if self.is_single() { percentile.into() } else { format!("{percentile} of {}", member.series) };
            let line = |percentile: &str, ink, figure: fn(&Second) -> f64| {
                // A second in which nothing was answered has no latency.
                let point = |second: &Second| (second.rate_per_sec > 0.0).then(|| (second.at_secs, figure(second)));
                Line { name: name(percentile), ink, points: member.run.seconds.iter().map(point).collect() }
            };
            [line("p50", inks[0], |second| second.p50_us), line("p99", inks[1], |second| second.p99_us)]
        });
        Plot { title: "Latency over time".into(), x: Axis::Time, y: Axis::Latency, lines: lines.collect(), is_plain: self.is_single() }
    }

    fn over_time(&self, title: &str, y: Axis, figure: impl Fn(&Second) -> Option<f64>) -> Plot {
        let line = |member: &Member<'_>| {
            let point = |second: &Second| Some((second.at_secs, figure(second)?));
            Line { name: member.series.clone(), ink: hue(member.hue), points: member.run.seconds.iter().map(point).collect() }
        };
        Plot { title: title.into(), x: Axis::Time, y, lines: self.members.iter().map(line).collect(), is_plain: self.is_single() }
    }

    /// One plot for each series: eight outcomes of each would be too many lines for one.
    fn outcomes(&self) -> Vec<Plot> {
        self.by_series("Outcomes over time", |member| {
            let line = |(index, outcome): (usize, Outcome)| {
                let point =
                    |second: &Second| Some((second.at_secs, a_second(second, second.outcomes.get(outcome.label()).copied().unwrap_or(0))));
                let points: Vec<_> = member.run.seconds.iter().map(point).collect();
                let was_there = member.run.summary.count(outcome) > 0;
                was_there.then(|| Line { name: outcome.label().into(), ink: hue(index), points })
            };
            Outcome::ALL.into_iter().enumerate().filter_map(line).collect()
        })
        .into_iter()
        .map(|(title, lines)| Plot { title, x: Axis::Time, y: Axis::RateLog, lines, is_plain: false })
        .collect()
    }

    fn latency_by_outcome(&self) -> Vec<Plot> {
        self.by_series("Latency by percentile and outcome", |member| {
            let by_outcome = &member.run.summary.latency_by_outcome;
            if by_outcome.len() < 2 {
                return Vec::new();
            }
            let line = |(index, outcome): (usize, Outcome)| {
                Some(Line { name: outcome.label().into(), ink: hue(index), points: curve(by_outcome.get(outcome.label())?) })
            };
            Outcome::ALL.into_iter().enumerate().filter_map(line).collect()
        })
        .into_iter()
        .map(|(title, lines)| Plot { title, x: Axis::Percentile, y: Axis::Latency, lines, is_plain: false })
        .collect()
    }

    fn lateness(&self) -> Plot {
        let line = |member: &Member<'_>| {
            let points = curve(member.run.summary.lateness.as_ref()?);
            Some(Line { name: member.series.clone(), ink: hue(member.hue), points })
        };
        let lines = self.members.iter().filter_map(line).collect();
        Plot { title: "How late the generator asked".into(), x: Axis::Percentile, y: Axis::Latency, lines, is_plain: self.is_single() }
    }

    fn by_series(&self, title: &str, lines: impl Fn(&Member<'_>) -> Vec<Line>) -> Vec<(String, Vec<Line>)> {
        let mut plots: Vec<(&str, Vec<Line>)> = Vec::new();
        for member in &self.members {
            match plots.iter_mut().find(|(series, _)| *series == member.series) {
                Some((_, all)) => all.extend(lines(member)),
                None => plots.push((&member.series, lines(member))),
            }
        }
        let titled = |series: &str| if self.is_single() { title.into() } else { format!("{title}: {series}") };
        plots.into_iter().map(|(series, lines)| (titled(series), lines)).collect()
    }

    const fn is_single(&self) -> bool {
        self.members.len() == 1
    }
}

fn hue(index: usize) -> Ink {
    Ink::Hue((index % HUES) as u8)
}

fn dashed(index: usize) -> Ink {
    Ink::HueDashed((index % HUES) as u8)
}

/// Points of a curve; the last one, which is no percentile but the longest of all, stands where one of so many would.
fn curve(latency: &Latency) -> Vec<Option<(f64, f64)>> {
    if latency.count == 0 {
        return Vec::new();
    }
    let mut points = vec![(0.0, latency.min_us)];
    points.extend(latency.curve.iter().filter(|point| point.0 > 0.0 && point.0 < 100.0));
    let last = 100.0 - 100.0 / (latency.count as f64).max(2.0);
    if points.last().is_some_and(|point| point.0 < last) {
        points.push((last, latency.max_us));
    }
    points.into_iter().map(Some).collect()
}

/// So many within that second, as a rate.
fn a_second(second: &Second, count: u64) -> f64 {
    count as f64 / second.lasted_secs.max(1e-9)
}
