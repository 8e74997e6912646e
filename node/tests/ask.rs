//! `get` and `witness get` against a node of a few lines, honest or not.

use std::process::{Command, Output, Stdio};

use jsonrpsee::RpcModule;
use jsonrpsee::server::{Server, ServerHandle};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use rustorium_verkle::{Change, Committer, KeyPath, StateRoot, WindowBits, tree};
use serde_json::{Value, json};

/// A node whose one block has `alice` = `100`, and which answers as told.
struct Node {
    url: String,
    _handle: ServerHandle,
    _runtime: tokio::runtime::Runtime,
}

type Answer = Result<Value, ErrorObjectOwned>;

impl Node {
    fn answering(answer: impl Fn(&str, &[Value]) -> Answer + Clone + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (addr, handle) = runtime.block_on(async {
            let mut module = RpcModule::new(());
            for method in ["state_getStorage", "state_getWitness", "state_getUpdateWitness"] {
                let answer = answer.clone();
                let respond = move |params: Params<'_>, _: &(), _: &_| answer(method, &params.parse::<Vec<Value>>()?);
                module.register_method(method, respond).unwrap();
            }
            let server = Server::builder().build("127.0.0.1:0").await.unwrap();
            (server.local_addr().unwrap(), server.start(module))
        });
        Self { url: format!("http://{addr}"), _handle: handle, _runtime: runtime }
    }

    fn honest() -> Self {
        Self::answering(honest)
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rustorium"));
        command.args(arguments).args(["--url", &self.url]).env_remove("RUST_LOG").stdin(Stdio::null());
        command.output().unwrap()
    }
}

fn honest(method: &str, params: &[Value]) -> Answer {
    let value = |key: &[u8]| (key == b"alice").then_some(b"100".to_vec());
    let key = |text: &Value| const_hex::decode(text.as_str().unwrap()).unwrap();
    let hex = |bytes: Vec<u8>| const_hex::encode_prefixed(bytes);
    if method == "state_getStorage" {
        return Ok(json!(value(&key(&params[0])).map(hex)));
    }
    let (root, nodes) = tree();
    let list = |list: &Value| list.as_array().unwrap().clone();
    let (keys, witness) = if method == "state_getWitness" {
        let keys: Vec<Vec<u8>> = list(&params[0]).iter().map(key).collect();
        let paths: Vec<KeyPath> = keys.iter().map(|key| KeyPath::of(key)).collect();
        (keys, nodes.prove(&paths).unwrap().encode())
    } else {
        let mut keys: Vec<Vec<u8>> = list(&params[0]["reads"]).iter().map(key).collect();
        let reads: Vec<KeyPath> = keys.iter().map(|key| KeyPath::of(key)).collect();
        let changes: Vec<(Vec<u8>, Value)> =
            list(&params[0]["changes"]).iter().map(|pair| (key(&pair[0]), pair[1].clone())).collect();
        let change = |(changed, value): &(Vec<u8>, Value)| match value {
            Value::Null => Change::delete(changed),
            value => Change::put(changed, &key(value)),
        };
        let witness = nodes.prove_update(&reads, &changes.iter().map(change).collect::<Vec<_>>()).unwrap().encode();
        keys.extend(changes.into_iter().map(|(key, _)| key));
        (keys, witness)
    };
    let claims: Vec<_> = keys.iter().map(|key| json!([hex(key.clone()), value(key).map(hex)])).collect();
    Ok(json!({
        "blockHash": format!("0x{}", "11".repeat(32)), "blockNumber": 3, "stateRoot": root.to_string(),
        "claims": claims, "witness": hex(witness), "certificate": null,
    }))
}

fn tree() -> (StateRoot, tree::Nodes) {
    let mut nodes = tree::Nodes::default();
    let changes = [Change::put(b"alice", b"100"), Change::put(b"bob", b"7")];
    let root = nodes.apply(changes, &Committer::new(WindowBits::SMALL)).state_root();
    (root, nodes)
}

#[track_caller]
fn check(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), &*out), (Some(code), stdout), "stderr: {err}");
    assert!(err.contains(stderr) && (!stderr.is_empty() || err.is_empty()), "stderr: {err}");
}

#[test]
fn a_value_is_printed_as_hex_or_as_it_is() {
    let node = Node::honest();
    for key in ["alice", "0x616c696365"] {
        check(&node.ask(&["get", key]), 0, "0x313030\n", "");
        check(&node.ask(&["get", key, "--raw"]), 0, "100", "");
    }
    check(&node.ask(&["get", "carol"]), 1, "", "");
    check(&node.ask(&["get", "carol", "--raw"]), 1, "", "");
}

