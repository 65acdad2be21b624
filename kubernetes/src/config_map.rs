//! aws-auth as a whole, for whoever changes it: read, written against conflicts, shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arngate_server::telemetry::escape::Escaped;
use http::Method;
use serde_json::{Value, json};

use crate::aws_auth::{ConfigMap, NAME, NAMESPACE};
use crate::connection::Connection;
use crate::request::Content;
use crate::trouble::Trouble;

/// Where ConfigMaps are made.
const PATH: &str = "/api/v1/namespaces/kube-system/configmaps";

/// Longest line that is shown, in bytes: one line of JSON may be all of a list.
const LINE_MAX_BYTES: usize = 1 << 20;

/// aws-auth as it was read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AwsAuthText {
    /// What it was when we read it; none: it did not exist.
    resource_version: Option<String>,
    data: BTreeMap<String, String>,
}

/// What came of writing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Written {
    /// It is as we wanted it.
    Done(AwsAuthText),
    /// Somebody else has changed it meanwhile, and nothing was written.
    Conflict,
}

impl AwsAuthText {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`Trouble`]; that it does not exist is none.
    pub async fn read(connection: &Connection) -> Result<Self, Trouble> {
        match connection.ask(Method::GET, &format!("{PATH}/{NAME}"), None).await {
            Ok(body) => Self::of(&body),
            Err(trouble) if trouble.is_status(404) => Ok(Self::default()),
            Err(trouble) => Err(trouble),
        }
    }

    fn of(body: &[u8]) -> Result<Self, Trouble> {
        let ConfigMap { metadata, data } = serde_json::from_slice(body).map_err(|_| Trouble::Malformed)?;
        Ok(Self { resource_version: Some(metadata.resource_version), data: data.unwrap_or_default() })
    }

    /// Whether there is one.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.resource_version.is_some()
    }

    /// The text under a key; empty where there is none.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.data.get(key).map_or("", String::as_str)
    }

    /// Puts a text under a key, if nobody else has changed it since it was read; makes aws-auth where there is none.
    ///
    /// Only this key is sent: labels, annotations and other keys are no business of ours.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    pub async fn write(&self, connection: &Connection, key: &str, text: &str) -> Result<Written, Trouble> {
        let answered = if let Some(version) = &self.resource_version {
            let patch = json!({"metadata": {"resourceVersion": version}, "data": {key: text}});
            connection.ask(Method::PATCH, &format!("{PATH}/{NAME}"), Some(Content::merge_patch(&patch)?)).await
        } else {
            let config_map = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": NAME, "namespace": NAMESPACE},
                "data": {key: text},
            });
            connection.ask(Method::POST, PATH, Some(Content::json(&config_map)?)).await
        };
        match answered {
            Ok(body) => Ok(Written::Done(Self::of(&body)?)),
            // Changed, made or deleted meanwhile.
            Err(trouble) if trouble.is_status(409) || (self.exists() && trouble.is_status(404)) => Ok(Written::Conflict),
            Err(trouble) => Err(trouble),
        }
    }

    /// As YAML that a person reads, and that reads back as what it is.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {NAME}\n  namespace: {NAMESPACE}\n");
        if let Some(version) = &self.resource_version {
            let _ = writeln!(out, "  resourceVersion: {}", Value::from(version.as_str()));
        }
        if self.data.is_empty() {
            return out;
        }
        out.push_str("data:\n");
        for (key, text) in &self.data {
            let _ = writeln!(out, "  {}: {}", key_of(key), block_of(text));
        }
        out
    }
}

/// A key, of which Kubernetes allows letters, digits, `-`, `_` and `.`.
fn key_of(key: &str) -> String {
    if key.starts_with(|first: char| first.is_ascii_alphabetic()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        key.to_owned()
    } else {
        Value::from(key).to_string()
    }
}

