//! Changes that a front has acknowledged and that are in no block yet: each row must decode. One that does not is dropped
//! by a repair with those after it, since they may have been made in sight of it.

use crate::backend::{Bounds, Column};
use crate::error::ReadError;
use crate::storage::log;

use super::{Cure, Cursor, Finding, Mends, Report, Rows};

/// Rows that are read at once; one may be large.
const PAGE_ROWS: usize = 16;

pub(super) fn check(rows: Rows<'_>, mends: &mut Mends, report: &mut Report) -> Result<(), ReadError> {
    let mut cursor = Cursor::new(rows.snapshot, Column::Aux, Bounds::all(), PAGE_ROWS);
    let mut is_broken = false;
    while let Some((key, value)) = cursor.next()? {
        if !log::bounds().holds(&key) {
            report.find(Finding::of_key(Column::Aux, &key, "a row that belongs to nothing", Cure::Mend));
            mends.delete(Column::Aux, &key);
            continue;
        }
        match log::decode(&key, &value) {
            Ok((_, changes)) if !is_broken => report.pending += changes.len() as u64,
            Ok((sequence, _)) => {
                let what = format!("acknowledged changes, row {sequence}: they follow some that are lost");
                report.find(Finding::of_key(Column::Aux, &key, what, Cure::Rewind));
                mends.drop_row(Column::Aux, &key);
            }
            Err(what) => {
                is_broken = true;
                report.find(Finding::of_key(Column::Aux, &key, what, Cure::Rewind));
                mends.drop_row(Column::Aux, &key);
            }
        }
    }
    Ok(())
}
