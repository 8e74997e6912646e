//! Witnesses: the values, or the absence, of a set of keys under one state root (spec §5).
//!
//! [`Witness::decode`] and [`Witness::verify`] judge foreign bytes. They trust nothing but the state root and the claims
//! that the caller brings; they name the rule that refuses, never panic, and do no more work than the bytes pay for: at
//! most [`BYTES_MAX`] bytes, [`TERMINALS_MAX`] keys, and no more nodes than the witness lists.

use std::collections::BTreeMap;
use std::fmt;

use parity_scale_codec::{Compact, Decode, Encode, Input};

use crate::curve::{Point, PointBytes};
use crate::key::{DEPTH_MAX, KeyPath, NodePath, SlotScalar, StateRoot, ValueHash};
use crate::multiproof::{self, Committed, Multiproof, Query};
use crate::node::Leaf;
use crate::parallel;

/// The format number of a witness (spec §5, §8).
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
    fn depth(&self) -> usize {
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
    fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

impl Witness {
    /// The bytes of spec §5.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 48 * (self.nodes.len() + 3) + 4 * self.terminals.len() + 8);
        bytes.push(VERSION);
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
        bytes.extend(self.proof.d.0);
        bytes.extend(self.proof.pi.0);
        bytes
    }

    /// Decodes foreign bytes; a refusal is always by rule `decode`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let refused = |what: String| Invalid::new(Rule::Decode, what);
        if bytes.len() > BYTES_MAX {
            return Err(refused(format!("{} bytes, at most {BYTES_MAX} are looked at", bytes.len())));
        }
        let rest = &mut &bytes[..];
        let witness = decode_fields(rest).map_err(|error| refused(error.to_string()))?;
        if !rest.is_empty() {
            return Err(refused(format!("{} bytes are left over", rest.len())));
        }
        Ok(witness)
    }

    /// Judges the witness against a state root and the caller's claims: rules 2 to 8 of spec §5, in their order.
    pub fn verify(&self, state_root: &StateRoot, claims: &[Claim]) -> Result<(), Invalid> {
        // Of a witness that was made by hand, not decoded.
        if let Some(terminal) = self.terminals.iter().find(|terminal| terminal.depth() > DEPTH_MAX) {
            return Err(Invalid::new(Rule::Decode, format!("a terminal of depth {}", terminal.depth())));
        }
        if StateRoot::of(&self.root) != *state_root {
            return Err(Invalid::new(Rule::StateRoot, format!("its root commitment is not that of {state_root}")));
        }
        let claims = self.sorted_claims(claims)?;
        let walked = self.walked_nodes(&claims)?;
        self.check_terminals(&claims)?;
        let queries = self.queries(&claims, &walked)?;
        let (nodes, d, pi) = self.points(&walked)?;
        if multiproof::verify(&nodes, &queries, &self.proof, &d, &pi) {
            Ok(())
        } else {
            Err(Invalid::new(Rule::Multiproof, "the openings do not hold"))
        }
    }

    /// The claims in the order of the terminals (rule `count`).
    fn sorted_claims(&self, claims: &[Claim]) -> Result<Vec<Claim>, Invalid> {
        let refused = |what: String| Invalid::new(Rule::Count, what);
        if claims.is_empty() {
            return Err(refused("there is no claim".into()));
        }
        if claims.len() != self.terminals.len() {
            return Err(refused(format!("{} claims and {} terminals", claims.len(), self.terminals.len())));
        }
        let mut claims = claims.to_vec();
        claims.sort_unstable_by_key(|claim| claim.path);
        match claims.windows(2).find(|pair| pair[0].path == pair[1].path) {
            Some(pair) => Err(refused(format!("the key with path {} is claimed twice", pair[0].path))),
            None => Ok(claims),
        }
    }

    /// The paths of the nodes visited, each with its index: the root is 0, `nodes[k]` is `k + 1` (rule `nodes`).
    fn walked_nodes(&self, claims: &[Claim]) -> Result<BTreeMap<NodePath, usize>, Invalid> {
        let mut walked = BTreeMap::from([(NodePath::ROOT, 0)]);
        for (claim, terminal) in claims.iter().zip(&self.terminals) {
            for depth in 1..=terminal.depth() {
                walked.insert(claim.path.node(depth), 0);
                if walked.len() > self.nodes.len() + 1 {
                    let listed = self.nodes.len();
                    return Err(Invalid::new(
                        Rule::Nodes,
                        format!("the walks visit more than the {listed} nodes listed"),
                    ));
                }
            }
        }
        if walked.len() != self.nodes.len() + 1 {
            let what = format!("the walks visit {} nodes, {} are listed", walked.len() - 1, self.nodes.len());
            return Err(Invalid::new(Rule::Nodes, what));
        }
        for (index, slot) in walked.values_mut().enumerate() {
            *slot = index;
        }
        Ok(walked)
    }

    /// Rule `terminal`.
    fn check_terminals(&self, claims: &[Claim]) -> Result<(), Invalid> {
        for (claim, terminal) in claims.iter().zip(&self.terminals) {
            let what = match (claim.value, terminal) {
                (Some(_), Terminal::Present { .. }) | (None, Terminal::Empty { .. }) => continue,
                (None, Terminal::Other { depth, path, .. }) => {
                    let shared = *depth as usize + 1;
                    if *path == claim.path {
                        "the other leaf is the key's own"
                    } else if path.0[..shared] != claim.path.0[..shared] {
                        "the other leaf does not belong in the key's slot"
                    } else {
                        continue;
                    }
                }
                (Some(_), _) => "a value is claimed, absence is shown",
                (None, Terminal::Present { .. }) => "absence is claimed, a value is shown",
            };
            return Err(Invalid::new(Rule::Terminal, format!("key with path {}: {what}", claim.path)));
        }
        Ok(())
    }

    /// Every opening that the walks rest on, sorted by node and slot (rule `query`).
    fn queries(&self, claims: &[Claim], walked: &BTreeMap<NodePath, usize>) -> Result<Vec<Query>, Invalid> {
        let child_scalars: Vec<SlotScalar> = self.nodes.iter().map(SlotScalar::node).collect();
        let mut queries = Vec::with_capacity(claims.len() + walked.len());
        for (path, index) in walked {
            if let Some((parent, z)) = path.parent() {
                queries.push(Query { node: walked[&parent], z, y: child_scalars[index - 1] });
            }
        }
        for (claim, terminal) in claims.iter().zip(&self.terminals) {
            let y = match terminal {
                Terminal::Empty { .. } => SlotScalar::EMPTY,
                Terminal::Other { path, value_hash, .. } => SlotScalar::leaf(path, value_hash),
                Terminal::Present { .. } => {
                    let value_hash = claim.value.expect("rule terminal pairs a value with every present leaf");
                    Leaf { path: claim.path, value_hash }.scalar()
                }
            };
            let depth = terminal.depth();
            queries.push(Query { node: walked[&claim.path.node(depth)], z: claim.path.slot(depth), y });
        }
        queries.sort_by_key(|query| (query.node, query.z));
        queries.dedup();
        match queries.windows(2).find(|pair| (pair[0].node, pair[0].z) == (pair[1].node, pair[1].z)) {
            Some(pair) => Err(Invalid::new(Rule::Query, format!("two walks disagree about a slot {}", pair[0].z))),
            None => Ok(queries),
        }
    }

    /// The points, root first, then `nodes`, and `d` and `pi` (rule `point`).
    fn points(&self, walked: &BTreeMap<NodePath, usize>) -> Result<(Vec<Committed>, Point, Point), Invalid> {
        let refused = |name: &dyn fmt::Display, error| Invalid::new(Rule::Point, format!("{name}: {error}"));
        let decode = |name: &str, encoded: &PointBytes| Point::decode(encoded).map_err(|error| refused(&name, error));
        let mut nodes = Vec::with_capacity(walked.len());
        nodes.push(Committed { encoded: self.root, point: decode("the root", &self.root)? });
        // A square root each: the costly part of a large witness that is refused.
        let points = parallel::map(&self.nodes, Point::decode);
        for ((encoded, path), point) in self.nodes.iter().zip(walked.keys().skip(1)).zip(points) {
            let point = point.map_err(|error| refused(&format_args!("node {path}"), error))?;
            if point.is_infinity() {
                return Err(Invalid::new(Rule::Point, format!("node {path} is the point at infinity")));
            }
            nodes.push(Committed { encoded: *encoded, point });
        }
        let [d, pi] = [("d", &self.proof.d), ("pi", &self.proof.pi)].map(|(name, encoded)| {
            let point = decode(name, encoded)?;
            match point.is_in_subgroup() {
                true => Ok(point),
                false => Err(Invalid::new(Rule::Point, format!("{name} is outside the subgroup"))),
            }
        });
        Ok((nodes, d?, pi?))
    }
}

