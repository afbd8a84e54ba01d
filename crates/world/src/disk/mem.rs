//! A disk in memory that does what a real one may do, driven by a seed.
//!
//! Two images are kept: what programs see (the page cache) and what a power cut leaves for certain (synced). Between
//! them lies a list of unsynced writes and of unsynced directory changes. [`MemDisk::crash`] keeps a legal subset:
//!
//! - an unsynced write may be lost, kept, or torn at 512-byte or 4 KiB borders; any subset of its units may survive,
//!   independent of other writes (there is no barrier but a sync);
//! - an unsynced change of a directory (create, rename, remove) may be lost or kept; mostly the first n of a
//!   directory survive, as with a journal, sometimes any subset, which POSIX allows as well;
//! - after a failed sync, what it covered may be lost *even if a later sync succeeds*.
//!
//! Without a crash, [`MemDisk::kill`] models `kill -9`: all that was written stays, handles and locks are gone.
//!
//! Everything is deterministic on one thread: contents, faults, latencies (tokio time), and the trace hash.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::{
    DirEntry, Disk, DiskCounters, DiskError, DiskErrorKind, DiskFuture, DiskLock, File, OpenMode, Space,
    parent,
};
use crate::rng::{Rng, SeededRng};

const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: u64 = 512;
/// The readable trace keeps this many lines, for a test that failed.
const TRACE_LINES_MAX: usize = 20_000;

/// What goes wrong, and when. Numbers count from the call that sets them, the next operation being 1.
#[derive(Clone, Debug, Default)]
pub struct MemFaults {
    /// The n-th sync of a file's content fails; it is final for that file.
    pub fail_sync_at: Option<u64>,
    /// The n-th write fails with EIO and writes nothing.
    pub fail_write_at: Option<u64>,
    /// The n-th read fails with EIO.
    pub fail_read_at: Option<u64>,
    /// Writes that make files longer fail with ENOSPC once they would need more than this many bytes in all.
    pub no_space_after_bytes: Option<u64>,
    /// The power goes at the n-th operation that changes something: it and all later ones fail with `PowerLost`
    /// (a write may have reached the cache) until [`MemDisk::crash`].
    pub power_lost_at: Option<u64>,
    /// Each operation takes a random time in this range.
    pub latency: Option<(Duration, Duration)>,
}

pub struct MemDisk {
    state: Arc<Mutex<State>>,
    counters: Arc<DiskCounters>,
}

struct State {
    rng: SeededRng,
    capacity_bytes: u64,
    used_bytes: u64,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names that no directory sync has covered, oldest first.
    name_changes: Vec<NameChange>,
    dirs: BTreeMap<PathBuf, ()>,
    locks: BTreeMap<PathBuf, u64>,
    next_lock: u64,
    /// Grows with every crash or kill; handles of an older one are dead.
    incarnation: u64,
    power_lost: bool,
    faults: MemFaults,
    syncs: u64,
    writes: u64,
    reads: u64,
    changes: u64,
    trace_hash: u64,
    trace: Option<Vec<String>>,
}

#[derive(Default)]
struct Inode {
    live: Pages,
    durable: Pages,
    /// Unsynced changes, oldest first, with a number that grows.
    pending: Vec<Pending>,
    next_pending: u64,
    links: u32,
}

struct Pending {
    number: u64,
    change: Change,
    /// A sync that covered it failed: no later sync makes it durable.
    doomed: bool,
}

enum Change {
    Write { offset: u64, bytes: Bytes },
    Zeros { from: u64, to: u64 },
    SetLen(u64),
}

enum NameChange {
    Create { path: PathBuf, inode: u64 },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
    Remove { path: PathBuf },
}

