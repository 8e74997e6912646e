//! The tree against its naive twin: a rebuild from the set of pairs alone, slot by slot, by plain multiplication.

mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Change, Delta, Descent, Nodes, Subtree, Supply, Want, WholeNode};
use crate::commit::{Committer, WindowBits};
use crate::curve::{Point, Scalar, naive_msm};
use crate::key::{KeyPath, NodePath, SlotScalar, ValueHash};
use crate::node::{self, Leaf, NodeRow, Slot, SlotSet};
use crate::setup;
use crate::witness::{Claim, Rule, Witness};

static COMMITTER: Committer = Committer::new(WindowBits::SMALL);

/// The node at `path` over the leaves below it, and all nodes under it, by the definition of spec §4.
pub(super) fn rebuild(path: NodePath, leaves: &[Leaf], rows: &mut BTreeMap<NodePath, NodeRow>) -> Point {
    let mut inner = SlotSet::EMPTY;
    let mut slots = Vec::new();
    for group in leaves.chunk_by(|a, b| a.path.slot(path.depth()) == b.path.slot(path.depth())) {
        let slot = group[0].path.slot(path.depth());
        slots.push(match group {
            [leaf] => (slot, Slot::Leaf(*leaf)),
            _ => {
                inner.insert(slot);
                (slot, Slot::Inner(rebuild(path.child(slot), group, rows)))
            }
        });
    }
    let bases: Vec<Point> = slots.iter().map(|(slot, _)| setup::lagrange()[*slot as usize]).collect();
    let scalars: Vec<Scalar> = slots.iter().map(|(_, content)| Scalar::from(&content.scalar())).collect();
    let commitment = naive_msm(&bases, &scalars);
    rows.insert(path, NodeRow { commitment, inner });
    commitment
}

fn assert_canonical(nodes: &Nodes, model: &BTreeMap<KeyPath, ValueHash>) {
    let leaves: Vec<Leaf> =
        model.iter().map(|(path, value_hash)| Leaf { path: *path, value_hash: *value_hash }).collect();
    let mut rows = BTreeMap::new();
    let root = rebuild(NodePath::ROOT, &leaves, &mut rows);
    assert_eq!(nodes.root(), root.encode());
    let stored: BTreeMap<NodePath, NodeRow> = nodes.rows().map(|(path, row)| (*path, *row)).collect();
    if !(stored.is_empty() && leaves.is_empty()) {
        assert_eq!(stored, rows);
    }
    for (path, row) in &stored {
        assert_eq!(node::check(path, &row.commitment, &nodes.slots(path)), Ok(()));
    }
}

/// Paths that share many leading bytes, so that deep nodes grow and collapse.
fn path() -> impl Strategy<Value = KeyPath> {
    (prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 4), 0..3usize, any::<u8>()).prop_map(
        |(head, deep, last)| {
            let mut path = [0; 32];
            path[..4].copy_from_slice(&head);
            let at = [4, 17, 31][deep];
            path[at] = last % 3;
            KeyPath(path)
        },
    )
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (path(), prop::option::of(0..3u8))
        .prop_map(|(path, value)| Change { path, value: value.map(|value| ValueHash([value; 32])) });
    prop::collection::vec(change, 0..24)
}

fn apply_to_model(model: &mut BTreeMap<KeyPath, ValueHash>, changes: &[Change]) {
    for change in changes {
        match change.value {
            Some(value) => model.insert(change.path, value),
            None => model.remove(&change.path),
        };
    }
}

/// Old values of the delta are those of the tree before, new ones those after.
fn assert_delta(before: &Nodes, after: &Nodes, delta: &Delta) {
    for leaf in &delta.leaves {
        assert_eq!(before.leaves.get(&leaf.path), leaf.old.as_ref());
        assert_eq!(after.leaves.get(&leaf.path), leaf.new.as_ref());
        assert_ne!(leaf.old, leaf.new);
    }
    // The root is always there, written or not.
    let row = |nodes: &Nodes, path: &NodePath| {
        nodes.nodes.get(path).copied().or((*path == NodePath::ROOT).then_some(NodeRow::EMPTY))
    };
    for node in &delta.nodes {
        assert_eq!(row(before, &node.path), node.old);
        assert_eq!(row(after, &node.path), node.new);
    }
}

