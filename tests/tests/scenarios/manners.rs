//! How the daemon behaves to who starts, stops, asks and misuses it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rustorium_rpc::wire::HexBytes;
use rustorium_rpc::{DevApiClient as _, Secret};
use rustorium_tests::chain::write_spec;
use rustorium_tests::daemon::{Daemon, log_of, post};
use rustorium_tests::program::run_to;
use serde_json::{Value, json};

use super::value;

fn call(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

#[test]
fn a_signal_ends_it_cleanly_within_seconds() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for signal in ["TERM", "INT"] {
        let base_path = folder.path().join(signal);
        let daemon = Daemon::start_with(&["--dev"], &base_path)?;
        let _open = std::net::TcpStream::connect(daemon.rpc().trim_start_matches("http://"))?;
        assert_eq!(daemon.stop(signal)?.code(), Some(0), "SIG{signal}");
        assert!(base_path.join("db").exists(), "--base-path is kept");
    }
    Ok(())
}

#[test]
fn a_second_daemon_is_told_who_holds_the_directory() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let base_path = folder.path().join("base");
    let first = Daemon::start_with(&["--dev"], &base_path)?;
    let second = Daemon::spawn(&["--dev"], &base_path)?;
    assert_eq!(second.ended(Duration::from_secs(10))?.code(), Some(75));
    let told = std::fs::read_to_string(log_of(&base_path))?;
    assert!(told.contains(&format!("(pid {}: ", first.pid())), "{told}");
    first.head()?;
    Ok(())
}

#[test]
fn another_chains_directory_is_refused_naming_both() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let base_path = folder.path().join("base");
    assert!(Daemon::start_with(&["--dev"], &base_path)?.stop("TERM")?.success());
    let other = write_spec(folder.path(), "another", &BTreeMap::from([(b"a".to_vec(), b"b".to_vec())]))?;
    let other = Daemon::spawn(&["--chain", other.to_str().context("text")?], &base_path)?;
    assert_eq!(other.ended(Duration::from_secs(10))?.code(), Some(78));
    let told = std::fs::read_to_string(log_of(&base_path))?;
    assert!(told.contains("`dev`") && told.contains("`another`"), "{told}");
    // The same id with other pairs is another chain too.
    let other = write_spec(folder.path(), "dev", &BTreeMap::from([(b"a".to_vec(), b"b".to_vec())]))?;
    let other = Daemon::spawn(&["--chain", other.to_str().context("text")?], &base_path)?;
    assert_eq!(other.ended(Duration::from_secs(10))?.code(), Some(78));
    // Refusing has harmed nothing.
    let daemon = Daemon::start_with(&["--dev"], &base_path)?;
    assert_eq!(value(&daemon, b"rustorium:greeting")?, Some(b"hello".to_vec()));
    Ok(())
}

#[test]
fn privileged_methods_want_the_secret_and_their_own_port() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start_with(&["--dev"], &folder.path().join("base"))?;
    let status = call("engine_getStatus", json!([]));

    let (http, answer) = post(daemon.rpc(), None, &status)?;
    assert_eq!((http, &answer["error"]["code"]), (200, &json!(-32601)));
    let (http, answer) = post(daemon.rpc(), None, &json!([status, call("chain_getHead", json!([]))]))?;
    assert_eq!((http, &answer[0]["error"]["code"], &answer[1]["result"]["number"]), (200, &json!(-32601), &json!(0)));

    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let bearer = |secret: &Secret, at| format!("Bearer {}", secret.token(at));
    let (ours, theirs) = (daemon.secret()?, Secret::random());
    for (token, expected) in [
        (None, 401),
        (Some("Bearer nonsense".to_owned()), 401),
        (Some(bearer(&theirs, now_s)), 401),
        (Some(bearer(&ours, now_s - 120)), 401),
        (Some(bearer(&ours, now_s)), 200),
    ] {
        let (http, answer) = post(daemon.engine(), token.as_deref(), &status)?;
        assert_eq!(http, expected, "{token:?}: {answer}");
    }
    // Public methods are not behind the secret's door either.
    let (_, answer) = post(daemon.engine(), Some(&bearer(&ours, now_s)), &call("dev_submitChanges", json!([[]])))?;
    assert_eq!(answer["error"]["code"], -32601);
    Ok(())
}

#[test]
fn a_development_node_makes_blocks_and_the_program_reads_them() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let base_path = folder.path().join("base");
    let daemon = Daemon::start_with(&["--dev"], &base_path)?;
    let url = daemon.rpc();
    let told: Vec<String> = (0..5).map(|_| daemon.line()).collect::<Result<_, _>>()?;
    assert_eq!(told.iter().filter(|line| line.contains(url)).count(), 3, "three commands to try: {told:?}");

    let changes = vec![(HexBytes(b"alice".to_vec()), Some(HexBytes(b"100".to_vec())))];
    let sealed = daemon.ask(async |client| client.submit_changes(changes).await)?;
    let head = daemon.head()?;
    assert_eq!((sealed.number, sealed.hash, sealed.state_root), (1, head.hash, head.state_root));
    // B3("rustorium.v1 dev block", parent ‖ number u64 LE ‖ state root)
    let content = [&head.parent_hash.0[..], &1u64.to_le_bytes(), &head.state_root.0].concat();
    assert_eq!(head.hash.0, blake3::derive_key("rustorium.v1 dev block", &content));
    // Frozen: whoever follows the README sees these bytes.
    let hash = "0xd36644cc786033ae0114c72ce0161007004ded36758a0d62259bca6e4bf44fda";
    let state_root = "0xef64ef598ed4387476b81468ba4cb0d03440e544898bdac709f614a9519a2b96";
    assert_eq!((head.hash.to_string(), head.state_root.to_string()), (hash.into(), state_root.into()));

    assert_eq!(run_to(0, &["get", "alice", "--url", url])?.0, "0x313030\n");
    assert_eq!(run_to(0, &["get", "0x616c696365", "--raw", "--url", url])?.0, "100");
    assert_eq!(run_to(1, &["get", "bob", "--url", url])?.0, "");
    let (out, _) = run_to(0, &["get", "alice", "--witness", "--url", url])?;
    assert!(out.starts_with("0x313030\nverified: value at block 1 ") && out.contains(&head.hash.to_string()), "{out}");
    let (out, _) = run_to(1, &["get", "bob", "--witness", "--url", url])?;
    assert!(out.starts_with("verified: absence at block 1 "), "{out}");

    // What is not a development node has no such method.
    assert!(daemon.stop("TERM")?.success());
    let daemon = Daemon::start("dev", &base_path)?;
    assert_eq!(value(&daemon, b"alice")?, Some(b"100".to_vec()));
    let (_, answer) = post(daemon.rpc(), None, &call("dev_submitChanges", json!([[]])))?;
    assert_eq!(answer["error"]["code"], -32601);
    assert!(daemon.stop("TERM")?.success());
    Ok(())
}
