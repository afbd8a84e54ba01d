//! The transaction coordinator, and the leaders' side of transactions.
//!
//! `shard.rs` is the pure core (start there): events in, records, answers and decisions out. `crate::coordinators` runs one for each
//! partition of `__transaction_state` that this broker leads. `teller.rs` tells partitions what was decided; `markers.rs` is what
//! happens there. `joining.rs` asks the coordinator before a transaction begins in a partition. The API files translate.
//!
//! ```text
//!   client ──EndTxn──▶ coordinator: decision in its log ──▶ answered
//!                               └─ teller ──markers──▶ leaders, here or elsewhere ──▶ all durable: complete
//!   client ──Produce─▶ leader ──joining──▶ coordinator: is it in the transaction?     (rules T1 to T8 of the bucket protocol)
//! ```

mod admin;
mod end;
mod event;
mod init_producer;
mod joining;
mod markers;
pub(crate) mod messages;
mod partitions;
mod producing;
mod records;
mod settings;
mod shard;
mod teller;
#[cfg(test)]
mod tests;
mod transaction;

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use catalog::config::BrokerConfig;
use catalog::{Catalog, Topic, topic_name};
use commitlog::CommitLog;
use parking_lot::Mutex;
use protocol::ErrorCode;
use world::clock::SharedClock;

pub(crate) use event::*;
pub(crate) use joining::{Asking, Join};
pub(crate) use markers::Markers;
pub(crate) use producing::{Joined, Transactional};
pub(crate) use transaction::{State, TopicPartition};

use crate::configs::Configs;
use crate::coordinators::{CoordinatorOptions, Coordinators, PartitionRuntime, StateMemory};
use crate::freshness::Freshness;
use crate::groups::Groups;
use crate::internal_topics;
use crate::peers::Others;
use crate::request::RequestContext;
use crate::topics::Topics;
use settings::TransactionSettings;
use shard::TransactionShard;
use teller::Teller;
use transaction::{NO_PRODUCER_EPOCH, NO_PRODUCER_ID};

pub(crate) struct TransactionsOptions {
    pub node_id: i32,
    pub clock: SharedClock,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub configs: Arc<Configs>,
    pub topics: Arc<Topics>,
    pub freshness: Arc<Freshness>,
    pub groups: Arc<Groups>,
    /// None: there are no others, or no way to them.
    pub others: Option<Arc<Others>>,
    pub memory: Arc<StateMemory>,
}

pub(crate) struct Transactions {
    options: TransactionsOptions,
    coordinators: Coordinators<TransactionShard>,
    pub markers: Arc<Markers>,
    settings: Mutex<(Arc<BrokerConfig>, Arc<TransactionSettings>)>,
    newest_connection: Arc<AtomicU64>,
}

/// Producer id and epoch in answers that have none.
pub(crate) const NO_PRODUCER: (i64, i16) = (NO_PRODUCER_ID, NO_PRODUCER_EPOCH);

/// Clients before a version do not know PRODUCER_FENCED, and stop at INVALID_PRODUCER_EPOCH as they should.
pub(crate) fn fenced_before(version: i16, context: &RequestContext, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if context.api_version < version => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}

/// Transactional ids there are, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransactionCounts {
    pub transactional_ids: usize,
    pub ongoing: usize,
    /// Decided, and not known everywhere.
    pub undelivered: usize,
    pub partitions_loading: usize,
}

