//! Entries of `mapRoles`, `mapUsers` and `mapAccounts`, as all documents write them.
//!
//! What is wrong with an entry is noted, and the entry left out; whoever reads decides whether the others count. What is merely odd is a warning.
//! Either tells where it is and what was expected, and not what is there: mappings stay out of logs.

use std::collections::{HashMap, HashSet};

use arngate_core::Partition;
use arngate_core::arn::{Arn, check_account_id};
use arngate_core::arn_pattern::ArnPattern;
use arngate_core::mapping::{Subject, SubjectError, Template};

use super::backend::Backend;
use super::given::{Mapping, Names};
use crate::document::{Field, Findings, Place, Section, Shown, Split, Text};

/// What the reading of mappings depends on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// The server's partition: that of an SSO entry that names none, and the only one whose ARNs can match.
    pub partition: Partition,
    /// Whether `*` and `?` are patterns.
    pub arn_patterns: bool,
    /// What becomes of SSO entries.
    pub sso: SsoEntries,
}

/// Whom entries are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whom {
    /// Whoever is named.
    Named,
    /// Whoever has the unique id, and is the one who is named, if somebody is.
    UserId,
}

/// What becomes of SSO entries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SsoEntries {
    /// They count, for somebody asked for it.
    Asked,
    /// They count, and are listed in a warning: the reference would want a feature gate.
    Listed,
    /// They are left out.
    Off,
}

/// A mapping and where it was read.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) mapping: Mapping,
    pub(super) place: Place,
}

impl Entry {
    /// What two entries for the same principal have in common; none for patterns.
    pub(super) fn key(&self) -> Option<String> {
        key_of(&self.mapping)
    }
}

/// What a list comes to.
#[derive(Clone, Debug)]
pub(super) struct List<T> {
    pub(super) good: Vec<T>,
    /// The [keys](Entry::key) of those that were left out, as far as these have one.
    pub(super) rejected: Vec<Option<String>>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { good: Vec::new(), rejected: Vec::new() }
    }
}

impl<T> List<T> {
    /// The items of which `read` makes something without noting an error.
    fn of<I>(
        items: impl IntoIterator<Item = I>,
        findings: &Findings,
        read: impl Fn(&I) -> Option<T>,
        key: impl Fn(&I) -> Option<String>,
    ) -> Self {
        let mut list = Self::default();
        for item in items {
            let noted = findings.errors_noted();
            match read(&item).filter(|_| findings.errors_noted() == noted) {
                Some(good) => list.good.push(good),
                None => list.rejected.push(key(&item)),
            }
        }
        list
    }
}

/// The entries of `mapRoles`.
pub(super) fn roles(list: &Field<'_>, options: &Options, whom: Whom) -> List<Entry> {
    entries(list, options, whom, |field| role(field, options, whom))
}

/// The entries of `mapUsers`.
pub(super) fn users(list: &Field<'_>, options: &Options, whom: Whom) -> List<Entry> {
    entries(list, options, whom, |field| user(field, options, whom))
}

fn entries<'a>(list: &Field<'a>, options: &Options, whom: Whom, read: impl Fn(&Field<'a>) -> Option<Mapping>) -> List<Entry> {
    // An empty text is an empty list, as in the reference.
    let fields = if list.is_empty_text() { Vec::new() } else { list.list() };
    let entry = |field: &Field<'a>| Some(Entry { mapping: read(field)?, place: field.place() });
    List::of(fields, list.findings(), entry, |field| principal(field, options, whom))
}

/// The good entries of a list, and for its bad ones what was good for the same principals before.
pub(super) fn with_stand_ins(list: List<Entry>, before: Vec<Entry>) -> Vec<Entry> {
    let List { mut good, rejected } = list;
    if rejected.is_empty() {
        return good;
    }
    let there: HashSet<_> = good.iter().filter_map(Entry::key).collect();
    let wanted: HashSet<_> = rejected.into_iter().flatten().filter(|principal| !there.contains(principal)).collect();
    good.extend(before.into_iter().filter(|entry| entry.key().is_some_and(|principal| wanted.contains(&principal))));
    good
}

/// The [key](Entry::key) of an entry of which something else is wrong.
fn principal(field: &Field<'_>, options: &Options, whom: Whom) -> Option<String> {
    let findings = Findings::default();
    let field = field.noting_in(&findings);
    let mut entry = field.map()?;
    let (arn, sso) = (entry.take("rolearn").or_else(|| entry.take("userarn")), entry.take("sso"));
    let user_id = entry.text("userid").map(|text| text.text);
    let names = Names { user_id, ..Names::default() };
    let mapping = match (arn, sso, whom) {
        (_, _, Whom::UserId) => Mapping::for_user_id(names),
        (Some(arn), None, Whom::Named) => exact_or_pattern(&arn, options, names),
        (None, Some(sso), Whom::Named) => sso_role(&sso, options, names),
        _ => None,
    };
    mapping.as_ref().and_then(key_of)
}

