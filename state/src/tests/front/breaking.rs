//! A front is broken off: every commit fails in every way, and what was acknowledged is in a block afterwards, once.

use super::*;

/// A model of a front: what was acknowledged, and what was sent and not answered.
#[derive(Default)]
struct Told {
    acknowledged: Model,
    /// Batches that may be there or not, each wholly.
    open: Vec<Vec<Change>>,
}

impl Told {
    /// Notes an answer; a write that was not acknowledged may be there all the same.
    fn note<T>(&mut self, changes: Vec<Change>, answer: Result<T, ApplyError>) -> Result<(), ApplyError> {
        match answer {
            Ok(_) | Err(ApplyError::Unproven { .. }) => apply_to_model(&mut self.acknowledged, &changes),
            Err(_) => self.open.push(changes),
        }
        answer.map(drop)
    }

    /// Which of the states that may be is there, when all unanswered writes were the last ones.
    fn assert_fits(&self, reader: &Reader) {
        let mut model = self.acknowledged.clone();
        let found = |model: &Model| {
            let head = reader.head();
            let keys = head.keys_paged(b"", None, usize::MAX).unwrap();
            keys.iter().eq(model.keys())
                && model.iter().all(|(key, value)| head.value(key).unwrap().as_ref() == Some(value))
        };
        let mut fits = found(&model);
        for changes in &self.open {
            apply_to_model(&mut model, changes);
            fits |= found(&model);
        }
        assert!(fits, "{} acknowledged keys, {} open writes", self.acknowledged.len(), self.open.len());
        assert!(check(&reader.head(), &COMMITTER).unwrap().is_sound());
    }
}

/// Writes, batches, deletes and proofs, one after the other, until one fails.
fn drive(front: &Front, told: &mut Told) -> Result<(), ApplyError> {
    for round in 0..12u8 {
        let (key, value) = (vec![round % 5], vec![round; 3]);
        let one = vec![(key.clone(), Some(value.clone()))];
        match round % 4 {
            0 => told.note(one, block_on(front.write(key, value)))?,
            1 => {
                let batch = vec![put(&[round, 1], b"b"), delete(&[round - 1]), put(&[round, 2], b"c")];
                told.note(batch.clone(), block_on(front.write_batch(batch)))?;
            }
            2 => told.note(one, block_on(front.write_with_proof(key, value)))?,
            _ => told.note(vec![delete(&key)], block_on(front.delete(key)))?,
        }
    }
    Ok(())
}

#[test]
fn whichever_commit_fails_nothing_acknowledged_is_lost() {
    let mut broken = 0;
    for commit in 1..40 {
        for written in [false, true] {
            let memory = Arc::new(Memory::new());
            drop(Running::open(memory.clone(), &example()).unwrap());
            let fault = Fault { commit, written, error: io_error() };
            let faulty = Arc::new(Faulty::new(memory.clone(), Some(fault)));
            let config = Config { flush_blocks: 2, ..Config::new(COMMITTER.clone()) };
            let running = Running::open_as(faulty, &example(), config).unwrap();
            let mut told = Told { acknowledged: example(), ..Told::default() };
            let front = front(&running);
            broken += drive(&front, &mut told).is_err() as u32;
            // Acknowledged writes are read on a broken disk, too.
            assert_reads(&front, &told.acknowledged);
            drop((front, running));
            let running = Running::open(memory.clone(), &example()).unwrap();
            told.assert_fits(&running.reader);
            let rows = memory.snapshot().unwrap().range(Column::Aux, &crate::storage::log::bounds(), 9, 99).unwrap();
            assert!(rows.rows.is_empty(), "what was acknowledged is in a block now");
        }
    }
    assert!(broken > 20, "{broken}");
}

#[test]
fn whatever_is_refused_for_a_while_goes_on_afterwards() {
    for commit in 1..16 {
        let fault = Fault { commit, written: false, error: full() };
        let memory = Arc::new(Memory::new());
        drop(Running::open(memory.clone(), &example()).unwrap());
        let running = Running::open(Arc::new(Faulty::new(memory, Some(fault))), &example()).unwrap();
        let mut told = Told { acknowledged: example(), ..Told::default() };
        let front = front(&running);
        while let Err(error) = drive(&front, &mut told) {
            assert!(matches!(error, ApplyError::DiskFull { .. } | ApplyError::Unproven { .. }), "{error}");
            // Refused is not written.
            told.open.clear();
        }
        let closed = block_on(front.close());
        drop(front);
        if closed.is_ok() {
            told.assert_fits(&running.reader);
        }
    }
}

