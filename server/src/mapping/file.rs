//! MountedFile: the mappings of the configuration file.
//!
//! An entry that is wrong is an error, and none of the file counts then. What is merely odd is a warning.

use std::collections::{HashMap, HashSet};

use arngate_core::Partition;
use arngate_core::arn::{Arn, check_account_id};
use arngate_core::arn_pattern::ArnPattern;
use arngate_core::mapping::{Subject, SubjectError, Template};

use super::{Backend, BackendMode, Mapping, Names};
use crate::document::{Field, Section, Shown, Split};

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
struct Entry<'a> {
    mapping: Mapping,
    field: Field<'a>,
}

/// Reads `mapRoles`, `mapUsers` and `mapAccounts` of a section; errors and warnings go to its findings.
///
/// Both lists may hold ARNs of roles and of users, as in the reference, which compares nothing but canonical ARNs; roles are looked at first.
///
/// upstream: pkg/mapper/file/mapper.go.
#[must_use]
pub fn read(section: &mut Section<'_>, options: &Options, reserved_prefixes: Vec<String>) -> Backend {
    let roles = entries(section, "mapRoles", |field| role(field, options));
    let users = entries(section, "mapUsers", |field| user(field, options));
    let accounts = section.take("mapAccounts").map(|field| accounts(&field)).unwrap_or_default();
    if options.sso == SsoEntries::Listed {
        list_sso(&roles);
    }
    // Of exact ones the last counts, of patterns the first: so roles come after the one and before the other kind of users.
    let (patterns, exact): (Vec<_>, Vec<_>) =
        users.into_iter().partition(|entry| matches!(entry.mapping.subject(), Some(Subject::Pattern(_))));
    let ordered: Vec<_> = exact.into_iter().chain(roles).chain(patterns).collect();
    warn_of_duplicates(&ordered);
    Backend::new(BackendMode::MountedFile, ordered.into_iter().map(|entry| entry.mapping).collect(), accounts, reserved_prefixes)
}

fn entries<'a>(section: &mut Section<'a>, key: &'static str, read: impl Fn(&Field<'a>) -> Option<Mapping>) -> Vec<Entry<'a>> {
    // An empty text is an empty list, as in the reference.
    let fields = section.take(key).filter(|field| !field.is_empty_text()).map(|field| field.list()).unwrap_or_default();
    fields.into_iter().filter_map(|field| Some(Entry { mapping: read(&field)?, field })).collect()
}

/// One entry of `mapRoles`.
fn role(field: &Field<'_>, options: &Options) -> Option<Mapping> {
    let mut entry = field.map()?;
    let arn = entry.take("rolearn");
    let sso = entry.take("sso");
    let names = names(&mut entry, field);
    entry.finish();
    // The reference takes an empty rolearn for none.
    let arn = arn.filter(|arn| !arn.is_empty_text());
    match (arn, sso) {
        (Some(arn), None) => exact_or_pattern(&arn, options, names),
        (None, Some(sso)) => sso_role(&sso, options, names),
        (Some(_), Some(_)) => {
            field.error("expected either rolearn or sso, found both");
            None
        }
        (None, None) => {
            field.error("expected rolearn or sso, found neither");
            None
        }
    }
}

/// One entry of `mapUsers`.
fn user(field: &Field<'_>, options: &Options) -> Option<Mapping> {
    let mut entry = field.map()?;
    let arn = entry.take("userarn");
    let names = names(&mut entry, field);
    entry.finish();
    let Some(arn) = arn else {
        field.error("expected userarn");
        return None;
    };
    exact_or_pattern(&arn, options, names)
}

