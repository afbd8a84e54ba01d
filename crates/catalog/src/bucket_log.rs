//! The metadata log in a bucket: one object for each frame, made only where none is, so that of all brokers one wins each
//! position and all replay the same.
//!
//! ```text
//! meta/<position:020>          a frame; position 0 is the log's head. Never replaced and never removed (R17)
//! snapshots/<position:020>     the state behind that frame; the two newest are kept
//! ```
//!
//! A broker appends at the position behind its own replay (R16). Any answer but success means *unknown*: it looks, and what
//! stands there decides. Its own bytes: done. Another's: replay that, and try behind it; its own can never appear at the old
//! position any more. Nothing: send the same bytes again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use world::broken;
use world::bucket::{Bucket, BucketError, BucketErrorKind, Object, StoreError, Stored, patiently, store};
use world::rng::Rng;
use world::task;

use crate::catalog::CatalogOpenError;
use crate::encoding::{Decoder, Encoder, checksum};
use crate::frame::{self, Frame, FrameError, LogId};
use crate::level::Levels;
use crate::log::{CommitError, Committed, Notice, replay};
use crate::snapshot::{self, SnapshotError, SnapshotPlace};
use crate::state::{Entry, State};

const FRAMES: &str = "meta/";
const SNAPSHOTS: &str = "snapshots/";
const SNAPSHOTS_KEPT: usize = 2;

const HEAD_MAGIC: [u8; 8] = *b"OTLAMBKT";
const HEAD_VERSION: u16 = 1;

/// Frames that a start reads at once.
const READS_AT_ONCE: usize = 32;
const LISTED_AT_ONCE: usize = 1000;
/// How long one commit asks a bucket that does not answer; then its outcome is unknown.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct BucketLog {
    bucket: Arc<dyn Bucket>,
    log_id: LogId,
    position: u64,
    last_hash: u128,
    /// The newest snapshot that this broker knows of, its length, and what came behind it.
    snapshot_position: u64,
    snapshot_len: u64,
    bytes_since_snapshot: u64,
    /// Frames behind the last one that are read already, by position.
    ahead: BTreeMap<u64, Object>,
    known: Levels,
}

impl BucketLog {
    /// Opens the log, or begins it; gives the state of its last frame.
    pub async fn open(
        bucket: Arc<dyn Bucket>,
        rng: &dyn Rng,
        known: Levels,
    ) -> Result<(Self, State, Vec<Notice>), CatalogOpenError> {
        let log_id = head(&*bucket, Some(rng.uuid())).await?;
        Self::read(bucket, log_id, known).await
    }

    /// The state of the last frame, and nothing begun.
    pub async fn look(bucket: Arc<dyn Bucket>) -> Result<State, CatalogOpenError> {
        let log_id = head(&*bucket, None).await?;
        Self::read(bucket, log_id, Levels::KNOWN).await.map(|(_, state, _)| state)
    }

    async fn read(
        bucket: Arc<dyn Bucket>,
        log_id: LogId,
        known: Levels,
    ) -> Result<(Self, State, Vec<Notice>), CatalogOpenError> {
        let mut log = Self {
            bucket,
            log_id,
            position: 0,
            last_hash: 0,
            snapshot_position: 0,
            snapshot_len: 0,
            bytes_since_snapshot: 0,
            ahead: BTreeMap::new(),
            known,
        };
        let mut notices = Vec::new();
        let mut state = log.newest_snapshot(&mut notices).await?;
        log.replay_all(&mut state).await?;
        Ok((log, state, notices))
    }

    async fn newest_snapshot(&mut self, notices: &mut Vec<Notice>) -> Result<State, CatalogOpenError> {
        for position in positions(&*self.bucket, SNAPSHOTS, 0).await?.into_iter().rev() {
            let key = key(SNAPSHOTS, position);
            // Another broker may have removed it since.
            let Some(object) = get(&*self.bucket, &key).await? else { continue };
            let reason = match snapshot::decode(&object.bytes, self.known) {
                Ok((place, _)) if place.log_id != self.log_id => "taken of another log".to_owned(),
                Ok((place, state)) => {
                    (self.position, self.last_hash) = (place.position, place.frame_hash);
                    (self.snapshot_position, self.snapshot_len) = (place.position, object.bytes.len() as u64);
                    return Ok(state);
                }
                Err(SnapshotError::UnknownVersion(version)) => {
                    let reason = SnapshotError::UnknownVersion(version).to_string();
                    return Err(CatalogOpenError::Unreadable { file: key.into(), offset: 0, reason });
                }
                Err(SnapshotError::UnknownLevel(unknown)) => return Err(unknown.into()),
                Err(error) => error.to_string(),
            };
            notices.push(Notice::SnapshotIgnored { file: key.into(), reason });
        }
        Ok(State::default())
    }

