//! Too many connections, too fast, and such as say nothing.

use std::time::Duration;

use protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use protocol::messages::{AlterClientQuotasRequest, ApiVersionsRequest};

use super::wire::{Foe, HOSTILE};
use super::{Field, Told, crowd};

/// More of one address than it may have.
pub async fn of_one_address(field: Field) -> anyhow::Result<Told> {
    crowd(field, 1_000, |field, told, _| async move {
        let mut foe = Foe::connect(field.plain).await?;
        told.did(1);
        // Those that are in may say nothing for longer.
        if foe.is_closed_within(field.left().min(Duration::from_millis(500))).await {
            told.refused(1);
        }
        tokio::time::sleep(field.left()).await;
        Ok(())
    })
    .await
}

/// Each asks what is spoken and then nothing any more.
pub async fn idle(field: Field) -> anyhow::Result<Told> {
    crowd(field, 500, |field, told, _| async move {
        let mut foe = Foe::connect(field.plain).await?;
        foe.ask(0, &ApiVersionsRequest::default()).await?;
        told.did(1);
        if foe.is_closed_within(field.left()).await {
            told.refused(1);
        }
        Ok(())
    })
    .await
}

/// One after the other as fast as they come, from an address with a quota.
pub async fn rush(field: Field) -> anyhow::Result<Told> {
    quota(&field, "ip", &HOSTILE.to_string(), "connection_creation_rate", Some(100.0)).await?;
    let told = crowd(field.clone(), 32, |field, told, _| async move {
        while !field.left().is_zero() {
            let mut foe = Foe::connect(field.plain).await?;
            told.did(1);
            // Whoever is above the rate waits, and those that would wait for five seconds are let go.
            let answer = tokio::time::timeout(field.left(), foe.ask(0, &ApiVersionsRequest::default())).await;
            if !matches!(answer, Ok(Ok(_))) {
                told.refused(1);
            }
        }
        Ok(())
    })
    .await;
    quota(&field, "ip", &HOSTILE.to_string(), "connection_creation_rate", None).await?;
    told
}

/// Sets a quota, or removes it.
pub async fn quota(
    field: &Field,
    entity_type: &str,
    name: &str,
    key: &str,
    value: Option<f64>,
) -> anyhow::Result<()> {
    let entity = vec![EntityData {
        entity_type: entity_type.into(),
        entity_name: Some(name.into()),
        ..Default::default()
    }];
    let op = OpData {
        key: key.into(),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
        ..Default::default()
    };
    let entries = vec![EntryData { entity, ops: vec![op], ..Default::default() }];
    let request = AlterClientQuotasRequest { entries, ..Default::default() };
    // What it sets may be for the hostile address.
    let response = Foe::disguised(field.plain).await?.ask(1, &request).await?;
    anyhow::ensure!(response.entries[0].error_code == 0, "{:?}", response.entries[0]);
    Ok(())
}

/// Half a greeting of TLS, and nothing behind it.
pub async fn half_handshakes(field: Field) -> anyhow::Result<Told> {
    crowd(field, 400, |field, told, number| async move {
        let greeting = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 100]].concat();
        let mut foe = Foe::connect(field.tls).await?;
        foe.send(&greeting[..number % greeting.len()]).await?;
        told.did(1);
        if foe.is_closed_within(field.left()).await {
            told.refused(1);
        }
        Ok(())
    })
    .await
}

/// What is no TLS, on a listener that speaks nothing else.
pub async fn no_handshakes(field: Field) -> anyhow::Result<Told> {
    crowd(field, 16, |field, told, _| async move {
        while !field.left().is_zero() {
            let mut foe = Foe::connect(field.tls).await?;
            foe.send(&[0x16; 4_000]).await?;
            told.did(1);
            if foe.is_closed_within(Duration::from_secs(2)).await {
                told.refused(1);
            }
        }
        Ok(())
    })
    .await
}

/// Connections to the page of metrics that never finish their request.
pub async fn admin(field: Field) -> anyhow::Result<Told> {
    crowd(field, 300, |field, told, _| async move {
        let mut foe = Foe::connect(field.admin).await?;
        foe.send(b"GET /metrics HTTP/1.1\r\nX: ").await?;
        told.did(1);
        if foe.is_closed_within(field.left()).await {
            told.refused(1);
        }
        Ok(())
    })
    .await
}
