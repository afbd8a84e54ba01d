//! The log's promises on a seeded disk: what was acknowledged is there after any crash, once, in order.
#![allow(clippy::disallowed_methods)]

mod bucket_backlog;
mod bucket_cluster;
mod bucket_log;
mod bucket_merge;
mod bucket_named;
mod bucket_wal;
mod compaction;
mod controls;
#[path = "../../../protocol/tests/it/counting.rs"]
mod counting;
mod crash;
mod fuzz_entries;
mod fuzz_smoke;
mod golden;
mod house;
mod segment_golden;
mod segments;
mod story;
mod tier;
mod transactions;
