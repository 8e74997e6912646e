//! The public methods: shapes, forms and errors.

use rustorium_verkle::{Claim, StateRoot, Witness};
use serde_json::{Value, json};

use crate::fixture::{Node, hash};
use crate::wire::{Ws, call, error, four_ways, post, request, result};

const KEY: &str = "0x6b6579";
const VALUE: &str = "0x76616c7565";
const EMPTY: &str = "0x656d707479";
const ABSENT: &str = "0x616273656e74";

/// A node whose first block holds [`KEY`] and [`EMPTY`].
fn node() -> Node {
    let node = Node::start_dev();
    result(node.public, "dev_submitChanges", json!([[[KEY, VALUE], [EMPTY, "0x"], ["0x00", "0x01"], ["0x00", null]]]));
    node
}

#[test]
fn values_are_read_at_a_block() {
    let node = node();
    let head = result(node.public, "chain_getHead", json!([]));
    for at in [json!([]), json!([null]), json!(["head"]), json!(["finalized"]), json!([head["hash"]])] {
        let read = |method: &str, key: &str| {
            let mut params = vec![json!(key)];
            params.extend(at.as_array().unwrap().iter().cloned());
            result(node.public, method, json!(params))
        };
        assert_eq!(read("state_getStorage", KEY), VALUE, "{at}");
        assert_eq!(read("state_getStorage", EMPTY), "0x", "{at}");
        assert_eq!(read("state_getStorage", ABSENT), Value::Null, "{at}");
        assert_eq!(read("state_getStorageSize", KEY), 5, "{at}");
        assert_eq!(read("state_getStorageSize", EMPTY), 0, "{at}");
        assert_eq!(read("state_getStorageSize", ABSENT), Value::Null, "{at}");
        assert_eq!(result(node.public, "state_getStateRoot", at.clone()), head["stateRoot"], "{at}");
    }
    let asked = call("state_getStorage", json!([KEY]));
    for (way, answer) in four_ways(node.public, &[], &asked) {
        assert_eq!(answer, json!({ "jsonrpc": "2.0", "id": 7, "result": VALUE }), "{way}");
    }
}

#[test]
fn keys_come_in_pages() {
    let node = Node::start_dev();
    result(
        node.public,
        "dev_submitChanges",
        json!([[["0x0a", "0x"], ["0x0a00", "0x"], ["0x0aff", "0x"], ["0x0b", "0x"]]]),
    );
    let page = |params| result(node.public, "state_getKeysPaged", params);
    assert_eq!(page(json!(["0x0a", 1000])), json!(["0x0a", "0x0a00", "0x0aff"]));
    assert_eq!(page(json!(["0x0a", 2])), json!(["0x0a", "0x0a00"]));
    assert_eq!(page(json!(["0x0a", 2, "0x0a00", null])), json!(["0x0aff"]));
    assert_eq!(page(json!(["0x0a", 2, null, "head"])), json!(["0x0a", "0x0a00"]));
    assert_eq!(page(json!(["0x0a", 0])), json!([]));
    assert_eq!(page(json!(["0x0a", 1, "0x09"])), json!(["0x0a"]), "a start before the prefix");
    assert_eq!(page(json!(["0x0a", 1, "0x0b"])), json!([]), "a start behind the prefix");
    assert_eq!(page(json!(["0x", 1, "0x0aff"])), json!(["0x0b"]));
    assert_eq!(page(json!([null, 1, "0x0aff"])), json!(["0x0b"]));
}

#[test]
fn what_is_not_kept_is_named_with_what_is() {
    let node = Node::start_without_history();
    node.seal(vec![(b"k".to_vec(), Some(b"v".to_vec()))]);
    node.flush();
    let pruned = error(node.public, &[], "state_getStateRoot", json!([node.genesis_hash()]));
    assert_eq!((&pruned["code"], &pruned["data"]), (&json!(4002), &json!({ "oldest": 1 })));
    let retention = result(node.public, "chain_getRetention", json!([]));
    assert_eq!(retention, json!({"oldestValue": 1, "oldestWitness": 1, "finalized": 1, "head": 1}));
    let head = result(node.public, "chain_getHead", json!([]));
    let diff = error(node.public, &[], "state_getDiff", json!([head["hash"]]));
    assert_eq!((&diff["code"], &diff["data"]), (&json!(4002), &json!({ "oldest": 2 })));
}

