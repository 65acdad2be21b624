//! Objects of Kubernetes that hold mappings, as `kubectl get -o yaml` and `-o json` write them: aws-auth and `IAMIdentityMapping`, alone or in a List.
//!
//! The texts inside of aws-auth are documents of their own. Here they come with empty lines before them, as many as there are lines before them in the file, so that
//! whatever is found in them is found in the line where it stands in the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::crd::IdentityMapping;
use super::lint::KEYS;
use crate::document::tree::{Node, Value};
use crate::document::{Errors, Place, Position, tree};

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// ConfigMaps that are aws-auth, or have one of its keys.
    pub config_maps: Vec<Texts>,
    /// Objects `IAMIdentityMapping`.
    pub objects: Vec<Object>,
}

/// The data of a ConfigMap.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// Its texts, each with empty lines before it.
    pub data: BTreeMap<String, String>,
    /// Where those begin that are in quotes and have lines: these lines are not the file's.
    quoted: BTreeMap<String, usize>,
    /// How far those are indented that are not.
    indented: BTreeMap<String, usize>,
}

/// An object `IAMIdentityMapping`.
#[derive(Clone, Debug)]
pub struct Object {
    /// `metadata.name`
    pub name: String,
    /// `spec.arn`
    pub arn: String,
    /// `spec.username`
    pub username: String,
    /// `spec.groups`
    pub groups: Vec<String>,
    /// Where its spec stands.
    pub position: Position,
}

impl Object {
    /// For the reader of the mode.
    #[must_use]
    pub fn as_mapping(&self) -> IdentityMapping<'_> {
        IdentityMapping { name: &self.name, arn: &self.arn, username: &self.username, groups: &self.groups }
    }
}

impl Texts {
    /// The place in the file of a place in these texts.
    #[must_use]
    pub fn in_file(&self, place: Place) -> Place {
        let Place::File { file, position: Some(position), key } = place else { return place };
        let is_in = |name: &str| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']));
        if let Some((_, first)) = self.quoted.iter().find(|(name, _)| is_in(name)) {
            let line = position.line.saturating_sub(*first).saturating_add(1);
            let key = format!("{key} (line {line} of the text)");
            return Place::File { file, position: Some(Position { line: *first, column: 1 }), key };
        }
        let indent = self.indented.iter().find(|(name, _)| is_in(name)).map_or(0, |(_, indent)| *indent);
        Place::File { file, position: Some(Position { column: position.column.saturating_add(indent), ..position }), key }
    }
}

/// Reads a file; none: it holds no object of Kubernetes, but something else.
///
/// # Errors
///
/// It cannot be read at all.
pub fn read(file: &Arc<str>, bytes: &[u8]) -> Result<Option<Manifest>, Errors> {
    let node = tree::parse(file, bytes)?;
    let Some(kind) = get(&node, "kind").and_then(text) else { return Ok(None) };
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let mut manifest = Manifest::default();
    if kind.ends_with("List")
        && let Some(Node { value: Value::List(items), .. }) = get(&node, "items")
    {
        items.iter().for_each(|item| manifest.take(item, &lines));
    } else {
        manifest.take(&node, &lines);
    }
    Ok(Some(manifest))
}

impl Manifest {
    /// The place in the file of a place in one of its objects `IAMIdentityMapping`.
    #[must_use]
    pub fn in_file(&self, file: &Arc<str>, place: Place) -> Place {
        let Place::File { file: of, key, .. } = &place else { return place };
        let object = of.split_once('/').and_then(|(_, name)| self.objects.iter().find(|object| object.name == name));
        object.map_or_else(
            || place.clone(),
            |object| Place::File {
                file: Arc::clone(file),
                position: Some(object.position),
                key: [object.name.as_str(), key].join(" ").trim_end().to_owned(),
            },
        )
    }

    fn take(&mut self, object: &Node, lines: &[&[u8]]) {
        let name = get(object, "metadata").and_then(|metadata| get(metadata, "name")).and_then(text).unwrap_or_default();
        match get(object, "kind").and_then(text) {
            Some("ConfigMap") => {
                let entries = match get(object, "data") {
                    Some(Node { value: Value::Map(entries), .. }) => entries.as_slice(),
                    _ => &[],
                };
                if name != "aws-auth" && !entries.iter().any(|entry| KEYS.contains(&entry.written.as_str())) {
                    return;
                }
                let mut texts = Texts::default();
                for entry in entries {
                    let Some(content) = text(&entry.node) else { continue };
                    let (first, is_quoted) = first_line(&entry.node, content, lines);
                    if is_quoted && content.trim_end().contains('\n') {
                        texts.quoted.insert(entry.written.clone(), first);
                    } else {
                        // Of a text in quotes the first character is behind the quote.
                        let indent = entry.node.position.column.saturating_sub(1).saturating_add(usize::from(is_quoted));
                        texts.indented.insert(entry.written.clone(), indent);
                    }
                    texts.data.insert(entry.written.clone(), format!("{}{content}", "\n".repeat(first.saturating_sub(1))));
                }
                self.config_maps.push(texts);
            }
            Some("IAMIdentityMapping") => {
                let Some(spec) = get(object, "spec") else { return };
                let of = |key| get(spec, key).and_then(text).unwrap_or_default().to_owned();
                let groups = match get(spec, "groups") {
                    Some(Node { value: Value::List(groups), .. }) => groups.iter().filter_map(text).map(str::to_owned).collect(),
                    _ => Vec::new(),
                };
                self.objects.push(Object {
                    name: name.to_owned(),
                    arn: of("arn"),
                    username: of("username"),
                    groups,
                    position: spec.position,
                });
            }
            _ => {}
        }
    }
}

