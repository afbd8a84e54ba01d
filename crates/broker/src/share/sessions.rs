//! Share sessions: the broker remembers which partitions a member reads, and that its requests come one after the other. A session is
//! that of one member on one connection; when either ends, what the member has comes again.
//!
//! Kafka: `ShareSession`, `ShareSessionCache`. Unlike fetch sessions none is ever evicted: without one nothing can be acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use protocol::{ErrorCode, Str, Uuid};

pub const INITIAL_EPOCH: i32 = 0;
pub const FINAL_EPOCH: i32 = -1;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey {
    pub group: Str,
    pub member: Str,
}

impl SessionKey {
    /// Memory of its own: names from a request are slices of its frame.
    pub fn detached(&self) -> SessionKey {
        SessionKey { group: self.group.detached(), member: self.member.detached() }
    }
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    connection: u64,
    /// In the order in which they were added.
    partitions: Vec<(Uuid, i32)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShareSessionCounts {
    pub sessions: usize,
    pub partitions: usize,
}

#[derive(Debug)]
pub struct ShareSessions {
    partitions_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: BTreeMap<SessionKey, Session>,
    /// Sessions of each group.
    groups: BTreeMap<Str, usize>,
    /// Connections whose end somebody waits for.
    watched: BTreeSet<u64>,
    partitions: usize,
}

/// What a request of a session reads, and whether the session has just begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub partitions: Vec<(Uuid, i32)>,
    /// Then every partition is answered, else only those with news.
    pub is_new: bool,
}

impl ShareSessions {
    pub fn new(partitions_max: usize) -> ShareSessions {
        ShareSessions { partitions_max, inner: Mutex::default() }
    }

    pub fn counts(&self) -> ShareSessionCounts {
        let inner = self.inner.lock();
        ShareSessionCounts { sessions: inner.sessions.len(), partitions: inner.partitions }
    }

    /// A new session in the place of the member's earlier one. `sessions_max` is `group.share.max.share.sessions`.
    pub fn begin(
        &self,
        key: &SessionKey,
        connection: u64,
        partitions: &[(Uuid, i32)],
        sessions_max: usize,
    ) -> Result<Opened, ErrorCode> {
        let mut inner = self.inner.lock();
        inner.remove(key);
        let mut session = Session {
            epoch: next_epoch(INITIAL_EPOCH),
            connection,
            partitions: Vec::with_capacity(partitions.len()),
        };
        session.add(partitions);
        let size = session.partitions.len();
        if inner.sessions.len() >= sessions_max || inner.partitions + size > self.partitions_max {
            return Err(ErrorCode::ShareSessionLimitReached);
        }
        let opened = Opened { partitions: session.partitions.clone(), is_new: true };
        inner.partitions += size;
        let key = key.detached();
        *inner.groups.entry(key.group.clone()).or_default() += 1;
        inner.sessions.insert(key, session);
        Ok(opened)
    }

    /// The next request of a session, which adds partitions and takes others away.
    pub fn next(
        &self,
        key: &SessionKey,
        epoch: i32,
        added: &[(Uuid, i32)],
        forgotten: &[(Uuid, i32)],
    ) -> Result<Opened, ErrorCode> {
        let mut inner = self.inner.lock();
        let partitions_max = self.partitions_max;
        let others = inner.partitions;
        let session = inner.sessions.get_mut(key).ok_or(ErrorCode::ShareSessionNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidShareSessionEpoch);
        }
        let size = session.partitions.len();
        if others + added.len() > partitions_max {
            return Err(ErrorCode::ShareSessionLimitReached);
        }
        session.epoch = next_epoch(epoch);
        session.add(added);
        session.forget(forgotten);
        let partitions = session.partitions.clone();
        inner.partitions = others - size + partitions.len();
        Ok(Opened { partitions, is_new: false })
    }

    /// A request that reads nothing; the last one of a session may come at any epoch.
    pub fn check(&self, key: &SessionKey, epoch: i32) -> Result<(), ErrorCode> {
        if epoch == INITIAL_EPOCH {
            return Err(ErrorCode::InvalidShareSessionEpoch);
        }
        let mut inner = self.inner.lock();
        let session = inner.sessions.get_mut(key).ok_or(ErrorCode::ShareSessionNotFound)?;
        match epoch {
            FINAL_EPOCH => Ok(()),
            epoch if epoch == session.epoch => {
                session.epoch = next_epoch(epoch);
                Ok(())
            }
            _ => Err(ErrorCode::InvalidShareSessionEpoch),
        }
    }

    /// True: from now on somebody has to wait for the end of this connection.
    pub fn watch(&self, connection: u64) -> bool {
        self.inner.lock().watched.insert(connection)
    }

    /// The connection has ended, and with it these sessions.
    pub fn connection_ended(&self, connection: u64) -> Vec<SessionKey> {
        let mut inner = self.inner.lock();
        inner.watched.remove(&connection);
        let sessions = inner.sessions.iter().filter(|(_, session)| session.connection == connection);
        let ended: Vec<SessionKey> = sessions.map(|(key, _)| key.clone()).collect();
        for key in &ended {
            inner.remove(key);
        }
        ended
    }

    pub fn end(&self, key: &SessionKey) -> bool {
        self.inner.lock().remove(key)
    }

    /// Whether somebody of this group has a session here.
    pub fn has_group(&self, group: &str) -> bool {
        self.inner.lock().groups.contains_key(group)
    }
}

