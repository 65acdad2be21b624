//! Axes: where a figure stands on one, where its marks are, and what is written there.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use crate::result::Micros;

/// What an axis measures; each has one scale.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Axis {
    /// Microseconds, on a logarithmic scale.
    Latency,
    /// MiB.
    Mebibytes,
    /// Percent, on a scale where each further nine takes as much room as the one before.
    Percentile,
    /// Processors kept busy.
    Processors,
    /// A number in a second.
    Rate,
    /// The same, on a logarithmic scale.
    RateLog,
    /// Seconds.
    Time,
}

/// The part of an axis that is shown: its ends and its marks, as places.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) marks: Vec<f64>,
}

impl Axis {
    /// What it measures, with the unit.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Latency => "time, log scale",
            Self::Mebibytes => "resident, MiB",
            Self::Percentile => "% of questions, log scale of the rest",
            Self::Processors => "processors",
            Self::Rate => "per second",
            Self::RateLog => "per second, log scale",
            Self::Time => "since the end of the warm-up",
        }
    }

    /// Where a figure stands; none for what is no figure, or cannot be shown.
    pub(super) fn place(self, figure: f64) -> Option<f64> {
        // Far beyond all that can be measured; what comes from a file may be anything.
        const MOST: f64 = 1e15;
        let figure = Some(figure).filter(|figure| figure.is_finite() && (0.0..=MOST).contains(figure))?;
        match self {
            Self::Mebibytes | Self::Processors | Self::Rate | Self::Time => Some(figure),
            // Less than a nanosecond is nothing.
            Self::Latency => Some(figure.max(1e-3).log10()),
            Self::Percentile => (figure < 100.0).then(|| -((100.0 - figure) / 100.0).log10()),
            Self::RateLog => (figure > 0.0).then(|| figure.max(1e-3).log10()),
        }
    }

    /// What is written at a place.
    pub(super) fn label(self, place: f64) -> String {
        match self {
            Self::Latency => duration(10f64.powf(place)),
            Self::Mebibytes | Self::Processors => number(place),
            Self::Percentile if place <= 0.0 => "0".into(),
            // As many nines as it takes.
            Self::Percentile => format!("{:.*}", (place - 2.0).clamp(0.0, 13.0) as usize, 100.0 - 100.0 / 10f64.powf(place)),
            Self::Rate => number(place),
            Self::RateLog => number(10f64.powf(place)),
            Self::Time => format!("{} s", number(place)),
        }
    }

    /// A figure in words, more exact than a label.
    pub(super) fn say(self, figure: f64) -> String {
        match self {
            Self::Latency => Micros(figure).to_string(),
            Self::Mebibytes => format!("{figure:.1} MiB"),
            Self::Percentile => format!("{} %", number(figure)),
            Self::Processors => format!("{figure:.2} processors"),
            Self::Rate | Self::RateLog => format!("{figure:.0}/s"),
            Self::Time => format!("{figure:.0} s"),
        }
    }

    /// What to show, so that all of these places are there.
    pub(super) fn shown(self, places: impl Iterator<Item = f64>) -> Shown {
        let (least, most) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), place| (least.min(place), most.max(place)));
        match self {
            Self::Latency => logarithmic(least, most),
            // From one in a second on, so that plots beside each other have the same foot.
            Self::RateLog => logarithmic(least.min(0.0), most),
            Self::Percentile => {
                let to = if most.is_finite() { most.max(1.0) } else { 1.0 };
                // By whole numbers: 0 %, 90 %, 99 % …
                Shown { from: 0.0, to, marks: (0..=15).map(f64::from).take_while(|mark| *mark <= to + 1e-9).collect() }
            }
            Self::Time => {
                let to = if most > 0.0 { most } else { 1.0 };
                let step = step(to / 5.0).max(if to > 2.0 { 1.0 } else { 0.0 });
                Shown { from: 0.0, to, marks: multiples(step, to) }
            }
            Self::Mebibytes | Self::Processors | Self::Rate => {
                let most = if most > 0.0 { most * 1.02 } else { 1.0 };
                let step = step(most / 5.0);
                let to = (most / step).ceil() * step;
                Shown { from: 0.0, to, marks: multiples(step, to) }
            }
        }
    }
}

