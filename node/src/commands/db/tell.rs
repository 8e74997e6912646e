//! What `rustorium db` answers, as lines and as JSON.

use std::io::{self, Write};

use rustorium_state::backend::{Column, Stats};
use rustorium_state::{Cures, Depth, Finding, Header, Repair, Report, Summary};
use serde_json::{Value, json};

/// What to do about a store that cannot be mended.
const RESYNC: &str = "what is left cannot be mended here: move the store away and sync or replay from genesis";

pub(super) fn tell_check(
    store: &str,
    report: &Report,
    depth: Depth,
    json: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    if json {
        return print(&json!({ "store": store, "deep": depth == Depth::Deep, "report": of_report(report) }), out);
    }
    writeln!(out, "store         {store}")?;
    counts(report, depth, out)?;
    if report.is_sound() {
        return writeln!(out, "all is well");
    }
    findings("wrong", report, out)?;
    let Cures { mend, rewind, copy, resync } = report.cures;
    if mend + rewind + copy > 0 {
        writeln!(out, "`rustorium db check --repair` mends what can be mended")?;
    }
    if resync > 0 { writeln!(out, "{RESYNC}") } else { Ok(()) }
}

pub(super) fn tell_repair(store: &str, repair: &Repair, json: bool, out: &mut impl Write) -> io::Result<()> {
    let Repair { found, done, left } = repair;
    if json {
        let done: Vec<String> = done.iter().map(ToString::to_string).collect();
        let told = json!({ "store": store, "found": of_report(found), "done": done, "left": of_report(left) });
        return print(&told, out);
    }
    writeln!(out, "store         {store}")?;
    counts(left, Depth::Deep, out)?;
    if found.is_sound() {
        return writeln!(out, "all is well, nothing was done");
    }
    findings("was wrong", found, out)?;
    done.iter().try_for_each(|deed| writeln!(out, "done: {deed}"))?;
    if done.is_empty() {
        writeln!(out, "nothing was done")?;
    }
    if left.is_sound() {
        return writeln!(out, "all is well now");
    }
    if left != found {
        findings("is wrong still", left, out)?;
    }
    writeln!(out, "{RESYNC}")
}

pub(super) fn tell_stats(
    store: &str,
    summary: &Summary,
    stats: &Stats,
    json: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let bytes = |column| stats.column(column).disk_bytes + stats.column(column).memory_bytes;
    let leaves = bytes(Column::Leaf) + bytes(Column::Big);
    let tree = leaves + bytes(Column::Node) + bytes(Column::Index);
    let of_key = tree as f64 / summary.leaves.max(1) as f64;
    let nodes_part = bytes(Column::Node) as f64 / leaves.max(1) as f64;
    let Summary { generation, base, finalized, head, oldest, journal_blocks, journal_bytes, leaves: keys } = summary;
    if json {
        let columns = Column::ALL.map(|column| {
            let of = stats.column(column);
            let (disk, memory, files) = (of.disk_bytes, of.memory_bytes, of.files);
            json!({ "column": column.name(), "diskBytes": disk, "memoryBytes": memory, "files": files })
        });
        let told = json!({
            "store": store, "generation": generation, "keys": keys,
            "base": of_header(base), "finalized": of_header(finalized), "head": of_header(head),
            "oldest": oldest, "journalBlocks": journal_blocks, "journalBytes": journal_bytes,
            "columns": columns, "logBytes": stats.log_bytes, "diskBytes": stats.disk_bytes(),
            "freeBytes": stats.free_bytes, "bytesAKey": of_key, "nodesToLeaves": nodes_part,
        });
        return print(&told, out);
    }
    writeln!(out, "store         {store}")?;
    writeln!(out, "generation    {generation}")?;
    for (name, header) in [("columns hold", base), ("final", finalized), ("head", head)] {
        writeln!(out, "{name:<13} {}", block(header))?;
    }
    let kept = oldest.map_or("none".to_owned(), |oldest| format!("of block {oldest} and all since"));
    writeln!(out, "states        {kept}")?;
    writeln!(out, "journal       {journal_blocks} blocks, {}", size(*journal_bytes))?;
    writeln!(out, "keys, about   {keys}")?;
    writeln!(out, "\n{:<8} {:>12} {:>12} {:>6}", "column", "on disk", "in memory", "files")?;
    for column in Column::ALL {
        let of = stats.column(column);
        let (disk, memory) = (size(of.disk_bytes), size(of.memory_bytes));
        writeln!(out, "{:<8} {disk:>12} {memory:>12} {:>6}", column.name(), of.files)?;
    }
    writeln!(out, "{:<8} {:>12}", "log", size(stats.log_bytes))?;
    writeln!(out, "{:<8} {:>12}", "all", size(stats.disk_bytes()))?;
    writeln!(out, "\nbytes a key             {of_key:.1} (leaf, big, node and index)")?;
    writeln!(out, "node ÷ (leaf + big)     {nodes_part:.3}")
}

