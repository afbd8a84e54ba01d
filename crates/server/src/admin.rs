//! The HTTP page for operators: `/metrics`, `/health/live`, `/health/ready`.
//!
//! It starts before the log is recovered, so that an orchestrator sees "alive, not ready" meanwhile. It is small on purpose and
//! bounded: few connections, small requests, little time for each.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use world::net::{Listener, Net, Stream};
use world::task;
use world::watch;

use crate::metrics::MetricsText;
use crate::server::BindError;

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// One request, head and all.
const REQUEST_BYTES_MAX: usize = 32 << 10;
/// From a request's first byte to its answer's first.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Between two requests of one connection.
const IDLE: Duration = Duration::from_secs(90);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether clients can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// With what an operator should know, in one line.
    ReadyBut(String),
    /// With the reason, in one line.
    NotReady(String),
}

/// What the page shows; `cli` composes it of what the rooms report.
pub trait Report: Send + Sync + 'static {
    fn readiness(&self) -> Readiness;
    fn metrics(&self, text: &mut MetricsText);
}

/// The HTTP address, bound.
pub struct BoundAdmin {
    listener: Listener,
    address: SocketAddr,
}

impl BoundAdmin {
    /// Binds `HOST:PORT`; port 0 takes a free one. The page can change nothing, but it tells topic names: an address that others can
    /// reach needs `insecure`, as a plain listener does.
    pub async fn bind(net: &Net, address: &str, insecure: bool) -> Result<Self, BindError> {
        let bound = crate::server::BoundListener::bind(net, "admin", address, insecure).await?;
        let (listener, address) = bound.into_parts();
        Ok(Self { listener, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `Admin::stop`.
    pub fn serve(self, report: Arc<dyn Report>) -> Admin {
        let (stop, _) = watch::channel(false);
        let mut stopped = stop.subscribe();
        let incoming =
            Incoming { listener: self.listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
        let serving = axum::serve(incoming, router(report)).with_graceful_shutdown(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        let task = task::spawn(async move {
            // It ends only by the signal above: `Incoming::accept` does not fail.
            let _ = serving.await;
        });
        Admin { address: self.address, stop, task }
    }
}

pub struct Admin {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: task::JoinHandle<()>,
}

impl Admin {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops at once; a scrape that is under way may be cut.
    pub fn stop(self) {
        self.stop.send_replace(true);
        self.task.abort();
    }
}

fn router(report: Arc<dyn Report>) -> Router {
    let for_ready = report.clone();
    Router::new()
        .route("/metrics", get(move || std::future::ready(metrics(&*report))))
        .route("/health/live", get(|| std::future::ready("alive\n")))
        .route("/health/ready", get(move || std::future::ready(ready_answer(&*for_ready))))
        .fallback(|| {
            std::future::ready((StatusCode::NOT_FOUND, "/metrics, /health/live and /health/ready are here\n"))
        })
}

fn metrics(report: &dyn Report) -> impl IntoResponse + use<> {
    let mut text = MetricsText::default();
    report.metrics(&mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.finish())
}

fn ready_answer(report: &dyn Report) -> impl IntoResponse + use<> {
    match report.readiness() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::ReadyBut(notice) => (StatusCode::OK, format!("ready, but {notice}\n")),
        Readiness::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

/// The listener as axum wants it: never fails, and every connection is bounded.
struct Incoming {
    listener: Listener,
    places: Arc<Semaphore>,
}

impl axum::serve::Listener for Incoming {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        let place = self.places.clone().acquire_owned().await.expect("this semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (BoundedStream::new(stream, place), peer),
                Err(error) => {
                    tracing::debug!(%error, "admin: accept failed");
                    task::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A stream that ends when a request is too large or takes too long. hyper bounds the head's size but not its time.
struct BoundedStream {
    stream: Stream,
    request_bytes: usize,
    within_request: bool,
    time: BoxFuture<'static, ()>,
    _place: OwnedSemaphorePermit,
}

impl BoundedStream {
    fn new(stream: Stream, place: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            request_bytes: 0,
            within_request: true,
            time: Box::pin(task::sleep(REQUEST_TIME)),
            _place: place,
        }
    }

    fn poll_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.time.as_mut().poll(cx).is_ready() {
            self.time = Box::pin(std::future::pending());
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// An answer is being written: the next byte read belongs to another request.
    fn answered(&mut self) {
        if self.within_request {
            self.within_request = false;
            self.request_bytes = 0;
            self.time = Box::pin(task::sleep(IDLE));
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_time(cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let count = buf.filled().len() - before;
        if !self.within_request && count > 0 {
            self.within_request = true;
            self.time = Box::pin(task::sleep(REQUEST_TIME));
        }
        self.request_bytes += count;
        Poll::Ready(match self.request_bytes > REQUEST_BYTES_MAX {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => Ok(()),
        })
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answered();
        self.poll_time(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answered();
        self.poll_time(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
