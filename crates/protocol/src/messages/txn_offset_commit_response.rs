// Written by `cargo xtask codegen` from TxnOffsetCommitResponse.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 6.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TxnOffsetCommitResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<TxnOffsetCommitResponseTopic>,
}

impl TxnOffsetCommitResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut value = Self::default();
        value.throttle_time_ms = r.i32()?;
        value.topics = r.array(
            flexible,
            if version < 3 {
                6
            } else if version < 6 {
                3
            } else {
                18
            },
            version,
            TxnOffsetCommitResponseTopic::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 3;
        w.i32(self.throttle_time_ms);
        w.array(flexible, version, &self.topics, TxnOffsetCommitResponseTopic::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TxnOffsetCommitResponseTopic {
    /// Versions 0 to 5.
    pub name: Str,
    /// Version 6.
    pub topic_id: Uuid,
    pub partitions: Vec<TxnOffsetCommitResponsePartition>,
}

impl TxnOffsetCommitResponseTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut value = Self::default();
        if version <= 5 {
            value.name = r.string(flexible)?;
        }
        if version == 6 {
            value.topic_id = r.uuid()?;
        }
        value.partitions = r.array(
            flexible,
            if version < 3 { 6 } else { 7 },
            version,
            TxnOffsetCommitResponsePartition::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 3;
        if version <= 5 {
            w.string(flexible, &self.name)?;
        }
        if version == 6 {
            w.uuid(self.topic_id);
        }
        w.array(flexible, version, &self.partitions, TxnOffsetCommitResponsePartition::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TxnOffsetCommitResponsePartition {
    pub partition_index: i32,
    pub error_code: i16,
}

impl TxnOffsetCommitResponsePartition {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut value = Self::default();
        value.partition_index = r.i32()?;
        value.error_code = r.i16()?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 3;
        w.i32(self.partition_index);
        w.i16(self.error_code);
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for TxnOffsetCommitResponse {
    const NAME: &'static str = "TxnOffsetCommitResponse";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=6;
    const FIRST_FLEXIBLE_VERSION: i16 = 3;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}
