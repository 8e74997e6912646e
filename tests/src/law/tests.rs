//! The law on small made-up trees: a lawful one, and one for each way to break it.

use super::*;

const FORBID: &str = "#![forbid(unsafe_code)]\n";

/// All crates, each with one lawful dependency on each that it may use, and lawful code in the rooms that need care.
fn lawful() -> Tree {
    let dependencies: &[(&str, &[&str])] = &[
        ("verkle", &["ark-ec", "blst", "blake3"]),
        ("chain-spec", &["rustorium-verkle", "blst"]),
        ("state", &["rustorium-verkle", "rocksdb", "tokio"]),
        ("p2p", &["rustorium-verkle", "rustorium-chain-spec", "libp2p", "tokio"]),
        ("rpc", &["rustorium-verkle", "rustorium-chain-spec", "rustorium-state", "jsonrpsee", "tokio"]),
        ("node", &["rustorium-p2p", "rustorium-rpc", "tokio", "tokio-util"]),
        ("tests", &["rustorium-node", "tokio"]),
    ];
    let krate = |(folder, names): &(&str, &[&str])| Crate {
        name: format!("rustorium-{folder}"),
        folder: (*folder).to_owned(),
        dependencies: names.iter().map(|name| Dependency { name: (*name).into(), renamed: false }).collect(),
        workspace_lints: true,
    };
    let mut files: Vec<(String, String)> = vec![];
    let mut file = |path: &str, text: &str| files.push((path.into(), text.into()));
    for (folder, _) in dependencies {
        let unsafe_room = UNSAFE_CRATES.contains(folder);
        file(&format!("{folder}/src/lib.rs"), if unsafe_room { "//! A crate.\n" } else { FORBID });
    }
    file("verkle/src/curve.rs", "use ark_ec::AffineRepr;");
    file("verkle/src/curve/table.rs", "// SAFETY: none.\nunsafe { ark_ff::go() }");
    file("verkle/src/key.rs", "pub fn f() {}\n#[cfg(test)]\nmod tests {\n use std::fs;\n}");
    file("verkle/tests/vectors.rs", "use std::fs;");
    file("chain-spec/src/bls.rs", "use blst::min_pk;");
    file("state/src/backend.rs", "mod rocksdb;\npub use rocksdb::Rocks;");
    file("state/src/backend/rocksdb.rs", "use rocksdb::{DB, Options}; fn f() { unsafe {} }");
    file("state/src/backend/rocksdb/tests.rs", "use ::rocksdb::DB;");
    file(
        "state/src/store.rs",
        "// rocksdb::DB, unsafe\n/* tokio::x /* y */ */ const A: &str = \"ark_ec::B\"; // unsafe",
    );
    file("state/src/block.rs", "const A: &str = r#\" use tokio::a; \" unsafe \"#; const B: char = '\"'; fn f<'a>() {}");
    file("state/src/walk.rs", "use crate::backend::rocksdb::Rocks; use super::tokio::x; fn f() { a.tokio::<u8>() }");
    file("state/src/view.rs", "let tokio = 1; let x = tokio + rocksdb; struct blst; #[allow(unsafe_code)]");
    file("p2p/src/driver.rs", "use tokio::select;");
    file("p2p/src/driver/swarm.rs", "use libp2p::Swarm;");
    file("rpc/src/server.rs", "#[tokio::main] async fn main() {}");
    Tree { crates: dependencies.iter().map(krate).collect(), files }
}

#[test]
fn a_lawful_tree_has_no_breach() {
    assert_eq!(judge(&lawful()), []);
}

#[test]
fn no_crate_depends_on_another_against_the_law() {
    for (krate, dependency) in [
        ("verkle", "rustorium-chain-spec"),
        ("chain-spec", "rustorium-state"),
        ("state", "rustorium-chain-spec"),
        ("state", "rustorium-p2p"),
        ("p2p", "rustorium-state"),
        ("p2p", "rustorium-rpc"),
        ("rpc", "rustorium-p2p"),
        ("rpc", "rustorium-node"),
        ("verkle", "tokio"),
        ("chain-spec", "tokio-stream"),
        ("state", "ark-bls12-381"),
        ("node", "blst"),
        ("node", "rocksdb"),
        ("rpc", "redb"),
        ("rpc", "libp2p"),
        ("state", "libp2p-core"),
        ("state", "jsonrpsee-core"),
        ("p2p", "hyper"),
    ] {
        let mut tree = lawful();
        let at = tree.crates.iter_mut().find(|c| c.folder == krate).unwrap();
        at.dependencies.push(Dependency { name: dependency.into(), renamed: false });
        let breach = Breach { place: format!("rustorium-{krate}"), what: format!("may not depend on {dependency}") };
        assert_eq!(judge(&tree), [breach]);
    }
}

#[test]
fn no_library_hides_behind_another_name() {
    let mut tree = lawful();
    tree.crates[2].dependencies.push(Dependency { name: "rocksdb".into(), renamed: true });
    assert_eq!(told(&tree), ["rustorium-state: may not give rocksdb another name"]);
}

