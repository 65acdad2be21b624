//! Tests that need what is not ours: shown as ignored, with the reason, where that is absent, and failing there once `ARNGATE_REQUIRE` has its name.

use std::env;
use std::path::PathBuf;

use libtest_mimic::{Failed, Trial};

/// A program, or several that go together, that may be there.
pub(crate) struct Foreign<T = PathBuf> {
    /// What `ARNGATE_REQUIRE` calls it.
    name: &'static str,
    found: Option<T>,
    absence: &'static str,
}

impl<T: Clone + Send + 'static> Foreign<T> {
    pub(crate) const fn new(name: &'static str, found: Option<T>, absence: &'static str) -> Self {
        Self { name, found, absence }
    }

    pub(crate) fn trial(&self, name: &str, test: impl FnOnce(&T) -> Result<(), Failed> + Send + 'static) -> Trial {
        let (found, absence) = (self.found.clone(), self.absence);
        let is_absent = found.is_none();
        let trial = Trial::test(name, move || found.map_or_else(|| Err(absence.into()), |found| test(&found)));
        let trial = if is_absent { trial.with_kind(absence) } else { trial };
        trial.with_ignored_flag(is_absent && !is_required(self.name))
    }
}

fn is_required(name: &str) -> bool {
    env::var("ARNGATE_REQUIRE").is_ok_and(|list| list.split(',').any(|required| required.trim() == name))
}

/// The reference's program.
pub(crate) fn reference() -> Option<PathBuf> {
    match env::var_os("ARNGATE_REFERENCE").filter(|path| !path.is_empty()) {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
        None => in_path("aws-iam-authenticator"),
    }
}

/// The first program of that name in `PATH`.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}