/// The line in which a text begins, and whether it is in quotes.
fn first_line(node: &Node, content: &str, lines: &[&[u8]]) -> (usize, bool) {
    let Position { line, column } = node.position;
    let begins = line.checked_sub(1).and_then(|line| lines.get(line)).and_then(|line| std::str::from_utf8(line).ok());
    let first = begins.and_then(|line| line.chars().nth(column.saturating_sub(1)));
    let is_quoted = matches!(first, Some('"' | '\''));
    // The parser points at the first line of a block that is not empty.
    let empty = if is_quoted { 0 } else { content.bytes().take_while(|byte| *byte == b'\n').count() };
    (line.saturating_sub(empty).max(1), is_quoted)
}

fn get<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(key)).map(|entry| &entry.node),
        _ => None,
    }
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arngate_core::Partition;

    use super::*;
    use crate::mapping::config_map::AwsAuth;
    use crate::mapping::{Options, SsoEntries};

    const OPTIONS: Options = Options { partition: Partition::Aws, arn_patterns: false, sso: SsoEntries::Asked };

    fn manifest(text: &str) -> Manifest {
        read(&"export.yaml".into(), text.as_bytes()).unwrap().unwrap()
    }

    fn found(text: &str) -> String {
        let manifest = manifest(text);
        let texts = &manifest.config_maps[0];
        let read = AwsAuth::in_file("export.yaml", OPTIONS).read(Some(&texts.data));
        read.findings.iter().map(|finding| format!("{}{}\n", texts.in_file(finding.place.clone()), finding.message)).collect()
    }

    #[test]
    fn what_is_wrong_in_a_text_is_told_with_its_line_in_the_file() {
        let block = "apiVersion: v1\ndata:\n  mapAccounts: |\n\n    - 12\n  mapRoles: |-\n    - rolearn: arn:aws:iam::111122223333:role/node\n      user: node\n    - role\n\
            kind: ConfigMap\nmetadata:\n  name: aws-auth\n";
        insta::assert_snapshot!(found(block), @r#"
        export.yaml:5: mapAccounts[0]: expected 12 digits
        export.yaml:9: mapRoles[1]: expected a map, found text
        export.yaml:8: mapRoles[0]: unknown key "user"
        "#);
        let json = "{\"kind\": \"List\",\n \"items\": [{\"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"aws-auth\"},\n \"data\":\n  {\"mapRoles\": \"- rolearn: arn:aws:iam::111122223333:role/node\\n  user: node\\n\",\n   \"mapUsers\": \"[12]\"}}]}";
        insta::assert_snapshot!(found(json), @r#"
        export.yaml:5: mapUsers[0]: expected a map, found text
        export.yaml:4: mapRoles[0] (line 2 of the text): unknown key "user"
        "#);
    }

    #[test]
    fn takes_what_holds_mappings_out_of_a_list() {
        let list = "apiVersion: v1\nkind: List\nitems:\n- kind: ConfigMap\n  metadata: {name: coredns}\n  data: {Corefile: x}\n- kind: Secret\n\
            - kind: IAMIdentityMapping\n  metadata: {name: admins}\n  spec:\n    arn: arn:aws:iam::111122223333:role/Admin\n    username: admin\n    groups: [a, b]\n";
        let manifest = manifest(list);
        assert!(manifest.config_maps.is_empty());
        let [object] = manifest.objects.as_slice() else { panic!("{manifest:?}") };
        assert_eq!((object.name.as_str(), object.username.as_str(), object.position.line), ("admins", "admin", 11));
        assert_eq!(object.groups, ["a", "b"]);
    }

    #[test]
    fn what_is_no_object_is_somebody_elses() {
        assert!(read(&"f".into(), b"clusterID: prod\nserver: {}\n").unwrap().is_none());
        assert!(read(&"f".into(), b"").unwrap().is_none());
        assert!(read(&"f".into(), b"a: [").is_err());
    }
}
