//! Damage of each kind: a check names it, a repair mends it, and what cannot be mended is left as it is.

use rustorium_verkle::{KeyPath, NodePath};

use super::*;
use crate::backend::Op;
use crate::schema::{header_key, number_key};

const KEYS: u32 = 3_000;

fn model() -> Model {
    let value = |i: u32| vec![i as u8; if i.is_multiple_of(500) { 5000 } else { 3 }];
    (0..KEYS).map(|i| (i.to_be_bytes().to_vec(), value(i))).collect()
}

/// What block `name` changes.
fn changes(name: u8) -> Vec<Change> {
    vec![put(&[0, 0, 0, name], &[name; 9]), put(&[name; 5], &[name; 4500]), delete(&[0, 0, 1, name])]
}

/// What is held after some of these blocks.
fn model_after(blocks: &[u8]) -> Model {
    let mut model = model();
    blocks.iter().for_each(|name| apply_to_model(&mut model, &changes(*name)));
    model
}

/// A store with the genesis and three blocks, in the columns or in the journal, and what it must hold.
fn store(flushed: bool) -> (Arc<Memory>, Model) {
    let memory = Arc::new(Memory::new());
    let running = Running::open(memory.clone(), &model()).unwrap();
    for name in 1..=3u8 {
        running.apply(name, changes(name)).unwrap();
    }
    if flushed {
        running.handle.flush_blocking().unwrap();
    }
    drop(running);
    (memory, model_after(&[1, 2, 3]))
}

/// ```text
/// genesis ─ 1 (final) ─ 2 ─ 3
///                   └── 4
/// ```
fn forks() -> Arc<Memory> {
    let memory = Arc::new(Memory::new());
    let running = open_forks(&memory);
    let on = |parent: &Header, name: u8| {
        let (number, parent_hash) = (parent.number + 1, parent.hash);
        let hash = BlockHash([name; 32]);
        let block = Block { number, hash, parent_hash, timestamp_ms: None, state_root: None, changes: changes(name) };
        running.handle.apply_blocking(block).unwrap()
    };
    let genesis = running.reader.head().header().clone();
    let one = on(&genesis, 1);
    let two = on(&one, 2);
    on(&two, 3);
    on(&one, 4);
    pollster::block_on(running.handle.finalize(one.hash)).unwrap();
    memory.clone()
}

fn open_forks(memory: &Arc<Memory>) -> Running {
    let config = Config { finality: Finality::Engine, ..Config::new(COMMITTER.clone()) };
    Running::open_as(memory.clone(), &model(), config).unwrap()
}

/// The journal row of block `name`, rewritten.
fn rewrite(memory: &Memory, name: u8, change: impl Fn(Op<'_>) -> Option<Vec<u8>>) {
    let snapshot = memory.snapshot().unwrap();
    let rows = snapshot.range(Column::Fork, &crate::backend::Bounds::all(), usize::MAX, usize::MAX).unwrap().rows;
    let (key, value) = rows.into_iter().find(|(key, _)| key[8..] == [name; 32]).expect("a block of the journal");
    let entry = crate::journal::decode(&key, &value).unwrap();
    let mut changed = Batch::new();
    for op in entry.rows.ops() {
        match (op, change(op)) {
            (Op::Put { column, key, .. }, Some(value)) => changed.put(column, key, &value),
            (Op::Put { column, key, value }, None) => changed.put(column, key, value),
            (Op::Delete { column, key }, _) => changed.delete(column, key),
            _ => unreachable!("a block's rows name no ranges"),
        }
    }
    let value = crate::journal::encode(&entry.header, entry.change_bytes, &changed);
    commit(memory, |batch| batch.put(Column::Fork, &key, &value));
}

fn examination(backend: Arc<dyn Backend>) -> Result<Examination, OpenError> {
    let pairs = pairs(&model());
    let genesis = Genesis { id: "test", pairs: &pairs, hash: &hash_of_root };
    Examination::open(backend, &genesis, COMMITTER.clone())
}

fn checked(backend: &Arc<Memory>, depth: Depth) -> Report {
    examination(backend.clone()).unwrap().check(depth, [7; 32], &mut |_| ()).unwrap()
}

fn repaired(backend: Arc<dyn Backend>) -> Repair {
    examination(backend).unwrap().repair([7; 32], &mut |_| ()).unwrap()
}

/// Everything that a store holds, column by column.
fn all_rows(backend: &Memory) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    let snapshot = backend.snapshot().unwrap();
    let rows = |column| snapshot.range(column, &crate::backend::Bounds::all(), usize::MAX, usize::MAX).unwrap().rows;
    Column::ALL.map(rows).to_vec()
}

