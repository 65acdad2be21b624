//! Credentials that the fake STS knows, and made-up ones to test with.
//!
//! Secrets are kept in memory as they are: this is a test tool, never give it a real one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use arngate_core::UnixSeconds;
use arngate_core::arn::{Arn, ArnError, Principal};
use arngate_core::presigned::AccessKeyId;
use serde::Deserialize;

/// The access key id of AWS' documentation, of a user.
///
/// AWS: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html>.
pub const EXAMPLE_ACCESS_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";

/// The same for temporary credentials, which go with [`EXAMPLE_SESSION_TOKEN`].
pub const EXAMPLE_TEMPORARY_ACCESS_KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";

/// The secret access key of AWS' documentation (same source as [`EXAMPLE_ACCESS_KEY_ID`]).
pub const EXAMPLE_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// A made-up session token as long as a role's usually is, with the characters that have to be escaped in a query: `+`, `/` and `=`.
pub const EXAMPLE_SESSION_TOKEN: &str = "\
    IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMSJHMEUCIQDmadeUpEXAMPLE+tokenXforXtestsXonlyXnobodyXcanXopenXitAAAAAAAAAAAAAA\
    /0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\
    +0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ//0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\
    /0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ++0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\
    +0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\
    /0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ//0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\
    +0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ++0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\
    /0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWX==";

/// Who the owner of a credential is, as GetCallerIdentity tells it.
///
/// Nothing here is checked: a fake may be asked to tell nonsense.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CallerIdentity {
    /// `Account`.
    pub account: String,
    /// `Arn`.
    pub arn: String,
    /// `UserId`; of an assumed role `ID:session`.
    pub user_id: String,
}

impl CallerIdentity {
    /// An identity whose account is the ARN's.
    ///
    /// # Errors
    ///
    /// Where `arn` is not that of a principal.
    pub fn of_arn(arn: impl Into<String>, user_id: impl Into<String>) -> Result<Self, ArnError> {
        let arn = arn.into();
        let account = Arn::parse(&arn)?.account_id().to_owned();
        Ok(Self { account, arn, user_id: user_id.into() })
    }
}

/// An access key, its secret, and whose it is. Debug tells neither the secret nor the session token.
#[derive(Clone)]
pub struct Credential {
    access_key_id: String,
    secret: String,
    session_token: Option<String>,
    session_ends_at: Option<UnixSeconds>,
    identity: CallerIdentity,
}

impl Credential {
    /// A long-term credential, without a session token.
    ///
    /// # Errors
    ///
    /// [`CredentialError::AccessKeyId`] where no verifier could take the access key id.
    pub fn new(access_key_id: impl Into<String>, secret: impl Into<String>, identity: CallerIdentity) -> Result<Self, CredentialError> {
        let access_key_id = access_key_id.into();
        if AccessKeyId::parse(&access_key_id).is_err() {
            return Err(CredentialError::AccessKeyId);
        }
        Ok(Self { access_key_id, secret: secret.into(), session_token: None, session_ends_at: None, identity })
    }

    /// This credential as a temporary one, which counts only together with that session token.
    #[must_use]
    pub fn with_session_token(self, session_token: impl Into<String>) -> Self {
        Self { session_token: Some(session_token.into()), ..self }
    }

    /// This credential with an end, after which STS answers `ExpiredToken`.
    #[must_use]
    pub fn ending_at(self, instant: UnixSeconds) -> Self {
        Self { session_ends_at: Some(instant), ..self }
    }

    /// A user, `arn:aws:iam::123456789012:user/Alice`, with the made-up key of AWS' documentation.
    #[must_use]
    pub fn example_user() -> Self {
        Self {
            access_key_id: EXAMPLE_ACCESS_KEY_ID.into(),
            secret: EXAMPLE_SECRET.into(),
            session_token: None,
            session_ends_at: None,
            identity: CallerIdentity {
                account: "123456789012".into(),
                arn: "arn:aws:iam::123456789012:user/Alice".into(),
                user_id: "AIDACKCEVSQ6C2EXAMPLE".into(),
            },
        }
    }

