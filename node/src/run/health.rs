//! Metrics and health over HTTP, on loopback: `/metrics`, `/livez` and `/readyz`.
//!
//! The listener is there before the store is opened: `/livez` says that the process runs, `/readyz` whether it can be
//! used, and if not, why ([`Readiness`]). Trusts nobody: one question a connection, at most [`SOCKETS_MAX`] connections, each
//! with [`EXCHANGE_TIMEOUT`] for all of it and a head of [`HEAD_BYTES_MAX`] bytes, and loopback names alone in `Host`, so
//! that no web page reads along.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustorium_rpc::{ServeError, is_named_locally};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};

use super::exporter::Exporter;
use super::vitals::Vitals;

/// Connections that are open; more wait in the operating system's queue.
const SOCKETS_MAX: usize = 16;
/// From a connection's first byte to its last.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A request's head.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// The pause after the operating system refused to give us a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often what was measured is put away if nobody asks for it.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How far the node is. Clones share it.
#[derive(Clone)]
pub(super) struct Readiness(watch::Sender<Stage>);

/// How far a node is.
#[derive(Clone)]
pub(super) enum Stage {
    /// It cannot be used yet, and what it does instead.
    Starting(String),
    /// It can be used, as far as the store can.
    Serving(Arc<Vitals>),
    /// It cannot be used any more.
    Stopping,
}

impl Readiness {
    pub(super) fn set(&self, stage: Stage) {
        self.0.send_replace(stage);
    }

    /// May ask the disk.
    fn why_unready(&self) -> Option<String> {
        match self.stage() {
            Stage::Starting(what) => Some(what),
            Stage::Serving(vitals) => vitals.why_unready(),
            Stage::Stopping => Some("the node is stopping".into()),
        }
    }

    fn stage(&self) -> Stage {
        self.0.borrow().clone()
    }
}

/// The listener; it ends when this is dropped.
pub(super) struct Health {
    addr: SocketAddr,
    readiness: Readiness,
    serving: JoinHandle<()>,
}

impl Health {
    /// Listens, of a node that is not ready.
    pub(super) async fn listen(addr: SocketAddr, exporter: Exporter) -> Result<Self, ServeError> {
        let bound = |listener: TcpListener| listener.local_addr().map(|addr| (listener, addr));
        let bound = TcpListener::bind(addr).await.and_then(bound);
        let (listener, addr) = bound.map_err(|error| ServeError { addr, error })?;
        let readiness = Readiness(watch::Sender::new(Stage::Starting("the node is starting".into())));
        let site = Site { exporter, readiness: readiness.clone() };
        Ok(Self { addr, readiness, serving: tokio::spawn(serve(listener, site)) })
    }

    /// The bound address.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn readiness(&self) -> &Readiness {
        &self.readiness
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Accepts connections for ever. Owns their tasks, which end with it.
async fn serve(listener: TcpListener, site: Site) {
    let places = Arc::new(Semaphore::new(SOCKETS_MAX));
    let mut connections = JoinSet::new();
    let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            (stream, place) = accept(&listener, &places) => {
                connections.spawn(connection(stream, place, site.clone()));
            }
            Some(_ended) = connections.join_next() => {}
            _ = upkeep.tick() => {
                let exporter = site.exporter.clone();
                drop(spawn_blocking(move || exporter.upkeep()));
            }
        }
    }
}

/// The next connection, once there is a place for it. Loses nothing when dropped half-way.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, _place: OwnedSemaphorePermit, site: Site) {
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(EXCHANGE_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics ended badly"),
        Err(_) => tracing::debug!("a connection for metrics took too long"),
    }
}

/// What is answered from.
#[derive(Clone)]
struct Site {
    exporter: Exporter,
    readiness: Readiness,
}

impl Site {
    async fn answer<B>(&self, request: &Request<B>) -> Response<String> {
        if !is_named_locally(request.uri(), request.headers()) {
            return plain(StatusCode::FORBIDDEN, "this listener answers to loopback names alone (Host)\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD alone\n");
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match request.uri().path() {
            "/livez" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => {
                let readiness = self.readiness.clone();
                answered(move || match readiness.why_unready() {
                    None => plain(StatusCode::OK, "ok\n"),
                    Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
                })
                .await
            }
            "/metrics" => {
                let Self { exporter, readiness } = self.clone();
                answered(move || {
                    if let Stage::Serving(vitals) = readiness.stage() {
                        vitals.measure();
                    }
                    let mut answer = plain(StatusCode::OK, exporter.text());
                    let text_format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                    answer.headers_mut().insert(header::CONTENT_TYPE, text_format);
                    answer
                })
                .await
            }
            _ => plain(StatusCode::NOT_FOUND, "here are /metrics, /livez and /readyz\n"),
        }
    }
}

/// What may ask the disk does so on the blocking pool.
async fn answered(answer: impl FnOnce() -> Response<String> + Send + 'static) -> Response<String> {
    let answer = spawn_blocking(answer).await;
    answer.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n"))
}

fn plain(status: StatusCode, text: impl Into<String>) -> Response<String> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
