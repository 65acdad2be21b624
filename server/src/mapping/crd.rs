//! CRD: objects `IAMIdentityMapping`, cluster-scoped, matched on what their `spec` says.
//!
//! The reference matches on `status.canonicalARN`, which whoever may write the status of an object chooses.
//!
//! Nothing here knows Kubernetes: whoever watches the objects hands over their specs.

use std::sync::Arc;

use super::backend::Backend;
use super::entry::{self, Entry, Options};
use super::given::Names;
use super::source::{Finding, Read};
use crate::document::{Findings, Place, Text};

/// What the spec of an object says.
#[derive(Clone, Copy, Debug)]
pub struct IdentityMapping<'a> {
    /// The object's name.
    pub name: &'a str,
    /// `spec.arn`
    pub arn: &'a str,
    /// `spec.username`
    pub username: &'a str,
    /// `spec.groups`
    pub groups: &'a [String],
}

/// Reads all objects, in the order of their names. One that is wrong is left out, and the others count.
///
/// upstream: pkg/mapper/crd/mapper.go, and `syncHandler` in pkg/mapper/crd/controller/controller.go.
pub fn read<'a>(objects: impl IntoIterator<Item = IdentityMapping<'a>>, options: &Options) -> Read {
    let mut objects: Vec<_> = objects.into_iter().collect();
    objects.sort_unstable_by_key(|object| object.name);
    let findings = Findings::default();
    let (mut entries, mut rejected) = (Vec::with_capacity(objects.len()), 0_usize);
    for object in objects {
        match entry_of(object, options, &findings) {
            Some(entry) => entries.push(entry),
            None => rejected = rejected.saturating_add(1),
        }
    }
    entry::warn_of_duplicates(&entries, &findings);
    let backend = Backend::new(entries.into_iter().map(|entry| entry.mapping).collect(), [].into());
    Read { entries: backend.entries(), backend: backend.into(), findings: Finding::all(findings), rejected, stale: false }
}

fn entry_of(object: IdentityMapping<'_>, options: &Options, findings: &Findings) -> Option<Entry> {
    let file: Arc<str> = format!("iamidentitymapping/{}", object.name).into();
    let place = |key: String| Place::File { file: Arc::clone(&file), position: None, key };
    let text = |text: &str, key: &str| Text { text: text.to_owned(), place: place(key.to_owned()) };
    entry::look_at_template(&text(object.username, "spec.username"), findings);
    for (index, group) in object.groups.iter().enumerate() {
        entry::look_at_template(&text(group, &format!("spec.groups[{index}]")), findings);
    }
    let names = Names { username: object.username.to_owned(), groups: object.groups.to_vec(), ..Names::default() };
    let mapping = entry::for_arn(text(object.arn, "spec.arn"), options, names, findings)?;
    Some(Entry { mapping, place: place(String::new()) })
}

#[cfg(test)]
mod tests {
    use arngate_core::{Identity, Partition};

    use super::*;
    use crate::mapping::SsoEntries;

    const OPTIONS: Options = Options { partition: Partition::Aws, arn_patterns: false, sso: SsoEntries::Asked };

    fn told(read: &Read) -> String {
        read.findings.iter().map(|finding| format!("{:?} {finding}\n", finding.severity)).collect()
    }

    fn username(read: &Read, arn: &str) -> Option<String> {
        let user_id = if arn.contains(":assumed-role/") { "AROAEXAMPLE:s" } else { "AIDAEXAMPLE" };
        let identity = Identity::check(Partition::Aws, "123456789012", arn, user_id).unwrap();
        read.backend.find(&identity).map(|mapping| mapping.username().as_str().to_owned())
    }

    #[test]
    fn reads_all_objects_and_leaves_out_what_is_wrong() {
        let groups = ["system:masters".to_owned(), "{{Nothing}}".to_owned()];
        let object = |name, arn, username| IdentityMapping { name, arn, username, groups: &groups };
        let read = read(
            [
                object("user", "ARN:aws:iam::123456789012:user/Bob", "bob"),
                object("assumed", "arn:aws:sts::123456789012:assumed-role/path/Dev/session", "dev-{{SessionName}}"),
                object("typo\u{1b}[2J", "arn:awz:iam::123456789012:user/Eve", "eve"),
                object("empty", "", ""),
                IdentityMapping { groups: &[], ..object("no-groups", "arn:aws:iam::123456789012:user/Al", "al") },
            ],
            &OPTIONS,
        );
        assert_eq!((read.entries, read.rejected, read.stale), (3, 2, false));
        assert_eq!(username(&read, "arn:aws:iam::123456789012:user/bob").as_deref(), Some("bob"));
        assert_eq!(username(&read, "arn:aws:iam::123456789012:user/Al").as_deref(), Some("al"));
        assert_eq!(username(&read, "arn:aws:sts::123456789012:assumed-role/Dev/s").as_deref(), Some("dev-{{SessionName}}"));
        insta::assert_snapshot!(told(&read), @r#"
        Error iamidentitymapping/empty: spec.arn: not an ARN: expected arn:partition:service::account:resource
        Error iamidentitymapping/typo\u{1b}[2J: spec.arn: the ARN's partition is none of AWS
        Warning iamidentitymapping/assumed: spec.groups[1]: has {{…}} that is no placeholder and stays as it is
        Warning iamidentitymapping/empty: spec.groups[1]: has {{…}} that is no placeholder and stays as it is
        Warning iamidentitymapping/typo\u{1b}[2J: spec.groups[1]: has {{…}} that is no placeholder and stays as it is
        Warning iamidentitymapping/user: spec.groups[1]: has {{…}} that is no placeholder and stays as it is
        "#);
    }

    #[test]
    fn of_two_for_the_same_principal_the_last_by_name_counts_in_whatever_order_they_come() {
        let object = |name, username| IdentityMapping { name, arn: "arn:aws:iam::123456789012:user/Bob", username, groups: &[] };
        for objects in [[object("a", "first"), object("b", "second")], [object("b", "second"), object("a", "first")]] {
            let read = read(objects, &OPTIONS);
            assert_eq!(username(&read, "arn:aws:iam::123456789012:user/Bob").as_deref(), Some("second"));
            assert_eq!(told(&read), "Warning iamidentitymapping/a: has no effect, for iamidentitymapping/b is for the same principal\n");
        }
    }
}
