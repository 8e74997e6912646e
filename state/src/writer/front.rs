//! The writer's side of a front: gathers what callers want, makes it durable and answers, and has blocks made of it.
//!
//! Nothing here waits for a block: the sealer makes it, the prover proves it while it is kept, and both wake the writer.
//! What is gathered meanwhile is for the next one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Sender;

use super::{LAG_MAX, Writer};
use crate::backend::{Batch, Column};
use crate::block::{CHANGE_BYTES_MAX, CHANGES_MAX, Change};
use crate::error::{ApplyError, OpenError};
use crate::handle::{Answer, Message, Task};
use crate::storage::Parts;
use crate::storage::intake::{Request, Wanted};
use crate::storage::log;
use crate::storage::pending::Pending;
use crate::storage::prover::{Prover, Wish};
use crate::storage::sealer::{Ended, Sealer, Sealing};

/// How long callers that want a proof wait for others to share it with, when there were others before.
const PROOF_WAIT: Duration = Duration::from_millis(2);
/// Blocks whose proofs are being made, before the next waits.
const PROVING_MAX: usize = 2;
/// When a block that could not be made is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// An open front.
pub(super) struct Serving {
    parts: Parts,
    gathering: Gathering,
    /// The block that is being made.
    sealing: Option<Sealed>,
    /// When a block may be tried again that could not be made, and why it could not.
    retry_at: Option<Instant>,
    failure: Option<ApplyError>,
    sealer: Sealer,
    prover: Prover,
    /// The next row of the log.
    sequence: u64,
    /// Who wanted a proof of the block before.
    proofs_before: usize,
    /// Since when nothing is being proved.
    idle_since: Option<Instant>,
}

/// What the next block will have.
#[derive(Default)]
struct Gathering {
    pending: Arc<Pending>,
    changes: usize,
    bytes: usize,
    /// Since when there is something.
    since: Option<Instant>,
    wishes: Vec<Wish>,
    /// Keys whose values will be proved, and so must stay.
    proved: HashSet<Vec<u8>>,
    /// Who waits for the block.
    waiting: Vec<Sender<Answer>>,
    /// Whether the block must be made before more is gathered.
    is_cut: bool,
}

/// What the block has that is being made.
struct Sealed {
    gathering: Gathering,
    /// The last row of the log that has its changes.
    sequence: u64,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.parts.intake.shut();
    }
}

impl Serving {
    fn new(parts: Parts, sealer: Sealer, prover: Prover) -> Self {
        let gathering = Gathering::default();
        parts.overlay.show(vec![gathering.pending.clone()]);
        Self {
            parts,
            gathering,
            sealing: None,
            retry_at: None,
            failure: None,
            sealer,
            prover,
            sequence: 0,
            proofs_before: 0,
            idle_since: None,
        }
    }

    fn is_over(&self) -> bool {
        let is_idle = self.sealing.is_none() && self.gathering.changes == 0;
        is_idle && self.parts.intake.is_closed() && self.parts.intake.is_empty()
    }

    /// Requests for the next block.
    fn take(&mut self) -> Vec<Request> {
        let Self { parts, gathering, sealing, .. } = self;
        let (changes, bytes) = sealing.as_ref().map_or((0, 0), |s| (s.gathering.changes, s.gathering.bytes));
        let config = &parts.config;
        let has_room = |gathering: &Gathering| {
            gathering.changes == 0
                || gathering.changes + changes < config.pending_changes_max
                    && gathering.bytes + bytes < config.pending_bytes_max
        };
        parts.intake.take(|request| has_room(gathering) && gathering.admit(request))
    }

    /// When the next block is to be made, if only time is lacking.
    fn due_at(&self, now: Instant) -> Option<Instant> {
        let (gathering, config) = (&self.gathering, &self.parts.config);
        let since = gathering.since?;
        let is_due = gathering.is_cut
            || !gathering.waiting.is_empty()
            || gathering.changes >= config.block_changes
            || gathering.bytes >= config.block_bytes
            || self.parts.intake.is_closed();
        if is_due {
            return Some(now);
        }
        let in_time = since + Duration::from_millis(config.block_ms);
        match gathering.wishes.len() {
            0 => Some(in_time),
            wishes if wishes >= self.proofs_before.max(1) && self.idle_since.is_some() => Some(now),
            // Those whose proofs were made a moment ago may come again. The prover's end wakes us.
            _ => Some(self.idle_since.map_or(in_time, |idle| in_time.min(since.max(idle) + PROOF_WAIT))),
        }
    }