type Kept = BTreeMap<NodePath, Arc<WholeNode>>;

fn whole(nodes: &Nodes, path: &NodePath) -> WholeNode {
    let (mut leaves, mut children) = (Vec::new(), Vec::new());
    for (_, content) in nodes.slots(path) {
        match content {
            Slot::Empty => {}
            Slot::Leaf(leaf) => leaves.push(leaf),
            Slot::Inner(commitment) => children.push(commitment),
        }
    }
    WholeNode::new(*path, nodes.nodes.get(path).copied().unwrap_or(NodeRow::EMPTY), &leaves, &children).unwrap()
}

/// Supplied with whole nodes where they are kept, with rows and leaves elsewhere.
fn load(mut descent: Descent, nodes: &Nodes, kept: &Kept) -> Subtree {
    while !descent.wanted().is_empty() {
        let answer = |want: &Want| match want {
            Want::Node { node, commitment } => {
                assert!(commitment.is_none_or(|commitment| commitment == nodes.nodes[node].commitment));
                kept.get(node).map_or_else(|| nodes.supply(want), |whole| Supply::Whole(whole.clone()))
            }
            want => nodes.supply(want),
        };
        let answers = descent.wanted().iter().map(answer).collect();
        descent.supply(answers).unwrap();
    }
    descent.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_gives_the_tree_of_its_final_set(batches in prop::collection::vec(changes(), 1..6)) {
        let (mut nodes, mut model) = (Nodes::default(), BTreeMap::new());
        for batch in &batches {
            let before = nodes.clone();
            let delta = nodes.apply(batch.iter().copied(), &COMMITTER);
            apply_to_model(&mut model, batch);
            assert_delta(&before, &nodes, &delta);
            assert_eq!(&nodes.leaves, &model);
            assert_canonical(&nodes, &model);
        }
        // All of it deleted again: the empty tree.
        nodes.apply(model.keys().map(|path| Change { path: *path, value: None }), &COMMITTER);
        assert_canonical(&nodes, &BTreeMap::new());
    }

    #[test]
    fn whole_nodes_give_what_rows_give_and_stay_whole(
        batches in prop::collection::vec((changes(), any::<u8>()), 1..6),
        asked in prop::collection::vec(path(), 1..8),
    ) {
        let mut nodes = Nodes::default();
        let mut kept = Kept::from([(NodePath::ROOT, Arc::new(WholeNode::empty()))]);
        for (batch, forgotten) in batches {
            let subtree = load(Descent::update(batch.iter().copied()), &nodes, &kept);
            let delta = subtree.apply(&COMMITTER);
            let twin = nodes.apply(batch, &COMMITTER);
            assert_eq!((delta.root, &delta.leaves, &delta.nodes), (twin.root, &twin.leaves, &twin.nodes));
            assert!(twin.whole.is_empty());
            for node in &delta.nodes {
                let was_known = kept.remove(&node.path).is_some() || node.old.is_none();
                let is_known = delta.whole.iter().any(|whole| *whole.path() == node.path);
                assert_eq!(is_known, was_known && node.new.is_some());
            }
            kept.extend(delta.whole.into_iter().map(|whole| (*whole.path(), whole)));
            for (path, kept) in &kept {
                assert_eq!(**kept, whole(&nodes, path));
                let scalars: Vec<(u8, SlotScalar)> =
                    nodes.slots(path).iter().map(|(slot, content)| (*slot, content.scalar())).collect();
                assert_eq!(kept.scalars(), scalars);
                assert!(scalars.iter().all(|(slot, scalar)| kept.scalar(*slot) == *scalar));
            }
            let proved = load(Descent::prove(asked.iter().copied()), &nodes, &kept).prove(None);
            assert_eq!(proved, nodes.prove(&asked));
            // Some are forgotten, so that the next batch meets both kinds; the root stays.
            kept.retain(|path, _| path.depth() == 0 || path.as_bytes().last().is_none_or(|last| last % 3 != forgotten % 4));
        }
    }

    #[test]
    fn witnesses_of_any_tree_verify_and_nothing_else_does(
        content in changes(),
        asked in prop::collection::vec(path(), 1..8),
    ) {
        let mut nodes = Nodes::default();
        nodes.apply(content, &COMMITTER);
        let witness = nodes.prove(&asked).unwrap();
        let witness = Witness::decode(&witness.encode()).unwrap();
        let mut asked = asked;
        asked.sort();
        asked.dedup();
        let claims: Vec<Claim> =
            asked.iter().map(|path| Claim { path: *path, value: nodes.leaves.get(path).copied() }).collect();
        assert_eq!(witness.verify(&nodes.state_root(), &claims), Ok(()));
        let mut points = load(Descent::prove(asked.iter().copied()), &nodes, &Kept::new()).commitments();
        assert_eq!(witness.verify_known(&nodes.state_root(), &claims, &points), Ok(()));
        for (index, claim) in claims.iter().enumerate() {
            let mut lie = claims.clone();
            lie[index].value = match claim.value {
                Some(_) => None,
                None => Some(ValueHash([9; 32])),
            };
            assert!(witness.verify(&nodes.state_root(), &lie).is_err());
            assert!(witness.verify_known(&nodes.state_root(), &lie, &points).is_err());
        }
        points[0] = Point::generator();
        assert!(witness.verify_known(&nodes.state_root(), &claims, &points).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), version in any::<bool>()) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut().filter(|_| version) {
            *first = crate::witness::VERSION;
        }
        if let Ok(witness) = Witness::decode(&bytes) {
            assert_eq!(witness.encode(), bytes);
            let claims: Vec<Claim> =
                (0..witness.terminals.len().min(4)).map(|i| Claim::absent(&[i as u8])).collect();
            let root = crate::key::StateRoot::of(&witness.root);
            assert!(witness.verify(&root, &claims).is_err());
        }
    }
}