#[test]
fn the_past_can_be_asked_for() {
    let node = Node::start();
    let hex = |text: &[u8]| const_hex::encode_prefixed(text);
    let put = |key: &[u8], value: &[u8]| (key.to_vec(), Some(value.to_vec()));
    node.seal(vec![put(b"a", b"1"), put(b"b", b"1")]);
    node.seal(vec![put(b"a", b"2")]);
    node.flush();
    node.seal(vec![(b"a".to_vec(), None)]);
    let hashes = result(node.public, "chain_getBlockHash", json!([[0, 1, 2, 3]]));
    let value = |at: &Value| result(node.public, "state_getStorage", json!([hex(b"a"), at]));
    let values: Vec<Value> = hashes.as_array().unwrap().iter().map(value).collect();
    assert_eq!(values, [json!(null), json!(hex(b"1")), json!(hex(b"2")), json!(null)]);
    let bundle = result(node.public, "state_getWitness", json!([[hex(b"a"), hex(b"c")], hashes[1]]));
    assert_eq!((&bundle["blockNumber"], &bundle["claims"][0][1]), (&json!(1), &json!(hex(b"1"))));
    let check = json!({"stateRoot": bundle["stateRoot"], "claims": bundle["claims"], "witness": bundle["witness"]});
    assert_eq!(result(node.public, "state_verifyWitness", json!([check])), json!(true));

    let entry = |number: usize, old: Value, new: Value| json!({"number": number, "hash": hashes[number], "old": old, "new": new});
    let all = [
        entry(1, json!(null), json!(hex(b"1"))),
        entry(2, json!(hex(b"1")), json!(hex(b"2"))),
        entry(3, json!(hex(b"2")), json!(null)),
    ];
    let history = |query: Value| result(node.public, "state_getHistory", json!([hex(b"a"), query]));
    assert_eq!(history(json!(null)), json!({"entries": all, "next": null}));
    assert_eq!(history(json!({"limit": 2})), json!({"entries": all[..2], "next": 3}));
    assert_eq!(history(json!({"limit": 2, "cursor": 3})), json!({"entries": all[2..], "next": null}));
    assert_eq!(history(json!({"from": 2, "to": 2})), json!({"entries": all[1..2], "next": null}));
    assert_eq!(history(json!({"from": 4})), json!({"entries": [], "next": null}));
    let too_many = error(node.public, &[], "state_getHistory", json!([hex(b"a"), {"limit": 1001}]));
    assert_eq!(
        (&too_many["code"], &too_many["data"]),
        (&json!(4020), &json!({"limit": "limit", "max": 1000, "got": 1001}))
    );
    assert_eq!(error(node.public, &[], "state_getHistory", json!([hex(b"a"), {"limit": 0}]))["code"], -32602);
    assert_eq!(error(node.public, &[], "state_getHistory", json!([hex(b"a"), {"form": 0}]))["code"], -32602);

    for (number, changes) in [
        (1, json!([[hex(b"a"), null, hex(b"1")], [hex(b"b"), null, hex(b"1")]])),
        (2, json!([[hex(b"a"), hex(b"1"), hex(b"2")]])),
        (3, json!([[hex(b"a"), hex(b"2"), null]])),
    ] {
        let diff =
            json!({"number": number, "hash": hashes[number], "parentHash": hashes[number - 1], "changes": changes});
        assert_eq!(result(node.public, "state_getDiff", json!([hashes[number]])), diff);
    }
    let unknown = error(node.public, &[], "state_getDiff", json!([hash(9)]));
    assert_eq!((&unknown["code"], &unknown["data"]), (&json!(4001), &json!({ "at": hash(9) })));
    let retention = result(node.public, "chain_getRetention", json!([]));
    assert_eq!(retention, json!({"oldestValue": 0, "oldestWitness": 0, "finalized": 3, "head": 3}));
}

