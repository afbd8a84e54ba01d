//! What a server hands requests to. Two things are one: the broker, and the scripted answers of this room's tests.

use std::net::IpAddr;
use std::sync::Arc;

use broker::{Broker, Connection, Handling};
use bytes::Bytes;
use futures_util::future::BoxFuture;

pub trait Dispatch: Send + Sync + 'static {
    /// One request frame, without its length prefix.
    fn handle(&self, connection: &Arc<Connection>, frame: Bytes) -> Handling;

    /// `None` when a produce request may come; else what to wait for. The commit log bounds its unflushed bytes this way: sockets
    /// are not read, nothing is dropped.
    fn produce_room(&self) -> Option<BoxFuture<'static, ()>>;

    /// New connections of an address in a second, where somebody has set a quota for it.
    fn connection_rate(&self, _address: IpAddr) -> Option<u32> {
        None
    }
}

impl Dispatch for Arc<Broker> {
    fn handle(&self, connection: &Arc<Connection>, frame: Bytes) -> Handling {
        Broker::handle(self, connection, frame)
    }

    fn produce_room(&self) -> Option<BoxFuture<'static, ()>> {
        Broker::produce_room(self)
    }

    fn connection_rate(&self, address: IpAddr) -> Option<u32> {
        Broker::connection_rate(self, address)
    }
}
