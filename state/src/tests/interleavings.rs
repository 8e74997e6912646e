//! The real writer, its flusher, an engine that commands it and readers, run by shuttle in orders that it makes up: one
//! thread at a time, which changes wherever they meet and at everything that is asked of the backend.
//!
//! Whatever a reader finds must be what one state of the model says, of those that may be: no older than the last command
//! that was answered before he asked, no newer than the last that was begun. A view says the same for as long as it is
//! held, whatever became of its block. What is shown is on disk.
//!
//! Orders come from `RUSTORIUM_SEED`. A failure prints the seed of its order, which `SHUTTLE_RANDOM_SEED` makes the first, and
//! the order itself, for `shuttle::replay`. Three mistakes made on purpose show that the checker finds such, and finds them
//! again.

mod stepping;
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread::{JoinHandle, spawn};

use self::stepping::{Breach, Stepping};
use self::story::{Command, Name, Standing, Story, blocks_in_a_row, changes, forks_that_lose, pairs_at_first};
use super::*;
use crate::meeting::{checker, step};
use crate::reader::Status;

/// Orders that each test tries, of either kind.
const ORDERS: usize = 1000;
/// In how many places an order of the second kind departs from the threads' ranks.
const DEPARTURES: usize = 4;
/// Readers, and how often each looks.
const READERS: usize = 2;
const LOOKS: usize = 24;
/// A coroutine's stack: some functions of the curve lay their tables out there.
const STACK_BYTES: usize = 1 << 20;

/// What the threads of one order share.
struct Scene {
    story: Arc<Story>,
    backend: Arc<Stepping>,
    handle: Handle,
    reader: Reader,
    /// Commands that were begun, and those that were answered.
    begun: AtomicUsize,
    answered: AtomicUsize,
}

