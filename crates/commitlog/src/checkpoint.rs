//! The checkpoint: the state of all partitions after one chunk, so that recovery reads only the WAL behind it.
//!
//! One file, `checkpoint`, replaced as a whole. It is an aid and not the truth: what it says is rebuilt from the WAL by going on
//! from it. Its bytes are listed in `docs/data-layout.md`.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes};
use protocol::{TopicIdPartition, Uuid};

use crate::extent::{Extent, Place};
use crate::producers::{ProducerState, RememberedBatch};
use crate::wal::Position;

const MAGIC: [u8; 8] = *b"OTLCKPT1";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub log_id: [u8; 16],
    pub at: Position,
    pub file_len: u64,
    pub chunk_len_max: u64,
    pub partitions: BTreeMap<TopicIdPartition, PartitionCheckpoint>,
}

#[derive(Clone, Debug, Default)]
pub struct PartitionCheckpoint {
    pub log_start: i64,
    pub log_end: i64,
    pub epochs: Vec<(i32, i64)>,
    pub extents: VecDeque<Extent>,
    pub producers: Vec<(i64, ProducerState)>,
}

impl PartialEq for PartitionCheckpoint {
    fn eq(&self, other: &Self) -> bool {
        self.log_start == other.log_start && self.log_end == other.log_end && self.extents == other.extents
    }
}

impl Eq for PartitionCheckpoint {}

impl Checkpoint {
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.put_slice(&MAGIC);
        out.put_slice(&self.log_id);
        out.put_u64_le(self.at.file);
        out.put_u64_le(self.at.offset);
        out.put_u64_le(self.at.last_number);
        out.put_u128_le(self.at.last_hash);
        out.put_u64_le(self.file_len);
        out.put_u64_le(self.chunk_len_max);
        out.put_u32_le(self.partitions.len() as u32);
        for (id, partition) in &self.partitions {
            out.put_slice(&id.topic_id.0);
            out.put_i32_le(id.partition);
            out.put_i64_le(partition.log_start);
            out.put_i64_le(partition.log_end);
            out.put_u32_le(partition.epochs.len() as u32);
            for (epoch, start) in &partition.epochs {
                out.put_i32_le(*epoch);
                out.put_i64_le(*start);
            }
            out.put_u32_le(partition.extents.len() as u32);
            for extent in &partition.extents {
                out.put_i64_le(extent.base_offset);
                out.put_i64_le(extent.last_offset);
                out.put_i64_le(extent.max_timestamp);
                out.put_u64_le(extent.place.file);
                out.put_u64_le(extent.place.position);
                out.put_u32_le(extent.len);
                out.put_u64_le(extent.chunk);
                out.put_u32_le(extent.position_in_chunk);
            }
            out.put_u32_le(partition.producers.len() as u32);
            for (producer, state) in &partition.producers {
                out.put_i64_le(*producer);
                out.put_i16_le(state.epoch);
                out.put_i64_le(state.last_timestamp);
                out.put_i32_le(state.coordinator_epoch);
                out.put_u8(state.batches.len() as u8);
                for batch in &state.batches {
                    out.put_i32_le(batch.first_sequence);
                    out.put_i32_le(batch.last_sequence);
                    out.put_i64_le(batch.base_offset);
                    out.put_i64_le(batch.last_offset);
                }
            }
        }
        let crc = protocol::batch::crc32c(&out);
        out.put_u32_le(crc);
        out.into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Checkpoint, &'static str> {
        let body = bytes.len().checked_sub(4).ok_or("cut short")?;
        let (body, crc) = bytes.split_at(body);
        if protocol::batch::crc32c(body).to_le_bytes() != *crc {
            return Err("checksum");
        }
        let mut take = Take(body);
        if take.array::<8>()? != MAGIC {
            return Err("not a checkpoint of this version");
        }
        let log_id = take.array()?;
        let at = Position {
            file: take.u64()?,
            offset: take.u64()?,
            last_number: take.u64()?,
            last_hash: u128::from_le_bytes(take.array()?),
        };
        let (file_len, chunk_len_max) = (take.u64()?, take.u64()?);
        let mut partitions = BTreeMap::new();
        for _ in 0..take.count(48)? {
            let id = TopicIdPartition { topic_id: Uuid(take.array()?), partition: take.i32()? };
            let mut partition =
                PartitionCheckpoint { log_start: take.i64()?, log_end: take.i64()?, ..Default::default() };
            for _ in 0..take.count(12)? {
                partition.epochs.push((take.i32()?, take.i64()?));
            }
            for _ in 0..take.count(56)? {
                partition.extents.push_back(Extent {
                    base_offset: take.i64()?,
                    last_offset: take.i64()?,
                    max_timestamp: take.i64()?,
                    place: Place { file: take.u64()?, position: take.u64()? },
                    len: take.i32()? as u32,
                    chunk: take.u64()?,
                    position_in_chunk: take.i32()? as u32,
                });
            }
            for _ in 0..take.count(23)? {
                let producer = take.i64()?;
                let mut state = ProducerState {
                    epoch: i16::from_le_bytes(take.array()?),
                    batches: VecDeque::new(),
                    last_timestamp: take.i64()?,
                    coordinator_epoch: take.i32()?,
                };
                for _ in 0..take.array::<1>()?[0] {
                    state.batches.push_back(RememberedBatch {
                        first_sequence: take.i32()?,
                        last_sequence: take.i32()?,
                        base_offset: take.i64()?,
                        last_offset: take.i64()?,
                        in_flight: None,
                    });
                }
                partition.producers.push((producer, state));
            }
            partitions.insert(id, partition);
        }
        if !take.0.is_empty() {
            Err("longer than it says")
        } else {
            Ok(Checkpoint { log_id, at, file_len, chunk_len_max, partitions })
        }
    }
}

struct Take<'a>(&'a [u8]);

impl Take<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, rest) = self.0.split_at_checked(N).ok_or("cut short")?;
        self.0 = rest;
        head.try_into().map_err(|_| "cut short")
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, &'static str> {
        self.array().map(i64::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32, &'static str> {
        self.array().map(i32::from_le_bytes)
    }

    fn count(&mut self, element_len: usize) -> Result<usize, &'static str> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        if count > self.0.len() / element_len { Err("a count beyond the bytes") } else { Ok(count) }
    }
}
