//! Mappings with indexes over them, and the look-up.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};

use arngate_core::arn::CanonicalArn;
use arngate_core::limits::ARN_MAX_BYTES;
use arngate_core::mapping::{SsoRole, Subject, SubjectError, Template, Values, is_instance_id};
use arngate_core::{Identity, Partition};

use super::BackendMode;
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
struct Name {
    template: String,
    has_placeholder: bool,
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

    /// The template of the user's name.
    #[must_use]
    pub fn username(&self) -> Template<'_> {
        Template::new(&self.username.template)
    }

    /// The templates of the user's groups.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = Template<'_>> {
        self.groups.iter().map(|group| Template::new(&group.template))
    }

    /// The unique id that a strict dynamic file compares.
    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }

    /// Where it stands in its document.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    fn matches(&self, identity: &Identity<'_>) -> bool {
        self.subject().is_some_and(|subject| subject.matches(identity))
    }

    fn needs_ec2(&self) -> bool {
        self.username.needs_ec2 || self.groups.iter().any(|group| group.needs_ec2)
    }
}

/// The mappings of one source, whole.
#[derive(Clone, Debug)]
pub struct Backend {
    mode: BackendMode,
    mappings: Vec<Mapping>,
    /// By [`ArnKey`](arngate_core::arn::ArnKey); the last of equal ones.
    exact: HashMap<String, usize>,
    /// By account, in order.
    sso: HashMap<String, Vec<usize>>,
    /// By account, in order.
    patterns: HashMap<String, Vec<usize>>,
    accounts: HashSet<String>,
    reserved_prefixes: Vec<String>,
}

impl Backend {
    /// A backend with mappings in the order in which they count: of exact and of SSO ones the last wins, of patterns the first.
    #[must_use]
    pub fn new(mode: BackendMode, mappings: Vec<Mapping>, accounts: HashSet<String>, reserved_prefixes: Vec<String>) -> Self {
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
        // An empty prefix reserves nothing, as in the reference.
        let reserved_prefixes = reserved_prefixes.into_iter().filter(|prefix| !prefix.is_empty()).collect();
        Self { mode, mappings, exact, sso, patterns, accounts, reserved_prefixes }
    }

    /// Where its mappings come from.
    #[must_use]
    pub const fn mode(&self) -> BackendMode {
        self.mode
    }

    /// Its mappings.
    #[must_use]
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// The mapping for an identity: what [`Rules::find`](arngate_core::mapping::Rules::find) finds, by indexes.
    #[must_use]
    pub fn find(&self, identity: &Identity<'_>) -> Option<&Mapping> {
        let fits = |index: &&usize| self.mappings.get(**index).is_some_and(|mapping| mapping.matches(identity));
        let sso = || self.sso.get(identity.account_id()).and_then(|indexes| indexes.iter().rev().find(fits));
        let pattern = || self.patterns.get(identity.account_id()).and_then(|indexes| indexes.iter().find(fits));
        let index = self.find_exact(&identity.canonical_arn()).or_else(sso).or_else(pattern)?;
        self.mappings.get(*index)
    }

    fn find_exact(&self, arn: &CanonicalArn<'_>) -> Option<&usize> {
        if self.exact.is_empty() {
            return None;
        }
        let mut key = KeyBuffer::new();
        write!(key, "{}", arn.key()).ok()?;
        self.exact.get(key.as_str())
    }

    /// The reserved prefix that a name begins with.
    fn reserved_prefix(&self, username: &str) -> Option<&str> {
        self.reserved_prefixes.iter().map(String::as_str).find(|prefix| username.starts_with(prefix))
    }
}

/// The account of an ARN, its fifth part.
fn account_of(arn: &str) -> &str {
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

/// All mappings in force, and whose names stay out of logs.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    backends: Vec<Backend>,
    scrubbed_accounts: HashSet<String>,
}

impl Snapshot {
    /// A snapshot with backends in the order in which they are asked.
    #[must_use]
    pub const fn new(backends: Vec<Backend>, scrubbed_accounts: HashSet<String>) -> Self {
        Self { backends, scrubbed_accounts }
    }

    /// The backends in the order in which they are asked.
    #[must_use]
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// Whether an account's principals stay out of logs, uid and extra.
    #[must_use]
    pub fn is_scrubbed(&self, account_id: &str) -> bool {
        self.scrubbed_accounts.contains(account_id)
    }

    /// What an identity is mapped to.
    ///
    /// Of each backend in turn, a mapping counts, else its accounts; a reserved prefix denies and lets no later backend have a say. An
    /// account's name, the canonical ARN, is not held against the prefixes.
    ///
    /// upstream: `doMapping` in pkg/server/server.go.
    #[must_use]
    pub fn look_up<'a>(&'a self, identity: &Identity<'a>, access_key_id: &'a str) -> Outcome<'a> {
        for backend in &self.backends {
            if let Some(mapping) = backend.find(identity) {
                return apply(backend, mapping, identity, access_key_id);
            }
            if backend.accounts.contains(identity.account_id()) {
                return Outcome::AccountMapped(identity.canonical_arn());
            }
        }
        Outcome::NotMapped
    }
}

