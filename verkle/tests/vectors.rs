//! Every vector of `spec/vectors` that this version of the format has to agree with.

use std::path::Path;
use std::sync::LazyLock;

use rustorium_verkle::curve::{Scalar, Sum, pairings_agree};
use rustorium_verkle::tree::{Bulk, Nodes};
use rustorium_verkle::{
    Change, Claim, Committer, Descent, Invalid, KeyPath, Leaf, NodePath, NodeRow, Point, PointBytes, Rule, SlotScalar,
    StateRoot, UpdateWitness, ValueHash, WindowBits, Witness, setup,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

static COMMITTER: Committer = Committer::new(WindowBits::SMALL);

fn vectors<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors").join(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

static STATE_TREE: LazyLock<StateTree> = LazyLock::new(|| vectors("state_tree_v1.json"));

#[derive(Deserialize)]
struct StateTree {
    leaf_primitives: Vec<LeafPrimitive>,
    point_primitives: Vec<PointPrimitive>,
    transcripts_over_the_forgery_pairs: Vec<TranscriptVector>,
    cases: Vec<Case>,
    histories: Vec<Vec<HistoryBatch>>,
    forgeries: Forgeries,
}

#[derive(Deserialize)]
struct LeafPrimitive {
    key: Hex,
    value: Hex,
    path: Hex,
    value_hash: Hex,
    leaf_scalar_le: Hex,
}

#[derive(Deserialize)]
struct PointPrimitive {
    point: Hex,
    what: String,
    node_scalar_le: Hex,
    state_root: Hex,
}

#[derive(Deserialize)]
struct TranscriptVector {
    key: Hex,
    d: Hex,
    pi: Hex,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    pairs: Vec<(Hex, Hex)>,
    root_commitment: Hex,
    state_root: Hex,
    inner_nodes: usize,
    witnesses: Vec<WitnessVector>,
}

#[derive(Deserialize)]
struct WitnessVector {
    claims: Vec<(Hex, Option<Hex>)>,
    witness: Hex,
}

#[derive(Deserialize)]
struct HistoryBatch {
    changes: Vec<(Hex, Option<Hex>)>,
    state_root: Hex,
}

#[derive(Deserialize)]
struct Forgeries {
    pairs: Vec<(Hex, Hex)>,
    state_root: Hex,
    must_reject: Vec<Forgery>,
}

#[derive(Deserialize)]
struct Forgery {
    why: String,
    rule: String,
    state_root: Option<Hex>,
    claims: Vec<(Hex, Option<Hex>)>,
    witness: Hex,
}

#[derive(Deserialize, Clone, PartialEq, Debug)]
struct Hex(#[serde(with = "const_hex")] Vec<u8>);

impl Hex {
    fn array<const N: usize>(&self) -> [u8; N] {
        self.0.as_slice().try_into().unwrap()
    }

    fn root(&self) -> StateRoot {
        StateRoot(self.array())
    }
}

fn claim((key, value): &(Hex, Option<Hex>)) -> Claim {
    match value {
        Some(value) => Claim::value(&key.0, &value.0),
        None => Claim::absent(&key.0),
    }
}

fn change((key, value): &(Hex, Option<Hex>)) -> Change {
    match value {
        Some(value) => Change::put(&key.0, &value.0),
        None => Change::delete(&key.0),
    }
}

fn tree_of(pairs: &[(Hex, Hex)]) -> Nodes {
    let mut nodes = Nodes::default();
    nodes.apply(pairs.iter().map(|(key, value)| Change::put(&key.0, &value.0)), &COMMITTER);
    nodes
}

/// The nodes of the tree, built in one pass.
fn built_from(pairs: &[(Hex, Hex)]) -> Vec<(NodePath, NodeRow)> {
    let leaf = |(key, value): &(Hex, Hex)| Leaf { path: KeyPath::of(&key.0), value_hash: ValueHash::of(&value.0) };
    let mut leaves: Vec<Leaf> = pairs.iter().map(leaf).collect();
    leaves.sort_by_key(|leaf| leaf.path);
    let mut bulk = Bulk::new(&COMMITTER);
    let mut nodes = bulk.push(&leaves).unwrap();
    nodes.extend(bulk.finish());
    nodes
}

fn prove_with_tables(nodes: &Nodes, keys: &[KeyPath]) -> Witness {
    let mut descent = Descent::prove(keys.iter().copied());
    while !descent.wanted().is_empty() {
        let answers = descent.wanted().iter().map(|want| nodes.supply(want)).collect();
        descent.supply(answers).unwrap();
    }
    descent.finish().prove(Some(&COMMITTER)).unwrap()
}

#[test]
fn primitives() {
    for leaf in &STATE_TREE.leaf_primitives {
        let (path, value_hash) = (KeyPath::of(&leaf.key.0), ValueHash::of(&leaf.value.0));
        assert_eq!(path.0, leaf.path.array());
        assert_eq!(value_hash.0, leaf.value_hash.array());
        assert_eq!(Leaf { path, value_hash }.scalar().to_le_bytes(), leaf.leaf_scalar_le.array());
    }
    for vector in &STATE_TREE.point_primitives {
        let encoded = PointBytes(vector.point.array());
        match vector.what.as_str() {
            "infinity" => assert_eq!(encoded, PointBytes::INFINITY),
            lagrange => {
                let slot: usize = lagrange.strip_prefix("L_").unwrap().parse().unwrap();
                assert_eq!(setup::lagrange()[slot].encode(), encoded);
            }
        }
        assert_eq!(SlotScalar::node(&encoded).to_le_bytes(), vector.node_scalar_le.array(), "{}", vector.what);
        assert_eq!(StateRoot::of(&encoded), vector.state_root.root(), "{}", vector.what);
    }
}

#[test]
fn cases() {
    for case in &STATE_TREE.cases {
        let nodes = tree_of(&case.pairs);
        assert_eq!(nodes.root().0, case.root_commitment.array(), "{}", case.name);
        assert_eq!(nodes.state_root(), case.state_root.root(), "{}", case.name);
        assert_eq!(nodes.inner_nodes(), case.inner_nodes, "{}", case.name);
        let built = built_from(&case.pairs);
        assert_eq!(built.len(), case.inner_nodes, "{}", case.name);
        let (path, root) = built.last().unwrap();
        assert_eq!((*path, root.commitment.encode()), (NodePath::ROOT, nodes.root()), "{}", case.name);
        for vector in &case.witnesses {
            let keys: Vec<KeyPath> = vector.claims.iter().map(|(key, _)| KeyPath::of(&key.0)).collect();
            let proved = nodes.prove(&keys).unwrap();
            assert_eq!(Hex(proved.encode()), vector.witness, "{}", case.name);
            assert_eq!(proved, prove_with_tables(&nodes, &keys), "{}", case.name);
            let claims: Vec<Claim> = vector.claims.iter().map(claim).collect();
            let decoded = Witness::decode(&vector.witness.0).unwrap();
            assert_eq!(decoded.verify(&nodes.state_root(), &claims), Ok(()), "{}", case.name);
        }
    }
}

#[test]
fn histories() {
    for history in &STATE_TREE.histories {
        let mut nodes = Nodes::default();
        for (index, batch) in history.iter().enumerate() {
            let delta = nodes.apply(batch.changes.iter().map(change), &COMMITTER);
            assert_eq!(delta.state_root(), batch.state_root.root(), "batch {index}");
            assert_eq!(nodes.state_root(), batch.state_root.root(), "batch {index}");
        }
    }
}

#[test]
fn transcripts() {
    let nodes = tree_of(&STATE_TREE.forgeries.pairs);
    for vector in &STATE_TREE.transcripts_over_the_forgery_pairs {
        let witness = nodes.prove(&[KeyPath::of(&vector.key.0)]).unwrap();
        assert_eq!(witness.proof.d.0, vector.d.array());
        assert_eq!(witness.proof.pi.0, vector.pi.array());
    }
}

#[test]
fn forgeries() {
    let forgeries = &STATE_TREE.forgeries;
    assert_eq!(tree_of(&forgeries.pairs).state_root(), forgeries.state_root.root());
    for forgery in &forgeries.must_reject {
        let state_root = forgery.state_root.as_ref().unwrap_or(&forgeries.state_root).root();
        let claims: Vec<Claim> = forgery.claims.iter().map(claim).collect();
        let judged = Witness::decode(&forgery.witness.0).and_then(|witness| witness.verify(&state_root, &claims));
        let refused = judged.expect_err(&forgery.why);
        // The spec leaves it open whether a node outside the subgroup falls to rule 7 or to rule 8.
        let either = forgery.why.contains("(rule point or multiproof)") && refused.rule == Rule::Multiproof;
        assert!(refused.rule.name() == forgery.rule || either, "{}: {refused}", forgery.why);
    }
}

#[derive(Deserialize)]
struct KzgVectors {
    cases: Vec<KzgCase>,
}

#[derive(Deserialize)]
struct KzgCase {
    name: String,
    commitment: Hex,
    z: Hex,
    y: Hex,
    proof: Hex,
    output: Option<bool>,
}

/// A single opening, as EIP-4844 has it: `e(C − [y] + z·π, [1]₂) = e(π, [τ]₂)`; `None` when an input is refused.
fn verify_kzg_proof(case: &KzgCase) -> Option<bool> {
    let point = |hex: &Hex| {
        let point = Point::decode(&PointBytes(hex.0.as_slice().try_into().ok()?)).ok()?;
        point.is_in_subgroup().then_some(point)
    };
    let scalar = |hex: &Hex| Scalar::from_be_bytes(&hex.0.as_slice().try_into().ok()?);
    let (commitment, proof) = (point(&case.commitment)?, point(&case.proof)?);
    let (z, y) = (scalar(&case.z)?, scalar(&case.y)?);
    let mut left = Sum::from(commitment);
    left += Sum::of_product(&Point::generator(), &-y);
    left += Sum::of_product(&proof, &z);
    Some(pairings_agree(&left.to_point(), &proof, setup::tau_g2()))
}

#[test]
fn kzg_openings_of_the_consensus_tests() {
    let vectors: KzgVectors = vectors("kzg_verify_proof.json");
    for case in &vectors.cases {
        assert_eq!(verify_kzg_proof(case), case.output, "{}", case.name);
    }
}

#[derive(Deserialize)]
struct StatelessUpdate {
    cases: Vec<UpdateCase>,
    must_accept: Vec<OtherUpdate>,
    must_reject: Vec<UpdateForgery>,
}

#[derive(Deserialize)]
struct UpdateCase {
    pairs: Vec<(Hex, Hex)>,
    reads: Vec<Hex>,
    changes: Vec<(Hex, Option<Hex>)>,
    witness: Hex,
    state_root: Hex,
    state_root_after: Hex,
}

#[derive(Deserialize)]
struct OtherUpdate {
    why: String,
    state_root: Hex,
    claims: Vec<(Hex, Option<Hex>)>,
    changes: Vec<(Hex, Option<Hex>)>,
    witness: Hex,
    state_root_after: Hex,
}

#[derive(Deserialize)]
struct UpdateForgery {
    why: String,
    rule: String,
    state_root: Hex,
    claims: Vec<(Hex, Option<Hex>)>,
    changes: Vec<(Hex, Option<Hex>)>,
    witness: Hex,
}

/// The verdict about bytes: the state root after, or the rule that refuses them.
fn update(root: &Hex, claims: &[Claim], changes: &[(Hex, Option<Hex>)], witness: &Hex) -> Result<StateRoot, Invalid> {
    let changes: Vec<Change> = changes.iter().map(change).collect();
    UpdateWitness::decode(&witness.0)?.verify(&root.root(), claims, &changes, &COMMITTER)
}

#[test]
fn updates() {
    let vectors: StatelessUpdate = vectors("stateless_update_v1.json");
    for (index, case) in vectors.cases.iter().enumerate() {
        let mut nodes = tree_of(&case.pairs);
        assert_eq!(nodes.state_root(), case.state_root.root(), "case {index}");
        let reads: Vec<KeyPath> = case.reads.iter().map(|key| KeyPath::of(&key.0)).collect();
        let changes: Vec<Change> = case.changes.iter().map(change).collect();
        let proved = nodes.prove_update(&reads, &changes).unwrap();
        assert_eq!(Hex(proved.encode()), case.witness, "case {index}");

        let mut keys: Vec<&Hex> = case.reads.iter().chain(case.changes.iter().map(|(key, _)| key)).collect();
        keys.sort_by_key(|key| &key.0);
        keys.dedup();
        let before =
            |key: &Hex| case.pairs.iter().rev().find(|(other, _)| other == key).map(|(_, value)| value.clone());
        let claims: Vec<Claim> = keys.into_iter().map(|key| claim(&(key.clone(), before(key)))).collect();
        let judged = update(&case.state_root, &claims, &case.changes, &case.witness);
        assert_eq!(judged, Ok(case.state_root_after.root()), "case {index}");
        assert_eq!(nodes.apply(changes, &COMMITTER).state_root(), case.state_root_after.root(), "case {index}");
    }
    for other in &vectors.must_accept {
        let claims: Vec<Claim> = other.claims.iter().map(claim).collect();
        let judged = update(&other.state_root, &claims, &other.changes, &other.witness);
        assert_eq!(judged, Ok(other.state_root_after.root()), "{}", other.why);
    }
    for forgery in &vectors.must_reject {
        let claims: Vec<Claim> = forgery.claims.iter().map(claim).collect();
        let judged = update(&forgery.state_root, &claims, &forgery.changes, &forgery.witness);
        let refused = judged.expect_err(&forgery.why);
        assert_eq!(refused.rule.name(), forgery.rule, "{}: {refused}", forgery.why);
    }
}
