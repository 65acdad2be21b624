//! Log lines in the form of logrus, which the reference writes and audit pipelines read.
//!
//! [`write_line`] is a pure function from a [`Record`] to text: no clock, no subscriber, no stream. Text is what logrus' `TextFormatter` writes when
//! it does not write to a terminal (no colours, whoever reads); JSON is its `JSONFormatter`. Both were compared with logrus 1.9.4 itself:
//! `testdata/logrus.go` is the program, `testdata/logrus-1.9.4.txt` what it printed. Two things differ, on purpose: what must not reach a
//! terminal is written as `\u{…}` by the one [escaper](super::escape) (logrus: `\x1b`, `\u202e` in text, raw in JSON) and long values end
//! with `…`; and time is UTC, always `Z`, where logrus takes the local zone (in a container: UTC).
//!
//! upstream: `getLogFormatter` in cmd/aws-iam-authenticator/root.go.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use arngate_core::UnixSeconds;
use arngate_core::limits::ARN_MAX_BYTES;
use arngate_core::time::AmzDate;

use super::escape::{self, OUTSIDE_MAX_BYTES, Piece};

/// Longest message or error text, in bytes of output: our own sentence with a few names in it, each bounded by itself.
pub const MESSAGE_MAX_BYTES: usize = 2048;

/// How grave a line is; and, as a threshold, how much is wanted. The variants go from few lines to many.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Accepted as a threshold; we write no such line.
    Panic,
    /// The process ends because of it.
    Fatal,
    /// Somebody must look.
    Error,
    /// Somebody may want to look; also a denied request.
    Warning,
    /// What an audit needs.
    #[default]
    Info,
    /// For whoever hunts a fault.
    Debug,
    /// All there is.
    Trace,
}

impl Level {
    /// All levels, from few lines to many.
    pub const ALL: [Self; 7] = [Self::Panic, Self::Fatal, Self::Error, Self::Warning, Self::Info, Self::Debug, Self::Trace];

    /// The name in a line and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Fatal => "fatal",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The level of that name, whatever its case; `warn` is `warning`, as logrus has it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case("warn") { "warning" } else { name };
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// `time="…" level=info msg="…" key=value`
    #[default]
    Text,
    /// One flat object.
    Json,
}

impl Format {
    /// The format of that name, `text` or `json`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The value of a field.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A flag.
    Bool(bool),
    /// Several names, `[a b]` in text: groups.
    List(&'a [String]),
    /// A sentence of ours, such as an error: [`MESSAGE_MAX_BYTES`] at most.
    Message(&'a dyn fmt::Display),
    /// Text from a prover or the operator, ARNs and what is made of them: as long as an ARN may be, for two identities must not look alike in an audit
    /// because their lines were cut.
    Name(&'a str),
    /// Any other outside text: [`OUTSIDE_MAX_BYTES`] at most.
    Outside(&'a str),
    /// A number.
    Signed(i64),
    /// A number.
    Unsigned(u64),
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write_text_value(&mut text, self);
        f.write_str(&text)
    }
}

/// One line, before it is written.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// How grave it is.
    pub level: Level,
    /// What happened; fixed text as a rule, so that it can be searched for.
    pub message: &'a str,
    /// What it happened to, in any order: a line has them sorted by key. Keys are ours, not outside text.
    pub fields: &'a [(&'a str, Value<'a>)],
}

/// Appends `record` to `out` as one line, line end included.
pub fn write_line(format: Format, at: UnixSeconds, record: &Record<'_>, out: &mut String) {
    match format {
        Format::Text => write_text(at, record, out),
        Format::Json => write_json(at, record, out),
    }
}

fn write_text(at: UnixSeconds, record: &Record<'_>, out: &mut String) {
    out.push_str("time=\"");
    push_time(out, at);
    out.push_str("\" level=");
    out.push_str(record.level.name());
    if !record.message.is_empty() {
        out.push_str(" msg=");
        write_text_scalar(out, record.message, MESSAGE_MAX_BYTES);
    }
    let mut fields: Vec<_> = record.fields.iter().map(|(key, value)| (unclashed(key), value)).collect();
    fields.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (key, value) in fields {
        out.push(' ');
        out.push_str(&key);
        out.push('=');
        write_text_value(out, value);
    }
    out.push('\n');
}

fn write_json(at: UnixSeconds, record: &Record<'_>, out: &mut String) {
    let mut time = String::new();
    push_time(&mut time, at);
    let own = [("level", Value::Outside(record.level.name())), ("msg", Value::Message(&record.message)), ("time", Value::Outside(&time))];
    let mut fields: Vec<_> = own.iter().map(|(key, value)| (Cow::Borrowed(*key), value)).collect();
    fields.extend(record.fields.iter().map(|(key, value)| (unclashed(key), value)));
    fields.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (index, (key, value)) in fields.into_iter().enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        write_json_text(out, &key, OUTSIDE_MAX_BYTES);
        out.push(':');
        write_json_value(out, value);
    }
    out.push_str("}\n");
}

/// A field must not take the place of the line's own keys.
///
/// upstream: `prefixFieldClashes` in logrus' formatter.go.
fn unclashed(key: &str) -> Cow<'_, str> {
    match key {
        "time" | "level" | "msg" | "logrus_error" => Cow::Owned(format!("fields.{key}")),
        _ => Cow::Borrowed(key),
    }
}

