//! What an engine decides: which block is the head, which is final, and what is dropped for it.

use std::sync::Arc;

use super::{Writer, not_a_child};
use crate::backend::{Batch, Column, Durability};
use crate::block::{BlockHash, Header};
use crate::config::History;
use crate::error::ApplyError;
use crate::flush::Flusher;
use crate::forks::Branch;
use crate::handle::Answer;
use crate::journal;
use crate::schema::meta;
use crate::undo::Kept;

impl Writer {
    pub(super) fn finalize(&mut self, hash: BlockHash) -> Answer {
        if hash != self.forks.finalized().hash() {
            self.check_ahead(&hash)?;
            let head = self.forks.head().hash();
            let head = if self.forks.descends(&head, &hash) { head } else { hash };
            self.decide(head, hash)?;
        }
        Ok(self.forks.finalized().view.header().clone())
    }

    pub(super) fn choose_head(&mut self, head: BlockHash, finalized: Option<BlockHash>) -> Answer {
        let finalized = finalized.unwrap_or(self.forks.finalized().hash());
        if finalized != self.forks.finalized().hash() {
            self.check_ahead(&finalized)?;
        }
        if head != self.forks.finalized().hash() {
            self.check_ahead(&head)?;
        }
        if !self.forks.descends(&head, &finalized) {
            return Err(not_a_child(format!("a head that descends from {finalized}"), format!("{head}")));
        }
        if (head, finalized) != (self.forks.head().hash(), self.forks.finalized().hash()) {
            self.decide(head, finalized)?;
        }
        Ok(self.forks.head().view.header().clone())
    }

    pub(super) fn rollback(&mut self, hash: BlockHash, flusher: &mut Flusher) -> Answer {
        let Some(branch) = self.forks.branch(&hash).cloned() else { return self.go_back(hash, flusher) };
        let gone = self.forks.descendants(&hash);
        let mut batch = without(&gone);
        batch.put(Column::Meta, meta::HEAD, &hash.0);
        self.store.commit(batch, Durability::Synced)?;
        self.forks.set_head(hash);
        gone.iter().for_each(|branch| self.forks.remove(branch));
        self.reader.publish(&self.forks);
        tracing::info!(number = branch.view.header().number, %hash, dropped = gone.len(), "rolled back");
        Ok(branch.view.header().clone())
    }

    /// Takes final blocks back, block by block: all of them must be kept. Nothing above the finalised one stays.
    fn go_back(&mut self, hash: BlockHash, flusher: &mut Flusher) -> Answer {
        let row = self.header_row(&hash)?.ok_or(ApplyError::UnknownBlock { hash })?;
        if self.forks.finalized().view.block_hash(row.number)? != Some(hash) {
            return Err(ApplyError::UnknownBlock { hash });
        }
        let finalized = self.forks.finalized().hash();
        let oldest = match Kept::read(&*self.store.backend().snapshot()?)? {
            Some(kept) if self.config.history != History::None => kept.oldest,
            _ => self.forks.finalized().number(),
        };
        if row.number < oldest {
            return Err(ApplyError::Pruned { oldest });
        }
        self.rollback(finalized, flusher)?;
        self.flush(flusher)?;
        let from = self.forks.finalized().clone();
        let gone = flusher.go_back(from.view.clone(), row.number);
        // As far as it got, it is done.
        self.forks = self.store.forks().map_err(|error| ApplyError::Damaged { what: error.to_string() })?;
        self.reader.publish(&self.forks);
        gone?;
        let header = self.forks.head().view.header().clone();
        tracing::info!(number = header.number, %hash, taken_back = from.number() - header.number, "rolled back");
        Ok(header)
    }

    /// Makes head and finalised block what they are to be, in one batch, and drops what loses.
    fn decide(&mut self, head: BlockHash, finalized: BlockHash) -> Result<(), ApplyError> {
        let is_ahead = finalized != self.forks.finalized().hash();
        let losers = if is_ahead { self.forks.losers(&finalized) } else { Vec::new() };
        let mut batch = without(&losers);
        batch.put(Column::Meta, meta::HEAD, &head.0);
        batch.put(Column::Meta, meta::FINAL, &finalized.0);
        self.store.commit(batch, Durability::Synced)?;
        self.forks.set_head(head);
        losers.iter().for_each(|branch| self.forks.remove(branch));
        self.settle(&finalized, losers.len());
        self.reader.publish(&self.forks);
        tracing::debug!(%head, %finalized, dropped = losers.len(), "decided");
        Ok(())
    }

    /// Makes final what leads to this block; so many others have lost.
    pub(super) fn settle(&mut self, hash: &BlockHash, dropped: usize) {
        let (way, cache) = (self.forks.way(hash), &self.store.shared().cache);
        way.iter().for_each(|branch| cache.drop_nodes(&branch.replaced));
        self.forks.settle(hash);
        self.meters.note_finality(way.len(), dropped);
    }

    /// Refuses a block that is not above the finalised one.
    fn check_ahead(&self, hash: &BlockHash) -> Result<(), ApplyError> {
        if self.forks.blocks().contains_key(hash) {
            return Ok(());
        }
        let row = self.header_row(hash)?.ok_or(ApplyError::UnknownBlock { hash: *hash })?;
        let finalized = self.forks.finalized().view.header();
        let name = |number: u64, hash: &BlockHash| format!("block {number} {hash}");
        let expected = format!("{} or a descendant", name(finalized.number, &finalized.hash));
        Err(ApplyError::NotAhead { expected, got: name(row.number, hash) })
    }
}

/// The batch that takes blocks out of the journal.
fn without(branches: &[Arc<Branch>]) -> Batch {
    let mut batch = Batch::new();
    for branch in branches {
        let Header { number, hash, .. } = branch.view.header();
        batch.delete(Column::Fork, &journal::key(*number, hash));
    }
    batch
}