impl NameChange {
    fn dirs(&self) -> (&Path, &Path) {
        match self {
            NameChange::Create { path, .. } | NameChange::Remove { path } => (parent(path), parent(path)),
            NameChange::Rename { from, to, .. } => (parent(from), parent(to)),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Create { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            NameChange::Rename { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            NameChange::Remove { path } => {
                names.remove(path);
            }
        }
    }
}

/// Bytes in pages; a missing page is zeros, so that filling files with zeros costs nothing.
#[derive(Clone, Default)]
struct Pages {
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
    len: u64,
}

impl Pages {
    fn write(&mut self, mut offset: u64, mut bytes: &[u8]) {
        self.len = self.len.max(offset + bytes.len() as u64);
        while !bytes.is_empty() {
            let (page, at) = (offset / PAGE_BYTES as u64, offset as usize % PAGE_BYTES);
            let step = bytes.len().min(PAGE_BYTES - at);
            let slot = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(slot)[at..at + step].copy_from_slice(&bytes[..step]);
            offset += step as u64;
            bytes = &bytes[step..];
        }
    }

    fn zero(&mut self, from: u64, to: u64) {
        self.len = self.len.max(to);
        self.clear(from, to);
    }

    fn clear(&mut self, from: u64, to: u64) {
        let page = PAGE_BYTES as u64;
        let touched: Vec<u64> =
            self.pages.range(from / page..to.div_ceil(page)).map(|(number, _)| *number).collect();
        for number in touched {
            let start = (number * page).max(from) - number * page;
            let end = ((number + 1) * page).min(to) - number * page;
            if start == 0 && end == page {
                self.pages.remove(&number);
            } else if let Some(slot) = self.pages.get_mut(&number) {
                Arc::make_mut(slot)[start as usize..end as usize].fill(0);
            }
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.clear(len, self.len.next_multiple_of(PAGE_BYTES as u64));
        }
        self.len = len;
    }

    fn read(&self, offset: u64, len: usize) -> Bytes {
        let end = self.len.min(offset.saturating_add(len as u64));
        if offset >= end {
            return Bytes::new();
        }
        let mut out = BytesMut::zeroed((end - offset) as usize);
        let page = PAGE_BYTES as u64;
        for (number, content) in self.pages.range(offset / page..end.div_ceil(page)) {
            let start = (number * page).max(offset);
            let stop = ((number + 1) * page).min(end);
            let source = &content[(start - number * page) as usize..(stop - number * page) as usize];
            out[(start - offset) as usize..(stop - offset) as usize].copy_from_slice(source);
        }
        out.freeze()
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes } => self.write(*offset, bytes),
            Change::Zeros { from, to } => self.zero(*from, *to),
            Change::SetLen(len) => self.set_len(*len),
        }
    }
}

impl MemDisk {
    /// An empty disk of 1 TiB.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Arc::new(Mutex::new(State {
                rng: SeededRng::new(seed),
                capacity_bytes: 1 << 40,
                used_bytes: 0,
                inodes: BTreeMap::new(),
                next_inode: 1,
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                name_changes: Vec::new(),
                dirs: BTreeMap::new(),
                locks: BTreeMap::new(),
                next_lock: 1,
                incarnation: 1,
                power_lost: false,
                faults: MemFaults::default(),
                syncs: 0,
                writes: 0,
                reads: 0,
                changes: 0,
                trace_hash: 0xcbf2_9ce4_8422_2325,
                trace: None,
            })),
            counters: Arc::default(),
        })
    }

    /// Replaces all faults and counts anew.
    pub fn set_faults(&self, faults: MemFaults) {
        let mut state = self.state.lock();
        state.faults = faults;
        state.syncs = 0;
        state.writes = 0;
        state.reads = 0;
        state.changes = 0;
    }

    pub fn set_capacity_bytes(&self, bytes: u64) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// Operations that changed something since the faults were set: the places where power can be lost.
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// A power cut and a restart: see the top of this file. All handles and locks are dead.
    pub fn crash(&self, seed: u64) {
        self.state.lock().crash(&SeededRng::new(seed));
    }

    /// `kill -9`: what was written stays, whether synced or not.
    pub fn kill(&self) {
        self.state.lock().restart();
    }

    /// The medium forgets: one bit of a file flips, in what is read and in what survives.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) {
        let mut state = self.state.lock();
        let inode = *state.names.get(path).unwrap_or_else(|| panic!("no file {}", path.display()));
        let inode = state.inodes.get_mut(&inode).expect("a name has an inode");
        assert!(offset < inode.live.len, "offset {offset} lies behind the end of {}", path.display());
        for pages in [&mut inode.live, &mut inode.durable] {
            if offset < pages.len {
                let byte = pages.read(offset, 1)[0] ^ (1 << (bit % 8));
                pages.write(offset, &[byte]);
            }
        }
    }

    /// The medium forgets the end of a file.
    pub fn truncate(&self, path: &Path, len: u64) {
        let mut state = self.state.lock();
        let inode = *state.names.get(path).unwrap_or_else(|| panic!("no file {}", path.display()));
        let inode = state.inodes.get_mut(&inode).expect("a name has an inode");
        inode.live.set_len(len.min(inode.live.len));
        inode.durable.set_len(len.min(inode.durable.len));
    }

    /// What a program would read, past all faults; `None` when there is no such file.
    pub fn content(&self, path: &Path) -> Option<Bytes> {
        let state = self.state.lock();
        let inode = state.inodes.get(state.names.get(path)?)?;
        Some(inode.live.read(0, inode.live.len as usize))
    }

    /// All files, ordered by path.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// Equal for two runs exactly when they did the same operations with the same bytes in the same order.
    pub fn trace_hash(&self) -> u64 {
        self.state.lock().trace_hash
    }

    /// From here on operations are kept as text as well, see [`MemDisk::trace`].
    pub fn keep_trace(&self) {
        self.state.lock().trace.get_or_insert_default();
    }

    pub fn trace(&self) -> Vec<String> {
        self.state.lock().trace.clone().unwrap_or_default()
    }

    /// Does `work` now, answers after the latency.
    fn operation<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, DiskError>,
    ) -> DiskFuture<T> {
        let mut state = self.state.lock();
        let result = work(&mut state);
        let latency = state.latency();
        drop(state);
        Box::pin(async move {
            pause(latency).await;
            result
        })
    }
}

