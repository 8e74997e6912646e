//! The settings of `run` from all places where they may stand: a flag wins over its environment variable, that over the
//! configuration file, that over the default.
//!
//! The flags ([`Run`]) are the only list. `--rpc-port` is the variable `RUSTORIUM_RPC_PORT` and the key `rpc-port` of the
//! file, and the flag's own parser judges what stands there, also where something else wins over it. Whatever is not a
//! flag is refused with the nearest that is one.

mod file;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, Args as _, FromArgMatches as _};

use crate::cli::Run;
use crate::config::Environment;
use crate::exit::Exit;

/// How the variables begin that are ours.
pub(crate) const PREFIX: &str = "RUSTORIUM_";
/// Variables that begin so and are none of a node's settings: those of this repository's Makefile and tests.
const OTHERS: &[&str] = &["SEED", "DATA", "CRASHES", "SMALL_DISK", "TARGET_DIR", "TORTURE_SECONDS"];
/// Those of tests begin so.
const OTHERS_PREFIX: &str = "TEST_";

/// The settings that all places together ask for.
///
/// # Errors
/// [`Exit::Config`], naming the variable, or the file and the line; [`Exit::NoInput`] when the file cannot be read.
pub fn gather(flags: &ArgMatches, environment: &Environment) -> anyhow::Result<Run> {
    let given = Run::from_arg_matches(flags)?;
    let mut of_environment = Run::default();
    let variables: Vec<Setting> = environment.settings.iter().filter_map(Setting::of_variable).collect();
    for variable in &variables {
        variable.apply(&mut of_environment)?;
    }
    let Some(path) = given.config.or(of_environment.config) else { return layered(&variables, flags) };
    let mut settings = file::read(&path)?;
    settings.extend(variables);
    layered(&settings, flags)
}

/// Later ones win, the flags last.
fn layered(settings: &[Setting], flags: &ArgMatches) -> anyhow::Result<Run> {
    let mut run = Run::default();
    for setting in settings {
        setting.apply(&mut run)?;
    }
    run.update_from_arg_matches(flags)?;
    Ok(run)
}

/// A setting that does not come from the command line.
struct Setting {
    /// The flag's, without dashes before it.
    name: String,
    text: OsString,
    place: Place,
}

/// Where a setting stands.
enum Place {
    Variable,
    Line { file: PathBuf, line: usize, kind: Kind },
}

/// What a value looks like in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Between quotes.
    Quoted,
    /// A number, `true` or `false`.
    Bare,
    /// A table, a list, a fraction or a date: nothing that a setting can be.
    Other,
}

impl Setting {
    /// `None` for what is not meant for us. An empty one counts as none.
    fn of_variable((name, text): &(String, OsString)) -> Option<Self> {
        let name = name.strip_prefix(PREFIX)?;
        if OTHERS.contains(&name) || name.starts_with(OTHERS_PREFIX) || text.is_empty() {
            return None;
        }
        Some(Self { name: dashed(name), text: text.clone(), place: Place::Variable })
    }

    /// Sets it, whatever it was before.
    fn apply(&self, run: &mut Run) -> anyhow::Result<()> {
        if !flags().get_arguments().any(|flag| flag.get_long() == Some(self.name.as_str())) {
            return Err(self.unknown());
        }
        if self.name == "config" && matches!(self.place, Place::Line { .. }) {
            return Err(Exit::Config.error(format!("{self}: a file cannot name another")));
        }
        self.check_kind().map_err(|why| Exit::Config.error(format!("{self}: {why}")))?;
        let refusal = |error| Exit::Config.error(format!("{self}: {:?} {}", self.text, reason(&error)));
        run.update_from_arg_matches(&self.parse(&self.text).map_err(refusal)?)?;
        Ok(())
    }

    /// As if it were this flag with this text.
    fn parse(&self, text: &OsStr) -> Result<ArgMatches, clap::Error> {
        let mut argument = OsString::from(format!("--{}=", self.name));
        argument.push(text);
        flags().try_get_matches_from([argument])
    }

    /// Text stands between quotes in a file, and numbers and truths do not.
    fn check_kind(&self) -> Result<(), String> {
        let Place::Line { kind, .. } = self.place else { return Ok(()) };
        let any_text = self.parse(OsStr::new("?")).is_ok();
        let bare = self.text.to_str().is_some_and(|text| text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok());
        match kind {
            Kind::Bare if any_text => Err(format!("{:?} is no text, put it in quotes", self.text)),
            Kind::Quoted if bare && !any_text => Err(format!("{:?} is a text, leave the quotes out", self.text)),
            Kind::Other => Err("a setting is one text, whole number, true or false".into()),
            _ => Ok(()),
        }
    }

    fn unknown(&self) -> anyhow::Error {
        let suggested = self.parse(OsStr::new("?")).err();
        let nearest = suggested.as_ref().and_then(|error| match error.get(ContextKind::SuggestedArg) {
            Some(ContextValue::String(flag)) => Some(flag.trim_start_matches('-')),
            _ => None,
        });
        let nearest = nearest.map(|flag| match self.place {
            Place::Variable => format!(", did you mean {}?", variable(flag)),
            Place::Line { .. } => format!(", did you mean {flag}?"),
        });
        Exit::Config.error(format!("{self}: there is no such setting{}", nearest.unwrap_or_default()))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Variable => f.write_str(&variable(&self.name)),
            // A key is foreign text of any length, and may hold what a terminal would obey.
            Place::Line { file, line, .. } => {
                write!(f, "{}:{line}: {:.64}", file.display(), self.name.escape_debug().to_string())
            }
        }
    }
}

/// What is wrong with the value of a flag, without the flag.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = std::error::Error::source(error) {
        return format!("will not do: {source}");
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(valid)) if !valid.is_empty() => format!("is none of {}", valid.join(", ")),
        _ => format!("will not do: {}", error.kind()),
    }
}

/// A command that knows the flags of `run` and nothing else.
fn flags() -> clap::Command {
    Run::augment_args(clap::Command::new("run")).no_binary_name(true).disable_help_flag(true)
}

fn dashed(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn variable(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_ascii_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests;
