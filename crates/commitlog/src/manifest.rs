//! The manifest: which pieces of which segments hold which offsets.
//!
//! It is cut into [`SHARDS`] shards by partition. A shard's content is an immutable object file,
//! `manifest/<shard>-<version>-<hash>.manifest`; the catalog only says which object is the shard's newest
//! (`MetadataRecord::ManifestShard`, with the old version as precondition: R6). The order of a change:
//!
//! ```text
//! segment written, synced, named durably ─▶ object written, synced, named durably ─▶ catalog record ─▶ inputs may go
//! ```
//!
//! So at every moment each offset has a durable place that the catalog, or the WAL, leads to. What the catalog does not
//! lead to is nobody's: at start it is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use catalog::{Catalog, ManifestHead, MetadataRecord, ShardChange, State};
use protocol::{TopicIdPartition, Uuid};
use world::disk::{Disk, DiskError, OpenMode, read_small};

use crate::encoding::{Decoder, Encoder, FormatError, hash};
use crate::segment::{Piece, SegmentId, SegmentInfo};

/// Fixed for ever: which shard a partition is in follows from it.
pub const SHARDS: u32 = 16;
const MAGIC: [u8; 8] = *b"OTTLAMNF";
/// 1 has nothing compacted, and is what is written where nothing is.
const VERSION: u16 = 2;
const OLDEST_VERSION: u16 = 1;
const WHAT: &str = "a manifest object";
/// A longer object is not ours.
const OBJECT_BYTES_MAX: u64 = 4 << 30;
const STEP_BYTES: usize = 4 << 20;

pub fn shard_of(id: &TopicIdPartition) -> u32 {
    let mut key = [0u8; 20];
    key[..16].copy_from_slice(id.topic_id.as_bytes());
    key[16..].copy_from_slice(&id.partition.to_le_bytes());
    (xxhash_rust::xxh3::xxh3_64(&key) % u64::from(SHARDS)) as u32
}

/// A piece and the segment that it lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedPiece {
    pub segment: Arc<SegmentInfo>,
    pub piece: Piece,
}

/// All that a shard says: per partition its pieces in offset order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    pub number: u32,
    pub version: u64,
    pub partitions: BTreeMap<TopicIdPartition, Vec<PlacedPiece>>,
    /// Of those that were compacted: below this offset only the newest record of each key is left.
    pub compacted: BTreeMap<TopicIdPartition, i64>,
}

