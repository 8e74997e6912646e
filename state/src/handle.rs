//! How commands reach the writer: a bounded queue, an answer for each.

use async_channel::{Receiver, Sender, TrySendError};

use crate::block::{Block, BlockHash, Change, Header};
use crate::error::ApplyError;
use crate::meeting;
use crate::metrics::BUSY;
use crate::reader::Reader;
use crate::storage::Parts;

/// When a caller should try again, in milliseconds, after [`ApplyError::Busy`].
pub(crate) const RETRY_MS: u64 = 100;

/// What a command does.
pub(crate) enum Task {
    Apply(Block),
    Seal(Vec<Change>),
    Finalize(BlockHash),
    ChooseHead { head: BlockHash, finalized: Option<BlockHash> },
    Rollback(BlockHash),
    Flush,
    OpenFront(Parts),
}

/// What the writer hears.
pub(crate) enum Message {
    /// A task and who waits for it.
    Command(Task, Sender<Answer>),
    /// A flush has ended, or something is due at the front.
    Wake,
}

/// The block that a command was about, or what came of it.
pub(crate) type Answer = Result<Header, ApplyError>;

/// Sends commands to the writer. Cheap to clone; works on any async executor and on none.
///
/// A caller that stops waiting for an answer does not take the command back.
#[derive(Clone)]
pub struct Handle {
    messages: Sender<Message>,
    reader: Reader,
}

impl Handle {
    pub(crate) fn new(messages: Sender<Message>, reader: Reader) -> Self {
        Self { messages, reader }
    }

    /// Who finds views of what this handle's writer makes.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Applies a block to its parent and makes it durable. The same block again gives the same answer. A child of the head
    /// becomes the head.
    pub async fn apply(&self, block: Block) -> Result<Header, ApplyError> {
        self.ask(Task::Apply(block)).await
    }

    /// Makes a block of these changes on the head, with [`BlockHash::of_dev_block`] for its hash.
    pub async fn seal(&self, changes: Vec<Change>) -> Result<Header, ApplyError> {
        self.ask(Task::Seal(changes)).await
    }

    /// Makes a block final, and with it what it descends from; what does not descend from it is gone. If the head is
    /// among that, the block is the head. Answers the finalised block.
    pub async fn finalize(&self, hash: BlockHash) -> Result<Header, ApplyError> {
        self.ask(Task::Finalize(hash)).await
    }

    /// Makes a block the head, and another one final if it is given, which the head descends from; both or neither.
    /// Answers the head.
    pub async fn choose_head(&self, head: BlockHash, finalized: Option<BlockHash>) -> Result<Header, ApplyError> {
        self.ask(Task::ChooseHead { head, finalized }).await
    }

    /// Makes a block the head and drops everything that descends from it: the finalised block, or one above it.
    pub async fn rollback(&self, hash: BlockHash) -> Result<Header, ApplyError> {
        self.ask(Task::Rollback(hash)).await
    }

    /// Puts everything that is final into its columns, which otherwise happens now and then. Answers the finalised block.
    pub async fn flush(&self) -> Result<Header, ApplyError> {
        self.ask(Task::Flush).await
    }

    /// [`Handle::apply`] for a caller without an executor.
    pub fn apply_blocking(&self, block: Block) -> Result<Header, ApplyError> {
        self.ask_blocking(Task::Apply(block))
    }

    /// [`Handle::finalize`] for a caller without an executor.
    pub fn finalize_blocking(&self, hash: BlockHash) -> Result<Header, ApplyError> {
        self.ask_blocking(Task::Finalize(hash))
    }

    /// [`Handle::choose_head`] for a caller without an executor.
    pub fn choose_head_blocking(&self, head: BlockHash, finalized: Option<BlockHash>) -> Result<Header, ApplyError> {
        self.ask_blocking(Task::ChooseHead { head, finalized })
    }

    /// [`Handle::rollback`] for a caller without an executor.
    pub fn rollback_blocking(&self, hash: BlockHash) -> Result<Header, ApplyError> {
        self.ask_blocking(Task::Rollback(hash))
    }

    /// [`Handle::flush`] for a caller without an executor.
    pub fn flush_blocking(&self) -> Result<Header, ApplyError> {
        self.ask_blocking(Task::Flush)
    }

    /// Takes no more commands, from this handle or any other; the writer ends when it has done the one it is at.
    pub fn close(&self) {
        self.messages.close();
    }

    pub(crate) async fn open_front(&self, parts: Parts) -> Result<Header, ApplyError> {
        self.ask(Task::OpenFront(parts)).await
    }

    /// Has the writer look what is due.
    pub(crate) fn wake(&self) {
        // A full queue has it awake, a closed one has it end.
        let _ = self.messages.try_send(Message::Wake);
    }

    async fn ask(&self, task: Task) -> Answer {
        self.send(task)?.recv().await.unwrap_or(Err(ApplyError::Closed))
    }

    fn ask_blocking(&self, task: Task) -> Answer {
        meeting::recv(&self.send(task)?).unwrap_or(Err(ApplyError::Closed))
    }

    fn send(&self, task: Task) -> Result<Receiver<Answer>, ApplyError> {
        let (answer, receiver) = async_channel::bounded(1);
        match self.messages.try_send(Message::Command(task, answer)) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => {
                metrics::counter!(BUSY, "queue" => "writer").increment(1);
                Err(ApplyError::Busy { retry_ms: RETRY_MS })
            }
            Err(TrySendError::Closed(_)) => Err(ApplyError::Closed),
        }
    }
}
