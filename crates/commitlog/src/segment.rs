//! Segments: batches sorted by partition and offset, in files of the container format that never change once named in
//! the manifest.
//!
//! ```text
//! seg/<id>.seg:  header │ partition a: batches … │ partition b: batches … │ footer (entry per batch, sections)
//! ```
//!
//! The manifest holds *pieces* of up to [`PIECE_BYTES`] with their places, so that a read finds its bytes without the
//! footer. The footer is what a piece is checked against when the segment is made, and what a segment can be understood
//! from when nothing else is left. See `docs/decisions/segments.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use protocol::batch::{Batch, BatchHeader, HEADER_LEN as BATCH_HEADER_LEN, split_batches};
use protocol::{TopicIdPartition, Uuid};
use world::disk::{AlignedBuffer, DIRECT_ALIGN, Disk, DiskError, File, OpenMode};

use crate::container::{ContainerHeader, Entry, Footer, HEADER_LEN, Kind, SectionKind, check_batch};
use crate::encoding::{Decoder, Encoder, FormatError, Hash, hash};
use crate::transactions::NO_STAMP;

pub type SegmentId = [u8; 16];

/// Batches are gathered into pieces of at most this (a longer batch is a piece of its own): what one read of old data
/// takes from the medium, and the grain of retention.
pub const PIECE_BYTES: u64 = 1 << 20;
/// Bytes handed to the disk at a time.
const STEP_BYTES: usize = 1 << 20;
/// Synced every so many bytes, so that the last sync is no burst that commits have to wait for.
const SYNC_EVERY_BYTES: u64 = 16 << 20;
/// The longest footer that is believed.
const FOOTER_BYTES_MAX: u64 = 1 << 30;

/// A segment as the manifest knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub id: SegmentId,
    /// Length of the file.
    pub len: u64,
    pub payload_len: u64,
    /// Stands for every byte of header and footer, and through the entries' checksums for every batch.
    pub header_hash: Hash,
    pub created_ms: i64,
}

/// A run of batches of one partition and one leader epoch, back to back in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub first_offset: i64,
    pub last_offset: i64,
    pub max_timestamp: i64,
    pub record_count: u32,
    pub leader_epoch: i32,
    pub position: u64,
    pub len: u64,
}

impl Piece {
    /// Compaction took some of its records away: not every one of its offsets is in a batch.
    pub fn is_sparse(&self) -> bool {
        is_sparse(self.first_offset, self.last_offset, self.record_count)
    }
}

pub fn is_sparse(first_offset: i64, last_offset: i64, record_count: u32) -> bool {
    last_offset - first_offset >= i64::from(record_count)
}

/// What a segment was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SegmentSource {
    WalFile(u64),
    Segment(SegmentId),
    /// Of a WAL in a bucket.
    Slots {
        wal_id: u64,
        from: u64,
        to: u64,
    },
}

/// Counts and a chained hash over the batches of one partition, taken once while reading the inputs and once while
/// reading the output back: only when they agree may an input go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
    pub hash: u64,
}

impl Tally {
    fn add(&mut self, header: &BatchHeader) {
        self.batches += 1;
        self.records += header.record_count.max(0) as u64;
        self.bytes += header.total_len() as u64;
        let mut fields = [0u8; 24];
        fields[..8].copy_from_slice(&header.base_offset.to_le_bytes());
        fields[8..12].copy_from_slice(&header.last_offset_delta.to_le_bytes());
        fields[12..16].copy_from_slice(&header.crc.to_le_bytes());
        fields[16..20].copy_from_slice(&header.partition_leader_epoch.to_le_bytes());
        fields[20..].copy_from_slice(&(header.total_len() as u32).to_le_bytes());
        self.hash = xxhash_rust::xxh3::xxh3_64_with_seed(&fields, self.hash);
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error(transparent)]
    Storage(#[from] DiskError),
    /// An input batch is not what the log says it is. It stays where it is.
    #[error("a batch to be rewritten is damaged: {0}")]
    Input(String),
    /// What was read back is not what was written. Nothing is removed.
    #[error("segment {} is not what was written: {detail}", path.display())]
    Output { path: PathBuf, detail: String },
}

pub fn file_name(id: &SegmentId) -> String {
    let mut name = String::with_capacity(36);
    for byte in id {
        name.push_str(&format!("{byte:02x}"));
    }
    name.push_str(".seg");
    name
}

/// All objects of the second tier of one log in a directory lie below this.
pub fn tier_folder(log_id: &[u8; 16]) -> String {
    let digits: String = log_id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("tier/{digits}/")
}

pub fn tier_key(log_id: &[u8; 16], id: &SegmentId) -> String {
    tier_folder(log_id) + &file_name(id)
}

pub fn file_id(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 32 && digits.is_ascii())?;
    let mut id = [0; 16];
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(id)
}

