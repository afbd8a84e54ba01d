// Written by `cargo xtask codegen` from DescribeClientQuotasResponse.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct DescribeClientQuotasResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub error_message: Option<Str>,
    pub entries: Option<Vec<EntryData>>,
}

impl Default for DescribeClientQuotasResponse {
    fn default() -> DescribeClientQuotasResponse {
        DescribeClientQuotasResponse {
            throttle_time_ms: 0,
            error_code: 0,
            error_message: Some(Str::default()),
            entries: Some(Vec::new()),
        }
    }
}

impl DescribeClientQuotasResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 1;
        let mut value = Self::default();
        value.throttle_time_ms = r.i32()?;
        value.error_code = r.i16()?;
        value.error_message = r.nullable_string(flexible)?;
        value.entries =
            r.nullable_array(flexible, if version < 1 { 8 } else { 3 }, version, EntryData::read)?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 1;
        w.i32(self.throttle_time_ms);
        w.i16(self.error_code);
        w.nullable_string(flexible, &self.error_message)?;
        w.nullable_array(flexible, version, self.entries.as_deref(), EntryData::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct EntryData {
    pub entity: Vec<EntityData>,
    pub values: Vec<ValueData>,
}

impl EntryData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 1;
        let mut value = Self::default();
        value.entity = r.array(flexible, if version < 1 { 4 } else { 3 }, version, EntityData::read)?;
        value.values = r.array(flexible, 10, version, ValueData::read)?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 1;
        w.array(flexible, version, &self.entity, EntityData::write)?;
        w.array(flexible, version, &self.values, ValueData::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct EntityData {
    pub entity_type: Str,
    pub entity_name: Option<Str>,
}

impl Default for EntityData {
    fn default() -> EntityData {
        EntityData { entity_type: Str::default(), entity_name: Some(Str::default()) }
    }
}

impl EntityData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 1;
        let mut value = Self::default();
        value.entity_type = r.string(flexible)?;
        value.entity_name = r.nullable_string(flexible)?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 1;
        w.string(flexible, &self.entity_type)?;
        w.nullable_string(flexible, &self.entity_name)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ValueData {
    pub key: Str,
    pub value: f64,
}

impl ValueData {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 1;
        let mut value = Self::default();
        value.key = r.string(flexible)?;
        value.value = r.f64()?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 1;
        w.string(flexible, &self.key)?;
        w.f64(self.value);
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for DescribeClientQuotasResponse {
    const NAME: &'static str = "DescribeClientQuotasResponse";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=1;
    const FIRST_FLEXIBLE_VERSION: i16 = 1;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}
