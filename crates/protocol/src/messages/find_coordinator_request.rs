// Written by `cargo xtask codegen` from FindCoordinatorRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 6.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FindCoordinatorRequest {
    /// Versions 0 to 3.
    pub key: Str,
    /// Versions 1 to 6.
    pub key_type: i8,
    /// Versions 4 to 6.
    pub coordinator_keys: Vec<Str>,
}

impl FindCoordinatorRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut value = Self::default();
        if version <= 3 {
            value.key = r.string(flexible)?;
        }
        if version >= 1 {
            value.key_type = r.i8()?;
        }
        if version >= 4 {
            value.coordinator_keys = r.array(true, 1, version, |r, _| r.string(true))?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 3;
        if version <= 3 {
            w.string(flexible, &self.key)?;
        } else if !self.key.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "Key", version });
        }
        if version >= 1 {
            w.i8(self.key_type);
        } else if self.key_type != 0 {
            return Err(EncodeError::FieldNotInVersion { field: "KeyType", version });
        }
        if version >= 4 {
            w.array(true, version, &self.coordinator_keys, |value, w, _| w.string(true, value))?;
        } else if !self.coordinator_keys.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "CoordinatorKeys", version });
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for FindCoordinatorRequest {
    const NAME: &'static str = "FindCoordinatorRequest";
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

impl crate::message::Request for FindCoordinatorRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::FindCoordinator;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::FindCoordinatorResponse;
}
