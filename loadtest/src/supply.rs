//! Where a generator thread gets its questions from: signed ahead where that can be, made on the fly where it cannot, and then at a known cost.
//!
//! A signature depends on who, when and for how long, so a token is fresh by another X-Amz-Expires, and when these are used up by an X-Amz-Date one
//! second older: an identity has 900 tokens for each second.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, StsHost, StsHosts, UnixSeconds, token};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::credential::Credential;
use crate::mix::{Chooser, Kind, Mix, Popularity};
use crate::population::{Population, Shape};
use crate::question::{ApiVersion, Expected, Needle, Question};
use crate::tally::Making;
use crate::token::Signer;

/// Identities with session tokens of 1 kB that every [`Cast`] has, for tokens of 1.8 kB.
const SESSIONS: u32 = 64;

/// Characters of their session tokens.
const SESSION_TOKEN_CHARS: usize = 1000;

/// Tokens of one identity that differ by X-Amz-Expires alone.
const EXPIRES_MOST: u64 = 900;

/// How much older than its supply a fresh token may be signed, in seconds; when all of these are used up tokens repeat.
const BACKDATED_MOST_SECS: u64 = 120;

/// After so many seconds a supply signs with a new date, so that tokens stay fresh however long a run takes.
const REDATE_SECS: i64 = 600;

/// How old the expired tokens are, in seconds: 15 minutes is the most that is believed.
const EXPIRED_SECS: i64 = 16 * 60;

/// Everybody who signs in a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cast {
    /// Those whose tokens are repeated, and who sign fresh ones.
    pub regulars: Population,
    /// How many identities there are beyond them, who come once.
    pub newcomers: u32,
}

impl Cast {
    /// Those with long session tokens.
    #[must_use]
    pub const fn sessions(&self) -> Population {
        let shape = Shape::Sessions { session_token_chars: SESSION_TOKEN_CHARS };
        Population { shape, identities: SESSIONS, seed: self.regulars.seed.wrapping_add(1), ..self.regulars }
    }

    /// Whom STS does not know.
    const fn strangers(&self) -> Population {
        Population { seed: self.regulars.seed.wrapping_add(2), ..self.regulars }
    }

    /// A session of a role that has no mapping yet: of the `number`th that is added, from zero.
    #[must_use]
    pub fn late(&self, number: u32) -> Credential {
        let number = self.regulars.mappings.saturating_add(number);
        Population { seed: self.regulars.seed.wrapping_add(3), mappings: u32::MAX, ..self.regulars }.credential(number)
    }

    /// All credentials that STS has to know.
    #[must_use]
    pub fn credentials(&self) -> Vec<Credential> {
        let regulars = (0..self.regulars.identities.saturating_add(self.newcomers)).map(|number| self.regulars.credential(number));
        regulars.chain(self.sessions().credentials()).collect()
    }
}

/// For whom tokens are signed, and how they are asked about.
#[derive(Clone, Debug)]
pub struct Form {
    /// The cluster.
    pub cluster_id: String,
    /// The host of STS.
    pub sts_host: String,
    /// The version of the TokenReview.
    pub api_version: ApiVersion,
    /// Where all are told to be the same, whoever signed: so the canned reply of a ceiling.
    pub always: Option<Arc<Needle>>,
}

impl Form {
    /// Checks the names.
    ///
    /// # Errors
    ///
    /// [`FormError`].
    pub fn new(cluster_id: &str, sts_host: &str, api_version: ApiVersion) -> Result<Self, FormError> {
        ClusterId::parse(cluster_id).map_err(|_| FormError::ClusterId)?;
        judge_host(sts_host)?;
        Ok(Self { cluster_id: cluster_id.into(), sts_host: sts_host.into(), api_version, always: None })
    }

