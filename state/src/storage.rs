//! The door for programs that keep their own state here: keys and values, many writers at once, blocks made by themselves.
//!
//! [`Front::open`] lays a front over a running [`crate::Writer`]; a front is a [`Storage`], cheap to clone, and works on any
//! async executor. Writes of all callers are gathered and made durable together, and each is answered then: *acknowledged*.
//! A block is made of what was acknowledged when enough has come together, when some time has gone by
//! ([`FrontConfig`]), or when somebody asks for a proof or a root. It stands on the head, its hash is
//! [`crate::BlockHash::of_dev_block`], and with [`crate::Finality::Instant`] it is final at once.
//!
//! # What holds
//!
//! - Acknowledged is durable, as [`crate::Config::durability`] has it: after a crash at any moment the store opens with every
//!   acknowledged write in a block, each once.
//! - A read sees every write that was acknowledged before it began.
//! - Writes take effect in the order in which they were sent; of one key the last counts. A batch is in one block, all of it.
//! - A proof is of the very value that was written with it: a later write of the same key goes into a later block.
//! - Nothing happens before a future is polled. One that is dropped afterwards, unanswered, leaves its write to be done or
//!   refused, wholly, as if the answer had been lost: a read that begins later tells, once another write by the same task
//!   has been acknowledged.
//! - Everything is bounded. Where the queue is full, [`ApplyError::Busy`]; where blocks cannot be made as fast as writes
//!   come, writes wait.
//! - While a front is open it alone makes blocks: what [`crate::Handle`] does to the head is refused
//!   ([`ApplyError::FrontOpen`]). Finality of the front's own blocks, flushes and all reads go on.

mod front;
mod hands;
pub(crate) mod intake;
pub(crate) mod log;
pub(crate) mod pending;
pub(crate) mod prover;
pub(crate) mod sealer;

use std::sync::Arc;

use rustorium_verkle::{Invalid, StateRoot};

use crate::block::{BlockHash, Change, Header};
use crate::error::{ApplyError, ReadError};
use crate::view::Proof;

pub(crate) use front::Parts;
pub use front::{Front, FrontConfig};

/// A key-value store that proves what it holds.
///
/// ```
/// use std::{ops::ControlFlow, sync::Arc};
/// use rustorium_state::{BlockHash, Config, Front, FrontConfig, Genesis, Storage, backend::Memory};
/// use rustorium_verkle::{Committer, WindowBits};
///
/// // A store in memory; `backend::Rocks` keeps it on disk. The writer wants a thread.
/// let config = Config::new(Arc::new(Committer::new(WindowBits::SMALL)));
/// let genesis = Genesis { id: "example", pairs: &[], hash: &|root| BlockHash(root.0) };
/// let (writer, handle, _) =
///     rustorium_state::open(Arc::new(Memory::new()), &genesis, &config, &mut |_| ControlFlow::Continue(())).unwrap();
/// let writing = std::thread::spawn(|| writer.run());
///
/// // Any executor does; in a program with tokio this would be `#[tokio::main]`.
/// pollster::block_on(async {
///     let storage = Front::open(&handle, FrontConfig::default()).await?;
///     storage.write("alice", "100").await?; // durable from here on
///     let found = storage.read(b"alice").await.unwrap().unwrap();
///     assert_eq!(found.value, b"100");
///
///     let written = storage.write_with_proof("bob", "7").await?; // in a block from here on
///     assert_eq!(written.root, written.block.state_root);
///     storage.verify_proof(b"bob", Some(b"7"), &written.witness).await.unwrap();
///     storage.verify_proof(b"bob", Some(b"8"), &written.witness).await.unwrap_err();
///
///     storage.close().await // everything acknowledged is in a block
/// })
/// .unwrap();
/// handle.close();
/// writing.join().unwrap();
/// ```
pub trait Storage: Send + Sync {
    /// The value of a key, if it has one: that of the last acknowledged write.
    fn read(&self, key: &[u8]) -> impl Future<Output = Result<Option<ReadResult>, ReadError>> + Send;

    /// Gives a key a value; answers when that is durable.
    fn write(
        &self,
        key: impl Into<Vec<u8>> + Send,
        value: impl Into<Vec<u8>> + Send,
    ) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// Takes a key and its value away; answers when that is durable. Nothing changes where the key has no value.
    fn delete(&self, key: impl Into<Vec<u8>> + Send) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// Does all of these or, when it is refused, none; answers when they are durable. At most [`crate::CHANGES_MAX`]
    /// changes of [`crate::CHANGE_BYTES_MAX`] bytes; of two changes of one key the last counts.
    fn write_batch(&self, changes: Vec<Change>) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// Gives a key a value; answers when that is in a block, with a witness that proves it, and whatever else was asked
    /// for with it.
    ///
    /// # Errors
    /// [`ApplyError::Unproven`] when the write is acknowledged, and no block or no proof could be made of it: it need not be
    /// sent again.
    fn write_with_proof(
        &self,
        key: impl Into<Vec<u8>> + Send,
        value: impl Into<Vec<u8>> + Send,
    ) -> impl Future<Output = Result<WriteResult, ApplyError>> + Send;

    /// Takes a key and its value away; answers when that is in a block, with a witness of the key's absence. Errors as of
    /// [`Storage::write_with_proof`].
    fn delete_with_proof(
        &self,
        key: impl Into<Vec<u8>> + Send,
    ) -> impl Future<Output = Result<WriteResult, ApplyError>> + Send;

    /// Whether `proof` proves that `key` has this value (`None`: that it has none) in a block of this store. Takes some
    /// milliseconds of computing. Whoever has a root from elsewhere and no store verifies by [`Proof::verify`].
    fn verify_proof(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        proof: &Proof,
    ) -> impl Future<Output = Result<(), ProofError>> + Send;

    /// Makes a block of everything that was acknowledged, if there is anything, and answers the head: its state root is that
    /// of every write acknowledged before, and maybe of some that were sent meanwhile.
    fn seal(&self) -> impl Future<Output = Result<Header, ApplyError>> + Send;
}

/// What a read finds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadResult {
    /// The value.
    pub value: Vec<u8>,
    /// The newest block, which has the value; `None` while the write is acknowledged and in no block yet.
    pub block: Option<Header>,
}

/// What becomes of a write that is to be proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteResult {
    /// The block that has the write.
    pub block: Header,
    /// Its state root.
    pub root: StateRoot,
    /// What proves it: the claims, this write's among them, and their witness.
    pub witness: Arc<Proof>,
}

/// Why a proof proves nothing of a key.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProofError {
    /// It is of other keys, or of another value of this one.
    #[error("the proof says nothing of this key, or gives it another value")]
    OtherClaim,
    /// It is of a block that is not this store's, or that has another root.
    #[error("block {hash} is not of this store, or has another state root")]
    OtherBlock {
        /// The block that the proof names.
        hash: BlockHash,
    },
    /// The witness does not hold.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The block could not be looked up.
    #[error(transparent)]
    Read(#[from] ReadError),
}
