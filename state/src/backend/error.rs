//! What can go wrong at the door to the disk.

use std::path::{Path, PathBuf};

/// Why a store cannot be opened, read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The backend has more to flush and compact than it may put off. Nothing was written: commit again later.
    #[error("{} is busy with what was written before: try again in {retry_ms} ms", path.display())]
    Busy {
        /// The store.
        path: PathBuf,
        /// When to try again, in milliseconds.
        retry_ms: u64,
    },
    /// The disk has less room than the commit and the reserve want. Nothing was written: make room and commit again.
    #[error(
        "the disk is full: {} has {free_bytes} bytes left, a commit wants {wanted_bytes}, the reserve among them: \
         make room there, no restart is needed",
        path.display()
    )]
    Full {
        /// The store.
        path: PathBuf,
        /// Bytes that the file system has left for us.
        free_bytes: u64,
        /// Bytes that it must have left: the reserve, and about twice the batch.
        wanted_bytes: u64,
    },
    /// The disk, or our quota of it, was full in the middle of something; when of a commit, the handle is poisoned.
    #[error("no space left on the disk: cannot {operation} {}: {what}", path.display())]
    NoSpace {
        /// What was attempted.
        operation: &'static str,
        /// The store.
        path: PathBuf,
        /// The backend's own words.
        what: String,
    },
    /// A read that would go on and on is given up.
    #[error("too much to read: {got} {what}, at most {max}: ask for a longer prefix")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The most.
        max: u64,
        /// What was met before it was given up.
        got: u64,
    },
    /// The store's files are not what was written to them.
    #[error("damaged store: cannot {operation} {}: {what}", path.display())]
    Damaged {
        /// What was attempted.
        operation: &'static str,
        /// The store.
        path: PathBuf,
        /// The backend's own words.
        what: String,
    },
    /// Someone else has the store open.
    #[error("{} is in use by another handle or process: {what}", path.display())]
    Locked {
        /// The store.
        path: PathBuf,
        /// The backend's own words.
        what: String,
    },
    /// The directory holds something that is not a store of ours. Nothing in it was touched.
    #[error("{} holds a store that is not ours: {what}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// How one can tell.
        what: String,
    },
    /// An earlier commit on this handle failed; open the store anew.
    #[error("cannot commit to {}: an earlier commit failed; reopen the store", path.display())]
    Poisoned {
        /// The store.
        path: PathBuf,
    },
    /// The operating system or the backend refused.
    #[error("cannot {operation} {}: {what}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The store.
        path: PathBuf,
        /// The backend's own words.
        what: String,
    },
}

impl BackendError {
    /// Whether nothing was written and the handle is as it was, so that the same commit may succeed later.
    pub fn is_refusal(&self) -> bool {
        matches!(self, BackendError::Busy { .. } | BackendError::Full { .. })
    }

    /// The store that the error is about.
    pub fn path(&self) -> &Path {
        match self {
            BackendError::Busy { path, .. }
            | BackendError::Full { path, .. }
            | BackendError::NoSpace { path, .. }
            | BackendError::Damaged { path, .. }
            | BackendError::Locked { path, .. }
            | BackendError::Foreign { path, .. }
            | BackendError::Poisoned { path }
            | BackendError::Io { path, .. } => path,
            BackendError::TooMuch { .. } => Path::new(""),
        }
    }
}
