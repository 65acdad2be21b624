//! A cluster: all that decides who may be what in it, as one value.
//!
//! Nothing about a cluster is global, so that one process can serve several: whoever answers a request is given an `Arc<Cluster>`.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;

use crate::clock::Clock;
use crate::ec2;
use crate::flight::{Flights, Limits};
use crate::identity_cache::{Digester, IdentityCache, NoRandom, Settings};
use crate::mapping::Store;
use crate::metrics::{Level, Levels};
use crate::prover::{ProveError, Realm, VerifiedIdentity};

/// What a flight comes to.
pub type Landed = Result<Arc<VerifiedIdentity>, ProveError>;

/// Who proves tokens for a cluster, who is known there, and how identities are mapped.
#[derive(Debug)]
pub struct Cluster {
    /// Its id, its AWS, and its provers; shared with the proofs under way.
    pub realm: Arc<Realm>,
    /// Makes the names under which identities are cached.
    pub digester: Digester,
    /// Who was proved lately.
    pub identities: IdentityCache,
    /// The proofs under way.
    pub flights: Arc<Flights<Landed>>,
    /// Its mappings, of which a look-up takes the snapshot in force.
    pub mappings: Arc<Store>,
    /// What its nodes are called, where a mapping wants to know.
    pub ec2: ec2::Names,
    /// Tells a proof that has come back how late it is.
    pub clock: Arc<dyn Clock>,
}

/// What a [`Cluster`] is made from.
#[derive(Debug)]
pub struct Parts {
    /// Who proves.
    pub realm: Realm,
    /// Its mappings.
    pub mappings: Arc<Store>,
    /// How identities are kept.
    pub cache: Settings,
    /// How many proofs at once.
    pub flights: Limits,
    /// Counts identities that make room.
    pub evictions: Counter,
    /// Looks up names of EC2 instances.
    pub ec2: ec2::Names,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl Cluster {
    /// Puts a cluster together, with nobody known.
    ///
    /// # Errors
    ///
    /// [`NoRandom`]: there would be no key for the cache.
    pub fn new(parts: Parts) -> Result<Self, NoRandom> {
        let Parts { realm, mappings, cache, flights, evictions, ec2, clock } = parts;
        Ok(Self {
            digester: Digester::new(realm.cluster_id())?,
            realm: Arc::new(realm),
            identities: IdentityCache::new(cache, evictions),
            flights: Arc::new(Flights::new(flights)),
            mappings,
            ec2,
            clock,
        })
    }
}

impl Levels for Cluster {
    fn levels(&self) -> Level {
        let (sizes, counts) = (self.identities.sizes(), self.flights.counts());
        Level {
            entries: sizes.entries,
            bytes: sizes.bytes,
            max_bytes: sizes.max_bytes,
            refusals: sizes.refusals,
            flights: counts.flights,
            waiters: counts.waiters,
        }
    }
}
