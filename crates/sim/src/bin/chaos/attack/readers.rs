//! Clients that ask and do not read, that wait for ever, or that ask and send without end.

use protocol::Request;
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::{ApiVersionsRequest, DescribeConfigsRequest, FetchRequest, MetadataRequest};

use super::connections::quota;
use super::good::{batch, fetch_request, produce_request};
use super::subject::PARTITIONS_OF_A_REQUEST;
use super::wire::Foe;
use super::{BAIT, BAIT_PARTITIONS, Field, TOPICS, Told, WIDE_PARTITIONS, crowd};

/// Asks so many times, and keeps the connection without reading anything.
async fn leave_unread<R: Request>(
    mut foe: Foe,
    version: i16,
    request: &R,
    times: usize,
    field: &Field,
    told: &Told,
) -> anyhow::Result<()> {
    for _ in 0..times {
        tokio::time::timeout(field.left(), foe.tell(version, request)).await??;
        told.did(1);
    }
    tokio::time::sleep(field.left()).await;
    Ok(())
}

/// Asks for as much as there is, again and again, and takes none of it.
pub async fn fetch_unread(field: Field) -> anyhow::Result<Told> {
    crowd(field, 60, |field, told, number| async move {
        let foe = Foe::connect_narrow(field.plain).await?;
        let places: Vec<(i32, i64)> = (0..BAIT_PARTITIONS).map(|partition| (partition, 0)).collect();
        let request = fetch_request(BAIT, &places, number as i32 % 2, 64 << 20);
        leave_unread(foe, 12, &request, 20, &field, &told).await
    })
    .await
}

/// The same by those that have shown first that they take what they get.
pub async fn fetch_read_once(field: Field) -> anyhow::Result<Told> {
    crowd(field, 200, |field, told, _| async move {
        let mut foe = Foe::connect_narrow(field.plain).await?;
        foe.ask(0, &ApiVersionsRequest::default()).await?;
        let places: Vec<(i32, i64)> = (0..BAIT_PARTITIONS).map(|partition| (partition, 0)).collect();
        let request = fetch_request(BAIT, &places, 0, 64 << 20);
        leave_unread(foe, 12, &request, 20, &field, &told).await
    })
    .await
}

/// Small questions with long answers, and none of them is read.
pub async fn metadata_unread(field: Field) -> anyhow::Result<Told> {
    crowd(field, 300, |field, told, _| async move {
        let foe = Foe::connect_narrow(field.plain).await?;
        // Null: all topics.
        let request = MetadataRequest { topics: None, ..Default::default() };
        leave_unread(foe, 9, &request, 50, &field, &told).await
    })
    .await
}

/// The same with what answers most for what is asked: all configs of many topics, with their documentation.
pub async fn configs_unread(field: Field) -> anyhow::Result<Told> {
    crowd(field, 60, |field, told, _| async move {
        let foe = Foe::connect_narrow(field.plain).await?;
        let resource = |number: usize| DescribeConfigsResource {
            resource_type: 2,
            resource_name: format!("topic-{}", number % TOPICS).into(),
            configuration_keys: None,
            ..Default::default()
        };
        let request = DescribeConfigsRequest {
            resources: (0..2_000).map(resource).collect(),
            include_synonyms: true,
            include_documentation: true,
            ..Default::default()
        };
        leave_unread(foe, 4, &request, 5, &field, &told).await
    })
    .await
}

/// Topics that are named again and again: an answer of many times the question.
pub async fn repeated(field: Field) -> anyhow::Result<Told> {
    crowd(field, 30, |field, told, _| async move {
        let foe = Foe::connect_narrow(field.plain).await?;
        let topic = MetadataRequestTopic { name: Some(super::WIDE.into()), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic; 5_000]), ..Default::default() };
        leave_unread(foe, 9, &request, 5, &field, &told).await
    })
    .await
}

/// Small requests without end, no answer of which is read.
pub async fn pipelined(field: Field) -> anyhow::Result<Told> {
    crowd(field, 8, |field, told, _| ask_again_and_again(field, told, false)).await
}

