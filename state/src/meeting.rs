//! Where the writer, its flusher, their callers and the readers meet: what one shows and all load, and the end of a queue.
//!
//! They share nothing else but the backend. Under test each meeting is a step, before which a checker that runs the threads
//! lets others go first (`tests/interleavings.rs`).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use async_channel::{Receiver, RecvError};

/// A value that is replaced as a whole. Who loads it never waits.
pub(crate) struct Shown<T>(ArcSwap<T>);

impl<T> Shown<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ArcSwap::from_pointee(value))
    }

    /// Shows this to everyone who loads from now on.
    pub(crate) fn show(&self, value: T) {
        step();
        self.0.store(Arc::new(value));
        step();
    }

    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        step();
        self.0.load()
    }
}

/// Waits for the next message; an error when nobody will send one.
pub(crate) fn recv<T>(queue: &Receiver<T>) -> Result<T, RecvError> {
    #[cfg(test)]
    if checker::is_on() {
        return checker::recv(queue);
    }
    queue.recv_blocking()
}

/// Lets others have the disk for a while.
pub(crate) fn pause(time: Duration) {
    #[cfg(test)]
    if checker::is_on() {
        return shuttle::thread::yield_now();
    }
    std::thread::sleep(time);
}

/// Others may go first.
pub(crate) fn step() {
    #[cfg(test)]
    if checker::is_on() {
        checker::step();
    }
}

/// What becomes of a meeting while [shuttle] runs the threads.
#[cfg(test)]
pub(crate) mod checker {
    use std::cell::Cell;

    use async_channel::{Receiver, RecvError, TryRecvError};
    use shuttle::sync::atomic::{AtomicBool, Ordering};

    thread_local! {
        /// Whether the threads that this one runs are shuttle's.
        static IS_ON: Cell<bool> = const { Cell::new(false) };
        /// Whether views are published in a wrong order.
        static IS_TORN: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn is_on() -> bool {
        IS_ON.get()
    }

    pub(crate) fn is_torn() -> bool {
        IS_TORN.get()
    }

    /// Makes this thread's meetings steps of shuttle's, with or without a mistake in publishing, while `run` runs.
    pub(crate) fn during(is_torn: bool, run: impl FnOnce()) {
        struct Off;
        impl Drop for Off {
            fn drop(&mut self) {
                IS_ON.set(false);
                IS_TORN.set(false);
            }
        }
        let _off = Off;
        IS_ON.set(true);
        IS_TORN.set(is_torn);
        run();
    }

    pub(super) fn step() {
        // Whatever is done with one of shuttle's atomics is a place to go on elsewhere.
        AtomicBool::new(false).load(Ordering::SeqCst);
    }

    pub(super) fn recv<T>(queue: &Receiver<T>) -> Result<T, RecvError> {
        loop {
            match queue.try_recv() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Closed) => return Err(RecvError),
                Err(TryRecvError::Empty) => shuttle::thread::yield_now(),
            }
        }
    }
}
