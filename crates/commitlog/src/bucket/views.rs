//! Partitions that other brokers lead, opened here for readers (KIP-392): what the manifest says of them, then the slots of WALs
//! from the mark on while they are there without a gap (R14). A slot that stands there is final before its writer knows.
//!
//! ```text
//!   manifest: a a a b b │ mark
//!   wal of X:           │ slot 7: a b │ slot 8: a │ slot 9: nothing yet
//!                                                    └ cursor: all views here have everything below it
//! ```
//!
//! One task carries all views on: it reads header and footer of new slots, once for all views, out of the same blocks that readers
//! find the batches in. Leaders say how far their WALs are stored (`heard`), so it asks the store for what is there and for nothing
//! else; where a leader is silent it looks at the WAL's next slot now and then. What was heard saves looks and proves nothing: who has
//! to know what the leader has acknowledged looks himself, and what was said to be there and is not is taken for the end. A view
//! opens when somebody fetches from it and closes when nobody does; its end never goes back (F8), since a cursor only grows and the
//! manifest only gets longer.
//!
//! Whatever does not fit means first of all that our catalog is old: a partition came to a WAL that we follow from one that we have
//! not read to its end, or slots were rewritten (R15).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use catalog::State;
use futures_util::future::join_all;
use parking_lot::Mutex;
use protocol::TopicIdPartition;
use tokio::sync::Notify;
use world::broken;
use world::task;
use world::watch;

use super::blocks::{Home, Object};
use super::medium::BucketMedium;
use super::shards::{BucketShard, Head, ShardError, head};
use super::slot::{TOMBSTONE_LEN, check_place, log_starts_of, slot_key, tombstone};
use crate::container::{ContainerHeader, Entry, Footer, HEADER_LEN};
use crate::encoding::Hash;
use crate::error::{OpenError, ReadError};
use crate::extent::Extent;
use crate::log::Shared;
use crate::manifest::shard_of;
use crate::partition::{Partition, extent_of};

/// Slots read side by side.
const READS_AT_ONCE: usize = 32;
/// The first read of a slot: a small one is whole in it.
const FIRST_READ_BYTES: u64 = 64 << 10;
/// The catalog moves on while we read; who finds it moved so often gives up until the next time.
const ROUNDS_MAX: u32 = 8;
/// A leader that has said nothing for so long is taken for silent.
const HEARD_FOR: Duration = Duration::from_millis(3500);
/// All WALs are looked at so often, whatever their leaders say.
const FULL_LOOK_EVERY: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Views {
    open: Mutex<Open>,
    /// Held while views are opened or carried on.
    progress: tokio::sync::Mutex<Progress>,
    /// Rounds begun so far.
    begun: AtomicU64,
    news: Arc<Notify>,
    /// How far WALs are stored, as those said who write them.
    heard: Mutex<BTreeMap<u64, Heard>>,
    followed: Following,
}

/// WALs of others that may go on, and that views here are made of.
struct Following(watch::Sender<BTreeSet<u64>>);

impl Default for Following {
    fn default() -> Self {
        Following(watch::channel(BTreeSet::new()).0)
    }
}

#[derive(Clone, Copy)]
struct Heard {
    end: u64,
    /// Monotonic.
    at: Duration,
}

/// How a round finds out how far WALs go.
#[derive(Clone)]
enum Look {
    /// It asks the store, until it finds nothing.
    Everywhere,
    /// So far as was said; those of which nothing was said as before.
    AsHeard(BTreeMap<u64, u64>),
}

/// Where reading a WAL ends, behind what is certain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Nowhere,
    /// Here, or at the first slot that is not there.
    To(u64),
    /// At the first slot that is not there.
    FirstMissing,
}

#[derive(Default)]
struct Open {
    views: BTreeMap<TopicIdPartition, View>,
    /// There is a task that carries them on.
    is_followed: bool,
}

struct View {
    partition: Arc<Partition>,
    /// Monotonic.
    used_at: Duration,
}

/// How far all open views are.
#[derive(Default)]
struct Progress {
    /// The last round that came to its end.
    passed: u64,
    cursors: BTreeMap<u64, Cursor>,
    /// Versions of the manifest's shards that they have.
    shards: BTreeMap<u32, u64>,
}

#[derive(Clone, Copy)]
struct Cursor {
    /// The next slot to be looked at: those below are stored without a gap.
    next: u64,
    /// Of the slot before.
    hash: Option<Hash>,
}

