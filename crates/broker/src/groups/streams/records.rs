//! The records of streams groups in Kafka's formats: types 17 and 19 to 23. Type 18, which held the topics of a group in early
//! releases, is read past.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::Str;
use protocol::message::{Message, RecordKey, decode_record_key, decode_versioned_value, versioned_value};
use protocol::messages::streams_group_current_member_assignment_value as current;
use protocol::messages::streams_group_member_metadata_value as profile;
use protocol::messages::streams_group_metadata_value::LastAssignmentConfig;
use protocol::messages::streams_group_target_assignment_member_value as target;
use protocol::messages::{
    StreamsGroupCurrentMemberAssignmentKey, StreamsGroupCurrentMemberAssignmentValue,
    StreamsGroupMemberMetadataKey, StreamsGroupMemberMetadataValue, StreamsGroupMetadataKey,
    StreamsGroupMetadataValue, StreamsGroupTargetAssignmentMemberKey,
    StreamsGroupTargetAssignmentMemberValue, StreamsGroupTargetAssignmentMetadataKey,
    StreamsGroupTargetAssignmentMetadataValue, StreamsGroupTopologyKey, StreamsGroupTopologyValue,
};
use protocol::wire::DecodeError;

use super::group::{Change, Epoch, TargetEpoch};
use super::member::{Endpoint, MemberState, Profile, Progress};
use super::tasks::{DatedTasks, HeldTasks, TaskSets, Tasks};
use super::topology::Topology;
use crate::groups::event::GroupRecord;

const VALUE_VERSION: i16 = 0;
const ENCODES: &str = "what was decoded from a frame fits into a record";

pub fn is_streams_record(record_type: i16) -> bool {
    matches!(record_type, StreamsGroupMetadataKey::RECORD_TYPE | 19..=StreamsGroupTopologyKey::RECORD_TYPE)
}

pub fn record(group: &Str, change: &Change) -> GroupRecord {
    let group_id = group.clone();
    match change {
        Change::Epoch(epoch) => {
            written(&StreamsGroupMetadataKey { group_id }, epoch.as_deref().map(epoch_value))
        }
        Change::Topology(topology) => {
            written(&StreamsGroupTopologyKey { group_id }, topology.as_deref().map(Topology::value))
        }
        Change::TargetEpoch(epoch) => written(
            &StreamsGroupTargetAssignmentMetadataKey { group_id },
            epoch.map(|TargetEpoch { epoch, at_ms }| StreamsGroupTargetAssignmentMetadataValue {
                assignment_epoch: epoch,
                assignment_timestamp: at_ms,
            }),
        ),
        Change::Profile { member, profile } => written(
            &StreamsGroupMemberMetadataKey { group_id, member_id: member.clone() },
            profile.as_deref().map(profile_value),
        ),
        Change::Target { member, tasks } => written(
            &StreamsGroupTargetAssignmentMemberKey { group_id, member_id: member.clone() },
            tasks.as_deref().map(|tasks| StreamsGroupTargetAssignmentMemberValue {
                active_tasks: target_tasks(&tasks.active),
                standby_tasks: target_tasks(&tasks.standby),
                warmup_tasks: target_tasks(&tasks.warmup),
            }),
        ),
        Change::Progress { member, progress } => written(
            &StreamsGroupCurrentMemberAssignmentKey { group_id, member_id: member.clone() },
            progress.as_deref().map(progress_value),
        ),
    }
}

fn written<K: RecordKey>(key: &K, value: Option<K::Value>) -> GroupRecord {
    GroupRecord {
        key: key.to_record_key().expect(ENCODES),
        value: value.map(|value| versioned_value(VALUE_VERSION, &value).expect(ENCODES)),
    }
}

fn epoch_value(epoch: &Epoch) -> StreamsGroupMetadataValue {
    let config = |(key, value): (&Str, &Str)| LastAssignmentConfig { key: key.clone(), value: value.clone() };
    StreamsGroupMetadataValue {
        epoch: epoch.epoch,
        metadata_hash: epoch.metadata_hash,
        validated_topology_epoch: epoch.validated_topology_epoch,
        last_assignment_configs: Some(epoch.assignment_configs.iter().map(config).collect()),
        ..StreamsGroupMetadataValue::default()
    }
}