#[test]
fn nobody_waits_for_a_block_that_cannot_be_made() {
    for last in 0..3 {
        let memory = Arc::new(Memory::new());
        drop(Running::open(memory.clone(), &example()).unwrap());
        let fault = Fault { commit: 2, written: false, error: io_error() };
        let running = Running::open(Arc::new(Faulty::new(memory.clone(), Some(fault))), &example()).unwrap();
        let config = FrontConfig { block_changes: 1, pending_changes_max: 1, ..patient() };
        let front = block_on(Front::open(&running.handle, config)).unwrap();
        // Durable, and the block of it is what fails.
        block_on(front.write("a", "1")).unwrap();
        let ended = |answer: Result<(), ApplyError>| assert!(answer.is_err(), "{last}");
        match last {
            0 => ended(block_on(front.write("b", "1"))),
            1 => ended(block_on(front.write_with_proof("b", "1")).map(drop)),
            _ => ended(block_on(front.seal()).map(drop)),
        }
        ended(block_on(front.close()).map(drop));
        assert_eq!(block_on(front.read(b"a")).unwrap().unwrap().value, b"1");
        drop((front, running));
        let running = Running::open(memory, &example()).unwrap();
        assert_eq!(running.reader.head().value(b"a").unwrap(), Some(b"1".to_vec()));
    }
}

/// A store with acknowledged changes that are in no block: what was left when the last block could not be made.
fn left(rows: u32) -> Arc<Memory> {
    let memory = Arc::new(Memory::new());
    drop(Running::open(memory.clone(), &example()).unwrap());
    let fault = Fault { commit: u64::from(rows) + 1, written: false, error: io_error() };
    let running = Running::open(Arc::new(Faulty::new(memory.clone(), Some(fault))), &example()).unwrap();
    let front = front(&running);
    for row in 0..rows {
        block_on(front.write(row.to_be_bytes(), "left")).unwrap();
    }
    assert!(block_on(front.close()).is_err());
    memory
}

fn examination(memory: &Arc<Memory>) -> Examination {
    let pairs = pairs(&example());
    let genesis = Genesis { id: "test", pairs: &pairs, hash: &hash_of_root };
    Examination::open(memory.clone(), &genesis, COMMITTER.clone()).unwrap()
}

#[test]
fn what_is_in_no_block_is_known_to_a_check_and_in_one_after_opening() {
    let memory = left(5);
    for depth in [Depth::Quick, Depth::Deep] {
        let report = examination(&memory).check(depth, [1; 32], &mut |_| ()).unwrap();
        assert!(report.is_sound(), "{report}");
        assert_eq!(report.pending, 5);
    }
    let repair = examination(&memory).repair([1; 32], &mut |_| ()).unwrap();
    assert!(repair.done.is_empty(), "{repair:?}");
    let running = Running::open(memory.clone(), &example()).unwrap();
    assert_eq!(running.reader.head().header().number, 1);
    assert_eq!(running.reader.head().value(&4u32.to_be_bytes()).unwrap(), Some(b"left".to_vec()));
    drop(running);
    assert_eq!(examination(&memory).check(Depth::Deep, [1; 32], &mut |_| ()).unwrap().pending, 0);
    assert_eq!(Running::open(memory, &example()).unwrap().reader.head().header().number, 1);
}

