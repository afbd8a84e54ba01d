//! The metadata log on a local disk: one file that only grows, snapshots beside it, and the durable mark.
//!
//! ```text
//! metadata.log                         header · frame 1 · frame 2 · …      never cut, but for a torn tail
//! metadata-<position:020>.snapshot     the state after that frame; the two newest are kept
//! metadata.mark                        "durable up to here", written in idle moments
//! ```
//!
//! One commit is under way at a time, so a frame that exists proves that its predecessor was durable. What is
//! damaged below the last thing known durable stops the start (P7); above it is a torn tail and is cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use world::disk::{Disk, DiskError, DiskErrorKind, File, OpenMode, write_atomic};
use world::rng::Rng;

use crate::catalog::CatalogOpenError;
use crate::encoding::{Decoder, Encoder, checksum};
use crate::frame::{self, Frame, FrameError, LogId};
use crate::level::Levels;
use crate::log::{CommitError, Notice, replay};
use crate::mark::Mark;
use crate::snapshot::{self, SnapshotError, SnapshotPlace};
use crate::state::{Entry, State};

const LOG_NAME: &str = "metadata.log";
const MARK_NAME: &str = "metadata.mark";
const SNAPSHOT_PREFIX: &str = "metadata-";
const SNAPSHOT_SUFFIX: &str = ".snapshot";
const SNAPSHOTS_KEPT: usize = 2;

const LOG_MAGIC: [u8; 8] = *b"OTLAMETA";
const LOG_VERSION: u16 = 1;
pub const LOG_HEADER_LEN: u64 = 32;

const READ_BYTES: usize = 1 << 20;

pub struct DirectoryLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Arc<dyn File>,
    log_id: LogId,
    position: u64,
    end: u64,
    last_hash: u128,
    mark: Option<Mark>,
    mark_file: Option<Arc<dyn File>>,
    /// Where the newest snapshot stands, and how long it is.
    snapshot_position: u64,
    snapshot_log_end: u64,
    snapshot_len: u64,
}

struct GoodSnapshot {
    place: SnapshotPlace,
    state: State,
    len: u64,
}

