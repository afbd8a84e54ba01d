// Written by `cargo xtask codegen` from WriteTxnMarkersRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 1 to 2.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WriteTxnMarkersRequest {
    pub markers: Vec<WritableTxnMarker>,
}

impl WriteTxnMarkersRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.markers = r.array(true, if version < 2 { 17 } else { 18 }, version, WritableTxnMarker::read)?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.array(true, version, &self.markers, WritableTxnMarker::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct WritableTxnMarker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub transaction_result: bool,
    pub topics: Vec<WritableTxnMarkerTopic>,
    pub coordinator_epoch: i32,
    /// Version 2.
    pub transaction_version: i8,
}

impl WritableTxnMarker {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.producer_id = r.i64()?;
        value.producer_epoch = r.i16()?;
        value.transaction_result = r.bool()?;
        value.topics = r.array(true, 3, version, WritableTxnMarkerTopic::read)?;
        value.coordinator_epoch = r.i32()?;
        if version == 2 {
            value.transaction_version = r.i8()?;
        }
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.i64(self.producer_id);
        w.i16(self.producer_epoch);
        w.bool(self.transaction_result);
        w.array(true, version, &self.topics, WritableTxnMarkerTopic::write)?;
        w.i32(self.coordinator_epoch);
        if version == 2 {
            w.i8(self.transaction_version);
        }
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct WritableTxnMarkerTopic {
    pub name: Str,
    pub partition_indexes: Vec<i32>,
}

impl WritableTxnMarkerTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.name = r.string(true)?;
        value.partition_indexes = r.array(true, 4, version, |r, _| r.i32())?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.name)?;
        w.array(true, version, &self.partition_indexes, |value, w, _| {
            w.i32(*value);
            Ok(())
        })?;
        w.uvarint(0);
        Ok(())
    }
}

impl Message for WriteTxnMarkersRequest {
    const NAME: &'static str = "WriteTxnMarkersRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 1..=2;
    const FIRST_FLEXIBLE_VERSION: i16 = 1;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}

impl crate::message::Request for WriteTxnMarkersRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::WriteTxnMarkers;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::WriteTxnMarkersResponse;
}
