//! Opening partitions that this broker leads from now on, whoever led them before: their shard of the manifest, then headers and
//! footers of all slots that are not rewritten yet and may have something of them (R12).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use catalog::{Catalog, Wal};
use futures_util::future::join_all;
use protocol::TopicIdPartition;
use tokio::sync::Semaphore;
use world::bucket::Bucket;

use super::shards::{BucketShard, Head, ShardError, head, heads};
use super::slot::slot_key;
use super::slot_reads::{Found, Lost, READS_AT_ONCE, Said, SlotError, SlotReads};
use super::takeover::{TakeoverError, take_over};
use crate::error::OpenError;
use crate::log::{LogState, Shared};
use crate::manifest::shard_of;
use crate::partition::Partition;
use crate::settings::PartitionSettings;

/// The catalog moves on while we read; who finds it moved so often takes what is missing for lost, and is asked again later.
const ROUNDS_MAX: u32 = 8;

/// Ends all earlier WALs of this node, the newest first: only the oldest has partitions, and they come here. Then, if nobody else is
/// there to do it, what other brokers left open.
pub async fn take_over_own(bucket: &Arc<dyn Bucket>, catalog: &Catalog) -> Result<(), TakeoverError> {
    let me = catalog.wal_id();
    let (own, left): (Vec<u64>, Vec<u64>) = {
        let state = catalog.read();
        let Some(node_id) = state.wal(me).map(|own| own.node_id) else { return Ok(()) };
        let is_alone = state.live_brokers().all(|broker| broker.wal_id == me);
        let open = state.wals().filter(|(wal_id, wal)| *wal_id < me && wal.sealed_at.is_none());
        let ours = open.filter(|(_, wal)| wal.node_id == node_id || is_alone && wal.is_fenced);
        let (own, left): (Vec<_>, Vec<_>) = ours.partition(|(_, wal)| wal.node_id == node_id);
        let ids = |wals: Vec<(u64, &Wal)>| wals.into_iter().map(|(wal_id, _)| wal_id).rev().collect();
        (ids(own), ids(left))
    };
    for wal_id in own.into_iter().chain(left) {
        let end = take_over(bucket, catalog, wal_id, &[me]).await?;
        tracing::info!("WAL {wal_id} of an earlier start ends at slot {end}");
    }
    Ok(())
}

/// What the catalog promises at one position.
struct View {
    position: u64,
    heads: Vec<Head>,
    /// Slots that are not rewritten and may hold something of partitions whose leader was another.
    slots: Vec<(u64, Range<u64>)>,
}

/// Why partitions are not open.
enum LoadError {
    /// Something that the view promises is not there: either the view is old (R15), or it is lost.
    Missing {
        key: String,
    },
    Failed(OpenError),
}

impl From<OpenError> for LoadError {
    fn from(error: OpenError) -> Self {
        Self::Failed(error)
    }
}

impl From<SlotError> for LoadError {
    fn from(error: SlotError) -> Self {
        match error {
            SlotError::Missing { key } => Self::Missing { key },
            SlotError::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<ShardError> for LoadError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Bucket(error) => Self::Failed(error.into()),
            ShardError::Missing { key } => Self::Missing { key },
            ShardError::Damaged { key, detail } => Self::Failed(OpenError::DamagedObject { key, detail }),
        }
    }
}

