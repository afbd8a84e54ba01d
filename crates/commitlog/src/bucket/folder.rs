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
    match patiently(PATIENCE, || bucket.get(key)).await? {
        Some(object) if object.bytes == *bytes => Ok(()),
        _ => Err(broken("what is read back is not what was stored")),
    }
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
        assert_eq!(uploader_of(&id), 77);
        assert_eq!([uploader("wal/1/2"), uploader("seg/1/2"), uploader("meta/3")], [None; 3]);
    }
}