#[test]
fn no_file_names_a_library_of_another_room() {
    for (path, text, breach) in [
        ("verkle/src/tree.rs", "use ark_ff::Field;", "verkle/src/tree.rs:1: may not name ark_ff"),
        ("verkle/src/tree.rs", "use {ark_ff::Field};", "verkle/src/tree.rs:1: may not name ark_ff"),
        ("verkle/src/curved.rs", "\n\nuse ark_ec as ec;", "verkle/src/curved.rs:3: may not name ark_ec"),
        ("verkle/tests/a.rs", "fn f() { ark_ff::g(); }", "verkle/tests/a.rs:1: may not name ark_ff"),
        ("chain-spec/src/spec.rs", "extern crate blst;", "chain-spec/src/spec.rs:1: may not name blst"),
        ("state/src/store.rs", "/* a\n */ use rocksdb::DB;", "state/src/store.rs:2: may not name rocksdb"),
        ("state/src/store.rs", "mod rocksdb; use ::rocksdb::DB;", "state/src/store.rs:1: may not name rocksdb"),
        ("state/src/store.rs", "mod rocksdb; fn f() -> ::rocksdb::X {}", "state/src/store.rs:1: may not name rocksdb"),
        ("state/src/store.rs", "let a = '\"'; r#rocksdb::f()", "state/src/store.rs:1: may not name rocksdb"),
        ("state/src/writer.rs", "#[tokio::test]", "state/src/writer.rs:1: may not name tokio"),
        ("state/tests/a.rs", "use tokio_util::io;", "state/tests/a.rs:1: may not name tokio_util"),
        ("p2p/src/sync.rs", "use tokio;", "p2p/src/sync.rs:1: may not name tokio"),
        ("rpc/src/wire.rs", "fn f(_: libp2p::PeerId) {}", "rpc/src/wire.rs:1: may not name libp2p"),
        ("state/src/a.rs", "fn f<'a>(x: &'a str) -> rocksdb::X {}", "state/src/a.rs:1: may not name rocksdb"),
        ("p2p/src/serve.rs", "use http::Uri;", "p2p/src/serve.rs:1: may not name http"),
    ] {
        let mut tree = lawful();
        tree.files.push((path.into(), text.into()));
        assert_eq!(told(&tree), [breach], "{text}");
    }
}

#[test]
fn unsafe_stays_in_its_rooms() {
    for (path, breach) in [
        ("verkle/src/node.rs", "verkle/src/node.rs:2: `unsafe` outside the rooms that may"),
        ("verkle/src/curve/ark.rs", "verkle/src/curve/ark.rs:2: `unsafe` outside the rooms that may"),
        ("state/src/backend/memory.rs", "state/src/backend/memory.rs:2: `unsafe` outside the rooms that may"),
        ("node/src/main.rs", "node/src/main.rs:2: `unsafe` outside the rooms that may"),
        ("rpc/tests/a.rs", "rpc/tests/a.rs:2: `unsafe` outside the rooms that may"),
    ] {
        let mut tree = lawful();
        tree.files.push((path.into(), "// Safe.\nunsafe fn f() {}".into()));
        assert_eq!(told(&tree), [breach]);
    }
    for text in ["", "// #![forbid(unsafe_code)]", "mod a; #![forbid(unsafe_code)]", "#![deny(unsafe_code)]"] {
        let mut tree = lawful();
        tree.files.iter_mut().find(|(path, _)| path == "rpc/src/lib.rs").unwrap().1 = text.into();
        assert_eq!(told(&tree), ["rpc/src/lib.rs: lacks `#![forbid(unsafe_code)]`"], "{text}");
    }
    let mut tree = lawful();
    tree.files.retain(|(path, _)| path != "p2p/src/lib.rs");
    assert_eq!(told(&tree), ["p2p/src/lib.rs: is missing"]);
}

#[test]
fn pure_crates_do_nothing_but_compute() {
    for (text, what) in [
        ("use std::fs;", "std::fs"),
        ("use std::{fmt, fs::File};", "std::fs::File"),
        ("use std::{collections::{BTreeMap, HashMap}, time};", "std::time"),
        ("fn f() { std::time::Instant::now(); }", "std::time::Instant::now"),
        ("fn f() { tracing::info!(\"\"); }", "tracing::info"),
    ] {
        let mut tree = lawful();
        tree.files.push(("verkle/src/tree.rs".into(), text.into()));
        assert_eq!(told(&tree), [format!("verkle/src/tree.rs:1: a pure crate may not name {what}")]);
    }
}

#[test]
fn a_crate_obeys_the_lints_and_is_known() {
    let mut tree = lawful();
    tree.crates[0].workspace_lints = false;
    assert_eq!(told(&tree), ["rustorium-verkle: its manifest lacks `[lints] workspace = true`"]);
    let mut tree = lawful();
    tree.crates[5].name = "rustorium-more".into();
    assert_eq!(told(&tree), ["rustorium-more: a crate that the law does not know"]);
}

fn told(tree: &Tree) -> Vec<String> {
    judge(tree).iter().map(ToString::to_string).collect()
}
