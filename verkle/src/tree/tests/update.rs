//! Update witnesses against their naive twin, the text of `STATELESS_UPDATE.md` step by step over the whole tree, and
//! against the tree after the block.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{COMMITTER, Kept, load, rebuild, whole};
use crate::curve::{Point, Scalar, Sum, naive_msm};
use crate::key::{KeyPath, NodePath, SlotScalar, StateRoot, ValueHash};
use crate::node::{Leaf, Slot};
use crate::setup;
use crate::tree::{Change, Descent, Nodes};
use crate::update::{Companion, Content, UpdateWitness};
use crate::witness::{Claim, Rule};

/// Few paths that share one, four or thirty-one bytes with many others, so that deletes collapse nodes over many levels.
fn near() -> impl Strategy<Value = KeyPath> {
    (prop::array::uniform2(0..2u8), 0..3usize, 0..3u8).prop_map(|([first, second], deep, last)| {
        let mut path = [0; 32];
        (path[0], path[4]) = (first, second);
        path[[2, 5, 31][deep]] = last;
        KeyPath(path)
    })
}

fn put(path: KeyPath, value: u8) -> Change {
    Change { path, value: Some(ValueHash([value; 32])) }
}

/// A tree, and the reads and changes of a block on it.
#[derive(Clone, Debug)]
struct Block {
    content: Vec<KeyPath>,
    reads: Vec<KeyPath>,
    changes: Vec<Change>,
}

impl Block {
    fn nodes(&self) -> Nodes {
        let mut nodes = Nodes::default();
        nodes.apply(self.content.iter().map(|path| put(*path, 0)), &COMMITTER);
        nodes
    }

    fn claims(&self, nodes: &Nodes) -> Vec<Claim> {
        let keys: BTreeSet<KeyPath> = self.reads.iter().copied().chain(self.changes.iter().map(|c| c.path)).collect();
        keys.into_iter().map(|path| Claim { path, value: nodes.leaves.get(&path).copied() }).collect()
    }

    fn root_after(&self, nodes: &Nodes) -> StateRoot {
        nodes.clone().apply(self.changes.iter().copied(), &COMMITTER).state_root()
    }
}

/// Mostly deletes of what is there, so that nodes collapse; one change for a key.
fn block() -> impl Strategy<Value = Block> {
    let change = (near(), prop_oneof![5 => Just(None), 2 => (0..2u8).prop_map(Some)]);
    let parts = (prop::collection::btree_set(near(), 0..20), prop::collection::vec(near(), 0..4));
    (parts, prop::collection::vec(change, 0..24)).prop_map(|((content, reads), changes)| {
        let changes: BTreeMap<KeyPath, Option<u8>> = changes.into_iter().collect();
        let changes = changes.into_iter().map(|(path, value)| match value {
            Some(value) => put(path, value),
            None => Change { path, value: None },
        });
        let (changes, mut reads): (Vec<Change>, Vec<KeyPath>) = (changes.collect(), reads);
        if changes.is_empty() && reads.is_empty() {
            reads.push(KeyPath([0; 32]));
        }
        Block { content: content.into_iter().collect(), reads, changes }
    })
}

/// The spec's `post`, for who sees the whole tree.
struct Naive<'a> {
    nodes: &'a Nodes,
    claims: &'a [Claim],
    changes: &'a [Change],
    companions: BTreeMap<NodePath, Companion>,
}

/// New content of a known slot.
#[derive(Clone, Copy, PartialEq)]
enum New {
    Slot(Slot),
    /// Of a companion that shows a scalar alone.
    Bare(SlotScalar),
}

impl New {
    fn scalar(&self) -> SlotScalar {
        match self {
            Self::Slot(slot) => slot.scalar(),
            Self::Bare(scalar) => *scalar,
        }
    }
}

/// `Σ values_i · L_i`.
fn commitment<'a>(values: impl Iterator<Item = (&'a u8, SlotScalar)>) -> Point {
    let (bases, scalars): (Vec<Point>, Vec<Scalar>) =
        values.map(|(slot, value)| (setup::lagrange()[*slot as usize], Scalar::from(&value))).unzip();
    naive_msm(&bases, &scalars)
}

