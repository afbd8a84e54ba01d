//! Recovery: from the checkpoint through the WAL to its end.
//!
//! A chunk counts with this log's id, the next number, its predecessor's hash, and every checksum right. Where none counts, the log
//! ends, or it is damaged: any later chunk of this log proves that the missing one was durable, because only one is in flight at a
//! time. Then the start stops and nothing is cut. Without such a proof it is a torn tail, never acknowledged, and is written over.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use protocol::TopicIdPartition;
use protocol::batch::BatchHeader;
use world::disk::{Disk, DiskError, File};

use crate::checkpoint::Checkpoint;
use crate::container::{self, Footer, HEADER_LEN, Header, Kind, Note};
use crate::error::OpenError;
use crate::extent::{Extent, Place};
use crate::log::open_files;
use crate::partition::Partition;
use crate::producers::{RememberedBatch, Sequenced, next_sequence};
use crate::wal::{ALIGN, Files, Position, align, file_name, prepare};

/// One read of the scan for later chunks.
const SCAN_BYTES: usize = 4 << 20;

pub struct Recovered {
    pub log_id: [u8; 16],
    pub files: Files,
    pub at: Position,
    pub chunk_len_max: u64,
}

/// A chunk that counts.
struct Found {
    header: Header,
    footer: Footer,
    hash: u128,
}

pub async fn recover(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    checkpoint: Checkpoint,
    partition: impl Fn(TopicIdPartition) -> Option<Arc<Partition>>,
) -> Result<Recovered, OpenError> {
    let mut files = open_files(disk, dir).await?;
    let mut at = checkpoint.at;
    if !files.contains_key(&at.file) {
        if at.file != 0 || at.offset != 0 {
            let detail = "missing, though recovery starts in it".into();
            return Err(OpenError::Damaged {
                path: dir.join(file_name(at.file)),
                position: at.offset,
                number: at.last_number,
                detail,
            });
        }
        let file = prepare(disk, &dir.join(file_name(0)), checkpoint.file_len, false).await?;
        disk.sync_dir(dir).await?;
        files.insert(0, file);
    }
    for (id, state) in checkpoint.partitions {
        // A topic that the catalog has no more: its data is dead.
        let Some(partition) = partition(id) else { continue };
        let mut inner = partition.inner.lock();
        inner.log_start = state.log_start;
        inner.epochs = state.epochs;
        inner.high_watermark = state.extents.front().map_or(state.log_end, |first| first.base_offset);
        state.extents.into_iter().for_each(|extent| inner.add_extent(extent));
        assert_eq!(inner.high_watermark, state.log_end, "{id}: the checkpoint's extents end at its log end");
        inner.log_end = state.log_end;
        state.producers.into_iter().for_each(|(producer, state)| inner.producers.insert(producer, state));
    }
    let mut chunk_len_max = checkpoint.chunk_len_max;
    let mut replayed = false;
    loop {
        let file = files[&at.file].clone();
        let found = match read_chunk(&*file, at, &checkpoint.log_id).await? {
            Some(found) => Some((at, found)),
            None => match files.get(&(at.file + 1)) {
                Some(next) => {
                    let start = Position { file: at.file + 1, offset: 0, ..at };
                    read_chunk(&**next, start, &checkpoint.log_id).await?.map(|found| (start, found))
                }
                None => None,
            },
        };
        let Some((place, found)) = found else { break };
        apply(&found, place, &partition)
            .map_err(|detail| OpenError::Format { path: dir.join(file_name(place.file)), detail })?;
        chunk_len_max = chunk_len_max.max(found.header.total_len());
        at = Position {
            file: place.file,
            offset: place.offset + align(found.header.total_len()),
            last_number: found.header.number,
            last_hash: found.hash,
        };
        replayed = true;
    }
    if let Some((path, position)) = later_chunk(&files, at, chunk_len_max, &checkpoint.log_id).await? {
        let detail = format!(
            "chunk {} cannot be read, yet a later one stands at byte {position} of {}",
            at.last_number + 1,
            path.display()
        );
        let path = dir.join(file_name(at.file));
        return Err(OpenError::Damaged { path, position: at.offset, number: at.last_number + 1, detail });
    }
    if replayed {
        // A killed process may have left chunks that only the page cache has.
        files[&at.file].sync().await?;
        disk.sync_dir(dir).await?;
    }
    // A file beyond the end was prepared and never used.
    let unused: Vec<u64> = files.keys().filter(|number| **number > at.file).copied().collect();
    for number in unused {
        files.remove(&number);
        disk.remove(&dir.join(file_name(number))).await?;
    }
    Ok(Recovered { log_id: checkpoint.log_id, files, at, chunk_len_max })
}

