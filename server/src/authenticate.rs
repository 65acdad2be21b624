//! The conductor: from a token to a Kubernetes user, without any I/O of its own.
//!
//! ```text
//! token ─► keys at hand                   offline, in place, where they come first: what they prove is not kept
//!       ─► digest ─► identity_cache       a hit: who signed is known, both of its instants are checked again
//!       ─► core: well-formed, fresh, ours to send?      a refusal stops here, at no cost to anybody
//!       ─► flight ─► Realm::ask           one for each token: a caller that hangs up changes nothing
//! identity ─► mapping: the snapshot in force
//!       ─► answer, while all of it is at hand to borrow
//! ```
//!
//! [`identify`] is the first half. It does not wait: it says who signed, or gives a [`Question`] that no longer needs the token, so that those who wait hold
//! nothing of their request. [`decide`] is the second half. It does not wait either: where a mapping wants the name of an EC2 instance, which somebody has to be
//! asked for, it says so ([`Undecided`]), and [`Undecided::decide`] is the way that waits.

use std::ops::ControlFlow;
use std::sync::Arc;

use arngate_core::arn::CanonicalArn;
use arngate_core::{Error, Identity, StsRequest, TokenBuffer};
use futures_util::FutureExt as _;

use crate::clock::Now;
use crate::cluster::{Cluster, Landed};
use crate::ec2;
use crate::flight::{Boarded, Full, Passenger, Waiter};
use crate::identity_cache::{Digest, Found};
use crate::mapping::{BackendMode, Mapped, Outcome as LookUp};
use crate::metrics::Way;
use crate::prover::sts::Client;
use crate::prover::{AtHand, First, Outcome, ProveError, Source, VerifiedIdentity};

