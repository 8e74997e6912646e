use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use rustorium_verkle::{Committer, KeyPath, WindowBits};

use super::file::{Frames, Place, head};
use super::*;
use crate::backend::Memory;
use crate::*;

static COMMITTER: LazyLock<Arc<Committer>> = LazyLock::new(|| Arc::new(Committer::new(WindowBits::SMALL)));

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

/// Does something with a store of the chain `id`, and closes it.
fn with_store<T>(memory: &Arc<Memory>, id: &str, act: impl FnOnce(&Handle, &Reader) -> T) -> T {
    let pairs = vec![(b"first".to_vec(), id.as_bytes().to_vec())];
    let genesis = Genesis { id, pairs: &pairs, hash: &|root| BlockHash(root.0) };
    let config = Config::new(COMMITTER.clone());
    let (writer, handle, reader) = open(memory.clone(), &genesis, &config, &mut |_| GO_ON).unwrap();
    let writer = std::thread::spawn(|| writer.run());
    let result = act(&handle, &reader);
    handle.close();
    writer.join().unwrap();
    result
}

fn examine(memory: &Arc<Memory>, id: &str) -> Examination {
    let pairs = vec![(b"first".to_vec(), id.as_bytes().to_vec())];
    let genesis = Genesis { id, pairs: &pairs, hash: &|root| BlockHash(root.0) };
    Examination::open(memory.clone(), &genesis, COMMITTER.clone()).unwrap()
}

/// A store whose head, block `number`, holds these pairs and the genesis'.
fn store(pairs: &Model, number: u64) -> Arc<Memory> {
    let memory = Arc::new(Memory::new());
    with_store(&memory, "one", |handle, reader| {
        for at in 1..=number {
            let parent_hash = reader.head().header().hash;
            let changes = pairs.iter().filter(|_| at == 1).map(|(key, value)| (key.clone(), Some(value.clone())));
            let hash = BlockHash([at as u8; 32]);
            let (timestamp_ms, state_root) = (Some(at), None);
            let block = Block { number: at, hash, parent_hash, timestamp_ms, state_root, changes: changes.collect() };
            handle.apply_blocking(block).unwrap();
        }
    });
    memory
}

fn exported(memory: &Arc<Memory>) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    export_to(memory, &mut file, &mut |_| GO_ON).unwrap();
    bytes_of(&mut file)
}

fn export_to(
    memory: &Arc<Memory>,
    file: &mut File,
    progress: &mut dyn FnMut(Stage) -> ControlFlow<()>,
) -> Result<Carried, BulkError> {
    with_store(memory, "one", |_, reader| export(&reader.head(), "one", reader.genesis_hash(), file, progress))
}

