//! The way from an async call to work that takes a disk or a core.
//!
//! [`Work::run`] moves a closure to tokio's blocking pool, at most [`Work::new`]'s `running` at a time; up to
//! [`JOBS_WAITING_MAX`] wait their turn, and one more is `Busy`. A job that has begun runs to its end even when its caller
//! is gone, and keeps its place until then, so that callers who come and go cannot pile jobs up.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::limits::JOBS_WAITING_MAX;
use crate::meter::busy;

/// A bounded share of the blocking pool. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// Places in the line: those that run and those that wait.
    places: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Work {
    /// As many jobs at a time as the machine has threads, and at least four, since a job may wait for the disk.
    pub(crate) fn of_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(4, |threads| threads.get().max(4)), JOBS_WAITING_MAX)
    }

    /// `running` jobs at a time, and `waiting` more in line.
    pub(crate) fn new(running: usize, waiting: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(running + waiting)), running: Arc::new(Semaphore::new(running)) }
    }

    /// Runs `job` on the blocking pool. [`ApiError::Busy`] when the line is full; a panic in the job is our bug and
    /// becomes [`ApiError::Internal`].
    pub(crate) async fn run<T, F>(&self, job: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, ApiError> + Send + 'static,
    {
        let place = self.places.clone().try_acquire_owned().map_err(|_| busy("readers"))?;
        let turn = self.running.clone().acquire_owned().await.map_err(|_| ApiError::BUSY)?;
        let done = tokio::task::spawn_blocking(move || {
            let _held_to_the_end = (place, turn);
            job()
        });
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a job of the API panicked");
            Err(ApiError::Internal { what: "a job panicked, see the node's log".into() })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn the_line_is_bounded_and_a_job_keeps_its_place_without_its_caller() {
        let work = Work::new(1, 0);
        let (release, gate) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let caller = tokio::spawn({
            let work = work.clone();
            async move {
                work.run(move || {
                    begun.send(()).expect("the test listens");
                    gate.recv().map_err(|_| ApiError::BUSY)
                })
                .await
            }
        });
        has_begun.await.expect("the job begins");
        caller.abort();
        assert_eq!(work.run(|| Ok(1)).await, Err(ApiError::BUSY));
        release.send(()).expect("the job waits");
        // The job gives its place back at its end, whenever the pool comes to it.
        let place = work.places.acquire().await.expect("never closed");
        drop(place);
        assert_eq!(work.run(|| Ok(2)).await, Ok(2));
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_frees_the_place() {
        let work = Work::new(1, 0);
        let failed = work.run(|| -> Result<(), ApiError> { panic!("a bug") }).await;
        assert!(matches!(failed, Err(ApiError::Internal { .. })), "{failed:?}");
        assert_eq!(work.run(|| Ok(3)).await, Ok(3));
    }
}
