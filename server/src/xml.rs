//! The subset of XML that AWS sends, read while it comes in.
//!
//! A declaration, elements with attributes, text. A comment, a CDATA section or a document type is not among it, and makes the answer somebody else's. What is held is the
//! path to where the reader stands and one text: a long answer takes no more memory than a short one.

/// Deepest nesting of elements that is followed; EC2's own is 11.
const MAX_DEPTH: usize = 32;

/// Longest tag, in bytes: AWS' have a namespace at most.
const TAG_MAX_BYTES: usize = 1024;

/// Longest text that is kept, in bytes: what is longer is no name and no code.
const TEXT_MAX_BYTES: usize = 1024;

/// Not the XML that AWS sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotXml;

/// What the reader comes by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event<'a> {
    /// An element begins.
    Entered,
    /// It ends. Its text as it is written, escapes included; none where it has elements inside, or is longer than anything of interest.
    Left(Option<&'a str>),
}

/// A reader, to which the document is pushed piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Names of the elements that are open, with `/` between.
    path: String,
    open: Vec<Open>,
    /// What was read of the text that is being read.
    text: Vec<u8>,
    is_cut: bool,
    /// What was read of the tag that is being read, without its `<`.
    tag: Option<Vec<u8>>,
    quote: Option<u8>,
    is_declared: bool,
    is_rooted: bool,
}

#[derive(Debug)]
struct Open {
    /// Length of the path before it.
    before: usize,
    has_elements: bool,
}

