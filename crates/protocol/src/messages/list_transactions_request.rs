// Written by `cargo xtask codegen` from ListTransactionsRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 2.
#[derive(Debug, Clone, PartialEq)]
pub struct ListTransactionsRequest {
    pub state_filters: Vec<Str>,
    pub producer_id_filters: Vec<i64>,
    /// Versions 1 to 2.
    pub duration_filter: i64,
    /// Version 2.
    pub transactional_id_pattern: Option<Str>,
}

impl Default for ListTransactionsRequest {
    fn default() -> ListTransactionsRequest {
        ListTransactionsRequest {
            state_filters: Vec::new(),
            producer_id_filters: Vec::new(),
            duration_filter: -1,
            transactional_id_pattern: None,
        }
    }
}

impl ListTransactionsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.state_filters = r.array(true, 1, version, |r, _| r.string(true))?;
        value.producer_id_filters = r.array(true, 8, version, |r, _| r.i64())?;
        if version >= 1 {
            value.duration_filter = r.i64()?;
        }
        if version == 2 {
            value.transactional_id_pattern = r.nullable_string(true)?;
        }
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.array(true, version, &self.state_filters, |value, w, _| w.string(true, value))?;
        w.array(true, version, &self.producer_id_filters, |value, w, _| {
            w.i64(*value);
            Ok(())
        })?;
        if version >= 1 {
            w.i64(self.duration_filter);
        } else if self.duration_filter != -1 {
            return Err(EncodeError::FieldNotInVersion { field: "DurationFilter", version });
        }
        if version == 2 {
            w.nullable_string(true, &self.transactional_id_pattern)?;
        } else if self.transactional_id_pattern.is_some() {
            return Err(EncodeError::FieldNotInVersion { field: "TransactionalIdPattern", version });
        }
        w.uvarint(0);
        Ok(())
    }
}

impl Message for ListTransactionsRequest {
    const NAME: &'static str = "ListTransactionsRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=2;
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

impl crate::message::Request for ListTransactionsRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::ListTransactions;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::ListTransactionsResponse;
}
