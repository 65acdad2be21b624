//! Adds entries to `mapRoles` and `mapUsers` of aws-auth, and takes them out, within the text that somebody else wrote.
//!
//! Nothing is written anew: what others wrote stays byte for byte, comments, quotes and unknown keys with it. Each edit is proved before it is given out: what
//! was there must read as before, and the change must be what was asked for. Where that cannot be had, the edit is refused.

use std::sync::Arc;

use arngate_server::document::tree::{self, Value};
use arngate_server::document::{Errors, Node, Position};

use crate::entry::key_of;
pub use crate::entry::{Addition, Principal};

/// Why a text was not edited.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// There is no such entry.
    #[error("there is no entry for {0}")]
    Absent(String),
    /// There is one.
    #[error("cannot add duplicate {0}")]
    Duplicate(String),
    /// It is no list.
    #[error("{0} is no list: mend it before you change it")]
    NotAList(&'static str),
    /// It cannot be read, and nobody could say what an edit would do.
    #[error("{0}\n{1} cannot be read: mend it before you change it")]
    NotYaml(Errors, &'static str),
    /// It can be read, but not edited without touching what others wrote.
    #[error("{0} is written in a way that cannot be edited here without touching what others wrote: edit it by hand")]
    Unsafe(&'static str),
}

/// Adds an entry at the end of the list that `text` is.
///
/// # Errors
///
/// [`EditError`]; a second entry for the same principal is refused, as in the reference.
pub fn add(text: &str, addition: &Addition) -> Result<String, EditError> {
    let key = addition.principal.list();
    let items = items(text, key)?;
    let wanted = addition.principal.key();
    if items.iter().any(|item| key_of(item) == wanted) {
        return Err(EditError::Duplicate(addition.principal.to_string()));
    }
    let edited = added(text, &items, addition).ok_or(EditError::Unsafe(key))?;
    let mut expected = items;
    expected.push(addition.node());
    proved(edited, &expected, key)
}

/// Takes out all entries for a principal.
///
/// # Errors
///
/// [`EditError`].
pub fn remove(text: &str, principal: &Principal) -> Result<String, EditError> {
    let (key, wanted) = (principal.list(), principal.key());
    let mut edited = text.to_owned();
    let mut removed = 0_usize;
    loop {
        let mut left = items(&edited, key)?;
        let Some(index) = left.iter().position(|item| key_of(item) == wanted) else { break };
        let without = removed_one(&edited, &left, index).ok_or(EditError::Unsafe(key))?;
        left.remove(index);
        edited = proved(without, &left, key)?;
        removed = removed.saturating_add(1);
    }
    if removed == 0 { Err(EditError::Absent(principal.to_string())) } else { Ok(edited) }
}

/// An edit that reads as it should.
fn proved(edited: String, expected: &[Node], key: &'static str) -> Result<String, EditError> {
    let is_so = items(&edited, key).is_ok_and(|items| items.len() == expected.len() && items.iter().zip(expected).all(|(a, b)| same(a, b)));
    if is_so { Ok(edited) } else { Err(EditError::Unsafe(key)) }
}

/// The entries of a list; none where there is nothing, however that is written.
fn items(text: &str, key: &'static str) -> Result<Vec<Node>, EditError> {
    if is_nothing(text) {
        return Ok(Vec::new());
    }
    let file: Arc<str> = format!("kube-system/aws-auth: {key}").into();
    match tree::parse(&file, text.as_bytes()).map_err(|errors| EditError::NotYaml(errors, key))?.value {
        Value::List(items) => Ok(items),
        Value::Null => Ok(Vec::new()),
        Value::Map(entries) if entries.is_empty() => Ok(Vec::new()),
        Value::Map(_) | Value::Text(_) => Err(EditError::NotAList(key)),
    }
}

/// As Terraform and the shell leave an empty list behind; the reference skips these.
fn is_nothing(text: &str) -> bool {
    matches!(text.trim(), "" | "``" | "\"\"" | "''")
}

/// Whether two values read the same, wherever they stand.
fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.written == b.written && same(&a.node, &b.node))
        }
        (a, b) => a == b,
    }
}

