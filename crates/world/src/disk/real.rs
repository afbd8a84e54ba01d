//! The operating system's files.
//!
//! Who runs on a thread of its own (`task::spawn_on_own_thread`: the log's writer) does all of this on that thread. For
//! others, commits have a thread per directory (made at its first commit), so that they never stand behind somebody else's
//! work, and reads and background work run on tokio's blocking threads, each behind a bound of its own.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::aligned::is_aligned;
use super::{
    AlignedBuffer, DIRECT_ALIGN, DirEntry, Disk, DiskCounters, DiskError, DiskErrorKind, DiskFuture,
    DiskLock, File, OpenMode, Space, parent,
};

/// Reads that may run at once; more wait.
const READS_AT_ONCE: usize = 8;
/// Background operations (writes without sync, syncs, directory work) that may run at once; more wait.
const BACKGROUND_AT_ONCE: usize = 4;
/// Commits that may wait for one directory's thread before the caller blocks. A log has one or two in flight.
const COMMITS_QUEUED_MAX: usize = 256;
/// Linux takes at most this many buffers per call.
const BUFFERS_PER_WRITE: usize = 1024;
/// Zeros are written in steps of this size, and synced every `ZERO_SYNC_BYTES` so that writeback never becomes a
/// burst that commits have to wait for.
const ZERO_STEP_BYTES: usize = 1 << 20;
const ZERO_SYNC_BYTES: u64 = 8 << 20;

#[repr(align(4096))]
struct AlignedZeros([u8; ZERO_STEP_BYTES]);
static ZEROS: AlignedZeros = AlignedZeros([0; ZERO_STEP_BYTES]);

/// What the usual settings of Linux read ahead at once.
const READ_AHEAD_STEP_BYTES: usize = 128 << 10;

const COMMIT_THREAD_STACK_BYTES: usize = 256 << 10;

/// Faults for chaos tests of the whole binary: never set in production.
#[derive(Clone, Debug, Default)]
pub struct RealDiskOptions {
    /// The n-th sync of a file's content (counted from 1) fails with EIO.
    pub fail_sync_at: Option<u64>,
    /// Negative control: say "synced" without syncing file contents.
    pub skip_file_sync: bool,
    /// Negative control: say "synced" without syncing directories.
    pub skip_dir_sync: bool,
}

pub struct RealDisk {
    shared: Arc<Shared>,
}

struct Shared {
    options: RealDiskOptions,
    counters: Arc<DiskCounters>,
    reads: Arc<Semaphore>,
    background: Arc<Semaphore>,
    commit_threads: Mutex<BTreeMap<PathBuf, mpsc::SyncSender<Commit>>>,
    syncs_started: AtomicU64,
}

struct Commit {
    file: Arc<Handle>,
    offset: u64,
    buffers: Vec<Bytes>,
    answer: oneshot::Sender<Result<(), DiskError>>,
}

impl RealDisk {
    pub fn new() -> Arc<Self> {
        Self::with_options(RealDiskOptions::default())
    }

    pub fn with_options(options: RealDiskOptions) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::new(Shared {
                options,
                counters: Arc::default(),
                reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
                background: Arc::new(Semaphore::new(BACKGROUND_AT_ONCE)),
                commit_threads: Mutex::default(),
                syncs_started: AtomicU64::new(0),
            }),
        })
    }

    fn background<T, F>(&self, work: F) -> DiskFuture<T>
    where
        T: Send + 'static,
        F: FnOnce(&Shared) -> Result<T, DiskError> + Send + 'static,
    {
        run(self.shared.background.clone(), self.shared.clone(), work)
    }
}

fn run<T, F>(bound: Arc<Semaphore>, shared: Arc<Shared>, work: F) -> DiskFuture<T>
where
    T: Send + 'static,
    F: FnOnce(&Shared) -> Result<T, DiskError> + Send + 'static,
{
    if crate::task::may_block() {
        return Box::pin(async move { work(&shared) });
    }
    Box::pin(async move {
        let permit = bound.acquire_owned().await.expect("nobody closes this semaphore");
        crate::task::spawn_blocking(move || {
            let result = work(&shared);
            drop(permit);
            result
        })
        .await
        .unwrap_or_else(|gone| {
            // Only when the runtime shuts down, or by a panic of ours.
            Err(DiskError::new(DiskErrorKind::Io, "run", Path::new("-"), gone.to_string()))
        })
    })
}

