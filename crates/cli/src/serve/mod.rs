//! `ottla serve`: opens catalog, log, broker and server in this order, and stops them in the other.
//!
//! The addresses are bound first: a port that is taken is said before anything is written, the broker can advertise the port that it
//! got, and clients that come during recovery wait in the kernel's queue instead of being refused.

mod bucket_cost;
mod client_metrics;
mod data;
pub mod first_users;
mod idle_memory;
mod inter_broker;
mod memory_limit;
pub mod properties;
mod report;
pub mod security;
mod welcome;

use std::path::PathBuf;
use std::sync::Arc;

use broker::{Broker, BrokerOptions, Endpoint, Peers, SecurityProtocol};
use catalog::Catalog;
use catalog::config::BrokerConfig;
use commitlog::CommitLog;
use server::{
    BindError, BoundAdmin, BoundInterBroker, BoundListener, InterBroker, InterBrokerLimits, Server,
};
use world::clock::RealClock;
use world::net::Net;
use world::rng::RealRng;

use crate::arguments::{Output, Serve};
use crate::exit::{Done, Failure};
use data::Place;
use first_users::FirstUser;
use memory_limit::MemoryLimit;
use properties::ListenerAddress;
use report::Progress;
use security::Security;

const DEFAULT_DATA: &str = "./ottla-data";
const DEFAULT_LISTEN: &str = "127.0.0.1:9092";
const DEFAULT_ADMIN: &str = "127.0.0.1:8080";

/// What the options and properties come to.
struct Plan {
    config: BrokerConfig,
    data: Place,
    listeners: Vec<ListenerAddress>,
    /// As `advertised.listeners` or `--advertise` say; by listener name.
    advertised: Vec<ListenerAddress>,
    /// Of a bucket: where other brokers reach this one.
    brokers: Option<inter_broker::Addresses>,
    admin: Admin,
    limits: server::Limits,
    first_users: Vec<FirstUser>,
    insecure: bool,
}

enum Admin {
    /// Asked for: must work.
    At(String),
    /// The default: another port will do when it is taken.
    Default,
}

pub fn run(arguments: Serve, output: Output) -> Done {
    let plan = plan(arguments)?;
    raise_open_files(plan.limits.connections.max as u64);
    make_room_for_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(world::machine::processors())
        .max_blocking_threads(64)
        .thread_name("ottla")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime does not start: {error}")))?;
    let done = runtime.block_on(serve(plan, output));
    // A commit is on the disk by now or was never acknowledged: nothing on another thread is worth waiting for.
    runtime.shutdown_background();
    done
}

fn plan(arguments: Serve) -> Result<Plan, Failure> {
    let mut all = properties::gather(&arguments.properties, None)?;
    let data = match (arguments.data, all.get("log.dirs").or(all.get("log.dir"))) {
        (Some(data), _) => data,
        (None, Some(dirs)) => PathBuf::from(dirs.split(',').next().unwrap_or_default().trim()),
        (None, None) => PathBuf::from(DEFAULT_DATA),
    };
    let data = Place::of(data);
    // What the options say is what DescribeConfigs and DescribeLogDirs tell.
    all.insert("log.dirs".to_owned(), data.shown());
    if let Some(tier) = arguments.tier {
        all.insert("remote.log.storage.system.enable".to_owned(), "true".to_owned());
        all.insert("remote.log.storage.url".to_owned(), tier);
    }
    let (config, warnings) = BrokerConfig::new(all.clone()).map_err(Failure::usage)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let plain = |option: &str, address: &str| {
        let (host, port) = properties::host_and_port(option, address)?;
        let name = "PLAINTEXT".to_owned();
        Ok::<_, Failure>(ListenerAddress { name, protocol: SecurityProtocol::Plaintext, host, port })
    };
    let listeners = match arguments.listen {
        Some(address) => vec![plain("--listen", &address)?],
        None => match properties::listeners("listeners", &all)? {
            none if none.is_empty() => vec![plain("--listen", DEFAULT_LISTEN)?],
            listeners => listeners,
        },
    };
    let advertised = match arguments.advertise {
        Some(address) => {
            let mut one = plain("--advertise", &address)?;
            one.name = listeners[0].name.clone();
            vec![one]
        }
        None => properties::listeners("advertised.listeners", &all)?,
    };
    let brokers = match &data {
        Place::Bucket(_) => Some(inter_broker::addresses(&all, &listeners)?),
        Place::Directory(_) => None,
    };
    let admin = match arguments.admin {
        Some(address) => {
            properties::host_and_port("--admin", &address)?;
            Admin::At(address)
        }
        None if all.contains_key("admin.address") => Admin::At(config.admin_address()),
        None => Admin::Default,
    };
    let limits = properties::limits(&config, world::machine::memory_bytes());
    let insecure = arguments.insecure;
    // Not by clap, which would print what it cannot read, password and all.
    let first_users = arguments.add_scram.iter().map(|text| text.parse::<FirstUser>());
    let first_users = first_users.collect::<Result<_, _>>();
    let first_users = first_users.map_err(|why| Failure::usage(format!("--add-scram: {why}")))?;
    Ok(Plan { config, data, listeners, advertised, brokers, admin, limits, first_users, insecure })
}

