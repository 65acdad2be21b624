//! The mappings of one source, with indexes over them.
//!
//! A backend holds each text once, all of them in one arena, and for each mapping a [`Record`] of 48 bytes that says where its texts lie: a hundred thousand
//! mappings take some 15 MB, and to let go of them takes a handful of calls of the allocator. One hash table finds what can fit an identity; records that share a
//! key of it are a chain, in the order in which they count.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::BuildHasher as _;

use arngate_core::arn::{ArnKey, ArnShape};
use arngate_core::arn_pattern::PatternShape;
use arngate_core::mapping::{SsoRole, Subject, SubjectError, Template, UserId, Values};
use arngate_core::{Identity, Partition};
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::document::Position;

/// One mapping: whom it is for, and what it makes of him.
#[derive(Clone, Debug)]
pub struct Mapping {
    subject: OwnedSubject,
    /// Whether the unique id is whom it is for, and the subject what has to fit beside it.
    by_user_id: bool,
    names: Names,
}

/// What a mapping makes of an identity.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Template of the user's name.
    pub username: String,
    /// Templates of the user's groups.
    pub groups: Vec<String>,
    /// The unique id of the role or user, which only strict dynamic files compare.
    pub user_id: Option<String>,
    /// Where the mapping stands in its document.
    pub position: Option<Position>,
}

/// A core [`Subject`] that owns its text.
#[derive(Clone, Debug)]
enum OwnedSubject {
    Anybody,
    Exact { arn: String, shape: ArnShape },
    Pattern { arn: String, shape: PatternShape },
    Sso { permission_set: String, account_id: String, partition: Partition },
}

impl Mapping {
    /// A mapping for a `rolearn` or `userarn`; `patterns` says whether `*` and `?` have a meaning.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] where the ARN is none, or a pattern that could never match or matches too much.
    pub fn for_arn(arn: String, patterns: bool, names: Names) -> Result<Self, SubjectError> {
        let subject = match Subject::from_arn(&arn, patterns)? {
            Subject::Exact(exact) => {
                let shape = exact.arn().shape();
                OwnedSubject::Exact { arn, shape }
            }
            Subject::Pattern(pattern) => {
                let shape = pattern.shape();
                OwnedSubject::Pattern { arn, shape }
            }
            _ => unreachable!("an ARN names nothing else"),
        };
        Ok(Self { subject, by_user_id: false, names })
    }

    /// A mapping for the role of a permission set.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] where AWS would take neither the permission set's name nor the account.
    pub fn for_sso(permission_set: String, account_id: String, partition: Partition, names: Names) -> Result<Self, SubjectError> {
        SsoRole::new(&permission_set, &account_id, partition)?;
        Ok(Self { subject: OwnedSubject::Sso { permission_set, account_id, partition }, by_user_id: false, names })
    }

    /// A mapping for whoever has the unique id of `names`; none, if that is empty or not there.
    #[must_use]
    pub fn for_user_id(names: Names) -> Option<Self> {
        Self { subject: OwnedSubject::Anybody, by_user_id: false, names }.by_user_id()
    }

    /// The same for whoever has its unique id too; none, if that is empty or not there.
    #[must_use]
    pub fn by_user_id(self) -> Option<Self> {
        let has_one = self.names.user_id.as_ref().is_some_and(|id| !id.is_empty());
        has_one.then_some(Self { by_user_id: true, ..self })
    }

    /// Whom it is for. There is always one, for the constructors have read the same text.
    #[must_use]
    pub fn subject(&self) -> Option<Subject<'_>> {
        let named = match &self.subject {
            OwnedSubject::Anybody => None,
            OwnedSubject::Exact { arn, shape } => Some(Subject::Exact(shape.over(arn)?.canonical())),
            OwnedSubject::Pattern { arn, shape } => Some(Subject::Pattern(shape.over(arn)?)),
            OwnedSubject::Sso { permission_set, account_id, partition } => {
                Some(SsoRole::new(permission_set, account_id, *partition).map(Subject::Sso).ok()?)
            }
        };
        if self.by_user_id { Some(Subject::UserId(UserId::new(self.names.user_id.as_deref()?, named))) } else { named }
    }
}

/// Where a text lies in the arena. There is no more of it than can be counted so; what there were would read as empty, and match nobody.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Span {
    start: u32,
    length: u32,
}

