//! What kinds of tokens are asked about, and how often. A value, made into a [`Supply`](crate::supply::Supply) of questions elsewhere.

use std::fmt;
use std::str::FromStr;

/// A kind of token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Well-formed and signed, but older than any that is believed.
    Expired,
    /// A token that has not been seen yet, of an identity that has not been seen yet either.
    FreshNewIdentity,
    /// A token that has not been seen yet, of one of the identities.
    FreshSameIdentity,
    /// A known access key, and a signature that is not its owner's.
    ForgedKnownKey,
    /// An access key that nobody knows.
    ForgedUnknownKey,
    /// The prefix of a token, and nothing sensible behind it.
    Garbage,
    /// One of the tokens that were signed before the run.
    Repeated,
    /// A token that has not been seen yet, with a session token: 1.8 kB.
    SessionToken,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Expired,
        Self::FreshNewIdentity,
        Self::FreshSameIdentity,
        Self::ForgedKnownKey,
        Self::ForgedUnknownKey,
        Self::Garbage,
        Self::Repeated,
        Self::SessionToken,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::FreshNewIdentity => "fresh-new-identity",
            Self::FreshSameIdentity => "fresh-same-identity",
            Self::ForgedKnownKey => "forged-known-key",
            Self::ForgedUnknownKey => "forged-unknown-key",
            Self::Garbage => "garbage",
            Self::Repeated => "repeated",
            Self::SessionToken => "session-token",
        }
    }
}

/// Shares of kinds; they need not add up to anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix(Vec<(Kind, f64)>);

impl Mix {
    /// One kind only.
    #[must_use]
    pub fn only(kind: Kind) -> Self {
        Self(vec![(kind, 1.0)])
    }

    /// Whether there are such tokens in it.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.0.iter().any(|(other, _)| *other == kind)
    }

    /// A kind by chance, as often as its share says.
    #[must_use]
    pub fn pick(&self, random: &mut fastrand::Rng) -> Kind {
        if let [(only, _)] = self.0.as_slice() {
            return *only;
        }
        let whole: f64 = self.0.iter().map(|(_, share)| share).sum();
        let mut left = random.f64() * whole;
        for (kind, share) in &self.0 {
            left -= share;
            if left < 0.0 {
                return *kind;
            }
        }
        // Only if rounding has eaten the last share.
        self.0.last().map_or(Kind::Repeated, |(kind, _)| *kind)
    }
}

impl FromStr for Mix {
    type Err = MixError;

    /// Reads a mix from a command line.
    ///
    /// # Syntax
    ///
    /// ```text
    /// mix   = part *( "," part )
    /// part  = kind [ "=" share ]    ; a positive number, 1 by default
    /// ```
    fn from_str(text: &str) -> Result<Self, MixError> {
        let mut parts = Vec::new();
        for part in text.split(',') {
            let (name, share) = part.split_once('=').unwrap_or((part, "1"));
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or(MixError::Kind)?;
            let share: f64 = share.parse().map_err(|_| MixError::Share)?;
            if !(share.is_finite() && share > 0.0) {
                return Err(MixError::Share);
            }
            if parts.iter().any(|(other, _)| *other == kind) {
                return Err(MixError::Repeated(kind.name()));
            }
            parts.push((kind, share));
        }
        Ok(Self(parts))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, share)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}={share}", kind.name())?;
        }
        Ok(())
    }
}

/// Why a text names no mix.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MixError {
    /// No such kind.
    #[error(
        "expected kinds of tokens: expired, fresh-new-identity, fresh-same-identity, forged-known-key, forged-unknown-key, garbage, repeated, \
         session-token; as in repeated=95,fresh-same-identity=5"
    )]
    Kind,
    /// One kind twice.
    #[error("{0} is there twice")]
    Repeated(&'static str),
    /// Not a share.
    #[error("expected a positive number as share, as in repeated=95,fresh-same-identity=5")]
    Share,
}