impl DirectoryLog {
    /// Opens or makes the log; gives the state of its last frame.
    pub async fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        rng: &dyn Rng,
        check_whole_bytes_max: u64,
        known: Levels,
    ) -> Result<(Self, State, Vec<Notice>), CatalogOpenError> {
        disk.create_dir_all(dir).await?;
        let names: Vec<String> = disk.list(dir).await?.into_iter().map(|entry| entry.name).collect();
        remove_temporaries(&*disk, dir, &names).await?;
        if !names.iter().any(|name| name == LOG_NAME) {
            if let Some(orphan) =
                names.iter().find(|name| *name == MARK_NAME || snapshot_position(name).is_some())
            {
                return Err(CatalogOpenError::LogMissing { dir: dir.to_owned(), found: orphan.clone() });
            }
            create_log(&*disk, dir, rng.uuid()).await?;
        }
        let file = disk.open(&dir.join(LOG_NAME), OpenMode::ReadWrite).await?;
        let log_id = read_log_header(&*file).await?;
        let mark = read_mark(&*disk, dir, &log_id).await?;
        let mut notices = Vec::new();
        let snapshot = newest_snapshot(&*disk, dir, &names, &log_id, known, &mut notices).await?;
        let log = Self {
            position: 0,
            end: LOG_HEADER_LEN,
            last_hash: 0,
            mark_file: None,
            mark,
            snapshot_position: snapshot.as_ref().map_or(0, |snapshot| snapshot.place.position),
            snapshot_log_end: snapshot.as_ref().map_or(LOG_HEADER_LEN, |snapshot| snapshot.place.log_end),
            snapshot_len: snapshot.as_ref().map_or(0, |snapshot| snapshot.len),
            disk,
            dir: dir.to_owned(),
            file,
            log_id,
        };
        log.replay(snapshot, check_whole_bytes_max, known, notices).await
    }

    async fn replay(
        mut self,
        mut snapshot: Option<GoodSnapshot>,
        check_whole_bytes_max: u64,
        known: Levels,
        mut notices: Vec<Notice>,
    ) -> Result<(Self, State, Vec<Notice>), CatalogOpenError> {
        let file_len = self.file.len().await?;
        let place = snapshot.as_ref().map(|snapshot| snapshot.place);
        let durable_position =
            self.mark.map_or(0, |mark| mark.position).max(place.map_or(0, |place| place.position));
        if place.is_some_and(|place| place.log_end > file_len) {
            return Err(self.damaged(file_len, "the file ends before the newest snapshot was taken"));
        }
        let mut state = State::default();
        if file_len > check_whole_bytes_max
            && let Some(good) = snapshot.take()
        {
            let SnapshotPlace { position, log_end, frame_hash, .. } = good.place;
            (self.position, self.end, self.last_hash) = (position, log_end, frame_hash);
            state = good.state;
        }
        let mut reader = FrameReader::new(&*self.file, self.end, file_len);
        loop {
            if self.end == file_len {
                break;
            }
            let (frame, len, hash) = match reader.next(&self.log_id).await? {
                Ok(found) => found,
                Err(FrameError::Decode(source)) => {
                    let (file, offset) = (self.file.path().to_owned(), self.end);
                    return Err(CatalogOpenError::Unreadable { file, offset, reason: source.to_string() });
                }
                Err(broken) => {
                    self.cut_torn_tail(&broken, durable_position, file_len, &mut notices).await?;
                    break;
                }
            };
            if frame.position != self.position + 1 {
                return Err(self.damaged(self.end, "a frame with the wrong position"));
            }
            if frame.previous_hash != self.last_hash {
                return Err(self.damaged(self.end, "a frame whose predecessor is another one"));
            }
            self.end += len as u64;
            self.position = frame.position;
            self.last_hash = hash;
            // Frames that the snapshot holds already are only checked.
            match snapshot.take_if(|good| good.place.position == frame.position) {
                Some(good) if good.place.log_end == self.end && good.place.frame_hash == hash => {
                    state = good.state;
                }
                Some(_) => return Err(self.damaged(self.end, "the newest snapshot was taken of another log")),
                None if snapshot.is_some() => {}
                None => drop(replay(&mut state, &frame, known)?),
            }
        }
        if self.position < durable_position {
            return Err(self.damaged(self.end, "the file ends before its last durable frame"));
        }
        assert_eq!(state.position(), self.position, "the state is the state of the last frame");
        Ok((self, state, notices))
    }

    /// Nothing durable may be in what is cut.
    async fn cut_torn_tail(
        &self,
        broken: &FrameError,
        durable_position: u64,
        file_len: u64,
        notices: &mut Vec<Notice>,
    ) -> Result<(), CatalogOpenError> {
        let what = match broken {
            FrameError::Damaged(what) => what,
            _ => "the file ends inside a frame",
        };
        if self.position < durable_position {
            return Err(self.damaged(self.end, what));
        }
        if self.later_frame_exists(file_len).await? {
            return Err(self.damaged(self.end, what));
        }
        self.file.set_len(self.end).await?;
        self.file.sync().await?;
        let bytes = file_len - self.end;
        notices.push(Notice::TornTailCut { file: self.file.path().to_owned(), offset: self.end, bytes });
        Ok(())
    }

    /// Frames are written one after another, each after the sync of the one before: any whole header of a later
    /// position says that the frame at `end` had been durable.
    async fn later_frame_exists(&self, file_len: u64) -> Result<bool, DiskError> {
        let mut offset = self.end + 1;
        while offset + (frame::HEADER_LEN as u64) <= file_len {
            let bytes = self.file.read_at(offset, READ_BYTES).await?;
            let found = bytes.windows(frame::HEADER_LEN).any(|window| {
                let header = frame::parse_header(&self.log_id, window);
                header.is_ok_and(|header| header.position > self.position + 1)
            });
            if found {
                return Ok(true);
            }
            offset += (bytes.len() - (frame::HEADER_LEN - 1).min(bytes.len() - 1)) as u64;
        }
        Ok(false)
    }

    fn damaged(&self, offset: u64, what: &'static str) -> CatalogOpenError {
        CatalogOpenError::Damaged { file: self.file.path().to_owned(), offset, what }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes the next frame and makes it durable. On an error the log is as it was.
    pub async fn commit(
        &mut self,
        state_hash: Option<u128>,
        entries: Vec<Entry>,
    ) -> Result<u64, CommitError> {
        let position = self.position + 1;
        let frame = Frame { position, previous_hash: self.last_hash, state_hash, entries };
        let (bytes, hash) = frame.encode(&self.log_id);
        let len = bytes.len() as u64;
        if let Err(error) = self.file.write_and_sync(self.end, vec![Bytes::from(bytes)]).await {
            let is_final = self.file.is_failed()
                || matches!(error.kind, DiskErrorKind::SyncFailed | DiskErrorKind::PowerLost);
            if !is_final {
                // What half of a frame is there goes away, or is overwritten by the next one.
                let _ = self.file.set_len(self.end).await;
            }
            return Err(CommitError { is_final, is_unknown: false, reason: error.to_string() });
        }
        self.position = position;
        self.end += len;
        self.last_hash = hash;
        Ok(len)
    }

    pub fn is_marked(&self) -> bool {
        self.mark.map_or(0, |mark| mark.position) == self.position
    }

    /// Says in a second file that everything so far is durable.
    pub async fn write_mark(&mut self) -> Result<(), DiskError> {
        let sequence = self.mark.map_or(0, |mark| mark.sequence) + 1;
        let (log_id, position, log_end, frame_hash) = (self.log_id, self.position, self.end, self.last_hash);
        let mark = Mark { log_id, sequence, position, log_end, frame_hash };
        let file = match &self.mark_file {
            Some(file) => file.clone(),
            None => {
                let file = self.disk.open(&self.dir.join(MARK_NAME), OpenMode::Create).await?;
                self.disk.sync_dir(&self.dir).await?;
                self.mark_file = Some(file.clone());
                file
            }
        };
        file.write_and_sync(mark.offset(), vec![Bytes::from(mark.encode())]).await?;
        self.mark = Some(mark);
        Ok(())
    }

    /// Enough has happened since the newest snapshot: frames or bytes, and an eighth of the state at least, so
    /// that a large state is not written again for a few small changes.
    pub fn is_snapshot_due(&self, frames: u64, bytes: u64) -> bool {
        let new_frames = self.position - self.snapshot_position;
        let new_bytes = self.end - self.snapshot_log_end;
        (new_frames >= frames || new_bytes >= bytes) && new_bytes >= self.snapshot_len / 8
    }

    pub fn snapshot_place(&self) -> SnapshotPlace {
        let (log_id, position, log_end, frame_hash) = (self.log_id, self.position, self.end, self.last_hash);
        SnapshotPlace { log_id, position, log_end, frame_hash }
    }

    /// Writes a snapshot file and removes the ones it makes useless.
    pub async fn write_snapshot(&mut self, place: SnapshotPlace, bytes: Vec<u8>) -> Result<(), DiskError> {
        let path = self.dir.join(snapshot_name(place.position));
        let len = bytes.len() as u64;
        write_atomic(&*self.disk, &path, Bytes::from(bytes)).await?;
        self.snapshot_position = place.position;
        self.snapshot_log_end = place.log_end;
        self.snapshot_len = len;
        let entries = self.disk.list(&self.dir).await?;
        let mut positions: Vec<u64> =
            entries.iter().filter_map(|entry| snapshot_position(&entry.name)).collect();
        positions.sort_unstable();
        let outdated = positions.len().saturating_sub(SNAPSHOTS_KEPT);
        for position in &positions[..outdated] {
            self.disk.remove(&self.dir.join(snapshot_name(*position))).await?;
        }
        Ok(())
    }
}

