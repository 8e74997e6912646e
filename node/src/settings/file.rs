//! The configuration file: TOML, one key a setting, no tables.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{Kind, Place, Setting};
use crate::exit::{Exit, OrExit as _};

/// A longer file is refused; all settings take a page.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The settings in a file, as its author wrote them; whether they are any is for [`Setting::apply`] to say.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Setting>> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    read.with_context(|| format!("cannot read the configuration {}", path.display())).or_exit(Exit::NoInput)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let message = format!("the configuration {} is longer than {FILE_BYTES_MAX} bytes", path.display());
        return Err(Exit::Config.error(message));
    }
    let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let table = DeTable::parse(&text).map_err(|error| {
        let line = line(error.span().map_or(0, |span| span.start));
        Exit::Config.error(format!("{}:{line}: not TOML: {}", path.display(), error.message()))
    })?;
    let setting = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
        let (text, kind) = match value.get_ref() {
            DeValue::String(text) => (text.to_string(), Kind::Quoted),
            DeValue::Boolean(truth) => (truth.to_string(), Kind::Bare),
            DeValue::Integer(number) => {
                let decimal = i64::from_str_radix(number.as_str(), number.radix());
                (decimal.map_or(number.to_string(), |number| number.to_string()), Kind::Bare)
            }
            _ => (String::new(), Kind::Other),
        };
        let place = Place::Line { file: path.to_owned(), line: line(key.span().start), kind };
        Setting { name: key.get_ref().to_string(), text: text.into(), place }
    };
    Ok(table.get_ref().iter().map(setting).collect())
}
