//! The few names that we read in STS' answers, out of JSON or XML.
//!
//! Whatever else is there is stepped over and not stored, so that an answer takes no more memory than its own bytes. A name that is there
//! twice is remembered: two readers could choose differently.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The names.
const NAMES: [&str; 7] = ["Account", "Arn", "Code", "Error", "GetCallerIdentityResponse", "GetCallerIdentityResult", "UserId"];

/// A JSON value, as far as it interests us.
pub(super) enum Node {
    Object(Object),
    Text(Box<str>),
    Other,
}

/// A JSON object: its members that have one of the [`NAMES`].
#[derive(Default)]
pub(super) struct Object {
    members: Vec<(&'static str, Node)>,
    repeated: Option<&'static str>,
}

impl Object {
    /// The member of that name.
    pub(super) fn find(&self, name: &str) -> Option<&Node> {
        self.members.iter().find(|(found, _)| *found == name).map(|(_, node)| node)
    }

    /// A name that is there twice.
    pub(super) const fn repeated(&self) -> Option<&'static str> {
        self.repeated
    }
}

impl Node {
    /// Reads JSON (RFC 8259), all of `body`.
    pub(super) fn from_json(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    pub(super) const fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            Self::Text(_) | Self::Other => None,
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Object(_) | Self::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut object = Object::default();
        while let Some(Name(name)) = entries.next_key()? {
            match name {
                Some(name) if object.find(name).is_none() => object.members.push((name, entries.next_value()?)),
                _ => {
                    entries.next_value::<IgnoredAny>()?;
                    object.repeated = object.repeated.or(name);
                }
            }
        }
        Ok(Node::Object(object))
    }
}

/// A key, if it is one of the [`NAMES`], compared after its escapes are read.
struct Name(Option<&'static str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, text: &str) -> Result<Name, E> {
                Ok(Name(NAMES.into_iter().find(|name| *name == text)))
            }
        }

        deserializer.deserialize_str(NameVisitor)
    }
}

/// The code in an error document of AWS.
///
/// # Syntax
///
/// ```text
/// JSON: {"Error": {"Code": code, ...}, ...}
/// XML:  <ErrorResponse ...><Error> ... <Code>code</Code> ... </Error> ... </ErrorResponse>
/// ```
///
/// This is what the query protocol, which STS speaks, sends in both forms (upstream: the comment in `Verify`, pkg/token/token.go; AWS:
/// <https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>). `__type` and `code` at the top belong to other protocols.
/// Error and Code must be there once: anything else is not AWS' own.
pub(super) fn error_code(body: &[u8]) -> Option<Box<str>> {
    if let Some(json) = Node::from_json(body) {
        let document = json.as_object().filter(|document| document.repeated().is_none())?;
        let error = document.find("Error")?.as_object().filter(|error| error.repeated().is_none())?;
        return Some(error.find("Code")?.as_text()?.into());
    }
    xml_error_code(std::str::from_utf8(body).ok()?).map(Into::into)
}

/// Deepest nesting of elements that is followed; AWS' own is 3.
const XML_MAX_DEPTH: usize = 16;

/// Reads the subset of XML that AWS sends: a declaration, elements with attributes, text. A comment, a CDATA section or a document type is
/// not among it, and makes the answer somebody else's.
fn xml_error_code(text: &str) -> Option<&str> {
    let mut rest = text.trim_ascii_start();
    if let Some(declaration) = rest.strip_prefix("<?xml ") {
        rest = declaration.split_once("?>")?.1.trim_ascii_start();
    }
    let mut path: Vec<&str> = Vec::with_capacity(XML_MAX_DEPTH);
    let (mut errors, mut code) = (0, None);
    loop {
        let (content, tag) = rest.split_once('<')?;
        let in_code = path == ["ErrorResponse", "Error", "Code"];
        let is_text_outside = path.is_empty() && !content.is_empty();
        let is_second_code = in_code && tag.starts_with('/') && code.replace(content).is_some();
        if is_text_outside || is_second_code {
            return None;
        }
        if let Some(closing) = tag.strip_prefix('/') {
            let (name, behind) = closing.split_once('>')?;
            if path.pop()? != name.trim_ascii_end() {
                return None;
            }
            rest = behind;
            if path.is_empty() {
                return code.filter(|_| errors == 1 && rest.trim_ascii().is_empty());
            }
            continue;
        }
        let (name, empty, behind) = opening_tag(tag)?;
        let is_root = path.is_empty();
        if is_root && name != "ErrorResponse" || in_code || path.len() == XML_MAX_DEPTH {
            return None;
        }
        if path == ["ErrorResponse"] && name == "Error" {
            errors += 1;
        }
        if !empty {
            path.push(name);
        } else if is_root {
            return None;
        }
        rest = behind;
    }
}