impl Shard {
    pub fn encode(&self) -> Vec<u8> {
        let mut segments: BTreeMap<SegmentId, &SegmentInfo> = BTreeMap::new();
        for placed in self.partitions.values().flatten() {
            segments.insert(placed.segment.id, &placed.segment);
        }
        let index: BTreeMap<SegmentId, u32> = segments.keys().copied().zip(0..).collect();
        let mut out = Encoder::default();
        out.raw(&MAGIC);
        out.u16(if self.compacted.is_empty() { OLDEST_VERSION } else { VERSION });
        out.u16(0);
        out.u32(self.number);
        out.u64(self.version);
        out.u32(segments.len() as u32);
        for info in segments.values() {
            out.raw(&info.id);
            out.u64(info.len);
            out.u64(info.payload_len);
            out.raw(&info.header_hash);
            out.i64(info.created_ms);
        }
        out.u32(self.partitions.len() as u32);
        for (id, pieces) in &self.partitions {
            out.raw(id.topic_id.as_bytes());
            out.i32(id.partition);
            out.u32(pieces.len() as u32);
            for PlacedPiece { segment, piece } in pieces {
                out.u32(index[&segment.id]);
                out.i32(piece.leader_epoch);
                out.i64(piece.first_offset);
                out.i64(piece.last_offset);
                out.i64(piece.max_timestamp);
                out.u64(piece.position);
                out.u64(piece.len);
                out.u32(piece.record_count);
            }
        }
        if !self.compacted.is_empty() {
            out.u32(self.compacted.len() as u32);
            for (id, to) in &self.compacted {
                out.raw(id.topic_id.as_bytes());
                out.i32(id.partition);
                out.i64(*to);
            }
        }
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
        let mut shard = Self { number: input.u32()?, version: input.u64()?, ..Self::default() };
        let mut segments: Vec<Arc<SegmentInfo>> = Vec::new();
        for _ in 0..input.count(56)? {
            let info = SegmentInfo {
                id: input.array()?,
                len: input.u64()?,
                payload_len: input.u64()?,
                header_hash: input.array()?,
                created_ms: input.i64()?,
            };
            if segments.last().is_some_and(|last| last.id >= info.id) {
                return Err(input.inconsistent(format!("segment {:02x?} is out of place", info.id)));
            }
            segments.push(Arc::new(info));
        }
        for _ in 0..input.count(24)? {
            let id = TopicIdPartition { topic_id: Uuid(input.array()?), partition: input.i32()? };
            let mut pieces: Vec<PlacedPiece> = Vec::new();
            for _ in 0..input.count(52)? {
                let segment = input.u32()? as usize;
                let piece = Piece {
                    leader_epoch: input.i32()?,
                    first_offset: input.i64()?,
                    last_offset: input.i64()?,
                    max_timestamp: input.i64()?,
                    position: input.u64()?,
                    len: input.u64()?,
                    record_count: input.u32()?,
                };
                let Some(segment) = segments.get(segment).cloned() else {
                    return Err(
                        input.inconsistent(format!("{id} lies in segment {segment} of {}", segments.len()))
                    );
                };
                let after = pieces.last().map_or(0, |last| last.piece.last_offset + 1);
                let fits = piece.position.checked_add(piece.len).is_some_and(|end| end <= segment.len);
                if piece.first_offset < after
                    || piece.last_offset < piece.first_offset
                    || !fits
                    || piece.last_offset == i64::MAX
                {
                    return Err(input.inconsistent(format!("{id}: piece {piece:?} is out of place")));
                }
                pieces.push(PlacedPiece { segment, piece });
            }
            shard.partitions.insert(id, pieces);
        }
        let compacted = if version >= VERSION { input.count(28)? } else { 0 };
        for _ in 0..compacted {
            let id = TopicIdPartition { topic_id: Uuid(input.array()?), partition: input.i32()? };
            shard.compacted.insert(id, input.i64()?);
        }
        input.finish()?;
        Ok(shard)
    }

    pub fn segments(&self) -> BTreeMap<SegmentId, Arc<SegmentInfo>> {
        self.partitions.values().flatten().map(|placed| (placed.segment.id, placed.segment.clone())).collect()
    }

    pub fn object(&self, bytes: &[u8]) -> String {
        let hash: String = bytes[bytes.len() - 16..].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:04}-{:020}-{hash}.manifest", self.number, self.version)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error(transparent)]
    Storage(#[from] DiskError),
    /// P7: the catalog leads to an object that is not there or not what it was.
    #[error("{} is damaged: {detail}. The catalog leads to it, so nothing was cut or changed", path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("the catalog did not take the change: {0}")]
    Catalog(String),
}

/// Which pieces a manifest is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Book {
    /// Those in segments of the directory.
    Local,
    /// Those in objects of the second tier. Its shards lie in the directory all the same.
    Tier,
}

impl Book {
    fn head(self, state: &State, shard: u32) -> Option<&ManifestHead> {
        match self {
            Book::Local => state.manifest(shard),
            Book::Tier => state.tier(shard),
        }
    }

    fn record(self, change: ShardChange, wal_mark: u64) -> MetadataRecord {
        match self {
            Book::Local => {
                let ShardChange { shard, from_version, to_version, object } = change;
                MetadataRecord::ManifestShard { shard, from_version, to_version, object, wal_mark }
            }
            Book::Tier => MetadataRecord::TierShard(change),
        }
    }
}

/// The shards' newest versions, and where new ones go. One owner: the rewriter, or for the tier's the task that copies there.
pub struct Manifest {
    book: Book,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    catalog: Arc<Catalog>,
    heads: BTreeMap<u32, (u64, String)>,
}

