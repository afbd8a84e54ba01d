//! Checkpoints: the state of the partitions after one chunk, so that recovery reads only the WAL behind it.
//!
//! One file per generation, `checkpoint/<generation:020>.ckpt`: a *base* frame with everything, then *delta* frames
//! with only what changed since the frame before. A delta costs what the traffic since the last one costs, however
//! many partitions there are; when the deltas outgrow the base, a new generation with a new base is written. See
//! `docs/decisions/checkpoints.md`.
//!
//! A frame is an aid, not the truth: it holds only what committed chunks say, so a frame that did not survive costs
//! reading more WAL. That is why deltas are written without a sync. Only before a WAL file is given up, the frame
//! that no longer needs it is synced ([`CheckpointFile::sync`]), and before the log goes on more than `reach` behind the last
//! synced one: recovery must know how far a chunk may lie.
//!
//! A partition in a frame may already show chunks behind the frame's position, because it is captured while commits go
//! on. Replay skips what a partition has already seen, by offset.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use protocol::batch::crc32c;
use protocol::{TopicIdPartition, Uuid};
use world::disk::{Disk, DiskError, File, OpenMode};

use crate::encoding::{Decoder, Encoder, FormatError, Hash, hash};
use crate::producers::{ProducerState, RememberedBatch};
use crate::transactions::Transactions;
use crate::wal::Position;

const MAGIC: [u8; 8] = *b"OTTLACKP";
/// 2 has no transactions, and is what is written where there are none: an older release can go on from it.
const VERSION: u16 = 3;
const OLDEST_VERSION: u16 = 2;
const FRAME_HEADER_LEN: usize = 96;
const WHAT: &str = "a checkpoint frame";
/// A new base is written when the deltas are longer than the base and than this.
const DELTAS_BYTES_MIN: u64 = 4 << 20;
/// Written and read in steps of this size.
const STEP_BYTES: usize = 4 << 20;

/// What a frame says of a partition, and what recovery starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionCheckpoint {
    pub log_start: i64,
    /// Behind the last committed record.
    pub log_end: i64,
    pub epochs: Vec<(i32, i64)>,
    /// In a delta: those that came since the frame before.
    pub extents: VecDeque<WalExtent>,
    /// In a delta: those that changed since the frame before.
    pub producers: BTreeMap<i64, ProducerState>,
    /// In a delta: aborted ones only since the frame before.
    pub transactions: Transactions,
}

/// An extent in a WAL file, in numbers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalExtent {
    pub first_offset: i64,
    pub last_offset: i64,
    pub max_timestamp: i64,
    pub len: u32,
    pub leader_epoch: i32,
    pub file: u64,
    /// From the start of the file.
    pub position: u64,
    pub chunk: u64,
    pub position_in_chunk: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    pub at: Position,
    /// How long the file of `at` was made; 0 when there is no checkpoint yet.
    pub file_len: u64,
    /// The log was closed here: nothing was written behind it.
    pub closed: bool,
    /// No chunk begins farther than this behind a durable frame: so far recovery looks for chunks behind a damaged one.
    pub reach: u64,
    /// Bytes of WAL between the newest frame that was known to be durable and this one.
    pub since_durable: u64,
    pub partitions: BTreeMap<TopicIdPartition, PartitionCheckpoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameKind {
    Base = 1,
    Delta = 2,
}

struct FrameHeader {
    version: u16,
    kind: FrameKind,
    log_id: [u8; 16],
    generation: u64,
    sequence: u64,
    predecessor: Hash,
    body_len: u64,
    body_hash: Hash,
}