    /// One after the other takes a round trip for each; so what a list shows is read side by side. What it does not show yet
    /// is found one by one: the end is where nothing is.
    async fn replay_all(&mut self, state: &mut State) -> Result<(), CatalogOpenError> {
        let there = positions(&*self.bucket, FRAMES, self.position).await?;
        for some in there.chunks(READS_AT_ONCE) {
            let reads: Vec<_> = some
                .iter()
                .map(|position| {
                    let (bucket, key) = (self.bucket.clone(), key(FRAMES, *position));
                    (*position, task::spawn(async move { get(&*bucket, &key).await }))
                })
                .collect();
            for (position, read) in reads {
                let object = read.await.expect("the task neither panics nor is aborted")?;
                if position != self.position + 1 {
                    return Err(damaged(self.position + 1, "a frame is missing"));
                }
                let object = object.ok_or_else(|| damaged(position, "a frame that is listed is missing"))?;
                replay(state, &self.take(&object.bytes)?, self.known)?;
            }
        }
        while let Some(object) = get(&*self.bucket, &key(FRAMES, self.position + 1)).await? {
            replay(state, &self.take(&object.bytes)?, self.known)?;
        }
        Ok(())
    }

    /// The next frame out of its object's bytes; from now on it is the last one.
    fn take(&mut self, bytes: &[u8]) -> Result<Frame, CatalogOpenError> {
        let position = self.position + 1;
        let (frame, len, hash) = match frame::parse(&self.log_id, bytes) {
            Ok(parsed) => parsed,
            Err(FrameError::Decode(error)) => {
                let (file, reason) = (PathBuf::from(key(FRAMES, position)), error.to_string());
                return Err(CatalogOpenError::Unreadable { file, offset: 0, reason });
            }
            Err(FrameError::Damaged(what)) => return Err(damaged(position, what)),
            Err(FrameError::Incomplete) => return Err(damaged(position, "the object ends inside its frame")),
        };
        if len != bytes.len() {
            return Err(damaged(position, "something stands behind the frame"));
        }
        if frame.position != position {
            return Err(damaged(position, "a frame with the wrong position"));
        }
        if frame.previous_hash != self.last_hash {
            return Err(damaged(position, "a frame whose predecessor is another one"));
        }
        self.advance(hash, len as u64);
        Ok(frame)
    }

