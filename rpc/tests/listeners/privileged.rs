//! The privileged listener: who gets in, what exists where, and what its methods answer.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustorium_rpc::{EngineApiClient as _, client};
use serde_json::{Value, json};

use crate::fixture::{Node, SECRET, hash};
use crate::wire::{Ws, call, error, four_ways, post};

const ENGINE_METHODS: [&str; 3] = ["engine_applyBlock", "engine_finalizeBlock", "engine_getStatus"];

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(secret: &[u8], algorithm: Algorithm, claims: Value) -> String {
    let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret)).unwrap();
    format!("Bearer {token}")
}

fn block(number: u64, own: u8, parent: &str) -> Value {
    json!({ "number": number, "hash": hash(own), "parentHash": parent, "changes": [["0x01", "0x02"]] })
}

#[test]
fn without_a_good_token_it_is_401_over_http_and_websocket() {
    let node = Node::start();
    let good = |claims| token(&SECRET, Algorithm::HS256, claims);
    let refused = [
        ("missing", None),
        ("basic", Some("Basic dXNlcjpwYXNz".into())),
        ("garbage", Some("Bearer garbage".into())),
        ("another secret", Some(token(&[9; 32], Algorithm::HS256, json!({ "iat": now_s() })))),
        ("another algorithm", Some(token(&SECRET, Algorithm::HS512, json!({ "iat": now_s() })))),
        ("no algorithm", Some(format!("Bearer eyJhbGciOiJub25lIn0.{}.", "eyJpYXQiOjE3MDAwMDAwMDB9"))),
        ("no iat", Some(good(json!({})))),
        ("stale", Some(good(json!({ "iat": now_s() - 120 })))),
        ("from the future", Some(good(json!({ "iat": now_s() + 120 })))),
        ("expired", Some(good(json!({ "iat": now_s(), "exp": now_s() - 1 })))),
    ];
    let status = call("engine_getStatus", json!([]));
    for (case, header) in refused {
        let headers: Vec<(&str, &str)> =
            header.iter().map(|value: &String| ("authorization", value.as_str())).collect();
        for body in [status.to_string(), json!([status]).to_string()] {
            let reply = post(node.engine, &headers, body.as_bytes());
            assert_eq!(reply.status, 401, "{case}: {reply:?}");
            assert!(reply.head.contains("www-authenticate: bearer"), "{case}: {reply:?}");
        }
        assert_eq!(Ws::open(node.engine, &headers).err(), Some(401), "{case}");
    }

    let header = good(json!({ "iat": now_s() }));
    for (way, answer) in four_ways(node.engine, &[("authorization", &header)], &status) {
        assert_eq!(answer["result"]["number"], 0, "{way}: {answer}");
    }
}

#[test]
fn privileged_methods_do_not_exist_on_the_public_port() {
    let node = Node::start();
    let header = node.bearer();
    for method in ENGINE_METHODS {
        for headers in [&[][..], &[("authorization", header.as_str())]] {
            assert_eq!(error(node.public, headers, method, json!([]))["code"], -32601, "{method}");
        }
    }
}

#[test]
fn public_methods_do_not_exist_on_the_privileged_port() {
    let node = Node::start();
    let header = node.bearer();
    for method in ["state_getStorage", "chain_getHead", "system_name", "rpc_methods", "dev_submitChanges"] {
        assert_eq!(error(node.engine, &[("authorization", &header)], method, json!([]))["code"], -32601, "{method}");
    }
}

