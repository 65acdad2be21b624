//! The proof that a token was signed by who it says.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use arngate_core::identity::{IdentityError, IdentityShape};
use arngate_core::{Identity, UnixSeconds};

use super::Realm;
use crate::clock::Now;

/// Who found out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// We, with a key of the bundle.
    Offline,
    /// STS.
    Sts,
}

impl Source {
    /// The name in settings, logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Sts => "sts",
        }
    }
}

/// What a prover tells.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) account: &'a str,
    pub(super) arn: &'a str,
    /// With the session, for a role.
    pub(super) user_id: &'a str,
}

/// What a token says of itself; worth something once it is proved.
pub(super) struct Claim<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) host: &'a dyn fmt::Display,
    pub(super) ends_at: UnixSeconds,
}

/// Length of a host of STS, more or less, in bytes.
pub(super) const HOST_USUAL_BYTES: usize = 32;

/// An identity that was proved, by whom, when and for which cluster. Only the provers make one.
///
/// Owned and compact, for many of them are cached: one text holds all of its parts. It cannot be read back from a serialised form, for that
/// would be a second way to make one.
#[derive(Clone, Eq, PartialEq)]
pub struct VerifiedIdentity {
    /// ARN, user id (with the session), access key id and host, one behind the other.
    text: Box<str>,
    arn_end: u16,
    user_id_end: u16,
    access_key_id_end: u16,
    shape: IdentityShape,
    source: Source,
    cluster_id: Arc<str>,
    proved_at: Now,
    ends_at: UnixSeconds,
}

impl VerifiedIdentity {
    pub(super) fn new(realm: &Realm, claim: &Claim<'_>, source: Source, now: Now, told: Told<'_>) -> Result<Self, IdentityError> {
        let shape = Identity::check(realm.partition, told.account, told.arn, told.user_id)?.shape();
        let mut text = String::with_capacity(told.arn.len() + told.user_id.len() + claim.access_key_id.len() + HOST_USUAL_BYTES);
        let mut end_of = |part: &str| {
            text.push_str(part);
            // All four are bounded by the core, to 2500 bytes together.
            u16::try_from(text.len()).unwrap_or(u16::MAX)
        };
        let (arn_end, user_id_end, access_key_id_end) = (end_of(told.arn), end_of(told.user_id), end_of(claim.access_key_id));
        // A string takes whatever is written.
        let _ = write!(text, "{}", claim.host);
        Ok(Self {
            text: text.into(),
            arn_end,
            user_id_end,
            access_key_id_end,
            shape,
            source,
            cluster_id: Arc::clone(&realm.cluster_id),
            proved_at: now,
            ends_at: claim.ends_at,
        })
    }

    /// Who signed.
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        let (arn, user_id) = (self.part(0, self.arn_end), self.part(self.arn_end, self.user_id_end));
        self.shape.over(arn, user_id).expect("taken in `new`, the only constructor, from the same texts")
    }

    /// Whose key it was signed with.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        self.part(self.user_id_end, self.access_key_id_end)
    }

    /// The host that the token is for, whether or not it was asked.
    #[must_use]
    pub fn sts_host(&self) -> &str {
        self.text.get(usize::from(self.access_key_id_end)..).unwrap_or_default()
    }

    /// The cluster that it was proved for.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Who found out.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// When the proof began.
    #[must_use]
    pub const fn proved_at(&self) -> Now {
        self.proved_at
    }

    /// The last second of the token's life.
    #[must_use]
    pub const fn ends_at(&self) -> UnixSeconds {
        self.ends_at
    }

    /// How long ago it was proved, by the monotonic clock.
    #[must_use]
    pub const fn age(&self, now: Now) -> Duration {
        now.monotonic.saturating_sub(self.proved_at.monotonic)
    }

    /// Whether the token has not ended, by both clocks: what it had left when it was proved has to cover what has passed since, whatever the wall clock says,
    /// and the other way round.
    #[must_use]
    pub fn is_alive(&self, now: Now) -> bool {
        let left = self.ends_at.as_i64().saturating_sub(self.proved_at.unix.as_i64());
        now.unix <= self.ends_at && i64::try_from(self.age(now).as_secs()).unwrap_or(i64::MAX) <= left
    }

    /// Memory that it takes, in bytes, what all identities of a cluster share not counted.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }

    fn part(&self, start: u16, end: u16) -> &str {
        self.text.get(usize::from(start)..usize::from(end)).unwrap_or_default()
    }
}

