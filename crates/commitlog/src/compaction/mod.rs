//! Log compaction (`cleanup.policy=compact`): of each key the newest record stays, as Kafka's cleaner defines it.
//!
//! ```text
//!   offset   0  1  2  3  4  5  6 │ 7  8  9 │ 10 …            a piece of a segment:  0 ─────────── 6     covers what it covered,
//!   key      a  b  a  c  b  a  c │ a  b  c │ a                                           4  5  6     has what is left
//!            └─ clean ─────────┘ └ dirty ─┘ └ active
//! ```
//!
//! A round reads the *dirty* part into a table of keys and newest offsets (`offset_map.rs`), bounded by `log.cleaner.dedupe.buffer.size`; what
//! does not fit is left to the next round. Then it reads the log from its start to there, and writes what stays (`cleaner.rs`) into new segments,
//! which take the place of the old extents in one step of the manifest, as with any rewrite. What is dirty, what is still *active* and when it
//! is worth the work says `partition.rs`.
//!
//! Offsets stay. A piece of a segment stands for all offsets that it was made of, also for those that are in no batch any more, so that
//! everything that says "no gaps" holds as before; it ends with its last batch, which stays for that reason, empty if need be (Kafka does the same
//! with the last batch of a round).
//!
//! Below the last stable offset every transaction is decided, so data of aborted ones goes at once, and they are forgotten in the same step
//! (F6). Markers go when nothing of their transaction is left and `delete.retention.ms` has passed, tombstones when that has.

mod cleaner;
mod counters;
mod directory;
mod offset_map;
mod partition;
mod schedule;

pub use cleaner::{Cleaned, Cleaner, Keys, Unclean};
pub use counters::CompactionCounters;
pub use offset_map::OffsetMap;
pub use partition::{Readable, Round};
pub use schedule::Schedule;
