// Written by `cargo xtask codegen` from ConsumerProtocolSubscription.json of Kafka 4.4.0. Do not edit.

use bytes::Bytes;

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 3.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerProtocolSubscription {
    pub topics: Vec<Str>,
    pub user_data: Option<Bytes>,
    /// Versions 1 to 3.
    pub owned_partitions: Vec<TopicPartition>,
    /// Versions 2 to 3.
    pub generation_id: i32,
    /// Version 3.
    pub rack_id: Option<Str>,
}

impl Default for ConsumerProtocolSubscription {
    fn default() -> ConsumerProtocolSubscription {
        ConsumerProtocolSubscription {
            topics: Vec::new(),
            user_data: None,
            owned_partitions: Vec::new(),
            generation_id: -1,
            rack_id: None,
        }
    }
}

impl ConsumerProtocolSubscription {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.topics = r.array(false, 2, version, |r, _| r.string(false))?;
        value.user_data = r.nullable_bytes(false)?;
        if version >= 1 {
            value.owned_partitions = r.array(false, 6, version, TopicPartition::read)?;
        }
        if version >= 2 {
            value.generation_id = r.i32()?;
        }
        if version == 3 {
            value.rack_id = r.nullable_string(false)?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.array(false, version, &self.topics, |value, w, _| w.string(false, value))?;
        w.nullable_bytes(false, &self.user_data)?;
        if version >= 1 {
            w.array(false, version, &self.owned_partitions, TopicPartition::write)?;
        }
        if version >= 2 {
            w.i32(self.generation_id);
        }
        if version == 3 {
            w.nullable_string(false, &self.rack_id)?;
        }
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

impl Message for ConsumerProtocolSubscription {
    const NAME: &'static str = "ConsumerProtocolSubscription";
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
