//! Percent-encoded text, as it stands in a query: read, compared and written.
//!
//! Rules that depend on spelling, all in this file:
//! - *Escapes*: `%` and two hex digits of either case; `+` is a blank (WHATWG URL, application/x-www-form-urlencoded, and Go's
//!   `net/url`, which the reference uses). AWS signs what it decodes, so two spellings of one value have one signature.
//! - *Separators*: `&` only. A raw `;` is refused, since parsers differ on it (Go refuses it, older ones split at it).

use core::{fmt, str};

use crate::Error;

/// How a text is spelled, from what is quickest to use to what takes most care.
///
/// A word, not a byte: a processor waits for a byte just written when it is read again together with its neighbours, as when an [`Encoded`] is
/// moved.
#[derive(Clone, Copy, Eq, PartialEq)]
#[repr(usize)]
pub(crate) enum Form {
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
    pub(crate) raw: &'a [u8],
    pub(crate) form: Form,
}

impl<'a> Encoded<'a> {
    pub(crate) const EMPTY: Self = Self { raw: b"", form: Form::Plain };

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
    pub(crate) fn write_canonical(&self, out: &mut impl WriteAscii) -> fmt::Result {
        match self.form {
            Form::Plain | Form::Canonical => out.write_ascii(self.raw),
            Form::Free => self.decoded().try_for_each(|byte| write_escaped(byte, out)),
        }
    }
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

/// Reads `text` from `start` on to the next `&`, or `=` for a name, or the end: where that is, and how the text before it is spelled, if what is
/// before `start` has the form `form`.
#[inline]
pub(crate) fn scan(text: &[u8], start: usize, mut form: Form, ends_at_equals: bool) -> Result<(usize, Form), Error> {
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

/// Writes text as AWS would.
pub(crate) fn write_encoded(text: &str, out: &mut impl fmt::Write) -> fmt::Result {
    let mut start = 0;
    for at in Stops::of(text.as_bytes(), 0) {
        // Nothing lies between the bytes of one character, for they are all stops.
        out.write_str(text.get(start..at).unwrap_or_default())?;
        text.as_bytes().get(at).map_or(Ok(()), |byte| write_escaped(*byte, out))?;
        start = at.saturating_add(1);
    }
    out.write_str(text.get(start..).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    impl WriteAscii for String {
        fn write_ascii(&mut self, text: &[u8]) -> fmt::Result {
            fmt::Write::write_str(self, str::from_utf8(text).unwrap())
        }
    }

    #[test]
    fn each_byte_is_a_stop_or_unreserved() {
        for byte in 0..=u8::MAX {
            let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            assert_eq!(is_unreserved(byte), unreserved, "{byte:#x}");
        }
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
    }
}
