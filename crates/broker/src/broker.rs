//! The broker: one frame from its header to its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use catalog::Catalog;
use catalog::config::BrokerConfig;
use commitlog::CommitLog;
use futures_util::future::BoxFuture;
use protocol::wire::Reader;
use protocol::{ApiKey, ErrorCode, Str, frame};
use world::clock::SharedClock;
use world::rng::Rng;

use crate::apis;
use crate::authn::tokens::{self, Tokens};
use crate::authn::{Authn, AuthnCounters, NotOpen, SaslListeners};
use crate::authorizer::AuthorizerSettings;
use crate::cluster::{Cluster, ClusterOptions};
use crate::configs::Configs;
use crate::connection::Connection;
use crate::coordinators::StateMemory;
use crate::counters::Counters;
use crate::fetch_sessions::FetchSessions;
use crate::freshness::Freshness;
use crate::groups::{GroupCounts, Groups, GroupsOptions};
use crate::limits::Limits;
use crate::peers::{Others, Peers};
use crate::producer_ids::ProducerIds;
use crate::quotas::{self, UsageOfQuotas};
use crate::request::{CloseReason, Handling, Outcome, RequestContext};
use crate::share::{ShareCounts, Sharing, SharingOptions};
use crate::share_coordinator::{ShareCoordinator, ShareCoordinatorOptions, ShareStateCounts};
use crate::telemetry::Telemetry;
use crate::topics::Topics;
use crate::transactions::{TransactionCounts, Transactions, TransactionsOptions};

/// How long a request waits for a bucket that does not say whether another broker has taken over.
const KNOW_ENDS_MAX: Duration = Duration::from_secs(5);

/// Where clients of one listener reach this broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub listener_name: Str,
    /// Kafka's `SecurityProtocol` ids: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
    pub host: Str,
    pub port: u16,
}

pub struct BrokerOptions {
    pub clock: SharedClock,
    pub rng: Arc<dyn Rng>,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub config: Arc<BrokerConfig>,
    pub node_id: i32,
    /// One per listener; the first one answers connections of listeners without an endpoint.
    pub advertised: Vec<Endpoint>,
    /// Calls to other brokers of the cluster. Without them everything takes a little longer.
    pub peers: Option<Arc<dyn Peers>>,
    /// What listeners with SASL ask of their clients; whoever has it may change it while the broker runs.
    pub sasl: Arc<SaslListeners>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("no endpoint is advertised")]
    NoEndpoint,
    #[error("the group coordinator: {0}")]
    Groups(String),
}

pub struct Broker {
    pub(crate) clock: SharedClock,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) log: Arc<CommitLog>,
    pub(crate) node_id: i32,
    pub(crate) advertised: Vec<Endpoint>,
    pub(crate) limits: Limits,
    state_memory: Arc<StateMemory>,
    pub(crate) configs: Arc<Configs>,
    pub(crate) authorizer: AuthorizerSettings,
    pub(crate) quotas: UsageOfQuotas,
    pub(crate) topics: Arc<Topics>,
    pub(crate) freshness: Arc<Freshness>,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) groups: Arc<Groups>,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) share_coordinator: Arc<ShareCoordinator>,
    pub(crate) sharing: Arc<Sharing>,
    /// None: the broker is alone.
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) telemetry: Telemetry,
    pub(crate) authn: Arc<Authn>,
    counters: Arc<Counters>,
    is_shutting_down: AtomicBool,
}