fn failure(operation: &'static str, path: &Path, error: std::io::Error) -> DiskError {
    use std::io::ErrorKind;
    let kind = match error.kind() {
        ErrorKind::NotFound => DiskErrorKind::NotFound,
        ErrorKind::AlreadyExists => DiskErrorKind::AlreadyExists,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskErrorKind::NoSpace,
        ErrorKind::WouldBlock => DiskErrorKind::Locked,
        _ => DiskErrorKind::Io,
    };
    DiskError::new(kind, operation, path, error.to_string())
}

/// Where chaos tests may cut the power, see `cut.rs`.
fn step(_name: &str, _path: &Path) {
    #[cfg(feature = "failpoints")]
    super::cut::reached(_name, _path);
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> DiskFuture<Arc<dyn File>> {
        let path = path.to_owned();
        let shared = self.shared.clone();
        self.background(move |_| {
            let mut options = std::fs::OpenOptions::new();
            options.read(true).mode(0o640);
            match mode {
                OpenMode::Read => &mut options,
                OpenMode::ReadWrite => options.write(true),
                OpenMode::Create => options.write(true).create(true),
                OpenMode::CreateNew => options.write(true).create_new(true),
            };
            let file = options.open(&path).map_err(|error| failure("open", &path, error))?;
            let handle = Handle {
                file,
                path,
                writable: mode != OpenMode::Read,
                direct: OnceLock::new(),
                direct_refused: AtomicBool::new(false),
                failed: AtomicBool::new(false),
            };
            let handle = Arc::new(handle);
            Ok(Arc::new(RealFile { handle, shared, commit_thread: OnceLock::new() }) as Arc<dyn File>)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> DiskFuture<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.background(move |_| {
            std::fs::rename(&from, &to).map_err(|error| failure("rename", &from, error))?;
            step("after-rename", &to);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> DiskFuture<()> {
        let path = path.to_owned();
        self.background(move |_| std::fs::remove_file(&path).map_err(|error| failure("remove", &path, error)))
    }

    fn create_dir_all(&self, dir: &Path) -> DiskFuture<()> {
        let dir = dir.to_owned();
        self.background(move |shared| make_dirs(shared, &dir))
    }

    fn list(&self, dir: &Path) -> DiskFuture<Vec<DirEntry>> {
        let dir = dir.to_owned();
        self.background(move |_| {
            let failed = |error| failure("list", &dir, error);
            let mut entries = Vec::new();
            for entry in std::fs::read_dir(&dir).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let meta = match entry.metadata() {
                    Ok(meta) => meta,
                    // Removed between the listing and this call.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(failed(error)),
                };
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push(DirEntry { name, len: meta.len(), is_dir: meta.is_dir() });
            }
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        })
    }

    fn sync_dir(&self, dir: &Path) -> DiskFuture<()> {
        let dir = dir.to_owned();
        self.background(move |shared| sync_dir(shared, &dir))
    }

    fn space(&self, dir: &Path) -> DiskFuture<Space> {
        let dir = dir.to_owned();
        self.background(move |_| {
            let stat = rustix::fs::statvfs(&dir).map_err(|error| failure("statvfs", &dir, error.into()))?;
            Ok(Space {
                free_bytes: stat.f_bavail * stat.f_frsize,
                total_bytes: stat.f_blocks * stat.f_frsize,
            })
        })
    }

    fn lock(&self, path: &Path) -> DiskFuture<DiskLock> {
        let path = path.to_owned();
        self.background(move |_| {
            let failed = |error| failure("lock", &path, error);
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o640);
            let file = options.open(&path).map_err(failed)?;
            // flock, not fcntl: it belongs to this open file and dies with the process, also by kill -9.
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
                .map_err(|error| failed(error.into()))?;
            Ok(DiskLock::new(file))
        })
    }

    fn counters(&self) -> Arc<DiskCounters> {
        self.shared.counters.clone()
    }
}

fn sync_dir(shared: &Shared, dir: &Path) -> Result<(), DiskError> {
    DiskCounters::add(&shared.counters.dir_syncs, 1);
    if shared.options.skip_dir_sync {
        return Ok(());
    }
    let failed = |error| failure("sync directory", dir, error);
    let handle = std::fs::File::open(dir).map_err(failed)?;
    handle.sync_all().map_err(|error| {
        DiskError::new(DiskErrorKind::SyncFailed, "sync directory", dir, error.to_string())
    })?;
    step("after-directory-sync", dir);
    Ok(())
}

/// Each directory that is new gets its parent synced: an entry is durable only then.
fn make_dirs(shared: &Shared, dir: &Path) -> Result<(), DiskError> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = parent(dir);
    if above != dir && above != Path::new(".") {
        make_dirs(shared, above)?;
    }
    match std::fs::create_dir(dir) {
        Ok(()) => sync_dir(shared, above),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failure("create directory", dir, error)),
    }
}

/// What the commit thread and the blocking threads share of an open file.
struct Handle {
    file: std::fs::File,
    path: PathBuf,
    writable: bool,
    /// Opened when first wanted.
    direct: OnceLock<Option<std::fs::File>>,
    /// Some file systems take the flag and refuse the write.
    direct_refused: AtomicBool,
    failed: AtomicBool,
}

impl Handle {
    /// The same file without the page cache, if the file system can.
    fn direct(&self) -> Option<&std::fs::File> {
        use std::os::fd::AsRawFd;
        if self.direct_refused.load(Ordering::Relaxed) {
            return None;
        }
        let reopen = || {
            // By descriptor: the name may have changed since it was opened.
            let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
            std::fs::OpenOptions::new().read(true).write(self.writable).custom_flags(flags).open(path).ok()
        };
        self.direct.get_or_init(reopen).as_ref()
    }

    fn check(&self, operation: &'static str) -> Result<(), DiskError> {
        if self.failed.load(Ordering::Acquire) {
            let detail = "an earlier sync of this file failed";
            return Err(DiskError::new(DiskErrorKind::SyncFailed, operation, &self.path, detail));
        }
        Ok(())
    }

    fn write(&self, shared: &Shared, mut offset: u64, buffers: &[Bytes]) -> Result<(), DiskError> {
        self.check("write")?;
        let mut direct = is_aligned(offset, buffers).then(|| self.direct()).flatten();
        let mut slices: Vec<IoSlice<'_>> =
            buffers.iter().filter(|buffer| !buffer.is_empty()).map(|buffer| IoSlice::new(buffer)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let batch = rest.len().min(BUFFERS_PER_WRITE);
            let written = match rustix::io::pwritev(direct.unwrap_or(&self.file), &rest[..batch], offset) {
                Ok(0) => {
                    return Err(DiskError::new(
                        DiskErrorKind::NoSpace,
                        "write",
                        &self.path,
                        "nothing written",
                    ));
                }
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::INVAL) if direct.is_some() => {
                    self.direct_refused.store(true, Ordering::Relaxed);
                    direct = None;
                    continue;
                }
                Err(error) => return Err(failure("write", &self.path, error.into())),
            };
            if !written.is_multiple_of(DIRECT_ALIGN) {
                // Cut short: the rest no longer starts where it must.
                direct = None;
            }
            offset += written as u64;
            DiskCounters::add(&shared.counters.bytes_written, written as u64);
            IoSlice::advance_slices(&mut rest, written);
        }
        DiskCounters::add(&shared.counters.writes, 1);
        step("after-write", &self.path);
        Ok(())
    }

    fn read(&self, shared: &Shared, offset: u64, len: usize) -> Result<Bytes, DiskError> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            // Appends to what is there and moves the vector's length.
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failure("read", &self.path, error.into())),
            }
        }
        bytes.truncate(len);
        DiskCounters::add(&shared.counters.bytes_read, bytes.len() as u64);
        Ok(Bytes::from(bytes))
    }

    /// Past the page cache: the pages around the range, of which the range is a slice. None where that cannot be had.
    fn read_direct(&self, shared: &Shared, offset: u64, len: usize) -> Option<Result<Bytes, DiskError>> {
        let direct = self.direct()?;
        let from = offset - offset % DIRECT_ALIGN as u64;
        let inside = (offset - from) as usize;
        let cover = (inside + len).next_multiple_of(DIRECT_ALIGN);
        let mut bytes = AlignedBuffer::with_capacity(cover);
        loop {
            match bytes.read_from(direct, from, cover) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::INVAL) => {
                    self.direct_refused.store(true, Ordering::Relaxed);
                    return None;
                }
                Err(error) => return Some(Err(failure("read", &self.path, error.into()))),
                // Cut short by the end of the file, or for another reason: the ordinary way finds out.
                Ok(read) if read < inside + len => return None,
                Ok(_) => break,
            }
        }
        DiskCounters::add(&shared.counters.bytes_read, len as u64);
        Some(Ok(bytes.freeze().slice(inside..inside + len)))
    }

    fn fill_zeros(&self, shared: &Shared, from: u64, to: u64) -> Result<(), DiskError> {
        self.check("fill")?;
        let mut direct = self.direct();
        let mut at = from;
        let mut synced = from;
        while at < to {
            let step = (to - at).min(ZERO_STEP_BYTES as u64) as usize;
            let is_direct = direct.is_some()
                && at.is_multiple_of(DIRECT_ALIGN as u64)
                && step.is_multiple_of(DIRECT_ALIGN);
            let file = direct.filter(|_| is_direct).unwrap_or(&self.file);
            match rustix::io::pwrite(file, &ZEROS.0[..step], at) {
                Ok(0) => {
                    return Err(DiskError::new(
                        DiskErrorKind::NoSpace,
                        "fill",
                        &self.path,
                        "nothing written",
                    ));
                }
                Ok(written) => at += written as u64,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::INVAL) if is_direct => {
                    self.direct_refused.store(true, Ordering::Relaxed);
                    direct = None;
                }
                Err(error) => return Err(failure("fill", &self.path, error.into())),
            }
            if at - synced >= ZERO_SYNC_BYTES {
                self.sync(shared)?;
                synced = at;
            }
        }
        DiskCounters::add(&shared.counters.bytes_zero_filled, to.saturating_sub(from));
        self.sync(shared)
    }

    fn sync(&self, shared: &Shared) -> Result<(), DiskError> {
        self.check("sync")?;
        let number = shared.syncs_started.fetch_add(1, Ordering::Relaxed) + 1;
        DiskCounters::add(&shared.counters.syncs, 1);
        if shared.options.skip_file_sync {
            return Ok(());
        }
        let start = Instant::now();
        let result = match shared.options.fail_sync_at {
            Some(at) if number == at => Err(std::io::Error::from(rustix::io::Errno::IO)),
            _ => self.file.sync_data(),
        };
        DiskCounters::add(&shared.counters.sync_nanos, start.elapsed().as_nanos() as u64);
        step("after-sync", &self.path);
        result.map_err(|error| {
            self.failed.store(true, Ordering::Release);
            DiskError::new(DiskErrorKind::SyncFailed, "sync", &self.path, error.to_string())
        })
    }
}

