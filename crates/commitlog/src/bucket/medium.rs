//! Reading what lies in slots.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use world::bucket::{Bucket, patiently};

use super::slot::slot_key;
use crate::error::ReadError;
use crate::extent::Extent;

/// Requests of one read under way at once.
const READS_AT_ONCE: usize = 16;
/// How long a reader waits for a bucket that does not answer: less than clients wait for a fetch.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct BucketMedium {
    bucket: Arc<dyn Bucket>,
}

impl BucketMedium {
    pub fn new(bucket: Arc<dyn Bucket>) -> Self {
        Self { bucket }
    }

    /// The bytes of extents, unchecked: each lies in an object of its own.
    pub async fn read_extents(&self, extents: &[Extent]) -> Result<Vec<Bytes>, ReadError> {
        let mut all = Vec::with_capacity(extents.len());
        for some in extents.chunks(READS_AT_ONCE) {
            for read in join_all(some.iter().map(|extent| self.read(extent))).await {
                all.push(read?);
            }
        }
        Ok(all)
    }

    async fn read(&self, extent: &Extent) -> Result<Bytes, ReadError> {
        let place = extent.wal().expect("a log in a bucket has no segments");
        let key = slot_key(place.file, place.chunk);
        let range = place.position..place.position + extent.len;
        let read = patiently(PATIENCE, || self.bucket.get_range(&key, range.clone())).await?;
        read.ok_or(ReadError::Missing { key })
    }
}