    /// A session of a role, `arn:aws:sts::123456789012:assumed-role/Admin/jane@example.com`, with a session token of 1 kB.
    #[must_use]
    pub fn example_role() -> Self {
        Self {
            access_key_id: EXAMPLE_TEMPORARY_ACCESS_KEY_ID.into(),
            session_token: Some(EXAMPLE_SESSION_TOKEN.into()),
            identity: CallerIdentity {
                account: "123456789012".into(),
                arn: "arn:aws:sts::123456789012:assumed-role/Admin/jane@example.com".into(),
                user_id: "AROACKCEVSQ6C2EXAMPLE:jane@example.com".into(),
            },
            ..Self::example_user()
        }
    }

    /// The access key id: 16 to 128 of `[A-Za-z0-9_]`.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The secret access key.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// What goes with temporary credentials.
    #[must_use]
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// The last instant at which it counts.
    #[must_use]
    pub const fn session_ends_at(&self) -> Option<UnixSeconds> {
        self.session_ends_at
    }

    /// Whose it is.
    #[must_use]
    pub const fn identity(&self) -> &CallerIdentity {
        &self.identity
    }

    /// Reads a file of credentials.
    ///
    /// # Syntax
    ///
    /// A JSON array of `{"accessKeyId", "secretAccessKey", "sessionToken"?, "sessionEndsAt"? (seconds since 1970), "account"? (by default the
    /// ARN's), "arn", "userId"}`.
    ///
    /// # Errors
    ///
    /// [`CredentialFileError`] names the file.
    pub fn load(path: &Path) -> Result<Vec<Self>, CredentialFileError> {
        let text = std::fs::read(path).map_err(|source| CredentialFileError::Read { path: path.to_owned(), source })?;
        // What serde_json says of a wrong type may quote the value; a secret in the wrong place would be printed.
        let entries: Vec<Entry> = serde_json::from_slice(&text).map_err(|error| CredentialFileError::Form {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })?;
        let credential = |(index, entry): (usize, Entry)| {
            entry.credential().map_err(|source| CredentialFileError::Entry { path: path.to_owned(), number: index + 1, source })
        };
        entries.into_iter().enumerate().map(credential).collect()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("access_key_id", &self.access_key_id).field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl FromStr for Credential {
    type Err = CredentialError;

    /// Reads a credential from a command line.
    ///
    /// # Syntax
    ///
    /// ```text
    /// credential = access-key-id ":" secret ":" arn ":" user-id [ ":" session-token ]
    /// ```
    ///
    /// The ARN has five colons; the user id of an assumed role or a federated user has one (`ID:session`), that of others none. A path of a
    /// user may hold a colon: such a user fits into a file only.
    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let mut parts = text.splitn(3, ':');
        let (Some(access_key_id), Some(secret), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(CredentialError::Form);
        };
        let (arn_end, _) = rest.match_indices(':').nth(5).ok_or(CredentialError::Form)?;
        let (arn, rest) = (&rest[..arn_end], &rest[arn_end + 1..]);
        let user_id_colons = match Arn::parse(arn)?.principal() {
            Principal::AssumedRole { .. } | Principal::FederatedUser { .. } => 1,
            Principal::Role { .. } | Principal::Root | Principal::User { .. } => 0,
        };
        let (user_id, session_token) = match rest.match_indices(':').nth(user_id_colons) {
            Some((end, _)) => (&rest[..end], Some(&rest[end + 1..])),
            None => (rest, None),
        };
        let credential = Self::new(access_key_id, secret, CallerIdentity::of_arn(arn, user_id)?)?;
        Ok(match session_token {
            Some(session_token) => credential.with_session_token(session_token),
            None => credential,
        })
    }
}

/// An entry of a file of credentials.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    session_ends_at: Option<i64>,
    account: Option<String>,
    arn: String,
    user_id: String,
}

impl Entry {
    fn credential(self) -> Result<Credential, CredentialError> {
        let identity = match self.account {
            Some(account) => CallerIdentity { account, arn: self.arn, user_id: self.user_id },
            None => CallerIdentity::of_arn(self.arn, self.user_id)?,
        };
        let credential = Credential::new(self.access_key_id, self.secret_access_key, identity)?;
        Ok(Credential { session_token: self.session_token, session_ends_at: self.session_ends_at.map(UnixSeconds::new), ..credential })
    }
}

