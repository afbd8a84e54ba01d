//! How soon others have what a broker led that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker::{HandedOff, Peer, Peers, Progress};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use protocol::batch::BatchBuilder;
use protocol::messages::ProduceRequest;
use protocol::{ErrorCode, TopicIdPartition};
use world::bucket::MemBucket;
use world::process::Process;
use world::{task, watch};

use crate::house::{House, LEASE_TTL, NOW_MS, code, only_partition, produce_request, story};

const PATIENCE: Duration = Duration::from_secs(60);
/// What `bucket.lease.ttl.ms` is when nobody sets it.
const TTL: Duration = Duration::from_secs(6);

/// Brokers that say nothing to one another; but the machine of a broker whose process has ended says so.
struct Machines {
    /// Node 1.
    has_ended: AtomicBool,
    /// Otherwise it is silent, as one without power.
    says_so: bool,
    breaks: watch::Sender<u64>,
}

impl Peers for Machines {
    fn log_moved(self: Arc<Self>, _: Peer, _: u64, _: Duration) -> BoxFuture<'static, Option<Progress>> {
        Box::pin(std::future::ready(None))
    }

    fn hand_off(self: Arc<Self>, _: Peer, _: Bytes) -> BoxFuture<'static, HandedOff> {
        Box::pin(std::future::ready(HandedOff::NotTaken))
    }

    fn transactions(
        self: Arc<Self>,
        _: Peer,
        _: i16,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Option<Bytes>> {
        Box::pin(std::future::ready(None))
    }

    fn refuses(self: Arc<Self>, peer: Peer, _: Duration) -> BoxFuture<'static, bool> {
        let refuses =
            self.says_so && peer.address.starts_with("broker-1.") && self.has_ended.load(Ordering::Relaxed);
        Box::pin(std::future::ready(refuses))
    }

    fn slots_stored(self: Arc<Self>, _: Peer, _: u64, _: Duration) -> BoxFuture<'static, Option<u64>> {
        Box::pin(std::future::ready(None))
    }

    fn follow(&self, _: &[Peer]) {}

    fn breaks(&self) -> watch::Receiver<u64> {
        self.breaks.subscribe()
    }
}

/// From the death of a broker until node 2 leads its partition.
async fn until_it_is_led(says_so: bool) -> Duration {
    let store = MemBucket::new(1);
    let (first, second) = (Process::new(), Process::new());
    let machines =
        Arc::new(Machines { has_ended: AtomicBool::new(false), says_so, breaks: watch::channel(0).0 });
    let bucket = store.client();
    let house = House::among(&bucket, 1, "a", &first).await;
    let id = house.create_topic("t", 1, &[]).await;
    let other = House::among_peers(&store.client(), 2, "b", &second, Some(machines.clone())).await;
    // It has looked at the lease more than once.
    task::sleep(TTL * 2).await;
    first.kill();
    bucket.kill();
    let died = task::now();
    machines.has_ended.store(true, Ordering::Relaxed);
    machines.breaks.send_replace(1);
    let place = TopicIdPartition::new(id, 0);
    while other.log.partition(&place).is_none() {
        assert!(died.elapsed() < PATIENCE, "nobody takes over");
        task::sleep(Duration::from_millis(10)).await;
    }
    died.elapsed()
}

#[test]
fn a_process_that_its_machine_calls_ended_has_half_the_time_of_a_lease() {
    story(|| async {
        let (told, silent) = (until_it_is_led(true).await, until_it_is_led(false).await);
        // A renewal may be a third of that time old when its broker dies.
        assert!(told >= TTL / 2 - TTL / 3 && told < TTL / 2 + TTL / 6, "{told:?}");
        assert!(silent >= TTL - TTL / 3 && silent < TTL + TTL / 6, "{silent:?}");
    });
}

/// Records of an idempotent producer.
fn numbered(sequence: i32, values: &[&str]) -> ProduceRequest {
    of_producer(9, sequence, values)
}

