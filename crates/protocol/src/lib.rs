//! Kafka's bytes and what they mean: typed messages for every API and version, record batches, compression.
//!
//! Owns: the wire format (`wire`, `message`, `frame`), the messages generated from Kafka's own schemas
//! (`messages`, written by `cargo xtask codegen`, never by hand), api keys and error codes.
//! Never sees: sockets, files, time, tasks. It takes bytes and gives bytes, and imports no other room.
//! Start reading at `message.rs` (what a message can do), then `wire.rs` (how a frame is read within a
//! budget of memory), then any file in `messages/`.

pub mod api_key;
pub mod batch;
pub mod compression;
pub mod error_code;
pub mod frame;
pub mod message;
pub mod messages;
pub mod types;
pub mod wire;

pub use api_key::ApiKey;
pub use error_code::ErrorCode;
pub use message::{Message, Request};
pub use types::*;
