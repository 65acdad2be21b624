//! Who proves a token, and what is known afterwards.
//!
//! SigV4 is symmetric: whoever can check a signature holds the signing key. So either AWS' own STS is asked ([`sts`]), or a key that was
//! derived for the day and the region is at hand ([`offline`]). A [`Chain`] says which of them are tried, in which order; [`Realm`] walks
//! it, first without waiting ([`Realm::prove_at_hand`]), then, if there is need, by asking ([`Realm::ask`]), and makes a [`VerifiedIdentity`], which nothing else can.
//!
//! Called by `authenticate`: for keys with each token, for STS once for each that is not known yet. Left out: caches, coalescing, and what the identity may do.

mod error;
pub mod offline;
pub mod sts;
mod verified_identity;

use std::fmt::{self, Write as _};
use std::sync::Arc;

use arngate_core::request::ClusterIdError;
use arngate_core::{ClusterId, Error, Partition, Policy, PresignedUrl, StsHosts, StsRequest, Token, TokenBuffer, UnixSeconds};
use bytes::Bytes;

use self::offline::{Keyring, Verdict};
use self::sts::{AnswerError, Claimant, Client, Failure, KnownKeys, OwnRegion, StsError};
use self::verified_identity::{Claim, HOST_USUAL_BYTES, Told};
use crate::clock::Now;

pub use self::error::{Fault, Outcome, ProveError};
pub use self::verified_identity::{Source, VerifiedIdentity};

/// The text of a bearer token, owned, so that a proof is tied to no request. Cloning shares the bytes.
#[derive(Clone, Eq, PartialEq)]
pub struct OwnedToken(Bytes);

impl OwnedToken {
    /// Takes the text as it came; whether it is a token is for [`prove`] to say.
    #[must_use]
    pub const fn new(text: Bytes) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for OwnedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// One way to prove a token.
#[derive(Clone, Debug)]
pub enum Prover {
    /// Keys that we were given.
    Offline(Arc<Keyring>),
    /// AWS.
    Sts(Client),
}

/// The provers, in the order in which they are tried: at least one, each kind once.
#[derive(Clone, Debug)]
pub struct Chain(Box<[Prover]>);

impl Chain {
    /// Makes a chain.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where it is empty or has a kind twice.
    pub fn new(provers: Vec<Prover>) -> Result<Self, ChainError> {
        let offline = provers.iter().filter(|prover| matches!(prover, Prover::Offline(_))).count();
        match (offline, provers.len()) {
            (_, 0) => Err(ChainError::Empty),
            (0 | 1, 1) | (1, 2) => Ok(Self(provers.into())),
            _ => Err(ChainError::Repeated),
        }
    }

    /// The provers in order.
    #[must_use]
    pub fn provers(&self) -> &[Prover] {
        &self.0
    }

    /// The keys that come after STS.
    fn keys_behind_sts(&self) -> Option<&Arc<Keyring>> {
        match &*self.0 {
            [Prover::Sts(_), Prover::Offline(keyring)] => Some(keyring),
            _ => None,
        }
    }
}

/// Why a list of provers is no [`Chain`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChainError {
    /// None.
    #[error("no prover is configured")]
    Empty,
    /// One kind twice.
    #[error("a prover is listed twice")]
    Repeated,
}

/// All that a proof depends on beside the token and the time: which cluster it is for, whose AWS, and who proves.
#[derive(Debug)]
pub struct Realm {
    cluster_id: Arc<str>,
    partition: Partition,
    own_region: OwnRegion,
    max_ahead_secs: u32,
    chain: Chain,
}

impl Realm {
    /// A realm.
    ///
    /// `own_region` is where the server itself runs, whose hosts are accepted whatever their shape; `max_ahead_secs` is how far ahead of
    /// our clock X-Amz-Date may lie, in seconds.
    ///
    /// # Errors
    ///
    /// [`ClusterIdError`] where the cluster id can be no header.
    pub fn new(
        cluster_id: &str,
        partition: Partition,
        own_region: Option<&str>,
        max_ahead_secs: u32,
        chain: Chain,
    ) -> Result<Self, ClusterIdError> {
        let cluster_id = ClusterId::parse(cluster_id)?.as_str().into();
        Ok(Self { cluster_id, partition, own_region: OwnRegion::told(own_region), max_ahead_secs, chain })
    }

    /// The same, in a region that may only be learnt later.
    #[must_use]
    pub fn with_own_region(self, own_region: OwnRegion) -> Self {
        Self { own_region, ..self }
    }

