//! What a prover says about who signed: checked once, canonical from then on.

use core::fmt;

use crate::arn::{Arn, ArnError, ArnShape, CanonicalArn, Principal, is_printable_ascii, split_last};
use crate::endpoint::Partition;
use crate::limits::USER_ID_MAX_BYTES;

/// An IAM identity.
///
/// upstream: `Identity` and `getIdentityFromSTSResponse` in pkg/token/token.go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity<'a> {
    arn: Arn<'a>,
    user_id: &'a str,
    session_name: &'a str,
}

impl<'a> Identity<'a> {
    /// Checks what GetCallerIdentity says: `Account`, `Arn` and `UserId`, which must agree with each other and with the partition.
    ///
    /// `UserId` is `ID:session` for roles, and then its session is the ARN's; for users, root and federated users it is taken whole.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] says which of them does not.
    pub fn check(partition: Partition, account: &str, arn: &'a str, user_id: &'a str) -> Result<Self, IdentityError> {
        let arn = Arn::parse(arn).map_err(IdentityError::Arn)?;
        if arn.partition() != partition {
            return Err(IdentityError::Partition);
        }
        if arn.account_id() != account {
            return Err(IdentityError::Account);
        }
        if user_id.len() > USER_ID_MAX_BYTES || (!is_printable_ascii(user_id) && user_id.chars().any(char::is_control)) {
            return Err(IdentityError::UserId);
        }
        let (user_id, session_name) = match arn.principal() {
            Principal::AssumedRole { session, .. } => match user_id.split_once(':') {
                Some((id, told)) if told == session => (id, told),
                _ => return Err(IdentityError::Session),
            },
            Principal::Role { .. } => match user_id.split_once(':') {
                Some((id, told)) if !told.is_empty() && !told.contains(':') => (id, told),
                _ => return Err(IdentityError::Session),
            },
            Principal::FederatedUser { .. } | Principal::Root | Principal::User { .. } => (user_id, ""),
        };
        if user_id.is_empty() { Err(IdentityError::UserId) } else { Ok(Self { arn, user_id, session_name }) }
    }

    /// Where its parts lie in the two texts.
    #[must_use]
    pub fn shape(&self) -> IdentityShape {
        // The user id is no longer than [`USER_ID_MAX_BYTES`], and the session is a part of it, or empty.
        IdentityShape { arn: self.arn.shape(), session_name: u16::try_from(self.session_name.len()).unwrap_or(u16::MAX) }
    }

    /// The account, 12 digits.
    #[must_use]
    pub const fn account_id(&self) -> &'a str {
        self.arn.account_id()
    }

    /// The ARN as the prover told it.
    #[must_use]
    pub const fn arn(&self) -> &'a str {
        self.arn.as_str()
    }

    /// The canonical ARN.
    #[must_use]
    pub const fn canonical_arn(&self) -> CanonicalArn<'a> {
        self.arn.canonical()
    }

    /// Who it is.
    #[must_use]
    pub const fn principal(&self) -> Principal<'a> {
        self.arn.principal()
    }

    /// The unique id, without a role's session.
    #[must_use]
    pub const fn user_id(&self) -> &'a str {
        self.user_id
    }

    /// The session of a role; empty for all others. For the role of an EC2 instance it is the instance's id; whoever may assume a role can
    /// choose it.
    #[must_use]
    pub const fn session_name(&self) -> &'a str {
        self.session_name
    }
}

/// Where the parts of an [`Identity`] lie in what GetCallerIdentity says: ten bytes that are kept beside `Arn` and `UserId`, so that they need not be read and
/// checked again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IdentityShape {
    arn: ArnShape,
    session_name: u16,
}

impl IdentityShape {
    /// The identity. Nothing is checked but that the parts lie within the texts: they have to be those of which this is the shape.
    #[must_use]
    pub fn over<'a>(self, arn: &'a str, user_id: &'a str) -> Option<Identity<'a>> {
        let arn = self.arn.over(arn)?;
        let (user_id, session_name) = match arn.principal() {
            Principal::AssumedRole { .. } | Principal::Role { .. } => {
                let (id, session_name) = split_last(user_id, self.session_name)?;
                (id.strip_suffix(':')?, session_name)
            }
            Principal::FederatedUser { .. } | Principal::Root | Principal::User { .. } => (user_id, ""),
        };
        Some(Identity { arn, user_id, session_name })
    }
}

