// Written by `cargo xtask codegen` from JoinGroupRequest.json of Kafka 4.4.0. Do not edit.

use bytes::Bytes;

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 9.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinGroupRequest {
    pub group_id: Str,
    pub session_timeout_ms: i32,
    /// Versions 1 to 9.
    pub rebalance_timeout_ms: i32,
    pub member_id: Str,
    /// Versions 5 to 9.
    pub group_instance_id: Option<Str>,
    pub protocol_type: Str,
    pub protocols: Vec<JoinGroupRequestProtocol>,
    /// Versions 8 to 9.
    pub reason: Option<Str>,
}

impl Default for JoinGroupRequest {
    fn default() -> JoinGroupRequest {
        JoinGroupRequest {
            group_id: Str::default(),
            session_timeout_ms: 0,
            rebalance_timeout_ms: -1,
            member_id: Str::default(),
            group_instance_id: None,
            protocol_type: Str::default(),
            protocols: Vec::new(),
            reason: None,
        }
    }
}

impl JoinGroupRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut value = Self::default();
        value.group_id = r.string(flexible)?;
        value.session_timeout_ms = r.i32()?;
        if version >= 1 {
            value.rebalance_timeout_ms = r.i32()?;
        }
        value.member_id = r.string(flexible)?;
        if version >= 5 {
            value.group_instance_id = r.nullable_string(flexible)?;
        }
        value.protocol_type = r.string(flexible)?;
        value.protocols =
            r.array(flexible, if version < 6 { 6 } else { 3 }, version, JoinGroupRequestProtocol::read)?;
        if version >= 8 {
            value.reason = r.nullable_string(true)?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 6;
        w.string(flexible, &self.group_id)?;
        w.i32(self.session_timeout_ms);
        if version >= 1 {
            w.i32(self.rebalance_timeout_ms);
        }
        w.string(flexible, &self.member_id)?;
        if version >= 5 {
            w.nullable_string(flexible, &self.group_instance_id)?;
        } else if self.group_instance_id.is_some() {
            return Err(EncodeError::FieldNotInVersion { field: "GroupInstanceId", version });
        }
        w.string(flexible, &self.protocol_type)?;
        w.array(flexible, version, &self.protocols, JoinGroupRequestProtocol::write)?;
        if version >= 8 {
            w.nullable_string(true, &self.reason)?;
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct JoinGroupRequestProtocol {
    pub name: Str,
    pub metadata: Bytes,
}

impl JoinGroupRequestProtocol {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut value = Self::default();
        value.name = r.string(flexible)?;
        value.metadata = r.bytes(flexible)?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 6;
        w.string(flexible, &self.name)?;
        w.bytes(flexible, &self.metadata)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for JoinGroupRequest {
    const NAME: &'static str = "JoinGroupRequest";
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

impl crate::message::Request for JoinGroupRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::JoinGroup;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::JoinGroupResponse;
}
