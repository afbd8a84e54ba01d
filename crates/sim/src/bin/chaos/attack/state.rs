//! What a client can make a broker remember: each kind has a bound.

use std::time::Duration;

use protocol::ErrorCode;
use protocol::batch::BatchBuilder;
use protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use protocol::messages::create_acls_request::AclCreation;
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::{
    AlterClientQuotasRequest, AlterUserScramCredentialsRequest, ConsumerGroupHeartbeatRequest,
    CreateAclsRequest, CreateTopicsRequest, InitProducerIdRequest, JoinGroupRequest, OffsetCommitRequest,
};

use super::good::{fetch_request, produce_request};
use super::subject::{FETCH_SESSIONS, PARTITIONS_OF_A_REQUEST};
use super::wire::Foe;
use super::{BAIT, Field, SEQUENCED, Told, WIDE, WIDE_PARTITIONS, crowd};

/// Topics with far more partitions than there may be, and so many topics that there may be no more.
pub async fn partitions(field: Field) -> anyhow::Result<Told> {
    crowd(field, 2, |field, told, number| async move {
        let mut foe = Foe::connect(field.plain).await?;
        for turn in 0.. {
            if field.left().is_zero() {
                break;
            }
            let num_partitions = [1_000_000, i32::MAX, 300][turn % 3];
            let topic = CreatableTopic {
                name: format!("many-{}-{number}-{turn}", field.turn).into(),
                num_partitions,
                replication_factor: 1,
                ..Default::default()
            };
            let request =
                CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, ..Default::default() };
            let response = foe.ask(7, &request).await?;
            told.did(1);
            told.refused(u64::from(response.topics[0].error_code != 0));
        }
        Ok(())
    })
    .await
}

/// A Fetch of more partitions than one request may name.
pub async fn partitions_of_a_request(field: Field) -> anyhow::Result<Told> {
    crowd(field, 4, |field, told, _| async move {
        let mut foe = Foe::connect(field.plain).await?;
        let places: Vec<(i32, i64)> =
            (0..PARTITIONS_OF_A_REQUEST * 4).map(|at| (at % WIDE_PARTITIONS, 0)).collect();
        let request = fetch_request(WIDE, &places, 0, 1 << 20);
        while !field.left().is_zero() {
            let response = foe.ask(12, &request).await?;
            told.answer(response.error_code, ErrorCode::InvalidRequest)?;
        }
        Ok(())
    })
    .await
}

/// A fetch session of many partitions with every request, and none of them is used again.
pub async fn fetch_sessions(field: Field) -> anyhow::Result<Told> {
    crowd(field, 4, |field, told, _| async move {
        let mut foe = Foe::connect(field.plain).await?;
        let places: Vec<(i32, i64)> = (0..WIDE_PARTITIONS).map(|partition| (partition, 0)).collect();
        let mut request = fetch_request(WIDE, &places, 0, 1 << 20);
        request.session_epoch = 0;
        for turn in 0.. {
            if field.left().is_zero() {
                break;
            }
            let response = foe.ask(12, &request).await?;
            anyhow::ensure!(response.error_code == 0, "{}", response.error_code);
            told.did(1);
            // It goes on without one.
            told.refused(u64::from(response.session_id == 0 && turn * 4 > FETCH_SESSIONS / 2));
        }
        Ok(())
    })
    .await
}

/// One group with more and more members.
pub async fn members(field: Field) -> anyhow::Result<Told> {
    crowd(field, 140, |field, told, number| async move {
        let mut foe = Foe::connect(field.plain).await?;
        let group = format!("crowded-{}", field.turn);
        // Half of them in the old protocol; they wait for one another.
        let code = match number % 2 {
            0 => match tokio::time::timeout(field.left(), foe.ask(3, &join(&group, &[7; 100]))).await {
                Ok(response) => response?.error_code,
                Err(_) => {
                    told.did(1);
                    return Ok(());
                }
            },
            _ => foe.ask(1, &heartbeat(&format!("{group}-new"), number)).await?.error_code,
        };
        told.answer(code, ErrorCode::GroupMaxSizeReached)
    })
    .await
}

