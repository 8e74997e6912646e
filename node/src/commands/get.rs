//! `rustorium get`: the value of one key, from a node, believed or verified.

use std::io::Write;

use rustorium_rpc::StateApiClient as _;
use rustorium_rpc::wire::HexBytes;

use super::client::ask;
use super::witness::verify_bundle;
use crate::cli::{Get, Key};
use crate::exit::{Exit, OrExit as _};

/// Prints the value; [`Exit::Absent`] and nothing printed when there is none. With `--witness` a second line says what
/// was verified (on stderr with `--raw`, so that stdout has the value's bytes and nothing else).
pub fn get(get: Get, out: &mut impl Write) -> anyhow::Result<Exit> {
    let Get { key, witness, raw, remote } = get;
    let (value, verified) = if witness {
        let asked = vec![HexBytes(key.0.clone())];
        let bundle = ask(&remote.url, async |client| client.witness(asked, Some(remote.at)).await)?;
        // The key is ours, only the value is the node's word; the claim must be for what was asked.
        let value = match &bundle.claims[..] {
            [(claimed, value)] if claimed.0 == key.0 => value.clone(),
            _ => return Err(Exit::BadData.error(format!("{}: the claims are not for the key asked", remote.url))),
        };
        verify_bundle(&bundle, None).or_exit(Exit::BadData)?;
        let (number, block, root) = (bundle.block_number, bundle.block_hash, bundle.state_root);
        let what = if value.is_some() { "value" } else { "absence" };
        let trust = "(from the node, not trusted)";
        (value, Some(format!("verified: {what} at block {number} {block}, state root {root} {trust}")))
    } else {
        let Key(key) = key;
        (ask(&remote.url, async |client| client.storage(HexBytes(key), Some(remote.at)).await)?, None)
    };
    match &value {
        Some(value) if raw => out.write_all(&value.0)?,
        Some(value) => writeln!(out, "{value}")?,
        None => {}
    }
    match verified {
        Some(line) if raw => writeln!(std::io::stderr(), "{line}")?,
        Some(line) => writeln!(out, "{line}")?,
        None => {}
    }
    Ok(if value.is_some() { Exit::Done } else { Exit::Absent })
}
