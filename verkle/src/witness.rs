//! Witnesses: the values, or the absence, of a set of keys under one state root (spec §5).
//!
//! [`Witness::decode`] and [`Witness::verify`] judge foreign bytes. They trust nothing but the state root and the claims
//! that the caller brings; they name the rule that refuses, never panic, and do no more work than the bytes pay for: at
//! most [`BYTES_MAX`] bytes, [`TERMINALS_MAX`] keys, and no more nodes than the witness lists.

mod many;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt;

use parity_scale_codec::{Compact, Decode, Encode, Input};

pub use many::{Case, verify_many};
pub(crate) use verify::Statement;

use crate::curve::PointBytes;
use crate::key::{DEPTH_MAX, KeyPath, ValueHash};
use crate::multiproof::Multiproof;

/// The format number of a witness (spec §5, §8); [`crate::update::VERSION`] is that of an update witness.
pub const VERSION: u8 = 1;
/// Bytes of the longest witness that is looked at.
pub const BYTES_MAX: usize = 1 << 26;
/// Keys of the largest witness that is looked at.
pub const TERMINALS_MAX: usize = 1 << 20;

/// What a verifier believes a witness to show about one key. The key comes from the verifier, never from the prover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The key's path.
    pub path: KeyPath,
    /// The value's hash, or absence.
    pub value: Option<ValueHash>,
}

impl Claim {
    /// The key has this value.
    pub fn value(key: &[u8], value: &[u8]) -> Self {
        Self::value_hash(key, ValueHash::of(value))
    }

    /// The key has a value with this hash.
    pub fn value_hash(key: &[u8], value_hash: ValueHash) -> Self {
        Self { path: KeyPath::of(key), value: Some(value_hash) }
    }

    /// The key has no value.
    pub fn absent(key: &[u8]) -> Self {
        Self { path: KeyPath::of(key), value: None }
    }
}

/// How the walk to one key ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Terminal {
    /// In a slot that holds the key's own leaf.
    Present {
        /// Depth of the node that has the slot.
        depth: u8,
    },
    /// In an empty slot.
    Empty {
        /// Depth of the node that has the slot.
        depth: u8,
    },
    /// In a slot that holds another key's leaf.
    Other {
        /// Depth of the node that has the slot.
        depth: u8,
        /// The other key's path.
        path: KeyPath,
        /// The other value's hash.
        value_hash: ValueHash,
    },
}

impl Terminal {
    pub(crate) fn depth(&self) -> usize {
        let (Self::Present { depth } | Self::Empty { depth } | Self::Other { depth, .. }) = self;
        *depth as usize
    }
}

/// A witness, decoded and not yet judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Witness {
    /// `c48(C_root)`.
    pub root: PointBytes,
    /// One for each key, ascending by the key's path.
    pub terminals: Vec<Terminal>,
    /// `c48` of every inner node but the root that the walks visit, ascending by node path.
    pub nodes: Vec<PointBytes>,
    /// The openings of all slots that the walks use.
    pub proof: Multiproof,
}

/// The rule of the spec that refuses a witness.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rule {
    /// The bytes do not decode.
    Decode,
    /// A change without a claim, or two changes of one key (update witnesses).
    Change,
    /// The root commitment is not that of the state root.
    StateRoot,
    /// Not one terminal for each claim, no claim, or a key claimed twice.
    Count,
    /// Not as many nodes as the walks visit.
    Nodes,
    /// A terminal that does not show what is claimed.
    Terminal,
    /// Two walks disagree about one slot.
    Query,
    /// Something that should be a point is not, or not a permitted one.
    Point,
    /// The openings do not hold.
    Multiproof,
    /// The state root after the changes is not determined (update witnesses).
    Undecided,
}

impl Rule {
    /// The rule's name in the spec.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Change => "change",
            Self::StateRoot => "stateRoot",
            Self::Count => "count",
            Self::Nodes => "nodes",
            Self::Terminal => "terminal",
            Self::Query => "query",
            Self::Point => "point",
            Self::Multiproof => "multiproof",
            Self::Undecided => "undecided",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A witness was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the witness is invalid (rule {rule}): {what}")]
pub struct Invalid {
    /// By which rule.
    pub rule: Rule,
    /// What was wrong.
    pub what: String,
}

impl Invalid {
    pub(crate) fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

impl Witness {
    /// The bytes of spec §5.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(VERSION, &[])
    }

    /// Decodes foreign bytes; a refusal is always by rule `decode`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        Self::decode_with(bytes, VERSION, |_| Ok(())).map(|(witness, ())| witness)
    }

