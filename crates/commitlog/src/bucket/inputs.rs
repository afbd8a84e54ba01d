//! What a merge reads: pieces of several segments, in the order of the output, so many bytes at a time and each batch checked.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use protocol::TopicIdPartition;
use protocol::batch::split_batches;
use world::bucket::{Bucket, BucketError, patiently};

use super::folder::segment_key;
use super::takeover::PATIENCE;
use crate::manifest::PlacedPiece;
use crate::segment::{Piece, SegmentId};

/// Read together, and in memory until they are in the output.
pub const WINDOW_BYTES: u64 = 32 << 20;
/// One request fetches at most so much …
const RANGE_BYTES: u64 = 8 << 20;
/// … and what lies between two pieces, when it is not longer than this.
const GAP_BYTES: u64 = 64 << 10;
const READS_AT_ONCE: usize = 16;

pub type Input = (TopicIdPartition, PlacedPiece);

#[derive(Debug)]
pub enum InputError {
    Bucket(BucketError),
    /// The object is gone: our catalog is old, or it is lost (R15).
    Missing(SegmentId),
    Damaged(SegmentId, String),
}

/// How many of them the next window has.
pub fn window(inputs: &[Input]) -> usize {
    let mut bytes = 0;
    let fits = |(_, placed): &&Input| {
        bytes += placed.piece.len;
        bytes <= WINDOW_BYTES
    };
    inputs.iter().take_while(fits).count().max(1).min(inputs.len())
}

/// Their bytes, in their order.
pub async fn read(bucket: &Arc<dyn Bucket>, inputs: &[Input]) -> Result<Vec<Bytes>, InputError> {
    let mut by_segment: BTreeMap<SegmentId, Vec<usize>> = BTreeMap::new();
    for (index, (_, placed)) in inputs.iter().enumerate() {
        by_segment.entry(placed.segment.id).or_default().push(index);
    }
    let mut ranges: Vec<(SegmentId, Range<u64>, Vec<usize>)> = Vec::new();
    for (id, mut indexes) in by_segment {
        indexes.sort_unstable_by_key(|index| inputs[*index].1.piece.position);
        for index in indexes {
            let piece = &inputs[index].1.piece;
            let end = piece.position + piece.len;
            match ranges.last_mut() {
                Some((segment, range, some))
                    if *segment == id
                        && piece.position <= range.end + GAP_BYTES
                        && end - range.start <= RANGE_BYTES =>
                {
                    range.end = range.end.max(end);
                    some.push(index);
                }
                _ => ranges.push((id, piece.position..end, vec![index])),
            }
        }
    }
    let mut out = vec![Bytes::new(); inputs.len()];
    for some in ranges.chunks(READS_AT_ONCE) {
        let reads = some.iter().map(async |(id, range, _)| {
            let key = segment_key(id);
            patiently(PATIENCE, || bucket.get_range(&key, range.clone())).await
        });
        for (read, (segment, range, indexes)) in join_all(reads).await.into_iter().zip(some) {
            let bytes = read.map_err(InputError::Bucket)?.ok_or(InputError::Missing(*segment))?;
            for index in indexes {
                let (id, placed) = &inputs[*index];
                let from = (placed.piece.position - range.start) as usize;
                let of_piece = bytes.get(from..from + placed.piece.len as usize);
                let checked = match of_piece {
                    Some(_) => check(&placed.piece, &bytes.slice(from..from + placed.piece.len as usize)),
                    None => Err(format!("{} of {} bytes are there", bytes.len(), range.end - range.start)),
                };
                checked.map_err(|detail| InputError::Damaged(*segment, format!("{id}: {detail}")))?;
                out[*index] = bytes.slice(from..from + placed.piece.len as usize);
            }
        }
    }
    Ok(out)
}

/// Are these the batches that the manifest says? Damage is not spread (P7).
fn check(piece: &Piece, bytes: &Bytes) -> Result<(), String> {
    let is_sparse = piece.is_sparse();
    let (mut next, mut records, mut newest) = (piece.first_offset, 0u64, i64::MIN);
    for batch in split_batches(bytes) {
        let batch = batch.map_err(|error| error.to_string())?;
        batch.verify_crc().map_err(|error| error.to_string())?;
        let header = &batch.header;
        let is_next = header.base_offset == next || is_sparse && header.base_offset > next;
        if !is_next || header.partition_leader_epoch != piece.leader_epoch {
            let (offset, epoch) = (header.base_offset, header.partition_leader_epoch);
            let expected = piece.leader_epoch;
            return Err(format!("offset {offset} of epoch {epoch} where {next} of {expected} belongs"));
        }
        next = header.next_offset();
        records += header.record_count.max(0) as u64;
        newest = newest.max(header.max_timestamp);
    }
    let found = (next, records, newest);
    let expected = (piece.last_offset + 1, u64::from(piece.record_count), piece.max_timestamp);
    match found == expected {
        true => Ok(()),
        false => Err(format!("it ends with {found:?} (offset, records, timestamp), not with {expected:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentInfo;
    use protocol::Uuid;

    #[test]
    fn a_window_is_bounded_and_never_empty() {
        let segment = Arc::new(SegmentInfo {
            id: [1; 16],
            len: 1 << 40,
            payload_len: 1 << 40,
            header_hash: [0; 16],
            created_ms: 0,
        });
        let input = |len: u64| {
            let id = TopicIdPartition { topic_id: Uuid([1; 16]), partition: 0 };
            let piece = Piece {
                first_offset: 0,
                last_offset: 0,
                max_timestamp: 0,
                record_count: 1,
                leader_epoch: 0,
                position: 0,
                len,
            };
            (id, PlacedPiece { segment: segment.clone(), piece })
        };
        let inputs = [WINDOW_BYTES + 1, WINDOW_BYTES / 2, WINDOW_BYTES / 2, 1].map(input);
        assert_eq!([0, 1, 2, 3].map(|from| window(&inputs[from..])), [1, 2, 2, 1]);
        assert_eq!(window(&[]), 0);
    }
}
