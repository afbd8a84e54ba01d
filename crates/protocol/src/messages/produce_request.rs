// Written by `cargo xtask codegen` from ProduceRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Records, Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 3 to 13.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProduceRequest {
    pub transactional_id: Option<Str>,
    pub acks: i16,
    pub timeout_ms: i32,
    pub topic_data: Vec<TopicProduceData>,
}

impl ProduceRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        value.transactional_id = r.nullable_string(flexible)?;
        value.acks = r.i16()?;
        value.timeout_ms = r.i32()?;
        value.topic_data = r.array(
            flexible,
            if version < 9 {
                6
            } else if version < 13 {
                3
            } else {
                18
            },
            version,
            TopicProduceData::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 9;
        w.nullable_string(flexible, &self.transactional_id)?;
        w.i16(self.acks);
        w.i32(self.timeout_ms);
        w.array(flexible, version, &self.topic_data, TopicProduceData::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopicProduceData {
    /// Versions 3 to 12.
    pub name: Str,
    /// Version 13.
    pub topic_id: Uuid,
    pub partition_data: Vec<PartitionProduceData>,
}

impl TopicProduceData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        if version <= 12 {
            value.name = r.string(flexible)?;
        }
        if version == 13 {
            value.topic_id = r.uuid()?;
        }
        value.partition_data =
            r.array(flexible, if version < 9 { 8 } else { 6 }, version, PartitionProduceData::read)?;
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
        w.array(flexible, version, &self.partition_data, PartitionProduceData::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct PartitionProduceData {
    pub index: i32,
    pub records: Option<Records>,
}

impl PartitionProduceData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        value.index = r.i32()?;
        value.records = r.nullable_records(flexible)?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 9;
        w.i32(self.index);
        w.nullable_records(flexible, &self.records)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for ProduceRequest {
    const NAME: &'static str = "ProduceRequest";
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

impl crate::message::Request for ProduceRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::Produce;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::ProduceResponse;
}