/// RFC 3339 in whole seconds, as logrus' default; bare seconds for a year that it cannot tell.
fn push_time(out: &mut String, at: UnixSeconds) {
    let date = AmzDate::from_unix(at);
    match date.as_ref().and_then(|date| date.as_str().split_at_checked(8).zip(date.as_str().get(9..15))) {
        Some(((day, _), time)) => {
            for (index, c) in day.chars().chain(time.chars()).enumerate() {
                match index {
                    4 | 6 => out.push('-'),
                    8 => out.push('T'),
                    10 | 12 => out.push(':'),
                    _ => {}
                }
                out.push(c);
            }
            out.push('Z');
        }
        None => push_display(out, at.as_i64()),
    }
}

fn write_text_value(out: &mut String, value: &Value<'_>) {
    match value {
        Value::Bool(value) => push_display(out, value),
        Value::List(names) => {
            // Brackets alone make logrus quote it.
            out.push_str("\"[");
            for (index, name) in names.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                push_go_quoted(out, name, ARN_MAX_BYTES);
            }
            out.push_str("]\"");
        }
        Value::Message(text) => write_text_scalar(out, &text.to_string(), MESSAGE_MAX_BYTES),
        Value::Name(text) => write_text_scalar(out, text, ARN_MAX_BYTES),
        Value::Outside(text) => write_text_scalar(out, text, OUTSIDE_MAX_BYTES),
        Value::Signed(number) => push_display(out, number),
        Value::Unsigned(number) => push_display(out, number),
    }
}

/// upstream: `appendValue` and `needsQuoting` in logrus' text_formatter.go; an empty value stays bare.
fn write_text_scalar(out: &mut String, text: &str, max_bytes: usize) {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/@^+".contains(&byte);
    if text.len() <= max_bytes && text.bytes().all(bare) {
        out.push_str(text);
    } else {
        out.push('"');
        push_go_quoted(out, text, max_bytes);
        out.push('"');
    }
}

/// The inside of Go's `%q`, with our escapes in place of Go's.
fn push_go_quoted(out: &mut String, text: &str, max_bytes: usize) {
    push_quoted(out, text, max_bytes, Format::Text);
}

fn write_json_value(out: &mut String, value: &Value<'_>) {
    match value {
        Value::Bool(value) => push_display(out, value),
        Value::List(names) => {
            out.push('[');
            for (index, name) in names.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json_text(out, name, ARN_MAX_BYTES);
            }
            out.push(']');
        }
        Value::Message(text) => write_json_text(out, &text.to_string(), MESSAGE_MAX_BYTES),
        Value::Name(text) => write_json_text(out, text, ARN_MAX_BYTES),
        Value::Outside(text) => write_json_text(out, text, OUTSIDE_MAX_BYTES),
        Value::Signed(number) => push_display(out, number),
        Value::Unsigned(number) => push_display(out, number),
    }
}

