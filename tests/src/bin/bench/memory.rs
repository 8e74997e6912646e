//! A tree in memory, to measure arithmetic on: random paths and value hashes, no disk and no values. All its nodes are
//! kept whole, as a node's cache has those that it keeps.

use rand::Rng as _;
use std::collections::HashMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::index;
use rustorium_tests::chain::rng;
use rustorium_verkle::tree::WholeNode;
use rustorium_verkle::{Change, Committer, Delta, Descent, KeyPath, NodePath, Subtree, Supply, ValueHash, Want};

/// Keys that the tree grows by at a time.
const GROWTH_KEYS: usize = 200_000;

/// The tree, and the paths that are in it.
pub(crate) struct Tree {
    nodes: HashMap<NodePath, Arc<WholeNode>>,
    known: Vec<KeyPath>,
    rng: StdRng,
}

impl Tree {
    pub(crate) fn new(seed: u64) -> Self {
        let nodes = HashMap::from([(NodePath::ROOT, Arc::new(WholeNode::empty()))]);
        Self { nodes, known: Vec::new(), rng: rng(seed, "memory", 0) }
    }

    /// Adds random keys until there are so many.
    pub(crate) fn grow(&mut self, keys: usize, committer: &Committer) {
        while self.known.len() < keys {
            let count = GROWTH_KEYS.min(keys - self.known.len());
            let changes: Vec<Change> =
                (0..count).map(|_| change(KeyPath(hash(&mut self.rng)), &mut self.rng)).collect();
            self.apply(&changes, committer);
        }
    }

    /// Changes of distinct random keys, half of them known and half new; at least one is known.
    pub(crate) fn batch(&mut self, count: usize) -> Vec<Change> {
        let known = index::sample(&mut self.rng, self.known.len(), count.div_ceil(2));
        let mut paths: Vec<KeyPath> = known.into_iter().map(|index| self.known[index]).collect();
        paths.extend((paths.len()..count).map(|_| KeyPath(hash(&mut self.rng))));
        paths.into_iter().map(|path| change(path, &mut self.rng)).collect()
    }

    /// Makes a batch part of the tree.
    pub(crate) fn apply(&mut self, changes: &[Change], committer: &Committer) -> Delta {
        let delta = self.to_update(changes).apply(committer);
        // Puts make no node vanish.
        self.nodes.extend(delta.whole.iter().map(|node| (*node.path(), node.clone())));
        self.known.extend(delta.leaves.iter().filter(|leaf| leaf.old.is_none()).map(|leaf| leaf.path));
        delta
    }

    /// What an update with these changes has to see, all of it loaded: whole nodes, so that the update makes whole nodes.
    pub(crate) fn to_update(&self, changes: &[Change]) -> Subtree {
        self.loaded(Descent::update(changes.iter().copied()))
    }

    /// The same from nodes' rows and single leaves, so that nothing is done but to commit.
    pub(crate) fn to_commit(&self, changes: &[Change]) -> Subtree {
        let answer = |want: &Want| match want {
            Want::Node { node, .. } => Supply::Node(Some(*self.nodes[node].row())),
            Want::Slot { node, slot, .. } => Supply::Slot(self.nodes[node].leaf(*slot).copied()),
            _ => unreachable!("puts ask for nodes and slots"),
        };
        supplied(Descent::update(changes.iter().copied()), answer)
    }

    /// What a proof of these keys has to see, all of it loaded.
    pub(crate) fn to_prove(&self, keys: &[KeyPath]) -> Subtree {
        self.loaded(Descent::prove(keys.iter().copied()))
    }

    fn loaded(&self, descent: Descent) -> Subtree {
        let answer = |want: &Want| match want {
            Want::Node { node, .. } => Supply::Whole(self.nodes[node].clone()),
            _ => unreachable!("of a whole node nothing else is asked"),
        };
        supplied(descent, answer)
    }
}

fn supplied(mut descent: Descent, answer: impl Fn(&Want) -> Supply) -> Subtree {
    while !descent.wanted().is_empty() {
        let answers = descent.wanted().iter().map(&answer).collect();
        descent.supply(answers).expect("a tree in memory is whole");
    }
    descent.finish()
}

fn change(path: KeyPath, rng: &mut StdRng) -> Change {
    Change { path, value: Some(ValueHash(hash(rng))) }
}

pub(crate) fn hash(rng: &mut StdRng) -> [u8; 32] {
    let mut hash = [0; 32];
    rng.fill_bytes(&mut hash);
    hash
}
