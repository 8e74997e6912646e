//! Judging a witness: rules 2 to 8 of spec §5, in their order; with companions, that of an update witness.

use std::fmt;

use super::{Claim, Invalid, Rule, Terminal, Witness};
use crate::curve::{NotAPoint, Point, PointBytes};
use crate::key::{DEPTH_MAX, NodePath, SlotScalar, StateRoot};
use crate::multiproof::{Equation, Points, Query};
use crate::node::Leaf;
use crate::parallel;
use crate::update::{Companion, Content};

/// What a witness says of which nodes, when rules 2 to 6 hold.
pub(crate) struct Statement {
    /// What is claimed, ascending by path.
    pub(crate) claims: Vec<Claim>,
    /// The nodes visited, the root first, ascending by path.
    pub(crate) visits: Vec<Visit>,
    /// Of each claim, the visit in which its walk ends.
    pub(crate) ends: Vec<usize>,
    /// `c48` of each node visited.
    pub(crate) commitments: Vec<PointBytes>,
    /// Every opening that the walks and the companions rest on, ascending by node and slot.
    pub(crate) queries: Vec<Query>,
}

/// A node that a walk passes through, and the node that holds it (the root: itself).
pub(crate) struct Visit {
    pub(crate) path: NodePath,
    pub(crate) parent: usize,
}

/// The points of a witness (rule `point`).
pub(super) struct Decoded {
    /// Of the root and of `nodes`.
    pub(super) nodes: Vec<Point>,
    pub(super) d: Point,
    pub(super) pi: Point,
}

impl Witness {
    /// Judges the witness against a state root and the caller's claims: rules 2 to 8 of spec §5, in their order.
    pub fn verify(&self, state_root: &StateRoot, claims: &[Claim]) -> Result<(), Invalid> {
        self.open(&self.statement(state_root, claims, &[])?).map(|_| ())
    }

    /// Rules 7 and 8; the nodes' commitments.
    pub(crate) fn open(&self, statement: &Statement) -> Result<Vec<Point>, Invalid> {
        // A square root each: the costly part of a large witness that is refused.
        let nodes = Point::decode_many(&statement.commitments);
        self.open_at(statement, nodes.into_iter())
    }

    /// [`Witness::verify`] for who has the commitments as points, of the root and of [`Witness::nodes`]: it spares a square
    /// root for each.
    pub fn verify_known(&self, state_root: &StateRoot, claims: &[Claim], nodes: &[Point]) -> Result<(), Invalid> {
        let statement = self.statement(state_root, claims, &[])?;
        if parallel::map_light(nodes, Point::encode) != statement.commitments {
            return Err(Invalid::new(Rule::Point, "the points are not those of the witness"));
        }
        self.open_at(&statement, nodes.iter().copied().map(Ok)).map(|_| ())
    }

    /// Rules 7 and 8, the commitments being decoded.
    fn open_at(
        &self,
        statement: &Statement,
        nodes: impl Iterator<Item = Result<Point, NotAPoint>>,
    ) -> Result<Vec<Point>, Invalid> {
        let Decoded { nodes, d, pi } = self.points(statement, nodes)?;
        let equation = Equation::new(&statement.commitments, &statement.queries, &self.proof);
        match equation {
            Some(equation) if equation.holds(Points { nodes: &nodes, d, pi }) => Ok(nodes),
            _ => Err(refuted()),
        }
    }

