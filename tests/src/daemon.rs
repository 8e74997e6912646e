//! A node to drive: the real program in a process of its own, spoken to over its listeners and ended by signals.
//!
//! Life-cycle: [`Daemon::spawn`] → [`Daemon::ready`] ([`Daemon::start`] is both) → questions → [`Daemon::stop`] or
//! [`Daemon::kill`]; a daemon that is dropped is killed. Every wait has a deadline. What it logs is appended to
//! `<base path>.log` and quoted when something goes wrong.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use jsonrpsee::core::ClientError;
use jsonrpsee::http_client::HttpClient;
use rustorium_rpc::wire::{Forkchoice, Hash32, Head, NewBlock, Status};
use rustorium_rpc::{ChainApiClient as _, EngineApiClient as _, Secret, client};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::program;

/// How long a node may take until it answers: a genesis of some ten thousand keys, on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a node that was told to stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of its log that are quoted.
const QUOTED_BYTES: usize = 4000;

/// A node's process.
pub struct Daemon {
    child: Arc<Mutex<Child>>,
    lines: Receiver<String>,
    log: PathBuf,
    jwt: PathBuf,
    runtime: Runtime,
    rpc: String,
    engine: String,
    metrics: String,
}

/// Ends a daemon from another thread.
#[derive(Clone)]
pub struct Killer(Arc<Mutex<Child>>);

impl Daemon {
    /// A node that answers, of the chain `chain` (a preset or a file), with its data in `base_path`.
    pub fn start(chain: &str, base_path: &Path) -> anyhow::Result<Self> {
        Self::start_with(&["--chain", chain], base_path)
    }

    /// The same with other arguments of `run`.
    pub fn start_with(arguments: &[&str], base_path: &Path) -> anyhow::Result<Self> {
        let mut daemon = Self::spawn(arguments, base_path)?;
        daemon.ready()?;
        Ok(daemon)
    }

    /// A node that has just been started and does not answer yet.
    pub fn spawn(arguments: &[&str], base_path: &Path) -> anyhow::Result<Self> {
        Self::spawn_in(&[], arguments, base_path)
    }

    /// The same with these environment variables.
    pub fn spawn_in(variables: &[(&str, &str)], arguments: &[&str], base_path: &Path) -> anyhow::Result<Self> {
        let log = log_of(base_path);
        let stderr = OpenOptions::new().create(true).append(true).open(&log)?;
        let folder = base_path.to_str().context("a path that is text")?;
        let mut command = program::command(&["run", "--base-path", folder, "--rpc-port", "0", "--engine-port", "0"])?;
        command.env("RUSTORIUM_METRICS_PORT", "0").envs(variables.iter().copied());
        let mut child = command.args(arguments).stdout(std::process::Stdio::piped()).stderr(stderr).spawn()?;
        let stdout = BufReader::new(child.stdout.take().context("stdout")?);
        let (sender, lines) = channel();
        // Ends with the process; reads on, so that the process never waits for us.
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        Ok(Self {
            child: Arc::new(Mutex::new(child)),
            lines,
            log,
            jwt: base_path.join("engine.jwt"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            rpc: String::new(),
            engine: String::new(),
            metrics: String::new(),
        })
    }

    /// Waits until the node says where it listens.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while self.rpc.is_empty() || self.engine.is_empty() || self.metrics.is_empty() {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.split_once(' ') {
                    Some(("rpc", url)) => self.rpc = url.to_owned(),
                    Some(("engine", url)) => self.engine = url.to_owned(),
                    Some(("metrics", url)) => self.metrics = url.to_owned(),
                    _ => {}
                },
                Err(RecvTimeoutError::Timeout) => bail!("not ready after {READY_TIMEOUT:?}\n{}", self.quoted()),
                Err(RecvTimeoutError::Disconnected) => bail!("ended before it was ready\n{}", self.quoted()),
            }
        }
        Ok(())
    }

    /// The next line on stdout.
    pub fn line(&self) -> anyhow::Result<String> {
        Ok(self.lines.recv_timeout(READY_TIMEOUT)?)
    }

    /// The URL of the public listener.
    pub fn rpc(&self) -> &str {
        &self.rpc
    }

    /// The URL of the privileged listener.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// The URL of the listener for metrics and health.
    pub fn metrics(&self) -> &str {
        &self.metrics
    }

    /// The process' id.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// The file with the secret of the privileged listener.
    pub fn jwt(&self) -> &Path {
        &self.jwt
    }

    /// The secret of the privileged listener.
    pub fn secret(&self) -> anyhow::Result<Secret> {
        Ok(Secret::load(&self.jwt)?)
    }

    /// Asks a question on the public listener.
    pub fn ask<T, F>(&self, question: impl FnOnce(HttpClient) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        // The client's connections live in the runtime, so it is made there too.
        self.runtime.block_on(async { question(client::public(&self.rpc)?).await })
    }

    /// The newest block.
    pub fn head(&self) -> Result<Head, ClientError> {
        self.ask(async |client| client.head().await)
    }

    /// The hash of block 0.
    pub fn genesis_hash(&self) -> anyhow::Result<Hash32> {
        Ok(self.status()?.genesis_hash)
    }

    /// Applies a block; the new state root.
    pub fn apply(&self, block: NewBlock) -> anyhow::Result<Result<Hash32, ClientError>> {
        let mut root = None;
        let applied = self.apply_all([block], |_, answer| root = Some(answer))?;
        Ok(applied.map(|()| root.expect("a block that was applied has a root")))
    }

    /// Applies blocks one after the other, as long as they are, and says what each came to.
    pub fn apply_all(
        &self,
        blocks: impl IntoIterator<Item = NewBlock>,
        mut acknowledged: impl FnMut(u64, Hash32),
    ) -> anyhow::Result<Result<(), ClientError>> {
        let secret = self.secret()?;
        Ok(self.runtime.block_on(async {
            let client = client::engine(&self.engine, secret)?;
            for block in blocks {
                let number = block.number;
                acknowledged(number, client.apply_block(block).await?.state_root);
            }
            Ok(())
        }))
    }

    /// Makes a block final.
    pub fn finalize(&self, hash: Hash32) -> anyhow::Result<Result<Head, ClientError>> {
        let secret = self.secret()?;
        Ok(self.runtime.block_on(async { client::engine(&self.engine, secret)?.finalize_block(hash).await }))
    }

    /// Makes a block the head, and perhaps one final.
    pub fn choose(&self, head: Hash32, finalized: Option<Hash32>) -> anyhow::Result<Result<Status, ClientError>> {
        let (secret, choice) = (self.secret()?, Forkchoice { head, finalized });
        Ok(self.runtime.block_on(async { client::engine(&self.engine, secret)?.forkchoice(choice).await }))
    }

    /// Drops what is above a block.
    pub fn rollback(&self, hash: Hash32) -> anyhow::Result<Result<Head, ClientError>> {
        let secret = self.secret()?;
        Ok(self.runtime.block_on(async { client::engine(&self.engine, secret)?.rollback(hash).await }))
    }

    /// Where the chain stands.
    pub fn status(&self) -> anyhow::Result<Status> {
        let secret = self.secret()?;
        Ok(self.runtime.block_on(async { client::engine(&self.engine, secret)?.status().await })?)
    }

    /// Sends a signal, `TERM` or `INT`, and waits for the end.
    pub fn stop(self, signal: &str) -> anyhow::Result<ExitStatus> {
        self.killer().stop(signal).with_context(|| self.quoted())
    }

    /// Waits for an end that comes by itself.
    pub fn ended(self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        program::wait(&mut self.child(), timeout).with_context(|| self.quoted())
    }

    /// Ends it here and now.
    pub fn kill(self) -> anyhow::Result<()> {
        self.killer().kill()
    }

    /// Ends it from elsewhere.
    pub fn killer(&self) -> Killer {
        Killer(self.child.clone())
    }

    /// The end of its log.
    pub fn quoted(&self) -> String {
        let mut text = String::new();
        let _ = File::open(&self.log).and_then(|mut file| file.read_to_string(&mut text));
        let start = text.floor_char_boundary(text.len().saturating_sub(QUOTED_BYTES));
        format!("{}:\n{}", self.log.display(), &text[start..])
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().expect("nobody panics with it")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.killer().kill();
    }
}

