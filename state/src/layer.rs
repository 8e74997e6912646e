//! Blocks that are applied and not in the columns yet: each is the batch of rows that would put it there.
//!
//! A [`Stack`] lies over a snapshot ([`Stack::over`]) and is read as if its batches were written: newest first, a key at a
//! time or in order. It shares what it has with the stack that it grew from, so that forks cost their own rows, and it
//! merges runs of neighbouring blocks as they add up, so that a read looks into a few of them, however many blocks lie
//! above the snapshot: at most [`FAN_OUT`] − 1 of each size. Nothing here ever changes; rows are never copied.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use rustorium_verkle::{NodePath, Point};

use crate::backend::{BackendError, Batch, Bounds, Column, Op, Page, Rows, Snapshot, assert_ascending};
use crate::schema::{Generation, decode_node};

/// So many runs of one size become one of the next.
const FAN_OUT: usize = 4;
/// Rows of the snapshot that are looked at together when layers lie over them.
const PAGE_ROWS: usize = 1024;

/// The rows of one block or of several that follow each other, of each key the newest; in the order of their keys.
pub(crate) struct Run {
    /// Where the rows are.
    sources: Vec<Arc<Batch>>,
    columns: [Vec<Place>; Column::ALL.len()],
    /// The numbers of the first and the last block.
    blocks: (u64, u64),
    /// How often it was merged.
    height: u32,
}

/// Where a row is, and how its key begins.
#[derive(Clone, Copy)]
struct Place {
    prefix: u64,
    source: u32,
    row: u32,
}

impl Run {
    /// The rows of block `number`: puts and deletes, no ranges.
    pub(crate) fn new(number: u64, rows: Arc<Batch>) -> Self {
        let mut columns: [Vec<Place>; Column::ALL.len()] = Default::default();
        for (index, op) in rows.ops().enumerate() {
            let (column, key, _) = row(op);
            columns[column as usize].push(Place { prefix: prefix(key), source: 0, row: index as u32 });
        }
        let mut run = Self { sources: vec![rows], columns, blocks: (number, number), height: 0 };
        run.sort();
        run
    }

    /// One run of several that follow each other, the newest first.
    pub(crate) fn merge(runs: &[Arc<Self>]) -> Self {
        let (newest, oldest) = (runs.first().expect("something to merge"), runs.last().expect("the same"));
        let mut sources = Vec::new();
        let mut columns: [Vec<Place>; Column::ALL.len()] = Default::default();
        for run in runs.iter().rev() {
            let base = sources.len() as u32;
            sources.extend(run.sources.iter().cloned());
            for (all, own) in columns.iter_mut().zip(&run.columns) {
                all.extend(own.iter().map(|place| Place { source: base + place.source, ..*place }));
            }
        }
        let height = runs.iter().map(|run| run.height).max().unwrap_or(0) + 1;
        let mut run = Self { sources, columns, blocks: (oldest.blocks.0, newest.blocks.1), height };
        run.sort();
        run
    }

    /// Orders the places by their keys; of one key the last stays.
    fn sort(&mut self) {
        let mut columns = std::mem::take(&mut self.columns);
        for places in &mut columns {
            // Stable, and quick where sorted pieces follow each other.
            places.sort_by(|a, b| self.compare(a, b.prefix, self.key(b)));
            places.reverse();
            places.dedup_by(|a, b| self.compare(a, b.prefix, self.key(b)).is_eq());
            places.reverse();
        }
        self.columns = columns;
    }

    /// The root commitment, if the rows change it.
    pub(crate) fn root(&self, generation: Generation) -> Result<Option<Point>, String> {
        let key = generation.node_key(&NodePath::ROOT);
        match self.find(Column::Node, &key) {
            Some(Some(value)) => Ok(Some(decode_node(&key, value)?.1.commitment)),
            Some(None) => Ok(Some(Point::INFINITY)),
            None => Ok(None),
        }
    }

