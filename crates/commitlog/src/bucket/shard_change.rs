//! A version of a shard of the manifest that says only what is different from the version before. A job of the rewriter touches a few
//! pieces of each of its partitions, and a shard of a large bucket has hundreds of thousands.
//!
//! ```text
//!   version 7: a whole shard ◀─ 8: a change ◀─ 9: a change       the catalog leads to 9, and 9 names 7 and 8
//!   version 10: a whole shard again, when changes are many or long; then 7, 8 and 9 may go
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{TopicIdPartition, Uuid};

use super::shards::{BucketShard, Objects, Part, ShardPartition, object_name};
use crate::checkpoint::Checkpoint;
use crate::encoding::{Decoder, Encoder, FormatError, hash};
use crate::manifest::{PlacedPiece, Shard};
use crate::segment::{SegmentId, SegmentInfo};

const MAGIC: [u8; 8] = *b"OTTLABSC";
/// 1 has no transactions, as with whole shards.
const VERSION: u16 = 2;
const OLDEST_VERSION: u16 = 1;
const WHAT: &str = "a change of a shard of the manifest";
/// Changes between a whole shard and its newest version, so many requests for who opens it.
pub const CHANGES_MAX: usize = 64;
const KEY_BYTES_MAX: usize = 1024;

/// What became of the pieces of a partition: some in front went, some stayed, new ones came, and the last ones stayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Splice {
    dropped: u32,
    kept: u32,
    new: Vec<PlacedPiece>,
    kept_last: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardChange {
    pub number: u32,
    /// It makes this version of the one before.
    pub version: u64,
    /// What the version before is made of: a whole shard, and changes of it.
    pub before: Objects,
    splices: BTreeMap<TopicIdPartition, Splice>,
    /// Of those of them that were ever compacted: how far.
    compacted: BTreeMap<TopicIdPartition, i64>,
    /// Of the same partitions as the splices.
    states: Checkpoint,
    gone: Vec<TopicIdPartition>,
}

impl Splice {
    fn between(old: &[PlacedPiece], new: &[PlacedPiece]) -> Splice {
        let dropped = match new.first() {
            Some(first) => old.iter().position(|placed| placed == first).unwrap_or(0),
            None => old.len(),
        };
        let rest = &old[dropped..];
        let kept = rest.iter().zip(new).take_while(|(old, new)| old == new).count();
        let (rest, behind) = (&rest[kept..], &new[kept..]);
        let kept_last =
            rest.iter().rev().zip(behind.iter().rev()).take_while(|(old, new)| old == new).count();
        Splice {
            dropped: dropped as u32,
            kept: kept as u32,
            new: behind[..behind.len() - kept_last].to_vec(),
            kept_last: kept_last as u32,
        }
    }

    fn apply(&self, old: &[PlacedPiece]) -> Option<Vec<PlacedPiece>> {
        let (dropped, kept, kept_last) = (self.dropped as usize, self.kept as usize, self.kept_last as usize);
        let used = dropped.checked_add(kept)?.checked_add(kept_last)?;
        (used <= old.len()).then(|| {
            let (front, last) = (&old[dropped..dropped + kept], &old[old.len() - kept_last..]);
            front.iter().chain(&self.new).chain(last).cloned().collect()
        })
    }
}

impl ShardChange {
    /// Is it one, or a whole shard?
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    pub fn between(old: &BucketShard, before: &Objects, new: &BucketShard) -> ShardChange {
        assert_eq!((new.number, new.version), (old.number, old.version + 1), "it is the next version");
        let mut change = ShardChange {
            number: new.number,
            version: new.version,
            before: before.clone(),
            splices: BTreeMap::new(),
            compacted: BTreeMap::new(),
            states: Checkpoint::default(),
            gone: old.partitions.keys().filter(|id| !new.partitions.contains_key(id)).copied().collect(),
        };
        for (id, partition) in &new.partitions {
            let known = old.partitions.get(id);
            if known == Some(partition) {
                continue;
            }
            let pieces = known.map_or(&[][..], |known| &known.pieces);
            let splice = Splice::between(pieces, &partition.pieces);
            assert!(splice.apply(pieces).as_ref() == Some(&partition.pieces), "{id}: {splice:?}");
            change.splices.insert(*id, splice);
            if partition.compacted_to > 0 {
                change.compacted.insert(*id, partition.compacted_to);
            }
            change.states.partitions.insert(*id, partition.state.clone());
        }
        assert_eq!(change.contradicts(new), None, "a segment is written once");
        change
    }