/// What a record's subject is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Anybody,
    /// An ARN, which need not be read again for each look-up; nor need a pattern.
    Exact(ArnShape),
    Pattern(PatternShape),
    /// The name of a permission set, behind which the account lies.
    Sso(Partition),
}

/// A mapping. Its texts lie behind each other in the arena: subject, name, unique id.
#[derive(Clone, Copy, Debug)]
struct Record {
    start: u32,
    username_length: u32,
    user_id_length: u32,
    /// Its groups: the first of them, and how many.
    groups: u32,
    groups_count: u32,
    /// The next one with the same key of the index that counts after it, or [`END`].
    next: u32,
    line: u32,
    column: u32,
    subject_length: u16,
    kind: Kind,
    flags: Flags,
}

/// What is to be known of a record without a look at its texts.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    by_user_id: bool,
    has_placeholder: bool,
    needs_ec2: bool,
}

/// There is no record after this one.
const END: u32 = u32::MAX;

const _: () = assert!(size_of::<Record>() <= 48, "a record stays small: there are a hundred thousand of them");

/// A mapping of a [`Backend`].
#[derive(Clone, Copy)]
pub struct Held<'a> {
    backend: &'a Backend,
    record: &'a Record,
}

impl fmt::Debug for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("subject", &self.subject()).field("username", &self.username()).finish_non_exhaustive()
    }
}

impl<'a> Held<'a> {
    /// Whom it is for. There is always one, for the constructors of [`Mapping`] have read the same text.
    #[must_use]
    pub fn subject(self) -> Option<Subject<'a>> {
        let named = self.named()?;
        let id = self.record.flags.by_user_id.then(|| self.user_id());
        id.map_or(named, |id| Some(Subject::UserId(UserId::new(id?, named))))
    }

    /// Who is named; nobody is where the unique id says it all.
    fn named(self) -> Option<Option<Subject<'a>>> {
        let text = self.subject_text();
        Some(match self.record.kind {
            Kind::Anybody => None,
            Kind::Exact(shape) => Some(Subject::Exact(shape.over(text)?.canonical())),
            Kind::Pattern(shape) => Some(Subject::Pattern(shape.over(text)?)),
            Kind::Sso(partition) => {
                let (permission_set, account_id) = sso_parts(text)?;
                Some(Subject::Sso(SsoRole::new(permission_set, account_id, partition).ok()?))
            }
        })
    }

    /// The template of the user's name.
    #[must_use]
    pub fn username(self) -> Template<'a> {
        let start = self.record.start.saturating_add(self.record.subject_length.into());
        Template::new(self.backend.text(Span { start, length: self.record.username_length }))
    }

    /// The templates of the user's groups.
    pub fn groups(self) -> impl Clone + ExactSizeIterator<Item = Template<'a>> {
        let Record { groups, groups_count, .. } = *self.record;
        let spans = self.backend.groups.get(range(groups, groups_count)).unwrap_or_default();
        spans.iter().map(move |span| Template::new(self.backend.text(*span)))
    }

    /// The unique id that a strict dynamic file compares.
    #[must_use]
    pub fn user_id(self) -> Option<&'a str> {
        let Record { start, subject_length, username_length, user_id_length: length, .. } = *self.record;
        let start = start.saturating_add(subject_length.into()).saturating_add(username_length);
        (length > 0).then(|| self.backend.text(Span { start, length }))
    }

    /// Where it stands in its document.
    #[must_use]
    pub fn position(self) -> Option<Position> {
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        (self.record.line > 0).then(|| Position { line: number(self.record.line), column: number(self.record.column) })
    }

    /// Whether a name or a group wants the private DNS name of an instance.
    #[must_use]
    pub const fn needs_ec2(self) -> bool {
        self.record.flags.needs_ec2
    }

    /// The user's name with `values` put in.
    pub(super) fn rendered_username(self, values: &Values<'_>) -> Cow<'a, str> {
        let template = self.username();
        if !self.record.flags.has_placeholder {
            return Cow::Borrowed(template.as_str());
        }
        let mut out = String::with_capacity(template.as_str().len());
        // Writing to a string does not fail, and whatever needs an instance's name has been sorted out before.
        let _ = template.render(values, &mut out);
        Cow::Owned(out)
    }

    fn subject_text(self) -> &'a str {
        self.backend.text(Span { start: self.record.start, length: self.record.subject_length.into() })
    }

    fn matches(self, identity: &Identity<'_>) -> bool {
        self.subject().is_some_and(|subject| subject.matches(identity))
    }

    /// What it is found by.
    fn key(self) -> Option<Key<'a>> {
        if self.record.flags.by_user_id {
            return self.user_id().map(Key::UserId);
        }
        match self.named()?? {
            Subject::Exact(arn) => Some(Key::Exact(arn.key())),
            Subject::Pattern(_) => Some(Key::Patterns(account_of(self.subject_text()))),
            Subject::Sso(_) => sso_parts(self.subject_text()).map(|(_, account_id)| Key::Sso(account_id)),
            _ => None,
        }
    }

    /// Whether it is the same mapping of the same backend, not just an equal one.
    pub(super) fn is(self, other: Held<'_>) -> bool {
        std::ptr::eq(self.record, other.record)
    }
}

