//! States of the past: values, listings and witnesses, what they cost in rows, how they go, and the way back to them.

use std::collections::{BTreeSet, HashMap};

use rustorium_verkle::tree::Bulk;
use rustorium_verkle::{KeyPath, Leaf, ValueHash};

use super::*;
use crate::backend::Bounds;

/// A flush after every few blocks.
fn config(history: History) -> Config {
    Config { cache_bytes: 1 << 18, flush_blocks: 3, history, ..Config::new(COMMITTER.clone()) }
}

fn open_history(backend: &Arc<Memory>, history: History) -> Running {
    Running::open_as(backend.clone(), &example(), config(history)).unwrap()
}

/// Keys whose paths share three bytes and more with another's, so that the tree is deep where they are.
fn deep_keys() -> &'static [Vec<u8>] {
    static KEYS: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(|| {
        let mut groups: HashMap<[u8; 3], Vec<(KeyPath, Vec<u8>)>> = HashMap::new();
        for index in 0..1_200_000u32 {
            let key = index.to_le_bytes().to_vec();
            let path = KeyPath::of(&key);
            groups.entry(*path.0.first_chunk().unwrap()).or_default().push((path, key));
        }
        let mut groups: Vec<Vec<(KeyPath, Vec<u8>)>> = groups.into_values().collect();
        let shares_four = |group: &Vec<(KeyPath, Vec<u8>)>| {
            group.iter().any(|(a, _)| group.iter().any(|(b, _)| a != b && a.0[..4] == b.0[..4]))
        };
        groups.sort_by_key(|group| (!shares_four(group), std::cmp::Reverse(group.len()), group[0].1.clone()));
        let deepest = groups.iter().take(24).flatten();
        let widest = groups.iter().skip_while(|group| shares_four(group)).take(8).flatten();
        deepest.chain(widest).map(|(_, key)| key.clone()).collect()
    });
    &KEYS
}

fn root_of(model: &Model) -> StateRoot {
    let leaf = |(key, value): (&Vec<u8>, &Vec<u8>)| Leaf { path: KeyPath::of(key), value_hash: ValueHash::of(value) };
    let mut leaves: Vec<Leaf> = model.iter().map(leaf).collect();
    leaves.sort_by_key(|leaf| leaf.path);
    let mut bulk = Bulk::new(&COMMITTER);
    bulk.push(&leaves).unwrap();
    StateRoot::of(&bulk.finish().last().unwrap().1.commitment.encode())
}

/// A view of a block holds the model: values, sizes, listings in pages, and a witness of all keys that there ever were.
fn assert_was(view: &View, model: &Model, all: &[Vec<u8>]) {
    assert_eq!(view.header().state_root, root_of(model));
    let mut listed: Vec<Vec<u8>> = Vec::new();
    loop {
        let page = view.keys_paged(b"", listed.last().map(Vec::as_slice), 7).unwrap();
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert_eq!(listed, model.keys().cloned().collect::<Vec<_>>());
    for key in all {
        assert_eq!(view.value(key).unwrap().as_ref(), model.get(key), "{key:?}");
        assert_eq!(view.value_size(key).unwrap(), model.get(key).map(|value| value.len() as u64));
    }
    let proof = view.witness(all, u64::MAX).unwrap();
    let claim = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
        assert_eq!(value.as_ref(), model.get(key));
        value.as_ref().map_or_else(|| Claim::absent(key), |value| Claim::value(key, value))
    };
    let claims: Vec<Claim> = proof.claims.iter().map(claim).collect();
    let witness = Witness::decode(&proof.witness).unwrap();
    assert_eq!(witness.verify(&view.header().state_root, &claims), Ok(()));
}

