//! Who watches hears of every move of head and finality, in order, or how many he has missed.

use super::*;

fn engine() -> Running {
    let config = Config { finality: Finality::Engine, ..Config::new(COMMITTER.clone()) };
    Running::open_as(Arc::new(Memory::new()), &example(), config).unwrap()
}

fn block(number: u64, name: u8, parent_hash: BlockHash) -> Block {
    let changes = vec![put(b"name", &[name])];
    Block { number, hash: BlockHash([name; 32]), parent_hash, timestamp_ms: None, state_root: None, changes }
}

/// Head and final block, by the first byte of their hashes.
fn names(tip: &Tip, genesis: BlockHash) -> (u8, u8) {
    let name = |view: &View| if view.header().hash == genesis { 0 } else { view.header().hash.0[0] };
    (name(&tip.head), name(&tip.finalized))
}

#[test]
fn every_move_is_told_in_order() {
    let running = engine();
    let genesis = running.reader.genesis_hash();
    let (now, mut watch) = running.reader.watch(16);
    assert_eq!(names(&now, genesis), (0, 0));
    let hash = |name: u8| BlockHash([name; 32]);
    // 0 ─ 1 ─ 2 and 0 ─ 3 ─ 4 ─ 5, of which the second wins.
    let apply = |block: Block| running.handle.apply_blocking(block).unwrap();
    apply(block(1, 1, genesis));
    apply(block(2, 2, hash(1)));
    apply(block(1, 3, genesis));
    apply(block(2, 4, hash(3)));
    apply(block(3, 5, hash(4)));
    apply(block(3, 5, hash(4)));
    running.handle.choose_head_blocking(hash(5), Some(hash(3))).unwrap();
    running.handle.flush_blocking().unwrap();
    running.handle.rollback_blocking(hash(4)).unwrap();
    running.handle.finalize_blocking(hash(4)).unwrap();
    let told: Vec<(u8, u8)> = (0..5).map(|_| names(&watch.next_blocking().unwrap(), genesis)).collect();
    assert_eq!(told, [(1, 0), (2, 0), (5, 3), (4, 3), (4, 4)]);
    // Another one begins where things stand; and both end with the writer, once they have told everything.
    let (now, mut late) = running.reader.watch(16);
    assert_eq!(names(&now, genesis), (4, 4));
    apply(block(3, 6, hash(4)));
    let reader = running.reader.clone();
    drop(running);
    for watch in [&mut watch, &mut late] {
        assert_eq!(names(&watch.next_blocking().unwrap(), genesis), (6, 4));
        assert_eq!(watch.next_blocking().err(), Some(WatchEnd::Closed));
    }
    assert_eq!(reader.watch(1).1.next_blocking().err(), Some(WatchEnd::Closed));
    // What was told of is still there to be read, as it was.
    assert_eq!(now.head.value(b"name").unwrap(), Some(vec![4]));
    assert_eq!(now.head.ancestor(&hash(3)).unwrap().unwrap().parent_hash, genesis);
    let hashes = now.head.value_hashes(&[b"bob".to_vec(), b"nobody".to_vec(), b"name".to_vec(), b"bob".to_vec()]);
    let hash_of = |value: &[u8]| Some(rustorium_verkle::ValueHash::of(value));
    assert_eq!(hashes.unwrap(), [hash_of(&[7; 100_000]), None, hash_of(&[4]), hash_of(&[7; 100_000])]);
}

#[test]
fn who_is_too_slow_hears_how_much_he_missed() {
    let running = Running::open(Arc::new(Memory::new()), &example()).unwrap();
    let (_, mut slow) = running.reader.watch(3);
    let (_, mut quick) = running.reader.watch(16);
    let (_, gone) = running.reader.watch(1);
    drop(gone);
    for name in 1..=8 {
        running.apply(name, vec![]).unwrap();
    }
    assert_eq!(slow.next_blocking().err(), Some(WatchEnd::Missed { tips: 8 }));
    assert_eq!(slow.next_blocking().err(), Some(WatchEnd::Missed { tips: 8 }));
    (1..=8).for_each(|name| assert_eq!(quick.next_blocking().unwrap().head.header().hash, BlockHash([name; 32])));
}

#[test]
fn watches_that_begin_at_any_moment_miss_nothing() {
    let running = Running::open(Arc::new(Memory::new()), &example()).unwrap();
    let blocks = 60;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let (mut last, mut watch) = running.reader.watch(blocks as usize);
                while last.head.header().number < u64::from(blocks) {
                    let next = watch.next_blocking().unwrap();
                    assert_eq!(next.head.header().parent_hash, last.head.header().hash);
                    last = next;
                }
            });
        }
        for name in 1..=blocks {
            running.apply(name, vec![put(b"k", &[name])]).unwrap();
        }
    });
}