/// A JSON string as Go's encoder writes it, HTML escapes included.
fn write_json_text(out: &mut String, text: &str, max_bytes: usize) {
    out.push('"');
    push_quoted(out, text, max_bytes, Format::Json);
    out.push('"');
}

/// The escaper's output, its plain pieces quoted as `format` has it, its notations with one more backslash in JSON, whose grammar does not know `\u{…}`;
/// in text they cannot be mistaken, for a real backslash is doubled.
fn push_quoted(out: &mut String, text: &str, max_bytes: usize, format: Format) {
    let Ok(()) = escape::pieces::<std::convert::Infallible>(text.as_bytes(), max_bytes, |piece| {
        match piece {
            Piece::Plain(plain) => {
                let mut rest = plain;
                while let Some((at, quoted)) = rest.bytes().enumerate().find_map(|(at, byte)| Some((at, quote(format, byte)?))) {
                    out.push_str(rest.get(..at).unwrap_or_default());
                    out.push_str(quoted);
                    rest = rest.get(at + 1..).unwrap_or_default();
                }
                out.push_str(rest);
            }
            Piece::Hidden(escape::Hidden::More) => out.push('…'),
            Piece::Hidden(hidden) => {
                if format == Format::Json {
                    out.push('\\');
                }
                push_display(out, hidden);
            }
        }
        Ok(())
    });
}

/// What stands for an ASCII character that cannot stand for itself between quotes; in JSON, Go's encoder counts HTML's among them.
const fn quote(format: Format, byte: u8) -> Option<&'static str> {
    match (format, byte) {
        (_, b'"') => Some("\\\""),
        (_, b'\\') => Some("\\\\"),
        (Format::Json, b'&') => Some("\\u0026"),
        (Format::Json, b'<') => Some("\\u003c"),
        (Format::Json, b'>') => Some("\\u003e"),
        _ => None,
    }
}