/// What blocks did, and what happened to each key, is what the models say.
fn assert_changes(reader: &Reader, blocks: &[Vec<Change>], hashes: &[BlockHash], models: &[Model], all: &[Vec<u8>]) {
    for (number, changes) in (1..).zip(blocks) {
        let (before, after) = (&models[number - 1], &models[number]);
        let keys: BTreeSet<&Vec<u8>> = changes.iter().map(|(key, _)| key).collect();
        let value = |key: &Vec<u8>| (key.clone(), before.get(key).cloned(), after.get(key).cloned());
        // What a block writes anew is in the diff or not.
        let is_other = |(_, old, new): &(_, Option<Vec<u8>>, Option<Vec<u8>>)| old != new;
        let expected: Vec<_> = keys.into_iter().map(value).filter(is_other).collect();
        let diff = reader.diff(&hashes[number], u64::MAX).unwrap();
        assert_eq!(diff.header.hash, hashes[number]);
        assert_eq!(diff.changes.into_iter().filter(is_other).collect::<Vec<_>>(), expected);
    }
    for key in all {
        let (mut found, mut from) = (Vec::new(), 0);
        loop {
            let query = HistoryQuery { from, to: u64::MAX, limit: 2, bytes_max: 6000 };
            let KeyHistory { changes, next } = reader.history(key, query).unwrap();
            assert!(changes.len() <= 2);
            found.extend(changes.into_iter().filter(|change| change.old != change.new));
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        let change = |(number, (before, after)): (usize, (&Model, &Model))| {
            let (old, new) = (before.get(key).cloned(), after.get(key).cloned());
            let change = KeyChange { number: number as u64, hash: hashes[number], old, new };
            (change.old != change.new).then_some(change)
        };
        let expected: Vec<KeyChange> = (1..).zip(models.iter().zip(&models[1..])).filter_map(change).collect();
        assert_eq!(found, expected, "{key:?}");
    }
}

fn all_rows(backend: &Memory, column: Column) -> usize {
    backend.snapshot().unwrap().range(column, &Bounds::all(), usize::MAX, usize::MAX).unwrap().rows.len()
}

/// Changes of one block: some of the deep keys, some others, of which some big.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    let deep = prop::sample::select(deep_keys());
    let key = prop_oneof![3 => deep, 1 => (0u8..20).prop_map(|index| vec![index, 0, index % 3])];
    let value = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..9).prop_map(Some),
        1 => Just(Some(vec![7; 5000])),
        2 => Just(None),
    ];
    prop::collection::vec((key, value), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever blocks came, every one of them is read as it was, through restarts, and gone back to.
    #[test]
    fn every_block_is_read_as_it_was(
        blocks in prop::collection::vec(changes(), 1..14),
        restart in 0usize..14,
        back in 0usize..14,
    ) {
        let memory = Arc::new(Memory::new());
        let mut models = vec![example()];
        let mut all: Vec<Vec<u8>> = example().into_keys().collect();
        all.extend(blocks.iter().flatten().map(|(key, _)| key.clone()));
        all.sort();
        all.dedup();
        let mut running = open_history(&memory, History::Archive);
        let mut hashes = vec![running.reader.genesis_hash()];
        for (index, changes) in blocks.iter().enumerate() {
            if index == restart {
                drop(running);
                running = open_history(&memory, History::Archive);
            }
            let mut model = models[index].clone();
            apply_to_model(&mut model, changes);
            models.push(model);
            let header = running.handle.apply_blocking(running.child(index as u8 + 1, changes.clone())).unwrap();
            hashes.push(header.hash);
        }
        for _ in 0..2 {
            for (hash, model) in hashes.iter().zip(&models) {
                assert_was(&running.reader.at(At::Block(*hash)).unwrap(), model, &all);
            }
            assert_changes(&running.reader, &blocks, &hashes, &models, &all);
            running.handle.flush_blocking().unwrap();
        }
        let back = back.min(blocks.len());
        prop_assert_eq!(running.handle.rollback_blocking(hashes[back]).unwrap().hash, hashes[back]);
        for _ in 0..2 {
            assert_holds(&running.reader, &models[back]);
            for (hash, model) in hashes.iter().zip(&models).take(back + 1) {
                assert_was(&running.reader.at(At::Block(*hash)).unwrap(), model, &all);
            }
            for hash in &hashes[back + 1..] {
                let gone = running.reader.at(At::Block(*hash));
                assert!(matches!(gone, Err(AtError::Unknown { .. })), "block {hash} is gone");
            }
            drop(running);
            running = open_history(&memory, History::Archive);
        }
        // What was taken back leaves nothing, and another future may come.
        if back == 0 {
            prop_assert_eq!((all_rows(&memory, Column::Undo), all_rows(&memory, Column::UndoAt)), (0, 0));
        }
        let mut model = models[back].clone();
        for (index, changes) in blocks.iter().rev().enumerate() {
            apply_to_model(&mut model, changes);
            running.handle.apply_blocking(running.child(100 + index as u8, changes.clone())).unwrap();
        }
        running.handle.flush_blocking().unwrap();
        assert_holds(&running.reader, &model);
        for (hash, model) in hashes.iter().zip(&models).take(back + 1) {
            assert_was(&running.reader.at(At::Block(*hash)).unwrap(), model, &all);
        }
    }
}

