//! The conductor: from a token to a Kubernetes user, without any I/O of its own.
//!
//! ```text
//! token ─► core: well-formed, fresh, ours to send?      a refusal stops here, at no cost to anybody
//!       ─► a task of its own: prover::prove             a caller that hangs up changes nothing
//!       ─► mapping: the snapshot in force
//!       ─► answer, while all of it is at hand to borrow
//! ```
//!
//! What is between the token and the proof, a cache of identities and one proof for all who wait, has its place in [`identify`].

use std::sync::Arc;

use arngate_core::arn::CanonicalArn;
use arngate_core::{Identity, TokenBuffer};
use bytes::Bytes;

use crate::clock::Now;
use crate::cluster::Cluster;
use crate::mapping::{BackendMode, Mapped, Outcome as LookUp};
use crate::prover::{self, Outcome, OwnedToken, ProveError, VerifiedIdentity};

/// Why somebody is not let in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthError {
    /// A mapping wants the private DNS name of an instance, which this version does not look up.
    #[error("the mapping wants {{{{EC2PrivateDNSName}}}}, which this version cannot look up")]
    NeedsEc2,
    /// A mapping wants the private DNS name of an instance, and the session is not named after one.
    #[error("the mapping wants {{{{EC2PrivateDNSName}}}}, and the session name is not an instance id")]
    NotAnInstance,
    /// Nobody has mapped the identity.
    #[error("identity is not mapped")]
    NotMapped,
    /// A proof ended in a panic; counted and told where it happened.
    #[error("internal error")]
    Panicked,
    /// The token was not proved.
    #[error(transparent)]
    Proof(#[from] ProveError),
    /// The mapping gives a name that begins with a prefix that its backend may not give.
    #[error("the user name begins with a prefix that is reserved in {mode}")]
    Reserved {
        /// The backend.
        mode: BackendMode,
    },
}

impl AuthError {
    /// The stable label for metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NeedsEc2 => "needs-ec2",
            Self::NotAnInstance => "not-an-instance",
            Self::NotMapped => "not-mapped",
            Self::Panicked => "panic",
            Self::Proof(error) => error.reason(),
            Self::Reserved { .. } => "reserved-prefix",
        }
    }
}

/// A Kubernetes user.
#[derive(Debug)]
pub enum User<'a> {
    /// By his account: he is called by his canonical ARN, and has no groups.
    Account(CanonicalArn<'a>),
    /// By a mapping.
    Mapped(Mapped<'a>),
}

/// Who signed.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// The identity, read once for all who ask below: measured, [`VerifiedIdentity::identity`] takes a quarter of a microsecond each time, and six of them
    /// would be all that a request may take.
    pub identity: Identity<'a>,
    /// The proof that it is so.
    pub proof: &'a VerifiedIdentity,
}

/// What is known at the end.
#[derive(Debug)]
pub struct Verdict<'a> {
    /// Who signed, once that is proved.
    pub signer: Option<Signer<'a>>,
    /// Whether that identity's account is kept out of logs and answers.
    pub scrubbed: bool,
    /// What he is called, or why he is not let in.
    pub user: Result<User<'a>, AuthError>,
}

impl<'a> Verdict<'a> {
    /// Who signed, unless his account is kept out of sight.
    #[must_use]
    pub fn shown_signer(&self) -> Option<Signer<'a>> {
        self.signer.filter(|_| !self.scrubbed)
    }
}

/// Finds out whose token it is and what he is called, and has `answer` make of it what it needs.
pub async fn authenticate<A>(cluster: &Arc<Cluster>, token: &[u8], now: Now, answer: impl FnOnce(Verdict<'_>) -> A) -> A {
    match identify(cluster, token, now).await {
        Ok(proof) => {
            let snapshot = cluster.mappings.current();
            let signer = Signer { identity: proof.identity(), proof: &proof };
            let scrubbed = snapshot.is_scrubbed(signer.identity.account_id());
            let user = match snapshot.look_up(&signer.identity, proof.access_key_id()) {
                LookUp::AccountMapped(arn) => Ok(User::Account(arn)),
                LookUp::Mapped(mapped) => Ok(User::Mapped(mapped)),
                LookUp::NeedsEc2 { .. } => Err(AuthError::NeedsEc2),
                LookUp::NotAnInstance { .. } => Err(AuthError::NotAnInstance),
                LookUp::NotMapped => Err(AuthError::NotMapped),
                LookUp::Reserved { mode, .. } => Err(AuthError::Reserved { mode }),
            };
            answer(Verdict { signer: Some(signer), scrubbed, user })
        }
        Err(error) => answer(Verdict { signer: None, scrubbed: false, user: Err(error) }),
    }
}

/// Who signed the token.
async fn identify(cluster: &Arc<Cluster>, token: &[u8], now: Now) -> Result<VerifiedIdentity, AuthError> {
    // Borrowed, and in a block of its own: most of what is wrong with a token is found here, before a task is made for it.
    cluster.realm.check(token, &mut TokenBuffer::new(), now.unix).map_err(ProveError::from)?;
    let proof = prover::prove(Arc::clone(&cluster.realm), OwnedToken::new(Bytes::copy_from_slice(token)), now);
    match tokio::spawn(proof).await {
        Ok(proved) => Ok(proved?),
        // Nobody aborts a proof, so this is a panic; the hook has told where.
        Err(_) => Err(AuthError::Panicked),
    }
}

/// What a failure means to the one who asked: the same four ends for proofs and mappings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Denied: the token or the identity is not good enough.
    Denied,
    /// We are broken.
    Broken,
    /// We cannot do it now, by our own limits.
    Overloaded,
    /// STS throttles.
    Throttled,
    /// STS cannot say.
    Unavailable,
}

impl AuthError {
    /// How it ends.
    #[must_use]
    pub const fn ending(&self) -> Ending {
        match self {
            Self::NeedsEc2 => Ending::Overloaded,
            Self::NotAnInstance | Self::NotMapped | Self::Reserved { .. } => Ending::Denied,
            Self::Panicked => Ending::Broken,
            Self::Proof(error) => match error.outcome() {
                Outcome::Overloaded => Ending::Overloaded,
                Outcome::Refused => Ending::Denied,
                Outcome::Throttled => Ending::Throttled,
                Outcome::Unavailable => Ending::Unavailable,
            },
        }
    }
}
