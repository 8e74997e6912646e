//! Whether the disk has room for a commit, asked before it begins.
//!
//! A disk that fills up in the middle of a commit, a flush or a compaction poisons the handle, and takes a restart. So
//! commits are refused before: when less would be left than a reserve, which is for what flushes and compactions write
//! meanwhile. The file system is asked at most every 100 ms or 16 MiB of commits, and at every commit once it was tight.

use std::{
    io,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::BackendError;

const ASKED_EVERY: Duration = Duration::from_millis(100);
const ASKED_EVERY_BYTES: u64 = 16 << 20;
/// The log and a table, each once, before compaction comes by.
const WRITES_PER_ROW: u64 = 2;

/// Tells the bytes that the file system of a path has left for us.
pub(super) type Probe = dyn Fn(&Path) -> io::Result<u64> + Send + Sync;

pub(super) struct Room {
    reserve_bytes: u64,
    probe: Box<Probe>,
    last: Mutex<Option<Look>>,
}

/// What was seen, and what was written since.
struct Look {
    at: Instant,
    free_bytes: u64,
    written_bytes: u64,
    was_tight: bool,
}

impl Room {
    pub(super) fn new(reserve_bytes: u64, probe: Box<Probe>) -> Room {
        Room { reserve_bytes, probe, last: Mutex::new(None) }
    }

    /// What the file system has left now; `None` when it does not tell.
    pub(super) fn free_bytes(&self, path: &Path) -> Option<u64> {
        (self.probe)(path).ok()
    }

    /// Refuses a commit of so many bytes when the reserve would not be left. A file system that does not tell has room.
    pub(super) fn take(&self, path: &Path, batch_bytes: u64) -> Result<(), BackendError> {
        if self.reserve_bytes == 0 {
            return Ok(());
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = batch_bytes.saturating_mul(WRITES_PER_ROW);
        let is_fresh = |look: &Look| {
            !look.was_tight
                && look.at.elapsed() < ASKED_EVERY
                && look.written_bytes.saturating_add(bytes) < ASKED_EVERY_BYTES
        };
        if !last.as_ref().is_some_and(is_fresh) {
            let Some(free_bytes) = self.free_bytes(path) else { return Ok(()) };
            *last = Some(Look { at: Instant::now(), free_bytes, written_bytes: 0, was_tight: false });
        }
        let Some(look) = last.as_mut() else { return Ok(()) };
        let free_bytes = look.free_bytes.saturating_sub(look.written_bytes);
        let wanted_bytes = self.reserve_bytes.saturating_add(bytes);
        look.was_tight = free_bytes < wanted_bytes;
        if look.was_tight {
            return Err(BackendError::Full { path: path.to_path_buf(), free_bytes, wanted_bytes });
        }
        look.written_bytes += bytes;
        Ok(())
    }
}

/// What the file system says to whoever is not root.
pub(super) fn ask(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
