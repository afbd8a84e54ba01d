// Written by `cargo xtask codegen` from ShareFetchRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 1 to 2.
#[derive(Debug, Clone, PartialEq)]
pub struct ShareFetchRequest {
    pub group_id: Option<Str>,
    pub member_id: Option<Str>,
    pub share_session_epoch: i32,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub max_records: i32,
    pub batch_size: i32,
    /// Version 2.
    pub share_acquire_mode: i8,
    /// Version 2.
    pub is_renew_ack: bool,
    pub topics: Vec<FetchTopic>,
    pub forgotten_topics_data: Vec<ForgottenTopic>,
}

impl Default for ShareFetchRequest {
    fn default() -> ShareFetchRequest {
        ShareFetchRequest {
            group_id: None,
            member_id: Some(Str::default()),
            share_session_epoch: 0,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: i32::MAX,
            max_records: 0,
            batch_size: 0,
            share_acquire_mode: 0,
            is_renew_ack: false,
            topics: Vec::new(),
            forgotten_topics_data: Vec::new(),
        }
    }
}

impl ShareFetchRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.group_id = r.nullable_string(true)?;
        value.member_id = r.nullable_string(true)?;
        value.share_session_epoch = r.i32()?;
        value.max_wait_ms = r.i32()?;
        value.min_bytes = r.i32()?;
        value.max_bytes = r.i32()?;
        value.max_records = r.i32()?;
        value.batch_size = r.i32()?;
        if version == 2 {
            value.share_acquire_mode = r.i8()?;
        }
        if version == 2 {
            value.is_renew_ack = r.bool()?;
        }
        value.topics = r.array(true, 18, version, FetchTopic::read)?;
        value.forgotten_topics_data = r.array(true, 18, version, ForgottenTopic::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.nullable_string(true, &self.group_id)?;
        w.nullable_string(true, &self.member_id)?;
        w.i32(self.share_session_epoch);
        w.i32(self.max_wait_ms);
        w.i32(self.min_bytes);
        w.i32(self.max_bytes);
        w.i32(self.max_records);
        w.i32(self.batch_size);
        if version == 2 {
            w.i8(self.share_acquire_mode);
        }
        if version == 2 {
            w.bool(self.is_renew_ack);
        } else if self.is_renew_ack {
            return Err(EncodeError::FieldNotInVersion { field: "IsRenewAck", version });
        }
        w.array(true, version, &self.topics, FetchTopic::write)?;
        w.array(true, version, &self.forgotten_topics_data, ForgottenTopic::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct FetchTopic {
    pub topic_id: Uuid,
    pub partitions: Vec<FetchPartition>,
}

impl FetchTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.topic_id = r.uuid()?;
        value.partitions = r.array(true, 6, version, FetchPartition::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.uuid(self.topic_id);
        w.array(true, version, &self.partitions, FetchPartition::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct FetchPartition {
    pub partition_index: i32,
    pub acknowledgement_batches: Vec<AcknowledgementBatch>,
}

impl FetchPartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.partition_index = r.i32()?;
        value.acknowledgement_batches = r.array(true, 18, version, AcknowledgementBatch::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        w.array(true, version, &self.acknowledgement_batches, AcknowledgementBatch::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct AcknowledgementBatch {
    pub first_offset: i64,
    pub last_offset: i64,
    pub acknowledge_types: Vec<i8>,
}

impl AcknowledgementBatch {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.first_offset = r.i64()?;
        value.last_offset = r.i64()?;
        value.acknowledge_types = r.array(true, 1, version, |r, _| r.i8())?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i64(self.first_offset);
        w.i64(self.last_offset);
        w.array(true, version, &self.acknowledge_types, |value, w, _| {
            w.i8(*value);
            Ok(())
        })?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ForgottenTopic {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}

impl ForgottenTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.topic_id = r.uuid()?;
        value.partitions = r.array(true, 4, version, |r, _| r.i32())?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.uuid(self.topic_id);
        w.array(true, version, &self.partitions, |value, w, _| {
            w.i32(*value);
            Ok(())
        })?;
        w.uvarint(0);
        Ok(())
    }
}

impl Message for ShareFetchRequest {
    const NAME: &'static str = "ShareFetchRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 1..=2;
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

impl crate::message::Request for ShareFetchRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::ShareFetch;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::ShareFetchResponse;
}
