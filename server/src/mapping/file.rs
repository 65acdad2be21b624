//! MountedFile: the mappings of the configuration file.
//!
//! An entry that is wrong is an error, and none of the file counts then. What is merely odd is a warning.

use super::Backend;
use super::entry::{self, List, Options, Whom};
use crate::document::Section;

/// Reads `mapRoles`, `mapUsers` and `mapAccounts` of a section; errors and warnings go to its findings.
///
/// upstream: pkg/mapper/file/mapper.go.
#[must_use]
pub fn read(section: &mut Section<'_>, options: &Options) -> Backend {
    let roles = section.take("mapRoles").map_or_else(List::default, |list| entry::roles(&list, options, Whom::Named));
    let users = section.take("mapUsers").map_or_else(List::default, |list| entry::users(&list, options, Whom::Named));
    let accounts = section.take("mapAccounts").map_or_else(List::default, |list| entry::accounts(&list));
    entry::backend(roles.good, users.good, accounts.good, options, section.findings())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arngate_core::{Identity, Partition};

    use super::*;
    use crate::document::{Errors, Findings, Warning, tree};
    use crate::mapping::{BackendMode, Outcome, Policy, SsoEntries, Store};

    const OPTIONS: Options = Options { partition: Partition::Aws, arn_patterns: false, sso: SsoEntries::Asked };

    fn load(options: Options, text: &str) -> Result<(Backend, Vec<Warning>), Errors> {
        let file: Arc<str> = "config.yaml".into();
        let node = tree::parse(&file, text.as_bytes())?;
        let findings = Findings::default();
        let mut root = Section::root(&file, &node, &findings);
        let mut server = root.section("server");
        let backend = read(&mut server, &options);
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
        let store = Store::new(Policy::of([BackendMode::MountedFile]));
        store.publish(BackendMode::MountedFile, backend);
        let snapshot = store.current();
        match snapshot.look_up(&identity, "AKIAIOSFODNN7EXAMPLE") {
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
        let sso = backend.mappings().nth(2).unwrap();
        assert_eq!((sso.user_id(), sso.position().map(|position| position.line)), (Some("AROAEXAMPLE"), Some(8)));
        assert!(backend.has_account("012345678901") && backend.has_account("123456789013"));
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
        config.yaml:18: server.mapAccounts[1]: expected 12 digits
        config.yaml:18: server.mapAccounts[2]: expected 12 digits
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
        config.yaml:5: server.mapRoles[0].username: has {{…}} that is no placeholder and stays as it is
        config.yaml:6: server.mapRoles[0].groups[0]: has {{…}} that is no placeholder and stays as it is
        config.yaml:7: server.mapRoles[0]: unknown key "role"
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
            assert!(load(OPTIONS, &text).unwrap().0.entries() == 0, "{nothing}");
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