    /// Where the server itself runs.
    #[must_use]
    pub const fn own_region(&self) -> &OwnRegion {
        &self.own_region
    }

    /// The cluster.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The partition whose identities count.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// The hosts that a token may be for.
    #[must_use]
    pub fn hosts(&self) -> StsHosts<'_> {
        StsHosts::new(self.partition).with_own_region(self.own_region.get())
    }

    /// Who proves.
    #[must_use]
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Goes up whenever what this realm would say of a token may have changed: what was proved under an earlier one counts no more. To be read before anything
    /// is proved under it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.chain.provers().iter().fold(0, |sum: u64, prover| match prover {
            Prover::Offline(keyring) => sum.wrapping_add(keyring.generation()),
            Prover::Sts(_) => sum,
        })
    }

    /// Whose keys STS has proved and the mappings have let in; none where STS is not asked.
    #[must_use]
    pub fn known_keys(&self) -> Option<&KnownKeys> {
        self.chain.provers().iter().find_map(|prover| match prover {
            Prover::Offline(_) => None,
            Prover::Sts(client) => Some(client.known_keys()),
        })
    }

    /// Who is tried first.
    #[must_use]
    pub fn first(&self) -> First<'_> {
        match self.chain.provers() {
            [Prover::Sts(client), ..] => First::Sts(client),
            _ => First::Keys,
        }
    }

    /// Proves a token without asking anybody, as far as that leads: by the provers before the one that has to be asked.
    pub fn prove_at_hand(&self, request: &StsRequest<'_>, now: Now) -> AtHand<'_> {
        let mut undecided = None;
        for prover in self.chain.provers() {
            match prover {
                Prover::Offline(keyring) => match prove_offline(self, keyring, request, now) {
                    Err(error) if error.is_undecided() => undecided = Some(error),
                    decided => return AtHand::Decided(decided),
                },
                Prover::Sts(client) => return AtHand::Ask(client),
            }
        }
        AtHand::Decided(Err(undecided.expect("a chain has a prover, and each of them says something")))
    }

    /// Proves a token by asking STS, once [`Self::prove_at_hand`] has said so.
    ///
    /// The future owns what it needs and borrows nothing, so that it can be a task of its own: a caller that hangs up changes nothing. `claimant` is whoever
    /// `request` says has signed it, as `client` knows him; `token` is its text, which is kept only where there are keys for what STS cannot say.
    ///
    /// # Errors
    ///
    /// [`ProveError`].
    pub fn ask(
        self: &Arc<Self>,
        client: &Client,
        request: &StsRequest<'_>,
        claimant: Claimant,
        token: &[u8],
        now: Now,
    ) -> impl Future<Output = Result<VerifiedIdentity, ProveError>> + Send + use<> {
        let realm = Arc::clone(self);
        let (url, ends_at, must_exist) = (request.url(), request.ends_at(), self.must_exist(request));
        let (access_key_id, host) = (Box::<str>::from(url.access_key_id().as_str()), host_of(request));
        let call = client.caller_identity(request, &host, claimant, now);
        let behind = self.chain.keys_behind_sts().map(|keyring| (Arc::clone(keyring), OwnedToken::new(Bytes::copy_from_slice(token))));
        async move {
            let proved = match call.await {
                Ok(answer) => {
                    let told = Told { account: answer.account(), arn: answer.arn(), user_id: answer.user_id() };
                    let claim = Claim { access_key_id: &access_key_id, host: &host, ends_at };
                    let unfit = |error| Failure::Answer(AnswerError::Identity(error));
                    VerifiedIdentity::new(&realm, &claim, Source::Sts, now, told).map_err(unfit)
                }
                Err(Failure::NoSuchHost) if !must_exist => return Err(ProveError::NoSuchHost { host }),
                Err(failure) => Err(failure),
            };
            match (proved.map_err(|failure| ProveError::Sts(StsError { host, failure })), behind) {
                (Err(error), Some((keyring, token))) if error.is_undecided() => realm.prove_behind(&keyring, &token, error, now),
                (proved, _) => proved,
            }
        }
    }

    /// What the keys say of a token of which STS could not say anything. If that is nothing either, an answer of STS counts more than a gap in the bundle.
    fn prove_behind(&self, keyring: &Keyring, token: &OwnedToken, error: ProveError, now: Now) -> Result<VerifiedIdentity, ProveError> {
        let mut buffer = TokenBuffer::new();
        match prove_offline(self, keyring, &self.check(token.as_bytes(), &mut buffer, now.unix)?, now) {
            Err(nothing) if nothing.is_undecided() => Err(error),
            decided => decided,
        }
    }

    /// All that can be said of a token before anybody is asked.
    ///
    /// # Errors
    ///
    /// [`Error`], the refusals of the core.
    pub fn check<'t>(&'t self, token: &[u8], buffer: &'t mut TokenBuffer, now: UnixSeconds) -> Result<StsRequest<'t>, Error> {
        let url = PresignedUrl::parse(Token::decode(token, buffer)?, &self.hosts())?;
        let cluster_id = ClusterId::parse(&self.cluster_id).expect("checked in `new`, the only constructor");
        StsRequest::check(url, &Policy { cluster_id, max_ahead_secs: self.max_ahead_secs }, now)
    }

    /// Whether a host that is missing from DNS tells of our network rather than of the token: it is one that we know to exist.
    fn must_exist(&self, request: &StsRequest<'_>) -> bool {
        let host = request.url().host();
        host.is_global() || host.known_region().is_some() || self.own_region.get() == Some(host.region())
    }
}