#[test]
fn a_block_is_named_by_hash_or_by_one_of_three_names() {
    let node = node();
    let unknown = error(node.public, &[], "state_getStorage", json!([KEY, hash(9)]));
    assert_eq!((&unknown["code"], &unknown["data"]), (&json!(4001), &json!({ "at": hash(9) })));
    let certified = error(node.public, &[], "state_getWitness", json!([[KEY], "certified"]));
    assert_eq!((&certified["code"], &certified["data"]), (&json!(4001), &json!({ "at": "certified" })));
    for wrong in [json!("latest"), json!("0x00"), json!(1), json!({})] {
        let error = error(node.public, &[], "state_getStateRoot", json!([wrong]));
        assert_eq!(error["code"], -32602, "{wrong}");
        assert!(error["data"].as_str().unwrap().contains("\"certified\""), "{error}");
    }
}

#[test]
fn wrong_hex_is_named() {
    let node = node();
    for (wrong, why) in [("6b", "begin with 0x"), ("0x6", "odd number"), ("0x6g", "position 1")] {
        let error = error(node.public, &[], "state_getStorage", json!([wrong]));
        assert_eq!(error["code"], -32602, "{wrong}");
        assert!(error["data"].as_str().unwrap().contains(why), "{error}");
    }
}

#[test]
fn a_witness_is_checked_by_whoever_asked() {
    let node = node();
    let head = result(node.public, "chain_getHead", json!([]));
    let bundle = result(node.public, "state_getWitness", json!([[KEY, ABSENT, EMPTY, KEY]]));
    let claims = json!([[KEY, VALUE], [ABSENT, null], [EMPTY, "0x"]]);
    assert_eq!(bundle["claims"], claims);
    assert_eq!(bundle["blockHash"], head["hash"]);
    assert_eq!(bundle["blockNumber"], 1);
    assert_eq!(bundle["stateRoot"], head["stateRoot"]);
    assert!(bundle.as_object().unwrap().contains_key("certificate") && bundle["certificate"].is_null());
    assert_eq!(bundle.as_object().unwrap().len(), 6);

    let bytes = |value: &Value| const_hex::decode(value.as_str().unwrap()).unwrap();
    let root = StateRoot(bytes(&head["stateRoot"]).try_into().unwrap());
    let ours = [Claim::value(b"key", b"value"), Claim::absent(b"absent"), Claim::value(b"empty", b"")];
    Witness::decode(&bytes(&bundle["witness"])).unwrap().verify(&root, &ours).unwrap();

    let check = json!({ "stateRoot": head["stateRoot"], "claims": claims, "witness": bundle["witness"] });
    for (way, answer) in four_ways(node.public, &[], &call("state_verifyWitness", json!([check]))) {
        assert_eq!(answer["result"], true, "{way}: {answer}");
    }
    let refused = |field: &str, value: Value, rule: &str| {
        let mut forged = check.clone();
        forged[field] = value;
        let error = error(node.public, &[], "state_verifyWitness", json!([forged]));
        assert_eq!((&error["code"], &error["data"]), (&json!(4010), &json!({ "rule": rule })), "{error}");
        assert!(error["message"].as_str().unwrap().starts_with("InvalidWitness: "), "{error}");
    };
    refused("stateRoot", json!(hash(1)), "stateRoot");
    refused("witness", json!("0x01"), "decode");
    refused("claims", json!([[KEY, VALUE], [ABSENT, null]]), "count");
    refused("claims", json!([]), "count");
    refused("claims", json!([[KEY, VALUE], [ABSENT, VALUE], [EMPTY, "0x"]]), "terminal");
    refused("claims", json!([[KEY, "0x00"], [ABSENT, null], [EMPTY, "0x"]]), "multiproof");

    let none = error(node.public, &[], "state_getWitness", json!([[]]));
    assert_eq!(none["code"], -32602, "{none}");
}

