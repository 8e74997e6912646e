//! What the operating system knows: the machine, this process' CPU time and memory. Linux alone.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

/// Ticks of `/proc/self/stat` a second; the kernel's interface has it fixed.
const TICKS_PER_SECOND: u64 = 100;
/// Bytes of a write whose sync is timed, a small batch's.
const SYNC_BYTES: usize = 4096;
/// Times that it is done.
const SYNCS: usize = 101;

/// CPU time that this process has used.
#[derive(Clone, Copy)]
pub(crate) struct Cpu(Duration);

impl Cpu {
    pub(crate) fn now() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        // The second field is the program's name in parentheses; utime and stime are the 14th and 15th.
        let fields = stat.rsplit_once(')').context("stat")?.1.split_ascii_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
        Ok(Self(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)))
    }

    pub(crate) fn since(self, before: &Self) -> Duration {
        self.0 - before.0
    }
}

/// The most memory that this process has had in RAM, since the last [`reset_peak`].
pub(crate) fn peak_bytes() -> anyhow::Result<u64> {
    Ok(number_of("/proc/self/status", "VmHWM:")? << 10)
}

/// Forgets the peak.
pub(crate) fn reset_peak() -> anyhow::Result<()> {
    Ok(fs::write("/proc/self/clear_refs", "5")?)
}

/// One line: processor, cores, memory, who else is at work, and how long a sync takes in this folder.
pub(crate) fn describe(folder: &Path) -> anyhow::Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(format!(
        "{}, {} cores, {} GB, load {}; a synced write of {SYNC_BYTES} bytes takes {:.2} ms",
        model.map_or("an unknown processor", |(_, name)| name),
        std::thread::available_parallelism()?,
        number_of("/proc/meminfo", "MemTotal:")? >> 20,
        load.split(' ').next().unwrap_or_default(),
        sync(folder)?.as_secs_f64() * 1e3,
    ))
}

/// The median of some times, of which there is at least one.
pub(crate) fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// How long it takes to append to a file and have it on the disk.
fn sync(folder: &Path) -> anyhow::Result<Duration> {
    let mut file = File::create(folder.join("sync"))?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&[0x55; SYNC_BYTES])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    Ok(median(times.into_iter()))
}

/// The number in the line of `file` that begins with `name`.
fn number_of(file: &str, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{name} in {file}"))?;
    Ok(line.split_ascii_whitespace().next().context("a number")?.parse()?)
}
