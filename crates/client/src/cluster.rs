//! Which broker to ask: connections by broker, and the cached answer to "who leads what".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::{MetadataRequest, MetadataResponse};
use protocol::{ErrorCode, Request, Str, Uuid};
use world::clock::{RealClock, SharedClock};
use world::rng::{RealRng, SharedRng};
use world::task::{self, Instant};

use crate::connection::Connection;
use crate::error::{Error, check, code_of};
use crate::retry::Tries;
use crate::transport::{TcpTransport, Transport};

/// Settings of a [`Client`]. The defaults are those of Kafka's clients.
#[derive(Clone)]
pub struct ClientOptions {
    /// `bootstrap.servers`: one of them is enough to find the others.
    pub bootstrap: Vec<Str>,
    /// `client.id`
    pub client_id: Str,
    /// `request.timeout.ms`: how long one answer may take.
    pub request_timeout: Duration,
    /// `socket.connection.setup.timeout.ms`
    pub connect_timeout: Duration,
    /// `default.api.timeout.ms`: how long a call may go on trying.
    pub api_timeout: Duration,
    /// `retry.backoff.ms`
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`
    pub retry_backoff_max: Duration,
    /// `metadata.max.age.ms`
    pub metadata_max_age: Duration,
    /// `allow.auto.create.topics`, for producers and consumers.
    pub allow_auto_create_topics: bool,
    pub transport: Arc<dyn Transport>,
    pub clock: SharedClock,
    pub rng: SharedRng,
}

impl ClientOptions {
    pub fn new<S: Into<Str>>(bootstrap: impl IntoIterator<Item = S>) -> ClientOptions {
        ClientOptions {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            client_id: "ottla".into(),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            api_timeout: Duration::from_secs(60),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            allow_auto_create_topics: true,
            transport: Arc::new(TcpTransport::new()),
            clock: RealClock::shared(),
            rng: RealRng::shared(),
        }
    }

    pub fn client_id(mut self, client_id: impl Into<Str>) -> Self {
        self.client_id = client_id.into();
        self
    }

    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = transport;
        self
    }

    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    pub fn rng(mut self, rng: SharedRng) -> Self {
        self.rng = rng;
        self
    }

    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    pub fn api_timeout(mut self, limit: Duration) -> Self {
        self.api_timeout = limit;
        self
    }
}

/// What a connection is for. A Fetch may wait at the broker for half a second, and answers come in order, so
/// heartbeats and produce requests have connections of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    General,
    Produce,
    Fetch,
    Coordinator,
}

/// A cluster to talk to; cheap to clone. Connects when it is first used.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    options: ClientOptions,
    bootstrap_ids: Vec<i32>,
    nodes: Mutex<BTreeMap<(Lane, i32), Arc<Node>>>,
    cluster: RwLock<Arc<Cluster>>,
    /// Topics that the cache keeps up to date.
    interest: Mutex<BTreeSet<Str>>,
    refresh: tokio::sync::Mutex<()>,
    outdated: AtomicBool,
    next_any: AtomicUsize,
}

#[derive(Default)]
struct Node {
    state: tokio::sync::Mutex<NodeState>,
}

#[derive(Default)]
struct NodeState {
    address: Str,
    connection: Option<Arc<Connection>>,
    failures: u32,
    not_before: Option<Instant>,
}

/// What the brokers last said about themselves.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Counts refreshes; 0 is "never asked".
    pub version: u64,
    pub cluster_id: Option<Str>,
    /// −1 when unknown.
    pub controller: i32,
    pub brokers: BTreeMap<i32, Broker>,
    pub topics: BTreeMap<Str, TopicInfo>,
    taken_at: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub host: Str,
    pub port: i32,
    pub rack: Option<Str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: Str,
    pub id: Uuid,
    pub internal: bool,
    /// Why the topic cannot be used, if it cannot.
    pub error: ErrorCode,
    /// By partition number.
    pub partitions: Vec<PartitionInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    pub partition: i32,
    /// −1 when there is none.
    pub leader: i32,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
    pub error: ErrorCode,
}

impl Cluster {
    pub fn topic(&self, name: &str) -> Option<&TopicInfo> {
        self.topics.get(name).filter(|topic| topic.error == ErrorCode::None)
    }

    /// The topic's name and id, if its broker is new enough to have ids.
    pub(crate) fn topic_id(&self, name: &str) -> Option<(Str, Uuid)> {
        let topic = self.topic(name)?;
        (!topic.id.is_zero()).then(|| (topic.name.clone(), topic.id))
    }

    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionInfo> {
        self.topic(topic)?.partitions.iter().find(|info| info.partition == partition)
    }

    /// The broker that leads a partition, if there is one.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let info = self.partition(topic, partition)?;
        (info.leader >= 0 && self.brokers.contains_key(&info.leader)).then_some(info.leader)
    }
}

/// Broker ids of bootstrap addresses: negative, so that they never meet a real one.
fn bootstrap_id(index: usize) -> i32 {
    -2 - index as i32
}

impl Client {
    pub fn new(options: ClientOptions) -> Client {
        Client(Arc::new(Inner {
            bootstrap_ids: (0..options.bootstrap.len()).map(bootstrap_id).collect(),
            options,
            nodes: Mutex::default(),
            cluster: RwLock::default(),
            interest: Mutex::default(),
            refresh: tokio::sync::Mutex::default(),
            outdated: AtomicBool::new(false),
            next_any: AtomicUsize::new(0),
        }))
    }

    pub fn options(&self) -> &ClientOptions {
        &self.0.options
    }

    pub fn admin(&self) -> crate::Admin {
        crate::Admin::new(self.clone())
    }

    pub async fn producer(&self, options: crate::ProducerOptions) -> Result<crate::Producer, Error> {
        crate::Producer::new(self.fork(), options).await
    }

    pub fn consumer(&self, options: crate::ConsumerOptions) -> Result<crate::Consumer, Error> {
        crate::Consumer::new(self.fork(), options)
    }

    /// The same cluster over connections of its own. A member that waits in JoinGroup blocks its connection
    /// until the whole group has come: two members on one connection would wait for one another.
    fn fork(&self) -> Client {
        let fork = Client::new(self.0.options.clone());
        *fork.0.cluster.write() = self.cluster();
        fork
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.0.options.clock.now_ms()
    }

    /// `retry.backoff.ms` doubled with each failure up to its maximum, and up to 20 % more or less, so that
    /// many clients do not come back together.
    pub(crate) fn backoff(&self, failures: u32) -> Duration {
        let options = &self.0.options;
        let base = options.retry_backoff.saturating_mul(1 << failures.min(16)).min(options.retry_backoff_max);
        let percent = 80 + self.0.options.rng.below(41) as u32;
        base * percent / 100
    }

    /// What is known now; may be empty.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.0.cluster.read().clone()
    }

    /// The cache is known to be wrong: the next one who needs it asks again.
    pub(crate) fn outdated(&self) {
        self.0.outdated.store(true, Ordering::Release);
    }

    /// The cache, asked for again if it is too old, known to be wrong, or lacks one of `topics`.
    pub(crate) async fn fresh_cluster(&self, topics: &[Str]) -> Result<Arc<Cluster>, Error> {
        {
            let mut interest = self.0.interest.lock();
            for topic in topics {
                if !interest.contains(topic) {
                    interest.insert(topic.detached());
                }
            }
        }
        let seen = self.cluster();
        if self.is_stale(topics) { self.refresh(seen.version).await } else { Ok(seen) }
    }

    /// The cache is too old, known to be wrong, or lacks one of these topics.
    pub(crate) fn is_stale(&self, topics: &[Str]) -> bool {
        let seen = self.cluster();
        let age_ok = seen.taken_at.is_some_and(|at| at.elapsed() < self.0.options.metadata_max_age);
        let known = topics.iter().all(|topic| seen.topic(topic).is_some());
        !age_ok || !known || self.0.outdated.load(Ordering::Acquire)
    }

    /// Asks for metadata unless somebody else just did.
    pub(crate) async fn refresh(&self, seen_version: u64) -> Result<Arc<Cluster>, Error> {
        let _one_at_a_time = self.0.refresh.lock().await;
        let current = self.cluster();
        if current.version > seen_version {
            return Ok(current);
        }
        self.0.outdated.store(false, Ordering::Release);
        let topics: Vec<Str> = self.0.interest.lock().iter().cloned().collect();
        let response = self.metadata(Some(&topics), self.0.options.allow_auto_create_topics).await;
        let response = response.inspect_err(|_| self.outdated())?;
        let mut cluster = snapshot(&response);
        cluster.version = current.version + 1;
        let cluster = Arc::new(cluster);
        *self.0.cluster.write() = cluster.clone();
        Ok(cluster)
    }

    /// One Metadata request; `None` asks for all topics. Does not touch the cache.
    pub(crate) async fn metadata(
        &self,
        topics: Option<&[Str]>,
        create: bool,
    ) -> Result<MetadataResponse, Error> {
        let request = MetadataRequest {
            topics: topics.map(|topics| {
                topics
                    .iter()
                    .map(|name| MetadataRequestTopic { name: Some(name.clone()), ..Default::default() })
                    .collect()
            }),
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        let response = self.call_any(&request, 12).await?;
        check(response.error_code, None)?;
        Ok(response)
    }

    /// Metadata of the given topics (or all) from the cluster, now. Topics that do not exist carry their error.
    pub async fn describe(&self, topics: Option<&[Str]>) -> Result<Cluster, Error> {
        let mut tries = Tries::within(self, self.0.options.api_timeout);
        loop {
            match self.metadata(topics, false).await {
                Ok(response) => return Ok(snapshot(&response)),
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    /// Waits until the topic is known and usable. A topic that does not exist is waited for as well: it may be
    /// about to be created, by us or by someone else.
    pub(crate) async fn topic(&self, name: &Str, limit: Duration) -> Result<Arc<Cluster>, Error> {
        let mut tries = Tries::within(self, limit);
        loop {
            let error = match self.fresh_cluster(std::slice::from_ref(name)).await {
                Ok(cluster) if cluster.topic(name).is_some_and(|topic| !topic.partitions.is_empty()) => {
                    return Ok(cluster);
                }
                Ok(cluster) => {
                    let code =
                        cluster.topics.get(name).map_or(ErrorCode::UnknownTopicOrPartition, |t| t.error);
                    let code = if code == ErrorCode::None { ErrorCode::LeaderNotAvailable } else { code };
                    Error::Kafka { code, message: format!("topic {name}").into() }
                }
                Err(error) => error,
            };
            tries.pause(error).await?;
            self.outdated();
        }
    }

    /// Asks any broker, those that answered before first.
    pub(crate) async fn call_any<R: Request>(&self, request: &R, cap: i16) -> Result<R::Response, Error> {
        let connection = self.any().await?;
        connection.call(request, cap, self.0.options.request_timeout).await
    }

    pub(crate) async fn call_node<R: Request>(
        &self,
        lane: Lane,
        node: i32,
        request: &R,
        cap: i16,
    ) -> Result<R::Response, Error> {
        let connection = self.node(lane, node).await?;
        connection.call(request, cap, self.0.options.request_timeout).await
    }

    /// A connection to any broker: the known ones in turn, then the bootstrap addresses.
    pub(crate) async fn any(&self) -> Result<Arc<Connection>, Error> {
        let cluster = self.cluster();
        let known: Vec<i32> = cluster.brokers.keys().copied().collect();
        let start = self.0.next_any.fetch_add(1, Ordering::Relaxed);
        let mut last = Error::invalid("no bootstrap server is given");
        let in_turn = (0..known.len()).map(|index| known[(start + index) % known.len()]);
        for id in in_turn.chain(self.0.bootstrap_ids.iter().copied()) {
            match self.node(Lane::General, id).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection to the controller if one is known, else to any broker: brokers hand such requests on.
    pub(crate) async fn controller(&self) -> Result<Arc<Connection>, Error> {
        let cluster = self.fresh_cluster(&[]).await?;
        if cluster.brokers.contains_key(&cluster.controller)
            && let Ok(connection) = self.node(Lane::General, cluster.controller).await
        {
            return Ok(connection);
        }
        self.any().await
    }

    /// The connection to a broker, made if there is none. A broker that just refused is left alone for the
    /// time of the backoff.
    pub(crate) async fn node(&self, lane: Lane, id: i32) -> Result<Arc<Connection>, Error> {
        let address = self.address(id)?;
        let node = self.0.nodes.lock().entry((lane, id)).or_default().clone();
        let mut state = node.state.lock().await;
        if state.address != address {
            *state = NodeState { address: address.clone(), ..NodeState::default() };
        }
        if let Some(connection) = &state.connection {
            if !connection.is_broken() {
                return Ok(connection.clone());
            }
            state.connection = None;
        }
        if state.not_before.is_some_and(|at| task::now() < at) {
            return Err(Error::Connect { address, reason: "it failed a moment ago".into() });
        }
        let options = &self.0.options;
        let opened =
            Connection::open(&*options.transport, &address, &options.client_id, options.connect_timeout)
                .await;
        match opened {
            Ok(connection) => {
                *state = NodeState { address, connection: Some(connection.clone()), ..NodeState::default() };
                Ok(connection)
            }
            Err(error) => {
                // Half the backoff of those who call: whoever waited out his own finds the door open.
                state.not_before = Some(task::now() + self.backoff(state.failures) / 2);
                state.failures += 1;
                self.outdated();
                Err(error)
            }
        }
    }

    fn address(&self, id: i32) -> Result<Str, Error> {
        if let Some(index) = self.0.bootstrap_ids.iter().position(|known| *known == id) {
            return Ok(self.0.options.bootstrap[index].clone());
        }
        let cluster = self.cluster();
        match cluster.brokers.get(&id) {
            Some(broker) if broker.host.contains(':') => {
                Ok(format!("[{}]:{}", broker.host, broker.port).into())
            }
            Some(broker) => Ok(format!("{}:{}", broker.host, broker.port).into()),
            None => Err(Error::Kafka {
                code: ErrorCode::BrokerNotAvailable,
                message: format!("broker {id} is not known").into(),
            }),
        }
    }
}

fn snapshot(response: &MetadataResponse) -> Cluster {
    let brokers = response.brokers.iter().map(|broker| {
        let info = Broker {
            id: broker.node_id,
            host: broker.host.detached(),
            port: broker.port,
            rack: broker.rack.as_ref().map(Str::detached),
        };
        (broker.node_id, info)
    });
    let topics = response.topics.iter().filter_map(|topic| {
        let name = topic.name.as_ref()?.detached();
        let mut partitions: Vec<PartitionInfo> = topic
            .partitions
            .iter()
            .map(|partition| PartitionInfo {
                partition: partition.partition_index,
                leader: partition.leader_id,
                leader_epoch: partition.leader_epoch,
                replicas: partition.replica_nodes.clone(),
                in_sync: partition.isr_nodes.clone(),
                error: code_of(partition.error_code),
            })
            .collect();
        partitions.sort_by_key(|partition| partition.partition);
        let info = TopicInfo {
            name: name.clone(),
            id: topic.topic_id,
            internal: topic.is_internal,
            error: code_of(topic.error_code),
            partitions,
        };
        Some((name, info))
    });
    Cluster {
        version: 0,
        cluster_id: response.cluster_id.as_ref().map(Str::detached),
        controller: response.controller_id,
        brokers: brokers.collect(),
        topics: topics.collect(),
        taken_at: Some(task::now()),
    }
}
