//! The mappings of one source, with indexes over them.
//!
//! A backend holds all texts in one arena. A mapping is a [`Head`] there with its own texts behind it, and a [`Form`] that it shares with all that are alike: a
//! hundred thousand mappings take some 13 MB, and to let go of them takes a handful of calls of the allocator. One hash table tells where in the arena what can fit
//! an identity begins; so a look-up waits for memory twice, for the table and for what lies there. Mappings that share a key of it are a chain, in the order in which
//! they count, by way of their [`Record`]s.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::BuildHasher as _;

use arngate_core::arn::{ArnKey, ArnShape};
use arngate_core::arn_pattern::PatternShape;
use arngate_core::mapping::{SsoRole, Subject, Template, UserId, Values};
use arngate_core::{Identity, Partition};
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::given::{Mapping, Names, OwnedSubject};
use super::head::{BEYOND, Head, number_at, write_number};
use crate::document::Position;

/// What a subject is made of.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Kind {
    Anybody,
    /// An ARN, which need not be read again for each look-up; nor need a pattern.
    Exact(ArnShape),
    Pattern(PatternShape),
    /// The name of a permission set, behind which the account lies.
    Sso(Partition),
}

/// What many mappings have in common, for lengths of texts do not differ as the texts do. Behind the head of a mapping lie its subject, name and unique id, then those
/// of its groups that no mapping before it has, and then the list of its groups, if that is new too: where each begins, and how long it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Form {
    groups_count: u32,
    user_id_length: u32,
    subject_length: u16,
    kind: Kind,
    flags: Flags,
}

impl Form {
    /// That of a mapping beyond what can be counted: it matches nobody.
    const UNKNOWN: &Self = &Self {
        groups_count: 0,
        user_id_length: 0,
        subject_length: 0,
        kind: Kind::Anybody,
        flags: Flags { by_user_id: false, has_placeholder: false, needs_ec2: false },
    };
}

/// What is to be known of a mapping without a look at its texts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Flags {
    by_user_id: bool,
    has_placeholder: bool,
    needs_ec2: bool,
}

/// What no look-up needs that finds one mapping with its key.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// Where in the arena its head is.
    at: u32,
    /// Where that of the next one is that has the same key of the index and counts after it, or [`END`].
    next: u32,
    line: u32,
    column: u32,
}

/// There is no mapping after this one.
const END: u32 = BEYOND;

const _: () = assert!(size_of::<Record>() + Head::LENGTH <= 32, "they stay small: there are a hundred thousand of them");