fn commit(backend: &Memory, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    backend.commit(batch, Durability::Synced).unwrap();
}

fn row_of(backend: &Memory, column: Column, key: &[u8]) -> Vec<u8> {
    backend.snapshot().unwrap().get(column, key).unwrap().expect("a row that is there")
}

#[test]
fn a_store_without_damage_is_sound_and_left_alone() {
    for flushed in [false, true] {
        let (memory, model) = store(flushed);
        let before = all_rows(&memory);
        for depth in [Depth::Quick, Depth::Deep] {
            let report = checked(&memory, depth);
            assert!(report.is_sound(), "{report}");
            assert_eq!((report.leaves, report.bigs, report.blocks), (model.len() as u64, 6 + 3, 4));
            assert_eq!(report.witnessed > 0, depth == Depth::Deep);
            assert!(report.nodes > 200);
        }
        let repair = repaired(memory.clone());
        assert!(repair.done.is_empty() && repair.left.is_sound());
        assert_eq!(all_rows(&memory), before);
    }
    let memory = forks();
    for depth in [Depth::Quick, Depth::Deep] {
        let report = checked(&memory, depth);
        assert!(report.is_sound(), "{report}");
        assert_eq!((report.blocks, report.journal), (2, 4));
    }
}

/// Rows and what becomes of them.
type Damage = Vec<(Column, Vec<u8>, Option<Vec<u8>>)>;

/// What is done to a row, what the findings must say, and whether a quick check sees it.
struct Case {
    name: &'static str,
    damage: Damage,
    told: &'static str,
    quick: bool,
}

/// Damage that follows from other rows.
fn mendable(memory: &Memory) -> Vec<Case> {
    let generation = Generation(0);
    let snapshot = memory.snapshot().unwrap();
    let nodes = snapshot.range(Column::Node, &generation.all(), usize::MAX, usize::MAX).unwrap().rows;
    let root = generation.node_key(&NodePath::ROOT);
    let (first, second) = (nodes[10].clone(), nodes[20].clone());
    let mut wrong_bitmap = first.1.clone();
    wrong_bitmap[127] ^= 1;
    let key = 7u32.to_be_bytes();
    let index = generation.index_key(&key);
    let leaf = generation.leaf_key(&KeyPath::of(&key)).to_vec();
    let genesis = row_of(memory, Column::Block, &number_key(0));
    let case = |name, damage, told, quick| Case { name, damage, told, quick };
    let one = |column, key: &[u8], value: Option<&[u8]>| vec![(column, key.to_vec(), value.map(<[u8]>::to_vec))];
    let orphan = generation.node_key(&NodePath::new(&[first.0[2], 1, 2, 3]));
    vec![
        case("a node of another place", one(Column::Node, &first.0, Some(&second.1)), "not what its leaves give", true),
        case("a node cut short", one(Column::Node, &first.0, Some(&first.1[1..])), "canonical encoding", true),
        case("a wrong bitmap", one(Column::Node, &first.0, Some(&wrong_bitmap)), "not what its leaves give", true),
        case("a node gone", one(Column::Node, &first.0, None), "missing", true),
        case("no root", one(Column::Node, &root, None), "the root node: missing", true),
        case("an orphan", one(Column::Node, &orphan, Some(&second.1)), "belongs to no two leaves", true),
        case("no place", one(Column::Node, &[0, 9, 1], Some(&second.1)), "0x000901", true),
        case("deeper than deep", one(Column::Node, &[0, 40, 1], Some(b"")), "0x002801", true),
        case("a key gone", one(Column::Index, &index, None), "its key is missing", true),
        case("a key with something", one(Column::Index, &index, Some(b"x")), "holds something", true),
        case("a key of no leaf", one(Column::Index, b"\0stray", Some(b"")), "a key without a leaf", true),
        case("a value of no leaf", one(Column::Big, &leaf, Some(&[1; 5000])), "belongs to no leaf", false),
        case("a number gone", one(Column::Block, &number_key(1), None), "does not lead to block", true),
        case("a wrong number", one(Column::Block, &number_key(1), Some(&genesis)), "does not lead to block", true),
        case("the last number", one(Column::Block, &number_key(3), None), "does not lead to block", true),
        case("a number above", one(Column::Block, &number_key(9), Some(&genesis)), "above the newest", true),
        case("a stray header", one(Column::Block, &header_key(&BlockHash([8; 32])), Some(b"x")), "not a header", false),
        case("rows of a generation", one(Column::Leaf, &[1, 2], Some(b"")), "generation 1", true),
        case("no generation", one(Column::Meta, meta::LIVE, None), "`live`", true),
        case("no head", one(Column::Meta, meta::HEAD, Some(b"nonsense")), "`head`", true),
        case("another head", one(Column::Meta, meta::HEAD, Some(&[9; 32])), "`head`", true),
        case("no final block", one(Column::Meta, meta::FINAL, None), "`final`", true),
        case("no base", one(Column::Meta, meta::BASE, Some(b"")), "`base`", true),
        case("no chain", one(Column::Meta, meta::CHAIN, None), "`chain`", true),
    ]
}

