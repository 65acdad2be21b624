//! The query of a presigned URL: nine keys, each at most once, in any order.
//!
//! Rules that depend on spelling, all in this file:
//! - *Escapes*: `%` and two hex digits of either case; `+` is a blank (WHATWG URL, application/x-www-form-urlencoded, and Go's
//!   `net/url`, which the reference uses). AWS signs what it decodes, so two spellings of one value have one signature.
//! - *Case*: keys compare after decoding, without ASCII case. No other folding: the reference's `strings.ToLower` also takes U+212A
//!   (Kelvin) for `k` and U+017F (long s) for `s`, which AWS does not.
//! - *Order*: any. The canonical query is sorted by encoded name, as AWS sorts it.
//! - *Separators*: `&` only. A raw `;` is refused, since parsers differ on it (Go refuses it, older ones split at it).

use core::cmp::Ordering;
use core::{fmt, str};

use crate::Error;

/// One of the query keys that a presigned GetCallerIdentity may have.
///
/// upstream: `parameterWhitelist` in pkg/token/token.go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Param {
    Action,
    Version,
    Algorithm,
    Credential,
    Date,
    Expires,
    SecurityToken,
    Signature,
    SignedHeaders,
}

impl Param {
    pub(crate) const COUNT: usize = 9;

    const ALL: [Self; Self::COUNT] = [
        Self::Action,
        Self::Version,
        Self::Algorithm,
        Self::Credential,
        Self::Date,
        Self::Expires,
        Self::SecurityToken,
        Self::Signature,
        Self::SignedHeaders,
    ];

    /// The key as AWS spells it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Action => "Action",
            Self::Version => "Version",
            Self::Algorithm => "X-Amz-Algorithm",
            Self::Credential => "X-Amz-Credential",
            Self::Date => "X-Amz-Date",
            Self::Expires => "X-Amz-Expires",
            Self::SecurityToken => "X-Amz-Security-Token",
            Self::Signature => "X-Amz-Signature",
            Self::SignedHeaders => "X-Amz-SignedHeaders",
        }
    }

    /// The key that `name` spells.
    fn from_encoded(name: Encoded<'_>) -> Option<Self> {
        if name.is_canonical() {
            // The usual way: no escape, so the text is the key.
            return Self::ALL.into_iter().find(|param| param.name().eq_ignore_ascii_case(name.raw));
        }
        Self::ALL.into_iter().find(|param| {
            let mut expected = param.name().bytes();
            name.decoded().all(|byte| expected.next().is_some_and(|e| e.eq_ignore_ascii_case(&byte))) && expected.next().is_none()
        })
    }

    const fn index(self) -> usize {
        match self {
            Self::Action => 0,
            Self::Version => 1,
            Self::Algorithm => 2,
            Self::Credential => 3,
            Self::Date => 4,
            Self::Expires => 5,
            Self::SecurityToken => 6,
            Self::Signature => 7,
            Self::SignedHeaders => 8,
        }
    }
}

/// What a byte means in a query.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Class {
    /// Unreserved in RFC 3986: stands for itself, and is written so in a canonical query.
    Plain,
    Ampersand,
    Equals,
    Percent,
    /// Stands for itself but is escaped in a canonical query; `+` too, but for the blank.
    Other,
    Semicolon,
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0_u8;
    loop {
        #[expect(clippy::as_conversions, clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            classes[byte as usize] = match byte {
                b'&' => Class::Ampersand,
                b'=' => Class::Equals,
                b'%' => Class::Percent,
                b';' => Class::Semicolon,
                byte if is_unreserved(byte) => Class::Plain,
                _ => Class::Other,
            };
        }
        let Some(next) = byte.checked_add(1) else { break classes };
        byte = next;
    }
};

fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Other)
}

/// Percent-encoded text, its escapes known to be well formed.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'a> {
    raw: &'a str,
    canonical: bool,
}

impl<'a> Encoded<'a> {
    const EMPTY: Self = Self { raw: "", canonical: true };

    /// Whether `raw` is what AWS would write: unreserved characters as they are, all others as `%` and upper-case hex.
    pub(crate) const fn is_canonical(&self) -> bool {
        self.canonical
    }

