// Written by `cargo xtask codegen` from ShareGroupDescribeRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Version 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ShareGroupDescribeRequest {
    pub group_ids: Vec<Str>,
    pub include_authorized_operations: bool,
}

impl ShareGroupDescribeRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.group_ids = r.array(true, 1, version, |r, _| r.string(true))?;
        value.include_authorized_operations = r.bool()?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.array(true, version, &self.group_ids, |value, w, _| w.string(true, value))?;
        w.bool(self.include_authorized_operations);
        w.uvarint(0);
        Ok(())
    }
}

impl Message for ShareGroupDescribeRequest {
    const NAME: &'static str = "ShareGroupDescribeRequest";
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

impl crate::message::Request for ShareGroupDescribeRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::ShareGroupDescribe;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::ShareGroupDescribeResponse;
}
