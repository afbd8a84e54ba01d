// Written by `cargo xtask codegen` from InitializeShareGroupStateRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Version 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InitializeShareGroupStateRequest {
    pub group_id: Str,
    pub topics: Vec<InitializeStateData>,
}

impl InitializeShareGroupStateRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.group_id = r.string(true)?;
        value.topics = r.array(true, 18, version, InitializeStateData::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.group_id)?;
        w.array(true, version, &self.topics, InitializeStateData::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct InitializeStateData {
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionData>,
}

impl InitializeStateData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.topic_id = r.uuid()?;
        value.partitions = r.array(true, 17, version, PartitionData::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.uuid(self.topic_id);
        w.array(true, version, &self.partitions, PartitionData::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct PartitionData {
    pub partition: i32,
    pub state_epoch: i32,
    pub start_offset: i64,
}

impl PartitionData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.partition = r.i32()?;
        value.state_epoch = r.i32()?;
        value.start_offset = r.i64()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition);
        w.i32(self.state_epoch);
        w.i64(self.start_offset);
        w.uvarint(0);
        Ok(())
    }
}

impl Message for InitializeShareGroupStateRequest {
    const NAME: &'static str = "InitializeShareGroupStateRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=0;
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

impl crate::message::Request for InitializeShareGroupStateRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::InitializeShareGroupState;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::InitializeShareGroupStateResponse;
}
