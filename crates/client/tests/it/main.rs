//! The client's promises. `live` runs against a broker that is already there (see its head); everything else
//! against brokers that play a script.
#![allow(clippy::disallowed_methods)]

mod consumer;
mod fake;
mod live;
mod producer;
