//! The one loop that owns what changes, and the handle that sends it commands.
//!
//! [`Writer::run`] blocks until every [`Handle`] is gone; give it a thread of its own. A command is answered when what it
//! did is durable. Bounds: [`COMMANDS_MAX`] commands wait at most, further ones are answered [`ApplyError::Busy`].

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use async_channel::{Receiver, Sender, TrySendError};
use rustorium_verkle::Committer;

use crate::apply::{Applied, apply, check_sizes};
use crate::backend::{Backend, Durability};
use crate::block::{Block, BlockHash, Change, Header};
use crate::cache::Cache;
use crate::error::{ApplyError, OpenError};
use crate::finalize::finalize;
use crate::reader::Reader;
use crate::store::{Genesis, Progress, Store};
use crate::view::Shared;

/// Commands that may wait for the writer.
pub const COMMANDS_MAX: usize = 64;
/// When a caller should try again, in milliseconds, after [`ApplyError::Busy`].
const RETRY_MS: u64 = 100;

/// What a state needs besides its backend.
#[derive(Clone)]
pub struct Config {
    /// Makes the commitments; shared, since its tables are big.
    pub committer: Arc<Committer>,
    /// Bytes of nodes and witnesses kept in memory; about 150 MB hold all nodes of a tree of 1 000 000 keys.
    pub cache_bytes: u64,
}

