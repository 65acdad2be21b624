//! The mappings of one source, with indexes over them.
//!
//! One hash table tells where in the [`Arena`] what can fit an identity begins; so a look-up waits for memory twice, for the table and for what lies there.
//! Mappings that share a key of it are a chain, in the order in which they count.

use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher as _;

use arngate_core::Identity;
use arngate_core::arn::ArnKey;
use arngate_core::mapping::Subject;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::arena::{Arena, Held};
use super::given::Mapping;
use super::head::BEYOND;

/// What mappings are found by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Key<'a> {
    UserId(&'a str),
    Exact(ArnKey<'a>),
    /// By account.
    Sso(&'a str),
    /// By account.
    Patterns(&'a str),
}

impl<'a> Key<'a> {
    fn of(held: Held<'a>) -> Option<Self> {
        match held.subject()? {
            Subject::UserId(user_id) => Some(Self::UserId(user_id.id())),
            Subject::Exact(arn) => Some(Self::Exact(arn.key())),
            Subject::Sso(role) => Some(Self::Sso(role.account_id())),
            Subject::Pattern(pattern) => Some(Self::Patterns(pattern.account_id())),
            _ => None,
        }
    }

    fn is_of(&self, held: Held<'_>) -> bool {
        match self {
            // Most look-ups are for one of these.
            Self::Exact(key) => held.exact_arn().is_some_and(|arn| arn.canonical().key() == *key),
            _ => Key::of(held).is_some_and(|own| own == *self),
        }
    }
}

/// Which kinds of keys there are, so that nothing is hashed for those that there are not.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    user_ids: bool,
    exact: bool,
    sso: bool,
    patterns: bool,
}

/// There is no mapping after this one.
const END: u32 = BEYOND;

/// The mappings of one source, whole.
#[derive(Clone)]
pub struct Backend {
    arena: Arena,
    /// Where in the arena the first mapping of each key is.
    index: HashTable<u32>,
    /// For each mapping where that one is which has the same key and counts after it, or [`END`].
    next: Vec<u32>,
    kinds: Kinds,
    hash_state: RandomState,
    accounts: HashSet<String>,
    has_gaps: bool,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mappings, accounts, has_gaps) = (self.arena.len(), self.accounts.len(), self.has_gaps);
        f.debug_struct("Backend")
            .field("mappings", &mappings)
            .field("accounts", &accounts)
            .field("has_gaps", &has_gaps)
            .finish_non_exhaustive()
    }
}

impl Default for Backend {
    fn default() -> Self {
        Self::new(Vec::new(), HashSet::new())
    }
}

impl Backend {
    /// A backend with mappings in the order in which they count: of patterns the first wins, of all others the last.
    #[must_use]
    pub fn new(mappings: Vec<Mapping>, accounts: HashSet<String>) -> Self {
        let arena = Arena::new(&mappings);
        // The indexes want memory of their own.
        drop(mappings);
        let (index, next) = (HashTable::with_capacity(arena.len()), vec![END; arena.len()]);
        let mut backend =
            Self { arena, index, next, kinds: Kinds::default(), hash_state: RandomState::default(), accounts, has_gaps: false };
        backend.build_index();
        backend
    }

    fn build_index(&mut self) {
        let Self { arena, index, next, kinds, hash_state, .. } = self;
        let is_pattern = |at: &u32| matches!(arena.at(*at).subject(), Some(Subject::Pattern(_)));
        let (patterns, others): (Vec<_>, Vec<_>) = arena.places().partition(is_pattern);
        let hash_of = |at: &u32| Key::of(arena.at(*at)).map_or(0, |key| hash_state.hash_one(key));
        // Whoever comes to a key last is the first of its chain.
        for at in others.into_iter().chain(patterns.into_iter().rev()) {
            let held = arena.at(at);
            let (Some(number), Some(key)) = (held.number(), Key::of(held)) else { continue };
            match key {
                Key::UserId(_) => kinds.user_ids = true,
                Key::Exact(_) => kinds.exact = true,
                Key::Sso(_) => kinds.sso = true,
                Key::Patterns(_) => kinds.patterns = true,
            }
            let hash = hash_state.hash_one(key);
            match index.find_mut(hash, |first| key.is_of(arena.at(*first))) {
                Some(first) => {
                    let after = std::mem::replace(first, at);
                    if let Some(next) = next.get_mut(number) {
                        *next = after;
                    }
                }
                None => {
                    index.insert_unique(hash, at, hash_of);
                }
            }
        }
        index.shrink_to(0, hash_of);
    }

    /// The same, where a part of the source could not be read and was never read before: whoever is not mapped may be mapped there.
    #[must_use]
    pub fn with_gaps(mut self) -> Self {
        self.has_gaps = true;
        self
    }

    /// Whether a part of the source could not be read.
    #[must_use]
    pub const fn has_gaps(&self) -> bool {
        self.has_gaps
    }