#[test]
fn every_single_bit_change_of_a_witness_is_refused() {
    let mut nodes = Nodes::default();
    let pairs: Vec<([u8; 2], [u8; 1])> = (0..600u16).map(|i| (i.to_be_bytes(), [i as u8])).collect();
    nodes.apply(pairs.iter().map(|(key, value)| Change::put(key, value)), &COMMITTER);
    // Two keys that are there, and two that are not: one that ends in an empty slot, one at another key's leaf.
    let other = |key: &[u8]| {
        let witness = nodes.prove(&[KeyPath::of(key)]).unwrap();
        matches!(witness.terminals[0], crate::witness::Terminal::Other { .. })
    };
    let absent = |wanted: bool| (0..u32::MAX).map(u32::to_be_bytes).find(|key| other(key) == wanted).unwrap();
    let (empty, taken) = (absent(false), absent(true));
    let claims = [
        Claim::value(&pairs[3].0, &[3]),
        Claim::value(&pairs[500].0, &[244]),
        Claim::absent(&empty),
        Claim::absent(&taken),
    ];
    let bytes = nodes.prove(&claims.map(|claim| claim.path)).unwrap().encode();
    let root = nodes.state_root();
    let judge = |bytes: &[u8]| Witness::decode(bytes).and_then(|witness| witness.verify(&root, &claims));
    assert_eq!(judge(&bytes), Ok(()));
    let mut refusals: BTreeMap<Rule, usize> = BTreeMap::new();
    for bit in 0..8 * bytes.len() {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let refused = judge(&changed).expect_err(&format!("bit {bit} flipped"));
        *refusals.entry(refused.rule).or_default() += 1;
    }
    for (rule, _) in [(Rule::Decode, 0), (Rule::StateRoot, 0), (Rule::Point, 0), (Rule::Multiproof, 0)] {
        assert!(refusals.contains_key(&rule), "{rule} never refused anything: {refusals:?}");
    }
    for length in 0..bytes.len() {
        assert_eq!(judge(&bytes[..length]).unwrap_err().rule, Rule::Decode, "cut to {length} bytes");
    }
}