/// Which of many is asked about how often.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Popularity {
    /// All alike.
    #[default]
    Uniform,
    /// The first most often, the n-th 1/n^exponent as often.
    Zipf {
        /// How steep; about 1 for most things that people choose.
        exponent: f64,
    },
}

impl FromStr for Popularity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text.split_once(':') {
            None if text == "uniform" => Ok(Self::Uniform),
            Some(("zipf", exponent)) => match exponent.parse() {
                Ok(exponent) if (0.01..=10.0).contains(&exponent) => Ok(Self::Zipf { exponent }),
                _ => Err("expected an exponent from 0.01 to 10, as in zipf:1"),
            },
            _ => Err("expected uniform or zipf:EXPONENT"),
        }
    }
}

impl fmt::Display for Popularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf { exponent } => write!(f, "zipf:{exponent}"),
        }
    }
}

/// A [`Popularity`] of so many, ready to choose.
#[derive(Clone, Debug)]
pub struct Chooser {
    count: usize,
    /// Sums of shares, for Zipf.
    sums: Vec<f64>,
}

impl Chooser {
    /// Chooses among `count`, at least one.
    #[must_use]
    pub fn new(popularity: Popularity, count: usize) -> Self {
        let count = count.max(1);
        let sums = match popularity {
            Popularity::Uniform => Vec::new(),
            Popularity::Zipf { exponent } => (1..=count)
                .scan(0.0, |sum, rank| {
                    *sum += (rank as f64).powf(-exponent);
                    Some(*sum)
                })
                .collect(),
        };
        Self { count, sums }
    }

    /// One of them, from zero.
    #[must_use]
    pub fn choose(&self, random: &mut fastrand::Rng) -> usize {
        match self.sums.last() {
            None => random.usize(..self.count),
            Some(whole) => {
                let place = random.f64() * whole;
                self.sums.partition_point(|sum| *sum <= place).min(self.count - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_as_often_as_their_shares_say() {
        let mix: Mix = "repeated=90,garbage=9,expired".parse().unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let mut counts = [0_u32; 3];
        for _ in 0..100_000 {
            match mix.pick(&mut random) {
                Kind::Repeated => counts[0] += 1,
                Kind::Garbage => counts[1] += 1,
                Kind::Expired => counts[2] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(counts[0].abs_diff(90_000) < 500 && counts[1].abs_diff(9_000) < 500 && counts[2].abs_diff(1_000) < 200, "{counts:?}");
    }

    #[test]
    fn reads_and_writes_the_command_line() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(Mix::only(kind)));
        }
        assert_eq!("repeated=95,expired=0.5".parse::<Mix>().unwrap().to_string(), "repeated=95,expired=0.5");
        for (text, error) in [
            ("", MixError::Kind),
            ("fresh", MixError::Kind),
            ("repeated=", MixError::Share),
            ("repeated=0", MixError::Share),
            ("repeated=-1", MixError::Share),
            ("repeated=inf", MixError::Share),
            ("repeated,repeated", MixError::Repeated("repeated")),
        ] {
            assert_eq!(text.parse::<Mix>(), Err(error), "{text}");
        }
        for text in ["uniform", "zipf:1.1"] {
            assert_eq!(text.parse::<Popularity>().unwrap().to_string(), text);
        }
        for text in ["", "zipf", "zipf:0", "zipf:x", "normal:1"] {
            assert!(text.parse::<Popularity>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_second_is_half_as_popular_as_the_first() {
        let chooser = Chooser::new(Popularity::Zipf { exponent: 1.0 }, 1000);
        let mut random = fastrand::Rng::with_seed(1);
        let mut counts = vec![0_u32; 1000];
        for _ in 0..1_000_000 {
            counts[chooser.choose(&mut random)] += 1;
        }
        for rank in [2, 4, 10] {
            let ratio = f64::from(counts[0]) / f64::from(counts[rank - 1]);
            assert!((ratio / rank as f64 - 1.0).abs() < 0.05, "rank {rank}: {ratio}");
        }
        assert!(counts.iter().all(|count| *count > 0));
    }
}