impl Broker {
    pub async fn start(options: BrokerOptions) -> Result<Arc<Broker>, StartError> {
        let BrokerOptions { clock, rng, catalog, log, config, node_id, advertised, peers, sasl } = options;
        if advertised.is_empty() {
            return Err(StartError::NoEndpoint);
        }
        let limits = Limits::of(&config);
        let lease_ttl = Duration::from_millis(config.bucket_lease_ttl_ms().max(1) as u64);
        let authorizer = AuthorizerSettings::of(&config);
        let quotas = UsageOfQuotas::new(&config);
        let configs = Arc::new(Configs::new(config));
        let counters = Arc::new(Counters::new(limits.topic_counters_max));
        let topics = Arc::new(Topics::new(
            node_id,
            rng.clone(),
            catalog.clone(),
            log.clone(),
            configs.clone(),
            counters.clone(),
            limits.clone(),
        ));
        // Partitions opened with the log learn their topics' settings; what a crash left unmade is made.
        let ids: Vec<_> = catalog.read().topics().map(|topic| topic.id).collect();
        topics.follow_catalog(ids);
        let freshness = Freshness::new(catalog.clone());
        let state_memory = Arc::new(StateMemory::new(limits.coordinator_memory_bytes_max));
        let groups = Groups::start(GroupsOptions {
            node_id,
            clock: clock.clone(),
            rng: rng.clone(),
            catalog: catalog.clone(),
            log: log.clone(),
            configs: configs.clone(),
            topics: topics.clone(),
            freshness: freshness.clone(),
            memory: state_memory.clone(),
        })
        .await?;
        let others = peers.map(|peers| Arc::new(Others { peers }));
        let transactions = Transactions::start(TransactionsOptions {
            node_id,
            clock: clock.clone(),
            catalog: catalog.clone(),
            log: log.clone(),
            configs: configs.clone(),
            topics: topics.clone(),
            freshness: freshness.clone(),
            groups: groups.clone(),
            others: others.clone(),
            memory: state_memory.clone(),
        });
        let share_coordinator = ShareCoordinator::start(ShareCoordinatorOptions {
            node_id,
            clock: clock.clone(),
            catalog: catalog.clone(),
            log: log.clone(),
            configs: configs.clone(),
            topics: topics.clone(),
            freshness: freshness.clone(),
            others: others.clone(),
            memory: state_memory.clone(),
        });
        let sharing = Sharing::new(SharingOptions {
            node_id,
            clock: clock.clone(),
            catalog: catalog.clone(),
            log: log.clone(),
            configs: configs.clone(),
            topics: topics.clone(),
            counters: counters.clone(),
            freshness: freshness.clone(),
            others: others.clone(),
            coordinator: share_coordinator.clone(),
            memory: state_memory.clone(),
        });
        let cluster = Cluster::start(ClusterOptions {
            clock: clock.clone(),
            catalog: catalog.clone(),
            log: log.clone(),
            configs: configs.clone(),
            topics: topics.clone(),
            groups: groups.clone(),
            transactions: transactions.clone(),
            counters: counters.clone(),
            others,
            lease_ttl,
        });
        let telemetry = Telemetry::new(clock.clone(), rng.clone(), catalog.clone());
        let tokens = Tokens::new(configs.started_with().get("delegation.token.secret.key"));
        let authn = Authn::new(clock.clone(), rng.clone(), catalog.clone(), freshness.clone(), sasl, tokens);
        let authn = Arc::new(authn);
        if authn.tokens.are_enabled() {
            let every = Duration::from_millis(
                configs.started_with().delegation_token_expiry_check_interval_ms().max(1) as u64,
            );
            drop(world::task::spawn(tokens::sweep(Arc::downgrade(&authn), node_id, every)));
        }
        let fetch_sessions = FetchSessions::new(clock.clone(), rng, limits.clone());
        Ok(Arc::new(Broker {
            producer_ids: ProducerIds::new(catalog.clone()),
            telemetry,
            authn,
            clock,
            catalog,
            log,
            node_id,
            advertised,
            limits,
            state_memory,
            configs,
            authorizer,
            quotas,
            topics,
            freshness,
            fetch_sessions,
            groups,
            transactions,
            share_coordinator,
            sharing,
            cluster,
            counters,
            is_shutting_down: AtomicBool::new(false),
        }))
    }

    /// Takes one request: a frame without its length prefix. What Produce queues is queued on return.
    pub fn handle(self: &Arc<Self>, connection: &Arc<Connection>, frame: Bytes) -> Handling {
        if self.is_shutting_down.load(Ordering::Relaxed) {
            return close(CloseReason::ShuttingDown);
        }
        if connection.sends_raw_token() {
            return apis::sasl_authenticate::raw(self.clone(), connection.clone(), frame);
        }
        self.transactions.saw_connection(connection.id);
        let api_key = frame.get(..2).map(|key| i16::from_be_bytes([key[0], key[1]]));
        let undecodable = |error| close(CloseReason::Undecodable { api_key, error });
        let mut body = Reader::of_request(frame);
        let header = match frame::decode_request_header(&mut body) {
            Ok(header) => header,
            Err(error) => return undecodable(error),
        };
        let api_key = match ApiKey::try_from(header.api_key) {
            Ok(api_key) => api_key,
            Err(error) => return undecodable(error),
        };
        if let Some(sasl) = connection.sasl()
            && let Err(why) = sasl.check(api_key, || self.clock.monotonic())
        {
            return close(match why {
                NotOpen::NotAuthenticated => CloseReason::NotAuthenticated { api: api_key.name() },
                NotOpen::Expired => {
                    self.authn.count(|counters| &counters.expired);
                    CloseReason::SessionExpired
                }
            });
        }
        let context = RequestContext {
            broker: self.clone(),
            connection: connection.clone(),
            api_key,
            api_version: header.api_version,
            correlation_id: header.correlation_id,
            client_id: header.client_id,
        };
        let version = header.api_version;
        match apis::find(api_key) {
            Some(api) if api.answers(version) => {
                let hand_over = || (api.handler)(context.clone(), body);
                quotas::timed(&context, hand_over).unwrap_or_else(undecodable)
            }
            // KIP-511: a client that is newer than we are must learn what we speak.
            _ if api_key == ApiKey::ApiVersions => apis::api_versions::unsupported(context),
            _ => close(CloseReason::UnsupportedVersion { api: api_key.name(), version }),
        }
    }

