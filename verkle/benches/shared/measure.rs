//! What the benchmarks have in common: clocks, and random hashes from a seed.

use std::time::{Duration, Instant};

/// Wall time, and the CPU time of all threads: the machine may be shared.
pub struct Clocks {
    wall: Instant,
    cpu: Duration,
}

impl Clocks {
    pub fn now() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }

    pub fn elapsed(&self) -> (Duration, Duration) {
        (self.wall.elapsed(), cpu_time() - self.cpu)
    }
}

/// Nanoseconds on a processor, over the threads that live (Linux; zero elsewhere).
fn cpu_time() -> Duration {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.filter_map(of_task).sum())
}

/// xorshift64*, enough for keys.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn hash(&mut self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.next().to_le_bytes()));
        hash
    }
}