/// What the catalog says at one position, as far as it matters for these partitions.
struct Snapshot {
    heads: Vec<Head>,
    wals: Vec<Followed>,
    /// Of topics that are gone.
    deleted: Vec<TopicIdPartition>,
    /// Those that this broker leads itself now.
    ours: Vec<TopicIdPartition>,
}

/// Slots of a WAL that may have something of them.
struct Followed {
    wal_id: u64,
    /// Are there for certain, or rewritten.
    certain: Range<u64>,
    /// It may go on behind them.
    is_open: bool,
}

enum RoundError {
    /// Something is missing, or does not join: our catalog is old. If it is not, this is a loss.
    Behind {
        key: String,
        view: Option<TopicIdPartition>,
    },
    Failed(OpenError),
}

impl<E: Into<OpenError>> From<E> for RoundError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What one slot says of one partition.
struct Found {
    extent: Extent,
    key: String,
    leader_epoch: i32,
    entries: Vec<Entry>,
    created_ms: i64,
}

#[derive(Default)]
struct News {
    found: BTreeMap<TopicIdPartition, Vec<Found>>,
    log_starts: BTreeMap<TopicIdPartition, i64>,
}

impl Views {
    /// One that is open; from now on it is used.
    pub fn get(&self, id: &TopicIdPartition, now: Duration) -> Option<Arc<Partition>> {
        let mut open = self.open.lock();
        let view = open.views.get_mut(id)?;
        view.used_at = now;
        Some(view.partition.clone())
    }

    pub fn len(&self) -> usize {
        self.open.lock().views.len()
    }

    /// All of them, at the end of the log.
    pub fn clear(&self) {
        self.open.lock().views.clear();
    }

    /// Its leader has said just now that slots below `end` of this WAL are stored.
    pub fn slots_stored(&self, wal_id: u64, end: u64, now: Duration) {
        {
            let mut heard = self.heard.lock();
            let before = heard.get(&wal_id).map_or(0, |heard| heard.end);
            heard.insert(wal_id, Heard { end: end.max(before), at: now });
        }
        // A round under way will not see it; one is due behind it.
        let is_known = match self.progress.try_lock() {
            Ok(progress) => progress.cursors.get(&wal_id).is_none_or(|cursor| cursor.next >= end),
            Err(_) => false,
        };
        if !is_known {
            self.news.notify_one();
        }
    }

    /// The leader of this WAL does not say anything any more.
    pub fn unheard(&self, wal_id: u64) {
        self.heard.lock().remove(&wal_id);
    }

    /// WALs of others that may go on, and that views here are made of.
    pub fn followed(&self) -> watch::Receiver<BTreeSet<u64>> {
        self.followed.0.subscribe()
    }

    fn follow(&self, wal_ids: BTreeSet<u64>) {
        self.heard.lock().retain(|wal_id, _| wal_ids.contains(wal_id));
        self.followed.0.send_if_modified(|followed| {
            let is_new = *followed != wal_ids;
            *followed = wal_ids;
            is_new
        });
    }

    fn heard(&self, now: Duration) -> Look {
        let heard = self.heard.lock();
        let lately = heard.iter().filter(|(_, heard)| now.saturating_sub(heard.at) < HEARD_FOR);
        Look::AsHeard(lately.map(|(wal_id, heard)| (*wal_id, heard.end)).collect())
    }

    fn partitions(&self) -> BTreeMap<TopicIdPartition, Arc<Partition>> {
        self.open.lock().views.iter().map(|(id, view)| (*id, view.partition.clone())).collect()
    }

    fn remove(&self, ids: &[TopicIdPartition]) -> Vec<Arc<Partition>> {
        let mut open = self.open.lock();
        ids.iter().filter_map(|id| open.views.remove(id)).map(|view| view.partition).collect()
    }

    /// Whoever waits for news there asks again and is told where to go.
    fn close(&self, ids: &[TopicIdPartition]) {
        self.remove(ids).iter().for_each(|partition| partition.leave());
    }

