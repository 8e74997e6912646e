//! The data directory: `<base-path>/{LOCK, engine.jwt, db/}`, one process at a time.
//!
//! The lock is the operating system's, on the open file `LOCK`: it ends with the process however that ends, and a file
//! left behind means nothing. The content of `LOCK` only tells people who holds it.
//!
//! A repair may leave `db.copy`, which is unfinished, `db.mended`, which is to be `db`, and `db.damaged`, which was:
//! whoever takes the lock next finishes that.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::config::Place;
use crate::exit::{Exit, OrExit as _};

/// A data directory is its user's alone: the secret of the privileged listener lies in it.
const MODE: u32 = 0o700;
/// Bytes of `LOCK` that are written, and that are read.
const LOCK_BYTES_MAX: u64 = 1024;

/// A data directory that this process holds. Dropped, it is let go, and removed if it was temporary.
#[derive(Debug)]
pub struct BasePath {
    path: PathBuf,
    // In the order of dropping: the lock is let go before a temporary folder is removed.
    _lock: File,
    temporary: Option<TempDir>,
}

impl BasePath {
    /// Makes the directory if it is not there, private to the user, and takes its lock.
    ///
    /// # Errors
    /// [`Exit::CannotCreate`] when the directory or its lock cannot be made, [`Exit::Temporary`] when another process
    /// holds it; the error names the holder.
    pub fn open(place: &Place) -> anyhow::Result<Self> {
        let temporary = match place {
            Place::Kept(_) => None,
            Place::Temporary => {
                let private = Permissions::from_mode(MODE);
                let made = tempfile::Builder::new().prefix("rustorium-dev-").permissions(private).tempdir();
                Some(made.context("cannot create a temporary base path").or_exit(Exit::CannotCreate)?)
            }
        };
        let path = match place {
            Place::Kept(path) => path.clone(),
            Place::Temporary => temporary.as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default(),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(MODE)
            .create(&path)
            .with_context(|| format!("cannot create the base path {}", path.display()))
            .or_exit(Exit::CannotCreate)?;
        Self::locked(path, temporary)
    }

    /// Takes the lock of a directory that is there.
    ///
    /// # Errors
    /// As [`BasePath::open`].
    pub fn open_kept(path: &Path) -> anyhow::Result<Self> {
        Self::locked(path.to_owned(), None)
    }

    fn locked(path: PathBuf, temporary: Option<TempDir>) -> anyhow::Result<Self> {
        let lock = lock(&path.join("LOCK"))?;
        let base_path = Self { path, _lock: lock, temporary };
        base_path.finish_swap().context("cannot finish a repair of the store").or_exit(Exit::CannotCreate)?;
        Ok(base_path)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the secret of the privileged listener is kept.
    pub fn jwt(&self) -> PathBuf {
        self.path.join("engine.jwt")
    }

    /// The store's directory. Making it is the store's business.
    pub fn db(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Where a repair copies the store to.
    pub fn copy(&self) -> PathBuf {
        self.path.join("db.copy")
    }

    /// Puts the copy, which is mended, in the place of the store.
    ///
    /// # Errors
    /// [`Exit::CannotCreate`]; the next opening finishes what was begun.
    pub fn swap_in_copy(&self) -> anyhow::Result<()> {
        let swapped = fs::rename(self.copy(), self.path.join("db.mended")).and_then(|()| self.finish_swap());
        swapped.context("cannot put the mended store in its place").or_exit(Exit::CannotCreate)
    }

    /// Carries on where a repair was broken off: what is called mended is whole and takes the store's place.
    fn finish_swap(&self) -> io::Result<()> {
        let (db, mended, damaged) = (self.db(), self.path.join("db.mended"), self.path.join("db.damaged"));
        if mended.exists() {
            if db.exists() {
                if damaged.exists() {
                    fs::remove_dir_all(&damaged)?;
                }
                fs::rename(&db, &damaged)?;
            }
            fs::rename(&mended, &db)?;
            File::open(&self.path)?.sync_all()?;
        }
        // The store is in its place before anything of the damaged one goes.
        if db.exists() && damaged.exists() {
            fs::remove_dir_all(&damaged)?;
        }
        Ok(())
    }

    /// Whether it goes when this value does.
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }
}

/// Who holds a lock, as `LOCK` has it: one line, `pid 123: rustorium run …`.
struct Holder(String);

impl Holder {
    fn this_process() -> Self {
        let command: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        Self::cut(&format!("pid {}: {}", std::process::id(), command.join(" ")))
    }

    /// What the file says; another process wrote it, so what a terminal would obey is left out.
    fn of(file: &File) -> Self {
        let mut bytes = Vec::new();
        match file.take(LOCK_BYTES_MAX).read_to_end(&mut bytes) {
            // It may be between locking and writing.
            Ok(0) | Err(_) => Self("unknown".to_owned()),
            Ok(_) => Self::cut(&String::from_utf8_lossy(&bytes)),
        }
    }

    fn cut(text: &str) -> Self {
        // Counted in characters of up to four bytes, so that a line written here is read here whole.
        Self(text.chars().filter(|c| !c.is_control()).take(LOCK_BYTES_MAX as usize / 4 - 1).collect())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let cannot = || format!("cannot lock the base path by {}", path.display());
    let mut options = OpenOptions::new();
    // Not truncated: until the lock is ours, the content is another's.
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).with_context(cannot).or_exit(Exit::CannotCreate)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let folder = path.parent().unwrap_or(path).display().to_string();
            let holder = Holder::of(&file);
            return Err(
                Exit::Temporary.error(format!("the base path {folder} is in use by another process ({holder})"))
            );
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(cannot).or_exit(Exit::CannotCreate),
    }
    write_holder(&file).with_context(cannot).or_exit(Exit::CannotCreate)?;
    Ok(file)
}

fn write_holder(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", Holder::this_process())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_private_and_laid_out_as_documented() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/down");
        let base_path = BasePath::open(&Place::Kept(path.clone())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(base_path.path(), path);
        assert_eq!((base_path.jwt(), base_path.db()), (path.join("engine.jwt"), path.join("db")));
        assert!(!base_path.is_temporary());
        drop(base_path);
        assert!(path.join("LOCK").exists());
    }

