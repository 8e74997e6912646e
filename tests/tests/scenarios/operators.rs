//! What an operator has: settings from several places, metrics, and answers to probes.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args as _;
use rustorium_node::cli::Run;
use rustorium_rpc::DevApiClient as _;
use rustorium_rpc::wire::HexBytes;
use rustorium_tests::chain::{genesis, seed, write_spec};
use rustorium_tests::daemon::{Daemon, exchange, get, log_of, post};
use serde_json::{Value, json};

use super::{refusal, value, witness};

/// Pairs of a genesis that takes a moment to load.
const PAIRS_LOADED: u32 = 20_000;
/// How long a node that is refused may take to say so.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The samples of `/metrics`, by name and labels as they are written.
fn metrics(daemon: &Daemon) -> anyhow::Result<BTreeMap<String, f64>> {
    let (status, text) = get(daemon.metrics(), "/metrics")?;
    ensure!(status == 200, "{status}: {text}");
    let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').context("a sample")?;
        Ok((name.to_owned(), value.parse().with_context(|| line.to_owned())?))
    };
    samples.map(sample).collect()
}

#[test]
fn metrics_and_health_tell_what_happens() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start_with(&["--dev"], &folder.path().join("base"))?;
    assert_eq!(get(daemon.metrics(), "/livez")?, (200, "ok\n".into()));
    assert_eq!(get(daemon.metrics(), "/readyz")?, (200, "ok\n".into()));

    let calls =
        |method: &str, outcome: &str| format!("rustorium_rpc_calls_total{{method=\"{method}\",outcome=\"{outcome}\"}}");
    let (sealed, read) = (calls("dev_submitChanges", "ok"), calls("state_getStorage", "ok"));
    let before = metrics(&daemon)?;
    assert!(!before.contains_key(&sealed) && before["process_resident_memory_bytes"] > 0.0, "{before:?}");
    let change = (HexBytes(b"alice".to_vec()), Some(HexBytes(b"100".to_vec())));
    daemon.ask(async |client| client.submit_changes(vec![change]).await)?;
    for _ in 0..3 {
        value(&daemon, b"alice")?;
        witness(&daemon, &[b"alice".to_vec()])?;
    }
    // A batch counts call by call; what is no method does not become a label.
    let call = |method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let batch = json!([call("state_getStorage", json!(["0x"])), call("made_up", json!([]))]);
    post(daemon.rpc(), None, &batch)?;
    post(daemon.rpc(), None, &call("state_getStorage", json!([7])))?;
    let after = metrics(&daemon)?;
    assert_eq!((after[&sealed], after[&read]), (1.0, 4.0));
    for name in ["rustorium_head_number", "rustorium_finalised_number"] {
        assert_eq!((before[name], after[name]), (0.0, 1.0), "{name}");
    }
    let commits = "rustorium_commit_seconds_count{durability=\"synced\"}";
    assert!(after[commits] > before[commits] && after["rustorium_disk_free_bytes"] > 0.0, "{after:?}");
    assert_eq!(after[&calls("state_getStorage", "refused")], 1.0);
    assert!(!after.keys().any(|name| name.contains("made_up")));
    let timed = after.iter().find(|(name, _)| name.starts_with("rustorium_rpc_seconds_bucket{method=\"dev_submit"));
    assert!(timed.is_some(), "{after:?}");
    assert!(after["rustorium_cache_hits_total{cache=\"witnesses\"}"] >= 2.0, "{after:?}");
    assert!(after["rustorium_cache_bytes{cache=\"nodes\"}"] > 0.0, "{after:?}");
    assert!(after.contains_key("rustorium_connections{listener=\"public\"}"), "{after:?}");
    assert!(daemon.stop("TERM")?.success());
    Ok(())
}

#[test]
fn the_metrics_listener_answers_its_own_questions_alone() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start_with(&["--dev"], &folder.path().join("base"))?;
    let url = daemon.metrics();
    let long = format!("x: {}\r\n", "y".repeat(20 << 10));
    for (request, lines, expected) in [
        ("GET /", "", 404),
        ("GET /metrics/", "", 404),
        ("HEAD /metrics", "", 200),
        ("POST /metrics", "content-length: 0\r\n", 405),
        ("GET /metrics", "host: evil.example\r\n", 403),
        ("GET /metrics", "host: localhost\r\n", 200),
        ("GET /metrics", &long, 431),
    ] {
        let (status, _) = exchange(url, request, lines, "")?;
        assert_eq!(status, expected, "{request} {lines:.40}");
    }
    // Those who connect and say nothing do not keep others out.
    let _silent: Vec<_> =
        (0..8).map(|_| std::net::TcpStream::connect(url.trim_start_matches("http://"))).collect::<Result<_, _>>()?;
    assert_eq!(get(url, "/livez")?.0, 200);
    assert!(daemon.stop("TERM")?.success());
    Ok(())
}

