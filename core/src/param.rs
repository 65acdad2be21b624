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
use crate::sigv4::Signature;

/// One of the query keys that a presigned GetCallerIdentity may have, in the order in which they are sorted and most clients write them: the
/// signature, which is not signed, comes last.
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
    SignedHeaders,
    Signature,
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
        Self::SignedHeaders,
        Self::Signature,
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

    /// The key that is spelled as AWS does: lengths and then bytes are compared, with nothing to search.
    const fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"Action" => Self::Action,
            b"Version" => Self::Version,
            b"X-Amz-Algorithm" => Self::Algorithm,
            b"X-Amz-Credential" => Self::Credential,
            b"X-Amz-Date" => Self::Date,
            b"X-Amz-Expires" => Self::Expires,
            b"X-Amz-Security-Token" => Self::SecurityToken,
            b"X-Amz-Signature" => Self::Signature,
            b"X-Amz-SignedHeaders" => Self::SignedHeaders,
            _ => return None,
        })
    }

    /// What its pair begins with in nearly every query, if `text` begins so: the length of that, which is the name and the `=`, and the value as
    /// far as it is always the same or otherwise known; and how that part of the value is spelled.
    ///
    /// It only saves time: what a [`scan`] makes of such a head is known beforehand.
    fn usual_head(self, text: &[u8]) -> Option<(usize, Form)> {
        // A macro, so that the compiler knows each length and compares without a call.
        macro_rules! head {
            ($head:literal, $form:ident) => {
                if text.starts_with($head) { Some(($head.len(), Form::$form)) } else { None }
            };
        }
        match self {
            Self::Action => head!(b"Action=GetCallerIdentity", Plain),
            Self::Version => head!(b"Version=2011-06-15", Plain),
            Self::Algorithm => head!(b"X-Amz-Algorithm=AWS4-HMAC-SHA256", Plain),
            Self::Credential => head!(b"X-Amz-Credential=", Plain),
            Self::Date => head!(b"X-Amz-Date=", Plain),
            Self::Expires => head!(b"X-Amz-Expires=", Plain),
            Self::SecurityToken => head!(b"X-Amz-Security-Token=", Plain),
            Self::SignedHeaders => head!(b"X-Amz-SignedHeaders=host%3Bx-k8s-aws-id", Canonical),
            // Hex digits are unreserved.
            Self::Signature => {
                let (head, form) = head!(b"X-Amz-Signature=", Plain)?;
                let digits = text.get(head..).and_then(|value| value.first_chunk());
                let known = if digits.is_some_and(Signature::are_digits) { Signature::DIGITS } else { 0 };
                Some((head.saturating_add(known), form))
            }
        }
    }

    /// The first key, of those from place `next` on, whose usual head `text` begins with, and what is known of that.
    fn usual(next: usize, text: &[u8]) -> Option<(Self, usize, Form)> {
        Self::ALL.get(next..)?.iter().find_map(|param| param.usual_head(text).map(|(length, form)| (*param, length, form)))
    }

    /// The key that `name` spells in any way, and the name if that is not AWS' way.
    fn of_name(name: Encoded<'_>) -> Option<(Self, Option<Encoded<'_>>)> {
        match Self::from_name(name.raw) {
            Some(param) => Some((param, None)),
            None => Self::from_encoded(name).map(|param| (param, Some(name))),
        }
    }

    fn from_encoded(name: Encoded<'_>) -> Option<Self> {
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
            Self::SignedHeaders => 7,
            Self::Signature => 8,
        }
    }
}

/// Unreserved in RFC 3986: stands for itself, and is written so in a canonical query. Without a branch, so that the compiler does 16 at a
/// time.
const fn is_unreserved(byte: u8) -> bool {
    let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let is_digit = byte.wrapping_sub(b'0') < 10;
    is_letter | is_digit | (byte == b'-') | (byte == b'.') | (byte == b'_') | (byte == b'~')
}

/// Printable ASCII without DQUOTE, `<` and `>`, which RFC 3986 has in no URI.
pub(crate) const fn is_url_byte(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E) && !matches!(byte, b'"' | b'<' | b'>')
}

/// How a text is spelled, from what is quickest to use to what takes most care.
///
/// A word, not a byte: a processor waits for a byte just written when it is read again together with its neighbours, as when an [`Encoded`] is
/// moved.
#[derive(Clone, Copy, Eq, PartialEq)]
#[repr(usize)]
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
    raw: &'a [u8],
    form: Form,
}

