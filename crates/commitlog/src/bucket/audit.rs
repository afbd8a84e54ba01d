//! Does a bucket hold what its metadata promises? From the bucket alone: every segment that the manifest leads to and every slot that
//! counts is there, undamaged, in its place, and the offsets of every partition go on without a gap. What does not count is named
//! as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use catalog::{CatalogOpenError, State};
use protocol::TopicIdPartition;
use world::bucket::{Bucket, BucketError, BucketErrorKind, Listed, patiently};

use super::folder::{segment_key, uploader};
use super::piece_index::parts;
use super::shards::{ShardError, Shards, head};
use super::slot::{check_place, slot_key, tombstone};
use super::slot_digest::digest_of;
use super::takeover::PATIENCE;
use crate::container::{self, ContainerHeader};
use crate::encoding::Hash;
use crate::manifest::SHARDS;
use crate::segment::{Piece, SegmentId, SegmentInfo, is_merged, pieces_of, tallies_of};

/// Named problems, and named objects of each other kind; the rest is only counted.
pub const NAMED_MAX: usize = 100;
const LISTED_AT_ONCE: usize = 1000;
/// At a bucket whose brokers rewrite faster than it is read.
const LOOKS_MAX: usize = 10;
/// Folders of others, and what is in there.
const KNOWN: [&str; 4] = ["meta/", "snapshots/", "lease/", "ca/"];

#[derive(Debug, Default)]
pub struct Audit {
    pub wals: Vec<WalAudit>,
    /// That the manifest leads to and that are good, and the records that it leads to in them.
    pub segments: u64,
    pub segment_records: u64,
    /// Of these segments, those that were made of others.
    pub merged_segments: u64,
    /// Objects and bytes of the whole bucket.
    pub objects: u64,
    pub bytes: u64,
    /// Acknowledged data that is missing, damaged or not where it belongs.
    pub problems: Named,
    /// Commits behind the end of their WAL: never acknowledged, in nobody's way.
    pub void: Named,
    /// Objects that nothing leads to. Those in whose place others came lately are among them: they stay for a while (F8).
    pub unknown: Named,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub count: u64,
    pub first: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct WalAudit {
    pub wal_id: u64,
    pub node_id: i32,
    /// None: its owner may be at work.
    pub sealed_at: Option<u64>,
    /// Slots below are in segments.
    pub mark: u64,
    /// That count and are good.
    pub slots: u64,
    pub bytes: u64,
    pub records: u64,
}

impl Named {
    fn add(&mut self, name: String) {
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(name);
        }
    }
}

/// Where the walk is.
struct Walk<'a> {
    bucket: &'a dyn Bucket,
    state: &'a State,
    shards: Shards,
    audit: Audit,
    /// Behind the last record of each partition in the manifest.
    ends: BTreeMap<TopicIdPartition, u64>,
    /// What lies in slots, of whatever WAL: offsets, and the key.
    in_slots: BTreeMap<TopicIdPartition, Vec<(u64, u64, Arc<str>)>>,
    /// Keys that something leads to, slots apart.
    led_to: BTreeSet<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Metadata(#[from] CatalogOpenError),
}

/// Reads everything. Beside brokers at work it sees a prefix of what they acknowledge; what seems to be missing while they move
/// it is looked for again by what the metadata says then (R15).
pub async fn audit(bucket: &Arc<dyn Bucket>) -> Result<Audit, AuditError> {
    let mut state = catalog::read_bucket(bucket.clone()).await?;
    for _ in 0..LOOKS_MAX {
        let (audit, ends, in_slots) = (Audit::default(), BTreeMap::new(), BTreeMap::new());
        let (shards, led_to) = (Shards::new(bucket.clone()), BTreeSet::new());
        let mut walk = Walk { bucket: &**bucket, state: &state, shards, audit, ends, in_slots, led_to };
        walk.manifest().await?;
        walk.wals().await?;
        walk.slots_in_order();
        walk.sweep().await?;
        let audit = walk.audit;
        let now = catalog::read_bucket(bucket.clone()).await?;
        if audit.problems.count == 0 || now.position() == state.position() {
            return Ok(audit);
        }
        state = now;
    }
    Err(AuditError::Bucket(BucketError {
        kind: BucketErrorKind::Unavailable,
        operation: "audit",
        key: String::new(),
        detail: format!("the metadata changed during each of {LOOKS_MAX} looks"),
    }))
}

