//! The import law of the house: who may depend on whom, who may name which library, and where `unsafe` may stand.
//!
//! It is judged on manifests (`cargo metadata`) and on source text, lexed far enough to tell a path from a comment, a
//! string or a module of the same name. What a manifest forbids cannot be named, so our own crates are judged there
//! alone; the libraries of one room (`LIBRARIES`) are judged in both.
//!
//! Tests count as the code of their crate: dev-dependencies obey the same table, and a room's tests lie in the room. Only
//! purity (`IMPURE`) is asked of the product alone: a test may read a file of vectors.
//!
//! What it is not: a name resolver. A library that is named through a macro of another crate is not seen.

mod lexer;
#[cfg(test)]
mod tests;
mod workspace;

use std::fmt;

use self::lexer::{Token, names, tokens};

/// Our crates and which of ours each may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("rustorium-verkle", &[]),
    ("rustorium-chain-spec", &["rustorium-verkle"]),
    ("rustorium-state", &["rustorium-verkle"]),
    ("rustorium-p2p", &["rustorium-verkle", "rustorium-chain-spec"]),
    ("rustorium-rpc", &["rustorium-verkle", "rustorium-chain-spec", "rustorium-state"]),
    ("rustorium-node", ALL),
    ("rustorium-tests", ALL),
];
const ALL: &[&str] = &["rustorium-*"];

/// Libraries that only some rooms may name.
const LIBRARIES: &[Library] = &[
    Library { names: &["ark_*", "blst"], crates: &["verkle", "chain-spec"], rooms: &["verkle/src/curve", BLS] },
    Library { names: &["rocksdb"], crates: &["state", "tests"], rooms: &["state/src/backend/rocksdb", PEERS] },
    Library {
        names: &["redb"],
        crates: &["state", "tests"],
        rooms: &["state/src/backend/redb", "tests/src/power/redb", PEERS],
    },
    Library { names: &["tikv_client"], crates: &["state"], rooms: &["state/src/backend/tikv"] },
    Library { names: &["libp2p*"], crates: &["p2p", "tests"], rooms: &["p2p", "tests"] },
    Library {
        names: &["tokio*"],
        crates: &["p2p", "rpc", "node", "state", "tests"],
        rooms: &["p2p/src/driver", "p2p/tests", "rpc", "node", "state/src/backend/tikv", "tests"],
    },
    Library {
        names: &["jsonrpsee*", "hyper*", "http", "tower*"],
        crates: &["rpc", "node", "tests"],
        rooms: &["rpc", "node", "tests"],
    },
    Library {
        names: &["metrics_exporter_prometheus", "metrics_process", "metrics_util"],
        crates: &["node"],
        rooms: &["node"],
    },
    Library { names: &["nomt*", "jmt", "eth_trie", "borsh"], crates: &["tests"], rooms: &[PEERS] },
];
/// Where the benchmark holds other stores against ours.
const PEERS: &str = "tests/src/bin/bench/peers";
const BLS: &str = "chain-spec/src/bls";

/// Rooms that may write `unsafe`.
const UNSAFE: &[&str] =
    &["verkle/src/curve/blst", "verkle/src/curve/ifma*", "verkle/src/curve/table", "state/src/backend/rocksdb*"];
/// Crates whose root need not forbid `unsafe`, for the sake of these rooms.
const UNSAFE_CRATES: &[&str] = &["verkle", "state"];

/// Crates without IO, clock and threads of their own, and what they may not name outside tests.
const PURE: &[&str] = &["verkle", "chain-spec"];
const IMPURE: &[&str] = &["std::fs", "std::net", "std::process", "std::env", "std::time", "std::thread", "tracing"];

struct Library {
    /// As paths spell them; `*` at the end stands for any rest.
    names: &'static [&'static str],
    /// Folders of the crates whose manifests may ask for it.
    crates: &'static [&'static str],
    /// Files and folders whose code may name it.
    rooms: &'static [&'static str],
}

/// What the law is judged on.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// The crates of the workspace.
    pub crates: Vec<Crate>,
    /// The source files of the crates, with paths from the workspace's root.
    pub files: Vec<(String, String)>,
}

/// A crate's manifest.
#[derive(Clone, Debug)]
pub struct Crate {
    /// The name.
    pub name: String,
    /// Where it lies, from the workspace's root.
    pub folder: String,
    /// What it depends on: for use, for building and for tests.
    pub dependencies: Vec<Dependency>,
    /// Whether the workspace's lints are in force.
    pub workspace_lints: bool,
}

/// A line of a manifest.
#[derive(Clone, Debug)]
pub struct Dependency {
    /// The package's name, as its registry knows it.
    pub name: String,
    /// Whether the crate calls it something else.
    pub renamed: bool,
}