async fn pause(latency: Option<Duration>) {
    if let Some(latency) = latency {
        crate::task::sleep(latency).await;
    }
}

impl State {
    fn latency(&mut self) -> Option<Duration> {
        let (low, high) = self.faults.latency?;
        let span = high.saturating_sub(low).as_nanos() as u64;
        Some(low + Duration::from_nanos(self.rng.below(span + 1)))
    }

    fn note(&mut self, operation: &str, path: &Path, a: u64, b: u64, content: &[u8]) {
        let content_hash = xxhash_rust::xxh3::xxh3_64(content);
        let mut line = String::new();
        let _ = write!(line, "{operation} {} {a} {b} {content_hash:x}", path.display());
        self.trace_hash = xxhash_rust::xxh3::xxh3_64_with_seed(line.as_bytes(), self.trace_hash);
        if let Some(trace) = &mut self.trace
            && trace.len() < TRACE_LINES_MAX
        {
            trace.push(line);
        }
    }

    /// Called by every operation that changes something, before it does.
    fn before_change(&mut self, operation: &'static str, path: &Path) -> Result<(), DiskError> {
        self.changes += 1;
        if self.faults.power_lost_at == Some(self.changes) {
            self.power_lost = true;
            self.note("power lost", path, self.changes, 0, b"");
        }
        self.check_power(operation, path)
    }

    fn check_power(&self, operation: &'static str, path: &Path) -> Result<(), DiskError> {
        if self.power_lost {
            return Err(DiskError::new(
                DiskErrorKind::PowerLost,
                operation,
                path,
                "the simulated power is off",
            ));
        }
        Ok(())
    }

    fn inode_of(&self, operation: &'static str, path: &Path) -> Result<u64, DiskError> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| DiskError::new(DiskErrorKind::NotFound, operation, path, "no such file"))
    }

    fn unlink(&mut self, inode: u64) {
        if let Some(node) = self.inodes.get_mut(&inode) {
            node.links -= 1;
            if node.links == 0 {
                self.used_bytes -= node.live.len;
            }
        }
    }

