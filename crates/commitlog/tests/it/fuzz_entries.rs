//! What is called with bytes from a disk: by libFuzzer (`/fuzz`, nightly) and, for a bounded count, by `fuzz_smoke.rs`
//! in every `cargo test`. An entry panics when a promise is broken and ignores its result.
//!
//! Random bytes die at the first checksum. So an input is a list of *parts* — chunks, checkpoint frames, raw bytes —
//! and what a part's kind does not forbid is put right before it goes to the disk: checksums, lengths, the chain, and
//! the batches that a footer names. What remains wrong is what recovery has to think about.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use commitlog::bucket::{Slot, fuzz_digest, fuzz_manifest, slot_of, tombstone};
use commitlog::container::{
    ContainerBuilder, ContainerHeader, HEADER_LEN, Identity, Kind, LogStart, MAGIC, PAGE, SectionKind,
};
use commitlog::encoding::{Encoder, Hash, hash};
use commitlog::manifest::Shard;
use commitlog::segment::{SegmentInfo, fuzz_segment, verify};
use commitlog::{
    AppendOptions, CommitLog, Isolation, LogSettings, OpenError, PartitionSettings, ReadRequest,
};
use protocol::batch::{Batch, BatchBuilder, HEADER_LEN as BATCH_HEADER_LEN, crc32c, split_batches};
use protocol::{TopicIdPartition, Uuid};
use world::clock::SimClock;
use world::disk::{Disk, MemDisk, OpenMode};
use world::rng::SeededRng;

use super::counting::{allowed_bytes, peak_bytes};

/// A chunk of the WAL; bits of [`RAW`] and below say what of it stays as it is.
pub const CHUNK: u8 = 0;
/// The same, as the first one of the next file.
pub const CHUNK_IN_NEXT_FILE: u8 = 1;
/// The body of a checkpoint frame.
pub const CHECKPOINT: u8 = 2;
/// Cuts the WAL file under way: a multiple of 256 bytes.
pub const CUT: u8 = 3;
/// Nothing is put right.
pub const RAW: u8 = 0x80;
/// Numbers, predecessors and positions stay.
pub const KEEP_CHAIN: u8 = 0x40;
/// The payload stays, whatever the footer says of it.
pub const KEEP_PAYLOAD: u8 = 0x20;

const TOPIC: Uuid = Uuid([7; 16]);
const PARTITIONS: i32 = 3;
const WAL_FILE_BYTES: u64 = 64 << 10;
const FILES_MAX: u64 = 4;
const NOW_MS: i64 = 1_700_000_000_000;
/// Reads of one partition: whatever it says of its offsets, the input's time is short.
const READS_MAX: usize = 20;
/// What a runtime of tokio takes.
const RUNTIME_BYTES: usize = 64 << 10;

/// `[kind][length, 2 bytes][bytes]`, again and again. A last part that is cut off takes what there is.
pub fn parts(mut data: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut parts = Vec::new();
    while let Some((head, rest)) = data.split_first_chunk::<3>() {
        let len = usize::from(u16::from_le_bytes([head[1], head[2]])).min(rest.len());
        parts.push((head[0], rest[..len].to_vec()));
        data = &rest[len..];
    }
    parts
}

pub fn part(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("a part of a seed is short");
    [&[kind][..], &len.to_le_bytes(), bytes].concat()
}

fn settings() -> LogSettings {
    LogSettings {
        wal_file_bytes_min: WAL_FILE_BYTES,
        wal_file_bytes_max: WAL_FILE_BYTES,
        chunk_bytes_max: 4 << 10,
        tail_bytes_max: 8 << 10,
        cold_bytes_max: 4 << 10,
        // Recovery looks so far for a chunk that proves the missing one, and no writer goes farther; the input does: here it
        // is all of every file.
        checkpoint_bytes: WAL_FILE_BYTES,
        reserve_bytes: 0,
        ..LogSettings::default()
    }
}

fn id_of(partition: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: TOPIC, partition }
}

async fn open(disk: &Arc<MemDisk>, start: u64) -> Result<Arc<CommitLog>, OpenError> {
    let partitions: Vec<_> =
        (0..PARTITIONS).map(|index| (id_of(index), PartitionSettings::default())).collect();
    let clock = Arc::new(SimClock::new(NOW_MS));
    let rng = SeededRng::shared(start);
    CommitLog::open_with(disk.clone(), PathBuf::from("/data"), clock, rng, settings(), &partitions).await
}