/// One breach of the law.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Breach {
    /// The crate or the file and line.
    pub place: String,
    /// What stands there against the law.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// All breaches, in no particular order; none is what one hopes for.
pub fn judge(tree: &Tree) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for krate in &tree.crates {
        judge_manifest(krate, &mut |what| breaches.push(Breach { place: krate.name.clone(), what }));
        judge_root(krate, tree, &mut breaches);
    }
    for (path, text) in &tree.files {
        let tokens = tokens(text);
        let mut breach = |line: usize, what| breaches.push(Breach { place: format!("{path}:{line}"), what });
        judge_names(path, &tokens, &mut breach);
        judge_unsafe(path, &tokens, &mut breach);
        judge_purity(path, &tokens, &mut breach);
    }
    breaches
}

fn judge_manifest(krate: &Crate, breach: &mut dyn FnMut(String)) {
    let Some((_, ours)) = CRATES.iter().find(|(name, _)| *name == krate.name) else {
        return breach("a crate that the law does not know".into());
    };
    if !krate.workspace_lints {
        breach("its manifest lacks `[lints] workspace = true`".into());
    }
    for Dependency { name, renamed } in &krate.dependencies {
        if name.starts_with("rustorium-") && !ours.iter().any(|allowed| matches(allowed, name)) {
            breach(format!("may not depend on {name}"));
        }
        let Some(library) = library(&name.replace('-', "_")) else { continue };
        if !library.crates.contains(&krate.folder.as_str()) {
            breach(format!("may not depend on {name}"));
        }
        if *renamed {
            breach(format!("may not give {name} another name"));
        }
    }
}

/// The library and the program that a crate makes forbid `unsafe`, except where the crate has a room for it.
fn judge_root(krate: &Crate, tree: &Tree, breaches: &mut Vec<Breach>) {
    if UNSAFE_CRATES.contains(&krate.folder.as_str()) {
        return;
    }
    let root = format!("{}/src/lib.rs", krate.folder);
    let forbids = |text: &str| {
        let words: Vec<String> = tokens(text).iter().take_while(|t| t.text != "mod").map(|t| t.text.clone()).collect();
        words.windows(4).any(|w| w == ["forbid", "(", "unsafe_code", ")"])
    };
    match tree.files.iter().find(|(path, _)| *path == root) {
        Some((_, text)) if forbids(text) => {}
        Some(_) => breaches.push(Breach { place: root, what: "lacks `#![forbid(unsafe_code)]`".into() }),
        None => breaches.push(Breach { place: root, what: "is missing".into() }),
    }
}

fn judge_names(path: &str, tokens: &[Token], breach: &mut dyn FnMut(usize, String)) {
    for name in names(tokens) {
        let Some(library) = library(&name.path[0]) else { continue };
        if !library.rooms.iter().any(|room| holds(room, path)) {
            breach(name.line, format!("may not name {}", name.path[0]));
        }
    }
}

fn judge_unsafe(path: &str, tokens: &[Token], breach: &mut dyn FnMut(usize, String)) {
    if UNSAFE.iter().any(|room| holds(room, path)) {
        return;
    }
    for token in tokens.iter().filter(|token| token.text == "unsafe") {
        breach(token.line, "`unsafe` outside the rooms that may".into());
    }
}

fn judge_purity(path: &str, tokens: &[Token], breach: &mut dyn FnMut(usize, String)) {
    let pure = PURE.iter().any(|krate| holds(&format!("{krate}/src"), path));
    if !pure || path.ends_with("/tests.rs") || path.contains("/tests/") {
        return;
    }
    // By the manner of the house tests come last in a file.
    let words: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    let tests = ["#", "[", "cfg", "(", "test", ")", "]", "mod", "tests", "{"];
    let product = words.windows(tests.len()).position(|w| w == tests).unwrap_or(words.len());
    for name in names(&tokens[..product]) {
        let spelled = name.path.join("::");
        if IMPURE.iter().any(|impure| spelled == *impure || spelled.starts_with(&format!("{impure}::"))) {
            breach(name.line, format!("a pure crate may not name {spelled}"));
        }
    }
}

/// The entry of [`LIBRARIES`] for a library that is spelled so in paths.
fn library(name: &str) -> Option<&'static Library> {
    LIBRARIES.iter().find(|library| library.names.iter().any(|pattern| matches(pattern, name)))
}

/// Whether a room (a file without its `.rs`, or a folder) holds the file at `path`.
fn holds(room: &str, path: &str) -> bool {
    match room.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => path.strip_prefix(room).is_some_and(|rest| rest == ".rs" || rest.starts_with('/')),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}