/// A mapping of a [`Backend`].
#[derive(Clone, Copy)]
pub struct Held<'a> {
    backend: &'a Backend,
    /// The arena from its head on.
    rest: &'a str,
    form: &'a Form,
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
        let id = self.form.flags.by_user_id.then(|| self.user_id());
        id.map_or(named, |id| Some(Subject::UserId(UserId::new(id?, named))))
    }

    /// Who is named; nobody is where the unique id says it all.
    fn named(self) -> Option<Option<Subject<'a>>> {
        let text = self.subject_text();
        Some(match self.form.kind {
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
        let start = Head::LENGTH.saturating_add(self.form.subject_length.into());
        Template::new(part(self.rest, start, Head::username_length(self.rest)))
    }

    /// The templates of the user's groups.
    pub fn groups(self) -> impl Clone + ExactSizeIterator<Item = Template<'a>> {
        let arena = &self.backend.arena;
        let list = Head::groups(self.rest).and_then(|at| arena.get(at..));
        let count = list.map_or(0, |_| whole(self.form.groups_count));
        (0..count).map(move |group| {
            let number = |index: usize| number_at(list?, index);
            let (start, length) = (number(group.saturating_mul(2)), number(group.saturating_mul(2).saturating_add(1)));
            Template::new(start.map_or("", |start| part(arena, start, length)))
        })
    }

    /// The unique id that a strict dynamic file compares.
    #[must_use]
    pub fn user_id(self) -> Option<&'a str> {
        let Form { subject_length, user_id_length, .. } = *self.form;
        let before = Head::LENGTH.saturating_add(subject_length.into());
        let start = before.saturating_add(Head::username_length(self.rest)?);
        (user_id_length > 0).then(|| part(self.rest, start, Some(whole(user_id_length))))
    }

    /// Where it stands in its document.
    #[must_use]
    pub fn position(self) -> Option<Position> {
        let Record { line, column, .. } = *self.record()?;
        (line > 0).then(|| Position { line: whole(line), column: whole(column) })
    }

    /// Whether a name or a group wants the private DNS name of an instance.
    #[must_use]
    pub const fn needs_ec2(self) -> bool {
        self.form.flags.needs_ec2
    }

    /// The user's name with `values` put in.
    pub(super) fn rendered_username(self, values: &Values<'_>) -> Cow<'a, str> {
        let template = self.username();
        if !self.form.flags.has_placeholder {
            return Cow::Borrowed(template.as_str());
        }
        let mut out = String::with_capacity(template.as_str().len());
        // Writing to a string does not fail, and whatever needs an instance's name has been sorted out before.
        let _ = template.render(values, &mut out);
        Cow::Owned(out)
    }

    fn subject_text(self) -> &'a str {
        part(self.rest, Head::LENGTH, Some(self.form.subject_length.into()))
    }

    fn record(self) -> Option<&'a Record> {
        self.backend.records.get(Head::number(self.rest)?)
    }

    fn matches(self, identity: &Identity<'_>) -> bool {
        match self.form {
            // There may be a thousand of these, and the other way each were copied from one type into another time and again.
            Form { kind: Kind::Pattern(shape), flags: Flags { by_user_id: false, .. }, .. } => {
                shape.over(self.subject_text()).is_some_and(|pattern| pattern.matches(&identity.canonical_arn()))
            }
            _ => self.subject().is_some_and(|subject| subject.matches(identity)),
        }
    }

    /// What it is found by.
    fn key(self) -> Option<Key<'a>> {
        if self.form.flags.by_user_id {
            return self.user_id().map(Key::UserId);
        }
        match self.named()?? {
            Subject::Exact(arn) => Some(Key::Exact(arn.key())),
            Subject::Pattern(_) => Some(Key::Patterns(account_of(self.subject_text()))),
            Subject::Sso(_) => sso_parts(self.subject_text()).map(|(_, account_id)| Key::Sso(account_id)),
            _ => None,
        }
    }

    fn has_key(self, key: &Key<'_>) -> bool {
        match (key, self.form) {
            // Most look-ups are for one of these; the other way the ARN would be copied from one type into another time and again.
            (Key::Exact(key), Form { kind: Kind::Exact(shape), flags: Flags { by_user_id: false, .. }, .. }) => {
                shape.over(self.subject_text()).is_some_and(|arn| arn.canonical().key() == *key)
            }
            _ => self.key().is_some_and(|own| own == *key),
        }
    }

    /// Whether it is among the patterns of an account, of which the first counts.
    fn is_found_as_a_pattern(self) -> bool {
        matches!(self.form.kind, Kind::Pattern(_)) && !self.form.flags.by_user_id
    }

    /// Whether it is the same mapping of the same backend, not just an equal one.
    pub(super) fn is(self, other: Held<'_>) -> bool {
        std::ptr::eq(self.rest, other.rest)
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
    /// Heads and texts of the mappings; behind those of the first that has them its groups, and where in the arena each is.
    arena: String,
    forms: Vec<Form>,
    /// In the order in which they count.
    records: Vec<Record>,
    /// Where in the arena the first mapping of each key is.
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
        let Builder { mut arena, mut forms, records, .. } = builder;
        if arena.len() > whole(BEYOND) {
            tracing::error!(mappings = records.len(), "mappings of one source take more than 256 MiB: the last of them match nobody");
        }
        arena.shrink_to_fit();
        forms.shrink_to_fit();
        let (index, kinds, hash_state) = (HashTable::new(), Kinds::default(), RandomState::default());
        let mut backend = Self { arena, forms, records, index, kinds, hash_state, accounts, has_gaps: false };
        backend.build_index();
        backend
    }

    fn build_index(&mut self) {
        let (patterns, others): (Vec<_>, Vec<_>) =
            self.records.iter().map(|record| record.at).partition(|at| self.at(*at).is_found_as_a_pattern());
        let mut kinds = Kinds::default();
        let mut table = HashTable::with_capacity(self.records.len());
        // Whoever comes to a key last is the first of its chain.
        for at in others.into_iter().chain(patterns.into_iter().rev()) {
            let held = self.at(at);
            let (Some(number), Some(key)) = (Head::number(held.rest), held.key()) else { continue };
            match key {
                Key::UserId(_) => kinds.user_ids = true,
                Key::Exact(_) => kinds.exact = true,
                Key::Sso(_) => kinds.sso = true,
                Key::Patterns(_) => kinds.patterns = true,
            }
            let hash = self.hash_state.hash_one(key);
            let next = match table.find_mut(hash, |first| self.at(*first).has_key(&key)) {
                Some(first) => std::mem::replace(first, at),
                None => {
                    table.insert_unique(hash, at, |other| self.hash_of(*other));
                    END
                }
            };
            if let Some(record) = self.records.get_mut(number) {
                record.next = next;
            }
        }
        table.shrink_to(0, |other| self.hash_of(*other));
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
        self.records.iter().map(|record| self.at(record.at))
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
        let exact = || exact.then(|| self.first(Key::Exact(identity.canonical_arn().key()))).flatten();
        let sso = || sso.then(|| self.chain(Key::Sso(identity.account_id())).find(fits)).flatten();
        let pattern = || patterns.then(|| self.chain(Key::Patterns(identity.account_id())).find(fits)).flatten();
        user_ids.then(user_id).flatten().or_else(exact).or_else(sso).or_else(pattern)
    }

    /// The mappings with a key, those that count first before the others.
    fn chain(&self, key: Key<'_>) -> impl Iterator<Item = Held<'_>> {
        let after = |before: &Held<'_>| Some(before.record()?.next).filter(|next| *next != END).map(|next| self.at(next));
        std::iter::successors(self.first(key), after)
    }

    /// The mapping with a key that counts before all others. Nothing is asked for the sake of the others: that would be one more wait for memory.
    fn first(&self, key: Key<'_>) -> Option<Held<'_>> {
        let mut first = None;
        self.index.find(self.hash_state.hash_one(key), |at| {
            first = Some(self.at(*at)).filter(|held| held.has_key(&key));
            first.is_some()
        });
        first
    }

    /// The mapping whose head is there.
    fn at(&self, at: u32) -> Held<'_> {
        let rest = self.arena.get(whole(at)..).filter(|_| at != BEYOND).unwrap_or_default();
        let form = Head::form(rest).and_then(|form| self.forms.get(form)).unwrap_or(Form::UNKNOWN);
        Held { backend: self, rest, form }
    }

    fn hash_of(&self, at: u32) -> u64 {
        self.at(at).key().map_or(0, |key| self.hash_state.hash_one(key))
    }
}

