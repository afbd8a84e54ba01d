//! Object stores over HTTP: S3 and what speaks as it does, Google Cloud Storage, Azure Blob Storage.
//!
//! ```text
//! s3://bucket/prefix?endpoint=http://HOST:PORT&region=R&allow_http=true      gs://bucket/prefix      az://container/prefix
//! ```
//!
//! The query's names are those of the `object_store` crate without the `aws_` before them. What the address does not say
//! comes from the environment (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL` …), then from the files of the AWS tools
//! (`~/.aws/credentials`, `~/.aws/config`; `AWS_PROFILE` names the profile), then from the machine's own role.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig,
    UpdateVersion,
};

use super::{Bucket, BucketCounters, BucketError, BucketErrorKind, BucketFuture, Listed, Object, Version};

/// A request that takes longer is broken off; whether it happened is then unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum BucketUrlError {
    #[error(
        "{0} is not the address of a bucket: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
    )]
    NotABucket(String),
    #[error("{name} is not a parameter of {scheme}:// addresses")]
    UnknownParameter { scheme: String, name: String },
    #[error("{0}")]
    Refused(String),
}

pub struct RealBucket {
    store: Arc<dyn ObjectStore>,
    /// Empty, or ends with a slash.
    prefix: String,
    counters: Arc<BucketCounters>,
}

impl RealBucket {
    /// Connects to nothing yet: the first request does.
    pub fn open(address: &str) -> Result<Arc<Self>, BucketUrlError> {
        // Its parameters may be secrets, and this is for the log.
        let shown = address.split_once('?').map_or(address, |(shown, _)| shown);
        let not_a_bucket = || BucketUrlError::NotABucket(shown.to_owned());
        let url = url::Url::parse(address).map_err(|_| not_a_bucket())?;
        let name = url.host_str().filter(|name| !name.is_empty()).ok_or_else(not_a_bucket)?;
        let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        // Whether a request that failed has happened is the caller's question: nothing here asks twice.
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let client = ClientOptions::new().with_timeout(REQUEST_TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT);
        let refused = |error: Error| BucketUrlError::Refused(error.to_string());
        let store: Arc<dyn ObjectStore> = match url.scheme() {
            "s3" => {
                let mut builder = AmazonS3Builder::from_env().with_bucket_name(name);
                for (key, value) in aws_files() {
                    if builder.get_config_value(&key).is_none() {
                        builder = builder.with_config(key, value);
                    }
                }
                builder = builder.with_client_options(client);
                for (name, value) in parameters {
                    let key: AmazonS3ConfigKey = parameter(&url, "aws", &name)?;
                    builder = builder.with_config(key, value);
                }
                builder = builder.with_conditional_put(S3ConditionalPut::ETagMatch).with_retry(retry);
                Arc::new(builder.build().map_err(refused)?)
            }
            "gs" => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(name);
                builder = builder.with_client_options(client);
                for (name, value) in parameters {
                    let key: GoogleConfigKey = parameter(&url, "google", &name)?;
                    builder = builder.with_config(key, value);
                }
                Arc::new(builder.with_retry(retry).build().map_err(refused)?)
            }
            "az" => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(name);
                builder = builder.with_client_options(client);
                for (name, value) in parameters {
                    let key: AzureConfigKey = parameter(&url, "azure", &name)?;
                    builder = builder.with_config(key, value);
                }
                Arc::new(builder.with_retry(retry).build().map_err(refused)?)
            }
            _ => return Err(not_a_bucket()),
        };
        let prefix = Path::from_url_path(url.path()).map_err(|_| not_a_bucket())?;
        Ok(Self::of(store, prefix.as_ref()))
    }

    /// A store of the `object_store` crate; all keys lie below `prefix`.
    pub fn of(store: Arc<dyn ObjectStore>, prefix: &str) -> Arc<Self> {
        let prefix = match prefix {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Arc::new(Self { store, prefix, counters: Arc::default() })
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}{key}", self.prefix))
    }

    fn put_as(
        &self,
        operation: &'static str,
        key: &str,
        bytes: Bytes,
        mode: PutMode,
    ) -> BucketFuture<Version> {
        let (store, path, counters) = (self.store.clone(), self.path(key), self.counters.clone());
        let key = key.to_owned();
        BucketCounters::add(&counters.puts, 1);
        BucketCounters::add(&counters.bytes_put, bytes.len() as u64);
        Box::pin(async move {
            match store.put_opts(&path, PutPayload::from(bytes), mode.into()).await {
                Ok(result) => Ok(version(result.e_tag, result.version)),
                Err(error) => Err(failure(&counters, operation, key, &error)),
            }
        })
    }
}

/// A parameter of the address, by the crate's name for it or the same without the store's.
fn parameter<K: std::str::FromStr>(url: &url::Url, store: &str, name: &str) -> Result<K, BucketUrlError> {
    let key = name.parse().or_else(|_| format!("{store}_{name}").parse());
    key.map_err(|_| BucketUrlError::UnknownParameter {
        scheme: url.scheme().to_owned(),
        name: name.to_owned(),
    })
}