impl Inner {
    fn remove(&mut self, key: &SessionKey) -> bool {
        let Some(session) = self.sessions.remove(key) else { return false };
        self.partitions -= session.partitions.len();
        let count = self.groups.get_mut(&key.group).expect("counted with its session");
        *count -= 1;
        if *count == 0 {
            self.groups.remove(&key.group);
        }
        true
    }
}

impl Session {
    fn add(&mut self, partitions: &[(Uuid, i32)]) {
        if partitions.is_empty() {
            return;
        }
        let mut known: BTreeSet<(Uuid, i32)> = self.partitions.iter().copied().collect();
        self.partitions.extend(partitions.iter().copied().filter(|partition| known.insert(*partition)));
    }

    fn forget(&mut self, partitions: &[(Uuid, i32)]) {
        if partitions.is_empty() {
            return;
        }
        let forgotten: BTreeSet<(Uuid, i32)> = partitions.iter().copied().collect();
        self.partitions.retain(|partition| !forgotten.contains(partition));
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(group: &str, member: &str) -> SessionKey {
        SessionKey { group: group.into(), member: member.into() }
    }

    const A: (Uuid, i32) = (Uuid([1; 16]), 0);
    const B: (Uuid, i32) = (Uuid([1; 16]), 1);

    #[test]
    fn requests_of_a_session_come_one_after_the_other() {
        let sessions = ShareSessions::new(3);
        let member = key("group", "member");
        assert_eq!(sessions.next(&member, 1, &[], &[]), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(sessions.check(&member, FINAL_EPOCH), Err(ErrorCode::ShareSessionNotFound));
        let opened = sessions.begin(&member, 7, &[A, A], 2).unwrap();
        assert_eq!(opened, Opened { partitions: vec![A], is_new: true });
        assert_eq!(sessions.next(&member, 2, &[], &[]), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(sessions.next(&member, 1, &[B], &[]).unwrap().partitions, [A, B]);
        assert_eq!(sessions.next(&member, 2, &[], &[A]).unwrap().partitions, [B]);
        assert_eq!(sessions.check(&member, INITIAL_EPOCH), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(sessions.check(&member, 3), Ok(()));
        assert_eq!(sessions.check(&member, 3), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(sessions.check(&member, FINAL_EPOCH), Ok(()));
        assert!(sessions.watch(7) && !sessions.watch(7));
        assert_eq!(sessions.connection_ended(8), [], "a newer connection has it");
        assert_eq!(sessions.connection_ended(7), [member]);
        assert!(sessions.watch(7));
        assert_eq!(sessions.counts(), ShareSessionCounts::default());
        assert!(!sessions.has_group("group"));
    }

    #[test]
    fn there_are_so_many_sessions_and_partitions_and_no_more() {
        let sessions = ShareSessions::new(3);
        sessions.begin(&key("group", "a"), 1, &[A, B], 2).unwrap();
        assert_eq!(
            sessions.begin(&key("group", "b"), 2, &[A, B], 2),
            Err(ErrorCode::ShareSessionLimitReached)
        );
        sessions.begin(&key("group", "b"), 2, &[A], 2).unwrap();
        assert_eq!(sessions.begin(&key("group", "c"), 3, &[], 2), Err(ErrorCode::ShareSessionLimitReached));
        assert_eq!(sessions.next(&key("group", "b"), 1, &[B], &[]), Err(ErrorCode::ShareSessionLimitReached));
        // In the place of its own there is room.
        sessions.begin(&key("group", "a"), 4, &[A, B], 2).unwrap();
        assert_eq!(sessions.counts(), ShareSessionCounts { sessions: 2, partitions: 3 });
    }
}
