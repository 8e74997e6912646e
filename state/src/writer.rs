//! The one loop that owns what changes.
//!
//! [`Writer::run`] blocks until every [`Handle`] is gone; give it a thread of its own, beside which it starts one that puts
//! final blocks into their columns. A command is answered when what it did is durable. Bounds: [`COMMANDS_MAX`] commands
//! wait at most, further ones are answered [`ApplyError::Busy`]; unfinalised blocks as [`Config`] says; final blocks that
//! are not in their columns yet make the writer wait at [`LAG_MAX`] times what a flush takes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use async_channel::{Receiver, WeakSender};

use crate::apply::{Applied, apply, check_sizes};
use crate::backend::{Backend, BackendError, Batch, Column, Durability};
use crate::block::{Block, BlockHash, Change, Changes, Header};
use crate::config::{Config, Finality};
use crate::error::{ApplyError, OpenError};
use crate::finalize;
use crate::flush::{Flushed, Flusher};
use crate::forks::{Branch, Forks, Size};
use crate::handle::{Answer, Handle, Message, Task};
use crate::journal;
use crate::layer::Run;
use crate::meters::{Flushing, Meters};
use crate::reader::Reader;
use crate::schema::{HeaderRow, meta};
use crate::store::{Genesis, Progress, Store};
use crate::view::Shared;

/// Commands that may wait for the writer.
pub const COMMANDS_MAX: usize = 64;
/// Flushes that may be due before the writer waits for one.
const LAG_MAX: u64 = 4;

