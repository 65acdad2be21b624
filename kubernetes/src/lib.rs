//! Mappings that live in a Kubernetes cluster.
//!
//! ```text
//! connection   kubeconfig, or what a pod is given ─► client, made when it is first used and anew when it failed
//! request      one question with its answer, or the lines of a watch, within bounds of time and size
//! watch        list, then watch, for ever ─► Sink          pace says how long to wait in between
//!   aws_auth           EKSConfigMap ─► arngate_server::mapping::config_map ─► Reports
//!   identity_mapping   CRD ─► arngate_server::mapping::crd ─► Reports; statuses
//! event        Kubernetes Events about what could not be read
//! config_map, edit     aws-auth for whoever changes it: `arngate add` and `arngate remove`; entry is what they add or remove
//! ```
//!
//! It is a package of its own so that the server library, its tests and benches do not wait for `kube`. Of an object a few fields are read and the rest is
//! skipped: the process lives in 20 MiB. What is needed of the API server is no more than the reference needs.

mod aws_auth;
mod config_map;
mod connection;
pub mod edit;
mod entry;
mod event;
#[cfg(test)]
mod followed;
mod identity_mapping;
mod pace;
mod request;
#[cfg(test)]
mod scripted;
mod told;
mod trouble;
mod watch;

use std::sync::Arc;

use arngate_server::clock::Clock;
use arngate_server::mapping::{BackendMode, Followers, Options};

pub use config_map::{AwsAuthText, Written, difference};
pub use connection::{Access, Connection};
pub use trouble::Trouble;

/// What those who follow a source may write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writes {
    /// Nothing: for whoever only looks.
    Nothing,
    /// What a server does: the statuses of custom resources, and Events about what cannot be read.
    StatusesAndEvents,
}

/// Has the modes EKSConfigMap and CRD followed through one connection, which is made when one of them is first in force.
pub fn add_followers(followers: &mut Followers, access: Access, options: Options, clock: &Arc<dyn Clock>, writes: Writes) {
    let connection = Arc::new(Connection::new(access));
    let (aws_auth, its_clock) = (Arc::clone(&connection), Arc::clone(clock));
    followers.insert(BackendMode::EksConfigMap, move |reports| {
        aws_auth::follow(Arc::clone(&aws_auth), options, Arc::clone(&its_clock), writes, reports)
    });
    let clock = Arc::clone(clock);
    followers.insert(BackendMode::Crd, move |reports| {
        identity_mapping::follow(Arc::clone(&connection), options, Arc::clone(&clock), writes, reports)
    });
}
