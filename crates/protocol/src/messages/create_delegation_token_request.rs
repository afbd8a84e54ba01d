// Written by `cargo xtask codegen` from CreateDelegationTokenRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 1 to 3.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateDelegationTokenRequest {
    /// Version 3.
    pub owner_principal_type: Option<Str>,
    /// Version 3.
    pub owner_principal_name: Option<Str>,
    pub renewers: Vec<CreatableRenewers>,
    pub max_lifetime_ms: i64,
}

impl Default for CreateDelegationTokenRequest {
    fn default() -> CreateDelegationTokenRequest {
        CreateDelegationTokenRequest {
            owner_principal_type: Some(Str::default()),
            owner_principal_name: Some(Str::default()),
            renewers: Vec::new(),
            max_lifetime_ms: 0,
        }
    }
}

impl CreateDelegationTokenRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 2;
        let mut value = Self::default();
        if version == 3 {
            value.owner_principal_type = r.nullable_string(true)?;
        }
        if version == 3 {
            value.owner_principal_name = r.nullable_string(true)?;
        }
        value.renewers =
            r.array(flexible, if version < 2 { 4 } else { 3 }, version, CreatableRenewers::read)?;
        value.max_lifetime_ms = r.i64()?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 2;
        if version == 3 {
            w.nullable_string(true, &self.owner_principal_type)?;
        } else if self.owner_principal_type.as_ref().is_none_or(|value| !value.is_empty()) {
            return Err(EncodeError::FieldNotInVersion { field: "OwnerPrincipalType", version });
        }
        if version == 3 {
            w.nullable_string(true, &self.owner_principal_name)?;
        } else if self.owner_principal_name.as_ref().is_none_or(|value| !value.is_empty()) {
            return Err(EncodeError::FieldNotInVersion { field: "OwnerPrincipalName", version });
        }
        w.array(flexible, version, &self.renewers, CreatableRenewers::write)?;
        w.i64(self.max_lifetime_ms);
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct CreatableRenewers {
    pub principal_type: Str,
    pub principal_name: Str,
}

impl CreatableRenewers {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 2;
        let mut value = Self::default();
        value.principal_type = r.string(flexible)?;
        value.principal_name = r.string(flexible)?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 2;
        w.string(flexible, &self.principal_type)?;
        w.string(flexible, &self.principal_name)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for CreateDelegationTokenRequest {
    const NAME: &'static str = "CreateDelegationTokenRequest";
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

impl crate::message::Request for CreateDelegationTokenRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::CreateDelegationToken;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::CreateDelegationTokenResponse;
}
