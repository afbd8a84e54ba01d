//! What earlier incarnations of this node wrote: their WALs are ended, then read, headers and footers only.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use catalog::{Catalog, Wal};
use futures_util::future::join_all;
use world::bucket::{Bucket, patiently};

use super::slot::slot_key;
use super::takeover::{TakeoverError, take_over};
use crate::checkpoint::decode_frame;
use crate::container::{ContainerHeader, Footer, HEADER_LEN, Kind};
use crate::encoding::{Hash, hash};
use crate::error::OpenError;
use crate::log::{Shared, replay, restore};

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

/// What was written before: the newest checkpoint, then the slots behind it.
pub async fn recover(shared: &Arc<Shared>, bucket: &dyn Bucket, catalog: &Catalog) -> Result<(), OpenError> {
    let (wals, newest) = {
        let state = catalog.read();
        let wals: Vec<(u64, Wal)> = state.wals().map(|(wal_id, wal)| (wal_id, wal.clone())).collect();
        let node_id = state.wal(catalog.wal_id()).map_or(-1, |own| own.node_id);
        let newest = state.checkpoints().get(&node_id).map(|(wal_id, key)| (*wal_id, key.to_string()));
        (wals, newest)
    };
    // It has all that its owner knew, older WALs of the node included: those were sealed before the owner wrote a word.
    let (first, covered) = match newest {
        Some((wal_id, key)) => (wal_id, load_checkpoint(shared, bucket, wal_id, &key).await?),
        None => (0, 0),
    };
    for (wal_id, wal) in wals.into_iter().filter(|(wal_id, _)| *wal_id >= first) {
        let Some(end) = wal.sealed_at else { continue };
        let from = if wal_id == first { covered.max(wal.mark) } else { wal.mark };
        replay_slots(shared, bucket, wal_id, from, end).await?;
    }
    Ok(())
}

/// Gives the slot from which on it has not everything.
async fn load_checkpoint(
    shared: &Arc<Shared>,
    bucket: &dyn Bucket,
    wal_id: u64,
    key: &str,
) -> Result<u64, OpenError> {
    let damaged = |detail: String| OpenError::DamagedObject { key: key.to_owned(), detail };
    let object = patiently(PATIENCE, || bucket.get(key)).await?;
    let object = object.ok_or_else(|| damaged("it is missing".into()))?;
    let log_id = u128::from(wal_id).to_be_bytes();
    let checkpoint = decode_frame(log_id, &object.bytes).map_err(|error| damaged(error.to_string()))?;
    if checkpoint.at.file != wal_id
        || !key.ends_with(&format!("{:032x}", u128::from_be_bytes(hash(&object.bytes))))
    {
        return Err(damaged("it belongs elsewhere".into()));
    }
    let covered = checkpoint.at.last_number;
    restore(shared, checkpoint)?;
    Ok(covered)
}

async fn replay_slots(
    shared: &Shared,
    bucket: &dyn Bucket,
    wal_id: u64,
    from: u64,
    end: u64,
) -> Result<(), OpenError> {
    let mut predecessor = (from == 0).then(Hash::default);
    let mut slot = from;
    while slot < end {
        let some = slot..end.min(slot + READS_AT_ONCE);
        for read in join_all(some.map(|slot| read_index(bucket, wal_id, slot))).await {
            let (header, footer) = read?;
            let damaged = |detail: String| OpenError::DamagedObject { key: slot_key(wal_id, slot), detail };
            if predecessor.is_some_and(|hash| hash != header.predecessor) {
                return Err(damaged("it follows another commit than the one before it".into()));
            }
            predecessor = Some(header.hash());
            replay(shared, &header, &footer, wal_id, 0).map_err(damaged)?;
            shared.counters.recovered_chunks.fetch_add(1, Ordering::Relaxed);
            slot += 1;
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
