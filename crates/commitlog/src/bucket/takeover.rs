//! Ending the WAL of a broker that is gone, or only seems to be (R9-R12).
//!
//! ```text
//!   fence X in the metadata ─▶ look from X's mark on: data → next · nothing → tombstones there and behind, look again
//!                                                     tombstone → X ends here ─▶ seal X in the metadata
//! ```
//! Several may do it at once, and any of them may die half-way: who comes next begins again, and of several seals the first in
//! the metadata log counts. A broker that was only slow finds a tombstone where its next commit should be, and stops.

use std::sync::Arc;
use std::time::Duration;

use catalog::{Catalog, CatalogError, MetadataRecord, Precondition, State, Wal};
use futures_util::future::join_all;
use world::broken;
use world::bucket::{Bucket, BucketError, patiently, store};
use world::task;

use super::slot::{Slot, SlotError, check_place, look, slot_key, tombstone};
use super::slot_writer::SLOTS_IN_FLIGHT_MAX;
use crate::container::{ContainerHeader, HEADER_LEN};
use crate::error::CommitError;

/// How long a bucket may be silent before a takeover fails; it can be begun again at any time.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const METADATA_PAUSE: Duration = Duration::from_millis(200);
/// Slots looked at side by side.
const LOOKS_AT_ONCE: u64 = 32;
/// So many looks go side by side, each twice as far as the one before: most WALs are short.
const DOUBLINGS: u32 = 6;
/// No WAL has so many slots that are not rewritten, four times two to this power.
const DOUBLINGS_MAX: u32 = 24;
/// Tombstones put at once against a writer that is always faster.
const TOMBSTONES_MAX: u64 = 1024;

