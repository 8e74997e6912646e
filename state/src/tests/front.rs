//! The front: many callers at once, what they are promised, and what breaks it off.

mod breaking;

use std::pin::pin;
use std::sync::{Condvar, Mutex};
use std::task::{Context, Poll, Waker};

use pollster::block_on;

use super::*;
use crate::backend::{Compacted, Snapshot, Stats};

/// Blocks that end when somebody asks, or when they are full.
fn patient() -> FrontConfig {
    FrontConfig { block_ms: 3_600_000, ..FrontConfig::default() }
}

fn front(running: &Running) -> Front {
    block_on(Front::open(&running.handle, patient())).unwrap()
}

/// What a front reads of these keys, and of some others, is what the model has.
fn assert_reads(front: &Front, model: &Model) {
    for (key, value) in model {
        let found = block_on(front.read(key)).unwrap();
        assert_eq!(found.map(|found| found.value).as_ref(), Some(value), "{key:?}");
    }
    assert_eq!(block_on(front.read(b"nobody")).unwrap(), None);
}

#[test]
fn a_write_is_read_at_once_and_in_a_block_when_somebody_asks() {
    let running = Running::open(Arc::new(Memory::new()), &example()).unwrap();
    let front = front(&running);
    let genesis = running.reader.genesis_hash();
    let before = block_on(front.read(b"alice")).unwrap().unwrap();
    assert_eq!(before.block.as_ref().map(|block| block.number), Some(0));

    block_on(front.write("alice", "1")).unwrap();
    block_on(front.delete("bob")).unwrap();
    block_on(front.write_batch(vec![put(b"x", b"1"), put(b"y", b"2"), put(b"x", b"3")])).unwrap();
    block_on(front.write_batch(vec![])).unwrap();
    assert_eq!(block_on(front.read(b"alice")).unwrap(), Some(ReadResult { value: b"1".to_vec(), block: None }));
    assert_eq!(block_on(front.read(b"bob")).unwrap(), None);
    assert_eq!(running.reader.head().header().number, 0, "nobody has asked");

    let block = block_on(front.seal()).unwrap();
    assert_eq!((block.number, block.parent_hash), (1, genesis));
    assert_eq!(block.hash, BlockHash::of_dev_block(&genesis, 1, &block.state_root));
    assert_eq!(running.reader.finalized(), block);
    let model = Model::from([
        (b"alice".to_vec(), b"1".to_vec()),
        (b"x".to_vec(), b"3".to_vec()),
        (b"y".to_vec(), b"2".to_vec()),
    ]);
    assert_holds(&running.reader, &model);
    assert_reads(&front, &model);
    assert_eq!(block_on(front.read(b"alice")).unwrap().unwrap().block.as_ref(), Some(&block));
    // Nothing has come since: there is nothing to make a block of.
    assert_eq!(block_on(front.seal()).unwrap(), block);
    assert_eq!(block_on(front.close()).unwrap(), block);
}

