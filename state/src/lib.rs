//! Versions of the state tree: one on disk, and who may read and write it.
//!
//! [`open`] takes a [`backend::Backend`] and a [`Genesis`] and gives three doors: a [`Writer`], whose loop wants a thread;
//! a [`Handle`], which sends it blocks; and a [`Reader`], which finds the [`View`] of a block. Whatever only reads takes
//! `&View`; whatever writes makes one batch, which is committed atomically and synced before anyone hears of it. After a
//! crash at any moment the store opens at the last block that was acknowledged, or one later.
//!
//! ```
//! use std::{ops::ControlFlow, sync::Arc};
//! use rustorium_state::{Block, BlockHash, Config, Genesis, backend::Memory};
//! use rustorium_verkle::{Committer, WindowBits};
//!
//! let config = Config::new(Arc::new(Committer::new(WindowBits::SMALL)));
//! let pairs = [(b"alice".to_vec(), b"100".to_vec())];
//! let genesis = Genesis { id: "example", pairs: &pairs, hash: &|root| BlockHash(root.0) };
//! let (writer, handle, reader) =
//!     rustorium_state::open(Arc::new(Memory::new()), &genesis, &config, &mut |_| ControlFlow::Continue(())).unwrap();
//! let loop_ = std::thread::spawn(|| writer.run());
//!
//! let block = Block {
//!     number: 1,
//!     hash: BlockHash([1; 32]),
//!     parent_hash: reader.genesis_hash(),
//!     timestamp_ms: None,
//!     state_root: None,
//!     changes: vec![(b"alice".to_vec(), Some(b"99".to_vec()))],
//! };
//! let header = handle.apply_blocking(block).unwrap();
//! assert_eq!(reader.head().value(b"alice").unwrap(), Some(b"99".to_vec()));
//! assert_eq!(reader.head().header().state_root, header.state_root);
//! handle.close();
//! loop_.join().unwrap();
//! ```
#![deny(unsafe_code)]

mod apply;
pub mod backend;
pub mod block;
pub mod bulk;
mod cache;
mod check;
mod config;
mod error;
mod examination;
mod finalize;
mod flush;
mod forks;
mod handle;
mod history;
mod journal;
mod layer;
mod meeting;
mod meters;
pub mod metrics;
mod parallel;
mod reader;
mod repair;
mod schema;
mod staging;
pub mod storage;
mod store;
#[cfg(test)]
mod tests;
mod undo;
mod view;
mod walk;
mod watch;
mod writer;

pub use block::{At, Block, BlockHash, CHANGE_BYTES_MAX, CHANGES_MAX, Change, Header, KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use check::{Cure, Cures, Depth, FINDINGS_MAX, Finding, Report, Stage, check};
pub use config::{Config, Finality, History};
pub use error::{ApplyError, AtError, OpenError, ReadError};
pub use examination::{Examination, Summary};
pub use handle::Handle;
pub use history::{Diff, HistoryQuery, KeyChange, KeyDiff, KeyHistory};
pub use reader::{Pin, Reader, Status};
pub use repair::{Deed, Repair};
pub use storage::{Front, FrontConfig, ProofError, ReadResult, Storage, WriteResult};
pub use store::{Genesis, Progress};
pub use view::{Proof, View};
pub use watch::{Tip, Watch, WatchEnd};
pub use writer::{COMMANDS_MAX, Writer, open};