    /// Inodes that no name and no possible future name leads to, and that no handle of this incarnation may still
    /// read, are dropped at restarts only: handles keep them alive until then.
    fn drop_unnamed(&mut self) {
        let named: std::collections::BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|number, _| named.contains(number));
    }

    fn restart(&mut self) {
        self.incarnation += 1;
        self.locks.clear();
        self.power_lost = false;
        self.faults.power_lost_at = None;
        self.note("restart", Path::new(""), self.incarnation, 0, b"");
    }

    fn crash(&mut self, rng: &SeededRng) {
        let mut names = std::mem::take(&mut self.durable_names);
        // Journal-like: a prefix of each directory's changes. Else: any subset.
        let any_subset = rng.below(4) == 0;
        let mut kept_of: BTreeMap<PathBuf, bool> = BTreeMap::new();
        for change in std::mem::take(&mut self.name_changes) {
            let keep = if any_subset {
                rng.below(2) == 0
            } else {
                let still = kept_of.entry(change.dirs().1.to_owned()).or_insert(true);
                *still = *still && rng.below(3) != 0;
                *still
            };
            if keep {
                change.apply(&mut names);
            }
        }
        self.names = names.clone();
        self.durable_names = names;
        self.drop_unnamed();
        for inode in self.inodes.values_mut() {
            inode.crash(rng);
        }
        let mut links: BTreeMap<u64, u32> = BTreeMap::new();
        for inode in self.names.values() {
            *links.entry(*inode).or_default() += 1;
        }
        self.used_bytes = 0;
        for (number, inode) in &mut self.inodes {
            inode.links = links[number];
            self.used_bytes += inode.live.len;
        }
        self.restart();
    }

    fn sync_names(&mut self, dir: &Path) {
        let (covered, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.name_changes)
            .into_iter()
            .partition(|change| change.dirs().0 == dir || change.dirs().1 == dir);
        for change in &covered {
            change.apply(&mut self.durable_names);
        }
        self.name_changes = rest;
    }

    fn change_file(
        &mut self,
        file: &MemFile,
        operation: &'static str,
        change: Change,
    ) -> Result<u64 /* number of the change */, DiskError> {
        file.check(self, operation)?;
        let (a, b, content) = match &change {
            Change::Write { offset, bytes } => (*offset, bytes.len() as u64, bytes.clone()),
            Change::Zeros { from, to } => (*from, *to, Bytes::new()),
            Change::SetLen(len) => (*len, 0, Bytes::new()),
        };
        self.note(operation, &file.path, a, b, &content);
        // Power that goes at a write may leave the write in the cache on its way to the disk: it counts as
        // unsynced, and the crash decides about its parts.
        let power = self.before_change(operation, &file.path);
        self.writes += 1;
        if self.faults.fail_write_at == Some(self.writes) {
            return Err(DiskError::new(DiskErrorKind::Io, operation, &file.path, "injected EIO"));
        }
        let inode = self.inodes.get_mut(&file.inode).expect("an open file has an inode");
        let len_after = match &change {
            Change::Write { offset, bytes } => inode.live.len.max(offset + bytes.len() as u64),
            Change::Zeros { to, .. } => inode.live.len.max(*to),
            Change::SetLen(len) => *len,
        };
        if inode.links > 0 {
            let grows_by = len_after.saturating_sub(inode.live.len);
            let limit = self.capacity_bytes.min(self.faults.no_space_after_bytes.unwrap_or(u64::MAX));
            if grows_by > 0 && self.used_bytes + grows_by > limit {
                return Err(DiskError::new(DiskErrorKind::NoSpace, operation, &file.path, "injected ENOSPC"));
            }
            self.used_bytes = self.used_bytes + len_after - inode.live.len;
        }
        let number = inode.next_pending;
        inode.next_pending += 1;
        inode.live.apply(&change);
        inode.pending.push(Pending { number, change, doomed: false });
        power?;
        Ok(number)
    }

    /// Makes what was written before change number `below` durable.
    fn sync_file(&mut self, file: &MemFile, below: u64) -> Result<(), DiskError> {
        file.check(self, "sync")?;
        self.note("sync", &file.path, below, 0, b"");
        self.before_change("sync", &file.path)?;
        self.syncs += 1;
        let fails = self.faults.fail_sync_at == Some(self.syncs);
        let inode = self.inodes.get_mut(&file.inode).expect("an open file has an inode");
        if fails {
            for pending in inode.pending.iter_mut().filter(|pending| pending.number < below) {
                pending.doomed = true;
            }
            file.failed.store(true, Ordering::Release);
            return Err(DiskError::new(DiskErrorKind::SyncFailed, "sync", &file.path, "injected EIO"));
        }
        let mut rest = Vec::new();
        for pending in std::mem::take(&mut inode.pending) {
            if pending.number < below && !pending.doomed {
                inode.durable.apply(&pending.change);
            } else {
                rest.push(pending);
            }
        }
        inode.pending = rest;
        Ok(())
    }
}

