//! What can be said about the cluster: the records of the metadata log.
//!
//! A record is an intention with its precondition inside ("from 3 to 6 partitions"), so that any replay of any
//! broker comes to the same verdict, and a record that lost a race does nothing (R16). Types and versions are
//! never reused; an unknown one stops the replay (R18).

use protocol::{Str, Uuid};

use crate::acl::Acl;
use crate::credentials::{DelegationToken, ScramCredential, ScramMechanism, decode_mechanism};
use crate::encoding::{DecodeError, Decoder, Encoder};
use crate::level::{self, Levels};
use crate::quota::QuotaChange;

/// Kafka's `ConfigResource.Type`, with Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ResourceType {
    Topic = 2,
    Broker = 4,
    BrokerLogger = 8,
    ClientMetrics = 16,
    Group = 32,
}

impl ResourceType {
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            2 => Some(Self::Topic),
            4 => Some(Self::Broker),
            8 => Some(Self::BrokerLogger),
            16 => Some(Self::ClientMetrics),
            32 => Some(Self::Group),
            _ => None,
        }
    }

    pub fn code(self) -> i8 {
        self as i8
    }
}

/// Where clients reach a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerEndpoint {
    pub listener_name: Str,
    /// Kafka's `SecurityProtocol` ids: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
    pub host: Str,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataRecord {
    /// The first record of a cluster's life.
    CreateCluster {
        cluster_id: Str,
        /// The level that it starts at: the highest that the build knows which begins it.
        level: i16,
    },
    /// A broker started. The position of this record is its WAL id (R1); it fences the earlier incarnations of
    /// the same node id.
    RegisterBroker {
        node_id: i32,
        /// WAL id of the incarnation that this one replaces, 0 = none; a late copy of an old registration can so
        /// never fence a newer one.
        previous: u64,
        incarnation: Uuid,
        rack: Option<Str>,
        endpoints: Vec<BrokerEndpoint>,
        /// What its build knows. Void if the cluster's level is not one of them (R18).
        levels: Levels,
    },
    CreateTopic {
        id: Uuid,
        name: Str,
        partition_count: u32,
        replication_factor: i16,
        configs: Vec<(Str, Str)>,
    },
    DeleteTopic {
        id: Uuid,
    },
    CreatePartitions {
        id: Uuid,
        from_count: u32,
        to_count: u32,
    },
    /// Sets (`Some`) and deletes (`None`) overrides of one resource. Values are checked by whoever proposes them
    /// ([`crate::config::alter`]); the state machine keeps strings.
    SetConfigs {
        resource_type: ResourceType,
        resource_name: Str,
        changes: Vec<(Str, Option<Str>)>,
    },
    /// Hands the ids `expected_next .. expected_next + count` to the WAL `owner`. A lost answer wastes a block
    /// and never shares one.
    AllocateProducerIds {
        expected_next: i64,
        count: u32,
        owner: u64,
    },
    /// Moves a shard of the segment manifest to a new immutable object; `wal_mark` is the rewrite mark (R6).
    ManifestShard {
        shard: u32,
        from_version: u64,
        to_version: u64,
        object: Str,
        wal_mark: u64,
    },
    /// Moves a shard of the manifest of the second tier (`commitlog::tier`) to a new immutable object.
    TierShard(ShardChange),
    /// Raises or lowers a feature (level 0 = not there). [`level::OTTLA_VERSION`] goes up only, and only to what all live brokers know.
    FeatureLevel {
        name: Str,
        from_level: i16,
        to_level: i16,
    },
    /// The incarnation that the same request registers keeps its WAL in the bucket, under the position of this record (R1).
    BeginWal,
    /// Nothing that this incarnation appends to the metadata counts any more, and its rewrite mark stands still (R9).
    FenceWal {
        wal_id: u64,
    },
    /// A fenced WAL ends before slot `end`; what stands there or behind was never acknowledged (R11). The partitions of its
    /// node go to the heirs in turn, each under the next leader epoch.
    SealWal {
        wal_id: u64,
        end: u64,
        /// The one incarnation that may rewrite it from now on (R6), and whatever this WAL's owner was to rewrite.
        rewriter: u64,
        /// WAL ids; none if the node has an older WAL that is not sealed, which then has all of its partitions.
        heirs: Vec<u64>,
    },
    /// The mark of a WAL goes from slot `from` to `to`: what those slots said is in segments, to which these shards of the
    /// manifest lead, which also have what the slots said besides batches (R6, F2).
    RewriteWal {
        wal_id: u64,
        from: u64,
        to: u64,
        shards: Vec<ShardChange>,
    },
    /// The writer gives partitions to another incarnation; all that they have in the writer's WAL is acknowledged and lies
    /// below `slot` (R13). Topic ids and indices; those that the writer does not lead stay where they are.
    MovePartitions {
        slot: u64,
        heir: u64,
        partitions: Vec<(Uuid, Vec<u32>)>,
    },
    /// In a bucket: which nodes shall be shown as the replicas of these partitions, the one that shall lead first. Without nodes they
    /// are chosen as for any other partition. Partitions that the same request makes are led so from the start.
    AssignReplicas {
        topic_id: Uuid,
        partitions: Vec<(u32, Vec<i32>)>,
    },
    /// The writer leaves: its WAL ends before slot `end`, where it has nothing in flight. Otherwise as [`Self::SealWal`].
    RetireWal {
        end: u64,
        rewriter: u64,
        heirs: Vec<u64>,
    },
    /// A user's SCRAM credential is this one from now on.
    PutScramCredential {
        user: Str,
        mechanism: ScramMechanism,
        credential: ScramCredential,
    },
    RemoveScramCredential {
        user: Str,
        mechanism: ScramMechanism,
    },
    /// A delegation token is made or renewed. Void unless the one of that id expires at `expected_ms` now, 0 = there is none.
    PutDelegationToken {
        expected_ms: i64,
        token: DelegationToken,
    },
    RemoveDelegationToken {
        token_id: Str,
    },
    /// One that is there already changes nothing: who creates it twice has it.
    CreateAcl(Acl),
    /// One that is not there any more changes nothing.
    DeleteAcl(Acl),
    AlterQuota(QuotaChange),
    /// A WAL that is sealed and rewritten to its end, and that nothing refers to, goes from the state. Its id is never used again (R1).
    ForgetWal {
        wal_id: u64,
    },
    /// Of the level that only tests know: what a record of the next release will be to this one.
    #[cfg(any(test, feature = "next-level"))]
    Remark {
        text: Str,
    },
}