fn decode_fields(input: &mut &[u8]) -> Result<Witness, parity_scale_codec::Error> {
    let version = u8::decode(input)?;
    if version != VERSION {
        return Err(format_error(format!("version {version}, expected {VERSION}")));
    }
    let root = PointBytes(<[u8; 48]>::decode(input)?);
    let count = decode_count(input, 2)?;
    if count > TERMINALS_MAX {
        return Err(format_error(format!("{count} terminals, at most {TERMINALS_MAX} are looked at")));
    }
    let terminals = (0..count).map(|_| decode_terminal(input)).collect::<Result<_, _>>()?;
    let count = decode_count(input, 48)?;
    let nodes = (0..count).map(|_| <[u8; 48]>::decode(input).map(PointBytes)).collect::<Result<_, _>>()?;
    let d = PointBytes(<[u8; 48]>::decode(input)?);
    let pi = PointBytes(<[u8; 48]>::decode(input)?);
    Ok(Witness { root, terminals, nodes, proof: Multiproof { d, pi } })
}

/// A list's length, which the bytes that are left must be able to hold.
fn decode_count(input: &mut &[u8], item_bytes_min: usize) -> Result<usize, parity_scale_codec::Error> {
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

fn format_error(what: String) -> parity_scale_codec::Error {
    parity_scale_codec::Error::from("malformed witness").chain(what)
}