impl Naive<'_> {
    /// What becomes of a node; `None` when it is undecided.
    fn post(&self, node: NodePath) -> Option<Slot> {
        let depth = node.depth();
        let old: BTreeMap<u8, Slot> = self.nodes.slots(&node).into_iter().collect();
        let used: BTreeSet<u8> =
            self.claims.iter().filter(|c| node.covers(&c.path)).map(|c| c.path.slot(depth)).collect();
        let at = |slot: &u8| old.get(slot).copied().unwrap_or(Slot::Empty);
        // Step 1.
        let mut new: BTreeMap<u8, New> = BTreeMap::new();
        for slot in &used {
            let inside = |change: &&Change| node.covers(&change.path) && change.path.slot(depth) == *slot;
            let changes: Vec<&Change> = self.changes.iter().filter(inside).collect();
            let content = match at(slot) {
                content if changes.is_empty() => content,
                Slot::Inner(_) => self.post(node.child(*slot))?,
                content => {
                    let mut leaves = BTreeMap::new();
                    if let Slot::Leaf(leaf) = content {
                        leaves.insert(leaf.path, leaf.value_hash);
                    }
                    for change in changes {
                        leaves.remove(&change.path);
                        leaves.extend(change.value.map(|value_hash| (change.path, value_hash)));
                    }
                    let leaves: Vec<Leaf> =
                        leaves.into_iter().map(|(path, value_hash)| Leaf { path, value_hash }).collect();
                    match leaves.as_slice() {
                        [] => Slot::Empty,
                        [leaf] => Slot::Leaf(*leaf),
                        _ => Slot::Inner(rebuild(node.child(*slot), &leaves, &mut BTreeMap::new())),
                    }
                }
            };
            new.insert(*slot, New::Slot(content));
        }
        // Step 2.
        if let Some(companion) = self.companions.get(&node) {
            let shown = match companion.content {
                Content::NonZero(scalar) => New::Bare(scalar),
                Content::Leaf(leaf) => New::Slot(Slot::Leaf(leaf)),
                Content::Node(encoded) => New::Slot(Slot::Inner(Point::decode(&encoded).unwrap())),
            };
            new.insert(companion.slot, shown);
        }
        let before = commitment(old.iter().map(|(slot, content)| (slot, content.scalar())));
        let mut after = Sum::from(before);
        after += -commitment(new.keys().map(|slot| (slot, at(slot).scalar())));
        let k = commitment(new.iter().map(|(slot, content)| (slot, content.scalar())));
        after += k;
        let after = after.to_point();
        // Step 3.
        let gone = |(slot, content): (&u8, &New)| match (at(slot), content) {
            (Slot::Empty, _) => false,
            (_, New::Slot(Slot::Empty)) | (Slot::Inner(_), New::Slot(Slot::Leaf(_))) => true,
            _ => false,
        };
        let filled: Vec<&New> = new.values().filter(|content| **content != New::Slot(Slot::Empty)).collect();
        let inner = filled.iter().any(|content| matches!(content, New::Slot(Slot::Inner(_))));
        if node != NodePath::ROOT && new.iter().any(gone) && !inner && filled.len() <= 1 {
            return match (after == k, filled.first()) {
                (true, Some(New::Bare(_))) | (false, None) => None,
                (true, None) => Some(Slot::Empty),
                (true, Some(New::Slot(leaf))) => Some(*leaf),
                (false, Some(_)) => Some(Slot::Inner(after)),
            };
        }
        // Step 4.
        Some(Slot::Inner(after))
    }

    fn root_after(&self) -> Option<StateRoot> {
        match self.post(NodePath::ROOT)? {
            Slot::Inner(commitment) => Some(StateRoot::of(&commitment.encode())),
            Slot::Empty | Slot::Leaf(_) => unreachable!("the root does not collapse"),
        }
    }
}

