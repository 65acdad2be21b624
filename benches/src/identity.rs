//! An identity of usual size, proved in place.

use std::sync::Arc;
use std::time::Duration;

use arngate_core::{Partition, TokenBuffer};
use arngate_server::clock::Now;
use arngate_server::prover::offline::{Bundle, Day, Derivation, Keyring};
use arngate_server::prover::{AtHand, Chain, Prover, Realm, VerifiedIdentity};

use crate::{Case, NOW};

/// An identity whose ARN, ids and host are 170 bytes together, and when it was proved.
#[must_use]
pub fn usual() -> (VerifiedIdentity, Now) {
    let now = Now { unix: NOW, monotonic: Duration::ZERO };
    let prove = || -> Option<VerifiedIdentity> {
        let derivation = Derivation {
            access_key_id: "AKIAIOSFODNN7EXAMPLE",
            secret: Case::SECRET.as_bytes(),
            arn: "arn:aws:iam::123456789012:user/platform/continuous-integration/workers/build-worker-0001@example.com",
            user_id: "AIDACKCEVSQ6C2EXAMPLE",
            regions: &[Case::REGION],
            first_day: Day::parse(Case::DAY)?,
            days: 1,
        };
        let keyring = Arc::new(Keyring::new(Bundle::derive(Partition::Aws, &derivation).ok()?));
        let realm = Realm::new(Case::CLUSTER, Partition::Aws, None, 300, Chain::new(vec![Prover::Offline(keyring)]).ok()?).ok()?;
        let (case, mut buffer) = (Case::key_500(), TokenBuffer::new());
        let request = realm.check(case.token.as_bytes(), &mut buffer, NOW).ok()?;
        match realm.prove_at_hand(&request, now) {
            AtHand::Decided(proved) => proved.ok(),
            AtHand::Ask(_) => None,
        }
    };
    let identity = prove().unwrap_or_else(|| unreachable!("made of constants"));
    (identity, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_as_long_as_it_says() {
        let (identity, _) = usual();
        let bytes = identity.memory_bytes() - size_of::<VerifiedIdentity>();
        assert!((165..=175).contains(&bytes), "{bytes}");
    }
}
