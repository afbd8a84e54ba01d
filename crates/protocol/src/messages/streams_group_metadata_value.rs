// Written by `cargo xtask codegen` from StreamsGroupMetadataValue.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Version 0.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamsGroupMetadataValue {
    pub epoch: i32,
    pub metadata_hash: i64,
    pub validated_topology_epoch: i32,
    pub last_assignment_configs: Option<Vec<LastAssignmentConfig>>,
    pub stored_description_topology_epoch: i32,
    pub failed_description_topology_epoch: i32,
}

impl Default for StreamsGroupMetadataValue {
    fn default() -> StreamsGroupMetadataValue {
        StreamsGroupMetadataValue {
            epoch: 0,
            metadata_hash: 0,
            validated_topology_epoch: -1,
            last_assignment_configs: Some(Vec::new()),
            stored_description_topology_epoch: -1,
            failed_description_topology_epoch: -1,
        }
    }
}

impl StreamsGroupMetadataValue {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.epoch = r.i32()?;
        value.metadata_hash = r.i64()?;
        r.tagged_fields(|r, tag| {
            match tag {
                0 => value.validated_topology_epoch = r.i32()?,
                1 => {
                    value.last_assignment_configs =
                        r.nullable_array(true, 3, version, LastAssignmentConfig::read)?
                }
                2 => value.stored_description_topology_epoch = r.i32()?,
                3 => value.failed_description_topology_epoch = r.i32()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.epoch);
        w.i64(self.metadata_hash);
        let has_validated_topology_epoch = self.validated_topology_epoch != -1;
        let has_last_assignment_configs =
            self.last_assignment_configs.as_ref().is_none_or(|value| !value.is_empty());
        let has_stored_description_topology_epoch = self.stored_description_topology_epoch != -1;
        let has_failed_description_topology_epoch = self.failed_description_topology_epoch != -1;
        w.uvarint(
            u32::from(has_validated_topology_epoch)
                + u32::from(has_last_assignment_configs)
                + u32::from(has_stored_description_topology_epoch)
                + u32::from(has_failed_description_topology_epoch),
        );
        if has_validated_topology_epoch {
            w.tagged_field(0, |w| {
                w.i32(self.validated_topology_epoch);
                Ok(())
            })?;
        }
        if has_last_assignment_configs {
            w.tagged_field(1, |w| {
                w.nullable_array(
                    true,
                    version,
                    self.last_assignment_configs.as_deref(),
                    LastAssignmentConfig::write,
                )?;
                Ok(())
            })?;
        }
        if has_stored_description_topology_epoch {
            w.tagged_field(2, |w| {
                w.i32(self.stored_description_topology_epoch);
                Ok(())
            })?;
        }
        if has_failed_description_topology_epoch {
            w.tagged_field(3, |w| {
                w.i32(self.failed_description_topology_epoch);
                Ok(())
            })?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct LastAssignmentConfig {
    pub key: Str,
    pub value: Str,
}

impl LastAssignmentConfig {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.key = r.string(true)?;
        value.value = r.string(true)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.key)?;
        w.string(true, &self.value)?;
        w.uvarint(0);
        Ok(())
    }
}

impl Message for StreamsGroupMetadataValue {
    const NAME: &'static str = "StreamsGroupMetadataValue";
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