/// The same walks, with other companions than an honest prover's: of any node visited, any slot that walks do not use.
fn with_companions(nodes: &Nodes, block: &Block, picks: &[(usize, usize, u8)]) -> UpdateWitness {
    let descent = Descent::prove_update(block.reads.iter().copied(), block.changes.iter().copied());
    let mut subtree = load(descent, nodes, &Kept::new());
    subtree.companions.clear();
    let mut taken = BTreeSet::new();
    for (visit, other, kind) in picks {
        let at = visit % subtree.visits.len();
        let visit = &subtree.visits[at];
        let others: Vec<u8> = visit.others().collect();
        if others.is_empty() || !taken.insert(at) {
            continue;
        }
        let slot = others[other % others.len()];
        let content = match nodes.slots(&visit.path).into_iter().find(|(s, _)| *s == slot).unwrap().1 {
            content if *kind == 0 => Content::NonZero(content.scalar()),
            Slot::Leaf(leaf) => Content::Leaf(leaf),
            Slot::Inner(commitment) => Content::Node(commitment.encode()),
            Slot::Empty => unreachable!("others are not empty"),
        };
        subtree.companions.push((at, Companion { node: visit.path, slot, content }));
    }
    subtree.prove_update(Some(&COMMITTER)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn honest_witnesses_lead_to_the_root_of_the_rebuilt_tree(block in block(), noise in any::<(u16, u8)>()) {
        let nodes = block.nodes();
        let (root, claims, after) = (nodes.state_root(), block.claims(&nodes), block.root_after(&nodes));
        let witness = nodes.prove_update(&block.reads, &block.changes).unwrap();
        let bytes = witness.encode();
        prop_assert_eq!(UpdateWitness::decode(&bytes), Ok(witness.clone()));
        prop_assert_eq!(witness.verify(&root, &claims, &block.changes, &COMMITTER), Ok(after));
        let companions = witness.companions.iter().map(|companion| (companion.node, *companion)).collect();
        let naive = Naive { nodes: &nodes, claims: &claims, changes: &block.changes, companions };
        prop_assert_eq!(naive.root_after(), Some(after));
        // No companion is there for nothing.
        for index in 0..witness.companions.len() {
            let mut fewer: BTreeMap<_, _> = naive.companions.clone();
            fewer.remove(&witness.companions[index].node);
            prop_assert_eq!(Naive { companions: fewer, ..naive }.root_after(), None);
        }
        // From whole nodes the same.
        let kept: Kept = nodes.rows().map(|(path, _)| (*path, whole(&nodes, path).into())).collect();
        let descent = Descent::prove_update(block.reads.iter().copied(), block.changes.iter().copied());
        prop_assert_eq!(load(descent, &nodes, &kept).prove_update(Some(&COMMITTER)), Ok(witness.clone()));

        // One altered byte, and one altered claim, never lead anywhere else.
        let mut altered = bytes.clone();
        altered[noise.0 as usize % bytes.len()] ^= noise.1;
        let judge = |bytes: &[u8], claims: &[Claim]| {
            UpdateWitness::decode(bytes).and_then(|witness| witness.verify(&root, claims, &block.changes, &COMMITTER))
        };
        prop_assert!(judge(&altered, &claims).is_err() || altered == bytes);
        let mut lie = claims.clone();
        let at = noise.0 as usize % claims.len();
        lie[at].value = if lie[at].value.is_some() { None } else { Some(ValueHash([noise.1; 32])) };
        prop_assert!(judge(&bytes, &lie).is_err());
    }

    #[test]
    fn any_witness_leads_to_the_right_root_or_is_undecided(
        block in block(),
        picks in prop::collection::vec((any::<usize>(), any::<usize>(), 0..2u8), 0..8),
        others in prop::collection::vec(any::<Option<bool>>(), 24),
    ) {
        let nodes = block.nodes();
        let (root, claims) = (nodes.state_root(), block.claims(&nodes));
        let witness = with_companions(&nodes, &block, &picks);
        // Also when the block turns out to be another one over the same keys.
        let other = claims.iter().zip(&others).filter_map(|(claim, other)| match (*other)? {
            true => Some(put(claim.path, 7)),
            false => Some(Change { path: claim.path, value: None }),
        });
        for changes in [block.changes.clone(), other.collect()] {
            let companions = witness.companions.iter().map(|companion| (companion.node, *companion)).collect();
            let naive = Naive { nodes: &nodes, claims: &claims, changes: &changes, companions };
            let judged = witness.verify(&root, &claims, &changes, &COMMITTER);
            match naive.root_after() {
                Some(after) => {
                    prop_assert_eq!(&judged, &Ok(after));
                    prop_assert_eq!(after, Block { changes, ..block.clone() }.root_after(&nodes));
                }
                None => prop_assert_eq!(judged.map_err(|refused| refused.rule), Err(Rule::Undecided)),
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), version in any::<bool>()) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut().filter(|_| version) {
            *first = crate::update::VERSION;
        }
        if let Ok(witness) = UpdateWitness::decode(&bytes) {
            prop_assert_eq!(witness.encode(), bytes);
        }
    }
}

/// Leaves at `00…00`, `00…01`, both of a node 31 levels down, and what else is asked for.
fn deep(others: &[KeyPath]) -> (Nodes, [KeyPath; 2]) {
    let mut last = [0; 32];
    last[31] = 1;
    let pair = [KeyPath([0; 32]), KeyPath(last)];
    let mut nodes = Nodes::default();
    nodes.apply(pair.iter().chain(others).map(|path| put(*path, 0)), &COMMITTER);
    (nodes, pair)
}

#[test]
fn a_delete_collapses_every_level_up_to_the_root() {
    let (nodes, pair) = deep(&[]);
    assert_eq!(nodes.inner_nodes(), 32);
    let delete = |path: KeyPath| Change { path, value: None };
    let claims = pair.map(|path| Claim { path, value: nodes.leaves.get(&path).copied() });
    for (changes, companions) in [(vec![delete(pair[0])], 1), (pair.map(delete).to_vec(), 0)] {
        let witness = nodes.prove_update(&[], &changes).unwrap();
        assert_eq!(witness.companions.len(), companions);
        let mut after = nodes.clone();
        after.apply(changes.iter().copied(), &COMMITTER);
        assert_eq!(after.inner_nodes(), 1);
        let judged = witness.verify(&nodes.state_root(), &claims[..changes.len()], &changes, &COMMITTER);
        assert_eq!(judged, Ok(after.state_root()));
    }
    // Read as well, what is left needs no companion.
    let witness = nodes.prove_update(&[pair[1]], &[delete(pair[0])]).unwrap();
    assert_eq!(witness.companions, []);
}

#[test]
fn every_single_bit_change_of_an_update_witness_is_refused() {
    let mut side = [0; 32];
    (side[0], side[1]) = (1, 1);
    let mut far = side;
    far[1] = 2;
    let mut farther = side;
    farther[1] = 3;
    let (nodes, [first, second]) = deep(&[KeyPath(side), KeyPath(far), KeyPath(farther)]);
    // One companion is a leaf, the other a bare scalar.
    let changes = [Change { path: first, value: None }, Change { path: KeyPath(side), value: None }];
    let witness = nodes.prove_update(&[], &changes).unwrap();
    assert!(matches!(witness.companions[0].content, Content::Leaf(leaf) if leaf.path == second));
    assert!(matches!(witness.companions[1].content, Content::NonZero(_)));
    let claims = changes.map(|change| Claim { path: change.path, value: nodes.leaves.get(&change.path).copied() });
    let (root, bytes) = (nodes.state_root(), witness.encode());
    let judge = |bytes: &[u8]| {
        UpdateWitness::decode(bytes).and_then(|witness| witness.verify(&root, &claims, &changes, &COMMITTER))
    };
    assert!(judge(&bytes).is_ok());
    for bit in 0..8 * bytes.len() {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        judge(&changed).expect_err(&format!("bit {bit} flipped"));
    }
    for length in 0..bytes.len() {
        assert_eq!(judge(&bytes[..length]).unwrap_err().rule, Rule::Decode, "cut to {length} bytes");
    }
}

#[test]
fn rules_are_asked_in_their_order() {
    let (nodes, [first, second]) = deep(&[]);
    let change = Change { path: first, value: None };
    let claim = |path: KeyPath| Claim { path, value: nodes.leaves.get(&path).copied() };
    let witness = nodes.prove_update(&[], &[change]).unwrap();
    let elsewhere = StateRoot([9; 32]);
    let rule = |witness: &UpdateWitness, root: &StateRoot, claims: &[Claim], changes: &[Change]| {
        witness.verify(root, claims, changes, &COMMITTER).unwrap_err().rule
    };
    // Everything is wrong at once; then one thing after the other is put right.
    let mut wrong = witness.clone();
    wrong.companions[0].content = Content::NonZero(SlotScalar::EMPTY);
    let twice = [claim(first), claim(first)];
    assert_eq!(rule(&wrong, &elsewhere, &twice, &[change, change]), Rule::Decode);
    wrong.companions[0] = Companion { slot: 0, ..witness.companions[0] };
    wrong.walks.proof.pi = Point::generator().encode();
    assert_eq!(rule(&wrong, &elsewhere, &twice, &[change, change]), Rule::Change);
    assert_eq!(rule(&wrong, &elsewhere, &[claim(second)], &[change]), Rule::Change);
    assert_eq!(rule(&wrong, &elsewhere, &[], &[change]), Rule::Change);
    assert_eq!(rule(&wrong, &elsewhere, &[], &[]), Rule::StateRoot);
    assert_eq!(rule(&wrong, &elsewhere, &twice, &[change]), Rule::StateRoot);
    let root = nodes.state_root();
    assert_eq!(rule(&wrong, &root, &twice, &[change]), Rule::Count);
    assert_eq!(rule(&wrong, &root, &[], &[]), Rule::Count);
    let claims = [claim(first)];
    let mut short = wrong.clone();
    short.walks.nodes.pop();
    assert_eq!(rule(&short, &root, &claims, &[change]), Rule::Nodes);
    assert_eq!(rule(&wrong, &root, &[Claim { value: None, ..claims[0] }], &[change]), Rule::Terminal);
    assert_eq!(rule(&wrong, &root, &claims, &[change]), Rule::Query);
    wrong.companions[0] =
        Companion { content: Content::Node(crate::curve::PointBytes::INFINITY), ..witness.companions[0] };
    assert_eq!(rule(&wrong, &root, &claims, &[change]), Rule::Point);
    wrong.companions = witness.companions.clone();
    assert_eq!(rule(&wrong, &root, &claims, &[change]), Rule::Multiproof);
    // Of a block that only reads, the root stays; the witness was made for its keys alone.
    assert_eq!(witness.verify(&root, &claims, &[], &COMMITTER), Ok(root));
}