impl FrameHeader {
    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(FRAME_HEADER_LEN);
        out.raw(&MAGIC);
        out.u16(self.version);
        out.u16(self.kind as u16);
        out.raw(&self.log_id);
        out.u64(self.generation);
        out.u64(self.sequence);
        out.raw(&self.predecessor);
        out.u64(self.body_len);
        out.raw(&self.body_hash);
        out.raw(&[0; 8]);
        let crc = crc32c(out.as_slice());
        out.u32(crc);
        assert_eq!(out.len(), FRAME_HEADER_LEN, "the frame header's fields");
        out.into_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let bytes: &[u8; FRAME_HEADER_LEN] =
            bytes.first_chunk().ok_or(FormatError::Truncated { what: WHAT })?;
        let (fields, crc) = bytes.split_at(FRAME_HEADER_LEN - 4);
        if !fields.starts_with(&MAGIC) {
            return Err(FormatError::Magic { what: WHAT });
        }
        if crc32c(fields).to_le_bytes() != crc {
            return Err(FormatError::Checksum { what: WHAT });
        }
        let mut fields = Decoder::new(&fields[MAGIC.len()..], WHAT);
        let version = fields.u16()?;
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(FormatError::Version { what: WHAT, version });
        }
        let kind = match fields.u16()? {
            1 => FrameKind::Base,
            2 => FrameKind::Delta,
            other => return Err(fields.inconsistent(format!("kind {other}"))),
        };
        Ok(Self {
            version,
            kind,
            log_id: fields.array()?,
            generation: fields.u64()?,
            sequence: fields.u64()?,
            predecessor: fields.array()?,
            body_len: fields.u64()?,
            body_hash: fields.array()?,
        })
    }
}

impl Checkpoint {
    /// Does any partition have transactions? Else none are written.
    pub fn has_transactions(&self) -> bool {
        self.partitions.values().any(|partition| !partition.transactions.is_empty())
    }

    pub fn encode(&self) -> Vec<u8> {
        let transactions = self.has_transactions();
        let mut out = Encoder::with_capacity(64 + self.partitions.len() * 136);
        out.u64(self.at.file);
        out.u64(self.at.offset);
        out.u64(self.at.last_number);
        out.raw(&self.at.last_hash);
        out.u64(self.file_len);
        out.u8(u8::from(self.closed));
        out.u64(self.reach);
        out.u64(self.since_durable);
        out.u32(self.partitions.len() as u32);
        for (id, partition) in &self.partitions {
            out.raw(id.topic_id.as_bytes());
            out.i32(id.partition);
            partition.encode(&mut out, transactions);
        }
        out.into_vec()
    }

    /// `transactions`: does it say something of them? Old ones do not.
    pub fn decode(bytes: &[u8], transactions: bool) -> Result<Self, FormatError> {
        let mut input = Decoder::new(bytes, WHAT);
        let at = Position {
            file: input.u64()?,
            offset: input.u64()?,
            last_number: input.u64()?,
            last_hash: input.array()?,
        };
        let file_len = input.u64()?;
        let closed = input.u8()? != 0;
        let reach = input.u64()?;
        let since_durable = input.u64()?;
        let mut partitions = BTreeMap::new();
        for _ in 0..input.count(20 + 28)? {
            let id = TopicIdPartition { topic_id: Uuid(input.array()?), partition: input.i32()? };
            partitions.insert(id, PartitionCheckpoint::decode(&mut input, transactions)?);
        }
        input.finish()?;
        Ok(Self { at, file_len, closed, reach, since_durable, partitions })
    }

    /// Goes on from this frame with the next one.
    fn apply(&mut self, delta: Checkpoint) {
        self.at = delta.at;
        self.file_len = delta.file_len;
        self.closed = delta.closed;
        self.reach = self.reach.max(delta.reach);
        self.since_durable = delta.since_durable;
        for (id, changed) in delta.partitions {
            let partition = self.partitions.entry(id).or_default();
            partition.log_start = changed.log_start;
            partition.log_end = changed.log_end;
            partition.epochs = changed.epochs;
            for extent in changed.extents {
                if partition.extents.back().is_none_or(|last| last.last_offset < extent.first_offset) {
                    partition.extents.push_back(extent);
                }
            }
            partition.producers.extend(changed.producers);
            partition.transactions.apply(changed.transactions);
        }
    }
}