/// The same over TLS, which takes an answer that the socket does not take, and holds it back.
pub async fn pipelined_tls(field: Field) -> anyhow::Result<Told> {
    crowd(field, 8, |field, told, _| ask_again_and_again(field, told, true)).await
}

/// Whoever is ended for it comes again.
async fn ask_again_and_again(field: Field, told: Told, with_tls: bool) -> anyhow::Result<()> {
    while !field.left().is_zero() {
        let connected = match with_tls {
            true => Foe::connect_narrow_tls(field.tls).await,
            false => Foe::connect_narrow(field.plain).await,
        };
        match connected {
            Ok(foe) => ask_until_ended(foe, &field, &told).await,
            Err(error) if field.left().is_zero() => return Err(error),
            // The first TLS handshake of a process may take longer than the broker waits: randomness has to be gathered.
            Err(_) => {}
        }
    }
    Ok(())
}

async fn ask_until_ended(mut foe: Foe, field: &Field, told: &Told) {
    loop {
        match tokio::time::timeout(field.left(), foe.tell(0, &ApiVersionsRequest::default())).await {
            Ok(Ok(())) => told.did(1),
            Ok(Err(_)) => return told.refused(1),
            // It is over.
            Err(_) => return,
        }
    }
}

/// Waits for data that never comes, as long as may be asked for.
pub async fn long_polls(field: Field) -> anyhow::Result<Told> {
    crowd(field, 700, |field, told, _| async move {
        let foe = Foe::connect(field.plain).await?;
        let request =
            FetchRequest { min_bytes: i32::MAX, ..fetch_request(super::EMPTY, &[(0, 0)], i32::MAX, 1 << 20) };
        leave_unread(foe, 12, &request, 1, &field, &told).await
    })
    .await
}

/// The same with requests that are long, and kept in memory as long as they wait.
pub async fn long_requests_wait(field: Field) -> anyhow::Result<Told> {
    crowd(field, 600, |field, told, number| async move {
        let mut foe = Foe::connect(field.plain).await?;
        let places: Vec<(i32, i64)> = (0..PARTITIONS_OF_A_REQUEST)
            .map(|place| ((place + number as i32) % WIDE_PARTITIONS, 0))
            .collect();
        let request =
            FetchRequest { min_bytes: i32::MAX, ..fetch_request(super::WIDE, &places, i32::MAX, 1 << 20) };
        tokio::time::timeout(field.left(), foe.tell(12, &request)).await??;
        told.did(1);
        if foe.is_closed_within(field.left()).await {
            told.refused(1);
        }
        Ok(())
    })
    .await
}

/// Records as fast as they go, from a client with a quota.
pub async fn flood(field: Field) -> anyhow::Result<Told> {
    quota(&field, "client-id", "hostile", "producer_byte_rate", Some(f64::from(2 << 20))).await?;
    let told = crowd(field.clone(), 16, |field, told, _| async move {
        let mut foe = Foe::connect(field.plain).await?;
        let request = produce_request(super::FLOODED, 0, batch(&vec![7; 900 << 10])?);
        while !field.left().is_zero() {
            match tokio::time::timeout(field.left(), foe.ask(9, &request)).await {
                Ok(Ok(response)) => {
                    told.did(1);
                    // It is told to wait, and the broker does not read meanwhile.
                    told.refused(u64::from(response.throttle_time_ms > 0));
                }
                _ => break,
            }
        }
        Ok(())
    })
    .await;
    quota(&field, "client-id", "hostile", "producer_byte_rate", None).await?;
    told
}

/// Requests as fast as they go, from a client with a quota.
pub async fn requests(field: Field) -> anyhow::Result<Told> {
    quota(&field, "client-id", "hostile", "request_percentage", Some(5.0)).await?;
    let told = crowd(field.clone(), 8, |field, told, _| async move {
        let mut foe = Foe::connect(field.plain).await?;
        let request = MetadataRequest { topics: None, ..Default::default() };
        while !field.left().is_zero() {
            match tokio::time::timeout(field.left(), foe.ask(9, &request)).await {
                Ok(Ok(_)) => told.did(1),
                _ => break,
            }
        }
        Ok(())
    })
    .await;
    quota(&field, "client-id", "hostile", "request_percentage", None).await?;
    told
}
