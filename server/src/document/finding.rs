//! What is wrong with a document, and where.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

use super::tree::Position;
use crate::telemetry::escape::Escaped;

/// Errors and warnings that are kept of one load, each. A document of 1 MiB can be wrong in 100 000 places; nobody reads more than the first.
const KEPT: usize = 100;

/// Characters of a value that a message repeats.
const SHOWN_CHARS: usize = 80;

/// Bytes of a file's name that a message repeats: Linux' `PATH_MAX`, for of a long path it is the end that tells.
const FILE_MAX_BYTES: usize = 4096;

/// Where a value stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// In a file.
    File {
        /// The file's name, as it was given.
        file: Arc<str>,
        /// Line and column; none if it is about the whole file.
        position: Option<Position>,
        /// Path of keys, such as `server.mapRoles[3].rolearn`; empty if it is about the syntax.
        key: String,
    },
    /// A flag, with its dashes.
    Flag(&'static str),
    /// A variable of the environment.
    Environment(&'static str),
    /// Nowhere: something is missing.
    Nowhere,
}

impl Place {
    /// Line and column, if it has them.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        match self {
            Self::File { position, .. } => *position,
            Self::Environment(_) | Self::Flag(_) | Self::Nowhere => None,
        }
    }

    /// Where it is, for somebody who looks at the same document: `server.mapRoles[3] in line 12`; the file, where that is all there is to say.
    #[must_use]
    pub fn within(&self) -> String {
        match self {
            Self::File { position: Some(position), key, .. } => format!("{} in line {}", Escaped(key), position.line),
            Self::File { position: None, file, .. } => Escaped(file).to_string(),
            Self::Flag(name) | Self::Environment(name) => (*name).to_owned(),
            Self::Nowhere => String::new(),
        }
    }
}

/// Writes the place as the beginning of a message: `config.yaml:12: server.port: `, `--port: `. The file's name and the keys are outside text, and escaped.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, position, key } => {
                write!(f, "{}", Escaped(file).up_to(FILE_MAX_BYTES))?;
                if let Some(position) = position {
                    write!(f, ":{}", position.line)?;
                }
                f.write_str(": ")?;
                if key.is_empty() { Ok(()) } else { write!(f, "{}: ", Escaped(key)) }
            }
            Self::Flag(name) | Self::Environment(name) => write!(f, "{name}: "),
            Self::Nowhere => Ok(()),
        }
    }
}

/// Something that stops a start, or keeps the last good document.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{place}{message}")]
pub struct Error {
    /// Where.
    pub place: Place,
    /// What is wrong, and what was expected.
    pub message: String,
}

/// Something that an operator should know, and that stops nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// Where.
    pub place: Place,
    /// What will not do what its author may think.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.place, self.message)
    }
}

/// All errors of one load, at least one; displayed one a line.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct Errors(pub Vec<Error>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl From<Error> for Errors {
    fn from(error: Error) -> Self {
        Self(vec![error])
    }
}

/// Gathers errors and warnings while a document is read.
#[derive(Debug, Default)]
pub struct Findings {
    errors: RefCell<Vec<Error>>,
    errors_noted: Cell<usize>,
    warnings: RefCell<Vec<Warning>>,
}

impl Findings {
    /// Notes an error.
    pub fn error(&self, place: Place, message: impl Into<String>) {
        self.errors_noted.set(self.errors_noted.get().saturating_add(1));
        let mut errors = self.errors.borrow_mut();
        if errors.len() < KEPT {
            errors.push(Error { place, message: message.into() });
        } else if errors.len() == KEPT {
            errors.push(Error { place: Place::Nowhere, message: format!("more errors; these are the first {KEPT}") });
        }
    }

    /// Notes a warning.
    pub fn warn(&self, place: Place, message: impl Into<String>) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < KEPT {
            warnings.push(Warning { place, message: message.into() });
        } else if warnings.len() == KEPT {
            warnings.push(Warning { place: Place::Nowhere, message: format!("more warnings; these are the first {KEPT}") });
        }
    }

    /// How many errors were noted, also of those that are not kept.
    #[must_use]
    pub fn errors_noted(&self) -> usize {
        self.errors_noted.get()
    }

    /// Notes errors of somebody else.
    pub fn extend(&self, errors: Errors) {
        for error in errors.0 {
            self.error(error.place, error.message);
        }
    }

    /// The warnings, if there was no error; in the order of their lines, and what is not about a line before all that is.
    ///
    /// # Errors
    ///
    /// All errors that were noted.
    pub fn into_result(self) -> Result<Vec<Warning>, Errors> {
        let (errors, warnings) = self.into_parts();
        if errors.0.is_empty() { Ok(warnings) } else { Err(errors) }
    }

    /// All errors and all warnings, for whoever leaves out what is wrong and takes the rest; ordered as those of [`into_result`](Self::into_result).
    #[must_use]
    pub fn into_parts(self) -> (Errors, Vec<Warning>) {
        let (mut errors, mut warnings) = (self.errors.into_inner(), self.warnings.into_inner());
        // What lies behind the kept ones says that there are more, and stays last.
        let kept = errors.len().min(KEPT);
        errors[..kept].sort_by_key(|error| error.place.position());
        let kept = warnings.len().min(KEPT);
        warnings[..kept].sort_by_key(|warning| warning.place.position());
        (Errors(errors), warnings)
    }
}

/// Text from a document in a message: quoted, control characters and marks of direction escaped, cut at 80 characters.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(SHOWN_CHARS).map_or(self.0.len(), |(index, _)| index);
        let (head, tail) = self.0.split_at(end);
        write!(f, "{head:?}{}", if tail.is_empty() { "" } else { "…" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: &str) -> Place {
        Place::File { file: "config.yaml".into(), position: Some(Position { line: 12, column: 3 }), key: key.into() }
    }

    #[test]
    fn says_where_before_what() {
        let error = Error { place: place("server.port"), message: "no number".into() };
        assert_eq!(error.to_string(), "config.yaml:12: server.port: no number");
        let errors = Errors(vec![error, Error { place: Place::Flag("--port"), message: "no number".into() }]);
        assert_eq!(errors.to_string(), "config.yaml:12: server.port: no number\n--port: no number");
    }

    #[test]
    fn keeps_no_more_than_anybody_reads() {
        let findings = Findings::default();
        for _ in 0..1000 {
            findings.error(place("x"), "wrong");
        }
        let errors = findings.into_result().unwrap_err();
        assert_eq!(errors.0.len(), KEPT + 1);
        assert_eq!(errors.0.last().unwrap().to_string(), "more errors; these are the first 100");
    }

    #[test]
    fn shows_no_control_characters_and_no_marks_of_direction() {
        assert_eq!(Shown("a\u{1b}[2J\n\u{202e}b").to_string(), r#""a\u{1b}[2J\n\u{202e}b""#);
        let file = Arc::from("a\u{1b}[2J\n\u{202e}b'");
        let place = Place::File { file, position: None, key: "c\u{1b}[2J\n\u{202e}d'".into() };
        assert_eq!(place.to_string(), r"a\u{1b}[2J\u{a}\u{202e}b': c\u{1b}[2J\u{a}\u{202e}d': ");
        let long = "x".repeat(1000);
        assert_eq!(Place::File { file: "".into(), position: None, key: long.clone() }.to_string().len(), ": ".len() + 256 + "…: ".len());
        assert_eq!(Shown(&long).to_string().chars().count(), SHOWN_CHARS + 3);
    }
}
