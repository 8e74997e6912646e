//! A thread that proves what blocks of the front hold to those who wait for it, while the writer goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use async_channel::Sender as Answers;

use super::WriteResult;
use crate::block::Change;
use crate::error::{ApplyError, ReadError};
use crate::view::{Proof, View};

/// A change that is in a block, and who wants it proved.
pub(crate) struct Wish {
    pub(crate) change: Change,
    /// Whether by a witness that proves nothing else.
    pub(crate) is_own: bool,
    pub(crate) answer: Answers<Result<WriteResult, ApplyError>>,
}

impl Wish {
    /// Answers that the change is durable, and that there will be no proof.
    pub(crate) fn disappoint(&self, why: &dyn std::fmt::Display) {
        // Whoever asked may be gone.
        let _ = self.answer.try_send(Err(ApplyError::Unproven { what: why.to_string() }));
    }
}

/// A block to be proved.
struct Job {
    view: View,
    wishes: Vec<Wish>,
    /// Whether the block was kept.
    is_kept: Receiver<Result<(), ApplyError>>,
}

/// The thread. Dropping this, once its doors are gone, waits until everything is proved.
pub(crate) struct Prover {
    door: Option<Door>,
    thread: Option<JoinHandle<()>>,
}

/// How blocks come to the thread.
#[derive(Clone)]
pub(crate) struct Door {
    jobs: Sender<Job>,
    under_way: Arc<AtomicUsize>,
}

impl Drop for Prover {
    fn drop(&mut self) {
        self.door = None;
        // A panic there has been told.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Prover {
    /// `wake` is called when a block's proofs are made.
    pub(crate) fn start(wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (jobs, work) = channel::<Job>();
        let under_way = Arc::new(AtomicUsize::new(0));
        let counted = under_way.clone();
        let thread = Builder::new().name("prover".into()).spawn(move || {
            for job in work {
                prove(job);
                counted.fetch_sub(1, Ordering::AcqRel);
                wake();
            }
        })?;
        Ok(Self { door: Some(Door { jobs, under_way }), thread: Some(thread) })
    }

    pub(crate) fn door(&self) -> &Door {
        self.door.as_ref().expect("it is there until this is dropped")
    }

    /// Blocks that are not proved yet.
    pub(crate) fn under_way(&self) -> usize {
        self.door().under_way.load(Ordering::Acquire)
    }
}

impl Door {
    /// Proves what a block that is being kept has; nobody is answered before it is.
    pub(crate) fn begin(&self, view: View, wishes: Vec<Wish>, is_kept: Receiver<Result<(), ApplyError>>) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        let _ = self.jobs.send(Job { view, wishes, is_kept });
    }
}

fn prove(Job { view, wishes, is_kept }: Job) {
    let claims: Vec<Change> = wishes.iter().filter(|wish| !wish.is_own).map(|wish| wish.change.clone()).collect();
    let shared = (!claims.is_empty()).then(|| view.prove(claims));
    match is_kept.recv() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return wishes.iter().for_each(|wish| wish.disappoint(&error)),
        Err(_) => return wishes.iter().for_each(|wish| wish.disappoint(&ApplyError::Closed)),
    }
    for wish in &wishes {
        match &shared {
            Some(proof) if !wish.is_own => tell(wish, proof),
            _ => tell(wish, &view.prove(vec![wish.change.clone()])),
        }
    }
}

fn tell(wish: &Wish, proof: &Result<Arc<Proof>, ReadError>) {
    match proof {
        Ok(witness) => {
            let block = witness.header.clone();
            let result = WriteResult { root: block.state_root, block, witness: witness.clone() };
            // Whoever asked may be gone.
            let _ = wish.answer.try_send(Ok(result));
        }
        Err(error) => wish.disappoint(error),
    }
}
