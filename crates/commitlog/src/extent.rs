//! Where a partition's data lies: extents in WAL files first, in segments once rewritten.
//!
//! **The contract with the rewriter.** [`crate::log::Shared::sealed_files`] gives the WAL files that take no more
//! chunks, oldest first; [`crate::log::Shared::live_extents`] what of a file is still read. The rewriter makes
//! segments and its manifest durable, then calls [`crate::Partition::replace`] per partition: WAL extents up to the
//! new extent's last offset go, and their files are given back by the log itself, after a checkpoint that no longer
//! needs them (F2). At start the manifest wins over the checkpoint: segments are put in with `replace` before the WAL
//! is replayed, and an extent whose file is gone is an error only if nothing replaced it.

/// A run of batches of one partition in one place. Committed, hence visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub first_offset: i64,
    pub last_offset: i64,
    pub max_timestamp: i64,
    pub len: u64,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Wal(WalPlace),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalPlace {
    /// Number of the WAL file.
    pub file: u64,
    /// From the start of the file.
    pub position: u64,
    /// The chunk that holds it, and where in there: what the tail knows it by.
    pub chunk: u64,
    pub position_in_chunk: u32,
    /// Every batch of it must carry this epoch: a batch's own checksum does not cover that.
    pub leader_epoch: i32,
}

impl Extent {
    pub fn wal(&self) -> Option<&WalPlace> {
        match &self.source {
            Source::Wal(place) => Some(place),
        }
    }
}