    /// The bytes of a format of this version, which has `between` between the nodes and the proof.
    pub(crate) fn encode_with(&self, version: u8, between: &[u8]) -> Vec<u8> {
        let fixed = 1 + 48 * (self.nodes.len() + 3) + 8;
        let mut bytes = Vec::with_capacity(fixed + 4 * self.terminals.len() + between.len());
        bytes.push(version);
        bytes.extend(self.root.0);
        Compact(self.terminals.len() as u32).encode_to(&mut bytes);
        for terminal in &self.terminals {
            match terminal {
                Terminal::Present { depth } => bytes.extend([0, *depth]),
                Terminal::Empty { depth } => bytes.extend([1, *depth]),
                Terminal::Other { depth, path, value_hash } => {
                    bytes.extend([2, *depth]);
                    bytes.extend(path.0);
                    bytes.extend(value_hash.0);
                }
            }
        }
        Compact(self.nodes.len() as u32).encode_to(&mut bytes);
        for node in &self.nodes {
            bytes.extend(node.0);
        }
        bytes.extend(between);
        bytes.extend(self.proof.d.0);
        bytes.extend(self.proof.pi.0);
        bytes
    }

    /// The reverse of [`Witness::encode_with`]; `between` decodes what is between the nodes and the proof.
    pub(crate) fn decode_with<T>(
        bytes: &[u8],
        version: u8,
        between: impl FnOnce(&mut &[u8]) -> Result<T, parity_scale_codec::Error>,
    ) -> Result<(Self, T), Invalid> {
        let refused = |what: String| Invalid::new(Rule::Decode, what);
        if bytes.len() > BYTES_MAX {
            return Err(refused(format!("{} bytes, at most {BYTES_MAX} are looked at", bytes.len())));
        }
        let rest = &mut &bytes[..];
        let decoded = decode_fields(rest, version, between).map_err(|error| refused(error.to_string()))?;
        if !rest.is_empty() {
            return Err(refused(format!("{} bytes are left over", rest.len())));
        }
        Ok(decoded)
    }
}

fn decode_fields<T>(
    input: &mut &[u8],
    expected: u8,
    between: impl FnOnce(&mut &[u8]) -> Result<T, parity_scale_codec::Error>,
) -> Result<(Witness, T), parity_scale_codec::Error> {
    let version = u8::decode(input)?;
    if version != expected {
        return Err(format_error(format!("version {version}, expected {expected}")));
    }
    let root = PointBytes(<[u8; 48]>::decode(input)?);
    let count = decode_count(input, 2)?;
    if count > TERMINALS_MAX {
        return Err(format_error(format!("{count} terminals, at most {TERMINALS_MAX} are looked at")));
    }
    let terminals = (0..count).map(|_| decode_terminal(input)).collect::<Result<_, _>>()?;
    let count = decode_count(input, 48)?;
    let nodes = (0..count).map(|_| <[u8; 48]>::decode(input).map(PointBytes)).collect::<Result<_, _>>()?;
    let between = between(input)?;
    let d = PointBytes(<[u8; 48]>::decode(input)?);
    let pi = PointBytes(<[u8; 48]>::decode(input)?);
    Ok((Witness { root, terminals, nodes, proof: Multiproof { d, pi } }, between))
}

/// A list's length, which the bytes that are left must be able to hold.
pub(crate) fn decode_count(input: &mut &[u8], item_bytes_min: usize) -> Result<usize, parity_scale_codec::Error> {
    let count = Compact::<u32>::decode(input)?.0 as usize;
    let room = input.remaining_len()?.unwrap_or(0) / item_bytes_min;
    if count > room {
        return Err(format_error(format!("a list of {count} items where at most {room} fit")));
    }
    Ok(count)
}

fn decode_terminal(input: &mut &[u8]) -> Result<Terminal, parity_scale_codec::Error> {
    let tag = u8::decode(input)?;
    let depth = u8::decode(input)?;
    if depth as usize > DEPTH_MAX {
        return Err(format_error(format!("a terminal of depth {depth}, the deepest is {DEPTH_MAX}")));
    }
    match tag {
        0 => Ok(Terminal::Present { depth }),
        1 => Ok(Terminal::Empty { depth }),
        2 => {
            let path = KeyPath(<[u8; 32]>::decode(input)?);
            Ok(Terminal::Other { depth, path, value_hash: ValueHash(<[u8; 32]>::decode(input)?) })
        }
        _ => Err(format_error(format!("a terminal with tag {tag}"))),
    }
}

pub(crate) fn format_error(what: String) -> parity_scale_codec::Error {
    parity_scale_codec::Error::from("malformed witness").chain(what)
}
