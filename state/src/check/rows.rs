//! Rows in the order of their keys, a page at a time, and those that belong to nothing.

use crate::backend::{Bounds, Column, Snapshot};
use crate::error::ReadError;
use crate::staging;

use super::{Cure, Depth, Finding, Means, Report, Rows, Stage};

/// Rows read at a time.
pub(crate) const PAGE_ROWS: usize = 8192;
/// Bytes read at a time.
pub(crate) const PAGE_BYTES: usize = 16 << 20;

/// A key and a value of the backend.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// The rows of a column within bounds, one after the other.
pub(crate) struct Cursor<'a> {
    snapshot: &'a dyn Snapshot,
    column: Column,
    rows_max: usize,
    /// What is not read yet.
    rest: Option<Bounds>,
    page: std::iter::Peekable<std::vec::IntoIter<Row>>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(snapshot: &'a dyn Snapshot, column: Column, bounds: Bounds, rows_max: usize) -> Self {
        let rest = Some(bounds).filter(|bounds| !bounds.is_empty());
        Self { snapshot, column, rows_max, rest, page: Vec::new().into_iter().peekable() }
    }

    /// The next row, which stays where it is.
    pub(crate) fn peek(&mut self) -> Result<Option<&Row>, ReadError> {
        self.fill()?;
        Ok(self.page.peek())
    }

    pub(crate) fn next(&mut self) -> Result<Option<Row>, ReadError> {
        self.fill()?;
        Ok(self.page.next())
    }

    /// The rows of the next page; none at the end.
    pub(crate) fn page(&mut self) -> Result<Vec<Row>, ReadError> {
        self.fill()?;
        Ok(self.page.by_ref().collect())
    }

    /// The value of the row with this key; rows before it go to `skipped`.
    pub(crate) fn seek(&mut self, key: &[u8], mut skipped: impl FnMut(Row)) -> Result<Option<Vec<u8>>, ReadError> {
        loop {
            match self.peek()? {
                Some((found, _)) if found.as_slice() <= key => {}
                _ => return Ok(None),
            }
            let (found, value) = self.next()?.expect("a row was peeked at");
            if found == key {
                return Ok(Some(value));
            }
            skipped((found, value));
        }
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        if self.page.peek().is_none()
            && let Some(bounds) = self.rest.take()
        {
            let found = self.snapshot.range(self.column, &bounds, self.rows_max, PAGE_BYTES)?;
            if let Some((key, _)) = found.rows.last().filter(|_| found.more) {
                self.rest = Some(bounds.after(key));
            }
            self.page = found.rows.into_iter().peekable();
        }
        Ok(())
    }
}

/// Rows where the format has none: of a generation that is not the live one, or in a column that is not used. In depth
/// the columns that nothing else reads are read to their ends.
pub(super) fn check_strays(
    rows: Rows<'_>,
    depth: Depth,
    means: &mut Means<'_>,
    report: &mut Report,
) -> Result<(), ReadError> {
    (means.progress)(Stage { what: "looking for rows that belong to nothing", rows: 0, part: None });
    // An import that was broken off goes on with what it has.
    let imported = staging::imported(rows.snapshot)?;
    for column in staging::COLUMNS {
        if let Some(key) =
            staging::others(rows.snapshot, column, &[Some(rows.generation), imported])?.into_iter().next()
        {
            let what = match key.first() {
                Some(generation) => format!("rows of generation {generation}, which is not the live one"),
                None => "a row with an empty key".to_owned(),
            };
            report.find(Finding::of_key(column, &key, what, Cure::Mend));
        }
    }
    if depth == Depth::Deep {
        let mut cursor = Cursor::new(rows.snapshot, Column::Meta, Bounds::all(), PAGE_ROWS);
        while cursor.next()?.is_some() {}
    }
    Ok(())
}
