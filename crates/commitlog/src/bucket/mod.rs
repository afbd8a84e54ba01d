//! The write-ahead log in a bucket, and how a broker takes over another's.
//!
//! ```text
//! wal/<wal_id:020>/<slot:020>     a container with the batches of one commit, or a tombstone; never both, never changed
//!
//!   slot   0      1      2      3      4
//!        data │ data │ data │ tomb │ data        sealed at 3: what stands in 4 was never acknowledged and does not exist
//! ```
//!
//! A *slot* is one byte string for ever (R2). Its writer acknowledges slots in their order only (R4), so a taker that stops it
//! with tombstones finds everything that was acknowledged below the first of them. No clock and no lease has a part in that.
//!
//! Start reading at `slot_writer.rs`, then `takeover.rs`. The rules' numbers are those of the design's bucket protocol.

mod audit;
mod block_files;
mod blocks;
mod changes;
mod compacting;
mod folder;
mod graves;
mod inputs;
mod loader;
mod medium;
mod merging;
#[cfg(test)]
mod petabyte;
mod piece_index;
mod put_budget;
mod rewriter;
mod shard_change;
mod shards;
mod slot;
mod slot_before;
mod slot_digest;
mod slot_reads;
mod slot_stream;
mod slot_writer;
mod takeover;
mod views;
mod writer;

pub use audit::{Audit, AuditError, NAMED_MAX, Named, WalAudit, audit};
pub use block_files::{BlockDirectory, BlockFileCounters, BlockFiles};
pub(crate) use blocks::{Blocks, Home, Object};
pub(crate) use loader::{follow_manifest, load, take_over_own};
pub(crate) use medium::{BucketMedium, OwnBacklog};
pub(crate) use rewriter::{BucketRewriter, rewrite};
pub use shard_change::fuzz_manifest;
#[cfg(feature = "negative-controls")]
pub use shards::beginning_at;
pub use slot::{Slot, SlotError, slot_key, slot_of, tombstone};
pub use slot_digest::fuzz_digest;
pub use slot_writer::{Fenced, SLOTS_IN_FLIGHT_MAX, SlotWriter};
pub use takeover::{TakeoverError, take_over};
pub(crate) use takeover::{least_burdened, settle};
pub(crate) use views::{open_views, refresh as refresh_views};
pub(crate) use writer::BucketWriter;