/// Splits `name attributes>` or `name attributes/>` into the name, whether the element is empty, and what is behind it.
fn opening_tag(tag: &str) -> Option<(&str, bool, &str)> {
    let name_end = tag.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')))?;
    let (name, mut rest) = tag.split_at_checked(name_end)?;
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    loop {
        let trimmed = rest.trim_ascii_start();
        if let Some(behind) = trimmed.strip_prefix('>') {
            return Some((name, false, behind));
        }
        if let Some(behind) = trimmed.strip_prefix("/>") {
            return Some((name, true, behind));
        }
        if trimmed.len() == rest.len() {
            return None;
        }
        let (attribute, value) = trimmed.split_once('=')?;
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, behind) = value.get(1..)?.split_once(quote)?;
        if attribute.contains(['<', '>', '"', '\'', '/']) || value.contains('<') {
            return None;
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_code_of_both_forms() {
        for body in [
            r#"{"Error":{"Code":"SignatureDoesNotMatch","Message":"x","Type":"Sender"},"RequestId":"y"}"#,
            r#"{"RequestId":"y","Error":{"Code":"SignatureDoesNotMatch","More":[1,{"Code":"Other"},null,true,1.5,-1]}}"#,
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    \
             <Code>SignatureDoesNotMatch</Code>\n    <Message>a &amp; 'b' > c</Message>\n  </Error>\n  <RequestId>y</RequestId>\n</ErrorResponse>\n",
            "<?xml version=\"1.0\"?>\n<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Detail/></Error><RequestId a='1'  b=\"2\" /></ErrorResponse>",
        ] {
            assert_eq!(error_code(body.as_bytes()).as_deref(), Some("SignatureDoesNotMatch"), "{body}");
        }
    }

    #[test]
    fn finds_no_code_in_what_is_not_an_error_of_aws() {
        for body in [
            "",
            " ",
            "{}",
            "[]",
            "null",
            "\"Error\"",
            r#"{"Error":"Throttling"}"#,
            r#"{"Error":{}}"#,
            r#"{"Error":{"Code":1}}"#,
            r#"{"Error":[{"Code":"Throttling"}]}"#,
            r#"{"error":{"code":"Throttling"}}"#,
            r#"{"__type":"ThrottlingException"}"#,
            r#"{"code":"Throttling"}"#,
            r#"{"Code":"Throttling"}"#,
            r#"{"Error":{"Code":"A","Code":"Throttling"}}"#,
            r#"{"Error":{"Code":"A"},"Error":{"Code":"Throttling"}}"#,
            r#"{"Error":{"Code":"Throttling"}} x"#,
            r#"{"Error":{"Code":"Throttling"}"#,
            "<html><body>403 Forbidden: <Error><Code>Throttling</Code></Error></body></html>",
            "<Error><Code>Throttling</Code></Error>",
            "<ErrorResponse>",
            "<ErrorResponse/>",
            "<ErrorResponse></ErrorResponse>",
            "<ErrorResponse><Code>Throttling</Code></ErrorResponse>",
            "<ErrorResponse><Error><A><Code>Throttling</Code></A></Error></ErrorResponse>",
            "<ErrorResponse><Error><Code>A</Code><Code>Throttling</Code></Error></ErrorResponse>",
            "<ErrorResponse><Error><Code>A</Code></Error><Error></Error></ErrorResponse>",
            "<ErrorResponse><Error><Code>A<b/>B</Code></Error></ErrorResponse>",
            "<ErrorResponse><Error><Code/></Error></ErrorResponse>",
            "<ErrorResponse><Error><Code>A</Code></ErrorResponse></Error>",
            "<ErrorResponse><Error><Code>A</Code></Error></ErrorResponse>x",
            "x<ErrorResponse><Error><Code>A</Code></Error></ErrorResponse>",
            "<ErrorResponse><!-- <Error><Code>A</Code></Error> --></ErrorResponse>",
            "<!DOCTYPE x><ErrorResponse><Error><Code>A</Code></Error></ErrorResponse>",
            "<ErrorResponse><Error><Message><![CDATA[x]]></Message><Code>A</Code></Error></ErrorResponse>",
            "<ErrorResponse a=b><Error><Code>A</Code></Error></ErrorResponse>",
            "<ErrorResponse a=\"b\"c=\"d\"><Error><Code>A</Code></Error></ErrorResponse>",
        ] {
            assert_eq!(error_code(body.as_bytes()), None, "{body}");
        }
        let deep = format!("<ErrorResponse>{}", "<a>".repeat(1000));
        assert_eq!(error_code(deep.as_bytes()), None);
    }

    #[test]
    fn what_nests_deeply_is_stepped_over_or_refused() {
        let deep = 30_000;
        let error = format!(r#"{{"More":{}{},"Error":{{"Code":"A"}}}}"#, "[".repeat(deep), "]".repeat(deep));
        assert_eq!(error_code(error.as_bytes()).as_deref(), Some("A"));
        for body in [r#"{"Error":"#.repeat(deep), "[".repeat(deep), "<ErrorResponse>".repeat(deep)] {
            assert_eq!(error_code(body.as_bytes()), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = error_code(&bytes);
        }

        #[test]
        fn no_tags_make_it_panic(text in r#"(<|>|/|\?xml |\?>|=|"|'| |ErrorResponse|Error|Code|x|é|\{|\}|:|\[){0,40}"#) {
            let _ = error_code(text.as_bytes());
        }
    }
}
