//! Snapshots: the whole state at one position, so that opening need not read the log from its birth.
//!
//! Sorted maps, no clock and no float: the same state gives the same bytes, and two snapshots of one position
//! that differ prove that two brokers computed two states. File: header · body · trailer (`docs/data-layout.md`).

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::Str;

use crate::acl::Acls;
use crate::encoding::{DecodeError, Decoder, Encoder, checksum, hash};
use crate::level::{self, LevelUnknown, Levels};
use crate::quota::Quotas;
use crate::record::{
    decode_endpoint, decode_levels, decode_list, decode_resource_type, encode_endpoint, encode_levels, kind,
};
use crate::state::{Broker, ConfigMap, LastRequest, ManifestHead, PartitionInfo, State, Topic, Wal};
use crate::topic_name;

pub const MAGIC: [u8; 8] = *b"OTLASNAP";
pub const VERSION: u16 = 1;
const HEADER_LEN: usize = 8 + 2 + 2 + 16 + 8 + 8 + 16 + 8 + 16 + 4;

/// Where in the log the state of a snapshot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPlace {
    pub log_id: [u8; 16],
    pub position: u64,
    /// Byte offset in the log file just behind the frame at `position`.
    pub log_end: u64,
    /// Hash of that frame, the predecessor hash of the next one.
    pub frame_hash: u128,
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("not a snapshot of the metadata log")]
    NotASnapshot,
    #[error("snapshot format {0} is newer than this release of ottla")]
    UnknownVersion(u16),
    /// R18: said before the state is read, which another level may write differently.
    #[error(transparent)]
    UnknownLevel(#[from] LevelUnknown),
    #[error("damaged: {0}")]
    Damaged(&'static str),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

pub fn encode(place: &SnapshotPlace, state: &State) -> Vec<u8> {
    assert_eq!(place.position, state.position(), "a snapshot stands where its state stands");
    let body = encode_state(state);
    let mut out = Encoder::with_capacity(HEADER_LEN + body.len());
    out.raw(&MAGIC);
    out.u16(VERSION);
    // 0: the first level, of which nothing was said when there was no other.
    out.i16(if state.level() == level::FIRST { 0 } else { state.level() });
    out.raw(&place.log_id);
    out.u64(place.position);
    out.u64(place.log_end);
    out.u128(place.frame_hash);
    out.u64(body.len() as u64);
    out.u128(hash(&body));
    let mut bytes = out.finish();
    bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

pub fn decode(bytes: &[u8], known: Levels) -> Result<(SnapshotPlace, State), SnapshotError> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_LEN) else {
        return Err(SnapshotError::Damaged("shorter than its header"));
    };
    let (fields, crc) = header.split_at(HEADER_LEN - 4);
    if !fields.starts_with(&MAGIC) {
        return Err(SnapshotError::NotASnapshot);
    }
    if checksum(fields).to_le_bytes() != crc {
        return Err(SnapshotError::Damaged("checksum of the header"));
    }
    let mut fields = Decoder::new(&fields[MAGIC.len()..], "snapshot header");
    let version = fields.u16()?;
    if version != VERSION {
        return Err(SnapshotError::UnknownVersion(version));
    }
    known.require(fields.i16()?.max(level::FIRST))?;
    let place = SnapshotPlace {
        log_id: fields.take(16)?.try_into().expect("16 bytes"),
        position: fields.u64()?,
        log_end: fields.u64()?,
        frame_hash: fields.u128()?,
    };
    if fields.u64()? != body.len() as u64 {
        return Err(SnapshotError::Damaged("length"));
    }
    if fields.u128()? != hash(body) {
        return Err(SnapshotError::Damaged("hash of the state"));
    }
    let state = decode_body(body)?;
    // The first snapshot is taken behind the first frame; replay could never join one of nothing.
    if state.position() != place.position || place.position == 0 {
        return Err(SnapshotError::Damaged("position"));
    }
    Ok((place, state))
}

pub fn encode_state(state: &State) -> Vec<u8> {
    let mut out = Encoder::with_capacity(4096 + state.topic_count() * 96);
    out.u64(state.position);
    out.str(&state.cluster_id);
    out.count(state.brokers.len());
    for broker in state.brokers.values() {
        out.i32(broker.node_id);
        out.u64(broker.wal_id);
        out.uuid(broker.incarnation);
        out.optional_str(broker.rack.as_deref());
        out.count(broker.endpoints.len());
        for endpoint in &broker.endpoints {
            encode_endpoint(endpoint, &mut out);
        }
    }
    out.count(state.writers.len());
    for (wal_id, last) in &state.writers {
        out.u64(*wal_id);
        out.u64(last.request);
        out.u64(last.position);
        out.u16(last.rejected.unwrap_or(0));
    }
    out.count(state.topics.len());
    for topic in state.topics.values() {
        encode_topic(topic, &mut out);
    }
    out.count(state.configs.values().map(BTreeMap::len).sum());
    for (resource_type, of_type) in &state.configs {
        for (name, map) in of_type {
            out.u8(*resource_type as u8);
            out.str(name);
            out.count(map.len());
            for (key, value) in map.iter() {
                out.str(key);
                out.str(value);
            }
        }
    }
    out.i64(state.next_producer_id);
    out.count(state.features.len());
    for (name, level) in &state.features {
        out.str(name);
        out.i16(*level);
    }
    out.count(state.manifest.len());
    for (shard, head) in &state.manifest {
        out.u32(*shard);
        out.u64(head.version);
        out.str(&head.object);
        out.u64(head.wal_mark);
    }
    // Each of these parts is left out when neither it nor a later one says anything: older states keep the bytes, and so the hash,
    // that they always had.
    let said = |broker: &&Broker| broker.levels != Levels::FIRST_ONLY;
    let parts = encode_parts(state);
    let (levels, is_tiered) = (state.brokers.values().filter(said).count(), !state.tier.is_empty());
    let is_tiered = is_tiered || !parts.is_empty();
    if !state.wals.is_empty() || levels > 0 || is_tiered {
        out.count(state.wals.len());
        for (wal_id, wal) in &state.wals {
            out.u64(*wal_id);
            out.i32(wal.node_id);
            out.u8(u8::from(wal.is_fenced) | u8::from(wal.sealed_at.is_some()) << 1);
            out.u64(wal.sealed_at.unwrap_or(0));
            out.u64(wal.mark);
            out.u64(wal.rewriter);
            out.u64(wal.moved_to);
        }
    }
    if levels > 0 || is_tiered {
        out.count(levels);
        for broker in state.brokers.values().filter(said) {
            out.i32(broker.node_id);
            encode_levels(broker.levels, &mut out);
        }
    }
    if is_tiered {
        out.count(state.tier.len());
        for (shard, head) in &state.tier {
            out.u32(*shard);
            out.u64(head.version);
            out.str(&head.object);
        }
    }
    for (number, bytes) in parts {
        out.u16(number);
        out.count(bytes.len());
        out.raw(&bytes);
    }
    out.finish()
}

/// Parts with a number and a length, in the order of their numbers; each is left out when it says nothing, whatever comes behind. The
/// number is that of the record that makes what stands in it.
fn encode_parts(state: &State) -> Vec<(u16, Vec<u8>)> {
    let mut parts = Vec::new();
    let mut add = |part: u16, is_empty: bool, encode: &dyn Fn(&mut Encoder)| {
        if !is_empty {
            let mut out = Encoder::default();
            encode(&mut out);
            parts.push((part, out.finish()));
        }
    };
    let credentials = &state.credentials;
    add(kind::CREATE_ACL, state.acls.is_empty(), &|out| state.acls.encode(out));
    add(kind::ALTER_QUOTA, state.quotas.is_empty(), &|out| state.quotas.encode(out));
    add(kind::PUT_SCRAM_CREDENTIAL, credentials.scram_count() == 0, &|out| credentials.encode_scram(out));
    add(kind::PUT_DELEGATION_TOKEN, credentials.token_count() == 0, &|out| credentials.encode_tokens(out));
    parts
}

fn decode_part(number: u16, bytes: &mut Decoder<'_>, state: &mut State) -> Result<(), DecodeError> {
    match number {
        kind::CREATE_ACL => state.acls = Acls::decode(bytes)?,
        kind::ALTER_QUOTA => state.quotas = Quotas::decode(bytes)?,
        kind::PUT_SCRAM_CREDENTIAL => state.credentials.decode_scram(bytes)?,
        kind::PUT_DELEGATION_TOKEN => state.credentials.decode_tokens(bytes)?,
        _ => return Err(bytes.impossible(u64::from(number))),
    }
    Ok(())
}

fn encode_topic(topic: &Topic, out: &mut Encoder) {
    out.uuid(topic.id);
    out.str(&topic.name);
    out.i16(topic.replication_factor);
    out.count(topic.partitions.len());
    for partition in &topic.partitions {
        out.i32(partition.leader);
        out.i32(partition.leader_epoch);
        for nodes in [&partition.replicas, &partition.isr] {
            out.count(nodes.len());
            nodes.iter().for_each(|node| out.i32(*node));
        }
    }
}

pub(crate) fn decode_body(bytes: &[u8]) -> Result<State, DecodeError> {
    let mut bytes = Decoder::new(bytes, "snapshot");
    let mut state = State { position: bytes.u64()?, cluster_id: bytes.str()?, ..State::default() };
    for _ in 0..bytes.count(33)? {
        let broker = Broker {
            node_id: bytes.i32()?,
            wal_id: bytes.u64()?,
            incarnation: bytes.uuid()?,
            rack: bytes.optional_str()?,
            endpoints: decode_list(&mut bytes, 12, decode_endpoint)?,
            levels: Levels::FIRST_ONLY,
        };
        state.brokers.insert(broker.node_id, broker);
    }
    for _ in 0..bytes.count(26)? {
        let wal_id = bytes.u64()?;
        let last = LastRequest {
            request: bytes.u64()?,
            position: bytes.u64()?,
            rejected: Some(bytes.u16()?).filter(|code| *code != 0),
        };
        state.writers.insert(wal_id, last);
    }
    let mut placements = Placements::default();
    for _ in 0..bytes.count(26)? {
        let topic = Arc::new(decode_topic(&mut bytes, &mut placements)?);
        if let Some(key) = topic_name::collision_key(&topic.name) {
            state.collisions.insert(Str::from(key.into_owned()), topic.name.clone());
        }
        state.partition_count += topic.partitions.len() as u64;
        state.topic_ids.insert(topic.id, topic.clone());
        state.topics.insert(topic.name.clone(), topic);
    }
    for _ in 0..bytes.count(9)? {
        let resource_type = decode_resource_type(&mut bytes)?;
        let name = bytes.str()?;
        let pairs = decode_list(&mut bytes, 8, |bytes| Ok((bytes.str()?, bytes.str()?)))?;
        state.put_config(resource_type, &name, Some(ConfigMap::new(pairs.into_iter().collect())));
    }
    state.next_producer_id = bytes.i64()?;
    for _ in 0..bytes.count(6)? {
        state.features.insert(bytes.str()?, bytes.i16()?);
    }
    for _ in 0..bytes.count(24)? {
        let shard = bytes.u32()?;
        let head = ManifestHead { version: bytes.u64()?, object: bytes.str()?, wal_mark: bytes.u64()? };
        state.manifest.insert(shard, head);
    }
    if bytes.left() > 0 {
        for _ in 0..bytes.count(45)? {
            let (wal_id, node_id, flags) = (bytes.u64()?, bytes.i32()?, bytes.u8()?);
            if flags > 0b11 {
                return Err(bytes.impossible(u64::from(flags)));
            }
            let sealed_at = Some(bytes.u64()?).filter(|_| flags & 0b10 != 0);
            let (mark, rewriter, moved_to) = (bytes.u64()?, bytes.u64()?, bytes.u64()?);
            let wal = Wal { node_id, is_fenced: flags & 0b01 != 0, sealed_at, mark, rewriter, moved_to };
            state.wals.insert(wal_id, wal);
        }
    }
    if bytes.left() > 0 {
        for _ in 0..bytes.count(8)? {
            let node_id = bytes.i32()?;
            let levels = decode_levels(&mut bytes)?;
            let broker = state.brokers.get_mut(&node_id);
            broker.ok_or_else(|| bytes.impossible(node_id as u64))?.levels = levels;
        }
    }
    if bytes.left() > 0 {
        for _ in 0..bytes.count(16)? {
            let shard = bytes.u32()?;
            let head = ManifestHead { version: bytes.u64()?, object: bytes.str()?, wal_mark: 0 };
            state.tier.insert(shard, head);
        }
    }
    let mut last = 0;
    while bytes.left() > 0 {
        let number = bytes.u16()?;
        if number <= last {
            return Err(bytes.impossible(u64::from(number)));
        }
        last = number;
        let len = bytes.count(1)?;
        let mut part = Decoder::new(bytes.take(len)?, "a part of a snapshot");
        decode_part(number, &mut part, &mut state)?;
        part.end()?;
    }
    Ok(state)
}

fn decode_topic(bytes: &mut Decoder<'_>, placements: &mut Placements) -> Result<Topic, DecodeError> {
    let id = bytes.uuid()?;
    let name = bytes.str()?;
    let replication_factor = bytes.i16()?;
    let partitions = decode_list(bytes, 16, |bytes| {
        Ok(PartitionInfo {
            leader: bytes.i32()?,
            leader_epoch: bytes.i32()?,
            replicas: placements.decode(bytes)?,
            isr: placements.decode(bytes)?,
        })
    })?;
    Ok(Topic { id, internal: topic_name::is_internal(&name), name, replication_factor, partitions })
}

/// Lists of node ids are few and repeated for every partition: keep one of each.
#[derive(Default)]
struct Placements {
    known: BTreeMap<Vec<i32>, Arc<[i32]>>,
}

impl Placements {
    fn decode(&mut self, bytes: &mut Decoder<'_>) -> Result<Arc<[i32]>, DecodeError> {
        let nodes = decode_list(bytes, 4, |bytes| bytes.i32())?;
        Ok(self.known.entry(nodes).or_insert_with_key(|nodes| nodes.as_slice().into()).clone())
    }
}