fn harm(memory: &Memory, damage: &Damage) {
    commit(memory, |batch| {
        for (column, key, value) in damage {
            match value {
                Some(value) => batch.put(*column, key, value),
                None => batch.delete(*column, key),
            }
        }
    });
}

#[test]
fn what_follows_from_other_rows_is_named_and_mended() {
    let (sound, model) = store(true);
    let before = all_rows(&sound);
    for Case { name, damage, told, quick } in mendable(&sound) {
        let (memory, _) = store(true);
        harm(&memory, &damage);
        for depth in [Depth::Quick, Depth::Deep] {
            let report = checked(&memory, depth);
            let is_told = report.findings.iter().any(|finding| finding.to_string().contains(told));
            assert_eq!(is_told, quick || depth == Depth::Deep, "{name}, {depth:?}: {report}");
            assert_eq!(report.cures.mend, report.findings_total, "{name}: {report}");
        }
        let repair = repaired(memory.clone());
        assert!(repair.left.is_sound() && !repair.done.is_empty(), "{name}: {repair:?}");
        assert_eq!(all_rows(&memory), before, "{name}");
        assert_holds(&Running::open(memory, &super::mending::model()).unwrap().reader, &model);
    }
}

/// Rows under blocks that wait in the journal: what is read is right in the end, and forks go on.
#[test]
fn what_lies_under_the_journal_is_mended_too() {
    let (sound, model) = store(true);
    let mut named = 0;
    for Case { name, damage, .. } in mendable(&sound) {
        let (memory, _) = store(false);
        harm(&memory, &damage);
        let repair = repaired(memory.clone());
        named += !repair.found.is_sound() as u32;
        assert!(repair.left.is_sound(), "{name}: {repair:?}");
        let running = Running::open(memory.clone(), &super::mending::model()).unwrap();
        // Without the row that names the final block, the base is.
        if repair.found.findings.iter().all(|finding| finding.row != "`final`") {
            assert_holds(&running.reader, &model);
        }
        drop(running);

        let memory = forks();
        harm(&memory, &damage);
        let repair = repaired(memory.clone());
        assert!(repair.left.is_sound(), "{name}: {repair:?}");
        let running = open_forks(&memory);
        for (fork, blocks) in [(3, &[1, 2, 3][..]), (4, &[1, 4])] {
            let view = running.reader.at(At::Block(BlockHash([fork; 32]))).unwrap();
            let report = check(&view, &COMMITTER).unwrap();
            assert!(report.is_sound(), "{name}: {report}");
            assert_eq!(report.leaves, model_after(blocks).len() as u64);
        }
    }
    assert!(named > 15, "{named}");
}

