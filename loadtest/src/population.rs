//! The identities of a run: made up from a seed, so that whoever signs, whoever proves and whoever maps know the same ones.
//!
//! A [`Population`] is a value; nothing is kept of it. The generator signs with its credentials, the fake STS is given them, and
//! [`fixture`](crate::fixture) writes the mappings and the bundle that belong to it.

use std::fmt;
use std::str::FromStr;

use crate::credential::{CallerIdentity, Credential};

/// The account of all made-up identities: that of AWS' documentation.
pub const ACCOUNT: &str = "123456789012";

/// Letters and digits that access key ids of AWS have (base32, RFC 4648).
const KEY_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Characters of a secret access key.
const SECRET_ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Characters of a secret access key, as AWS makes them.
const SECRET_CHARACTERS: usize = 40;

/// What kind of credentials a population has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// Sessions of roles: temporary credentials, which only STS can prove, with a session token of so many characters. As many roles as there are
    /// mappings, so that sessions share them where they are more.
    Sessions {
        /// Characters of the session token; a real one has some hundreds to a thousand and more.
        session_token_chars: usize,
    },
    /// IAM users with long-term keys, which a bundle can hold. Those beyond the mappings are let in by their account.
    Users,
}

/// Characters of a session token with which a TokenReview has 1.6 kB, as most have that kube-apiserver sends.
pub const USUAL_SESSION_TOKEN_CHARS: usize = 640;

impl FromStr for Shape {
    type Err = &'static str;

    /// Reads a shape from a command line.
    ///
    /// # Syntax
    ///
    /// ```text
    /// shape = "users" / "sessions" [ ":" characters ]
    /// ```
    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text.split_once(':').unwrap_or((text, "")) {
            ("users", "") => Ok(Self::Users),
            ("sessions", "") => Ok(Self::Sessions { session_token_chars: USUAL_SESSION_TOKEN_CHARS }),
            ("sessions", chars) => match chars.parse() {
                Ok(session_token_chars @ 1..=2000) => Ok(Self::Sessions { session_token_chars }),
                _ => Err("expected 1 to 2000 characters of a session token, as in sessions:640"),
            },
            _ => Err("expected users, sessions or sessions:CHARACTERS"),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sessions { session_token_chars } => write!(f, "sessions:{session_token_chars}"),
            Self::Users => f.write_str("users"),
        }
    }
}

/// So many made-up identities.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Population {
    /// Whose they are.
    pub shape: Shape,
    /// How many there are. Others may be asked for by number; they are strangers: signed for, but in nobody's list.
    pub identities: u32,
    /// How many mappings there are.
    pub mappings: u32,
    /// What the keys are made from.
    pub seed: u64,
}

impl Population {
    /// The credential of the identity with that number, from zero.
    #[must_use]
    pub fn credential(&self, number: u32) -> Credential {
        let mut random = fastrand::Rng::with_seed(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number));
        let (prefix, identity) = match self.shape {
            Shape::Sessions { .. } => ("ASIA", self.session(number)),
            Shape::Users => ("AKIA", user(number)),
        };
        // Twelve letters by chance and four from the number: no two of one population are the same.
        let mut key = String::from(prefix);
        key.extend((0..9).map(|_| letter(KEY_ALPHABET, random.usize(..32))));
        key.extend((0..7).rev().map(|place| letter(KEY_ALPHABET, (number as usize >> (place * 5)) & 31)));
        let secret: String = (0..SECRET_CHARACTERS).map(|_| letter(SECRET_ALPHABET, random.usize(..62))).collect();
        let credential = Credential::new(key, secret, identity).expect("twenty letters and digits are an access key id");
        match self.shape {
            Shape::Sessions { session_token_chars } => {
                let token = (0..session_token_chars).map(|_| letter(SECRET_ALPHABET, random.usize(..62))).collect::<String>();
                credential.with_session_token(token)
            }
            Shape::Users => credential,
        }
    }

    /// The credentials of all.
    #[must_use]
    pub fn credentials(&self) -> Vec<Credential> {
        (0..self.identities).map(|number| self.credential(number)).collect()
    }

    fn session(&self, number: u32) -> CallerIdentity {
        let role = number % self.mappings.max(1);
        CallerIdentity {
            account: ACCOUNT.into(),
            arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/loadtest-{role:06}/session-{number:06}"),
            user_id: format!("AROALOADTEST{role:09}:session-{number:06}"),
        }
    }
}

fn user(number: u32) -> CallerIdentity {
    CallerIdentity {
        account: ACCOUNT.into(),
        arn: format!("arn:aws:iam::{ACCOUNT}:user/loadtest-{number:06}"),
        user_id: format!("AIDALOADTEST{number:09}"),
    }
}

fn letter(alphabet: &[u8], index: usize) -> char {
    char::from(alphabet[index])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SESSIONS: Population = Population { shape: Shape::Sessions { session_token_chars: 700 }, identities: 100, mappings: 30, seed: 1 };

    #[test]
    fn the_same_seed_makes_the_same_credentials() {
        let key = |population: Population| population.credential(7).access_key_id().to_owned();
        assert_eq!(key(SESSIONS), key(SESSIONS));
        assert_ne!(key(SESSIONS), key(Population { seed: 2, ..SESSIONS }));
    }

    #[test]
    fn no_two_have_one_key_or_one_arn() {
        let credentials = SESSIONS.credentials();
        let keys: HashSet<_> = credentials.iter().map(Credential::access_key_id).collect();
        let arns: HashSet<_> = credentials.iter().map(|credential| &credential.identity().arn).collect();
        assert_eq!((keys.len(), arns.len()), (100, 100));
    }

    #[test]
    fn sessions_share_as_many_roles_as_there_are_mappings() {
        let arn = |number| SESSIONS.credential(number).identity().arn.clone();
        assert_eq!(arn(31), "arn:aws:sts::123456789012:assumed-role/loadtest-000001/session-000031");
        assert!(SESSIONS.credential(31).session_token().is_some_and(|token| token.len() == 700));
        let users = Population { shape: Shape::Users, ..SESSIONS };
        assert_eq!(users.credential(31).identity().arn, "arn:aws:iam::123456789012:user/loadtest-000031");
        assert_eq!(users.credential(31).session_token(), None);
    }
}
