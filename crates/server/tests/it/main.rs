//! A server on a real socket, with a scripted broker behind it: what peers can do to it and what they get.
#![allow(clippy::disallowed_methods)]

mod admin;
mod frames;
mod in_process;
mod inter_broker;
mod limits;
mod order;
mod script;
mod shutdown;
mod tls;
