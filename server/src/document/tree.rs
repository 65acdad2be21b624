//! Bytes to a positioned tree.
//!
//! One reader for YAML and JSON: the events of `granit-parser`, the parser under serde-saphyr. serde's data model has no place for what is
//! needed here: a position for each key and value, and a number's own digits (`012345678901` is an account, not an octal number).

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::finding::{Error, Errors, Findings, Place, Shown};
use crate::telemetry::escape::Escaped;

/// Largest document, in bytes. What Kubernetes takes for a ConfigMap, the other place where such documents live:
/// <https://kubernetes.io/docs/concepts/configuration/configmap/#motivation>.
pub const DOCUMENT_MAX_BYTES: usize = 1 << 20;

/// Most nodes of a tree, aliases written out; 10 bytes of the largest document for each, while the shortest mapping takes 20.
pub const DOCUMENT_MAX_NODES: usize = 100_000;

/// Most bytes of text in a tree, aliases written out: four times the largest document.
pub const DOCUMENT_MAX_TEXT_BYTES: usize = 4 * DOCUMENT_MAX_BYTES;

/// Deepest nesting. Settings need five levels.
pub const DOCUMENT_MAX_DEPTH: usize = 64;

/// A place in a document; both numbers begin with 1, and the column counts characters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    fn of(span: &Span) -> Self {
        Self { line: span.start.line(), column: span.start.col().saturating_add(1) }
    }
}

/// A value and where it begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub position: Position,
    /// The value.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// Values in order.
    List(Vec<Node>),
    /// Keys and values in the order in which they were written, no key twice.
    Map(Vec<Entry>),
    /// Nothing: no text, `~` or `null` without quotes.
    Null,
    /// The text of a scalar, whatever it would mean as a number or a truth value.
    Text(String),
}

impl Value {
    /// What it is, in a message.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Null => "nothing",
            Self::Text(_) => "text",
        }
    }
}

/// A key with its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The key in lower case.
    pub key: String,
    /// The key as it was written.
    pub written: String,
    /// Where the key stands.
    pub position: Position,
    /// Its value.
    pub node: Node,
}

/// Reads a document. An empty one is an empty map.
///
/// Keys count without ASCII case; two that become equal are an error. Anchors, aliases and merge keys (`<<`) are written out, within the
/// budgets. A second document in the same file is an error, for the reference would silently leave it out.
///
/// # Errors
///
/// The first error of syntax or over a budget; all keys that are there twice.
pub fn parse(file: &Arc<str>, bytes: &[u8]) -> Result<Node, Errors> {
    let fail = |position, message: String| {
        Errors::from(Error { place: Place::File { file: Arc::clone(file), position, key: String::new() }, message })
    };
    if bytes.len() > DOCUMENT_MAX_BYTES {
        // No number: who reads the file stops there.
        return Err(fail(None, format!("the file has more than {DOCUMENT_MAX_BYTES} bytes, which are the most that is read")));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count().saturating_add(1);
        fail(Some(Position { line, column: 1 }), "the file is not UTF-8".into())
    })?;
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DOCUMENT_MAX_DEPTH,
        block_nesting_limit: DOCUMENT_MAX_DEPTH,
    };
    let mut builder = Builder::new(Arc::clone(file));
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let mark = error.marker();
                let position = Position { line: mark.line().max(1), column: mark.col().saturating_add(1) };
                return Err(fail(Some(position), format!("not YAML: {}", Escaped(&error.kind().to_string()))));
            }
        };
        builder.event(event, Position::of(&span)).map_err(Errors::from)?;
    }
    builder.duplicates.into_result()?;
    Ok(builder.root.unwrap_or(Node { position: Position { line: 1, column: 1 }, value: Value::Map(Vec::new()) }))
}

/// What a list or map is while its end is not yet there.
struct Frame {
    position: Position,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashMap<String, Position>, merges: Vec<Node>, key: Option<Key> },
}

