//! `rustorium witness`: bundles, which are results of `state_getWitness` as JSON.
//!
//! Verifying is offline and trusts nothing in the bundle: its claims are what the reader is told is proven, and its state
//! root counts only as far as the reader says.

pub mod update;

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::Context as _;
use rustorium_rpc::StateApiClient as _;
use rustorium_rpc::wire::{HexBytes, KeyValue, WitnessBundle};
use rustorium_verkle::{Claim, Invalid, StateRoot, Witness};

use super::client::ask;
use crate::cli::{WitnessGet, WitnessVerify};
use crate::exit::{Exit, OrExit as _};

/// Bytes of a bundle's file: twice what the largest witness and an answer's values take in hex.
const BUNDLE_BYTES_MAX: u64 = 256 << 20;

/// Prints a node's bundle for the keys.
pub fn get(get: WitnessGet, out: &mut impl Write) -> anyhow::Result<Exit> {
    let keys = get.keys.into_iter().map(|key| HexBytes(key.0)).collect();
    let bundle = ask(&get.remote.url, async |client| client.witness(keys, Some(get.remote.at)).await)?;
    serde_json::to_writer(&mut *out, &bundle)?;
    writeln!(out)?;
    Ok(Exit::Done)
}

/// Judges a bundle and says against which state root; [`Exit::BadData`] when it is not valid, naming the rule.
pub fn verify(verify: &WitnessVerify, out: &mut impl Write) -> anyhow::Result<Exit> {
    let name = verify.file.display();
    let bundle: WitnessBundle = serde_json::from_slice(&read(&verify.file)?)
        .with_context(|| format!("{name} is not a witness bundle (the result of state_getWitness)"))
        .or_exit(Exit::BadData)?;
    let trusted = verify.state_root.map(|root| StateRoot(root.0));
    verify_bundle(&bundle, trusted).or_exit(Exit::BadData)?;
    say_valid(out, trusted, StateRoot(bundle.state_root.0))?;
    Ok(Exit::Done)
}

/// Says against which state root a bundle was judged: the trusted one, else its own.
fn say_valid(out: &mut impl Write, trusted: Option<StateRoot>, own: StateRoot) -> std::io::Result<()> {
    match trusted {
        Some(root) => writeln!(out, "valid for state root {root}"),
        None => writeln!(out, "valid for state root {own} (from the bundle, not trusted)"),
    }
}

/// Whether the bundle's witness proves the bundle's claims against a state root: the given one, else the bundle's own.
pub(super) fn verify_bundle(bundle: &WitnessBundle, trusted: Option<StateRoot>) -> Result<(), Invalid> {
    let claims: Vec<Claim> = bundle.claims.iter().map(claim).collect();
    let state_root = trusted.unwrap_or(StateRoot(bundle.state_root.0));
    Witness::decode(&bundle.witness.0)?.verify(&state_root, &claims)
}

fn claim((key, value): &KeyValue) -> Claim {
    value.as_ref().map_or(Claim::absent(&key.0), |value| Claim::value(&key.0, &value.0))
}

/// The bytes of a file, `-` being standard input.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let name = file.display();
    let bytes = read_bytes(file).with_context(|| format!("cannot read {name}")).or_exit(Exit::NoInput)?;
    if bytes.len() as u64 > BUNDLE_BYTES_MAX {
        return Err(Exit::BadData.error(format!("{name} is larger than {BUNDLE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// The file's bytes, at most one more than there may be.
fn read_bytes(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().lock().take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    } else {
        File::open(file)?.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