/// What a first start writes beside the WAL, and what it allocates at its worst moment.
struct Fresh {
    identity: Bytes,
    log_id: [u8; 16],
    peak_bytes: usize,
}

fn fresh() -> &'static Fresh {
    static FRESH: OnceLock<Fresh> = OnceLock::new();
    FRESH.get_or_init(|| {
        let disk = MemDisk::new(1);
        let (peak_bytes, opened) = peak_bytes(|| run(opened_and_used(&disk, 1)));
        opened.expect("a log is made in an empty directory");
        let identity = disk.content(Path::new("/data/log.id")).expect("a log has an identity");
        let log_id = identity[10..26].try_into().expect("sixteen bytes");
        Fresh { identity, log_id, peak_bytes }
    })
}

fn run<T>(story: impl Future<Output = T>) -> T {
    world::task::deterministic(1);
    world::task::paused_runtime().block_on(story)
}

/// These parts as the directory of a log. Whatever they are, opening ends without a panic and allocates in proportion;
/// what opens can be read and appended to, and what it acknowledged then is there after the next start.
pub fn wal_recovery(data: &[u8]) -> Result<(), OpenError> {
    let fresh = fresh();
    let disk = MemDisk::new(1);
    let stored = run(lay_out(&disk, data, fresh));
    let (peak, opened) = peak_bytes(|| run(opened_and_used(&disk, 2)));
    let allowed = fresh.peak_bytes + allowed_bytes(stored);
    assert!(peak <= allowed, "{peak} bytes allocated for a directory of {stored}, {allowed} allowed");
    let acknowledged = opened?;
    run(async {
        let again = open(&disk, 3).await;
        let log =
            again.unwrap_or_else(|error| panic!("what was opened, used and closed opens again: {error}"));
        for (index, offset) in acknowledged {
            let end = log.partition(&id_of(index)).expect("it was named").offsets().high_watermark;
            assert!(
                end > offset,
                "offset {offset} of partition {index} was acknowledged, the log ends at {end}"
            );
        }
        log.close().await;
    });
    Ok(())
}

/// Opens, reads everything and appends a record to each partition. Gives the offsets that were acknowledged.
async fn opened_and_used(disk: &Arc<MemDisk>, start: u64) -> Result<Vec<(i32, i64)>, OpenError> {
    let log = open(disk, start).await?;
    let mut acknowledged = Vec::new();
    for index in 0..PARTITIONS {
        let partition = log.partition(&id_of(index)).expect("it was named");
        let mut offset = partition.offsets().log_start;
        for _ in 0..READS_MAX {
            let isolation = Isolation::ReadUncommitted;
            let request = ReadRequest { offset, max_bytes: 4 << 10, min_one_batch: true, isolation };
            let Ok(read) = partition.read(request).await else { break };
            let bytes = read.records.to_bytes();
            let Some(last) = split_batches(&bytes).flatten().last() else { break };
            offset = last.header.last_offset().saturating_add(1);
        }
        let mut record = BatchBuilder::new();
        record.append(NOW_MS, None, Some(b"one more"), &[]).expect("a record");
        let batch = Batch::parse(record.build().expect("a batch")).expect("our own batch");
        let Ok(append) = partition.append(batch, AppendOptions::default()) else { continue };
        let offset = append.base_offset;
        if append.committed().await.is_ok() {
            acknowledged.push((index, offset));
        }
    }
    log.close().await;
    Ok(acknowledged)
}

/// Where the next part goes, and what it has to say of the one before.
struct Chain {
    file: u64,
    offset: u64,
    number: u64,
    hash: Hash,
    checkpoint: Vec<u8>,
    checkpoint_frames: u64,
    checkpoint_hash: Hash,
    len: u64,
}

