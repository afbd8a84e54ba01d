//! Where the data lies, and what is opened there.
//!
//! ```text
//!   DIR/lock        held while a broker lives; says its process id
//!   DIR/metadata/   the catalog
//!   DIR/log/        the commit log
//!
//!   s3://BUCKET/PREFIX    meta/, snapshots/: the catalog; wal/: the commit log
//!                         or tier/: what a directory keeps there besides
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::Endpoint;
use catalog::catalog::Notice;
use catalog::config::{BrokerConfig, LogSync, TopicConfig};
use catalog::{BrokerEndpoint, Catalog, CatalogOptions};
use commitlog::bucket::BlockDirectory;
use commitlog::tier::TierLimits;
use commitlog::{CommitLog, CompactionLimits, LogSettings, LogState, SyncMode};
use world::bucket::{Bucket, BucketCounters, BucketErrorKind, ProbeError, RealBucket, probe};
use world::clock::SharedClock;
use world::disk::{Disk, DiskCounters, DiskError, DiskErrorKind, DiskLock, RealDisk};
use world::rng::SharedRng;

use super::bucket_cost::{BucketCost, Prices};
use crate::exit::Failure;

/// What `--data` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Directory(PathBuf),
    /// `s3://BUCKET/PREFIX?PARAMETER=VALUE&…`
    Bucket(String),
}

impl Place {
    pub fn of(data: PathBuf) -> Self {
        match data.to_str() {
            Some(address) if address.contains("://") => Place::Bucket(address.to_owned()),
            _ => Place::Directory(data),
        }
    }

    /// For people and tools: a directory whole, a bucket without its parameters, which may be secrets.
    pub fn shown(&self) -> String {
        match self {
            Place::Directory(dir) => {
                std::path::absolute(dir).unwrap_or_else(|_| dir.clone()).display().to_string()
            }
            Place::Bucket(address) => {
                address.split_once('?').map_or(address.as_str(), |(shown, _)| shown).to_owned()
            }
        }
    }
}

pub struct Data {
    /// Of a directory.
    pub lock: Option<DiskLock>,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub counters: MediumCounters,
    /// Of the second tier's bucket.
    pub tier_counters: Option<Arc<BucketCounters>>,
}

pub enum MediumCounters {
    Disk(Arc<DiskCounters>),
    Bucket(Arc<BucketCounters>, Arc<BucketCost>),
}

pub async fn open(
    place: &Place,
    config: &BrokerConfig,
    advertised: &[Endpoint],
    clock: &SharedClock,
    rng: &SharedRng,
) -> Result<Data, Failure> {
    match place {
        Place::Directory(dir) => open_directory(dir, config, advertised, clock, rng).await,
        Place::Bucket(address) => open_bucket(address, &place.shown(), config, advertised, clock, rng).await,
    }
}

async fn open_bucket(
    address: &str,
    shown: &str,
    config: &BrokerConfig,
    advertised: &[Endpoint],
    clock: &SharedClock,
    rng: &SharedRng,
) -> Result<Data, Failure> {
    if config.log_sync() != LogSync::Commit {
        return Err(Failure::usage(
            "log.sync: in a bucket a record is acknowledged when it is stored, never before",
        ));
    }
    if config.remote_log_storage_system_enable() {
        return Err(Failure::usage(
            "remote.log.storage.system.enable: data in a bucket has no second tier, it lies there already",
        ));
    }
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("{shown}: {error}"));
    let bucket: Arc<dyn Bucket> = RealBucket::open(address).map_err(Failure::usage)?;
    let cost = BucketCost::new(Prices::of(config), clock.monotonic());
    let counters = MediumCounters::Bucket(bucket.counters(), Arc::new(cost));
    let patience = milliseconds(config.initial_broker_registration_timeout_ms().into());
    probe_until(&bucket, shown, clock, rng, patience).await.map_err(|error| failed(&error))?;
    let options = CatalogOptions {
        lease_ttl: milliseconds(config.bucket_lease_ttl_ms()),
        follow_every: milliseconds(config.bucket_follow_interval_ms()),
        ..catalog_options(config, advertised)
    };
    let catalog =
        Catalog::open_bucket(bucket.clone(), rng.clone(), options).await.map_err(|error| failed(&error))?;
    tell(catalog.notices());
    let settings = LogSettings {
        linger: milliseconds(config.bucket_linger_ms()),
        linger_max: milliseconds(config.bucket_linger_max_ms()),
        urgent_flush: milliseconds(config.bucket_urgent_flush_ms()),
        puts_per_second: config.bucket_puts_per_second() as u32,
        chunk_bytes_max: config.bucket_object_bytes() as usize,
        bucket_backlog_slots_max: config.bucket_backlog_slots_max() as u64,
        bucket_views_max: config.bucket_replicas_open_max() as usize,
        bucket_view_interval: milliseconds(config.bucket_follow_interval_ms()),
        // A job is in memory twice: as it was and as it will be.
        rewrite_job_bytes: 64 << 20,
        bucket_segment_bytes: config.bucket_segment_bytes() as u64,
        bucket_replaced_keep: milliseconds(config.bucket_replaced_keep_ms()),
        ..settings(config)
    };
    let cache = config.bucket_cache_dir().map(|dir| BlockDirectory {
        disk: real_disk(),
        dir: dir.into(),
        bytes_max: config.bucket_cache_bytes() as u64,
    });
    let (clock, rng) = (clock.clone(), rng.clone());
    let log = CommitLog::open_bucket_cached(bucket, clock, rng, settings, catalog.clone(), cache);
    let log = log.await.map_err(|error| failed(&error))?;
    Ok(Data { lock: None, catalog, log, counters, tier_counters: None })
}

