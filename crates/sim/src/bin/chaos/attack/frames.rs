//! What a peer may send that is no request, half a request, or more than a request may be.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use protocol::ErrorCode;
use protocol::messages::ApiVersionsRequest;

use super::good::{batch, produce_request};
use super::subject::REQUEST_BYTES;
use super::wire::{Foe, by_hand, whole};
use super::{Field, Told, crowd};

const METADATA: i16 = 3;

/// As many bytes as may be are promised, and ten come.
pub async fn promised(field: Field) -> anyhow::Result<Told> {
    crowd(field, 400, |field, told, _| async move {
        let mut foe = Foe::connect(field.plain).await?;
        foe.send(&by_hand(REQUEST_BYTES, METADATA, 9, true, &[])).await?;
        told.did(1);
        if foe.is_closed_within(field.left()).await {
            told.refused(1);
        }
        Ok(())
    })
    .await
}

/// Of 16 MiB four come, and then nothing: together they are several times the memory for requests.
pub async fn half_sent(field: Field) -> anyhow::Result<Told> {
    crowd(field, 48, |field, told, _| async move {
        let mut foe = Foe::connect(field.plain).await?;
        // The time for a first request is short, so this is not the first.
        foe.ask(0, &ApiVersionsRequest::default()).await?;
        foe.send(&by_hand(REQUEST_BYTES, METADATA, 9, true, &[])).await?;
        let piece = vec![1; 64 << 10];
        for _ in 0..64 {
            tokio::time::timeout(field.left(), foe.send(&piece)).await??;
            told.did(1);
        }
        if foe.is_closed_within(field.left()).await {
            told.refused(1);
        }
        Ok(())
    })
    .await
}

/// A byte every 50 ms, for ever.
pub async fn drops(field: Field) -> anyhow::Result<Told> {
    crowd(field, 200, |field, told, _| async move {
        let mut foe = Foe::connect(field.plain).await?;
        let request = by_hand(5_000, METADATA, 9, true, &[1; 5_000]);
        for byte in request {
            told.did(1);
            if foe.send(&[byte]).await.is_err() || foe.is_closed_within(Duration::from_millis(50)).await {
                told.refused(1);
                return Ok(());
            }
            if field.left().is_zero() {
                return Ok(());
            }
        }
        Ok(())
    })
    .await
}

/// Lengths that no request has, other protocols, keys and versions that do not exist.
pub async fn garbage(field: Field) -> anyhow::Result<Told> {
    crowd(field, 16, |field, told, number| async move {
        let noise: Vec<u8> = (0..4_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let bytes = match number % 6 {
            0 => by_hand(i32::MAX, METADATA, 9, true, &[]),
            1 => by_hand(-1, METADATA, 9, true, &[]),
            2 => b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n".to_vec(),
            3 => [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise].concat(),
            4 => whole(9_999, 0, false, &noise),
            _ => whole(METADATA, 999, true, &noise),
        };
        while !field.left().is_zero() {
            let mut foe = Foe::connect(field.plain).await?;
            foe.send(&bytes).await?;
            told.did(1);
            if foe.is_closed_within(Duration::from_secs(2)).await {
                told.refused(1);
            }
        }
        Ok(())
    })
    .await
}

/// Arrays of two thousand million elements, in every API that has one in front.
pub async fn counts(field: Field) -> anyhow::Result<Told> {
    crowd(field, 8, |field, told, number| async move {
        let old = |api_key, version| whole(api_key, version, false, &i32::MAX.to_be_bytes());
        // A compact count of 2³² − 1.
        let new = |api_key, version| whole(api_key, version, true, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
        // Replica, wait, least and most bytes, isolation; a session and its epoch from version 7 on; then the topics.
        let fetch =
            |version, before: usize| whole(1, version, false, &[vec![0; before], vec![0x7f; 4]].concat());
        let frames = [
            old(3, 1),
            new(3, 9),
            old(19, 2),
            new(19, 5),
            new(20, 4),
            old(32, 1),
            new(32, 4),
            new(30, 2),
            new(51, 0),
            new(49, 1),
            fetch(4, 17),
            fetch(11, 25),
        ];
        for turn in number.. {
            if field.left().is_zero() {
                break;
            }
            let mut foe = Foe::connect(field.plain).await?;
            foe.send(&frames[turn % frames.len()]).await?;
            told.did(1);
            if foe.is_closed_within(Duration::from_secs(2)).await {
                told.refused(1);
            }
        }
        Ok(())
    })
    .await
}

/// Frames of the smallest elements there are: each is two bytes on the wire and many in memory.
pub async fn expanding(field: Field) -> anyhow::Result<Told> {
    crowd(field, 12, |field, told, _| async move {
        let elements: u32 = 3 << 20;
        let mut body = BytesMut::new();
        put_uvarint(&mut body, elements + 1);
        for _ in 0..elements {
            // An empty name and no tagged fields.
            body.put_slice(&[1, 0]);
        }
        body.put_slice(&[0, 0, 0, 0]);
        let frame = whole(METADATA, 9, true, &body);
        while !field.left().is_zero() {
            let mut foe = Foe::connect(field.plain).await?;
            told.did(1);
            let sent = tokio::time::timeout(field.left(), foe.send(&frame)).await;
            if sent.is_err() {
                break;
            }
            if foe.is_closed_within(Duration::from_secs(4)).await {
                told.refused(1);
            }
        }
        Ok(())
    })
    .await
}

pub fn put_uvarint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Batches whose checksum does not fit.
pub async fn wrong_checksum(field: Field) -> anyhow::Result<Told> {
    crowd(field, 2, |field, told, _| async move {
        let mut foe = Foe::connect(field.plain).await?;
        let mut damaged = batch(&vec![7; 100 << 10])?.to_vec();
        *damaged.last_mut().expect("it has bytes") ^= 1;
        let request = produce_request(super::BAIT, 0, damaged.into());
        while !field.left().is_zero() {
            let response = foe.ask(9, &request).await?;
            let code = response.responses[0].partition_responses[0].error_code;
            told.answer(code, ErrorCode::CorruptMessage)?;
        }
        Ok(())
    })
    .await
}