struct Key {
    written: String,
    position: Position,
    is_merge: bool,
}

/// A node that aliases may ask for, with what each of them will cost.
struct Anchor {
    node: Node,
    cost: Cost,
}

/// What a tree costs.
#[derive(Clone, Copy)]
struct Cost {
    nodes: usize,
    text_bytes: usize,
    height: usize,
}

impl Cost {
    fn of(node: &Node) -> Self {
        let mut cost = Self { nodes: 1, text_bytes: 0, height: 1 };
        let mut add = |inner: Self, key_bytes: usize| {
            cost.nodes = cost.nodes.saturating_add(inner.nodes);
            cost.text_bytes = cost.text_bytes.saturating_add(inner.text_bytes).saturating_add(key_bytes);
            cost.height = cost.height.max(inner.height.saturating_add(1));
        };
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| add(Self::of(item), 0)),
            Value::Map(entries) => entries.iter().for_each(|entry| add(Self::of(&entry.node), entry.key.len())),
            Value::Null => {}
            Value::Text(text) => cost.text_bytes = text.len(),
        }
        cost
    }
}

struct Builder {
    file: Arc<str>,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Anchor>,
    duplicates: Findings,
    nodes_left: usize,
    text_bytes_left: usize,
    root: Option<Node>,
}

impl Builder {
    fn new(file: Arc<str>) -> Self {
        Self {
            file,
            frames: Vec::new(),
            anchors: HashMap::new(),
            duplicates: Findings::default(),
            nodes_left: DOCUMENT_MAX_NODES,
            text_bytes_left: DOCUMENT_MAX_TEXT_BYTES,
            root: None,
        }
    }

    fn place(&self, position: Position) -> Place {
        Place::File { file: Arc::clone(&self.file), position: Some(position), key: String::new() }
    }

    fn error(&self, position: Position, message: impl Into<String>) -> Error {
        Error { place: self.place(position), message: message.into() }
    }