/// What the files of the AWS tools say of the profile.
fn aws_files() -> Vec<(AmazonS3ConfigKey, String)> {
    let env = |name: &str| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let profile = env("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let file = |named: &str, usual: &str| {
        let path = env(named).map(PathBuf::from);
        let path = path.or_else(|| Some(PathBuf::from(env("HOME")?).join(".aws").join(usual)))?;
        std::fs::read_to_string(path).ok()
    };
    let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials").unwrap_or_default();
    let config = file("AWS_CONFIG_FILE", "config").unwrap_or_default();
    let mut values = section(&config, &format!("profile {profile}"));
    if profile == "default" {
        values.extend(section(&config, "default"));
    }
    values.extend(section(&credentials, &profile));
    let known = [
        ("aws_access_key_id", AmazonS3ConfigKey::AccessKeyId),
        ("aws_secret_access_key", AmazonS3ConfigKey::SecretAccessKey),
        ("aws_session_token", AmazonS3ConfigKey::Token),
        ("region", AmazonS3ConfigKey::Region),
        ("endpoint_url", AmazonS3ConfigKey::Endpoint),
    ];
    known.into_iter().filter_map(|(name, key)| Some((key, values.remove(name)?))).collect()
}

/// The values below `[name]` in an INI file.
fn section(file: &str, name: &str) -> BTreeMap<String, String> {
    let mut inside = false;
    let mut values = BTreeMap::new();
    for line in file.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = header.trim() == name;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside && !line.starts_with('#')) {
            values.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    values
}

/// Both marks of a version: stores that have one of them may want it back, whichever it is.
fn version(e_tag: Option<String>, version: Option<String>) -> Version {
    Version(format!("{}\n{}", e_tag.unwrap_or_default(), version.unwrap_or_default()))
}

fn seen(version: &Version) -> UpdateVersion {
    let (e_tag, version) = version.0.split_once('\n').unwrap_or((&version.0, ""));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    UpdateVersion { e_tag: some(e_tag), version: some(version) }
}

fn failure(counters: &BucketCounters, operation: &'static str, key: String, error: &Error) -> BucketError {
    let kind = match error {
        Error::AlreadyExists { .. } | Error::Precondition { .. } => BucketErrorKind::Exists,
        // Of an object that should be replaced: it is gone. Of any other change: there is no such bucket.
        Error::NotFound { .. } if operation == "replace" => BucketErrorKind::Exists,
        Error::NotFound { .. }
        | Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => BucketErrorKind::Refused,
        _ => BucketErrorKind::Unavailable,
    };
    BucketCounters::add(&counters.errors, 1);
    BucketError { kind, operation, key, detail: error.to_string() }
}

impl Bucket for RealBucket {
    fn create(&self, key: &str, bytes: Bytes) -> BucketFuture<Version> {
        self.put_as("create", key, bytes, PutMode::Create)
    }

    fn replace(&self, key: &str, bytes: Bytes, version: &Version) -> BucketFuture<Version> {
        self.put_as("replace", key, bytes, PutMode::Update(seen(version)))
    }

    fn put(&self, key: &str, bytes: Bytes) -> BucketFuture<Version> {
        self.put_as("put", key, bytes, PutMode::Overwrite)
    }

    fn get(&self, key: &str) -> BucketFuture<Option<Object>> {
        let (store, path, counters) = (self.store.clone(), self.path(key), self.counters.clone());
        let key = key.to_owned();
        BucketCounters::add(&counters.gets, 1);
        Box::pin(async move {
            let got = async {
                let result = store.get(&path).await?;
                let version = version(result.meta.e_tag.clone(), result.meta.version.clone());
                Ok(Object { bytes: result.bytes().await?, version })
            };
            match got.await {
                Ok(object) => {
                    BucketCounters::add(&counters.bytes_got, object.bytes.len() as u64);
                    Ok(Some(object))
                }
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(failure(&counters, "get", key, &error)),
            }
        })
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> BucketFuture<Option<Bytes>> {
        let (store, path, counters) = (self.store.clone(), self.path(key), self.counters.clone());
        let key = key.to_owned();
        BucketCounters::add(&counters.gets, 1);
        Box::pin(async move {
            match store.get_range(&path, range).await {
                Ok(bytes) => {
                    BucketCounters::add(&counters.bytes_got, bytes.len() as u64);
                    Ok(Some(bytes))
                }
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(failure(&counters, "get", key, &error)),
            }
        })
    }

    fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> BucketFuture<Vec<Listed>> {
        let (store, counters) = (self.store.clone(), self.counters.clone());
        let folder = self.path(prefix);
        let after = after.map(|after| self.path(after));
        let (key, own) = (prefix.to_owned(), self.prefix.len());
        BucketCounters::add(&counters.lists, 1);
        Box::pin(async move {
            let mut listing = match &after {
                Some(after) => store.list_with_offset(Some(&folder), after),
                None => store.list(Some(&folder)),
            };
            let mut all = Vec::new();
            while all.len() < max {
                match listing.try_next().await {
                    Ok(Some(ObjectMeta { location, size, e_tag, version: number, .. })) => {
                        let key = location.as_ref()[own..].to_owned();
                        all.push(Listed { key, len: size, version: version(e_tag, number) });
                    }
                    Ok(None) => break,
                    Err(error) => return Err(failure(&counters, "list", key, &error)),
                }
            }
            Ok(all)
        })
    }

    fn delete(&self, key: &str) -> BucketFuture<()> {
        let (store, path, counters) = (self.store.clone(), self.path(key), self.counters.clone());
        let key = key.to_owned();
        BucketCounters::add(&counters.deletes, 1);
        Box::pin(async move {
            match store.delete(&path).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(failure(&counters, "delete", key, &error)),
            }
        })
    }