impl Scene {
    /// Plays the story once, in an order that shuttle makes up.
    fn play(story: &Arc<Story>, breach: Breach, cache_bytes: u64) {
        let backend = Arc::new(Stepping::new(breach));
        let pairs = pairs(&pairs_at_first());
        let genesis = Genesis { id: "test", pairs: &pairs, hash: &hash_of_root };
        let (finality, flush_blocks) = (story.finality, 1);
        let history = History::Archive;
        let config = Config { cache_bytes, finality, flush_blocks, history, ..Config::new(COMMITTER.clone()) };
        let (writer, handle, reader) =
            open(backend.clone(), &genesis, &config, &mut |_| ControlFlow::Continue(())).unwrap();
        backend.is_broken.store(true, SeqCst);
        let (begun, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let scene = Arc::new(Self { story: story.clone(), backend, handle, reader, begun, answered });
        let writer = spawn(|| {
            writer.run_beside(|flusher| {
                spawn(flusher);
                Ok(())
            })
        });
        let look = |_| {
            let scene = scene.clone();
            spawn(move || scene.look())
        };
        let readers: Vec<JoinHandle<()>> = (0..READERS).map(look).collect();
        scene.command();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        scene.handle.close();
        writer.join().unwrap();
    }

    /// The engine's part.
    fn command(&self) {
        let Self { story, handle, .. } = self;
        let hash = |name: Name| story.header(name).hash;
        for command in &story.commands {
            self.begun.fetch_add(1, SeqCst);
            let answer = match *command {
                Command::Apply { name, .. } => {
                    let Header { number, hash, parent_hash, .. } = *story.header(name);
                    let changes = changes(name);
                    handle.apply_blocking(Block {
                        number,
                        hash,
                        parent_hash,
                        timestamp_ms: None,
                        state_root: None,
                        changes,
                    })
                }
                Command::Finalize(name) => handle.finalize_blocking(hash(name)),
                Command::Choose(head, finalized) => handle.choose_head_blocking(hash(head), finalized.map(hash)),
                Command::Rollback(name) => handle.rollback_blocking(hash(name)),
                Command::Flush => handle.flush_blocking(),
            };
            answer.unwrap_or_else(|error| panic!("{command:?}: {error}"));
            self.answered.fetch_add(1, SeqCst);
        }
    }

    /// A reader's part.
    fn look(&self) {
        let (mut held, mut base) = (Vec::new(), 0);
        for _ in 0..LOOKS {
            let mut random = shuttle::rand::thread_rng();
            let name = random.gen_range(0..self.story.blocks.len()) as Name;
            let at = At::Block(self.story.header(name).hash);
            match random.gen_range(0..4) {
                0 => {
                    let status = self.see(|| self.reader.status(), |status, standing| self.agrees(status, standing));
                    assert!(base <= status.base_number && status.base_number <= status.finalized.number);
                    base = status.base_number;
                    self.assert_durable(&status);
                }
                1 => held.push(self.see(|| self.reader.head(), |view, standing| self.is(view, standing.head))),
                2 => {
                    let finalized = || self.reader.at(At::Finalized).unwrap();
                    held.push(self.see(finalized, |view, standing| self.is(view, standing.finalized)));
                }
                _ => {
                    let found = self.see(
                        || self.reader.at(at),
                        |found, standing| match found {
                            Ok(view) => self.is(view, name) && (standing.has(name) || standing.passed.contains(&name)),
                            Err(AtError::Unknown { .. }) => !standing.has(name) && !standing.passed.contains(&name),
                            Err(error) => panic!("{error}"),
                        },
                    );
                    held.extend(found.ok());
                }
            }
            if let Some(view) = held.last() {
                self.assert_holds(view);
            }
        }
        // Whatever has become of their blocks.
        held.iter().for_each(|view| self.assert_holds(view));
    }

    /// What is found, which one of the states must say that may be seen.
    fn see<T>(&self, find: impl FnOnce() -> T, says: impl Fn(&T, &Standing) -> bool) -> T {
        let from = self.answered.load(SeqCst);
        let found = find();
        let standings = &self.story.standings[from..=self.begun.load(SeqCst)];
        assert!(standings.iter().any(|standing| says(&found, standing)), "seen is none of {standings:?}");
        found
    }

    fn is(&self, view: &View, name: Name) -> bool {
        self.story.name(&view.header().hash) == name
    }

    fn agrees(&self, status: &Status, standing: &Standing) -> bool {
        let Status { head, finalized, unfinalised_blocks, .. } = status;
        let names = (self.story.name(&head.hash), self.story.name(&finalized.hash));
        (names, *unfinalised_blocks) == ((standing.head, standing.finalized), standing.known.len() as u64)
    }

    /// A view has the values of its block, one by one, and in the listing.
    fn assert_holds(&self, view: &View) {
        let Header { number, hash, .. } = view.header();
        let (header, model) = &self.story.blocks[usize::from(self.story.name(hash))];
        assert_eq!(*number, header.number);
        for key in [b"all".as_slice(), b"again", b"x", b"y", b"z", &[b'g', 1]] {
            assert_eq!(view.value(key).unwrap().as_ref(), model.get(key), "{key:?} of block {number} {hash}");
        }
        let keys: Vec<Vec<u8>> = model.keys().cloned().collect();
        assert_eq!(view.keys_paged(b"", None, 100).unwrap(), keys, "keys of block {number} {hash}");
    }

    /// What was shown is on disk, if nothing newer is.
    fn assert_durable(&self, shown: &Status) {
        let disk = self.backend.inner.snapshot().unwrap();
        let named = |name: &[u8]| BlockHash(disk.get(Column::Meta, name).unwrap().unwrap().try_into().unwrap());
        let names = (self.story.name(&named(meta::HEAD)), self.story.name(&named(meta::FINAL)));
        let standings = &self.story.standings;
        let first = standings.iter().position(|standing| self.agrees(shown, standing));
        let last = standings.iter().rposition(|standing| (standing.head, standing.finalized) == names);
        assert!(first.unwrap() <= last.unwrap(), "{shown:?} is shown, the disk has {names:?}");
    }
}

fn seed() -> u64 {
    let seed = std::env::var("RUSTORIUM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20150730);
    eprintln!("RUSTORIUM_SEED={seed}");
    seed
}

/// Plays a story in many orders.
fn run(story: Story, breach: Breach, is_torn: bool, scheduler: impl Scheduler + 'static) {
    std::sync::LazyLock::force(&COMMITTER);
    let mut config = shuttle::Config::new();
    config.stack_size = STACK_BYTES;
    let (story, orders) = (Arc::new(story), AtomicUsize::new(0));
    // Every other order without a cache, so that all is read from the layers and the rows.
    let play = move || Scene::play(&story, breach, (orders.fetch_add(1, SeqCst) as u64 % 2) << 20);
    checker::during(is_torn, || {
        shuttle::Runner::new(scheduler, config).run(play);
    });
}

fn run_all(story: impl Fn() -> Story) {
    run(story(), Breach::None, false, RandomScheduler::new_from_seed(seed(), ORDERS));
    run(story(), Breach::None, false, PctScheduler::new_from_seed(seed(), DEPARTURES, ORDERS));
}

#[test]
fn a_reader_sees_one_state_of_forks_that_come_and_go() {
    run_all(forks_that_lose);
}

#[test]
fn a_reader_sees_one_state_of_blocks_that_are_final_at_once() {
    run_all(blocks_in_a_row);
}

#[test]
fn mistakes_are_found() {
    for (breach, is_torn, expected) in [
        (Breach::None, true, "seen is none of"),
        (Breach::Moving, false, "of block"),
        (Breach::Late, false, "of block"),
    ] {
        let seed = seed();
        let find = || {
            let random = RandomScheduler::new_from_seed(seed, ORDERS);
            let outcome = catch_unwind(AssertUnwindSafe(|| run(forks_that_lose(), breach, is_torn, random)));
            let panic = outcome.expect_err("the mistake is found");
            panic.downcast_ref::<String>().expect("a message").clone()
        };
        let what = find();
        assert!(what.contains(expected), "{breach:?}: {what}");
        assert_eq!(find(), what, "an order is met again by its seed");
    }
}
