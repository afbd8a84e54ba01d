//! What the room `protocol` promises, held against Kafka's schema (`schema.rs` writes messages without any
//! of our code), Kafka's Java classes (`java.rs`, golden bytes), another implementation
//! (`kafka_protocol_crate.rs`) and hostile bytes (`hostile.rs`, `fuzz_smoke.rs`).

mod counting;
mod fuzz_entries;
mod fuzz_smoke;
mod hostile;
mod java;
mod java_batches;
mod kafka_protocol_crate;
mod round_trip;
mod schema;
mod verdicts;