    fn event(&mut self, event: Event<'_>, position: Position) -> Result<(), Error> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.spend(Cost { nodes: 1, text_bytes: text.len(), height: 1 }, position)?;
                let is_text = self.check_tag(tag.as_deref(), position)? == Some("str") || style != ScalarStyle::Plain;
                if let Some(Frame { inside: Inside::Map { key: key @ None, .. }, .. }) = self.frames.last_mut() {
                    let is_merge = !is_text && text == "<<";
                    *key = Some(Key { written: text.into_owned(), position, is_merge });
                    return Ok(());
                }
                let is_null = !is_text && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null { Value::Null } else { Value::Text(text.into_owned()) };
                self.attach(Node { position, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), position)?;
                self.open(Frame { position, anchor, inside: Inside::List(Vec::new()) })
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), position)?;
                let inside = Inside::Map { entries: Vec::new(), seen: HashMap::new(), merges: Vec::new(), key: None };
                self.open(Frame { position, anchor, inside })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(position),
            Event::Alias(id) => {
                let Some(Anchor { node, cost }) = self.anchors.get(&id) else {
                    return Err(self.error(position, "an alias of what it stands in"));
                };
                // The position is that of the anchor: there stands what may have to be changed.
                let (node, cost) = (node.clone(), *cost);
                self.spend(cost, position)?;
                if self.is_at_key() {
                    let Value::Text(written) = node.value else { return Err(self.error(position, "a key that is no text")) };
                    self.set_key(Key { written, position, is_merge: false });
                    return Ok(());
                }
                self.attach(node, 0)
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => Ok(()),
            _ => Err(self.error(position, "something that settings have no use for")),
        }
    }

    /// Whether the next node is the key of a map.
    fn is_at_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { inside: Inside::Map { key: None, .. }, .. }))
    }

    fn set_key(&mut self, new: Key) {
        if let Some(Frame { inside: Inside::Map { key, .. }, .. }) = self.frames.last_mut() {
            *key = Some(new);
        }
    }

    /// Tags of YAML's own schema mean nothing here, since text is kept as it is; only `!!str` does, for what would be null.
    fn check_tag<'t>(&self, tag: Option<&'t Tag>, position: Position) -> Result<Option<&'t str>, Error> {
        let Some(tag) = tag else { return Ok(None) };
        if tag.handle().is_empty() && tag.suffix() == "!" {
            return Ok(Some("str"));
        }
        match tag.core_suffix() {
            Some(suffix @ ("bool" | "float" | "int" | "map" | "null" | "seq" | "str")) => Ok(Some(suffix)),
            // It is not shown: with a `!` before it, a key would be one.
            _ => Err(self.error(position, "tags mean nothing here; a text that begins with ! has to be quoted".to_owned())),
        }
    }

    fn spend(&mut self, cost: Cost, position: Position) -> Result<(), Error> {
        let nodes = self.nodes_left.checked_sub(cost.nodes);
        let text_bytes = self.text_bytes_left.checked_sub(cost.text_bytes);
        let (Some(nodes), Some(text_bytes)) = (nodes, text_bytes) else {
            return Err(self.error(position, "too large, with its aliases written out: 100 000 values and 4 MiB of text are the most"));
        };
        (self.nodes_left, self.text_bytes_left) = (nodes, text_bytes);
        if self.frames.len().saturating_add(cost.height) > DOCUMENT_MAX_DEPTH {
            return Err(self.error(position, format!("nested deeper than {DOCUMENT_MAX_DEPTH} levels")));
        }
        Ok(())
    }

    fn open(&mut self, frame: Frame) -> Result<(), Error> {
        if self.is_at_key() {
            return Err(self.error(frame.position, "a key that is no text"));
        }
        self.spend(Cost { nodes: 1, text_bytes: 0, height: 1 }, frame.position)?;
        self.frames.push(frame);
        Ok(())
    }

    fn close(&mut self, position: Position) -> Result<(), Error> {
        let Some(frame) = self.frames.pop() else { return Err(self.error(position, "an end without a beginning")) };
        let value = match frame.inside {
            Inside::List(items) => Value::List(items),
            Inside::Map { mut entries, seen, merges, .. } => {
                self.merge(&mut entries, seen, merges)?;
                Value::Map(entries)
            }
        };
        self.attach(Node { position: frame.position, value }, frame.anchor)
    }

    /// Adds what `<<` names, without what the map says itself; of several the first that has a key gives it.
    fn merge(&self, entries: &mut Vec<Entry>, mut seen: HashMap<String, Position>, merges: Vec<Node>) -> Result<(), Error> {
        let sources = merges.into_iter().flat_map(|node| match node.value {
            Value::List(items) => items,
            value => vec![Node { value, ..node }],
        });
        for source in sources {
            let Value::Map(merged) = source.value else {
                return Err(self.error(source.position, "<< takes a map or a list of maps"));
            };
            for entry in merged {
                if !seen.contains_key(&entry.key) {
                    seen.insert(entry.key.clone(), entry.position);
                    entries.push(entry);
                }
            }
        }
        Ok(())
    }

    /// Puts a whole node where it belongs.
    fn attach(&mut self, node: Node, anchor: usize) -> Result<(), Error> {
        if anchor > 0 {
            let cost = Cost::of(&node);
            self.spend(cost, node.position)?;
            self.anchors.insert(anchor, Anchor { node: node.clone(), cost });
        }
        let position = node.position;
        match self.frames.last_mut().map(|frame| &mut frame.inside) {
            Some(Inside::List(items)) => items.push(node),
            Some(Inside::Map { entries, seen, merges, key }) => {
                let Some(Key { written, position, is_merge }) = key.take() else {
                    return Err(self.error(position, "a value without a key"));
                };
                if is_merge {
                    merges.push(node);
                    return Ok(());
                }
                let key = written.to_ascii_lowercase();
                if let Some(first) = seen.get(&key).copied() {
                    let message =
                        format!("the key {} is already in line {} (upper and lower case do not count)", Shown(&written), first.line);
                    self.duplicates.error(self.place(position), message);
                } else {
                    seen.insert(key.clone(), position);
                    entries.push(Entry { key, written, position, node });
                }
            }
            None if self.root.is_none() => self.root = Some(node),
            // Whoever begins and ends a file with `---` has written an empty second document.
            None if node.value == Value::Null => {}
            None => return Err(self.error(position, "a second document; there can be only one in a file")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn parse(text: &str) -> Result<Node, Errors> {
        super::parse(&"config.yaml".into(), text.as_bytes())
    }

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    /// Each scalar with its place, one a line.
    fn outline(node: &Node) -> String {
        fn write(out: &mut String, path: &str, node: &Node) {
            let Position { line, column } = node.position;
            match &node.value {
                Value::List(items) => items.iter().enumerate().for_each(|(index, item)| write(out, &format!("{path}[{index}]"), item)),
                Value::Map(entries) => entries.iter().for_each(|entry| {
                    let Position { line, column } = entry.position;
                    write(out, &format!("{path}.{}@{line}:{column}", entry.key), &entry.node);
                }),
                Value::Null => writeln!(out, "{path} null {line}:{column}").unwrap(),
                Value::Text(text) => writeln!(out, "{path} {text:?} {line}:{column}").unwrap(),
            }
        }
        let mut out = String::new();
        write(&mut out, "", node);
        out
    }

    #[test]
    fn knows_where_everything_stands_and_keeps_text_as_it_is() {
        let tree = parse("clusterID: 012345678901\nServer:\n  port: \"1\"\n  list: [~, null, 'null', 0x1f, yes]\n  none:\n").unwrap();
        insta::assert_snapshot!(outline(&tree), @r#"
        .clusterid@1:1 "012345678901" 1:12
        .server@2:1.port@3:3 "1" 3:9
        .server@2:1.list@4:3[0] null 4:10
        .server@2:1.list@4:3[1] null 4:13
        .server@2:1.list@4:3[2] "null" 4:19
        .server@2:1.list@4:3[3] "0x1f" 4:27
        .server@2:1.list@4:3[4] "yes" 4:33
        .server@2:1.none@5:3 null 5:7
        "#);
    }

    #[test]
    fn reads_json_with_tabs_and_escapes() {
        let json = "{\n\t\"clusterID\": \"caf\\u00e9 \\/\",\n\t\"server\": {\"port\": 1, \"mapRoles\": []}\n}\n";
        insta::assert_snapshot!(outline(&parse(json).unwrap()), @r#"
        .clusterid@2:2 "café /" 2:15
        .server@3:2.port@3:13 "1" 3:21
        "#);
    }

    #[test]
    fn reads_json_on_one_long_line() {
        let roles = vec![r#"{"rolearn":"arn:aws:iam::123456789012:role/Admin","groups":["a","b"]}"#; 100].join(",");
        assert!(parse(&format!(r#"{{"server":{{"mapRoles":[{roles}]}}}}"#)).is_ok());
    }

    #[test]
    fn an_empty_file_is_an_empty_map() {
        for text in ["", "\n", "# nothing\n", "\u{feff}", "{}"] {
            let tree = parse(text).unwrap();
            assert_eq!(outline(&tree), "", "{text:?}");
        }
        assert!(parse("---\nclusterID: a\n---\n").is_ok());
    }

    #[test]
    fn keys_that_become_equal_are_all_told_with_both_lines() {
        insta::assert_snapshot!(error("clusterID: a\nrole: b\nclusterid: c\nRole: d\n"), @r#"
        config.yaml:3: the key "clusterid" is already in line 1 (upper and lower case do not count)
        config.yaml:4: the key "Role" is already in line 2 (upper and lower case do not count)
        "#);
    }

    #[test]
    fn says_where_the_syntax_is_wrong() {
        insta::assert_snapshot!(error("server:\n  mapRoles: [\n"), @"config.yaml:2: not YAML: unclosed bracket '['");
        insta::assert_snapshot!(error("a: b: c\n"), @"config.yaml:1: not YAML: mapping values are not allowed in this context");
        insta::assert_snapshot!(error("a: *nothing\n"), @"config.yaml:1: not YAML: while parsing node, found unknown anchor");
        insta::assert_snapshot!(error("a: !!binary aGk=\n"), @"config.yaml:1: tags mean nothing here; a text that begins with ! has to be quoted");
        insta::assert_snapshot!(error("? [a]\n: b\n"), @"config.yaml:1: a key that is no text");
        insta::assert_snapshot!(error("a: 1\n---\nb: 2\n"), @"config.yaml:3: a second document; there can be only one in a file");
        insta::assert_snapshot!(super::parse(&"config.yaml".into(), b"a: 1\nb: \xff\n").unwrap_err(), @"config.yaml:2: the file is not UTF-8");
    }

    #[test]
    fn writes_aliases_and_merges_out() {
        let tree = parse("base: &b {groups: &g [x], username: u}\nother: {<<: *b, username: v}\nmore: *g\n").unwrap();
        insta::assert_snapshot!(outline(&tree), @r#"
        .base@1:1.groups@1:11[0] "x" 1:23
        .base@1:1.username@1:27 "u" 1:37
        .other@2:1.username@2:17 "v" 2:27
        .other@2:1.groups@1:11[0] "x" 1:23
        .more@3:1[0] "x" 1:23
        "#);
    }

    #[test]
    fn refuses_bombs() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let below = format!("*a{}", level - 1);
            writeln!(laughs, "a{level}: &a{level} [{}]", [below.as_str(); 10].join(", ")).unwrap();
        }
        insta::assert_snapshot!(error(&laughs), @"config.yaml:5: too large, with its aliases written out: 100 000 values and 4 MiB of text are the most");
        let mut quadratic = format!("a: &a \"{}\"\nb: [", "x".repeat(100_000));
        quadratic.push_str(&"*a, ".repeat(1000));
        quadratic.push(']');
        insta::assert_snapshot!(error(&quadratic), @"config.yaml:2: too large, with its aliases written out: 100 000 values and 4 MiB of text are the most");
        let mut deep = String::from("a0: &a0 [x]\n");
        for level in 1..100 {
            writeln!(deep, "a{level}: &a{level} [*a{}]", level - 1).unwrap();
        }
        insta::assert_snapshot!(error(&deep), @"config.yaml:63: nested deeper than 64 levels");
        assert!(error(&"[".repeat(100_000)).starts_with("config.yaml:1: "));
        assert!(error(&"- ".repeat(100_000)).starts_with("config.yaml:1: "));
        insta::assert_snapshot!(error(&"x".repeat(DOCUMENT_MAX_BYTES + 1)), @"config.yaml: the file has more than 1048576 bytes, which are the most that is read");
        insta::assert_snapshot!(error("a: &a [*a]\n"), @"config.yaml:1: an alias of what it stands in");
    }

    #[test]
    fn many_keys_take_no_quadratic_time() {
        let text: String = (0..40_000).map(|number| format!("k{number}: v\n")).collect();
        assert!(parse(&text).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = super::parse(&"x".into(), &bytes);
        }

        #[test]
        fn nothing_like_yaml_makes_it_panic(text in "([-?:,\\[\\]{}#&*!|>'\"%@` \t\n<~a0]|&a |\\*a|<<: |---\n|\\.\\.\\.\n|!!str |\u{feff}|\u{85}){0,60}") {
            let _ = parse(&text);
        }
    }
}
