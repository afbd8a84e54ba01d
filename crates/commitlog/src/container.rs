//! The one container: a WAL chunk, later a WAL object, and a segment.
//!
//! ```text
//! header 128 │ body: extents of untouched batches, grouped by partition │ footer: index of every batch, notes, extension
//! ```
//! The footer alone opens a container: offsets, epochs, producers and places of all batches stand in it. The header carries the
//! log's id, the chunk's number, the hash of its predecessor and the number of the last chunk known to be durable; header and
//! footer have a CRC-32C each, the batches bring their own, which the footer repeats. So the hash over header and footer stands
//! for the payload too. All numbers are little-endian; offsets are 64-bit. The bytes are listed in `docs/data-layout.md`.

use bytes::{BufMut, BytesMut};
use protocol::{TopicIdPartition, Uuid};
use xxhash_rust::xxh3::xxh3_128;

pub const HEADER_LEN: usize = 128;
const MAGIC: [u8; 4] = *b"OTLC";
const VERSION: u16 = 1;
/// Bytes of one partition's heading and of one batch in the footer.
const PARTITION_LEN: usize = 16 + 4 + 8 + 8 + 4;
const BATCH_LEN: usize = 8 + 8 + 4 + 4 + 8 + 2 + 4 + 2 + 4 + 8 + 8 + 8 + 8 + 4 + 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    WalChunk,
    Segment,
}

/// The header of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    /// Of the log that wrote it; a recycled file may hold older chunks of the same log, never foreign ones that count.
    pub log_id: [u8; 16],
    pub number: u64,
    pub predecessor: u128,
    /// Every chunk up to this number is known to be on the medium.
    pub durable_through: u64,
    /// Names this content: in the bucket, what was stored under the key is mine when the nonce is.
    pub nonce: u128,
    pub body_len: u64,
    pub footer_len: u32,
    footer_crc: u32,
}

impl Header {
    /// Header, body and footer.
    pub fn total_len(&self) -> u64 {
        HEADER_LEN as u64 + self.body_len + u64::from(self.footer_len)
    }
}

/// One batch in the footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchEntry {
    pub base_offset: u64,
    pub last_offset: u64,
    pub record_count: u32,
    pub leader_epoch: i32,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub flags: BatchFlags,
    /// Of a control batch; −1 else.
    pub coordinator_epoch: i32,
    /// The transaction's stamp (T2 of the bucket protocol); −1 else.
    pub transaction_stamp: i64,
    /// Of a compacted batch (F1); −1 else.
    pub delete_horizon_ms: i64,
    pub max_timestamp: i64,
    /// From the start of the container.
    pub position: u64,
    pub len: u32,
    /// The batch's own CRC-32C, as it stands in its header.
    pub crc: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchFlags(pub u16);

impl BatchFlags {
    pub const TRANSACTIONAL: u16 = 1;
    pub const CONTROL: u16 = 2;
    /// Of a control batch: commit; else abort.
    pub const COMMIT: u16 = 4;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionEntry {
    pub partition: TopicIdPartition,
    /// In offset order, and one after another in the body.
    pub batches: Vec<BatchEntry>,
}

impl PartitionEntry {
    pub fn first_offset(&self) -> u64 {
        self.batches.first().map_or(0, |b| b.base_offset)
    }

    pub fn last_offset(&self) -> u64 {
        self.batches.last().map_or(0, |b| b.last_offset)
    }
}

/// What happened to a partition without a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Records below are gone (retention, DeleteRecords).
    LogStart { partition: TopicIdPartition, offset: u64 },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    pub partitions: Vec<PartitionEntry>,
    pub notes: Vec<Note>,
    /// What a segment adds; a chunk has none.
    pub extension: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    #[error("no container starts here")]
    NoMagic,
    #[error("container version {0} is newer than this release")]
    Version(u16),
    #[error("header checksum")]
    HeaderChecksum,
    #[error("footer checksum")]
    FooterChecksum,
    #[error("footer contents: {0}")]
    Footer(&'static str),
    #[error("cut short")]
    Truncated,
}

/// What a container is built from, besides its batches.
#[derive(Clone, Debug)]
pub struct Identity {
    pub kind: Kind,
    pub log_id: [u8; 16],
    pub number: u64,
    pub predecessor: u128,
    pub durable_through: u64,
    pub nonce: u128,
}

/// Builds one container in one buffer. Batches come grouped by partition and in offset order.
pub struct Builder {
    bytes: BytesMut,
    footer: Footer,
}

impl Builder {
    pub fn with_capacity(body_len: usize) -> Builder {
        let mut bytes = BytesMut::with_capacity(HEADER_LEN + body_len + body_len / 8 + 1024);
        bytes.put_bytes(0, HEADER_LEN);
        Builder { bytes, footer: Footer::default() }
    }