impl<'a> Encoded<'a> {
    const EMPTY: Self = Self { raw: b"", form: Form::Plain };

    /// The bytes that it stands for.
    pub(crate) fn decoded(&self) -> Decoded<'a> {
        Decoded(self.raw)
    }

    /// The bytes that it stands for; where they have to be decoded, into `room`, and as many as fit.
    pub(crate) fn decode<'b>(&self, room: &'b mut [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        if self.form == Form::Plain {
            return self.raw;
        }
        let mut length = 0_usize;
        for (slot, byte) in room.iter_mut().zip(self.decoded()) {
            *slot = byte;
            length = length.saturating_add(1);
        }
        room.get(..length).unwrap_or_default()
    }

    /// The text, if it is spelled as AWS would spell it.
    pub(crate) fn canonical_text(&self) -> Option<&'a [u8]> {
        (self.form != Form::Free).then_some(self.raw)
    }

    /// Whether it stands for exactly `text`.
    pub(crate) fn is(&self, text: &str) -> bool {
        if self.form == Form::Plain { self.raw == text.as_bytes() } else { self.decoded().eq(text.bytes()) }
    }

    /// Writes it as AWS would.
    fn write_canonical(&self, out: &mut impl WriteAscii) -> fmt::Result {
        match self.form {
            Form::Plain | Form::Canonical => out.write_ascii(self.raw),
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
    let value = |digit: u8| HEX_VALUES.get(usize::from(digit)).copied().unwrap_or(NO_HEX);
    let (high, low) = (value(high), value(low));
    (high | low != NO_HEX).then_some(high.wrapping_shl(4) | low)
}

/// What is no hex digit: or-ed with any value it stays the same.
const NO_HEX: u8 = 0xFF;
/// Four bits for each hex digit of either case.
const HEX_VALUES: [u8; 256] = {
    let mut values = [NO_HEX; 256];
    let (upper, lower) = (b"0123456789ABCDEF", b"0123456789abcdef");
    let mut value = 0_u8;
    while value < 16 {
        #[expect(clippy::as_conversions, clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            values[upper[value as usize] as usize] = value;
            values[lower[value as usize] as usize] = value;
            value += 1;
        }
    }
    values
};

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