    /// Answers whoever waits for the block that cannot be made, or for the one after it.
    fn disappoint(&mut self, error: &ApplyError) {
        let sealed = self.sealing.as_mut().map(|sealed| &mut sealed.gathering);
        for gathering in sealed.into_iter().chain([&mut self.gathering]) {
            gathering.wishes.drain(..).for_each(|wish| wish.disappoint(error));
            for answer in gathering.waiting.drain(..) {
                let _ = answer.try_send(Err(error.clone()));
            }
        }
    }

    /// Refuses what would wait for room while no block can be made.
    fn refuse_without_room(&self) {
        if let Some(error) = &self.failure {
            self.parts.intake.take(|_| true).into_iter().for_each(|request| request.refuse(error.clone()));
        }
    }
}

impl Gathering {
    /// Counts a request in, unless it belongs into a later block.
    fn admit(&mut self, request: &Request) -> bool {
        let (changes, bytes) = (self.changes + request.changes.len(), self.bytes + request.bytes);
        let is_proved = |(key, _): &Change| self.proved.contains(key);
        let is_too_much = self.changes > 0 && (changes > CHANGES_MAX || bytes > CHANGE_BYTES_MAX);
        self.is_cut |= is_too_much || !self.proved.is_empty() && request.changes.iter().any(is_proved);
        if self.is_cut {
            return false;
        }
        if let Wanted::Proof { .. } = request.wanted {
            self.proved.extend(request.changes.iter().map(|(key, _)| key.clone()));
        }
        (self.changes, self.bytes) = (changes, bytes);
        true
    }

    /// Takes back what was counted in.
    fn dismiss(&mut self, request: &Request) {
        self.changes -= request.changes.len();
        self.bytes -= request.bytes;
        if let Wanted::Proof { .. } = request.wanted {
            self.proved.retain(|proved| request.changes.iter().all(|(key, _)| key != proved));
        }
    }

    /// Shows changes that are durable, and answers.
    fn keep(&mut self, request: Request) {
        let Request { changes, wanted, .. } = request;
        match wanted {
            Wanted::Durable(answer) => {
                changes.into_iter().for_each(|change| self.pending.insert(change));
                // Whoever asked may be gone; what is done stays done.
                let _ = answer.try_send(Ok(()));
            }
            Wanted::Proof { is_own, answer } => {
                for change in changes {
                    self.wishes.push(Wish { change: change.clone(), is_own, answer: answer.clone() });
                    self.pending.insert(change);
                }
            }
            Wanted::Block(answer) => self.waiting.push(answer),
        }
    }
}

impl Writer {
    pub(super) fn open_front(&mut self, parts: Parts) -> Answer {
        if self.serving.is_some() {
            return Err(ApplyError::FrontOpen);
        }
        let wake = || {
            let messages = self.wake.clone();
            move || {
                if let Some(messages) = messages.upgrade() {
                    let _ = messages.try_send(Message::Wake);
                }
            }
        };
        let prover = Prover::start(wake()).expect("a thread for proofs");
        let sealer = Sealer::start(prover.door().clone(), wake()).expect("a thread for blocks");
        self.serving = Some(Serving::new(parts, sealer, prover));
        Ok(self.forks.head().view.header().clone())
    }

    /// Refuses what would move the head beneath an open front.
    pub(super) fn check_front(&self, task: &Task) -> Result<(), ApplyError> {
        let moves = match task {
            Task::Apply(_) | Task::Seal(_) | Task::ChooseHead { .. } | Task::Rollback(_) => true,
            Task::Finalize(hash) => !self.forks.descends(&self.forks.head().hash(), hash),
            Task::Flush | Task::OpenFront(_) => false,
        };
        match moves && self.serving.is_some() {
            true => Err(ApplyError::FrontOpen),
            false => Ok(()),
        }
    }

