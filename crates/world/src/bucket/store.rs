//! Making an object where none is, and finding out what came of it (R2, R3).

use std::time::Duration;

use bytes::Bytes;

use super::{Bucket, BucketError, BucketErrorKind, BucketFuture, Object};
use crate::task;

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What stands under the key now, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// These very bytes, by this request, an earlier one, or somebody who wanted the same.
    Own,
    Other(Object),
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct StoreError {
    pub error: BucketError,
    /// It may have happened, or may happen yet: a request was sent and never explained.
    pub is_unknown: bool,
}

/// Creates until it is known what stands there. Only success is success; any other answer means *unknown*, so it looks: what is
/// there decides, and where nothing is, the same bytes are sent again. Gives up when the store refuses, or after `patience`.
pub async fn store(
    bucket: &dyn Bucket,
    key: &str,
    bytes: &Bytes,
    patience: Duration,
) -> Result<Stored, StoreError> {
    let until = task::now() + patience;
    let mut pause = PAUSE_MIN;
    let mut is_unknown = false;
    loop {
        let error = match bucket.create(key, bytes.clone()).await {
            Ok(_) => return Ok(Stored::Own),
            Err(error) => error,
        };
        is_unknown |= error.kind != BucketErrorKind::Refused;
        if let Ok(Some(object)) = bucket.get(key).await {
            return Ok(if object.bytes == *bytes { Stored::Own } else { Stored::Other(object) });
        }
        if error.kind == BucketErrorKind::Refused || task::now() >= until {
            return Err(StoreError { error, is_unknown });
        }
        task::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Asks again while the store does not answer.
pub async fn patiently<T>(patience: Duration, ask: impl Fn() -> BucketFuture<T>) -> Result<T, BucketError> {
    let until = task::now() + patience;
    let mut pause = PAUSE_MIN;
    loop {
        match ask().await {
            Err(error) if error.kind == BucketErrorKind::Unavailable && task::now() < until => {}
            other => return other,
        }
        task::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
