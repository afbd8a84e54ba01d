// Written by `cargo xtask codegen` from DescribeQuorumResponse.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 2.
#[derive(Debug, Clone, PartialEq)]
pub struct DescribeQuorumResponse {
    pub error_code: i16,
    /// Version 2.
    pub error_message: Option<Str>,
    pub topics: Vec<TopicData>,
    /// Version 2.
    pub nodes: Vec<Node>,
}

impl Default for DescribeQuorumResponse {
    fn default() -> DescribeQuorumResponse {
        DescribeQuorumResponse {
            error_code: 0,
            error_message: Some(Str::default()),
            topics: Vec::new(),
            nodes: Vec::new(),
        }
    }
}

impl DescribeQuorumResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.error_code = r.i16()?;
        if version == 2 {
            value.error_message = r.nullable_string(true)?;
        }
        value.topics = r.array(true, 3, version, TopicData::read)?;
        if version == 2 {
            value.nodes = r.array(true, 6, version, Node::read)?;
        }
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i16(self.error_code);
        if version == 2 {
            w.nullable_string(true, &self.error_message)?;
        }
        w.array(true, version, &self.topics, TopicData::write)?;
        if version == 2 {
            w.array(true, version, &self.nodes, Node::write)?;
        } else if !self.nodes.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "Nodes", version });
        }
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopicData {
    pub topic_name: Str,
    pub partitions: Vec<PartitionData>,
}

impl TopicData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.topic_name = r.string(true)?;
        value.partitions = r.array(true, if version < 2 { 25 } else { 26 }, version, PartitionData::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.topic_name)?;
        w.array(true, version, &self.partitions, PartitionData::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct PartitionData {
    pub partition_index: i32,
    pub error_code: i16,
    /// Version 2.
    pub error_message: Option<Str>,
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub high_watermark: i64,
    pub current_voters: Vec<ReplicaState>,
    pub observers: Vec<ReplicaState>,
}

impl Default for PartitionData {
    fn default() -> PartitionData {
        PartitionData {
            partition_index: 0,
            error_code: 0,
            error_message: Some(Str::default()),
            leader_id: 0,
            leader_epoch: 0,
            high_watermark: 0,
            current_voters: Vec::new(),
            observers: Vec::new(),
        }
    }
}

impl PartitionData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.partition_index = r.i32()?;
        value.error_code = r.i16()?;
        if version == 2 {
            value.error_message = r.nullable_string(true)?;
        }
        value.leader_id = r.i32()?;
        value.leader_epoch = r.i32()?;
        value.high_watermark = r.i64()?;
        value.current_voters = r.array(
            true,
            if version < 1 {
                13
            } else if version < 2 {
                29
            } else {
                45
            },
            version,
            ReplicaState::read,
        )?;
        value.observers = r.array(
            true,
            if version < 1 {
                13
            } else if version < 2 {
                29
            } else {
                45
            },
            version,
            ReplicaState::read,
        )?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        w.i16(self.error_code);
        if version == 2 {
            w.nullable_string(true, &self.error_message)?;
        }
        w.i32(self.leader_id);
        w.i32(self.leader_epoch);
        w.i64(self.high_watermark);
        w.array(true, version, &self.current_voters, ReplicaState::write)?;
        w.array(true, version, &self.observers, ReplicaState::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaState {
    pub replica_id: i32,
    /// Version 2.
    pub replica_directory_id: Uuid,
    pub log_end_offset: i64,
    /// Versions 1 to 2.
    pub last_fetch_timestamp: i64,
    /// Versions 1 to 2.
    pub last_caught_up_timestamp: i64,
}

impl Default for ReplicaState {
    fn default() -> ReplicaState {
        ReplicaState {
            replica_id: 0,
            replica_directory_id: Uuid::ZERO,
            log_end_offset: 0,
            last_fetch_timestamp: -1,
            last_caught_up_timestamp: -1,
        }
    }
}

impl ReplicaState {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.replica_id = r.i32()?;
        if version == 2 {
            value.replica_directory_id = r.uuid()?;
        }
        value.log_end_offset = r.i64()?;
        if version >= 1 {
            value.last_fetch_timestamp = r.i64()?;
        }
        if version >= 1 {
            value.last_caught_up_timestamp = r.i64()?;
        }
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.replica_id);
        if version == 2 {
            w.uuid(self.replica_directory_id);
        } else if self.replica_directory_id != Uuid::ZERO {
            return Err(EncodeError::FieldNotInVersion { field: "ReplicaDirectoryId", version });
        }
        w.i64(self.log_end_offset);
        if version >= 1 {
            w.i64(self.last_fetch_timestamp);
        }
        if version >= 1 {
            w.i64(self.last_caught_up_timestamp);
        }
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    pub node_id: i32,
    pub listeners: Vec<Listener>,
}

impl Node {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.node_id = r.i32()?;
        value.listeners = r.array(true, 5, version, Listener::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.node_id);
        w.array(true, version, &self.listeners, Listener::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listener {
    pub name: Str,
    pub host: Str,
    pub port: u16,
}

impl Listener {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.name = r.string(true)?;
        value.host = r.string(true)?;
        value.port = r.u16()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.name)?;
        w.string(true, &self.host)?;
        w.u16(self.port);
        w.uvarint(0);
        Ok(())
    }
}

impl Message for DescribeQuorumResponse {
    const NAME: &'static str = "DescribeQuorumResponse";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=2;
    const FIRST_FLEXIBLE_VERSION: i16 = 0;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}
