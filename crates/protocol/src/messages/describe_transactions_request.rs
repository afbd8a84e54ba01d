// Written by `cargo xtask codegen` from DescribeTransactionsRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Version 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DescribeTransactionsRequest {
    pub transactional_ids: Vec<Str>,
}

impl DescribeTransactionsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.transactional_ids = r.array(true, 1, version, |r, _| r.string(true))?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.array(true, version, &self.transactional_ids, |value, w, _| w.string(true, value))?;
        w.uvarint(0);
        Ok(())
    }
}

impl Message for DescribeTransactionsRequest {
    const NAME: &'static str = "DescribeTransactionsRequest";
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

impl crate::message::Request for DescribeTransactionsRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::DescribeTransactions;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::DescribeTransactionsResponse;
}
