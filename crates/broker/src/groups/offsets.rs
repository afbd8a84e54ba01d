//! OffsetCommit, OffsetFetch, OffsetDelete, and offsets that go by themselves: expired ones and those of deleted
//! topics. Behaviour after Kafka's `OffsetMetadataManager`. Offsets inside transactions: `pending.rs`.

use protocol::{ErrorCode, Str, Uuid};

use super::consumer::ConsumerGroup;
use super::entry::Kind;
use super::event::{
    Answer, CommitAnswer, CommitOffset, CommitRequest, DeleteOffsetsAnswer, Effects, FetchOffsetsRequest,
    FetchTopic, FetchedOffset, FetchedOffsets, FetchedTopic, GroupRecord, Now, ReplyId,
};
use super::group::{Group, GroupState};
use super::offset_store::{CommittedOffset, OffsetKey};
use super::records;
use super::shard::{AfterWrite, Shard};
use super::streams::StreamsGroup;

impl Shard {
    pub fn commit_offsets(
        &mut self,
        request: CommitRequest,
        reply: ReplyId,
        now: Now,
        effects: &mut Effects,
    ) {
        let refuse = |error, effects: &mut Effects| {
            effects.answer(reply, Answer::Commit(CommitAnswer::Refused(error)))
        };
        if let Err(error) = self.check_commit(&request, now) {
            return refuse(error, effects);
        }
        // What is under way counts too, or a fast client could fly past the bound.
        let is_full = self.offsets.len() + self.offsets.pending_len() + request.offsets.len()
            > self.settings.offsets_per_partition_max;
        let is_known = |commit: &CommitOffset| {
            self.offsets.get(&request.group, &commit.topic, commit.partition).is_some()
        };
        if is_full && !request.offsets.iter().all(is_known) {
            return refuse(ErrorCode::PolicyViolation, effects);
        }
        let is_new_group = !self.has_group(&request.group);
        if is_new_group && self.is_full_of_groups()
            || !self.has_room_for_offsets(&request.group, &request.offsets, now)
        {
            return refuse(ErrorCode::PolicyViolation, effects);
        }
        if is_new_group {
            // A simple consumer group: offsets without members. Its offsets are all that is written of it.
            let id = request.group.detached();
            self.groups.insert(id.clone(), Group::new(id, now.wall_ms));
        }
        let group_id = self.group_id(&request.group).expect("was made or is there");
        let created = is_new_group.then(|| group_id.clone());
        let expire_at_ms = request.retention_ms.map(|retention_ms| now.wall_ms.saturating_add(retention_ms));
        let metadata_units_max = self.settings.offset_metadata_units_max;
        let mut each = Vec::with_capacity(request.offsets.len());
        let mut written = Vec::with_capacity(request.offsets.len());
        let mut topic = Str::default();
        for commit in request.offsets {
            if is_longer_than(&commit.metadata, metadata_units_max) {
                each.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            each.push(ErrorCode::None);
            if topic != commit.topic {
                topic = commit.topic.detached();
            }
            let key =
                OffsetKey { group: group_id.clone(), topic: topic.clone(), partition: commit.partition };
            let value = CommittedOffset {
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata: match commit.metadata.is_empty() {
                    true => Str::default(),
                    false => commit.metadata.detached(),
                },
                committed_at_ms: self.commit_time_ms(&key, now),
                expire_at_ms,
                topic_id: commit.topic_id,
            };
            written.push((key, value));
        }
        if written.is_empty() {
            if let Some(group) = created {
                self.forget_unused_group(&group);
            }
            return effects.answer(reply, Answer::Commit(CommitAnswer::Each(each)));
        }
        let records = written.iter().map(|(key, value)| records::offset_record(key, value)).collect();
        let keys = written.iter().map(|(key, _)| key.clone()).collect();
        let token = self.next_token();
        for (key, value) in written {
            self.offsets.begin(key, token, Some(value));
        }
        let answer = CommitAnswer::Each(each);
        self.write(records, keys, AfterWrite::OffsetsCommitted { reply, answer, created }, effects);
    }

    /// Members commit for their generation; without a generation only an empty group may be written to.
    fn check_commit(&mut self, request: &CommitRequest, now: Now) -> Result<(), ErrorCode> {
        if let Some(group) = self.consumer_group(&request.group) {
            return self.check_consumer_commit(group, request);
        }
        if let Some(group) = self.streams_group(&request.group) {
            return group.check_commit(request);
        }
        // What its members have read stands elsewhere.
        if self.share_group(&request.group).is_some() {
            return Err(ErrorCode::GroupIdNotFound);
        }
        let Some(group) = self.groups.get(&request.group) else {
            return match request.generation < 0 {
                true => Ok(()),
                false if request.knows_group_id_not_found => Err(ErrorCode::GroupIdNotFound),
                false => Err(ErrorCode::IllegalGeneration),
            };
        };
        if request.generation < 0 && group.is_in(GroupState::Empty) {
            return Ok(());
        }
        let is_member =
            request.generation >= 0 || !request.member_id.is_empty() || request.instance_id.is_some();
        if !is_member {
            return Err(ErrorCode::UnknownMemberId);
        }
        group.check_member(&request.member_id, request.instance_id.as_ref())?;
        if request.generation != group.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if group.is_in(GroupState::CompletingRebalance) {
            // It knows the new generation and not yet its assignment: what it commits may be another's by now.
            return Err(ErrorCode::RebalanceInProgress);
        }
        // A commit shows that the member lives, as a heartbeat does.
        let session_timeout_ms = group.members[&request.member_id].session_timeout_ms;
        let group_id = group.id.clone();
        self.watch_own(&group_id, &request.member_id, session_timeout_ms, now);
        Ok(())
    }

    /// What is committed for good. With `require_stable` (KIP-447) use [`Shard::fetch_stable_offsets`].
    pub fn fetch_offsets(&self, request: &FetchOffsetsRequest) -> FetchedOffsets {
        match &request.topics {
            Some(topics) => {
                read_offsets(topics, |topic, partition| self.offsets.get(&request.group, topic, partition))
            }
            None => {
                let topics = self.offsets.of_group(&request.group).into_iter().flatten();
                let each = topics.flat_map(|(topic, partitions)| {
                    partitions.iter().map(move |(&partition, committed)| (topic, partition, committed))
                });
                all_offsets(each)
            }
        }
    }

    /// Answers behind every commit under way, with what these commit.
    pub fn fetch_stable_offsets(
        &mut self,
        request: &FetchOffsetsRequest,
        reply: ReplyId,
        effects: &mut Effects,
    ) {
        let key = |topic: &Str, partition| OffsetKey {
            group: request.group.clone(),
            topic: topic.clone(),
            partition,
        };
        let mut fetched = match &request.topics {
            Some(topics) => {
                read_offsets(topics, |topic, partition| self.offsets.newest(&key(topic, partition)))
            }
            None => {
                let newest = self.offsets.newest_of_group(&request.group);
                all_offsets(newest.iter().map(|(key, committed)| (&key.topic, key.partition, *committed)))
            }
        };
        for topic in &mut fetched.topics {
            for offset in &mut topic.partitions {
                if self.pending_offsets.has(&key(&topic.topic, offset.partition)) {
                    let partition = offset.partition;
                    *offset = FetchedOffset { is_unstable: true, ..self::fetched(partition, None) };
                }
            }
        }
        self.answer_behind_writes(reply, Answer::Fetch(Ok(fetched)), effects);
    }

    /// `OffsetDelete` (KIP-496).
    pub fn delete_offsets(
        &mut self,
        group_id: &Str,
        partitions: Vec<(Str, i32)>,
        reply: ReplyId,
        effects: &mut Effects,
    ) {
        let refused = match self.groups.get(group_id) {
            None if self.has_group(group_id) => None,
            None => Some(ErrorCode::GroupIdNotFound),
            Some(group) if !group.is_in(GroupState::Empty) && !group.uses_consumer_protocol() => {
                Some(ErrorCode::NonEmptyGroup)
            }
            Some(_) => None,
        };
        if let Some(error) = refused {
            let answer = Answer::DeleteOffsets(DeleteOffsetsAnswer::Refused(error));
            return effects.answer(reply, answer);
        }
        let own_id = self.group_id(group_id).expect("was checked");
        let mut each = Vec::with_capacity(partitions.len());
        let mut keys = Vec::new();
        for (topic, partition) in partitions {
            if self.is_subscribed_to(group_id, &topic) {
                each.push(ErrorCode::GroupSubscribedToTopic);
                continue;
            }
            each.push(ErrorCode::None);
            let key = OffsetKey { group: own_id.clone(), topic: topic.detached(), partition };
            if self.offsets.newest(&key).is_some() || self.pending_offsets.has(&key) {
                keys.push(key);
            }
        }
        let answer = DeleteOffsetsAnswer::Each(each);
        if keys.is_empty() {
            return self.answer_behind_writes(reply, Answer::DeleteOffsets(answer), effects);
        }
        self.drop_offsets(keys, AfterWrite::OffsetsDeleted { reply, answer }, Vec::new(), effects);
    }

    /// Topics were deleted: their offsets go, whatever their groups do.
    pub fn topics_deleted(&mut self, topics: &[(Str, Uuid)], effects: &mut Effects) {
        let is_of_deleted = |key: &OffsetKey, committed: &CommittedOffset| {
            let is_it = |(name, id): &(Str, Uuid)| {
                *name == key.topic && (committed.topic_id == Uuid::ZERO || committed.topic_id == *id)
            };
            topics.iter().any(is_it)
        };
        self.drop_offsets_where(is_of_deleted, effects);
        self.share_topics_deleted(effects);
    }

    /// After a restart: offsets of topics that were deleted while nobody could tell us. `current_id` knows the
    /// topics there are.
    pub fn drop_offsets_of_gone_topics(
        &mut self,
        current_id: impl Fn(&Str) -> Option<Uuid>,
        effects: &mut Effects,
    ) {
        let is_gone = |key: &OffsetKey, committed: &CommittedOffset| {
            // Records without an id may be of any topic of that name; retention sees to them.
            committed.topic_id != Uuid::ZERO && current_id(&key.topic) != Some(committed.topic_id)
        };
        self.drop_offsets_where(is_gone, effects);
        self.share_topics_deleted(effects);
    }

    fn drop_offsets_where(
        &mut self,
        goes: impl Fn(&OffsetKey, &CommittedOffset) -> bool,
        effects: &mut Effects,
    ) {
        let groups = self.offsets.groups();
        let offsets = groups.flat_map(|group| self.offsets.newest_of_group(group));
        let mut keys: Vec<OffsetKey> =
            offsets.filter(|(key, committed)| goes(key, committed)).map(|(key, _)| key).collect();
        keys.extend(
            self.pending_offsets.iter().filter(|(key, it)| goes(key, it)).map(|(key, _)| key.clone()),
        );
        keys.sort_unstable();
        keys.dedup();
        if !keys.is_empty() {
            self.drop_offsets(keys, AfterWrite::OffsetsDropped, Vec::new(), effects);
        }
    }

    /// Offsets past `offsets.retention.minutes`, then groups that have neither members nor offsets left.
    pub(super) fn expire(&mut self, now: Now, effects: &mut Effects) {
        let mut keys = Vec::new();
        let mut gone: Vec<Str> = Vec::new();
        for group in self.groups.values() {
            let offsets = self.offsets.newest_of_group(&group.id);
            let all = offsets.len();
            let expired = offsets
                .into_iter()
                .filter(|(key, committed)| self.is_expired(group, key, committed, now))
                .map(|(key, _)| key);
            let kept_before = keys.len();
            keys.extend(expired);
            let is_unused = group.is_in(GroupState::Empty)
                && group.pending_join.is_empty()
                && !self.pending_offsets.has_group(&group.id);
            if keys.len() - kept_before == all && is_unused {
                gone.push(group.id.clone());
            }
        }
        let mut records = Vec::new();
        let consumers = self.expire_kept_groups::<ConsumerGroup>(&mut keys, &mut records, now);
        let streams = self.expire_kept_groups::<StreamsGroup>(&mut keys, &mut records, now);
        let groups: Vec<Group> = gone.iter().filter_map(|group| self.groups.remove(group)).collect();
        for group in &groups {
            self.timers.cancel_group(&group.id, group.pending_join.iter().cloned());
            // Also for a simple group, whose offsets alone would bring it back at the next start.
            records.push(self.group_tombstone(&group.id));
        }
        if keys.is_empty() && records.is_empty() {
            return;
        }
        self.drop_offsets(
            keys,
            AfterWrite::GroupsDeleted { groups, consumers, streams, shares: Vec::new(), answer: None },
            records,
            effects,
        );
    }

    /// Offsets of groups that are kept as many records that are old enough, and groups that go with them, with their tombstones.
    fn expire_kept_groups<G: Kind>(
        &mut self,
        keys: &mut Vec<OffsetKey>,
        records: &mut Vec<GroupRecord>,
        now: Now,
    ) -> Vec<Str> {
        let ids: Vec<Str> = G::entries(self).keys().cloned().collect();
        let mut gone: Vec<Str> = Vec::new();
        for group_id in ids {
            let (_, entry) = self.take_entry::<G>(&group_id);
            if let Some(group) = entry.group() {
                let kept_before = keys.len();
                let offsets = self.offsets.newest_of_group(&group_id);
                let all = offsets.len();
                let is_old = |key: &OffsetKey, committed: &CommittedOffset| {
                    !group.is_subscribed_to(&key.topic)
                        && !self.pending_offsets.has(key)
                        && self.is_old(committed, committed.committed_at_ms, now)
                };
                let expired = offsets.into_iter().filter(|(key, committed)| is_old(key, committed));
                keys.extend(expired.map(|(key, _)| key));
                let is_unused = !group.has_members() && !self.pending_offsets.has_group(&group_id);
                if keys.len() - kept_before == all && is_unused {
                    gone.push(group_id.clone());
                }
            }
            self.keep_entry(group_id, entry);
        }
        let token = self.next_token();
        for group_id in &gone {
            records.extend(self.begin_deletion::<G>(group_id, token));
        }
        gone
    }

    /// A group of any kind, by an id that keeps no frame alive.
    pub(super) fn group_id(&self, group: &str) -> Option<Str> {
        let consumer = || self.consumers.get_key_value(group).map(|(id, _)| id);
        let streams = || self.streams.get_key_value(group).map(|(id, _)| id);
        self.groups.get_key_value(group).map(|(id, _)| id).or_else(consumer).or_else(streams).cloned()
    }

    fn is_subscribed_to(&self, group: &str, topic: &str) -> bool {
        match self.groups.get(group) {
            Some(group) => group.is_subscribed_to(topic),
            None => {
                self.consumer_group(group).is_some_and(|group| group.is_subscribed_to(topic))
                    || self.streams_group(group).is_some_and(|group| group.is_subscribed_to(topic))
            }
        }
    }

    fn is_expired(&self, group: &Group, key: &OffsetKey, committed: &CommittedOffset, now: Now) -> bool {
        if group.is_subscribed_to(&key.topic) || self.pending_offsets.has(key) {
            return false;
        }
        // KIP-211: as long as members could come back to it, an offset does not age; in an empty group all age
        // together from the moment it became empty; a simple consumer's offset ages from its commit.
        let since_ms = match (&group.protocol_type, group.state) {
            (None, _) => committed.committed_at_ms,
            (Some(_), GroupState::Empty) => group.state_since_ms.unwrap_or(committed.committed_at_ms),
            (Some(_), GroupState::Stable) if group.subscribed_topics.is_some() => committed.committed_at_ms,
            (Some(_), _) => return false,
        };
        self.is_old(committed, since_ms, now)
    }

    fn is_old(&self, committed: &CommittedOffset, since_ms: i64, now: Now) -> bool {
        match committed.expire_at_ms {
            Some(expire_at_ms) => now.wall_ms >= expire_at_ms,
            None => now.wall_ms.saturating_sub(since_ms) >= self.settings.offsets_retention_ms,
        }
    }

    /// Writes tombstones of these offsets, and `more` behind them.
    pub(super) fn drop_offsets(
        &mut self,
        keys: Vec<OffsetKey>,
        after: AfterWrite,
        more: Vec<GroupRecord>,
        effects: &mut Effects,
    ) {
        let token = self.next_token();
        let mut records: Vec<_> = keys.iter().map(records::offset_tombstone).collect();
        records.extend(more);
        for key in &keys {
            self.pending_offsets.forget(key);
            self.offsets.begin(key.clone(), token, None);
        }
        self.write(records, keys, after, effects);
    }
}

fn read_offsets<'a>(
    topics: &[FetchTopic],
    committed: impl Fn(&Str, i32) -> Option<&'a CommittedOffset>,
) -> FetchedOffsets {
    let topics = topics.iter().map(|wanted| {
        // Offsets of an earlier topic of the same name are not those of this one.
        let is_same_topic = |committed: &&CommittedOffset| {
            [committed.topic_id, wanted.topic_id].contains(&Uuid::ZERO)
                || committed.topic_id == wanted.topic_id
        };
        let fetch =
            |&partition: &i32| fetched(partition, committed(&wanted.topic, partition).filter(is_same_topic));
        FetchedTopic {
            topic: wanted.topic.clone(),
            topic_id: wanted.topic_id,
            partitions: wanted.partitions.iter().map(fetch).collect(),
        }
    });
    FetchedOffsets { topics: topics.collect() }
}

