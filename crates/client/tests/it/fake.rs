//! A broker that plays a script: one node, topics in memory, Kafka's rules for sequences, and faults on demand.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use client::*;
use futures_util::future::BoxFuture;
use protocol::batch::{Batch, split_batches};
use protocol::messages::*;
use protocol::wire::Reader;
use protocol::{ApiKey, Message, Records, Uuid, frame};
use tokio::sync::mpsc;

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Carried out and answered.
    Fine,
    /// The connection ends before the request is carried out.
    LostBefore,
    /// The request is carried out, then the connection ends.
    LostAfter,
    /// Not carried out; the answer is this error, for every partition.
    Refused(ErrorCode),
    /// Carried out, but no answer ever comes.
    Mute,
}

#[derive(Default)]
pub struct State {
    pub topics: BTreeMap<Str, Vec<Partition>>,
    /// Fates of the next requests of an API; when they are used up, all is fine.
    pub fates: BTreeMap<i16, VecDeque<Fate>>,
    /// All requests that came, by API, in order.
    pub asked: Vec<ApiKey>,
    pub produce_under_way: usize,
    pub produce_under_way_max: usize,
    pub committed: BTreeMap<TopicPartition, i64>,
    pub generation: i32,
    pub members: u32,
    pub aborted: Vec<(i64, i64)>,
    /// The newest ApiVersions this broker knows.
    pub api_versions_max: i16,
    pub connections: usize,
}

#[derive(Default)]
pub struct Partition {
    pub batches: Vec<Batch>,
    pub start: i64,
    producers: BTreeMap<i64, Producer>,
}

#[derive(Default)]
struct Producer {
    epoch: i16,
    /// First and last sequence, and base offset, of the last five batches.
    last: VecDeque<(i32, i32, i64)>,
}

impl Partition {
    pub fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |batch| batch.header.next_offset())
    }

    pub fn values(&self) -> Vec<String> {
        let records = self.batches.iter().flat_map(|batch| batch.records(1 << 20)).map(Result::unwrap);
        records.map(|record| String::from_utf8_lossy(&record.value.unwrap()).into_owned()).collect()
    }

    pub fn append(&mut self, bytes: &Bytes) -> Result<i64, ErrorCode> {
        let batch = Batch::parse(bytes.clone()).unwrap();
        batch.verify_crc().unwrap();
        let header = batch.header;
        let base_offset = self.end();
        if header.has_producer_id() {
            let known = self.producers.contains_key(&header.producer_id);
            let producer = self.producers.entry(header.producer_id).or_default();
            let (first, last) = (header.base_sequence, header.last_sequence());
            if !known {
                // Kafka takes any sequence from a producer it knows nothing of.
                producer.epoch = header.producer_epoch;
            } else if header.producer_epoch < producer.epoch {
                return Err(ErrorCode::InvalidProducerEpoch);
            } else if header.producer_epoch > producer.epoch {
                if first != 0 {
                    return Err(ErrorCode::OutOfOrderSequenceNumber);
                }
                *producer = Producer { epoch: header.producer_epoch, last: VecDeque::new() };
            } else if let Some((.., offset)) =
                producer.last.iter().find(|(f, l, _)| (*f, *l) == (first, last))
            {
                return Ok(*offset);
            } else if producer.last.back().is_some_and(|(_, l, _)| l + 1 != first) {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
            producer.last.push_back((first, last, base_offset));
            if producer.last.len() > 5 {
                producer.last.pop_front();
            }
        }
        let [head, rest] = batch.at(base_offset, 0);
        self.batches.push(Batch::parse([head, rest].concat().into()).unwrap());
        Ok(base_offset)
    }
}

/// The broker; every clone is the same one.
#[derive(Clone)]
pub struct Fake {
    pub state: Arc<Mutex<State>>,
    latency: Duration,
}

impl Fake {
    pub fn new() -> Fake {
        let state = State { api_versions_max: 4, ..State::default() };
        Fake { state: Arc::new(Mutex::new(state)), latency: Duration::from_millis(3) }
    }

    pub fn topic(self, name: &str, partitions: usize) -> Fake {
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        self.state.lock().unwrap().topics.insert(name.into(), partitions);
        self
    }

    pub fn fates(&self, key: ApiKey, fates: impl IntoIterator<Item = Fate>) {
        self.state.lock().unwrap().fates.entry(key.code()).or_default().extend(fates);
    }

    pub fn client(&self) -> Client {
        Client::new(
            ClientOptions::new(["fake:9092"])
                .transport(Arc::new(self.clone()))
                .clock(Arc::new(world::clock::SimClock::new(1_760_000_000_000)))
                .rng(world::rng::SeededRng::shared(7)),
        )
    }

