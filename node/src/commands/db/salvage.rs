//! A store of which blocks do not read: what does is copied into a new one, which is mended and takes its place.
//!
//! The damaged store is read and never written. The copy becomes the store only when it is proven to hold a block's state:
//! by renames that the next opening of the data directory finishes (`base_path.rs`), whatever comes between.

use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Context as _;
use rustorium_state::backend::{BackendError, Rocks, RocksConfig};
use rustorium_state::{Cure, Deed, Finding, Repair, Report, Stage};

use super::progress::Bar;
use super::{Store, damaged_or};
use crate::exit::{Exit, OrExit as _};

impl Store {
    /// Copies, mends and swaps. `found` is what was wrong with the store, if it opens.
    pub(super) fn repair_copy(&self, found: Option<Report>, bar: &mut Bar) -> anyhow::Result<Repair> {
        let (db, copy) = (self.db(), self.base_path.copy());
        let cannot = || format!("cannot make {}", copy.display());
        if copy.exists() {
            fs::remove_dir_all(&copy).with_context(cannot).or_exit(Exit::CannotCreate)?;
        }
        let config = RocksConfig::default();
        let salvaged = Rocks::salvage(&db, &copy, &config, &mut |salvaged| {
            let rows = salvaged.rows.iter().sum();
            bar.show(Stage { what: "copying what can be read", rows, part: None });
            ControlFlow::Continue(())
        });
        let salvaged = match salvaged {
            Ok(salvaged) => salvaged.expect("nobody breaks it off"),
            Err(BackendError::Damaged { what, .. }) => {
                let mut left = found.unwrap_or_default();
                left.find(Finding {
                    column: rustorium_state::backend::Column::Meta,
                    row: "the files that name the others".to_owned(),
                    what,
                    cure: Cure::Resync,
                });
                return Ok(Repair { found: left.clone(), done: Vec::new(), left });
            }
            Err(error) => return Err(damaged_or(error, &db)),
        };
        let backend = Rocks::open(&copy, &config).map_err(|error| damaged_or(error, &copy))?;
        let mut repair = self.repair_backend(Arc::new(backend), bar)?;
        let mut lost = found.unwrap_or_default();
        for range in salvaged.lost {
            let key = |key: Option<Vec<u8>>, end| key.map_or(end, |key| const_hex::encode_prefixed(&key));
            let row = format!(
                "rows between {} and {}",
                key(range.after, "the first".to_owned()),
                key(range.before, "the last".to_owned())
            );
            lost.find(Finding { column: range.column, row, what: range.what, cure: Cure::Copy });
        }
        for finding in std::mem::take(&mut repair.found.findings) {
            lost.find(finding);
        }
        repair.found = lost;
        if repair.left.is_sound() {
            let rows = salvaged.rows.iter().sum();
            self.base_path.swap_in_copy()?;
            repair.done.insert(0, Deed::Copied { rows });
        } else {
            fs::remove_dir_all(&copy).with_context(cannot).or_exit(Exit::CannotCreate)?;
            // The copy is gone, and with it what was done to it.
            repair.done.clear();
        }
        Ok(repair)
    }
}
