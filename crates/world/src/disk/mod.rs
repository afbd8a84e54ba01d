//! Files. What durability rests on:
//!
//! - A commit is **one operation**: "write these buffers at this offset, then fdatasync" ([`File::write_and_sync`]), on the
//!   caller's own thread if it has one, else in one hand-over to a thread for commits.
//! - Buffers that are aligned ([`AlignedBuffer`]) go to the medium past the page cache, where the file system can: what is
//!   written here is read from memory of ours, or much later, and the copy was most of a producing broker's processor time.
//! - A failed fsync is **final for that file**: the kernel may have dropped the dirty pages and call the next fsync
//!   a success. The file remembers and refuses everything but reads.
//! - A new name (create, rename, remove) is durable only after [`Disk::sync_dir`] of its directory.
//!
//! [`RealDisk`] is the operating system, [`MemDisk`] a seeded disk in memory that loses what a power cut may lose.

mod aligned;
#[cfg(feature = "failpoints")]
mod cut;
mod mem;
mod real;

use std::any::Any;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

pub use aligned::{AlignedBuffer, DIRECT_ALIGN};
pub use mem::{MemDisk, MemFaults};
pub use real::{RealDisk, RealDiskOptions};

pub type DiskFuture<T> = Pin<Box<dyn Future<Output = Result<T, DiskError>> + Send + 'static>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist.
    Read,
    /// Must exist.
    ReadWrite,
    /// Made when missing.
    Create,
    /// Must not exist.
    CreateNew,
}

pub trait Disk: Send + Sync + 'static {
    fn open(&self, path: &Path, mode: OpenMode) -> DiskFuture<Arc<dyn File>>;
    /// Replaces `to` when it exists. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> DiskFuture<()>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> DiskFuture<()>;
    /// Makes the directory and its parents; durable on return.
    fn create_dir_all(&self, dir: &Path) -> DiskFuture<()>;
    /// The entries of a directory, ordered by name. A missing directory is `NotFound`.
    fn list(&self, dir: &Path) -> DiskFuture<Vec<DirEntry>>;
    fn sync_dir(&self, dir: &Path) -> DiskFuture<()>;
    /// Of the file system that holds `dir`.
    fn space(&self, dir: &Path) -> DiskFuture<Space>;
    /// Takes the one lock of this path (made when missing) or fails with `Locked`. The lock goes with the guard, and
    /// with the process, however it dies.
    fn lock(&self, path: &Path) -> DiskFuture<DiskLock>;
    fn counters(&self) -> Arc<DiskCounters>;
}

#[allow(clippy::len_without_is_empty)] // an empty file is nothing special to anybody here
pub trait File: Send + Sync + 'static {
    fn path(&self) -> &Path;
    fn len(&self) -> DiskFuture<u64>;
    /// Up to `len` bytes from `offset`; fewer only at the end of the file. Runs on the bounded pool of reads.
    fn read_at(&self, offset: u64, len: usize) -> DiskFuture<Bytes>;
    /// Many small reads as one hand-over; each as [`File::read_at`].
    fn read_many(&self, ranges: Vec<(u64, usize)>) -> DiskFuture<Vec<Bytes>>;
    /// [`File::read_many`] from the medium itself where the file system can: for what is read once, or must not be taken
    /// from memory.
    fn read_many_from_medium(&self, ranges: Vec<(u64, usize)>) -> DiskFuture<Vec<Bytes>>;
    /// This range is read soon, in small pieces: it may be fetched into the page cache in large ones. Advice only.
    fn read_ahead(&self, from: u64, to: u64);
    /// Writes without syncing, in the background.
    fn write_at(&self, offset: u64, buffers: Vec<Bytes>) -> DiskFuture<()>;
    /// The commit: writes the buffers one after another from `offset`, then fdatasync, as one operation. On a thread of the
    /// caller's own it runs when polled. Else it is handed over to the commit thread of the file's directory when called,
    /// also if the future is never polled; hand-overs of one directory run in the order of the calls.
    fn write_and_sync(&self, offset: u64, buffers: Vec<Bytes>) -> DiskFuture<()>;
    /// Fdatasync, in the background.
    fn sync(&self) -> DiskFuture<()>;
    /// Writes zeros from `from` to `to` in the background and syncs, so that a later commit writes into blocks that
    /// the file system knows as written (never-written extents made commits up to 2.7 times slower).
    fn fill_zeros(&self, from: u64, to: u64) -> DiskFuture<()>;
    /// Takes the space of a new file of this length and syncs: no write into it can find the disk full. Costs nothing now
    /// and a journal entry per commit into it later (unlike [`File::fill_zeros`]), which large commits do not feel.
    fn allocate(&self, len: u64) -> DiskFuture<()>;
    fn set_len(&self, len: u64) -> DiskFuture<()>;
    /// A sync of this file has failed. All that changes it is refused from then on.
    fn is_failed(&self) -> bool;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: String,
    pub len: u64,
    pub is_dir: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that an ordinary process may still write.
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// Dropping it gives the lock back.
pub struct DiskLock {
    _guard: Box<dyn Any + Send + Sync>,
}

