// Written by `cargo xtask codegen` from ConsumerGroupMemberMetadataValue.json of Kafka 4.4.0. Do not edit.

use bytes::Bytes;

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Version 0.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerGroupMemberMetadataValue {
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub subscribed_topic_names: Vec<Str>,
    pub subscribed_topic_regex: Option<Str>,
    pub rebalance_timeout_ms: i32,
    pub server_assignor: Option<Str>,
    pub classic_member_metadata: Option<ClassicMemberMetadata>,
}

impl Default for ConsumerGroupMemberMetadataValue {
    fn default() -> ConsumerGroupMemberMetadataValue {
        ConsumerGroupMemberMetadataValue {
            instance_id: Some(Str::default()),
            rack_id: Some(Str::default()),
            client_id: Str::default(),
            client_host: Str::default(),
            subscribed_topic_names: Vec::new(),
            subscribed_topic_regex: Some(Str::default()),
            rebalance_timeout_ms: -1,
            server_assignor: Some(Str::default()),
            classic_member_metadata: Some(ClassicMemberMetadata::default()),
        }
    }
}

impl ConsumerGroupMemberMetadataValue {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.instance_id = r.nullable_string(true)?;
        value.rack_id = r.nullable_string(true)?;
        value.client_id = r.string(true)?;
        value.client_host = r.string(true)?;
        value.subscribed_topic_names = r.array(true, 1, version, |r, _| r.string(true))?;
        value.subscribed_topic_regex = r.nullable_string(true)?;
        value.rebalance_timeout_ms = r.i32()?;
        value.server_assignor = r.nullable_string(true)?;
        r.tagged_fields(|r, tag| {
            match tag {
                0 => {
                    value.classic_member_metadata =
                        r.nullable_tagged_struct(version, ClassicMemberMetadata::read)?
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.nullable_string(true, &self.instance_id)?;
        w.nullable_string(true, &self.rack_id)?;
        w.string(true, &self.client_id)?;
        w.string(true, &self.client_host)?;
        w.array(true, version, &self.subscribed_topic_names, |value, w, _| w.string(true, value))?;
        w.nullable_string(true, &self.subscribed_topic_regex)?;
        w.i32(self.rebalance_timeout_ms);
        w.nullable_string(true, &self.server_assignor)?;
        let has_classic_member_metadata = self
            .classic_member_metadata
            .as_ref()
            .is_none_or(|value| *value != ClassicMemberMetadata::default());
        w.uvarint(u32::from(has_classic_member_metadata));
        if has_classic_member_metadata {
            w.tagged_field(0, |w| {
                w.nullable_tagged_struct(
                    version,
                    &self.classic_member_metadata,
                    ClassicMemberMetadata::write,
                )?;
                Ok(())
            })?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClassicMemberMetadata {
    pub session_timeout_ms: i32,
    pub supported_protocols: Vec<ClassicProtocol>,
}

impl ClassicMemberMetadata {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.session_timeout_ms = r.i32()?;
        value.supported_protocols = r.array(true, 3, version, ClassicProtocol::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i32(self.session_timeout_ms);
        w.array(true, version, &self.supported_protocols, ClassicProtocol::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClassicProtocol {
    pub name: Str,
    pub metadata: Bytes,
}

impl ClassicProtocol {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.name = r.string(true)?;
        value.metadata = r.bytes(true)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.name)?;
        w.bytes(true, &self.metadata)?;
        w.uvarint(0);
        Ok(())
    }
}

impl Message for ConsumerGroupMemberMetadataValue {
    const NAME: &'static str = "ConsumerGroupMemberMetadataValue";
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