impl PartitionCheckpoint {
    fn encode(&self, out: &mut Encoder, transactions: bool) {
        out.i64(self.log_start);
        out.i64(self.log_end);
        out.u32(self.epochs.len() as u32);
        for (epoch, start) in &self.epochs {
            out.i32(*epoch);
            out.i64(*start);
        }
        out.u32(self.extents.len() as u32);
        for extent in &self.extents {
            out.i64(extent.first_offset);
            out.i64(extent.last_offset);
            out.i64(extent.max_timestamp);
            out.u32(extent.len);
            out.i32(extent.leader_epoch);
            out.u64(extent.file);
            out.u64(extent.position);
            out.u64(extent.chunk);
            out.u32(extent.position_in_chunk);
        }
        out.u32(self.producers.len() as u32);
        for (id, producer) in &self.producers {
            out.i64(*id);
            producer.encode(out);
        }
        if transactions {
            self.transactions.encode(out);
        }
    }

    fn decode(input: &mut Decoder<'_>, transactions: bool) -> Result<Self, FormatError> {
        let mut partition = Self { log_start: input.i64()?, log_end: input.i64()?, ..Self::default() };
        for _ in 0..input.count(12)? {
            partition.epochs.push((input.i32()?, input.i64()?));
        }
        for _ in 0..input.count(60)? {
            partition.extents.push_back(WalExtent {
                first_offset: input.i64()?,
                last_offset: input.i64()?,
                max_timestamp: input.i64()?,
                len: input.u32()?,
                leader_epoch: input.i32()?,
                file: input.u64()?,
                position: input.u64()?,
                chunk: input.u64()?,
                position_in_chunk: input.u32()?,
            });
        }
        for _ in 0..input.count(8 + ProducerState::LEN_MIN)? {
            let id = input.i64()?;
            partition.producers.insert(id, ProducerState::decode(input)?);
        }
        if transactions {
            partition.transactions = Transactions::decode(input)?;
        }
        Ok(partition)
    }
}

impl ProducerState {
    /// Without batches.
    pub const LEN_MIN: usize = 23;

    /// As of the last commit: what is in flight is not in it.
    pub fn encode(&self, out: &mut Encoder) {
        out.i16(self.epoch);
        out.i32(self.coordinator_epoch);
        out.i64(self.last_timestamp);
        out.i64(self.last_append_ms);
        out.u8(self.batches.len() as u8);
        for batch in &self.batches {
            out.i32(batch.first_sequence);
            out.i32(batch.last_sequence);
            out.i64(batch.base_offset);
            out.i64(batch.last_offset);
            out.i64(batch.timestamp);
        }
    }

    pub fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let mut state = ProducerState {
            epoch: input.i16()?,
            coordinator_epoch: input.i32()?,
            last_timestamp: input.i64()?,
            last_append_ms: input.i64()?,
            ..ProducerState::default()
        };
        for _ in 0..input.u8()? {
            state.batches.push_back(RememberedBatch {
                first_sequence: input.i32()?,
                last_sequence: input.i32()?,
                base_offset: input.i64()?,
                last_offset: input.i64()?,
                timestamp: input.i64()?,
            });
        }
        Ok(state)
    }
}

/// The newest generation's file, open for more frames.
pub struct CheckpointFile {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    log_id: [u8; 16],
    skip_dir_sync: bool,
    generation: u64,
    file: Option<Arc<dyn File>>,
    sequence: u64,
    last_hash: Hash,
    end: u64,
    base_bytes: u64,
    synced: bool,
}

fn file_name(generation: u64) -> String {
    format!("{generation:020}.ckpt")
}

fn generation_of(name: &str) -> Option<u64> {
    name.strip_suffix(".ckpt").filter(|digits| digits.len() == 20)?.parse().ok()
}

