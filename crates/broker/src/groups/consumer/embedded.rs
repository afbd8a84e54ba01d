//! What consumers of the classic protocol put into JoinGroup and SyncGroup: their subscription and their assignment.

use std::collections::BTreeSet;

use bytes::Bytes;
use protocol::Str;
use protocol::message::{Message, versioned_value};
use protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use protocol::messages::consumer_protocol_subscription::TopicPartition as OwnedTopic;
use protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use protocol::wire::Reader;

use super::assignment::Partitions;
use crate::groups::catalog_view::CatalogView;

#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    pub topics: BTreeSet<Str>,
    pub owned: Partitions,
    pub rack_id: Option<Str>,
}

/// None: not readable.
pub fn subscription(metadata: &Bytes, view: &dyn CatalogView) -> Option<Subscription> {
    let read = read::<ConsumerProtocolSubscription>(metadata)?;
    let named = read.owned_partitions.iter().map(|OwnedTopic { topic, partitions }| (topic, partitions));
    Some(Subscription {
        topics: read.topics.iter().map(Str::detached).collect(),
        owned: by_id(named, view),
        rack_id: read.rack_id.as_ref().filter(|rack| !rack.is_empty()).map(Str::detached),
    })
}

/// What a member got from its leader. None: not readable, or with something of an assignor's own that only that one understands.
pub fn assignment(assignment: &Bytes, view: &dyn CatalogView) -> Option<Partitions> {
    if assignment.is_empty() {
        return Some(Partitions::new());
    }
    let read = read::<ConsumerProtocolAssignment>(assignment)?;
    if read.user_data.is_some_and(|data| !data.is_empty()) {
        return None;
    }
    let named =
        read.assigned_partitions.iter().map(|AssignedTopic { topic, partitions }| (topic, partitions));
    Some(by_id(named, view))
}

/// An assignment as a member reads it that described itself with `metadata`. Topics that are gone are left out.
pub fn encode_assignment(partitions: &Partitions, metadata: &Bytes, view: &dyn CatalogView) -> Bytes {
    let topics = partitions.iter().filter_map(|(id, partitions)| {
        let topic = view.topic_by_id(*id)?.name;
        Some(AssignedTopic { topic, partitions: partitions.iter().copied().collect() })
    });
    let assignment = ConsumerProtocolAssignment { assigned_partitions: topics.collect(), user_data: None };
    versioned_value(version(metadata).unwrap_or(0), &assignment).expect("names and numbers of our own fit")
}

fn by_id<'a>(topics: impl Iterator<Item = (&'a Str, &'a Vec<i32>)>, view: &dyn CatalogView) -> Partitions {
    let known = topics.filter(|(_, partitions)| !partitions.is_empty());
    known
        .filter_map(|(name, partitions)| Some((view.topic(name)?.id, partitions.iter().copied().collect())))
        .collect()
}

/// The newest version that both sides know.
fn version(bytes: &Bytes) -> Option<i16> {
    let said = Reader::new(bytes.clone()).i16().ok()?;
    (said >= 0).then(|| said.min(*ConsumerProtocolSubscription::VERSIONS.end()))
}

/// A newer version begins like the newest that we know.
fn read<M: Message>(bytes: &Bytes) -> Option<M> {
    let version = version(bytes)?;
    let mut reader = Reader::new(bytes.slice(2..));
    M::decode(&mut reader, version).ok()
}
