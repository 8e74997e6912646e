//! The one loop that owns what changes.
//!
//! [`Writer::run`] blocks until every [`Handle`] is gone; give it a thread of its own, beside which it starts one that puts
//! final blocks into their columns. A command is answered when what it did is durable. Bounds: [`COMMANDS_MAX`] commands
//! wait at most, further ones are answered [`ApplyError::Busy`]; unfinalised blocks as [`Config`] says; final blocks that
//! are not in their columns yet make the writer wait at [`LAG_MAX`] times what a flush takes.

mod blocks;
mod choices;
mod front;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use async_channel::{Receiver, WeakSender};

use crate::backend::{Backend, BackendError};
use crate::block::BlockHash;
use crate::config::Config;
use crate::error::{ApplyError, OpenError};
use crate::flush::{Flushed, Flusher, Work};
use crate::forks::Forks;
use crate::handle::{Answer, Handle, Message, Task};
use crate::meeting;
use crate::meters::{Flushing, Meters};
use crate::reader::Reader;
use crate::schema::HeaderRow;
use crate::store::{Genesis, Progress, Store};
use crate::view::Shared;
use crate::watch::EndsWatches;

use self::front::Serving;

/// Commands that may wait for the writer.
pub const COMMANDS_MAX: usize = 64;
/// Flushes that may be due before the writer waits for one.
const LAG_MAX: u64 = 4;
/// How long none is begun by itself after one has failed: a full disk does not empty between two commands.
const FLUSH_PAUSE: Duration = Duration::from_secs(5);

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
    let mut writer = Writer {
        store,
        config: config.clone(),
        forks,
        reader: reader.clone(),
        messages,
        flush_failure: None,
        wake: sender.downgrade(),
        meters: Meters::new(),
        serving: None,
        _ends_watches: reader.ends_watches(),
    };
    writer.seal_left()?;
    Ok((writer, Handle::new(sender, reader.clone()), reader))
}

/// Owns the store. Nobody else writes.
pub struct Writer {
    store: Store,
    config: Config,
    forks: Forks,
    reader: Reader,
    messages: Receiver<Message>,
    /// Why the last flush failed, if it did, and until when none is begun by itself.
    flush_failure: Option<(BackendError, Instant)>,
    /// To hear of flushes that have ended.
    wake: WeakSender<Message>,
    meters: Meters,
    /// Whoever watches hears that there is nothing more to come.
    _ends_watches: EndsWatches,
    /// The front, while one is open.
    serving: Option<Serving>,
}

impl Writer {
    /// Carries out commands until no [`Handle`] is left or one of them closed the door; those that wait then are answered
    /// [`ApplyError::Closed`].
    ///
    /// # Panics
    /// If the system gives it no thread.
    pub fn run(self) {
        std::thread::scope(|scope| {
            self.run_beside(|flusher| Builder::new().name("flusher".into()).spawn_scoped(scope, flusher).map(drop));
        });
        tracing::debug!("the writer ends");
    }

    /// Runs beside a flusher that `spawn` gives a thread.
    pub(crate) fn run_beside<'a>(mut self, spawn: impl FnOnce(Work<'a>) -> io::Result<()>) {
        let (backend, wake) = (self.store.backend().clone(), self.wake.clone());
        let wake = move || {
            if let Some(messages) = wake.upgrade() {
                // A full queue has the writer awake, a closed one has it end.
                let _ = messages.try_send(Message::Wake);
            }
        };
        let (shared, history) = (self.store.shared().clone(), self.config.history);
        let mut flusher = Flusher::start(spawn, backend, shared, history, wake).expect("a thread for flushes");
        self.carry_out(&mut flusher);
        self.end_front();
    }

    fn carry_out(&mut self, flusher: &mut Flusher) {
        while let Ok(message) = meeting::recv(&self.messages) {
            self.take_flushed(flusher, false);
            if let Message::Command(task, answer) = message {
                let refused = match self.messages.is_closed() {
                    true => Err(ApplyError::Closed),
                    false => self.check_front(&task),
                };
                let result = refused.and_then(|()| match task {
                    Task::Apply(block) => {
                        let answer = self.apply(block);
                        self.meters.note_answer(&answer);
                        answer
                    }
                    Task::Seal(changes) => {
                        let answer = self.seal(changes);
                        self.meters.note_answer(&answer);
                        answer
                    }
                    Task::Finalize(hash) => self.finalize(hash),
                    Task::ChooseHead { head, finalized } => self.choose_head(head, finalized),
                    Task::Rollback(hash) => self.rollback(hash, flusher),
                    Task::Flush => self.flush(flusher),
                    Task::OpenFront(parts) => self.open_front(parts),
                });
                match &result {
                    Ok(_) => {}
                    Err(error) if error.is_ours() => tracing::error!(%error, "a command failed"),
                    Err(error) => tracing::debug!(%error, "a command was refused"),
                }
                // Whoever asked may be gone; what was done stays done.
                let _ = answer.try_send(result);
            }
            self.serve();
            self.flush_if_due(flusher);
        }
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
        let due = self.flushes_due();
        // A front's blocks wait instead, so that its callers need not.
        if due >= LAG_MAX && self.serving.is_none() {
            self.take_flushed(flusher, true);
        }
        if due >= 1
            && !flusher.is_busy()
            && self.flush_failure.as_ref().is_none_or(|(_, until)| Instant::now() >= *until)
            && let Some(flush) = self.forks.flush()
        {
            flusher.begin(flush);
        }
    }

    /// How many flushes would be worth their while.
    fn flushes_due(&self) -> u64 {
        let (blocks, bytes) = self.forks.settled();
        (bytes / self.config.flush_bytes.max(1)).max(blocks as u64 / self.config.flush_blocks.max(1))
    }

    /// Moves the blocks over what a flush has written, if one has ended; waits for its end if told to.
    fn take_flushed(&mut self, flusher: &mut Flusher, wait: bool) -> Option<Result<(), BackendError>> {
        let ended = flusher.take(wait)?;
        Some(match ended {
            Ok(Flushed { number, hash, snapshot, kept, took }) => {
                self.flush_failure = None;
                self.forks.rebase(snapshot, kept, number);
                self.reader.publish(&self.forks);
                self.meters.note_flush(&took);
                let Flushing { time, rows, bytes } = took;
                tracing::debug!(number, %hash, rows, bytes, took_ms = time.as_millis() as u64, "flushed");
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "a flush failed; the journal keeps what it was to write");
                self.flush_failure = Some((error.clone(), Instant::now() + FLUSH_PAUSE));
                Err(error)
            }
        })
    }

    /// The row of a block that is final or above the finalised one.
    fn header_row(&self, hash: &BlockHash) -> Result<Option<HeaderRow>, ApplyError> {
        let branch = self.forks.branch(hash).unwrap_or(self.forks.finalized());
        Ok(branch.view.header_row(hash)?)
    }
}

fn not_a_child(expected: String, got: String) -> ApplyError {
    ApplyError::NotAChild { expected, got }
}
