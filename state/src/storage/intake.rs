//! What callers want of the front, until the writer comes by: a queue that is bounded in requests and in bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_channel::Sender;

use super::{FrontConfig, WriteResult};
use crate::block::Change;
use crate::error::ApplyError;
use crate::handle::{Answer, RETRY_MS};
use crate::metrics::BUSY;

/// Changes that are done together, and what is answered.
pub(crate) struct Request {
    pub(crate) changes: Vec<Change>,
    /// Of keys and values.
    pub(crate) bytes: usize,
    pub(crate) wanted: Wanted,
}

/// What a caller waits for.
pub(crate) enum Wanted {
    /// That the changes are durable.
    Durable(Sender<Result<(), ApplyError>>),
    /// That the one change is in a block, and what proves it: a witness of all that were asked for with it, or one of its
    /// own.
    Proof { is_own: bool, answer: Sender<Result<WriteResult, ApplyError>> },
    /// That everything before is in a block.
    Block(Sender<Answer>),
}

impl Request {
    pub(crate) fn new(changes: Vec<Change>, wanted: Wanted) -> Self {
        let bytes = changes.iter().map(bytes_of).sum();
        Self { changes, bytes, wanted }
    }

    /// Answers that nothing came of it.
    pub(crate) fn refuse(self, error: ApplyError) {
        // Whoever asked may be gone.
        match self.wanted {
            Wanted::Durable(answer) => drop(answer.try_send(Err(error))),
            Wanted::Proof { answer, .. } => drop(answer.try_send(Err(error))),
            Wanted::Block(answer) => drop(answer.try_send(Err(error))),
        }
    }
}

fn bytes_of((key, value): &Change) -> usize {
    key.len() + value.as_ref().map_or(0, Vec::len)
}

/// Requests that wait for the writer.
pub(crate) struct Intake {
    queue: Mutex<Queue>,
    requests_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    bytes: usize,
    is_closed: bool,
    /// Whether the writer knows that there is something here.
    is_told: bool,
}

impl Intake {
    pub(crate) fn new(config: &FrontConfig) -> Self {
        Self { queue: Mutex::default(), requests_max: config.queue_max, bytes_max: config.queue_bytes_max }
    }

    /// Takes a request in; whether the writer must be told. A single one may have any number of bytes.
    pub(crate) fn push(&self, request: Request) -> Result<bool, ApplyError> {
        let mut queue = self.queue();
        if queue.is_closed {
            return Err(ApplyError::Closed);
        }
        let is_full = queue.requests.len() >= self.requests_max || queue.bytes + request.bytes > self.bytes_max;
        if is_full && !queue.requests.is_empty() {
            metrics::counter!(BUSY, "queue" => "front").increment(1);
            return Err(ApplyError::Busy { retry_ms: RETRY_MS });
        }
        queue.bytes += request.bytes;
        queue.requests.push_back(request);
        Ok(!std::mem::replace(&mut queue.is_told, true))
    }

    /// Takes a last request in, however many there are.
    pub(crate) fn push_last(&self, request: Request) -> Result<(), ApplyError> {
        let mut queue = self.queue();
        if std::mem::replace(&mut queue.is_closed, true) {
            return Err(ApplyError::Closed);
        }
        queue.requests.push_back(request);
        Ok(())
    }

    /// The first requests, as long as they fit. While others are left the writer must come back by itself.
    pub(crate) fn take(&self, mut fits: impl FnMut(&Request) -> bool) -> Vec<Request> {
        let mut queue = self.queue();
        let count = queue.requests.iter().take_while(|request| fits(request)).count();
        let taken: Vec<Request> = queue.requests.drain(..count).collect();
        queue.bytes -= taken.iter().map(|request| request.bytes).sum::<usize>();
        queue.is_told = !queue.requests.is_empty();
        taken
    }

    /// Takes nothing in any more.
    pub(crate) fn close(&self) {
        self.queue().is_closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue().is_closed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue().requests.is_empty()
    }

    /// Takes nothing in any more, and refuses what waits.
    pub(crate) fn shut(&self) {
        self.close();
        self.take(|_| true).into_iter().for_each(|request| request.refuse(ApplyError::Closed));
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic in between leaves counts and requests as they belong together.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
