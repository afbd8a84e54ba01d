//! Reading and writing Kafka's wire format.
//!
//! [`Reader`] never trusts a number it reads. A count is checked against the bytes that are left divided by
//! the smallest element of that version, and everything decoding allocates is charged to one budget of
//! 8 × frame + 1 MiB, because the first check alone still lets one byte become a 40-byte element.
//! [`Writer`] gathers small fields in one buffer and keeps large byte strings as they are, so that an answer
//! leaves as segments for one vectored write and log memory is not copied.

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::{Records, Str, Uuid};

/// What one frame may make us allocate: this many times its length …
pub const BUDGET_PER_FRAME_BYTE: usize = 8;
/// … plus this much.
pub const BUDGET_BASE_BYTES: usize = 1024 * 1024;
/// … and never more than this for a request. Every API bounds how much one request may name, far below it; answers, which clients
/// read, have no such bound.
pub const REQUEST_BUDGET_BYTES_MAX: usize = 32 << 20;
/// Byte strings from this length on are attached to an answer, shorter ones are copied into it.
pub const ATTACH_BYTES_MIN: usize = 1024;

/// Why bytes are not the message they claim to be. In a broker all of these end the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{needed} bytes needed, {left} left")]
    Truncated { needed: usize, left: usize },
    #[error("a length of {0} is not possible here")]
    BadLength(i64),
    #[error("{count} elements of at least {element_bytes_min} bytes are claimed, {left} bytes are left")]
    CountTooLarge { count: usize, element_bytes_min: usize, left: usize },
    #[error("the frame asks for more memory than its size allows ({asked} bytes asked, {left} left)")]
    OverBudget { asked: usize, left: usize },
    #[error("text is not UTF-8")]
    NotUtf8,
    #[error("null where a value is required")]
    UnexpectedNull,
    #[error("a variable-length number has too many bytes")]
    VarintTooLong,
    #[error("tagged field {tag} says {size} bytes and has {used}")]
    TaggedFieldSize { tag: u32, size: usize, used: usize },
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
    #[error("no api key {0}")]
    UnknownApiKey(i16),
    #[error("{0} bytes follow the end of the message")]
    TrailingBytes(usize),
    #[error("{0}")]
    Invalid(&'static str),
}

