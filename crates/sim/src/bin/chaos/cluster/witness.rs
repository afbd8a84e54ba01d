//! Writes that a broker gets while it is stopped or cannot reach the store, and may answer when others have its partitions.
//!
//! A client gives up after a few seconds and closes the connection, so an acknowledgement after a fence would reach nobody. A witness
//! asks without partitions in between and waits; what it is told is held against the log as everything else is.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use protocol::batch::BatchBuilder;
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::{ProduceRequest, ProduceResponse};
use protocol::wire::Reader;
use protocol::{ApiKey, ErrorCode, Message, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::load::TOPIC;

/// With topic names.
const PRODUCE_VERSION: i16 = 8;
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// One record to each partition, of which the broker leads some. Gives the offsets of those that were acknowledged; nothing when
/// there was no answer in time.
pub async fn ask(address: SocketAddr, partitions: i32, name: &str, limit: Duration) -> Vec<(i32, i64)> {
    let asked = async {
        let mut socket = TcpStream::connect(address).await?;
        for segment in frame::encode_request(1, None, &request(partitions, name, limit)?, PRODUCE_VERSION)? {
            socket.write_all(&segment).await?;
        }
        let len = socket.read_u32().await? as usize;
        anyhow::ensure!(len <= ANSWER_BYTES_MAX, "an answer of {len} bytes");
        let mut answer = vec![0; len];
        socket.read_exact(&mut answer).await?;
        let mut reader = Reader::new(answer.into());
        frame::decode_response_header(&mut reader, ApiKey::Produce, PRODUCE_VERSION)?;
        let answer = ProduceResponse::decode(&mut reader, PRODUCE_VERSION)?;
        let topic = answer.responses.first().context("an answer without the topic")?;
        let acknowledged =
            topic.partition_responses.iter().filter(|p| p.error_code == ErrorCode::None as i16);
        anyhow::Ok(acknowledged.map(|partition| (partition.index, partition.base_offset)).collect())
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok(acknowledged)) => acknowledged,
        // Closed, or silent: what became of it is not known, as with any client.
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

fn request(partitions: i32, name: &str, limit: Duration) -> anyhow::Result<ProduceRequest> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let mut partition_data = Vec::new();
    for index in 0..partitions {
        let mut batch = BatchBuilder::new();
        batch.append(now_ms, None, Some(format!("{name} 0").as_bytes()), &[])?;
        let records = Some(batch.build()?.into());
        partition_data.push(PartitionProduceData { index, records, ..Default::default() });
    }
    let topic = TopicProduceData { name: TOPIC.into(), partition_data, ..Default::default() };
    let timeout_ms = limit.as_millis() as i32;
    Ok(ProduceRequest { acks: -1, timeout_ms, topic_data: vec![topic], ..Default::default() })
}
