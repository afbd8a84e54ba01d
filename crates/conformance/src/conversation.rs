//! One script run against one broker: requests go out as frames, and what came back is kept for the comparison.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use protocol::frame::{decode_response_header, encode_request};
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::wire::Reader;
use protocol::{ApiKey, Message, Request, Str};

use crate::scripts::Script;
use crate::value::Value;

/// How long an answer may take: a Kafka that makes its first internal topic takes seconds.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// How long a broker may take to do what it has promised: to elect a leader, to forget a topic.
const SETTLE_MAX: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(15);
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Versions by api key.
pub type Versions = BTreeMap<i16, (i16, i16)>;

/// A broker that is asked.
pub struct Broker {
    pub address: String,
    /// Where clients have to say who they are; without it, scripts about that are left out.
    pub sasl_address: Option<String>,
    pub advertised: Versions,
}

/// One request and what came of it, or something a script found out itself.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub label: String,
    pub api: ApiKey,
    pub version: i16,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Answer(Value),
    /// The broker ended the connection without an answer.
    Closed,
    /// Neither an answer nor the end of the connection.
    Silence,
    /// An answer that our own decoder does not take.
    Unreadable(String),
    /// This broker does not advertise the version, so it was not asked.
    NotAdvertised,
    /// The request cannot be said in this version. Never sent, to neither.
    Inexpressible,
}

impl Broker {
    pub fn meet(address: &str, sasl_address: Option<&str>) -> Result<Broker> {
        let mut wire = Wire::open(address)?;
        let answer = wire.ask(&ApiVersionsRequest::default(), 0)?;
        let answer = answer.context("the broker does not answer ApiVersions")?;
        let answer = ApiVersionsResponse::decode(&mut Reader::new(answer), 0)?;
        let advertised =
            answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(Broker { address: address.to_owned(), sasl_address: sasl_address.map(str::to_owned), advertised })
    }

    fn advertises(&self, api: ApiKey, version: i16) -> bool {
        self.advertised.get(&api.code()).is_some_and(|(low, high)| (*low..=*high).contains(&version))
    }
}

pub struct Conversation<'a> {
    broker: &'a Broker,
    /// What both sides are asked in: Kafka's versions.
    versions: &'a Versions,
    script: &'a Script,
    version: i16,
    marker: String,
    wire: Option<Wire>,
    is_by_sasl: bool,
    exchanges: Vec<Exchange>,
}

