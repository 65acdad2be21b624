//! From an identity to a Kubernetes user: backends with their mappings, as one snapshot that is swapped as a whole.
//!
//! What matches what is decided in [`arngate_core::mapping`]; here are indexes over it, the order of backends, and the sources. A source
//! makes a whole [`Backend`], never a change to one, so that a look-up sees the old mappings or the new ones and nothing between.
//!
//! ```text
//! file, dynamic_file, config_map, crd   bytes or objects ─► entry ─► Read (backend, findings)      pure: no I/O
//! source::Follow          reads whenever the source changes ─► Reports ─► Store
//! Store                   backends and policy ─► Snapshot ─► look_up
//! ```

mod arena;
mod backend;
pub mod config_map;
pub mod crd;
pub mod dynamic_file;
mod entry;
pub mod explain;
pub mod file;
mod given;
mod head;
pub mod lint;
pub mod manifest;
pub(crate) mod mode_file;
mod snapshot;
pub mod source;
mod stamp;
mod store;

use std::fmt;

use crate::document::Shown;
use crate::document::reader::distance;

pub use arena::Held;
pub use backend::Backend;
pub use entry::{Options, SsoEntries};
pub(crate) use entry::{account_ids, partition_named};
pub use given::{Mapping, Names};
pub use snapshot::{Group, Mapped, Outcome, Slot, Snapshot};
pub use source::{Finding, Follow, Followers, Following, NotFollowed, Read, Reports, Severity};
pub use store::{Draft, Policy, Store};

/// Where mappings come from.
///
/// upstream: `BackendModeChoices` in pkg/mapper/mapper.go.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum BackendMode {
    /// Objects of a custom resource.
    Crd,
    /// A file of its own.
    DynamicFile,
    /// The ConfigMap `kube-system/aws-auth`.
    EksConfigMap,
    /// The configuration file.
    MountedFile,
}

impl BackendMode {
    /// All modes, in the order in which the reference lists them.
    pub const ALL: [Self; 4] = [Self::MountedFile, Self::EksConfigMap, Self::Crd, Self::DynamicFile];

    /// Its name in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crd => "CRD",
            Self::DynamicFile => "DynamicFile",
            Self::EksConfigMap => "EKSConfigMap",
            Self::MountedFile => "MountedFile",
        }
    }
}

/// The mode of that name, or of a name that it had before.
///
/// upstream: `BackendModeChoices` and `DeprecatedBackendModeChoices` in pkg/mapper/mapper.go.
///
/// # Errors
///
/// A sentence that lists them.
pub(crate) fn backend_mode_named(name: &str) -> Result<BackendMode, String> {
    let known = match name {
        "ConfigMap" => Some(BackendMode::EksConfigMap),
        "File" => Some(BackendMode::MountedFile),
        _ => BackendMode::ALL.into_iter().find(|mode| mode.name() == name),
    };
    known.ok_or_else(|| {
        let names = BackendMode::ALL.map(BackendMode::name);
        let lower = name.to_ascii_lowercase();
        let near = names.into_iter().find(|known| distance(&known.to_ascii_lowercase(), &lower) <= 2);
        let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        format!("expected a backend mode, one of {}, found {}{hint}", names.join(", "), Shown(name))
    })
}

impl fmt::Display for BackendMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
