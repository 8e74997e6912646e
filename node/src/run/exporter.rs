//! The recorder of all metrics, and their text for Prometheus.
//!
//! What histograms are told waits in memory until the text is asked for or [`Exporter::upkeep`] is called, so whoever has
//! an exporter calls that now and then.

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use rustorium_state::metrics::{READ_SECONDS, describe};

/// Upper ends of the buckets for reads, in seconds: those from memory take microseconds.
const READ_BUCKETS: &[f64] =
    &[1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 1.0];
/// For all else that takes time.
const SECONDS_BUCKETS: &[f64] =
    &[5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
const ROWS_BUCKETS: &[f64] = &[10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7];
/// From 4 KiB to 1 GiB.
const BYTES_BUCKETS: &[f64] =
    &[4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0, 268435456.0, 1073741824.0];

/// Records what the whole process measures. There is one.
#[derive(Clone)]
pub(super) struct Exporter {
    recorder: PrometheusHandle,
    process: metrics_process::Collector,
}

impl Exporter {
    /// Records from now on. Comes before all that measures.
    pub(super) fn install() -> anyhow::Result<Self> {
        let suffix = |suffix: &str| Matcher::Suffix(suffix.into());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(READ_SECONDS.into()), READ_BUCKETS)?
            .set_buckets_for_metric(suffix("_seconds"), SECONDS_BUCKETS)?
            .set_buckets_for_metric(suffix("_rows"), ROWS_BUCKETS)?
            .set_buckets_for_metric(suffix("_bytes"), BYTES_BUCKETS)?
            .install_recorder()
            .context("cannot record metrics")?;
        let process = metrics_process::Collector::default();
        describe();
        process.describe();
        Ok(Self { recorder, process })
    }

    /// All metrics as text. Reads a few files of `/proc`.
    pub(super) fn text(&self) -> String {
        self.process.collect();
        self.recorder.render()
    }

    /// Frees the memory that what was measured takes up to now.
    pub(super) fn upkeep(&self) {
        self.recorder.run_upkeep();
    }
}