    fn counters(&self) -> Arc<BucketCounters> {
        self.counters.clone()
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::bucket::probe;
    use crate::rng::SeededRng;

    #[tokio::test]
    async fn the_crates_own_store_in_memory_passes_the_probe() {
        for prefix in ["", "some/where"] {
            let bucket: Arc<dyn Bucket> = RealBucket::of(Arc::new(InMemory::new()), prefix);
            probe(&bucket, "probe/", &SeededRng::new(1)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn keys_lie_below_the_prefix_and_lists_go_on_behind_one() {
        let store = Arc::new(InMemory::new());
        let bucket = RealBucket::of(store.clone(), "deep/er");
        for key in ["meta/1", "meta/2", "meta/3", "metal/1", "wal/1"] {
            bucket.create(key, Bytes::from_static(b"0123456789")).await.unwrap();
        }
        store.get(&Path::from("deep/er/meta/1")).await.unwrap();
        let keys = async |after, max| {
            let listed = bucket.list("meta/", after, max).await.unwrap();
            assert!(listed.iter().all(|listed| listed.len == 10));
            listed.into_iter().map(|listed| listed.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(None, 100).await, ["meta/1", "meta/2", "meta/3"]);
        assert_eq!(keys(Some("meta/1"), 1).await, ["meta/2"]);
        assert_eq!(bucket.get_range("meta/1", 8..100).await.unwrap().unwrap(), &b"89"[..]);
        assert!(bucket.get("meta/4").await.unwrap().is_none());
        bucket.delete("meta/1").await.unwrap();
        bucket.delete("meta/1").await.unwrap();
        assert!(bucket.get_range("meta/1", 0..1).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn only_the_version_that_was_seen_is_replaced() {
        let bucket = RealBucket::of(Arc::new(InMemory::new()), "");
        let old = bucket.create("lease", Bytes::from_static(b"1")).await.unwrap();
        let kind = |result: Result<Version, BucketError>| result.unwrap_err().kind;
        assert_eq!(kind(bucket.create("lease", Bytes::new()).await), BucketErrorKind::Exists);
        let new = bucket.replace("lease", Bytes::from_static(b"2"), &old).await.unwrap();
        assert_eq!(kind(bucket.replace("lease", Bytes::new(), &old).await), BucketErrorKind::Exists);
        assert_eq!(bucket.get("lease").await.unwrap().unwrap().version, new);
        bucket.delete("lease").await.unwrap();
        assert_eq!(kind(bucket.replace("lease", Bytes::new(), &new).await), BucketErrorKind::Exists);
    }

    #[test]
    fn addresses_that_mean_nothing_are_refused_with_the_reason() {
        let refused = |address| RealBucket::open(address).err().expect("refused").to_string();
        assert!(refused("ftp://a/b").contains("s3://BUCKET/PREFIX"));
        assert!(refused("s3:///b").contains("is not the address of a bucket"));
        assert!(!refused("s3:/b/c?secret_access_key=hidden").contains("hidden"));
        assert!(!refused("b/c?secret_access_key=hidden").contains("hidden"));
        assert!(refused("s3://b/c?reigon=x").contains("reigon is not a parameter of s3:// addresses"));
        let good = "s3://b/c/d?endpoint=http://127.0.0.1:1&region=r&allow_http=true&access_key_id=a&secret_access_key=b";
        assert_eq!(RealBucket::open(good).unwrap().prefix, "c/d/");
    }

    #[test]
    fn a_section_of_a_file_ends_where_the_next_begins() {
        let file =
            "[default]\naws_access_key_id = a\n\n[profile x]\n# region = no\nregion=eu\n[other]\nregion = us";
        assert_eq!(section(file, "default"), BTreeMap::from([("aws_access_key_id".into(), "a".into())]));
        assert_eq!(section(file, "profile x"), BTreeMap::from([("region".into(), "eu".into())]));
        assert_eq!(section(file, "none"), BTreeMap::new());
    }
}