/// A shard of the manifest goes to a new immutable object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardChange {
    pub shard: u32,
    pub from_version: u64,
    pub to_version: u64,
    pub object: Str,
}

impl ShardChange {
    fn encode(&self, out: &mut Encoder) {
        out.u32(self.shard);
        out.u64(self.from_version);
        out.u64(self.to_version);
        out.str(&self.object);
    }

    fn decode(bytes: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            shard: bytes.u32()?,
            from_version: bytes.u64()?,
            to_version: bytes.u64()?,
            object: bytes.str()?,
        })
    }
}

/// Record types on the disk. Append only.
pub(crate) mod kind {
    pub const CREATE_CLUSTER: u16 = 1;
    pub const REGISTER_BROKER: u16 = 2;
    pub const CREATE_TOPIC: u16 = 3;
    pub const DELETE_TOPIC: u16 = 4;
    pub const CREATE_PARTITIONS: u16 = 5;
    pub const SET_CONFIGS: u16 = 6;
    pub const ALLOCATE_PRODUCER_IDS: u16 = 7;
    pub const MANIFEST_SHARD: u16 = 8;
    pub const FEATURE_LEVEL: u16 = 9;
    pub const BEGIN_WAL: u16 = 10;
    pub const FENCE_WAL: u16 = 11;
    pub const SEAL_WAL: u16 = 12;
    pub const REWRITE_WAL: u16 = 13;
    pub const MOVE_PARTITIONS: u16 = 14;
    pub const RETIRE_WAL: u16 = 15;
    pub const TIER_SHARD: u16 = 17;
    pub const ASSIGN_REPLICAS: u16 = 25;
    pub const PUT_SCRAM_CREDENTIAL: u16 = 30;
    pub const REMOVE_SCRAM_CREDENTIAL: u16 = 31;
    pub const PUT_DELEGATION_TOKEN: u16 = 32;
    pub const REMOVE_DELEGATION_TOKEN: u16 = 33;
    pub const CREATE_ACL: u16 = 26;
    pub const DELETE_ACL: u16 = 27;
    pub const ALTER_QUOTA: u16 = 28;
    pub const FORGET_WAL: u16 = 34;
    /// Far from what releases will have.
    #[cfg(any(test, feature = "next-level"))]
    pub const REMARK: u16 = 60_000;
}

