//! What the rewriter puts into a bucket beside the slots, by uploader (R8):
//!
//! ```text
//! seg/<wal_id:020>/<16 hex>             a segment; its id is the uploader's WAL id and eight random bytes
//! manifest/<wal_id:020>/<random>-<object>        a version of a shard of the manifest
//! ```

use bytes::Bytes;
use world::bucket::{Bucket, BucketError, BucketErrorKind, Stored, patiently, store};
use world::rng::Rng;

use super::takeover::PATIENCE;
use crate::segment::SegmentId;

pub const SEGMENTS: &str = "seg/";
pub const MANIFEST: &str = "manifest/";

pub fn new_segment_id(wal_id: u64, rng: &dyn Rng) -> SegmentId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&wal_id.to_be_bytes());
    rng.fill(&mut id[8..]);
    id
}

pub fn segment_key(id: &SegmentId) -> String {
    let random = u64::from_be_bytes(*id.last_chunk().expect("16 bytes"));
    format!("{SEGMENTS}{:020}/{random:016x}", uploader_of(id))
}

/// Which segment has this key.
pub fn segment_of(key: &str) -> Option<SegmentId> {
    let uploader = uploader(key)?;
    let (_, random) = key.strip_prefix(SEGMENTS)?.split_once('/')?;
    let random = u64::from_str_radix(random, 16).ok().filter(|_| random.len() == 16)?;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&uploader.to_be_bytes());
    id[8..].copy_from_slice(&random.to_be_bytes());
    Some(id)
}

pub fn manifest_key(wal_id: u64, object: &str) -> String {
    format!("{MANIFEST}{wal_id:020}/{object}")
}

pub fn uploader_of(id: &SegmentId) -> u64 {
    u64::from_be_bytes(*id.first_chunk().expect("16 bytes"))
}

/// Who uploaded it; None: not one of these folders.
pub fn uploader(key: &str) -> Option<u64> {
    let below = [SEGMENTS, MANIFEST].iter().find_map(|folder| key.strip_prefix(folder))?;
    let (digits, _) = below.split_once('/')?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// What is read back at a time: a long object is in memory once already.
const READ_BACK_BYTES: usize = 16 << 20;

/// Stores an object and reads it back: nothing rests on one that was not seen whole.
pub async fn put(bucket: &dyn Bucket, key: &str, bytes: &Bytes) -> Result<(), BucketError> {
    let broken = |detail: &str| BucketError {
        kind: BucketErrorKind::Unavailable,
        operation: "create",
        key: key.to_owned(),
        detail: detail.to_owned(),
    };
    match store(bucket, key, bytes, PATIENCE).await {
        Ok(Stored::Own) => {}
        Ok(Stored::Other(_)) => return Err(broken("another content is there")),
        Err(error) => return Err(error.error),
    }
    for from in (0..bytes.len().max(1)).step_by(READ_BACK_BYTES) {
        let to = bytes.len().min(from + READ_BACK_BYTES);
        // One byte more than there should be behind the last.
        let asked = if to == bytes.len() { to + 1 } else { to };
        let range = from as u64..asked as u64;
        match patiently(PATIENCE, || bucket.get_range(key, range.clone())).await? {
            Some(read) if read == bytes[from..to] => {}
            _ => return Err(broken("what is read back is not what was stored")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use world::rng::SeededRng;

    #[test]
    fn every_key_says_who_put_it_there() {
        let id = new_segment_id(77, &SeededRng::new(1));
        assert_eq!(uploader(&segment_key(&id)), Some(77));
        assert_eq!(uploader(&manifest_key(78, "0001-x.manifest")), Some(78));
        assert_eq!((uploader_of(&id), segment_of(&segment_key(&id))), (77, Some(id)));
        assert_eq!(segment_of("seg/00000000000000000077/12"), None);
        assert_eq!([uploader("wal/1/2"), uploader("seg/1/2"), uploader("meta/3")], [None; 3]);
    }
}
