//! What is called with bytes from a disk: by libFuzzer (`/fuzz`, nightly) and, for a bounded count, by `fuzz_smoke.rs`
//! in every `cargo test`. An entry panics when a promise is broken and ignores its result.
//!
//! An input is a list of parts — bodies of frames and snapshots, marks, raw bytes — and what a part's kind does not
//! forbid is put right: checksums, positions, the chain of hashes. So what is read is what a record says, not whether
//! its checksum fits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catalog::{Catalog, CatalogOpenError, CatalogOptions, MetadataRecord};
use protocol::Str;
use protocol::batch::crc32c;
use world::bucket::{Bucket, MemBucket};
use world::clock::ManualClock;
use world::disk::{Disk, MemDisk, OpenMode};
use world::rng::SeededRng;
use xxhash_rust::xxh3::xxh3_128;

use super::counting::{allowed_bytes, peak_bytes};

/// The body of a frame of the log.
pub const FRAME: u8 = 0;
/// The body of a snapshot, taken behind the last frame.
pub const SNAPSHOT: u8 = 1;
/// A mark behind the last frame; its first byte is the slot.
pub const MARK: u8 = 2;
/// Bytes of the log as they are.
pub const RAW: u8 = 3;
/// Positions, hashes and the hash of the state stay as they are in the bytes.
pub const KEEP_CHAIN: u8 = 0x40;

const LOG_ID: [u8; 16] = [5; 16];
const DIR: &str = "/data/metadata";
const SLOT_BYTES: usize = 512;
/// A record of a few bytes may make a topic with a million partitions, so beside the proportion to the bytes read this
/// much is allowed for each partition of the state, and for one largest topic that is made and refused again.
const PARTITION_BYTES_MAX: usize = 128;
const TOPIC_PARTITIONS_MAX: usize = 1_000_000;
/// A catalog's own: runtime, queue, reading in steps of 1 MiB, writing a snapshot.
const CATALOG_BYTES: usize = 8 << 20;

/// `[kind][length, 2 bytes][bytes]`, again and again. A last part that is cut off takes what there is.
fn parts(mut data: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut parts = Vec::new();
    while let Some((head, rest)) = data.split_first_chunk::<3>() {
        let len = usize::from(u16::from_le_bytes([head[1], head[2]])).min(rest.len());
        parts.push((head[0], rest[..len].to_vec()));
        data = &rest[len..];
    }
    parts
}

fn part(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("a part of a seed is short");
    [&[kind][..], &len.to_le_bytes(), bytes].concat()
}

/// These parts as the directory of a catalog. Whatever they are, opening ends without a panic and within bounds; what
/// opens takes a record, and after the next start the state is the same.
pub fn catalog(data: &[u8]) -> Result<(), CatalogOpenError> {
    let disk = MemDisk::new(1);
    run(lay_out(&disk, data));
    let (peak, opened) = peak_bytes(|| {
        run(async {
            let catalog = open(&disk, 2).await?;
            let topic = MetadataRecord::CreateTopic {
                id: protocol::Uuid([9; 16]),
                name: Str::from("one-more"),
                partition_count: 1,
                replication_factor: 1,
                configs: Vec::new(),
            };
            // It may be there already, or there may be no room for it: that is the catalog's answer.
            let _ = catalog.append(vec![topic]).await;
            catalog.close().await;
            let state = catalog.read();
            Ok::<_, CatalogOpenError>((state.position(), state.partition_count()))
        })
    });
    let partitions = opened.as_ref().map_or(0, |(_, count)| *count as usize) + TOPIC_PARTITIONS_MAX;
    let allowed = CATALOG_BYTES + allowed_bytes(data.len()) + PARTITION_BYTES_MAX * partitions;
    assert!(peak <= allowed, "{peak} bytes allocated for {}, {allowed} allowed", data.len());
    let (before, _) = opened?;
    run(async {
        let catalog = open(&disk, 3).await;
        let catalog =
            catalog.unwrap_or_else(|error| panic!("what was opened and closed opens again: {error}"));
        let after = catalog.read().position();
        assert!(after > before, "a start is a frame of its own: {before}, then {after}");
        catalog.close().await;
    });
    Ok(())
}