    pub fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        self.state.lock().unwrap().topics[topic][partition].values()
    }

    pub fn count(&self, key: ApiKey) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|asked| **asked == key).count()
    }
}

impl Transport for Fake {
    fn connect<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Channel>> {
        self.state.lock().unwrap().connections += 1;
        let (answers, receive) = mpsc::unbounded_channel();
        let sender = FakeSender { fake: self.clone(), answers: Some(answers) };
        Box::pin(async move {
            Ok(Channel { sender: Box::new(sender), receiver: Box::new(FakeReceiver { answers: receive }) })
        })
    }
}

/// When it may arrive, what was asked, and the frame; no frame is the end of the connection.
type Answer = (tokio::time::Instant, ApiKey, Arc<Mutex<State>>, Option<Bytes>);

struct FakeSender {
    fake: Fake,
    answers: Option<mpsc::UnboundedSender<Answer>>,
}

struct FakeReceiver {
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl FrameSender for FakeSender {
    fn send(&mut self, segments: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let Some(answers) = &self.answers else { return Err(io::ErrorKind::BrokenPipe.into()) };
            let mut whole = BytesMut::new();
            segments.iter().for_each(|segment| whole.extend_from_slice(segment));
            let frame = whole.freeze();
            assert_eq!(frame.len() - 4, u32::from_be_bytes(*frame.first_chunk().unwrap()) as usize);
            let mut reader = Reader::new(frame.slice(4..));
            let header = frame::decode_request_header(&mut reader).unwrap();
            let key = ApiKey::try_from(header.api_key).unwrap();
            let mut state = self.fake.state.lock().unwrap();
            state.asked.push(key);
            let fate = state.fates.get_mut(&key.code()).and_then(VecDeque::pop_front).unwrap_or(Fate::Fine);
            if fate == Fate::LostBefore {
                self.answers = None;
                return Ok(());
            }
            if key == ApiKey::Produce {
                state.produce_under_way += 1;
                state.produce_under_way_max = state.produce_under_way_max.max(state.produce_under_way);
            }
            let refused = if let Fate::Refused(code) = fate { code } else { ErrorCode::None };
            let body = answer(&mut state, key, header.api_version, reader, refused, header.correlation_id);
            let at = tokio::time::Instant::now() + self.fake.latency;
            let lost = fate == Fate::LostAfter;
            if fate != Fate::Mute {
                let _ = answers.send((at, key, self.fake.state.clone(), (!lost).then_some(body)));
            }
            drop(state);
            if lost {
                self.answers = None;
            }
            Ok(())
        })
    }
}

impl FrameReceiver for FakeReceiver {
    fn receive(&mut self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        Box::pin(async move {
            let Some((at, key, state, frame)) = self.answers.recv().await else { return Ok(None) };
            tokio::time::sleep_until(at).await;
            if key == ApiKey::Produce {
                let mut state = state.lock().unwrap();
                state.produce_under_way = state.produce_under_way.saturating_sub(1);
            }
            Ok(frame)
        })
    }
}

