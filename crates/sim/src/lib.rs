//! Dev only: the checker of histories, and whole brokers in one process on a seeded clock, network and disk.
//!
//! - [`history`]: what producers were told against what the log holds. Used by the simulations here and by `cargo xtask chaos`,
//!   which does the same to real processes and file systems.
//! - [`machine`]: one simulated machine with a whole broker; [`power_cuts`]: real clients of ours while its power goes.
//! - [`cluster`]: several brokers on one bucket, each a process that can be killed or stopped; [`upheaval`]: clients of ours while
//!   everything goes wrong that can (`cargo xtask sim`), [`ledger`] transactions of which only the log knows, [`transfers`] those of clients and coordinators; [`wire`]: the network between
//!   them and clients, `peers` that between brokers; [`witness`]: what only the log says.
//!
//! Everything runs on one thread; the same seed gives the same bytes.
//!
//! Owns no format and no behaviour of the product. Sees every room; no room sees it.

pub mod cluster;
pub mod history;
pub mod ledger;
pub mod machine;
mod peers;
pub mod power_cuts;
pub mod transfers;
pub mod upheaval;
pub mod wire;
pub mod witness;
