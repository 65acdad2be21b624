//! The names that are known: bounded, and each for a while. Pure: the time is given.
//!
//! An instance keeps its private DNS name for as long as it lives, so that a name that was known may stand in while EC2 cannot be asked.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};

use super::request::InstanceId;

/// Names that are kept: more than the nodes that a cluster may have. Some 200 bytes each, when there are so many. upstream: `maxChannelSize` in pkg/ec2provider.
const NAMES: usize = 8192;

/// How long EC2 is not asked again. The reference asks once, for ever; but an instance that has ended should not be let in for as long as we run.
pub(super) const TTL: Duration = Duration::from_secs(60 * 60);

/// Ids of no instance that are kept, apart from the names: who makes some up pushes out no name.
const UNKNOWN: usize = 1024;

/// How long. Short, for EC2 may not tell at once of an instance that has just been launched; and as a denial is final for the API server, it is asked for again by the
/// node itself, seconds later.
pub(super) const UNKNOWN_TTL: Duration = Duration::from_secs(5);

/// Shards, each with a lock of its own. By itself the cache would take four for each processor, which it counts in the files of the control group; and where there are
/// many, a shard would hold two or three ids.
const SHARDS: usize = 4;

/// What is known of an instance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Known {
    /// Its name.
    Name(Arc<str>),
    /// Its name as it was; EC2 is to be asked again.
    Old(Arc<str>),
    /// That there is none.
    Unknown,
    /// Nothing.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Names {
    names: Cache<InstanceId, (Arc<str>, Duration)>,
    unknown: Cache<InstanceId, Duration>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { names: cache(NAMES), unknown: cache(UNKNOWN) }
    }

    pub(super) fn get(&self, id: &InstanceId, now: Duration) -> Known {
        if self.unknown.get(id).is_some_and(|until| now < until) {
            return Known::Unknown;
        }
        match self.names.get(id) {
            Some((name, until)) if now < until => Known::Name(name),
            Some((name, _)) => Known::Old(name),
            None => Known::Nothing,
        }
    }

    pub(super) fn named(&self, id: InstanceId, name: Arc<str>, now: Duration) {
        self.unknown.remove(&id);
        self.names.insert(id, (name, now.saturating_add(TTL)));
    }

    /// There is no such instance, or none any more.
    pub(super) fn unknown(&self, id: InstanceId, now: Duration) {
        self.names.remove(&id);
        self.unknown.insert(id, now.saturating_add(UNKNOWN_TTL));
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

/// So many ids at most, and what is kept of each.
fn cache<V: Clone>(ids: usize) -> Cache<InstanceId, V> {
    let options = OptionsBuilder::new().estimated_items_capacity(ids).weight_capacity(ids as u64).shards(SHARDS).build();
    let options = options.expect("capacity and estimate are set, which is all that can be missing");
    Cache::with_options(options, UnitWeighter, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> InstanceId {
        InstanceId::parse(&format!("i-{number:08x}")).unwrap()
    }

    const NOON: Duration = Duration::from_secs(1000);

    #[test]
    fn a_name_is_known_for_an_hour_and_then_stands_in() {
        let names = Names::new();
        assert_eq!(names.get(&id(1), NOON), Known::Nothing);
        names.named(id(1), "a".into(), NOON);
        let just_before = NOON + TTL - Duration::from_nanos(1);
        assert_eq!([just_before, NOON + TTL].map(|now| names.get(&id(1), now)), [Known::Name("a".into()), Known::Old("a".into())]);
    }

    #[test]
    fn an_unknown_instance_is_unknown_for_five_seconds_and_has_no_name_any_more() {
        let names = Names::new();
        names.named(id(1), "a".into(), NOON);
        names.unknown(id(1), NOON);
        let just_before = NOON + UNKNOWN_TTL - Duration::from_nanos(1);
        assert_eq!([just_before, NOON + UNKNOWN_TTL].map(|now| names.get(&id(1), now)), [Known::Unknown, Known::Nothing]);
        // And once it is there, it is there.
        names.named(id(1), "a".into(), NOON + UNKNOWN_TTL);
        assert_eq!(names.get(&id(1), NOON + UNKNOWN_TTL), Known::Name("a".into()));
    }

    #[test]
    fn ids_that_are_made_up_push_out_no_name_and_take_no_room() {
        let names = Names::new();
        for number in 0..5000 {
            names.named(id(number), "a".into(), NOON);
        }
        let before = names.len();
        for number in 10_000..200_000 {
            names.unknown(id(number), NOON);
        }
        assert_eq!(names.len(), before);
        assert!(names.unknown.len() <= UNKNOWN, "{}", names.unknown.len());
        for number in 200_000..300_000 {
            names.named(id(number), "a".into(), NOON);
        }
        assert!(names.len() <= NAMES, "{}", names.len());
    }
}
