//! The segments that are in use: how much of each is still read, and the open files of those read lately.

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
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    uses: BTreeMap<SegmentId, Use>,
    open: BTreeMap<SegmentId, (u64, Arc<dyn File>)>,
    reads: u64,
}

struct Use {
    info: Arc<SegmentInfo>,
    live_bytes: u64,
}

impl SegmentFiles {
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, inner: Mutex::default() }
    }

    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    pub fn hold(&self, place: &SegmentPlace, len: u64) {
        let mut inner = self.inner.lock();
        let fresh = || Use { info: place.segment.clone(), live_bytes: 0 };
        inner.uses.entry(place.segment.id).or_insert_with(fresh).live_bytes += len;
    }

    pub fn release(&self, place: &SegmentPlace, len: u64) {
        let mut inner = self.inner.lock();
        let used = inner.uses.get_mut(&place.segment.id).expect("a released piece was held");
        used.live_bytes = used.live_bytes.checked_sub(len).expect("a piece is released once");
    }

    pub async fn open(&self, id: &SegmentId) -> Result<Arc<dyn File>, DiskError> {
        {
            let mut inner = self.inner.lock();
            inner.reads += 1;
            let now = inner.reads;
            if let Some((last, file)) = inner.open.get_mut(id) {
                *last = now;
                return Ok(file.clone());
            }
        }
        let file = self.disk.open(&self.dir.join(file_name(id)), OpenMode::Read).await?;
        let mut inner = self.inner.lock();
        let now = inner.reads;
        inner.open.insert(*id, (now, file.clone()));
        if inner.open.len() > OPEN_FILES_MAX {
            let oldest = inner.open.iter().min_by_key(|(_, (last, _))| *last).map(|(id, _)| *id);
            oldest.and_then(|id| inner.open.remove(&id));
        }
        Ok(file)
    }

    /// Is a piece of it still read?
    pub fn is_live(&self, id: &SegmentId) -> bool {
        self.inner.lock().uses.get(id).is_some_and(|used| used.live_bytes > 0)
    }

    /// The segment of which the smallest part is still read, if that is less than half.
    pub fn mostly_dead(&self) -> Option<Arc<SegmentInfo>> {
        let inner = self.inner.lock();
        let half_dead = |used: &&Use| used.live_bytes > 0 && used.live_bytes * 2 < used.info.payload_len;
        let part = |used: &&Use| used.live_bytes * 1000 / used.info.payload_len.max(1);
        inner.uses.values().filter(half_dead).min_by_key(part).map(|used| used.info.clone())
    }

    /// The file is gone.
    pub fn forget(&self, id: &SegmentId) {
        let mut inner = self.inner.lock();
        inner.open.remove(id);
        let forgotten = inner.uses.remove(id);
        assert!(forgotten.is_none_or(|used| used.live_bytes == 0), "segment {id:02x?} goes while it is read");
    }

    /// Segments, their bytes, and how many of those are still read.
    pub fn totals(&self) -> (u64, u64, u64) {
        let inner = self.inner.lock();
        let bytes = inner.uses.values().map(|used| used.info.len).sum();
        let live = inner.uses.values().map(|used| used.live_bytes).sum();
        (inner.uses.len() as u64, bytes, live)
    }
}
