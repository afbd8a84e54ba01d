//! `world` is everything outside of the program: time, randomness, tasks, network, disk and bucket, each as a small trait
//! or type with a real implementation, and a deterministic one for simulation and tests.
//!
//! It owns: threads and tasks, the operating system's files and sockets, hash seeds.
//! It never sees: topics, partitions, record batches, anything of Kafka.
//!
//! The rule that the rest of the house lives by: outside of this crate nobody asks the operating system directly
//! (clippy bans it). Only so can the same seed give the same bytes.
//!
//! Start reading at [`disk`]: its `File` and `Disk` traits are what durability rests on. [`disk::MemDisk`] says
//! what a power cut may do.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod alloc;
pub mod broken;
pub mod bucket;
pub mod clock;
pub mod collections;
pub mod disk;
pub mod machine;
pub mod net;
mod patient;
#[cfg(any(test, feature = "sim"))]
pub mod process;
pub mod rng;
pub mod task;
pub mod watch;
#[cfg(feature = "web")]
pub mod web;