fn of_producer(producer_id: i64, sequence: i32, values: &[&str]) -> ProduceRequest {
    let mut builder = BatchBuilder::new().producer(producer_id, 0, sequence);
    for value in values {
        builder.append(NOW_MS, None, Some(value.as_bytes()), &[]).unwrap();
    }
    produce_request("t", 0, builder.build().unwrap())
}

async fn told(house: &House, request: ProduceRequest) -> ErrorCode {
    code(only_partition(&house.ask(12, request).await).error_code)
}

/// Cut off from the bucket, a broker does not know that others have its partitions, and clients that it can still reach may come back to
/// it. A producer that has written elsewhere since is not told that its sequence is wrong, which would be its end.
#[test]
fn a_deposed_leader_does_not_judge_producers() {
    story(|| async {
        let store = MemBucket::new(1);
        let (first, second) = (Process::new(), Process::new());
        let bucket = store.client();
        let deposed = House::among(&bucket, 1, "a", &first).await;
        let id = deposed.create_topic("t", 1, &[]).await;
        task::sleep(LEASE_TTL * 2).await;
        assert_eq!(told(&deposed, numbered(0, &["a", "b"])).await, ErrorCode::None);
        assert_eq!(
            told(&deposed, numbered(3, &["d"])).await,
            ErrorCode::OutOfOrderSequenceNumber,
            "it leads"
        );
        let heir = House::among(&store.client(), 2, "b", &second).await;
        bucket.kill();
        let (place, since) = (TopicIdPartition::new(id, 0), task::now());
        while heir.log.partition(&place).is_none() {
            assert!(since.elapsed() < PATIENCE, "nobody takes over");
            task::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(told(&heir, numbered(2, &["c"])).await, ErrorCode::None);
        assert!(deposed.log.partition(&place).is_some(), "it knows nothing of that");
        assert_eq!(told(&deposed, numbered(3, &["d"])).await, ErrorCode::NotLeaderOrFollower);
        assert_eq!(told(&heir, numbered(3, &["d"])).await, ErrorCode::None);
    });
}

/// Given a client that sends one batch behind the other to a leader which is not there yet: when the first one comes too early and the next
/// one does not, then that one is told to come again too. A producer that has not begun yet may not begin in the middle either.
#[test]
fn a_new_leader_tells_whoever_is_ahead_to_come_again() {
    story(|| async {
        let store = MemBucket::new(1);
        let (first, second) = (Process::new(), Process::new());
        let bucket = store.client();
        let house = House::among(&bucket, 1, "a", &first).await;
        let id = house.create_topic("t", 1, &[]).await;
        task::sleep(LEASE_TTL * 2).await;
        assert_eq!(told(&house, numbered(0, &["a", "b"])).await, ErrorCode::None);
        let heir = House::among(&store.client(), 2, "b", &second).await;
        first.kill();
        bucket.kill();
        let (place, since) = (TopicIdPartition::new(id, 0), task::now());
        while heir.log.partition(&place).is_none() {
            assert!(since.elapsed() < PATIENCE, "nobody takes over");
            assert_eq!(told(&heir, numbered(2, &["c"])).await, ErrorCode::NotLeaderOrFollower);
            task::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(told(&heir, numbered(3, &["d"])).await, ErrorCode::NotLeaderOrFollower);
        assert_eq!(told(&heir, of_producer(8, 1, &["y"])).await, ErrorCode::NotLeaderOrFollower);
        assert_eq!(told(&heir, numbered(2, &["c"])).await, ErrorCode::None);
        assert_eq!(told(&heir, numbered(3, &["d"])).await, ErrorCode::None);
        assert_eq!(told(&heir, of_producer(8, 0, &["x"])).await, ErrorCode::None);
        assert_eq!(told(&heir, of_producer(8, 1, &["y"])).await, ErrorCode::None);
        // Later a sequence that is missing is missing, and a producer that was forgotten goes on.
        task::sleep(TTL).await;
        assert_eq!(told(&heir, numbered(9, &["z"])).await, ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(told(&heir, of_producer(7, 5, &["v"])).await, ErrorCode::None);
    });
}
