//! The state through its doors: blocks in, values, listings, witnesses and errors out, over every backend here.

mod cache;
mod forks;
mod front;
mod history;
mod interleavings;
mod mending;
mod update;
mod watch;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;

use proptest::prelude::*;
use rustorium_verkle::{Claim, Committer, StateRoot, WindowBits, Witness};

use crate::backend::faulty::{Fault, Faulty, full, io_error};
use crate::backend::{Backend, BackendError, Batch, Column, Durability, Memory, Rocks, RocksConfig};
use crate::schema::{Generation, meta};
use crate::*;

static COMMITTER: std::sync::LazyLock<Arc<Committer>> =
    std::sync::LazyLock::new(|| Arc::new(Committer::new(WindowBits::SMALL)));

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn hash_of_root(root: &StateRoot) -> BlockHash {
    BlockHash(root.0)
}

fn pairs(model: &Model) -> Vec<(Vec<u8>, Vec<u8>)> {
    model.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A state with its writer running.
struct Running {
    handle: Handle,
    reader: Reader,
    writer: Option<JoinHandle<()>>,
}

impl Running {
    fn open(backend: Arc<dyn Backend>, genesis: &Model) -> Result<Self, OpenError> {
        Self::open_with(backend, genesis, 1 << 16)
    }

    fn open_with(backend: Arc<dyn Backend>, genesis: &Model, cache_bytes: u64) -> Result<Self, OpenError> {
        Self::open_as(backend, genesis, Config { cache_bytes, ..Config::new(COMMITTER.clone()) })
    }

    fn open_as(backend: Arc<dyn Backend>, genesis: &Model, config: Config) -> Result<Self, OpenError> {
        let pairs = pairs(genesis);
        let genesis = Genesis { id: "test", pairs: &pairs, hash: &hash_of_root };
        let (writer, handle, reader) = open(backend, &genesis, &config, &mut |_| ControlFlow::Continue(()))?;
        let writer = Some(std::thread::spawn(|| writer.run()));
        Ok(Self { handle, reader, writer })
    }

    fn child(&self, name: u8, changes: Vec<Change>) -> Block {
        let head = self.reader.head().header().clone();
        Block {
            number: head.number + 1,
            hash: BlockHash([name; 32]),
            parent_hash: head.hash,
            timestamp_ms: None,
            state_root: None,
            changes,
        }
    }

    fn apply(&self, name: u8, changes: Vec<Change>) -> Result<Header, ApplyError> {
        self.handle.apply_blocking(self.child(name, changes))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.close();
        self.writer.take().expect("a writer is joined once").join().expect("the writer ends well");
    }
}

fn apply_to_model(model: &mut Model, changes: &[Change]) {
    for (key, value) in changes {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
}

/// The head holds the model: every value, the listing, a witness of everything, and every row agrees with the leaves.
fn assert_holds(reader: &Reader, model: &Model) {
    assert_view_holds(&reader.head(), model);
}

/// The same of any block.
fn assert_view_holds(head: &View, model: &Model) {
    let mut keys: Vec<Vec<u8>> = model.keys().cloned().collect();
    assert_eq!(head.keys_paged(b"", None, 10_000).unwrap(), keys);
    keys.extend([b"absent".to_vec(), b"".to_vec()]);
    let values = head.values(&keys, u64::MAX).unwrap();
    for (key, value) in keys.iter().zip(&values) {
        assert_eq!(value.as_ref(), model.get(key), "{key:?}");
        assert_eq!(head.value_size(key).unwrap(), model.get(key).map(|value| value.len() as u64));
    }
    let proof = head.witness(&keys, u64::MAX).unwrap();
    let claims: Vec<Claim> = proof
        .claims
        .iter()
        .map(|(key, value)| {
            assert_eq!(value.as_ref(), model.get(key));
            value.as_ref().map_or_else(|| Claim::absent(key), |value| Claim::value(key, value))
        })
        .collect();
    let witness = Witness::decode(&proof.witness).unwrap();
    assert_eq!(witness.verify(&head.header().state_root, &claims), Ok(()));
    let report = check(head, &COMMITTER).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.leaves, model.len() as u64);
}

fn put(key: &[u8], value: &[u8]) -> Change {
    (key.to_vec(), Some(value.to_vec()))
}

fn delete(key: &[u8]) -> Change {
    (key.to_vec(), None)
}

fn example() -> Model {
    Model::from([(b"alice".to_vec(), b"100".to_vec()), (b"bob".to_vec(), vec![7; 100_000])])
}

#[test]
fn a_restart_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    let rocks = || Arc::new(Rocks::open(directory.path(), &RocksConfig::default()).unwrap());
    let mut model = example();
    let blocks = [
        vec![put(b"alice", b"99"), put(b"carol", b""), put(b"", b"the empty key")],
        vec![delete(b"bob"), put(b"dave", &[1; 5000]), delete(b"nobody")],
        vec![put(b"dave", b"small now"), put(b"alice", &[2; 4097]), delete(b"")],
        vec![],
    ];
    let mut head = None;
    for (index, changes) in blocks.into_iter().enumerate() {
        let running = Running::open(rocks(), &example()).unwrap();
        if let Some(head) = &head {
            assert_eq!(running.reader.head().header(), head);
        }
        assert_holds(&running.reader, &model);
        apply_to_model(&mut model, &changes);
        head = Some(running.apply(index as u8 + 1, changes).unwrap());
        assert_holds(&running.reader, &model);
    }
    let running = Running::open(rocks(), &example()).unwrap();
    assert_holds(&running.reader, &model);
    assert_eq!(running.reader.head().header().number, 4);
    for number in 0..=4 {
        let hash = running.reader.block_hash(number).unwrap().unwrap();
        assert_eq!(running.reader.header(&hash).unwrap().unwrap().number, number);
    }
    assert_eq!(running.reader.block_hash(5).unwrap(), None);
}

