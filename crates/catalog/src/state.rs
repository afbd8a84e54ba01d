//! The state of the cluster: what all records up to a position add up to.
//!
//! [`State::apply`] is pure and total: the same records in the same order give the same state on every broker,
//! byte for byte ([`State::hash`]). No clock, no randomness, no setting is read in here. A record whose
//! precondition does not hold changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{Str, Uuid};

use world::broken;

use crate::acl::{Acl, Acls};
use crate::credentials::{Credentials, UndoCredential};
use crate::encoding;
use crate::level::{self, Levels, OTTLA_VERSION};
use crate::precondition::Precondition;
use crate::quota::{QuotaEntity, QuotaValues, Quotas};
use crate::record::{BrokerEndpoint, MetadataRecord, ResourceType, ShardChange};
use crate::replicas::Replicas;
use crate::snapshot;
use crate::topic_name;

/// More partitions than any topic can have; part of the rules, so never a setting.
pub const TOPIC_PARTITIONS_MAX: u32 = 1_000_000;

/// Overrides of one resource. Shared, so that a snapshot of them can be kept without the guard.
pub type ConfigMap = Arc<BTreeMap<Str, Str>>;

/// Brokers that are gone whose node ids stay with their addresses; then the one that has been gone longest loses its id.
const GONE_NODE_IDS_MAX: usize = 1000;

/// The newest incarnation of a node id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    pub node_id: i32,
    /// The position of its registration (R1).
    pub wal_id: u64,
    pub incarnation: Uuid,
    pub rack: Option<Str>,
    pub endpoints: Vec<BrokerEndpoint>,
    /// What its build knows.
    pub levels: Levels,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub id: Uuid,
    pub name: Str,
    /// One of Kafka's own topics (`__consumer_offsets` …).
    pub internal: bool,
    pub replication_factor: i16,
    pub partitions: Vec<PartitionInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    pub leader: i32,
    pub leader_epoch: i32,
    /// Node ids, the preferred leader first. Shared between partitions placed alike.
    pub replicas: Arc<[i32]>,
    /// In a bucket: nobody if the replicas were assigned by hand.
    pub isr: Arc<[i32]>,
}

impl PartitionInfo {
    /// In a bucket: the nodes that somebody has asked for, the one that shall lead first.
    pub fn assignment(&self) -> Option<&[i32]> {
        self.isr.is_empty().then_some(&*self.replicas)
    }

    /// In a bucket: the data is where it was, and only the leader is another.
    fn lead(&mut self, node_id: i32) {
        if node_id != self.leader && self.assignment().is_none() {
            self.stand_alone(node_id);
        }
        self.leader = node_id;
        self.leader_epoch += 1;
    }

    fn stand_alone(&mut self, node_id: i32) {
        self.replicas = [node_id].into();
        self.isr = self.replicas.clone();
    }
}

/// The WAL of one incarnation in a bucket, by the position of its registration (R1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wal {
    pub node_id: i32,
    pub is_fenced: bool,
    /// Its slots are those below; no other ever counts.
    pub sealed_at: Option<u64>,
    /// Slots below are rewritten, and may be gone.
    pub mark: u64,
    /// The incarnation that rewrites it: its owner until it is sealed.
    pub rewriter: u64,
    /// Partitions have gone to others while it was at work; what they have in it lies in slots below.
    pub moved_to: u64,
}

impl Wal {
    /// The slots that anybody but its owner may have to read: what is not rewritten, up to the end, or up to where partitions
    /// went elsewhere.
    pub fn slots_for_others(&self) -> std::ops::Range<u64> {
        self.mark..self.sealed_at.unwrap_or(self.moved_to).max(self.mark)
    }
}

/// Where a shard of the segment manifest stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    pub version: u64,
    pub object: Str,
    pub wal_mark: u64,
}

/// The last request of a live incarnation and what became of it (R16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastRequest {
    pub request: u64,
    pub position: u64,
    /// The code of the precondition that refused it.
    pub rejected: Option<u16>,
}

/// One request of one writer: all of its records count, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// WAL id of the incarnation that asks; 0 for the request that registers it.
    pub writer: u64,
    /// Grows by at least one per request of a writer.
    pub request: u64,
    pub records: Vec<MetadataRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Rejected(Precondition),
    /// A blind retry of the writer's last request, which was accepted at this position.
    Repeated {
        position: u64,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub(crate) position: u64,
    pub(crate) cluster_id: Str,
    pub(crate) brokers: BTreeMap<i32, Broker>,
    pub(crate) writers: BTreeMap<u64, LastRequest>,
    pub(crate) topics: BTreeMap<Str, Arc<Topic>>,
    pub(crate) topic_ids: BTreeMap<Uuid, Arc<Topic>>,
    /// Names with '.' or '_' as metrics show them → the topic that has it.
    pub(crate) collisions: BTreeMap<Str, Str>,
    pub(crate) configs: BTreeMap<ResourceType, BTreeMap<Str, ConfigMap>>,
    pub(crate) next_producer_id: i64,
    pub(crate) features: BTreeMap<Str, i16>,
    pub(crate) manifest: BTreeMap<u32, ManifestHead>,
    /// The manifest of the second tier, of directories only; its heads have no mark.
    pub(crate) tier: BTreeMap<u32, ManifestHead>,
    pub(crate) partition_count: u64,
    /// Of buckets only. A node whose WALs are several leads its partitions with the oldest that is not sealed.
    pub(crate) wals: BTreeMap<u64, Wal>,
    pub(crate) credentials: Credentials,
    pub(crate) acls: Acls,
    pub(crate) quotas: Quotas,
}

impl State {
    /// The position of the newest log frame in this state; 0 = nothing yet.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// 22 characters, url-safe base64 of 16 random bytes, as Kafka's.
    pub fn cluster_id(&self) -> &Str {
        &self.cluster_id
    }

    pub fn broker(&self, node_id: i32) -> Option<&Broker> {
        self.brokers.get(&node_id)
    }

    /// Was this incarnation registered, and has no later one taken its place?
    pub fn is_writer(&self, wal_id: u64) -> bool {
        self.writers.contains_key(&wal_id)
    }

    pub fn wal(&self, wal_id: u64) -> Option<&Wal> {
        self.wals.get(&wal_id)
    }

    /// The WALs of a bucket, the oldest first.
    pub fn wals(&self) -> impl DoubleEndedIterator<Item = (u64, &Wal)> {
        self.wals.iter().map(|(wal_id, wal)| (*wal_id, wal))
    }

    /// Does this WAL have the partitions of its node? Of several that are not sealed the oldest has.
    pub fn leads(&self, wal_id: u64) -> bool {
        let Some(wal) = self.wals.get(&wal_id).filter(|wal| wal.sealed_at.is_none()) else { return false };
        let mut earlier = self.wals.range(..wal_id).map(|(_, earlier)| earlier);
        earlier.all(|earlier| earlier.node_id != wal.node_id || earlier.sealed_at.is_some())
    }

    /// Could [`MetadataRecord::ForgetWal`] name it?
    pub fn is_forgettable(&self, wal_id: u64) -> bool {
        let Some(wal) = self.wals.get(&wal_id) else { return false };
        let is_rewritten = wal.sealed_at == Some(wal.mark);
        let has_duties = || self.wals.iter().any(|(other, wal)| *other != wal_id && wal.rewriter == wal_id);
        let is_registered = || self.brokers.values().any(|broker| broker.wal_id == wal_id);
        is_rewritten && !has_duties() && !is_registered() && !self.writers.contains_key(&wal_id)
    }

    /// Did somebody have this WAL who can do nothing any more? Of one that is not known: it is forgotten, unless this state is older
    /// than its registration.
    pub fn is_over(&self, wal_id: u64) -> bool {
        self.wals.get(&wal_id).map_or(wal_id <= self.position, |wal| wal.is_fenced)
    }

    /// The partitions that this WAL has now: topic id and index.
    pub fn led_by(&self, wal_id: u64) -> Vec<(Uuid, u32)> {
        let Some(wal) = self.wals.get(&wal_id).filter(|_| self.leads(wal_id)) else { return Vec::new() };
        let led = self.topics.values().flat_map(|topic| {
            (0..)
                .zip(&topic.partitions)
                .filter(|(_, info)| info.leader == wal.node_id)
                .map(|(index, _)| (topic.id, index))
        });
        led.collect()
    }

    /// May this incarnation get partitions? In a bucket not before all earlier WALs of its node are sealed.
    pub fn can_lead(&self, wal_id: u64) -> bool {
        self.can_lead_without(wal_id, wal_id)
    }

    /// The same once `without` is sealed.
    fn can_lead_without(&self, wal_id: u64, without: u64) -> bool {
        let node_id = self.wals.get(&wal_id).map(|wal| wal.node_id);
        let mut earlier = self.wals.range(..wal_id).filter(|(earlier, _)| **earlier != without);
        self.is_writer(wal_id)
            && earlier.all(|(_, wal)| Some(wal.node_id) != node_id || wal.sealed_at.is_some())
    }