fn answer(
    state: &mut State,
    key: ApiKey,
    version: i16,
    mut reader: Reader,
    refused: ErrorCode,
    correlation_id: i32,
) -> Bytes {
    let mut version = version;
    let code = refused.code();
    macro_rules! with {
        ($request:ident, $response:ty, $make:expr) => {{
            let $request = Message::decode(&mut reader, version).unwrap();
            let response: $response = $make;
            frame::encode_response(correlation_id, &response, key, version).unwrap()
        }};
    }
    let segments = match key {
        ApiKey::ApiVersions if version > state.api_versions_max => {
            version = 0;
            let response = ApiVersionsResponse {
                error_code: ErrorCode::UnsupportedVersion.code(),
                api_keys: versions(state),
                ..Default::default()
            };
            frame::encode_response(correlation_id, &response, key, version).unwrap()
        }
        ApiKey::ApiVersions => with!(_request, ApiVersionsResponse, {
            let _: &ApiVersionsRequest = &_request;
            ApiVersionsResponse { api_keys: versions(state), ..Default::default() }
        }),
        ApiKey::Metadata => with!(request, MetadataResponse, metadata(state, request)),
        ApiKey::InitProducerId => with!(_request, InitProducerIdResponse, {
            let _: &InitProducerIdRequest = &_request;
            InitProducerIdResponse {
                error_code: code,
                producer_id: 77,
                producer_epoch: 0,
                ..Default::default()
            }
        }),
        ApiKey::Produce => with!(request, ProduceResponse, produce(state, request, code)),
        ApiKey::Fetch => with!(request, FetchResponse, fetch(state, request, code)),
        ApiKey::ListOffsets => with!(request, ListOffsetsResponse, list_offsets(state, request)),
        ApiKey::FindCoordinator => with!(_request, FindCoordinatorResponse, {
            let _: &FindCoordinatorRequest = &_request;
            FindCoordinatorResponse {
                error_code: code,
                node_id: 1,
                host: "fake".into(),
                port: 9092,
                ..Default::default()
            }
        }),
        ApiKey::JoinGroup => with!(request, JoinGroupResponse, join(state, request, code)),
        ApiKey::SyncGroup => with!(request, SyncGroupResponse, {
            let request: SyncGroupRequest = request;
            let assignment = request.assignments.first().map(|a| a.assignment.clone()).unwrap_or_default();
            SyncGroupResponse { error_code: code, assignment, ..Default::default() }
        }),
        ApiKey::Heartbeat => with!(_request, HeartbeatResponse, {
            let _: &HeartbeatRequest = &_request;
            HeartbeatResponse { error_code: code, ..Default::default() }
        }),
        ApiKey::LeaveGroup => with!(_request, LeaveGroupResponse, {
            let _: &LeaveGroupRequest = &_request;
            LeaveGroupResponse { error_code: code, ..Default::default() }
        }),
        ApiKey::OffsetFetch => with!(request, OffsetFetchResponse, offset_fetch(state, request)),
        ApiKey::OffsetCommit => with!(request, OffsetCommitResponse, offset_commit(state, request, code)),
        other => panic!("nobody wrote an answer for {other}"),
    };
    let mut whole = BytesMut::new();
    segments.iter().for_each(|segment| whole.extend_from_slice(segment));
    whole.freeze().slice(4..)
}

fn versions(state: &State) -> Vec<api_versions_response::ApiVersion> {
    ApiKey::all()
        .filter_map(|key| {
            let versions = key.versions()?;
            let newest = if key == ApiKey::ApiVersions { state.api_versions_max } else { *versions.end() };
            Some(api_versions_response::ApiVersion {
                api_key: key.code(),
                min_version: *versions.start(),
                max_version: newest,
            })
        })
        .collect()
}

fn topic_id(state: &State, name: &str) -> Uuid {
    Uuid::from_u128(1 + state.topics.keys().position(|topic| topic == name).unwrap() as u128)
}

fn topic_name(state: &State, name: Str, id: Uuid) -> Str {
    if id.is_zero() { name } else { state.topics.keys().nth(id.as_u128() as usize - 1).unwrap().clone() }
}