    /// Rows of a column in the order of their keys: key and value, `None` for one that is deleted.
    pub(crate) fn rows(&self, column: Column) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.columns[column as usize].iter().map(|place| self.row(place))
    }

    fn row(&self, place: &Place) -> (&[u8], Option<&[u8]>) {
        let (_, key, value) = row(self.sources[place.source as usize].op(place.row as usize));
        (key, value)
    }

    fn key(&self, place: &Place) -> &[u8] {
        self.row(place).0
    }

    fn compare(&self, place: &Place, prefix: u64, key: &[u8]) -> Ordering {
        place.prefix.cmp(&prefix).then_with(|| self.key(place).cmp(key))
    }

    /// The row of a key: its value, or that it is deleted.
    pub(crate) fn find(&self, column: Column, key: &[u8]) -> Option<Option<&[u8]>> {
        let places = &self.columns[column as usize];
        let found = places.binary_search_by(|place| self.compare(place, prefix(key), key)).ok()?;
        Some(self.row(&places[found]).1)
    }

    /// The places of the keys within these bounds.
    fn range(&self, column: Column, bounds: &Bounds) -> &[Place] {
        let places = &self.columns[column as usize];
        let below = |key: &[u8]| places.partition_point(|place| self.compare(place, prefix(key), key).is_lt());
        let Range { start, end } = below(&bounds.start)..bounds.end.as_deref().map_or(places.len(), below);
        &places[start..end.max(start)]
    }
}

/// The first eight bytes of a key, as a number that orders as they do.
fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = key.len().min(8);
    bytes[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(bytes)
}

/// Column, key and value of a put, or of a delete, which has none.
fn row(op: Op<'_>) -> (Column, &[u8], Option<&[u8]>) {
    match op {
        Op::Put { column, key, value } => (column, key, Some(value)),
        Op::Delete { column, key } => (column, key, None),
        Op::DeleteRange { .. } => unreachable!("a block's rows name no ranges"),
    }
}

/// Runs that follow each other, the newest first.
#[derive(Clone, Default)]
pub(crate) struct Stack(Arc<[Arc<Run>]>);

impl Stack {
    /// This stack with a block's rows on top. Blocks up to `barrier` are on their way to the columns: they are not merged
    /// with later ones.
    pub(crate) fn push(&self, run: Arc<Run>, barrier: u64) -> Self {
        let mut runs: Vec<Arc<Run>> = std::iter::once(run).chain(self.0.iter().cloned()).collect();
        loop {
            let height = runs[0].height;
            let alike = runs.iter().take_while(|run| run.height == height && run.blocks.0 > barrier).count();
            if alike < FAN_OUT {
                return Self(runs.into());
            }
            let merged = Run::merge(&runs[..alike]);
            runs.splice(..alike, [Arc::new(merged)]);
        }
    }

    /// Without the runs that a snapshot at block `base` has in it. One that reaches beyond stays whole: what it says of
    /// earlier blocks it says of later ones, too.
    pub(crate) fn above(&self, base: u64) -> Self {
        Self(self.0.iter().filter(|run| run.blocks.1 > base).cloned().collect())
    }

    /// All of it as one run.
    pub(crate) fn merged(&self) -> Option<Run> {
        (!self.0.is_empty()).then(|| Run::merge(&self.0))
    }

    /// The snapshot as it would be with everything of this stack written.
    pub(crate) fn over(&self, base: Arc<dyn Snapshot>) -> Arc<dyn Snapshot> {
        match self.0.is_empty() {
            true => base,
            false => Arc::new(Layered { base, stack: self.clone() }),
        }
    }

    fn find(&self, column: Column, key: &[u8]) -> Option<Option<&[u8]>> {
        self.0.iter().find_map(|run| run.find(column, key))
    }

    /// The rows within these bounds.
    fn range(&self, column: Column, bounds: &Bounds) -> Merged<'_> {
        let parts = self.0.iter().map(|run| (&**run, run.range(column, bounds)));
        Merged { parts: parts.filter(|(_, places)| !places.is_empty()).collect() }
    }
}

