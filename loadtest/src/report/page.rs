//! The page itself.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use arngate_core::UnixSeconds;
use arngate_core::time::AmzDate;

use super::escaped::Escaped;
use super::section::{Member, Section, names};
use crate::outcome::Outcome;
use crate::result::{Latency, Micros, Origin, Summary};
use crate::scenario::compare::{ComparedPhase, Row, Spread};

/// Nothing is loaded, and nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page of these sections.
pub(super) fn html(sections: &[Section<'_>]) -> String {
    let title = match sections {
        [one] => format!("Load test: {}", one.heading),
        _ => "Load tests".into(),
    };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n<meta name=\"generator\" content=\"arngate-loadtest {}\">\n\
         <title>{1}</title>\n<style>\n{2}</style>\n</head>\n<body>\n<h1>{1}</h1>\n",
        env!("CARGO_PKG_VERSION"),
        Escaped(&title),
        include_str!("page.css"),
    );
    if sections.is_empty() {
        page.push_str("<p>There are no results.</p>\n");
    }
    for (index, section) in sections.iter().enumerate() {
        let _ = writeln!(page, "<section id=\"s{index}\">");
        if sections.len() > 1 {
            let _ = writeln!(page, "<h2>{}</h2>", Escaped(&section.heading));
        }
        verdicts(&mut page, section);
        if let Some(compared) = section.compared {
            comparison(&mut page, compared);
        }
        summary(&mut page, section);
        plots(&mut page, section, index);
        origins(&mut page, section);
        page.push_str("</section>\n");
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// What must be read before any figure is.
fn verdicts(page: &mut String, section: &Section<'_>) {
    let members = &section.members;
    let told = |told: fn(&Summary) -> &[String], prefix: &str| -> Vec<String> {
        let told_by_all = |text: &String| members.iter().all(|member| told(&member.run.summary).contains(text));
        let name = |member: &Member<'_>, text| if told_by_all(text) { String::new() } else { format!("{}: ", member.name) };
        let texts = members.iter().flat_map(|member| told(&member.run.summary).iter().map(move |text| (member, text)));
        let mut texts: Vec<_> = texts.map(|(member, text)| format!("{prefix}{}{text}", name(member, text))).collect();
        let mut seen = BTreeSet::new();
        texts.retain(|text| seen.insert(text.clone()));
        texts
    };
    let void = told(|summary| &summary.void, "VOID: ");
    let crossed = told(|summary| &summary.crossed, "FAILED: ");
    let (held, broken): (Vec<_>, Vec<_>) = section.checks.iter().partition(|check| check.holds);
    let check = |check: &crate::scenario::Check| format!("{} (found: {})", check.rule, check.found);
    let broken: Vec<_> = broken.into_iter().map(|one| format!("BROKEN: {}", check(one))).collect();
    let mut notes = told(|summary| &summary.notes, "");
    notes.extend(section.notes.iter().cloned());

    let mut good: Vec<String> = held.into_iter().map(|one| format!("holds: {}", check(one))).collect();
    if void.is_empty() {
        good.insert(0, "not void: the generator did what it was told to".into());
    }
    if crossed.is_empty() {
        good.insert(1.min(good.len()), "no threshold was crossed".into());
    }
    for (class, texts) in [("bad", &void), ("bad", &crossed), ("bad", &broken), ("note", &notes), ("good", &good)] {
        if !texts.is_empty() {
            let _ = writeln!(page, "<ul class=\"verdict {class}\">");
            for text in texts {
                let _ = writeln!(page, "<li>{}</li>", Escaped(text));
            }
            page.push_str("</ul>\n");
        }
    }
    if !section.facts.is_empty() {
        let _ = writeln!(page, "<p class=\"quiet\">{}</p>", Escaped(&section.facts.join(" ")));
    }
}

/// What is in a row of a table for a subject.
type CellOf = fn(&Row) -> String;

/// One of the figures of a histogram, in microseconds.
type FigureOf = fn(&Latency) -> f64;

/// What subjects have done over all rounds.
fn comparison(page: &mut String, compared: &ComparedPhase) {
    fn spread(spread: &Spread, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}–{:.digits$})", spread.median, spread.least, spread.most)
    }
    let rows: [(&str, CellOf); 9] = [
        ("answers/s", |row| spread(&row.rate_per_sec, 0)),
        ("× the first", |row| spread(&row.of_first, 3)),
        ("× the ceiling", |row| row.of_ceiling.as_ref().map_or_else(absent, |ratio| spread(ratio, 3))),
        ("p50", |row| Micros(row.p50_us.median).to_string()),
        ("p99", |row| Micros(row.p99_us.median).to_string()),
        ("took", |row| Micros(row.elapsed_ms.median * 1e3).to_string()),
        ("STS calls", |row| row.sts_calls.map_or_else(absent, |calls| calls.to_string())),
        ("peak memory", |row| row.peak_rss_bytes.map_or_else(absent, mebibytes)),
        ("not allowed", |row| {
            let counts: Vec<_> = row.not_allowed.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
            if counts.is_empty() { "0".into() } else { counts.join(", ") }
        }),
    ];
    page.push_str("<h3>Over all rounds: the median (least–most)</h3>\n");
    let names = names(compared);
    table(
        page,
        names.iter().map(String::as_str),
        rows.iter().map(|(name, cell)| ((*name).to_owned(), compared.rows.iter().map(cell).collect())),
    );
}

