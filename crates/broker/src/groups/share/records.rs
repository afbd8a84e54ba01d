//! The records of share groups in Kafka's formats: types 10 to 15.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::message::{Message, RecordKey, decode_record_key, decode_versioned_value, versioned_value};
use protocol::messages::share_group_current_member_assignment_value::TopicPartitions as CurrentTopic;
use protocol::messages::share_group_state_partition_metadata_value::{TopicInfo, TopicPartitionsInfo};
use protocol::messages::share_group_target_assignment_member_value::TopicPartition as TargetTopic;
use protocol::messages::{
    ShareGroupCurrentMemberAssignmentKey, ShareGroupCurrentMemberAssignmentValue,
    ShareGroupMemberMetadataKey, ShareGroupMemberMetadataValue, ShareGroupMetadataKey,
    ShareGroupMetadataValue, ShareGroupStatePartitionMetadataKey, ShareGroupStatePartitionMetadataValue,
    ShareGroupTargetAssignmentMemberKey, ShareGroupTargetAssignmentMemberValue,
    ShareGroupTargetAssignmentMetadataKey, ShareGroupTargetAssignmentMetadataValue,
};
use protocol::wire::DecodeError;
use protocol::{Str, Uuid};

use super::group::{Change, Profile, Progress};
use super::states::{States, TopicStates};
use crate::groups::consumer::{Epoch, Partitions, TargetEpoch};
use crate::groups::event::GroupRecord;

const VALUE_VERSION: i16 = 0;
/// Kafka's `MemberState.STABLE`: a member of a share group has no other.
const STABLE: i8 = 0;
const ENCODES: &str = "what was decoded from a frame fits into a record";

pub fn is_share_record(record_type: i16) -> bool {
    (ShareGroupMemberMetadataKey::RECORD_TYPE..=ShareGroupStatePartitionMetadataKey::RECORD_TYPE)
        .contains(&record_type)
}

pub fn record(group: &Str, change: &Change) -> GroupRecord {
    let group_id = group.clone();
    match change {
        Change::Epoch(epoch) => written(
            &ShareGroupMetadataKey { group_id },
            epoch.map(|Epoch { epoch, metadata_hash }| ShareGroupMetadataValue { epoch, metadata_hash }),
        ),
        Change::TargetEpoch(epoch) => written(
            &ShareGroupTargetAssignmentMetadataKey { group_id },
            epoch.map(|TargetEpoch { epoch, at_ms }| ShareGroupTargetAssignmentMetadataValue {
                assignment_epoch: epoch,
                assignment_timestamp: at_ms,
            }),
        ),
        Change::Profile { member, profile } => written(
            &ShareGroupMemberMetadataKey { group_id, member_id: member.clone() },
            profile.as_deref().map(|profile| ShareGroupMemberMetadataValue {
                rack_id: profile.rack_id.clone(),
                client_id: profile.client_id.clone(),
                client_host: profile.client_host.clone(),
                subscribed_topic_names: profile.topics.iter().cloned().collect(),
            }),
        ),
        Change::Target { member, partitions } => written(
            &ShareGroupTargetAssignmentMemberKey { group_id, member_id: member.clone() },
            partitions.as_deref().map(|partitions| ShareGroupTargetAssignmentMemberValue {
                topic_partitions: partitions
                    .iter()
                    .map(|(topic_id, partitions)| TargetTopic {
                        topic_id: *topic_id,
                        partitions: partitions.iter().copied().collect(),
                    })
                    .collect(),
            }),
        ),
        Change::Progress { member, progress } => written(
            &ShareGroupCurrentMemberAssignmentKey { group_id, member_id: member.clone() },
            progress.as_ref().map(|progress| ShareGroupCurrentMemberAssignmentValue {
                member_epoch: progress.epoch,
                previous_member_epoch: progress.previous_epoch,
                state: STABLE,
                assigned_partitions: progress
                    .assigned
                    .iter()
                    .map(|(topic_id, partitions)| CurrentTopic {
                        topic_id: *topic_id,
                        partitions: partitions.iter().copied().collect(),
                    })
                    .collect(),
            }),
        ),
        Change::States(states) => written(
            &ShareGroupStatePartitionMetadataKey { group_id },
            states.as_deref().map(|states| ShareGroupStatePartitionMetadataValue {
                initializing_topics: topics(&states.initializing),
                initialized_topics: topics(&states.initialized),
                deleting_topics: states
                    .deleting
                    .iter()
                    .map(|(topic_id, name)| TopicInfo { topic_id: *topic_id, topic_name: name.clone() })
                    .collect(),
            }),
        ),
    }
}