/// The chunk after `at.last_number`, if it stands at this place with every checksum right.
async fn read_chunk(file: &dyn File, at: Position, log_id: &[u8; 16]) -> Result<Option<Found>, DiskError> {
    let header_bytes = file.read_at(at.offset, HEADER_LEN).await?;
    let Ok(header) = container::decode_header(&header_bytes) else { return Ok(None) };
    let expected = header.kind == Kind::WalChunk
        && header.log_id == *log_id
        && header.number == at.last_number + 1
        && header.predecessor == at.last_hash
        && header.body_len <= u64::from(u32::MAX);
    if !expected {
        return Ok(None);
    }
    let total = header.total_len();
    if file.len().await?.saturating_sub(at.offset) < total {
        return Ok(None);
    }
    let bytes = file.read_at(at.offset, total as usize).await?;
    if (bytes.len() as u64) < total {
        return Ok(None);
    }
    let footer_bytes = &bytes[HEADER_LEN + header.body_len as usize..];
    let Ok(footer) = container::decode_footer(&header, footer_bytes) else { return Ok(None) };
    if !payload_is_good(&bytes, &footer) {
        return Ok(None);
    }
    let hash = container::hash(&header_bytes, footer_bytes);
    Ok(Some(Found { header, footer, hash }))
}

fn payload_is_good(bytes: &Bytes, footer: &Footer) -> bool {
    footer.partitions.iter().flat_map(|partition| &partition.batches).all(|entry| {
        let batch = &bytes[entry.position as usize..entry.position as usize + entry.len as usize];
        BatchHeader::parse(batch).is_ok_and(|header| {
            header.total_len() == batch.len()
                && header.base_offset as u64 == entry.base_offset
                && header.last_offset() as u64 == entry.last_offset
                && header.partition_leader_epoch == entry.leader_epoch
                && header.crc == entry.crc
                && header.verify_crc(batch).is_ok()
        })
    })
}

/// Takes a chunk into the state of its partitions.
fn apply(
    found: &Found,
    place: Position,
    partition: &impl Fn(TopicIdPartition) -> Option<Arc<Partition>>,
) -> Result<(), String> {
    for entry in &found.footer.partitions {
        let Some(partition) = partition(entry.partition) else { continue };
        let mut inner = partition.inner.lock();
        let base_offset = entry.first_offset() as i64;
        if base_offset != inner.high_watermark {
            let (id, end) = (entry.partition, inner.high_watermark);
            return Err(format!(
                "chunk {} brings offset {base_offset} of {id}, whose log ends at {end}",
                found.header.number
            ));
        }
        let first = entry.batches[0].position;
        for batch in &entry.batches {
            inner.start_epoch(batch.leader_epoch, batch.base_offset as i64);
            if batch.producer_id < 0 || batch.flags.0 & container::BatchFlags::CONTROL != 0 {
                continue;
            }
            let mut last_sequence = batch.base_sequence;
            let span = (batch.last_offset - batch.base_offset) as i64;
            last_sequence = match i64::from(last_sequence) + span {
                sum if sum > i64::from(i32::MAX) => (sum - i64::from(i32::MAX) - 1) as i32,
                sum => sum as i32,
            };
            debug_assert!(span > 0 || next_sequence(last_sequence) == next_sequence(batch.base_sequence));
            let sequenced = Sequenced {
                producer_id: batch.producer_id,
                epoch: batch.producer_epoch,
                first_sequence: batch.base_sequence,
                last_sequence,
            };
            let remembered = RememberedBatch {
                first_sequence: batch.base_sequence,
                last_sequence,
                base_offset: batch.base_offset as i64,
                last_offset: batch.last_offset as i64,
                in_flight: None,
            };
            inner.producers.remember(sequenced, remembered, batch.max_timestamp);
        }
        inner.add_extent(Extent {
            base_offset,
            last_offset: entry.last_offset() as i64,
            max_timestamp: entry.batches.iter().map(|batch| batch.max_timestamp).max().unwrap_or(-1),
            place: Place { file: place.file, position: place.offset + first },
            len: entry.batches.iter().map(|batch| batch.len).sum(),
            chunk: found.header.number,
            position_in_chunk: first as u32,
        });
    }
    for note in &found.footer.notes {
        match note {
            Note::LogStart { partition: id, offset } => {
                if let Some(partition) = partition(*id) {
                    let mut inner = partition.inner.lock();
                    inner.log_start = inner.log_start.max(*offset as i64);
                }
            }
        }
    }
    Ok(())
}

/// Looks for a chunk of this log with a number above the missing one: behind the end in this file, as far as the longest chunk
/// could push it, and at the start of the next.
async fn later_chunk(
    files: &Files,
    at: Position,
    chunk_len_max: u64,
    log_id: &[u8; 16],
) -> Result<Option<(std::path::PathBuf, u64)>, DiskError> {
    let later = |bytes: &[u8]| {
        container::decode_header(bytes)
            .is_ok_and(|header| header.log_id == *log_id && header.number > at.last_number + 1)
    };
    if let Some(next) = files.get(&(at.file + 1)) {
        let start = next.read_at(0, HEADER_LEN).await?;
        if later(&start) {
            return Ok(Some((next.path().to_owned(), 0)));
        }
    }
    let file = &files[&at.file];
    let end = file.len().await?.min(at.offset + align(chunk_len_max) + ALIGN);
    let mut from = at.offset + ALIGN;
    while from < end {
        let bytes = file.read_at(from, SCAN_BYTES.min((end - from) as usize)).await?;
        for position in (0..bytes.len()).step_by(ALIGN as usize) {
            if bytes[position..].starts_with(b"OTLC") && later(&bytes[position..]) {
                return Ok(Some((file.path().to_owned(), from + position as u64)));
            }
        }
        from += SCAN_BYTES as u64;
    }
    Ok(None)
}
