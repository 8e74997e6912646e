//! The program as a user meets it: arguments in; stdout, stderr and exit code out.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use rustorium_verkle::{Change, Committer, KeyPath, WindowBits, tree};
use serde_json::{Value, json};

/// The address of a port that nobody listens on: it was free a moment ago.
fn unreachable_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rustorium"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code().expect("no signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn rustorium(arguments: &[&str]) -> Ended {
    ended(command(arguments).output().unwrap())
}

fn rustorium_with_input(arguments: &[&str], input: &[u8]) -> Ended {
    let mut command = command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that refuses its arguments may be gone before it has read anything.
    let _ = child.stdin.take().unwrap().write_all(input);
    ended(child.wait_with_output().unwrap())
}

/// A bundle for one value and one absence, as a node would give it.
fn bundle() -> Value {
    let mut nodes = tree::Nodes::default();
    let changes = (0..50u8).map(|i| Change::put(&[i], &[i, i]));
    let root = nodes.apply(changes, &Committer::new(WindowBits::SMALL)).state_root();
    let witness = nodes.prove(&[KeyPath::of(&[7]), KeyPath::of(b"nobody")]).unwrap();
    json!({
        "blockHash": format!("0x{}", "11".repeat(32)), "blockNumber": 3, "stateRoot": root.to_string(),
        "claims": [["0x07", "0x0707"], ["0x6e6f626f6479", null]],
        "witness": const_hex::encode_prefixed(witness.encode()), "certificate": null,
    })
}

/// The bundle with one field replaced.
fn altered(field: &str, value: Value) -> Value {
    let mut bundle = bundle();
    bundle[field] = value;
    bundle
}

fn verify(bundle: &Value, more: &[&str]) -> Ended {
    let arguments = [&["witness", "verify", "-"], more].concat();
    rustorium_with_input(&arguments, bundle.to_string().as_bytes())
}

#[test]
fn version_and_help_end_well() {
    let version = format!("rustorium {}\n", env!("CARGO_PKG_VERSION"));
    for arguments in [["version"], ["--version"]] {
        let ended = rustorium(&arguments);
        assert_eq!((ended.code, ended.stdout, ended.stderr), (0, version.clone(), String::new()));
    }
    for arguments in [&["--help"][..], &["help"], &["run", "--help"], &["witness", "verify", "--help"]] {
        let ended = rustorium(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stdout.contains("Usage: rustorium"), "{arguments:?}");
    }
}