/// Why an answer of GetCallerIdentity is no identity.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IdentityError {
    /// `Account` is not the ARN's.
    Account,
    /// `Arn` is not that of a principal.
    Arn(ArnError),
    /// Another partition than the configured one.
    Partition,
    /// The session in `UserId` is not the ARN's.
    Session,
    /// `UserId` is empty, too long, or has control characters.
    UserId,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("the account is not that of the ARN"),
            Self::Arn(error) => error.fmt(f),
            Self::Partition => f.write_str("the ARN is of another partition than the configured one"),
            Self::Session => f.write_str("the session in the user id is not that of the ARN"),
            Self::UserId => f.write_str("the user id is empty, longer than 256 bytes, or has control characters"),
        }
    }
}

impl core::error::Error for IdentityError {}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString as _;

    use super::*;

    const ROLE: &str = "arn:aws:sts::123456789012:assumed-role/Admin/jane@example.com";

    fn check<'a>(account: &str, arn: &'a str, user_id: &'a str) -> Result<Identity<'a>, IdentityError> {
        Identity::check(Partition::Aws, account, arn, user_id)
    }

    #[test]
    fn splits_the_session_off_a_role() {
        let identity = check("123456789012", ROLE, "AROAEXAMPLE:jane@example.com").unwrap();
        assert_eq!(identity.user_id(), "AROAEXAMPLE");
        assert_eq!(identity.session_name(), "jane@example.com");
        assert_eq!(identity.canonical_arn().to_string(), "arn:aws:iam::123456789012:role/Admin");
    }

    #[test]
    fn takes_the_user_id_of_others_whole() {
        // Of a federated user the part before the colon is the account only, which would be root's id.
        let arn = "arn:aws:sts::123456789012:federated-user/Bob";
        let identity = check("123456789012", arn, "123456789012:Bob").unwrap();
        assert_eq!((identity.user_id(), identity.session_name()), ("123456789012:Bob", ""));
    }

    #[test]
    fn refuses_parts_that_do_not_agree() {
        for (account, arn, user_id, error) in [
            ("123456789012", ROLE, "AROAEXAMPLE:joe", IdentityError::Session),
            ("123456789012", ROLE, "AROAEXAMPLE", IdentityError::Session),
            ("123456789012", ROLE, ":jane@example.com", IdentityError::UserId),
            ("123456789012", ROLE, "", IdentityError::Session),
            ("123456789013", ROLE, "AROAEXAMPLE:jane@example.com", IdentityError::Account),
            ("", ROLE, "AROAEXAMPLE:jane@example.com", IdentityError::Account),
            ("123456789012", "arn:aws:iam::123456789012:user/Bob", "", IdentityError::UserId),
            ("123456789012", "arn:aws:iam::123456789012:user/Bob", "AIDA\u{1b}[2J", IdentityError::UserId),
            ("123456789012", "arn:aws:iam::123456789012:user/\u{1b}", "AIDA", IdentityError::Arn(ArnError::Bytes)),
            ("123456789012", "arn:aws-cn:iam::123456789012:user/Bob", "AIDA", IdentityError::Partition),
        ] {
            assert_eq!(check(account, arn, user_id), Err(error), "{arn} {user_id:?}");
        }
    }

    #[test]
    fn whatever_was_checked_is_put_together_again_by_its_shape() {
        for (arn, user_id) in [
            (ROLE, "AROAEXAMPLE:jane@example.com"),
            ("arn:aws:sts::123456789012:assumed-role/a/path/Admin/jane", "AROAEXAMPLE:jane"),
            ("arn:aws:iam::123456789012:role/Admin", "AROAEXAMPLE:jane"),
            ("arn:aws:iam::123456789012:user/path/Bob", "AIDAEXAMPLE"),
            ("arn:aws:iam::123456789012:root", "123456789012"),
            ("arn:aws:sts::123456789012:federated-user/Bob", "123456789012:Bob"),
        ] {
            let identity = check("123456789012", arn, user_id).unwrap();
            assert_eq!(identity.shape().over(arn, user_id), Some(identity));
            for (arn, user_id) in [("", user_id), (arn, ""), (&arn[1..], user_id), (arn, &user_id[1..]), ("é", "é")] {
                let _ = identity.shape().over(arn, user_id);
            }
        }
    }
}
