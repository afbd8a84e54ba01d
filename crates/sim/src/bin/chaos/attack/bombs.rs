//! Few bytes that decompress to many.

use std::time::SystemTime;

use bytes::Bytes;
use protocol::batch::BatchBuilder;
use protocol::compression::Compression;
use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::{
    GetTelemetrySubscriptionsRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest,
    PushTelemetryRequest,
};
use protocol::{ErrorCode, Uuid};

use super::good::produce_request;
use super::wire::Foe;
use super::{BOMBED, Field, LISTED, Told, crowd};

/// Many times `max.decompressed.message.bytes`.
const BOMB_BYTES: usize = 48 << 20;
const LARGE_BOMB_BYTES: usize = 250 << 20;

fn bomb(codec: Compression) -> anyhow::Result<Bytes> {
    let mut builder = BatchBuilder::new().compression(codec);
    builder.append(0, Some(b"key"), Some(&vec![0; BOMB_BYTES]), &[])?;
    Ok(builder.build()?)
}

async fn batches(field: Field, codec: Compression) -> anyhow::Result<Told> {
    // Made before the clock runs: it is the client that has the work then.
    let batch = tokio::task::spawn_blocking(move || bomb(codec)).await??;
    crowd(field, 4, move |field, told, _| {
        let batch = batch.clone();
        async move {
            let mut foe = Foe::connect(field.plain).await?;
            let request = produce_request(BOMBED, 0, batch);
            while !field.left().is_zero() {
                let response = foe.ask(9, &request).await?;
                let code = response.responses[0].partition_responses[0].error_code;
                told.answer(code, ErrorCode::MessageTooLarge)?;
            }
            Ok(())
        }
    })
    .await
}

pub async fn gzip(field: Field) -> anyhow::Result<Told> {
    batches(field, Compression::Gzip).await
}

pub async fn snappy(field: Field) -> anyhow::Result<Told> {
    batches(field, Compression::Snappy).await
}

pub async fn lz4(field: Field) -> anyhow::Result<Told> {
    batches(field, Compression::Lz4).await
}

pub async fn zstd(field: Field) -> anyhow::Result<Told> {
    batches(field, Compression::Zstd).await
}

/// A bomb that nobody looked into when it came, and is asked for by time: then somebody has to.
pub async fn by_time(field: Field) -> anyhow::Result<Told> {
    let batch = tokio::task::spawn_blocking(|| {
        let mut builder = BatchBuilder::new().compression(Compression::Zstd);
        builder.append(now_ms()?, None, Some(&vec![0; LARGE_BOMB_BYTES]), &[])?;
        anyhow::Ok(builder.build()?)
    });
    // Made before it connects: idle connections are closed soon here.
    let request = produce_request(LISTED, 0, batch.await??);
    let stored = Foe::connect(field.plain).await?.ask(9, &request).await?;
    let code = stored.responses[0].partition_responses[0].error_code;
    anyhow::ensure!(code == 0, "the bomb is refused: {code}");
    crowd(field, 8, |field, told, _| async move {
        let mut foe = Foe::connect(field.plain).await?;
        let partition = ListOffsetsPartition { timestamp: now_ms()? - 3_600_000, ..Default::default() };
        let topic =
            ListOffsetsTopic { name: LISTED.into(), partitions: vec![partition], ..Default::default() };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        while !field.left().is_zero() {
            let response = foe.ask(4, &request).await?;
            let partition = &response.topics[0].partitions[0];
            // The first record that is late enough is in it, whether somebody looks into it or not.
            anyhow::ensure!(partition.error_code == 0 && partition.offset >= 0, "{partition:?}");
            told.did(1);
        }
        Ok(())
    })
    .await
}

fn now_ms() -> anyhow::Result<i64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64)
}

/// Metrics of a client, in each codec. A client may push once in an interval, so each time another one comes.
pub async fn telemetry(field: Field) -> anyhow::Result<Told> {
    let bombs: Vec<Bytes> = Compression::ALL[1..]
        .iter()
        .map(|codec| Ok(codec.compress(&vec![0; 16 << 20], None)?))
        .collect::<anyhow::Result<_>>()?;
    subscribe(&field).await?;
    crowd(field, 4, move |field, told, number| {
        let metrics = bombs[number % bombs.len()].clone();
        async move {
            for turn in 0u64.. {
                if field.left().is_zero() {
                    break;
                }
                let mut foe = Foe::connect(field.plain).await?;
                let mut id = [0x5a; 16];
                id[..8].copy_from_slice(&(turn * 16 + number as u64 + 1).to_be_bytes());
                let client_instance_id = Uuid(id);
                let asked = GetTelemetrySubscriptionsRequest { client_instance_id, ..Default::default() };
                let subscription = foe.ask(0, &asked).await?;
                let push = PushTelemetryRequest {
                    client_instance_id,
                    subscription_id: subscription.subscription_id,
                    compression_type: number as i8 % 4 + 1,
                    metrics: metrics.clone(),
                    ..Default::default()
                };
                let response = foe.ask(0, &push).await?;
                told.did(1);
                told.refused(u64::from(response.error_code != 0));
            }
            Ok(())
        }
    })
    .await
}

async fn subscribe(field: &Field) -> anyhow::Result<()> {
    let config = |name: &str, value: &str| AlterableConfig {
        name: name.into(),
        value: Some(value.into()),
        ..Default::default()
    };
    let resource = AlterConfigsResource {
        // Client metrics.
        resource_type: 16,
        resource_name: "all".into(),
        configs: vec![config("metrics", "*"), config("interval.ms", "1000")],
        ..Default::default()
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    let response = Foe::connect(field.plain).await?.ask(1, &request).await?;
    anyhow::ensure!(response.responses[0].error_code == 0, "{:?}", response.responses[0]);
    Ok(())
}
