//! When questions are due. A value says it, and a [`Schedule`] made from it tells one instant after the other, whatever the target does.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How questions arrive in an open loop.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// So many a second, evenly.
    Constant {
        /// Questions a second.
        rate: f64,
    },
    /// So many a second on average, each independent of the others: exponential gaps, as of many clients that know nothing of each other.
    Poisson {
        /// Questions a second.
        rate: f64,
    },
    /// Evenly, with a rate that changes in a line from one to another, and then stays.
    Ramp {
        /// Questions a second at the begin.
        from: f64,
        /// Questions a second at the end.
        to: f64,
        /// How long it takes from one to the other.
        over: Duration,
    },
    /// Evenly, with a rate that jumps; the last one stays.
    Steps(Vec<Step>),
}

/// A rate and how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Questions a second.
    pub rate: f64,
    /// How long.
    pub lasting: Duration,
}

impl Arrivals {
    /// The same at a share of its rates: what one of several generator threads does.
    #[must_use]
    pub fn share(&self, of: u32) -> Self {
        let part = |rate: f64| rate / f64::from(of.max(1));
        match self {
            Self::Constant { rate } => Self::Constant { rate: part(*rate) },
            Self::Poisson { rate } => Self::Poisson { rate: part(*rate) },
            Self::Ramp { from, to, over } => Self::Ramp { from: part(*from), to: part(*to), over: *over },
            Self::Steps(steps) => Self::Steps(steps.iter().map(|step| Step { rate: part(step.rate), ..*step }).collect()),
        }
    }

    /// The instants, from the begin of the run; `part` of `of` equal ones, shifted against each other so that they do not all ask at once.
    #[must_use]
    pub fn schedule(&self, seed: u64, part: u32, of: u32) -> Schedule {
        let random = fastrand::Rng::with_seed(seed);
        let shift = f64::from(part) / f64::from(of.max(1));
        Schedule { arrivals: self.share(of), random, asked: shift, at: 0.0 }
    }

    /// Questions that are due before `at` seconds, for all but Poisson arrivals.
    fn due_before(&self, at: f64) -> f64 {
        match self {
            Self::Constant { rate } | Self::Poisson { rate } => rate * at,
            Self::Ramp { from, to, over } => {
                let (over, within) = (over.as_secs_f64(), at.min(over.as_secs_f64()));
                let slope = if over > 0.0 { (to - from) / over } else { 0.0 };
                from * within + slope * within * within / 2.0 + to * (at - within)
            }
            Self::Steps(steps) => {
                let (mut due, mut begin) = (0.0, 0.0);
                for (index, step) in steps.iter().enumerate() {
                    let end = if index + 1 == steps.len() { f64::INFINITY } else { begin + step.lasting.as_secs_f64() };
                    due += step.rate * (at.min(end) - begin).max(0.0);
                    begin = end;
                }
                due
            }
        }
    }

    fn fastest(&self) -> f64 {
        match self {
            Self::Constant { rate } | Self::Poisson { rate } => *rate,
            Self::Ramp { from, to, .. } => from.max(*to),
            Self::Steps(steps) => steps.iter().map(|step| step.rate).fold(0.0, f64::max),
        }
    }
}

/// Instants at which questions are due.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    random: fastrand::Rng,
    asked: f64,
    at: f64,
}

impl Iterator for Schedule {
    type Item = Duration;

    /// The next instant, from the begin of the run; never the end, for that is the run's.
    fn next(&mut self) -> Option<Duration> {
        let due = self.at;
        if let Arrivals::Poisson { rate } = self.arrivals {
            // The inverse of the exponential distribution; 1 - x, for x may be zero and is never one.
            self.at += -(1.0 - self.random.f64()).ln() / rate;
            return Some(Duration::from_secs_f64(self.at));
        }
        self.asked += 1.0;
        self.at = self.when(self.asked, due);
        Some(Duration::from_secs_f64(self.at))
    }
}

impl Schedule {
    /// When `asked` questions are due: the curve of what is due rises all the time, so that halving finds it.
    fn when(&self, asked: f64, not_before: f64) -> f64 {
        if let Arrivals::Constant { rate } = self.arrivals {
            return asked / rate;
        }
        let mut low = not_before;
        let mut high = not_before + 1.0 / self.arrivals.fastest();
        while self.arrivals.due_before(high) < asked {
            high += high - not_before;
        }
        // A nanosecond is all that matters.
        while high - low > 1e-9 {
            let middle = f64::midpoint(low, high);
            if middle <= low || middle >= high {
                break;
            }
            if self.arrivals.due_before(middle) < asked { low = middle } else { high = middle }
        }
        high
    }
}

impl FromStr for Arrivals {
    type Err = ArrivalsError;

