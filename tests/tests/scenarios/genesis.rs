//! Real genesis states: loaded, listed, read, proven, and still there after a restart.

use std::fs;

use rustorium_rpc::StateApiClient as _;
use rustorium_rpc::wire::{Hash32, HexBytes, WitnessCheck};
use rustorium_tests::chain::verify;
use rustorium_tests::daemon::Daemon;
use rustorium_tests::data::Data;
use rustorium_tests::program::run_to;
use serde_json::{Value, json};

use super::{holds_exactly, keys, refusal, value, witness};

const CODE: &[u8] = b":code";

#[test]
fn chain_spec_show_has_the_published_roots() -> anyhow::Result<()> {
    let Some(data) = Data::find()? else { return Ok(()) };
    for name in ["kusama.json.gz", "westend.json.gz"] {
        let mark = data.genesis_mark(name)?;
        let file = data.file(name);
        let (shown, _) = run_to(0, &["chain-spec", "show", "--json", "--chain", file.to_str().unwrap()])?;
        let shown: Value = serde_json::from_str(&shown)?;
        assert_eq!(shown["stateRoot"], mark.state_root.to_string(), "{name}");
        assert_eq!(shown["keys"], mark.keys, "{name}");
        assert_eq!(data.genesis(name)?.len(), mark.keys, "{name}");
    }
    Ok(())
}

#[test]
fn a_real_genesis_is_served_and_proven() -> anyhow::Result<()> {
    let Some(data) = Data::find()? else { return Ok(()) };
    for name in ["kusama.json.gz", "westend.json.gz"] {
        serve(&data, name)?;
    }
    Ok(())
}

fn serve(data: &Data, name: &str) -> anyhow::Result<()> {
    let (mark, pairs) = (data.genesis_mark(name)?, data.genesis(name)?);
    let folder = tempfile::tempdir()?;
    let base_path = folder.path().join("base");
    let (file, bundle_file) = (data.file(name), folder.path().join("bundle.json"));
    let (chain, bundle_file) = (file.to_str().unwrap(), bundle_file.to_str().unwrap());
    let daemon = Daemon::start(chain, &base_path)?;
    let head = daemon.head()?;
    assert_eq!((head.number, head.state_root.0), (0, mark.state_root.0));

    // Values by their Substrate keys, the code of a megabyte included.
    holds_exactly(&daemon, &pairs)?;
    let code = value(&daemon, CODE)?.expect(":code");
    assert!(code.len() > 400_000 && pairs[CODE] == code, "{} bytes of code", code.len());
    let size = daemon.ask(async |client| client.storage_size(HexBytes(CODE.to_vec()), None).await)?;
    assert_eq!(size, Some(code.len() as u64));
    // twox128("System") ++ twox128("Account"), and a prefix that ends within a byte sequence common to many keys.
    for prefix in ["26aa394eea5630e07c48ae0c9558cef7b99d880ec681799c0cf30e8886371da9", "26"] {
        let prefix = const_hex::decode(prefix)?;
        let expected: Vec<&Vec<u8>> = pairs.keys().filter(|key| key.starts_with(&prefix)).collect();
        assert_eq!(keys(&daemon, &prefix)?.iter().collect::<Vec<_>>(), expected, "{name}");
    }

    // Some present, the code among them, one asked twice, some absent.
    let mut asked: Vec<Vec<u8>> = pairs.keys().step_by(pairs.len() / 20).cloned().collect();
    asked.extend([CODE.to_vec(), b":absent".to_vec(), asked[1].clone(), vec![]]);
    let bundle = witness(&daemon, &asked)?;
    asked.remove(asked.len() - 2);
    assert!(bundle.claims.iter().map(|(key, _)| &key.0).eq(&asked));
    for (key, value) in &bundle.claims {
        assert_eq!(value.as_ref().map(|value| &value.0), pairs.get(&key.0), "{key}");
    }
    verify(&bundle, mark.state_root)?;

    // The same by the node's own verifier, which refuses a claim that was bent.
    let check = WitnessCheck {
        state_root: Hash32(mark.state_root.0),
        claims: bundle.claims.clone(),
        witness: bundle.witness.clone(),
    };
    let honest = check.clone();
    assert!(daemon.ask(async |client| client.verify_witness(honest).await)?);
    let mut bent = check.clone();
    bent.claims[0].1 = Some(HexBytes(b"bent".to_vec()));
    let answer = daemon.ask(async |client| client.verify_witness(bent).await);
    assert_eq!(refusal(answer), (4010, json!({ "rule": "multiproof" })));
    let mut silent = check.clone();
    silent.claims.pop();
    let answer = daemon.ask(async |client| client.verify_witness(silent).await);
    assert_eq!(refusal(answer), (4010, json!({ "rule": "count" })));

    // The same offline, by the program.
    let (root, other_root) = (mark.state_root.to_string(), Hash32([1; 32]).to_string());
    let (text, _) = run_to(0, &["witness", "get", "--url", daemon.rpc(), ":code", ":absent"])?;
    fs::write(bundle_file, &text)?;
    let verify = ["witness", "verify", bundle_file, "--state-root"];
    run_to(0, &[&verify[..], &[&root]].concat())?;
    let (_, why) = run_to(65, &[&verify[..], &[&other_root]].concat())?;
    assert!(why.contains("stateRoot"), "{why}");
    let (valid, _) = run_to(0, &verify[..3])?;
    assert_eq!(valid, format!("valid for state root {root} (from the bundle, not trusted)\n"));
    fs::write(bundle_file, text.replacen(&const_hex::encode(b":absent"), &const_hex::encode(b":absenu"), 1))?;
    run_to(65, &[&verify[..], &[&root]].concat())?;

    // A restart keeps everything, and loads nothing again.
    assert!(daemon.stop("TERM")?.success());
    let daemon = Daemon::start(chain, &base_path)?;
    assert_eq!(daemon.head()?, head);
    holds_exactly(&daemon, &pairs)?;
    assert_eq!(witness(&daemon, &asked)?.witness, bundle.witness);
    assert!(daemon.stop("INT")?.success());
    Ok(())
}
