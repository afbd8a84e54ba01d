//! The next WAL file, made ready in the background before the writer needs it: recycled, or filled with zeros.
//!
//! This is also where a full disk is noticed, long before a commit would fail: when the next file does not fit beside
//! the reserve, produce is refused ([`LogState::Full`]) while the current file still has room for what waits.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use world::disk::{DiskError, DiskErrorKind};
use world::task;

use crate::container::PAGE;
use crate::log::{LogState, Shared};
use crate::settings::LogSettings;
use crate::wal::{self, Filling, WalFile};

/// While the disk is full: how often we look again.
const FULL_RETRY: Duration = Duration::from_millis(250);
/// Of all space, the reserve is at most this part: a small disk must be usable at all.
const RESERVE_PART: u64 = 10;
/// On a disk with little room files get this short.
const SMALLEST_FILE_BYTES: u64 = 1 << 20;

/// When less than this part of the next file's length is left of the current one, zeros are written without pauses.
const HURRY_PART: u64 = 6;

#[derive(Default)]
pub struct NextFile {
    inner: Mutex<Inner>,
    wanted: Notify,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    wanted: Option<Wanted>,
    /// The last one handed out.
    taken: u64,
    ready: Option<(u64, WalFile)>,
    /// A dead file to recycle.
    spare: Option<(u64, WalFile)>,
    failed: Option<DiskError>,
    /// The disk has no room for it now.
    full: bool,
    /// The log ends as soon as it can.
    closing: bool,
    closed: bool,
}

#[derive(Clone, Copy)]
struct Wanted {
    number: u64,
    /// What would be good.
    len: u64,
    /// What has to fit.
    need: u64,
    filling: Filling,
}

impl NextFile {
    /// Recovery found it made ready already.
    pub fn found(&self, number: u64, file: WalFile) {
        self.inner.lock().ready = Some((number, file));
    }

    /// Asks for it; does nothing when it is ready, or asked for with at least this need.
    pub fn want(&self, number: u64, len: u64, need: u64, filling: Filling) {
        let mut inner = self.inner.lock();
        let asked = inner.wanted.is_some_and(|wanted| wanted.number == number && wanted.need >= need);
        let ready = inner.ready.as_ref().is_some_and(|(ready, file)| *ready == number && file.len >= need);
        if asked || ready {
            return;
        }
        inner.wanted = Some(Wanted { number, len, need, filling });
        drop(inner);
        self.wanted.notify_one();
    }

    /// Waits for it. An error is final, and that the disk is full only while the log is closed: else it waits.
    pub async fn take(&self, number: u64, need: u64) -> Result<WalFile, DiskError> {
        loop {
            let changed = self.changed.notified();
            {
                let mut inner = self.inner.lock();
                if inner.ready.as_ref().is_some_and(|(ready, file)| *ready == number && file.len >= need) {
                    let (_, file) = inner.ready.take().expect("just seen");
                    // From now on it is in use: whoever still wants it made would replace it.
                    inner.taken = number;
                    inner.wanted = inner.wanted.filter(|wanted| wanted.number > number);
                    return Ok(file);
                }
                if let Some(error) = &inner.failed {
                    return Err(error.clone());
                }
                if inner.closed || (inner.closing && inner.full) {
                    let path = std::path::Path::new("wal");
                    return Err(DiskError::new(
                        DiskErrorKind::NoSpace,
                        "next file",
                        path,
                        "closed while it was full",
                    ));
                }
            }
            self.want(number, need, need, Filling::Zeros);
            changed.await;
        }
    }

    /// Keeps a dead file to recycle it. False when it is not wanted.
    pub fn keep_spare(&self, number: u64, file: &WalFile, settings: &LogSettings) -> bool {
        let mut inner = self.inner.lock();
        if inner.spare.is_some() || file.len < settings.wal_file_bytes_min {
            return false;
        }
        inner.spare = Some((number, file.clone()));
        true
    }