/// Writes the directory; gives how many bytes are in it.
async fn lay_out(disk: &Arc<MemDisk>, data: &[u8], fresh: &Fresh) -> usize {
    for dir in ["/data/wal", "/data/checkpoint"] {
        disk.create_dir_all(Path::new(dir)).await.expect("a disk in memory");
    }
    write(disk, Path::new("/data/log.id"), 0, fresh.identity.clone(), fresh.identity.len() as u64).await;
    let mut chain = Chain {
        file: 1,
        offset: 0,
        number: 0,
        hash: Hash::default(),
        checkpoint: Vec::new(),
        checkpoint_frames: 0,
        checkpoint_hash: Hash::default(),
        len: WAL_FILE_BYTES,
    };
    let mut stored = fresh.identity.len();
    write(disk, &wal_file(1), 0, Bytes::new(), WAL_FILE_BYTES).await;
    for (kind, mut bytes) in parts(data) {
        match kind & 3 {
            CHECKPOINT => {
                let frame = if kind & RAW != 0 { bytes } else { chain.checkpoint_frame(kind, bytes, fresh) };
                stored += frame.len();
                chain.checkpoint.extend_from_slice(&frame);
                continue;
            }
            CUT => {
                chain.len = u64::from(bytes.first().copied().unwrap_or_default()) * 256;
                write(disk, &wal_file(chain.file), 0, Bytes::new(), chain.len).await;
                continue;
            }
            CHUNK_IN_NEXT_FILE if chain.file < FILES_MAX => {
                (chain.file, chain.offset, chain.len) = (chain.file + 1, 0, WAL_FILE_BYTES);
            }
            _ => {}
        }
        if kind & RAW == 0 {
            repair(&mut bytes, kind, fresh, &mut chain);
        }
        stored += bytes.len();
        let (at, len) = (chain.offset, bytes.len() as u64);
        chain.offset = (at + len).next_multiple_of(PAGE);
        let file_len = chain.len.max(at + len);
        write(disk, &wal_file(chain.file), at, bytes.into(), file_len).await;
    }
    if !chain.checkpoint.is_empty() {
        let path = Path::new("/data/checkpoint/00000000000000000001.ckpt");
        let len = chain.checkpoint.len() as u64;
        write(disk, path, 0, chain.checkpoint.into(), len).await;
    }
    for file in 1..=chain.file {
        stored += disk.content(&wal_file(file)).map_or(0, |content| content.len());
    }
    stored
}

fn wal_file(number: u64) -> PathBuf {
    PathBuf::from(format!("/data/wal/{number:020}.wal"))
}

async fn write(disk: &Arc<MemDisk>, path: &Path, at: u64, bytes: Bytes, len: u64) {
    let file = disk.open(path, OpenMode::Create).await.expect("a disk in memory");
    if !bytes.is_empty() {
        file.write_at(at, vec![bytes]).await.expect("a disk in memory");
    }
    file.set_len(len).await.expect("a disk in memory");
}

/// Makes a chunk of these bytes that stands in its place.
fn repair(bytes: &mut Vec<u8>, kind: u8, fresh: &Fresh, chain: &mut Chain) {
    let mut header = container_of(bytes);
    if kind & KEEP_CHAIN == 0 {
        header.kind = Kind::Chunk;
        header.log_id = fresh.log_id;
        header.number = chain.number.wrapping_add(1);
        header.predecessor = chain.hash;
        header.durable = header.durable.min(chain.number);
        header.file_len = WAL_FILE_BYTES;
    }
    sealed(bytes, &mut header, kind & KEEP_PAYLOAD == 0);
    (chain.number, chain.hash) = (header.number, header.hash());
}

/// The header in these bytes, with lengths that fit them.
fn container_of(bytes: &mut Vec<u8>) -> ContainerHeader {
    if bytes.len() < HEADER_LEN {
        bytes.resize(HEADER_LEN, 0);
    }
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let room = (bytes.len() - HEADER_LEN) as u64;
    let payload_len = word(84) % (room + 1);
    ContainerHeader {
        kind: if bytes[10] == Kind::Segment as u8 { Kind::Segment } else { Kind::Chunk },
        log_id: bytes[12..28].try_into().expect("sixteen bytes"),
        number: word(28),
        predecessor: bytes[36..52].try_into().expect("sixteen bytes"),
        durable: word(52),
        nonce: bytes[60..76].try_into().expect("sixteen bytes"),
        created_ms: word(76) as i64,
        payload_len,
        footer_len: room - payload_len,
        footer_hash: Hash::default(),
        file_len: word(116),
    }
}

