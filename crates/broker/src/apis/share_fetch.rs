//! ShareFetch v1–2: a member of a share group gets records of the partitions of its session, locked for it, and may say in the same
//! request what became of those it had (KIP-932).
//!
//! What is acknowledged is kept before the answer leaves, while the fetch waits for records. In a session that goes on only partitions
//! with news are answered. `share/` has what records go through.
//!
//! Differences: a share partition whose state is being read gives nothing yet, and the fetch waits for it; a coordinator that cannot be
//! reached is no error of a partition, since clients stop at it.
//!
//! v1 · v2 renews locks (KIP-1222) and may ask for an exact number of records (KIP-1206).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catalog::acl::AclOperation;
use protocol::messages::share_fetch_request::{AcknowledgementBatch, FetchTopic};
use protocol::messages::share_fetch_response::{
    AcquiredRecords, LeaderIdAndEpoch, NodeEndpoint, PartitionData, ShareFetchableTopicResponse,
};
use protocol::messages::{ShareFetchRequest, ShareFetchResponse};
use protocol::{ErrorCode, Records, Str, TopicIdPartition, Uuid};

use crate::authorizer::Resource;
use crate::freshness::may_be_stale;
use crate::partitions::{Led, TopicRef, led_here};
use crate::quotas::Usage;
use crate::request::RequestContext;
use crate::share::{
    Acknowledged, Acknowledgement, FINAL_EPOCH, FetchedPartition, GroupRules, INITIAL_EPOCH, Opened, Outcome,
    SessionKey, ShareFetch, Source, Target, are_valid,
};

pub(super) const RENEWS_SINCE: i16 = 2;
const MEMBER_ID_LEN_MAX: usize = 36;

pub(super) async fn handle(context: RequestContext, request: ShareFetchRequest) -> ShareFetchResponse {
    let refused = |error: ErrorCode, message: Option<&'static str>| ShareFetchResponse {
        error_code: error.code(),
        error_message: message.map(Str::from_static),
        ..ShareFetchResponse::default()
    };
    let key = match session_key(&context, &request.group_id, &request.member_id) {
        Ok(key) => key,
        Err((error, message)) => return refused(error, Some(message)),
    };
    let is_renewal = context.api_version >= RENEWS_SINCE && request.is_renew_ack;
    let wants = [request.max_bytes, request.min_bytes, request.max_records, request.max_wait_ms];
    if is_renewal && wants.iter().any(|wanted| *wanted != 0) {
        let message = "A request that renews locks must not ask for records.";
        return refused(ErrorCode::InvalidRequest, Some(message));
    }
    let asked = Asked::of(&request.topics);
    if asked.partitions.len() > context.broker.limits.request_partitions_max {
        return refused(ErrorCode::InvalidRequest, None);
    }
    let forgotten: Vec<(Uuid, i32)> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition)))
        .collect();
    let opened = match open_session(&context, &key, request.share_session_epoch, &asked, &forgotten) {
        Ok(opened) => opened,
        Err(ErrorCode::ShareSessionLimitReached) => {
            // It would come again at once.
            let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64);
            tokio::select! {
                biased;
                () = context.connection.hung_up() => {}
                () = world::task::sleep(wait) => {}
            }
            return refused(ErrorCode::ShareSessionLimitReached, None);
        }
        Err(error) => return refused(error, None),
    };

    let sharing = &context.broker.sharing;
    let of_group = sharing.group_rules(&key.group);
    let reads = if is_renewal { Vec::new() } else { opened.partitions };
    let places: BTreeSet<TopicIdPartition> = reads
        .iter()
        .chain(asked.acknowledged.keys())
        .map(|(topic, partition)| TopicIdPartition::new(*topic, *partition))
        .collect();
    let led = leaders(&context, &places).await;

    let acknowledged = acknowledge(&context, &key, &led, &asked.acknowledged, is_renewal, &of_group);
    let bytes_max = request.max_bytes.min(context.broker.config().fetch_max_bytes()).max(0);
    let fetch = ShareFetch {
        member: key.member.clone(),
        targets: targets(&context, &key, rotated(reads, request.share_session_epoch), &led, &of_group),
        bytes_max: bytes_max as usize,
        bytes_min: request.min_bytes.clamp(0, bytes_max) as usize,
        records_max: request.max_records,
        batch_size: request.batch_size,
        acquire_mode: request.share_acquire_mode,
        wait_max: Duration::from_millis(request.max_wait_ms.max(0) as u64),
        of_group,
    };
    let (fetched, outcomes) = futures_util::future::join(fetch.run(&context), acknowledged.outcomes()).await;
    if request.share_session_epoch == FINAL_EPOCH {
        sharing.end_session(&key);
    }

    let bytes: usize = fetched.iter().map(|partition| partition.records.len()).sum();
    let throttle_time_ms = context.use_quota(Usage::Fetch, bytes as f64);
    let responses = responses(&context, fetched, outcomes, opened.is_new);
    ShareFetchResponse {
        throttle_time_ms,
        acquisition_lock_timeout_ms: of_group.lock_duration_ms,
        node_endpoints: leader_endpoints(&context, &responses),
        responses,
        ..ShareFetchResponse::default()
    }
}

