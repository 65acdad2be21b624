//! The mappings of one source as they are held: their texts in one arena.
//!
//! A mapping is a [`Head`] there with its own texts behind it, and a [`Form`] that it shares with all that are alike: a hundred thousand mappings take some 13 MB,
//! and to let go of them takes a handful of calls of the allocator.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use arngate_core::arn::{Arn, ArnShape};
use arngate_core::arn_pattern::PatternShape;
use arngate_core::mapping::{SsoRole, Subject, Template, UserId, Values};
use arngate_core::{Identity, Partition};

use super::given::{Mapping, Names, OwnedSubject};
use super::head::{BEYOND, Head, number_at, write_number};
use crate::document::Position;

/// Mappings in the order in which they count.
#[derive(Clone)]
pub(super) struct Arena {
    /// Heads and texts of the mappings; behind those of the first that has them its groups, and where each of these is.
    texts: String,
    forms: Vec<Form>,
    records: Vec<Record>,
}

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

/// What no look-up needs.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// Where its head is.
    at: u32,
    line: u32,
    column: u32,
}

const _: () = assert!(size_of::<Record>() + Head::LENGTH <= 28, "they stay small: there are a hundred thousand of them");

impl Arena {
    /// An arena with mappings in the order in which they count.
    pub(super) fn new(mappings: &[Mapping]) -> Self {
        let mut builder = Builder::default();
        builder.records.reserve_exact(mappings.len());
        mappings.iter().for_each(|mapping| builder.add(mapping));
        let Builder { mut texts, mut forms, records, .. } = builder;
        if texts.len() > whole(BEYOND) {
            tracing::error!(mappings = records.len(), "mappings of one source take more than 256 MiB: the last of them match nobody");
        }
        texts.shrink_to_fit();
        forms.shrink_to_fit();
        Self { texts, forms, records }
    }

    /// How many mappings there are.
    pub(super) const fn len(&self) -> usize {
        self.records.len()
    }

    /// Where each mapping is; [`BEYOND`] for one that is not there, which matches nobody.
    pub(super) fn places(&self) -> impl Clone + ExactSizeIterator<Item = u32> {
        self.records.iter().map(|record| record.at)
    }

    /// The mapping that is there.
    pub(super) fn at(&self, at: u32) -> Held<'_> {
        let rest = self.texts.get(whole(at)..).filter(|_| at != BEYOND).unwrap_or_default();
        let form = Head::form(rest).and_then(|form| self.forms.get(form)).unwrap_or(Form::UNKNOWN);
        Held { arena: self, rest, form }
    }
}

/// A mapping of a [`Backend`](super::Backend).
#[derive(Clone, Copy)]
pub struct Held<'a> {
    arena: &'a Arena,
    /// The texts from its head on.
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
        let texts = &self.arena.texts;
        let list = Head::groups(self.rest).and_then(|at| texts.get(at..));
        let count = list.map_or(0, |_| whole(self.form.groups_count));
        (0..count).map(move |group| {
            let number = |index: usize| number_at(list?, index);
            let (start, length) = (number(group.saturating_mul(2)), number(group.saturating_mul(2).saturating_add(1)));
            Template::new(start.map_or("", |start| part(texts, start, length)))
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

    /// Which mapping of its source it is, counted from 0.
    pub(super) fn number(self) -> Option<usize> {
        Head::number(self.rest)
    }

    fn record(self) -> Option<&'a Record> {
        self.arena.records.get(self.number()?)
    }

    /// The ARN that it is for, if that is all that counts. As a [`Subject`] it would be copied from one type into another time and again.
    pub(super) fn exact_arn(self) -> Option<Arn<'a>> {
        match self.form {
            Form { kind: Kind::Exact(shape), flags: Flags { by_user_id: false, .. }, .. } => shape.over(self.subject_text()),
            _ => None,
        }
    }

    /// Whether it is for an identity, though another one may count before it.
    pub(super) fn matches(self, identity: &Identity<'_>) -> bool {
        match self.form {
            // There may be a thousand of these, and the other way each were copied from one type into another time and again.
            Form { kind: Kind::Pattern(shape), flags: Flags { by_user_id: false, .. }, .. } => {
                shape.over(self.subject_text()).is_some_and(|pattern| pattern.matches(&identity.canonical_arn()))
            }
            _ => self.subject().is_some_and(|subject| subject.matches(identity)),
        }
    }

    /// Whether it is the same mapping of the same arena, not just an equal one.
    pub(super) fn is(self, other: Held<'_>) -> bool {
        std::ptr::eq(self.rest, other.rest)
    }
}

/// A part of the texts.
fn part(texts: &str, start: usize, length: Option<usize>) -> &str {
    length.and_then(|length| texts.get(start..start.checked_add(length)?)).unwrap_or_default()
}

/// What an arena is built from.
#[derive(Default)]
struct Builder {
    texts: String,
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
        let (at, number) = (self.texts.len(), self.records.len());
        let own = [subject, subject_rest, username, user_id];
        let own_length = own.map(str::len).iter().sum::<usize>();
        let (groups, new_groups) = self.group_list(groups, at.saturating_add(Head::LENGTH).saturating_add(own_length));
        Head { form, username_length: username.len(), groups, number }.write(&mut self.texts);
        self.texts.extend(own.into_iter().chain([new_groups.as_str()]));
        // Whatever ends beyond what can be counted is not there.
        let at = if small(self.texts.len()) < BEYOND { small(at) } else { BEYOND };
        let (line, column) = position.map_or((0, 0), |position| (small(position.line), small(position.column)));
        self.records.push(Record { at, line, column });
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

/// Permission set and account of what is kept for an SSO role.
fn sso_parts(text: &str) -> Option<(&str, &str)> {
    text.split_at_checked(text.len().checked_sub(arngate_core::limits::ACCOUNT_ID_DIGITS)?)
}

/// A number as it is kept. None that belongs to a mapping is too big for it: that mapping would end where nothing can be counted.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn whole(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::head::NUMBER_LENGTH;

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
        let arena = Arena::new(&mappings);
        assert_eq!(arena.len(), mappings.len());
        for (at, mapping) in arena.places().zip(&mappings) {
            let held = arena.at(at);
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
            let arena = Arena::new(mappings);
            (arena.forms.len(), arena.texts.len())
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
        let mut arena = Arena::new(&[mapping]);
        let nobody = |held: Held<'_>| held.subject().is_none() && held.username().as_str().is_empty() && held.groups().len() == 0;
        assert!(nobody(arena.at(BEYOND)) && !nobody(arena.at(0)));
        arena.texts.truncate(Head::LENGTH + ROLE.len() - 1);
        assert!(nobody(arena.at(u32::try_from(arena.texts.len()).unwrap())));
    }
}