impl Ranged for Shown {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (start, end): (i32, i32)) -> i32 {
        let share = (place - self.from) / (self.to - self.from);
        (f64::from(start) + share * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Lighter lines between the marks would be more than a small plot can bear.
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

/// From one round figure to another; marks at 1, 2 and 5, at tens where these would be too many.
fn logarithmic(least: f64, most: f64) -> Shown {
    if least > most {
        return Shown { from: 0.0, to: 1.0, marks: vec![0.0, 1.0] };
    }
    let decades = (least.floor() as i32)..=(most.ceil() as i32);
    let round: Vec<f64> = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|of| f64::from(decade) + f64::log10(of))).collect();
    // A figure that stands at a mark, but for the last of its binary places, needs no further one.
    let from = round.iter().copied().rfind(|mark| *mark <= least + 1e-9).unwrap_or(least);
    let to = round.iter().copied().find(|mark| *mark >= most - 1e-9 && *mark > from + 0.1).unwrap_or(from + 1.0);
    let inside = |mark: &f64| (from - 1e-9..=to + 1e-9).contains(mark);
    let every = ((to - from) / 6.0).ceil();
    let marks = if to - from > 3.0 {
        round.into_iter().filter(|mark| (mark - mark.round()).abs() < 1e-9 && mark.round() % every == 0.0).filter(inside).collect()
    } else {
        round.into_iter().filter(inside).collect()
    };
    Shown { from, to, marks }
}

/// The next of 1, 2, 5, 10, 20, 50 … and of their tenths.
fn step(least: f64) -> f64 {
    let decade = 10f64.powf(least.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|of| of * decade).find(|step| *step >= least * (1.0 - 1e-9)).unwrap_or(decade * 10.0)
}

fn multiples(step: f64, to: f64) -> Vec<f64> {
    (0..=20).map(|times| f64::from(times) * step).take_while(|mark| *mark <= to + step * 1e-6).collect()
}

/// A number in a few characters.
pub(super) fn number(number: f64) -> String {
    let short = |number: f64| {
        let text = format!("{number:.5}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match number {
        number if number >= 1e9 => format!("{number:.0e}"),
        number if number >= 1e6 => format!("{} M", short(number / 1e6)),
        number if number >= 1e4 => format!("{} k", short(number / 1e3)),
        number => short(number),
    }
}

fn duration(micros: f64) -> String {
    // Places are logarithms: what was 200 comes back as 199.99999.
    let rounded = |value: f64| number((value * 1e4).round() / 1e4);
    match micros * (1.0 + 1e-9) {
        micros if micros < 1e3 => format!("{} µs", rounded(micros)),
        micros if micros < 1e6 => format!("{} ms", rounded(micros / 1e3)),
        micros => format!("{} s", rounded(micros / 1e6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: Axis, figures: &[f64]) -> String {
        let shown = axis.shown(figures.iter().filter_map(|figure| axis.place(*figure)));
        assert!(shown.from < shown.to, "{shown:?}");
        let labels: Vec<_> = shown.marks.iter().map(|mark| axis.label(*mark)).collect();
        labels.join(", ")
    }

    #[test]
    fn marks_are_round_figures_with_their_units() {
        insta::assert_snapshot!(labels(Axis::Latency, &[130.0, 900.0]), @"100 µs, 200 µs, 500 µs, 1 ms");
        insta::assert_snapshot!(labels(Axis::Latency, &[90.0, 30e6]), @"100 µs, 1 ms, 10 ms, 100 ms, 1 s, 10 s");
        insta::assert_snapshot!(labels(Axis::Latency, &[200.0]), @"200 µs, 500 µs");
        insta::assert_snapshot!(labels(Axis::Percentile, &[0.0, 50.0, 99.995]), @"0, 90, 99, 99.9, 99.99");
        insta::assert_snapshot!(labels(Axis::Rate, &[0.0, 43_000.0]), @"0, 10 k, 20 k, 30 k, 40 k, 50 k");
        insta::assert_snapshot!(labels(Axis::RateLog, &[1.0, 43_000.0]), @"1, 10, 100, 1000, 10 k");
        insta::assert_snapshot!(labels(Axis::Time, &[1.0]), @"0 s, 0.2 s, 0.4 s, 0.6 s, 0.8 s, 1 s");
        insta::assert_snapshot!(labels(Axis::Time, &[60.01]), @"0 s, 20 s, 40 s, 60 s");
        insta::assert_snapshot!(labels(Axis::Mebibytes, &[17.4]), @"0, 5, 10, 15, 20");
        insta::assert_snapshot!(labels(Axis::Processors, &[0.0]), @"0, 0.2, 0.4, 0.6, 0.8, 1");
    }

    #[test]
    fn there_is_an_axis_where_there_are_no_figures() {
        for axis in [Axis::Latency, Axis::Mebibytes, Axis::Percentile, Axis::Processors, Axis::Rate, Axis::RateLog, Axis::Time] {
            assert!(labels(axis, &[]).contains(", "), "{axis:?}");
            assert!(labels(axis, &[f64::NAN, f64::INFINITY, -1.0, 1e300]).contains(", "), "{axis:?}");
            assert!(labels(axis, &[0.0, 1e15]).matches(", ").count() < 20, "{axis:?}");
        }
    }
}
