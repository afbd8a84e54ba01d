//! From what a request names to a partition that this broker leads.

use std::sync::Arc;

use catalog::{State, Topic};
use commitlog::{CommitLog, Partition};
use protocol::{ErrorCode, Str, TopicIdPartition, Uuid};

use crate::authorizer::TopicRights;

/// What a client of that version does not know yet: its place in "current leader epoch" fields.
pub(crate) const NO_LEADER_EPOCH: i32 = -1;

/// A topic as a request names it: by name up to some version, by id from there on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TopicRef {
    Name(Str),
    Id(Uuid),
}

impl TopicRef {
    pub fn find<'a>(&self, state: &'a State) -> Result<&'a Arc<Topic>, ErrorCode> {
        match self {
            TopicRef::Name(name) => state.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition),
            TopicRef::Id(id) => state.topic_by_id(*id).ok_or(ErrorCode::UnknownTopicId),
        }
    }

    /// The same for a caller who may not know of every topic. By name the question is whether he may, by id first of all whether it
    /// exists: ids are no secret, names are.
    pub fn find_allowed<'a>(
        &self,
        state: &'a State,
        rights: &mut TopicRights<'_>,
    ) -> Result<&'a Arc<Topic>, ErrorCode> {
        if let TopicRef::Name(name) = self {
            rights.check(state, name)?;
        }
        let topic = self.find(state)?;
        if let TopicRef::Id(_) = self {
            rights.check(state, &topic.name)?;
        }
        Ok(topic)
    }

    /// The name as the answer has it; by id it is not sent.
    pub fn name(&self) -> Str {
        match self {
            TopicRef::Name(name) => name.clone(),
            TopicRef::Id(_) => Str::default(),
        }
    }

    pub fn id(&self) -> Uuid {
        match self {
            TopicRef::Name(_) => Uuid::ZERO,
            TopicRef::Id(id) => *id,
        }
    }

    /// Memory of its own: a name from a request is a slice of its frame.
    pub fn detached(&self) -> TopicRef {
        match self {
            TopicRef::Name(name) => TopicRef::Name(name.detached()),
            TopicRef::Id(id) => TopicRef::Id(*id),
        }
    }
}

/// A partition of ours: its log and the epoch of our leadership.
pub(crate) struct Led {
    pub partition: Arc<Partition>,
    pub leader_epoch: i32,
}

/// The partition, if it exists and this broker leads it.
pub(crate) fn led_here(log: &CommitLog, node_id: i32, topic: &Topic, index: i32) -> Result<Led, ErrorCode> {
    let info = usize::try_from(index).ok().and_then(|index| topic.partitions.get(index));
    let info = info.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if info.leader != node_id {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    // The catalog is a moment ahead of the log while a topic is being made: the client shall ask again.
    let partition =
        log.partition(&TopicIdPartition::new(topic.id, index)).ok_or(ErrorCode::NotLeaderOrFollower)?;
    Ok(Led { partition, leader_epoch: info.leader_epoch })
}

impl Led {
    /// Fencing of clients whose metadata is older (or newer) than ours (KIP-320).
    pub fn check_epoch(&self, epoch_of_client: i32) -> Result<(), ErrorCode> {
        match epoch_of_client {
            NO_LEADER_EPOCH => Ok(()),
            epoch if epoch < self.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
            epoch if epoch > self.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }
}