/// Applies so many blocks that each change two keys; the models after each.
fn apply_blocks(running: &Running, models: &mut Vec<Model>, count: usize) {
    for _ in 0..count {
        let index = models.len();
        let changes = vec![put(b"alice", &[index as u8]), put(&[b'k', index as u8], &[1; 100])];
        let mut model = models.last().unwrap().clone();
        apply_to_model(&mut model, &changes);
        models.push(model);
        running.apply(index as u8, changes).unwrap();
    }
}

/// Waits until a read says what it should; the sweeper has no other sign of life.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < until, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn what_leaves_the_window_is_swept_unless_it_is_pinned() {
    let memory = Arc::new(Memory::new());
    let running = open_history(&memory, History::Blocks(4));
    let mut models = vec![example()];
    apply_blocks(&running, &mut models, 5);
    running.handle.flush_blocking().unwrap();
    let pin = running.reader.pin(3);
    apply_blocks(&running, &mut models, 15);
    running.handle.flush_blocking().unwrap();
    let oldest = || crate::undo::Kept::read(&*memory.snapshot().unwrap()).unwrap().unwrap().oldest;
    wait_until("the pin is all that is left", || oldest() == 3);
    apply_blocks(&running, &mut models, 1);
    running.handle.flush_blocking().unwrap();
    assert_eq!(running.reader.status().oldest_number, 3);
    let all: Vec<Vec<u8>> = models.last().unwrap().keys().cloned().collect();
    assert_was(&running.reader.at(At::Block(BlockHash([3; 32]))).unwrap(), &models[3], &all);
    let older = running.reader.at(At::Block(BlockHash([2; 32])));
    assert!(matches!(older, Err(AtError::Pruned { oldest: 3 })));
    drop(pin);
    let rows = all_rows(&memory, Column::UndoAt);
    apply_blocks(&running, &mut models, 1);
    running.handle.flush_blocking().unwrap();
    wait_until("the window is all that is left", || oldest() == 18);
    wait_until("rows are swept", || all_rows(&memory, Column::UndoAt) < rows / 2);
    // A view that is held outlives the sweep.
    let held = running.reader.at(At::Block(BlockHash([19; 32]))).unwrap();
    apply_blocks(&running, &mut models, 9);
    running.handle.flush_blocking().unwrap();
    wait_until("the window has moved", || oldest() == 27);
    assert_was(&held, &models[19], &all);
    let back = running.handle.rollback_blocking(BlockHash([26; 32]));
    assert!(matches!(back, Err(ApplyError::Pruned { oldest: 27 })), "{back:?}");
    assert_holds(&running.reader, models.last().unwrap());
}

