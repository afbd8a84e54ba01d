//! The files of the write-ahead log, and the chunks that go into them.
//!
//! Files are `wal/<number:020>.wal`. Number 1 is short and is not prepared, so that a first start does not wait for
//! zeros; the next are 16 MiB, then twice as long each up to 256 MiB, filled with zeros ahead of use (or only allocated,
//! while commits are large), or recycled.
//! A file gets its name only when it is ready; what stands in a recycled one does not count, because it has lower
//! chunk numbers. Chunks start at multiples of [`PAGE`](crate::container::PAGE), so that a torn write of one never touches pages of another.
//! One chunk is in flight at a time: when chunk n + 1 is written, chunk n is durable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::batch::Batch;
use world::disk::{Disk, DiskError, File, OpenMode};

use crate::commit::CommitGroup;
use crate::container::{ContainerBuilder, ContainerHeader, Footer, Identity, Kind, LogStart, SectionKind};
use crate::encoding::Hash;
use crate::error::CommitError;
use crate::partition::Partition;

pub const FIRST_FILE: u64 = 1;
/// How long the first file is at most.
pub const FIRST_FILE_BYTES: u64 = 1 << 20;

/// Zeros are written in such steps, with a pause after each while nobody needs the file soon: commits share the disk
/// with them.
const FILL_STEP_BYTES: u64 = 512 << 10;
const FILL_PAUSE: Duration = Duration::from_millis(8);

/// A batch with its offsets, waiting for its commit.
pub struct Pending {
    pub partition: Arc<Partition>,
    pub batch: Batch,
    pub base_offset: u64,
    pub leader_epoch: i32,
    /// Of its transaction (T2).
    pub stamp: i64,
}

/// What waits for the next commit, in the order in which it came.
#[derive(Default)]
pub struct Gather {
    pub batches: Vec<Pending>,
    pub log_starts: Vec<LogStart>,
    pub bytes: usize,
    /// Something of a transaction waits, whose end takes several commits one after the other.
    pub is_urgent: bool,
    pub group: Arc<CommitGroup>,
}

impl Gather {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.log_starts.is_empty()
    }
}

/// Whatever becomes of the writer, nobody goes on waiting for it.
impl Drop for Gather {
    fn drop(&mut self) {
        self.group.finish(Err(CommitError("the log is closed".into())));
    }
}

/// One chunk, built.
pub struct Chunk {
    /// In a file padded to [`PAGE`](crate::container::PAGE).
    pub bytes: Bytes,
    pub header: ContainerHeader,
    pub footer: Footer,
    pub hash: Hash,
}

/// Where the log goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub file: u64,
    pub offset: u64,
    /// Number and hash of the chunk before.
    pub last_number: u64,
    pub last_hash: Hash,
}

impl Position {
    pub const START: Position = Position { file: FIRST_FILE, offset: 0, last_number: 0, last_hash: [0; 16] };

    pub fn behind(&self, chunk: &Chunk) -> Position {
        Position {
            file: self.file,
            offset: self.offset + chunk.bytes.len() as u64,
            last_number: chunk.header.number,
            last_hash: chunk.hash,
        }
    }
}

pub type Files = BTreeMap<u64, WalFile>;

#[derive(Clone)]
pub struct WalFile {
    pub file: Arc<dyn File>,
    pub len: u64,
}

pub fn file_name(number: u64) -> String {
    format!("{number:020}.wal")
}

pub fn file_number(name: &str) -> Option<u64> {
    name.strip_suffix(".wal").filter(|digits| digits.len() == 20)?.parse().ok()
}

/// Builds a commit from what waited. Within a partition the order stays; partitions are grouped.
pub fn build(gather: &mut Gather, identity: Identity) -> Chunk {
    build_with(gather, identity, Vec::new())
}

