//! What a user sees while a large store is read.

use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressStyle};
use rustorium_state::Stage;
use rustorium_state::backend::{Column, Compacted};

/// Steps of a bar.
const STEPS: u64 = 1000;

/// A progress bar on stderr, where that is a terminal; it goes at the end.
#[derive(Default)]
pub(in crate::commands) struct Bar {
    bar: Option<ProgressBar>,
    /// What the bar shows, and whether it has an end.
    shown: Option<(String, bool)>,
}

impl Bar {
    /// Shows how far a check or a repair is.
    pub(in crate::commands) fn show(&mut self, stage: Stage) {
        let Stage { what, rows, part } = stage;
        let bar = self.of(what.to_owned(), part.is_some());
        bar.set_message(format!("{rows} rows"));
        match part {
            Some(part) => bar.set_position((part * STEPS as f32) as u64),
            None => bar.tick(),
        }
    }

    /// Shows how far the compaction of a column is.
    pub(super) fn show_compaction(&mut self, column: Column, compacted: Compacted) -> ControlFlow<()> {
        let Compacted { slices, slices_total } = compacted;
        let bar = self.of(format!("compacting column {}", column.name()), true);
        bar.set_position(slices as u64 * STEPS / slices_total.max(1) as u64);
        ControlFlow::Continue(())
    }

    /// Shows how much of something is done.
    pub(super) fn show_part(&mut self, what: &str, done: u64, total: u64) {
        let bar = self.of(what.to_owned(), true);
        bar.set_message(format!("{done} of {total}"));
        bar.set_position(done * STEPS / total.max(1));
    }

    /// Takes the bar away.
    pub(in crate::commands) fn end(&mut self) {
        self.shown = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn of(&mut self, what: String, ends: bool) -> &ProgressBar {
        let shown = Some((what, ends));
        if self.shown != shown {
            self.end();
            self.shown = shown;
        }
        let what = self.shown.as_ref().map(|(what, _)| what.clone()).unwrap_or_default();
        self.bar.get_or_insert_with(|| {
            let template = if ends { "{prefix} {wide_bar} {msg}, {eta} left" } else { "{prefix} {spinner} {msg}" };
            let style = ProgressStyle::with_template(template).expect("the template is well formed");
            ProgressBar::new(STEPS).with_style(style).with_prefix(what)
        })
    }
}