/// What goes where in a segment, and what is known of it: the same for a file and for an object.
struct Layout {
    /// Where the next batch goes.
    position: u64,
    piece_bytes_max: u64,
    footer: Footer,
    pieces: BTreeMap<TopicIdPartition, Vec<Piece>>,
    tallies: BTreeMap<TopicIdPartition, Tally>,
    runs: Vec<Run>,
    /// Some offsets of a run are in no batch: compaction took them away.
    is_sparse: bool,
}

/// Offsets of one partition without a gap, though perhaps not all of them are in a batch: where they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub id: TopicIdPartition,
    pub first_offset: i64,
    /// Of its first batch, from the start of the container.
    pub position: u64,
}

/// A segment being written into a file: partitions in order, batches in order.
pub struct SegmentWriter {
    id: SegmentId,
    path: PathBuf,
    file: Arc<dyn File>,
    layout: Layout,
    /// Whole pages.
    written: u64,
    synced: u64,
    /// What follows behind `written`.
    staged: AlignedBuffer,
}

/// The same in memory, for a bucket.
pub struct SegmentBuilder {
    layout: Layout,
    bytes: BytesMut,
}

/// A segment that is written and synced, its name included, and read back.
#[derive(Debug)]
pub struct Written {
    pub info: Arc<SegmentInfo>,
    pub pieces: BTreeMap<TopicIdPartition, Vec<Piece>>,
}

/// What a segment's header and sections say besides its batches.
pub struct SegmentIdentity {
    pub log_id: [u8; 16],
    pub nonce: [u8; 16],
    pub created_ms: i64,
    pub sources: Vec<SegmentSource>,
}

impl Layout {
    fn new(piece_bytes_max: u64) -> Self {
        let (pieces, tallies) = (BTreeMap::new(), BTreeMap::new());
        let footer = Footer::default();
        let (runs, is_sparse) = (Vec::new(), false);
        Self { position: HEADER_LEN as u64, piece_bytes_max, footer, pieces, tallies, runs, is_sparse }
    }

    fn push(&mut self, id: TopicIdPartition, from: i64, batches: &Bytes) -> Result<(), SegmentError> {
        let mut from = from;
        for batch in split_batches(batches) {
            // Its checksum is verified where it was read, and again where this segment is read back.
            let batch = batch.map_err(|error| SegmentError::Input(format!("{id}: {error}")))?;
            self.add(id, from, &batch)?;
            from = batch.header.next_offset();
        }
        Ok(())
    }

    /// `from`: the first of the offsets that the batch stands for.
    fn add(&mut self, id: TopicIdPartition, from: i64, batch: &Batch) -> Result<(), SegmentError> {
        let header = &batch.header;
        // Which transaction it belonged to is in the partition's state while that is open.
        let entry = Entry::of_batch(batch, header.base_offset as u64, NO_STAMP);
        let pieces = self.pieces.entry(id).or_default();
        let last = pieces.last().map_or(-1, |last| last.last_offset);
        if from <= last || header.base_offset < from {
            let found = header.base_offset;
            return Err(SegmentError::Input(format!("{id}: offset {found} comes after {last}, from {from}")));
        }
        let len = header.total_len() as u64;
        let epoch = header.partition_leader_epoch;
        let continues = self.footer.extents.last().is_some_and(|extent| extent.id == id) && from == last + 1;
        if !continues {
            self.runs.push(Run { id, first_offset: from, position: self.position });
        }
        self.is_sparse |= header.base_offset > from;
        grow(pieces, &entry, from, epoch, self.position);
        self.footer.push(id, epoch, self.position, entry);
        self.tallies.entry(id).or_default().add(header);
        self.position += len;
        Ok(())
    }

