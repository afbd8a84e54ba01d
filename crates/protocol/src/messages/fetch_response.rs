// Written by `cargo xtask codegen` from FetchResponse.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Records, Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 4 to 18.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    /// Versions 7 to 18.
    pub error_code: i16,
    /// Versions 7 to 18.
    pub session_id: i32,
    pub responses: Vec<FetchableTopicResponse>,
    /// Versions 16 to 18.
    pub node_endpoints: Vec<NodeEndpoint>,
}

impl FetchResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut value = Self::default();
        value.throttle_time_ms = r.i32()?;
        if version >= 7 {
            value.error_code = r.i16()?;
        }
        if version >= 7 {
            value.session_id = r.i32()?;
        }
        value.responses = r.array(
            flexible,
            if version < 12 {
                6
            } else if version < 13 {
                3
            } else {
                18
            },
            version,
            FetchableTopicResponse::read,
        )?;
        if flexible {
            r.tagged_fields(|r, tag| {
                match tag {
                    0 if version >= 16 => {
                        value.node_endpoints = r.array(true, 11, version, NodeEndpoint::read)?
                    }
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 12;
        w.i32(self.throttle_time_ms);
        if version >= 7 {
            w.i16(self.error_code);
        }
        if version >= 7 {
            w.i32(self.session_id);
        } else if self.session_id != 0 {
            return Err(EncodeError::FieldNotInVersion { field: "SessionId", version });
        }
        w.array(flexible, version, &self.responses, FetchableTopicResponse::write)?;
        if !(version >= 16) && !self.node_endpoints.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "NodeEndpoints", version });
        }
        if flexible {
            let has_node_endpoints = version >= 16 && !self.node_endpoints.is_empty();
            w.uvarint(u32::from(has_node_endpoints));
            if has_node_endpoints {
                w.tagged_field(0, |w| {
                    w.array(true, version, &self.node_endpoints, NodeEndpoint::write)?;
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct FetchableTopicResponse {
    /// Versions 4 to 12.
    pub topic: Str,
    /// Versions 13 to 18.
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionData>,
}

impl FetchableTopicResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut value = Self::default();
        if version <= 12 {
            value.topic = r.string(flexible)?;
        }
        if version >= 13 {
            value.topic_id = r.uuid()?;
        }
        value.partitions = r.array(
            flexible,
            if version < 5 {
                30
            } else if version < 11 {
                38
            } else if version < 12 {
                42
            } else {
                37
            },
            version,
            PartitionData::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 12;
        if version <= 12 {
            w.string(flexible, &self.topic)?;
        }
        if version >= 13 {
            w.uuid(self.topic_id);
        }
        w.array(flexible, version, &self.partitions, PartitionData::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct PartitionData {
    pub partition_index: i32,
    pub error_code: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    /// Versions 5 to 18.
    pub log_start_offset: i64,
    /// Versions 12 to 18.
    pub diverging_epoch: EpochEndOffset,
    /// Versions 12 to 18.
    pub current_leader: LeaderIdAndEpoch,
    /// Versions 12 to 18.
    pub snapshot_id: SnapshotId,
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// Versions 11 to 18.
    pub preferred_read_replica: i32,
    pub records: Option<Records>,
}

impl Default for PartitionData {
    fn default() -> PartitionData {
        PartitionData {
            partition_index: 0,
            error_code: 0,
            high_watermark: 0,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: EpochEndOffset::default(),
            current_leader: LeaderIdAndEpoch::default(),
            snapshot_id: SnapshotId::default(),
            aborted_transactions: Some(Vec::new()),
            preferred_read_replica: -1,
            records: None,
        }
    }
}

impl PartitionData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut value = Self::default();
        value.partition_index = r.i32()?;
        value.error_code = r.i16()?;
        value.high_watermark = r.i64()?;
        value.last_stable_offset = r.i64()?;
        if version >= 5 {
            value.log_start_offset = r.i64()?;
        }
        value.aborted_transactions = r.nullable_array(
            flexible,
            if version < 12 { 16 } else { 17 },
            version,
            AbortedTransaction::read,
        )?;
        if version >= 11 {
            value.preferred_read_replica = r.i32()?;
        }
        value.records = r.nullable_records(flexible)?;
        if flexible {
            r.tagged_fields(|r, tag| {
                match tag {
                    0 => value.diverging_epoch = EpochEndOffset::read(r, version)?,
                    1 => value.current_leader = LeaderIdAndEpoch::read(r, version)?,
                    2 => value.snapshot_id = SnapshotId::read(r, version)?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 12;
        w.i32(self.partition_index);
        w.i16(self.error_code);
        w.i64(self.high_watermark);
        w.i64(self.last_stable_offset);
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        if !(version >= 12) && self.diverging_epoch != EpochEndOffset::default() {
            return Err(EncodeError::FieldNotInVersion { field: "DivergingEpoch", version });
        }
        if !(version >= 12) && self.current_leader != LeaderIdAndEpoch::default() {
            return Err(EncodeError::FieldNotInVersion { field: "CurrentLeader", version });
        }
        if !(version >= 12) && self.snapshot_id != SnapshotId::default() {
            return Err(EncodeError::FieldNotInVersion { field: "SnapshotId", version });
        }
        w.nullable_array(flexible, version, self.aborted_transactions.as_deref(), AbortedTransaction::write)?;
        if version >= 11 {
            w.i32(self.preferred_read_replica);
        } else if self.preferred_read_replica != -1 {
            return Err(EncodeError::FieldNotInVersion { field: "PreferredReadReplica", version });
        }
        w.nullable_records(flexible, &self.records)?;
        if flexible {
            let has_diverging_epoch = self.diverging_epoch != EpochEndOffset::default();
            let has_current_leader = self.current_leader != LeaderIdAndEpoch::default();
            let has_snapshot_id = self.snapshot_id != SnapshotId::default();
            w.uvarint(
                u32::from(has_diverging_epoch) + u32::from(has_current_leader) + u32::from(has_snapshot_id),
            );
            if has_diverging_epoch {
                w.tagged_field(0, |w| {
                    self.diverging_epoch.write(w, version)?;
                    Ok(())
                })?;
            }
            if has_current_leader {
                w.tagged_field(1, |w| {
                    self.current_leader.write(w, version)?;
                    Ok(())
                })?;
            }
            if has_snapshot_id {
                w.tagged_field(2, |w| {
                    self.snapshot_id.write(w, version)?;
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct EpochEndOffset {
    pub epoch: i32,
    pub end_offset: i64,
}

impl Default for EpochEndOffset {
    fn default() -> EpochEndOffset {
        EpochEndOffset { epoch: -1, end_offset: -1 }
    }
}

impl EpochEndOffset {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.epoch = r.i32()?;
        value.end_offset = r.i64()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.epoch);
        w.i64(self.end_offset);
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct LeaderIdAndEpoch {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

impl Default for LeaderIdAndEpoch {
    fn default() -> LeaderIdAndEpoch {
        LeaderIdAndEpoch { leader_id: -1, leader_epoch: -1 }
    }
}

impl LeaderIdAndEpoch {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.leader_id = r.i32()?;
        value.leader_epoch = r.i32()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.leader_id);
        w.i32(self.leader_epoch);
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotId {
    pub end_offset: i64,
    pub epoch: i32,
}

impl Default for SnapshotId {
    fn default() -> SnapshotId {
        SnapshotId { end_offset: -1, epoch: -1 }
    }
}

impl SnapshotId {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.end_offset = r.i64()?;
        value.epoch = r.i32()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i64(self.end_offset);
        w.i32(self.epoch);
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

impl AbortedTransaction {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut value = Self::default();
        value.producer_id = r.i64()?;
        value.first_offset = r.i64()?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 12;
        w.i64(self.producer_id);
        w.i64(self.first_offset);
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: Str,
    pub port: i32,
    pub rack: Option<Str>,
}

impl NodeEndpoint {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.node_id = r.i32()?;
        value.host = r.string(true)?;
        value.port = r.i32()?;
        value.rack = r.nullable_string(true)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.node_id);
        w.string(true, &self.host)?;
        w.i32(self.port);
        w.nullable_string(true, &self.rack)?;
        w.uvarint(0);
        Ok(())
    }
}

impl Message for FetchResponse {
    const NAME: &'static str = "FetchResponse";
    const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;
    const FIRST_FLEXIBLE_VERSION: i16 = 12;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}