/// What records are found by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Key<'a> {
    UserId(&'a str),
    Exact(ArnKey<'a>),
    /// By account.
    Sso(&'a str),
    /// By account.
    Patterns(&'a str),
}

/// Which kinds of keys there are, so that nothing is hashed for those that there are not.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    user_ids: bool,
    exact: bool,
    sso: bool,
    patterns: bool,
}

/// The mappings of one source, whole.
#[derive(Clone)]
pub struct Backend {
    arena: String,
    records: Vec<Record>,
    /// Lists of groups, each different one once.
    groups: Vec<Span>,
    /// The first record of each key.
    index: HashTable<u32>,
    kinds: Kinds,
    hash_state: RandomState,
    accounts: HashSet<String>,
    has_gaps: bool,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mappings, accounts, has_gaps) = (self.records.len(), self.accounts.len(), self.has_gaps);
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
        let mut builder = Builder::default();
        builder.records.reserve_exact(mappings.len());
        mappings.iter().for_each(|mapping| builder.add(mapping));
        let Builder { mut arena, records, mut groups, .. } = builder;
        arena.shrink_to_fit();
        groups.shrink_to_fit();
        let (index, hash_state) = (HashTable::new(), RandomState::default());
        let mut backend = Self { arena, records, groups, index, kinds: Kinds::default(), hash_state, accounts, has_gaps: false };
        backend.build_index();
        backend
    }

    fn build_index(&mut self) {
        let is_pattern = |record: &Record| matches!(record.kind, Kind::Pattern(_)) && !record.flags.by_user_id;
        let (patterns, others): (Vec<_>, Vec<_>) =
            (0..self.records.len()).partition(|index| self.records.get(*index).is_some_and(is_pattern));
        let mut kinds = Kinds::default();
        let mut table = HashTable::with_capacity(self.records.len());
        // Whoever comes to a key last is the first of its chain.
        for index in others.into_iter().chain(patterns.into_iter().rev()) {
            let (Some(held), Ok(number)) = (self.held(index), u32::try_from(index)) else { continue };
            let Some(key) = held.key() else { continue };
            match key {
                Key::UserId(_) => kinds.user_ids = true,
                Key::Exact(_) => kinds.exact = true,
                Key::Sso(_) => kinds.sso = true,
                Key::Patterns(_) => kinds.patterns = true,
            }
            let hash = self.hash_state.hash_one(key);
            let next = match table.find_mut(hash, |first| self.has_key(*first, &key)) {
                Some(first) => std::mem::replace(first, number),
                None => {
                    table.insert_unique(hash, number, |other| self.key_of(*other).map_or(0, |key| self.hash_state.hash_one(key)));
                    END
                }
            };
            if let Some(record) = self.records.get_mut(index) {
                record.next = next;
            }
        }
        table.shrink_to(0, |other| self.key_of(*other).map_or(0, |key| self.hash_state.hash_one(key)));
        (self.index, self.kinds) = (table, kinds);
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
        self.records.iter().map(|record| Held { backend: self, record })
    }

    /// How many mappings and accounts there are.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.records.len().saturating_add(self.accounts.len())
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
        let exact = || exact.then(|| self.chain(Key::Exact(identity.canonical_arn().key())).next()).flatten();
        let sso = || sso.then(|| self.chain(Key::Sso(identity.account_id())).find(fits)).flatten();
        let pattern = || patterns.then(|| self.chain(Key::Patterns(identity.account_id())).find(fits)).flatten();
        user_ids.then(user_id).flatten().or_else(exact).or_else(sso).or_else(pattern)
    }

    /// The records with a key, those that count first before the others.
    fn chain(&self, key: Key<'_>) -> impl Iterator<Item = Held<'_>> {
        let first = self.index.find(self.hash_state.hash_one(key), |first| self.has_key(*first, &key)).copied();
        let held = |number: u32| usize::try_from(number).ok().and_then(|index| self.held(index));
        std::iter::successors(first.and_then(held), move |before| held(before.record.next))
    }

    fn held(&self, index: usize) -> Option<Held<'_>> {
        self.records.get(index).map(|record| Held { backend: self, record })
    }

    fn key_of(&self, number: u32) -> Option<Key<'_>> {
        usize::try_from(number).ok().and_then(|index| self.held(index))?.key()
    }

    fn has_key(&self, number: u32, key: &Key<'_>) -> bool {
        self.key_of(number).is_some_and(|other| other == *key)
    }

    fn text(&self, span: Span) -> &str {
        self.arena.get(range(span.start, span.length)).unwrap_or_default()
    }
}

