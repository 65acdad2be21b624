//! The region in which we run, which may only be learnt while we run already.

use std::sync::{Arc, OnceLock};

use arngate_core::endpoint::Fips;
use arngate_core::{Partition, StsHost};

use super::imds::Imds;

/// Our own region: told by a setting, or learnt once from the machine. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct OwnRegion {
    name: Arc<OnceLock<Box<str>>>,
    source: Option<Imds>,
}

impl OwnRegion {
    /// The region that somebody has told, if anybody has.
    #[must_use]
    pub fn told(name: Option<&str>) -> Self {
        Self { name: Arc::new(name.map_or_else(OnceLock::new, |name| OnceLock::from(Box::from(name)))), source: None }
    }

    /// None yet; [`Self::look_up`] asks the machine's metadata service.
    #[must_use]
    pub fn from_imds(source: Imds) -> Self {
        Self { name: Arc::default(), source: Some(source) }
    }

    /// The region, if it is known by now.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.name.get().map(|name| &**name)
    }

    /// Asks the metadata service once, where nobody has told the region; ends within a second. To be spawned: nobody waits for it.
    pub async fn look_up(self, partition: Partition) {
        let Some(source) = self.source.filter(|_| self.name.get().is_none()) else { return };
        match source.region().await {
            Ok(name) if StsHost::regional(partition, &name, Fips::No).is_ok() => {
                tracing::info!(region = name, "the machine's metadata service told our region");
                // Set nowhere else once it is shared, and if it were, that would be as good.
                let _ = self.name.set(name.into());
            }
            Ok(_) => tracing::warn!("the machine's metadata service told a region that is no name of one"),
            Err(error) => tracing::info!(%error, "no region from the machine's metadata service; server.region tells it"),
        }
    }
}
