//! Every bound: met in all ways in which it can be met.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use rustorium_rpc::Limits;
use serde_json::{Value, json};

use crate::fixture::Node;
use crate::wire::{Ws, call, connect, error, four_ways, post, result};

fn hex(byte: u8, length: usize) -> String {
    const_hex::encode_prefixed(vec![byte; length])
}

#[test]
fn requests_have_a_size() {
    let node = Node::start();
    let padded = |length: usize| {
        let body = call("chain_getHead", json!([])).to_string();
        let padding = length - body.len();
        body + &" ".repeat(padding)
    };
    let max = Limits::PUBLIC.request_bytes_max as usize;
    assert_eq!(post(node.public, &[], padded(max).as_bytes()).status, 200);
    let refused = post(node.public, &[], padded(max + 1).as_bytes());
    assert_eq!(refused.status, 413);
    assert_eq!(refused.json()["error"]["code"], -32007);

    let mut ws = Ws::open(node.public, &[]).unwrap();
    assert_eq!(ws.ask(&padded(max))["result"]["number"], 0);
    assert_eq!(ws.ask(&padded(max + 1))["error"]["code"], -32007);
}

#[test]
fn batches_have_a_length() {
    let node = Node::start();
    let batch = |length| json!(vec![call("chain_getHead", json!([])); length]).to_string();
    let mut ws = Ws::open(node.public, &[]).unwrap();
    for answer in [post(node.public, &[], batch(50).as_bytes()).json(), ws.ask(&batch(50))] {
        assert_eq!(answer.as_array().map(Vec::len), Some(50));
    }
    for answer in [post(node.public, &[], batch(51).as_bytes()).json(), ws.ask(&batch(51))] {
        assert_eq!(answer["error"]["code"], -32010);
    }
}

#[test]
fn answers_have_a_size() {
    let node = Node::start_dev_with(Limits { response_bytes_max: 4096, ..Limits::PUBLIC });
    result(node.public, "dev_submitChanges", json!([[["0x01", hex(7, 4096)]]]));
    let answers = four_ways(node.public, &[], &call("state_getStorageSize", json!(["0x01"])));
    assert!(answers.iter().all(|(_, answer)| answer["result"] == 4096));
    assert_eq!(error(node.public, &[], "state_getStorage", json!(["0x01"]))["code"], -32008);
}

#[test]
fn connections_have_a_number() {
    let node = Node::start_with(Limits { connections_max: 3, ..Limits::PUBLIC });
    let body = call("chain_getHead", json!([])).to_string();
    let mut open: Vec<Ws> = (0..2).map(|_| Ws::open(node.public, &[]).unwrap()).collect();
    // The third place is for HTTP requests, one at a time.
    assert_eq!(post(node.public, &[], body.as_bytes()).status, 200);
    open.push(Ws::open(node.public, &[]).unwrap());
    assert_eq!(Ws::open(node.public, &[]).err(), Some(429));
    assert_eq!(post(node.public, &[], body.as_bytes()).status, 429);
    for ws in &mut open {
        assert_eq!(ws.ask(&body)["result"]["number"], 0);
    }
}

#[test]
fn one_connection_more_than_a_hundred_is_too_many() {
    let node = Node::start();
    let open: Vec<Ws> = (0..100).map(|_| Ws::open(node.public, &[]).unwrap()).collect();
    assert_eq!(Ws::open(node.public, &[]).err(), Some(429));
    drop(open);
}

#[test]
fn keys_and_pages_have_a_number_and_a_length() {
    let node = Node::start();
    let keys = |count: usize| (0..count).map(|key| format!("{:#06x}", key)).collect::<Vec<_>>();
    let limit = |limit: &str, max: u64, got: u64| json!({ "limit": limit, "max": max, "got": got });

    for method in ["state_getWitness", "state_queryStorageAt"] {
        let answer = post(node.public, &[], call(method, json!([keys(1024)])).to_string().as_bytes()).json();
        assert!(answer.get("error").is_none(), "{method}");
        let refused = error(node.public, &[], method, json!([keys(1025)]));
        assert_eq!((&refused["code"], &refused["data"]), (&json!(4020), &limit("keys", 1024, 1025)), "{method}");
        let long = error(node.public, &[], method, json!([[hex(1, 1025)]]));
        assert_eq!((&long["code"], &long["data"]), (&json!(4022), &limit("keyBytes", 1024, 1025)), "{method}");
    }
    let claims: Vec<Value> = keys(1025).into_iter().map(|key| json!([key, null])).collect();
    let check = json!({ "stateRoot": hex(0, 32), "claims": claims, "witness": "0x" });
    let refused = error(node.public, &[], "state_verifyWitness", json!([check]));
    assert_eq!((&refused["code"], &refused["data"]), (&json!(4020), &limit("claims", 1024, 1025)));

    assert_eq!(result(node.public, "state_getKeysPaged", json!(["0xff", 1000])), json!([]));
    let refused = error(node.public, &[], "state_getKeysPaged", json!(["0x", 1001]));
    assert_eq!((&refused["code"], &refused["data"]), (&json!(4020), &limit("count", 1000, 1001)));
    let refused = error(node.public, &[], "chain_getBlockHash", json!([vec![0; 1001]]));
    assert_eq!((&refused["code"], &refused["data"]), (&json!(4020), &limit("numbers", 1000, 1001)));
    for (method, params) in [
        ("state_getStorage", json!([hex(1, 1025)])),
        ("state_getStorageSize", json!([hex(1, 1025)])),
        ("state_getKeysPaged", json!([hex(1, 1025), 1])),
        ("state_getKeysPaged", json!(["0x", 1, hex(1, 1025)])),
    ] {
        assert_eq!(error(node.public, &[], method, params)["code"], 4022, "{method}");
    }
    assert_eq!(result(node.public, "state_getStorage", json!([hex(1, 1024)])), Value::Null);
}

