//! The one place where the snapshot in force is kept, and what it is made from.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::BackendMode;
use super::backend::Backend;
use super::snapshot::Snapshot;

/// What decides over the backends, whatever they hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// The modes in force, in the order in which they are asked.
    pub modes: Vec<BackendMode>,
    /// What the names that a backend gives must not begin with.
    pub reserved_prefixes: HashMap<BackendMode, Vec<String>>,
    /// Accounts whose principals stay out of logs, uid and extra.
    pub scrubbed_accounts: HashSet<String>,
}

impl Policy {
    /// These modes, with nothing reserved and nobody scrubbed.
    #[must_use]
    pub fn of(modes: impl Into<Vec<BackendMode>>) -> Self {
        Self { modes: modes.into(), ..Self::default() }
    }
}

/// What the next snapshot is made from.
#[derive(Debug)]
pub struct Draft {
    /// The policy.
    pub policy: Policy,
    loaded: HashMap<BackendMode, Arc<Backend>>,
}

impl Draft {
    /// Puts all that a source holds in the place of what it held before.
    pub fn put(&mut self, mode: BackendMode, backend: impl Into<Arc<Backend>>) {
        self.loaded.insert(mode, backend.into());
    }

    /// Forgets what a source held: it is not loaded.
    pub fn forget(&mut self, mode: BackendMode) {
        self.loaded.remove(&mode);
    }
}

/// Holds the snapshot in force. Readers never wait; writers wait for each other, so that none takes back what another has put in.
pub struct Store {
    current: ArcSwap<Snapshot>,
    draft: Mutex<Draft>,
}

impl Store {
    /// A store where nothing is loaded yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let draft = Draft { policy, loaded: HashMap::new() };
        Self { current: ArcSwap::from_pointee(Snapshot::new(&draft.policy, &draft.loaded)), draft: Mutex::new(draft) }
    }

    /// The snapshot in force now. Not to be held across an await: it is cheap because few are held at a time.
    #[must_use]
    pub fn current(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Puts all that a source holds in force: the next look-up sees all of it, and those under way none.
    pub fn publish(&self, mode: BackendMode, backend: impl Into<Arc<Backend>>) {
        let backend = backend.into();
        self.update(|draft| draft.put(mode, backend));
    }

    /// Changes policy and backends as one: no look-up sees a part of it.
    pub fn update(&self, edit: impl FnOnce(&mut Draft)) {
        // An edit that panicked has put in what is whole, or nothing.
        let mut draft = self.draft.lock().unwrap_or_else(PoisonError::into_inner);
        edit(&mut draft);
        self.current.store(Arc::new(Snapshot::new(&draft.policy, &draft.loaded)));
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

    const ACCOUNT: &str = "123456789012";

    fn accounts() -> Backend {
        Backend::new(Vec::new(), [ACCOUNT.into()].into())
    }

    #[test]
    fn a_look_up_sees_the_old_snapshot_or_the_new_one() {
        let store = Store::new(Policy::of([BackendMode::MountedFile]));
        let before = store.current();
        store.update(|draft| {
            draft.put(BackendMode::MountedFile, accounts());
            draft.policy.scrubbed_accounts = [ACCOUNT.into()].into();
        });
        assert!(!before.is_scrubbed(ACCOUNT) && before.slots()[0].backend().is_none());
        let now = store.current();
        assert!(now.is_scrubbed(ACCOUNT) && now.slots()[0].backend().is_some_and(|backend| backend.has_account(ACCOUNT)));
    }

    #[test]
    fn what_one_source_holds_is_no_other_s_business() {
        let store = Store::new(Policy::of([BackendMode::EksConfigMap, BackendMode::Crd]));
        let missing = || store.current().missing().collect::<Vec<_>>();
        assert_eq!(missing(), [BackendMode::EksConfigMap, BackendMode::Crd]);
        store.publish(BackendMode::Crd, accounts());
        assert_eq!(missing(), [BackendMode::EksConfigMap]);
        store.publish(BackendMode::EksConfigMap, accounts().with_gaps());
        assert_eq!(missing(), [BackendMode::EksConfigMap], "a part of it is not known");
        store.publish(BackendMode::EksConfigMap, accounts());
        assert_eq!(missing(), []);
        store.update(|draft| draft.policy.modes = vec![BackendMode::MountedFile, BackendMode::Crd]);
        assert_eq!(missing(), [BackendMode::MountedFile]);
        store.update(|draft| draft.forget(BackendMode::Crd));
        assert_eq!(missing(), [BackendMode::MountedFile, BackendMode::Crd]);
    }
}