/// Reads a file frame by frame without holding all of it.
struct FrameReader<'a> {
    file: &'a dyn File,
    offset: u64,
    file_len: u64,
    buffer: Vec<u8>,
}

impl<'a> FrameReader<'a> {
    fn new(file: &'a dyn File, offset: u64, file_len: u64) -> Self {
        Self { file, offset, file_len, buffer: Vec::new() }
    }

    async fn next(&mut self, log_id: &LogId) -> Result<Result<(Frame, usize, u128), FrameError>, DiskError> {
        self.fill(frame::HEADER_LEN).await?;
        let header = match frame::parse_header(log_id, &self.buffer) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        self.fill(frame::HEADER_LEN + header.body_len).await?;
        let parsed = frame::parse(log_id, &self.buffer);
        if let Ok((_, len, _)) = &parsed {
            self.buffer.drain(..*len);
            self.offset += *len as u64;
        }
        Ok(parsed)
    }

    /// At least `len` bytes in the buffer, if the file has them.
    async fn fill(&mut self, len: usize) -> Result<(), DiskError> {
        while self.buffer.len() < len {
            let from = self.offset + self.buffer.len() as u64;
            let wanted = (len - self.buffer.len()).max(READ_BYTES).min((self.file_len - from) as usize);
            let bytes = self.file.read_at(from, wanted).await?;
            if bytes.is_empty() {
                break;
            }
            self.buffer.extend_from_slice(&bytes);
        }
        Ok(())
    }
}

