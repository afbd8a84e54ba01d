//! Blocks of segments in a directory: what was fetched once is not paid for again, also after a restart. Nothing rests on it: what is
//! damaged there, cannot be read or has no room is fetched from the bucket as if there were no directory.
//!
//! ```text
//! DIR/lock                                               one broker has it
//! DIR/<sequence: 16 hex>-<segment: 32 hex>-<block: 8 hex>.block      a header, then up to 1 MiB of the segment's object
//! ```
//!
//! The names are the index, so a start reads the list and no file. A file counts when header and content fit the hash in it, and is
//! never synced: what a power cut leaves of one does not fit. Slots of WALs are not kept, they live for minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use world::collections::HashMap;
use world::disk::{Disk, DiskError, DiskLock, OpenMode};
use world::task::{self, Instant};

use crate::encoding::{Decoder, Encoder, FormatError, Hash, hash};
use crate::segment::SegmentId;

const MAGIC: [u8; 8] = *b"OTTLABLK";
const VERSION: u16 = 1;
const WHAT: &str = "a block of the cache";
const HEADER_LEN: usize = 72;
const SUFFIX: &str = ".block";
/// Files take whole blocks of the file system.
const GRAIN_BYTES: u64 = 4096;
/// Files at most: each takes about 150 bytes of memory.
const FILES_MAX: usize = 1 << 20;
/// What was fetched with one request is written as one thing; so many are written at a time, and what comes meanwhile is not kept.
const WRITES_MAX: usize = 4;
/// After a write that failed none is tried for so long: a full disk does not get emptier by that.
const WRITE_PAUSE: Duration = Duration::from_secs(10);
/// Between two tries to open a directory that is in use, or cannot be read.
const OPEN_PAUSE: Duration = Duration::from_secs(10);

/// Where blocks are kept.
#[derive(Clone)]
pub struct BlockDirectory {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    /// Of all files together.
    pub bytes_max: u64,
}

#[derive(Debug, Default)]
pub struct BlockFileCounters {
    /// Blocks that were found here, and that were not.
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    /// Blocks written.
    pub writes: AtomicU64,
    /// Of these, those that went again for others.
    pub evictions: AtomicU64,
    /// Files that did not have what was written into them.
    pub damaged: AtomicU64,
    /// Operations of the disk that failed.
    pub errors: AtomicU64,
}

pub struct BlockFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Of the cluster: another one's segments may have the same ids.
    owner: Hash,
    bytes_max: u64,
    /// None before the directory is open, and after the end.
    lock: Mutex<Option<Arc<DiskLock>>>,
    is_closed: AtomicBool,
    inner: Mutex<Inner>,
    pub counters: BlockFileCounters,
}

/// A block of a segment.
type Place = (SegmentId, u64);

#[derive(Default)]
struct Inner {
    /// Files by their sequence numbers.
    files: BTreeMap<u64, BlockFile>,
    by_place: HashMap<Place, u64>,
    /// When each was used last, and its sequence number.
    by_use: BTreeSet<(u64, u64)>,
    /// Being written. One that is not in here any more when it is there is not wanted.
    writing: BTreeSet<Place>,
    writers: usize,
    /// With what is being written.
    bytes: u64,
    /// Grows with every use.
    now: u64,
    next_sequence: u64,
    no_writes_before: Option<Instant>,
}

struct BlockFile {
    place: Place,
    bytes: u64,
    used_at: u64,
}

impl BlockFiles {
    /// Opens the directory in the background: nobody waits for a cache.
    pub fn open(directory: BlockDirectory, cluster_id: &str) -> Arc<Self> {
        let BlockDirectory { disk, dir, bytes_max } = directory;
        let files = Arc::new(Self {
            disk,
            dir,
            owner: hash(cluster_id.as_bytes()),
            bytes_max,
            lock: Mutex::default(),
            is_closed: AtomicBool::new(false),
            inner: Mutex::default(),
            counters: BlockFileCounters::default(),
        });
        task::spawn(open(Arc::downgrade(&files)));
        files
    }