async fn serve(mut plan: Plan, output: Output) -> Done {
    let mut termination = std::pin::pin!(world::task::termination());
    // Polled once, so that a signal is ours from here on.
    std::future::poll_fn(|cx| std::task::Poll::Ready(termination.as_mut().poll(cx).is_ready())).await;
    let net = Net::tcp();
    let (mut bound, mut security) = bind(&net, &plan).await?;
    let mut brokers = bind_inter_broker(&net, &plan).await?;
    let admin = bind_admin(&net, &plan).await?;
    let progress = Arc::new(Progress::new(RealClock::shared()));
    let admin = admin.serve(progress.clone());
    // Clients find a broker that comes back where it was.
    for (listener, bound) in plan.listeners.iter_mut().zip(&bound) {
        listener.port = bound.address().port();
    }
    if let (Some(addresses), Some(bound)) = (&mut plan.brokers, &brokers) {
        addresses.listen.port = bound.address().port();
    }
    let mut output = Some(output);
    loop {
        let running = tokio::select! {
            biased;
            started = start(&plan, bound, security, brokers, &progress, &admin, output.take()) => started?,
            // Recovery changes nothing that a later start does not find again.
            _ = termination.as_mut() => {
                tracing::info!("stopped while starting");
                return Ok(());
            }
        };
        match running.run(termination.as_mut(), &progress).await? {
            End::Stopped => {
                admin.stop();
                return Ok(());
            }
            End::TakenOver => {
                (bound, security) = bind(&net, &plan).await?;
                brokers = bind_inter_broker(&net, &plan).await?;
            }
        }
    }
}

async fn bind(net: &Net, plan: &Plan) -> Result<(Vec<BoundListener>, Security), Failure> {
    let security = Security::open(&plan.config, &plan.listeners, plan.insecure, &RealClock::shared())?;
    let mut listeners = Vec::new();
    for listener in &plan.listeners {
        let (name, address) = (&listener.name, listener.to_bind());
        let bound = BoundListener::bind_with(net, name, &address, security.of(name), plan.insecure).await;
        listeners.push(bound.map_err(bind_failure)?);
    }
    Ok((listeners, security))
}

async fn bind_inter_broker(net: &Net, plan: &Plan) -> Result<Option<BoundInterBroker>, Failure> {
    let Some(addresses) = &plan.brokers else { return Ok(None) };
    let bound = BoundInterBroker::bind(net, &addresses.listen.to_bind()).await;
    bound.map(Some).map_err(bind_failure)
}

/// A broker that serves.
struct Running {
    lock: Option<world::disk::DiskLock>,
    catalog: Arc<Catalog>,
    log: Arc<CommitLog>,
    broker: Arc<Broker>,
    server: Arc<Server>,
    /// Of a bucket.
    others: Option<Arc<InterBroker>>,
    has_chosen_id: bool,
}

/// How a broker ends.
enum End {
    Stopped,
    /// It was paused or cut off for so long that others have its partitions: it begins anew.
    TakenOver,
}

