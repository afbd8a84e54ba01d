//! Stories about groups, told to the pure shard: no log, no clock, no task.

mod membership;
mod model;
mod offsets;
mod pending;
mod random;
mod replay;