    /// Its mappings, in the order in which they count.
    pub fn mappings(&self) -> impl Clone + ExactSizeIterator<Item = Held<'_>> {
        self.arena.places().map(|at| self.arena.at(at))
    }

    /// How many mappings and accounts there are.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.arena.len().saturating_add(self.accounts.len())
    }

    /// Whether all of an account is let in.
    #[must_use]
    pub fn has_account(&self, account_id: &str) -> bool {
        !self.accounts.is_empty() && self.accounts.contains(account_id)
    }

    /// The mapping for an identity: what [`Rules::find`](arngate_core::mapping::Rules::find) finds, by indexes.
    #[must_use]
    pub fn find(&self, identity: &Identity<'_>) -> Option<Held<'_>> {
        let fits = |held: &Held<'_>| held.matches(identity);
        let Kinds { user_ids, exact, sso, patterns } = self.kinds;
        let user_id = || self.chain(Key::UserId(identity.user_id())).find(fits);
        // One that has the same key fits.
        let exact = || exact.then(|| self.first(Key::Exact(identity.canonical_arn().key()))).flatten();
        let sso = || sso.then(|| self.chain(Key::Sso(identity.account_id())).find(fits)).flatten();
        let pattern = || patterns.then(|| self.chain(Key::Patterns(identity.account_id())).find(fits)).flatten();
        user_ids.then(user_id).flatten().or_else(exact).or_else(sso).or_else(pattern)
    }

    /// The mappings with a key, those that count first before the others.
    fn chain(&self, key: Key<'_>) -> impl Iterator<Item = Held<'_>> {
        let after = |before: &Held<'_>| self.next.get(before.number()?).filter(|next| **next != END).map(|next| self.arena.at(*next));
        std::iter::successors(self.first(key), after)
    }

    /// The mapping with a key that counts before all others. Nothing is asked for the sake of the others: that would be one more wait for memory.
    fn first(&self, key: Key<'_>) -> Option<Held<'_>> {
        let mut first = None;
        self.index.find(self.hash_state.hash_one(key), |at| {
            first = Some(self.arena.at(*at)).filter(|held| key.is_of(*held));
            first.is_some()
        });
        first
    }
}

#[cfg(test)]
mod tests {
    use arngate_core::Partition;
    use arngate_core::mapping::{Rule, Rules};
    use proptest::prelude::*;

    use super::*;
    use crate::mapping::Names;

    /// Small worlds, so that much matches much.
    fn any_mapping() -> impl Strategy<Value = Mapping> {
        let arn = prop_oneof![
            "arn:(aws|AWS|aws-cn):(iam|IAM)::12345678901[23]:(role|Role)/(p/)?[aAb]{1,2}",
            "arn:aws:iam::12345678901[23]:user/(p/)?[aAb]{1,2}",
            "arn:aws:sts::12345678901[23]:assumed-role/(p/)?[aAb]{1,2}/s",
            "arn:aws:iam::12345678901[23]:(role|user)/[ab*?]{1,3}",
            "arn:aws:iam::12345678901[23]:role/AWSReservedSSO_[Aa]_[0b*]{1,2}",
            "arn:aws:iam::12345678901[23]:root",
        ]
        .prop_filter_map("an ARN", |arn| Mapping::for_arn(arn, true, Names::default()).ok());
        let sso = ("[aAb](_b)?", "12345678901[23]", prop_oneof![Just(Partition::Aws), Just(Partition::AwsCn)])
            .prop_filter_map("a role", |(set, account, partition)| Mapping::for_sso(set, account, partition, Names::default()).ok());
        let subject = prop_oneof![3 => arn, 1 => sso];
        (subject, prop::option::of("AID[AB]|AROA[AB]"), any::<bool>()).prop_map(|(mapping, user_id, alone)| {
            let names = Names { user_id, ..Names::default() };
            let by_user_id = if alone { Mapping::for_user_id(names) } else { Mapping { names, ..mapping.clone() }.by_user_id() };
            by_user_id.unwrap_or(mapping)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_indexes_find_what_the_rules_find(
            mappings in prop::collection::vec(any_mapping(), 0..12),
            arn in prop_oneof![
                "arn:aws:sts::12345678901[23]:assumed-role/[aAb]{1,2}/s",
                "arn:aws:sts::12345678901[23]:assumed-role/AWSReservedSSO_[aAb](_b)?_[0b]{1,2}/s",
                "arn:aws:iam::12345678901[23]:user/(p/)?[aAb]{1,2}",
                "arn:aws:iam::12345678901[23]:root",
            ],
            user_id in "[AB]",
        ) {
            let session = arn.rsplit_once('/').map_or("", |(_, session)| session);
            let user_id = if arn.contains(":assumed-role/") { format!("AROA{user_id}:{session}") } else { format!("AID{user_id}") };
            let identity = Identity::check(Partition::Aws, arn.split(':').nth(4).unwrap(), &arn, &user_id).unwrap();
            let backend = Backend::new(mappings, HashSet::new());
            let rules: Vec<_> = backend
                .mappings()
                .map(|mapping| Rule { subject: mapping.subject().unwrap(), username: mapping.username(), groups: &[] })
                .collect();
            let by_rules = Rules(&rules).find(&identity).and_then(|found| rules.iter().position(|rule| std::ptr::eq(rule, found)));
            let by_index = backend.find(&identity).and_then(|found| backend.mappings().position(|mapping| mapping.is(found)));
            prop_assert_eq!(by_index, by_rules);
        }
    }
}