#[test]
fn a_proof_is_of_the_value_that_was_written_with_it() {
    let running = Running::open(Arc::new(Memory::new()), &example()).unwrap();
    let front = front(&running);
    block_on(front.write("carol", "0")).unwrap();
    let written = block_on(front.write_with_proof("carol", "1")).unwrap();
    assert_eq!(written.block, *running.reader.head().header());
    assert_eq!(written.root, written.block.state_root);
    assert_eq!(written.witness.verify(&written.root), Ok(()));
    let verify = |key: &[u8], value: Option<&[u8]>, proof: &Proof| block_on(front.verify_proof(key, value, proof));
    verify(b"carol", Some(b"1"), &written.witness).unwrap();
    assert!(matches!(verify(b"carol", Some(b"0"), &written.witness), Err(ProofError::OtherClaim)));
    assert!(matches!(verify(b"dave", None, &written.witness), Err(ProofError::OtherClaim)));

    let gone = block_on(front.delete_with_proof("carol")).unwrap();
    verify(b"carol", None, &gone.witness).unwrap();
    // An older proof is of an older block, and holds.
    verify(b"carol", Some(b"1"), &written.witness).unwrap();
    let own = block_on(front.write_with_own_proof("dave", "2")).unwrap();
    assert_eq!(own.witness.claims, [(b"dave".to_vec(), Some(b"2".to_vec()))]);
    verify(b"dave", Some(b"2"), &own.witness).unwrap();
    let absent = block_on(front.delete_with_own_proof("nobody")).unwrap();
    verify(b"nobody", None, &absent.witness).unwrap();

    let mut forged = Proof::clone(&own.witness);
    forged.claims[0].1 = Some(b"3".to_vec());
    assert!(matches!(verify(b"dave", Some(b"3"), &forged), Err(ProofError::Invalid(_))));
    forged.header.state_root = StateRoot([1; 32]);
    assert!(matches!(verify(b"dave", Some(b"3"), &forged), Err(ProofError::OtherBlock { .. })));
    forged.header.hash = BlockHash([1; 32]);
    assert!(matches!(verify(b"dave", Some(b"3"), &forged), Err(ProofError::OtherBlock { .. })));
}

/// Everyone writes keys of their own and one that all write; each sees his own, and every proof is of his own value.
fn many_at_once(backend: Arc<dyn Backend>) {
    const CALLERS: u32 = 24;
    const ROUNDS: u32 = 20;
    let running = Running::open(backend.clone(), &Model::new()).unwrap();
    let config = FrontConfig { block_changes: 40, block_ms: 5, ..FrontConfig::default() };
    let front = block_on(Front::open(&running.handle, config)).unwrap();
    let models = std::thread::scope(|threads| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let front = front.clone();
                threads.spawn(move || block_on(call(front, caller, ROUNDS)))
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("no caller panics")).collect::<Vec<Model>>()
    });
    let mut model: Model = models.into_iter().flatten().collect();
    let shared = block_on(front.read(b"shared")).unwrap().expect("all have written it");
    model.insert(b"shared".to_vec(), shared.value);
    block_on(front.close()).unwrap();
    assert_holds(&running.reader, &model);
    assert!(running.reader.head().header().number > 1);
    drop(running);
    assert_holds(&Running::open(backend, &Model::new()).unwrap().reader, &model);
}

async fn call(front: Front, caller: u32, rounds: u32) -> Model {
    let mut model = Model::new();
    for round in 0..rounds {
        let key = |index: u32| [caller.to_be_bytes(), (index % 7).to_be_bytes()].concat();
        let value = [caller.to_be_bytes(), round.to_be_bytes()].concat();
        match round % 6 {
            0 | 1 => front.write(key(round), value.clone()).await.unwrap(),
            2 => front.delete(key(round - 1)).await.unwrap(),
            3 => {
                let changes = vec![put(&key(round), &value), delete(&key(0)), put(&key(round + 1), &value)];
                front.write_batch(changes).await.unwrap();
                model.remove(&key(0));
                model.insert(key(round + 1), value.clone());
            }
            4 => {
                let written = front.write_with_proof(key(round), value.clone()).await.unwrap();
                front.verify_proof(&key(round), Some(&value), &written.witness).await.unwrap();
            }
            _ => {
                let written = front.write_with_proof("shared", value.clone()).await.unwrap();
                front.verify_proof(b"shared", Some(&value), &written.witness).await.unwrap();
                continue;
            }
        }
        match round % 6 {
            2 => drop(model.remove(&key(round - 1))),
            _ => drop(model.insert(key(round), value)),
        }
        for (key, value) in &model {
            assert_eq!(front.read(key).await.unwrap().map(|found| found.value).as_ref(), Some(value), "{key:?}");
        }
    }
    model
}

#[test]
fn many_callers_at_once_in_memory() {
    many_at_once(Arc::new(Memory::new()));
}

#[test]
fn many_callers_at_once_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    many_at_once(Arc::new(Rocks::open(directory.path(), &RocksConfig::default()).unwrap()));
}