fn apply<'a>(backend: &'a Backend, mapping: &'a Mapping, identity: &Identity<'a>, access_key_id: &'a str) -> Outcome<'a> {
    let (mode, session_name) = (backend.mode, identity.session_name());
    if mapping.needs_ec2() {
        if is_instance_id(session_name) {
            return Outcome::NeedsEc2 { mode, instance_id: session_name };
        }
        return Outcome::NotAnInstance { mode };
    }
    let values = Values { access_key_id, account_id: identity.account_id(), ec2_private_dns_name: None, session_name };
    let username = rendered(&mapping.username, &values);
    match backend.reserved_prefix(&username) {
        Some(prefix) => Outcome::Reserved { mode, prefix },
        None => Outcome::Mapped(Mapped { mode, username, groups: &mapping.groups, values }),
    }
}

fn rendered<'a>(name: &'a Name, values: &Values<'_>) -> Cow<'a, str> {
    if !name.has_placeholder {
        return Cow::Borrowed(&name.template);
    }
    let mut out = String::with_capacity(name.template.len());
    // Writing to a string does not fail, and whatever needs an instance's name has been sorted out before.
    let _ = Template::new(&name.template).render(values, &mut out);
    Cow::Owned(out)
}

/// What a look-up found.
#[derive(Clone, Debug)]
pub enum Outcome<'a> {
    /// The account is mapped as a whole: the user is called by his canonical ARN and has no groups.
    AccountMapped(CanonicalArn<'a>),
    /// A mapping covers the identity.
    Mapped(Mapped<'a>),
    /// A mapping covers it, and wants the private DNS name of the instance.
    NeedsEc2 {
        /// The mapping's backend.
        mode: BackendMode,
        /// The instance.
        instance_id: &'a str,
    },
    /// A mapping covers it, and wants the private DNS name of an instance, which the session is not named after: a refusal.
    NotAnInstance {
        /// The mapping's backend.
        mode: BackendMode,
    },
    /// No backend knows it: a refusal.
    NotMapped,
    /// The name begins with what the backend may not give: a refusal.
    Reserved {
        /// The mapping's backend.
        mode: BackendMode,
        /// The prefix.
        prefix: &'a str,
    },
}

/// A Kubernetes user.
#[derive(Clone, Debug)]
pub struct Mapped<'a> {
    mode: BackendMode,
    username: Cow<'a, str>,
    groups: &'a [Name],
    values: Values<'a>,
}

impl Mapped<'_> {
    /// The backend of the mapping.
    #[must_use]
    pub const fn mode(&self) -> BackendMode {
        self.mode
    }

    /// The user's name.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The user's groups, rendered as they are displayed.
    pub fn groups(&self) -> impl Clone + ExactSizeIterator<Item = Group<'_>> {
        self.groups.iter().map(|name| Group { template: Template::new(&name.template), values: self.values })
    }
}

/// A group; its `Display` is its name.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    template: Template<'a>,
    values: Values<'a>,
}

impl fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.template.render(&self.values, f)
    }
}

#[cfg(test)]
mod tests {
    use arngate_core::mapping::{Rule, Rules};
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
    const ADMIN: &str = "arn:aws:sts::123456789012:assumed-role/Admin/jane@example.com";

