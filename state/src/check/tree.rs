//! The leaves and the nodes above them: proved by their slots, or built anew.

use rustorium_verkle::tree::Bulk;
use rustorium_verkle::{Leaf, NodePath, NodeRow, StateRoot, ValueHash};

use crate::backend::Column;
use crate::error::ReadError;
use crate::schema::{LeafRow, decode_leaf};

use super::index::KeySum;
use super::nodes::{NodeRows, name};
use super::rows::{Cursor, PAGE_ROWS, Row};
use super::{Cure, Depth, Finding, Means, Mends, Report, Rows, Stage, prove};

/// What the leaves came to.
pub(super) struct Checked {
    /// Whether they give the header's state root.
    pub(super) leaves_hold: bool,
    /// Their keys.
    pub(super) keys: KeySum,
}

/// Checks leaves and nodes. Where the nodes are not what they should be, both ways are gone.
pub(super) fn check(
    rows: Rows<'_>,
    depth: Depth,
    means: &mut Means<'_>,
    mends: &mut Mends,
    report: &mut Report,
) -> Result<Checked, ReadError> {
    let mut keys = KeySum::new(&means.seed);
    let mut strays = Mends::default();
    let mut judge = Judge {
        bigs: (depth == Depth::Deep).then(|| Cursor::new(rows.snapshot, Column::Big, rows.generation.all(), PAGE_ROWS)),
        keys: &mut keys,
        mends: &mut strays,
        report,
    };
    let (mut proved, mut rebuilt) = (Report::default(), Report::default());
    let leaves_hold = match depth {
        Depth::Quick => {
            prove::prove(rows, means, Some(&mut judge), &mut proved)?;
            proved.is_sound() || rebuild(rows, means, None, mends, &mut rebuilt)?
        }
        Depth::Deep => {
            let leaves_hold = rebuild(rows, means, Some(&mut judge), mends, &mut rebuilt)?;
            if !leaves_hold {
                prove::prove(rows, means, None, &mut proved)?;
            }
            leaves_hold
        }
    };
    judge.finish()?;
    mends.append(strays);
    report.nodes = proved.nodes.max(rebuilt.nodes);
    match leaves_hold {
        true => report.absorb(rebuilt),
        // What the nodes should be is not known then.
        false => {
            let what = "the leaves do not give the header's state root";
            report.find(Finding::new(Column::Leaf, format!("block {}", rows.header.number), what, Cure::Resync));
            report.absorb(proved.without_cure());
        }
    }
    Ok(Checked { leaves_hold, keys })
}

/// Judges leaf rows by themselves, and in depth their values.
pub(super) struct Judge<'a> {
    bigs: Option<Cursor<'a>>,
    keys: &'a mut KeySum,
    mends: &'a mut Mends,
    report: &'a mut Report,
}

impl Judge<'_> {
    fn leaf(&mut self, key: &[u8], leaf: Result<&(Leaf, LeafRow), String>) -> Result<(), ReadError> {
        self.report.leaves += 1;
        let (Leaf { path, .. }, row) = match leaf {
            Ok(leaf) => leaf,
            Err(what) => {
                self.report.find(Finding::of_key(Column::Leaf, key, what, Cure::Resync));
                return Ok(());
            }
        };
        self.keys.add(row.key(), &[]);
        if row.is_misplaced() {
            // Mended where the whole tree is written anew.
            self.mends.is_full = true;
            let what = "its value is in the wrong column for its size";
            self.report.find(Finding::new(Column::Leaf, format!("leaf {path}"), what, Cure::Mend));
        }
        if let LeafRow::Big { bytes, value_hash, .. } = row {
            self.report.bigs += 1;
            let Some(bigs) = &mut self.bigs else { return Ok(()) };
            let value = bigs.seek(key, |(key, _)| stray_value(&key, self.mends, self.report))?;
            let what = match value {
                Some(value) if value.len() as u64 == *bytes && ValueHash::of(&value).0 == *value_hash => return Ok(()),
                Some(_) => "not the value that was written",
                None => "missing",
            };
            self.report.find(Finding::new(Column::Big, format!("the value of leaf {path}"), what, Cure::Resync));
        }
        Ok(())
    }

    /// Names the values that are left.
    fn finish(self) -> Result<(), ReadError> {
        let Some(mut bigs) = self.bigs else { return Ok(()) };
        while let Some((key, _)) = bigs.next()? {
            stray_value(&key, self.mends, self.report);
        }
        Ok(())
    }
}

