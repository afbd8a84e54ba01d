//! The network between clients and brokers, as bad as it may be: slow, and connections break before a request arrives or after it was
//! carried out and before its answer came.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use client::{Channel, FrameReceiver, FrameSender, TcpTransport, Transport};
use futures_util::future::BoxFuture;
use world::net::Net;
use world::rng::SharedRng;
use world::task;

const PER: u64 = 1000;
const LATENCY_US_MAX: u64 = 4_000;

/// How often, out of a thousand frames, a connection breaks. One for all clients; may change at any time.
#[derive(Clone, Default)]
pub struct Trouble(Arc<AtomicU64>);

impl Trouble {
    pub fn set(&self, breaks: u64) {
        self.0.store(breaks, Ordering::Relaxed);
    }

    pub(crate) fn strikes(&self, rng: &SharedRng) -> bool {
        // Drawn in any case: the world's other draws do not depend on the trouble.
        rng.below(PER) < self.0.load(Ordering::Relaxed)
    }
}

pub struct Wire {
    tcp: TcpTransport,
    trouble: Trouble,
    rng: SharedRng,
}

impl Wire {
    pub fn new(net: Net, trouble: Trouble, rng: SharedRng) -> Self {
        Wire { tcp: TcpTransport::over(net), trouble, rng }
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, what.to_owned())
}

async fn latency(rng: &SharedRng) {
    task::sleep(Duration::from_micros(rng.below(LATENCY_US_MAX))).await;
}

impl Transport for Wire {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Channel>> {
        Box::pin(async move {
            latency(&self.rng).await;
            if self.trouble.strikes(&self.rng) {
                return Err(broken("no route"));
            }
            let Channel { sender, receiver } = self.tcp.connect(address).await?;
            let (trouble, rng) = (self.trouble.clone(), self.rng.clone());
            Ok(Channel {
                sender: Box::new(Sender { inner: sender, trouble: trouble.clone(), rng: rng.clone() }),
                receiver: Box::new(Receiver { inner: receiver, trouble, rng }),
            })
        })
    }
}

struct Sender {
    inner: Box<dyn FrameSender>,
    trouble: Trouble,
    rng: SharedRng,
}

impl FrameSender for Sender {
    fn send(&mut self, segments: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            latency(&self.rng).await;
            match self.trouble.strikes(&self.rng) {
                true => Err(broken("before the request arrived")),
                false => self.inner.send(segments).await,
            }
        })
    }
}

struct Receiver {
    inner: Box<dyn FrameReceiver>,
    trouble: Trouble,
    rng: SharedRng,
}

impl FrameReceiver for Receiver {
    fn receive(&mut self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        Box::pin(async move {
            let frame = self.inner.receive().await?;
            latency(&self.rng).await;
            match self.trouble.strikes(&self.rng) {
                true => Err(broken("before the answer arrived")),
                false => Ok(frame),
            }
        })
    }
}