/// A query that has been split: values at their keys' places, and names where they are spelled otherwise than AWS does.
pub(crate) struct Params<'a> {
    names: [Option<Encoded<'a>>; Param::COUNT],
    values: [Option<Encoded<'a>>; Param::COUNT],
    /// Where all that is signed ends, if the query as received is canonical: each name and value so spelled, sorted, and the signature last.
    canonical_end: Option<usize>,
}

impl<'a> Params<'a> {
    /// Splits a query.
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
    /// [`Error::UrlBytes`], [`Error::Authority`] (a fragment), [`Error::Escape`], [`Error::ParameterUnknown`] and
    /// [`Error::ParameterRepeated`], for the first pair that has one of them.
    #[inline]
    pub(crate) fn parse(query: &'a [u8]) -> Result<Self, Error> {
        let mut params = Self { names: [None; Param::COUNT], values: [None; Param::COUNT], canonical_end: None };
        params.read(query)?;
        Ok(params)
    }

    fn read(&mut self, query: &'a [u8]) -> Result<(), Error> {
        // Where in the order of keys the next one would be, if they come in order.
        let mut next = 0;
        let mut is_canonical = true;
        let mut rest = Some(query);
        while let Some(text) = rest {
            let usual = Param::usual(next, text);
            let mut name = Encoded::EMPTY;
            // Where the value begins, and from where on it is not known.
            let (start, known, form) = match usual {
                Some((param, known, form)) => (param.name().len().saturating_add(1), known, form),
                None => {
                    let (end, form) = scan(text, 0, Form::Plain, true)?;
                    name = Encoded { raw: text.get(..end).unwrap_or_default(), form };
                    let start = if text.get(end) == Some(&b'=') { end.saturating_add(1) } else { end };
                    (start, start, Form::Plain)
                }
            };
            let (end, form) = scan(text, known, form, false)?;
            rest = text.get(end..).and_then(|rest| rest.split_first()).map(|(_, rest)| rest);
            if end == 0 {
                is_canonical = false;
                continue;
            }
            let value = Encoded { raw: text.get(start..end).unwrap_or_default(), form };
            let (param, name) = match usual {
                Some((param, ..)) => (param, None),
                None => Param::of_name(name).ok_or(Error::ParameterUnknown)?,
            };
            let index = param.index();
            let slots = (self.names.get_mut(index), self.values.get_mut(index));
            let (Some(name_slot), Some(value_slot)) = slots else { return Err(Error::ParameterUnknown) };
            if value_slot.is_some() {
                return Err(Error::ParameterRepeated);
            }
            *value_slot = Some(value);
            if name.is_some() {
                *name_slot = name;
            }
            // Names are unique, so what comes in Param's order is sorted. As AWS spells it, a name has a value, be it empty.
            is_canonical &= index >= next && name.is_none() && start > param.name().len() && form != Form::Free;
            if param == Param::Signature && is_canonical && rest.is_none() {
                self.canonical_end = query.len().checked_sub(text.len()).and_then(|end| end.checked_sub("&".len()));
            }
            next = index.saturating_add(1);
        }
        Ok(())
    }

    /// The value of a key that may be absent.
    pub(crate) fn find(&self, param: Param) -> Option<Encoded<'a>> {
        self.values.get(param.index()).copied().flatten()
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
    fn write_canonical(&self, out: &mut impl WriteAscii) -> fmt::Result {
        let signed = || {
            let places = self.names.iter().zip(&self.values).zip(Param::ALL).filter(|(_, param)| *param != Param::Signature);
            places.filter_map(|((name, value), param)| {
                let usual = Encoded { raw: param.name().as_bytes(), form: Form::Plain };
                Some((name.unwrap_or(usual), (*value)?))
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

/// A query that can be split, as it is signed. Kept instead of its [`Params`], which are many bytes to move.
#[derive(Clone, Copy)]
pub(crate) struct SignedQuery<'a> {
    query: &'a [u8],
    canonical_end: Option<usize>,
}

impl<'a> SignedQuery<'a> {
    /// That of a query, of which `params` are the parts.
    pub(crate) const fn new(query: &'a [u8], params: &Params<'_>) -> Self {
        Self { query, canonical_end: params.canonical_end }
    }

    /// The query as received.
    pub(crate) const fn as_received(&self) -> &'a str {
        match str::from_utf8(self.query) {
            Ok(query) => query,
            // There is no such query: whatever can be split is ASCII.
            Err(_) => "",
        }
    }

    /// Writes the canonical query.
    pub(crate) fn write_canonical(&self, out: &mut impl WriteAscii) -> fmt::Result {
        match self.canonical_end {
            Some(end) => out.write_ascii(self.query.get(..end).unwrap_or_default()),
            // What was split once can be split again. Rare: most clients write the canonical query, and those that put a session token
            // elsewhere make tokens that only STS can prove.
            None => Params::parse(self.query).map_err(|_| fmt::Error)?.write_canonical(out),
        }
    }
}

/// Where ASCII can be written that was never made a `str`: to a hash it is bytes all along.
pub(crate) trait WriteAscii: fmt::Write {
    /// Writes text that is known to be ASCII.
    fn write_ascii(&mut self, text: &[u8]) -> fmt::Result;
}

impl WriteAscii for fmt::Formatter<'_> {
    fn write_ascii(&mut self, text: &[u8]) -> fmt::Result {
        self.write_str(str::from_utf8(text).map_err(|_| fmt::Error)?)
    }
}

/// Keys decode to letters and hyphens, which are unreserved: their encoded order is that of their decoded bytes.
fn compare_names(a: Encoded<'_>, b: Encoded<'_>) -> Ordering {
    if a.form == Form::Plain && b.form == Form::Plain { a.raw.cmp(b.raw) } else { a.decoded().cmp(b.decoded()) }
}

/// Reads `text` from `start` on to the next `&`, or `=` for a name, or the end: where that is, and how the text before it is spelled, if what is
/// before `start` has the form `form`.
#[inline]
fn scan(text: &[u8], start: usize, mut form: Form, ends_at_equals: bool) -> Result<(usize, Form), Error> {
    if matches!(text.get(start), None | Some(b'&')) {
        return Ok((start, form));
    }
    for at in Stops::of(text, start) {
        match text.get(at..).unwrap_or_default() {
            [b'&', ..] => return Ok((at, form)),
            [b'=', ..] if ends_at_equals => return Ok((at, form)),
            // The digits are no stops, so the next stop is behind them.
            [b'%', high, low, ..] => {
                let value = escaped_byte(*high, *low).ok_or(Error::Escape)?;
                if *high.max(low) >= b'a' || is_unreserved(value) {
                    form = Form::Free;
                } else if form == Form::Plain {
                    form = Form::Canonical;
                }
            }
            [b'%' | b';', ..] => return Err(Error::Escape),
            [b'#', ..] => return Err(Error::Authority),
            [byte, ..] if !is_url_byte(*byte) => return Err(Error::UrlBytes),
            _ => form = Form::Free,
        }
    }
    Ok((text.len(), form))
}

/// The places in a text where a byte is not unreserved. A chunk of bytes is looked at together, since most of a query is unreserved.
pub(crate) struct Stops<'a> {
    text: &'a [u8],
    /// Where the bytes begin that `marks` is about.
    base: usize,
    /// A bit for each byte of the chunk: one for a stop that has not been told.
    marks: u32,
}

/// As many as a [`Stops`] has bits for.
const CHUNK_BYTES: usize = 32;

impl<'a> Stops<'a> {
    /// Those from `start` on.
    pub(crate) fn of(text: &'a [u8], start: usize) -> Self {
        Self { text, base: start, marks: Self::marks(text.get(start..).unwrap_or_default()) }
    }

    /// The marks of the chunk that `text` begins with.
    fn marks(text: &[u8]) -> u32 {
        text.first_chunk().map_or_else(|| Self::last_marks(text), Self::chunk_marks)
    }

    #[cold]
    fn last_marks(text: &[u8]) -> u32 {
        let mut chunk = [b'A'; CHUNK_BYTES];
        if let Some(place) = chunk.get_mut(..text.len()) {
            place.copy_from_slice(text);
        }
        Self::chunk_marks(&chunk)
    }

    fn chunk_marks(chunk: &[u8; CHUNK_BYTES]) -> u32 {
        let mut flags = [0_u8; CHUNK_BYTES];
        for (flag, byte) in flags.iter_mut().zip(chunk) {
            *flag = u8::from(!is_unreserved(*byte));
        }
        // The product has the lowest bits of all eight bytes in its highest byte, the first byte's lowest.
        let bits = |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080).to_be_bytes()[0];
        flags.as_chunks().0.iter().rev().fold(0, |marks, eight| marks << 8 | u32::from(bits(eight)))
    }
}

impl Iterator for Stops<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.marks == 0 {
            self.base = self.base.saturating_add(CHUNK_BYTES);
            self.marks = Self::marks(self.text.get(self.base..).filter(|rest| !rest.is_empty())?);
        }
        let place = usize::try_from(self.marks.trailing_zeros()).ok()?;
        self.marks &= self.marks.wrapping_sub(1);
        self.base.checked_add(place)
    }
}