    fn advance(&mut self, hash: u128, bytes: u64) {
        self.position += 1;
        self.last_hash = hash;
        self.bytes_since_snapshot += bytes;
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    pub async fn commit(
        &mut self,
        state_hash: Option<u128>,
        entries: Vec<Entry>,
    ) -> Result<Committed, CommitError> {
        let frame = Frame { position: self.position + 1, previous_hash: self.last_hash, state_hash, entries };
        let (bytes, hash) = frame.encode(&self.log_id);
        let bytes = Bytes::from(bytes);
        match settled(&*self.bucket, &key(FRAMES, frame.position), &bytes).await? {
            Stored::Own => {
                self.advance(hash, bytes.len() as u64);
                Ok(Committed::Own { bytes: bytes.len() as u64 })
            }
            Stored::Other(object) => Ok(Committed::Other(self.take(&object.bytes).map_err(stop)?)),
        }
    }

    /// Reads what [`Self::next`] will give up to a position that is there, side by side: one after the other takes a round trip for
    /// each, and somebody who writes as fast as that would never be caught up with.
    pub async fn read_ahead(&mut self, position: u64) {
        self.ahead.retain(|read, _| *read > self.position);
        let (next, last) = (self.position + 1, position.min(self.position + READS_AT_ONCE as u64));
        // The next one alone is read as ever.
        if last <= next || self.ahead.contains_key(&next) {
            return;
        }
        let reads: Vec<_> = (next..=last)
            .map(|position| {
                let (bucket, key) = (self.bucket.clone(), key(FRAMES, position));
                (position, task::spawn(async move { bucket.get(&key).await }))
            })
            .collect();
        for (position, read) in reads {
            if let Ok(Ok(Some(object))) = read.await {
                self.ahead.insert(position, object);
            }
        }
    }

    pub async fn next(&mut self) -> Result<Option<Frame>, CommitError> {
        if let Some(object) = self.ahead.remove(&(self.position + 1)) {
            return self.take(&object.bytes).map(Some).map_err(stop);
        }
        let found = self.bucket.get(&key(FRAMES, self.position + 1)).await;
        match found.map_err(|error| refused(&error))? {
            Some(object) => Ok(Some(self.take(&object.bytes).map_err(stop)?)),
            None => Ok(None),
        }
    }

    /// As in a directory: enough frames or bytes, and an eighth of the state at least.
    pub fn is_snapshot_due(&self, frames: u64, bytes: u64) -> bool {
        let new_frames = self.position - self.snapshot_position;
        (new_frames >= frames || self.bytes_since_snapshot >= bytes)
            && self.bytes_since_snapshot >= self.snapshot_len / 8
    }

    pub fn snapshot_place(&self) -> SnapshotPlace {
        let (log_id, position, frame_hash) = (self.log_id, self.position, self.last_hash);
        SnapshotPlace { log_id, position, log_end: 0, frame_hash }
    }

    /// Whoever takes it, a snapshot of one position has the same bytes: a different one is the end of this broker.
    pub async fn write_snapshot(&mut self, place: SnapshotPlace, bytes: Vec<u8>) -> Result<(), CommitError> {
        let len = bytes.len() as u64;
        if let Stored::Other(_) =
            settled(&*self.bucket, &key(SNAPSHOTS, place.position), &Bytes::from(bytes)).await?
        {
            let reason = format!(
                "another broker has another state at position {}: one of the two is wrong",
                place.position
            );
            return Err(CommitError { is_final: true, is_unknown: false, reason });
        }
        (self.snapshot_position, self.snapshot_len) = (place.position, len);
        self.bytes_since_snapshot = 0;
        let mut outdated = positions(&*self.bucket, SNAPSHOTS, 0).await.map_err(|error| refused(&error))?;
        outdated.truncate(outdated.len().saturating_sub(SNAPSHOTS_KEPT));
        for position in outdated {
            let deleted = self.bucket.delete(&key(SNAPSHOTS, position)).await;
            deleted.map_err(|error| refused(&error))?;
        }
        Ok(())
    }
}

/// Makes an object where none is, and finds out what came of it.
async fn settled(bucket: &dyn Bucket, key: &str, bytes: &Bytes) -> Result<Stored, CommitError> {
    if broken::rule("late-metadata-put")
        && let Err(BucketError { kind: BucketErrorKind::Unavailable, .. }) =
            bucket.create(key, bytes.clone()).await
    {
        return Ok(Stored::Own);
    }
    let stored = store(bucket, key, bytes, PATIENCE).await;
    stored.map_err(|StoreError { error, is_unknown }| CommitError { is_unknown, ..refused(&error) })
}

fn refused(error: &BucketError) -> CommitError {
    CommitError { is_final: false, is_unknown: false, reason: error.to_string() }
}

/// What cannot be replayed stops the broker (P7, R18).
fn stop(error: CatalogOpenError) -> CommitError {
    CommitError { is_final: true, is_unknown: false, reason: error.to_string() }
}

/// Asks again while the bucket does not answer.
async fn get(bucket: &dyn Bucket, key: &str) -> Result<Option<Object>, BucketError> {
    patiently(PATIENCE, || bucket.get(key)).await
}

/// The positions behind one that have an object, in their order.
async fn positions(bucket: &dyn Bucket, folder: &str, behind: u64) -> Result<Vec<u64>, BucketError> {
    let mut last = key(folder, behind);
    let mut all = Vec::new();
    loop {
        let listed = patiently(PATIENCE, || bucket.list(folder, Some(&last), LISTED_AT_ONCE)).await?;
        all.extend(listed.iter().filter_map(|listed| {
            let digits = listed.key.strip_prefix(folder)?;
            (digits.len() == 20).then(|| digits.parse::<u64>().ok())?
        }));
        match listed.last() {
            Some(listed) if last != listed.key => last.clone_from(&listed.key),
            _ => return Ok(all),
        }
    }
}

fn key(folder: &str, position: u64) -> String {
    format!("{folder}{position:020}")
}

/// The id of the log: of the first broker that came. Without a new one there has to be a log.
async fn head(bucket: &dyn Bucket, new: Option<LogId>) -> Result<LogId, CatalogOpenError> {
    let key = key(FRAMES, 0);
    let mut object = get(bucket, &key).await?;
    if object.is_none() {
        let new = new.ok_or_else(|| CatalogOpenError::NotBegun("there is no cluster here".to_owned()))?;
        let mut out = Encoder::with_capacity(32);
        out.raw(&HEAD_MAGIC);
        out.u16(HEAD_VERSION);
        out.u16(0);
        out.raw(&new);
        let mut bytes = out.finish();
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        match settled(bucket, &key, &Bytes::from(bytes)).await {
            Ok(Stored::Own) => return Ok(new),
            Ok(Stored::Other(other)) => object = Some(other),
            Err(error) => return Err(CatalogOpenError::NotBegun(error.reason)),
        }
    }
    let bytes = object.expect("found or put there").bytes;
    let Some((fields, crc)) = bytes.split_at_checked(bytes.len().saturating_sub(4)) else {
        return Err(damaged(0, "empty"));
    };
    if !fields.starts_with(&HEAD_MAGIC) {
        return Err(damaged(0, "not a metadata log of ottla"));
    }
    if checksum(fields).to_le_bytes() != crc {
        return Err(damaged(0, "checksum of the head"));
    }
    let unreadable =
        |reason: String| CatalogOpenError::Unreadable { file: key.clone().into(), offset: 0, reason };
    let mut fields = Decoder::new(&fields[HEAD_MAGIC.len()..], "metadata log head");
    let version = fields.u16().map_err(|error| unreadable(error.to_string()))?;
    if version != HEAD_VERSION {
        return Err(unreadable(format!("log format {version} is newer than this release of ottla")));
    }
    let log_id = fields.u16().and_then(|_| fields.take(16)).map_err(|error| unreadable(error.to_string()))?;
    Ok(log_id.try_into().expect("16 bytes"))
}

fn damaged(position: u64, what: &'static str) -> CatalogOpenError {
    CatalogOpenError::Damaged { file: key(FRAMES, position).into(), offset: 0, what }
}
