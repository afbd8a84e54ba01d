// Written by `cargo xtask codegen` from DeleteTopicsRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 1 to 6.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeleteTopicsRequest {
    /// Version 6.
    pub topics: Vec<DeleteTopicState>,
    /// Versions 1 to 5.
    pub topic_names: Vec<Str>,
    pub timeout_ms: i32,
}

impl DeleteTopicsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut value = Self::default();
        if version == 6 {
            value.topics = r.array(true, 18, version, DeleteTopicState::read)?;
        }
        if version <= 5 {
            value.topic_names =
                r.array(flexible, if version < 4 { 2 } else { 1 }, version, |r, _| r.string(flexible))?;
        }
        value.timeout_ms = r.i32()?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 4;
        if version == 6 {
            w.array(true, version, &self.topics, DeleteTopicState::write)?;
        } else if !self.topics.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "Topics", version });
        }
        if version <= 5 {
            w.array(flexible, version, &self.topic_names, |value, w, _| w.string(flexible, value))?;
        }
        w.i32(self.timeout_ms);
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeleteTopicState {
    pub name: Option<Str>,
    pub topic_id: Uuid,
}

impl DeleteTopicState {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.name = r.nullable_string(true)?;
        value.topic_id = r.uuid()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.nullable_string(true, &self.name)?;
        w.uuid(self.topic_id);
        w.uvarint(0);
        Ok(())
    }
}

impl Message for DeleteTopicsRequest {
    const NAME: &'static str = "DeleteTopicsRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 1..=6;
    const FIRST_FLEXIBLE_VERSION: i16 = 4;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}

impl crate::message::Request for DeleteTopicsRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::DeleteTopics;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::DeleteTopicsResponse;
}
