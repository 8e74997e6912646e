//! What the operating system knows: the machine, this process' CPU time and memory. Linux alone.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

/// Bytes of a write whose sync is timed, a small batch's.
const SYNC_BYTES: usize = 4096;
/// Times that it is done.
const SYNCS: usize = 201;
/// Bytes of a block in what a file says that it takes.
const DISK_BLOCK_BYTES: u64 = 512;

/// A stopwatch over wall time and over the CPU time of all threads of this process, in user space and in the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Watch {
    wall: Instant,
    cpu: Duration,
}

/// What a watch has shown.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }

    pub(crate) fn stop(self) -> Took {
        Took { wall: self.wall.elapsed(), cpu: cpu_time() - self.cpu }
    }
}

impl std::ops::AddAssign for Took {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

/// What something takes, and what it gives.
pub(crate) fn timed<T>(act: impl FnOnce() -> T) -> (Took, T) {
    let watch = Watch::start();
    let result = act();
    (watch.stop(), result)
}

/// The middle one of some values, of which there is at least one.
pub(crate) fn median<T: PartialOrd>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("measured values compare"));
    let middle = values.len() / 2;
    values.swap_remove(middle)
}

/// The medians of wall and of CPU time.
pub(crate) fn medians(all: &[Took]) -> Took {
    Took { wall: median(all.iter().map(|took| took.wall)), cpu: median(all.iter().map(|took| took.cpu)) }
}

/// CPU time of this process, the threads that have ended included.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The most memory that this process has had in RAM.
pub(crate) fn peak_bytes() -> anyhow::Result<u64> {
    Ok(number_of("/proc/self/status", "VmHWM:")? << 10)
}

/// Bytes that a folder takes on its disk.
pub(crate) fn disk_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * DISK_BLOCK_BYTES };
    }
    Ok(bytes)
}

/// What stands at the head of all tables: names and what they are here.
pub(crate) fn describe(folder: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let field = |name| Some(cpus.lines().find(|line| line.starts_with(name))?.split_once(": ")?.1);
    let flags = field("flags").unwrap_or_default();
    let has = |flag| flags.split(' ').any(|known| known == flag);
    let vectors = ["avx2", "avx512f", "avx512ifma", "sha_ni"].map(|flag| (flag, has(flag)));
    let present: Vec<&str> = vectors.iter().filter(|(_, has)| *has).map(|(flag, _)| *flag).collect();
    let (typical, slow) = sync(folder)?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let memory_gb = |name| anyhow::Ok(number_of("/proc/meminfo", name)? as f64 / f64::from(1 << 20));
    Ok(vec![
        ("processor", format!("{}, {} cores", field("model name").unwrap_or("unknown"), cores()?)),
        ("vector instructions", if present.is_empty() { "none of ours".into() } else { present.join(" ") }),
        ("kernel", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned()),
        ("memory", format!("{:.1} GB, {:.1} GB free", memory_gb("MemTotal:")?, memory_gb("MemAvailable:")?)),
        ("load average", load()?),
        ("folder", folder.parent().unwrap_or(folder).canonicalize()?.display().to_string()),
        ("synced write there", format!("{SYNC_BYTES} bytes: median {:.2} ms, 99th {:.2} ms", ms(typical), ms(slow))),
    ])
}

/// Load averages over 1, 5 and 15 minutes.
pub(crate) fn load() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

pub(crate) fn cores() -> anyhow::Result<usize> {
    Ok(std::thread::available_parallelism()?.get())
}

/// How long it takes to append to a file and have it on the disk: the median, and what one in a hundred exceeds.
fn sync(folder: &Path) -> anyhow::Result<(Duration, Duration)> {
    let path = folder.join("sync");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&[0x55; SYNC_BYTES])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    fs::remove_file(path)?;
    Ok((times[SYNCS / 2], times[SYNCS * 99 / 100]))
}

/// The number in the line of `file` that begins with `name`.
fn number_of(file: &str, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{name} in {file}"))?;
    Ok(line.split_ascii_whitespace().next().context("a number")?.parse()?)
}