async fn start(
    plan: &Plan,
    listeners: Vec<BoundListener>,
    security: Security,
    brokers: Option<BoundInterBroker>,
    progress: &Progress,
    admin: &server::Admin,
    output: Option<Output>,
) -> Result<Running, Failure> {
    let advertised = endpoints(plan, &listeners);
    let config = with_addresses(&plan.config, &listeners, &advertised)?;
    let (clock, rng) = (RealClock::shared(), RealRng::shared());
    let for_brokers = brokers.as_ref().zip(plan.brokers.as_ref());
    let for_brokers =
        for_brokers.map(|(bound, addresses)| addresses.endpoint(bound.address(), &advertised[0]));
    let registered: Vec<Endpoint> = advertised.iter().cloned().chain(for_brokers).collect();
    let data::Data { lock, catalog, log, counters, tier_counters } =
        data::open(&plan.data, &config, &registered, &clock, &rng).await?;
    let config = with_node_id(&config, catalog.node_id())?;
    let others = match &brokers {
        Some(_) => Some(inter_broker::open(&plan.data, &catalog, &clock).await?),
        None => None,
    };
    first_users::add(&plan.first_users, &catalog, &rng).await?;
    security.fetch_keys().await;
    let broker = Broker::start(BrokerOptions {
        clock: clock.clone(),
        rng,
        catalog: catalog.clone(),
        log: log.clone(),
        node_id: config.node_id(),
        config: Arc::new(config),
        advertised: advertised.clone(),
        peers: others.clone().map(|others| others as Arc<dyn Peers>),
        sasl: security.sasl.clone(),
    })
    .await
    .map_err(|error| Failure::failed(format!("the broker does not start: {error}")))?;
    if let (Some(others), Some(bound)) = (&others, brokers) {
        others.serve(bound, broker.clone(), InterBrokerLimits::default());
    }
    let server = Server::start(listeners, broker.clone(), plan.limits.clone(), clock);
    let tail_bytes = data::tail_bytes(broker.config().log_cache_bytes(), world::machine::memory_bytes());
    progress.ready(report::Rooms {
        broker: broker.clone(),
        server: server.clone(),
        catalog: catalog.clone(),
        log: log.clone(),
        medium: counters,
        memory: MemoryLimit::of(&broker.config(), &plan.limits, tail_bytes),
        tier: tier_counters,
        others: others.clone(),
    });
    // They end with the broker.
    drop(world::task::spawn(security.follow(Arc::downgrade(&broker), Arc::downgrade(&server))));
    drop(world::task::spawn(idle_memory::watch(Arc::downgrade(&server))));
    let followed = follow_limits(broker.clone(), catalog.clone(), server.clone(), log.clone());
    drop(world::task::spawn(followed));
    let cluster_id = catalog.read().cluster_id().clone();
    if let Some(output) = output {
        welcome::print(
            output,
            &welcome::Started {
                listening: server.local_addresses(),
                advertised: &advertised,
                admin: admin.address(),
                data: &plan.data,
                cluster_id: &cluster_id,
                node_id: broker.node_id(),
                allows_everyone: broker.allows_everyone(),
                has_super_users: !broker.config().super_users().is_empty(),
            },
        )?;
    }
    let has_chosen_id = data::has_chosen_id(&plan.config);
    Ok(Running { lock, catalog, log, broker, server, others, has_chosen_id })
}

/// What an operator changes of them holds from then on, without a restart.
async fn follow_limits(broker: Arc<Broker>, catalog: Arc<Catalog>, server: Arc<Server>, log: Arc<CommitLog>) {
    let mut changes = catalog.changes();
    loop {
        let config = broker.config();
        let limits = properties::connection_limits(&config);
        if limits != server.connection_limits() {
            raise_open_files(limits.max as u64);
            server.set_connection_limits(limits);
        }
        log.set_compaction_limits(data::compaction_limits(&config));
        if let Some(tier) = log.tier() {
            tier.set_limits(data::tier_limits(&config));
        }
        // An error means that the catalog is closed: the broker is stopping.
        if changes.changed().await.is_err() {
            return;
        }
    }
}

impl Running {
    async fn run(
        self,
        termination: impl Future<Output = std::io::Result<()>>,
        progress: &Progress,
    ) -> Result<End, Failure> {
        let is_shared = self.catalog.is_shared();
        let end = tokio::select! {
            biased;
            signal = termination => match signal {
                Ok(()) => Ok(End::Stopped),
                Err(error) => Err(Failure::failed(format!("no signals: {error}"))),
            },
            end = data::fenced(self.catalog.clone(), self.log.clone(), self.has_chosen_id), if is_shared => match end {
                data::Fenced::TakenOver => Ok(End::TakenOver),
                data::Fenced::Ended(failure) => Err(failure),
            },
        };
        progress.stopping();
        match &end {
            Ok(End::Stopped) => {
                tracing::info!("stopping: finishing what is under way; a second signal stops at once");
                drop(world::task::spawn(exit_at_second_signal()));
                self.broker.leave().await;
            }
            Ok(End::TakenOver) => {
                tracing::warn!("other brokers have taken over from this one: beginning anew")
            }
            Err(failure) => tracing::error!("{failure}"),
        }
        self.server.shutdown().await;
        if let Some(others) = &self.others {
            others.stop().await;
        }
        self.broker.shutdown().await;
        self.log.close().await;
        if let Ok(End::Stopped) = end {
            self.catalog.leave().await;
        }
        self.catalog.close().await;
        drop(self.lock);
        if let Ok(End::Stopped) = end {
            tracing::info!("stopped");
        }
        end
    }
}

