//! The records of `__consumer_offsets` in Kafka's own formats, so that tools that read the topic go on working.
//! Keys: type 1 (and the older 0, same layout) for offsets, type 2 for groups. Values: OffsetCommitValue 4 (1 when
//! the client gave the offset a time of its own), GroupMetadataValue 3, the versions Kafka 4.3 writes.

use bytes::Bytes;
use protocol::Str;
use protocol::message::{
    decode_record_key, decode_versioned_value, record_key, record_type, versioned_value,
};
use protocol::messages::group_metadata_value::MemberMetadata;
use protocol::messages::{GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue};
use protocol::wire::DecodeError;

use super::consumer;
use super::event::GroupRecord;
use super::group::Group;
use super::offset_store::{CommittedOffset, OffsetKey};
use super::share;
use super::streams;

const LEGACY_OFFSET_KEY: i16 = 0;
const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const GROUP_VALUE_VERSION: i16 = 3;
const OFFSET_VALUE_VERSION: i16 = 4;
/// The only version that knows `expire_timestamp`.
const EXPIRING_OFFSET_VALUE_VERSION: i16 = 1;

/// A record as it was read back.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadRecord {
    Group {
        group: Str,
        value: Option<(Bytes, GroupMetadataValue)>,
    },
    Offset {
        key: OffsetKey,
        value: Option<CommittedOffset>,
    },
    Consumer {
        group: Str,
        change: Option<consumer::Change>,
    },
    Streams {
        group: Str,
        change: Option<streams::Change>,
    },
    Share {
        group: Str,
        change: share::Change,
    },
    /// A record of a kind that we never write: other coordinators put theirs into the same topic.
    Other {
        record_type: i16,
    },
}

const ENCODES: &str = "what was decoded from a frame fits into a record";

pub fn group_record(group: &Str, value: &Bytes) -> GroupRecord {
    GroupRecord { key: group_key(group), value: Some(value.clone()) }
}

pub fn group_tombstone(group: &Str) -> GroupRecord {
    GroupRecord { key: group_key(group), value: None }
}

fn group_key(group: &Str) -> Bytes {
    record_key(GROUP_KEY, &GroupMetadataKey { group: group.clone() }).expect(ENCODES)
}

/// The value of a group's record, with the assignments as the leader gave them.
pub fn group_value<'a>(group: &Group, assignment_of: impl Fn(&Str) -> Bytes + 'a) -> Bytes {
    let protocol = group.protocol_name.clone().unwrap_or_default();
    let members = group.members.values().map(|member| MemberMetadata {
        member_id: member.id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.metadata(&protocol),
        assignment: assignment_of(&member.id),
    });
    let value = GroupMetadataValue {
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        generation: group.generation,
        protocol: group.protocol_name.clone(),
        leader: group.leader.clone(),
        current_state_timestamp: group.state_since_ms.unwrap_or(-1),
        members: members.collect(),
    };
    versioned_value(GROUP_VALUE_VERSION, &value).expect(ENCODES)
}

/// The value of a group that was only just made. Members may stand in it already; they are not in the record
/// before their first generation is.
pub fn new_group_value(group: &Group) -> Bytes {
    let value = GroupMetadataValue {
        protocol_type: Str::default(),
        generation: 0,
        protocol: None,
        leader: None,
        current_state_timestamp: group.state_since_ms.unwrap_or(-1),
        members: Vec::new(),
    };
    versioned_value(GROUP_VALUE_VERSION, &value).expect(ENCODES)
}

pub fn offset_record(key: &OffsetKey, committed: &CommittedOffset) -> GroupRecord {
    let version = match committed.expire_at_ms {
        Some(_) => EXPIRING_OFFSET_VALUE_VERSION,
        None => OFFSET_VALUE_VERSION,
    };
    let value = OffsetCommitValue {
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: committed.metadata.clone(),
        commit_timestamp: committed.committed_at_ms,
        expire_timestamp: committed.expire_at_ms.unwrap_or(-1),
        topic_id: committed.topic_id,
    };
    GroupRecord { key: offset_key(key), value: Some(versioned_value(version, &value).expect(ENCODES)) }
}

pub fn offset_tombstone(key: &OffsetKey) -> GroupRecord {
    GroupRecord { key: offset_key(key), value: None }
}

fn offset_key(key: &OffsetKey) -> Bytes {
    let key =
        OffsetCommitKey { group: key.group.clone(), topic: key.topic.clone(), partition: key.partition };
    record_key(OFFSET_KEY, &key).expect(ENCODES)
}

pub fn read(key: &Bytes, value: Option<&Bytes>) -> Result<ReadRecord, DecodeError> {
    match record_type(key)? {
        LEGACY_OFFSET_KEY | OFFSET_KEY => {
            let (_, key) = decode_record_key::<OffsetCommitKey>(key)?;
            // Detached: the record stands in a large read buffer that must not stay because of a name.
            let key = OffsetKey {
                group: key.group.detached(),
                topic: key.topic.detached(),
                partition: key.partition,
            };
            let value = match value {
                Some(value) => Some(committed_offset(decode_versioned_value::<OffsetCommitValue>(value)?.1)),
                None => None,
            };
            Ok(ReadRecord::Offset { key, value })
        }
        GROUP_KEY => {
            let (_, key) = decode_record_key::<GroupMetadataKey>(key)?;
            let value = match value {
                Some(value) => {
                    let owned = Bytes::copy_from_slice(value);
                    let (_, decoded) = decode_versioned_value::<GroupMetadataValue>(&owned)?;
                    Some((owned, decoded))
                }
                None => None,
            };
            Ok(ReadRecord::Group { group: key.group.detached(), value })
        }
        record_type if consumer::is_consumer_record(record_type) => {
            let (group, change) = consumer::read_record(record_type, key, value)?;
            Ok(ReadRecord::Consumer { group, change })
        }
        record_type if streams::is_streams_record(record_type) => {
            let (group, change) = streams::read_record(record_type, key, value)?;
            Ok(ReadRecord::Streams { group, change })
        }
        record_type if share::is_share_record(record_type) => {
            let (group, change) = share::read_record(record_type, key, value)?;
            Ok(ReadRecord::Share { group, change })
        }
        record_type => Ok(ReadRecord::Other { record_type }),
    }
}

fn committed_offset(value: OffsetCommitValue) -> CommittedOffset {
    CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: match value.metadata.is_empty() {
            true => Str::default(),
            false => value.metadata.detached(),
        },
        committed_at_ms: value.commit_timestamp,
        expire_at_ms: (value.expire_timestamp >= 0).then_some(value.expire_timestamp),
        topic_id: value.topic_id,
    }
}
