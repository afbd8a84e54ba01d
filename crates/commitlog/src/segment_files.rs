//! The segments that are in use: how much of each is still read, and, in a directory, the open files of those read lately.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use world::disk::{Disk, DiskError, File, OpenMode};

use crate::extent::SegmentPlace;
use crate::segment::{SegmentId, SegmentInfo, file_name};

/// Files kept open; the one not read for longest is closed first.
const OPEN_FILES_MAX: usize = 256;

pub struct SegmentFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    pub uses: SegmentUses,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    files: BTreeMap<SegmentId, (u64, Arc<dyn File>)>,
    reads: u64,
}

/// How much of each segment is still read.
#[derive(Default)]
pub struct SegmentUses {
    inner: Mutex<BTreeMap<SegmentId, Use>>,
}

struct Use {
    info: Arc<SegmentInfo>,
    live_bytes: u64,
}

impl SegmentUses {
    pub fn hold(&self, place: &SegmentPlace, len: u64) {
        let fresh = || Use { info: place.segment.clone(), live_bytes: 0 };
        self.inner.lock().entry(place.segment.id).or_insert_with(fresh).live_bytes += len;
    }

    pub fn release(&self, place: &SegmentPlace, len: u64) {
        let mut inner = self.inner.lock();
        let used = inner.get_mut(&place.segment.id).expect("a released piece was held");
        used.live_bytes = used.live_bytes.checked_sub(len).expect("a piece is released once");
    }

    /// Is a piece of it still read?
    pub fn is_live(&self, id: &SegmentId) -> bool {
        self.inner.lock().get(id).is_some_and(|used| used.live_bytes > 0)
    }

    /// The segment of which the smallest part is still read, if that is less than half.
    pub fn mostly_dead(&self) -> Option<Arc<SegmentInfo>> {
        let inner = self.inner.lock();
        let half_dead = |used: &&Use| used.live_bytes > 0 && used.live_bytes * 2 < used.info.payload_len;
        let part = |used: &&Use| used.live_bytes * 1000 / used.info.payload_len.max(1);
        inner.values().filter(half_dead).min_by_key(part).map(|used| used.info.clone())
    }

    /// The segment is gone.
    pub fn forget(&self, id: &SegmentId) {
        let forgotten = self.inner.lock().remove(id);
        assert!(forgotten.is_none_or(|used| used.live_bytes == 0), "segment {id:02x?} goes while it is read");
    }

    /// Segments, their bytes, and how many of those are still read.
    pub fn totals(&self) -> (u64, u64, u64) {
        let inner = self.inner.lock();
        let bytes = inner.values().map(|used| used.info.len).sum();
        let live = inner.values().map(|used| used.live_bytes).sum();
        (inner.len() as u64, bytes, live)
    }
}

impl SegmentFiles {
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, uses: SegmentUses::default(), open: Mutex::default() }
    }

    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    pub async fn open(&self, id: &SegmentId) -> Result<Arc<dyn File>, DiskError> {
        {
            let mut open = self.open.lock();
            open.reads += 1;
            let now = open.reads;
            if let Some((last, file)) = open.files.get_mut(id) {
                *last = now;
                return Ok(file.clone());
            }
        }
        let file = self.disk.open(&self.dir.join(file_name(id)), OpenMode::Read).await?;
        let mut open = self.open.lock();
        let now = open.reads;
        open.files.insert(*id, (now, file.clone()));
        if open.files.len() > OPEN_FILES_MAX {
            let oldest = open.files.iter().min_by_key(|(_, (last, _))| *last).map(|(id, _)| *id);
            oldest.and_then(|id| open.files.remove(&id));
        }
        Ok(file)
    }

    /// The file is gone.
    pub fn forget(&self, id: &SegmentId) {
        self.open.lock().files.remove(id);
        self.uses.forget(id);
    }
}
