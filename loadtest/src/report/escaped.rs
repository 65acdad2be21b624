//! The one place through which text from outside gets into a page.

use std::fmt::{self, Write as _};

/// Text, as it may stand between tags and in quoted attributes of HTML and of the SVG within.
///
/// Control characters, and those that turn the direction of what stands beside them, are shown as U+FFFD.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' => f.write_char('\n')?,
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}')?,
                control if control.is_control() => f.write_char('\u{fffd}')?,
                plain => f.write_char(plain)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_means_something_to_a_browser_comes_through() {
        assert_eq!(Escaped(r#"<b a="1" c='2'>&amp;"#).to_string(), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;");
        assert_eq!(Escaped("a\0\u{1b}[2J\u{202e}b\n").to_string(), "a\u{fffd}\u{fffd}[2J\u{fffd}b\n");
    }
}
