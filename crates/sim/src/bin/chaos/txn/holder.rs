//! A network that holds up single requests: those that end transactions, now and then, for up to a minute. What stands behind one on its
//! connection waits with it. A client that hangs up meanwhile changes nothing: the request is on its way, and arrives.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::wire::read_frame;

const END_TXN: i16 = 26;
const ADD_PARTITIONS_TO_TXN: i16 = 24;
const TXN_OFFSET_COMMIT: i16 = 28;

#[derive(Default)]
pub struct Counters {
    pub held: AtomicU64,
    /// Arrived at the broker after their client had given up.
    pub late: AtomicU64,
}

pub struct Holder {
    pub address: SocketAddr,
    pub counters: Arc<Counters>,
    is_calm: Arc<AtomicBool>,
}

struct Shared {
    to: SocketAddr,
    counters: Arc<Counters>,
    is_calm: Arc<AtomicBool>,
    random: Mutex<StdRng>,
    held_max: Duration,
}

impl Holder {
    pub async fn start(to: SocketAddr, seed: u64, held_max: Duration) -> anyhow::Result<Holder> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (counters, is_calm) = (Arc::new(Counters::default()), Arc::new(AtomicBool::new(false)));
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let shared =
            Arc::new(Shared { to, counters: counters.clone(), is_calm: is_calm.clone(), random, held_max });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                // Whatever ends it, the client sees that its connection is gone.
                tokio::spawn(async move { shared.forward(stream).await });
            }
        });
        Ok(Holder { address, counters, is_calm })
    }

    /// Nothing is held up any more; what is held goes on its way.
    pub fn calm_down(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    async fn forward(self: Arc<Self>, client: TcpStream) -> anyhow::Result<()> {
        let broker = TcpStream::connect(self.to).await?;
        let _ = (client.set_nodelay(true), broker.set_nodelay(true));
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_broker, mut to_broker) = broker.into_split();
        let is_gone = Arc::new(AtomicBool::new(false));
        let seen_gone = is_gone.clone();
        let answers = tokio::spawn(async move {
            let copied = tokio::io::copy(&mut from_broker, &mut to_client).await;
            // The broker hung up, or the client takes no more.
            let _ = to_client.shutdown().await;
            seen_gone.store(copied.is_err(), Ordering::Relaxed);
        });
        while let Some(frame) = read_frame(&mut from_client).await? {
            if let Some(held) = self.hold(&frame) {
                self.counters.held.fetch_add(1, Ordering::Relaxed);
                // A peek without taking: is the client still there when its request goes on?
                let until = tokio::time::Instant::now() + held;
                while tokio::time::Instant::now() < until && !self.is_calm.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(50)).await;
                }
                let mut probe = [0];
                let peeked =
                    tokio::time::timeout(Duration::from_millis(1), from_client.peek(&mut probe)).await;
                let is_late = matches!(peeked, Ok(Ok(0) | Err(_)));
                self.counters.late.fetch_add(u64::from(is_late), Ordering::Relaxed);
            }
            to_broker.write_all(&(frame.len() as i32).to_be_bytes()).await?;
            to_broker.write_all(&frame).await?;
        }
        // What the broker still has to say of it nobody hears; but it has to read what it was sent.
        sleep(Duration::from_millis(500)).await;
        let _ = to_broker.shutdown().await;
        let _ = answers.await;
        Ok(())
    }

    fn hold(&self, frame: &[u8]) -> Option<Duration> {
        let key = i16::from_be_bytes(frame.get(..2)?.try_into().ok()?);
        let mut random = self.random.lock();
        let one_in = match key {
            END_TXN => 4,
            ADD_PARTITIONS_TO_TXN | TXN_OFFSET_COMMIT => 40,
            _ => return None,
        };
        if self.is_calm.load(Ordering::Relaxed) || !random.random_ratio(1, one_in) {
            return None;
        }
        // Between one second and the longest, evenly over orders of magnitude.
        let max = self.held_max.as_secs_f64().max(1.0);
        Some(Duration::from_secs_f64(max.powf(random.random::<f64>())))
    }
}
