// Written by `cargo xtask codegen` from ListGroupsResponse.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 5.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListGroupsResponse {
    /// Versions 1 to 5.
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub groups: Vec<ListedGroup>,
}

impl ListGroupsResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut value = Self::default();
        if version >= 1 {
            value.throttle_time_ms = r.i32()?;
        }
        value.error_code = r.i16()?;
        value.groups = r.array(
            flexible,
            if version < 3 {
                4
            } else if version < 4 {
                3
            } else if version < 5 {
                4
            } else {
                5
            },
            version,
            ListedGroup::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 3;
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.i16(self.error_code);
        w.array(flexible, version, &self.groups, ListedGroup::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListedGroup {
    pub group_id: Str,
    pub protocol_type: Str,
    /// Versions 4 to 5.
    pub group_state: Str,
    /// Version 5.
    pub group_type: Str,
}

impl ListedGroup {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut value = Self::default();
        value.group_id = r.string(flexible)?;
        value.protocol_type = r.string(flexible)?;
        if version >= 4 {
            value.group_state = r.string(true)?;
        }
        if version == 5 {
            value.group_type = r.string(true)?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 3;
        w.string(flexible, &self.group_id)?;
        w.string(flexible, &self.protocol_type)?;
        if version >= 4 {
            w.string(true, &self.group_state)?;
        }
        if version == 5 {
            w.string(true, &self.group_type)?;
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for ListGroupsResponse {
    const NAME: &'static str = "ListGroupsResponse";
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
