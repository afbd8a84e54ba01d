//! Making an object where none is, and finding out what came of it (R2, R3).

use std::time::Duration;

use bytes::Bytes;

use super::{Bucket, BucketError, BucketErrorKind, Object};
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
pub async fn patiently<T, F: Future<Output = Result<T, BucketError>>>(
    patience: Duration,
    ask: impl Fn() -> F,
) -> Result<T, BucketError> {
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

#[cfg(test)]
mod tests {
    use super::super::{MemBucket, MemBucketFaults};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const ALWAYS: u64 = 1000;

    fn run(faults: MemBucketFaults, story: impl AsyncFnOnce(MemBucket)) {
        task::deterministic(1);
        task::paused_runtime().block_on(async {
            let bucket = MemBucket::new(1);
            bucket.set_faults(faults);
            story(bucket).await;
        });
    }

    async fn stored(bucket: &MemBucket, bytes: &'static [u8]) -> Result<Stored, StoreError> {
        store(bucket, "key", &Bytes::from_static(bytes), PATIENCE).await
    }

    #[test]
    fn a_refusal_of_what_we_did_ourselves_is_success() {
        let faults = MemBucketFaults { own_success_exists: ALWAYS, ..MemBucketFaults::default() };
        run(faults, async |bucket| {
            assert_eq!(stored(&bucket, b"ours").await.unwrap(), Stored::Own);
            let other = stored(&bucket, b"other").await.unwrap();
            assert!(matches!(other, Stored::Other(object) if object.bytes == b"ours"[..]));
        });
    }

    #[test]
    fn an_answer_that_is_lost_is_looked_for() {
        let faults = MemBucketFaults { answer_lost: ALWAYS, ..MemBucketFaults::default() };
        run(faults, async |bucket| assert_eq!(stored(&bucket, b"ours").await.unwrap(), Stored::Own));
    }

    #[test]
    fn a_store_that_is_silent_leaves_it_unknown() {
        run(MemBucketFaults::default(), async |bucket| {
            bucket.set_out(true);
            assert!(stored(&bucket, b"ours").await.unwrap_err().is_unknown);
            bucket.set_out(false);
            assert_eq!(stored(&bucket, b"ours").await.unwrap(), Stored::Own);
        });
    }

    /// It arrives after its time-out, when another content is there: that one stays.
    #[test]
    fn what_is_late_changes_nothing() {
        let faults = MemBucketFaults { late: ALWAYS, ..MemBucketFaults::default() };
        run(faults, async |bucket| {
            let short = task::timeout(Duration::from_secs(1), stored(&bucket, b"late")).await;
            assert!(short.is_err());
            bucket.set_faults(MemBucketFaults::default());
            assert_eq!(stored(&bucket, b"first").await.unwrap(), Stored::Own);
            task::sleep(Duration::from_secs(600)).await;
            assert_eq!(bucket.objects()["key"], &b"first"[..]);
        });
    }
}