    /// The next version of a shard.
    pub fn apply(&self, old: &BucketShard) -> Result<BucketShard, FormatError> {
        let wrong = |detail: String| FormatError::Inconsistent { what: WHAT, detail };
        if (self.number, self.version) != (old.number, old.version + 1) {
            let (number, version) = (old.number, old.version);
            return Err(wrong(format!("it is none of version {version} of shard {number}")));
        }
        let mut new = BucketShard { version: self.version, ..old.clone() };
        for id in &self.gone {
            new.partitions.remove(id).ok_or_else(|| wrong(format!("{id} is not there to go")))?;
        }
        for (id, splice) in &self.splices {
            let known = new.partitions.entry(*id).or_default();
            let pieces = splice.apply(&known.pieces);
            let pieces = pieces.ok_or_else(|| wrong(format!("{id} has too few pieces")))?;
            let state = self.states.partitions[id].clone();
            let is_in_order =
                pieces.is_sorted_by(|one, next| one.piece.last_offset < next.piece.first_offset);
            let end = pieces.last().map(|placed| placed.piece.last_offset + 1);
            if !is_in_order || end.is_some_and(|end| end != state.log_end) || !state.extents.is_empty() {
                return Err(wrong(format!(
                    "the pieces of {id} end at {end:?}, its state at {}",
                    state.log_end
                )));
            }
            let compacted_to = self.compacted.get(id).copied().unwrap_or_default();
            *known = ShardPartition { pieces, state, compacted_to };
        }
        match self.contradicts(&new) {
            Some(id) => Err(wrong(format!("it says something else of segment {id:02x?}"))),
            None => Ok(new),
        }
    }

    /// A segment of its new pieces of which another piece of the shard says something else: written whole, one of the two would be lost.
    fn contradicts(&self, new: &BucketShard) -> Option<SegmentId> {
        // Few as a rule, and looked up once for each piece of the shard: comparing ids is a fifth of hashing them.
        let mut said: BTreeMap<SegmentId, &Arc<SegmentInfo>> = BTreeMap::new();
        for placed in self.splices.values().flat_map(|splice| &splice.new) {
            said.insert(placed.segment.id, &placed.segment);
        }
        let mut all = new.partitions.values().flat_map(|partition| &partition.pieces);
        let other =
            all.find(|placed| said.get(&placed.segment.id).is_some_and(|one| **one != placed.segment));
        other.map(|placed| placed.segment.id)
    }