/// What a window leaves on disk, beside what there is when all is kept.
#[test]
fn a_window_takes_less_disk() {
    let disk_bytes = |history: History| {
        let folder = tempfile::tempdir().unwrap();
        let backend = Arc::new(Rocks::open(folder.path(), &RocksConfig::default()).unwrap());
        let running = Running::open_as(backend.clone(), &example(), config(history)).unwrap();
        for number in 1..=60u8 {
            // Random to a compressor.
            let value = |i: u8| blake3::Hasher::new().update(&[number, i]).finalize_xof();
            let change = |i: u8| {
                let mut bytes = vec![0; 2000];
                value(i).fill(&mut bytes);
                put(&[i], &bytes)
            };
            running.apply(number, (0..20).map(change).collect()).unwrap();
        }
        running.handle.flush_blocking().unwrap();
        let first = || backend.snapshot().unwrap().range(Column::Undo, &Bounds::all(), 1, 0).unwrap().rows;
        if history != History::Archive {
            wait_until("old states are swept", || first()[0].0[..] >= 55u64.to_be_bytes()[..]);
        }
        // What is read was read before the sweep, up to here.
        running.apply(61, vec![]).unwrap();
        running.handle.flush_blocking().unwrap();
        let of = |column| {
            backend.compact(column, &mut |_| ControlFlow::Continue(())).unwrap();
            backend.stats().column(column).disk_bytes
        };
        of(Column::Undo) + of(Column::UndoAt)
    };
    let (all, some) = (disk_bytes(History::Archive), disk_bytes(History::Blocks(6)));
    assert!(all > 59 * 20 * 2000, "{all} bytes for all blocks");
    assert!(some < all / 8, "{some} of {all} bytes");
}

#[test]
fn days_are_those_of_the_blocks() {
    const DAY: u64 = 24 * 3600 * 1000;
    let memory = Arc::new(Memory::new());
    let running = open_history(&memory, History::Days(2));
    for number in 1..=9u8 {
        let block = running.child(number, vec![put(b"alice", &[number])]);
        let timestamp_ms = Some(20_000 * DAY + number as u64 * DAY / 2);
        running.handle.apply_blocking(Block { timestamp_ms, ..block }).unwrap();
    }
    running.handle.flush_blocking().unwrap();
    let oldest = || crate::undo::Kept::read(&*memory.snapshot().unwrap()).unwrap().unwrap().oldest;
    wait_until("block 5 is two days older than block 9", || oldest() == 5);
}

#[test]
fn without_history_nothing_is_kept_and_it_starts_where_it_is_turned_on() {
    let memory = Arc::new(Memory::new());
    let mut models = vec![example()];
    {
        let running = open_history(&memory, History::Archive);
        apply_blocks(&running, &mut models, 4);
        running.handle.flush_blocking().unwrap();
        assert!(all_rows(&memory, Column::Undo) > 0);
    }
    {
        let running = open_history(&memory, History::None);
        apply_blocks(&running, &mut models, 2);
        running.handle.flush_blocking().unwrap();
        wait_until("what was kept is swept", || all_rows(&memory, Column::UndoAt) == 0);
        assert!(matches!(running.reader.at(At::Block(BlockHash([5; 32]))), Err(AtError::Pruned { oldest: 6 })));
        let back = running.handle.rollback_blocking(BlockHash([5; 32]));
        assert!(matches!(back, Err(ApplyError::Pruned { oldest: 6 })), "{back:?}");
    }
    let running = open_history(&memory, History::Archive);
    apply_blocks(&running, &mut models, 1);
    running.handle.flush_blocking().unwrap();
    apply_blocks(&running, &mut models, 3);
    running.handle.flush_blocking().unwrap();
    assert_eq!(running.reader.status().oldest_number, 7);
    let all: Vec<Vec<u8>> = models.last().unwrap().keys().cloned().collect();
    for number in 7..=10u8 {
        let view = running.reader.at(At::Block(BlockHash([number; 32]))).unwrap();
        assert_was(&view, &models[number as usize], &all);
    }
    assert!(matches!(running.reader.at(At::Block(BlockHash([6; 32]))), Err(AtError::Pruned { oldest: 7 })));
}