    /// Ordered by node id.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// Those whose newest incarnation is not fenced, ordered by node id.
    pub fn live_brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values().filter(|broker| self.is_writer(broker.wal_id))
    }

    pub fn is_live(&self, node_id: i32) -> bool {
        self.broker(node_id).is_some_and(|broker| self.is_writer(broker.wal_id))
    }

    /// The node whose live incarnation is the oldest: what one broker has to do for all of them it does.
    pub fn controller(&self) -> Option<i32> {
        self.live_brokers().min_by_key(|broker| broker.wal_id).map(|broker| broker.node_id)
    }

    /// Who should lead a partition whose replicas were assigned: the first of them that can. None: it is led as it should.
    pub fn misled(&self, info: &PartitionInfo) -> Option<&Broker> {
        let able = |node_id: &i32| self.broker(*node_id).filter(|broker| self.can_lead(broker.wal_id));
        info.assignment()?.iter().find_map(able).filter(|broker| broker.node_id != info.leader)
    }

    /// For whoever tells clients about partitions.
    pub fn replicas(&self) -> Replicas<'_> {
        Replicas::new(self)
    }

    /// The id of a broker that starts at these endpoints, where the first one is for clients: what it had when it was here last, or else
    /// the lowest that nobody ever had. A client keeps its connections by node id: it would go on asking the old address for what an id
    /// leads that has gone to another one.
    pub fn free_node_id(&self, endpoints: &[BrokerEndpoint]) -> i32 {
        let gone = || self.brokers().filter(|broker| !self.is_live(broker.node_id));
        let here = gone().find(|broker| broker.endpoints.first() == endpoints.first());
        let is_full = gone().count() >= GONE_NODE_IDS_MAX;
        let longest_gone = gone().min_by_key(|broker| broker.wal_id).filter(|_| is_full);
        here.or(longest_gone).map_or_else(|| self.unused_node_id(), |broker| broker.node_id)
    }

    fn unused_node_id(&self) -> i32 {
        (1..).find(|node_id| self.broker(*node_id).is_none()).expect("there are more ids than brokers")
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topic_ids.get(&id)
    }

    /// Ordered by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// Topics whose name is behind `name`, ordered by name (the cursor of DescribeTopicPartitions).
    pub fn topics_from<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<Topic>> + use<'a> {
        let from = Str::from(name.to_owned());
        self.topics.range(from..).map(|(_, topic)| topic)
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Partitions of all topics.
    pub fn partition_count(&self) -> u64 {
        self.partition_count
    }

    /// The topic that `name` would collide with in Kafka's metrics ('.' and '_' are the same there).
    pub fn colliding_topic(&self, name: &str) -> Option<&Str> {
        let key = topic_name::collision_key(name)?;
        self.collisions.get(key.as_ref()).filter(|existing| **existing != *name)
    }

    /// Dynamic overrides of a resource. Brokers: the node id as decimal, or "" for the cluster-wide default.
    pub fn config(&self, resource_type: ResourceType, name: &str) -> Option<&ConfigMap> {
        self.configs.get(&resource_type)?.get(name)
    }

    /// Resources of a type that have overrides, ordered by name.
    pub fn configured(&self, resource_type: ResourceType) -> impl Iterator<Item = (&Str, &ConfigMap)> {
        self.configs.get(&resource_type).into_iter().flatten()
    }

    pub fn acls(&self) -> &Acls {
        &self.acls
    }

    /// Of clients and addresses.
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// The first producer id that nobody has been given.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// 0 when the feature was never set.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// Which records may be appended (R18).
    pub fn level(&self) -> i16 {
        self.feature(OTTLA_VERSION).max(level::FIRST)
    }

    pub fn features(&self) -> impl Iterator<Item = (&Str, i16)> {
        self.features.iter().map(|(name, level)| (name, *level))
    }

    pub fn manifest(&self, shard: u32) -> Option<&ManifestHead> {
        self.manifest.get(&shard)
    }

    /// Was anything ever put into a second tier?
    pub fn has_tier(&self) -> bool {
        !self.tier.is_empty()
    }

    /// Where a shard of the second tier's manifest stands.
    pub fn tier(&self, shard: u32) -> Option<&ManifestHead> {
        self.tier.get(&shard)
    }

    /// Of users who prove with SCRAM or a delegation token who they are.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Names the state: equal for all brokers that replayed the same log to the same position.
    pub fn hash(&self) -> u128 {
        encoding::hash(&snapshot::encode_state(self))
    }

    /// Replays one frame: all its requests in order.
    pub(crate) fn apply(&mut self, position: u64, entries: &[Entry]) -> Vec<Outcome> {
        assert!(position == self.position + 1, "frame {position} replayed behind {}", self.position);
        let (mut undo, level) = (Vec::new(), self.level());
        let outcomes = entries
            .iter()
            .map(|entry| {
                undo.clear();
                let outcome = self.apply_entry(position, level, entry, &mut undo);
                if let (Outcome::Rejected(reason), Some(last)) =
                    (&outcome, self.writers.get_mut(&entry.writer))
                    && entry.request > last.request
                {
                    *last = LastRequest { request: entry.request, position, rejected: Some(reason.code()) };
                }
                outcome
            })
            .collect();
        self.position = position;
        outcomes
    }

    /// Would this request be accepted if it were the next frame alone?
    pub(crate) fn rehearse_alone(&mut self, entry: &Entry) -> bool {
        self.rehearse(std::slice::from_ref(entry)) == [Outcome::Accepted]
    }

    /// What [`State::apply`] would say if the accepted ones of these requests were the next frame. Nothing
    /// changes.
    pub(crate) fn rehearse(&mut self, entries: &[Entry]) -> Vec<Outcome> {
        let position = self.position + 1;
        let (mut undo, level) = (Vec::new(), self.level());
        let outcomes =
            entries.iter().map(|entry| self.apply_entry(position, level, entry, &mut undo)).collect();
        self.roll_back(&mut undo, 0);
        outcomes
    }

    /// On a rejection nothing of the entry stays; `undo` is as it was. The level is that of the frame before: a broker that does not
    /// know the next one reads a frame whole, so nothing of that level may stand in the frame that raises it.
    fn apply_entry(&mut self, position: u64, level: i16, entry: &Entry, undo: &mut Vec<Undo>) -> Outcome {
        if entry.writer != 0 {
            match self.writers.get(&entry.writer) {
                None if broken::rule("slatedb-1682")
                    && matches!(entry.records[..], [MetadataRecord::RewriteWal { .. }]) => {}
                None => return Outcome::Rejected(Precondition::WriterFenced { wal_id: entry.writer }),
                Some(last) if last.request == entry.request => {
                    return match last.rejected {
                        None => Outcome::Repeated { position: last.position },
                        Some(code) => Outcome::Rejected(Precondition::RejectedBefore { code }),
                    };
                }
                Some(last) if last.request > entry.request => {
                    let (wal_id, request, last) = (entry.writer, entry.request, last.request);
                    return Outcome::Rejected(Precondition::RequestOutdated { wal_id, request, last });
                }
                Some(_) => {}
            }
        }
        if let Some(needed) = entry.records.iter().map(MetadataRecord::level).find(|needed| *needed > level) {
            return Outcome::Rejected(Precondition::LevelTooLow { needed, actual: level });
        }
        let start = undo.len();
        for record in &entry.records {
            if let Err(reason) = self.apply_record(position, entry.writer, record, undo) {
                self.roll_back(undo, start);
                return Outcome::Rejected(reason);
            }
        }
        // A registration may have fenced the writer itself; then there is nothing to remember.
        if let Some(last) = self.writers.get_mut(&entry.writer) {
            undo.push(Undo::Writer { wal_id: entry.writer, old: *last });
            *last = LastRequest { request: entry.request, position, rejected: None };
        }
        Outcome::Accepted
    }

    fn apply_record(
        &mut self,
        position: u64,
        writer: u64,
        record: &MetadataRecord,
        undo: &mut Vec<Undo>,
    ) -> Result<(), Precondition> {
        match record {
            MetadataRecord::CreateCluster { cluster_id, level } => {
                if !self.cluster_id.is_empty() {
                    return Err(Precondition::ClusterExists { cluster_id: self.cluster_id.clone() });
                }
                undo.push(Undo::Cluster);
                self.cluster_id = owned(cluster_id);
                if *level > level::FIRST {
                    self.features.insert(Str::from_static(OTTLA_VERSION), *level);
                }
                Ok(())
            }
            _ if self.cluster_id.is_empty() => Err(Precondition::NoCluster),
            MetadataRecord::RegisterBroker { node_id, previous, incarnation, rack, endpoints, levels } => {
                let broker = Broker {
                    node_id: *node_id,
                    wal_id: position,
                    incarnation: *incarnation,
                    rack: rack.as_ref().map(owned),
                    endpoints: endpoints.clone(),
                    levels: *levels,
                };
                self.register_broker(broker, *previous, undo)
            }
            MetadataRecord::BeginWal => self.begin_wal(position, undo),
            _ if writer == 0 => Err(Precondition::WriterFenced { wal_id: 0 }),
            MetadataRecord::FenceWal { wal_id } => self.fence_wal(*wal_id, undo),
            MetadataRecord::SealWal { wal_id, end, rewriter, heirs } => {
                self.seal_wal(*wal_id, *end, *rewriter, heirs, undo)
            }
            MetadataRecord::ForgetWal { wal_id } => self.forget_wal(*wal_id, undo),
            MetadataRecord::RetireWal { end, rewriter, heirs } => {
                self.retire_wal(writer, *end, *rewriter, heirs, undo)
            }
            MetadataRecord::MovePartitions { slot, heir, partitions } => {
                self.give_partitions(writer, *slot, *heir, partitions, undo)
            }
            MetadataRecord::AssignReplicas { topic_id, partitions } => {
                self.assign_replicas(*topic_id, partitions, undo)
            }
            MetadataRecord::RewriteWal { wal_id, from, to, shards } => {
                self.advance_mark(writer, *wal_id, *from, *to, undo)?;
                shards.iter().try_for_each(|change| {
                    let ShardChange { shard, from_version, to_version, object } = change;
                    self.move_manifest(*shard, *from_version, *to_version, object, 0, undo)
                })
            }
            MetadataRecord::CreateTopic { id, name, partition_count, replication_factor, configs } => {
                self.create_topic(*id, name, *partition_count, *replication_factor, configs, undo)
            }
            MetadataRecord::DeleteTopic { id } => self.delete_topic(*id, undo),
            MetadataRecord::CreatePartitions { id, from_count, to_count } => {
                self.create_partitions(*id, *from_count, *to_count, undo)
            }
            MetadataRecord::SetConfigs { resource_type, resource_name, changes } => {
                self.set_configs(*resource_type, resource_name, changes, undo)
            }
            MetadataRecord::AllocateProducerIds { expected_next, count, .. } => {
                if *expected_next != self.next_producer_id {
                    let (expected, actual) = (*expected_next, self.next_producer_id);
                    return Err(Precondition::ProducerIdsMoved { expected, actual });
                }
                let next = expected_next.checked_add(i64::from(*count)).filter(|_| *count > 0);
                let next = next.ok_or(Precondition::InvalidProducerIdCount { count: *count })?;
                undo.push(Undo::ProducerIds { old: self.next_producer_id });
                self.next_producer_id = next;
                Ok(())
            }
            MetadataRecord::ManifestShard { shard, from_version, to_version, object, wal_mark } => {
                self.move_manifest(*shard, *from_version, *to_version, object, *wal_mark, undo)
            }
            MetadataRecord::FeatureLevel { name, from_level, to_level } if name == OTTLA_VERSION => {
                self.raise_level(*from_level, *to_level, undo)
            }
            MetadataRecord::PutScramCredential { user, mechanism, credential } => {
                undo.push(Undo::Credential(self.credentials.put_scram(user, *mechanism, credential)?));
                Ok(())
            }
            MetadataRecord::RemoveScramCredential { user, mechanism } => {
                undo.push(Undo::Credential(self.credentials.remove_scram(user, *mechanism)?));
                Ok(())
            }
            MetadataRecord::PutDelegationToken { expected_ms, token } => {
                undo.push(Undo::Credential(self.credentials.put_token(*expected_ms, token)?));
                Ok(())
            }
            MetadataRecord::RemoveDelegationToken { token_id } => {
                undo.push(Undo::Credential(self.credentials.remove_token(token_id)?));
                Ok(())
            }
            MetadataRecord::CreateAcl(acl) => {
                if self.acls.insert(acl) {
                    undo.push(Undo::AclCreated { acl: acl.clone() });
                }
                Ok(())
            }
            MetadataRecord::DeleteAcl(acl) => {
                if self.acls.remove(acl) {
                    undo.push(Undo::AclDeleted { acl: acl.clone() });
                }
                Ok(())
            }
            MetadataRecord::AlterQuota(change) => {
                let old = self.quotas.change(change);
                undo.push(Undo::Quota { entity: change.entity.clone(), old });
                Ok(())
            }
            #[cfg(any(test, feature = "next-level"))]
            MetadataRecord::Remark { text } => {
                // Where it is kept does not matter; that a snapshot has it does.
                undo.push(Undo::Feature { name: text.clone(), old: self.features.get(text).copied() });
                *self.features.entry(owned(text)).or_default() += 1;
                Ok(())
            }
            MetadataRecord::TierShard(change) => self.move_tier(change, undo),
            MetadataRecord::FeatureLevel { name, from_level, to_level } => {
                let actual = self.feature(name);
                if actual != *from_level || *to_level < 0 {
                    let (name, expected) = (name.clone(), *from_level);
                    return Err(Precondition::FeatureMoved { name, expected, actual });
                }
                let old = match to_level {
                    0 => self.features.remove(name),
                    level => self.features.insert(owned(name), *level),
                };
                undo.push(Undo::Feature { name: name.clone(), old });
                Ok(())
            }
        }
    }

    /// R18. All that live have to know it; who registers later has to as well, and who is fenced and still runs meets this record.
    fn raise_level(&mut self, from: i16, to: i16, undo: &mut Vec<Undo>) -> Result<(), Precondition> {
        let actual = self.level();
        let name = Str::from_static(OTTLA_VERSION);
        if actual != from {
            return Err(Precondition::FeatureMoved { name, expected: from, actual });
        }
        if to <= from {
            return Err(Precondition::LevelLowered { from, to });
        }
        if let Some(broker) = self.live_brokers().find(|broker| !broker.levels.contains(to)) {
            let (node_id, known) = (broker.node_id, broker.levels);
            return Err(Precondition::LevelNotKnown { node_id, level: to, known });
        }
        let old = self.features.insert(name.clone(), to);
        undo.push(Undo::Feature { name, old });
        Ok(())
    }

    fn register_broker(
        &mut self,
        broker: Broker,
        previous: u64,
        undo: &mut Vec<Undo>,
    ) -> Result<(), Precondition> {
        let (node_id, wal_id) = (broker.node_id, broker.wal_id);
        if node_id < 0 {
            return Err(Precondition::InvalidNodeId { node_id });
        }
        let (level, known) = (self.level(), broker.levels);
        if !known.contains(level) {
            return Err(Precondition::LevelNotKnown { node_id, level, known });
        }
        if self.writers.contains_key(&wal_id) {
            return Err(Precondition::SecondRegistration { position: wal_id });
        }
        let current = self.brokers.get(&node_id);
        if let Some(current) = current.filter(|current| current.incarnation == broker.incarnation) {
            let (incarnation, wal_id) = (current.incarnation, current.wal_id);
            return Err(Precondition::IncarnationRegistered { incarnation, wal_id });
        }
        if current.map_or(0, |current| current.wal_id) != previous {
            return Err(Precondition::WriterFenced { wal_id: previous });
        }
        if self.wals.contains_key(&previous) {
            self.change_wal(previous, undo, |wal| wal.is_fenced = true);
        }
        let fenced = self.writers.remove_entry(&previous);
        self.writers.insert(wal_id, LastRequest { request: 0, position: wal_id, rejected: None });
        let old = self.brokers.insert(node_id, broker);
        undo.push(Undo::Registration { node_id, wal_id, old, fenced });
        Ok(())
    }

    fn begin_wal(&mut self, position: u64, undo: &mut Vec<Undo>) -> Result<(), Precondition> {
        let owner = self.brokers.values().find(|broker| broker.wal_id == position);
        let node_id = owner.ok_or(Precondition::UnknownWal { wal_id: position })?.node_id;
        if self.wals.contains_key(&position) {
            return Err(Precondition::WalBegun { wal_id: position });
        }
        let wal =
            Wal { node_id, is_fenced: false, sealed_at: None, mark: 0, rewriter: position, moved_to: 0 };
        self.wals.insert(position, wal);
        undo.push(Undo::Wal { wal_id: position, old: None });
        Ok(())
    }

    /// A WAL that is fenced already stays so: a taker whose predecessor died half-way goes on from here.
    fn fence_wal(&mut self, wal_id: u64, undo: &mut Vec<Undo>) -> Result<(), Precondition> {
        let wal = self.wals.get(&wal_id).ok_or(Precondition::UnknownWal { wal_id })?;
        if wal.sealed_at.is_some() {
            return Err(Precondition::WalSealed { wal_id });
        }
        self.change_wal(wal_id, undo, |wal| wal.is_fenced = true);
        if let Some(last) = self.writers.remove(&wal_id) {
            undo.push(Undo::Writer { wal_id, old: last });
        }
        Ok(())
    }

    fn seal_wal(
        &mut self,
        wal_id: u64,
        end: u64,
        rewriter: u64,
        heirs: &[u64],
        undo: &mut Vec<Undo>,
    ) -> Result<(), Precondition> {
        let wal = self.wals.get(&wal_id).ok_or(Precondition::UnknownWal { wal_id })?;
        if wal.sealed_at.is_some() {
            return Err(Precondition::WalSealed { wal_id });
        }
        if !wal.is_fenced {
            return Err(Precondition::WalNotFenced { wal_id });
        }
        let (node_id, leads) = (wal.node_id, self.leads(wal_id));
        if leads == heirs.is_empty() {
            return Err(Precondition::WrongHeirs { wal_id });
        }
        let mut nodes = Vec::with_capacity(heirs.len());
        for heir in heirs {
            match self.wals.get(heir) {
                Some(wal) if self.can_lead_without(*heir, wal_id) => nodes.push(wal.node_id),
                _ => return Err(Precondition::HeirNotReady { wal_id: *heir }),
            }
        }
        if !self.is_writer(rewriter) {
            return Err(Precondition::HeirNotReady { wal_id: rewriter });
        }
        self.change_wal(wal_id, undo, |wal| wal.sealed_at = Some(end));
        let duties = self.wals.iter().filter(|(_, wal)| wal.rewriter == wal_id);
        for duty in duties.map(|(duty, _)| *duty).collect::<Vec<_>>() {
            self.change_wal(duty, undo, |wal| wal.rewriter = rewriter);
        }
        if leads {
            self.move_partitions(node_id, &nodes, undo);
        }
        Ok(())
    }

    /// Nothing that anybody may still do refers to it: `docs/decisions/bucket-wal.md` goes through all of it.
    fn forget_wal(&mut self, wal_id: u64, undo: &mut Vec<Undo>) -> Result<(), Precondition> {
        if !self.wals.contains_key(&wal_id) {
            return Err(Precondition::UnknownWal { wal_id });
        }
        if !self.is_forgettable(wal_id) {
            return Err(Precondition::WalInUse { wal_id });
        }
        let old = self.wals.remove(&wal_id);
        undo.push(Undo::Wal { wal_id, old });
        Ok(())
    }

    /// The owner's own end: it has nothing in flight and writes no more, so nobody has to look where that is.
    fn retire_wal(
        &mut self,
        wal_id: u64,
        end: u64,
        rewriter: u64,
        heirs: &[u64],
        undo: &mut Vec<Undo>,
    ) -> Result<(), Precondition> {
        if rewriter == wal_id {
            return Err(Precondition::HeirNotReady { wal_id: rewriter });
        }
        self.fence_wal(wal_id, undo)?;
        self.seal_wal(wal_id, end, rewriter, heirs, undo)
    }

    /// R13: by the owner only, which has drained them. What it does not lead any more stays where it is.
    fn give_partitions(
        &mut self,
        wal_id: u64,
        slot: u64,
        heir: u64,
        partitions: &[(Uuid, Vec<u32>)],
        undo: &mut Vec<Undo>,
    ) -> Result<(), Precondition> {
        if !self.leads(wal_id) {
            return Err(Precondition::UnknownWal { wal_id });
        }
        let to =
            self.wals.get(&heir).filter(|_| heir != wal_id && self.can_lead(heir)).map(|wal| wal.node_id);
        let to = to.ok_or(Precondition::HeirNotReady { wal_id: heir })?;
        let from = self.wals[&wal_id].node_id;
        for (id, indices) in partitions {
            let Some(old) = self.topic_ids.get(id).cloned() else { continue };
            let mut topic = Topic::clone(&old);
            for index in indices {
                if let Some(partition) = topic.partitions.get_mut(*index as usize)
                    && partition.leader == from
                {
                    partition.lead(to);
                }
            }
            self.put_topic(Arc::new(topic));
            undo.push(Undo::TopicChanged { old });
        }
        self.change_wal(wal_id, undo, |wal| wal.moved_to = wal.moved_to.max(slot));
        Ok(())
    }

    /// Leaders move by [`MetadataRecord::MovePartitions`], except those of partitions that this request makes: nobody has led them.
    fn assign_replicas(
        &mut self,
        id: Uuid,
        partitions: &[(u32, Vec<i32>)],
        undo: &mut Vec<Undo>,
    ) -> Result<(), Precondition> {
        if self.wals.is_empty() {
            return Err(Precondition::NoAssignments);
        }
        let old = self.topic_ids.get(&id).ok_or(Precondition::UnknownTopicId { id })?.clone();
        let is_new = |index: u32| {
            undo.iter().any(|step| match step {
                Undo::TopicCreated { id: created } => *created == id,
                Undo::TopicChanged { old } => old.id == id && index as usize >= old.partitions.len(),
                _ => false,
            })
        };
        let mut topic = Topic::clone(&old);
        for (index, nodes) in partitions {
            let info = topic.partitions.get_mut(*index as usize);
            let info = info.ok_or(Precondition::UnknownPartition { index: *index })?;
            match nodes.is_empty() {
                true => info.stand_alone(info.leader),
                false => (info.replicas, info.isr) = (nodes.as_slice().into(), [].into()),
            }
            if is_new(*index)
                && let Some(broker) = self.misled(info)
            {
                info.leader = broker.node_id;
            }
        }
        self.put_topic(Arc::new(topic));
        undo.push(Undo::TopicChanged { old });
        Ok(())
    }

    /// R6: from where the mark is, by the one rewriter; of a WAL that is fenced and not sealed nobody knows the end.
    fn advance_mark(
        &mut self,
        writer: u64,
        wal_id: u64,
        from: u64,
        to: u64,
        undo: &mut Vec<Undo>,
    ) -> Result<(), Precondition> {
        let wal = self.wals.get(&wal_id).ok_or(Precondition::UnknownWal { wal_id })?;
        let is_open = wal.sealed_at.is_none() && (!wal.is_fenced || broken::rule("slatedb-1682"));
        let ends = wal.sealed_at.map_or(is_open, |end| to <= end);
        let is_wrong = wal.rewriter != writer || wal.mark != from || to <= from || !ends;
        if is_wrong && !broken::rule("double-rewriter") {
            return Err(Precondition::WrongRewrite { wal_id, from, to, mark: wal.mark });
        }
        self.change_wal(wal_id, undo, |wal| wal.mark = to);
        Ok(())
    }

    fn move_manifest(
        &mut self,
        shard: u32,
        from_version: u64,
        to_version: u64,
        object: &Str,
        wal_mark: u64,
        undo: &mut Vec<Undo>,
    ) -> Result<(), Precondition> {
        let actual = self.manifest.get(&shard).map_or(0, |head| head.version);
        let is_wrong = actual != from_version || to_version <= from_version;
        if is_wrong && !broken::rule("double-rewriter") {
            return Err(Precondition::ManifestMoved { shard, expected: from_version, actual });
        }
        let head = ManifestHead { version: to_version, object: owned(object), wal_mark };
        let old = self.manifest.insert(shard, head);
        undo.push(Undo::Manifest { shard, old });
        Ok(())
    }

    fn move_tier(&mut self, change: &ShardChange, undo: &mut Vec<Undo>) -> Result<(), Precondition> {
        let ShardChange { shard, from_version, to_version, ref object } = *change;
        let actual = self.tier.get(&shard).map_or(0, |head| head.version);
        if actual != from_version || to_version <= from_version {
            return Err(Precondition::ManifestMoved { shard, expected: from_version, actual });
        }
        let head = ManifestHead { version: to_version, object: owned(object), wal_mark: 0 };
        let old = self.tier.insert(shard, head);
        undo.push(Undo::Tier { shard, old });
        Ok(())
    }

    /// Gives all partitions of one node to others in turn, or to itself again: the next epoch either way.
    fn move_partitions(&mut self, from: i32, to: &[i32], undo: &mut Vec<Undo>) {
        let led = |topic: &&Arc<Topic>| topic.partitions.iter().any(|partition| partition.leader == from);
        let mut turn = to.iter().cycle();
        for old in self.topics.values().filter(led).cloned().collect::<Vec<_>>() {
            let mut topic = Topic::clone(&old);
            for partition in topic.partitions.iter_mut().filter(|partition| partition.leader == from) {
                partition.lead(*turn.next().expect("a WAL with partitions has heirs"));
            }
            self.put_topic(Arc::new(topic));
            undo.push(Undo::TopicChanged { old });
        }
    }

    fn change_wal(&mut self, wal_id: u64, undo: &mut Vec<Undo>, change: impl FnOnce(&mut Wal)) {
        let wal = self.wals.get_mut(&wal_id).expect("whoever changes a WAL has seen it");
        undo.push(Undo::Wal { wal_id, old: Some(wal.clone()) });
        change(wal);
    }

    fn create_topic(
        &mut self,
        id: Uuid,
        name: &Str,
        partition_count: u32,
        replication_factor: i16,
        configs: &[(Str, Str)],
        undo: &mut Vec<Undo>,
    ) -> Result<(), Precondition> {
        topic_name::validate(name).map_err(Precondition::TopicName)?;
        if self.topics.contains_key(name) {
            return Err(Precondition::TopicExists { name: name.clone() });
        }
        if let Some(existing) = self.colliding_topic(name) {
            return Err(Precondition::TopicNameCollision { name: name.clone(), existing: existing.clone() });
        }
        if id == Uuid::ZERO {
            return Err(Precondition::InvalidTopicId { id });
        }
        if self.topic_ids.contains_key(&id) {
            return Err(Precondition::TopicIdInUse { id });
        }
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&partition_count) {
            return Err(Precondition::InvalidPartitionCount {
                count: partition_count,
                max: TOPIC_PARTITIONS_MAX,
            });
        }
        let name = owned(name);
        let topic = Topic {
            id,
            internal: topic_name::is_internal(&name),
            name: name.clone(),
            replication_factor,
            partitions: self.place(id, 0..partition_count, replication_factor)?,
        };
        if let Some(key) = topic_name::collision_key(&name) {
            self.collisions.insert(Str::from(key.into_owned()), name.clone());
        }
        self.partition_count += u64::from(partition_count);
        let topic = Arc::new(topic);
        self.topic_ids.insert(id, topic.clone());
        self.topics.insert(name.clone(), topic);
        undo.push(Undo::TopicCreated { id });
        if !configs.is_empty() {
            let changes: Vec<_> =
                configs.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
            self.set_configs(ResourceType::Topic, &name, &changes, undo)?;
        }
        Ok(())
    }

    fn delete_topic(&mut self, id: Uuid, undo: &mut Vec<Undo>) -> Result<(), Precondition> {
        let (topic, configs) = self.remove_topic(id).ok_or(Precondition::UnknownTopicId { id })?;
        undo.push(Undo::TopicDeleted { topic, configs });
        Ok(())
    }

    fn remove_topic(&mut self, id: Uuid) -> Option<(Arc<Topic>, Option<ConfigMap>)> {
        let topic = self.topic_ids.remove(&id)?;
        self.topics.remove(&topic.name);
        if let Some(key) = topic_name::collision_key(&topic.name) {
            self.collisions.remove(key.as_ref());
        }
        self.partition_count -= topic.partitions.len() as u64;
        let configs = self.take_config(ResourceType::Topic, &topic.name);
        Some((topic, configs))
    }

    fn put_topic(&mut self, topic: Arc<Topic>) {
        if let Some(key) = topic_name::collision_key(&topic.name) {
            self.collisions.insert(Str::from(key.into_owned()), topic.name.clone());
        }
        self.partition_count += topic.partitions.len() as u64;
        if let Some(old) = self.topic_ids.insert(topic.id, topic.clone()) {
            self.partition_count -= old.partitions.len() as u64;
        }
        self.topics.insert(topic.name.clone(), topic);
    }

    fn create_partitions(
        &mut self,
        id: Uuid,
        from_count: u32,
        to_count: u32,
        undo: &mut Vec<Undo>,
    ) -> Result<(), Precondition> {
        let old = self.topic_ids.get(&id).ok_or(Precondition::UnknownTopicId { id })?.clone();
        let actual = old.partitions.len() as u32;
        if actual != from_count {
            return Err(Precondition::PartitionCountChanged { expected: from_count, actual });
        }
        if to_count <= from_count || to_count > TOPIC_PARTITIONS_MAX {
            return Err(Precondition::InvalidPartitionCount { count: to_count, max: TOPIC_PARTITIONS_MAX });
        }
        let mut topic = Topic::clone(&old);
        topic.partitions.extend(self.place(id, from_count..to_count, old.replication_factor)?);
        topic.partitions.shrink_to_fit();
        self.put_topic(Arc::new(topic));
        undo.push(Undo::TopicChanged { old });
        Ok(())
    }

    /// Spreads partitions over the registered brokers; the first broker differs from topic to topic.
    fn place(
        &self,
        id: Uuid,
        partitions: std::ops::Range<u32>,
        replication_factor: i16,
    ) -> Result<Vec<PartitionInfo>, Precondition> {
        let ready = self.brokers.values().filter(|broker| self.can_lead(broker.wal_id));
        let brokers: Vec<i32> = ready.map(|broker| broker.node_id).collect();
        if brokers.is_empty() {
            return Err(Precondition::NoBroker);
        }
        // In a bucket the store keeps the copies: the factor is a wish that is kept and shown, and the leader is enough.
        let (factors, placed) = match self.wals.is_empty() {
            true => (1..=brokers.len(), usize::try_from(replication_factor).unwrap_or(0)),
            false => (1..=i16::MAX as usize, 1),
        };
        if !usize::try_from(replication_factor).is_ok_and(|factor| factors.contains(&factor)) {
            let (factor, brokers) = (replication_factor, brokers.len());
            return Err(Precondition::InvalidReplicationFactor { factor, brokers });
        }
        let first = usize::from(id.0[15]);
        // As many different placements as there are brokers, shared by all partitions.
        let placements: Vec<Arc<[i32]>> = (0..brokers.len())
            .map(|start| (0..placed).map(|next| brokers[(start + next) % brokers.len()]).collect())
            .collect();
        let place_one = |partition: u32| {
            let replicas = placements[(first + partition as usize) % placements.len()].clone();
            PartitionInfo { leader: replicas[0], leader_epoch: 0, isr: replicas.clone(), replicas }
        };
        Ok(partitions.map(place_one).collect())
    }

    fn set_configs(
        &mut self,
        resource_type: ResourceType,
        resource_name: &Str,
        changes: &[(Str, Option<Str>)],
        undo: &mut Vec<Undo>,
    ) -> Result<(), Precondition> {
        if resource_type == ResourceType::Topic && !self.topics.contains_key(resource_name) {
            return Err(Precondition::UnknownResource { name: resource_name.clone() });
        }
        let old = self.take_config(resource_type, resource_name);
        let mut map = old.as_deref().cloned().unwrap_or_default();
        for (key, value) in changes {
            match value {
                Some(value) => map.insert(owned(key), owned(value)),
                None => map.remove(key),
            };
        }
        self.put_config(resource_type, resource_name, Some(Arc::new(map)));
        undo.push(Undo::Config { resource_type, name: resource_name.clone(), old });
        Ok(())
    }

    fn take_config(&mut self, resource_type: ResourceType, name: &Str) -> Option<ConfigMap> {
        let of_type = self.configs.get_mut(&resource_type)?;
        let map = of_type.remove(name);
        if of_type.is_empty() {
            self.configs.remove(&resource_type);
        }
        map
    }

    pub(crate) fn put_config(&mut self, resource_type: ResourceType, name: &Str, map: Option<ConfigMap>) {
        match map.filter(|map| !map.is_empty()) {
            Some(map) => drop(self.configs.entry(resource_type).or_default().insert(owned(name), map)),
            None => drop(self.take_config(resource_type, name)),
        }
    }

    fn roll_back(&mut self, undo: &mut Vec<Undo>, start: usize) {
        for step in undo.drain(start..).rev() {
            match step {
                Undo::Cluster => {
                    self.cluster_id = Str::default();
                    self.features.remove(OTTLA_VERSION);
                }
                Undo::Registration { node_id, wal_id, old, fenced } => {
                    self.writers.remove(&wal_id);
                    self.writers.extend(fenced);
                    self.brokers.remove(&node_id);
                    self.brokers.extend(old.map(|old| (node_id, old)));
                }
                Undo::TopicCreated { id } => drop(self.remove_topic(id)),
                Undo::TopicDeleted { topic, configs } => {
                    let name = topic.name.clone();
                    self.put_topic(topic);
                    self.put_config(ResourceType::Topic, &name, configs);
                }
                Undo::TopicChanged { old } => self.put_topic(old),
                Undo::Config { resource_type, name, old } => self.put_config(resource_type, &name, old),
                Undo::ProducerIds { old } => self.next_producer_id = old,
                Undo::Manifest { shard, old } => {
                    self.manifest.remove(&shard);
                    self.manifest.extend(old.map(|old| (shard, old)));
                }
                Undo::Tier { shard, old } => {
                    self.tier.remove(&shard);
                    self.tier.extend(old.map(|old| (shard, old)));
                }
                Undo::Feature { name, old } => {
                    self.features.remove(&name);
                    self.features.extend(old.map(|old| (name, old)));
                }
                Undo::Credential(step) => self.credentials.roll_back(step),
                Undo::AclCreated { acl } => {
                    self.acls.remove(&acl);
                }
                Undo::Quota { entity, old } => self.quotas.put(&entity, old),
                Undo::AclDeleted { acl } => {
                    self.acls.insert(&acl);
                }
                Undo::Writer { wal_id, old } => {
                    self.writers.insert(wal_id, old);
                }
                Undo::Wal { wal_id, old } => {
                    self.wals.remove(&wal_id);
                    self.wals.extend(old.map(|old| (wal_id, old)));
                }
            }
        }
    }
}

