//! Which nodes changes might leave with fewer than two leaves below them, and what else has to be seen of those: by who
//! applies the changes, what they hold in the slots that no walk uses; by who proves them, one slot to show of it (the
//! companion of `STATELESS_UPDATE.md`).

use super::{Change, Damage, Descent, End, Goal, Rest, Supply, Target, Visit, Want, check_place, check_row};
use crate::key::NodePath;
use crate::node::{Leaf, SlotSet};
use crate::update::{Companion, Content};

/// Leaves from which on a count of them is of no interest.
const ENOUGH: usize = 2;

/// The visits that deletes might leave with fewer than two leaves, whatever lies in the slots that no walk uses. `changes`
/// are those of all keys of the walk. Children stand behind their parents.
pub(super) fn in_doubt(visits: &[Visit], changes: &[Change]) -> Vec<usize> {
    // Of each visit: whether a leaf below it is deleted, and how many leaves are left for sure.
    let mut weights: Vec<(bool, usize)> = vec![(false, ENOUGH); visits.len()];
    let mut in_doubt = Vec::new();
    for (index, visit) in visits.iter().enumerate().rev() {
        let (mut removed, mut least) = (false, ENOUGH * (visit.row.inner.len() - visit.inner.len()));
        for (_, child) in &visit.inner {
            removed |= weights[*child].0;
            least += weights[*child].1;
        }
        for end in &visit.ends {
            let deleted = |leaf: &Leaf| {
                changes[end.keys.clone()].iter().any(|change| change.path == leaf.path && change.value.is_none())
            };
            removed |= end.leaf.as_ref().is_some_and(deleted);
            least += end.leaves_after(changes);
        }
        weights[index] = (removed, ENOUGH);
        if visit.path != NodePath::ROOT && removed && least < ENOUGH {
            weights[index].1 = least;
            in_doubt.push(index);
        }
    }
    in_doubt
}

/// The visits that need a companion: those that lose everything that walks use of them, and keep something else. `changes`
/// are those of all keys of the walk, and all slots of the visits are known.
fn forlorn(visits: &[Visit], changes: &[Change]) -> Vec<usize> {
    // Of each visit: how many leaves are left.
    let mut left: Vec<usize> = vec![ENOUGH; visits.len()];
    let mut forlorn = Vec::new();
    for (index, visit) in visits.iter().enumerate().rev() {
        let ends: usize = visit.ends.iter().map(|end| end.leaves_after(changes)).sum();
        let of_walks = visit.inner.iter().map(|(_, child)| left[*child]).sum::<usize>() + ends;
        if of_walks >= ENOUGH {
            continue;
        }
        let weight = |slot| if visit.row.inner.contains(slot) { ENOUGH } else { 1 };
        let others: usize = visit.others().map(weight).sum();
        left[index] = of_walks + others;
        let loses = !visit.inner.is_empty() || visit.ends.iter().any(|end| end.leaf.is_some());
        if visit.path != NodePath::ROOT && of_walks == 0 && loses && others > 0 {
            forlorn.push(index);
        }
    }
    forlorn
}

impl Descent {
    /// Finds the nodes that deletes might make collapse, and asks what else they hold.
    pub(super) fn weigh(&mut self) {
        match &self.goal {
            Goal::Update(changes) => {
                for index in in_doubt(&self.visits, changes) {
                    self.want_rest(index);
                }
            }
            Goal::Prove { changes, .. } if changes.is_empty() => {}
            Goal::Prove { .. } => {
                for index in forlorn(&self.visits, &self.all_changes()) {
                    self.want_companion(index);
                }
            }
        }
    }

    fn want_rest(&mut self, index: usize) {
        let visit = &mut self.visits[index];
        let mut taken = visit.used();
        visit.row.inner.iter().for_each(|slot| taken.insert(slot));
        let slots = taken.complement();
        match &visit.whole {
            Some(whole) => {
                let at = |leaf: &&Leaf| slots.contains(leaf.path.slot(visit.path.depth()));
                visit.rest = Rest::Leaves(whole.leaves().filter(at).take(ENOUGH).copied().collect());
            }
            None => {
                let want = Want::Rest { node: visit.path, slots };
                self.want(want, Target::Rest { visit: index });
            }
        }
    }

