//! What slots say of partitions, for who opens them: headers and footers only, and of most slots what a later one repeats
//! (`slot_digest.rs`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use futures_util::future::join_all;
use protocol::TopicIdPartition;
use tokio::sync::Semaphore;
use world::bucket::{Bucket, patiently};

use super::slot::{check_place, log_starts_of, slot_key};
use super::slot_before::Suspects;
use super::slot_digest::{digest_of, has_digest};
use crate::container::{ContainerHeader, Entry, Footer, LogStart};
use crate::encoding::Hash;
use crate::error::OpenError;
use crate::extent::Extent;
use crate::partition::extent_of;

/// The first read of a slot: a small one is whole in it.
const FIRST_READ_BYTES: u64 = 64 << 10;
/// Headers and footers that one opening fetches at a time: 8 MiB of first reads, or one footer that is longer.
pub const READS_AT_ONCE: u32 = 128;
const PATIENCE: Duration = Duration::from_secs(60);

/// What one slot says of one partition.
pub struct Found {
    pub wal_id: u64,
    pub slot: u64,
    pub extent: Extent,
    pub leader_epoch: i32,
    pub entries: Vec<Entry>,
    pub created_ms: i64,
}

/// What one slot says of the partitions that somebody wants.
pub struct Said {
    pub found: Vec<(TopicIdPartition, Found)>,
    pub starts: Vec<LogStart>,
    predecessor: Hash,
    hash: Hash,
}

/// A slot that counts and cannot be read. The next one says of which partitions it may have something.
pub struct Lost {
    key: String,
    detail: String,
    pub suspects: Suspects,
}

impl Lost {
    pub fn error(&self) -> OpenError {
        let detail = format!("{}; partitions that it may have something of stay closed", self.detail);
        OpenError::DamagedObject { key: self.key.clone(), detail }
    }
}

pub enum SlotError {
    /// Our catalog is old (R15), or it is lost.
    Missing {
        key: String,
    },
    Failed(OpenError),
}

impl From<OpenError> for SlotError {
    fn from(error: OpenError) -> Self {
        Self::Failed(error)
    }
}

/// Slots that are not read yet have none; of one that cannot be read, why.
type Slots = BTreeMap<u64, Result<Said, String>>;

/// How slots are read for one opening.
pub struct SlotReads<'a> {
    pub bucket: &'a dyn Bucket,
    pub is_wanted: &'a (dyn Fn(&TopicIdPartition) -> bool + Sync),
    /// The catalog is as new as can be: a slot that is missing is lost.
    pub is_current: bool,
    /// As `LogSettings::bucket_digest_slots`.
    pub digest_every: u64,
    /// Requests of all WALs together: [`READS_AT_ONCE`].
    pub under_way: Semaphore,
}