    /// Those that nobody has used for long, and the longest unused ones where there are too many.
    fn close_unused(&self, shared: &Shared) {
        let before = shared.clock.monotonic().saturating_sub(shared.settings.bucket_view_idle);
        let mut ages: Vec<(Duration, TopicIdPartition)> =
            self.open.lock().views.iter().map(|(id, view)| (view.used_at, *id)).collect();
        ages.sort_unstable();
        let too_many = ages.len().saturating_sub(shared.settings.bucket_views_max);
        let idle = ages.partition_point(|(used_at, _)| *used_at < before);
        let unused: Vec<TopicIdPartition> = ages[..idle.max(too_many)].iter().map(|(_, id)| *id).collect();
        self.close(&unused);
    }
}

/// Opens views of these partitions, those that are not open yet. Returns when each has everything that its leader had
/// acknowledged before the call, as far as our catalog knows who that is.
pub async fn open_views(shared: &Arc<Shared>, ids: &[TopicIdPartition]) -> Result<(), OpenError> {
    let views = &shared.medium.bucket().views;
    let mut progress = views.progress.lock().await;
    let known = views.partitions();
    let fresh = |id: &TopicIdPartition| (*id, Arc::new(Partition::view(*id, shared.clone())));
    let mut new: BTreeMap<TopicIdPartition, Arc<Partition>> =
        ids.iter().filter(|id| !known.contains_key(id)).map(fresh).collect();
    if new.is_empty() {
        return Ok(());
    }
    carry_on(shared, &mut progress, &mut new, &Look::Everywhere).await?;
    let now = shared.clock.monotonic();
    {
        let mut open = views.open.lock();
        for (id, partition) in new {
            open.views.insert(id, View { partition, used_at: now });
        }
        if !std::mem::replace(&mut open.is_followed, true) {
            task::spawn(follow(Arc::downgrade(shared), views.news.clone()));
        }
    }
    views.close_unused(shared);
    Ok(())
}

/// Brings all views to where the bucket is; one look for all who wait for one.
pub async fn refresh(shared: &Shared) -> Result<(), OpenError> {
    let views = &shared.medium.bucket().views;
    let begun = views.begun.load(Ordering::Acquire);
    let mut progress = views.progress.lock().await;
    if progress.passed > begun || views.len() == 0 {
        return Ok(());
    }
    let run = views.begun.fetch_add(1, Ordering::AcqRel) + 1;
    carry_on(shared, &mut progress, &mut BTreeMap::new(), &Look::Everywhere).await?;
    progress.passed = run;
    Ok(())
}

/// What leaders said is there, and what those have who say nothing.
async fn refresh_as_heard(shared: &Shared) -> Result<(), OpenError> {
    let views = &shared.medium.bucket().views;
    let mut progress = views.progress.lock().await;
    let look = views.heard(shared.clock.monotonic());
    carry_on(shared, &mut progress, &mut BTreeMap::new(), &look).await
}

/// The task: as long as there are views.
async fn follow(shared: Weak<Shared>, news: Arc<Notify>) {
    let mut looked_at: Option<Duration> = None;
    loop {
        let Some(interval) = shared.upgrade().map(|shared| shared.settings.bucket_view_interval) else {
            return;
        };
        let _ = task::timeout(interval, news.notified()).await;
        let Some(shared) = shared.upgrade() else { return };
        let views = &shared.medium.bucket().views;
        views.close_unused(&shared);
        {
            let mut open = views.open.lock();
            if open.views.is_empty() || shared.closing.load(Ordering::Acquire) {
                open.is_followed = false;
                views.follow(BTreeSet::new());
                return;
            }
        }
        let now = shared.clock.monotonic();
        let is_due = looked_at.is_none_or(|at| now.saturating_sub(at) >= FULL_LOOK_EVERY);
        let refreshed = match is_due {
            true => {
                looked_at = Some(now);
                refresh(&shared).await
            }
            false => refresh_as_heard(&shared).await,
        };
        match refreshed {
            Ok(()) => {}
            Err(error @ OpenError::DamagedObject { .. }) => {
                tracing::warn!("partitions that others lead are not up to date: {error}");
            }
            // It is said elsewhere that the bucket does not answer.
            Err(error) => tracing::debug!("partitions that others lead are not up to date: {error}"),
        }
    }
}

