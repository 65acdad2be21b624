//! All mappings in force, and the look-up.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arngate_core::Identity;
use arngate_core::arn::CanonicalArn;
use arngate_core::mapping::{Template, Values, is_instance_id};

use super::arena::Held;
use super::backend::Backend;
use super::{BackendMode, Policy};

/// All mappings in force, and whose names stay out of logs.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    slots: Vec<Slot>,
    scrubbed_accounts: HashSet<String>,
}

/// A backend in its place: it, if it is loaded, and what it may not give.
#[derive(Clone, Debug)]
pub struct Slot {
    mode: BackendMode,
    backend: Option<Arc<Backend>>,
    reserved_prefixes: Vec<String>,
}

impl Slot {
    /// Where its mappings come from.
    #[must_use]
    pub const fn mode(&self) -> BackendMode {
        self.mode
    }

    /// Its mappings; none: not loaded yet.
    #[must_use]
    pub fn backend(&self) -> Option<&Backend> {
        self.backend.as_deref()
    }

    /// What the names that it gives must not begin with.
    #[must_use]
    pub fn reserved_prefixes(&self) -> &[String] {
        &self.reserved_prefixes
    }

    /// Whether there may be mappings that we do not know.
    fn is_missing(&self) -> bool {
        self.backend.as_ref().is_none_or(|backend| backend.has_gaps())
    }

    /// The reserved prefix that a name begins with.
    fn reserved_prefix(&self, username: &str) -> Option<&str> {
        self.reserved_prefixes.iter().map(String::as_str).find(|prefix| username.starts_with(prefix))
    }
}

impl Snapshot {
    /// A snapshot of what is loaded, under a policy.
    #[must_use]
    pub fn new(policy: &Policy, loaded: &HashMap<BackendMode, Arc<Backend>>) -> Self {
        let slot = |mode: &BackendMode| {
            let reserved = policy.reserved_prefixes.get(mode).into_iter().flatten();
            // An empty prefix reserves nothing, as in the reference.
            let reserved_prefixes = reserved.filter(|prefix| !prefix.is_empty()).cloned().collect();
            Slot { mode: *mode, backend: loaded.get(mode).cloned(), reserved_prefixes }
        };
        Self { slots: policy.modes.iter().map(slot).collect(), scrubbed_accounts: policy.scrubbed_accounts.clone() }
    }

    /// The backends in the order in which they are asked.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The modes in force that are not loaded yet.
    pub fn missing(&self) -> impl Iterator<Item = BackendMode> {
        self.slots.iter().filter(|slot| slot.is_missing()).map(Slot::mode)
    }

    /// Whether an account's principals stay out of logs, uid and extra.
    #[must_use]
    pub fn is_scrubbed(&self, account_id: &str) -> bool {
        self.scrubbed_accounts.contains(account_id)
    }

    /// What an identity is mapped to.
    ///
    /// Of each backend in turn, a mapping counts, else its accounts; a reserved prefix denies and lets no later backend have a say. An
    /// account's name, the canonical ARN, is not held against the prefixes. A backend that is not loaded counts as empty, but nobody is
    /// found unknown while there is one.
    ///
    /// upstream: `doMapping` in pkg/server/server.go.
    #[must_use]
    pub fn look_up<'a>(&'a self, identity: &Identity<'a>, access_key_id: &'a str) -> Outcome<'a> {
        self.look_up_named(identity, access_key_id, None)
    }

    /// [`Self::look_up`] once the private DNS name of the instance after which the session is named is known: then no mapping wants to know it any more.
    #[must_use]
    pub fn look_up_named<'a>(&'a self, identity: &Identity<'a>, access_key_id: &'a str, ec2_name: Option<&'a str>) -> Outcome<'a> {
        for slot in &self.slots {
            let Some(backend) = slot.backend() else { continue };
            if let Some(mapping) = backend.find(identity) {
                return apply(slot, mapping, identity, access_key_id, ec2_name);
            }
            if backend.has_account(identity.account_id()) {
                return Outcome::AccountMapped(identity.canonical_arn());
            }
        }
        self.missing().next().map_or(Outcome::NotMapped, |mode| Outcome::NotLoaded { mode })
    }
}

