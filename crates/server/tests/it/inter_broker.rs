//! The listener for other brokers: who is let in, what becomes of everybody else, and calls on connections that come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::{HandedOff, Peer, PeerCalls, Peers, Progress};
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use server::{
    Authority, AuthorityStore, BoundInterBroker, Credentials, InterBroker, InterBrokerLimits, PeerId,
    Security, new_authority,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use world::clock::{ManualClock, SharedClock};
use world::net::Net;

const NOW_MS: i64 = 1_790_000_000_000;
const LONG: Duration = Duration::from_secs(20);

/// The authorities of a cluster, as a bucket would have them.
#[derive(Clone, Default)]
struct Bucket(Arc<Mutex<Vec<Authority>>>);

impl AuthorityStore for Bucket {
    fn list(&self) -> BoxFuture<'static, Result<Vec<Authority>, String>> {
        Box::pin(std::future::ready(Ok(self.0.lock().clone())))
    }

    fn add(&self, new: Authority) -> BoxFuture<'static, Result<Authority, String>> {
        let mut all = self.0.lock();
        let there = all.iter().find(|authority| authority.number == new.number).cloned();
        let there = there.unwrap_or_else(|| {
            all.push(new.clone());
            new
        });
        Box::pin(std::future::ready(Ok(there)))
    }
}

/// A broker that does what it is told.
#[derive(Clone, Default)]
struct Script {
    /// WAL ids above are no brokers.
    live_max: Arc<AtomicU64>,
    appended: Arc<Mutex<Vec<(u64, Bytes)>>>,
}

impl PeerCalls for Script {
    fn is_live(&self, _: i32, wal_id: u64) -> BoxFuture<'static, bool> {
        let is_live = wal_id <= self.live_max.load(Ordering::Relaxed);
        Box::pin(std::future::ready(is_live))
    }

    fn log_moved(&self, position: u64, wait: Duration) -> BoxFuture<'static, Progress> {
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            Progress { replayed: position, applied: position - 1, load: None }
        })
    }

    fn append_for(&self, wal_id: u64, requests: Bytes) -> BoxFuture<'static, HandedOff> {
        self.appended.lock().push((wal_id, requests));
        Box::pin(std::future::ready(HandedOff::Done { position: 77 }))
    }

    fn transactions(&self, api_key: i16, body: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        let answer = (api_key == 32_005).then(|| [b"answer to ", &body[..]].concat().into());
        Box::pin(std::future::ready(answer))
    }

    fn slots_stored(&self, more_than: u64, wait: Duration) -> BoxFuture<'static, u64> {
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            more_than + 1
        })
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW_MS))
}

fn id(wal_id: u64) -> PeerId {
    PeerId { node_id: wal_id as i32 + 100, wal_id }
}

async fn broker_at(bucket: &Bucket, wal_id: u64, clock: SharedClock) -> Arc<InterBroker> {
    let store = Arc::new(bucket.clone());
    let credentials = Credentials::load(store, "cluster", id(wal_id), clock.clone()).await.unwrap();
    InterBroker::new(Net::tcp(), Security::Tls(credentials), clock)
}