impl MetadataRecord {
    fn kind(&self) -> u16 {
        match self {
            Self::CreateCluster { .. } => kind::CREATE_CLUSTER,
            Self::RegisterBroker { .. } => kind::REGISTER_BROKER,
            Self::CreateTopic { .. } => kind::CREATE_TOPIC,
            Self::DeleteTopic { .. } => kind::DELETE_TOPIC,
            Self::CreatePartitions { .. } => kind::CREATE_PARTITIONS,
            Self::SetConfigs { .. } => kind::SET_CONFIGS,
            Self::AllocateProducerIds { .. } => kind::ALLOCATE_PRODUCER_IDS,
            Self::ManifestShard { .. } => kind::MANIFEST_SHARD,
            Self::TierShard(_) => kind::TIER_SHARD,
            Self::FeatureLevel { .. } => kind::FEATURE_LEVEL,
            Self::BeginWal => kind::BEGIN_WAL,
            Self::FenceWal { .. } => kind::FENCE_WAL,
            Self::SealWal { .. } => kind::SEAL_WAL,
            Self::RewriteWal { .. } => kind::REWRITE_WAL,
            Self::MovePartitions { .. } => kind::MOVE_PARTITIONS,
            Self::RetireWal { .. } => kind::RETIRE_WAL,
            Self::AssignReplicas { .. } => kind::ASSIGN_REPLICAS,
            Self::PutScramCredential { .. } => kind::PUT_SCRAM_CREDENTIAL,
            Self::RemoveScramCredential { .. } => kind::REMOVE_SCRAM_CREDENTIAL,
            Self::PutDelegationToken { .. } => kind::PUT_DELEGATION_TOKEN,
            Self::RemoveDelegationToken { .. } => kind::REMOVE_DELEGATION_TOKEN,
            Self::CreateAcl(_) => kind::CREATE_ACL,
            Self::DeleteAcl(_) => kind::DELETE_ACL,
            Self::AlterQuota(_) => kind::ALTER_QUOTA,
            Self::ForgetWal { .. } => kind::FORGET_WAL,
            #[cfg(any(test, feature = "next-level"))]
            Self::Remark { .. } => kind::REMARK,
        }
    }

    /// The oldest version that says everything. Version 1 was there before there was a second level to name: so all builds read it.
    fn version(&self) -> u8 {
        match self {
            Self::CreateCluster { level, .. } => u8::from(*level != level::FIRST),
            Self::RegisterBroker { levels, .. } => u8::from(*levels != Levels::FIRST_ONLY),
            _ => 0,
        }
    }

    /// type u16 · version u8 · fields.
    pub(crate) fn encode(&self, out: &mut Encoder) {
        let version = self.version();
        out.u16(self.kind());
        out.u8(version);
        match self {
            Self::CreateCluster { cluster_id, level } => {
                out.str(cluster_id);
                if version >= 1 {
                    out.i16(*level);
                }
            }
            Self::RegisterBroker { node_id, previous, incarnation, rack, endpoints, levels } => {
                out.i32(*node_id);
                out.u64(*previous);
                out.uuid(*incarnation);
                out.optional_str(rack.as_deref());
                out.count(endpoints.len());
                for endpoint in endpoints {
                    encode_endpoint(endpoint, out);
                }
                if version >= 1 {
                    encode_levels(*levels, out);
                }
            }
            Self::CreateTopic { id, name, partition_count, replication_factor, configs } => {
                out.uuid(*id);
                out.str(name);
                out.u32(*partition_count);
                out.i16(*replication_factor);
                out.count(configs.len());
                for (key, value) in configs {
                    out.str(key);
                    out.str(value);
                }
            }
            Self::DeleteTopic { id } => out.uuid(*id),
            Self::CreatePartitions { id, from_count, to_count } => {
                out.uuid(*id);
                out.u32(*from_count);
                out.u32(*to_count);
            }
            Self::SetConfigs { resource_type, resource_name, changes } => {
                out.u8(*resource_type as u8);
                out.str(resource_name);
                out.count(changes.len());
                for (key, value) in changes {
                    out.str(key);
                    out.optional_str(value.as_deref());
                }
            }
            Self::AllocateProducerIds { expected_next, count, owner } => {
                out.i64(*expected_next);
                out.u32(*count);
                out.u64(*owner);
            }
            Self::ManifestShard { shard, from_version, to_version, object, wal_mark } => {
                out.u32(*shard);
                out.u64(*from_version);
                out.u64(*to_version);
                out.str(object);
                out.u64(*wal_mark);
            }
            Self::TierShard(change) => change.encode(out),
            Self::FeatureLevel { name, from_level, to_level } => {
                out.str(name);
                out.i16(*from_level);
                out.i16(*to_level);
            }
            Self::BeginWal => {}
            Self::FenceWal { wal_id } => out.u64(*wal_id),
            Self::SealWal { wal_id, end, rewriter, heirs } => {
                out.u64(*wal_id);
                out.u64(*end);
                out.u64(*rewriter);
                out.count(heirs.len());
                heirs.iter().for_each(|heir| out.u64(*heir));
            }
            Self::RewriteWal { wal_id, from, to, shards } => {
                out.u64(*wal_id);
                out.u64(*from);
                out.u64(*to);
                out.count(shards.len());
                shards.iter().for_each(|change| change.encode(out));
            }
            Self::MovePartitions { slot, heir, partitions } => {
                out.u64(*slot);
                out.u64(*heir);
                out.count(partitions.len());
                for (topic_id, indices) in partitions {
                    out.uuid(*topic_id);
                    out.count(indices.len());
                    indices.iter().for_each(|index| out.u32(*index));
                }
            }
            Self::RetireWal { end, rewriter, heirs } => {
                out.u64(*end);
                out.u64(*rewriter);
                out.count(heirs.len());
                heirs.iter().for_each(|heir| out.u64(*heir));
            }
            Self::ForgetWal { wal_id } => out.u64(*wal_id),
            Self::AssignReplicas { topic_id, partitions } => {
                out.uuid(*topic_id);
                out.count(partitions.len());
                for (index, nodes) in partitions {
                    out.u32(*index);
                    out.count(nodes.len());
                    nodes.iter().for_each(|node_id| out.i32(*node_id));
                }
            }
            Self::PutScramCredential { user, mechanism, credential } => {
                out.str(user);
                out.u8(*mechanism as u8);
                credential.encode(out);
            }
            Self::RemoveScramCredential { user, mechanism } => {
                out.str(user);
                out.u8(*mechanism as u8);
            }
            Self::PutDelegationToken { expected_ms, token } => {
                out.i64(*expected_ms);
                token.encode(out);
            }
            Self::RemoveDelegationToken { token_id } => out.str(token_id),
            Self::CreateAcl(acl) | Self::DeleteAcl(acl) => acl.encode(out),
            Self::AlterQuota(change) => change.encode(out),
            #[cfg(any(test, feature = "next-level"))]
            Self::Remark { text } => out.str(text),
        }
    }

