//! Talking to a group's coordinator: finding it, joining, committing. Each function is one exchange; when to
//! make it, and again, is `membership.rs`'s and the callers' to decide.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::messages::*;
use protocol::{ErrorCode, Str, message};

use super::assignor::{Assignor, Subscription};
use super::offsets::OffsetAndMetadata;
use crate::TopicPartition;
use crate::cluster::{Client, Lane};
use crate::error::{Error, check, code_of};

/// Who we are in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub generation: i32,
    pub member_id: Str,
    pub instance_id: Option<Str>,
}

impl Identity {
    /// Nobody: for groups without members, whose offsets anyone may set.
    pub fn none() -> Identity {
        Identity { generation: -1, member_id: Str::default(), instance_id: None }
    }
}

/// The format of subscriptions and assignments that we write (KIP-792, KIP-881).
const SUBSCRIPTION_VERSION: i16 = 3;
const ASSIGNMENT_VERSION: i16 = 3;

pub(crate) const PROTOCOL_TYPE: &str = "consumer";

/// The broker that coordinates the group.
pub(crate) async fn find(client: &Client, group: &Str) -> Result<i32, Error> {
    // Version 4 asks for several keys at once; one is all we need.
    let request = FindCoordinatorRequest { key: group.clone(), key_type: 0, ..Default::default() };
    let answer = client.call_any(&request, 3).await?;
    check(answer.error_code, answer.error_message.as_ref())?;
    let cluster = client.fresh_cluster(&[]).await?;
    if !cluster.brokers.contains_key(&answer.node_id) {
        client.refresh(cluster.version).await?;
    }
    Ok(answer.node_id)
}

pub(crate) async fn commit(
    client: &Client,
    coordinator: i32,
    group: &Str,
    identity: &Identity,
    offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
) -> Result<(), Error> {
    let mut topics: BTreeMap<Str, Vec<_>> = BTreeMap::new();
    for (partition, offset) in offsets {
        topics.entry(partition.topic.clone()).or_default().push(
            offset_commit_request::OffsetCommitRequestPartition {
                partition_index: partition.partition,
                committed_offset: offset.offset,
                committed_leader_epoch: offset.leader_epoch.unwrap_or(-1),
                committed_metadata: Some(offset.metadata.clone()),
            },
        );
    }
    let request = OffsetCommitRequest {
        group_id: group.clone(),
        generation_id_or_member_epoch: identity.generation,
        member_id: identity.member_id.clone(),
        group_instance_id: identity.instance_id.clone(),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| offset_commit_request::OffsetCommitRequestTopic {
                name,
                partitions,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    // Version 10 names topics by id only.
    let answer = client.call_node(Lane::Coordinator, coordinator, &request, 9).await?;
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let place = Str::from(format!("{}-{}", topic.name, partition.partition_index));
            check(partition.error_code, Some(&place))?;
        }
    }
    Ok(())
}

/// Committed offsets; partitions without one are left out. `None` asks for all of the group.
pub(crate) async fn fetch_offsets(
    client: &Client,
    coordinator: i32,
    group: &Str,
    partitions: Option<&[TopicPartition]>,
    require_stable: bool,
) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, Error> {
    let topics = partitions.map(|partitions| {
        let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            topics.entry(partition.topic.clone()).or_default().push(partition.partition);
        }
        topics
            .into_iter()
            .map(|(name, partition_indexes)| offset_fetch_request::OffsetFetchRequestTopic {
                name,
                partition_indexes,
            })
            .collect()
    });
    let request =
        OffsetFetchRequest { group_id: group.clone(), topics, require_stable, ..Default::default() };
    // Version 8 asks for several groups at once.
    let answer = client.call_node(Lane::Coordinator, coordinator, &request, 7).await?;
    check(answer.error_code, None)?;
    let mut offsets = BTreeMap::new();
    for topic in &answer.topics {
        for partition in &topic.partitions {
            check(partition.error_code, None)?;
            if partition.committed_offset < 0 {
                continue;
            }
            let key = TopicPartition::new(topic.name.detached(), partition.partition_index);
            let leader_epoch = partition.committed_leader_epoch;
            offsets.insert(
                key,
                OffsetAndMetadata {
                    offset: partition.committed_offset,
                    leader_epoch: (leader_epoch >= 0).then_some(leader_epoch),
                    metadata: partition.metadata.as_ref().map(Str::detached).unwrap_or_default(),
                },
            );
        }
    }
    Ok(offsets)
}