/// Rows of several runs in the order of their keys; the newest first, which counts.
struct Merged<'a> {
    parts: Vec<(&'a Run, &'a [Place])>,
}

impl<'a> Merged<'a> {
    fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The least key that is left.
    fn key(&self) -> Option<&'a [u8]> {
        self.parts.iter().map(|(run, places)| run.key(&places[0])).min()
    }

    /// The row of this key, which is the least one; takes it away.
    fn take(&mut self, key: &[u8]) -> Option<&'a [u8]> {
        let mut value = None;
        for (run, places) in &mut self.parts {
            let (own, found) = run.row(&places[0]);
            if own == key {
                value.get_or_insert(found);
                *places = &places[1..];
            }
        }
        self.parts.retain(|(_, places)| !places.is_empty());
        value.flatten()
    }
}

/// A snapshot under a stack.
struct Layered {
    base: Arc<dyn Snapshot>,
    stack: Stack,
}

impl Layered {
    /// Merges a range of the snapshot with what lies over it, a page at a time.
    fn merge(
        &self,
        column: Column,
        bounds: &Bounds,
        mut over: Merged<'_>,
        page: &mut Page,
        bytes_max: usize,
    ) -> Result<(), BackendError> {
        // Rows may turn out to be deleted, so one more than asked for is no promise of enough.
        let rows_max = page.rows_max().saturating_add(1).min(PAGE_ROWS);
        let mut bounds = bounds.clone();
        loop {
            let found = self.base.range(column, &bounds, rows_max, bytes_max)?;
            for (key, value) in &found.rows {
                while let Some(before) = over.key().filter(|before| before < &key.as_slice()) {
                    if let Some(value) = over.take(before)
                        && !page.push(before, value)
                    {
                        return Ok(());
                    }
                }
                let value = match over.key() {
                    Some(same) if same == key.as_slice() => over.take(same),
                    _ => Some(value.as_slice()),
                };
                if let Some(value) = value
                    && !page.push(key, value)
                {
                    return Ok(());
                }
            }
            match found.rows.last() {
                Some((key, _)) if found.more => bounds = bounds.after(key),
                _ => break,
            }
        }
        while let Some(key) = over.key() {
            if let Some(value) = over.take(key)
                && !page.push(key, value)
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Snapshot for Layered {
    fn get_many(&self, column: Column, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        assert_ascending(keys);
        let mut values: Vec<Option<Vec<u8>>> = vec![None; keys.len()];
        let (mut below, mut below_keys) = (Vec::new(), Vec::new());
        for (index, key) in keys.iter().enumerate() {
            match self.stack.find(column, key) {
                Some(value) => values[index] = value.map(<[u8]>::to_vec),
                None => {
                    below.push(index);
                    below_keys.push(key.clone());
                }
            }
        }
        if !below.is_empty() {
            for (index, value) in below.into_iter().zip(self.base.get_many(column, &below_keys)?) {
                values[index] = value;
            }
        }
        Ok(values)
    }

    fn range(&self, column: Column, bounds: &Bounds, rows_max: usize, bytes_max: usize) -> Result<Rows, BackendError> {
        let over = self.stack.range(column, bounds);
        if over.is_empty() {
            return self.base.range(column, bounds, rows_max, bytes_max);
        }
        let mut page = Page::new(rows_max, bytes_max);
        self.merge(column, bounds, over, &mut page, bytes_max)?;
        Ok(page.finish())
    }

    fn ranges(
        &self,
        column: Column,
        bounds: &[Bounds],
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Rows>, BackendError> {
        // What nothing lies over is read together.
        let is_bare = |bounds: &&Bounds| self.stack.range(column, bounds).is_empty();
        let bare: Vec<Bounds> = bounds.iter().filter(is_bare).cloned().collect();
        let mut found = self.base.ranges(column, &bare, rows_max, bytes_max)?.into_iter();
        let mut bare = bare.iter().peekable();
        let each = |bounds: &Bounds| match bare.next_if(|next| *next == bounds) {
            Some(_) => Ok(found.next().expect("an answer for each of the bounds")),
            None => self.range(column, bounds, rows_max, bytes_max),
        };
        bounds.iter().map(each).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::{Backend, Durability, Memory};

    /// A block: keys and what becomes of them.
    type Rows = Vec<(u8, Option<u8>)>;

    fn batch(rows: &Rows) -> Batch {
        let mut batch = Batch::new();
        for (key, value) in rows {
            let key = [0, *key, 1, 2, 3, 4, 5, *key % 3];
            match value {
                Some(value) => batch.put(Column::Leaf, &key, &[*value]),
                None => batch.delete(Column::Leaf, &key),
            }
        }
        batch
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever lies over a snapshot is read as if it were written, also when the snapshot moves under it.
        #[test]
        fn layers_read_as_if_they_were_written(
            blocks in prop::collection::vec(prop::collection::vec((0u8..40, prop::option::of(any::<u8>())), 0..12), 1..40),
            base in 0usize..40,
            barrier in 0u64..40,
            rows_max in 0usize..30,
            (from, to) in (0u8..41, 0u8..41),
        ) {
            let base = base.min(blocks.len());
            let (below, all) = (Memory::new(), Memory::new());
            let mut stack = Stack::default();
            for (number, rows) in (1..).zip(&blocks) {
                let rows = batch(rows);
                if number as usize <= base {
                    below.commit(rows.clone(), Durability::Synced).unwrap();
                }
                all.commit(rows.clone(), Durability::Synced).unwrap();
                stack = stack.push(Arc::new(Run::new(number, Arc::new(rows))), barrier);
            }
            let (expected, below) = (all.snapshot().unwrap(), below.snapshot().unwrap());
            let keys: Vec<Vec<u8>> = (0..40).map(|key| vec![0, key, 1, 2, 3, 4, 5, key % 3]).collect();
            let bounds = Bounds { start: vec![0, from], end: Some(vec![0, to]) };
            let pieces: Vec<Bounds> =
                (0..40).step_by(5).map(|key| Bounds { start: vec![0, key], end: Some(vec![0, key + 3]) }).collect();
            for stack in [stack.clone(), stack.above(base as u64)] {
                let layered = stack.over(below.clone());
                prop_assert_eq!(
                    layered.get_many(Column::Leaf, &keys).unwrap(),
                    expected.get_many(Column::Leaf, &keys).unwrap()
                );
                for bytes_max in [0, 40, usize::MAX] {
                    prop_assert_eq!(
                        layered.range(Column::Leaf, &bounds, rows_max, bytes_max).unwrap(),
                        expected.range(Column::Leaf, &bounds, rows_max, bytes_max).unwrap()
                    );
                    prop_assert_eq!(
                        layered.ranges(Column::Leaf, &pieces, rows_max, bytes_max).unwrap(),
                        expected.ranges(Column::Leaf, &pieces, rows_max, bytes_max).unwrap()
                    );
                }
            }
        }
    }

    #[test]
    fn many_blocks_are_few_runs() {
        let rows = Arc::new(batch(&vec![(1, Some(1)), (2, None)]));
        let mut stack = Stack::default();
        let mut most = 0;
        for number in 1..=1024 {
            stack = stack.push(Arc::new(Run::new(number, rows.clone())), 0);
            most = most.max(stack.0.len());
        }
        assert!(most <= 5 * (FAN_OUT - 1), "{most} runs");
    }

    #[test]
    fn a_barrier_keeps_old_blocks_apart_from_new_ones() {
        let rows = Arc::new(batch(&vec![(1, Some(1))]));
        let stack =
            (1..=10).fold(Stack::default(), |stack, number| stack.push(Arc::new(Run::new(number, rows.clone())), 0));
        let stack = (11..=30).fold(stack, |stack, number| stack.push(Arc::new(Run::new(number, rows.clone())), 10));
        assert!(stack.0.iter().all(|run| run.blocks.0 > 10 || run.blocks.1 <= 10));
    }
}
