//! The one container format: a chunk of the write-ahead log, a WAL object of the bucket and a segment are all
//!
//! ```text
//! header (128 bytes) │ payload: extents of untouched batches │ footer: index of the extents │ padding
//! ```
//!
//! An *extent* is a run of batches of one partition under one leader epoch; extents stand back to back, ordered by
//! partition, and so do their batches. The footer holds one entry per batch, so that a partition can be opened
//! without reading payload.
//!
//! What covers what: the header has a CRC-32C of its own and the hash of the footer; the footer has the CRC-32C of
//! every batch *and* the offsets, epochs and lengths that a batch's CRC leaves out. So the hash of the 128 header
//! bytes stands for the whole chunk: it is what the next chunk names as its predecessor.
//!
//! All bytes are in `docs/data-layout.md`; `tests/golden` holds files that must stay readable.

use bytes::Bytes;
use protocol::batch::{
    Batch, BatchHeader, ControlRecord, HEADER_LEN as BATCH_HEADER_LEN, crc32c, patched_header,
};
use protocol::{TopicIdPartition, Uuid};
use world::disk::AlignedBuffer;

use crate::encoding::{Decoder, Encoder, FormatError, Hash, hash};
use crate::transactions::{ABORT, COMMIT};

pub const HEADER_LEN: usize = 128;
/// Chunks of the WAL start at multiples of this, so that a torn write of one never touches the pages of another.
pub const PAGE: u64 = 4096;
pub const MAGIC: [u8; 8] = *b"OTTLACTN";
pub const VERSION: u16 = 1;

const WHAT_HEADER: &str = "the container header";
const WHAT_FOOTER: &str = "the container footer";
const FOOTER_VERSION: u16 = 1;
const FOOTER_EXTENT_LEN: usize = 80;
const ENTRY_LEN_MIN: usize = 39;
const CONTROL_BIT: i16 = 0x20;
/// A marker is one small record; nothing longer is looked into.
const CONTROL_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One commit of a WAL in a directory.
    Chunk = 1,
    /// One commit of a WAL in a bucket.
    Object = 2,
    /// Batches sorted by partition and offset, written by the rewriter.
    Segment = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerHeader {
    pub kind: Kind,
    pub log_id: [u8; 16],
    /// Chunks of a log are numbered from 1 without gaps; an object has the number of its slot, from 0 on.
    pub number: u64,
    /// [`ContainerHeader::hash`] of chunk `number - 1`; zeros for the first.
    pub predecessor: Hash,
    /// Every chunk up to this one was durable when this one was written; of an object, every slot below.
    pub durable: u64,
    /// Random per content: equal nonce means equal bytes (R2, R3).
    pub nonce: [u8; 16],
    pub created_ms: i64,
    pub payload_len: u64,
    pub footer_len: u64,
    pub footer_hash: Hash,
    /// A chunk: how long its WAL file was made, so that a lost end is noticed. Others: 0.
    pub file_len: u64,
}

