//! Shards of the manifest as they are, and what one change makes of them.

use std::collections::{BTreeMap, BTreeSet};

use catalog::State;
use protocol::TopicIdPartition;
use world::broken;

use super::folder::{segment_key, segment_of};
use super::merging::Moved;
use super::shards::{BucketShard, Made, ShardPartition, Version};
use crate::manifest::{PlacedPiece, SHARDS, shard_of};
use crate::segment::SegmentId;

/// As the catalog has them, without those that cannot be read.
pub type AllShards = BTreeMap<u32, Version>;

pub struct Changes {
    pub old: AllShards,
    /// Those of them that change.
    pub new: BTreeMap<u32, BucketShard>,
}

impl Changes {
    pub fn of(old: AllShards) -> Self {
        Self { old, new: BTreeMap::new() }
    }

    /// None: its shard cannot be read.
    pub fn partition(&mut self, id: TopicIdPartition) -> Option<&mut ShardPartition> {
        Some(self.shard(shard_of(&id))?.partitions.entry(id).or_default())
    }

    fn shard(&mut self, number: u32) -> Option<&mut BucketShard> {
        let known = self.old.get(&number)?;
        let next = || BucketShard { version: known.shard.version + 1, ..BucketShard::clone(&known.shard) };
        Some(self.new.entry(number).or_insert_with(next))
    }

    /// Where the partition ends so far; 0 where it is new.
    pub fn log_end(&self, id: &TopicIdPartition) -> Option<i64> {
        let number = shard_of(id);
        let shard = self.new.get(&number).or_else(|| self.old.get(&number).map(|known| &*known.shard))?;
        Some(shard.partitions.get(id).map_or(0, |known| known.state.log_end))
    }

    /// New pieces behind those that are there.
    pub fn add(&mut self, id: TopicIdPartition, pieces: Vec<PlacedPiece>) {
        self.partition(id).expect("its state was changed before").pieces.extend(pieces);
    }

    /// Pieces elsewhere, in the place of exactly those that they were made of. False: they are not there any more, or not all of
    /// them, so what is there stays.
    pub fn put(&mut self, moved: &Moved) -> bool {
        let Some(known) = self.partition(moved.id) else { return false };
        let first = moved.from[0].piece.first_offset;
        let at = known.pieces.partition_point(|placed| placed.piece.first_offset < first);
        let is_there = known.pieces[at..].starts_with(&moved.from);
        if is_there {
            known.pieces.splice(at..at + moved.from.len(), moved.to.iter().cloned());
        }
        is_there
    }

    /// Below `to` it is compacted, and nothing of transactions that were aborted is left there (F6). What was put in its place says so.
    pub fn compacted(&mut self, id: TopicIdPartition, to: i64) {
        let known = self.partition(id).expect("pieces were put into it");
        known.compacted_to = known.compacted_to.max(to);
        known.state.transactions.trim(to);
    }

    /// All shards that have something of topics that are gone.
    pub fn with_dead_topics(&mut self, state: &State) {
        let is_dead = |id: &TopicIdPartition| state.topic_by_id(id.topic_id).is_none();
        let has_dead = |known: &Version| known.shard.partitions.keys().any(is_dead);
        let numbers: Vec<u32> =
            self.old.iter().filter(|(_, known)| has_dead(known)).map(|(number, _)| *number).collect();
        for number in numbers {
            self.shard(number);
        }
    }

    /// Forgets shards that stayed the same, topics that are gone, and pieces below their partition's start.
    pub fn trim(&mut self, state: &State, producers_max: usize) {
        for shard in self.new.values_mut() {
            shard.partitions.retain(|id, _| state.topic_by_id(id.topic_id).is_some());
            for ShardPartition { pieces, state, .. } in shard.partitions.values_mut() {
                let dead =
                    pieces.partition_point(|placed| is_below(placed.piece.last_offset, state.log_start));
                pieces.drain(..dead);
                state.trim_epochs();
                state.transactions.trim(state.log_start);
            }
            forget_producers(shard, producers_max / SHARDS as usize);
        }
        let old = &self.old;
        self.new.retain(|number, shard| old[number].shard.partitions != shard.partitions);
    }

    /// What only old versions lead to, of the shards that change: objects that the new ones are not made of, and segments.
    pub fn no_longer_mentioned(&self, made: &[Made]) -> Vec<String> {
        let changed = || self.old.iter().filter(|(number, _)| self.new.contains_key(number));
        let before: BTreeSet<SegmentId> = changed().flat_map(|(_, known)| known.shard.segments()).collect();
        let after: BTreeSet<SegmentId> = self.new.values().flat_map(BucketShard::segments).collect();
        let in_use: BTreeSet<&str> = made.iter().flat_map(|made| made.objects.keys()).collect();
        let objects = changed().flat_map(|(_, known)| known.objects.keys());
        let objects = objects.filter(|key| !in_use.contains(key)).map(str::to_owned);
        objects.chain(before.difference(&after).map(segment_key)).collect()
    }
}

/// Nothing of it is readable any more: it may go.
pub fn is_below(last_offset: i64, log_start: i64) -> bool {
    match broken::rule("obsolete-by-overflow") {
        true => (last_offset as u32) < log_start as u32,
        false => last_offset < log_start,
    }
}

/// Those that were silent longest go first, a producer in many partitions counts in each.
fn forget_producers(shard: &mut BucketShard, max: usize) {
    let count: usize = shard.partitions.values().map(|partition| partition.state.producers.len()).sum();
    if count <= max.max(1) {
        return;
    }
    let mut ages: Vec<(i64, TopicIdPartition, i64)> = Vec::with_capacity(count);
    for (id, partition) in &shard.partitions {
        // Never one inside a transaction.
        let idle = partition.state.producers.iter();
        let idle = idle.filter(|(producer, _)| partition.state.transactions.open(**producer).is_none());
        ages.extend(idle.map(|(producer, state)| (state.last_append_ms, *id, *producer)));
    }
    ages.sort_unstable();
    for (_, id, producer) in ages.into_iter().take(count - max) {
        shard.partitions.get_mut(&id).expect("it was listed").state.producers.remove(&producer);
    }
}

/// Those of these keys that the manifest does not lead to.
pub fn unused(shards: &AllShards, keys: Vec<String>) -> Vec<String> {
    let objects: BTreeSet<&str> = shards.values().flat_map(|known| known.objects.keys()).collect();
    // Of a petabyte there are millions of pieces, and a few keys.
    let mut asked: BTreeMap<SegmentId, bool> =
        keys.iter().filter_map(|key| Some((segment_of(key)?, false))).collect();
    for placed in all_pieces(shards) {
        if let Some(is_used) = asked.get_mut(&placed.segment.id) {
            *is_used = true;
        }
    }
    let is_used = |key: &String| {
        let is_segment_used = segment_of(key).is_some_and(|id| asked[&id]);
        is_segment_used || objects.contains(key.as_str())
    };
    keys.into_iter().filter(|key| !is_used(key)).collect()
}

pub fn all_pieces(shards: &AllShards) -> impl Iterator<Item = &PlacedPiece> {
    shards.values().flat_map(|known| known.shard.partitions.values()).flat_map(|partition| &partition.pieces)
}
