//! Where what lies inside of a long piece. The manifest of a petabyte would be far too long with an entry for each mebibyte, so it
//! has pieces as long as segments; who reads one takes the segment's footer, which knows every batch, and cuts the piece with it.
//! What was cut last is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::TopicIdPartition;
use tokio::sync::OnceCell;
use world::bucket::{Bucket, patiently};
use world::collections::HashMap;

use super::folder::segment_key;
use super::medium::PATIENCE;
use crate::container::{ContainerHeader, HEADER_LEN};
use crate::error::ReadError;
use crate::extent::Extent;
use crate::manifest::PlacedPiece;
use crate::segment::{PIECE_BYTES, Piece, SegmentId, SegmentInfo, pieces_of};

/// Short pieces kept, of all segments together: about 56 bytes each.
const PIECES_MAX: usize = 200_000;

pub type Pieces = BTreeMap<TopicIdPartition, Vec<Piece>>;

#[derive(Default)]
pub struct PieceIndex {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    segments: HashMap<SegmentId, Known>,
    pieces: usize,
    /// Grows with every use.
    now: u64,
}

#[derive(Default)]
struct Known {
    used_at: u64,
    /// Empty while somebody fetches it; all who want it wait for that.
    pieces: Arc<OnceCell<Pieces>>,
    /// As counted in `Inner::pieces`.
    counted: usize,
}

/// Is it longer than what one read takes?
pub fn is_long(piece: &Piece) -> bool {
    piece.len > PIECE_BYTES
}

impl PieceIndex {
    /// The same bytes in short pieces.
    pub async fn cut(
        &self,
        bucket: &dyn Bucket,
        id: &TopicIdPartition,
        placed: &PlacedPiece,
    ) -> Result<Vec<PlacedPiece>, ReadError> {
        let PlacedPiece { segment, piece } = placed;
        let cell = {
            let mut inner = self.inner.lock();
            inner.now += 1;
            let now = inner.now;
            let known = inner.segments.entry(segment.id).or_default();
            known.used_at = now;
            known.pieces.clone()
        };
        let fetched = cell.get_or_try_init(|| fetch(bucket, id, placed)).await;
        let pieces = match fetched {
            Ok(pieces) => pieces,
            Err(error) => {
                self.forget(&segment.id);
                return Err(error);
            }
        };
        self.count(segment.id, pieces.values().map(Vec::len).sum());
        let Some(short) = parts(pieces, id, piece) else {
            self.forget(&segment.id);
            let detail = format!("the footer of {} does not lead to it", segment_key(&segment.id));
            return Err(ReadError::Damaged { partition: *id, offset: piece.first_offset, detail });
        };
        Ok(short.iter().map(|short| PlacedPiece { segment: segment.clone(), piece: *short }).collect())
    }

    fn count(&self, id: SegmentId, len: usize) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if let Some(known) = inner.segments.get_mut(&id)
            && known.counted == 0
        {
            known.counted = len;
            inner.pieces += len;
        }
        while inner.pieces > PIECES_MAX {
            let counted = inner.segments.iter().filter(|(_, known)| known.counted > 0);
            let Some(oldest) = counted.min_by_key(|(_, known)| known.used_at).map(|(id, _)| *id) else {
                return;
            };
            inner.pieces -= inner.segments.remove(&oldest).map_or(0, |known| known.counted);
        }
    }

    fn forget(&self, id: &SegmentId) {
        let mut inner = self.inner.lock();
        if let Some(known) = inner.segments.remove(id) {
            inner.pieces -= known.counted;
        }
    }
}

async fn fetch(
    bucket: &dyn Bucket,
    id: &TopicIdPartition,
    placed: &PlacedPiece,
) -> Result<Pieces, ReadError> {
    let info: &SegmentInfo = &placed.segment;
    let key = segment_key(&info.id);
    let read = async |from: u64, to: u64| {
        let read = patiently(PATIENCE, || bucket.get_range(&key, from..to)).await?;
        read.ok_or_else(|| ReadError::Missing { key: key.clone() })
    };
    let footer_at = HEADER_LEN as u64 + info.payload_len;
    let (header, footer) =
        futures_util::future::try_join(read(0, HEADER_LEN as u64), read(footer_at, info.len)).await?;
    let damaged = |detail: String| {
        let detail = format!("{key}: {detail}");
        ReadError::Damaged { partition: *id, offset: placed.piece.first_offset, detail }
    };
    let header = ContainerHeader::decode(&header).map_err(|error| damaged(error.to_string()))?;
    if header.hash() != info.header_hash {
        return Err(damaged("it is another segment".into()));
    }
    let footer = header.decode_footer(&footer).map_err(|error| damaged(error.to_string()))?;
    pieces_of(&footer).map_err(|error| damaged(error.to_string()))
}

/// The short pieces that are this one; None: the segment has it otherwise.
pub fn parts<'a>(pieces: &'a Pieces, id: &TopicIdPartition, piece: &Piece) -> Option<&'a [Piece]> {
    let of_partition = pieces.get(id)?;
    let from = of_partition.partition_point(|short| short.last_offset < piece.first_offset);
    let to = of_partition.partition_point(|short| short.first_offset <= piece.last_offset);
    Some(&of_partition[from..to]).filter(|short| covers(short, piece))
}

/// Do short pieces hold the same as the long one, byte by byte?
fn covers(short: &[Piece], long: &Piece) -> bool {
    let (mut offset, mut position) = (long.first_offset, long.position);
    for piece in short {
        if (piece.first_offset, piece.position, piece.leader_epoch) != (offset, position, long.leader_epoch) {
            return false;
        }
        (offset, position) = (piece.last_offset + 1, position + piece.len);
    }
    let records: u64 = short.iter().map(|piece| u64::from(piece.record_count)).sum();
    let ends = (long.last_offset + 1, long.position + long.len);
    !short.is_empty() && (offset, position) == ends && records == u64::from(long.record_count)
}

impl PieceIndex {
    /// Extents as a read takes them: long ones cut, and of those what is of use from this offset on.
    pub async fn cut_extents(
        &self,
        bucket: &dyn Bucket,
        id: &TopicIdPartition,
        extents: Vec<Extent>,
        offset: i64,
    ) -> Result<Vec<Extent>, ReadError> {
        if extents.iter().all(|extent| extent.segment().is_none() || extent.len <= PIECE_BYTES) {
            return Ok(extents);
        }
        let mut all = Vec::with_capacity(extents.len());
        for extent in extents {
            match extent.piece().filter(|placed| is_long(&placed.piece)) {
                Some(placed) => {
                    let short = self.cut(bucket, id, &placed).await?;
                    let wanted = short.iter().filter(|placed| placed.piece.last_offset >= offset);
                    all.extend(wanted.map(Extent::of_piece));
                }
                None => all.push(extent),
            }
        }
        Ok(all)
    }
}
