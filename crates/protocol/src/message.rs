//! What every generated message can do, and the version prefix of records in the internal topics.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::api_key::ApiKey;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// A message of Kafka's schemas: a request, a response, or data that stands in records.
pub trait Message: Sized {
    /// The name in Kafka's schema.
    const NAME: &'static str;
    /// The versions it can be read and written in.
    const VERSIONS: RangeInclusive<i16>;
    /// From here on lengths are compact and tagged fields follow (KIP-482); `i16::MAX` = never.
    const FIRST_FLEXIBLE_VERSION: i16;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message. A field that is set but unknown to `version` is an error unless Kafka's schema
    /// calls it ignorable; a message half written by an error is of no use.
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError>;

    fn is_flexible(version: i16) -> bool {
        version >= Self::FIRST_FLEXIBLE_VERSION
    }
}

/// A request, and what answers it.
pub trait Request: Message {
    const KEY: ApiKey;
    /// Kafka keeps the newest version to itself until it is stable.
    const LATEST_VERSION_UNSTABLE: bool;
    type Response: Message;
}

/// The key of a record in an internal topic. Its bytes begin with the number of its type.
pub trait RecordKey: Message {
    /// Kafka's record type: 2 for GroupMetadata, say.
    const RECORD_TYPE: i16;
    type Value: Message;

    /// The key as it stands in the record.
    fn to_record_key(&self) -> Result<Bytes, EncodeError> {
        record_key(Self::RECORD_TYPE, self)
    }
}

pub(crate) fn check_decode<M: Message>(version: i16) -> Result<(), DecodeError> {
    match M::VERSIONS.contains(&version) {
        true => Ok(()),
        false => Err(DecodeError::UnsupportedVersion { message: M::NAME, version }),
    }
}

pub(crate) fn check_encode<M: Message>(version: i16) -> Result<(), EncodeError> {
    match M::VERSIONS.contains(&version) {
        true => Ok(()),
        false => Err(EncodeError::UnsupportedVersion { message: M::NAME, version }),
    }
}

/// The bytes of `message` in `version`, nothing before them.
pub fn to_bytes<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    message.encode(&mut writer, version)?;
    Ok(writer.into_bytes())
}

/// A key of an internal topic: its record type as i16, then the key. Keys have one version, 0.
pub fn record_key<K: Message>(record_type: i16, key: &K) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(record_type);
    key.encode(&mut writer, *K::VERSIONS.start())?;
    Ok(writer.into_bytes())
}

/// The record type at the start of a key of an internal topic.
pub fn record_type(key: &Bytes) -> Result<i16, DecodeError> {
    Reader::new(key.clone()).i16()
}

/// Splits a key made by [`record_key`] whose type is already known.
pub fn decode_record_key<K: Message>(key: &Bytes) -> Result<(i16, K), DecodeError> {
    let mut reader = Reader::new(key.clone());
    let record_type = reader.i16()?;
    Ok((record_type, K::decode(&mut reader, *K::VERSIONS.start())?))
}

/// A version as i16, then the message in it: values of internal topics, and what consumers put into
/// JoinGroup and SyncGroup.
pub fn versioned_value<M: Message>(version: i16, value: &M) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(version);
    value.encode(&mut writer, version)?;
    Ok(writer.into_bytes())
}

/// Reads what [`versioned_value`] wrote. Bytes behind the message are allowed, as Kafka allows them.
pub fn decode_versioned_value<M: Message>(bytes: &Bytes) -> Result<(i16, M), DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16()?;
    Ok((version, M::decode(&mut reader, version)?))
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Header,
    /// Inside records, or inside bytes of another message.
    Data,
    CoordinatorKey,
    CoordinatorValue,
}

/// A message whose type is known at run time only.
pub trait AnyMessage: std::fmt::Debug {
    fn encode_any(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

impl<M: Message + std::fmt::Debug> AnyMessage for M {
    fn encode_any(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        self.encode(writer, version)
    }
}

/// What [`Listed::decode`] gives.
pub type AnyDecoded = Result<Box<dyn AnyMessage>, DecodeError>;

/// A row of [`crate::messages::all::ALL`].
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    pub name: &'static str,
    pub kind: Kind,
    /// Api key of requests and responses, record type of coordinator records.
    pub key: Option<i16>,
    pub version_min: i16,
    pub version_max: i16,
    pub first_flexible_version: i16,
    pub decode: fn(&mut Reader, i16) -> AnyDecoded,
    pub default: fn() -> Box<dyn AnyMessage>,
}

pub(crate) const fn listed<M>(kind: Kind, key: Option<i16>) -> Listed
where
    M: Message + Default + std::fmt::Debug + 'static,
{
    Listed {
        name: M::NAME,
        kind,
        key,
        version_min: *M::VERSIONS.start(),
        version_max: *M::VERSIONS.end(),
        first_flexible_version: M::FIRST_FLEXIBLE_VERSION,
        decode: |reader, version| Ok(Box::new(M::decode(reader, version)?)),
        default: || Box::new(M::default()),
    }
}