struct RealFile {
    handle: Arc<Handle>,
    shared: Arc<Shared>,
    commit_thread: OnceLock<mpsc::SyncSender<Commit>>,
}

impl RealFile {
    fn background<T, F>(&self, work: F) -> DiskFuture<T>
    where
        T: Send + 'static,
        F: FnOnce(&Shared, &Handle) -> Result<T, DiskError> + Send + 'static,
    {
        let handle = self.handle.clone();
        run(self.shared.background.clone(), self.shared.clone(), move |shared| work(shared, &handle))
    }

    fn commit_thread(&self) -> Result<&mpsc::SyncSender<Commit>, DiskError> {
        if let Some(thread) = self.commit_thread.get() {
            return Ok(thread);
        }
        let dir = parent(&self.handle.path).to_owned();
        let mut threads = self.shared.commit_threads.lock();
        let sender = match threads.get(&dir) {
            Some(sender) => sender.clone(),
            None => {
                let (sender, commits) = mpsc::sync_channel(COMMITS_QUEUED_MAX);
                // The thread holds no strong reference to `Shared`: that one owns the sender whose end ends the
                // thread.
                let shared = Arc::downgrade(&self.shared);
                std::thread::Builder::new()
                    .name("disk-commit".into())
                    .stack_size(COMMIT_THREAD_STACK_BYTES)
                    .spawn(move || serve_commits(&shared, &commits))
                    .map_err(|error| failure("start the commit thread of", &dir, error))?;
                threads.insert(dir, sender.clone());
                sender
            }
        };
        Ok(self.commit_thread.get_or_init(|| sender))
    }
}

