// Written by `cargo xtask codegen` from ApiVersionsRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 5.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiVersionsRequest {
    /// Versions 3 to 5.
    pub client_software_name: Str,
    /// Versions 3 to 5.
    pub client_software_version: Str,
    /// Version 5.
    pub cluster_id: Option<Str>,
    /// Version 5.
    pub node_id: i32,
}

impl Default for ApiVersionsRequest {
    fn default() -> ApiVersionsRequest {
        ApiVersionsRequest {
            client_software_name: Str::default(),
            client_software_version: Str::default(),
            cluster_id: None,
            node_id: -1,
        }
    }
}

impl ApiVersionsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 3;
        let mut value = Self::default();
        if version >= 3 {
            value.client_software_name = r.string(true)?;
        }
        if version >= 3 {
            value.client_software_version = r.string(true)?;
        }
        if version == 5 {
            value.cluster_id = r.nullable_string(true)?;
        }
        if version == 5 {
            value.node_id = r.i32()?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 3;
        if version >= 3 {
            w.string(true, &self.client_software_name)?;
        }
        if version >= 3 {
            w.string(true, &self.client_software_version)?;
        }
        if version == 5 {
            w.nullable_string(true, &self.cluster_id)?;
        }
        if version == 5 {
            w.i32(self.node_id);
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for ApiVersionsRequest {
    const NAME: &'static str = "ApiVersionsRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=5;
    const FIRST_FLEXIBLE_VERSION: i16 = 3;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}

impl crate::message::Request for ApiVersionsRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::ApiVersions;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::ApiVersionsResponse;
}
