//! The room of the log: append, read, trim, recover.
//!
//! It does: one write-ahead log for all partitions of a broker, with group commit; the tail in memory; offsets, producers and
//! epochs of each partition; checkpoints and recovery; retention. It owns: the container format, the WAL files, the checkpoint.
//! It never sees: groups, ACLs, sockets.
//!
//! Start reading at `log.rs` (open, the writer), then `partition.rs` (append, read), `container.rs` (the bytes), `recovery.rs`.

mod checkpoint;
mod commit;
pub mod container;
mod error;
mod extent;
mod log;
mod partition;
mod producers;
mod recovery;
mod settings;
mod tail;
mod wal;

pub use commit::Append;
pub use error::{AppendError, CommitError, OpenError, ReadError};
pub use log::{CommitLog, LogCounters, LogState};
pub use partition::{
    AbortedTransaction, ActiveProducer, AppendOptions, FetchWait, Isolation, Offsets, Origin, Partition,
    Read, ReadRequest, TimestampOffset,
};
#[cfg(feature = "negative-controls")]
pub use settings::NegativeControl;
pub use settings::{LogSettings, PartitionSettings, SyncMode};