    fn cluster_id(&self) -> ClusterId<'_> {
        ClusterId::parse(&self.cluster_id).expect("checked by its constructor")
    }

    fn host(&self) -> StsHost<'_> {
        judge_host(&self.sts_host).expect("checked by its constructor")
    }

    /// A question about a token that `credential` signs now.
    #[must_use]
    pub fn ask_about(&self, credential: &Credential, clock: &Clock) -> Question {
        let date = AmzDate::from_unix(clock.now()).expect("a clock of this age tells a date");
        let token = crate::token::sign_token(credential, self.host(), self.cluster_id(), date);
        self.question(&token, Some(&Arc::new(Needle::new(credential.identity().arn.clone()))))
    }

    fn question(&self, token: &str, identity: Option<&Arc<Needle>>) -> Question {
        Question { body: self.api_version.review(token), expected: self.expected(identity) }
    }

    fn question_of_url(&self, url: &str, identity: Option<&Arc<Needle>>) -> Question {
        Question { body: self.api_version.review_of_url(url), expected: self.expected(identity) }
    }

    fn expected(&self, identity: Option<&Arc<Needle>>) -> Expected {
        match (&self.always, identity) {
            (Some(needle), _) | (None, Some(needle)) => Expected::Identity(Arc::clone(needle)),
            (None, None) => Expected::Nobody,
        }
    }
}

fn judge_host(host: &str) -> Result<StsHost<'_>, FormError> {
    arngate_core::Partition::ALL.into_iter().find_map(|partition| StsHosts::new(partition).judge(host).ok()).ok_or(FormError::Host)
}

/// The region that tokens for a host of STS are scoped to.
///
/// # Errors
///
/// [`FormError::Host`].
pub fn region_of(host: &str) -> Result<String, FormError> {
    Ok(judge_host(host)?.region().to_owned())
}

/// Why no token could be signed so.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FormError {
    /// Not a cluster id.
    #[error("that is no cluster ID")]
    ClusterId,
    /// Not a host of STS.
    #[error("expected a host of STS, as in sts.us-east-1.amazonaws.com")]
    Host,
}

/// Questions that are asked again and again, signed once for all threads.
#[derive(Clone)]
pub struct Stock(Arc<[Question]>);

impl Stock {
    /// `tokens` different tokens of the regulars, signed now.
    #[must_use]
    pub fn sign(cast: &Cast, form: &Form, tokens: usize, clock: &Clock) -> Self {
        let identities = cast.regulars.identities.max(1) as usize;
        let mut signers: Vec<_> = (0..identities.min(tokens)).map(|number| Identity::new(&cast.regulars, number as u32)).collect();
        let now = clock.now();
        let mut room = String::new();
        let question = |index: usize| {
            let identity = &mut signers[index % identities];
            // From the end, where fresh tokens do not begin.
            let when = spread(now, u64::MAX / 2 - (index / identities) as u64);
            identity.question(form, when, &mut room)
        };
        Self((0..tokens).map(question).collect())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them, once.
    pub fn questions(&self) -> impl Iterator<Item = &Question> {
        self.0.iter()
    }

    /// Bytes of a body, the longest.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.0.iter().map(|question| question.body.len()).max().unwrap_or(0)
    }
}

impl fmt::Debug for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stock").field("questions", &self.0.len()).finish()
    }
}

/// When and for how long the `number`th token of an identity is signed.
fn spread(now: UnixSeconds, number: u64) -> When {
    let back = (number / EXPIRES_MOST) % BACKDATED_MOST_SECS;
    let date = AmzDate::from_unix(now.saturating_add(-i64::try_from(back).unwrap_or(0))).expect("we live between the years 0 and 9999");
    (date, u16::try_from(number % EXPIRES_MOST).unwrap_or(0) + 1)
}

#[derive(Debug)]
struct Identity {
    signer: Signer,
    needle: Arc<Needle>,
}

/// What a token is signed for besides its cluster and host: when, and for how long.
type When = (AmzDate, u16);

impl Identity {
    /// A question about a token that this identity signs, which is written into `room`.
    fn question(&mut self, form: &Form, (date, expires): When, room: &mut String) -> Question {
        self.sign(form, (date, expires), room);
        form.question_of_url(room, Some(&self.needle))
    }

    fn sign(&mut self, form: &Form, (date, expires): When, room: &mut String) {
        room.clear();
        self.signer.write_url(form.host(), form.cluster_id(), date, expires, room);
    }