    /// Header and footer of what was pushed.
    fn close(&mut self, identity: SegmentIdentity) -> (ContainerHeader, Vec<u8>) {
        let totals = Sources::new(identity.sources, &self.tallies);
        self.footer.sections.push((SectionKind::EpochStarts, encode_epoch_starts(&self.footer)));
        self.footer.sections.push((SectionKind::Sources, totals.encode()));
        if self.is_sparse {
            self.footer.sections.push((SectionKind::Runs, encode_runs(&self.runs)));
        }
        let footer = self.footer.encode();
        let header = ContainerHeader {
            kind: Kind::Segment,
            log_id: identity.log_id,
            number: 0,
            predecessor: Hash::default(),
            durable: 0,
            nonce: identity.nonce,
            created_ms: identity.created_ms,
            file_len: 0,
            payload_len: self.position - HEADER_LEN as u64,
            footer_len: footer.len() as u64,
            footer_hash: hash(&footer),
        };
        (header, footer)
    }
}

/// A batch behind the ones that are there: in the last piece where it continues it, else in a new one. A piece ends with its last batch;
/// what compaction took away before a batch counts as that batch's.
fn grow(pieces: &mut Vec<Piece>, entry: &Entry, first_offset: i64, leader_epoch: i32, position: u64) {
    let len = u64::from(entry.len);
    let last_offset = entry.last_offset as i64;
    match pieces.last_mut() {
        Some(piece)
            if piece.leader_epoch == leader_epoch
                && piece.len + len <= PIECE_BYTES
                && piece.position + piece.len == position
                && piece.last_offset + 1 == first_offset
                && piece.record_count.checked_add(entry.record_count).is_some() =>
        {
            piece.last_offset = last_offset;
            piece.max_timestamp = piece.max_timestamp.max(entry.max_timestamp);
            piece.record_count += entry.record_count;
            piece.len += len;
        }
        _ => pieces.push(Piece {
            first_offset,
            last_offset,
            max_timestamp: entry.max_timestamp,
            record_count: entry.record_count,
            leader_epoch,
            position,
            len,
        }),
    }
}

/// Neighbours in one, up to so many bytes. Short pieces are joined as a whole, so that they can be found again inside.
fn joined(short: Vec<Piece>, piece_bytes_max: u64) -> Vec<Piece> {
    let mut long: Vec<Piece> = Vec::new();
    for piece in short {
        match long.last_mut() {
            Some(last)
                if last.leader_epoch == piece.leader_epoch
                    && last.len + piece.len <= piece_bytes_max
                    && last.position + last.len == piece.position
                    && last.last_offset + 1 == piece.first_offset
                    && last.record_count.checked_add(piece.record_count).is_some() =>
            {
                last.last_offset = piece.last_offset;
                last.max_timestamp = last.max_timestamp.max(piece.max_timestamp);
                last.record_count += piece.record_count;
                last.len += piece.len;
            }
            _ => long.push(piece),
        }
    }
    long
}

/// Short pieces of a segment, by its footer: what the manifest may have as one long piece.
pub fn pieces_of(footer: &Footer) -> Result<BTreeMap<TopicIdPartition, Vec<Piece>>, FormatError> {
    let mut pieces: BTreeMap<TopicIdPartition, Vec<Piece>> = BTreeMap::new();
    let runs = footer.section(SectionKind::Runs).map(decode_runs).transpose()?;
    let runs: Option<BTreeMap<u64, i64>> =
        runs.map(|runs| runs.iter().map(|run| (run.position, run.first_offset)).collect());
    for extent in &footer.extents {
        let pieces = pieces.entry(extent.id).or_default();
        let mut position = extent.position;
        for entry in footer.entries_of(extent) {
            let begun = runs.as_ref().map(|runs| runs.get(&position));
            let first_offset = match (begun, pieces.last()) {
                // Nothing was taken away.
                (None, _) => entry.base_offset as i64,
                (Some(Some(first)), _) => *first,
                (Some(None), Some(last)) => last.last_offset + 1,
                (Some(None), None) => {
                    let detail = format!("{} has batches before its first run", extent.id);
                    return Err(FormatError::Inconsistent { what: "a segment's runs", detail });
                }
            };
            if first_offset > entry.base_offset as i64 {
                let detail =
                    format!("{}: batch {} before offset {first_offset}", extent.id, entry.base_offset);
                return Err(FormatError::Inconsistent { what: "a segment's runs", detail });
            }
            grow(pieces, entry, first_offset, extent.leader_epoch, position);
            position += u64::from(entry.len);
        }
    }
    Ok(pieces)
}

