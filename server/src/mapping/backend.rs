//! The mappings of one source, with indexes over them.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};

use arngate_core::arn::CanonicalArn;
use arngate_core::limits::ARN_MAX_BYTES;
use arngate_core::mapping::{SsoRole, Subject, SubjectError, Template};
use arngate_core::{Identity, Partition};

use crate::document::Position;

/// One mapping: whom it is for, and what it makes of him.
#[derive(Clone, Debug)]
pub struct Mapping {
    subject: OwnedSubject,
    username: Name,
    groups: Vec<Name>,
    user_id: Option<String>,
    position: Option<Position>,
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

/// A core [`Subject`] that owns its text. What it borrows is read again for a match: only patterns and SSO roles of the identity's own
/// account ever are.
#[derive(Clone, Debug)]
enum OwnedSubject {
    Exact { arn: String },
    Pattern { arn: String },
    Sso { permission_set: String, account_id: String, partition: Partition },
}

/// A template, and what is to be known of it at each look-up.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) template: String,
    pub(super) has_placeholder: bool,
    needs_ec2: bool,
}

impl Name {
    fn new(template: String) -> Self {
        let needs_ec2 = Template::new(&template).needs().ec2_private_dns_name;
        Self { has_placeholder: template.contains("{{"), needs_ec2, template }
    }
}

impl Mapping {
    /// A mapping for a `rolearn` or `userarn`; `patterns` says whether `*` and `?` have a meaning.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] where the ARN is none, or a pattern that could never match or matches too much.
    pub fn for_arn(arn: String, patterns: bool, names: Names) -> Result<Self, SubjectError> {
        let is_pattern = matches!(Subject::from_arn(&arn, patterns)?, Subject::Pattern(_));
        let subject = if is_pattern { OwnedSubject::Pattern { arn } } else { OwnedSubject::Exact { arn } };
        Ok(Self::new(subject, names))
    }

    /// A mapping for the role of a permission set.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] where AWS would take neither the permission set's name nor the account.
    pub fn for_sso(permission_set: String, account_id: String, partition: Partition, names: Names) -> Result<Self, SubjectError> {
        SsoRole::new(&permission_set, &account_id, partition)?;
        Ok(Self::new(OwnedSubject::Sso { permission_set, account_id, partition }, names))
    }

    fn new(subject: OwnedSubject, names: Names) -> Self {
        let Names { username, groups, user_id, position } = names;
        Self { subject, username: Name::new(username), groups: groups.into_iter().map(Name::new).collect(), user_id, position }
    }

    /// Whom it is for. There is always one, for the constructors have read the same text.
    #[must_use]
    pub fn subject(&self) -> Option<Subject<'_>> {
        match &self.subject {
            OwnedSubject::Exact { arn } => Subject::from_arn(arn, false).ok(),
            OwnedSubject::Pattern { arn } => Subject::from_arn(arn, true).ok(),
            OwnedSubject::Sso { permission_set, account_id, partition } => {
                SsoRole::new(permission_set, account_id, *partition).map(Subject::Sso).ok()
            }
        }
    }
}

/// A mapping of a [`Backend`].
#[derive(Clone, Copy, Debug)]
pub struct Held<'a>(&'a Mapping);

impl<'a> Held<'a> {
    /// Whom it is for. There is always one, for the constructors of [`Mapping`] have read the same text.
    #[must_use]
    pub fn subject(self) -> Option<Subject<'a>> {
        self.0.subject()
    }

    /// The template of the user's name.
    #[must_use]
    pub fn username(self) -> Template<'a> {
        Template::new(&self.0.username.template)
    }

    /// The templates of the user's groups.
    pub fn groups(self) -> impl Clone + ExactSizeIterator<Item = Template<'a>> {
        self.0.groups.iter().map(|group| Template::new(&group.template))
    }

    /// The unique id that a strict dynamic file compares.
    #[must_use]
    pub fn user_id(self) -> Option<&'a str> {
        self.0.user_id.as_deref()
    }

    /// Where it stands in its document.
    #[must_use]
    pub const fn position(self) -> Option<Position> {
        self.0.position
    }

    /// Whether a name or a group wants the private DNS name of an instance.
    #[must_use]
    pub fn needs_ec2(self) -> bool {
        self.0.username.needs_ec2 || self.0.groups.iter().any(|group| group.needs_ec2)
    }

    fn matches(self, identity: &Identity<'_>) -> bool {
        self.subject().is_some_and(|subject| subject.matches(identity))
    }

    /// Whether it is the same mapping of the same backend, not just an equal one.
    #[cfg(test)]
    fn is(self, other: Held<'_>) -> bool {
        std::ptr::eq(self.0, other.0)
    }

    pub(super) const fn name(self) -> &'a Name {
        &self.0.username
    }

    pub(super) fn group_names(self) -> &'a [Name] {
        &self.0.groups
    }
}

