//! Update witnesses: the values before a block under one state root, and the state root after it
//! (`spec/STATELESS_UPDATE.md`).
//!
//! An [`UpdateWitness`] is a witness of all keys that a block reads or changes, with *companions*: of the few nodes that a
//! delete might make collapse, one slot that shows what is left. Who has nothing but a state root goes from block to block
//! with them:
//!
//! ```
//! use rustorium_verkle::{Change, Claim, Committer, KeyPath, UpdateWitness, WindowBits, tree};
//!
//! let committer = Committer::new(WindowBits::SMALL);
//! let mut nodes = tree::Nodes::default();
//! nodes.apply([Change::put(b"alice", b"100"), Change::put(b"bob", b"7")], &committer);
//! let (root, changes) = (nodes.state_root(), [Change::put(b"alice", b"99"), Change::delete(b"bob")]);
//! let bytes = nodes.prove_update(&[KeyPath::of(b"carol")], &changes).unwrap().encode();
//!
//! // Elsewhere, with the root, the block and the bytes:
//! let claims = [Claim::value(b"alice", b"100"), Claim::value(b"bob", b"7"), Claim::absent(b"carol")];
//! let after = UpdateWitness::decode(&bytes).unwrap().verify(&root, &claims, &changes, &committer).unwrap();
//! assert_eq!(after, nodes.apply(changes, &committer).state_root());
//! ```
//!
//! Foreign bytes are judged as those of a [`Witness`] are, under the same bounds: no companion but for a node that the
//! walks visit, one at most, and no more new nodes than 31 for each change.

mod verify;

use parity_scale_codec::{Compact, Decode, Encode};

use crate::curve::PointBytes;
use crate::key::{DEPTH_MAX, KeyPath, NodePath, SlotScalar, ValueHash};
use crate::node::Leaf;
use crate::witness::{Invalid, Rule, Witness, decode_count, format_error};

/// The format number of an update witness.
pub const VERSION: u8 = 2;
/// Bytes of the shortest companion: a path of none, a slot, a tag, a scalar.
const COMPANION_BYTES_MIN: usize = 1 + 1 + 1 + SCALAR_BYTES;
/// Bytes of a slot scalar, which is below `2^248`.
const SCALAR_BYTES: usize = 31;

/// An update witness, decoded and not yet judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateWitness {
    /// The walks to all keys that are read or changed. Its proof opens the companions' slots, too: without them it does
    /// not hold.
    pub walks: Witness,
    /// Ascending by node, at most one for a node.
    pub companions: Vec<Companion>,
}

/// A slot that no walk uses, of a node that a delete might make collapse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Companion {
    /// The node.
    pub node: NodePath,
    /// Its slot.
    pub slot: u8,
    /// What the slot holds.
    pub content: Content,
}

/// What a companion shows of its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Something with this scalar, which is not zero.
    NonZero(SlotScalar),
    /// A leaf.
    Leaf(Leaf),
    /// An inner node: its `c48`.
    Node(PointBytes),
}

impl Content {
    /// What the slot counts for in its node's commitment.
    pub fn scalar(&self) -> SlotScalar {
        match self {
            Self::NonZero(scalar) => *scalar,
            Self::Leaf(leaf) => leaf.scalar(),
            Self::Node(commitment) => SlotScalar::node(commitment),
        }
    }
}

impl UpdateWitness {
    /// The bytes of the spec.
    pub fn encode(&self) -> Vec<u8> {
        let mut companions = Compact(self.companions.len() as u32).encode();
        for Companion { node, slot, content } in &self.companions {
            node.as_bytes().encode_to(&mut companions);
            companions.push(*slot);
            match content {
                Content::NonZero(scalar) => {
                    companions.push(0);
                    companions.extend(&scalar.to_le_bytes()[..SCALAR_BYTES]);
                }
                Content::Leaf(Leaf { path, value_hash }) => {
                    companions.push(1);
                    companions.extend(path.0);
                    companions.extend(value_hash.0);
                }
                Content::Node(commitment) => {
                    companions.push(2);
                    companions.extend(commitment.0);
                }
            }
        }
        self.walks.encode_with(VERSION, &companions)
    }

    /// Decodes foreign bytes; a refusal is always by rule `decode`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let (walks, companions) = Witness::decode_with(bytes, VERSION, |input| {
            let count = decode_count(input, COMPANION_BYTES_MIN)?;
            (0..count).map(|_| decode_companion(input)).collect::<Result<Vec<_>, _>>()
        })?;
        let witness = Self { walks, companions };
        witness.check_companions()?;
        Ok(witness)
    }

    /// What rule `decode` says of the companions, besides their bytes.
    fn check_companions(&self) -> Result<(), Invalid> {
        let refused = |what: String| Err(Invalid::new(Rule::Decode, what));
        if let Some(pair) = self.companions.windows(2).find(|pair| pair[0].node >= pair[1].node) {
            return refused(format!("a companion of node {} stands behind one of {}", pair[1].node, pair[0].node));
        }
        match self.companions.iter().find(|companion| companion.content == Content::NonZero(SlotScalar::EMPTY)) {
            Some(companion) => refused(format!("the companion of node {} has the scalar zero", companion.node)),
            None => Ok(()),
        }
    }
}

fn decode_companion(input: &mut &[u8]) -> Result<Companion, parity_scale_codec::Error> {
    let length = decode_count(input, 1)?;
    let Some(node) = input.get(..length).and_then(NodePath::parse) else {
        return Err(format_error(format!("a node path of {length} bytes, the longest has {DEPTH_MAX}")));
    };
    *input = &input[length..];
    let slot = u8::decode(input)?;
    let content = match u8::decode(input)? {
        0 => {
            let mut scalar = [0; 32];
            scalar[..SCALAR_BYTES].copy_from_slice(&<[u8; SCALAR_BYTES]>::decode(input)?);
            Content::NonZero(SlotScalar::from_le_bytes(&scalar))
        }
        1 => {
            let path = KeyPath(<[u8; 32]>::decode(input)?);
            Content::Leaf(Leaf { path, value_hash: ValueHash(<[u8; 32]>::decode(input)?) })
        }
        2 => Content::Node(PointBytes(<[u8; 48]>::decode(input)?)),
        tag => return Err(format_error(format!("a companion with tag {tag}"))),
    };
    Ok(Companion { node, slot, content })
}
