//! `rustorium version`.

use std::io::Write;

use crate::exit::Exit;

/// Prints `rustorium` and the version.
pub fn version(out: &mut impl Write) -> anyhow::Result<Exit> {
    writeln!(out, "rustorium {}", env!("CARGO_PKG_VERSION"))?;
    Ok(Exit::Done)
}