/// Serves at a free port; all incarnations up to 99 are live.
async fn serve(broker: &InterBroker, wal_id: u64, limits: InterBrokerLimits) -> (Peer, Script) {
    let bound = BoundInterBroker::bind(&Net::tcp(), "127.0.0.1:0").await.unwrap();
    let script = Script::default();
    script.live_max.store(99, Ordering::Relaxed);
    let peer = Peer { node_id: id(wal_id).node_id, wal_id, address: bound.address().to_string() };
    broker.serve(bound, script.clone(), limits);
    (peer, script)
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

/// Tries for as long as a broker that could not be reached is left alone.
async fn reaches(from: &Arc<InterBroker>, peer: &Peer) -> bool {
    for _ in 0..20 {
        if from.clone().log_moved(peer.clone(), 5, Duration::ZERO).await.is_some() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test]
async fn brokers_of_one_bucket_know_each_other_and_keep_one_connection() {
    let bucket = Bucket::default();
    let (one, two) = (broker_at(&bucket, 1, clock()).await, broker_at(&bucket, 2, clock()).await);
    assert_eq!(bucket.0.lock().len(), 1, "the second one took the first one's authority");
    let (peer, script) = serve(&two, 2, InterBrokerLimits::default()).await;
    // A slow call does not hold up the others.
    let slow = one.clone().log_moved(peer.clone(), 9, Duration::from_millis(300));
    let quick = join_all((0..50).map(|_| one.clone().log_moved(peer.clone(), 5, Duration::ZERO)));
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!(slow, Some(Progress { replayed: 9, applied: 8, load: None }));
    assert_eq!(quick, vec![Some(Progress { replayed: 5, applied: 4, load: None }); 50]);
    assert_eq!(one.clone().slots_stored(peer.clone(), 7, Duration::from_millis(1)).await, Some(8));
    let large = Bytes::from(vec![7; 1 << 20]);
    let outcome = one.clone().hand_off(peer.clone(), large.clone()).await;
    assert_eq!(outcome, HandedOff::Done { position: 77 });
    // Whose certificate it is, and not what anybody says.
    assert_eq!(*script.appended.lock(), [(1, large)]);
    assert_eq!((count(&two.counters().accepted), count(&one.counters().connects)), (1, 1));
    let ask =
        |key| one.clone().transactions(peer.clone(), key, Bytes::from_static(b"x"), Duration::from_secs(5));
    assert_eq!(ask(32_005).await, Some(Bytes::from_static(b"answer to x")));
    assert_eq!(ask(32_006).await, None, "what the other one cannot read has no answer");
    assert_eq!(one.unreachable(), (1, vec![]));
    one.follow(&[]);
    assert_eq!(one.unreachable(), (0, vec![]));
    two.stop().await;
}

#[tokio::test]
async fn a_stranger_gets_nothing_and_is_counted() {
    let bucket = Bucket::default();
    let broker = broker_at(&bucket, 1, clock()).await;
    let (peer, script) = serve(&broker, 1, InterBrokerLimits::default()).await;
    let strangers = || count(&broker.counters().strangers);
    // Plain text: a TLS alert and the end, and no byte of ours.
    let mut plain = TcpStream::connect(&peer.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut got = Vec::new();
    let _ = plain.read_to_end(&mut got).await;
    assert!(got.len() <= 7 && got.first().is_none_or(|first| *first == 21), "{got:?}");
    until("plain text is counted", || strangers() == 1).await;
    // TLS without a certificate.
    let mut roots = rustls::RootCertStore::empty();
    roots.add(bucket.0.lock()[0].certificate.to_vec().into()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let nobody = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(nobody));
    let stream = TcpStream::connect(&peer.address).await.unwrap();
    let name = "wal-1.node-101.ottla.internal".try_into().unwrap();
    let mut got = Vec::new();
    let read = async { connector.connect(name, stream).await?.read_to_end(&mut got).await };
    assert!(read.await.is_err() && got.is_empty());
    until("no certificate is counted", || strangers() == 2).await;
    // A broker of another cluster.
    let other = broker_at(&Bucket::default(), 2, clock()).await;
    assert_eq!(other.clone().hand_off(peer.clone(), Bytes::from_static(b"x")).await, HandedOff::NotTaken);
    // Its own side has not trusted us before we could not trust it.
    until("another cluster is counted", || strangers() == 3).await;
    assert_eq!(other.unreachable(), (1, vec![101]));
    // One that believes us, but has a certificate of its own making.
    let mixed = Bucket::default();
    let cluster_clock: SharedClock = clock();
    mixed.0.lock().push(bucket.0.lock()[0].clone());
    mixed.0.lock().push(new_authority(2, "cluster", &cluster_clock).unwrap());
    let impostor = broker_at(&mixed, 3, clock()).await;
    assert_eq!(impostor.clone().hand_off(peer.clone(), Bytes::from_static(b"x")).await, HandedOff::NotTaken);
    until("a certificate of another authority is counted", || strangers() == 4).await;
    assert_eq!((script.appended.lock().len(), count(&broker.counters().accepted)), (0, 0));
    broker.stop().await;
}

#[tokio::test]
async fn certificates_have_an_end_and_are_renewed_before_it() {
    let bucket = Bucket::default();
    let (old_clock, new_clock) = (clock(), clock());
    let old = broker_at(&bucket, 1, old_clock.clone()).await;
    let new = broker_at(&bucket, 2, new_clock.clone()).await;
    let (peer, _) = serve(&new, 2, InterBrokerLimits::default()).await;
    assert!(reaches(&old, &peer).await);
    old.follow(&[]);
    // Its machine's clock stands still, or it hangs on to what it has.
    new_clock.advance(Duration::from_secs(15 * 24 * 3600));
    until("an expired certificate is refused", || {
        count(&new.counters().strangers) > 0 || {
            drop(tokio::spawn(old.clone().log_moved(peer.clone(), 5, Duration::ZERO)));
            false
        }
    })
    .await;
    old_clock.advance(Duration::from_secs(15 * 24 * 3600));
    assert!(reaches(&old, &peer).await, "a new certificate for a new connection");
    new.stop().await;
}

#[tokio::test]
async fn a_second_authority_is_found_and_the_first_one_stays_trusted() {
    let bucket = Bucket::default();
    let (first_clock, second_clock) = (clock(), clock());
    let first = broker_at(&bucket, 1, first_clock.clone()).await;
    let (peer, _) = serve(&first, 1, InterBrokerLimits::default()).await;
    let shared: SharedClock = clock();
    let second_authority = new_authority(2, "cluster", &shared).unwrap();
    bucket.0.lock().push(second_authority);
    // Signed by the second one, of which the first broker has not heard.
    let second = broker_at(&bucket, 2, second_clock.clone()).await;
    let (peer_two, _) = serve(&second, 2, InterBrokerLimits::default()).await;
    assert!(second.clone().log_moved(peer.clone(), 5, Duration::ZERO).await.is_none());
    until("it is not trusted", || count(&first.counters().strangers) > 0).await;
    first_clock.advance(Duration::from_secs(61));
    assert!(reaches(&second, &peer).await, "the first broker has looked into the bucket");
    assert!(reaches(&first, &peer_two).await);
    // The first one is withdrawn: who starts now trusts the second one only.
    bucket.0.lock().remove(0);
    let third = broker_at(&bucket, 3, clock()).await;
    assert!(reaches(&third, &peer_two).await && reaches(&third, &peer).await);
    first.stop().await;
    second.stop().await;
}

/// A bucket that has answered once and does not any more.
#[derive(Default)]
struct Silent(Bucket, AtomicU64);

impl AuthorityStore for Silent {
    fn list(&self) -> BoxFuture<'static, Result<Vec<Authority>, String>> {
        match self.1.fetch_add(1, Ordering::Relaxed) {
            0 => self.0.list(),
            _ => Box::pin(std::future::pending()),
        }
    }

    fn add(&self, new: Authority) -> BoxFuture<'static, Result<Authority, String>> {
        self.0.add(new)
    }
}

#[tokio::test]
async fn nobody_waits_for_what_the_bucket_says_of_a_certificate() {
    let one = broker_at(&Bucket::default(), 1, clock()).await;
    let (peer, _) = serve(&one, 1, InterBrokerLimits::default()).await;
    // Neither trusts the other, so it looks into the bucket.
    let (store, two_clock) = (Arc::new(Silent::default()), clock());
    let credentials = Credentials::load(store.clone(), "cluster", id(2), two_clock.clone()).await.unwrap();
    let two = InterBroker::new(Net::tcp(), Security::Tls(credentials), two_clock.clone());
    two_clock.advance(Duration::from_secs(61));
    let called = tokio::time::timeout(LONG, two.hand_off(peer, Bytes::new())).await;
    assert_eq!(called, Ok(HandedOff::NotTaken));
    until("the bucket is asked", || count(&store.1) == 2).await;
    one.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_none_any_more_is_not_let_in() {
    let bucket = Bucket::default();
    let (one, two) = (broker_at(&bucket, 1, clock()).await, broker_at(&bucket, 2, clock()).await);
    let (peer, script) = serve(&two, 2, InterBrokerLimits::default()).await;
    script.live_max.store(0, Ordering::Relaxed);
    assert_ne!(one.clone().hand_off(peer.clone(), Bytes::new()).await, HandedOff::Done { position: 77 });
    until("it is counted", || count(&two.counters().refused_for_absence) == 1).await;
    assert!(script.appended.lock().is_empty());
    script.live_max.store(99, Ordering::Relaxed);
    assert!(reaches(&one, &peer).await);
    // Another incarnation at the same address is not the one that was wanted.
    let elsewhere = Peer { wal_id: 9, ..peer };
    assert_eq!(one.clone().hand_off(elsewhere, Bytes::new()).await, HandedOff::NotTaken);
    assert!(script.appended.lock().is_empty());
    two.stop().await;
}

#[tokio::test]
async fn who_says_nothing_and_who_says_too_much_loses_his_place() {
    let bucket = Bucket::default();
    let broker = broker_at(&bucket, 1, clock()).await;
    let limits = InterBrokerLimits {
        handshakes_max: 2,
        handshake: Duration::from_millis(300),
        ..InterBrokerLimits::default()
    };
    let (peer, _) = serve(&broker, 1, limits).await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(&peer.address).await.unwrap());
    }
    // Three too many, at once; the other two when their time is over.
    until("those beyond the limit", || count(&broker.counters().refused_for_number) == 3).await;
    until("those that are late", || count(&broker.counters().strangers) == 2).await;
    for mut stream in silent {
        let mut byte = [0];
        let read = tokio::time::timeout(LONG, stream.read(&mut byte)).await.expect("it is closed");
        assert!(matches!(read, Ok(0) | Err(_)));
    }
    // Their places are free again. A frame that is too long ends the connection, and the next call makes another one.
    let caller = broker_at(&bucket, 2, clock()).await;
    assert!(reaches(&caller, &peer).await);
    let too_long = Bytes::from(vec![0; 3 << 20]);
    assert_ne!(caller.clone().hand_off(peer.clone(), too_long).await, HandedOff::Done { position: 77 });
    until("garbage is counted", || count(&broker.counters().garbage) == 1).await;
    assert!(reaches(&caller, &peer).await);
    // A restart of the caller that leaves its old connection behind: the new one takes its place.
    let again = broker_at(&bucket, 2, clock()).await;
    assert!(reaches(&again, &peer).await);
    let before = count(&caller.counters().connects);
    assert!(reaches(&caller, &peer).await);
    assert!(count(&caller.counters().connects) > before, "the one before was ended");
    broker.stop().await;
    assert!(!reaches(&caller, &peer).await);
    assert_eq!(caller.unreachable(), (1, vec![101]));
}
