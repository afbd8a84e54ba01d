// Written by `cargo xtask codegen` from OffsetFetchRequest.json of Kafka 4.4.0. Do not edit.

use crate::message::{Message, check_decode, check_encode};
use crate::types::{Str, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// Versions 1 to 10.
#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchRequest {
    /// Versions 1 to 7.
    pub group_id: Str,
    /// Versions 1 to 7.
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    /// Versions 8 to 10.
    pub groups: Vec<OffsetFetchRequestGroup>,
    /// Versions 7 to 10.
    pub require_stable: bool,
}

impl Default for OffsetFetchRequest {
    fn default() -> OffsetFetchRequest {
        OffsetFetchRequest {
            group_id: Str::default(),
            topics: Some(Vec::new()),
            groups: Vec::new(),
            require_stable: false,
        }
    }
}

impl OffsetFetchRequest {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut value = Self::default();
        if version <= 7 {
            value.group_id = r.string(flexible)?;
        }
        if version <= 7 {
            value.topics = if version >= 2 {
                r.nullable_array(
                    flexible,
                    if version < 6 { 6 } else { 3 },
                    version,
                    OffsetFetchRequestTopic::read,
                )?
            } else {
                Some(r.array(
                    flexible,
                    if version < 6 { 6 } else { 3 },
                    version,
                    OffsetFetchRequestTopic::read,
                )?)
            };
        }
        if version >= 8 {
            value.groups =
                r.array(true, if version < 9 { 3 } else { 8 }, version, OffsetFetchRequestGroup::read)?;
        }
        if version >= 7 {
            value.require_stable = r.bool()?;
        }
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 6;
        if version <= 7 {
            w.string(flexible, &self.group_id)?;
        } else if !self.group_id.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "GroupId", version });
        }
        if version <= 7 {
            if self.topics.is_none() && !(version >= 2) {
                return Err(EncodeError::UnexpectedNull { field: "Topics", version });
            }
            w.nullable_array(flexible, version, self.topics.as_deref(), OffsetFetchRequestTopic::write)?;
        } else if self.topics.as_ref().is_none_or(|value| !value.is_empty()) {
            return Err(EncodeError::FieldNotInVersion { field: "Topics", version });
        }
        if version >= 8 {
            w.array(true, version, &self.groups, OffsetFetchRequestGroup::write)?;
        } else if !self.groups.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "Groups", version });
        }
        if version >= 7 {
            w.bool(self.require_stable);
        } else if self.require_stable {
            return Err(EncodeError::FieldNotInVersion { field: "RequireStable", version });
        }
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct OffsetFetchRequestTopic {
    pub name: Str,
    pub partition_indexes: Vec<i32>,
}

impl OffsetFetchRequestTopic {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 6;
        let mut value = Self::default();
        value.name = r.string(flexible)?;
        value.partition_indexes = r.array(flexible, 4, version, |r, _| r.i32())?;
        if flexible {
            r.skip_tagged_fields()?;
        }
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 6;
        w.string(flexible, &self.name)?;
        w.array(flexible, version, &self.partition_indexes, |value, w, _| {
            w.i32(*value);
            Ok(())
        })?;
        if flexible {
            w.uvarint(0);
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchRequestGroup {
    pub group_id: Str,
    /// Versions 9 to 10.
    pub member_id: Option<Str>,
    /// Versions 9 to 10.
    pub member_epoch: i32,
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
}

impl Default for OffsetFetchRequestGroup {
    fn default() -> OffsetFetchRequestGroup {
        OffsetFetchRequestGroup {
            group_id: Str::default(),
            member_id: None,
            member_epoch: -1,
            topics: Some(Vec::new()),
        }
    }
}

impl OffsetFetchRequestGroup {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        value.group_id = r.string(true)?;
        if version >= 9 {
            value.member_id = r.nullable_string(true)?;
        }
        if version >= 9 {
            value.member_epoch = r.i32()?;
        }
        value.topics = r.nullable_array(
            true,
            if version < 10 { 3 } else { 18 },
            version,
            OffsetFetchRequestTopics::read,
        )?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.string(true, &self.group_id)?;
        if version >= 9 {
            w.nullable_string(true, &self.member_id)?;
        }
        if version >= 9 {
            w.i32(self.member_epoch);
        }
        w.nullable_array(true, version, self.topics.as_deref(), OffsetFetchRequestTopics::write)?;
        w.uvarint(0);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct OffsetFetchRequestTopics {
    /// Versions 8 to 9.
    pub name: Str,
    /// Version 10.
    pub topic_id: Uuid,
    pub partition_indexes: Vec<i32>,
}

impl OffsetFetchRequestTopics {
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut value = Self::default();
        if version <= 9 {
            value.name = r.string(true)?;
        }
        if version == 10 {
            value.topic_id = r.uuid()?;
        }
        value.partition_indexes = r.array(true, 4, version, |r, _| r.i32())?;
        r.skip_tagged_fields()?;
        Ok(value)
    }

    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if version <= 9 {
            w.string(true, &self.name)?;
        }
        if version == 10 {
            w.uuid(self.topic_id);
        }
        w.array(true, version, &self.partition_indexes, |value, w, _| {
            w.i32(*value);
            Ok(())
        })?;
        w.uvarint(0);
        Ok(())
    }
}

impl Message for OffsetFetchRequest {
    const NAME: &'static str = "OffsetFetchRequest";
    const VERSIONS: std::ops::RangeInclusive<i16> = 1..=10;
    const FIRST_FLEXIBLE_VERSION: i16 = 6;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        check_decode::<Self>(version)?;
        Self::read(reader, version)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        check_encode::<Self>(version)?;
        self.write(writer, version)
    }
}

impl crate::message::Request for OffsetFetchRequest {
    const KEY: crate::api_key::ApiKey = crate::api_key::ApiKey::OffsetFetch;
    const LATEST_VERSION_UNSTABLE: bool = false;
    type Response = super::OffsetFetchResponse;
}
