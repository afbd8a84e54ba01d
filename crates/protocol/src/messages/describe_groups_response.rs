// Written by `cargo xtask codegen` from DescribeGroupsResponse.json of Kafka 4.4.0. Do not edit.

use bytes::Bytes;

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 6.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DescribeGroupsResponse {
    /// Versions 1 to 6.
    pub throttle_time_ms: i32,
    pub groups: Vec<DescribedGroup>,
}

impl DescribeGroupsResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 5;
        let mut value = Self::default();
        if version >= 1 {
            value.throttle_time_ms = r.i32()?;
        }
        value.groups = r.array(
            flexible,
            if version < 3 {
                14
            } else if version < 5 {
                18
            } else if version < 6 {
                12
            } else {
                13
            },
            version,
            DescribedGroup::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 5;
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.array(flexible, version, &self.groups, DescribedGroup::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribedGroup {
    pub error_code: i16,
    /// Version 6.
    pub error_message: Option<Str>,
    pub group_id: Str,
    pub group_state: Str,
    pub protocol_type: Str,
    pub protocol_data: Str,
    pub members: Vec<DescribedGroupMember>,
    /// Versions 3 to 6.
    pub authorized_operations: i32,
}

impl Default for DescribedGroup {
    fn default() -> DescribedGroup {
        DescribedGroup {
            error_code: 0,
            error_message: None,
            group_id: Str::default(),
            group_state: Str::default(),
            protocol_type: Str::default(),
            protocol_data: Str::default(),
            members: Vec::new(),
            authorized_operations: i32::MIN,
        }
    }
}

impl DescribedGroup {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 5;
        let mut value = Self::default();
        value.error_code = r.i16()?;
        if version == 6 {
            value.error_message = r.nullable_string(true)?;
        }
        value.group_id = r.string(flexible)?;
        value.group_state = r.string(flexible)?;
        value.protocol_type = r.string(flexible)?;
        value.protocol_data = r.string(flexible)?;
        value.members = r.array(
            flexible,
            if version < 4 {
                14
            } else if version < 5 {
                16
            } else {
                7
            },
            version,
            DescribedGroupMember::read,
        )?;
        if version >= 3 {
            value.authorized_operations = r.i32()?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 5;
        w.i16(self.error_code);
        if version == 6 {
            w.nullable_string(true, &self.error_message)?;
        } else if self.error_message.is_some() {
            return Err(EncodeError::FieldNotInVersion { field: "ErrorMessage", version });
        }
        w.string(flexible, &self.group_id)?;
        w.string(flexible, &self.group_state)?;
        w.string(flexible, &self.protocol_type)?;
        w.string(flexible, &self.protocol_data)?;
        w.array(flexible, version, &self.members, DescribedGroupMember::write)?;
        if version >= 3 {
            w.i32(self.authorized_operations);
        } else if self.authorized_operations != i32::MIN {
            return Err(EncodeError::FieldNotInVersion { field: "AuthorizedOperations", version });
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct DescribedGroupMember {
    pub member_id: Str,
    /// Versions 4 to 6.
    pub group_instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub member_metadata: Bytes,
    pub member_assignment: Bytes,
}

impl DescribedGroupMember {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 5;
        let mut value = Self::default();
        value.member_id = r.string(flexible)?;
        if version >= 4 {
            value.group_instance_id = r.nullable_string(flexible)?;
        }
        value.client_id = r.string(flexible)?;
        value.client_host = r.string(flexible)?;
        value.member_metadata = r.bytes(flexible)?;
        value.member_assignment = r.bytes(flexible)?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 5;
        w.string(flexible, &self.member_id)?;
        if version >= 4 {
            w.nullable_string(flexible, &self.group_instance_id)?;
        }
        w.string(flexible, &self.client_id)?;
        w.string(flexible, &self.client_host)?;
        w.bytes(flexible, &self.member_metadata)?;
        w.bytes(flexible, &self.member_assignment)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for DescribeGroupsResponse {
    const NAME: &'static str = "DescribeGroupsResponse";
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