/// Who is tried first.
#[derive(Clone, Copy, Debug)]
pub enum First<'c> {
    /// Keys: [`Realm::prove_at_hand`].
    Keys,
    /// STS: [`Realm::ask`].
    Sts(&'c Client),
}

/// What can be said of a token without asking anybody.
#[derive(Debug)]
pub enum AtHand<'c> {
    /// Who signed, or that nobody has whom we know.
    Decided(Result<VerifiedIdentity, ProveError>),
    /// Nothing: [`Realm::ask`].
    Ask(&'c Client),
}

/// Finds out who signed a token: all of the way from its text.
///
/// The provers are tried in order. A *proof* or a *refusal* ends the walk: a wrong signature under a key that we hold is never forwarded.
/// What a prover *cannot say* leads to the next one: a key that is not in the bundle, a day or region without a key, a session token
/// (offline), STS out of reach or throttling. If none is left, an answer of STS counts more than a gap in the bundle.
///
/// # Errors
///
/// [`ProveError`].
pub async fn prove(realm: Arc<Realm>, token: OwnedToken, now: Now) -> Result<VerifiedIdentity, ProveError> {
    let asked = {
        let mut buffer = TokenBuffer::new();
        let request = realm.check(token.as_bytes(), &mut buffer, now.unix)?;
        match realm.prove_at_hand(&request, now) {
            AtHand::Decided(decided) => return decided,
            AtHand::Ask(client) => realm.ask(client, &request, client.claimant(&request, now), token.as_bytes(), now),
        }
    };
    asked.await
}

/// The host that a token is for, as text.
fn host_of(request: &StsRequest<'_>) -> Box<str> {
    let mut host = String::with_capacity(HOST_USUAL_BYTES);
    // A string takes whatever is written.
    let _ = write!(host, "{}", request.url().host());
    host.into()
}

fn prove_offline(realm: &Realm, keyring: &Keyring, request: &StsRequest<'_>, now: Now) -> Result<VerifiedIdentity, ProveError> {
    let bundle = keyring.current();
    match bundle.judge(request) {
        Verdict::Good(principal) => {
            let told = Told { account: principal.account_id(), arn: principal.arn(), user_id: principal.user_id() };
            // A bundle is read for one partition; one that was made for another proves nobody here.
            let url = request.url();
            let claim = Claim { access_key_id: url.access_key_id().as_str(), host: &url.host(), ends_at: request.ends_at() };
            VerifiedIdentity::new(realm, &claim, Source::Offline, now, told).map_err(ProveError::Bundle)
        }
        Verdict::Bad => Err(ProveError::BadSignature),
        Verdict::NoKeyForScope => Err(ProveError::NoKeyForScope),
        Verdict::SessionToken => Err(ProveError::SessionTokenOffline),
        Verdict::UnknownKey => Err(ProveError::UnknownKey),
    }
}

