//! Maps whose keys are hashes themselves: keyed ones of this process, which nobody outside can choose, so that hashing them again would only take time.

use std::hash::{BuildHasherDefault, Hasher};

/// Takes the number that a key writes for its hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnHash(u64);

impl Hasher for OwnHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys that are hashes write a number; this is for the trait alone.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Makes an [`OwnHash`] for each look-up.
pub(crate) type BuildOwnHash = BuildHasherDefault<OwnHash>;
