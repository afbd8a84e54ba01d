//! Markers in partitions that this broker leads: of coordinators here and elsewhere, and of administrators.

use std::sync::Arc;

use catalog::{Catalog, topic_name};
use commitlog::{Append, CommitLog, EndTransaction, Partition};
use protocol::{ErrorCode, TopicIdPartition};
use tokio::sync::oneshot;

use crate::error::{append_error, commit_error};
use crate::freshness::{Freshness, may_be_stale};
use crate::groups::{Answer, Groups};
use crate::partitions::led_here;

pub(crate) struct Markers {
    pub node_id: i32,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub groups: Arc<Groups>,
    pub freshness: Arc<Freshness>,
}

/// A marker in the log's queue, or one that nothing here waits for.
enum Queued {
    InLog {
        partition: Arc<Partition>,
        append: Append,
    },
    /// In `__consumer_offsets`: its coordinator says when its offsets count.
    WithGroups {
        partition: Arc<Partition>,
        answer: oneshot::Receiver<Answer>,
    },
}

impl Markers {
    /// Writes them in one commit, and returns when they are durable. One code for each; NONE also when no such transaction is open
    /// any more, since then it was ended before.
    pub async fn write(&self, markers: Vec<(TopicIdPartition, EndTransaction)>) -> Vec<ErrorCode> {
        let queued: Vec<Result<Queued, ErrorCode>> = {
            let _together = self.log.together();
            markers.into_iter().map(|(place, marker)| self.queue(place, marker)).collect()
        };
        let mut codes = Vec::with_capacity(queued.len());
        let mut repeated = Vec::new();
        for queued in queued {
            let ended = match queued {
                Ok(queued) => queued.durable().await,
                Err(code) => Err(code),
            };
            match ended {
                Ok(None) => codes.push(ErrorCode::None),
                Ok(Some(partition)) => {
                    repeated.push((codes.len(), partition));
                    codes.push(ErrorCode::None);
                }
                Err(code) => {
                    if may_be_stale(code) {
                        self.freshness.catch_up_soon();
                    }
                    codes.push(code);
                }
            }
        }
        // "Nothing is open here" is an answer about the state: another leader may know better (R20).
        if !repeated.is_empty() {
            let knows = self.log.barrier().await.is_ok();
            for (index, partition) in repeated {
                let now = self.log.partition(&partition.id());
                let is_same = now.is_some_and(|now| Arc::ptr_eq(&now, &partition)) && !partition.is_leaving();
                if !knows || !is_same {
                    codes[index] = ErrorCode::NotLeaderOrFollower;
                }
            }
        }
        codes
    }

    fn queue(&self, place: TopicIdPartition, marker: EndTransaction) -> Result<Queued, ErrorCode> {
        let topic = self.catalog.read().topic_by_id(place.topic_id).cloned();
        let topic = topic.ok_or(ErrorCode::UnknownTopicId)?;
        if topic.name == topic_name::CONSUMER_OFFSETS {
            let queued = self.groups.end_transaction(place.partition, marker);
            let (runtime, answer) = queued.map_err(as_leader)?;
            return Ok(Queued::WithGroups { partition: runtime.partition().clone(), answer });
        }
        let led = led_here(&self.log, self.node_id, &topic, place.partition)?;
        let append = led.partition.end_transaction(marker, led.leader_epoch);
        let append = append.map_err(|error| append_error(&error))?;
        Ok(Queued::InLog { partition: led.partition, append })
    }
}

impl Queued {
    /// The partition, if no such transaction is open there.
    async fn durable(self) -> Result<Option<Arc<Partition>>, ErrorCode> {
        match self {
            Queued::InLog { partition, append } => {
                let is_repeated = append.duplicate;
                append.committed().await.map_err(|error| commit_error(&error))?;
                Ok(is_repeated.then_some(partition))
            }
            Queued::WithGroups { partition, answer } => match answer.await {
                Ok(Answer::Marked(Ok(marked))) => Ok(marked.is_repeated.then_some(partition)),
                Ok(Answer::Marked(Err(code))) => Err(as_leader(code)),
                Ok(other) => unreachable!("a marker is answered by a marker, not {other:?}"),
                Err(_) => Err(ErrorCode::NotLeaderOrFollower),
            },
        }
    }
}

/// Who sends markers knows leaders, not coordinators of groups. As Kafka translates it.
fn as_leader(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::NotCoordinator
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable => ErrorCode::NotLeaderOrFollower,
        code => code,
    }
}