/// `text` with one more entry; not yet proved.
fn added(text: &str, items: &[Node], addition: &Addition) -> Option<String> {
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    if items.is_empty() {
        return if is_nothing(text) || matches!(text.trim(), "[]" | "{}" | "null" | "~") {
            Some(addition.block("", end))
        } else {
            // Comments, or the mark of a document: they stay.
            Some(inserted(text, text.trim_end().len(), &addition.block("", end), end))
        };
    }
    if text.trim_start().starts_with('[') {
        return added_to_flow(text, items, addition, end);
    }
    let dashes = dashes(text, items)?;
    let line = text.get(dashes.first()?.line_start..)?;
    let indent = line.get(..line.find('-')?)?;
    Some(inserted(text, text.trim_end().len(), &addition.block(indent, end), end))
}

/// Puts lines behind the line in which the byte at `at` ends.
fn inserted(text: &str, at: usize, lines: &str, end: &str) -> String {
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let rest_of_line = after.find('\n').map(|index| index.saturating_add(1));
    let (line, after) = rest_of_line.and_then(|index| after.split_at_checked(index)).unwrap_or((after, ""));
    let missing = if rest_of_line.is_none() { end } else { "" };
    format!("{before}{line}{missing}{lines}{after}")
}

fn added_to_flow(text: &str, items: &[Node], addition: &Addition, end: &str) -> Option<String> {
    let close = text.trim_end().strip_suffix(']')?.len();
    let (before, after) = text.split_at_checked(close)?;
    let held = before.trim_end();
    let gap = before.get(held.len()..)?;
    let comma = if held.ends_with(',') { "" } else { "," };
    let space = match items.last() {
        Some(last) if gap.contains('\n') => format!("{end}{}", " ".repeat(last.position.column.saturating_sub(1))),
        _ if held.contains(", ") => " ".to_owned(),
        _ => String::new(),
    };
    Some(format!("{held}{comma}{space}{}{gap}{after}", addition.flow()))
}

/// Where an entry in block style begins.
struct Dash {
    /// The byte at which its line begins.
    line_start: usize,
}

/// The dashes of the outermost list, if it is certain which these are: as many lines begin with one in its column as it has entries.
fn dashes(text: &str, items: &[Node]) -> Option<Vec<Dash>> {
    let first = text.split_inclusive('\n').find(|line| is_dash(line.trim_start_matches(['\u{feff}', ' '])))?;
    let column = first.trim_start_matches('\u{feff}').find('-')?;
    let mut dashes = Vec::new();
    let mut line_start = 0_usize;
    for line in text.split_inclusive('\n') {
        let (indent, rest) = line.trim_start_matches('\u{feff}').split_at_checked(column).unwrap_or((line, ""));
        if indent.bytes().all(|byte| byte == b' ') && is_dash(rest) {
            dashes.push(Dash { line_start });
        }
        line_start = line_start.saturating_add(line.len());
    }
    (dashes.len() == items.len()).then_some(dashes)
}

fn is_dash(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\r', '\n']))
}

/// `text` without the entry of this index; not yet proved.
fn removed_one(text: &str, items: &[Node], index: usize) -> Option<String> {
    if text.trim_start().starts_with('[') {
        return removed_from_flow(text, items, index);
    }
    let dashes = dashes(text, items)?;
    let start = dashes.get(index)?.line_start;
    let limit = dashes.get(index.saturating_add(1)).map_or(text.len(), |next| next.line_start);
    // Comments and blank lines behind it are more likely about what follows.
    let mut end = start;
    let mut at = start;
    for line in text.get(start..limit)?.split_inclusive('\n') {
        at = at.saturating_add(line.len());
        let content = line.trim();
        if !content.is_empty() && !content.starts_with('#') {
            end = at;
        }
    }
    Some(format!("{}{}", text.get(..start)?, text.get(end..)?))
}

