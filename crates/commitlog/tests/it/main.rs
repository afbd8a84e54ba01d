//! The log's promises on a seeded disk: what was acknowledged is there after any crash, once, in order.
#![allow(clippy::disallowed_methods)]

mod crash;
mod house;
mod story;
