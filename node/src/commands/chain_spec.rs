//! `rustorium chain-spec show`: what a spec makes a member of. Computes the genesis' state root, in memory.

use std::io::Write;

use rustorium_verkle::{Committer, WindowBits};
use serde_json::json;

use crate::cli::Show;
use crate::exit::Exit;
use crate::spec_file;

/// Prints `{name, id, chainType, keys, genesisHash, stateRoot, specHash}`, as lines or as JSON.
pub fn show(show: &Show, out: &mut impl Write) -> anyhow::Result<Exit> {
    let spec = spec_file::load(&show.chain)?;
    // Larger tables take longer to build than they save in a genesis of thousands of keys.
    let state_root = spec.state_root(&Committer::new(WindowBits::SMALL));
    let genesis_hash = spec.genesis_hash(&state_root);
    let spec_hash = spec.spec_hash(&genesis_hash);
    let genesis_hash = const_hex::encode_prefixed(genesis_hash);
    let spec_hash = const_hex::encode_prefixed(spec_hash);
    let keys = spec.genesis().len();
    if show.json {
        let shown = json!({
            "name": spec.name(), "id": spec.id(), "chainType": spec.chain_type(), "keys": keys,
            "genesisHash": genesis_hash, "stateRoot": state_root.to_string(), "specHash": spec_hash,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
    } else {
        writeln!(out, "name          {}", spec.name())?;
        writeln!(out, "id            {}", spec.id())?;
        writeln!(out, "chain type    {}", spec.chain_type())?;
        writeln!(out, "keys          {keys}")?;
        writeln!(out, "genesis hash  {genesis_hash}")?;
        writeln!(out, "state root    {state_root}")?;
        writeln!(out, "spec hash     {spec_hash}")?;
    }
    Ok(Exit::Done)
}
