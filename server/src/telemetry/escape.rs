//! The one escaper between outside text and every log line and terminal.
//!
//! Outside text is whatever somebody else chose: a session name, a path, a file's content, an answer of STS. What could move a cursor, end a
//! line, turn the reading direction or hide is written as `\u{…}`, so a reader sees that it was there, and a line stays a line. Nothing
//! is allocated, and the output is bounded.

use std::fmt;
use std::str;

/// Longest output for one piece of outside text, in bytes, before the `…` that says that more was there.
///
/// Every name that AWS hands out fits: a session name has 64 characters at most, a role's name 64, an access key id 128.
pub const OUTSIDE_MAX_BYTES: usize = 256;

/// Outside text, made harmless by its `Display`.
///
/// ```
/// use arngate_server::telemetry::escape::Escaped;
///
/// assert_eq!(Escaped("alice@example.com").to_string(), "alice@example.com");
/// assert_eq!(Escaped("\x1b[2J\n").to_string(), r"\u{1b}[2J\u{a}");
/// assert_eq!(Escaped::bytes(b"\xffabc").to_string(), r"\xffabc");
/// ```
///
/// A backslash stays as it is: this is for reading, not for reading back.
#[derive(Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl<'a> Escaped<'a> {
    /// The same for bytes that need not be UTF-8: those that are not come out as `\xff`.
    #[must_use]
    pub const fn bytes(bytes: &'a [u8]) -> EscapedBytes<'a> {
        EscapedBytes { bytes, max_bytes: OUTSIDE_MAX_BYTES }
    }

    /// The same text with another bound than [`OUTSIDE_MAX_BYTES`].
    #[must_use]
    pub const fn up_to(self, max_bytes: usize) -> EscapedBytes<'a> {
        EscapedBytes { bytes: self.0.as_bytes(), max_bytes }
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::bytes(self.0.as_bytes()).fmt(f)
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Outside bytes, made harmless by their `Display`; see [`Escaped`].
#[derive(Clone, Copy)]
pub struct EscapedBytes<'a> {
    bytes: &'a [u8],
    max_bytes: usize,
}

impl EscapedBytes<'_> {
    /// The same bytes with another bound, in bytes of output.
    #[must_use]
    pub const fn up_to(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }
}

impl fmt::Display for EscapedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        pieces(self.bytes, self.max_bytes, |piece| match piece {
            Piece::Plain(text) => f.write_str(text),
            Piece::Hidden(hidden) => write!(f, "{hidden}"),
        })
    }
}

impl fmt::Debug for EscapedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the output consists of. A format that quotes (text, JSON) quotes the plain pieces by its own rules.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// Text that can stand as it is.
    Plain(&'a str),
    /// The notation for something that cannot, or for the end.
    Hidden(Hidden),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Hidden {
    Char(char),
    NotUtf8(u8),
    More,
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Char(c) => write!(f, "{}", c.escape_unicode()),
            Self::NotUtf8(byte) => write!(f, "\\x{byte:02x}"),
            Self::More => f.write_str("…"),
        }
    }
}

/// Hands the pieces of `bytes` to `sink`, at most `max_bytes` of them before the `…`; a notation is never cut in two.
pub(crate) fn pieces<E>(bytes: &[u8], max_bytes: usize, mut sink: impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
    let mut left = max_bytes;
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(c) = rest.chars().next() {
            if is_hidden(c) {
                let Some(after) = left.checked_sub(c.escape_unicode().len()) else { return sink(Piece::Hidden(Hidden::More)) };
                left = after;
                sink(Piece::Hidden(Hidden::Char(c)))?;
                rest = rest.get(c.len_utf8()..).unwrap_or_default();
                continue;
            }
            let run = rest.find(is_hidden).unwrap_or(rest.len());
            let fits = rest.floor_char_boundary(run.min(left));
            let (plain, after) = rest.split_at(fits);
            if !plain.is_empty() {
                sink(Piece::Plain(plain))?;
            }
            if fits < run {
                return sink(Piece::Hidden(Hidden::More));
            }
            left -= fits;
            rest = after;
        }
        for byte in chunk.invalid() {
            let Some(after) = left.checked_sub(4) else { return sink(Piece::Hidden(Hidden::More)) };
            left = after;
            sink(Piece::Hidden(Hidden::NotUtf8(*byte)))?;
        }
    }
    Ok(())
}

/// What must not reach a terminal as it is.
///
/// All that has no glyph of its own: Unicode's control (C0, DEL, C1), format (bidirectional marks, zero-width, soft hyphen, tags), surrogate,
/// private and unassigned characters, line and paragraph separators, and blanks other than U+0020. That is what the standard library
/// escapes in `Debug`, and near enough what Go's `%q` does, so the logs that the reference writes and ours differ only in how the escape is
/// spelled. Beside these, the characters of other categories that Unicode wants ignored in display (`Default_Ignorable_Code_Point`,
/// <https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point>), and the blank Braille pattern: they make two names look like one.
fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    !is_printable(c)
        || matches!(c, '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}')
}