impl Killer {
    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) -> anyhow::Result<()> {
        let mut child = self.0.lock().expect("nobody panics with it");
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends a signal, `TERM` or `INT`, and waits for the end.
    pub fn stop(&self, signal: &str) -> anyhow::Result<ExitStatus> {
        let mut child = self.0.lock().expect("nobody panics with it");
        let pid = child.id();
        // The shell has it built in; a program of that name may be missing.
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status()?;
        ensure!(sent.success(), "kill -{signal} {pid}: {sent}");
        program::wait(&mut child, STOP_TIMEOUT)
    }
}

/// Where a daemon with this base path logs.
pub fn log_of(base_path: &Path) -> PathBuf {
    base_path.with_extension("log")
}

/// Posts a body as plain HTTP, as a client without our code would; the status and the answer, null if it is no JSON.
pub fn post(url: &str, authorization: Option<&str>, body: &Value) -> anyhow::Result<(u16, Value)> {
    let body = body.to_string();
    let authorization = authorization.map_or(String::new(), |token| format!("authorization: {token}\r\n"));
    let head = format!("content-type: application/json\r\ncontent-length: {}\r\n{authorization}", body.len());
    let (status, answer) = exchange(url, "POST /", &head, &body)?;
    Ok((status, serde_json::from_str(&answer).unwrap_or(Value::Null)))
}

/// Asks for a path as plain HTTP; the status and the answer.
pub fn get(url: &str, path: &str) -> anyhow::Result<(u16, String)> {
    exchange(url, &format!("GET {path}"), "", "")
}

/// One request on a connection of its own, with these lines in its head, each with its end; the status and the answer.
///
/// A server that refuses a head may answer and hang up before it has read all of it: what it said counts.
pub fn exchange(url: &str, request: &str, lines: &str, body: &str) -> anyhow::Result<(u16, String)> {
    let address = url.strip_prefix("http://").context("an http URL")?;
    let host = if lines.contains("host: ") { String::new() } else { format!("host: {address}\r\n") };
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(READY_TIMEOUT))?;
    let request = format!("{request} HTTP/1.1\r\n{host}connection: close\r\n{lines}\r\n{body}");
    let sent = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer)?;
    let status: Option<u16> = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let whole = sent.is_ok() && ended.is_ok();
    let Some(status) = status.filter(|status| whole || *status >= 400) else {
        bail!("sent: {sent:?}, read: {ended:?}, answered: {answer:?}");
    };
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}