    /// `None` when a produce request may come; else what to wait for before its frame is handed over. The log
    /// bounds its unflushed bytes this way: nothing is dropped, the socket is not read.
    pub fn produce_room(&self) -> Option<BoxFuture<'static, ()>> {
        if self.log.has_room() {
            return None;
        }
        let log = self.log.clone();
        Some(Box::pin(async move { log.room().await }))
    }

    /// May anybody do anything with what no ACL names (`allow.everyone.if.no.acl.found`, or what follows from the listeners)?
    pub fn allows_everyone(&self) -> bool {
        self.authorizer.allow_everyone
    }

    /// New connections of an address in a second (`connection_creation_rate`), if there is a quota for it.
    pub fn connection_rate(&self, address: std::net::IpAddr) -> Option<u32> {
        quotas::connection_rate(self.catalog.read().quotas(), address)
    }

    /// What groups, offsets, transactions and share partitions weigh, about.
    pub fn coordinator_memory_bytes(&self) -> u64 {
        self.state_memory.used()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What clients have pushed of their own metrics.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    pub fn authn_counters(&self) -> &AuthnCounters {
        &self.authn.counters
    }

    /// What this broker runs with now, dynamic overrides included.
    pub fn config(&self) -> Arc<BrokerConfig> {
        self.configs.broker(&self.catalog.read())
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn node_id(&self) -> i32 {
        self.node_id
    }

    /// Connections that hold an incremental fetch session (KIP-227), and their partitions.
    pub fn fetch_session_counts(&self) -> crate::fetch_sessions::SessionCounts {
        self.fetch_sessions.counts()
    }

    /// To be called when the catalog has changed, and when the log has opened or closed partitions. Any number of tasks may
    /// call it at any time; when nothing has changed it does nothing.
    pub fn follow_catalog(&self) {
        self.groups.follow_catalog();
        self.transactions.follow_catalog();
        self.share_coordinator.follow_catalog();
        self.sharing.follow_catalog();
    }

    /// Traffic of what this broker leads. None: it has no others.
    pub fn leader_bytes_per_second(&self) -> Option<u64> {
        self.cluster.as_ref().map(|cluster| cluster.load())
    }

    /// Groups, members and committed offsets, and how many partitions of them are still being read.
    pub fn group_counts(&self) -> GroupCounts {
        self.groups.counts()
    }

    /// Transactional ids, and how many of their transactions are under way.
    pub fn transaction_counts(&self) -> TransactionCounts {
        self.transactions.counts()
    }

    /// Share partitions that this broker keeps the state of.
    pub fn share_state_counts(&self) -> ShareStateCounts {
        self.share_coordinator.counts()
    }

    /// Share sessions, and share partitions in memory.
    pub fn share_counts(&self) -> ShareCounts {
        self.sharing.counts()
    }

    /// Returns when our partitions are known to have everything that anybody was told before the call. An error: they may lack
    /// something, because another broker has taken over.
    pub(crate) async fn know_ends(&self) -> Result<(), ErrorCode> {
        let error = match world::task::timeout(KNOW_ENDS_MAX, self.log.barrier()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the bucket does not answer".to_owned(),
        };
        tracing::debug!("the ends of our partitions are not known: {error}");
        self.freshness.catch_up_soon();
        Err(ErrorCode::NotLeaderOrFollower)
    }

    /// Have we begun to lead this partition a moment ago? In a directory nobody asks before all are open.
    pub(crate) fn is_new_leader_of(&self, id: &protocol::TopicIdPartition) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.is_new_leader_of(id))
    }

    /// Lets all live brokers know what is new, so that clients who go there next find it. Not waited for very long.
    pub(crate) async fn tell_others(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.tell_others().await;
        }
    }

    /// Waits until every live broker has what the catalog says up to a position. False: not by then (monotonic time).
    pub(crate) async fn applied_everywhere(&self, position: u64, until: Duration) -> bool {
        match &self.cluster {
            Some(cluster) => {
                cluster.applied_everywhere(position, until.saturating_sub(self.clock.monotonic())).await
            }
            None => true,
        }
    }

    /// In a bucket, before the end: others get what this broker leads, while its clients are told so.
    pub async fn leave(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.leave().await;
        }
    }

    /// Takes no further request and lets the coordinators finish. Groups stay as they are: members find them
    /// again after a restart.
    pub async fn shutdown(&self) {
        self.is_shutting_down.store(true, Ordering::Relaxed);
        if let Some(cluster) = &self.cluster {
            cluster.stop();
        }
        self.sharing.stop();
        self.share_coordinator.shutdown().await;
        self.transactions.shutdown().await;
        self.groups.shutdown().await;
    }

    /// The endpoint that answers a client of `listener`.
    pub(crate) fn endpoint(&self, listener: &str) -> &Endpoint {
        self.advertised
            .iter()
            .find(|endpoint| endpoint.listener_name == listener)
            .unwrap_or(&self.advertised[0])
    }
}

fn close(reason: CloseReason) -> Handling {
    Handling::Sequential(Box::pin(std::future::ready(Outcome::Close(reason))))
}
