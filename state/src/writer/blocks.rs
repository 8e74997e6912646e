//! Blocks as they come: known or new, on which parent, applied, made durable and shown.

use std::sync::Arc;
use std::time::Instant;

use super::{Writer, not_a_child};
use crate::apply::{Applied, apply, check_sizes};
use crate::backend::Column;
use crate::block::{Block, BlockHash, Change, Changes, Header};
use crate::config::Finality;
use crate::error::ApplyError;
use crate::finalize;
use crate::forks::{Branch, Size};
use crate::handle::Answer;
use crate::journal;
use crate::layer::Run;
use crate::schema::{HeaderRow, meta};

/// From so many rows on a block is made ready to be shown while the disk takes its journal row.
const ROWS_ALONGSIDE: usize = 2000;

impl Writer {
    pub(super) fn apply(&mut self, block: Block) -> Answer {
        check_sizes(&block.changes)?;
        if block.hash == BlockHash::ZERO {
            return Err(ApplyError::ZeroHash);
        }
        if let Some(known) = self.known(&block)? {
            return Ok(known);
        }
        let parent = self.parent(&block)?;
        self.check_room(&block.changes)?;
        let applied = apply(&parent.view, block, &self.config.committer)?;
        self.keep(&parent, applied)
    }

    /// A block on the head with the dev rule's hash.
    pub(super) fn seal(&mut self, changes: Vec<Change>) -> Answer {
        check_sizes(&changes)?;
        let parent = self.forks.head().clone();
        let Header { number, hash: parent_hash, .. } = *parent.view.header();
        let next = number.checked_add(1);
        let number = next.ok_or_else(|| not_a_child("a number that fits".into(), "one more".into()))?;
        let hash = BlockHash::ZERO;
        let block = Block { number, hash, parent_hash, timestamp_ms: None, state_root: None, changes };
        self.check_room(&block.changes)?;
        let mut applied = apply(&parent.view, block, &self.config.committer)?;
        let hash = BlockHash::of_dev_block(&parent_hash, number, &applied.header.state_root);
        if self.header_row(&hash)?.is_some() {
            return Err(ApplyError::Conflicting { hash });
        }
        applied.header.hash = hash;
        self.keep(&parent, applied)
    }

    /// The answer to a block that was applied before; an error if its hash was another block's.
    fn known(&self, block: &Block) -> Result<Option<Header>, ApplyError> {
        let Some(row) = self.header_row(&block.hash)? else { return Ok(None) };
        let changes = Changes::new(block.changes.clone());
        if changes.content(block.number, &block.parent_hash, block.timestamp_ms) != row.content {
            return Err(ApplyError::Conflicting { hash: block.hash });
        }
        let header = row.header(block.hash);
        match block.state_root {
            Some(expected) if expected != header.state_root => {
                Err(ApplyError::RootMismatch { expected, got: header.state_root })
            }
            _ => Ok(Some(header)),
        }
    }

    /// The block that this one is a child of.
    fn parent(&self, block: &Block) -> Result<Arc<Branch>, ApplyError> {
        let Some(parent) = self.forks.branch(&block.parent_hash) else {
            return Err(match self.header_row(&block.parent_hash)? {
                None => ApplyError::UnknownParent { parent: block.parent_hash },
                Some(_) => {
                    let expected = format!("parent {} or above it", self.forks.finalized().hash());
                    not_a_child(expected, format!("parent {}", block.parent_hash))
                }
            });
        };
        let number = parent.view.header().number;
        if Some(block.number) != number.checked_add(1) {
            let expected = format!("number {}", number.saturating_add(1));
            return Err(not_a_child(expected, format!("number {}", block.number)));
        }
        Ok(parent.clone())
    }

    /// Whether a block with these changes may be added to those that are not final.
    fn check_room(&self, changes: &[Change]) -> Result<(), ApplyError> {
        if self.config.finality == Finality::Engine {
            let bytes = |(key, value): &Change| (key.len() + value.as_ref().map_or(0, Vec::len)) as u64;
            let blocks = ("blocks", self.config.unfinalised_max, self.forks.blocks().size() as u64 + 1);
            let bytes = self.forks.change_bytes() + changes.iter().map(bytes).sum::<u64>();
            for (what, max, got) in [blocks, ("bytes", self.config.unfinalised_bytes_max, bytes)] {
                if got > max {
                    return Err(ApplyError::TooManyUnfinalised { what, max, got });
                }
            }
        }
        Ok(())
    }

    /// Makes an applied block durable, and shows it.
    fn keep(&mut self, parent: &Branch, applied: Applied) -> Answer {
        let started = Instant::now();
        let rows = Arc::new(finalize::rows(self.store.generation(), &applied));
        let rows_len = rows.len();
        let Applied { header, content, changes, delta, mut phases } = applied;
        journal::check_size(&rows, journal::ENTRY_BYTES_MAX)?;
        let (number, hash) = (header.number, header.hash);
        let size = Size { changes: changes.bytes(), rows: rows.bytes() as u64 };
        let is_head = parent.hash() == self.forks.head().hash();
        let is_final = self.config.finality == Finality::Instant;
        let mut batch = journal::entry(&HeaderRow::new(&header, content), &hash, size.changes, &rows);
        if is_head {
            batch.put(Column::Meta, meta::HEAD, &hash.0);
        }
        if is_final {
            batch.put(Column::Meta, meta::FINAL, &hash.0);
        }
        let cache = &self.store.shared().cache;
        let whole = delta.whole;
        // What is cached is right whether the block stays or not.
        let prepare = || {
            whole.into_iter().for_each(|node| cache.insert(node));
            Run::new(number, rows)
        };
        let run = match rows_len < ROWS_ALONGSIDE {
            true => {
                self.store.commit(batch, self.config.durability)?;
                prepare()
            }
            // The disk takes as long as this does.
            false => std::thread::scope(|scope| {
                let prepared = scope.spawn(prepare);
                self.store.commit(batch, self.config.durability)?;
                Ok::<Run, ApplyError>(prepared.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })?,
        };
        phases.journal = started.elapsed();
        let replaced = delta.nodes.iter().filter_map(|node| Some(node.old?.commitment.fingerprint()));
        let replaced: Arc<[u64]> = replaced.collect();
        self.forks.insert(self.forks.child(parent, header.clone(), delta.root, run, size, replaced.clone()));
        if is_head {
            self.forks.set_head(hash);
        }
        match is_final {
            true => self.settle(&hash, 0),
            false => cache.retire(replaced),
        }
        self.reader.publish(&self.forks);
        phases.publish = started.elapsed() - phases.journal;
        self.meters.note_block(&phases);
        tracing::debug!(
            number,
            %hash,
            state_root = %header.state_root,
            leaves = delta.leaves.len(),
            nodes = delta.nodes.len(),
            bytes = size.rows,
            read_us = phases.read.as_micros() as u64,
            compute_us = phases.compute.as_micros() as u64,
            journal_us = phases.journal.as_micros() as u64,
            publish_us = phases.publish.as_micros() as u64,
            "block applied"
        );
        Ok(header)
    }
}