fn range(start: u32, length: u32) -> std::ops::Range<usize> {
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    number(start)..number(start).saturating_add(number(length))
}

/// What a backend is built from.
#[derive(Default)]
struct Builder {
    arena: String,
    records: Vec<Record>,
    groups: Vec<Span>,
    known_groups: HashMap<String, Span>,
    known_lists: HashMap<Vec<Span>, u32>,
}

impl Builder {
    fn add(&mut self, mapping: &Mapping) {
        let Names { username, groups, user_id, position } = &mapping.names;
        let (groups, groups_count) = self.group_list(groups);
        let start = self.arena.len();
        let kind = match &mapping.subject {
            OwnedSubject::Anybody => Kind::Anybody,
            OwnedSubject::Exact { arn, shape } => {
                self.arena.push_str(arn);
                Kind::Exact(*shape)
            }
            OwnedSubject::Pattern { arn, shape } => {
                self.arena.push_str(arn);
                Kind::Pattern(*shape)
            }
            OwnedSubject::Sso { permission_set, account_id, partition } => {
                self.arena.push_str(permission_set);
                self.arena.push_str(account_id);
                Kind::Sso(*partition)
            }
        };
        let subject_length = self.arena.len().saturating_sub(start);
        self.arena.push_str(username);
        self.arena.push_str(user_id.as_deref().unwrap_or_default());
        let needs_ec2 = |template: &String| Template::new(template).needs().ec2_private_dns_name;
        self.records.push(Record {
            start: small(start),
            username_length: small(username.len()),
            user_id_length: small(user_id.as_ref().map_or(0, String::len)),
            groups,
            groups_count,
            next: END,
            line: position.map_or(0, |position| small(position.line)),
            column: position.map_or(0, |position| small(position.column)),
            // The longest ARN has 2048 bytes, the longest permission set 32.
            subject_length: u16::try_from(subject_length).unwrap_or(u16::MAX),
            kind,
            flags: Flags {
                by_user_id: mapping.by_user_id,
                has_placeholder: username.contains("{{"),
                needs_ec2: needs_ec2(username) || mapping.names.groups.iter().any(needs_ec2),
            },
        });
    }

    fn group_list(&mut self, groups: &[String]) -> (u32, u32) {
        let mut list = Vec::with_capacity(groups.len());
        for group in groups {
            let span = match self.known_groups.get(group) {
                Some(span) => *span,
                None => {
                    let span = Span { start: small(self.arena.len()), length: small(group.len()) };
                    self.arena.push_str(group);
                    self.known_groups.insert(group.clone(), span);
                    span
                }
            };
            list.push(span);
        }
        let count = small(list.len());
        let first = match self.known_lists.get(&list) {
            Some(first) => *first,
            None => {
                let first = small(self.groups.len());
                self.groups.extend_from_slice(&list);
                self.known_lists.insert(list, first);
                first
            }
        };
        (first, count)
    }
}

/// As it is kept. Whatever is beyond has no text behind it, and matches nobody.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Permission set and account of what is kept for an SSO role.
fn sso_parts(text: &str) -> Option<(&str, &str)> {
    text.split_at_checked(text.len().checked_sub(arngate_core::limits::ACCOUNT_ID_DIGITS)?)
}

/// The account of an ARN, its fifth part.
pub(super) fn account_of(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use arngate_core::mapping::{Rule, Rules};
    use proptest::prelude::*;

    use super::*;

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
            let identity = Identity::check(Partition::Aws, account_of(&arn), &arn, &user_id).unwrap();
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