/// Brokers and their store may be started together, or come back from the same outage.
async fn probe_until(
    bucket: &Arc<dyn Bucket>,
    shown: &str,
    clock: &SharedClock,
    rng: &SharedRng,
    patience: Duration,
) -> Result<(), ProbeError> {
    const PAUSE: Duration = Duration::from_secs(1);
    let until = clock.monotonic() + patience;
    loop {
        match probe(bucket, "probe/", &**rng).await {
            // What is refused stays so.
            Err(ProbeError::Silent(error))
                if error.kind == BucketErrorKind::Unavailable && clock.monotonic() < until =>
            {
                let left = until.saturating_sub(clock.monotonic()).as_secs();
                tracing::warn!("{shown} does not answer, it is asked for {left} s more: {error}");
                world::task::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Why a broker in a bucket does not count any more.
pub enum Fenced {
    /// Others thought that it was gone: it may begin anew.
    TakenOver,
    Ended(Failure),
}

/// Whether somebody gave this broker its id.
pub fn has_chosen_id(config: &BrokerConfig) -> bool {
    config.started_with().contains_key("node.id")
}

/// Resolves when this broker does not count any more. With an id that nobody gave it, it has nothing to fight for with another broker
/// that has this id now.
pub async fn fenced(catalog: Arc<Catalog>, log: Arc<CommitLog>, has_chosen_id: bool) -> Fenced {
    const LOOK: Duration = Duration::from_secs(1);
    let mut changes = catalog.changes();
    loop {
        if catalog.is_fenced() {
            let newest = catalog.read().broker(catalog.node_id()).map(|broker| broker.wal_id);
            return match newest == Some(catalog.wal_id()) || !has_chosen_id {
                true => Fenced::TakenOver,
                false => {
                    Fenced::Ended(Failure::failed("another process was started as this node: this one ends"))
                }
            };
        }
        if let Some(why) = catalog.failure() {
            return Fenced::Ended(Failure::failed(why));
        }
        if let (LogState::Failed(why), true) = (log.state(), catalog.catch_up().await.is_ok()) {
            if !catalog.is_fenced() {
                return Fenced::Ended(Failure::failed(why));
            }
            continue;
        }
        if let Ok(Err(_)) = world::task::timeout(LOOK, changes.changed()).await {
            return Fenced::Ended(Failure::failed(
                "the task that follows the metadata is gone: a bug, see above",
            ));
        }
    }
}

async fn open_directory(
    dir: &Path,
    config: &BrokerConfig,
    advertised: &[Endpoint],
    clock: &SharedClock,
    rng: &SharedRng,
) -> Result<Data, Failure> {
    let disk: Arc<dyn Disk> = real_disk();
    disk.create_dir_all(dir).await.map_err(|error| unusable(dir, error))?;
    let lock = lock(&disk, dir).await?;
    let counters = disk.counters();
    let options = catalog_options(config, advertised);
    let catalog = Catalog::open(disk.clone(), dir.join("metadata"), clock.clone(), rng.clone(), options)
        .await
        .map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))?;
    tell(catalog.notices());
    let settings = settings(config);
    #[cfg(feature = "negative-controls")]
    let settings = LogSettings { negative_control: negative_control()?, ..settings };
    #[cfg(feature = "failpoints")]
    let settings = rewriting_soon(settings);
    let tier = open_tier(config, &catalog)?;
    let tier_counters = tier.as_ref().map(|bucket| bucket.counters());
    let log = CommitLog::open_tiered(
        disk,
        dir.join("log"),
        clock.clone(),
        rng.clone(),
        settings,
        catalog.clone(),
        tier,
    )
    .await
    .map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))?;
    Ok(Data { lock: Some(lock), catalog, log, counters: MediumCounters::Disk(counters), tier_counters })
}