impl Inode {
    fn crash(&mut self, rng: &SeededRng) {
        let mut image = std::mem::take(&mut self.durable);
        for pending in std::mem::take(&mut self.pending) {
            match pending.change {
                Change::Write { offset, bytes } => tear(&mut image, offset, &bytes, rng),
                // Zeros over old content matter, so they may be lost too; as a whole, to keep it cheap.
                Change::Zeros { from, to } => {
                    if rng.below(2) == 0 {
                        image.zero(from, to);
                    }
                }
                Change::SetLen(len) => {
                    if rng.below(2) == 0 {
                        image.set_len(len);
                    }
                }
            }
        }
        self.live = image.clone();
        self.durable = image;
    }
}

/// Lets a random part of a write survive.
fn tear(image: &mut Pages, offset: u64, bytes: &[u8], rng: &SeededRng) {
    let unit = if rng.below(2) == 0 { SECTOR_BYTES } else { PAGE_BYTES as u64 };
    let mode = rng.below(4);
    let end = offset + bytes.len() as u64;
    let units = end.div_ceil(unit) - offset / unit;
    let first_lost = rng.below(units + 1);
    let mut at = offset;
    for index in 0..units {
        let stop = ((at / unit + 1) * unit).min(end);
        let keep = match mode {
            0 => false,
            1 => true,
            2 => index < first_lost,
            _ => rng.below(2) == 0,
        };
        if keep {
            image.write(at, &bytes[(at - offset) as usize..(stop - offset) as usize]);
        }
        at = stop;
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> DiskFuture<Arc<dyn File>> {
        let path = path.to_owned();
        let disk = self.state.clone();
        let counters = self.counters.clone();
        self.operation(move |state| {
            state.check_power("open", &path)?;
            let existing = state.names.get(&path).copied();
            let inode = match (existing, mode) {
                (Some(_), OpenMode::CreateNew) => {
                    return Err(DiskError::new(DiskErrorKind::AlreadyExists, "open", &path, "it exists"));
                }
                (Some(inode), _) => inode,
                (None, OpenMode::Read | OpenMode::ReadWrite) => {
                    return Err(DiskError::new(DiskErrorKind::NotFound, "open", &path, "no such file"));
                }
                (None, OpenMode::Create | OpenMode::CreateNew) => {
                    if !state.has_dir(parent(&path)) {
                        return Err(DiskError::new(
                            DiskErrorKind::NotFound,
                            "open",
                            &path,
                            "no such directory",
                        ));
                    }
                    state.note("create", &path, 0, 0, b"");
                    state.before_change("open", &path)?;
                    let inode = state.next_inode;
                    state.next_inode += 1;
                    state.inodes.insert(inode, Inode { links: 1, ..Inode::default() });
                    state.names.insert(path.clone(), inode);
                    state.name_changes.push(NameChange::Create { path: path.clone(), inode });
                    inode
                }
            };
            Ok(Arc::new(MemFile {
                disk,
                counters,
                path,
                inode,
                incarnation: state.incarnation,
                writable: mode != OpenMode::Read,
                failed: Arc::new(AtomicBool::new(false)),
            }) as Arc<dyn File>)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> DiskFuture<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.operation(move |state| {
            let inode = state.inode_of("rename", &from)?;
            if !state.has_dir(parent(&to)) {
                return Err(DiskError::new(DiskErrorKind::NotFound, "rename", &to, "no such directory"));
            }
            state.note(
                "rename",
                &from,
                xxhash_rust::xxh3::xxh3_64(to.as_os_str().as_encoded_bytes()),
                0,
                b"",
            );
            state.before_change("rename", &from)?;
            state.names.remove(&from);
            if let Some(replaced) = state.names.insert(to.clone(), inode) {
                state.unlink(replaced);
            }
            state.name_changes.push(NameChange::Rename { from, to, inode });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> DiskFuture<()> {
        let path = path.to_owned();
        self.operation(move |state| {
            let inode = state.inode_of("remove", &path)?;
            state.note("remove", &path, 0, 0, b"");
            state.before_change("remove", &path)?;
            state.names.remove(&path);
            state.unlink(inode);
            state.name_changes.push(NameChange::Remove { path });
            Ok(())
        })
    }

    fn create_dir_all(&self, dir: &Path) -> DiskFuture<()> {
        let dir = dir.to_owned();
        self.operation(move |state| {
            state.check_power("create directory", &dir)?;
            state.note("mkdir", &dir, 0, 0, b"");
            for above in dir.ancestors() {
                state.dirs.insert(above.to_owned(), ());
            }
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> DiskFuture<Vec<DirEntry>> {
        let dir = dir.to_owned();
        self.operation(move |state| {
            state.check_power("list", &dir)?;
            if !state.has_dir(&dir) {
                return Err(DiskError::new(DiskErrorKind::NotFound, "list", &dir, "no such directory"));
            }
            let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
            let mut entries = Vec::new();
            for (path, inode) in &state.names {
                if parent(path) == dir
                    && let Some(name) = name(path)
                {
                    entries.push(DirEntry { name, len: state.inodes[inode].live.len, is_dir: false });
                }
            }
            for path in state.dirs.keys() {
                if path != &dir
                    && parent(path) == dir
                    && let Some(name) = name(path)
                {
                    entries.push(DirEntry { name, len: 0, is_dir: true });
                }
            }
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        })
    }

    fn sync_dir(&self, dir: &Path) -> DiskFuture<()> {
        let dir = dir.to_owned();
        DiskCounters::add(&self.counters.dir_syncs, 1);
        self.operation(move |state| {
            state.note("sync directory", &dir, 0, 0, b"");
            state.before_change("sync directory", &dir)?;
            state.sync_names(&dir);
            Ok(())
        })
    }

    fn space(&self, _dir: &Path) -> DiskFuture<Space> {
        self.operation(|state| {
            let total_bytes = state.capacity_bytes.min(state.faults.no_space_after_bytes.unwrap_or(u64::MAX));
            Ok(Space { free_bytes: total_bytes.saturating_sub(state.used_bytes), total_bytes })
        })
    }

    fn lock(&self, path: &Path) -> DiskFuture<DiskLock> {
        let path = path.to_owned();
        let disk = self.state.clone();
        self.operation(move |state| {
            state.check_power("lock", &path)?;
            if state.locks.contains_key(&path) {
                return Err(DiskError::new(DiskErrorKind::Locked, "lock", &path, "somebody holds it"));
            }
            let number = state.next_lock;
            state.next_lock += 1;
            state.locks.insert(path.clone(), number);
            Ok(DiskLock::new(MemLock { disk, path, number }))
        })
    }

    fn counters(&self) -> Arc<DiskCounters> {
        self.counters.clone()
    }
}

impl State {
    fn has_dir(&self, dir: &Path) -> bool {
        dir == Path::new(".") || dir == Path::new("/") || self.dirs.contains_key(dir)
    }
}

struct MemLock {
    disk: Arc<Mutex<State>>,
    path: PathBuf,
    number: u64,
}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        // After a restart somebody else may hold it.
        if state.locks.get(&self.path) == Some(&self.number) {
            state.locks.remove(&self.path);
        }
    }
}

#[derive(Clone)]
struct MemFile {
    disk: Arc<Mutex<State>>,
    counters: Arc<DiskCounters>,
    path: PathBuf,
    inode: u64,
    incarnation: u64,
    writable: bool,
    failed: Arc<AtomicBool>,
}

impl MemFile {
    fn check_alive(&self, state: &State, operation: &'static str) -> Result<(), DiskError> {
        state.check_power(operation, &self.path)?;
        if self.incarnation != state.incarnation {
            let detail = "this handle belongs to a process that is gone";
            return Err(DiskError::new(DiskErrorKind::PowerLost, operation, &self.path, detail));
        }
        Ok(())
    }

    fn check(&self, state: &State, operation: &'static str) -> Result<(), DiskError> {
        self.check_alive(state, operation)?;
        if !self.writable {
            return Err(DiskError::new(DiskErrorKind::Io, operation, &self.path, "opened for reading"));
        }
        if self.failed.load(Ordering::Acquire) {
            let detail = "an earlier sync of this file failed";
            return Err(DiskError::new(DiskErrorKind::SyncFailed, operation, &self.path, detail));
        }
        Ok(())
    }

    fn change(&self, operation: &'static str, change: Change) -> (Result<u64, DiskError>, Option<Duration>) {
        let mut state = self.disk.lock();
        let bytes = match &change {
            Change::Write { bytes, .. } => bytes.len() as u64,
            _ => 0,
        };
        let result = state.change_file(self, operation, change);
        if result.is_ok() && bytes > 0 {
            DiskCounters::add(&self.counters.writes, 1);
            DiskCounters::add(&self.counters.bytes_written, bytes);
        }
        (result, state.latency())
    }

    fn read(&self, state: &mut State, offset: u64, len: usize) -> Result<Bytes, DiskError> {
        self.check_alive(state, "read")?;
        state.reads += 1;
        if state.faults.fail_read_at == Some(state.reads) {
            return Err(DiskError::new(DiskErrorKind::Io, "read", &self.path, "injected EIO"));
        }
        let bytes = state.inodes[&self.inode].live.read(offset, len);
        state.note("read", &self.path, offset, len as u64, b"");
        DiskCounters::add(&self.counters.bytes_read, bytes.len() as u64);
        Ok(bytes)
    }

    /// The change happens now, the sync after the latency: a crash in between finds it unsynced.
    fn change_and_sync(&self, operation: &'static str, change: Change) -> DiskFuture<()> {
        let (number, latency) = self.change(operation, change);
        let file = self.clone();
        Box::pin(async move {
            pause(latency).await;
            let number = number?;
            DiskCounters::add(&file.counters.syncs, 1);
            file.disk.lock().sync_file(&file, number + 1)
        })
    }
}

fn join(buffers: &[Bytes]) -> Bytes {
    match buffers {
        [one] => one.clone(),
        many => many.concat().into(),
    }
}

impl File for MemFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> DiskFuture<u64> {
        let state = self.disk.lock();
        let result = self.check_alive(&state, "stat").map(|()| state.inodes[&self.inode].live.len);
        Box::pin(std::future::ready(result))
    }

    fn read_at(&self, offset: u64, len: usize) -> DiskFuture<Bytes> {
        let read = self.read_many(vec![(offset, len)]);
        Box::pin(async move { Ok(read.await?.pop().expect("one range was asked for")) })
    }

    fn read_many_from_medium(&self, ranges: Vec<(u64, usize)>) -> DiskFuture<Vec<Bytes>> {
        self.read_many(ranges)
    }

    fn read_ahead(&self, _: u64, _: u64) {}

    fn read_many(&self, ranges: Vec<(u64, usize)>) -> DiskFuture<Vec<Bytes>> {
        let mut state = self.disk.lock();
        let latency = state.latency();
        DiskCounters::add(&self.counters.reads, 1);
        let result: Result<Vec<Bytes>, DiskError> =
            ranges.into_iter().map(|(offset, len)| self.read(&mut state, offset, len)).collect();
        drop(state);
        Box::pin(async move {
            pause(latency).await;
            result
        })
    }

    fn write_at(&self, offset: u64, buffers: Vec<Bytes>) -> DiskFuture<()> {
        let (result, latency) = self.change("write", Change::Write { offset, bytes: join(&buffers) });
        Box::pin(async move {
            pause(latency).await;
            result.map(|_| ())
        })
    }

    fn write_and_sync(&self, offset: u64, buffers: Vec<Bytes>) -> DiskFuture<()> {
        self.change_and_sync("write", Change::Write { offset, bytes: join(&buffers) })
    }

    fn sync(&self) -> DiskFuture<()> {
        let (below, latency) = {
            let mut state = self.disk.lock();
            // The inode is gone when a crash took this handle's process; the sync below says so.
            (state.inodes.get(&self.inode).map_or(0, |inode| inode.next_pending), state.latency())
        };
        let file = self.clone();
        Box::pin(async move {
            pause(latency).await;
            DiskCounters::add(&file.counters.syncs, 1);
            let mut state = file.disk.lock();
            state.sync_file(&file, below)
        })
    }

    fn fill_zeros(&self, from: u64, to: u64) -> DiskFuture<()> {
        DiskCounters::add(&self.counters.bytes_zero_filled, to.saturating_sub(from));
        self.change_and_sync("fill", Change::Zeros { from, to })
    }

    fn allocate(&self, len: u64) -> DiskFuture<()> {
        self.change_and_sync("allocate", Change::Zeros { from: 0, to: len })
    }

    fn set_len(&self, len: u64) -> DiskFuture<()> {
        let (result, latency) = self.change("set length", Change::SetLen(len));
        Box::pin(async move {
            pause(latency).await;
            result.map(|_| ())
        })
    }

    fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}
