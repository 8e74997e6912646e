//! Update witnesses of a store's views.

use rustorium_verkle::tree::Nodes;
use rustorium_verkle::{KeyPath, UpdateWitness};

use super::*;

fn key(i: u16) -> Vec<u8> {
    i.to_be_bytes().to_vec()
}

/// Pairs enough for two levels of inner nodes, most of them with a few leaves.
fn crowd(keys: u16) -> Model {
    (0..keys).map(|i| (key(i), vec![i as u8; 1 + i as usize % 40])).collect()
}

/// The changes as a verifier takes them: the last of each key.
fn last(changes: &[Change]) -> Vec<rustorium_verkle::Change> {
    let last: BTreeMap<&[u8], Option<&[u8]>> =
        changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
    let change = |(key, value): (&[u8], Option<&[u8]>)| match value {
        Some(value) => rustorium_verkle::Change::put(key, value),
        None => rustorium_verkle::Change::delete(key),
    };
    last.into_iter().map(change).collect()
}

/// The state root that a proof leads to, for who trusts the root before.
fn root_after(proof: &Proof, changes: &[Change]) -> StateRoot {
    let claim = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| match value {
        Some(value) => Claim::value(key, value),
        None => Claim::absent(key),
    };
    let claims: Vec<Claim> = proof.claims.iter().map(claim).collect();
    let witness = UpdateWitness::decode(&proof.witness).unwrap();
    witness.verify(&proof.header.state_root, &claims, &last(changes), &COMMITTER).unwrap()
}

fn block() -> impl Strategy<Value = Vec<Change>> {
    let change = (0..700u16, prop::option::weighted(0.3, any::<u8>()));
    prop::collection::vec(change.prop_map(|(i, value)| (key(i), value.map(|value| vec![value]))), 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_holds_a_root_follows_the_store(
        genesis in prop::sample::select(vec![0u16, 3, 400, 600]),
        blocks in prop::collection::vec((block(), prop::collection::vec(0..700u16, 0..5)), 1..6),
    ) {
        let model = crowd(genesis);
        let open = |cache_bytes| Running::open_with(Arc::new(Memory::new()), &model, cache_bytes).unwrap();
        // The smallest holds no root, the next some nodes, the last all.
        let running = [0, 64 << 10, 16 << 20].map(open);
        let mut naive = Nodes::default();
        naive.apply(model.iter().map(|(key, value)| rustorium_verkle::Change::put(key, value)), &COMMITTER);
        let mut root = naive.state_root();
        for (index, (changes, reads)) in blocks.into_iter().enumerate() {
            let mut reads: Vec<Vec<u8>> = reads.into_iter().map(key).collect();
            if changes.is_empty() {
                reads.push(key(0));
            }
            let paths: Vec<KeyPath> = reads.iter().map(|key| KeyPath::of(key)).collect();
            let witness = naive.prove_update(&paths, &last(&changes)).unwrap().encode();
            let asked: Vec<&Vec<u8>> = reads.iter().chain(changes.iter().map(|(key, _)| key)).collect();
            for running in &running {
                let head = running.reader.head();
                let proof = head.update_witness(&reads, &changes, u64::MAX).unwrap();
                assert_eq!(proof.witness, witness);
                assert_eq!(proof.header.state_root, root);
                // In the order asked, each once.
                let mut at = proof.claims.iter().map(|(key, _)| asked.iter().position(|asked| *asked == key).unwrap());
                assert!(at.by_ref().is_sorted_by(|a, b| a < b));
                assert!(asked.iter().all(|asked| proof.claims.iter().any(|(key, _)| key == *asked)));
                assert_eq!(head.update_witness(&reads, &changes, u64::MAX).unwrap(), proof);
                let header = running.apply(index as u8 + 1, changes.clone()).unwrap();
                assert_eq!(header.state_root, root_after(&proof, &changes));
                running.handle.flush_blocking().unwrap();
            }
            root = naive.apply(last(&changes), &COMMITTER).state_root();
        }
    }
}

#[test]
fn one_and_the_same_claims_have_a_witness_for_each_purpose() {
    let running = Running::open_with(Arc::new(Memory::new()), &crowd(600), 16 << 20).unwrap();
    let head = running.reader.head();
    let plain = head.witness(&[key(7)], 100).unwrap();
    let read = head.update_witness(&[key(7)], &[], 100).unwrap();
    assert_eq!(root_after(&read, &[]), head.header().state_root);
    assert_eq!(plain.claims, read.claims);
    assert_ne!(plain.witness[0], read.witness[0]);
    for changes in [vec![delete(&key(7))], vec![put(&key(7), b"9")]] {
        let proof = head.update_witness(&[], &changes, 100).unwrap();
        assert_ne!(root_after(&proof, &changes), head.header().state_root);
    }
    assert_eq!(head.witness(&[key(7)], 100).unwrap(), plain);
    assert!(matches!(
        head.update_witness(&[key(7)], &[put(&key(8), b"9")], 16),
        Err(ReadError::ValuesTooLarge { max: 16, got: 17 })
    ));
}

#[test]
fn a_damaged_store_makes_no_update_witness() {
    let memory = Arc::new(Memory::new());
    let running = Running::open(memory.clone(), &crowd(600)).unwrap();
    let leaf_key = Generation(0).leaf_key(&KeyPath::of(&key(7)));
    let mut wrong = memory.snapshot().unwrap().get(Column::Leaf, &leaf_key).unwrap().unwrap();
    *wrong.last_mut().unwrap() ^= 1;
    let mut batch = Batch::new();
    batch.put(Column::Leaf, &leaf_key, &wrong);
    memory.commit(batch, Durability::Synced).unwrap();
    running.apply(1, vec![]).unwrap();
    running.handle.flush_blocking().unwrap();
    let proof = running.reader.head().update_witness(&[], &[delete(&key(7))], 100);
    assert!(matches!(proof, Err(ReadError::Damaged { .. })), "{proof:?}");
}