    pub fn encode(&self) -> Vec<u8> {
        let new = self.splices.iter().map(|(id, splice)| (*id, splice.new.clone()));
        let new = Shard {
            number: self.number,
            version: self.version,
            partitions: new.collect(),
            compacted: self.compacted.clone(),
        };
        let (new, states) = (new.encode(), self.states.encode());
        let mut out = Encoder::with_capacity(256 + new.len() + states.len() + self.splices.len() * 32);
        out.raw(&MAGIC);
        out.u16(if self.states.has_transactions() { VERSION } else { OLDEST_VERSION });
        out.u16(0);
        out.u32(self.number);
        out.u64(self.version);
        out.u32(self.before.parts.len() as u32);
        for Part { key, len } in &self.before.parts {
            out.u32(key.len() as u32);
            out.raw(key.as_bytes());
            out.u64(*len);
        }
        let id_of = |out: &mut Encoder, id: &TopicIdPartition| {
            out.raw(id.topic_id.as_bytes());
            out.i32(id.partition);
        };
        out.u32(self.gone.len() as u32);
        self.gone.iter().for_each(|id| id_of(&mut out, id));
        out.u32(self.splices.len() as u32);
        for (id, splice) in &self.splices {
            id_of(&mut out, id);
            out.u32(splice.dropped);
            out.u32(splice.kept);
            out.u32(splice.kept_last);
        }
        out.u64(new.len() as u64);
        out.raw(&new);
        out.raw(&states);
        let hash = hash(out.as_slice());
        out.raw(&hash);
        out.into_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let Some((content, stored)) = bytes.split_last_chunk::<16>() else {
            return Err(FormatError::Truncated { what: WHAT });
        };
        if !Self::is_one(content) {
            return Err(FormatError::Magic { what: WHAT });
        }
        if hash(content) != *stored {
            return Err(FormatError::Checksum { what: WHAT });
        }
        let mut input = Decoder::new(&content[MAGIC.len()..], WHAT);
        let format = input.u16()?;
        if !(OLDEST_VERSION..=VERSION).contains(&format) {
            return Err(FormatError::Version { what: WHAT, version: format });
        }
        input.u16()?;
        let (number, version) = (input.u32()?, input.u64()?);
        let mut before = Objects::default();
        for _ in 0..input.count(12)? {
            let len = input.count(1)?;
            if len > KEY_BYTES_MAX {
                return Err(input.inconsistent(format!("a key of {len} bytes")));
            }
            let key = std::str::from_utf8(input.take(len)?).map_err(|_| input.inconsistent("a key"))?;
            before.parts.push(Part { key: key.to_owned(), len: input.u64()? });
        }
        if before.parts.is_empty() || before.parts.len() > CHANGES_MAX || version <= before.parts.len() as u64
        {
            return Err(input.inconsistent(format!("version {version} of {} objects", before.parts.len())));
        }
        let id_of = |input: &mut Decoder<'_>| -> Result<TopicIdPartition, FormatError> {
            Ok(TopicIdPartition { topic_id: Uuid(input.array()?), partition: input.i32()? })
        };
        let mut gone = Vec::new();
        for _ in 0..input.count(20)? {
            gone.push(id_of(&mut input)?);
        }
        let mut splices = BTreeMap::new();
        for _ in 0..input.count(32)? {
            let id = id_of(&mut input)?;
            let (dropped, kept, kept_last) = (input.u32()?, input.u32()?, input.u32()?);
            splices.insert(id, Splice { dropped, kept, new: Vec::new(), kept_last });
        }
        let new_len = usize::try_from(input.u64()?).unwrap_or(usize::MAX);
        let mut new = Shard::decode(input.take(new_len)?)?;
        let states = Checkpoint::decode(input.take(input.remaining())?, format >= VERSION)?;
        for (id, splice) in &mut splices {
            splice.new = new.partitions.remove(id).unwrap_or_default();
        }
        let compacted = std::mem::take(&mut new.compacted);
        let is_whole = (new.number, new.version) == (number, version)
            && new.partitions.is_empty()
            && compacted.keys().all(|id| splices.contains_key(id))
            && states.partitions.keys().eq(splices.keys());
        match is_whole {
            true => Ok(Self { number, version, before, splices, compacted, states, gone }),
            false => Err(input.inconsistent("its parts are about different partitions")),
        }
    }

    /// What its version is made of.
    pub fn objects(&self, key: String, len: u64) -> Objects {
        let mut objects = self.before.clone();
        objects.parts.push(Part { key, len });
        objects
    }

    /// The object's name below its uploader's folder.
    pub fn object(&self, bytes: &[u8]) -> String {
        object_name(self.number, self.version, bytes)
    }
}

