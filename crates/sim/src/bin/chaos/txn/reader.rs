//! What readers of committed data are given, as a consumer sees it: batches below the last stable offset, without those it is told to skip.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use protocol::ErrorCode;
use protocol::Str;
use protocol::batch::split_batches;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::messages::{FetchRequest, OffsetFetchRequest};
use tokio::time::sleep;

use super::TOPIC;
use super::wire::Wire;

/// Reads one partition from its beginning, on and on.
pub struct Reader {
    wire: Wire,
    partition: i32,
    offset: i64,
    skipped: BTreeSet<i64>,
    pub values: Vec<String>,
}

/// Where one fetch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub last_stable: i64,
    pub high_watermark: i64,
}

impl Reader {
    pub fn new(address: SocketAddr, partition: i32) -> Reader {
        let wire = Wire::new(address, Duration::from_secs(5));
        Reader { wire, partition, offset: 0, skipped: BTreeSet::new(), values: Vec::new() }
    }

    /// `None`: the broker is not there, or does not lead yet.
    pub async fn fetch(&mut self) -> anyhow::Result<Option<Place>> {
        let wanted = FetchPartition {
            partition: self.partition,
            fetch_offset: self.offset,
            partition_max_bytes: 1 << 20,
            current_leader_epoch: -1,
            ..FetchPartition::default()
        };
        let topic = FetchTopic { topic: TOPIC.into(), partitions: vec![wanted], ..FetchTopic::default() };
        let request = FetchRequest {
            max_wait_ms: 100,
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation_level: 1,
            session_epoch: -1,
            topics: vec![topic],
            ..FetchRequest::default()
        };
        let Ok(response) = self.wire.ask(12, &request).await else { return Ok(None) };
        let Some(partition) = response.responses.first().and_then(|topic| topic.partitions.first()) else {
            return Ok(None);
        };
        match ErrorCode::try_from(partition.error_code) {
            Ok(ErrorCode::None) => {}
            // Of a broker that has just come up.
            Ok(
                ErrorCode::NotLeaderOrFollower
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::OffsetNotAvailable
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::KafkaStorageError,
            ) => return Ok(None),
            other => anyhow::bail!("a fetch of partition {} is told {other:?}", self.partition),
        }
        let mut aborted: Vec<_> = partition.aborted_transactions.clone().unwrap_or_default();
        aborted.sort_by_key(|it| it.first_offset);
        let bytes = partition.records.as_ref().map(|records| records.to_bytes()).unwrap_or_default();
        for batch in split_batches(&bytes) {
            let batch = batch?;
            let header = &batch.header;
            let (base, next) = (header.base_offset, header.next_offset());
            if next <= self.offset {
                continue;
            }
            aborted.retain(|it| {
                let begins = it.first_offset <= header.last_offset();
                if begins {
                    self.skipped.insert(it.producer_id);
                }
                !begins
            });
            self.offset = next;
            if header.is_control() {
                self.skipped.remove(&header.producer_id);
                continue;
            }
            anyhow::ensure!(base < partition.last_stable_offset, "a batch behind the last stable offset");
            if header.is_transactional() && self.skipped.contains(&header.producer_id) {
                continue;
            }
            for record in batch.records(1 << 20) {
                let value = record?.value.unwrap_or_default();
                self.values.push(String::from_utf8(value.to_vec())?);
            }
        }
        let (last_stable, high_watermark) = (partition.last_stable_offset, partition.high_watermark);
        Ok(Some(Place { last_stable, high_watermark }))
    }

    /// Up to the end, which is stable; `false`: it was not so in time.
    pub async fn finish(&mut self, within: Duration) -> anyhow::Result<bool> {
        let until = tokio::time::Instant::now() + within;
        while tokio::time::Instant::now() < until {
            match self.fetch().await? {
                Some(place)
                    if place.last_stable == place.high_watermark && self.offset >= place.high_watermark =>
                {
                    return Ok(true);
                }
                Some(_) => {}
                None => sleep(Duration::from_millis(50)).await,
            }
        }
        Ok(false)
    }
}

/// The committed offset of a group, once nothing of it is inside a transaction; −1: it has none.
pub async fn committed_offset(address: SocketAddr, group: &str) -> anyhow::Result<i64> {
    let mut wire = Wire::new(address, Duration::from_secs(5));
    for _ in 0..200 {
        let topic = OffsetFetchRequestTopics {
            name: TOPIC.into(),
            partition_indexes: vec![0],
            ..OffsetFetchRequestTopics::default()
        };
        let asked = OffsetFetchRequestGroup {
            group_id: Str::from(group),
            topics: Some(vec![topic]),
            ..OffsetFetchRequestGroup::default()
        };
        let request =
            OffsetFetchRequest { groups: vec![asked], require_stable: true, ..OffsetFetchRequest::default() };
        if let Ok(response) = wire.ask(8, &request).await
            && response.groups[0].error_code == 0
        {
            let partition = &response.groups[0].topics[0].partitions[0];
            if partition.error_code == 0 {
                return Ok(partition.committed_offset);
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the offsets of {group} are not stable")
}