/// Rounds until one fits what the catalog says.
async fn carry_on(
    shared: &Shared,
    progress: &mut Progress,
    new: &mut BTreeMap<TopicIdPartition, Arc<Partition>>,
    look: &Look,
) -> Result<(), OpenError> {
    let medium = shared.medium.bucket();
    let mut rounds = 0;
    loop {
        let position = medium.catalog.read().position();
        let (key, view) = match round(shared, progress, new, look).await {
            Ok(()) => return Ok(()),
            Err(RoundError::Failed(error)) => return Err(error),
            Err(RoundError::Behind { key, view }) => (key, view),
        };
        medium.catalog.catch_up().await?;
        rounds += 1;
        if medium.catalog.read().position() == position || rounds == ROUNDS_MAX {
            // The next reader opens it anew.
            medium.views.close(view.as_slice());
            let detail = "what belongs there, or before it, is missing".to_owned();
            return Err(OpenError::DamagedObject { key, detail });
        }
        // A try that came to nothing may have come half way.
        for partition in new.values_mut() {
            *partition = partition.view_anew();
        }
    }
}

async fn round(
    shared: &Shared,
    progress: &mut Progress,
    new: &mut BTreeMap<TopicIdPartition, Arc<Partition>>,
    look: &Look,
) -> Result<(), RoundError> {
    let medium = shared.medium.bucket();
    let mut all = medium.views.partitions();
    all.extend(new.iter().map(|(id, partition)| (*id, partition.clone())));
    let Snapshot { heads, wals, deleted, ours } = {
        let state = medium.catalog.read();
        snapshot(&state, medium.catalog.wal_id(), all.keys(), &progress.cursors)
    };
    medium.views.remove(&deleted).iter().for_each(|partition| partition.delete());
    medium.views.close(&ours);
    for id in deleted.iter().chain(&ours) {
        all.remove(id);
        new.remove(id);
    }
    follow_manifest(medium, progress, &heads, &all, new).await?;
    medium.views.follow(wals.iter().filter(|wal| wal.is_open).map(|wal| wal.wal_id).collect());
    let mut news = News::default();
    let mut cursors = Vec::with_capacity(wals.len());
    let mut ends: Vec<(u64, u64)> = Vec::new();
    for Followed { wal_id, certain, is_open } in wals {
        let known = progress.cursors.get(&wal_id).copied();
        let from = match known {
            Some(cursor) if new.is_empty() => cursor.next.max(certain.start),
            _ => certain.start,
        };
        let hash = known.filter(|cursor| cursor.next == from).and_then(|cursor| cursor.hash);
        let mut cursor = Cursor { next: from, hash };
        let reach = look.reach(wal_id, is_open);
        read_slots(medium, wal_id, &mut cursor, certain.end, reach, |slot, header, footer| {
            shared.counters.view_slots.fetch_add(1, Ordering::Relaxed);
            news.take(wal_id, slot, header, footer, &all)
        })
        .await?;
        cursors.push((wal_id, cursor));
        let is_there = matches!(reach, Reach::To(end) if cursor.next >= end);
        if is_open && !is_there {
            ends.push((wal_id, cursor.next));
        }
    }
    // R15: what is missing at the end of a WAL may have been rewritten since, and there is more behind it.
    if !ends.is_empty() {
        medium.catalog.catch_up().await?;
        let state = medium.catalog.read();
        let rewritten =
            ends.iter().find(|(wal_id, next)| state.wal(*wal_id).is_none_or(|wal| wal.mark > *next));
        if let Some((wal_id, slot)) = rewritten {
            return Err(RoundError::Behind { key: slot_key(*wal_id, *slot), view: None });
        }
    }
    let result = news.apply(&all);
    // Readers may have what joined, whatever came of the rest.
    result?;
    progress.cursors.extend(cursors);
    Ok(())
}

impl Look {
    fn reach(&self, wal_id: u64, is_open: bool) -> Reach {
        match self {
            _ if !is_open => Reach::Nowhere,
            Look::Everywhere => Reach::FirstMissing,
            Look::AsHeard(heard) => heard.get(&wal_id).map_or(Reach::FirstMissing, |end| Reach::To(*end)),
        }
    }
}

