//! What is kept of one share partition: where its group begins to read, and which records behind that are done or come again.

use std::collections::BTreeMap;

use protocol::{Str, Uuid};

/// A group's view of one partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareKey {
    pub group: Str,
    pub topic: Uuid,
    pub partition: i32,
}

impl ShareKey {
    /// What its coordinator is found by. Kafka's `SharePartitionKey.asCoordinatorKey`.
    pub fn coordinator_key(&self) -> String {
        format!("{}:{}:{}", self.group, self.topic, self.partition)
    }

    /// Whether a text is one: a group, a topic's id and a partition.
    pub fn is_coordinator_key(text: &str) -> bool {
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            [group, topic, partition] => {
                !group.is_empty()
                    && topic.parse::<Uuid>().is_ok()
                    && partition.parse::<i32>().is_ok_and(|partition| partition >= 0)
            }
            _ => false,
        }
    }

    /// Memory of its own: a name from a request or a record is a slice of something large.
    pub fn detached(&self) -> ShareKey {
        ShareKey { group: self.group.detached(), ..*self }
    }
}

/// Records with the same fate, as Kafka's records and messages have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateBatch {
    pub first_offset: i64,
    pub last_offset: i64,
    /// Kafka's `RecordState`: 0 available, 2 acknowledged, 4 archived.
    pub delivery_state: i8,
    pub delivery_count: i16,
}

/// Nobody has said yet where the group begins.
pub const NO_START_OFFSET: i64 = -1;
/// Not said; of nothing that is initialized.
pub const NO_COUNT: i32 = -1;
/// A request that says this wants no check of the epoch.
pub const NO_EPOCH: i32 = -1;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShareState {
    /// Grows with each snapshot record.
    pub snapshot_epoch: i32,
    /// Of the initialization; what comes from an earlier one is fenced.
    pub state_epoch: i32,
    /// Of the leader that has read it last.
    pub leader_epoch: i32,
    pub start_offset: i64,
    /// Records behind the start offset that are done; for the lag.
    pub delivery_complete_count: i32,
    /// Unix ms: of the snapshot before, and of the newest.
    pub created_ms: i64,
    pub written_ms: i64,
    /// By first offset; none overlaps another.
    pub(super) spans: BTreeMap<i64, Span>,
    /// Updates since the last snapshot record.
    pub updates: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    last: i64,
    /// Delivery count and state: of two that speak of one offset the greater one is the later one, since deliveries are counted and
    /// states only go up while a record is at somebody's.
    fate: (i16, i8),
}

impl ShareState {
    /// From now on the group begins here.
    pub fn move_start(&mut self, start_offset: i64) {
        if start_offset == NO_START_OFFSET {
            return;
        }
        self.start_offset = start_offset;
        let behind = self.spans.split_off(&start_offset);
        let across =
            self.spans.last_key_value().map(|(_, span)| *span).filter(|span| span.last >= start_offset);
        self.spans = behind;
        if let Some(span) = across {
            self.spans.insert(start_offset, span);
        }
    }

    /// What lies before the start offset is left out.
    pub fn put(&mut self, batches: &[StateBatch]) {
        for batch in batches {
            let first = batch.first_offset.max(self.start_offset);
            if first <= batch.last_offset {
                self.put_span(first, batch.last_offset, (batch.delivery_count, batch.delivery_state));
            }
        }
    }

    fn put_span(&mut self, first: i64, last: i64, fate: (i16, i8)) {
        let begin = self.spans.range(..first).next_back().filter(|(_, span)| span.last >= first);
        let begin = begin.map_or(first, |(begin, _)| *begin);
        let overlapping: Vec<(i64, Span)> =
            self.spans.range(begin..=last).map(|(first, span)| (*first, *span)).collect();
        // What is not known yet, up to here.
        let mut next = first;
        for (known_first, known) in overlapping {
            self.spans.remove(&known_first);
            if next < known_first {
                self.spans.insert(next, Span { last: known_first - 1, fate });
            }
            let (both_first, both_last) = (known_first.max(first), known.last.min(last));
            if known_first < both_first {
                self.spans.insert(known_first, Span { last: both_first - 1, fate: known.fate });
            }
            self.spans.insert(both_first, Span { last: both_last, fate: known.fate.max(fate) });
            if both_last < known.last {
                self.spans.insert(both_last + 1, known);
            }
            next = both_last + 1;
        }
        if next <= last {
            self.spans.insert(next, Span { last, fate });
        }
    }

    /// All batches in their order; neighbours with the same fate are one.
    pub fn batches(&self) -> Vec<StateBatch> {
        let mut batches: Vec<StateBatch> = Vec::with_capacity(self.spans.len());
        for (first, span) in &self.spans {
            let (delivery_count, delivery_state) = span.fate;
            match batches.last_mut() {
                Some(before)
                    if before.last_offset + 1 == *first
                        && (before.delivery_count, before.delivery_state) == span.fate =>
                {
                    before.last_offset = span.last;
                }
                _ => batches.push(StateBatch {
                    first_offset: *first,
                    last_offset: span.last,
                    delivery_state,
                    delivery_count,
                }),
            }
        }
        batches
    }

    /// As many spans as there are batches, once more: updates leave neighbours that are alike.
    pub fn join(&mut self) {
        let batches = self.batches();
        let span = |batch: &StateBatch| {
            (
                batch.first_offset,
                Span { last: batch.last_offset, fate: (batch.delivery_count, batch.delivery_state) },
            )
        };
        self.spans = batches.iter().map(span).collect();
    }

    pub fn span_count(&self) -> usize {
        self.spans.len()
    }
}

/// What a coordinator would have kept, for tests of those who write to it.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct KeptState(ShareState);

#[cfg(test)]
impl KeptState {
    pub fn write(&mut self, start_offset: i64, batches: &[StateBatch]) {
        self.0.move_start(start_offset.max(self.0.start_offset));
        self.0.put(batches);
    }

    pub fn start_offset(&self) -> i64 {
        self.0.start_offset
    }

    pub fn batches(&self) -> Vec<StateBatch> {
        self.0.batches()
    }
}