#[test]
fn a_block_must_fit_and_the_same_block_again_is_the_same_answer() {
    let running = Running::open(Arc::new(Memory::new()), &example()).unwrap();
    let first = running.child(1, vec![put(b"alice", b"1"), put(b"x", b"y")]);
    let header = running.handle.apply_blocking(first.clone()).unwrap();
    assert_eq!(running.handle.apply_blocking(first.clone()).unwrap(), header);
    // The same effect, otherwise written: still the same block.
    let mut same = first.clone();
    same.changes = vec![put(b"alice", b"0"), put(b"x", b"y"), put(b"alice", b"1")];
    same.state_root = Some(header.state_root);
    assert_eq!(running.handle.apply_blocking(same).unwrap(), header);

    let refused = |change: &dyn Fn(&mut Block)| {
        let mut block = running.child(2, vec![put(b"z", b"")]);
        change(&mut block);
        let head = running.reader.head().header().clone();
        let error = running.handle.apply_blocking(block).unwrap_err();
        assert_eq!(*running.reader.head().header(), head, "a refused block changed the head");
        error
    };
    let conflicting = refused(&|block| *block = Block { changes: vec![], ..first.clone() });
    assert!(matches!(conflicting, ApplyError::Conflicting { hash } if hash == first.hash));
    let wrong_root = refused(&|block| *block = Block { state_root: Some(StateRoot([0; 32])), ..first.clone() });
    assert!(matches!(wrong_root, ApplyError::RootMismatch { got, .. } if got == header.state_root));
    assert!(matches!(refused(&|block| block.hash = BlockHash::ZERO), ApplyError::ZeroHash));
    let orphan = refused(&|block| block.parent_hash = BlockHash([9; 32]));
    assert!(matches!(orphan, ApplyError::UnknownParent { .. }));
    let sibling = refused(&|block| block.parent_hash = running.reader.genesis_hash());
    assert!(matches!(sibling, ApplyError::NotAChild { .. }));
    assert!(matches!(refused(&|block| block.number = 7), ApplyError::NotAChild { .. }));
    let mismatch = refused(&|block| block.state_root = Some(StateRoot([1; 32])));
    assert!(matches!(mismatch, ApplyError::RootMismatch { expected: StateRoot(root), .. } if root == [1; 32]));
    let long = refused(&|block| block.changes = vec![put(&[0; KEY_BYTES_MAX + 1], b"")]);
    assert!(matches!(long, ApplyError::KeyTooLong { max: 1024, got: 1025 }));
    let many = refused(&|block| block.changes = vec![delete(b"k"); CHANGES_MAX + 1]);
    assert!(matches!(many, ApplyError::TooManyChanges { .. }));
    let large = refused(&|block| block.changes = vec![put(b"k", &vec![0; VALUE_BYTES_MAX + 1])]);
    assert!(matches!(large, ApplyError::ValueTooLarge { .. }));
    assert!(running.apply(3, vec![put(&[0; KEY_BYTES_MAX], b"fits")]).is_ok());
}

