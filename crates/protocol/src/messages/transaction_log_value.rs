// Written by `cargo xtask codegen` from TransactionLogValue.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionLogValue {
    pub producer_id: i64,
    /// Version 1.
    pub previous_producer_id: i64,
    /// Version 1.
    pub next_producer_id: i64,
    pub producer_epoch: i16,
    /// Version 1.
    pub next_producer_epoch: i16,
    pub transaction_timeout_ms: i32,
    pub transaction_status: i8,
    pub transaction_partitions: Option<Vec<PartitionsSchema>>,
    pub transaction_last_update_timestamp_ms: i64,
    pub transaction_start_timestamp_ms: i64,
    /// Version 1.
    pub client_transaction_version: i16,
}

impl Default for TransactionLogValue {
    fn default() -> TransactionLogValue {
        TransactionLogValue {
            producer_id: 0,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: 0,
            next_producer_epoch: -1,
            transaction_timeout_ms: 0,
            transaction_status: 0,
            transaction_partitions: Some(Vec::new()),
            transaction_last_update_timestamp_ms: 0,
            transaction_start_timestamp_ms: 0,
            client_transaction_version: 0,
        }
    }
}

impl TransactionLogValue {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 1;
        let mut value = Self::default();
        value.producer_id = r.i64()?;
        value.producer_epoch = r.i16()?;
        value.transaction_timeout_ms = r.i32()?;
        value.transaction_status = r.i8()?;
        value.transaction_partitions =
            r.nullable_array(flexible, if version < 1 { 6 } else { 3 }, version, PartitionsSchema::read)?;
        value.transaction_last_update_timestamp_ms = r.i64()?;
        value.transaction_start_timestamp_ms = r.i64()?;
        if flexible {
            r.tagged_fields(|r, tag| {
                match tag {
                    0 => value.previous_producer_id = r.i64()?,
                    1 => value.next_producer_id = r.i64()?,
                    2 => value.client_transaction_version = r.i16()?,
                    3 => value.next_producer_epoch = r.i16()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 1;
        w.i64(self.producer_id);
        if !(version == 1) && self.previous_producer_id != -1 {
            return Err(EncodeError::FieldNotInVersion { field: "PreviousProducerId", version });
        }
        if !(version == 1) && self.next_producer_id != -1 {
            return Err(EncodeError::FieldNotInVersion { field: "NextProducerId", version });
        }
        w.i16(self.producer_epoch);
        if !(version == 1) && self.next_producer_epoch != -1 {
            return Err(EncodeError::FieldNotInVersion { field: "NextProducerEpoch", version });
        }
        w.i32(self.transaction_timeout_ms);
        w.i8(self.transaction_status);
        w.nullable_array(flexible, version, self.transaction_partitions.as_deref(), PartitionsSchema::write)?;
        w.i64(self.transaction_last_update_timestamp_ms);
        w.i64(self.transaction_start_timestamp_ms);
        if !(version == 1) && self.client_transaction_version != 0 {
            return Err(EncodeError::FieldNotInVersion { field: "ClientTransactionVersion", version });
        }
        if flexible {
            let has_previous_producer_id = self.previous_producer_id != -1;
            let has_next_producer_id = self.next_producer_id != -1;
            let has_client_transaction_version = self.client_transaction_version != 0;
            let has_next_producer_epoch = self.next_producer_epoch != -1;
            w.uvarint(
                u32::from(has_previous_producer_id)
                    + u32::from(has_next_producer_id)
                    + u32::from(has_client_transaction_version)
                    + u32::from(has_next_producer_epoch),
            );
            if has_previous_producer_id {
                w.tagged_field(0, |w| {
                    w.i64(self.previous_producer_id);
                    Ok(())
                })?;
            }
            if has_next_producer_id {
                w.tagged_field(1, |w| {
                    w.i64(self.next_producer_id);
                    Ok(())
                })?;
            }
            if has_client_transaction_version {
                w.tagged_field(2, |w| {
                    w.i16(self.client_transaction_version);
                    Ok(())
                })?;
            }
            if has_next_producer_epoch {
                w.tagged_field(3, |w| {
                    w.i16(self.next_producer_epoch);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct PartitionsSchema {
    pub topic: Str,
    pub partition_ids: Vec<i32>,
}

impl PartitionsSchema {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 1;
        let mut value = Self::default();
        value.topic = r.string(flexible)?;
        value.partition_ids = r.array(flexible, 4, version, |r, _| r.i32())?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 1;
        w.string(flexible, &self.topic)?;
        w.array(flexible, version, &self.partition_ids, |value, w, _| {
            w.i32(*value);
            Ok(())
        })?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for TransactionLogValue {
    const NAME: &'static str = "TransactionLogValue";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=1;
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