/// What takes one accepted record back.
enum Undo {
    Cluster,
    Registration { node_id: i32, wal_id: u64, old: Option<Broker>, fenced: Option<(u64, LastRequest)> },
    TopicCreated { id: Uuid },
    TopicDeleted { topic: Arc<Topic>, configs: Option<ConfigMap> },
    TopicChanged { old: Arc<Topic> },
    Config { resource_type: ResourceType, name: Str, old: Option<ConfigMap> },
    ProducerIds { old: i64 },
    Manifest { shard: u32, old: Option<ManifestHead> },
    Tier { shard: u32, old: Option<ManifestHead> },
    Feature { name: Str, old: Option<i16> },
    Writer { wal_id: u64, old: LastRequest },
    Wal { wal_id: u64, old: Option<Wal> },
    Credential(UndoCredential),
    AclCreated { acl: Acl },
    AclDeleted { acl: Acl },
    Quota { entity: QuotaEntity, old: Option<QuotaValues> },
}

/// A copy of its own: a `Str` from a request is a slice of the whole frame and would keep it alive.
fn owned(text: &Str) -> Str {
    text.detached()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u64 = 1;

    fn register(node_id: i32, previous: u64, incarnation: u128) -> Entry {
        let incarnation = Uuid::from_u128(incarnation);
        let record = MetadataRecord::RegisterBroker {
            node_id,
            previous,
            incarnation,
            rack: None,
            endpoints: Vec::new(),
            levels: Levels::FIRST_ONLY,
        };
        Entry { writer: 0, request: 0, records: vec![record] }
    }

    fn cluster() -> State {
        let mut state = State::default();
        let mut first = register(1, 0, 11);
        first
            .records
            .insert(0, MetadataRecord::CreateCluster { cluster_id: Str::from("c"), level: level::FIRST });
        assert_eq!(state.apply(1, &[first]), [Outcome::Accepted]);
        state
    }

    fn create(request: u64, id: u128, name: &str) -> Entry {
        let record = MetadataRecord::CreateTopic {
            id: Uuid::from_u128(id),
            name: Str::from(name),
            partition_count: 4,
            replication_factor: 1,
            configs: vec![(Str::from("k"), Str::from("v"))],
        };
        Entry { writer: ME, request, records: vec![record] }
    }

    /// R16: a lost answer is asked for again by sending the same request behind it.
    #[test]
    fn a_blind_retry_gives_the_first_answer_and_does_nothing() {
        let mut state = cluster();
        assert_eq!(state.apply(2, &[create(1, 1, "a")]), [Outcome::Accepted]);
        assert_eq!(state.apply(3, &[create(1, 1, "a")]), [Outcome::Repeated { position: 2 }]);
        let refused = state.apply(4, &[create(2, 2, "a")]);
        assert!(matches!(refused[..], [Outcome::Rejected(Precondition::TopicExists { .. })]));
        let again = state.apply(5, &[create(2, 2, "a")]);
        let code = Precondition::TopicExists { name: Str::default() }.code();
        assert_eq!(again, [Outcome::Rejected(Precondition::RejectedBefore { code })]);
        let outdated = state.apply(6, &[create(1, 1, "a")]);
        assert!(matches!(outdated[..], [Outcome::Rejected(Precondition::RequestOutdated { .. })]));
        assert_eq!(state.topic_count(), 1);
    }

    /// R18: in the frame that raises the level nothing stands that only the new one has, or who does not know it could not read why.
    #[test]
    fn a_record_of_the_next_level_counts_behind_the_frame_that_raises_it() {
        let known = Levels { lowest: 1, highest: 2 };
        let mut state = State::default();
        let mut first = register(1, 0, 11);
        if let MetadataRecord::RegisterBroker { levels, .. } = &mut first.records[0] {
            *levels = known;
        }
        let name = Str::from_static(OTTLA_VERSION);
        first.records.insert(0, MetadataRecord::CreateCluster { cluster_id: Str::from("c"), level: 1 });
        assert_eq!(state.apply(1, &[first]), [Outcome::Accepted]);
        let remark = || MetadataRecord::Remark { text: Str::from("r") };
        let raise = MetadataRecord::FeatureLevel { name, from_level: 1, to_level: 2 };
        let entry = |request, records| Entry { writer: ME, request, records };
        let too_low = Outcome::Rejected(Precondition::LevelTooLow { needed: 2, actual: 1 });
        let frame = [
            entry(1, vec![remark()]),
            entry(2, vec![raise.clone(), remark()]),
            entry(3, vec![raise]),
            entry(4, vec![remark()]),
        ];
        let expected = [too_low.clone(), too_low.clone(), Outcome::Accepted, too_low];
        assert_eq!(state.rehearse(&frame), expected);
        assert_eq!((state.level(), state.apply(2, &frame)), (1, expected.to_vec()));
        assert_eq!(state.level(), 2);
        assert_eq!(state.apply(3, &[entry(5, vec![remark()])]), [Outcome::Accepted]);
        assert_eq!(state.feature("r"), 1);
    }

    /// R1: a new incarnation fences the one before it, also when its records come late or its registration again.
    #[test]
    fn a_fenced_incarnation_changes_nothing_any_more() {
        let mut state = cluster();
        assert_eq!(state.apply(2, &[register(1, 1, 22)]), [Outcome::Accepted]);
        let late = state.apply(3, &[create(1, 1, "a")]);
        assert_eq!(late, [Outcome::Rejected(Precondition::WriterFenced { wal_id: ME })]);
        let repeated = state.apply(4, &[register(1, 0, 11)]);
        assert_eq!(repeated, [Outcome::Rejected(Precondition::WriterFenced { wal_id: 0 })]);
        let own = state.apply(5, &[register(1, 2, 22)]);
        assert!(matches!(
            own[..],
            [Outcome::Rejected(Precondition::IncarnationRegistered { wal_id: 2, .. })]
        ));
        let two = state.apply(6, &[register(2, 0, 33), register(3, 0, 44)]);
        assert!(matches!(two[1], Outcome::Rejected(Precondition::SecondRegistration { position: 6 })));
        assert_eq!(state.brokers().map(|broker| broker.wal_id).collect::<Vec<_>>(), [2, 6]);
    }

    #[test]
    fn a_rehearsal_says_what_replay_will_say_and_leaves_no_trace() {
        let mut state = cluster();
        state.apply(2, &[create(1, 1, "a.b")]);
        let before = (state.clone(), state.hash());
        let grow = MetadataRecord::CreatePartitions { id: Uuid::from_u128(1), from_count: 4, to_count: 6 };
        let delete = MetadataRecord::DeleteTopic { id: Uuid::from_u128(1) };
        let entries = [
            Entry { writer: ME, request: 2, records: vec![grow.clone(), delete] },
            create(3, 2, "a_b"),
            create(4, 3, "a.b"),
            register(2, 0, 55),
            Entry { writer: ME, request: 5, records: vec![grow] },
        ];
        let rehearsed = state.rehearse(&entries);
        assert_eq!((&state, state.hash()), (&before.0, before.1));
        let accepted: Vec<bool> = rehearsed.iter().map(|outcome| *outcome == Outcome::Accepted).collect();
        assert_eq!(accepted, [true, true, false, true, false]);
        assert_eq!(state.apply(3, &entries), rehearsed);
    }

    /// Two brokers: partitions go round, and the first one differs from topic to topic.
    #[test]
    fn partitions_are_spread_over_the_brokers() {
        let mut state = cluster();
        state.apply(2, &[register(2, 0, 66)]);
        state.apply(3, &[create(1, 1, "odd"), create(2, 2, "even")]);
        let leaders = |name: &str| -> Vec<i32> {
            state.topic(name).unwrap().partitions.iter().map(|partition| partition.leader).collect()
        };
        assert_eq!(leaders("odd"), [2, 1, 2, 1]);
        assert_eq!(leaders("even"), [1, 2, 1, 2]);
    }

    fn begin(node_id: i32, previous: u64, incarnation: u128) -> Entry {
        let mut entry = register(node_id, previous, incarnation);
        entry.records.push(MetadataRecord::BeginWal);
        entry
    }

    /// Nodes 1 and 2 with WALs 1 and 2, and a topic of four partitions.
    fn bucket_cluster() -> State {
        let mut state = State::default();
        let mut first = begin(1, 0, 11);
        first
            .records
            .insert(0, MetadataRecord::CreateCluster { cluster_id: Str::from("c"), level: level::FIRST });
        state.apply(1, &[first]);
        state.apply(2, &[begin(2, 0, 22)]);
        assert_eq!(state.apply(3, &[create(1, 1, "a")]), [Outcome::Accepted]);
        state
    }

    fn ask(state: &mut State, writer: u64, record: MetadataRecord) -> Outcome {
        let position = state.position() + 1;
        let entries = [Entry { writer, request: position, records: vec![record] }];
        let (before, rehearsed) = (state.clone(), state.rehearse(&entries));
        assert_eq!(*state, before, "a rehearsal leaves no trace");
        let outcome = state.apply(position, &entries).remove(0);
        assert_eq!(outcome, rehearsed[0]);
        let (bytes, place) = (snapshot::encode_state(state), state.position());
        let place = snapshot::SnapshotPlace { log_id: [0; 16], position: place, log_end: 0, frame_hash: 0 };
        let (_, read) = snapshot::decode(&snapshot::encode(&place, state), Levels { lowest: 1, highest: 9 })
            .expect("a snapshot of it is read");
        assert_eq!((&read, snapshot::encode_state(&read)), (&*state, bytes));
        outcome
    }

    fn leaders(state: &State) -> Vec<(i32, i32)> {
        let topic = state.topic("a").unwrap();
        topic.partitions.iter().map(|partition| (partition.leader, partition.leader_epoch)).collect()
    }

    fn seal(wal_id: u64, end: u64, heirs: &[u64]) -> MetadataRecord {
        MetadataRecord::SealWal { wal_id, end, rewriter: 2, heirs: heirs.to_vec() }
    }

    /// R9, R11: fence first, then one seal, and of several the first.
    #[test]
    fn a_fenced_wal_is_sealed_once_and_its_partitions_go_to_the_heir_under_the_next_epoch() {
        let mut state = bucket_cluster();
        assert_eq!(leaders(&state), [(2, 0), (1, 0), (2, 0), (1, 0)]);
        let early = ask(&mut state, 2, seal(1, 5, &[2]));
        assert_eq!(early, Outcome::Rejected(Precondition::WalNotFenced { wal_id: 1 }));
        assert_eq!(ask(&mut state, 2, MetadataRecord::FenceWal { wal_id: 1 }), Outcome::Accepted);
        let fenced = ask(&mut state, 1, MetadataRecord::FenceWal { wal_id: 2 });
        assert_eq!(fenced, Outcome::Rejected(Precondition::WriterFenced { wal_id: 1 }));
        // A taker that goes on where another died.
        assert_eq!(ask(&mut state, 2, MetadataRecord::FenceWal { wal_id: 1 }), Outcome::Accepted);
        let nobody = ask(&mut state, 2, seal(1, 5, &[]));
        assert_eq!(nobody, Outcome::Rejected(Precondition::WrongHeirs { wal_id: 1 }));
        let dead = ask(&mut state, 2, seal(1, 5, &[1]));
        assert_eq!(dead, Outcome::Rejected(Precondition::HeirNotReady { wal_id: 1 }));
        assert_eq!(ask(&mut state, 2, seal(1, 5, &[2])), Outcome::Accepted);
        assert_eq!(leaders(&state), [(2, 0), (2, 1), (2, 0), (2, 1)]);
        assert!(state.topic("a").unwrap().partitions.iter().all(|p| *p.replicas == [2] && *p.isr == [2]));
        let second = ask(&mut state, 2, seal(1, 9, &[2]));
        assert_eq!(second, Outcome::Rejected(Precondition::WalSealed { wal_id: 1 }));
        let wal = state.wal(1).unwrap();
        assert_eq!((wal.sealed_at, wal.rewriter, wal.is_fenced), (Some(5), 2, true));
    }

    /// Node 1 dies, node 2 has its partitions and its duties and rewrites all of it, and node 1 comes back.
    #[test]
    fn a_wal_is_forgotten_when_nothing_refers_to_it() {
        let mut state = bucket_cluster();
        let forget = |wal_id: u64| MetadataRecord::ForgetWal { wal_id };
        let rewrite = |from: u64, to: u64| MetadataRecord::RewriteWal { wal_id: 1, from, to, shards: vec![] };
        let in_use = Outcome::Rejected(Precondition::WalInUse { wal_id: 1 });
        assert_eq!(ask(&mut state, 2, forget(1)), in_use, "it is at work");
        assert_eq!(ask(&mut state, 2, MetadataRecord::FenceWal { wal_id: 1 }), Outcome::Accepted);
        assert_eq!(ask(&mut state, 2, forget(1)), in_use, "nobody knows its end");
        assert_eq!(ask(&mut state, 2, seal(1, 5, &[2])), Outcome::Accepted);
        assert_eq!(ask(&mut state, 2, rewrite(0, 4)), Outcome::Accepted);
        assert_eq!(ask(&mut state, 2, forget(1)), in_use, "slot 4");
        assert_eq!(ask(&mut state, 2, rewrite(4, 5)), Outcome::Accepted);
        assert_eq!(ask(&mut state, 2, forget(1)), in_use, "its node's next registration names it");
        let next = state.position() + 1;
        assert_eq!(state.apply(next, &[begin(1, 1, 111)]), [Outcome::Accepted]);
        assert!(state.is_forgettable(1) && !state.is_forgettable(2) && !state.is_forgettable(next));
        let before = state.clone();
        let doubled = Entry { writer: 2, request: 90, records: vec![forget(1), forget(1)] };
        let again = Outcome::Rejected(Precondition::UnknownWal { wal_id: 1 });
        assert_eq!(state.rehearse(&[doubled]), std::slice::from_ref(&again));
        assert_eq!(state, before, "a refusal leaves nothing");
        assert_eq!(ask(&mut state, 2, forget(1)), Outcome::Accepted);
        assert!(state.wal(1).is_none() && state.is_over(1) && !state.is_over(2) && !state.is_over(next));
        assert!(!state.is_over(state.position() + 1), "of that nothing is known");
        // Whoever is late.
        assert_eq!(ask(&mut state, 2, forget(1)), again);
        assert_eq!(ask(&mut state, 2, seal(1, 9, &[2])), again);
        let late = ask(&mut state, 1, forget(1));
        assert_eq!(late, Outcome::Rejected(Precondition::WriterFenced { wal_id: 1 }));
        assert!(state.leads(next) && state.can_lead(next));
    }

    /// One that has the duties of another is needed until somebody else has them.
    #[test]
    fn a_wal_with_duties_is_not_forgotten() {
        let mut state = bucket_cluster();
        let forget = |wal_id: u64| MetadataRecord::ForgetWal { wal_id };
        ask(&mut state, 2, MetadataRecord::FenceWal { wal_id: 1 });
        assert_eq!(ask(&mut state, 2, seal(1, 5, &[2])), Outcome::Accepted);
        // Node 2 begins anew: its first WAL is fenced, and has to be sealed by the second.
        let next = state.position() + 1;
        state.apply(next, &[begin(2, 2, 222)]);
        let seal_empty =
            |end: u64| MetadataRecord::SealWal { wal_id: 2, end, rewriter: next, heirs: vec![next] };
        assert_eq!(ask(&mut state, next, forget(2)), Outcome::Rejected(Precondition::WalInUse { wal_id: 2 }));
        assert_eq!(ask(&mut state, next, seal_empty(0)), Outcome::Accepted);
        assert_eq!(state.wal(1).unwrap().rewriter, next, "with the seal");
        assert_eq!(ask(&mut state, next, forget(2)), Outcome::Accepted);
        assert_eq!(state.wals().map(|(wal_id, _)| wal_id).collect::<Vec<_>>(), [1, next]);
    }

    /// A node that starts twice before anybody has sealed its first WAL: the oldest has the partitions, the newest gets them.
    #[test]
    fn a_node_leads_again_when_all_its_earlier_wals_are_sealed() {
        let mut state = bucket_cluster();
        state.apply(4, &[begin(1, 1, 111)]);
        state.apply(5, &[begin(1, 4, 1111)]);
        assert!(state.wal(1).unwrap().is_fenced && state.wal(4).unwrap().is_fenced);
        assert!(state.leads(1) && !state.leads(4) && !state.leads(5));
        // Topics that come now do not mix with those of the old WAL.
        assert_eq!(state.apply(6, &[Entry { writer: 5, ..create(1, 2, "b") }]), [Outcome::Accepted]);
        assert!(state.topic("b").unwrap().partitions.iter().all(|partition| partition.leader == 2));
        let early = ask(&mut state, 2, seal(1, 3, &[5]));
        assert_eq!(early, Outcome::Rejected(Precondition::HeirNotReady { wal_id: 5 }));
        let too_much = ask(&mut state, 2, seal(4, 0, &[5]));
        assert_eq!(too_much, Outcome::Rejected(Precondition::WrongHeirs { wal_id: 4 }));
        assert_eq!(ask(&mut state, 2, seal(4, 0, &[])), Outcome::Accepted);
        assert_eq!(leaders(&state), [(2, 0), (1, 0), (2, 0), (1, 0)]);
        assert!(!state.can_lead(5));
        assert_eq!(ask(&mut state, 2, seal(1, 3, &[5])), Outcome::Accepted);
        assert_eq!(leaders(&state), [(2, 0), (1, 1), (2, 0), (1, 1)]);
        assert!(state.can_lead(5));
    }

    /// R6: exactly one rewriter, also when the rewriter's own WAL is sealed.
    #[test]
    fn duties_go_with_the_seal() {
        let mut state = bucket_cluster();
        state.apply(4, &[begin(3, 0, 33)]);
        ask(&mut state, 2, MetadataRecord::FenceWal { wal_id: 1 });
        ask(&mut state, 2, seal(1, 1, &[2]));
        ask(&mut state, 4, MetadataRecord::FenceWal { wal_id: 2 });
        let seal = MetadataRecord::SealWal { wal_id: 2, end: 7, rewriter: 4, heirs: vec![4] };
        assert_eq!(ask(&mut state, 4, seal), Outcome::Accepted);
        let rewriters: Vec<u64> = state.wals().map(|(_, wal)| wal.rewriter).collect();
        assert_eq!(rewriters, [4, 4, 4]);
        assert_eq!(leaders(&state), [(3, 1), (3, 2), (3, 1), (3, 2)]);
    }

    /// R13: the owner gives, a live heir takes, and nobody is asked twice.
    #[test]
    fn an_owner_gives_partitions_away_and_keeps_the_others() {
        let mut state = bucket_cluster();
        let give = |slot, heir, indices: &[u32]| MetadataRecord::MovePartitions {
            slot,
            heir,
            partitions: vec![(Uuid::from_u128(1), indices.to_vec()), (Uuid::from_u128(99), vec![0])],
        };
        let itself = ask(&mut state, 1, give(7, 1, &[1]));
        assert_eq!(itself, Outcome::Rejected(Precondition::HeirNotReady { wal_id: 1 }));
        assert_eq!(ask(&mut state, 1, give(7, 2, &[0, 1, 9])), Outcome::Accepted);
        assert_eq!(leaders(&state), [(2, 0), (2, 1), (2, 0), (1, 0)]);
        assert_eq!(*state.topic("a").unwrap().partitions[1].isr, [2]);
        assert_eq!(state.wal(1).unwrap().slots_for_others(), 0..7);
        assert_eq!(ask(&mut state, 1, give(5, 2, &[1])), Outcome::Accepted);
        assert_eq!((leaders(&state)[1], state.wal(1).unwrap().moved_to), ((2, 1), 7));
        ask(&mut state, 1, MetadataRecord::FenceWal { wal_id: 2 });
        let dead = ask(&mut state, 1, give(8, 2, &[3]));
        assert_eq!(dead, Outcome::Rejected(Precondition::HeirNotReady { wal_id: 2 }));
    }

    #[test]
    fn assigned_replicas_stay_wherever_the_leader_goes() {
        let mut state = bucket_cluster();
        let id = state.topic("a").unwrap().id;
        let assign = |partitions: &[(u32, &[i32])]| {
            let partitions = partitions.iter().map(|(index, nodes)| (*index, nodes.to_vec()));
            MetadataRecord::AssignReplicas { topic_id: id, partitions: partitions.collect() }
        };
        let unknown = ask(&mut state, 1, assign(&[(9, &[1])]));
        assert_eq!(unknown, Outcome::Rejected(Precondition::UnknownPartition { index: 9 }));
        let info = |state: &State, index: usize| state.topic("a").unwrap().partitions[index].clone();
        let before = info(&state, 0);
        let (leader, other) = (before.leader, 3 - before.leader);
        assert_eq!(ask(&mut state, 1, assign(&[(0, &[other, leader])])), Outcome::Accepted);
        let assigned = info(&state, 0);
        assert_eq!(
            (assigned.leader, assigned.leader_epoch),
            (leader, before.leader_epoch),
            "R13: drained first"
        );
        assert_eq!(assigned.assignment(), Some(&[other, leader][..]));
        assert_eq!(state.misled(&assigned).map(|broker| broker.node_id), Some(other));
        assert_eq!(state.misled(&info(&state, 1)), None);
        let wal_of = |node_id: i32| state.broker(node_id).unwrap().wal_id;
        let (from, heir) = (wal_of(leader), wal_of(other));
        let partitions = vec![(id, vec![0])];
        ask(&mut state, from, MetadataRecord::MovePartitions { slot: 3, heir, partitions });
        let moved = info(&state, 0);
        assert_eq!((moved.leader, moved.assignment()), (other, assigned.assignment()));
        assert_eq!(state.misled(&moved), None);
        let (place, bytes) = (state.position(), snapshot::encode_state(&state));
        let again = snapshot::decode_body(&bytes).unwrap();
        assert_eq!((again.position(), &again), (place, &state));
        ask(&mut state, 1, assign(&[(0, &[])]));
        assert_eq!((info(&state, 0).assignment(), &*info(&state, 0).isr), (None, &[other][..]));
    }

    #[test]
    fn a_partition_that_is_made_with_its_replicas_is_led_by_the_first_that_can() {
        let mut state = bucket_cluster();
        let id = Uuid::from_u128(77);
        let create = MetadataRecord::CreateTopic {
            id,
            name: Str::from("placed"),
            partition_count: 2,
            replication_factor: 2,
            configs: Vec::new(),
        };
        let partitions = vec![(0, vec![2, 1]), (1, vec![9, 1])];
        let assign = MetadataRecord::AssignReplicas { topic_id: id, partitions };
        let request = state.writers[&1].request + 1;
        let entry = Entry { writer: 1, request, records: vec![create, assign] };
        let position = state.position() + 1;
        assert_eq!(state.apply(position, &[entry]), [Outcome::Accepted]);
        let leaders = |state: &State| -> Vec<(i32, i32)> {
            let topic = state.topic("placed").unwrap();
            topic.partitions.iter().map(|info| (info.leader, info.leader_epoch)).collect()
        };
        assert_eq!(leaders(&state), [(2, 0), (1, 0)]);
        let more = MetadataRecord::CreatePartitions { id, from_count: 2, to_count: 4 };
        let partitions = vec![(0, vec![1, 2]), (2, vec![2]), (3, vec![1])];
        let assign = MetadataRecord::AssignReplicas { topic_id: id, partitions };
        let entry = Entry { writer: 1, request: request + 1, records: vec![more, assign] };
        assert_eq!(state.apply(position + 1, &[entry]), [Outcome::Accepted]);
        assert_eq!(leaders(&state), [(2, 0), (1, 0), (2, 0), (1, 0)], "partition 0 was there before");
    }

    #[test]
    fn an_owner_that_leaves_ends_its_own_wal() {
        let mut state = bucket_cluster();
        let retire =
            |rewriter, heirs: &[u64]| MetadataRecord::RetireWal { end: 9, rewriter, heirs: heirs.to_vec() };
        for refused in [retire(1, &[2]), retire(2, &[1]), retire(2, &[])] {
            assert!(matches!(ask(&mut state, 1, refused), Outcome::Rejected(_)));
            assert!(state.is_live(1) && state.leads(1));
        }
        assert_eq!(ask(&mut state, 1, retire(2, &[2])), Outcome::Accepted);
        assert_eq!(leaders(&state), [(2, 0), (2, 1), (2, 0), (2, 1)]);
        assert_eq!((state.wal(1).unwrap().sealed_at, state.is_live(1)), (Some(9), false));
        assert_eq!((state.controller(), state.free_node_id(&[])), (Some(2), 1));
        let late = ask(&mut state, 1, retire(2, &[2]));
        assert_eq!(late, Outcome::Rejected(Precondition::WriterFenced { wal_id: 1 }));
    }

    #[test]
    fn who_is_fenced_is_not_live_and_the_controller_is_the_live_broker_that_started_first() {
        let mut state = bucket_cluster();
        state.apply(4, &[begin(3, 0, 33)]);
        let live =
            |state: &State| -> Vec<i32> { state.live_brokers().map(|broker| broker.node_id).collect() };
        assert_eq!((live(&state), state.controller()), (vec![1, 2, 3], Some(1)));
        ask(&mut state, 2, MetadataRecord::FenceWal { wal_id: 1 });
        assert_eq!((live(&state), state.controller()), (vec![2, 3], Some(2)));
        assert!(!state.is_live(1) && state.is_live(2) && !state.is_live(9));
        // It comes back, as the youngest.
        let position = state.position() + 1;
        assert_eq!(state.apply(position, &[begin(1, 1, 111)]), [Outcome::Accepted]);
        assert_eq!((live(&state), state.controller()), (vec![1, 2, 3], Some(2)));
        assert_eq!(State::default().controller(), None);
    }

    #[test]
    fn a_wal_begins_with_its_registration_only() {
        let mut state = bucket_cluster();
        let late = ask(&mut state, 1, MetadataRecord::BeginWal);
        assert!(matches!(late, Outcome::Rejected(Precondition::UnknownWal { .. })), "{late:?}");
        let mut twice = begin(3, 0, 33);
        twice.records.push(MetadataRecord::BeginWal);
        let position = state.position() + 1;
        let refused = state.apply(position, &[twice]);
        assert!(matches!(refused[..], [Outcome::Rejected(Precondition::WalBegun { .. })]));
        assert_eq!(state.wals().count(), 2);
    }

    fn rewrite(wal_id: u64, from: u64, to: u64, version: u64) -> MetadataRecord {
        let object = Str::from(format!("v{version}"));
        let shards = vec![ShardChange { shard: 3, from_version: version - 1, to_version: version, object }];
        MetadataRecord::RewriteWal { wal_id, from, to, shards }
    }

    /// R6: the mark goes up from where it is, by one rewriter, never past the end, and the manifest with it or not at all.
    #[test]
    fn a_wal_is_rewritten_by_one_from_its_mark_on() {
        let mut state = bucket_cluster();
        let wrong =
            |outcome: Outcome| matches!(outcome, Outcome::Rejected(Precondition::WrongRewrite { .. }));
        assert_eq!(ask(&mut state, 1, rewrite(1, 0, 4, 1)), Outcome::Accepted);
        assert!(wrong(ask(&mut state, 1, rewrite(1, 0, 4, 2))), "twice");
        assert!(wrong(ask(&mut state, 1, rewrite(1, 5, 9, 2))), "with a gap");
        assert!(wrong(ask(&mut state, 2, rewrite(1, 4, 9, 2))), "another's");
        let moved = ask(&mut state, 1, rewrite(1, 4, 9, 1));
        assert!(matches!(moved, Outcome::Rejected(Precondition::ManifestMoved { .. })), "{moved:?}");
        assert_eq!(state.wal(1).unwrap().mark, 4);
        ask(&mut state, 2, MetadataRecord::FenceWal { wal_id: 1 });
        assert!(wrong(ask(&mut state, 2, rewrite(1, 4, 9, 2))), "of a WAL without an end");
        ask(&mut state, 2, seal(1, 8, &[2]));
        assert!(wrong(ask(&mut state, 2, rewrite(1, 4, 9, 2))), "past the end");
        assert_eq!(ask(&mut state, 2, rewrite(1, 4, 8, 2)), Outcome::Accepted);
        assert_eq!(state.wal(1).unwrap().mark, 8);
        assert_eq!(state.manifest(3).unwrap().version, 2);
    }
}