#[test]
fn without_history_only_the_head_has_a_state() {
    let config = Config { history: History::None, ..Config::new(COMMITTER.clone()) };
    let running = Running::open_as(Arc::new(Memory::new()), &example(), config).unwrap();
    let old = running.reader.head();
    let first = running.apply(1, vec![put(b"alice", b"1")]).unwrap();
    let second = running.apply(2, vec![put(b"alice", b"2")]).unwrap();
    for at in [At::Head, At::Finalized, At::Block(second.hash)] {
        assert_eq!(*running.reader.at(at).unwrap().header(), second);
    }
    running.handle.flush_blocking().unwrap();
    assert!(matches!(running.reader.at(At::Block(first.hash)), Err(AtError::Pruned { oldest: 2 })));
    assert!(matches!(running.reader.at(At::Block(BlockHash([9; 32]))), Err(AtError::Unknown { .. })));
    assert!(matches!(running.reader.at(At::Certified), Err(AtError::Unknown { .. })));
    // Whoever holds a view goes on reading his block.
    assert_eq!(old.value(b"alice").unwrap(), Some(b"100".to_vec()));
    assert!(check(&old, &COMMITTER).unwrap().is_sound());

    let wait = |hash| pollster::block_on(running.handle.finalize(hash));
    assert_eq!(wait(second.hash).unwrap(), second);
    assert!(matches!(wait(first.hash), Err(ApplyError::NotAhead { .. })));
    assert!(matches!(wait(BlockHash([9; 32])), Err(ApplyError::UnknownBlock { .. })));
}

#[test]
fn a_sealed_block_has_the_hash_of_the_dev_rule() {
    let running = Running::open(Arc::new(Memory::new()), &example()).unwrap();
    let header = pollster::block_on(running.handle.seal(vec![put(b"k", b"v")])).unwrap();
    assert_eq!((header.number, header.parent_hash), (1, running.reader.genesis_hash()));
    assert_eq!(header.hash, BlockHash::of_dev_block(&header.parent_hash, 1, &header.state_root));
    // An empty block has the same root and another hash.
    let empty = pollster::block_on(running.handle.seal(vec![])).unwrap();
    assert_eq!(empty.state_root, header.state_root);
    assert_ne!(empty.hash, header.hash);
}