    async fn try_open(&self) -> Result<(), DiskError> {
        self.disk.create_dir_all(&self.dir).await?;
        let lock = self.disk.lock(&self.dir.join("lock")).await?;
        let listed = self.disk.list(&self.dir).await?;
        {
            let mut inner = self.inner.lock();
            *inner = Inner::default();
            for entry in listed {
                if let Some((sequence, place)) = named(&entry.name) {
                    inner.insert(sequence, place, taken(entry.len));
                    inner.next_sequence = inner.next_sequence.max(sequence + 1);
                }
            }
            // Several of one block, of a start that was cut off: the newest is found.
        }
        if !self.is_closed.load(Ordering::Acquire) {
            *self.lock.lock() = Some(Arc::new(lock));
        }
        // The bound may be lower than it was.
        self.make_room(0).await;
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.lock.lock().is_some()
    }

    /// Nothing is written from here on, and somebody else may have the directory.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.lock.lock().take();
    }

    /// Bytes of files, and their bound.
    pub fn bytes(&self) -> (u64, u64) {
        (self.inner.lock().bytes, self.bytes_max)
    }

    /// A block, if it is here and as it was written.
    pub async fn get(&self, id: &SegmentId, number: u64) -> Option<Bytes> {
        if !self.is_open() {
            return None;
        }
        let found = self.inner.lock().use_now(&(*id, number));
        let Some(sequence) = found else {
            self.counters.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        match self.read(sequence, (*id, number)).await {
            Ok(Ok(bytes)) => {
                self.counters.hits.fetch_add(1, Ordering::Relaxed);
                return Some(bytes);
            }
            // It went to make room a moment ago.
            Err(error) if error.is_not_found() => {}
            Err(error) => self.failed(&error),
            Ok(Err(error)) => {
                self.counters.damaged.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    "{}: {error}: it is fetched from the bucket",
                    self.path(sequence, *id, number).display()
                );
            }
        }
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        self.inner.lock().doom(sequence);
        self.remove(sequence).await;
        None
    }

    async fn read(&self, sequence: u64, place: Place) -> Result<Result<Bytes, FormatError>, DiskError> {
        let file = self.disk.open(&self.path(sequence, place.0, place.1), OpenMode::Read).await?;
        // Longer than that is none of ours.
        let bytes = file.read_at(0, HEADER_LEN + super::blocks::BLOCK_BYTES as usize + 1).await?;
        Ok(self.decode(place, bytes))
    }

    /// Blocks in a row that were fetched with one request, from this one on. The last one is short only where the object ends.
    pub fn put(self: &Arc<Self>, id: &SegmentId, first: u64, bytes: &Bytes, block_bytes: usize) {
        let Some(lock) = self.lock.lock().clone() else { return };
        {
            let mut inner = self.inner.lock();
            let is_paused = inner.no_writes_before.is_some_and(|until| task::now() < until);
            if is_paused || inner.writers >= WRITES_MAX {
                return;
            }
            inner.writers += 1;
        }
        let (files, id, bytes) = (self.clone(), *id, bytes.clone());
        task::spawn(async move {
            for (at, from) in (0..bytes.len()).step_by(block_bytes).enumerate() {
                let block = bytes.slice(from..bytes.len().min(from + block_bytes));
                if files.is_closed.load(Ordering::Acquire)
                    || !files.write((id, first + at as u64), block).await
                {
                    break;
                }
            }
            files.inner.lock().writers -= 1;
            // Until here nobody else may have the directory.
            drop(lock);
        });
    }

    /// False: that is enough for now.
    async fn write(&self, place: Place, block: Bytes) -> bool {
        {
            let mut inner = self.inner.lock();
            if inner.by_place.contains_key(&place) || !inner.writing.insert(place) {
                return true;
            }
        }
        let bytes = taken((HEADER_LEN + block.len()) as u64);
        if !self.make_room(bytes).await {
            self.inner.lock().writing.remove(&place);
            return false;
        }
        let sequence = {
            let mut inner = self.inner.lock();
            inner.next_sequence += 1;
            inner.next_sequence - 1
        };
        let header = self.header(place, &block);
        let path = self.path(sequence, place.0, place.1);
        let written = async {
            let file = self.disk.open(&path, OpenMode::CreateNew).await?;
            file.write_at(0, vec![header, block]).await
        };
        let written = written.await;
        let is_wanted = {
            let mut inner = self.inner.lock();
            // From here on it is counted as a file.
            inner.bytes -= bytes;
            inner.insert(sequence, place, bytes);
            let is_wanted = inner.writing.remove(&place) && written.is_ok();
            if !is_wanted {
                inner.doom(sequence);
            }
            if written.is_err() {
                inner.no_writes_before = Some(task::now() + WRITE_PAUSE);
            }
            is_wanted
        };
        if let Err(error) = &written {
            self.failed(error);
        }
        if is_wanted {
            self.counters.writes.fetch_add(1, Ordering::Relaxed);
        } else {
            self.remove(sequence).await;
        }
        written.is_ok()
    }

    /// What came from there, or went there, was not what was stored.
    pub fn distrust(self: &Arc<Self>, id: &SegmentId, number: u64) {
        let place = (*id, number);
        let sequence = {
            let mut inner = self.inner.lock();
            inner.writing.remove(&place);
            let Some(sequence) = inner.by_place.get(&place).copied() else { return };
            inner.doom(sequence);
            sequence
        };
        let files = self.clone();
        task::spawn(async move { files.remove(sequence).await });
    }

    /// Takes so many bytes, for which the files go that were not used for longest. False: that cannot be.
    async fn make_room(&self, bytes: u64) -> bool {
        loop {
            let oldest = {
                let mut inner = self.inner.lock();
                if inner.bytes + bytes <= self.bytes_max && inner.files.len() < FILES_MAX {
                    inner.bytes += bytes;
                    return true;
                }
                let Some((_, oldest)) = inner.by_use.first().copied() else { return false };
                inner.doom(oldest);
                oldest
            };
            if !self.remove(oldest).await {
                return false;
            }
            self.counters.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One that nobody finds any more. False: it stays, and counts.
    async fn remove(&self, sequence: u64) -> bool {
        let place = self.inner.lock().files.get(&sequence).map(|file| file.place);
        let Some((id, number)) = place else { return true };
        match self.disk.remove(&self.path(sequence, id, number)).await {
            Err(error) if !error.is_not_found() => {
                self.failed(&error);
                self.inner.lock().no_writes_before = Some(task::now() + WRITE_PAUSE);
                false
            }
            _ => {
                self.inner.lock().forget(sequence);
                true
            }
        }
    }

    fn failed(&self, error: &DiskError) {
        let before = self.counters.errors.fetch_add(1, Ordering::Relaxed);
        match before {
            0 => tracing::warn!("the cache of blocks: {error}; the bucket has everything"),
            _ => tracing::debug!("the cache of blocks: {error}"),
        }
    }

    fn path(&self, sequence: u64, id: SegmentId, number: u64) -> PathBuf {
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(format!("{sequence:016x}-{id}-{number:08x}{SUFFIX}"))
    }

    fn header(&self, (id, number): Place, block: &Bytes) -> Bytes {
        let mut out = Encoder::with_capacity(HEADER_LEN);
        out.raw(&MAGIC);
        out.u16(VERSION);
        out.u16(0);
        out.u32(block.len() as u32);
        out.raw(&self.owner);
        out.raw(&id);
        out.u64(number);
        let fits = checksum(out.as_slice(), block);
        out.raw(&fits);
        out.into_vec().into()
    }

    fn decode(&self, (id, number): Place, bytes: Bytes) -> Result<Bytes, FormatError> {
        let mut input = Decoder::new(&bytes, WHAT);
        if input.array::<8>()? != MAGIC {
            return Err(FormatError::Magic { what: WHAT });
        }
        let version = input.u16()?;
        if version != VERSION {
            return Err(FormatError::Version { what: WHAT, version });
        }
        input.u16()?;
        let len = input.u32()? as usize;
        let found = (input.array::<16>()?, input.array::<16>()?, input.u64()?);
        let stored = input.array::<16>()?;
        let block = bytes.slice(HEADER_LEN..);
        if block.len() != len || checksum(&bytes[..HEADER_LEN - stored.len()], &block) != stored {
            return Err(FormatError::Checksum { what: WHAT });
        }
        match found == (self.owner, id, number) {
            true => Ok(block),
            false => Err(FormatError::Inconsistent { what: WHAT, detail: "it belongs elsewhere".into() }),
        }
    }
}

fn checksum(header: &[u8], block: &[u8]) -> Hash {
    let content = hash(block);
    hash(&[header, &content].concat())
}

/// What a file of this length takes.
fn taken(len: u64) -> u64 {
    len.div_ceil(GRAIN_BYTES) * GRAIN_BYTES
}

/// Other files are none of ours, and stay.
fn named(name: &str) -> Option<(u64, Place)> {
    let mut parts = name.strip_suffix(SUFFIX)?.split('-');
    let (sequence, id, number) = (parts.next()?, parts.next()?, parts.next()?);
    if (sequence.len(), id.len(), number.len(), parts.next()) != (16, 32, 8, None) {
        return None;
    }
    let number = u64::from_str_radix(number, 16).ok()?;
    let id = u128::from_str_radix(id, 16).ok()?.to_be_bytes();
    Some((u64::from_str_radix(sequence, 16).ok()?, (id, number)))
}

impl Inner {
    /// A file that is there. Until somebody uses it, it is as old as its sequence number says.
    fn insert(&mut self, sequence: u64, place: Place, bytes: u64) {
        self.now += 1;
        let used_at = self.now;
        self.files.insert(sequence, BlockFile { place, bytes, used_at });
        self.by_use.insert((used_at, sequence));
        self.by_place.insert(place, sequence);
        self.bytes += bytes;
    }

    fn use_now(&mut self, place: &Place) -> Option<u64> {
        let sequence = *self.by_place.get(place)?;
        self.now += 1;
        self.used_at(sequence, self.now);
        Some(sequence)
    }

    fn used_at(&mut self, sequence: u64, used_at: u64) {
        if let Some(file) = self.files.get_mut(&sequence) {
            self.by_use.remove(&(file.used_at, sequence));
            file.used_at = used_at;
            self.by_use.insert((used_at, sequence));
        }
    }

    /// Nobody finds it any more, and it is the next to go.
    fn doom(&mut self, sequence: u64) {
        let Some(place) = self.files.get(&sequence).map(|file| file.place) else { return };
        if self.by_place.get(&place) == Some(&sequence) {
            self.by_place.remove(&place);
        }
        self.used_at(sequence, 0);
    }

    /// It is gone.
    fn forget(&mut self, sequence: u64) {
        if let Some(file) = self.files.remove(&sequence) {
            self.by_use.remove(&(file.used_at, sequence));
            if self.by_place.get(&file.place) == Some(&sequence) {
                self.by_place.remove(&file.place);
            }
            self.bytes -= file.bytes;
        }
    }
}

/// The task: until the directory is open.
async fn open(files: Weak<BlockFiles>) {
    let mut is_said = false;
    loop {
        {
            let Some(files) = files.upgrade() else { return };
            if files.is_closed.load(Ordering::Acquire) {
                return;
            }
            match files.try_open().await {
                Ok(()) => return,
                Err(error) => {
                    files.counters.errors.fetch_add(1, Ordering::Relaxed);
                    if !std::mem::replace(&mut is_said, true) {
                        tracing::warn!("bucket.cache.dir is not used until it can be: {error}");
                    }
                }
            }
        }
        task::sleep(OPEN_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use world::bucket::{Bucket, MemBucket};
    use world::disk::MemDisk;

    use super::super::blocks::{BLOCK_BYTES, Blocks, Home, Object};
    use super::super::folder::segment_key;
    use super::*;

    const ID: SegmentId = [3; 16];
    const DIR: &str = "/cache";
    const BLOCK_FILE: u64 = BLOCK_BYTES + GRAIN_BYTES;

    /// A store with one segment of so many blocks and a little more, and a disk beside.
    struct World {
        store: MemBucket,
        disk: Arc<MemDisk>,
        content: Bytes,
    }

    /// A broker's memory of blocks over its directory.
    struct Reader {
        blocks: Arc<Blocks>,
        files: Arc<BlockFiles>,
        bucket: Arc<dyn Bucket>,
        content: Bytes,
    }

    impl World {
        async fn new(blocks: u64) -> World {
            let store = MemBucket::new(1);
            let content: Bytes = (0..blocks * BLOCK_BYTES + 77).map(|at| (at / 997) as u8).collect();
            store.put(&segment_key(&ID), content.clone()).await.unwrap();
            World { store, disk: MemDisk::new(1), content }
        }

        /// One that has next to nothing in memory.
        async fn reader(&self, blocks: u64, cluster: &str) -> Reader {
            let directory =
                BlockDirectory { disk: self.disk.clone(), dir: DIR.into(), bytes_max: blocks * BLOCK_FILE };
            let files = BlockFiles::open(directory, cluster);
            task::sleep(Duration::from_millis(1)).await;
            let blocks = Blocks::new(0, 4 * BLOCK_BYTES as usize, Duration::from_secs(10));
            let blocks = Arc::new(blocks.with_files(Some(files.clone())));
            let bucket: Arc<dyn Bucket> = Arc::new(self.store.clone());
            Reader { blocks, files, bucket, content: self.content.clone() }
        }

        fn gets(&self) -> u64 {
            self.store.counters().gets.load(Ordering::Relaxed)
        }

        fn block_files(&self) -> Vec<PathBuf> {
            let all = self.disk.files().into_iter();
            all.filter(|path| path.extension().is_some_and(|extension| extension == "block")).collect()
        }
    }

    impl Reader {
        /// Reads the block and compares it; what is to be written is there afterwards.
        async fn read(&self, number: u64) {
            let object = Object { home: Home::Segment(ID), len: None };
            let read =
                self.blocks.read(&self.bucket, object, number * BLOCK_BYTES, BLOCK_BYTES).await.unwrap();
            let from = (number * BLOCK_BYTES) as usize;
            assert!(read == self.content.slice(from..self.content.len().min(from + BLOCK_BYTES as usize)));
            task::sleep(Duration::from_millis(1)).await;
        }

        fn counted(&self, counter: impl Fn(&BlockFileCounters) -> &AtomicU64) -> u64 {
            counter(&self.files.counters).load(Ordering::Relaxed)
        }
    }

    fn run(story: impl Future<Output = ()>) {
        world::task::deterministic(1);
        world::task::paused_runtime().block_on(story);
    }

    #[test]
    fn what_was_fetched_once_is_not_fetched_again_also_after_a_restart() {
        run(async {
            let world = World::new(3).await;
            let first = world.reader(8, "a").await;
            for number in [0, 1, 2, 3, 0, 3] {
                first.read(number).await;
            }
            assert_eq!((world.gets(), first.counted(|counters| &counters.hits)), (4, 2));
            first.files.close();
            world.disk.kill();
            let again = world.reader(8, "a").await;
            // All of it as one piece, as who reads ahead asks for it, with a hole in the middle.
            again.files.distrust(&ID, 1);
            let object = Object { home: Home::Segment(ID), len: Some(world.content.len() as u64) };
            let mut read = Vec::new();
            while read.len() < world.content.len() {
                let step =
                    again.blocks.read(&again.bucket, object, read.len() as u64, 300_000).await.unwrap();
                read.extend_from_slice(&step);
                task::sleep(Duration::from_millis(1)).await;
            }
            assert!(read == world.content);
            assert_eq!(world.gets(), 5, "the one that was not trusted");
            assert_eq!(again.files.bytes().0, 3 * BLOCK_FILE + GRAIN_BYTES);
            again.files.close();
            world.disk.kill();
            // Another cluster may have a segment of the same name.
            let stranger = world.reader(8, "b").await;
            stranger.read(0).await;
            assert_eq!((world.gets(), stranger.counted(|counters| &counters.damaged)), (6, 1));
        });
    }

    #[test]
    fn damage_is_never_served() {
        run(async {
            let world = World::new(1).await;
            let reader = world.reader(8, "a").await;
            reader.read(0).await;
            for (round, offset) in
                [0, 9, 12, 20, 40, 50, 60, 71, 72, 500_000, BLOCK_BYTES + 71].iter().enumerate()
            {
                let file = world.block_files().pop().expect("it was written");
                world.disk.flip_bit(&file, *offset, 3);
                reader.read(0).await;
                assert_eq!(reader.counted(|counters| &counters.damaged), round as u64 + 1, "byte {offset}");
                assert_eq!(world.gets(), round as u64 + 2);
            }
            for len in [0, 71, 72, BLOCK_BYTES] {
                world.disk.truncate(&world.block_files().pop().unwrap(), len);
                reader.read(0).await;
            }
            assert_eq!(reader.counted(|counters| &counters.damaged), 15);
            reader.read(0).await;
            assert_eq!(reader.counted(|counters| &counters.hits), 1);
            // It cannot be read, or is gone.
            world.disk.set_faults(world::disk::MemFaults { fail_read_at: Some(1), ..Default::default() });
            reader.read(0).await;
            let file = world.block_files().pop().unwrap();
            world.disk.remove(&file).await.unwrap();
            reader.read(0).await;
            assert_eq!(reader.counted(|counters| &counters.errors), 1);
            assert_eq!(world.block_files().len(), 1);
        });
    }

    #[test]
    fn it_keeps_its_bound_and_what_was_used_last() {
        run(async {
            let world = World::new(10).await;
            world.disk.create_dir_all(Path::new(DIR)).await.unwrap();
            let foreign = Path::new(DIR).join("notes-of-mine.block");
            world.disk.open(&foreign, OpenMode::CreateNew).await.unwrap();
            let reader = world.reader(4, "a").await;
            for number in [0, 1, 2, 3, 0, 4, 5, 0, 6] {
                reader.read(number).await;
                let (bytes, max) = reader.files.bytes();
                assert!(bytes <= max && world.block_files().len() <= 5, "{bytes}");
            }
            assert_eq!((world.gets(), reader.counted(|counters| &counters.evictions)), (7, 3));
            for number in [0, 4, 5, 6] {
                reader.read(number).await;
            }
            assert_eq!(world.gets(), 7, "these four are there");
            // A start with a lower bound.
            reader.files.close();
            world.disk.kill();
            let smaller = world.reader(2, "a").await;
            assert_eq!(smaller.files.bytes().0, 2 * BLOCK_FILE);
            assert!(world.disk.content(&foreign).is_some(), "not ours");
        });
    }

    #[test]
    fn a_full_disk_is_no_error_and_leaves_nothing_behind() {
        run(async {
            let world = World::new(6).await;
            world.disk.set_capacity_bytes(2 * BLOCK_BYTES + BLOCK_BYTES / 2);
            let reader = world.reader(100, "a").await;
            for number in 0..6 {
                reader.read(number).await;
            }
            assert_eq!(reader.counted(|counters| &counters.errors), 1, "not one for each block");
            assert_eq!((world.block_files().len(), reader.files.bytes().0), (2, 2 * BLOCK_FILE));
            world.disk.set_capacity_bytes(100 * BLOCK_BYTES);
            reader.read(5).await;
            assert_eq!(world.block_files().len(), 2);
            task::sleep(WRITE_PAUSE).await;
            reader.read(5).await;
            assert_eq!(world.block_files().len(), 3);
        });
    }

    #[test]
    fn a_directory_is_one_broker_s() {
        run(async {
            let world = World::new(1).await;
            let first = world.reader(8, "a").await;
            let second = world.reader(8, "a").await;
            first.read(0).await;
            second.read(0).await;
            assert_eq!(world.gets(), 2);
            first.files.close();
            task::sleep(OPEN_PAUSE).await;
            second.read(0).await;
            assert_eq!((world.gets(), second.counted(|counters| &counters.hits)), (2, 1));
            first.read(1).await;
            assert_eq!(world.block_files().len(), 1, "the first writes nothing any more");
        });
    }
}