/// Where topics that want it keep old records.
fn open_tier(config: &BrokerConfig, catalog: &Catalog) -> Result<Option<Arc<dyn Bucket>>, Failure> {
    let url = config.remote_log_storage_url().filter(|_| config.remote_log_storage_system_enable());
    let Some(url) = url else {
        let state = catalog.read();
        let in_tier = |name: &str| TopicConfig::effective(&state, config, name).remote_storage_enable;
        return match state.topics().find(|topic| in_tier(&topic.name)) {
            Some(topic) => Err(Failure::usage(format!(
                "topic {} has remote.storage.enable=true, and no second tier is given (--tier)",
                topic.name
            ))),
            None => Ok(None),
        };
    };
    let bucket: Arc<dyn Bucket> = RealBucket::open(&url).map_err(Failure::usage)?;
    Ok(Some(bucket))
}

/// What of the second tier may change while the broker runs.
pub fn tier_limits(config: &BrokerConfig) -> TierLimits {
    let bytes_per_second = config.remote_log_manager_copy_max_bytes_per_second();
    TierLimits {
        read_wait: milliseconds(config.remote_fetch_max_wait_ms().into()),
        bytes_per_second: if bytes_per_second == i64::MAX { 0 } else { bytes_per_second as u64 },
    }
}

/// What of compaction may change while the broker runs.
pub fn compaction_limits(config: &BrokerConfig) -> CompactionLimits {
    let bytes_per_second = config.log_cleaner_io_max_bytes_per_second();
    CompactionLimits {
        enabled: config.log_cleaner_enable(),
        keys_bytes_max: config.log_cleaner_dedupe_buffer_size().max(0) as u64,
        load_factor: config.log_cleaner_io_buffer_load_factor(),
        read_bytes: config.log_cleaner_io_buffer_size() as u64,
        // More than any machine does is no bound.
        bytes_per_second: if bytes_per_second < 1e12 { bytes_per_second.max(1.0) as u64 } else { 0 },
        backoff: milliseconds(config.log_cleaner_backoff_ms()),
    }
}

fn catalog_options(config: &BrokerConfig, advertised: &[Endpoint]) -> CatalogOptions {
    CatalogOptions {
        node_id: has_chosen_id(config).then(|| config.node_id()),
        rack: config.broker_rack().map(|rack| rack.as_str().into()),
        endpoints: advertised.iter().map(endpoint).collect(),
        partitions_max: config.cluster_partitions_max() as u64,
        ..CatalogOptions::default()
    }
}

fn tell(notices: &[Notice]) {
    for notice in notices {
        match notice {
            Notice::TornTailCut { file, bytes, .. } => {
                tracing::info!("{}: cut {bytes} bytes of a write that was never finished", file.display());
            }
            Notice::SnapshotIgnored { file, reason } => {
                tracing::warn!("{} is ignored: {reason}", file.display())
            }
        }
    }
}

fn real_disk() -> Arc<RealDisk> {
    #[cfg(feature = "failpoints")]
    if let Ok(text) = std::env::var("OTTLA_FAIL_SYNC_AT") {
        let fail_sync_at = Some(text.parse().expect("OTTLA_FAIL_SYNC_AT is a number"));
        let options = world::disk::RealDiskOptions { fail_sync_at, ..Default::default() };
        return RealDisk::with_options(options);
    }
    RealDisk::new()
}

async fn lock(disk: &Arc<dyn Disk>, dir: &Path) -> Result<DiskLock, Failure> {
    let path = dir.join("lock");
    match disk.lock(&path).await {
        Ok(lock) => {
            // Only for the message below; the lock itself is the kernel's.
            let _ = std::fs::write(&path, format!("{}\n", std::process::id()));
            Ok(lock)
        }
        Err(error) if error.kind == DiskErrorKind::Locked => {
            let pid = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u32>().ok());
            let who = pid
                .map_or_else(|| "another process".to_owned(), |pid| format!("another process (pid {pid})"));
            Err(Failure::failed(format!("{} is in use by {who}", dir.display())))
        }
        Err(error) => Err(unusable(dir, error)),
    }
}

fn unusable(dir: &Path, error: DiskError) -> Failure {
    Failure::failed(format!("cannot use {} for data: {}", dir.display(), error.detail))
}

fn endpoint(endpoint: &Endpoint) -> BrokerEndpoint {
    BrokerEndpoint {
        listener_name: endpoint.listener_name.clone(),
        security_protocol: endpoint.security_protocol,
        host: endpoint.host.clone(),
        port: endpoint.port,
    }
}

