//! The daemon: wires store, writer and listeners as a [`Config`] says, and ends them in order.

use crate::config::Config;

/// Runs a node until it is told to stop.
pub fn run(config: Config) -> anyhow::Result<()> {
    let _ = config;
    anyhow::bail!("this build has no daemon yet")
}