    fn new(population: &Population, number: u32) -> Self {
        let credential = population.credential(number);
        let needle = Arc::new(Needle::new(credential.identity().arn.clone()));
        Self { signer: Signer::new(credential), needle }
    }
}

/// What a [`Supply`] is made from, the same for all threads.
#[derive(Clone, Debug)]
pub struct Order {
    /// Who signs.
    pub cast: Cast,
    /// For whom.
    pub form: Form,
    /// What kinds.
    pub mix: Mix,
    /// Which of the repeated tokens, and of the identities, how often.
    pub popularity: Popularity,
    /// The repeated ones.
    pub stock: Stock,
    /// What chance is made from.
    pub seed: u64,
    /// When tokens are signed.
    pub clock: Clock,
}

/// The questions of one thread.
pub struct Supply {
    order: Order,
    /// Our number among the threads, and how many these are: no two make the same fresh token.
    part: u64,
    of: u64,
    random: fastrand::Rng,
    tokens: Chooser,
    identities: Chooser,
    /// Made when they are first needed.
    regulars: Vec<Option<Identity>>,
    /// How many fresh tokens each of them has signed.
    signed: Vec<u64>,
    sessions: Vec<Identity>,
    sessions_signed: u64,
    newcomers: u64,
    since: UnixSeconds,
    ahead: VecDeque<Question>,
    /// Where URLs are signed, one after the other.
    room: String,
    made: Making,
    given: u64,
}

impl Supply {
    /// The supply of the thread `part` of `of`.
    #[must_use]
    pub fn new(order: Order, part: u32, of: u32) -> Self {
        let identities = order.cast.regulars.identities.max(1) as usize;
        let sessions = if order.mix.has(Kind::SessionToken) { order.cast.sessions().identities } else { 0 };
        Self {
            part: part.into(),
            of: of.max(1).into(),
            random: fastrand::Rng::with_seed(order.seed.wrapping_add(u64::from(part))),
            tokens: Chooser::new(order.popularity, order.stock.len()),
            identities: Chooser::new(order.popularity, identities),
            regulars: (0..identities).map(|_| None).collect(),
            signed: vec![0; identities],
            sessions: (0..sessions).map(|number| Identity::new(&order.cast.sessions(), number)).collect(),
            sessions_signed: 0,
            newcomers: 0,
            since: order.clock.now(),
            ahead: VecDeque::new(),
            room: String::new(),
            made: Making::default(),
            given: 0,
            order,
        }
    }

    /// Makes so many questions now, which are then asked in that order.
    pub fn make_ahead(&mut self, questions: usize) {
        for _ in 0..questions {
            let question = self.draw();
            self.ahead.push_back(question);
        }
    }

    /// Asks these before all others.
    pub fn put_ahead(&mut self, questions: impl IntoIterator<Item = Question>) {
        self.ahead.extend(questions);
    }

    /// The question that is to be asked now.
    pub fn question(&mut self) -> Question {
        self.given += 1;
        match self.ahead.pop_front() {
            Some(question) => question,
            None => self.draw(),
        }
    }

    /// How many were given out.
    #[must_use]
    pub const fn given(&self) -> u64 {
        self.given
    }

    /// What has been made since this was last asked, ahead and on the fly, and what it has cost; repeated tokens cost nothing.
    pub fn take_making(&mut self) -> Making {
        std::mem::take(&mut self.made)
    }

    fn draw(&mut self) -> Question {
        let kind = self.order.mix.pick(&mut self.random);
        if kind == Kind::Repeated
            && let Some(question) = self.order.stock.0.get(self.tokens.choose(&mut self.random))
        {
            return question.clone();
        }
        let begin = Instant::now();
        let question = self.make(kind);
        self.made.questions += 1;
        self.made.time += begin.elapsed();
        question
    }

