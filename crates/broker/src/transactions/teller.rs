//! Tells partitions what became of transactions, until every one of them knows (T5). A marker may come twice or late: leaders see by
//! its stamp which transaction it ends (T2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catalog::Catalog;
use commitlog::EndTransaction;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use protocol::{ErrorCode, Str, TopicIdPartition};
use tokio::sync::oneshot;
use world::task;

use super::event::Decision;
use super::markers::Markers;
use super::messages::{END_TRANSACTIONS, EndTransactions, decode_codes};
use super::settings::TransactionSettings;
use super::shard::TransactionShard;
use super::transaction::TopicPartition;
use crate::coordinators::PartitionRuntime;
use crate::peers::Others;

/// Between two tries to tell those who did not listen, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// For the commit of markers at another broker, which in a bucket takes as long as the store does.
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(super) struct Teller {
    pub node_id: i32,
    pub catalog: Arc<Catalog>,
    pub markers: Arc<Markers>,
    pub others: Option<Arc<Others>>,
    /// By node id; as many as there are brokers that are told something now.
    pub outgoing: Mutex<BTreeMap<i32, Outgoing>>,
    /// None: the broker is gone.
    pub settings: Box<dyn Fn() -> Option<Arc<TransactionSettings>> + Send + Sync>,
}

/// Of one call: about 400 KiB.
const MARKERS_PER_CALL_MAX: usize = 10_000;

/// A decision: the transactional id, and its stamp.
type Name = (Str, i64);
type NamedMarker = (TopicIdPartition, EndTransaction);

/// Markers for another broker that wait for the call under way.
#[derive(Default)]
pub(super) struct Outgoing {
    waiting: Vec<(NamedMarker, oneshot::Sender<ErrorCode>)>,
    is_calling: bool,
}

