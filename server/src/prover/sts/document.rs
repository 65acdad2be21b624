//! The few names that we read in STS' answers, out of JSON or XML.
//!
//! Whatever else is there is stepped over and not stored, and what is stored is borrowed from the answer where it has no escapes. A name that is there
//! twice is remembered: two readers could choose differently.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::xml::{Event, Reader};

/// The names.
const NAMES: [&str; 7] = ["Account", "Arn", "Code", "Error", "GetCallerIdentityResponse", "GetCallerIdentityResult", "UserId"];

/// A JSON value, as far as it interests us.
pub(super) enum Node<'b> {
    Object(Object<'b>),
    Text(Cow<'b, str>),
    Other,
}

/// A JSON object: its members that have one of the [`NAMES`].
#[derive(Default)]
pub(super) struct Object<'b> {
    members: Vec<(&'static str, Node<'b>)>,
    repeated: Option<&'static str>,
}

impl<'b> Object<'b> {
    /// The member of that name.
    pub(super) fn find(&self, name: &str) -> Option<&Node<'b>> {
        self.members.iter().find(|(found, _)| *found == name).map(|(_, node)| node)
    }

    /// A name that is there twice.
    pub(super) const fn repeated(&self) -> Option<&'static str> {
        self.repeated
    }
}

impl<'b> Node<'b> {
    /// Reads JSON (RFC 8259), all of `body`.
    pub(super) fn from_json(body: &'b [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    pub(super) const fn as_object(&self) -> Option<&Object<'b>> {
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

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Owned(text.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
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
    xml_error_code(body)
}

fn xml_error_code(body: &[u8]) -> Option<Box<str>> {
    let (mut reader, mut errors, mut codes) = (Reader::default(), 0, Vec::new());
    let mut is_of_aws = true;
    let seen = |path: &str, event: Event<'_>| match (path, event) {
        ("ErrorResponse/Error", Event::Entered) => errors += 1,
        ("ErrorResponse/Error/Code", Event::Left(code)) if codes.len() < 2 => codes.push(code.map(Box::<str>::from)),
        (root, Event::Entered) if !root.contains('/') => is_of_aws = root == "ErrorResponse",
        _ => {}
    };
    reader.push(body, seen).and_then(|()| reader.finish()).ok()?;
    match (codes.pop(), codes.is_empty()) {
        (Some(code), true) if is_of_aws && errors == 1 => code.filter(|code| !code.is_empty()),
        _ => None,
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