#[test]
fn a_damaged_row_is_named_and_dropped_with_those_after_it() {
    let memory = left(5);
    let mut batch = Batch::new();
    batch.put(Column::Aux, &crate::storage::log::key(3), b"nonsense");
    batch.put(Column::Aux, b"stray", b"");
    memory.commit(batch, Durability::Synced).unwrap();
    let refused = Running::open(memory.clone(), &example()).err().unwrap();
    assert!(matches!(&refused, OpenError::Damaged { what } if what.contains("row 3")), "{refused}");
    let report = examination(&memory).check(Depth::Quick, [1; 32], &mut |_| ()).unwrap();
    assert_eq!((report.cures.mend, report.cures.rewind, report.pending), (1, 2, 3), "{report}");
    let repair = examination(&memory).repair([1; 32], &mut |_| ()).unwrap();
    assert!(repair.left.is_sound() && repair.done.contains(&Deed::Dropped { rows: 2 }), "{repair:?}");
    let running = Running::open(memory, &example()).unwrap();
    let mut model = example();
    (0..3u32).for_each(|row| drop(model.insert(row.to_be_bytes().to_vec(), b"left".to_vec())));
    assert_holds(&running.reader, &model);
}

#[test]
fn a_store_of_format_2_is_taken_over() {
    let memory = Arc::new(Memory::new());
    let running = Running::open(memory.clone(), &example()).unwrap();
    let header = running.apply(1, vec![put(b"k", b"v")]).unwrap();
    drop(running);
    let mut batch = Batch::new();
    batch.put(Column::Meta, meta::FORMAT, b"rustorium state \x02\0\0\0");
    memory.commit(batch, Durability::Synced).unwrap();
    assert!(examination(&memory).check(Depth::Deep, [1; 32], &mut |_| ()).unwrap().is_sound());
    let running = Running::open(memory.clone(), &example()).unwrap();
    assert_eq!(*running.reader.head().header(), header);
    let format = memory.snapshot().unwrap().get(Column::Meta, meta::FORMAT).unwrap();
    assert_eq!(format, Some(crate::schema::encode_format()));
}

/// What is done to a front, and to what lies beneath it.
#[derive(Clone, Debug)]
enum Step {
    Write(u8, Vec<u8>),
    Delete(u8),
    Batch(Vec<(u8, Option<u8>)>),
    Prove(u8, Option<u8>),
    /// Sent, and not waited for.
    Leave(u8, u8),
    Seal,
    Flush,
    /// The front is closed and another opened.
    Reopen,
    /// The store is closed beneath the front, and opened.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..20, prop::collection::vec(any::<u8>(), 0..6)).prop_map(|(key, value)| Step::Write(key, value)),
        3 => (0u8..20).prop_map(Step::Delete),
        3 => prop::collection::vec((0u8..20, prop::option::of(any::<u8>())), 0..8).prop_map(Step::Batch),
        3 => (0u8..20, prop::option::of(any::<u8>())).prop_map(|(key, value)| Step::Prove(key, value)),
        2 => (0u8..20, any::<u8>()).prop_map(|(key, value)| Step::Leave(key, value)),
        2 => Just(Step::Seal),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done in whatever order, the front reads as a map does, and so does the head in the end. The seed is
    /// `PROPTEST_RNG_SEED`; `make test` prints it.
    #[test]
    fn any_history_of_a_front_holds_the_model(
        steps in prop::collection::vec(step(), 1..60),
        block_changes in 1usize..12,
        flush_blocks in 1u64..4,
    ) {
        let backend = Arc::new(Memory::new());
        let open = || {
            let config = Config { flush_blocks, cache_bytes: 1 << 16, ..Config::new(COMMITTER.clone()) };
            let running = Running::open_as(backend.clone(), &example(), config).unwrap();
            let front = FrontConfig { block_changes, ..patient() };
            let front = block_on(Front::open(&running.handle, front)).unwrap();
            (running, front)
        };
        let (mut running, mut front) = open();
        let mut model = example();
        for step in steps {
            let change = |key: u8, value: Option<u8>| (vec![key], value.map(|value| vec![value]));
            match step {
                Step::Write(key, value) => {
                    block_on(front.write([key], value.clone())).unwrap();
                    model.insert(vec![key], value);
                }
                Step::Delete(key) => {
                    block_on(front.delete([key])).unwrap();
                    model.remove(&vec![key]);
                }
                Step::Batch(changes) => {
                    let changes: Vec<Change> = changes.into_iter().map(|(key, value)| change(key, value)).collect();
                    block_on(front.write_batch(changes.clone())).unwrap();
                    apply_to_model(&mut model, &changes);
                }
                Step::Prove(key, value) => {
                    let written = match value {
                        Some(value) => block_on(front.write_with_proof([key], [value])).unwrap(),
                        None => block_on(front.delete_with_proof([key])).unwrap(),
                    };
                    apply_to_model(&mut model, &[change(key, value)]);
                    let value = value.map(|value| vec![value]);
                    block_on(front.verify_proof(&[key], value.as_deref(), &written.witness)).unwrap();
                }
                Step::Leave(key, value) => {
                    // Polled, and so sent.
                    let _ = poll(pin!(front.write([key], [value])));
                    apply_to_model(&mut model, &[change(key, Some(value))]);
                    // What is sent later is done later.
                    block_on(front.write("last", "1")).unwrap();
                    model.insert(b"last".to_vec(), b"1".to_vec());
                }
                Step::Seal => {
                    block_on(front.seal()).unwrap();
                    assert_holds(&running.reader, &model);
                }
                Step::Flush => drop(running.handle.flush_blocking().unwrap()),
                Step::Reopen => {
                    block_on(front.close()).unwrap();
                    let config = FrontConfig { block_changes, ..patient() };
                    front = block_on(Front::open(&running.handle, config)).unwrap();
                }
                Step::Restart => {
                    drop((front, running));
                    (running, front) = open();
                    assert_holds(&running.reader, &model);
                }
            }
            assert_reads(&front, &model);
        }
        block_on(front.close()).unwrap();
        assert_holds(&running.reader, &model);
    }
}

