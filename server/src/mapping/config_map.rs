//! EKSConfigMap: the texts of the ConfigMap `kube-system/aws-auth`, as people and tools write them.
//!
//! Each of its three keys is a YAML text of its own, and fails on its own: one that cannot be read leaves in force what was last read of it. In the reference such a
//! text empties its key and locks everybody out who is mapped there, nodes too. An entry that is wrong is left out, and the others count; what was last good for the
//! same principal stands in for it.
//!
//! Nothing here knows Kubernetes: whoever watches the ConfigMap hands over its data.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entry::{self, Entry, List, Options, Whom};
use super::source::{Finding, Read};
use crate::document::reader::distance;
use crate::document::{Error, Field, Findings, Place, Shown, tree};

/// What the ConfigMap is called in messages.
const NAME: &str = "kube-system/aws-auth";

/// Its keys. Upper and lower case count, unlike inside of them.
const KEYS: [&str; 3] = ["mapRoles", "mapUsers", "mapAccounts"];

/// The reader of aws-auth, who remembers what was good.
#[derive(Debug)]
pub struct AwsAuth {
    /// What it is called in messages.
    name: Arc<str>,
    options: Options,
    /// What was last good of each key; none: there was nothing good yet.
    roles: Option<Vec<Entry>>,
    users: Option<Vec<Entry>>,
    accounts: Option<Vec<String>>,
}

/// What one reading has come to so far.
struct Reading {
    file: Arc<str>,
    findings: Findings,
    rejected: usize,
    /// Whether a key could not be read.
    stale: bool,
}

impl AwsAuth {
    /// A reader who has not read anything.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self::in_file(NAME, options)
    }

    /// The same for one that is in a file.
    #[must_use]
    pub fn in_file(name: &str, options: Options) -> Self {
        Self { name: name.into(), options, roles: None, users: None, accounts: None }
    }

    /// Reads the data of the ConfigMap; none: there is no ConfigMap, which is as good as an empty one.
    ///
    /// upstream: `ParseMap` in pkg/mapper/configmap/configmap.go.
    pub fn read(&mut self, data: Option<&BTreeMap<String, String>>) -> Read {
        let mut reading = Reading { file: Arc::clone(&self.name), findings: Findings::default(), rejected: 0, stale: false };
        data.into_iter().flat_map(BTreeMap::keys).for_each(|key| reading.look_at_key(key));
        let text = |key| data.and_then(|data| data.get(key)).map_or("", String::as_str);
        let options = &self.options;
        reading.entries("mapRoles", text("mapRoles"), &mut self.roles, |list| entry::roles(list, options, Whom::Named));
        reading.entries("mapUsers", text("mapUsers"), &mut self.users, |list| entry::users(list, options, Whom::Named));
        if let Some(accounts) = reading.list("mapAccounts", text("mapAccounts"), entry::accounts) {
            reading.rejected = reading.rejected.saturating_add(accounts.rejected.len());
            self.accounts = Some(accounts.good);
        }

        let has_gaps = self.roles.is_none() || self.users.is_none() || self.accounts.is_none();
        let (roles, users) = (self.roles.clone().unwrap_or_default(), self.users.clone().unwrap_or_default());
        let backend = entry::backend(roles, users, self.accounts.clone().unwrap_or_default(), options, &reading.findings);
        let backend = if has_gaps { backend.with_gaps() } else { backend };
        let Reading { findings, rejected, stale, .. } = reading;
        Read { entries: backend.entries(), backend: backend.into(), findings: Finding::all(findings), rejected, stale }
    }
}

impl Reading {
    /// Warns of a key that means nothing.
    fn look_at_key(&self, key: &str) {
        if KEYS.contains(&key) {
            return;
        }
        let near = KEYS.into_iter().find(|known| distance(&known.to_ascii_lowercase(), &key.to_ascii_lowercase()) <= 2);
        let hint = near.map(|near| format!("; did you mean {near}? (here upper and lower case count)")).unwrap_or_default();
        let place = Place::File { file: Arc::clone(&self.file), position: None, key: String::new() };
        self.findings.warn(place, format!("unknown key {}{hint}", Shown(key)));
    }

