//! What makes two nodes members of one chain: its genesis, how it becomes final, and who vouches for it.
//!
//! A [`ChainSpec`] is read once, from a file that an operator hands us ([`ChainSpec::parse`]) or from a preset
//! ([`ChainSpec::preset`]), and never changes. The file is Substrate's raw-genesis JSON, plain or gzipped, with one
//! section of our own, `rustorium`. The operator is trusted to mean what the file says; the bytes are not trusted to be
//! well-formed: they become types here, under the limits below, and a refusal names the field or the key at fault and,
//! where there is one, the remedy.
//!
//! Two hashes name a chain. The genesis hash is that of its first block. The spec hash binds all that members must
//! agree on: id, genesis, finality, checkpoints and authorities. Names and boot nodes are outside both.
//!
//! ```
//! use rustorium_chain_spec::{ChainSpec, Finality};
//!
//! let dev = ChainSpec::preset("dev").unwrap();
//! assert_eq!(dev.genesis(), [(b"rustorium:greeting".to_vec(), b"hello".to_vec())]);
//! assert_eq!(dev.finality(), Finality::Instant);
//!
//! let error = ChainSpec::parse(br#"{"name": "A", "id": "a", "genesis": {"runtimeGenesis": {}}}"#).unwrap_err();
//! assert!(error.to_string().contains("build-spec --raw"));
//! ```
//!
//! Pure data and pure checks: no files, no clock, no sockets; compiles for `wasm32-unknown-unknown`. What it is not: a
//! runtime. It never builds a genesis from code; `build-spec --raw` of the chain's own node does that.
#![forbid(unsafe_code)]

mod chain_type;
mod error;
mod fields;
mod genesis;
mod hash;
mod rules;
mod spec;
mod unpack;

pub use chain_type::ChainType;
pub use error::SpecError;
pub use rules::{Authority, Finality, Threshold};
pub use spec::ChainSpec;

/// Bytes of a spec, after unpacking if it is gzipped: 1 GiB.
pub const SPEC_BYTES_MAX: u64 = 1 << 30;
/// Pairs of a genesis.
pub const GENESIS_KEYS_MAX: usize = 1 << 24;
/// Bytes of a key of the state.
pub const KEY_BYTES_MAX: usize = 1024;
/// Bytes of a value of the state: 16 MiB.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// Bytes of a spec's name, id, protocol id, a boot node's address or an authority's name.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Boot nodes of a spec.
pub const BOOT_NODES_MAX: usize = 1024;
/// Bytes of the `properties` object.
pub const PROPERTIES_BYTES_MAX: usize = 64 << 10;
/// Authorities of a spec.
pub const AUTHORITIES_MAX: usize = 4096;

#[cfg(test)]
mod tests;
