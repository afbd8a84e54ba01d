// Written by `cargo xtask codegen` from DescribeConfigsRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 1 to 4.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DescribeConfigsRequest {
    pub resources: Vec<DescribeConfigsResource>,
    pub include_synonyms: bool,
    /// Versions 3 to 4.
    pub include_documentation: bool,
}

impl DescribeConfigsRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut value = Self::default();
        value.resources =
            r.array(flexible, if version < 4 { 7 } else { 4 }, version, DescribeConfigsResource::read)?;
        value.include_synonyms = r.bool()?;
        if version >= 3 {
            value.include_documentation = r.bool()?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 4;
        w.array(flexible, version, &self.resources, DescribeConfigsResource::write)?;
        w.bool(self.include_synonyms);
        if version >= 3 {
            w.bool(self.include_documentation);
        } else if self.include_documentation {
            return Err(EncodeError::FieldNotInVersion { field: "IncludeDocumentation", version });
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DescribeConfigsResource {
    pub resource_type: i8,
    pub resource_name: Str,
    pub configuration_keys: Option<Vec<Str>>,
}

impl Default for DescribeConfigsResource {
    fn default() -> DescribeConfigsResource {
        DescribeConfigsResource {
            resource_type: 0,
            resource_name: Str::default(),
            configuration_keys: Some(Vec::new()),
        }
    }
}

impl DescribeConfigsResource {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let mut value = Self::default();
        value.resource_type = r.i8()?;
        value.resource_name = r.string(flexible)?;
        value.configuration_keys =
            r.nullable_array(flexible, if version < 4 { 2 } else { 1 }, version, |r, _| r.string(flexible))?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 4;
        w.i8(self.resource_type);
        w.string(flexible, &self.resource_name)?;
        w.nullable_array(flexible, version, self.configuration_keys.as_deref(), |value, w, _| {
            w.string(flexible, value)
        })?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for DescribeConfigsRequest {
    const NAME: &'static str = "DescribeConfigsRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 1..=4;
    const FIRST_FLEXIBLE_VERSION: i16 = 4;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}

impl crate::message::Request for DescribeConfigsRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::DescribeConfigs;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::DescribeConfigsResponse;
}
