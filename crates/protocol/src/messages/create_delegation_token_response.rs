// Written by `cargo xtask codegen` from CreateDelegationTokenResponse.json of Kafka 4.4.0. Do not edit.

use bytes::Bytes;

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 1 to 3.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CreateDelegationTokenResponse {
    pub error_code: i16,
    pub principal_type: Str,
    pub principal_name: Str,
    /// Version 3.
    pub token_requester_principal_type: Str,
    /// Version 3.
    pub token_requester_principal_name: Str,
    pub issue_timestamp_ms: i64,
    pub expiry_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub token_id: Str,
    pub hmac: Bytes,
    pub throttle_time_ms: i32,
}

impl CreateDelegationTokenResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 2;
        let mut value = Self::default();
        value.error_code = r.i16()?;
        value.principal_type = r.string(flexible)?;
        value.principal_name = r.string(flexible)?;
        if version == 3 {
            value.token_requester_principal_type = r.string(true)?;
        }
        if version == 3 {
            value.token_requester_principal_name = r.string(true)?;
        }
        value.issue_timestamp_ms = r.i64()?;
        value.expiry_timestamp_ms = r.i64()?;
        value.max_timestamp_ms = r.i64()?;
        value.token_id = r.string(flexible)?;
        value.hmac = r.bytes(flexible)?;
        value.throttle_time_ms = r.i32()?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 2;
        w.i16(self.error_code);
        w.string(flexible, &self.principal_type)?;
        w.string(flexible, &self.principal_name)?;
        if version == 3 {
            w.string(true, &self.token_requester_principal_type)?;
        } else if !self.token_requester_principal_type.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "TokenRequesterPrincipalType", version });
        }
        if version == 3 {
            w.string(true, &self.token_requester_principal_name)?;
        } else if !self.token_requester_principal_name.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "TokenRequesterPrincipalName", version });
        }
        w.i64(self.issue_timestamp_ms);
        w.i64(self.expiry_timestamp_ms);
        w.i64(self.max_timestamp_ms);
        w.string(flexible, &self.token_id)?;
        w.bytes(flexible, &self.hmac)?;
        w.i32(self.throttle_time_ms);
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for CreateDelegationTokenResponse {
    const NAME: &'static str = "CreateDelegationTokenResponse";
    const VERSIONS: std::ops::RangeInclusive<i16> = 1..=3;
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