#[test]
fn listings_page_through_raw_keys() {
    let keys: Vec<&[u8]> = vec![b"", b"a", b"a\0", b"ab", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff"];
    let model: Model = keys.iter().map(|key| (key.to_vec(), b"v".to_vec())).collect();
    let running = Running::open(Arc::new(Memory::new()), &model).unwrap();
    let head = running.reader.head();
    let listed = |prefix: &[u8], after: Option<&[u8]>, count| head.keys_paged(prefix, after, count).unwrap();
    let under_a: Vec<&[u8]> = vec![b"a", b"a\0", b"ab", b"a\xff", b"a\xff\xff"];
    assert_eq!(listed(b"a", None, 100), under_a);
    assert_eq!(listed(b"a", Some(b"a"), 2), under_a[1..3]);
    assert_eq!(listed(b"a", Some(b"A"), 2), under_a[..2]);
    assert!(listed(b"a", Some(b"b"), 100).is_empty());
    assert!(listed(b"a", None, 0).is_empty());
    let all: Vec<Vec<u8>> = model.keys().cloned().collect();
    assert_eq!(listed(b"", None, 100), all);
    assert_eq!(listed(b"\xff", None, 100), [vec![0xff], vec![0xff, 0xff]]);
}

#[test]
fn values_are_refused_by_their_stored_lengths() {
    let running = Running::open(Arc::new(Memory::new()), &example()).unwrap();
    let head = running.reader.head();
    let keys = [b"alice".to_vec(), b"bob".to_vec(), b"bob".to_vec()];
    let refused = head.values(&keys, 200_002).unwrap_err();
    assert!(matches!(refused, ReadError::ValuesTooLarge { max: 200_002, got: 200_003 }));
    assert!(head.values(&keys, 200_003).is_ok());
    // A key asked twice is answered once in a witness.
    assert!(matches!(head.witness(&keys, 100_002), Err(ReadError::ValuesTooLarge { got: 100_003, .. })));
    let proof = head.witness(&keys, 100_003).unwrap();
    assert_eq!(proof.claims.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), keys[..2]);
}

#[test]
fn another_chain_a_newer_format_and_a_foreign_store_are_refused_by_name() {
    let backend: Arc<dyn Backend> = Arc::new(Memory::new());
    drop(Running::open(backend.clone(), &example()).unwrap());
    let other = Running::open(backend.clone(), &Model::new()).err().unwrap();
    assert!(matches!(&other, OpenError::OtherChain { found, .. } if found.contains("test")), "{other}");

    let put = |column, key: &[u8], value: &[u8]| {
        let mut batch = Batch::new();
        batch.put(column, key, value);
        batch
    };
    let newer = put(Column::Meta, meta::FORMAT, b"rustorium state \x04\0\0\0");
    backend.commit(newer, Durability::Synced).unwrap();
    let refused = Running::open(backend.clone(), &example()).err().unwrap();
    assert!(matches!(refused, OpenError::Newer { found: 4, supported: 3 }), "{refused}");
    backend.commit(put(Column::Meta, meta::FORMAT, b"gibberish"), Durability::Synced).unwrap();
    assert!(matches!(Running::open(backend, &example()).err(), Some(OpenError::Foreign)));

    let foreign: Arc<dyn Backend> = Arc::new(Memory::new());
    foreign.commit(put(Column::Leaf, b"k", b"v"), Durability::Synced).unwrap();
    assert!(matches!(Running::open(foreign, &example()).err(), Some(OpenError::Foreign)));
}

#[test]
fn a_store_of_format_1_is_taken_over() {
    let memory: Arc<dyn Backend> = Arc::new(Memory::new());
    let header = {
        let running = Running::open(memory.clone(), &example()).unwrap();
        running.apply(1, vec![put(b"a", b"1")]).unwrap();
        running.handle.flush_blocking().unwrap()
    };
    let mut batch = Batch::new();
    batch.put(Column::Meta, meta::FORMAT, b"rustorium state \x01\0\0\0");
    batch.delete(Column::Meta, meta::FINAL);
    batch.delete(Column::Meta, meta::BASE);
    memory.commit(batch, Durability::Synced).unwrap();
    for name in [2, 3] {
        let running = Running::open(memory.clone(), &example()).unwrap();
        assert_eq!(running.reader.head().header().number, header.number + u64::from(name) - 2);
        running.apply(name, vec![put(b"b", &[name])]).unwrap();
    }
}