/// Why a message cannot be written in the version asked for. Always our own mistake, never the peer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
    #[error("field {field} is set, and version {version} cannot carry it")]
    FieldNotInVersion { field: &'static str, version: i16 },
    #[error("field {field} is null, and version {version} has no null for it")]
    UnexpectedNull { field: &'static str, version: i16 },
    #[error("a length of {0} is more than the field can carry")]
    TooLong(usize),
}

/// Takes a message out of a frame. Strings, bytes and records it returns are slices of the frame.
#[derive(Debug, Clone)]
pub struct Reader {
    frame: Bytes,
    position: usize,
    /// Where reading must stop: the end of the frame, or of the tagged field being read.
    end: usize,
    budget: usize,
    /// What the budget was at first.
    granted: usize,
}

impl Reader {
    pub fn new(frame: Bytes) -> Reader {
        let budget = frame.len().saturating_mul(BUDGET_PER_FRAME_BYTE).saturating_add(BUDGET_BASE_BYTES);
        Reader { position: 0, end: frame.len(), frame, budget, granted: budget }
    }

    /// Of a frame that a client sent.
    pub fn of_request(frame: Bytes) -> Reader {
        let mut reader = Reader::new(frame);
        reader.granted = reader.granted.min(REQUEST_BUDGET_BYTES_MAX);
        reader.budget = reader.granted;
        reader
    }

    /// What was allocated for this frame so far, in bytes.
    pub fn charged(&self) -> usize {
        self.granted - self.budget
    }

    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    pub fn position(&self) -> usize {
        self.position
    }

    /// What may still be allocated for this frame, in bytes.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Charges an allocation that is about to be made for this frame.
    pub fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        match self.budget.checked_sub(bytes) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(DecodeError::OverBudget { asked: bytes, left: self.budget }),
        }
    }

    /// The message must end where the frame ends.
    pub fn expect_end(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }

    fn advance(&mut self, bytes: usize) -> Result<usize, DecodeError> {
        if bytes > self.remaining() {
            return Err(DecodeError::Truncated { needed: bytes, left: self.remaining() });
        }
        let start = self.position;
        self.position += bytes;
        Ok(start)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let start = self.advance(N)?;
        Ok(self.frame[start..start + N].try_into().expect("the slice has N bytes"))
    }

    /// The next bytes as a slice of the frame.
    pub fn take(&mut self, bytes: usize) -> Result<Bytes, DecodeError> {
        let start = self.advance(bytes)?;
        Ok(self.frame.slice(start..start + bytes))
    }

    pub fn take_rest(&mut self) -> Bytes {
        let start = self.position;
        self.position = self.end;
        self.frame.slice(start..self.end)
    }

    pub fn skip(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.advance(bytes).map(|_| ())
    }

    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.fixed().map(u16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.fixed().map(u32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        self.fixed().map(f64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.fixed().map(Uuid)
    }

    /// Unsigned, seven bits a byte, five bytes at most.
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::VarintTooLong);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// Unsigned, seven bits a byte, ten bytes at most.
    pub fn uvarlong(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let [byte] = self.fixed()?;
            if shift == 63 && byte > 1 {
                return Err(DecodeError::VarintTooLong);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// Zig-zag.
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        let raw = self.uvarint()?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// Zig-zag.
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let raw = self.uvarlong()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A compact length: 0 is null, n + 1 is n.
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.uvarint()?.checked_sub(1).map(|length| length as usize))
    }

    fn signed_length(length: i64) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            0.. => Ok(Some(length as usize)),
            _ => Err(DecodeError::BadLength(length)),
        }
    }

    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<Str>, DecodeError> {
        let length = match flexible {
            true => self.compact_length()?,
            false => Self::signed_length(self.i16()?.into())?,
        };
        let Some(length) = length else { return Ok(None) };
        if length > i16::MAX as usize {
            return Err(DecodeError::BadLength(length as i64));
        }
        Str::from_utf8(self.take(length)?).map(Some).map_err(|_| DecodeError::NotUtf8)
    }

    pub fn string(&mut self, flexible: bool) -> Result<Str, DecodeError> {
        self.nullable_string(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        let length = match flexible {
            true => self.compact_length()?,
            false => Self::signed_length(self.i32()?.into())?,
        };
        length.map(|length| self.take(length)).transpose()
    }

    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    pub fn nullable_records(&mut self, flexible: bool) -> Result<Option<Records>, DecodeError> {
        Ok(self.nullable_bytes(flexible)?.map(Records::from))
    }

    pub fn records(&mut self, flexible: bool) -> Result<Option<Records>, DecodeError> {
        self.bytes(flexible).map(|bytes| Some(Records::from(bytes)))
    }

    /// An array whose elements take at least `element_bytes_min` (> 0) on the wire in this version.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
        version: i16,
        element: impl Fn(&mut Reader, i16) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let count = match flexible {
            true => self.compact_length()?,
            false => Self::signed_length(self.i32()?.into())?,
        };
        let Some(count) = count else { return Ok(None) };
        self.elements_fit(count, element_bytes_min)?;
        self.charge(count.saturating_mul(size_of::<T>()))?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self, version)?);
        }
        Ok(Some(elements))
    }

    pub fn array<T>(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
        version: i16,
        element: impl Fn(&mut Reader, i16) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flexible, element_bytes_min, version, element)?.ok_or(DecodeError::UnexpectedNull)
    }

    fn elements_fit(&self, count: usize, element_bytes_min: usize) -> Result<(), DecodeError> {
        let left = self.remaining();
        if count > left / element_bytes_min.max(1) {
            return Err(DecodeError::CountTooLarge { count, element_bytes_min, left });
        }
        Ok(())
    }

    /// A struct that may be null: one byte (negative is null) before it.
    pub fn nullable_struct<T>(
        &mut self,
        version: i16,
        decode: fn(&mut Reader, i16) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.i8()? < 0 {
            return Ok(None);
        }
        decode(self, version).map(Some)
    }

    /// A tagged struct that may be null: an unsigned varint (0 is null) before it.
    pub fn nullable_tagged_struct<T>(
        &mut self,
        version: i16,
        decode: fn(&mut Reader, i16) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.uvarint()? == 0 {
            return Ok(None);
        }
        decode(self, version).map(Some)
    }

    /// Reads a tag section. `known` reads the field with that tag and says so, or returns false and the
    /// field is skipped. A known field must use exactly the bytes it claims.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Reader, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.uvarint()? as usize;
        self.elements_fit(count, 2)?;
        for _ in 0..count {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            if size > self.remaining() {
                return Err(DecodeError::Truncated { needed: size, left: self.remaining() });
            }
            let start = self.position;
            let outer_end = std::mem::replace(&mut self.end, start + size);
            let outcome = known(self, tag);
            self.end = outer_end;
            if !outcome? {
                self.position = start + size;
            } else if self.position != start + size {
                return Err(DecodeError::TaggedFieldSize { tag, size, used: self.position - start });
            }
        }
        Ok(())
    }

    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(false))
    }
}

