//! The manifest in a bucket. A shard's object says of each of its partitions which pieces of which segments it has, and what a
//! leader needs to know besides batches as of their end: where the log starts and ends, epochs, producers (F2, F3, F10). So whoever
//! opens a partition reads its shard and the slots behind, and nothing of those who led it before.
//!
//! ```text
//! manifest/<wal_id:020>/<random>-<shard>-<version>-<hash>.manifest      made once by that incarnation, and never changed
//! ```
//!
//! A long shard is not written anew by each change (`shard_change.rs`): its newest version is then a whole one with some changes behind
//! it. The catalog says which object is a shard's newest. One that is missing is outdated: our catalog is old (R15).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use catalog::State;
use futures_util::future::join_all;
use parking_lot::Mutex;
use protocol::TopicIdPartition;
use world::bucket::{Bucket, BucketError, patiently};
use world::rng::Rng;

use super::shard_change::{CHANGES_MAX, ShardChange};
use super::takeover::PATIENCE;
use crate::checkpoint::{Checkpoint, PartitionCheckpoint};
use crate::encoding::{Decoder, Encoder, FormatError, hash};
use crate::manifest::{PlacedPiece, SHARDS, Shard};
use crate::segment::SegmentId;

const MAGIC: [u8; 8] = *b"OTTLABSH";
/// 1 has no transactions, and is what is written where there are none: brokers of an older release understand it (R18).
const VERSION: u16 = 2;
const OLDEST_VERSION: u16 = 1;
const WHAT: &str = "a shard of the manifest";
/// Changes of a shard read side by side.
const READS_AT_ONCE: usize = 16;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardPartition {
    /// In offset order, without a gap, up to the state's end.
    pub pieces: Vec<PlacedPiece>,
    /// Without extents in a WAL.
    pub state: PartitionCheckpoint,
    /// Below this offset only the newest record of each key is left; 0: it was never compacted.
    pub compacted_to: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketShard {
    pub number: u32,
    pub version: u64,
    pub partitions: BTreeMap<TopicIdPartition, ShardPartition>,
}

impl BucketShard {
    pub fn encode(&self) -> Vec<u8> {
        let pieces = |(id, partition): (&TopicIdPartition, &ShardPartition)| (*id, partition.pieces.clone());
        let shard = Shard {
            number: self.number,
            version: self.version,
            partitions: self.partitions.iter().map(pieces).collect(),
            compacted: self
                .partitions
                .iter()
                .filter(|(_, partition)| partition.compacted_to > 0)
                .map(|(id, partition)| (*id, partition.compacted_to))
                .collect(),
        };
        let states = self.partitions.iter().map(|(id, partition)| (*id, partition.state.clone()));
        let states = Checkpoint { partitions: states.collect(), ..Checkpoint::default() };
        let version = if states.has_transactions() { VERSION } else { OLDEST_VERSION };
        let (shard, states) = (shard.encode(), states.encode());
        let mut out = Encoder::with_capacity(64 + shard.len() + states.len());
        out.raw(&MAGIC);
        out.u16(version);
        out.u16(0);
        out.u64(shard.len() as u64);
        out.raw(&shard);
        out.raw(&states);
        let hash = hash(out.as_slice());
        out.raw(&hash);
        out.into_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let Some((content, stored)) = bytes.split_last_chunk::<16>() else {
            return Err(FormatError::Truncated { what: WHAT });
        };
        if !content.starts_with(&MAGIC) {
            return Err(FormatError::Magic { what: WHAT });
        }
        if hash(content) != *stored {
            return Err(FormatError::Checksum { what: WHAT });
        }
        let mut input = Decoder::new(&content[MAGIC.len()..], WHAT);
        let version = input.u16()?;
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(FormatError::Version { what: WHAT, version });
        }
        input.u16()?;
        let shard_len = usize::try_from(input.u64()?).unwrap_or(usize::MAX);
        let rest = &content[content.len() - input.remaining()..];
        let Some((shard, states)) = rest.split_at_checked(shard_len) else {
            return Err(FormatError::Truncated { what: WHAT });
        };
        let (mut shard, mut states) =
            (Shard::decode(shard)?, Checkpoint::decode(states, version >= VERSION)?.partitions);
        let mut partitions = BTreeMap::new();
        for (id, state) in std::mem::take(&mut states) {
            let pieces = shard.partitions.remove(&id).unwrap_or_default();
            let ends = pieces.last().map(|placed| placed.piece.last_offset + 1);
            if ends.is_some_and(|end| end != state.log_end) || !state.extents.is_empty() {
                let detail = format!("the pieces of {id} end at {ends:?}, its state at {}", state.log_end);
                return Err(FormatError::Inconsistent { what: WHAT, detail });
            }
            let compacted_to = shard.compacted.remove(&id).unwrap_or_default();
            partitions.insert(id, ShardPartition { pieces, state, compacted_to });
        }
        match shard.partitions.keys().chain(shard.compacted.keys()).next() {
            Some(id) => {
                Err(FormatError::Inconsistent { what: WHAT, detail: format!("{id} has pieces and no state") })
            }
            None => Ok(Self { number: shard.number, version: shard.version, partitions }),
        }
    }

    pub fn segments(&self) -> BTreeSet<SegmentId> {
        self.partitions
            .values()
            .flat_map(|partition| &partition.pieces)
            .map(|placed| placed.segment.id)
            .collect()
    }

    /// The object's name below its uploader's folder.
    pub fn object(&self, bytes: &[u8]) -> String {
        object_name(self.number, self.version, bytes)
    }
}