    /// The bytes that it stands for.
    pub(crate) fn decoded(&self) -> Decoded<'a> {
        Decoded(self.raw.as_bytes())
    }

    /// Whether it stands for exactly `text`.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.decoded().eq(text.bytes())
    }

    /// Writes it as AWS would.
    fn write_canonical(&self, out: &mut impl fmt::Write) -> fmt::Result {
        if self.canonical {
            return out.write_str(self.raw);
        }
        self.decoded().try_for_each(|byte| write_escaped(byte, out))
    }
}

/// Writes one byte as AWS' `UriEncode` does.
///
/// AWS: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.
fn write_escaped(byte: u8, out: &mut impl fmt::Write) -> fmt::Result {
    if is_unreserved(byte) {
        return out.write_str(str::from_utf8(&[byte]).unwrap_or_default());
    }
    let escape = [b'%', hex_digit(byte >> 4), hex_digit(byte & 15)];
    out.write_str(str::from_utf8(&escape).unwrap_or_default())
}

fn hex_digit(value: u8) -> u8 {
    b"0123456789ABCDEF".get(usize::from(value)).copied().unwrap_or(b'0')
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The bytes behind percent-encoded text.
#[derive(Clone)]
pub(crate) struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        let (byte, rest) = match (first, rest) {
            (b'%', [high, low, rest @ ..]) => {
                let byte = hex_value(*high)?.wrapping_shl(4) | hex_value(*low)?;
                (byte, rest)
            }
            (b'+', _) => (b' ', rest),
            _ => (first, rest),
        };
        self.0 = rest;
        Some(byte)
    }
}

/// A piece of a canonical query: as received, or text that we encode.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Encoded(Encoded<'a>),
    Text(&'a str),
}

impl Value<'_> {
    pub(crate) fn write_canonical(&self, out: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::Encoded(encoded) => encoded.write_canonical(out),
            Self::Text(text) => text.bytes().try_for_each(|byte| write_escaped(byte, out)),
        }
    }
}

/// A key as spelled, and its value.
#[derive(Clone, Copy)]
struct Pair<'a> {
    name: Encoded<'a>,
    value: Encoded<'a>,
}

/// A query that has been split: each pair at its key's place.
#[derive(Clone, Copy)]
pub(crate) struct Params<'a> {
    pairs: [Option<Pair<'a>>; Param::COUNT],
}