fn import_of(memory: &Arc<Memory>, bytes: &[u8], terms: Terms) -> Result<Carried, BulkError> {
    import(&examine(memory, "one"), &mut file_of(bytes), &terms, &mut |_| GO_ON)
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn bytes_of(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The head is this block with these pairs and the genesis', every row is sound, and blocks go on from it.
fn assert_holds(memory: &Arc<Memory>, number: u64, pairs: &Model) {
    let report = examine(memory, "one").check(Depth::Deep, [7; 32], &mut |_| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
    with_store(memory, "one", |handle, reader| {
        let head = reader.head();
        assert_eq!(head.header().number, number);
        let mut pairs = pairs.clone();
        pairs.entry(b"first".to_vec()).or_insert(b"one".to_vec());
        let (keys, values): (Vec<_>, Vec<_>) = pairs.into_iter().map(|(key, value)| (key, Some(value))).unzip();
        assert_eq!(head.keys_paged(b"", None, usize::MAX).unwrap(), keys);
        assert_eq!(head.values(&keys, u64::MAX).unwrap(), values);
        head.witness(&keys[..keys.len().min(20)], u64::MAX).unwrap();
        let Header { number, hash: parent_hash, .. } = *head.header();
        let (hash, changes) = (BlockHash([200; 32]), vec![(b"next".to_vec(), Some(vec![1]))]);
        let (timestamp_ms, state_root) = (None, None);
        let block = Block { number: number + 1, hash, parent_hash, timestamp_ms, state_root, changes };
        handle.apply_blocking(block).unwrap();
        handle.flush_blocking().unwrap();
    });
    let report = examine(memory, "one").check(Depth::Deep, [8; 32], &mut |_| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
}

fn some() -> Model {
    let small = (0..300u32).map(|i| (i.to_be_bytes().to_vec(), vec![i as u8; i as usize % 60]));
    small.chain([(b"code".to_vec(), vec![9; 100_000]), (b"".to_vec(), vec![3; 5000])]).collect()
}

/// More than one frame takes.
fn many() -> Model {
    (0..40_000u32).map(|i| (i.to_le_bytes().to_vec(), (i % 1000).to_le_bytes().to_vec())).collect()
}

#[test]
fn a_block_goes_out_and_comes_in() {
    let bytes = exported(&store(&some(), 3));
    // Into a store that is new, one that has blocks of its own, and once more into the same.
    for (memory, times) in [(store(&Model::new(), 0), 2), (store(&many(), 2), 1)] {
        for _ in 0..times {
            let carried = import_of(&memory, &bytes, Terms::default()).unwrap();
            assert_eq!((carried.pairs, carried.resumed), (some().len() as u64 + 1, 0));
            assert_eq!(exported(&memory), bytes, "what came in goes out the same");
        }
        assert_holds(&memory, 3, &some());
    }
    // A block of nothing but its genesis.
    let memory = store(&Model::new(), 0);
    import_of(&memory, &exported(&store(&Model::new(), 0)), Terms::default()).unwrap();
    assert_holds(&memory, 0, &Model::new());
}

#[test]
fn what_was_broken_off_goes_on() {
    let (from, to) = (store(&many(), 1), store(&Model::new(), 0));
    let bytes = exported(&from);
    let mut frames = 0;
    let mut once = |_| {
        frames += 1;
        if frames == 1 { ControlFlow::Break(()) } else { GO_ON }
    };
    let mut file = tempfile::tempfile().unwrap();
    assert!(matches!(export_to(&from, &mut file, &mut once), Err(BulkError::Interrupted)));
    // The end of a frame that was being written.
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"F half a frame").unwrap();
    let carried = export_to(&from, &mut file, &mut |_| GO_ON).unwrap();
    assert!(carried.resumed > 0 && carried.resumed < carried.pairs);
    assert_eq!(bytes_of(&mut file), bytes);
    assert_eq!(export_to(&from, &mut file, &mut |_| GO_ON).unwrap().resumed, carried.pairs, "it is whole already");

    let examination = examine(&to, "one");
    let mut frames = 0;
    let mut once = |_| {
        frames += 1;
        if frames == 2 { ControlFlow::Break(()) } else { GO_ON }
    };
    let broken = import(&examination, &mut file, &Terms::default(), &mut once);
    assert!(matches!(broken, Err(BulkError::Interrupted)));
    with_store(&to, "one", |_, reader| assert_eq!(reader.head().header().number, 0));
    let carried = import_of(&to, &bytes, Terms::default()).unwrap();
    assert!(carried.resumed > 0 && carried.resumed < carried.pairs, "{}", carried.resumed);
    assert_holds(&to, 1, &many());
}

#[test]
fn a_damaged_file_is_named_and_changes_nothing() {
    let memory = store(&Model::new(), 0);
    let bytes = exported(&store(&some(), 3));
    let examination = examine(&memory, "one");
    let refused = |bytes: &[u8]| {
        import(&examination, &mut file_of(bytes), &Terms::default(), &mut |_| GO_ON).expect_err("it is not what it was")
    };
    // Up to the end, which has 57 bytes, nothing is taken in that a later import would go on from.
    for at in (0..bytes.len() - 57).step_by(bytes.len() / 200).chain(bytes.len() - 57..bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        let error = refused(&damaged);
        let is_named = match &error {
            BulkError::Damaged { offset, .. } | BulkError::Truncated { offset } => *offset <= at as u64,
            BulkError::NotOurs => at < 16,
            BulkError::Newer { .. } => (16..20).contains(&at),
            _ => false,
        };
        assert!(is_named, "byte {at}: {error:?}");
        assert!(matches!(refused(&bytes[..at]), BulkError::Truncated { offset } if offset <= at as u64));
    }
    assert!(matches!(refused(&[&bytes[..], b"x"].concat()), BulkError::Damaged { .. }));
    with_store(&memory, "one", |_, reader| assert_eq!(reader.head().header().number, 0));
}

#[test]
fn another_chain_an_older_block_and_another_root_are_refused() {
    let bytes = exported(&store(&some(), 3));
    let other = Arc::new(Memory::new());
    with_store(&other, "two", |_, _| ());
    let refused = import(&examine(&other, "two"), &mut file_of(&bytes), &Terms::default(), &mut |_| GO_ON);
    assert!(matches!(refused, Err(BulkError::OtherChain { .. })));

    let ahead = store(&some(), 5);
    let refused = import_of(&ahead, &bytes, Terms::default());
    assert!(matches!(refused, Err(BulkError::Older { number: 3, finalized: 5 })), "{refused:?}");
    let trusted = Some(rustorium_verkle::StateRoot([5; 32]));
    let refused = import_of(&ahead, &bytes, Terms { trusted, may_lose: true });
    assert!(matches!(refused, Err(BulkError::Untrusted { .. })));
    let trusted = with_store(&store(&some(), 3), "one", |_, reader| reader.head().header().state_root);
    import_of(&ahead, &bytes, Terms { trusted: Some(trusted), may_lose: true }).unwrap();
    assert_holds(&ahead, 3, &some());

    // The export of another block.
    let mut file = file_of(&bytes);
    assert!(matches!(export_to(&store(&some(), 4), &mut file, &mut |_| GO_ON), Err(BulkError::OtherBlock { .. })));
    assert!(matches!(
        export_to(
            &store(&some(), 4),
            &mut file_of(b"a letter to nobody in particular, which someone keeps here and wants"),
            &mut |_| GO_ON
        ),
        Err(BulkError::NotOurs | BulkError::Truncated { .. })
    ));
}

fn origin() -> Origin {
    let (genesis_hash, hash, parent_hash) = (BlockHash([1; 32]), BlockHash([2; 32]), BlockHash([3; 32]));
    let (state_root, content) = ([4; 32], [5; 32]);
    let (number, timestamp_ms) = (7, None);
    Origin { chain: "one".into(), genesis_hash, number, hash, parent_hash, state_root, timestamp_ms, content }
}

/// A file in which pairs stand as they are given.
fn written(origin: &Origin, pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, sum) = head(origin);
    let place = Place { offset: bytes.len() as u64, ..Place::default() };
    let mut frames = Frames::new(&mut bytes, sum, place);
    for (key, value) in pairs {
        frames.put(key, value).unwrap();
    }
    frames.finish().unwrap();
    bytes
}

#[test]
fn a_liar_is_found_by_the_root_and_by_the_order() {
    let memory = store(&Model::new(), 0);
    let genesis_hash = with_store(&memory, "one", |_, reader| reader.genesis_hash());
    let origin = Origin { genesis_hash, ..origin() };
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = some().into_iter().collect();
    pairs.sort_by_key(|(key, _)| KeyPath::of(key));
    let lie = import_of(&memory, &written(&origin, &pairs), Terms::default());
    assert!(matches!(lie, Err(BulkError::RootMismatch { .. })), "{lie:?}");
    // What its header says must fit what the store knows, whatever its pairs are.
    let genesis = with_store(&memory, "one", |_, reader| reader.finalized());
    for header in [
        Origin { hash: genesis_hash, ..origin.clone() },
        Origin { number: 0, ..origin.clone() },
        Origin { hash: BlockHash::ZERO, ..origin.clone() },
        Origin { number: 0, hash: genesis_hash, parent_hash: BlockHash::ZERO, ..origin.clone() },
    ] {
        assert_ne!(header.state_root, genesis.state_root.0);
        let lie = import_of(&memory, &written(&header, &pairs), Terms { may_lose: true, ..Terms::default() });
        assert!(matches!(&lie, Err(BulkError::Damaged { offset: 0, .. })), "{lie:?}");
    }
    pairs.swap(5, 6);
    let lie = import_of(&memory, &written(&origin, &pairs), Terms::default());
    assert!(matches!(&lie, Err(BulkError::Damaged { what, .. }) if what.contains("out of order")), "{lie:?}");
    let lie = import_of(&memory, &written(&origin, &[(vec![0; 1025], vec![])]), Terms::default());
    assert!(matches!(&lie, Err(BulkError::Damaged { what, .. }) if what.contains("too long")), "{lie:?}");
    assert_holds(&memory, 0, &Model::new());
}

/// The format is frozen: a change that moves a byte needs a new version.
#[test]
fn the_head_and_an_empty_file_are_frozen() {
    let bytes = written(&origin(), &[]);
    let encoded =
        [&[12][..], b"one", &[1; 32], &[7, 0, 0, 0, 0, 0, 0, 0], &[2; 32], &[3; 32], &[4; 32], &[0], &[5; 32]].concat();
    let start = [b"rustorium pairs\n", &[1, 0, 0, 0][..], &(encoded.len() as u32).to_le_bytes(), &encoded].concat();
    assert_eq!(bytes[..start.len()], start);
    let sum = |bytes: &[u8]| *blake3::Hasher::new_derive_key("rustorium.v1 pairs").update(bytes).finalize().as_bytes();
    let head = sum(&start);
    assert_eq!(bytes[start.len()..][..32], head);
    let end = [&b"E"[..], &[0; 24]].concat();
    let end = [&end[..], &sum(&[&head[..], &[0; 8], &end].concat())].concat();
    assert_eq!(bytes[start.len() + 32..], end);
}