    /// The entries of a text take the place of those that were good, which stand in where that cannot be.
    fn entries(&mut self, key: &'static str, text: &str, kept: &mut Option<Vec<Entry>>, read: impl Fn(&Field<'_>) -> List<Entry>) {
        let Some(list) = self.list(key, text, read) else { return };
        self.rejected = self.rejected.saturating_add(list.rejected.len());
        *kept = Some(entry::with_stand_ins(list, kept.take().unwrap_or_default()));
    }

    /// The list that a text holds; none where it is none, which is noted.
    fn list<T>(&mut self, key: &'static str, text: &str, read: impl FnOnce(&Field<'_>) -> List<T>) -> Option<List<T>> {
        // As Terraform and the shell leave them behind.
        if matches!(text.trim(), "" | "``" | "\"\"" | "''") {
            return Some(List::default());
        }
        let node = match tree::parse(&self.file, text.as_bytes()) {
            Ok(node) => node,
            Err(errors) => {
                for Error { place, message } in errors.0 {
                    let place = Place::File { file: Arc::clone(&self.file), position: place.position(), key: key.to_owned() };
                    self.findings.error(place, message);
                }
                self.stale = true;
                return None;
            }
        };
        let field = Field::root(&self.file, &node, &self.findings, key);
        if field.is_nothing() {
            return Some(List::default());
        }
        if !field.is_list() {
            // Notes that it is none.
            drop(field.list());
            self.stale = true;
            return None;
        }
        Some(read(&field))
    }
}

#[cfg(test)]
mod tests {
    use arngate_core::{Identity, Partition};

    use super::*;
    use crate::mapping::{Backend, BackendMode, Outcome, Policy, Severity, SsoEntries, Store};

    const OPTIONS: Options = Options { partition: Partition::Aws, arn_patterns: false, sso: SsoEntries::Asked };

    fn data(keys: &[(&str, &str)]) -> BTreeMap<String, String> {
        keys.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
    }

    fn told(read: &Read) -> String {
        read.findings.iter().map(|finding| format!("{:?} {finding}\n", finding.severity)).collect()
    }

    /// Who somebody is: name and groups.
    fn who(backend: &Arc<Backend>, arn: &str) -> String {
        let session = arn.rsplit_once('/').map_or("", |(_, session)| session);
        let user_id = if arn.contains(":assumed-role/") { format!("AROAEXAMPLE:{session}") } else { "AIDAEXAMPLE".to_owned() };
        let account = arn.split(':').nth(4).unwrap();
        let identity = Identity::check(Partition::Aws, account, arn, &user_id).unwrap();
        let store = Store::new(Policy::of([BackendMode::EksConfigMap]));
        store.publish(BackendMode::EksConfigMap, Arc::clone(backend));
        let snapshot = store.current();
        match snapshot.look_up(&identity, "AKIAIOSFODNN7EXAMPLE") {
            Outcome::Mapped(mapped) => {
                format!("{} {:?}", mapped.username(), mapped.groups().map(|group| group.to_string()).collect::<Vec<_>>())
            }
            Outcome::AccountMapped(arn) => format!("account {arn}"),
            other => format!("{other:?}"),
        }
    }

    const NODE: &str = "arn:aws:sts::111122223333:assumed-role/node/jane";
    const ADMIN: &str = "arn:aws:iam::111122223333:user/admin";
    const GOOD: &str = "- rolearn: arn:aws:iam::111122223333:role/node\n  username: node\n  groups: [system:nodes]\n";

