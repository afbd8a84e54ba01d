// Written by `cargo xtask codegen` from DescribeShareGroupOffsetsResponse.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DescribeShareGroupOffsetsResponse {
    pub throttle_time_ms: i32,
    pub groups: Vec<DescribeShareGroupOffsetsResponseGroup>,
}

impl DescribeShareGroupOffsetsResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.throttle_time_ms = r.i32()?;
        value.groups = r.array(true, 6, version, DescribeShareGroupOffsetsResponseGroup::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.throttle_time_ms);
        w.array(true, version, &self.groups, DescribeShareGroupOffsetsResponseGroup::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct DescribeShareGroupOffsetsResponseGroup {
    pub group_id: Str,
    pub topics: Vec<DescribeShareGroupOffsetsResponseTopic>,
    pub error_code: i16,
    pub error_message: Option<Str>,
}

impl DescribeShareGroupOffsetsResponseGroup {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.group_id = r.string(true)?;
        value.topics = r.array(true, 19, version, DescribeShareGroupOffsetsResponseTopic::read)?;
        value.error_code = r.i16()?;
        value.error_message = r.nullable_string(true)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.group_id)?;
        w.array(true, version, &self.topics, DescribeShareGroupOffsetsResponseTopic::write)?;
        w.i16(self.error_code);
        w.nullable_string(true, &self.error_message)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct DescribeShareGroupOffsetsResponseTopic {
    pub topic_name: Str,
    pub topic_id: Uuid,
    pub partitions: Vec<DescribeShareGroupOffsetsResponsePartition>,
}

impl DescribeShareGroupOffsetsResponseTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.topic_name = r.string(true)?;
        value.topic_id = r.uuid()?;
        value.partitions = r.array(
            true,
            if version < 1 { 20 } else { 28 },
            version,
            DescribeShareGroupOffsetsResponsePartition::read,
        )?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.topic_name)?;
        w.uuid(self.topic_id);
        w.array(true, version, &self.partitions, DescribeShareGroupOffsetsResponsePartition::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeShareGroupOffsetsResponsePartition {
    pub partition_index: i32,
    pub start_offset: i64,
    pub leader_epoch: i32,
    /// Version 1.
    pub lag: i64,
    pub error_code: i16,
    pub error_message: Option<Str>,
}

impl Default for DescribeShareGroupOffsetsResponsePartition {
    fn default() -> DescribeShareGroupOffsetsResponsePartition {
        DescribeShareGroupOffsetsResponsePartition {
            partition_index: 0,
            start_offset: 0,
            leader_epoch: 0,
            lag: -1,
            error_code: 0,
            error_message: None,
        }
    }
}

impl DescribeShareGroupOffsetsResponsePartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.partition_index = r.i32()?;
        value.start_offset = r.i64()?;
        value.leader_epoch = r.i32()?;
        if version == 1 {
            value.lag = r.i64()?;
        }
        value.error_code = r.i16()?;
        value.error_message = r.nullable_string(true)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        w.i64(self.start_offset);
        w.i32(self.leader_epoch);
        if version == 1 {
            w.i64(self.lag);
        }
        w.i16(self.error_code);
        w.nullable_string(true, &self.error_message)?;
        w.uvarint(0);
        Ok(())
    }
}

impl Message for DescribeShareGroupOffsetsResponse {
    const NAME: &'static str = "DescribeShareGroupOffsetsResponse";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=1;
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
