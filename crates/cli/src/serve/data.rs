//! The data directory: its lock, and what is opened in it.
//!
//! ```text
//!   DIR/lock        held while a broker lives; says its process id
//!   DIR/metadata/   the catalog
//!   DIR/log/        the commit log
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use broker::Endpoint;
use catalog::catalog::Notice;
use catalog::config::{BrokerConfig, LogSync};
use catalog::{BrokerEndpoint, Catalog, CatalogOptions};
use commitlog::{CommitLog, LogSettings, SyncMode};
use world::clock::SharedClock;
use world::disk::{Disk, DiskCounters, DiskError, DiskErrorKind, DiskLock, RealDisk};
use world::rng::SharedRng;

use crate::exit::Failure;

pub struct Data {
    pub lock: DiskLock,
    pub catalog: Arc<Catalog>,
    pub log: Arc<CommitLog>,
    pub disk: Arc<DiskCounters>,
}

pub async fn open(
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
    let options = CatalogOptions {
        node_id: config.node_id(),
        rack: config.broker_rack().map(|rack| rack.as_str().into()),
        endpoints: advertised.iter().map(endpoint).collect(),
        partitions_max: config.cluster_partitions_max() as u64,
        ..CatalogOptions::default()
    };
    let catalog = Catalog::open(disk.clone(), dir.join("metadata"), clock.clone(), rng.clone(), options)
        .await
        .map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))?;
    for notice in catalog.notices() {
        match notice {
            Notice::TornTailCut { file, bytes, .. } => {
                tracing::info!("{}: cut {bytes} bytes of a write that was never finished", file.display());
            }
            Notice::SnapshotIgnored { file, reason } => {
                tracing::warn!("{} is ignored: {reason}", file.display())
            }
        }
    }
    let settings = settings(config);
    #[cfg(feature = "negative-controls")]
    let settings = LogSettings { negative_control: negative_control()?, ..settings };
    #[cfg(feature = "failpoints")]
    let settings = rewriting_soon(settings);
    let log = CommitLog::open(disk, dir.join("log"), clock.clone(), rng.clone(), settings, catalog.clone())
        .await
        .map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))?;
    Ok(Data { lock, catalog, log, disk: counters })
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
fn tail_bytes(set: i64, memory_bytes: u64) -> u64 {
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

/// A rule to break, so that the chaos tests can show that they would notice.
#[cfg(feature = "negative-controls")]
fn negative_control() -> Result<Option<commitlog::NegativeControl>, Failure> {
    use commitlog::NegativeControl::{AcknowledgeBeforeSync, SkipDirectorySync};
    let control = match std::env::var("OTTLA_NEGATIVE_CONTROL").as_deref() {
        Err(_) => return Ok(None),
        Ok("acknowledge-before-sync") => AcknowledgeBeforeSync,
        Ok("skip-directory-sync") => SkipDirectorySync,
        Ok(other) => return Err(Failure::usage(format!("OTTLA_NEGATIVE_CONTROL={other}: no such control"))),
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
