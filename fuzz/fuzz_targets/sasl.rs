#![no_main]
#[path = "../../crates/broker/tests/it/fuzz_entries.rs"]
#[allow(dead_code)]
mod fuzz_entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_entries::sasl(data));