pub(crate) async fn heartbeat(
    client: &Client,
    coordinator: i32,
    group: &Str,
    identity: &Identity,
) -> Result<(), Error> {
    let request = HeartbeatRequest {
        group_id: group.clone(),
        generation_id: identity.generation,
        member_id: identity.member_id.clone(),
        group_instance_id: identity.instance_id.clone(),
    };
    let answer = client.call_node(Lane::Coordinator, coordinator, &request, i16::MAX).await?;
    check(answer.error_code, None)
}

pub(crate) async fn leave(
    client: &Client,
    coordinator: i32,
    group: &Str,
    identity: &Identity,
    reason: &'static str,
) -> Result<(), Error> {
    let mut request = LeaveGroupRequest { group_id: group.clone(), ..Default::default() };
    let connection = client.node(Lane::Coordinator, coordinator).await?;
    // One member by itself until version 2, a list of members from 3 on.
    if connection.version::<LeaveGroupRequest>(i16::MAX)? >= 3 {
        request.members.push(leave_group_request::MemberIdentity {
            member_id: identity.member_id.clone(),
            group_instance_id: identity.instance_id.clone(),
            reason: Some(Str::from_static(reason)),
        });
    } else {
        request.member_id = identity.member_id.clone();
    }
    let answer = connection.call(&request, i16::MAX, client.options().request_timeout).await?;
    check(answer.error_code, None)?;
    answer.members.iter().try_for_each(|member| check(member.error_code, None))
}

/// What JoinGroup needs to know.
pub(crate) struct Joining {
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub topics: Vec<Str>,
    pub owned: Vec<TopicPartition>,
    pub assignors: Vec<std::sync::Arc<dyn Assignor>>,
}

/// The outcome of joining: our place in the new generation, and what we read.
#[derive(Debug)]
pub(crate) struct Joined {
    pub identity: Identity,
    pub assignor: Str,
    pub assignment: Vec<TopicPartition>,
}

/// JoinGroup, the assignment if we lead, and SyncGroup. `identity.member_id` is filled in as soon as the
/// coordinator gives one, also when a later step fails.
pub(crate) async fn join(
    client: &Client,
    coordinator: i32,
    group: &Str,
    identity: &mut Identity,
    joining: &Joining,
) -> Result<Joined, Error> {
    let answer = loop {
        let request = join_request(group, identity, joining)?;
        let connection = client.node(Lane::Coordinator, coordinator).await?;
        // The coordinator answers when all members have come, or when their time is over.
        let limit = std::time::Duration::from_millis(joining.rebalance_timeout_ms as u64 + 5_000)
            .max(client.options().request_timeout);
        let answer = connection.call(&request, i16::MAX, limit).await?;
        if code_of(answer.error_code) == ErrorCode::MemberIdRequired {
            identity.member_id = answer.member_id.detached();
            continue;
        }
        check(answer.error_code, None)?;
        break answer;
    };
    identity.member_id = answer.member_id.detached();
    identity.generation = answer.generation_id;
    let protocol_name = answer.protocol_name.as_ref().map(Str::detached).unwrap_or_default();

    let mut assignments = Vec::new();
    if answer.leader == answer.member_id && !answer.skip_assignment {
        assignments = lead(client, &protocol_name, &answer, joining).await?;
    }
    let request = SyncGroupRequest {
        group_id: group.clone(),
        generation_id: identity.generation,
        member_id: identity.member_id.clone(),
        group_instance_id: identity.instance_id.clone(),
        protocol_type: Some(PROTOCOL_TYPE.into()),
        protocol_name: Some(protocol_name.clone()),
        assignments,
    };
    let connection = client.node(Lane::Coordinator, coordinator).await?;
    let limit = std::time::Duration::from_millis(joining.rebalance_timeout_ms as u64 + 5_000)
        .max(client.options().request_timeout);
    let answer = connection.call(&request, i16::MAX, limit).await?;
    check(answer.error_code, None)?;
    Ok(Joined {
        identity: identity.clone(),
        assignor: protocol_name,
        assignment: decode_assignment(&answer.assignment)?,
    })
}

