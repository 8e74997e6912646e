use std::fs;
use std::path::Path;

use super::*;
use crate::cli::{Cli, LogFormat};

/// What a command line, variables and the text of a file come to.
fn gathered(line: &str, variables: &[(&str, &str)], file: Option<&str>) -> Result<Run, String> {
    let folder = tempfile::tempdir().unwrap();
    let mut line: Vec<String> = line.split(' ').map(str::to_owned).collect();
    if let Some(text) = file {
        let path = folder.path().join("node.toml");
        fs::write(&path, text).unwrap();
        line.extend(["--config".to_owned(), path.to_str().unwrap().to_owned()]);
    }
    gather(&Cli::parse(line).unwrap().flags, &environment(variables)).map_err(|error| {
        assert_eq!(Exit::of(&error), Exit::Config, "{error}");
        error.to_string().replace(&format!("{}/", folder.path().display()), "")
    })
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    let settings = variables.iter().map(|(name, text)| ((*name).to_owned(), text.into())).collect();
    Environment { settings, ..Environment::default() }
}

#[test]
fn a_flag_wins_over_a_variable_and_that_over_the_file() {
    let file = Some("rpc-port = 1\nengine-port = 1\ncache-mib = 1\ndev = true\nlog-format = \"json\"");
    let variables = [("RUSTORIUM_RPC_PORT", "2"), ("RUSTORIUM_ENGINE_PORT", "2"), ("RUSTORIUM_DEV", "false")];
    for line in ["rustorium run --rpc-port 3", "rustorium --rpc-port 3"] {
        let run = gathered(line, &variables, file).unwrap();
        assert_eq!((run.rpc_port, run.engine_port, run.cache_mib), (Some(3), Some(2), Some(1)));
        assert_eq!((run.dev, run.log_format, run.metrics_port), (Some(false), Some(LogFormat::Json), None));
    }
    // A flag can take back what the file sets.
    let run = gathered("rustorium --dev=false --rpc-addr ::1", &[], file).unwrap();
    assert_eq!((run.dev, run.rpc_addr), (Some(false), Some("::1".parse().unwrap())));
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    fs::write(&path, "rpc-port = 5").unwrap();
    let variables = [("RUSTORIUM_CONFIG", path.to_str().unwrap())];
    assert_eq!(gathered("rustorium", &variables, None).unwrap().rpc_port, Some(5));
    // The flag names another.
    let run = gathered("rustorium", &variables, Some("rpc-port = 6")).unwrap();
    assert_eq!(run.rpc_port, Some(6));
}

#[test]
fn every_flag_is_a_variable_and_a_key() {
    let text = |flag: &str| match flag {
        "dev" | "allow-rollback" => "true",
        "rpc-addr" => "127.0.0.2",
        "durability" => "buffered",
        "log-format" => "json",
        _ => "9",
    };
    let quoted = ["chain", "base-path", "rpc-addr", "durability", "log-format"];
    for flag in flags().get_arguments().filter_map(|flag| flag.get_long()).filter(|flag| *flag != "config") {
        let run = gathered("rustorium", &[(&variable(flag), text(flag))], None).unwrap();
        assert_ne!(format!("{run:?}"), format!("{:?}", Run::default()), "{flag}");
        let value = if quoted.contains(&flag) { format!("{:?}", text(flag)) } else { text(flag).to_owned() };
        let from_file = gathered("rustorium", &[], Some(&format!("{flag} = {value}"))).unwrap();
        assert_eq!(format!("{:?}", Run { config: None, ..from_file }), format!("{run:?}"), "{flag}");
    }
}

