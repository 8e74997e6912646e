//! A chain whose engine says what is final: forks, choices, refusals and restarts, over the wire.

use std::collections::BTreeMap;
use std::process::Command;

use jsonrpsee::core::ClientError;
use rustorium_rpc::StateApiClient as _;
use rustorium_rpc::wire::{At, Hash32, HexBytes, KeyValue, NewBlock, WitnessBundle};
use rustorium_state::Change;
use rustorium_tests::chain::{Model, write_engine_spec};
use rustorium_tests::daemon::Daemon;
use rustorium_tests::program;
use serde_json::json;

use super::refusal;

/// Blocks that may wait for finality.
const UNFINALISED_MAX: &str = "6";

fn hash(name: u8) -> Hash32 {
    Hash32([name; 32])
}

/// A block and what it must come to.
struct Made {
    block: NewBlock,
    model: Model,
}

impl Made {
    fn new(name: u8, parent: (u64, Hash32), before: &Model, changes: &[(&str, Option<&str>)]) -> Self {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let changes: Vec<Change> = changes.iter().map(|(key, value)| (bytes(key), value.map(bytes))).collect();
        let mut model = before.clone();
        let root = Hash32(model.apply(changes.clone()).0);
        let hex = |(key, value): Change| -> KeyValue { (HexBytes(key), value.map(HexBytes)) };
        let block = NewBlock {
            number: parent.0 + 1,
            hash: hash(name),
            parent_hash: parent.1,
            timestamp_ms: None,
            state_root: Some(root),
            changes: changes.into_iter().map(hex).collect(),
        };
        Self { block, model }
    }

    fn child(&self, name: u8, changes: &[(&str, Option<&str>)]) -> Self {
        Self::new(name, (self.block.number, self.block.hash), &self.model, changes)
    }
}

/// ```text
/// genesis ─ 1 ─ 2 ─ 3
///           └── 4 ─ 5
/// ```
fn two_forks(genesis: Hash32, pairs: &BTreeMap<Vec<u8>, Vec<u8>>) -> [Made; 5] {
    let one = Made::new(1, (0, genesis), &Model::new(pairs), &[("alice", Some("1")), ("x", Some("1"))]);
    let two = one.child(2, &[("alice", Some("2")), ("bob", None)]);
    let three = two.child(3, &[("bob", Some("back"))]);
    let four = one.child(4, &[("alice", None), ("x", Some("4"))]);
    let five = four.child(5, &[("x", None)]);
    [one, two, three, four, five]
}

/// Whether a block reads as it must: keys, values, root, witness.
fn reads(daemon: &Daemon, made: &Made) -> anyhow::Result<()> {
    let at = Some(At::Block(made.block.hash));
    let root = daemon.ask(async |client| client.state_root(at).await)?;
    assert_eq!(Some(root), made.block.state_root);
    let keys = daemon.ask(async |client| client.keys_paged(None, 10, None, at).await)?;
    assert!(keys.iter().map(|key| &key.0).eq(made.model.pairs().keys()), "{keys:?}");
    let asked: Vec<Vec<u8>> = ["alice", "bob", "x", "y"].map(Vec::from).into();
    for key in &asked {
        let value = daemon.ask(async |client| client.storage(HexBytes(key.clone()), at).await)?;
        assert_eq!(value.as_ref().map(|value| &value.0), made.model.pairs().get(key));
    }
    made.model.verify(&witness_at(daemon, &asked, made.block.hash)?, &asked)
}

fn witness_at(daemon: &Daemon, keys: &[Vec<u8>], hash: Hash32) -> Result<WitnessBundle, ClientError> {
    let keys = keys.iter().cloned().map(HexBytes).collect();
    daemon.ask(async |client| client.witness(keys, Some(At::Block(hash))).await)
}

fn root_at(daemon: &Daemon, hash: Hash32) -> Result<Hash32, ClientError> {
    daemon.ask(async |client| client.state_root(Some(At::Block(hash))).await)
}

#[test]
fn an_engine_drives_forks() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let base_path = folder.path().join("base");
    let pairs = BTreeMap::from([(b"alice".to_vec(), b"0".to_vec()), (b"bob".to_vec(), b"0".to_vec())]);
    let spec = write_engine_spec(folder.path(), "forks", &pairs)?;
    let arguments = ["--chain", spec.to_str().unwrap(), "--unfinalised-max", UNFINALISED_MAX];
    let mut daemon = Daemon::start_with(&arguments, &base_path)?;
    let genesis = daemon.genesis_hash()?;
    let made = two_forks(genesis, &pairs);
    // The second time, these are known, and the node was killed between.
    for _ in 0..2 {
        for made in &made {
            assert_eq!(Some(daemon.apply(made.block.clone())??), made.block.state_root);
        }
        let status = daemon.status()?;
        assert_eq!((status.head.hash, status.finalized.hash), (hash(3), genesis), "a child of the head moves it");
        assert_eq!(status.unfinalised_blocks, 5);
        for made in &made {
            reads(&daemon, made)?;
        }
        daemon.kill()?;
        daemon = Daemon::start_with(&arguments, &base_path)?;
    }
    refusals(&daemon, &made)?;

    let status = daemon.choose(hash(5), Some(hash(1)))??;
    assert_eq!((status.head.hash, status.finalized.hash, status.unfinalised_blocks), (hash(5), hash(1), 4));
    assert_eq!(daemon.choose(hash(5), Some(hash(1)))??, status, "the same again");
    assert_eq!(daemon.choose(hash(3), None)??.head.hash, hash(3));
    // Final on the other fork: the head goes there, and what lost is gone.
    assert_eq!(daemon.finalize(hash(4))??.hash, hash(4));
    assert_eq!(daemon.finalize(hash(4))??.number, 2);
    assert_eq!(refusal(daemon.finalize(hash(1))?).0, 4034);
    assert!(daemon.stop("TERM")?.success());

    daemon = Daemon::start_with(&[&arguments[..], &["--allow-rollback"]].concat(), &base_path)?;
    let status = daemon.status()?;
    assert_eq!((status.head.hash, status.finalized.hash, status.unfinalised_blocks), (hash(4), hash(4), 1));
    assert_eq!(refusal(root_at(&daemon, hash(3))), (4001, json!({ "at": hash(3) })));
    reads(&daemon, &made[0])?;
    reads(&daemon, &made[4])?;
    full_and_back(&daemon, &made)?;
    assert!(daemon.stop("TERM")?.success());
    Ok(())
}

