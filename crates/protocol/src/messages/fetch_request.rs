// Written by `cargo xtask codegen` from FetchRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 4 to 18.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchRequest {
    /// Versions 12 to 18.
    pub cluster_id: Option<Str>,
    /// Versions 4 to 14.
    pub replica_id: i32,
    /// Versions 15 to 18.
    pub replica_state: ReplicaState,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub isolation_level: i8,
    /// Versions 7 to 18.
    pub session_id: i32,
    /// Versions 7 to 18.
    pub session_epoch: i32,
    pub topics: Vec<FetchTopic>,
    /// Versions 7 to 18.
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    /// Versions 11 to 18.
    pub rack_id: Str,
}

impl Default for FetchRequest {
    fn default() -> FetchRequest {
        FetchRequest {
            cluster_id: None,
            replica_id: -1,
            replica_state: ReplicaState::default(),
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: i32::MAX,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            forgotten_topics_data: Vec::new(),
            rack_id: Str::default(),
        }
    }
}

impl FetchRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut value = Self::default();
        if version <= 14 {
            value.replica_id = r.i32()?;
        }
        value.max_wait_ms = r.i32()?;
        value.min_bytes = r.i32()?;
        value.max_bytes = r.i32()?;
        value.isolation_level = r.i8()?;
        if version >= 7 {
            value.session_id = r.i32()?;
        }
        if version >= 7 {
            value.session_epoch = r.i32()?;
        }
        value.topics = r.array(
            flexible,
            if version < 12 {
                6
            } else if version < 13 {
                3
            } else {
                18
            },
            version,
            FetchTopic::read,
        )?;
        if version >= 7 {
            value.forgotten_topics_data = r.array(
                flexible,
                if version < 12 {
                    6
                } else if version < 13 {
                    3
                } else {
                    18
                },
                version,
                ForgottenTopic::read,
            )?;
        }
        if version >= 11 {
            value.rack_id = r.string(flexible)?;
        }
        if flexible {
            r.tagged_fields(|r, tag| {
                match tag {
                    0 => value.cluster_id = r.nullable_string(true)?,
                    1 if version >= 15 => value.replica_state = ReplicaState::read(r, version)?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 12;
        if version <= 14 {
            w.i32(self.replica_id);
        } else if self.replica_id != -1 {
            return Err(EncodeError::FieldNotInVersion { field: "ReplicaId", version });
        }
        if !(version >= 15) && self.replica_state != ReplicaState::default() {
            return Err(EncodeError::FieldNotInVersion { field: "ReplicaState", version });
        }
        w.i32(self.max_wait_ms);
        w.i32(self.min_bytes);
        w.i32(self.max_bytes);
        w.i8(self.isolation_level);
        if version >= 7 {
            w.i32(self.session_id);
        }
        if version >= 7 {
            w.i32(self.session_epoch);
        }
        w.array(flexible, version, &self.topics, FetchTopic::write)?;
        if version >= 7 {
            w.array(flexible, version, &self.forgotten_topics_data, ForgottenTopic::write)?;
        } else if !self.forgotten_topics_data.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "ForgottenTopicsData", version });
        }
        if version >= 11 {
            w.string(flexible, &self.rack_id)?;
        }
        if flexible {
            let has_cluster_id = self.cluster_id.is_some();
            let has_replica_state = version >= 15 && self.replica_state != ReplicaState::default();
            w.uvarint(u32::from(has_cluster_id) + u32::from(has_replica_state));
            if has_cluster_id {
                w.tagged_field(0, |w| {
                    w.nullable_string(true, &self.cluster_id)?;
                    Ok(())
                })?;
            }
            if has_replica_state {
                w.tagged_field(1, |w| {
                    self.replica_state.write(w, version)?;
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaState {
    pub replica_id: i32,
    pub replica_epoch: i64,
}

impl Default for ReplicaState {
    fn default() -> ReplicaState {
        ReplicaState { replica_id: -1, replica_epoch: -1 }
    }
}

impl ReplicaState {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.replica_id = r.i32()?;
        value.replica_epoch = r.i64()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.replica_id);
        w.i64(self.replica_epoch);
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct FetchTopic {
    /// Versions 4 to 12.
    pub topic: Str,
    /// Versions 13 to 18.
    pub topic_id: Uuid,
    pub partitions: Vec<FetchPartition>,
}

impl FetchTopic {
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
                16
            } else if version < 9 {
                24
            } else if version < 12 {
                28
            } else {
                33
            },
            version,
            FetchPartition::read,
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
        w.array(flexible, version, &self.partitions, FetchPartition::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct FetchPartition {
    pub partition: i32,
    /// Versions 9 to 18.
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    /// Versions 12 to 18.
    pub last_fetched_epoch: i32,
    /// Versions 5 to 18.
    pub log_start_offset: i64,
    pub partition_max_bytes: i32,
    /// Versions 17 to 18.
    pub replica_directory_id: Uuid,
    /// Version 18.
    pub high_watermark: i64,
}

impl Default for FetchPartition {
    fn default() -> FetchPartition {
        FetchPartition {
            partition: 0,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 0,
            replica_directory_id: Uuid::ZERO,
            high_watermark: i64::MAX,
        }
    }
}

impl FetchPartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut value = Self::default();
        value.partition = r.i32()?;
        if version >= 9 {
            value.current_leader_epoch = r.i32()?;
        }
        value.fetch_offset = r.i64()?;
        if version >= 12 {
            value.last_fetched_epoch = r.i32()?;
        }
        if version >= 5 {
            value.log_start_offset = r.i64()?;
        }
        value.partition_max_bytes = r.i32()?;
        if flexible {
            r.tagged_fields(|r, tag| {
                match tag {
                    0 if version >= 17 => value.replica_directory_id = r.uuid()?,
                    1 if version == 18 => value.high_watermark = r.i64()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 12;
        w.i32(self.partition);
        if version >= 9 {
            w.i32(self.current_leader_epoch);
        }
        w.i64(self.fetch_offset);
        if version >= 12 {
            w.i32(self.last_fetched_epoch);
        } else if self.last_fetched_epoch != -1 {
            return Err(EncodeError::FieldNotInVersion { field: "LastFetchedEpoch", version });
        }
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        w.i32(self.partition_max_bytes);
        if flexible {
            let has_replica_directory_id = version >= 17 && self.replica_directory_id != Uuid::ZERO;
            let has_high_watermark = version == 18 && self.high_watermark != i64::MAX;
            w.uvarint(u32::from(has_replica_directory_id) + u32::from(has_high_watermark));
            if has_replica_directory_id {
                w.tagged_field(0, |w| {
                    w.uuid(self.replica_directory_id);
                    Ok(())
                })?;
            }
            if has_high_watermark {
                w.tagged_field(1, |w| {
                    w.i64(self.high_watermark);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ForgottenTopic {
    /// Versions 7 to 12.
    pub topic: Str,
    /// Versions 13 to 18.
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}

impl ForgottenTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 12;
        let mut value = Self::default();
        if version <= 12 {
            value.topic = r.string(flexible)?;
        }
        if version >= 13 {
            value.topic_id = r.uuid()?;
        }
        value.partitions = r.array(flexible, 4, version, |r, _| r.i32())?;
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
        w.array(flexible, version, &self.partitions, |value, w, _| {
            w.i32(*value);
            Ok(())
        })?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for FetchRequest {
    const NAME: &'static str = "FetchRequest";
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

impl crate::message::Request for FetchRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::Fetch;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::FetchResponse;
}
