#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| commitlog::fuzz_recover(data));
