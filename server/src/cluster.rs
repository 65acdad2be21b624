//! A cluster: all that decides who may be what in it, as one value.
//!
//! Nothing about a cluster is global, so that one process can serve several: whoever answers a request is given an `Arc<Cluster>`.

use std::sync::Arc;

use crate::mapping::Store;
use crate::prover::Realm;

/// Who proves tokens for a cluster, and how identities are mapped there.
#[derive(Debug)]
pub struct Cluster {
    /// Its id, its AWS, and its provers; shared with the proofs under way.
    pub realm: Arc<Realm>,
    /// Its mappings, of which a look-up takes the snapshot in force.
    pub mappings: Store,
}
