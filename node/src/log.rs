//! What the program says about itself: `tracing` events, to stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::cli::{LogFormat, Verbosity};

/// Starts logging. `RUST_LOG` counts when it is set, else `-v` and `-q`. A daemon tells more than a command that answers
/// one question.
pub(crate) fn start(verbosity: Verbosity, daemon: bool, format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(&directives)
            .map_err(|error| anyhow::anyhow!("RUST_LOG={directives:?} is not a filter: {error}"))?,
        _ => EnvFilter::new(directives(verbosity.steps() + i16::from(daemon))),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(verbosity.steps() > 0);
    // Fails only where another subscriber was set before, which then serves as well.
    let _ = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// The filter so many steps above warnings. Our own crates speak a step before those of others.
fn directives(steps: i16) -> &'static str {
    match steps {
        ..=-2 => "off",
        -1 => "error",
        0 => "warn",
        1 => "warn,rustorium=info",
        2 => "info,rustorium=debug",
        3 => "debug,rustorium=trace",
        4.. => "trace",
    }
}