impl SlotReads<'_> {
    /// What slots that count say, in their order, and those of them that are lost.
    pub async fn of_wal(&self, wal_id: u64, slots: Range<u64>) -> Result<(Vec<Said>, Vec<Lost>), SlotError> {
        let mut known = Slots::new();
        // Behind the last digest all of them, else those with digests; then what these do not repeat.
        let last = slots.clone().rev().take(self.digest_every as usize);
        let last = last.into_iter().find(|slot| has_digest(*slot, self.digest_every)).unwrap_or(slots.start);
        let is_first = |slot: &u64| *slot >= last || has_digest(*slot, self.digest_every);
        self.read(wal_id, &slots, slots.clone().filter(is_first).collect(), &mut known).await?;
        let rest = slots.clone().filter(|slot| !known.contains_key(slot)).collect();
        self.read(wal_id, &slots, rest, &mut known).await?;
        let (mut said, mut lost) = (Vec::with_capacity(known.len()), Vec::new());
        let mut predecessor = (slots.start == 0).then(Hash::default);
        for (slot, read) in known {
            let read = read.and_then(|read| match predecessor.is_some_and(|hash| hash != read.predecessor) {
                true => Err("it follows another commit than the one before it".to_owned()),
                false => Ok(read),
            });
            predecessor = read.as_ref().ok().map(|read| read.hash);
            match read {
                Ok(read) => said.push(read),
                Err(detail) => lost.push((slot, detail)),
            }
        }
        let lost = lost.into_iter().map(async |(slot, detail)| Lost {
            key: slot_key(wal_id, slot),
            detail,
            suspects: self.suspects(wal_id, slot + 1).await,
        });
        Ok((said, join_all(lost).await))
    }

    /// Of the slot before this one. What stands behind the last one counts perhaps not, but it was made by who made that.
    async fn suspects(&self, wal_id: u64, next: u64) -> Suspects {
        match self.index(wal_id, next).await {
            Ok((_, footer)) => Suspects::of(&footer),
            Err(_) => Suspects::default(),
        }
    }

    async fn read(
        &self,
        wal_id: u64,
        slots: &Range<u64>,
        some: Vec<u64>,
        known: &mut Slots,
    ) -> Result<(), SlotError> {
        let reads = some.into_iter().map(async |slot| (slot, self.one(wal_id, slots, slot).await));
        for (slot, read) in join_all(reads).await {
            match read {
                Ok(read) => known.extend(read.into_iter().map(|(slot, said)| (slot, Ok(said)))),
                Err(SlotError::Missing { .. }) if self.is_current => {
                    known.insert(slot, Err("it is missing".to_owned()));
                }
                Err(SlotError::Failed(OpenError::DamagedObject { detail, .. })) => {
                    known.insert(slot, Err(detail));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What a slot says, and what it repeats of those before it.
    async fn one(&self, wal_id: u64, slots: &Range<u64>, slot: u64) -> Result<Vec<(u64, Said)>, SlotError> {
        let (header, footer) = self.index(wal_id, slot).await?;
        let damaged = |detail: String| OpenError::DamagedObject { key: slot_key(wal_id, slot), detail };
        let own = self.said(wal_id, &header, &footer).map_err(damaged)?;
        let mut said = match self.repeated(wal_id, slots, &header, &footer) {
            Ok(repeated) => repeated,
            // The slots that it is about say the same and more.
            Err(detail) => {
                let key = slot_key(wal_id, slot);
                tracing::error!("{key}: what it says of slots before it is not used: {detail}");
                Vec::new()
            }
        };
        said.push((slot, own));
        Ok(said)
    }

    /// What a slot repeats, as far as somebody wants it. Nothing of it is believed that does not lead to the slot, one by one: each names
    /// the hash of the one before it.
    fn repeated(
        &self,
        wal_id: u64,
        slots: &Range<u64>,
        header: &ContainerHeader,
        footer: &Footer,
    ) -> Result<Vec<(u64, Said)>, String> {
        let repeated = digest_of(footer).map_err(|error| error.to_string())?.unwrap_or_default();
        let behind = repeated.iter().map(|(header, _)| header).skip(1).chain([header]);
        for ((one, _), next) in repeated.iter().zip(behind) {
            check_place(one, wal_id, one.number)?;
            // Between them may be one that is not repeated.
            let follows = one.number + 1 < next.number || one.hash() == next.predecessor;
            if one.number >= next.number || !follows {
                return Err(format!("slot {} of it is not the one before slot {}", one.number, next.number));
            }
        }
        let wanted = repeated.iter().filter(|(header, _)| slots.contains(&header.number));
        wanted.map(|(header, footer)| Ok((header.number, self.said(wal_id, header, footer)?))).collect()
    }

    fn said(&self, wal_id: u64, header: &ContainerHeader, footer: &Footer) -> Result<Said, String> {
        let slot = header.number;
        let found = footer.extents.iter().filter(|extent| (self.is_wanted)(&extent.id)).map(|extent| {
            let found = Found {
                wal_id,
                slot,
                extent: extent_of(extent, wal_id, 0, slot),
                leader_epoch: extent.leader_epoch,
                entries: footer.entries_of(extent).to_vec(),
                created_ms: header.created_ms,
            };
            (extent.id, found)
        });
        let mut starts = log_starts_of(footer)?;
        starts.retain(|start| (self.is_wanted)(&start.id));
        Ok(Said { found: found.collect(), starts, predecessor: header.predecessor, hash: header.hash() })
    }

    /// Header and footer of a slot that counts.
    async fn index(&self, wal_id: u64, slot: u64) -> Result<(ContainerHeader, Footer), SlotError> {
        let turn = self.under_way.acquire().await.expect("it is never closed");
        let key = slot_key(wal_id, slot);
        let damaged = |detail: String| OpenError::DamagedObject { key: key.clone(), detail };
        let read = async |from: u64, to: u64| {
            let read = patiently(PATIENCE, || self.bucket.get_range(&key, from..to)).await;
            read.map_err(OpenError::from)?.ok_or_else(|| SlotError::Missing { key: key.clone() })
        };
        let first = read(0, FIRST_READ_BYTES).await?;
        let header = ContainerHeader::decode(&first).map_err(|error| damaged(error.to_string()))?;
        check_place(&header, wal_id, slot).map_err(damaged)?;
        let (from, to) = (header.footer_at(), header.len());
        let (footer, _turns) = match first.len() as u64 >= to {
            true => (first.slice(from as usize..to as usize), turn),
            false => {
                drop((first, turn));
                // A long one takes the turns of many.
                let turns = (to - from).div_ceil(FIRST_READ_BYTES).clamp(1, READS_AT_ONCE.into());
                let turns = self.under_way.acquire_many(turns as u32).await.expect("it is never closed");
                (read(from, to).await?, turns)
            }
        };
        let footer = header.decode_footer(&footer).map_err(|error| damaged(error.to_string()))?;
        Ok((header, footer))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use protocol::Uuid;
    use world::bucket::MemBucket;

    use super::*;
    use crate::bucket::slot_digest::NextDigest;
    use crate::container::{ContainerBuilder, Identity, Kind, SectionKind};

    const EVERY: u64 = 4;
    const WAL: u64 = 7;

    fn id() -> TopicIdPartition {
        TopicIdPartition { topic_id: Uuid([2; 16]), partition: 1 }
    }

    /// Slots 0 to 5, each of which raises a log start, with what slot 4 repeats.
    fn wal(wal_id: u64, history: u8, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut next = NextDigest::new(EVERY);
        let mut predecessor = Hash::default();
        let slot = |number| {
            let mut builder = ContainerBuilder::new(0, 0);
            let start = LogStart { id: id(), offset: 10 + number };
            builder.section(SectionKind::LogStarts, LogStart::encode_all(&[start]));
            let digest = next.take(number).map(&change);
            if let Some(digest) = &digest {
                builder.section(SectionKind::SlotDigest, digest.clone());
            }
            let log_id = u128::from(wal_id).to_be_bytes();
            let (kind, nonce) = (Kind::Object, [history; 16]);
            let (durable, created_ms, file_len) = (number, 0, 0);
            let identity =
                Identity { kind, log_id, number, predecessor, durable, nonce, created_ms, file_len };
            let (bytes, header, _) = builder.finish(identity);
            next.push(&header, &bytes);
            predecessor = header.hash();
            (bytes[..header.len() as usize].to_vec(), digest)
        };
        (0..6).map(slot).collect()
    }

    /// What slots say, which of them are lost, and requests.
    fn read(slots: &[(Vec<u8>, Option<Vec<u8>>)], mark: u64) -> (Vec<u64>, Vec<String>, u64) {
        world::task::deterministic(1);
        world::task::paused_runtime().block_on(async {
            let store = MemBucket::new(1);
            for (number, (bytes, _)) in (0..).zip(slots) {
                store.put(&slot_key(WAL, number), bytes.clone().into()).await.unwrap();
            }
            let reads = SlotReads {
                bucket: &store,
                is_wanted: &|_| true,
                is_current: true,
                digest_every: EVERY,
                under_way: Semaphore::new(READS_AT_ONCE as usize),
            };
            let Ok((said, lost)) = reads.of_wal(WAL, mark..6).await else { panic!("it is read") };
            let starts = said.iter().flat_map(|said| said.starts.iter().map(|start| start.offset));
            let lost = lost.iter().map(|lost| lost.key.clone());
            (starts.collect(), lost.collect(), store.counters().gets.load(Ordering::Relaxed))
        })
    }

    #[test]
    fn a_digest_stands_for_the_slots_before_it() {
        let slots = wal(WAL, 0, |digest| digest);
        assert_eq!(read(&slots, 0), ((10..16).collect(), vec![], 2));
        assert_eq!(read(&slots, 2), ((12..16).collect(), vec![], 2));
        assert_eq!(read(&slots, 5), (vec![15], vec![], 1));
    }

    /// Whatever is wrong with it: what the slots themselves say is said, and nothing else.
    #[test]
    fn a_digest_that_does_not_fit_is_not_used() {
        let elsewhere = wal(8, 0, |digest| digest)[4].1.clone().unwrap();
        let stranger = wal(WAL, 1, |digest| digest)[4].1.clone().unwrap();
        let other = wal(WAL, 0, |digest| digest)[4].1.clone().unwrap();
        let one = (other.len() - 4) / 4;
        let without = |slot: usize| {
            let mut digest = other.clone();
            digest.drain(4 + slot * one..4 + (slot + 1) * one);
            digest[0] = 3;
            digest
        };
        let mut swapped = other.clone();
        swapped[4..].rotate_left(one);
        let mut twice = without(1);
        twice[0] = 4;
        let first = twice[4..4 + one].to_vec();
        twice.splice(4..4, first);
        for (what, digest) in [
            ("of another WAL", elsewhere),
            ("of other slots of this WAL", stranger),
            ("in another order", swapped),
            ("one twice", twice),
            ("cut", other[..other.len() - 1].to_vec()),
            ("nothing", vec![]),
        ] {
            let slots = wal(WAL, 0, |_| digest.clone());
            assert_eq!(read(&slots, 0), ((10..16).collect(), vec![], 6), "{what}");
        }
        // One that is not repeated is read.
        let slots = wal(WAL, 0, |_| without(1));
        assert_eq!(read(&slots, 0), ((10..16).collect(), vec![], 3));
    }

    #[test]
    fn a_slot_with_a_digest_that_is_lost_takes_nothing_along() {
        let mut slots = wal(WAL, 0, |digest| digest);
        *slots[4].0.last_mut().unwrap() ^= 1;
        let (starts, lost, _) = read(&slots, 0);
        assert_eq!((starts, lost), (vec![10, 11, 12, 13, 15], vec![slot_key(WAL, 4)]));
    }
}