fn info_of(id: SegmentId, header: &ContainerHeader) -> SegmentInfo {
    SegmentInfo {
        id,
        len: header.len(),
        payload_len: header.payload_len,
        header_hash: header.hash(),
        created_ms: header.created_ms,
    }
}

impl Default for SegmentBuilder {
    fn default() -> Self {
        Self::new(PIECE_BYTES, 0)
    }
}

impl SegmentBuilder {
    /// How long its pieces may be, and about how many bytes of batches will come: so that they need not move to make room.
    pub fn new(piece_bytes_max: u64, payload_len: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(HEADER_LEN + payload_len + payload_len / 8);
        // The header comes last.
        bytes.resize(HEADER_LEN, 0);
        Self { layout: Layout::new(piece_bytes_max), bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.layout.pieces.is_empty()
    }

    /// Of what was pushed, and the header.
    pub fn len(&self) -> u64 {
        self.layout.position
    }

    /// As [`SegmentWriter::push`].
    pub fn push(&mut self, id: TopicIdPartition, from: i64, batches: Bytes) -> Result<(), SegmentError> {
        self.layout.push(id, from, &batches)?;
        self.bytes.extend_from_slice(&batches);
        Ok(())
    }

    /// The bytes, what lies where in them, and what was pushed.
    pub fn finish(
        mut self,
        id: SegmentId,
        identity: SegmentIdentity,
    ) -> (Bytes, Written, BTreeMap<TopicIdPartition, Tally>) {
        assert_eq!(self.bytes.len() as u64, self.layout.position, "every batch that was counted is there");
        let (header, footer) = self.layout.close(identity);
        self.bytes.extend_from_slice(&footer);
        self.bytes[..HEADER_LEN].copy_from_slice(&header.encode());
        let Layout { pieces, piece_bytes_max, .. } = self.layout;
        let join = |(id, pieces)| (id, joined(pieces, piece_bytes_max));
        let pieces = match piece_bytes_max > PIECE_BYTES {
            true => pieces.into_iter().map(join).collect(),
            false => pieces,
        };
        let written = Written { info: Arc::new(info_of(id, &header)), pieces };
        (self.bytes.freeze(), written, self.layout.tallies)
    }
}

/// Checks every byte of a segment that lies in memory, and says what it holds.
pub fn tallies_of(bytes: &Bytes) -> Result<BTreeMap<TopicIdPartition, Tally>, FormatError> {
    const WHAT: &str = "a segment";
    let (header, footer) = crate::container::open(bytes)?;
    let inconsistent = |detail: String| FormatError::Inconsistent { what: WHAT, detail };
    if header.kind != Kind::Segment || header.len() != bytes.len() as u64 {
        return Err(inconsistent(format!("{:?} of {} bytes in {}", header.kind, header.len(), bytes.len())));
    }
    let mut tallies: BTreeMap<TopicIdPartition, Tally> = BTreeMap::new();
    for extent in &footer.extents {
        let tally = tallies.entry(extent.id).or_default();
        let mut at = extent.position as usize;
        for entry in footer.entries_of(extent) {
            let batch = &bytes[at..at + entry.len as usize];
            at += entry.len as usize;
            tally.add(&BatchHeader::parse(batch).map_err(|error| inconsistent(error.to_string()))?);
        }
    }
    let sources = footer.section(SectionKind::Sources).ok_or_else(|| inconsistent("no sources".into()))?;
    let sources = Sources::decode(sources)?;
    match sources == Sources::new(sources.from.clone(), &tallies) {
        true => Ok(tallies),
        false => Err(inconsistent("its totals differ from its batches".into())),
    }
}

/// Was it made of other segments, and not of what came in?
pub fn is_merged(footer: &Footer) -> bool {
    let sources = footer.section(SectionKind::Sources).and_then(|section| Sources::decode(section).ok());
    sources.is_some_and(|sources| sources.from.iter().any(|from| matches!(from, SegmentSource::Segment(_))))
}

impl SegmentWriter {
    pub async fn create(disk: &dyn Disk, dir: &Path, id: SegmentId) -> Result<Self, SegmentError> {
        let path = dir.join(file_name(&id));
        // A name that is in use already would be two contents under one name.
        let file = disk.open(&path, OpenMode::CreateNew).await?;
        let mut staged = AlignedBuffer::with_capacity(STEP_BYTES);
        // The header comes last.
        staged.resize(HEADER_LEN);
        Ok(Self { id, path, file, layout: Layout::new(PIECE_BYTES), written: 0, synced: 0, staged })
    }

