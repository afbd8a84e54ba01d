//! What Ottla costs and how fast it is: a load generator on the wire, and runs side by side with Apache Kafka.
//!
//! Owns: pre-encoded batches (`batches`), produce load with scheduled send times (`load`), readers that check what they
//! discard (`fetch`), and what a process used meanwhile (`process`). It speaks Kafka's protocol to an address and knows
//! nothing else of the broker it measures, so that the same load meets every subject.
//! Never sees: the broker and what is below it. A harness, not a room of the product: it asks the real clock.
//! Start reading at `load.rs`.
#![allow(clippy::disallowed_methods)]

pub mod batches;
pub mod connection;
pub mod fetch;
pub mod latency;
pub mod load;
pub mod process;
pub mod topic;