    /// Does for the front what is due.
    pub(super) fn serve(&mut self) {
        let Some(mut serving) = self.serving.take() else { return };
        self.take_sealed(&mut serving, false);
        self.gather(&mut serving);
        if self.seal_if_due(&mut serving) {
            // What was for a later block is for the next one now.
            self.gather(&mut serving);
        }
        serving.refuse_without_room();
        if !serving.is_over() {
            self.serving = Some(serving);
        }
    }

    /// Takes in what waits and makes a last block, or leaves it to the next opening where that cannot be.
    pub(super) fn end_front(&mut self) {
        let Some(mut serving) = self.serving.take() else { return };
        serving.parts.intake.shut();
        for _ in 0..2 {
            self.take_sealed(&mut serving, true);
            // One that could not be made is tried once more.
            serving.retry_at = serving.sealing.as_ref().map(|_| Instant::now());
            self.seal_if_due(&mut serving);
        }
        self.take_sealed(&mut serving, true);
        if !serving.is_over() {
            tracing::error!("the last block of the front could not be made; the next opening will make it");
        }
    }

    /// Makes what waits durable, in one row of the log, shows it and answers.
    fn gather(&mut self, serving: &mut Serving) {
        let requests = serving.take();
        if requests.is_empty() {
            return;
        }
        let changes = || requests.iter().flat_map(|request| &request.changes);
        let (count, bytes) = (changes().count(), requests.iter().map(|request| request.bytes).sum());
        if count > 0 {
            let mut batch = Batch::new();
            batch.put(Column::Aux, &log::key(serving.sequence), &log::encode(count, bytes, changes()));
            if let Err(error) = self.store.commit(batch, self.config.durability) {
                let error = ApplyError::from(error);
                tracing::error!(%error, changes = count, "changes were not taken into the log");
                for request in requests {
                    serving.gathering.dismiss(&request);
                    request.refuse(error.clone());
                }
                serving.gathering.is_cut &= serving.gathering.changes > 0;
                // Nothing would wake us for those who found no room beside them.
                serving.parts.intake.take(|_| true).into_iter().for_each(|request| request.refuse(error.clone()));
                return;
            }
            serving.sequence += 1;
            serving.gathering.since.get_or_insert_with(Instant::now);
        }
        requests.into_iter().for_each(|request| serving.gathering.keep(request));
        if serving.gathering.changes == 0 {
            self.answer_idle(serving);
        }
    }

    /// Answers those who wait for a block of nothing.
    fn answer_idle(&self, serving: &mut Serving) {
        let waiting = serving.gathering.waiting.drain(..);
        match &mut serving.sealing {
            Some(sealed) => sealed.gathering.waiting.extend(waiting),
            None => {
                let head = self.forks.head().view.header();
                waiting.for_each(|answer| drop(answer.try_send(Ok(head.clone()))));
            }
        }
    }

    /// Begins a block when it is due, or one that could not be made before; whether it has.
    fn seal_if_due(&mut self, serving: &mut Serving) -> bool {
        let now = Instant::now();
        match serving.prover.under_way() {
            0 => drop(serving.idle_since.get_or_insert(now)),
            _ => serving.idle_since = None,
        }
        let due_at = match (&serving.sealing, serving.retry_at) {
            (Some(_), None) => return false,
            (_, Some(at)) => Some(at),
            (None, None) => serving.due_at(now),
        };
        let Some(due_at) = due_at else { return false };
        if due_at > now {
            serving.sealer.wake_at(due_at, now);
            return false;
        }
        let is_closing = serving.parts.intake.is_closed();
        if !is_closing && serving.prover.under_way() >= PROVING_MAX {
            return false;
        }
        if !is_closing && self.flushes_due() >= LAG_MAX {
            match &self.flush_failure {
                Some((error, _)) => self.put_off(serving, &ApplyError::from(error.clone())),
                // The flusher wakes us.
                None => serving.sealer.wake_at(now + RETRY, now),
            }
            return false;
        }
        serving.retry_at = None;
        let has_begun = serving.sealing.is_none();
        if has_begun {
            let gathering = std::mem::take(&mut serving.gathering);
            serving.proofs_before = gathering.wishes.len();
            serving.parts.overlay.show(vec![serving.gathering.pending.clone(), gathering.pending.clone()]);
            serving.sealing = Some(Sealed { gathering, sequence: serving.sequence - 1 });
        }
        let Sealed { gathering, .. } = serving.sealing.as_mut().expect("set above, or before");
        if let Err(error) = self.check_room(gathering.bytes as u64) {
            self.put_off(serving, &error);
            return has_begun;
        }
        let (changes, wishes) = (gathering.pending.clone(), std::mem::take(&mut gathering.wishes));
        let (parent, ground) = (self.forks.head().clone(), self.forks.ground());
        serving.sealer.begin(Sealing { parent, ground, changes, wishes });
        has_begun
    }

