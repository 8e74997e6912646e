//! All pairs of a block out of one node and into another, by the program; and what is refused.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustorium_tests::chain::{self, Model, block, changes, seed, some_keys, write_spec};
use rustorium_tests::daemon::Daemon;
use rustorium_tests::data::Data;
use rustorium_tests::program::{command, run_to, wait};
use serde_json::Value;

use super::{holds_exactly, witness};

const PAIRS: u32 = 40_000;
const BLOCKS: u64 = 4;
/// When an import is killed, after its start.
const KILLED_MS: [u64; 6] = [5, 30, 60, 120, 250, 500];

/// `rustorium state …` with this file, chain and place, which must end with this exit code; what it says.
fn state(code: i32, what: &[&str], file: &Path, spec: &Path, base_path: &Path) -> anyhow::Result<String> {
    let [file, spec, base_path] = [file, spec, base_path].map(|path| path.to_str().expect("text"));
    let place = [file, "--chain", spec, "--base-path", base_path];
    let (out, err) = run_to(code, &[&["state"], what, &place].concat())?;
    Ok(out + &err)
}

#[test]
fn a_state_goes_from_one_node_to_another_whatever_kills_the_import() -> anyhow::Result<()> {
    let (seed, folder) = (seed(), tempfile::tempdir()?);
    let pairs = chain::genesis(seed, PAIRS);
    let spec = write_spec(folder.path(), "bulk", &pairs)?;
    let [from, to, file] = ["from", "to", "file"].map(|name| folder.path().join(name));
    let mut model = Model::new(&pairs);
    let chain = spec.to_str().context("text")?;
    let daemon = Daemon::start(chain, &from)?;
    let genesis = daemon.genesis_hash()?;
    let mut roots = Vec::new();
    for number in 1..=BLOCKS {
        let changes = changes(seed, number);
        daemon.apply(block(number, genesis, &changes))??;
        model.apply(changes);
        roots.push(model.state_root());
    }
    state(75, &["export"], &file, &spec, &from)?;
    ensure!(daemon.stop("TERM")?.success());
    let told: Value = serde_json::from_str(&state(0, &["export", "--json"], &file, &spec, &from)?)?;
    assert_eq!(told["pairs"], model.pairs().len());
    assert_eq!(told["stateRoot"], model.state_root().to_string());
    let whole = fs::read(&file)?;
    // An earlier block's, whose state is of the past.
    let early = folder.path().join("early");
    let number = (BLOCKS - 2).to_string();
    let told: Value = serde_json::from_str(&state(0, &["export", "--json", "--at", &number], &early, &spec, &from)?)?;
    assert_eq!(told["stateRoot"], roots[BLOCKS as usize - 3].to_string());
    let above = state(64, &["export", "--at", "99"], &folder.path().join("above"), &spec, &from)?;
    assert!(above.contains("newest final one is 4"), "{above}");
    state(0, &["import"], &early, &spec, &folder.path().join("early store"))?;
    fs::write(&file, &whole[..whole.len() / 2])?;
    assert!(state(65, &["import"], &file, &spec, &to)?.contains("ends at byte"));
    assert!(state(0, &["export"], &file, &spec, &from)?.contains("of them before"));
    ensure!(fs::read(&file)? == whole, "what goes on ends the same");

    for killed_ms in KILLED_MS {
        let [file, to] = [&file, &to].map(|path| path.to_str().expect("text"));
        let mut import = command(&["state", "import", file, "--chain", chain, "--base-path", to])?;
        let mut import = import.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_millis(killed_ms));
        import.kill()?;
        wait(&mut import, Duration::from_secs(20))?;
    }
    let root = model.state_root().to_string();
    let wrong = format!("0x{}", "11".repeat(32));
    assert!(state(65, &["import", "--state-root", &wrong], &file, &spec, &to)?.contains("trusted is"));
    state(0, &["import", "--state-root", &root], &file, &spec, &to)?;
    let checked = run_to(0, &["db", "check", "--deep", "--chain", chain, "--base-path", to.to_str().context("text")?])?;
    assert!(checked.0.contains("all is well"), "{checked:?}");

    let daemon = Daemon::start(chain, &to)?;
    let head = daemon.head()?;
    ensure!(head.number == BLOCKS && head.state_root.0 == model.state_root().0, "the head is {head:?}");
    let next = changes(seed, BLOCKS + 1);
    daemon.apply(block(BLOCKS + 1, genesis, &next))??;
    model.apply(next);
    let keys = some_keys(&mut chain::rng(seed, "bulk", 0), 40);
    model.verify(&witness(&daemon, &keys)?, &keys)?;
    holds_exactly(&daemon, model.pairs())?;
    ensure!(daemon.stop("TERM")?.success());

    // It is ahead now; and another chain's never fits.
    assert!(state(64, &["import"], &file, &spec, &to)?.contains("--may-lose"));
    state(0, &["import", "--may-lose"], &file, &spec, &to)?;
    let other = write_spec(folder.path(), "other", &chain::genesis(seed + 1, 3))?;
    assert!(state(78, &["import"], &file, &other, &folder.path().join("other"))?.contains("bulk"));
    state(66, &["import"], &folder.path().join("nothing"), &spec, &to)?;
    state(73, &["export"], &folder.path().join("no/folder"), &spec, &to)?;
    Ok(())
}

#[test]
fn a_real_genesis_goes_out_and_comes_in() -> anyhow::Result<()> {
    let Some(data) = Data::find()? else { return Ok(()) };
    let (mark, spec, folder) =
        (data.genesis_mark("kusama.json.gz")?, data.file("kusama.json.gz"), tempfile::tempdir()?);
    let [from, to, file] = ["from", "to", "file"].map(|name| folder.path().join(name));
    let chain = spec.to_str().context("text")?;
    ensure!(Daemon::start(chain, &from)?.stop("TERM")?.success());
    state(0, &["export"], &file, &spec, &from)?;
    state(0, &["import", "--state-root", &mark.state_root.to_string()], &file, &spec, &to)?;
    let daemon = Daemon::start(chain, &to)?;
    holds_exactly(&daemon, &data.genesis("kusama.json.gz")?)?;
    ensure!(daemon.stop("TERM")?.success());
    Ok(())
}