/// A part of an arena.
fn part(arena: &str, start: usize, length: Option<usize>) -> &str {
    length.and_then(|length| arena.get(start..start.checked_add(length)?)).unwrap_or_default()
}

/// What a backend is built from.
#[derive(Default)]
struct Builder {
    arena: String,
    forms: Vec<Form>,
    records: Vec<Record>,
    known_forms: HashMap<Form, usize>,
    /// Where they are.
    known_groups: HashMap<String, usize>,
    /// Where they are, by where each of their groups is.
    known_lists: HashMap<Vec<(usize, usize)>, usize>,
}

impl Builder {
    fn add(&mut self, mapping: &Mapping) {
        let Names { username, groups, user_id, position } = &mapping.names;
        let user_id = user_id.as_deref().unwrap_or_default();
        let ([subject, subject_rest], kind): ([&str; 2], _) = match &mapping.subject {
            OwnedSubject::Anybody => (["", ""], Kind::Anybody),
            OwnedSubject::Exact { arn, shape } => ([arn, ""], Kind::Exact(*shape)),
            OwnedSubject::Pattern { arn, shape } => ([arn, ""], Kind::Pattern(*shape)),
            OwnedSubject::Sso { permission_set, account_id, partition } => ([permission_set, account_id], Kind::Sso(*partition)),
        };
        let needs_ec2 = |template: &String| Template::new(template).needs().ec2_private_dns_name;
        let form = self.form(Form {
            groups_count: small(groups.len()),
            user_id_length: small(user_id.len()),
            // The longest ARN has 2048 bytes, the longest permission set 32.
            subject_length: u16::try_from(subject.len().saturating_add(subject_rest.len())).unwrap_or(u16::MAX),
            kind,
            flags: Flags {
                by_user_id: mapping.by_user_id,
                has_placeholder: username.contains("{{"),
                needs_ec2: needs_ec2(username) || groups.iter().any(needs_ec2),
            },
        });
        let (at, number) = (self.arena.len(), self.records.len());
        let texts = [subject, subject_rest, username, user_id];
        let texts_length = texts.map(str::len).iter().sum::<usize>();
        let (groups, new_groups) = self.group_list(groups, at.saturating_add(Head::LENGTH).saturating_add(texts_length));
        Head { form, username_length: username.len(), groups, number }.write(&mut self.arena);
        self.arena.extend(texts.into_iter().chain([new_groups.as_str()]));
        // Whatever ends beyond what can be counted is not there.
        let at = if small(self.arena.len()) < BEYOND { small(at) } else { BEYOND };
        let (line, column) = position.map_or((0, 0), |position| (small(position.line), small(position.column)));
        self.records.push(Record { at, next: END, line, column });
    }

