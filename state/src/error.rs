//! What can go wrong at each door of this crate. A variant exists because a caller acts on it.

use rustorium_verkle::StateRoot;
use rustorium_verkle::tree::Damage;

use crate::backend::BackendError;
use crate::block::BlockHash;

/// Why a store cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// Written by a newer version.
    #[error("the store has format {found}, this version reads up to {supported}: run a newer rustorium")]
    Newer {
        /// The store's format.
        found: u32,
        /// The newest format that this version reads.
        supported: u32,
    },
    /// There are rows in it, and they are not ours.
    #[error("the store is not one of Rustorium's: its rows carry no format stamp; choose another directory")]
    Foreign,
    /// It holds another chain's state.
    #[error("the store holds the chain {found}, not {expected}: choose another directory or the other chain's spec")]
    OtherChain {
        /// The chain of the spec.
        expected: String,
        /// The chain in the store.
        found: String,
    },
    /// A row is missing or makes no sense.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// Which row, and how.
        what: String,
    },
    /// A genesis pair that no block could hold.
    #[error("the genesis has {what}")]
    Genesis {
        /// What is wrong.
        what: String,
    },
    /// The caller broke off the loading of the genesis; the next open starts it over.
    #[error("the loading of the genesis was broken off")]
    Interrupted,
    /// Writes that were acknowledged and are in no block could not be put into one.
    #[error("writes that were acknowledged cannot be put into a block: {what}")]
    Pending {
        /// Why.
        what: String,
    },
    /// The disk.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Why something cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The values asked for are too many bytes for one answer.
    #[error("the values have {got} bytes together, at most {max} fit in an answer: ask for fewer keys")]
    ValuesTooLarge {
        /// The most that is answered, in bytes.
        max: u64,
        /// What was asked for, in bytes.
        got: u64,
    },
    /// The store holds something that cannot be.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// Where, and how.
        what: String,
    },
    /// The disk.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl ReadError {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    /// As a snapshot says it that is made of another's rows.
    pub(crate) fn into_backend(self) -> BackendError {
        match self {
            Self::Backend(error) => error,
            error => {
                BackendError::Damaged { operation: "read", path: crate::undo::PLACE.into(), what: error.to_string() }
            }
        }
    }
}

impl From<Damage> for ReadError {
    fn from(damage: Damage) -> Self {
        Self::damaged(damage.to_string())
    }
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Backend(error) => Self::Backend(error),
            error => Self::Damaged { what: error.to_string() },
        }
    }
}

/// Why there is no view of a block.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AtError {
    /// Nobody knows this block.
    #[error("unknown block {at}")]
    Unknown {
        /// What was asked for.
        at: String,
    },
    /// The block is known, its state is gone.
    #[error("the state of this block is gone; the oldest at hand is that of block {oldest}")]
    Pruned {
        /// The oldest block number with a state.
        oldest: u64,
    },
    /// It could not be looked up.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a block was not applied or not made final. Nothing has changed, but where a commit failed ([`ApplyError::DiskFull`]