/// Whether the standard library calls a character printable.
///
/// `char::escape_debug` escapes combining marks too, lest they sit on the quote before them; within a text they do not, so the question is asked
/// about the second character of one.
fn is_printable(c: char) -> bool {
    let mut buffer = *b"a\0\0\0\0";
    let Some((_, second)) = buffer.split_first_mut() else { return false };
    let bytes = c.encode_utf8(second).len();
    buffer.get(..=bytes).and_then(|text| str::from_utf8(text).ok()).is_some_and(|text| text.escape_debug().nth(1) == Some(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_readable_text_alone() {
        for text in ["", "alice@example.com", r#"arn:aws:iam::123456789012:role/A-b_c+d=e,f.g "q" \ ~"#, "naïve 日本語 🦀 e\u{301}"] {
            assert_eq!(Escaped(text).to_string(), text);
        }
    }

    #[test]
    fn shows_what_could_move_a_cursor_end_a_line_or_turn_the_direction() {
        for (text, shown) in [
            ("\x1b[31mred", r"\u{1b}[31mred"),
            ("a\nb\r\nc\td\0", r"a\u{a}b\u{d}\u{a}c\u{9}d\u{0}"),
            ("\x7f\u{80}\u{85}\u{9b}31m", r"\u{7f}\u{80}\u{85}\u{9b}31m"),
            ("a\u{2028}b\u{2029}c", r"a\u{2028}b\u{2029}c"),
            ("nimda\u{202e}admin", r"nimda\u{202e}admin"),
            ("\u{feff}\u{ad}\u{2060}\u{180e}", r"\u{feff}\u{ad}\u{2060}\u{180e}"),
            ("a\u{a0}b\u{3000}c", r"a\u{a0}b\u{3000}c"),
            ("\u{34f}\u{115f}\u{3164}\u{ffa0}\u{fe0f}\u{e0100}\u{2800}", r"\u{34f}\u{115f}\u{3164}\u{ffa0}\u{fe0f}\u{e0100}\u{2800}"),
            ("\u{e000}\u{fffe}\u{10ffff}\u{e0001}", r"\u{e000}\u{fffe}\u{10ffff}\u{e0001}"),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
        }
    }

    #[test]
    fn hides_every_control_line_end_and_bidirectional_mark() {
        let controls = ('\0'..='\x1f').chain('\x7f'..='\u{9f}');
        let marks = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'].into_iter();
        let bidirectional = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        let zero_width = ('\u{200b}'..='\u{200d}').chain('\u{2060}'..='\u{2064}');
        for c in controls.chain(marks).chain(bidirectional).chain(zero_width) {
            assert!(is_hidden(c), "{}", c.escape_unicode());
        }
    }

    #[test]
    fn shows_bytes_that_are_not_utf8() {
        assert_eq!(Escaped::bytes(b"a\xff\xc3(\xe2\x82").to_string(), r"a\xff\xc3(\xe2\x82");
    }

    #[test]
    fn ends_at_256_bytes_without_cutting_a_character_or_an_escape() {
        assert_eq!(Escaped(&"a".repeat(256)).to_string(), "a".repeat(256));
        assert_eq!(Escaped(&"a".repeat(257)).to_string(), "a".repeat(256) + "…");
        assert_eq!(Escaped(&("a".repeat(255) + "é")).to_string(), "a".repeat(255) + "…");
        assert_eq!(Escaped(&("a".repeat(255) + "\n")).to_string(), "a".repeat(255) + "…");
        assert_eq!(Escaped(&("\n".repeat(100))).to_string(), r"\u{a}".repeat(51) + "…");
        assert_eq!(Escaped::bytes(&[0xff; 100]).to_string(), r"\xff".repeat(64) + "…");
        assert_eq!(Escaped("abc").up_to(2).to_string(), "ab…");
        assert_eq!(Escaped("abc").up_to(0).to_string(), "…");
    }

    proptest::proptest! {
        #[test]
        fn nothing_hidden_comes_out_and_the_bound_holds(bytes: Vec<u8>, max_bytes in 0_usize..400) {
            let shown = Escaped::bytes(&bytes).up_to(max_bytes).to_string();
            proptest::prop_assert!(!shown.contains(is_hidden), "{:?}", shown);
            proptest::prop_assert!(shown.strip_suffix('…').unwrap_or(&shown).len() <= max_bytes);
        }

        #[test]
        fn text_gives_the_same_as_its_bytes(text: String) {
            proptest::prop_assert_eq!(Escaped(&text).to_string(), Escaped::bytes(text.as_bytes()).to_string());
        }
    }
}
