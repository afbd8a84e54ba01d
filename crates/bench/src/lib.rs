//! What Ottla costs and how fast it is: a load generator on the wire, and runs side by side with Apache Kafka.
//!
//! Owns: pre-encoded batches (`batches`), produce load with scheduled send times (`load`), readers that check what they
//! discard (`fetch`), what a process used meanwhile (`process`, `syncs`); subjects that it starts itself (`subject`), rounds
//! with what others took of the machine and what it gives at all (`run`, `machine`, `limits`), the workloads, and the document (`results`, `targets`, `report`). It speaks
//! Kafka's protocol to an address and knows nothing else of the broker it measures, so that the same load meets every subject.
//! Never sees: the broker and what is below it. A harness, not a room of the product: it asks the real clock.
//! Start reading at `load.rs`, then `run.rs` and `workloads/produce.rs`.
#![allow(clippy::disallowed_methods)]

pub mod batches;
pub mod connection;
pub mod fetch;
pub mod latency;
pub mod limits;
pub mod load;
pub mod machine;
pub mod process;
pub mod report;
pub mod results;
pub mod run;
pub mod stats;
pub mod subject;
pub mod syncs;
pub mod targets;
pub mod topic;
pub mod workloads;
