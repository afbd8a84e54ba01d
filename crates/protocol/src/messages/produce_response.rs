// Written by `cargo xtask codegen` from ProduceResponse.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 3 to 13.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProduceResponse {
    pub responses: Vec<TopicProduceResponse>,
    pub throttle_time_ms: i32,
    /// Versions 10 to 13.
    pub node_endpoints: Vec<NodeEndpoint>,
}

impl ProduceResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        value.responses = r.array(
            flexible,
            if version < 9 {
                6
            } else if version < 13 {
                3
            } else {
                18
            },
            version,
            TopicProduceResponse::read,
        )?;
        value.throttle_time_ms = r.i32()?;
        if flexible {
            r.tagged_fields(|r, tag| {
                match tag {
                    0 if version >= 10 => {
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
        let flexible = version >= 9;
        w.array(flexible, version, &self.responses, TopicProduceResponse::write)?;
        w.i32(self.throttle_time_ms);
        if !(version >= 10) && !self.node_endpoints.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "NodeEndpoints", version });
        }
        if flexible {
            let has_node_endpoints = version >= 10 && !self.node_endpoints.is_empty();
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
pub struct TopicProduceResponse {
    /// Versions 3 to 12.
    pub name: Str,
    /// Version 13.
    pub topic_id: Uuid,
    pub partition_responses: Vec<PartitionProduceResponse>,
}

impl TopicProduceResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        if version <= 12 {
            value.name = r.string(flexible)?;
        }
        if version == 13 {
            value.topic_id = r.uuid()?;
        }
        value.partition_responses = r.array(
            flexible,
            if version < 5 {
                22
            } else if version < 8 {
                30
            } else if version < 9 {
                36
            } else {
                33
            },
            version,
            PartitionProduceResponse::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 9;
        if version <= 12 {
            w.string(flexible, &self.name)?;
        }
        if version == 13 {
            w.uuid(self.topic_id);
        }
        w.array(flexible, version, &self.partition_responses, PartitionProduceResponse::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct PartitionProduceResponse {
    pub index: i32,
    pub error_code: i16,
    pub base_offset: i64,
    pub log_append_time_ms: i64,
    /// Versions 5 to 13.
    pub log_start_offset: i64,
    /// Versions 8 to 13.
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    /// Versions 8 to 13.
    pub error_message: Option<Str>,
    /// Versions 10 to 13.
    pub current_leader: LeaderIdAndEpoch,
}

impl Default for PartitionProduceResponse {
    fn default() -> PartitionProduceResponse {
        PartitionProduceResponse {
            index: 0,
            error_code: 0,
            base_offset: 0,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: LeaderIdAndEpoch::default(),
        }
    }
}

impl PartitionProduceResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        value.index = r.i32()?;
        value.error_code = r.i16()?;
        value.base_offset = r.i64()?;
        value.log_append_time_ms = r.i64()?;
        if version >= 5 {
            value.log_start_offset = r.i64()?;
        }
        if version >= 8 {
            value.record_errors = r.array(flexible, 6, version, BatchIndexAndErrorMessage::read)?;
        }
        if version >= 8 {
            value.error_message = r.nullable_string(flexible)?;
        }
        if flexible {
            r.tagged_fields(|r, tag| {
                match tag {
                    0 if version >= 10 => value.current_leader = LeaderIdAndEpoch::read(r, version)?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 9;
        w.i32(self.index);
        w.i16(self.error_code);
        w.i64(self.base_offset);
        w.i64(self.log_append_time_ms);
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        if version >= 8 {
            w.array(flexible, version, &self.record_errors, BatchIndexAndErrorMessage::write)?;
        }
        if version >= 8 {
            w.nullable_string(flexible, &self.error_message)?;
        }
        if !(version >= 10) && self.current_leader != LeaderIdAndEpoch::default() {
            return Err(EncodeError::FieldNotInVersion { field: "CurrentLeader", version });
        }
        if flexible {
            let has_current_leader = version >= 10 && self.current_leader != LeaderIdAndEpoch::default();
            w.uvarint(u32::from(has_current_leader));
            if has_current_leader {
                w.tagged_field(0, |w| {
                    self.current_leader.write(w, version)?;
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchIndexAndErrorMessage {
    pub batch_index: i32,
    pub batch_index_error_message: Option<Str>,
}

impl BatchIndexAndErrorMessage {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        value.batch_index = r.i32()?;
        value.batch_index_error_message = r.nullable_string(flexible)?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 9;
        w.i32(self.batch_index);
        w.nullable_string(flexible, &self.batch_index_error_message)?;
        if flexible {
            w.uvarint(0);
        }
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

impl Message for ProduceResponse {
    const NAME: &'static str = "ProduceResponse";
    const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;
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
