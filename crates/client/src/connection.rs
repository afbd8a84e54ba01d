//! One connection: requests go out in order, several at a time, and each answer finds the one who asked.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::wire::Reader;
use protocol::{ErrorCode, Message, Request, Str, frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use world::task::{self, JoinHandle};

use crate::error::Error;
use crate::security::is_refusal;
use crate::transport::{Channel, FrameReceiver, FrameSender, Transport};

/// Requests under way on one connection. Kafka's own clients use 5 for producers; the bound is for the others.
const IN_FLIGHT_MAX: usize = 128;

/// Our name for the broker's log and metrics (KIP-511).
pub(crate) const SOFTWARE_NAME: &str = "ottla-client";

/// The first version of ApiVersions that is flexible; older brokers answer it with an error in version 0.
const API_VERSIONS_FIRST: i16 = 3;

pub(crate) struct Connection {
    address: Str,
    client_id: Str,
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Vec<Bytes>>,
    slots: Arc<Semaphore>,
    versions: BTreeMap<i16, RangeInclusive<i16>>,
    tasks: [JoinHandle<()>; 2],
}

struct Shared {
    address: Str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    next_correlation_id: i32,
    failed: Option<Error>,
}

struct Waiting {
    correlation_id: i32,
    answer: oneshot::Sender<Result<Bytes, Error>>,
    _slot: OwnedSemaphorePermit,
}

impl Shared {
    /// Ends the connection: everyone who waits learns why. Idempotent.
    fn fail(&self, reason: impl std::fmt::Display) {
        let waiting = {
            let mut state = self.state.lock();
            if state.failed.is_none() {
                let reason = Str::from(reason.to_string());
                state.failed = Some(Error::Disconnected { address: self.address.clone(), reason });
            }
            std::mem::take(&mut state.waiting)
        };
        let error = self.failure();
        for waiting in waiting {
            let _ = waiting.answer.send(Err(error.clone()));
        }
    }

    fn failure(&self) -> Error {
        self.state.lock().failed.clone().unwrap_or(Error::Closed)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.fail("closed by this client");
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Connection {
    /// Connects and learns which versions the broker has.
    pub async fn open(
        transport: &dyn Transport,
        address: &str,
        client_id: &Str,
        limit: Duration,
    ) -> Result<Arc<Connection>, Error> {
        let failed = |reason: String| Error::Connect { address: address.into(), reason: reason.into() };
        let opening = async {
            let channel = transport.connect(address).await.map_err(|error| match is_refusal(&error) {
                false => failed(error.to_string()),
                true => Error::Authentication { address: address.into(), reason: error.to_string().into() },
            })?;
            let mut connection = Connection::start(channel, address, client_id);
            connection.versions = connection.ask_versions(limit).await?;
            Ok(Arc::new(connection))
        };
        match task::timeout(limit, opening).await {
            Ok(result) => result,
            Err(_) => Err(failed(format!("no answer within {limit:?}"))),
        }
    }

    fn start(channel: Channel, address: &str, client_id: &Str) -> Connection {
        let address = Str::from(address);
        let shared = Arc::new(Shared { address: address.clone(), state: Mutex::new(State::default()) });
        let (outgoing, frames) = mpsc::channel(IN_FLIGHT_MAX);
        let tasks = [
            task::spawn(write_frames(channel.sender, frames, shared.clone())),
            task::spawn(read_frames(channel.receiver, shared.clone())),
        ];
        Connection {
            address,
            client_id: client_id.clone(),
            shared,
            outgoing,
            slots: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            versions: BTreeMap::new(),
            tasks,
        }
    }

    async fn ask_versions(&self, limit: Duration) -> Result<BTreeMap<i16, RangeInclusive<i16>>, Error> {
        let request = ApiVersionsRequest {
            client_software_name: SOFTWARE_NAME.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        let frame = self.enqueue(&request, API_VERSIONS_FIRST).await?.frame(limit).await?;
        // A broker that does not know our version says so in version 0, and every version starts with the code.
        let response = match frame.get(4..6) {
            Some(code) if code == (ErrorCode::UnsupportedVersion as i16).to_be_bytes() => {
                self.enqueue(&ApiVersionsRequest::default(), 0).await?.answer(limit).await?
            }
            _ => decode::<ApiVersionsRequest>(frame, API_VERSIONS_FIRST)?,
        };
        let response: ApiVersionsResponse = response;
        crate::error::check(response.error_code, None)?;
        Ok(response.api_keys.iter().map(|api| (api.api_key, api.min_version..=api.max_version)).collect())
    }

    pub fn is_broken(&self) -> bool {
        self.shared.state.lock().failed.is_some()
    }

    /// The newest version that both sides know and that is not above `cap`.
    pub fn version<R: Request>(&self, cap: i16) -> Result<i16, Error> {
        let unsupported = Error::UnsupportedApi { api: R::KEY.name() };
        let theirs = self.versions.get(&R::KEY.code()).ok_or(unsupported.clone())?;
        let newest = *R::VERSIONS.end() - i16::from(R::LATEST_VERSION_UNSTABLE);
        let version = newest.min(*theirs.end()).min(cap);
        let common = version >= *R::VERSIONS.start() && version >= *theirs.start();
        if common { Ok(version) } else { Err(unsupported) }
    }

    /// Asks and waits. An answer that takes longer than `limit` ends the connection: answers come in order, so
    /// nothing behind it could be believed to come sooner.
    pub async fn call<R: Request>(
        &self,
        request: &R,
        cap: i16,
        limit: Duration,
    ) -> Result<R::Response, Error> {
        let version = self.version::<R>(cap)?;
        self.enqueue(request, version).await?.answer(limit).await
    }

    /// Puts the request behind those already sent. When this returns, its place in the order is fixed.
    pub async fn enqueue<R: Request>(&self, request: &R, version: i16) -> Result<Asked<R>, Error> {
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        let (answer, arrives) = oneshot::channel();
        {
            let mut state = self.shared.state.lock();
            let correlation_id = self.send(&mut state, request, version)?;
            state.waiting.push_back(Waiting { correlation_id, answer, _slot: slot });
        }
        Ok(Asked { version, arrives, shared: self.shared.clone(), request: PhantomData })
    }

    /// Sends a request that gets no answer: Produce with acks=0.
    pub async fn tell<R: Request>(&self, request: &R, version: i16) -> Result<(), Error> {
        let _slot = self.slots.acquire().await.map_err(|_| Error::Closed)?;
        // The permit bounds waiting requests only; frames in the queue to the socket have their own bound.
        let permit = self.outgoing.reserve().await.map_err(|_| self.shared.failure())?;
        let mut state = self.shared.state.lock();
        let segments = self.encode(&mut state, request, version)?.1;
        permit.send(segments);
        Ok(())
    }

    fn send<R: Request>(&self, state: &mut State, request: &R, version: i16) -> Result<i32, Error> {
        let (correlation_id, segments) = self.encode(state, request, version)?;
        match self.outgoing.try_send(segments) {
            Ok(()) => Ok(correlation_id),
            // Only silent requests can fill the queue beyond the slots.
            Err(mpsc::error::TrySendError::Full(_)) => Err(Error::Disconnected {
                address: self.address.clone(),
                reason: "the send queue is full".into(),
            }),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(state.failed.clone().unwrap_or(Error::Closed)),
        }
    }

    fn encode<R: Request>(
        &self,
        state: &mut State,
        request: &R,
        version: i16,
    ) -> Result<(i32, Vec<Bytes>), Error> {
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        let correlation_id = state.next_correlation_id;
        let segments = frame::encode_request(correlation_id, Some(self.client_id.clone()), request, version)?;
        state.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        Ok((correlation_id, segments))
    }
}

/// A request whose answer is awaited.
pub(crate) struct Asked<R> {
    version: i16,
    arrives: oneshot::Receiver<Result<Bytes, Error>>,
    shared: Arc<Shared>,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Asked<R> {
    pub async fn answer(self, limit: Duration) -> Result<R::Response, Error> {
        let version = self.version;
        decode::<R>(self.frame(limit).await?, version)
    }

    async fn frame(self, limit: Duration) -> Result<Bytes, Error> {
        match task::timeout(limit, self.arrives).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.shared.failure()),
            Err(_) => {
                self.shared.fail(format!("no answer to {} within {limit:?}", R::KEY.name()));
                Err(Error::Timeout { what: R::KEY.name().into(), limit })
            }
        }
    }
}

fn decode<R: Request>(frame: Bytes, version: i16) -> Result<R::Response, Error> {
    let mut reader = Reader::new(frame);
    frame::decode_response_header(&mut reader, R::KEY, version)?;
    let response = R::Response::decode(&mut reader, version)?;
    reader.expect_end()?;
    Ok(response)
}

async fn write_frames(
    mut sender: Box<dyn FrameSender>,
    mut frames: mpsc::Receiver<Vec<Bytes>>,
    shared: Arc<Shared>,
) {
    while let Some(segments) = frames.recv().await {
        if let Err(error) = sender.send(segments).await {
            return shared.fail(error);
        }
    }
}

async fn read_frames(mut receiver: Box<dyn FrameReceiver>, shared: Arc<Shared>) {
    loop {
        let frame = match receiver.receive().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return shared.fail("the broker closed it"),
            Err(error) => return shared.fail(error),
        };
        let Some(correlation_id) = frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id)) else {
            return shared.fail("an answer without a correlation id");
        };
        let waiting = shared.state.lock().waiting.pop_front();
        match waiting {
            Some(waiting) if waiting.correlation_id == correlation_id => {
                let _ = waiting.answer.send(Ok(frame));
            }
            _ => return shared.fail(format!("an answer to {correlation_id}, which nobody asked")),
        }
    }
}