/// Hash of the footer, checksum of the header; and if wanted, batches in the payload that are what the footer says.
fn sealed(bytes: &mut [u8], header: &mut ContainerHeader, with_payload: bool) {
    let footer_at = header.footer_at() as usize;
    header.footer_hash = hash(&bytes[footer_at..]);
    if with_payload && let Ok(mut footer) = header.decode_footer(&bytes[footer_at..]) {
        let mut at = HEADER_LEN;
        for extent in footer.extents.clone() {
            for entry in &mut footer.entries[extent.entry_start..][..extent.entry_count] {
                let batch = &mut bytes[at..at + entry.len as usize];
                at += batch.len();
                assert!(batch.len() >= BATCH_HEADER_LEN, "the footer was checked");
                batch[..8].copy_from_slice(&entry.base_offset.to_be_bytes());
                batch[8..12].copy_from_slice(&(entry.len as i32 - 12).to_be_bytes());
                batch[12..16].copy_from_slice(&extent.leader_epoch.to_be_bytes());
                batch[16] = 2;
                let delta = (entry.last_offset - entry.base_offset) as i32;
                batch[23..27].copy_from_slice(&delta.to_be_bytes());
                entry.crc = crc32c(&batch[21..]);
                batch[17..21].copy_from_slice(&entry.crc.to_be_bytes());
            }
        }
        let encoded = footer.encode();
        assert_eq!(encoded.len(), bytes.len() - footer_at, "only checksums changed");
        bytes[footer_at..].copy_from_slice(&encoded);
        header.footer_hash = hash(&encoded);
    }
    bytes[..HEADER_LEN].copy_from_slice(&header.encode());
}

impl Chain {
    /// A frame with this body that follows the one before and stands where the WAL is now.
    fn checkpoint_frame(&mut self, kind: u8, mut body: Vec<u8>, fresh: &Fresh) -> Vec<u8> {
        if kind & KEEP_CHAIN == 0 && body.len() >= 48 {
            body[..8].copy_from_slice(&self.file.to_le_bytes());
            body[8..16].copy_from_slice(&self.offset.to_le_bytes());
            body[16..24].copy_from_slice(&self.number.to_le_bytes());
            body[24..40].copy_from_slice(&self.hash);
            body[40..48].copy_from_slice(&WAL_FILE_BYTES.to_le_bytes());
        }
        let mut out = Encoder::default();
        out.raw(b"OTTLACKP");
        out.u16(1);
        out.u16(if self.checkpoint_frames == 0 { 1 } else { 2 });
        out.raw(&fresh.log_id);
        out.u64(1);
        out.u64(self.checkpoint_frames);
        out.raw(&self.checkpoint_hash);
        out.u64(body.len() as u64);
        out.raw(&hash(&body));
        out.raw(&[0; 8]);
        let crc = crc32c(out.as_slice());
        out.u32(crc);
        self.checkpoint_frames += 1;
        self.checkpoint_hash = hash(out.as_slice());
        out.raw(&body);
        out.into_vec()
    }
}

/// The first byte says what the others are: a segment (even) or a shard of the manifest (odd), and what of it stays.
pub fn segment(data: &[u8]) -> Result<(), String> {
    let Some((kind, rest)) = data.split_first() else { return Ok(()) };
    let mut bytes = rest.to_vec();
    if kind & 1 != 0 {
        if kind & RAW == 0 && bytes.len() >= 16 {
            let content = bytes.len() - 16;
            let right = hash(&bytes[..content]);
            bytes[content..].copy_from_slice(&right);
        }
        return shard(&bytes);
    }
    let mut header = container_of(&mut bytes);
    if kind & RAW == 0 {
        header.kind = Kind::Segment;
        sealed(&mut bytes, &mut header, kind & KEEP_PAYLOAD == 0);
    } else if let Ok(as_it_is) = ContainerHeader::decode(&bytes) {
        header = as_it_is;
    }
    let (peak, outcome) = peak_bytes(|| fuzz_segment(&bytes).map(|_| ()));
    assert!(peak <= allowed_bytes(bytes.len()), "{peak} bytes for {}", bytes.len());
    let disk = MemDisk::new(1);
    let path = Path::new("/one.seg");
    let len = bytes.len() as u64;
    let info = SegmentInfo {
        id: [1; 16],
        len,
        payload_len: header.payload_len,
        header_hash: header.hash(),
        created_ms: 0,
    };
    run(write(&disk, path, 0, bytes.into(), len));
    let (peak, verified) = peak_bytes(|| run(verify(&*disk, path, &info)));
    assert!(peak <= RUNTIME_BYTES + allowed_bytes(len as usize), "{peak} bytes for {len}");
    assert!(outcome.is_ok() || verified.is_err(), "{outcome:?}, and yet it was verified");
    outcome.map_err(|error| error.to_string())?;
    verified.map(|_| ()).map_err(|error| error.to_string())
}

