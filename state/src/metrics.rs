//! The names of all metrics of the program, each with what it means, its labels and its unit.
//!
//! Whoever measures uses a name from here with the macros of the crate `metrics`. Without a recorder, as in most tests and
//! for whoever embeds the crates and wants none, measuring costs next to nothing. A label has few values, and all of them
//! are ours: nothing that a peer or a client sends becomes one.

use metrics::Unit;

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:ident = $text:literal, $unit:ident;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $text;)+

        /// All names, in the order of this file.
        pub const ALL: &[&str] = &[$($name),+];

        /// Tells the recorder what each metric means. Call it once a recorder is there.
        pub fn describe() {
            $(describe!($kind, $name, Unit::$unit, concat!($($doc),+).trim_start());)+
        }
    };
}

macro_rules! describe {
    (counter, $($what:tt)+) => { metrics::describe_counter!($($what)+) };
    (gauge, $($what:tt)+) => { metrics::describe_gauge!($($what)+) };
    (histogram, $($what:tt)+) => { metrics::describe_histogram!($($what)+) };
}

metrics! {
    /// The number of the head.
    gauge HEAD_NUMBER = "rustorium_head_number", Count;
    /// The number of the newest finalised block.
    gauge FINALISED_NUMBER = "rustorium_finalised_number", Count;
    /// The number of the block whose tree lies in the columns; above it blocks are read from the journal.
    gauge BASE_NUMBER = "rustorium_base_number", Count;
    /// The number of the oldest block whose state can be read.
    gauge OLDEST_NUMBER = "rustorium_oldest_number", Count;
    /// Blocks that are applied and not final.
    gauge UNFINALISED_BLOCKS = "rustorium_unfinalised_blocks", Count;
    /// Bytes of what unfinalised blocks change.
    gauge UNFINALISED_BYTES = "rustorium_unfinalised_bytes", Bytes;

    /// Blocks applied, on whatever fork.
    counter BLOCKS_APPLIED = "rustorium_blocks_applied_total", Count;
    /// Blocks finalised.
    counter BLOCKS_FINALISED = "rustorium_blocks_finalised_total", Count;
    /// Blocks refused. Label `reason`: the name of the error.
    counter BLOCKS_REFUSED = "rustorium_blocks_refused_total", Count;
    /// Blocks dropped because finality went by another fork.
    counter FORKS_DROPPED = "rustorium_forks_dropped_total", Count;

    /// Time to apply a block, by its parts. Label `phase`: `read` what it touches, `compute` the new tree, write and sync
    /// the `journal`, `publish` the view.
    histogram APPLY_SECONDS = "rustorium_apply_seconds", Seconds;
    /// Time of a commit of the backend. Label `durability`: `synced` or `buffered`.
    histogram COMMIT_SECONDS = "rustorium_commit_seconds", Seconds;
    /// Time to write finalised blocks into the columns, in the background.
    histogram FLUSH_SECONDS = "rustorium_flush_seconds", Seconds;
    /// Rows that one flush wrote.
    histogram FLUSH_ROWS = "rustorium_flush_rows", Count;
    /// Bytes that one flush wrote.
    histogram FLUSH_BYTES = "rustorium_flush_bytes", Bytes;

    /// Time to read a value.
    histogram READ_SECONDS = "rustorium_read_seconds", Seconds;
    /// Time to make a witness, verifying it included.
    histogram WITNESS_SECONDS = "rustorium_witness_seconds", Seconds;
    /// Witnesses not made. Label `reason`: the name of the error.
    counter WITNESSES_REFUSED = "rustorium_witnesses_refused_total", Count;

    /// What was looked up in memory and found. Label `cache`: `nodes`, `values` or `witnesses`.
    counter CACHE_HITS = "rustorium_cache_hits_total", Count;
    /// What was looked up in memory and not found. Label `cache`: `nodes`, `values` or `witnesses`.
    counter CACHE_MISSES = "rustorium_cache_misses_total", Count;
    /// Bytes that a cache takes, about. Label `cache`: `nodes`, `values` or `witnesses`.
    gauge CACHE_BYTES = "rustorium_cache_bytes", Bytes;

    /// Commits that the backend slowed down because it was behind with its own work.
    counter WRITE_STALLS = "rustorium_write_stalls_total", Count;
    /// Time of such a commit.
    histogram WRITE_STALL_SECONDS = "rustorium_write_stall_seconds", Seconds;
    /// What was answered `Busy`. Label `queue`: the `writer`'s commands, the `front`'s callers, the
    /// `backend`'s commits, the `readers`' jobs, or bytes of `requests`.
    counter BUSY = "rustorium_busy_total", Count;
    /// Writes refused because the disk is full.
    counter DISK_FULL = "rustorium_disk_full_total", Count;
    /// Bytes that the disk has left.
    gauge DISK_FREE_BYTES = "rustorium_disk_free_bytes", Bytes;
    /// Bytes that the store takes on disk, its log included.
    gauge DISK_BYTES = "rustorium_disk_bytes", Bytes;
    /// Bytes that the states of the past take of them, in tables.
    gauge HISTORY_BYTES = "rustorium_history_bytes", Bytes;

    /// JSON-RPC calls of methods that exist, each of a batch too. Labels `method` and `outcome`: `ok`; `refused`, the
    /// question being wrong; `busy`; `failed`, which is the node's fault; `abandoned` by the client before there was an
    /// answer.
    counter RPC_CALLS = "rustorium_rpc_calls_total", Count;
    /// Time of a JSON-RPC call of a method that exists. Labels `method` and `outcome`.
    histogram RPC_SECONDS = "rustorium_rpc_seconds", Seconds;
    /// JSON-RPC connections that are open. Label `listener`: `public` or `engine`.
    gauge CONNECTIONS = "rustorium_connections", Count;
    /// JSON-RPC subscriptions that are open. Label `method`: that of their notifications.
    gauge SUBSCRIPTIONS = "rustorium_subscriptions", Count;
    /// Subscriptions that ended because the subscriber was too slow. Label `method`.
    counter SUBSCRIPTIONS_BEHIND = "rustorium_subscriptions_behind_total", Count;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_say_what_they_count() {
        let distinct: BTreeSet<&str> = ALL.iter().copied().collect();
        assert_eq!(distinct.len(), ALL.len());
        for name in ALL {
            let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(plain && name.starts_with("rustorium_"), "{name}");
        }
    }
}