fn profile_value(profile: &Profile) -> StreamsGroupMemberMetadataValue {
    let tag = |(key, value): (&Str, &Str)| profile::KeyValue { key: key.clone(), value: value.clone() };
    let endpoint = |at: &Endpoint| profile::Endpoint { host: at.host.clone(), port: at.port };
    StreamsGroupMemberMetadataValue {
        instance_id: profile.instance_id.clone(),
        rack_id: profile.rack_id.clone(),
        client_id: profile.client_id.clone(),
        client_host: profile.client_host.clone(),
        rebalance_timeout_ms: profile.rebalance_timeout_ms,
        topology_epoch: profile.topology_epoch,
        process_id: profile.process_id.clone(),
        user_endpoint: profile.endpoint.as_ref().map(endpoint),
        client_tags: profile.client_tags.iter().map(tag).collect(),
    }
}

fn target_tasks(tasks: &Tasks) -> Vec<target::TaskIds> {
    let of_subtopology = |(id, tasks): (&Str, &std::collections::BTreeSet<i32>)| target::TaskIds {
        subtopology_id: id.clone(),
        partitions: tasks.iter().copied().collect(),
    };
    tasks.iter().map(of_subtopology).collect()
}

fn progress_value(progress: &Progress) -> StreamsGroupCurrentMemberAssignmentValue {
    let dated = |tasks: &DatedTasks| -> Vec<current::TaskIds> {
        let of_subtopology = |(id, tasks): (&Str, &BTreeMap<i32, i32>)| current::TaskIds {
            subtopology_id: id.clone(),
            partitions: tasks.keys().copied().collect(),
            assignment_epochs: Some(tasks.values().copied().collect()),
        };
        tasks.iter().map(of_subtopology).collect()
    };
    let plain = |tasks: &Tasks| -> Vec<current::TaskIds> {
        let of_subtopology = |(id, tasks): (&Str, &std::collections::BTreeSet<i32>)| current::TaskIds {
            subtopology_id: id.clone(),
            partitions: tasks.iter().copied().collect(),
            assignment_epochs: None,
        };
        tasks.iter().map(of_subtopology).collect()
    };
    let Progress { epoch, previous_epoch, state, held, pending_revocation } = progress;
    StreamsGroupCurrentMemberAssignmentValue {
        member_epoch: *epoch,
        previous_member_epoch: *previous_epoch,
        state: state.code(),
        active_tasks: dated(&held.active),
        standby_tasks: plain(&held.standby),
        warmup_tasks: plain(&held.warmup),
        active_tasks_pending_revocation: dated(&pending_revocation.active),
        standby_tasks_pending_revocation: plain(&pending_revocation.standby),
        warmup_tasks_pending_revocation: plain(&pending_revocation.warmup),
    }
}