impl CheckpointFile {
    /// Finds the newest readable checkpoint. None is no error here: a log that still has its first chunk recovers
    /// without, and one that has not says what is missing.
    pub async fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        log_id: [u8; 16],
        skip_dir_sync: bool,
    ) -> Result<(Self, Option<Checkpoint>), DiskError> {
        disk.create_dir_all(&dir).await?;
        let mut generations = Vec::new();
        for entry in disk.list(&dir).await? {
            match generation_of(&entry.name) {
                Some(generation) => generations.push(generation),
                None if entry.name.ends_with(".tmp") => disk.remove(&dir.join(&entry.name)).await?,
                None => {}
            }
        }
        let newest = generations.last().copied().unwrap_or(0);
        let mut this = Self {
            disk,
            dir,
            log_id,
            skip_dir_sync,
            generation: newest,
            file: None,
            sequence: 0,
            last_hash: Hash::default(),
            end: 0,
            base_bytes: 0,
            synced: false,
        };
        let mut found = None;
        for generation in generations.into_iter().rev() {
            found = this.load(generation).await?;
            if found.is_some() {
                break;
            }
        }
        Ok((this, found))
    }

    async fn load(&mut self, generation: u64) -> Result<Option<Checkpoint>, DiskError> {
        let path = self.dir.join(file_name(generation));
        let file = self.disk.open(&path, OpenMode::ReadWrite).await?;
        let len = file.len().await?;
        let mut checkpoint: Option<Checkpoint> = None;
        let (mut at, mut sequence, mut last_hash) = (0u64, 0u64, Hash::default());
        let mut base_bytes = 0;
        // A frame that does not fit its place is the end: a delta that did not survive a power cut, or damage. Either
        // way the WAL goes on from the frame before, or is found to be too short for that.
        while at + FRAME_HEADER_LEN as u64 <= len {
            let header_bytes = file.read_at(at, FRAME_HEADER_LEN).await?;
            let Ok(header) = FrameHeader::decode(&header_bytes) else { break };
            let belongs = header.log_id == self.log_id
                && header.generation == generation
                && header.sequence == sequence
                && header.predecessor == last_hash
                && (header.kind == FrameKind::Base) == (sequence == 0);
            let body_at = at + FRAME_HEADER_LEN as u64;
            if !belongs || header.body_len > len - body_at {
                break;
            }
            let body = read_all(&*file, body_at, header.body_len).await?;
            if hash(&body) != header.body_hash {
                break;
            }
            let Ok(frame) = Checkpoint::decode(&body, header.version >= VERSION) else { break };
            match &mut checkpoint {
                None => checkpoint = Some(frame),
                Some(checkpoint) => checkpoint.apply(frame),
            }
            at = body_at + header.body_len;
            if sequence == 0 {
                base_bytes = at;
            }
            sequence += 1;
            last_hash = hash(&header_bytes);
        }
        if checkpoint.is_some() {
            // What follows is nobody's: frames written from here must not be joined by it.
            if at < len {
                file.set_len(at).await?;
            }
            self.file = Some(file);
            self.generation = self.generation.max(generation);
            self.sequence = sequence;
            self.last_hash = last_hash;
            self.end = at;
            self.base_bytes = base_bytes;
            self.synced = false;
            if self.generation != generation {
                // An older generation than one that is damaged: never append to it under the newer number.
                self.file = None;
            }
        }
        Ok(checkpoint)
    }

    /// Does the next frame have to be a base?
    pub fn wants_base(&self) -> bool {
        self.file.is_none() || self.end - self.base_bytes > self.base_bytes.max(DELTAS_BYTES_MIN)
    }

    fn frame(
        &self,
        kind: FrameKind,
        generation: u64,
        sequence: u64,
        predecessor: Hash,
        frame: &Checkpoint,
    ) -> (Bytes, Hash, Bytes) {
        let body = frame.encode();
        let header = FrameHeader {
            version: if frame.has_transactions() { VERSION } else { OLDEST_VERSION },
            kind,
            log_id: self.log_id,
            generation,
            sequence,
            predecessor,
            body_len: body.len() as u64,
            body_hash: hash(&body),
        };
        let header = header.encode();
        let header_hash = hash(&header);
        (header.into(), header_hash, body.into())
    }

    /// Appends what changed. Not synced: see the top of this file.
    pub async fn write_delta(&mut self, delta: &Checkpoint) -> Result<(), DiskError> {
        let file = self.file.clone().expect("wants_base() said that there is a base");
        let (header, header_hash, body) =
            self.frame(FrameKind::Delta, self.generation, self.sequence, self.last_hash, delta);
        let len = (header.len() + body.len()) as u64;
        file.write_at(self.end, vec![header, body]).await?;
        self.sequence += 1;
        self.last_hash = header_hash;
        self.end += len;
        self.synced = false;
        Ok(())
    }

    /// Writes everything as a new generation, durably, and removes the older ones.
    pub async fn write_base(&mut self, base: &Checkpoint) -> Result<(), DiskError> {
        let generation = self.generation + 1;
        let (header, header_hash, body) = self.frame(FrameKind::Base, generation, 0, Hash::default(), base);
        let len = (header.len() + body.len()) as u64;
        let path = self.dir.join(file_name(generation));
        let temporary = self.dir.join(format!("{}.tmp", file_name(generation)));
        let file = self.disk.open(&temporary, OpenMode::Create).await?;
        file.set_len(0).await?;
        file.write_at(0, vec![header]).await?;
        let mut at = FRAME_HEADER_LEN as u64;
        for step in 0..body.len().div_ceil(STEP_BYTES) {
            let piece = body.slice(step * STEP_BYTES..body.len().min((step + 1) * STEP_BYTES));
            let piece_len = piece.len() as u64;
            file.write_at(at, vec![piece]).await?;
            at += piece_len;
        }
        file.sync().await?;
        drop(file);
        self.disk.rename(&temporary, &path).await?;
        if !self.skip_dir_sync {
            self.disk.sync_dir(&self.dir).await?;
        }
        self.file = Some(self.disk.open(&path, OpenMode::ReadWrite).await?);
        self.generation = generation;
        self.sequence = 1;
        self.last_hash = header_hash;
        self.end = len;
        self.base_bytes = len;
        self.synced = true;
        for entry in self.disk.list(&self.dir).await? {
            if generation_of(&entry.name).is_some_and(|older| older < generation) {
                self.disk.remove(&self.dir.join(&entry.name)).await?;
            }
        }
        Ok(())
    }

    /// Makes the frames so far durable.
    pub async fn sync(&mut self) -> Result<(), DiskError> {
        if let Some(file) = &self.file
            && !self.synced
        {
            file.sync().await?;
            self.synced = true;
        }
        Ok(())
    }
}

