//! Being a member of a group: joining again when the group changes, heartbeats in between.
//!
//! Joining runs as a task of its own, so that `poll` can return on time and be dropped at any point. Heartbeats
//! run as a task as well: an application may take long between two polls. If it takes longer than
//! `max.poll.interval.ms`, we leave, because nobody reads our partitions any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use protocol::{ErrorCode, Str};
use tokio::sync::Notify;
use world::task::{self, Instant, JoinHandle};

use super::coordinator::{self, Identity, Joined, Joining};
use crate::cluster::Client;
use crate::error::Error;

pub(crate) struct Membership {
    client: Client,
    group: Str,
    heartbeat_interval: Duration,
    poll_interval_max: Duration,
    session_timeout: Duration,
    pub identity: Identity,
    shared: Arc<Shared>,
    joining: Option<JoinHandle<(Identity, Result<Joined, Error>)>>,
    heartbeats: Option<JoinHandle<()>>,
    failures: u32,
    not_before: Option<Instant>,
}

/// What the heartbeat task and `poll` tell one another.
struct Shared {
    news: Notify,
    rejoin: AtomicBool,
    lost: Mutex<Option<Error>>,
    /// −1 when unknown.
    coordinator: AtomicI32,
    polled_at: Mutex<Instant>,
}

/// What `poll` has to do next about the group.
#[derive(Debug)]
pub(crate) enum Step {
    /// Member of a generation; nothing to do.
    Stable,
    /// The group wants everyone to join again.
    MustJoin,
    /// Joining is under way.
    Wait,
    /// A new generation and what we have in it.
    Joined(Joined),
    /// We are no member any more, and whoever got our partitions may already read them.
    Lost,
}

impl Membership {
    pub fn new(
        client: Client,
        group: Str,
        instance_id: Option<Str>,
        heartbeat_interval: Duration,
        session_timeout: Duration,
        poll_interval_max: Duration,
    ) -> Membership {
        Membership {
            client,
            group,
            heartbeat_interval,
            poll_interval_max,
            session_timeout,
            identity: Identity { generation: -1, member_id: Str::default(), instance_id },
            shared: Arc::new(Shared {
                news: Notify::new(),
                rejoin: AtomicBool::new(true),
                lost: Mutex::new(None),
                coordinator: AtomicI32::new(-1),
                polled_at: Mutex::new(task::now()),
            }),
            joining: None,
            heartbeats: None,
            failures: 0,
            not_before: None,
        }
    }

    pub fn is_member(&self) -> bool {
        self.identity.generation >= 0
    }

    /// Resolves when `next` may have something new to say.
    pub async fn news(&mut self) {
        let wait = self.not_before.map(|at| at.saturating_duration_since(task::now()));
        let news = self.shared.news.notified();
        match wait {
            // A failed attempt is over; the next one waits for its backoff.
            Some(wait) if self.joining.is_none() => {
                let _ = task::timeout(wait, news).await;
            }
            _ => news.await,
        }
    }

    pub fn polled(&self) {
        *self.shared.polled_at.lock() = task::now();
    }

    /// The group's subscription changed, or its topics did.
    pub fn request_rejoin(&self) {
        self.shared.rejoin.store(true, Ordering::Release);
        self.shared.news.notify_one();
    }

    pub async fn coordinator(&self) -> Result<i32, Error> {
        let known = self.shared.coordinator.load(Ordering::Acquire);
        if known >= 0 {
            return Ok(known);
        }
        let found = coordinator::find(&self.client, &self.group).await?;
        self.shared.coordinator.store(found, Ordering::Release);
        Ok(found)
    }

    pub fn known_coordinator(&self) -> Option<i32> {
        Some(self.shared.coordinator.load(Ordering::Acquire)).filter(|known| *known >= 0)
    }

    /// Takes notice of an answer that says something about our membership, whoever asked.
    pub fn heard(&mut self, error: &Error) {
        self.shared.heard(error);
    }

    pub async fn next(&mut self) -> Result<Step, Error> {
        let lost = self.shared.lost.lock().take();
        if let Some(error) = lost {
            self.stop_heartbeats();
            if let Some(joining) = self.joining.take() {
                joining.abort();
            }
            let code = error.code();
            self.identity.generation = -1;
            if code != Some(ErrorCode::IllegalGeneration) {
                self.identity.member_id = Str::default();
            }
            self.shared.rejoin.store(true, Ordering::Release);
            if code == Some(ErrorCode::FencedInstanceId) {
                return Err(error);
            }
            return Ok(Step::Lost);
        }
        if let Some(joining) = &mut self.joining {
            if !joining.is_finished() {
                return Ok(Step::Wait);
            }
            let outcome = joining.await;
            self.joining = None;
            let Ok((identity, result)) = outcome else { return Err(Error::Closed) };
            return self.joined(identity, result);
        }
        if self.not_before.is_some_and(|at| task::now() < at) {
            return Ok(Step::Wait);
        }
        Ok(if self.shared.rejoin.load(Ordering::Acquire) { Step::MustJoin } else { Step::Stable })
    }