    #[test]
    fn reads_what_each_of_the_tools_writes() {
        for (tool, roles, users, accounts) in [
            (
                "eksctl: names and groups may be left out",
                "- groups:\n  - system:bootstrappers\n  - system:nodes\n  rolearn: arn:aws:iam::111122223333:role/node\n  username: n-{{SessionName}}\n",
                "- userarn: arn:aws:iam::111122223333:user/admin\n",
                "- \"012345678901\"\n",
            ),
            (
                "Terraform's yamlencode: each key in quotes",
                "- \"groups\":\n  - \"system:bootstrappers\"\n  - \"system:nodes\"\n  \"rolearn\": \"arn:aws:iam::111122223333:role/node\"\n  \"username\": \"n-{{SessionName}}\"\n",
                "- \"userarn\": \"arn:aws:iam::111122223333:user/admin\"\n  \"username\": null\n  \"groups\": null\n",
                "- \"012345678901\"\n",
            ),
            (
                "Terraform's jsonencode: one line of JSON",
                r#"[{"groups":["system:bootstrappers","system:nodes"],"rolearn":"arn:aws:iam::111122223333:role/node","username":"n-{{SessionName}}"}]"#,
                r#"[{"userarn":"arn:aws:iam::111122223333:user/admin","username":"","groups":[]}]"#,
                r#"["012345678901"]"#,
            ),
            (
                "an editor on Windows, and the form of the console",
                "\u{feff}- groups:\r\n    - system:bootstrappers\r\n    - system:nodes\r\n  rolearn: arn:aws:iam::111122223333:role/node\r\n  username: n-{{SessionName}}\r\n",
                "- userarn: arn:aws:iam::111122223333:user/admin\r\n  username:\r\n  groups:\r\n",
                "- 012345678901\r\n",
            ),
            (
                "by hand: any case, a path, comments, no quotes, a list in one line",
                "# nodes\n- rOlEaRn: ARN:aws:iam::111122223333:role/some/path/Node # all of them\n  UsErNaMe: n-{{SessionName}}\n  gRoUpS: [system:bootstrappers, system:nodes]\n",
                "-\n  groups: []\n  userARN: arn:aws:iam::111122223333:user/admin\n",
                "[012345678901]",
            ),
        ] {
            let read = AwsAuth::new(OPTIONS).read(Some(&data(&[("mapRoles", roles), ("mapUsers", users), ("mapAccounts", accounts)])));
            assert_eq!((told(&read).as_str(), read.entries, read.rejected, read.stale), ("", 3, 0, false), "{tool}");
            assert_eq!(who(&read.backend, NODE), r#"n-jane ["system:bootstrappers", "system:nodes"]"#, "{tool}");
            assert_eq!(who(&read.backend, ADMIN), " []", "{tool}");
            assert_eq!(who(&read.backend, "arn:aws:iam::012345678901:root"), "account arn:aws:iam::012345678901:root", "{tool}");
        }
    }

    #[test]
    fn what_is_written_for_nothing_is_nothing() {
        for nothing in ["", " \n", "``", "\"\"", "''", "[]", "{}", "null", "~", "# none\n", "---\n", "|\n"] {
            let texts = data(&[("mapRoles", nothing), ("mapUsers", nothing), ("mapAccounts", nothing)]);
            let read = AwsAuth::new(OPTIONS).read(Some(&texts));
            assert_eq!((told(&read).as_str(), read.entries, read.stale, read.backend.has_gaps()), ("", 0, false, false), "{nothing:?}");
        }
        let read = AwsAuth::new(OPTIONS).read(Some(&BTreeMap::new()));
        assert_eq!((read.entries, read.backend.has_gaps()), (0, false));
        let read = AwsAuth::new(OPTIONS).read(None);
        assert_eq!((read.entries, read.backend.has_gaps()), (0, false));
    }

    #[test]
    fn keys_of_the_config_map_count_as_they_are_written() {
        let read = AwsAuth::new(OPTIONS).read(Some(&data(&[("maproles", GOOD), ("MaPrCcOuNtS", "- 111122223333\n"), ("notes", "x")])));
        assert_eq!(who(&read.backend, NODE), "NotMapped");
        insta::assert_snapshot!(told(&read), @r#"
        Warning kube-system/aws-auth: unknown key "MaPrCcOuNtS"; did you mean mapAccounts? (here upper and lower case count)
        Warning kube-system/aws-auth: unknown key "maproles"; did you mean mapRoles? (here upper and lower case count)
        Warning kube-system/aws-auth: unknown key "notes"
        "#);
    }

    #[test]
    fn a_bad_entry_is_left_out_and_the_others_count() {
        let users = "
- userarn: arn:aws:iam::111122223333:user/admin
  username: admin
- userarn: arn:iam:matlan
- user_arn: arn:aws:iam::111122223333:user/Typo
- text
- userarn: arn:aws:iam::111122223333:user/List
  groups: {a: b}
";
        let read = AwsAuth::new(OPTIONS).read(Some(&data(&[("mapUsers", users), ("mapAccounts", "[123, 111122223333]")])));
        assert_eq!((read.entries, read.rejected, read.stale, read.backend.has_gaps()), (2, 5, false, false));
        assert_eq!(who(&read.backend, ADMIN), "admin []");
        assert_eq!(who(&read.backend, "arn:aws:iam::111122223333:user/List"), "account arn:aws:iam::111122223333:user/List");
        insta::assert_snapshot!(told(&read), @r#"
        Error kube-system/aws-auth:1: mapAccounts[0]: expected 12 digits
        Error kube-system/aws-auth:4: mapUsers[1].userarn: not an ARN: expected arn:partition:service::account:resource
        Error kube-system/aws-auth:5: mapUsers[2]: expected userarn
        Error kube-system/aws-auth:6: mapUsers[3]: expected a map, found text
        Error kube-system/aws-auth:8: mapUsers[4].groups: expected a list, found a map
        Warning kube-system/aws-auth:5: mapUsers[2]: unknown key "user_arn"; did you mean userarn?
        "#);
    }

    #[test]
    fn a_group_that_is_indented_too_far_is_told() {
        let roles = "- rolearn: arn:aws:iam::111122223333:role/node\n  groups:\n    - system:bootstrappers\n     - system:nodes\n";
        let read = AwsAuth::new(OPTIONS).read(Some(&data(&[("mapRoles", roles)])));
        assert_eq!(who(&read.backend, NODE), r#" ["system:bootstrappers - system:nodes"]"#);
        insta::assert_snapshot!(told(&read), @r#"Warning kube-system/aws-auth:3: mapRoles[0].groups[0]: one group with " - " in it: is a line indented too far?"#);
    }

    /// Texts that cannot be read.
    fn unreadable() -> Vec<(&'static str, String)> {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let below = format!("*a{}", level - 1);
            laughs += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", "));
        }
        vec![
            ("half written", "- rolearn: \"arn:aws:iam::1111".to_owned()),
            ("a tab", "- rolearn: arn:aws:iam::111122223333:role/node\n\tusername: node\n".to_owned()),
            ("a map", "rolearn: arn:aws:iam::111122223333:role/node\nusername: node\n".to_owned()),
            ("text", "arn:aws:iam::111122223333:role/node".to_owned()),
            (
                "the same key twice",
                "- rolearn: arn:aws:iam::111122223333:role/node\n  roleARN: arn:aws:iam::111122223333:role/other\n".to_owned(),
            ),
            ("an alias bomb", laughs),
            ("5 MiB", "- rolearn: arn:aws:iam::111122223333:role/node\n".repeat(5 << 20 >> 5)),
            ("NUL", "- rolearn: arn:aws:iam::111122223333:role/node\0\n".to_owned()),
            ("NUL alone", "\0\0\0\0".to_owned()),
            ("two documents", format!("{GOOD}---\n{GOOD}")),
        ]
    }

    #[test]
    fn a_text_that_cannot_be_read_leaves_what_was_good_of_its_key_and_lets_the_others_change() {
        for (what, bad) in unreadable() {
            let mut aws_auth = AwsAuth::new(OPTIONS);
            aws_auth.read(Some(&data(&[("mapRoles", GOOD)])));
            for _ in 0..2 {
                let users = "- userarn: arn:aws:iam::111122223333:user/admin\n  username: admin\n";
                let read = aws_auth.read(Some(&data(&[("mapRoles", &bad), ("mapUsers", users)])));
                assert_eq!(who(&read.backend, NODE), r#"node ["system:nodes"]"#, "{what}");
                assert_eq!(who(&read.backend, ADMIN), "admin []", "{what}");
                assert!(read.stale && !read.backend.has_gaps(), "{what}");
                assert!(read.findings.iter().any(|finding| finding.severity == Severity::Error), "{what}");
            }
            let read = aws_auth.read(Some(&data(&[("mapUsers", "")])));
            assert_eq!((who(&read.backend, NODE).as_str(), read.stale), ("NotMapped", false), "{what}: it was taken away");
        }
    }

    #[test]
    fn what_was_never_good_is_not_known() {
        for (what, bad) in unreadable() {
            let mut aws_auth = AwsAuth::new(OPTIONS);
            let users = "- userarn: arn:aws:iam::111122223333:user/admin\n  username: admin\n";
            let read = aws_auth.read(Some(&data(&[("mapRoles", &bad), ("mapUsers", users)])));
            assert_eq!(who(&read.backend, ADMIN), "admin []", "{what}");
            assert_eq!(who(&read.backend, NODE), "NotLoaded { mode: EksConfigMap }", "{what}");
            assert_eq!(who(&aws_auth.read(None).backend, NODE), "NotMapped", "{what}: the ConfigMap is gone");
        }
    }

    #[test]
    fn an_entry_that_turns_bad_keeps_what_was_good_for_its_principal() {
        let mut aws_auth = AwsAuth::new(OPTIONS);
        let other = "- rolearn: arn:aws:iam::111122223333:role/other\n  username: other\n";
        aws_auth.read(Some(&data(&[("mapRoles", &format!("{GOOD}{other}"))])));
        let bad = "- roleARN: arn:aws:iam::111122223333:role/some/path/Node\n  groups: {system:nodes: yes}\n";
        for _ in 0..2 {
            let read = aws_auth.read(Some(&data(&[("mapRoles", bad)])));
            assert_eq!((who(&read.backend, NODE).as_str(), read.rejected), (r#"node ["system:nodes"]"#, 1));
            assert_eq!(who(&read.backend, "arn:aws:sts::111122223333:assumed-role/other/s"), "NotMapped", "it was taken away");
        }
        let repaired = "- rolearn: arn:aws:iam::111122223333:role/node\n  username: new\n";
        assert_eq!(
            who(&aws_auth.read(Some(&data(&[("mapRoles", &format!("{bad}{repaired}"))]))).backend, NODE),
            "new []",
            "it is there beside it"
        );
        assert_eq!(who(&aws_auth.read(Some(&data(&[("mapRoles", repaired)]))).backend, NODE), "new []");
        assert_eq!(who(&aws_auth.read(Some(&data(&[("mapRoles", other)]))).backend, NODE), "NotMapped");
    }

    #[test]
    fn contents_are_not_told() {
        let secret = "- rolearn: s3cr3t\n  username: s3cr3t\n  groups: [s3cr3t]\n- s3cr3t\n";
        let read = AwsAuth::new(OPTIONS).read(Some(&data(&[("mapRoles", secret), ("mapUsers", "s3cr3t: [")])));
        assert!(read.findings.len() >= 3 && !told(&read).contains("s3cr3t"), "{}", told(&read));
    }
}
