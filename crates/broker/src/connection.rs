//! What the broker knows about the other end of a connection. `server` makes one per socket; the in-process
//! transport makes one as well.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use protocol::Str;
use world::watch;

use crate::authn::SaslSession;
use crate::memory::{MemoryAccount, MemoryShare, Standing};

const ANONYMOUS: &str = "User:ANONYMOUS";
use crate::authorizer::AuditBrake;

/// Name and version of the client library, as it said in ApiVersions (KIP-511).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSoftware {
    pub name: Str,
    pub version: Str,
}

#[derive(Debug)]
pub struct Connection {
    pub id: u64,
    pub peer: SocketAddr,
    /// Name of the listener it came in on; Metadata answers with the endpoint of the same listener.
    pub listener: Str,
    /// Changes when the client proves who it is.
    principal: RwLock<Principal>,
    /// Of listeners with SASL.
    sasl: Option<SaslSession>,
    software: OnceLock<ClientSoftware>,
    hung_up: watch::Sender<bool>,
    pub(crate) audit: AuditBrake,
    /// In nanoseconds of the monotonic clock.
    muted_until: AtomicU64,
    /// What the request that is being handed over has allocated for itself.
    decoded_bytes: AtomicUsize,
    /// Where long answers find out how long they may be; none in this process.
    answer_memory: OnceLock<Arc<MemoryAccount>>,
    /// It has taken all of its last answer.
    takes_answers: AtomicBool,
    /// How much may be in the answer to a Fetch that begins; `usize::MAX` as a rule.
    answer_bytes_max: AtomicUsize,
}

#[derive(Debug, Clone)]
struct Principal {
    name: Str,
    is_token_authenticated: bool,
}

impl Connection {
    /// Of a listener that asks for no proof.
    pub fn new(id: u64, peer: SocketAddr, listener: &str) -> Arc<Self> {
        Self::with_principal(id, peer, listener, ANONYMOUS)
    }

    /// TLS has found out who it is.
    pub fn with_principal(id: u64, peer: SocketAddr, listener: &str, principal: &str) -> Arc<Self> {
        Self::made(id, peer, listener, principal, None)
    }

    /// Of a listener with SASL: nothing is answered before the client has proved who it is.
    pub fn with_sasl(id: u64, peer: SocketAddr, listener: &str) -> Arc<Self> {
        Self::made(id, peer, listener, ANONYMOUS, Some(SaslSession::new()))
    }

    fn made(
        id: u64,
        peer: SocketAddr,
        listener: &str,
        principal: &str,
        sasl: Option<SaslSession>,
    ) -> Arc<Self> {
        let principal = Principal { name: principal.into(), is_token_authenticated: false };
        Arc::new(Self {
            id,
            peer,
            listener: listener.into(),
            principal: RwLock::new(principal),
            sasl,
            software: OnceLock::new(),
            hung_up: watch::channel(false).0,
            audit: AuditBrake::default(),
            muted_until: AtomicU64::new(0),
            decoded_bytes: AtomicUsize::new(0),
            answer_memory: OnceLock::new(),
            takes_answers: AtomicBool::new(false),
            answer_bytes_max: AtomicUsize::new(usize::MAX),
        })
    }

    /// Kafka's `KafkaPrincipal`, `User:ANONYMOUS` without authentication.
    pub fn principal(&self) -> Str {
        self.principal.read().name.clone()
    }

    pub fn is_anonymous(&self) -> bool {
        self.principal.read().name == ANONYMOUS
    }

    /// By a delegation token, which must not beget others.
    pub fn is_token_authenticated(&self) -> bool {
        self.principal.read().is_token_authenticated
    }

    pub(crate) fn set_user(&self, user: &str, is_token_authenticated: bool) {
        let name = Str::from(format!("User:{user}"));
        *self.principal.write() = Principal { name, is_token_authenticated };
    }

    pub(crate) fn sasl(&self) -> Option<&SaslSession> {
        self.sasl.as_ref()
    }