#[test]
fn an_interrupted_genesis_starts_over() {
    let model: Model = (0..40_000u32).map(|i| (i.to_be_bytes().to_vec(), vec![i as u8])).collect();
    let memory = Arc::new(Memory::new());
    // Format, clearing, first chunk; the second chunk fails.
    let faulty = Faulty::new(memory.clone(), Some(Fault { commit: 4, written: false, error: io_error() }));
    assert!(matches!(Running::open(Arc::new(faulty), &model).err(), Some(OpenError::Backend(_))));
    let left = memory.snapshot().unwrap().range(Column::Leaf, &Generation(0).all(), 1, 1 << 20).unwrap();
    assert_eq!(left.rows.len(), 1, "the first chunk is there");
    // Another chain may take over: nothing was promised.
    let running = Running::open(memory, &example()).unwrap();
    assert_holds(&running.reader, &example());
}

#[test]
fn a_genesis_has_the_rows_of_a_block_with_the_same_pairs() {
    let rows = |backend: &Memory, column| {
        let found = backend.snapshot().unwrap().range(column, &Generation(0).all(), usize::MAX, usize::MAX).unwrap();
        assert!(!found.more);
        found.rows
    };
    // Nothing, one leaf, a few, and more than are committed together.
    for count in [0, 1, 300, 40_000u32] {
        let value = |i: u32| vec![i as u8; if i.is_multiple_of(97) { 5000 } else { 3 }];
        let model: Model = (0..count).map(|i| (i.to_be_bytes().to_vec(), value(i))).collect();
        let (loaded, applied) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
        let of_genesis = Running::open(loaded.clone(), &model).unwrap().reader.head().header().state_root;
        let running = Running::open(applied.clone(), &Model::new()).unwrap();
        let changes = model.into_iter().map(|(key, value)| (key, Some(value))).collect();
        assert_eq!(running.apply(1, changes).unwrap().state_root, of_genesis);
        running.handle.flush_blocking().unwrap();
        for column in [Column::Leaf, Column::Big, Column::Node, Column::Index] {
            assert!(rows(&loaded, column) == rows(&applied, column), "{count} pairs, column {}", column.name());
        }
    }
}

#[test]
fn a_genesis_with_a_key_twice_is_refused() {
    let pairs = [(b"k".to_vec(), b"1".to_vec()), (b"l".to_vec(), b"2".to_vec()), (b"k".to_vec(), b"1".to_vec())];
    let genesis = Genesis { id: "test", pairs: &pairs, hash: &hash_of_root };
    let config = Config { cache_bytes: 1 << 16, ..Config::new(COMMITTER.clone()) };
    let refused = open(Arc::new(Memory::new()), &genesis, &config, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(refused.err(), Some(OpenError::Genesis { what }) if what.ends_with("twice")));
}

#[test]
fn a_failed_commit_changes_nothing_and_stops_the_writer() {
    for written in [false, true] {
        let memory = Arc::new(Memory::new());
        drop(Running::open(memory.clone(), &example()).unwrap());
        let faulty = Arc::new(Faulty::new(memory.clone(), Some(Fault { commit: 2, written, error: io_error() })));
        let mut model = example();
        {
            let running = Running::open(faulty, &example()).unwrap();
            running.apply(1, vec![put(b"a", b"1")]).unwrap();
            apply_to_model(&mut model, &[put(b"a", b"1")]);
            assert!(running.apply(2, vec![put(b"a", b"2")]).is_err());
            assert!(matches!(running.apply(3, vec![]), Err(ApplyError::Poisoned { .. })));
            // Reads go on, at the last block acknowledged.
            assert_holds(&running.reader, &model);
        }
        let running = Running::open(memory, &example()).unwrap();
        if written {
            apply_to_model(&mut model, &[put(b"a", b"2")]);
        }
        assert_eq!(running.reader.head().header().number, 1 + written as u64);
        assert_holds(&running.reader, &model);
    }
}