#[test]
fn damaged_blocks_of_the_journal_are_dropped() {
    let altered = |op: Op<'_>, column: Column, depth: u8| match op {
        Op::Put { column: found, key, value } if found == column && (column != Column::Node || key[1] == depth) => {
            let mut value = value.to_vec();
            *value.last_mut().unwrap() ^= 1;
            Some(value)
        }
        _ => None,
    };
    type Harm<'a> = &'a dyn Fn(&Memory);
    let key_of = |number: u64, name: u8| crate::journal::key(number, &BlockHash([name; 32]));
    let cut = |memory: &Memory, number, name: u8| {
        let key = key_of(number, name);
        let value = row_of(memory, Column::Fork, &key);
        commit(memory, |batch| batch.put(Column::Fork, &key, &value[..value.len() - 1]));
    };
    // What is done to the journal of forks, and which forks are there in the end.
    let cases: [(&str, Harm<'_>, &[u8]); 6] = [
        ("a row cut short", &|memory| cut(memory, 2, 2), &[4]),
        ("another row cut short", &|memory| cut(memory, 2, 4), &[2, 3]),
        ("a row gone", &|memory| commit(memory, |batch| batch.delete(Column::Fork, &key_of(2, 2))), &[4]),
        ("a root altered", &|memory| rewrite(memory, 4, |op| altered(op, Column::Node, 0)), &[2, 3]),
        ("a node altered", &|memory| rewrite(memory, 2, |op| altered(op, Column::Node, 1)), &[4]),
        ("a leaf altered", &|memory| rewrite(memory, 3, |op| altered(op, Column::Leaf, 0)), &[2, 4]),
    ];
    for (name, harm, left) in cases {
        let memory = forks();
        harm(&memory);
        for depth in [Depth::Quick, Depth::Deep] {
            let report = checked(&memory, depth);
            assert!(report.cures.rewind > 0 && report.cures.resync == 0, "{name}: {report}");
        }
        let repair = repaired(memory.clone());
        assert!(repair.left.is_sound(), "{name}: {}", repair.left);
        assert!(
            repair.done.iter().any(|deed| matches!(deed, Deed::Rewound { finalized: 1, .. })),
            "{name}: {repair:?}"
        );
        let running = open_forks(&memory);
        for fork in 2..=4 {
            let view = running.reader.at(At::Block(BlockHash([fork; 32])));
            assert_eq!(view.is_ok(), left.contains(&fork), "{name}: block {fork}");
        }
    }
}

#[test]
fn a_final_block_that_is_damaged_takes_the_store_back_before_it() {
    for with_leaf in [false, true] {
        let (memory, _) = store(false);
        match with_leaf {
            // Its rows decode, and its leaves do not give its root.
            true => rewrite(&memory, 2, |op| match op {
                Op::Put { column: Column::Leaf, value, .. } => Some([&value[..value.len() - 1], b"x"].concat()),
                _ => None,
            }),
            false => {
                let key = crate::journal::key(2, &BlockHash([2; 32]));
                commit(&memory, |batch| batch.put(Column::Fork, &key, b"nonsense"));
            }
        }
        let report = checked(&memory, Depth::Quick);
        assert!(!report.is_sound());
        let repair = repaired(memory.clone());
        assert!(repair.left.is_sound(), "{}", repair.left);
        assert_eq!(repair.done, [Deed::Rewound { finalized: 1, head: 1, dropped: 2 }]);
        let running = Running::open(memory, &model()).unwrap();
        assert_eq!(running.reader.head().header().number, 1);
        assert_holds(&running.reader, &model_after(&[1]));
        // The blocks are applied again.
        running.apply(2, changes(2)).unwrap();
        running.apply(3, changes(3)).unwrap();
        assert_holds(&running.reader, &model_after(&[1, 2, 3]));
    }
}