fn apply<'a>(slot: &'a Slot, mapping: Held<'a>, identity: &Identity<'a>, access_key_id: &'a str, ec2_name: Option<&'a str>) -> Outcome<'a> {
    let (mode, session_name) = (slot.mode, identity.session_name());
    if mapping.needs_ec2() {
        if !is_instance_id(session_name) {
            return Outcome::NotAnInstance { mode };
        }
        if ec2_name.is_none() {
            return Outcome::NeedsEc2 { mode, instance_id: session_name };
        }
    }
    let values = Values { access_key_id, account_id: identity.account_id(), ec2_private_dns_name: ec2_name, session_name };
    let username = mapping.rendered_username(&values);
    match slot.reserved_prefix(&username) {
        Some(prefix) => Outcome::Reserved { mode, prefix },
        None => Outcome::Mapped(Mapped { mode, username, mapping, values }),
    }
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
    /// Nobody that is loaded knows it, and somebody is not loaded.
    NotLoaded {
        /// The first backend that is not.
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
    mapping: Held<'a>,
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
        self.mapping.groups().map(|template| Group { template, values: self.values })
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
pub(super) mod tests {
    use arngate_core::Partition;
    use arngate_core::limits::ARN_MAX_BYTES;

    use super::*;
    use crate::mapping::{Mapping, Names};

    pub(crate) const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
    const ADMIN: &str = "arn:aws:sts::123456789012:assumed-role/Admin/jane@example.com";

    pub(crate) fn identity(arn: &str) -> Identity<'_> {
        let account = arn.split(':').nth(4).unwrap();
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

    /// A mode, what it holds if it is loaded, and what it may not give.
    pub(crate) type Loaded = (BackendMode, Option<Backend>, Vec<String>);

    fn backend(mode: BackendMode, mappings: Vec<Mapping>, accounts: &[&str], prefixes: &[&str]) -> Loaded {
        let accounts = accounts.iter().map(|account| (*account).into()).collect();
        (mode, Some(Backend::new(mappings, accounts)), prefixes.iter().map(|prefix| (*prefix).into()).collect())
    }

    pub(crate) fn snapshot(backends: Vec<Loaded>) -> Snapshot {
        let (mut policy, mut loaded) = (Policy::default(), HashMap::new());
        for (mode, backend, prefixes) in backends {
            policy.modes.push(mode);
            policy.reserved_prefixes.insert(mode, prefixes);
            loaded.extend(backend.map(|backend| (mode, Arc::new(backend))));
        }
        Snapshot::new(&policy, &loaded)
    }

    fn look_up(backends: Vec<Loaded>, arn: &str) -> String {
        shown(&snapshot(backends).look_up(&identity(arn), KEY))
    }

    fn shown(outcome: &Outcome<'_>) -> String {
        match outcome {
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
    fn nobody_is_unknown_while_a_backend_is_not_loaded() {
        let role = "arn:aws:iam::123456789012:role/Admin";
        let away = |mode| (mode, None, Vec::new());
        let file = |mappings, accounts: &[&str]| backend(BackendMode::MountedFile, mappings, accounts, &[]);
        let not_loaded = "NotLoaded { mode: EksConfigMap }";
        let config_map = away(BackendMode::EksConfigMap);
        assert_eq!(look_up(vec![config_map.clone(), away(BackendMode::Crd)], ADMIN), not_loaded);
        assert_eq!(look_up(vec![file(vec![], &[]), config_map.clone()], ADMIN), not_loaded);
        assert_eq!(look_up(vec![config_map.clone(), file(vec![], &[])], ADMIN), not_loaded);
        assert!(look_up(vec![config_map.clone(), file(vec![mapping(role, "file")], &[])], ADMIN).starts_with("MountedFile file "));
        assert!(look_up(vec![config_map, file(vec![], &["123456789012"])], ADMIN).starts_with("account "));
        let part = |mappings| (BackendMode::EksConfigMap, Some(Backend::new(mappings, [].into()).with_gaps()), Vec::new());
        assert_eq!(look_up(vec![part(vec![]), file(vec![], &[])], ADMIN), not_loaded);
        assert!(look_up(vec![part(vec![mapping(role, "part")])], ADMIN).starts_with("EKSConfigMap part "));
    }

    #[test]
    fn a_name_that_was_looked_up_is_rendered_and_held_against_the_prefixes() {
        let role = "arn:aws:iam::123456789012:role/Node";
        let look_up = |prefixes: &[&str], session: &str| {
            let named = names("system:node:{{EC2PrivateDNSName}}", &["g:{{EC2PrivateDNSName}}"]);
            let mapping = Mapping::for_arn(role.into(), false, named).unwrap();
            let snapshot = snapshot(vec![backend(BackendMode::MountedFile, vec![mapping], &[], prefixes)]);
            let arn = format!("arn:aws:sts::123456789012:assumed-role/Node/{session}");
            shown(&snapshot.look_up_named(&identity(&arn), KEY, Some("ip-10-0-0-1.ec2.internal")))
        };
        assert_eq!(
            look_up(&[], "i-0123456789abcdef0"),
            r#"MountedFile system:node:ip-10-0-0-1.ec2.internal ["g:ip-10-0-0-1.ec2.internal"]"#
        );
        assert_eq!(
            look_up(&["system:node:ip-10-"], "i-0123456789abcdef0"),
            r#"Reserved { mode: MountedFile, prefix: "system:node:ip-10-" }"#
        );
        assert_eq!(look_up(&[], "jane"), "NotAnInstance { mode: MountedFile }");
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
}
