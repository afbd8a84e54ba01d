//! Where the log lies: in files of a directory, or in objects of a bucket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::TopicIdPartition;
use world::disk::{Disk, DiskError, DiskErrorKind, File};

use crate::bucket::BucketMedium;
use crate::error::ReadError;
use crate::extent::{Extent, Source};
use crate::log::{LogCounters, Shared};
use crate::next_file::NextFile;
use crate::rewrite::SealedFile;
use crate::segment_files::SegmentFiles;
use crate::tier::Tier;
use crate::wal::{Files, file_name};

#[allow(clippy::large_enum_variant, reason = "a log has one of it")]
pub enum Medium {
    Directory(Directory),
    Bucket(BucketMedium),
}

impl Medium {
    /// The bytes of extents of one file (see [`read_together`](crate::extent::read_together)), unchecked. Large ones leave
    /// the page cache alone, `large_from` bytes on the average: filling it costs more processor time than all the rest.
    pub async fn read_extents(&self, together: &[Extent], large_from: u64) -> Result<Vec<Bytes>, ReadError> {
        match self {
            Medium::Directory(directory) => match together.first().and_then(Extent::tier) {
                Some(_) => directory.tier().read(together).await,
                None => directory.read_extents(together, large_from).await,
            },
            Medium::Bucket(bucket) => bucket.read_extents(together).await,
        }
    }

    /// Extents in pieces that one read takes, of those that reach `offset`; in a directory they are.
    pub async fn cut(
        &self,
        id: &TopicIdPartition,
        extents: Vec<Extent>,
        offset: i64,
    ) -> Result<Vec<Extent>, ReadError> {
        match self {
            Medium::Directory(_) => Ok(extents),
            Medium::Bucket(bucket) => bucket.cut(id, extents, offset).await,
        }
    }

    /// For the tasks that only a log in a bucket has.
    pub fn bucket(&self) -> &BucketMedium {
        match self {
            Medium::Bucket(bucket) => bucket,
            Medium::Directory(_) => unreachable!("a log in a directory has no task that works on objects"),
        }
    }

    /// Does somebody write down what changed in partitions? In a bucket the rewriter does, from the slots.
    pub fn has_checkpoints(&self) -> bool {
        matches!(self, Medium::Directory(_))
    }

    /// From now on nobody waits for room.
    pub fn closing(&self) {
        match self {
            Medium::Directory(directory) => directory.next_file.closing(),
            Medium::Bucket(bucket) => {
                if let Some(files) = bucket.blocks.files() {
                    files.close();
                }
            }
        }
    }

    /// The writer is gone.
    pub fn close(&self) {
        if let Medium::Directory(directory) = self {
            directory.next_file.close();
        }
    }

    /// What was read of it is not what was committed there.
    pub fn distrust(&self, extent: &Extent) {
        match self {
            Medium::Bucket(bucket) => bucket.distrust(extent),
            Medium::Directory(directory) if extent.tier().is_some() => directory.tier().distrust(extent),
            Medium::Directory(_) => {}
        }
    }

    /// In a bucket the manifest says what is used.
    pub fn hold(&self, extent: &Extent) {
        if let Medium::Directory(directory) = self {
            directory.hold(extent);
        }
    }

    /// Extents that nobody can reach any more: their files go when nothing is left in them.
    pub fn release(&self, extents: &[Extent]) {
        if let Medium::Directory(directory) = self {
            directory.release(extents);
        }
    }
}

pub struct Directory {
    pub disk: Arc<dyn Disk>,
    pub wal_dir: PathBuf,
    pub log_id: [u8; 16],
    pub files: Mutex<Files>,
    pub next_file: NextFile,
    /// Bytes left in the current file.
    pub current_room: AtomicU64,
    /// The file that takes chunks now; those below are sealed.
    pub current_file: AtomicU64,
    pub segments: SegmentFiles,
    /// There is one whenever a partition has something there: see `CommitLog::open`.
    pub tier: Option<Arc<Tier>>,
    /// What of each WAL file is still read.
    live: Mutex<BTreeMap<u64, Live>>,
}

/// What is still read of a WAL file.
#[derive(Clone, Copy, Debug, Default)]
struct Live {
    extents: u64,
    bytes: u64,
}

impl Directory {
    pub fn new(
        disk: Arc<dyn Disk>,
        dir: &std::path::Path,
        log_id: [u8; 16],
        tier: Option<Arc<Tier>>,
    ) -> Self {
        Self {
            tier,
            wal_dir: dir.join("wal"),
            log_id,
            files: Mutex::default(),
            next_file: NextFile::default(),
            current_room: AtomicU64::new(0),
            current_file: AtomicU64::new(0),
            segments: SegmentFiles::new(disk.clone(), dir.join("segments")),
            live: Mutex::default(),
            disk,
        }
    }

    pub fn is_tier_used(&self) -> bool {
        self.tier.as_ref().is_some_and(|tier| tier.uses.totals().0 > 0)
    }

    fn tier(&self) -> &Tier {
        self.tier.as_deref().expect("a log with something in the tier is opened with the tier")
    }

