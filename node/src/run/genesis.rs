//! What a user sees while a large genesis loads.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use rustorium_state::Progress;

/// A genesis of fewer pairs is loaded before anyone could read a bar.
const PAIRS_MIN: usize = 10_000;

/// A progress bar on stderr, where that is a terminal; it appears with the first progress and goes at the end.
#[derive(Default)]
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Shows how far the load is; breaks it off once `stopping` is set.
    pub(super) fn show(&mut self, progress: Progress, stopping: &AtomicBool) -> ControlFlow<()> {
        let Progress { pairs, pairs_total } = progress;
        if pairs_total >= PAIRS_MIN {
            let bar = self.0.get_or_insert_with(|| bar(pairs_total));
            bar.set_position(pairs as u64);
            if pairs == pairs_total {
                bar.finish_and_clear();
            }
        }
        if stopping.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn bar(pairs_total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("loading the genesis {wide_bar} {pos}/{len} keys, {eta} left");
    ProgressBar::new(pairs_total as u64).with_style(style.expect("the template is well formed"))
}