/// A record as it was read back: the group, and what changed. No change: a record that says nothing that can be understood.
pub fn read(
    record_type: i16,
    key: &Bytes,
    value: Option<&Bytes>,
) -> Result<(Str, Option<Change>), DecodeError> {
    let (group, change) = match record_type {
        StreamsGroupMetadataKey::RECORD_TYPE => {
            let key = read_key::<StreamsGroupMetadataKey>(key)?;
            let epoch =
                read_value::<StreamsGroupMetadataValue>(value)?.map(|value| Arc::new(read_epoch(value)));
            (key.group_id, Some(Change::Epoch(epoch)))
        }
        StreamsGroupTopologyKey::RECORD_TYPE => {
            let key = read_key::<StreamsGroupTopologyKey>(key)?;
            // A copy: its names are slices of it, and it stands in a large read buffer.
            let value = value.map(|value| Bytes::copy_from_slice(value));
            match read_value::<StreamsGroupTopologyValue>(value.as_ref())?.map(Topology::of) {
                Some(Err(refusal)) => {
                    // Nobody of us has written it, and Kafka could not read it either. Its members bring it anew.
                    tracing::warn!(group = %key.group_id, why = refusal.message, "a topology in __consumer_offsets");
                    (key.group_id, None)
                }
                Some(Ok(topology)) => (key.group_id, Some(Change::Topology(Some(Arc::new(topology))))),
                None => (key.group_id, Some(Change::Topology(None))),
            }
        }
        StreamsGroupTargetAssignmentMetadataKey::RECORD_TYPE => {
            let key = read_key::<StreamsGroupTargetAssignmentMetadataKey>(key)?;
            let value = read_value::<StreamsGroupTargetAssignmentMetadataValue>(value)?;
            let epoch = value.map(|value| TargetEpoch {
                epoch: value.assignment_epoch,
                at_ms: value.assignment_timestamp,
            });
            (key.group_id, Some(Change::TargetEpoch(epoch)))
        }
        StreamsGroupMemberMetadataKey::RECORD_TYPE => {
            let key = read_key::<StreamsGroupMemberMetadataKey>(key)?;
            let value = read_value::<StreamsGroupMemberMetadataValue>(value)?;
            let profile = value.map(|value| Arc::new(read_profile(value)));
            (key.group_id, Some(Change::Profile { member: key.member_id.detached(), profile }))
        }
        StreamsGroupTargetAssignmentMemberKey::RECORD_TYPE => {
            let key = read_key::<StreamsGroupTargetAssignmentMemberKey>(key)?;
            let value = read_value::<StreamsGroupTargetAssignmentMemberValue>(value)?;
            let tasks = value.map(|value| {
                Arc::new(TaskSets {
                    active: read_target(value.active_tasks),
                    standby: read_target(value.standby_tasks),
                    warmup: read_target(value.warmup_tasks),
                })
            });
            (key.group_id, Some(Change::Target { member: key.member_id.detached(), tasks }))
        }
        _ => {
            let key = read_key::<StreamsGroupCurrentMemberAssignmentKey>(key)?;
            let value = read_value::<StreamsGroupCurrentMemberAssignmentValue>(value)?;
            let progress = value.map(|value| Arc::new(read_progress(value)));
            (key.group_id, Some(Change::Progress { member: key.member_id.detached(), progress }))
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

fn read_epoch(value: StreamsGroupMetadataValue) -> Epoch {
    let configs = value.last_assignment_configs.unwrap_or_default().into_iter();
    Epoch {
        epoch: value.epoch,
        metadata_hash: value.metadata_hash,
        validated_topology_epoch: value.validated_topology_epoch,
        assignment_configs: configs.map(|one| (one.key.detached(), one.value.detached())).collect(),
    }
}

fn read_profile(value: StreamsGroupMemberMetadataValue) -> Profile {
    let owned = |text: Option<Str>| text.map(|text| text.detached());
    let tags = value.client_tags.into_iter();
    Profile {
        instance_id: owned(value.instance_id),
        rack_id: owned(value.rack_id),
        client_id: value.client_id.detached(),
        client_host: value.client_host.detached(),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        topology_epoch: value.topology_epoch,
        process_id: value.process_id.detached(),
        endpoint: value.user_endpoint.map(|at| Endpoint { host: at.host.detached(), port: at.port }),
        client_tags: tags.map(|tag| (tag.key.detached(), tag.value.detached())).collect(),
    }
}

fn read_target(tasks: Vec<target::TaskIds>) -> Tasks {
    let tasks = tasks.into_iter().filter(|one| !one.partitions.is_empty());
    tasks.map(|one| (one.subtopology_id.detached(), one.partitions.into_iter().collect())).collect()
}

fn read_progress(value: StreamsGroupCurrentMemberAssignmentValue) -> Progress {
    let member_epoch = value.member_epoch;
    let dated = |tasks: Vec<current::TaskIds>| -> DatedTasks {
        let tasks = tasks.into_iter().filter(|one| !one.partitions.is_empty());
        tasks.map(|one| (one.subtopology_id.detached(), with_epochs(one, member_epoch))).collect()
    };
    let plain = |tasks: Vec<current::TaskIds>| -> Tasks {
        let tasks = tasks.into_iter().filter(|one| !one.partitions.is_empty());
        tasks.map(|one| (one.subtopology_id.detached(), one.partitions.into_iter().collect())).collect()
    };
    Progress {
        epoch: member_epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::from_code(value.state),
        held: HeldTasks {
            active: dated(value.active_tasks),
            standby: plain(value.standby_tasks),
            warmup: plain(value.warmup_tasks),
        },
        pending_revocation: HeldTasks {
            active: dated(value.active_tasks_pending_revocation),
            standby: plain(value.standby_tasks_pending_revocation),
            warmup: plain(value.warmup_tasks_pending_revocation),
        },
    }
}

/// Older releases did not write the epoch of each task: it counts as the member's.
fn with_epochs(tasks: current::TaskIds, member_epoch: i32) -> BTreeMap<i32, i32> {
    let epochs = tasks.assignment_epochs.filter(|epochs| epochs.len() == tasks.partitions.len());
    match epochs {
        Some(epochs) => tasks.partitions.into_iter().zip(epochs).collect(),
        None => tasks.partitions.into_iter().map(|task| (task, member_epoch.max(0))).collect(),
    }
}
