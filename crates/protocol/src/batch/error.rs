use thiserror::Error;

use crate::compression::CompressionError;

/// Why bytes are not a record batch, or a batch not readable.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    #[error("the batch is cut off: {need} bytes needed, {have} there")]
    Truncated { need: usize, have: usize },
    #[error("the stated length {stated} does not fit the {have} bytes there")]
    Length { stated: i64, have: usize },
    /// Message sets of Kafka before 0.11.
    #[error("message format {0} is not supported, only 2")]
    Legacy(i8),
    #[error("unknown message format {0}")]
    Magic(i8),
    #[error("CRC-32C is {computed:#010x}, the batch says {stored:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("unknown compression type {0}")]
    UnknownCompression(u8),
    #[error("offsets {base_offset} + {last_offset_delta} do not fit {record_count} records")]
    Offsets { base_offset: i64, last_offset_delta: i32, record_count: i32 },
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A record is malformed; `index` counts from 0.
    #[error("record {index}: {reason}")]
    Record { index: i32, reason: &'static str },
    /// Bytes remain behind the last record.
    #[error("{left} bytes are left behind the last record")]
    Leftover { left: usize },
    #[error("a batch needs at least one record")]
    Empty,
    #[error("the batch would be larger than {cap} bytes")]
    TooLarge { cap: usize },
}

impl BatchError {
    /// The code for bytes that we hold or were given and cannot read.
    pub fn error_code(&self) -> crate::error_code::ErrorCode {
        use crate::error_code::ErrorCode;
        match self {
            BatchError::Legacy(_) => ErrorCode::UnsupportedForMessageFormat,
            BatchError::UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
            BatchError::TooLarge { .. } | BatchError::Compression(CompressionError::TooLarge { .. }) => {
                ErrorCode::MessageTooLarge
            }
            BatchError::Empty | BatchError::Record { .. } | BatchError::Leftover { .. } => {
                ErrorCode::InvalidRecord
            }
            _ => ErrorCode::CorruptMessage,
        }
    }
}
