//! Walking the records of a batch.
//!
//! [`RecordsRef`] borrows and allocates nothing: for validation and for finding an offset by time.
//! [`Records`] owns its bytes and gives records whose keys and values are slices of them.

use bytes::Bytes;

use super::varint::{read_varint, read_varlong};
use super::{BatchError, BatchHeader, TimestampType};

/// One record; key, value and headers are slices of the (decompressed) batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    /// Milliseconds since 1970; −1 is none. The broker's time in a `LogAppendTime` batch.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// A record header. Keys are UTF-8 by Kafka's definition, but nothing enforces it on the way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl Header {
    pub fn new(key: impl Into<Bytes>, value: Option<impl Into<Bytes>>) -> Header {
        Header { key: key.into(), value: value.map(Into::into) }
    }

    /// The key as text; what is not UTF-8 becomes U+FFFD, as in Java.
    pub fn key_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// One record as it stands in the batch. Headers are checked but not taken apart.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    pub offset_delta: i32,
    pub timestamp_delta: i64,
    /// Where in the records' bytes the record starts, its length field included.
    pub position: usize,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// The headers of one record, already checked.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRef<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = HeaderRef<'a>;

    fn next(&mut self) -> Option<HeaderRef<'a>> {
        if self.count == 0 {
            return None;
        }
        self.count -= 1;
        read_header(&mut self.bytes).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

/// Walks the records in decompressed bytes without allocating. Ends after the first error.
#[derive(Clone, Debug)]
pub struct RecordsRef<'a> {
    all: usize,
    rest: &'a [u8],
    next_index: i32,
    count: i32,
    failed: bool,
}

impl<'a> RecordsRef<'a> {
    /// `records` are the decompressed bytes behind the header, `count` is the header's record count.
    pub fn new(records: &'a [u8], count: i32) -> RecordsRef<'a> {
        RecordsRef { all: records.len(), rest: records, next_index: 0, count, failed: false }
    }

    fn step(&mut self) -> Result<Option<RecordRef<'a>>, BatchError> {
        if self.next_index >= self.count {
            return match self.rest.len() {
                0 => Ok(None),
                left => Err(BatchError::Leftover { left }),
            };
        }
        let position = self.all - self.rest.len();
        let record = read_record(&mut self.rest, position)
            .map_err(|reason| BatchError::Record { index: self.next_index, reason })?;
        self.next_index += 1;
        Ok(Some(record))
    }
}

impl<'a> Iterator for RecordsRef<'a> {
    type Item = Result<RecordRef<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.step() {
            Ok(None) => {
                self.failed = true;
                None
            }
            Ok(Some(record)) => Some(Ok(record)),
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

#[inline]
fn read_record<'a>(data: &mut &'a [u8], position: usize) -> Result<RecordRef<'a>, &'static str> {
    let len = read_varint(data).ok_or("the length is cut off")?;
    let len = usize::try_from(len).map_err(|_| "the length is negative")?;
    let (mut body, after) = data.split_at_checked(len).ok_or("the record is cut off")?;
    *data = after;
    let (_attributes, rest) = body.split_first().ok_or("the record is empty")?;
    body = rest;
    let timestamp_delta = read_varlong(&mut body).ok_or("the timestamp is cut off")?;
    let offset_delta = read_varint(&mut body).ok_or("the offset is cut off")?;
    let key = read_nullable(&mut body).ok_or("the key is cut off")?;
    let value = read_nullable(&mut body).ok_or("the value is cut off")?;
    let count = read_varint(&mut body).ok_or("the header count is cut off")?;
    let count = usize::try_from(count).map_err(|_| "the header count is negative")?;
    if count > body.len() {
        return Err("more headers than bytes");
    }
    let headers = Headers { count, bytes: body };
    for _ in 0..count {
        read_header(&mut body)?;
    }
    if !body.is_empty() {
        return Err("bytes are left behind the headers");
    }
    Ok(RecordRef { offset_delta, timestamp_delta, position, key, value, headers })
}

fn read_header<'a>(data: &mut &'a [u8]) -> Result<HeaderRef<'a>, &'static str> {
    let key = read_nullable(data).ok_or("a header is cut off")?.ok_or("a header has no key")?;
    let value = read_nullable(data).ok_or("a header is cut off")?;
    Ok(HeaderRef { key, value })
}

/// Kafka reads every negative length as null, so we do.
#[inline]
fn read_nullable<'a>(data: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = read_varint(data)?;
    if len < 0 {
        return Some(None);
    }
    let (value, rest) = data.split_at_checked(len as usize)?;
    *data = rest;
    Some(Some(value))
}

/// The records of a batch, decompressed once and then walked lazily. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    data: Bytes,
    position: usize,
    next_index: i32,
    error: Option<BatchError>,
    done: bool,
}

impl Records {
    pub(super) fn new(header: BatchHeader, data: Result<Bytes, BatchError>) -> Records {
        let (data, error) = match data {
            Ok(data) => (data, None),
            Err(error) => (Bytes::new(), Some(error)),
        };
        Records { header, data, position: 0, next_index: 0, error, done: false }
    }

    fn step(&mut self) -> Result<Option<Record>, BatchError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut walk =
            RecordsRef::new(&self.data[self.position..], self.header.record_count - self.next_index);
        let Some(record) = walk.step().map_err(|error| match error {
            BatchError::Record { reason, .. } => BatchError::Record { index: self.next_index, reason },
            other => other,
        })?
        else {
            return Ok(None);
        };
        let consumed = walk.all - walk.rest.len();
        let owned = Record {
            offset: self.header.base_offset.wrapping_add(i64::from(record.offset_delta)),
            timestamp: self.header.record_timestamp(record.timestamp_delta),
            key: record.key.map(|key| self.data.slice_ref(key)),
            value: record.value.map(|value| self.data.slice_ref(value)),
            headers: record
                .headers
                .map(|header| Header {
                    key: self.data.slice_ref(header.key),
                    value: header.value.map(|value| self.data.slice_ref(value)),
                })
                .collect(),
        };
        self.position += consumed;
        self.next_index += 1;
        Ok(Some(owned))
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.step() {
            Ok(Some(record)) => Some(Ok(record)),
            Ok(None) => {
                self.done = true;
                None
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}

impl BatchHeader {
    /// The timestamp of a record with this delta: the broker's one time in a `LogAppendTime` batch.
    pub fn record_timestamp(&self, timestamp_delta: i64) -> i64 {
        match self.timestamp_type() {
            TimestampType::LogAppendTime => self.max_timestamp,
            TimestampType::CreateTime => self.base_timestamp.wrapping_add(timestamp_delta),
        }
    }
}
