//! Bounds that a run must keep: `p99>5ms` fails one whose p99 is longer.

use std::fmt;
use std::str::FromStr;

use crate::outcome::Outcome;
use crate::result::{Micros, Summary};

/// A condition under which a run has failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    figure: Figure,
    comparison: Comparison,
    value: f64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Figure {
    /// Microseconds.
    Latency(Statistic),
    /// A number of questions.
    Count(Option<Outcome>),
    /// The same, of a hundred.
    Share(Outcome),
    /// Questions a second.
    Rate,
    /// Due, and never asked.
    Unsent,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Statistic {
    Max,
    Mean,
    P50,
    P90,
    P95,
    P99,
    P999,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Comparison {
    Above,
    AtLeast,
    AtMost,
    Below,
}

impl Threshold {
    /// What to say if the run has crossed it.
    #[must_use]
    pub fn crossed_by(&self, summary: &Summary) -> Option<String> {
        let latency = &summary.latency;
        let found = match self.figure {
            Figure::Latency(Statistic::Max) => latency.max_us,
            Figure::Latency(Statistic::Mean) => latency.mean_us,
            Figure::Latency(Statistic::P50) => latency.p50_us,
            Figure::Latency(Statistic::P90) => latency.p90_us,
            Figure::Latency(Statistic::P95) => latency.p95_us,
            Figure::Latency(Statistic::P99) => latency.p99_us,
            Figure::Latency(Statistic::P999) => latency.p999_us,
            Figure::Count(None) => summary.completed as f64,
            Figure::Count(Some(outcome)) => summary.count(outcome) as f64,
            Figure::Share(outcome) => summary.count(outcome) as f64 * 100.0 / summary.completed.max(1) as f64,
            Figure::Rate => summary.rate_per_sec,
            Figure::Unsent => summary.unsent as f64,
        };
        let crossed = match self.comparison {
            Comparison::Above => found > self.value,
            Comparison::AtLeast => found >= self.value,
            Comparison::AtMost => found <= self.value,
            Comparison::Below => found < self.value,
        };
        let shown = match self.figure {
            Figure::Latency(_) => Micros(found).to_string(),
            Figure::Share(_) => format!("{found:.2}%"),
            Figure::Count(_) | Figure::Rate | Figure::Unsent => format!("{found:.0}"),
        };
        crossed.then(|| format!("{} (it was {shown})", self.text))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    /// Reads a threshold from a command line.
    ///
    /// # Syntax
    ///
    /// ```text
    /// threshold  = figure ( ">" / ">=" / "<" / "<=" ) value
    /// figure     = "p50" / "p90" / "p95" / "p99" / "p99.9" / "max" / "mean" / "rate" / "completed" / "unsent" / outcome
    /// value      = number                 ; counts and rate
    ///            / number "%"             ; outcomes
    ///            / number ( "us" / "ms" / "s" )   ; latencies
    /// ```
    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let place = text.find(['>', '<']).ok_or(ThresholdError::Form)?;
        let (name, rest) = (text[..place].trim(), &text[place..]);
        let comparisons = [(">=", Comparison::AtLeast), ("<=", Comparison::AtMost), (">", Comparison::Above), ("<", Comparison::Below)];
        let (comparison, value) = comparisons
            .into_iter()
            .find_map(|(sign, comparison)| Some((comparison, rest.strip_prefix(sign)?.trim())))
            .ok_or(ThresholdError::Form)?;
        let number = |text: &str, error| text.trim().parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0).ok_or(error);
        let latency = |statistic| {
            let value =
                [("us", 1.0), ("ms", 1e3), ("s", 1e6)].into_iter().find_map(|(unit, factor)| Some((value.strip_suffix(unit)?, factor)));
            let (value, factor) = value.ok_or(ThresholdError::Duration)?;
            Ok((Figure::Latency(statistic), number(value, ThresholdError::Duration)? * factor))
        };
        let (figure, value) = match name {
            "p50" => latency(Statistic::P50)?,
            "p90" => latency(Statistic::P90)?,
            "p95" => latency(Statistic::P95)?,
            "p99" => latency(Statistic::P99)?,
            "p99.9" => latency(Statistic::P999)?,
            "max" => latency(Statistic::Max)?,
            "mean" => latency(Statistic::Mean)?,
            "rate" => (Figure::Rate, number(value, ThresholdError::Number)?),
            "completed" => (Figure::Count(None), number(value, ThresholdError::Number)?),
            "unsent" => (Figure::Unsent, number(value, ThresholdError::Number)?),
            name => {
                let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.label() == name).ok_or(ThresholdError::Figure)?;
                match value.strip_suffix('%') {
                    Some(value) => (Figure::Share(outcome), number(value, ThresholdError::Number)?),
                    None => (Figure::Count(Some(outcome)), number(value, ThresholdError::Number)?),
                }
            }
        };
        Ok(Self { text: text.trim().into(), figure, comparison, value })
    }
}

