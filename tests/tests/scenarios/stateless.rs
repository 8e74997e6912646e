//! Real blocks, followed by someone who has nothing but a state root.

use std::sync::Arc;

use rustorium_rpc::StateApiClient as _;
use rustorium_rpc::wire::{At, HexBytes, UpdateCheck, UpdateQuestion};
use rustorium_state::Change;
use rustorium_tests::chain::{block, write_spec};
use rustorium_tests::daemon::Daemon;
use rustorium_tests::data::Data;
use rustorium_tests::stateless::{Stateless, Store};
use rustorium_verkle::{Committer, Rule, StateRoot, WindowBits};

/// Update witnesses take at most so many bytes for each byte of the plain ones.
const BYTES_RATIO_MAX: f64 = 1.05;
/// Keys of one question to a node.
const KEYS_MAX: usize = 1024;
/// Blocks that are asked of a node over the wire.
const WIRE_BLOCKS: usize = 12;

#[test]
fn a_verifier_with_a_root_alone_follows_real_blocks() -> anyhow::Result<()> {
    let Some(data) = Data::find()? else { return Ok(()) };
    let (blocks, marks) = (data.blocks()?, data.block_marks()?);
    let store = Store::open(Arc::new(Committer::new(WindowBits::SMALL)))?;
    let mut verifier = Stateless::new(store.reader.head().header().state_root);
    let (mut update_bytes, mut plain_bytes) = (0, 0);
    for (index, changes) in blocks.iter().enumerate() {
        let proof = store.prove(changes)?;
        let keys: Vec<Vec<u8>> = changes.iter().map(|(key, _)| key.clone()).collect();
        plain_bytes += store.reader.head().witness(&keys, u64::MAX)?.witness.len();
        update_bytes += proof.witness.len();
        let before = verifier.root;
        lied_to(&mut verifier, changes, &proof);
        assert_eq!(verifier.root, before, "a refused witness leads nowhere");
        verifier.follow(changes, &proof.claims, &proof.witness)?;
        assert_eq!(verifier.root, store.apply(changes)?, "block {index}");
        if let Some(mark) = marks.iter().find(|mark| mark.after_blocks == index + 1) {
            assert_eq!(verifier.root, mark.state_root, "after {} blocks", mark.after_blocks);
        }
    }
    assert_eq!(marks.last().map(|mark| (mark.after_blocks, mark.state_root)), Some((blocks.len(), verifier.root)));
    let ratio = update_bytes as f64 / plain_bytes as f64;
    assert!(ratio <= BYTES_RATIO_MAX, "{update_bytes} bytes of update witnesses, {plain_bytes} of plain ones: {ratio}");
    Ok(())
}

/// Other values before than the block found are refused.
fn lied_to(verifier: &mut Stateless, changes: &[Change], proof: &rustorium_state::Proof) {
    let mut claims = proof.claims.clone();
    let last = claims.last_mut().expect("every block changes something");
    last.1 = if last.1.is_some() { None } else { Some(b"a lie".to_vec()) };
    let refused = verifier.follow(changes, &claims, &proof.witness).unwrap_err();
    assert_eq!(refused.rule, Rule::Terminal);
}

#[test]
fn a_node_hands_out_what_a_verifier_follows() -> anyhow::Result<()> {
    let Some(data) = Data::find()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let spec = write_spec(folder.path(), "stateless", &Default::default())?;
    let daemon = Daemon::start(spec.to_str().unwrap(), &folder.path().join("base"))?;
    let genesis = daemon.genesis_hash()?;
    let mut verifier = Stateless::new(StateRoot(daemon.head()?.state_root.0));
    for (number, changes) in (1..).zip(data.blocks()?.iter().filter(|block| block.len() <= KEYS_MAX)).take(WIRE_BLOCKS)
    {
        let next = block(number, genesis, changes);
        let reads = vec![HexBytes(b"not there".to_vec())];
        let reads = if changes.len() < KEYS_MAX { reads } else { vec![] };
        let question = UpdateQuestion { reads, changes: next.changes.clone(), at: Some(At::Head) };
        let bundle = daemon.ask(async |client| client.update_witness(question.clone()).await)?;
        let plain = |(key, value): &(HexBytes, Option<HexBytes>)| (key.0.clone(), value.as_ref().map(|v| v.0.clone()));
        let claims: Vec<_> = bundle.claims.iter().map(plain).collect();
        verifier.follow(changes, &claims, &bundle.witness.0)?;
        let check = UpdateCheck {
            state_root: bundle.state_root,
            claims: bundle.claims,
            changes: next.changes.clone(),
            witness: bundle.witness,
        };
        let updated = daemon.ask(async |client| client.verify_update_witness(check.clone()).await)?;
        let applied = daemon.apply(next)??;
        assert_eq!((updated.state_root_after, verifier.root.0), (applied, applied.0), "block {number}");
    }
    assert!(daemon.stop("TERM")?.success());
    Ok(())
}
