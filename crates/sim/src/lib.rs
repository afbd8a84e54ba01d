//! Dev only: the checker of histories, and whole brokers in one process on a seeded clock, network and disk.
//!
//! - [`history`]: what producers were told against what the log holds. Used by the simulations here and by `cargo xtask chaos`,
//!   which does the same to real processes and file systems.
//! - [`machine`]: one simulated machine with a whole broker; [`power_cuts`]: real clients of ours while its power goes.
//!   Everything runs on one thread; the same seed gives the same bytes.
//!
//! Owns no format and no behaviour of the product. Sees every room; no room sees it.

pub mod history;
pub mod machine;
pub mod power_cuts;
