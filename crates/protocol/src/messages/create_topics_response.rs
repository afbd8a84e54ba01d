// Written by `cargo xtask codegen` from CreateTopicsResponse.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 2 to 7.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CreateTopicsResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<CreatableTopicResult>,
}

impl CreateTopicsResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 5;
        let mut value = Self::default();
        value.throttle_time_ms = r.i32()?;
        value.topics = r.array(
            flexible,
            if version < 5 {
                6
            } else if version < 7 {
                12
            } else {
                28
            },
            version,
            CreatableTopicResult::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 5;
        w.i32(self.throttle_time_ms);
        w.array(flexible, version, &self.topics, CreatableTopicResult::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreatableTopicResult {
    pub name: Str,
    /// Version 7.
    pub topic_id: Uuid,
    pub error_code: i16,
    pub error_message: Option<Str>,
    /// Versions 5 to 7.
    pub topic_config_error_code: i16,
    /// Versions 5 to 7.
    pub num_partitions: i32,
    /// Versions 5 to 7.
    pub replication_factor: i16,
    /// Versions 5 to 7.
    pub configs: Option<Vec<CreatableTopicConfigs>>,
}

impl Default for CreatableTopicResult {
    fn default() -> CreatableTopicResult {
        CreatableTopicResult {
            name: Str::default(),
            topic_id: Uuid::ZERO,
            error_code: 0,
            error_message: Some(Str::default()),
            topic_config_error_code: 0,
            num_partitions: -1,
            replication_factor: -1,
            configs: Some(Vec::new()),
        }
    }
}

impl CreatableTopicResult {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 5;
        let mut value = Self::default();
        value.name = r.string(flexible)?;
        if version == 7 {
            value.topic_id = r.uuid()?;
        }
        value.error_code = r.i16()?;
        value.error_message = r.nullable_string(flexible)?;
        if version >= 5 {
            value.num_partitions = r.i32()?;
        }
        if version >= 5 {
            value.replication_factor = r.i16()?;
        }
        if version >= 5 {
            value.configs = r.nullable_array(true, 6, version, CreatableTopicConfigs::read)?;
        }
        if flexible {
            r.tagged_fields(|r, tag| {
                match tag {
                    0 => value.topic_config_error_code = r.i16()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 5;
        w.string(flexible, &self.name)?;
        if version == 7 {
            w.uuid(self.topic_id);
        }
        w.i16(self.error_code);
        w.nullable_string(flexible, &self.error_message)?;
        if version >= 5 {
            w.i32(self.num_partitions);
        }
        if version >= 5 {
            w.i16(self.replication_factor);
        }
        if version >= 5 {
            w.nullable_array(true, version, self.configs.as_deref(), CreatableTopicConfigs::write)?;
        }
        if flexible {
            let has_topic_config_error_code = self.topic_config_error_code != 0;
            w.uvarint(u32::from(has_topic_config_error_code));
            if has_topic_config_error_code {
                w.tagged_field(0, |w| {
                    w.i16(self.topic_config_error_code);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreatableTopicConfigs {
    pub name: Str,
    pub value: Option<Str>,
    pub read_only: bool,
    pub config_source: i8,
    pub is_sensitive: bool,
}

impl Default for CreatableTopicConfigs {
    fn default() -> CreatableTopicConfigs {
        CreatableTopicConfigs {
            name: Str::default(),
            value: Some(Str::default()),
            read_only: false,
            config_source: -1,
            is_sensitive: false,
        }
    }
}

impl CreatableTopicConfigs {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.name = r.string(true)?;
        value.value = r.nullable_string(true)?;
        value.read_only = r.bool()?;
        value.config_source = r.i8()?;
        value.is_sensitive = r.bool()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.name)?;
        w.nullable_string(true, &self.value)?;
        w.bool(self.read_only);
        w.i8(self.config_source);
        w.bool(self.is_sensitive);
        w.uvarint(0);
        Ok(())
    }
}

impl Message for CreateTopicsResponse {
    const NAME: &'static str = "CreateTopicsResponse";
    const VERSIONS: std::ops::RangeInclusive<i16> = 2..=7;
    const FIRST_FLEXIBLE_VERSION: i16 = 5;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}