    fn wal_file(&self, number: u64) -> Result<Arc<dyn File>, ReadError> {
        let file = self.files.lock().get(&number).map(|file| file.file.clone());
        file.ok_or_else(|| {
            let path = self.wal_dir.join(file_name(number));
            DiskError::new(DiskErrorKind::NotFound, "read", &path, "no such WAL file").into()
        })
    }

    async fn read_extents(&self, together: &[Extent], large_from: u64) -> Result<Vec<Bytes>, ReadError> {
        let Some(first) = together.first() else { return Ok(Vec::new()) };
        let file = self.file_of(first).await?;
        let bytes: u64 = together.iter().map(|extent| extent.len).sum();
        let mut ranges: Vec<(u64, usize)> = Vec::new();
        for extent in together {
            match ranges.last_mut() {
                Some((from, len)) if *from + *len as u64 == extent.position() => *len += extent.len as usize,
                _ => ranges.push((extent.position(), extent.len as usize)),
            }
        }
        let read = match bytes / ranges.len() as u64 >= large_from {
            true => file.read_many_from_medium(ranges).await?,
            false => file.read_many(ranges).await?,
        };
        Ok(apart(together, read))
    }

    async fn file_of(&self, extent: &Extent) -> Result<Arc<dyn File>, ReadError> {
        match &extent.source {
            Source::Wal(place) => self.wal_file(place.file),
            Source::Segment(place) => Ok(self.segments.open(&place.segment.id).await?),
            Source::Tier(_) => unreachable!("the tier has no files"),
        }
    }

    fn hold(&self, extent: &Extent) {
        match &extent.source {
            Source::Wal(place) => {
                let mut live = self.live.lock();
                let live = live.entry(place.file).or_default();
                live.extents += 1;
                live.bytes += extent.len;
            }
            Source::Segment(place) => self.segments.uses.hold(place, extent.len),
            Source::Tier(place) => self.tier().uses.hold(place, extent.len),
        }
    }

    fn release(&self, extents: &[Extent]) {
        let mut live = self.live.lock();
        for extent in extents {
            match &extent.source {
                Source::Wal(place) => {
                    let live = live.get_mut(&place.file).expect("a released extent was held");
                    live.extents = live.extents.checked_sub(1).expect("an extent is released once");
                    live.bytes -= extent.len;
                }
                Source::Segment(place) => self.segments.uses.release(place, extent.len),
                Source::Tier(place) => self.tier().uses.release(place, extent.len),
            }
        }
    }

    /// WAL files that take no more chunks, oldest first.
    pub fn sealed(&self) -> Vec<SealedFile> {
        let current = self.current_file.load(Ordering::Acquire);
        let live = self.live.lock();
        let files = self.files.lock();
        let sealed = files.range(..current).map(|(number, file)| {
            let live = live.get(number).copied().unwrap_or_default();
            SealedFile { number: *number, len: file.len, live_bytes: live.bytes, live_extents: live.extents }
        });
        sealed.collect()
    }

    /// Sealed files below `first_needed` in which nothing lives.
    pub fn dead_files(&self, first_needed: u64) -> Vec<u64> {
        let live = self.live.lock();
        let dead = |file: &u64| live.get(file).is_none_or(|live| live.extents == 0);
        self.files.lock().keys().copied().take_while(|file| *file < first_needed).filter(dead).collect()
    }

    /// Gives dead files back: one is kept to be recycled as the next, the others are removed. A file that somebody
    /// still reads is left for the next time.
    pub async fn give_back(&self, dead: Vec<u64>, shared: &Shared) -> Result<(), DiskError> {
        let mut removed = false;
        for number in dead {
            let file = {
                let mut files = self.files.lock();
                match files.get(&number) {
                    Some(file) if Arc::strong_count(&file.file) == 1 => files.remove(&number),
                    _ => None,
                }
            };
            let Some(file) = file else { continue };
            self.live.lock().remove(&number);
            if !self.next_file.keep_spare(number, &file, &shared.settings) {
                drop(file);
                self.disk.remove(&self.wal_dir.join(file_name(number))).await?;
                removed = true;
            }
        }
        if removed {
            self.disk.sync_dir(&self.wal_dir).await?;
        }
        self.count_files(&shared.counters);
        Ok(())
    }

    pub fn count_files(&self, counters: &LogCounters) {
        let files = self.files.lock();
        counters.wal_files.store(files.len() as u64, Ordering::Relaxed);
        counters.wal_bytes.store(files.values().map(|file| file.len).sum(), Ordering::Relaxed);
    }
}

/// The bytes of each extent, out of those of neighbours that were read as one. What a file is too short for stays short.
fn apart(together: &[Extent], read: Vec<Bytes>) -> Vec<Bytes> {
    let mut read = read.into_iter();
    let mut rest = Bytes::new();
    let mut end = None;
    let mut own = Vec::with_capacity(together.len());
    for extent in together {
        if end != Some(extent.position()) {
            rest = read.next().expect("a range for each run of neighbours");
        }
        own.push(rest.split_to(rest.len().min(extent.len as usize)));
        end = Some(extent.position() + extent.len);
    }
    own
}
