//! The one place where the snapshot in force is kept.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::snapshot::Snapshot;

/// Holds the snapshot in force. Readers never wait, and writers never wait for readers.
pub struct Store(ArcSwap<Snapshot>);

impl Store {
    /// A store with its first snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(snapshot))
    }

    /// The snapshot in force now. Not to be held across an await: it is cheap because few are held at a time.
    #[must_use]
    pub fn current(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// Puts another one in force: the next look-up sees all of it, and those under way none.
    pub fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.current()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Backend, BackendMode};

    #[test]
    fn a_look_up_sees_the_old_snapshot_or_the_new_one() {
        let store = Store::new(Snapshot::default());
        let before = store.current();
        let backend = Backend::new(BackendMode::MountedFile, Vec::new(), ["123456789012".into()].into(), Vec::new());
        store.publish(Snapshot::new(vec![backend], ["123456789012".into()].into()));
        assert!(!before.is_scrubbed("123456789012"));
        assert!(store.current().is_scrubbed("123456789012"));
    }
}
