//! How long the fake STS takes: the same for all calls, or as services do it, most of them quick and some very slow.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::behaviour::parse_duration;

/// The standard normal distribution is below this for 99 of 100.
const P99_DEVIATIONS: f64 = 2.326_347_874_040_841;

/// How much later something is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delay {
    /// Always so much.
    Constant(Duration),
    /// Log-normal, the usual shape of the latencies of a service.
    LogNormal {
        /// Half of the calls take less.
        median: Duration,
        /// 99 of 100 calls take less.
        p99: Duration,
    },
}

impl Delay {
    /// None.
    pub const NONE: Self = Self::Constant(Duration::ZERO);

    /// The delay of one call.
    pub(super) fn draw(self, random: &mut fastrand::Rng) -> Duration {
        match self {
            Self::Constant(delay) => delay,
            Self::LogNormal { median, p99 } => {
                let sigma = (p99.as_secs_f64() / median.as_secs_f64()).ln() / P99_DEVIATIONS;
                // Box and Muller: a normal deviate of two uniform ones, the first of which must not be zero.
                let normal = (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos();
                Duration::try_from_secs_f64(median.as_secs_f64() * (sigma * normal).exp()).unwrap_or(Duration::MAX)
            }
        }
    }
}

impl From<Duration> for Delay {
    fn from(delay: Duration) -> Self {
        Self::Constant(delay)
    }
}

impl FromStr for Delay {
    type Err = &'static str;

    /// Reads a delay from a command line.
    ///
    /// # Syntax
    ///
    /// ```text
    /// delay    = duration / "lognormal:" median "/" p99
    /// median   = duration
    /// p99      = duration     ; longer than the median
    /// duration = 1*DIGIT ( "us" / "ms" / "s" )
    /// ```
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let Some(pair) = text.strip_prefix("lognormal:") else {
            return parse_duration(text).map(Self::Constant).ok_or("expected digits and one of us, ms, s, or lognormal:MEDIAN/P99");
        };
        let parse = || {
            let (median, p99) = pair.split_once('/')?;
            Some((parse_duration(median)?, parse_duration(p99)?))
        };
        match parse() {
            Some((median, p99)) if !median.is_zero() && p99 > median => Ok(Self::LogNormal { median, p99 }),
            _ => Err("expected two durations, the second one longer, as in lognormal:10ms/80ms"),
        }
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(delay) => write!(f, "{}us", delay.as_micros()),
            Self::LogNormal { median, p99 } => write!(f, "lognormal:{}us/{}us", median.as_micros(), p99.as_micros()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_p99_are_as_asked() {
        let delay: Delay = "lognormal:10ms/80ms".parse().unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let mut drawn: Vec<_> = (0..100_000).map(|_| delay.draw(&mut random).as_secs_f64()).collect();
        drawn.sort_by(f64::total_cmp);
        let (median, p99) = (drawn[50_000], drawn[99_000]);
        assert!((median / 0.010 - 1.0).abs() < 0.03 && (p99 / 0.080 - 1.0).abs() < 0.05, "{median} {p99}");
    }

    #[test]
    fn reads_and_writes_the_command_line() {
        for text in ["0us", "10000us", "lognormal:10000us/80000us"] {
            assert_eq!(text.parse::<Delay>().unwrap().to_string(), text);
        }
        for text in ["", "10", "lognormal:", "lognormal:10ms", "lognormal:0ms/1ms", "lognormal:10ms/10ms", "normal:1ms/2ms"] {
            assert!(text.parse::<Delay>().is_err(), "{text}");
        }
    }
}
