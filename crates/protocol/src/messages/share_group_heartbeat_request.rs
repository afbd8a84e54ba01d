// Written by `cargo xtask codegen` from ShareGroupHeartbeatRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Version 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ShareGroupHeartbeatRequest {
    pub group_id: Str,
    pub member_id: Str,
    pub member_epoch: i32,
    pub rack_id: Option<Str>,
    pub subscribed_topic_names: Option<Vec<Str>>,
}

impl ShareGroupHeartbeatRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.group_id = r.string(true)?;
        value.member_id = r.string(true)?;
        value.member_epoch = r.i32()?;
        value.rack_id = r.nullable_string(true)?;
        value.subscribed_topic_names = r.nullable_array(true, 1, version, |r, _| r.string(true))?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.group_id)?;
        w.string(true, &self.member_id)?;
        w.i32(self.member_epoch);
        w.nullable_string(true, &self.rack_id)?;
        w.nullable_array(true, version, self.subscribed_topic_names.as_deref(), |value, w, _| {
            w.string(true, value)
        })?;
        w.uvarint(0);
        Ok(())
    }
}

impl Message for ShareGroupHeartbeatRequest {
    const NAME: &'static str = "ShareGroupHeartbeatRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 1..=1;
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

impl crate::message::Request for ShareGroupHeartbeatRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::ShareGroupHeartbeat;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::ShareGroupHeartbeatResponse;
}