#[test]
fn what_nothing_follows_from_is_named_and_left_alone() {
    let generation = Generation(0);
    let (small, big) = (7u32.to_be_bytes(), 500u32.to_be_bytes());
    let [small, big] = [small, big].map(|key| generation.leaf_key(&KeyPath::of(&key)).to_vec());
    let mut altered = row_of(&store(true).0, Column::Leaf, &small);
    *altered.last_mut().unwrap() ^= 1;
    let node = generation.node_key(&NodePath::new(&small[1..2]));
    let cases = [
        ("a value altered", Column::Leaf, &small, Some(altered), "do not give its commitment", true),
        ("a leaf gone", Column::Leaf, &small, None, "do not give its commitment", true),
        ("a leaf that does not decode", Column::Leaf, &small, Some(vec![9; 9]), "leaf 0x", true),
        ("a big value altered", Column::Big, &big, Some(vec![1; 5000]), "not the value that was written", false),
        ("a big value gone", Column::Big, &big, None, "the value of leaf", false),
    ];
    for (name, column, key, value, told, quick) in cases {
        // Beside it something that could be mended, were the leaves right.
        for with_node in [false, true] {
            let (memory, _) = store(true);
            commit(&memory, |batch| {
                match &value {
                    Some(value) => batch.put(column, key, value),
                    None => batch.delete(column, key),
                }
                if with_node {
                    batch.delete(Column::Node, &node);
                }
            });
            for depth in [Depth::Quick, Depth::Deep] {
                let report = checked(&memory, depth);
                let is_told = report.findings.iter().any(|finding| finding.to_string().contains(told));
                let hidden = with_node && column == Column::Leaf && told.starts_with("do not");
                assert_eq!(
                    is_told && !hidden,
                    (quick || depth == Depth::Deep) && !hidden,
                    "{name}, {depth:?}: {report}"
                );
                assert_eq!(report.cures.resync > 0, quick || depth == Depth::Deep, "{name}, {depth:?}: {report}");
            }
            let before = all_rows(&memory);
            let repair = repaired(memory.clone());
            assert!(!repair.left.is_sound(), "{name}");
            match column {
                Column::Leaf => assert_eq!(all_rows(&memory), before, "{name}"),
                // The tree is right, so its nodes can be.
                _ => assert_eq!(repair.done.len(), with_node as usize, "{name}: {repair:?}"),
            }
        }
    }
}

#[test]
fn a_tree_of_which_too_much_is_wrong_is_written_anew() {
    let (memory, model) = store(true);
    let root = Running::open(memory.clone(), &super::mending::model()).unwrap().reader.head().header().state_root;
    // The value is in the wrong column for its size, which only another generation mends.
    let key = 7u32.to_be_bytes();
    let leaf_key = Generation(0).leaf_key(&KeyPath::of(&key)).to_vec();
    let value = &model[&key[..]];
    let row = crate::schema::LeafRow::Big {
        key: key.to_vec(),
        bytes: value.len() as u64,
        value_hash: rustorium_verkle::ValueHash::of(value).0,
    };
    commit(&memory, |batch| {
        batch.put(Column::Leaf, &leaf_key, &parity_scale_codec::Encode::encode(&row));
        batch.put(Column::Big, &leaf_key, value);
        batch.delete(Column::Node, &Generation(0).node_key(&NodePath::ROOT));
    });
    let repair = repaired(memory.clone());
    assert!(repair.left.is_sound(), "{}", repair.left);
    let leaves = model.len() as u64;
    assert!(repair.done.contains(&Deed::Rebuilt { leaves, generation: 1 }), "{:?}", repair.done);
    let running = Running::open(memory.clone(), &super::mending::model()).unwrap();
    assert_eq!(running.reader.head().header().state_root, root);
    assert_holds(&running.reader, &model);
    // Life goes on in the new generation.
    let mut model = model;
    let changes = vec![put(b"after", b"1")];
    apply_to_model(&mut model, &changes);
    running.apply(9, changes).unwrap();
    assert_holds(&running.reader, &model);
    drop(running);
    assert!(all_rows(&memory)[Column::Leaf as usize].iter().all(|(key, _)| key[0] == 1));
}