fn removed_from_flow(text: &str, items: &[Node], index: usize) -> Option<String> {
    let start = offset(text, items.get(index)?.position)?;
    let next = index.checked_add(1).and_then(|next| items.get(next));
    let (from, to) = if let Some(next) = next {
        (start, offset(text, next.position)?)
    } else {
        let close = text.trim_end().strip_suffix(']')?;
        let to = close.trim_end().len();
        // With the comma before it, and what is between.
        let from = if index == 0 { start } else { text.get(..start)?.rfind(',')? };
        (from, to)
    };
    Some(format!("{}{}", text.get(..from)?, text.get(to..)?))
}

/// The byte at a position.
fn offset(text: &str, position: Position) -> Option<usize> {
    let line_start = match position.line.checked_sub(2) {
        None => 0,
        Some(before) => text.match_indices('\n').nth(before)?.0.saturating_add(1),
    };
    let line = text.get(line_start..)?;
    let column = position.column.saturating_sub(1);
    let within = line.char_indices().nth(column)?.0;
    Some(line_start.saturating_add(within))
}

#[cfg(test)]
mod tests {
    use arngate_core::Partition;

    use super::*;

    fn role(name: &str) -> Principal {
        Principal::role(&format!("arn:aws:iam::111122223333:role/{name}")).unwrap()
    }

    fn addition(principal: Principal) -> Addition {
        Addition { principal, username: "new:{{SessionName}}".into(), groups: vec!["system:masters".into(), "dev ops".into()] }
    }

    fn add_new(text: &str) -> Result<String, String> {
        add(text, &addition(role("New"))).map_err(|error| error.to_string())
    }

    /// What each tool, and people by hand, write.
    const TEXTS: &[(&str, &str)] = &[
        (
            "eksctl",
            "- groups:\n  - system:bootstrappers\n  - system:nodes\n  rolearn: arn:aws:iam::111122223333:role/node\n  username: system:node:{{EC2PrivateDNSName}}\n- rolearn: arn:aws:iam::111122223333:role/Two\n",
        ),
        (
            "Terraform's yamlencode",
            "- \"groups\":\n  - \"system:nodes\"\n  \"rolearn\": \"arn:aws:iam::111122223333:role/node\"\n  \"username\": \"n\"\n- \"rolearn\": \"arn:aws:iam::111122223333:role/Two\"\n",
        ),
        (
            "Terraform's jsonencode",
            r#"[{"groups":["system:nodes"],"rolearn":"arn:aws:iam::111122223333:role/node","username":"n"},{"rolearn":"arn:aws:iam::111122223333:role/Two"}]"#,
        ),
        (
            "JSON over lines",
            "[\n  {\"rolearn\": \"arn:aws:iam::111122223333:role/node\", \"groups\": []},\n  {\"rolearn\": \"arn:aws:iam::111122223333:role/Two\"}\n]\n",
        ),
        (
            "a heredoc, indented, without an end",
            "    - rolearn: arn:aws:iam::111122223333:role/node\n      username: n\n      groups:\n        - system:nodes\n    - rolearn: arn:aws:iam::111122223333:role/Two",
        ),
        (
            "an editor on Windows",
            "- rolearn: arn:aws:iam::111122223333:role/node\r\n  username: n\r\n- rolearn: arn:aws:iam::111122223333:role/Two\r\n",
        ),
        (
            "by hand",
            "# nodes, never touch\n-\n  rOlEaRn: arn:aws:iam::111122223333:role/path/Node # all of them\n  unknown: {a: [1, 2]}\n  groups: [system:nodes]\n\n# two\n- {rolearn: 'arn:aws:iam::111122223333:role/Two', username: \"t\\u0077o\"}\n# the end\n\n",
        ),
        (
            "a block scalar, and an alias",
            "- rolearn: &node arn:aws:iam::111122223333:role/node\n  username: |-\n    - n\n  groups: &all\n    - g\n- rolearn: arn:aws:iam::111122223333:role/Two\n  groups: *all\n  username: *node\n",
        ),
    ];

