//! Producers and a group go on while the machine loses its power again and again: P1 to P3 on a seeded world.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use client::{
    Client, ClientOptions, ConsumerOptions, NewTopic, OffsetReset, ProducerOptions, Record, TcpTransport,
    TopicPartition,
};
use world::rng::Rng;
use world::rng::SeededRng;
use world::task;

use crate::history::{self, Acknowledged, Checked, Found, Violation};
use crate::machine::{ADDRESS, Machine, Medium, run};

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub medium: Medium,
    pub producers: usize,
    pub records_per_producer: u64,
    pub cuts: u32,
}

/// What a run came to. Equal plans give equal outcomes, the transcript byte for byte.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub checked: Result<Checked, Vec<Violation>>,
    pub cuts: u32,
    /// What everybody was told, in order, and the medium's own account of its operations.
    pub transcript: String,
}

pub fn simulate(plan: Plan) -> anyhow::Result<Outcome> {
    run(plan.seed, world(plan))
}

fn client(machine: &Machine, name: &str) -> Client {
    let options = ClientOptions::new([ADDRESS])
        .client_id(name)
        .transport(Arc::new(TcpTransport::over(machine.net.clone())))
        .clock(machine.clock.clone())
        .rng(machine.rng());
    Client::new(options)
}

async fn world(plan: Plan) -> anyhow::Result<Outcome> {
    let mut machine = Machine::new(plan.seed, plan.medium);
    machine.start().await?;
    let admin = client(&machine, "admin");
    admin.admin().create_topics(vec![NewTopic::new(TOPIC).partitions(PARTITIONS)], false).await?.remove(0)?;

    let acknowledged = Rc::new(RefCell::new((Acknowledged::default(), String::new())));
    let local = tokio::task::LocalSet::new();
    let mut producing = Vec::new();
    for number in 0..plan.producers {
        let client = client(&machine, &format!("producer-{number}"));
        producing.push(local.spawn_local(produce(client, number, plan, acknowledged.clone())));
    }
    let random = SeededRng::new(plan.seed.wrapping_mul(31));
    let mut cuts = 0;
    let result: anyhow::Result<()> = local
        .run_until(async {
            for _ in 0..plan.cuts {
                task::sleep(Duration::from_micros(5_000 + random.below(400_000))).await;
                if producing.iter().all(|task| task.is_finished()) {
                    break;
                }
                machine.cut_power(random.next_u64()).await;
                cuts += 1;
                task::sleep(Duration::from_millis(1 + random.below(300))).await;
                machine.start().await?;
            }
            for task in producing.drain(..) {
                task.await??;
            }
            Ok(())
        })
        .await;
    result?;
    let log = read_all(&machine).await?;
    machine.stop().await;
    let (acknowledged, mut transcript) =
        Rc::into_inner(acknowledged).expect("every producer has ended").into_inner();
    writeln!(transcript, "{} in the log, medium {:016x}", log.len(), machine.trace_hash())?;
    Ok(Outcome { checked: history::check(&acknowledged, &log), cuts, transcript })
}

async fn produce(
    client: Client,
    number: usize,
    plan: Plan,
    told: Rc<RefCell<(Acknowledged, String)>>,
) -> anyhow::Result<()> {
    let name = format!("p{number}");
    let options =
        ProducerOptions { delivery_timeout: Duration::from_secs(3600), ..ProducerOptions::default() };
    // The broker may be down, for seconds where its start meets a bucket that is silent.
    let producer = loop {
        match client.producer(options.clone()).await {
            Ok(producer) => break producer,
            Err(error) if error.is_retriable() => task::sleep(RETRY_PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    };
    let mut waiting = Vec::new();
    for record in 0..plan.records_per_producer {
        let partition = (record % PARTITIONS as u64) as i32;
        let within = record / PARTITIONS as u64;
        let value = format!("{name} {within}");
        let delivery = producer.send(Record::to(TOPIC).partition(partition).value(value)).await?;
        waiting.push((partition, within, delivery));
        if record % 16 == 15 {
            task::sleep(Duration::from_millis(20)).await;
        }
    }
    for (partition, within, delivery) in waiting {
        let delivered = delivery.await?;
        let mut told = told.borrow_mut();
        told.0.add(&name, partition, within, delivered.offset)?;
        writeln!(told.1, "{name} {partition} {within} at {}", delivered.offset)?;
    }
    producer.close().await?;
    Ok(())
}

async fn read_all(machine: &Machine) -> anyhow::Result<Vec<Found>> {
    let client = client(machine, "reader");
    let mut found = Vec::new();
    for partition in 0..PARTITIONS {
        let place = TopicPartition::new(TOPIC, partition);
        let mut consumer = client.consumer(ConsumerOptions::default().offset_reset(OffsetReset::Earliest))?;
        consumer.assign([place.clone()])?;
        let end = consumer.end_offsets(std::slice::from_ref(&place)).await?[&place];
        while consumer.position(&place).await? < end {
            for record in consumer.poll(Duration::from_secs(1)).await? {
                let text = String::from_utf8(record.value.unwrap_or_default().to_vec())?;
                let (producer, number) =
                    text.split_once(' ').ok_or_else(|| anyhow::anyhow!("nobody sent {text}"))?;
                found.push(Found {
                    partition,
                    offset: record.offset,
                    producer: producer.into(),
                    number: number.parse()?,
                });
            }
        }
        consumer.close().await?;
    }
    Ok(found)
}
