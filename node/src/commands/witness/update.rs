//! `rustorium witness update-get` and `update-verify`: bundles that lead from the state root before some changes to the one
//! after, which are results of `state_getUpdateWitness` as JSON, together with the changes.

use std::io::Write;

use anyhow::Context as _;
use rustorium_rpc::StateApiClient as _;
use rustorium_rpc::wire::{HexBytes, KeyValue, UpdateCheck, UpdateQuestion};
use rustorium_verkle::{Change, Claim, Committer, Invalid, StateRoot, UpdateWitness, WindowBits};
use serde_json::{Map, Value};

use super::super::client::ask;
use super::{claim, read, say_valid};
use crate::cli::{UpdateGet, WitnessVerify};
use crate::exit::{Exit, OrExit as _};

/// What there must be in a bundle to judge it; the rest says where it is from.
const FIELDS: [&str; 4] = ["stateRoot", "claims", "changes", "witness"];

/// Prints a node's bundle for the changes, and for keys that are read besides.
pub fn get(get: UpdateGet, out: &mut impl Write) -> anyhow::Result<Exit> {
    let name = get.changes.display();
    let changes: Vec<KeyValue> = serde_json::from_slice(&read(&get.changes)?)
        .with_context(|| format!("{name} is not a list of changes ([[key, value], …], 0x hex, null to delete)"))
        .or_exit(Exit::BadData)?;
    let reads = get.reads.into_iter().map(|key| HexBytes(key.0)).collect();
    let question = UpdateQuestion { reads, changes: changes.clone(), at: Some(get.remote.at) };
    let bundle = ask(&get.remote.url, async |client| client.update_witness(question).await)?;
    let mut bundle = serde_json::to_value(&bundle)?;
    bundle["changes"] = serde_json::to_value(&changes)?;
    serde_json::to_writer(&mut *out, &bundle)?;
    writeln!(out)?;
    Ok(Exit::Done)
}

/// Judges a bundle, and prints the state root after and against which root before; [`Exit::BadData`] when it is not valid,
/// naming the rule.
pub fn verify(verify: &WitnessVerify, out: &mut impl Write) -> anyhow::Result<Exit> {
    let name = verify.file.display();
    let bundle = parse(&read(&verify.file)?)
        .with_context(|| {
            format!("{name} is not an update bundle (the result of state_getUpdateWitness, with the changes)")
        })
        .or_exit(Exit::BadData)?;
    let trusted = verify.state_root.map(|root| StateRoot(root.0));
    let own = StateRoot(bundle.state_root.0);
    let after = root_after(&bundle, trusted.unwrap_or(own)).or_exit(Exit::BadData)?;
    writeln!(out, "{after}")?;
    say_valid(out, trusted, own)?;
    Ok(Exit::Done)
}

fn parse(bytes: &[u8]) -> serde_json::Result<UpdateCheck> {
    let mut fields: Map<String, Value> = serde_json::from_slice(bytes)?;
    fields.retain(|name, _| FIELDS.contains(&name.as_str()));
    serde_json::from_value(fields.into())
}

/// The state root after a bundle's changes, if its witness holds against this root before.
fn root_after(bundle: &UpdateCheck, before: StateRoot) -> Result<StateRoot, Invalid> {
    let change = |(key, value): &KeyValue| match value {
        Some(value) => Change::put(&key.0, &value.0),
        None => Change::delete(&key.0),
    };
    let claims: Vec<Claim> = bundle.claims.iter().map(claim).collect();
    let changes: Vec<Change> = bundle.changes.iter().map(change).collect();
    let committer = Committer::new(WindowBits::SMALL);
    UpdateWitness::decode(&bundle.witness.0)?.verify(&before, &claims, &changes, &committer)
}