impl ContainerHeader {
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Encoder::with_capacity(HEADER_LEN);
        out.raw(&MAGIC);
        out.u16(VERSION);
        out.u8(self.kind as u8);
        out.u8(0);
        out.raw(&self.log_id);
        out.u64(self.number);
        out.raw(&self.predecessor);
        out.u64(self.durable);
        out.raw(&self.nonce);
        out.i64(self.created_ms);
        out.u64(self.payload_len);
        out.u64(self.footer_len);
        out.raw(&self.footer_hash);
        out.u64(self.file_len);
        let crc = crc32c(out.as_slice());
        out.u32(crc);
        out.into_vec().try_into().expect("the fields above are 128 bytes")
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let bytes: &[u8; HEADER_LEN] =
            bytes.first_chunk().ok_or(FormatError::Truncated { what: WHAT_HEADER })?;
        let (fields, crc) = bytes.split_at(HEADER_LEN - 4);
        if !fields.starts_with(&MAGIC) {
            return Err(FormatError::Magic { what: WHAT_HEADER });
        }
        if crc32c(fields).to_le_bytes() != crc {
            return Err(FormatError::Checksum { what: WHAT_HEADER });
        }
        let mut fields = Decoder::new(&fields[MAGIC.len()..], WHAT_HEADER);
        let version = fields.u16()?;
        if version != VERSION {
            return Err(FormatError::Version { what: WHAT_HEADER, version });
        }
        let kind = match fields.u8()? {
            1 => Kind::Chunk,
            2 => Kind::Object,
            3 => Kind::Segment,
            other => return Err(fields.inconsistent(format!("kind {other}"))),
        };
        fields.u8()?;
        let header = Self {
            kind,
            log_id: fields.array()?,
            number: fields.u64()?,
            predecessor: fields.array()?,
            durable: fields.u64()?,
            nonce: fields.array()?,
            created_ms: fields.i64()?,
            payload_len: fields.u64()?,
            footer_len: fields.u64()?,
            footer_hash: fields.array()?,
            file_len: fields.u64()?,
        };
        let len = header
            .payload_len
            .checked_add(header.footer_len)
            .and_then(|len| len.checked_add(HEADER_LEN as u64));
        if len.is_none_or(|len| len > i64::MAX as u64 - PAGE) {
            return Err(FormatError::Inconsistent { what: WHAT_HEADER, detail: "impossible lengths".into() });
        }
        Ok(header)
    }

    pub fn hash(&self) -> Hash {
        hash(&self.encode())
    }

    pub fn footer_at(&self) -> u64 {
        HEADER_LEN as u64 + self.payload_len
    }

    /// Without padding.
    #[allow(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub fn len(&self) -> u64 {
        self.footer_at() + self.footer_len
    }

    pub fn padded_len(&self) -> u64 {
        self.len().next_multiple_of(PAGE)
    }

    /// Checks the hash, then the fields.
    pub fn decode_footer(&self, bytes: &[u8]) -> Result<Footer, FormatError> {
        if bytes.len() as u64 != self.footer_len {
            return Err(FormatError::Truncated { what: WHAT_FOOTER });
        }
        if hash(bytes) != self.footer_hash {
            return Err(FormatError::Checksum { what: WHAT_FOOTER });
        }
        let footer = Footer::decode(bytes)?;
        footer.check(self.payload_len)?;
        Ok(footer)
    }
}

/// A run of batches of one partition under one leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterExtent {
    pub id: TopicIdPartition,
    pub leader_epoch: i32,
    /// From the start of the container.
    pub position: u64,
    pub len: u64,
    pub first_offset: u64,
    pub last_offset: u64,
    pub max_timestamp: i64,
    pub record_count: u64,
    /// Its entries in [`Footer::entries`].
    pub entry_start: usize,
    pub entry_count: usize,
}

/// What the footer says of one batch (F1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub base_offset: u64,
    pub last_offset: u64,
    pub len: u32,
    pub record_count: u32,
    /// The batch's own CRC-32C.
    pub crc: u32,
    /// The batch's attributes as they stand in it: compression, timestamp type, transactional, control.
    pub attributes: i16,
    pub max_timestamp: i64,
    pub producer: Option<EntryProducer>,
    pub transaction: Option<EntryTransaction>,
    /// Set by compaction (KIP-534).
    pub delete_horizon_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryProducer {
    pub id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
}

/// For batches of transactions and their markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryTransaction {
    /// For control batches: Kafka's type (0 abort, 1 commit); −1 for data.
    pub control_type: i16,
    pub coordinator_epoch: i32,
    /// When the transaction began, by its coordinator (T2); −1 when unknown.
    pub stamp: i64,
}

