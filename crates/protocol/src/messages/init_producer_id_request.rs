// Written by `cargo xtask codegen` from InitProducerIdRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 6.
#[derive(Debug, Clone, PartialEq)]
pub struct InitProducerIdRequest {
    pub transactional_id: Option<Str>,
    pub transaction_timeout_ms: i32,
    /// Versions 3 to 6.
    pub producer_id: i64,
    /// Versions 3 to 6.
    pub producer_epoch: i16,
    /// Version 6.
    pub enable2_pc: bool,
    /// Version 6.
    pub keep_prepared_txn: bool,
}

impl Default for InitProducerIdRequest {
    fn default() -> InitProducerIdRequest {
        InitProducerIdRequest {
            transactional_id: Some(Str::default()),
            transaction_timeout_ms: 0,
            producer_id: -1,
            producer_epoch: -1,
            enable2_pc: false,
            keep_prepared_txn: false,
        }
    }
}

impl InitProducerIdRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 2;
        let mut value = Self::default();
        value.transactional_id = r.nullable_string(flexible)?;
        value.transaction_timeout_ms = r.i32()?;
        if version >= 3 {
            value.producer_id = r.i64()?;
        }
        if version >= 3 {
            value.producer_epoch = r.i16()?;
        }
        if version == 6 {
            value.enable2_pc = r.bool()?;
        }
        if version == 6 {
            value.keep_prepared_txn = r.bool()?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 2;
        w.nullable_string(flexible, &self.transactional_id)?;
        w.i32(self.transaction_timeout_ms);
        if version >= 3 {
            w.i64(self.producer_id);
        } else if self.producer_id != -1 {
            return Err(EncodeError::FieldNotInVersion { field: "ProducerId", version });
        }
        if version >= 3 {
            w.i16(self.producer_epoch);
        } else if self.producer_epoch != -1 {
            return Err(EncodeError::FieldNotInVersion { field: "ProducerEpoch", version });
        }
        if version == 6 {
            w.bool(self.enable2_pc);
        } else if self.enable2_pc {
            return Err(EncodeError::FieldNotInVersion { field: "Enable2Pc", version });
        }
        if version == 6 {
            w.bool(self.keep_prepared_txn);
        } else if self.keep_prepared_txn {
            return Err(EncodeError::FieldNotInVersion { field: "KeepPreparedTxn", version });
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for InitProducerIdRequest {
    const NAME: &'static str = "InitProducerIdRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=6;
    const FIRST_FLEXIBLE_VERSION: i16 = 2;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}

impl crate::message::Request for InitProducerIdRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::InitProducerId;
    const LATEST_VERSION_UNSTABLE: bool = true;
    type Response = super::InitProducerIdResponse;
}