/// A text in literal style, if that shows it as it is; else in quotes.
fn block_of(text: &str) -> String {
    let is_literal = !text.trim().is_empty()
        && !text.starts_with([' ', '\n', '\t'])
        && text.lines().all(|line| Escaped(line).up_to(LINE_MAX_BYTES).to_string() == line)
        && !text.contains('\r');
    if !is_literal {
        return Value::from(text).to_string();
    }
    let body = text.trim_end_matches('\n');
    let ends = text.len().saturating_sub(body.len());
    let chomping = match ends {
        0 => "-",
        1 => "",
        _ => "+",
    };
    let mut out = format!("|{chomping}");
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.push_str("    ");
            out.push_str(line);
        }
    }
    out.extend(std::iter::repeat_n('\n', ends.saturating_sub(1)));
    out
}

/// What is other between two texts: lines with `+` and `-` before them and some around them, fit for a terminal.
#[must_use]
pub fn difference(before: &str, after: &str) -> String {
    /// Lines around a change.
    const AROUND: usize = 3;
    let lines = compared(&before.lines().collect::<Vec<_>>(), &after.lines().collect::<Vec<_>>());
    let mut out = String::new();
    let mut shown_to = 0_usize;
    for (index, (mark, line)) in lines.iter().enumerate() {
        let around = lines.get(index.saturating_sub(AROUND)..lines.len().min(index.saturating_add(AROUND).saturating_add(1)));
        if around.unwrap_or_default().iter().all(|(mark, _)| *mark == ' ') {
            continue;
        }
        if index > shown_to {
            out.push_str("  …\n");
        }
        shown_to = index.saturating_add(1);
        let _ = writeln!(out, "{mark} {}", Escaped(line).up_to(LINE_MAX_BYTES));
    }
    out
}