impl fmt::Debug for VerifiedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.identity();
        f.debug_struct("VerifiedIdentity")
            .field("cluster_id", &self.cluster_id)
            .field("arn", &identity.arn())
            .field("user_id", &identity.user_id())
            .field("session_name", &identity.session_name())
            .field("access_key_id", &self.access_key_id())
            .field("sts_host", &self.sts_host())
            .field("source", &self.source)
            .field("proved_at", &self.proved_at)
            .field("ends_at", &self.ends_at)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SIGNER, keyring, realm};
    use super::super::{Prover, TokenBuffer};
    use super::*;

    fn verified(account: &str, arn: &str, user_id: &str) -> Result<VerifiedIdentity, IdentityError> {
        let realm = realm(vec![Prover::Offline(keyring())]);
        let token = SIGNER.token();
        let mut buffer = TokenBuffer::new();
        let now = Now { unix: UnixSeconds::new(1_795_521_600), monotonic: Duration::ZERO };
        let request = realm.check(token.as_bytes(), &mut buffer, now.unix).unwrap();
        let url = request.url();
        let claim = Claim { access_key_id: url.access_key_id().as_str(), host: &url.host(), ends_at: request.ends_at() };
        VerifiedIdentity::new(&realm, &claim, Source::Sts, now, Told { account, arn, user_id })
    }

    #[test]
    fn keeps_every_part_apart() {
        let arn = "arn:aws:sts::123456789012:assumed-role/Admin/jane@example.com";
        let verified = verified("123456789012", arn, "AROAEXAMPLE:jane@example.com").unwrap();
        let identity = verified.identity();
        assert_eq!((identity.account_id(), identity.arn()), ("123456789012", arn));
        assert_eq!((identity.user_id(), identity.session_name()), ("AROAEXAMPLE", "jane@example.com"));
        assert_eq!((verified.access_key_id(), verified.sts_host()), (SIGNER.access_key_id, "sts.us-east-1.amazonaws.com"));
    }

    #[test]
    fn is_made_of_nothing_that_does_not_agree() {
        let user = "arn:aws:iam::123456789012:user/x";
        assert_eq!(verified("123456789013", user, "AIDAEXAMPLE"), Err(IdentityError::Account));
        assert_eq!(verified("123456789012", user, ""), Err(IdentityError::UserId));
        assert_eq!(verified("123456789012", "arn:aws-cn:iam::123456789012:user/x", "AIDAEXAMPLE"), Err(IdentityError::Partition));
    }

    proptest::proptest! {
        #[test]
        fn whatever_could_be_made_can_be_read(
            arn in "(arn|ARN):(aws|AWS|aws-cn):(iam|sts)::[01]{12}:(user|role|root|assumed-role|federated-user)(/[a:é\u{1b} ]{0,3}){0,3}",
            user_id in "[A:é\u{1b}]{0,6}",
            account in "[01]{12}",
        ) {
            let told = arn.split(':').nth(4).unwrap_or_default();
            for account in [told, account.as_str()] {
                if let Ok(verified) = verified(account, &arn, &user_id) {
                    let (read, debug) = (verified.identity(), format!("{verified:?}"));
                    proptest::prop_assert_eq!((read.arn(), read.account_id()), (arn.as_str(), account));
                    proptest::prop_assert_eq!(debug.find('\u{1b}'), None);
                }
            }
        }
    }
}
