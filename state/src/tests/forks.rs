//! Blocks beside and above each other: what is read of each, what finality leaves, and what a restart finds.

use std::collections::HashMap;

use super::*;
use crate::reader::Status;

/// Engine finality, and flushes as often as can be.
fn config() -> Config {
    Config { cache_bytes: 1 << 18, finality: Finality::Engine, flush_blocks: 2, ..Config::new(COMMITTER.clone()) }
}

fn open_forks(backend: &Arc<Memory>) -> Running {
    Running::open_as(backend.clone(), &example(), config()).unwrap()
}

fn hash(name: u8) -> BlockHash {
    BlockHash([name; 32])
}

/// Block `name` on a parent.
fn block(name: u8, parent: &Header, changes: Vec<Change>) -> Block {
    let (number, parent_hash) = (parent.number + 1, parent.hash);
    Block { number, hash: hash(name), parent_hash, timestamp_ms: None, state_root: None, changes }
}

impl Running {
    fn genesis(&self) -> Header {
        self.reader.header(&self.reader.genesis_hash()).unwrap().unwrap()
    }

    fn on(&self, parent: &Header, name: u8, changes: Vec<Change>) -> Header {
        self.handle.apply_blocking(block(name, parent, changes)).unwrap()
    }

    fn view(&self, name: u8) -> Result<Arc<View>, AtError> {
        self.reader.at(At::Block(hash(name)))
    }
}

/// ```text
/// genesis ─ 1 ─ 2 ─ 3
///           └── 4 ─ 5
/// ```
fn two_forks(running: &Running) -> [Header; 5] {
    let one = running.on(&running.genesis(), 1, vec![put(b"alice", b"1"), put(b"x", b"1")]);
    let two = running.on(&one, 2, vec![put(b"alice", b"2"), delete(b"bob")]);
    let three = running.on(&two, 3, vec![put(b"bob", b"back")]);
    let four = running.on(&one, 4, vec![delete(b"alice"), put(b"x", &[4; 5000])]);
    let five = running.on(&four, 5, vec![delete(b"x")]);
    [one, two, three, four, five]
}

#[test]
fn siblings_live_side_by_side_through_a_restart() {
    let memory = Arc::new(Memory::new());
    let mut headers = None;
    for _ in 0..2 {
        let running = open_forks(&memory);
        // The second time these are blocks that are known already.
        let made = two_forks(&running);
        assert_eq!(*headers.get_or_insert(made.clone()), made);
        assert_eq!(running.reader.head().header(), &made[2], "a child of the head moves the head");
        let bob = example()[&b"bob"[..]].clone();
        let model = |pairs: &[(&[u8], &[u8])]| pairs.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect::<Model>();
        let models = [
            model(&[(b"alice", b"1"), (b"bob", &bob), (b"x", b"1")]),
            model(&[(b"alice", b"2"), (b"x", b"1")]),
            model(&[(b"alice", b"2"), (b"bob", b"back"), (b"x", b"1")]),
            model(&[(b"bob", &bob), (b"x", &[4; 5000])]),
            model(&[(b"bob", &bob)]),
        ];
        for (name, model) in (1..).zip(&models) {
            assert_view_holds(&running.view(name).unwrap(), model);
        }
        assert_view_holds(&running.reader.at(At::Finalized).unwrap(), &example());
        assert_eq!(running.reader.status().unfinalised_blocks, 5);
    }
}