    fn form(&mut self, form: Form) -> usize {
        *self.known_forms.entry(form).or_insert_with(|| {
            self.forms.push(form);
            self.forms.len().saturating_sub(1)
        })
    }

    /// Where the list of these groups is, and what of it was not there before: that has to be put at `end`.
    fn group_list(&mut self, groups: &[String], end: usize) -> (usize, String) {
        let mut new = String::new();
        let mut list = Vec::with_capacity(groups.len());
        for group in groups {
            let start = match self.known_groups.get(group) {
                Some(start) => *start,
                None => {
                    let start = end.saturating_add(new.len());
                    new.push_str(group);
                    self.known_groups.insert(group.clone(), start);
                    start
                }
            };
            list.push((start, group.len()));
        }
        match self.known_lists.get(&list) {
            Some(at) => (*at, new),
            None => {
                let at = end.saturating_add(new.len());
                list.iter().flat_map(|(start, length)| [start, length]).for_each(|number| write_number(*number, &mut new));
                self.known_lists.insert(list, at);
                (at, new)
            }
        }
    }
}

/// A number as it is kept. None that belongs to a mapping is too big for it: that mapping would end where nothing can be counted.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn whole(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
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
    use crate::mapping::head::NUMBER_LENGTH;

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

    const ROLE: &str = "arn:aws:iam::123456789012:role/path/Admin";

    fn named(username: &str, groups: &[&str], user_id: Option<&str>, position: Option<Position>) -> Names {
        Names {
            username: username.into(),
            groups: groups.iter().map(|group| (*group).into()).collect(),
            user_id: user_id.map(Into::into),
            position,
        }
    }

    #[test]
    fn a_mapping_is_given_back_as_it_was() {
        let at = |line, column| Some(Position { line, column });
        let role = |names| Mapping::for_arn(ROLE.into(), false, names).unwrap();
        let long = "n".repeat(70_000);
        let mappings = [
            role(named("jane", &["a", "b"], None, at(3, 9))),
            role(named("", &[], None, None)),
            Mapping::for_arn(
                "arn:aws:iam::123456789012:user/*".into(),
                true,
                named("é{{AccountID}}", &["b"], Some("AIDAEXAMPLE"), at(70_000, 1)),
            )
            .unwrap(),
            Mapping::for_sso("Admin".into(), "123456789012".into(), Partition::AwsCn, named(&long, &["b", "a"], None, None)).unwrap(),
            Mapping::for_user_id(named("x", &["a", "b"], Some("AROAEXAMPLE"), at(1, 300_000_000))).unwrap(),
            role(named("i", &["{{EC2PrivateDNSName}}", ""], Some("AROAEXAMPLE"), None)).by_user_id().unwrap(),
        ];
        let backend = Backend::new(mappings.to_vec(), HashSet::new());
        assert_eq!(backend.mappings().len(), mappings.len());
        for (held, mapping) in backend.mappings().zip(&mappings) {
            let Names { username, groups, user_id, position } = &mapping.names;
            assert_eq!(held.subject(), mapping.subject());
            assert_eq!(held.username().as_str(), username);
            assert!(held.groups().map(|group| group.as_str()).eq(groups.iter()), "{held:?}");
            assert_eq!(held.user_id(), user_id.as_deref());
            assert_eq!(held.position(), *position);
            assert_eq!(held.needs_ec2(), username == "i");
        }
    }

    #[test]
    fn what_mappings_have_in_common_is_kept_once() {
        let role = |name: &str, groups: &[&str]| {
            Mapping::for_arn(format!("arn:aws:iam::123456789012:role/{name}"), false, named(name, groups, None, None)).unwrap()
        };
        let count = |mappings: &[Mapping]| {
            let backend = Backend::new(mappings.to_vec(), HashSet::new());
            (backend.forms.len(), backend.arena.len())
        };
        // The role's ARN, its name, and the user's.
        let own = |name: &str| Head::LENGTH + "arn:aws:iam::123456789012:role/".len() + 2 * name.len();
        let alike = [role("Ada", &["a"]), role("Bob", &["b"]), role("Eve", &["a"])];
        assert_eq!(count(&alike), (1, 3 * own("Ada") + "ab".len() + 2 * 2 * NUMBER_LENGTH));
        let different = [role("Ada", &["a"]), role("Jane", &["a"]), role("Eve", &["a", "a"])];
        assert_eq!(count(&different), (3, 2 * own("Ada") + own("Jane") + "a".len() + 3 * 2 * NUMBER_LENGTH));
    }

    #[test]
    fn a_mapping_that_is_not_in_the_arena_matches_nobody() {
        let mapping = Mapping::for_arn(ROLE.into(), false, named("jane", &["a"], Some("AROAEXAMPLE"), None)).unwrap();
        let mut backend = Backend::new(vec![mapping], HashSet::new());
        let nobody = |held: Held<'_>| held.subject().is_none() && held.username().as_str().is_empty() && held.groups().len() == 0;
        assert!(nobody(backend.at(BEYOND)) && !nobody(backend.at(0)));
        backend.arena.truncate(Head::LENGTH + ROLE.len() - 1);
        assert!(nobody(backend.at(u32::try_from(backend.arena.len()).unwrap())));
        let arn = "arn:aws:sts::123456789012:assumed-role/Admin/jane";
        let identity = Identity::check(Partition::Aws, "123456789012", arn, "AROAEXAMPLE:jane").unwrap();
        assert!(backend.find(&identity).is_none());
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