impl Manifest {
    /// Reads all shards that the catalog knows, and removes objects that it does not lead to.
    pub async fn open(
        book: Book,
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        catalog: Arc<Catalog>,
    ) -> Result<(Self, Vec<Shard>), ManifestError> {
        disk.create_dir_all(&dir).await?;
        let mut heads = BTreeMap::new();
        {
            let state = catalog.read();
            for number in 0..SHARDS {
                if let Some(head) = book.head(&state, number) {
                    heads.insert(number, (head.version, head.object.to_string()));
                }
            }
        }
        let mut shards = Vec::new();
        for (number, (version, object)) in &heads {
            shards.push(load(&*disk, &dir.join(object), *number, *version).await?);
        }
        let manifest = Self { book, disk, dir, catalog, heads };
        manifest.sweep().await?;
        Ok((manifest, shards))
    }

    pub fn version(&self, shard: u32) -> u64 {
        self.heads.get(&shard).map_or(0, |(version, _)| *version)
    }

    /// Makes new versions of these shards the truth, all of them or none. `wal_mark`: WAL files below it hold nothing
    /// of these shards any more that only they hold.
    pub async fn commit(&mut self, mut shards: Vec<Shard>, wal_mark: u64) -> Result<(), ManifestError> {
        if shards.is_empty() {
            return Ok(());
        }
        let mut records = Vec::new();
        let mut heads = Vec::new();
        for shard in &mut shards {
            let from_version = self.version(shard.number);
            shard.version = from_version + 1;
            let bytes = shard.encode();
            let object = shard.object(&bytes);
            let path = self.dir.join(&object);
            self.write(&path, Bytes::from(bytes)).await?;
            // Read back before anything rests on it.
            let read = load(&*self.disk, &path, shard.number, shard.version).await?;
            assert_eq!(read, *shard, "{}: what is read back is what was written", path.display());
            let change = ShardChange {
                shard: shard.number,
                from_version,
                to_version: shard.version,
                object: object.as_str().into(),
            };
            records.push(self.book.record(change, wal_mark));
            heads.push((shard.number, (shard.version, object)));
        }
        self.disk.sync_dir(&self.dir).await?;
        self.catalog.append(records).await.map_err(|error| ManifestError::Catalog(error.to_string()))?;
        for (number, head) in heads {
            let state = self.catalog.read();
            let replayed = self.book.head(&state, number).map(|head| head.version);
            assert_eq!(replayed, Some(head.0), "the catalog's replay accepted shard {number}");
            drop(state);
            self.heads.insert(number, head);
        }
        // The change counts; what stays behind goes at the next one, or at the next start.
        if let Err(error) = self.sweep().await {
            tracing::warn!("old manifest objects stay for now: {error}");
        }
        Ok(())
    }

    async fn write(&self, path: &Path, bytes: Bytes) -> Result<(), DiskError> {
        // An earlier attempt of the same version may have left its object: same name, same bytes.
        match self.disk.remove(path).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        let file = self.disk.open(path, OpenMode::CreateNew).await?;
        for at in (0..bytes.len()).step_by(STEP_BYTES) {
            let piece = bytes.slice(at..bytes.len().min(at + STEP_BYTES));
            file.write_at(at as u64, vec![piece]).await?;
        }
        file.sync().await
    }

    /// Removes objects that no shard's head names: older versions, and those whose record never came.
    async fn sweep(&self) -> Result<(), DiskError> {
        let live: BTreeSet<&str> = self.heads.values().map(|(_, object)| object.as_str()).collect();
        for entry in self.disk.list(&self.dir).await? {
            if entry.name.ends_with(".manifest") && !live.contains(entry.name.as_str()) {
                self.disk.remove(&self.dir.join(&entry.name)).await?;
            }
        }
        Ok(())
    }
}

async fn load(disk: &dyn Disk, path: &Path, number: u32, version: u64) -> Result<Shard, ManifestError> {
    let damaged = |detail: String| ManifestError::Damaged { path: path.to_owned(), detail };
    let bytes =
        read_small(disk, path, OBJECT_BYTES_MAX).await?.ok_or_else(|| damaged("it is missing".into()))?;
    let shard = Shard::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if shard.number != number || shard.version != version || shard.object(&bytes) != name {
        return Err(damaged(format!("it is version {} of shard {}", shard.version, shard.number)));
    }
    Ok(shard)
}
