#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = commitlog::segment::fuzz_segment(data);
    let _ = commitlog::manifest::Shard::decode(data);
});