fn shard(bytes: &[u8]) -> Result<(), String> {
    let (peak, shard) = peak_bytes(|| Shard::decode(bytes));
    assert!(peak <= allowed_bytes(bytes.len()), "{peak} bytes for {}", bytes.len());
    let shard = shard.map_err(|error| error.to_string())?;
    assert_eq!(Shard::decode(&shard.encode()).as_ref(), Ok(&shard), "our own bytes can be read");
    Ok(())
}

/// A part of [`bucket_manifest`]: an object of the manifest in a bucket, or …
pub const OBJECT: u8 = 0;
/// … what stands in slot 5 of WAL 3, or …
pub const IN_SLOT: u8 = 1;
/// … what a slot says of those before it.
pub const DIGEST: u8 = 2;

/// Objects of a shard of the manifest, one after the other, and what stands in slots.
pub fn bucket_manifest(data: &[u8]) -> Result<(), String> {
    let mut shard: Option<Vec<u8>> = None;
    let mut outcome = Ok(());
    for (kind, mut bytes) in parts(data) {
        if kind & IN_SLOT != 0 {
            if kind & RAW == 0 && bytes.len() == 32 {
                let right = crc32c(&bytes[..28]).to_le_bytes();
                bytes[28..].copy_from_slice(&right);
            }
            let (found, is_commit) = (slot_of(&bytes, 3, 5), bytes.starts_with(&MAGIC));
            assert_eq!(found == Some(Slot::Data), is_commit);
            assert_eq!(found == Some(Slot::Tombstone), bytes == tombstone(3, 5));
            continue;
        }
        if kind & DIGEST != 0 {
            if kind & RAW == 0 {
                seal_digest(&mut bytes);
            }
            let (peak, read) = peak_bytes(|| fuzz_digest(&bytes).map(drop));
            // The section is copied.
            assert!(peak <= bytes.len() + allowed_bytes(bytes.len()), "{peak} bytes for {}", bytes.len());
            outcome = read.map_err(|error| error.to_string());
            continue;
        }
        if kind & RAW == 0 {
            rehash_manifest(&mut bytes);
        }
        let (peak, read) = peak_bytes(|| fuzz_manifest(shard.as_deref(), &bytes));
        let len = bytes.len() + shard.as_ref().map_or(0, Vec::len);
        // It is read, applied, written and read again.
        assert!(peak <= 4 * allowed_bytes(len), "{peak} bytes for {len}");
        match read {
            Ok(whole) => shard = Some(whole),
            Err(error) => outcome = Err(error.to_string()),
        }
    }
    outcome
}

/// As many slots as there is room for, with footers as long as their headers say, modulo what is left.
fn seal_digest(bytes: &mut [u8]) {
    let (mut at, mut count) = (4, 0u32);
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| rest.len() >= HEADER_LEN) {
        let word = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().expect("eight bytes"));
        let footer_len = (word(92) % (rest.len() - HEADER_LEN + 1) as u64) as usize;
        let payload_len = word(84) % (1 << 40);
        let mut header = container_of(&mut rest[..HEADER_LEN].to_vec());
        header.kind = Kind::Object;
        (header.payload_len, header.footer_len) = (payload_len, footer_len as u64);
        header.footer_hash = hash(&rest[HEADER_LEN..HEADER_LEN + footer_len]);
        rest[..HEADER_LEN].copy_from_slice(&header.encode());
        at += HEADER_LEN + footer_len;
        count += 1;
    }
    if let Some(first) = bytes.first_chunk_mut() {
        *first = count.to_le_bytes();
    }
}

/// Puts the checksums right, of what stands within as well.
fn rehash_manifest(bytes: &mut [u8]) {
    const WITHIN: &[u8] = b"OTTLAMNF";
    if let Some(at) = bytes.windows(WITHIN.len()).position(|window| window == WITHIN)
        && let Some(len) =
            at.checked_sub(8).map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()))
        && let Some(within) =
            usize::try_from(len).ok().and_then(|len| bytes.get_mut(at..at.checked_add(len)?))
        && let Some(content) = within.len().checked_sub(16)
    {
        let right = hash(&within[..content]);
        within[content..].copy_from_slice(&right);
    }
    if let Some(content) = bytes.len().checked_sub(16) {
        let right = hash(&bytes[..content]);
        bytes[content..].copy_from_slice(&right);
    }
}