/// What is written does not stay in the page cache, so what readers may want soon has to be kept here.
pub fn tail_bytes(set: i64, memory_bytes: u64) -> u64 {
    u64::try_from(set).unwrap_or((memory_bytes / 64).clamp(128 << 20, 256 << 20))
}

/// Each takes about 100 bytes until it is rewritten into a segment, which costs as much processor time as its produce did.
fn wal_extents(memory_bytes: u64) -> u64 {
    (memory_bytes / (32 << 10)).clamp(200_000, 800_000)
}

fn settings(config: &BrokerConfig) -> LogSettings {
    LogSettings {
        sync: match config.log_sync() {
            LogSync::Commit => SyncMode::Commit,
            LogSync::Interval => SyncMode::Interval(milliseconds(config.log_sync_interval_ms())),
        },
        wal_file_bytes_min: config.log_wal_file_min_bytes() as u64,
        wal_file_bytes_max: config.log_wal_file_max_bytes() as u64,
        unflushed_bytes_max: config.log_unflushed_max_bytes() as usize,
        tail_bytes_max: tail_bytes(config.log_cache_bytes(), world::machine::memory_bytes()) as usize,
        reserve_bytes: config.log_disk_reserve_bytes() as u64,
        wal_extents_max: wal_extents(world::machine::memory_bytes()),
        producer_expiration: milliseconds(config.producer_id_expiration_ms().into()),
        producers_max: config.producer_ids_max() as usize,
        housekeeping_interval: milliseconds(config.log_retention_check_interval_ms()),
        compaction: compaction_limits(config),
        tier_interval: milliseconds(config.remote_log_manager_task_interval_ms()),
        tier_reads_max: config.remote_log_reader_max_pending_tasks() as usize,
        tier_bytes_per_second: tier_limits(config).bytes_per_second,
        tier_read_wait: tier_limits(config).read_wait,
        decompressed_bytes_max: usize::try_from(config.message_decompressed_max_bytes()).unwrap_or(0),
        ..LogSettings::default()
    }
}

/// A broker that lives for a second between two power cuts would never come to rewriting and recycling.
#[cfg(feature = "failpoints")]
fn rewriting_soon(settings: LogSettings) -> LogSettings {
    if std::env::var_os("OTTLA_REWRITE_SOON").is_none() {
        return settings;
    }
    LogSettings {
        wal_retain_bytes: 2 << 20,
        wal_retain_large_bytes: 2 << 20,
        // Both kinds of new files see power cuts: one in some starts, one in the others.
        allocate_from_bytes: u64::from(std::process::id() % 2) * settings.allocate_from_bytes,
        segment_own_bytes: 1 << 20,
        rewrite_interval: Duration::from_millis(100),
        ..settings
    }
}

/// Of transactions, those that a run of `chaos txn` may break.
#[cfg(feature = "negative-controls")]
const TRANSACTION_RULES: [&str; 2] = ["late-end-txn", "marker-repeat"];

/// A rule to break, so that the chaos tests can show that they would notice.
#[cfg(feature = "negative-controls")]
fn negative_control() -> Result<Option<commitlog::NegativeControl>, Failure> {
    use commitlog::NegativeControl::{AcknowledgeBeforeSync, SkipDirectorySync};
    let control = match std::env::var("OTTLA_NEGATIVE_CONTROL").as_deref() {
        Err(_) => return Ok(None),
        Ok("acknowledge-before-sync") => AcknowledgeBeforeSync,
        Ok("skip-directory-sync") => SkipDirectorySync,
        Ok(other) => {
            let Some(rule) = TRANSACTION_RULES.into_iter().find(|rule| *rule == other) else {
                return Err(Failure::usage(format!("OTTLA_NEGATIVE_CONTROL={other}: no such control")));
            };
            tracing::error!("OTTLA_NEGATIVE_CONTROL: {rule} — this broker TEARS transactions");
            world::broken::set_everywhere(rule);
            return Ok(None);
        }
    };
    tracing::error!(
        "OTTLA_NEGATIVE_CONTROL: {control:?} — this broker LOSES acknowledged records on a power cut"
    );
    Ok(Some(control))
}

fn milliseconds(ms: i64) -> Duration {
    Duration::from_millis(ms.max(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::tail_bytes;

    #[test]
    fn the_tail_follows_the_machine_unless_it_is_set() {
        let gib = 1u64 << 30;
        assert_eq!([1, 12, 512].map(|n| tail_bytes(-1, n * gib)), [gib / 8, gib * 3 / 16, gib / 4]);
        assert_eq!(tail_bytes(5 << 20, 24 * gib), 5 << 20);
    }
}