/// What changes nothing.
fn refusals(daemon: &Daemon, [one, two, three, ..]: &[Made; 5]) -> anyhow::Result<()> {
    let before = daemon.status()?;
    let mut other = two.block.clone();
    other.changes.pop();
    assert_eq!(refusal(daemon.apply(other)?).0, 4031);
    let next = three.child(6, &[("alice", None)]).block;
    let wrong = NewBlock { state_root: Some(hash(7)), ..next.clone() };
    assert_eq!(refusal(daemon.apply(wrong)?).1["expected"], json!(hash(7)));
    let ahead = NewBlock { number: 9, ..next.clone() };
    assert_eq!(refusal(daemon.apply(ahead)?).0, 4030);
    let orphan = NewBlock { parent_hash: hash(9), ..next };
    assert_eq!(refusal(daemon.apply(orphan)?), (4001, json!({ "at": hash(9) })));
    // Not on one way, not known.
    assert_eq!(refusal(daemon.choose(hash(3), Some(hash(4)))?).0, 4030);
    assert_eq!(refusal(daemon.choose(hash(9), None)?).0, 4001);
    assert_eq!(refusal(daemon.finalize(hash(9))?).0, 4001);
    // Only where the operator allows it.
    assert_eq!(refusal(daemon.rollback(one.block.hash)?).0, -32601);
    assert_eq!(daemon.status()?, before);
    Ok(())
}

/// As many blocks as may wait, and back to the final one.
fn full_and_back(daemon: &Daemon, [one, two, _, four, five]: &[Made; 5]) -> anyhow::Result<()> {
    let late = two.child(10, &[]).block;
    assert_eq!(refusal(daemon.apply(late)?), (4001, json!({ "at": hash(2) })), "a child of what lost");
    let late = one.child(10, &[]).block;
    assert_eq!(refusal(daemon.apply(late)?).0, 4030, "a child of what is final and not the last");
    for name in 11..16 {
        daemon.apply(four.child(name, &[("x", Some("11"))]).block)??;
    }
    let (code, data) = refusal(daemon.apply(four.child(16, &[]).block)?);
    assert_eq!((code, data), (4033, json!({ "expected": "at most 6 blocks", "got": "7" })));
    assert_eq!(daemon.rollback(hash(4))??.hash, hash(4));
    assert_eq!(daemon.rollback(hash(4))??.number, 2);
    let status = daemon.status()?;
    assert_eq!((status.head.hash, status.unfinalised_blocks, status.unfinalised_bytes), (hash(4), 0, 0));
    assert_eq!(refusal(root_at(daemon, five.block.hash)).0, 4001);
    // The hash of a block that was dropped is free.
    let other = four.child(5, &[("x", Some("another"))]);
    assert_eq!(Some(daemon.apply(other.block.clone())??), other.block.state_root);
    reads(daemon, &other)?;
    // Final blocks go back, too, with all that is above them.
    assert_eq!(daemon.rollback(hash(1))??.hash, hash(1));
    assert_eq!(refusal(root_at(daemon, hash(4))), (4001, json!({ "at": hash(4) })));
    reads(daemon, one)
}

#[test]
fn the_example_of_an_executor_runs() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let spec = write_engine_spec(folder.path(), "executor", &BTreeMap::new())?;
    let daemon = Daemon::start(spec.to_str().unwrap(), &folder.path().join("base"))?;
    // The second time on the head that the first has left.
    for number in [3, 6] {
        let mut executor = Command::new(program::example("executor")?);
        executor.arg(daemon.jwt()).args([daemon.rpc(), daemon.engine()]);
        let told = program::output(executor)?;
        let said = String::from_utf8_lossy(&told.stdout);
        assert!(told.status.success(), "{said}{}", String::from_utf8_lossy(&told.stderr));
        for line in ["alice 70, bob 80, carol 0", "alice 80, bob 45, carol 25", "UnknownBlock", "proven: alice has 80"]
        {
            assert!(said.contains(line), "{line}:\n{said}");
        }
        assert!(said.ends_with("proven: dave has nothing\n"), "{said}");
        assert_eq!(daemon.head()?.number, number);
    }
    Ok(())
}