impl DiskLock {
    pub(crate) fn new(guard: impl Any + Send + Sync) -> Self {
        Self { _guard: Box::new(guard) }
    }
}

impl std::fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskLock")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskErrorKind {
    NotFound,
    AlreadyExists,
    NoSpace,
    /// Somebody else holds the lock.
    Locked,
    /// A sync failed, now or earlier: this file takes nothing any more.
    SyncFailed,
    /// EIO and everything else.
    Io,
    /// The simulated machine is off.
    PowerLost,
}

/// What was tried, on what, and what came of it. Cloneable, because one failed commit fails many waiters.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} {}: {detail}", path.display())]
pub struct DiskError {
    pub kind: DiskErrorKind,
    pub operation: &'static str,
    pub path: PathBuf,
    pub detail: String,
}

impl DiskError {
    pub fn new(kind: DiskErrorKind, operation: &'static str, path: &Path, detail: impl Into<String>) -> Self {
        Self { kind, operation, path: path.to_owned(), detail: detail.into() }
    }

    pub fn is_not_found(&self) -> bool {
        self.kind == DiskErrorKind::NotFound
    }
}

/// What the disk did so far, for metrics and benches.
#[derive(Debug, Default)]
pub struct DiskCounters {
    /// Write calls handed to the medium (a commit is one).
    pub writes: AtomicU64,
    pub bytes_written: AtomicU64,
    /// Bytes of zeros written ahead of use; not part of `bytes_written`.
    pub bytes_zero_filled: AtomicU64,
    /// Syncs of file contents.
    pub syncs: AtomicU64,
    /// Time spent in them.
    pub sync_nanos: AtomicU64,
    pub dir_syncs: AtomicU64,
    /// Reads handed to the medium (many small ones together are one).
    pub reads: AtomicU64,
    pub bytes_read: AtomicU64,
}

impl DiskCounters {
    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

/// Replaces a small file as a whole: after a crash there is the old one or the new one, never a mixture.
/// Writes `<path>.tmp`, syncs it, renames, syncs the directory.
pub async fn write_atomic(disk: &dyn Disk, path: &Path, bytes: Bytes) -> Result<(), DiskError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    match disk.remove(&temporary).await {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    let file = disk.open(&temporary, OpenMode::CreateNew).await?;
    file.write_at(0, vec![bytes]).await?;
    file.sync().await?;
    drop(file);
    disk.rename(&temporary, path).await?;
    disk.sync_dir(parent(path)).await
}

/// A whole small file; `None` when it does not exist. Longer than `max_bytes` is an error.
pub async fn read_small(disk: &dyn Disk, path: &Path, max_bytes: u64) -> Result<Option<Bytes>, DiskError> {
    let file = match disk.open(path, OpenMode::Read).await {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len().await?;
    if len > max_bytes {
        let detail = format!("{len} bytes are more than the {max_bytes} allowed");
        return Err(DiskError::new(DiskErrorKind::Io, "read", path, detail));
    }
    file.read_at(0, len as usize).await.map(Some)
}

/// The directory of a file; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
