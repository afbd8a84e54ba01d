// Written by `cargo xtask codegen` from DescribeGroupsRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 6.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DescribeGroupsRequest {
    pub groups: Vec<Str>,
    /// Versions 3 to 6.
    pub include_authorized_operations: bool,
}

impl DescribeGroupsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 5;
        let mut value = Self::default();
        value.groups =
            r.array(flexible, if version < 5 { 2 } else { 1 }, version, |r, _| r.string(flexible))?;
        if version >= 3 {
            value.include_authorized_operations = r.bool()?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 5;
        w.array(flexible, version, &self.groups, |value, w, _| w.string(flexible, value))?;
        if version >= 3 {
            w.bool(self.include_authorized_operations);
        } else if self.include_authorized_operations {
            return Err(EncodeError::FieldNotInVersion { field: "IncludeAuthorizedOperations", version });
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for DescribeGroupsRequest {
    const NAME: &'static str = "DescribeGroupsRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=6;
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

impl crate::message::Request for DescribeGroupsRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::DescribeGroups;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::DescribeGroupsResponse;
}