    pub fn payload_len(&self) -> u64 {
        self.layout.position - HEADER_LEN as u64
    }

    /// Takes a run of batches of one partition, whose bytes the log has checked. `from`: the first of the offsets that they stand for, which
    /// is before the first batch where compaction took something away.
    pub async fn push(
        &mut self,
        id: TopicIdPartition,
        from: i64,
        batches: Bytes,
    ) -> Result<(), SegmentError> {
        self.layout.push(id, from, &batches)?;
        self.staged.extend_from_slice(&batches);
        if self.staged.len() >= STEP_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes the whole pages of what is staged.
    async fn flush(&mut self) -> Result<(), SegmentError> {
        let mut rest = AlignedBuffer::with_capacity(STEP_BYTES);
        let whole = self.staged.len() - self.staged.len() % DIRECT_ALIGN;
        rest.extend_from_slice(&self.staged.as_slice()[whole..]);
        let pages = std::mem::replace(&mut self.staged, rest).freeze().slice(..whole);
        if whole > 0 {
            self.file.write_at(self.written, vec![pages]).await?;
            self.written += whole as u64;
        }
        if self.written - self.synced >= SYNC_EVERY_BYTES {
            self.file.sync().await?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Writes footer and header, syncs file and directory, reads everything back and compares.
    pub async fn finish(
        mut self,
        disk: &dyn Disk,
        identity: SegmentIdentity,
    ) -> Result<Written, SegmentError> {
        let staged_to = self.written + self.staged.len() as u64;
        assert_eq!(staged_to, self.layout.position, "every batch that was counted was written or is staged");
        let (header, footer) = self.layout.close(identity);
        self.staged.extend_from_slice(&footer);
        self.flush().await?;
        let rest = Bytes::copy_from_slice(self.staged.as_slice());
        self.file.write_at(self.written, vec![rest]).await?;
        self.file.write_at(0, vec![Bytes::copy_from_slice(&header.encode())]).await?;
        self.file.sync().await?;
        let info = info_of(self.id, &header);
        drop(self.file);
        disk.sync_dir(world::disk::parent(&self.path)).await?;
        let output = |detail: String| SegmentError::Output { path: self.path.clone(), detail };
        let read_back = verify(disk, &self.path, &info).await?;
        if read_back != self.layout.tallies {
            return Err(output("counts or checksums differ from the input's".into()));
        }
        Ok(Written { info: Arc::new(info), pieces: self.layout.pieces })
    }

    /// Gives up: the file is nobody's, and goes.
    pub async fn abandon(self, disk: &dyn Disk) -> Result<(), DiskError> {
        drop(self.file);
        disk.remove(&self.path).await
    }
}

/// Reads a whole segment, checks every byte of it, and returns what it holds.
pub async fn verify(
    disk: &dyn Disk,
    path: &Path,
    info: &SegmentInfo,
) -> Result<BTreeMap<TopicIdPartition, Tally>, SegmentError> {
    let output = |detail: String| SegmentError::Output { path: path.to_owned(), detail };
    let file = disk.open(path, OpenMode::Read).await?;
    let (header, footer) = read_footer(&*file).await.map_err(|error| match error {
        ReadFooterError::Storage(error) => error.into(),
        ReadFooterError::Format(error) => output(error.to_string()),
    })?;
    if header.hash() != info.header_hash || header.len() != info.len || file.len().await? != info.len {
        return Err(output("its header or length is another's".into()));
    }
    let mut tallies: BTreeMap<TopicIdPartition, Tally> = BTreeMap::new();
    for extent in &footer.extents {
        let tally = tallies.entry(extent.id).or_default();
        let mut entries = footer.entries_of(extent);
        let mut position = extent.position;
        while let Some(first) = entries.first() {
            let mut count = 1;
            let mut len = first.len as usize;
            while let Some(next) = entries.get(count).filter(|next| len + next.len as usize <= STEP_BYTES) {
                len += next.len as usize;
                count += 1;
            }
            let (group, rest) = entries.split_at(count);
            entries = rest;
            let bytes = file.read_many_from_medium(vec![(position, len)]).await?.remove(0);
            if bytes.len() != len {
                return Err(output("it is cut off".into()));
            }
            position += len as u64;
            let mut at = 0;
            for entry in group {
                let batch = &bytes[at..at + entry.len as usize];
                at += entry.len as usize;
                check_batch(batch, entry, extent.leader_epoch).map_err(|error| output(error.to_string()))?;
                tally.add(&BatchHeader::parse(batch).map_err(|error| output(error.to_string()))?);
            }
        }
    }
    let sources = footer.section(SectionKind::Sources).ok_or_else(|| output("it has no sources".into()))?;
    let sources = Sources::decode(sources).map_err(|error| output(error.to_string()))?;
    if sources != Sources::new(sources.from.clone(), &tallies) {
        return Err(output("its totals differ from its batches".into()));
    }
    Ok(tallies)
}

#[derive(Debug, thiserror::Error)]
pub enum ReadFooterError {
    #[error(transparent)]
    Storage(#[from] DiskError),
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Header and footer of a segment, without its payload.
pub async fn read_footer(file: &dyn File) -> Result<(ContainerHeader, Footer), ReadFooterError> {
    let header = ContainerHeader::decode(&file.read_at(0, HEADER_LEN).await?)?;
    if header.kind != Kind::Segment || header.footer_len > FOOTER_BYTES_MAX {
        let detail = format!("{:?} with a footer of {} bytes", header.kind, header.footer_len);
        return Err(FormatError::Inconsistent { what: "a segment's header", detail }.into());
    }
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < header.footer_len {
        let step = (header.footer_len - bytes.len() as u64).min(STEP_BYTES as u64) as usize;
        let read = file.read_at(header.footer_at() + bytes.len() as u64, step).await?;
        if read.is_empty() {
            break;
        }
        bytes.extend_from_slice(&read);
    }
    let footer = header.decode_footer(&bytes)?;
    Ok((header, footer))
}

/// The section [`SectionKind::Sources`]: inputs, and the totals of what came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    pub from: Vec<SegmentSource>,
    pub batches: u64,
    pub records: u64,
    /// The partitions' hashes, chained in order.
    pub hash: u64,
}

impl Sources {
    fn new(from: Vec<SegmentSource>, tallies: &BTreeMap<TopicIdPartition, Tally>) -> Self {
        let chain =
            |sum: u64, tally: &Tally| xxhash_rust::xxh3::xxh3_64_with_seed(&tally.hash.to_le_bytes(), sum);
        Self {
            from,
            batches: tallies.values().map(|tally| tally.batches).sum(),
            records: tallies.values().map(|tally| tally.records).sum(),
            hash: tallies.values().fold(0, chain),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u64(self.batches);
        out.u64(self.records);
        out.u64(self.hash);
        out.u32(self.from.len() as u32);
        for source in &self.from {
            match source {
                SegmentSource::WalFile(number) => {
                    out.u8(1);
                    out.u64(*number);
                    out.u64(0);
                }
                SegmentSource::Segment(id) => {
                    out.u8(2);
                    out.raw(id);
                }
                SegmentSource::Slots { wal_id, from, to } => {
                    out.u8(3);
                    out.u64(*wal_id);
                    out.u64(*from);
                    out.u64(*to);
                }
            }
        }
        out.into_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut input = Decoder::new(bytes, "a segment's sources");
        let (batches, records, hash) = (input.u64()?, input.u64()?, input.u64()?);
        let mut from = Vec::new();
        for _ in 0..input.count(17)? {
            from.push(match input.u8()? {
                1 => {
                    let number = input.u64()?;
                    input.u64()?;
                    SegmentSource::WalFile(number)
                }
                2 => SegmentSource::Segment(input.array()?),
                3 => SegmentSource::Slots { wal_id: input.u64()?, from: input.u64()?, to: input.u64()? },
                other => return Err(input.inconsistent(format!("source {other}"))),
            });
        }
        input.finish()?;
        Ok(Self { from, batches, records, hash })
    }
}

/// The section [`SectionKind::EpochStarts`]: per partition the epochs in this segment and where each begins here.
fn encode_epoch_starts(footer: &Footer) -> Vec<u8> {
    let mut out = Encoder::default();
    let mut starts: Vec<(TopicIdPartition, i32, u64)> = Vec::new();
    for extent in &footer.extents {
        match starts.last() {
            Some((id, epoch, _)) if *id == extent.id && *epoch == extent.leader_epoch => {}
            _ => starts.push((extent.id, extent.leader_epoch, extent.first_offset)),
        }
    }
    out.u32(starts.len() as u32);
    for (id, epoch, offset) in starts {
        out.raw(id.topic_id.as_bytes());
        out.i32(id.partition);
        out.i32(epoch);
        out.u64(offset);
    }
    out.into_vec()
}

pub fn decode_epoch_starts(bytes: &[u8]) -> Result<Vec<(TopicIdPartition, i32, u64)>, FormatError> {
    let mut input = Decoder::new(bytes, "a segment's epochs");
    let mut starts = Vec::new();
    for _ in 0..input.count(32)? {
        let id = TopicIdPartition { topic_id: Uuid(input.array()?), partition: input.i32()? };
        starts.push((id, input.i32()?, input.u64()?));
    }
    input.finish()?;
    Ok(starts)
}

/// The section [`SectionKind::Runs`].
fn encode_runs(runs: &[Run]) -> Vec<u8> {
    let mut out = Encoder::default();
    out.u32(runs.len() as u32);
    for run in runs {
        out.raw(run.id.topic_id.as_bytes());
        out.i32(run.id.partition);
        out.i64(run.first_offset);
        out.u64(run.position);
    }
    out.into_vec()
}

pub fn decode_runs(bytes: &[u8]) -> Result<Vec<Run>, FormatError> {
    let mut input = Decoder::new(bytes, "a segment's runs");
    let mut runs = Vec::new();
    for _ in 0..input.count(36)? {
        let id = TopicIdPartition { topic_id: Uuid(input.array()?), partition: input.i32()? };
        runs.push(Run { id, first_offset: input.i64()?, position: input.u64()? });
    }
    input.finish()?;
    Ok(runs)
}

const _: () = assert!(BATCH_HEADER_LEN == 61);

/// Takes arbitrary bytes for a segment and checks all of it: entry for fuzzing.
pub fn fuzz_segment(bytes: &[u8]) -> Result<Footer, FormatError> {
    let (header, footer) = crate::container::open(&Bytes::copy_from_slice(bytes))?;
    if header.kind != Kind::Segment {
        return Err(FormatError::Inconsistent {
            what: "a segment's header",
            detail: format!("{:?}", header.kind),
        });
    }
    if let Some(sources) = footer.section(SectionKind::Sources) {
        Sources::decode(sources)?;
    }
    if let Some(starts) = footer.section(SectionKind::EpochStarts) {
        decode_epoch_starts(starts)?;
    }
    pieces_of(&footer)?;
    Ok(footer)
}
