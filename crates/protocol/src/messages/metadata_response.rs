// Written by `cargo xtask codegen` from MetadataResponse.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 13.
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataResponse {
    /// Versions 3 to 13.
    pub throttle_time_ms: i32,
    pub brokers: Vec<MetadataResponseBroker>,
    /// Versions 2 to 13.
    pub cluster_id: Option<Str>,
    /// Versions 1 to 13.
    pub controller_id: i32,
    pub topics: Vec<MetadataResponseTopic>,
    /// Versions 8 to 10.
    pub cluster_authorized_operations: i32,
    /// Version 13.
    pub error_code: i16,
}

impl Default for MetadataResponse {
    fn default() -> MetadataResponse {
        MetadataResponse {
            throttle_time_ms: 0,
            brokers: Vec::new(),
            cluster_id: None,
            controller_id: -1,
            topics: Vec::new(),
            cluster_authorized_operations: i32::MIN,
            error_code: 0,
        }
    }
}

impl MetadataResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        if version >= 3 {
            value.throttle_time_ms = r.i32()?;
        }
        value.brokers = r.array(
            flexible,
            if version < 1 {
                10
            } else if version < 9 {
                12
            } else {
                11
            },
            version,
            MetadataResponseBroker::read,
        )?;
        if version >= 2 {
            value.cluster_id = r.nullable_string(flexible)?;
        }
        if version >= 1 {
            value.controller_id = r.i32()?;
        }
        value.topics = r.array(
            flexible,
            if version < 1 {
                8
            } else if version < 8 {
                9
            } else if version < 9 {
                13
            } else if version < 10 {
                10
            } else {
                26
            },
            version,
            MetadataResponseTopic::read,
        )?;
        if (8..=10).contains(&version) {
            value.cluster_authorized_operations = r.i32()?;
        }
        if version == 13 {
            value.error_code = r.i16()?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 9;
        if version >= 3 {
            w.i32(self.throttle_time_ms);
        }
        w.array(flexible, version, &self.brokers, MetadataResponseBroker::write)?;
        if version >= 2 {
            w.nullable_string(flexible, &self.cluster_id)?;
        }
        if version >= 1 {
            w.i32(self.controller_id);
        }
        w.array(flexible, version, &self.topics, MetadataResponseTopic::write)?;
        if (8..=10).contains(&version) {
            w.i32(self.cluster_authorized_operations);
        } else if self.cluster_authorized_operations != i32::MIN {
            return Err(EncodeError::FieldNotInVersion { field: "ClusterAuthorizedOperations", version });
        }
        if version == 13 {
            w.i16(self.error_code);
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetadataResponseBroker {
    pub node_id: i32,
    pub host: Str,
    pub port: i32,
    /// Versions 1 to 13.
    pub rack: Option<Str>,
}

impl MetadataResponseBroker {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        value.node_id = r.i32()?;
        value.host = r.string(flexible)?;
        value.port = r.i32()?;
        if version >= 1 {
            value.rack = r.nullable_string(flexible)?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 9;
        w.i32(self.node_id);
        w.string(flexible, &self.host)?;
        w.i32(self.port);
        if version >= 1 {
            w.nullable_string(flexible, &self.rack)?;
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct MetadataResponseTopic {
    pub error_code: i16,
    pub name: Option<Str>,
    /// Versions 10 to 13.
    pub topic_id: Uuid,
    /// Versions 1 to 13.
    pub is_internal: bool,
    pub partitions: Vec<MetadataResponsePartition>,
    /// Versions 8 to 13.
    pub topic_authorized_operations: i32,
}

impl Default for MetadataResponseTopic {
    fn default() -> MetadataResponseTopic {
        MetadataResponseTopic {
            error_code: 0,
            name: Some(Str::default()),
            topic_id: Uuid::ZERO,
            is_internal: false,
            partitions: Vec::new(),
            topic_authorized_operations: i32::MIN,
        }
    }
}

impl MetadataResponseTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        value.error_code = r.i16()?;
        value.name = if version >= 12 { r.nullable_string(flexible)? } else { Some(r.string(flexible)?) };
        if version >= 10 {
            value.topic_id = r.uuid()?;
        }
        if version >= 1 {
            value.is_internal = r.bool()?;
        }
        value.partitions = r.array(
            flexible,
            if version < 5 {
                18
            } else if version < 7 {
                22
            } else if version < 9 {
                26
            } else {
                18
            },
            version,
            MetadataResponsePartition::read,
        )?;
        if version >= 8 {
            value.topic_authorized_operations = r.i32()?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 9;
        w.i16(self.error_code);
        if self.name.is_none() && !(version >= 12) {
            return Err(EncodeError::UnexpectedNull { field: "Name", version });
        }
        w.nullable_string(flexible, &self.name)?;
        if version >= 10 {
            w.uuid(self.topic_id);
        }
        if version >= 1 {
            w.bool(self.is_internal);
        }
        w.array(flexible, version, &self.partitions, MetadataResponsePartition::write)?;
        if version >= 8 {
            w.i32(self.topic_authorized_operations);
        } else if self.topic_authorized_operations != i32::MIN {
            return Err(EncodeError::FieldNotInVersion { field: "TopicAuthorizedOperations", version });
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct MetadataResponsePartition {
    pub error_code: i16,
    pub partition_index: i32,
    pub leader_id: i32,
    /// Versions 7 to 13.
    pub leader_epoch: i32,
    pub replica_nodes: Vec<i32>,
    pub isr_nodes: Vec<i32>,
    /// Versions 5 to 13.
    pub offline_replicas: Vec<i32>,
}

impl Default for MetadataResponsePartition {
    fn default() -> MetadataResponsePartition {
        MetadataResponsePartition {
            error_code: 0,
            partition_index: 0,
            leader_id: 0,
            leader_epoch: -1,
            replica_nodes: Vec::new(),
            isr_nodes: Vec::new(),
            offline_replicas: Vec::new(),
        }
    }
}

impl MetadataResponsePartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        value.error_code = r.i16()?;
        value.partition_index = r.i32()?;
        value.leader_id = r.i32()?;
        if version >= 7 {
            value.leader_epoch = r.i32()?;
        }
        value.replica_nodes = r.array(flexible, 4, version, |r, _| r.i32())?;
        value.isr_nodes = r.array(flexible, 4, version, |r, _| r.i32())?;
        if version >= 5 {
            value.offline_replicas = r.array(flexible, 4, version, |r, _| r.i32())?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 9;
        w.i16(self.error_code);
        w.i32(self.partition_index);
        w.i32(self.leader_id);
        if version >= 7 {
            w.i32(self.leader_epoch);
        }
        w.array(flexible, version, &self.replica_nodes, |value, w, _| {
            w.i32(*value);
            Ok(())
        })?;
        w.array(flexible, version, &self.isr_nodes, |value, w, _| {
            w.i32(*value);
            Ok(())
        })?;
        if version >= 5 {
            w.array(flexible, version, &self.offline_replicas, |value, w, _| {
                w.i32(*value);
                Ok(())
            })?;
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for MetadataResponse {
    const NAME: &'static str = "MetadataResponse";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=13;
    const FIRST_FLEXIBLE_VERSION: i16 = 9;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}