    /// Reads arrivals from a command line.
    ///
    /// # Syntax
    ///
    /// ```text
    /// arrivals = [ "constant:" ] rate / "poisson:" rate / "ramp:" rate "-" rate "/" duration / "steps:" step *( "," step )
    /// step     = rate "/" duration
    /// duration = 1*DIGIT ( "us" / "ms" / "s" )
    /// ```
    fn from_str(text: &str) -> Result<Self, ArrivalsError> {
        let (kind, value) = text.split_once(':').unwrap_or(("constant", text));
        let with_duration = |text: &str| -> Result<(String, Duration), ArrivalsError> {
            let (rate, lasting) = text.split_once('/').ok_or(ArrivalsError::Form)?;
            let lasting = crate::sts::parse_duration(lasting).filter(|lasting| !lasting.is_zero()).ok_or(ArrivalsError::Duration)?;
            Ok((rate.to_owned(), lasting))
        };
        match kind {
            "constant" => Ok(Self::Constant { rate: parse_rate(value)? }),
            "poisson" => Ok(Self::Poisson { rate: parse_rate(value)? }),
            "ramp" => {
                let (rates, over) = with_duration(value)?;
                let (from, to) = rates.split_once('-').ok_or(ArrivalsError::Form)?;
                Ok(Self::Ramp { from: parse_rate(from)?, to: parse_rate(to)?, over })
            }
            "steps" => {
                let step = |text| with_duration(text).and_then(|(rate, lasting)| Ok(Step { rate: parse_rate(&rate)?, lasting }));
                Ok(Self::Steps(value.split(',').map(step).collect::<Result<_, _>>()?))
            }
            _ => Err(ArrivalsError::Form),
        }
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant { rate } => write!(f, "constant:{rate}"),
            Self::Poisson { rate } => write!(f, "poisson:{rate}"),
            Self::Ramp { from, to, over } => write!(f, "ramp:{from}-{to}/{}ms", over.as_millis()),
            Self::Steps(steps) => {
                f.write_str("steps:")?;
                for (index, step) in steps.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{}/{}ms", step.rate, step.lasting.as_millis())?;
                }
                Ok(())
            }
        }
    }
}

/// Faster than any machine asks, so that a slip of a key is told.
const RATE_MOST: f64 = 10_000_000.0;

fn parse_rate(text: &str) -> Result<f64, ArrivalsError> {
    let rate: f64 = text.parse().map_err(|_| ArrivalsError::Rate)?;
    // Less than one in a thousand seconds would be no load, and zero is never due.
    if (0.001..=RATE_MOST).contains(&rate) { Ok(rate) } else { Err(ArrivalsError::Rate) }
}

/// Why a text names no arrivals.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ArrivalsError {
    /// Not a duration.
    #[error("expected a duration in us, ms or s, as in ramp:100-5000/60s")]
    Duration,
    /// None of the forms.
    #[error("expected RATE, poisson:RATE, ramp:RATE-RATE/DURATION or steps:RATE/DURATION,…")]
    Form,
    /// Not a rate.
    #[error("expected questions a second, from 0.001 to 10000000")]
    Rate,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(arrivals: &str, secs: u64) -> usize {
        let end = Duration::from_secs(secs);
        arrivals.parse::<Arrivals>().unwrap().schedule(1, 0, 1).take_while(|due| *due <= end).count()
    }

    #[test]
    fn as_many_are_due_as_the_rates_say() {
        assert_eq!(within("1000", 10), 10_000);
        assert!(within("ramp:100-300/10s", 10).abs_diff(2000) <= 1);
        assert!(within("ramp:100-300/10s", 12).abs_diff(2600) <= 1, "the last rate stays");
        assert!(within("steps:100/2s,1000/3s,10/1s", 6).abs_diff(3210) <= 1);
        assert!(within("steps:100/2s,1000/3s,10/1s", 16).abs_diff(3310) <= 1, "the last rate stays");
        let poisson = within("poisson:1000", 10);
        assert!((9_500..10_500).contains(&poisson), "{poisson}");
    }

    #[test]
    fn gaps_of_poisson_arrivals_are_as_wide_as_their_mean() {
        let arrivals: Arrivals = "poisson:1000".parse().unwrap();
        let dues: Vec<_> = arrivals.schedule(7, 0, 1).take(50_000).map(|due| due.as_secs_f64()).collect();
        let gaps: Vec<_> = dues.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean * 1000.0 - 1.0).abs() < 0.02 && (deviation / mean - 1.0).abs() < 0.03, "{mean} {deviation}");
    }

    #[test]
    fn the_same_seed_gives_the_same_instants() {
        let arrivals: Arrivals = "poisson:50".parse().unwrap();
        let take = |seed| arrivals.schedule(seed, 0, 1).take(20).collect::<Vec<_>>();
        assert_eq!(take(3), take(3));
        assert_ne!(take(3), take(4));
    }

    #[test]
    fn the_parts_of_several_threads_make_the_whole() {
        for text in ["1000", "ramp:100-2000/5s", "steps:100/1s,2000/4s"] {
            let arrivals: Arrivals = text.parse().unwrap();
            let end = Duration::from_secs(5);
            let parts: usize = (0..3).map(|part| arrivals.schedule(1, part, 3).take_while(|due| *due <= end).count()).sum();
            assert!(parts.abs_diff(within(text, 5)) <= 3, "{text}: {parts}");
        }
    }

    #[test]
    fn reads_and_writes_the_command_line() {
        for text in ["constant:1000", "poisson:0.5", "ramp:100-5000/60000ms", "steps:100/10000ms,200/500ms"] {
            assert_eq!(text.parse::<Arrivals>().unwrap().to_string(), text);
        }
        for (text, error) in [
            ("", ArrivalsError::Rate),
            ("0", ArrivalsError::Rate),
            ("-5", ArrivalsError::Rate),
            ("NaN", ArrivalsError::Rate),
            ("inf", ArrivalsError::Rate),
            ("ramp:100/10s", ArrivalsError::Form),
            ("ramp:100-200", ArrivalsError::Form),
            ("ramp:100-200/0s", ArrivalsError::Duration),
            ("steps:", ArrivalsError::Form),
            ("sinus:100", ArrivalsError::Form),
        ] {
            assert_eq!(text.parse::<Arrivals>(), Err(error), "{text}");
        }
    }
}
