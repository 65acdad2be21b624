//! Proof without AWS: a signature is checked with a key that we were given, derived for one day and one region.
//!
//! A [`Bundle`] says whose keys these are; a [`Keyring`] is where the one in force is kept. Temporary credentials cannot be proved here,
//! since nobody but AWS can open a session token.

mod bundle;
mod day;
mod file;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use self::bundle::{Bundle, DERIVED_DAYS_MAX, DailyKey, Derivation, KeyMaterial, Principal, PrincipalError, Verdict};
pub use self::day::Day;

/// The bundle in force. A reload swaps it; what is under way goes on with the one it began with.
#[derive(Debug)]
pub struct Keyring(ArcSwap<Bundle>);

impl Keyring {
    /// Begins with a bundle.
    #[must_use]
    pub fn new(bundle: Bundle) -> Self {
        Self(ArcSwap::from_pointee(bundle))
    }

    /// The bundle in force.
    #[must_use]
    pub fn current(&self) -> Arc<Bundle> {
        self.0.load_full()
    }

    /// Puts another in force.
    pub fn replace(&self, bundle: Bundle) {
        self.0.store(Arc::new(bundle));
    }
}
