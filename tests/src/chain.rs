//! Made-up chains: every block is a function of a seed and its number, so that a model can follow a node from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rustorium_rpc::wire::{Hash32, HexBytes, KeyValue, NewBlock, WitnessBundle};
use rustorium_state::Change;
use rustorium_verkle::tree::Nodes;
use rustorium_verkle::{Claim, Committer, StateRoot, WindowBits, Witness};
use serde_json::json;

/// Keys that made-up blocks write to.
const KEYS: u32 = 2000;
/// Changes of a made-up block.
const CHANGES: usize = 40;

static COMMITTER: Committer = Committer::new(WindowBits::SMALL);

/// The seed of this run, `RUSTORIUM_SEED` or a fixed one. Says it, for whoever reads of a failure.
pub fn seed() -> u64 {
    const DEFAULT: u64 = 20_150_730;
    let seed =
        std::env::var("RUSTORIUM_SEED").map_or(DEFAULT, |seed| seed.parse().expect("RUSTORIUM_SEED is a number"));
    println!("to see this again: RUSTORIUM_SEED={seed}");
    seed
}

/// The generator of a scenario's part.
pub fn rng(seed: u64, part: &str, number: u64) -> StdRng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&number.to_le_bytes()).update(part.as_bytes());
    StdRng::from_seed(*hasher.finalize().as_bytes())
}

/// Writes a spec with these pairs in its genesis to `<folder>/<id>.json`.
pub fn write_spec(folder: &Path, id: &str, pairs: &BTreeMap<Vec<u8>, Vec<u8>>) -> anyhow::Result<PathBuf> {
    write_spec_as(folder, id, pairs, "instant")
}

/// The same for a chain whose blocks are final when its engine says so.
pub fn write_engine_spec(folder: &Path, id: &str, pairs: &BTreeMap<Vec<u8>, Vec<u8>>) -> anyhow::Result<PathBuf> {
    write_spec_as(folder, id, pairs, "engine")
}

fn write_spec_as(
    folder: &Path,
    id: &str,
    pairs: &BTreeMap<Vec<u8>, Vec<u8>>,
    finality: &str,
) -> anyhow::Result<PathBuf> {
    let hex = const_hex::encode_prefixed::<&[u8]>;
    let top: serde_json::Map<String, _> = pairs.iter().map(|(key, value)| (hex(key), hex(value).into())).collect();
    let genesis = json!({ "raw": { "top": top, "childrenDefault": {} } });
    let (name, rules) = (format!("Made-up {id}"), json!({ "finality": finality }));
    let spec = json!({ "name": name, "id": id, "chainType": "Live", "genesis": genesis, "rustorium": rules });
    let path = folder.join(format!("{id}.json"));
    fs::write(&path, serde_json::to_vec(&spec)?)?;
    Ok(path)
}

/// The hash that stands for block `number` of every chain here.
pub fn hash(number: u64) -> Hash32 {
    Hash32(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// Block `number` with these changes, on the block before, which is `genesis` for the first.
pub fn block(number: u64, genesis: Hash32, changes: &[Change]) -> NewBlock {
    let parent_hash = if number == 1 { genesis } else { hash(number - 1) };
    let hex = |(key, value): &Change| -> KeyValue { (HexBytes(key.clone()), value.clone().map(HexBytes)) };
    let changes = changes.iter().map(hex).collect();
    NewBlock { number, hash: hash(number), parent_hash, timestamp_ms: None, state_root: None, changes }
}

/// The changes of made-up block `number`: writes, overwrites and deletes, of small, empty and large values.
pub fn changes(seed: u64, number: u64) -> Vec<Change> {
    let mut rng = rng(seed, "block", number);
    let change = |_| {
        let key = key(rng.random_range(0..KEYS));
        let value = match rng.random_range(0..16) {
            0..4 => None,
            4 => Some(bytes(&mut rng, 4090..6000)),
            _ => Some(bytes(&mut rng, 0..100)),
        };
        (key, value)
    };
    (0..CHANGES).map(change).collect()
}

/// A genesis of `count` pairs.
pub fn genesis(seed: u64, count: u32) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut rng = rng(seed, "genesis", 0);
    (0..count).map(|index| (key(index), bytes(&mut rng, 0..64))).collect()
}

/// Keys to ask for, present and absent ones.
pub fn some_keys(rng: &mut StdRng, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| key(rng.random_range(0..KEYS * 5 / 4))).collect()
}