#[test]
fn finality_drops_what_does_not_descend() {
    let memory = Arc::new(Memory::new());
    {
        let running = open_forks(&memory);
        let [one, two, _, four, five] = two_forks(&running);
        let held = running.view(3).unwrap();
        assert_eq!(running.handle.finalize_blocking(hash(4)).unwrap(), four);
        assert_eq!(running.reader.head().header(), &four, "the head was on the other fork");
        // Who reads goes on, who asks is told.
        assert_eq!(held.value(b"bob").unwrap(), Some(b"back".to_vec()));
        assert!(matches!(running.view(3), Err(AtError::Unknown { .. })));
        assert_eq!(running.view(1).unwrap().header(), &one, "final, and its state is kept");
        assert!(running.view(5).is_ok());
        let lost = running.handle.apply_blocking(block(6, &two, vec![]));
        assert!(matches!(lost, Err(ApplyError::UnknownParent { parent }) if parent == hash(2)));
        let late = running.handle.apply_blocking(block(6, &one, vec![]));
        assert!(matches!(late, Err(ApplyError::NotAChild { .. })), "{late:?}");
        // The same again, what is behind, and what nobody knows change nothing.
        assert_eq!(running.handle.finalize_blocking(hash(4)).unwrap(), four);
        assert!(matches!(running.handle.finalize_blocking(hash(1)), Err(ApplyError::NotAhead { .. })));
        assert!(matches!(running.handle.finalize_blocking(hash(2)), Err(ApplyError::UnknownBlock { .. })));
        assert_eq!(running.handle.choose_head_blocking(hash(5), None).unwrap(), five);
        assert_eq!(running.reader.block_hash(2).unwrap(), Some(hash(4)));
    }
    let running = open_forks(&memory);
    let Status { head, finalized, unfinalised_blocks, .. } = running.reader.status();
    assert_eq!((head.hash, finalized.hash, unfinalised_blocks), (hash(5), hash(4), 1));
    assert!(check(&running.reader.head(), &COMMITTER).unwrap().is_sound());
}

#[test]
fn the_head_goes_where_it_is_told_or_nowhere() {
    let memory = Arc::new(Memory::new());
    {
        let running = open_forks(&memory);
        let [_, _, three, four, _] = two_forks(&running);
        let choose = |head, finalized: Option<u8>| running.handle.choose_head_blocking(hash(head), finalized.map(hash));
        // Not on one way, not known: nothing moves.
        assert!(matches!(choose(3, Some(4)), Err(ApplyError::NotAChild { .. })));
        assert!(matches!(choose(9, None), Err(ApplyError::UnknownBlock { .. })));
        assert!(matches!(choose(3, Some(9)), Err(ApplyError::UnknownBlock { .. })));
        assert_eq!(running.reader.status().head, three);
        assert_eq!(running.reader.status().finalized, running.genesis());
        assert_eq!(choose(4, Some(1)).unwrap(), four);
        // A child of another block than the head leaves the head alone.
        running.on(&three, 7, vec![]);
        assert_eq!(running.reader.head().header(), &four);
        // Back to the finalised block, and no further.
        assert_eq!(choose(1, None).unwrap().hash, hash(1));
        let genesis = running.reader.genesis_hash();
        assert!(matches!(running.handle.choose_head_blocking(genesis, None), Err(ApplyError::NotAhead { .. })));
    }
    assert_eq!(open_forks(&memory).reader.status().head.hash, hash(1));
}

#[test]
fn a_rollback_drops_what_is_above_a_block() {
    let memory = Arc::new(Memory::new());
    {
        let running = open_forks(&memory);
        let [one, two, _, four, _] = two_forks(&running);
        assert_eq!(running.handle.rollback_blocking(hash(4)).unwrap(), four);
        assert_eq!(running.reader.head().header(), &four);
        assert!(running.view(5).is_err() && running.view(3).is_ok());
        assert_eq!(running.handle.rollback_blocking(hash(1)).unwrap(), one);
        assert_eq!(running.reader.status().unfinalised_blocks, 1);
        assert!(matches!(running.handle.rollback_blocking(hash(2)), Err(ApplyError::UnknownBlock { .. })));
        let other = running.on(&one, 2, vec![put(b"not", b"the block that had this hash")]);
        assert_ne!(other.state_root, two.state_root);
        running.handle.finalize_blocking(hash(2)).unwrap();
        let genesis = running.reader.genesis_hash();
        // Final ones go back, too.
        running.on(&other, 3, vec![delete(b"not")]);
        assert_eq!(running.handle.rollback_blocking(hash(1)).unwrap(), one);
        assert!(running.view(2).is_err() && running.view(3).is_err());
        assert_eq!(running.handle.rollback_blocking(genesis).unwrap().number, 0);
        assert_holds(&running.reader, &example());
    }
    let genesis = open_forks(&memory);
    assert_eq!(genesis.reader.status().head, genesis.genesis());
}

