//! The tree to typed values. Nothing here stops at the first error: a wrong value is noted and counts as absent, and reading goes on.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::finding::{Findings, Place, Shown};
use super::tree::{Entry, Node, Position, Value};

/// A map whose keys are taken one by one; those that nobody took are unknown.
#[derive(Debug)]
pub struct Section<'a> {
    entries: &'a [Entry],
    taken: Vec<bool>,
    known: Vec<&'static str>,
    origin: Origin<'a>,
}

/// What a section or field is called, and where what is wrong with it goes.
#[derive(Clone, Debug)]
struct Origin<'a> {
    file: &'a Arc<str>,
    path: String,
    findings: &'a Findings,
}

impl<'a> Origin<'a> {
    fn below(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { path, ..*self }
    }

    fn place(&self, node: &Node) -> Place {
        Place::File { file: Arc::clone(self.file), position: Some(node.position), key: self.path.clone() }
    }
}

impl<'a> Section<'a> {
    /// The outermost map of a document.
    #[must_use]
    pub fn root(file: &'a Arc<str>, node: &'a Node, findings: &'a Findings) -> Self {
        Field::root(file, node, findings, "").section()
    }

    /// A document that is not there: each key is absent.
    #[must_use]
    pub const fn absent(file: &'a Arc<str>, findings: &'a Findings) -> Self {
        Self::new(&[], Origin { file, path: String::new(), findings }, Vec::new())
    }

    const fn new(entries: &'a [Entry], origin: Origin<'a>, taken: Vec<bool>) -> Self {
        Self { entries, taken, known: Vec::new(), origin }
    }

    /// Where errors and warnings go.
    #[must_use]
    pub const fn findings(&self) -> &'a Findings {
        self.origin.findings
    }

    /// The value of a key. Nothing, be it written as `key:` or `key: null`, is as good as no key.
    pub fn take(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.known.push(key);
        let entries = self.entries;
        let index = entries.iter().position(|entry| entry.key.eq_ignore_ascii_case(key))?;
        if let Some(taken) = self.taken.get_mut(index) {
            *taken = true;
        }
        let node = &entries.get(index)?.node;
        (node.value != Value::Null).then(|| Field { node, origin: self.origin.below(key) })
    }

    /// The map under a key; an absent one if there is none.
    pub fn section(&mut self, key: &'static str) -> Self {
        match self.take(key) {
            Some(field) => field.section(),
            None => Self::new(&[], self.origin.below(key), Vec::new()),
        }
    }

    /// The text under a key.
    pub fn text(&mut self, key: &'static str) -> Option<Text> {
        self.take(key)?.text()
    }

    /// All keys and values: for maps whose keys are not ours.
    #[must_use]
    pub fn into_fields(self) -> Vec<(&'a str, Field<'a>)> {
        let field = |entry: &'a Entry| (entry.key.as_str(), Field { node: &entry.node, origin: self.origin.below(&entry.written) });
        self.entries.iter().map(field).collect()
    }

    /// Warns of the keys that nobody took.
    pub fn finish(self) {
        for (entry, taken) in self.entries.iter().zip(&self.taken) {
            if *taken {
                continue;
            }
            let near = self.known.iter().map(|known| (distance(&entry.key, &known.to_ascii_lowercase()), known)).min();
            let hint = match near {
                // One slip in four characters: more is another word.
                Some((distance, known)) if distance.saturating_mul(4) <= known.len().max(4) => format!("; did you mean {known}?"),
                _ => String::new(),
            };
            let place = Place::File { file: Arc::clone(self.origin.file), position: Some(entry.position), key: self.origin.path.clone() };
            self.origin.findings.warn(place, format!("unknown key {}{hint}", Shown(&entry.written)));
        }
    }
}

/// A value that is there.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    node: &'a Node,
    origin: Origin<'a>,
}

impl<'a> Field<'a> {
    /// The whole of a document that is called `path` in messages.
    #[must_use]
    pub fn root(file: &'a Arc<str>, node: &'a Node, findings: &'a Findings, path: &str) -> Self {
        Self { node, origin: Origin { file, path: path.to_owned(), findings } }
    }

    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> Place {
        self.origin.place(self.node)
    }

