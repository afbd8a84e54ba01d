//! The records of `__share_group_state` in Kafka's formats: ShareSnapshot (type 0) is all of a share partition, ShareUpdate (type 1)
//! what has changed since; a snapshot without a value says that the share partition is gone.

use bytes::Bytes;
use protocol::message::{RecordKey, decode_record_key, decode_versioned_value, record_type, versioned_value};
use protocol::messages::share_snapshot_value::StateBatch as SnapshotBatch;
use protocol::messages::share_update_value::StateBatch as UpdateBatch;
use protocol::messages::{ShareSnapshotKey, ShareSnapshotValue, ShareUpdateKey, ShareUpdateValue};
use protocol::wire::DecodeError;

use super::state::{ShareKey, ShareState, StateBatch};
use crate::coordinators::Record;

const VALUE_VERSION: i16 = 0;
const ENCODES: &str = "what was decoded from a frame fits into a record";

/// Changes since the last snapshot. A start offset or a leader epoch of −1 is as before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    pub snapshot_epoch: i32,
    pub leader_epoch: i32,
    pub start_offset: i64,
    pub delivery_complete_count: i32,
    pub batches: Vec<StateBatch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadRecord {
    Snapshot(ShareKey, Option<Box<ShareState>>),
    Update(ShareKey, Update),
    /// Of a kind that we never write.
    Other(i16),
}

pub fn snapshot(key: &ShareKey, state: &ShareState) -> Record {
    let batch = |batch: StateBatch| SnapshotBatch {
        first_offset: batch.first_offset,
        last_offset: batch.last_offset,
        delivery_state: batch.delivery_state,
        delivery_count: batch.delivery_count,
    };
    let value = ShareSnapshotValue {
        snapshot_epoch: state.snapshot_epoch,
        state_epoch: state.state_epoch,
        leader_epoch: state.leader_epoch,
        start_offset: state.start_offset,
        delivery_complete_count: state.delivery_complete_count,
        create_timestamp: state.created_ms,
        write_timestamp: state.written_ms,
        state_batches: state.batches().into_iter().map(batch).collect(),
    };
    Record { key: snapshot_key(key), value: Some(versioned_value(VALUE_VERSION, &value).expect(ENCODES)) }
}

pub fn tombstone(key: &ShareKey) -> Record {
    Record { key: snapshot_key(key), value: None }
}

fn snapshot_key(key: &ShareKey) -> Bytes {
    let ShareKey { group, topic, partition } = key;
    let key = ShareSnapshotKey { group_id: group.clone(), topic_id: *topic, partition: *partition };
    key.to_record_key().expect(ENCODES)
}

pub fn update(key: &ShareKey, update: &Update) -> Record {
    let ShareKey { group, topic, partition } = key;
    let key = ShareUpdateKey { group_id: group.clone(), topic_id: *topic, partition: *partition };
    let batch = |batch: &StateBatch| UpdateBatch {
        first_offset: batch.first_offset,
        last_offset: batch.last_offset,
        delivery_state: batch.delivery_state,
        delivery_count: batch.delivery_count,
    };
    let value = ShareUpdateValue {
        snapshot_epoch: update.snapshot_epoch,
        leader_epoch: update.leader_epoch,
        start_offset: update.start_offset,
        delivery_complete_count: update.delivery_complete_count,
        state_batches: update.batches.iter().map(batch).collect(),
    };
    Record {
        key: key.to_record_key().expect(ENCODES),
        value: Some(versioned_value(VALUE_VERSION, &value).expect(ENCODES)),
    }
}

/// None: an update without a value, which says nothing.
pub fn read(key: &Bytes, value: Option<&Bytes>) -> Result<Option<ReadRecord>, DecodeError> {
    match record_type(key)? {
        ShareSnapshotKey::RECORD_TYPE => {
            let (_, key) = decode_record_key::<ShareSnapshotKey>(key)?;
            // Detached: the record stands in a large read buffer that must not stay because of a name.
            let key =
                ShareKey { group: key.group_id.detached(), topic: key.topic_id, partition: key.partition };
            let Some(value) = value else { return Ok(Some(ReadRecord::Snapshot(key, None))) };
            let (_, value) = decode_versioned_value::<ShareSnapshotValue>(value)?;
            Ok(Some(ReadRecord::Snapshot(key, Some(Box::new(read_snapshot(value))))))
        }
        ShareUpdateKey::RECORD_TYPE => {
            let (_, key) = decode_record_key::<ShareUpdateKey>(key)?;
            let key =
                ShareKey { group: key.group_id.detached(), topic: key.topic_id, partition: key.partition };
            let Some(value) = value else { return Ok(None) };
            let (_, value) = decode_versioned_value::<ShareUpdateValue>(value)?;
            Ok(Some(ReadRecord::Update(key, read_update(value))))
        }
        other => Ok(Some(ReadRecord::Other(other))),
    }
}

fn read_snapshot(value: ShareSnapshotValue) -> ShareState {
    let mut state = ShareState {
        snapshot_epoch: value.snapshot_epoch,
        state_epoch: value.state_epoch,
        leader_epoch: value.leader_epoch,
        start_offset: value.start_offset,
        delivery_complete_count: value.delivery_complete_count,
        created_ms: value.create_timestamp,
        written_ms: value.write_timestamp,
        ..ShareState::default()
    };
    let batches = value.state_batches.into_iter().map(|batch| StateBatch {
        first_offset: batch.first_offset,
        last_offset: batch.last_offset,
        delivery_state: batch.delivery_state,
        delivery_count: batch.delivery_count,
    });
    state.put(&batches.collect::<Vec<_>>());
    state
}

fn read_update(value: ShareUpdateValue) -> Update {
    let batches = value.state_batches.into_iter().map(|batch| StateBatch {
        first_offset: batch.first_offset,
        last_offset: batch.last_offset,
        delivery_state: batch.delivery_state,
        delivery_count: batch.delivery_count,
    });
    Update {
        snapshot_epoch: value.snapshot_epoch,
        leader_epoch: value.leader_epoch,
        start_offset: value.start_offset,
        delivery_complete_count: value.delivery_complete_count,
        batches: batches.collect(),
    }
}