    /// Is it of a listener with SASL?
    pub fn has_sasl(&self) -> bool {
        self.sasl.is_some()
    }

    /// Does it owe a proof of who it is?
    pub fn owes_proof(&self) -> bool {
        self.sasl.as_ref().is_some_and(|sasl| !sasl.is_authenticated())
    }

    /// Is its next frame a message of SASL without a header (SaslHandshake 0)?
    pub fn sends_raw_token(&self) -> bool {
        self.sasl.as_ref().is_some_and(SaslSession::is_raw)
    }

    /// The client's address without its port, with the slash in front that Kafka shows (`/10.0.0.7`).
    pub fn client_host(&self) -> Str {
        Str::from(format!("/{}", self.peer.ip()))
    }

    /// The first ApiVersions request of a connection says it; Kafka keeps the first answer too.
    pub fn set_software(&self, software: ClientSoftware) {
        let _ = self.software.set(software);
    }

    pub fn software(&self) -> Option<&ClientSoftware> {
        self.software.get()
    }

    /// The client has used more than its quota: the server reads nothing more from it until then (monotonic time).
    pub fn mute_until(&self, until: Duration) {
        self.muted_until.fetch_max(until.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Zero: it never was.
    pub fn muted_until(&self) -> Duration {
        Duration::from_nanos(self.muted_until.load(Ordering::Relaxed))
    }

    /// The account of answers that clients have not taken yet; said once by the server.
    pub fn set_answer_memory(&self, account: Arc<MemoryAccount>) {
        let _ = self.answer_memory.set(account);
    }

    /// Memory for data that is read for an answer and is in no cache: so much may be read, as long as the share is kept. The fuller it
    /// is of answers that nobody takes, the less.
    pub(crate) fn take_answer_memory(&self, bytes: usize) -> Option<MemoryShare> {
        let standing = match self.takes_answers.load(Ordering::Relaxed) {
            true => Standing::Favoured,
            false => Standing::Ordinary,
        };
        self.answer_memory.get().map(|account| account.take_part(standing, bytes as u64))
    }

    /// Said by the server before it begins to answer.
    pub fn set_takes_answers(&self, takes: bool) {
        self.takes_answers.store(takes, Ordering::Relaxed);
    }

    /// Said by the server before it begins to answer: the memory for answers is used up, and a Fetch may bring so much. None: it is not.
    pub fn set_answer_bytes_max(&self, bytes: Option<usize>) {
        self.answer_bytes_max.store(bytes.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    pub(crate) fn answer_bytes_max(&self) -> Option<usize> {
        Some(self.answer_bytes_max.load(Ordering::Relaxed)).filter(|bytes| *bytes != usize::MAX)
    }

    /// All of that memory.
    pub(crate) fn answer_memory_bytes(&self) -> Option<u64> {
        self.answer_memory.get().map(|account| account.limit())
    }

    pub(crate) fn note_decoded(&self, bytes: usize) {
        self.decoded_bytes.store(bytes, Ordering::Relaxed);
    }

    /// What was decoded of the request that was handed over last, beside its frame.
    pub fn take_decoded_bytes(&self) -> usize {
        self.decoded_bytes.swap(0, Ordering::Relaxed)
    }

    /// Said by the server when the socket is gone: nobody reads further answers.
    pub fn hang_up(&self) {
        self.hung_up.send_replace(true);
    }

    pub fn is_hung_up(&self) -> bool {
        *self.hung_up.borrow()
    }

    /// The same for whoever must not keep the connection alive: it ends with it.
    pub(crate) fn hang_up_watch(&self) -> watch::Receiver<bool> {
        self.hung_up.subscribe()
    }

    /// Waits until the socket is gone.
    pub async fn hung_up(&self) {
        // An error would mean that the sender is gone, and it lives in self.
        let _ = self.hung_up.subscribe().wait_for(|hung_up| *hung_up).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.audit.end(&self.principal(), &self.peer.ip());
    }
}