/// Two slots, the first of which raises the start of a partition.
fn digest_seed() -> Vec<u8> {
    let mut digest = 2u32.to_le_bytes().to_vec();
    for number in [8, 9] {
        let mut builder = ContainerBuilder::new(0, 0);
        if number == 8 {
            let id = TopicIdPartition { topic_id: TOPIC, partition: 0 };
            builder.section(SectionKind::LogStarts, LogStart::encode_all(&[LogStart { id, offset: 3 }]));
        }
        let identity = Identity {
            kind: Kind::Object,
            log_id: 3u128.to_be_bytes(),
            number,
            predecessor: Hash::default(),
            durable: number,
            nonce: [0; 16],
            created_ms: NOW_MS,
            file_len: 0,
        };
        let (bytes, header, _) = builder.finish(identity);
        digest.extend_from_slice(&bytes[..header.len() as usize]);
    }
    digest
}

/// The first corpus of [`bucket_manifest`].
pub fn manifest_seeds(shard: &[u8], change: &[u8]) -> Vec<Vec<u8>> {
    vec![
        part(DIGEST, &digest_seed()),
        part(DIGEST | RAW, &digest_seed()),
        part(OBJECT, shard),
        [part(OBJECT, shard), part(OBJECT, change)].concat(),
        [part(RAW, shard), part(RAW, change)].concat(),
        [part(IN_SLOT, &tombstone(3, 5)), part(IN_SLOT | RAW, &tombstone(3, 6))].concat(),
    ]
}

/// The first corpus: the golden files, cut into parts.
pub fn seeds(wal: &[u8], segment: &[u8], shard: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    assert!(wal.starts_with(&MAGIC));
    let mut chunks = Vec::new();
    let mut at = 0;
    while let Some(header) = wal.get(at..).and_then(|rest| ContainerHeader::decode(rest).ok()) {
        chunks.push(&wal[at..at + header.len() as usize]);
        at += header.padded_len() as usize;
    }
    let all = |kind: u8| chunks.iter().flat_map(|chunk| part(kind, chunk)).collect::<Vec<u8>>();
    // A checkpoint of nothing, of a partition, and of one with an extent, an epoch and a producer in it.
    let bare = |partitions: &[u8]| [&[0; 48][..], &[0], &4096u64.to_le_bytes(), partitions].concat();
    let mut partition = Encoder::default();
    partition.u32(1);
    partition.raw(&[7; 16]);
    partition.i32(0);
    for number in [0u64, 3] {
        partition.u64(number);
    }
    partition.u32(1);
    partition.i32(0);
    partition.i64(0);
    partition.u32(1);
    for number in [0i64, 2, 1_000] {
        partition.i64(number);
    }
    partition.u32(256);
    partition.i32(0);
    for number in [1u64, 128, 1] {
        partition.u64(number);
    }
    partition.u32(128);
    partition.u32(1);
    partition.i64(9);
    partition.i16(1);
    partition.i32(-1);
    partition.i64(2_000);
    partition.i64(2_000);
    partition.u8(1);
    partition.i32(0);
    partition.i32(1);
    for number in [0i64, 1, 2_000] {
        partition.i64(number);
    }
    let partition = bare(&partition.into_vec());
    let empty = bare(&[0; 4]);
    vec![
        ("wal_recovery", all(CHUNK)),
        ("wal_recovery", all(CHUNK_IN_NEXT_FILE)),
        ("wal_recovery", all(CHUNK | KEEP_PAYLOAD)),
        ("wal_recovery", all(RAW)),
        ("wal_recovery", [part(CHUNK, chunks[0]), part(CHECKPOINT, &empty), part(CHUNK, chunks[1])].concat()),
        (
            "wal_recovery",
            [part(CHUNK, chunks[0]), part(CHECKPOINT, &partition), part(CHUNK, chunks[2])].concat(),
        ),
        ("wal_recovery", [all(CHUNK), part(CHECKPOINT, &partition), part(CHECKPOINT, &partition)].concat()),
        ("wal_recovery", [all(CHUNK), part(CUT, &[40])].concat()),
        ("segment", [&[0][..], segment].concat()),
        ("segment", [&[KEEP_PAYLOAD][..], segment].concat()),
        ("segment", [&[RAW][..], segment].concat()),
        ("segment", [&[1][..], shard].concat()),
        ("segment", [&[RAW | 1][..], shard].concat()),
    ]
}
