//! Quotas of clients: what a user, a client id, both together, or an address may use of a broker (KIP-55, KIP-257, KIP-546, KIP-599,
//! KIP-612). Kept here, enforced in `broker::quotas` and `server`.

use std::collections::BTreeMap;

use protocol::Str;

use crate::encoding::{DecodeError, Decoder, Encoder};
use crate::record::decode_list;

pub const USER: &str = "user";
pub const CLIENT_ID: &str = "client-id";
pub const IP: &str = "ip";

/// Type → name, none: the default of the type. Kafka knows {user}, {client-id}, {user, client-id} and {ip}.
pub type QuotaEntity = BTreeMap<Str, Option<Str>>;

/// A bound. Values that are no number are not made, so two are one when their bits are.
#[derive(Debug, Clone, Copy)]
pub struct QuotaValue(pub f64);

impl PartialEq for QuotaValue {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for QuotaValue {}

/// What one entity has, by key (`producer_byte_rate` …).
pub type QuotaValues = BTreeMap<Str, QuotaValue>;

/// Changes of one entity: `Some` sets, `None` takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaChange {
    pub entity: QuotaEntity,
    pub values: Vec<(Str, Option<QuotaValue>)>,
}

impl QuotaChange {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        encode_entity(&self.entity, out);
        out.count(self.values.len());
        for (key, value) in &self.values {
            out.str(key);
            out.bool(value.is_some());
            if let Some(value) = value {
                out.u64(value.0.to_bits());
            }
        }
    }

    pub(crate) fn decode(bytes: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let entity = decode_entity(bytes)?;
        let values = decode_list(bytes, 5, |bytes| {
            let key = bytes.str()?;
            let value = if bytes.bool()? { Some(decode_value(bytes)?) } else { None };
            Ok((key, value))
        })?;
        Ok(Self { entity, values })
    }
}

/// All quotas of the cluster; no entity in it is without values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quotas {
    entities: BTreeMap<QuotaEntity, QuotaValues>,
}

impl Quotas {
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entities.len()
    }

    pub fn of(&self, entity: &QuotaEntity) -> Option<&QuotaValues> {
        self.entities.get(entity)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&QuotaEntity, &QuotaValues)> {
        self.entities.iter()
    }

    /// What the entity had before.
    pub(crate) fn change(&mut self, change: &QuotaChange) -> Option<QuotaValues> {
        let old = self.entities.get(&change.entity).cloned();
        let mut values = old.clone().unwrap_or_default();
        for (key, value) in &change.values {
            match value {
                Some(value) => values.insert(key.detached(), *value),
                None => values.remove(key),
            };
        }
        self.put(&change.entity, Some(values));
        old
    }

    pub(crate) fn put(&mut self, entity: &QuotaEntity, values: Option<QuotaValues>) {
        let owned = entity.iter().map(|(kind, name)| (kind.detached(), name.as_ref().map(Str::detached)));
        match values.filter(|values| !values.is_empty()) {
            Some(values) => drop(self.entities.insert(owned.collect(), values)),
            None => drop(self.entities.remove(entity)),
        }
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.count(self.entities.len());
        for (entity, values) in &self.entities {
            encode_entity(entity, out);
            out.count(values.len());
            for (key, value) in values {
                out.str(key);
                out.u64(value.0.to_bits());
            }
        }
    }

    pub(crate) fn decode(bytes: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let entities = decode_list(bytes, 8, |bytes| {
            let entity = decode_entity(bytes)?;
            let values = decode_list(bytes, 12, |bytes| Ok((bytes.str()?, decode_value(bytes)?)))?;
            Ok((entity, values.into_iter().collect()))
        })?;
        Ok(entities.into_iter().collect())
    }
}

impl FromIterator<(QuotaEntity, QuotaValues)> for Quotas {
    fn from_iter<I: IntoIterator<Item = (QuotaEntity, QuotaValues)>>(entities: I) -> Self {
        Self { entities: entities.into_iter().filter(|(_, values)| !values.is_empty()).collect() }
    }
}

fn encode_entity(entity: &QuotaEntity, out: &mut Encoder) {
    out.count(entity.len());
    for (kind, name) in entity {
        out.str(kind);
        out.optional_str(name.as_deref());
    }
}

fn decode_entity(bytes: &mut Decoder<'_>) -> Result<QuotaEntity, DecodeError> {
    let parts = decode_list(bytes, 5, |bytes| Ok((bytes.str()?, bytes.optional_str()?)))?;
    Ok(parts.into_iter().collect())
}

fn decode_value(bytes: &mut Decoder<'_>) -> Result<QuotaValue, DecodeError> {
    Ok(QuotaValue(f64::from_bits(bytes.u64()?)))
}