#[test]
fn an_update_witness_leads_to_the_root_after() {
    let node = node();
    let head = result(node.public, "chain_getHead", json!([]));
    let changes = json!([[KEY, null], [ABSENT, "0x01"]]);
    let bundle = result(
        node.public,
        "state_getUpdateWitness",
        json!([{ "reads": [EMPTY, KEY], "changes": changes, "at": head["hash"] }]),
    );
    let claims = json!([[EMPTY, "0x"], [KEY, VALUE], [ABSENT, null]]);
    assert_eq!(bundle["claims"], claims);
    assert_eq!((&bundle["blockHash"], &bundle["blockNumber"]), (&head["hash"], &json!(1)));
    assert_eq!(bundle["stateRoot"], head["stateRoot"]);
    assert!(bundle.as_object().unwrap().contains_key("certificate") && bundle["certificate"].is_null());
    assert_eq!(bundle.as_object().unwrap().len(), 6);

    let check = json!({
        "stateRoot": head["stateRoot"], "claims": claims, "changes": changes, "witness": bundle["witness"],
    });
    let sealed = result(node.public, "dev_submitChanges", json!([changes]));
    for (way, answer) in four_ways(node.public, &[], &call("state_verifyUpdateWitness", json!([check]))) {
        assert_eq!(answer["result"], json!({ "stateRootAfter": sealed["stateRoot"] }), "{way}: {answer}");
    }
    let refused = |field: &str, value: Value, rule: &str| {
        let mut forged = check.clone();
        forged[field] = value;
        let error = error(node.public, &[], "state_verifyUpdateWitness", json!([forged]));
        assert_eq!((&error["code"], &error["data"]), (&json!(4010), &json!({ "rule": rule })), "{error}");
    };
    refused("witness", result(node.public, "state_getWitness", json!([[KEY]]))["witness"].clone(), "decode");
    refused("changes", json!([[KEY, null], [KEY, null]]), "change");
    refused("changes", json!([["0x07", null]]), "change");
    refused("stateRoot", json!(hash(1)), "stateRoot");
    refused("claims", json!([[KEY, VALUE], [ABSENT, null]]), "count");
    refused("claims", json!([[EMPTY, "0x"], [KEY, "0x00"], [ABSENT, null]]), "multiproof");
    // Of another block over the same keys, its root.
    let mut idle = check.clone();
    idle["changes"] = json!([]);
    let same = result(node.public, "state_verifyUpdateWitness", json!([idle]));
    assert_eq!(same["stateRootAfter"], head["stateRoot"]);

    for (question, why) in [
        (json!({ "reads": [], "changes": [] }), "at least one key"),
        (json!({ "reads": [], "changes": [[KEY, null], [KEY, "0x"]] }), "changed twice"),
        (json!({ "reads": [KEY] }), "changes"),
        (json!({ "reads": [], "changes": [[KEY, null]], "block": null }), "block"),
    ] {
        let error = error(node.public, &[], "state_getUpdateWitness", json!([question]));
        assert_eq!(error["code"], -32602, "{error}");
        assert!(error["data"].as_str().unwrap().contains(why), "{error}");
    }
    let reads: Vec<String> = (0..1024u16).map(|i| const_hex::encode_prefixed(i.to_be_bytes())).collect();
    let many = json!([{ "reads": reads, "changes": [[KEY, null]] }]);
    let error = error(node.public, &[], "state_getUpdateWitness", many);
    assert_eq!(error["data"], json!({ "limit": "keys", "max": 1024, "got": 1025 }));
}

#[test]
fn query_storage_at_has_the_shape_of_substrate() {
    let node = node();
    let head = result(node.public, "chain_getHead", json!([]));
    let answer = result(node.public, "state_queryStorageAt", json!([[ABSENT, KEY, EMPTY]]));
    assert_eq!(answer, json!([{ "block": head["hash"], "changes": [[ABSENT, null], [KEY, VALUE], [EMPTY, "0x"]] }]));
    assert_eq!(result(node.public, "state_queryStorageAt", json!([[], head["hash"]]))[0]["changes"], json!([]));
}

