//! An entry of `mapRoles` or `mapUsers` of aws-auth: whom it is for, how it is written, and what that reads as.

use std::fmt;

use arngate_core::Partition;
use arngate_core::mapping::{SsoRole, Subject, SubjectError};
use arngate_server::document::tree::{Entry, Value};
use arngate_server::document::{Node, Position, Shown};

/// Whom an entry is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal(Kind);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Kind {
    Role { arn: String },
    Sso { permission_set: String, account_id: String, partition: Option<Partition> },
    User { arn: String },
}

impl Principal {
    /// A role.
    ///
    /// # Errors
    ///
    /// [`SubjectError`]: it is no ARN of a principal.
    pub fn role(arn: &str) -> Result<Self, SubjectError> {
        key_of_arn(arn).map(|_| Self(Kind::Role { arn: arn.to_owned() }))
    }

    /// A user.
    ///
    /// # Errors
    ///
    /// [`SubjectError`]: it is no ARN of a principal.
    pub fn user(arn: &str) -> Result<Self, SubjectError> {
        key_of_arn(arn).map(|_| Self(Kind::User { arn: arn.to_owned() }))
    }

    /// The role of a permission set of AWS SSO; without a partition in that of the server.
    ///
    /// # Errors
    ///
    /// [`SubjectError`].
    pub fn sso(permission_set: &str, account_id: &str, partition: Option<Partition>) -> Result<Self, SubjectError> {
        SsoRole::new(permission_set, account_id, Partition::Aws)?;
        Ok(Self(Kind::Sso { permission_set: permission_set.to_owned(), account_id: account_id.to_owned(), partition }))
    }

    /// The key of aws-auth that lists such.
    #[must_use]
    pub const fn list(&self) -> &'static str {
        match self.0 {
            Kind::Role { .. } | Kind::Sso { .. } => "mapRoles",
            Kind::User { .. } => "mapUsers",
        }
    }

    /// What two entries for the same principal have in common.
    pub(crate) fn key(&self) -> Option<String> {
        match &self.0 {
            Kind::Role { arn } | Kind::User { arn } => key_of_arn(arn).ok(),
            Kind::Sso { permission_set, account_id, partition } => {
                Some(key_of_sso(permission_set, account_id, partition.map_or(Partition::Aws.name(), Partition::name)))
            }
        }
    }
}

/// `role ARN "arn:…"`, `user ARN "arn:…"`, as the reference's messages have it.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Role { arn } => write!(f, "role ARN {}", Shown(arn)),
            Kind::User { arn } => write!(f, "user ARN {}", Shown(arn)),
            Kind::Sso { permission_set, account_id, .. } => {
                write!(f, "SSO permission set {} of account {account_id}", Shown(permission_set))
            }
        }
    }
}

fn key_of_arn(arn: &str) -> Result<String, SubjectError> {
    match Subject::from_arn(arn, false)? {
        Subject::Exact(arn) => Ok(arn.key().to_string()),
        // Not without patterns; then its text is as good as any.
        _ => Ok(arn.to_ascii_lowercase()),
    }
}

fn key_of_sso(permission_set: &str, account_id: &str, partition: &str) -> String {
    format!("sso {partition} {account_id} {permission_set}").to_ascii_lowercase()
}

/// An entry to be.
#[derive(Clone, Debug)]
pub struct Addition {
    /// Whom it is for.
    pub principal: Principal,
    /// The user's name.
    pub username: String,
    /// The user's groups.
    pub groups: Vec<String>,
}

/// The principal of an entry, as [`Principal::key`] has it.
pub(crate) fn key_of(item: &Node) -> Option<String> {
    let field = |node: &Node, key: &str| {
        let Value::Map(entries) = &node.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| entry.node.clone())
    };
    let text = |node: &Node, key: &str| match field(node, key)?.value {
        Value::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    };
    if let Some(arn) = text(item, "rolearn").or_else(|| text(item, "userarn")) {
        // What is no ARN is still a text that can be there twice.
        return Some(key_of_arn(&arn).unwrap_or_else(|_| arn.to_ascii_lowercase()));
    }
    let sso = field(item, "sso")?;
    let partition = text(&sso, "partition");
    Some(key_of_sso(
        &text(&sso, "permissionsetname")?,
        &text(&sso, "accountid")?,
        partition.as_deref().unwrap_or_else(|| Partition::Aws.name()),
    ))
}