/// The figures of each run.
fn summary(page: &mut String, section: &Section<'_>) {
    let members = &section.members;
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut row = |name: &str, cell: &dyn Fn(&Member<'_>) -> Option<String>| {
        let cells: Vec<_> = members.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            rows.push((name.into(), cells.into_iter().map(|cell| cell.unwrap_or_else(absent)).collect()));
        }
    };
    let some = |number: u64| Some(number).filter(|number| *number > 0).map(|number| number.to_string());
    row("answered", &|member| Some(member.run.summary.completed.to_string()));
    row("in", &|member| Some(format!("{:.2} s", member.run.summary.elapsed_secs)));
    row("rate", &|member| Some(format!("{:.0}/s", member.run.summary.rate_per_sec)));
    for outcome in Outcome::ALL {
        row(outcome.label(), &|member| {
            let (count, all) = (member.run.summary.count(outcome), member.run.summary.completed);
            let share = count as f64 * 100.0 / all.max(1) as f64;
            let share = if share < 0.01 { "< 0.01 %".into() } else { format!("{share:.2} %") };
            (count > 0).then(|| format!("{count} ({share})"))
        });
    }
    let latencies: [(&str, FigureOf); 8] = [
        ("least", |latency| latency.min_us),
        ("mean", |latency| latency.mean_us),
        ("p50", |latency| latency.p50_us),
        ("p90", |latency| latency.p90_us),
        ("p95", |latency| latency.p95_us),
        ("p99", |latency| latency.p99_us),
        ("p99.9", |latency| latency.p999_us),
        ("most", |latency| latency.max_us),
    ];
    for (name, figure) in latencies {
        row(&format!("latency, {name}"), &|member| {
            Some(&member.run.summary.latency).filter(|latency| latency.count > 0).map(|latency| Micros(figure(latency)).to_string())
        });
    }
    row("asked late by, p99", &|member| Some(Micros(member.run.summary.lateness.as_ref()?.p99_us).to_string()));
    row("due, not asked", &|member| some(member.run.summary.unsent));
    row("unanswered at the stop", &|member| some(member.run.summary.unanswered));
    row("STS calls", &|member| Some(member.run.summary.sts_calls?.to_string()));
    row("target, peak memory", &|member| Some(mebibytes(member.run.summary.process?.peak_rss_bytes)));
    row("target, processor time", &|member| Some(format!("{:.2} s", member.run.summary.process?.cpu_secs)));
    row("generator busy", &|member| Some(format!("{:.0} %", member.run.summary.generator.busy_share * 100.0)));
    row("generator, a question", &|member| Some(format!("{:.1} µs", member.run.summary.generator.cpu_us_per_question)));
    row("tokens made", &|member| some(member.run.summary.generator.tokens_made));
    row("a token", &|member| {
        let generator = &member.run.summary.generator;
        (generator.tokens_made > 0).then(|| format!("{:.1} µs", generator.us_per_token))
    });
    let is_long = members.len() > 8 || section.compared.is_some();
    page.push_str(if is_long { "<details><summary>Each run</summary>\n" } else { "<h3>Summary</h3>\n" });
    table(page, members.iter().map(|member| member.name.as_str()), rows.into_iter());
    page.push_str(if is_long { "</details>\n" } else { "" });
    reasons(page, members);
}

fn reasons(page: &mut String, members: &[Member<'_>]) {
    let all: Vec<_> =
        members.iter().flat_map(|member| member.run.summary.reasons.iter().map(move |reason| (&member.name, reason))).collect();
    if all.is_empty() {
        return;
    }
    page.push_str("<h3>Reasons, in the target's words</h3>\n<div class=\"wide\"><table>\n<tbody>\n");
    for (name, reason) in all {
        let name = if members.len() == 1 { String::new() } else { format!("{name}: ") };
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{}{}</th><td>{}</td><td class=\"words\">{}</td></tr>",
            Escaped(&name),
            Escaped(&reason.outcome),
            reason.count,
            Escaped(&reason.reason)
        );
    }
    page.push_str("</tbody></table></div>\n");
}