    /// Keeps the block that the sealer has made, if it has.
    fn take_sealed(&mut self, serving: &mut Serving, wait: bool) {
        let Some(ended) = serving.sealer.take(wait) else { return };
        let sequence = serving.sealing.as_ref().expect("a block was begun").sequence;
        let kept = ended.and_then(|Ended { mut made, kept }| {
            log::delete_through(&mut made.entry, sequence);
            let answer = self.keep_sealed(made);
            if let Some(kept) = kept {
                let _ = kept.send(answer.as_ref().map(drop).map_err(ApplyError::clone));
            }
            answer
        });
        match kept {
            Ok(header) => {
                serving.failure = None;
                // The head has them by now.
                serving.parts.overlay.show(vec![serving.gathering.pending.clone()]);
                let Sealed { gathering, .. } = serving.sealing.take().expect("a block was begun");
                let Gathering { pending, waiting, .. } = gathering;
                waiting.iter().for_each(|answer| drop(answer.try_send(Ok(header.clone()))));
                serving.sealer.free(pending);
            }
            Err(error) => self.put_off(serving, &error),
        }
    }

    /// A block could not be made: what it is to have stays, and it is tried again.
    fn put_off(&self, serving: &mut Serving, error: &ApplyError) {
        tracing::error!(%error, "no block could be made of what was acknowledged; it is tried again");
        serving.disappoint(error);
        serving.failure = Some(error.clone());
        let now = Instant::now();
        serving.retry_at = Some(now + RETRY);
        serving.sealer.wake_at(now + RETRY, now);
    }

    /// Makes blocks of what a front had acknowledged when the store was last open.
    pub(super) fn seal_left(&mut self) -> Result<(), OpenError> {
        let snapshot = self.store.backend().snapshot()?;
        let (mut changes, mut bytes, mut last): (Vec<Change>, usize, u64) = (Vec::new(), 0, 0);
        log::for_each(&*snapshot, |sequence, row| {
            let row_bytes: usize = row.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
            if changes.len() + row.len() > CHANGES_MAX || bytes + row_bytes > CHANGE_BYTES_MAX {
                self.seal_rows(std::mem::take(&mut changes), last)?;
                bytes = 0;
            }
            (bytes, last) = (bytes + row_bytes, sequence);
            changes.extend(row);
            Ok::<(), OpenError>(())
        })?;
        match changes.is_empty() {
            true => Ok(()),
            false => self.seal_rows(changes, last),
        }
    }

    fn seal_rows(&mut self, changes: Vec<Change>, last: u64) -> Result<(), OpenError> {
        let count = changes.len();
        let view = self.forks.head().view.clone();
        let made = crate::apply::seal(&view, changes, self.store.generation(), &self.config.committer);
        let kept = made.and_then(|mut made| {
            log::delete_through(&mut made.entry, last);
            self.keep_sealed(made)
        });
        let header = kept.map_err(|error| match error {
            ApplyError::Damaged { what } => OpenError::Damaged { what },
            error => OpenError::Pending { what: error.to_string() },
        })?;
        tracing::info!(changes = count, number = header.number, hash = %header.hash, "acknowledged changes sealed");
        Ok(())
    }
}