fn metadata(state: &State, request: MetadataRequest) -> MetadataResponse {
    let names: Vec<Str> = match request.topics {
        Some(topics) => topics.into_iter().filter_map(|topic| topic.name).collect(),
        None => state.topics.keys().cloned().collect(),
    };
    let topics = names.into_iter().map(|name| match state.topics.get(&name) {
        None => metadata_response::MetadataResponseTopic {
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
            name: Some(name),
            ..Default::default()
        },
        Some(partitions) => metadata_response::MetadataResponseTopic {
            topic_id: topic_id(state, &name),
            name: Some(name),
            partitions: (0..partitions.len() as i32)
                .map(|partition_index| metadata_response::MetadataResponsePartition {
                    partition_index,
                    leader_id: 1,
                    leader_epoch: 0,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        },
    });
    MetadataResponse {
        brokers: vec![metadata_response::MetadataResponseBroker {
            node_id: 1,
            host: "fake".into(),
            port: 9092,
            rack: None,
        }],
        cluster_id: Some("fake".into()),
        controller_id: 1,
        topics: topics.collect(),
        ..Default::default()
    }
}

fn produce(state: &mut State, request: ProduceRequest, refused: i16) -> ProduceResponse {
    let mut responses = Vec::new();
    for topic in request.topic_data {
        let name = topic_name(state, topic.name.clone(), topic.topic_id);
        let mut partition_responses = Vec::new();
        for data in topic.partition_data {
            let partition = &mut state.topics.get_mut(&name).unwrap()[data.index as usize];
            let result = match refused {
                0 => partition.append(&data.records.unwrap().to_bytes()).map_err(|code| code.code()),
                code => Err(code),
            };
            partition_responses.push(produce_response::PartitionProduceResponse {
                index: data.index,
                error_code: result.err().unwrap_or(0),
                base_offset: result.unwrap_or(-1),
                ..Default::default()
            });
        }
        responses.push(produce_response::TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses,
        });
    }
    ProduceResponse { responses, ..Default::default() }
}

fn fetch(state: &mut State, request: FetchRequest, refused: i16) -> FetchResponse {
    let mut responses = Vec::new();
    for topic in request.topics {
        let name = topic_name(state, topic.topic.clone(), topic.topic_id);
        let mut partitions = Vec::new();
        for asked in topic.partitions {
            let partition = &state.topics[&name][asked.partition as usize];
            let end = partition.end();
            let in_range = (partition.start..=end).contains(&asked.fetch_offset);
            let found = partition.batches.iter().filter(|b| b.header.last_offset() >= asked.fetch_offset);
            let records: Vec<Bytes> = found.map(|batch| batch.bytes.clone()).collect();
            let error_code = match (refused, in_range) {
                (0, true) => 0,
                (0, false) => ErrorCode::OffsetOutOfRange.code(),
                (code, _) => code,
            };
            let aborted = state.aborted.iter().map(|(producer_id, first_offset)| {
                fetch_response::AbortedTransaction { producer_id: *producer_id, first_offset: *first_offset }
            });
            partitions.push(fetch_response::PartitionData {
                partition_index: asked.partition,
                error_code,
                high_watermark: end,
                last_stable_offset: end,
                log_start_offset: partition.start,
                aborted_transactions: (request.isolation_level == 1).then(|| aborted.collect()),
                records: (error_code == 0).then(|| Records::from(records)),
                ..Default::default()
            });
        }
        responses.push(fetch_response::FetchableTopicResponse {
            topic: topic.topic,
            topic_id: topic.topic_id,
            partitions,
        });
    }
    FetchResponse { responses, ..Default::default() }
}

fn list_offsets(state: &State, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let partition = &state.topics[&topic.name][asked.partition_index as usize];
            list_offsets_response::ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                timestamp: -1,
                offset: if asked.timestamp == -2 { partition.start } else { partition.end() },
                ..Default::default()
            }
        });
        list_offsets_response::ListOffsetsTopicResponse { partitions: partitions.collect(), name: topic.name }
    });
    ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
}

fn join(state: &mut State, request: JoinGroupRequest, refused: i16) -> JoinGroupResponse {
    let mut response = JoinGroupResponse { error_code: refused, ..Default::default() };
    if refused != 0 {
        return response;
    }
    if request.member_id.is_empty() {
        state.members += 1;
        response.member_id = format!("member-{}", state.members).into();
        response.error_code = ErrorCode::MemberIdRequired.code();
        return response;
    }
    state.generation += 1;
    response.generation_id = state.generation;
    response.leader = request.member_id.clone();
    response.member_id = request.member_id.clone();
    response.protocol_type = Some("consumer".into());
    response.protocol_name = Some(request.protocols[0].name.clone());
    response.members = vec![join_group_response::JoinGroupResponseMember {
        member_id: request.member_id,
        group_instance_id: None,
        metadata: request.protocols[0].metadata.clone(),
    }];
    response
}

fn offset_fetch(state: &State, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let topics = request.topics.into_iter().flatten().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let key = TopicPartition::new(topic.name.clone(), *index);
            offset_fetch_response::OffsetFetchResponsePartition {
                partition_index: *index,
                committed_offset: state.committed.get(&key).copied().unwrap_or(-1),
                ..Default::default()
            }
        });
        offset_fetch_response::OffsetFetchResponseTopic { partitions: partitions.collect(), name: topic.name }
    });
    OffsetFetchResponse { topics: topics.collect(), ..Default::default() }
}

fn offset_commit(state: &mut State, request: OffsetCommitRequest, refused: i16) -> OffsetCommitResponse {
    let mut topics = Vec::new();
    for topic in request.topics {
        let mut partitions = Vec::new();
        for partition in &topic.partitions {
            let key = TopicPartition::new(topic.name.clone(), partition.partition_index);
            if refused == 0 {
                state.committed.insert(key, partition.committed_offset);
            }
            partitions.push(offset_commit_response::OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: refused,
            });
        }
        topics.push(offset_commit_response::OffsetCommitResponseTopic {
            name: topic.name,
            partitions,
            ..Default::default()
        });
    }
    OffsetCommitResponse { topics, ..Default::default() }
}

/// Puts a ready batch into a partition.
pub fn put(fake: &Fake, topic: &str, partition: usize, bytes: &Bytes) {
    let mut state = fake.state.lock().unwrap();
    for batch in split_batches(bytes) {
        state.topics.get_mut(topic).unwrap()[partition].append(&batch.unwrap().bytes).unwrap();
    }
}