    pub(crate) fn decode(bytes: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let record_type = bytes.u16()?;
        let version = bytes.u8()?;
        let version_max = match record_type {
            kind::CREATE_CLUSTER | kind::REGISTER_BROKER => 1,
            _ => 0,
        };
        if version > version_max {
            return Err(DecodeError::UnknownRecord { record_type, version });
        }
        Ok(match record_type {
            kind::CREATE_CLUSTER => Self::CreateCluster {
                cluster_id: bytes.str()?,
                level: if version >= 1 { bytes.i16()? } else { level::FIRST },
            },
            kind::REGISTER_BROKER => Self::RegisterBroker {
                node_id: bytes.i32()?,
                previous: bytes.u64()?,
                incarnation: bytes.uuid()?,
                rack: bytes.optional_str()?,
                endpoints: decode_list(bytes, 12, decode_endpoint)?,
                levels: if version >= 1 { decode_levels(bytes)? } else { Levels::FIRST_ONLY },
            },
            kind::CREATE_TOPIC => Self::CreateTopic {
                id: bytes.uuid()?,
                name: bytes.str()?,
                partition_count: bytes.u32()?,
                replication_factor: bytes.i16()?,
                configs: decode_list(bytes, 8, |bytes| Ok((bytes.str()?, bytes.str()?)))?,
            },
            kind::DELETE_TOPIC => Self::DeleteTopic { id: bytes.uuid()? },
            kind::CREATE_PARTITIONS => {
                Self::CreatePartitions { id: bytes.uuid()?, from_count: bytes.u32()?, to_count: bytes.u32()? }
            }
            kind::SET_CONFIGS => Self::SetConfigs {
                resource_type: decode_resource_type(bytes)?,
                resource_name: bytes.str()?,
                changes: decode_list(bytes, 5, |bytes| Ok((bytes.str()?, bytes.optional_str()?)))?,
            },
            kind::ALLOCATE_PRODUCER_IDS => Self::AllocateProducerIds {
                expected_next: bytes.i64()?,
                count: bytes.u32()?,
                owner: bytes.u64()?,
            },
            kind::MANIFEST_SHARD => Self::ManifestShard {
                shard: bytes.u32()?,
                from_version: bytes.u64()?,
                to_version: bytes.u64()?,
                object: bytes.str()?,
                wal_mark: bytes.u64()?,
            },
            kind::FEATURE_LEVEL => {
                Self::FeatureLevel { name: bytes.str()?, from_level: bytes.i16()?, to_level: bytes.i16()? }
            }
            kind::TIER_SHARD => Self::TierShard(ShardChange::decode(bytes)?),
            kind::BEGIN_WAL => Self::BeginWal,
            kind::FENCE_WAL => Self::FenceWal { wal_id: bytes.u64()? },
            kind::SEAL_WAL => Self::SealWal {
                wal_id: bytes.u64()?,
                end: bytes.u64()?,
                rewriter: bytes.u64()?,
                heirs: decode_list(bytes, 8, |bytes| bytes.u64())?,
            },
            kind::REWRITE_WAL => Self::RewriteWal {
                wal_id: bytes.u64()?,
                from: bytes.u64()?,
                to: bytes.u64()?,
                shards: decode_list(bytes, 24, ShardChange::decode)?,
            },
            kind::MOVE_PARTITIONS => Self::MovePartitions {
                slot: bytes.u64()?,
                heir: bytes.u64()?,
                partitions: decode_list(bytes, 20, |bytes| {
                    Ok((bytes.uuid()?, decode_list(bytes, 4, |bytes| bytes.u32())?))
                })?,
            },
            kind::RETIRE_WAL => Self::RetireWal {
                end: bytes.u64()?,
                rewriter: bytes.u64()?,
                heirs: decode_list(bytes, 8, |bytes| bytes.u64())?,
            },
            kind::FORGET_WAL => Self::ForgetWal { wal_id: bytes.u64()? },
            kind::ASSIGN_REPLICAS => Self::AssignReplicas {
                topic_id: bytes.uuid()?,
                partitions: decode_list(bytes, 8, |bytes| {
                    Ok((bytes.u32()?, decode_list(bytes, 4, |bytes| bytes.i32())?))
                })?,
            },
            kind::PUT_SCRAM_CREDENTIAL => Self::PutScramCredential {
                user: bytes.str()?,
                mechanism: decode_mechanism(bytes)?,
                credential: ScramCredential::decode(bytes)?,
            },
            kind::REMOVE_SCRAM_CREDENTIAL => {
                Self::RemoveScramCredential { user: bytes.str()?, mechanism: decode_mechanism(bytes)? }
            }
            kind::PUT_DELEGATION_TOKEN => {
                Self::PutDelegationToken { expected_ms: bytes.i64()?, token: DelegationToken::decode(bytes)? }
            }
            kind::REMOVE_DELEGATION_TOKEN => Self::RemoveDelegationToken { token_id: bytes.str()? },
            kind::CREATE_ACL => Self::CreateAcl(Acl::decode(bytes)?),
            kind::DELETE_ACL => Self::DeleteAcl(Acl::decode(bytes)?),
            kind::ALTER_QUOTA => Self::AlterQuota(QuotaChange::decode(bytes)?),
            #[cfg(any(test, feature = "next-level"))]
            kind::REMARK => Self::Remark { text: bytes.str()? },
            _ => return Err(DecodeError::UnknownRecord { record_type, version }),
        })
    }
}

