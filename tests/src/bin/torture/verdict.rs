//! What was acknowledged, and whether an engine has it.

use anyhow::{Context as _, bail, ensure};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rustorium_state::backend::{Bounds, Column};
use rustorium_state::{ApplyError, At, AtError, BlockHash, Header, Reader, View, check};
use rustorium_tests::chain::some_keys;
use rustorium_verkle::{Claim, Witness};

use crate::engine::{COMMITTER, Chain, Engine};
use crate::forks::{Forks, Known, Pairs};
use crate::script::{BLOCK_KEY, Step, takes_back};

/// Keys of a witness.
const KEYS_ASKED: usize = 12;

/// Blocks of the past that are looked at after a crash.
const STATES_ASKED: usize = 3;

/// How far a chain's script is, as its driver was told.
pub struct Told {
    pub chain: Chain,
    /// The step to send next.
    pub index: u64,
    /// The states that a crash may leave, oldest first: the last that is on the disk for good and those since. While a step
    /// is under way, the last is the one after it.
    candidates: Vec<Forks>,
    under_way: Option<(Step, BlockHash)>,
    /// States that the step under way leads to: one, or one before it too.
    ahead: usize,
    /// Whether every acknowledged block is on the disk for good.
    is_synced: bool,
}

impl Told {
    pub fn new(chain: Chain, is_synced: bool) -> Self {
        let candidates = vec![chain.forks()];
        Self { chain, index: 0, candidates, under_way: None, ahead: 0, is_synced }
    }

    /// The state that was acknowledged last.
    pub fn forks(&self) -> &Forks {
        &self.candidates[self.candidates.len() - 1 - self.ahead]
    }

    /// The next step, which is under way from now on.
    pub fn begin(&mut self) -> Step {
        if let Some((step, _)) = &self.under_way {
            return step.clone();
        }
        let mut forks = self.forks().clone();
        let step = Step::new(self.chain.seed, self.index, &forks);
        self.ahead = 1;
        if let Step::Rollback(hash) = &step
            && forks.is_past(hash)
        {
            // What is not final goes first.
            let mut between = forks.clone();
            between.carry_out(&Step::Rollback(between.finalized()));
            self.candidates.push(between);
            self.ahead = 2;
        }
        let about = forks.carry_out(&step);
        self.candidates.push(forks);
        self.under_way = Some((step.clone(), about));
        step
    }

    /// The step under way was answered with this header.
    pub fn acknowledge(&mut self, header: &Header) -> anyhow::Result<()> {
        let (step, about) = self.under_way.take().context("an answer to nothing")?;
        let after = self.candidates.last_mut().expect("there is always one");
        after.learn(about, header).with_context(|| format!("step {}: {step:?}", self.index))?;
        self.index += 1;
        if self.ahead == 2 {
            self.candidates.remove(self.candidates.len() - 2);
        }
        self.ahead = 0;
        if self.is_synced || step.is_decision() {
            self.candidates.drain(..self.candidates.len() - 1);
        }
        Ok(())
    }

