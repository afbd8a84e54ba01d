//! The records of consumer groups in Kafka's formats: types 3 and 5 to 8, and 16 for regular expressions. Type 4, which held
//! the topics of a group before Kafka 4.1, is read past.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use protocol::message::{Message, RecordKey, decode_record_key, decode_versioned_value, versioned_value};
use protocol::messages::consumer_group_current_member_assignment_value as current;
use protocol::messages::consumer_group_member_metadata_value as profile;
use protocol::messages::consumer_group_target_assignment_member_value as target;
use protocol::messages::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey, ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue, ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
};
use protocol::wire::DecodeError;
use protocol::{Str, Uuid};

use super::assignment::{Assigned, Partitions};
use super::group::{Change, Epoch, Matches, TargetEpoch};
use super::member::{Classic, MemberState, Profile, Progress};
use crate::groups::event::GroupRecord;
use crate::groups::member::OfferedProtocol;

const VALUE_VERSION: i16 = 0;
const ENCODES: &str = "what was decoded from a frame fits into a record";

pub fn is_consumer_record(record_type: i16) -> bool {
    matches!(record_type, 3..=8 | ConsumerGroupRegularExpressionKey::RECORD_TYPE)
}

pub fn record(group: &Str, change: &Change) -> GroupRecord {
    let group_id = group.clone();
    match change {
        Change::Epoch(epoch) => written(
            &ConsumerGroupMetadataKey { group_id },
            epoch.map(|Epoch { epoch, metadata_hash }| ConsumerGroupMetadataValue { epoch, metadata_hash }),
        ),
        Change::TargetEpoch(epoch) => written(
            &ConsumerGroupTargetAssignmentMetadataKey { group_id },
            epoch.map(|TargetEpoch { epoch, at_ms }| ConsumerGroupTargetAssignmentMetadataValue {
                assignment_epoch: epoch,
                assignment_timestamp: at_ms,
            }),
        ),
        Change::Profile { member, profile } => written(
            &ConsumerGroupMemberMetadataKey { group_id, member_id: member.clone() },
            profile.as_deref().map(profile_value),
        ),
        Change::Target { member, partitions } => written(
            &ConsumerGroupTargetAssignmentMemberKey { group_id, member_id: member.clone() },
            partitions.as_deref().map(|partitions| ConsumerGroupTargetAssignmentMemberValue {
                topic_partitions: partitions.iter().map(target_topic).collect(),
            }),
        ),
        Change::Progress { member, progress } => written(
            &ConsumerGroupCurrentMemberAssignmentKey { group_id, member_id: member.clone() },
            progress.as_ref().map(progress_value),
        ),
        Change::Pattern { pattern, matches } => written(
            &ConsumerGroupRegularExpressionKey { group_id, regular_expression: pattern.clone() },
            matches.as_deref().map(|matches| ConsumerGroupRegularExpressionValue {
                topics: matches.topics.iter().cloned().collect(),
                version: matches.version,
                timestamp: matches.at_ms,
            }),
        ),
    }
}

fn written<K: RecordKey>(key: &K, value: Option<K::Value>) -> GroupRecord {
    GroupRecord {
        key: key.to_record_key().expect(ENCODES),
        value: value.map(|value| versioned_value(VALUE_VERSION, &value).expect(ENCODES)),
    }
}

fn profile_value(profile: &Profile) -> ConsumerGroupMemberMetadataValue {
    let protocol = |offered: &OfferedProtocol| profile::ClassicProtocol {
        name: offered.name.clone(),
        metadata: offered.metadata.clone(),
    };
    ConsumerGroupMemberMetadataValue {
        instance_id: profile.instance_id.clone(),
        rack_id: profile.rack_id.clone(),
        client_id: profile.client_id.clone(),
        client_host: profile.client_host.clone(),
        subscribed_topic_names: profile.topics.iter().cloned().collect(),
        // Kafka writes "" for none.
        subscribed_topic_regex: Some(profile.pattern.clone().unwrap_or_default()),
        rebalance_timeout_ms: profile.rebalance_timeout_ms,
        server_assignor: profile.assignor.clone(),
        classic_member_metadata: profile.classic.as_ref().map(|classic| profile::ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic.protocols.iter().map(protocol).collect(),
        }),
    }
}

fn target_topic((topic, partitions): (&Uuid, &BTreeSet<i32>)) -> target::TopicPartition {
    target::TopicPartition { topic_id: *topic, partitions: partitions.iter().copied().collect() }
}

fn progress_value(progress: &Progress) -> ConsumerGroupCurrentMemberAssignmentValue {
    let topic = |(topic, partitions): (&Uuid, &BTreeMap<i32, i32>)| current::TopicPartitions {
        topic_id: *topic,
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: Some(partitions.values().copied().collect()),
    };
    ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: progress.epoch,
        previous_member_epoch: progress.previous_epoch,
        state: progress.state.code(),
        assigned_partitions: progress.assigned.iter().map(topic).collect(),
        partitions_pending_revocation: progress.pending_revocation.iter().map(topic).collect(),
    }
}

