//! The workloads, one file each, by the numbers they have in `docs/performance.md`.

mod catch_up;
mod consumer_groups;
pub mod fan_out;
mod idle_connections;
pub mod latency;
pub mod many_topics;
pub mod produce;
pub mod quick;
pub mod starts;
pub mod steady_state;
mod transactions;
mod trickle;
pub mod volume;

use std::time::Duration;

use anyhow::{Result, bail};
use protocol::compression::Compression;
use protocol::messages::FindCoordinatorRequest;
use protocol::{ErrorCode, Str};

use crate::batches::Shape;
use crate::connection::{Receiver, Sender, ask, error_code};
use crate::load::{Amount, Load};
use crate::run::Run;
use crate::subject::{Kind, Subject};
use crate::topic::{Topic, ensure_topic};

/// Number, title, and what the document says of it.
pub const ALL: [(u8, &str, &str); 14] = [
    (1, "Produce", produce::ABOUT),
    (2, "Latency", latency::ABOUT),
    (3, "Fan-out at the tail", fan_out::ABOUT),
    (4, "Cold catch-up beside producers", catch_up::ABOUT),
    (5, "Idle connections", idle_connections::ABOUT),
    (6, "Many topics", many_topics::ABOUT),
    (7, "Start, restart, kill -9", starts::ABOUT),
    (8, "Idempotent produce", produce::ABOUT_IDEMPOTENT),
    (9, "Steady state", steady_state::ABOUT),
    (10, "A trickle on 1,000 partitions", trickle::ABOUT),
    (11, "Scaling", produce::ABOUT_SCALING),
    (12, "A volume of 3,000 writes per second", volume::ABOUT),
    (13, "Transactions", transactions::ABOUT),
    (14, "Consumer groups", consumer_groups::ABOUT),
];

pub async fn run(number: u8, run: &mut Run) -> Result<()> {
    match number {
        1 => produce::run(run).await,
        2 => latency::run(run).await,
        3 => fan_out::run(run).await,
        4 => catch_up::run(run).await,
        5 => idle_connections::run(run).await,
        6 => many_topics::run(run).await,
        7 => starts::run(run).await,
        8 => produce::run_idempotent(run).await,
        9 => steady_state::run(run).await,
        10 => trickle::run(run).await,
        11 => produce::run_scaling(run).await,
        12 => volume::run(run).await,
        13 => transactions::run(run).await,
        14 => consumer_groups::run(run).await,
        _ => bail!("there is no workload {number}"),
    }
}

/// What a single Kafka needs for the topics of its coordinators; Ottla knows these too.
const ONE_BROKER: [(&str, &str); 2] =
    [("transaction.state.log.replication.factor", "1"), ("transaction.state.log.min.isr", "1")];

/// A coordinator's partition may still be made or loaded.
const COORDINATOR_TRIES_MAX: u32 = 300;
const COORDINATOR_PAUSE: Duration = Duration::from_millis(100);

/// Waits until somebody coordinates a group (type 0) or a transactional id (type 1).
async fn coordinated(connection: &mut (Sender, Receiver), key_type: i8, key: &Str) -> Result<()> {
    const VERSION: i16 = 4;
    let request =
        FindCoordinatorRequest { key_type, coordinator_keys: vec![key.clone()], ..Default::default() };
    for _ in 0..COORDINATOR_TRIES_MAX {
        let answer = ask(connection, &request, VERSION).await?;
        let code = answer.coordinators.first().map_or(-1, |coordinator| coordinator.error_code);
        match error_code(code) {
            ErrorCode::None => return Ok(()),
            ErrorCode::CoordinatorNotAvailable | ErrorCode::CoordinatorLoadInProgress => {}
            code => bail!("no coordinator for {key}: {code}"),
        }
        tokio::time::sleep(COORDINATOR_PAUSE).await;
    }
    bail!("no coordinator for {key} in time")
}

/// What Kafka needs to give the space of a deleted topic back soon; Ottla knows it too.
const DELETED_SOON: [(&str, &str); 1] = [("file.delete.delay.ms", "1000")];

async fn topic(subject: &Subject, name: &str, partitions: i32) -> Result<Topic> {
    ensure_topic(&subject.address, name, partitions, &DELETED_SOON).await
}

/// All subjects, started, and loaded until what a JVM compiles is compiled.
async fn warmed(run: &Run) -> Result<Vec<Subject>> {
    warmed_of(run, &run.plan.kinds).await
}

async fn warmed_of(run: &Run, kinds: &[Kind]) -> Result<Vec<Subject>> {
    let subjects = run.started(kinds)?;
    let name = "warm-up";
    for subject in &subjects {
        let topic = topic(subject, name, 10).await?;
        crate::load::run(&usual(subject, &topic, JVM_WARM_UP)).await?;
    }
    delete(&subjects, name).await?;
    Ok(subjects)
}

/// Whichever comes first.
const JVM_WARM_UP: Amount = Amount { bytes: Some(2_000_000_000), seconds: Some(20.0) };

async fn delete(subjects: &[Subject], name: &str) -> Result<()> {
    for subject in subjects {
        crate::topic::admin(&subject.address).delete_topic(name).await?;
    }
    Ok(())
}

/// 1 KB records in batches of 16 KiB, ten partitions in a request if there are ten for each of four connections.
fn usual(subject: &Subject, topic: &Topic, amount: Amount) -> Load {
    Load {
        address: subject.address.clone(),
        topic: topic.clone(),
        shape: Shape {
            record_bytes: 1000,
            batch_bytes: 16_384,
            compression: Compression::None,
            stamped: false,
        },
        connections: if topic.partitions == 1 { 1 } else { 4 },
        in_flight: 5,
        partitions_per_request: 10,
        amount,
        rate: None,
        idempotent: false,
        tolerant: false,
    }
}