impl Walk<'_> {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, BucketError> {
        Ok(patiently(PATIENCE, || self.bucket.get(key)).await?.map(|object| object.bytes))
    }

    /// Of a key that something leads to.
    async fn promised(&mut self, key: &str) -> Result<Option<Bytes>, BucketError> {
        self.led_to.insert(key.to_owned());
        let found = self.get(key).await?;
        if found.is_none() {
            self.audit.problems.add(format!("{key} is missing"));
        }
        Ok(found)
    }

    /// Offsets of a partition that come next. What a deleted topic had is dead.
    fn follows(&mut self, key: &str, id: TopicIdPartition, first: u64, last: u64) {
        let end = self.ends.entry(id).or_insert(first);
        if *end != first {
            self.audit.problems.add(format!("{key} brings offset {first} of {id}, whose log ends at {end}"));
        }
        *end = last + 1;
    }

    fn is_dead(&self, id: &TopicIdPartition) -> bool {
        self.state.topic_by_id(id.topic_id).is_none()
    }

    async fn manifest(&mut self) -> Result<(), BucketError> {
        type Pieces = Vec<(TopicIdPartition, Piece)>;
        let mut segments: BTreeMap<SegmentId, (Arc<SegmentInfo>, Pieces)> = BTreeMap::new();
        for number in 0..SHARDS {
            let head = head(self.state, number);
            let key = head.key.clone();
            let version = match self.shards.version(&head).await {
                Ok(version) => version,
                Err(ShardError::Bucket(error)) => return Err(error),
                Err(error) => {
                    self.led_to.insert(key);
                    self.audit.problems.add(error.to_string());
                    continue;
                }
            };
            self.led_to.extend(version.objects.keys().map(str::to_owned));
            for (id, partition) in &version.shard.partitions {
                let id = *id;
                for placed in &partition.pieces {
                    let fresh = || (placed.segment.clone(), Vec::new());
                    segments.entry(placed.segment.id).or_insert_with(fresh).1.push((id, placed.piece));
                    if !self.is_dead(&id) {
                        let piece = &placed.piece;
                        self.follows(&key, id, piece.first_offset as u64, piece.last_offset as u64);
                    }
                }
                self.ends.insert(id, partition.state.log_end as u64);
            }
        }
        for (id, (info, pieces)) in segments {
            let key = segment_key(&id);
            let Some(bytes) = self.promised(&key).await? else { continue };
            if let Err(error) = tallies_of(&bytes) {
                self.audit.problems.add(format!("{key}: {error}"));
                continue;
            }
            let (header, footer) = container::open(&bytes).expect("it was opened a moment ago");
            if header.hash() != info.header_hash {
                self.audit.problems.add(format!("{key} is another segment"));
                continue;
            }
            self.audit.segments += 1;
            self.audit.merged_segments += u64::from(is_merged(&footer));
            let there = match pieces_of(&footer) {
                Ok(there) => there,
                Err(error) => {
                    self.audit.problems.add(format!("{key}: {error}"));
                    continue;
                }
            };
            for (id, piece) in pieces {
                match parts(&there, &id, &piece) {
                    Some(_) => self.audit.segment_records += u64::from(piece.record_count),
                    None => self.audit.problems.add(format!("{key} has no {piece:?} of {id}")),
                }
            }
        }
        Ok(())
    }

    async fn wals(&mut self) -> Result<(), BucketError> {
        let state = self.state;
        for (wal_id, wal) in state.wals() {
            let (node_id, sealed_at, mark) = (wal.node_id, wal.sealed_at, wal.mark);
            let mut found = WalAudit { wal_id, node_id, sealed_at, mark, slots: 0, bytes: 0, records: 0 };
            let mut predecessor = (mark == 0).then(Hash::default);
            // Since the last slot that repeats those before it.
            let mut hashes: BTreeMap<u64, Hash> = BTreeMap::new();
            for slot in mark..sealed_at.unwrap_or(u64::MAX) {
                let key = slot_key(wal_id, slot);
                let bytes = match self.get(&key).await? {
                    Some(bytes) if sealed_at.is_some() || bytes != tombstone(wal_id, slot) => bytes,
                    None if sealed_at.is_some() => {
                        self.audit.problems.add(format!("{key} is missing"));
                        predecessor = None;
                        continue;
                    }
                    // Its last commit so far, or a taker was here.
                    _ => break,
                };
                let (header, footer) = match container::open(&bytes) {
                    Ok(opened) => opened,
                    Err(error) => {
                        self.audit.problems.add(format!("{key}: {error}"));
                        predecessor = None;
                        continue;
                    }
                };
                if check_place(&header, wal_id, slot).is_err()
                    || predecessor.is_some_and(|hash| hash != header.predecessor)
                {
                    self.audit.problems.add(format!("{key} belongs elsewhere, or follows another commit"));
                }
                predecessor = Some(header.hash());
                match digest_of(&footer) {
                    Ok(None) => drop(hashes.insert(slot, header.hash())),
                    Ok(Some(repeated)) => {
                        let is_other = |header: &ContainerHeader| {
                            header.number >= slot
                                || check_place(header, wal_id, header.number).is_err()
                                || hashes.get(&header.number).is_some_and(|hash| *hash != header.hash())
                        };
                        if repeated.iter().any(|(header, _)| is_other(header)) {
                            self.audit
                                .problems
                                .add(format!("{key} repeats slots that are not those before it"));
                        }
                        hashes.clear();
                    }
                    Err(error) => self.audit.problems.add(format!("{key}: {error}")),
                }
                let key: Arc<str> = key.into();
                for extent in
                    footer.extents.iter().filter(|extent| state.topic_by_id(extent.id.topic_id).is_some())
                {
                    let place = (extent.first_offset, extent.last_offset, key.clone());
                    self.in_slots.entry(extent.id).or_default().push(place);
                    found.records += extent.record_count;
                }
                found.slots += 1;
                found.bytes += bytes.len() as u64;
            }
            self.audit.wals.push(found);
        }
        Ok(())
    }

    /// A partition goes from WAL to WAL and back: its offsets say in which order.
    fn slots_in_order(&mut self) {
        for (id, mut extents) in std::mem::take(&mut self.in_slots) {
            extents.sort();
            self.ends.entry(id).or_insert(0);
            for (first, last, key) in extents {
                self.follows(&key, id, first, last);
            }
        }
    }

    /// Everything that is listed, and what it is.
    async fn sweep(&mut self) -> Result<(), BucketError> {
        let mut after: Option<String> = None;
        loop {
            let listed =
                patiently(PATIENCE, || self.bucket.list("", after.as_deref(), LISTED_AT_ONCE)).await?;
            let Some(last) = listed.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for object in listed {
                self.audit.objects += 1;
                self.audit.bytes += object.len;
                self.sort(object);
            }
        }
    }

    fn sort(&mut self, object: Listed) {
        let key = object.key;
        if KNOWN.iter().any(|folder| key.starts_with(folder)) || self.led_to.contains(&key) {
            return;
        }
        let numbers = numbers(&key);
        let slot = numbers.and_then(|(wal_id, slot)| Some((wal_id, self.state.wal(wal_id)?, slot)));
        // The end of a WAL that is forgotten.
        let is_end = |wal_id: u64, slot: u64| object.len == tombstone(wal_id, slot).len() as u64;
        if slot.is_none()
            && numbers.is_some_and(|(wal_id, slot)| self.state.is_over(wal_id) && is_end(wal_id, slot))
        {
            return;
        }
        match (slot, uploader(&key)) {
            (Some((_, wal, slot)), _) if slot < wal.mark => self.audit.unknown.add(key),
            (Some((wal_id, wal, slot)), _) => {
                let is_behind = wal.sealed_at.is_some_and(|end| slot >= end);
                if is_behind && object.len != tombstone(wal_id, slot).len() as u64 {
                    self.audit.void.add(key);
                }
            }
            // Of a job under way, perhaps.
            (None, Some(wal_id)) if self.state.wal(wal_id).is_some_and(|wal| !wal.is_fenced) => {}
            (None, _) => self.audit.unknown.add(key),
        }
    }
}

/// WAL and slot of a key.
fn numbers(key: &str) -> Option<(u64, u64)> {
    let (wal_id, slot) = key.strip_prefix("wal/")?.split_once('/')?;
    let number = |digits: &str| (digits.len() == 20).then(|| digits.parse().ok()).flatten();
    Some((number(wal_id)?, number(slot)?))
}