fn join(group: &str, metadata: &[u8]) -> JoinGroupRequest {
    let metadata = metadata.to_vec().into();
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 600_000,
        rebalance_timeout_ms: 600_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata, ..Default::default() }],
        ..Default::default()
    }
}

fn heartbeat(group: &str, member: usize) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: format!("member-{member}").into(),
        rebalance_timeout_ms: 600_000,
        subscribed_topic_names: Some(vec![BAIT.into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

/// A group for every request, each with a member that has a megabyte to say about itself, or more.
pub async fn groups(field: Field) -> anyhow::Result<Told> {
    crowd(field, 8, |field, told, number| async move {
        let mut foe = Foe::connect(field.plain).await?;
        for turn in 0.. {
            if field.left().is_zero() {
                break;
            }
            let bytes = if turn % 8 == 7 { 2 << 20 } else { 900 << 10 };
            let group = format!("group-{}-{number}-{turn}", field.turn);
            let request = join(&group, &vec![7; bytes]);
            let Ok(response) = tokio::time::timeout(field.left(), foe.ask(3, &request)).await else { break };
            match (response?.error_code, turn % 8) {
                // Two megabytes are too much for one member.
                (code, 7) => told.answer_of_coordinator(code, ErrorCode::MessageTooLarge)?,
                (code, _) => told.answer_of_coordinator(code, ErrorCode::PolicyViolation)?,
            }
        }
        Ok(())
    })
    .await
}

/// Offsets of groups that nobody has heard of, each with as much beside it as there may be.
pub async fn offsets(field: Field) -> anyhow::Result<Told> {
    crowd(field, 4, |field, told, number| async move {
        let mut foe = Foe::connect(field.plain).await?;
        let partition = |partition_index: i32| OffsetCommitRequestPartition {
            partition_index,
            committed_leader_epoch: -1,
            committed_metadata: Some("m".repeat(4_000).into()),
            ..Default::default()
        };
        let partitions: Vec<_> = (0..200).map(partition).collect();
        let topics = vec![OffsetCommitRequestTopic { name: WIDE.into(), partitions, ..Default::default() }];
        for turn in 0.. {
            if field.left().is_zero() {
                break;
            }
            let request = OffsetCommitRequest {
                group_id: format!("offsets-{}-{number}-{turn}", field.turn).into(),
                generation_id_or_member_epoch: -1,
                topics: topics.clone(),
                ..Default::default()
            };
            let Ok(response) = tokio::time::timeout(field.left(), foe.ask(8, &request)).await else { break };
            let code = response?.topics[0].partitions[0].error_code;
            told.answer_of_coordinator(code, ErrorCode::PolicyViolation)?;
        }
        Ok(())
    })
    .await
}

/// Patterns that are few characters and much work.
pub async fn patterns(field: Field) -> anyhow::Result<Told> {
    crowd(field, 4, |field, told, number| async move {
        let mut foe = Foe::connect(field.plain).await?;
        let long = "x".repeat(20_000);
        let patterns = ["((a{1,500}){1,500}){1,500}", "(?i)\\w{9000}", "(", &long, "(.*){1,900}(.*){1,900}b"];
        for turn in 0.. {
            if field.left().is_zero() {
                break;
            }
            let request = ConsumerGroupHeartbeatRequest {
                subscribed_topic_names: None,
                subscribed_topic_regex: Some(patterns[turn % patterns.len()].into()),
                ..heartbeat(&format!("patterns-{}", field.turn), number * 1_000 + turn)
            };
            let response = foe.ask(1, &request).await?;
            told.did(1);
            told.refused(u64::from(response.error_code != 0));
        }
        Ok(())
    })
    .await
}

/// A transactional id for every request, as long as may be.
pub async fn transactional_ids(field: Field) -> anyhow::Result<Told> {
    crowd(field, 8, |field, told, number| async move {
        let mut foe = Foe::connect(field.plain).await?;
        for turn in 0.. {
            if field.left().is_zero() {
                break;
            }
            let padding = "t".repeat(if turn % 2 == 0 { 32_000 } else { 200 });
            let request = InitProducerIdRequest {
                transactional_id: Some(format!("{padding}-{}-{number}-{turn}", field.turn).into()),
                transaction_timeout_ms: 60_000,
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            };
            let Ok(response) = tokio::time::timeout(field.left(), foe.ask(4, &request)).await else { break };
            told.answer_of_coordinator(response?.error_code, ErrorCode::PolicyViolation)?;
        }
        Ok(())
    })
    .await
}

/// A batch of another producer with every request.
pub async fn producer_ids(field: Field) -> anyhow::Result<Told> {
    crowd(field, 4, |field, told, number| async move {
        let mut foe = Foe::connect(field.plain).await?;
        for turn in 0i64.. {
            if field.left().is_zero() {
                break;
            }
            // Ids that nobody gave out are as good: a leader takes what it does not know.
            let id = 1_000_000 + field.turn as i64 * 10_000_000 + number as i64 * 1_000_000 + turn;
            let mut builder = BatchBuilder::new().producer(id, 0, 0);
            builder.append(0, None, Some(b"x"), &[])?;
            let request = produce_request(SEQUENCED, (turn % 8) as i32, builder.build()?);
            let response = foe.ask(9, &request).await?;
            let code = response.responses[0].partition_responses[0].error_code;
            anyhow::ensure!(code == 0, "{code}");
            told.did(1);
        }
        Ok(())
    })
    .await
}

/// Rights without end.
pub async fn acls(field: Field) -> anyhow::Result<Told> {
    crowd(field, 2, |field, told, number| async move {
        let mut foe = Foe::connect(field.plain).await?;
        for turn in 0.. {
            if field.left().is_zero() {
                break;
            }
            let creation = |at: usize| AclCreation {
                resource_type: 2,
                resource_name: format!("acl-{}-{number}-{turn}-{at}", field.turn).into(),
                resource_pattern_type: 3,
                principal: "User:nobody".into(),
                host: "*".into(),
                operation: 3,
                permission_type: 3,
                ..Default::default()
            };
            let request =
                CreateAclsRequest { creations: (0..200).map(creation).collect(), ..Default::default() };
            let response = foe.ask(3, &request).await?;
            told.did(response.results.len() as u64);
            told.refused(response.results.iter().filter(|result| result.error_code != 0).count() as u64);
        }
        Ok(())
    })
    .await
}

/// Users and entities with quotas, with names as long as may be, and longer.
pub async fn users(field: Field) -> anyhow::Result<Told> {
    crowd(field, 4, |field, told, number| async move {
        let mut foe = Foe::connect(field.plain).await?;
        for turn in 0.. {
            if field.left().is_zero() {
                break;
            }
            let name = format!("{}-{}-{number}-{turn}", "u".repeat([900, 5_000][turn % 2]), field.turn);
            let code = match number % 2 {
                0 => {
                    let upsertion = ScramCredentialUpsertion {
                        name: name.into(),
                        mechanism: 1,
                        iterations: if turn % 3 == 0 { i32::MAX } else { 4_096 },
                        salt: vec![7; 16].into(),
                        salted_password: vec![7; 32].into(),
                        ..Default::default()
                    };
                    let upsertions = vec![upsertion];
                    let request = AlterUserScramCredentialsRequest { upsertions, ..Default::default() };
                    foe.ask(0, &request).await?.results[0].error_code
                }
                _ => {
                    let entity_name = Some(name.into());
                    let entity_type = "client-id".into();
                    let entity = vec![EntityData { entity_type, entity_name, ..Default::default() }];
                    let op = OpData {
                        key: "request_percentage".into(),
                        value: 1.0,
                        remove: false,
                        ..Default::default()
                    };
                    let entries = vec![EntryData { entity, ops: vec![op], ..Default::default() }];
                    foe.ask(1, &AlterClientQuotasRequest { entries, ..Default::default() }).await?.entries[0]
                        .error_code
                }
            };
            told.did(1);
            told.refused(u64::from(code != 0));
            // Each of these is a commit of the metadata; what is looked for here is how much is kept.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    })
    .await
}
