// Written by `cargo xtask codegen` from PushTelemetryRequest.json of Kafka 4.4.0. Do not edit.

use bytes::Bytes;

use crate::message::{Message, check_decode, check_encode};
use crate::types::Uuid;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Version 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PushTelemetryRequest {
    pub client_instance_id: Uuid,
    pub subscription_id: i32,
    pub terminating: bool,
    pub compression_type: i8,
    pub metrics: Bytes,
}

impl PushTelemetryRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.client_instance_id = r.uuid()?;
        value.subscription_id = r.i32()?;
        value.terminating = r.bool()?;
        value.compression_type = r.i8()?;
        value.metrics = r.bytes(true)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.uuid(self.client_instance_id);
        w.i32(self.subscription_id);
        w.bool(self.terminating);
        w.i8(self.compression_type);
        w.bytes(true, &self.metrics)?;
        w.uvarint(0);
        Ok(())
    }
}

impl Message for PushTelemetryRequest {
    const NAME: &'static str = "PushTelemetryRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=0;
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

impl crate::message::Request for PushTelemetryRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::PushTelemetry;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::PushTelemetryResponse;
}