#[test]
fn probes_are_answered_while_a_genesis_loads() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let spec = write_spec(folder.path(), "load", &genesis(seed(), PAIRS_LOADED))?;
    // The node says where it listens once it is ready, which is too late here.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let url = format!("http://127.0.0.1:{port}");
    let arguments = ["--chain", spec.to_str().context("text")?, "--metrics-port", &port];
    let mut daemon = Daemon::spawn(&arguments, &folder.path().join("base"))?;
    let answer = loop {
        if let Ok((200, _)) = get(&url, "/livez") {
            break get(&url, "/readyz")?;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(answer.0, 503, "{answer:?}");
    assert!(["the node is starting", "the store is", "the genesis is"].iter().any(|why| answer.1.starts_with(why)));
    daemon.ready()?;
    assert_eq!((daemon.metrics(), get(&url, "/readyz")?.0), (url.as_str(), 200));
    assert!(daemon.stop("TERM")?.success());
    Ok(())
}

#[test]
fn a_disk_with_less_than_its_reserve_is_not_ready() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let base_path = folder.path().join("base");
    assert!(Daemon::start_with(&["--dev"], &base_path)?.stop("TERM")?.success());
    // More than any disk has.
    let reserve = u32::MAX.to_string();
    let daemon = Daemon::start_with(&["--dev", "--disk-reserve-mib", &reserve], &base_path)?;
    let (status, why) = get(daemon.metrics(), "/readyz")?;
    assert!(status == 503 && why.starts_with("the disk is full: "), "{status} {why}");
    assert_eq!(get(daemon.metrics(), "/livez")?.0, 200);
    let change = (HexBytes(b"alice".to_vec()), None);
    assert_eq!(refusal(daemon.ask(async |client| client.submit_changes(vec![change]).await)).0, 4050);
    assert_eq!(value(&daemon, b"rustorium:greeting")?, Some(b"hello".to_vec()));
    assert_eq!(metrics(&daemon)?["rustorium_disk_full_total"], 1.0);
    assert!(daemon.stop("TERM")?.success());
    Ok(())
}

#[test]
fn a_taken_metrics_port_is_refused_by_its_name() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let addr = taken.local_addr()?;
    let base_path = folder.path().join("base");
    let daemon = Daemon::spawn(&["--dev", "--metrics-port", &addr.port().to_string()], &base_path)?;
    assert_eq!(daemon.ended(REFUSAL_TIMEOUT)?.code(), Some(69));
    let told = std::fs::read_to_string(log_of(&base_path))?;
    assert!(told.contains("(--metrics-port)") && told.contains(&addr.to_string()), "{told}");
    Ok(())
}

#[test]
fn settings_come_from_a_file_variables_and_flags() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let pairs = BTreeMap::from([(b"a".to_vec(), b"b".to_vec())]);
    let spec = |id: &str| anyhow::Ok(write_spec(folder.path(), id, &pairs)?.to_str().context("text")?.to_owned());
    let specs = [spec("of-file")?, spec("of-variable")?, spec("of-flag")?];
    let file = folder.path().join("node.toml");
    std::fs::write(&file, format!("# A node\nchain = {:?}\nlog-format = \"json\"\n", specs[0]))?;
    let config = ["--config", file.to_str().context("text")?];
    let flags = [&config[..], &["--chain", &specs[2]]].concat();
    let variables = [("RUSTORIUM_CHAIN", specs[1].as_str()), ("RUSTORIUM_SEED", "not a node's business")];
    for (id, variables, arguments) in
        [("of-file", &[][..], &config[..]), ("of-variable", &variables, &config), ("of-flag", &variables, &flags)]
    {
        let base_path = folder.path().join(id).join("base");
        std::fs::create_dir(folder.path().join(id))?;
        let mut daemon = Daemon::spawn_in(variables, arguments, &base_path)?;
        daemon.ready()?;
        assert!(daemon.stop("TERM")?.success());
        let log = std::fs::read_to_string(log_of(&base_path))?;
        let events: Vec<Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        assert!(events.iter().any(|event| event["message"] == "rustorium starts" && event["chain"] == id), "{log}");
    }
    let base_path = folder.path().join("refused");
    std::fs::write(&file, "dev = true\nrpc-prot = 1\n")?;
    for (variables, arguments, message) in [
        (&[][..], &config[..], "node.toml:2: rpc-prot: there is no such setting, did you mean rpc-port?"),
        (
            &[("RUSTORIUM_CHIAN", "dev")],
            &["--dev"],
            "RUSTORIUM_CHIAN: there is no such setting, did you mean RUSTORIUM_CHAIN?",
        ),
        (&[("RUSTORIUM_THREADS", "two")], &["--dev"], "RUSTORIUM_THREADS: \"two\" will not do"),
    ] {
        let daemon = Daemon::spawn_in(variables, arguments, &base_path)?;
        assert_eq!(daemon.ended(REFUSAL_TIMEOUT)?.code(), Some(78), "{message}");
        let told = std::fs::read_to_string(log_of(&base_path))?;
        assert!(told.contains(message), "{told}");
    }
    Ok(())
}

#[test]
fn the_readme_lists_every_metric_and_every_flag() {
    let readme = include_str!("../../../README.md");
    for name in rustorium_state::metrics::ALL {
        assert!(readme.contains(&format!("| `{name}` |")), "{name}");
    }
    let run = Run::augment_args(clap::Command::new("run"));
    for flag in run.get_arguments().filter_map(|flag| flag.get_long()) {
        assert!(readme.contains(&format!("`--{flag}`")), "--{flag}");
    }
}