#[test]
fn a_refused_commit_changes_nothing_and_may_be_sent_again() {
    let busy = BackendError::Busy { path: "faulty".into(), retry_ms: 7 };
    for error in [full(), busy] {
        let memory = Arc::new(Memory::new());
        drop(Running::open(memory.clone(), &example()).unwrap());
        let fault = Fault { commit: 2, written: false, error };
        let running = Running::open(Arc::new(Faulty::new(memory, Some(fault))), &example()).unwrap();
        let mut model = example();
        for (number, value) in [(1, b"1"), (2, b"2"), (3, b"3")] {
            let changes = || vec![put(b"a", value)];
            if number == 2 {
                let refused = running.apply(2, changes()).unwrap_err();
                assert!(
                    matches!(refused, ApplyError::DiskFull { is_passing: true, .. } | ApplyError::Busy { retry_ms: 7 }),
                    "{refused}"
                );
                assert_holds(&running.reader, &model);
            }
            running.apply(number, changes()).unwrap();
            apply_to_model(&mut model, &changes());
            assert_holds(&running.reader, &model);
        }
    }
}

#[test]
fn damage_is_an_error_that_names_the_place_and_never_a_wrong_answer() {
    let model: Model = (0..600u32).map(|i| (i.to_be_bytes().to_vec(), vec![i as u8; 5000])).collect();
    let open = || {
        let memory = Arc::new(Memory::new());
        (memory.clone(), Running::open(memory, &model).unwrap())
    };
    let key = 7u32.to_be_bytes().to_vec();
    let path = rustorium_verkle::KeyPath::of(&key);
    let leaf_key = Generation(0).leaf_key(&path).to_vec();
    let node_key = Generation(0).node_key(&path.node(1));
    let rows = open().0.snapshot().unwrap();
    let mut leaf = rows.get(Column::Leaf, &leaf_key).unwrap().unwrap();
    *leaf.last_mut().unwrap() ^= 1;
    let mut node = rows.get(Column::Node, &node_key).unwrap().unwrap();
    node[127] ^= 1;
    let other_node = rows.get(Column::Node, &Generation(0).node_key(&rustorium_verkle::NodePath::ROOT)).unwrap();
    let cases = [
        (Column::Leaf, &leaf_key, Some(leaf)),
        (Column::Leaf, &leaf_key, Some(vec![0; 3])),
        (Column::Leaf, &leaf_key, None),
        (Column::Big, &leaf_key, Some(vec![1; 5000])),
        (Column::Big, &leaf_key, None),
        (Column::Node, &node_key, Some(node)),
        (Column::Node, &node_key, other_node),
        (Column::Node, &node_key, None),
    ];
    for (column, row_key, value) in cases {
        let (memory, running) = open();
        let mut batch = Batch::new();
        match &value {
            Some(value) => batch.put(column, row_key, value),
            None => batch.delete(column, row_key),
        }
        memory.commit(batch, Durability::Synced).unwrap();
        drop(running);
        let running = Running::open(memory, &model).unwrap();
        let head = running.reader.head();
        let witness = head.witness(std::slice::from_ref(&key), u64::MAX);
        let length = value.map(|value| value.len());
        assert!(matches!(witness, Err(ReadError::Damaged { .. })), "{column:?} row of {length:?} bytes");
        let report = check(&head, &COMMITTER).unwrap();
        assert!(!report.is_sound(), "{column:?} row of {length:?} bytes");
    }
}