/// Offsets in the order of topics, gathered by topic. Kafka leaves it to the API to look topic ids up.
fn all_offsets<'a>(offsets: impl Iterator<Item = (&'a Str, i32, &'a CommittedOffset)>) -> FetchedOffsets {
    let mut topics: Vec<FetchedTopic> = Vec::new();
    for (topic, partition, committed) in offsets {
        if topics.last().is_none_or(|last| last.topic != *topic) {
            topics.push(FetchedTopic { topic: topic.clone(), topic_id: Uuid::ZERO, partitions: Vec::new() });
        }
        let last = topics.last_mut().expect("was just put there");
        last.partitions.push(fetched(partition, Some(committed)));
    }
    FetchedOffsets { topics }
}

fn fetched(partition: i32, committed: Option<&CommittedOffset>) -> FetchedOffset {
    match committed {
        None => FetchedOffset {
            partition,
            offset: -1,
            leader_epoch: -1,
            metadata: Str::default(),
            is_unstable: false,
        },
        Some(committed) => FetchedOffset {
            partition,
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata.clone(),
            is_unstable: false,
        },
    }
}

/// Kafka counts what Java's `String.length` counts.
pub(super) fn is_longer_than(text: &str, units_max: usize) -> bool {
    text.len() > units_max && text.encode_utf16().count() > units_max
}