/// Opens a chain's state in a backend, loading the genesis if it is empty. `progress` hears of each chunk that is in the
/// store, and may break the load off ([`OpenError::Interrupted`]): the next open starts it over.
pub fn open(
    backend: Arc<dyn Backend>,
    genesis: &Genesis<'_>,
    config: &Config,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<(Writer, Handle, Reader), OpenError> {
    let (store, forks) =
        Store::open(backend, genesis, Arc::new(Shared::new(config.committer.clone(), config.cache_bytes)), progress)?;
    let reader = Reader::new(&forks, store.genesis_hash());
    let (sender, messages) = async_channel::bounded(COMMANDS_MAX);
    let (config, wake) = (config.clone(), sender.downgrade());
    let writer = Writer { store, config, forks, reader: reader.clone(), messages, wake, meters: Meters::new() };
    Ok((writer, Handle::new(sender), reader))
}

/// Owns the store. Nobody else writes.
pub struct Writer {
    store: Store,
    config: Config,
    forks: Forks,
    reader: Reader,
    messages: Receiver<Message>,
    /// To hear of flushes that have ended.
    wake: WeakSender<Message>,
    meters: Meters,
}

impl Writer {
    /// Carries out commands until no [`Handle`] is left or one of them closed the door; those that wait then are answered
    /// [`ApplyError::Closed`].
    ///
    /// # Panics
    /// If the system gives it no thread.
    pub fn run(mut self) {
        let (backend, wake) = (self.store.backend().clone(), self.wake.clone());
        std::thread::scope(|scope| {
            let wake = move || {
                if let Some(messages) = wake.upgrade() {
                    // A full queue has the writer awake, a closed one has it end.
                    let _ = messages.try_send(Message::Flushed);
                }
            };
            let mut flusher = Flusher::start(scope, backend, wake).expect("a thread for flushes");
            self.carry_out(&mut flusher);
        });
        tracing::debug!("the writer ends");
    }

    fn carry_out(&mut self, flusher: &mut Flusher) {
        while let Ok(message) = self.messages.recv_blocking() {
            self.take_flushed(flusher, false);
            if let Message::Command(task, answer) = message {
                let result = match task {
                    _ if self.messages.is_closed() => Err(ApplyError::Closed),
                    Task::Apply(block) => self.apply(block),
                    Task::Seal(changes) => self.seal(changes),
                    Task::Finalize(hash) => self.finalize(hash),
                    Task::ChooseHead { head, finalized } => self.choose_head(head, finalized),
                    Task::Rollback(hash) => self.rollback(hash),
                    Task::Flush => self.flush(flusher),
                };
                match &result {
                    Ok(_) => {}
                    Err(error) if error.is_ours() => tracing::error!(%error, "a command failed"),
                    Err(error) => tracing::debug!(%error, "a command was refused"),
                }
                if let Err(error) = &result {
                    self.meters.note_refusal(error);
                }
                // Whoever asked may be gone; what was done stays done.
                let _ = answer.try_send(result);
            }
            self.flush_if_due(flusher);
        }
    }

    fn apply(&mut self, block: Block) -> Answer {
        check_sizes(&block.changes)?;
        if block.hash == BlockHash::ZERO {
            return Err(ApplyError::ZeroHash);
        }
        if let Some(known) = self.known(&block)? {
            return Ok(known);
        }
        let parent = self.parent(&block)?;
        let applied = apply(&parent.view, block, &self.config.committer)?;
        self.keep(&parent, applied)
    }

    /// A block on the head with the dev rule's hash.
    fn seal(&mut self, changes: Vec<Change>) -> Answer {
        check_sizes(&changes)?;
        let parent = self.forks.head().clone();
        let Header { number, hash: parent_hash, .. } = *parent.view.header();
        let next = number.checked_add(1);
        let number = next.ok_or_else(|| not_a_child("a number that fits".into(), "one more".into()))?;
        let hash = BlockHash::ZERO;
        let block = Block { number, hash, parent_hash, timestamp_ms: None, state_root: None, changes };
        let mut applied = apply(&parent.view, block, &self.config.committer)?;
        let hash = BlockHash::of_dev_block(&parent_hash, number, &applied.header.state_root);
        if self.header_row(&hash)?.is_some() {
            return Err(ApplyError::Conflicting { hash });
        }
        applied.header.hash = hash;
        self.keep(&parent, applied)
    }

    fn finalize(&mut self, hash: BlockHash) -> Answer {
        if hash != self.forks.finalized().hash() {
            self.check_ahead(&hash)?;
            let head = self.forks.head().hash();
            let head = if self.forks.descends(&head, &hash) { head } else { hash };
            self.decide(head, hash)?;
        }
        Ok(self.forks.finalized().view.header().clone())
    }

    fn choose_head(&mut self, head: BlockHash, finalized: Option<BlockHash>) -> Answer {
        let finalized = finalized.unwrap_or(self.forks.finalized().hash());
        if finalized != self.forks.finalized().hash() {
            self.check_ahead(&finalized)?;
        }
        if head != self.forks.finalized().hash() {
            self.check_ahead(&head)?;
        }
        if !self.forks.descends(&head, &finalized) {
            return Err(not_a_child(format!("a head that descends from {finalized}"), format!("{head}")));
        }
        if (head, finalized) != (self.forks.head().hash(), self.forks.finalized().hash()) {
            self.decide(head, finalized)?;
        }
        Ok(self.forks.head().view.header().clone())
    }

    fn rollback(&mut self, hash: BlockHash) -> Answer {
        let Some(branch) = self.forks.branch(&hash).cloned() else {
            return Err(match self.header_row(&hash)? {
                Some(_) => ApplyError::Pruned { oldest: self.forks.finalized().view.header().number },
                None => ApplyError::UnknownBlock { hash },
            });
        };
        let gone = self.forks.descendants(&hash);
        let mut batch = without(&gone);
        batch.put(Column::Meta, meta::HEAD, &hash.0);
        self.store.commit(batch, Durability::Synced)?;
        self.forks.set_head(hash);
        gone.iter().for_each(|branch| self.forks.remove(branch));
        self.reader.publish(&self.forks);
        tracing::info!(number = branch.view.header().number, %hash, dropped = gone.len(), "rolled back");
        Ok(branch.view.header().clone())
    }

    /// Puts everything that is final into its columns.
    fn flush(&mut self, flusher: &mut Flusher) -> Answer {
        self.take_flushed(flusher, true);
        if let Some(flush) = self.forks.flush() {
            flusher.begin(flush);
            if let Some(Err(error)) = self.take_flushed(flusher, true) {
                return Err(error.into());
            }
        }
        Ok(self.forks.finalized().view.header().clone())
    }

    /// Begins a flush when enough is final, and waits for one when far too much is.
    fn flush_if_due(&mut self, flusher: &mut Flusher) {
        let (blocks, bytes) = self.forks.settled();
        let due = (bytes / self.config.flush_bytes.max(1)).max(blocks as u64 / self.config.flush_blocks.max(1));
        if due >= LAG_MAX {
            self.take_flushed(flusher, true);
        }
        if due >= 1
            && !flusher.is_busy()
            && let Some(flush) = self.forks.flush()
        {
            flusher.begin(flush);
        }
    }

    /// Moves the blocks over what a flush has written, if one has ended; waits for its end if told to.
    fn take_flushed(&mut self, flusher: &mut Flusher, wait: bool) -> Option<Result<(), BackendError>> {
        let ended = flusher.take(wait)?;
        Some(match ended {
            Ok(Flushed { number, hash, snapshot, took }) => {
                self.forks.rebase(snapshot, number);
                self.reader.publish(&self.forks);
                self.meters.note_flush(&took);
                let Flushing { time, rows, bytes } = took;
                tracing::debug!(number, %hash, rows, bytes, took_ms = time.as_millis() as u64, "flushed");
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "a flush failed; the journal keeps what it was to write");
                Err(error)
            }
        })
    }

    /// The answer to a block that was applied before; an error if its hash was another block's.
    fn known(&self, block: &Block) -> Result<Option<Header>, ApplyError> {
        let Some(row) = self.header_row(&block.hash)? else { return Ok(None) };
        let changes = Changes::new(block.changes.clone());
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

    /// The row of a block that is final or above the finalised one.
    fn header_row(&self, hash: &BlockHash) -> Result<Option<HeaderRow>, ApplyError> {
        let branch = self.forks.branch(hash).unwrap_or(self.forks.finalized());
        Ok(branch.view.header_row(hash)?)
    }

    /// The block that this one is a child of, if there is room for the child.
    fn parent(&self, block: &Block) -> Result<Arc<Branch>, ApplyError> {
        let Some(parent) = self.forks.branch(&block.parent_hash) else {
            return Err(match self.header_row(&block.parent_hash)? {
                None => ApplyError::UnknownParent { parent: block.parent_hash },
                Some(_) => {
                    let expected = format!("parent {} or above it", self.forks.finalized().hash());
                    not_a_child(expected, format!("parent {}", block.parent_hash))
                }
            });
        };
        let number = parent.view.header().number;
        if Some(block.number) != number.checked_add(1) {
            let expected = format!("number {}", number.saturating_add(1));
            return Err(not_a_child(expected, format!("number {}", block.number)));
        }
        if self.config.finality == Finality::Engine {
            let bytes = |(key, value): &Change| (key.len() + value.as_ref().map_or(0, Vec::len)) as u64;
            let blocks = ("blocks", self.config.unfinalised_max, self.forks.blocks().size() as u64 + 1);
            let bytes = self.forks.change_bytes() + block.changes.iter().map(bytes).sum::<u64>();
            for (what, max, got) in [blocks, ("bytes", self.config.unfinalised_bytes_max, bytes)] {
                if got > max {
                    return Err(ApplyError::TooManyUnfinalised { what, max, got });
                }
            }
        }
        Ok(parent.clone())
    }

    /// Makes an applied block durable, and shows it.
    fn keep(&mut self, parent: &Branch, applied: Applied) -> Answer {
        let started = Instant::now();
        let rows = Arc::new(finalize::rows(self.store.generation(), &applied));
        let Applied { header, content, changes, delta, mut phases } = applied;
        let (number, hash) = (header.number, header.hash);
        let size = Size { changes: changes.bytes(), rows: rows.bytes() as u64 };
        let is_head = parent.hash() == self.forks.head().hash();
        let is_final = self.config.finality == Finality::Instant;
        let mut batch = journal::entry(&HeaderRow::new(&header, content), &hash, size.changes, &rows);
        if is_head {
            batch.put(Column::Meta, meta::HEAD, &hash.0);
        }
        if is_final {
            batch.put(Column::Meta, meta::FINAL, &hash.0);
        }
        self.store.commit(batch, self.config.durability)?;
        phases.journal = started.elapsed();

        let cache = &self.store.shared().cache;
        let replaced = delta.nodes.iter().filter_map(|node| Some(node.old?.commitment.fingerprint()));
        let replaced: Arc<[u64]> = replaced.collect();
        delta.whole.into_iter().for_each(|node| cache.insert(node));
        let run = Run::new(number, rows);
        self.forks.insert(self.forks.child(parent, header.clone(), delta.root, run, size, replaced.clone()));
        if is_head {
            self.forks.set_head(hash);
        }
        match is_final {
            true => self.settle(&hash, 0),
            false => cache.retire(replaced),
        }
        self.reader.publish(&self.forks);
        phases.publish = started.elapsed() - phases.journal;
        self.meters.note_block(&phases);
        tracing::debug!(
            number,
            %hash,
            state_root = %header.state_root,
            leaves = delta.leaves.len(),
            nodes = delta.nodes.len(),
            bytes = size.rows,
            read_us = phases.read.as_micros() as u64,
            compute_us = phases.compute.as_micros() as u64,
            journal_us = phases.journal.as_micros() as u64,
            publish_us = phases.publish.as_micros() as u64,
            "block applied"
        );
        Ok(header)
    }

    /// Makes head and finalised block what they are to be, in one batch, and drops what loses.
    fn decide(&mut self, head: BlockHash, finalized: BlockHash) -> Result<(), ApplyError> {
        let is_ahead = finalized != self.forks.finalized().hash();
        let losers = if is_ahead { self.forks.losers(&finalized) } else { Vec::new() };
        let mut batch = without(&losers);
        batch.put(Column::Meta, meta::HEAD, &head.0);
        batch.put(Column::Meta, meta::FINAL, &finalized.0);
        self.store.commit(batch, Durability::Synced)?;
        self.forks.set_head(head);
        losers.iter().for_each(|branch| self.forks.remove(branch));
        self.settle(&finalized, losers.len());
        self.reader.publish(&self.forks);
        tracing::debug!(%head, %finalized, dropped = losers.len(), "decided");
        Ok(())
    }

    /// Makes final what leads to this block; so many others have lost.
    fn settle(&mut self, hash: &BlockHash, dropped: usize) {
        let (way, cache) = (self.forks.way(hash), &self.store.shared().cache);
        way.iter().for_each(|branch| cache.drop_nodes(&branch.replaced));
        self.forks.settle(hash);
        self.meters.note_finality(way.len(), dropped);
    }

    /// Refuses a block that is not above the finalised one.
    fn check_ahead(&self, hash: &BlockHash) -> Result<(), ApplyError> {
        if self.forks.blocks().contains_key(hash) {
            return Ok(());
        }
        let row = self.header_row(hash)?.ok_or(ApplyError::UnknownBlock { hash: *hash })?;
        let finalized = self.forks.finalized().view.header();
        let name = |number: u64, hash: &BlockHash| format!("block {number} {hash}");
        let expected = format!("{} or a descendant", name(finalized.number, &finalized.hash));
        Err(ApplyError::NotAhead { expected, got: name(row.number, hash) })
    }
}

/// The batch that takes blocks out of the journal.
fn without(branches: &[Arc<Branch>]) -> Batch {
    let mut batch = Batch::new();
    for branch in branches {
        let Header { number, hash, .. } = branch.view.header();
        batch.delete(Column::Fork, &journal::key(*number, hash));
    }
    batch
}

fn not_a_child(expected: String, got: String) -> ApplyError {
    ApplyError::NotAChild { expected, got }
}