#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    #[error(transparent)]
    Slot(#[from] SlotError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Fences and seals a WAL; gives its end as the metadata has it, which may be another taker's. On return this broker's own
/// replay has passed the seal (R12). The heirs get its partitions, if it has any.
pub async fn take_over(
    bucket: &Arc<dyn Bucket>,
    catalog: &Catalog,
    wal_id: u64,
    heirs: &[u64],
) -> Result<u64, TakeoverError> {
    if !of(catalog, wal_id)?.is_fenced {
        append(catalog, MetadataRecord::FenceWal { wal_id }).await?;
    }
    // Read behind the fence: from there on it stands still (R9).
    let fenced = of(catalog, wal_id)?;
    if let Some(end) = fenced.sealed_at {
        return Ok(end);
    }
    let from = match broken::rule("scan-from-zero") {
        true => 0,
        false => acknowledged(bucket, wal_id, fenced.mark).await?,
    };
    let end = find_end(bucket, wal_id, from).await?;
    loop {
        let takers = [catalog.wal_id()].into_iter().chain(heirs.iter().copied());
        let slots = end.saturating_sub(fenced.mark);
        let rewriter = least_burdened(&catalog.read(), takers, wal_id, slots);
        let heirs = if catalog.read().leads(wal_id) { heirs.to_vec() } else { Vec::new() };
        let seal = MetadataRecord::SealWal { wal_id, end, rewriter, heirs };
        match append(catalog, seal).await {
            // An older WAL of the node was sealed meanwhile.
            Err(CatalogError::Rejected(Precondition::WrongHeirs { .. })) => {}
            sealed => break sealed?,
        }
    }
    Ok(of(catalog, wal_id)?.sealed_at.expect("replay has passed the seal"))
}

fn of(catalog: &Catalog, wal_id: u64) -> Result<Wal, CatalogError> {
    let unknown = CatalogError::Rejected(Precondition::UnknownWal { wal_id });
    catalog.read().wal(wal_id).cloned().ok_or(unknown)
}

/// A record of this broker alone, until its outcome is known. While it is not, it is sent again only if that is still `wanted` by all
/// that is replayed by then.
pub async fn settle(
    catalog: &Catalog,
    record: MetadataRecord,
    wanted: impl Fn() -> bool,
) -> Result<(), CommitError> {
    let mut is_unknown = false;
    loop {
        match catalog.append(vec![record.clone()]).await {
            Ok(_) => return Ok(()),
            Err(CatalogError::Unknown(_)) => is_unknown = true,
            // The try before may have counted all the same.
            Err(CatalogError::Storage(_)) if is_unknown && !catalog.is_fenced() => {}
            Err(error) => return Err(CommitError(error.to_string())),
        }
        loop {
            task::sleep(METADATA_PAUSE).await;
            match catalog.catch_up().await {
                Ok(_) if !wanted() => return Ok(()),
                Ok(_) => break,
                Err(CatalogError::Storage(_)) if !catalog.is_fenced() => {}
                Err(error) => return Err(CommitError(error.to_string())),
            }
        }
    }
}

/// Until the outcome is known. That the WAL is sealed already is as good: the first seal counts.
async fn append(catalog: &Catalog, record: MetadataRecord) -> Result<(), CatalogError> {
    loop {
        match catalog.append(vec![record.clone()]).await {
            Ok(_) | Err(CatalogError::Rejected(Precondition::WalSealed { .. })) => return Ok(()),
            // Sent again it is judged again, so it does not matter whether it was there already.
            Err(CatalogError::Unknown(_)) => task::sleep(METADATA_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

/// Who of them is to rewrite this WAL, of which so many slots are left (R6): one that has the fewest of the dead to rewrite, in units of
/// what is left here. So the work does not all stay with the one that takes over. Which one of several says a hash of both: brokers that
/// are taken over from side by side find the same numbers, and would all go to the first. 0 without any.
pub fn least_burdened(state: &State, takers: impl Iterator<Item = u64>, wal_id: u64, slots: u64) -> u64 {
    let burden = |taker: u64| -> u64 {
        let duties = state.wals().filter(|(other, wal)| wal.rewriter == taker && *other != taker);
        duties.map(|(_, wal)| wal.sealed_at.map_or(0, |end| end.saturating_sub(wal.mark))).sum()
    };
    let draw = |taker: u64| {
        let both = [wal_id.to_le_bytes(), taker.to_le_bytes()].concat();
        xxhash_rust::xxh3::xxh3_64(&both)
    };
    takers.min_by_key(|taker| (burden(*taker) / slots.max(1), draw(*taker))).unwrap_or(0)
}

/// Below this slot all are data, from the mark on: a slot says how many were acknowledged when it was written, and what was
/// acknowledged is stored without a gap (R4). So not all of them have to be looked at: first slots twice as far away each, then
/// ever closer ones around the last that is there.
async fn acknowledged(bucket: &Arc<dyn Bucket>, wal_id: u64, mark: u64) -> Result<u64, TakeoverError> {
    const NEAR: u64 = SLOTS_IN_FLIGHT_MAX as u64;
    let mut known = mark;
    // From here on nothing was seen.
    let mut nothing_at: Option<u64> = None;
    let mut doublings = 0;
    loop {
        let ahead: Vec<u64> = match nothing_at {
            None => (doublings..doublings + DOUBLINGS).map(|n| mark + (NEAR << n)).collect(),
            Some(end) if end <= known + 2 * NEAR => return Ok(known),
            Some(end) => {
                let step = (end - known).div_ceil(LOOKS_AT_ONCE);
                (known + step..end).step_by(step as usize).collect()
            }
        };
        let looks = ahead.iter().map(|slot| acknowledged_in(&**bucket, wal_id, *slot));
        let looks: Vec<Option<u64>> = join_all(looks).await.into_iter().collect::<Result<_, _>>()?;
        let last = looks.iter().rposition(Option::is_some);
        nothing_at = ahead.get(last.map_or(0, |last| last + 1)).copied().or(nothing_at);
        if let Some(acknowledged) = last.and_then(|last| looks[last]) {
            known = known.max(acknowledged);
        }
        doublings += DOUBLINGS;
        if nothing_at.is_none() && doublings > DOUBLINGS_MAX {
            return Ok(known);
        }
    }
}

/// How many slots were acknowledged when this one was written. None: there is none, or it cannot be read.
async fn acknowledged_in(bucket: &dyn Bucket, wal_id: u64, slot: u64) -> Result<Option<u64>, BucketError> {
    let key = slot_key(wal_id, slot);
    let first = patiently(PATIENCE, || bucket.get_range(&key, 0..HEADER_LEN as u64)).await?;
    let header = first.and_then(|first| ContainerHeader::decode(&first).ok());
    let header = header.filter(|header| check_place(header, wal_id, slot).is_ok());
    let of_us =
        |durable: &u64| slot.checked_sub(*durable).is_some_and(|ahead| ahead <= SLOTS_IN_FLIGHT_MAX as u64);
    Ok(header.map(|header| header.durable).filter(of_us))
}

/// The slot of the first tombstone that has only data before it, from the mark on; puts it there if there is none.
async fn find_end(bucket: &Arc<dyn Bucket>, wal_id: u64, mark: u64) -> Result<u64, TakeoverError> {
    let mut slot = mark;
    let mut distance = SLOTS_IN_FLIGHT_MAX as u64;
    let mut looks = SLOTS_IN_FLIGHT_MAX as u64;
    loop {
        let ahead = (slot..slot + looks).map(|slot| look(&**bucket, wal_id, slot));
        looks = (looks * 2).min(LOOKS_AT_ONCE);
        for found in join_all(ahead).await {
            match found? {
                Slot::Data => slot += 1,
                Slot::Tombstone => return Ok(slot),
                Slot::Absent => {
                    put_tombstones(bucket, wal_id, slot, distance).await?;
                    // Should the writer have been faster everywhere, it has to run farther next time.
                    distance = (distance * 2).min(TOMBSTONES_MAX);
                    looks = SLOTS_IN_FLIGHT_MAX as u64;
                    break;
                }
            }
        }
    }
}

/// Whatever was faster somewhere stays.
async fn put_tombstones(
    bucket: &Arc<dyn Bucket>,
    wal_id: u64,
    slot: u64,
    count: u64,
) -> Result<(), TakeoverError> {
    let put = (slot..slot + count).map(|slot| async move {
        store(&**bucket, &slot_key(wal_id, slot), &tombstone(wal_id, slot), PATIENCE).await
    });
    for stored in join_all(put).await {
        stored.map_err(|error| error.error)?;
    }
    Ok(())
}