/// What is on the disk is what was acknowledged, so leaving at once loses nothing.
async fn exit_at_second_signal() {
    let _ = world::task::termination().await;
    eprintln!("ottla: second signal, leaving at once");
    std::process::exit(130);
}

fn bind_failure(error: BindError) -> Failure {
    match error {
        BindError::Insecure { .. } => Failure::usage(error),
        BindError::Io { ref address, ref source } if source.kind() == std::io::ErrorKind::AddrInUse => {
            Failure::failed(format!(
                "{address} is in use by another process; choose another with --listen, port 0 takes a free one"
            ))
        }
        BindError::Io { .. } => Failure::failed(format!("cannot listen on {error}")),
    }
}

async fn bind_admin(net: &Net, plan: &Plan) -> Result<BoundAdmin, Failure> {
    match &plan.admin {
        Admin::At(address) => BoundAdmin::bind(net, address, plan.insecure).await.map_err(bind_failure),
        Admin::Default => match BoundAdmin::bind(net, DEFAULT_ADMIN, false).await {
            Ok(bound) => Ok(bound),
            Err(_) => {
                let bound = BoundAdmin::bind(net, "127.0.0.1:0", false).await.map_err(bind_failure)?;
                tracing::warn!(
                    "{DEFAULT_ADMIN} is taken: metrics and health are on {} (--admin chooses)",
                    bound.address()
                );
                Ok(bound)
            }
        },
    }
}

/// What was bound stands in the configuration, as it would in Kafka's file: tools look there for it.
fn with_addresses(
    config: &BrokerConfig,
    listeners: &[BoundListener],
    advertised: &[Endpoint],
) -> Result<BrokerConfig, Failure> {
    let mut properties = config.started_with().clone();
    let listening = listeners.iter().map(|listener| format!("{}://{}", listener.name(), listener.address()));
    properties.insert("listeners".to_owned(), listening.collect::<Vec<_>>().join(","));
    let told =
        advertised.iter().map(|e| format!("{}://{}", e.listener_name, properties::join(&e.host, e.port)));
    properties.insert("advertised.listeners".to_owned(), told.collect::<Vec<_>>().join(","));
    // What there was to warn of was said already.
    BrokerConfig::new(properties).map(|(config, _)| config).map_err(Failure::usage)
}

/// The id that this broker has got, where none was asked for.
fn with_node_id(config: &BrokerConfig, node_id: i32) -> Result<BrokerConfig, Failure> {
    let mut properties = config.started_with().clone();
    properties.insert("node.id".to_owned(), node_id.to_string());
    BrokerConfig::new(properties).map(|(config, _)| config).map_err(Failure::usage)
}

/// What clients are told. A listener that nothing is said about advertises the address it is bound to, or the machine's name when it is
/// bound to all of them.
fn endpoints(plan: &Plan, listeners: &[BoundListener]) -> Vec<Endpoint> {
    let endpoint = |listener: &BoundListener| {
        let said = plan.advertised.iter().find(|advertised| advertised.name == listener.name());
        let bound = listener.address();
        let host = match said.map(|said| said.host.as_str()).filter(|host| !host.is_empty()) {
            Some(host) => host.to_owned(),
            None if bound.ip().is_unspecified() => host_name(),
            None => bound.ip().to_canonical().to_string(),
        };
        // Port 0 in an advertised address means the port that was bound.
        let port = said.map(|said| said.port).filter(|port| *port != 0).unwrap_or(bound.port());
        Endpoint {
            listener_name: listener.name().into(),
            security_protocol: listener.protocol().code(),
            host: host.as_str().into(),
            port,
        }
    };
    listeners.iter().map(endpoint).collect()
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// Connections are files. The soft limit of a shell is often 1024.
fn raise_open_files(connections_max: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const OTHER_FILES: u64 = 1024;
    let wanted = connections_max.saturating_add(OTHER_FILES);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    if raised.is_err() || current < wanted {
        tracing::warn!(
            "the system allows {current} open files, which is fewer than max.connections={connections_max} may need"
        );
    }
}

/// The system's table of a process's files doubles when it is full, and in a process with threads that takes up to 20 ms in which a worker stands
/// still: hundreds of clients that come back at once would wait for one doubling after the other. Here there is one thread.
fn make_room_for_files() {
    /// The table takes eight bytes for each.
    const FILES: i32 = 16 << 10;
    // It fails where fewer files are allowed.
    for files in [FILES, FILES / 4, FILES / 16] {
        if rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), files - 1).is_ok() {
            return;
        }
    }
}