impl Entry {
    /// The entry of this batch at `base_offset`. `stamp` says which transaction it belongs to (T2), −1 when that is not known.
    pub fn of_batch(batch: &Batch, base_offset: u64, stamp: i64) -> Self {
        let mut entry = Self::of(&batch.header, base_offset);
        if let Some(transaction) = &mut entry.transaction {
            transaction.stamp = stamp;
            if batch.header.is_control() {
                (transaction.control_type, transaction.coordinator_epoch) = control_of(batch);
            }
        }
        entry
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// The entry of a batch of which only the header is known.
    fn of(header: &BatchHeader, base_offset: u64) -> Self {
        Self {
            base_offset,
            last_offset: base_offset + header.last_offset_delta as u64,
            len: header.total_len() as u32,
            record_count: header.record_count as u32,
            crc: header.crc,
            attributes: header.attributes,
            max_timestamp: header.max_timestamp,
            producer: header.has_producer_id().then_some(EntryProducer {
                id: header.producer_id,
                epoch: header.producer_epoch,
                base_sequence: header.base_sequence,
            }),
            transaction: (header.is_transactional() || header.is_control()).then_some(EntryTransaction {
                control_type: -1,
                coordinator_epoch: -1,
                stamp: -1,
            }),
            delete_horizon_ms: header.has_delete_horizon().then_some(header.base_timestamp),
        }
    }

    fn encode(&self, out: &mut Encoder) {
        let presence = u8::from(self.producer.is_some())
            | u8::from(self.transaction.is_some()) << 1
            | u8::from(self.delete_horizon_ms.is_some()) << 2;
        out.u8(presence);
        out.i16(self.attributes);
        out.u32(self.len);
        out.u32(self.record_count);
        out.u32(self.crc);
        out.u64(self.base_offset);
        out.u64(self.last_offset);
        out.i64(self.max_timestamp);
        if let Some(producer) = self.producer {
            out.i64(producer.id);
            out.i16(producer.epoch);
            out.i32(producer.base_sequence);
        }
        if let Some(transaction) = self.transaction {
            out.i16(transaction.control_type);
            out.i32(transaction.coordinator_epoch);
            out.i64(transaction.stamp);
        }
        if let Some(horizon) = self.delete_horizon_ms {
            out.i64(horizon);
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let presence = input.u8()?;
        if presence & !0b111 != 0 {
            return Err(input.inconsistent(format!("presence bits {presence:#b}")));
        }
        let attributes = input.i16()?;
        let len = input.u32()?;
        let record_count = input.u32()?;
        let crc = input.u32()?;
        let base_offset = input.u64()?;
        let last_offset = input.u64()?;
        let max_timestamp = input.i64()?;
        let mut entry = Self {
            base_offset,
            last_offset,
            len,
            record_count,
            crc,
            attributes,
            max_timestamp,
            producer: None,
            transaction: None,
            delete_horizon_ms: None,
        };
        if presence & 1 != 0 {
            let (id, epoch, base_sequence) = (input.i64()?, input.i16()?, input.i32()?);
            entry.producer = Some(EntryProducer { id, epoch, base_sequence });
        }
        if presence & 2 != 0 {
            let (control_type, coordinator_epoch, stamp) = (input.i16()?, input.i32()?, input.i64()?);
            entry.transaction = Some(EntryTransaction { control_type, coordinator_epoch, stamp });
        }
        if presence & 4 != 0 {
            entry.delete_horizon_ms = Some(input.i64()?);
        }
        Ok(entry)
    }
}

/// The control type and the coordinator's epoch of a marker; (−1, −1) when it is none that ends a transaction.
fn control_of(batch: &Batch) -> (i16, i32) {
    let record = batch.records(CONTROL_BYTES_MAX).next().and_then(Result::ok);
    let control = record.and_then(|record| ControlRecord::parse(&record.key?, record.value.as_deref()));
    match control {
        Some(ControlRecord::Abort { coordinator_epoch }) => (ABORT, coordinator_epoch),
        Some(ControlRecord::Commit { coordinator_epoch }) => (COMMIT, coordinator_epoch),
        Some(ControlRecord::Unknown(_)) | None => (-1, -1),
    }
}

/// What else a footer may hold. A reader that does not know a kind refuses the container (R18's rule for data).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum SectionKind {
    /// WAL: log start offsets that were raised in this commit. See [`LogStart`].
    LogStarts = 1,
    /// Segment: aborted transactions whose marker lies in it (F4).
    AbortedTransactions = 2,
    /// Segment: transactions open at its end (F4).
    OpenTransactions = 3,
    /// Segment: producers at its end (F3).
    Producers = 4,
    /// Segment: leader epochs and where they start (F10).
    EpochStarts = 5,
    /// Segment: what it was made of.
    Sources = 6,
    /// Segment: offsets and times to positions.
    TimeIndex = 7,
    /// Segment: where runs of offsets begin, when compaction took some of them away.
    Runs = 8,
    /// WAL in a bucket: which partitions the slot before has something of. See `bucket/slot_before.rs`.
    SlotBefore = 9,
    /// WAL in a bucket: headers and footers of slots before this one. See `bucket/slot_digest.rs`.
    SlotDigest = 10,
}

impl SectionKind {
    fn from_u16(kind: u16) -> Option<Self> {
        use SectionKind::*;
        let all = [
            LogStarts,
            AbortedTransactions,
            OpenTransactions,
            Producers,
            EpochStarts,
            Sources,
            TimeIndex,
            Runs,
            SlotBefore,
            SlotDigest,
        ];
        all.into_iter().find(|known| *known as u16 == kind)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    pub extents: Vec<FooterExtent>,
    pub entries: Vec<Entry>,
    pub sections: Vec<(SectionKind, Vec<u8>)>,
}

impl Footer {
    pub fn entries_of(&self, extent: &FooterExtent) -> &[Entry] {
        &self.entries[extent.entry_start..extent.entry_start + extent.entry_count]
    }