    /// Where it begins.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.node.position
    }

    /// Where errors and warnings go.
    #[must_use]
    pub const fn findings(&self) -> &'a Findings {
        self.origin.findings
    }

    /// The same, with another place for what is wrong with it.
    #[must_use]
    pub fn noting_in<'b>(&self, findings: &'b Findings) -> Field<'b>
    where
        'a: 'b,
    {
        Field { node: self.node, origin: Origin { file: self.origin.file, path: self.origin.path.clone(), findings } }
    }

    /// Notes that it is wrong.
    pub fn error(&self, message: impl Into<String>) {
        self.origin.findings.error(self.place(), message);
    }

    /// Notes that it may not do what it seems to.
    pub fn warn(&self, message: impl Into<String>) {
        self.origin.findings.warn(self.place(), message);
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        self.error(format!("expected {what}, found {}", self.node.value.kind()));
        None
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> Option<Text> {
        match &self.node.value {
            Value::Text(text) => Some(Text { text: text.clone(), place: self.place() }),
            _ => self.expected("text"),
        }
    }

    /// What `parse` makes of its text.
    pub fn read<T, E: fmt::Display>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        self.text()?.read(self.origin.findings, parse)
    }

    /// Whether it is a text without a character, which the reference mostly takes for an absent one.
    #[must_use]
    pub fn is_empty_text(&self) -> bool {
        matches!(&self.node.value, Value::Text(text) if text.is_empty())
    }

    /// Whether it is text.
    #[must_use]
    pub const fn is_text(&self) -> bool {
        matches!(&self.node.value, Value::Text(_))
    }

    /// Whether it is a list.
    #[must_use]
    pub const fn is_list(&self) -> bool {
        matches!(&self.node.value, Value::List(_))
    }

    /// Whether there is nothing in it: no text, or an empty one, an empty list or an empty map.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        match &self.node.value {
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            Value::Null => true,
            Value::Text(text) => text.trim().is_empty(),
        }
    }

    /// A map, where anything else is an error.
    #[must_use]
    pub fn map(&self) -> Option<Section<'a>> {
        let entries: &[Entry] = match &self.node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => return self.expected("a map"),
        };
        Some(Section::new(entries, self.origin.clone(), vec![false; entries.len()]))
    }

    /// A map; what is none is an error, and read as if it were empty.
    #[must_use]
    pub fn section(self) -> Section<'a> {
        self.map().unwrap_or_else(|| Section::new(&[], self.origin, Vec::new()))
    }

    /// The items of a list.
    #[must_use]
    pub fn list(&self) -> Vec<Self> {
        let Value::List(items) = &self.node.value else { return self.expected("a list").unwrap_or_default() };
        let item = |(index, node)| Field { node, origin: Origin { path: format!("{}[{index}]", self.origin.path), ..self.origin } };
        items.iter().enumerate().map(item).collect()
    }

    /// The texts of a list, or of one text that is split.
    #[must_use]
    pub fn texts(&self, split: Split) -> Vec<Text> {
        let Value::Text(text) = &self.node.value else { return self.list().iter().filter_map(Self::text).collect() };
        split.parts(text).map(|part| Text { text: part.to_owned(), place: self.place() }).collect()
    }
}

/// How one text becomes a list where a list is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Split {
    /// At white space and commas. The reference takes white space in the file and commas in the flag.
    BlanksAndCommas,
    /// At commas only, blanks kept, as the reference's reader of the file does.
    Commas,
}

impl Split {
    /// The parts of a text.
    pub fn parts(self, text: &str) -> impl Iterator<Item = &str> {
        text.split(move |character: char| character == ',' || self == Self::BlanksAndCommas && character.is_whitespace())
            .filter(move |part| !part.is_empty() || self == Self::Commas && !text.is_empty())
    }
}

/// A text and where it comes from: a file, a flag or the environment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text {
    /// The text.
    pub text: String,
    /// Where it comes from.
    pub place: Place,
}

impl Text {
    /// What `parse` makes of it; an error of `parse` is noted.
    pub fn read<T, E: fmt::Display>(&self, findings: &Findings, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        parse(&self.text).map_err(|error| findings.error(self.place.clone(), error.to_string())).ok()
    }
}

/// Reads a truth value as Go's `strconv.ParseBool` does.
///
/// # Errors
///
/// A sentence that says what was expected.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("expected true or false, found {}", Shown(text))),
    }
}

