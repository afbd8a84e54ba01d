//! The fuzzers' entries for what lies on a disk, on golden bytes and golden bytes changed at every kind of place: a
//! bounded count in every `cargo test`, on the stable toolchain. The real fuzzing is in `/fuzz`.

use world::rng::{Rng, SeededRng};

use crate::fuzz_entries;

const WAL: &[u8] = include_bytes!("../golden/v1/first.wal");
const SEGMENT: &[u8] = include_bytes!("../golden/v1/first.seg");
const SHARD: &[u8] = include_bytes!("../golden/v1/shard.manifest");
const BUCKET_SHARD: &[u8] = include_bytes!("../golden/v1/bucket.shard");
const BUCKET_CHANGE: &[u8] = include_bytes!("../golden/v1/bucket.change");
const ROUNDS: usize = 300;

#[test]
fn the_seeds_get_past_the_checksums() {
    let mut opened = 0;
    for (target, seed) in fuzz_entries::seeds(WAL, SEGMENT, SHARD) {
        match target {
            "wal_recovery" => opened += usize::from(fuzz_entries::wal_recovery(&seed).is_ok()),
            _ => assert_eq!(fuzz_entries::segment(&seed), Ok(())),
        }
    }
    assert!(opened >= 4, "{opened} logs open");
}

#[test]
fn what_is_changed_in_a_log_directory_never_ends_in_a_panic() {
    mutated("wal_recovery", |bytes| drop(fuzz_entries::wal_recovery(bytes)));
}

#[test]
fn what_is_changed_in_a_segment_or_manifest_never_ends_in_a_panic() {
    mutated("segment", |bytes| drop(fuzz_entries::segment(bytes)));
}

#[test]
fn what_is_changed_in_a_manifest_or_slot_of_a_bucket_never_ends_in_a_panic() {
    let seeds = fuzz_entries::manifest_seeds(BUCKET_SHARD, BUCKET_CHANGE);
    for seed in &seeds {
        assert_eq!(fuzz_entries::bucket_manifest(seed), Ok(()));
    }
    mutated_seeds(&seeds, |bytes| drop(fuzz_entries::bucket_manifest(bytes)));
}

fn mutated(target: &str, entry: impl Fn(&[u8])) {
    let seeds = fuzz_entries::seeds(WAL, SEGMENT, SHARD).into_iter().filter(|(of, _)| *of == target);
    mutated_seeds(&seeds.map(|(_, seed)| seed).collect::<Vec<_>>(), entry);
}

fn mutated_seeds(seeds: &[Vec<u8>], entry: impl Fn(&[u8])) {
    let rng = SeededRng::new(11);
    let below = |bound: usize| rng.next_u64() as usize % bound;
    entry(&[]);
    for round in 0..ROUNDS {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=round % 4 {
            let at = below(bytes.len());
            bytes[at] = match below(3) {
                0 => rng.next_u64() as u8,
                1 => bytes[at] ^ 1 << below(8),
                _ => [0, 0xff, 0x7f, 0x80][below(4)],
            };
        }
        if round % 5 == 0 {
            bytes.truncate(below(bytes.len()));
        }
        entry(&bytes);
    }
}
