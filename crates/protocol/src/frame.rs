//! Frames: a 4-byte length, a header, a message. Only ApiVersions may arrive in a version nobody knows, so
//! the header can be read without knowing the API's schema.

use bytes::Bytes;

use crate::api_key::ApiKey;
use crate::message::{Message, Request};
use crate::types::Str;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// What every request starts with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<Str>,
}

/// Reads the header of a request (frame without its length prefix). An unknown api key is an error; an
/// unknown version is not: it is read with the header that version would have.
pub fn decode_request_header(reader: &mut Reader) -> Result<RequestHeader, DecodeError> {
    let api_key = reader.i16()?;
    let api_version = reader.i16()?;
    let correlation_id = reader.i32()?;
    let key = ApiKey::try_from(api_key)?;
    // The client id stayed in the old format, also in the flexible header (KIP-482).
    let client_id = reader.nullable_string(false)?;
    if key.request_header_version(api_version) >= 2 {
        reader.skip_tagged_fields()?;
    }
    Ok(RequestHeader { api_key, api_version, correlation_id, client_id })
}

pub fn encode_request_header(writer: &mut Writer, header: &RequestHeader) -> Result<(), EncodeError> {
    writer.i16(header.api_key);
    writer.i16(header.api_version);
    writer.i32(header.correlation_id);
    match &header.client_id {
        Some(client_id) => writer.string(false, client_id)?,
        None => writer.null_string(false),
    }
    let flexible = ApiKey::try_from(header.api_key).is_ok_and(|key| key.is_flexible(header.api_version));
    if flexible {
        writer.uvarint(0);
    }
    Ok(())
}

/// Reads the header of a response (frame without its length prefix): the correlation id.
pub fn decode_response_header(reader: &mut Reader, key: ApiKey, version: i16) -> Result<i32, DecodeError> {
    let correlation_id = reader.i32()?;
    if key.response_header_version(version) >= 1 {
        reader.skip_tagged_fields()?;
    }
    Ok(correlation_id)
}

/// A whole response: segments that joined are length prefix, header and body.
pub fn encode_response<M: Message>(
    correlation_id: i32,
    message: &M,
    key: ApiKey,
    version: i16,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut writer = Writer::with_capacity(128);
    writer.u32(0);
    writer.i32(correlation_id);
    if key.response_header_version(version) >= 1 {
        writer.uvarint(0);
    }
    message.encode(&mut writer, version)?;
    finish(writer)
}

/// A whole request: segments that joined are length prefix, header and body.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: Option<Str>,
    message: &R,
    version: i16,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut writer = Writer::with_capacity(128);
    writer.u32(0);
    let header = RequestHeader { api_key: R::KEY.code(), api_version: version, correlation_id, client_id };
    encode_request_header(&mut writer, &header)?;
    message.encode(&mut writer, version)?;
    finish(writer)
}

fn finish(mut writer: Writer) -> Result<Vec<Bytes>, EncodeError> {
    let length = writer.len() - 4;
    // A frame's length is an i32 on the wire.
    let prefix = i32::try_from(length).map_err(|_| EncodeError::TooLong(length))?;
    writer.patch_start(prefix as u32);
    Ok(writer.finish())
}
