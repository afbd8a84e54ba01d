//! What the members of a group should have: when that has to be made anew, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{Str, Uuid};

use super::assignment::Partitions;
use super::assignor::{Assignor, Spec, Subscriber};
use super::group::ConsumerGroup;
use crate::groups::catalog_view::{self, CatalogView};

pub fn metadata_hash(group: &ConsumerGroup, view: &dyn CatalogView) -> i64 {
    catalog_view::metadata_hash(group.subscribed_topics(), view)
}

/// Every partition of the topics that members subscribe to is one member's to have.
pub fn is_whole(group: &ConsumerGroup, view: &dyn CatalogView) -> bool {
    let mut given: BTreeSet<(Uuid, i32)> = BTreeSet::new();
    for (topic, partitions) in group.stored.targets.values().flat_map(|target| target.iter()) {
        if !partitions.iter().all(|partition| given.insert((*topic, *partition))) {
            return false;
        }
    }
    let topics = group.subscribed_topics().into_iter().filter_map(|name| view.topic(name));
    let all: usize = topics.map(|topic| topic.partition_count as usize).sum();
    given.len() == all
}

/// Topics by name, and a regular expression.
type Subscription<'a> = (&'a BTreeSet<Str>, &'a Option<Str>);

/// The targets that change.
pub fn assign(group: &ConsumerGroup, assignor: Assignor, view: &dyn CatalogView) -> Vec<(Str, Partitions)> {
    let mut partition_counts = BTreeMap::new();
    // Members mostly subscribe to the same.
    let mut known: BTreeMap<Subscription<'_>, Arc<BTreeSet<Uuid>>> = BTreeMap::new();
    let subscribers = group.stored.members.iter().map(|(id, member)| {
        let profile = &member.profile;
        let topics = known.entry((&profile.topics, &profile.pattern)).or_insert_with(|| {
            let topics = group.topics_of(profile).filter_map(|name| view.topic(name));
            let ids = topics.map(|topic| {
                partition_counts.insert(topic.id, topic.partition_count);
                topic.id
            });
            Arc::new(ids.collect())
        });
        Subscriber {
            member_id: id.clone(),
            instance_id: profile.instance_id.clone(),
            topics: topics.clone(),
            earlier: group.stored.target(id),
        }
    });
    let subscribers: Vec<Subscriber> = subscribers.collect();
    let spec = Spec { subscribers, partition_counts };
    let targets = spec.subscribers.iter().map(|one| one.member_id.clone()).zip(assignor.assign(&spec));
    let has_changed = |(id, target): &(Str, Partitions)| {
        group.stored.targets.get(id).is_none_or(|earlier| **earlier != *target)
    };
    targets.filter(has_changed).collect()
}