/// Who asks, if he may.
pub(super) fn session_key(
    context: &RequestContext,
    group: &Option<Str>,
    member: &Option<Str>,
) -> Result<SessionKey, (ErrorCode, &'static str)> {
    let Some(group) = group else {
        return Err((ErrorCode::InvalidRequest, "Invalid group id in the request."));
    };
    context
        .authorize(AclOperation::Read, Resource::Group(group))
        .map_err(|code| (code, "The group may not be read."))?;
    match member {
        Some(member) if !member.is_empty() && member.len() <= MEMBER_ID_LEN_MAX => {
            Ok(SessionKey { group: group.clone(), member: member.clone() })
        }
        _ => Err((ErrorCode::InvalidRequest, "Invalid member id in the request.")),
    }
}

/// What a request names.
struct Asked {
    partitions: Vec<(Uuid, i32)>,
    /// Of those that say something of records.
    acknowledged: BTreeMap<(Uuid, i32), Vec<Acknowledgement>>,
}

impl Asked {
    fn of(topics: &[FetchTopic]) -> Asked {
        let entry = |batch: &AcknowledgementBatch| Acknowledgement {
            first_offset: batch.first_offset,
            last_offset: batch.last_offset,
            types: batch.acknowledge_types.clone(),
        };
        let mut asked = Asked { partitions: Vec::new(), acknowledged: BTreeMap::new() };
        for topic in topics {
            for partition in &topic.partitions {
                let place = (topic.topic_id, partition.partition_index);
                asked.partitions.push(place);
                if !partition.acknowledgement_batches.is_empty() {
                    let entries = partition.acknowledgement_batches.iter().map(entry);
                    asked.acknowledged.insert(place, entries.collect());
                }
            }
        }
        asked
    }
}

fn open_session(
    context: &RequestContext,
    key: &SessionKey,
    epoch: i32,
    asked: &Asked,
    forgotten: &[(Uuid, i32)],
) -> Result<Opened, ErrorCode> {
    let sharing = &context.broker.sharing;
    match epoch {
        // Whoever has no session yet has no records either.
        INITIAL_EPOCH if !asked.acknowledged.is_empty() => Err(ErrorCode::InvalidRequest),
        INITIAL_EPOCH => sharing.begin_session(key, &context.connection, &asked.partitions),
        FINAL_EPOCH => {
            sharing.check_session(key, FINAL_EPOCH)?;
            Ok(Opened { partitions: Vec::new(), is_new: false })
        }
        epoch => sharing.next_in_session(key, epoch, &asked.partitions, forgotten),
    }
}

/// Every session begins with another partition each time, so that all get their turn.
fn rotated(mut partitions: Vec<(Uuid, i32)>, epoch: i32) -> Vec<(Uuid, i32)> {
    if !partitions.is_empty() {
        let by = epoch.unsigned_abs() as usize % partitions.len();
        partitions.rotate_left(by);
    }
    partitions
}

pub(super) type Leaders = BTreeMap<TopicIdPartition, Result<Led, ErrorCode>>;

/// Partitions that the caller may read and this broker leads. Before a refusal counts we catch up with what others said.
pub(super) async fn leaders(context: &RequestContext, places: &BTreeSet<TopicIdPartition>) -> Leaders {
    let broker = &context.broker;
    let mut readable = context.topics(AclOperation::Read);
    let mut look = || -> Leaders {
        let state = broker.catalog.read();
        let find = |place: &TopicIdPartition| {
            let topic = TopicRef::Id(place.topic_id).find_allowed(&state, &mut readable)?;
            led_here(&broker.log, broker.node_id, topic, place.partition)
        };
        places.iter().copied().zip(places.iter().map(find)).collect()
    };
    let found = look();
    let is_stale = found.values().any(|led| led.as_ref().is_err_and(|code| may_be_stale(*code)));
    if is_stale && broker.freshness.catch_up().await {
        return look();
    }
    found
}

pub(super) fn acknowledge(
    context: &RequestContext,
    key: &SessionKey,
    leaders: &Leaders,
    entries: &BTreeMap<(Uuid, i32), Vec<Acknowledgement>>,
    is_renewal: bool,
    of_group: &GroupRules,
) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    let may_renew = context.api_version >= RENEWS_SINCE && is_renewal;
    for ((topic, partition), entries) in entries {
        let place = TopicIdPartition::new(*topic, *partition);
        match leaders.get(&place) {
            Some(Ok(led)) if are_valid(entries, may_renew) => {
                let sharing = &context.broker.sharing;
                let rules = &of_group.rules;
                sharing.acknowledge(key, place, led, entries, rules, &mut acknowledged);
            }
            Some(Err(code)) => acknowledged.refuse(place, *code),
            Some(Ok(_)) | None => acknowledged.refuse(place, ErrorCode::InvalidRequest),
        }
    }
    acknowledged
}

