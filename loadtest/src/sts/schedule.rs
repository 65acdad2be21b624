//! When which behaviour begins: a plan of faults, as a value.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use super::behaviour::{Behaviour, BehaviourError, parse_duration};

/// From an instant on, something is done with every so-manieth call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// When, from the start of the fake.
    pub at: Duration,
    /// What.
    pub behaviour: Behaviour,
    /// With every so-manieth call; the others are answered.
    pub every: NonZeroU64,
}

impl FromStr for Change {
    type Err = ChangeError;

    /// Reads a change from a command line.
    ///
    /// # Syntax
    ///
    /// ```text
    /// change   = duration ":" behaviour [ "/" every ]     ; 5s:throttle/2
    /// duration = 1*DIGIT ( "us" / "ms" / "s" )
    /// ```
    fn from_str(text: &str) -> Result<Self, ChangeError> {
        let (at, rest) = text.split_once(':').ok_or(ChangeError::Form)?;
        let at = parse_duration(at).ok_or(ChangeError::Form)?;
        let (behaviour, every) = match rest.rsplit_once('/') {
            Some((behaviour, every)) => (behaviour, every.parse().map_err(|_| ChangeError::Form)?),
            None => (rest, NonZeroU64::MIN),
        };
        Ok(Self { at, behaviour: behaviour.parse()?, every })
    }
}

/// Why a text names no change.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChangeError {
    /// No such behaviour.
    Behaviour(BehaviourError),
    /// Not of that form.
    Form,
}

impl From<BehaviourError> for ChangeError {
    fn from(error: BehaviourError) -> Self {
        Self::Behaviour(error)
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behaviour(error) => error.fmt(f),
            Self::Form => f.write_str("expected when, what and perhaps with which calls, as in 5s:hang or 5s:throttle/2"),
        }
    }
}

impl std::error::Error for ChangeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_changes_and_refuses_others() {
        let change: Change = "5s:throttle/2".parse().unwrap();
        assert_eq!(change, Change { at: Duration::from_secs(5), behaviour: Behaviour::Throttle, every: NonZeroU64::new(2).unwrap() });
        let change: Change = "10ms:error=503:SlowDown".parse().unwrap();
        assert_eq!((change.behaviour, change.every), (Behaviour::error(503, "SlowDown", "SlowDown"), NonZeroU64::MIN));
        for (text, error) in [
            ("hang", ChangeError::Form),
            ("5:hang", ChangeError::Form),
            ("5s:throttle/0", ChangeError::Form),
            ("5s:explode", ChangeError::Behaviour(BehaviourError::Name)),
        ] {
            assert_eq!(text.parse::<Change>(), Err(error), "{text}");
        }
    }
}