    /// Where the next batch comes to stand.
    pub fn position(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Appends a batch; `entry.position` is set here.
    pub fn push(&mut self, partition: TopicIdPartition, mut entry: BatchEntry, pieces: &[&[u8]]) {
        entry.position = self.position();
        pieces.iter().for_each(|piece| self.bytes.put_slice(piece));
        let written = self.position() - entry.position;
        assert_eq!(written, u64::from(entry.len), "a batch of {partition} is not as long as its entry says");
        match self.footer.partitions.last_mut() {
            Some(last) if last.partition == partition => {
                let before = last.last_offset();
                assert!(
                    entry.base_offset > before,
                    "{partition}: offset {} after {before}",
                    entry.base_offset
                );
                last.batches.push(entry);
            }
            _ => self.footer.partitions.push(PartitionEntry { partition, batches: vec![entry] }),
        }
    }

    pub fn note(&mut self, note: Note) {
        self.footer.notes.push(note);
    }

    pub fn extension(&mut self, extension: Vec<u8>) {
        self.footer.extension = extension;
    }

    /// The bytes, the footer they end in, and the hash that the next container names as its predecessor.
    pub fn finish(mut self, identity: &Identity) -> (BytesMut, Footer, u128) {
        let body_len = self.bytes.len() - HEADER_LEN;
        let footer_at = self.bytes.len();
        encode_footer(&self.footer, &mut self.bytes);
        let footer_len = self.bytes.len() - footer_at;
        let footer_crc = protocol::batch::crc32c(&self.bytes[footer_at..]);
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.put_slice(&MAGIC);
        header.put_u16_le(VERSION);
        header.put_u16_le(match identity.kind {
            Kind::WalChunk => 1,
            Kind::Segment => 2,
        });
        header.put_slice(&identity.log_id);
        header.put_u64_le(identity.number);
        header.put_u128_le(identity.predecessor);
        header.put_u64_le(identity.durable_through);
        header.put_u128_le(identity.nonce);
        header.put_u64_le(body_len as u64);
        header.put_u32_le(u32::try_from(footer_len).expect("a footer below 4 GiB"));
        header.put_u32_le(footer_crc);
        header.resize(HEADER_LEN - 4, 0);
        let crc = protocol::batch::crc32c(&header);
        header.put_u32_le(crc);
        self.bytes[..HEADER_LEN].copy_from_slice(&header);
        let hash = hash(&header, &self.bytes[footer_at..]);
        (self.bytes, self.footer, hash)
    }
}

/// Names header and footer, and by the checksums in the footer every batch.
pub fn hash(header: &[u8], footer: &[u8]) -> u128 {
    let footer = xxh3_128(footer);
    let mut both = [0u8; HEADER_LEN + 16];
    both[..HEADER_LEN].copy_from_slice(header);
    both[HEADER_LEN..].copy_from_slice(&footer.to_le_bytes());
    xxh3_128(&both)
}

/// Reads a header from its [`HEADER_LEN`] bytes.
pub fn decode_header(bytes: &[u8]) -> Result<Header, ContainerError> {
    let mut take = Take(bytes.get(..HEADER_LEN).ok_or(ContainerError::Truncated)?);
    if take.array::<4>() != MAGIC {
        return Err(ContainerError::NoMagic);
    }
    if protocol::batch::crc32c(&bytes[..HEADER_LEN - 4])
        != u32::from_le_bytes(bytes[HEADER_LEN - 4..HEADER_LEN].try_into().expect("four"))
    {
        return Err(ContainerError::HeaderChecksum);
    }
    let version = take.u16();
    if version != VERSION {
        return Err(ContainerError::Version(version));
    }
    let kind = match take.u16() {
        1 => Kind::WalChunk,
        2 => Kind::Segment,
        _ => return Err(ContainerError::NoMagic),
    };
    Ok(Header {
        kind,
        log_id: take.array(),
        number: take.u64(),
        predecessor: take.u128(),
        durable_through: take.u64(),
        nonce: take.u128(),
        body_len: take.u64(),
        footer_len: take.u32(),
        footer_crc: take.u32(),
    })
}

fn encode_footer(footer: &Footer, out: &mut BytesMut) {
    out.put_u32_le(footer.partitions.len() as u32);
    for partition in &footer.partitions {
        out.put_slice(&partition.partition.topic_id.0);
        out.put_i32_le(partition.partition.partition);
        out.put_u64_le(partition.first_offset());
        out.put_u64_le(partition.last_offset());
        out.put_u32_le(partition.batches.len() as u32);
        for batch in &partition.batches {
            out.put_u64_le(batch.base_offset);
            out.put_u64_le(batch.last_offset);
            out.put_u32_le(batch.record_count);
            out.put_i32_le(batch.leader_epoch);
            out.put_i64_le(batch.producer_id);
            out.put_i16_le(batch.producer_epoch);
            out.put_i32_le(batch.base_sequence);
            out.put_u16_le(batch.flags.0);
            out.put_i32_le(batch.coordinator_epoch);
            out.put_i64_le(batch.transaction_stamp);
            out.put_i64_le(batch.delete_horizon_ms);
            out.put_i64_le(batch.max_timestamp);
            out.put_u64_le(batch.position);
            out.put_u32_le(batch.len);
            out.put_u32_le(batch.crc);
        }
    }
    out.put_u32_le(footer.notes.len() as u32);
    for note in &footer.notes {
        match note {
            Note::LogStart { partition, offset } => {
                out.put_u8(1);
                out.put_u16_le(28);
                out.put_slice(&partition.topic_id.0);
                out.put_i32_le(partition.partition);
                out.put_u64_le(*offset);
            }
        }
    }
    out.put_u32_le(footer.extension.len() as u32);
    out.put_slice(&footer.extension);
}

/// Reads a footer and checks it against its header: checksum, counts against the bytes there are, order, and that every batch
/// lies in the body.
pub fn decode_footer(header: &Header, bytes: &[u8]) -> Result<Footer, ContainerError> {
    if bytes.len() != header.footer_len as usize {
        return Err(ContainerError::Truncated);
    }
    if protocol::batch::crc32c(bytes) != header.footer_crc {
        return Err(ContainerError::FooterChecksum);
    }
    let mut take = Take(bytes);
    let bad = ContainerError::Footer;
    let end = HEADER_LEN as u64 + header.body_len;
    let mut next_position = HEADER_LEN as u64;
    let count = take.count(PARTITION_LEN)?;
    let mut footer = Footer::default();
    for _ in 0..count {
        take.need(PARTITION_LEN)?;
        let partition = TopicIdPartition { topic_id: Uuid(take.array()), partition: take.u32() as i32 };
        let (first, last) = (take.u64(), take.u64());
        let batch_count = take.count(BATCH_LEN)?;
        let mut batches = Vec::with_capacity(batch_count);
        let mut next_offset = first;
        for _ in 0..batch_count {
            take.need(BATCH_LEN)?;
            let batch = BatchEntry {
                base_offset: take.u64(),
                last_offset: take.u64(),
                record_count: take.u32(),
                leader_epoch: take.u32() as i32,
                producer_id: take.u64() as i64,
                producer_epoch: take.u16() as i16,
                base_sequence: take.u32() as i32,
                flags: BatchFlags(take.u16()),
                coordinator_epoch: take.u32() as i32,
                transaction_stamp: take.u64() as i64,
                delete_horizon_ms: take.u64() as i64,
                max_timestamp: take.u64() as i64,
                position: take.u64(),
                len: take.u32(),
                crc: take.u32(),
            };
            if batch.base_offset < next_offset
                || batch.last_offset < batch.base_offset
                || batch.last_offset > i64::MAX as u64 - 1
            {
                return Err(bad("offsets out of order"));
            }
            if batch.position != next_position || u64::from(batch.len) > end - next_position {
                return Err(bad("a batch outside of the body"));
            }
            next_position += u64::from(batch.len);
            next_offset = batch.last_offset + 1;
            batches.push(batch);
        }
        let entry = PartitionEntry { partition, batches };
        if batch_count == 0 || entry.first_offset() != first || entry.last_offset() != last {
            return Err(bad("first and last offset"));
        }
        footer.partitions.push(entry);
    }
    if next_position != end {
        return Err(bad("the body holds more than the footer"));
    }
    for _ in 0..take.count(3)? {
        take.need(3)?;
        let (kind, len) = (take.array::<1>()[0], take.u16());
        if kind != 1 || len != 28 {
            return Err(bad("a note of an unknown kind"));
        }
        take.need(28)?;
        let partition = TopicIdPartition { topic_id: Uuid(take.array()), partition: take.u32() as i32 };
        footer.notes.push(Note::LogStart { partition, offset: take.u64() });
    }
    let extension = take.count(1)?;
    if take.0.len() != extension {
        return Err(bad("extension length"));
    }
    footer.extension = take.0.to_vec();
    Ok(footer)
}

/// A cursor over bytes whose length was checked with `need`.
struct Take<'a>(&'a [u8]);

impl Take<'_> {
    fn need(&self, len: usize) -> Result<(), ContainerError> {
        if self.0.len() < len { Err(ContainerError::Footer("cut short")) } else { Ok(()) }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_at(N);
        self.0 = rest;
        head.try_into().expect("split at N")
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn u128(&mut self) -> u128 {
        u128::from_le_bytes(self.array())
    }

    /// A count that the bytes left can hold, at `element_len` each.
    fn count(&mut self, element_len: usize) -> Result<usize, ContainerError> {
        self.need(4)?;
        let count = self.u32() as usize;
        if count > self.0.len() / element_len {
            Err(ContainerError::Footer("a count beyond the bytes"))
        } else {
            Ok(count)
        }
    }
}