    pub fn section(&self, kind: SectionKind) -> Option<&[u8]> {
        self.sections.iter().find(|(known, _)| *known == kind).map(|(_, bytes)| bytes.as_slice())
    }

    pub fn encode(&self) -> Vec<u8> {
        let sections_len: usize = self.sections.iter().map(|(_, bytes)| bytes.len() + 8).sum();
        let capacity = 16 + self.extents.len() * FOOTER_EXTENT_LEN + self.entries.len() * 64 + sections_len;
        let mut out = Encoder::with_capacity(capacity);
        out.u16(FOOTER_VERSION);
        out.u16(0);
        out.u32(self.extents.len() as u32);
        out.u32(self.entries.len() as u32);
        out.u32(self.sections.len() as u32);
        for extent in &self.extents {
            out.raw(extent.id.topic_id.as_bytes());
            out.i32(extent.id.partition);
            out.i32(extent.leader_epoch);
            out.u64(extent.position);
            out.u64(extent.len);
            out.u64(extent.first_offset);
            out.u64(extent.last_offset);
            out.i64(extent.max_timestamp);
            out.u64(extent.record_count);
            out.u32(extent.entry_count as u32);
            out.u32(0);
        }
        for entry in &self.entries {
            entry.encode(&mut out);
        }
        for (kind, bytes) in &self.sections {
            out.u16(*kind as u16);
            out.u16(0);
            out.u32(bytes.len() as u32);
            out.raw(bytes);
        }
        out.into_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut input = Decoder::new(bytes, WHAT_FOOTER);
        let version = input.u16()?;
        if version != FOOTER_VERSION {
            return Err(FormatError::Version { what: WHAT_FOOTER, version });
        }
        input.u16()?;
        let extent_count = input.u32()? as usize;
        let entry_count = input.u32()? as usize;
        let section_count = input.u32()? as usize;
        let least = [(extent_count, FOOTER_EXTENT_LEN), (entry_count, ENTRY_LEN_MIN), (section_count, 8)]
            .into_iter()
            .try_fold(0usize, |sum, (count, each)| sum.checked_add(count.checked_mul(each)?));
        if least.is_none_or(|least| least > input.remaining()) {
            return Err(FormatError::Truncated { what: WHAT_FOOTER });
        }
        let mut footer = Self {
            extents: Vec::with_capacity(extent_count),
            entries: Vec::with_capacity(entry_count),
            sections: Vec::with_capacity(section_count),
        };
        let mut entry_start = 0usize;
        for _ in 0..extent_count {
            let topic_id = Uuid(input.array()?);
            let partition = input.i32()?;
            let extent = FooterExtent {
                id: TopicIdPartition { topic_id, partition },
                leader_epoch: input.i32()?,
                position: input.u64()?,
                len: input.u64()?,
                first_offset: input.u64()?,
                last_offset: input.u64()?,
                max_timestamp: input.i64()?,
                record_count: input.u64()?,
                entry_start,
                entry_count: input.u32()? as usize,
            };
            input.u32()?;
            entry_start = entry_start.saturating_add(extent.entry_count);
            footer.extents.push(extent);
        }
        if entry_start != entry_count {
            return Err(input.inconsistent("extents and entries do not add up"));
        }
        for _ in 0..entry_count {
            footer.entries.push(Entry::decode(&mut input)?);
        }
        for _ in 0..section_count {
            let kind = input.u16()?;
            input.u16()?;
            let len = input.u32()? as usize;
            let Some(kind) = SectionKind::from_u16(kind) else {
                return Err(input.inconsistent(format!("unknown section {kind}")));
            };
            footer.sections.push((kind, input.take(len)?.to_vec()));
        }
        input.finish()?;
        Ok(footer)
    }

