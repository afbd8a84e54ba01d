//! The way between brokers, as bad as it may be: calls that never arrive, answers that never come, and calls that arrive when nobody
//! waits for them any more, also of a broker that is dead by then.

use std::sync::Arc;
use std::time::Duration;

use broker::{HandedOff, Peer, Peers, Progress};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use server::InterBroker;
use world::rng::SharedRng;
use world::{task, watch};

use crate::wire::Trouble;

const LATE_MAX_MS: u64 = 20_000;

pub struct ShakyPeers {
    pub inner: Arc<InterBroker>,
    pub trouble: Trouble,
    pub rng: SharedRng,
}

/// What becomes of a call.
enum Fate {
    Good,
    RequestLost,
    AnswerLost,
    Late(Duration),
}

impl ShakyPeers {
    fn fate(&self) -> Fate {
        let (kind, late) = (self.rng.below(3), Duration::from_millis(self.rng.below(LATE_MAX_MS)));
        match (self.trouble.strikes(&self.rng), kind) {
            (false, _) => Fate::Good,
            (true, 0) => Fate::RequestLost,
            (true, 1) => Fate::AnswerLost,
            (true, _) => Fate::Late(late),
        }
    }
}

async fn under<T: Send + 'static>(fate: Fate, call: BoxFuture<'static, T>) -> T {
    match fate {
        Fate::Good => return call.await,
        Fate::RequestLost => {}
        Fate::AnswerLost => drop(call.await),
        Fate::Late(late) => drop(task::spawn_outside(async move {
            task::sleep(late).await;
            call.await
        })),
    }
    std::future::pending().await
}

/// As long as the real one waits, and a little more.
const ANSWER_MAX: Duration = Duration::from_millis(1100);

impl Peers for ShakyPeers {
    fn log_moved(
        self: Arc<Self>,
        peer: Peer,
        position: u64,
        wait: Duration,
    ) -> BoxFuture<'static, Option<Progress>> {
        let call = self.inner.clone().log_moved(peer, position, wait);
        let answered = task::timeout(wait + ANSWER_MAX, under(self.fate(), call));
        Box::pin(async move { answered.await.ok().flatten() })
    }

    fn hand_off(self: Arc<Self>, peer: Peer, requests: Bytes) -> BoxFuture<'static, HandedOff> {
        let call = self.inner.clone().hand_off(peer, requests);
        let answered = task::timeout(ANSWER_MAX, under(self.fate(), call));
        Box::pin(async move { answered.await.unwrap_or(HandedOff::Unknown) })
    }

    fn refuses(self: Arc<Self>, peer: Peer, within: Duration) -> BoxFuture<'static, bool> {
        self.inner.clone().refuses(peer, within)
    }

    fn transactions(
        self: Arc<Self>,
        peer: Peer,
        api_key: i16,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Option<Bytes>> {
        let call = self.inner.clone().transactions(peer, api_key, body, within);
        let answered = task::timeout(within, under(self.fate(), call));
        Box::pin(async move { answered.await.ok().flatten() })
    }

    fn slots_stored(
        self: Arc<Self>,
        peer: Peer,
        more_than: u64,
        wait: Duration,
    ) -> BoxFuture<'static, Option<u64>> {
        let call = self.inner.clone().slots_stored(peer, more_than, wait);
        let answered = task::timeout(wait + ANSWER_MAX, under(self.fate(), call));
        Box::pin(async move { answered.await.ok().flatten() })
    }

    fn follow(&self, live: &[Peer]) {
        self.inner.follow(live);
    }

    fn breaks(&self) -> watch::Receiver<u64> {
        self.inner.breaks()
    }
}