fn snapshot_name(position: u64) -> String {
    format!("{SNAPSHOT_PREFIX}{position:020}{SNAPSHOT_SUFFIX}")
}

fn snapshot_position(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(SNAPSHOT_PREFIX)?.strip_suffix(SNAPSHOT_SUFFIX)?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

async fn remove_temporaries(disk: &dyn Disk, dir: &Path, names: &[String]) -> Result<(), DiskError> {
    for name in names.iter().filter(|name| name.starts_with("metadata") && name.ends_with(".tmp")) {
        disk.remove(&dir.join(name)).await?;
    }
    Ok(())
}

async fn create_log(disk: &dyn Disk, dir: &Path, log_id: LogId) -> Result<(), DiskError> {
    let mut out = Encoder::with_capacity(LOG_HEADER_LEN as usize);
    out.raw(&LOG_MAGIC);
    out.u16(LOG_VERSION);
    out.u16(0);
    out.raw(&log_id);
    let mut bytes = out.finish();
    bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
    assert_eq!(bytes.len() as u64, LOG_HEADER_LEN);
    write_atomic(disk, &dir.join(LOG_NAME), Bytes::from(bytes)).await
}

async fn read_log_header(file: &dyn File) -> Result<LogId, CatalogOpenError> {
    let damaged = |what| CatalogOpenError::Damaged { file: file.path().to_owned(), offset: 0, what };
    let bytes = file.read_at(0, LOG_HEADER_LEN as usize).await?;
    if bytes.len() as u64 != LOG_HEADER_LEN {
        return Err(damaged("the file ends inside its header"));
    }
    let (fields, crc) = bytes.split_at(LOG_HEADER_LEN as usize - 4);
    if !fields.starts_with(&LOG_MAGIC) {
        return Err(damaged("not a metadata log of ottla"));
    }
    if checksum(fields).to_le_bytes() != crc {
        return Err(damaged("checksum of the file header"));
    }
    let unreadable = |reason: String| {
        let (file, offset) = (file.path().to_owned(), 0);
        CatalogOpenError::Unreadable { file, offset, reason }
    };
    let mut fields = Decoder::new(&fields[LOG_MAGIC.len()..], "metadata log header");
    let version = fields.u16().map_err(|error| unreadable(error.to_string()))?;
    if version != LOG_VERSION {
        return Err(unreadable(format!("log format {version} is newer than this release of ottla")));
    }
    let log_id = fields.u16().and_then(|_| fields.take(16)).map_err(|error| unreadable(error.to_string()))?;
    Ok(log_id.try_into().expect("16 bytes"))
}

async fn read_mark(disk: &dyn Disk, dir: &Path, log_id: &LogId) -> Result<Option<Mark>, DiskError> {
    match disk.open(&dir.join(MARK_NAME), OpenMode::Read).await {
        Ok(file) => Ok(Mark::decode(&file.read_at(0, 2 * crate::mark::SLOT_LEN).await?, log_id)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The newest snapshot that can be read. One that cannot is left alone and reported; the log still has everything.
async fn newest_snapshot(
    disk: &dyn Disk,
    dir: &Path,
    names: &[String],
    log_id: &LogId,
    known: Levels,
    notices: &mut Vec<Notice>,
) -> Result<Option<GoodSnapshot>, CatalogOpenError> {
    let mut positions: Vec<u64> = names.iter().filter_map(|name| snapshot_position(name)).collect();
    positions.sort_unstable();
    for position in positions.into_iter().rev() {
        let path = dir.join(snapshot_name(position));
        let file = disk.open(&path, OpenMode::Read).await?;
        let len = file.len().await?;
        let bytes = file.read_at(0, len as usize).await?;
        let reason = match snapshot::decode(&bytes, known) {
            Ok((place, _)) if place.log_id != *log_id => "taken of another log".to_owned(),
            Ok((place, state)) => return Ok(Some(GoodSnapshot { place, state, len })),
            Err(SnapshotError::UnknownVersion(version)) => {
                let reason = SnapshotError::UnknownVersion(version).to_string();
                return Err(CatalogOpenError::Unreadable { file: path, offset: 0, reason });
            }
            Err(SnapshotError::UnknownLevel(unknown)) => return Err(unknown.into()),
            Err(error) => error.to_string(),
        };
        notices.push(Notice::SnapshotIgnored { file: path, reason });
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use world::disk::MemDisk;
    use world::rng::SeededRng;

    use super::*;
    use crate::record::MetadataRecord;

    const DIR: &str = "/m";

    async fn reopen(disk: &Arc<MemDisk>) -> Result<(DirectoryLog, State, Vec<Notice>), CatalogOpenError> {
        DirectoryLog::open(disk.clone(), Path::new(DIR), &SeededRng::new(1), u64::MAX, Levels::KNOWN).await
    }

    fn entries() -> Vec<Entry> {
        let record = MetadataRecord::CreateCluster { cluster_id: protocol::Str::from("c"), level: 1 };
        vec![Entry { writer: 0, request: 0, records: vec![record] }]
    }

    /// Two brokers that came to two states find it out at the next frame that carries a hash.
    #[test]
    fn a_state_that_differs_from_its_writers_stops_the_start() {
        world::task::paused_runtime().block_on(async {
            let disk = MemDisk::new(1);
            let (mut log, state, _) = reopen(&disk).await.unwrap();
            log.commit(Some(state.hash()), entries()).await.unwrap();
            log.commit(Some(12345), Vec::new()).await.unwrap();
            let diverged = reopen(&disk).await.err();
            assert!(matches!(
                diverged,
                Some(CatalogOpenError::Diverged { position: 2, expected: 12345, .. })
            ));
        });
    }

    #[test]
    fn a_frame_of_another_history_stops_the_start() {
        world::task::paused_runtime().block_on(async {
            let disk = MemDisk::new(1);
            let (mut log, _, _) = reopen(&disk).await.unwrap();
            log.commit(None, entries()).await.unwrap();
            log.last_hash ^= 1;
            log.commit(None, Vec::new()).await.unwrap();
            let error = reopen(&disk).await.err().unwrap().to_string();
            assert!(error.contains("whose predecessor is another one"), "{error}");
        });
    }

    /// A request that replay refuses (another broker was faster) is kept in the log and changes nothing.
    #[test]
    fn a_void_request_stays_void_at_every_replay() {
        world::task::paused_runtime().block_on(async {
            let disk = MemDisk::new(1);
            let (mut log, mut state, _) = reopen(&disk).await.unwrap();
            for position in 1..=2 {
                log.commit(None, entries()).await.unwrap();
                state.apply(position, &entries());
            }
            let (_, replayed, notices) = reopen(&disk).await.unwrap();
            assert_eq!((replayed.position(), replayed.hash()), (2, state.hash()));
            assert_eq!(notices, []);
        });
    }
}
