//! Why an identity is mapped as it is, or not at all: each rule that was tried, in order, and why it did not decide.
//!
//! What decides is what [`Snapshot::look_up`] finds, and the rule that decides is the one that [`Backend::find`] finds: nothing here has a say. The order in which rules are
//! told, and the reasons why they do not match, are this module's own; a property test holds them against the other two.

use std::fmt;

use arngate_core::Identity;
use arngate_core::arn::{CanonicalArn, Principal};
use arngate_core::arn_pattern::ArnPattern;
use arngate_core::mapping::{SsoRole, Subject, Values};

use super::arena::Held;
use super::backend::Backend;
use super::snapshot::{Outcome, Snapshot};
use super::{BackendMode, Slot};

/// All that was tried for an identity.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// The backends in the order in which they are asked.
    pub backends: Vec<Asked<'a>>,
    /// What comes of it: what the look-up finds.
    pub outcome: Outcome<'a>,
}

/// What was tried of one backend.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Where its mappings come from.
    pub mode: BackendMode,
    /// How far it was asked.
    pub extent: Extent,
    /// Its rules in the order in which they count.
    pub rules: Vec<Tried<'a>>,
}

/// How far a backend was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extent {
    /// None of its rules and accounts is for the identity.
    All,
    /// No rule is for it, and its account is let in.
    Account,
    /// A part of it could not be read; what could is not for the identity.
    Gaps,
    /// It is not loaded.
    NotLoaded,
    /// One before it has decided.
    NotReached,
    /// A rule decided.
    Rule,
}

/// A rule, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'a> {
    /// The rule.
    pub rule: Held<'a>,
    /// What came of it.
    pub verdict: Verdict<'a>,
}

/// What came of a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict<'a> {
    /// It decides.
    Decides,
    /// It is for others.
    Misses(Miss<'a>),
    /// One before it has decided.
    NotTried,
}

/// Why a rule is not for an identity: the first thing that differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Miss<'a> {
    /// It is for another account.
    Account(&'a str),
    /// It is for another kind of principal.
    Kind(&'static str),
    /// It is for another name.
    Name,
    /// The role is not one that IAM Identity Center makes.
    NotSso,
    /// It is for another partition.
    Partition(&'static str),
    /// The name does not fit the pattern.
    Pattern,
    /// It is for another permission set.
    PermissionSet(&'a str),
    /// What is behind the name of the permission set is not letters and digits alone: it is another permission set's.
    Suffix,
    /// It is for another unique id.
    UserId(&'a str),
}

impl fmt::Display for Miss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(account_id) => write!(f, "another account: {account_id}"),
            Self::Kind(kind) => write!(f, "it is for {kind}"),
            Self::Name => f.write_str("another name"),
            Self::NotSso => f.write_str("the role is not one that IAM Identity Center makes"),
            Self::Partition(partition) => write!(f, "another partition: {partition}"),
            Self::Pattern => f.write_str("the name does not fit the pattern"),
            Self::PermissionSet(name) => write!(f, "another permission set than {name}"),
            Self::Suffix => f.write_str("another permission set, whose name only begins the same"),
            Self::UserId(id) => write!(f, "another unique id: {id}"),
        }
    }
}

impl Snapshot {
    /// Explains a look-up. `ec2_name` stands for the private DNS name that EC2 would tell.
    #[must_use]
    pub fn explain<'a>(&'a self, identity: &Identity<'a>, access_key_id: &'a str, ec2_name: Option<&'a str>) -> Explanation<'a> {
        let mut is_decided = false;
        let mut backends = Vec::new();
        for slot in self.slots() {
            let asked = asked(slot, identity, is_decided);
            is_decided = is_decided || matches!(asked.extent, Extent::Account | Extent::Rule);
            backends.push(asked);
        }
        Explanation { backends, outcome: self.look_up_named(identity, access_key_id, ec2_name) }
    }
}

impl<'a> Explanation<'a> {
    /// The rule that decides, and its backend.
    #[must_use]
    pub fn decision(&self) -> Option<(BackendMode, Held<'a>)> {
        let decides = |tried: &&Tried<'a>| tried.verdict == Verdict::Decides;
        self.backends.iter().find_map(|asked| asked.rules.iter().find(decides).map(|tried| (asked.mode, tried.rule)))
    }

    /// What the rule that decides would call the identity, whether or not that is let in; none where it wants the name of an instance and there is none.
    #[must_use]
    pub fn rendered(&self, identity: &Identity<'_>, access_key_id: &str, ec2_name: Option<&str>) -> Option<(String, Vec<String>)> {
        let (_, rule) = self.decision()?;
        let values = Values {
            access_key_id,
            account_id: identity.account_id(),
            ec2_private_dns_name: ec2_name,
            session_name: identity.session_name(),
        };
        let render = |template: arngate_core::mapping::Template<'_>| {
            let mut text = String::new();
            template.render(&values, &mut text).ok().map(|()| text)
        };
        Some((render(rule.username())?, rule.groups().map(render).collect::<Option<_>>()?))
    }
}

