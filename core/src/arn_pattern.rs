//! Role and user ARNs with `*` and `?` in the name.
//!
//! Matching never backs up over more than the last star: its time is at most the text's length times that of the longest piece between two
//! stars, both bounded by [`ARN_MAX_BYTES`](crate::limits::ARN_MAX_BYTES). No pattern makes it exponential.

use core::fmt;

use crate::arn::{Arn, ArnError, CanonicalArn, Principal};
use crate::endpoint::Partition;
use crate::limits::ACCOUNT_ID_DIGITS;

/// A pattern for the names of roles or users of one account.
///
/// # Syntax
///
/// ```text
/// pattern = "arn:" partition ":iam::" account ":" ( "role/" segment / "user/" path )   ; as in Arn, "*" and "?" have a meaning
/// ```
///
/// `*` is any run of characters, an empty one and slashes included; `?` is exactly one character. ASCII case does not count. Both are taken
/// only after `role/` or `user/`: a star in partition, service or account would open a door to other people's accounts. A role pattern with a
/// slash in the name could never match, since STS does not tell paths.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ArnPattern<'a> {
    partition: Partition,
    account_id: &'a str,
    kind: Kind,
    name: &'a str,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Kind {
    Role,
    User,
}

impl<'a> ArnPattern<'a> {
    /// Whether `text` has a character that is one of a pattern.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.contains(['*', '?'])
    }

    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// [`PatternError`].
    pub fn parse(text: &'a str) -> Result<Self, PatternError> {
        let head = text.split_once('/').map_or(text, |(head, _)| head);
        if Self::is_one(head) {
            return Err(PatternError::Place);
        }
        let arn = Arn::parse(text).map_err(PatternError::Arn)?;
        let name = text.split_once('/').map_or("", |(_, name)| name);
        let kind = match arn.principal() {
            Principal::Role { .. } if name.contains('/') => return Err(PatternError::RolePath),
            Principal::Role { .. } => Kind::Role,
            Principal::User { .. } => Kind::User,
            Principal::AssumedRole { .. } | Principal::FederatedUser { .. } | Principal::Root => return Err(PatternError::Place),
        };
        Ok(Self { partition: arn.partition(), account_id: arn.account_id(), kind, name })
    }

    /// All of it but its text, for whoever keeps that somewhere else and does not want to read it again for each match.
    #[must_use]
    pub fn shape(&self) -> PatternShape {
        // `arn:` partition `:iam::` account `:` and `role/` or `user/`.
        let before = ["arn:", self.partition.name(), ":iam::", self.account_id, ":", "role/"].map(str::len);
        let name_start = u8::try_from(before.into_iter().sum::<usize>()).unwrap_or(u8::MAX);
        PatternShape { partition: self.partition, kind: self.kind, name_start }
    }

    /// Its partition.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// Its account.
    #[must_use]
    pub const fn account_id(&self) -> &'a str {
        self.account_id
    }

    /// Whether it is for roles; else it is for users.
    #[must_use]
    pub const fn is_for_roles(&self) -> bool {
        matches!(self.kind, Kind::Role)
    }

    /// What names have to fit.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// Whether it covers a principal.
    #[must_use]
    pub fn matches(&self, arn: &CanonicalArn<'_>) -> bool {
        let arn = arn.arn();
        let name = match (self.kind, arn.principal()) {
            (Kind::Role, Principal::AssumedRole { role: name, .. } | Principal::Role { name }) => name,
            (Kind::User, Principal::User { .. }) => arn.as_str().split_once('/').map_or("", |(_, path)| path),
            _ => return false,
        };
        arn.partition() == self.partition && arn.account_id() == self.account_id && wildcard_matches(self.name.as_bytes(), name.as_bytes())
    }
}

/// What a pattern's text was found to be.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PatternShape {
    partition: Partition,
    kind: Kind,
    /// Where the name begins; no partition has so long a name that it would not fit.
    name_start: u8,
}

impl PatternShape {
    /// The pattern of the same text as before; none, or another one, for any other text.
    #[must_use]
    pub fn over(self, text: &str) -> Option<ArnPattern<'_>> {
        let name_start = usize::from(self.name_start);
        let name = text.get(name_start..)?;
        let account_end = name_start.checked_sub(":role/".len())?;
        let account_id = text.get(account_end.checked_sub(ACCOUNT_ID_DIGITS)?..account_end)?;
        Some(ArnPattern { partition: self.partition, account_id, kind: self.kind, name })
    }
}