fn stray_value(key: &[u8], mends: &mut Mends, report: &mut Report) {
    report.find(Finding::of_key(Column::Big, key, "a value that belongs to no leaf", Cure::Mend));
    mends.delete(Column::Big, key);
}

/// All leaves that are leaves, a page at a time.
pub(super) fn for_each_page(
    rows: Rows<'_>,
    what: &'static str,
    means: &mut Means<'_>,
    mut judge: Option<&mut Judge<'_>>,
    mut each: impl FnMut(&[Leaf]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut cursor = Cursor::new(rows.snapshot, Column::Leaf, rows.generation.all(), PAGE_ROWS);
    let mut seen = 0;
    loop {
        let page: Vec<Row> = cursor.page()?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        seen += page.len() as u64;
        (means.progress)(Stage { what, rows: seen, part: Some(part(last)) });
        let mut leaves = Vec::with_capacity(page.len());
        for (key, value) in &page {
            let row = decode_leaf(key, value);
            let leaf = row.map(|(path, row)| (Leaf { path, value_hash: row.value_hash() }, row));
            if let Some(judge) = &mut judge {
                judge.leaf(key, leaf.as_ref().map_err(Clone::clone))?;
            }
            leaves.extend(leaf.ok().map(|(leaf, _)| leaf));
        }
        each(&leaves)?;
    }
}

/// The state root that the leaves give.
pub(crate) fn root_of_leaves(rows: Rows<'_>, means: &mut Means<'_>) -> Result<StateRoot, ReadError> {
    let mut bulk = Bulk::new(means.committer);
    for_each_page(rows, "looking for a block that the leaves give", means, None, |leaves| {
        bulk.push(leaves).expect("rows come in the order of their keys");
        Ok(())
    })?;
    let nodes = bulk.finish();
    Ok(StateRoot::of(&nodes.last().expect("the root is always there").1.commitment.encode()))
}

/// How far into its column a row of this key lies: paths are hashes.
fn part(key: &[u8]) -> f32 {
    let mut bytes = [0; 4];
    bytes.iter_mut().zip(key.iter().skip(1)).for_each(|(byte, of_key)| *byte = *of_key);
    u32::from_be_bytes(bytes) as f32 / u32::MAX as f32
}

/// Builds the tree from its leaves and compares it, node by node; whether the root is the header's.
fn rebuild(
    rows: Rows<'_>,
    means: &mut Means<'_>,
    judge: Option<&mut Judge<'_>>,
    mends: &mut Mends,
    report: &mut Report,
) -> Result<bool, ReadError> {
    let mut bulk = Bulk::new(means.committer);
    let mut node_rows = NodeRows::new(rows.snapshot, rows.generation);
    let mut compare = |nodes: Vec<(NodePath, NodeRow)>, node_rows: &mut NodeRows<'_>| -> Result<(), ReadError> {
        report.nodes += nodes.len() as u64;
        for (path, expected) in nodes {
            let what = match node_rows.take(&path, mends, report)? {
                Ok(row) if row == expected => continue,
                Ok(row) if row == NodeRow::EMPTY => "missing".to_owned(),
                Ok(_) => "not what its leaves give".to_owned(),
                Err(what) => what,
            };
            report.find(Finding::new(Column::Node, name(&path), what, Cure::Mend));
            mends.put(Column::Node, &rows.generation.node_key(&path), &expected.encode());
        }
        Ok(())
    };
    for_each_page(rows, "building the tree from its leaves", means, judge, |leaves| {
        let nodes = bulk.push(leaves).expect("rows come in the order of their keys");
        compare(nodes, &mut node_rows)
    })?;
    let nodes = bulk.finish();
    let root = nodes.last().expect("the root is always there").1.commitment;
    compare(nodes, &mut node_rows)?;
    node_rows.finish(mends, report)?;
    Ok(StateRoot::of(&root.encode()) == rows.header.state_root)
}