#[test]
fn what_is_no_setting_is_refused_with_the_nearest() {
    for (variable, message) in [
        ("RUSTORIUM_RPC_PROT", "RUSTORIUM_RPC_PROT: there is no such setting, did you mean RUSTORIUM_RPC_PORT?"),
        ("RUSTORIUM_BASEPATH", "RUSTORIUM_BASEPATH: there is no such setting, did you mean RUSTORIUM_BASE_PATH?"),
        ("RUSTORIUM_QQQ", "RUSTORIUM_QQQ: there is no such setting"),
        ("RUSTORIUM_HELP", "RUSTORIUM_HELP: there is no such setting"),
        ("RUSTORIUM_", "RUSTORIUM_: there is no such setting"),
    ] {
        assert_eq!(gathered("rustorium", &[(variable, "1")], None).unwrap_err(), message);
    }
    for (text, message) in [
        ("\n\nmetric-port = 1", "node.toml:3: metric-port: there is no such setting, did you mean metrics-port?"),
        ("RPC-PORT = 1", "node.toml:1: RPC-PORT: there is no such setting"),
        ("rpc_port = 1", "node.toml:1: rpc_port: there is no such setting, did you mean rpc-port?"),
        ("[rpc-prot]\na = 1", "node.toml:1: rpc-prot: there is no such setting, did you mean rpc-port?"),
        ("\"a\\u001B=\" = 1", "node.toml:1: a\\u{1b}=: there is no such setting"),
        ("config = \"other.toml\"", "node.toml:1: config: a file cannot name another"),
    ] {
        assert_eq!(gathered("rustorium", &[], Some(text)).unwrap_err(), message);
    }
}

#[test]
fn a_wrong_value_is_named_with_its_place() {
    for (text, message) in [
        ("dev = true\nrpc-port = 65536", "node.toml:2: rpc-port: \"65536\" will not do: 65536 is not in 0..=65535"),
        ("rpc-port = \"many\"", "node.toml:1: rpc-port: \"many\" will not do: invalid digit found in string"),
        ("rpc-port = \"9644\"", "node.toml:1: rpc-port: \"9644\" is a text, leave the quotes out"),
        ("dev = \"true\"", "node.toml:1: dev: \"true\" is a text, leave the quotes out"),
        ("dev = 1", "node.toml:1: dev: \"1\" is none of true, false"),
        ("base-path = 5", "node.toml:1: base-path: \"5\" is no text, put it in quotes"),
        ("rpc-port = [1]", "node.toml:1: rpc-port: a setting is one text, whole number, true or false"),
        ("rpc-port = 1.5", "node.toml:1: rpc-port: a setting is one text, whole number, true or false"),
        ("rpc-port = -1", "node.toml:1: rpc-port: \"-1\" will not do: -1 is not in 0..=65535"),
        ("window-bits = 13", "node.toml:1: window-bits: \"13\" will not do: give a number from 4 to 12"),
        ("durability = \"none\"", "node.toml:1: durability: \"none\" is none of synced, buffered"),
    ] {
        assert_eq!(gathered("rustorium --rpc-port 1", &[], Some(text)).unwrap_err(), message);
    }
    assert_eq!(gathered("rustorium", &[], Some("rpc-port = 0x10")).unwrap().rpc_port, Some(16));
    for text in ["rpc-port 1", "rpc-port = 1\nrpc-port = 2", "rpc-port = 99999999999999999999"] {
        let error = gathered("rustorium", &[], Some(text)).unwrap_err();
        assert!(error.starts_with("node.toml:"), "{error}");
    }
    let variables = [("RUSTORIUM_THREADS", "0")];
    let error = gathered("rustorium --threads 1", &variables, None).unwrap_err();
    assert!(error.starts_with("RUSTORIUM_THREADS: \"0\" will not do: "), "{error}");
}

#[test]
fn what_is_not_meant_for_a_node_is_left_alone() {
    let variables = [("RUSTORIUM_SEED", "1"), ("RUSTORIUM_TEST_X", "1"), ("RUSTORIUM_RPC_PORT", ""), ("HOME", "/")];
    assert_eq!(gathered("rustorium", &variables, None).unwrap().rpc_port, None);
}

#[test]
fn a_file_that_is_none_is_named() {
    for (path, exit) in [("/nowhere/node.toml", Exit::NoInput), ("/", Exit::NoInput), ("/dev/zero", Exit::Config)] {
        let flags = Cli::parse(["rustorium", "--config", path]).unwrap().flags;
        let error = gather(&flags, &Environment::default()).unwrap_err();
        assert_eq!(Exit::of(&error), exit, "{error}");
        assert!(error.to_string().contains(path) && Path::new(path).is_absolute(), "{error}");
    }
}