/// Why somebody is not let in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthError {
    /// A mapping wants the private DNS name of an instance, and there is none.
    #[error("the mapping wants {{{{EC2PrivateDNSName}}}}: {0}")]
    Ec2(#[from] ec2::Failure),
    /// A mapping wants the private DNS name of an instance, and the session is not named after one.
    #[error("the mapping wants {{{{EC2PrivateDNSName}}}}, and the session name is not an instance id")]
    NotAnInstance,
    /// Nobody that we know of has mapped the identity, and one backend is not loaded yet.
    #[error("identity is not mapped so far, and the mappings of {mode} are not loaded yet")]
    NotLoaded {
        /// The backend.
        mode: BackendMode,
    },
    /// Nobody has mapped the identity.
    #[error("identity is not mapped")]
    NotMapped,
    /// A proof ended in a panic; counted and told where it happened.
    #[error("internal error")]
    Panicked,
    /// There was no place to have it proved.
    #[error(transparent)]
    Full(#[from] Full),
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
            Self::Full(_) => "overloaded",
            Self::Ec2(failure) => failure.reason(),
            Self::NotAnInstance => "not-an-instance",
            Self::NotLoaded { .. } => "not-loaded",
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
    /// The identity, put together once for all who ask below.
    pub identity: Identity<'a>,
    /// The proof that it is so.
    pub proof: &'a VerifiedIdentity,
}

/// What is known at the end.
#[derive(Debug)]
pub struct Verdict<'a> {
    /// How it was found out who signed.
    pub way: Way,
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

/// Who signed, or why that is not known; and how that was found out.
#[derive(Debug)]
pub struct Identified {
    way: Way,
    signer: Result<Arc<VerifiedIdentity>, AuthError>,
}

/// Where the question who signed a token stands once the token has been looked at.
#[derive(Debug)]
pub enum Question {
    /// Answered.
    Answered(Identified),
    /// A proof is under way.
    Asked {
        /// The wait for it.
        waiter: Waiter<Landed>,
        /// Who signed, as it was known before, to be believed if nobody can say.
        stale: Option<Arc<VerifiedIdentity>>,
    },
}

impl Question {
    const fn answered(way: Way, signer: Result<Arc<VerifiedIdentity>, AuthError>) -> Self {
        Self::Answered(Identified { way, signer })
    }

    /// No token that anybody is asked about.
    fn unfit(error: Error) -> Self {
        Self::answered(Way::Nowhere, Err(ProveError::from(error).into()))
    }

    /// Waits for the answer, if it is not there yet. What was known before is believed if nobody can say, a panic included, and if the token has not ended
    /// meanwhile.
    pub async fn answer(self, cluster: &Cluster) -> Identified {
        let (waiter, stale) = match self {
            Self::Answered(identified) => return identified,
            Self::Asked { waiter, stale } => (waiter, stale),
        };
        let way = if waiter.has_joined() { Way::Coalesced } else { Way::Miss };
        let error = match waiter.landed().await {
            Some(Ok(identity)) => return Identified { way, signer: Ok(identity) },
            Some(Err(error)) if error.outcome() == Outcome::Refused => return Identified { way, signer: Err(error.into()) },
            Some(Err(error)) => error.into(),
            // Nobody aborts a proof, so this is a panic; the hook has told where.
            None => AuthError::Panicked,
        };
        match stale.filter(|known| known.is_alive(cluster.clock.now())) {
            Some(known) => Identified { way: Way::Stale, signer: Ok(known) },
            None => Identified { way, signer: Err(error) },
        }
    }
}

/// Who signed a token: what can be said at once, or a proof to wait for.
///
/// To be called within a runtime.
#[must_use]
pub fn identify(cluster: &Arc<Cluster>, token: &[u8], now: Now) -> Question {
    let realm = &cluster.realm;
    // Made where it is wanted: a hit of what STS has said needs none.
    let mut buffer;
    let (checked, client) = match realm.first() {
        First::Sts(client) => (None, client),
        First::Keys => {
            buffer = TokenBuffer::new();
            let request = match realm.check(token, &mut buffer, now.unix) {
                Ok(request) => request,
                Err(error) => return Question::unfit(error),
            };
            match realm.prove_at_hand(&request, now) {
                // Not kept: to find it would take as long as to prove it.
                AtHand::Decided(proved) => return Question::answered(Way::AtHand, proved.map(Arc::new).map_err(AuthError::from)),
                AtHand::Ask(client) => (Some(request), client),
            }
        }
    };
    // Before anything is looked up: what is proved from here on is kept under this generation or an older one.
    let digest = cluster.digester.digest(realm.generation(), token);
    let stale = match recall(cluster, &digest, now) {
        ControlFlow::Break(answered) => return answered,
        ControlFlow::Continue(stale) => stale,
    };
    // Borrowed: most of what is wrong with a token is found here, before a task is made for it.
    let request = match checked {
        Some(request) => request,
        None => {
            buffer = TokenBuffer::new();
            match realm.check(token, &mut buffer, now.unix) {
                Ok(request) => request,
                Err(error) => return Question::unfit(error),
            }
        }
    };
    ask(cluster, client, &request, token, digest, stale, now)
}

/// What STS has said of a token before; else the question goes on, with who signed it as far as that was known.
fn recall(cluster: &Cluster, digest: &Digest, now: Now) -> ControlFlow<Question, Option<Arc<VerifiedIdentity>>> {
    let stale = match cluster.identities.get(digest, now) {
        Found::Fresh(identity) => return ControlFlow::Break(Question::answered(Way::Hit, Ok(identity))),
        Found::Stale(identity) => Some(identity),
        Found::Missing => None,
    };
    let Some(error) = cluster.identities.refusal(digest, now) else { return ControlFlow::Continue(stale) };
    ControlFlow::Break(match stale {
        Some(known) if error.outcome() != Outcome::Refused => Question::answered(Way::Stale, Ok(known)),
        _ => Question::answered(Way::NegativeHit, Err(error.into())),
    })
}

/// Has STS asked, unless somebody does so already.
fn ask(
    cluster: &Arc<Cluster>,
    client: &Client,
    request: &StsRequest<'_>,
    token: &[u8],
    digest: Digest,
    stale: Option<Arc<VerifiedIdentity>>,
    now: Now,
) -> Question {
    // What the token says of itself; the lanes behind give nobody more than his share of it.
    let claimant = client.claimant(request, now);
    let passenger = if claimant.is_known() { Passenger::Known } else { Passenger::Stranger };
    let known = || match cluster.identities.get(&digest, now) {
        Found::Fresh(identity) => Some(Ok(identity)),
        Found::Stale(_) | Found::Missing => cluster.identities.refusal(&digest, now).map(Err),
    };
    let prove = || {
        let cluster = Arc::clone(cluster);
        cluster.realm.ask(client, request, claimant, token, now).map(move |proved| keep(&cluster, digest, proved, now))
    };
    match cluster.flights.board(digest, passenger, known, prove) {
        Ok(Boarded::Waiting(waiter)) => Question::Asked { waiter, stale },
        Ok(Boarded::Landed(landed)) => Question::answered(Way::Coalesced, landed.map_err(AuthError::from)),
        Err(full) => match stale {
            Some(known) => Question::answered(Way::Stale, Ok(known)),
            None => Question::answered(Way::Nowhere, Err(full.into())),
        },
    }
}

/// Keeps what a proof has come to, for all who ask from now on.
fn keep(cluster: &Cluster, digest: Digest, proved: Result<VerifiedIdentity, ProveError>, now: Now) -> Landed {
    match proved {
        Ok(identity) => {
            if let (Source::Sts, Some(keys)) = (identity.source(), cluster.realm.known_keys()) {
                keys.proved(identity.access_key_id(), is_let_in(cluster, &identity), now.monotonic);
            }
            let identity = Arc::new(identity);
            cluster.identities.insert(digest, Arc::clone(&identity));
            Ok(identity)
        }
        Err(error) => {
            cluster.identities.failed(digest, &error, cluster.clock.now());
            Err(error)
        }
    }
}

/// Whether the mappings in force let an identity in; if they want to know more first, it is one of ours.
fn is_let_in(cluster: &Cluster, identity: &VerifiedIdentity) -> bool {
    match cluster.mappings.current().look_up(&identity.identity(), identity.access_key_id()) {
        LookUp::AccountMapped(_) | LookUp::Mapped(_) | LookUp::NeedsEc2 { .. } => true,
        LookUp::NotAnInstance { .. } | LookUp::NotLoaded { .. } | LookUp::NotMapped | LookUp::Reserved { .. } => false,
    }
}

/// What the signer is called, of which `answer` makes what it needs.
///
/// # Errors
///
/// [`Undecided`], with `answer`, where the name of an EC2 instance has to be looked up first.
pub fn decide<A, F: FnOnce(Verdict<'_>) -> A>(cluster: &Cluster, identified: Identified, answer: F) -> Result<A, Undecided<F>> {
    decide_with(cluster, identified, None, answer)
}

/// A decision that waits for the name of an EC2 instance.
#[derive(Debug)]
pub struct Undecided<F> {
    proof: Arc<VerifiedIdentity>,
    way: Way,
    answer: F,
}

impl<F> Undecided<F> {
    /// Looks the name up, and decides by the mappings that are in force then.
    ///
    /// Once is enough, whatever becomes of the mappings meanwhile: the instance is that of the identity, and the name that was found, or why there is none, stands for it
    /// in whichever mapping wants it.
    pub async fn decide<A>(self, cluster: &Cluster) -> A
    where
        F: FnOnce(Verdict<'_>) -> A,
    {
        let Self { proof, way, answer } = self;
        let name = cluster.ec2.of(proof.identity().session_name()).await;
        match decide_with(cluster, Identified { way, signer: Ok(proof) }, Some(&name), answer) {
            Ok(answer) => answer,
            Err(_) => unreachable!("with a name, or a reason why there is none, every look-up comes to an end"),
        }
    }
}

/// `name`: what a look-up of the instance after which the session is named has come to, if there was one.
fn decide_with<A, F: FnOnce(Verdict<'_>) -> A>(
    cluster: &Cluster,
    identified: Identified,
    name: Option<&Result<Arc<str>, ec2::Failure>>,
    answer: F,
) -> Result<A, Undecided<F>> {
    let Identified { way, signer } = identified;
    Ok(match signer {
        Ok(proof) => {
            let snapshot = cluster.mappings.current();
            let signer = Signer { identity: proof.identity(), proof: &proof };
            let scrubbed = snapshot.is_scrubbed(signer.identity.account_id());
            let ec2_name = name.and_then(|name| name.as_deref().ok());
            let user = match snapshot.look_up_named(&signer.identity, proof.access_key_id(), ec2_name) {
                LookUp::AccountMapped(arn) => Ok(User::Account(arn)),
                LookUp::Mapped(mapped) => Ok(User::Mapped(mapped)),
                LookUp::NeedsEc2 { .. } => match name {
                    Some(Err(failure)) => Err(AuthError::Ec2(failure.clone())),
                    _ => {
                        drop(snapshot);
                        return Err(Undecided { proof, way, answer });
                    }
                },
                LookUp::NotAnInstance { .. } => Err(AuthError::NotAnInstance),
                LookUp::NotLoaded { mode } => Err(AuthError::NotLoaded { mode }),
                LookUp::NotMapped => Err(AuthError::NotMapped),
                LookUp::Reserved { mode, .. } => Err(AuthError::Reserved { mode }),
            };
            answer(Verdict { way, signer: Some(signer), scrubbed, user })
        }
        Err(error) => answer(Verdict { way, signer: None, scrubbed: false, user: Err(error) }),
    })
}

/// What a failure means to the one who asked: the same four ends for proofs and mappings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Denied: the token or the identity is not good enough.
    Denied,
    /// We are broken.
    Broken,
    /// We cannot do it now: by our own limits, or because mappings are still being loaded.
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
            // A moment may help where nobody could say: the API server tries a 504 five times. It tries no 503 again, which spares EC2 where it throttles, and us where
            // an operator has to do something first.
            Self::Ec2(failure) => match failure {
                ec2::Failure::Late { .. } | ec2::Failure::NoNameYet | ec2::Failure::Unavailable { .. } => Ending::Unavailable,
                ec2::Failure::NoSuchInstance => Ending::Denied,
                ec2::Failure::NoRegion
                | ec2::Failure::Overloaded
                | ec2::Failure::Refused { .. }
                | ec2::Failure::Throttled
                | ec2::Failure::Unsigned => Ending::Overloaded,
            },
            Self::Full(_) | Self::NotLoaded { .. } => Ending::Overloaded,
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
