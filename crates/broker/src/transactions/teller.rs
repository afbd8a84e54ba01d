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
use protocol::{ErrorCode, Str, TopicIdPartition};
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
    /// None: the broker is gone.
    pub settings: Box<dyn Fn() -> Option<Arc<TransactionSettings>> + Send + Sync>,
}

/// A decision: the transactional id, and its stamp.
type Name = (Str, i64);

impl Teller {
    /// Beside the runtime of one partition, until it is stopped.
    pub async fn run(self: Arc<Self>, runtime: Arc<PartitionRuntime<TransactionShard>>) {
        let mut under_way: FuturesUnordered<BoxFuture<'static, Name>> = FuturesUnordered::new();
        let mut names: BTreeSet<Name> = BTreeSet::new();
        loop {
            tokio::select! {
                biased;
                Some(name) = under_way.next(), if !under_way.is_empty() => {
                    names.remove(&name);
                }
                () = runtime.settled() => {}
            }
            if runtime.is_stopped() {
                return;
            }
            let is_under_way = |id: &str, stamp: i64| names.contains(&(Str::from(id), stamp));
            let new = runtime.look(|shard| shard.decisions(is_under_way));
            for decision in new {
                let name = (decision.transactional_id, decision.stamp);
                names.insert(name.clone());
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
                Ok(true) | Err(ErrorCode::NotCoordinator) => break,
                Ok(false) | Err(_) => {}
            }
            task::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        name
    }

    /// Once; gives the partitions that know it now, or that are gone.
    async fn tell(&self, decision: &Decision, coordinator_epoch: i32) -> BTreeSet<TopicPartition> {
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
        &self,
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

    async fn call(
        &self,
        leader: i32,
        markers: Vec<(TopicIdPartition, EndTransaction)>,
    ) -> Option<Vec<ErrorCode>> {
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
