//! Ids for idempotent producers. Each is given once in the life of the cluster: the catalog hands out blocks, a
//! broker gives the ids of its block, and what a stop leaves of a block is never given.

use std::sync::Arc;

use catalog::{Catalog, CatalogError, MetadataRecord};
use protocol::ErrorCode;
use tokio::sync::Mutex;

/// As in Kafka.
const BLOCK_COUNT: u32 = 1_000;
/// Another broker may take the block we were about to ask for; then the next one is asked for.
const ATTEMPTS_MAX: u32 = 16;

pub(crate) struct ProducerIds {
    catalog: Arc<Catalog>,
    /// Held across the append of a new block: those who come meanwhile take theirs from it.
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    pub fn new(catalog: Arc<Catalog>) -> ProducerIds {
        ProducerIds { catalog, block: Mutex::new(0..0) }
    }

    pub async fn next(&self) -> Result<i64, ErrorCode> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = self.allocate().await?;
        }
        Ok(block.next().expect("a fresh block is not empty"))
    }

    async fn allocate(&self) -> Result<std::ops::Range<i64>, ErrorCode> {
        for _ in 0..ATTEMPTS_MAX {
            let expected_next = self.catalog.read().next_producer_id();
            let owner = self.catalog.wal_id();
            let record = MetadataRecord::AllocateProducerIds { expected_next, count: BLOCK_COUNT, owner };
            match self.catalog.append(vec![record]).await {
                Ok(_) => return Ok(expected_next..expected_next + i64::from(BLOCK_COUNT)),
                Err(CatalogError::Rejected(_)) => {}
                Err(error) => {
                    tracing::error!(%error, "no producer ids can be allocated");
                    // Producers ask again.
                    return Err(ErrorCode::CoordinatorNotAvailable);
                }
            }
        }
        Err(ErrorCode::CoordinatorLoadInProgress)
    }
}
