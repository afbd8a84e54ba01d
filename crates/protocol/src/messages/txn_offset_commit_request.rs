// Written by `cargo xtask codegen` from TxnOffsetCommitRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 6.
#[derive(Debug, Clone, PartialEq)]
pub struct TxnOffsetCommitRequest {
    pub transactional_id: Str,
    pub group_id: Str,
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// Versions 3 to 6.
    pub generation_id_or_member_epoch: i32,
    /// Versions 3 to 6.
    pub member_id: Str,
    /// Versions 3 to 6.
    pub group_instance_id: Option<Str>,
    pub topics: Vec<TxnOffsetCommitRequestTopic>,
}

impl Default for TxnOffsetCommitRequest {
    fn default() -> TxnOffsetCommitRequest {
        TxnOffsetCommitRequest {
            transactional_id: Str::default(),
            group_id: Str::default(),
            producer_id: 0,
            producer_epoch: 0,
            generation_id_or_member_epoch: -1,
            member_id: Str::default(),
            group_instance_id: None,
            topics: Vec::new(),
        }
    }
}

impl TxnOffsetCommitRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut value = Self::default();
        value.transactional_id = r.string(flexible)?;
        value.group_id = r.string(flexible)?;
        value.producer_id = r.i64()?;
        value.producer_epoch = r.i16()?;
        if version >= 3 {
            value.generation_id_or_member_epoch = r.i32()?;
        }
        if version >= 3 {
            value.member_id = r.string(true)?;
        }
        if version >= 3 {
            value.group_instance_id = r.nullable_string(true)?;
        }
        value.topics = r.array(
            flexible,
            if version < 3 {
                6
            } else if version < 6 {
                3
            } else {
                18
            },
            version,
            TxnOffsetCommitRequestTopic::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 3;
        w.string(flexible, &self.transactional_id)?;
        w.string(flexible, &self.group_id)?;
        w.i64(self.producer_id);
        w.i16(self.producer_epoch);
        if version >= 3 {
            w.i32(self.generation_id_or_member_epoch);
        } else if self.generation_id_or_member_epoch != -1 {
            return Err(EncodeError::FieldNotInVersion { field: "GenerationIdOrMemberEpoch", version });
        }
        if version >= 3 {
            w.string(true, &self.member_id)?;
        } else if !self.member_id.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "MemberId", version });
        }
        if version >= 3 {
            w.nullable_string(true, &self.group_instance_id)?;
        } else if self.group_instance_id.is_some() {
            return Err(EncodeError::FieldNotInVersion { field: "GroupInstanceId", version });
        }
        w.array(flexible, version, &self.topics, TxnOffsetCommitRequestTopic::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TxnOffsetCommitRequestTopic {
    /// Versions 0 to 5.
    pub name: Str,
    /// Version 6.
    pub topic_id: Uuid,
    pub partitions: Vec<TxnOffsetCommitRequestPartition>,
}

impl TxnOffsetCommitRequestTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut value = Self::default();
        if version <= 5 {
            value.name = r.string(flexible)?;
        }
        if version == 6 {
            value.topic_id = r.uuid()?;
        }
        value.partitions = r.array(
            flexible,
            if version < 2 { 14 } else { 18 },
            version,
            TxnOffsetCommitRequestPartition::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 3;
        if version <= 5 {
            w.string(flexible, &self.name)?;
        }
        if version == 6 {
            w.uuid(self.topic_id);
        }
        w.array(flexible, version, &self.partitions, TxnOffsetCommitRequestPartition::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct TxnOffsetCommitRequestPartition {
    pub partition_index: i32,
    pub committed_offset: i64,
    /// Versions 2 to 6.
    pub committed_leader_epoch: i32,
    pub committed_metadata: Option<Str>,
}

impl Default for TxnOffsetCommitRequestPartition {
    fn default() -> TxnOffsetCommitRequestPartition {
        TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: 0,
            committed_leader_epoch: -1,
            committed_metadata: Some(Str::default()),
        }
    }
}

impl TxnOffsetCommitRequestPartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut value = Self::default();
        value.partition_index = r.i32()?;
        value.committed_offset = r.i64()?;
        if version >= 2 {
            value.committed_leader_epoch = r.i32()?;
        }
        value.committed_metadata = r.nullable_string(flexible)?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 3;
        w.i32(self.partition_index);
        w.i64(self.committed_offset);
        if version >= 2 {
            w.i32(self.committed_leader_epoch);
        }
        w.nullable_string(flexible, &self.committed_metadata)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for TxnOffsetCommitRequest {
    const NAME: &'static str = "TxnOffsetCommitRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=6;
    const FIRST_FLEXIBLE_VERSION: i16 = 3;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}

impl crate::message::Request for TxnOffsetCommitRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::TxnOffsetCommit;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::TxnOffsetCommitResponse;
}
