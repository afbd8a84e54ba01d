//! A rolling upgrade under load, brokers one by one, from a release to one that knows another feature level (R18).
//!
//! ```text
//!   old old old ─▶ new old old ─▶ new new old ─▶ new new (asleep) ─▶ level raised ─▶ the old one wakes up and ends ─▶ new new new
//!                  refused        refused                             its record is used; an old one refuses to start
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use client::{Client, Feature, NewTopic};
use protocol::ErrorCode;

use super::faults::{SETTLE, Scene};
use super::nodes::lasting_ports;
use super::{CALM, Clients, load};
use crate::Cluster;

const LEVEL: &str = "ottla.version";
/// Such are made when the level is raised: from then on the newer release says something about each topic.
const NEW_TOPIC: &str = "after-the-raise";
/// What it says, as it stands in the metadata log.
const REMARK: &[u8] = b"remark-on-after-the-raise";
/// From a wake-up to the end of a broker that should not be there, and of everything that needs a lease to expire.
const END_MAX: Duration = Duration::from_secs(30);

pub async fn roll(
    args: &Cluster,
    newer: &Path,
    work: &Path,
    scene: &Scene,
    clients: &mut Clients,
    injected: &mut BTreeMap<&'static str, u32>,
) -> anyhow::Result<()> {
    ensure!(scene.nodes.len() >= 2, "a rolling upgrade needs two brokers");
    let say = |what: &str| eprintln!("{:>8} ms  {what}", scene.told.now_ms());
    let from = levels(scene).await?.level.context("the cluster has a level")?;
    let to = from + 1;
    let (last, others) = scene.nodes.split_last().expect("there are brokers");
    for node in others {
        say(&format!("upgrading broker {}", node.index));
        let status = node.leave().await?;
        ensure!(status.success(), "broker {} ended with {status}", node.index);
        node.install(newer);
        node.start().await?;
        scene.calm().await?;
        tokio::time::sleep(SETTLE).await;
        *injected.entry("upgrade").or_default() += 1;
        clients.look_after(scene);
        refused_while_an_old_one_lives(scene, to).await?;
    }
    say("the last old one falls asleep");
    last.install(newer);
    last.signal("STOP").await;
    let deadline = Instant::now() + scene.lease + END_MAX;
    let client = load::client(&[scene.nodes[0].address()]);
    while let Err(error) = client.admin().upgrade_feature(LEVEL, to, false).await {
        ensure!(error.code() == Some(ErrorCode::InvalidUpdateVersion), "raising the level: {error}");
        ensure!(Instant::now() < deadline, "the level cannot be raised: {error}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    say(&format!("the level is {to}"));
    let ended = last.ended_by_itself.load(Ordering::Relaxed);
    newer_record_is_used(&client, work).await?;
    last.signal("CONT").await;
    let deadline = Instant::now() + END_MAX;
    while last.ended_by_itself.load(Ordering::Relaxed) == ended {
        ensure!(Instant::now() < deadline, "an old broker runs on at a level that it does not know");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    says_both_levels(&last.log(), from, to).context("the old broker that ended")?;
    *injected.entry("upgrade").or_default() += 1;
    scene.calm().await?;
    ensure!(levels(scene).await?.level == Some(to), "the level is not {to} everywhere");

    say("an old one tries to start");
    let port = lasting_ports(scene.nodes.len() + 2)?.pop().context("a port")?;
    let (status, words) = last.try_once(&args.bin, port).await?;
    ensure!(!status.success(), "an old broker starts at a level that it does not know");
    says_both_levels(&words, from, to)?;
    say(&words);
    clients.look_after(scene);
    let before = scene.told.count();
    tokio::time::sleep(SETTLE + CALM).await;
    ensure!(scene.told.count() > before, "nothing is acknowledged after the upgrade");
    Ok(())
}

/// A broker that has not read of the raise yet makes a topic as before: it is asked again until its record stands there.
async fn newer_record_is_used(client: &Client, work: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + END_MAX;
    for number in 0.. {
        let topic = NewTopic::new(format!("{NEW_TOPIC}-{number}")).partitions(2);
        client.admin().create_topic(topic).await?;
        if stands_in_the_metadata(work)? {
            break;
        }
        ensure!(Instant::now() < deadline, "the newer release does not use its record");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// The same at every broker, or an error.
async fn levels(scene: &Scene) -> anyhow::Result<Feature> {
    let mut found: Option<Feature> = None;
    for node in scene.nodes.iter() {
        let features = load::client(&[node.address()]).admin().features().await?;
        let level = features.into_iter().find(|feature| feature.name == LEVEL);
        let level = level.with_context(|| format!("broker {} has no {LEVEL}", node.index))?;
        if let Some(other) = found.replace(level.clone()) {
            ensure!(other.level == level.level, "two brokers, two levels: {other:?} and {level:?}");
        }
    }
    found.context("there are brokers")
}

async fn refused_while_an_old_one_lives(scene: &Scene, to: i16) -> anyhow::Result<()> {
    match scene.client.admin().upgrade_feature(LEVEL, to, false).await {
        Err(error) if error.code() == Some(ErrorCode::InvalidUpdateVersion) => {
            eprintln!("{:>8} ms  {error}", scene.told.now_ms());
        }
        Err(error) => return Err(error.into()),
        Ok(()) => bail!("the level was raised while an old broker lives"),
    }
    levels(scene).await.map(drop)
}

fn says_both_levels(words: &str, from: i16, to: i16) -> anyhow::Result<()> {
    let says = format!("this cluster is at {LEVEL} {to}, this build of ottla knows {from} to {from}");
    ensure!(words.contains(&says), "it should say why it ends: {words}");
    Ok(())
}

fn stands_in_the_metadata(work: &Path) -> anyhow::Result<bool> {
    let folder = work.join("store/ottla/chaos/meta");
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let bytes = std::fs::read(entry?.path())?;
        if bytes.windows(REMARK.len()).any(|window| window == REMARK) {
            return Ok(true);
        }
    }
    Ok(false)
}