    fn identity(arn: &str) -> Identity<'_> {
        let account = account_of(arn);
        let session = arn.rsplit_once('/').map_or("", |(_, session)| session);
        let user_id: &'static str = if arn.contains(":assumed-role/") { format!("AROAEXAMPLE:{session}").leak() } else { "AIDAEXAMPLE" };
        Identity::check(Partition::Aws, account, arn, user_id).unwrap()
    }

    fn names(username: &str, groups: &[&str]) -> Names {
        Names { username: username.into(), groups: groups.iter().map(|group| (*group).into()).collect(), ..Names::default() }
    }

    fn mapping(arn: &str, username: &str) -> Mapping {
        Mapping::for_arn(arn.into(), true, names(username, &["g:{{SessionName}}", "plain"])).unwrap()
    }

    fn backend(mode: BackendMode, mappings: Vec<Mapping>, accounts: &[&str], prefixes: &[&str]) -> Backend {
        let accounts = accounts.iter().map(|account| (*account).into()).collect();
        Backend::new(mode, mappings, accounts, prefixes.iter().map(|prefix| (*prefix).into()).collect())
    }

    fn look_up(backends: Vec<Backend>, arn: &str) -> String {
        let snapshot = Snapshot::new(backends, HashSet::new());
        match snapshot.look_up(&identity(arn), KEY) {
            Outcome::AccountMapped(arn) => format!("account {arn}"),
            Outcome::Mapped(mapped) => {
                let groups: Vec<_> = mapped.groups().map(|group| group.to_string()).collect();
                format!("{} {} {groups:?}", mapped.mode(), mapped.username())
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn renders_the_name_and_the_groups() {
        let mappings = vec![mapping("arn:aws:iam::123456789012:role/path/admin", "{{AccountID}}:{{SessionNameRaw}}:{{AccessKeyID}}")];
        assert_eq!(
            look_up(vec![backend(BackendMode::MountedFile, mappings, &[], &[])], ADMIN),
            r#"MountedFile 123456789012:jane@example.com:AKIAIOSFODNN7EXAMPLE ["g:jane-example.com", "plain"]"#
        );
    }

    #[test]
    fn asks_backends_in_order_and_accounts_after_the_mappings_of_each() {
        let role = "arn:aws:iam::123456789012:role/Admin";
        let first = |mappings, accounts: &[&str]| backend(BackendMode::EksConfigMap, mappings, accounts, &[]);
        let second = || backend(BackendMode::MountedFile, vec![mapping(role, "second")], &[], &[]);
        assert!(look_up(vec![first(vec![mapping(role, "first")], &["123456789012"]), second()], ADMIN).starts_with("EKSConfigMap first "));
        assert_eq!(look_up(vec![first(vec![], &["123456789012"]), second()], ADMIN), "account arn:aws:iam::123456789012:role/Admin");
        assert!(look_up(vec![first(vec![], &["123456789013"]), second()], ADMIN).starts_with("MountedFile second "));
        assert_eq!(look_up(vec![first(vec![], &[])], ADMIN), "NotMapped");
        assert_eq!(look_up(vec![], ADMIN), "NotMapped");
    }

    #[test]
    fn a_reserved_prefix_denies_the_rendered_name_and_lets_nobody_else_have_a_say() {
        let role = "arn:aws:iam::123456789012:role/Admin";
        let first = backend(BackendMode::EksConfigMap, vec![mapping(role, "{{SessionName}}:x")], &["123456789012"], &["", "no:", "jane-"]);
        let second = backend(BackendMode::MountedFile, vec![mapping(role, "second")], &[], &[]);
        assert_eq!(look_up(vec![first, second], ADMIN), r#"Reserved { mode: EksConfigMap, prefix: "jane-" }"#);
        let accounts = backend(BackendMode::MountedFile, vec![], &["123456789012"], &["arn:"]);
        assert_eq!(look_up(vec![accounts], ADMIN), "account arn:aws:iam::123456789012:role/Admin");
    }

    #[test]
    fn wants_ec2_for_instances_only() {
        let role = "arn:aws:iam::123456789012:role/Node";
        let by_name = || vec![mapping(role, "system:node:{{EC2PrivateDNSName}}")];
        let by_group = vec![Mapping::for_arn(role.into(), false, names("node", &["{{EC2PrivateDNSName}}"])).unwrap()];
        let instance = "arn:aws:sts::123456789012:assumed-role/Node/i-0123456789abcdef0";
        let found = r#"NeedsEc2 { mode: MountedFile, instance_id: "i-0123456789abcdef0" }"#;
        assert_eq!(look_up(vec![backend(BackendMode::MountedFile, by_name(), &[], &[])], instance), found);
        assert_eq!(look_up(vec![backend(BackendMode::MountedFile, by_group, &[], &[])], instance), found);
        let jane = "arn:aws:sts::123456789012:assumed-role/Node/jane";
        assert_eq!(
            look_up(vec![backend(BackendMode::MountedFile, by_name(), &["123456789012"], &[])], jane),
            "NotAnInstance { mode: MountedFile }"
        );
    }

    #[test]
    fn the_longest_arn_has_a_key() {
        let arn = format!("arn:aws:iam::123456789012:user/{}", "x".repeat(ARN_MAX_BYTES - 31));
        assert_eq!(arn.len(), ARN_MAX_BYTES);
        let mappings = vec![mapping(&arn, "long")];
        assert!(look_up(vec![backend(BackendMode::MountedFile, mappings, &[], &[])], &arn).starts_with("MountedFile long "));
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
            let backend = Backend::new(BackendMode::MountedFile, mappings, HashSet::new(), Vec::new());
            let rules: Vec<_> = backend
                .mappings()
                .iter()
                .map(|mapping| Rule { subject: mapping.subject().unwrap(), username: mapping.username(), groups: &[] })
                .collect();
            let by_rules = Rules(&rules).find(&identity).and_then(|found| rules.iter().position(|rule| std::ptr::eq(rule, found)));
            let by_index = backend.find(&identity).and_then(|found| backend.mappings().iter().position(|mapping| std::ptr::eq(mapping, found)));
            prop_assert_eq!(by_index, by_rules);
        }
    }
}
