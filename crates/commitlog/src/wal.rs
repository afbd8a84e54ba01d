//! The write-ahead log: files, the queue of what waits, and the one writer that turns it into chunks.
//!
//! Files are `wal/<number:020>.wal`: 16 MiB first, doubling up to 256 MiB, filled with zeros ahead of use. Chunks start at multiples
//! of [`ALIGN`], so that a torn write of one never touches a sector of another. One chunk is in flight at a time: when chunk n+1 is
//! written, chunk n is durable, and says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use protocol::batch::Batch;
use protocol::batch::patched_header;
use world::disk::{Disk, DiskError, File, OpenMode};

use crate::commit::CommitGroup;
use crate::container::{BatchEntry, Builder, Footer, Identity, Kind, Note};
use crate::log::Shared;
use crate::partition::Partition;
use crate::settings::LogSettings;

/// Chunks start at multiples of this.
pub const ALIGN: u64 = 512;

/// A batch with its offsets, waiting for its commit.
pub struct Pending {
    pub partition: Arc<Partition>,
    pub batch: Batch,
    pub entry: BatchEntry,
}

/// What waits for the next commit.
#[derive(Default)]
pub struct Gather {
    pub batches: Vec<Pending>,
    pub notes: Vec<Note>,
    pub bytes: usize,
    pub group: Arc<CommitGroup>,
}

impl Gather {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.notes.is_empty()
    }
}

/// One chunk, built.
pub struct Chunk {
    pub bytes: Bytes,
    pub footer: Footer,
    pub hash: u128,
    pub number: u64,
}

/// Where the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub file: u64,
    pub offset: u64,
    /// Number and hash of the chunk before.
    pub last_number: u64,
    pub last_hash: u128,
}

/// The files of the log; owned by the writer, read by everybody through `Shared::files`.
pub struct WalFiles {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub log_id: [u8; 16],
    pub current: Arc<dyn File>,
    pub current_len: u64,
    pub at: Position,
    /// The longest chunk ever written: how far recovery has to look behind damage. Kept in the checkpoint before it is exceeded.
    pub chunk_len_max: u64,
}

pub fn file_name(number: u64) -> String {
    format!("{number:020}.wal")
}

pub fn file_number(name: &str) -> Option<u64> {
    name.strip_suffix(".wal").filter(|digits| digits.len() == 20)?.parse().ok()
}

pub fn align(len: u64) -> u64 {
    len.next_multiple_of(ALIGN)
}

impl WalFiles {
    /// Builds the next chunk from what waited. Within a partition the order stays; partitions are grouped.
    pub fn build(&self, gather: &mut Gather, nonce: u128) -> Chunk {
        gather.batches.sort_by_key(|p| (p.partition.id(), p.entry.base_offset));
        let body: usize = gather.batches.iter().map(|p| p.entry.len as usize).sum();
        let mut builder = Builder::with_capacity(body);
        for Pending { partition, batch, entry } in &gather.batches {
            let header = patched_header(&batch.bytes, entry.base_offset as i64, entry.leader_epoch);
            builder.push(partition.id(), *entry, &[&header, &batch.bytes[header.len()..]]);
        }
        gather.notes.drain(..).for_each(|note| builder.note(note));
        let number = self.at.last_number + 1;
        let identity = Identity {
            kind: Kind::WalChunk,
            log_id: self.log_id,
            number,
            predecessor: self.at.last_hash,
            durable_through: self.at.last_number,
            nonce,
        };
        let (bytes, footer, hash) = builder.finish(&identity);
        Chunk { bytes: bytes.freeze(), footer, hash, number }
    }

    pub fn has_room(&self, chunk: &Chunk) -> bool {
        self.at.offset + chunk.bytes.len() as u64 <= self.current_len
    }

    /// Goes on in the next file, long enough for `need` bytes. The file is made and its name durable before anything counts in it.
    pub async fn next_file(
        &mut self,
        settings: &LogSettings,
        need: u64,
        shared: &Shared,
    ) -> Result<(), DiskError> {
        let number = self.at.file + 1;
        let len = (self.current_len * 2)
            .clamp(settings.wal_file_bytes_min, settings.wal_file_bytes_max)
            .max(align(need));
        let path = self.dir.join(file_name(number));
        let prepared = shared.prepared.lock().take();
        let file = match prepared {
            Some((prepared, prepared_len, file)) if prepared == number && prepared_len >= len => file,
            _ => prepare(&self.disk, &path, len, false).await?,
        };
        if !shared.settings.skips_directory_sync() {
            self.disk.sync_dir(&self.dir).await?;
        }
        shared.files.lock().insert(number, file.clone());
        self.current = file;
        self.current_len = len;
        self.at.file = number;
        self.at.offset = 0;
        Ok(())
    }

    /// Past a chunk that is durable.
    pub fn advance(&mut self, chunk: &Chunk) {
        self.at.offset += align(chunk.bytes.len() as u64);
        self.at.last_number = chunk.number;
        self.at.last_hash = chunk.hash;
        self.chunk_len_max = self.chunk_len_max.max(chunk.bytes.len() as u64);
    }
}

/// Makes a WAL file. `fill`: writes zeros through it, so that commits land in blocks that were written before; without it the first
/// start would wait for the disk.
pub async fn prepare(
    disk: &Arc<dyn Disk>,
    path: &std::path::Path,
    len: u64,
    fill: bool,
) -> Result<Arc<dyn File>, DiskError> {
    match disk.remove(path).await {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    let file = disk.open(path, OpenMode::CreateNew).await?;
    if fill {
        file.fill_zeros(0, len).await?;
    } else {
        file.set_len(len).await?;
    }
    Ok(file)
}

pub type Files = BTreeMap<u64, Arc<dyn File>>;

/// A chunk's bytes padded to the alignment: the gap is zeros, so that nothing stale looks like a chunk there.
pub fn padded(chunk: &Chunk) -> Vec<Bytes> {
    let gap = (align(chunk.bytes.len() as u64) - chunk.bytes.len() as u64) as usize;
    match gap {
        0 => vec![chunk.bytes.clone()],
        _ => vec![chunk.bytes.clone(), BytesMut::zeroed(gap).freeze()],
    }
}
