//! The daemon: wires store, writer and listeners as a [`Config`] says, and ends them in order.
//!
//! Life-cycle: lock the data directory → show metrics and health → open the store, loading the genesis if it is new →
//! give the writer its thread → listen → wait for SIGINT or SIGTERM → stop listening, let the writer finish what it has,
//! close the store. A signal that comes while the genesis loads breaks the load off; the next start begins it anew.

mod exporter;
mod genesis;
mod health;
pub(crate) mod store;
mod vitals;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use rustorium_rpc::{Engine, Identity, Limits, Public, Secret, serve_engine, serve_public};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use self::exporter::Exporter;
use self::health::{Health, Stage};
use self::store::Opened;
use self::vitals::Vitals;
use crate::base_path::BasePath;
use crate::config::Config;
use crate::exit::{Exit, OrExit as _};

/// Runs a node until it is told to stop.
pub fn run(config: Config) -> anyhow::Result<()> {
    let threads = config.threads.map_or(0, |threads| threads.get());
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("verkle-{index}"))
        .build_global()
        .context("cannot start the threads that compute commitments")?;
    let base_path = BasePath::open(&config.base_path)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        chain = config.spec.id(),
        base_path = %base_path.path().display(),
        "rustorium starts"
    );
    let secret = Secret::load_or_create(&base_path.jwt()).or_exit(Exit::Config)?;
    tracing::info!(file = %base_path.jwt().display(), "the secret of the privileged listener");
    if config.dev && !config.rpc.ip().is_loopback() {
        tracing::warn!(rpc = %config.rpc, "a development node makes blocks for everyone who can reach this address");
    }
    let exporter = Exporter::install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("rpc").build()?;
    let ended = runtime.block_on(daemon(config, &base_path, secret, exporter));
    // Reads under way hold the store open: they end before the directory is let go.
    drop(runtime);
    drop(base_path);
    tracing::info!("rustorium has ended");
    ended
}

async fn daemon(config: Config, base_path: &BasePath, secret: Secret, exporter: Exporter) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let health = Health::listen(config.metrics, exporter).await;
    let health = health.context("the listener for metrics and health (--metrics-port)").or_exit(Exit::Unavailable)?;
    tracing::info!(metrics = %health.addr(), "metrics and health");
    let identity = Identity::new("rustorium", env!("CARGO_PKG_VERSION"), &config.spec);
    let Config { dev, rpc: rpc_addr, engine: engine_addr, allow_rollback, disk_reserve_bytes, .. } = config;
    let opened = store::open(config, base_path, health.readiness(), &mut stop).await?;
    let Some(Opened { writer, handle, reader, backend }) = opened else { return Ok(()) };
    let vitals = Arc::new(Vitals { reader: reader.clone(), backend, disk_reserve_bytes });
    let (writing, written) = oneshot::channel::<()>();
    let writer = std::thread::Builder::new().name("writer".into()).spawn(move || {
        let _ended_when_dropped = writing;
        writer.run();
    })?;
    let public = Public { reader: reader.clone(), identity, dev: dev.then(|| handle.clone()) };
    let engine = Engine { reader, handle: handle.clone(), allow_rollback };
    let served = tokio::select! {
        served = serve((rpc_addr, public), (engine_addr, engine), secret, (&health, vitals), &mut stop) => served,
        _ = written => Err(anyhow::anyhow!("the writer has ended before its time")),
    };
    handle.close();
    join(writer).await;
    served
}

/// Listens until told to stop.
async fn serve(
    (rpc_addr, public): (SocketAddr, Public),
    (engine_addr, engine): (SocketAddr, Engine),
    secret: Secret,
    (health, vitals): (&Health, Arc<Vitals>),
    stop: &mut Stop,
) -> anyhow::Result<()> {
    let is_dev = public.dev.is_some();
    let public = serve_public(rpc_addr, public, Limits::PUBLIC).await;
    let public = public.context("the public listener (--rpc-addr, --rpc-port)").or_exit(Exit::Unavailable)?;
    let engine = serve_engine(engine_addr, engine, secret, Limits::ENGINE).await;
    let engine = engine.context("the privileged listener (--engine-port)").or_exit(Exit::Unavailable)?;
    health.readiness().set(Stage::Serving(vitals));
    tracing::info!(rpc = %public.addr(), engine = %engine.addr(), "ready");
    // Whoever started us may not read what we say.
    let _ = announce([public.addr(), engine.addr(), health.addr()], is_dev);
    stop.asked().await;
    health.readiness().set(Stage::Stopping);
    tracing::info!("stopping");
    tokio::join!(public.stop(), engine.stop());
    Ok(())
}

/// Says on stdout where to reach the node, and what to try.
fn announce([public, engine, metrics]: [SocketAddr; 3], dev: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let url = format!("http://{public}");
    writeln!(out, "rpc {url}\nengine http://{engine}\nmetrics http://{metrics}")?;
    if dev {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"dev_submitChanges","params":[[["0x616c696365","0x313030"]]]}"#;
        writeln!(
            out,
            "\nThree commands to try:\n  \
             rustorium get rustorium:greeting --witness --url {url}\n  \
             curl -s {url} -H 'content-type: application/json' -d '{call}'\n  \
             rustorium get alice --raw --url {url}\n"
        )?;
    }
    out.flush()
}

/// The signals that end the daemon.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Waits for the writer, which ends once its door is closed and what waited is done.
async fn join(writer: JoinHandle<()>) {
    let joined = tokio::task::spawn_blocking(|| writer.join()).await;
    if !matches!(joined, Ok(Ok(()))) {
        tracing::error!("the writer ended badly");
    }
}
