//! From an identity to a Kubernetes user: backends with their mappings, as one snapshot that is swapped as a whole.
//!
//! What matches what is decided in [`arngate_core::mapping`]; here are indexes over it, the order of backends, and the sources. A source
//! makes a whole [`Backend`], never a change to one, so that a look-up sees the old mappings or the new ones and nothing between.

pub mod file;
mod snapshot;
mod store;

use std::fmt;

pub use snapshot::{Backend, Group, Mapped, Mapping, Names, Outcome, Snapshot};
pub use store::Store;

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

impl fmt::Display for BackendMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
