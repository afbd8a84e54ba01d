//! `ottla selftest`: does a bucket keep the promises that the log rests on? The probe of every start, again and again, with
//! requests that are broken off in the middle, and how long the store takes for what a broker asks most.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use world::bucket::{Bucket, RealBucket, Stored, probe, store};
use world::rng::{RealRng, Rng};
use world::task;

use crate::arguments::{Output, Selftest};
use crate::exit::{Done, Failure};
use crate::output;

const FOLDER: &str = "selftest/";
const PATIENCE: Duration = Duration::from_secs(60);
/// What a commit under load has, more or less.
const COMMIT_BYTES: usize = 1 << 20;
/// Of each round.
const TIMED: usize = 10;
const BROKEN_OFF: usize = 10;

pub fn run(arguments: Selftest, output: Output) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("the runtime does not start: {error}")))?;
    runtime.block_on(test(arguments, output))
}

async fn test(arguments: Selftest, output: Output) -> Done {
    let bucket: Arc<dyn Bucket> = RealBucket::open(&arguments.place.data).map_err(Failure::usage)?;
    let rng = RealRng::shared();
    let (mut creates, mut gets) = (Vec::new(), Vec::new());
    let mut verdict = Ok(());
    let mut done = 0;
    while done < arguments.rounds && verdict.is_ok() {
        verdict = round(&bucket, &*rng, &mut creates, &mut gets).await;
        done += usize::from(verdict.is_ok());
    }
    let row = |name: &str, took: &mut Vec<Duration>| {
        took.sort_unstable();
        let at = |part: usize| {
            took.get(took.len() * part / 100).map(|took| (took.as_secs_f64() * 1e4).round() / 10.0)
        };
        vec![json!(name), json!(took.len()), json!(at(50)), json!(at(99))]
    };
    let rows = [row("create 1 MiB", &mut creates), row("get 1 MiB", &mut gets)];
    let columns = ["request", "count", "p50_ms", "p99_ms"];
    match output {
        Output::Table => {
            output::table(output, &columns, &rows)?;
            if verdict.is_ok() {
                output::print(&format!(
                    "\n{done} rounds: creates and replaces are conditional, one of many racing creates wins, what is stored is seen at \
                     once, and what was broken off in the middle is one thing or the other. This store can be used.\n"
                ))?;
            }
        }
        Output::Json => output::json(&json!({
            "rounds": done,
            "usable": verdict.is_ok(),
            "requests": output::objects(&columns, &rows),
        }))?,
    }
    verdict.map_err(Failure::failed)
}

async fn round(
    bucket: &Arc<dyn Bucket>,
    rng: &dyn Rng,
    creates: &mut Vec<Duration>,
    gets: &mut Vec<Duration>,
) -> Result<(), String> {
    probe(bucket, FOLDER, rng).await.map_err(|error| error.to_string())?;
    let name = u128::from_le_bytes(rng.uuid());
    let mut content = vec![0; COMMIT_BYTES];
    rng.fill(&mut content);
    let content = Bytes::from(content);
    let keys: Vec<String> = (0..TIMED + BROKEN_OFF).map(|n| format!("{FOLDER}{name:032x}/{n}")).collect();
    let (timed, broken_off) = keys.split_at(TIMED);
    let tried = async {
        for key in timed {
            time(bucket, key, &content, creates, gets).await?;
        }
        let usual = creates.last().copied().unwrap_or(PATIENCE);
        for key in broken_off {
            break_off(bucket, rng, key, &content, usual).await?;
        }
        Ok(())
    };
    let tried = tried.await;
    for key in &keys {
        let _ = bucket.delete(key).await;
    }
    tried
}

async fn time(
    bucket: &Arc<dyn Bucket>,
    key: &str,
    content: &Bytes,
    creates: &mut Vec<Duration>,
    gets: &mut Vec<Duration>,
) -> Result<(), String> {
    let began = task::now();
    let stored = store(&**bucket, key, content, PATIENCE).await.map_err(|error| error.to_string())?;
    creates.push(task::now() - began);
    let began = task::now();
    let got = bucket.get(key).await.map_err(|error| error.to_string())?;
    gets.push(task::now() - began);
    match got {
        Some(object) if object.bytes == *content && stored == Stored::Own => Ok(()),
        _ => Err(format!("{key} has another content than the one that was stored there")),
    }
}

/// A create of which nobody hears the end; then another content for the same key. One of the two is there, and stays.
async fn break_off(
    bucket: &Arc<dyn Bucket>,
    rng: &dyn Rng,
    key: &str,
    content: &Bytes,
    usual: Duration,
) -> Result<(), String> {
    let short = Duration::from_nanos(rng.below(usual.as_nanos() as u64 + 1));
    let first = task::timeout(short, bucket.create(key, content.clone())).await;
    let second = content.slice(1..);
    let stored = store(&**bucket, key, &second, PATIENCE).await.map_err(|error| error.to_string())?;
    let expected = match (&stored, first) {
        (Stored::Own, Ok(Ok(_))) => return Err(format!("{key} was created twice, with two contents")),
        (Stored::Own, _) => second,
        (Stored::Other(object), _) if object.bytes == *content => content.clone(),
        (Stored::Other(_), _) => return Err(format!("{key} has a content that nobody has sent")),
    };
    // What is still on its way has come by then.
    task::sleep(usual).await;
    match bucket.get(key).await.map_err(|error| error.to_string())? {
        Some(object) if object.bytes == expected => Ok(()),
        _ => Err(format!("{key} has changed although it was only ever created")),
    }
}
