//! The two listeners: public, and privileged behind a secret.
//!
//! [`serve_public`] and [`serve_engine`] bind, and answer a [`Running`] that knows the bound address and ends it all.
//! Each listener has one accept loop of its own rather than jsonrpsee's, which would neither bound idle sockets nor time
//! out requests that never come: HTTP/1.1 alone (one request at a time on a connection), at most `sockets_max` sockets,
//! each behind its `Gate`, each request through the `Door`. The loop owns the connections' tasks; on
//! [`Running::stop`] idle ones close, what is under way has [`STOP_TIMEOUT`] to end, and the rest is cut off.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::core::server::{MethodCallback, Methods};
use jsonrpsee::server::middleware::rpc::RpcServiceBuilder;
use jsonrpsee::server::{
    BatchRequestConfig, PingConfig, RandomStringIdProvider, Server, ServerConfig, ServerHandle, StopHandle,
    TowerService, TowerServiceBuilder, stop_channel,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tower::layer::util::{Identity, Stack};

use crate::api::{self, Engine, Public};
use crate::door::Door;
use crate::gate::{CountLayer, Gate, Socket};
use crate::jwt::Secret;
use crate::limits::{
    ACCEPT_PAUSE, HEAD_BYTES_MAX, HEAD_TIMEOUT, Limits, SOCKET_ANSWERS_MAX, STOP_TIMEOUT, SUBSCRIPTIONS_MAX,
};
use crate::meter::{Connection, measured};
use crate::work::Work;

/// Characters of a subscription's name.
const SUBSCRIPTION_ID_CHARS: usize = 16;
/// WebSockets are pinged this often.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// A WebSocket that shows no life for so long is closed. Longer than any call should take, since nothing is read from a
/// socket that has as many calls under way as it may.
const PING_TIMEOUT: Duration = Duration::from_secs(180);

/// Why a listener does not run.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {error}")]
pub struct ServeError {
    /// The address asked for.
    pub addr: SocketAddr,
    /// What the operating system says.
    #[source]
    pub error: io::Error,
}

/// A listener that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    stop: ServerHandle,
    accepting: JoinHandle<()>,
}

impl Running {
    /// The bound address, with the port that the operating system chose when asked for port 0.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more requests, lets those under way end for [`STOP_TIMEOUT`] and no longer, and closes all connections.
    pub async fn stop(self) {
        // Fails only if it has stopped already.
        let _ = self.stop.stop();
        let _ = self.accepting.await;
    }
}

/// Serves the public methods. Must be called on a tokio runtime.
pub async fn serve_public(addr: SocketAddr, public: Public, limits: Limits) -> Result<Running, ServeError> {
    let methods = api::public(public, &Work::of_this_machine());
    serve(addr, methods, limits, None).await
}

/// Serves the privileged methods to holders of `secret`. Must be called on a tokio runtime.
pub async fn serve_engine(
    addr: SocketAddr,
    engine: Engine,
    secret: Secret,
    limits: Limits,
) -> Result<Running, ServeError> {
    serve(addr, api::engine(engine), limits, Some(secret)).await
}

async fn serve(
    addr: SocketAddr,
    methods: Methods,
    limits: Limits,
    secret: Option<Secret>,
) -> Result<Running, ServeError> {
    let bound = |listener: TcpListener| listener.local_addr().map(|addr| (listener, addr));
    let (listener, addr) = TcpListener::bind(addr).await.and_then(bound).map_err(|error| ServeError { addr, error })?;
    let (stopping, stop) = stop_channel();
    let name = if secret.is_some() { "engine" } else { "public" };
    let listening = Listening {
        listener,
        door: Arc::new(Door::new(addr, &limits, secret)),
        rpc: rpc_builder(&limits, &methods),
        methods: measured(&methods),
        name,
        limits,
        sockets: Arc::new(Semaphore::new(limits.sockets_max as usize)),
        stopping,
    };
    Ok(Running { addr, stop, accepting: tokio::spawn(listening.run()) })
}

type RpcBuilder = TowerServiceBuilder<Stack<CountLayer, Identity>, Identity>;
type Rpc = TowerService<Stack<CountLayer, Identity>, Identity>;

fn rpc_builder(limits: &Limits, methods: &Methods) -> RpcBuilder {
    let is_subscription = |name: &&str| {
        let method = methods.method(name);
        matches!(method, Some(MethodCallback::Subscription(_) | MethodCallback::Unsubscription(_)))
    };
    let subscriptions = Arc::new(methods.method_names().filter(is_subscription).collect());
    let config = ServerConfig::builder()
        .max_request_body_size(limits.request_bytes_max)
        .max_response_body_size(limits.response_bytes_max)
        .max_connections(limits.connections_max)
        .set_batch_request_config(BatchRequestConfig::Limit(limits.batch_max))
        .set_message_buffer_capacity(SOCKET_ANSWERS_MAX)
        .max_subscriptions_per_connection(SUBSCRIPTIONS_MAX)
        .set_id_provider(RandomStringIdProvider::new(SUBSCRIPTION_ID_CHARS))
        .enable_ws_ping(PingConfig::new().ping_interval(PING_INTERVAL).inactive_limit(PING_TIMEOUT))
        .build();
    Server::builder()
        .set_config(config)
        .set_rpc_middleware(RpcServiceBuilder::new().layer(CountLayer { subscriptions }))
        .to_service_builder()
}

/// A bound listener and what its connections share.
struct Listening {
    listener: TcpListener,
    door: Arc<Door>,
    rpc: RpcBuilder,
    methods: Methods,
    /// As its metrics are labelled.
    name: &'static str,
    limits: Limits,
    /// Places for sockets; a socket keeps its place until it is closed, as a WebSocket too.
    sockets: Arc<Semaphore>,
    stopping: StopHandle,
}

impl Listening {
    async fn run(self) {
        let mut connections = JoinSet::new();
        let stopped = self.stopping.clone().shutdown();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => break,
                (stream, place) = self.accept() => {
                    connections.spawn(self.connection(stream, place));
                }
                Some(_ended) = connections.join_next() => {}
            }
        }
        let all_closed = self.sockets.acquire_many(self.limits.sockets_max);
        if tokio::time::timeout(STOP_TIMEOUT, all_closed).await.is_err() {
            tracing::debug!("connections did not end in time and are cut off");
        }
        connections.shutdown().await;
    }

    /// The next connection, once there is a place for it. Loses nothing when dropped half-way.
    async fn accept(&self) -> (TcpStream, OwnedSemaphorePermit) {
        let place = self.sockets.clone().acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return (stream, place),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection until it ends or is upgraded.
    fn connection(&self, stream: TcpStream, place: OwnedSemaphorePermit) -> impl Future<Output = ()> + use<> {
        let gate = Gate::new(self.limits.response_bytes_max);
        let rpc: Rpc = self.rpc.clone().build(self.methods.clone(), self.stopping.clone());
        let (door, stopping) = (self.door.clone(), self.stopping.clone());
        let open = Connection::open(self.name);
        async move {
            // A failure here costs latency alone.
            let _ = stream.set_nodelay(true);
            let service = service_fn({
                let gate = gate.clone();
                move |request| {
                    let (door, gate, rpc) = (door.clone(), gate.clone(), rpc.clone());
                    async move { Ok::<_, Infallible>(door.answer(request, gate, rpc).await) }
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(Socket::new(stream, gate, (place, open))), service)
                .with_upgrades();
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = stopping.shutdown() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended badly");
            }
        }
    }
}
