//! The manifest in a bucket. A shard's object says of each of its partitions which pieces of which segments it has, and what a
//! leader needs to know besides batches as of their end: where the log starts and ends, epochs, producers (F2, F3, F10). So whoever
//! opens a partition reads its shard and the slots behind, and nothing of those who led it before.
//!
//! ```text
//! manifest/<wal_id:020>/<random>-<shard>-<version>-<hash>.manifest      made once by that incarnation, and never changed
//! ```
//!
//! The catalog says which object is a shard's newest. One that is missing is outdated: our catalog is old (R15).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use catalog::State;
use parking_lot::Mutex;
use protocol::TopicIdPartition;
use world::bucket::{Bucket, BucketError, patiently};
use world::rng::Rng;

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
        let hash: String = bytes[bytes.len() - 16..].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:04}-{:020}-{hash}.manifest", self.number, self.version)
    }
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
    known: Mutex<BTreeMap<u32, (String, Arc<BucketShard>)>>,
}

impl Shards {
    pub fn new(bucket: Arc<dyn Bucket>) -> Self {
        Self { bucket, known: Mutex::default() }
    }

    pub async fn get(&self, head: &Head) -> Result<Arc<BucketShard>, ShardError> {
        if head.version == 0 {
            return Ok(Arc::new(BucketShard { number: head.number, ..BucketShard::default() }));
        }
        if let Some((key, shard)) = self.known.lock().get(&head.number)
            && *key == head.key
        {
            return Ok(shard.clone());
        }
        let object = patiently(PATIENCE, || self.bucket.get(&head.key)).await?;
        let bytes = object.ok_or_else(|| ShardError::Missing { key: head.key.clone() })?.bytes;
        let damaged = |detail: String| ShardError::Damaged { key: head.key.clone(), detail };
        let shard = BucketShard::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
        if (shard.number, shard.version) != (head.number, head.version)
            || !head.key.ends_with(&shard.object(&bytes))
        {
            return Err(damaged(format!("it is version {} of shard {}", shard.version, shard.number)));
        }
        let shard = Arc::new(shard);
        self.put(head.key.clone(), shard.clone());
        Ok(shard)
    }

    /// A version that the catalog leads to.
    pub fn put(&self, key: String, shard: Arc<BucketShard>) {
        let mut known = self.known.lock();
        let is_newer = known.get(&shard.number).is_none_or(|(_, known)| known.version < shard.version);
        if is_newer {
            known.insert(shard.number, (key, shard));
        }
    }
}

/// Bytes of a shard's object, and its key below the folder of who makes it: another one with every try, or the late removal of an
/// earlier try that did not count would hit the one that does.
pub fn encoded(shard: &BucketShard, wal_id: u64, rng: &dyn Rng) -> (Bytes, String) {
    let bytes = Bytes::from(shard.encode());
    let random = rng.next_u64();
    let key = super::folder::manifest_key(wal_id, &format!("{random:016x}-{}", shard.object(&bytes)));
    (bytes, key)
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