    fn make(&mut self, kind: Kind) -> Question {
        match kind {
            Kind::FreshSameIdentity | Kind::Repeated => self.fresh(),
            Kind::FreshNewIdentity => self.newcomer(),
            Kind::SessionToken => self.session(),
            Kind::Expired => self.expired(),
            Kind::ForgedKnownKey => {
                let number = self.identities.choose(&mut self.random);
                let date = self.now();
                let expires = self.random.u16(1..=900);
                let identity = regular(&mut self.regulars, &self.order.cast.regulars, number);
                identity.sign(&self.order.form, (date, expires), &mut self.room);
                self.spoil();
                self.order.form.question_of_url(&self.room, None)
            }
            Kind::ForgedUnknownKey => {
                let mut stranger = Identity::new(&self.order.cast.strangers(), self.random.u32(..));
                let when = (self.now(), self.random.u16(1..=900));
                stranger.sign(&self.order.form, when, &mut self.room);
                self.order.form.question_of_url(&self.room, None)
            }
            Kind::Garbage => {
                let mut text = String::from(token::PREFIX);
                text.extend((0..self.random.usize(1..1500)).map(|_| self.random.alphanumeric()));
                self.order.form.question(&text, None)
            }
        }
    }

    fn fresh(&mut self) -> Question {
        let number = self.identities.choose(&mut self.random);
        self.redate();
        let signed = &mut self.signed[number];
        let when = spread(self.since, *signed * self.of + self.part);
        *signed += 1;
        regular(&mut self.regulars, &self.order.cast.regulars, number).question(&self.order.form, when, &mut self.room)
    }

    fn newcomer(&mut self) -> Question {
        self.redate();
        let regulars = self.order.cast.regulars.identities;
        let turn = self.newcomers * self.of + self.part;
        let newcomers = u64::from(self.order.cast.newcomers.max(1));
        self.newcomers += 1;
        let number = regulars.saturating_add(u32::try_from(turn % newcomers).unwrap_or(0));
        let when = spread(self.since, turn / newcomers);
        Identity::new(&self.order.cast.regulars, number).question(&self.order.form, when, &mut self.room)
    }

    fn session(&mut self) -> Question {
        self.redate();
        let turn = self.sessions_signed * self.of + self.part;
        self.sessions_signed += 1;
        let count = self.sessions.len() as u64;
        let when = spread(self.since, turn / count);
        self.sessions[(turn % count) as usize].question(&self.order.form, when, &mut self.room)
    }

    fn expired(&mut self) -> Question {
        let number = self.identities.choose(&mut self.random);
        let date = self.order.clock.now().saturating_add(-EXPIRED_SECS);
        let date = AmzDate::from_unix(date).expect("we live between the years 0 and 9999");
        let expires = self.random.u16(1..=900);
        regular(&mut self.regulars, &self.order.cast.regulars, number).sign(&self.order.form, (date, expires), &mut self.room);
        self.order.form.question_of_url(&self.room, None)
    }

    /// Writes a signature that nobody has made in place of the right one.
    fn spoil(&mut self) {
        self.room.truncate(self.room.len() - 64);
        self.room.extend((0..64).map(|_| char::from(b"0123456789abcdef"[self.random.usize(..16)])));
    }

    fn now(&self) -> AmzDate {
        AmzDate::from_unix(self.order.clock.now()).expect("we live between the years 0 and 9999")
    }

    fn redate(&mut self) {
        let now = self.order.clock.now();
        if now.as_i64() - self.since.as_i64() > REDATE_SECS {
            self.since = now;
            self.signed.fill(0);
            (self.sessions_signed, self.newcomers) = (0, 0);
        }
    }
}

fn regular<'a>(regulars: &'a mut [Option<Identity>], population: &Population, number: usize) -> &'a mut Identity {
    regulars[number].get_or_insert_with(|| Identity::new(population, u32::try_from(number).unwrap_or(u32::MAX)))
}