fn topics(topics: &BTreeMap<Uuid, TopicStates>) -> Vec<TopicPartitionsInfo> {
    let topic = |(topic_id, states): (&Uuid, &TopicStates)| TopicPartitionsInfo {
        topic_id: *topic_id,
        topic_name: states.name.clone(),
        partitions: states.partitions.iter().copied().collect(),
    };
    topics.iter().map(topic).collect()
}

fn written<K: RecordKey>(key: &K, value: Option<K::Value>) -> GroupRecord {
    GroupRecord {
        key: key.to_record_key().expect(ENCODES),
        value: value.map(|value| versioned_value(VALUE_VERSION, &value).expect(ENCODES)),
    }
}

/// A record as it was read back: the group, and what changed.
pub fn read(record_type: i16, key: &Bytes, value: Option<&Bytes>) -> Result<(Str, Change), DecodeError> {
    let (group, change) = match record_type {
        ShareGroupMetadataKey::RECORD_TYPE => {
            let key = read_key::<ShareGroupMetadataKey>(key)?;
            let value = read_value::<ShareGroupMetadataValue>(value)?;
            let epoch = value.map(|value| Epoch { epoch: value.epoch, metadata_hash: value.metadata_hash });
            (key.group_id, Change::Epoch(epoch))
        }
        ShareGroupTargetAssignmentMetadataKey::RECORD_TYPE => {
            let key = read_key::<ShareGroupTargetAssignmentMetadataKey>(key)?;
            let value = read_value::<ShareGroupTargetAssignmentMetadataValue>(value)?;
            let epoch = value.map(|value| TargetEpoch {
                epoch: value.assignment_epoch,
                at_ms: value.assignment_timestamp,
            });
            (key.group_id, Change::TargetEpoch(epoch))
        }
        ShareGroupMemberMetadataKey::RECORD_TYPE => {
            let key = read_key::<ShareGroupMemberMetadataKey>(key)?;
            let value = read_value::<ShareGroupMemberMetadataValue>(value)?;
            let profile = value.map(|value| {
                Arc::new(Profile {
                    rack_id: value.rack_id.map(|rack_id| rack_id.detached()),
                    client_id: value.client_id.detached(),
                    client_host: value.client_host.detached(),
                    topics: value.subscribed_topic_names.iter().map(Str::detached).collect(),
                })
            });
            (key.group_id, Change::Profile { member: key.member_id.detached(), profile })
        }
        ShareGroupTargetAssignmentMemberKey::RECORD_TYPE => {
            let key = read_key::<ShareGroupTargetAssignmentMemberKey>(key)?;
            let value = read_value::<ShareGroupTargetAssignmentMemberValue>(value)?;
            let partitions = value.map(|value| {
                let topics = value.topic_partitions.into_iter();
                Arc::new(partitions(topics.map(|topic| (topic.topic_id, topic.partitions))))
            });
            (key.group_id, Change::Target { member: key.member_id.detached(), partitions })
        }
        ShareGroupCurrentMemberAssignmentKey::RECORD_TYPE => {
            let key = read_key::<ShareGroupCurrentMemberAssignmentKey>(key)?;
            let value = read_value::<ShareGroupCurrentMemberAssignmentValue>(value)?;
            let progress = value.map(|value| {
                let topics = value.assigned_partitions.into_iter();
                Progress {
                    epoch: value.member_epoch,
                    previous_epoch: value.previous_member_epoch,
                    assigned: Arc::new(partitions(topics.map(|topic| (topic.topic_id, topic.partitions)))),
                }
            });
            (key.group_id, Change::Progress { member: key.member_id.detached(), progress })
        }
        _ => {
            let key = read_key::<ShareGroupStatePartitionMetadataKey>(key)?;
            let value = read_value::<ShareGroupStatePartitionMetadataValue>(value)?;
            (key.group_id, Change::States(value.map(|value| Arc::new(read_states(value)))))
        }
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

fn partitions(topics: impl Iterator<Item = (Uuid, Vec<i32>)>) -> Partitions {
    let topics = topics.filter(|(_, partitions)| !partitions.is_empty());
    topics.map(|(topic, partitions)| (topic, partitions.into_iter().collect())).collect()
}

fn read_states(value: ShareGroupStatePartitionMetadataValue) -> States {
    let topics = |topics: Vec<TopicPartitionsInfo>| {
        let topic = |topic: TopicPartitionsInfo| {
            let states = TopicStates {
                name: topic.topic_name.detached(),
                partitions: topic.partitions.into_iter().collect(),
                since_ms: None,
            };
            (topic.topic_id, states)
        };
        topics.into_iter().map(topic).collect()
    };
    let deleting = value.deleting_topics.into_iter();
    States {
        initializing: topics(value.initializing_topics),
        initialized: topics(value.initialized_topics),
        deleting: deleting.map(|topic| (topic.topic_id, topic.topic_name.detached())).collect(),
    }
}