/// For the tests of others: an identity, and when it was proved.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) use super::tests::now;

    pub(crate) fn verified() -> Arc<VerifiedIdentity> {
        let realm = tests::realm(vec![Prover::Offline(tests::keyring())]);
        let (token, mut buffer) = (tests::SIGNER.token(), TokenBuffer::new());
        let request = realm.check(token.as_bytes(), &mut buffer, now().unix).unwrap();
        match realm.prove_at_hand(&request, now()) {
            AtHand::Decided(proved) => Arc::new(proved.unwrap()),
            AtHand::Ask(_) => panic!("there are keys at hand, and nobody to be asked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arngate_core::endpoint::Fips;
    use arngate_core::sigv4::{Presign, SigningKey};
    use arngate_core::time::AmzDate;
    use arngate_core::{StsHost, token};

    use super::offline::{Bundle, Day, Derivation};
    use super::*;

    const SECRET: &[u8] = b"a secret that is made up";
    const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
    pub(super) const USER: &str = "arn:aws:iam::123456789012:user/edge";

    fn date() -> AmzDate {
        AmzDate::parse(b"20261124T120000Z").unwrap()
    }

    pub(crate) fn now() -> Now {
        Now { unix: date().unix().saturating_add(10), monotonic: Duration::from_secs(7) }
    }

    pub(super) struct Signer {
        pub(super) access_key_id: &'static str,
        pub(super) session_token: Option<&'static str>,
        pub(super) region: &'static str,
        pub(super) secret: &'static [u8],
    }

    pub(super) const SIGNER: Signer = Signer { access_key_id: ACCESS_KEY, session_token: None, region: "us-east-1", secret: SECRET };

    impl Signer {
        pub(super) fn token(&self) -> OwnedToken {
            let host = StsHost::regional(Partition::Aws, self.region, Fips::No).unwrap();
            let key = SigningKey::derive(self.secret, date().day(), self.region);
            let presign = Presign {
                host,
                access_key_id: self.access_key_id,
                session_token: self.session_token,
                cluster_id: ClusterId::parse("edge-1").unwrap(),
                date: date(),
                expires_secs: 60,
            };
            let (mut url, mut text) = (String::new(), String::new());
            presign.write_url(&key, &mut url).unwrap();
            token::encode(&url, &mut text).unwrap();
            OwnedToken::new(text.into())
        }
    }

    pub(super) fn keyring() -> Arc<Keyring> {
        Arc::new(Keyring::new(bundle_of(ACCESS_KEY)))
    }

    fn bundle_of(access_key_id: &str) -> Bundle {
        let derivation = Derivation {
            access_key_id,
            secret: SECRET,
            arn: USER,
            user_id: "AIDAEXAMPLE",
            regions: &["us-east-1"],
            first_day: Day::parse("20261124").unwrap(),
            days: 1,
        };
        Bundle::derive(Partition::Aws, &derivation).unwrap()
    }

    pub(super) fn realm(provers: Vec<Prover>) -> Arc<Realm> {
        let chain = Chain::new(provers).unwrap();
        Arc::new(Realm::new("edge-1", Partition::Aws, None, 300, chain).unwrap())
    }

    fn offline() -> Arc<Realm> {
        realm(vec![Prover::Offline(keyring())])
    }

    pub(super) async fn reason(realm: Arc<Realm>, token: OwnedToken) -> (&'static str, Outcome, Fault) {
        let error = prove(realm, token, now()).await.unwrap_err();
        (error.reason(), error.outcome(), error.fault())
    }

    #[tokio::test]
    async fn proves_a_known_user_without_any_network() {
        let proved = prove(offline(), SIGNER.token(), now()).await.unwrap();
        assert_eq!(proved.identity().arn(), USER);
        assert_eq!(proved.identity().account_id(), "123456789012");
        assert_eq!((proved.identity().user_id(), proved.identity().session_name()), ("AIDAEXAMPLE", ""));
        assert_eq!(proved.access_key_id(), ACCESS_KEY);
        assert_eq!(proved.sts_host(), "sts.us-east-1.amazonaws.com");
        assert_eq!((proved.cluster_id(), proved.source(), proved.proved_at()), ("edge-1", Source::Offline, now()));
        assert_eq!(proved.ends_at(), date().unix().saturating_add(900));
        assert!(proved.memory_bytes() < 300, "{}", proved.memory_bytes());
    }

    #[tokio::test]
    async fn refuses_offline_with_the_reason() {
        let refused = |reason| (reason, Outcome::Refused, Fault::Caller);
        for (signer, expected) in [
            (Signer { secret: b"another", ..SIGNER }, "bad-signature"),
            (Signer { access_key_id: "AKIAIOSFODNN7UNKNOWN", ..SIGNER }, "unknown-key"),
            (Signer { region: "eu-west-1", ..SIGNER }, "no-key-for-scope"),
            (Signer { session_token: Some("FwoG"), ..SIGNER }, "session-token-offline"),
            (Signer { session_token: Some(""), ..SIGNER }, "session-token-offline"),
        ] {
            assert_eq!(reason(offline(), signer.token()).await, refused(expected));
        }
        assert_eq!(reason(offline(), OwnedToken::new(Bytes::from_static(b"hello"))).await, refused("prefix"));
        assert_eq!(reason(offline(), OwnedToken::new(vec![b'a'; 5000].into())).await, refused("length"));
    }

    #[tokio::test]
    async fn judges_the_token_at_the_time_that_it_is_given() {
        for (seconds, expected) in [(-301, Err("future")), (-300, Ok(())), (900, Ok(())), (901, Err("expired"))] {
            let now = Now { unix: date().unix().saturating_add(seconds), monotonic: Duration::ZERO };
            let proved = prove(offline(), SIGNER.token(), now).await.map(|_| ()).map_err(|error| error.reason());
            assert_eq!(proved, expected, "{seconds}");
        }
    }

    #[tokio::test]
    async fn a_token_for_another_cluster_is_not_ours() {
        let chain = Chain::new(vec![Prover::Offline(keyring())]).unwrap();
        let other = Arc::new(Realm::new("edge-2", Partition::Aws, None, 300, chain).unwrap());
        assert_eq!(reason(other, SIGNER.token()).await.0, "bad-signature");
    }

    #[tokio::test]
    async fn a_bundle_of_another_partition_proves_nobody() {
        let chain = Chain::new(vec![Prover::Offline(keyring())]).unwrap();
        let realm = Arc::new(Realm::new("edge-1", Partition::AwsCn, None, 300, chain).unwrap());
        assert_eq!(reason(realm, SIGNER.token()).await.0, "partition");
    }

    #[tokio::test]
    async fn a_key_that_was_taken_out_counts_at_once() {
        let keyring = keyring();
        let realm = realm(vec![Prover::Offline(Arc::clone(&keyring))]);
        assert!(prove(Arc::clone(&realm), SIGNER.token(), now()).await.is_ok());
        keyring.replace(bundle_of("AKIAIOSFODNN7ANOTHER"));
        assert_eq!(reason(realm, SIGNER.token()).await.0, "unknown-key");
    }

    #[test]
    fn a_chain_has_each_prover_once() {
        let offline = || Prover::Offline(keyring());
        let sts = || Prover::Sts(Client::new(sts::Config::default(), Arc::new(())).unwrap());
        assert_eq!(Chain::new(vec![]).unwrap_err(), ChainError::Empty);
        for twice in [vec![offline(), offline()], vec![sts(), sts()], vec![offline(), sts(), offline()]] {
            assert_eq!(Chain::new(twice).unwrap_err(), ChainError::Repeated);
        }
        for good in [vec![offline()], vec![sts()], vec![offline(), sts()], vec![sts(), offline()]] {
            let length = good.len();
            assert_eq!(Chain::new(good).unwrap().provers().len(), length);
        }
    }

    #[tokio::test]
    async fn debug_and_display_hide_the_token_and_its_signature() {
        let token = SIGNER.token();
        let text = String::from_utf8(token.as_bytes().to_vec()).unwrap();
        let proved = prove(offline(), token.clone(), now()).await;
        let refused = prove(offline(), Signer { secret: b"another", ..SIGNER }.token(), now()).await;
        assert_eq!(format!("{token:?}"), "Token(..)");
        let shown = format!("{proved:?} {refused:?} {} {:?}", refused.as_ref().unwrap_err(), offline());
        assert!(shown.contains(USER) && !shown.contains(&text[40..60]) && !shown.contains("X-Amz"), "{shown}");
    }

    #[test]
    fn a_proof_is_small_while_it_waits() {
        // 2048 of them may wait within 20 MiB; the room to decode a token alone would be 3 kB for each.
        let realm = realm(vec![Prover::Sts(Client::new(sts::Config::default(), Arc::new(())).unwrap())]);
        let (token, mut buffer) = (SIGNER.token(), TokenBuffer::new());
        let request = realm.check(token.as_bytes(), &mut buffer, now().unix).unwrap();
        let AtHand::Ask(client) = realm.prove_at_hand(&request, now()) else { panic!("STS has to be asked") };
        let claimant = client.claimant(&request, now());
        let proof = realm.ask(client, &request, claimant, token.as_bytes(), now());
        let call = client.caller_identity(&request, &host_of(&request), claimant, now());
        let sizes = (size_of_val(&proof), size_of_val(&*call));
        assert!(sizes.0 + sizes.1 < 2048, "{sizes:?}");
    }
}
