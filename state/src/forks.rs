//! The blocks that are known and not written into the columns: the final ones that wait for it, and the tree of those that
//! may still lose. Pure: what it says is done by the writer.
//!
//! One [`Branch`] a block, never changed; forks share the rows of their ancestors. Bounded by the writer, in blocks and
//! bytes.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use rpds::HashTrieMapSync;
use rustorium_verkle::Point;

use crate::backend::Snapshot;
use crate::block::{BlockHash, Header};
use crate::flush::{Final, Flush};
use crate::layer::{Run, Stack};
use crate::schema::Generation;
use crate::undo::Kept;
use crate::view::{Shared, View};

/// A block: its view, and what it lays over its parent.
pub(crate) struct Branch {
    pub(crate) view: Arc<View>,
    stack: Stack,
    /// Its own rows; the block in the columns has none.
    run: Option<Arc<Run>>,
    size: Size,
    /// Fingerprints of the nodes that the block replaces: no block above it needs them.
    pub(crate) replaced: Arc<[u64]>,
}

/// What a block takes, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Size {
    /// Keys and values of its changes.
    pub(crate) changes: u64,
    /// Its rows.
    pub(crate) rows: u64,
}

/// Blocks by hash.
pub(crate) type Blocks = HashTrieMapSync<BlockHash, Arc<Branch>>;

/// The block whose tree is in the columns, and all known blocks above it.
pub(crate) struct Forks {
    base: Arc<Branch>,
    snapshot: Arc<dyn Snapshot>,
    kept: Option<Kept>,
    generation: Generation,
    shared: Arc<Shared>,
    /// The newest final block.
    finalized: Arc<Branch>,
    /// The blocks above it.
    blocks: Blocks,
    head: BlockHash,
    change_bytes: u64,
    /// Final ones above the base, oldest first; the last is the finalised block, unless that is the base.
    settled: VecDeque<Arc<Branch>>,
    settled_bytes: u64,
    /// The number of the newest block that was ever on its way to the columns.
    barrier: u64,
    /// An earlier life may have put blocks up to this one into the columns, row by row and not to the end: states between
    /// the base and this block have newer rows beneath their layers.
    mixed_to: u64,
}

impl Forks {
    /// A base with nothing above it, and what is kept of the blocks before it.
    pub(crate) fn new(
        header: Header,
        root: Point,
        base: Arc<dyn Snapshot>,
        kept: Option<Kept>,
        generation: Generation,
        shared: Arc<Shared>,
    ) -> Self {
        let (head, base_number) = (header.hash, header.number);
        let view = Arc::new(View::new(header, root, base.clone(), generation, shared.clone()));
        let (stack, run) = (Stack::default(), None);
        let branch = Arc::new(Branch { view, stack, run, size: Size::default(), replaced: Arc::default() });
        Self {
            base: branch.clone(),
            snapshot: base,
            kept,
            generation,
            shared,
            finalized: branch,
            blocks: Blocks::new_sync(),
            head,
            change_bytes: 0,
            settled: VecDeque::new(),
            settled_bytes: 0,
            barrier: base_number,
            mixed_to: base_number,
        }
    }

    /// The finalised block, or one above it.
    pub(crate) fn branch(&self, hash: &BlockHash) -> Option<&Arc<Branch>> {
        match *hash == self.finalized.hash() {
            true => Some(&self.finalized),
            false => self.blocks.get(hash),
        }
    }

    pub(crate) fn finalized(&self) -> &Arc<Branch> {
        &self.finalized
    }

    pub(crate) fn head(&self) -> &Arc<Branch> {
        self.branch(&self.head).expect("the head is a known block")
    }

    /// The blocks above the finalised one.
    pub(crate) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Bytes that the blocks above the finalised one change.
    pub(crate) fn change_bytes(&self) -> u64 {
        self.change_bytes
    }

    /// Final blocks that wait to be written, and the bytes of their rows.
    pub(crate) fn settled(&self) -> (usize, u64) {
        (self.settled.len(), self.settled_bytes)
    }

    /// The block whose tree is in the columns.
    pub(crate) fn base(&self) -> &Arc<Branch> {
        &self.base
    }

    /// The blocks before it whose states can be read.
    pub(crate) fn kept(&self) -> Option<Kept> {
        self.kept
    }

    /// The first block whose layers, with those below, hide whatever an earlier life has put into the columns.
    pub(crate) fn mixed_to(&self) -> u64 {
        self.mixed_to
    }

    /// After an opening: where a flush that was broken off may have got to, in the blocks that are final now. It kept what it
    /// overwrote before it began; without history it may have got to the last.
    pub(crate) fn mistrust_columns(&mut self) {
        self.mixed_to = self.kept.map_or(self.finalized.number(), |kept| kept.newest);
    }

