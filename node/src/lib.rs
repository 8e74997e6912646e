//! The `rustorium` program: command line, configuration, and the wiring of the rooms below. Adapters and policy, no
//! algorithm.
//!
//! [`cli`] turns the command line into one command. A daemon's [`settings`], from flags, variables and a file, become one
//! valid [`config::Config`] before anything starts, and [`run`] wires it. The other [`commands`] are one question and one answer each: answers go to stdout, all
//! else (what happens, what went wrong) to stderr, and the verdict is the exit code ([`exit::Exit`]).
#![forbid(unsafe_code)]

pub mod base_path;
pub mod cli;
pub mod commands;
pub mod config;
pub mod exit;
mod log;
pub mod run;
pub mod settings;
mod spec_file;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::ArgMatches;

use crate::cli::{ChainSpecCommand, Cli, Command, DbCommand, LogFormat, StateCommand, Verbosity, WitnessCommand};
use crate::config::{Config, Environment};
use crate::exit::{Exit, OrExit};

/// The program: reads the process' arguments, does what they say, and answers the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as errors too, for stdout. A closed pipe is nobody's trouble.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    match dispatch(cli, &mut io::stdout().lock()) {
        Ok(exit) => exit.into(),
        Err(error) if is_closed_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            let _ = writeln!(io::stderr(), "rustorium: {}", exit::report(&error));
            Exit::of(&error).into()
        }
    }
}

fn dispatch(cli: Cli, out: &mut impl Write) -> anyhow::Result<Exit> {
    if !matches!(cli.command, Command::Run(_)) {
        log::start(cli.verbosity, false, LogFormat::Text).or_exit(Exit::Config)?;
    }
    let exit = match cli.command {
        Command::Run(_) => daemon(cli.verbosity, &cli.flags)?,
        Command::ChainSpec { command: ChainSpecCommand::Show(show) } => commands::chain_spec::show(&show, out)?,
        Command::Get(get) => commands::get::get(get, out)?,
        Command::Witness { command } => match command {
            WitnessCommand::Get(get) => commands::witness::get(get, out)?,
            WitnessCommand::Verify(verify) => commands::witness::verify(&verify, out)?,
            WitnessCommand::UpdateGet(get) => commands::witness::update::get(get, out)?,
            WitnessCommand::UpdateVerify(verify) => commands::witness::update::verify(&verify, out)?,
        },
        Command::Db { command: DbCommand::Check(check) } => commands::db::check(&check, out)?,
        Command::Db { command: DbCommand::Stats(store) } => commands::db::stats(&store, out)?,
        Command::Db { command: DbCommand::Compact(store) } => commands::db::compact(&store, out)?,
        Command::Db { command: DbCommand::Rollback(rollback) } => commands::db::rollback(&rollback, out)?,
        Command::State { command: StateCommand::Export(export) } => commands::state::export(&export, out)?,
        Command::State { command: StateCommand::Import(import) } => commands::state::import(&import, out)?,
        Command::Version => commands::version::version(out)?,
    };
    out.flush()?;
    Ok(exit)
}

fn daemon(verbosity: Verbosity, flags: &ArgMatches) -> anyhow::Result<Exit> {
    let environment = Environment::of_process();
    let run = settings::gather(flags, &environment)?;
    let format = run.log_format.unwrap_or_default();
    log::start(verbosity, true, format).or_exit(Exit::Config)?;
    match Config::new(run, &environment).and_then(run::run) {
        Ok(()) => Ok(Exit::Done),
        // Whoever reads JSON reads no plain line after it.
        Err(error) if format == LogFormat::Json => {
            tracing::error!(error = exit::report(&error), "rustorium failed");
            Ok(Exit::of(&error))
        }
        Err(error) => Err(error),
    }
}

/// Whether whoever read our answer had enough of it, as `head` has.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind));
    kinds.into_iter().any(|kind| kind == io::ErrorKind::BrokenPipe)
}