async fn read_all(file: &dyn File, at: u64, len: u64) -> Result<Vec<u8>, DiskError> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < len {
        let step = (len - bytes.len() as u64).min(STEP_BYTES as u64) as usize;
        let piece = file.read_at(at + bytes.len() as u64, step).await?;
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_version_2_is_read_without_transactions() {
        let id = TopicIdPartition { topic_id: Uuid([1; 16]), partition: 4 };
        let producers = BTreeMap::from([(9, ProducerState { epoch: 1, ..ProducerState::default() })]);
        let state = PartitionCheckpoint { log_start: 3, log_end: 7, producers, ..Default::default() };
        let checkpoint = Checkpoint { partitions: BTreeMap::from([(id, state)]), ..Checkpoint::default() };
        let old = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&old, false).unwrap(), checkpoint);
        assert!(!checkpoint.has_transactions() && Checkpoint::decode(&old, true).is_err());
        // One of many is enough to have them written.
        let mut new = checkpoint.clone();
        let aborted = [1i64, 2, 4, 5].map(i64::to_le_bytes).concat();
        let bytes = [&0u32.to_le_bytes()[..], &1u32.to_le_bytes(), &aborted].concat();
        let mut input = Decoder::new(&bytes, WHAT);
        let other = PartitionCheckpoint {
            transactions: Transactions::decode(&mut input).unwrap(),
            ..PartitionCheckpoint::default()
        };
        new.partitions.insert(TopicIdPartition { partition: 5, ..id }, other);
        let bytes = new.encode();
        assert!(new.has_transactions());
        assert_eq!(Checkpoint::decode(&bytes, true).unwrap(), new);
        assert!(Checkpoint::decode(&bytes, false).is_err());
    }
}
