//! The metadata log of either medium: a file of a directory that one broker writes, or objects of a bucket that many do.

use std::path::PathBuf;

use crate::bucket_log::BucketLog;
use crate::catalog::CatalogOpenError;
use crate::directory_log::DirectoryLog;
use crate::frame::Frame;
use crate::level::Levels;
use crate::snapshot::SnapshotPlace;
use crate::state::{Entry, Outcome, State};

/// Every how many frames the hash of the state is written and compared.
pub const STATE_HASH_INTERVAL: u64 = 100;

/// What opening found that an operator should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    TornTailCut { file: PathBuf, offset: u64, bytes: u64 },
    SnapshotIgnored { file: PathBuf, reason: String },
}

/// Why a commit did not happen.
#[derive(Debug, Clone)]
pub struct CommitError {
    /// The log takes nothing any more; only a restart can tell whether the frame is there.
    pub is_final: bool,
    /// It may have happened, or may happen yet.
    pub is_unknown: bool,
    pub reason: String,
}

/// What stands at the position that a commit wanted.
pub enum Committed {
    Own {
        bytes: u64,
    },
    /// Another broker was faster. To be replayed; then one's own may be tried again behind it.
    Other(Frame),
}

pub enum MetadataLog {
    Directory(DirectoryLog),
    Bucket(BucketLog),
}

impl MetadataLog {
    pub fn position(&self) -> u64 {
        match self {
            Self::Directory(log) => log.position(),
            Self::Bucket(log) => log.position(),
        }
    }

    /// Makes the next frame durable, or finds another one there.
    pub async fn commit(
        &mut self,
        state_hash: Option<u128>,
        entries: Vec<Entry>,
    ) -> Result<Committed, CommitError> {
        match self {
            Self::Directory(log) => {
                log.commit(state_hash, entries).await.map(|bytes| Committed::Own { bytes })
            }
            Self::Bucket(log) => log.commit(state_hash, entries).await,
        }
    }

    /// The next frame of another broker, if there is one.
    pub async fn next(&mut self) -> Result<Option<Frame>, CommitError> {
        match self {
            Self::Directory(_) => Ok(None),
            Self::Bucket(log) => log.next().await,
        }
    }

    /// Makes the next frames up to a position that is there come at once.
    pub async fn read_ahead(&mut self, position: u64) {
        if let Self::Bucket(log) = self {
            log.read_ahead(position).await;
        }
    }

    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Bucket(_))
    }

    /// An object that is there is durable; a file has to be told.
    pub fn is_marked(&self) -> bool {
        match self {
            Self::Directory(log) => log.is_marked(),
            Self::Bucket(_) => true,
        }
    }

    /// Says that everything so far is durable.
    pub async fn write_mark(&mut self) -> Result<(), String> {
        match self {
            Self::Directory(log) => log.write_mark().await.map_err(|error| error.to_string()),
            Self::Bucket(_) => Ok(()),
        }
    }

    pub fn is_snapshot_due(&self, frames: u64, bytes: u64) -> bool {
        match self {
            Self::Directory(log) => log.is_snapshot_due(frames, bytes),
            Self::Bucket(log) => log.is_snapshot_due(frames, bytes),
        }
    }

    pub fn snapshot_place(&self) -> SnapshotPlace {
        match self {
            Self::Directory(log) => log.snapshot_place(),
            Self::Bucket(log) => log.snapshot_place(),
        }
    }

    /// Writes a snapshot and removes those that it makes useless.
    pub async fn write_snapshot(&mut self, place: SnapshotPlace, bytes: Vec<u8>) -> Result<(), CommitError> {
        match self {
            Self::Directory(log) => log.write_snapshot(place, bytes).await.map_err(|error| CommitError {
                is_final: false,
                is_unknown: false,
                reason: error.to_string(),
            }),
            Self::Bucket(log) => log.write_snapshot(place, bytes).await,
        }
    }
}

/// Replays one frame; what each of its requests came to. An error: this broker has computed another state than the writer, or the
/// cluster is at a level that this build does not know (R18).
pub fn replay(state: &mut State, frame: &Frame, known: Levels) -> Result<Vec<Outcome>, CatalogOpenError> {
    if let Some(expected) = frame.state_hash {
        let actual = state.hash();
        if actual != expected {
            // The hash was taken of the state before this frame.
            return Err(CatalogOpenError::Diverged { position: frame.position, expected, actual });
        }
    }
    let outcomes = state.apply(frame.position, &frame.entries);
    for (entry, outcome) in frame.entries.iter().zip(&outcomes) {
        if let Outcome::Rejected(reason) = outcome {
            let (position, writer, request) = (frame.position, entry.writer, entry.request);
            tracing::warn!(position, writer, request, %reason, "a metadata request is void");
        }
    }
    known.require(state.level())?;
    Ok(outcomes)
}