/// Whether `text` is what `pattern` describes.
fn wildcard_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on after a mismatch: behind the last star, one character of the text further each time.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, text) {
            ([b'*', after @ ..], _) => {
                retry = Some((after, text));
                pattern = after;
                continue;
            }
            ([], []) => return true,
            ([wanted, after @ ..], [found, rest @ ..]) if *wanted == b'?' || wanted.eq_ignore_ascii_case(found) => {
                (pattern, text) = (after, rest);
                continue;
            }
            _ => {}
        }
        let Some((after, [_, rest @ ..])) = retry else { return false };
        retry = Some((after, rest));
        (pattern, text) = (after, rest);
    }
}

/// Why a text is no pattern.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PatternError {
    /// It would not be an ARN even without wildcards.
    Arn(ArnError),
    /// A wildcard somewhere else than in the name of a role or a user.
    Place,
    /// A slash after `role/`.
    RolePath,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arn(error) => error.fmt(f),
            Self::Place => f.write_str("* and ? are patterns only in a name after role/ or user/"),
            Self::RolePath => f.write_str("a role pattern with a path can never match: STS does not tell paths"),
        }
    }
}

impl core::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn matches(pattern: &str, arn: &str) -> bool {
        ArnPattern::parse(pattern).unwrap().matches(&Arn::parse(arn).unwrap().canonical())
    }

    #[test]
    fn a_shape_over_its_text_is_the_pattern() {
        for text in [
            "arn:aws:iam::123456789012:role/a*",
            "ARN:AWS-CN:IAM::123456789012:User/some/path/*:/?",
            "arn:aws-eusc:iam::000000000000:user/*",
        ] {
            let pattern = ArnPattern::parse(text).unwrap();
            assert_eq!(pattern.shape().over(text), Some(pattern), "{text}");
            assert_eq!(pattern.shape().over("a/b"), None);
        }
    }

    #[test]
    fn a_question_mark_is_exactly_one_character() {
        assert!(matches("arn:aws:iam::123456789012:role/a?c", "arn:aws:iam::123456789012:role/abc"));
        assert!(!matches("arn:aws:iam::123456789012:role/a?c", "arn:aws:iam::123456789012:role/ac"));
        assert!(!matches("arn:aws:iam::123456789012:role/ab?", "arn:aws:iam::123456789012:role/ab"));
    }

    #[test]
    fn a_star_stays_in_its_account_partition_and_kind() {
        let pattern = "arn:aws:iam::123456789012:role/*";
        assert!(matches(pattern, "arn:aws:sts::123456789012:assumed-role/Anything/session"));
        assert!(!matches(pattern, "arn:aws:sts::123456789013:assumed-role/Anything/session"));
        assert!(!matches(pattern, "arn:aws-cn:sts::123456789012:assumed-role/Anything/session"));
        assert!(!matches(pattern, "arn:aws:iam::123456789012:user/Anything"));
        assert!(!matches(pattern, "arn:aws:iam::123456789012:root"));
        assert!(matches("arn:aws:iam::123456789012:user/ops/*", "arn:aws:iam::123456789012:user/Ops/Bob"));
    }

    #[test]
    fn refuses_wildcards_where_they_would_open_doors() {
        for (text, error) in [
            ("arn:aws:iam::*:role/Admin", PatternError::Place),
            ("arn:*:iam::123456789012:role/Admin", PatternError::Place),
            ("arn:aws:*::123456789012:role/Admin", PatternError::Place),
            ("arn:aws:iam::123456789012:*", PatternError::Place),
            ("arn:aws:iam::123456789012:*/Admin", PatternError::Place),
            ("arn:aws:sts::123456789012:assumed-role/Admin/*", PatternError::Place),
            ("*", PatternError::Place),
            ("arn:aws:iam::123456789012:role/team/*", PatternError::RolePath),
            ("arn:aws:iam::123456789012:group/*", PatternError::Arn(ArnError::Resource)),
        ] {
            assert_eq!(ArnPattern::parse(text), Err(error), "{text}");
        }
    }

    /// The definition, as a recursion that may take exponential time.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => slow(rest, text) || text.split_first().is_some_and(|(_, text)| slow(pattern, text)),
            ([p, pattern @ ..], [t, text @ ..]) => (*p == b'?' || p.eq_ignore_ascii_case(t)) && slow(pattern, text),
            _ => false,
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]
        #[test]
        fn agrees_with_the_definition(pattern in "[aB*?]{0,8}", text in "[Ab]{0,10}") {
            proptest::prop_assert_eq!(wildcard_matches(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