/// The same parts as objects of a bucket: frames and snapshots at their positions, a mark's bytes as a lease, raw bytes where the next
/// frame would be. Whatever they are, looking, opening and reading the lease end without a panic and within bounds.
pub fn catalog_in_a_bucket(data: &[u8]) -> Result<(), CatalogOpenError> {
    let bucket = MemBucket::new(1);
    let lease = run(lay_out_in(&bucket, data));
    let (peak, opened) = peak_bytes(|| {
        run(async {
            let shared: Arc<dyn Bucket> = Arc::new(bucket.clone());
            catalog::read_bucket(shared.clone()).await?;
            let options =
                CatalogOptions { snapshot_frames: 4, lease_ttl: Duration::ZERO, ..CatalogOptions::default() };
            let catalog = Catalog::open_bucket(shared, Arc::new(SeededRng::new(2)), options).await?;
            let leases = catalog.leases().expect("a bucket has leases");
            if let Some(wal_id) = lease {
                leases.get(wal_id).await.expect("a bucket in memory");
                assert!(leases.list().await.expect("a bucket in memory").contains_key(&wal_id));
            }
            catalog.close().await;
            let state = catalog.read();
            Ok::<_, CatalogOpenError>(state.partition_count())
        })
    });
    let partitions = opened.as_ref().map_or(0, |count| *count as usize) + TOPIC_PARTITIONS_MAX;
    let allowed = CATALOG_BYTES + allowed_bytes(data.len()) + PARTITION_BYTES_MAX * partitions;
    assert!(peak <= allowed, "{peak} bytes allocated for {}, {allowed} allowed", data.len());
    opened.map(drop)
}

async fn lay_out_in(bucket: &MemBucket, data: &[u8]) -> Option<u64> {
    let put = async |key: String, bytes: Vec<u8>| {
        bucket.put(&key, bytes.into()).await.expect("a bucket in memory");
    };
    let mut head = [&b"OTLAMBKT"[..], &[1, 0, 0, 0], &LOG_ID].concat();
    head.extend_from_slice(&crc32c(&head).to_le_bytes());
    put(format!("meta/{:020}", 0), head).await;
    let (mut position, mut last_hash, mut lease) = (0u64, 0u128, None);
    for (kind, mut bytes) in parts(data) {
        let keep = kind & KEEP_CHAIN != 0;
        match kind & 3 {
            FRAME => {
                if !keep && let Some(has_state_hash) = bytes.first_mut() {
                    *has_state_hash = 0;
                }
                position += 1;
                let frame = frame(position, last_hash, &bytes);
                last_hash = xxh3_128(&frame);
                put(format!("meta/{position:020}"), frame).await;
            }
            SNAPSHOT => {
                if !keep && bytes.len() >= 8 {
                    bytes[..8].copy_from_slice(&position.to_le_bytes());
                }
                let snapshot = snapshot(position, 0, last_hash, &bytes);
                put(format!("snapshots/{position:020}"), snapshot).await;
            }
            MARK => {
                let mut fields = [&b"OTLALEAS"[..], &[1, 0, 0, 0], &bytes].concat();
                fields.extend_from_slice(&crc32c(&fields).to_le_bytes());
                put(format!("lease/{position:020}"), fields).await;
                lease = Some(position);
            }
            _ => put(format!("meta/{:020}", position + 1), bytes).await,
        }
    }
    lease
}

fn run<T>(story: impl Future<Output = T>) -> T {
    world::task::deterministic(1);
    world::task::paused_runtime().block_on(story)
}

async fn open(disk: &Arc<MemDisk>, start: u64) -> Result<Arc<Catalog>, CatalogOpenError> {
    let options = CatalogOptions { snapshot_frames: 4, ..CatalogOptions::default() };
    let rng = Arc::new(SeededRng::new(start));
    Catalog::open(disk.clone(), PathBuf::from(DIR), Arc::new(ManualClock::new(0)), rng, options).await
}