fn serve_commits(shared: &std::sync::Weak<Shared>, commits: &mpsc::Receiver<Commit>) {
    while let Ok(Commit { file, offset, buffers, answer }) = commits.recv() {
        let Some(shared) = shared.upgrade() else { return };
        let result = file.write(&shared, offset, &buffers).and_then(|()| file.sync(&shared));
        drop(buffers);
        // Nobody may be waiting any more; the bytes are on the disk all the same.
        let _ = answer.send(result);
    }
}

impl File for RealFile {
    fn path(&self) -> &Path {
        &self.handle.path
    }

    fn len(&self) -> DiskFuture<u64> {
        let result = self.handle.file.metadata().map(|meta| meta.len());
        let result = result.map_err(|error| failure("stat", &self.handle.path, error));
        Box::pin(std::future::ready(result))
    }

    fn read_at(&self, offset: u64, len: usize) -> DiskFuture<Bytes> {
        let handle = self.handle.clone();
        DiskCounters::add(&self.shared.counters.reads, 1);
        run(self.shared.reads.clone(), self.shared.clone(), move |shared| handle.read(shared, offset, len))
    }

    fn read_many(&self, ranges: Vec<(u64, usize)>) -> DiskFuture<Vec<Bytes>> {
        let handle = self.handle.clone();
        DiskCounters::add(&self.shared.counters.reads, 1);
        run(self.shared.reads.clone(), self.shared.clone(), move |shared| {
            ranges.into_iter().map(|(offset, len)| handle.read(shared, offset, len)).collect()
        })
    }