/// Reads a whole number within a range.
///
/// # Errors
///
/// A sentence that says what was expected.
pub fn integer<T: TryFrom<u64> + Into<u64> + Copy>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let (least, most) = ((*range.start()).into(), (*range.end()).into());
        let number = digits(text).filter(|number| (least..=most).contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("expected a number from {least} to {most}, found {}", Shown(text)))
    }
}

fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Reads a duration within a range.
///
/// # Syntax
///
/// ```text
/// duration = "0" / 1*( 1*DIGIT unit )      ; Go's, without signs and fractions
/// unit     = "h" / "m" / "s" / "ms"
/// ```
///
/// # Errors
///
/// A sentence that says what was expected.
pub fn duration(range: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let Some(duration) = parse_duration(text) else {
            return Err(format!("expected a duration with its unit, such as 500ms, 5s or 1m30s, found {}", Shown(text)));
        };
        if range.contains(&duration) {
            Ok(duration)
        } else {
            Err(format!("expected a duration from {} to {}, found {}", Span(*range.start()), Span(*range.end()), Shown(text)))
        }
    }
}

/// A duration as it would be written: in one unit, the largest that divides it.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            _ if !millis.is_multiple_of(1000) => write!(f, "{millis}ms"),
            _ if millis == 0 || !millis.is_multiple_of(60_000) => write!(f, "{}s", millis / 1000),
            _ => write!(f, "{}m", millis / 60_000),
        }
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    loop {
        let unit_at = rest.find(|character: char| !character.is_ascii_digit())?;
        let (number, behind) = rest.split_at(unit_at);
        let number: u64 = number.parse().ok()?;
        let unit_ends = behind.find(|character: char| character.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_ends);
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        sum = sum.checked_add(part)?;
        if behind.is_empty() {
            return Some(sum);
        }
        rest = behind;
    }
}

/// Reads a size in bytes within a range.
///
/// # Syntax
///
/// ```text
/// size = 1*DIGIT ( "B" / "KiB" / "MiB" / "GiB" )
/// ```
///
/// # Errors
///
/// A sentence that says what was expected.
pub fn size_bytes(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let unit_at = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let factor = match unit {
            "B" => Some(1),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let bytes = factor.and_then(|factor: u64| digits(number)?.checked_mul(factor));
        let Some(bytes) = bytes else {
            return Err(format!("expected a size with its unit, such as 512KiB or 8MiB, found {}", Shown(text)));
        };
        if range.contains(&bytes) {
            Ok(bytes)
        } else {
            Err(format!("expected a size from {} to {} bytes, found {}", range.start(), range.end(), Shown(text)))
        }
    }
}

