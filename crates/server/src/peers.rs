//! Calls to other brokers of the cluster, over their listeners for clients.
//!
//! The only call yet is a nudge: "look at the metadata log". It is a Metadata request for a topic that does not exist; whoever gets
//! one catches up before it says so, for a client and for us. Nothing rests on it but that news are there sooner than the next look.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use broker::Peers;
use client::{Channel, TcpTransport, Transport};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use protocol::messages::{MetadataRequest, metadata_request::MetadataRequestTopic};
use protocol::{Uuid, frame};
use world::net::Net;
use world::task;

/// The first version that asks for topics by id.
const METADATA_VERSION: i16 = 12;
/// Of nobody's topic.
const NOBODYS_TOPIC: Uuid = Uuid([0xff; 16]);
const CLIENT_ID: &str = "ottla-peer";
/// A peer that does not answer by then finds out by itself.
const NUDGE_MAX: Duration = Duration::from_secs(1);

pub struct TcpPeers {
    transport: TcpTransport,
    /// One connection for each peer, while nobody uses it. Bounded by the brokers that there are.
    idle: Mutex<HashMap<String, Channel, world::collections::HashSeed>>,
}

impl TcpPeers {
    pub fn new(net: Net) -> Arc<Self> {
        Arc::new(Self { transport: TcpTransport::over(net), idle: Mutex::default() })
    }

    async fn ask(&self, address: &str) -> io::Result<()> {
        let idle = self.idle.lock().remove(address);
        let mut channel = match idle {
            Some(channel) => channel,
            None => self.transport.connect(address).await?,
        };
        let topic = MetadataRequestTopic { topic_id: NOBODYS_TOPIC, ..MetadataRequestTopic::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
        let request = frame::encode_request(0, Some(CLIENT_ID.into()), &request, METADATA_VERSION);
        channel.sender.send(request.map_err(io::Error::other)?).await?;
        channel.receiver.receive().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.idle.lock().insert(address.to_owned(), channel);
        Ok(())
    }
}

impl Peers for TcpPeers {
    fn nudge(self: Arc<Self>, address: String) -> BoxFuture<'static, bool> {
        Box::pin(async move {
            // A connection that was idle may be dead: then once more.
            for _ in 0..2 {
                match task::timeout(NUDGE_MAX, self.ask(&address)).await {
                    Ok(Ok(())) => return true,
                    Ok(Err(error)) => tracing::debug!("{address} is not nudged: {error}"),
                    Err(_) => return false,
                }
            }
            false
        })
    }
}