pub(super) fn tell_compaction(
    store: &str,
    before: &Stats,
    after: &Stats,
    json: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    if json {
        let columns = Column::ALL.map(|column| {
            let (before, after) = (before.column(column).disk_bytes, after.column(column).disk_bytes);
            json!({ "column": column.name(), "bytesBefore": before, "bytesAfter": after })
        });
        return print(&json!({ "store": store, "columns": columns }), out);
    }
    writeln!(out, "store         {store}")?;
    writeln!(out, "{:<8} {:>12} {:>12}", "column", "before", "after")?;
    for column in Column::ALL {
        let (before, after) = (before.column(column).disk_bytes, after.column(column).disk_bytes);
        writeln!(out, "{:<8} {:>12} {:>12}", column.name(), size(before), size(after))?;
    }
    writeln!(out, "{:<8} {:>12} {:>12}", "all", size(before.disk_bytes()), size(after.disk_bytes()))
}

fn counts(report: &Report, depth: Depth, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "leaves        {}", report.leaves)?;
    writeln!(out, "nodes         {}", report.nodes)?;
    let unread = if depth == Depth::Quick && report.bigs > 0 { " (not read; --deep reads them)" } else { "" };
    writeln!(out, "large values  {}{unread}", report.bigs)?;
    writeln!(out, "blocks        {}", report.blocks)?;
    if report.journal > 0 {
        writeln!(out, "in journal    {}", report.journal)?;
    }
    if report.witnessed > 0 {
        writeln!(out, "keys proved   {}", report.witnessed)?;
    }
    Ok(())
}

fn findings(verb: &str, report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Cures { mend, rewind, copy, resync } = report.cures;
    writeln!(out, "\n{} findings: what {verb}", report.findings_total)?;
    writeln!(out, "{report}")?;
    writeln!(out, "\nto mend {mend}, to rewind {rewind}, to copy {copy}, to re-sync {resync}")
}

fn of_report(report: &Report) -> Value {
    let of = |Finding { column, row, what, cure }: &Finding| {
        let cure = format!("{cure:?}").to_lowercase();
        json!({ "column": column.name(), "row": row, "what": what, "cure": cure })
    };
    let findings: Vec<Value> = report.findings.iter().map(of).collect();
    json!({
        "sound": report.is_sound(), "leaves": report.leaves, "nodes": report.nodes, "largeValues": report.bigs,
        "blocks": report.blocks, "journal": report.journal, "keysProved": report.witnessed,
        "findings": findings, "findingsTotal": report.findings_total,
    })
}

fn of_header(header: &Option<Header>) -> Value {
    let of = |header: &Header| {
        let (hash, root) = (header.hash.to_string(), header.state_root.to_string());
        json!({ "number": header.number, "hash": hash, "stateRoot": root })
    };
    header.as_ref().map_or(Value::Null, of)
}

fn block(header: &Option<Header>) -> String {
    let name = |header: &Header| format!("block {} {}", header.number, header.hash);
    header.as_ref().map_or_else(|| "no block: see `rustorium db check`".to_owned(), name)
}

fn print(value: &Value, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", serde_json::to_string_pretty(value)?)
}

/// Bytes in the unit that suits.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