fn asked<'a>(slot: &'a Slot, identity: &Identity<'a>, is_decided: bool) -> Asked<'a> {
    let mode = slot.mode();
    let Some(backend) = slot.backend().filter(|_| !is_decided) else {
        return Asked { mode, extent: if is_decided { Extent::NotReached } else { Extent::NotLoaded }, rules: Vec::new() };
    };
    let found = backend.find(identity);
    let mut is_found = false;
    let rules = in_order(backend).into_iter().map(|rule| {
        let verdict = if is_found {
            Verdict::NotTried
        } else if found.is_some_and(|found| found.is(rule)) {
            is_found = true;
            Verdict::Decides
        } else {
            Verdict::Misses(rule.subject().and_then(|subject| miss(&subject, identity)).unwrap_or(Miss::Name))
        };
        Tried { rule, verdict }
    });
    let rules = rules.collect();
    let extent = match found {
        Some(_) => Extent::Rule,
        None if backend.has_account(identity.account_id()) => Extent::Account,
        None if backend.has_gaps() => Extent::Gaps,
        None => Extent::All,
    };
    Asked { mode, extent, rules }
}

/// The rules of a backend in the order in which they count: those for unique ids, exact ones and SSO roles from the last to the first, then patterns from the first to the last.
fn in_order(backend: &Backend) -> Vec<Held<'_>> {
    let mut rules: Vec<_> = backend.mappings().collect();
    let rank = |rule: Held<'_>| match rule.subject() {
        Some(Subject::Pattern(_)) => 3,
        Some(Subject::Sso(_)) => 2,
        Some(Subject::Exact(_)) => 1,
        _ => 0,
    };
    rules.reverse();
    rules.sort_by_key(|rule| rank(*rule));
    let patterns = rules.partition_point(|rule| rank(*rule) < 3);
    if let Some(patterns) = rules.get_mut(patterns..) {
        patterns.reverse();
    }
    rules
}

/// Why a subject is not an identity's; none: it is.
fn miss<'a>(subject: &Subject<'a>, identity: &Identity<'_>) -> Option<Miss<'a>> {
    let own = identity.canonical_arn();
    match subject {
        Subject::Exact(arn) => exact_miss(arn, &own),
        Subject::Pattern(pattern) => pattern_miss(pattern, &own),
        Subject::Sso(role) => sso_miss(role, identity, &own),
        Subject::UserId(id) if id.id() != identity.user_id() => Some(Miss::UserId(id.id())),
        Subject::UserId(id) => id.beside().and_then(|beside| miss(&beside, identity)),
        // Core may come to know other kinds.
        _ => (!subject.matches(identity)).then_some(Miss::Name),
    }
}

fn exact_miss<'a>(arn: &CanonicalArn<'a>, own: &CanonicalArn<'_>) -> Option<Miss<'a>> {
    let (theirs, ours) = (arn.arn(), own.arn());
    if theirs.partition() != ours.partition() {
        Some(Miss::Partition(theirs.partition().name()))
    } else if theirs.account_id() != ours.account_id() {
        Some(Miss::Account(theirs.account_id()))
    } else if kind(theirs.principal()) != kind(ours.principal()) {
        Some(Miss::Kind(kind(theirs.principal())))
    } else {
        (!arn.is_same_as(own)).then_some(Miss::Name)
    }
}

fn pattern_miss<'a>(pattern: &ArnPattern<'a>, own: &CanonicalArn<'_>) -> Option<Miss<'a>> {
    let ours = own.arn();
    let theirs = if pattern.is_for_roles() { "roles" } else { "users" };
    let is_of_kind = match ours.principal() {
        Principal::AssumedRole { .. } | Principal::Role { .. } => pattern.is_for_roles(),
        Principal::User { .. } => !pattern.is_for_roles(),
        Principal::FederatedUser { .. } | Principal::Root => false,
    };
    if pattern.partition() != ours.partition() {
        Some(Miss::Partition(pattern.partition().name()))
    } else if pattern.account_id() != ours.account_id() {
        Some(Miss::Account(pattern.account_id()))
    } else if !is_of_kind {
        Some(Miss::Kind(theirs))
    } else {
        (!pattern.matches(own)).then_some(Miss::Pattern)
    }
}

