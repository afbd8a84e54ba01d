//! Where a group begins in a partition that it has never read: `share.auto.offset.reset`.

use commitlog::{CommitLog, Partition};
use protocol::ErrorCode;

use crate::error::read_error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    Earliest,
    Latest,
    /// The first record that is not older than this, Unix ms.
    Since(i64),
}

/// Of a leader that may have been taken over from nothing is taken: what is "the newest" there may be old (R20).
pub async fn start_offset(partition: &Partition, log: &CommitLog, reset: Reset) -> Result<i64, ErrorCode> {
    let knows = match reset {
        Reset::Earliest => true,
        Reset::Latest | Reset::Since(_) => log.barrier().await.is_ok(),
    };
    if !knows || partition.is_leaving() {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    let offsets = partition.offsets();
    match reset {
        Reset::Earliest => Ok(offsets.log_start),
        Reset::Latest => Ok(offsets.high_watermark),
        Reset::Since(since_ms) => {
            let found = partition.offset_for_timestamp(since_ms).await.map_err(|error| read_error(&error))?;
            Ok(found.map_or(offsets.high_watermark, |found| found.offset))
        }
    }
}
