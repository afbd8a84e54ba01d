//! The topic a load goes to: made if it is not there, and known with its id and a leader for every partition.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use client::{
    Admin, Client, ClientOptions, Error, ErrorCode, Isolation, NewTopic, OffsetSpec, Str, TopicPartition,
    Uuid,
};

#[derive(Clone, Debug)]
pub struct Topic {
    pub name: Str,
    pub id: Uuid,
    pub partitions: i32,
}

/// How long a broker may take until every partition has a leader.
const LEADERS_WAIT_MAX: Duration = Duration::from_secs(300);

/// A Kafka refuses a request that comes to 10,000 records of metadata.
const PARTITIONS_AT_ONCE: i32 = 5000;

pub fn admin(address: &str) -> Admin {
    Client::new(ClientOptions::new([address]).request_timeout(LEADERS_WAIT_MAX).api_timeout(LEADERS_WAIT_MAX))
        .admin()
}

/// The topic, made with these configs if there is none of this name.
pub async fn ensure_topic(
    address: &str,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<Topic> {
    let admin = admin(address);
    let mut made = partitions.min(PARTITIONS_AT_ONCE);
    let mut wanted = NewTopic::new(name).partitions(made).replication_factor(1);
    for (key, value) in configs {
        wanted = wanted.config(*key, *value);
    }
    match admin.create_topic(wanted).await {
        Ok(_) => {
            while made < partitions {
                made = partitions.min(made + PARTITIONS_AT_ONCE);
                admin.create_partitions(name, made).await?;
            }
        }
        Err(Error::Kafka { code: ErrorCode::TopicAlreadyExists, .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let deadline = Instant::now() + LEADERS_WAIT_MAX;
    loop {
        if let Ok(topic) = admin.topic(name).await
            && topic.partitions.iter().all(|partition| partition.leader >= 0)
            && topic.partitions.len() >= made as usize
        {
            ensure!(
                topic.partitions.len() == partitions as usize,
                "{name} has {} partitions, not {partitions}: take another name",
                topic.partitions.len()
            );
            serve(&admin, &topic.name, partitions).await?;
            return Ok(Topic { name: topic.name.clone(), id: topic.id, partitions });
        }
        if Instant::now() > deadline {
            bail!("{name} has partitions without a leader");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A Kafka names leaders that do not know of it yet and refuse the first batches. When all of them tell their offsets, all
/// of them lead; until then the client asks again.
async fn serve(admin: &Admin, name: &Str, partitions: i32) -> Result<()> {
    let ends =
        (0..partitions).map(|number| (TopicPartition::new(name, number), OffsetSpec::Latest)).collect();
    for (partition, end) in admin.list_offsets(&ends, Isolation::ReadUncommitted).await? {
        end.with_context(|| format!("{partition} does not lead"))?;
    }
    Ok(())
}