    fn read_many_from_medium(&self, ranges: Vec<(u64, usize)>) -> DiskFuture<Vec<Bytes>> {
        let handle = self.handle.clone();
        DiskCounters::add(&self.shared.counters.reads, 1);
        run(self.shared.reads.clone(), self.shared.clone(), move |shared| {
            let read = |(offset, len)| {
                handle.read_direct(shared, offset, len).unwrap_or_else(|| handle.read(shared, offset, len))
            };
            ranges.into_iter().map(read).collect()
        })
    }

    fn read_ahead(&self, from: u64, to: u64) {
        let handle = self.handle.clone();
        // The kernel takes no more than a step of it per call. A file system that does not know the advice serves all the
        // same.
        let all = self.background(move |_, _| {
            for step in (from..to).step_by(READ_AHEAD_STEP_BYTES) {
                let len = std::num::NonZeroU64::new((to - step).min(READ_AHEAD_STEP_BYTES as u64));
                let _ = rustix::fs::fadvise(&handle.file, step, len, rustix::fs::Advice::WillNeed);
            }
            Ok(())
        });
        crate::task::spawn(async { drop(all.await) });
    }

    fn write_at(&self, offset: u64, buffers: Vec<Bytes>) -> DiskFuture<()> {
        self.background(move |shared, handle| handle.write(shared, offset, &buffers))
    }

    fn write_and_sync(&self, offset: u64, buffers: Vec<Bytes>) -> DiskFuture<()> {
        if crate::task::may_block() {
            return self.background(move |shared, handle| {
                handle.write(shared, offset, &buffers).and_then(|()| handle.sync(shared))
            });
        }
        let (answer, result) = oneshot::channel();
        let commit = Commit { file: self.handle.clone(), offset, buffers, answer };
        let gone =
            || DiskError::new(DiskErrorKind::Io, "commit", &self.handle.path, "the commit thread is gone");
        let sent = self.commit_thread().and_then(|thread| thread.send(commit).map_err(|_| gone()));
        let gone = gone();
        Box::pin(async move {
            sent?;
            result.await.unwrap_or(Err(gone))
        })
    }

    fn sync(&self) -> DiskFuture<()> {
        self.background(|shared, handle| handle.sync(shared))
    }

    fn fill_zeros(&self, from: u64, to: u64) -> DiskFuture<()> {
        self.background(move |shared, handle| handle.fill_zeros(shared, from, to))
    }

    fn allocate(&self, len: u64) -> DiskFuture<()> {
        self.background(move |shared, handle| {
            handle.check("allocate")?;
            match rustix::fs::fallocate(&handle.file, rustix::fs::FallocateFlags::empty(), 0, len) {
                Ok(()) => handle.sync(shared),
                // Not every file system can.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                    handle.fill_zeros(shared, 0, len)
                }
                Err(error) => Err(failure("allocate", &handle.path, error.into())),
            }
        })
    }

    fn set_len(&self, len: u64) -> DiskFuture<()> {
        self.background(move |_, handle| {
            handle.check("set length")?;
            handle.file.set_len(len).map_err(|error| failure("set length", &handle.path, error))
        })
    }

    fn is_failed(&self) -> bool {
        self.handle.failed.load(Ordering::Acquire)
    }
}
