// Written by `cargo xtask codegen` from OffsetCommitRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 2 to 10.
#[derive(Debug, Clone, PartialEq)]
pub struct OffsetCommitRequest {
    pub group_id: Str,
    pub generation_id_or_member_epoch: i32,
    pub member_id: Str,
    /// Versions 7 to 10.
    pub group_instance_id: Option<Str>,
    /// Versions 2 to 4.
    pub retention_time_ms: i64,
    pub topics: Vec<OffsetCommitRequestTopic>,
}

impl Default for OffsetCommitRequest {
    fn default() -> OffsetCommitRequest {
        OffsetCommitRequest {
            group_id: Str::default(),
            generation_id_or_member_epoch: -1,
            member_id: Str::default(),
            group_instance_id: None,
            retention_time_ms: -1,
            topics: Vec::new(),
        }
    }
}

impl OffsetCommitRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 8;
        let mut value = Self::default();
        value.group_id = r.string(flexible)?;
        value.generation_id_or_member_epoch = r.i32()?;
        value.member_id = r.string(flexible)?;
        if version >= 7 {
            value.group_instance_id = r.nullable_string(flexible)?;
        }
        if version <= 4 {
            value.retention_time_ms = r.i64()?;
        }
        value.topics = r.array(
            flexible,
            if version < 8 {
                6
            } else if version < 10 {
                3
            } else {
                18
            },
            version,
            OffsetCommitRequestTopic::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 8;
        w.string(flexible, &self.group_id)?;
        w.i32(self.generation_id_or_member_epoch);
        w.string(flexible, &self.member_id)?;
        if version >= 7 {
            w.nullable_string(flexible, &self.group_instance_id)?;
        } else if self.group_instance_id.is_some() {
            return Err(EncodeError::FieldNotInVersion { field: "GroupInstanceId", version });
        }
        if version <= 4 {
            w.i64(self.retention_time_ms);
        }
        w.array(flexible, version, &self.topics, OffsetCommitRequestTopic::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct OffsetCommitRequestTopic {
    /// Versions 2 to 9.
    pub name: Str,
    /// Version 10.
    pub topic_id: Uuid,
    pub partitions: Vec<OffsetCommitRequestPartition>,
}

impl OffsetCommitRequestTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 8;
        let mut value = Self::default();
        if version <= 9 {
            value.name = r.string(flexible)?;
        }
        if version == 10 {
            value.topic_id = r.uuid()?;
        }
        value.partitions = r.array(
            flexible,
            if version < 6 { 14 } else { 18 },
            version,
            OffsetCommitRequestPartition::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 8;
        if version <= 9 {
            w.string(flexible, &self.name)?;
        }
        if version == 10 {
            w.uuid(self.topic_id);
        }
        w.array(flexible, version, &self.partitions, OffsetCommitRequestPartition::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetCommitRequestPartition {
    pub partition_index: i32,
    pub committed_offset: i64,
    /// Versions 6 to 10.
    pub committed_leader_epoch: i32,
    pub committed_metadata: Option<Str>,
}

impl Default for OffsetCommitRequestPartition {
    fn default() -> OffsetCommitRequestPartition {
        OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: 0,
            committed_leader_epoch: -1,
            committed_metadata: Some(Str::default()),
        }
    }
}

impl OffsetCommitRequestPartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 8;
        let mut value = Self::default();
        value.partition_index = r.i32()?;
        value.committed_offset = r.i64()?;
        if version >= 6 {
            value.committed_leader_epoch = r.i32()?;
        }
        value.committed_metadata = r.nullable_string(flexible)?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 8;
        w.i32(self.partition_index);
        w.i64(self.committed_offset);
        if version >= 6 {
            w.i32(self.committed_leader_epoch);
        }
        w.nullable_string(flexible, &self.committed_metadata)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for OffsetCommitRequest {
    const NAME: &'static str = "OffsetCommitRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 2..=10;
    const FIRST_FLEXIBLE_VERSION: i16 = 8;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}

impl crate::message::Request for OffsetCommitRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::OffsetCommit;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::OffsetCommitResponse;
}