pub(crate) fn encode_endpoint(endpoint: &BrokerEndpoint, out: &mut Encoder) {
    out.str(&endpoint.listener_name);
    out.i16(endpoint.security_protocol);
    out.str(&endpoint.host);
    out.u16(endpoint.port);
}

pub(crate) fn decode_endpoint(bytes: &mut Decoder<'_>) -> Result<BrokerEndpoint, DecodeError> {
    Ok(BrokerEndpoint {
        listener_name: bytes.str()?,
        security_protocol: bytes.i16()?,
        host: bytes.str()?,
        port: bytes.u16()?,
    })
}

pub(crate) fn encode_levels(levels: Levels, out: &mut Encoder) {
    out.i16(levels.lowest);
    out.i16(levels.highest);
}

pub(crate) fn decode_levels(bytes: &mut Decoder<'_>) -> Result<Levels, DecodeError> {
    Ok(Levels { lowest: bytes.i16()?, highest: bytes.i16()? })
}

pub(crate) fn decode_resource_type(bytes: &mut Decoder<'_>) -> Result<ResourceType, DecodeError> {
    let code = bytes.u8()?;
    ResourceType::from_code(code as i8).ok_or_else(|| bytes.impossible(u64::from(code)))
}

pub(crate) fn decode_list<T>(
    bytes: &mut Decoder<'_>,
    element_len_min: usize,
    mut element: impl FnMut(&mut Decoder<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = bytes.count(element_len_min)?;
    let mut list = Vec::with_capacity(count);
    for _ in 0..count {
        list.push(element(bytes)?);
    }
    Ok(list)
}
