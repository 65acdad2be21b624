//! Proof without AWS: a signature is checked with a key that we were given, derived for one day and one region.
//!
//! A [`Bundle`] says whose keys these are; a [`Keyring`] is where the one in force is kept. Temporary credentials cannot be proved here,
//! since nobody but AWS can open a session token.

mod bundle;
mod day;
mod file;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

pub use self::bundle::{Bundle, DERIVED_DAYS_MAX, DailyKey, Derivation, KeyMaterial, Principal, PrincipalError, Verdict};
pub use self::day::Day;

/// The bundle in force. A reload swaps it; what is under way goes on with the one it began with.
#[derive(Debug)]
pub struct Keyring {
    bundle: ArcSwap<Bundle>,
    generation: AtomicU64,
}

impl Keyring {
    /// Begins with a bundle.
    #[must_use]
    pub fn new(bundle: Bundle) -> Self {
        Self { bundle: ArcSwap::from_pointee(bundle), generation: AtomicU64::new(0) }
    }

    /// The bundle in force.
    #[must_use]
    pub fn current(&self) -> Arc<Bundle> {
        self.bundle.load_full()
    }

    /// How often the bundle was replaced. Whoever reads it *before* [`current`](Self::current) never takes what an old bundle proved for what the new one
    /// says: a bundle is there before its generation is.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Puts another in force.
    pub fn replace(&self, bundle: Bundle) {
        self.bundle.store(Arc::new(bundle));
        self.generation.fetch_add(1, Ordering::Release);
    }
}
