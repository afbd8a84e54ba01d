//! `world`'s promises, and above all those of its simulated disk: what the other rooms' crash tests rest on.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod mem_bucket;
mod mem_disk;
mod real_disk;