/// Writes `name=value&name=value…`, names as AWS spells them and in their order, values encoded.
pub(crate) fn write_query<'a>(pairs: impl Iterator<Item = (Param, &'a str)>, out: &mut impl fmt::Write) -> fmt::Result {
    let mut separator = "";
    for (param, value) in pairs {
        for piece in [separator, param.name(), "="] {
            out.write_str(piece)?;
        }
        write_encoded(value, out)?;
        separator = "&";
    }
    Ok(())
}

fn write_encoded(text: &str, out: &mut impl fmt::Write) -> fmt::Result {
    let mut start = 0;
    for at in Stops::of(text.as_bytes(), 0) {
        // Nothing lies between the bytes of one character, for they are all stops.
        out.write_str(text.get(start..at).unwrap_or_default())?;
        text.as_bytes().get(at).map_or(Ok(()), |byte| write_escaped(*byte, out))?;
        start = at.saturating_add(1);
    }
    out.write_str(text.get(start..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    use super::*;

    impl WriteAscii for String {
        fn write_ascii(&mut self, text: &[u8]) -> fmt::Result {
            fmt::Write::write_str(self, str::from_utf8(text).unwrap())
        }
    }

    #[test]
    fn a_key_has_one_place_and_one_name() {
        for (index, param) in Param::ALL.into_iter().enumerate() {
            assert_eq!(param.index(), index);
            assert_eq!(Param::from_name(param.name().as_bytes()), Some(param));
            assert!(Param::from_name(param.name().to_ascii_lowercase().as_bytes()).is_none());
        }
        let names = || Param::ALL.into_iter().filter(|param| *param != Param::Signature).map(Param::name);
        assert!(names().is_sorted(), "the places are the order in which AWS sorts");
    }

    #[test]
    fn what_a_usual_head_says_is_what_a_scan_finds() {
        let digits = "0123456789abcdef".repeat(4);
        for param in Param::ALL {
            let pairs = [
                "Action=GetCallerIdentity",
                "Version=2011-06-15",
                "X-Amz-Algorithm=AWS4-HMAC-SHA256",
                "X-Amz-SignedHeaders=host%3Bx-k8s-aws-id",
                &format!("X-Amz-Signature={digits}"),
            ];
            let usual = pairs.iter().find(|pair| pair.starts_with(&format!("{}=", param.name())));
            let text = usual.map_or_else(|| format!("{}=", param.name()), |pair| String::from(*pair));
            let (known, form) = param.usual_head(text.as_bytes()).unwrap();
            assert_eq!(known, text.len(), "{text}");
            let start = param.name().len() + 1;
            let scanned = scan(text.as_bytes(), start, Form::Plain, false).unwrap();
            assert!(scanned == (known, form), "{text}");
            let name = scan(text.as_bytes(), 0, Form::Plain, true).unwrap();
            assert!(name == (start - 1, Form::Plain), "{text}");
        }
    }

    #[test]
    fn each_byte_is_a_stop_or_unreserved() {
        for byte in 0..=u8::MAX {
            let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            assert_eq!(is_unreserved(byte), unreserved, "{byte:#x}");
        }
    }

    fn canonical(query: &str) -> Option<String> {
        let params = Params::parse(query.as_bytes()).ok()?;
        let (mut quick, mut slow) = (String::new(), String::new());
        SignedQuery::new(query.as_bytes(), &params).write_canonical(&mut quick).unwrap();
        params.write_canonical(&mut slow).unwrap();
        assert_eq!(quick, slow, "{query}");
        Some(quick)
    }

    #[test]
    fn a_canonical_query_is_signed_as_received() {
        let query = "Action=A&Version=1&X-Amz-Date=%2F&X-Amz-SignedHeaders=a%3Bb&X-Amz-Signature=00";
        let signed = query.strip_suffix("&X-Amz-Signature=00").unwrap();
        let as_received = |query: &str| Params::parse(query.as_bytes()).unwrap().canonical_end.is_some();
        assert!(as_received(query));
        assert_eq!(canonical(query).as_deref(), Some(signed));
        for (old, new) in [("%2F", "%2f"), ("%2F", "/"), ("%2F", "%41"), ("Action=A", "action=A"), ("=00", "=00&"), ("Action=A", "Action")]
        {
            let query = query.replacen(old, new, 1);
            assert!(!as_received(&query), "{query}");
            canonical(&query);
        }
        assert!(!as_received("Version=1&Action=A&X-Amz-Signature=00"), "not sorted");
        assert!(!as_received("Action=A&X-Amz-Signature=00&Version=1"), "the signature is not last");
        assert!(!as_received("&Action=A&X-Amz-Signature=00"), "an empty pair");
    }

    proptest::proptest! {
        #[test]
        fn a_value_is_encoded_byte_by_byte(value in "\\PC{0,80}") {
            let (mut quick, mut slow) = (String::new(), String::new());
            write_encoded(&value, &mut quick).unwrap();
            value.bytes().try_for_each(|byte| write_escaped(byte, &mut slow)).unwrap();
            proptest::prop_assert_eq!(quick, slow);
        }

        #[test]
        fn stops_are_all_that_is_not_unreserved(text in "[ -~\u{e9}]{0,150}", start in 0_usize..160) {
            let stops: Vec<_> = Stops::of(text.as_bytes(), start).collect();
            let expected = text.bytes().enumerate().skip(start).filter(|(_, byte)| !is_unreserved(*byte)).map(|(at, _)| at);
            proptest::prop_assert_eq!(stops, expected.collect::<Vec<_>>());
        }

        #[test]
        fn the_quick_way_to_the_canonical_query_is_the_slow_way(
            order in proptest::sample::subsequence(vec![0, 1, 2, 3, 4, 5, 6, 7, 8], 0..=9),
            values in proptest::collection::vec("([A-Za-z0-9._~-]|%2F|%3B|%2f|%41|[+/=:,]){0,40}", 9),
            swap in proptest::option::of((0_usize..9, 0_usize..9)),
        ) {
            let mut pairs: Vec<_> = order.iter().map(|at| format!("{}={}", Param::ALL[*at].name(), values[*at])).collect();
            if let Some((a, b)) = swap.filter(|(a, b)| *a.max(b) < pairs.len()) {
                pairs.swap(a, b);
            }
            proptest::prop_assert!(canonical(&pairs.join("&")).is_some());
        }
    }
}