impl Reader {
    /// Reads on, and tells `seen` of each element with the path to it.
    ///
    /// # Errors
    ///
    /// [`NotXml`], after which there is no use in going on.
    pub(crate) fn push(&mut self, bytes: &[u8], mut seen: impl FnMut(&str, Event<'_>)) -> Result<(), NotXml> {
        for &byte in bytes {
            match &mut self.tag {
                Some(tag) => {
                    if tag.len() == TAG_MAX_BYTES {
                        return Err(NotXml);
                    }
                    tag.push(byte);
                    match (self.quote, byte) {
                        (Some(quote), byte) if byte == quote => self.quote = None,
                        (None, b'"' | b'\'') => self.quote = Some(byte),
                        (None, b'>') => {
                            let tag = self.tag.take().unwrap_or_default();
                            self.end_of_tag(std::str::from_utf8(&tag).map_err(|_| NotXml)?, &mut seen)?;
                        }
                        _ => {}
                    }
                }
                None if byte == b'<' => {
                    self.check_outside()?;
                    self.tag = Some(Vec::new());
                }
                None if self.text.len() == TEXT_MAX_BYTES => self.is_cut = true,
                None => self.text.push(byte),
            }
        }
        Ok(())
    }

    /// Whether all of a document was read.
    ///
    /// # Errors
    ///
    /// [`NotXml`].
    pub(crate) fn finish(&self) -> Result<(), NotXml> {
        self.check_outside()?;
        if self.is_rooted && self.open.is_empty() && self.tag.is_none() { Ok(()) } else { Err(NotXml) }
    }

    /// Outside of the root there is no text.
    fn check_outside(&self) -> Result<(), NotXml> {
        if self.open.is_empty() && (self.is_cut || !self.text.trim_ascii().is_empty()) { Err(NotXml) } else { Ok(()) }
    }

    fn end_of_tag(&mut self, tag: &str, seen: &mut impl FnMut(&str, Event<'_>)) -> Result<(), NotXml> {
        let (text, is_cut) = (std::mem::take(&mut self.text), std::mem::take(&mut self.is_cut));
        if let Some(closing) = tag.strip_prefix('/') {
            let name = closing.strip_suffix('>').ok_or(NotXml)?.trim_ascii_end();
            let Open { before, has_elements } = self.open.pop().ok_or(NotXml)?;
            if self.path.get(before..).map(|own| own.trim_start_matches('/')) != Some(name) {
                return Err(NotXml);
            }
            let text = if has_elements || is_cut { None } else { Some(std::str::from_utf8(&text).map_err(|_| NotXml)?) };
            seen(&self.path, Event::Left(text));
            self.path.truncate(before);
            return Ok(());
        }
        if tag.starts_with("?xml ") && tag.ends_with("?>") && !self.is_declared && !self.is_rooted {
            self.is_declared = true;
            return Ok(());
        }
        let (name, is_empty) = opening_tag(tag).ok_or(NotXml)?;
        match self.open.last_mut() {
            Some(parent) => parent.has_elements = true,
            None if self.is_rooted => return Err(NotXml),
            None => self.is_rooted = true,
        }
        if self.open.len() == MAX_DEPTH {
            return Err(NotXml);
        }
        let before = self.path.len();
        if before > 0 {
            self.path.push('/');
        }
        self.path.push_str(name);
        seen(&self.path, Event::Entered);
        if is_empty {
            seen(&self.path, Event::Left(Some("")));
            self.path.truncate(before);
        } else {
            self.open.push(Open { before, has_elements: false });
        }
        Ok(())
    }
}

/// The name in `name attributes>` or `name attributes/>`, and whether the element is empty.
fn opening_tag(tag: &str) -> Option<(&str, bool)> {
    let name_end = tag.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')))?;
    let (name, mut rest) = tag.split_at_checked(name_end)?;
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    loop {
        let trimmed = rest.trim_ascii_start();
        if matches!(trimmed, ">" | "/>") {
            return Some((name, trimmed == "/>"));
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

    fn read(document: &str, piece: usize) -> Result<Vec<String>, NotXml> {
        let (mut reader, mut seen) = (Reader::default(), Vec::new());
        for piece in document.as_bytes().chunks(piece) {
            reader.push(piece, |path, event| {
                if let Event::Left(text) = event {
                    seen.push(format!("{path}={}", text.unwrap_or("…")));
                }
            })?;
        }
        reader.finish().map(|()| seen)
    }

    #[test]
    fn tells_of_each_element_whatever_the_pieces() {
        let document = "<?xml version=\"1.0\"?>\n<a xmlns='x > y'>\n <b>1</b><b/><c d=\"e\">t<f>2 &amp; 3</f></c >\n</a>\n";
        let expected = ["a/b=1", "a/b=", "a/c/f=2 &amp; 3", "a/c=…", "a=…"];
        for piece in 1..document.len() {
            assert_eq!(read(document, piece).unwrap(), expected, "{piece}");
        }
    }

    #[test]
    fn takes_nothing_that_aws_does_not_send() {
        for document in [
            "",
            "x",
            "<a>",
            "</a>",
            "<a></b>",
            "<a></a>x",
            "x<a></a>",
            "<a/><b/>",
            "<a><!-- x --></a>",
            "<!DOCTYPE a><a/>",
            "<a><![CDATA[x]]></a>",
            "<a b=c/>",
            "<a b='c'd='e'/>",
            "<a b='<'/>",
            "<1/>",
            "<a",
            "<a/><?xml version='1'?>",
            "<?xml version='1'?><?xml version='1'?><a/>",
            "<?php ?><a/>",
        ] {
            assert_eq!(read(document, 1), Err(NotXml), "{document}");
        }
    }

    #[test]
    fn holds_no_more_than_its_bounds() {
        let long = "x".repeat(TEXT_MAX_BYTES + 1);
        assert_eq!(read(&format!("<a><b>{long}</b><c>{}</c></a>", &long[1..]), 64).unwrap()[0], "a/b=…");
        assert_eq!(read(&format!("<a b='{long}'/>"), 64), Err(NotXml));
        let deep = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(read(&deep(MAX_DEPTH), 64).is_ok() && read(&deep(MAX_DEPTH + 1), 64).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut reader = Reader::default();
            let _ = reader.push(&bytes, |_, _| {});
            let _ = reader.finish();
        }

        #[test]
        fn no_tags_make_it_panic(text in r#"(<|>|/|\?xml |\?>|=|"|'| |a|b|é){0,40}"#) {
            let _ = read(&text, 3);
        }
    }
}