    #[test]
    fn an_entry_is_added_and_nothing_else_is_touched_and_taking_it_out_gives_what_was_there() {
        for (writer, text) in TEXTS {
            let edited = add_new(text).unwrap_or_else(|error| panic!("{writer}: {error}"));
            let kept: Vec<_> = text.lines().filter(|line| !line.starts_with('[')).collect();
            let lines: Vec<_> = edited.lines().collect();
            for line in kept {
                assert!(
                    lines.iter().any(|other| other.trim_end_matches(',') == line.trim_end_matches(',')),
                    "{writer}: {line:?} in {edited}"
                );
            }
            assert_eq!(items(&edited, "mapRoles").unwrap().len(), 3, "{writer}");
            let back = remove(&edited, &role("new")).unwrap();
            // A last line without an end is given one.
            let ended = if text.ends_with('\n') || text.starts_with('[') { (*text).to_owned() } else { format!("{text}\n") };
            assert_eq!(back, ended, "{writer}");
        }
    }

    #[test]
    fn writes_in_the_style_that_is_there() {
        let edited: String =
            TEXTS.iter().map(|(writer, text)| format!("## {writer}\n{}\n", add_new(text).unwrap().replace('\r', "␍"))).collect();
        insta::assert_snapshot!(edited);
    }

    #[test]
    fn an_entry_is_taken_out_and_nothing_else_is_touched() {
        for (writer, text) in TEXTS {
            let left = remove(text, &role("Two")).unwrap_or_else(|error| panic!("{writer}: {error}"));
            assert_eq!(items(&left, "mapRoles").unwrap().len(), 1, "{writer}");
            assert!(!left.contains("Two") && text.contains(left.get(..40).unwrap()), "{writer}: {left}");
        }
        let by_hand = TEXTS.iter().find(|(writer, _)| *writer == "by hand").unwrap().1;
        assert_eq!(
            remove(by_hand, &role("node")).unwrap(),
            "# nodes, never touch\n\n# two\n- {rolearn: 'arn:aws:iam::111122223333:role/Two', username: \"t\\u0077o\"}\n# the end\n\n"
        );
        // Where what is left hangs on what would go, it stays.
        let alias = TEXTS.last().unwrap().1;
        assert_eq!(remove(alias, &role("node")), Err(EditError::Unsafe("mapRoles")));
    }

