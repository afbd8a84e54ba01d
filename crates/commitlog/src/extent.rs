//! Where a partition's data lies: extents in WAL files first, in segments once rewritten.
//!
//! The rewriter (`rewrite.rs`) makes segments and the manifest durable, then puts the new extents in the place of the
//! old ones ([`crate::Partition::replace`]). WAL files in which nothing lives are given back by the log itself, after a
//! checkpoint that no longer needs them (F2). At start the manifest's pieces are put in once the WAL is replayed; an
//! extent whose file is gone is an error only if nothing replaced it.

use std::sync::Arc;

use crate::manifest::PlacedPiece;
use crate::segment::{Piece, SegmentInfo, is_sparse};

/// What one hand-over reads at most: so many extents, so many bytes.
const READ_EXTENTS: usize = 4096;
const READ_BYTES: u64 = 4 << 20;

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
    Segment(SegmentPlace),
    /// In an object of the second tier (`tier`), which has the form of a segment.
    Tier(SegmentPlace),
}

/// A piece of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentPlace {
    pub segment: Arc<SegmentInfo>,
    pub position: u64,
    pub record_count: u32,
    /// As in [`WalPlace`].
    pub leader_epoch: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalPlace {
    /// Number of the WAL file; in a bucket the WAL's id.
    pub file: u64,
    /// From the start of the file; in a bucket of the slot's object.
    pub position: u64,
    /// The chunk that holds it (in a bucket the slot), and where in there: what the tail knows it by.
    pub chunk: u64,
    pub position_in_chunk: u32,
    /// Every batch of it must carry this epoch: a batch's own checksum does not cover that.
    pub leader_epoch: i32,
}

impl Extent {
    pub fn wal(&self) -> Option<&WalPlace> {
        match &self.source {
            Source::Wal(place) => Some(place),
            Source::Segment(_) | Source::Tier(_) => None,
        }
    }

    pub fn segment(&self) -> Option<&SegmentPlace> {
        match &self.source {
            Source::Segment(place) => Some(place),
            Source::Wal(_) | Source::Tier(_) => None,
        }
    }

    pub fn tier(&self) -> Option<&SegmentPlace> {
        match &self.source {
            Source::Tier(place) => Some(place),
            Source::Wal(_) | Source::Segment(_) => None,
        }
    }

    /// How many records it has, where that is known: compaction may have taken some away, never from the WAL.
    pub fn record_count(&self) -> Option<u32> {
        match &self.source {
            Source::Wal(_) => None,
            Source::Segment(place) | Source::Tier(place) => Some(place.record_count),
        }
    }

    pub fn is_sparse(&self) -> bool {
        self.record_count().is_some_and(|count| is_sparse(self.first_offset, self.last_offset, count))
    }

    pub fn position(&self) -> u64 {
        match &self.source {
            Source::Wal(place) => place.position,
            Source::Segment(place) | Source::Tier(place) => place.position,
        }
    }

    pub fn leader_epoch(&self) -> i32 {
        match &self.source {
            Source::Wal(place) => place.leader_epoch,
            Source::Segment(place) | Source::Tier(place) => place.leader_epoch,
        }
    }

    /// A piece of a segment as an extent, and back.
    pub fn of_piece(placed: &PlacedPiece) -> Self {
        Self::placed(placed, Source::Segment)
    }

    /// The same for a segment in the tier.
    pub fn of_tiered(placed: &PlacedPiece) -> Self {
        Self::placed(placed, Source::Tier)
    }

    fn placed(placed: &PlacedPiece, source: impl Fn(SegmentPlace) -> Source) -> Self {
        let PlacedPiece { segment, piece } = placed;
        Self {
            first_offset: piece.first_offset,
            last_offset: piece.last_offset,
            max_timestamp: piece.max_timestamp,
            len: piece.len,
            source: source(SegmentPlace {
                segment: segment.clone(),
                position: piece.position,
                record_count: piece.record_count,
                leader_epoch: piece.leader_epoch,
            }),
        }
    }

    pub fn piece(&self) -> Option<PlacedPiece> {
        let place = self.segment().or(self.tier())?;
        let piece = Piece {
            first_offset: self.first_offset,
            last_offset: self.last_offset,
            max_timestamp: self.max_timestamp,
            record_count: place.record_count,
            leader_epoch: place.leader_epoch,
            position: place.position,
            len: self.len,
        };
        Some(PlacedPiece { segment: place.segment.clone(), piece })
    }
}

/// The extents at the start of `run` that lie in one file: they are read as one hand-over. A busy broker with many
/// partitions writes extents of a few hundred bytes, and a hand-over for each costs more than all their bytes.
pub fn read_together(run: &[Extent]) -> &[Extent] {
    let Some(first) = run.first() else { return run };
    let file = |extent: &Extent| match &extent.source {
        Source::Wal(place) => (place.file, [0; 16]),
        // Ids are random: no object has that of a file.
        Source::Segment(place) | Source::Tier(place) => (0, place.segment.id),
    };
    let mut bytes = 0;
    let fits = |extent: &&Extent| {
        bytes += extent.len;
        file(extent) == file(first) && bytes <= READ_BYTES
    };
    let count = run.iter().take(READ_EXTENTS).take_while(fits).count();
    &run[..count.max(1)]
}