/// The accounts of `mapAccounts`; one text is split.
pub(super) fn accounts(list: &Field<'_>) -> List<String> {
    let findings = list.findings();
    let check = |text: &str| check_account_id(text).map(|()| text.to_owned()).map_err(|_| "expected 12 digits");
    if list.is_list() {
        return List::of(list.list(), findings, |field| field.text()?.read(findings, check), |_| None);
    }
    List::of(list.texts(Split::BlanksAndCommas), findings, |text| text.read(findings, check), |_| None)
}

/// The account ids of a list; what is none is an error.
pub(crate) fn account_ids(field: &Field<'_>) -> Vec<String> {
    accounts(field).good
}

/// A backend of all that was read, in the order in which it counts.
///
/// Both lists may hold ARNs of roles and of users, as in the reference, which compares nothing but canonical ARNs; roles are looked at first.
pub(super) fn backend(roles: Vec<Entry>, users: Vec<Entry>, accounts: Vec<String>, options: &Options, findings: &Findings) -> Backend {
    if options.sso == SsoEntries::Listed {
        list_sso(&roles, findings);
    }
    // Of exact ones the last counts, of patterns the first: so roles come after the one and before the other kind of users.
    let (patterns, exact): (Vec<_>, Vec<_>) =
        users.into_iter().partition(|entry| matches!(entry.mapping.subject(), Some(Subject::Pattern(_))));
    let ordered: Vec<_> = exact.into_iter().chain(roles).chain(patterns).collect();
    warn_of_duplicates(&ordered, findings);
    Backend::new(ordered.into_iter().map(|entry| entry.mapping).collect(), accounts.into_iter().collect())
}

/// One entry of `mapRoles`.
fn role(field: &Field<'_>, options: &Options, whom: Whom) -> Option<Mapping> {
    let mut entry = field.map()?;
    let arn = entry.take("rolearn");
    let sso = entry.take("sso");
    let names = names(&mut entry, field);
    entry.finish();
    // The reference takes an empty rolearn for none.
    let arn = arn.filter(|arn| !arn.is_empty_text());
    let named = match (arn, sso) {
        (Some(arn), None) => exact_or_pattern(&arn, options, names)?,
        (None, Some(sso)) => sso_role(&sso, options, names)?,
        (Some(_), Some(_)) => {
            field.error("expected either rolearn or sso, found both");
            return None;
        }
        (None, None) if whom == Whom::UserId => return by_user_id(field, Mapping::for_user_id(names)),
        (None, None) => {
            field.error("expected rolearn or sso, found neither");
            return None;
        }
    };
    if whom == Whom::UserId { by_user_id(field, named.by_user_id()) } else { Some(named) }
}

/// A mapping for a unique id, if there is one.
fn by_user_id(field: &Field<'_>, mapping: Option<Mapping>) -> Option<Mapping> {
    if mapping.is_none() {
        field.error("expected userid, for server.dynamicfileUserIDStrict is set");
    }
    mapping
}

/// One entry of `mapUsers`.
fn user(field: &Field<'_>, options: &Options, whom: Whom) -> Option<Mapping> {
    let mut entry = field.map()?;
    let arn = entry.take("userarn");
    let names = names(&mut entry, field);
    entry.finish();
    match (arn.filter(|arn| !arn.is_empty_text()), whom) {
        (Some(arn), Whom::Named) => exact_or_pattern(&arn, options, names),
        (Some(arn), Whom::UserId) => by_user_id(field, exact_or_pattern(&arn, options, names)?.by_user_id()),
        (None, Whom::UserId) => by_user_id(field, Mapping::for_user_id(names)),
        (None, Whom::Named) => {
            field.error("expected userarn");
            None
        }
    }
}

fn names(entry: &mut Section<'_>, field: &Field<'_>) -> Names {
    let username = entry.take("username");
    let groups = entry.take("groups");
    let user_id = entry.text("userid").map(|text| text.text).filter(|text| !text.is_empty());
    let groups: Vec<_> = groups.map(|groups| groups.texts(Split::Commas)).unwrap_or_default();
    let username = username.and_then(|username| username.text());
    for text in username.iter().chain(&groups) {
        look_at_template(text, entry.findings());
    }
    for group in &groups {
        look_at_group(group, entry.findings());
    }
    Names {
        username: username.map(|text| text.text).unwrap_or_default(),
        groups: groups.into_iter().map(|text| text.text).collect(),
        user_id,
        position: Some(field.position()),
    }
}

/// Notes what is odd about a template.
pub(super) fn look_at_template(text: &Text, findings: &Findings) {
    let template = Template::new(&text.text);
    if template.unknown().next().is_some() {
        findings.warn(text.place.clone(), "has {{…}} that is no placeholder and stays as it is");
    }
}

