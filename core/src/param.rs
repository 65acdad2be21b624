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
        if name.form == Form::Plain {
            // The usual way: no escape, so the text is the key.
            return Self::ALL.into_iter().find(|param| param.name().eq_ignore_ascii_case(name.raw));
        }
        Self::ALL.into_iter().find(|param| {
            let mut expected = param.name().bytes();
            name.decoded().all(|byte| expected.next().is_some_and(|e| e.eq_ignore_ascii_case(&byte))) && expected.next().is_none()
        })
    }

    /// The key that `text` begins with in AWS' spelling, if it comes behind `last` in the sorted order, or is the signature; and what follows
    /// its `=`.
    fn usual_after(last: Option<Self>, text: &str) -> Option<(Self, &str)> {
        let next = last.map_or(0, |last| last.index().saturating_add(1));
        let later = Self::ALL.get(next..)?.iter().copied().chain([Self::Signature]);
        later.into_iter().find_map(|param| Some((param, text.strip_prefix(param.name())?.strip_prefix('=')?)))
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

/// What a byte means in a query. Numbers, so that those of several bytes can be or-ed: nought is the usual one.
type Class = u8;
/// Unreserved in RFC 3986: stands for itself, and is written so in a canonical query.
const PLAIN: Class = 0;
const AMPERSAND: Class = 1;
const EQUALS: Class = 2;
const PERCENT: Class = 3;
const SEMICOLON: Class = 4;
/// Stands for itself but is escaped in a canonical query; `+` too, but for the blank.
const OTHER: Class = 5;

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const CLASSES: [Class; 256] = {
    let mut classes = [OTHER; 256];
    let mut byte = 0_u8;
    loop {
        #[expect(clippy::as_conversions, clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            classes[byte as usize] = match byte {
                b'&' => AMPERSAND,
                b'=' => EQUALS,
                b'%' => PERCENT,
                b';' => SEMICOLON,
                byte if is_unreserved(byte) => PLAIN,
                _ => OTHER,
            };
        }
        let Some(next) = byte.checked_add(1) else { break classes };
        byte = next;
    }
};

fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(OTHER)
}

/// How a text is spelled, from what is quickest to use to what takes most care.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Form {
    /// Unreserved characters alone: the text, what it stands for and its canonical form are the same bytes.
    Plain,
    /// As AWS would write it: unreserved characters as they are, all others as `%` and upper-case hex.
    Canonical,
    /// Any other way.
    Free,
}

/// Percent-encoded text, its escapes known to be well formed.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'a> {
    raw: &'a str,
    form: Form,
}

impl<'a> Encoded<'a> {
    const EMPTY: Self = Self { raw: "", form: Form::Plain };

    /// The bytes that it stands for.
    pub(crate) fn decoded(&self) -> Decoded<'a> {
        Decoded(self.raw.as_bytes())
    }

    /// The bytes that it stands for, if they are so many.
    pub(crate) fn to_array<const N: usize>(self) -> Option<[u8; N]> {
        if self.form == Form::Plain {
            return self.raw.as_bytes().try_into().ok();
        }
        let mut array = [0; N];
        let mut bytes = self.decoded();
        for slot in &mut array {
            *slot = bytes.next()?;
        }
        bytes.next().is_none().then_some(array)
    }

    /// Puts the bytes that it stands for into `room`, as many as fit, and returns these.
    pub(crate) fn decode_into<'b>(&self, room: &'b mut [u8]) -> &'b [u8] {
        let mut length = 0_usize;
        for (slot, byte) in room.iter_mut().zip(self.decoded()) {
            *slot = byte;
            length = length.saturating_add(1);
        }
        room.get(..length).unwrap_or_default()
    }

    /// The text, if it is spelled as AWS would spell it.
    pub(crate) fn canonical_text(&self) -> Option<&'a str> {
        (self.form != Form::Free).then_some(self.raw)
    }

    /// Whether it stands for exactly `text`.
    pub(crate) fn is(&self, text: &str) -> bool {
        if self.form == Form::Plain { self.raw == text } else { self.decoded().eq(text.bytes()) }
    }

    /// Writes it as AWS would.
    fn write_canonical(&self, out: &mut impl fmt::Write) -> fmt::Result {
        match self.form {
            Form::Plain | Form::Canonical => out.write_str(self.raw),
            Form::Free => self.decoded().try_for_each(|byte| write_escaped(byte, out)),
        }
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

/// The byte that two hex digits write.
fn escaped_byte(high: u8, low: u8) -> Option<u8> {
    let value = |digit| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(value(high)?.wrapping_shl(4) | value(low)?)
}

/// The bytes behind percent-encoded text.
#[derive(Clone)]
pub(crate) struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        let (byte, rest) = match (first, rest) {
            (b'%', [high, low, rest @ ..]) => (escaped_byte(*high, *low)?, rest),
            (b'+', _) => (b' ', rest),
            _ => (first, rest),
        };
        self.0 = rest;
        Some(byte)
    }
}