#[test]
fn wrong_usage_is_64() {
    for arguments in [
        &[][..],
        &["run"],
        &["nonsense"],
        &["--nonsense"],
        &["get"],
        &["get", "0xz"],
        &["get", "k", "--at", "yesterday"],
        &["get", "k", "--url", "not a url"],
        &["get", "k", "--url", "ftp://127.0.0.1"],
        &["witness"],
        &["witness", "get"],
        &["witness", "verify"],
        &["witness", "verify", "-", "--state-root", "0x12"],
        &["chain-spec"],
        &["chain-spec", "show"],
        &["--dev", "version"],
        &["--dev", "--rpc-port", "99999"],
    ] {
        let ended = rustorium(arguments);
        assert_eq!(ended.code, 64, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn wrong_configuration_is_78() {
    let clash = rustorium(&["--dev", "--rpc-port", "7", "--engine-port", "7"]);
    assert_eq!(clash.code, 78, "{}", clash.stderr);
    let output = command(&["version"]).env("RUST_LOG", "rustorium=loud").output().unwrap();
    let ended = ended(output);
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(ended.stderr.contains("RUST_LOG"), "{}", ended.stderr);
}

#[test]
fn the_dev_spec_is_shown() {
    let ended = rustorium(&["chain-spec", "show", "--chain", "dev", "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let expected = json!({
        "name": "Development", "id": "dev", "chainType": "Development", "keys": 1,
        "stateRoot": "0x5e2fdabcdd8d558543d35c0773fb9bf70752e721474ff633e11d08c2e5d05b7d",
        "genesisHash": "0x658d4a88efadcc810a205da9dbba992fc10696ce46a8c7348d0254d829714008",
        "specHash": "0xf95531483f7506f4b0754276f837b3d9897365ec4a99cc3a82995296516b9fd4",
    });
    assert_eq!(serde_json::from_str::<Value>(&ended.stdout).unwrap(), expected);
    let ended = rustorium(&["chain-spec", "show", "--chain", "dev"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for field in ["name", "id", "keys", "stateRoot", "genesisHash", "specHash"] {
        let value = expected[field].as_str().map_or(expected[field].to_string(), ToOwned::to_owned);
        assert!(ended.stdout.lines().any(|line| line.ends_with(&format!(" {value}"))), "{field}: {}", ended.stdout);
    }
}

#[test]
fn a_spec_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.json");
    std::fs::write(&path, r#"{"name": "T", "id": "t", "genesis": {"raw": {"top": {"0xzz": "0x"}}}}"#).unwrap();
    for (chain, code, message) in [
        (path.to_str().unwrap(), 65, "bad.json: the genesis key 0xzz is not hex"),
        ("no-such-chain", 66, "--chain no-such-chain: not a preset (dev), and not a file that can be read"),
    ] {
        for arguments in [&["chain-spec", "show", "--chain", chain][..], &["run", "--chain", chain]] {
            let ended = rustorium(arguments);
            assert_eq!(ended.code, code, "{arguments:?}: {}", ended.stderr);
            assert!(ended.stdout.is_empty() && ended.stderr.contains(message), "{arguments:?}: {}", ended.stderr);
        }
    }
}

#[test]
fn a_valid_bundle_is_valid_for_a_root() {
    let bundle = bundle();
    let root = bundle["stateRoot"].as_str().unwrap();
    let ended = verify(&bundle, &[]);
    assert_eq!(ended.stdout, format!("valid for state root {root} (from the bundle, not trusted)\n"));
    assert_eq!((ended.code, ended.stderr), (0, String::new()));
    let ended = verify(&bundle, &["--state-root", root]);
    assert_eq!((ended.code, ended.stdout), (0, format!("valid for state root {root}\n")), "{}", ended.stderr);
    // The trusted root counts, whatever the bundle says.
    let lying = altered("stateRoot", json!(format!("0x{}", "22".repeat(32))));
    let ended = verify(&lying, &["--state-root", root]);
    assert_eq!((ended.code, ended.stdout), (0, format!("valid for state root {root}\n")), "{}", ended.stderr);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.json");
    std::fs::write(&path, bundle.to_string()).unwrap();
    assert_eq!(rustorium(&["witness", "verify", path.to_str().unwrap()]).code, 0);
}

#[test]
fn an_invalid_bundle_is_65_and_the_rule_is_named() {
    let claim = |key: &str, value: Value| json!([key, value]);
    let (present, absent) = (claim("0x07", json!("0x0707")), claim("0x6e6f626f6479", Value::Null));
    let other_root = format!("0x{}", "22".repeat(32));
    let witness = bundle()["witness"].as_str().unwrap().to_owned();
    for (bundle, more, rule) in [
        (bundle(), &["--state-root", &other_root][..], "stateRoot"),
        (altered("stateRoot", json!(other_root)), &[], "stateRoot"),
        (altered("witness", json!("0x")), &[], "decode"),
        (altered("witness", json!(format!("{witness}00"))), &[], "decode"),
        (altered("claims", json!([])), &[], "count"),
        (altered("claims", json!([present])), &[], "count"),
        (altered("claims", json!([present, present])), &[], "count"),
        (altered("claims", json!([claim("0x07", Value::Null), absent])), &[], "terminal"),
        (altered("claims", json!([present, claim("0x6e6f626f6479", json!("0x"))])), &[], "terminal"),
        (altered("claims", json!([claim("0x07", json!("0x0708")), absent])), &[], "multiproof"),
    ] {
        let ended = verify(&bundle, more);
        assert_eq!(ended.code, 65, "{rule}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.is_empty() && ended.stderr.contains(&format!("rule {rule}")), "{rule}: {}", ended.stderr);
    }
}

#[test]
fn what_is_no_bundle_is_65_and_no_file_is_66() {
    for text in ["", "{}", "[]", "null", "{\"result\": 1}", &altered("witness", json!("zz")).to_string()] {
        let ended = rustorium_with_input(&["witness", "verify", "-"], text.as_bytes());
        assert_eq!(ended.code, 65, "{text}: {}", ended.stderr);
        assert!(
            ended.stdout.is_empty() && ended.stderr.contains("is not a witness bundle"),
            "{text}: {}",
            ended.stderr
        );
    }
    let ended = rustorium(&["witness", "verify", "/nowhere/bundle.json"]);
    assert_eq!(ended.code, 66, "{}", ended.stderr);
    assert!(ended.stderr.contains("/nowhere/bundle.json"), "{}", ended.stderr);
}

#[test]
fn a_node_that_cannot_be_reached_is_69() {
    let url = unreachable_url();
    for arguments in [&["get", "k"][..], &["get", "k", "--witness"], &["witness", "get", "k", "0x00"]] {
        let ended = rustorium(&[arguments, &["--url", &url]].concat());
        assert_eq!(ended.code, 69, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stdout.is_empty() && ended.stderr.contains(&url), "{arguments:?}: {}", ended.stderr);
    }
}