#[test]
fn what_is_not_final_is_bounded() {
    let open = |config| Running::open_as(Arc::new(Memory::new()), &example(), config).unwrap();
    let running = open(Config { unfinalised_max: 3, ..config() });
    let mut parent = running.genesis();
    for name in 1..=3 {
        parent = running.on(&parent, name, vec![]);
    }
    let refused = running.handle.apply_blocking(block(4, &parent, vec![]));
    assert!(matches!(refused, Err(ApplyError::TooManyUnfinalised { what: "blocks", max: 3, got: 4 })), "{refused:?}");
    let sealed = pollster::block_on(running.handle.seal(vec![]));
    assert!(matches!(sealed, Err(ApplyError::TooManyUnfinalised { .. })), "{sealed:?}");
    // A known one is answered, and a finalised one makes room.
    assert_eq!(running.on(&running.genesis(), 1, vec![]).hash, hash(1));
    running.handle.finalize_blocking(hash(1)).unwrap();
    running.on(&parent, 4, vec![]);

    let running = open(Config { unfinalised_bytes_max: 100, ..config() });
    let one = running.on(&running.genesis(), 1, vec![put(b"key", &[0; 90])]);
    let refused = running.handle.apply_blocking(block(2, &one, vec![put(b"key", &[0; 5])]));
    assert!(
        matches!(refused, Err(ApplyError::TooManyUnfinalised { what: "bytes", max: 100, got: 101 })),
        "{refused:?}"
    );
    running.handle.finalize_blocking(hash(1)).unwrap();
    running.on(&one, 2, vec![put(b"key", &[0; 5])]);
}

#[test]
fn a_flush_that_breaks_off_loses_nothing() {
    for history in [History::None, History::Archive] {
        break_flushes_off(history);
    }
}

/// A flush is broken off at each of its commits in turn; every final block must read as it was ever after.
fn break_flushes_off(history: History) {
    let model = |blocks: u8| {
        let mut model = example();
        (1..=blocks).for_each(|name| apply_to_model(&mut model, &changes(name)));
        model
    };
    fn changes(name: u8) -> Vec<Change> {
        // More rows than one slice takes.
        let many = (0..2000u32).map(|i| put(&(u32::from(name) * 1000 + i).to_be_bytes(), &[name; 3]));
        many.chain([delete(&(u32::from(name) * 1000).to_be_bytes()), put(b"alice", &[name])]).collect()
    }
    let slow = |flush_blocks| Config { flush_blocks, history, ..Config::new(COMMITTER.clone()) };
    let mut broken = 0;
    for commit in 1.. {
        let memory = Arc::new(Memory::new());
        {
            let running = Running::open_as(memory.clone(), &example(), slow(1 << 20)).unwrap();
            for name in 1..=5 {
                running.apply(name, changes(name)).unwrap();
            }
        }
        let faulty = Faulty::new(memory.clone(), Some(Fault { commit, written: commit % 2 == 0, error: io_error() }));
        {
            let running = Running::open_as(Arc::new(faulty), &example(), slow(1 << 20)).unwrap();
            if running.handle.flush_blocking().is_ok() {
                break;
            }
            broken += 1;
            assert!(matches!(running.apply(9, vec![]), Err(ApplyError::Poisoned { .. })));
            assert_holds(&running.reader, &model(5));
        }
        {
            let running = Running::open_as(memory.clone(), &example(), slow(1 << 20)).unwrap();
            for number in 0..=5 {
                assert_was_final(&running.reader, number, &model(number), history);
            }
        }
        let running = Running::open_as(memory.clone(), &example(), slow(1)).unwrap();
        assert_holds(&running.reader, &model(5));
        running.apply(6, changes(6)).unwrap();
        running.handle.flush_blocking().unwrap();
        assert_eq!(running.reader.status().base_number, 6);
        assert_holds(&running.reader, &model(6));
        for number in 0..=6 {
            assert_was_final(&running.reader, number, &model(number), history);
        }
    }
    assert!(broken >= 3, "a flush of {broken} commits");
}