fn targets(
    context: &RequestContext,
    key: &SessionKey,
    partitions: Vec<(Uuid, i32)>,
    leaders: &Leaders,
    of_group: &GroupRules,
) -> Vec<Target> {
    let broker = &context.broker;
    let counters = |topic: Uuid| {
        let state = broker.catalog.read();
        state.topic_by_id(topic).and_then(|topic| broker.counters().topic(topic))
    };
    let target = |(topic, partition): (Uuid, i32)| {
        let place = TopicIdPartition::new(topic, partition);
        let found = match leaders.get(&place) {
            Some(Ok(led)) => broker
                .sharing
                .share_partition(&key.group, place, led, of_group)
                .map(|share| Source { share, counters: counters(topic) }),
            Some(Err(code)) => Err(*code),
            None => Err(ErrorCode::UnknownTopicOrPartition),
        };
        Target { place, found }
    };
    partitions.into_iter().map(target).collect()
}

/// By topic, what was fetched of each partition and what became of its acknowledgements.
fn responses(
    context: &RequestContext,
    fetched: Vec<FetchedPartition>,
    mut outcomes: BTreeMap<TopicIdPartition, Outcome>,
    is_new: bool,
) -> Vec<ShareFetchableTopicResponse> {
    let mut by_topic: BTreeMap<Uuid, Vec<PartitionData>> = BTreeMap::new();
    for FetchedPartition { place, error, records, acquired } in fetched {
        let outcome = outcomes.remove(&place);
        let has_news = is_new || outcome.is_some() || error != ErrorCode::None || !acquired.is_empty();
        if !has_news {
            continue;
        }
        let acquired = acquired.into_iter().map(|acquired| AcquiredRecords {
            first_offset: acquired.first_offset,
            last_offset: acquired.last_offset,
            delivery_count: acquired.delivery_count,
        });
        let data = PartitionData {
            error_code: error.code(),
            current_leader: current_leader(context, place, &[error, error_of(outcome)]),
            records: Some(records),
            acquired_records: acquired.collect(),
            ..acknowledged_only(place, outcome)
        };
        by_topic.entry(place.topic_id).or_default().push(data);
    }
    for (place, outcome) in outcomes {
        let data = PartitionData {
            current_leader: current_leader(context, place, &[outcome.error]),
            ..acknowledged_only(place, Some(outcome))
        };
        by_topic.entry(place.topic_id).or_default().push(data);
    }
    let topics = by_topic.into_iter();
    topics.map(|(topic_id, partitions)| ShareFetchableTopicResponse { topic_id, partitions }).collect()
}

fn error_of(outcome: Option<Outcome>) -> ErrorCode {
    outcome.map_or(ErrorCode::None, |outcome| outcome.error)
}

fn acknowledged_only(place: TopicIdPartition, outcome: Option<Outcome>) -> PartitionData {
    PartitionData {
        partition_index: place.partition,
        acknowledge_error_code: error_of(outcome).code(),
        acknowledge_error_message: outcome.and_then(|outcome| outcome.message).map(Str::from_static),
        records: Some(Records::new()),
        ..PartitionData::default()
    }
}

fn current_leader(
    context: &RequestContext,
    place: TopicIdPartition,
    errors: &[ErrorCode],
) -> LeaderIdAndEpoch {
    let tells =
        |error: &ErrorCode| matches!(error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
    leader_of(context, place)
        .filter(|_| errors.iter().any(tells))
        .map(|(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch })
        .unwrap_or_default()
}

pub(super) fn leader_of(context: &RequestContext, place: TopicIdPartition) -> Option<(i32, i32)> {
    let state = context.broker.catalog.read();
    let info = state.topic_by_id(place.topic_id)?.partitions.get(usize::try_from(place.partition).ok()?)?;
    Some((info.leader, info.leader_epoch))
}

fn leader_endpoints(
    context: &RequestContext,
    responses: &[ShareFetchableTopicResponse],
) -> Vec<NodeEndpoint> {
    let leaders: BTreeSet<i32> = responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.current_leader.leader_id)
        .filter(|leader| *leader >= 0)
        .collect();
    if leaders.is_empty() {
        return Vec::new();
    }
    let state = context.broker.catalog.read();
    let nodes = context.broker.nodes(&state, &context.connection.listener).into_iter();
    nodes
        .filter(|node| leaders.contains(&node.id))
        .map(|node| NodeEndpoint { node_id: node.id, host: node.host, port: node.port, rack: node.rack })
        .collect()
}
