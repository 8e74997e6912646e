//! How the program ends: one exit code for each kind of ending, after BSD's `sysexits.h`.
//!
//! A command chooses its code where it knows the reason, by [`OrExit::or_exit`] on the way up; [`Exit::of`] finds it
//! again at the top, through any context that was added since.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// What was asked for is not there (`get`).
    Absent = 1,
    /// The command line is wrong.
    Usage = 64,
    /// The input is wrong: a witness that proves nothing, a file that is no chain spec.
    BadData = 65,
    /// An input file cannot be read.
    NoInput = 66,
    /// A node cannot be reached, or does not answer as one.
    Unavailable = 69,
    /// Something that should not happen; also what nobody gave a code to.
    Internal = 70,
    /// A file or folder cannot be created.
    CannotCreate = 73,
    /// It may well work later: another process holds the lock, the node is busy.
    Temporary = 75,
    /// The configuration is wrong, or the data directory is a newer program's or another chain's.
    Config = 78,
}

impl Exit {
    /// The code that was chosen for an error: the outermost choice counts.
    pub fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(|cause| cause.downcast_ref::<Failure>()).map_or(Self::Internal, |failure| failure.exit)
    }

    /// An error with this code.
    pub fn error(self, message: impl fmt::Display) -> anyhow::Error {
        Failure { exit: self, error: anyhow::Error::msg(message.to_string()) }.into()
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Chooses the exit code of an error.
pub trait OrExit<T> {
    /// The same, with this exit code; what the error says does not change.
    fn or_exit(self, exit: Exit) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> anyhow::Result<T> {
        self.map_err(|error| Failure { exit, error: error.into() }.into())
    }
}

/// An error's causes in one line, outermost first. A cause that its effect has quoted is not said again.
pub fn report(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// An error and the code chosen for it. Says what the error says.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // Not `source` of the error: the error itself is shown in our place, but must be there to be downcast to.
        Some(self.error.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_code_survives_context_and_the_outermost_counts() {
        let io = || Err::<(), _>(std::io::Error::other("disk on fire"));
        let error = io().context("opening db").or_exit(Exit::CannotCreate).context("starting").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::CannotCreate);
        assert_eq!(report(&error), "starting: opening db: disk on fire");
        assert!(error.chain().any(|cause| cause.is::<std::io::Error>()));
        let error = Err::<(), _>(error).or_exit(Exit::Config).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Config);
        assert_eq!(report(&error), "starting: opening db: disk on fire");
        assert_eq!(Exit::of(&io().context("opening db").unwrap_err()), Exit::Internal);
        assert_eq!(Exit::of(&Exit::Usage.error("no such flag")), Exit::Usage);
    }

    #[test]
    fn a_cause_that_was_quoted_is_not_repeated() {
        let cause = std::io::Error::other("no room");
        let error = anyhow::Error::new(cause).context("cannot write: no room");
        assert_eq!(report(&error), "cannot write: no room");
    }

    #[test]
    fn codes_are_those_of_sysexits() {
        let codes = [Exit::Usage, Exit::BadData, Exit::Unavailable, Exit::CannotCreate, Exit::Temporary, Exit::Config];
        assert_eq!(codes.map(|exit| exit as u8), [64, 65, 69, 73, 75, 78]);
    }
}