fn plots(page: &mut String, section: &Section<'_>, index: usize) {
    let figures: Vec<_> =
        section.plots().iter().enumerate().filter_map(|(number, plot)| plot.figure(&format!("s{index}p{number}"))).collect();
    if figures.is_empty() {
        page.push_str("<p class=\"quiet\">There is nothing to plot: nothing was answered.</p>\n");
    } else {
        let _ = write!(
            page,
            "<h3>Plots</h3>\n<div class=\"plots\">\n{}</div>\n<p class=\"quiet\">Points over time are those of a second each, at its end. \
             Point at a line to read its figures.</p>\n",
            figures.concat()
        );
    }
}

/// What it takes to do it again.
fn origins(page: &mut String, section: &Section<'_>) {
    page.push_str("<details open><summary>To do it again</summary>\n");
    // Phases and rounds of one command tell the same, but for when they began.
    let mut told: Vec<(&Origin, i64)> = Vec::new();
    for origin in section.members.iter().map(|member| &member.run.origin) {
        let is_same = |other: &Origin| Origin { at_unix_secs: 0, ..other.clone() } == Origin { at_unix_secs: 0, ..origin.clone() };
        match told.iter_mut().find(|(other, _)| is_same(other)) {
            Some((_, last)) => *last = origin.at_unix_secs.max(*last),
            None => told.push((origin, origin.at_unix_secs)),
        }
    }
    for (origin, last) in told {
        page.push_str(&origin_of(origin, last));
    }
    let names: BTreeSet<&String> = section.members.iter().flat_map(|member| member.run.settings.keys()).collect();
    if !names.is_empty() {
        page.push_str("<h3>Settings</h3>\n");
        let cell = |name: &str, member: &Member<'_>| member.run.settings.get(name).cloned().unwrap_or_else(absent);
        let rows = names.into_iter().map(|name| (name.clone(), section.members.iter().map(|member| cell(name, member)).collect()));
        table(page, section.members.iter().map(|member| member.name.as_str()), rows);
    }
    page.push_str("</details>\n");
}

/// `last` is when the last of its parts began.
fn origin_of(origin: &Origin, last: i64) -> String {
    let Origin { command, commit, at_unix_secs, processor, processors, system, version, optimised } = origin;
    let command: Vec<_> = command.iter().map(|word| Quoted(word).to_string()).collect();
    let mut text = format!("<pre>{}</pre>\n<p class=\"quiet\">", Escaped(&command.join(" ")));
    let build = if *optimised { "" } else { ", a debug build" };
    let facts = [
        format!("commit {}", commit.as_deref().unwrap_or("unknown")),
        format!("arngate-loadtest {version}{build}"),
        if last > *at_unix_secs { format!("{} to {}", moment(*at_unix_secs), moment(last)) } else { moment(*at_unix_secs) },
        format!("{processors} × {processor}"),
        system.clone(),
    ];
    let _ = writeln!(text, "{}</p>", Escaped(&facts.join(" · ")));
    text
}

/// A moment, to the second.
fn moment(at_unix_secs: i64) -> String {
    let Some(date) = AmzDate::from_unix(UnixSeconds::new(at_unix_secs)) else { return format!("{at_unix_secs} s after 1970") };
    let part = |range: std::ops::Range<usize>| date.as_str().get(range).unwrap_or_default();
    format!("{}-{}-{} {}:{}:{} UTC", part(0..4), part(4..6), part(6..8), part(9..11), part(11..13), part(13..15))
}

/// A word, as a shell takes it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=,@%+".contains(character);
        if !self.0.is_empty() && self.0.chars().all(is_plain) {
            f.write_str(self.0)
        } else {
            write!(f, "'{}'", self.0.replace('\'', r"'\''"))
        }
    }
}

fn absent() -> String {
    "–".into()
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Figures of several; those of one are tiles, which have room beside each other.
fn table<'a>(page: &mut String, names: impl ExactSizeIterator<Item = &'a str>, rows: impl Iterator<Item = (String, Vec<String>)>) {
    if names.len() == 1 {
        page.push_str("<dl>\n");
        for (name, cells) in rows {
            let _ = writeln!(page, "<div><dt>{}</dt><dd>{}</dd></div>", Escaped(&name), Escaped(&cells.concat()));
        }
        page.push_str("</dl>\n");
        return;
    }
    page.push_str("<div class=\"wide\"><table>\n<thead><tr><th></th>");
    for name in names {
        let _ = write!(page, "<th scope=\"col\">{}</th>", Escaped(name));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (name, cells) in rows {
        let _ = write!(page, "<tr><th scope=\"row\">{}</th>", Escaped(&name));
        for cell in cells {
            let _ = write!(page, "<td>{}</td>", Escaped(&cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}