/// What a round needs to know of the catalog.
fn snapshot<'a>(
    state: &State,
    me: u64,
    ids: impl Iterator<Item = &'a TopicIdPartition>,
    cursors: &BTreeMap<u64, Cursor>,
) -> Snapshot {
    let leading: BTreeMap<i32, u64> = state
        .wals()
        .filter(|(wal_id, wal)| wal.sealed_at.is_none() && state.leads(*wal_id))
        .map(|(wal_id, wal)| (wal.node_id, wal_id))
        .collect();
    let (mut deleted, mut ours) = (Vec::new(), Vec::new());
    let (mut shards, mut followed) = (BTreeSet::new(), BTreeSet::new());
    for id in ids {
        let info = state.topic_by_id(id.topic_id).map(|topic| topic.partitions.get(id.partition as usize));
        let Some(info) = info.flatten() else {
            deleted.push(*id);
            continue;
        };
        match leading.get(&info.leader) {
            Some(leader) if *leader == me => {
                ours.push(*id);
                continue;
            }
            leader => followed.extend(leader.copied()),
        }
        shards.insert(shard_of(id));
    }
    let wals = state.wals().filter_map(|(wal_id, wal)| {
        let others = wal.slots_for_others();
        let is_open = followed.contains(&wal_id);
        // What was there once is there, or rewritten.
        let seen = cursors.get(&wal_id).filter(|_| is_open).map_or(0, |cursor| cursor.next);
        let certain = others.start..others.end.max(seen);
        (is_open || !certain.is_empty()).then_some(Followed { wal_id, certain, is_open })
    });
    Snapshot {
        wals: wals.collect(),
        heads: shards.into_iter().map(|number| head(state, number)).collect(),
        deleted,
        ours,
    }
}

/// Puts in what the manifest has, before slots that it took the place of are skipped.
async fn follow_manifest(
    medium: &BucketMedium,
    progress: &mut Progress,
    heads: &[Head],
    all: &BTreeMap<TopicIdPartition, Arc<Partition>>,
    new: &BTreeMap<TopicIdPartition, Arc<Partition>>,
) -> Result<(), RoundError> {
    let shards = join_all(heads.iter().map(|head| medium.shards.get(head))).await;
    let mut read: BTreeMap<u32, (&Head, Arc<BucketShard>)> = BTreeMap::new();
    for (head, shard) in heads.iter().zip(shards) {
        let shard = shard.map_err(|error| match error {
            ShardError::Bucket(error) => RoundError::Failed(error.into()),
            ShardError::Missing { key } => RoundError::Behind { key, view: None },
            ShardError::Damaged { key, detail } => {
                RoundError::Failed(OpenError::DamagedObject { key, detail })
            }
        })?;
        read.insert(head.number, (head, shard));
    }
    for (id, partition) in all {
        let (head, shard) = &read[&shard_of(id)];
        let is_known = progress.shards.get(&head.number) == Some(&head.version);
        if is_known && !new.contains_key(id) {
            continue;
        }
        let Some(known) = shard.partitions.get(id) else { continue };
        partition.follow_manifest(&known.state, &known.pieces, known.compacted_to).map_err(|detail| {
            OpenError::DamagedObject { key: head.key.clone(), detail: format!("{id}: {detail}") }
        })?;
    }
    progress.shards = heads.iter().map(|head| (head.number, head.version)).collect();
    Ok(())
}

/// Headers and footers of slots from the cursor on: all that are certain, and then as far as they go.
async fn read_slots(
    medium: &BucketMedium,
    wal_id: u64,
    cursor: &mut Cursor,
    certain_to: u64,
    reach: Reach,
    mut take: impl FnMut(u64, &ContainerHeader, &Footer) -> Result<(), String>,
) -> Result<(), RoundError> {
    let is_broken = broken::rule("read-behind-gap");
    let mut ahead = if is_broken { 4 } else { 1 };
    loop {
        let until = match cursor.next < certain_to {
            true => certain_to.min(cursor.next + READS_AT_ONCE as u64),
            false => match reach {
                Reach::Nowhere => return Ok(()),
                Reach::To(end) if cursor.next >= end => return Ok(()),
                Reach::To(end) => end.min(cursor.next + READS_AT_ONCE as u64),
                Reach::FirstMissing => cursor.next + ahead,
            },
        };
        let began = cursor.next;
        let reads = join_all((cursor.next..until).map(|slot| index_of(medium, wal_id, slot))).await;
        for (slot, read) in (cursor.next..until).zip(reads) {
            let key = || slot_key(wal_id, slot);
            let (header, footer) = match read? {
                Some(index) => index,
                None if slot < certain_to => return Err(RoundError::Behind { key: key(), view: None }),
                None if is_broken => {
                    cursor.hash = None;
                    continue;
                }
                None => return Ok(()),
            };
            let damaged = |detail: String| OpenError::DamagedObject { key: key(), detail };
            if cursor.hash.is_some_and(|hash| hash != header.predecessor) {
                return Err(damaged("it follows another commit than the one before it".into()).into());
            }
            take(slot, &header, &footer).map_err(damaged)?;
            *cursor = Cursor { next: slot + 1, hash: Some(header.hash()) };
        }
        if cursor.next == began {
            return Ok(());
        }
        ahead = (ahead * 2).min(READS_AT_ONCE as u64);
    }
}