#[test]
fn an_open_front_alone_makes_blocks() {
    let backend = Arc::new(Memory::new());
    let config = Config { finality: Finality::Engine, ..Config::new(COMMITTER.clone()) };
    let running = Running::open_as(backend, &example(), config).unwrap();
    let side = running.apply(1, vec![put(b"side", b"1")]).unwrap();
    block_on(running.handle.rollback(running.reader.genesis_hash())).unwrap();
    let fork = running.apply(2, vec![]).unwrap();
    let front = front(&running);
    let is_refused = |answer: Result<Header, ApplyError>| assert!(matches!(answer, Err(ApplyError::FrontOpen)));
    is_refused(running.apply(3, vec![]));
    is_refused(block_on(running.handle.seal(vec![])));
    is_refused(block_on(running.handle.choose_head(fork.hash, None)));
    is_refused(block_on(running.handle.rollback(fork.hash)));
    is_refused(block_on(running.handle.finalize(side.hash)));
    assert!(matches!(block_on(Front::open(&running.handle, patient())).err(), Some(ApplyError::FrontOpen)));
    // What the front makes may be made final.
    let written = block_on(front.write_with_proof("a", "1")).unwrap();
    assert_eq!(written.block.parent_hash, fork.hash);
    assert_ne!(running.reader.finalized(), written.block);
    assert_eq!(running.handle.finalize_blocking(written.block.hash).unwrap(), written.block);
    running.handle.flush_blocking().unwrap();

    block_on(front.write("b", "1")).unwrap();
    let last = block_on(front.close()).unwrap();
    assert_eq!(last.number, written.block.number + 1);
    assert!(matches!(block_on(front.write("c", "1")), Err(ApplyError::Closed)));
    assert!(matches!(block_on(front.close()), Err(ApplyError::Closed)));
    assert_eq!(block_on(front.read(b"b")).unwrap().unwrap().block, Some(last));
    running.apply(4, vec![]).unwrap();
    // Another one may follow; dropping it closes it, with a last block of what was acknowledged.
    let again = block_on(Front::open(&running.handle, patient())).unwrap();
    block_on(again.write("d", "1")).unwrap();
    drop(again);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut answer = running.apply(5, vec![]);
    while answer.is_err() && std::time::Instant::now() < until {
        answer = running.apply(5, vec![]);
    }
    answer.unwrap();
    assert_eq!(running.reader.head().value(b"d").unwrap(), Some(b"1".to_vec()));
}

#[test]
fn a_front_on_an_engine_store_waits_for_finality() {
    let config = Config { finality: Finality::Engine, unfinalised_max: 2, ..Config::new(COMMITTER.clone()) };
    let running = Running::open_as(Arc::new(Memory::new()), &example(), config).unwrap();
    let front = front(&running);
    let proved = |key: &str| block_on(front.write_with_proof(key, "1"));
    proved("a").unwrap();
    let second = proved("b").unwrap().block;
    let Err(ApplyError::Unproven { what }) = proved("c") else { panic!("there are two blocks already") };
    assert!(what.contains("finalise a block"), "{what}");
    assert_eq!(block_on(front.read(b"c")).unwrap().unwrap().value, b"1");
    running.handle.finalize_blocking(second.hash).unwrap();
    assert_eq!(proved("d").unwrap().block.number, 4, "c has a block of its own");
    block_on(front.close()).unwrap();
    assert_eq!(running.reader.head().value(b"c").unwrap(), Some(b"1".to_vec()));
}

/// A backend whose commits wait for a gate, and memory beneath it.
struct Gated {
    inner: Memory,
    is_open: Mutex<bool>,
    changed: Condvar,
}

impl Gated {
    fn new() -> Arc<Self> {
        Arc::new(Self { inner: Memory::new(), is_open: Mutex::new(true), changed: Condvar::new() })
    }

    fn set_open(&self, is_open: bool) {
        *self.is_open.lock().unwrap() = is_open;
        self.changed.notify_all();
    }
}

