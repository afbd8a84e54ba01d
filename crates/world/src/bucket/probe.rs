//! Does a store keep the promises that the engine rests on? Some take the header of a conditional write and ignore it; some
//! look first and write then, and let two racing creates win. With such a store an acknowledged write would be lost one day,
//! so it is refused at start.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Bucket, BucketError, BucketErrorKind, BucketFuture, Object, Version};
use crate::rng::Rng;
use crate::task;

/// Creates of one key at once, of which one may win.
const RACERS: u8 = 16;
/// How often something is asked before the store counts as not answering.
const TRIES_MAX: u32 = 10;
const TRY_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("this store cannot be used: it {0}")]
    Broken(&'static str),
    #[error("this store does not answer: {0}")]
    Silent(#[from] BucketError),
}

/// Writes a few small objects below `folder`, and removes them again.
pub async fn probe(bucket: &Arc<dyn Bucket>, folder: &str, rng: &dyn Rng) -> Result<(), ProbeError> {
    let name: String = rng.uuid().iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = format!("{folder}{name}/");
    let keys = ["once", "raced", "replaced"].map(|key| format!("{folder}{key}"));
    let result = async {
        a_second_create_is_refused(bucket, &keys[0]).await?;
        one_of_many_creates_wins(bucket, &keys[1]).await?;
        a_stale_replace_is_refused(bucket, &keys[2]).await?;
        what_is_there_is_listed(bucket, &folder, &keys).await
    };
    let result = result.await;
    for key in &keys {
        // What stays is small and in nobody's way.
        let _ = bucket.delete(key).await;
    }
    result
}

async fn a_second_create_is_refused(bucket: &Arc<dyn Bucket>, key: &str) -> Result<(), ProbeError> {
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    let object = created(bucket, key, &first).await?;
    if object.bytes != first {
        return Err(ProbeError::Broken("has an object under a key that nobody used"));
    }
    if bucket.create(key, second).await.is_ok() {
        return Err(ProbeError::Broken("makes an object where there is one: it ignores If-None-Match"));
    }
    if looked_up(bucket, key).await?.is_none_or(|object| object.bytes != first) {
        return Err(ProbeError::Broken("loses the object that was there when it refuses another"));
    }
    Ok(())
}

async fn one_of_many_creates_wins(bucket: &Arc<dyn Bucket>, key: &str) -> Result<(), ProbeError> {
    let mut racing = task::JoinSet::new();
    for number in 0..RACERS {
        let (bucket, key) = (bucket.clone(), key.to_owned());
        racing.spawn(async move { (number, bucket.create(&key, Bytes::from(vec![number])).await) });
    }
    let mut winners = Vec::new();
    let mut unknown = None;
    while let Some(joined) = racing.join_next().await {
        match joined {
            Ok((number, Ok(_))) => winners.push(number),
            Ok((_, Err(error))) => unknown = Some(error),
            Err(_) => {}
        }
    }
    if winners.len() > 1 {
        return Err(ProbeError::Broken("lets several of many racing creates win"));
    }
    match (looked_up(bucket, key).await?, unknown) {
        (Some(object), _) if winners.iter().all(|winner| object.bytes == [*winner][..]) => Ok(()),
        (Some(_), _) => Err(ProbeError::Broken("has another content than the one whose create succeeded")),
        // Nobody won: lost on the way, or too many at once for this store.
        (None, Some(error)) if winners.is_empty() => Err(error.into()),
        (None, _) => Err(ProbeError::Broken("does not show an object that it has made")),
    }
}

async fn a_stale_replace_is_refused(bucket: &Arc<dyn Bucket>, key: &str) -> Result<(), ProbeError> {
    let contents = [&b"old"[..], b"new", b"stale"].map(Bytes::from_static);
    let old = created(bucket, key, &contents[0]).await?.version;
    let mut replaced = replaced(bucket, key, &contents[1], &old).await?;
    if replaced.bytes != contents[1] {
        return Err(ProbeError::Broken("does not replace a version that is there"));
    }
    if bucket.replace(key, contents[2].clone(), &old).await.is_ok() {
        return Err(ProbeError::Broken("replaces a version that is gone: it ignores If-Match"));
    }
    replaced = looked_up(bucket, key).await?.unwrap_or(replaced);
    if replaced.bytes != contents[1] {
        return Err(ProbeError::Broken("replaces a version that is gone, and says that it did not"));
    }
    Ok(())
}

async fn what_is_there_is_listed(
    bucket: &Arc<dyn Bucket>,
    folder: &str,
    keys: &[String],
) -> Result<(), ProbeError> {
    let listed = patiently(|| bucket.list(folder, None, 100)).await?;
    match keys.iter().all(|key| listed.iter().any(|listed| listed.key == *key)) {
        true => Ok(()),
        false => Err(ProbeError::Broken("does not list what it has: its lists are not consistent")),
    }
}

/// Creates, and says what is there then.
async fn created(bucket: &Arc<dyn Bucket>, key: &str, bytes: &Bytes) -> Result<Object, ProbeError> {
    settled(bucket, key, || bucket.create(key, bytes.clone()), |_| true).await
}

async fn replaced(
    bucket: &Arc<dyn Bucket>,
    key: &str,
    bytes: &Bytes,
    seen: &Version,
) -> Result<Object, ProbeError> {
    let is_new = |object: &Object| object.version != *seen;
    settled(bucket, key, || bucket.replace(key, bytes.clone(), seen), is_new).await
}

/// Asks for a change until what is there shows that it or another one happened.
async fn settled(
    bucket: &Arc<dyn Bucket>,
    key: &str,
    change: impl Fn() -> BucketFuture<Version>,
    has_changed: impl Fn(&Object) -> bool,
) -> Result<Object, ProbeError> {
    let mut last = None;
    for _ in 0..TRIES_MAX {
        let asked = change().await;
        if let Some(object) = looked_up(bucket, key).await?.filter(&has_changed) {
            return Ok(object);
        }
        match asked {
            Ok(_) => return Err(ProbeError::Broken("does not show what it has just taken")),
            Err(error) if error.kind == BucketErrorKind::Refused => return Err(error.into()),
            Err(error) => last = Some(error),
        }
        task::sleep(TRY_PAUSE).await;
    }
    Err(ProbeError::Silent(last.expect("every try failed")))
}

async fn looked_up(bucket: &Arc<dyn Bucket>, key: &str) -> Result<Option<Object>, ProbeError> {
    Ok(patiently(|| bucket.get(key)).await?)
}

async fn patiently<T>(ask: impl Fn() -> BucketFuture<T>) -> Result<T, BucketError> {
    let mut tries = 1;
    loop {
        match ask().await {
            Err(error) if error.kind == BucketErrorKind::Unavailable && tries < TRIES_MAX => tries += 1,
            other => return other,
        }
        task::sleep(TRY_PAUSE).await;
    }
}