#[test]
fn damage_names_the_node() {
    let mut nodes = Nodes::default();
    nodes.apply((0..600u16).map(|i| Change::put(&i.to_be_bytes(), b"v")), &COMMITTER);
    let key = KeyPath::of(&7u16.to_be_bytes());
    let node = key.node(1);

    let mut missing = nodes.clone();
    missing.nodes.remove(&node);
    assert_eq!(missing.prove(&[key]).unwrap_err().node, node);

    // A leaf swapped for another value: the row and the commitment disagree with what the slot holds.
    let mut altered = nodes.clone();
    altered.nodes.get_mut(&node).unwrap().commitment = Point::generator();
    let witness = altered.prove(&[key]).unwrap();
    assert!(witness.verify(&nodes.state_root(), &[Claim::value(&7u16.to_be_bytes(), b"v")]).is_err());
}

#[test]
fn a_whole_node_is_refused_when_it_cannot_be_one() {
    let mut nodes = Nodes::default();
    nodes.apply((0..600u16).map(|i| Change::put(&i.to_be_bytes(), b"v")), &COMMITTER);
    let root = whole(&nodes, &NodePath::ROOT);
    let leaves: Vec<Leaf> = root.leaves().copied().collect();
    let children: Vec<Point> = root.row().inner.iter().map(|slot| *root.child(slot).unwrap()).collect();
    let made =
        |path: NodePath, leaves: &[Leaf], children: &[Point]| WholeNode::new(path, *root.row(), leaves, children);
    assert_eq!(made(NodePath::ROOT, &leaves, &children).as_ref(), Ok(&root));
    assert!(made(NodePath::ROOT, &leaves, &children[1..]).is_err());
    assert!(made(NodePath::ROOT, &[leaves[1], leaves[0]], &children).is_err());
    assert!(made(NodePath::ROOT, &[leaves[0], leaves[0]], &children).is_err());
    assert!(made(NodePath::new(&[leaves[0].path.0[0] ^ 1]), &leaves[..1], &children).is_err());
    let mut below = leaves[0];
    below.path.0[0] = root.row().inner.iter().next().unwrap();
    assert!(made(NodePath::ROOT, &[below], &children).is_err());

    // A child that is not the one that its parent names.
    let key = KeyPath::of(&7u16.to_be_bytes());
    nodes.nodes.get_mut(&key.node(1)).unwrap().commitment = Point::generator();
    let mut descent = Descent::update([Change { path: key, value: None }]);
    descent.supply(vec![Supply::Whole(Arc::new(root))]).unwrap();
    let answer = nodes.supply(&descent.wanted()[0]);
    assert_eq!(descent.supply(vec![answer]).unwrap_err().node, key.node(1));
}

#[test]
fn what_did_not_change_is_not_touched() {
    let mut nodes = Nodes::default();
    nodes.apply((0..600u16).map(|i| Change::put(&i.to_be_bytes(), b"v")), &COMMITTER);
    let root = nodes.root();
    let idle = nodes.apply([Change::put(&5u16.to_be_bytes(), b"v"), Change::delete(b"not there")], &COMMITTER);
    assert!(idle.leaves.is_empty() && idle.nodes.is_empty());
    assert_eq!((idle.root.encode(), nodes.root()), (root, root));
    // One key: its node and the root, no more.
    let one = nodes.apply([Change::put(&5u16.to_be_bytes(), b"w")], &COMMITTER);
    assert!(one.nodes.len() <= 3, "{} nodes for one overwritten key", one.nodes.len());
    // Within a batch the last change of a key wins.
    let batch = [Change::put(b"k", b"1"), Change::delete(b"k"), Change::put(b"k", b"2"), Change::delete(b"k")];
    assert!(nodes.apply(batch, &COMMITTER).leaves.is_empty());
}
