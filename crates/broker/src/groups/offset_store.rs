//! Committed offsets of one partition of `__consumer_offsets`, by group, topic and partition. Readers see what is
//! in the log for good; what is still on its way there waits beside it, and counts for whoever writes next.

use std::collections::{BTreeMap, VecDeque};

use protocol::{Str, Uuid};

use super::event::Token;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetKey {
    pub group: Str,
    pub topic: Str,
    pub partition: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: i64,
    /// −1: the client did not say.
    pub leader_epoch: i32,
    pub metadata: Str,
    pub committed_at_ms: i64,
    /// Commits of v2 to v4 could bring a retention of their own.
    pub expire_at_ms: Option<i64>,
    /// Zero in records written before topics had ids there.
    pub topic_id: Uuid,
}

type TopicOffsets = BTreeMap<Str, BTreeMap<i32, CommittedOffset>>;

/// A part of the offsets of a group.
pub struct OffsetPage<'a> {
    pub offsets: Vec<(OffsetKey, &'a CommittedOffset)>,
    /// Where the next page begins; None: this was the last.
    pub next_after: Option<OffsetKey>,
}

#[derive(Debug, Default)]
pub struct OffsetStore {
    committed: BTreeMap<Str, TopicOffsets>,
    /// Writes under way, oldest first for each key; None deletes.
    pending: BTreeMap<OffsetKey, VecDeque<(Token, Option<CommittedOffset>)>>,
    count: usize,
}