/// Where a piece of the query stands in it. Small, since a split query is moved a few times: nine pairs are 108 bytes.
#[derive(Clone, Copy)]
struct Span {
    start: u16,
    end: u16,
    form: Form,
}

/// A key as spelled (`None` where as AWS does), and its value.
#[derive(Clone, Copy)]
struct Pair {
    name: Option<Span>,
    value: Span,
}

/// A query that has been split: each pair at its key's place.
#[derive(Clone, Copy)]
pub(crate) struct Params<'a> {
    query: &'a str,
    pairs: [Option<Pair>; Param::COUNT],
    /// Where all that is signed ends, if the query as received is canonical: each name and value so spelled, sorted, and the signature last.
    canonical_end: Option<u16>,
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
        let mut params = Self { query, pairs: [None; Param::COUNT], canonical_end: None };
        let mut last_signed: Option<Param> = None;
        let mut is_canonical = true;
        let mut rest = Some(query);
        while let Some(text) = rest {
            // The next key in AWS' own spelling and order is tried first: that saves looking at each of its bytes.
            let usual = Param::usual_after(last_signed, text);
            let (param, name, value) = if let Some((param, after)) = usual {
                let value = Scanned::value(after)?;
                rest = value.rest;
                (param, None, value.text)
            } else {
                let name = Scanned::name(text)?;
                rest = name.rest;
                let mut value = Encoded::EMPTY;
                if let (Some(EQUALS), Some(after)) = (name.delimiter, name.rest) {
                    let scanned = Scanned::value(after)?;
                    (value, rest) = (scanned.text, scanned.rest);
                } else if name.text.raw.is_empty() {
                    is_canonical = false;
                    continue;
                }
                let param = Param::from_encoded(name.text).ok_or(Error::ParameterUnknown)?;
                (param, Some(name.text), value)
            };
            let pair = Pair { name: name.map(|name| params.span(name)).transpose()?, value: params.span(value)? };
            let slot = params.pairs.get_mut(param.index()).ok_or(Error::ParameterUnknown)?;
            if slot.replace(pair).is_some() {
                return Err(Error::ParameterRepeated);
            }
            if param == Param::Signature {
                if is_canonical && rest.is_none() {
                    let end = query.len().checked_sub(text.len()).and_then(|end| end.checked_sub("&".len()));
                    params.canonical_end = end.and_then(|end| u16::try_from(end).ok());
                }
            } else {
                // Names are unique, so what comes in Param's order is sorted.
                is_canonical = is_canonical && usual.is_some() && value.form != Form::Free;
                last_signed = Some(param);
            }
        }
        Ok(params)
    }

    fn span(&self, text: Encoded<'a>) -> Result<Span, Error> {
        // Pieces are parts of the query, so their addresses tell where; a query is shorter than a token, so 16 bits are enough.
        let start = text.raw.as_ptr().addr().checked_sub(self.query.as_ptr().addr());
        let start = start.filter(|start| *start <= self.query.len()).unwrap_or(0);
        let end = start.saturating_add(text.raw.len());
        let (Ok(start), Ok(end)) = (u16::try_from(start), u16::try_from(end)) else { return Err(Error::Length) };
        Ok(Span { start, end, form: text.form })
    }

    fn text(&self, span: Span) -> Encoded<'a> {
        let raw = self.query.get(usize::from(span.start)..usize::from(span.end)).unwrap_or_default();
        Encoded { raw, form: span.form }
    }

    /// The value of a key that may be absent.
    pub(crate) fn find(&self, param: Param) -> Option<Encoded<'a>> {
        self.pairs.get(param.index()).copied().flatten().map(|pair| self.text(pair.value))
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`Error::ParameterMissing`].
    pub(crate) fn require(&self, param: Param) -> Result<Encoded<'a>, Error> {
        self.find(param).ok_or(Error::ParameterMissing)
    }

    /// Writes the canonical query: all pairs but the signature, sorted as AWS sorts them, by the name's encoded bytes. Names are unique, for
    /// they are so without case.
    pub(crate) fn write_canonical(&self, out: &mut impl fmt::Write) -> fmt::Result {
        if let Some(end) = self.canonical_end {
            return out.write_str(self.query.get(..usize::from(end)).unwrap_or_default());
        }
        let signed = || {
            let pairs = self.pairs.iter().zip(Param::ALL).filter(|(_, param)| *param != Param::Signature);
            pairs.filter_map(|(pair, param)| {
                let pair = (*pair)?;
                let usual = Encoded { raw: param.name(), form: Form::Plain };
                Some((pair.name.map_or(usual, |name| self.text(name)), self.text(pair.value)))
            })
        };
        let mut last: Option<Encoded<'_>> = None;
        // At most eight: picking the next one each time is as quick as sorting, and needs no room.
        loop {
            let later = signed().filter(|(name, _)| last.is_none_or(|last| compare_names(last, *name) == Ordering::Less));
            let Some((name, value)) = later.min_by(|(a, _), (b, _)| compare_names(*a, *b)) else { return Ok(()) };
            if last.is_some() {
                out.write_str("&")?;
            }
            name.write_canonical(out)?;
            out.write_str("=")?;
            value.write_canonical(out)?;
            last = Some(name);
        }
    }
}