/// Opens these partitions as they are behind everything that was acknowledged. The caller's replay has accepted that this broker
/// leads them. Partitions that are open already stay as they are.
pub async fn load(
    shared: &Arc<Shared>,
    wanted: &[(TopicIdPartition, PartitionSettings)],
) -> Result<(), OpenError> {
    let wanted: BTreeMap<TopicIdPartition, PartitionSettings> =
        wanted.iter().filter(|(id, _)| shared.partition(id).is_none()).cloned().collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let began = shared.clock.monotonic();
    let catalog = &shared.medium.bucket().catalog;
    // At this position of the catalog something was missing.
    let mut missing_at = None;
    let mut rounds = 0;
    loop {
        let view = view(catalog, wanted.keys());
        let is_current = missing_at == Some(view.position);
        let (mut loaded, closed) = match try_load(shared, &view, &wanted, is_current).await {
            Ok(loaded) => loaded,
            Err(LoadError::Failed(error)) => return Err(error),
            Err(LoadError::Missing { key }) if is_current => {
                return Err(OpenError::DamagedObject { key, detail: "it is missing".into() });
            }
            Err(LoadError::Missing { .. }) => {
                catalog.catch_up().await?;
                missing_at = Some(view.position);
                continue;
            }
        };
        rounds += 1;
        if is_current && closed.is_some() && rounds < ROUNDS_MAX {
            // It was rewritten and removed while we read, perhaps.
            catalog.catch_up().await?;
            if catalog.read().position() != view.position {
                continue;
            }
        }
        // What others have rewritten meanwhile is put in when the manifest is followed next.
        let mut followed = shared.medium.bucket().followed.lock().await;
        for head in &view.heads {
            followed.remove(&head.number);
        }
        shared.insert_partitions(std::mem::take(&mut loaded.0));
        let took = shared.clock.monotonic().saturating_sub(began).as_nanos() as u64;
        shared.counters.openings.fetch_add(1, Ordering::Relaxed);
        shared.counters.opening_nanos.fetch_add(took, Ordering::Relaxed);
        shared.counters.last_opening_nanos.store(took, Ordering::Relaxed);
        return closed.map_or(Ok(()), Err);
    }
}

fn view<'a>(catalog: &Catalog, wanted: impl Iterator<Item = &'a TopicIdPartition>) -> View {
    let numbers: BTreeSet<u32> = wanted.map(shard_of).collect();
    let state = catalog.read();
    let slots = state.wals().map(|(wal_id, wal)| (wal_id, wal.slots_for_others()));
    View {
        position: state.position(),
        heads: numbers.into_iter().map(|number| head(&state, number)).collect(),
        slots: slots.filter(|(_, slots)| !slots.is_empty()).collect(),
    }
}

/// Partitions that are open, and why others are not: something of them is damaged. `is_current`: the catalog is as new as can be, so a
/// slot that is missing is lost.
async fn try_load(
    shared: &Arc<Shared>,
    view: &View,
    wanted: &BTreeMap<TopicIdPartition, PartitionSettings>,
    is_current: bool,
) -> Result<(Loaded, Option<OpenError>), LoadError> {
    let medium = shared.medium.bucket();
    let shards = join_all(view.heads.iter().map(|head| medium.shards.get(head))).await;
    let shards: BTreeMap<u32, Arc<BucketShard>> = shards
        .into_iter()
        .map(|shard| shard.map(|shard| (shard.number, shard)))
        .collect::<Result<_, ShardError>>()?;
    let mut found: BTreeMap<TopicIdPartition, Vec<Found>> = BTreeMap::new();
    let mut log_starts: BTreeMap<TopicIdPartition, i64> = BTreeMap::new();
    let mut lost: Vec<Lost> = Vec::new();
    let reads = SlotReads {
        bucket: &*medium.bucket,
        is_wanted: &|id: &TopicIdPartition| wanted.contains_key(id),
        is_current,
        digest_every: shared.settings.bucket_digest_slots,
        under_way: Semaphore::new(READS_AT_ONCE as usize),
    };
    // All WALs at once: after a bad hour there are many with a little each.
    let read = view.slots.iter().map(|(wal_id, slots)| reads.of_wal(*wal_id, slots.clone()));
    for of_wal in join_all(read).await {
        let (said, lost_here) = of_wal?;
        lost.extend(lost_here);
        shared.counters.recovered_chunks.fetch_add(said.len() as u64, Ordering::Relaxed);
        for Said { found: some, starts, .. } in said {
            for (id, one) in some {
                found.entry(id).or_default().push(one);
            }
            for start in starts {
                let known = log_starts.entry(start.id).or_default();
                *known = (*known).max(start.offset as i64);
            }
        }
    }
    let mut loaded = Loaded(Vec::with_capacity(wanted.len()));
    let mut closed: Option<OpenError> = None;
    for (id, settings) in wanted {
        if let Some(lost) = lost.iter().find(|lost| lost.suspects.may_have(id)) {
            closed.get_or_insert_with(|| lost.error());
            continue;
        }
        let partition = Arc::new(Partition::new(*id, shared.clone(), settings.clone()));
        loaded.0.push(partition.clone());
        let of_it = found.remove(id).unwrap_or_default();
        let log_start = log_starts.get(id).copied();
        if let Err(error) = fill(&partition, view, &shards[&shard_of(id)], of_it, log_start) {
            loaded.0.pop();
            partition.leave();
            closed.get_or_insert(error);
        }
    }
    Ok((loaded, closed))
}

