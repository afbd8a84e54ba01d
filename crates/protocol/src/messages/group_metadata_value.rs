// Written by `cargo xtask codegen` from GroupMetadataValue.json of Kafka 4.4.0. Do not edit.

use bytes::Bytes;

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 4.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupMetadataValue {
    pub protocol_type: Str,
    pub generation: i32,
    pub protocol: Option<Str>,
    pub leader: Option<Str>,
    /// Versions 2 to 4.
    pub current_state_timestamp: i64,
    pub members: Vec<MemberMetadata>,
}

impl Default for GroupMetadataValue {
    fn default() -> GroupMetadataValue {
        GroupMetadataValue {
            protocol_type: Str::default(),
            generation: 0,
            protocol: Some(Str::default()),
            leader: Some(Str::default()),
            current_state_timestamp: -1,
            members: Vec::new(),
        }
    }
}

impl GroupMetadataValue {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut value = Self::default();
        value.protocol_type = r.string(flexible)?;
        value.generation = r.i32()?;
        value.protocol = r.nullable_string(flexible)?;
        value.leader = r.nullable_string(flexible)?;
        if version >= 2 {
            value.current_state_timestamp = r.i64()?;
        }
        value.members = r.array(
            flexible,
            if version < 1 {
                18
            } else if version < 3 {
                22
            } else if version < 4 {
                24
            } else {
                15
            },
            version,
            MemberMetadata::read,
        )?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 4;
        w.string(flexible, &self.protocol_type)?;
        w.i32(self.generation);
        w.nullable_string(flexible, &self.protocol)?;
        w.nullable_string(flexible, &self.leader)?;
        if version >= 2 {
            w.i64(self.current_state_timestamp);
        }
        w.array(flexible, version, &self.members, MemberMetadata::write)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct MemberMetadata {
    pub member_id: Str,
    /// Versions 3 to 4.
    pub group_instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    /// Versions 1 to 4.
    pub rebalance_timeout: i32,
    pub session_timeout: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

impl Default for MemberMetadata {
    fn default() -> MemberMetadata {
        MemberMetadata {
            member_id: Str::default(),
            group_instance_id: None,
            client_id: Str::default(),
            client_host: Str::default(),
            rebalance_timeout: -1,
            session_timeout: 0,
            subscription: Bytes::default(),
            assignment: Bytes::default(),
        }
    }
}

impl MemberMetadata {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut value = Self::default();
        value.member_id = r.string(flexible)?;
        if version >= 3 {
            value.group_instance_id = r.nullable_string(flexible)?;
        }
        value.client_id = r.string(flexible)?;
        value.client_host = r.string(flexible)?;
        if version >= 1 {
            value.rebalance_timeout = r.i32()?;
        }
        value.session_timeout = r.i32()?;
        value.subscription = r.bytes(flexible)?;
        value.assignment = r.bytes(flexible)?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 4;
        w.string(flexible, &self.member_id)?;
        if version >= 3 {
            w.nullable_string(flexible, &self.group_instance_id)?;
        }
        w.string(flexible, &self.client_id)?;
        w.string(flexible, &self.client_host)?;
        if version >= 1 {
            w.i32(self.rebalance_timeout);
        }
        w.i32(self.session_timeout);
        w.bytes(flexible, &self.subscription)?;
        w.bytes(flexible, &self.assignment)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for GroupMetadataValue {
    const NAME: &'static str = "GroupMetadataValue";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=4;
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