/// Keys decode to letters and hyphens, which are unreserved: their encoded order is that of their decoded bytes.
fn compare_names(a: Encoded<'_>, b: Encoded<'_>) -> Ordering {
    if a.form == Form::Plain && b.form == Form::Plain { a.raw.cmp(b.raw) } else { a.decoded().cmp(b.decoded()) }
}

/// A piece of a query, the delimiter that ended it, and what follows that.
struct Scanned<'a> {
    text: Encoded<'a>,
    delimiter: Option<Class>,
    rest: Option<&'a str>,
}

impl<'a> Scanned<'a> {
    /// Reads up to the next `=` or `&`.
    fn name(text: &'a str) -> Result<Self, Error> {
        Self::until(text, true)
    }

    /// Reads up to the next `&`.
    fn value(text: &'a str) -> Result<Self, Error> {
        Self::until(text, false)
    }

    fn until(text: &'a str, ends_at_equals: bool) -> Result<Self, Error> {
        let mut form = Form::Plain;
        let mut rest = text.as_bytes();
        let delimiter = loop {
            rest = skip_plain(rest);
            let Some((&byte, tail)) = rest.split_first() else { break None };
            match class(byte) {
                AMPERSAND => break Some(AMPERSAND),
                EQUALS if ends_at_equals => break Some(EQUALS),
                PERCENT => {
                    let [high, low, tail @ ..] = tail else { return Err(Error::Escape) };
                    let value = escaped_byte(*high, *low).ok_or(Error::Escape)?;
                    let is_canonical = !high.is_ascii_lowercase() && !low.is_ascii_lowercase() && !is_unreserved(value);
                    form = if is_canonical && form != Form::Free { Form::Canonical } else { Form::Free };
                    rest = tail;
                }
                SEMICOLON => return Err(Error::Escape),
                _ => {
                    form = Form::Free;
                    rest = tail;
                }
            }
        };
        let length = text.len().saturating_sub(rest.len());
        let (raw, rest) = text.split_at_checked(length).ok_or(Error::Escape)?;
        Ok(Self { text: Encoded { raw, form }, delimiter, rest: delimiter.and_then(|_| rest.get(1..)) })
    }
}

/// What follows the unreserved characters that `text` begins with.
fn skip_plain(text: &[u8]) -> &[u8] {
    let mut rest = text;
    // Eight at a time: most of a query is plain.
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        if eight.iter().fold(PLAIN, |classes, byte| classes | class(*byte)) != PLAIN {
            break;
        }
        rest = after;
    }
    let plain = rest.iter().position(|byte| class(*byte) != PLAIN).unwrap_or(rest.len());
    rest.get(plain..).unwrap_or_default()
}

/// Writes `name=value&name=value…`, names as AWS spells them and in their order, values encoded.
pub(crate) fn write_query<'a>(pairs: impl Iterator<Item = (Param, &'a str)>, out: &mut impl fmt::Write) -> fmt::Result {
    let mut separator = "";
    for (param, value) in pairs {
        for piece in [separator, param.name(), "="] {
            out.write_str(piece)?;
        }
        value.bytes().try_for_each(|byte| write_escaped(byte, out))?;
        separator = "&";
    }
    Ok(())
}
