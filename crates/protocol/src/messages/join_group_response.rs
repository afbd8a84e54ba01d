// Written by `cargo xtask codegen` from JoinGroupResponse.json of Kafka 4.4.0. Do not edit.

use bytes::Bytes;

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 9.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinGroupResponse {
    /// Versions 2 to 9.
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub generation_id: i32,
    /// Versions 7 to 9.
    pub protocol_type: Option<Str>,
    pub protocol_name: Option<Str>,
    pub leader: Str,
    /// Version 9.
    pub skip_assignment: bool,
    pub member_id: Str,
    pub members: Vec<JoinGroupResponseMember>,
}

impl Default for JoinGroupResponse {
    fn default() -> JoinGroupResponse {
        JoinGroupResponse {
            throttle_time_ms: 0,
            error_code: 0,
            generation_id: -1,
            protocol_type: None,
            protocol_name: Some(Str::default()),
            leader: Str::default(),
            skip_assignment: false,
            member_id: Str::default(),
            members: Vec::new(),
        }
    }
}

impl JoinGroupResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut value = Self::default();
        if version >= 2 {
            value.throttle_time_ms = r.i32()?;
        }
        value.error_code = r.i16()?;
        value.generation_id = r.i32()?;
        if version >= 7 {
            value.protocol_type = r.nullable_string(true)?;
        }
        value.protocol_name =
            if version >= 7 { r.nullable_string(flexible)? } else { Some(r.string(flexible)?) };
        value.leader = r.string(flexible)?;
        if version == 9 {
            value.skip_assignment = r.bool()?;
        }
        value.member_id = r.string(flexible)?;
        value.members = r.array(
            flexible,
            if version < 5 {
                6
            } else if version < 6 {
                8
            } else {
                4
            },
            version,
            JoinGroupResponseMember::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 6;
        if version >= 2 {
            w.i32(self.throttle_time_ms);
        }
        w.i16(self.error_code);
        w.i32(self.generation_id);
        if version >= 7 {
            w.nullable_string(true, &self.protocol_type)?;
        }
        if self.protocol_name.is_none() && !(version >= 7) {
            return Err(EncodeError::UnexpectedNull { field: "ProtocolName", version });
        }
        w.nullable_string(flexible, &self.protocol_name)?;
        w.string(flexible, &self.leader)?;
        if version == 9 {
            w.bool(self.skip_assignment);
        } else if self.skip_assignment {
            return Err(EncodeError::FieldNotInVersion { field: "SkipAssignment", version });
        }
        w.string(flexible, &self.member_id)?;
        w.array(flexible, version, &self.members, JoinGroupResponseMember::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct JoinGroupResponseMember {
    pub member_id: Str,
    /// Versions 5 to 9.
    pub group_instance_id: Option<Str>,
    pub metadata: Bytes,
}

impl JoinGroupResponseMember {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut value = Self::default();
        value.member_id = r.string(flexible)?;
        if version >= 5 {
            value.group_instance_id = r.nullable_string(flexible)?;
        }
        value.metadata = r.bytes(flexible)?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 6;
        w.string(flexible, &self.member_id)?;
        if version >= 5 {
            w.nullable_string(flexible, &self.group_instance_id)?;
        }
        w.bytes(flexible, &self.metadata)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for JoinGroupResponse {
    const NAME: &'static str = "JoinGroupResponse";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=9;
    const FIRST_FLEXIBLE_VERSION: i16 = 6;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}