fn sso_miss<'a>(role: &SsoRole<'a>, identity: &Identity<'_>, own: &CanonicalArn<'_>) -> Option<Miss<'a>> {
    let ours = own.arn();
    let (Principal::AssumedRole { role: name, .. } | Principal::Role { name }) = ours.principal() else {
        return Some(Miss::Kind("a permission set"));
    };
    if role.partition() != ours.partition() {
        return Some(Miss::Partition(role.partition().name()));
    }
    if role.account_id() != ours.account_id() {
        return Some(Miss::Account(role.account_id()));
    }
    if role.matches(identity) {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("awsreservedsso_") else { return Some(Miss::NotSso) };
    let is_longer = rest.strip_prefix(&role.permission_set().to_ascii_lowercase()).is_some_and(|rest| rest.starts_with('_'));
    Some(if is_longer { Miss::Suffix } else { Miss::PermissionSet(role.permission_set()) })
}

const fn kind(principal: Principal<'_>) -> &'static str {
    match principal {
        Principal::AssumedRole { .. } | Principal::Role { .. } => "a role",
        Principal::FederatedUser { .. } => "a federated user",
        Principal::Root => "the root of an account",
        Principal::User { .. } => "a user",
    }
}

#[cfg(test)]
mod tests {

    use arngate_core::Partition;
    use proptest::prelude::*;

    use super::*;
    use crate::mapping::snapshot::tests::{KEY, identity, snapshot};
    use crate::mapping::{Mapping, Names};

    fn names(username: &str) -> Names {
        Names { username: username.into(), groups: vec!["g:{{SessionName}}".into()], ..Names::default() }
    }

    fn arn(text: &str, username: &str) -> Mapping {
        Mapping::for_arn(text.into(), true, names(username)).unwrap()
    }

    fn told(explanation: &Explanation<'_>) -> Vec<String> {
        let rule = |tried: &Tried<'_>| {
            let verdict = match tried.verdict {
                Verdict::Decides => "decides".to_owned(),
                Verdict::Misses(miss) => miss.to_string(),
                Verdict::NotTried => "not tried".to_owned(),
            };
            format!("{}: {verdict}", tried.rule.username().as_str())
        };
        let backend = |asked: &Asked<'_>| {
            let rules: Vec<_> = asked.rules.iter().map(rule).collect();
            format!("{} {:?} {}", asked.mode, asked.extent, rules.join("; "))
        };
        explanation.backends.iter().map(backend).collect()
    }

    #[test]
    fn tells_each_rule_in_the_order_in_which_it_counts() {
        let mappings = vec![
            arn("arn:aws:iam::123456789012:role/A*", "first pattern"),
            arn("arn:aws:iam::123456789012:user/Admin", "user"),
            arn("arn:aws-cn:iam::123456789012:role/Admin", "china"),
            arn("arn:aws:iam::210987654321:role/Admin", "elsewhere"),
            Mapping::for_sso("Admin".into(), "123456789012".into(), Partition::Aws, names("sso")).unwrap(),
            arn("arn:aws:iam::123456789012:role/*", "second pattern"),
            arn("arn:aws:iam::123456789012:role/Administrator", "longer"),
        ];
        let config_map = Backend::new(mappings, [].into());
        let file = Backend::new(vec![arn("arn:aws:iam::123456789012:role/Admin", "file")], [].into());
        let snapshot = snapshot(vec![
            (BackendMode::Crd, None, vec![]),
            (BackendMode::EksConfigMap, Some(config_map), vec![]),
            (BackendMode::MountedFile, Some(file), vec![]),
        ]);
        let identity = identity("arn:aws:sts::123456789012:assumed-role/Admin/jane");
        insta::assert_snapshot!(told(&snapshot.explain(&identity, KEY, None)).join("\n"), @"
        CRD NotLoaded 
        EKSConfigMap Rule longer: another name; elsewhere: another account: 210987654321; china: another partition: aws-cn; user: it is for a user; sso: the role is not one that IAM Identity Center makes; first pattern: decides; second pattern: not tried
        MountedFile NotReached 
        ");
    }

    #[test]
    fn tells_why_a_permission_set_is_another_one() {
        let sso = |set: &str| Mapping::for_sso(set.into(), "123456789012".into(), Partition::Aws, names(set)).unwrap();
        let snapshot = snapshot(vec![(
            BackendMode::MountedFile,
            Some(Backend::new(vec![sso("Admin"), sso("Dev")], ["123456789012".into()].into())),
            vec![],
        )]);
        let identity = identity("arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Admin_Extra_0123/jane");
        assert_eq!(
            told(&snapshot.explain(&identity, KEY, None)),
            ["MountedFile Account Dev: another permission set than Dev; Admin: another permission set, whose name only begins the same"]
        );
    }

    #[test]
    fn renders_also_what_a_prefix_refuses() {
        let mapping = arn("arn:aws:iam::123456789012:role/Admin", "system:{{SessionName}}");
        let snapshot = snapshot(vec![(BackendMode::MountedFile, Some(Backend::new(vec![mapping], [].into())), vec!["system:".into()])]);
        let identity = identity("arn:aws:sts::123456789012:assumed-role/Admin/jane@x");
        let explanation = snapshot.explain(&identity, KEY, None);
        assert!(matches!(explanation.outcome, Outcome::Reserved { prefix: "system:", .. }));
        assert_eq!(explanation.rendered(&identity, KEY, None), Some(("system:jane-x".into(), vec!["g:jane-x".into()])));
    }

    fn any_mapping() -> impl Strategy<Value = Mapping> {
        let arn = prop_oneof![
            "arn:(aws|aws-cn):iam::12345678901[23]:role/(p/)?[aA]b?",
            "arn:aws:iam::12345678901[23]:user/(p/)?[ab]",
            "arn:aws:sts::12345678901[23]:assumed-role/[aA]b?/s",
            "arn:aws:iam::12345678901[23]:(role|user)/[ab*?]{1,3}",
            "arn:aws:iam::12345678901[23]:role/AWSReservedSSO_[Aa]_[0b*]{1,2}",
            "arn:aws:iam::12345678901[23]:root",
        ];
        let id = prop::option::weighted(0.3, prop_oneof!["AROAEXAMPLE", "AIDAEXAMPLE", "AROAOTHER"]);
        let named = (arn, id).prop_filter_map("an ARN", |(text, user_id)| {
            let has_id = user_id.is_some();
            let mapping = Mapping::for_arn(text, true, Names { user_id, ..names("n") }).ok()?;
            if has_id { mapping.by_user_id() } else { Some(mapping) }
        });
        let sso = ("[aA](_b)?", "12345678901[23]", prop_oneof![Just(Partition::Aws), Just(Partition::AwsCn)])
            .prop_filter_map("a role", |(set, account, partition)| Mapping::for_sso(set, account, partition, names("n")).ok());
        prop_oneof![3 => named, 1 => sso]
    }

    fn any_backend() -> impl Strategy<Value = Option<Backend>> {
        let loaded =
            (prop::collection::vec(any_mapping(), 0..8), any::<bool>(), any::<bool>()).prop_map(|(mappings, has_account, has_gaps)| {
                let accounts = if has_account { ["123456789012".to_owned()].into() } else { [].into() };
                let backend = Backend::new(mappings, accounts);
                if has_gaps { backend.with_gaps() } else { backend }
            });
        prop::option::weighted(0.8, loaded)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn what_is_explained_is_what_the_look_up_finds(
            backends in prop::collection::vec((any_backend(), prop_oneof![Just(vec![]), Just(vec!["n".to_owned()])]), 0..4),
            arn in prop_oneof![
                "arn:aws:sts::12345678901[23]:assumed-role/[aA]b?/s",
                "arn:aws:sts::12345678901[23]:assumed-role/AWSReservedSSO_[aA](_b)?_[0b]{1,2}/s",
                "arn:aws:iam::12345678901[23]:user/(p/)?[ab]",
                "arn:aws:iam::12345678901[23]:root",
            ],
        ) {
            let backends = BackendMode::ALL.into_iter().zip(backends).map(|(mode, (backend, prefixes))| (mode, backend, prefixes)).collect();
            let snapshot = snapshot(backends);
            let identity = identity(&arn);
            let explanation = snapshot.explain(&identity, KEY, None);
            // A rule misses if and only if its subject does not match, and the first that does not decides: in this order, whatever the indexes.
            let mut decided = None;
            for asked in &explanation.backends {
                if decided.is_some() {
                    prop_assert!(asked.extent == Extent::NotReached && asked.rules.is_empty());
                    continue;
                }
                for tried in &asked.rules {
                    let matches = tried.rule.subject().unwrap().matches(&identity);
                    prop_assert_eq!(miss(&tried.rule.subject().unwrap(), &identity).is_none(), matches);
                    match tried.verdict {
                        Verdict::NotTried => prop_assert!(decided.is_some()),
                        Verdict::Decides => {
                            prop_assert!(matches && decided.is_none());
                            decided = Some(format!("rule of {}", asked.mode));
                        }
                        Verdict::Misses(_) => prop_assert!(!matches && decided.is_none()),
                    }
                }
                if asked.extent == Extent::Account {
                    prop_assert!(decided.is_none());
                    decided = Some("account".to_owned());
                }
            }
            let outcome = match snapshot.look_up(&identity, KEY) {
                Outcome::AccountMapped(_) => Some("account".to_owned()),
                Outcome::Mapped(mapped) => {
                    let groups = mapped.groups().map(|group| group.to_string()).collect();
                    prop_assert_eq!(explanation.rendered(&identity, KEY, None), Some((mapped.username().to_owned(), groups)));
                    Some(format!("rule of {}", mapped.mode()))
                }
                Outcome::Reserved { mode, .. } => Some(format!("rule of {mode}")),
                _ => None,
            };
            prop_assert_eq!(decided, outcome);
        }
    }
}