/// Notes what is odd about a group: an item that was indented too far is a part of the one before it.
fn look_at_group(text: &Text, findings: &Findings) {
    if text.text.contains(" - ") {
        findings.warn(text.place.clone(), "one group with \" - \" in it: is a line indented too far?");
    }
}

fn exact_or_pattern(field: &Field<'_>, options: &Options, names: Names) -> Option<Mapping> {
    for_arn(field.text()?, options, names, field.findings())
}

/// The mapping for an ARN; what is wrong or odd about it is noted.
pub(super) fn for_arn(arn: Text, options: &Options, names: Names, findings: &Findings) -> Option<Mapping> {
    let Text { text, place } = arn;
    let partition = Arn::parse(&text).ok().map(|arn| arn.partition());
    if let Some(partition) = partition.filter(|partition| *partition != options.partition) {
        let message = format!("the ARN is of the partition {partition}, the server of {}: it can never match", options.partition);
        findings.warn(place.clone(), message);
    }
    if ArnPattern::is_one(&text) && !options.arn_patterns {
        let message = "* and ? stand for themselves and match nobody; with server.arnPatterns: true they would be patterns";
        findings.warn(place.clone(), message);
    }
    Mapping::for_arn(text, options.arn_patterns, names).map_err(|error| findings.error(place, error.to_string())).ok()
}

fn sso_role(field: &Field<'_>, options: &Options, names: Names) -> Option<Mapping> {
    let mut sso = field.map()?;
    let permission_set = sso.take("permissionSetName");
    let account = sso.take("accountID");
    let partition = sso.take("partition").filter(|partition| !partition.is_empty_text());
    sso.finish();
    let partition = match partition {
        None => Some(options.partition),
        Some(field) => field.read(partition_named),
    };
    if let Some(partition) = partition.filter(|partition| *partition != options.partition) {
        field.warn(format!("the role is of the partition {partition}, the server of {}: it can never match", options.partition));
    }
    let (Some(permission_set), Some(account)) = (permission_set, account) else {
        field.error("expected permissionSetName and accountID");
        return None;
    };
    let (set_text, account_text) = (permission_set.text(), account.text());
    let mapping = Mapping::for_sso(set_text?.text, account_text?.text, partition?, names).map_err(|error| {
        let field = if error == SubjectError::Account { &account } else { &permission_set };
        field.error(error.to_string());
    });
    if options.sso == SsoEntries::Off {
        field.warn("left out, for the feature gate SSORoleMatch is off");
        return None;
    }
    mapping.ok()
}

/// Reads the name of a partition.
///
/// # Errors
///
/// A sentence that lists them.
pub(crate) fn partition_named(name: &str) -> Result<Partition, String> {
    // In the reference the name's case counts, and nobody has written another one.
    Partition::from_name(name)
        .ok_or_else(|| format!("expected a partition, one of {}, found {}", Partition::ALL.map(Partition::name).join(", "), Shown(name)))
}

/// Lists the SSO entries in one warning.
fn list_sso(roles: &[Entry], findings: &Findings) {
    /// As many as fit on a line that somebody reads.
    const LISTED: usize = 20;
    let sso: Vec<_> = roles.iter().filter(|entry| matches!(entry.mapping.subject(), Some(Subject::Sso(_)))).collect();
    let Some(first) = sso.first() else { return };
    let line = |entry: &&Entry| entry.place.position().map(|position| position.line.to_string());
    let lines: Vec<_> = sso.iter().take(LISTED).filter_map(line).collect();
    let more = if sso.len() > LISTED { " and more" } else { "" };
    let message = format!(
        "SSO entries count without the feature gate SSORoleMatch, which the reference wants: {} of them, in line {}{more}",
        sso.len(),
        lines.join(", ")
    );
    findings.warn(first.place.clone(), message);
}

/// Warns of entries that a later one for the same principal puts out of force.
pub(super) fn warn_of_duplicates(entries: &[Entry], findings: &Findings) {
    let mut seen = HashMap::new();
    for entry in entries {
        let Some(key) = key_of(&entry.mapping) else { continue };
        if let Some(before) = seen.insert(key, entry) {
            let before: &Entry = before;
            findings.warn(before.place.clone(), format!("has no effect, for {} is for the same principal", entry.place.within()));
        }
    }
}

/// What two mappings for the same principal have in common.
fn key_of(mapping: &Mapping) -> Option<String> {
    match mapping.subject()? {
        Subject::Exact(arn) => Some(arn.key().to_string()),
        Subject::Sso(role) => Some(format!("{role:?}").to_ascii_lowercase()),
        Subject::UserId(id) => Some(id.id().to_owned()),
        _ => None,
    }
}