/// The mappings of one source, whole.
#[derive(Clone, Debug)]
pub struct Backend {
    mappings: Vec<Mapping>,
    /// By [`ArnKey`](arngate_core::arn::ArnKey); the last of equal ones.
    exact: HashMap<String, usize>,
    /// By account, in order.
    sso: HashMap<String, Vec<usize>>,
    /// By account, in order.
    patterns: HashMap<String, Vec<usize>>,
    accounts: HashSet<String>,
    has_gaps: bool,
}

impl Backend {
    /// A backend with mappings in the order in which they count: of exact and of SSO ones the last wins, of patterns the first.
    #[must_use]
    pub fn new(mappings: Vec<Mapping>, accounts: HashSet<String>) -> Self {
        let (mut exact, mut sso, mut patterns) = (HashMap::new(), HashMap::<String, Vec<_>>::new(), HashMap::<String, Vec<_>>::new());
        for (index, mapping) in mappings.iter().enumerate() {
            match (mapping.subject(), &mapping.subject) {
                (Some(Subject::Exact(arn)), _) => drop(exact.insert(arn.key().to_string(), index)),
                (_, OwnedSubject::Sso { account_id, .. }) => sso.entry(account_id.clone()).or_default().push(index),
                (_, OwnedSubject::Pattern { arn } | OwnedSubject::Exact { arn }) => {
                    patterns.entry(account_of(arn).to_owned()).or_default().push(index);
                }
            }
        }
        Self { mappings, exact, sso, patterns, accounts, has_gaps: false }
    }

    /// The same, where a part of the source could not be read and was never read before: whoever is not mapped may be mapped there.
    #[must_use]
    pub const fn with_gaps(mut self) -> Self {
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
        self.mappings.iter().map(Held)
    }

    /// How many mappings and accounts there are.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.mappings.len().saturating_add(self.accounts.len())
    }

    /// Whether all of an account is let in.
    #[must_use]
    pub fn has_account(&self, account_id: &str) -> bool {
        self.accounts.contains(account_id)
    }

    /// The mapping for an identity: what [`Rules::find`](arngate_core::mapping::Rules::find) finds, by indexes.
    #[must_use]
    pub fn find(&self, identity: &Identity<'_>) -> Option<Held<'_>> {
        let fits = |index: &&usize| self.mappings.get(**index).is_some_and(|mapping| Held(mapping).matches(identity));
        let sso = || self.sso.get(identity.account_id()).and_then(|indexes| indexes.iter().rev().find(fits));
        let pattern = || self.patterns.get(identity.account_id()).and_then(|indexes| indexes.iter().find(fits));
        let index = self.find_exact(&identity.canonical_arn()).or_else(sso).or_else(pattern)?;
        self.mappings.get(*index).map(Held)
    }

    fn find_exact(&self, arn: &CanonicalArn<'_>) -> Option<&usize> {
        if self.exact.is_empty() {
            return None;
        }
        let mut key = KeyBuffer::new();
        write!(key, "{}", arn.key()).ok()?;
        self.exact.get(key.as_str())
    }
}

/// The account of an ARN, its fifth part.
pub(super) fn account_of(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

/// Room for a key on the stack, so that a look-up need not allocate. A key is never longer than the ARN that it is made of.
struct KeyBuffer {
    bytes: [u8; ARN_MAX_BYTES],
    length: usize,
}

impl KeyBuffer {
    const fn new() -> Self {
        Self { bytes: [0; ARN_MAX_BYTES], length: 0 }
    }

    fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl fmt::Write for KeyBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length.saturating_add(text.len());
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arngate_core::mapping::{Rule, Rules};
    use proptest::prelude::*;

    use super::*;

    fn identity(arn: &str) -> Identity<'_> {
        let account = account_of(arn);
        let session = arn.rsplit_once('/').map_or("", |(_, session)| session);
        let user_id: &'static str = if arn.contains(":assumed-role/") { format!("AROAEXAMPLE:{session}").leak() } else { "AIDAEXAMPLE" };
        Identity::check(Partition::Aws, account, arn, user_id).unwrap()
    }

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
        prop_oneof![3 => arn, 1 => sso]
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
        ) {
            let identity = identity(&arn);
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
