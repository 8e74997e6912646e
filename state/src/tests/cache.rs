//! What the cache may change: reads, and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustorium_verkle::tree::{Nodes, WholeNode};
use rustorium_verkle::{KeyPath, Leaf, NodePath, ValueHash};

use super::*;
use crate::backend::{BackendError, Bounds, Compacted, Rows, Snapshot, Stats};
use crate::cache::Cache;

/// Passes everything through and counts what is read of the tree.
struct Counting {
    inner: Arc<dyn Backend>,
    reads: Arc<AtomicUsize>,
}

impl Backend for Counting {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        Ok(Arc::new(CountingSnapshot { inner: self.inner.snapshot()?, reads: self.reads.clone() }))
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), BackendError> {
        self.inner.commit(batch, durability)
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn compact(
        &self,
        column: Column,
        proceed: &mut dyn FnMut(Compacted) -> ControlFlow<()>,
    ) -> Result<(), BackendError> {
        self.inner.compact(column, proceed)
    }
}

struct CountingSnapshot {
    inner: Arc<dyn Snapshot>,
    reads: Arc<AtomicUsize>,
}

impl CountingSnapshot {
    fn count(&self, column: Column, reads: usize) {
        if matches!(column, Column::Leaf | Column::Big | Column::Node | Column::Index) {
            self.reads.fetch_add(reads, Ordering::Relaxed);
        }
    }
}

impl Snapshot for CountingSnapshot {
    fn get_many(&self, column: Column, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        self.count(column, keys.len());
        self.inner.get_many(column, keys)
    }