/// Header and footer of a slot; `None` when there is none, or a tombstone (which is no evidence: the catalog says where a WAL ends).
async fn index_of(
    medium: &BucketMedium,
    wal_id: u64,
    slot: u64,
) -> Result<Option<(ContainerHeader, Footer)>, OpenError> {
    let home = Home::Slot { wal_id, slot };
    let key = slot_key(wal_id, slot);
    let damaged = |detail: String| {
        medium.blocks.distrust(home, 0, FIRST_READ_BYTES);
        OpenError::DamagedObject { key: key.clone(), detail }
    };
    let read = async |position: u64, len: u64| match medium
        .blocks
        .read(&medium.bucket, Object { home, len: None }, position, len)
        .await
    {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ReadError::Missing { .. }) => Ok(None),
        Err(ReadError::Bucket(error)) => Err(OpenError::from(error)),
        Err(error) => Err(OpenError::DamagedObject { key: key.clone(), detail: error.to_string() }),
    };
    let Some(first) = read(0, FIRST_READ_BYTES).await? else { return Ok(None) };
    if first.len() == TOMBSTONE_LEN && first == tombstone(wal_id, slot) {
        return Ok(None);
    }
    let header = ContainerHeader::decode(&first).map_err(|error| damaged(error.to_string()))?;
    check_place(&header, wal_id, slot).map_err(damaged)?;
    let (from, to) = (header.footer_at(), header.len());
    let footer = match first.len() as u64 >= to {
        true => first.slice(from.max(HEADER_LEN as u64) as usize..to as usize),
        // Rewritten and removed in between.
        false => match read(from, to - from).await? {
            Some(footer) => footer,
            None => return Ok(None),
        },
    };
    let footer = header.decode_footer(&footer).map_err(|error| {
        medium.blocks.distrust(home, from, to - from);
        damaged(error.to_string())
    })?;
    Ok(Some((header, footer)))
}

impl News {
    fn take(
        &mut self,
        wal_id: u64,
        slot: u64,
        header: &ContainerHeader,
        footer: &Footer,
        wanted: &BTreeMap<TopicIdPartition, Arc<Partition>>,
    ) -> Result<(), String> {
        for extent in footer.extents.iter().filter(|extent| wanted.contains_key(&extent.id)) {
            self.found.entry(extent.id).or_default().push(Found {
                extent: extent_of(extent, wal_id, 0, slot),
                key: slot_key(wal_id, slot),
                leader_epoch: extent.leader_epoch,
                entries: footer.entries_of(extent).to_vec(),
                created_ms: header.created_ms,
            });
        }
        for start in log_starts_of(footer)?.into_iter().filter(|start| wanted.contains_key(&start.id)) {
            let known = self.log_starts.entry(start.id).or_default();
            *known = (*known).max(start.offset as i64);
        }
        Ok(())
    }

    /// Everything that joins what the views have. An error when something does not.
    fn apply(self, all: &BTreeMap<TopicIdPartition, Arc<Partition>>) -> Result<(), RoundError> {
        let mut result = Ok(());
        for (id, mut found) in self.found {
            let partition = &all[&id];
            // Of several WALs: offsets say in which order they belong.
            found.sort_by_key(|found| found.extent.first_offset);
            for Found { extent, key, leader_epoch, entries, created_ms } in found {
                if partition.replay(extent, leader_epoch, &entries, created_ms).is_err() {
                    result = Err(RoundError::Behind { key, view: Some(id) });
                    break;
                }
            }
        }
        for (id, start) in self.log_starts {
            let partition = &all[&id];
            match start <= partition.offsets().high_watermark {
                true => partition.replay_log_start(start),
                false => {
                    result = Err(RoundError::Behind { key: format!("the log start of {id}"), view: Some(id) })
                }
            }
        }
        all.values().for_each(|partition| partition.settle_view());
        result
    }
}