pub fn object_name(number: u32, version: u64, bytes: &[u8]) -> String {
    let hash: String = bytes[bytes.len() - 16..].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{number:04}-{version:020}-{hash}.manifest")
}

/// An object of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub key: String,
    pub len: u64,
}

/// What a version of a shard is made of: a whole one, then changes of it, in their order. Of version 0 nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    pub parts: Vec<Part>,
}

impl Objects {
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.key.as_str())
    }

    /// Bytes of the whole one, and of all changes.
    fn lens(&self) -> (u64, u64) {
        let mut lens = self.parts.iter().map(|part| part.len);
        (lens.next().unwrap_or(0), lens.sum())
    }
}

/// A version of a shard, and what it is made of.
#[derive(Clone, Debug, Default)]
pub struct Version {
    pub objects: Objects,
    pub shard: Arc<BucketShard>,
}

/// When a shard is written whole.
#[derive(Clone, Copy, Debug)]
pub struct Folding {
    /// A whole one that is so short is not worth changes.
    pub whole_bytes: u64,
    /// Changes together may have this part of the whole one.
    pub changes_percent: u64,
}

/// A new version, to be stored.
pub struct Made {
    pub key: String,
    pub bytes: Bytes,
    pub objects: Objects,
}

/// The next version of a shard, as a change of the one before or whole. Its key is another one with every try, or the late removal of
/// an earlier try that did not count would hit the one that does.
pub fn made(old: &Version, new: &BucketShard, folding: Folding, wal_id: u64, rng: &dyn Rng) -> Made {
    let random = rng.next_u64();
    let key = |object: String| super::folder::manifest_key(wal_id, &format!("{random:016x}-{object}"));
    let (whole, changes) = old.objects.lens();
    if whole > folding.whole_bytes && old.objects.parts.len() <= CHANGES_MAX {
        let change = ShardChange::between(&old.shard, &old.objects, new);
        let bytes = Bytes::from(change.encode());
        if changes + bytes.len() as u64 <= whole * folding.changes_percent / 100 {
            let key = key(change.object(&bytes));
            return Made { objects: change.objects(key.clone(), bytes.len() as u64), key, bytes };
        }
    }
    let bytes = Bytes::from(new.encode());
    let key = key(new.object(&bytes));
    let parts = vec![Part { key: key.clone(), len: bytes.len() as u64 }];
    Made { objects: Objects { parts }, key, bytes }
}

/// For tests: the first version of the shard that has this partition, in which its log begins at an offset that would take years to
/// reach. The shard's number, the object's key and its bytes.
#[cfg(feature = "negative-controls")]
pub fn beginning_at(id: TopicIdPartition, offset: i64, uploader: u64) -> (u32, String, Bytes) {
    let state = PartitionCheckpoint {
        log_start: offset,
        log_end: offset,
        epochs: vec![(0, offset)],
        ..Default::default()
    };
    let number = crate::manifest::shard_of(&id);
    let partitions = BTreeMap::from([(id, ShardPartition { state, ..Default::default() })]);
    let shard = BucketShard { number, version: 1, partitions };
    let bytes = shard.encode();
    let key = super::folder::manifest_key(uploader, &format!("{:016x}-{}", 0, shard.object(&bytes)));
    (number, key, bytes.into())
}

