// Written by `cargo xtask codegen` from ConsumerProtocolAssignment.json of Kafka 4.4.0. Do not edit.

use bytes::Bytes;

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 3.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConsumerProtocolAssignment {
    pub assigned_partitions: Vec<TopicPartition>,
    pub user_data: Option<Bytes>,
}

impl ConsumerProtocolAssignment {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.assigned_partitions = r.array(false, 6, version, TopicPartition::read)?;
        value.user_data = r.nullable_bytes(false)?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.array(false, version, &self.assigned_partitions, TopicPartition::write)?;
        w.nullable_bytes(false, &self.user_data)?;
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopicPartition {
    pub topic: Str,
    pub partitions: Vec<i32>,
}

impl TopicPartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.topic = r.string(false)?;
        value.partitions = r.array(false, 4, version, |r, _| r.i32())?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(false, &self.topic)?;
        w.array(false, version, &self.partitions, |value, w, _| {
            w.i32(*value);
            Ok(())
        })?;
        Ok(())
    }
}

impl Message for ConsumerProtocolAssignment {
    const NAME: &'static str = "ConsumerProtocolAssignment";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=3;
    const FIRST_FLEXIBLE_VERSION: i16 = i16::MAX;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}