/// that does not pass, [`ApplyError::Poisoned`], [`ApplyError::Backend`]): then the next open tells whether the block is in the store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApplyError {
    /// Nobody knows the parent.
    #[error("unknown parent {parent}")]
    UnknownParent {
        /// The parent named.
        parent: BlockHash,
    },
    /// Nobody knows the block to finalise.
    #[error("unknown block {hash}")]
    UnknownBlock {
        /// The block named.
        hash: BlockHash,
    },
    /// The block is not where it should be in the tree of blocks.
    #[error("the block does not fit: expected {expected}, got {got}")]
    NotAChild {
        /// What would fit.
        expected: String,
        /// What came.
        got: String,
    },
    /// This hash belongs to a block with other content.
    #[error("block {hash} is known with other content")]
    Conflicting {
        /// The hash.
        hash: BlockHash,
    },
    /// The block's own state root is not what its changes give.
    #[error("the block says state root {expected}, its changes give {got}")]
    RootMismatch {
        /// The block's.
        expected: StateRoot,
        /// Ours.
        got: StateRoot,
    },
    /// The block to finalise is not ahead of the finalised one.
    #[error("not ahead of the finalised block: expected {expected}, got {got}")]
    NotAhead {
        /// The finalised block.
        expected: String,
        /// The block named.
        got: String,
    },
    /// A key over [`crate::KEY_BYTES_MAX`].
    #[error("a key of {got} bytes, the longest has {max}")]
    KeyTooLong {
        /// The limit, in bytes.
        max: usize,
        /// The key's bytes.
        got: usize,
    },
    /// A value over [`crate::VALUE_BYTES_MAX`].
    #[error("a value of {got} bytes, the largest has {max}")]
    ValueTooLarge {
        /// The limit, in bytes.
        max: usize,
        /// The value's bytes.
        got: usize,
    },
    /// A block of more than [`crate::CHANGES_MAX`] changes.
    #[error("a block of {got} changes, the largest has {max}")]
    TooManyChanges {
        /// The limit.
        max: usize,
        /// The block's changes.
        got: usize,
    },
    /// A block that changes more than [`crate::CHANGE_BYTES_MAX`] bytes of keys and values.
    #[error("a block changes {got} bytes of keys and values, the largest changes {max}")]
    BlockTooLarge {
        /// The limit, in bytes.
        max: usize,
        /// The block's bytes.
        got: usize,
    },
    /// A block whose changes make more rows than the journal takes: its keys were made to share long prefixes.
    #[error("a block whose changes make rows of {got} bytes, the largest has {max}: split it")]
    TooManyRows {
        /// The limit, in bytes.
        max: usize,
        /// The bytes of the block's rows.
        got: usize,
    },
    /// Too much is not final: nothing more is applied until a block is finalised.
    #[error("too much is not final: at most {max} {what}, this block makes it {got}: finalise a block")]
    TooManyUnfinalised {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: u64,
        /// What it would be.
        got: u64,
    },
    /// The block to go back to is older than the finalised one.
    #[error("the state of this block is gone; the oldest at hand is that of block {oldest}")]
    Pruned {
        /// The oldest block number with a state.
        oldest: u64,
    },
    /// The hash of 32 zero bytes is no block's.
    #[error("a block's hash is never zero")]
    ZeroHash,
    /// Too many commands wait for the writer.
    #[error("the writer is busy: try again in {retry_ms} ms")]
    Busy {
        /// When to try again, in milliseconds.
        retry_ms: u64,
    },
    /// The disk is full. What was acknowledged is safe, and reads go on.
    #[error("{what}")]
    DiskFull {
        /// Where.
        what: String,
        /// Whether nothing was written, so that writing goes on as soon as there is room; else a restart is needed.
        is_passing: bool,
    },
    /// An earlier commit failed, so nothing is written any more until a restart.
    #[error("{what}")]
    Poisoned {
        /// Where.
        what: String,
    },
    /// A front is open: it alone makes blocks.
    #[error("a front is open, which alone makes blocks and moves the head: close it first")]
    FrontOpen,
    /// The write is durable and need not be sent again; no block or no proof could be made of it.
    #[error("the write is durable, and could not be proved: {what}")]
    Unproven {
        /// Why.
        what: String,
    },
    /// The writer has ended.
    #[error("the node is shutting down")]
    Closed,
    /// What the block touches is damaged on disk.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// Where, and how.
        what: String,
    },
    /// The disk.
    #[error(transparent)]
    Backend(BackendError),
}

impl ApplyError {
    /// The variant's name: what metrics call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::UnknownParent { .. } => "UnknownParent",
            Self::UnknownBlock { .. } => "UnknownBlock",
            Self::NotAChild { .. } => "NotAChild",
            Self::Conflicting { .. } => "Conflicting",
            Self::RootMismatch { .. } => "RootMismatch",
            Self::NotAhead { .. } => "NotAhead",
            Self::KeyTooLong { .. } => "KeyTooLong",
            Self::ValueTooLarge { .. } => "ValueTooLarge",
            Self::TooManyChanges { .. } => "TooManyChanges",
            Self::BlockTooLarge { .. } => "BlockTooLarge",
            Self::TooManyRows { .. } => "TooManyRows",
            Self::TooManyUnfinalised { .. } => "TooManyUnfinalised",
            Self::Pruned { .. } => "Pruned",
            Self::ZeroHash => "ZeroHash",
            Self::Busy { .. } => "Busy",
            Self::DiskFull { .. } => "DiskFull",
            Self::Poisoned { .. } => "Poisoned",
            Self::FrontOpen => "FrontOpen",
            Self::Unproven { .. } => "Unproven",
            Self::Closed => "Closed",
            Self::Damaged { .. } => "Damaged",
            Self::Backend(_) => "Backend",
        }
    }

    /// Whether the store is to blame, and not whoever asked.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Poisoned { .. } | Self::Damaged { .. } | Self::Backend(_))
    }
}

impl From<BackendError> for ApplyError {
    fn from(error: BackendError) -> Self {
        match &error {
            BackendError::Busy { retry_ms, .. } => Self::Busy { retry_ms: *retry_ms },
            BackendError::Full { .. } => Self::DiskFull { what: error.to_string(), is_passing: true },
            BackendError::NoSpace { .. } => Self::DiskFull { what: error.to_string(), is_passing: false },
            BackendError::Poisoned { .. } => Self::Poisoned { what: error.to_string() },
            _ => Self::Backend(error),
        }
    }
}

impl From<ReadError> for ApplyError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Backend(error) => error.into(),
            error => Self::Damaged { what: error.to_string() },
        }
    }
}