/// A key of 8 to 39 bytes.
fn key(index: u32) -> Vec<u8> {
    let hash = blake3::hash(&index.to_le_bytes());
    let mut key = index.to_be_bytes().to_vec();
    key.extend(&hash.as_bytes()[..4 + hash.as_bytes()[31] as usize % 32 * 28 / 31]);
    key
}

fn bytes(rng: &mut StdRng, lengths: std::ops::Range<usize>) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(lengths)];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// The state as maps in memory: what a node must agree with.
#[derive(Clone, Default)]
pub struct Model {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    nodes: Nodes,
}

impl Model {
    /// A state of these pairs.
    pub fn new(pairs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let mut model = Self::default();
        model.apply(pairs.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect());
        model
    }

    /// Carries out changes and answers the new root.
    pub fn apply(&mut self, changes: Vec<Change>) -> StateRoot {
        let mut last = BTreeMap::new();
        for (key, value) in changes {
            match &value {
                Some(value) => drop(self.pairs.insert(key.clone(), value.clone())),
                None => drop(self.pairs.remove(&key)),
            }
            last.insert(key, value);
        }
        let changes = last.iter().map(|(key, value)| match value {
            Some(value) => rustorium_verkle::Change::put(key, value),
            None => rustorium_verkle::Change::delete(key),
        });
        self.nodes.apply(changes, &COMMITTER).state_root()
    }

    /// All keys with their values.
    pub fn pairs(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.pairs
    }

    /// The root.
    pub fn state_root(&self) -> StateRoot {
        self.nodes.state_root()
    }

    /// Whether a bundle answers these keys as they were asked, with the model's values, and proves it against the model's
    /// root.
    pub fn verify(&self, bundle: &WitnessBundle, asked: &[Vec<u8>]) -> anyhow::Result<()> {
        let mut seen = BTreeSet::new();
        let distinct = asked.iter().filter(|key| seen.insert(*key));
        let expected: Vec<KeyValue> =
            distinct.map(|key| (HexBytes(key.clone()), self.pairs.get(key).cloned().map(HexBytes))).collect();
        ensure!(bundle.claims == expected, "the claims are not the model's");
        verify(bundle, self.state_root())
    }
}

/// Whether a bundle proves its claims against this root.
pub fn verify(bundle: &WitnessBundle, root: StateRoot) -> anyhow::Result<()> {
    let claim = |(key, value): &KeyValue| value.as_ref().map_or(Claim::absent(&key.0), |v| Claim::value(&key.0, &v.0));
    let claims: Vec<Claim> = bundle.claims.iter().map(claim).collect();
    ensure!(bundle.state_root.0 == root.0, "state root {} instead of {root}", bundle.state_root);
    Ok(Witness::decode(&bundle.witness.0)?.verify(&root, &claims)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_a_function_of_seed_and_number() {
        assert_eq!(changes(1, 7), changes(1, 7));
        assert_ne!(changes(1, 7), changes(1, 8));
        assert_ne!(changes(1, 7), changes(2, 7));
        let blocks: Vec<Change> = (1..50).flat_map(|number| changes(1, number)).collect();
        assert!(blocks.iter().any(|(_, value)| value.is_none()));
        assert!(blocks.iter().any(|(_, value)| value.as_ref().is_some_and(|value| value.len() > 4096)));
    }

    #[test]
    fn the_model_counts_the_last_change_of_a_key() {
        let change = |key: &str, value: Option<&str>| (key.as_bytes().to_vec(), value.map(|v| v.as_bytes().to_vec()));
        let mut model = Model::default();
        model.apply(vec![change("a", Some("1")), change("b", Some("2")), change("a", None), change("b", Some("3"))]);
        let pairs = BTreeMap::from([(b"b".to_vec(), b"3".to_vec())]);
        assert_eq!(model.pairs(), &pairs);
        assert_eq!(model.state_root(), Model::new(&pairs).state_root());
    }
}
