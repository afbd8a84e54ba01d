//! Writes the first corpus of each target from the golden bytes in the repository.
//! `cargo +nightly run --manifest-path fuzz/Cargo.toml --bin seeds`

#[path = "../../../crates/protocol/tests/it/counting.rs"]
#[allow(dead_code)]
mod counting;
#[path = "../../../crates/protocol/tests/it/fuzz_entries.rs"]
#[allow(dead_code)]
mod fuzz_entries;

#[path = "../../../crates/broker/tests/it/fuzz_entries.rs"]
#[allow(dead_code)]
mod broker_entries;
#[path = "../../../crates/catalog/tests/it/fuzz_entries.rs"]
#[allow(dead_code)]
mod catalog_entries;
#[path = "../../../crates/commitlog/tests/it/fuzz_entries.rs"]
#[allow(dead_code)]
mod commitlog_entries;

use std::path::Path;

use protocol::ApiKey;
use protocol::messages::all::ALL;

const VECTORS: &str = include_str!("../../../crates/protocol/vectors/messages.txt");
const BATCHES: &str = include_str!("../../../crates/protocol/vectors/batches.txt");
const WAL: &[u8] = include_bytes!("../../../crates/commitlog/tests/golden/v1/first.wal");
const SEGMENT: &[u8] = include_bytes!("../../../crates/commitlog/tests/golden/v1/first.seg");
const SHARD: &[u8] = include_bytes!("../../../crates/commitlog/tests/golden/v1/shard.manifest");
const BUCKET_SHARD: &[u8] = include_bytes!("../../../crates/commitlog/tests/golden/v1/bucket.shard");
const BUCKET_CHANGE: &[u8] = include_bytes!("../../../crates/commitlog/tests/golden/v1/bucket.change");
const METADATA: &[u8] = include_bytes!("../../../crates/catalog/tests/vectors/metadata.log");
const SNAPSHOT: &[u8] =
    include_bytes!("../../../crates/catalog/tests/vectors/metadata-00000000000000000006.snapshot");

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (index, line) in VECTORS.lines().filter_map(|line| line.strip_prefix("F ")).enumerate() {
        let mut words = line.split(' ');
        let name = words.next().expect("a name");
        let version: i16 = words.next().expect("a version").parse().expect("a number");
        let hex = words.next().unwrap_or_default();
        let body = from_hex(hex);
        let choice = fuzz_entries::choice_of(name, version).expect("a message we have");
        write(&corpus.join("message"), index, &[&choice.to_be_bytes()[..], &body].concat())?;
        let row = ALL.iter().find(|row| row.name == name).expect("a message we have");
        if name.ends_with("Request") {
            let key = ApiKey::try_from(row.key.expect("requests have a key")).expect("a known key");
            let mut frame = [key.code().to_be_bytes(), version.to_be_bytes()].concat();
            frame.extend([0, 0, 0, 9, 0, 1, b'c']);
            if key.request_header_version(version) == 2 {
                frame.push(0);
            }
            frame.extend(body);
            write(&corpus.join("request_frame"), index, &frame)?;
        }
    }
    let batches = BATCHES.lines().filter(|line| line.starts_with("B ") || line.starts_with("M "));
    for (index, line) in batches.enumerate() {
        let hex = line.rsplit(' ').next().expect("the bytes stand last");
        write(&corpus.join("record_batches"), index, &from_hex(hex))?;
    }
    for (index, seed) in broker_entries::seeds().into_iter().enumerate() {
        write(&corpus.join("sasl"), index, &seed)?;
    }
    for (index, (target, seed)) in commitlog_entries::seeds(WAL, SEGMENT, SHARD).into_iter().enumerate() {
        write(&corpus.join(target), index, &seed)?;
    }
    let manifest = commitlog_entries::manifest_seeds(BUCKET_SHARD, BUCKET_CHANGE);
    for (index, seed) in manifest.into_iter().enumerate() {
        write(&corpus.join("bucket_manifest"), index, &seed)?;
    }
    for (index, seed) in catalog_entries::seeds(METADATA, SNAPSHOT).into_iter().enumerate() {
        write(&corpus.join("catalog"), index, &seed)?;
        write(&corpus.join("catalog_in_a_bucket"), index, &seed)?;
    }
    Ok(())
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

fn write(folder: &Path, index: usize, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(format!("seed-{index:05}")), bytes)
}