impl Addition {
    /// What its text reads as.
    pub(crate) fn node(&self) -> Node {
        let text = |text: &str| Value::Text(text.to_owned());
        let list = |texts: &[String]| Value::List(texts.iter().map(|group| node(text(group))).collect());
        let mut entries = match &self.principal.0 {
            Kind::Role { arn } => vec![entry("rolearn", text(arn))],
            Kind::User { arn } => vec![entry("userarn", text(arn))],
            Kind::Sso { permission_set, account_id, partition } => {
                let mut sso = vec![entry("permissionSetName", text(permission_set)), entry("accountID", text(account_id))];
                sso.extend(partition.map(|partition| entry("partition", text(partition.name()))));
                vec![entry("sso", Value::Map(sso))]
            }
        };
        entries.push(entry("username", text(&self.username)));
        entries.push(entry("groups", list(&self.groups)));
        node(Value::Map(entries))
    }

    /// As one entry of a list in block style, in the order of keys in which the reference writes them.
    pub(crate) fn block(&self, indent: &str, end: &str) -> String {
        let mut out = format!("{indent}- ");
        match &self.principal.0 {
            Kind::Role { arn } => out += &format!("rolearn: {}{end}", scalar(arn)),
            Kind::User { arn } => out += &format!("userarn: {}{end}", scalar(arn)),
            Kind::Sso { permission_set, account_id, partition } => {
                out += &format!("sso:{end}{indent}    permissionSetName: {}{end}", scalar(permission_set));
                out += &format!("{indent}    accountID: {}{end}", scalar(account_id));
                if let Some(partition) = partition {
                    out += &format!("{indent}    partition: {}{end}", partition.name());
                }
            }
        }
        out += &format!("{indent}  username: {}{end}", scalar(&self.username));
        if self.groups.is_empty() {
            return out + &format!("{indent}  groups: []{end}");
        }
        out += &format!("{indent}  groups:{end}");
        for group in &self.groups {
            out += &format!("{indent}  - {}{end}", scalar(group));
        }
        out
    }

    /// As one entry of a list in flow style: JSON.
    pub(crate) fn flow(&self) -> String {
        flow(&self.node())
    }
}

const fn node(value: Value) -> Node {
    Node { position: Position { line: 1, column: 1 }, value }
}

fn entry(key: &str, value: Value) -> Entry {
    Entry { key: key.to_ascii_lowercase(), written: key.to_owned(), position: Position { line: 1, column: 1 }, node: node(value) }
}

fn flow(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Text(text) => quoted(text),
        Value::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(",")),
        Value::Map(entries) => {
            let pairs: Vec<_> = entries.iter().map(|entry| format!("{}:{}", quoted(&entry.written), flow(&entry.node))).collect();
            format!("{{{}}}", pairs.join(","))
        }
    }
}

/// A text in quotes; JSON's are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text as a scalar of a block: without quotes where nobody could take it for something else.
fn scalar(text: &str) -> String {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:@+=,-".contains(&byte);
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(is_word)
        && !text.ends_with(':')
        // What YAML 1.1 takes for a truth value, or for nothing.
        && !matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "null");
    if is_plain { text.to_owned() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_without_quotes_where_nobody_could_take_it_for_something_else() {
        for plain in ["arn:aws:iam::111122223333:role/path/Name+=,.@-_", "system:masters", "a-b"] {
            assert_eq!(scalar(plain), plain);
        }
        for other in ["012345678901", "yes", "Null", "a: b", "a:", "{{SessionName}}", "", " a", "-", "@x"] {
            assert_eq!(scalar(other), quoted(other));
        }
    }
}