/// Why a text names no threshold.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ThresholdError {
    /// A latency without a duration.
    #[error("expected a duration in us, ms or s, as in p99>5ms")]
    Duration,
    /// No such figure.
    #[error(
        "expected p50, p90, p95, p99, p99.9, max, mean, rate, completed, unsent, or an outcome: allowed, cut-off, denied, malformed, \
         throttled, timed-out, unavailable, wrong-identity"
    )]
    Figure,
    /// Not of that form.
    #[error("expected a figure, one of > >= < <=, and a value, as in p99>5ms or denied>0")]
    Form,
    /// Not a number.
    #[error("expected a number, or a percentage of an outcome, as in denied>1%")]
    Number,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outcome::Judgement;
    use crate::result::{LATENESS_MOST, Origin, Run};
    use crate::run::{Finished, Seen};
    use crate::tally::Tally;

    /// A hundred answers of 1 to 100 ms, two of them denials, in ten seconds.
    fn summary() -> Summary {
        let mut tally = Tally::default();
        for millis in 1..=100 {
            let outcome = if millis <= 2 { Outcome::Denied } else { Outcome::Allowed };
            tally.record(Judgement { outcome, reason: None }, Duration::from_millis(millis));
        }
        let finished = Finished {
            tally,
            elapsed: Duration::from_secs(10),
            seconds: Vec::new(),
            unanswered: 0,
            stopped: false,
            generator_cpu: Duration::ZERO,
            generator_elapsed: Duration::ZERO,
            seen_first: Seen::default(),
        };
        Run::new(Origin::here(0), Default::default(), &finished, LATENESS_MOST, None).summary
    }

    #[test]
    fn each_figure_is_compared_in_its_own_unit() {
        let summary = summary();
        let crossed = |text: &str| text.parse::<Threshold>().unwrap().crossed_by(&summary);
        for text in
            ["p50>49ms", "p99 >= 99ms", "max>0.09s", "mean<51ms", "denied>1", "denied>1%", "rate<11", "completed<=100", "p99.9>99000us"]
        {
            assert!(crossed(text).is_some(), "{text}");
        }
        for text in ["p50>51ms", "p90<90ms", "denied>2", "denied>2%", "wrong-identity>0", "rate>10", "unsent>0", "allowed<98"] {
            assert_eq!(crossed(text), None, "{text}");
        }
        assert_eq!(crossed("denied>1%").unwrap(), "denied>1% (it was 2.00%)");
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
        for (text, error) in [
            ("", ThresholdError::Form),
            ("p99", ThresholdError::Form),
            ("p99=5ms", ThresholdError::Form),
            ("p99>5", ThresholdError::Duration),
            ("p99>-5ms", ThresholdError::Duration),
            ("p98>5ms", ThresholdError::Figure),
            ("denied>x", ThresholdError::Number),
            ("rate<1%", ThresholdError::Number),
        ] {
            assert_eq!(text.parse::<Threshold>(), Err(error), "{text}");
        }
    }
}