/// Opens a chain's state in a backend, loading the genesis if it is empty. `progress` hears of each chunk that is in the
/// store, and may break the load off ([`OpenError::Interrupted`]): the next open starts it over.
pub fn open(
    backend: Arc<dyn Backend>,
    genesis: &Genesis<'_>,
    config: &Config,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<(Writer, Handle, Reader), OpenError> {
    let shared = Arc::new(Shared { committer: config.committer.clone(), cache: Cache::new(config.cache_bytes) });
    let (store, head) = Store::open(backend, genesis, shared, progress)?;
    let reader = Reader::new(head, store.genesis_hash());
    let (sender, commands) = async_channel::bounded(COMMANDS_MAX);
    let writer =
        Writer { store, committer: config.committer.clone(), reader: reader.clone(), commands, unreadable: None };
    Ok((writer, Handle { commands: sender }, reader))
}

/// What a command does.
enum Task {
    Apply(Block),
    Seal(Vec<Change>),
    Finalize(BlockHash),
}

/// A task and who waits for it.
struct Command {
    task: Task,
    answer: Sender<Result<Header, ApplyError>>,
}

/// Owns the store. Nobody else writes.
pub struct Writer {
    store: Store,
    committer: Arc<Committer>,
    reader: Reader,
    commands: Receiver<Command>,
    /// Why nothing is written any more.
    unreadable: Option<String>,
}

impl Writer {
    /// Carries out commands until no [`Handle`] is left or one of them closed the door; those that wait then are answered
    /// [`ApplyError::Closed`].
    pub fn run(mut self) {
        while let Ok(Command { task, answer }) = self.commands.recv_blocking() {
            let result = match task {
                _ if self.commands.is_closed() => Err(ApplyError::Closed),
                Task::Apply(block) => self.apply(block),
                Task::Seal(changes) => self.seal(changes),
                Task::Finalize(hash) => self.finalize(hash),
            };
            match &result {
                Ok(_) => {}
                Err(error) if error.is_ours() => tracing::error!(%error, "a command failed"),
                Err(error) => tracing::debug!(%error, "a command was refused"),
            }
            // Whoever asked may be gone; what was done stays done.
            let _ = answer.try_send(result);
        }
        tracing::debug!("the writer ends");
    }

    fn apply(&mut self, block: Block) -> Result<Header, ApplyError> {
        self.check_writable()?;
        check_sizes(&block.changes)?;
        if block.hash == BlockHash::ZERO {
            return Err(ApplyError::ZeroHash);
        }
        let head = self.reader.head();
        if let Some(known) = self.known(&block)? {
            return Ok(known);
        }
        let Header { number, hash, .. } = head.header().clone();
        if block.parent_hash != hash {
            return Err(match head.header_row(&block.parent_hash)? {
                None => ApplyError::UnknownParent { parent: block.parent_hash },
                Some(_) => not_a_child(format!("parent {hash}"), format!("parent {}", block.parent_hash)),
            });
        }
        if Some(block.number) != number.checked_add(1) {
            return Err(not_a_child(
                format!("number {}", number.saturating_add(1)),
                format!("number {}", block.number),
            ));
        }
        let started = Instant::now();
        let applied = apply(&head, block, &self.committer)?;
        self.make_final(applied, started)
    }

    /// A block on the head with the dev rule's hash.
    fn seal(&mut self, changes: Vec<Change>) -> Result<Header, ApplyError> {
        self.check_writable()?;
        check_sizes(&changes)?;
        let head = self.reader.head();
        let Header { number, hash: parent_hash, .. } = head.header().clone();
        let next = number.checked_add(1);
        let number = next.ok_or_else(|| not_a_child("a number that fits".into(), "one more".into()))?;
        let hash = BlockHash::ZERO;
        let block = Block { number, hash, parent_hash, timestamp_ms: None, state_root: None, changes };
        let started = Instant::now();
        let mut applied = apply(&head, block, &self.committer)?;
        let hash = BlockHash::of_dev_block(&parent_hash, number, &applied.header.state_root);
        if head.header_row(&hash)?.is_some() {
            return Err(ApplyError::Conflicting { hash });
        }
        applied.header.hash = hash;
        self.make_final(applied, started)
    }

    /// Every applied block is final already, so this only answers.
    fn finalize(&self, hash: BlockHash) -> Result<Header, ApplyError> {
        let head = self.reader.head();
        if head.header().hash == hash {
            return Ok(head.header().clone());
        }
        match head.header_row(&hash)? {
            None => Err(ApplyError::UnknownBlock { hash }),
            Some(row) => {
                let name = |number: u64, hash: &BlockHash| format!("block {number} {hash}");
                let expected = format!("{} or a descendant", name(head.header().number, &head.header().hash));
                Err(ApplyError::NotAhead { expected, got: name(row.number, &hash) })
            }
        }
    }

    fn check_writable(&self) -> Result<(), ApplyError> {
        match &self.unreadable {
            Some(what) => Err(ApplyError::Poisoned { what: what.clone() }),
            None => Ok(()),
        }
    }

    /// The answer to a block that was applied before; an error if its hash was another block's.
    fn known(&self, block: &Block) -> Result<Option<Header>, ApplyError> {
        let Some(row) = self.reader.head().header_row(&block.hash)? else { return Ok(None) };
        let changes = crate::block::Changes::new(block.changes.clone());
        if changes.content(block.number, &block.parent_hash, block.timestamp_ms) != row.content {
            return Err(ApplyError::Conflicting { hash: block.hash });
        }
        let header = row.header(block.hash);
        match block.state_root {
            Some(expected) if expected != header.state_root => {
                Err(ApplyError::RootMismatch { expected, got: header.state_root })
            }
            _ => Ok(Some(header)),
        }
    }

    /// Writes an applied block in one synced batch and publishes its view.
    ///
    /// A block that is written and cannot be shown would have its successor computed on the view before it: from then on
    /// nothing more is written.
    fn make_final(&mut self, applied: Applied, started: Instant) -> Result<Header, ApplyError> {
        let computed = started.elapsed();
        let batch = finalize(self.store.generation(), &applied);
        let (rows, bytes) = (batch.len(), batch.bytes());
        self.store.commit(batch, Durability::Synced)?;
        let Applied { header, delta, .. } = applied;
        let (leaves, nodes, root) = (delta.leaves.len(), delta.nodes.len(), delta.root);
        self.store.shared().cache.advance(delta);
        match self.store.view(header.clone(), root) {
            Ok(view) => self.reader.publish(view),
            Err(error) => {
                let what = format!("block {} is written and cannot be read ({error}): restart the node", header.hash);
                self.unreadable = Some(what.clone());
                return Err(ApplyError::Poisoned { what });
            }
        }
        tracing::debug!(
            number = header.number,
            hash = %header.hash,
            state_root = %header.state_root,
            leaves,
            nodes,
            rows,
            bytes,
            computed_us = computed.as_micros() as u64,
            written_us = (started.elapsed() - computed).as_micros() as u64,
            "block final"
        );
        Ok(header)
    }
}

/// Sends commands to the writer. Cheap to clone; works on any async executor and on none.
#[derive(Clone)]
pub struct Handle {
    commands: Sender<Command>,
}

impl Handle {
    /// Applies a block to its parent and makes it durable. The same block again gives the same answer.
    pub async fn apply(&self, block: Block) -> Result<Header, ApplyError> {
        self.send(Task::Apply(block))?.recv().await.unwrap_or(Err(ApplyError::Closed))
    }

    /// Makes a block of these changes on the head, with [`BlockHash::of_dev_block`] for its hash.
    pub async fn seal(&self, changes: Vec<Change>) -> Result<Header, ApplyError> {
        self.send(Task::Seal(changes))?.recv().await.unwrap_or(Err(ApplyError::Closed))
    }

    /// Makes a block final, and with it what it descends from.
    pub async fn finalize(&self, hash: BlockHash) -> Result<Header, ApplyError> {
        self.send(Task::Finalize(hash))?.recv().await.unwrap_or(Err(ApplyError::Closed))
    }

    /// [`Handle::apply`] for a caller without an executor.
    pub fn apply_blocking(&self, block: Block) -> Result<Header, ApplyError> {
        self.send(Task::Apply(block))?.recv_blocking().unwrap_or(Err(ApplyError::Closed))
    }

    /// Takes no more commands, from this handle or any other; the writer ends when it has done the one it is at.
    pub fn close(&self) {
        self.commands.close();
    }

    fn send(&self, task: Task) -> Result<Receiver<Result<Header, ApplyError>>, ApplyError> {
        let (answer, receiver) = async_channel::bounded(1);
        match self.commands.try_send(Command { task, answer }) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => Err(ApplyError::Busy { retry_ms: RETRY_MS }),
            Err(TrySendError::Closed(_)) => Err(ApplyError::Closed),
        }
    }
}

fn not_a_child(expected: String, got: String) -> ApplyError {
    ApplyError::NotAChild { expected, got }
}
