//! Real blocks through the engine's door, with the published roots on the way.

use std::collections::BTreeMap;

use rand::seq::IndexedRandom as _;
use rustorium_rpc::wire::Hash32;
use rustorium_tests::chain;
use rustorium_tests::chain::{Model, block, rng, seed, write_spec};
use rustorium_tests::daemon::Daemon;
use rustorium_tests::data::Data;
use serde_json::json;

use super::{holds_exactly, refusal, witness};

/// The node is restarted after this many blocks.
const RESTART_AFTER: u64 = 30;

#[test]
fn real_blocks_come_to_the_published_roots() -> anyhow::Result<()> {
    let Some(data) = Data::find()? else { return Ok(()) };
    let (blocks, marks) = (data.blocks()?, data.block_marks()?);
    let mut rng = rng(seed(), "real blocks", 0);
    let folder = tempfile::tempdir()?;
    let base_path = folder.path().join("base");
    let spec = write_spec(folder.path(), "blocks", &BTreeMap::new())?;
    let spec = spec.to_str().unwrap();
    let mut daemon = Daemon::start(spec, &base_path)?;
    let genesis = daemon.genesis_hash()?;
    let mut model = Model::default();
    for (number, changes) in (1..).zip(&blocks) {
        let root = daemon.apply(block(number, genesis, changes))??;
        assert_eq!(model.apply(changes.clone()).0, root.0, "block {number}");
        if let Some(mark) = marks.iter().find(|mark| mark.after_blocks as u64 == number) {
            assert_eq!(root.0, mark.state_root.0, "after {number} blocks");
            assert_eq!(model.pairs().len(), mark.keys, "after {number} blocks");
            prove_some(&daemon, &model, changes, &mut rng)?;
        }
        if number == RESTART_AFTER {
            let head = daemon.head()?;
            assert!(daemon.stop("TERM")?.success());
            daemon = Daemon::start(spec, &base_path)?;
            assert_eq!(daemon.head()?, head);
            assert_eq!((head.number, head.hash), (number, chain::hash(number)));
            prove_some(&daemon, &model, changes, &mut rng)?;
        }
    }
    assert_eq!(marks.last().map(|mark| mark.after_blocks), Some(blocks.len()), "the last block has a mark");
    holds_exactly(&daemon, model.pairs())?;
    resubmit(&daemon, genesis, &blocks)?;
    assert!(daemon.stop("TERM")?.success());
    Ok(())
}

/// The last block again gets the same answer; a block that is not what it says is refused, and changes nothing.
fn resubmit(daemon: &Daemon, genesis: Hash32, blocks: &[Vec<rustorium_state::Change>]) -> anyhow::Result<()> {
    let (number, changes) = (blocks.len() as u64, blocks.last().expect("there are blocks"));
    let (head, again) = (daemon.head()?, block(number, genesis, changes));
    assert_eq!(daemon.apply(again.clone())??, head.state_root);
    assert_eq!(daemon.apply(block(1, genesis, &blocks[0]))??.0, Model::default().apply(blocks[0].clone()).0);

    let mut other = again.clone();
    other.changes[0].1 = None;
    assert_eq!(refusal(daemon.apply(other)?).0, 4031);
    let next = block(number + 1, genesis, changes);
    let mut wrong_root = next.clone();
    wrong_root.state_root = Some(Hash32([7; 32]));
    let (code, data) = refusal(daemon.apply(wrong_root)?);
    assert_eq!((code, &data["expected"]), (4032, &json!(Hash32([7; 32]))));
    let mut uncle = next.clone();
    uncle.parent_hash = chain::hash(number - 1);
    assert_eq!(refusal(daemon.apply(uncle)?).0, 4030);
    let mut orphan = next;
    orphan.parent_hash = Hash32([9; 32]);
    assert_eq!(refusal(daemon.apply(orphan)?), (4001, json!({ "at": Hash32([9; 32]) })));
    assert_eq!(daemon.head()?, head);
    Ok(())
}

/// A witness of some keys of the block, some others and some absent ones.
fn prove_some(
    daemon: &Daemon,
    model: &Model,
    changes: &[rustorium_state::Change],
    rng: &mut rand::rngs::StdRng,
) -> anyhow::Result<()> {
    let all: Vec<&Vec<u8>> = model.pairs().keys().collect();
    let mut asked: Vec<Vec<u8>> = changes.sample(rng, 20).map(|(key, _)| key.clone()).collect();
    asked.extend(all.sample(rng, 20).map(|key| (*key).clone()));
    asked.extend((0u8..5).map(|byte| vec![byte; 20]));
    model.verify(&witness(daemon, &asked)?, &asked)
}