/// The same, with sections of the footer that the medium adds.
pub fn build_with(gather: &mut Gather, identity: Identity, sections: Vec<(SectionKind, Vec<u8>)>) -> Chunk {
    gather.batches.sort_by_key(|pending| (pending.partition.id(), pending.base_offset));
    let payload_len: usize = gather.batches.iter().map(|pending| pending.batch.bytes.len()).sum();
    let mut builder = ContainerBuilder::new(payload_len, gather.batches.len());
    for Pending { partition, batch, base_offset, leader_epoch, stamp } in &gather.batches {
        builder.push(partition.id(), *leader_epoch, batch, *base_offset, *stamp);
    }
    if !gather.log_starts.is_empty() {
        builder.section(SectionKind::LogStarts, LogStart::encode_all(&gather.log_starts));
    }
    for (kind, bytes) in sections {
        builder.section(kind, bytes);
    }
    let (bytes, header, footer) = builder.finish(identity);
    let bytes = match identity.kind {
        // Padding is for the pages of a disk.
        Kind::Object => bytes.slice(..header.len() as usize),
        Kind::Chunk | Kind::Segment => bytes,
    };
    Chunk { bytes, header, footer, hash: header.hash() }
}

/// How a new file is made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// Commits are small: into blocks that were never written each would cost an entry in the file system's journal.
    Zeros,
    /// Commits are large: writing everything twice would cost more.
    Allocate,
}

/// Makes a file of zeros under its final name: only a file that is ready has one.
pub async fn prepare(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    number: u64,
    len: u64,
    filling: Filling,
    sync_dir: bool,
    in_a_hurry: impl Fn() -> bool,
) -> Result<WalFile, DiskError> {
    let path = dir.join(file_name(number));
    let temporary = temporary(&path);
    remove_if_there(disk, &temporary).await?;
    let filled = async {
        let file = disk.open(&temporary, OpenMode::CreateNew).await?;
        if filling == Filling::Allocate {
            return file.allocate(len).await;
        }
        for from in (0..len).step_by(FILL_STEP_BYTES as usize) {
            if from > 0 && !in_a_hurry() {
                world::task::sleep(FILL_PAUSE).await;
            }
            file.fill_zeros(from, len.min(from + FILL_STEP_BYTES)).await?;
        }
        Ok(())
    };
    if let Err(error) = filled.await {
        // Half a file of zeros is of no use and takes room that somebody may need.
        let _ = remove_if_there(disk, &temporary).await;
        return Err(error);
    }
    name(disk, dir, &temporary, &path, len, sync_dir).await
}

/// Gives a file in which nothing lives any more a new number.
pub async fn recycle(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    old: u64,
    number: u64,
    len: u64,
    sync_dir: bool,
) -> Result<WalFile, DiskError> {
    name(disk, dir, &dir.join(file_name(old)), &dir.join(file_name(number)), len, sync_dir).await
}

async fn name(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    from: &Path,
    to: &Path,
    len: u64,
    sync_dir: bool,
) -> Result<WalFile, DiskError> {
    disk.rename(from, to).await?;
    if sync_dir {
        disk.sync_dir(dir).await?;
    }
    Ok(WalFile { file: disk.open(to, OpenMode::ReadWrite).await?, len })
}

/// The first file of a new log: not filled, so that the start does not wait for zeros.
pub async fn create_first(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    len: u64,
    sync_dir: bool,
) -> Result<WalFile, DiskError> {
    let path = dir.join(file_name(FIRST_FILE));
    let temporary = temporary(&path);
    remove_if_there(disk, &temporary).await?;
    let file = disk.open(&temporary, OpenMode::CreateNew).await?;
    file.set_len(len).await?;
    file.sync().await?;
    drop(file);
    name(disk, dir, &temporary, &path, len, sync_dir).await
}

/// Opens every WAL file there is, and removes what was never finished.
pub async fn open_files(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Files, DiskError> {
    let mut files = Files::new();
    for entry in disk.list(dir).await? {
        let path = dir.join(&entry.name);
        if let Some(number) = file_number(&entry.name) {
            files.insert(
                number,
                WalFile { file: disk.open(&path, OpenMode::ReadWrite).await?, len: entry.len },
            );
        } else if entry.name.ends_with(".new") {
            disk.remove(&path).await?;
        }
    }
    Ok(files)
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("new")
}

async fn remove_if_there(disk: &Arc<dyn Disk>, path: &Path) -> Result<(), DiskError> {
    match disk.remove(path).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