impl Teller {
    /// Beside the runtime of one partition, until it is stopped.
    pub async fn run(self: Arc<Self>, runtime: Arc<PartitionRuntime<TransactionShard>>) {
        let mut under_way: FuturesUnordered<BoxFuture<'static, Name>> = FuturesUnordered::new();
        // The newest decision of each id: one that is older has been told, and is only not done yet.
        let mut newest: BTreeMap<Str, i64> = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                Some((id, stamp)) = under_way.next(), if !under_way.is_empty() => {
                    if newest.get(&id) == Some(&stamp) {
                        newest.remove(&id);
                    }
                }
                () = runtime.settled() => {}
            }
            if runtime.is_stopped() {
                return;
            }
            let is_under_way = |id: &str, stamp: i64| newest.get(id) == Some(&stamp);
            let new = runtime.look(|shard| shard.decisions(is_under_way));
            for decision in new {
                let name = (decision.transactional_id, decision.stamp);
                newest.insert(name.0.clone(), name.1);
                under_way.push(Box::pin(self.clone().deliver(runtime.clone(), name)));
            }
        }
    }

    async fn deliver(self: Arc<Self>, runtime: Arc<PartitionRuntime<TransactionShard>>, name: Name) -> Name {
        let mut pause = PAUSE_MIN;
        while let Some(decision) = runtime.look(|shard| shard.decision(&name.0, name.1)) {
            let told = self.tell(&decision, runtime.leader_epoch()).await;
            let Some(settings) = (self.settings)() else { break };
            let is_complete = runtime
                .with(&settings, |shard, now, effects| shard.told(&name.0, name.1, told, now, effects));
            match is_complete {
                Ok(true) => break,
                // It is not stopped as long as its state is read anew: whoever left now would be sent again at once.
                Err(ErrorCode::NotCoordinator) if runtime.is_stopped() => break,
                Ok(false) | Err(_) => {}
            }
            task::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        name
    }

    /// Once; gives the partitions that know it now, or that are gone.
    async fn tell(self: &Arc<Self>, decision: &Decision, coordinator_epoch: i32) -> BTreeSet<TopicPartition> {
        let mut places = self.places(&decision.partitions);
        // What is not in our catalog may be in a newer one (T5). In a directory ours is the newest.
        if !places.unknown.is_empty() && self.catalog.is_shared() {
            let caught_up = self.catalog.catch_up().await;
            places = self.places(&decision.partitions);
            if caught_up.is_err() {
                places.unknown.clear();
            }
        }
        let marker = EndTransaction {
            producer_id: decision.producer_id,
            producer_epoch: decision.epoch,
            coordinator_epoch,
            commit: decision.commit,
            transaction_stamp: decision.stamp,
        };
        let calls = places.by_leader.into_iter().map(|(leader, led)| self.tell_leader(leader, led, marker));
        let told = join_all(calls).await.into_iter().flatten();
        places.unknown.into_iter().chain(told).collect()
    }

    fn places(&self, partitions: &BTreeSet<TopicPartition>) -> Places {
        let mut places = Places::default();
        let state = self.catalog.read();
        for named in partitions {
            let topic = state.topic(&named.topic);
            let info = topic.and_then(|topic| topic.partitions.get(usize::try_from(named.partition).ok()?));
            match (topic, info) {
                (Some(topic), Some(info)) => {
                    let place = TopicIdPartition::new(topic.id, named.partition);
                    places.by_leader.entry(info.leader).or_default().push((named.clone(), place));
                }
                _ => drop(places.unknown.insert(named.clone())),
            }
        }
        places
    }

    async fn tell_leader(
        self: &Arc<Self>,
        leader: i32,
        led: Vec<(TopicPartition, TopicIdPartition)>,
        marker: EndTransaction,
    ) -> Vec<TopicPartition> {
        let markers: Vec<_> = led.iter().map(|(_, place)| (*place, marker)).collect();
        let codes = match leader == self.node_id {
            true => self.markers.write(markers).await,
            false => self.call(leader, markers).await.unwrap_or_default(),
        };
        let taken = led.into_iter().zip(codes).filter_map(|((named, place), code)| match code {
            ErrorCode::None => Some(named),
            code => {
                tracing::debug!(%place, ?code, "a marker was not taken");
                None
            }
        });
        taken.collect()
    }

    /// One call at a time to each broker: what comes meanwhile goes with the next one, and is one commit there.
    async fn call(self: &Arc<Self>, leader: i32, markers: Vec<NamedMarker>) -> Option<Vec<ErrorCode>> {
        let (answers, codes): (Vec<_>, Vec<_>) = markers.iter().map(|_| oneshot::channel()).unzip();
        {
            let mut outgoing = self.outgoing.lock();
            let to_leader = outgoing.entry(leader).or_default();
            to_leader.waiting.extend(markers.into_iter().zip(answers));
            if !std::mem::replace(&mut to_leader.is_calling, true) {
                // A task of its own: whoever asked may be gone before the others have their answers.
                drop(task::spawn(self.clone().calls(leader)));
            }
        }
        join_all(codes).await.into_iter().collect::<Result<_, _>>().ok()
    }

    async fn calls(self: Arc<Self>, leader: i32) {
        while let Some(next) = self.next_call(leader) {
            let (markers, answers): (Vec<_>, Vec<_>) = next.into_iter().unzip();
            // Without an answer nobody was told, as far as we know.
            let codes = self.call_now(leader, markers).await.unwrap_or_default();
            for (answer, code) in answers.into_iter().zip(codes) {
                let _ = answer.send(code);
            }
        }
    }

    /// `None`: nothing waits any more.
    fn next_call(&self, leader: i32) -> Option<Vec<(NamedMarker, oneshot::Sender<ErrorCode>)>> {
        let mut outgoing = self.outgoing.lock();
        let to_leader = outgoing.get_mut(&leader)?;
        let count = to_leader.waiting.len().min(MARKERS_PER_CALL_MAX);
        if count == 0 {
            outgoing.remove(&leader);
            return None;
        }
        Some(to_leader.waiting.drain(..count).collect())
    }

    async fn call_now(&self, leader: i32, markers: Vec<NamedMarker>) -> Option<Vec<ErrorCode>> {
        let others = self.others.as_ref()?;
        let peer = Others::of(&self.catalog.read(), leader)?;
        let body = EndTransactions(markers).encode().ok()?;
        let answer = others.peers.clone().transactions(peer, END_TRANSACTIONS, body, ANSWER_MAX).await?;
        decode_codes(answer).ok()
    }
}

#[derive(Default)]
struct Places {
    by_leader: BTreeMap<i32, Vec<(TopicPartition, TopicIdPartition)>>,
    unknown: BTreeSet<TopicPartition>,
}