/// The newest version of a shard, by the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub number: u32,
    /// 0: there is none yet.
    pub version: u64,
    pub key: String,
}

pub fn head(state: &State, number: u32) -> Head {
    match state.manifest(number) {
        Some(head) => Head { number, version: head.version, key: head.object.to_string() },
        None => Head { number, version: 0, key: String::new() },
    }
}

pub fn heads(state: &State) -> Vec<Head> {
    (0..SHARDS).map(|number| head(state, number)).collect()
}

#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A newer version took its place: our catalog is old. If it is not, this is a loss.
    #[error("{key} is missing")]
    Missing { key: String },
    #[error("{key} is damaged: {detail}")]
    Damaged { key: String, detail: String },
}

/// The newest versions that were fetched or made.
pub struct Shards {
    bucket: Arc<dyn Bucket>,
    known: Mutex<BTreeMap<u32, Version>>,
}

impl Shards {
    pub fn new(bucket: Arc<dyn Bucket>) -> Self {
        Self { bucket, known: Mutex::default() }
    }

    pub async fn get(&self, head: &Head) -> Result<Arc<BucketShard>, ShardError> {
        Ok(self.version(head).await?.shard)
    }

    pub async fn version(&self, head: &Head) -> Result<Version, ShardError> {
        if head.version == 0 {
            let shard = BucketShard { number: head.number, ..BucketShard::default() };
            return Ok(Version { objects: Objects::default(), shard: Arc::new(shard) });
        }
        let known = self.known.lock().get(&head.number).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.objects.keys().last() == Some(&head.key)) {
            return Ok(known.clone());
        }
        let bytes = self.fetch(&head.key).await?;
        let version = match ShardChange::is_one(&bytes) {
            true => {
                let newest = change(&head.key, &bytes, head.number, head.version)?;
                self.changed(head, newest, bytes.len() as u64, known).await?
            }
            false => whole(&head.key, &bytes, head.number, head.version)?,
        };
        self.put(version.clone());
        Ok(version)
    }

    /// A version that is a change of others: of those what we have already, or all.
    async fn changed(
        &self,
        head: &Head,
        newest: ShardChange,
        len: u64,
        known: Option<Version>,
    ) -> Result<Version, ShardError> {
        let number = head.number;
        let keys: Vec<&str> = newest.before.keys().collect();
        let first_version = head.version - keys.len() as u64;
        let is_before = |known: &Version| newest.before.parts.starts_with(&known.objects.parts);
        let mut shard = match known.filter(|known| known.shard.version > 0 && is_before(known)) {
            Some(known) => known.shard,
            None => whole(keys[0], &self.fetch(keys[0]).await?, number, first_version)?.shard,
        };
        let have = (shard.version - first_version) as usize + 1;
        let missing: Vec<(u64, &str)> = (shard.version + 1..).zip(keys[have..].iter().copied()).collect();
        for some in missing.chunks(READS_AT_ONCE) {
            let read = join_all(some.iter().map(|(_, key)| self.fetch(key))).await;
            for ((version, key), bytes) in some.iter().zip(read) {
                shard = applied(key, &change(key, &bytes?, number, *version)?, &shard)?;
            }
        }
        let shard = applied(&head.key, &newest, &shard)?;
        Ok(Version { objects: newest.objects(head.key.clone(), len), shard })
    }

    async fn fetch(&self, key: &str) -> Result<Bytes, ShardError> {
        let object = patiently(PATIENCE, || self.bucket.get(key)).await?;
        Ok(object.ok_or_else(|| ShardError::Missing { key: key.to_owned() })?.bytes)
    }

    /// A version that the catalog leads to.
    pub fn put(&self, version: Version) {
        let mut known = self.known.lock();
        let is_newer =
            known.get(&version.shard.number).is_none_or(|known| known.shard.version < version.shard.version);
        if is_newer {
            known.insert(version.shard.number, version);
        }
    }
}

fn damaged(key: &str, detail: impl ToString) -> ShardError {
    ShardError::Damaged { key: key.to_owned(), detail: detail.to_string() }
}