impl fmt::Debug for Supply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supply").field("order", &self.order).field("given", &self.given).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;

    use arngate_core::{Policy, PresignedUrl, StsRequest, Token, TokenBuffer, sigv4, sigv4::SigningKey};

    use super::*;

    pub(crate) fn order(mix: &str) -> Order {
        let regulars = Population { shape: Shape::Users, identities: 8, mappings: 8, seed: 1 };
        let cast = Cast { regulars, newcomers: 20 };
        let form = Form::new("prod", "sts.eu-west-1.amazonaws.com", ApiVersion::V1).unwrap();
        let clock = Clock::fixed(UnixSeconds::new(1_795_521_600));
        let stock = Stock::sign(&cast, &form, 32, &clock);
        Order { cast, form, mix: mix.parse().unwrap(), popularity: Popularity::Uniform, stock, seed: 5, clock }
    }

    fn token_in(question: &Question) -> String {
        let review: serde_json::Value = serde_json::from_slice(&question.body).unwrap();
        review["spec"]["token"].as_str().unwrap().to_owned()
    }

    /// Who signed the token, as a server with all credentials would find out.
    fn prove(token: &str, cast: &Cast) -> Option<String> {
        let mut buffer = TokenBuffer::new();
        let url =
            PresignedUrl::parse(Token::decode(token.as_bytes(), &mut buffer).ok()?, &StsHosts::new(arngate_core::Partition::Aws)).ok()?;
        let request = StsRequest::check(url, &Policy::new(ClusterId::parse("prod").unwrap()), UnixSeconds::new(1_795_521_600)).ok()?;
        let credential = cast.credentials().into_iter().find(|known| known.access_key_id() == request.url().access_key_id().as_str())?;
        let key = SigningKey::derive(credential.secret().as_bytes(), request.url().signed_at().day(), "eu-west-1");
        sigv4::verify(&request, &key).is_ok().then(|| credential.identity().arn.clone())
    }

    #[test]
    fn each_kind_is_what_it_says() {
        for kind in Kind::ALL {
            let order = order(kind.name());
            let cast = order.cast;
            let mut supply = Supply::new(order, 0, 1);
            for _ in 0..40 {
                let question = supply.question();
                let proved = prove(&token_in(&question), &cast);
                match &question.expected {
                    Expected::Identity(needle) => assert_eq!(proved.as_deref(), Some(needle.arn()), "{kind:?}"),
                    Expected::Nobody => assert_eq!(proved, None, "{kind:?}"),
                }
                let lets_in = matches!(kind, Kind::FreshNewIdentity | Kind::FreshSameIdentity | Kind::Repeated | Kind::SessionToken);
                assert_eq!(matches!(question.expected, Expected::Identity(_)), lets_in, "{kind:?}");
            }
        }
    }

    #[test]
    fn no_two_fresh_tokens_are_the_same_also_not_of_two_threads() {
        for kind in [Kind::FreshSameIdentity, Kind::FreshNewIdentity, Kind::SessionToken, Kind::ForgedUnknownKey] {
            let mut seen: HashSet<_> = order("repeated").stock.questions().map(token_in).collect();
            assert_eq!(seen.len(), 32);
            for part in 0..2 {
                let mut supply = Supply::new(order(kind.name()), part, 2);
                for _ in 0..4000 {
                    assert!(seen.insert(token_in(&supply.question())), "{kind:?}");
                }
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_questions() {
        let bodies = |seed| {
            let mut supply = Supply::new(Order { seed, ..order("repeated,fresh-same-identity,garbage") }, 0, 1);
            (0..50).map(|_| supply.question().body).collect::<Vec<_>>()
        };
        assert_eq!(bodies(1), bodies(1));
        assert_ne!(bodies(1), bodies(2));
    }

    #[test]
    fn what_is_made_ahead_is_the_same_as_on_the_fly() {
        let (mut ahead, mut on_the_fly) =
            (Supply::new(order("repeated,fresh-same-identity"), 0, 1), Supply::new(order("repeated,fresh-same-identity"), 0, 1));
        ahead.make_ahead(30);
        for _ in 0..60 {
            assert_eq!(ahead.question().body, on_the_fly.question().body);
        }
        assert_eq!((ahead.given(), on_the_fly.given()), (60, 60));
        assert!(ahead.take_making().questions > 10 && ahead.take_making().questions == 0);
    }
}
