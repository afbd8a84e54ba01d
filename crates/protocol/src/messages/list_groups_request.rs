// Written by `cargo xtask codegen` from ListGroupsRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 5.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListGroupsRequest {
    /// Versions 4 to 5.
    pub states_filter: Vec<Str>,
    /// Version 5.
    pub types_filter: Vec<Str>,
}

impl ListGroupsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut value = Self::default();
        if version >= 4 {
            value.states_filter = r.array(true, 1, version, |r, _| r.string(true))?;
        }
        if version == 5 {
            value.types_filter = r.array(true, 1, version, |r, _| r.string(true))?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 3;
        if version >= 4 {
            w.array(true, version, &self.states_filter, |value, w, _| w.string(true, value))?;
        } else if !self.states_filter.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "StatesFilter", version });
        }
        if version == 5 {
            w.array(true, version, &self.types_filter, |value, w, _| w.string(true, value))?;
        } else if !self.types_filter.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "TypesFilter", version });
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for ListGroupsRequest {
    const NAME: &'static str = "ListGroupsRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=5;
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

impl crate::message::Request for ListGroupsRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::ListGroups;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::ListGroupsResponse;
}