    /// Rules 2 to 6.
    pub(crate) fn statement(
        &self,
        state_root: &StateRoot,
        claims: &[Claim],
        companions: &[Companion],
    ) -> Result<Statement, Invalid> {
        // Of a witness that was made by hand, not decoded.
        if let Some(terminal) = self.terminals.iter().find(|terminal| terminal.depth() > DEPTH_MAX) {
            return Err(Invalid::new(Rule::Decode, format!("a terminal of depth {}", terminal.depth())));
        }
        if StateRoot::of(&self.root) != *state_root {
            return Err(Invalid::new(Rule::StateRoot, format!("its root commitment is not that of {state_root}")));
        }
        let claims = self.sorted_claims(claims)?;
        let (visits, ends) = self.walks(&claims)?;
        self.check_terminals(&claims)?;
        let mut queries = self.queries(&claims, &visits, &ends)?;
        add_companions(&mut queries, companions, &visits)?;
        let commitments = std::iter::once(self.root).chain(self.nodes.iter().copied()).collect();
        Ok(Statement { claims, visits, ends, commitments, queries })
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

    /// The nodes visited, and the one in which the walk of each claim ends (rule `nodes`).
    fn walks(&self, claims: &[Claim]) -> Result<(Vec<Visit>, Vec<usize>), Invalid> {
        let listed = self.nodes.len();
        let mut visits = Vec::with_capacity(listed + 1);
        visits.push(Visit { path: NodePath::ROOT, parent: 0 });
        let mut ends = Vec::with_capacity(claims.len());
        // The visited nodes on the way to the last claim's key, by depth, down to `deepest`. Claims are ascending, so that
        // a new node is always behind the others.
        let (mut on_the_way, mut deepest) = ([0; DEPTH_MAX + 1], 0);
        for (index, (claim, terminal)) in claims.iter().zip(&self.terminals).enumerate() {
            let last = claims[index.saturating_sub(1)].path;
            let shared = claim.path.0.iter().zip(last.0).take_while(|(byte, other)| *byte == other).count();
            deepest = deepest.min(shared);
            for depth in deepest + 1..=terminal.depth() {
                if visits.len() > listed {
                    let what = format!("the walks visit more than the {listed} nodes listed");
                    return Err(Invalid::new(Rule::Nodes, what));
                }
                on_the_way[depth] = visits.len();
                visits.push(Visit { path: claim.path.node(depth), parent: on_the_way[depth - 1] });
                deepest = depth;
            }
            ends.push(on_the_way[terminal.depth()]);
        }
        if visits.len() <= listed {
            let what = format!("the walks visit {} nodes, {listed} are listed", visits.len() - 1);
            return Err(Invalid::new(Rule::Nodes, what));
        }
        Ok((visits, ends))
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
    fn queries(&self, claims: &[Claim], visits: &[Visit], ends: &[usize]) -> Result<Vec<Query>, Invalid> {
        let children = parallel::map_light(&self.nodes, SlotScalar::node);
        let inner = visits.iter().skip(1).zip(children).map(|(visit, y)| {
            let depth = visit.path.depth();
            Query { node: visit.parent, z: visit.path.as_bytes()[depth - 1], y }
        });
        let walks: Vec<(&Claim, &Terminal)> = claims.iter().zip(&self.terminals).collect();
        let contents = parallel::map_light(&walks, |(claim, terminal)| match terminal {
            Terminal::Empty { .. } => SlotScalar::EMPTY,
            Terminal::Other { path, value_hash, .. } => SlotScalar::leaf(path, value_hash),
            Terminal::Present { .. } => {
                let value_hash = claim.value.expect("rule terminal pairs a value with every present leaf");
                Leaf { path: claim.path, value_hash }.scalar()
            }
        });
        let last = walks.iter().zip(ends).zip(contents).map(|(((claim, terminal), node), y)| Query {
            node: *node,
            z: claim.path.slot(terminal.depth()),
            y,
        });
        let mut queries: Vec<Query> = inner.chain(last).collect();
        queries.sort_by_key(|query| (query.node, query.z));
        queries.dedup();
        match queries.windows(2).find(|pair| (pair[0].node, pair[0].z) == (pair[1].node, pair[1].z)) {
            Some(pair) => Err(Invalid::new(Rule::Query, format!("two walks disagree about a slot {}", pair[0].z))),
            None => Ok(queries),
        }
    }

    /// Rule `point`; `nodes` are the statement's commitments, decoded.
    pub(super) fn points(
        &self,
        statement: &Statement,
        nodes: impl Iterator<Item = Result<Point, NotAPoint>>,
    ) -> Result<Decoded, Invalid> {
        let refused = |name: &dyn fmt::Display, error| Invalid::new(Rule::Point, format!("{name}: {error}"));
        let node = |(point, visit): (Result<Point, NotAPoint>, &Visit)| match point {
            Err(error) if visit.path == NodePath::ROOT => Err(refused(&"the root", error)),
            Err(error) => Err(refused(&format_args!("node {}", visit.path), error)),
            Ok(point) if point.is_infinity() && visit.path != NodePath::ROOT => {
                Err(Invalid::new(Rule::Point, format!("node {} is the point at infinity", visit.path)))
            }
            Ok(point) => Ok(point),
        };
        let nodes = nodes.zip(&statement.visits).map(node).collect::<Result<_, _>>()?;
        let [d, pi] = [("d", &self.proof.d), ("pi", &self.proof.pi)].map(|(name, encoded)| {
            let point = Point::decode(encoded).map_err(|error| refused(&name, error))?;
            match point.is_in_subgroup() {
                true => Ok(point),
                false => Err(Invalid::new(Rule::Point, format!("{name} is outside the subgroup"))),
            }
        });
        Ok(Decoded { nodes, d: d?, pi: pi? })
    }
}

/// Adds the openings of companions to those of walks, which are sorted (rule `query`).
fn add_companions(queries: &mut Vec<Query>, companions: &[Companion], visits: &[Visit]) -> Result<(), Invalid> {
    if companions.is_empty() {
        return Ok(());
    }
    let of_walks = queries.len();
    for Companion { node, slot, content } in companions {
        let refused = |what| Err(Invalid::new(Rule::Query, format!("companion in slot {slot} of node {node}: {what}")));
        let Ok(visit) = visits.binary_search_by_key(node, |visit| visit.path) else {
            return refused("no walk visits the node");
        };
        if queries[..of_walks].binary_search_by_key(&(visit, *slot), |query| (query.node, query.z)).is_ok() {
            return refused("a walk uses the slot");
        }
        if let Content::Leaf(Leaf { path, .. }) = content
            && (!node.covers(path) || path.slot(node.depth()) != *slot)
        {
            return refused("the leaf belongs elsewhere");
        }
        queries.push(Query { node: visit, z: *slot, y: content.scalar() });
    }
    queries.sort_by_key(|query| (query.node, query.z));
    Ok(())
}

/// Rule `multiproof`.
pub(super) fn refuted() -> Invalid {
    Invalid::new(Rule::Multiproof, "the openings do not hold")
}
