//! Proving the keys that a descent has walked to: which slots are opened, and how each walk ends (spec §5). A proof of an
//! update opens the companions' slots, too (`STATELESS_UPDATE.md`).

use super::{Damage, End, Goal, Subtree, Visit};
use crate::commit::Committer;
use crate::curve::{Point, PointBytes};
use crate::key::{KeyPath, SlotScalar};
use crate::multiproof::{self, Opened, Query};
use crate::node::Leaf;
use crate::parallel;
use crate::update::{Companion, UpdateWitness};
use crate::witness::{Terminal, Witness};

impl Subtree {
    /// The witness for the keys of [`super::Descent::prove`], as every honest prover makes it (spec §5); with a committer's tables
    /// faster than without.
    ///
    /// # Panics
    /// If the descent was not made by that.
    pub fn prove(self, committer: Option<&Committer>) -> Result<Witness, Damage> {
        let Goal::Prove { keys, changes } = &self.goal else { panic!("this subtree was loaded for an update") };
        assert!(changes.is_empty(), "this subtree was loaded for an update witness");
        self.prove_walks(keys, &[], committer)
    }

    /// The update witness for the reads and changes of [`super::Descent::prove_update`], as every honest prover makes it.
    ///
    /// # Panics
    /// If the descent was made for an update.
    pub fn prove_update(mut self, committer: Option<&Committer>) -> Result<UpdateWitness, Damage> {
        self.companions.sort_unstable_by_key(|(_, companion)| companion.node);
        let Goal::Prove { keys, .. } = &self.goal else { panic!("this subtree was loaded for an update") };
        let walks = self.prove_walks(keys, &self.companions, committer)?;
        Ok(UpdateWitness { walks, companions: self.companions.into_iter().map(|(_, companion)| companion).collect() })
    }

    /// The walks and the openings that they and the companions rest on. Of each companion, the visit that it belongs to.
    fn prove_walks(
        &self,
        keys: &[KeyPath],
        companions: &[(usize, Companion)],
        committer: Option<&Committer>,
    ) -> Result<Witness, Damage> {
        let mut order: Vec<usize> = (0..self.visits.len()).collect();
        order.sort_unstable_by_key(|&visit| self.visits[visit].path);

        let encoded: Vec<PointBytes> = parallel::map_light(&order, |&visit| self.visits[visit].row.commitment.encode());
        let mut scalars = vec![SlotScalar::EMPTY; order.len()];
        for (&visit, scalar) in order.iter().zip(parallel::map_light(&encoded, SlotScalar::node)) {
            scalars[visit] = scalar;
        }
        let mut queries = Vec::with_capacity(keys.len() + order.len());
        let mut beside: Vec<Option<&Companion>> = vec![None; self.visits.len()];
        companions.iter().for_each(|(visit, companion)| beside[*visit] = Some(companion));
        let asked = parallel::map_light(&order, |&visit| self.visits[visit].openings(beside[visit], &scalars));
        for (node, openings) in asked.into_iter().enumerate() {
            queries.extend(openings?.into_iter().map(|(z, y)| Query { node, z, y }));
        }
        let opened: Vec<Opened<'_>> = order
            .iter()
            .zip(&encoded)
            .map(|(&visit, commitment)| Opened { commitment: *commitment, row: &self.visits[visit].slots })
            .collect();
        let proof = multiproof::prove(&opened, &queries, committer);
        // The root has the shortest path, so it is the first.
        let (root, nodes) = encoded.split_first().expect("every walk begins at the root");
        let terminals = self.terminals(keys);
        Ok(Witness { root: *root, terminals, nodes: nodes.to_vec(), proof })
    }

    /// The commitments of the nodes that the walks visit, the root's first, in the order in which a witness has them.
    pub fn commitments(&self) -> Vec<Point> {
        let mut visits: Vec<&Visit> = self.visits.iter().collect();
        visits.sort_unstable_by_key(|visit| visit.path);
        visits.iter().map(|visit| visit.row.commitment).collect()
    }

    fn terminals(&self, keys: &[KeyPath]) -> Vec<Terminal> {
        let mut terminals = vec![Terminal::Empty { depth: 0 }; keys.len()];
        for visit in &self.visits {
            let depth = visit.path.depth() as u8;
            for (end, key) in visit.ends.iter().flat_map(|end| end.keys.clone().map(move |key| (end, key))) {
                terminals[key] = match end.leaf {
                    None => Terminal::Empty { depth },
                    Some(leaf) if leaf.path == keys[key] => Terminal::Present { depth },
                    Some(Leaf { path, value_hash }) => Terminal::Other { depth, path, value_hash },
                };
            }
        }
        terminals
    }
}

impl Visit {
    /// The slots that walks go through or end in, and the companion's, with their contents' scalars, ascending; `scalars` are
    /// those of the nodes visited.
    fn openings(&self, companion: Option<&Companion>, scalars: &[SlotScalar]) -> Result<Vec<(u8, SlotScalar)>, Damage> {
        let leaf = |end: &End| end.leaf.map_or(SlotScalar::EMPTY, |leaf| leaf.scalar());
        let ends = self.ends.iter().map(|end| (end.slot, leaf(end)));
        let inner = self.inner.iter().map(|(slot, child)| (*slot, scalars[*child]));
        let companion = companion.map(|companion| (companion.slot, companion.content.scalar()));
        let mut openings: Vec<(u8, SlotScalar)> = ends.chain(inner).chain(companion).collect();
        openings.sort_unstable_by_key(|(slot, _)| *slot);
        match openings.iter().find(|(slot, scalar)| self.scalar(*slot) != *scalar) {
            Some(_) => Err(Damage { node: self.path, what: "a slot's scalar is not that of its content" }),
            None => Ok(openings),
        }
    }

    /// What a slot counts for, where all slots are known.
    pub(super) fn scalar(&self, slot: u8) -> SlotScalar {
        match self.slots.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(at) => self.slots[at].1,
            Err(_) => SlotScalar::EMPTY,
        }
    }
}
