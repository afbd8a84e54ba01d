//! Clients that have not proved who they are, and never will.

use std::time::Duration;

use protocol::ErrorCode;
use protocol::messages::{
    MetadataRequest, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
};

use super::wire::{Foe, by_hand};
use super::{Field, Told, crowd};

async fn begin(field: &Field, mechanism: &str) -> anyhow::Result<Foe> {
    let mut foe = Foe::connect(field.sasl).await?;
    let response =
        foe.ask(1, &SaslHandshakeRequest { mechanism: mechanism.into(), ..Default::default() }).await?;
    anyhow::ensure!(response.error_code == 0, "{mechanism}: {}", response.error_code);
    Ok(foe)
}

async fn token(foe: &mut Foe, bytes: &[u8]) -> anyhow::Result<SaslAuthenticateResponse> {
    let auth_bytes = bytes.to_vec().into();
    foe.ask(2, &SaslAuthenticateRequest { auth_bytes, ..Default::default() }).await
}

/// The first message of SCRAM, and nothing behind it.
pub async fn half_exchanges(field: Field) -> anyhow::Result<Told> {
    crowd(field, 300, |field, told, number| async move {
        let mut foe = begin(&field, "SCRAM-SHA-256").await?;
        let challenge = token(&mut foe, format!("n,,n=user{number},r=abc").as_bytes()).await?;
        told.did(1);
        anyhow::ensure!(challenge.error_code == 0, "{challenge:?}");
        if foe.is_closed_within(field.left()).await {
            told.refused(1);
        }
        Ok(())
    })
    .await
}

/// Wrong passwords and wrong proofs, of users that there are and that there are not.
pub async fn wrong_proofs(field: Field) -> anyhow::Result<Told> {
    crowd(field, 16, |field, told, number| async move {
        let user = if number % 2 == 0 { "alice" } else { "nobody" };
        while !field.left().is_zero() {
            let response = if number % 4 < 2 {
                let mut foe = begin(&field, "PLAIN").await?;
                token(&mut foe, format!("\0{user}\0wonderland").as_bytes()).await?
            } else {
                let mut foe = begin(&field, "SCRAM-SHA-256").await?;
                let challenge = token(&mut foe, format!("n,,n={user},r=abc").as_bytes()).await?;
                let challenge = String::from_utf8(challenge.auth_bytes.to_vec())?;
                let nonce = challenge.split(',').next().unwrap_or_default();
                token(&mut foe, format!("c=biws,{nonce},p={}", "A".repeat(43) + "=").as_bytes()).await?
            };
            told.answer(response.error_code, ErrorCode::SaslAuthenticationFailed)?;
        }
        Ok(())
    })
    .await
}

/// Frames that are too long for somebody who has not proved who he is, and requests that want a proof first.
pub async fn before_the_proof(field: Field) -> anyhow::Result<Told> {
    crowd(field, 16, |field, told, number| async move {
        while !field.left().is_zero() {
            let mut foe = Foe::connect(field.sasl).await?;
            match number % 2 {
                0 => foe.send(&by_hand((64 << 10) + 1, 17, 1, false, &[0; 1_000])).await?,
                _ => foe.tell(9, &MetadataRequest::default()).await?,
            }
            told.did(1);
            if foe.is_closed_within(Duration::from_secs(2)).await {
                told.refused(1);
            }
        }
        Ok(())
    })
    .await
}