/// For fuzz targets: a whole shard, or a change that is applied to the one before; the new version, written whole.
#[doc(hidden)]
pub fn fuzz_manifest(before: Option<&[u8]>, bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    let shard = match ShardChange::is_one(bytes) {
        true => {
            let change = ShardChange::decode(bytes)?;
            assert_eq!(
                ShardChange::decode(&change.encode()).as_ref(),
                Ok(&change),
                "our own bytes can be read"
            );
            change.apply(&before.map_or(Ok(BucketShard::default()), BucketShard::decode)?)?
        }
        false => BucketShard::decode(bytes)?,
    };
    let whole = shard.encode();
    assert_eq!(BucketShard::decode(&whole), Ok(shard), "our own bytes can be read");
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use world::bucket::{Bucket, MemBucket};
    use world::rng::{Rng, SeededRng};

    use super::super::shards::{Folding, Head, Made, ShardError, Shards, Version, made};
    use super::*;
    use crate::checkpoint::PartitionCheckpoint;
    use crate::producers::ProducerState;
    use crate::segment::Piece;

    const NUMBER: u32 = 3;

    fn id(partition: i32) -> TopicIdPartition {
        TopicIdPartition { topic_id: Uuid([1; 16]), partition }
    }

    fn segment(name: u64) -> Arc<SegmentInfo> {
        let mut id = [7; 16];
        id[8..].copy_from_slice(&name.to_be_bytes());
        Arc::new(SegmentInfo { id, len: 1 << 20, payload_len: 1 << 19, header_hash: [3; 16], created_ms: 5 })
    }

    fn placed(segment: &Arc<SegmentInfo>, first_offset: i64, last_offset: i64) -> PlacedPiece {
        let piece = Piece {
            first_offset,
            last_offset,
            max_timestamp: 1,
            record_count: 1,
            leader_epoch: 0,
            position: 128,
            len: 100,
        };
        PlacedPiece { segment: segment.clone(), piece }
    }

    /// One step of a rewriter's life: appended, trimmed, merged, new and gone partitions.
    fn next(old: &BucketShard, rng: &SeededRng) -> BucketShard {
        let mut new = BucketShard { version: old.version + 1, ..old.clone() };
        let one = segment(new.version);
        for _ in 0..=rng.below(4) {
            let id = id(rng.below(12) as i32);
            match rng.below(8) {
                0 => drop(new.partitions.remove(&id)),
                1 => {
                    if let Some(known) = new.partitions.get_mut(&id) {
                        let dead = rng.below(known.pieces.len() as u64 + 1) as usize;
                        known.pieces.drain(..dead);
                        known.state.log_start = known
                            .pieces
                            .first()
                            .map_or(known.state.log_end, |placed| placed.piece.first_offset);
                    }
                }
                2 => {
                    let Some(known) = new.partitions.get_mut(&id).filter(|known| known.pieces.len() > 2)
                    else {
                        continue;
                    };
                    let from = rng.below(known.pieces.len() as u64 - 1) as usize;
                    let to = from + 1 + rng.below((known.pieces.len() - from) as u64 - 1) as usize;
                    let (first, last) =
                        (known.pieces[from].piece.first_offset, known.pieces[to].piece.last_offset);
                    known.pieces.splice(from..=to, [placed(&one, first, last)]);
                    if last / 10 % 2 == 0 {
                        known.compacted_to = known.compacted_to.max(last + 1);
                    }
                }
                _ => {
                    let known = new.partitions.entry(id).or_default();
                    let first = known.state.log_end;
                    known.pieces.push(placed(&one, first, first + 9));
                    known.state.log_end = first + 10;
                    known.state.producers.insert(rng.below(5) as i64, ProducerState::default());
                }
            }
        }
        new
    }

    fn run(story: impl Future<Output = ()>) {
        world::task::deterministic(1);
        world::task::paused_runtime().block_on(story);
    }

    fn head(made: &Made, version: u64) -> Head {
        Head { number: NUMBER, version, key: made.key.clone() }
    }

    #[test]
    fn every_version_is_read_as_it_was_made_from_its_changes_and_from_those_before() {
        run(async {
            let (mut whole, mut longest) = (0, 0);
            for seed in 0..20 {
                let (store, rng) = (MemBucket::new(seed), SeededRng::new(seed));
                let bucket: Arc<dyn Bucket> = Arc::new(store.clone());
                let follower = Shards::new(bucket.clone());
                let folding = Folding { whole_bytes: 0, changes_percent: 100 + rng.below(400) };
                let none = BucketShard { number: NUMBER, ..BucketShard::default() };
                let mut newest = Version { shard: Arc::new(none), ..Version::default() };
                for version in 1..=150 {
                    let shard = next(&newest.shard, &rng);
                    let made = made(&newest, &shard, folding, 9, &rng);
                    bucket.put(&made.key, made.bytes.clone()).await.unwrap();
                    whole += u32::from(made.objects.parts.len() == 1);
                    longest = longest.max(made.objects.parts.len());
                    let head = head(&made, version);
                    // What the new one is not made of is not needed.
                    for key in
                        newest.objects.keys().filter(|key| !made.objects.keys().any(|kept| kept == *key))
                    {
                        bucket.delete(key).await.unwrap();
                    }
                    assert_eq!(store.objects().len(), made.objects.parts.len());
                    // Some versions are missed.
                    if rng.below(3) > 0 {
                        let before = store.counters().gets.load(Ordering::Relaxed);
                        assert_eq!(
                            *follower.get(&head).await.unwrap(),
                            shard,
                            "seed {seed}, version {version}"
                        );
                        let gets = store.counters().gets.load(Ordering::Relaxed) - before;
                        assert!(gets <= made.objects.parts.len() as u64);
                    }
                    let fresh = Shards::new(bucket.clone()).version(&head).await.unwrap();
                    assert_eq!((&*fresh.shard, &fresh.objects), (&shard, &made.objects));
                    newest = Version { objects: made.objects, shard: Arc::new(shard) };
                }
            }
            println!("{whole} of 3000 whole, {longest} objects at most");
            assert!((100..2000).contains(&whole) && longest > 10);
        });
    }

    /// `OTTLA_GOLDEN=write` makes them anew, which is right only for a new version beside the old one.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "files of the repository")]
    fn golden_files_of_a_shard_and_a_change_are_what_we_write_and_read() {
        let rng = SeededRng::new(77);
        let mut first = BucketShard { number: NUMBER, ..BucketShard::default() };
        for _ in 0..12 {
            first = next(&first, &rng);
        }
        let second = next(&first, &rng);
        let part =
            Part { key: super::super::folder::manifest_key(9, &first.object(&first.encode())), len: 1 };
        let change = ShardChange::between(&first, &Objects { parts: vec![part] }, &second);
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
        for (name, fresh) in [("bucket.shard", first.encode()), ("bucket.change", change.encode())] {
            if std::env::var_os("OTTLA_GOLDEN").is_some_and(|value| value == "write") {
                std::fs::write(dir.join(name), &fresh).unwrap();
            }
            assert!(std::fs::read(dir.join(name)).unwrap() == fresh, "{name} takes a new version");
        }
        let stored = |name: &str| std::fs::read(dir.join(name)).unwrap();
        let read = BucketShard::decode(&stored("bucket.shard")).unwrap();
        assert_eq!(ShardChange::decode(&stored("bucket.change")).unwrap().apply(&read).unwrap(), second);
    }

    #[test]
    fn changes_are_few_and_a_short_shard_has_none() {
        let rng = SeededRng::new(5);
        let folding = Folding { whole_bytes: 0, changes_percent: 1 << 40 };
        let mut newest = Version { shard: Arc::new(BucketShard::default()), ..Version::default() };
        let mut most = 0;
        for _ in 0..200 {
            let shard = next(&newest.shard, &rng);
            let made = made(&newest, &shard, folding, 9, &rng);
            most = most.max(made.objects.parts.len());
            let short = Folding { whole_bytes: 1 << 20, ..folding };
            let whole = super::super::shards::made(&newest, &shard, short, 9, &rng);
            assert_eq!(BucketShard::decode(&whole.bytes).unwrap(), shard);
            if let Ok(change) = ShardChange::decode(&made.bytes) {
                assert_eq!(change.apply(&newest.shard).unwrap(), shard);
                assert!(change.apply(&shard).is_err(), "of another version");
                for at in [0, 9, 14, 30, made.bytes.len() / 2, made.bytes.len() - 1] {
                    let mut damaged = made.bytes.to_vec();
                    damaged[at] ^= 1;
                    assert!(ShardChange::decode(&damaged).is_err(), "byte {at}");
                }
                assert!(ShardChange::decode(&made.bytes[..made.bytes.len() - 1]).is_err());
            }
            newest = Version { objects: made.objects, shard: Arc::new(shard) };
        }
        assert_eq!(most, CHANGES_MAX + 1);
    }

    #[test]
    fn a_change_that_says_something_else_of_a_known_segment_is_refused() {
        let one = segment(1);
        let longer = Arc::new(SegmentInfo { len: one.len + 1, ..(*one).clone() });
        let shard = |version, pieces: &[PlacedPiece]| {
            let state = PartitionCheckpoint { log_end: 10 * pieces.len() as i64, ..Default::default() };
            let partition = ShardPartition { pieces: pieces.to_vec(), state, compacted_to: 0 };
            BucketShard { number: NUMBER, version, partitions: [(id(1), partition)].into() }
        };
        let first = placed(&one, 0, 9);
        let old = shard(1, std::slice::from_ref(&first));
        let before = Objects { parts: vec![Part { key: "1".to_owned(), len: 1 }] };
        let new = shard(2, &[first.clone(), placed(&one, 10, 19)]);
        let mut change = ShardChange::between(&old, &before, &new);
        assert_eq!(change.apply(&old), Ok(new));
        change.splices.get_mut(&id(1)).unwrap().new[0].segment = longer;
        let refused = change.apply(&old);
        assert!(matches!(refused, Err(FormatError::Inconsistent { .. })), "{refused:?}");
    }

    #[test]
    fn a_change_says_little_and_what_is_wrong_is_named() {
        run(async {
            let rng = SeededRng::new(1);
            let (store, one) = (MemBucket::new(1), segment(1));
            let bucket: Arc<dyn Bucket> = Arc::new(store.clone());
            let pieces: Vec<PlacedPiece> = (0..1000).map(|at| placed(&one, at * 10, at * 10 + 9)).collect();
            let state = PartitionCheckpoint { log_end: 10_000, ..PartitionCheckpoint::default() };
            let full = ShardPartition { pieces, state, compacted_to: 0 };
            let partitions = (0..50).map(|partition| (id(partition), full.clone())).collect();
            let first = BucketShard { number: NUMBER, version: 1, partitions };
            let folding = Folding { whole_bytes: 4096, changes_percent: 25 };
            let base = made(&Version::default(), &first, folding, 9, &rng);
            let mut second = BucketShard { version: 2, ..first.clone() };
            let known = second.partitions.get_mut(&id(7)).unwrap();
            known.pieces.drain(..3);
            known.pieces.push(placed(&segment(2), 10_000, 10_009));
            (known.state.log_start, known.state.log_end) = (30, 10_010);
            let newest = Version { objects: base.objects.clone(), shard: Arc::new(first) };
            let change = made(&newest, &second, folding, 9, &rng);
            println!("{} bytes for {}", change.bytes.len(), base.bytes.len());
            assert!(change.bytes.len() < 600 && base.bytes.len() > 2 << 20);
            let head = head(&change, 2);
            let read = async || Shards::new(bucket.clone()).get(&head).await;
            bucket.put(&change.key, change.bytes.clone()).await.unwrap();
            assert!(matches!(read().await, Err(ShardError::Missing { key }) if key == base.key));
            bucket.put(&base.key, base.bytes.slice(1..)).await.unwrap();
            assert!(matches!(read().await, Err(ShardError::Damaged { key, .. }) if key == base.key));
            bucket.put(&base.key, base.bytes.clone()).await.unwrap();
            assert_eq!(*read().await.unwrap(), second);
        });
    }
}