impl<'a> Conversation<'a> {
    /// `marker` is in every name that the script makes, and in no other name of the broker.
    pub fn new(
        broker: &'a Broker,
        versions: &'a Versions,
        script: &'a Script,
        version: i16,
        marker: &str,
    ) -> Conversation<'a> {
        let marker = marker.to_owned();
        Conversation {
            broker,
            versions,
            script,
            version,
            marker,
            wire: None,
            is_by_sasl: script.needs_sasl,
            exchanges: Vec::new(),
        }
    }

    pub fn finish(self) -> Vec<Exchange> {
        self.exchanges
    }

    /// The version of the script's API that this run is about.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// A name that nobody else has.
    pub fn name(&self, name: &str) -> Str {
        Str::from(format!("{}{name}", self.marker))
    }

    /// Asks, and keeps what comes back. The script's own API is asked in the version of this run, others in Kafka's newest.
    pub fn ask<R: Request>(&mut self, label: &str, request: &R) -> Option<R::Response>
    where
        R::Response: std::fmt::Debug,
    {
        let version = self.version_of(R::KEY);
        self.ask_in(label, request, version)
    }

    /// The same in a version that is named.
    pub fn ask_in<R: Request>(&mut self, label: &str, request: &R, version: i16) -> Option<R::Response>
    where
        R::Response: std::fmt::Debug,
    {
        let (outcome, answer) = self.exchange(request, version);
        self.keep(label, R::KEY, version, outcome);
        answer
    }

    /// Asks again until the answer is the one that was waited for, or for too long; keeps the last one.
    pub fn settle<R: Request>(
        &mut self,
        label: &str,
        request: &R,
        mut is_settled: impl FnMut(&R::Response) -> bool,
    ) -> Option<R::Response>
    where
        R::Response: std::fmt::Debug,
    {
        let version = self.version_of(R::KEY);
        let began = Instant::now();
        loop {
            let (outcome, answer) = self.exchange(request, version);
            let is_last = answer.as_ref().is_none_or(&mut is_settled) || began.elapsed() > SETTLE_MAX;
            if is_last {
                self.keep(label, R::KEY, version, outcome);
                return answer;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Asks in the newest version that this broker has and keeps nothing: what a script needs and is not about.
    pub fn help<R: Request>(&mut self, request: &R) -> Option<R::Response>
    where
        R::Response: std::fmt::Debug,
    {
        let (_, newest) = self.broker.advertised.get(&R::KEY.code())?;
        let version = (*newest).min(*R::VERSIONS.end());
        self.exchange(request, version).1
    }

    /// Asks for help until the answer is good; an error when it never is.
    pub fn help_until<R: Request>(
        &mut self,
        request: &R,
        mut is_good: impl FnMut(&R::Response) -> bool,
    ) -> Option<R::Response>
    where
        R::Response: std::fmt::Debug,
    {
        let began = Instant::now();
        loop {
            let answer = self.help(request)?;
            if is_good(&answer) || began.elapsed() > SETTLE_MAX {
                return Some(answer);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Sends a request that is owed no answer. What follows on the connection is kept: nothing, or its end.
    pub fn tell<R: Request>(&mut self, label: &str, request: &R, next: &ApiVersionsRequest)
    where
        R::Response: std::fmt::Debug,
    {
        let version = self.version_of(R::KEY);
        let outcome = match self.broker.advertises(R::KEY, version) {
            false => Outcome::NotAdvertised,
            true => match encode_request(0, Some(Str::from("conformance")), request, version) {
                Err(_) => Outcome::Inexpressible,
                Ok(segments) => {
                    let sent = self.wire().and_then(|wire| Ok(wire.send(&segments.concat())?));
                    let follows = sent.and_then(|()| self.wire()?.ask(next, 0));
                    match follows {
                        Ok(Some(_)) => Outcome::Answer(Value::Stand("the next answer".to_owned())),
                        Ok(None) => {
                            self.wire = None;
                            Outcome::Silence
                        }
                        Err(_) => {
                            self.wire = None;
                            Outcome::Closed
                        }
                    }
                }
            },
        };
        self.keep(label, R::KEY, version, outcome);
    }

    /// Sends a frame as it stands, header included and length not, and keeps the raw answer's kind: its first `shown` bytes behind
    /// the correlation id.
    pub fn raw(&mut self, label: &str, frame: &[u8], shown: usize) {
        self.raw_behind(label, frame, 4, shown);
    }

    /// A SASL token without a header, as it goes behind SaslHandshake 0.
    pub fn token(&mut self, label: &str, token: &[u8]) {
        self.raw_behind(label, token, 0, ANSWER_BYTES_MAX);
    }

    fn raw_behind(&mut self, label: &str, frame: &[u8], header: usize, shown: usize) {
        let outcome = match self.wire().and_then(|wire| wire.ask_raw(frame)) {
            Ok(Some(answer)) => {
                let body = answer.get(header..).unwrap_or_default();
                let text = format!("{:?}", Bytes::copy_from_slice(&body[..shown.min(body.len())]));
                Outcome::Answer(Value::Bytes(text))
            }
            Ok(None) => {
                self.wire = None;
                Outcome::Silence
            }
            Err(_) => {
                self.wire = None;
                Outcome::Closed
            }
        };
        self.keep(label, self.script.api, self.version, outcome);
    }

    /// Keeps something that the script has found out from answers: what is in record batches, say.
    pub fn note(&mut self, label: &str, value: Value) {
        self.keep(label, self.script.api, self.version, Outcome::Answer(value));
    }

    /// The next request goes out on a new connection.
    pub fn hang_up(&mut self) {
        self.wire = None;
    }

    /// The same, to the listener with SASL or to the one without.
    pub fn go_to(&mut self, sasl: bool) {
        self.wire = None;
        self.is_by_sasl = sasl;
    }

    fn version_of(&self, api: ApiKey) -> i16 {
        if api == self.script.api {
            return self.version;
        }
        let ours = api.versions().map_or(0, |versions| *versions.end());
        self.versions.get(&api.code()).map_or(ours, |(_, newest)| (*newest).min(ours))
    }

    fn exchange<R: Request>(&mut self, request: &R, version: i16) -> (Outcome, Option<R::Response>)
    where
        R::Response: std::fmt::Debug,
    {
        if !self.broker.advertises(R::KEY, version) {
            return (Outcome::NotAdvertised, None);
        }
        if encode_request(0, None, request, version).is_err() {
            return (Outcome::Inexpressible, None);
        }
        let answer = match self.wire().and_then(|wire| wire.ask(request, version)) {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                // What follows on the connection would wait behind it.
                self.wire = None;
                return (Outcome::Silence, None);
            }
            Err(_) => {
                self.wire = None;
                return (Outcome::Closed, None);
            }
        };
        let decoded = || -> Result<(Value, R::Response)> {
            let mut reader = Reader::new(answer);
            let message = R::Response::decode(&mut reader, version)?;
            reader.expect_end()?;
            Ok((Value::of(&message)?, message))
        };
        match decoded() {
            Ok((value, message)) => (Outcome::Answer(value), Some(message)),
            Err(error) => (Outcome::Unreadable(format!("{error:#}")), None),
        }
    }

    fn keep(&mut self, label: &str, api: ApiKey, version: i16, outcome: Outcome) {
        self.exchanges.push(Exchange { label: label.to_owned(), api, version, outcome });
    }

    fn address(&self) -> &str {
        let sasl_address = self.broker.sasl_address.as_ref().filter(|_| self.is_by_sasl);
        sasl_address.unwrap_or(&self.broker.address)
    }

    fn wire(&mut self) -> Result<&mut Wire> {
        let wire = match self.wire.take() {
            Some(wire) => wire,
            None => Wire::open(self.address())?,
        };
        Ok(self.wire.insert(wire))
    }
}

/// A connection with one request under way at a time.
struct Wire {
    stream: TcpStream,
    next_id: i32,
}

impl Wire {
    fn open(address: &str) -> Result<Wire> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(Wire { stream, next_id: 1 })
    }

    /// The body of the answer; none when nothing came in time. An error: the connection has ended.
    fn ask<R: Request>(&mut self, request: &R, version: i16) -> Result<Option<Bytes>> {
        let id = self.next_id;
        self.next_id += 1;
        let segments = encode_request(id, Some(Str::from("conformance")), request, version)?;
        self.send(&segments.concat())?;
        let Some(frame) = self.receive()? else { return Ok(None) };
        let mut reader = Reader::new(frame.clone());
        let answered = decode_response_header(&mut reader, R::KEY, version)?;
        ensure!(answered == id, "answer {answered} where {id} was due");
        Ok(Some(frame.slice(frame.len() - reader.remaining()..)))
    }

    /// A whole answer, header included, to a frame that goes out as it is.
    fn ask_raw(&mut self, frame: &[u8]) -> Result<Option<Bytes>> {
        let mut bytes = u32::try_from(frame.len())?.to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        self.send(&bytes)?;
        self.receive()
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    fn receive(&mut self) -> Result<Option<Bytes>> {
        let mut len = [0; 4];
        match self.stream.read_exact(&mut len) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        let len = usize::try_from(i32::from_be_bytes(len)).context("a negative length")?;
        ensure!(len <= ANSWER_BYTES_MAX, "an answer of {len} bytes");
        let mut frame = vec![0; len];
        self.stream.read_exact(&mut frame)?;
        Ok(Some(Bytes::from(frame)))
    }
}