/// A record as it was read back: the group, and what changed. No change: a record of a kind that is no longer used.
pub fn read(
    record_type: i16,
    key: &Bytes,
    value: Option<&Bytes>,
) -> Result<(Str, Option<Change>), DecodeError> {
    let (group, change) = match record_type {
        ConsumerGroupMetadataKey::RECORD_TYPE => {
            let key = read_key::<ConsumerGroupMetadataKey>(key)?;
            let value = read_value::<ConsumerGroupMetadataValue>(value)?;
            let epoch = value.map(|value| Epoch { epoch: value.epoch, metadata_hash: value.metadata_hash });
            (key.group_id, Some(Change::Epoch(epoch)))
        }
        ConsumerGroupTargetAssignmentMetadataKey::RECORD_TYPE => {
            let key = read_key::<ConsumerGroupTargetAssignmentMetadataKey>(key)?;
            let value = read_value::<ConsumerGroupTargetAssignmentMetadataValue>(value)?;
            let epoch = value.map(|value| TargetEpoch {
                epoch: value.assignment_epoch,
                at_ms: value.assignment_timestamp,
            });
            (key.group_id, Some(Change::TargetEpoch(epoch)))
        }
        ConsumerGroupMemberMetadataKey::RECORD_TYPE => {
            let key = read_key::<ConsumerGroupMemberMetadataKey>(key)?;
            let value = read_value::<ConsumerGroupMemberMetadataValue>(value)?;
            let profile = value.map(|value| Arc::new(read_profile(value)));
            (key.group_id, Some(Change::Profile { member: key.member_id.detached(), profile }))
        }
        ConsumerGroupTargetAssignmentMemberKey::RECORD_TYPE => {
            let key = read_key::<ConsumerGroupTargetAssignmentMemberKey>(key)?;
            let value = read_value::<ConsumerGroupTargetAssignmentMemberValue>(value)?;
            let partitions = value.map(|value| Arc::new(read_target(value)));
            (key.group_id, Some(Change::Target { member: key.member_id.detached(), partitions }))
        }
        ConsumerGroupCurrentMemberAssignmentKey::RECORD_TYPE => {
            let key = read_key::<ConsumerGroupCurrentMemberAssignmentKey>(key)?;
            let value = read_value::<ConsumerGroupCurrentMemberAssignmentValue>(value)?;
            let progress = value.map(read_progress);
            (key.group_id, Some(Change::Progress { member: key.member_id.detached(), progress }))
        }
        ConsumerGroupRegularExpressionKey::RECORD_TYPE => {
            let key = read_key::<ConsumerGroupRegularExpressionKey>(key)?;
            let value = read_value::<ConsumerGroupRegularExpressionValue>(value)?;
            let matches = value.map(|value| Arc::new(read_matches(value)));
            let pattern = key.regular_expression.detached();
            (key.group_id, Some(Change::Pattern { pattern, matches }))
        }
        _ => (read_key::<ConsumerGroupPartitionMetadataKey>(key)?.group_id, None),
    };
    // Detached: the record stands in a large read buffer that must not stay because of a name.
    Ok((group.detached(), change))
}

fn read_key<K: Message>(key: &Bytes) -> Result<K, DecodeError> {
    Ok(decode_record_key::<K>(key)?.1)
}

fn read_value<V: Message>(value: Option<&Bytes>) -> Result<Option<V>, DecodeError> {
    value.map(|value| Ok(decode_versioned_value::<V>(value)?.1)).transpose()
}

fn read_profile(value: ConsumerGroupMemberMetadataValue) -> Profile {
    let owned = |text: Option<Str>| text.map(|text| text.detached());
    let protocol = |offered: profile::ClassicProtocol| OfferedProtocol {
        name: offered.name.detached(),
        metadata: Bytes::copy_from_slice(&offered.metadata),
    };
    Profile {
        instance_id: owned(value.instance_id),
        rack_id: owned(value.rack_id),
        client_id: value.client_id.detached(),
        client_host: value.client_host.detached(),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        topics: value.subscribed_topic_names.iter().map(Str::detached).collect(),
        pattern: owned(value.subscribed_topic_regex).filter(|pattern| !pattern.is_empty()),
        assignor: owned(value.server_assignor),
        classic: value.classic_member_metadata.map(|classic| Classic {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.supported_protocols.into_iter().map(protocol).collect(),
        }),
    }
}

fn read_target(value: ConsumerGroupTargetAssignmentMemberValue) -> Partitions {
    let topics = value.topic_partitions.into_iter().filter(|topic| !topic.partitions.is_empty());
    topics.map(|topic| (topic.topic_id, topic.partitions.into_iter().collect())).collect()
}

fn read_progress(value: ConsumerGroupCurrentMemberAssignmentValue) -> Progress {
    let member_epoch = value.member_epoch;
    let assigned = |topics: Vec<current::TopicPartitions>| -> Assigned {
        let topics = topics.into_iter().filter(|topic| !topic.partitions.is_empty());
        topics.map(|topic| (topic.topic_id, with_epochs(topic, member_epoch))).collect()
    };
    Progress {
        epoch: member_epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::from_code(value.state),
        assigned: assigned(value.assigned_partitions),
        pending_revocation: assigned(value.partitions_pending_revocation),
    }
}

/// Older releases did not write the epoch of each partition: it counts as the member's, and as 0 for one that is away.
fn with_epochs(topic: current::TopicPartitions, member_epoch: i32) -> BTreeMap<i32, i32> {
    let epochs = topic.assignment_epochs.filter(|epochs| epochs.len() == topic.partitions.len());
    match epochs {
        Some(epochs) => topic.partitions.into_iter().zip(epochs).collect(),
        None => topic.partitions.into_iter().map(|partition| (partition, member_epoch.max(0))).collect(),
    }
}

fn read_matches(value: ConsumerGroupRegularExpressionValue) -> Matches {
    Matches {
        topics: value.topics.iter().map(Str::detached).collect(),
        version: value.version,
        at_ms: value.timestamp,
    }
}