#[test]
fn what_names_the_head_must_agree_with_the_tree() {
    let open = || {
        let memory = Arc::new(Memory::new());
        let running = Running::open(memory.clone(), &example()).unwrap();
        let genesis = running.reader.genesis_hash();
        running.apply(1, vec![put(b"a", b"1")]).unwrap();
        running.handle.flush_blocking().unwrap();
        (memory, genesis)
    };
    let genesis = open().1;
    let number = crate::schema::number_key;
    let cases = [
        (Column::Meta, meta::CHAIN.to_vec(), None::<&[u8]>),
        (Column::Meta, meta::LIVE.to_vec(), None),
        (Column::Meta, meta::HEAD.to_vec(), None),
        (Column::Meta, meta::HEAD.to_vec(), Some(&genesis.0)),
        (Column::Block, number(0), Some(&[9; 32])),
        (Column::Node, Generation(0).node_key(&rustorium_verkle::NodePath::ROOT), None),
    ];
    for (column, key, value) in cases {
        let (memory, _) = open();
        let mut batch = Batch::new();
        match value {
            Some(value) => batch.put(column, &key, value),
            None => batch.delete(column, &key),
        }
        memory.commit(batch, Durability::Synced).unwrap();
        let before = memory.snapshot().unwrap().range(Column::Leaf, &Generation(0).all(), 100, 1 << 20).unwrap();
        let refused = Running::open(memory.clone(), &example()).err();
        assert!(matches!(refused, Some(OpenError::Damaged { .. })), "{column:?}: {refused:?}");
        let after = memory.snapshot().unwrap().range(Column::Leaf, &Generation(0).all(), 100, 1 << 20).unwrap();
        assert_eq!(before, after, "a refused store was changed");
    }
}

#[test]
fn a_damaged_row_is_forgotten_when_it_shows() {
    let model: Model = (0..600u32).map(|i| (i.to_be_bytes().to_vec(), vec![i as u8])).collect();
    let memory = Arc::new(Memory::new());
    let running = Running::open(memory.clone(), &model).unwrap();
    let key = 7u32.to_be_bytes().to_vec();
    let path = rustorium_verkle::KeyPath::of(&key);
    let leaf_key = Generation(0).leaf_key(&path);
    let right = memory.snapshot().unwrap().get(Column::Leaf, &leaf_key).unwrap().unwrap();
    let write = |name, value: &[u8]| {
        let mut batch = Batch::new();
        batch.put(Column::Leaf, &leaf_key, value);
        memory.commit(batch, Durability::Synced).unwrap();
        running.apply(name, vec![]).unwrap();
        running.handle.flush_blocking().unwrap();
    };
    let mut wrong = right.clone();
    *wrong.last_mut().unwrap() ^= 1;
    write(1, &wrong);
    assert!(matches!(running.reader.head().witness(std::slice::from_ref(&key), 100), Err(ReadError::Damaged { .. })));
    write(2, &right);
    assert!(running.reader.head().witness(&[key], 100).is_ok());
}

fn change() -> impl Strategy<Value = Change> {
    let key = prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..4);
    let value = prop::option::weighted(0.7, (any::<u8>(), prop::sample::select(vec![0usize, 1, 40, 4096, 4097])));
    (key, value).prop_map(|(key, value)| (key, value.map(|(byte, length)| vec![byte; length])))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_with_restarts_holds_the_model(
        genesis in prop::collection::vec(change(), 0..20),
        blocks in prop::collection::vec((prop::collection::vec(change(), 0..20), any::<bool>()), 1..6),
    ) {
        let memory: Arc<dyn Backend> = Arc::new(Memory::new());
        let mut model = Model::new();
        apply_to_model(&mut model, &genesis);
        let genesis = model.clone();
        let mut running = Running::open(memory.clone(), &genesis).unwrap();
        for (index, (changes, restart)) in blocks.into_iter().enumerate() {
            apply_to_model(&mut model, &changes);
            running.apply(index as u8 + 1, changes).unwrap();
            if restart {
                drop(running);
                running = Running::open(memory.clone(), &genesis).unwrap();
            }
            assert_holds(&running.reader, &model);
        }
    }
}