    /// The changes of a proof's keys, with those that change nothing for the keys that are only read.
    fn all_changes(&self) -> Vec<Change> {
        let Goal::Prove { keys, changes } = &self.goal else { unreachable!("an update has its changes") };
        let mut all: Vec<Change> = keys.iter().map(|path| Change { path: *path, value: None }).collect();
        for End { keys, leaf, .. } in self.visits.iter().flat_map(|visit| &visit.ends) {
            let Some(leaf) = leaf else { continue };
            if let Some(own) = all[keys.clone()].iter_mut().find(|change| change.path == leaf.path) {
                own.value = Some(leaf.value_hash);
            }
        }
        for change in changes {
            let at = keys.binary_search(&change.path).expect("every changed key is walked to");
            all[at] = *change;
        }
        all
    }

    /// Shows the lowest slot of a node that no walk uses and that is not empty: its content if it is the only one.
    fn want_companion(&mut self, index: usize) {
        let visit = &self.visits[index];
        let others: Vec<u8> = visit.others().take(2).collect();
        let slot = others[0];
        let content = match &visit.whole {
            _ if others.len() == 2 => Content::NonZero(visit.scalar(slot)),
            Some(whole) => {
                let node = || whole.child(slot).map(|commitment| Content::Node(commitment.encode()));
                let leaf = || whole.leaf(slot).map(|leaf| Content::Leaf(*leaf));
                node().or_else(leaf).expect("a slot with a scalar has a content")
            }
            None => {
                let node = visit.path;
                let want = if visit.row.inner.contains(slot) {
                    Want::Node { node: node.child(slot), commitment: None }
                } else {
                    let mut slots = SlotSet::EMPTY;
                    slots.insert(slot);
                    Want::Rest { node, slots }
                };
                return self.want(want, Target::Companion { visit: index, slot });
            }
        };
        self.accompany(index, slot, content);
    }

    pub(super) fn accompany(&mut self, visit: usize, slot: u8, content: Content) {
        self.companions.push((visit, Companion { node: self.visits[visit].path, slot, content }));
    }

    /// What an answer says that a slot of a node holds.
    pub(super) fn companion(&self, node: NodePath, slot: u8, answer: Supply) -> Result<Content, Damage> {
        let child = |row| {
            check_row(&node.child(slot), &row, None)?;
            Ok(Content::Node(row.commitment.encode()))
        };
        match answer {
            Supply::Whole(whole) => child(*whole.row()),
            Supply::Node(Some(row)) => child(row),
            Supply::Node(None) => Err(Damage { node: node.child(slot), what: "the node is missing" }),
            Supply::Rest(leaves) => match leaves.as_slice() {
                [leaf] => {
                    check_place(&node, slot, Some(leaf))?;
                    Ok(Content::Leaf(*leaf))
                }
                _ => Err(Damage { node, what: "a slot that is not empty has no leaf, or more than one" }),
            },
            Supply::Slot(_) | Supply::Row(_) => panic!("an answer of another kind than its want"),
        }
    }
}

impl Visit {
    /// The slots that walks go through or end in.
    fn used(&self) -> SlotSet {
        let mut used = SlotSet::EMPTY;
        self.inner.iter().for_each(|(slot, _)| used.insert(*slot));
        self.ends.iter().for_each(|end| used.insert(end.slot));
        used
    }

    /// The other slots that are not empty, ascending, where all are known.
    pub(super) fn others(&self) -> impl Iterator<Item = u8> + '_ {
        let used = self.used();
        self.slots.iter().map(|(slot, _)| *slot).filter(move |slot| !used.contains(*slot))
    }
}

impl End {
    /// How many leaves the changes leave in this slot.
    fn leaves_after(&self, changes: &[Change]) -> usize {
        self.after_one(changes).map_or_else(|| self.after(changes).len(), |leaf| leaf.is_some() as usize)
    }

    /// What one change of a slot's only leaf, or of an empty slot, leaves there; `None` when it is not as simple as that.
    pub(super) fn after_one(&self, changes: &[Change]) -> Option<Option<Leaf>> {
        let [change] = &changes[self.keys.clone()] else { return None };
        let is_own = self.leaf.is_none_or(|leaf| leaf.path == change.path);
        is_own.then(|| change.value.map(|value_hash| Leaf { path: change.path, value_hash }))
    }

    /// The leaves of this slot after the changes, ascending.
    pub(super) fn after(&self, changes: &[Change]) -> Vec<Leaf> {
        let changes = &changes[self.keys.clone()];
        let kept = self.leaf.filter(|leaf| changes.iter().all(|change| change.path != leaf.path));
        let put = changes.iter().filter_map(|change| Some(Leaf { path: change.path, value_hash: change.value? }));
        let mut leaves: Vec<Leaf> = put.chain(kept).collect();
        leaves.sort_unstable_by_key(|leaf| leaf.path);
        leaves
    }
}