/// Why a text is no credential. Nothing of the text is inside, for a secret may be.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CredentialError {
    /// Not 16 to 128 of `[A-Za-z0-9_]`.
    #[error("the access key id is not 16 to 128 letters, digits or underscores")]
    AccessKeyId,
    /// Not the ARN of a principal.
    #[error(transparent)]
    Arn(#[from] ArnError),
    /// Parts are missing.
    #[error("expected ACCESS_KEY_ID:SECRET:ARN:USER_ID[:SESSION_TOKEN]")]
    Form,
}

/// Why a file of credentials could not be used.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CredentialFileError {
    /// An entry is no credential.
    #[error("{}: credential {number}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Its place, from one.
        number: usize,
        /// What is wrong with it.
        source: CredentialError,
    },
    /// Not JSON of the expected shape.
    #[error("{}:{line}:{column}: not a JSON array of credentials with accessKeyId, secretAccessKey, arn and userId", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Line, from one.
        line: usize,
        /// Column, from one.
        column: usize,
    },
    /// It could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_users_and_roles_from_a_command_line() {
        let user: Credential = "AKIAIOSFODNN7EXAMPLE:se/cr+et:arn:aws:iam::123456789012:user/Bob:AIDAEXAMPLE".parse().unwrap();
        assert_eq!((user.access_key_id(), user.secret(), user.session_token()), ("AKIAIOSFODNN7EXAMPLE", "se/cr+et", None));
        assert_eq!((user.identity().account.as_str(), user.identity().user_id.as_str()), ("123456789012", "AIDAEXAMPLE"));

        let role = "ASIAIOSFODNN7EXAMPLE:secret:arn:aws:sts::123456789012:assumed-role/Admin/jane:AROAEXAMPLE:jane:tok/en==";
        let role: Credential = role.parse().unwrap();
        assert_eq!(role.identity().arn, "arn:aws:sts::123456789012:assumed-role/Admin/jane");
        assert_eq!((role.identity().user_id.as_str(), role.session_token()), ("AROAEXAMPLE:jane", Some("tok/en==")));
    }

    #[test]
    fn refuses_what_is_no_credential() {
        for (text, error) in [
            ("", CredentialError::Form),
            ("AKIAIOSFODNN7EXAMPLE:secret", CredentialError::Form),
            ("AKIAIOSFODNN7EXAMPLE:secret:arn:aws:iam::123456789012:user/Bob", CredentialError::Form),
            ("AKIA:secret:arn:aws:iam::123456789012:user/Bob:AIDA", CredentialError::AccessKeyId),
            ("AKIAIOSFODNN7EXAMPLE:secret:arn:aws:s3::123456789012:user/Bob:AIDA", CredentialError::Arn(ArnError::Service)),
        ] {
            assert_eq!(text.parse::<Credential>().unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn debug_hides_secret_and_session_token() {
        let text = format!("{:?}", Credential::example_role());
        assert!(text.contains(EXAMPLE_TEMPORARY_ACCESS_KEY_ID));
        assert!(!text.contains(EXAMPLE_SECRET) && !text.contains("IQoJ"), "{text}");
    }

    #[test]
    fn the_session_token_is_as_long_as_a_role_has_it() {
        assert_eq!(EXAMPLE_SESSION_TOKEN.len(), 1015);
    }

    #[test]
    fn reads_a_file_and_names_it_in_errors() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials.json");
        let write = |text: &str| std::fs::write(&path, text).unwrap();

        write(
            r#"[{"accessKeyId":"ASIAIOSFODNN7EXAMPLE","secretAccessKey":"s","sessionToken":"t","sessionEndsAt":1795521600,
                "arn":"arn:aws:iam::123456789012:user/a:b","userId":"AIDA"}]"#,
        );
        let [credential] = Credential::load(&path).unwrap().try_into().unwrap();
        assert_eq!((credential.session_token(), credential.session_ends_at()), (Some("t"), Some(UnixSeconds::new(1_795_521_600))));
        assert_eq!(credential.identity().arn, "arn:aws:iam::123456789012:user/a:b");

        write("[\n{\"accessKeyId\":7, \"secretAccessKey\":\"do-not-print\"}]");
        let error = Credential::load(&path).unwrap_err().to_string();
        assert!(error.contains("credentials.json:2:") && !error.contains("do-not-print"), "{error}");
        write(r#"[{"accessKeyId":"AKIA","secretAccessKey":"s","account":"1","arn":"x","userId":"AIDA"}]"#);
        assert!(Credential::load(&path).unwrap_err().to_string().ends_with("credential 1"));
    }
}