fn names(entry: &mut Section<'_>, field: &Field<'_>) -> Names {
    let username = entry.take("username");
    let groups = entry.take("groups");
    let user_id = entry.text("userid").map(|text| text.text).filter(|text| !text.is_empty());
    let groups: Vec<_> = groups.map(|groups| groups.texts(Split::Commas)).unwrap_or_default();
    let username = username.and_then(|username| username.text());
    for text in username.iter().chain(&groups) {
        let template = Template::new(&text.text);
        for unknown in template.unknown() {
            entry.findings().warn(text.place.clone(), format!("{} is no placeholder and stays as it is", Shown(unknown)));
        }
        if template.needs().ec2_private_dns_name {
            let message =
                "{{EC2PrivateDNSName}} needs a look-up that this version cannot do yet: whoever is mapped here is answered with 503";
            entry.findings().warn(text.place.clone(), message);
        }
    }
    Names {
        username: username.map(|text| text.text).unwrap_or_default(),
        groups: groups.into_iter().map(|text| text.text).collect(),
        user_id,
        position: Some(field.position()),
    }
}

fn exact_or_pattern(field: &Field<'_>, options: &Options, names: Names) -> Option<Mapping> {
    let arn = field.text()?.text;
    let partition = Arn::parse(&arn).ok().map(|arn| arn.partition());
    if let Some(partition) = partition.filter(|partition| *partition != options.partition) {
        field.warn(format!("the ARN is of the partition {partition}, the server of {}: it can never match", options.partition));
    }
    if ArnPattern::is_one(&arn) && !options.arn_patterns {
        field.warn("* and ? stand for themselves and match nobody; with server.arnPatterns: true they would be patterns");
    }
    Mapping::for_arn(arn, options.arn_patterns, names).map_err(|error| field.error(error.to_string())).ok()
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

fn accounts(field: &Field<'_>) -> HashSet<String> {
    account_ids(field).into_iter().collect()
}

/// The account ids of a list; what is none is an error.
pub(crate) fn account_ids(field: &Field<'_>) -> Vec<String> {
    let check =
        |text: &str| check_account_id(text).map(|()| text.to_owned()).map_err(|_| format!("expected 12 digits, found {}", Shown(text)));
    field.texts(Split::BlanksAndCommas).iter().filter_map(|text| text.read(field.findings(), check)).collect()
}

/// Lists the SSO entries in one warning.
fn list_sso(roles: &[Entry<'_>]) {
    /// As many as fit on a line that somebody reads.
    const LISTED: usize = 20;
    let sso: Vec<_> = roles.iter().filter(|entry| matches!(entry.mapping.subject(), Some(Subject::Sso(_)))).collect();
    let Some(first) = sso.first() else { return };
    let lines: Vec<_> = sso.iter().take(LISTED).map(|entry| entry.field.line().to_string()).collect();
    let more = if sso.len() > LISTED { " and more" } else { "" };
    first.field.warn(format!(
        "SSO entries count without the feature gate SSORoleMatch, which the reference wants: {} of them, in line {}{more}",
        sso.len(),
        lines.join(", ")
    ));
}

/// Warns of entries that a later one for the same principal puts out of force.
fn warn_of_duplicates(entries: &[Entry<'_>]) {
    let mut seen = HashMap::new();
    for entry in entries {
        let key = match entry.mapping.subject() {
            Some(Subject::Exact(arn)) => arn.key().to_string(),
            Some(Subject::Sso(role)) => format!("{role:?}").to_ascii_lowercase(),
            _ => continue,
        };
        if let Some(before) = seen.insert(key, entry) {
            let before: &Entry<'_> = before;
            before.field.warn(format!(
                "has no effect, for {} in line {} is for the same principal",
                entry.field.path(),
                entry.field.line()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arngate_core::Identity;

    use super::*;
    use crate::document::{Errors, Findings, Warning, tree};
    use crate::mapping::{Outcome, Snapshot};

    const OPTIONS: Options = Options { partition: Partition::Aws, arn_patterns: false, sso: SsoEntries::Asked };

    fn load(options: Options, text: &str) -> Result<(Backend, Vec<Warning>), Errors> {
        let file: Arc<str> = "config.yaml".into();
        let node = tree::parse(&file, text.as_bytes())?;
        let findings = Findings::default();
        let mut root = Section::root(&file, &node, &findings);
        let mut server = root.section("server");
        let backend = read(&mut server, &options, Vec::new());
        server.finish();
        root.finish();
        Ok((backend, findings.into_result()?))
    }

    fn errors(text: &str) -> String {
        load(OPTIONS, text).unwrap_err().to_string()
    }

    fn warnings(options: Options, text: &str) -> String {
        load(options, text).unwrap().1.iter().map(|warning| format!("{warning}\n")).collect()
    }

    fn user_of(backend: Backend, arn: &str, user_id: &str) -> String {
        let identity = Identity::check(Partition::Aws, "123456789012", arn, user_id).unwrap();
        match Snapshot::new(vec![backend], HashSet::new()).look_up(&identity, "AKIAIOSFODNN7EXAMPLE") {
            Outcome::Mapped(mapped) => {
                format!("{} {:?}", mapped.username(), mapped.groups().map(|group| group.to_string()).collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        }
    }

    const ROLE: (&str, &str) = ("arn:aws:sts::123456789012:assumed-role/Admin/jane", "AROAEXAMPLE:jane");
    const USER: (&str, &str) = ("arn:aws:iam::123456789012:user/Bob", "AIDAEXAMPLE");
    const SSO: (&str, &str) = ("arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/jane", "AROAEXAMPLE:jane");

    #[test]
    fn reads_what_the_reference_s_example_holds() {
        let text = "
server:
  mapRoles:
  - roleARN: arn:aws:iam::123456789012:role/Admin
    username: admin:{{SessionName}}
    groups:
    - system:masters
  - sso: {permissionSetName: Admin, accountID: 123456789012}
    username: sso
    userid: AROAEXAMPLE
  mapUsers:
  - userARN: ARN:AWS:IAM::123456789012:USER/BOB
    username: bob
    groups: one,two
  mapAccounts:
  - 012345678901
  - \"123456789013\"
";
        let (backend, warnings) = load(OPTIONS, text).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(user_of(backend.clone(), ROLE.0, ROLE.1), r#"admin:jane ["system:masters"]"#);
        assert_eq!(user_of(backend.clone(), SSO.0, SSO.1), "sso []");
        assert_eq!(user_of(backend.clone(), USER.0, USER.1), r#"bob ["one", "two"]"#);
        assert_eq!(backend.mappings()[2].user_id(), Some("AROAEXAMPLE"));
        assert_eq!(backend.mappings()[2].position().map(|position| position.line), Some(8));
        let elsewhere = "arn:aws:iam::012345678901:user/Eve";
        let identity = Identity::check(Partition::Aws, "012345678901", elsewhere, "AIDA").unwrap();
        let snapshot = Snapshot::new(vec![backend], HashSet::new());
        assert!(matches!(snapshot.look_up(&identity, ""), Outcome::AccountMapped(arn) if arn.to_string() == elsewhere));
    }

    #[test]
    fn tells_every_error_with_its_line_and_key() {
        insta::assert_snapshot!(errors("
server:
  mapRoles:
  - rolearn: arn:awz:iam::123456789012:role/Admin
  - username: nobody
  - rolearn: arn:aws:iam::123456789012:role/Admin
    sso: {permissionSetName: Admin, accountID: 123456789012}
  - sso: {permissionSetName: Ad min, accountID: 123456789012}
  - sso: {permissionSetName: Admin, accountID: 12345678901}
  - sso: {permissionSetName: Admin, partition: aws-moon}
  - sso: Admin
  - {rolearn: [], groups: {a: b}, username: []}
  - text
  -
  mapUsers:
  - userarn: arn:aws:iam::12345:user/Bob
  - username: nobody
  mapAccounts: [123456789012, 0x123, abc, ~]
"), @r#"
        config.yaml:4: server.mapRoles[0].rolearn: the ARN's partition is none of AWS
        config.yaml:5: server.mapRoles[1]: expected rolearn or sso, found neither
        config.yaml:6: server.mapRoles[2]: expected either rolearn or sso, found both
        config.yaml:8: server.mapRoles[3].sso.permissionSetName: the permission set name is not 1 to 32 letters, digits or _+=,.@-
        config.yaml:9: server.mapRoles[4].sso.accountID: the account ID is not 12 digits
        config.yaml:10: server.mapRoles[5].sso: expected permissionSetName and accountID
        config.yaml:10: server.mapRoles[5].sso.partition: expected a partition, one of aws, aws-cn, aws-us-gov, aws-iso, aws-iso-b, aws-iso-e, aws-iso-f, aws-eusc, found "aws-moon"
        config.yaml:11: server.mapRoles[6].sso: expected a map, found text
        config.yaml:12: server.mapRoles[7].rolearn: expected text, found a list
        config.yaml:12: server.mapRoles[7].groups: expected a list, found a map
        config.yaml:12: server.mapRoles[7].username: expected text, found a list
        config.yaml:13: server.mapRoles[8]: expected a map, found text
        config.yaml:14: server.mapRoles[9]: expected rolearn or sso, found neither
        config.yaml:16: server.mapUsers[0].userarn: the account of the ARN is not 12 digits
        config.yaml:17: server.mapUsers[1]: expected userarn
        config.yaml:18: server.mapAccounts[1]: expected 12 digits, found "0x123"
        config.yaml:18: server.mapAccounts[2]: expected 12 digits, found "abc"
        config.yaml:18: server.mapAccounts[3]: expected text, found nothing
        "#);
        insta::assert_snapshot!(errors("server:\n  mapRoles: {a: b}\n  mapUsers: text\n  mapAccounts: {a: b}\n"), @r#"
        config.yaml:2: server.mapRoles: expected a list, found a map
        config.yaml:3: server.mapUsers: expected a list, found text
        config.yaml:4: server.mapAccounts: expected a list, found a map
        "#);
    }

    #[test]
    fn warns_of_what_will_not_do_what_it_seems_to() {
        insta::assert_snapshot!(warnings(OPTIONS, "
server:
  mapRoles:
  - rolearn: arn:aws:iam::123456789012:role/Admin
    username: '{{SessionNam}}'
    groups: ['{{ AccountID }}', ok]
    role: x
  - rolearn: arn:aws:iam::123456789012:role/Node
    username: system:node:{{EC2PrivateDNSName}}
  - rolearn: arn:aws-cn:iam::123456789012:role/Admin
  - rolearn: arn:aws:iam::123456789012:role/*
  - rolearn: arn:aws:iam::123456789012:role/path/ADMIN
  - sso: {permissionSetName: Admin, accountID: 123456789012, partition: aws-cn}
  - sso: {permissionSetName: Dev, accountID: 123456789012}
  - sso: {permissionSetName: dev, accountID: 123456789012}
  mapUsers:
  - userarn: arn:aws:sts::123456789012:assumed-role/admin/session
"), @r#"
        config.yaml:4: server.mapRoles[0]: has no effect, for server.mapRoles[4] in line 12 is for the same principal
        config.yaml:5: server.mapRoles[0].username: "{{SessionNam}}" is no placeholder and stays as it is
        config.yaml:6: server.mapRoles[0].groups[0]: "{{ AccountID }}" is no placeholder and stays as it is
        config.yaml:7: server.mapRoles[0]: unknown key "role"
        config.yaml:9: server.mapRoles[1].username: {{EC2PrivateDNSName}} needs a look-up that this version cannot do yet: whoever is mapped here is answered with 503
        config.yaml:10: server.mapRoles[2].rolearn: the ARN is of the partition aws-cn, the server of aws: it can never match
        config.yaml:11: server.mapRoles[3].rolearn: * and ? stand for themselves and match nobody; with server.arnPatterns: true they would be patterns
        config.yaml:13: server.mapRoles[5].sso: the role is of the partition aws-cn, the server of aws: it can never match
        config.yaml:14: server.mapRoles[6]: has no effect, for server.mapRoles[7] in line 15 is for the same principal
        config.yaml:17: server.mapUsers[0]: has no effect, for server.mapRoles[0] in line 4 is for the same principal
        "#);
    }

    #[test]
    fn roles_come_before_users_and_the_last_of_equals_counts() {
        let text = "
server:
  mapRoles:
  - {rolearn: 'arn:aws:iam::123456789012:role/Admin', username: first role}
  - {rolearn: 'arn:aws:iam::123456789012:role/Admin', username: second role}
  - {rolearn: 'arn:aws:iam::123456789012:user/Bob', username: bob as a role}
  - {rolearn: 'arn:aws:iam::123456789012:role/AWS*', username: first pattern}
  - {rolearn: 'arn:aws:iam::123456789012:role/AWSR*', username: second pattern}
  mapUsers:
  - {userarn: 'arn:aws:iam::123456789012:role/Admin', username: admin as a user}
  - {userarn: 'arn:aws:iam::123456789012:user/Bob', username: bob}
  - {userarn: 'arn:aws:iam::123456789012:role/AWSR*', username: third pattern}
";
        let (backend, _) = load(Options { arn_patterns: true, ..OPTIONS }, text).unwrap();
        assert_eq!(user_of(backend.clone(), ROLE.0, ROLE.1), "second role []");
        assert_eq!(user_of(backend.clone(), USER.0, USER.1), "bob as a role []");
        assert_eq!(user_of(backend, SSO.0, SSO.1), "first pattern []");
    }

    #[test]
    fn nothing_is_an_empty_list() {
        for nothing in ["", "~", "''", "[]"] {
            let text = format!("server:\n  mapRoles: {nothing}\n  mapUsers: {nothing}\n  mapAccounts: {nothing}\n");
            assert!(load(OPTIONS, &text).unwrap().0.mappings().is_empty(), "{nothing}");
        }
    }

    #[test]
    fn patterns_have_to_be_asked_for() {
        let text = "server:\n  mapRoles:\n  - rolearn: arn:aws:iam::123456789012:role/Adm*\n    username: all\n";
        assert_eq!(user_of(load(OPTIONS, text).unwrap().0, ROLE.0, ROLE.1), "NotMapped");
        let patterns = Options { arn_patterns: true, ..OPTIONS };
        assert_eq!(user_of(load(patterns, text).unwrap().0, ROLE.0, ROLE.1), "all []");
        assert_eq!(warnings(patterns, text), "");
        let wrong = "server:\n  mapRoles:\n  - rolearn: arn:aws:iam::*:role/Admin\n  - rolearn: arn:aws:iam::123456789012:role/a/*\n";
        insta::assert_snapshot!(load(patterns, wrong).unwrap_err(), @r#"
        config.yaml:3: server.mapRoles[0].rolearn: * and ? are patterns only in a name after role/ or user/
        config.yaml:4: server.mapRoles[1].rolearn: a role pattern with a path can never match: STS does not tell paths
        "#);
    }

    #[test]
    fn sso_entries_can_be_listed_or_left_out() {
        let text = "server:\n  mapRoles:\n  - sso: {permissionSetName: Admin, accountID: 123456789012}\n    username: sso\n";
        insta::assert_snapshot!(warnings(Options { sso: SsoEntries::Listed, ..OPTIONS }, text), @"config.yaml:3: server.mapRoles[0]: SSO entries count without the feature gate SSORoleMatch, which the reference wants: 1 of them, in line 3");
        insta::assert_snapshot!(warnings(Options { sso: SsoEntries::Off, ..OPTIONS }, text), @"config.yaml:3: server.mapRoles[0].sso: left out, for the feature gate SSORoleMatch is off");
        assert_eq!(user_of(load(Options { sso: SsoEntries::Off, ..OPTIONS }, text).unwrap().0, SSO.0, SSO.1), "NotMapped");
        assert_eq!(user_of(load(Options { sso: SsoEntries::Listed, ..OPTIONS }, text).unwrap().0, SSO.0, SSO.1), "sso []");
    }
}