/// A final block reads as its model, or without history is said to be gone.
fn assert_was_final(reader: &Reader, number: u8, model: &Model, history: History) {
    let Some(hash) = reader.block_hash(u64::from(number)).unwrap() else { panic!("block {number} has no hash") };
    let view = match reader.at(At::Block(hash)) {
        Err(AtError::Pruned { oldest }) if history == History::None && u64::from(number) < oldest => return,
        view => view.unwrap(),
    };
    let keys: Vec<Vec<u8>> = model.keys().cloned().collect();
    assert_eq!(view.keys_paged(b"", None, usize::MAX).unwrap(), keys);
    let values = view.values(&keys, u64::MAX).unwrap();
    assert!(values.iter().map(Option::as_ref).eq(model.values().map(Some)), "values of block {number}");
    let some: Vec<Vec<u8>> = (0..7u32).map(|i| (1000 * i).to_be_bytes().to_vec()).collect();
    let proof = view.witness(&some, u64::MAX).unwrap();
    assert_eq!(proof.verify(&view.header().state_root), Ok(()));
    assert!(proof.claims.iter().all(|(key, value)| value.as_ref() == model.get(key)));
}

#[test]
fn a_journal_that_makes_no_sense_is_named() {
    /// What is done to the journal row of block 2.
    type Harm<'a> = &'a dyn Fn(&mut Batch, Vec<u8>, Vec<u8>);
    let refused = |harm: Harm<'_>| {
        let memory = Arc::new(Memory::new());
        two_forks(&open_forks(&memory));
        let rows =
            memory.snapshot().unwrap().range(Column::Fork, &crate::backend::Bounds::all(), 2, usize::MAX).unwrap();
        let (key, value) = rows.rows[1].clone();
        let mut batch = Batch::new();
        harm(&mut batch, key, value);
        memory.commit(batch, Durability::Synced).unwrap();
        match Running::open_as(memory, &example(), config()).err() {
            Some(OpenError::Damaged { what }) => what,
            other => panic!("{other:?}"),
        }
    };
    let what = refused(&|batch, key, value| batch.put(Column::Fork, &key, &value[..value.len() - 1]));
    assert!(what.contains("journal row of block 2") && what.contains("decode"), "{what}");
    let what = refused(&|batch, key, _| batch.delete(Column::Fork, &key));
    assert!(what.contains("journal row of block 3") && what.contains("parent"), "{what}");
    let what = refused(&|batch, _, _| batch.put(Column::Meta, meta::FINAL, &[9; 32]));
    assert!(what.contains("final"), "{what}");
    let what = refused(&|batch, _, _| batch.put(Column::Meta, meta::HEAD, &[9; 32]));
    assert!(what.contains("head"), "{what}");
}

/// What is done to a state; blocks are picked among those that are there.
#[derive(Clone, Debug)]
enum Step {
    Apply { parent: prop::sample::Index, changes: Vec<Change> },
    Finalize(prop::sample::Index),
    ChooseHead(prop::sample::Index),
    Rollback(prop::sample::Index),
    Restart,
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        8 => (index(), prop::collection::vec(change(), 0..12)).prop_map(|(parent, changes)| Step::Apply { parent, changes }),
        2 => index().prop_map(Step::Finalize),
        1 => index().prop_map(Step::ChooseHead),
        1 => index().prop_map(Step::Rollback),
        1 => Just(Step::Restart),
        1 => Just(Step::Flush),
    ]
}

/// The known blocks as maps.
struct Models {
    blocks: HashMap<BlockHash, (Header, Model)>,
    finalized: BlockHash,
    head: BlockHash,
}