/// Builds a message. Everything small goes into one buffer; large byte strings are remembered with their
/// place and handed out as segments of their own.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: BytesMut,
    /// (position in `buffer` before which it stands, the bytes), in order.
    attached: Vec<(usize, Bytes)>,
    attached_bytes: usize,
}

impl Writer {
    pub fn new() -> Writer {
        Writer::default()
    }

    pub fn with_capacity(bytes: usize) -> Writer {
        Writer { buffer: BytesMut::with_capacity(bytes), ..Writer::default() }
    }

    /// Length of everything written so far, attached segments included.
    pub fn len(&self) -> usize {
        self.buffer.len() + self.attached_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Segments in order; joined they are the message.
    pub fn finish(self) -> Vec<Bytes> {
        let mut rest = self.buffer.freeze();
        let mut segments = Vec::with_capacity(1 + 2 * self.attached.len());
        let mut taken = 0;
        for (position, bytes) in self.attached {
            if position > taken {
                segments.push(rest.split_to(position - taken));
                taken = position;
            }
            segments.push(bytes);
        }
        if !rest.is_empty() {
            segments.push(rest);
        }
        segments
    }

    /// Everything as one byte string.
    pub fn into_bytes(self) -> Bytes {
        if self.attached.is_empty() {
            return self.buffer.freeze();
        }
        let mut joined = BytesMut::with_capacity(self.len());
        for segment in self.finish() {
            joined.extend_from_slice(&segment);
        }
        joined.freeze()
    }

    /// Replaces the four bytes at the very start: the length prefix of a frame.
    pub(crate) fn patch_start(&mut self, value: u32) {
        self.buffer[..4].copy_from_slice(&value.to_be_bytes());
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes as they are: copied when short, attached when long.
    pub fn attach(&mut self, bytes: &Bytes) {
        if bytes.len() < ATTACH_BYTES_MIN {
            self.raw(bytes);
        } else {
            self.attached_bytes += bytes.len();
            self.attached.push((self.buffer.len(), bytes.clone()));
        }
    }

    fn append(&mut self, other: Writer) {
        let offset = self.buffer.len();
        self.buffer.extend_from_slice(&other.buffer);
        self.attached_bytes += other.attached_bytes;
        self.attached.extend(other.attached.into_iter().map(|(position, bytes)| (offset + position, bytes)));
    }

    pub fn bool(&mut self, value: bool) {
        self.buffer.put_u8(value.into());
    }

    pub fn i8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    pub fn i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.buffer.put_u16(value);
    }

    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    pub fn u32(&mut self, value: u32) {
        self.buffer.put_u32(value);
    }

    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    pub fn f64(&mut self, value: f64) {
        self.buffer.put_f64(value);
    }

    pub fn uuid(&mut self, value: Uuid) {
        self.raw(&value.0);
    }

    pub fn uvarint(&mut self, value: u32) {
        self.uvarlong(value.into());
    }

    pub fn uvarlong(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    pub fn varint(&mut self, value: i32) {
        self.uvarint(((value << 1) ^ (value >> 31)) as u32);
    }

    pub fn varlong(&mut self, value: i64) {
        self.uvarlong(((value << 1) ^ (value >> 63)) as u64);
    }

    fn compact_length(&mut self, length: usize) -> Result<(), EncodeError> {
        // i32::MAX is the most that any Kafka length can be, compact or not.
        if length >= i32::MAX as usize {
            return Err(EncodeError::TooLong(length));
        }
        self.uvarint(length as u32 + 1);
        Ok(())
    }

    fn int32_length(&mut self, length: usize) -> Result<(), EncodeError> {
        self.i32(i32::try_from(length).map_err(|_| EncodeError::TooLong(length))?);
        Ok(())
    }

    pub fn null_string(&mut self, flexible: bool) {
        if flexible { self.uvarint(0) } else { self.i16(-1) }
    }

    pub fn string(&mut self, flexible: bool, value: &str) -> Result<(), EncodeError> {
        let length = i16::try_from(value.len()).map_err(|_| EncodeError::TooLong(value.len()))?;
        if flexible {
            self.uvarint(length as u32 + 1);
        } else {
            self.i16(length);
        }
        self.raw(value.as_bytes());
        Ok(())
    }

    /// Null for bytes, records and arrays alike.
    pub fn null(&mut self, flexible: bool) {
        if flexible { self.uvarint(0) } else { self.i32(-1) }
    }

    /// The length of bytes or records, or the count of an array.
    pub fn length(&mut self, flexible: bool, length: usize) -> Result<(), EncodeError> {
        if flexible { self.compact_length(length) } else { self.int32_length(length) }
    }

    pub fn bytes(&mut self, flexible: bool, value: &Bytes) -> Result<(), EncodeError> {
        self.length(flexible, value.len())?;
        self.attach(value);
        Ok(())
    }

    pub fn records(&mut self, flexible: bool, value: &Records) -> Result<(), EncodeError> {
        self.length(flexible, value.len())?;
        for segment in value.segments() {
            self.attach(segment);
        }
        Ok(())
    }

    pub fn array<T>(
        &mut self,
        flexible: bool,
        version: i16,
        elements: &[T],
        element: impl Fn(&T, &mut Writer, i16) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length(flexible, elements.len())?;
        elements.iter().try_for_each(|value| element(value, self, version))
    }

    pub fn nullable_string(&mut self, flexible: bool, value: &Option<Str>) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.string(flexible, value),
            None => {
                self.null_string(flexible);
                Ok(())
            }
        }
    }

