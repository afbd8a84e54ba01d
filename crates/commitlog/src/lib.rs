//! The room of the log: append, read, trim, recover.
//!
//! It does: one write-ahead log for all partitions of a broker, with group commit; the tail in memory; offsets,
//! producers and epochs of each partition; checkpoints and recovery; rewriting into segments; retention; compaction; a second tier in a bucket.
//! It owns: the container format, the WAL files, the checkpoints, segments and manifest objects.
//! It never sees: groups, ACLs, sockets.
//!
//! Start reading at `writer.rs` (a commit from queue to answer), then `partition.rs` (append, read), `container.rs`
//! (the bytes), `recovery.rs` (the way back), `rewrite.rs` (from the WAL into segments). All bytes on disk: `docs/data-layout.md`.

pub mod bucket;
mod checkpoint;
mod checkpointer;
mod commit;
mod compaction;
pub mod container;
pub mod encoding;
mod error;
mod extent;
mod housekeeping;
mod log;
pub mod manifest;
mod medium;
mod next_file;
mod partition;
mod patience;
mod producers;
mod publish;
mod recovery;
mod rewrite;
pub mod segment;
mod segment_files;
mod settings;
mod tail;
pub mod tier;
mod transactions;
mod wal;
mod writer;

pub use commit::Append;
pub use error::{AppendError, CommitError, EndTransactionError, OpenError, ReadError};
pub use log::{Backlog, CommitLog, LogCounters, LogState, Together};
pub use partition::{
    AbortedTransaction, ActiveProducer, AppendOptions, EndTransaction, FetchWait, Isolation, Offsets, Origin,
    Partition, Read, ReadRequest, TimestampOffset, Verification,
};
pub use rewrite::RewriteError;
#[cfg(feature = "negative-controls")]
pub use settings::NegativeControl;
pub use settings::{
    CompactionLimits, CompactionPolicy, LogSettings, PartitionSettings, SyncMode, TierPolicy,
};
pub use transactions::NO_STAMP;