    /// Final blocks above it, oldest first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Arc<Branch>> {
        self.settled.iter()
    }

    /// A child of `parent` with these rows, not yet among the blocks.
    pub(crate) fn child(
        &self,
        parent: &Branch,
        header: Header,
        root: Point,
        run: Run,
        size: Size,
        replaced: Arc<[u64]>,
    ) -> Branch {
        let run = Arc::new(run);
        let (stack, view) = self.ground().child(parent, header, root, run.clone());
        Branch { view: Arc::new(view), stack, run: Some(run), size, replaced }
    }

    /// What a child's view is made of, whether the child stays or not.
    pub(crate) fn ground(&self) -> Ground {
        let (base, shared) = (self.snapshot.clone(), self.shared.clone());
        Ground { base, barrier: self.barrier, generation: self.generation, shared }
    }

    pub(crate) fn insert(&mut self, branch: Branch) {
        self.change_bytes += branch.size.changes;
        self.blocks.insert_mut(branch.hash(), Arc::new(branch));
    }

    pub(crate) fn set_head(&mut self, hash: BlockHash) {
        self.head = hash;
        assert!(self.branch(&hash).is_some(), "a head is a known block");
    }

    /// The blocks from the finalised one, exclusive, to this one, oldest first.
    pub(crate) fn way(&self, hash: &BlockHash) -> Vec<Arc<Branch>> {
        let parent = |branch: &&Arc<Branch>| self.blocks.get(&branch.view.header().parent_hash);
        let mut way: Vec<_> = std::iter::successors(self.blocks.get(hash), parent).cloned().collect();
        way.reverse();
        way
    }

    /// Whether a block is another or comes after it.
    pub(crate) fn descends(&self, hash: &BlockHash, from: &BlockHash) -> bool {
        hash == from
            || *from == self.finalized.hash() && self.blocks.contains_key(hash)
            || self.way(hash).iter().any(|branch| branch.hash() == *from)
    }

    /// The blocks that come after this one, parents before children.
    pub(crate) fn descendants(&self, hash: &BlockHash) -> Vec<Arc<Branch>> {
        let mut blocks: Vec<&Arc<Branch>> = self.blocks.values().collect();
        blocks.sort_by_key(|branch| branch.view.header().number);
        let mut found = HashSet::from([*hash]);
        blocks.retain(|branch| found.contains(&branch.view.header().parent_hash) && found.insert(branch.hash()));
        blocks.into_iter().cloned().collect()
    }

    /// The blocks that are lost when this one is final.
    pub(crate) fn losers(&self, hash: &BlockHash) -> Vec<Arc<Branch>> {
        let kept = self.way(hash).into_iter().chain(self.descendants(hash));
        let kept: HashSet<BlockHash> = kept.map(|branch| branch.hash()).collect();
        self.blocks.values().filter(|branch| !kept.contains(&branch.hash())).cloned().collect()
    }

    pub(crate) fn remove(&mut self, branch: &Branch) {
        assert!(self.blocks.remove_mut(&branch.hash()), "a block is removed once");
        self.change_bytes -= branch.size.changes;
    }

    /// Makes final what leads to this block, which is one of ours; the losers have been removed.
    pub(crate) fn settle(&mut self, hash: &BlockHash) {
        for branch in self.way(hash) {
            self.remove(&branch);
            self.settled.push_back(branch.clone());
            self.settled_bytes += branch.size.rows;
            self.finalized = branch;
        }
    }

    /// What is to be written so that the finalised block is in the columns: its rows and the journal's blocks that it
    /// makes needless. From now on later blocks are kept apart from these.
    pub(crate) fn flush(&mut self) -> Option<Flush> {
        let rows = self.finalized.stack.merged()?;
        self.barrier = self.finalized.view.header().number;
        let parents = std::iter::once(&self.base).chain(&self.settled).map(|branch| branch.view.clone());
        let block = |(parent, branch): (Arc<View>, &Arc<Branch>)| Final {
            number: branch.number(),
            hash: branch.hash(),
            rows: branch.run.clone().expect("only the base has no rows"),
            parent,
        };
        let blocks = parents.zip(&self.settled).map(block).collect();
        Some(Flush { generation: self.generation, rows, blocks })
    }

    /// Puts all blocks over a new base, whose columns have block `number`, which is final.
    pub(crate) fn rebase(&mut self, base: Arc<dyn Snapshot>, kept: Option<Kept>, number: u64) {
        (self.snapshot, self.kept) = (base, kept);
        while let Some(first) = self.settled.front().filter(|first| first.number() <= number).cloned() {
            self.settled_bytes -= first.size.rows;
            self.base = first;
            self.settled.pop_front();
        }
        self.base = Arc::new(self.rebased(&self.base, number));
        self.settled = self.settled.iter().map(|branch| Arc::new(self.rebased(branch, number))).collect();
        self.finalized = self.settled.back().unwrap_or(&self.base).clone();
        self.blocks =
            self.blocks.iter().map(|(hash, branch)| (*hash, Arc::new(self.rebased(branch, number)))).collect();
    }

    fn rebased(&self, branch: &Branch, base_number: u64) -> Branch {
        let stack = branch.stack.above(base_number);
        let view = Arc::new(branch.view.over(stack.over(self.snapshot.clone())));
        let run = branch.run.clone().filter(|_| branch.number() > base_number);
        Branch { view, stack, run, size: branch.size, replaced: branch.replaced.clone() }
    }
}

/// What children are put on.
pub(crate) struct Ground {
    base: Arc<dyn Snapshot>,
    barrier: u64,
    pub(crate) generation: Generation,
    pub(crate) shared: Arc<Shared>,
}

impl Ground {
    /// What a child of `parent` lays over the base, and its view.
    pub(crate) fn child(&self, parent: &Branch, header: Header, root: Point, run: Arc<Run>) -> (Stack, View) {
        let stack = parent.stack.push(run, self.barrier);
        let view = View::new(header, root, stack.over(self.base.clone()), self.generation, self.shared.clone());
        (stack, view)
    }
}

impl Branch {
    pub(crate) fn hash(&self) -> BlockHash {
        self.view.header().hash
    }

    pub(crate) fn number(&self) -> u64 {
        self.view.header().number
    }

    /// The rows that it lays over its parent, if it is above the base.
    pub(crate) fn rows(&self) -> Option<&Run> {
        self.run.as_deref()
    }
}