    #[test]
    fn a_second_opening_is_told_who_was_first() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Kept(folder.path().to_owned());
        // A longer content that was left behind means nothing.
        fs::write(folder.path().join("LOCK"), "x".repeat(5000)).unwrap();
        let first = BasePath::open(&place).unwrap();
        let error = BasePath::open(&place).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Temporary);
        let holder = Holder::this_process();
        assert!(holder.to_string().starts_with(&format!("pid {}: ", std::process::id())));
        let expected = format!("the base path {} is in use by another process ({holder})", folder.path().display());
        assert_eq!(error.to_string(), expected);
        drop(first);
        BasePath::open(&place).unwrap();
    }

    #[test]
    fn a_temporary_directory_goes_with_its_value() {
        let base_path = BasePath::open(&Place::Temporary).unwrap();
        let path = base_path.path().to_owned();
        assert!(base_path.is_temporary() && path.join("LOCK").exists());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(base_path);
        assert!(!path.exists());
    }

    /// Whatever step of the renames was the last, the mended store is in place after the next opening.
    #[test]
    fn a_swap_that_was_broken_off_is_finished() {
        for there in [&["db.copy"][..], &["db.mended", "db"], &["db.mended", "db.damaged"], &["db", "db.damaged"]] {
            let folder = tempfile::tempdir().unwrap();
            for name in there {
                let path = folder.path().join(name);
                fs::create_dir(&path).unwrap();
                fs::write(path.join("name"), name).unwrap();
            }
            let base_path = BasePath::open_kept(folder.path()).unwrap();
            if base_path.copy().exists() {
                fs::create_dir(base_path.db()).unwrap();
                base_path.swap_in_copy().unwrap();
            }
            let right = there[0];
            assert_eq!(fs::read_to_string(base_path.db().join("name")).unwrap(), right, "{there:?}");
            let mut left: Vec<_> =
                fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            left.sort();
            assert_eq!(left, ["LOCK", "db"], "{there:?}");
        }
    }

    #[test]
    fn what_cannot_be_created_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = BasePath::open(&Place::Kept(path.clone())).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::CannotCreate);
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }

    #[test]
    fn a_holders_line_does_not_command_the_terminal() {
        assert_eq!(Holder::cut("pid 1: \x1b[2Jrustorium\n").to_string(), "pid 1: [2Jrustorium");
        assert!(Holder::cut(&"é".repeat(5000)).0.len() < LOCK_BYTES_MAX as usize);
    }
}