impl Transactions {
    /// Starts to load what is there. Transactional ids answer COORDINATOR_LOAD_IN_PROGRESS until their partition is read.
    pub fn start(options: TransactionsOptions) -> Arc<Transactions> {
        let markers = Arc::new(Markers {
            node_id: options.node_id,
            catalog: options.catalog.clone(),
            log: options.log.clone(),
            groups: options.groups.clone(),
            freshness: options.freshness.clone(),
        });
        let transactions = Arc::new_cyclic(|this: &Weak<Transactions>| {
            let this = this.clone();
            let teller = Arc::new(Teller {
                node_id: options.node_id,
                catalog: options.catalog.clone(),
                markers: markers.clone(),
                others: options.others.clone(),
                outgoing: Mutex::default(),
                settings: Box::new(move || this.upgrade().map(|this| this.settings())),
            });
            let coordinators = CoordinatorOptions {
                topic: topic_name::TRANSACTION_STATE,
                node_id: options.node_id,
                clock: options.clock.clone(),
                catalog: options.catalog.clone(),
                log: options.log.clone(),
                freshness: options.freshness.clone(),
            };
            let beside = move |runtime| -> futures_util::future::BoxFuture<'static, ()> {
                Box::pin(teller.clone().run(runtime))
            };
            let newest_connection = Arc::<AtomicU64>::default();
            let config = options.configs.started_with().clone();
            let settings =
                Arc::new(TransactionSettings::of(&config, newest_connection.clone(), options.memory.clone()));
            Transactions {
                coordinators: Coordinators::new(coordinators, Some(Box::new(beside))),
                markers,
                settings: Mutex::new((config, settings)),
                newest_connection,
                options,
            }
        });
        transactions.follow_catalog();
        transactions
    }

    /// To be called when the catalog has changed, and when the log has opened or closed partitions.
    pub fn follow_catalog(&self) {
        self.coordinators.follow_leaders(&self.settings());
    }

    /// A request has come by this connection.
    pub fn saw_connection(&self, id: u64) {
        if id > self.newest_connection.load(Ordering::Relaxed) {
            self.newest_connection.fetch_max(id, Ordering::Relaxed);
        }
    }

    /// Makes `__transaction_state`, should it not be there. FindCoordinator comes first in every transactional producer's life.
    pub async fn ensure_topic(&self) -> Result<(), ErrorCode> {
        // Another broker may have made it a moment ago.
        if self.topic().is_none() {
            self.options.freshness.catch_up().await;
        }
        if self.topic().is_none() {
            let made = internal_topics::ensure_transaction_state(&self.options.topics, &self.config()).await;
            made.map_err(|error| {
                tracing::error!(?error, "the topic of the transaction coordinator cannot be made");
                ErrorCode::CoordinatorNotAvailable
            })?;
        }
        self.follow_catalog();
        Ok(())
    }

    /// An event of one transactional id; its answer comes when what it says is durable. One that was not made by a record of its own says
    /// something about the state, so it passes the barrier (R20): a coordinator that was taken over from would take an EndTxn for a repeated
    /// one, or a producer for fenced.
    pub async fn ask(
        &self,
        transactional_id: &str,
        event: impl FnOnce(&mut TransactionShard, ReplyId, Now, &mut Effects),
    ) -> Result<Answer, ErrorCode> {
        let settings = self.settings();
        let runtime = self.coordinators.of(transactional_id, &settings)?;
        let mut has_written = false;
        let asked = runtime.ask(&settings, |shard, reply, now, effects| {
            event(shard, reply, now, effects);
            has_written = !effects.writes.is_empty();
        });
        let answer = asked.await?;
        match has_written || answer.is_harmless() || self.still_knows(transactional_id, &runtime).await {
            true => Ok(answer),
            false => Err(ErrorCode::NotCoordinator),
        }
    }

    /// Passes the barrier: is this the coordinator of the id, and was it all the time?
    async fn still_knows(
        &self,
        transactional_id: &str,
        runtime: &Arc<PartitionRuntime<TransactionShard>>,
    ) -> bool {
        let knows = world::broken::rule("zombie-verifier") || self.options.log.barrier().await.is_ok();
        let is_same = self.runtime_of(transactional_id).is_ok_and(|now| Arc::ptr_eq(&now, runtime));
        knows && is_same && !runtime.partition().is_leaving()
    }

    /// Every transactional id that this broker looks after.
    pub async fn list(&self) -> Result<Vec<Listed>, ErrorCode> {
        let settings = self.settings();
        let mut listed = Vec::new();
        for runtime in self.coordinators.all(&settings) {
            match runtime?.ask(&settings, |shard, reply, _, effects| shard.list(reply, effects)).await {
                Ok(Answer::Listed(Ok(some))) => listed.extend(some),
                // Stopped since we looked: another broker lists them.
                Ok(Answer::Listed(Err(ErrorCode::NotCoordinator))) | Err(ErrorCode::NotCoordinator) => {}
                Ok(Answer::Listed(Err(error))) | Err(error) => return Err(error),
                Ok(other) => unreachable!("a list is answered by a list, not {other:?}"),
            }
        }
        Ok(listed)
    }

    pub fn counts(&self) -> TransactionCounts {
        let mut counts = TransactionCounts::default();
        for runtime in self.coordinators.all(&self.settings()) {
            let Ok(runtime) = runtime else {
                counts.partitions_loading += 1;
                continue;
            };
            runtime.look(|shard| {
                counts.transactional_ids += shard.transaction_count();
                counts.ongoing += shard.ongoing_count();
                counts.undelivered += shard.prepared.len();
            });
            counts.partitions_loading += usize::from(runtime.is_loading());
        }
        counts
    }

    /// Ends all waiting and lets what was handed to the log land. A transaction that is decided is told everywhere after the next start.
    pub async fn shutdown(&self) {
        self.coordinators.shutdown().await;
    }

    fn runtime_of(&self, id: &str) -> Result<Arc<PartitionRuntime<TransactionShard>>, ErrorCode> {
        self.coordinators.of(id, &self.settings())
    }

    fn topic(&self) -> Option<Arc<Topic>> {
        self.coordinators.topic()
    }

    fn config(&self) -> Arc<BrokerConfig> {
        self.options.configs.broker(&self.options.catalog.read())
    }

    /// Settings as the broker's configs have them now.
    fn settings(&self) -> Arc<TransactionSettings> {
        let config = self.config();
        let mut known = self.settings.lock();
        if !Arc::ptr_eq(&known.0, &config) {
            let settings =
                TransactionSettings::of(&config, self.newest_connection.clone(), known.1.memory.clone());
            *known = (config.clone(), Arc::new(settings));
        }
        known.1.clone()
    }
}