async fn lay_out(disk: &Arc<MemDisk>, data: &[u8]) {
    disk.create_dir_all(Path::new(DIR)).await.expect("a disk in memory");
    let mut log = [&b"OTLAMETA"[..], &[1, 0, 0, 0], &LOG_ID].concat();
    log.extend_from_slice(&crc32c(&log).to_le_bytes());
    let (mut position, mut last_hash) = (0u64, 0u128);
    let mut mark = Vec::new();
    for (kind, mut bytes) in parts(data) {
        let keep = kind & KEEP_CHAIN != 0;
        match kind & 3 {
            FRAME => {
                if !keep && let Some(has_state_hash) = bytes.first_mut() {
                    *has_state_hash = 0;
                }
                position += 1;
                let frame = frame(position, last_hash, &bytes);
                last_hash = xxh3_128(&frame);
                log.extend_from_slice(&frame);
            }
            SNAPSHOT => {
                if !keep && bytes.len() >= 8 {
                    bytes[..8].copy_from_slice(&position.to_le_bytes());
                }
                let snapshot = snapshot(position, log.len() as u64, last_hash, &bytes);
                write(disk, &format!("metadata-{position:020}.snapshot"), snapshot).await;
            }
            MARK => {
                let slot = bytes.first().copied().unwrap_or_default() % 2;
                let mut fields = [&b"OTLAMARK"[..], &[1, 0], &LOG_ID].concat();
                fields.extend_from_slice(&u64::from(2 + slot).to_le_bytes());
                fields.extend_from_slice(&position.to_le_bytes());
                fields.extend_from_slice(&(log.len() as u64).to_le_bytes());
                fields.extend_from_slice(&last_hash.to_le_bytes());
                fields.extend_from_slice(&crc32c(&fields).to_le_bytes());
                if keep {
                    for (at, byte) in bytes.iter().skip(1).enumerate().take(fields.len()) {
                        fields[at] ^= byte;
                    }
                }
                mark.resize(2 * SLOT_BYTES, 0);
                mark[usize::from(slot) * SLOT_BYTES..][..fields.len()].copy_from_slice(&fields);
            }
            _ => log.extend_from_slice(&bytes),
        }
    }
    write(disk, "metadata.log", log).await;
    if !mark.is_empty() {
        write(disk, "metadata.mark", mark).await;
    }
}

fn snapshot(position: u64, log_end: u64, last_hash: u128, body: &[u8]) -> Vec<u8> {
    let mut snapshot = [&b"OTLASNAP"[..], &[1, 0, 0, 0], &LOG_ID].concat();
    snapshot.extend_from_slice(&position.to_le_bytes());
    snapshot.extend_from_slice(&log_end.to_le_bytes());
    snapshot.extend_from_slice(&last_hash.to_le_bytes());
    snapshot.extend_from_slice(&(body.len() as u64).to_le_bytes());
    snapshot.extend_from_slice(&xxh3_128(body).to_le_bytes());
    snapshot.extend_from_slice(&crc32c(&snapshot).to_le_bytes());
    snapshot.extend_from_slice(body);
    snapshot
}

fn frame(position: u64, previous_hash: u128, body: &[u8]) -> Vec<u8> {
    let mut fields = position.to_le_bytes().to_vec();
    fields.extend_from_slice(&(body.len() as u32).to_le_bytes());
    fields.extend_from_slice(&crc32c(body).to_le_bytes());
    fields.extend_from_slice(&previous_hash.to_le_bytes());
    let crc = crc32c(&[&LOG_ID[..], &fields].concat());
    [&b"OMF1"[..], &crc.to_le_bytes(), &fields, body].concat()
}

async fn write(disk: &Arc<MemDisk>, name: &str, bytes: Vec<u8>) {
    let file = disk.open(&Path::new(DIR).join(name), OpenMode::Create).await.expect("a disk in memory");
    file.write_at(0, vec![Bytes::from(bytes)]).await.expect("a disk in memory");
}

/// The first corpus: the golden files, cut into parts.
pub fn seeds(log: &[u8], snapshot: &[u8]) -> Vec<Vec<u8>> {
    const LOG_HEADER: usize = 32;
    const FRAME_HEADER: usize = 40;
    const SNAPSHOT_HEADER: usize = 88;
    let mut bodies = Vec::new();
    let mut at = LOG_HEADER;
    while at < log.len() {
        let len = u32::from_le_bytes(log[at + 16..at + 20].try_into().expect("four bytes")) as usize;
        bodies.push(&log[at + FRAME_HEADER..at + FRAME_HEADER + len]);
        at += FRAME_HEADER + len;
    }
    let frames = |of: &[&[u8]]| of.iter().flat_map(|body| part(FRAME, body)).collect::<Vec<u8>>();
    let state = part(SNAPSHOT, &snapshot[SNAPSHOT_HEADER..]);
    let mark = part(MARK, &[1]);
    let all = frames(&bodies);
    vec![
        all.clone(),
        [all.clone(), mark.clone()].concat(),
        [frames(&bodies[..6]), state.clone(), frames(&bodies[6..]), mark].concat(),
        [all.clone(), state].concat(),
        // A whole lease, in a bucket.
        [all.clone(), part(MARK, &[1; 24])].concat(),
        [all, part(RAW, &[0; 50])].concat(),
        [frames(&bodies[..3]), part(FRAME | KEEP_CHAIN, bodies[3]), part(MARK | KEEP_CHAIN, &[0, 1])]
            .concat(),
    ]
}
