//! The file that settings come from, and how to read it again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Config, ConfigError, ConfigErrors, Environment, Loaded, Overrides, load_document, read_file};
use crate::document::Place;
use crate::document::tree::Value;
use crate::watch::Looks;

/// A file of settings, with all that counts beside it.
#[derive(Clone)]
pub struct Origin {
    path: PathBuf,
    looks: Looks,
    overrides: Overrides,
    environment: Environment,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(&self.path).finish()
    }
}

impl Origin {
    /// To be called before the file is read: a change in between is then one more to come.
    pub(super) fn of(path: &Path, overrides: &Overrides, environment: &Environment) -> Self {
        let looks = Looks::of(&[path.to_owned()]);
        Self { path: path.to_owned(), looks, overrides: overrides.clone(), environment: environment.clone() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it looked before it was read.
    #[must_use]
    pub const fn looks(&self) -> &Looks {
        &self.looks
    }

    /// Reads it again, under the same flags and environment.
    ///
    /// # Errors
    ///
    /// Those of [`load`](super::load); and where there is nothing in it: with all that matters in flags that would be a start without mappings, but in a file that has
    /// changed it is one that somebody has begun to write.
    pub fn load(&self) -> Result<Loaded<Config>, ConfigErrors> {
        let document = read_file(&self.path)?;
        if matches!(&document.node.value, Value::Map(entries) if entries.is_empty()) {
            let place = Place::File { file: Arc::clone(&document.file), position: None, key: String::new() };
            return Err(ConfigError { place, message: "there is nothing in it".to_owned() }.into());
        }
        load_document(Some(&document), &self.overrides, &self.environment)
    }
}
