//! What earlier incarnations of this node wrote: their WALs are ended, then read, headers and footers only.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::Catalog;
use futures_util::future::join_all;
use world::bucket::{Bucket, patiently};

use super::slot::slot_key;
use super::takeover::{TakeoverError, take_over};
use crate::container::{ContainerHeader, Footer, HEADER_LEN, Kind};
use crate::encoding::Hash;
use crate::error::OpenError;
use crate::log::{Shared, replay};

/// Slots read side by side.
const READS_AT_ONCE: u64 = 32;
/// The first read of a slot: a small one is whole in it.
const FIRST_READ_BYTES: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends all earlier WALs of this node. The newest first: only the oldest has partitions, and they come here.
pub async fn take_over_own(bucket: &Arc<dyn Bucket>, catalog: &Catalog) -> Result<(), TakeoverError> {
    let me = catalog.wal_id();
    let earlier: Vec<u64> = {
        let state = catalog.read();
        let Some(own) = state.wal(me) else { return Ok(()) };
        let open = state
            .wals()
            .filter(|(wal_id, wal)| *wal_id < me && wal.node_id == own.node_id && wal.sealed_at.is_none());
        open.map(|(wal_id, _)| wal_id).collect()
    };
    for wal_id in earlier.into_iter().rev() {
        let end = take_over(bucket, catalog, wal_id, &[me]).await?;
        tracing::info!("WAL {wal_id} of an earlier start ends at slot {end}");
    }
    Ok(())
}

/// Replays all sealed WALs, the oldest first.
pub async fn recover(shared: &Shared, bucket: &dyn Bucket, catalog: &Catalog) -> Result<(), OpenError> {
    let sealed: Vec<(u64, u64, u64)> = {
        let state = catalog.read();
        let sealed = state.wals().filter_map(|(wal_id, wal)| Some((wal_id, wal.mark, wal.sealed_at?)));
        sealed.collect()
    };
    for (wal_id, mark, end) in sealed {
        let mut predecessor = (mark == 0).then(Hash::default);
        let mut slot = mark;
        while slot < end {
            let some = slot..end.min(slot + READS_AT_ONCE);
            for read in join_all(some.map(|slot| read_index(bucket, wal_id, slot))).await {
                let (header, footer) = read?;
                let damaged =
                    |detail: String| OpenError::DamagedObject { key: slot_key(wal_id, slot), detail };
                if predecessor.is_some_and(|hash| hash != header.predecessor) {
                    return Err(damaged("it follows another commit than the one before it".into()));
                }
                predecessor = Some(header.hash());
                replay(shared, &header, &footer, wal_id, 0).map_err(damaged)?;
                shared.counters.recovered_chunks.fetch_add(1, Ordering::Relaxed);
                slot += 1;
            }
        }
    }
    Ok(())
}

/// Header and footer of a slot that counts.
async fn read_index(
    bucket: &dyn Bucket,
    wal_id: u64,
    slot: u64,
) -> Result<(ContainerHeader, Footer), OpenError> {
    let key = slot_key(wal_id, slot);
    let damaged = |detail: String| OpenError::DamagedObject { key: key.clone(), detail };
    let read = async |from: u64, to: u64| {
        let read = patiently(PATIENCE, || bucket.get_range(&key, from..to)).await?;
        read.ok_or_else(|| damaged("it is missing".into()))
    };
    let first = read(0, FIRST_READ_BYTES).await?;
    let header = ContainerHeader::decode(&first).map_err(|error| damaged(error.to_string()))?;
    if header.kind != Kind::Object
        || header.log_id != u128::from(wal_id).to_be_bytes()
        || header.number != slot
    {
        return Err(damaged("it belongs elsewhere".into()));
    }
    let (from, to) = (header.footer_at(), header.len());
    let footer = match first.len() as u64 >= to {
        true => first.slice(from.max(HEADER_LEN as u64) as usize..to as usize),
        false => read(from, to).await?,
    };
    let footer = header.decode_footer(&footer).map_err(|error| damaged(error.to_string()))?;
    Ok((header, footer))
}