    /// What must hold between header, extents and entries. Violations are damage that a checksum let through, or a
    /// bug of the writer; a reader must not build on them.
    fn check(&self, payload_len: u64) -> Result<(), FormatError> {
        let bad = |detail: String| Err(FormatError::Inconsistent { what: WHAT_FOOTER, detail });
        let mut position = HEADER_LEN as u64;
        for extent in &self.extents {
            if extent.position != position {
                return bad(format!("extent at {} where {position} was expected", extent.position));
            }
            let entries = self.entries_of(extent);
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
                return bad("an extent without batches".into());
            };
            let mut len = 0u64;
            let mut next = first.base_offset;
            let mut records = 0u64;
            for entry in entries {
                let in_order = entry.base_offset >= next && entry.last_offset >= entry.base_offset;
                if !in_order
                    || entry.last_offset >= i64::MAX as u64
                    || (entry.len as usize) < BATCH_HEADER_LEN
                {
                    return bad(format!("batch {}..{} out of place", entry.base_offset, entry.last_offset));
                }
                next = entry.last_offset + 1;
                len += u64::from(entry.len);
                records += u64::from(entry.record_count);
            }
            let agrees = len == extent.len
                && first.base_offset == extent.first_offset
                && last.last_offset == extent.last_offset
                && records == extent.record_count
                && extent.id.partition >= 0;
            if !agrees {
                return bad(format!("extent of {} disagrees with its batches", extent.id));
            }
            position = position.saturating_add(extent.len);
        }
        if position != HEADER_LEN as u64 + payload_len {
            return bad("extents and payload differ in length".into());
        }
        Ok(())
    }

    /// Does this payload (the bytes behind the header) hold the batches that the footer lists?
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), FormatError> {
        const WHAT: &str = "the container payload";
        let mut rest = payload;
        for extent in &self.extents {
            for entry in self.entries_of(extent) {
                let Some((batch, behind)) = rest.split_at_checked(entry.len as usize) else {
                    return Err(FormatError::Truncated { what: WHAT });
                };
                rest = behind;
                check_batch(batch, entry, extent.leader_epoch)?;
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(FormatError::Truncated { what: WHAT }) }
    }
}

/// Is `batch` the one that `entry` describes?
pub fn check_batch(batch: &[u8], entry: &Entry, leader_epoch: i32) -> Result<(), FormatError> {
    const WHAT: &str = "a record batch";
    let damaged = |detail: String| FormatError::Inconsistent { what: WHAT, detail };
    let header = BatchHeader::parse(batch).map_err(|error| damaged(error.to_string()))?;
    let agrees = header.base_offset as u64 == entry.base_offset
        && header.last_offset() as u64 == entry.last_offset
        && header.partition_leader_epoch == leader_epoch
        && header.crc == entry.crc
        && header.total_len() == entry.len as usize;
    if !agrees {
        return Err(damaged(format!(
            "the batch at offset {} is not what the footer says",
            entry.base_offset
        )));
    }
    header.verify_crc(batch).map_err(|_| FormatError::Checksum { what: WHAT })
}

/// The log start offset of a partition was raised (DeleteRecords, retention).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStart {
    pub id: TopicIdPartition,
    pub offset: u64,
}

impl LogStart {
    const LEN: usize = 28;

    pub fn encode_all(starts: &[LogStart]) -> Vec<u8> {
        let mut out = Encoder::with_capacity(4 + starts.len() * Self::LEN);
        out.u32(starts.len() as u32);
        for start in starts {
            out.raw(start.id.topic_id.as_bytes());
            out.i32(start.id.partition);
            out.u64(start.offset);
        }
        out.into_vec()
    }

    pub fn decode_all(bytes: &[u8]) -> Result<Vec<LogStart>, FormatError> {
        let mut input = Decoder::new(bytes, "a list of log start offsets");
        let count = input.count(Self::LEN)?;
        let mut starts = Vec::with_capacity(count);
        for _ in 0..count {
            let id = TopicIdPartition { topic_id: Uuid(input.array()?), partition: input.i32()? };
            starts.push(LogStart { id, offset: input.u64()? });
        }
        input.finish()?;
        Ok(starts)
    }
}

/// Builds a container in one contiguous buffer: batches of a partition one after the other, partitions in order.
pub struct ContainerBuilder {
    bytes: AlignedBuffer,
    footer: Footer,
}