    #[test]
    fn takes_out_all_entries_for_a_principal_down_to_none() {
        let text = "- rolearn: arn:aws:iam::111122223333:role/A\n# b\n- rolearn: arn:aws:iam::111122223333:role/B\n- rolearn: arn:aws:iam::111122223333:role/path/a\n";
        let left = remove(text, &role("A")).unwrap();
        assert_eq!(left, "# b\n- rolearn: arn:aws:iam::111122223333:role/B\n");
        let none = remove(&left, &role("b")).unwrap();
        assert_eq!(none, "# b\n");
        assert_eq!(
            remove(&none, &role("B")).unwrap_err().to_string(),
            r#"there is no entry for role ARN "arn:aws:iam::111122223333:role/B""#
        );
        let flow = r#"[{"rolearn":"arn:aws:iam::111122223333:role/A"}, {"rolearn":"arn:aws:iam::111122223333:role/B"}]"#;
        assert_eq!(remove(flow, &role("A")).unwrap(), r#"[{"rolearn":"arn:aws:iam::111122223333:role/B"}]"#);
        assert_eq!(remove(&remove(flow, &role("B")).unwrap(), &role("A")).unwrap(), "[]");
    }

    #[test]
    fn begins_a_list_where_there_is_nothing() {
        let entry = "- rolearn: arn:aws:iam::111122223333:role/New\n  username: \"new:{{SessionName}}\"\n  groups:\n  - system:masters\n  - \"dev ops\"\n";
        for nothing in ["", " \n", "``", "\"\"", "''", "[]", "{}\n", "null", "~"] {
            assert_eq!(add_new(nothing).unwrap(), entry, "{nothing:?}");
        }
        for kept in ["# nobody yet\n", "---\n", "# a\n\n# b\n"] {
            assert_eq!(add_new(kept).unwrap(), format!("{kept}{entry}"));
        }
        assert_eq!(add_new("# nobody yet").unwrap(), format!("# nobody yet\n{entry}"));
    }

    #[test]
    fn refuses_a_second_entry_for_the_same_principal() {
        for there in [
            "- rolearn: arn:aws:iam::111122223333:role/New\n",
            "- ROLEARN: arn:aws:iam::111122223333:role/some/path/NEW\n",
            "- {rolearn: 'arn:aws:sts::111122223333:assumed-role/New/session'}\n",
        ] {
            assert_eq!(add_new(there).unwrap_err(), r#"cannot add duplicate role ARN "arn:aws:iam::111122223333:role/New""#, "{there}");
        }
        let sso = |partition| Principal::sso("ViewOnly", "012345678901", partition).unwrap();
        let text = add("", &addition(sso(None))).unwrap();
        let again = add(&text, &addition(sso(Some(Partition::Aws))));
        assert_eq!(again.unwrap_err().to_string(), r#"cannot add duplicate SSO permission set "ViewOnly" of account 012345678901"#);
        let both = add(&text, &addition(sso(Some(Partition::AwsCn)))).unwrap();
        insta::assert_snapshot!(both, @r#"
        - sso:
            permissionSetName: ViewOnly
            accountID: "012345678901"
          username: "new:{{SessionName}}"
          groups:
          - system:masters
          - "dev ops"
        - sso:
            permissionSetName: ViewOnly
            accountID: "012345678901"
            partition: aws-cn
          username: "new:{{SessionName}}"
          groups:
          - system:masters
          - "dev ops"
        "#);
        let second = both.match_indices("- sso:").nth(1).unwrap().0;
        assert_eq!(remove(&both, &sso(None)).unwrap(), both[second..]);
    }

    #[test]
    fn what_cannot_be_read_or_edited_is_left_alone() {
        let told: String = [
            "- rolearn: [\n",
            "- a: 1\n  A: 2\n",
            "rolearn: arn:aws:iam::111122223333:role/One\n",
            "text",
            // A dash within a text stands where entries begin.
            "- rolearn: arn:aws:iam::111122223333:role/One\n  username: \"a\n- b\"\n",
            // What comes behind the end of a document is another one.
            "- rolearn: arn:aws:iam::111122223333:role/One\n...\n",
            "[{rolearn: 'arn:aws:iam::111122223333:role/One'}] # ]",
        ]
        .iter()
        .map(|text| format!("{text:?}\n    {}\n", add_new(text).expect_err(text).replace('\n', "\n    ")))
        .collect();
        insta::assert_snapshot!(told);
    }

    #[test]
    fn scalars_are_read_back_as_they_were_meant() {
        for text in
            ["012345678901", "yes", "Null", "a: b", "a #b", "*a", "a:", "{{SessionName}}", "", " a", "ä", "a\"b\\", "-", "1e3", "@x", "y"]
        {
            let addition = Addition { username: text.into(), groups: vec![text.into()], ..addition(role("New")) };
            for there in ["", "[]", TEXTS[0].1, TEXTS[2].1] {
                let edited = add(there, &addition).unwrap_or_else(|error| panic!("{text:?}: {error}"));
                assert!(same(items(&edited, "mapRoles").unwrap().last().unwrap(), &addition.node()), "{text:?}: {edited}");
            }
        }
    }
}
