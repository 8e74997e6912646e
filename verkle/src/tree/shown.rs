//! The part of a tree that an update witness shows, as a walk to its keys would have seen it: the reverse of `prove.rs`.
//! Applied, it gives the root after, as `post` in `STATELESS_UPDATE.md` defines it.

use super::{Change, End, Goal, Rest, Subtree, Visit, weigh};
use crate::commit::{Committer, NodeDeltas, SlotDelta};
use crate::curve::Point;
use crate::key::SlotScalar;
use crate::node::{Leaf, NodeRow, SlotSet};
use crate::update::{Companion, Content};
use crate::witness::{Claim, Statement, Terminal};

/// An update witness of which every rule up to `multiproof` holds, and so whatever it shows.
pub(crate) struct Sight<'a> {
    /// What it says of which nodes.
    pub(crate) statement: &'a Statement,
    /// The nodes' commitments.
    pub(crate) commitments: &'a [Point],
    /// How the walk to each claim's key ends.
    pub(crate) terminals: &'a [Terminal],
    /// Ascending by node.
    pub(crate) companions: &'a [Companion],
}

impl Sight<'_> {
    /// The nodes shown, with these changes to apply: one for each claim.
    pub(crate) fn subtree(&self, changes: Vec<Change>, committer: &Committer) -> Subtree {
        let nodes = &self.statement.visits;
        // Level by level, as a descent comes by; of each node its place among the visits.
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by_key(|&node| nodes[node].path.depth());
        let mut places = vec![0; nodes.len()];
        order.iter().enumerate().for_each(|(place, &node)| places[node] = place);

        let mut visits: Vec<Visit> = order.iter().map(|&node| self.visit(node)).collect();
        for (place, &node) in order.iter().enumerate() {
            let Some((_, slot)) = nodes[node].path.parent() else { continue };
            let parent = &mut visits[places[nodes[node].parent]];
            parent.inner.push((slot, place));
            parent.row.inner.insert(slot);
        }
        for companion in self.companions {
            if let (Content::Node(_), Ok(node)) = (&companion.content, self.node_of(companion)) {
                visits[places[node]].row.inner.insert(companion.slot);
            }
        }
        for (key, (claim, terminal)) in self.statement.claims.iter().zip(self.terminals).enumerate() {
            let slot = claim.path.slot(terminal.depth());
            let leaf = leaf_at_end(claim, terminal);
            let ends = &mut visits[places[self.statement.ends[key]]].ends;
            match ends.last_mut() {
                Some(end) if end.slot == slot && end.keys.end == key => {
                    end.keys.end = key + 1;
                    end.leaf = end.leaf.or(leaf);
                }
                _ => ends.push(End { slot, keys: key..key + 1, leaf }),
            }
        }
        let in_doubt = weigh::in_doubt(&visits, &changes);
        let in_doubt: Vec<(usize, usize)> = in_doubt.into_iter().map(|place| (place, order[place])).collect();
        self.settle_doubts(&mut visits, &in_doubt, committer);
        Subtree { goal: Goal::Update(changes), visits, companions: Vec::new() }
    }

    fn visit(&self, node: usize) -> Visit {
        Visit {
            path: self.statement.visits[node].path,
            row: NodeRow { commitment: self.commitments[node], inner: SlotSet::EMPTY },
            whole: None,
            ends: Vec::new(),
            inner: Vec::new(),
            rest: Rest::Enough,
            slots: Vec::new(),
        }
    }

    /// Finds out what the nodes that might collapse hold besides what walks use; of each its place among the visits and
    /// among the nodes.
    fn settle_doubts(&self, visits: &mut [Visit], in_doubt: &[(usize, usize)], committer: &Committer) {
        // What is left of C when every known slot is taken out, Σ_other slot_i·L_i: infinity if all others are empty. That is
        // C' = K of the spec with Σ_known new_i·L_i taken from both sides.
        let others = in_doubt.iter().map(|&(_, node)| {
            let deltas = self.known(node).map(|(slot, old)| SlotDelta { slot, old, new: SlotScalar::EMPTY });
            NodeDeltas { base: self.commitments[node], deltas: deltas.collect() }
        });
        let others = committer.commit(&others.collect::<Vec<_>>());
        for (&(place, _), others) in in_doubt.iter().zip(others) {
            let visit = &mut visits[place];
            let companion = self.companions.binary_search_by_key(&visit.path, |companion| companion.node);
            let content = companion.ok().map(|at| self.companions[at].content);
            visit.rest = match (content, others.is_infinity()) {
                (None, true) => Rest::Leaves(Vec::new()),
                (Some(Content::Leaf(leaf)), true) => Rest::Leaves(vec![leaf]),
                // One slot, or some that are not shown at all.
                (Some(Content::NonZero(_)), true) | (None, false) => Rest::Unknown,
                (Some(Content::Node(_)), _) | (Some(_), false) => Rest::Enough,
            };
        }
    }

    /// The slots of a node that walks or a companion use, and their scalars.
    fn known(&self, node: usize) -> impl Iterator<Item = (u8, SlotScalar)> + '_ {
        let queries = &self.statement.queries;
        let from = queries.partition_point(|query| query.node < node);
        let own = queries[from..].iter().take_while(move |query| query.node == node);
        own.map(|query| (query.z, query.y))
    }

    fn node_of(&self, companion: &Companion) -> Result<usize, usize> {
        self.statement.visits.binary_search_by_key(&companion.node, |visit| visit.path)
    }
}

/// The leaf in the slot in which a walk ends.
fn leaf_at_end(claim: &Claim, terminal: &Terminal) -> Option<Leaf> {
    match *terminal {
        Terminal::Present { .. } => claim.value.map(|value_hash| Leaf { path: claim.path, value_hash }),
        Terminal::Empty { .. } => None,
        Terminal::Other { path, value_hash, .. } => Some(Leaf { path, value_hash }),
    }
}