#[test]
fn a_witnessed_value_is_verified_and_says_so() {
    let node = Node::honest();
    let root = tree().0;
    let block = format!("0x{}", "11".repeat(32));
    let line =
        |what: &str| format!("verified: {what} at block 3 {block}, state root {root} (from the node, not trusted)\n");
    check(&node.ask(&["get", "alice", "--witness"]), 0, &format!("0x313030\n{}", line("value")), "");
    check(&node.ask(&["get", "alice", "--witness", "--raw"]), 0, "100", &line("value"));
    check(&node.ask(&["get", "carol", "--witness"]), 1, &line("absence"), "");
}

#[test]
fn a_node_that_lies_is_caught() {
    type Lie = fn(&mut Value);
    let lies: [(Lie, &str); 4] = [
        (|bundle| bundle["claims"][0][1] = json!("0x39"), "rule multiproof"),
        (|bundle| bundle["claims"][0][1] = Value::Null, "rule terminal"),
        (|bundle| bundle["claims"][0][0] = json!("0x626f62"), "the claims are not for the key asked"),
        (|bundle| bundle["claims"] = json!([]), "the claims are not for the key asked"),
    ];
    for (lie, message) in lies {
        let node = Node::answering(move |method, params| {
            let mut answer = honest(method, params)?;
            lie(&mut answer);
            Ok(answer)
        });
        for arguments in [&["get", "alice", "--witness"][..], &["get", "alice", "--witness", "--raw"]] {
            check(&node.ask(arguments), 65, "", message);
        }
    }
}

#[test]
fn a_bundle_fetched_is_a_bundle_that_verifies() {
    let node = Node::honest();
    let output = node.ask(&["witness", "get", "alice", "0x00", "alic"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let bundle: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(bundle["claims"], json!([["0x616c696365", "0x313030"], ["0x00", null], ["0x616c6963", null]]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.json");
    std::fs::write(&path, &output.stdout).unwrap();
    let mut verify = Command::new(env!("CARGO_BIN_EXE_rustorium"));
    verify.args(["witness", "verify", path.to_str().unwrap(), "--state-root", &tree().0.to_string()]);
    check(&verify.output().unwrap(), 0, &format!("valid for state root {}\n", tree().0), "");
}

#[test]
fn an_update_bundle_leads_to_the_root_after() {
    let node = Node::honest();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let changes = file("changes.json", br#"[["0x616c696365", null], ["0x6e6577", "0x31"]]"#);
    let output = node.ask(&["witness", "update-get", "--changes", &changes, "carol"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let (before, mut nodes) = tree();
    let committer = Committer::new(WindowBits::SMALL);
    let after = nodes.apply([Change::delete(b"alice"), Change::put(b"new", b"1")], &committer).state_root();

    let verify = |path: &str, more: &[&str]| {
        let mut verify = Command::new(env!("CARGO_BIN_EXE_rustorium"));
        verify.args(["witness", "update-verify", path]).args(more).output().unwrap()
    };
    let bundle = file("bundle.json", &output.stdout);
    let said = format!("{after}\nvalid for state root {before}");
    check(&verify(&bundle, &["--state-root", &before.to_string()]), 0, &format!("{said}\n"), "");
    check(&verify(&bundle, &[]), 0, &format!("{said} (from the bundle, not trusted)\n"), "");
    check(&verify(&bundle, &["--state-root", &after.to_string()]), 65, "", "rule stateRoot");
    let mut other: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(other["claims"][0], json!(["0x6361726f6c", null]));
    other["changes"][0][0] = json!("0x63");
    check(&verify(&file("other.json", other.to_string().as_bytes()), &[]), 65, "", "rule change");
    check(&verify(&file("none.json", b"{}"), &[]), 65, "", "is not an update bundle");
    check(&node.ask(&["witness", "update-get", "--changes", &bundle]), 65, "", "is not a list of changes");
}

#[test]
fn the_block_asked_for_is_passed_on() {
    let node = Node::answering(|_, params| Ok(json!(const_hex::encode_prefixed(params[1].as_str().unwrap()))));
    let hash = format!("0x{}", "ab".repeat(32));
    for at in ["head", "finalized", "certified", &hash] {
        check(&node.ask(&["get", "k", "--raw", "--at", at]), 0, at, "");
    }
}

#[test]
fn a_refusal_has_a_code() {
    for (code, exit) in [(4001, 65), (4002, 69), (4020, 65), (4040, 75), (4042, 75), (4052, 69), (-32603, 69)] {
        let node = Node::answering(move |_, _| Err(ErrorObjectOwned::owned(code, "Name: \x1b[2Jwhy", Some(1))));
        for arguments in [&["get", "k"][..], &["witness", "get", "k"]] {
            check(&node.ask(arguments), exit, "", &format!(": Name: [2Jwhy ({code})\n"));
        }
    }
    let node = Node::answering(|_, _| Ok(json!({"not": "a value"})));
    check(&node.ask(&["get", "k"]), 69, "", "the answer is not one of a Rustorium node");
}
