// Written by `cargo xtask codegen` from MetadataRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 0 to 13.
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataRequest {
    pub topics: Option<Vec<MetadataRequestTopic>>,
    /// Versions 4 to 13.
    pub allow_auto_topic_creation: bool,
    /// Versions 8 to 10.
    pub include_cluster_authorized_operations: bool,
    /// Versions 8 to 13.
    pub include_topic_authorized_operations: bool,
}

impl Default for MetadataRequest {
    fn default() -> MetadataRequest {
        MetadataRequest {
            topics: Some(Vec::new()),
            allow_auto_topic_creation: true,
            include_cluster_authorized_operations: false,
            include_topic_authorized_operations: false,
        }
    }
}

impl MetadataRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        value.topics = if version >= 1 {
            r.nullable_array(
                flexible,
                if version < 10 { 2 } else { 18 },
                version,
                MetadataRequestTopic::read,
            )?
        } else {
            Some(r.array(flexible, if version < 10 { 2 } else { 18 }, version, MetadataRequestTopic::read)?)
        };
        if version >= 4 {
            value.allow_auto_topic_creation = r.bool()?;
        }
        if (8..=10).contains(&version) {
            value.include_cluster_authorized_operations = r.bool()?;
        }
        if version >= 8 {
            value.include_topic_authorized_operations = r.bool()?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 9;
        if self.topics.is_none() && !(version >= 1) {
            return Err(EncodeError::UnexpectedNull { field: "Topics", version });
        }
        w.nullable_array(flexible, version, self.topics.as_deref(), MetadataRequestTopic::write)?;
        if version >= 4 {
            w.bool(self.allow_auto_topic_creation);
        } else if !self.allow_auto_topic_creation {
            return Err(EncodeError::FieldNotInVersion { field: "AllowAutoTopicCreation", version });
        }
        if (8..=10).contains(&version) {
            w.bool(self.include_cluster_authorized_operations);
        } else if self.include_cluster_authorized_operations {
            return Err(EncodeError::FieldNotInVersion {
                field: "IncludeClusterAuthorizedOperations",
                version,
            });
        }
        if version >= 8 {
            w.bool(self.include_topic_authorized_operations);
        } else if self.include_topic_authorized_operations {
            return Err(EncodeError::FieldNotInVersion {
                field: "IncludeTopicAuthorizedOperations",
                version,
            });
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct MetadataRequestTopic {
    /// Versions 10 to 13.
    pub topic_id: Uuid,
    pub name: Option<Str>,
}

impl Default for MetadataRequestTopic {
    fn default() -> MetadataRequestTopic {
        MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(Str::default()) }
    }
}

impl MetadataRequestTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 9;
        let mut value = Self::default();
        if version >= 10 {
            value.topic_id = r.uuid()?;
        }
        value.name = if version >= 10 { r.nullable_string(flexible)? } else { Some(r.string(flexible)?) };
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 9;
        if version >= 10 {
            w.uuid(self.topic_id);
        }
        if self.name.is_none() && !(version >= 10) {
            return Err(EncodeError::UnexpectedNull { field: "Name", version });
        }
        w.nullable_string(flexible, &self.name)?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

impl Message for MetadataRequest {
    const NAME: &'static str = "MetadataRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 0..=13;
    const FIRST_FLEXIBLE_VERSION: i16 = 9;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}

impl crate::message::Request for MetadataRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::Metadata;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::MetadataResponse;
}
