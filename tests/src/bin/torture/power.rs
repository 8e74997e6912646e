//! The power fails under memory, in the middle of a commit or between two.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rand::{Rng as _, RngExt as _};
use rustorium_state::backend::Durability;
use rustorium_tests::power::PowerLoss;

use crate::Round;
use crate::counts::Counts;
use crate::engine::{Chain, Engine, config};
use crate::verdict::Told;

const PAIRS: u32 = 300;
/// Commits that a life lasts at most.
const COMMITS_MAX: u64 = 60;

pub fn round(round: Round, counts: &mut Counts) -> anyhow::Result<()> {
    let mut rng = round.rng();
    let durability = if rng.random_bool(0.7) { Durability::Synced } else { Durability::Buffered };
    let mut told = Told::new(Chain::new(round.blocks(), PAIRS), durability == Durability::Synced);
    let mut machine = Arc::new(PowerLoss::new());
    for life in 0..rng.random_range(2..12) {
        let config = config(&told.chain, &mut rng, durability);
        if rng.random_bool(0.6) {
            machine.fail_at(rng.random_range(1..=COMMITS_MAX));
        }
        match Engine::open(machine.clone(), &told.chain, &config) {
            Ok(engine) => {
                let kept = told.judge(&engine.reader, &mut rng).with_context(|| format!("life {life}"))?;
                counts.add("steps that a crash might have lost, and has not", kept as u64);
                let before = told.index;
                let steps = rng.random_range(0..COMMITS_MAX);
                let driven = told.drive(&engine, steps, &mut rng);
                // Teasing a machine without power finds nothing.
                if let Err(error) = driven.map(|driven| driven.map_err(anyhow::Error::from)).and_then(|driven| driven) {
                    ensure!(machine.is_off(), "step {}: {error:#}", told.index);
                }
                counts.add("steps acknowledged", told.index - before);
            }
            Err(error) => ensure!(machine.is_off(), "life {life}: {error}"),
        }
        counts.one(if machine.is_off() { "power lost in a commit" } else { "power lost between commits" });
        let (again, _) = machine.crash(rng.next_u64());
        machine = again.into();
    }
    let engine = Engine::open(machine, &told.chain, &config(&told.chain, &mut rng, Durability::Synced))?;
    told.judge(&engine.reader, &mut rng)?;
    told.drive(&engine, 3, &mut rng)??;
    told.settle(&engine)
}