fn push_display(out: &mut String, value: impl fmt::Display) {
    write!(out, "{value}").unwrap_or_else(|fmt::Error| ());
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: UnixSeconds = UnixSeconds::new(1_795_521_600);

    fn line(format: Format, level: Level, message: &str, fields: &[(&str, Value<'_>)]) -> String {
        let mut out = String::new();
        write_line(format, NOON, &Record { level, message, fields }, &mut out);
        out
    }

    #[test]
    fn writes_what_logrus_writes_in_text_and_in_json() {
        let printed = include_str!("testdata/logrus-1.9.4.txt");
        let (text, json) = printed.trim_end().split_once("\n\n").unwrap();
        for (format, expected) in [(Format::Text, text), (Format::Json, json)] {
            let mut ours = String::new();
            for record in crate::telemetry::audit::tests::as_the_reference(format) {
                ours.push_str(&record);
            }
            for value in [
                "",
                "plain",
                "two words",
                r#"say "hi""#,
                r"back\slash",
                "a=b",
                "alice@example.com",
                "a+b^c_d-e.f/g",
                "[a b]",
                "naïve",
                "日本語",
                "emoji 🦀",
                "tilde~",
                "a,b",
                "a:b",
                "{{x}}",
                "<b>&amp;",
                "'q'",
                "`t`",
                "%s",
                "e\u{301}",
                "\u{301}x",
            ] {
                ours.push_str(&line(format, Level::Debug, "m", &[("v", Value::Outside(value))]));
            }
            let clash = [
                ("msg", Value::Outside("f m")),
                ("time", Value::Outside("f-t")),
                ("level", Value::Signed(7)),
                ("logrus_error", Value::Outside("le")),
                ("B", Value::Bool(true)),
                ("a", Value::Signed(-1)),
                ("n", Value::Unsigned(u64::MAX)),
            ];
            ours.push_str(&line(format, Level::Error, "clash", &clash));
            ours.push_str(&line(format, Level::Trace, "", &[("x", Value::Outside("y"))]));
            ours.push_str(&line(format, Level::Info, "listening on 127.0.0.1:21362", &[]));
            for (ours, logrus) in ours.lines().zip(expected.lines()) {
                assert_eq!(ours, logrus);
            }
            assert_eq!(ours.lines().count(), expected.lines().count());
        }
    }

    #[test]
    fn escapes_where_logrus_would_do_so_otherwise_or_not_at_all() {
        let fields = [("session", Value::Outside("a\x1b[2J\nb\u{202e}c\\u{1b}"))];
        assert_eq!(
            line(Format::Text, Level::Info, "m\u{7}", &fields),
            "time=\"2026-11-24T12:00:00Z\" level=info msg=\"m\\u{7}\" session=\"a\\u{1b}[2J\\u{a}b\\u{202e}c\\\\u{1b}\"\n"
        );
        let json = line(Format::Json, Level::Info, "m\u{7}", &fields);
        assert_eq!(
            json,
            "{\"level\":\"info\",\"msg\":\"m\\\\u{7}\",\"session\":\"a\\\\u{1b}[2J\\\\u{a}b\\\\u{202e}c\\\\u{1b}\",\"time\":\"2026-11-24T12:00:00Z\"}\n"
        );
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["session"], r"a\u{1b}[2J\u{a}b\u{202e}c\u{1b}");
    }

    #[test]
    fn cuts_outside_text_sooner_than_names_and_messages() {
        let long = "a".repeat(3000);
        for (value, kept) in [(Value::Outside(&long), 256), (Value::Name(&long), 2048), (Value::Message(&long), 2048)] {
            let text = line(Format::Text, Level::Info, "m", &[("v", value)]);
            assert_eq!(text.matches('a').count(), kept);
            assert!(text.ends_with("…\"\n"), "what was cut is quoted, for `…` is not a bare character");
        }
    }

    #[test]
    fn a_list_keeps_every_name_apart_in_json() {
        let groups = ["system:masters".to_owned(), "a\nb \"c\"".to_owned()];
        let fields = [("groups", Value::List(&groups))];
        assert!(line(Format::Text, Level::Info, "m", &fields).ends_with(" groups=\"[system:masters a\\u{a}b \\\"c\\\"]\"\n"));
        assert!(line(Format::Json, Level::Info, "m", &fields).contains(r#""groups":["system:masters","a\\u{a}b \"c\""]"#));
    }

    #[test]
    fn writes_bare_seconds_beyond_the_year_9999() {
        let mut out = String::new();
        write_line(Format::Text, UnixSeconds::new(i64::MAX), &Record { level: Level::Info, message: "m", fields: &[] }, &mut out);
        assert_eq!(out, "time=\"9223372036854775807\" level=info msg=m\n");
    }

    #[test]
    fn knows_levels_and_formats_by_name() {
        for level in Level::ALL {
            assert_eq!(Level::from_name(level.name()), Some(level));
        }
        assert_eq!(Level::from_name("WARN"), Some(Level::Warning));
        assert_eq!(Level::from_name("loud"), None);
        assert_eq!(Format::from_name("json"), Some(Format::Json));
        assert_eq!(Format::from_name("text"), Some(Format::Text));
        assert_eq!(Format::from_name("xml"), None);
    }

    proptest::proptest! {
        #[test]
        fn every_line_is_one_line_and_every_object_is_json(message: String, text: String, list: Vec<String>) {
            let fields = [("a", Value::Outside(&text)), ("b", Value::Name(&text)), ("c", Value::List(&list)), ("d", Value::Message(&text))];
            let plain = line(Format::Text, Level::Info, &message, &fields);
            proptest::prop_assert_eq!(plain.lines().count(), 1);
            let json = line(Format::Json, Level::Info, &message, &fields);
            proptest::prop_assert_eq!(json.lines().count(), 1);
            proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        }
    }
}
