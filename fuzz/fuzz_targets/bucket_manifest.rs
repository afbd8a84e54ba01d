#![no_main]
#[path = "../../crates/protocol/tests/it/counting.rs"]
mod counting;
#[path = "../../crates/commitlog/tests/it/fuzz_entries.rs"]
#[allow(dead_code)]
mod fuzz_entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| drop(fuzz_entries::bucket_manifest(data)));