#[test]
fn blocks_are_applied_in_order_and_mistakes_are_named() {
    let node = Node::start();
    let header = node.bearer();
    let headers = [("authorization", header.as_str())];
    let apply = |block: &Value| {
        let answer =
            post(node.engine, &headers, call("engine_applyBlock", json!([block])).to_string().as_bytes()).json();
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    };
    let refused = |block: &Value| error(node.engine, &headers, "engine_applyBlock", json!([block]));

    let genesis = node.genesis_hash();
    let first = block(1, 1, &genesis);
    let applied = apply(&first);
    assert_eq!(applied, apply(&first), "the same block twice");
    assert_eq!(applied.as_object().unwrap().keys().collect::<Vec<_>>(), ["stateRoot"]);

    let mut other = first.clone();
    other["changes"] = json!([["0x01", "0x03"]]);
    let conflict = refused(&other);
    assert_eq!((&conflict["code"], &conflict["data"]), (&json!(4031), &json!({ "got": hash(1) })));

    let orphan = refused(&block(2, 2, &hash(77)));
    assert_eq!((&orphan["code"], &orphan["data"]), (&json!(4001), &json!({ "at": hash(77) })));
    assert!(orphan["message"].as_str().unwrap().starts_with("UnknownBlock: "), "{orphan}");

    let wrong_number = refused(&block(5, 2, &hash(1)));
    assert_eq!(wrong_number["code"], 4030, "{wrong_number}");
    assert!(wrong_number["data"]["expected"].is_string() && wrong_number["data"]["got"].is_string());

    let mut wrong_root = block(2, 2, &hash(1));
    wrong_root["stateRoot"] = json!(hash(8));
    let mismatch = refused(&wrong_root);
    assert_eq!(mismatch["code"], 4032, "{mismatch}");
    assert_eq!(mismatch["data"], json!({ "expected": hash(8), "got": applied["stateRoot"] }));

    let zero = refused(&block(2, 0, &hash(1)));
    assert_eq!(zero["code"], -32602, "{zero}");

    let mut long_key = block(2, 2, &hash(1));
    long_key["changes"] = json!([[format!("0x{}", "00".repeat(1025)), "0x"]]);
    let too_long = refused(&long_key);
    assert_eq!(too_long["code"], 4022, "{too_long}");
    assert_eq!(too_long["data"], json!({ "limit": "keyBytes", "max": 1024, "got": 1025 }));

    let mut large_value = block(2, 2, &hash(1));
    large_value["changes"] = json!([["0x", format!("0x{}00", "00".repeat(16 << 20))]]);
    let answer = post(node.engine, &headers, call("engine_applyBlock", json!([large_value])).to_string().as_bytes());
    assert_eq!(answer.json()["error"]["code"], 4021);
    assert_eq!(
        answer.json()["error"]["data"],
        json!({ "limit": "valueBytes", "max": 16 << 20, "got": (16 << 20) + 1 })
    );

    let mut unknown_field = block(2, 2, &hash(1));
    unknown_field["timestamp"] = json!(1);
    let typo = refused(&unknown_field);
    assert_eq!(typo["code"], -32602);
    assert!(typo["data"].as_str().unwrap().contains("unknown field `timestamp`"), "{typo}");

    let status = four_ways(node.engine, &headers, &call("engine_getStatus", json!([])));
    let head = json!({ "number": 1, "hash": hash(1), "parentHash": genesis, "stateRoot": applied["stateRoot"] });
    for (way, answer) in status {
        let result = &answer["result"];
        for field in ["number", "hash", "parentHash", "stateRoot"] {
            assert_eq!(result[field], head[field], "{way}");
        }
        assert_eq!(result["finalized"], head, "{way}");
        assert_eq!(result["genesisHash"], genesis, "{way}");
    }
}

#[test]
fn finalising_names_unknown_blocks() {
    let node = Node::start();
    let header = node.bearer();
    let headers = [("authorization", header.as_str())];
    let unknown = error(node.engine, &headers, "engine_finalizeBlock", json!([hash(5)]));
    assert_eq!((&unknown["code"], &unknown["data"]), (&json!(4001), &json!({ "at": hash(5) })));
}

#[test]
fn the_client_signs_every_request() {
    let node = Node::start();
    let engine = client::engine(&format!("http://{}", node.engine), node.secret()).unwrap();
    node.runtime.block_on(async {
        for _ in 0..2 {
            assert_eq!(engine.status().await.unwrap().head.number, 0);
        }
    });
}