    fn range(&self, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, BackendError> {
        self.count(column, 1);
        self.inner.range(column, bounds, rows_max, bytes_max)
    }
}

fn key(i: u16) -> Vec<u8> {
    i.to_be_bytes().to_vec()
}

/// Pairs enough for two levels of inner nodes, most of them with a few leaves.
fn crowd(keys: u16) -> Model {
    (0..keys).map(|i| (key(i), vec![i as u8; 1 + i as usize % 40])).collect()
}

#[test]
fn a_warm_block_and_a_warm_witness_read_nothing_of_the_tree_but_values() {
    let reads = Arc::new(AtomicUsize::new(0));
    let backend = Arc::new(Counting { inner: Arc::new(Memory::new()), reads: reads.clone() });
    let taken = || reads.swap(0, Ordering::Relaxed);
    let blocks = [
        vec![put(&key(5), b"again"), put(b"new", b"one"), delete(&key(9)), delete(b"nobody")],
        (100..400).map(|i| delete(&key(i))).collect(),
        (0..1000).step_by(3).map(|i| put(&key(i), b"back")).collect(),
        vec![],
    ];
    let mut model = crowd(600);
    {
        // What blocks overwrite is read for the history alone.
        let (cache_bytes, history) = (16 << 20, History::None);
        let config = Config { cache_bytes, history, ..Config::new(COMMITTER.clone()) };
        let running = Running::open_as(backend.clone(), &Model::new(), config).unwrap();
        running.apply(100, model.iter().map(|(key, value)| put(key, value)).collect()).unwrap();
        taken();
        for (index, changes) in blocks.iter().enumerate() {
            apply_to_model(&mut model, changes);
            running.apply(index as u8 + 1, changes.clone()).unwrap();
            assert_eq!(taken(), 0, "block {}", index + 1);
        }
        running.handle.flush_blocking().unwrap();
        let head = running.reader.head();
        let keys = [key(5), key(6), b"nobody".to_vec()];
        let first = head.witness(&keys, 1000).unwrap();
        assert_eq!(taken(), 2, "a value each; that a key is absent the nodes tell");
        assert_eq!(head.witness(&keys, 1000).unwrap(), first);
        assert_eq!(taken(), 0);
        assert_holds(&running.reader, &model);
    }
    // A store that was just opened knows nothing; what a block has opened stays open.
    let running = Running::open_with(backend, &Model::new(), 16 << 20).unwrap();
    taken();
    for (name, is_warm) in [(111, false), (112, true)] {
        running.apply(name, vec![put(&key(7), &[name])]).unwrap();
        assert_eq!(taken() == 0, is_warm);
    }
}

/// What a block replaces makes room for what it brings, also when the block is not final and meets most of the tree.
#[test]
fn large_blocks_leave_in_memory_what_the_next_one_meets() {
    let load: Vec<Change> = crowd(20_000).iter().map(|(key, value)| put(key, value)).collect();
    let block = |name: u8| (0..20_000).step_by(10).map(|i| put(&key(i + u16::from(name) % 10), &[name])).collect();
    let start = |cache_bytes| {
        let reads = Arc::new(AtomicUsize::new(0));
        let backend = Arc::new(Counting { inner: Arc::new(Memory::new()), reads: reads.clone() });
        let config = Config { cache_bytes, finality: Finality::Engine, ..Config::new(COMMITTER.clone()) };
        let running = Running::open_as(backend, &Model::new(), config).unwrap();
        running.apply(100, load.clone()).unwrap();
        (running, reads)
    };
    let (roomy, _) = start(1 << 30);
    let tree_bytes = roomy.reader.head().walk().cache.bytes();
    let (running, reads) = start(2 * tree_bytes);
    reads.store(0, Ordering::Relaxed);
    for name in 1..=8 {
        running.apply(name, block(name)).unwrap();
    }
    let reads = reads.load(Ordering::Relaxed);
    assert!(reads < 200, "{reads} reads for blocks that meet 256 nodes each");
}

#[test]
fn wrong_content_in_the_cache_is_no_witness() {
    let model = crowd(600);
    let running = Running::open_with(Arc::new(Memory::new()), &model, 16 << 20).unwrap();
    let head = running.reader.head();
    // Opens the node, and is not one of those asked below, which would be answered from memory.
    head.witness(&[key(7), key(9)], 100).unwrap();
    let path = KeyPath::of(&key(7));
    let found = |cache: &Cache| {
        let root = cache.node(&NodePath::ROOT, head.walk().root).unwrap();
        cache.node(&path.node(1), root.child(path.slot(0)).unwrap()).unwrap()
    };
    let right = found(head.walk().cache);
    let children: Vec<_> = right.row().inner.iter().map(|slot| *right.child(slot).unwrap()).collect();
    let altered = |leaf: &Leaf| match leaf.path == path {
        true => Leaf { value_hash: ValueHash::of(b"a lie"), ..*leaf },
        false => *leaf,
    };
    let leaves: Vec<Leaf> = right.leaves().map(altered).collect();
    let wrong = WholeNode::new(*right.path(), *right.row(), &leaves, &children).unwrap();
    for asked in [vec![key(7)], vec![key(7), key(8)]] {
        head.walk().cache.insert(Arc::new(wrong.clone()));
        assert!(matches!(head.witness(&asked, 100), Err(ReadError::Damaged { .. })));
        // It is forgotten, and what the rows say is right.
        assert!(head.witness(&asked, 100).is_ok());
        assert_eq!(found(head.walk().cache), right);
    }
}

#[test]
fn a_cache_keeps_to_its_budget() {
    let budget = 1 << 18;
    let running = Running::open_with(Arc::new(Memory::new()), &crowd(5000), budget).unwrap();
    for i in 0..200 {
        running.reader.head().witness(&[key(i)], 100).unwrap();
    }
    let used = running.reader.head().walk().cache.bytes();
    assert!(used <= budget && used > budget / 4, "{used} bytes of {budget}");
}

fn block() -> impl Strategy<Value = Vec<Change>> {
    let change = (0..700u16, prop::option::of(any::<u8>()));
    prop::collection::vec(change.prop_map(|(i, value)| (key(i), value.map(|value| vec![value]))), 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cache_of_any_size_changes_nothing(
        genesis in prop::sample::select(vec![0u16, 3, 400, 600]),
        blocks in prop::collection::vec((block(), prop::collection::vec(0..700u16, 1..5)), 1..5),
    ) {
        let mut model = crowd(genesis);
        let open = |cache_bytes| Running::open_with(Arc::new(Memory::new()), &model, cache_bytes).unwrap();
        // The smallest holds no root, the next some nodes, the last all.
        let running = [0, 2 << 10, 64 << 10, 16 << 20].map(open);
        for (index, (changes, asked)) in blocks.into_iter().enumerate() {
            apply_to_model(&mut model, &changes);
            let mut naive = Nodes::default();
            naive.apply(model.iter().map(|(key, value)| rustorium_verkle::Change::put(key, value)), &COMMITTER);
            let asked: Vec<Vec<u8>> = asked.into_iter().map(key).collect();
            let paths: Vec<KeyPath> = asked.iter().map(|key| KeyPath::of(key)).collect();
            let witness = naive.prove(&paths).unwrap().encode();
            for running in &running {
                let header = running.apply(index as u8 + 1, changes.clone()).unwrap();
                assert_eq!(header.state_root, naive.state_root());
                let proof = running.reader.head().witness(&asked, u64::MAX).unwrap();
                assert_eq!(proof.witness, witness);
                assert!(proof.claims.iter().all(|(key, value)| value.as_ref() == model.get(key)));
            }
        }
        running.iter().for_each(|running| assert_holds(&running.reader, &model));
    }
}