impl Models {
    fn pick(&self, index: &prop::sample::Index) -> Header {
        let mut headers: Vec<&Header> = self.blocks.values().map(|(header, _)| header).collect();
        headers.sort_by_key(|header| (header.number, header.hash));
        index.get(&headers).to_owned().clone()
    }

    fn descends(&self, hash: BlockHash, from: BlockHash) -> bool {
        hash == from || self.blocks.get(&hash).is_some_and(|(header, _)| self.descends(header.parent_hash, from))
    }

    fn keep(&mut self, kept: impl Fn(&Self, BlockHash) -> bool) {
        let gone: Vec<BlockHash> = self.blocks.keys().copied().filter(|hash| !kept(self, *hash)).collect();
        gone.iter().for_each(|hash| drop(self.blocks.remove(hash)));
    }

    fn finalize(&mut self, hash: BlockHash) {
        if !self.descends(self.head, hash) {
            self.head = hash;
        }
        self.keep(|all, block| all.descends(block, hash));
        self.finalized = hash;
    }

    fn rollback(&mut self, hash: BlockHash) {
        self.keep(|all, block| block == hash || !all.descends(block, hash));
        self.head = hash;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_of_forks_holds_its_models(steps in prop::collection::vec(step(), 1..40)) {
        let memory = Arc::new(Memory::new());
        let mut running = open_forks(&memory);
        let genesis = running.genesis();
        let blocks = HashMap::from([(genesis.hash, (genesis.clone(), example()))]);
        let mut models = Models { blocks, finalized: genesis.hash, head: genesis.hash };
        // Readers and writer meet in one place, where all views are swapped at once: who holds what was there between any
        // two commands has seen every order in which they can meet.
        let mut held: Vec<(Arc<View>, Model)> = Vec::new();
        for (name, step) in (1u8..).zip(steps) {
            match step {
                Step::Apply { parent, changes } => {
                    let parent = models.pick(&parent);
                    let mut model = models.blocks[&parent.hash].1.clone();
                    apply_to_model(&mut model, &changes);
                    let header = running.on(&parent, name, changes);
                    if models.head == parent.hash {
                        models.head = header.hash;
                    }
                    models.blocks.insert(header.hash, (header, model));
                }
                Step::Finalize(index) => {
                    let hash = models.pick(&index).hash;
                    running.handle.finalize_blocking(hash).unwrap();
                    models.finalize(hash);
                }
                Step::ChooseHead(index) => {
                    models.head = models.pick(&index).hash;
                    running.handle.choose_head_blocking(models.head, None).unwrap();
                }
                Step::Rollback(index) => {
                    let hash = models.pick(&index).hash;
                    running.handle.rollback_blocking(hash).unwrap();
                    models.rollback(hash);
                }
                Step::Restart => {
                    drop(running);
                    running = open_forks(&memory);
                }
                Step::Flush => {
                    running.handle.flush_blocking().unwrap();
                }
            }
            let status = running.reader.status();
            prop_assert_eq!((status.head.hash, status.finalized.hash), (models.head, models.finalized));
            prop_assert_eq!(status.unfinalised_blocks as usize + 1, models.blocks.len());
            for at in [At::Head, At::Finalized] {
                let view = running.reader.at(at).unwrap();
                let model = models.blocks[&view.header().hash].1.clone();
                held.push((view, model));
            }
        }
        // Finalised, dropped, rolled back, put into the columns, of a store that was closed: none of it changes a view.
        for (view, model) in held {
            for (key, value) in &model {
                prop_assert_eq!(view.value(key).unwrap(), Some(value.clone()));
            }
            prop_assert_eq!(view.keys_paged(b"", None, 10_000).unwrap(), model.into_keys().collect::<Vec<_>>());
        }
        for (hash, (header, model)) in &models.blocks {
            let view = running.reader.at(At::Block(*hash)).unwrap();
            prop_assert_eq!(view.header(), header);
            assert_view_holds(&view, model);
        }
    }
}