impl Backend for Gated {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), BackendError> {
        let _gate = self.changed.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap();
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

/// Polls once.
fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn the_queue_is_bounded_and_a_caller_may_go() {
    let backend = Gated::new();
    let running = Running::open(backend.clone(), &example()).unwrap();
    let config = FrontConfig { queue_max: 3, queue_bytes_max: 100, ..patient() };
    let front = block_on(Front::open(&running.handle, config)).unwrap();
    backend.set_open(false);
    // Never polled: never sent.
    drop(front.write("never", "1"));
    let mut first = Box::pin(front.write("first", "1"));
    assert!(poll(first.as_mut()).is_pending());
    // The writer takes it, and waits for the gate.
    while !front.queue_is_empty() {
        std::thread::yield_now();
    }
    let mut gone = Box::pin(front.write("gone", "1"));
    assert!(poll(gone.as_mut()).is_pending());
    drop(gone);
    let mut kept = Box::pin(front.write("kept", "1"));
    assert!(poll(kept.as_mut()).is_pending());
    let large = front.write("large", vec![0; 100]);
    assert!(matches!(poll(pin!(large)), Poll::Ready(Err(ApplyError::Busy { .. }))), "too many bytes wait");
    let mut third = Box::pin(front.write_with_proof("third", "1"));
    assert!(poll(third.as_mut()).is_pending());
    drop(third);
    let fourth = front.write("fourth", "1");
    assert!(matches!(poll(pin!(fourth)), Poll::Ready(Err(ApplyError::Busy { .. }))), "three wait");
    let long = front.write(vec![0; KEY_BYTES_MAX + 1], "1");
    assert!(matches!(poll(pin!(long)), Poll::Ready(Err(ApplyError::KeyTooLong { .. }))));
    assert_eq!(block_on(front.read(b"first")).unwrap(), None, "not durable yet");
    backend.set_open(true);
    block_on(first).unwrap();
    block_on(kept).unwrap();
    // Whoever went has left his write behind, wholly.
    block_on(front.close()).unwrap();
    let head = running.reader.head();
    for key in ["first", "gone", "kept", "third"] {
        assert_eq!(head.value(key.as_bytes()).unwrap(), Some(b"1".to_vec()), "{key}");
    }
    for key in ["never", "large", "fourth"] {
        assert_eq!(head.value(key.as_bytes()).unwrap(), None, "{key}");
    }
}

#[test]
fn writes_wait_while_blocks_cannot_be_made() {
    let running = Running::open(Arc::new(Memory::new()), &example()).unwrap();
    let config = FrontConfig { block_changes: 3, pending_changes_max: 6, ..patient() };
    let front = block_on(Front::open(&running.handle, config)).unwrap();
    for round in 0..200u32 {
        block_on(front.write(round.to_be_bytes(), "1")).unwrap();
    }
    // More than a block is to have, and more than may wait: it goes through alone.
    let batch: Vec<Change> = (0..1000u32).map(|i| put(&i.to_be_bytes(), b"2")).collect();
    block_on(front.write_batch(batch)).unwrap();
    let last = block_on(front.close()).unwrap();
    assert!(last.number >= 30, "{last:?}");
    assert_eq!(running.reader.head().value(&999u32.to_be_bytes()).unwrap(), Some(b"2".to_vec()));
}

#[test]
fn a_block_ends_by_its_bytes_and_by_time() {
    let running = Running::open(Arc::new(Memory::new()), &example()).unwrap();
    let config = FrontConfig { block_bytes: 1000, ..patient() };
    let front = block_on(Front::open(&running.handle, config)).unwrap();
    block_on(front.write("a", vec![0; 1000])).unwrap();
    let wait_for = |number: u64| {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while running.reader.head().header().number < number {
            assert!(std::time::Instant::now() < until, "no block {number}");
            std::thread::yield_now();
        }
    };
    wait_for(1);
    block_on(front.close()).unwrap();
    let config = FrontConfig { block_ms: 10, ..FrontConfig::default() };
    let front = block_on(Front::open(&running.handle, config)).unwrap();
    block_on(front.write("b", "1")).unwrap();
    wait_for(2);
}