    /// From now on nobody waits for room on the disk.
    pub fn closing(&self) {
        self.inner.lock().closing = true;
        self.changed.notify_waiters();
    }

    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.wanted.notify_one();
        self.changed.notify_waiters();
    }
}

/// The task that makes files ready.
pub async fn prepare_files(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let next = &strong.directory().next_file;
        let (wanted, closed) = {
            let mut inner = next.inner.lock();
            let inner = &mut *inner;
            if let Some(wanted) = inner.wanted {
                let good =
                    |(number, file): &(u64, WalFile)| *number == wanted.number && file.len >= wanted.need;
                match inner.ready.as_ref().is_some_and(good) {
                    true => inner.wanted = None,
                    // Too short for what came. It goes in the same breath as it is looked at, so that nobody is
                    // handed the file that we are about to replace.
                    false => inner.ready = None,
                }
            }
            (inner.wanted, inner.closed)
        };
        if closed {
            return;
        }
        let Some(wanted) = wanted else {
            next.wanted.notified().await;
            continue;
        };
        match make(&strong, wanted).await {
            Ok(file) => {
                let mut inner = next.inner.lock();
                assert!(inner.taken < wanted.number, "WAL file {} was made anew while in use", wanted.number);
                inner.full = false;
                // Long enough also for what was asked for meanwhile: it is made once.
                inner.wanted = inner.wanted.filter(|now| now.number != wanted.number || now.need > file.len);
                inner.ready = Some((wanted.number, file));
                drop(inner);
                next.changed.notify_waiters();
                strong.set_state(LogState::Running);
            }
            Err(error) if error.kind == DiskErrorKind::NoSpace => {
                strong.set_state(LogState::Full);
                next.inner.lock().full = true;
                next.changed.notify_waiters();
                // Room comes from dead files, among others.
                strong.wake.notify_one();
                drop(strong);
                task::sleep(FULL_RETRY).await;
            }
            Err(error) => {
                next.inner.lock().failed = Some(error);
                next.changed.notify_waiters();
                return;
            }
        }
    }
}

async fn make(shared: &Shared, wanted: Wanted) -> Result<WalFile, DiskError> {
    let directory = shared.directory();
    let (disk, dir) = (&directory.disk, &directory.wal_dir);
    let sync_dir = !shared.settings.skips_directory_sync();
    let in_use = directory.files.lock().contains_key(&wanted.number);
    assert!(!in_use, "WAL file {} is in use and would be replaced", wanted.number);
    let need = wanted.need.max(PAGE).next_power_of_two();
    let spare = directory.next_file.inner.lock().spare.take();
    if let Some((old, file)) = spare {
        if file.len >= need {
            shared.counters.wal_files_recycled.fetch_add(1, Ordering::Relaxed);
            let len = file.len;
            drop(file);
            return wal::recycle(disk, dir, old, wanted.number, len, sync_dir).await;
        }
        drop(file);
        disk.remove(&dir.join(wal::file_name(old))).await?;
    }
    let space = disk.space(dir).await?;
    let reserve = shared.settings.reserve_bytes.min(space.total_bytes / RESERVE_PART);
    let free = space.free_bytes.saturating_sub(reserve);
    // Shorter files where there is little room, so that the reserve is met late.
    let mut len = wanted.len.next_power_of_two().max(need);
    while len > free / 2 && len / 2 >= need.max(SMALLEST_FILE_BYTES.min(shared.settings.wal_file_bytes_min)) {
        len /= 2;
    }
    if len > free {
        return Err(DiskError::new(DiskErrorKind::NoSpace, "next file", dir, "only the reserve is left"));
    }
    let in_a_hurry = || directory.current_room.load(Ordering::Acquire) < len / HURRY_PART;
    wal::prepare(disk, dir, wanted.number, len, wanted.filling, sync_dir, in_a_hurry).await
}
