// Written by `cargo xtask codegen` from LeaveGroupRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 5.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LeaveGroupRequest {
    pub group_id: Str,
    /// Versions 0 to 2.
    pub member_id: Str,
    /// Versions 3 to 5.
    pub members: Vec<MemberIdentity>,
}

impl LeaveGroupRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut value = Self::default();
        value.group_id = r.string(flexible)?;
        if version <= 2 {
            value.member_id = r.string(false)?;
        }
        if version >= 3 {
            value.members = r.array(
                flexible,
                if version < 4 {
                    4
                } else if version < 5 {
                    3
                } else {
                    4
                },
                version,
                MemberIdentity::read,
            )?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 4;
        w.string(flexible, &self.group_id)?;
        if version <= 2 {
            w.string(false, &self.member_id)?;
        } else if !self.member_id.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "MemberId", version });
        }
        if version >= 3 {
            w.array(flexible, version, &self.members, MemberIdentity::write)?;
        } else if !self.members.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "Members", version });
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct MemberIdentity {
    pub member_id: Str,
    pub group_instance_id: Option<Str>,
    /// Version 5.
    pub reason: Option<Str>,
}

impl MemberIdentity {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut value = Self::default();
        value.member_id = r.string(flexible)?;
        value.group_instance_id = r.nullable_string(flexible)?;
        if version == 5 {
            value.reason = r.nullable_string(true)?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 4;
        w.string(flexible, &self.member_id)?;
        w.nullable_string(flexible, &self.group_instance_id)?;
        if version == 5 {
            w.nullable_string(true, &self.reason)?;
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for LeaveGroupRequest {
    const NAME: &'static str = "LeaveGroupRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=5;
    const FIRST_FLEXIBLE_VERSION: i16 = 4;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}

impl crate::message::Request for LeaveGroupRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::LeaveGroup;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::LeaveGroupResponse;
}