/// Whichever commit it is that the disk fails at, of callers or of a flush.
#[test]
fn nobody_waits_on_a_broken_disk() {
    let mut broken = 0;
    for commit in 1..60 {
        let memory = Arc::new(Memory::new());
        drop(Running::open(memory.clone(), &example()).unwrap());
        let faulty = Faulty::new(memory, Some(Fault { commit, written: false, error: io_error() }));
        let config = Config { flush_blocks: 1, ..Config::new(COMMITTER.clone()) };
        let running = Running::open_as(Arc::new(faulty), &example(), config).unwrap();
        let config = FrontConfig { block_changes: 1, pending_changes_max: 2, ..patient() };
        let front = block_on(Front::open(&running.handle, config)).unwrap();
        let (ended, ends) = std::sync::mpsc::channel();
        for caller in 0..6u8 {
            let (front, ended) = (front.clone(), ended.clone());
            std::thread::spawn(move || {
                let write = |index: u8| match index % 4 {
                    0 => block_on(front.write_with_proof([caller, index], "1")).map(drop),
                    _ => block_on(front.write([caller, index], "1")),
                };
                let _ = ended.send((0..20).try_for_each(write).is_err());
            });
        }
        for _ in 0..6 {
            let is_refused = ends.recv_timeout(std::time::Duration::from_secs(60));
            broken +=
                u32::from(is_refused.unwrap_or_else(|_| panic!("somebody waits after commit {commit} has failed")));
        }
    }
    assert!(broken > 100, "{broken} callers were refused");
}

/// One who comes after a change that failed, and would have had to wait for the block after its, is not cut off for good.
#[test]
fn a_row_that_fails_leaves_nothing_behind() {
    let backend = Gated::new();
    drop(Running::open(backend.clone(), &example()).unwrap());
    let refused = Fault { commit: 2, written: false, error: full() };
    let running = Running::open(Arc::new(Faulty::new(backend.clone(), Some(refused))), &example()).unwrap();
    let front = front(&running);
    backend.set_open(false);
    let mut first = Box::pin(front.write("first", "1"));
    assert!(poll(first.as_mut()).is_pending());
    while !front.queue_is_empty() {
        std::thread::yield_now();
    }
    // These two come together, and the second belongs into a later block.
    let mut proved = Box::pin(front.write_with_proof("key", "1"));
    let mut again = Box::pin(front.write_with_proof("key", "2"));
    assert!(poll(proved.as_mut()).is_pending() && poll(again.as_mut()).is_pending());
    backend.set_open(true);
    block_on(first).unwrap();
    assert!(block_on(proved).is_err() && block_on(again).is_err());
    block_on(front.write("later", "1")).unwrap();
    block_on(front.close()).unwrap();
    assert_eq!(running.reader.head().value(b"later").unwrap(), Some(b"1".to_vec()));
    assert_eq!(running.reader.head().value(b"key").unwrap(), None);
}
