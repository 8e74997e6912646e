//! What the writer and its flushes tell operators; the names are in [`crate::metrics`].

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use crate::error::ApplyError;
use crate::metrics as names;

/// Handles that are looked up once.
pub(crate) struct Meters {
    applied: Counter,
    finalised: Counter,
    dropped: Counter,
    phases: [Histogram; 4],
    flush_seconds: Histogram,
    flush_rows: Histogram,
    flush_bytes: Histogram,
}

/// How long the parts of a block took.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Phases {
    pub(crate) read: Duration,
    /// Of that, the processor's part: the rest was spent on waiting for the disk.
    pub(crate) read_cpu: Duration,
    pub(crate) compute: Duration,
    pub(crate) journal: Duration,
    pub(crate) publish: Duration,
}

/// What a flush took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flushing {
    pub(crate) time: Duration,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let phase = |phase: &'static str| histogram!(names::APPLY_SECONDS, "phase" => phase);
        Self {
            applied: counter!(names::BLOCKS_APPLIED),
            finalised: counter!(names::BLOCKS_FINALISED),
            dropped: counter!(names::FORKS_DROPPED),
            phases: ["read", "compute", "journal", "publish"].map(phase),
            flush_seconds: histogram!(names::FLUSH_SECONDS),
            flush_rows: histogram!(names::FLUSH_ROWS),
            flush_bytes: histogram!(names::FLUSH_BYTES),
        }
    }

    pub(crate) fn note_block(&self, phases: &Phases) {
        let Phases { read, compute, journal, publish, .. } = *phases;
        self.applied.increment(1);
        for (histogram, time) in self.phases.iter().zip([read, compute, journal, publish]) {
            histogram.record(time);
        }
    }

    /// Counts a block that was refused.
    pub(crate) fn note_answer<T>(&self, answer: &Result<T, ApplyError>) {
        if let Err(error) = answer {
            counter!(names::BLOCKS_REFUSED, "reason" => error.name()).increment(1);
        }
    }

    pub(crate) fn note_finality(&self, finalised: usize, dropped: usize) {
        self.finalised.increment(finalised as u64);
        self.dropped.increment(dropped as u64);
    }

    pub(crate) fn note_flush(&self, flushing: &Flushing) {
        self.flush_seconds.record(flushing.time);
        self.flush_rows.record(flushing.rows as f64);
        self.flush_bytes.record(flushing.bytes as f64);
    }
}
