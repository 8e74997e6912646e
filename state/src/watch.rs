//! Hearing of new heads and final blocks.
//!
//! Whoever watches has a queue of his own into which the writer puts what it publishes. The writer waits for nobody: what
//! does not fit is counted, and who has missed something is told so and hears nothing more. Bounds: a queue's length, which
//! is also how many old blocks a slow watcher can keep in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_channel::{Receiver, Sender, TrySendError};

use crate::block::BlockHash;
use crate::view::View;

/// The newest blocks, as they were at some moment.
#[derive(Clone)]
pub struct Tip {
    /// The newest block of the chain that counts.
    pub head: Arc<View>,
    /// The newest final block.
    pub finalized: Arc<View>,
}

impl Tip {
    pub(crate) fn hashes(&self) -> [BlockHash; 2] {
        [&self.head, &self.finalized].map(|view| view.header().hash)
    }
}

/// Why a watch has nothing more to tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WatchEnd {
    /// The watcher was too slow.
    #[error("{tips} moves of the newest blocks were missed")]
    Missed {
        /// How many times head or finality moved without the watcher hearing of it.
        tips: u64,
    },
    /// The writer has ended.
    #[error("the node is shutting down")]
    Closed,
}

/// Tells of each move of head or finality, in their order. A tip is where one command of the writer led: when it moved by
/// several blocks at once, those between are found by their parents.
pub struct Watch {
    tips: Receiver<Tip>,
    missed: Arc<AtomicU64>,
    /// What was told last.
    last: [BlockHash; 2],
}

impl Watch {
    /// The next move. Loses nothing when dropped half-way.
    pub async fn next(&mut self) -> Result<Tip, WatchEnd> {
        loop {
            self.check_missed()?;
            let tip = self.tips.recv().await.map_err(|_| WatchEnd::Closed)?;
            if let Some(tip) = self.take(tip) {
                return Ok(tip);
            }
        }
    }

    /// [`Watch::next`] for a caller without an executor.
    pub fn next_blocking(&mut self) -> Result<Tip, WatchEnd> {
        loop {
            self.check_missed()?;
            let tip = self.tips.recv_blocking().map_err(|_| WatchEnd::Closed)?;
            if let Some(tip) = self.take(tip) {
                return Ok(tip);
            }
        }
    }

    fn check_missed(&self) -> Result<(), WatchEnd> {
        match self.missed.load(Ordering::Acquire) {
            0 => Ok(()),
            missed => Err(WatchEnd::Missed { tips: missed + self.tips.len() as u64 }),
        }
    }

    /// A tip that was published while the watch began may be the one that it began with.
    fn take(&mut self, tip: Tip) -> Option<Tip> {
        let hashes = tip.hashes();
        let is_new = hashes != self.last;
        self.last = hashes;
        is_new.then_some(tip)
    }
}

/// All who watch.
#[derive(Default)]
pub(crate) struct Watches(Mutex<List>);

#[derive(Default)]
struct List {
    watchers: Vec<Watcher>,
    /// Whether there will be nothing more to hear.
    has_ended: bool,
}

struct Watcher {
    tips: Sender<Tip>,
    missed: Arc<AtomicU64>,
}

impl Watches {
    /// A watch from what is published now on.
    pub(crate) fn add(&self, tips_max: usize, published: impl FnOnce() -> Tip) -> (Tip, Watch) {
        let (sender, tips) = async_channel::bounded(tips_max.max(1));
        let missed = Arc::new(AtomicU64::new(0));
        // With the list held: what is published from now on waits for its turn to be told.
        let mut list = self.list();
        if !list.has_ended {
            list.watchers.push(Watcher { tips: sender, missed: missed.clone() });
        }
        let now = published();
        let last = now.hashes();
        (now, Watch { tips, missed, last })
    }

    /// Tells everyone, and forgets those who are gone.
    pub(crate) fn tell(&self, tip: &Tip) {
        self.list().watchers.retain(|watcher| match watcher.tips.try_send(tip.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                watcher.missed.fetch_add(1, Ordering::AcqRel);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        });
    }

    fn list(&self) -> MutexGuard<'_, List> {
        // Nothing that is done with it panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends all watches when it is dropped.
pub(crate) struct EndsWatches(pub(crate) Arc<Watches>);

impl Drop for EndsWatches {
    fn drop(&mut self) {
        let mut list = self.0.list();
        list.has_ended = true;
        list.watchers.clear();
    }
}