impl OffsetStore {
    /// Committed offsets, and not those on their way.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Of all texts that were committed with offsets.
    pub fn metadata_bytes(&self) -> usize {
        let offsets = self.committed.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values);
        let pending = self.pending.values().flatten().filter_map(|(_, value)| value.as_ref());
        offsets.chain(pending).map(|offset| offset.metadata.len()).sum()
    }

    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// What readers see of a group.
    pub fn of_group(&self, group: &str) -> Option<&TopicOffsets> {
        self.committed.get(group)
    }

    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.committed.get(group)?.get(topic)?.get(&partition)
    }

    /// Whether a group has any offset, on its way or not.
    pub fn has_group(&self, group: &Str) -> bool {
        self.committed.contains_key(group) || self.pending_of(group).next().is_some()
    }

    /// What the log will say once everything under way is written.
    pub fn newest(&self, key: &OffsetKey) -> Option<&CommittedOffset> {
        match self.pending.get(key).and_then(VecDeque::back) {
            Some((_, value)) => value.as_ref(),
            None => self.get(&key.group, &key.topic, key.partition),
        }
    }

    /// All newest offsets of a group, in order.
    pub fn newest_of_group(&self, group: &Str) -> Vec<(OffsetKey, &CommittedOffset)> {
        self.page_of_group(group, None, usize::MAX).offsets
    }

    /// The newest offsets of a group in order, about `limit` of them, behind the place `after`.
    pub fn page_of_group(&self, group: &Str, after: Option<&OffsetKey>, limit: usize) -> OffsetPage<'_> {
        let first_topic = after.map(|after| after.topic.clone()).unwrap_or_default();
        let key_of =
            |topic: &Str, partition| OffsetKey { group: group.clone(), topic: topic.clone(), partition };
        let is_after = |key: &OffsetKey| after.is_none_or(|after| key > after);
        let topics =
            self.committed.get(group).into_iter().flat_map(|topics| topics.range(first_topic.clone()..));
        let mut newest: BTreeMap<OffsetKey, &CommittedOffset> = topics
            .flat_map(|(topic, partitions)| {
                partitions.iter().map(move |(partition, value)| (topic, *partition, value))
            })
            .map(|(topic, partition, value)| (key_of(topic, partition), value))
            .filter(|(key, _)| is_after(key))
            .take(limit)
            .collect();
        // A full page ends where it ends: what is under way behind it belongs to the next one.
        let end = (newest.len() == limit).then(|| newest.keys().next_back().cloned()).flatten();
        for (key, writes) in self.pending_of(group) {
            let is_behind_page = end.as_ref().is_some_and(|end| key > end);
            if is_behind_page || !is_after(key) {
                continue;
            }
            match writes.back() {
                Some((_, Some(value))) => newest.insert(key.clone(), value),
                _ => newest.remove(key),
            };
        }
        OffsetPage { offsets: newest.into_iter().collect(), next_after: end }
    }

    /// Groups that have an offset, on its way or not.
    pub fn groups(&self) -> impl Iterator<Item = &Str> {
        let mut groups: Vec<&Str> =
            self.committed.keys().chain(self.pending.keys().map(|key| &key.group)).collect();
        groups.sort_unstable();
        groups.dedup();
        groups.into_iter()
    }

    /// The first of these groups behind one; of all for `None`.
    pub fn next_group(&self, group: Option<&Str>) -> Option<&Str> {
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = group.map_or(Unbounded, Excluded);
        let committed = self.committed.range::<Str, _>((behind, Unbounded)).next().map(|(group, _)| group);
        let from = group.cloned().unwrap_or_default();
        let first = OffsetKey { group: from, topic: Str::default(), partition: i32::MIN };
        let mut pending = self.pending.range(first..).map(|(key, _)| &key.group);
        let pending = pending.find(|its| group.is_none_or(|after| *its > after));
        committed.into_iter().chain(pending).min()
    }

    /// A write of this key goes to the log now.
    pub fn begin(&mut self, key: OffsetKey, token: Token, value: Option<CommittedOffset>) {
        self.pending.entry(key).or_default().push_back((token, value));
    }

    /// The write `token` of these keys is in the log.
    pub fn commit(&mut self, keys: &[OffsetKey], token: Token) {
        for key in keys {
            while let Some(value) = self.take_pending(key, token) {
                self.apply(key, value);
            }
        }
    }

    /// The write `token` of these keys did not reach the log.
    pub fn roll_back(&mut self, keys: &[OffsetKey], token: Token) {
        for key in keys {
            while self.take_pending(key, token).is_some() {}
        }
    }

    /// A write under way brings another value than was thought, or none; nor does it bring one that is older than what it comes upon.
    pub fn amend(&mut self, key: &OffsetKey, token: Token, value: Option<CommittedOffset>) {
        let committed_at_ms = self.get(&key.group, &key.topic, key.partition).map(|it| it.committed_at_ms);
        let Some(writes) = self.pending.get_mut(key) else { return };
        let Some(place) = writes.iter().position(|(written, _)| *written == token) else { return };
        let before_ms = match place.checked_sub(1) {
            Some(before) => writes[before].1.as_ref().map(|it| it.committed_at_ms),
            None => committed_at_ms,
        };
        match value.filter(|value| before_ms.is_none_or(|before_ms| before_ms <= value.committed_at_ms)) {
            Some(value) => writes[place].1 = Some(value),
            None => drop(writes.remove(place)),
        }
        if writes.is_empty() {
            self.pending.remove(key);
        }
    }

    /// Whether the write `token` of a key is a deletion.
    pub fn is_deleted_by(&self, key: &OffsetKey, token: Token) -> bool {
        let writes = self.pending.get(key);
        writes
            .is_some_and(|writes| writes.iter().any(|(written, value)| *written == token && value.is_none()))
    }

    /// A request may name a partition twice; then one token has two values for a key, in their order.
    fn take_pending(&mut self, key: &OffsetKey, token: Token) -> Option<Option<CommittedOffset>> {
        let writes = self.pending.get_mut(key)?;
        let place = writes.iter().position(|(written, _)| *written == token)?;
        let (_, value) = writes.remove(place)?;
        if writes.is_empty() {
            self.pending.remove(key);
        }
        Some(value)
    }

    pub fn apply(&mut self, key: &OffsetKey, value: Option<CommittedOffset>) {
        match value {
            Some(value) => {
                if !self.committed.contains_key(&key.group) {
                    self.committed.insert(key.group.clone(), BTreeMap::new());
                }
                let topics = self.committed.get_mut(&key.group).expect("was put there");
                if !topics.contains_key(&key.topic) {
                    topics.insert(key.topic.clone(), BTreeMap::new());
                }
                let partitions = topics.get_mut(&key.topic).expect("was put there");
                if partitions.insert(key.partition, value).is_none() {
                    self.count += 1;
                }
            }
            None => self.remove(key),
        }
    }

    fn remove(&mut self, key: &OffsetKey) {
        let Some(topics) = self.committed.get_mut(&key.group) else { return };
        let Some(partitions) = topics.get_mut(&key.topic) else { return };
        if partitions.remove(&key.partition).is_some() {
            self.count -= 1;
        }
        if partitions.is_empty() {
            topics.remove(&key.topic);
        }
        if topics.is_empty() {
            self.committed.remove(&key.group);
        }
    }

    fn pending_of(
        &self,
        group: &Str,
    ) -> impl Iterator<Item = (&OffsetKey, &VecDeque<(Token, Option<CommittedOffset>)>)> + use<'_> {
        let group = group.clone();
        let first = OffsetKey { group: group.clone(), topic: Str::default(), partition: i32::MIN };
        self.pending.range(first..).take_while(move |(key, _)| key.group == group)
    }
}