/// The lines of both, each with what became of it. Edits put in lines, or take some out; of the rest it is enough to say that one became the other.
fn compared<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<(char, &'a str)> {
    let is_shorter = after.len() < before.len();
    let (shorter, longer, mark) = if is_shorter { (after, before, '-') } else { (before, after, '+') };
    let mut rest = shorter.iter().peekable();
    let subsequence: Vec<_> = longer.iter().map(|line| (if rest.next_if_eq(&line).is_some() { ' ' } else { mark }, *line)).collect();
    if rest.next().is_none() {
        return subsequence;
    }
    let start = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let tails = || before.get(start..).unwrap_or_default().iter().rev().zip(after.get(start..).unwrap_or_default().iter().rev());
    let end = tails().take_while(|(a, b)| a == b).count();
    let part = |lines: &[&'a str], mark: char, from: usize, to: usize| -> Vec<_> {
        lines.get(from..to).unwrap_or_default().iter().map(|line| (mark, *line)).collect()
    };
    let (old_end, new_end) = (before.len().saturating_sub(end), after.len().saturating_sub(end));
    let parts = [
        part(before, ' ', 0, start),
        part(before, '-', start, old_end),
        part(after, '+', start, new_end),
        part(before, ' ', old_end, before.len()),
    ];
    parts.concat()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arngate_server::document::tree;

    use super::*;
    use crate::scripted::api_server;

    fn text(data: &[(&str, &str)]) -> AwsAuthText {
        AwsAuthText { resource_version: Some("7".into()), data: data.iter().map(|(key, text)| ((*key).into(), (*text).into())).collect() }
    }

    #[test]
    fn the_yaml_reads_back_as_what_it_is() {
        for value in
            ["", "a", "a\n", "a\n\n\n", " a\n", "a\n  b\n\nc", "\ta", "a\r\nb\r\n", "- x: \u{202e}y\n", "# c\n- a: 'b'\n", "\n", "``"]
        {
            let yaml = text(&[("mapRoles", value), ("my-key.x", value)]).to_yaml();
            let node = tree::parse(&Arc::from("x"), yaml.as_bytes()).unwrap();
            let tree::Value::Map(entries) = &node.value else { panic!("{yaml}") };
            let data = &entries.iter().find(|entry| entry.key == "data").unwrap().node;
            let tree::Value::Map(entries) = &data.value else { panic!("{yaml}") };
            for entry in entries {
                assert_eq!(entry.node.value, tree::Value::Text(value.to_owned()), "{yaml}");
            }
            assert!(!yaml.contains(['\r', '\u{202e}']) || value.contains('\u{202e}'), "{yaml}");
        }
        insta::assert_snapshot!(text(&[("mapRoles", "- rolearn: a\n  groups:\n  - b\n"), ("mapUsers", "")]).to_yaml(), @r#"
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: aws-auth
          namespace: kube-system
          resourceVersion: "7"
        data:
          mapRoles: |
            - rolearn: a
              groups:
              - b
          mapUsers: ""
        "#);
    }

    #[test]
    fn the_difference_shows_what_changes_and_a_little_around_it() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        insta::assert_snapshot!(difference(before, "1\n2\n3\n4\n5\nnew\n6\n7\n8\n9\n"), @r"
          …
          3
          4
          5
        + new
          6
          7
          8
        ");
        insta::assert_snapshot!(difference(before, "1\n3\n4\n5\n6\n7\n8\n"), @r"
          1
        - 2
          3
          4
          5
          6
          7
          8
        - 9
        ");
        insta::assert_snapshot!(difference("[1]", "[1,\u{1b}2]"), @r"
        - [1]
        + [1,\u{1b}2]
        ");
        assert_eq!(difference(before, before), "");
        assert_eq!(difference("", "a"), "+ a\n");
    }

    #[tokio::test]
    async fn only_the_key_that_was_edited_is_written_and_only_if_nobody_was_faster() {
        let (connection, mut asked) = api_server();
        let writing = tokio::spawn(async move {
            let found = AwsAuthText::read(&connection).await?;
            let first = found.write(&connection, "mapRoles", "new").await?;
            let gone = found.write(&connection, "mapRoles", "new").await?;
            Ok::<_, Trouble>((first, gone, found.write(&connection, "mapRoles", "new").await))
        });
        let stored =
            |version: &str, text: &str| json!({"metadata": {"name": "aws-auth", "resourceVersion": version}, "data": {"mapRoles": text}});
        let question = asked.next().await;
        assert_eq!((question.method.as_str(), question.path.as_str()), ("GET", "/api/v1/namespaces/kube-system/configmaps/aws-auth"));
        question.answer(200, &stored("7", "old")).await;
        let question = asked.next().await;
        assert_eq!(question.method.as_str(), "PATCH");
        assert_eq!(question.body, json!({"metadata": {"resourceVersion": "7"}, "data": {"mapRoles": "new"}}));
        question.answer(409, &json!({"message": "the object has been modified"})).await;
        asked.next().await.answer(404, &json!({"message": "not found"})).await;
        asked.next().await.answer(200, &stored("8", "new")).await;
        let (first, gone, last) = writing.await.unwrap().unwrap();
        assert_eq!((first, gone), (Written::Conflict, Written::Conflict));
        let Ok(Written::Done(written)) = last else { panic!("{last:?}") };
        assert_eq!((written.text("mapRoles"), written.exists()), ("new", true));
    }

    #[tokio::test]
    async fn what_does_not_exist_is_made() {
        let (connection, mut asked) = api_server();
        let writing = tokio::spawn(async move {
            let found = AwsAuthText::read(&connection).await?;
            found.write(&connection, "mapUsers", "new").await
        });
        asked.next().await.answer(404, &json!({"message": "not found"})).await;
        let question = asked.next().await;
        assert_eq!((question.method.as_str(), question.path.as_str()), ("POST", "/api/v1/namespaces/kube-system/configmaps"));
        assert_eq!(question.body["metadata"], json!({"name": "aws-auth", "namespace": "kube-system"}));
        question.answer(409, &json!({"message": "exists"})).await;
        assert_eq!(writing.await.unwrap(), Ok(Written::Conflict));
    }
}
