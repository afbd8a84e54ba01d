//! Recovery: from the checkpoint along the chain of chunks to its end.
//!
//! ```text
//!  checkpoint ─▶ chunk 7 ─▶ chunk 8 ─▶ chunk 9 ─▶ ?          every chunk says: "all up to n − 1 are durable"
//! ```
//!
//! A chunk counts with this log's id, the next number and its predecessor's hash. The walk reads headers and footers,
//! and payload where it comes along with them for nothing; payload that is not known to be durable is always checked.
//! Where no chunk counts, the log ends there or is damaged: if any chunk of this log says that the missing one was
//! durable, the start stops and nothing is cut or changed. Without such a proof it is a torn tail: never acknowledged,
//! and written over.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use world::disk::{DiskError, File};

use crate::container::{ContainerHeader, Footer, HEADER_LEN, Kind, MAGIC, PAGE};
use crate::error::OpenError;
use crate::wal::{Files, Position, file_name};

/// One read of the walk: many small chunks, or the header of a large one.
const WINDOW_BYTES: usize = 1 << 20;
/// One read of the search for later chunks.
const SEARCH_BYTES: usize = 4 << 20;

/// A chunk that counts, and where it stands.
pub struct Found {
    pub header: ContainerHeader,
    pub footer: Footer,
    /// `last_number` and `last_hash` are its predecessor's.
    pub place: Position,
    payload: Payload,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Payload {
    NotRead,
    Good,
    Bad,
}

pub struct Walked {
    /// Behind the last chunk that counts.
    pub at: Position,
    /// Chunks at the end that count although nothing says that they were durable. They are read back from what may
    /// only be the page cache, so they have to be written again before anybody builds on them.
    pub unsettled: Vec<Position>,
    pub chunk_count: u64,
    /// Of the chunks that count.
    pub bytes: u64,
}

/// Walks the chain from `start`, and hands every chunk that counts to `take`, in order. No chunk begins more than
/// `reach` bytes behind `start`.
pub async fn walk(
    files: &Files,
    dir: &Path,
    start: Position,
    start_file_len: u64,
    log_id: &[u8; 16],
    reach: u64,
    mut take: impl FnMut(&Found) -> Result<(), OpenError>,
) -> Result<Walked, OpenError> {
    check_start(files, dir, &start, start_file_len)?;
    let mut at = start;
    let mut durable = start.last_number;
    let (mut chunk_count, mut bytes) = (0, 0);
    let mut windows = Windows::default();
    // Chunks that nobody said to be durable yet.
    let mut held: VecDeque<Found> = VecDeque::new();
    loop {
        let mut found = read_chunk(&mut windows, files, at, log_id).await?;
        if found.is_none() {
            let next = Position { file: at.file + 1, offset: 0, ..at };
            found = read_chunk(&mut windows, files, next, log_id).await?;
        }
        let Some(found) = found else { break };
        check_len(files, dir, &found.place, found.header.file_len)?;
        durable = durable.max(found.header.durable);
        at = Position {
            file: found.place.file,
            offset: found.place.offset + found.header.padded_len(),
            last_number: found.header.number,
            last_hash: found.header.hash(),
        };
        held.push_back(found);
        while held.front().is_some_and(|first| first.header.number <= durable) {
            let chunk = held.pop_front().expect("there is a first");
            if chunk.payload == Payload::Bad {
                let detail = "a record batch in it does not match its checksum".into();
                return Err(damaged(dir, &chunk.place, chunk.header.number, detail));
            }
            take(&chunk)?;
            chunk_count += 1;
            bytes += chunk.header.padded_len();
        }
    }
    if let Some(proof) = proof_of(files, &at, reach, log_id).await? {
        let number = at.last_number + 1;
        let detail = format!(
            "it cannot be read, yet byte {} of {} says that it was durable",
            proof.1,
            proof.0.display()
        );
        return Err(damaged(dir, &at, number, detail));
    }
    let mut unsettled = Vec::new();
    while let Some(chunk) = held.pop_front() {
        if !payload_is_good(files, &chunk).await? {
            // Torn: this one and all behind it were never known to be durable.
            at = chunk.place;
            break;
        }
        take(&chunk)?;
        chunk_count += 1;
        bytes += chunk.header.padded_len();
        unsettled.push(chunk.place);
    }
    Ok(Walked { at, unsettled, chunk_count, bytes })
}

pub fn damaged(dir: &Path, place: &Position, number: u64, detail: String) -> OpenError {
    OpenError::Damaged { path: dir.join(file_name(place.file)), position: place.offset, number, detail }
}

/// The walk's start lies in a file that is as long as it was made.
fn check_start(files: &Files, dir: &Path, start: &Position, made_len: u64) -> Result<(), OpenError> {
    match files.get(&start.file) {
        None => Err(damaged(
            dir,
            start,
            start.last_number,
            "the file is missing, and the log goes on in it".into(),
        )),
        Some(_) if made_len == 0 => Ok(()),
        Some(_) => check_len(files, dir, start, made_len),
    }
}

fn check_len(files: &Files, dir: &Path, place: &Position, made_len: u64) -> Result<(), OpenError> {
    let len = files[&place.file].len;
    if len == made_len && place.offset <= len {
        return Ok(());
    }
    let detail = format!("the file is {len} bytes long and was made {made_len} bytes long: its end was lost");
    Err(damaged(dir, place, place.last_number, detail))
}

/// The chunk after `at.last_number`, if it stands at this place.
async fn read_chunk(
    windows: &mut Windows,
    files: &Files,
    at: Position,
    log_id: &[u8; 16],
) -> Result<Option<Found>, DiskError> {
    let Some(file) = files.get(&at.file) else { return Ok(None) };
    let room = file.len.saturating_sub(at.offset);
    if room < HEADER_LEN as u64 {
        return Ok(None);
    }
    let header_bytes = windows.get(&file.file, at.file, at.offset, HEADER_LEN).await?;
    let Ok(header) = ContainerHeader::decode(&header_bytes) else { return Ok(None) };
    let expected = header.kind == Kind::Chunk
        && header.log_id == *log_id
        && header.number == at.last_number + 1
        && header.predecessor == at.last_hash
        && header.durable <= at.last_number
        && header.padded_len() <= room;
    if !expected {
        return Ok(None);
    }
    let footer_bytes =
        windows.get(&file.file, at.file, at.offset + header.footer_at(), header.footer_len as usize).await?;
    let Ok(footer) = header.decode_footer(&footer_bytes) else { return Ok(None) };
    let payload = match windows.peek(at.file, at.offset + HEADER_LEN as u64, header.payload_len as usize) {
        Some(payload) if footer.check_payload(&payload).is_ok() => Payload::Good,
        Some(_) => Payload::Bad,
        None if header.payload_len == 0 => Payload::Good,
        None => Payload::NotRead,
    };
    Ok(Some(Found { header, footer, place: at, payload }))
}

async fn payload_is_good(files: &Files, chunk: &Found) -> Result<bool, DiskError> {
    if chunk.payload != Payload::NotRead {
        return Ok(chunk.payload == Payload::Good);
    }
    let file = &files[&chunk.place.file].file;
    let payload =
        file.read_at(chunk.place.offset + HEADER_LEN as u64, chunk.header.payload_len as usize).await?;
    Ok(chunk.footer.check_payload(&payload).is_ok())
}

/// Does any chunk of this log say that the chunk behind `at` was durable? The walk started at a checkpoint frame that is
/// not older than the newest durable one, and no chunk begins more than `reach` bytes behind that. So it would begin at
/// most so far behind `at`, or so far into one of the next files.
async fn proof_of(
    files: &Files,
    at: &Position,
    reach: u64,
    log_id: &[u8; 16],
) -> Result<Option<(PathBuf, u64)>, DiskError> {
    let missing = at.last_number + 1;
    let proves = |bytes: &[u8]| {
        bytes.starts_with(&MAGIC)
            && ContainerHeader::decode(bytes).is_ok_and(|header| {
                header.kind == Kind::Chunk && header.log_id == *log_id && header.durable >= missing
            })
    };
    for (number, file) in files.range(at.file..) {
        let from = if *number == at.file { at.offset } else { 0 };
        let to = file.len.min(from.saturating_add(reach).saturating_add(PAGE));
        let mut position = from;
        while position < to {
            let bytes = file.file.read_at(position, SEARCH_BYTES.min((to - position) as usize)).await?;
            let found = (0..bytes.len()).step_by(PAGE as usize).find(|inside| proves(&bytes[*inside..]));
            if let Some(inside) = found {
                return Ok(Some((file.file.path().to_owned(), position + inside as u64)));
            }
            position += SEARCH_BYTES as u64;
        }
    }
    Ok(None)
}

/// The last piece read of the WAL: small chunks come many to a read.
#[derive(Default)]
struct Windows {
    file: u64,
    start: u64,
    bytes: Bytes,
}

impl Windows {
    /// What the window holds of this range, if it holds all of it.
    fn peek(&self, number: u64, at: u64, len: usize) -> Option<Bytes> {
        let from = usize::try_from(at.checked_sub(self.start)?).ok()?;
        let to = from.checked_add(len)?;
        (self.file == number && to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }

    /// Fewer bytes than asked for only at the end of the file.
    async fn get(
        &mut self,
        file: &Arc<dyn File>,
        number: u64,
        at: u64,
        len: usize,
    ) -> Result<Bytes, DiskError> {
        if let Some(bytes) = self.peek(number, at, len) {
            return Ok(bytes);
        }
        let bytes = file.read_at(at, len.max(WINDOW_BYTES)).await?;
        *self = Self { file: number, start: at, bytes };
        Ok(self.bytes.slice(..len.min(self.bytes.len())))
    }
}