/// Insertions, deletions, replacements and swaps of neighbours between two words; no more than the length of the longer. Long words are not
/// compared: no key of ours is.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() > LONGEST || b.len() > LONGEST {
        return LONGEST;
    }
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::tree::parse;
    use super::*;

    fn with_root<T>(text: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> (T, String) {
        let file: Arc<str> = "config.yaml".into();
        let node = parse(&file, text.as_bytes()).unwrap();
        let findings = Findings::default();
        let mut root = Section::root(&file, &node, &findings);
        let value = read(&mut root);
        root.finish();
        let told = match findings.into_result() {
            Ok(warnings) => warnings.iter().map(|warning| format!("{warning}\n")).collect(),
            Err(errors) => errors.to_string(),
        };
        (value, told)
    }

    #[test]
    fn takes_keys_without_case_and_nothing_as_absent() {
        let (values, told) = with_root("CLUSTERID: a\nrole:\nregion: null\nexternalid: ''\n", |root| {
            [root.text("clusterID"), root.text("role"), root.text("region"), root.text("externalID"), root.text("sessionName")]
                .map(|text| text.map(|text| text.text))
        });
        assert_eq!(values, [Some("a".into()), None, None, Some(String::new()), None]);
        assert_eq!(told, "");
    }

    #[test]
    fn names_unknown_keys_and_what_they_may_have_been() {
        let ((), told) = with_root("clusterIdd: a\nmapRole: []\nport: 1\nxyz: 1\n", |root| {
            for key in ["clusterID", "mapRoles", "mapUsers", "hostname"] {
                assert!(root.take(key).is_none());
            }
        });
        insta::assert_snapshot!(told, @r#"
        config.yaml:1: unknown key "clusterIdd"; did you mean clusterID?
        config.yaml:2: unknown key "mapRole"; did you mean mapRoles?
        config.yaml:3: unknown key "port"
        config.yaml:4: unknown key "xyz"
        "#);
    }

    #[test]
    fn collects_every_error() {
        let ((), told) = with_root("server: [1]\nrole: {a: b}\nlist: text\nmixed: [a, [b], ~]\nport: 70000\n", |root| {
            root.section("server").finish();
            root.text("role");
            let _ = root.take("list").unwrap().list();
            let _ = root.take("mixed").unwrap().texts(Split::Commas);
            root.take("port").unwrap().read(integer(0..=u16::MAX));
        });
        insta::assert_snapshot!(told, @r#"
        config.yaml:1: server: expected a map, found a list
        config.yaml:2: role: expected text, found a map
        config.yaml:3: list: expected a list, found text
        config.yaml:4: mixed[1]: expected text, found a list
        config.yaml:4: mixed[2]: expected text, found nothing
        config.yaml:5: port: expected a number from 0 to 65535, found "70000"
        "#);
    }

    #[test]
    fn splits_a_text_where_a_list_is_due() {
        let parts = |split: Split, text| split.parts(text).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(parts(Split::BlanksAndCommas, " a, b\tc ,,"), ["a", "b", "c"]);
        assert_eq!(parts(Split::Commas, "a, b"), ["a", " b"]);
        assert_eq!(parts(Split::Commas, ""), Vec::<String>::new());
    }

    #[test]
    fn reads_truth_as_go_does() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(boolean(text), Ok(true));
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(boolean(text), Ok(false));
        }
        for text in ["", "yes", "no", "tRUE", "2", " true"] {
            assert!(boolean(text).unwrap_err().starts_with("expected true or false, found \""));
        }
    }

    #[test]
    fn reads_numbers_durations_and_sizes_within_their_range() {
        assert_eq!(integer(0..=u16::MAX)("021362"), Ok(21362));
        insta::assert_snapshot!(integer(1..=4096u32)("0").unwrap_err(), @r#"expected a number from 1 to 4096, found "0""#);
        for text in ["", "+1", "-1", "1.0", "1e3", "0x10", "99999999999999999999"] {
            assert!(integer(0..=u32::MAX)(text).is_err(), "{text}");
        }
        let day = Duration::from_secs(86_400);
        for (text, expected) in [
            ("0", Some(Duration::ZERO)),
            ("5s", Some(Duration::from_secs(5))),
            ("500ms", Some(Duration::from_millis(500))),
            ("1m30s", Some(Duration::from_secs(90))),
            ("1h1m1s1ms", Some(Duration::from_millis(3_661_001))),
            ("5", None),
            ("", None),
            ("s", None),
            ("-5s", None),
            ("5 s", None),
            ("1.5s", None),
            ("5s3", None),
            ("99999999999999999999h", None),
            ("9999999999999999999h", None),
        ] {
            assert_eq!(duration(Duration::ZERO..=day)(text).ok(), expected, "{text}");
        }
        insta::assert_snapshot!(duration(Duration::ZERO..=day)("5").unwrap_err(), @r#"expected a duration with its unit, such as 500ms, 5s or 1m30s, found "5""#);
        insta::assert_snapshot!(duration(Duration::ZERO..=day)("25h").unwrap_err(), @r#"expected a duration from 0s to 1440m, found "25h""#);
        assert_eq!(size_bytes(0..=u64::MAX)("8MiB"), Ok(8 << 20));
        assert_eq!(size_bytes(0..=u64::MAX)("17B"), Ok(17));
        insta::assert_snapshot!(size_bytes(0..=1024)("8").unwrap_err(), @r#"expected a size with its unit, such as 512KiB or 8MiB, found "8""#);
        insta::assert_snapshot!(size_bytes(0..=1024)("8MiB").unwrap_err(), @r#"expected a size from 0 to 1024 bytes, found "8MiB""#);
        assert!(size_bytes(0..=u64::MAX)("99999999999GiB").is_err());
    }

    #[test]
    fn measures_slips() {
        for (a, b, expected) in [("", "", 0), ("a", "", 1), ("maproles", "mapgroles", 1), ("prot", "port", 1), ("kitten", "sitting", 3)] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
