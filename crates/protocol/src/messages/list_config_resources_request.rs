// Written by `cargo xtask codegen` from ListConfigResourcesRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListConfigResourcesRequest {
    /// Version 1.
    pub resource_types: Vec<i8>,
}

impl ListConfigResourcesRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        if version == 1 {
            value.resource_types = r.array(true, 1, version, |r, _| r.i8())?;
        }
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if version == 1 {
            w.array(true, version, &self.resource_types, |value, w, _| {
                w.i8(*value);
                Ok(())
            })?;
        } else if !self.resource_types.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "ResourceTypes", version });
        }
        w.uvarint(0);
        Ok(())
    }
}

impl Message for ListConfigResourcesRequest {
    const NAME: &'static str = "ListConfigResourcesRequest";
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

impl crate::message::Request for ListConfigResourcesRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::ListConfigResources;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::ListConfigResourcesResponse;
}