/// A repair whose commits fail at each place in turn, written or not, leaves a store that the next repair mends.
#[test]
fn a_repair_that_is_broken_off_is_done_again() {
    for rebuild in [false, true] {
        for commit_failing in 1.. {
            let mut ended = false;
            for written in [false, true] {
                let (memory, model) = store(true);
                let key = 7u32.to_be_bytes();
                let leaf_key = Generation(0).leaf_key(&KeyPath::of(&key)).to_vec();
                commit(&memory, |batch| {
                    batch.delete(Column::Node, &Generation(0).node_key(&NodePath::ROOT));
                    batch.put(Column::Leaf, &[5, 5], b"left over");
                    if rebuild {
                        let row = crate::schema::LeafRow::Big {
                            key: key.to_vec(),
                            bytes: model[&key[..]].len() as u64,
                            value_hash: rustorium_verkle::ValueHash::of(&model[&key[..]]).0,
                        };
                        batch.put(Column::Leaf, &leaf_key, &parity_scale_codec::Encode::encode(&row));
                        batch.put(Column::Big, &leaf_key, &model[&key[..]]);
                    }
                });
                let fault = Fault { commit: commit_failing, written, error: io_error() };
                let faulty: Arc<dyn Backend> = Arc::new(Faulty::new(memory.clone(), Some(fault)));
                ended |= examination(faulty).unwrap().repair([7; 32], &mut |_| ()).is_ok();
                let repair = repaired(memory.clone());
                assert!(repair.left.is_sound(), "commit {commit_failing}: {}", repair.left);
                assert_holds(&Running::open(memory, &super::mending::model()).unwrap().reader, &model);
            }
            if ended {
                assert!(commit_failing > 2);
                break;
            }
        }
    }
}

#[test]
fn stores_that_are_not_ours_to_mend_are_refused() {
    let (memory, _) = store(true);
    let other = Genesis { id: "other", pairs: &[], hash: &hash_of_root };
    let refused = Examination::open(memory.clone(), &other, COMMITTER.clone()).err();
    assert!(matches!(refused, Some(OpenError::OtherChain { .. })), "{refused:?}");
    commit(&memory, |batch| batch.put(Column::Meta, meta::FORMAT, b"rustorium state \xff\0\0\0"));
    assert!(matches!(examination(memory.clone()).err(), Some(OpenError::Newer { found: 255, .. })));
    commit(&memory, |batch| batch.delete(Column::Meta, meta::FORMAT));
    assert!(matches!(examination(memory).err(), Some(OpenError::Foreign)));
    assert!(matches!(examination(Arc::new(Memory::new())).err(), Some(OpenError::Interrupted)));
}

#[test]
fn findings_are_counted_beyond_those_that_are_listed() {
    let (memory, _) = store(true);
    let index = all_rows(&memory)[Column::Index as usize].clone();
    commit(&memory, |batch| index.iter().take(200).for_each(|(key, _)| batch.delete(Column::Index, key)));
    let report = checked(&memory, Depth::Quick);
    assert_eq!((report.findings.len(), report.findings_total), (FINDINGS_MAX, 200));
    assert!(report.to_string().ends_with("… and 136 more"));
    assert_eq!(repaired(memory).done, [Deed::Mended { rows: 200 }]);
}

/// What a repair writes it says.
#[test]
fn a_repair_touches_nothing_but_what_it_mends() {
    let (memory, _) = store(true);
    let key = Generation(0).node_key(&NodePath::ROOT);
    commit(&memory, |batch| batch.delete(Column::Node, &key));
    let recorder = Arc::new(Recorder { inner: memory, batches: Default::default() });
    repaired(recorder.clone());
    let batches = recorder.batches.lock().unwrap();
    let ops: Vec<Op<'_>> = batches.iter().flat_map(|batch| batch.ops()).collect();
    assert!(matches!(&ops[..], [Op::Put { column: Column::Node, key: put, .. }] if *put == key));
}

struct Recorder {
    inner: Arc<Memory>,
    batches: std::sync::Mutex<Vec<Batch>>,
}

impl Backend for Recorder {
    fn snapshot(&self) -> Result<Arc<dyn crate::backend::Snapshot>, crate::backend::BackendError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), crate::backend::BackendError> {
        self.batches.lock().unwrap().push(batch.clone());
        self.inner.commit(batch, durability)
    }

    fn stats(&self) -> crate::backend::Stats {
        self.inner.stats()
    }

    fn compact(
        &self,
        column: Column,
        proceed: &mut dyn FnMut(crate::backend::Compacted) -> ControlFlow<()>,
    ) -> Result<(), crate::backend::BackendError> {
        self.inner.compact(column, proceed)
    }
}
