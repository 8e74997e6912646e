//! How the open store does, asked when somebody wants to know: for `/readyz` and for the gauges of `/metrics`.

use std::sync::Arc;

use metrics::{counter, gauge};
use rustorium_state::Reader;
use rustorium_state::backend::{Backend, Column};
use rustorium_state::metrics::{
    BASE_NUMBER, BUSY, DISK_BYTES, DISK_FREE_BYTES, DISK_FULL, FINALISED_NUMBER, HEAD_NUMBER, HISTORY_BYTES,
    OLDEST_NUMBER, UNFINALISED_BLOCKS, UNFINALISED_BYTES, WRITE_STALLS,
};

/// An open store, to be asked.
pub(super) struct Vitals {
    pub(super) reader: Reader,
    pub(super) backend: Arc<dyn Backend>,
    /// Bytes of the disk that blocks leave free.
    pub(super) disk_reserve_bytes: u64,
}

impl Vitals {
    /// Why no blocks are taken, if none are.
    pub(super) fn why_unready(&self) -> Option<String> {
        let stats = self.backend.stats();
        if stats.is_poisoned {
            return Some("a commit failed: nothing is written until a restart".into());
        }
        let reserve_bytes = self.disk_reserve_bytes;
        let free_bytes = stats.free_bytes.filter(|free_bytes| *free_bytes < reserve_bytes)?;
        Some(format!("the disk is full: {} MiB are left, {} MiB stay free", free_bytes >> 20, reserve_bytes >> 20))
    }

    /// Sets the gauges.
    pub(super) fn measure(&self) {
        let (status, stats) = (self.reader.status(), self.backend.stats());
        gauge!(HEAD_NUMBER).set(status.head.number as f64);
        gauge!(FINALISED_NUMBER).set(status.finalized.number as f64);
        gauge!(BASE_NUMBER).set(status.base_number as f64);
        gauge!(OLDEST_NUMBER).set(status.oldest_number as f64);
        gauge!(UNFINALISED_BLOCKS).set(status.unfinalised_blocks as f64);
        gauge!(UNFINALISED_BYTES).set(status.unfinalised_bytes as f64);
        gauge!(DISK_BYTES).set(stats.disk_bytes() as f64);
        let history_bytes = [Column::Undo, Column::UndoAt].map(|column| stats.column(column).disk_bytes);
        gauge!(HISTORY_BYTES).set(history_bytes.iter().sum::<u64>() as f64);
        if let Some(free_bytes) = stats.free_bytes {
            gauge!(DISK_FREE_BYTES).set(free_bytes as f64);
        }
        counter!(WRITE_STALLS).absolute(stats.delayed_total);
        counter!(BUSY, "queue" => "backend").absolute(stats.busy_total);
        counter!(DISK_FULL).absolute(stats.full_total);
    }
}