/// What the builder needs besides the batches.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub kind: Kind,
    pub log_id: [u8; 16],
    pub number: u64,
    pub predecessor: Hash,
    pub durable: u64,
    pub nonce: [u8; 16],
    pub created_ms: i64,
    pub file_len: u64,
}

impl ContainerBuilder {
    /// `payload_len` and `batch_count` only size the buffer.
    pub fn new(payload_len: usize, batch_count: usize) -> Self {
        let footer_guess = 16 + batch_count * (FOOTER_EXTENT_LEN + ENTRY_LEN_MIN + 14);
        let capacity = (HEADER_LEN + payload_len + footer_guess).next_multiple_of(PAGE as usize);
        let mut bytes = AlignedBuffer::with_capacity(capacity);
        bytes.resize(HEADER_LEN);
        let footer = Footer { entries: Vec::with_capacity(batch_count), ..Footer::default() };
        Self { bytes, footer }
    }

    /// Copies the batch with its place in the log filled in; nothing else of it changes.
    pub fn push(
        &mut self,
        id: TopicIdPartition,
        leader_epoch: i32,
        batch: &Batch,
        base_offset: u64,
        stamp: i64,
    ) {
        let entry = Entry::of_batch(batch, base_offset, stamp);
        let batch = &batch.bytes;
        let position = self.bytes.len() as u64;
        self.bytes.extend_from_slice(&patched_header(batch, base_offset as i64, leader_epoch));
        self.bytes.extend_from_slice(&batch[BATCH_HEADER_LEN..]);
        self.footer.push(id, leader_epoch, position, entry);
    }

    pub fn section(&mut self, kind: SectionKind, bytes: Vec<u8>) {
        self.footer.sections.push((kind, bytes));
    }

    /// The padded bytes, the header and the footer.
    pub fn finish(mut self, identity: Identity) -> (Bytes, ContainerHeader, Footer) {
        let footer_bytes = self.footer.encode();
        let header = ContainerHeader {
            kind: identity.kind,
            log_id: identity.log_id,
            number: identity.number,
            predecessor: identity.predecessor,
            durable: identity.durable,
            nonce: identity.nonce,
            created_ms: identity.created_ms,
            payload_len: (self.bytes.len() - HEADER_LEN) as u64,
            footer_len: footer_bytes.len() as u64,
            footer_hash: hash(&footer_bytes),
            file_len: identity.file_len,
        };
        self.bytes.as_mut_slice()[..HEADER_LEN].copy_from_slice(&header.encode());
        self.bytes.extend_from_slice(&footer_bytes);
        self.bytes.resize(header.padded_len() as usize);
        (self.bytes.freeze(), header, self.footer)
    }
}

impl Footer {
    /// Adds a batch behind the ones that are there: to the last extent when partition and epoch are the same, else
    /// as the first of a new one.
    pub fn push(&mut self, id: TopicIdPartition, leader_epoch: i32, position: u64, entry: Entry) {
        match self.extents.last_mut() {
            Some(extent) if extent.id == id && extent.leader_epoch == leader_epoch => {
                assert!(
                    entry.base_offset > extent.last_offset,
                    "batches of {id} out of order: {entry:?} {extent:?}"
                );
                extent.len += u64::from(entry.len);
                extent.last_offset = entry.last_offset;
                extent.max_timestamp = extent.max_timestamp.max(entry.max_timestamp);
                extent.record_count += u64::from(entry.record_count);
                extent.entry_count += 1;
            }
            _ => self.extents.push(FooterExtent {
                id,
                leader_epoch,
                position,
                len: u64::from(entry.len),
                first_offset: entry.base_offset,
                last_offset: entry.last_offset,
                max_timestamp: entry.max_timestamp,
                record_count: u64::from(entry.record_count),
                entry_start: self.entries.len(),
                entry_count: 1,
            }),
        }
        self.entries.push(entry);
    }
}

/// Reads a whole container that lies in memory, and checks everything in it.
pub fn open(bytes: &Bytes) -> Result<(ContainerHeader, Footer), FormatError> {
    let header = ContainerHeader::decode(bytes)?;
    if (bytes.len() as u64) < header.len() {
        return Err(FormatError::Truncated { what: "the container" });
    }
    let (footer_at, end) = (header.footer_at() as usize, header.len() as usize);
    let footer = header.decode_footer(&bytes[footer_at..end])?;
    footer.check_payload(&bytes[HEADER_LEN..footer_at])?;
    Ok((header, footer))
}