    /// Sends steps; stops at the first that fails, which is not acknowledged.
    pub fn drive(&mut self, engine: &Engine, steps: u64, rng: &mut StdRng) -> anyhow::Result<Result<(), ApplyError>> {
        for _ in 0..steps {
            // A step that a crash broke off may be done already.
            if self.under_way.is_none() && rng.random_bool(0.05) {
                self.tease(engine, rng)?;
            }
            match self.begin().send(&engine.handle) {
                Ok(header) => self.acknowledge(&header)?,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    /// A known block again has the same answer, another under its hash is refused, and so is what nobody knows.
    fn tease(&self, engine: &Engine, rng: &mut StdRng) -> anyhow::Result<()> {
        let blocks: Vec<&Known> = self.forks().blocks.values().filter(|known| known.block.number > 0).collect();
        if let Some(known) = blocks.choose(rng) {
            let mut block = rustorium_state::Block::clone(&known.block);
            let again = engine.handle.apply_blocking(block.clone());
            ensure!(again.as_ref().ok().map(|header| header.state_root) == known.root, "a block again: {again:?}");
            block.changes.push((b"other".to_vec(), None));
            let other = engine.handle.apply_blocking(block);
            ensure!(matches!(other, Err(ApplyError::Conflicting { .. })), "another block: {other:?}");
        }
        let nobody = engine.handle.finalize_blocking(BlockHash([0xee; 32]));
        ensure!(matches!(nobody, Err(ApplyError::UnknownBlock { .. })), "a block that nobody knows: {nobody:?}");
        Ok(())
    }

    /// After a crash: which of the states it may have left this is, and whether it is that one in all. What was lost that may
    /// be lost, is to be done again. Answers how many of the steps that may be lost are there.
    pub fn judge(&mut self, reader: &Reader, rng: &mut StdRng) -> anyhow::Result<usize> {
        let Some(found) = self.candidates.iter().rposition(|forks| fits(forks, reader)) else {
            bail!("after step {} the state is none that a crash may leave: {:?}", self.index, reader.status());
        };
        let forgets = !takes_back(self.chain.seed);
        holds(&self.candidates[found], reader, forgets, rng)
            .with_context(|| format!("after step {}, state {found} of {}", self.index, self.candidates.len()))?;
        let acknowledged = self.candidates.len() - 1 - self.ahead;
        if found > acknowledged && found + 1 < self.candidates.len() {
            self.candidates.drain(..found);
            self.ahead = 1;
        } else if found <= acknowledged {
            self.ahead = 0;
            self.index -= (acknowledged - found) as u64;
            self.candidates.drain(found + 1..);
            self.candidates.drain(..found);
            self.under_way = None;
        }
        Ok(found)
    }

    /// After a crash in an import: whether the store stands where that leads, with the step to go on from.
    pub fn moves(&mut self, forks: Forks, index: u64, reader: &Reader) -> bool {
        let is_there = fits(&forks, reader);
        if is_there {
            let index = self.index.max(index);
            *self = Self {
                index,
                candidates: vec![forks],
                under_way: None,
                ahead: 0,
                ..Self::new(self.chain.clone(), self.is_synced)
            };
        }
        is_there
    }

    /// Everything final is put into its columns; they hold that and nothing else.
    pub fn settle(&self, engine: &Engine) -> anyhow::Result<()> {
        engine.handle.flush_blocking()?;
        let (status, forks) = (engine.reader.status(), self.forks());
        ensure!(status.finalized.hash == forks.finalized(), "final is {:?}", status.finalized);
        ensure!(status.base_number == status.finalized.number && status.settled_blocks == 0, "{status:?}");
        is_sound(&*engine.reader.at(At::Finalized)?)?;
        let rows = engine.backend.snapshot()?.range(Column::Fork, &Bounds::all(), usize::MAX, usize::MAX)?;
        let above = forks.blocks.values().filter(|known| known.block.hash != forks.finalized());
        let key = |known: &Known| [&known.block.number.to_be_bytes()[..], &known.block.hash.0].concat();
        let mut expected: Vec<Vec<u8>> = above.map(key).collect();
        expected.sort();
        let found: Vec<&Vec<u8>> = rows.rows.iter().map(|(key, _)| key).collect();
        ensure!(expected.iter().eq(found), "the journal has {} blocks, not {}", rows.rows.len(), expected.len());
        Ok(())
    }
}

/// Whether head, final block and blocks are those.
fn fits(forks: &Forks, reader: &Reader) -> bool {
    let status = reader.status();
    status.head.hash == forks.head
        && status.finalized.hash == forks.finalized()
        && status.unfinalised_blocks as usize + 1 == forks.blocks.len()
        && forks.blocks.keys().all(|hash| reader.at(At::Block(*hash)).is_ok())
}

/// Whether everything reads as the model has it.
pub fn holds(forks: &Forks, reader: &Reader, forgets: bool, rng: &mut StdRng) -> anyhow::Result<()> {
    for (hash, known) in &forks.blocks {
        let view = reader.at(At::Block(*hash))?;
        let header = view.header();
        let block = &known.block;
        ensure!(reader.header(hash)?.as_ref() == Some(header), "the header of {hash}");
        let right = (header.number, header.parent_hash, header.timestamp_ms);
        ensure!(right == (block.number, block.parent_hash, block.timestamp_ms), "{header:?} is not {block:?}");
        ensure!(known.root.is_none_or(|root| root == header.state_root), "the root of {hash}");
        reads(&view, &known.pairs).with_context(|| format!("block {} {hash}", block.number))?;
    }
    let all: Vec<BlockHash> = forks.blocks.keys().copied().collect();
    for hash in [forks.head, forks.finalized(), *all.choose(rng).expect("one is final")] {
        let view = reader.at(At::Block(hash))?;
        is_sound(&view).with_context(|| format!("block {hash}"))?;
        proves(&view, &forks.blocks[&hash].pairs, rng).with_context(|| format!("block {hash}"))?;
    }
    remembers(forks, reader, forgets, rng)?;
    for (number, hash) in (0..).zip(&forks.chain) {
        if (1..forks.first).contains(&number) {
            ensure!(reader.block_hash(number)?.is_none(), "block {number} is known, and does not lead to the first");
            continue;
        }
        ensure!(reader.block_hash(number)? == Some(*hash), "final block {number} is not {hash}");
        let header = reader.header(hash)?.with_context(|| format!("no header of {hash}"))?;
        ensure!(header.number == number && header.hash == *hash, "{header:?} is not {number}");
    }
    for hash in &forks.dropped {
        let gone = reader.at(At::Block(*hash)).err();
        // A step under way may have brought it back.
        let is_gone = matches!(gone, Some(AtError::Unknown { .. })) || forks.blocks.contains_key(hash);
        ensure!(is_gone, "{hash} was dropped, and it is there: {gone:?}");
    }
    Ok(())
}

/// Whether some states of the past are as they were; those that may be forgotten may be gone.
fn remembers(forks: &Forks, reader: &Reader, forgets: bool, rng: &mut StdRng) -> anyhow::Result<()> {
    for known in forks.past.sample(rng, STATES_ASKED) {
        let (number, hash) = (known.block.number, known.block.hash);
        match reader.at(At::Block(hash)) {
            Ok(view) => {
                reads(&view, &known.pairs).with_context(|| format!("block {number} {hash} of the past"))?;
                proves(&view, &known.pairs, rng).with_context(|| format!("block {number} {hash} of the past"))?;
                ensure!(known.root.is_none_or(|root| root == view.header().state_root), "the root of {hash}");
            }
            Err(AtError::Pruned { oldest }) if forgets => {
                ensure!(number < oldest, "block {number} is said to be older than {oldest}");
            }
            Err(error) => return Err(error).with_context(|| format!("block {number} {hash} of the past")),
        }
    }
    Ok(())
}

fn reads(view: &View, pairs: &Pairs) -> anyhow::Result<()> {
    let keys = view.keys_paged(b"", None, usize::MAX)?;
    ensure!(keys.iter().eq(pairs.keys()), "{} keys listed, {} expected", keys.len(), pairs.len());
    let values = view.values(&keys, u64::MAX)?;
    for ((key, expected), got) in pairs.iter().zip(&values) {
        let brief = |value: &[u8]| format!("{} bytes {}", value.len(), blake3::hash(value).to_hex());
        let (expected, got) = (Some(brief(expected)), got.as_deref().map(brief));
        ensure!(got == expected, "{}: {got:?} instead of {expected:?}", key.escape_ascii());
    }
    Ok(())
}

fn is_sound(view: &View) -> anyhow::Result<()> {
    let report = check(view, &COMMITTER)?;
    ensure!(report.is_sound(), "{report}");
    Ok(())
}

fn proves(view: &View, pairs: &Pairs, rng: &mut StdRng) -> anyhow::Result<()> {
    let mut keys = some_keys(rng, KEYS_ASKED);
    keys.sort();
    keys.dedup();
    keys.push(BLOCK_KEY.to_vec());
    let proof = view.witness(&keys, u64::MAX)?;
    let claim = |key: &Vec<u8>| pairs.get(key).map_or(Claim::absent(key), |value| Claim::value(key, value));
    let claims: Vec<Claim> = keys.iter().map(claim).collect();
    Ok(Witness::decode(&proof.witness)?.verify(&view.header().state_root, &claims)?)
}
