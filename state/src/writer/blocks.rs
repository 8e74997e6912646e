//! Blocks as they come: known or new, on which parent, applied, made durable and shown.

use std::sync::Arc;
use std::time::Instant;

use super::{Writer, not_a_child};
use crate::apply::{Made, apply, check_sizes, seal};
use crate::backend::Column;
use crate::block::{Block, BlockHash, Change, Changes, Header};
use crate::config::Finality;
use crate::error::ApplyError;
use crate::forks::Branch;
use crate::handle::Answer;
use crate::layer::Run;
use crate::schema::meta;

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
        self.check_room(bytes_of(&block.changes))?;
        let applied = apply(&parent.view, block, &self.config.committer)?;
        self.keep(&parent, Made::new(applied, self.store.generation())?)
    }

    /// A block on the head with the dev rule's hash.
    pub(super) fn seal(&mut self, changes: Vec<Change>) -> Answer {
        check_sizes(&changes)?;
        self.check_room(bytes_of(&changes))?;
        let made = seal(&self.forks.head().view, changes, self.store.generation(), &self.config.committer)?;
        self.keep_sealed(made)
    }

    /// Keeps a block that was sealed on the head.
    pub(super) fn keep_sealed(&mut self, made: Made) -> Answer {
        let (parent, hash) = (self.forks.head().clone(), made.header.hash);
        assert_eq!(parent.hash(), made.header.parent_hash, "nothing has moved the head meanwhile");
        if self.header_row(&hash)?.is_some() {
            return Err(ApplyError::Conflicting { hash });
        }
        self.keep(&parent, made)
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

    /// Whether a block that changes so many bytes may be added to those that are not final.
    pub(super) fn check_room(&self, bytes: u64) -> Result<(), ApplyError> {
        if self.config.finality == Finality::Engine {
            let blocks = ("blocks", self.config.unfinalised_max, self.forks.blocks().size() as u64 + 1);
            let bytes = self.forks.change_bytes() + bytes;
            for (what, max, got) in [blocks, ("bytes", self.config.unfinalised_bytes_max, bytes)] {
                if got > max {
                    return Err(ApplyError::TooManyUnfinalised { what, max, got });
                }
            }
        }
        Ok(())
    }

    /// Makes a block durable, and shows it.
    fn keep(&mut self, parent: &Branch, made: Made) -> Answer {
        let started = Instant::now();
        let Made { header, delta, size, rows, entry: mut batch, mut phases } = made;
        let (number, hash, rows_len) = (header.number, header.hash, rows.len());
        let is_head = parent.hash() == self.forks.head().hash();
        let is_final = self.config.finality == Finality::Instant;
        if is_head {
            batch.put(Column::Meta, meta::HEAD, &hash.0);
        }
        if is_final {
            batch.put(Column::Meta, meta::FINAL, &hash.0);
        }
        let cache = &self.store.shared().cache;
        let whole = delta.whole;
        let replaced = delta.nodes.iter().filter_map(|node| Some(node.old?.commitment.fingerprint()));
        let replaced: Arc<[u64]> = replaced.collect();
        // What is cached is right whether the block stays or not.
        let prepare = || {
            // First there must be room: otherwise a large block pushes out what the next one meets.
            match is_final {
                true => cache.drop_nodes(&replaced),
                false => cache.retire(replaced.clone()),
            }
            cache.insert_all(whole);
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
        let committed = started.elapsed();
        phases.journal += committed;
        let replaced = if is_final { Arc::default() } else { replaced };
        self.forks.insert(self.forks.child(parent, header.clone(), delta.root, run, size, replaced));
        if is_head {
            self.forks.set_head(hash);
        }
        if is_final {
            self.settle(&hash, 0);
        }
        self.reader.publish(&self.forks);
        phases.publish = started.elapsed() - committed;
        self.meters.note_block(&phases);
        tracing::debug!(
            number,
            %hash,
            state_root = %header.state_root,
            leaves = delta.leaves.len(),
            nodes = delta.nodes.len(),
            bytes = size.rows,
            read_us = phases.read.as_micros() as u64,
            read_cpu_us = phases.read_cpu.as_micros() as u64,
            compute_us = phases.compute.as_micros() as u64,
            journal_us = phases.journal.as_micros() as u64,
            publish_us = phases.publish.as_micros() as u64,
            "block applied"
        );
        Ok(header)
    }
}

/// Of keys and values.
fn bytes_of(changes: &[Change]) -> u64 {
    changes.iter().map(|(key, value)| (key.len() + value.as_ref().map_or(0, Vec::len)) as u64).sum()
}
