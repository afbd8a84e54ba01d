// Written by `cargo xtask codegen` from SaslAuthenticateResponse.json of Kafka 4.4.0. Do not edit.

use bytes::Bytes;

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 2.
#[derive(Debug, Clone, PartialEq)]
pub struct SaslAuthenticateResponse {
    pub error_code: i16,
    pub error_message: Option<Str>,
    pub auth_bytes: Bytes,
    /// Versions 1 to 2.
    pub session_lifetime_ms: i64,
}

impl Default for SaslAuthenticateResponse {
    fn default() -> SaslAuthenticateResponse {
        SaslAuthenticateResponse {
            error_code: 0,
            error_message: Some(Str::default()),
            auth_bytes: Bytes::default(),
            session_lifetime_ms: 0,
        }
    }
}

impl SaslAuthenticateResponse {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 2;
        let mut value = Self::default();
        value.error_code = r.i16()?;
        value.error_message = r.nullable_string(flexible)?;
        value.auth_bytes = r.bytes(flexible)?;
        if version >= 1 {
            value.session_lifetime_ms = r.i64()?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 2;
        w.i16(self.error_code);
        w.nullable_string(flexible, &self.error_message)?;
        w.bytes(flexible, &self.auth_bytes)?;
        if version >= 1 {
            w.i64(self.session_lifetime_ms);
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for SaslAuthenticateResponse {
    const NAME: &'static str = "SaslAuthenticateResponse";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=2;
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
