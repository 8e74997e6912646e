//! The state tree of Rustorium as mathematics: a Verkle tree of width 256 whose nodes are KZG commitments over
//! BLS12-381, as `spec/STATE_TREE.md` defines it to the byte.
//!
//! Everything here is pure: no disk, no clock, no sockets, no randomness of its own. [`tree::Descent`] *asks* for the
//! nodes and leaves that an update or a proof needs, a level at a time, and whoever holds the tree supplies them.
//! [`witness::Witness`] is what a light client checks against a 32-byte [`StateRoot`], and [`update::UpdateWitness`] carries
//! it from there to the state root after a block.
//!
//! ```
//! use rustorium_verkle::{Claim, Change, Committer, KeyPath, WindowBits, tree};
//!
//! let committer = Committer::new(WindowBits::SMALL);
//! let mut nodes = tree::Nodes::default();
//! let delta = nodes.apply([Change::put(b"alice", b"100"), Change::put(b"bob", b"7")], &committer);
//! let witness = nodes.prove(&[KeyPath::of(b"alice"), KeyPath::of(b"carol")]).unwrap();
//! let claims = [Claim::value(b"alice", b"100"), Claim::absent(b"carol")];
//! assert!(witness.verify(&delta.state_root(), &claims).is_ok());
//! ```
//!
//! What it is not: a database. Persistence, forks and history live in `rustorium-state`.
#![deny(unsafe_code)]

pub mod commit;
pub mod curve;
pub mod domain;
pub mod key;
pub mod multiproof;
pub mod node;
mod parallel;
pub mod setup;
mod transcript;
pub mod tree;
pub mod update;
pub mod witness;

pub use commit::{Committer, WindowBits};
pub use curve::{Point, PointBytes};
pub use key::{KeyPath, NodePath, SlotScalar, StateRoot, ValueHash};
pub use node::{Leaf, NodeRow, Slot, SlotSet};
pub use tree::{Change, Delta, Descent, Subtree, Supply, Want};
pub use update::UpdateWitness;
pub use witness::{Claim, Invalid, Rule, Witness};