impl<'a> Params<'a> {
    /// Splits a query, whose bytes are known to be printable ASCII.
    ///
    /// # Syntax
    ///
    /// ```text
    /// query = [ pair ] *( "&" [ pair ] )
    /// pair  = name [ "=" value ]          ; a value may have further "="
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Escape`], [`Error::ParameterUnknown`] and [`Error::ParameterRepeated`], for the first pair that has one of them.
    pub(crate) fn parse(query: &'a str) -> Result<Self, Error> {
        let mut pairs = [None; Param::COUNT];
        let mut rest = Some(query);
        while let Some(text) = rest {
            let (name, delimiter, after_name) = scan(text, true)?;
            let value;
            (value, rest) = match (delimiter, after_name) {
                (Some(Class::Equals), Some(after)) => {
                    let (value, _, after_value) = scan(after, false)?;
                    (value, after_value)
                }
                (_, after) => (Encoded::EMPTY, after),
            };
            if name.raw.is_empty() && delimiter != Some(Class::Equals) {
                continue;
            }
            let param = Param::from_encoded(name).ok_or(Error::ParameterUnknown)?;
            let slot = pairs.get_mut(param.index()).ok_or(Error::ParameterUnknown)?;
            if slot.replace(Pair { name, value }).is_some() {
                return Err(Error::ParameterRepeated);
            }
        }
        Ok(Self { pairs })
    }

    /// The value of a key that may be absent.
    pub(crate) fn find(&self, param: Param) -> Option<Encoded<'a>> {
        self.pairs.get(param.index()).copied().flatten().map(|pair| pair.value)
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`Error::ParameterMissing`].
    pub(crate) fn require(&self, param: Param) -> Result<Encoded<'a>, Error> {
        self.find(param).ok_or(Error::ParameterMissing)
    }

    /// The pairs that are signed, that is all but the signature, sorted as AWS sorts them: by the name's encoded bytes. Names are
    /// unique, for they are so without case.
    pub(crate) fn signed_sorted(&self) -> Query<'a> {
        let mut query = Query { pairs: [None; Param::COUNT] };
        let mut names: [Option<Encoded<'a>>; Param::COUNT] = [None; Param::COUNT];
        let mut length = 0_usize;
        for (pair, param) in self.pairs.iter().zip(Param::ALL) {
            let Some(pair) = pair else { continue };
            if param == Param::Signature {
                continue;
            }
            // Insertion sort of at most eight; they come nearly sorted, since Param is in the order of the usual spelling.
            let earlier = names.get(..length).unwrap_or_default();
            let greater = earlier.iter().rev().flatten();
            let moved = greater.take_while(|other| compare_names(**other, pair.name) == Ordering::Greater).count();
            let place = length.saturating_sub(moved);
            length = length.saturating_add(1);
            if let (Some(names), Some(pairs)) = (names.get_mut(place..length), query.pairs.get_mut(place..length)) {
                names.rotate_right(1);
                pairs.rotate_right(1);
                if let (Some(name), Some(slot)) = (names.first_mut(), pairs.first_mut()) {
                    *name = Some(pair.name);
                    *slot = Some((Value::Encoded(pair.name), Value::Encoded(pair.value)));
                }
            }
        }
        query
    }
}

/// Keys decode to letters and hyphens, which are unreserved: their encoded order is that of their decoded bytes.
fn compare_names(a: Encoded<'_>, b: Encoded<'_>) -> Ordering {
    if a.canonical && b.canonical { a.raw.cmp(b.raw) } else { a.decoded().cmp(b.decoded()) }
}

/// Reads up to the next delimiter: what stood before it, the delimiter, and what follows it.
fn scan(text: &str, is_name: bool) -> Result<(Encoded<'_>, Option<Class>, Option<&str>), Error> {
    let mut canonical = true;
    let mut rest = text.as_bytes();
    let delimiter = loop {
        let Some((&byte, tail)) = rest.split_first() else { break None };
        match class(byte) {
            Class::Plain => rest = tail,
            Class::Ampersand => break Some(Class::Ampersand),
            Class::Equals if is_name => break Some(Class::Equals),
            Class::Equals | Class::Other => {
                canonical = false;
                rest = tail;
            }
            Class::Percent => {
                let [high, low, tail @ ..] = tail else { return Err(Error::Escape) };
                let value = hex_value(*high).zip(hex_value(*low)).map(|(high, low)| high.wrapping_shl(4) | low);
                let value = value.ok_or(Error::Escape)?;
                let lower_case = high.is_ascii_lowercase() || low.is_ascii_lowercase();
                canonical = canonical && !lower_case && !is_unreserved(value);
                rest = tail;
            }
            Class::Semicolon => return Err(Error::Escape),
        }
    };
    let length = text.len().saturating_sub(rest.len());
    let (raw, rest) = text.split_at_checked(length).ok_or(Error::Escape)?;
    let encoded = Encoded { raw, canonical };
    Ok((encoded, delimiter, delimiter.and_then(|_| rest.get(1..))))
}

/// A canonical query: pairs in the order in which they are signed.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    pairs: [Option<(Value<'a>, Value<'a>)>; Param::COUNT],
}

impl<'a> Query<'a> {
    /// The query of a request that we sign ourselves; `pairs` stand in the order of their names.
    pub(crate) fn from_sorted(values: impl Iterator<Item = (Param, Option<&'a str>)>) -> Self {
        let mut pairs = [None; Param::COUNT];
        for (slot, (param, value)) in pairs.iter_mut().zip(values) {
            *slot = value.map(|value| (Value::Text(param.name()), Value::Text(value)));
        }
        Self { pairs }
    }

    /// Writes `name=value&name=value…`.
    pub(crate) fn write_canonical(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let mut separator = "";
        for (name, value) in self.pairs.iter().flatten() {
            out.write_str(separator)?;
            name.write_canonical(out)?;
            out.write_str("=")?;
            value.write_canonical(out)?;
            separator = "&";
        }
        Ok(())
    }
}