    pub fn nullable_bytes(&mut self, flexible: bool, value: &Option<Bytes>) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.bytes(flexible, value),
            None => {
                self.null(flexible);
                Ok(())
            }
        }
    }

    pub fn nullable_records(&mut self, flexible: bool, value: &Option<Records>) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.records(flexible, value),
            None => {
                self.null(flexible);
                Ok(())
            }
        }
    }

    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        version: i16,
        elements: Option<&[T]>,
        element: impl Fn(&T, &mut Writer, i16) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match elements {
            Some(elements) => self.array(flexible, version, elements, element),
            None => {
                self.null(flexible);
                Ok(())
            }
        }
    }

    /// See [`Reader::nullable_struct`].
    pub fn nullable_struct<T>(
        &mut self,
        version: i16,
        value: &Option<T>,
        write: fn(&T, &mut Writer, i16) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.i8(if value.is_some() { 1 } else { -1 });
        value.as_ref().map_or(Ok(()), |value| write(value, self, version))
    }

    /// See [`Reader::nullable_tagged_struct`].
    pub fn nullable_tagged_struct<T>(
        &mut self,
        version: i16,
        value: &Option<T>,
        write: fn(&T, &mut Writer, i16) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.uvarint(value.is_some().into());
        value.as_ref().map_or(Ok(()), |value| write(value, self, version))
    }

    /// One tagged field. Its size stands before it, so it is written aside first.
    pub fn tagged_field(
        &mut self,
        tag: u32,
        field: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut aside = Writer::new();
        field(&mut aside)?;
        self.uvarint(tag);
        self.uvarint(u32::try_from(aside.len()).map_err(|_| EncodeError::TooLong(aside.len()))?);
        self.append(aside);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_variable_length_come_back() {
        for value in [0, 1, -1, 63, -64, 64, 300, i32::MAX, i32::MIN] {
            let mut writer = Writer::new();
            writer.varint(value);
            writer.varlong(value.into());
            writer.varlong(i64::from(value) << 31);
            writer.uvarint(value as u32);
            let mut reader = Reader::new(writer.into_bytes());
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.varlong(), Ok(value.into()));
            assert_eq!(reader.varlong(), Ok(i64::from(value) << 31));
            assert_eq!(reader.uvarint(), Ok(value as u32));
            assert_eq!(reader.expect_end(), Ok(()));
        }
        assert_eq!(Reader::new(Bytes::from_static(&[0xff; 5])).uvarint(), Err(DecodeError::VarintTooLong));
        assert_eq!(Reader::new(Bytes::from_static(&[0xff; 10])).uvarlong(), Err(DecodeError::VarintTooLong));
    }

    #[test]
    fn a_count_beyond_the_bytes_left_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 0]));
        let refused = reader.array(false, 4, 0, |r, _| r.i32()).unwrap_err();
        assert_eq!(refused, DecodeError::CountTooLarge { count: 0x7fff_ffff, element_bytes_min: 4, left: 2 });
    }

    #[test]
    fn many_tiny_elements_meet_the_budget() {
        // 1,000,000 empty strings: each one byte here and a whole `Str` in memory.
        let mut writer = Writer::new();
        writer.length(true, 1_000_000).unwrap();
        writer.raw(&vec![1u8; 1_000_000]);
        let mut reader = Reader::new(writer.into_bytes());
        let refused = reader.array(true, 1, 0, |r, _| r.string(true)).unwrap_err();
        assert!(matches!(refused, DecodeError::OverBudget { .. }), "{refused}");
    }

    #[test]
    fn large_bytes_are_attached_in_their_place() {
        let large = Bytes::from(vec![7u8; ATTACH_BYTES_MIN]);
        let mut writer = Writer::new();
        writer.i32(1);
        writer.bytes(false, &large).unwrap();
        writer
            .tagged_field(3, |w| {
                w.i8(5);
                w.bytes(true, &large)
            })
            .unwrap();
        writer.i8(9);
        let total = writer.len();
        let segments = writer.finish();
        assert_eq!(segments.len(), 5);
        assert_eq!(segments.iter().map(Bytes::len).sum::<usize>(), total);
        assert_eq!(segments[1].as_ptr(), large.as_ptr());
        assert_eq!(segments[4], [9u8][..]);
    }

    #[test]
    fn a_tagged_field_uses_what_it_claims_and_no_more() {
        let section = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes));
        let mut seen = 0;
        section(&[2, 0, 2, 0, 9, 7, 1, 0])
            .tagged_fields(|r, tag| {
                if tag == 0 {
                    seen = r.i16()?;
                }
                Ok(tag == 0)
            })
            .unwrap();
        assert_eq!(seen, 9);
        let short = section(&[1, 0, 1, 0, 9]).tagged_fields(|r, _| r.i16().map(|_| true)).unwrap_err();
        assert_eq!(short, DecodeError::Truncated { needed: 2, left: 1 });
        let long = section(&[1, 0, 3, 0, 9, 9]).tagged_fields(|r, _| r.i16().map(|_| true)).unwrap_err();
        assert_eq!(long, DecodeError::TaggedFieldSize { tag: 0, size: 3, used: 2 });
    }
}