#[test]
fn values_have_a_sum_that_is_judged_before_they_are_loaded() {
    let node = Node::start();
    let size = 9 << 20;
    node.seal(vec![
        (b"a".to_vec(), Some(vec![1; size])),
        (b"b".to_vec(), Some(vec![2; size])),
        (b"c".to_vec(), Some(vec![3; size])),
    ]);
    let keys = json!([["0x61", "0x62", "0x63"]]);
    for method in ["state_getWitness", "state_queryStorageAt"] {
        let refused = error(node.public, &[], method, keys.clone());
        let data = json!({ "limit": "valuesBytes", "max": 24 << 20, "got": 3 * size });
        assert_eq!((&refused["code"], &refused["data"]), (&json!(4020), &data), "{method}");
    }
    // A value twice is one value.
    let twice = result(node.public, "state_queryStorageAt", json!([["0x61", "0x62", "0x61"]]));
    assert_eq!(twice[0]["changes"].as_array().map(Vec::len), Some(2));
}

#[test]
fn requests_in_flight_have_a_sum() {
    let node = Node::start_with(Limits { in_flight_bytes_max: 64 << 10, ..Limits::PUBLIC });
    let small = call("chain_getHead", json!([])).to_string();
    let large = call("state_queryStorageAt", json!([[hex(0, 1024)], "x".repeat(64 << 10)])).to_string();
    assert_eq!(post(node.public, &[], small.as_bytes()).status, 200);

    let refused = post(node.public, &[], large.as_bytes());
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
    let busy = refused.json()["error"].clone();
    assert_eq!((&busy["code"], &busy["data"]), (&json!(4040), &json!({ "retryMs": 250 })));

    // A chunked body names no length, so it counts as the largest that is allowed.
    let mut stream = connect(node.public);
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{small}\r\n0\r\n\r\n",
        node.public,
        small.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");

    let mut ws = Ws::open(node.public, &[]).unwrap();
    assert_eq!(ws.ask(&small)["result"]["number"], 0);
    let busy = ws.ask(&large);
    assert_eq!((&busy["id"], &busy["error"]["code"]), (&json!(7), &json!(4040)));
    let busy = ws.ask(&format!("[{large}]"));
    assert_eq!((&busy["id"], &busy["error"]["code"]), (&Value::Null, &json!(4040)));
    assert_eq!(ws.ask(&small)["result"]["number"], 0);
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let node = Node::start();
    node.seal(vec![(b"a".to_vec(), Some(vec![1; 1 << 20]))]);
    let padding = " ".repeat(256 << 10);
    let question = format!("{}{padding}", call("state_getStorage", json!(["0x61"])));
    let mut ws = Ws::open(node.public, &[]).unwrap();

    // Each question is answered by 2 MiB. Unread answers soon fill what is theirs, then the server stops reading, and
    // then the kernel stops taking our questions. A server that reads on would take them all.
    let questions = 4000;
    ws.0.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let refused = (0..questions).find_map(|asked| ws.send(&question).err().map(|error| (asked, error.kind())));
    let (asked, kind) = refused.expect("the server reads on and on");
    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind:?}");
    assert!(asked >= 1);

    // It goes on as soon as we read, and other connections never noticed.
    assert_eq!(result(node.public, "chain_getHead", json!([]))["number"], 1);
    for _ in 0..asked {
        assert!(ws.receive().expect("an answer to each question").get("result").is_some());
    }
}

#[test]
fn stopping_closes_idle_connections_and_websockets_at_once() {
    let mut node = Node::start();
    let mut idle = connect(node.public);
    let mut ws = Ws::open(node.public, &[]).unwrap();
    assert_eq!(ws.ask(&call("chain_getHead", json!([])).to_string())["result"]["number"], 0);
    let begun = Instant::now();
    node.stop_listeners();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(ws.receive().is_err());
    assert!(matches!(idle.read(&mut [0]), Ok(0) | Err(_)));
    assert!(std::net::TcpStream::connect(node.public).is_err());
}
