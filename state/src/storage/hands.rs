//! Threads that read and verify for callers who must not be kept from other work.
//!
//! Bounded: a caller whose job finds no room waits for it.

use std::thread::Builder;

use async_channel::{Sender, bounded};

/// Jobs that wait for a thread.
const JOBS_MAX: usize = 1024;

type Job = Box<dyn FnOnce() + Send>;

/// Some threads; they end when this is dropped.
pub(crate) struct Hands {
    jobs: Sender<Job>,
}

impl Hands {
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let (jobs, work) = bounded::<Job>(JOBS_MAX);
        for _ in 0..threads.max(1) {
            let work = work.clone();
            Builder::new().name("front".into()).spawn(move || {
                while let Ok(job) = work.recv_blocking() {
                    job();
                }
            })?;
        }
        Ok(Self { jobs })
    }

    /// Has something done elsewhere, and waits for what comes of it.
    pub(crate) async fn ask<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = bounded(1);
        let job: Job = Box::new(move || {
            // Whoever asked may be gone.
            let _ = answer.try_send(act());
        });
        let sent = self.jobs.send(job).await;
        assert!(sent.is_ok(), "the threads live as long as this");
        answered.recv().await.expect("no job panics")
    }
}