#[test]
fn headers_and_hashes() {
    let node = node();
    let (genesis, head) = (node.genesis_hash(), result(node.public, "chain_getHead", json!([])));
    assert_eq!(head["number"], 1);
    assert_eq!(head["parentHash"], genesis);
    assert_eq!(head.as_object().unwrap().len(), 4);

    let header = json!({
        "number": "0x1", "parentHash": genesis, "stateRoot": head["stateRoot"],
        "extrinsicsRoot": hash(0), "digest": { "logs": [] },
    });
    for params in [json!([]), json!([null]), json!([head["hash"]])] {
        assert_eq!(result(node.public, "chain_getHeader", params), header);
    }
    assert_eq!(result(node.public, "chain_getHeader", json!([genesis]))["number"], "0x0");
    assert_eq!(result(node.public, "chain_getHeader", json!([hash(9)])), Value::Null);

    for (params, expected) in [
        (json!([]), head["hash"].clone()),
        (json!([null]), head["hash"].clone()),
        (json!([0]), json!(genesis)),
        (json!(["0x0"]), json!(genesis)),
        (json!(["0x01"]), head["hash"].clone()),
        (json!([2]), Value::Null),
        (json!([u64::MAX]), Value::Null),
        (json!([[0, "0x1", 2]]), json!([genesis, head["hash"], null])),
        (json!([[]]), json!([])),
    ] {
        assert_eq!(result(node.public, "chain_getBlockHash", params.clone()), expected, "{params}");
    }
    assert_eq!(error(node.public, &[], "chain_getBlockHash", json!([-1]))["code"], -32602);
    assert_eq!(result(node.public, "chain_getFinalizedHead", json!([])), head["hash"]);
}

#[test]
fn the_node_says_who_it_is() {
    let node = node();
    let say = |method: &str| result(node.public, method, json!([]));
    assert_eq!(say("system_name"), "Rustorium");
    assert_eq!(say("system_version"), "0.0.0-test");
    assert_eq!(say("system_chain"), node.spec.name());
    assert_eq!(say("system_chainType"), json!(node.spec.chain_type()));
    assert_eq!(say("system_properties"), json!(node.spec.properties()));
    assert_eq!(say("system_health"), json!({ "peers": 0, "isSyncing": false, "shouldHavePeers": false }));
    assert_eq!(say("system_peers"), json!([]));
}

#[test]
fn dev_methods_exist_on_a_development_node_only() {
    let development = node();
    let sealed = result(development.public, "dev_submitChanges", json!([[[KEY, null]]]));
    assert_eq!(sealed["number"], 2);
    assert_eq!(sealed["hash"], result(development.public, "chain_getHead", json!([]))["hash"]);
    assert_eq!(sealed.as_object().unwrap().len(), 3);
    assert_eq!(result(development.public, "state_getStorage", json!([KEY])), Value::Null);

    let other = Node::start();
    assert_eq!(error(other.public, &[], "dev_submitChanges", json!([[[KEY, null]]]))["code"], -32601);
}

#[test]
fn foreign_names_and_pages_stay_outside_over_http_and_websocket() {
    let node = node();
    let body = call("chain_getHead", json!([])).to_string();
    for headers in [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "null")] {
        assert_eq!(post(node.public, &[headers], body.as_bytes()).status, 403, "{headers:?}");
        assert_eq!(Ws::open(node.public, &[headers]).err(), Some(403), "{headers:?}");
    }
    let page = ("origin", "http://localhost:3000");
    let answer = post(node.public, &[page], body.as_bytes());
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("access-control-allow-origin: http://localhost:3000"), "{answer:?}");
    assert!(Ws::open(node.public, &[page]).is_ok());
    let preflight = request(node.public, "OPTIONS", &[page, ("access-control-request-method", "POST")], b"");
    assert_eq!(preflight.status, 204);
    assert!(preflight.head.contains("access-control-allow-headers: content-type"), "{preflight:?}");
    let elsewhere = request(node.public, "OPTIONS", &[("origin", "https://evil.example")], b"");
    assert_eq!(elsewhere.status, 403);
}
