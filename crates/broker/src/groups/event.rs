//! What goes into a shard and what comes out of it, in its own words. The API files translate these from and to
//! Kafka's messages, versions and all.

use bytes::Bytes;
use protocol::{ErrorCode, Str, Uuid};

use super::consumer::{ConsumerHeartbeatAnswer, Refusal};
use super::member::OfferedProtocol;
use super::share::{ShareHeartbeatAnswer, ShareStatesAnswer};
use super::streams::StreamsHeartbeatAnswer;

use crate::coordinators::Marked;
pub use crate::coordinators::{Now, Record as GroupRecord, ReplyId, Token, Write};

pub type Effects = crate::coordinators::Effects<Answer>;

impl Effects {
    pub fn join(&mut self, reply: ReplyId, answer: JoinAnswer) {
        self.answer(reply, Answer::Join(answer));
    }

    pub fn sync(&mut self, reply: ReplyId, answer: SyncAnswer) {
        self.answer(reply, Answer::Sync(answer));
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Join(JoinAnswer),
    Sync(SyncAnswer),
    Leave(LeaveAnswer),
    Commit(CommitAnswer),
    Fetch(Result<FetchedOffsets, ErrorCode>),
    DeleteOffsets(DeleteOffsetsAnswer),
    DeleteGroups(DeletedGroups),
    /// What became of a marker.
    Marked(Result<Marked, ErrorCode>),
    ConsumerHeartbeat(ConsumerHeartbeatAnswer),
    StreamsHeartbeat(StreamsHeartbeatAnswer),
    ShareHeartbeat(ShareHeartbeatAnswer),
    ShareStates(ShareStatesAnswer),
}

impl Answer {
    /// The same answer had the group not been as it was thought to be.
    pub fn refused(self, error: ErrorCode) -> Answer {
        match self {
            Answer::Join(answer) => Answer::Join(JoinAnswer::refused(error, answer.member_id)),
            Answer::Sync(_) => Answer::Sync(SyncAnswer::refused(error)),
            Answer::Leave(answer) => Answer::Leave(LeaveAnswer { error, members: answer.members }),
            Answer::ConsumerHeartbeat(_) => {
                Answer::ConsumerHeartbeat(ConsumerHeartbeatAnswer::refused(error, None))
            }
            Answer::StreamsHeartbeat(_) => {
                Answer::StreamsHeartbeat(StreamsHeartbeatAnswer::refused(error, None))
            }
            Answer::Fetch(_) => Answer::Fetch(Err(error)),
            Answer::DeleteOffsets(_) => Answer::DeleteOffsets(DeleteOffsetsAnswer::Refused(error)),
            Answer::DeleteGroups(DeletedGroups { groups }) => {
                let groups = groups.into_iter().map(|(group, _)| (group, error)).collect();
                Answer::DeleteGroups(DeletedGroups { groups })
            }
            Answer::ShareHeartbeat(_) => Answer::ShareHeartbeat(ShareHeartbeatAnswer::refused(error, None)),
            Answer::ShareStates(_) => {
                Answer::ShareStates(ShareStatesAnswer::Refused(Refusal::new(error, "")))
            }
            other => unreachable!("{other:?} waits for its own write"),
        }
    }
}

#[derive(Debug, Clone)]
pub struct JoinRequest {
    pub group: Str,
    /// Empty: not known yet.
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: Str,
    pub protocols: Vec<OfferedProtocol>,
    /// v4 on, KIP-394: a member without an id gets one and has to come back with it.
    pub requires_known_member_id: bool,
    /// v9 on, KIP-814: a static leader that came back is told not to assign anew.
    pub can_skip_assignment: bool,
    /// Random bytes for the member id, should one be made.
    pub fresh: [u8; 16],
}

#[derive(Debug, Clone, PartialEq)]
pub struct JoinAnswer {
    pub error: ErrorCode,
    pub member_id: Str,
    pub generation: i32,
    pub protocol_type: Option<Str>,
    pub protocol_name: Option<Str>,
    /// Empty in errors.
    pub leader: Str,
    pub skip_assignment: bool,
    /// For the leader only.
    pub members: Vec<JoinedMember>,
}

impl JoinAnswer {
    pub fn refused(error: ErrorCode, member_id: Str) -> JoinAnswer {
        JoinAnswer {
            error,
            member_id,
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: Str::default(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub metadata: Bytes,
}

#[derive(Debug, Clone)]
pub struct SyncRequest {
    pub group: Str,
    pub generation: i32,
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub protocol_type: Option<Str>,
    pub protocol_name: Option<Str>,
    /// By member id; only the leader sends any.
    pub assignments: Vec<(Str, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncAnswer {
    pub error: ErrorCode,
    pub protocol_type: Option<Str>,
    pub protocol_name: Option<Str>,
    pub assignment: Bytes,
}

impl SyncAnswer {
    pub fn refused(error: ErrorCode) -> SyncAnswer {
        SyncAnswer { error, protocol_type: None, protocol_name: None, assignment: Bytes::new() }
    }
}

#[derive(Debug, Clone)]
pub struct HeartbeatRequest {
    pub group: Str,
    pub generation: i32,
    pub member_id: Str,
    pub instance_id: Option<Str>,
}

#[derive(Debug, Clone)]
pub struct LeaveRequest {
    pub group: Str,
    pub members: Vec<LeavingMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// Empty: whoever holds `instance_id` (an administrator removes a static member).
    pub member_id: Str,
    pub instance_id: Option<Str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveAnswer {
    pub error: ErrorCode,
    /// In the order of the request.
    pub members: Vec<(LeavingMember, ErrorCode)>,
}

#[derive(Debug, Clone)]
pub struct CommitRequest {
    pub group: Str,
    /// Negative: nobody's member, a simple consumer or a tool.
    pub generation: i32,
    pub member_id: Str,
    pub instance_id: Option<Str>,
    /// v2 to v4 could ask for a retention of their own.
    pub retention_ms: Option<i64>,
    /// v9 on, KIP-848: an unknown group is GROUP_ID_NOT_FOUND and no longer ILLEGAL_GENERATION.
    pub knows_group_id_not_found: bool,
    pub offsets: Vec<CommitOffset>,
}

#[derive(Debug, Clone)]
pub struct CommitOffset {
    pub topic: Str,
    pub topic_id: Uuid,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitAnswer {
    /// The whole request.
    Refused(ErrorCode),
    /// One for each offset of the request, in its order.
    Each(Vec<ErrorCode>),
}

#[derive(Debug, Clone)]
pub struct FetchOffsetsRequest {
    pub group: Str,
    /// None asks for all of them.
    pub topics: Option<Vec<FetchTopic>>,
}

#[derive(Debug, Clone)]
pub struct FetchTopic {
    pub topic: Str,
    /// Zero: any.
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FetchedOffsets {
    pub topics: Vec<FetchedTopic>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FetchedTopic {
    pub topic: Str,
    pub topic_id: Uuid,
    pub partitions: Vec<FetchedOffset>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FetchedOffset {
    pub partition: i32,
    /// −1: none is committed.
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Str,
    /// A transaction that is open yet has written another one (KIP-447). Told only to those who ask for what is stable.
    pub is_unstable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteOffsetsAnswer {
    Refused(ErrorCode),
    /// One for each partition of the request, in its order.
    Each(Vec<ErrorCode>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedGroups {
    pub groups: Vec<(Str, ErrorCode)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: Str,
    pub protocol_type: Str,
    pub state: &'static str,
    /// As Kafka's `GroupType` prints it.
    pub group_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    pub state: super::group::GroupState,
    pub protocol_type: Str,
    pub protocol_name: Str,
    pub members: Vec<DescribedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub metadata: Bytes,
    pub assignment: Bytes,
}