fn join_request(group: &Str, identity: &Identity, joining: &Joining) -> Result<JoinGroupRequest, Error> {
    let protocols = joining.assignors.iter().map(|assignor| {
        // Eager members give everything up before they join.
        let owned: &[_] = if assignor.is_cooperative() { &joining.owned } else { &[] };
        Ok(join_group_request::JoinGroupRequestProtocol {
            name: assignor.name().into(),
            metadata: encode_subscription(&joining.topics, owned, identity.generation)?,
        })
    });
    Ok(JoinGroupRequest {
        group_id: group.clone(),
        session_timeout_ms: joining.session_timeout_ms,
        rebalance_timeout_ms: joining.rebalance_timeout_ms,
        member_id: identity.member_id.clone(),
        group_instance_id: identity.instance_id.clone(),
        protocol_type: PROTOCOL_TYPE.into(),
        protocols: protocols.collect::<Result<_, Error>>()?,
        reason: None,
    })
}

/// We lead: assigns partitions to all members.
async fn lead(
    client: &Client,
    protocol: &Str,
    answer: &JoinGroupResponse,
    joining: &Joining,
) -> Result<Vec<sync_group_request::SyncGroupRequestAssignment>, Error> {
    let assignor = joining
        .assignors
        .iter()
        .find(|assignor| *protocol == assignor.name())
        .ok_or(Error::Kafka { code: ErrorCode::InconsistentGroupProtocol, message: protocol.clone() })?;
    let mut members = BTreeMap::new();
    let mut topics: Vec<Str> = Vec::new();
    for member in &answer.members {
        let mut subscription = decode_subscription(&member.metadata)?;
        subscription.instance_id = member.group_instance_id.as_ref().map(Str::detached);
        topics.extend(subscription.topics.iter().cloned());
        members.insert(member.member_id.detached(), subscription);
    }
    topics.sort();
    topics.dedup();
    client.outdated();
    let cluster = client.fresh_cluster(&topics).await?;
    let counts = topics
        .iter()
        .filter_map(|name| Some((name.clone(), cluster.topic(name)?.partitions.len() as i32)))
        .collect();
    assignor
        .assign(&members, &counts)
        .into_iter()
        .map(|(member_id, partitions)| {
            Ok(sync_group_request::SyncGroupRequestAssignment {
                member_id,
                assignment: encode_assignment(&partitions)?,
            })
        })
        .collect()
}

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<Str, Vec<i32>> {
    let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.clone()).or_default().push(partition.partition);
    }
    topics
}

fn encode_subscription(topics: &[Str], owned: &[TopicPartition], generation: i32) -> Result<Bytes, Error> {
    let subscription = ConsumerProtocolSubscription {
        topics: topics.to_vec(),
        user_data: None,
        owned_partitions: by_topic(owned)
            .into_iter()
            .map(|(topic, partitions)| consumer_protocol_subscription::TopicPartition { topic, partitions })
            .collect(),
        generation_id: generation,
        rack_id: None,
    };
    Ok(message::versioned_value(SUBSCRIPTION_VERSION, &subscription)?)
}

fn decode_subscription(bytes: &Bytes) -> Result<Subscription, Error> {
    let (_, subscription) = decode_newest::<ConsumerProtocolSubscription>(bytes, SUBSCRIPTION_VERSION)?;
    let owned = subscription.owned_partitions.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| TopicPartition::new(topic.topic.detached(), *partition))
    });
    Ok(Subscription {
        topics: subscription.topics.iter().map(Str::detached).collect(),
        owned: owned.collect(),
        generation: subscription.generation_id,
        instance_id: None,
    })
}

fn encode_assignment(partitions: &[TopicPartition]) -> Result<Bytes, Error> {
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: by_topic(partitions)
            .into_iter()
            .map(|(topic, partitions)| consumer_protocol_assignment::TopicPartition { topic, partitions })
            .collect(),
        user_data: None,
    };
    Ok(message::versioned_value(ASSIGNMENT_VERSION, &assignment)?)
}

/// The partitions in a member's assignment; none in an empty one.
pub(crate) fn decode_assignment(bytes: &Bytes) -> Result<Vec<TopicPartition>, Error> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let (_, assignment) = decode_newest::<ConsumerProtocolAssignment>(bytes, ASSIGNMENT_VERSION)?;
    let partitions = assignment.assigned_partitions.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| TopicPartition::new(topic.topic.detached(), *partition))
    });
    Ok(partitions.collect())
}

/// Newer formats only add at the end: a member that writes one must still be understood.
fn decode_newest<M: protocol::Message>(bytes: &Bytes, newest: i16) -> Result<(i16, M), Error> {
    let mut reader = protocol::wire::Reader::new(bytes.clone());
    let version = reader.i16()?.clamp(0, newest);
    Ok((version, M::decode(&mut reader, version)?))
}