    fn joined(&mut self, identity: Identity, result: Result<Joined, Error>) -> Result<Step, Error> {
        self.identity.member_id = identity.member_id;
        match result {
            Ok(joined) => {
                self.identity = joined.identity.clone();
                self.failures = 0;
                self.not_before = None;
                self.start_heartbeats();
                Ok(Step::Joined(joined))
            }
            Err(error) => {
                tracing::debug!(group = %self.group, %error, "joining failed");
                self.shared.rejoin.store(true, Ordering::Release);
                match error.code() {
                    Some(ErrorCode::UnknownMemberId) => self.identity.member_id = Str::default(),
                    // The group began a new round while we were in this one.
                    Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => {}
                    _ if error.is_retriable() => self.shared.coordinator.store(-1, Ordering::Release),
                    _ => return Err(error),
                }
                self.identity.generation = -1;
                self.not_before = Some(task::now() + self.client.backoff(self.failures));
                self.failures += 1;
                Ok(Step::Wait)
            }
        }
    }

    /// Begins to join. What must be given up before has been given up.
    pub fn start_joining(&mut self, joining: Joining) {
        self.shared.rejoin.store(false, Ordering::Release);
        self.stop_heartbeats();
        let (client, group) = (self.client.clone(), self.group.clone());
        let mut identity = self.identity.clone();
        let shared = self.shared.clone();
        self.joining = Some(task::spawn(async move {
            let known = shared.coordinator.load(Ordering::Acquire);
            let found = match known {
                0.. => Ok(known),
                _ => coordinator::find(&client, &group).await,
            };
            let result = match found {
                Ok(found) => {
                    shared.coordinator.store(found, Ordering::Release);
                    coordinator::join(&client, found, &group, &mut identity, &joining).await
                }
                Err(error) => Err(error),
            };
            // The handle counts as finished only after this function has returned; whoever is told looks again.
            shared.news.notify_one();
            (identity, result)
        }));
    }

    fn start_heartbeats(&mut self) {
        let (client, group, identity) = (self.client.clone(), self.group.clone(), self.identity.clone());
        let (shared, interval) = (self.shared.clone(), self.heartbeat_interval);
        let (poll_interval_max, session_timeout) = (self.poll_interval_max, self.session_timeout);
        self.heartbeats = Some(task::spawn(async move {
            let mut confirmed_at = task::now();
            loop {
                task::sleep(interval).await;
                if shared.polled_at.lock().elapsed() > poll_interval_max {
                    tracing::warn!(%group, ?poll_interval_max, "no poll for too long: leaving the group");
                    let coordinator = shared.coordinator.load(Ordering::Acquire);
                    let reason = "poll interval exceeded";
                    let _ = coordinator::leave(&client, coordinator, &group, &identity, reason).await;
                    return shared.lose(Error::Kafka {
                        code: ErrorCode::UnknownMemberId,
                        message: Str::from_static(reason),
                    });
                }
                let result = async {
                    let coordinator = match shared.coordinator.load(Ordering::Acquire) {
                        known @ 0.. => known,
                        _ => {
                            let found = coordinator::find(&client, &group).await?;
                            shared.coordinator.store(found, Ordering::Release);
                            found
                        }
                    };
                    coordinator::heartbeat(&client, coordinator, &group, &identity).await
                };
                match result.await {
                    Ok(()) => confirmed_at = task::now(),
                    Err(error) => {
                        tracing::debug!(%group, %error, "heartbeat");
                        shared.heard(&error);
                        if confirmed_at.elapsed() > session_timeout {
                            return shared.lose(error);
                        }
                    }
                }
            }
        }));
    }

    fn stop_heartbeats(&mut self) {
        if let Some(task) = self.heartbeats.take() {
            task.abort();
        }
    }

    /// Leaves the group. Static members stay: they come back under the same name (KIP-345).
    pub async fn leave(&mut self, reason: &'static str) -> Result<(), Error> {
        self.stop_heartbeats();
        if let Some(joining) = self.joining.take() {
            joining.abort();
        }
        let was_member = !self.identity.member_id.is_empty();
        let mut identity = self.identity.clone();
        self.identity.generation = -1;
        self.identity.member_id = Str::default();
        self.request_rejoin();
        if !was_member || identity.instance_id.is_some() {
            return Ok(());
        }
        identity.instance_id = None;
        let coordinator = self.coordinator().await?;
        coordinator::leave(&self.client, coordinator, &self.group, &identity, reason).await
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.stop_heartbeats();
        if let Some(joining) = self.joining.take() {
            joining.abort();
        }
    }
}

impl Shared {
    fn heard(&self, error: &Error) {
        use ErrorCode::{
            CoordinatorNotAvailable, FencedInstanceId, IllegalGeneration, NotCoordinator,
            RebalanceInProgress, UnknownMemberId,
        };
        match error.code() {
            Some(RebalanceInProgress) => {
                self.rejoin.store(true, Ordering::Release);
                self.news.notify_one();
            }
            Some(UnknownMemberId | IllegalGeneration | FencedInstanceId) => self.lose(error.clone()),
            Some(NotCoordinator | CoordinatorNotAvailable) | None => {
                self.coordinator.store(-1, Ordering::Release);
            }
            _ => {}
        }
    }

    fn lose(&self, error: Error) {
        *self.lost.lock() = Some(error);
        self.news.notify_one();
    }
}