fn whole(key: &str, bytes: &Bytes, number: u32, version: u64) -> Result<Version, ShardError> {
    let shard = BucketShard::decode(bytes).map_err(|error| damaged(key, error))?;
    if (shard.number, shard.version) != (number, version) || !key.ends_with(&shard.object(bytes)) {
        return Err(damaged(key, format!("it is version {} of shard {}", shard.version, shard.number)));
    }
    let parts = vec![Part { key: key.to_owned(), len: bytes.len() as u64 }];
    Ok(Version { objects: Objects { parts }, shard: Arc::new(shard) })
}

fn change(key: &str, bytes: &Bytes, number: u32, version: u64) -> Result<ShardChange, ShardError> {
    let change = ShardChange::decode(bytes).map_err(|error| damaged(key, error))?;
    if (change.number, change.version) != (number, version) || !key.ends_with(&change.object(bytes)) {
        return Err(damaged(key, format!("it is version {} of shard {}", change.version, change.number)));
    }
    Ok(change)
}

fn applied(key: &str, change: &ShardChange, shard: &BucketShard) -> Result<Arc<BucketShard>, ShardError> {
    Ok(Arc::new(change.apply(shard).map_err(|error| damaged(key, error))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producers::ProducerState;
    use crate::segment::{Piece, SegmentInfo};
    use crate::transactions::Transactions;
    use protocol::Uuid;

    fn shard() -> BucketShard {
        let segment = Arc::new(SegmentInfo {
            id: [7; 16],
            len: 1000,
            payload_len: 800,
            header_hash: [3; 16],
            created_ms: 5,
        });
        let piece = Piece {
            first_offset: 4,
            last_offset: 9,
            max_timestamp: 1,
            record_count: 6,
            leader_epoch: 2,
            position: 128,
            len: 100,
        };
        let state = PartitionCheckpoint {
            log_start: 4,
            log_end: 10,
            epochs: vec![(2, 4)],
            producers: BTreeMap::from([(9, ProducerState { epoch: 1, ..ProducerState::default() })]),
            ..PartitionCheckpoint::default()
        };
        let id = |partition| TopicIdPartition { topic_id: Uuid([1; 16]), partition };
        let trimmed = ShardPartition {
            pieces: Vec::new(),
            state: PartitionCheckpoint { log_start: 3, log_end: 3, ..PartitionCheckpoint::default() },
            compacted_to: 0,
        };
        let full = ShardPartition { pieces: vec![PlacedPiece { segment, piece }], state, compacted_to: 0 };
        BucketShard { number: 3, version: 8, partitions: BTreeMap::from([(id(0), full), (id(1), trimmed)]) }
    }

    #[test]
    fn a_shard_is_read_as_it_was_written() {
        let bytes = shard().encode();
        assert_eq!(BucketShard::decode(&bytes).unwrap(), shard());
        assert!(shard().object(&bytes).starts_with("0003-00000000000000000008-"));
        for at in [0, 9, 30, bytes.len() / 2, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(BucketShard::decode(&damaged).is_err(), "byte {at}");
        }
        assert!(BucketShard::decode(&bytes[..bytes.len() - 1]).is_err() && BucketShard::decode(b"").is_err());
    }

    #[test]
    fn how_far_it_is_compacted_is_read_as_it_was_written() {
        let mut compacted = shard();
        compacted.partitions.values_mut().next().unwrap().compacted_to = 8;
        assert_eq!(BucketShard::decode(&compacted.encode()).unwrap(), compacted);
        assert_ne!(compacted.encode(), shard().encode());
    }

    #[test]
    fn only_a_shard_with_transactions_is_of_version_2() {
        assert_eq!(shard().encode()[8], 1, "an older release reads it");
        let mut new = shard();
        let aborted = [9i64, 5, 8, 9].map(i64::to_le_bytes).concat();
        let bytes = [&0u32.to_le_bytes()[..], &1u32.to_le_bytes(), &aborted].concat();
        let transactions = Transactions::decode(&mut Decoder::new(&bytes, WHAT)).unwrap();
        new.partitions.values_mut().next().unwrap().state.transactions = transactions;
        let mut bytes = new.encode();
        assert_eq!((bytes[8], BucketShard::decode(&bytes).unwrap()), (2, new));
        bytes[8] = 3;
        assert!(BucketShard::decode(&bytes).is_err());
    }

    #[test]
    fn pieces_that_do_not_reach_the_state_are_refused() {
        let mut short = shard();
        short.partitions.values_mut().next().unwrap().state.log_end = 11;
        assert!(matches!(BucketShard::decode(&short.encode()), Err(FormatError::Inconsistent { .. })));
    }
}