/// A partition of what its shard and slots say.
fn fill(
    partition: &Arc<Partition>,
    view: &View,
    shard: &BucketShard,
    mut all: Vec<Found>,
    log_start: Option<i64>,
) -> Result<(), OpenError> {
    let id = partition.id();
    {
        let key = || view.heads.iter().find(|head| head.number == shard.number).map(|head| head.key.clone());
        if let Some(known) = shard.partitions.get(&id) {
            let damaged =
                |detail: String| OpenError::DamagedObject { key: key().unwrap_or_default(), detail };
            partition.restore(known.state.clone());
            partition
                .take_pieces(&known.pieces, known.compacted_to)
                .map_err(|detail| damaged(format!("{id}: {detail}")))?;
        }
        all.sort_by_key(|found| found.extent.first_offset);
        for Found { wal_id, slot, extent, leader_epoch, entries, created_ms } in all {
            let replayed = partition.replay(extent, leader_epoch, &entries, created_ms);
            replayed.map_err(|detail| OpenError::DamagedObject { key: slot_key(wal_id, slot), detail })?;
        }
        if let Some(start) = log_start {
            partition.replay_log_start(start);
        }
        partition.settle();
        let gaps = partition.check_gaps();
        gaps.map_err(|detail| OpenError::DamagedObject { key: key().unwrap_or_default(), detail })
    }
}

/// Partitions that nobody has taken yet: their producers are counted, and given back when they come to nothing.
struct Loaded(Vec<Arc<Partition>>);

impl Drop for Loaded {
    fn drop(&mut self) {
        self.0.iter().for_each(|partition| partition.leave());
    }
}

/// Puts pieces that were made of slots, by whomever, in their place. False: not all of them, this time.
pub async fn follow_manifest(shared: &Shared) -> bool {
    let mut is_complete = true;
    let medium = shared.medium.bucket();
    let mut followed = medium.followed.lock().await;
    // Both as of one position: a partition that was moved on before this version of the manifest may have grown elsewhere, and what
    // the manifest has of it is no more about the log that still stands here.
    let (heads, led) = {
        let state = medium.catalog.read();
        let mut heads = heads(&state);
        heads.retain(|head| head.version > 0 && followed.get(&head.number) != Some(&head.version));
        if heads.is_empty() {
            return true;
        }
        let led = state.led_by(medium.catalog.wal_id());
        (heads, led.into_iter().collect::<BTreeSet<_>>())
    };
    for head in &heads {
        let shard = match medium.shards.get(head).await {
            Ok(shard) => shard,
            // There is a newer one. It is followed when the catalog knows it.
            Err(ShardError::Missing { .. }) => {
                is_complete = false;
                continue;
            }
            Err(error) => {
                tracing::warn!("the manifest cannot be followed: {error}");
                is_complete = false;
                continue;
            }
        };
        for (id, known) in &shard.partitions {
            let is_led = u32::try_from(id.partition).is_ok_and(|index| led.contains(&(id.topic_id, index)));
            let Some(partition) = shared.partition(id).filter(|_| is_led) else { continue };
            if let Err(detail) = partition.take_pieces(&known.pieces, known.compacted_to) {
                shared.set_state(LogState::Failed(format!("{}: {id}: {detail}", head.key)));
            }
        }
        followed.insert(head.number, head.version);
    }
    is_complete
}
